package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// halfSent is a server with a request of which half has arrived.
type halfSent struct {
	cmd    *exec.Cmd
	addr   string
	dir    string
	conn   net.Conn
	rest   []byte
	ended  chan error
	stderr *bytes.Buffer // to be read after ended
}

// sendHalf starts serve and sends it the first half of a request.
func sendHalf(t *testing.T, args ...string) *halfSent {
	t.Helper()
	h := &halfSent{dir: t.TempDir(), ended: make(chan error, 1), stderr: new(bytes.Buffer)}
	h.cmd = exec.CommandContext(t.Context(), "cirrusbench", append([]string{"serve", "--listen", "127.0.0.1:0", "--store", h.dir}, args...)...)
	pipe, err := h.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(pipe)
	first, err := lines.ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(first), "listening on http://")
	if err != nil || !ok {
		t.Fatalf("%q, %v", first, err)
	}
	h.addr = addr
	go func() {
		_, err := io.Copy(h.stderr, lines)
		h.ended <- errors.Join(err, h.cmd.Wait())
	}()
	body, err := os.ReadFile(filepath.Join("..", "..", "fixtures", "captures", "v1-prom242-500samples-plain.snappy"))
	if err != nil {
		t.Fatal(err)
	}
	if h.conn, err = new(net.Dialer).DialContext(t.Context(), "tcp", addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.conn.Close() })
	half := len(body) / 2
	h.rest = body[half:]
	if _, err := fmt.Fprintf(h.conn, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:half]); err != nil {
		t.Fatal(err)
	}
	// The request is under way when the server says so.
	for metric := ""; !strings.Contains(metric, "cirrusbench_in_flight_requests 1\n"); {
		metric = h.get(t, "/metrics")
	}
	return h
}

func (h *halfSent) get(t *testing.T, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.addr+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// signal asks the server to end and waits until it takes no connections.
func (h *halfSent) signal(t *testing.T) {
	t.Helper()
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", h.addr)
		if err != nil {
			return
		}
		_ = c.Close()
		time.Sleep(time.Millisecond)
	}
}

func (h *halfSent) objects(t *testing.T) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(filepath.ToSlash(strings.TrimPrefix(path, h.dir)), "/org=") && !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A request that is under way when the server is asked to end is stored and answered, and its connection closed.
func TestServeFinishesRequests(t *testing.T) {
	h := sendHalf(t, "--drain-timeout", "60s")
	h.signal(t)
	if _, err := h.conn.Write(h.rest); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(h.conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent || !resp.Close {
		t.Errorf("%s, closes %v", resp.Status, resp.Close)
	}
	if err := <-h.ended; err != nil || h.objects(t) != 1 {
		t.Errorf("%v, %d objects\n%s", err, h.objects(t), h.stderr)
	}
}

// A second signal does not wait for it.
func TestServeSecondSignal(t *testing.T) {
	h := sendHalf(t, "--drain-timeout", "10m")
	h.signal(t)
	for {
		_ = h.cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended
		select {
		case err := <-h.ended:
			e, ok := errors.AsType[*exec.ExitError](err)
			if !ok || e.Success() || h.objects(t) != 0 {
				t.Errorf("%v, %d objects\n%s", err, h.objects(t), h.stderr)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// A request that does not come to its end is cut off, and the exit code says so.
func TestServeDrainTimeout(t *testing.T) {
	h := sendHalf(t, "--drain-timeout", "50ms")
	h.signal(t)
	err := <-h.ended
	e, ok := errors.AsType[*exec.ExitError](err)
	if !ok || e.ExitCode() != exitFailed || !strings.Contains(h.stderr.String(), "still under way after 50ms") || h.objects(t) != 0 {
		t.Errorf("%v, %d objects\n%s", err, h.objects(t), h.stderr)
	}
}
