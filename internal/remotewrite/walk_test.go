package remotewrite

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

type labels = []prompb.Label

func named(more ...prompb.Label) labels {
	return append(labels{{Name: "__name__", Value: "up"}}, more...)
}

// v1 and v2 marshal; a message that cannot be is a bug of the test.
func v1(tb testing.TB, ts ...prompb.TimeSeries) []byte {
	tb.Helper()
	return marshal(tb, &prompb.WriteRequest{Timeseries: ts})
}

func v2(tb testing.TB, symbols []string, ts ...writev2.TimeSeries) []byte {
	tb.Helper()
	return marshal(tb, &writev2.Request{Symbols: symbols, Timeseries: ts})
}

func marshal(tb testing.TB, m interface{ Marshal() ([]byte, error) }) []byte {
	tb.Helper()
	b, err := m.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

var nowMS = capturedAt.UnixMilli()

// sampled is a series with one good sample.
func sampled(ls labels) prompb.TimeSeries {
	return prompb.TimeSeries{Labels: ls, Samples: []prompb.Sample{{Value: 1, Timestamp: nowMS}}}
}

func at(ms int64) prompb.TimeSeries {
	return prompb.TimeSeries{Labels: named(), Samples: []prompb.Sample{{Value: 1, Timestamp: ms}}}
}

// TestWalkRefuses names the cases that a reader of the rules would ask about.
// That the rules hold in general is TestWalkAgainstOracle.
func TestWalkRefuses(t *testing.T) {
	hist := func(change func(*prompb.Histogram)) prompb.TimeSeries {
		h := prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: 6}, Sum: 9, Schema: 3, Timestamp: nowMS,
			ZeroCount:     &prompb.Histogram_ZeroCountInt{ZeroCountInt: 1},
			PositiveSpans: []prompb.BucketSpan{{Offset: -2, Length: 2}}, PositiveDeltas: []int64{2, 1},
		}
		change(&h)
		return prompb.TimeSeries{Labels: named(), Histograms: []prompb.Histogram{h}}
	}
	long := strings.Repeat("n", 2000)
	var many labels
	for i := range 300 {
		many = append(many, prompb.Label{Name: fmt.Sprintf("l%03d", i), Value: "x"})
	}
	tests := []struct {
		name   string
		body   []byte
		reason string // "" is accepted
		text   string // part of the error
	}{
		{"empty message", nil, "", ""},
		{"series without samples", v1(t, prompb.TimeSeries{Labels: named()}), "", ""},
		{"old timestamp", v1(t, at(minPlausibleMS)), "", ""},
		{"at the tolerance", v1(t, at(nowMS+600_000)), "", ""},
		{"unsorted labels", v1(t, sampled(labels{{Name: "job", Value: "x"}, {Name: "__name__", Value: "up"}})), "", ""},
		{"empty value", v1(t, sampled(named(prompb.Label{Name: "job"}))), "", ""},
		{"UTF-8 names", v1(t, sampled(named(prompb.Label{Name: "région", Value: "Île"}))), "", ""},
		{"exemplars only", v1(t, prompb.TimeSeries{Labels: named(), Exemplars: []prompb.Exemplar{{Timestamp: nowMS}}}), "", ""},
		{"metadata only", marshal(t, &prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{MetricFamilyName: "up"}}}), "", ""},
		{"finer schema than the specification names", v1(t, hist(func(h *prompb.Histogram) { h.Schema = 20 })), "", ""},
		{"float zero bucket of -0 in an integer histogram", v1(t, hist(func(h *prompb.Histogram) {
			h.ZeroCount = &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: math.Copysign(0, -1)}
			h.Count = &prompb.Histogram_CountInt{CountInt: 5}
		})), "", ""},
		{"NaN observations", v1(t, hist(func(h *prompb.Histogram) { h.Sum, h.Count = math.NaN(), &prompb.Histogram_CountInt{CountInt: 9} })), "", ""},

		{"no labels", v1(t, sampled(nil)), "name_missing", "series 0: the series has no __name__"},
		{"no name", v1(t, sampled(labels{{Name: "job", Value: "x"}})), "name_missing", "series 0"},
		{"empty name", v1(t, sampled(labels{{Name: "__name__"}})), "name_missing", ""},
		{"exemplars only, no name", v1(t, prompb.TimeSeries{Exemplars: []prompb.Exemplar{{Timestamp: nowMS}}}), "name_missing", ""},
		{"empty label name", v1(t, sampled(named(prompb.Label{Value: "x"}))), "label_name_empty", "label 1"},
		{"twice", v1(t, sampled(named(prompb.Label{Name: "a", Value: "1"}, prompb.Label{Name: "a", Value: "2"}))), "label_duplicate", `"a" occurs twice`},
		{"twice, apart", v1(t, sampled(append(labels{{Name: "job", Value: "x"}}, named(prompb.Label{Name: "job", Value: "y"})...))), "label_duplicate", `"job" occurs twice`},
		{"bytes", v1(t, sampled(named(prompb.Label{Name: "a", Value: "\xff"}))), "label_invalid_utf8", `"a"`},
		{"long name", v1(t, sampled(named(prompb.Label{Name: long, Value: "1"}))), "label_too_long", "2000 bytes, the limit is 1024"},
		{"long value", v1(t, sampled(named(prompb.Label{Name: "a", Value: strings.Repeat("v", 40_000)}))), "label_too_long", "40000 bytes, the limit is 32768"},
		{"many labels", v1(t, sampled(append(named(), many...))), "too_many_labels", "301, the limit is 256"},
		{"no timestamp", v1(t, at(0)), "timestamp_zero", ""},
		{"negative timestamp", v1(t, at(-5)), "timestamp_negative", "-5"},
		{"seconds", v1(t, at(capturedAt.Unix())), "timestamp_seconds", ""},
		{"beyond the tolerance", v1(t, at(nowMS+600_001)), "timestamp_future", ""},
		{"nanoseconds", v1(t, at(capturedAt.UnixNano())), "timestamp_future", ""},
		{"exemplar without time", v1(t, prompb.TimeSeries{Labels: named(), Exemplars: []prompb.Exemplar{{Value: 1}}}), "exemplar_no_timestamp", ""},
		{"exemplar with bad labels", v1(t, prompb.TimeSeries{Labels: named(), Exemplars: []prompb.Exemplar{{Labels: labels{{Name: "a", Value: "\xff"}}, Timestamp: nowMS}}}), "label_invalid_utf8", "an exemplar's label"},
		{"count off", v1(t, hist(func(h *prompb.Histogram) { h.Count = &prompb.Histogram_CountInt{CountInt: 99} })), "histogram_count", "hold 6 observations, its count is 99"},
		{"count small although NaN", v1(t, hist(func(h *prompb.Histogram) { h.Sum, h.Count = math.NaN(), &prompb.Histogram_CountInt{CountInt: 5} })), "histogram_count", ""},
		{"schema", v1(t, hist(func(h *prompb.Histogram) { h.Schema = 53 })), "histogram_schema", "53"},
		{"spans", v1(t, hist(func(h *prompb.Histogram) { h.PositiveSpans[0].Length = 3 })), "histogram_spans", "cover 3 positive"},
		{"negative bucket", v1(t, hist(func(h *prompb.Histogram) { h.PositiveDeltas = []int64{2, -3} })), "histogram_buckets", ""},
		{"bounds without -53", v1(t, hist(func(h *prompb.Histogram) { h.CustomValues = []float64{1} })), "histogram_custom_bounds", ""},
		{"float buckets in an integer histogram", v1(t, hist(func(h *prompb.Histogram) { h.PositiveCounts = []float64{2, 3} })), "histogram_mixed", ""},
		{"metadata", marshal(t, &prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{MetricFamilyName: "up"}, {Help: "\xff"}}}), "metadata_invalid_utf8", "metadata entry 1"},

		{"cut short", v1(t, at(nowMS))[:20], "malformed_protobuf", "series 0"},
		{"text", []byte("hello"), "malformed_protobuf", ""},
		{"2.0", v2(t, []string{"", "a"}), "wrong_schema", ""},
		{"unknown fields only", []byte{9 << 3, 1}, "wrong_schema", ""},
	}
	var w Walker
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.Walk(V1, tt.body, Limits{}, capturedAt)
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e := wantError(t, err, 400, tt.reason)
			if !strings.Contains(e.Error(), tt.text) {
				t.Errorf("error %q does not say %q", e.Error(), tt.text)
			}
		})
	}
}

