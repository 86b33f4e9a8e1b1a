package replay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// TestStallBeyondTheLookahead: a server that stands still until there is no room for prepared bodies is as slow as it is,
// and the generator not to blame. What waited arrives as if there had been room.
func TestStallBeyondTheLookahead(t *testing.T) {
	corpus := bundled(t)
	see := func(t *testing.T, lookahead int64) (run *stats.Run, bodies map[string]int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			var begin time.Time
			bodies = map[string]int{}
			turn := make(chan struct{}, 1)
			sender := senderFunc(func(_ context.Context, r *Outgoing) Response {
				turn <- struct{}{}
				if begin.IsZero() {
					begin = time.Now()
				}
				bodies[r.Cluster+string(r.Body)]++
				at := time.Since(begin)
				<-turn
				if at >= time.Second && at < 11*time.Second {
					time.Sleep(11*time.Second - at)
				}
				time.Sleep(time.Millisecond)
				return confirmed(r)
			})
			run = inBubble(t.Context(), t, Config{
				Corpus: corpus, Sender: sender, Timestamps: Shift, Order: OrderSource, MaxInFlight: 64, Timeout: time.Minute, Lookahead: lookahead,
				Plan: mustPlan(t, PlanConfig{RatePerS: 100, Requests: 1500, Loop: true, FanOut: 3, Objects: len(corpus.Entries())}),
			})
		})
		return run, bodies
	}
	tight, tightBodies := see(t, 200_000)
	ample, ampleBodies := see(t, 1<<40)
	if d := cmp.Diff(ample.Latency, tight.Latency); d != "" {
		t.Errorf("latencies with little room: -ample +tight\n%s", d)
	}
	if d := cmp.Diff(ample.Counts, tight.Counts); d != "" || tight.Counts.OK != 1500 {
		t.Errorf("counts with little room: -ample +tight\n%s", d)
	}
	if d := cmp.Diff(ampleBodies, tightBodies); d != "" {
		t.Error("bodies differ with little room")
	}
	if late(tight) || tight.ScheduleError.MaxMS > 0 {
		t.Errorf("%v, send error up to %v ms", tight.Client.Reasons, tight.ScheduleError.MaxMS)
	}
}

// late says that a run calls its generator late. In a bubble the rest of its verdict compares times of two clocks.
func late(run *stats.Run) bool {
	return slices.ContainsFunc(run.Client.Reasons, func(why string) bool {
		return strings.Contains(why, "held requests up") || strings.Contains(why, "prepared")
	})
}

// TestLoopStallBeyondTheLookahead is the same on the real clock, for the loop and workers: all that was planned is sent.
func TestLoopStallBeyondTheLookahead(t *testing.T) {
	corpus := bundled(t)
	for way, workers := range bothWays() {
		t.Run(way, func(t *testing.T) {
			var begin atomic.Int64
			url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				begin.CompareAndSwap(0, time.Now().UnixNano())
				if at := time.Duration(time.Now().UnixNano() - begin.Load()); at > 50*time.Millisecond && at < 500*time.Millisecond {
					time.Sleep(500*time.Millisecond - at)
				}
				w.WriteHeader(http.StatusNoContent)
			})
			run, err := execute(t.Context(), t, Config{
				Corpus: corpus, Timestamps: Shift, Order: OrderSource, MaxInFlight: 16, Timeout: time.Minute, Lookahead: 100_000,
				Sender: newRaw(t, HTTPConfig{URL: url}),
				Plan:   mustPlan(t, PlanConfig{RatePerS: 400, Requests: 300, Loop: true, FanOut: 3, Objects: len(corpus.Entries())}),
			}, workers)
			if err != nil {
				t.Fatal(err)
			}
			if c := run.Counts; c.Sent != 300 || c.OK != 300 || run.Latency.MaxMS < 300 {
				t.Errorf("%+v, slowest %v ms", c, run.Latency.MaxMS)
			}
		})
	}
}

// brittle is a store whose objects are gone once it is told so.
type brittle struct {
	store.Store

	gone atomic.Bool
}

var errGone = errors.New("gone")

func (b *brittle) Get(ctx context.Context, key string) ([]byte, error) {
	if b.gone.Load() {
		return nil, errGone
	}
	return b.Store.Get(ctx, key)
}

