package server_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// The conformance test: what the remote-write specifications 1.0 and 2.0 ask of a
// receiver, each rule once for either version where both have it, with bodies sent
// chunked. It judges by status, Written headers and what is in the store, and a rule
// that says 204 is not met by a 400 nor the other way round.

type labels = []prompb.Label

// metric is the labels of a series: pairs of name and value after the metric's name.
func metric(name string, pairs ...string) labels {
	ls := labels{{Name: "__name__", Value: name}}
	for i := 0; i < len(pairs); i += 2 {
		ls = append(ls, prompb.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return ls
}

// series has one sample now.
func series(ls labels) prompb.TimeSeries {
	return prompb.TimeSeries{Labels: ls, Samples: []prompb.Sample{{Value: 1, Timestamp: clock().UnixMilli()}}}
}

// valued has one sample with that value and time.
func valued(v float64, at time.Time) prompb.TimeSeries {
	return prompb.TimeSeries{Labels: metric("up"), Samples: []prompb.Sample{{Value: v, Timestamp: at.UnixMilli()}}}
}

// histogram returns a series of one good integer histogram, changed.
func histogram(change func(*prompb.Histogram)) prompb.TimeSeries {
	h := prompb.Histogram{
		Count: &prompb.Histogram_CountInt{CountInt: 6}, Sum: 9, Schema: 3, ZeroThreshold: 1e-9, Timestamp: clock().UnixMilli(),
		ZeroCount:     &prompb.Histogram_ZeroCountInt{ZeroCountInt: 1},
		PositiveSpans: []prompb.BucketSpan{{Offset: -2, Length: 2}}, PositiveDeltas: []int64{2, 1},
	}
	if change != nil {
		change(&h)
	}
	return prompb.TimeSeries{Labels: metric("h"), Histograms: []prompb.Histogram{h}}
}

// floatHistogram turns the histogram into one of floats.
func floatHistogram(h *prompb.Histogram) {
	h.Count = &prompb.Histogram_CountFloat{CountFloat: 6}
	h.ZeroCount = &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: 1}
	h.PositiveDeltas, h.PositiveCounts = nil, []float64{2, 3}
}

// customBuckets turns the histogram into one with custom bounds (NHCB).
func customBuckets(h *prompb.Histogram) {
	*h = prompb.Histogram{
		Count: &prompb.Histogram_CountInt{CountInt: 5}, Sum: 9, Schema: -53, Timestamp: h.Timestamp, CustomValues: []float64{1, 2},
		ZeroCount:     &prompb.Histogram_ZeroCountInt{},
		PositiveSpans: []prompb.BucketSpan{{Offset: 0, Length: 2}}, PositiveDeltas: []int64{2, 1},
	}
}

// exemplars is a series with an exemplar and nothing else.
func exemplars(ls labels, at time.Time) prompb.TimeSeries {
	return prompb.TimeSeries{Labels: metric("up"), Exemplars: []prompb.Exemplar{{Labels: ls, Value: 1, Timestamp: at.UnixMilli()}}}
}

// toV2 says the same in a 2.0 request: histograms are the same on the wire.
func toV2(tb testing.TB, req prompb.WriteRequest) *writev2.Request {
	tb.Helper()
	out := &writev2.Request{Symbols: []string{""}}
	ref := func(s string) uint32 {
		i := slices.Index(out.Symbols, s)
		if i < 0 {
			i = len(out.Symbols)
			out.Symbols = append(out.Symbols, s)
		}
		return uint32(i)
	}
	refs := func(ls labels) (all []uint32) {
		for _, l := range ls {
			all = append(all, ref(l.Name), ref(l.Value))
		}
		return all
	}
	for _, ts := range req.Timeseries {
		two := writev2.TimeSeries{LabelsRefs: refs(ts.Labels)}
		for _, s := range ts.Samples {
			two.Samples = append(two.Samples, writev2.Sample{Value: s.Value, Timestamp: s.Timestamp})
		}
		for _, e := range ts.Exemplars {
			two.Exemplars = append(two.Exemplars, writev2.Exemplar{LabelsRefs: refs(e.Labels), Value: e.Value, Timestamp: e.Timestamp})
		}
		for _, h := range ts.Histograms {
			b, err := h.Marshal()
			if err != nil {
				tb.Fatal(err)
			}
			var hh writev2.Histogram
			if err := hh.Unmarshal(b); err != nil {
				tb.Fatal(err)
			}
			two.Histograms = append(two.Histograms, hh)
		}
		out.Timeseries = append(out.Timeseries, two)
	}
	return out
}

// TestConformanceContent has the rules about what a request holds. A request is built
// for 1.0 and turned into 2.0.
func TestConformanceContent(t *testing.T) {
	stale := math.Float64frombits(0x7ff0000000000002)
	now := clock()
	many := labels{{Name: "__name__", Value: "up"}}
	for i := range 300 {
		many = append(many, prompb.Label{Name: "l" + itoa(1000+i), Value: "x"})
	}
	long := prompb.WriteRequest{}
	for i := range 20 {
		long.Timeseries = append(long.Timeseries, valued(float64(i), now.Add(-time.Duration(i)*time.Second)))
	}
	one := func(ts ...prompb.TimeSeries) prompb.WriteRequest { return prompb.WriteRequest{Timeseries: ts} }
	for _, tt := range []struct {
		rule    string
		req     prompb.WriteRequest
		written [3]int // samples, histograms, exemplars; refused when nothing of them
		refused string // reason of a 400
	}{
		{"a sample is stored", one(valued(1, now)), [3]int{1, 0, 0}, ""},
		{"many series are stored", long, [3]int{20, 0, 0}, ""},
		{"several samples of one series", one(prompb.TimeSeries{Labels: metric("up"), Samples: []prompb.Sample{{Timestamp: now.UnixMilli() - 1}, {Timestamp: now.UnixMilli()}}}), [3]int{2, 0, 0}, ""},
		{"staleness marker", one(valued(stale, now)), [3]int{1, 0, 0}, ""},
		{"any other NaN, infinity and negative zero", one(valued(math.NaN(), now), valued(math.Inf(1), now), valued(math.Inf(-1), now), valued(math.Copysign(0, -1), now)), [3]int{4, 0, 0}, ""},
		{"value zero, which is not on the wire", one(valued(0, now)), [3]int{1, 0, 0}, ""},
		{"UTF-8 in names and values", one(series(metric("zürich.温度", "städt", "é"))), [3]int{1, 0, 0}, ""},
		{"labels in any order", one(series(labels{{Name: "z", Value: "1"}, {Name: "__name__", Value: "up"}, {Name: "a", Value: "2"}})), [3]int{1, 0, 0}, ""},
		{"label without a value", one(series(metric("up", "empty", ""))), [3]int{1, 0, 0}, ""},
		{"out of order", one(valued(1, now), valued(2, now.Add(-time.Hour))), [3]int{2, 0, 0}, ""},
		{"old", one(valued(1, now.AddDate(-3, 0, 0))), [3]int{1, 0, 0}, ""},
		{"the same sample twice", one(valued(1, now), valued(1, now)), [3]int{2, 0, 0}, ""},
		{"a little ahead of the clock", one(valued(1, now.Add(9*time.Minute))), [3]int{1, 0, 0}, ""},
		{"integer histogram", one(histogram(nil)), [3]int{0, 1, 0}, ""},
		{"float histogram", one(histogram(floatHistogram)), [3]int{0, 1, 0}, ""},
		{"histogram with custom buckets", one(histogram(customBuckets)), [3]int{0, 1, 0}, ""},
		{"stale histogram", one(histogram(func(h *prompb.Histogram) { *h = prompb.Histogram{Sum: stale, Timestamp: h.Timestamp} })), [3]int{0, 1, 0}, ""},
		{"samples and histograms", one(valued(1, now), histogram(nil)), [3]int{1, 1, 0}, ""},
		{"exemplar beside a sample", one(prompb.TimeSeries{Labels: metric("up"), Samples: []prompb.Sample{{Timestamp: now.UnixMilli()}}, Exemplars: []prompb.Exemplar{{Value: 1, Timestamp: now.UnixMilli()}}}), [3]int{1, 0, 1}, ""},
		{"exemplar without samples", one(exemplars(labels{{Name: "trace_id", Value: "1"}}, now)), [3]int{0, 0, 1}, ""},
		{"exemplar without labels", one(exemplars(nil, now)), [3]int{0, 0, 1}, ""},
		{"exemplar with more than 128 characters", one(exemplars(labels{{Name: "trace_id", Value: strings.Repeat("1", 200)}}, now)), [3]int{0, 0, 1}, ""},

		{"no labels", one(series(nil)), [3]int{}, "name_missing"},
		{"no metric name", one(series(labels{{Name: "job", Value: "x"}})), [3]int{}, "name_missing"},
		{"empty metric name", one(series(metric(""))), [3]int{}, "name_missing"},
		{"empty label name", one(series(metric("up", "", "x"))), [3]int{}, "label_name_empty"},
		{"repeated label", one(series(metric("up", "a", "1", "a", "2"))), [3]int{}, "label_duplicate"},
		{"repeated label out of order", one(series(metric("up", "b", "1", "a", "2", "b", "1"))), [3]int{}, "label_duplicate"},
		{"label that is not UTF-8", one(series(metric("up", "a", "\xff"))), [3]int{}, "label_invalid_utf8"},
		{"too many labels", one(series(many)), [3]int{}, "too_many_labels"},
		{"value too long", one(series(metric("up", "a", strings.Repeat("x", 40_000)))), [3]int{}, "label_too_long"},
		{"no timestamp", one(prompb.TimeSeries{Labels: metric("up"), Samples: []prompb.Sample{{Value: 1}}}), [3]int{}, "timestamp_zero"},
		{"timestamp in seconds", one(prompb.TimeSeries{Labels: metric("up"), Samples: []prompb.Sample{{Timestamp: now.Unix()}}}), [3]int{}, "timestamp_seconds"},
		{"timestamp in microseconds", one(prompb.TimeSeries{Labels: metric("up"), Samples: []prompb.Sample{{Timestamp: now.UnixMicro()}}}), [3]int{}, "timestamp_future"},
		{"negative timestamp", one(prompb.TimeSeries{Labels: metric("up"), Samples: []prompb.Sample{{Timestamp: -1}}}), [3]int{}, "timestamp_negative"},
		{"far ahead of the clock", one(valued(1, now.Add(11*time.Minute))), [3]int{}, "timestamp_future"},
		{"exemplar without a time", one(prompb.TimeSeries{Labels: metric("up"), Exemplars: []prompb.Exemplar{{Value: 1}}}), [3]int{}, "exemplar_no_timestamp"},
		{"histogram whose count is not that of its buckets", one(histogram(func(h *prompb.Histogram) { h.Count = &prompb.Histogram_CountInt{CountInt: 7} })), [3]int{}, "histogram_count"},
		{"histogram whose spans do not fit", one(histogram(func(h *prompb.Histogram) { h.PositiveSpans[0].Length = 3 })), [3]int{}, "histogram_spans"},
		{"histogram with a negative bucket", one(histogram(func(h *prompb.Histogram) { h.PositiveDeltas = []int64{2, -3} })), [3]int{}, "histogram_buckets"},
		{"histogram of an unknown schema", one(histogram(func(h *prompb.Histogram) { h.Schema = -5 })), [3]int{}, "histogram_schema"},
		{"custom bounds that do not rise", one(histogram(func(h *prompb.Histogram) { customBuckets(h); h.CustomValues = []float64{2, 1} })), [3]int{}, "histogram_custom_bounds"},

		{"the good part of a mixed request", one(valued(1, now), series(nil), histogram(nil), exemplars(nil, now), valued(2, now.Add(time.Hour))), [3]int{1, 1, 1}, "name_missing"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			for _, v := range []remotewrite.Version{remotewrite.V1, remotewrite.V2} {
				t.Run(v.String(), func(t *testing.T) {
					var body []byte
					if v == remotewrite.V1 {
						body = pack(t, &tt.req)
					} else {
						body = pack(t, toV2(t, tt.req))
					}
					mem := store.NewMemory()
					resp, text := sendChunked(t, newCore(t, server.Config{Sink: server.NewStoreSink(mem)}), v.ContentType(), "snappy", body)
					want, objects := http.StatusNoContent, 1
					if tt.refused != "" {
						want = http.StatusBadRequest
					}
					if tt.written == [3]int{} {
						objects = 0
					}
					if resp.StatusCode != want || !strings.HasPrefix(text, tt.refused) || (text == "") != (tt.refused == "") {
						t.Errorf("%d %q, want %d %s", resp.StatusCode, text, want, tt.refused)
					}
					wantWritten(t, resp.Header, v, itoa(tt.written[0]), itoa(tt.written[1]), itoa(tt.written[2]))
					stored := contents(t, mem)
					if len(stored) != objects {
						t.Fatalf("%d objects, want %d", len(stored), objects)
					}
					for _, got := range stored {
						if tt.refused == "" && !bytes.Equal(got, body) {
							t.Error("not stored as received")
						}
						// What the headers say is what can be read back.
						raw, err := remotewrite.Decode(nil, got, 0)
						if err != nil {
							t.Fatal(err)
						}
						var w remotewrite.Walker
						sum, err := w.Walk(v, raw, remotewrite.Limits{}, now)
						if back := [3]int{sum.Samples, sum.Histograms(), sum.Exemplars}; err != nil || back != tt.written {
							t.Errorf("read back %v, %v; want %v", back, err, tt.written)
						}
					}
				})
			}
		})
	}
}

