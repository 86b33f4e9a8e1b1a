package replay

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
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
	if tight.Client.Verdict != "valid" || tight.ScheduleError.MaxMS > 0 {
		t.Errorf("%s %v, send error up to %v ms", tight.Client.Verdict, tight.Client.Reasons, tight.ScheduleError.MaxMS)
	}
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
