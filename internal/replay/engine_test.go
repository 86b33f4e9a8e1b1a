package replay

import (
	"context"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func bundled(t *testing.T) *capture.Corpus {
	t.Helper()
	c, err := capture.Load(t.Context(), store.FromFS(os.DirFS("../../fixtures/corpus")), capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// senderFunc is a Sender that is a function.
type senderFunc func(ctx context.Context, r *Outgoing) Response

func (f senderFunc) Send(ctx context.Context, r *Outgoing) Response {
	ctx, cancel := context.WithDeadline(ctx, r.Deadline)
	defer cancel()
	return f(ctx, r)
}

func (senderFunc) Close() {}

func confirmed(r *Outgoing) Response {
	return Response{Status: 204, Confirmed: true, Written: Written{r.Samples, r.Histograms, r.Exemplars}}
}

// inBubble runs the engine on synctest's fake clock: every latency is exact.
func inBubble(ctx context.Context, t *testing.T, c Config) *stats.Run {
	t.Helper()
	e, err := newEngine(c)
	if err != nil {
		t.Fatal(err)
	}
	e.nap, e.spin = time.Sleep, 0
	res, err := e.run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var run stats.Run
	if err := res.Fill(&run, c, stats.Target{URL: "test", Kind: "http"}); err != nil {
		t.Fatal(err)
	}
	return &run
}

func mustPlan(t *testing.T, c PlanConfig) *Plan {
	t.Helper()
	p, err := NewPlan(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance {
		t.Errorf("%s = %v, want %v ± %v", what, got, want, tolerance)
	}
}

// TestFrozenServer is the check for coordinated omission: 100/s for 10 s against a server of 1 ms that
// freezes from second 5 to 6. Of 1,000 requests 100 fall due while it stands still and wait 0 to 1 s. A
// generator that starts its clock at the actual send reports a p99 of 1 ms.
func TestFrozenServer(t *testing.T) {
	corpus := bundled(t)
	for _, tt := range []struct {
		name   string
		order  Order
		fanOut int
	}{
		{"order kept, a hundred clusters as by default", OrderSource, 20},
		{"order not kept", OrderNone, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var once sync.Once
				var begin time.Time
				sender := senderFunc(func(_ context.Context, r *Outgoing) Response {
					once.Do(func() { begin = time.Now() })
					if at := time.Since(begin); at >= 5*time.Second && at < 6*time.Second {
						time.Sleep(6*time.Second - at)
					}
					time.Sleep(time.Millisecond)
					return confirmed(r)
				})
				run := inBubble(t.Context(), t, Config{
					Corpus: corpus, Sender: sender, Timestamps: Keep, Order: tt.order, MaxInFlight: 512, Timeout: time.Minute,
					Plan: mustPlan(t, PlanConfig{RatePerS: 100, Duration: 10 * time.Second, Loop: true, FanOut: tt.fanOut, Objects: len(corpus.Entries())}),
				})
				if run.Counts.Sent != 1000 || run.Counts.OK != 1000 || run.Counts.NotSent != 0 {
					t.Errorf("counts %+v, want 1000 sent and ok", run.Counts)
				}
				near(t, "p50", run.Latency.P50MS, 1, 0.01)
				near(t, "p90", run.Latency.P90MS, 2, 1)
				near(t, "p95", run.Latency.P95MS, 501.5, 1)
				near(t, "p99", run.Latency.P99MS, 901.1, 1)
				near(t, "max", run.Latency.MaxMS, 1001, 0.01)
				near(t, "schedule error", run.ScheduleError.MaxMS, 0, 0)
			})
		})
	}
}

// TestStartAt: a run begins when it is told to, also when less time is left than it would like. What was due before it
// was there left late, and that is its schedule error and latency.
func TestStartAt(t *testing.T) {
	corpus := bundled(t)
	for _, tt := range []struct{ ahead, late time.Duration }{{time.Hour, 0}, {time.Millisecond, 0}, {0, 0}, {-100 * time.Millisecond, 100 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			at := time.Now().Add(tt.ahead)
			run := inBubble(t.Context(), t, Config{
				Corpus: corpus, Timestamps: Keep, Order: OrderNone, MaxInFlight: 100, Timeout: time.Second, StartAt: at,
				Plan:   mustPlan(t, PlanConfig{RatePerS: 100, Requests: 20, Loop: true, Objects: len(corpus.Entries())}),
				Sender: senderFunc(func(_ context.Context, r *Outgoing) Response { return confirmed(r) }),
			})
			if !run.StartedAt.Equal(at) {
				t.Errorf("%v ahead: began %v after it should", tt.ahead, run.StartedAt.Sub(at))
			}
			near(t, "maximum schedule error", run.ScheduleError.MaxMS, ms(tt.late), 1e-3)
			near(t, "maximum latency", run.Latency.MaxMS, ms(tt.late), 1e-3)
			if said := strings.Contains(strings.Join(run.Client.Reasons, "; "), "held requests up"); said != (tt.late > 0) {
				t.Errorf("%v ahead: %+v", tt.ahead, run.Client)
			}
		})
	}
}

