package stats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// comparedRun makes up a run of n requests with a median of about medianMS.
func comparedRun(t *testing.T, seed uint64, n int, medianMS float64, failEvery int) *Run {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	rec := NewRecorder()
	for i := range n {
		due := time.Duration(i) * 10 * time.Millisecond
		took := time.Duration(medianMS * 1e6 * math.Exp(0.3*rnd.NormFloat64()))
		o := Observation{Pair: PairKey{"alfa/prod", "host"}, Intended: due, Started: due, Done: due + took, Status: 204}
		if failEvery > 0 && i%failEvery == 0 {
			o.Outcome, o.Status = Failed, 503
		}
		rec.Record(o)
	}
	run := &Run{Plan: Plan{Loop: "open", RatePerS: 100, Planned: int64(n), SHA256: "p"}, Corpus: Corpus{SHA256: "c"}, Client: Client{Verdict: "valid"}}
	run.Counts.Planned = int64(n)
	if err := rec.Fill(run); err != nil {
		t.Fatal(err)
	}
	if err := run.Check(); err != nil {
		t.Fatal(err)
	}
	return run
}

func metricOf(t *testing.T, c *Comparison, name string) CompareMetric {
	t.Helper()
	for _, m := range c.Metrics {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("there is no %s", name)
	return CompareMetric{}
}

func TestCompareRuns(t *testing.T) {
	runs := []NamedRun{
		{Name: "a.json", Run: comparedRun(t, 1, 2000, 10, 0)},
		{Name: "b.json", Run: comparedRun(t, 2, 2000, 15, 20), Extra: map[string]float64{"billed_mean_ms": 70}},
		{Name: "c.json", Run: comparedRun(t, 3, 2000, 10, 0)},
	}
	c, err := CompareRuns(runs)
	if err != nil || len(c.Unlike) != 0 || len(c.Runs) != 3 {
		t.Fatalf("%v %+v", err, c)
	}
	p50 := metricOf(t, c, "p50_ms")
	if p50.Values[0].Change != nil {
		t.Error("the first run has no change")
	}
	b := p50.Values[1]
	if r := float64(b.Change.Ratio); !b.Change.Clear || r < 1.4 || r > 1.6 || b.Change.LowerRatio > b.Change.Ratio || b.Change.UpperRatio < b.Change.Ratio || b.Change.LowerRatio < 1.3 {
		t.Errorf("%+v", b.Change)
	}
	if ch := p50.Values[2].Change; ch.Clear {
		t.Errorf("equal runs differ clearly: %+v", ch)
	}
	for _, m := range c.Metrics {
		for i, v := range m.Values {
			if v.Lower.Known() && v.Value.Known() && v.Lower > v.Value || v.Upper.Known() && v.Upper < v.Value {
				t.Errorf("%s of run %d: %v is not in %v to %v", m.Name, i, v.Value, v.Lower, v.Upper)
			}
		}
	}
	errs := metricOf(t, c, "error_ratio").Values
	if errs[1].Value != 0.05 || errs[1].Lower < 0.03 || errs[1].Upper > 0.07 || errs[0].Value != 0 || errs[0].Lower != 0 || errs[1].Change != nil {
		t.Errorf("%+v", errs)
	}
	if v := metricOf(t, c, "d5_ms").Values[0]; v.Supported {
		t.Error("2,000 requests support no D5")
	}
	if v := metricOf(t, c, "d3_ms").Values[0]; !v.Supported {
		t.Error("2,000 requests support D3")
	}
	if v := metricOf(t, c, "p99_9_ms").Values[1].Change; v.Ratio < 1 || v.UpperRatio.Known() {
		t.Errorf("2,000 requests do not bound p99.9 from above: %+v", v)
	}
	if v := metricOf(t, c, "billed_mean_ms").Values; v[0].Value.Known() || v[1].Value != 70 || v[1].Change != nil {
		t.Errorf("%+v", v)
	}
	var names []string
	for _, m := range c.Metrics {
		names = append(names, m.Name)
	}
	if got := strings.Join(names[:4], " "); got != "p50_ms p90_ms p95_ms p99_ms" {
		t.Error(got)
	}
	if _, err := CompareRuns(runs[:1]); err == nil {
		t.Error("one run is compared with nothing")
	}
}

func TestCompareUnlikeRuns(t *testing.T) {
	a, b, c := comparedRun(t, 1, 100, 10, 0), comparedRun(t, 1, 100, 10, 0), comparedRun(t, 1, 100, 10, 0)
	b.Plan.SHA256, c.Corpus.SHA256 = "other", "other"
	got, err := CompareRuns([]NamedRun{{Name: "a", Run: a}, {Name: "b", Run: b}, {Name: "c", Run: c}})
	if err != nil || len(got.Unlike) != 2 || got.Unlike[0] != "b followed another plan than a" || got.Unlike[1] != "c replayed another corpus than a" {
		t.Errorf("%v %q", err, got.Unlike)
	}
	a.Pairs[0].Histogram = "no histogram"
	if _, err := CompareRuns([]NamedRun{{Name: "a", Run: a}, {Name: "b", Run: b}}); err == nil || !strings.Contains(err.Error(), "a: ") {
		t.Errorf("a broken histogram: %v", err)
	}
	// Nothing succeeded: there is nothing but counts, and no panic.
	none := comparedRun(t, 1, 10, 10, 1)
	got, err = CompareRuns([]NamedRun{{Name: "a", Run: none}, {Name: "b", Run: none}})
	if err != nil || got.Metrics[0].Name != "error_ratio" || got.Metrics[0].Values[1].Value != 1 {
		t.Errorf("%v %+v", err, got)
	}
}

func TestCompareOutputs(t *testing.T) {
	c, err := CompareRuns([]NamedRun{{Name: "a.json", Run: comparedRun(t, 1, 2000, 10, 0)}, {Name: "b\n.json", Run: comparedRun(t, 2, 2000, 15, 20)}})
	if err != nil {
		t.Fatal(err)
	}
	var bench, action, whole, again bytes.Buffer
	if err := c.WriteBenchfmt(&bench); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(bench.String()), "\n")
	results := 0
	for _, l := range lines {
		fields := strings.Fields(l)
		if strings.HasPrefix(l, "Benchmark") {
			results++
			if fields[0] != "BenchmarkReplay" || len(fields)%2 != 0 {
				t.Errorf("%q", l)
			}
		}
	}
	if results != 2 || !strings.Contains(bench.String(), "run: b_.json\nBenchmarkReplay 1900 ") || !strings.Contains(bench.String(), "Unit rate-per-s better=higher\n") {
		t.Error(bench.String())
	}
	if err := c.WriteActionBenchmark(&action); err != nil {
		t.Fatal(err)
	}
	var entries []struct {
		Name, Unit string
		Value      *float64
	}
	if err := json.Unmarshal(action.Bytes(), &entries); err != nil || len(entries) < 10 || entries[0].Name != "p50" || entries[0].Unit != "ms" || *entries[0].Value < 13 {
		t.Errorf("%v %s", err, action.String())
	}
	if strings.Contains(action.String(), "per_s") {
		t.Error("a rate is better when it is larger")
	}
	if err := c.WriteJSON(&whole); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteJSON(&again); err != nil || whole.String() != again.String() || !strings.HasPrefix(whole.String(), "{\n  \"schema\": \"cirrusbench/compare/v1\"") {
		t.Error(whole.String()[:60])
	}
}

