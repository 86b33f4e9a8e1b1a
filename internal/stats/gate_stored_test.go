package stats

import (
	"bytes"
	"strings"
	"testing"
)

// savedGate is the file that a gate leaves behind.
func savedGate(t *testing.T, factor float64, change func(*GateResult)) []byte {
	t.Helper()
	r := playGate(t, gateConfig(t, "p99_ms"), factor, func(_ int, _, b *GateSample) {
		b.Errors = []ErrorCount{{Class: "timeout", Count: 1}}
		b.Counts.TimedOut, b.Counts.Sent, b.Counts.Planned = 0, 1000, 1000
	})
	r.Arms.Candidate.ErrorClasses = nil
	if change != nil {
		change(r)
	}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestSavedGateIsABaseline: what a gate saved is compared with later as what its candidate measured, exactly.
func TestSavedGateIsABaseline(t *testing.T) {
	data := savedGate(t, 2, func(r *GateResult) { r.Plan.SHA256, r.Corpus.SHA256 = "p", "c" })
	run, err := ReadStored(bytes.NewReader(data), "baseline.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewGateSample(run)
	if err != nil || s.Counts.OK != 10_000 || s.Latency.Count() != 10_000 || run.Plan.SHA256 != "p" || run.Corpus.SHA256 != "c" {
		t.Fatalf("%v %+v", err, s.Counts)
	}
	if got := s.Latency.Quantiles(0.99)[0]; !within(got, run.Latency.P99MS, 1e-6) || got < 15 || got > 25 {
		t.Errorf("p99 is %v", got)
	}
	same, err := CompareStored(gateConfig(t, "p50_ms"), &s, &s)
	if err != nil || same.Verdict != Pass || !same.Advisory {
		t.Errorf("%+v %v", same, err)
	}
}

func TestBadSavedGates(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"invalid":   {savedGate(t, 1, func(r *GateResult) { r.Verdict = Invalid }), "was INVALID"},
		"counts":    {savedGate(t, 1, func(r *GateResult) { r.Arms.Candidate.OK-- }), "contradicts itself"},
		"histogram": {savedGate(t, 1, func(r *GateResult) { r.Arms.Candidate.Histogram.Histogram = "x" }), "contradicts itself"},
		"of another": {savedGate(t, 1, func(r *GateResult) {
			r.Arms.Candidate.Latency.Count, r.Arms.Candidate.OK, r.Arms.Candidate.Sent = 3, 3, 3
		}), "contradicts itself"},
		"negative":  {savedGate(t, 1, func(r *GateResult) { r.Arms.Candidate.Errors, r.Arms.Candidate.Sent = -1, 9_999 }), "contradicts itself"},
		"no number": {[]byte(`{"schema": "cirrusbench/gate/v1", "blocks": "x"}`), "x.json:1:"},
		"no arms":   {[]byte(`{"schema": "cirrusbench/gate/v1"}`), ""},
		"empty":     {nil, "the file is empty"},
		"other":     {[]byte(`{"schema": "cirrusbench/deltas/v1"}`), "the schema is"},
	} {
		run, err := ReadStored(bytes.NewReader(c.data), "x.json")
		if err == nil && name == "no arms" { // it holds nothing, which the gate itself refuses
			s, sampleErr := NewGateSample(run)
			r, compareErr := CompareStored(gateConfig(t, "p99_ms"), &s, &s)
			if sampleErr != nil || compareErr != nil || r.Verdict != Invalid {
				t.Errorf("%s: %v %v", name, sampleErr, compareErr)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "x.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReadStored: nothing that can be read makes a comparison panic or pass on nothing.
func FuzzReadStored(f *testing.F) {
	f.Add([]byte(`{"schema": "cirrusbench/gate/v1"}`))
	f.Add([]byte(`{"schema": "cirrusbench/gate/v1", "verdict": "PASS", "arms": {"candidate": {"sent": 1, "ok": 1, "latency": {"count": 1}, "service": {"count": 1}}}}`))
	f.Add([]byte(`{"schema": "cirrusbench/run/v1"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		run, err := ReadStored(bytes.NewReader(in), "x")
		if err != nil {
			return
		}
		s, err := NewGateSample(run)
		if err != nil {
			return
		}
		m, _ := ParseGateMetric("p50_ms")
		for _, byOrg := range []bool{false, true} {
			r, err := CompareStored(GateConfig{Rule: DefaultGateRule(), Metric: m, MaxErrorRatio: 0.01, ByOrg: byOrg}, &s, &s)
			if err == nil && r.Verdict == Pass && s.Latency.Count() < 20 {
				t.Errorf("%d latencies pass", s.Latency.Count())
			}
		}
	})
}
