//go:build integration

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/workload"
)

// startCollect runs the program's collector on a port and returns how to end and how to kill it.
func startCollect(t *testing.T, addr string, args ...string) (stop, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), binary(t), append([]string{"collect", "--listen", addr}, args...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for range 200 {
		if fetch(t, "http://"+addr+"/livez") != "" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop = func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("collect ended with %v\n%s", err, &log)
		}
	}
	return stop, func() {
		t.Helper()
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed, of course
	}
}

// storedLines reads a store with the decoder that Prometheus generates: a line a sample, histogram or exemplar, with
// every bit of it, and how often it is there.
func storedLines(t *testing.T, dir, org string) (lines map[string]int, objects int) {
	t.Helper()
	s, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	lines = map[string]int{}
	for o, err := range s.List(t.Context(), "org="+org+"/") {
		if err != nil {
			t.Fatal(err)
		}
		body, err := s.Get(t.Context(), o.Key)
		if err != nil {
			t.Fatal(err)
		}
		objects++
		b, err := remotewrite.Decode(nil, body, 1<<28)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(o.Key, ".rw1.sz") {
			err = linesV1(lines, b)
		} else {
			err = linesV2(lines, b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return lines, objects
}

func linesV1(lines map[string]int, b []byte) error {
	var req prompb.WriteRequest
	if err := req.Unmarshal(b); err != nil {
		return err
	}
	pairs := func(in []prompb.Label) string {
		var p []string
		for _, l := range in {
			p = append(p, l.Name+"="+l.Value)
		}
		slices.Sort(p)
		return fmt.Sprintf("%q", p)
	}
	for _, ts := range req.Timeseries {
		name := pairs(ts.Labels)
		for _, s := range ts.Samples {
			lines[fmt.Sprintf("sample %s %x %d", name, math.Float64bits(s.Value), s.Timestamp)]++
		}
		for _, e := range ts.Exemplars {
			lines[fmt.Sprintf("exemplar %s %s %x %d", name, pairs(e.Labels), math.Float64bits(e.Value), e.Timestamp)]++
		}
		for _, h := range ts.Histograms {
			raw, err := h.Marshal() // the fields of 2.0 are the same
			if err != nil {
				return err
			}
			var same writev2.Histogram
			if err := same.Unmarshal(raw); err != nil {
				return err
			}
			if raw, err = same.Marshal(); err != nil {
				return err
			}
			lines[fmt.Sprintf("histogram %s %x", name, raw)]++
		}
	}
	return nil
}

func linesV2(lines map[string]int, b []byte) error {
	var req writev2.Request
	if err := req.Unmarshal(b); err != nil {
		return err
	}
	pairs := func(refs []uint32) string {
		var p []string
		for i := 0; i+1 < len(refs); i += 2 {
			p = append(p, req.Symbols[refs[i]]+"="+req.Symbols[refs[i+1]])
		}
		slices.Sort(p)
		return fmt.Sprintf("%q", p)
	}
	for _, ts := range req.Timeseries {
		name := pairs(ts.LabelsRefs)
		for _, s := range ts.Samples {
			lines[fmt.Sprintf("sample %s %x %d", name, math.Float64bits(s.Value), s.Timestamp)]++
		}
		for _, e := range ts.Exemplars {
			lines[fmt.Sprintf("exemplar %s %s %x %d", name, pairs(e.LabelsRefs), math.Float64bits(e.Value), e.Timestamp)]++
		}
		for _, h := range ts.Histograms {
			raw, err := h.Marshal()
			if err != nil {
				return err
			}
			lines[fmt.Sprintf("histogram %s %x", name, raw)]++
		}
	}
	return nil
}

// TestIntegrationCollect lets a real Prometheus write through the collector while the server is down and the collector
// is killed twice, and at the same time straight into another server. In the end both stores have the same, to the bit.
//
// The outage is one of 10 hours by the content of the queue and not by the clock on the wall: while the server is down,
// a sender of our own sends what 10 hours of a scrape each 10 s make, with their timestamps, as fast as it is taken. What
// 10 hours on the clock do to the waits between attempts is tested with a fake clock in internal/collector.
func TestIntegrationCollect(t *testing.T) {
	for _, tt := range []struct {
		name, binary string
		message      string // of remote_write; empty: 1.0
		scrape       string
		flags        []string
	}{
		{"Debian 1.0", "prometheus", "", "", []string{"--enable-feature=native-histograms,exemplar-storage"}},
		{
			"Prometheus 3 2.0", os.Getenv("CIRRUSBENCH_PROMETHEUS3"), "protobuf_message: io.prometheus.write.v2.Request",
			"scrape_native_histograms: true, convert_classic_histograms_to_nhcb: true, ",
			[]string{"--enable-feature=exemplar-storage,st-storage,type-and-unit-labels"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.binary == "" {
				t.Fatal("no Prometheus 3: run make integration")
			}
			dir := t.TempDir()
			direct, stopDirect := startServe(t, "--store", filepath.Join(dir, "direct"))
			down, addr, prometheus, target := freePort(t), freePort(t), freePort(t), app(t)
			args := []string{"--dir", filepath.Join(dir, "queue"), "--forward", "http://" + down + "/api/v1/write", "--batch-age", "1s", "--segment-bytes", "1MiB"}
			_, kill := startCollect(t, addr, args...)

			config := filepath.Join(dir, "prometheus.yml")
			configure := func(jobs string) {
				t.Helper()
				write := func(url string) string {
					return fmt.Sprintf(`
  - url: %s/alfa/api/v1/write?cluster_name=c
    %s
    send_exemplars: true
    send_native_histograms: true
    metadata_config: {send: true, send_interval: 5s}
    queue_config: {batch_send_deadline: 1s, max_samples_per_send: 500}`, url, tt.message)
				}
				if err := os.WriteFile(config, fmt.Appendf(nil, "global: {scrape_interval: 1s, external_labels: {cluster: alfa}}\nscrape_configs: [%s]\nremote_write:%s%s\n",
					jobs, write("http://"+addr), write(direct)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			job := "{job_name: %s, " + tt.scrape + "static_configs: [{targets: ['%s']}]}"
			configure(fmt.Sprintf(job, "self", prometheus) + ", " + fmt.Sprintf(job, "app", target))
			prom := exec.CommandContext(t.Context(), tt.binary, append([]string{
				"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "tsdb"),
				"--web.listen-address=" + prometheus, "--storage.remote.flush-deadline=20s", "--log.level=error",
			}, tt.flags...)...)
			prom.Stderr = os.Stderr
			if err := prom.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = prom.Process.Kill() })

			var stop func()
			for range 2 {
				time.Sleep(6 * time.Second)
				kill()
				time.Sleep(time.Second) // in which the sender fails
				stop, kill = startCollect(t, addr, args...)
			}
			hours, posted := tenHours(t, "http://"+addr)
			time.Sleep(3 * time.Second)
			// Without anything to scrape the last thing that it sends is a staleness marker for all.
			configure("")
			if err := prom.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			var page string
			for last, quiet, i := 0.0, 0, 0; quiet < 5 && i < 30; i++ {
				time.Sleep(time.Second)
				page = fetch(t, "http://"+prometheus+"/metrics")
				now := metric(page, "prometheus_remote_storage_samples_total", "") + metric(page, "prometheus_remote_storage_exemplars_total", "")
				if quiet++; now != last || metric(page, "prometheus_remote_storage_samples_pending", "") > 0 {
					quiet = 0
				}
				last = now
			}
			for _, what := range []string{"samples", "histograms", "exemplars", "metadata"} {
				for _, how := range []string{"_failed_total", "_dropped_total"} {
					if n := metric(page, "prometheus_remote_storage_"+what+how, ""); n != 0 {
						t.Errorf("the sender counts %s%s %v", what, how, n)
					}
				}
			}
			if err := prom.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := prom.Wait(); err != nil {
				t.Errorf("prometheus ended with %v", err)
			}
			ours := fetch(t, "http://"+addr+"/metrics")
			pending, age := metric(ours, "cirrusbench_collector_pending_samples", ""), metric(ours, "cirrusbench_collector_oldest_unsent_age_seconds", "")
			if metric(ours, "cirrusbench_collector_delivered_requests_total", "") != 0 {
				t.Error("something was delivered while the server was down")
			}

			// The server comes back.
			began := time.Now()
			_, stopServer := startServe(t, "--listen", down, "--store", filepath.Join(dir, "data"))
			for metric(fetch(t, "http://"+addr+"/metrics"), "cirrusbench_collector_pending_requests", "") > 0 {
				if time.Since(began) > 2*time.Minute {
					t.Fatal("it does not catch up")
				}
				time.Sleep(200 * time.Millisecond)
			}
			caughtUp := time.Since(began)
			ours = fetch(t, "http://"+addr+"/metrics")
			stop()
			stopServer()
			stopDirect()

			got, objects := storedLines(t, filepath.Join(dir, "data"), "alfa")
			want, requests := storedLines(t, filepath.Join(dir, "direct"), "alfa")
			var samples, stale, twice, lost, other int
			for line, n := range got {
				if want[line] == 0 {
					other++
				}
				twice += n - 1
			}
			for line := range want {
				if got[line] == 0 {
					lost++
				}
				if strings.HasPrefix(line, "sample ") {
					samples++
				}
				if strings.Contains(line, " 7ff0000000000002 ") {
					stale++
				}
			}
			if lost+other+twice > 0 {
				t.Errorf("of %d lines %d are lost, %d are others, %d are there twice", len(want), lost, other, twice)
			}
			sent := metric(page, "prometheus_remote_storage_samples_total", "/alfa/api") - metric(page, "prometheus_remote_storage_samples_retried_total", "/alfa/api")
			if samples == 0 || stale == 0 || sent != float64(2*samples) {
				t.Errorf("%d samples in the store, %d of them stale; the sender says it has sent %v to both", samples, stale, sent)
			}
			if n := metric(page, "prometheus_remote_storage_samples_retried_total", ""); n == 0 {
				t.Error("nothing was sent again: the kills were none")
			}
			old, oldObjects := storedLines(t, filepath.Join(dir, "data"), "bravo")
			if len(old) != hours {
				t.Errorf("of the 10 hours %d samples arrived of %d", len(old), hours)
			}
			ratio := metric(ours, "cirrusbench_collector_delivered_bytes_total", `form="sent"`) / metric(ours, "cirrusbench_collector_delivered_bytes_total", `form="received"`)
			t.Logf("%d samples (%d stale), %d histograms and exemplars from Prometheus: %d requests became %d; %d samples of 10 h: %d requests became %d; backlog of %v samples, the oldest %.0f s on the clock, sent in %v; %.1f %% of the bytes",
				samples, stale, len(want)-samples, requests, objects, len(old), posted, oldObjects, pending, age, caughtUp.Round(100*time.Millisecond), 100*ratio)
		})
	}
}

// tenHours sends what 10 hours make of 50 series that are scraped each 10 s, a request a scrape, and returns how many
// samples and requests that are.
func tenHours(t *testing.T, url string) (samples, requests int) {
	t.Helper()
	c := workload.SynthConfig{
		Orgs: 1, Clusters: 1, Series: 50, Scrapes: 3600, Interval: 10 * time.Second, Version: remotewrite.V1,
		Start: time.Now().Add(-10 * time.Hour).Truncate(time.Second), Seed: 1,
	}
	err := workload.Synth(t.Context(), c, func(ctx context.Context, r workload.Request) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/bravo/api/v1/write?cluster_name=old", bytes.NewReader(r.Body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", remotewrite.V1.ContentType())
		req.Header.Set("Content-Encoding", "snappy")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusNoContent {
			return errors.New(resp.Status)
		}
		requests++
		samples += 50
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return samples, requests
}
