package cost_test

import (
	"fmt"
	"os"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// A month of 100 requests a second, from two records.
func ExampleForecast() {
	usage, err := cost.UsageOf(lambdalog.Scan(strings.NewReader(
		"Duration: 47.24 ms Billed Duration: 48 ms Memory Size: 128 MB Max Memory Used: 36 MB\n"+
			"Duration: 91.70 ms Billed Duration: 92 ms Memory Size: 128 MB Max Memory Used: 36 MB\n"), "console"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	book, err := cost.EmbeddedBook()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	perHour := cost.Int(360_000)
	r, err := cost.Forecast(&cost.Scenario{
		Region: "us-east-1", Month: cost.Month30Days, Start: cost.YearMonth{Year: 2026, Month: 12}, Months: 24,
		Traffic: cost.Traffic{RequestsPerHour: &perHour},
		Architectures: []cost.Architecture{{Name: "go", Functions: []cost.Function{
			{Arch: cost.ArchARM, Billed: cost.Billed{Usage: usage}},
		}}},
	}, book)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	a := r.Architectures[0]
	fmt.Println(a.MeanBilledMS, "ms", a.Month1.Format(), a.Total.Format())
	fmt.Println(a.Warnings[0])
	// Output:
	// 70 ms $82.08 $1,969.92
	// too few samples: 2 invocations, at least 100 are needed; use the interval, not the mean
}

// The first paper's figures, and what its own model says without rounding.
func ExampleDurationRatio() {
	monthly, err := cost.ParseUSD("3633")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	r, err := cost.DurationRatio(cost.RatioInput{
		Monthly: monthly, BaselineMS: cost.Int(953), CandidateMS: cost.Int(70), Months: 24, Start: cost.YearMonth{Year: 2024, Month: 12},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Println(r.Method.AsInPaper.BaselineTotal.Format(), r.Method.AsInPaper.CandidateTotal.Format(), r.Method.Exact.CandidateTotal.Format())
	// Output: $87,192.00 $6,102.00 $6,404.45
}
