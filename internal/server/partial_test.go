package server_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// pack marshals and compresses a message.
func pack(tb testing.TB, m interface{ Marshal() ([]byte, error) }) []byte {
	tb.Helper()
	b, err := m.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return snappy.Encode(nil, b)
}

// mixed packs a request of good and bad series in turn: the bad ones have no name, and
// every second of them a timestamp of zero instead. want is the message that must be
// stored of it.
func mixed(tb testing.TB, v remotewrite.Version, good, bad int) (body []byte, want fmt.Stringer) {
	tb.Helper()
	ms := clock().UnixMilli()
	if v == remotewrite.V1 {
		var all, left prompb.WriteRequest
		for i := range max(good, bad) {
			ok := prompb.TimeSeries{
				Labels:  []prompb.Label{{Name: "__name__", Value: "up"}, {Name: "i", Value: itoa(i)}},
				Samples: []prompb.Sample{{Value: float64(i), Timestamp: ms - int64(i)}},
			}
			if i < good {
				all.Timeseries, left.Timeseries = append(all.Timeseries, ok), append(left.Timeseries, ok)
			}
			if i >= bad {
				continue
			}
			ko := prompb.TimeSeries{Labels: ok.Labels[1:], Samples: ok.Samples, Exemplars: []prompb.Exemplar{{Timestamp: ms}}}
			if i%2 == 1 {
				ko = prompb.TimeSeries{Labels: ok.Labels, Samples: []prompb.Sample{{Value: 1}}}
			}
			all.Timeseries = append(all.Timeseries, ko)
		}
		return pack(tb, &all), &left
	}
	all := writev2.Request{Symbols: []string{"", "__name__", "up", "job", "x"}}
	left := writev2.Request{Symbols: all.Symbols}
	for i := range max(good, bad) {
		ok := writev2.TimeSeries{LabelsRefs: []uint32{1, 2, 3, 4}, Samples: []writev2.Sample{{Value: float64(i), Timestamp: ms - int64(i)}}}
		if i < good {
			all.Timeseries, left.Timeseries = append(all.Timeseries, ok), append(left.Timeseries, ok)
		}
		if i >= bad {
			continue
		}
		ko := writev2.TimeSeries{LabelsRefs: []uint32{3, 4}, Samples: ok.Samples, Exemplars: []writev2.Exemplar{{Timestamp: ms}}}
		if i%2 == 1 {
			ko = writev2.TimeSeries{LabelsRefs: ok.LabelsRefs, Samples: []writev2.Sample{{Value: 1}}}
		}
		all.Timeseries = append(all.Timeseries, ko)
	}
	return pack(tb, &all), &left
}

// unpack reads a stored body with the generated code.
func unpack(tb testing.TB, v remotewrite.Version, body []byte) fmt.Stringer {
	tb.Helper()
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		tb.Fatal(err)
	}
	var m interface {
		Unmarshal(b []byte) error
		String() string
	} = &prompb.WriteRequest{}
	if v == remotewrite.V2 {
		m = &writev2.Request{}
	}
	if err := m.Unmarshal(raw); err != nil {
		tb.Fatal(err)
	}
	return m
}

// TestPartialWrite: the good part of a request is stored as a request of the same
// version under its own hash, and the answer says how much that was.
func TestPartialWrite(t *testing.T) {
	for _, v := range []remotewrite.Version{remotewrite.V1, remotewrite.V2} {
		t.Run(v.String(), func(t *testing.T) {
			mem := store.NewMemory()
			url, client := serve(t, newCore(t, server.Config{Sink: server.NewStoreSink(mem)}))
			body, want := mixed(t, v, 20, 13)
			h := http.Header{"Content-Type": {v.ContentType()}, "Content-Encoding": {"snappy"}}
			for range 2 { // the same bad request again is the same object again
				resp, text := post(t, client, url+"/api/v1/write?cluster_name=c", h, bytes.NewReader(body))
				if resp.StatusCode != http.StatusBadRequest {
					t.Fatalf("%d %s", resp.StatusCode, text)
				}
				wantWritten(t, resp.Header, v, "20", "0", "0")
				lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
				for _, part := range []string{
					"name_missing: series 1: ", "13 refused in all: name_missing 7 timestamp_zero 6", "the rest of the request, 20 series",
				} {
					if !strings.Contains(lines[0], part) {
						t.Errorf("first line without %q: %s", part, lines[0])
					}
				}
				if len(lines) != 10 || !strings.HasPrefix(lines[9], "series 19: ") {
					t.Errorf("%d lines, want the first ten refusals: %q", len(lines), lines)
				}
			}
			stored := contents(t, mem)
			if len(stored) != 1 {
				t.Fatalf("%d objects, want 1", len(stored))
			}
			for key, got := range stored {
				k, err := capture.ParseKey(key)
				if err != nil || k != capture.NewKey("default", "c", v, clock(), got) {
					t.Errorf("stored as %s: %v", key, err)
				}
				if diff := cmp.Diff(want.String(), unpack(t, v, got).String()); diff != "" {
					t.Errorf("stored (-want +got):\n%s", diff)
				}
			}
			// It is a capture like any other.
			if c, err := capture.Load(t.Context(), mem, capture.Options{}); err != nil || c.Entries()[0].Samples != 20 {
				t.Errorf("loading it: %v", err)
			}
		})
	}
}

