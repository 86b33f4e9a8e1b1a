//go:build integration && linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// TestIntegrationCPULimit gives the generator a tenth of a processor, by stopping it for 90 of every 100 ms and, where
// this user may make a control group, by a quota. Either way the run must call itself invalid and say why.
func TestIntegrationCPULimit(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer srv.Close()
	measure := func(limit func(pid int) (undo func(), ok bool)) (*stats.Run, bool) {
		cmd := exec.CommandContext(t.Context(), binary(t), "replay", "--target", srv.URL, "--rate", "2000", "--duration", "3s", "--timestamps", "keep", "--fan-out", "1", "--order", "none", "-o", "json")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		undo, ok := limit(cmd.Process.Pid)
		err := cmd.Wait()
		undo()
		if !ok {
			return nil, false
		}
		if code := exitCodeOf(err); code != exitInvalid || !strings.Contains(errs.String(), "INVALID") {
			t.Errorf("exit code %d, want %d: %s", code, exitInvalid, errs.String())
		}
		var run stats.Run
		if err := json.Unmarshal(out.Bytes(), &run); err != nil {
			t.Fatal(err)
		}
		t.Logf("client %+v", run.Client)
		return &run, true
	}
	run, _ := measure(func(pid int) (func(), bool) {
		quit, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
				time.Sleep(90 * time.Millisecond)
				_ = syscall.Kill(pid, syscall.SIGCONT)
				select {
				case <-quit:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		}()
		return func() { close(quit); <-done }, true
	})
	if reasons := strings.Join(run.Client.Reasons, "; "); run.Client.Verdict != "invalid" || !strings.Contains(reasons, "held requests up") {
		t.Errorf("stopped for 90 %% of the time: %s %s", run.Client.Verdict, reasons)
	}
	run, ok := measure(func(pid int) (func(), bool) { return quota(t, pid) })
	if !ok {
		t.Log("no right to make a control group: the quota is not tested")
		return
	}
	if reasons := strings.Join(run.Client.Reasons, "; "); run.Client.Verdict != "invalid" || !strings.Contains(reasons, "throttled") {
		t.Errorf("a quota of 10 %%: %s %s", run.Client.Verdict, reasons)
	}
}

// quota puts a process into a control group with a tenth of a processor.
func quota(t *testing.T, pid int) (undo func(), ok bool) {
	t.Helper()
	for _, v := range []struct {
		root  string
		files map[string]string
	}{
		{"/sys/fs/cgroup/cpu", map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "10000"}},
		{"/sys/fs/cgroup", map[string]string{"cpu.max": "10000 100000"}},
	} {
		dir := filepath.Join(v.root, "cirrusbench-test-"+strconv.Itoa(pid))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		undo = func() { _ = os.Remove(dir) }
		ok = true
		for name, value := range v.files {
			ok = ok && os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644) == nil
		}
		ok = ok && os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644) == nil
		if ok {
			return undo, true
		}
		undo()
	}
	return func() {}, false
}

// TestIntegrationCanary: a key and a token reach the endpoint and nothing else, even from an endpoint that answers with
// what it was sent: no output of any kind, and no list of processes, has them.
func TestIntegrationCanary(t *testing.T) {
	const canary = "canary-1f9c77e0"
	var seen bytes.Buffer
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen.Reset()
		_ = r.Header.Write(&seen)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(seen.Bytes())
	}))
	defer srv.Close()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("secret"), []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for sender, flags := range map[string][]string{
		"raw":     {"--sender", "raw", "--api-key-file", file("secret"), "--bearer-token-file", file("secret")},
		"nethttp": {"--sender", "nethttp", "--api-key-file", file("secret"), "--bearer-token-file", file("secret")},
		"sigv4":   {"--sigv4", "execute-api/us-east-1"}, // whose session token is the secret
	} {
		args := append([]string{
			"replay", "--target", srv.URL, "--concurrency", "1", "--duration", "1s",
			"--out", file("run.json"), "--html", file("run.html"), "--hlog", file("run.hlog"), "-o", "markdown",
		}, flags...)
		cmd := exec.CommandContext(t.Context(), binary(t), args...)
		cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=key-"+canary, "AWS_SECRET_ACCESS_KEY="+canary, "AWS_SESSION_TOKEN="+canary+strings.Repeat("/token+", 40))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
		if err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); exitCodeOf(err) != exitInvalid {
			t.Errorf("every request fails, and the exit code is %d", exitCodeOf(err))
		}
		if !strings.Contains(seen.String(), canary) {
			t.Fatalf("the endpoint was not sent the key: %s", seen.String())
		}
		outputs := map[string][]byte{"stdout and stderr": out.Bytes(), "/proc/PID/cmdline": cmdline}
		for _, name := range []string{"run.json", "run.html", "run.hlog"} {
			if outputs[name], err = os.ReadFile(file(name)); err != nil {
				t.Error(err)
			}
		}
		for name, b := range outputs {
			if len(b) == 0 || bytes.Contains(b, []byte(canary)) {
				t.Errorf("%s, %s of %d bytes: empty, or the secret is in it", sender, name, len(b))
			}
		}
		if !bytes.Contains(outputs["run.json"], []byte("[masked]")) {
			t.Errorf("%s: no example of an error with a masked secret: the test does not test", sender)
		}
	}
}
