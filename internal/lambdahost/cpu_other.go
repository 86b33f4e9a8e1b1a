//go:build !linux

package lambdahost

import "time"

type (
	cpuGroup  struct{}
	cpuMember struct{}
)

func openCPU(string, float64, time.Duration) (*cpuGroup, error) {
	return nil, &CPUError{Problem: "this system has no cgroups", hint: "run it on Linux, or without the share"}
}

func (*cpuGroup) join(int, int) (*cpuMember, error) { return &cpuMember{}, nil }
func (*cpuGroup) close() error                      { return nil }
func (*cpuMember) leave() error                     { return nil }

// cpuTime and peakMemoryMB are not known here.
func cpuTime(int) time.Duration { return 0 }
func peakMemoryMB(int) int      { return 0 }
