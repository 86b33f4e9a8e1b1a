package stats

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// agree has values go through a sieve and a partition, with the processor's vector instructions where there are some, and
// in Go, and compares what is left.
func agree(t *testing.T, values []int32, lo, hi, tail int32) {
	t.Helper()
	bounds := []int32{lo, hi, tail}
	slices.Sort(bounds)
	type outcome struct {
		Kept                  []int32
		N, AboveLo, AboveTail int64
		Least                 int32
	}
	see := func(sift func(*sieve[int32])) outcome {
		var s sieve[int32]
		s.reset()
		s.lo, s.hi, s.tail = bounds[0], bounds[1], bounds[2]
		sift(&s)
		return outcome{append([]int32{}, s.kept...), s.n, s.aboveLo, s.aboveTail, s.least}
	}
	fast := see(func(s *sieve[int32]) { s.sift(values) })
	plain := see(func(s *sieve[int32]) {
		s.n = int64(len(values))
		s.kept = slices.Grow(s.kept, len(values)+siftSlack)
		s.siftGeneric(values)
	})
	if d := cmp.Diff(plain, fast); d != "" {
		t.Fatalf("sifting %d values by %v: -in Go +vector\n%s", len(values), bounds, d)
	}
	split := func(partition func(values, spare []int32) int) (low, high []int32) {
		low, high = slices.Clone(values), make([]int32, len(values))
		n := partition(low, high)
		return low[:n], high[:len(values)-n]
	}
	low, high := split(func(v, spare []int32) int { return partition(v, spare, hi) })
	wantLow, wantHigh := split(func(v, spare []int32) int { return partitionFrom(v, spare, hi, 0, 0) })
	if !slices.Equal(low, wantLow) || !slices.Equal(high, wantHigh) {
		t.Fatalf("partitioning %d values by %d: %v and %v, in Go %v and %v", len(values), hi, low, high, wantLow, wantHigh)
	}
}

func TestVectorsAgreeWithGo(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, limit := range []int32{1, 3, 50, 1 << 30} {
		for _, n := range []int{0, 1, 7, 8, 9, 31, 32, 33, 100, siftBlock - 1, siftBlock, 2*siftBlock + 13} {
			values := make([]int32, n)
			for i := range values {
				values[i] = rng.Int32N(limit) - limit/2
			}
			agree(t, values, rng.Int32N(limit)-limit/2, rng.Int32N(limit)-limit/2, rng.Int32N(limit)-limit/2)
			agree(t, values, -1<<31, 1<<31-1, 1<<31-1)
		}
	}
}

func FuzzVectorsAgreeWithGo(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef"), int32(0), int32(5), int32(9))
	f.Fuzz(func(t *testing.T, b []byte, lo, hi, tail int32) {
		values := make([]int32, len(b)/4)
		for i := range values {
			values[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
		}
		agree(t, values, lo, hi, tail)
	})
}

// FuzzExactDeltas: whatever the values and however they are ordered, picking gives what sorting gives.
func FuzzExactDeltas(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, uint16(5000), uint8(3), uint64(1))
	f.Add([]byte{0}, uint16(40_000), uint8(0), uint64(2))
	f.Fuzz(func(t *testing.T, b []byte, n uint16, noise uint8, seed uint64) {
		if len(b) == 0 || n == 0 {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		rows, ints := make([][]float64, 2), make([][]int32, 2)
		var pool []float64
		for i := range int(n) {
			v := int32(b[i%len(b)]) << (b[(i/len(b))%len(b)] % 24) // a pattern that a sample in steps would fall for
			v += rng.Int32N(int32(noise) + 1)
			r := i % 7 / 5
			rows[r] = append(rows[r], float64(v))
			ints[r] = append(ints[r], v)
			pool = append(pool, float64(v))
		}
		keys := []PairKey{{"a", "x"}, {"b", "x"}}
		got := ExactDeltas(keys, rows, 1)
		if d := cmp.Diff(got, ExactDeltas(keys, ints, 1)); d != "" {
			t.Errorf("-floats +integers\n%s", d)
		}
		for i, pair := range got.Pairs {
			if d := cmp.Diff(sortedDeltas(rows[i]), pair.DeltaSet); d != "" {
				t.Errorf("row %d: -sorted +picked\n%s", i, d)
			}
		}
		if d := cmp.Diff(sortedDeltas(pool), got.Pooled); d != "" {
			t.Errorf("pooled: -sorted +picked\n%s", d)
		}
	})
}
