package remotewrite

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// TestAttachMetadata: an entry goes to a series of its family or stays an entry, each
// exactly once, and nothing else changes.
func TestAttachMetadata(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for round := range 200 {
		var req prompb.WriteRequest
		var want []string
		for i := range 20 {
			family := fmt.Sprintf("family_%d", i)
			typ := prompb.MetricMetadata_MetricType(rng.IntN(8))
			suffix := ""
			switch typ {
			case prompb.MetricMetadata_COUNTER:
				suffix = []string{"", "_total"}[rng.IntN(2)]
			case prompb.MetricMetadata_HISTOGRAM, prompb.MetricMetadata_SUMMARY:
				suffix = []string{"_sum", "_count"}[rng.IntN(2)]
			case prompb.MetricMetadata_GAUGEHISTOGRAM:
				suffix = "_gsum"
			}
			req.Metadata = append(req.Metadata, prompb.MetricMetadata{Type: typ, MetricFamilyName: family, Help: fmt.Sprint("help ", i)})
			want = append(want, fmt.Sprintf("%d help %d", typ, i))
			for j := range rng.IntN(3) {
				req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
					Labels:  []prompb.Label{{Name: "__name__", Value: family + suffix}, {Name: "j", Value: strconv.Itoa(j)}},
					Samples: []prompb.Sample{{Value: float64(i), Timestamp: capturedAt.UnixMilli()}},
				})
			}
		}
		b, err := req.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var m Merger
		if err := m.Add(V1, b); err != nil {
			t.Fatal(err)
		}
		m.AttachMetadata()
		series, entries := m.Len()
		var got []string
		v2, counts := m.AppendV2(nil, 0, series)
		var two writev2.Request
		if err := two.Unmarshal(v2); err != nil {
			t.Fatal(err)
		}
		for _, ts := range two.Timeseries {
			if ts.Metadata.HelpRef != 0 {
				name := two.Symbols[ts.LabelsRefs[1]]
				help := two.Symbols[ts.Metadata.HelpRef]
				got = append(got, fmt.Sprintf("%d %s", ts.Metadata.Type, help))
				if family := "family_" + strings.TrimPrefix(help, "help "); name != family && !strings.HasPrefix(name, family+"_") {
					t.Errorf("%s has the metadata of %s", name, family)
				}
			}
		}
		if series != len(req.Timeseries) || counts.Samples != series || counts.Metadata != len(got) {
			t.Errorf("round %d: %d series, %+v", round, series, counts)
		}
		v1, _ := m.AppendMetadata(nil, 0, entries)
		var one prompb.WriteRequest
		if err := one.Unmarshal(v1); err != nil {
			t.Fatal(err)
		}
		for _, e := range one.Metadata {
			got = append(got, fmt.Sprintf("%d %s", e.Type, e.Help))
			for _, ts := range req.Timeseries {
				if ts.Labels[0].Value == e.MetricFamilyName {
					t.Errorf("the entry for %s has a series", e.MetricFamilyName)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: got %q, want %q", round, got, want)
		}
		// The same entries again: what is attached stays, what is left is replaced.
		if err := m.Add(V1, b); err != nil {
			t.Fatal(err)
		}
		if _, again := m.Len(); again != len(req.Metadata) {
			t.Errorf("%d entries after the second time, want %d", again, len(req.Metadata))
		}
	}
}