// sendChunked posts a body without saying how long it is.
func sendChunked(t *testing.T, core *server.Core, contentType, encoding string, body []byte) (answer, string) {
	t.Helper()
	url, client := serve(t, core)
	h := http.Header{}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	return post(t, client, url+"/api/v1/write", h, io.MultiReader(bytes.NewReader(body)))
}

// TestConformanceNegotiation has the rules about headers and the form of the body,
// which come in this order: type, encoding, size, compression, message.
func TestConformanceNegotiation(t *testing.T) {
	one := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{valued(1, clock())}}
	good := map[remotewrite.Version][]byte{remotewrite.V1: pack(t, &one), remotewrite.V2: pack(t, toV2(t, one))}
	const v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
	garbage := []byte("garbage")
	huge := binary.AppendUvarint(nil, 1<<32-1)
	for _, tt := range []struct {
		rule, contentType, encoding string
		version                     remotewrite.Version // of the body, and of the answer
		body                        []byte              // nil: a good one of the version
		status                      int
	}{
		{"1.0 by default", "application/x-protobuf", "snappy", 1, nil, 204},
		{"1.0 by name", "application/x-protobuf;proto=prometheus.WriteRequest", "snappy", 1, nil, 204},
		{"2.0 by name", v2, "snappy", 2, nil, 204},
		{"space before the parameter", "application/x-protobuf; proto=io.prometheus.write.v2.Request", "snappy", 2, nil, 204},
		{"quotes", `application/x-protobuf;proto="io.prometheus.write.v2.Request"`, "snappy", 2, nil, 204},
		{"case", "Application/X-Protobuf;Proto=io.prometheus.write.v2.Request", "SNAPPY", 2, nil, 204},
		{"no encoding means snappy", v2, "", 2, nil, 204},
		{"another type", "application/json", "snappy", 0, nil, 415},
		{"another message", "application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", 0, nil, 415},
		{"no type", "", "snappy", 0, nil, 415},
		{"another encoding", "application/x-protobuf", "gzip", 0, nil, 415},
		{"another encoding of 2.0", v2, "zstd", 0, nil, 415},
		{"type before content", "text/plain", "snappy", 0, garbage, 415},
		{"encoding before content", v2, "gzip", 0, garbage, 415},
		{"no body", "application/x-protobuf", "snappy", 1, []byte{}, 400},
		{"no body of 2.0", v2, "snappy", 2, []byte{}, 400},
		{"not snappy", "application/x-protobuf", "snappy", 1, garbage, 400},
		{"not snappy of 2.0", v2, "snappy", 2, garbage, 400},
		{"not protobuf", "application/x-protobuf", "snappy", 1, snappy.Encode(nil, garbage), 400},
		{"not protobuf of 2.0", v2, "snappy", 2, snappy.Encode(nil, garbage), 400},
		{"empty message", "application/x-protobuf", "snappy", 1, snappy.Encode(nil, nil), 400},
		{"empty message of 2.0", v2, "snappy", 2, snappy.Encode(nil, nil), 400},
		{"1.0 labelled as 2.0", v2, "snappy", 2, good[remotewrite.V1], 400},
		{"2.0 labelled as 1.0", "application/x-protobuf", "snappy", 1, good[remotewrite.V2], 400},
		{"a length of 4 GiB in five bytes", "application/x-protobuf", "snappy", 1, huge, 400},
		{"a length of 4 GiB in five bytes of 2.0", v2, "snappy", 2, huge, 400},
		{"larger than the limit", "application/x-protobuf", "snappy", 1, make([]byte, 64<<10+1), 413},
		{"larger than the limit of 2.0", v2, "snappy", 2, make([]byte, 64<<10+1), 413},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			body := tt.body
			if body == nil {
				body = good[max(tt.version, remotewrite.V1)]
			}
			mem := store.NewMemory()
			core := newCore(t, server.Config{Sink: server.NewStoreSink(mem), MaxBodyBytes: 64 << 10})
			resp, text := sendChunked(t, core, tt.contentType, tt.encoding, body)
			if resp.StatusCode != tt.status {
				t.Errorf("%d %s, want %d", resp.StatusCode, text, tt.status)
			}
			n := 0
			if tt.status == 204 {
				n = 1
			}
			wantWritten(t, resp.Header, tt.version, itoa(n), "0", "0")
			if got := len(contents(t, mem)); got != n {
				t.Errorf("%d objects, want %d", got, n)
			}
		})
	}
}

