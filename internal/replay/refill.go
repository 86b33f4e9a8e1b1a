package replay

import (
	"context"
	"errors"
	"sync"
)

// refills makes the bodies of jobs that came due while there was no room for one. What takes long is begun a little before the
// job's turn, so that reading it from a store far away does not keep the target waiting; whatever a job still has to wait for
// it at its turn is our delay, not the target's.
type refills struct {
	fill  func(*job) error
	quick func(*job) bool         // it takes next to nothing
	fail  context.CancelCauseFunc // ends the feeding, or a plan of hours would be gone through to its end
	stop  context.CancelFunc      // breaks off what is not there yet
	wg    sync.WaitGroup

	mu  sync.Mutex
	err error // guarded by mu: the first
}

// refill is the body of one job on its way.
type refill struct {
	done chan struct{} // closed when the job has its body, or err says why not
	err  error
}

// newRefills makes bodies until the end of ctx. What cannot be made is told to fail.
func (e *engine) newRefills(ctx context.Context, fail context.CancelCauseFunc) *refills {
	ctx, stop := context.WithCancel(ctx)
	composers := sync.Pool{New: func() any {
		c := e.composer()
		return &c
	}}
	fill := func(j *job) error {
		c := composers.Get().(*composer) //nolint:errcheck,forcetypeassert // there is nothing else in it
		defer composers.Put(c)
		raw, err := e.Corpus.Body(ctx, c.object(j))
		if stopped(ctx) {
			return ctx.Err()
		}
		if err := c.compose(j, raw, err); err != nil {
			return err
		}
		e.budget.take(j.budget)
		return nil
	}
	c := e.composer()
	return &refills{fail: fail, stop: stop, fill: fill, quick: c.quick}
}

// ask begins to make the body of a bare job ahead of its turn, if that takes long and has not begun. Who asks for a job's
// body twice does so in turn.
func (r *refills) ask(j *job) {
	if j.bare && j.refill == nil && !r.quick(j) {
		r.begin(j)
	}
}

// serve sees to it that a bare job whose turn has come gets its body, and returns when it has one if that takes next to nothing.
func (r *refills) serve(j *job) *refill {
	switch {
	case j.refill != nil:
	case r.quick(j):
		j.refill = &refill{done: make(chan struct{})}
		r.make(j)
	default:
		r.begin(j)
	}
	return j.refill
}

func (r *refills) begin(j *job) {
	j.refill = &refill{done: make(chan struct{})}
	r.wg.Go(func() { r.make(j) })
}

// make makes the body of a job that waits for it.
func (r *refills) make(j *job) {
	f := j.refill
	defer close(f.done)
	if f.err = r.fill(j); f.err == nil || errors.Is(f.err, context.Canceled) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = f.err
		r.fail(f.err)
		r.stop()
	}
}

// failed is the first error.
func (r *refills) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// close breaks off what is being read, and waits.
func (r *refills) close() {
	r.stop()
	r.wg.Wait()
}
