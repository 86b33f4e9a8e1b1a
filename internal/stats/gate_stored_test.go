package stats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	run, s, err := ReadStored(bytes.NewReader(data), "baseline.json", false)
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
	if _, _, err := ReadStored(bytes.NewReader(data), "baseline.json", true); err == nil || !strings.Contains(err.Error(), "baseline.json is the result of a gate, which does not hold what each org measured") {
		t.Errorf("by org: %v", err)
	}
	// Keys in another order, as other programs write them: the schema comes late.
	var keys map[string]any
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := ReadStored(bytes.NewReader(sorted), "baseline.json", false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(run, again); diff != "" {
		t.Errorf("with sorted keys it is (-want +got):\n%s", diff)
	}
}

// sameSample compares what a gate takes from two samples.
func sameSample(tb testing.TB, want, got *GateSample) {
	tb.Helper()
	see := func(s *GateSample) any {
		seen := struct {
			Rest  GateSample
			Parts map[string]string
		}{*s, map[string]string{}}
		seen.Rest.Latency, seen.Rest.Service, seen.Rest.ScheduleError, seen.Rest.ByOrg = nil, nil, nil, nil
		parts := map[string]*Histogram{"latency": s.Latency, "service": s.Service, "schedule error": s.ScheduleError}
		for org, h := range s.ByOrg {
			parts["org "+org] = h
		}
		for name, h := range parts {
			if h == nil {
				continue
			}
			encoded, err := encodeHistogram(h)
			if err != nil {
				tb.Fatal(err)
			}
			seen.Parts[name] = fmt.Sprint(encoded)
		}
		return seen
	}
	if diff := cmp.Diff(see(want), see(got)); diff != "" {
		tb.Errorf("the sample differs (-want +got):\n%s", diff)
	}
}

