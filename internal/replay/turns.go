package replay

// turns keeps the order of sources: at most one job of each is under way, the others wait behind it in the order in
// which they came. Ready jobs, whose source's turn has come, go out longest-waiting first. It does no locking.
type turns struct {
	order   Order
	queues  []fifo[*job] // by source, the jobs behind the one under way
	busy    []bool       // by source: one is under way or ready
	ready   fifo[*job]
	waiting int // in queues and ready
}

func newTurns(order Order, sources int) turns {
	return turns{order: order, queues: make([]fifo[*job], sources), busy: make([]bool, sources)}
}

// admit takes the turn of j's source; false when j has to wait behind another, which it then does.
func (t *turns) admit(j *job) bool {
	if t.order != OrderSource {
		return true
	}
	if t.busy[j.source] {
		t.queues[j.source].push(j)
		t.waiting++
		return false
	}
	t.busy[j.source] = true
	return true
}

// hold keeps an admitted job until somebody takes it.
func (t *turns) hold(j *job) {
	t.ready.push(j)
	t.waiting++
}

// take returns the admitted job that has waited longest, or nil.
func (t *turns) take() *job {
	if t.ready.len() == 0 {
		return nil
	}
	t.waiting--
	return t.ready.pop()
}

// done ends the turn of j: the next of its source becomes ready.
func (t *turns) done(j *job) {
	if t.order != OrderSource {
		return
	}
	if q := &t.queues[j.source]; q.len() > 0 {
		t.ready.push(q.pop())
		return
	}
	t.busy[j.source] = false
}

// drop forgets everything that waits.
func (t *turns) drop() {
	t.ready = fifo[*job]{}
	clear(t.queues)
	t.waiting = 0
}

// fifo is a queue in a ring, which allocates only to grow.
type fifo[T any] struct {
	ring    []T // its length is 0 or a power of two
	head, n int
}

func (q *fifo[T]) len() int { return q.n }

// front is the oldest; there must be one.
func (q *fifo[T]) front() *T { return &q.ring[q.head] }

func (q *fifo[T]) push(v T) {
	if q.n == len(q.ring) {
		grown := make([]T, max(4, 2*len(q.ring)))
		for i := range q.n {
			grown[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
		}
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = v
	q.n++
}

func (q *fifo[T]) pop() T {
	var zero T
	v := q.ring[q.head]
	q.ring[q.head] = zero
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	return v
}
