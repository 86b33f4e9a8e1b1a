package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/replay"
)

func TestDescribeProgress(t *testing.T) {
	running := replay.Progress{
		Elapsed: 10 * time.Second, Planned: 3000, Sent: 1010, OK: 990, Failed: 7, TimedOut: 3, InFlight: 10, Retried: 2,
		P50: 1340 * time.Microsecond, P99: 25 * time.Millisecond, PlannedTime: 30 * time.Second,
	}
	draining, warming := running, running
	draining.Elapsed = 31 * time.Second
	warming.WarmingUp = true
	for _, tt := range []struct {
		p    replay.Progress
		want string
	}{
		{replay.Progress{BeginsIn: 840 * time.Millisecond, Planned: 3000}, " preparing, begins in 800ms"},
		{running, " 1000/3000  100/s  10 errors  10 in flight  2 retries  p50 1.34ms  p99 25ms  20s left"},
		{draining, " 1000/3000  32/s  10 errors  10 in flight  2 retries  p50 1.34ms  p99 25ms  draining"},
		{warming, " 1000/3000  100/s  10 errors  10 in flight  2 retries  p50 1.34ms  p99 25ms  20s left  (warming up)"},
	} {
		if got := describe(tt.p); got != tt.want {
			t.Errorf("%+v:\n got %q\nwant %q", tt.p, got, tt.want)
		}
	}
}

// Where no line can be redrawn there is one every ten seconds, and none before anything has happened.
func TestPlainProgress(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, false, false, nil)
	p.update(replay.Progress{BeginsIn: time.Second})
	for at := time.Duration(0); at <= 25*time.Second; at += 250 * time.Millisecond {
		p.update(replay.Progress{Elapsed: at, OK: int64(at / time.Second)})
	}
	p.close()
	if got := strings.Count(out.String(), "\n"); got != 2 {
		t.Errorf("%d lines, want 2:\n%s", got, &out)
	}
}
