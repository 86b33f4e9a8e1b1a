package kinesis

import (
	"math/rand/v2"
	"sync"
	"time"
)

// entry is a record in the queue.
type entry struct {
	Record
	since  time.Time  // when it was put
	result chan error // holds one; nil: nobody waits
	gone   bool       // guarded by queue.mu: the one who waited has given up
	tries  int        // calls that did not take it
}

func (e *entry) size() int { return len(e.Data) + len(e.PartitionKey) }

// queue is what waits to be sent, oldest first. What is in a call under way counts towards its bounds too.
type queue struct {
	limits Config

	mu      sync.Mutex
	waiting []*entry // guarded by mu
	bytes   int      // guarded by mu: of waiting and of calls under way
	records int      // guarded by mu: the same
	due     int      // guarded by mu: bytes of waiting
	closed  bool     // guarded by mu: nothing is taken in
	flush   bool     // guarded by mu: nothing lingers
	// After a call that was not taken as a whole nobody makes another before resume.
	failures int       // guarded by mu: in a row
	resume   time.Time // guarded by mu
	changed  chan struct{}
}

func newQueue(limits Config) *queue {
	return &queue{limits: limits, changed: make(chan struct{}, 1)}
}

// add takes a record in, if there is room.
func (q *queue) add(e *entry) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case q.bytes+e.size() > q.limits.QueueBytes:
		return ErrFull
	}
	q.bytes += e.size()
	q.records++
	q.due += e.size()
	q.waiting = append(q.waiting, e)
	q.wake()
	return nil
}

// wake tells one worker that there may be something to do. A worker that takes something passes it on.
func (q *queue) wake() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// take returns a batch that is due, or for how long there will be none: negative, until something changes. all is true
// when there is nothing left and there will not be.
func (q *queue) take(now time.Time) (batch []*entry, wait time.Duration, all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forget()
	if len(q.waiting) == 0 {
		return nil, -1, q.closed && q.records == 0
	}
	if wait := q.resume.Sub(now); wait > 0 {
		return nil, wait, false
	}
	full := len(q.waiting) >= q.limits.BatchRecords || q.due >= q.limits.BatchBytes
	oldest := q.waiting[0]
	if wait := q.limits.Linger - now.Sub(oldest.since); !full && !q.flush && wait > 0 && oldest.tries == 0 {
		return nil, wait, false
	}
	n, size := 0, 0
	for n < len(q.waiting) && n < q.limits.BatchRecords {
		s := q.waiting[n].size()
		if n > 0 && size+s > q.limits.BatchBytes {
			break
		}
		size += s
		n++
	}
	batch = append(batch, q.waiting[:n]...)
	q.waiting = append([]*entry(nil), q.waiting[n:]...)
	q.due -= size
	if len(q.waiting) > 0 {
		q.wake()
	}
	return batch, 0, false
}

// forget drops records that nobody waits for any more: their senders have been told to come back.
func (q *queue) forget() {
	kept := q.waiting[:0]
	for _, e := range q.waiting {
		if e.gone {
			q.due -= e.size()
			q.bytes -= e.size()
			q.records--
			continue
		}
		kept = append(kept, e)
	}
	clear(q.waiting[len(kept):])
	q.waiting = kept
}

// outcome notes whether a call was taken as a whole; when not, all calls wait a random time that grows with the
// failures in a row.
func (q *queue) outcome(now time.Time, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if ok {
		q.failures = 0
		return
	}
	q.failures++
	q.resume = now.Add(firstBackoff/2 + rand.N(min(maxBackoff, firstBackoff<<min(q.failures-1, 10))))
}

// putBack returns records that a call did not take, before everything else.
func (q *queue) putBack(failed []*entry) {
	if len(failed) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range failed {
		e.tries++
		q.due += e.size()
	}
	q.waiting = append(append([]*entry(nil), failed...), q.waiting...)
	q.wake()
}

// done lets go of records that are sent or given up.
func (q *queue) done(entries []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		q.bytes -= e.size()
		q.records--
	}
	q.wake()
}

// abandon marks a record whose sender has stopped waiting.
func (q *queue) abandon(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.gone = true
}

// close takes nothing in any more and lets nothing linger.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.flush = true, true
	q.wake()
}

func (q *queue) depth() (records, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records, q.bytes
}

// rest takes everything out that is not in a call.
func (q *queue) rest() []*entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.waiting
	q.waiting, q.due = nil, 0
	return all
}