func TestWalkRefusesV2(t *testing.T) {
	symbols := []string{"", "__name__", "up", "job", "\xff"}
	series := func(change func(*writev2.TimeSeries)) []byte {
		ts := writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Value: 1, Timestamp: nowMS}}}
		change(&ts)
		return v2(t, symbols, ts)
	}
	refs := func(refs ...uint32) []byte {
		return series(func(ts *writev2.TimeSeries) { ts.LabelsRefs = refs })
	}
	good := refs(1, 2, 3, 2)
	afterSymbols := bytes.Index(good, []byte{5<<3 | wireLen})
	tests := []struct {
		name, reason, text string
		body               []byte
	}{
		{"empty message", "", "", nil},
		{"series before symbols", "", "", slices.Concat(good[afterSymbols:], good[:afterSymbols])},
		{"unused bad symbol", "", "", good},
		{"unsorted", "", "", refs(3, 2, 1, 2)},
		{"empty value", "", "", refs(1, 2, 3, 0)},
		{"metadata only", "", "", series(func(ts *writev2.TimeSeries) { ts.Samples, ts.Metadata.Type = nil, 1 })},
		{"samples and histograms", "", "", series(func(ts *writev2.TimeSeries) { ts.Histograms = []writev2.Histogram{{Timestamp: nowMS}} })},

		{"no labels", "name_missing", "", refs()},
		{"odd", "refs_odd", "3 references", refs(1, 2, 3)},
		{"out of range", "ref_out_of_range", "symbol 5 of 5", refs(1, 2, 3, 5)},
		{"far out of range", "ref_out_of_range", "symbol 4294967295", refs(1, 2, math.MaxUint32, 2)},
		{"empty name", "label_name_empty", "", refs(1, 2, 0, 2)},
		{"twice", "label_duplicate", `"__name__"`, refs(1, 2, 1, 3)},
		{"bytes", "label_invalid_utf8", "", refs(1, 2, 3, 4)},
		{"help", "ref_out_of_range", "metadata refers to symbol 9", series(func(ts *writev2.TimeSeries) { ts.Metadata.HelpRef = 9 })},
		{"unit", "metadata_invalid_utf8", "", series(func(ts *writev2.TimeSeries) { ts.Metadata.UnitRef = 4 })},
		{"exemplar's labels", "refs_odd", "an exemplar's", series(func(ts *writev2.TimeSeries) {
			ts.Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{3}, Timestamp: nowMS}}
		})},
		{"first symbol", "first_symbol", "", v2(t, symbols[1:], writev2.TimeSeries{LabelsRefs: []uint32{0, 1}})},
		{"no symbols", "first_symbol", "", v2(t, nil, writev2.TimeSeries{})},
		{"symbols only", "empty_request", "", v2(t, symbols)},
		{"1.0", "wrong_schema", "", v1(t, sampled(named()))},
		{"1.0 and 2.0", "wrong_schema", "", append(v1(t, sampled(named())), good...)},
		{"unknown fields only", "wrong_schema", "", []byte{9 << 3, 1}},
		{"cut short", "malformed_protobuf", "", good[:len(good)-1]},
	}
	var w Walker
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.Walk(V2, tt.body, Limits{}, capturedAt)
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e := wantError(t, err, 400, tt.reason)
			if !strings.Contains(e.Error(), tt.text) {
				t.Errorf("error %q does not say %q", e.Error(), tt.text)
			}
		})
	}
}

