//go:build unix

package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// large packs 2,000 series of ten labels, as a Kubernetes scrape has them.
func large(tb testing.TB) []byte {
	tb.Helper()
	var req prompb.WriteRequest
	for i := range 2000 {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: metric(
				fmt.Sprintf("container_network_receive_bytes_%d_total", i%50),
				"cluster", "production-eu-west-1", "container", fmt.Sprintf("service-%d", i%20),
				"id", fmt.Sprintf("/kubepods/burstable/pod%08x", i*2654435761%(1<<32)), "instance", "10.12.34.56:10250", "interface", "eth0",
				"job", "kubelet", "namespace", "observability", "node", "ip-10-12-34-56.eu-west-1.compute.internal",
				"pod", fmt.Sprintf("service-%d-7d9f8b6c5d-%05x", i%100, i*40503%(1<<20)),
			),
			Samples: []prompb.Sample{{Value: float64(i) * 1.5, Timestamp: clock().UnixMilli() - int64(i)}},
		})
	}
	return pack(tb, &req)
}

// TestBenchClient is not a test: BenchmarkHTTPRequest runs it in a process of its own, so that the CPU of the client is
// not in the server's.
func TestBenchClient(t *testing.T) {
	url, n := os.Getenv("CIRRUSBENCH_BENCH_URL"), os.Getenv("CIRRUSBENCH_BENCH_N")
	if url == "" {
		t.Skip("only for BenchmarkHTTPRequest")
	}
	requests, err := strconv.Atoi(n)
	if err != nil {
		t.Fatal(err)
	}
	body := large(t)
	for range requests {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {remotewrite.V1.ContentType()}, "Content-Encoding": {"snappy"}}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			t.Fatal(resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
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
// it as well. They take turns; the ratios are medians over the rounds. Budget: 1.3 times the floor. Of what the server
// does beyond the floor, naming the object (SHA-256 of the body) is a good part.
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
	const requests = 300
	run := func(i int) float64 {
		client := exec.CommandContext(context.Background(), os.Args[0], "-test.run", "^TestBenchClient$", "-test.count", "1")
		client.Env = append(os.Environ(), "CIRRUSBENCH_BENCH_URL="+urls[i], "CIRRUSBENCH_BENCH_N="+strconv.Itoa(requests))
		before := cpu(b)
		if text, err := client.CombinedOutput(); err != nil {
			b.Fatalf("%s: %v\n%s", handlers[i].name, err, text)
		}
		return float64(cpu(b)-before) / requests
	}
	var ns [3][]float64
	var overFloor, underPrompb []float64
	rounds := 0
	for b.Loop() {
		for range 5 {
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
	b.ReportMetric(0, "ns/op") // of five rounds of three processes: says nothing
	for i, h := range handlers {
		b.ReportMetric(median(ns[i])/1e3, h.name+"-cpu-µs/req")
	}
	b.ReportMetric(median(overFloor), "x-floor")
	b.ReportMetric(median(underPrompb), "x-prompb")
	b.ReportMetric(float64(len(body))/1024, "wire-KiB")
	b.ReportMetric(float64(n)/1024, "decoded-KiB")
	b.ReportMetric(float64(rounds), "rounds")
}
