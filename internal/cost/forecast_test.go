package cost_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// littles is the first paper's traffic: 354 concurrent executions at 953 ms.
func littles(tb testing.TB) cost.Traffic {
	tb.Helper()
	return cost.Traffic{Concurrency: decp(tb, "354"), MeanMS: decp(tb, "953")}
}

// stated is an architecture whose mean is stated.
func stated(tb testing.TB, name string, arch cost.Arch, memory lambdalog.MB, mean string) cost.Architecture {
	tb.Helper()
	return cost.Architecture{Name: name, Functions: []cost.Function{{Arch: arch, Memory: memory, Billed: cost.Billed{MeanMS: decp(tb, mean)}}}}
}

func scenario(tb testing.TB, traffic cost.Traffic, architectures ...cost.Architecture) *cost.Scenario {
	tb.Helper()
	return &cost.Scenario{
		Region: "us-east-1", Month: cost.Month30Days, Start: cost.YearMonth{Year: 2026, Month: time.December}, Months: 1,
		Traffic: traffic, Architectures: architectures,
	}
}

func forecast(tb testing.TB, s *cost.Scenario) *cost.Result {
	tb.Helper()
	r, err := cost.Forecast(s, book(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestTraffic(t *testing.T) {
	perHour, err := littles(t).PerHour()
	if err != nil {
		t.Fatal(err)
	}
	if got := perHour.Round(0).String(); got != "1337251" {
		t.Errorf("requests per hour %s", got)
	}
	if got := perHour.Quo(cost.Int(3600)).Round(2).String(); got != "371.46" {
		t.Errorf("requests per second %s", got)
	}
	if got := perHour.Quo(cost.Int(1500)).Round(1).String(); got != "891.5" {
		t.Errorf("clusters %s", got)
	}
	for _, bad := range []cost.Traffic{
		{},
		{Clusters: decp(t, "3")},
		{PerClusterPerHour: decp(t, "3")},
		{Concurrency: decp(t, "354")},
		{Concurrency: decp(t, "354"), MeanMS: decp(t, "0")},
		{RequestsPerHour: decp(t, "1"), Clusters: decp(t, "1"), PerClusterPerHour: decp(t, "1")},
		{RequestsPerHour: decp(t, "-1")},
	} {
		_, err := bad.PerHour()
		if user, ok := errors.AsType[*cost.UserError](err); !ok || user.Hint() == "" {
			t.Errorf("%+v: got %v, want an error with a hint", bad, err)
		}
	}
}

// The months of the first paper's traffic, over 30 days and without free tier.
func TestMonths(t *testing.T) {
	for _, tt := range []struct {
		name   string
		arch   cost.Architecture
		months string
	}{
		{"python 128 MB x86", stated(t, "a", cost.ArchX86, 128, "953"), "2104.17"},
		{"python 128 MB arm", stated(t, "a", cost.ArchARM, 128, "953"), "1721.85"},
		{"go 128 MB arm", stated(t, "a", cost.ArchARM, 128, "70"), "304.89"},
	} {
		a := forecast(t, scenario(t, littles(t), tt.arch)).Architectures[0]
		if got := a.Month1.Fixed(2); got != tt.months {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.months)
		}
		if got := a.Lines[0].Amount.Fixed(2); got != "192.56" {
			t.Errorf("%s: requests cost %s, want 192.56", tt.name, got)
		}
		if got := a.RequestsMonth1.String(); got != "962820567" {
			t.Errorf("%s: %s requests", tt.name, got)
		}
		sum := a.Lines[0].Amount.Add(a.Lines[1].Amount)
		if !sum.Equal(a.Month1) || !a.Total.Equal(a.Month1) {
			t.Errorf("%s: lines %s, month %s, total %s", tt.name, sum, a.Month1, a.Total)
		}
	}
}

func TestGrowth(t *testing.T) {
	for _, tt := range []struct{ growth, goTotal, pythonTotal string }{
		{"0", "7296.44", "41822.96"},
		{"0.02", "9286.14", "53059.58"},
		{"0.05", "13648.70", "77696.60"},
		{"0.1", "27279.53", "154675.12"},
	} {
		s := scenario(t, cost.Traffic{Clusters: decp(t, "891.5"), PerClusterPerHour: decp(t, "1500")},
			stated(t, "python", cost.ArchARM, 128, "953"), stated(t, "go", cost.ArchARM, 128, "70"))
		s.Months, s.Month, s.FreeTier, s.Growth = 24, cost.MonthCalendar, true, dec(t, tt.growth)
		r := forecast(t, s)
		python, goer := r.Architectures[0], r.Architectures[1]
		if python.Total.Fixed(2) != tt.pythonTotal || goer.Total.Fixed(2) != tt.goTotal {
			t.Errorf("growth %s: Python %s, Go %s; want %s, %s", tt.growth, python.Total.Fixed(2), goer.Total.Fixed(2), tt.pythonTotal, tt.goTotal)
		}
		if len(goer.Months) != 24 || goer.Months[0].Month.String() != "2026-12" || goer.Months[23].Month.String() != "2028-11" {
			t.Errorf("months %v to %v", goer.Months[0].Month, goer.Months[len(goer.Months)-1].Month)
		}
		var total, year cost.USD
		for i, m := range goer.Months {
			total = total.Add(m.Total)
			if i < 12 {
				year = year.Add(m.Total)
			}
		}
		if !total.Equal(goer.Total) || !year.Equal(goer.Year1) || !goer.Month1.Equal(goer.Months[0].Total) {
			t.Errorf("months do not add up: %s, %s", total, year)
		}
	}
}

func TestMonthRules(t *testing.T) {
	for _, tt := range []struct {
		rule  cost.MonthRule
		month string
		want  string
	}{
		{cost.MonthCalendar, "2027-02", "672"},
		{cost.MonthCalendar, "2028-02", "696"},
		{cost.MonthCalendar, "2026-12", "744"},
		{cost.Month30Days, "2027-02", "720"},
		{cost.Month730Hours, "2027-02", "730"},
	} {
		m, err := cost.ParseYearMonth(tt.month)
		if err != nil {
			t.Fatal(err)
		}
		if got := tt.rule.Hours(m).String(); got != tt.want {
			t.Errorf("%s %s: %s hours, want %s", tt.rule, tt.month, got, tt.want)
		}
	}
	for _, bad := range []string{"", "2026", "2026-13", "26-12", "1999-12", "2026-12-01"} {
		if m, err := cost.ParseYearMonth(bad); err == nil {
			t.Errorf("%q accepted as %s", bad, m)
		}
	}
}

// The worked example of AWS's pricing page: 3 M requests of 120 ms at 1536 MB.
func TestPricingPageExample(t *testing.T) {
	perHour := dec(t, "3e6").Quo(cost.Int(720))
	s := scenario(t, cost.Traffic{RequestsPerHour: &perHour}, stated(t, "a", cost.ArchX86, 1536, "120"))
	s.FreeTier = true
	a := forecast(t, s).Architectures[0]
	if a.Month1.Fixed(2) != "2.73" {
		t.Errorf("got %s, want 2.73", a.Month1.Fixed(2))
	}
	if free := a.Lines[1].FreeQuantity.String(); free != "400000" {
		t.Errorf("%s GB-seconds are free", free)
	}
}

// Tiers and the free tier count over all functions of a payer.
func TestFunctionsShareTiersAndFreeTier(t *testing.T) {
	two := func(n string) cost.Architecture {
		perHour := dec(t, n).Quo(cost.Int(720))
		return cost.Architecture{Name: "two", Traffic: &cost.Traffic{RequestsPerHour: &perHour}, Functions: []cost.Function{
			{Name: "a", Arch: cost.ArchX86, Memory: 1024, Billed: cost.Billed{MeanMS: decp(t, "1000")}},
			{Name: "b", Arch: cost.ArchX86, Memory: 1024, Billed: cost.Billed{MeanMS: decp(t, "1000")}},
		}}
	}
	// 4 B GB-seconds each: 6 B at the first price and 2 B at the second.
	line := forecast(t, scenario(t, cost.Traffic{}, two("4e9"))).Architectures[0].Lines[1]
	if len(line.Tiers) != 2 || line.Tiers[1].Quantity.Round(0).String() != "2000000000" || line.Amount.Fixed(2) != "130000.20" {
		t.Errorf("tiers %+v, amount %s", line.Tiers, line.Amount.Fixed(2))
	}
	s := scenario(t, cost.Traffic{}, two("300000"))
	s.FreeTier = true
	lines := forecast(t, s).Architectures[0].Lines
	if got := lines[1].Tiers[0].Quantity.Round(0).String(); got != "200000" {
		t.Errorf("two functions of 300,000 GB-seconds are billed %s, want 200000: the free tier is granted once", got)
	}
	mixed := two("300000")
	mixed.Functions[1].Arch = cost.ArchARM
	s.Architectures = []cost.Architecture{mixed}
	lines = forecast(t, s).Architectures[0].Lines
	free := lines[1].FreeQuantity.Add(lines[3].FreeQuantity)
	if len(lines) != 4 || !free.Equal(cost.Int(400_000)) {
		t.Errorf("%d lines, %s GB-seconds free over both architectures", len(lines), free)
	}
}

func TestEveryRegionOfTheBook(t *testing.T) {
	for _, region := range []string{"us-east-1", "us-east-2", "us-west-2", "eu-west-1"} {
		s := scenario(t, littles(t), stated(t, "a", cost.ArchARM, 128, "70"), stated(t, "b", cost.ArchX86, 128, "70"))
		s.Region = region
		for _, a := range forecast(t, s).Architectures {
			if a.Month1.Sign() <= 0 {
				t.Errorf("%s: %s", region, a.Month1)
			}
		}
	}
	s := scenario(t, littles(t), stated(t, "a", cost.ArchARM, 128, "70"))
	s.Region = "eu-central-1"
	_, err := cost.Forecast(s, book(t))
	if _, ok := errors.AsType[*cost.MissingPriceError](err); !ok {
		t.Errorf("got %v, want a missing price", err)
	}
}

func TestNotCounted(t *testing.T) {
	a := forecast(t, scenario(t, littles(t), stated(t, "go", cost.ArchARM, 128, "70"))).Architectures[0]
	want := map[string]string{"HTTP API": "896.54", "REST API": "2929.00", "S3 PUT": "4814.10", "CloudWatch Logs": "165.89"}
	for what, amount := range want {
		i := slices.IndexFunc(a.NotCounted, func(n cost.NotCounted) bool { return strings.Contains(n.What, what) })
		if i < 0 || a.NotCounted[i].Amount == nil || a.NotCounted[i].Amount.Fixed(2) != amount {
			t.Errorf("%s: got %+v, want %s", what, a.NotCounted, amount)
		}
	}
	s := scenario(t, littles(t), stated(t, "go", cost.ArchARM, 128, "70"))
	s.Region = "us-west-2" // the book has no such prices there
	for _, n := range forecast(t, s).Architectures[0].NotCounted {
		if n.Amount != nil {
			t.Errorf("%s has an amount in a region without a price", n.What)
		}
	}
}

func TestConcurrency(t *testing.T) {
	python := stated(t, "python", cost.ArchX86, 256, "953")
	python.Functions[0].Billed.ColdMS = decp(t, "10600")
	goer := stated(t, "go", cost.ArchARM, 128, "70")
	goer.Functions[0].Billed.ColdMS = decp(t, "870")
	s := scenario(t, littles(t), python, goer)
	s.Growth = dec(t, "0.05")
	r := forecast(t, s)
	p, g := r.Architectures[0].Concurrency, r.Architectures[1].Concurrency
	ints := func(c *cost.Concurrency) [3]int { return [3]int{*c.P99, *c.P999, *c.P9999} }
	if p.Mean != 354 || ints(p) != [3]int{398, 414, 426} || p.RPSQuotaNeed != 37.15 || math.Abs(*p.ColdStorm-3937.5) > 0.1 || *p.MonthsToQuota != 18.9 {
		t.Errorf("Python: mean %v, quantiles %v, rps %v, storm %v, months %v", p.Mean, ints(p), p.RPSQuotaNeed, *p.ColdStorm, *p.MonthsToQuota)
	}
	if g.Mean != 26 || ints(g) != [3]int{39, 43, 47} || math.Round(*g.ColdStorm) != 323 || *g.MonthsToQuota != 66.5 {
		t.Errorf("Go: mean %v, quantiles %v, storm %v, months %v", g.Mean, ints(g), *g.ColdStorm, *g.MonthsToQuota)
	}
	c := r.Comparison
	if c.Baseline != "python" || c.Candidate != "go" || c.DurationRatio.Round(1).String() != "13.6" ||
		c.ConcurrencyRatio.Round(1).String() != "13.6" || c.QuotaRatio.Round(1).String() != "9.5" {
		t.Errorf("comparison: %s to %s, duration %s, concurrency %s, quota %s", c.Baseline, c.Candidate, c.DurationRatio, c.ConcurrencyRatio, c.QuotaRatio)
	}
	s.Growth = cost.Decimal{}
	if got := forecast(t, s).Architectures[0].Concurrency; got.MonthsToQuota != nil || got.ObservedMax != nil || got.Quota != 1000 {
		t.Errorf("without growth: %+v", got)
	}
}

func TestPoissonQuantile(t *testing.T) {
	for _, tt := range []struct {
		mean float64
		want [4]int
	}{
		{26.0, [4]int{26, 39, 43, 47}},
		{37.1, [4]int{37, 52, 57, 62}},
		{354, [4]int{354, 398, 414, 426}},
		{0, [4]int{0, 0, 0, 0}},
		// scipy.stats.poisson.ppf
		{0.5, [4]int{0, 3, 4, 5}},
	} {
		for i, q := range []float64{0.5, 0.99, 0.999, 0.9999} {
			if got, ok := cost.PoissonQuantile(tt.mean, q); !ok || got != tt.want[i] {
				t.Errorf("mean %v, q %v: got %d, want %d", tt.mean, q, got, tt.want[i])
			}
		}
	}
	for _, bad := range []float64{-1, math.NaN(), math.Inf(1), 1e12} {
		if k, ok := cost.PoissonQuantile(bad, 0.99); ok {
			t.Errorf("mean %v gives %d", bad, k)
		}
	}
	// Near-normal for large means: mean + 2.326 standard deviations.
	if k, ok := cost.PoissonQuantile(1e6, 0.99); !ok || math.Abs(float64(k)-1_002_326.3) > 3 {
		t.Errorf("mean 1e6: got %d", k)
	}
}

func TestMonthsToQuota(t *testing.T) {
	if m, ok := cost.MonthsToQuota(398, 1000, 0.05); !ok || math.Abs(m-18.88) > 0.01 {
		t.Errorf("got %v", m)
	}
	if m, ok := cost.MonthsToQuota(2000, 1000, 0); !ok || m != 0 {
		t.Errorf("over the quota already: %v, %v", m, ok)
	}
	for _, tt := range [][3]float64{{398, 1000, 0}, {398, 1000, -0.1}, {0, 1000, 0.1}} {
		if m, ok := cost.MonthsToQuota(tt[0], tt[1], tt[2]); ok {
			t.Errorf("%v: got %v months", tt, m)
		}
	}
}

func TestWilson(t *testing.T) {
	low, high := cost.Wilson(1, 15)
	if math.Abs(low-0.012) > 0.0005 || math.Abs(high-0.298) > 0.0005 {
		t.Errorf("1 of 15: %v to %v, want 0.012 to 0.298", low, high)
	}
	if low, high := cost.Wilson(0, 0); low != 0 || high != 1 {
		t.Errorf("nothing known: %v to %v", low, high)
	}
	for n := int64(1); n < 40; n++ {
		for k := range n + 1 {
			low, high := cost.Wilson(k, n)
			if p := float64(k) / float64(n); low > p+1e-12 || high < p-1e-12 || low < 0 || high > 1 {
				t.Fatalf("%d of %d: %v to %v", k, n, low, high)
			}
		}
	}
}

// paperRecords are the fifteen lines that the first paper prints.
func paperRecords(tb testing.TB) *cost.Usage {
	tb.Helper()
	f, err := os.Open("testdata/paper.txt")
	if err != nil {
		tb.Fatal(err)
	}
	u, err := cost.UsageOf(lambdalog.Scan(f, "paper.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return u
}

func TestPaperRecords(t *testing.T) {
	u := paperRecords(t)
	if u.Invocations() != 15 || u.Cold() != 1 || u.BilledMS().String() != "1748.000000" {
		t.Errorf("%d invocations, %d cold, %s ms", u.Invocations(), u.Cold(), u.BilledMS())
	}
	if got := u.BilledMS().Quo(cost.Int(15)).Round(2).String(); got != "116.53" {
		t.Errorf("mean of all %s, want 116.53", got)
	}
	if got := u.BilledMS().Sub(cost.Int(870)).Quo(cost.Int(14)).Round(2).String(); got != "62.71" {
		t.Errorf("mean of warm ones %s, want 62.71", got)
	}
	a := forecast(t, scenario(t, littles(t), cost.Architecture{Name: "go", Functions: []cost.Function{
		{Arch: cost.ArchARM, Billed: cost.Billed{Usage: u}},
	}})).Architectures[0]
	if got := a.Month1.Fixed(2); got != "379.57" {
		t.Errorf("month %s, want 379.57", got)
	}
	// Resampling gave [51.5, 230.1] ms and [275.15, 562.72] dollars elsewhere.
	if v := a.Interval; v == nil || v.Samples != 15 || math.Abs(v.Low-51.5) > 3 || math.Abs(v.High-230.1) > 12 {
		t.Errorf("interval %+v", a.Interval)
	}
	low, high := a.TotalInterval.Low.Decimal().Float64(), a.TotalInterval.High.Decimal().Float64()
	if math.Abs(low-275.15) > 6 || math.Abs(high-562.72) > 20 {
		t.Errorf("total interval %v to %v", low, high)
	}
	if !slices.ContainsFunc(a.Warnings, func(w string) bool { return strings.Contains(w, "too few samples: 15") }) {
		t.Errorf("no warning of too few samples: %v", a.Warnings)
	}
	if a.Cold.Share.String() != "0.066667" || a.Cold.Interval.Low != 0.011867 {
		t.Errorf("cold: %s, %+v", a.Cold.Share, a.Cold.Interval)
	}
}

func TestMeanInterval(t *testing.T) {
	warm := []float64{28, 31, 32, 33, 38, 44, 48, 57, 81, 86, 87, 94, 100, 119}
	v := cost.MeanInterval(warm, nil, rand.New(rand.NewPCG(1, 1)))
	if math.Abs(v.Low-47.5) > 1 || math.Abs(v.High-78.5) > 1 {
		t.Errorf("warm lines: %+v, want about [47.5, 78.5]", v)
	}
	again := cost.MeanInterval(warm, nil, rand.New(rand.NewPCG(1, 1)))
	if v != again {
		t.Error("the same seed gave another interval")
	}
	if v := cost.MeanInterval(nil, nil, rand.New(rand.NewPCG(1, 1))); v.Warning() != "" || v.Samples != 0 {
		t.Errorf("nothing: %+v", v)
	}
	for _, tt := range []struct {
		v    cost.Interval
		want string
	}{
		{cost.Interval{Samples: 99, Colds: 9}, "99 invocations"},
		{cost.Interval{Samples: 1000, Colds: 4}, "4 cold starts"},
		{cost.Interval{Samples: 100, Colds: 5}, ""},
	} {
		if got := tt.v.Warning(); got != tt.want && !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%+v: %q", tt.v, got)
		}
	}
}

func TestOldPricesAreAWarning(t *testing.T) {
	s := scenario(t, littles(t), stated(t, "a", cost.ArchARM, 128, "70"))
	for _, tt := range []struct {
		start string
		warn  bool
	}{{"2026-12", false}, {"2027-02", false}, {"2027-03", true}, {"2026-01", false}} {
		start, err := cost.ParseYearMonth(tt.start)
		if err != nil {
			t.Fatal(err)
		}
		s.Start = start
		if got := strings.Contains(strings.Join(forecast(t, s).Warnings, "\n"), "2026-11-20"); got != tt.warn {
			t.Errorf("start %s: warned %v", tt.start, got)
		}
	}
}

func TestPeakConcurrency(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1_000_000, int64(s*1e9)) }
	record := func(end, seconds float64, init float64) lambdalog.Invocation {
		v := lambdalog.Invocation{Kind: lambdalog.KindReport, Time: at(end), Billable: true, Memory: 128}
		v.Duration = lambdalog.MillisOf(time.Duration(seconds * 1e9))
		v.Billed = v.Duration
		if init > 0 {
			v.Init, v.Cold = lambdalog.MillisOf(time.Duration(init*1e9)), true
		}
		return v
	}
	for _, tt := range []struct {
		name    string
		records []lambdalog.Invocation
		want    int
	}{
		{"one after another", []lambdalog.Invocation{record(1, 1, 0), record(2, 1, 0), record(3, 1, 0)}, 1},
		{"nested", []lambdalog.Invocation{record(10, 10, 0), record(5, 1, 0), record(5.5, 1, 0)}, 3},
		{"initialisation counts", []lambdalog.Invocation{record(1, 1, 0), record(3, 1, 1.5)}, 2},
	} {
		u := new(cost.Usage)
		for _, v := range tt.records {
			u.Add(v)
		}
		if got, ok := u.PeakConcurrency(); !ok || got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
		u.Add(lambdalog.Invocation{Kind: lambdalog.KindReport, Billable: true, Billed: lambdalog.MillisOf(1e6)})
		if got, ok := u.PeakConcurrency(); ok {
			t.Errorf("%s: %d although a record has no time", tt.name, got)
		}
	}
	if _, ok := new(cost.Usage).PeakConcurrency(); ok {
		t.Error("a peak of nothing")
	}
}

func TestUsageKeepsMissingApart(t *testing.T) {
	u, err := cost.UsageOf(lambdalog.Scan(strings.NewReader(
		"REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: 41.37 ms\tBilled Dur\n"+
			"REPORT RequestId: 3eedebe4-34b2-50c7-91c4-7bc167463972\tDuration: 12.34 ms\n"+
			"REPORT RequestId: 3eedebe4-34b2-50c7-91c4-7bc167463972\tDuration: x ms\n"), "in"))
	if err != nil {
		t.Fatal(err)
	}
	s := u.Summary()
	if u.Invocations() != 0 || s.Reports != 2 || s.Incomplete != 1 || s.BadLines != 1 {
		t.Errorf("%d invocations, summary %+v", u.Invocations(), s)
	}
	_, err = cost.Forecast(scenario(t, littles(t), cost.Architecture{Name: "a", Functions: []cost.Function{{Arch: cost.ArchARM, Billed: cost.Billed{Usage: u}}}}), book(t))
	if err == nil || !strings.Contains(err.Error(), "no billed invocation") {
		t.Errorf("got %v", err)
	}
}

func TestMemoryOfRecords(t *testing.T) {
	line := func(mb, ms string) string {
		m := ""
		if mb != "" {
			m = "\tMemory Size: " + mb + " MB"
		}
		return "REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: " + ms + ".00 ms\tBilled Duration: " + ms + " ms" + m + "\tMax Memory Used: 36 MB\n"
	}
	read := func(text string) *cost.Usage {
		u, err := cost.UsageOf(lambdalog.Scan(strings.NewReader(text), "in"))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	mixed := read(line("128", "100") + line("1024", "100"))
	// 0.1 s at 1/8 GB and 0.1 s at 1 GB, not 0.2 s at a mean memory of one of them.
	if got, err := mixed.GBSeconds(0); err != nil || got.Round(6).String() != "0.112500" {
		t.Errorf("GB-seconds %s (%v), want 0.1125", got, err)
	}
	if got, err := mixed.GBSeconds(128); err != nil || got.Round(6).String() != "0.025000" {
		t.Errorf("GB-seconds at 128 MB %s (%v), want 0.025", got, err)
	}
	if _, err := read(line("", "100")).GBSeconds(0); err == nil {
		t.Error("a memory size was made up")
	}
	a := cost.Architecture{Name: "a", Functions: []cost.Function{{Arch: cost.ArchARM, Memory: 256, Billed: cost.Billed{Usage: mixed}}}}
	warnings := forecast(t, scenario(t, littles(t), a)).Architectures[0].Warnings
	if !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, "priced at 256 MB") }) {
		t.Errorf("no warning: %v", warnings)
	}
}

