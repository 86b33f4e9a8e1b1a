package cost_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// function is one function with stated billed time at a million requests a month of 30 days.
func function(tb testing.TB, f cost.Function, change func(*cost.Scenario)) cost.ArchitectureResult {
	tb.Helper()
	if f.Arch == "" {
		f.Arch = cost.ArchX86
	}
	if f.Billed.MeanMS == nil {
		f.Billed.MeanMS = decp(tb, "1000")
	}
	s := scenario(tb, perMonth(tb, "1000000"), cost.Architecture{Name: "f", Functions: []cost.Function{f}})
	s.Month = cost.Month30Days
	if change != nil {
		change(s)
	}
	return forecast(tb, s).Architectures[0]
}

func line(tb testing.TB, a cost.ArchitectureResult, dimension string) cost.Line {
	tb.Helper()
	i := slices.IndexFunc(a.Lines, func(l cost.Line) bool { return l.Dimension == dimension })
	if i < 0 {
		tb.Fatalf("no line %s in %+v", dimension, a.Lines)
	}
	return a.Lines[i]
}

func TestSavingsPlan(t *testing.T) {
	a := function(t, cost.Function{Memory: 1024, Plan: cost.SavingsPlan1Y}, nil)
	// 1,000,000 GB-seconds at the plan's price; the request fee is not cut.
	if got := line(t, a, "savings-plan-1y-no-upfront-x86").Amount.Fixed(2); got != "14.70" {
		t.Errorf("duration %s, want 14.70", got)
	}
	if got := a.Month1.Fixed(2); got != "14.90" {
		t.Errorf("month %s, want 14.90", got)
	}
	a = function(t, cost.Function{Memory: 1024, Arch: cost.ArchARM, Plan: cost.SavingsPlanUpfront}, func(s *cost.Scenario) { s.FreeTier = true })
	if got := a.Month1.Fixed(2); got != "6.66" { // 600,000 × 0.0000111
		t.Errorf("with the free tier %s, want 6.66", got)
	}
}

func TestProvisionedFunction(t *testing.T) {
	// 0.386 requests a second of 1 s keep 0.386 environments busy. Ten provisioned take all of them.
	a := function(t, cost.Function{Memory: 1024, Provisioned: &cost.Provisioned{Environments: 10}}, func(s *cost.Scenario) { s.FreeTier = true })
	if got := line(t, a, "provisioned-concurrency-x86").Amount.Fixed(2); got != "108.00" { // 10 × 2,592,000 × 0.0000041667
		t.Errorf("configured %s, want 108.00", got)
	}
	if got := line(t, a, "provisioned-duration-x86").Amount.Fixed(2); got != "9.72" {
		t.Errorf("busy %s, want 9.72", got)
	}
	if l := line(t, a, "requests"); l.FreeQuantity.Sign() != 0 || l.Amount.Fixed(2) != "0.20" {
		t.Errorf("a provisioned function has a free tier: %+v", l)
	}
	if got := line(t, a, "duration-x86").Quantity.Round(0).String(); got != "0" {
		t.Errorf("%s GB-seconds on demand", got)
	}
	// With one, Erlang's formula spills load/(1+load) over.
	load := 1e6 / 2592000.0
	a = function(t, cost.Function{Memory: 1024, Provisioned: &cost.Provisioned{Environments: 1}}, nil)
	if got, want := line(t, a, "duration-x86").Quantity.Float64(), 1e6*load/(1+load); math.Abs(got-want) > 1 {
		t.Errorf("%v GB-seconds spill over, want %v", got, want)
	}
	// Half a day takes half of each.
	a = function(t, cost.Function{Memory: 1024, Provisioned: &cost.Provisioned{Environments: 10, HoursPerDay: decp(t, "12")}}, nil)
	if c, d := line(t, a, "provisioned-concurrency-x86").Amount.Fixed(2), line(t, a, "duration-x86").Quantity.Round(0).String(); c != "54.00" || d != "500000" {
		t.Errorf("half a day: configured %s, on demand %s", c, d)
	}
	// The other functions keep the free tier.
	s := scenario(t, perMonth(t, "1000000"), cost.Architecture{Name: "two", Functions: []cost.Function{
		{Arch: cost.ArchX86, Memory: 1024, Billed: cost.Billed{MeanMS: decp(t, "1000")}, Provisioned: &cost.Provisioned{Environments: 10}},
		{Arch: cost.ArchX86, Memory: 1024, Billed: cost.Billed{MeanMS: decp(t, "1000")}},
	}})
	s.Month, s.FreeTier = cost.Month30Days, true
	two := forecast(t, s).Architectures[0]
	if l := line(t, two, "requests"); l.FreeQuantity.String() != "1000000" {
		t.Errorf("free requests %s of %s", l.FreeQuantity, l.Quantity)
	}
	if l := line(t, two, "duration-x86"); l.FreeQuantity.String() != "400000" {
		t.Errorf("free GB-seconds %s of %s", l.FreeQuantity, l.Quantity)
	}
}

