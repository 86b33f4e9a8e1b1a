//go:build integration

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

// s3 starts a real S3 server with a bucket.
func s3(t *testing.T) (endpoint string) {
	t.Helper()
	path := os.Getenv("CIRRUSBENCH_VERSITYGW")
	if path == "" {
		t.Fatal("CIRRUSBENCH_VERSITYGW is not set: run make integration")
	}
	return storetest.StartVersityGW(t, path, t.TempDir(), "bucket")
}

// s3Environ is the environment in which serve finds an S3 server.
func s3Environ(endpoint string) []string {
	return []string{
		"AWS_ENDPOINT_URL_S3=" + endpoint, "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=" + storetest.VersityGWKey, "AWS_SECRET_ACCESS_KEY=" + storetest.VersityGWSecret,
	}
}

// app is what Prometheus scrapes beside itself: counters with exemplars, a classic and a native histogram, and series
// that come and go, which makes staleness markers.
func app(t *testing.T) (addr string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "app_requests_total", Help: "Requests."})
	classic := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "app_classic_seconds", Help: "Classic."})
	native := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "app_native_seconds", Help: "Native.", NativeHistogramBucketFactor: 1.1})
	coming := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "app_pod", Help: "Comes and goes."}, []string{"pod"})
	registry.MustRegister(counter, classic, native, coming)
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1)
		exemplar := prometheus.Labels{"trace_id": fmt.Sprintf("%016x", i)}
		counter.(prometheus.ExemplarAdder).AddWithExemplar(1, exemplar)                     //nolint:errcheck // every counter is one
		classic.(prometheus.ExemplarObserver).ObserveWithExemplar(float64(i%7)/7, exemplar) //nolint:errcheck // every histogram is one
		native.Observe(float64(i%11) / 11)
		coming.Reset()
		for pod := range 20 {
			coming.WithLabelValues(fmt.Sprintf("pod-%d", i/3*20+int64(pod))).Set(float64(i))
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// flaky is an S3 server behind a proxy that turns the first six requests down, and from 10 s to 30 s after the first
// all of them.
func flaky(t *testing.T, endpoint string) (proxy string, turnedDown *atomic.Int64) {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		begin time.Time // guarded by mu
		n     int       // guarded by mu
	)
	turnedDown = &atomic.Int64{}
	srv := httptest.NewServer(&storetest.FaultProxy{
		Hook: func(r *http.Request) storetest.HTTPFault {
			if r.Method != http.MethodPut {
				return storetest.HTTPFault{}
			}
			mu.Lock()
			defer mu.Unlock()
			if n++; n == 1 {
				begin = time.Now()
			}
			at := time.Since(begin)
			switch {
			case n <= 6:
				turnedDown.Add(1)
				return storetest.HTTPFault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}
			case at >= 10*time.Second && at < 30*time.Second:
				turnedDown.Add(1)
				return storetest.HTTPFault{Status: http.StatusBadGateway}
			}
			return storetest.HTTPFault{}
		},
		Next: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the signature is over it
		}},
	})
	t.Cleanup(srv.Close)
	return srv.URL, turnedDown
}

