package collector

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// pacer lets requests go at a bounded rate.
type pacer struct {
	interval time.Duration // 0: no bound

	mu   sync.Mutex
	next time.Time // when the next one may go
}

func newPacer(perSecond float64) *pacer {
	if perSecond <= 0 {
		return &pacer{}
	}
	return &pacer{interval: time.Duration(float64(time.Second) / perSecond)}
}

// wait returns when the caller may send, or with an error when ctx ends first.
func (p *pacer) wait(ctx context.Context) error {
	if p.interval == 0 {
		return context.Cause(ctx)
	}
	p.mu.Lock()
	now := time.Now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(p.interval)
	p.mu.Unlock()
	return sleep(ctx, at.Sub(now))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("waiting to send: %w", context.Cause(ctx))
	}
	return nil
}

// backoff is how long to wait after the n-th failure in a row, 1 for the first: a random
// part of a second, of two, of four, up to a minute. That spreads the collectors of a
// fleet that have all failed at the same time. What the receiver asks for comes first.
func backoff(n int, retryAfter time.Duration) time.Duration {
	if retryAfter > 0 {
		// Not sooner, and not all in the same moment.
		return min(retryAfter, maxRetryAfter) + rand.N(minBackoff)
	}
	limit := maxBackoff
	if n < 7 {
		limit = min(minBackoff<<max(n-1, 0), maxBackoff)
	}
	return rand.N(limit) + time.Millisecond
}

// retryAfter reads the header: seconds, or a date. 0: not there.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.ParseInt(v, 10, 32); err == nil {
		return time.Duration(max(n, 0)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}
