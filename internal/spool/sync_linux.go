package spool

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes the content of f durable, and its length, but not its times.
func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
