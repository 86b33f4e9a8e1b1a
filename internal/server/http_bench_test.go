//go:build unix

package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// large packs 2,000 series of ten labels, as a Kubernetes scrape has them: about 124 KB, 890 KB decoded.
func large(tb testing.TB) []byte {
	tb.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	var req prompb.WriteRequest
	for i := range 2000 {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: metric(
				fmt.Sprintf("container_network_transmit_packets_dropped_total_%d", i/50),
				"cluster", "production-eu-central-1",
				"container", fmt.Sprintf("application-%02d", rnd.IntN(40)),
				"endpoint", "https-metrics",
				"id", fmt.Sprintf("/kubepods/burstable/pod%08x-1c22-4b1e-9d3f-0a5861de2ad4/container", rnd.Uint32()),
				"instance", fmt.Sprintf("10.%d.%d.%d:10250", rnd.IntN(4), rnd.IntN(256), rnd.IntN(256)),
				"job", "kubelet-and-cadvisor",
				"metrics_path", "/metrics/cadvisor",
				"namespace", fmt.Sprintf("team-%02d-production", rnd.IntN(30)),
				"pod", fmt.Sprintf("application-deployment-with-a-name-%02d-6b9c7d5f44-%05x", rnd.IntN(40), rnd.Uint32()&0xfffff),
			),
			Samples: []prompb.Sample{{Value: float64(rnd.IntN(1 << 20)), Timestamp: clock().UnixMilli() - int64(rnd.IntN(5000))}},
		})
	}
	return pack(tb, &req)
}

// TestBenchClient is not a test: the benchmarks run it in a process of its own, so that the CPU and the memory of the
// client are not in the server's.
func TestBenchClient(t *testing.T) {
	url := os.Getenv("CIRRUSBENCH_BENCH_URL")
	if url == "" {
		t.Skip("only for the benchmarks")
	}
	requests, err := strconv.Atoi(os.Getenv("CIRRUSBENCH_BENCH_N"))
	if err != nil {
		t.Fatal(err)
	}
	connections, err := strconv.Atoi(os.Getenv("CIRRUSBENCH_BENCH_CONNECTIONS"))
	if err != nil {
		t.Fatal(err)
	}
	body := large(t)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for range connections {
		all.Go(func() { sendMany(t, client, url, body, requests) })
	}
	all.Wait()
}

func sendMany(t *testing.T, client *http.Client, url string, body []byte, requests int) {
	t.Helper()
	for range requests {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header = http.Header{"Content-Type": {remotewrite.V1.ContentType()}, "Content-Encoding": {"snappy"}}
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			t.Error(resp.Status)
			return
		}
	}
}

// benchClient has connections clients send that many requests each.
func benchClient(b *testing.B, url string, requests, connections int) {
	b.Helper()
	client := exec.CommandContext(context.Background(), os.Args[0], "-test.run", "^TestBenchClient$", "-test.count", "1")
	client.Env = append(os.Environ(), "CIRRUSBENCH_BENCH_URL="+url,
		"CIRRUSBENCH_BENCH_N="+strconv.Itoa(requests), "CIRRUSBENCH_BENCH_CONNECTIONS="+strconv.Itoa(connections))
	if text, err := client.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", url, err, text)
	}
}

// cpu is what this process has used.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHTTPRequest is the CPU that the server takes for a request of 2,000 series over HTTP to null:, beside two
// others in the same skeleton: the floor, which reads the body and unpacks it and no more, and prompb, which unmarshals
// it as well. They take turns; the ratios are medians over the rounds. Budget: 1.3 times the floor. A store that
// keeps objects has them named as well (SHA-256 of the body), which null: does without.
// It is the best case for what the walker remembers: one body again and again.
func BenchmarkHTTPRequest(b *testing.B) {
	body := large(b)
	n, err := snappy.DecodedLen(body)
	if err != nil {
		b.Fatal(err)
	}
	read := func(w http.ResponseWriter, r *http.Request, buf *[]byte, out *[]byte) []byte {
		*buf = slices.Grow((*buf)[:0], int(r.ContentLength))
		if _, err := io.ReadFull(r.Body, (*buf)[:r.ContentLength]); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return nil
		}
		var err error
		if *out, err = snappy.Decode((*out)[:cap(*out)], (*buf)[:r.ContentLength]); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return nil
		}
		return *out
	}
	var buf, out []byte // one connection, so one request at a time
	handlers := []struct {
		name string
		http.Handler
	}{
		{"ours", newCore(b, server.Config{Sink: server.NewStoreSink(store.Null{})}).Handler()},
		{"floor", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if read(w, r, &buf, &out) != nil {
				w.WriteHeader(http.StatusNoContent)
			}
		})},
		{"prompb", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var req prompb.WriteRequest
			if raw := read(w, r, &buf, &out); raw == nil || req.Unmarshal(raw) != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})},
	}
	var urls [3]string
	for i, h := range handlers {
		srv := httptest.NewServer(h)
		defer srv.Close()
		urls[i] = srv.URL + server.PathWrite
	}
	requests := [3]int{400, 400, 60}
	run := func(i int) float64 {
		runtime.GC() // what the one before has left is not this one's
		before := cpu(b)
		benchClient(b, urls[i], requests[i], 1)
		return float64(cpu(b)-before) / float64(requests[i])
	}
	var ns [3][]float64
	var overFloor, underPrompb []float64
	rounds := 0
	for b.Loop() {
		for range 11 {
			var at [3]float64
			for i := range handlers {
				at[i] = run(i)
				ns[i] = append(ns[i], at[i])
			}
			overFloor, underPrompb = append(overFloor, at[0]/at[1]), append(underPrompb, at[2]/at[0])
			rounds++
		}
	}
	median := func(xs []float64) float64 { slices.Sort(xs); return xs[len(xs)/2] }
	b.ReportMetric(0, "ns/op") // of eleven rounds of three processes: says nothing
	for i, h := range handlers {
		b.ReportMetric(median(ns[i])/1e3, h.name+"-cpu-µs/req")
	}
	b.ReportMetric(median(overFloor), "x-floor")
	b.ReportMetric(median(underPrompb), "x-prompb")
	b.ReportMetric(float64(len(body))/1024, "wire-KiB")
	b.ReportMetric(float64(n)/1024, "decoded-KiB")
	b.ReportMetric(float64(rounds), "rounds")
}

// BenchmarkHTTPMemory is the memory of a server, Go's part of it, while 64 connections send requests of 2,000 series: at
// the end of the first of eight parts of 1,280 requests, and of the last. Budget: the last is within 1.2 times the
// first, for what grows by a buffer a request would be a gigabyte more.
func BenchmarkHTTPMemory(b *testing.B) {
	srv := httptest.NewServer(newCore(b, server.Config{Sink: server.NewStoreSink(store.Null{})}).Handler())
	defer srv.Close()
	// What the runtime has from the system and has not given back: resident but for the binary itself.
	held := func() float64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.Sys-m.HeapReleased) / (1 << 20)
	}
	for b.Loop() {
		var first, last float64
		for part := range 8 {
			benchClient(b, srv.URL+server.PathWrite, 20, 64)
			if last = held(); part == 0 {
				first = last
			}
		}
		b.ReportMetric(first, "first-MiB")
		b.ReportMetric(last, "last-MiB")
		b.ReportMetric(last/first, "x-first")
	}
	b.ReportMetric(0, "ns/op")
}
