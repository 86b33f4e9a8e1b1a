package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cirrusbench/cirrusbench/internal/collector"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/spool"
	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/workload"
)

// scrapes makes the requests that a Prometheus with so many series sends for a number of scrapes, 500 samples in each.
func scrapes(b *testing.B, series, n int, interval time.Duration) [][]byte {
	b.Helper()
	var out [][]byte
	c := workload.SynthConfig{
		Orgs: 1, Clusters: 1, Series: series, Batch: 500, Scrapes: n, Interval: interval, Version: remotewrite.V1,
		Start: time.Now().Add(-12 * time.Hour).Truncate(time.Second), Seed: 1,
	}
	if err := synthBodies(b, c, func(body []byte) { out = append(out, body) }); err != nil {
		b.Fatal(err)
	}
	return out
}

// oneSyncEach is what a collector does that does not know of group commit: write, sync, answer, one after the other.
type oneSyncEach struct {
	mu sync.Mutex
	f  *os.File
}

func (s *oneSyncEach) store(body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.f.Write(body); err != nil {
		return err
	}
	return unix.Fdatasync(int(s.f.Fd()))
}

// BenchmarkCollectDurable posts requests of 500 samples over 32 connections to the collector's endpoint: through HTTP,
// validated, and answered when they are on disk. It prints the ratio to an endpoint that syncs once a request, what the
// same disk makes of the same bodies without anything around it, and what the endpoint makes when nothing is written. They
// take turns; the figures are medians over the rounds, the ratio that of the ratios. Then a sender that is alone posts to
// both endpoints, one request after the other: what is good for 32 must not make one wait.
func BenchmarkCollectDurable(b *testing.B) {
	body := scrapes(b, 500, 1, time.Minute)[0]
	dir := b.TempDir()
	naive, err := os.Create(filepath.Join(dir, "naive"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = naive.Close() }()
	one := &oneSyncEach{f: naive}
	var syncs, synced atomic.Int64
	q, err := spool.Open(filepath.Join(dir, "queue"), spool.Options{OnSync: func(_ time.Duration, n int) {
		syncs.Add(1)
		synced.Add(int64(n))
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			b.Error(err)
		}
	}()
	start := func(sink server.Sink) (addr string) {
		core, err := server.New(server.Config{Sink: sink, Limits: remotewrite.Limits{FutureTolerance: -1}})
		if err != nil {
			b.Fatal(err)
		}
		srv := httptest.NewServer(core.Handler())
		b.Cleanup(srv.Close)
		return srv.Listener.Addr().String()
	}
	nothing := start(sinkFunc(func([]byte) error { return nil }))
	single, grouped := start(sinkFunc(one.store)), start(collector.NewSink(q))

	const connections, rounds = 32, 7
	var disks, nothings, singles, groupeds, ratios, sizes, latencies, aloneSingle, aloneGrouped []float64
	perSecond := func(addr string, n int) (rate, p50 float64) {
		began := time.Now()
		took := hammer(b, addr, body, connections, n)
		return float64(n) / time.Since(began).Seconds(), median(took)
	}
	for b.Loop() {
		for range rounds {
			const bare = 500
			began := time.Now()
			for range bare {
				if err := one.store(body); err != nil {
					b.Fatal(err)
				}
			}
			disks = append(disks, bare/time.Since(began).Seconds())
			n, _ := perSecond(nothing, 20_000)
			s, _ := perSecond(single, 3_000)
			syncs.Store(0)
			synced.Store(0)
			g, latency := perSecond(grouped, 20_000)
			sizes = append(sizes, float64(synced.Load())/float64(syncs.Load()))
			nothings, singles, groupeds, ratios = append(nothings, n), append(singles, s), append(groupeds, g), append(ratios, g/s)
			latencies = append(latencies, latency)
			aloneSingle = append(aloneSingle, median(hammer(b, single, body, 1, 500)))
			aloneGrouped = append(aloneGrouped, median(hammer(b, grouped, body, 1, 500)))
		}
	}
	b.ReportMetric(median(groupeds), "requests/s")
	b.ReportMetric(median(ratios), "x-one-sync-each")
	b.ReportMetric(median(singles), "one-sync-each/s")
	b.ReportMetric(median(disks), "bare-fdatasync/s")
	b.ReportMetric(median(nothings), "without-disk/s")
	b.ReportMetric(median(sizes), "requests/sync")
	b.ReportMetric(median(latencies), "p50-µs")
	b.ReportMetric(median(aloneGrouped), "alone-p50-µs")
	b.ReportMetric(median(aloneSingle), "alone-one-sync-each-p50-µs")
	b.ReportMetric(float64(len(body)), "bytes/request")
	b.ReportMetric(0, "ns/op")
}

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}

// sinkFunc is a sink that stores bodies.
type sinkFunc func(body []byte) error

// hammer sends n equal requests over so many connections, with as little work as can be: it shares the processors with
// what is measured. It returns how many microseconds each took.
func hammer(b *testing.B, addr string, body []byte, connections, n int) []float64 {
	b.Helper()
	request := fmt.Appendf(nil, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	took := make([]float64, n/connections*connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			c, err := new(net.Dialer).DialContext(b.Context(), "tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			r := bufio.NewReader(c)
			for j := range n / connections {
				began := time.Now()
				if _, err := c.Write(request); err != nil {
					b.Error(err)
					return
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil || resp.StatusCode != http.StatusNoContent {
					b.Errorf("%v, %+v", err, resp)
					return
				}
				_ = resp.Body.Close()
				took[i*(n/connections)+j] = float64(time.Since(began).Nanoseconds()) / 1e3
			}
		})
	}
	wg.Wait()
	return took
}

// BenchmarkCollectMerge merges the requests of 13 scrapes, as a batch of a minute has them at 5 s, and prints the size
// of the result against the bytes on the wire, and how many requests become one. CIRRUSBENCH_MERGE_STORE names a store
// of the reference server whose requests are merged as well: what a real sender has written.
func BenchmarkCollectMerge(b *testing.B) {
	for _, per := range []int{1, 13} {
		b.Run(fmt.Sprintf("samples-a-series=%d", per), func(b *testing.B) { mergeAll(b, scrapes(b, 3000, per, 5*time.Second)) })
	}
	if dir := os.Getenv("CIRRUSBENCH_MERGE_STORE"); dir != "" {
		b.Run("recorded", func(b *testing.B) {
			s, err := store.Open(b.Context(), dir)
			if err != nil {
				b.Fatal(err)
			}
			var bodies [][]byte
			for o, err := range s.List(b.Context(), "") {
				if err != nil {
					b.Fatal(err)
				}
				body, err := s.Get(b.Context(), o.Key)
				if err != nil {
					b.Fatal(err)
				}
				bodies = append(bodies, body)
			}
			mergeAll(b, bodies)
		})
	}
}

// mergeAll merges requests of 1.0.
func mergeAll(b *testing.B, bodies [][]byte) {
	b.Helper()
	var decoded [][]byte
	wire := 0
	for _, body := range bodies {
		d, err := remotewrite.Decode(nil, body, 1<<28)
		if err != nil {
			b.Fatal(err)
		}
		decoded = append(decoded, d)
		wire += len(body)
	}
	var m remotewrite.Merger
	var message, out []byte
	samples, series := 0, 0
	b.SetBytes(int64(wire))
	for b.Loop() {
		m.Reset()
		for _, d := range decoded {
			if err := m.Add(remotewrite.V1, d); err != nil {
				b.Fatal(err)
			}
		}
		series, _ = m.Len()
		var counts remotewrite.Counts
		message, counts = m.AppendV2(message[:0], 0, series)
		samples = counts.Samples
		out = remotewrite.Encode(out, message)
	}
	b.ReportMetric(100*float64(len(out))/float64(wire), "%-of-wire")
	b.ReportMetric(float64(len(decoded)), "requests-in-one")
	b.ReportMetric(float64(samples)/float64(series), "samples/series")
}

// BenchmarkCollectOutage is the end of an outage of six hours at ten requests a second of 500 samples: 216,000 requests
// in the queue, 75,000 series in all. The collector starts on it, in a process of its own, and sends it at the default
// rate to the reference server. It prints how long that takes and the most memory that the process ever had.
// CIRRUSBENCH_OUTAGE_REQUESTS changes the number of requests.
func BenchmarkCollectOutage(b *testing.B) {
	requests := 216_000
	if s := os.Getenv("CIRRUSBENCH_OUTAGE_REQUESTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			b.Fatal(err)
		}
		requests = n
	}
	dir := filepath.Join(b.TempDir(), "queue")
	size := fillQueue(b, dir, requests)
	var got atomic.Int64
	core, err := server.New(server.Config{Sink: countingSink{&got}, Limits: remotewrite.Limits{FutureTolerance: -1}})
	if err != nil {
		b.Fatal(err)
	}
	recv := httptest.NewServer(core.Handler())
	defer recv.Close()
	for b.Loop() {
		began := time.Now()
		c := startCollector(b, "--dir", dir, "--forward", recv.URL+"/api/v1/write", "--max-bytes", "100GiB", "--keep-sent", "0")
		opened := time.Since(began)
		for c.metric("cirrusbench_collector_pending_requests") > 0 {
			time.Sleep(200 * time.Millisecond)
		}
		took := time.Since(began)
		batches, peak := c.metric("cirrusbench_collector_batches_total"), c.peakRSS()
		c.terminate()
		if got.Load() != int64(requests)*500 {
			b.Errorf("%d samples arrived of %d", got.Load(), requests*500)
		}
		b.ReportMetric(opened.Seconds(), "s-to-listen")
		b.ReportMetric(took.Seconds(), "s-to-catch-up")
		b.ReportMetric(batches, "batches")
		b.ReportMetric(batches/took.Seconds(), "batches/s")
		b.ReportMetric(float64(peak)/(1<<20), "MiB-peak-RSS")
	}
	b.ReportMetric(float64(size)/1e9, "GB-backlog")
	b.ReportMetric(0, "ns/op")
}

// fillQueue makes a queue of n requests, as an outage leaves it, and returns its size.
func fillQueue(b *testing.B, dir string, n int) (bytes int64) {
	b.Helper()
	q, err := spool.Open(dir, spool.Options{Sync: spool.SyncNever, MaxBytes: 100 << 30})
	if err != nil {
		b.Fatal(err)
	}
	const every = 15 * time.Second
	var decoded [][]byte
	for _, body := range scrapes(b, 75_000, 1, every) {
		d, err := remotewrite.Decode(nil, body, 1<<28)
		if err != nil {
			b.Fatal(err)
		}
		decoded = append(decoded, d)
	}
	var out []byte
	for i := range n {
		d := decoded[i%len(decoded)]
		out = remotewrite.Encode(out, d)
		rec := spool.Record{
			Lane: spool.Lane{Org: "default", Cluster: "default"}, Received: time.Now().Add(-6 * time.Hour).UTC(), Version: 1, NewestMS: 1,
			DecodedBytes: uint32(len(d)), Samples: 500, Body: out,
		}
		if _, err := q.Append(b.Context(), &rec); err != nil {
			b.Fatal(err)
		}
		bytes += int64(len(out))
		if err := remotewrite.Shift(remotewrite.V1, d, every.Milliseconds()); err != nil {
			b.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
	syscall.Sync() // or the measurement pays for it
	return bytes
}

// peakRSS is the most memory that the process has had.
func (c *collecting) peakRSS() int64 {
	c.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`).FindSubmatch(status)
	if m == nil {
		c.t.Fatal("no VmHWM")
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return n << 10
}

// countingSink counts samples.
type countingSink struct{ samples *atomic.Int64 }

func (s countingSink) Store(_ context.Context, r server.Request) (bool, error) {
	s.samples.Add(int64(r.Summary.Samples))
	return true, nil
}

func (f sinkFunc) Store(_ context.Context, r server.Request) (bool, error) {
	return true, f(r.Body)
}

func synthBodies(b *testing.B, c workload.SynthConfig, visit func(body []byte)) error {
	b.Helper()
	return workload.Synth(b.Context(), c, func(_ context.Context, r workload.Request) error {
		visit(bytes.Clone(r.Body))
		return nil
	})
}
