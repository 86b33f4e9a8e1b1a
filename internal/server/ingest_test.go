package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

// v1 packs a 1.0 request of n series with one sample each at a time.
func v1(tb testing.TB, n int, at time.Time) []byte {
	tb.Helper()
	var req prompb.WriteRequest
	for range n {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: "up"}},
			Samples: []prompb.Sample{{Value: 1, Timestamp: at.UnixMilli()}},
		})
	}
	b, err := req.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return snappy.Encode(nil, b)
}

// labelled packs a 1.0 request of one series with that label value.
func labelled(tb testing.TB, value string) []byte {
	tb.Helper()
	req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: "up"}, {Name: "l", Value: value}},
		Samples: []prompb.Sample{{Value: 1, Timestamp: clock().UnixMilli()}},
	}}}
	b, err := req.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return snappy.Encode(nil, b)
}

func TestNewReportsEverything(t *testing.T) {
	_, err := server.New(server.Config{
		MaxBodyBytes: -1, Limits: remotewrite.Limits{MaxDecodedBytes: -1}, RetryAfter: -time.Second,
	})
	for _, want := range []string{"no sink", "limit for the body", "limit for the decoded body", "retry-after"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name: %s", err, want)
		}
	}
	sink := server.NewStoreSink(store.Null{})
	need := 1000 + 1 + 5000 + remotewrite.EncodedLen(5000)
	cfg := server.Config{Sink: sink, MaxBodyBytes: 1000, Limits: remotewrite.Limits{MaxDecodedBytes: 5000}, MaxInFlightBytes: need}
	if _, err := server.New(cfg); err != nil {
		t.Error(err)
	}
	cfg.MaxInFlightBytes--
	if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), "memory budget") {
		t.Errorf("a budget that the greatest request does not fit in: %v", err)
	}
	if _, err := server.New(server.Config{Sink: sink, MaxBodyBytes: math.MaxInt64, MaxInFlightBytes: math.MaxInt64}); err == nil {
		t.Error("a limit that overflows is accepted")
	}
}