// TestUnreadableBodyOfABareJob: what cannot be read when its turn comes ends the run with its name, and an interrupt ends it
// without one.
func TestUnreadableBodyOfABareJob(t *testing.T) {
	for way, workers := range bothWays() {
		for _, interrupted := range []bool{false, true} {
			t.Run(way, func(t *testing.T) {
				b := &brittle{Store: store.NewMemory()}
				copyCorpus(t, bundled(t), b.Store)
				c, err := capture.Load(t.Context(), b, capture.Options{MemoryBytes: -1})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					time.Sleep(300 * time.Millisecond) // by then others wait without a body
					if interrupted {
						cancel()
					}
					b.gone.Store(true)
					w.WriteHeader(http.StatusNoContent)
				})
				run, err := execute(ctx, t, Config{
					Corpus: c, Timestamps: Shift, Order: OrderNone, MaxInFlight: 1, Timeout: time.Minute, Lookahead: 1,
					Sender: newRaw(t, HTTPConfig{URL: url}),
					// An hour of it: the test would not end if the rest were waited for.
					Plan: mustPlan(t, PlanConfig{RatePerS: 200, Requests: 720_000, Loop: true, Objects: len(c.Entries())}),
				}, workers)
				switch {
				case interrupted && (err != nil || !run.Interrupted || run.Counts.Sent+run.Counts.NotSent != 720_000):
					t.Errorf("interrupted: %v, %+v", err, run)
				case !interrupted && (err == nil || !strings.Contains(err.Error(), "gone") || !strings.Contains(err.Error(), "org=")):
					t.Errorf("%v, want what was gone", err)
				}
			})
		}
	}
}

// stalled is a run of 20 s at 100/s of a corpus in a store that takes a while, against a target that stands still from
// second 1 to 6; there is room for the bodies of a fraction of that.
func stalled(t *testing.T, takes, serves time.Duration, order Order) (run *stats.Run, reads int64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d, c := far(t, 60)
		d.become(takes, "")
		var begin time.Time
		var once sync.Once
		run = inBubble(t.Context(), t, Config{
			Corpus: c, Timestamps: Shift, Order: order, MaxInFlight: 4, Timeout: time.Minute, Lookahead: 20_000,
			Plan: mustPlan(t, PlanConfig{RatePerS: 100, Requests: 2000, Loop: true, Objects: len(c.Entries())}),
			Sender: senderFunc(func(_ context.Context, r *Outgoing) Response {
				once.Do(func() { begin = time.Now() })
				if at := time.Since(begin); at >= time.Second && at < 6*time.Second {
					time.Sleep(6*time.Second - at)
				}
				time.Sleep(serves)
				return confirmed(r)
			}),
		})
		reads = d.gets.Load()
	})
	if run.Counts.OK != 2000 {
		t.Errorf("%+v, want 2000 ok", run.Counts)
	}
	return run, reads
}

// TestRefillFromSlowStore: what is read from a store after a stall is read before its turn, and what is read ahead stays
// ahead. Where the store is too slow for that, the generator says so, and does not call the target slow.
func TestRefillFromSlowStore(t *testing.T) {
	for _, order := range []Order{OrderNone, OrderSource} {
		run, reads := stalled(t, 10*time.Millisecond, 15*time.Millisecond, order)
		if late(run) || run.ScheduleError.P99MS > 0.1 {
			t.Errorf("%s: bodies are there in time: %v, send error %+v", order, run.Client.Reasons, run.ScheduleError)
		}
		// Ahead of time, and once more for what then had no room: some 700 of the stall and of catching up.
		if reads < 2000 || reads > 2900 {
			t.Errorf("%s: %d reads for 2000 requests", order, reads)
		}
		// Sixteen readers ahead of time are fast enough with 100 ms each; reading at a turn is not.
		run, _ = stalled(t, 100*time.Millisecond, 0, order)
		if !strings.Contains(strings.Join(run.Client.Reasons, " "), "held requests up") || run.ScheduleError.P99MS < 500 {
			t.Errorf("%s: a store of 100 ms: %v, send error %+v", order, run.Client.Reasons, run.ScheduleError)
		}
	}
}

