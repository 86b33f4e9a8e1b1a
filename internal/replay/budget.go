package replay

import (
	"context"
	"sync"
)

// byteBudget bounds the bytes of prepared bodies. One body larger than the whole budget may pass alone.
type byteBudget struct {
	mu    sync.Mutex
	free  int64 // guarded by mu
	size  int64
	freed chan struct{} // holds a token when something was released
}

func newByteBudget(size int64) *byteBudget {
	return &byteBudget{free: size, size: size, freed: make(chan struct{}, 1)}
}

// tryAcquire takes n bytes if they are free.
func (b *byteBudget) tryAcquire(n int64) bool {
	if n == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, b.size)
	if b.free < n {
		return false
	}
	b.free -= n
	return true
}

// acquire takes n bytes, waiting for them; false when ctx ends first. Only one goroutine may acquire.
func (b *byteBudget) acquire(ctx context.Context, n int64) bool {
	n = min(n, b.size)
	for {
		b.mu.Lock()
		if b.free >= n {
			b.free -= n
			b.mu.Unlock()
			return true
		}
		b.mu.Unlock()
		select {
		case <-b.freed:
		case <-ctx.Done():
			return false
		}
	}
}

// release gives n bytes back.
func (b *byteBudget) release(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	b.free += min(n, b.size)
	b.mu.Unlock()
	select {
	case b.freed <- struct{}{}:
	default:
	}
}
