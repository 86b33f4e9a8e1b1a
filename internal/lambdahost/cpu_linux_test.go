package lambdahost_test

import (
	"errors"
	"os"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/lambdahost"
)

// The CPU time of the start is not that of the invocations.
func TestCPUOfInvocations(t *testing.T) {
	h, _ := start(t, "heavy", lambdahost.Config{})
	call(t, h, `{}`)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if cpu := h.Stats().CPU; cpu <= 0 || cpu >= burned {
		t.Errorf("%v of CPU time after a start that took more than %v", cpu, burned)
	}
}

// Under the quota of 128 MB, CPU time takes fourteen times as long; the kernel sees to that, not the clock's luck. The
// start is not held, and nothing is left of the cgroups.
func TestHoldCPU(t *testing.T) {
	log := &buffer{}
	h, err := lambdahost.New(lambdahost.Config{
		Command: []string{os.Args[0]}, Env: append(os.Environ(), roleVariable+"=ok"), Log: log, HoldCPU: true,
	})
	if e, ok := errors.AsType[*lambdahost.CPUError](err); ok {
		t.Skipf("cgroups cannot be used here: %v; hint: %s", e, e.Hint())
	}
	if err != nil {
		t.Fatal(err)
	}
	call(t, h, `"burn"`)
	if err := h.Close(); err != nil { // also says when a cgroup cannot be removed
		t.Fatal(err)
	}
	if r := parse(t, log.String()); len(r) != 1 || r[0].Duration.Value < 5*burned {
		t.Errorf("%v of CPU time took %v", burned, r)
	}
	if cpu := h.Stats().CPU; cpu < burned || cpu > 10*burned {
		t.Errorf("%v of CPU time are counted as %v", burned, cpu)
	}
}
