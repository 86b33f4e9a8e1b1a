package replay

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestExhaustedGenerator: that this side has no descriptor or port left is not the target's failure, and makes a run INVALID.
func TestExhaustedGenerator(t *testing.T) {
	for _, tt := range []struct {
		err     error
		invalid bool
	}{
		{os.NewSyscallError("socket", syscall.EMFILE), true},
		{os.NewSyscallError("connect", syscall.EADDRNOTAVAIL), true},
		{os.NewSyscallError("connect", syscall.ECONNREFUSED), false},
	} {
		n := 0
		sender := senderFunc(func(_ context.Context, r *Outgoing) Response {
			if n++; n > 1 {
				return confirmed(r)
			}
			return failure(&net.OpError{Op: "dial", Net: "tcp", Err: tt.err})
		})
		run, err := execute(t.Context(), t, Config{
			Corpus: oneObject(t, 500), Sender: sender, Timestamps: Keep, Order: OrderSource, Timeout: time.Second,
			Plan: mustPlan(t, PlanConfig{Concurrency: 1, Requests: 20, Objects: 1, Loop: true}),
		}, true)
		if err != nil {
			t.Fatal(err)
		}
		if invalid := strings.Contains(strings.Join(run.Client.Reasons, " "), "descriptor"); invalid != tt.invalid || run.Counts.Failed != 1 ||
			(run.Errors[0].Class == "client_exhausted") != tt.invalid {
			t.Errorf("%v: %+v, errors %+v", tt.err, run.Client, run.Errors)
		}
	}
}