func TestWalkLimits(t *testing.T) {
	three := v1(t, at(nowMS), at(nowMS), prompb.TimeSeries{Labels: named(), Exemplars: []prompb.Exemplar{{Timestamp: nowMS}}})
	// Refused series count towards the limits too: a flood of them is a flood.
	threeBad := v1(t, at(0), at(0), at(0))
	threeV2 := v2(t, []string{"", "__name__", "up"}, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}}, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}}, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}})
	tests := []struct {
		name   string
		v      Version
		body   []byte
		lim    Limits
		status int
		reason string
	}{
		{"bytes, at", V1, three, Limits{MaxDecodedBytes: len(three)}, 0, ""},
		{"bytes", V1, three, Limits{MaxDecodedBytes: len(three) - 1}, 400, "decoded_too_large"},
		{"series, at", V1, three, Limits{MaxSeries: 3}, 0, ""},
		{"series", V1, three, Limits{MaxSeries: 2}, 413, "too_many_series"},
		{"series, 2.0, at", V2, threeV2, Limits{MaxSeries: 3}, 0, ""},
		{"series, 2.0", V2, threeV2, Limits{MaxSeries: 2}, 413, "too_many_series"},
		{"refused series", V1, threeBad, Limits{MaxSeries: 2}, 413, "too_many_series"},
		{"samples, at", V1, three, Limits{MaxSamples: 3}, 0, ""},
		{"samples", V1, three, Limits{MaxSamples: 2}, 413, "too_many_samples"},
		{"refused samples", V1, threeBad, Limits{MaxSamples: 2}, 413, "too_many_samples"},
		{"symbols, at", V2, threeV2, Limits{MaxSymbols: 3}, 0, ""},
		{"symbols", V2, threeV2, Limits{MaxSymbols: 2}, 413, "too_many_symbols"},
		{"labels, at", V1, v1(t, sampled(named(prompb.Label{Name: "a", Value: "b"}))), Limits{MaxLabelsPerSeries: 2}, 0, ""},
		{"labels", V1, v1(t, sampled(named(prompb.Label{Name: "a", Value: "b"}))), Limits{MaxLabelsPerSeries: 1}, 400, "too_many_labels"},
		{"labels, at, the last one bad", V1, v1(t, sampled(named(prompb.Label{Name: "a", Value: "\xff"}))), Limits{MaxLabelsPerSeries: 2}, 400, "label_invalid_utf8"},
		{"labels, 2.0", V2, v2(t, []string{"", "__name__", "a"}, writev2.TimeSeries{LabelsRefs: []uint32{1, 2, 2, 2}}), Limits{MaxLabelsPerSeries: 1}, 400, "too_many_labels"},
		{"name bytes, at", V1, three, Limits{MaxLabelNameBytes: 8}, 0, ""},
		{"name bytes", V1, three, Limits{MaxLabelNameBytes: 7}, 400, "label_too_long"},
		{"name bytes, 2.0", V2, threeV2, Limits{MaxLabelNameBytes: 7}, 400, "label_too_long"},
		{"value bytes, at", V2, threeV2, Limits{MaxLabelBytes: 2}, 0, ""},
		{"value bytes", V2, threeV2, Limits{MaxLabelBytes: 1}, 400, "label_too_long"},
		{"future off", V1, v1(t, at(math.MaxInt64)), Limits{FutureTolerance: -1}, 0, ""},
		{"future, an hour", V1, v1(t, at(nowMS+3600_000)), Limits{FutureTolerance: time.Hour}, 0, ""},
		{"negative limits are defaults", V1, three, Limits{MaxDecodedBytes: -1, MaxSeries: -1, MaxSamples: -1, MaxLabelsPerSeries: -1, MaxLabelBytes: -1, MaxLabelNameBytes: -1}, 0, ""},
		{"no version", 0, three, Limits{}, 400, "unknown_version"},
	}
	var w Walker
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sum, err := w.Walk(tt.v, tt.body, tt.lim, capturedAt)
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, tt.status, tt.reason)
			if sum != (Summary{}) {
				t.Errorf("summary %+v of a refused request", sum)
			}
		})
	}
}

