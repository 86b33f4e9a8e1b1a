package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// shapes are rows that try what a division into buckets can get wrong.
func shapes() map[string]func(rng *rand.Rand, i int) float64 {
	return map[string]func(rng *rand.Rand, i int) float64{
		"lognormal":                  func(rng *rand.Rand, _ int) float64 { return math.Round(3000 * math.Exp(rng.NormFloat64())) },
		"constant":                   func(*rand.Rand, int) float64 { return 70 },
		"zero":                       func(*rand.Rand, int) float64 { return 0 },
		"ties of whole ms":           func(rng *rand.Rand, _ int) float64 { return float64(rng.IntN(12)) * 1000 },
		"two modes far apart":        func(_ *rand.Rand, i int) float64 { return float64(i%2) * 2e9 },
		"one outlier":                func(_ *rand.Rand, i int) float64 { return float64(i%100) + 2e9*float64(max(0, 1-i)) },
		"nearly all in one bucket":   func(rng *rand.Rand, i int) float64 { return math.Round(rng.Float64()*3) + 1e9*float64(i%50/49) },
		"negative":                   func(rng *rand.Rand, _ int) float64 { return math.Round(rng.NormFloat64() * 1e5) },
		"the whole range of integer": func(rng *rand.Rand, _ int) float64 { return float64(int32(rng.Uint32())) },
		"ascending":                  func(_ *rand.Rand, i int) float64 { return float64(i) },
		"descending":                 func(_ *rand.Rand, i int) float64 { return float64(-i) },
		"narrower than a bucket":     func(_ *rand.Rand, i int) float64 { return float64(i%2) * 1e-307 },
	}
}

// sortedDeltas is the plain way: sort, then interpolate.
func sortedDeltas(row []float64) DeltaSet {
	sorted := slices.Sorted(slices.Values(row))
	var p [5]float64
	for i, q := range [...]float64{qMedian, qD2, qD3, qD4, qD5} {
		p[i] = quantileSorted(sorted, q)
	}
	return newDeltaSet(int64(len(sorted)), sorted[0], p, func(float64) float64 { return 0 })
}

// TestPickedAsSorted: picking gives to the bit what sorting gives, of floats and of integers, row by row and pooled, and
// leaves the rows as they are.
func TestPickedAsSorted(t *testing.T) {
	for name, f := range shapes() {
		for _, n := range []int{1, 2, 3, 100, 101, 4097, 60_000} {
			rng := rand.New(rand.NewPCG(uint64(n), 7))
			rows := make([][]float64, 3)
			ints := make([][]int32, len(rows))
			keys := make([]PairKey, len(rows))
			var pool []float64
			for r := range rows {
				keys[r] = PairKey{strconv.Itoa(r), "x"}
				for i := range n * (r + 1) / 2 {
					v := f(rng, i)
					rows[r] = append(rows[r], v/1000)
					ints[r] = append(ints[r], int32(v))
				}
				pool = append(pool, rows[r]...)
			}
			before := slices.Clone(rows[1])
			got := ExactDeltas(keys, rows, 1)
			for _, pair := range got.Pairs {
				i := slices.Index(keys, PairKey{pair.Source, pair.Destination})
				if diff := cmp.Diff(sortedDeltas(rows[i]), pair.DeltaSet); diff != "" {
					t.Errorf("%s, n=%d: -sorted +picked:\n%s", name, n, diff)
				}
			}
			if diff := cmp.Diff(sortedDeltas(pool), got.Pooled); diff != "" {
				t.Errorf("%s, n=%d, pooled: -sorted +picked:\n%s", name, n, diff)
			}
			if !slices.Equal(before, rows[1]) {
				t.Errorf("%s, n=%d: the row was changed", name, n)
			}
			// In whole units there is nothing to round.
			for r := range ints {
				rows[r] = rows[r][:0]
				for _, v := range ints[r] {
					rows[r] = append(rows[r], float64(v))
				}
			}
			if diff := cmp.Diff(ExactDeltas(keys, rows, 1), ExactDeltas(keys, ints, 1)); diff != "" {
				t.Errorf("%s, n=%d: -floats +integers:\n%s", name, n, diff)
			}
		}
	}
}

// TestBatchRecordsTheSame as one by one, to the bucket and the last bit of the moments, dense and packed.
func TestBatchRecordsTheSame(t *testing.T) {
	var b Batch
	rng := rand.New(rand.NewPCG(3, 4))
	for _, unit := range []time.Duration{1, 999, time.Microsecond, time.Millisecond, time.Second} {
		for _, limit := range []int32{1, 3, 5000, 80_000, math.MaxInt32} {
			values := make([]int32, 5000)
			for i := range values {
				values[i] = rng.Int32N(limit)
			}
			for i, edge := range []int32{0, limit, 511, 512, 1023, 1024} {
				values[i] = min(edge, limit)
			}
			want, dense, packed := NewHistogram(), NewHistogram(), NewPackedHistogram()
			for _, v := range values {
				if err := want.Record(time.Duration(v) * unit); err != nil {
					t.Fatal(err)
				}
			}
			for _, h := range []*Histogram{dense, packed} {
				for _, part := range [][]int32{values[:2000], nil, values[2000:]} {
					if err := b.Record(h, part, unit); err != nil {
						t.Fatal(err)
					}
				}
				if !sameBuckets(want, h) || want.Moments() != h.Moments() || want.Latency() != h.Latency() {
					t.Errorf("unit %v, up to %d: %+v, want %+v", unit, limit, h.Moments(), want.Moments())
				}
			}
		}
	}
	h := NewHistogram()
	if err := b.Record(h, []int32{1, -1}, 1); err == nil || h.Count() != 0 {
		t.Errorf("a negative latency: %v, count %d", err, h.Count())
	}
	if err := b.Record(h, []int32{1}, 0); err == nil {
		t.Error("a unit of 0 is taken")
	}
}

func sameBuckets(a, b *Histogram) bool {
	type bucket struct{ low, n int64 }
	var x, y []bucket
	for low, n := range a.sparse().ForEachBucket {
		x = append(x, bucket{low, n})
	}
	for low, n := range b.sparse().ForEachBucket {
		y = append(y, bucket{low, n})
	}
	return slices.Equal(x, y)
}

func benchmarkRow() []int32 {
	rng := rand.New(rand.NewPCG(1, 2))
	row := make([]int32, 100_000)
	for i := range row {
		row[i] = int32(3000 * math.Exp(0.5*rng.NormFloat64()))
	}
	return row
}

// Budget: 3 ns a value; numpy's sort by rows takes 5.
func BenchmarkExactDeltas(b *testing.B) {
	row := benchmarkRow()
	var p picker[int32]
	for b.Loop() {
		p.pick([][]int32{row}, int64(len(row)))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(row)), "ns/value")
}

// Budget: 5 ns a value.
func BenchmarkBatch(b *testing.B) {
	row := benchmarkRow()
	var batch Batch
	for b.Loop() {
		h := NewPackedHistogram()
		if err := batch.Record(h, row, time.Microsecond); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(row)), "ns/value")
}