// TestCountsAddUp drives a run with every kind of answer; also warm-up stays out of the numbers.
func TestCountsAddUp(t *testing.T) {
	corpus := bundled(t)
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		sender := senderFunc(func(ctx context.Context, r *Outgoing) Response {
			i := n.Add(1)
			time.Sleep(time.Millisecond)
			switch {
			case i <= 10: // warm-up: slow
				time.Sleep(20 * time.Millisecond)
				return confirmed(r)
			case i%10 == 0:
				return Response{Status: 503, Message: "busy"}
			case i%25 == 1:
				<-ctx.Done()
				return Response{Err: ctx.Err(), Timeout: true}
			case i%50 == 2:
				return Response{Err: errors.New("connection reset")}
			}
			return confirmed(r)
		})
		run := inBubble(t.Context(), t, Config{
			Corpus: corpus, Sender: sender, Timestamps: Shift, Order: OrderNone, MaxInFlight: 64, Timeout: 2 * time.Second,
			Plan: mustPlan(t, PlanConfig{RatePerS: 100, Requests: 200, WarmupRequests: 10, Loop: true, Objects: len(corpus.Entries())}),
		})
		c := run.Counts
		if c.Warmup != 10 || c.Planned != 200 || c.Sent != 200 || c.OK+c.Failed+c.TimedOut != 200 {
			t.Errorf("counts %+v do not add up", c)
		}
		if c.TimedOut == 0 || c.Failed == 0 || run.Statuses["503"] == 0 || len(run.Errors) != 3 {
			t.Errorf("counts %+v, statuses %v, errors %v: an outcome is missing", c, run.Statuses, run.Errors)
		}
		near(t, "latency of successes", run.Latency.MaxMS, 1, 0.01)
		near(t, "latency of the warm-up", run.WarmupLatency.MaxMS, 21, 0.01)
		near(t, "latency of failures", run.FailedLatency.MaxMS, 2001, 1.1)
	})
}

// TestInterrupt cancels a run in the middle of a stall: nothing more starts, what is in flight is waited
// for, and planned = sent + not_sent.
func TestInterrupt(t *testing.T) {
	corpus := bundled(t)
	for _, loop := range []PlanConfig{
		{RatePerS: 100, Requests: 1000},
		{Concurrency: 4, Requests: 1000},
		{Concurrency: 4, Duration: time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			loop.Loop, loop.Objects = true, len(corpus.Entries())
			begin := time.Now()
			var after atomic.Int64
			sender := senderFunc(func(_ context.Context, r *Outgoing) Response {
				if time.Since(begin) > 3*time.Second+10*time.Millisecond {
					after.Add(1)
				}
				time.Sleep(700 * time.Millisecond)
				return confirmed(r)
			})
			time.AfterFunc(3*time.Second, cancel)
			run := inBubble(ctx, t, Config{
				Corpus: corpus, Sender: sender, Timestamps: Keep, Order: OrderSource, MaxInFlight: 8, Timeout: time.Minute,
				Plan: mustPlan(t, loop),
			})
			if !run.Interrupted || run.Counts.Sent == 0 || after.Load() != 0 {
				t.Errorf("%+v: interrupted %v, sent %d, started after the interrupt %d", loop, run.Interrupted, run.Counts.Sent, after.Load())
			}
			if loop.Requests > 0 && run.Counts.NotSent != int64(loop.Requests)-run.Counts.Sent {
				t.Errorf("%+v: %d sent and %d not sent of %d", loop, run.Counts.Sent, run.Counts.NotSent, loop.Requests)
			}
		})
	}
}