// TestPartialRefusal holds what a receiver needs to store the good part later.
func TestPartialRefusal(t *testing.T) {
	var ts []prompb.TimeSeries
	for i := range 20 {
		switch i % 4 {
		case 1:
			ts = append(ts, sampled(labels{{Name: "secret", Value: "hunter2"}}))
		case 2:
			x := at(nowMS - 1e9)
			x.Samples = append(x.Samples, prompb.Sample{Timestamp: 0})
			ts = append(ts, x)
		default:
			ts = append(ts, at(nowMS-int64(i)))
		}
	}
	body := marshal(t, &prompb.WriteRequest{Timeseries: ts, Metadata: []prompb.MetricMetadata{{MetricFamilyName: "up"}, {Help: "\xff"}}})
	var w Walker
	sum, err := w.Walk(V1, body, Limits{}, capturedAt)
	e := wantError(t, err, 400, "name_missing")
	const text = "series 1: the series has no __name__ label, or an empty one; 11 refused in all: name_missing 5 timestamp_zero 5 metadata_invalid_utf8 1"
	if e.Error() != text {
		t.Errorf("error %q, want %q", e.Error(), text)
	}
	if strings.Contains(e.Error(), "hunter2") {
		t.Error("the error shows the payload")
	}
	want := Summary{
		Counts:         Counts{Series: 10, Samples: 10, Metadata: 1},
		MinTimestampMS: nowMS - 19, MaxTimestampMS: nowMS, HasTimestamp: true,
	}
	if d := cmp.Diff(want, sum); d != "" {
		t.Errorf("the good part (-want +got):\n%s", d)
	}
	wantRej := Rejections{
		Series: 10, Samples: 15, Metadata: 1,
		First: []string{
			"series 1: the series has no __name__ label, or an empty one",
			"series 2: a sample has the timestamp 0 or none",
			"series 5: the series has no __name__ label, or an empty one",
			"series 6: a sample has the timestamp 0 or none",
			"series 9: the series has no __name__ label, or an empty one",
			"series 10: a sample has the timestamp 0 or none",
			"series 13: the series has no __name__ label, or an empty one",
			"series 14: a sample has the timestamp 0 or none",
			"series 17: the series has no __name__ label, or an empty one",
			"series 18: a sample has the timestamp 0 or none",
		},
		ByReason: map[string]int{"name_missing": 5, "timestamp_zero": 5, "metadata_invalid_utf8": 1},
	}
	rej := w.Rejections()
	if d := cmp.Diff(wantRej, rej); d != "" {
		t.Errorf("rejections (-want +got):\n%s", d)
	}
	if rej.Total() != 11 {
		t.Errorf("total %d", rej.Total())
	}
	// The next walk starts afresh, and the caller's copy stays.
	if _, err := w.Walk(V1, v1(t, at(nowMS)), Limits{}, capturedAt); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(Rejections{}, w.Rejections()); d != "" {
		t.Errorf("after a good walk: %s", d)
	}
	if d := cmp.Diff(wantRej, rej); d != "" {
		t.Errorf("the copy changed: %s", d)
	}
}

