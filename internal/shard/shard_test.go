package shard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// skewed is a store whose clock is ahead of the one here, and tells whole units of it.
type skewed struct {
	store.Store
	ahead, unit time.Duration
}

func (s skewed) Clock(context.Context) (time.Time, time.Duration, error) {
	return time.Now().Add(s.ahead).Truncate(s.unit), s.unit, nil
}

func identity(total int) Identity {
	return Identity{total, "plan", "corpus", "config"}
}

type outcome struct {
	start Start
	at    time.Time
	err   error
}

// waitAll lets barriers wait at the same time, each after its delay.
func waitAll(bs []*Barrier, delays ...time.Duration) []outcome {
	out := make([]outcome, len(bs))
	var wg sync.WaitGroup
	for i, b := range bs {
		wg.Go(func() {
			if i < len(delays) {
				time.Sleep(delays[i])
			}
			out[i].start, out[i].err = b.Wait(context.Background())
			out[i].at = time.Now()
		})
	}
	wg.Wait()
	return out
}

func barriers(s store.Store, n int) []*Barrier {
	bs := make([]*Barrier, n)
	for i := range bs {
		bs[i] = &Barrier{Store: s, Index: i, Attempt: fmt.Sprintf("uid%d", i), Identity: identity(n)}
	}
	return bs
}

// TestLateStarterKeepsT0: all begin together, ten seconds after the last was ready.
func TestLateStarterKeepsT0(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		out := waitAll(barriers(store.NewMemory(), 4), 0, 0, 3*time.Second, 0)
		for i, o := range out {
			if o.err != nil {
				t.Fatalf("shard %d: %v", i, o.err)
			}
			if !o.start.T0.Equal(out[0].start.T0) || !o.start.Local.Equal(o.start.T0) {
				t.Errorf("shard %d begins at %v, shard 0 at %v", i, o.start.Local, out[0].start.T0)
			}
			if o.at.After(o.start.Local) || o.start.Local.Sub(o.at) > claimLead {
				t.Errorf("shard %d was told %v before T0", i, o.start.Local.Sub(o.at))
			}
		}
		if d := out[0].start.T0.Sub(begin); d < 13*time.Second || d > 14*time.Second {
			t.Errorf("T0 is %v after the first was ready", d)
		}
	})
}

// TestClocksAreCorrected: shards whose clocks differ begin at one moment.
func TestClocksAreCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMemory()
		bs := barriers(mem, 3)
		var said []string
		for i, ahead := range []time.Duration{0, 400 * time.Millisecond, time.Millisecond} {
			bs[i].Store = skewed{mem, ahead, 4 * time.Millisecond}
		}
		bs[1].Say = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
		out := waitAll(bs)
		for i, o := range out {
			if o.err != nil {
				t.Fatal(i, o.err)
			}
		}
		// By the one true clock of this test, which is that of shard 0: the stores differ in what they tell.
		if d := out[0].start.Local.Sub(out[1].start.Local); d < 396*time.Millisecond || d > 404*time.Millisecond {
			t.Errorf("a clock 400 ms behind the store's is corrected by %v", d)
		}
		if !out[2].start.Local.Equal(out[2].start.T0) {
			t.Errorf("a difference within the resolution is corrected: %+v", out[2].start.Clock)
		}
		if !strings.Contains(strings.Join(said, "\n"), "is 4") || !strings.Contains(said[0], "warning") {
			t.Errorf("nothing is said of 400 ms: %q", said)
		}
		off := barriers(store.NewMemory(), 1)
		off[0].Store = skewed{off[0].Store, -2 * time.Second, time.Millisecond}
		if _, err := off[0].Wait(t.Context()); !errors.Is(err, ErrClock) {
			t.Errorf("a clock 2 s ahead of the store's: %v", err)
		}
	})
}

// TestClockOfWholeSeconds: the offset is narrowed down although the store tells seconds only.
func TestClockOfWholeSeconds(t *testing.T) {
	for _, ahead := range []time.Duration{-7 * time.Second, -250 * time.Millisecond, 0, 10 * time.Millisecond, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c, err := readClock(t.Context(), skewed{store.NewMemory(), ahead, time.Second})
			if err != nil || !c.Known {
				t.Fatal(c, err)
			}
			if got := ms(ahead); got < c.LowMS || got > c.HighMS || c.HighMS-c.LowMS > 130 {
				t.Errorf("%v ahead is measured as %v to %v ms", ahead, c.LowMS, c.HighMS)
			}
		})
	}
}

