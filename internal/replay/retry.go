package replay

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Retry says when a failed request is sent again. The zero value never retries.
//
// NewPrometheusRetry does what Prometheus' queue manager does: it retries what may succeed later, which is
// every network error, timeout and 5xx, and a 429 if asked to; it waits 30 ms, then twice as long each
// time up to 5 s, or as long as the server's Retry-After says; and the source's next request waits behind.
// Prometheus never gives up; here For bounds it.
type Retry struct {
	Min, Max time.Duration
	On429    bool
	For      time.Duration // no further attempt later than this after the request was first sent
}

// NewPrometheusRetry returns Prometheus' defaults, bounded by how long one request may be retried.
func NewPrometheusRetry(on429 bool, bound time.Duration) Retry {
	return Retry{Min: 30 * time.Millisecond, Max: 5 * time.Second, On429: on429, For: bound}
}

// recoverable says whether the same request may succeed later.
func (p Retry) recoverable(r *Response) bool {
	return r.Err != nil || r.Status/100 == 5 || (p.On429 && r.Status == http.StatusTooManyRequests)
}

// wait returns how long to wait before the next attempt, and the backoff after that one. elapsed is the
// time since the first attempt began. The first backoff is 0.
func (p Retry) wait(r *Response, backoff, elapsed time.Duration) (wait, next time.Duration, again bool) {
	if p.For <= 0 || !p.recoverable(r) {
		return 0, 0, false
	}
	wait = max(backoff, p.Min)
	if r.RetryAfter > 0 {
		wait = r.RetryAfter
	}
	if elapsed+wait > p.For {
		return 0, 0, false
	}
	return wait, min(2*wait, p.Max), true
}

// retryAfter reads a Retry-After header, in seconds or as a date; 0 when it says nothing.
func retryAfter(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0
	}
	const limit = 24 * 60 * 60
	if n, err := strconv.Atoi(s); err == nil {
		return time.Duration(min(max(n, 0), limit)) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return min(max(at.Sub(now), 0), limit*time.Second)
	}
	return 0
}
