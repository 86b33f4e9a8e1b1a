package spool

import "golang.org/x/sys/unix"

// mountSmall mounts a tmpfs on dir.
func mountSmall(dir, options string) (unmount func(), err error) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		return nil, err
	}
	return func() { _ = unix.Unmount(dir, 0) }, nil
}
