//go:build !linux

package replay

import "time"

// spinFor is how long before a due time the feeder stops sleeping and watches the clock instead.
const spinFor = time.Millisecond

// tightenTimer has nothing to ask for outside Linux.
func tightenTimer() {}

// nap sleeps about d.
func nap(d time.Duration) { time.Sleep(d) }

// favourThread has nobody to ask for it outside Linux.
func favourThread() {}