// TestCapturesStoredOnce sends every capture three times.
func TestCapturesStoredOnce(t *testing.T) {
	for _, r := range good(t) {
		t.Run(r.Name, func(t *testing.T) {
			var seen observed
			mem := store.NewMemory()
			core := newCore(t, server.Config{Sink: server.NewStoreSink(mem), Metrics: &seen})
			in := r.input()
			in.Org, in.Cluster = "alfa", "eu-1"
			for i := range 3 {
				res := core.Ingest(t.Context(), in)
				if res.Status != http.StatusNoContent || res.Message != "" || res.Created != (i == 0) {
					t.Fatalf("request %d: %d %q, created %v", i, res.Status, res.Message, res.Created)
				}
				// Full counts for a duplicate as well.
				s := r.Summary
				got := []int{res.Summary.Samples, res.Summary.StaleSamples, res.Summary.Histograms(), res.Summary.Exemplars, res.Summary.Metadata, res.Summary.Series}
				want := []int{s.Samples, s.Stale, s.IntHistograms + s.FloatHistograms, s.Exemplars, s.Metadata, s.Series}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("counts (-recorded +got):\n%s", diff)
				}
				wantWritten(t, res.Header, remotewrite.Version(s.Version), itoa(s.Samples), itoa(s.IntHistograms+s.FloatHistograms), itoa(s.Exemplars))
				o := seen.last(t)
				if o.Status != 204 || o.Reason != "" || o.Duplicate != (i > 0) || o.WireBytes != len(r.Body) || o.DecodedBytes <= len(r.Body) ||
					o.Summary != res.Summary || o.Rejected != (server.Amounts{}) || o.Version != remotewrite.Version(s.Version) {
					t.Errorf("observed %+v", o)
				}
			}
			stored := contents(t, mem)
			if len(stored) != 1 {
				t.Fatalf("%d objects, want 1", len(stored))
			}
			for name, body := range stored {
				k, err := capture.ParseKey(name)
				if err != nil || k.Org != "alfa" || k.Cluster != "eu-1" || int(k.Version) != r.Summary.Version {
					t.Errorf("key %+v, %v", k, err)
				}
				wantTime := clock().UnixMilli() // metadata only: when it came
				if r.Summary.MaxTS > 0 {
					wantTime = r.Summary.MaxTS
				}
				if k.Time.UnixMilli() != wantTime {
					t.Errorf("key of %s, want %s", k.Time, time.UnixMilli(wantTime).UTC())
				}
				if !bytes.Equal(body, r.Body) {
					t.Error("the stored body differs")
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	valid := v1(t, 1, clock())
	zstd, mislabelled := readRecorded(t, "bad-vmagent-zstd-encoding.zst"), readRecorded(t, "bad-promtool-v1body-labelled-v2.snappy")
	const (
		type1 = "application/x-protobuf"
		type2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
	)
	tests := []struct {
		name   string
		in     server.Input
		status int
		reason string
	}{
		{"zstd", zstd.input(), 415, "content_encoding"},
		{"1.0 labelled 2.0", mislabelled.input(), 400, "wrong_schema"},
		{"no content type", server.Input{Body: valid}, 415, "content_type"},
		{"text", server.Input{ContentType: "text/plain", Body: valid}, 415, "content_type"},
		{"bad type and encoding", server.Input{ContentType: "text/plain", ContentEncoding: "gzip", Body: valid}, 415, "content_type"},
		{"bad type before too large", server.Input{ContentType: "text/plain", Body: make([]byte, 200_000)}, 415, "content_type"},
		{"bad encoding before bad body", server.Input{ContentType: type1, ContentEncoding: "gzip", Body: []byte("x")}, 415, "content_encoding"},
		{"too large", server.Input{ContentType: type1, Body: make([]byte, 100_001)}, 413, "body_too_large"},
		{"empty", server.Input{ContentType: type1}, 400, "body_empty"},
		{"bomb of 6 bytes", server.Input{ContentType: type1, Body: []byte("\xff\xff\xff\xff\x0f\x00")}, 400, "decoded_too_large"},
		{"bomb of zeros", server.Input{ContentType: type1, Body: snappy.Encode(nil, make([]byte, 1_000_001))}, 400, "decoded_too_large"},
		{"cut", server.Input{ContentType: type1, Body: valid[:len(valid)-3]}, 400, "snappy_corrupt"},
		{"not protobuf", server.Input{ContentType: type1, Body: snappy.Encode(nil, []byte("hello"))}, 400, "malformed_protobuf"},
		{"from the future", server.Input{ContentType: type1, Body: v1(t, 1, clock().Add(time.Hour))}, 400, "timestamp_future"},
		{"in seconds", server.Input{ContentType: type1, Body: v1(t, 1, time.UnixMilli(clock().Unix()))}, 400, "timestamp_seconds"},
		{"2.0 as 1.0", server.Input{ContentType: type1, Body: readRecorded(t, "v2-prom3-2000samples-plain.snappy").Body}, 400, "wrong_schema"},
		{"org with slash", server.Input{ContentType: type1, Org: "a/b", Body: valid}, 400, "org_name"},
		{"org is parent", server.Input{ContentType: type1, Org: "..", Body: valid}, 400, "org_name"},
		{"org with line feed", server.Input{ContentType: type1, Org: "a\nb", Body: valid}, 400, "org_name"},
		{"org too long", server.Input{ContentType: type1, Org: strings.Repeat("o", 65), Body: valid}, 400, "org_name"},
		{"cluster climbs", server.Input{ContentType: type1, Cluster: "../../etc", Body: valid}, 400, "cluster_name"},
		{"cluster with NUL", server.Input{ContentType: type2, Cluster: "a\x00", Body: valid}, 400, "cluster_name"},
		{"cluster not ASCII", server.Input{ContentType: type1, Cluster: "zürich", Body: valid}, 400, "cluster_name"},
	}
	reasons := slices.Collect(server.Reasons())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var seen observed
			mem := store.NewMemory()
			core := newCore(t, server.Config{
				Sink: server.NewStoreSink(mem), Metrics: &seen,
				MaxBodyBytes: 100_000, Limits: remotewrite.Limits{MaxDecodedBytes: 1_000_000},
			})
			res := core.Ingest(t.Context(), tt.in)
			if res.Status != tt.status || !strings.HasPrefix(res.Message, tt.reason+": ") || res.Created || res.Summary != (remotewrite.Summary{}) {
				t.Errorf("got %d %q %+v, want %d %s", res.Status, res.Message, res.Summary, tt.status, tt.reason)
			}
			if strings.ContainsAny(res.Message, "\n\r\x00") || len(res.Message) > 1000 {
				t.Errorf("message is no short line: %q", res.Message)
			}
			v, err := remotewrite.Negotiate(tt.in.ContentType, tt.in.ContentEncoding)
			if err != nil {
				v = 0
			}
			wantWritten(t, res.Header, v, "0", "0", "0")
			if res.Header.Get("Retry-After") != "" {
				t.Error("a refusal asks the sender to come back")
			}
			if n := len(contents(t, mem)); n != 0 {
				t.Errorf("%d objects were stored", n)
			}
			if o := seen.last(t); o.Status != tt.status || o.Reason != tt.reason || o.Version != v || !slices.Contains(reasons, o.Reason) {
				t.Errorf("observed %+v", o)
			}
		})
	}
}

func TestRejectedAmounts(t *testing.T) {
	var seen observed
	mem := store.NewMemory()
	core := newCore(t, server.Config{Sink: server.NewStoreSink(mem), Metrics: &seen})
	req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		{Labels: []prompb.Label{{Name: "__name__", Value: "good"}}, Samples: []prompb.Sample{{Timestamp: clock().UnixMilli()}, {Timestamp: clock().UnixMilli() - 1}}},
		{Labels: []prompb.Label{{Name: "job", Value: "nameless"}}, Samples: []prompb.Sample{{Timestamp: clock().UnixMilli()}}},
	}}
	b, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	res := core.Ingest(t.Context(), server.Input{ContentType: "application/x-protobuf", Body: snappy.Encode(nil, b)})
	if res.Status != 400 || len(contents(t, mem)) != 1 {
		t.Errorf("got %d %q", res.Status, res.Message)
	}
	if o := seen.last(t); o.Rejected != (server.Amounts{Samples: 1}) || o.Reason != "name_missing" || !o.Partial || o.Summary.Samples != 2 ||
		o.Refused["name_missing"] != 1 {
		t.Errorf("observed %+v", o)
	}
	// When the store is down nothing is stored, and all of it comes back.
	core = newCore(t, server.Config{Metrics: &seen, Sink: sinkFunc(func(context.Context, server.Request) (bool, error) {
		return false, errors.New("down")
	})})
	res = core.Ingest(t.Context(), server.Input{ContentType: "application/x-protobuf", Body: snappy.Encode(nil, b)})
	if res.Status != 503 || res.Header.Get("Retry-After") == "" || res.Summary != (remotewrite.Summary{}) {
		t.Errorf("store down: %+v", res)
	}
	if o := seen.last(t); o.Rejected != (server.Amounts{Samples: 3}) || o.Reason != "store_failed" || o.Partial {
		t.Errorf("observed %+v", o)
	}
}