// TestClosedLoop: the number in flight never exceeds the concurrency, every source keeps its order, and a
// run by duration ends.
func TestClosedLoop(t *testing.T) {
	corpus := bundled(t)
	synctest.Test(t, func(t *testing.T) {
		var inFlight, most atomic.Int64
		sender := senderFunc(func(_ context.Context, r *Outgoing) Response {
			most.Store(max(most.Load(), inFlight.Add(1)))
			defer inFlight.Add(-1)
			time.Sleep(10 * time.Millisecond)
			return confirmed(r)
		})
		run := inBubble(t.Context(), t, Config{
			Corpus: corpus, Sender: sender, Timestamps: Shift, Order: OrderNone, Timeout: time.Minute,
			Plan: mustPlan(t, PlanConfig{Concurrency: 3, Duration: time.Second, Loop: true, Objects: len(corpus.Entries())}),
		})
		if most.Load() != 3 {
			t.Errorf("%d in flight at most, want 3", most.Load())
		}
		if n := run.Counts.Sent; n < 290 || n > 310 || run.Counts.NotSent != 0 {
			t.Errorf("%+v: want about 300 sent, none unsent", run.Counts)
		}
		near(t, "p99", run.Latency.P99MS, 10, 0.01)
	})
}

// TestShift: gaps within a pass are kept, nothing lies in the future, and no body repeats.
func TestShift(t *testing.T) {
	corpus := bundled(t)
	objects := len(corpus.Entries())
	for _, mode := range []TimestampMode{Keep, Shift, Now} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var newest []int64 // in plan order: one in flight
				seen := map[string]int{}
				sender := senderFunc(func(_ context.Context, r *Outgoing) Response {
					mu.Lock()
					defer mu.Unlock()
					seen[string(r.Body)]++
					raw, err := remotewrite.Decode(nil, r.Body, 1<<26)
					if err != nil {
						t.Error(err)
					}
					var w remotewrite.Walker
					sum, err := w.Walk(r.Version, raw, remotewrite.Limits{FutureTolerance: time.Millisecond}, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
					if err != nil {
						t.Error(err)
					}
					if mode != Keep && sum.HasTimestamp && sum.MaxTimestampMS > time.Now().UnixMilli() {
						t.Errorf("newest sample %v lies in the future of %v", time.UnixMilli(sum.MaxTimestampMS), time.Now())
					}
					if !sum.HasTimestamp {
						sum.MaxTimestampMS = 0
					}
					newest = append(newest, sum.MaxTimestampMS)
					return confirmed(r)
				})
				inBubble(t.Context(), t, Config{
					Corpus: corpus, Sender: sender, Timestamps: mode, Order: OrderNone, MaxInFlight: 1, Timeout: time.Minute,
					Plan: mustPlan(t, PlanConfig{RatePerS: 5000, Requests: 3 * objects, Loop: true, Objects: objects}),
				})
				if freshest := slices.Max(newest); mode != Keep && freshest < time.Now().Add(-5*time.Second).UnixMilli() {
					t.Errorf("newest sample %v is older than 5 s before %v", time.UnixMilli(freshest), time.Now())
				}
				for i, e := range corpus.Entries() {
					if !e.HasTimestamp {
						continue
					}
					first := corpus.Entries()[indexWithTimestamp(corpus)]
					gap := e.MaxTimestampMS - first.MaxTimestampMS
					for pass := range 3 {
						got := newest[pass*objects+i] - newest[pass*objects+indexWithTimestamp(corpus)]
						if mode != Now && got != gap {
							t.Errorf("pass %d object %d: %d ms after the first, want %d", pass, i, got, gap)
						}
					}
					if repeats := newest[i] == newest[objects+i]; repeats != (mode == Keep) {
						t.Errorf("object %d: newest sample %d, then %d", i, newest[i], newest[objects+i])
					}
				}
			})
		})
	}
}

func indexWithTimestamp(c *capture.Corpus) int {
	for i, e := range c.Entries() {
		if e.HasTimestamp {
			return i
		}
	}
	return -1
}

