package replay

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/golang/snappy"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// BenchmarkPrepare makes bodies of the bundled corpus as 20 clusters, shifted, and compares with decoding, relabelling, shifting
// and compressing each from the start. Both in interleaved rounds.
func BenchmarkPrepare(b *testing.B) {
	c, err := capture.Load(b.Context(), store.FromFS(os.DirFS("../../fixtures/corpus")), capture.Options{})
	if err != nil {
		b.Fatal(err)
	}
	plan, err := NewPlan(PlanConfig{RatePerS: 1000, Requests: 1 << 20, Loop: true, FanOut: 20, Objects: len(c.Entries())})
	if err != nil {
		b.Fatal(err)
	}
	e, err := newEngine(Config{Corpus: c, Plan: plan, Sender: senderFunc(func(context.Context, *Outgoing) Response { return Response{} }), Timestamps: Shift, Timeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	e.start = time.Now()
	p := e.preparer()
	var decoded, labelled, encoded []byte
	anew := func(j *job) {
		object, replica, _ := plan.Object(j.n)
		raw, err := c.Body(b.Context(), object)
		if err != nil {
			b.Fatal(err)
		}
		v := c.Entries()[object].Key.Version
		if decoded, err = remotewrite.Decode(decoded[:0], raw, 0); err != nil {
			b.Fatal(err)
		}
		out := decoded
		if replica > 0 {
			if labelled, err = remotewrite.Relabel(labelled[:0], v, decoded, "cluster", j.req.Cluster); err != nil {
				b.Fatal(err)
			}
			out = labelled
		}
		if err = remotewrite.Shift(v, out, j.deltaMS); err != nil {
			b.Fatal(err)
		}
		encoded = snappy.Encode(encoded[:cap(encoded)], out)
	}
	const round = 200 // requests: a pass
	jobs := make([]*job, round)
	var ours, theirs time.Duration
	var bytes int64
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		for i := range jobs {
			if jobs[i], err = p.prepare(b.Context(), n); err != nil {
				b.Fatal(err)
			}
			bytes += int64(len(jobs[i].req.Body))
			n++
		}
		ours += time.Since(began)
		b.StopTimer()
		began = time.Now()
		for _, j := range jobs {
			anew(j)
			e.jobs.Put(j)
		}
		theirs += time.Since(began)
		b.StartTimer()
	}
	b.SetBytes(bytes / int64(max(b.N, 1)))
	b.ReportMetric(float64(ours.Microseconds())/float64(n), "us/request")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x_anew")
}
