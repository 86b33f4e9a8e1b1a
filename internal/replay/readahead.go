package replay

import (
	"context"
	"sync"

	"github.com/cirrusbench/cirrusbench/internal/capture"
)

// readAhead fetches the bodies of a corpus that is not in memory, in the order in which the plan needs them and
// before it does: a store far away answers in milliseconds, and one request after the other would make that the
// highest rate. What waits here is at most readDepth bodies.
type readAhead struct {
	queue chan *fetch // in the plan's order
	last  *fetch      // the preparer's own: a fan-out needs an object several times in a row
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
		for n := 0; total == 0 || n < total; n++ {
			if ctx.Err() != nil {
				return
			}
			if !p.Owns(n) {
				continue
			}
			object, _, _ := p.Object(n)
			if object == last {
				continue
			}
			last = object
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

// close ends the fetching and waits for it.
func (r *readAhead) close() {
	r.stop()
	r.wg.Wait()
}