func TestSummaryTimestamps(t *testing.T) {
	ex := prompb.TimeSeries{Labels: named(), Exemplars: []prompb.Exemplar{{Timestamp: nowMS + 7}, {Timestamp: nowMS - 7}}}
	tests := []struct {
		name     string
		body     []byte
		min, max int64
		has      bool
	}{
		{"nothing", nil, 0, 0, false},
		{"metadata", marshal(t, &prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{}}}), 0, 0, false},
		{"exemplars alone", v1(t, ex), nowMS - 7, nowMS + 7, true},
		{"exemplars beside samples", v1(t, ex, at(nowMS-2), at(nowMS-5)), nowMS - 5, nowMS - 2, true},
		{"histograms", v1(t, at(nowMS), prompb.TimeSeries{Labels: named(), Histograms: []prompb.Histogram{{Timestamp: nowMS + 3}}}), nowMS, nowMS + 3, true},
	}
	var w Walker
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, now := range []time.Time{capturedAt, capturedAt.Add(time.Hour)} { // no clock in the result
				sum, err := w.Walk(V1, tt.body, Limits{}, now)
				if err != nil {
					t.Fatal(err)
				}
				if sum.MinTimestampMS != tt.min || sum.MaxTimestampMS != tt.max || sum.HasTimestamp != tt.has {
					t.Errorf("got %d to %d (%v), want %d to %d (%v)", sum.MinTimestampMS, sum.MaxTimestampMS, sum.HasTimestamp, tt.min, tt.max, tt.has)
				}
			}
		})
	}
}

// TestStartTimestamps reads both drafts of 2.0.
func TestStartTimestamps(t *testing.T) {
	body := v2(t, []string{"", "__name__", "up"},
		writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Timestamp: nowMS, StartTimestamp: nowMS - 5}, {Timestamp: nowMS}}},
		writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Timestamp: nowMS, StartTimestamp: 1}}},
		writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Histograms: []writev2.Histogram{{Timestamp: nowMS, StartTimestamp: nowMS - 5}}},
		writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, XXX_unrecognized: append([]byte{6 << 3}, varintOf(uint64(nowMS-5))...)},
		writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, XXX_unrecognized: []byte{6 << 3, 0}},
	)
	var w Walker
	sum, err := w.Walk(V2, body, Limits{}, capturedAt)
	if err != nil {
		t.Fatal(err)
	}
	if sum.StartTimestamps != 4 || sum.Series != 5 || sum.Samples != 3 || sum.Histograms() != 1 {
		t.Errorf("got %+v", sum)
	}
}

func varintOf(u uint64) []byte {
	b := make([]byte, width(int64(u)))
	put(b, u)
	return b
}