func TestBilledOfSummary(t *testing.T) {
	b, err := cost.BilledOf(paperRecords(t).Summary())
	if err != nil {
		t.Fatal(err)
	}
	if b.MeanMS.Round(2).String() != "116.53" || b.Samples != 15 || b.ColdShare.Round(4).String() != "0.0667" {
		t.Errorf("mean %s, %d samples, share %s", b.MeanMS, b.Samples, b.ColdShare)
	}
	if _, err := cost.BilledOf(lambdalog.Summary{}); err == nil {
		t.Error("a mean of nothing")
	}
}

func TestWarmAndColdMakeTheMean(t *testing.T) {
	a := stated(t, "a", cost.ArchARM, 128, "1")
	// 62.714… ms warm and 0.90 % of 870 ms make 70 ms.
	a.Functions[0].Billed = cost.Billed{WarmMS: decp(t, "62.7142857"), ColdMS: decp(t, "870"), ColdShare: decp(t, "0.00902482")}
	got := forecast(t, scenario(t, littles(t), a)).Architectures[0]
	if got.MeanBilledMS.Round(2).String() != "70.00" || got.Month1.Fixed(2) != "304.89" {
		t.Errorf("mean %s, month %s", got.MeanBilledMS, got.Month1.Fixed(2))
	}
}