// Nothing good, nothing stored; and 2.0 is told zeros.
func TestPartialWriteOfNothing(t *testing.T) {
	for _, v := range []remotewrite.Version{remotewrite.V1, remotewrite.V2} {
		mem := store.NewMemory()
		core := newCore(t, server.Config{Sink: server.NewStoreSink(mem)})
		body, _ := mixed(t, v, 0, 3)
		res := core.Ingest(t.Context(), server.Input{ContentType: v.ContentType(), Body: body})
		if res.Status != 400 || res.Created || res.Summary != (remotewrite.Summary{}) || len(contents(t, mem)) != 0 ||
			!strings.Contains(res.Message, "nothing of the request is stored (3 refused)") {
			t.Errorf("%s: %+v", v, res)
		}
		wantWritten(t, res.Header, v, "0", "0", "0")
	}
}

// A 1.0 request may be refused for its metadata alone, or keep nothing but metadata.
func TestPartialWriteMetadata(t *testing.T) {
	good := prompb.MetricMetadata{MetricFamilyName: "up", Help: "h"}
	bad := prompb.MetricMetadata{MetricFamilyName: "\xff"}
	nameless := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: clock().UnixMilli()}}}
	want := prompb.WriteRequest{Metadata: []prompb.MetricMetadata{good}}
	for _, req := range []*prompb.WriteRequest{
		{Metadata: []prompb.MetricMetadata{bad, good, bad}},
		{Timeseries: []prompb.TimeSeries{nameless}, Metadata: []prompb.MetricMetadata{good}},
	} {
		mem := store.NewMemory()
		core := newCore(t, server.Config{Sink: server.NewStoreSink(mem)})
		res := core.Ingest(t.Context(), server.Input{ContentType: remotewrite.V1.ContentType(), Body: pack(t, req)})
		if res.Status != 400 || res.Summary.Metadata != 1 || len(contents(t, mem)) != 1 {
			t.Errorf("%+v", res)
		}
		wantWritten(t, res.Header, remotewrite.V1, "", "", "")
		for _, got := range contents(t, mem) {
			if diff := cmp.Diff(want.String(), unpack(t, remotewrite.V1, got).String()); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		}
	}
}

// The memory for the good part comes out of the budget like all other, and the
// greatest request that is allowed fits.
func TestPartialWriteBudget(t *testing.T) {
	body, _ := mixed(t, remotewrite.V1, 3000, 3)
	n, err := snappy.DecodedLen(body)
	if err != nil {
		t.Fatal(err)
	}
	core := newCore(t, server.Config{
		MaxBodyBytes: int64(len(body)), Limits: remotewrite.Limits{MaxDecodedBytes: n},
		MaxInFlightBytes: int64(len(body)) + 1 + int64(n) + remotewrite.EncodedLen(int64(n)),
	})
	in := server.Input{ContentType: remotewrite.V1.ContentType(), Body: body}
	if res := core.Ingest(t.Context(), in); res.Status != 400 || res.Summary.Samples != 3000 {
		t.Errorf("%d %s", res.Status, res.Message)
	}
}

// A body that decodes to nothing says nothing, and is told so.
func TestEmptyMessage(t *testing.T) {
	for _, v := range []remotewrite.Version{remotewrite.V1, remotewrite.V2} {
		mem := store.NewMemory()
		core := newCore(t, server.Config{Sink: server.NewStoreSink(mem)})
		res := core.Ingest(t.Context(), server.Input{ContentType: v.ContentType(), Body: snappy.Encode(nil, nil)})
		if res.Status != 400 || !strings.HasPrefix(res.Message, "empty_message: ") || len(contents(t, mem)) != 0 {
			t.Errorf("%s: %+v", v, res)
		}
	}
}
