//go:build integration

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// load posts requests that differ from each other until stop is closed, from several connections, and remembers by
// hash which were answered with success. breakOff is the share of requests that the sender gives up in the middle of
// the body.
type load struct {
	url      string
	breakOff float64

	mu     sync.Mutex
	acked  map[string]bool // guarded by mu
	sent   int             // guarded by mu
	others map[int]int     // guarded by mu: statuses that are neither success nor 503
}

// run has senders send until stop is closed.
func (l *load) run(t *testing.T, senders int, seed uint64, stop <-chan struct{}) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(s)))
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				l.post(t, client, rng, fmt.Sprintf("%d-%d-%d", seed, s, n))
			}
		})
	}
	wg.Wait()
}

func (l *load) post(t *testing.T, client *http.Client, rng *rand.Rand, unique string) {
	t.Helper()
	var req prompb.WriteRequest
	for i := range 1 + rng.IntN(40) {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: "up"}, {Name: "i", Value: strconv.Itoa(i)}, {Name: "u", Value: unique}},
			Samples: []prompb.Sample{{Value: float64(i), Timestamp: time.Now().UnixMilli()}},
		})
	}
	raw, err := req.Marshal()
	if err != nil {
		t.Error(err)
		return
	}
	body := snappy.Encode(nil, raw)
	sum := sha256.Sum256(body)
	var r io.Reader = bytes.NewReader(body)
	if rng.Float64() < l.breakOff {
		r = io.MultiReader(bytes.NewReader(body[:rng.IntN(len(body))]), broken{}) // the connection goes with it
	}
	hr, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.url+"/api/v1/write", r)
	if err != nil {
		t.Error(err)
		return
	}
	hr.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := client.Do(hr)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	if err != nil {
		return // broken off, or the server is gone
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNoContent:
		l.acked[hex.EncodeToString(sum[:16])] = true
	case http.StatusServiceUnavailable:
	default:
		l.others[resp.StatusCode]++
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// missing returns how many of the requests that got a success are not in the store.
func (l *load) missing(t *testing.T, s store.Store) (n, objects int) {
	t.Helper()
	stored := map[string]bool{}
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		k, err := capture.ParseKey(o.Key)
		if err != nil {
			t.Error(err)
			continue
		}
		stored[k.Hash] = true
	}
	for h := range l.acked {
		if !stored[h] {
			n++
		}
	}
	return n, len(stored)
}

// TestIntegrationKill kills the server with SIGKILL under load, time and again, and reads the store back: whatever got a
// success is there, and nothing is there in half.
func TestIntegrationKill(t *testing.T) {
	dir := t.TempDir()
	l := &load{acked: map[string]bool{}, others: map[int]int{}}
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range uint64(8) {
		url, _, kill := startServeKill(t, nil, "--store", dir)
		l.url = url
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			l.run(t, 8, round, stop)
		}()
		time.Sleep(100*time.Millisecond + time.Duration(rng.Int64N(int64(500*time.Millisecond))))
		kill()
		close(stop)
		<-done
	}
	s, err := store.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	missing, objects := l.missing(t, s)
	if missing != 0 || len(l.acked) < 100 || len(l.others) != 0 {
		t.Errorf("%d of %d acknowledged requests are not in the store; other statuses %v", missing, len(l.acked), l.others)
	}
	if _, err := capture.Load(t.Context(), s, capture.Options{}); err != nil { // verifies every object
		t.Error(err)
	}
	t.Logf("%d sent, %d acknowledged, %d stored after 8 kills", l.sent, len(l.acked), objects)
}

// TestIntegrationSoak loads the server with clients of which every fifth disconnects in the middle of a body: memory
// and goroutines stay flat, and whatever got a success is in the store. CIRRUSBENCH_SOAK says for how long; 20 s.
func TestIntegrationSoak(t *testing.T) {
	length := 20 * time.Second
	if s := os.Getenv("CIRRUSBENCH_SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	url, stopServe := startServe(t, "--store", dir)
	before := metric(fetch(t, url+"/metrics"), "go_goroutines", "")
	l := &load{url: url, breakOff: 0.2, acked: map[string]bool{}, others: map[int]int{}}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		l.run(t, 16, 7, stop)
	}()
	var rss []float64
	for range 8 {
		time.Sleep(length / 8)
		rss = append(rss, metric(fetch(t, url+"/metrics"), "process_resident_memory_bytes", "")/(1<<20))
	}
	close(stop)
	<-done
	var after float64
	for range 50 { // connections take a moment to end
		time.Sleep(100 * time.Millisecond)
		if after = metric(fetch(t, url+"/metrics"), "go_goroutines", ""); after <= before+4 {
			break
		}
	}
	page := fetch(t, url+"/metrics")
	stopServe()
	if after > before+4 {
		t.Errorf("%v goroutines before, %v after", before, after)
	}
	// The first eighth warms up; from then on a leak of a buffer a request would be gigabytes.
	if last, first := rss[len(rss)-1], rss[1]; last > 1.5*first+16 {
		t.Errorf("resident memory rose from %.0f to %.0f MiB", first, last)
	}
	s, err := store.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	missing, objects := l.missing(t, s)
	if missing != 0 || len(l.acked) < 1000 || len(l.others) != 0 {
		t.Errorf("%d of %d acknowledged requests are not in the store; other statuses %v", missing, len(l.acked), l.others)
	}
	if n := metric(page, "cirrusbench_rejected_requests_total", `reason="body_interrupted"`); n < 100 {
		t.Errorf("only %v bodies broke off", n)
	}
	if n := metric(page, "cirrusbench_in_flight_bytes", ""); n != 0 {
		t.Errorf("%v bytes are still reserved", n)
	}
	var curve strings.Builder
	for _, m := range rss {
		fmt.Fprintf(&curve, " %.0f", m)
	}
	t.Logf("%v: %d sent, %d acknowledged, %d stored; goroutines %v to %v; resident MiB%s", length, l.sent, len(l.acked), objects, before, after, &curve)
}
