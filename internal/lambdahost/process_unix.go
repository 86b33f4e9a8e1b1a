//go:build unix

package lambdahost

import (
	"os/exec"
	"syscall"
)

// apart gives the process a group of its own: Ctrl-C on a terminal is for us, who let it finish first.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