// TestBrokenBody: an object that breaks after the corpus was loaded ends the run with its name.
func TestUnreadableBodyEndsTheRun(t *testing.T) {
	mem := store.NewMemory()
	src := store.FromFS(os.DirFS("../../fixtures/corpus"))
	for o, err := range src.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		body, err := src.Get(t.Context(), o.Key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mem.Put(t.Context(), o.Key, body); err != nil {
			t.Fatal(err)
		}
	}
	faulty := &vanishing{Store: mem}
	corpus, err := capture.Load(t.Context(), faulty, capture.Options{MemoryBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	faulty.gone.Store(true)
	_, err = Run(t.Context(), Config{
		Corpus: corpus, Timestamps: Shift, Order: OrderSource, MaxInFlight: 4, Timeout: time.Second,
		Sender: senderFunc(func(_ context.Context, r *Outgoing) Response { return confirmed(r) }),
		Plan:   mustPlan(t, PlanConfig{RatePerS: 1000, Requests: 100, Loop: true, Objects: len(corpus.Entries())}),
	})
	if err == nil || !strings.Contains(err.Error(), "org=") || !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want an error that names the object and wraps ErrNotFound", err)
	}
}

// vanishing is a store whose objects are gone from some moment on.
type vanishing struct {
	store.Store

	gone atomic.Bool
}

func (v *vanishing) Get(ctx context.Context, key string) ([]byte, error) {
	if v.gone.Load() {
		return nil, store.ErrNotFound
	}
	return v.Store.Get(ctx, key)
}

// TestStalledGenerator: a generator that stands still for a second must not pass its own delay off as the server's,
// also when order is kept, so that only the first request of each source finds its turn free afterwards.
func TestStalledGenerator(t *testing.T) {
	corpus := bundled(t)
	for _, order := range []Order{OrderSource, OrderNone} {
		synctest.Test(t, func(t *testing.T) {
			c := Config{
				Corpus: corpus, Timestamps: Keep, Order: order, MaxInFlight: 64, Timeout: time.Minute,
				Plan: mustPlan(t, PlanConfig{RatePerS: 100, Duration: 20 * time.Second, Loop: true, Objects: len(corpus.Entries())}),
				Sender: senderFunc(func(_ context.Context, r *Outgoing) Response {
					time.Sleep(time.Millisecond)
					return confirmed(r)
				}),
			}
			e, err := newEngine(c)
			if err != nil {
				t.Fatal(err)
			}
			stalled := false
			e.spin = 0
			e.nap = func(d time.Duration) {
				if !stalled && e.since() > 5*time.Second {
					stalled = true
					d += time.Second
				}
				time.Sleep(d)
			}
			res, err := e.run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var run stats.Run
			if err := res.Fill(&run, c, stats.Target{}); err != nil {
				t.Fatal(err)
			}
			if run.Client.Verdict != "invalid" || run.ScheduleError.Count != 2000 || run.ScheduleError.P99MS < 500 {
				t.Errorf("%s: verdict %s, schedule error %+v: want invalid, all 2000, p99 about 800 ms", order, run.Client.Verdict, run.ScheduleError)
			}
		})
	}
}

// TestClosedLoopWarmup: the warm-up comes first and whole, and the duration counts from its end.
func TestClosedLoopWarmup(t *testing.T) {
	corpus := bundled(t)
	synctest.Test(t, func(t *testing.T) {
		run := inBubble(t.Context(), t, Config{
			Corpus: corpus, Timestamps: Keep, Order: OrderSource, Timeout: time.Minute,
			Plan: mustPlan(t, PlanConfig{Concurrency: 1, WarmupRequests: 30, Duration: time.Second, Loop: true, Objects: len(corpus.Entries())}),
			Sender: senderFunc(func(_ context.Context, r *Outgoing) Response {
				time.Sleep(100 * time.Millisecond)
				return confirmed(r)
			}),
		})
		if run.Counts.Warmup != 30 || run.Counts.Sent != 10 {
			t.Errorf("%d warm-up and %d measured requests, want 30 and 10", run.Counts.Warmup, run.Counts.Sent)
		}
		if len(run.Timeline) == 0 || run.Timeline[0].Sent == 0 {
			t.Errorf("timeline %+v begins with the warm-up", run.Timeline)
		}
		near(t, "rate", run.Achieved.RatePerS, 10, 0.2)
	})
}

// TestAllFailed: a run without a success is invalid in its own file, not only by the exit code.
func TestAllFailed(t *testing.T) {
	corpus := bundled(t)
	synctest.Test(t, func(t *testing.T) {
		run := inBubble(t.Context(), t, Config{
			Corpus: corpus, Timestamps: Keep, Order: OrderNone, Timeout: time.Minute, MaxInFlight: 4,
			Plan:   mustPlan(t, PlanConfig{RatePerS: 10, Requests: 10, Loop: true, Objects: len(corpus.Entries())}),
			Sender: senderFunc(func(context.Context, *Outgoing) Response { return Response{Status: 500} }),
		})
		if run.Client.Verdict != "invalid" || len(run.Client.Reasons) == 0 {
			t.Errorf("client %+v", run.Client)
		}
	})
}
