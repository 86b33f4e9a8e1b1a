package stats

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

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
		"errors", "warmup_errors", "achieved", "latency", "service", "schedule_error", "failed_latency", "warmup_latency", "deltas", "pairs",
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
		"cut off":       {valid[:len(valid)/2], "run.json:", strings.Count(valid[:len(valid)/2], "\n") + 1},
		"two objects":   {valid + valid, fmt.Sprintf("run.json:%d: the file is not a run file: a second document follows its end", strings.Count(valid, "\n")+1), strings.Count(valid, "\n") + 1},
		"behind it":     {valid + "x", fmt.Sprintf("run.json:%d: the file is not a run file: something follows its end", strings.Count(valid, "\n")+1), strings.Count(valid, "\n") + 1},
		"in a list":     {"{\"schema\":\"cirrusbench/run/v1\",\n\"timeline\": [\n{\"t_s\": 1},\n{\"ok\":\n\"x\",\n\"sent\": 1}]}", "run.json:5: the file is not a run file: timeline.ok: a string stands where a number does", 5},
		"no list":       {"{\"schema\":\"cirrusbench/run/v1\",\n\"pairs\":\n{}}", "run.json:3: the file is not a run file", 3},
		"syntax":        {"{\"schema\":\"cirrusbench/run/v1\",\n\"timeline\": [\n{\"t_s\": 1},\n{\"ok\":\n=,\n\"sent\": 1}]}", "run.json:5: the file is not a run file: invalid character '='", 5},
		"no comma":      {"{\"schema\":\"cirrusbench/run/v1\"\n\"pairs\":[]}", "run.json:2: the file is not a run file", 2},
		"twice":         {"{\"schema\":\"cirrusbench/run/v1\",\n\"pairs\":[],\n\"pairs\":[]}", `run.json:3: the file is not a run file: the key "pairs" is there twice`, 3},
		"gzip":          {"\x1f\x8b\x08\x00", "run.json:1: the file is not a run file: it does not begin with {", 1},
		"not a whole":   {"{\"schema\":\"cirrusbench/run/v1\",\n\"counts\":\n{\"sent\":\n1.5}}", "run.json:4: the file is not a run file: counts.sent: 1.5 is not written as a whole number", 4},
		"too large":     {"{\"schema\":\"cirrusbench/run/v1\",\n\"counts\": {\"sent\": 99999999999999999999}}", "run.json:2: the file is not a run file: counts.sent: 99999999999999999999 is out of range", 2},
		"NaN":           {"{\"schema\":\"cirrusbench/run/v1\",\n\"plan\":{\"rate_per_s\":NaN}}", "run.json:2: the file is not a run file: invalid character 'N'", 2},
		"infinite":      {"{\"schema\":\"cirrusbench/run/v1\",\n\"plan\":{\"rate_per_s\":1e999}}", "run.json:2: the file is not a run file: plan.rate_per_s: 1e999 is out of range", 2},
		"digits":        {"{\"schema\":\"cirrusbench/run/v1\",\n\"plan\":{\"rate_per_s\":1" + strings.Repeat("0", 9999) + "}}", "run.json:2: the file is not a run file: plan.rate_per_s: 1000", 2},
		"long string":   {"{\"schema\":\"cirrusbench/run/v1\",\n\"started_at\":\"" + strings.Repeat("é", 9999) + "\"}", "run.json:2: the file is not a run file: started_at: parsing time", 2},
		"string":        {"{\"schema\":\"cirrusbench/run/v1\",\n\"pairs\":\"" + strings.Repeat("x", 9999) + "\"}", "run.json:2: the file is not a run file: pairs: a string stands where a list does", 2},
		"long schema":   {"{\"schema\":\"" + strings.Repeat("x", 9999) + "\"}", "run.json: the schema is \"xxx", 0},
		"no time":       {"{\"schema\":\"cirrusbench/run/v1\",\n\"started_at\":5}", "run.json:2: the file is not a run file: started_at: ", 2},
		"deep":          {"{\"schema\":\"cirrusbench/run/v1\",\n\"x\":" + strings.Repeat("[", 100_000) + "}", "run.json:2: the file is not a run file: a value is nested too deeply", 2},
		"deltas":        {"{\"schema\":\"cirrusbench/run/v1\",\n\"deltas\":[]}", "run.json:2: the file is not a run file: deltas: a list stands where an object does", 2},
		"delta":         {"{\"schema\":\"cirrusbench/run/v1\",\n\"deltas\":{\"pairs\":[\n{},\n{\"source\":1}]}}", "run.json:4: the file is not a run file: deltas.pairs.source: a number stands where a string does", 4},
		"no deltas":     {"{\"schema\":\"cirrusbench/run/v1\",\n\"deltas\":{\"pairs\":5}}", "run.json:2: the file is not a run file: deltas.pairs: a number stands where a list does", 2},
		"twice inside":  {"{\"schema\":\"cirrusbench/run/v1\",\n\"deltas\":{\"used\":0,\n\"used\":0}}", `run.json:3: the file is not a run file: the key "deltas.used" is there twice`, 3},
		"edited":        {strings.Replace(valid, `"not_sent": 3`, `"not_sent": 4`, 1), "run.json: the file contradicts itself: checking the run: planned = sent + not_sent", 0},
	} {
		t.Run(name, func(t *testing.T) {
			run, err := ReadRun(strings.NewReader(c.in), "run.json")
			e, ok := errors.AsType[*InputError](err)
			if !ok || run != nil {
				t.Fatalf("got %v, %v; want an InputError", run, err)
			}
			if len(e.Error()) > 500 || !utf8.ValidString(e.Error()) {
				t.Errorf("an error of %d bytes: %.600s", len(e.Error()), e)
			}
			if !strings.HasPrefix(e.Error(), c.want) || c.line > 0 && e.Line != c.line || e.Hint == "" {
				t.Errorf("error %q at line %d, hint %q; want %q", e, e.Line, e.Hint, c.want)
			}
		})
	}
	_, err := readRun(strings.NewReader(valid), "run.json", runLimits{100, maxValueBytes})
	if e, ok := errors.AsType[*InputError](err); !ok || !strings.Contains(e.Error(), "larger than 100 bytes") {
		t.Errorf("over the limit: %v", err)
	}
	for name, file := range map[string]string{
		"string": "{\"x\": 1,\n\"later\": \"" + strings.Repeat("x", 100_000) + "\"}",
		"list":   "{\"x\": 1,\n\"errors\": [" + strings.Repeat("{},", 50_000) + "{}]}",
		"blanks": "{\"x\": 1," + strings.Repeat(" ", 100_000) + "\n\"y\": 2}",
	} {
		_, err := readRun(strings.NewReader(file), "run.json", runLimits{maxRunBytes, 50_000})
		if e, ok := errors.AsType[*InputError](err); !ok || e.Line < 1 || e.Line > 2 || !strings.Contains(e.Error(), "a value is larger than 50000 bytes") {
			t.Errorf("a large %s: %v", name, err)
		}
	}
	if _, err := readRun(strings.NewReader(valid), "run.json", runLimits{int64(len(valid)), int64(len(valid)) / 2}); err != nil {
		t.Errorf("a file of twice the size of what may be in memory: %v", err)
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
	for _, spoil := range []func(*Run){
		func(r *Run) { r.Pairs[1].Latency.P99MS = math.NaN() },
		func(r *Run) { r.Timeline[len(r.Timeline)-1].P50MS = math.Inf(1) },
	} {
		run, b := exampleRun(t), new(strings.Builder)
		spoil(run)
		if err := run.WriteJSON(b); err == nil || b.Len() > 0 {
			t.Errorf("a number that is none: %v, and %d bytes were written", err, b.Len())
		}
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

// readRunAtOnce is what ReadRun should make of a file: all of it in memory, by the decoder of the library.
func readRunAtOnce(in []byte) (*Run, error) {
	run := new(Run)
	if err := json.Unmarshal(in, run); err != nil {
		return nil, err
	}
	run.normalize()
	return run, run.Check()
}

// otherCase tells whether a key of the file is one of a run but for its case, which the library takes for the same.
func otherCase(in []byte) bool {
	var keys map[string]json.RawMessage
	if json.Unmarshal(in, &keys) != nil {
		return false
	}
	var deltas map[string]json.RawMessage
	if json.Unmarshal(keys["deltas"], &deltas) != nil {
		deltas = nil
	}
	return otherCaseThan(new(Run).fields(), keys) || otherCaseThan(new(Deltas).fields(), deltas)
}

func otherCaseThan(fields map[string]any, keys map[string]json.RawMessage) bool {
	for key := range keys {
		if _, ok := fields[key]; ok {
			continue
		}
		for known := range fields {
			if strings.EqualFold(key, known) {
				return true
			}
		}
	}
	return false
}

// TestRunReaderKnowsEveryKey: a key that the reader forgets would be lost without a word.
func TestRunReaderKnowsEveryKey(t *testing.T) {
	for _, c := range []struct {
		kind   reflect.Type
		fields map[string]any
	}{{reflect.TypeFor[Run](), new(Run).fields()}, {reflect.TypeFor[Deltas](), new(Deltas).fields()}} {
		for f := range c.kind.Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if _, ok := c.fields[key]; !ok {
				t.Errorf("%s of %v is not read", key, c.kind)
			}
		}
		if n := c.kind.NumField(); len(c.fields) != n {
			t.Errorf("%d keys are read of %d of %v", len(c.fields), n, c.kind)
		}
	}
	for name, run := range map[string]*Run{"example": exampleRun(t), "empty": {}} {
		file := runJSON(t, run)
		want, err := readRunAtOnce([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadRun(strings.NewReader(file), "run.json")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s is read otherwise than at once (-want +got):\n%s", name, diff)
		}
	}
}

// TestRunIsWrittenAsAtOnce: the file is that of the encoder of the library, byte for byte.
func TestRunIsWrittenAsAtOnce(t *testing.T) {
	odd := exampleRun(t)
	odd.Labels = map[string]string{"a": "\n  \"pairs\": []", "pairs": "", "timeline": "<&>"}
	odd.Pairs[0].Source = "\n  \"timeline\": [] <&> \u2028"
	odd.Billed = json.RawMessage("{\n  \"pairs\": [],\n  \"timeline\": []}")
	one := exampleRun(t)
	one.Pairs, one.Timeline = one.Pairs[:1], nil
	for name, run := range map[string]*Run{"example": exampleRun(t), "odd": odd, "one": one, "empty": {}} {
		file := *run
		file.Schema = RunSchema
		file.normalize()
		var want strings.Builder
		if err := writeJSON(&want, &file); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), runJSON(t, run)); diff != "" {
			t.Errorf("%s is written otherwise than at once (-want +got):\n%s", name, diff)
		}
	}
}

