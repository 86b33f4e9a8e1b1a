package replay

import (
	"context"
	"sync"
	"time"
)

// byteBudget bounds the bytes of prepared bodies, but for the last one, whose size is known only when it is there.
type byteBudget struct {
	mu    sync.Mutex
	free  int64 // guarded by mu
	size  int64
	freed chan struct{} // holds a token when something was released
}

func newByteBudget(size int64) *byteBudget {
	return &byteBudget{free: size, size: size, freed: make(chan struct{}, 1)}
}

// roomy says whether n bytes are free, or all where n is more than all.
func (b *byteBudget) roomy(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.free >= min(n, b.size)
}

// wait returns true when n bytes are free, and false when ctx ends first or patience, unless that is negative. Only one
// goroutine may wait.
func (b *byteBudget) wait(ctx context.Context, n int64, patience time.Duration) bool {
	var end <-chan time.Time
	if patience >= 0 {
		t := time.NewTimer(patience)
		defer t.Stop()
		end = t.C
	}
	for !b.roomy(n) {
		select {
		case <-b.freed:
		case <-end:
			return b.roomy(n)
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// take takes n bytes, whether they are free or not.
func (b *byteBudget) take(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free -= n
}

// release gives n bytes back.
func (b *byteBudget) release(n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	b.free += n
	b.mu.Unlock()
	select {
	case b.freed <- struct{}{}:
	default:
	}
}