// TestStoredRunIsSampledAsAtOnce: reading a run file in pieces makes the sample of the whole run.
func TestStoredRunIsSampledAsAtOnce(t *testing.T) {
	all := plannedRequests(rand.New(rand.NewPCG(3, 3)), 900)
	for i := 850; i < len(all); i++ { // some leave late
		all[i].Started, all[i].Done = all[i].Started+5*time.Second, all[i].Done+5*time.Second
	}
	whole := runOf(t, all, -1, 0, 0)
	want, err := NewGateSample(whole)
	if err != nil {
		t.Fatal(err)
	}
	if want.LateSends == 0 || len(want.ByOrg) != 1 || want.ScheduleError == nil || want.Service.Count() == 0 {
		t.Fatalf("the run is no test: %+v", want)
	}
	for _, byOrg := range []bool{false, true} {
		run, got, err := ReadStored(strings.NewReader(runJSON(t, whole)), "run.json", byOrg)
		if err != nil {
			t.Fatal(err)
		}
		want := want
		if !byOrg {
			want.ByOrg = nil
		}
		sameSample(t, &want, &got)
		if len(run.Pairs)+len(run.Timeline)+len(run.Deltas.Pairs) > 0 {
			t.Error("the lists are still there")
		}
		rest := *whole
		deltas := *whole.Deltas
		rest.Pairs, rest.Timeline, deltas.Pairs, rest.Deltas = []RunPair{}, []TimelinePoint{}, []PairDeltas{}, &deltas
		if diff := cmp.Diff(&rest, run); diff != "" {
			t.Errorf("but for the lists it is (-want +got):\n%s", diff)
		}
	}
	for want, spoil := range map[string]func(*Run){
		"reading the run's histograms: pair": func(r *Run) { r.Pairs[0].Histogram = "x" },
		"the run is PARTIAL":                 func(r *Run) { r.Pairs[0].Histogram, r.Merged = "x", &Merged{Partial: true} },
		"reading the run's service times":    func(r *Run) { r.Histograms.Service.Histogram = "x" },
		"contradicts itself":                 func(r *Run) { r.Pairs[0].Histogram, r.Counts.OK = "x", 1 },
	} {
		bad := runOf(t, all, -1, 0, 0)
		spoil(bad)
		if _, _, err := ReadStored(strings.NewReader(runJSON(t, bad)), "run.json", false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// TestStoredGateKeepsNoRun: what reading a run file holds on to does not grow with the file.
func TestStoredGateKeepsNoRun(t *testing.T) {
	h := NewPackedHistogram()
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		if err := h.Record(time.Duration(20e6 * math.Exp(0.7*rnd.NormFloat64()))); err != nil {
			t.Fatal(err)
		}
	}
	p, err := newRunPair(PairKey{Destination: "host"}, h)
	if err != nil {
		t.Fatal(err)
	}
	const pairs = 2500
	all := pairs * h.Count()
	run := &Run{
		Latency: Latency{Count: all}, Service: Latency{Count: all}, Client: Client{Verdict: "valid"},
		Counts: Counts{Planned: all, Sent: all, OK: all}, Deltas: &Deltas{Used: all},
	}
	for i := range pairs {
		p.Source = fmt.Sprintf("org/%d", i)
		run.Pairs = append(run.Pairs, p)
		run.Deltas.Pairs = append(run.Deltas.Pairs, PairDeltas{Source: p.Source, Destination: p.Destination})
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := run.WriteJSON(file); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	live := func() int64 {
		runtime.GC()
		runtime.GC() // what is in a sync.Pool survives one
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		return int64(mem.HeapAlloc)
	}
	size, looked, grown := int64(0), int64(0), int64(math.MinInt64)
	before := live()
	_, s, err := ReadStored(readerFunc(func(p []byte) (int, error) {
		n, err := file.Read(p)
		if size += int64(n); size > looked+1<<20 {
			looked = size
			grown = max(grown, live()-before)
		}
		return n, err
	}), "run.json", true)
	if err != nil || s.Latency.Count() != all {
		t.Fatal(err)
	}
	if size < 8<<20 || looked < size/2 || grown > 1<<20 {
		t.Errorf("reading a file of %d bytes takes %d bytes", size, grown)
	}
	t.Logf("%d bytes of %d", grown, size)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

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
		"no number": {[]byte(`{"schema": "cirrusbench/gate/v1", "arms": {"candidate": {"sent": "x"}}}`), "x.json:1: the file is not a run file: arms.candidate.sent: a string"},
		"no arms":   {[]byte(`{"schema": "cirrusbench/gate/v1"}`), ""},
		"empty":     {nil, "the file is empty"},
		"other":     {[]byte(`{"schema": "cirrusbench/deltas/v1"}`), "the schema is"},
	} {
		_, s, err := ReadStored(bytes.NewReader(c.data), "x.json", false)
		if err == nil && name == "no arms" { // it holds nothing, which the gate itself refuses
			r, compareErr := CompareStored(gateConfig(t, "p99_ms"), &s, &s)
			if compareErr != nil || r.Verdict != Invalid {
				t.Errorf("%s: %v", name, compareErr)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "x.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReadStored: nothing that can be read makes a comparison panic or pass on nothing, and a run file is read as by
// ReadRun.
func FuzzReadStored(f *testing.F) {
	f.Add([]byte(`{"schema": "cirrusbench/gate/v1"}`))
	f.Add([]byte(`{"schema": "cirrusbench/gate/v1", "verdict": "PASS", "arms": {"candidate": {"sent": 1, "ok": 1, "latency": {"count": 1}, "service": {"count": 1}}}}`))
	f.Add([]byte(`{"schema": "cirrusbench/run/v1"}`))
	f.Add([]byte(`{"schema": "cirrusbench/run/v1", "plan": {"loop": "open", "rate_per_s": 1, "planned": 2}, "timeline": [{"t_s": 99999999999}, {"t_s": -5}]}`))
	f.Add([]byte(runJSON(f, exampleRun(f))))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, s, err := ReadStored(bytes.NewReader(in), "x", true)
		// What a file of runs has no use for may be anything where a gate's key stands.
		if run, runErr := ReadRun(bytes.NewReader(in), "x"); runErr == nil && !bytes.Contains(in, []byte("arms")) && !bytes.Contains(in, []byte("verdict")) {
			want, wantErr := NewGateSample(run)
			if fmt.Sprint(wantErr) != fmt.Sprint(err) {
				t.Fatalf("the error is %v and that of the whole run %v", err, wantErr)
			}
			if err == nil {
				sameSample(t, &want, &s)
			}
		}
		m, _ := ParseGateMetric("p50_ms")
		for _, byOrg := range []bool{false, true} {
			_, s, err := ReadStored(bytes.NewReader(in), "x", byOrg)
			if err != nil {
				continue
			}
			r, err := CompareStored(GateConfig{Rule: DefaultGateRule(), Metric: m, MaxErrorRatio: 0.01, ByOrg: byOrg}, &s, &s)
			if err == nil && r.Verdict == Pass && s.Latency.Count() < 20 {
				t.Errorf("%d latencies pass", s.Latency.Count())
			}
		}
	})
}