// TestReadAheadPasses: entries that go without a body neither hold up those behind them nor mix up whose is whose.
func TestReadAheadPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c := far(t, 60)
		d.become(10*time.Millisecond, "")
		p := mustPlan(t, PlanConfig{RatePerS: 100, Requests: 3000, FanOut: 2, Loop: true, Objects: len(c.Entries())})
		r := newReadAhead(t.Context(), c, p)
		defer r.close()
		rng := rand.New(rand.NewPCG(1, 2))
		for n := range p.Total() {
			object, _, _ := p.Object(n)
			if n >= 500 && n < 2500 || rng.IntN(3) == 0 {
				r.pass(n, object)
				continue
			}
			got, err := r.body(t.Context(), object)
			if err != nil {
				t.Fatal(err)
			}
			if want, _ := c.Body(t.Context(), object); !bytes.Equal(got, want) {
				t.Fatalf("entry %d has another object's body", n)
			}
			d.gets.Add(-1) // that was ours
		}
		// One for two entries. Of those in the middle, passed in no time, only what was on its way.
		if reads := d.gets.Load(); len(c.Entries()) < 1000 || reads < 450 || reads > 650 {
			t.Errorf("%d reads of %d objects, want about 500", reads, len(c.Entries()))
		}
	})
}

// far is a corpus that stays in a store, which can be told to be far away.
func far(t *testing.T, scrapes int) (*distant, *capture.Corpus) {
	t.Helper()
	d := &distant{Store: store.NewMemory()}
	copyCorpus(t, synthetic(t, scrapes), d.Store)
	c, err := capture.Load(t.Context(), d, capture.Options{MemoryBytes: -1})
	if err != nil || c.InMemory() {
		t.Fatal(err)
	}
	return d, c
}

// TestReadAheadOfOneObject: when nothing more is needed, the reading ends, also of a plan without an end.
func TestReadAheadOfOneObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneObject(t, 300)
		r := newReadAhead(t.Context(), c, mustPlan(t, PlanConfig{Concurrency: 1, Duration: time.Hour, Loop: true, Objects: 1}))
		defer r.close()
		for range 3 {
			if _, err := r.body(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // never returns while somebody is looking for more
		}
	})
}

// TestPassedOverIsNotCaughtUpWith: when there is room again, bodies are made for what is still ahead. What has come due
// meanwhile goes on without, or it would be the later the more of it there is.
func TestPassedOverIsNotCaughtUpWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bundled(t)
		e, err := newEngine(Config{
			Corpus: c, Timestamps: Shift, Order: OrderNone, MaxInFlight: 1, Timeout: time.Minute,
			Plan: mustPlan(t, PlanConfig{RatePerS: 100, Requests: 300, Loop: true, Objects: len(c.Entries())}),
		})
		if err != nil {
			t.Fatal(err)
		}
		e.prepared, e.budget, e.start = make(chan []*job), newByteBudget(1<<30), time.Now().Add(-2*time.Second)
		e.budget.take(1<<30 + 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(e.prepared)
			if err := e.prepareAll(t.Context()); err != nil {
				t.Error(err)
			}
		})
		n, wrong := 0, 0
		for batch := range e.prepared {
			if n == 0 {
				e.budget.release(1<<30 + 1)
			}
			for _, j := range batch {
				if j.bare != (j.due < 2020*time.Millisecond) {
					wrong++
				}
				n++
			}
		}
		wg.Wait()
		if n != 300 || wrong > 0 {
			t.Errorf("of %d jobs of a run that had got to 2 s, %d have a body and should not, or the other way round", n, wrong)
		}
	})
}

