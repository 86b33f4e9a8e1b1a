package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"syscall"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/stats"
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

// TestDeadHintNamesFlags: what a hint tells to give can be given.
func TestDeadHintNamesFlags(t *testing.T) {
	flags := newReplayCommand(&env{}).Flags()
	named := 0
	for _, class := range []string{"http_401", "http_404", "connection_refused", "dns", "tls", replay.ClientExhausted, "network"} {
		hint := deadHint(&stats.Run{Errors: []stats.ErrorCount{{Class: class, Count: 1}}})
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+)`).FindAllStringSubmatch(hint, -1) {
			if named++; flags.Lookup(m[1]) == nil {
				t.Errorf("%s: %q names no flag of replay", class, hint)
			}
		}
	}
	if named < 6 {
		t.Errorf("%d flags are named", named)
	}
}
