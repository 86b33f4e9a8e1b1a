package report

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// readDeltas computes deltas of the data set that numpy was run on.
func readDeltas(t *testing.T, method stats.DeltaMethod, policy stats.NegativePolicy) *stats.Deltas {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "small.csv"))
	if err != nil {
		t.Fatal(err)
	}
	c := stats.NewDeltaCollector(method, policy)
	if err := stats.ReadDeltasCSV(bytes.NewReader(data), "small.csv", c); err != nil {
		t.Fatal(err)
	}
	d, err := c.Result()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func deltas(t *testing.T) map[string]*stats.Deltas {
	t.Helper()
	many := stats.NewDeltaCollector(stats.DeltaExact, stats.NegativeKeep)
	for i := range 100_001 {
		many.Add(stats.PairKey{Source: "a", Destination: "b"}, float64(i%1000))
		if i < 1001 {
			many.Add(stats.PairKey{Source: "b", Destination: "a"}, float64(i%10)-3)
		}
	}
	mixed, err := many.Result()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*stats.Deltas{
		"exact": readDeltas(t, stats.DeltaExact, stats.NegativeClamp), "hdr": readDeltas(t, stats.DeltaHDR, stats.NegativeClamp), "mixed": mixed, "empty": {},
	}
}

func TestDeltasGolden(t *testing.T) {
	for name, d := range deltas(t) {
		for f, ext := range formats() {
			t.Run(name+"/"+string(f), func(t *testing.T) {
				checkGolden(t, "deltas-"+name+"."+ext, rendered(t, func(w io.Writer) error { return Deltas(w, f, d) }))
			})
		}
	}
}

// TestDeltasLikeNumpy compares the table with one that a numpy script printed.
func TestDeltasLikeNumpy(t *testing.T) {
	d := readDeltas(t, stats.DeltaExact, stats.NegativeKeep)
	want, err := os.ReadFile(filepath.Join("testdata", "small.expected.md"))
	if err != nil {
		t.Fatal(err)
	}
	got := string(rendered(t, func(w io.Writer) error { return Deltas(w, Markdown, d) }))
	cells := func(line string) []string {
		parts := strings.Split(strings.Trim(line, "|"), "|")
		for i := range parts {
			parts[i] = strings.TrimSuffix(strings.TrimSpace(parts[i]), `\*`)
		}
		return parts
	}
	for line := range strings.Lines(string(want)) {
		w := cells(strings.TrimSpace(line))
		if !strings.HasPrefix(w[0], "D") {
			continue
		}
		found := false
		for line := range strings.Lines(got) {
			g := cells(strings.TrimSpace(line))
			if len(g) != len(w) || g[0] != w[0] {
				continue
			}
			found = true
			for i := 1; i < len(w); i++ {
				// numpy leaves zeros at the end out.
				if _, frac, _ := strings.Cut(w[i], "."); len(frac) == 1 {
					w[i] += "0"
				}
				if g[i] != w[i] {
					t.Errorf("%s, column %d is %s, want %s", w[0], i, g[i], w[i])
				}
			}
		}
		if !found {
			t.Errorf("no row for %s", w[0])
		}
	}
}

func summaries() map[string]*lambdalog.Summary {
	ms := func(f float64) lambdalog.Millis {
		return lambdalog.MillisOf(time.Duration(f * float64(time.Millisecond)))
	}
	return map[string]*lambdalog.Summary{
		"normal": {
			Records: 1508, Reports: 1500, Cold: 14, Billable: 1500,
			BilledMS:      lambdalog.Distribution{Sum: ms(105_000), Mean: ms(70), P50: ms(61), P95: ms(98.5), P99: ms(163.01), Max: ms(870)},
			DurationMS:    lambdalog.Distribution{Sum: ms(93_742.17), Mean: ms(62.494781), P50: ms(60.41), P95: ms(97.9), P99: ms(101.2), Max: ms(170.25)},
			InitMS:        lambdalog.Distribution{Sum: ms(10_600), Mean: ms(757.142857), P50: ms(760.5), P95: ms(790), P99: ms(799.9), Max: ms(801.33)},
			MaxMemoryUsed: 37, Memory: []lambdalog.MemoryCount{{MB: 128, Count: 1500}},
			Statuses: lambdalog.StatusCounts{Success: 1500}, Warnings: []string{},
		},
		"doubtful": {
			Records: 20, Reports: 16, Cold: 1, Billable: 12, Incomplete: 3, Duplicates: 2, Dropped: 400, BadLines: 1, Inconsistent: 1,
			BilledMS:      lambdalog.Distribution{Mean: ms(1234.5678), P50: ms(1000), P95: ms(3000), P99: ms(3000), Max: ms(3000)},
			MaxMemoryUsed: 120, Memory: []lambdalog.MemoryCount{{MB: 128, Count: 10}, {MB: 1024, Count: 6}},
			Statuses: lambdalog.StatusCounts{Success: 10, Error: 2, Timeout: 1, Failure: 2, Other: 1},
			Warnings: []string{"a.log:17: a REPORT line without a duration: \"REPORT \x1b[31m|<script>\"", "a.log: Lambda dropped 400 records"},
		},
		"empty": {},
	}
}

