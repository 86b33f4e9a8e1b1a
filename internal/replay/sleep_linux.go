package replay

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// spinFor is how long before a due time the feeder stops sleeping and watches the clock instead. The
// kernel wakes a sleeper 20–80 µs late; spinning longer would only take CPU from the server beside us.
const spinFor = 80 * time.Microsecond

// tightenTimer asks the kernel not to batch this thread's wake-ups (the default slack is 50 µs).
// The thread must be locked. Failure only costs precision, which the run reports as schedule error.
func tightenTimer() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
}

// favourThread asks the kernel to prefer this thread to others that are ready to run: what is due should not wait for a
// neighbour's time slice. It takes no more time than before. The thread must be locked. Without the right to do so
// (CAP_SYS_NICE) nothing changes.
func favourThread() {
	const niceness = -10
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceness)
}

// nap sleeps about d in the kernel. time.Sleep would go through the network poller, whose timer
// granularity is 1 ms.
func nap(d time.Duration) {
	if runtime.GOMAXPROCS(0) == 1 {
		time.Sleep(d) // a thread that sleeps in the kernel would keep the one processor from the workers
		return
	}
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // woken early by a signal: the caller looks at the clock again
}
