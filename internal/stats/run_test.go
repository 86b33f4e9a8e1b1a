package stats

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// exampleRun is a small run with everything in it.
func exampleRun(tb testing.TB) *Run {
	tb.Helper()
	r := NewRecorder()
	for _, o := range observations(40, 60) {
		r.Record(o)
		if !o.Warmup {
			r.RecordScheduleError(o.Started - o.Intended)
		}
	}
	run := filled(tb, r)
	run.Tool = Tool{"1.2.3", "0123abc"}
	run.StartedAt = time.Date(2026, 11, 20, 19, 25, 1, 500_000_000, time.FixedZone("CET", 3600))
	run.FinishedAt = run.StartedAt.Add(time.Second)
	run.Labels = map[string]string{"branch": "main", "arch": "arm64"}
	run.Plan = Plan{
		Loop: "open", Arrival: "poisson", Timing: "rate", RatePerS: 100, MaxInFlight: 64,
		Planned: run.Counts.Planned, Warmup: run.Counts.Warmup, Seed: 1<<63 + 1, SHA256: "feed",
	}
	run.Corpus = Corpus{"./data?a<b>&c", 10, 200_000, 5000, "beef"}
	run.Target = Target{"http://127.0.0.1:9201/api/v1/write", "embedded"}
	run.Client = Client{CPURatio: 0.25, GCPauseMaxMS: 0.1, ScheduleErrorP99MS: run.ScheduleError.P99MS, Verdict: "valid"}
	run.Billed = json.RawMessage(`{"records":1,"billed_ms":{"sum":70}}`)
	return run
}

func TestRunGolden(t *testing.T) {
	run := exampleRun(t)
	got := runJSON(t, run)
	golden(t, "run.golden.json", got)
	if again := runJSON(t, exampleRun(t)); again != got {
		t.Error("the same run gives other bytes")
	}
	back, err := ReadRun(strings.NewReader(got), "run.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, runJSON(t, back)); diff != "" {
		t.Errorf("what was read is written differently (-want +got):\n%s", diff)
	}
	if back.Plan.Seed != 1<<63+1 || !back.StartedAt.Equal(run.StartedAt) || back.StartedAt.Location() != time.UTC {
		t.Errorf("seed %d, started at %v", back.Plan.Seed, back.StartedAt)
	}
}

func TestRunPairDecode(t *testing.T) {
	p := exampleRun(t).Pairs[0]
	h, err := p.Decode()
	if err != nil || h.Latency() != p.Latency {
		t.Fatalf("got %v, %v", h, err)
	}
	p.Count++
	if h, err := p.Decode(); err == nil || h != nil || !strings.Contains(err.Error(), `pair "cluster-0" to "endpoint": the histogram holds`) {
		t.Errorf("another count: got %v, %v", h, err)
	}
	p.Histogram = ""
	if h, err := p.Decode(); err == nil || h != nil {
		t.Errorf("no histogram: got %v", h)
	}
}

// The keys that scripts rely on, in their order.
func TestRunKeys(t *testing.T) {
	var keys []string
	d := json.NewDecoder(strings.NewReader(runJSON(t, exampleRun(t))))
	depth := 0
	for isKey := false; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case json.Delim:
			if token == '{' || token == '[' {
				depth++
			} else {
				depth--
			}
			isKey = depth == 1
		case string:
			if depth == 1 && isKey {
				keys = append(keys, token)
				isKey = false
				continue
			}
			isKey = depth == 1
		default:
			isKey = depth == 1
		}
	}
	want := []string{
		"schema", "tool", "started_at", "finished_at", "labels", "interrupted", "plan", "corpus", "target", "counts", "statuses",
		"errors", "achieved", "latency", "service", "schedule_error", "failed_latency", "warmup_latency", "deltas", "pairs",
		"timeline", "client", "billed", "histograms",
	}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What a shard's file holds is enough to merge shards without loss.