func TestNobodyStarts(t *testing.T) {
	for name, spoil := range map[string]struct {
		do   func(bs []*Barrier) []*Barrier
		want error
		says string
	}{
		"one is missing":           {func(bs []*Barrier) []*Barrier { return []*Barrier{bs[0], bs[1], bs[3]} }, ErrTimeout, "missing: 2"},
		"the first is missing":     {func(bs []*Barrier) []*Barrier { return bs[1:] }, ErrTimeout, "missing: 0"},
		"another plan":             {func(bs []*Barrier) []*Barrier { bs[2].Identity.PlanSHA256 = "x"; return bs }, ErrUnlike, "shards 0 and 2 differ in the plan"},
		"another corpus":           {func(bs []*Barrier) []*Barrier { bs[1].Identity.CorpusSHA256 = "x"; return bs }, ErrUnlike, "the corpus"},
		"another configuration":    {func(bs []*Barrier) []*Barrier { bs[0].Identity.ConfigSHA256 = "x"; return bs }, ErrUnlike, "the configuration"},
		"another number of shards": {func(bs []*Barrier) []*Barrier { bs[1].Identity.Total = 2; return bs }, ErrUnlike, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bs := barriers(store.NewMemory(), 4)
				for _, b := range bs {
					b.Timeout = time.Minute
				}
				for i, o := range waitAll(spoil.do(bs)) {
					if !errors.Is(o.err, spoil.want) || !strings.Contains(o.err.Error(), spoil.says) {
						t.Errorf("shard at %d: %v", i, o.err)
					}
				}
			})
		})
	}
}

// TestInterruptedWaiter: one that is stopped while it waits keeps the others from starting without it.
func TestInterruptedWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bs := barriers(store.NewMemory(), 3)
		ctx, cancel := context.WithCancel(t.Context())
		var stopped error
		var wg sync.WaitGroup
		wg.Go(func() { _, stopped = bs[1].Wait(ctx) })
		time.Sleep(time.Second)
		cancel()
		wg.Wait()
		if !errors.Is(stopped, context.Canceled) {
			t.Errorf("the stopped one: %v", stopped)
		}
		for _, o := range waitAll([]*Barrier{bs[0], bs[2]}) {
			if !errors.Is(o.err, ErrTimeout) {
				t.Errorf("another: %v", o.err)
			}
		}
	})
}

// failing is a store that cannot be read, and perhaps not written, from one moment to another.
type failing struct {
	store.Store
	from, to time.Time
	puts     bool // fail as well
}

var errSlowDown = errors.New("503 slow down")

func (f failing) down() bool { now := time.Now(); return now.After(f.from) && now.Before(f.to) }

func (f failing) Get(ctx context.Context, key string) ([]byte, error) {
	if f.down() {
		return nil, errSlowDown
	}
	return f.Store.Get(ctx, key)
}

func (f failing) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	if f.down() {
		return func(yield func(store.Object, error) bool) { yield(store.Object{}, errSlowDown) }
	}
	return f.Store.List(ctx, prefix)
}

func (f failing) Put(ctx context.Context, key string, body []byte) (bool, error) {
	if f.puts && f.down() {
		return false, errSlowDown
	}
	return f.Store.Put(ctx, key, body)
}

// TestStoreFails: a store that fails for a moment, whenever it is, costs no run; a shard that cannot read it for longer
// keeps the others from starting without it.
func TestStoreFails(t *testing.T) {
	for name, tt := range map[string]struct {
		shard    int
		from, to time.Duration
		puts     bool
		starts   bool
	}{
		"one that waits, for a moment":   {1, 3 * time.Second, 6 * time.Second, true, true},
		"the first, when all are ready":  {0, 9 * time.Second, 12 * time.Second, true, true},
		"one that waits, when it begins": {1, 19 * time.Second, 22 * time.Second, true, true},
		"one that claims its index":      {2, 17500 * time.Millisecond, 19 * time.Second, true, true},
		"one that waits, for good":       {1, 3 * time.Second, time.Hour, false, false},
		"the first, for good":            {0, 3 * time.Second, time.Hour, false, false},
		"one that waits, for long":       {1, time.Second, 8 * time.Second, true, true}, // and nothing was lost by it
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now()
				bs := barriers(store.NewMemory(), 3)
				for _, b := range bs {
					b.Timeout = time.Minute
				}
				bs[tt.shard].Store = failing{bs[tt.shard].Store, now.Add(tt.from), now.Add(tt.to), tt.puts}
				for i, o := range waitAll(bs, 0, 0, 10*time.Second) {
					switch {
					case tt.starts && o.err != nil:
						t.Errorf("shard %d: %v", i, o.err)
					case !tt.starts && !errors.Is(o.err, ErrTimeout) && (i != tt.shard || !errors.Is(o.err, errSlowDown)):
						t.Errorf("shard %d: %v, and it starts at %v", i, o.err, o.start.T0)
					}
				}
			})
		})
	}
}

