package stats

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"
)

// plannedRequests makes up requests of a plan, of which any split must add up to the same.
func plannedRequests(rnd *rand.Rand, n int) []Observation {
	all := make([]Observation, n)
	for i := range all {
		due := time.Duration(i) * 37 * time.Millisecond
		o := Observation{
			Pair: PairKey{fmt.Sprintf("org/%d", rnd.IntN(4)), "host"}, Intended: due, Started: due + time.Duration(rnd.IntN(90_000)),
			Samples: 100, SamplesWritten: 100, Bytes: int64(rnd.IntN(5000)), Status: 204, Warmup: rnd.IntN(20) == 0,
		}
		o.Done = o.Started + time.Duration(float64(3*time.Millisecond)*rnd.ExpFloat64()*rnd.ExpFloat64()*10)
		switch rnd.IntN(15) {
		case 0:
			o.Outcome, o.Status, o.SamplesWritten, o.ErrorExample = Failed, 503, 0, "full"
		case 1:
			o.Outcome, o.Status, o.SamplesWritten, o.ErrorExample = TimedOut, 0, 0, "late"
		}
		all[i] = o
	}
	return all
}

// runOf makes the run of the given requests; index < 0 is the whole plan.
func runOf(t *testing.T, all []Observation, index, total int, planned int64) *Run {
	t.Helper()
	rec := NewRecorder()
	for _, o := range all {
		rec.Record(o)
		if !o.Warmup {
			rec.RecordScheduleError(o.Started - o.Intended)
		}
	}
	r := &Run{
		Schema: RunSchema, StartedAt: time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC), FinishedAt: time.Date(2026, 11, 20, 18, 5, 0, 0, time.UTC),
		Plan:   Plan{Loop: "open", Arrival: "constant", Timing: "rate", RatePerS: 27, MaxInFlight: 10, SHA256: "plan"},
		Corpus: Corpus{Location: "bundled", SHA256: "corpus"}, Target: Target{URL: "http://x", Kind: "http"}, Client: Client{Verdict: "valid"},
		Labels: map[string]string{"all": "same"},
	}
	if err := rec.Fill(r); err != nil {
		t.Fatal(err)
	}
	r.Counts.Planned = r.Counts.Sent
	r.Plan.Planned, r.Plan.Warmup = r.Counts.Sent, r.Counts.Warmup
	if index >= 0 {
		from, to := rec.Span()
		r.Plan.Shard = &Shard{Index: index, Total: total, By: "request", PlannedAll: planned, FromMS: toMS(from), ToMS: toMS(to)}
		r.Labels["index"] = strconv.Itoa(index)
	}
	// As a file, since that is what is merged.
	var b strings.Builder
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	read, err := ReadRun(strings.NewReader(b.String()), "run.json")
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// mergeRuns adds up runs as files, in the order given.
func mergeRuns(runs []NamedRun, missing map[int]string) (*Run, error) {
	m := NewMerger()
	for _, r := range runs {
		var b strings.Builder
		if err := r.Run.WriteJSON(&b); err != nil {
			return nil, err
		}
		if _, err := m.Add(strings.NewReader(b.String()), r.Name); err != nil {
			return nil, err
		}
	}
	return m.Merge(missing)
}