func TestTimestampAfterYear9999(t *testing.T) {
	core := newCore(t, server.Config{Limits: remotewrite.Limits{FutureTolerance: -1}})
	for at, want := range map[time.Time]int{
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC): 204,
		time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC):     400,
	} {
		if res := core.Ingest(t.Context(), server.Input{ContentType: "application/x-protobuf", Body: v1(t, 1, at)}); res.Status != want {
			t.Errorf("%s: %d %s, want %d", at, res.Status, res.Message, want)
		}
	}
}

func TestSinkFailures(t *testing.T) {
	r := readRecorded(t, "v2-prom3-2000samples-plain.snappy")
	down := errors.New("disk /secret/path is on fire")
	for name, persisted := range map[string]bool{"failed": false, "failed but persisted": true} {
		t.Run(name, func(t *testing.T) {
			var (
				seen     observed
				failures atomic.Int32
				mem      = store.NewMemory()
			)
			faulty := storetest.Faults{Store: mem, Hook: func(string, string) (bool, error) {
				if failures.Add(1) <= 2 {
					return persisted, down
				}
				return true, nil
			}}
			core := newCore(t, server.Config{Sink: server.NewStoreSink(faulty), Metrics: &seen, RetryAfter: 1500 * time.Millisecond})
			for range 2 {
				res := core.Ingest(t.Context(), r.input())
				if res.Status != http.StatusServiceUnavailable || res.Header.Get("Retry-After") != "2" {
					t.Errorf("got %d %v", res.Status, res.Header)
				}
				wantWritten(t, res.Header, remotewrite.V2, "0", "0", "0")
				if strings.Contains(res.Message, "secret") {
					t.Errorf("the answer tells too much: %q", res.Message)
				}
				if o := seen.last(t); o.Reason != "store_failed" || o.Rejected.Samples != 2000 || o.Summary.Samples != 0 {
					t.Errorf("observed %+v", o)
				}
			}
			res := core.Ingest(t.Context(), r.input())
			if res.Status != http.StatusNoContent || res.Created == persisted {
				t.Errorf("again: %d, created %v", res.Status, res.Created)
			}
			wantWritten(t, res.Header, remotewrite.V2, "2000", "0", "0")
			stored := contents(t, mem)
			if len(stored) != 1 || !bytes.Equal(slices.Collect(maps.Values(stored))[0], r.Body) {
				t.Errorf("%d objects, want this one", len(stored))
			}
		})
	}
}