// TestSecondAttempt: of two attempts of an index one executes it, whenever the other comes.
func TestSecondAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMemory()
		bs := barriers(mem, 3)
		again := *bs[2]
		again.Attempt = "again"
		out := waitAll(append(bs, &again), 0, 2*time.Second, 0, time.Second)
		executing := 0
		for i, o := range out {
			switch {
			case o.err == nil:
				executing++
			case i < 2 || !errors.Is(o.err, ErrAborted):
				t.Errorf("attempt %d: %v", i, o.err)
			}
		}
		if executing != 3 {
			t.Errorf("%d attempts execute 3 shards", executing)
		}
		time.Sleep(time.Minute)
		late := *bs[1]
		late.Attempt = "late"
		if _, err := late.Wait(t.Context()); !errors.Is(err, ErrAborted) || !strings.Contains(err.Error(), "ago") {
			t.Errorf("an attempt after T0: %v", err)
		}
		if _, err := mem.Get(t.Context(), "shards/1/attempt-late/aborted"); err != nil {
			t.Errorf("it leaves no note: %v", err)
		}
	})
}

// TestReplacedBeforeStart: an attempt that dies while it waits can be replaced.
func TestReplacedBeforeStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMemory()
		bs := barriers(mem, 2)
		if err := bs[1].ready(t.Context(), Clock{}); err != nil { // and then it is killed
			t.Fatal(err)
		}
		again := *bs[1]
		again.Attempt = "again"
		for i, o := range waitAll([]*Barrier{bs[0], &again}, 0, time.Second) {
			if o.err != nil {
				t.Errorf("%d: %v", i, o.err)
			}
		}
	})
}

// shardRun makes up the run of one shard.
func shardRun(t *testing.T, index, total, requests int) *stats.Run {
	t.Helper()
	rec := stats.NewRecorder()
	for i := range requests {
		due := time.Duration(i) * 10 * time.Millisecond
		rec.Record(stats.Observation{
			Pair: stats.PairKey{Source: fmt.Sprintf("org/%d", index), Destination: "x"}, Intended: due, Started: due, Done: due + time.Duration(index*requests+i+1)*time.Millisecond, Status: 204,
		})
	}
	r := &stats.Run{
		Schema: stats.RunSchema, StartedAt: time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC), FinishedAt: time.Date(2026, 11, 20, 18, 1, 0, 0, time.UTC),
		Plan: stats.Plan{
			Loop: "open", Arrival: "constant", Timing: "rate", RatePerS: 100, Planned: int64(requests), SHA256: "plan",
			Shard: &stats.Shard{Index: index, Total: total, By: "source", PlannedAll: int64(total * requests), ToMS: 2000},
		},
		Corpus: stats.Corpus{SHA256: "corpus"}, Client: stats.Client{Verdict: "valid"},
	}
	r.Counts.Planned = int64(requests)
	if err := rec.Fill(r); err != nil {
		t.Fatal(err)
	}
	return r
}

func put(t *testing.T, s store.Store, attempt string, r *stats.Run) {
	t.Helper()
	if err := Put(t.Context(), s, attempt, r); err != nil {
		t.Fatal(err)
	}
}

func TestCollectAndMerge(t *testing.T) {
	mem := store.NewMemory()
	for i := range 3 {
		put(t, mem, fmt.Sprintf("uid%d", i), shardRun(t, i, 3, 50))
	}
	m := stats.NewMerger()
	c, err := Collect(t.Context(), mem, m.Add)
	if err != nil || len(c.Missing) > 0 || len(c.Notes) > 0 {
		t.Fatal(c, err)
	}
	run, err := m.Merge(c.Missing)
	if err != nil {
		t.Fatal(err)
	}
	if run.Counts.OK != 150 || run.Latency.MaxMS != 150 || run.Latency.MinMS != 1 || run.Merged.Partial || run.Whole() != nil {
		t.Errorf("counts %+v, latency %+v, merged %+v", run.Counts, run.Latency, run.Merged)
	}
}

func TestCollectChoosesTheClaimedAttempt(t *testing.T) {
	mem := store.NewMemory()
	put(t, mem, "a", shardRun(t, 0, 1, 10))
	put(t, mem, "b", shardRun(t, 0, 1, 10))
	if _, err := Collect(t.Context(), mem, stats.NewMerger().Add); err == nil || !strings.Contains(err.Error(), "nothing tells which counts") {
		t.Errorf("two results without a claim: %v", err)
	}
	if err := putJSON(t.Context(), mem, claimKey(0), claimObject{claimSchema, "b"}); err != nil {
		t.Fatal(err)
	}
	m := stats.NewMerger()
	c, err := Collect(t.Context(), mem, m.Add)
	if err != nil || len(c.Notes) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	run, err := m.Merge(c.Missing)
	if err != nil || len(run.Merged.Parts) != 1 || run.Merged.Parts[0].Name != "shards/0/attempt-b" {
		t.Errorf("%+v, %v", run, err)
	}
}