// TestIntegrationSenders lets real senders of both protocols write into a real S3 server which fails for a while. In
// the end the sender has failed and dropped nothing, and what it says it sent is what we counted and what is in S3.
func TestIntegrationSenders(t *testing.T) {
	endpoint := s3(t)
	for _, tt := range []struct {
		name, binary, version string
		message               string // of remote_write; empty: 1.0
		scrape                string // more for the scrape configuration
		flags                 []string
	}{
		{
			"Debian 1.0", "prometheus", "1.0", "", "",
			[]string{"--enable-feature=native-histograms,exemplar-storage"},
		},
		{
			"Prometheus 3 2.0", os.Getenv("CIRRUSBENCH_PROMETHEUS3"), "2.0", "protobuf_message: io.prometheus.write.v2.Request",
			"scrape_native_histograms: true, convert_classic_histograms_to_nhcb: true, ",
			[]string{"--enable-feature=exemplar-storage,st-storage,type-and-unit-labels"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.binary == "" {
				t.Fatal("no Prometheus 3: run make integration")
			}
			proxy, turnedDown := flaky(t, endpoint)
			location := "s3://bucket/" + tt.version
			url, stopServe := startServeEnv(t, s3Environ(proxy), "--store", location)
			addr, target, dir := freePort(t), app(t), t.TempDir()
			config := filepath.Join(dir, "prometheus.yml")
			configure := func(jobs string) {
				t.Helper()
				if err := os.WriteFile(config, fmt.Appendf(nil, `global: {scrape_interval: 1s, external_labels: {cluster: alfa}}
scrape_configs: [%s]
remote_write:
  - url: %s/alfa/api/v1/write?cluster_name=c
    %s
    send_exemplars: true
    send_native_histograms: true
    metadata_config: {send: true, send_interval: 5s}
    queue_config: {batch_send_deadline: 1s, max_samples_per_send: 500}
`, jobs, url, tt.message), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			job := "{job_name: %s, " + tt.scrape + "static_configs: [{targets: ['%s']}]}"
			configure(fmt.Sprintf(job, "self", addr) + ", " + fmt.Sprintf(job, "app", target))
			prom := exec.CommandContext(t.Context(), tt.binary, append([]string{
				"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "tsdb"),
				"--web.listen-address=" + addr, "--storage.remote.flush-deadline=20s", "--log.level=error",
			}, tt.flags...)...)
			prom.Stderr = os.Stderr
			if err := prom.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = prom.Process.Kill() })
			sender := func() string { return fetch(t, "http://"+addr+"/metrics") }
			sent := func(page, what string) float64 { return metric(page, "prometheus_remote_storage_"+what, "") }

			time.Sleep(50 * time.Second) // past the outage and 20 s more
			// Without anything to scrape it becomes quiet: the last thing that it sends is a staleness marker for all.
			configure("")
			if err := prom.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			var page string
			for last, quiet, i := 0.0, 0, 0; quiet < 8 && i < 90; i++ {
				time.Sleep(time.Second)
				page = sender()
				now := sent(page, "samples_total") + sent(page, "histograms_total") + sent(page, "exemplars_total")
				if quiet++; now != last || sent(page, "samples_pending") > 0 {
					quiet = 0
				}
				last = now
			}
			ours := fetch(t, url+"/metrics")
			for _, what := range []string{"samples", "histograms", "exemplars", "metadata"} {
				for _, how := range []string{"_failed_total", "_dropped_total"} {
					if n := sent(page, what+how); n != 0 {
						t.Errorf("the sender counts %s%s %v", what, how, n)
					}
				}
			}
			if n := sent(page, "samples_retried_total"); n == 0 || turnedDown.Load() < 12 {
				t.Errorf("%v samples were sent again, %d puts turned down: the outage was none", n, turnedDown.Load())
			}
			if err := prom.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := prom.Wait(); err != nil {
				t.Errorf("prometheus ended with %v", err)
			}
			stopServe()

			s, err := store.NewS3(storetest.S3Config(endpoint, storetest.VersityGWKey, storetest.VersityGWSecret), location)
			if err != nil {
				t.Fatal(err)
			}
			stored := storedSamples(t, s)
			for what, inStore := range map[string]int{"samples": stored.Samples, "histograms": stored.Histograms(), "exemplars": stored.Exemplars} {
				// The sender counts each attempt.
				told, counted := sent(page, what+"_total")-sent(page, what+"_retried_total"), metric(ours, "cirrusbench_written_total", `kind="`+what+`"`)
				if told != counted || counted != float64(inStore) || told == 0 {
					t.Errorf("%s: the sender says %v less those sent again, we counted %v, in the store are %d", what, told, counted, inStore)
				}
			}
			if n := metric(ours, "cirrusbench_requests_total", `code="503"`); n == 0 {
				t.Error("no request was answered 503")
			}
			if n := metric(ours, "cirrusbench_requests_total", `version="`+tt.version+`"`); n != metric(ours, "cirrusbench_requests_total", "") {
				t.Errorf("%v requests of version %s, of %v", n, tt.version, metric(ours, "cirrusbench_requests_total", ""))
			}
			if n := metric(ours, "cirrusbench_rejected_requests_total", "") - metric(ours, "cirrusbench_rejected_requests_total", `reason="store_failed"`); n != 0 {
				t.Errorf("%v requests were refused", n)
			}
			if stored.StaleSamples == 0 || float64(stored.StaleSamples) != metric(ours, "cirrusbench_stale_samples_total", "") {
				t.Errorf("%d staleness markers in the store, we counted %v", stored.StaleSamples, metric(ours, "cirrusbench_stale_samples_total", ""))
			}
			if tt.message != "" && stored.CustomBucketHistograms == 0 {
				t.Error("no histogram with custom buckets")
			}
			t.Logf("%d samples (%d stale), %d histograms (%d with custom buckets), %d exemplars, %d metadata; %v samples retried, %v requests 503, %v stored",
				stored.Samples, stored.StaleSamples, stored.Histograms(), stored.CustomBucketHistograms, stored.Exemplars, stored.Metadata,
				sent(page, "samples_retried_total"), metric(ours, "cirrusbench_requests_total", `code="503"`), metric(ours, "cirrusbench_requests_total", `code="204"`))
		})
	}
}

// TestIntegrationRace sends one request 20 times at once to the real program over the real S3 server: one object, and
// 204 for all.
func TestIntegrationRace(t *testing.T) {
	endpoint := s3(t)
	url, stop := startServeEnv(t, s3Environ(endpoint), "--store", "s3://bucket/race")
	defer stop()
	body, err := os.ReadFile("../../fixtures/captures/v2-prom3-stale-markers.snappy")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 20 {
		wg.Go(func() {
			<-start
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/write", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
			req.Header.Set("Content-Encoding", "snappy")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if n := resp.Header.Get("X-Prometheus-Remote-Write-Samples-Written"); resp.StatusCode != http.StatusNoContent || n != "1926" {
				t.Errorf("status %d, %s samples", resp.StatusCode, n)
			}
		})
	}
	close(start)
	wg.Wait()
	page := fetch(t, url+"/metrics")
	if n := metric(page, "cirrusbench_duplicate_requests_total", ""); n != 19 {
		t.Errorf("%v duplicates, want 19", n)
	}
	s, err := store.NewS3(storetest.S3Config(endpoint, storetest.VersityGWKey, storetest.VersityGWSecret), "s3://bucket/race")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d objects, want 1", n)
	}
}