func TestValidateReportsAllProblems(t *testing.T) {
	s := &cost.Scenario{Architectures: []cost.Architecture{
		{Name: "a", Functions: []cost.Function{{Arch: "mips", Memory: 64, Billed: cost.Billed{MeanMS: decp(t, "-1")}}}},
		{Name: "a"},
	}, Baseline: "nobody", Growth: dec(t, "-2"), Quota: -1}
	err := s.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"no region", "month is", "0 months", "no first month", "growth", "quota", "mips", "64 MB", "out of range", "no function", "two architectures", "nobody"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not among the problems:\n%v", want, err)
		}
	}
}

func TestDurationRatio(t *testing.T) {
	r, err := cost.DurationRatio(cost.RatioInput{
		Monthly: usd(t, "3633"), BaselineMS: dec(t, "953"), CandidateMS: dec(t, "70"), Baseline: "Python", Candidate: "Go",
		Months: 24, Start: cost.YearMonth{Year: 2026, Month: time.December}, Concurrency: decp(t, "354"), Book: book(t), Region: "us-east-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	m := r.Method
	for _, tt := range []struct{ what, got, want string }{
		{"12 months", m.AsInPaper.BaselineYear.String(), "43596"},
		{"24 months", m.AsInPaper.BaselineTotal.String(), "87192"},
		{"saving", m.SavingsRatioRounded.String(), "0.93"},
		{"exact saving", m.SavingsRatio.Mul(cost.Int(100)).Round(4).String(), "92.6548"},
		{"factor", m.DurationRatioRounded.String(), "13.6"},
		{"Go, 12 months", m.AsInPaper.CandidateYear.String(), "3051"},
		{"Go, 24 months", m.AsInPaper.CandidateTotal.String(), "6102"},
		{"Go, 12 months by the exact ratio", m.Exact.CandidateYear.Fixed(2), "3202.22"},
		{"Go, 24 months by the exact ratio", m.Exact.CandidateTotal.Fixed(2), "6404.45"},
		{"understatement", m.Understatement.Fixed(2), "302.45"},
		{"request fee", m.RequestFeeKept.RequestFee.Fixed(2), "192.56"},
		{"Go month with the request fee", m.RequestFeeKept.CandidateMonth.Fixed(2), "445.27"},
		{"Go, 24 months with the request fee", m.RequestFeeKept.CandidateTotal.Fixed(2), "10686.53"},
		{"saving with the request fee", m.RequestFeeKept.SavingsRatio.Round(3).String(), "0.877"},
		{"yearly factor", m.AsInPaper.BaselineYear.Ratio(m.AsInPaper.CandidateYear).Round(2).String(), "14.29"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.what, tt.got, tt.want)
		}
	}
	if len(r.Architectures) != 3 || r.Architectures[1].Total.String() != "6102" || r.Architectures[2].Total.Fixed(2) != "6404.45" || len(m.LeavesOut) == 0 {
		t.Errorf("architectures: %+v", r.Architectures)
	}
	if c := r.Architectures[1].Concurrency; c == nil || c.Mean != 26 || c.RPSQuotaNeed != 37.15 {
		t.Errorf("concurrency of Go: %+v", c)
	}
	if c := r.Comparison; c.DurationRatio.Round(1).String() != "13.6" || c.SavingsRatio.Round(2).String() != "0.93" {
		t.Errorf("comparison: %+v", c)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	for _, bad := range []cost.RatioInput{
		{},
		{Monthly: usd(t, "1"), Months: 24},
		{Monthly: usd(t, "1"), BaselineMS: dec(t, "1"), CandidateMS: dec(t, "1")},
	} {
		if _, err := cost.DurationRatio(bad); err == nil {
			t.Errorf("%+v accepted", bad)
		}
	}
}

const scenarioDir = "../../fixtures/scenarios"

func demoScenario(tb testing.TB) *cost.Scenario {
	tb.Helper()
	f, err := os.Open(scenarioDir + "/demo.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	s, err := cost.LoadScenario(f, "demo.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	err = s.ReadRecords(func(name string) (io.ReadCloser, error) { return os.Open(path.Join(scenarioDir, name)) })
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// The demo scenario's whole JSON is a golden file: its keys are a contract.
func TestDemoForecastGolden(t *testing.T) {
	r := forecast(t, demoScenario(t))
	for i, want := range []string{"953", "70"} {
		a := r.Architectures[i]
		if got := a.MeanBilledMS.String(); got != want {
			t.Errorf("%s: mean %s, want %s", a.Name, got, want)
		}
		if len(a.Warnings) != 0 {
			t.Errorf("%s: warnings %v", a.Name, a.Warnings)
		}
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	data = append(data, '\n')
	const golden = "testdata/demo.golden.json"
	if *update {
		if err := os.WriteFile(golden, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(data)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	again, err := json.MarshalIndent(forecast(t, demoScenario(t)), "", "  ")
	if err != nil || !bytes.Equal(append(again, '\n'), data) {
		t.Errorf("two forecasts of the same input differ (%v)", err)
	}
}

// More traffic and longer durations never cost less, whatever the tiers.
func TestForecastIsMonotone(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	b := book(t)
	price := func(perHour, mean int64, free bool) cost.USD {
		r, m := cost.Int(perHour), cost.Int(mean)
		s := scenario(t, cost.Traffic{RequestsPerHour: &r}, cost.Architecture{Name: "a", Functions: []cost.Function{
			{Arch: cost.ArchX86, Memory: 10240, Billed: cost.Billed{MeanMS: &m}},
		}})
		s.FreeTier = free
		res, err := cost.Forecast(s, b)
		if err != nil {
			t.Fatal(err)
		}
		return res.Architectures[0].Total
	}
	for range 200 {
		n, m := rng.Int64N(20_000_000), 1+rng.Int64N(2000)
		free := rng.IntN(2) == 0
		base := price(n, m, free)
		if price(n+1000, m, free).Cmp(base) < 0 || price(n, m+10, free).Cmp(base) < 0 {
			t.Fatalf("%d requests of %d ms: more costs less than %s", n, m, base)
		}
		if price(n, m, true).Cmp(price(n, m, false)) > 0 {
			t.Fatalf("%d requests of %d ms: the free tier costs money", n, m)
		}
	}
}
