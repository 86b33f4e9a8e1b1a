package replay

import (
	"runtime"
	"sync"
)

// spare gives the thread that keeps due times a processor of Go's scheduler beyond those that there are. That thread sleeps
// in the kernel, and Go hands its processor to other goroutines meanwhile. When all of them have something to do, as
// after a server that has stood still, it would have to wait for one to come free, and what is due with it. The kernel
// still decides who runs, and it favours whoever has slept.
var spare struct { //nolint:gochecknoglobals // what it counts is the process'
	sync.Mutex

	runs, processors int // guarded by Mutex: how many runs have it, and what there was before
}

// processors is how many threads of Go this process may run at once, without a spare one.
func processors() int {
	spare.Lock()
	defer spare.Unlock()
	if spare.runs > 0 {
		return spare.processors
	}
	return runtime.GOMAXPROCS(0)
}

// withSpare adds the processor until it is given back; several runs of one process share it.
func withSpare() (giveBack func()) {
	spare.Lock()
	defer spare.Unlock()
	if spare.runs++; spare.runs == 1 {
		spare.processors = runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(spare.processors + 1)
	}
	return func() {
		spare.Lock()
		defer spare.Unlock()
		if spare.runs--; spare.runs == 0 {
			runtime.GOMAXPROCS(spare.processors)
		}
	}
}