// TestWalkAllocatesNothing walks every capture with a walker that knows it.
func TestWalkAllocatesNothing(t *testing.T) {
	for _, name := range captureNames(t, 0) {
		t.Run(name, func(t *testing.T) {
			_, v, decoded := decodeCapture(t, name)
			var w Walker
			allocs := testing.AllocsPerRun(5, func() {
				if _, err := w.Walk(v, decoded, Limits{}, capturedAt); err != nil {
					t.Fatal(err)
				}
			})
			if allocs != 0 {
				t.Errorf("%v allocations a walk", allocs)
			}
		})
	}
}

func TestLegacyNames(t *testing.T) {
	series := func(pairs ...string) prompb.TimeSeries {
		var ls labels
		for i := 0; i < len(pairs); i += 2 {
			ls = append(ls, prompb.Label{Name: pairs[i], Value: pairs[i+1]})
		}
		return sampled(ls)
	}
	tests := []struct {
		name   string
		series prompb.TimeSeries
		legacy bool
	}{
		{"plain", series("__name__", "up", "job", "x.y"), true},
		{"recording rule", series("__name__", "job:up:rate5m_0"), true},
		{"dot in the metric", series("__name__", "http.requests"), false},
		{"digit first in the metric", series("__name__", "5xx"), false},
		{"UTF-8 in the metric", series("__name__", "zürich"), false},
		{"colon in a label", series("__name__", "up", "a:b", "x"), false},
		{"digit first in a label", series("__name__", "up", "0", "x"), false},
		{"space in a label", series("__name__", "up", "a b", "x"), false},
		{"UTF-8 in a label", series("__name__", "up", "ü", "x"), false},
		{"all letters", series("ABYZ_abyz019", "x", "__name__", "AZaz"), true},
		{"neighbours of letters", series("__name__", "up", "a@", "x"), false},
		{"bracket", series("__name__", "up", "a[", "x"), false},
		{"backtick", series("__name__", "up", "`", "x"), false},
		{"brace", series("__name__", "up", "{", "x"), false},
	}
	var w Walker
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			symbols := []string{""}
			two := writev2.TimeSeries{Samples: []writev2.Sample{{Value: 1, Timestamp: nowMS}}}
			for _, l := range tt.series.Labels {
				symbols = append(symbols, l.Name, l.Value)
				two.LabelsRefs = append(two.LabelsRefs, uint32(len(symbols)-2), uint32(len(symbols)-1))
			}
			for v, body := range map[Version][]byte{V1: v1(t, tt.series), V2: v2(t, symbols, two)} {
				if _, err := w.Walk(v, body, Limits{}, capturedAt); err != nil {
					t.Errorf("%s without the check: %v", v, err)
				}
				_, err := w.Walk(v, body, Limits{LegacyNames: true}, capturedAt)
				if !tt.legacy {
					wantError(t, err, 400, "name_not_legacy")
				} else if err != nil {
					t.Errorf("%s: %v", v, err)
				}
			}
		})
	}
}

// TestScratchIsBounded holds that the walker's memory follows its limits and
// not what a body would have it keep.
func TestScratchIsBounded(t *testing.T) {
	lim := Limits{MaxSymbols: 1000, MaxLabelsPerSeries: 50}
	refs := slices.Repeat([]uint32{1, 2}, 50_000)
	many := slices.Repeat(named(), 50_000)
	tests := []struct {
		name   string
		v      Version
		body   []byte
		reason string
	}{
		{"symbols", V2, bytes.Repeat([]byte{4<<3 | wireLen, 0}, 50_000), "too_many_symbols"},
		{"references", V2, v2(t, []string{"", "__name__", "up"}, writev2.TimeSeries{LabelsRefs: refs}), "too_many_labels"},
		{"references of an exemplar", V2, v2(t, []string{"", "__name__", "up"}, writev2.TimeSeries{LabelsRefs: refs[:2], Exemplars: []writev2.Exemplar{{LabelsRefs: refs, Timestamp: nowMS}}}), "too_many_labels"},
		{"labels", V1, v1(t, prompb.TimeSeries{Labels: many}), "too_many_labels"},
		{"labels of an exemplar", V1, v1(t, prompb.TimeSeries{Labels: named(), Exemplars: []prompb.Exemplar{{Labels: many, Timestamp: nowMS}}}), "too_many_labels"},
		{"refusals", V1, v1(t, make([]prompb.TimeSeries, 20_000)...), "name_missing"},
		{"groups", V1, bytes.Repeat([]byte{9<<3 | wireStart}, 50_000), "malformed_protobuf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w Walker
			_, err := w.Walk(tt.v, tt.body, lim, capturedAt)
			if e := wantAnyError(t, err); e.Reason != tt.reason {
				t.Errorf("reason %s, want %s", e.Reason, tt.reason)
			}
			if n := max(cap(w.symbols)/lim.MaxSymbols, cap(w.labels.list)/lim.MaxLabelsPerSeries, cap(w.ex.list)/lim.MaxLabelsPerSeries, cap(w.rej.first)/maxFirst); n > 2 {
				t.Errorf("the walker keeps %d times the limit", n)
			}
		})
	}
}