func TestInvocationsGolden(t *testing.T) {
	for name, s := range summaries() {
		for f, ext := range formats() {
			t.Run(name+"/"+string(f), func(t *testing.T) {
				checkGolden(t, "invocations-"+name+"."+ext, rendered(t, func(w io.Writer) error { return Invocations(w, f, s) }))
			})
		}
	}
}

// readForecast reads a forecast that the command printed as JSON.
func readForecast(t *testing.T, name string) *cost.Result {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	fc := new(cost.Result)
	if err := json.Unmarshal(data, fc); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return fc
}

func usd(t *testing.T, s string) cost.USD {
	t.Helper()
	u, err := cost.ParseUSD(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func forecasts(t *testing.T) map[string]*cost.Result {
	t.Helper()
	// Two tiers in one line, prices of different dates, and a candidate that is dearer.
	tiers := readForecast(t, "forecast-two.json")
	line := &tiers.Architectures[0].Lines[1]
	line.AsOf, line.Confidence = "2026-03-01", cost.ConfidenceLow
	line.UsageType = ""
	tiers.Architectures[0].Month1 = usd(t, "79142.76")
	line.Tiers = append(line.Tiers, cost.TierAmount{Quantity: cost.Int(5_000_000_000), Price: usd(t, "0.0000150000"), Amount: usd(t, "75000")})
	c := tiers.Comparison
	c.Baseline, c.Candidate = c.Candidate, c.Baseline
	c.Savings = cost.USD{}.Sub(c.Savings)
	ratio := cost.Int(-9)
	c.SavingsRatio, c.DurationRatio = &ratio, nil
	for range 20 {
		tiers.Warnings = append(tiers.Warnings, "a warning")
	}
	return map[string]*cost.Result{
		"two": readForecast(t, "forecast-two.json"), "one": readForecast(t, "forecast-one.json"),
		"ratio": readForecast(t, "forecast-ratio.json"), "tiers": tiers, "empty": {},
		"demo": readForecast(t, "forecast-demo.json"), "crossing": readForecast(t, "forecast-crossing.json"),
	}
}

func TestForecastGolden(t *testing.T) {
	for name, fc := range forecasts(t) {
		for f, ext := range formats() {
			t.Run(name+"/"+string(f), func(t *testing.T) {
				checkGolden(t, "forecast-"+name+"."+ext, rendered(t, func(w io.Writer) error { return Forecast(w, f, fc) }))
			})
		}
	}
}

// TestForecastSays checks what every forecast must tell.
func TestForecastSays(t *testing.T) {
	for name, wants := range map[string][]string{
		"two": {
			"us-east-1", "5c344e5ab200", "2026-12", "24 months", "Lambda-GB-Second-ARM", "confidence high", "free",
			"too few samples", "from 60 samples", "S3 PUT", "p99.9", "cold storm", "1,000", "saves", "×",
		},
		"demo": {
			"THE NEXT LEVER", "s3 put-copy-post-list", "Lambda is 4.9 %", "half as many requests save $3,120.20", "go-batched saves",
			"WHAT MOVES THE TOTAL", "THROTTLING", "128 MB allocated, at most 38 used", "×3.37", "Requests-Tier1",
		},
		"crossing": {"lambda and pods: 133,303", "ops month", "lambda snapstart-cache", "elb alb-lcu-hour", "ops month as", "Neither the number of requests"},
		"ratio":    {"$43,596.00", "$87,192.00", "$3,051.00", "$6,102.00", "$3,202.22", "$6,404.45", "93 %", "13.6", "request fee"},
	} {
		out := string(rendered(t, func(w io.Writer) error { return Forecast(w, Table, forecasts(t)[name]) }))
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not say %q", name, want)
			}
		}
	}
}