func TestRunHistogramsMergeExactly(t *testing.T) {
	whole := NewRecorder()
	latency, service := NewHistogram(), NewHistogram()
	for shard := range uint64(3) {
		r := NewRecorder()
		for _, o := range observations(50+shard, 300) {
			r.Record(o)
			whole.Record(o)
		}
		run, err := ReadRun(strings.NewReader(runJSON(t, filled(t, r))), "shard.json")
		if err != nil {
			t.Fatal(err)
		}
		for i := range run.Pairs {
			h, err := run.Pairs[i].Decode()
			if err != nil {
				t.Fatal(err)
			}
			latency.Merge(h)
		}
		h, err := run.Histograms.Service.Decode()
		if err != nil {
			t.Fatal(err)
		}
		service.Merge(h)
	}
	want := filled(t, whole)
	if latency.Latency() != want.Latency || service.Latency() != want.Service {
		t.Errorf("merged %+v and %+v, want %+v and %+v", latency.Latency(), service.Latency(), want.Latency, want.Service)
	}
}

func TestRunCheck(t *testing.T) {
	if err := exampleRun(t).Check(); err != nil {
		t.Fatal(err)
	}
	if err := new(Run).Check(); err != nil {
		t.Errorf("a run of nothing: %v", err)
	}
	for want, change := range map[string]func(*Run){
		"planned = sent + not_sent":                     func(r *Run) { r.Counts.Planned++ },
		"sent = ok + failed + timed_out":                func(r *Run) { r.Counts.OK-- },
		"latency.count = ok":                            func(r *Run) { r.Latency.Count++ },
		"service.count = ok":                            func(r *Run) { r.Service.Count++ },
		"failed_latency.count = failed + timed_out":     func(r *Run) { r.FailedLatency = nil },
		"warmup_latency.count = warmup":                 func(r *Run) { r.Counts.Warmup-- },
		"sum of pairs.count = ok":                       func(r *Run) { r.Pairs = r.Pairs[1:] },
		"sum of errors.count = failed + timed_out":      func(r *Run) { r.Errors[0].Count++ },
		"deltas.used = ok":                              func(r *Run) { r.Deltas.Used-- },
		"sum of timeline.sent = sent":                   func(r *Run) { r.Timeline[0].Sent++ },
		"sum of timeline.ok = ok":                       func(r *Run) { r.Timeline[0].OK++ },
		"sum of timeline.failed = failed + timed_out":   func(r *Run) { r.Timeline[0].Failed++ },
		"bytes_sent is -1":                              func(r *Run) { r.Counts.BytesSent = -1 },
		"ok is 9223372036854775807":                     func(r *Run) { r.Counts.OK = math.MaxInt64 },
		"1 latencies are negative":                      func(r *Run) { r.Counts.LatencyNegative = 1 },
		"finished_at is no time after started_at":       func(r *Run) { r.FinishedAt = r.StartedAt.Add(-1) },
		"started_at is in the year 10000":               func(r *Run) { r.StartedAt = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"sum of pairs.count = ok does not hold: -1 is ": func(r *Run) { r.Pairs[0].Count = math.MaxInt64; r.Pairs[1].Count = math.MaxInt64 },
	} {
		t.Run(want, func(t *testing.T) {
			run := exampleRun(t)
			change(run)
			err := run.Check()
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestReadRunRefuses(t *testing.T) {
	valid := runJSON(t, exampleRun(t))
	for name, c := range map[string]struct {
		in, want string
		line     int
	}{
		"empty":         {"", "run.json: the file is empty", 0},
		"blank":         {" \n", "run.json: the file is empty", 0},
		"no JSON":       {"hello", "run.json:1: the file is not a run file", 1},
		"list":          {"[]", "run.json:1: the file is not a run file", 1},
		"no schema":     {"{}", "run.json: the file has no schema", 0},
		"other schema":  {`{"schema":"cirrusbench/deltas/v1"}`, `run.json: the schema is "cirrusbench/deltas/v1" and not`, 0},
		"later version": {`{"schema":"cirrusbench/run/v2"}`, `run.json: the schema is "cirrusbench/run/v2" and not`, 0},
		"wrong type":    {"{\"schema\":\"cirrusbench/run/v1\",\n\"counts\":\n[]}", "run.json:3: the file is not a run file", 3},
		"cut off":       {valid[:len(valid)/2], "run.json:", 0},
		"two objects":   {valid + valid, "run.json:", 0},
		"edited":        {strings.Replace(valid, `"not_sent": 3`, `"not_sent": 4`, 1), "run.json: the file contradicts itself: checking the run: planned = sent + not_sent", 0},
	} {
		t.Run(name, func(t *testing.T) {
			run, err := ReadRun(strings.NewReader(c.in), "run.json")
			e, ok := errors.AsType[*InputError](err)
			if !ok || run != nil {
				t.Fatalf("got %v, %v; want an InputError", run, err)
			}
			if !strings.HasPrefix(e.Error(), c.want) || c.line > 0 && e.Line != c.line || e.Hint == "" {
				t.Errorf("error %q at line %d, hint %q; want %q", e, e.Line, e.Hint, c.want)
			}
		})
	}
	_, err := readRun(strings.NewReader(valid), "run.json", 100)
	if e, ok := errors.AsType[*InputError](err); !ok || !strings.Contains(e.Error(), "larger than 100 bytes") {
		t.Errorf("over the limit: %v", err)
	}
	broken := errors.New("cable pulled")
	if _, err := ReadRun(iotest.ErrReader(broken), "run.json"); !errors.Is(err, broken) {
		t.Errorf("failing reader: %v", err)
	}
}

// A bare run with unknown keys is a run: later versions may add keys.
func TestReadRunFillsIn(t *testing.T) {
	run, err := ReadRun(strings.NewReader(`{"schema":"cirrusbench/run/v1","later":{"x":1},"billed":null,"deltas":{"pairs":null}}`), "run.json")
	if err != nil {
		t.Fatal(err)
	}
	got := runJSON(t, run)
	for _, want := range []string{`"statuses": {}`, `"errors": []`, `"pairs": []`, `"timeline": []`, `"reasons": []`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "null") || strings.Contains(got, "started_at") {
		t.Errorf("unexpected null or time in\n%s", got)
	}
}

func TestWriteJSONErrors(t *testing.T) {
	run := exampleRun(t)
	run.Client.CPURatio = math.NaN()
	if err := run.WriteJSON(io.Discard); err == nil || !strings.HasPrefix(err.Error(), "writing the run: ") {
		t.Errorf("NaN: %v", err)
	}
	full := errors.New("disk full")
	if err := exampleRun(t).WriteJSON(failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("failing writer: %v", err)
	}
	d := DeltasFromHistograms(nil)
	if err := d.WriteJSON(failingWriter{full}, Tool{}); !errors.Is(err, full) {
		t.Errorf("failing writer: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestWriteJSONLeavesTheRunAlone(t *testing.T) {
	deltas := &Deltas{Method: DeltaHDR}
	run := &Run{Deltas: deltas, Timeline: slices.Clone([]TimelinePoint(nil))}
	_ = runJSON(t, run)
	if run.Schema != "" || run.Statuses != nil || deltas.Pairs != nil {
		t.Errorf("writing changed the run: %+v", run)
	}
}

func FuzzReadRun(f *testing.F) {
	f.Add([]byte(runJSON(f, exampleRun(f))))
	f.Add([]byte(`{"schema":"cirrusbench/run/v1"}`))
	f.Add([]byte(`{"schema":"cirrusbench/run/v1","started_at":"9999-12-31T23:59:59-23:00","billed":[1, "x"],"pairs":[{"histogram":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		run, err := ReadRun(strings.NewReader(string(in)), "fuzz")
		if err != nil {
			if e, ok := errors.AsType[*InputError](err); !ok || e.Hint == "" {
				t.Fatalf("%v is no InputError with a hint", err)
			}
			return
		}
		first := runJSON(t, run)
		again, err := ReadRun(strings.NewReader(first), "fuzz")
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if runJSON(t, again) != first {
			t.Fatal("what was read again is written differently")
		}
		for i := range run.Pairs {
			_, _ = run.Pairs[i].Decode()
		}
	})
}
