//go:build unix

package lambdahost_test

import (
	"syscall"
	"time"
)

// burned is how much CPU time burn takes.
const burned = 30 * time.Millisecond

// burn uses up CPU time, however long it takes.
func burn() {
	used := func() time.Duration {
		var u syscall.Rusage
		if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
			return burned
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	end := used() + burned
	for used() < end {
		continue
	}
}
