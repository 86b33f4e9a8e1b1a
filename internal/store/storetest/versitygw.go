package storetest

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The credentials of the server that [StartVersityGW] starts.
const (
	VersityGWKey    = "test"
	VersityGWSecret = "testsecret" //nolint:gosec // of a server on loopback that lives as long as a test
)

// StartVersityGW runs the S3 server versitygw, of which binary is the path, over the
// directory root, makes the buckets and returns its endpoint once it answers. It ends
// with the test.
func StartVersityGW(t *testing.T, binary, root string, buckets ...string) (endpoint string) {
	t.Helper()
	root, err := filepath.Abs(root) // it does not take a relative one
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range buckets { // a directory on the first level is a bucket
		if err := os.MkdirAll(filepath.Join(root, b), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String() // free a moment later, and until somebody else takes it
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary, "--port", addr, "--quiet", "posix", root)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+VersityGWKey, "ROOT_SECRET_ACCESS_KEY="+VersityGWSecret)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // how it ends says nothing about us
	})
	endpoint = "http://" + addr
	for range 100 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, endpoint, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil { // 403: it lives
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			return endpoint
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("versitygw does not answer")
	return ""
}
