package replay

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/cirrusbench/cirrusbench/internal/capture"
)

// readAhead fetches the bodies of a corpus that is not in memory, in the order in which the plan needs them and
// before it does: a store far away answers in milliseconds, and one request after the other would make that the
// highest rate. What waits here is at most readDepth bodies.
type readAhead struct {
	queue chan *fetch  // in the plan's order
	last  *fetch       // the preparer's own: a fan-out needs an object several times in a row
	first atomic.Int64 // entry of the plan whose body is still wanted
	wg    sync.WaitGroup
	stop  context.CancelFunc
}

// fetch is one body on its way.
type fetch struct {
	object int
	done   chan struct{} // closed when body or err is there
	body   []byte
	err    error
}

const (
	readWorkers = 16
	readDepth   = 64
)

// newReadAhead starts to fetch what the entries of a plan that are this shard's need.
func newReadAhead(ctx context.Context, c *capture.Corpus, p *Plan) *readAhead {
	ctx, cancel := context.WithCancel(ctx)
	r := &readAhead{queue: make(chan *fetch, readDepth), stop: cancel}
	work := make(chan *fetch)
	r.wg.Go(func() {
		defer close(r.queue)
		defer close(work)
		total, last := p.Total(), -1
		idle := 0 // entries in a row that needed nothing new
		for n := 0; total == 0 || n < total; n++ {
			if int64(n) < r.first.Load() {
				continue
			}
			object, _, _ := p.Object(n)
			if !p.Owns(n) || object == last {
				if idle++; idle > p.cycle() || ctx.Err() != nil {
					return // nothing new will be needed any more: ours is one object
				}
				continue
			}
			last, idle = object, 0
			f := &fetch{object: object, done: make(chan struct{})}
			for _, to := range []chan *fetch{r.queue, work} {
				select {
				case to <- f:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	for range readWorkers {
		r.wg.Go(func() {
			for f := range work {
				f.body, f.err = c.Body(ctx, f.object)
				close(f.done)
			}
		})
	}
	return r
}

// body returns the body of an object, which must be the next one that the plan needs, or the last one again.
func (r *readAhead) body(ctx context.Context, object int) ([]byte, error) {
	for r.last == nil || r.last.object != object {
		select {
		case f, ok := <-r.queue:
			if !ok {
				return nil, context.Canceled
			}
			r.last = f
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case <-r.last.done:
		return r.last.body, r.last.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pass goes on without the body of entry n, which needs object. That keeps the reading as far ahead as it was, or the
// preparer would meet all that it has passed when it next needs a body. What has not been begun yet is left out.
func (r *readAhead) pass(n, object int) {
	for r.last == nil || r.last.object != object {
		select {
		case f, ok := <-r.queue:
			if !ok {
				return
			}
			r.last = f
		default:
			r.first.Store(int64(n) + 1)
			return
		}
	}
}

// close ends the fetching and waits for it.
func (r *readAhead) close() {
	r.stop()
	r.wg.Wait()
}
