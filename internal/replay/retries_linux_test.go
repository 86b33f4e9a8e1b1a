//go:build linux && (amd64 || arm64)

package replay

import (
	"testing"
	"time"
)

// TestManyRetriesCostNothing: what waits for its next attempt is not looked at before the first of it is due.
func TestManyRetriesCostNothing(t *testing.T) {
	l := &loop{e: &engine{Config: Config{Plan: &Plan{Loop: Open}}}}
	for i := range 20_000 {
		l.await(&flight{retryAt: time.Duration(20_000-i) * time.Second})
	}
	clear(l.retries) // who looks at one falls over it
	if at := l.until(); at != time.Second {
		t.Errorf("something to do at %v", at)
	}
	if n := testing.AllocsPerRun(10, l.expire); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestDeadlinesOfFewInFlight: behind an attempt that takes long, the deadlines of thousands that have ended are not kept.
func TestDeadlinesOfFewInFlight(t *testing.T) {
	var q fifo[deadline]
	hung := &flight{gen: 7}
	q.pushLive(deadline{hung, 7, time.Minute}, deadline.live)
	quick := make([]*flight, 8)
	for i := range quick {
		quick[i] = new(flight)
	}
	for i := range 100_000 {
		f := quick[i%len(quick)]
		f.gen++ // which ends the one before
		q.pushLive(deadline{f, f.gen, time.Minute + time.Duration(i)}, deadline.live)
	}
	if len(q.ring) > 64 {
		t.Errorf("room for %d deadlines of 9 in flight", len(q.ring))
	}
	if d := q.pop(); d.f != hung {
		t.Error("the oldest is gone")
	}
	var alive []*flight
	last := time.Duration(0)
	for q.len() > 0 {
		d := q.pop()
		if d.at <= last {
			t.Fatalf("%v after %v", d.at, last)
		}
		if last = d.at; d.live() {
			alive = append(alive, d.f)
		}
	}
	if len(alive) != len(quick) {
		t.Errorf("%d of %d that live are kept", len(alive), len(quick))
	}
	for i := range 1000 { // all of account: the ring grows
		q.pushLive(deadline{hung, 7, time.Duration(i)}, deadline.live)
	}
	if q.len() != 1000 {
		t.Errorf("%d of 1000", q.len())
	}
}
