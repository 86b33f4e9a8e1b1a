package stats

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// gateSample makes up 1,000 requests of which p99 is about 10 ms times factor.
func gateSample(rnd *rand.Rand, factor float64) *GateSample {
	const n = 1000
	s := &GateSample{
		Counts: Counts{Planned: n, Sent: n, OK: n}, Latency: NewPackedHistogram(), Service: NewPackedHistogram(),
		ByOrg: map[string]*Histogram{"alfa": NewPackedHistogram()}, Extra: map[string]float64{},
	}
	for range n {
		d := time.Duration(factor * 4.33e6 * math.Exp(0.36*rnd.NormFloat64()))
		_ = s.Latency.Record(d)
		_ = s.Service.Record(d)
		_ = s.ByOrg["alfa"].Record(d)
	}
	return s
}

func gateConfig(t *testing.T, metric string) GateConfig {
	t.Helper()
	m, err := ParseGateMetric(metric)
	if err != nil {
		t.Fatal(err)
	}
	return GateConfig{Rule: DefaultGateRule(), Metric: m, MaxErrorRatio: 0.01}
}

// playGate feeds blocks until the gate is done; change alters the samples of a block.
func playGate(t *testing.T, c GateConfig, factor float64, change func(block int, a, b *GateSample)) *GateResult {
	t.Helper()
	g, err := NewGate(c)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 9))
	for i := 0; !g.Done(); i++ {
		if i > 200 {
			t.Fatal("the gate never ends")
		}
		a, b := gateSample(rnd, 1), gateSample(rnd, factor)
		if change != nil {
			change(i, a, b)
		}
		g.Add(Baseline, a, b)
	}
	return g.Result()
}

// late is a load generator that is late by so many milliseconds at p99.
func late(p99MS float64) *Histogram {
	h := NewPackedHistogram()
	for i := range 100 {
		d := time.Duration(0)
		if i >= 98 {
			d = time.Duration(p99MS * 1e6)
		}
		_ = h.Record(d)
	}
	return h
}

func TestGateDecides(t *testing.T) {
	for _, c := range []struct {
		factor float64
		want   Verdict
		blocks int
	}{{1, Pass, 20}, {0.8, Pass, 10}, {2, Fail, 10}, {1.3, Fail, 10}} {
		r := playGate(t, gateConfig(t, "p99_ms"), c.factor, nil)
		if r.Verdict != c.want || r.Blocks > c.blocks || r.Blocks != len(r.Measurements) {
			t.Errorf("×%v: %s after %d blocks, %v", c.factor, r.Verdict, r.Blocks, r.Reasons)
		}
		if e := float64(r.EstimateRatio); e < 0.95*c.factor || e > 1.05*c.factor || r.LowerRatio > r.EstimateRatio || r.UpperRatio < r.EstimateRatio {
			t.Errorf("×%v: %v (%v to %v)", c.factor, e, r.LowerRatio, r.UpperRatio)
		}
		if (r.Verdict == Fail) != (len(r.Reasons) > 0) {
			t.Errorf("×%v: reasons %q", c.factor, r.Reasons)
		}
	}
}

