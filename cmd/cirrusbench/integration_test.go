//go:build integration

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// binary is the program as a user has it.
func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("CIRRUSBENCH_BINARY")
	if path == "" {
		t.Fatal("CIRRUSBENCH_BINARY is not set: run make integration")
	}
	return path
}

// startServe runs `serve` and returns its URL and a func that ends it with SIGTERM and expects a clean exit.
func startServe(t *testing.T, args ...string) (url string, stop func()) {
	t.Helper()
	return startServeEnv(t, nil, args...)
}

// startServeEnv is startServe with more in the environment.
func startServeEnv(t *testing.T, environ []string, args ...string) (url string, stop func()) {
	t.Helper()
	url, stop, _ = startServeKill(t, environ, args...)
	return url, stop
}

// startServeKill is startServeEnv with a func that ends it with SIGKILL instead.
func startServeKill(t *testing.T, environ []string, args ...string) (url string, stop, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t), append([]string{"serve", "--listen", "127.0.0.1:0", "--quiet"}, args...)...)
	cmd.Env = append(os.Environ(), environ...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			url = m[1]
			break
		}
	}
	if url == "" {
		t.Fatal("serve did not say where it listens")
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() {
			t.Logf("serve: %s", lines.Text())
		}
	}()
	stop = func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("serve ended with %v", err)
		}
	}
	return url, stop, func() {
		t.Helper()
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-drained
		_ = cmd.Wait() // killed, of course
	}
}

// freePort returns a loopback port that nobody listens on just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// fetch gets a page, or "" while nobody answers.
func fetch(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// metric sums a metric over those of its label sets that hold label (such as `kind="samples"`, or ""); one that is not
// there is 0.
func metric(page, name, label string) float64 {
	var sum float64
	for _, m := range regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(name)+`(\{[^}]*\})? (\S+)$`).FindAllStringSubmatch(page, -1) {
		if v, err := strconv.ParseFloat(m[2], 64); err == nil && strings.Contains(m[1], label) {
			sum += v
		}
	}
	return sum
}

// TestIntegrationPrometheus lets Debian's Prometheus scrape itself and write to us: nothing fails or is dropped at the
// sender, and what it says it sent is what we counted and what the store holds; then the store is replayed.
func TestIntegrationPrometheus(t *testing.T) {
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("no prometheus: run make integration")
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "store")
	url, stopServe := startServe(t, "--store", data)
	addr := freePort(t)
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `global: {scrape_interval: 1s, external_labels: {cluster: alfa}}
scrape_configs:
  - {job_name: self, static_configs: [{targets: ['%s']}]}
remote_write:
  - url: %s/api/v1/write?cluster_name=alfa
    metadata_config: {send: true, send_interval: 5s}
    queue_config: {batch_send_deadline: 1s}
`, addr, url), 0o644); err != nil {
		t.Fatal(err)
	}
	prom := exec.CommandContext(t.Context(), prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
		"--web.listen-address="+addr, "--storage.remote.flush-deadline=10s", "--log.level=warn")
	prom.Stderr = os.Stderr
	if err := prom.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prom.Process.Kill() })

	// Let it run until it has sent a few thousand samples, then look at both ends at a quiet moment.
	var sender string
	deadline := time.Now().Add(90 * time.Second)
	for {
		time.Sleep(time.Second)
		sender = fetch(t, "http://"+addr+"/metrics")
		if metric(sender, "prometheus_remote_storage_samples_total", "") > 5000 || time.Now().After(deadline) {
			break
		}
	}
	for _, name := range []string{
		"samples_failed_total", "samples_dropped_total", "metadata_failed_total", "exemplars_failed_total", "histograms_failed_total",
	} {
		if n := metric(sender, "prometheus_remote_storage_"+name, ""); n != 0 {
			t.Errorf("the sender counts %s %v", name, n)
		}
	}
	if err := prom.Process.Signal(syscall.SIGTERM); err != nil { // flushes its queue, with staleness markers
		t.Fatal(err)
	}
	if err := prom.Wait(); err != nil {
		t.Errorf("prometheus ended with %v", err)
	}
	page := fetch(t, url+"/metrics")
	stopServe()
	written := metric(page, "cirrusbench_written_total", `kind="samples"`)
	if sent := metric(sender, "prometheus_remote_storage_samples_total", ""); written < sent || sent == 0 {
		t.Errorf("sent %v samples, counted %v", sent, written)
	}
	if n := metric(page, "cirrusbench_rejected_requests_total", ""); n != 0 {
		t.Errorf("%v requests were refused", n)
	}
	s, err := store.Open(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	stored := storedSamples(t, s)
	if float64(stored.Samples) != written {
		t.Errorf("the store holds %d samples, the server counted %v", stored.Samples, written)
	}
	if stored.Metadata == 0 {
		t.Error("no metadata arrived")
	}
	t.Logf("prometheus wrote %d samples (%d stale), %d metadata entries; the store holds all of them", stored.Samples, stored.StaleSamples, stored.Metadata)

	out, err := exec.CommandContext(t.Context(), binary(t), "replay", data, "--rate", "50", "--requests", "100", "-o", "json").Output()
	if code := exitCodeOf(err); code != exitOK && code != exitInvalid {
		t.Fatalf("replaying what was stored: %v", err)
	}
	var run stats.Run
	if err := json.Unmarshal(out, &run); err != nil {
		t.Fatal(err)
	}
	if run.Counts.OK != 100 {
		t.Errorf("replaying what was stored: %+v", run.Counts)
	}
}