func TestSnapStart(t *testing.T) {
	// The pricing page: a month of 31 days with 1 GB is 4.03, 74,400 restores are 10.40.
	a := function(t, cost.Function{Memory: 1024, SnapStart: &cost.SnapStart{Versions: cost.Int(1), RestoresPerInvocation: dec(t, "0.0744")}},
		func(s *cost.Scenario) {
			s.Month, s.Start = cost.MonthCalendar, cost.YearMonth{Year: 2026, Month: 12}
			perHour := cost.Int(1_000_000).Quo(cost.Int(744))
			s.Traffic = cost.Traffic{RequestsPerHour: &perHour}
		})
	if c, r := line(t, a, "snapstart-cache").Amount.Fixed(2), line(t, a, "snapstart-restore").Amount.Fixed(2); c != "4.03" || r != "10.40" {
		t.Errorf("cache %s, restores %s", c, r)
	}
}

func TestFunctionOptionsRefuse(t *testing.T) {
	good := cost.Function{Arch: cost.ArchX86, Memory: 128, Billed: cost.Billed{MeanMS: decp(t, "1")}}
	for name, change := range map[string]func(*cost.Function){
		"savings plan":    func(f *cost.Function) { f.Plan = "free" },
		"no environments": func(f *cost.Function) { f.Provisioned = &cost.Provisioned{} },
		"hours":           func(f *cost.Function) { f.Provisioned = &cost.Provisioned{Environments: 1, HoursPerDay: decp(t, "0")} },
		"restores":        func(f *cost.Function) { f.SnapStart = &cost.SnapStart{RestoresPerInvocation: cost.Int(2)} },
		"versions":        func(f *cost.Function) { f.SnapStart = &cost.SnapStart{Versions: cost.Int(-1)} },
	} {
		f := good
		change(&f)
		s := scenario(t, perMonth(t, "1"), cost.Architecture{Name: "f", Functions: []cost.Function{f}})
		if _, err := cost.Forecast(s, book(t)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	// SnapStart is priced in us-east-1 only: elsewhere it is an error and not free.
	s := scenario(t, perMonth(t, "1"), cost.Architecture{Name: "f", Functions: []cost.Function{good}})
	s.Architectures[0].Functions[0].SnapStart = &cost.SnapStart{Versions: cost.Int(1)}
	s.Region = "eu-west-1"
	_, err := cost.Forecast(s, book(t))
	if _, ok := errors.AsType[*cost.MissingPriceError](err); !ok {
		t.Errorf("got %v, want a missing price", err)
	}
}

func TestLever(t *testing.T) {
	r := forecast(t, demoScenario(t))
	for i, want := range []struct {
		kind                        cost.LeverKind
		dimension, requests, billed string
	}{
		{cost.LeverRequests, "put-copy-post-list", "3120.20", "1975.32"},
		{cost.LeverRequests, "put-copy-post-list", "3120.20", "58.04"},
	} {
		l := r.Architectures[i].Lever
		if l.Kind != want.kind || l.Dimension != want.dimension || l.HalfRequests.Fixed(2) != want.requests || l.HalfBilled.Fixed(2) != want.billed {
			t.Errorf("%s: %+v", r.Architectures[i].Name, l)
		}
	}
	if h := r.Architectures[1].Headroom; h == nil || h.MemoryMB != 128 || h.MaxMemoryUsedMB != 38 || h.Factor.String() != "3.37" {
		t.Errorf("headroom %+v", h)
	}
	if r.Architectures[2].Headroom != nil {
		t.Error("a stated mean has a headroom")
	}
	// Large memory makes the billed time the lever; servers are moved by neither.
	if l := function(t, cost.Function{Memory: 10240}, nil).Lever; l.Kind != cost.LeverBilledTime || l.HalfRequests.Fixed(2) != "0.10" {
		t.Errorf("large function: %+v", l)
	}
	s := scenario(t, perMonth(t, "1000"), cost.Architecture{Name: "pods", Services: []cost.Service{cost.EKS{Clusters: cost.Int(1)}}})
	if l := forecast(t, s).Architectures[0].Lever; l.Kind != cost.LeverFixed || l.LambdaShareRatio.Sign() != 0 {
		t.Errorf("pods: %+v", l)
	}
	s = scenario(t, perMonth(t, "0"), cost.Architecture{Name: "none", Services: []cost.Service{cost.APIGateway{}}})
	if l := forecast(t, s).Architectures[0].Lever; l != nil {
		t.Errorf("nothing has a lever: %+v", l)
	}
}

func TestMonthsAddUp(t *testing.T) {
	s := demoScenario(t)
	s.Growth = dec(t, "0.07")
	for _, a := range forecast(t, s).Architectures {
		for _, m := range a.Months {
			var sum cost.USD
			for _, x := range m.Services {
				sum = sum.Add(x.Amount)
			}
			if !sum.Equal(m.Total) {
				t.Errorf("%s %s: services are %s, total %s", a.Name, m.Month, sum, m.Total)
			}
			if m.Interval != nil && (m.Interval.Low.Cmp(m.Total) > 0 || m.Interval.High.Cmp(m.Total) < 0) {
				t.Errorf("%s %s: %s lies outside of %+v", a.Name, m.Month, m.Total, m.Interval)
			}
		}
	}
}

func TestAnalyse(t *testing.T) {
	s := demoScenario(t)
	s.Months = 2
	s.Architectures = append(s.Architectures, cost.Architecture{Name: "pods", Services: []cost.Service{
		cost.Fargate{Arch: cost.ArchARM, VCPU: cost.Int(4), MemoryGB: cost.Int(8), Tasks: cost.Int(9)},
	}})
	r := forecast(t, s)
	if err := cost.Analyse(s, book(t), r); err != nil {
		t.Fatal(err)
	}
	an := r.Analysis
	if len(an.Architectures) != 4 || len(an.BreakEvens) != 5 || an.Architectures[3].Throttling != nil {
		t.Fatalf("%+v", an)
	}
	if b := an.BreakEvens[0]; b.RequestsPerHour != nil || b.Cheaper != "go" {
		t.Errorf("Python and Go cross at %v, cheaper is %q", b.RequestsPerHour, b.Cheaper)
	}
	// Behind the baseline's pairs come those of the others that cross: both Go architectures and the pods.
	if b := an.BreakEvens[3]; b.Baseline != "go" || b.Candidate != "pods" || b.RequestsPerHour == nil {
		t.Errorf("%+v", b)
	}
	x := an.BreakEvens[2].RequestsPerHour
	if x == nil {
		t.Fatal("pods and Python do not cross")
	}
	// The solution is checked by forecasting it.
	s.Traffic = cost.Traffic{RequestsPerHour: x, PayloadBytes: s.Traffic.PayloadBytes}
	at := forecast(t, s)
	if ratio := at.Architectures[0].Total.Ratio(at.Architectures[3].Total).Float64(); math.Abs(ratio-1) > 1e-4 {
		t.Errorf("at %s an hour Python costs %v times what pods cost", x, ratio)
	}
	// The middle of the curve is the forecast itself, also where an architecture has traffic of its own.
	middle := an.Curve[len(an.Curve)/2]
	for i, total := range middle.Totals {
		if d := total.Sub(r.Architectures[i].Total).Decimal().Float64(); math.Abs(d) > 0.01 {
			t.Errorf("%s: the curve says %s, the forecast %s", r.Architectures[i].Name, total.Fixed(2), r.Architectures[i].Total.Fixed(2))
		}
	}
	th := an.Architectures[1].Throttling
	if *th.LimitFor1000 <= 26 || cost.ErlangB(*th.LimitFor1000, 25.8216) > 1e-3 || cost.ErlangB(*th.LimitFor1000-1, 25.8216) <= 1e-3 || *th.LimitForMillion <= *th.LimitFor1000 {
		t.Errorf("throttling %+v", th)
	}
	if p := an.Architectures[1].Provisioned; p.Environments != 26 || p.Month.Fixed(2) != "29.02" || p.BreakEvenBusy.Round(2).String() != "0.60" || p.KeepWarmPings.String() != "232128" {
		t.Errorf("provisioned %+v", p)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	// A region without provisioned prices has none, and the rest of the analysis.
	s = scenario(t, perMonth(t, "1000"), stated(t, "a", cost.ArchARM, 128, "70"))
	s.Region = "eu-west-1"
	r = forecast(t, s)
	if err := cost.Analyse(s, book(t), r); err != nil || r.Analysis.Architectures[0].Provisioned != nil || len(r.Analysis.BreakEvens) != 0 {
		t.Errorf("eu-west-1: %v, %+v", err, r.Analysis)
	}
}

func TestOverrides(t *testing.T) {
	const head = "version: 1\nas_of: 2026-11-01\nsource: contract\n"
	b, err := cost.ParseOverrides(strings.NewReader(head+`prices:
  lambda.duration-arm@us-east-1: {price: 0.00001, note: ours}
  s3.put-copy-post-list@mars-1: {unit: request, usage_type: MARS-Requests-Tier1, tiers: [{from: 0, price: 0.5}, {from: 10, price: 0.25}]}
`), "mine.yaml", book(t))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := b.Get("lambda.duration-arm@us-east-1")
	if len(p.Tiers) != 1 || p.Tiers[0].Price.String() != "0.00001" || p.Unit != "GB-second" || p.UsageType != "Lambda-GB-Second-ARM" || p.AsOf != "2026-11-01" {
		t.Errorf("%+v", p)
	}
	p, _ = b.Get("s3.put-copy-post-list@mars-1")
	if _, total, _ := p.Cost(cost.Int(20)); total.Fixed(2) != "7.50" {
		t.Errorf("20 cost %s", total)
	}
	if src, ok := b.Source("mine.yaml"); !ok || src.What != "contract" {
		t.Errorf("source %+v", src)
	}
	if b.SHA256() == book(t).SHA256() {
		t.Error("the hash does not tell that prices were changed")
	}
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "m.yaml:1: there are no prices"},
		{"not YAML", "a: [", "no valid YAML"},
		{"unknown key", head + "discount: 5\nprices: {}", `m.yaml:4: unknown key "discount"`},
		{"no source", "version: 1\nas_of: 2026-11-01\nprices: {}", "source is missing"},
		{"currency", head + "currency: EUR\nprices: {}", `m.yaml:4: currency is "EUR", want USD`},
		{"no id", head + "prices:\n  lambda: {price: 1}", "m.yaml:5: "},
		{"twice", head + "prices:\n  a.b@c: {unit: x, price: 1}\n  a.b@c: {unit: x, price: 1}", "m.yaml:6: a.b@c stands twice"},
		{"negative", head + "prices:\n  a.b@c: {unit: x, price: -1}", "negative"},
		{"no price", head + "prices:\n  a.b@c: {unit: x}", "either a price or tiers"},
		{"both", head + "prices:\n  a.b@c: {unit: x, price: 1, tiers: [{from: 0, price: 1}]}", "either a price or tiers"},
		{"new without unit", head + "prices:\n  a.b@c: {price: 1}", "has no unit"},
		{"another unit", head + "prices:\n  lambda.duration-arm@us-east-1: {unit: MB-second, price: 1}", `the book has "GB-second"`},
		{"tiers not from 0", head + "prices:\n  a.b@c: {unit: x, tiers: [{from: 5, price: 1}]}", "begins at 5"},
		{"tiers out of order", head + "prices:\n  a.b@c: {unit: x, tiers: [{from: 0, price: 1}, {from: 0, price: 2}]}", "does not lie above"},
		{"tier without price", head + "prices:\n  a.b@c: {unit: x, tiers: [{from: 0}]}", "needs from and price"},
		{"lost digits", head + "prices:\n  a.b@c: {unit: x, price: 0.30000000000000004}", "went through a binary float"},
		{"too many decimals", head + "prices:\n  a.b@c: {unit: x, price: 0.0000000000001}", "more than 12 decimals"},
		{"broken JSON", `{"schema": 5`, "m.yaml"},
	} {
		if _, err := cost.ParseOverrides(strings.NewReader(tt.text), "m.yaml", book(t)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func FuzzParseOverrides(f *testing.F) {
	f.Add("version: 1\nas_of: 2026-11-01\nsource: c\nprices:\n  a.b@c: {unit: x, tiers: [{from: 0, price: 1}]}\n")
	f.Add(`{"schema": "cirrusbench.pricebook/1"}`)
	base := book(f)
	f.Fuzz(func(t *testing.T, text string) {
		b, err := cost.ParseOverrides(strings.NewReader(text), "f.yaml", base)
		if err != nil {
			return
		}
		for _, p := range b.List("") {
			if len(p.Tiers) == 0 || p.Tiers[0].From.Sign() != 0 || p.Tiers[len(p.Tiers)-1].To != nil {
				t.Fatalf("%s has tiers %+v", p.ID, p.Tiers)
			}
		}
	})
}

func TestFloatsThatLostDigits(t *testing.T) {
	for text, bad := range map[string]bool{
		"0.30000000000000004": true, "70.30000000000001": true, "1.1000000000000001": true,
		"0.3": false, "0.0000166667": false, "123456789012345": false, "70.00000000000000000001": false, "1e30": false,
	} {
		_, err := cost.LoadScenario(strings.NewReader("version: 1\nregion: r\nstart: 2026-12\ntraffic: {requests_per_hour: "+text+"}\narchitectures: {a: {apigateway: http}}\n"), "s.yaml")
		if (err != nil) != bad {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "s.yaml:4: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestBilledOfRun(t *testing.T) {
	const run = `{"schema": "cirrusbench/run/v1", "billed": {"reports": 3, "billable": 3, "cold": 1, "billed_ms": {"sum": 100, "mean": 33.333333}, "memory_mb": [{"mb": 128, "count": 3}]}}`
	if !cost.IsRun([]byte(run)) || cost.IsRun([]byte("REPORT RequestId: x")) || cost.IsRun([]byte(`{"events": []}`)) {
		t.Error("a run is not told from records")
	}
	b, memory, err := cost.BilledOfRun(strings.NewReader(run), "run.json")
	// The mean is the exact sum over the count, not the rounded mean.
	if err != nil || memory != 128 || b.Samples != 3 || b.MeanMS.Round(9).String() != "33.333333333" {
		t.Errorf("%+v, %d, %v", b, memory, err)
	}
	if _, _, err := cost.BilledOfRun(strings.NewReader(`{"schema": "cirrusbench/run/v1"}`), "run.json"); err == nil || !strings.Contains(err.Error(), "run.json: the run has no billed") {
		t.Errorf("got %v", err)
	}
}
