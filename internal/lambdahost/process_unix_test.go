//go:build unix

package lambdahost_test

import (
	"syscall"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/lambdahost"
)

// Ctrl-C reaches the whole group of the terminal; the function must not be in ours.
func TestOwnProcessGroup(t *testing.T) {
	h, _ := start(t, "ok", lambdahost.Config{})
	r, _ := call(t, h, `{}`)
	group, err := syscall.Getpgid(r.PID)
	if err != nil || group != r.PID {
		t.Errorf("process %d is in group %d, %v", r.PID, group, err)
	}
}
