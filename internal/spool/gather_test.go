package spool

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slow is a segment file on a disk that takes its time for a sync, by the fake clock.
// The end of it is noticed when a processor is free.
type slow struct {
	segmentWriter
	took      time.Duration
	processor processor
}

func (s slow) Sync() error {
	time.Sleep(s.took)
	s.processor.work(0)
	return nil
}

// processor does the work of many in turns. nil is never busy.
type processor chan struct{}

func (p processor) work(d time.Duration) {
	if p != nil {
		p <- struct{}{}
		time.Sleep(d)
		<-p
	}
}

// openSlow opens a queue on such a disk. sizes is how many records each sync made
// durable; it may be read when nothing is appended.
func openSlow(t *testing.T, took time.Duration, p processor) (q *Queue, sizes *[]int) {
	t.Helper()
	sizes = new([]int)
	q, err := Open(t.TempDir(), Options{
		create: func(path string) (segmentWriter, error) {
			w, err := createSegment(path)
			return slow{w, took, p}, err
		},
		OnSync: func(_ time.Duration, n int) { *sizes = append(*sizes, n) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return q, sizes
}

// appendTimed appends a record and returns how long that took.
func appendTimed(t *testing.T, q *Queue) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := q.Append(context.Background(), record(alfa, "x")); err != nil {
		t.Error(err)
	}
	return time.Since(began)
}

// burst appends n records at once, after one that has a sync for itself: the groups are
// 1 and n.
func burst(t *testing.T, q *Queue, n int) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { appendTimed(t, q) })
	synctest.Wait()
	for range n {
		wg.Go(func() { appendTimed(t, q) })
	}
	wg.Wait()
}

// TestGroupsAreHalves: senders that share one processor are divided into two groups, of
// which one is synced while the other is served.
func TestGroupsAreHalves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sync1, work, senders, each = 250 * time.Microsecond, 40 * time.Microsecond, 32, 200
		p := make(processor, 1)
		q, sizes := openSlow(t, sync1, p)
		began := time.Now()
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				for range each {
					p.work(work)
					appendTimed(t, q)
				}
			})
		}
		wg.Wait()
		took := time.Since(began)
		settled := (*sizes)[20 : len(*sizes)-10]
		if least, most := slices.Min(settled), slices.Max(settled); least < senders/2-4 || most > senders/2+4 {
			t.Errorf("groups of %d to %d records, want halves of %d: %v", least, most, senders, *sizes)
		}
		// The processor is never idle but at the ends.
		if busy := time.Duration(senders*each) * work; took > busy*102/100 {
			t.Errorf("took %s, %s of which were work", took, busy)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestNobodyWaitsInVain: a sync is put off for others only when some are about to come,
// and not for long when they do not.
func TestNobodyWaitsInVain(t *testing.T) {
	const sync1 = 200 * time.Microsecond
	for _, c := range []struct {
		name  string
		took  time.Duration
		burst int
		pause time.Duration // from the burst to the append
		want  time.Duration // that the append takes
	}{
		{"alone", sync1, 0, 0, sync1},
		{"two in turns", sync1, 1, 0, sync1},
		{"after a burst, at once", sync1, 20, 0, 2 * sync1},
		{"after a burst, a little later", sync1, 20, sync1 - 1, 2 * sync1},
		{"after a burst, later than the senders of it would", sync1, 20, sync1, sync1},
		{"after a burst, on a slow disk", time.Second, 20, 0, time.Second + maxGather},
		{"after a burst, later, on a slow disk", time.Second, 20, maxGather, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, sizes := openSlow(t, c.took, nil)
				appendTimed(t, q)
				if c.burst > 0 {
					burst(t, q, c.burst)
				}
				time.Sleep(c.pause)
				if got := appendTimed(t, q); got != c.want {
					t.Errorf("took %s, want %s; groups %v", got, c.want, *sizes)
				}
				// Two in a row without company, and nobody expects any.
				appendTimed(t, q)
				for range 3 {
					if got := appendTimed(t, q); got != c.took {
						t.Errorf("then took %s, want %s; groups %v", got, c.took, *sizes)
					}
				}
				if err := q.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestGatherEnds: the wait for others ends when they are there, when the queue is
// closed, and when all that waited has been cancelled.
func TestGatherEnds(t *testing.T) {
	const sync1 = 200 * time.Microsecond
	t.Run("enough", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q, sizes := openSlow(t, sync1, nil)
			burst(t, q, 19)
			var wg sync.WaitGroup
			began := time.Now()
			for range 10 { // half of 1 and 19
				wg.Go(func() { appendTimed(t, q) })
				time.Sleep(10 * time.Microsecond)
			}
			wg.Wait()
			if took, want := time.Since(began), 90*time.Microsecond+sync1; took != want || (*sizes)[len(*sizes)-1] != 10 {
				t.Errorf("took %s, want %s; groups %v", took, want, *sizes)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("they keep coming, too slowly", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q, sizes := openSlow(t, sync1, nil)
			burst(t, q, 39)
			var wg sync.WaitGroup
			var first time.Duration
			wg.Go(func() { first = appendTimed(t, q) })
			for range 6 {
				time.Sleep(sync1 * 9 / 10)
				wg.Go(func() { appendTimed(t, q) })
			}
			wg.Wait()
			if first != 5*sync1 { // four, and its own
				t.Errorf("the first took %s, want %s; groups %v", first, 5*sync1, *sizes)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q, _ := openSlow(t, sync1, nil)
			burst(t, q, 20)
			took := make(chan time.Duration, 1)
			go func() { took <- appendTimed(t, q) }()
			synctest.Wait()
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			if got := <-took; got != sync1 {
				t.Errorf("took %s, want %s", got, sync1)
			}
		})
	})
	t.Run("cancelled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q, sizes := openSlow(t, sync1, nil)
			burst(t, q, 20)
			ctx, cancel := context.WithTimeout(t.Context(), sync1/2)
			defer cancel()
			if _, err := q.Append(ctx, record(alfa, "x")); err == nil {
				t.Errorf("appended, groups %v", *sizes)
			}
			time.Sleep(time.Second)
			if got := appendTimed(t, q); got != sync1 {
				t.Errorf("then took %s, want %s; groups %v", got, sync1, *sizes)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
	})
}
