//go:build !unix

package replay

import "time"

// processCPU is not known here; the CPU ratio then reads 0.
func processCPU() time.Duration { return 0 }