func TestStoreTimeout(t *testing.T) {
	slow := storetest.Faults{Store: store.NewMemory(), Wait: func(ctx context.Context, _, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	core := newCore(t, server.Config{Sink: server.NewStoreSink(slow), StoreTimeout: time.Millisecond})
	if res := core.Ingest(t.Context(), good(t)[0].input()); res.Status != http.StatusServiceUnavailable {
		t.Errorf("got %d %s", res.Status, res.Message)
	}
	// Without a limit it is the sender's going away that ends it.
	core = newCore(t, server.Config{Sink: server.NewStoreSink(slow), StoreTimeout: -1})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if res := core.Ingest(ctx, good(t)[0].input()); res.Status != http.StatusServiceUnavailable {
		t.Errorf("got %d %s", res.Status, res.Message)
	}
}

func TestPanicIsRecovered(t *testing.T) {
	var (
		seen observed
		log  bytes.Buffer
		bad  = true
	)
	core := newCore(t, server.Config{
		Metrics: &seen, Logger: slog.New(slog.NewJSONHandler(&log, nil)),
		Sink: sinkFunc(func(context.Context, server.Request) (bool, error) {
			if bad {
				panic("bug")
			}
			return true, nil
		}),
	})
	r := good(t)[0]
	if res := core.Ingest(t.Context(), r.input()); res.Status != http.StatusInternalServerError || strings.Contains(res.Message, "bug") {
		t.Errorf("got %d %q", res.Status, res.Message)
	}
	if o := seen.last(t); o.Status != 500 || o.Reason != "internal_error" {
		t.Errorf("observed %+v", o)
	}
	if !strings.Contains(log.String(), `"panic":"bug"`) || !strings.Contains(log.String(), "ingest_test.go") {
		t.Errorf("log without panic and stack: %s", log.String())
	}
	bad = false
	if res := core.Ingest(t.Context(), r.input()); res.Status != http.StatusNoContent {
		t.Errorf("after the panic: %d %q", res.Status, res.Message)
	}
}

func TestMemoryBudget(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	body := v1(t, 400, clock())
	n, err := snappy.DecodedLen(body)
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	core := newCore(t, server.Config{
		MaxBodyBytes: int64(len(body)), Limits: remotewrite.Limits{MaxDecodedBytes: n},
		MaxInFlightBytes: int64(len(body)) + 1 + int64(n) + remotewrite.EncodedLen(int64(n)), // two requests, and not three
		Sink: sinkFunc(func(context.Context, server.Request) (bool, error) {
			if calls.Add(1) <= 2 {
				entered <- struct{}{}
				<-leave
			}
			return true, nil
		}),
	})
	in := server.Input{ContentType: "application/x-protobuf", Body: body}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if res := core.Ingest(t.Context(), in); res.Status != 204 {
				t.Errorf("first two: %d %s", res.Status, res.Message)
			}
		})
		<-entered
	}
	if requests, used := core.InFlight(); requests != 2 || used != 2*int64(len(body)+n) {
		t.Errorf("in flight: %d requests, %d bytes; want 2, %d", requests, used, 2*(len(body)+n))
	}
	if res := core.Ingest(t.Context(), in); res.Status != 503 || res.Header.Get("Retry-After") == "" || !strings.HasPrefix(res.Message, "out_of_memory_budget") {
		t.Errorf("third: %d %s", res.Status, res.Message)
	}
	close(leave)
	wg.Wait()
	if res := core.Ingest(t.Context(), in); res.Status != 204 {
		t.Errorf("fourth: %d %s", res.Status, res.Message)
	}
}