// TestGateIsInvalid: whatever must not be judged is not, in every case for its own reason.
func TestGateIsInvalid(t *testing.T) {
	empty := func(s *GateSample) {
		*s = GateSample{Latency: NewPackedHistogram(), Service: NewPackedHistogram()}
	}
	allFailed := func(s *GateSample) {
		n := s.Counts.Sent
		empty(s)
		s.Counts = Counts{Planned: n, Sent: n, Failed: n}
	}
	three := func(s *GateSample) {
		empty(s)
		s.Counts = Counts{Planned: 3, Sent: 3, OK: 3}
		for range 3 {
			_ = s.Latency.Record(time.Millisecond)
		}
	}
	for _, c := range []struct {
		name   string
		metric string
		change func(block int, a, b *GateSample)
		reason string
	}{
		{"empty candidate", "p99_ms", func(_ int, _, b *GateSample) { empty(b) }, "the candidate was sent nothing"},
		{"empty baseline", "p99_ms", func(_ int, a, _ *GateSample) { empty(a) }, "the baseline was sent nothing"},
		{"all failed", "p99_ms", func(_ int, _, b *GateSample) { allFailed(b) }, "the candidate answered none of 1000 requests"},
		{"three", "p99_ms", func(_ int, a, _ *GateSample) { three(a) }, "the baseline has 3 successes in a block; p99_ms needs 1000 requests, 990 of them with success"},
		{"unsupported", "d5_ms", nil, "d5_ms needs 100001"},
		{"no billed time", "billed_mean_ms", nil, "does not say what it billed"},
		{"NaN", "billed_mean_ms", func(_ int, a, b *GateSample) {
			a.Reports, b.Reports = 1000, 1000
			a.Extra["billed_mean_ms"], b.Extra["billed_mean_ms"] = 5, math.NaN()
		}, "the candidate has no billed_mean_ms"},
		{"infinite", "billed_mean_ms", func(_ int, a, b *GateSample) {
			a.Reports, b.Reports = 1000, 1000
			a.Extra["billed_mean_ms"], b.Extra["billed_mean_ms"] = 5, math.Inf(1)
		}, "of which no ratio can be taken"},
		{"few reports", "duration_p99_ms", func(_ int, a, b *GateSample) {
			a.Reports, b.Reports = 1000, 989
			a.Extra["duration_p99_ms"], b.Extra["duration_p99_ms"] = 5, 5
		}, "the candidate has 989 reports of what was billed in a block; duration_p99_ms needs 1000 requests, 990 of them with a report"},
		{"coarse", "duration_p99_ms", func(_ int, a, b *GateSample) {
			a.Reports, b.Reports = 1000, 1000
			a.Extra["duration_p99_ms"], b.Extra["duration_p99_ms"] = 0.51, 0.49
		}, "the candidate has a duration_p99_ms of 0.4900 ms, too short to be told apart: it comes in steps of 0.0100 ms"},
		{"which error", "p99_ms", func(_ int, _, b *GateSample) {
			allFailed(b)
			b.Errors = []ErrorCount{{Class: "status 503", Count: 999, Example: "503: full"}, {Class: "timeout", Count: 1}}
		}, "answered none of 1000 requests with success; most often status 503: 503: full"},
		{"zero", "d2_ms", func(_ int, _, b *GateSample) {
			b.Latency = NewPackedHistogram()
			for range 1000 {
				_ = b.Latency.Record(time.Millisecond)
			}
		}, "of which no ratio can be taken"},
		{"too short", "p50_ms", func(_ int, _, b *GateSample) {
			b.Latency = NewPackedHistogram()
			for range 1000 {
				_ = b.Latency.Record(9 * time.Microsecond)
			}
		}, "too short to be told apart"},
		{"not all sent", "p99_ms", func(_ int, _, b *GateSample) { b.Counts.Planned = 1011 }, "was sent 1000 of 1011"},
		{"baseline too slow", "p99_ms", func(_ int, a, _ *GateSample) { a.LateSends = 11 }, "the baseline does not keep up"},
		{"errors", "p99_ms", func(_ int, a, b *GateSample) {
			a.Counts.Failed, b.Counts.Failed = 11, 11
			a.Counts.Sent, b.Counts.Sent = 1011, 1011
		}, "110 of 10110 requests to the baseline failed"},
		{"errors differ", "p99_ms", func(_ int, _, b *GateSample) {
			b.Counts.TimedOut, b.Counts.Sent = 1, 1001
		}, "the arms fail differently"},
		{"CPU", "p99_ms", func(_ int, a, _ *GateSample) { a.Client.CPURatio = 0.9 }, "had to be set aside: the load generator was the limit while it measured the baseline: it used 90 %"},
		{"throttled", "p99_ms", func(_ int, _, b *GateSample) { b.Client.ThrottledPeriods, b.Client.ThrottledMS = 1, 12.5 }, "throttled it for 12.5 ms"},
		{"late", "p99_ms", func(_ int, _, b *GateSample) { b.ScheduleError = late(6) }, "requests left 5.999 ms late"},
		{"not ready", "p99_ms", func(_ int, _, b *GateSample) { b.NotReady = 11 }, "11 of 1000 bodies"},
		{"one arm saturates", "p99_ms", func(i int, _, b *GateSample) {
			if i%5 < 2 {
				b.Client.CPURatio = 0.9
			}
		}, "the arms do not load it alike"},
	} {
		r := playGate(t, gateConfig(t, c.metric), 1, c.change)
		if r.Verdict != Invalid || !strings.Contains(strings.Join(r.Reasons, "\n"), c.reason) {
			t.Errorf("%s: %s %q, want %q", c.name, r.Verdict, r.Reasons, c.reason)
		}
		if err := r.WriteJSON(&bytes.Buffer{}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestGateGoesOn: what is only just within the limits does not stop a gate.
func TestGateGoesOn(t *testing.T) {
	for name, change := range map[string]func(block int, a, b *GateSample){
		"some blocks set aside": func(i int, a, b *GateSample) {
			if i%8 == 0 {
				a.Client.CPURatio = 0.9
			}
			if i%8 == 4 {
				b.Client.CPURatio = 0.9
			}
		},
		"the candidate does not keep up": func(_ int, _, b *GateSample) { b.LateSends = 500 },
		"few errors": func(_ int, a, b *GateSample) {
			a.Counts.Failed, b.Counts.Failed, a.Counts.Sent, b.Counts.Sent = 5, 5, 1005, 1005
		},
		"the baseline stalls in a block": func(i int, a, _ *GateSample) {
			if i == 3 {
				a.LateSends = 90
			}
		},
		"one error in a thousand": func(i int, _, b *GateSample) {
			if i%2 == 1 {
				return
			}
			b.Latency = NewPackedHistogram()
			for range 999 {
				_ = b.Latency.Record(20 * time.Millisecond)
			}
			b.Counts.OK, b.Counts.Failed = 999, 1
		},
		"nearly late": func(_ int, _, b *GateSample) { b.ScheduleError = late(2) },
		"999 ready":   func(_ int, _, b *GateSample) { b.NotReady = 10 },
	} {
		if r := playGate(t, gateConfig(t, "p99_ms"), 2, change); r.Verdict != Fail || r.Blocks != 10 {
			t.Errorf("%s: %s after %d, %v", name, r.Verdict, r.Blocks, r.Reasons)
		}
	}
	// Lateness of the generator is no part of the service time.
	if r := playGate(t, gateConfig(t, "service_p99_ms"), 2, func(_ int, _, b *GateSample) { b.ScheduleError = late(20) }); r.Verdict != Fail {
		t.Errorf("service time: %s %v", r.Verdict, r.Reasons)
	}
	r := playGate(t, gateConfig(t, "p99_ms"), 2, func(i int, _, b *GateSample) {
		if i == 0 {
			b.Client.CPURatio = 0.9
		}
	})
	if r.Verdict != Fail || r.Blocks != 10 || r.Discarded != 1 || r.Measurements[0].Discarded == "" || r.Arms.Candidate.OK != 10_000 {
		t.Errorf("%+v", r)
	}
}

// TestGateDilution: what the generator adds to both arms makes a change look smaller, so passing gets harder by as
// much and failing does not.
func TestGateDilution(t *testing.T) {
	rule := DefaultGateRule()
	for _, c := range []struct {
		change, dilution float64
		want             Verdict
	}{{0.04, 0, Pass}, {0.04, 0.1, Pass}, {0.04, 0.3, Inconclusive}, {0.06, 0.4, Fail}} {
		rule.Dilution = c.dilution
		if got := rule.Decide(constant(math.Log1p(c.change), 10)).Verdict; got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	r := playGate(t, gateConfig(t, "p99_ms"), 2, func(_ int, a, b *GateSample) {
		a.ScheduleError, b.ScheduleError = late(1), late(1)
	})
	if r.DilutionRatio < 0.08 || r.DilutionRatio > 0.12 {
		t.Errorf("1 ms of 10 ms is a share of %v", r.DilutionRatio)
	}
}

func TestGateByOrg(t *testing.T) {
	c := gateConfig(t, "p99_ms")
	c.ByOrg = true
	rnd := rand.New(rand.NewPCG(4, 4))
	slowBravo := func(factor float64) func(int, *GateSample, *GateSample) {
		return func(_ int, a, b *GateSample) {
			a.ByOrg["bravo"] = gateSample(rnd, 1).Latency
			b.ByOrg["bravo"] = gateSample(rnd, factor).Latency
		}
	}
	r := playGate(t, c, 1, slowBravo(2))
	if r.Verdict != Fail || len(r.Comparisons) != 2 || r.Comparisons[1].Org != "bravo" || r.Comparisons[1].Verdict != Fail ||
		r.Comparisons[0].Verdict == Fail || r.EstimateRatio != r.Comparisons[1].EstimateRatio || !strings.Contains(r.Reasons[0], "of org bravo") {
		t.Errorf("%+v", r.Comparisons)
	}
	if r := playGate(t, c, 1, slowBravo(0.8)); r.Verdict != Pass {
		t.Errorf("%s %v", r.Verdict, r.Reasons)
	}
	r = playGate(t, c, 1, func(_ int, _, b *GateSample) { delete(b.ByOrg, "alfa") })
	if r.Verdict != Invalid {
		t.Errorf("an org that one arm lacks: %s", r.Verdict)
	}
	c.Metric, _ = ParseGateMetric("service_p99_ms")
	if _, err := NewGate(c); err == nil {
		t.Error("service times are not known by org")
	}
}

func TestGateObjectives(t *testing.T) {
	for slo, want := range map[string]Verdict{
		"p99<9ms": Fail, "p99<11ms": Pass, "p99<10s,error_ratio<0.1%": Pass, "p99<11ms,p50<1ms": Fail,
	} {
		c := gateConfig(t, "p99_ms")
		var err error
		if c.Objectives, err = ParseGateObjectives(slo); err != nil {
			t.Fatal(err)
		}
		r := playGate(t, c, 1, nil)
		if r.Verdict != want || len(r.Objectives) != len(c.Objectives) {
			t.Errorf("%s: %s %v %+v", slo, r.Verdict, r.Reasons, r.Objectives)
		}
	}
}

func TestParseObjectives(t *testing.T) {
	got, err := ParseGateObjectives("p99<250ms, p99.9 < 1.5s,error_ratio<0.1%,p50<900us,error_ratio<0")
	if err != nil || len(got) != 5 || got[0].Quantile != 0.99 || got[0].Limit != 250 || got[1].Limit != 1500 || !within(got[2].Limit, 0.001, 1e-12) ||
		got[2].Quantile != 0 || got[3].Limit != 0.9 || got[4].Limit != 0 {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []string{"p99", "p98<1ms", "p99<1", "p99<ms", "p99<-1ms", "p99<NaNms", "p99<Infms", "error_ratio<200%", "error_ratio<x", "p99<0ms", "<", "p99<1ms,"} {
		if got, err := ParseGateObjectives(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
	if got, err := ParseGateObjectives(" "); err != nil || got != nil {
		t.Errorf("%v %v", got, err)
	}
}

func TestObjectiveIsJudgedByItsLimits(t *testing.T) {
	o, _ := ParseGateObjectives("error_ratio<1%,p99<100ms")
	h := NewHistogram()
	for i := range 200 {
		_ = h.Record(time.Duration(i) * time.Millisecond)
	}
	for _, c := range []struct {
		failed int64
		want   Verdict
	}{{0, Inconclusive}, {3, Inconclusive}, {10, Fail}} { // 0 of 200 does not show less than 1 %: 0.985^200 = 5 %
		if r := o[0].Judge(h, Counts{Sent: 200, Failed: c.failed}, 0.05); r.Verdict != c.want {
			t.Errorf("%d failed: %+v", c.failed, r)
		}
	}
	if r := o[0].Judge(h, Counts{Sent: 2000}, 0.05); r.Verdict != Pass {
		t.Errorf("%+v", r)
	}
	if r := o[1].Judge(h, Counts{}, 0.05); r.Verdict != Fail || r.Upper.Known() {
		t.Errorf("200 values do not bound p99 from above: %+v", r)
	}
	if r := o[1].Judge(NewHistogram(), Counts{}, 0.05); r.Verdict != Inconclusive || r.Observed.Known() {
		t.Errorf("nothing: %+v", r)
	}
}

func TestCompareStored(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	big := func(factor float64) *GateSample {
		s := gateSample(rnd, factor)
		for range 19 {
			more := gateSample(rnd, factor)
			s.Latency.Merge(more.Latency)
			s.Counts.add(&more.Counts)
		}
		return s
	}
	for _, c := range []struct {
		name   string
		a, b   *GateSample
		metric string
		want   Verdict
	}{
		{"equal, and many", big(1), big(1), "p99_ms", Pass},
		{"equal, and few", gateSample(rnd, 1), gateSample(rnd, 1), "p99_ms", Inconclusive},
		{"equal medians", big(1), big(1), "p50_ms", Pass},
		{"twice", big(1), big(2), "p99_ms", Fail},
		{"faster", big(1), big(0.7), "p99_ms", Pass},
		{"twice, d2", big(1), big(2), "d2_ms", Fail},
		{"few", big(1), gateSample(rnd, 1.1), "p99_ms", Inconclusive},
		{"unsupported", big(1), big(1), "d5_ms", Invalid},
		{"invalid run", big(1), func() *GateSample { s := big(2); s.Client.Verdict = "invalid"; return s }(), "p99_ms", Invalid},
	} {
		r, err := CompareStored(gateConfig(t, c.metric), c.a, c.b)
		if err != nil || r.Verdict != c.want || !r.Advisory {
			t.Errorf("%s: %s %v %v", c.name, r.Verdict, r.Reasons, err)
			continue
		}
		if err := r.WriteJSON(&bytes.Buffer{}); err != nil {
			t.Error(err)
		}
	}
	// Of a target that nobody reached the load generator is not said to be the limit.
	dead := big(1)
	dead.Client.Verdict, dead.Counts = "invalid", Counts{Planned: 10, Sent: 10, Failed: 10}
	if r, err := CompareStored(gateConfig(t, "p99_ms"), big(1), dead); err != nil || r.Verdict != Invalid || len(r.Reasons) != 1 ||
		!strings.Contains(r.Reasons[0], "the candidate answered none of 10 requests") {
		t.Errorf("a dead target: %+v %v", r, err)
	}
	billed := func(ms float64) *GateSample {
		s := big(1)
		s.Reports, s.Extra = s.Counts.OK, map[string]float64{"billed_mean_ms": ms}
		return s
	}
	r, err := CompareStored(gateConfig(t, "billed_mean_ms"), billed(70), billed(140))
	if err != nil || r.Verdict != Inconclusive || r.EstimateRatio != 2 || !strings.Contains(r.Reasons[0], "differs by +100.0 %, and a stored run does not say") {
		t.Errorf("a mean without limits: %+v %v", r, err)
	}
}

func TestGateJSON(t *testing.T) {
	c := gateConfig(t, "p99_ms")
	c.Self, c.Goal = true, 0.2
	r := playGate(t, c, 1, nil)
	var b, again bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteJSON(&again); err != nil || b.String() != again.String() {
		t.Error("two writes differ")
	}
	var m map[string]any
	if err := json.Unmarshal(b.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"verdict", "reasons", "metric", "estimate_ratio", "lower_ratio", "upper_ratio", "tolerance_ratio", "blocks", "minimum_detectable_ratio", "goal", "detectable"} {
		if m[key] == nil {
			t.Errorf("%s is missing", key)
		}
	}
	var back GateResult
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back.Goal.Blocks < 5 || len(back.Detectable) != 3 {
		t.Errorf("%+v %v", back.Goal, err)
	}
	if !strings.HasPrefix(b.String(), "{\n  \"schema\": \"cirrusbench/gate/v1\"") || !strings.HasSuffix(b.String(), "}\n") {
		t.Error(b.String()[:80])
	}
	var n GateNumber
	if err := json.Unmarshal([]byte("null"), &n); err != nil || n.Known() {
		t.Errorf("%v %v", n, err)
	}
}

// TestStoppedGateIsInvalid: an interrupt is no verdict.
func TestStoppedGateIsInvalid(t *testing.T) {
	g, err := NewGate(gateConfig(t, "p99_ms"))
	if err != nil {
		t.Fatal(err)
	}
	g.Stop("interrupted")
	if r := g.Result(); r.Verdict != Invalid || r.Reasons[0] != "interrupted" || r.EstimateRatio.Known() {
		t.Errorf("%+v", r)
	}
	g.Stop("again")
	if r := g.Result(); r.Reasons[0] != "interrupted" {
		t.Error(r.Reasons)
	}
}

// TestGateMoney: what a target bills decides like any other number, and stays a decimal where it is printed.
func TestGateMoney(t *testing.T) {
	bill := func(factor float64) func(int, *GateSample, *GateSample) {
		return func(i int, a, b *GateSample) {
			a.Reports, b.Reports = 1000, 1000
			a.Extra[CostMetric], b.Extra[CostMetric] = 0.3, 0.3*factor*(1+0.001*float64(i%3))
			a.CostPerMillion, b.CostPerMillion = "0.30", "0.36"
		}
	}
	for factor, want := range map[float64]Verdict{1.2: Fail, 1: Pass, 0.5: Pass} {
		r := playGate(t, gateConfig(t, CostMetric), 1, bill(factor))
		if r.Verdict != want || r.Measurements[0].Candidate.CostPerMillion != "0.36" || r.Measurements[0].Candidate.Value.Known() {
			t.Errorf("×%v: %s %v %+v", factor, r.Verdict, r.Reasons, r.Measurements[0])
		}
	}
}

// TestGateNeeds: errors that are allowed do not void a block, and what a percentile needs is never waived but by name.
func TestGateNeeds(t *testing.T) {
	for _, c := range []struct {
		metric        string
		maxErrors     float64
		planned, need int64
	}{
		{"p99_ms", 0.01, 1000, 990},
		{"p99_ms", 0, 1000, 1000},
		{"p99_ms", 1, 1000, 101},
		{"d3_ms", 0.01, 1001, 1001},
		{"d5_ms", 0.01, 100_001, 100_001},
		{"p50_ms", 0.01, 20, 20},
		{"duration_p99_ms", 0.01, 1000, 990},
	} {
		m, err := ParseGateMetric(c.metric)
		if err != nil || m.Needs() != c.planned || m.needsOK(c.maxErrors) != c.need {
			t.Errorf("%+v: %d %d %v", c, m.Needs(), m.needsOK(c.maxErrors), err)
		}
		if lax := m.WithoutSupport(); lax.Needs() != 1 || lax.needsOK(0.01) != 1 {
			t.Errorf("%s is still refused", c.metric)
		}
	}
}

// TestGateAllowsUnsupportedByName: without it a D5 of 1,000 requests is INVALID, with it the result says so.
func TestGateAllowsUnsupportedByName(t *testing.T) {
	c := gateConfig(t, "d5_ms")
	c.Metric = c.Metric.WithoutSupport()
	if r := playGate(t, c, 3, nil); !r.Unsupported || r.Verdict != Fail {
		t.Errorf("%s %v %v", r.Verdict, r.Unsupported, r.Reasons)
	}
	c = gateConfig(t, "p99_ms")
	c.Metric = c.Metric.WithoutSupport()
	if r := playGate(t, c, 2, nil); r.Unsupported {
		t.Error("1,000 requests support a p99")
	}
}

// TestGatePools: what stands for all blocks of an arm is the percentile of all their requests, and no mean of the blocks'
// percentiles: of 99 × 1 ms and one of 1 s, and of 100 × 1 ms, the 198th of 200 is 1 ms.
func TestGatePools(t *testing.T) {
	c := gateConfig(t, "p50_ms")
	g, err := NewGate(c)
	if err != nil {
		t.Fatal(err)
	}
	for block := range 2 {
		samples := make([]*GateSample, 2)
		for i := range samples {
			s := &GateSample{Counts: Counts{Planned: 100, Sent: 100, OK: 100}, Latency: NewPackedHistogram(), Service: NewPackedHistogram()}
			for k := range 100 {
				d := time.Millisecond
				if block == 0 && k == 0 {
					d = time.Second
				}
				_ = s.Latency.Record(d)
				_ = s.Service.Record(d)
			}
			samples[i] = s
		}
		g.Add(Baseline, samples[0], samples[1])
	}
	l := g.Result().Arms.Candidate.Latency
	if l.Count != 200 || !within(l.P99MS, 1, 0.001) || l.MaxMS != 1000 || !within(l.MeanMS, (199+1000)/200., 0.01) {
		t.Errorf("%+v", l)
	}
	h, err := g.Result().Arms.Candidate.Histogram.Decode()
	if err != nil || h.Count() != 200 || h.Quantiles(0.99)[0] != l.P99MS {
		t.Errorf("the histogram that is saved: %v", err)
	}
}

// TestGateUnits: 70 ms are 70 in every number of milliseconds, and 1 in every ratio.
func TestGateUnits(t *testing.T) {
	c := gateConfig(t, "p99_ms")
	c.Objectives, _ = ParseGateObjectives("p99<0.071s")
	r := playGate(t, c, 1, func(_ int, a, b *GateSample) {
		for _, s := range []*GateSample{a, b} {
			s.Latency, s.Service = NewPackedHistogram(), NewPackedHistogram()
			for range 1000 {
				_ = s.Latency.Record(70 * time.Millisecond)
				_ = s.Service.Record(70 * time.Millisecond)
			}
		}
	})
	arm, block, slo := &r.Arms.Baseline, &r.Measurements[0].Candidate, r.Objectives[0]
	for name, ms := range map[string]float64{
		"pooled p50": arm.Latency.P50MS, "pooled p99.999": arm.Latency.P99999MS, "service max": arm.Service.MaxMS, "mean": arm.Latency.MeanMS,
		"block p50": block.P50MS, "block p99": block.P99MS, "value": float64(block.Value),
		"objective": float64(slo.Observed), "its lower limit": float64(slo.Lower), "its upper limit": float64(slo.Upper),
	} {
		if ms < 69.9 || ms > 70.1 {
			t.Errorf("%s is %v ms", name, ms)
		}
	}
	if slo.Limit != 71 || r.EstimateRatio != 1 || r.LowerRatio != 1 || r.UpperRatio != 1 || r.Verdict != Pass {
		t.Errorf("%s %+v %v %v %v", r.Verdict, slo, r.EstimateRatio, r.LowerRatio, r.UpperRatio)
	}
}

// FuzzParseGateObjectives: whatever is written there, a limit is a positive finite number of a known thing.
func FuzzParseGateObjectives(f *testing.F) {
	for _, s := range []string{"p99<250ms", "p99.999<1s,error_ratio<0.1%", "error_ratio<0", "p50<1e400ms", "p99<", ",", "p99<=5µs", "p99<0x1p-2ms", "error_ratio<1_0%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParseGateObjectives(s)
		if err != nil {
			if list != nil {
				t.Error("an error, and objectives")
			}
			return
		}
		for _, o := range list {
			if !(o.Limit >= 0) || math.IsInf(o.Limit, 0) || o.Quantile < 0 || o.Quantile >= 1 || o.Quantile == 0 && o.Limit > 1 || o.Quantile > 0 && o.Limit == 0 {
				t.Errorf("%q: %+v", s, o)
			}
		}
	})
}
