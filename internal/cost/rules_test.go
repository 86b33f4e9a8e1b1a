package cost_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// However the same usage is spread over functions, the bill of the account is the same: tiers and the free
// tier count over all of them.
func TestSplittingUsageNeverChangesTheBill(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 21))
	b := book(t)
	price := func(s *cost.Scenario) cost.USD {
		r, err := cost.Forecast(s, b)
		if err != nil {
			t.Fatal(err)
		}
		return r.Architectures[0].Total
	}
	reached := make(map[int]bool) // how many tiers the duration fell into
	for range 300 {
		arch := []cost.Arch{cost.ArchX86, cost.ArchARM}[rng.IntN(2)]
		memory := []lambdalog.MB{128, 512, 1024, 10240}[rng.IntN(4)]
		mean := cost.Int(1 + rng.Int64N(3000))
		perHour := cost.Int(1 + rng.Int64N(40_000_000))
		whole := scenario(t, cost.Traffic{RequestsPerHour: &perHour}, cost.Architecture{Name: "a", Functions: []cost.Function{
			{Arch: arch, Memory: memory, Billed: cost.Billed{MeanMS: &mean}},
		}})
		whole.FreeTier, whole.Months = rng.IntN(2) == 0, 1+rng.IntN(3)
		whole.Month = []cost.MonthRule{cost.Month30Days, cost.Month730Hours, cost.MonthCalendar}[rng.IntN(3)]
		whole.Growth = cost.Frac(rng.Int64N(20), 2)
		split := *whole
		split.Architectures = []cost.Architecture{{Name: "a"}}
		left := int64(1000)
		for left > 0 {
			share := min(left, 1+rng.Int64N(600))
			left -= share
			per := cost.Frac(share, 3)
			split.Architectures[0].Functions = append(split.Architectures[0].Functions, cost.Function{
				Arch: arch, Memory: memory, Billed: cost.Billed{MeanMS: &mean}, PerRequest: &per,
			})
		}
		one, many := price(whole), price(&split)
		if d := one.Sub(many).Decimal().Round(12); d.Sign() != 0 {
			t.Fatalf("%d functions cost %s, one costs %s", len(split.Architectures[0].Functions), many, one)
		}
		dimension := map[cost.Arch]string{cost.ArchX86: "duration-x86", cost.ArchARM: "duration-arm"}[arch]
		reached[len(line(t, forecast(t, whole).Architectures[0], dimension).Tiers)] = true
	}
	if !reached[1] || !reached[2] || !reached[3] {
		t.Errorf("the cases reach %v tiers, want 1, 2 and 3: the property is not tested where it matters", reached)
	}
}

// docs/costs.md names a test for every rule; a name that is no test is a broken promise.
func TestRulesAreTested(t *testing.T) {
	doc, err := os.ReadFile("../../docs/costs.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(doc), "## Rules, and the test of each\n")
	if !ok {
		t.Fatal("docs/costs.md has no section of rules")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var source strings.Builder
	for _, pattern := range []string{"*_test.go", "../lambdalog/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(data)
		}
	}
	rows, names := 0, 0
	for row := range strings.SplitSeq(section, "\n") {
		if !strings.HasPrefix(row, "| ") || strings.HasPrefix(row, "| rule") {
			continue
		}
		rows++
		found := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(row, -1)
		if len(found) == 0 {
			t.Errorf("no test: %s", row)
		}
		for _, name := range found {
			names++
			if !strings.Contains(source.String(), "func "+name[1]+"(") {
				t.Errorf("there is no %s: %s", name[1], row)
			}
		}
	}
	if rows < 25 {
		t.Errorf("%d rules, there were 25 and more", rows)
	}
}