// TestMergedShardsAreTheRun splits made-up runs at random and adds the parts up in a random order: nothing may differ
// from the run that was never split.
func TestMergedShardsAreTheRun(t *testing.T) {
	const seed = 5
	rnd := rand.New(rand.NewPCG(seed, 2))
	for round := range 12 {
		all := plannedRequests(rnd, 50+rnd.IntN(600))
		whole := runOf(t, all, -1, 0, 0)
		total := 1 + rnd.IntN(6)
		parts := make([][]Observation, total)
		for _, o := range all {
			i := rnd.IntN(total)
			parts[i] = append(parts[i], o)
		}
		var runs []NamedRun
		for i, p := range parts {
			runs = append(runs, NamedRun{Name: fmt.Sprintf("%d.json", i), Run: runOf(t, p, i, total, whole.Counts.Sent)})
		}
		rnd.Shuffle(total, func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
		merged, err := mergeRuns(runs, nil)
		if err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		if merged.Merged.Partial || len(merged.Merged.Parts) != total || merged.Whole() != nil {
			t.Fatalf("seed %d, round %d: %+v", seed, round, merged.Merged)
		}
		merged.Merged = nil
		if total == 1 {
			delete(merged.Labels, "index") // a label that all of the one shard share
		}
		whole.Client = merged.Client
		if diff := cmp.Diff(whole, merged); diff != "" {
			t.Fatalf("seed %d, round %d: %d shards added up differ from the run (-run +merged):\n%s", seed, round, total, diff)
		}
	}
}

// TestMergeNeverAverages: p99 of two shards is that of all their requests.
func TestMergeNeverAverages(t *testing.T) {
	shard := func(index int, slow bool) NamedRun {
		var all []Observation
		for i := range 100 {
			took := time.Millisecond
			if slow && i == 50 {
				took = time.Second
			}
			all = append(all, Observation{Pair: PairKey{"a", "b"}, Done: took, Status: 204})
		}
		return NamedRun{Name: strconv.Itoa(index), Run: runOf(t, all, index, 2, 200)}
	}
	merged, err := mergeRuns([]NamedRun{shard(0, true), shard(1, false)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l := merged.Latency; l.P99MS > 1.001 || l.MaxMS != 1000 || l.Count != 200 {
		t.Errorf("one of 200 requests took a second, and p99 is %v of %+v", l.P99MS, l)
	}
}

func TestMergeRefuses(t *testing.T) {
	all := plannedRequests(rand.New(rand.NewPCG(1, 1)), 200)
	for name, c := range map[string]struct {
		spoil func(r *Run)
		says  string
	}{
		"plan":     {func(r *Run) { r.Plan.SHA256 = "x" }, "another plan"},
		"corpus":   {func(r *Run) { r.Corpus.SHA256 = "x" }, "another corpus"},
		"target":   {func(r *Run) { r.Target.URL = "http://y" }, "configured otherwise"},
		"order":    {func(r *Run) { r.Plan.Order = "none" }, "configured otherwise"},
		"version":  {func(r *Run) { r.Tool.Version = "v9" }, "configured otherwise"},
		"split":    {func(r *Run) { r.Plan.Shard.By = "source" }, "split otherwise"},
		"number":   {func(r *Run) { r.Plan.Shard.Total = 5 }, "split otherwise"},
		"barrier":  {func(r *Run) { r.Plan.Shard.T0 = time.Unix(9, 0) }, "another barrier"},
		"twice":    {func(r *Run) { r.Plan.Shard.Index = 0 }, "there twice"},
		"too many": {func(r *Run) { r.Plan.Shard.Total = 1 << 40 }, "no shard 1 of"},
		"no such":  {func(r *Run) { r.Plan.Shard.Index = 2 }, "no shard 2 of 2"},
		"no shard": {func(r *Run) { r.Plan.Shard = nil }, "not a shard"},
		"sum":      {func(r *Run) { r.Plan.Planned++; r.Counts.Planned++; r.Counts.NotSent++ }, "the plan has"},
		"geometry": {func(r *Run) { r.Pairs[0].Histogram = otherGeometry(t) }, "can be merged"},
		"no seconds": {func(r *Run) {
			r.Timeline[slices.IndexFunc(r.Timeline, func(p TimelinePoint) bool { return p.OK > 0 })].Histogram = ""
		}, "no histogram of this second"},
	} {
		t.Run(name, func(t *testing.T) {
			var sent int64
			for _, o := range all {
				if !o.Warmup {
					sent++
				}
			}
			runs := []NamedRun{{Name: "a", Run: runOf(t, all[:100], 0, 2, sent)}, {Name: "b", Run: runOf(t, all[100:], 1, 2, sent)}}
			if _, err := mergeRuns(slices.Clone(runs), nil); err != nil {
				t.Fatal(err)
			}
			c.spoil(runs[1].Run)
			_, err := mergeRuns(runs, nil)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	if _, err := mergeRuns(nil, nil); err == nil {
		t.Error("merging nothing is no error")
	}
}

func otherGeometry(t *testing.T) string {
	t.Helper()
	h := hdr.NewPacked(1, 1_000_000_000, 2)
	if err := h.RecordValue(5); err != nil {
		t.Fatal(err)
	}
	encoded, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

func TestInterruptedShardMakesPartial(t *testing.T) {
	all := plannedRequests(rand.New(rand.NewPCG(1, 1)), 100)
	a, b := runOf(t, all[:50], 0, 2, 100), runOf(t, all[50:], 1, 2, 100)
	b.Interrupted = true
	a.Plan.Shard.PlannedAll, b.Plan.Shard.PlannedAll = a.Counts.Sent+b.Counts.Sent+7, a.Counts.Sent+b.Counts.Sent+7
	b.Counts.Planned, b.Counts.NotSent, b.Plan.Planned = b.Counts.Planned+7, 7, b.Plan.Planned+7
	merged, err := mergeRuns([]NamedRun{{Name: "a", Run: a}, {Name: "b", Run: b}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !merged.Merged.Partial || !merged.Interrupted || merged.Counts.NotSent != 7 || !errors.Is(merged.Whole(), ErrPartial) {
		t.Errorf("%+v %+v", merged.Merged, merged.Counts)
	}
	if _, err := NewGateSample(merged); !errors.Is(err, ErrPartial) {
		t.Errorf("a gate takes it: %v", err)
	}
}

// BenchmarkMerge reads and adds up shards of an hour each, 8 requests a second.
func BenchmarkMerge(b *testing.B) {
	const shards, seconds, perSecond = 4, 3600, 8
	var files []string
	size := 0
	for i := range shards {
		rec := recordSeconds(seconds, perSecond)
		r := &Run{Schema: RunSchema, Plan: Plan{Loop: "open", Planned: seconds * perSecond, Shard: &Shard{Index: i, Total: shards, By: "source", PlannedAll: shards * seconds * perSecond, ToMS: 3.6e6}}, Client: Client{Verdict: "valid"}}
		if err := rec.Fill(r); err != nil {
			b.Fatal(err)
		}
		r.Counts.Planned = r.Counts.Sent
		var file strings.Builder
		if err := r.WriteJSON(&file); err != nil {
			b.Fatal(err)
		}
		size += file.Len()
		files = append(files, file.String())
	}
	b.ReportAllocs()
	for b.Loop() {
		m := NewMerger()
		for i, file := range files {
			if _, err := m.Add(strings.NewReader(file), strconv.Itoa(i)); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := m.Merge(nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size)/shards/seconds, "B/second-of-file")
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/shards*1000, "ms/shard-hour")
}

func TestManyMissingShardsAreCounted(t *testing.T) {
	r := runOf(t, plannedRequests(rand.New(rand.NewPCG(1, 1)), 30), 70, 100, 5000)
	merged, err := mergeRuns([]NamedRun{{Name: "a", Run: r}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(merged.Merged.Reasons); n != maxAbsent+1 || merged.Merged.Reasons[n-1] != "79 more shards are missing" {
		t.Errorf("%d reasons, the last %q", n, merged.Merged.Reasons[n-1])
	}
}

// TestMergerAfterAnError: what was added in part is no result.
func TestMergerAfterAnError(t *testing.T) {
	good := runJSON(t, runOf(t, plannedRequests(rand.New(rand.NewPCG(1, 1)), 50), 0, 1, 0))
	for name, bad := range map[string]string{
		"cut":     good[:len(good)*9/10],
		"edited":  strings.Replace(good, `"not_sent": 0`, `"not_sent": 1`, 1),
		"no run":  "{}",
		"damaged": strings.Replace(good, `"histogram": "H`, `"histogram": "X`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMerger()
			if _, err := m.Add(strings.NewReader(bad), "bad"); err == nil || !strings.HasPrefix(err.Error(), "bad:") {
				t.Fatalf("the error is %v", err)
			}
			if _, err := m.Add(strings.NewReader(good), "good"); err != nil {
				t.Fatal(err)
			}
			if run, err := m.Merge(nil); err == nil {
				t.Errorf("there is a result: %+v", run.Counts)
			}
		})
	}
}

func TestMergerSaysWhatIsTooLarge(t *testing.T) {
	good := runJSON(t, runOf(t, plannedRequests(rand.New(rand.NewPCG(1, 1)), 50), 0, 1, 0))
	_, err := NewMerger().add(strings.NewReader(good), "a.json", runLimits{int64(len(good) - 1), maxValueBytes})
	e, ok := errors.AsType[*InputError](err)
	if !ok || e.Msg != fmt.Sprintf("the file is larger than %d bytes, the most that is read of a run file", len(good)-1) || !strings.Contains(e.Hint, "more shards") {
		t.Errorf("the error is %v with the hint %q", err, e.Hint)
	}
	if _, err := NewMerger().add(strings.NewReader(good), "a.json", runLimits{int64(len(good)), maxValueBytes}); err != nil {
		t.Errorf("a file of just the limit: %v", err)
	}
	if CheckRunSize("a", maxRunBytes) != nil || CheckRunSize("a", maxRunBytes+1) == nil {
		t.Error("the limit is not what it is for a reader")
	}
}

// TestMergerKeepsNoRun: what a merge holds does not grow with the number of shards, but for some KB of each.
func TestMergerKeepsNoRun(t *testing.T) {
	const few, many, seconds, perSecond = 3, 33, 200, 40
	r := &Run{Schema: RunSchema, Plan: Plan{Loop: "open", Planned: seconds * perSecond, Shard: &Shard{Total: many, By: "source", ToMS: 2e5}}, Client: Client{Verdict: "valid"}}
	if err := recordSeconds(seconds, perSecond).Fill(r); err != nil {
		t.Fatal(err)
	}
	r.Counts.Planned = r.Counts.Sent
	m := NewMerger()
	size := 0
	add := func(index int) {
		r.Plan.Shard.Index = index
		file := runJSON(t, r)
		size = len(file)
		if _, err := m.Add(strings.NewReader(file), strconv.Itoa(index)); err != nil {
			t.Fatal(err)
		}
	}
	live := func() int {
		runtime.GC()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		return int(mem.HeapAlloc)
	}
	for i := range few {
		add(i)
	}
	before := live()
	for i := few; i < many; i++ {
		add(i)
	}
	if grown := live() - before; grown > size {
		t.Errorf("%d more shards with files of %d bytes take %d bytes", many-few, size, grown)
	}
	run, err := m.Merge(nil)
	if err != nil || run.Counts.OK != many*seconds*perSecond || run.Merged.Partial {
		t.Fatalf("%+v, %v", run, err)
	}
}
