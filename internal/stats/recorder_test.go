package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// observations is a run of n requests with every outcome, the same for the same
// seed.
func observations(seed uint64, n int) []Observation {
	rng := rand.New(rand.NewPCG(seed, 2))
	latencies := heavyTailed(seed, n)
	out := make([]Observation, n)
	for i := range out {
		intended := time.Duration(i) * 10 * time.Millisecond
		started := intended + time.Duration(rng.IntN(1000))*time.Microsecond
		o := Observation{
			Pair:     PairKey{fmt.Sprint("cluster-", rng.IntN(4)), "endpoint"},
			Intended: intended, Started: started, Done: started + latencies[i],
			Status: 204, Samples: 500, SamplesWritten: 500, Bytes: 20_000 + int64(i),
			Retries: rng.IntN(20) / 19,
			Warmup:  i < n/10,
		}
		switch rng.IntN(20) {
		case 0:
			o.Outcome, o.Status, o.SamplesWritten = Failed, 429, 0
			o.ErrorExample = fmt.Sprint("too many requests ", i)
		case 1:
			o.Outcome, o.Status, o.SamplesWritten, o.ErrorClass = Failed, 0, 0, "connection_reset"
			o.ErrorExample = "read: connection reset by peer"
		case 2:
			o.Outcome, o.Status, o.SamplesWritten = TimedOut, 0, 0
		}
		out[i] = o
	}
	return out
}

func filled(tb testing.TB, r *Recorder) *Run {
	tb.Helper()
	var run Run
	run.Counts.Planned = r.Counts().Sent + 3
	run.Counts.NotSent = 3
	if err := r.Fill(&run); err != nil {
		tb.Fatal(err)
	}
	return &run
}