func FuzzReadRun(f *testing.F) {
	f.Add([]byte(runJSON(f, exampleRun(f))))
	f.Add([]byte(`{"schema":"cirrusbench/run/v1"}`))
	f.Add([]byte(`{"schema":"cirrusbench/run/v1","started_at":"9999-12-31T23:59:59-23:00","billed":[1, "x"],"pairs":[{"histogram":"AAAA"}]}`))
	f.Add([]byte(`{"pairs":null,"timeline":[{"t_s":-1}],"deltas":{"pairs":[{"source":"a"}],"later":[[]],"used":0},"later":1,"later":2,"schema":"cirrusbench/run/v1"}`))
	f.Add([]byte("{\"schema\":\"cirrusbench/run/v1\",\n\"counts\":{\"sent\":1e3}}{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		run, err := ReadRun(strings.NewReader(string(in)), "fuzz")
		if err != nil {
			if e, ok := errors.AsType[*InputError](err); !ok || e.Hint == "" {
				t.Fatalf("%v is no InputError with a hint", err)
			}
			return
		}
		first := runJSON(t, run)
		if want, err := readRunAtOnce(in); !otherCase(in) && (err != nil || runJSON(t, want) != first) {
			t.Fatalf("it is read otherwise than at once, which ends with %v", err)
		}
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