// A request that is repeated across the edge of an hour, and by many at a time,
// lands on one object.
func TestConcurrentDuplicates(t *testing.T) {
	var seconds atomic.Int64
	d, err := store.NewDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	core := newCore(t, server.Config{
		Sink: server.NewStoreSink(d),
		Now:  func() time.Time { return clock().Add(time.Duration(seconds.Add(60)) * time.Second) },
	})
	var (
		wg      sync.WaitGroup
		created atomic.Int32
		all     = good(t)
	)
	for range 20 {
		wg.Go(func() {
			for _, r := range all {
				if r.Summary.MaxTS < 0 {
					continue // metadata only: the time of receipt is in the key
				}
				res := core.Ingest(t.Context(), r.input())
				if res.Status != 204 || res.Summary.Samples != r.Summary.Samples {
					t.Errorf("%s: %d %s, %d samples", r.Name, res.Status, res.Message, res.Summary.Samples)
				}
				if res.Created {
					created.Add(1)
				}
			}
		})
	}
	wg.Wait()
	stored := contents(t, d)
	if len(stored) != 8 || created.Load() != 8 {
		t.Errorf("%d objects, %d created; want 8", len(stored), created.Load())
	}
}

func TestLogTellsNoPayload(t *testing.T) {
	var log bytes.Buffer
	core := newCore(t, server.Config{
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Sink:   sinkFunc(func(context.Context, server.Request) (bool, error) { return false, errors.New("the cause") }),
	})
	core.Ingest(t.Context(), server.Input{Org: "alfa", Cluster: "eu-1", ContentType: "application/x-protobuf", Body: v1(t, 3, clock())})
	core.Ingest(t.Context(), server.Input{Org: "a\nb", ContentType: "application/x-protobuf", Body: v1(t, 3, clock())})
	got := log.String()
	for _, want := range []string{"org=alfa", "cluster=eu-1", `error="the cause"`, "status=503", "status=400", "reason=org_name"} {
		if !strings.Contains(got, want) {
			t.Errorf("log without %s:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n"); n != 2 {
		t.Errorf("%d lines, want 2:\n%s", n, got)
	}
}

// FuzzIngest: whatever comes in, nothing is ever answered with 5xx, and exactly what
// is answered with 204 is stored, byte for byte, or with 400 the good part of it.
func FuzzIngest(f *testing.F) {
	// Small ones, or the fuzzer gets nowhere; the captures have their own tests.
	one := v1(f, 2, clock())
	unpacked, err := snappy.Decode(nil, one)
	if err != nil {
		f.Fatal(err)
	}
	second := writev2.Request{
		Symbols: []string{"", "__name__", "up"},
		Timeseries: []writev2.TimeSeries{{
			LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: clock().UnixMilli()}},
			Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{1, 2}, Value: 2, Timestamp: clock().UnixMilli()}},
		}},
	}
	two, err := second.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	meta := prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{Type: 1, MetricFamilyName: "up", Help: "h"}}}
	three, err := meta.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one, false, false, "alfa", "eu-1")
	f.Add(unpacked, true, false, "alfa", "")
	f.Add(two, true, true, "", "eu-1")
	f.Add(three, true, false, "", "")
	f.Add(readRecorded(f, "bad-promtool-v1body-labelled-v2.snappy").Body, false, true, "", "")
	f.Add([]byte("\xff\xff\xff\xff\x0f"), false, false, "..", "a/b")
	f.Add([]byte("\xff\x06\x00\x00sNaPpY"), false, false, "", "")
	f.Add([]byte{}, false, true, "a", "\n")
	f.Add([]byte{0}, false, false, "", "")
	f.Add(append(bytes.Clone(unpacked), 0x0a, 0x00), true, false, "", "") // a series without a name behind two good ones
	// pack: body is a message still to be packed, which gets past snappy more often.
	f.Fuzz(func(t *testing.T, body []byte, pack, second bool, org, cluster string) {
		if pack {
			body = snappy.Encode(nil, body)
		}
		v := remotewrite.V1
		if second {
			v = remotewrite.V2
		}
		mem := store.NewMemory()
		core := newCore(t, server.Config{Sink: server.NewStoreSink(mem), Limits: remotewrite.Limits{MaxDecodedBytes: 8 << 20}})
		res := core.Ingest(t.Context(), server.Input{Org: org, Cluster: cluster, ContentType: v.ContentType(), ContentEncoding: "snappy", Body: body})
		stored := contents(t, mem)
		switch {
		case res.Status == 204:
			if len(stored) != 1 {
				t.Fatalf("204 and %d objects", len(stored))
			}
			for key, got := range stored {
				k, err := capture.ParseKey(key)
				if err != nil || k.Version != v || !bytes.Equal(got, body) {
					t.Errorf("stored under %q (%v)", key, err)
				}
			}
			// What is accepted can be replayed.
			if _, err := capture.Load(t.Context(), mem, capture.Options{}); err != nil {
				t.Errorf("stored, but not readable: %v", err)
			}
		case res.Status == 400 && len(stored) == 1:
			// The good part of it, under its own name, and as much as was said.
			c, err := capture.Load(t.Context(), mem, capture.Options{})
			if err != nil {
				t.Fatalf("stored in part, but not readable: %v", err)
			}
			e := c.Entries()[0]
			if e.Samples != res.Summary.Samples || e.Series != res.Summary.Series || e.Exemplars != res.Summary.Exemplars || e.Series == 0 && res.Summary.Metadata == 0 {
				t.Errorf("stored %+v, said %+v", e, res.Summary)
			}
		case res.Status < 400 || res.Status > 499 || len(stored) != 0 || res.Message == "":
			t.Errorf("status %d %q, %d objects", res.Status, res.Message, len(stored))
		}
		if res.Status == 204 {
			if _, err := snappy.Decode(nil, body); err != nil {
				t.Errorf("accepted a body that does not decode: %v", err)
			}
		}
	})
}

// TestMetadataOnlyRepeats: a body without a time of its own is stored once a minute, however often it is sent.
func TestMetadataOnlyRepeats(t *testing.T) {
	mem := store.NewMemory()
	now := clock()
	core := newCore(t, server.Config{Sink: server.NewStoreSink(mem), Now: func() time.Time { return now }})
	in := readRecorded(t, "v1-prom242-metadata-only.snappy").input()
	for _, step := range []struct {
		at      time.Duration
		created bool
		objects int
	}{{7 * time.Second, true, 1}, {8 * time.Second, false, 1}, {59 * time.Second, false, 1}, {61 * time.Second, true, 2}} {
		now = clock().Add(step.at)
		res := core.Ingest(t.Context(), in)
		if res.Status != 204 || res.Created != step.created || len(contents(t, mem)) != step.objects {
			t.Errorf("after %v: %d, created %v, %d objects; want 204, %v, %d", step.at, res.Status, res.Created, len(contents(t, mem)), step.created, step.objects)
		}
	}
}