func runJSON(tb testing.TB, run *Run) string {
	tb.Helper()
	var b strings.Builder
	if err := run.WriteJSON(&b); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func TestRecorderKeepsOutcomesApart(t *testing.T) {
	r := NewRecorder()
	key := PairKey{"c", "e"}
	ms := time.Millisecond
	at := func(second, latency time.Duration, o Observation) {
		o.Pair, o.Intended, o.Started, o.Done = key, second, second+ms, second+latency
		r.Record(o)
	}
	at(0, 999*ms, Observation{Warmup: true, Status: 500, Outcome: Failed, Samples: 1, Bytes: 1, Retries: 1, ErrorClass: "x"})
	at(0, 100*ms, Observation{Status: 204, Samples: 10, SamplesWritten: 10, Bytes: 7, Retries: 2})
	at(time.Second, 200*ms, Observation{Status: 204, Samples: 10, SamplesWritten: 9, Bytes: 7})
	at(time.Second, 5*ms, Observation{Outcome: Failed, Status: 429, Samples: 10, Bytes: 7})
	at(2*time.Second, 10*time.Second, Observation{Outcome: TimedOut, Samples: 10, Bytes: 7})
	at(3*time.Second, 5*ms, Observation{Outcome: Failed, Samples: 10, Bytes: 7})
	at(3*time.Second, 5*ms, Observation{Outcome: 77, ErrorClass: "odd", Samples: 10, Bytes: 7})
	r.RecordScheduleError(40 * time.Microsecond)
	r.RecordScheduleError(-60 * time.Microsecond)

	run := filled(t, r)
	wantCounts := Counts{
		Planned: 9, NotSent: 3, Sent: 6, OK: 2, Failed: 3, TimedOut: 1, Retried: 2,
		SamplesSent: 60, SamplesWritten: 19, BytesSent: 42, Warmup: 1,
	}
	if diff := cmp.Diff(wantCounts, run.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if l := run.Latency; l.Count != 2 || l.MinMS != 100 || l.MaxMS != 200 || l.MeanMS != 150 {
		t.Errorf("latency %+v", l)
	}
	if s := run.Service; s.Count != 2 || s.MinMS != 99 || s.MaxMS != 199 {
		t.Errorf("service %+v", s)
	}
	if f := run.FailedLatency; f == nil || f.Count != 4 || f.MinMS != 5 || f.MaxMS != 10_000 {
		t.Errorf("failed latency %+v", f)
	}
	if w := run.WarmupLatency; w == nil || w.Count != 1 || w.MaxMS != 999 {
		t.Errorf("warm-up latency %+v", w)
	}
	if s := run.ScheduleError; s.Count != 2 || s.MinMS != 0.04 || s.MaxMS != 0.06 {
		t.Errorf("schedule error %+v", s)
	}
	if diff := cmp.Diff(map[string]int64{"204": 2, "429": 1}, run.Statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	wantErrors := []ErrorCount{{"odd", 1, ""}, {"status_429", 1, ""}, {"timeout", 1, ""}, {"unknown", 1, ""}}
	if diff := cmp.Diff(wantErrors, run.Errors); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]ErrorCount{{"x", 1, ""}}, run.WarmupErrors); diff != "" {
		t.Errorf("errors of the warm-up (-want +got):\n%s", diff)
	}
	wantTimeline := make([]TimelinePoint, 13)
	for i := range wantTimeline {
		wantTimeline[i].TS = int64(i)
		if i >= 2 && i < 12 {
			wantTimeline[i].InFlight = 1
		}
	}
	wantTimeline[0] = TimelinePoint{TS: 0, Sent: 1, OK: 1, P50MS: 100, P99MS: 100, MaxMS: 100, MinMS: 100, Histogram: run.Timeline[0].Histogram}
	wantTimeline[1] = TimelinePoint{TS: 1, Sent: 2, OK: 1, Failed: 1, P50MS: 200, P99MS: 200, MaxMS: 200, MinMS: 200, Histogram: run.Timeline[1].Histogram}
	wantTimeline[2].Sent = 1
	wantTimeline[3].Sent, wantTimeline[3].Failed = 2, 2
	wantTimeline[12].Failed = 1
	if diff := cmp.Diff(wantTimeline, run.Timeline); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
	if want := (Achieved{RatePerS: 0.5, SamplesPerS: 19.0 / 12, DurationMS: 12_000}); run.Achieved != want {
		t.Errorf("achieved %+v, want %+v", run.Achieved, want)
	}
	if len(run.Pairs) != 1 || run.Pairs[0].Key() != key || run.Pairs[0].Latency != run.Latency {
		t.Errorf("pairs %+v", run.Pairs)
	}
	if err := run.Check(); err != nil {
		t.Error(err)
	}
}

// Any sharding over workers, merged in any grouping, gives the same bytes as one
// recorder.
func TestRecorderMergeIsExact(t *testing.T) {
	all := observations(30, 3000)
	one := NewRecorder()
	for _, o := range all {
		one.Record(o)
		one.RecordScheduleError(o.Started - o.Intended)
	}
	want := runJSON(t, filled(t, one))
	rng := rand.New(rand.NewPCG(31, 32))
	for round, n := range []int{1, 2, 3, 6, 16} {
		workers := make([]*Recorder, n)
		for i := range workers {
			if workers[i] = NewRecorder(); i%2 == 1 {
				workers[i] = NewDenseRecorder()
			}
		}
		for _, i := range rng.Perm(len(all)) {
			w := workers[rng.IntN(len(workers))]
			w.Record(all[i])
			w.RecordScheduleError(all[i].Started - all[i].Intended)
		}
		for len(workers) > 1 {
			i, j := 0, 1+rng.IntN(len(workers)-1)
			if rng.IntN(2) == 0 {
				i, j = j, i
			}
			workers[i].Merge(workers[j])
			workers = slices.Delete(workers, j, j+1)
		}
		workers[0].Merge(nil)
		workers[0].Merge(NewRecorder())
		if got := runJSON(t, filled(t, workers[0])); got != want {
			t.Fatalf("round %d: merged workers differ from one recorder:\n%s", round, cmp.Diff(want, got))
		}
	}
}

// TestRecordingTakesNoMemory: what ten million requests leave behind is no more than what one million do.
func TestRecordingTakesNoMemory(t *testing.T) {
	for name, r := range map[string]*Recorder{"packed": NewRecorder(), "dense": NewDenseRecorder()} {
		rng := rand.New(rand.NewPCG(8, 9))
		record := func(n int) uint64 {
			for range n {
				// Up to some seconds, 20 pairs, one minute.
				at := time.Duration(rng.Int64N(int64(time.Minute)))
				r.Record(Observation{
					Pair: PairKey{Source: "s", Destination: "abcdefghijklmnopqrst"[rng.IntN(20):][:1]}, Intended: at, Started: at,
					Done: at + time.Duration(1e6*math.Exp(rng.NormFloat64())), Status: 204,
				})
			}
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		n := 1_000_000
		if raceEnabled {
			n = 100_000 // the race detector makes it ten times as slow
		}
		first := record(n)
		last := record(9 * n)
		// Rare latencies still open new buckets, of a dozen bytes each.
		if last > first+4<<20 {
			t.Errorf("%s: %d bytes after %d requests, %d after ten times as many", name, first, n, last)
		}
		if r.Counts().OK != int64(10*n) {
			t.Errorf("%s: %+v", name, r.Counts())
		}
	}
}

func TestRecorderMergeSharesNothing(t *testing.T) {
	a, b := NewRecorder(), NewRecorder()
	for _, o := range observations(33, 200) {
		b.Record(o)
	}
	before := runJSON(t, filled(t, b))
	a.Merge(b)
	for _, o := range observations(34, 200) {
		a.Record(o)
	}
	if runJSON(t, filled(t, b)) != before {
		t.Error("recording into the merged recorder changed the one merged")
	}
}

// Every field of Counts takes part in a merge, those added later too.
func TestCountsAdd(t *testing.T) {
	var a, b Counts
	set := func(c *Counts, base int64) {
		v := reflect.ValueOf(c).Elem()
		for i := range v.NumField() {
			v.Field(i).SetInt(base * int64(i+1))
		}
	}
	set(&a, 1)
	set(&b, 100)
	a.add(&b)
	var want Counts
	set(&want, 101)
	if diff := cmp.Diff(want, a); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRecorderNegativeAndOverflow(t *testing.T) {
	r := NewRecorder()
	r.Record(Observation{Intended: 0, Started: 0, Done: 25 * time.Hour})
	run := filled(t, r)
	if run.Counts.LatencyOverflow != 2 || run.Latency.MaxMS != 90_000_000 {
		t.Errorf("overflow %d (latency and service), max %v ms", run.Counts.LatencyOverflow, run.Latency.MaxMS)
	}
	if err := run.Check(); err != nil {
		t.Error(err)
	}
	r.Record(Observation{Intended: time.Second, Started: time.Second, Done: 0})
	if err := filled(t, r).Check(); err == nil || !strings.Contains(err.Error(), "negative") {
		t.Errorf("Check with a negative latency: %v", err)
	}
}

func TestFillFromNothing(t *testing.T) {
	run := filled(t, NewRecorder())
	if run.Latency != (Latency{}) || run.FailedLatency != nil || run.Achieved != (Achieved{}) || len(run.Deltas.Pairs) != 0 {
		t.Errorf("got %+v", run)
	}
	run.Schema = RunSchema
	if _, err := ReadRun(strings.NewReader(runJSON(t, run)), "run.json"); err != nil {
		t.Error(err)
	}
}

func TestRecorderTimelineIsBounded(t *testing.T) {
	r := NewRecorder()
	r.Record(Observation{Intended: -time.Second, Started: -time.Second, Done: time.Millisecond})
	r.Record(Observation{Done: 1 << 62})
	if n := len(r.timeline); n != 2 {
		t.Fatalf("%d seconds, want 2", n)
	}
	if r.timeline[0].sent != 2 || r.timeline[maxTimelineSeconds-1].ok != 1 {
		t.Errorf("first %+v, last %+v", r.timeline[0], r.timeline[maxTimelineSeconds-1])
	}
}

func TestErrorExamples(t *testing.T) {
	fail := func(r *Recorder, done time.Duration, example string) {
		r.Record(Observation{Outcome: Failed, ErrorClass: "e", ErrorExample: example, Done: done})
	}
	a, b := NewRecorder(), NewRecorder()
	fail(a, 5*time.Second, "late")
	fail(b, time.Second, "early")
	fail(b, time.Second, "earl")
	fail(b, 9*time.Second, "last")
	for _, order := range [][2]*Recorder{{a, b}, {b, a}} {
		r := NewRecorder()
		r.Merge(order[0])
		r.Merge(order[1])
		if got := filled(t, r).Errors; len(got) != 1 || got[0] != (ErrorCount{"e", 4, "earl"}) {
			t.Errorf("got %+v, want the earliest, first by name", got)
		}
	}
	r := NewRecorder()
	fail(r, 0, "x"+strings.Repeat("é", maxExampleBytes))
	got := filled(t, r).Errors[0].Example
	if !utf8.ValidString(got) || len(got) > maxExampleBytes+len("…") || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes, valid %v: %s", len(got), utf8.ValidString(got), got)
	}
}

// Workers own their recorders: with the race detector on, this is the proof that
// nothing is shared.
func TestWorkersAndMerge(t *testing.T) {
	const workers, each = 16, 100
	recorders := make([]*Recorder, workers)
	var wg sync.WaitGroup
	for i := range recorders {
		wg.Go(func() {
			recorders[i] = NewRecorder()
			for _, o := range observations(uint64(i), each) {
				recorders[i].Record(o)
			}
		})
	}
	wg.Wait()
	total := NewRecorder()
	for _, r := range recorders {
		total.Merge(r)
	}
	run := filled(t, total)
	if err := run.Check(); err != nil {
		t.Error(err)
	}
	if got := run.Counts.Sent + run.Counts.Warmup; got != workers*each {
		t.Errorf("%d requests, want %d", got, workers*each)
	}
}

func ExampleRecorder() {
	r := NewRecorder()
	r.Record(Observation{
		Pair: PairKey{"cluster-1", "prod"}, Intended: time.Second, Started: time.Second + 2*time.Millisecond,
		Done: time.Second + 72*time.Millisecond, Status: 204,
	})
	run := Run{Counts: Counts{Planned: 1}}
	if err := r.Fill(&run); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("latency %v ms, service %v ms, check: %v\n", run.Latency.MaxMS, run.Service.MaxMS, run.Check())
	// Output: latency 72 ms, service 70 ms, check: <nil>
}

// Budget: 1 µs, 3 % of the cheapest request.
func BenchmarkRecorder(b *testing.B) {
	all := observations(35, 1<<12)
	r := NewRecorder()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r.Record(all[i&(1<<12-1)])
		i++
	}
}