// storedSamples reads a store back and adds up what the bodies hold.
func storedSamples(t *testing.T, s store.Store) remotewrite.Counts {
	t.Helper()
	c, err := capture.Load(t.Context(), s, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var total remotewrite.Counts
	var w remotewrite.Walker
	for i, e := range c.Entries() {
		body, err := c.Body(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := remotewrite.Decode(nil, body, 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := w.Walk(e.Key.Version, raw, remotewrite.Limits{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		total.Samples += sum.Samples
		total.StaleSamples += sum.StaleSamples
		total.Metadata += sum.Metadata
		total.Exemplars += sum.Exemplars
		total.IntHistograms += sum.IntHistograms
		total.FloatHistograms += sum.FloatHistograms
		total.CustomBucketHistograms += sum.CustomBucketHistograms
	}
	return total
}

func exitCodeOf(err error) int {
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		return ee.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// TestIntegrationFrozenServer is the check for coordinated omission with the real clock and the real binary: 100/s for
// 10 s against a server of 1 ms that freezes from second 5 to 6, with both senders at once. The lower bounds are what
// the test is for: far above what a generator with its clock at the actual send reports (p99 about 1 ms).
func TestIntegrationFrozenServer(t *testing.T) {
	for _, sender := range []string{"raw", "nethttp"} {
		t.Run(sender, func(t *testing.T) {
			t.Parallel()
			var first sync.Once
			var begin time.Time
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				first.Do(func() { begin = time.Now() })
				if at := time.Since(begin); at >= 5*time.Second && at < 6*time.Second {
					time.Sleep(6*time.Second - at)
				}
				time.Sleep(time.Millisecond)
				w.WriteHeader(http.StatusNoContent)
			}))
			defer srv.Close()
			out, err := exec.CommandContext(t.Context(), binary(t),
				"replay", "--target", srv.URL, "--sender", sender, "--rate", "100", "--duration", "10s", "-o", "json").Output()
			if code := exitCodeOf(err); code != exitOK && code != exitInvalid {
				t.Fatalf("replay: %v", err)
			}
			var run stats.Run
			if err := json.Unmarshal(out, &run); err != nil {
				t.Fatal(err)
			}
			l := run.Latency
			t.Logf("n=%d p50=%.2f p90=%.2f p95=%.1f p99=%.1f max=%.1f ms; service p99=%.2f ms; schedule error p99=%.3f ms; client %s",
				l.Count, l.P50MS, l.P90MS, l.P95MS, l.P99MS, l.MaxMS, run.Service.P99MS, run.ScheduleError.P99MS, run.Client.Verdict)
			for _, c := range []struct {
				name           string
				got, low, high float64
			}{
				{"n", float64(l.Count), 1000, 1000},
				{"p95", l.P95MS, 350, 3000},
				{"p99", l.P99MS, 750, 3000},
				{"max", l.MaxMS, 900, 3000},
			} {
				if c.got < c.low || c.got > c.high {
					t.Errorf("%s = %v, want %v to %v", c.name, c.got, c.low, c.high)
				}
			}
		})
	}
}
