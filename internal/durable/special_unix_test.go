//go:build unix

package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// A root user who writes a report to /dev/stdout must still have one afterwards.
func TestWriteFileKeepsSpecialFiles(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip("no named pipes here:", err)
	}
	var (
		got     []byte
		readErr error
		wg      sync.WaitGroup
	)
	wg.Go(func() { got, readErr = os.ReadFile(pipe) })
	err := WriteFile(pipe, []byte("report"), 0o644)
	wg.Wait()
	if err != nil || readErr != nil || string(got) != "report" {
		t.Errorf("write %v, read %q %v", err, got, readErr)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("the pipe is now %v, %v", info.Mode(), err)
	}
}

// Nor must a reader get half of one.
func TestRenderToSpecialFilesIsAllOrNothing(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip("no named pipes here:", err)
	}
	broken := errors.New("no more")
	// Would block for want of a reader, if it opened the pipe.
	err := Render(pipe, 0o644, func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
}
