package replay

import "time"

// turns keeps the order of sources: at most one job of each is under way, the others wait behind it in the order in
// which they came. Ready jobs, whose source's turn has come, go out longest-waiting first. It does no locking.
type turns struct {
	order   Order
	sources []turn
	busy    int // sources that have jobs
	ready   fifo[*job]
	waiting int // in queues and ready

	soon func(*job) // told of jobs that wait and are among the next to go out; a job may be named twice
	told int        // the first of ready that soon was told of

	// What all jobs together wait for their bodies at their turns, each in one of the slots that others wait for.
	held  meter
	slots time.Duration // their number
	clock func() time.Duration
}

// turn is what there is of a source.
type turn struct {
	queue fifo[*job] // behind the one that is ready or under way
	told  int        // the first of queue that soon was told of
	state sourceState
	held  meter         // what its jobs wait at their turns, for their own bodies and for slots that wait for others'
	mark  time.Duration // turns.share when its job became ready
}

type sourceState uint8

const (
	sourceFree sourceState = iota
	sourceReady
	sourceUnderWay
)

// soonest is how many jobs of those that are ready, and how many of those behind others of their source, are among the next
// to go out.
const soonest = 64

func newTurns(order Order, sources, slots int, soon func(*job), clock func() time.Duration) turns {
	return turns{order: order, sources: make([]turn, sources), soon: soon, slots: time.Duration(slots), clock: clock}
}

// admit takes the turn of j's source; false when j has to wait behind another, which it then does.
func (t *turns) admit(j *job) bool {
	if t.order != OrderSource {
		return true
	}
	s := &t.sources[j.source]
	if s.state == sourceFree {
		s.state = sourceUnderWay
		t.busy++
		return true
	}
	s.queue.push(j)
	t.waiting++
	j.mark = t.heldBy(s)
	t.tellQueue(s)
	return false
}

// hold keeps an admitted job until somebody takes it.
func (t *turns) hold(j *job) {
	t.waiting++
	t.wait(j)
}

// wait makes a job, which counts as waiting, the last of the ready ones.
func (t *turns) wait(j *job) {
	j.mark = t.share()
	if t.order == OrderSource {
		s := &t.sources[j.source]
		s.state, s.mark = sourceReady, j.mark
	}
	t.ready.push(j)
	t.tell()
}

// tell names the soonest of the ready jobs.
func (t *turns) tell() {
	for ; t.told < min(soonest, t.ready.len()); t.told++ {
		t.soon(*t.ready.at(t.told))
	}
}

// tellQueue names the soonest of those behind others of a source: an equal share of all, or the very next where there are more
// sources than that, unless so many jobs are ready that it will not be soon.
func (t *turns) tellQueue(s *turn) {
	depth := soonest / t.busy
	if depth == 0 && s.state == sourceUnderWay && t.ready.len() < soonest {
		depth = 1
	}
	for ; s.told < min(depth, s.queue.len()); s.told++ {
		t.soon(*s.queue.at(s.told))
	}
}

// take returns the admitted job that has waited longest, or nil.
func (t *turns) take() *job {
	if t.ready.len() == 0 {
		return nil
	}
	t.waiting--
	j := t.ready.pop()
	t.told--
	t.tell()
	waited := t.share() - j.mark
	j.ours += waited
	if t.order == OrderSource {
		s := &t.sources[j.source]
		s.state = sourceUnderWay
		s.held.sum += waited
		t.tellQueue(s)
	}
	return j
}

// done ends the turn of j: the next of its source becomes ready.
func (t *turns) done(j *job) {
	if t.order != OrderSource {
		return
	}
	s := &t.sources[j.source]
	if s.queue.len() == 0 {
		s.state = sourceFree
		t.busy--
		return
	}
	next := s.queue.pop()
	s.told = max(s.told-1, 0)
	next.ours += t.heldBy(s) - next.mark
	t.wait(next)
	t.tellQueue(s)
}

// stall says that a job whose turn has come begins to wait for its body, and resume that it has it. Meanwhile it has its
// source's turn and a slot, and whoever waits for those waits for us too.
func (t *turns) stall(j *job) {
	j.mark = t.clock()
	t.held.begin(j.mark)
	if t.order == OrderSource {
		t.sources[j.source].held.begin(j.mark)
	}
}

func (t *turns) resume(j *job) {
	now := t.clock()
	j.ours += now - j.mark
	t.held.end(now)
	if t.order == OrderSource {
		t.sources[j.source].held.end(now)
	}
}

// unsent says that jobs wait, for their turns or at them.
func (t *turns) unsent() bool { return t.waiting > 0 || t.held.active > 0 }

// share is how much of its time each slot has been kept for jobs that wait for their bodies.
func (t *turns) share() time.Duration { return t.held.read(t.clock) / t.slots }

// heldBy is how long the jobs of a source have waited for bodies, when they were the first of it.
func (t *turns) heldBy(s *turn) time.Duration {
	d := s.held.read(t.clock)
	if s.state == sourceReady {
		d += t.share() - s.mark
	}
	return d
}

// drop forgets everything that waits.
func (t *turns) drop() {
	t.ready = fifo[*job]{}
	for i := range t.sources {
		t.sources[i].queue, t.sources[i].told = fifo[*job]{}, 0
	}
	t.waiting, t.told = 0, 0
}

// meter adds up times of which several may be going on.
type meter struct {
	sum    time.Duration // of all ends less all beginnings
	active int
}

func (m *meter) begin(now time.Duration) {
	m.active++
	m.sum -= now
}

func (m *meter) end(now time.Duration) {
	m.active--
	m.sum += now
}

// read is the sum up to now.
func (m *meter) read(clock func() time.Duration) time.Duration {
	if m.active == 0 {
		return m.sum
	}
	return m.sum + time.Duration(m.active)*clock()
}

// fifo is a queue in a ring, which allocates only to grow.
type fifo[T any] struct {
	ring    []T // its length is 0 or a power of two
	head, n int
}

func (q *fifo[T]) len() int { return q.n }

// front is the oldest; there must be one.
func (q *fifo[T]) front() *T { return q.at(0) }

// at is the one with i older ones; there must be so many.
func (q *fifo[T]) at(i int) *T { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

func (q *fifo[T]) push(v T) {
	if q.n == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = v
	q.n++
}

func (q *fifo[T]) grow() {
	grown := make([]T, max(4, 2*len(q.ring)))
	for i := range q.n {
		grown[i] = *q.at(i)
	}
	q.ring, q.head = grown, 0
}

// pushLive is push where the queue may hold what is of no account any more, behind an old one that is: that goes before
// the ring grows, which it does where more than half is of account, so that few pushes look through it.
func (q *fifo[T]) pushLive(v T, live func(T) bool) {
	if q.n == len(q.ring) {
		var zero T
		kept := 0
		for i := range q.n {
			if old := *q.at(i); live(old) {
				*q.at(kept) = old
				kept++
			}
		}
		for i := kept; i < q.n; i++ {
			*q.at(i) = zero
		}
		if q.n = kept; 2*kept >= len(q.ring) {
			q.grow()
		}
	}
	q.push(v)
}

func (q *fifo[T]) pop() T {
	var zero T
	v := q.ring[q.head]
	q.ring[q.head] = zero
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	return v
}