func TestCollectSaysWhatIsMissing(t *testing.T) {
	mem := store.NewMemory()
	put(t, mem, "a", shardRun(t, 0, 4, 10))
	must := func(_ bool, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(mem.Put(t.Context(), attemptKey(1, "b", runName), []byte("half")))
	must(mem.Put(t.Context(), attemptKey(2, "c", abortedName), []byte("{}")))
	must(mem.Put(t.Context(), claimKey(3), []byte("{}")))
	m := stats.NewMerger()
	c, err := Collect(t.Context(), mem, m.Add)
	if err != nil {
		t.Fatal(err)
	}
	run, err := m.Merge(c.Missing)
	if err != nil {
		t.Fatal(err)
	}
	if !run.Merged.Partial || !errors.Is(run.Whole(), stats.ErrPartial) || len(run.Merged.Reasons) != 3 {
		t.Fatalf("merged %+v", run.Merged)
	}
	for i, want := range []string{"has no manifest", "attempt c aborted", "left no result"} {
		if !strings.Contains(run.Merged.Reasons[i], want) {
			t.Errorf("reason %q does not say %q", run.Merged.Reasons[i], want)
		}
	}
	if run.Counts.Planned != 40 || run.Counts.NotSent != 30 {
		t.Errorf("of a plan of 40 requests %+v", run.Counts)
	}
	if _, err := Collect(t.Context(), store.NewMemory(), stats.NewMerger().Add); err == nil {
		t.Error("nothing at all is no error")
	}
}

// TestCollectRefuses changes one thing about a result.
func TestCollectRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		manifest func(*Manifest)
		run      func([]byte) []byte
		says     string
	}{
		"hash":     {func(m *Manifest) { m.Files[runName] = File{m.Files[runName].Bytes, "00"} }, nil, "sha256"},
		"size":     {nil, func(b []byte) []byte { return append(b, '\n') }, "bytes"},
		"cut":      {nil, func(b []byte) []byte { return b[:len(b)/2] }, "bytes"},
		"geometry": {func(m *Manifest) { m.Histogram.Digits = 4 }, nil, "with 4 digits"},
		"plan":     {func(m *Manifest) { m.PlanSHA256 = "other" }, nil, "differ in the plan"},
		"corpus":   {func(m *Manifest) { m.CorpusSHA256 = "other" }, nil, "differ in the corpus"},
		"config":   {func(m *Manifest) { m.ConfigSHA256 = "other" }, nil, "differ in the configuration"},
		"index":    {func(m *Manifest) { m.Index = 7 }, nil, "it is of shard 7"},
		"counts":   {func(m *Manifest) { m.Sent++ }, nil, "what was sent"},
		"schema":   {func(m *Manifest) { m.Schema = "x" }, nil, "schema"},
	} {
		t.Run(name, func(t *testing.T) {
			good := store.NewMemory()
			put(t, good, "a", shardRun(t, 0, 1, 10))
			bad := store.NewMemory()
			for o, err := range good.List(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				data, err := good.Get(t.Context(), o.Key)
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case strings.HasSuffix(o.Key, manifestName) && c.manifest != nil:
					var m Manifest
					if err := json.Unmarshal(data, &m); err != nil {
						t.Fatal(err)
					}
					c.manifest(&m)
					if data, err = json.Marshal(m); err != nil {
						t.Fatal(err)
					}
				case strings.HasSuffix(o.Key, runName) && c.run != nil:
					data = c.run(data)
				}
				if _, err := bad.Put(t.Context(), o.Key, data); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Collect(t.Context(), bad, stats.NewMerger().Add)
			var damaged *DamagedError
			if !errors.As(err, &damaged) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

// FuzzParse feeds objects of a store that anybody may have written to.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schema":"cirrusbench/start/v1","t0":"2026-11-20T18:00:00Z"}`))
	f.Add([]byte(`{"schema":"cirrusbench/shard/v1","files":{"run.json":{"bytes":-1}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, key := range []string{startKey, readyKey(0), claimKey(0), attemptKey(0, "a", manifestName)} {
			mem := store.NewMemory()
			if _, err := mem.Put(t.Context(), key, data); err != nil {
				t.Fatal(err)
			}
			b := Barrier{Store: mem, Attempt: "x", Identity: identity(1)}
			if s, err := b.started(t.Context()); err == nil && s != nil && s.Schema != startSchema {
				t.Errorf("%s is taken for a start", bytes.TrimSpace(data))
			}
			if c, err := Collect(t.Context(), mem, stats.NewMerger().Add); err == nil {
				t.Errorf("a result is made of nothing: %+v", c)
			}
		}
	})
}