func fuzzWalk(f *testing.F, v Version) {
	f.Helper()
	g := gen{Rand: rand.New(rand.NewPCG(2, uint64(v)))}
	for i := range 40 {
		f.Add(g.message(f, v), byte(i))
	}
	for _, name := range captureNames(f, v) {
		_, _, decoded := decodeCapture(f, name)
		f.Add(someOf(f, v, decoded), byte(0))
	}
	f.Add(benchRequest(f, v, 3), byte(0))
	f.Add([]byte{}, byte(0))
	other := benchRequest(f, v, 5)
	f.Fuzz(func(t *testing.T, b []byte, limits byte) {
		if len(b) > 1<<16 {
			return // the generated decoder takes memory by the hundredfold
		}
		var w Walker
		lim := someLimits[int(limits)%len(someLimits)]
		compareWithOracle(t, &w, v, b, lim)
		// What the walker remembers of messages before must change nothing: the same again, another between, and
		// one that differs in a byte. The bits of limits and the bytes of the message say where and how.
		compareWithOracle(t, &w, v, b, lim)
		compareWithOracle(t, &w, v, other, someLimits[int(limits/4)%len(someLimits)])
		compareWithOracle(t, &w, v, b, lim)
		if len(b) == 0 {
			return
		}
		h := fnv.New32a()
		_, _ = h.Write(append(b, limits))
		at, flip := h.Sum32(), byte(1)<<(h.Sum32()>>29)
		changed := slices.Clone(b)
		changed[int(at%uint32(len(b)))] ^= flip
		compareWithOracle(t, &w, v, changed, lim)
		compareWithOracle(t, &w, v, b, lim)
	})
}

// someOf is one series of each sort in a capture: small enough to be mutated.
func someOf(tb testing.TB, v Version, decoded []byte) []byte {
	tb.Helper()
	if v == V1 {
		var m prompb.WriteRequest
		if err := m.Unmarshal(decoded); err != nil {
			tb.Fatal(err)
		}
		seen := map[[3]int]bool{}
		m.Timeseries = slices.DeleteFunc(m.Timeseries, func(ts prompb.TimeSeries) bool {
			sort := [3]int{len(ts.Samples), len(ts.Histograms), len(ts.Exemplars)}
			drop := seen[sort]
			seen[sort] = true
			return drop
		})
		m.Metadata = m.Metadata[:min(2, len(m.Metadata))]
		return marshal(tb, &m)
	}
	var m writev2.Request
	if err := m.Unmarshal(decoded); err != nil {
		tb.Fatal(err)
	}
	seen := map[[3]int]bool{}
	table := writev2.NewSymbolTable()
	m.Timeseries = slices.DeleteFunc(m.Timeseries, func(ts writev2.TimeSeries) bool {
		sort := [3]int{len(ts.Samples), len(ts.Histograms), len(ts.Exemplars)}
		drop := seen[sort]
		seen[sort] = true
		return drop
	})
	for _, ts := range m.Timeseries {
		for i, ref := range ts.LabelsRefs {
			ts.LabelsRefs[i] = table.Symbolize(m.Symbols[ref])
		}
		for _, e := range ts.Exemplars {
			for i, ref := range e.LabelsRefs {
				e.LabelsRefs[i] = table.Symbolize(m.Symbols[ref])
			}
		}
	}
	for i := range m.Timeseries {
		md := &m.Timeseries[i].Metadata
		md.HelpRef, md.UnitRef = table.Symbolize(m.Symbols[md.HelpRef]), table.Symbolize(m.Symbols[md.UnitRef])
	}
	m.Symbols = table.Symbols()
	return marshal(tb, &m)
}

func FuzzWalkV1(f *testing.F) { fuzzWalk(f, V1) }

func FuzzWalkV2(f *testing.F) { fuzzWalk(f, V2) }