// TestConformanceV2 has the rules that only 2.0 has.
func TestConformanceV2(t *testing.T) {
	ms := clock().UnixMilli()
	symbols := []string{"", "__name__", "up", "help", "seconds", "\xff"}
	one := func(change func(*writev2.TimeSeries)) *writev2.Request {
		ts := writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: ms}}}
		change(&ts)
		return &writev2.Request{Symbols: symbols, Timeseries: []writev2.TimeSeries{ts}}
	}
	message := func(m *writev2.Request) []byte {
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := message(one(func(*writev2.TimeSeries) {}))
	// A field that no version has, at the end of the request; and created_timestamp of
	// 2.0-rc.3 (field 6 of the series, which is the last of the message here).
	unknown := append(slices.Clone(plain), 0xa2, 0x06, 0x03, 'n', 'e', 'w')
	created := binary.AppendUvarint([]byte{6 << 3}, uint64(ms))
	at := 0 // where the series begins: its tag, then its length, which reaches to the end
	for plain[at] != 5<<3|2 || int(plain[at+1]) != len(plain)-at-2 {
		at++
	}
	rc3 := slices.Concat(plain[:at], []byte{5<<3 | 2, plain[at+1] + byte(len(created))}, plain[at+2:], created)
	for _, tt := range []struct {
		rule     string
		message  []byte
		status   int
		reason   string
		metadata int
	}{
		{"metadata", message(one(func(ts *writev2.TimeSeries) {
			ts.Metadata = writev2.Metadata{Type: 1, HelpRef: 3, UnitRef: 4}
		})), 204, "", 1},
		{"start timestamp of rc.4", message(one(func(ts *writev2.TimeSeries) { ts.Samples[0].StartTimestamp = ms - 1000 })), 204, "", 0},
		{"created timestamp of rc.3", rc3, 204, "", 0},
		{"unknown field", unknown, 204, "", 0},
		{"symbol in use twice", message(&writev2.Request{Symbols: []string{"", "__name__", "up", "up"}, Timeseries: one(func(*writev2.TimeSeries) {}).Timeseries}), 204, "", 0},
		{"odd references", message(one(func(ts *writev2.TimeSeries) { ts.LabelsRefs = []uint32{1, 2, 3} })), 400, "refs_odd", 0},
		{"reference out of range", message(one(func(ts *writev2.TimeSeries) { ts.LabelsRefs = []uint32{1, 6} })), 400, "ref_out_of_range", 0},
		{"help out of range", message(one(func(ts *writev2.TimeSeries) { ts.Metadata.HelpRef = 6 })), 400, "ref_out_of_range", 0},
		{"symbol that is not UTF-8", message(one(func(ts *writev2.TimeSeries) { ts.LabelsRefs = []uint32{1, 5} })), 400, "label_invalid_utf8", 0},
		{"first symbol not empty", message(&writev2.Request{Symbols: symbols[1:], Timeseries: []writev2.TimeSeries{{LabelsRefs: []uint32{0, 1}, Samples: []writev2.Sample{{Timestamp: ms}}}}}), 400, "first_symbol", 0},
		{"no symbols", message(&writev2.Request{Timeseries: []writev2.TimeSeries{{Samples: []writev2.Sample{{Timestamp: ms}}}}}), 400, "first_symbol", 0},
		{"no series", message(&writev2.Request{Symbols: symbols}), 400, "empty_request", 0},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			mem := store.NewMemory()
			var seen observed
			body := snappy.Encode(nil, tt.message)
			core := newCore(t, server.Config{Sink: server.NewStoreSink(mem), Metrics: &seen})
			resp, text := sendChunked(t, core, remotewrite.V2.ContentType(), "snappy", body)
			if resp.StatusCode != tt.status || !strings.HasPrefix(text, tt.reason) && tt.reason != "first_symbol" {
				t.Errorf("%d %s, want %d %s", resp.StatusCode, text, tt.status, tt.reason)
			}
			n := 0
			if tt.status == 204 {
				n = 1
			}
			wantWritten(t, resp.Header, remotewrite.V2, itoa(n), "0", "0")
			if o := seen.last(t); o.Summary.Metadata != tt.metadata || len(contents(t, mem)) != n {
				t.Errorf("%d metadata, %d objects", o.Summary.Metadata, len(contents(t, mem)))
			}
		})
	}
}

// TestConformanceMetadataV1: a 1.0 request may hold metadata and nothing else.
func TestConformanceMetadataV1(t *testing.T) {
	mem := store.NewMemory()
	req := prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{Type: 1, MetricFamilyName: "up", Help: "h", Unit: "s"}}}
	resp, text := sendChunked(t, newCore(t, server.Config{Sink: server.NewStoreSink(mem)}), remotewrite.V1.ContentType(), "snappy", pack(t, &req))
	if resp.StatusCode != http.StatusNoContent || len(contents(t, mem)) != 1 {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	wantWritten(t, resp.Header, remotewrite.V1, "", "", "")
}
