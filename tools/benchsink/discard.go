//go:build linux

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// discard drops up to n received bytes: with MSG_TRUNC a TCP socket copies nothing to the buffer, whose length
// it is told is n.
func discard(fd int, buf []byte, n int) (int, error) {
	got, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(n), unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(got), nil
}
