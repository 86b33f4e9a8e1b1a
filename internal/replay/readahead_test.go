package replay

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// distant is a store far away: it takes a while to answer, and counts.
type distant struct {
	store.Store
	gets, now, most atomic.Int64
	stuck           atomic.Bool // nothing comes of what is asked for now

	mu     sync.Mutex
	takes  time.Duration // guarded by mu
	broken string        // guarded by mu
}

// become changes how long the store takes, and of which object nothing is left.
func (d *distant) become(takes time.Duration, broken string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.takes, d.broken = takes, broken
}

func (d *distant) Get(ctx context.Context, key string) ([]byte, error) {
	d.mu.Lock()
	takes, broken := d.takes, d.broken
	d.mu.Unlock()
	if d.stuck.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if takes > 0 {
		d.gets.Add(1)
		n := d.now.Add(1)
		defer d.now.Add(-1)
		for m := d.most.Load(); n > m && !d.most.CompareAndSwap(m, n); m = d.most.Load() {
			continue
		}
		if broken != "" && strings.Contains(key, broken) {
			return nil, errors.New("gone")
		}
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return d.Store.Get(ctx, key)
}

// A store of 20 ms does not hold up 200 requests a second, of a corpus that is not in memory; a fan-out reads each
// body once a pass.
func TestReadAhead(t *testing.T) {
	for _, fan := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			d := &distant{Store: store.NewMemory()}
			copyCorpus(t, synthetic(t, 3), d.Store)
			c, err := capture.Load(t.Context(), d, capture.Options{MemoryBytes: -1})
			if err != nil || c.InMemory() {
				t.Fatal(err)
			}
			d.become(20*time.Millisecond, "")
			objects := len(c.Entries())
			seen := &clocks{last: map[string]int64{}}
			run := inBubble(t.Context(), t, Config{
				Corpus: c, Timestamps: Shift, Order: OrderSource, MaxInFlight: 16, Timeout: time.Minute,
				Plan: mustPlan(t, PlanConfig{RatePerS: 200, Requests: 2 * objects * fan, FanOut: fan, Loop: true, Objects: objects}),
				Sender: senderFunc(func(_ context.Context, r *Outgoing) Response {
					seen.take(t, r)
					return confirmed(r)
				}),
			})
			if run.Counts.OK != int64(2*objects*fan) || run.Latency.MaxMS > 1 || strings.Contains(strings.Join(run.Client.Reasons, " "), "prepared") || seen.back > 0 {
				t.Errorf("%+v, slowest %v ms, %v", run.Counts, run.Latency.MaxMS, run.Client.Reasons)
			}
			if got := d.gets.Load(); got != int64(2*objects) || d.most.Load() > readWorkers || d.most.Load() < 2 {
				t.Errorf("%d reads of %d objects twice, %d at a time", got, objects, d.most.Load())
			}
		})
	}
}

// A body that cannot be read ends the run; an interrupt ends the reading.
func TestReadAheadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &distant{Store: store.NewMemory()}
		copyCorpus(t, synthetic(t, 3), d.Store)
		c, err := capture.Load(t.Context(), d, capture.Options{MemoryBytes: -1})
		if err != nil {
			t.Fatal(err)
		}
		d.become(time.Millisecond, c.Entries()[20].Key.Hash)
		config := Config{
			Corpus: c, Timestamps: Shift, Order: OrderSource, MaxInFlight: 16, Timeout: time.Minute,
			Plan:   mustPlan(t, PlanConfig{RatePerS: 100, Requests: 500, Loop: true, Objects: len(c.Entries())}),
			Sender: senderFunc(func(_ context.Context, r *Outgoing) Response { return confirmed(r) }),
		}
		e, err := newEngine(config)
		if err != nil {
			t.Fatal(err)
		}
		e.nap, e.spin = time.Sleep, 0
		if _, err := e.run(t.Context()); err == nil || !strings.Contains(err.Error(), "gone") {
			t.Errorf("with a broken body: %v", err)
		}
		d.become(time.Millisecond, "")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel) // of which one is before the start, for reading ahead
		if run := inBubble(ctx, t, config); !run.Interrupted || run.Counts.OK == 0 {
			t.Errorf("%+v", run.Counts)
		}
	})
}

// copyCorpus puts the bodies of a corpus into a store.
func copyCorpus(t *testing.T, c *capture.Corpus, to store.Store) {
	t.Helper()
	for i, e := range c.Entries() {
		body, err := c.Body(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Put(t.Context(), e.Key.String(), body); err != nil {
			t.Fatal(err)
		}
	}
}
