package main

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
)

// TestConcludeClosedPipe: who has read enough of the output is told nothing; who loses anything else to a broken pipe is.
func TestConcludeClosedPipe(t *testing.T) {
	for _, tt := range []struct {
		path  string
		err   error
		quiet bool
	}{
		{os.Stdout.Name(), syscall.EPIPE, true},
		{os.Stdout.Name(), syscall.ENOSPC, false},
		{"run.json", syscall.EPIPE, false},
	} {
		var out bytes.Buffer
		code := conclude(&out, fmt.Errorf("writing: %w", &os.PathError{Op: "write", Path: tt.path, Err: tt.err}))
		if code != exitFailed || (out.Len() == 0) != tt.quiet {
			t.Errorf("%s, %v: exit code %d, %q", tt.path, tt.err, code, &out)
		}
	}
}
