package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// writeManyPairs leaves a run file of so many pairs of 50,000 latencies each, all alike but for their names, and returns
// how large it is.
func writeManyPairs(tb testing.TB, name string, pairs int) int64 {
	tb.Helper()
	h := stats.NewPackedHistogram()
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 50_000 {
		if err := h.Record(time.Duration(20e6 * math.Exp(0.7*rnd.NormFloat64()))); err != nil {
			tb.Fatal(err)
		}
	}
	encoded, err := h.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	n := int64(pairs) * h.Count()
	run := &stats.Run{
		Counts: stats.Counts{Planned: n, Sent: n, OK: n}, Latency: stats.Latency{Count: n}, Service: stats.Latency{Count: n},
		Deltas: &stats.Deltas{Used: n}, Client: stats.Client{Verdict: "valid"},
	}
	for i := range pairs {
		p := stats.RunPair{
			Source: fmt.Sprintf("org-%d/cluster-%d", i%10, i), Destination: "host", Count: h.Count(), Latency: h.Latency(), Deltas: h.Deltas(),
			EncodedHistogram: stats.EncodedHistogram{Histogram: encoded, Moments: h.Moments()},
		}
		run.Pairs = append(run.Pairs, p)
		run.Deltas.Pairs = append(run.Deltas.Pairs, stats.PairDeltas{Source: p.Source, Destination: p.Destination, DeltaSet: p.Deltas})
	}
	f, err := os.Create(name)
	if err != nil {
		tb.Fatal(err)
	}
	if err := run.WriteJSON(f); err != nil {
		tb.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return info.Size()
}

// BenchmarkStoredGateMemory compares a run file with itself, with the program of CIRRUSBENCH_BINARY if that is set.
func BenchmarkStoredGateMemory(b *testing.B) {
	for _, pairs := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("pairs=%d", pairs), func(b *testing.B) {
			name := filepath.Join(b.TempDir(), "run.json")
			size := writeManyPairs(b, name, pairs)
			var peak int64
			for b.Loop() {
				peak = max(peak, peakMemory(b, "gate", "--baseline", name, "--candidate", name, "--by-org"))
			}
			b.ReportMetric(float64(peak)/1e6, "peak-MB")
			b.ReportMetric(float64(size)/1e6, "run-file-MB")
		})
	}
}
