package stats

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// recordSeconds makes a recorder of a run of so many seconds, perSecond successes in each.
func recordSeconds(seconds, perSecond int) *Recorder {
	rnd := rand.New(rand.NewPCG(3, 4))
	rec := NewRecorder()
	for s := range seconds {
		for i := range perSecond {
			due := time.Duration(s)*time.Second + time.Duration(i)*time.Second/time.Duration(perSecond)
			took := time.Duration(1e6 * (1 + 5*rnd.ExpFloat64()))
			rec.Record(Observation{Pair: PairKey{"a", "b"}, Intended: due, Started: due, Done: due + took, Status: 204})
		}
	}
	return rec
}

func TestTimelineHoldsEverySecond(t *testing.T) {
	rec := recordSeconds(20, 50)
	var run Run
	if err := rec.Fill(&run); err != nil {
		t.Fatal(err)
	}
	all := NewHistogram()
	for i := range run.Timeline {
		p := &run.Timeline[i]
		h, err := p.Decode()
		if err != nil {
			t.Fatal(err)
		}
		if h.Count() != p.OK || p.OK > 0 && (toMS(h.Min()) != p.MinMS || toMS(h.Max()) != p.MaxMS) {
			t.Errorf("second %d: %d latencies from %v to %v, want %d from %v to %v ms", p.TS, h.Count(), h.Min(), h.Max(), p.OK, p.MinMS, p.MaxMS)
		}
		if q := h.Quantiles(0.5, 0.99); p.OK > 0 && (roundMS(q[0]) != p.P50MS || roundMS(q[1]) != p.P99MS) {
			t.Errorf("second %d: p50 %v and p99 %v of the histogram are not %v and %v", p.TS, q[0], q[1], p.P50MS, p.P99MS)
		}
		all.Merge(h)
	}
	if want := rec.Latency(); !equalBuckets(all, want) || all.Max() != want.Max() || all.Min() != want.Min() {
		t.Error("the seconds together are not the run")
	}
	points, err := rec.points(1000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range points {
		if points[i].Histogram != "" || points[i].MinMS != 0 {
			t.Fatal("a timeline that is too large keeps some of its histograms")
		}
	}
	if _, err := points[0].Decode(); !errors.Is(err, ErrNoTimelineHistogram) {
		t.Errorf("a second without its histogram: %v", err)
	}
}

func TestTimelineHistogramMustFit(t *testing.T) {
	var run Run
	if err := recordSeconds(1, 50).Fill(&run); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*TimelinePoint){
		"count":   func(p *TimelinePoint) { p.OK++ },
		"minimum": func(p *TimelinePoint) { p.MinMS = p.MaxMS },
		"maximum": func(p *TimelinePoint) { p.MaxMS *= 2 },
		"bytes":   func(p *TimelinePoint) { p.Histogram = p.Histogram[:20] },
	} {
		p := run.Timeline[0]
		spoil(&p)
		if _, err := p.Decode(); err == nil {
			t.Errorf("a wrong %s is not found", name)
		}
	}
}

func equalBuckets(a, b *Histogram) bool {
	counts := func(h *Histogram) map[int64]int64 {
		m := map[int64]int64{}
		for v, n := range h.sparse().ForEachBucket {
			m[v] += n
		}
		return m
	}
	x, y := counts(a), counts(b)
	for v, n := range x {
		if y[v] != n {
			return false
		}
	}
	return len(x) == len(y)
}

// BenchmarkTimelineFill is a run of 10,000 seconds, of which each has its histogram encoded.
func BenchmarkTimelineFill(b *testing.B) {
	rec := recordSeconds(10_000, 100)
	b.ReportAllocs()
	for b.Loop() {
		points, err := rec.points(maxTimelineBytes)
		if err != nil {
			b.Fatal(err)
		}
		size := 0
		for i := range points {
			size += len(points[i].Histogram)
		}
		b.ReportMetric(float64(size)/float64(len(points)), "B/second")
	}
}
