package remotewrite

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
)

// scrape is a 1.0 request of n series of ten labels, of which the first is number from.
func scrape(tb testing.TB, from, n int) []byte {
	tb.Helper()
	var series []prompb.TimeSeries
	for i := from; i < from+n; i++ {
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: float64(i % 3), Timestamp: capturedAt.UnixMilli() - int64(i)}}}
		for _, l := range benchLabels(i) {
			ts.Labels = append(ts.Labels, prompb.Label{Name: l[0], Value: l[1]})
		}
		series = append(series, ts)
	}
	return marshal(tb, &prompb.WriteRequest{Timeseries: series})
}

// TestRememberedChangesNothing walks a message that the walker knows with each of its bytes changed in turn.
func TestRememberedChangesNothing(t *testing.T) {
	a := scrape(t, 0, 3)
	var w Walker
	compareWithOracle(t, &w, V1, a, Limits{})
	for i := range a {
		for _, x := range []byte{1, 0x80, 0xff, a[i]} { // the last makes it zero
			changed := slices.Clone(a)
			changed[i] ^= x
			compareWithOracle(t, &w, V1, changed, Limits{})
			compareWithOracle(t, &w, V1, a, Limits{})
			if w.mem.hits == 0 {
				t.Fatal("nothing is remembered")
			}
		}
		w.mem.forget() // of the changed ones too
		compareWithOracle(t, &w, V1, a, Limits{})
	}
	for n := range a {
		compareWithOracle(t, &w, V1, a[:n], Limits{})
	}
}

// TestRememberedKeepsLimits walks a message that the walker knows with limits that it does not keep.
func TestRememberedKeepsLimits(t *testing.T) {
	a := scrape(t, 0, 3)
	for _, tt := range []struct {
		lim    Limits
		now    time.Time
		reason string
	}{
		{Limits{MaxLabelsPerSeries: 9}, capturedAt, "too_many_labels"},
		{Limits{MaxLabelNameBytes: 5}, capturedAt, "label_too_long"},
		{Limits{MaxLabelBytes: 5}, capturedAt, "label_too_long"},
		{Limits{MaxSeries: 2}, capturedAt, "too_many_series"},
		{Limits{MaxSamples: 2}, capturedAt, "too_many_samples"},
		{Limits{MaxDecodedBytes: 10}, capturedAt, "decoded_too_large"},
		{Limits{}, capturedAt.Add(-time.Hour), "timestamp_future"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			var w Walker
			for range 2 {
				if _, err := w.Walk(V1, a, Limits{}, capturedAt); err != nil {
					t.Fatal(err)
				}
				_, err := w.Walk(V1, a, tt.lim, tt.now)
				if e := wantAnyError(t, err); e.Reason != tt.reason {
					t.Errorf("%s, want %s", e.Reason, tt.reason)
				}
			}
			if _, err := w.Walk(V1, a, Limits{MaxSeries: 3, MaxSamples: 3}, capturedAt); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRememberedIsBounded walks many more series than a walker remembers, in parts, in order and shuffled, and then a
// few over and over, which it must learn in the end.
func TestRememberedIsBounded(t *testing.T) {
	var w Walker
	rnd := rand.New(rand.NewPCG(7, 7))
	walk := func(b []byte, n int) {
		t.Helper()
		sum, err := w.Walk(V1, b, Limits{}, capturedAt)
		if err != nil || sum.Series != n || sum.Samples != n {
			t.Fatalf("%d series, %d samples, %v; want %d", sum.Series, sum.Samples, err, n)
		}
		if cap(w.mem.arena) > 5*memoryBytes/4 || cap(w.mem.blocks) > 5*memoryBlocks/4 || len(w.mem.slots) > memorySlots {
			t.Fatalf("the walker remembers %d bytes in %d blocks", cap(w.mem.arena), cap(w.mem.blocks))
		}
	}
	for range 2 {
		for part := range 40 {
			walk(scrape(t, 500*part, 500), 500)
		}
	}
	if w.mem.nap == firstNap {
		t.Errorf("a memory that is of no use was never switched off: %d hits, %d missed", w.mem.hits, w.mem.missed)
	}
	few := make([][]byte, 4)
	for i := range few {
		few[i] = scrape(t, 100_000+300*i, 300)
	}
	for range 200 {
		walk(few[rnd.IntN(len(few))], 300)
	}
	w.mem.hits = 0
	for _, b := range few {
		walk(b, 300)
	}
	if w.mem.hits != 1200 {
		t.Errorf("%d of 1200 series remembered, the memory is off for %d more", w.mem.hits, w.mem.napping)
	}
}

// TestRememberedSurvivesCollisions makes every hash lead to one block.
func TestRememberedSurvivesCollisions(t *testing.T) {
	known := scrape(t, 10, 3)
	other := scrape(t, 30, 3)                           // whose blocks are as long
	other[bytes.LastIndex(other, []byte("job"))] = 0xff // not UTF-8, and as long as what is known
	for n := range 3 {
		var w Walker
		compareWithOracle(t, &w, V1, known, Limits{})
		for i := range w.mem.slots {
			w.mem.slots[i] = uint32(n + 1)
		}
		if why := compareWithOracle(t, &w, V1, other, Limits{}); why != "label_invalid_utf8" {
			t.Errorf("the walk says %q", why)
		}
	}
}
