package replay

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// idleTurns are turns of jobs that have their bodies.
func idleTurns(order Order, sources, slots int) turns {
	return newTurns(order, sources, slots, func(*job) {}, func() time.Duration { return 0 })
}

// TestDispatcherKeepsSourceOrder drives the dispatcher with many workers that take random times: a source
// never has two jobs out, its jobs come in order, and none is lost.
func TestDispatcherKeepsSourceOrder(t *testing.T) {
	const sources, jobs, workers = 5, 5000, 16
	d := newDispatcher(idleTurns(OrderSource, sources, workers))
	var inFlight [sources]atomic.Int32
	var last [sources]atomic.Int64
	for s := range last {
		last[s].Store(-1)
	}
	var done atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		rng := rand.New(rand.NewPCG(1, uint64(w)))
		wg.Go(func() {
			hand := make(chan *job, 1)
			var prev *job
			for {
				j := d.next(hand, prev)
				if j == nil {
					return
				}
				if inFlight[j.source].Add(1) != 1 {
					t.Errorf("source %d has two jobs out", j.source)
				}
				if before := last[j.source].Swap(int64(j.n)); before >= int64(j.n) {
					t.Errorf("source %d: job %d after %d", j.source, j.n, before)
				}
				if rng.IntN(8) == 0 {
					time.Sleep(time.Duration(rng.IntN(50)) * time.Microsecond)
				}
				inFlight[j.source].Add(-1)
				done.Add(1)
				prev = j
			}
		})
	}
	rng := rand.New(rand.NewPCG(2, 3))
	for n := range jobs {
		d.submit(&job{n: n, source: rng.IntN(sources)})
	}
	d.close()
	wg.Wait()
	if done.Load() != jobs {
		t.Errorf("%d of %d jobs done", done.Load(), jobs)
	}
}

// TestDispatcherCancel drops what waits, lets what is out finish, and takes nothing more.
func TestDispatcherCancel(t *testing.T) {
	d := newDispatcher(idleTurns(OrderNone, 1, 1))
	started, finish := make(chan struct{}), make(chan struct{})
	var done atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		hand := make(chan *job, 1)
		var prev *job
		for {
			j := d.next(hand, prev)
			if j == nil {
				return
			}
			if done.Add(1) == 1 {
				close(started)
			}
			<-finish
			prev = j
		}
	})
	for n := range 10 {
		d.submit(&job{n: n})
	}
	<-started
	d.cancel()
	d.submit(&job{n: 11})
	close(finish)
	wg.Wait()
	if done.Load() != 1 {
		t.Errorf("%d jobs done, want the one that was out", done.Load())
	}
}

// TestDispatcherSlotFree: only a job that found an idle worker and its source's turn free may count as the
// engine's own delay.
func TestDispatcherSlotFree(t *testing.T) {
	d := newDispatcher(idleTurns(OrderSource, 2, 1))
	hand := make(chan *job, 1)
	first := &job{n: 0, source: 0}
	got := make(chan *job)
	go func() { got <- d.next(hand, nil) }()
	for { // until the worker is idle
		d.mu.Lock()
		idle := len(d.idle)
		d.mu.Unlock()
		if idle == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	d.submit(first)
	if j := <-got; j != first || !j.slotFree {
		t.Fatalf("got %+v, want the first job with its slot free", j)
	}
	sameSource, otherSource := &job{n: 1, source: 0}, &job{n: 2, source: 1}
	d.submit(sameSource)
	d.submit(otherSource)
	if j := d.next(hand, first); j != otherSource || j.slotFree {
		t.Fatalf("got %+v, want the other source's job, which had to wait for a worker", j)
	}
	if j := d.next(hand, otherSource); j != sameSource || j.slotFree {
		t.Fatalf("got %+v, want the job that waited for its source", j)
	}
}