// TestComparePairs: D2 to D5 by pair, as they are defined, with limits that need enough pairs.
func TestComparePairs(t *testing.T) {
	of := func(factor float64, pairs int) *Run {
		rec := NewRecorder()
		for p := range pairs {
			for i := range 200 {
				took := 10 * time.Millisecond
				if i >= 190 { // D2 of pair p is (p+1) ms times factor
					took += time.Duration(factor * float64(p+1) * 1e6)
				}
				rec.Record(Observation{Pair: PairKey{fmt.Sprintf("org/c%02d", p), "host"}, Done: took, Status: 204})
			}
		}
		run := &Run{Plan: Plan{Planned: int64(200 * pairs)}, Client: Client{Verdict: "valid"}}
		run.Counts.Planned = run.Plan.Planned
		if err := rec.Fill(run); err != nil {
			t.Fatal(err)
		}
		return run
	}
	c, err := CompareRuns([]NamedRun{{Name: "a", Run: of(1, 21)}, {Name: "b", Run: of(4, 21)}, {Name: "few", Run: of(1, 3)}})
	if err != nil {
		t.Fatal(err)
	}
	d2 := metricOf(t, c, "d2_pairs_median_ms").Values
	if a := d2[0]; !within(float64(a.Value), 11, 0.02) || a.Lower < 5.9 || a.Lower > 8 || a.Upper < 14 || a.Upper > 16.1 || !a.Supported {
		t.Errorf("%+v", a)
	}
	if ch := d2[1].Change; !within(float64(ch.Ratio), 4, 0.01) || !ch.Clear || ch.LowerRatio < 1.1 {
		t.Errorf("%+v", ch)
	}
	if few := d2[2]; !within(float64(few.Value), 2, 0.01) || few.Lower.Known() || few.Upper.Known() || few.Change.Clear {
		t.Errorf("three pairs bound nothing: %+v", few)
	}
	if d5 := metricOf(t, c, "d5_pairs_median_ms").Values[0]; d5.Supported {
		t.Error("200 requests of a pair support no D5")
	}
}
