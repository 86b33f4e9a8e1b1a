//go:build integration && linux

package main

import (
	"bufio"
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// TestIntegrationSync looks at the system calls of the server: before each of its answers it has synced a file with the
// request, and the directory in which the file has its name. No test that kills the server sees that: the kernel keeps
// what a process has written.
func TestIntegrationSync(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("no strace: run make integration")
	}
	dir, trace := t.TempDir(), filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-y", "-e", "trace=fsync,fdatasync", "-o", trace,
		binary(t), "serve", "--listen", "127.0.0.1:0", "--store", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	lines := bufio.NewScanner(stderr)
	url := ""
	for url == "" && lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			url = m[1]
		}
	}
	const requests = 20
	for i := range requests {
		req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
			Labels:  []prompb.Label{{Name: "__name__", Value: "up"}},
			Samples: []prompb.Sample{{Value: float64(i), Timestamp: 1_760_000_000_000 + int64(i)}}, // all in one directory
		}}}
		raw, err := req.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		hr, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/write", bytes.NewReader(snappy.Encode(nil, raw)))
		if err != nil {
			t.Fatal(err)
		}
		hr.Header.Set("Content-Type", "application/x-protobuf")
		resp, err := http.DefaultClient.Do(hr)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			t.Fatal(resp.Status)
		}
	}
	// strace hands the signal of its group on, and ends with what it traces.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	_ = cmd.Wait() // by the signal or well: what it has printed counts
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	files, dirs := 0, 0
	for _, m := range regexp.MustCompile(`f(?:data)?sync\(\d+<([^>]*)>\) += 0`).FindAllStringSubmatch(string(b), -1) {
		path, ok := strings.CutPrefix(m[1], dir+"/")
		switch {
		case !ok:
		case strings.HasPrefix(path, "org=") && strings.Contains(filepath.Base(path), "hour="):
			dirs++
		case !strings.Contains(filepath.Base(path), "="):
			files++
		}
	}
	if files < requests || dirs < requests {
		t.Errorf("%d files and %d directories were synced for %d answers\n%s", files, dirs, requests, b)
	}
	t.Logf("%d answers, %d files and %d directories synced", requests, files, dirs)
}
