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
	if at := l.until(); at != time.Second {
		t.Errorf("something to do at %v", at)
	}
	if n := testing.AllocsPerRun(10, l.expire); n > 0 {
		t.Errorf("%v allocations", n)
	}
	began := time.Now()
	for range 10_000 {
		l.expire()
		l.until()
	}
	if took := time.Since(began); took > 200*time.Millisecond {
		t.Errorf("10,000 looks took %v", took)
	}
}
