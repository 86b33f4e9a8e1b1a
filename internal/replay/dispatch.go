package replay

import (
	"sync"
	"time"
)

// job is one plan entry on its way to a worker.
type job struct {
	n        int
	warmup   bool
	due      time.Duration // since the start of the run; closed loop: set when a worker starts it
	slotFree bool          // when it was due, a worker was idle and its source had nothing in flight
	late     time.Duration // open loop: how long after its due time it was submitted
	ours     time.Duration // of what it waited since: how long that was for bodies, its own and those before it
	mark     time.Duration // for turns: when what it now waits for began
	zero     time.Duration // when the measured part begins
	source   int
	virtual  int // the corpus object and its replica: object·FanOut + replica
	req      Outgoing
	buf      []byte  // of a body that was made for this job; the next one may use it again
	deltaMS  int64   // how far the timestamps are moved
	bare     bool    // it has no body yet: when it came due there was no room for one
	refill   *refill // of a bare job: its body on its way, once somebody has asked for it
	budget   int64   // bytes of the look-ahead budget that it gives back when done
}

// dispatcher hands jobs to workers: at most one job a source in flight when order is kept, jobs of a
// source in the order they were submitted, longest-waiting source first.
type dispatcher struct {
	mu     sync.Mutex
	idle   []chan *job // guarded by mu: waiting workers, the last to go idle first (its connection is warm)
	turns  turns       // guarded by mu: what is submitted and not yet with a worker
	out    int         // guarded by mu: with a worker
	room   *sync.Cond  // signalled when what waits falls to low, or all is done that waitIdle waits for
	low    int         // guarded by mu: what waitRoom waits for; -1 when nobody does
	idling bool        // guarded by mu: waitIdle waits
	closed bool        // guarded by mu
}

func newDispatcher(t turns) *dispatcher {
	d := &dispatcher{turns: t, low: -1}
	d.room = sync.NewCond(&d.mu)
	return d
}

// submit hands j over: to an idle worker if its source's turn is free, else to the queue. After cancel it
// drops j.
func (d *dispatcher) submit(j *job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || !d.turns.admit(j) {
		return
	}
	if last := len(d.idle) - 1; last >= 0 {
		worker := d.idle[last]
		d.idle = d.idle[:last]
		j.slotFree = true
		d.out++
		worker <- j // buffered, and the worker waits: never blocks
		return
	}
	d.turns.hold(j)
}

// next returns the worker's next job, or nil when the run is over. done is the job it has just finished.
func (d *dispatcher) next(worker chan *job, done *job) *job {
	d.mu.Lock()
	if done != nil {
		if d.out--; d.idling && d.turns.waiting+d.out == 0 {
			d.room.Signal()
		}
		d.turns.done(done)
	}
	if j := d.turns.take(); j != nil {
		d.out++
		if d.turns.waiting == d.low {
			d.room.Signal()
		}
		d.mu.Unlock()
		return j
	}
	if d.closed {
		// Whatever still waits stands behind a job in flight, whose worker will take it.
		d.mu.Unlock()
		return nil
	}
	d.idle = append(d.idle, worker)
	d.mu.Unlock()
	return <-worker
}

// stall says that a worker waits for the body of its job, and resume that it is there.
func (d *dispatcher) stall(j *job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turns.stall(j)
}

func (d *dispatcher) resume(j *job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turns.resume(j)
}

// waitRoom returns when fewer than limit jobs wait; the closed loop's feeder would otherwise queue the whole
// plan. Once it has to wait it waits for half of them to go, or it would be woken for every single one.
func (d *dispatcher) waitRoom(limit int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.turns.waiting < limit {
		return
	}
	d.low = limit / 2
	for d.turns.waiting > d.low && !d.closed {
		d.room.Wait()
	}
	d.low = -1
}

// waitIdle blocks until everything submitted is done.
func (d *dispatcher) waitIdle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idling = true
	for d.turns.waiting+d.out > 0 && !d.closed {
		d.room.Wait()
	}
	d.idling = false
}

// close ends the run: workers finish what is submitted and then get nil.
func (d *dispatcher) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.finish()
}

// cancel ends the run at once: what no worker has yet is dropped.
func (d *dispatcher) cancel() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turns.drop()
	d.finish() // which wakes waitRoom
}

// finish sends the idle workers home. mu is held.
func (d *dispatcher) finish() {
	d.closed = true
	d.room.Broadcast()
	for _, w := range d.idle {
		close(w)
	}
	d.idle = nil
}