// TestFailedRefillEndsTheOthers: a body that cannot be read ends the run, and not when all others that are on their way are there.
func TestFailedRefillEndsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, c := far(t, 6)
		var first sync.Once
		e, err := newEngine(Config{
			Corpus: c, Timestamps: Shift, Order: OrderNone, MaxInFlight: 1, Timeout: time.Minute, Lookahead: 1,
			Plan: mustPlan(t, PlanConfig{RatePerS: 1000, Requests: 100, Loop: true, Objects: len(c.Entries())}),
			Sender: senderFunc(func(_ context.Context, r *Outgoing) Response {
				first.Do(func() {
					time.Sleep(time.Second) // by then all wait without a body, and those of the next are there
					d.become(time.Hour, c.Entries()[soonest+10].Key.Hash)
				})
				return confirmed(r)
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		e.nap, e.spin = time.Sleep, 0
		began := time.Now()
		_, err = e.run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "gone") || time.Since(began) > time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// TestDrainWithoutBodies: requests that wait for bodies which do not come are given up as those are that wait for their turn.
func TestDrainWithoutBodies(t *testing.T) {
	for way, workers := range bothWays() {
		t.Run(way, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			d, c := far(t, 3)
			url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if !d.stuck.Load() {
					time.Sleep(time.Second) // by then all wait without a body, and those of the next are there
					d.stuck.Store(true)
				}
				w.WriteHeader(http.StatusNoContent)
			})
			run, err := execute(ctx, t, Config{
				Corpus: c, Timestamps: Shift, Order: OrderNone, MaxInFlight: 1, Timeout: time.Minute, Lookahead: 1, DrainTimeout: 2 * time.Second,
				Sender: newRaw(t, HTTPConfig{URL: url}),
				Plan:   mustPlan(t, PlanConfig{RatePerS: 1000, Requests: 200, Loop: true, Objects: len(c.Entries())}),
			}, workers)
			if err != nil || run.Interrupted || run.Counts.OK < soonest || run.Counts.NotSent == 0 || run.Counts.Sent+run.Counts.NotSent != 200 {
				t.Errorf("%v, %+v", err, run)
			}
		})
	}
}

// slowRefills make a body within that time.
func slowRefills(takes time.Duration) *refills {
	return &refills{quick: func(*job) bool { return false }, fill: func(j *job) error {
		time.Sleep(takes)
		j.req.Body = []byte("body")
		return nil
	}}
}

// TestWorkerWaitsForABody: what a request waits for its body at its turn is the generator's delay.
func TestWorkerWaitsForABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := newEngine(Config{
			Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderNone, MaxInFlight: 1, Timeout: time.Minute,
			Sender: senderFunc(func(_ context.Context, r *Outgoing) Response { return confirmed(r) }),
			Plan:   mustPlan(t, PlanConfig{RatePerS: 1000, Requests: 1, Loop: true, Objects: 1}),
		})
		if err != nil {
			t.Fatal(err)
		}
		e.budget, e.live.hist, e.start = newByteBudget(1), stats.NewHistogram(), time.Now()
		e.refills, e.disp = slowRefills(30*time.Millisecond), newDispatcher(newTurns(e.Order, 1, 1, func(*job) {}, e.since))
		e.disp.submit(&job{bare: true, due: -time.Millisecond, late: time.Millisecond})
		e.disp.close()
		rec := stats.NewRecorder()
		e.work(rec)
		var run stats.Run
		if err := rec.Fill(&run); err != nil {
			t.Fatal(err)
		}
		if got := run.ScheduleError.MaxMS; got != 31 || run.Counts.OK != 1 {
			t.Errorf("send error %v ms, want 31; %+v", got, run.Counts)
		}
	})
}

// TestClosedLoopEndsByTimeWithItsLookaheadFull: what waits for its source's turn holds all the room there is, and is dropped at
// the end; the run still ends.
func TestClosedLoopEndsByTimeWithItsLookaheadFull(t *testing.T) {
	// The small one, whose end makes no room for another, has to come first, and of one second a hash decides.
	corpus := objects(t, 300, 50_000)
	for small := 301; corpus.Entries()[0].Size > 1000; small++ {
		corpus = objects(t, small, 50_000)
	}
	for way, workers := range bothWays() {
		t.Run(way, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			run, err := execute(ctx, t, Config{
				Corpus: corpus, Timestamps: Shift, Order: OrderSource, Timeout: time.Minute, Lookahead: 50_000,
				Sender: newRaw(t, HTTPConfig{URL: serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					time.Sleep(300 * time.Millisecond)
					w.WriteHeader(http.StatusNoContent)
				})}),
				Plan: mustPlan(t, PlanConfig{Concurrency: 16, Duration: 200 * time.Millisecond, Loop: true, Objects: 2}),
			}, workers)
			if err != nil || run.Interrupted || run.Counts.OK == 0 {
				t.Errorf("%v, %+v", err, run)
			}
		})
	}
}
