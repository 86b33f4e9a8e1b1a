package stats

import (
	"iter"
	"math"
	"slices"
	"time"
)

// Quantile returns the q-th quantile, q in [0,1], by numpy's linear rule on the
// middles of the buckets, rounded to the nanosecond. The smallest and the largest
// value are exact and no result leaves them. Latencies above 24 h, which have no
// bucket, read as the maximum. It returns 0 when nothing is recorded; a q below 0
// or NaN reads as 0 and a q above 1 as 1.
func (h *Histogram) Quantile(q float64) time.Duration {
	return time.Duration(math.Round(h.quantilesNS([]float64{q})[0]))
}

// Quantiles returns the quantiles qs, each in [0,1], in milliseconds and in the
// order asked for, with one pass over the buckets. The rules are those of
// [Histogram.Quantile], without the rounding.
func (h *Histogram) Quantiles(qs ...float64) []float64 {
	ns := h.quantilesNS(qs)
	for i := range ns {
		ns[i] /= 1e6
	}
	return ns
}

func (h *Histogram) quantilesNS(qs []float64) []float64 {
	out := make([]float64, len(qs))
	if h.count == 0 {
		return out
	}
	ranks := make([]int64, 0, 2*len(qs))
	for _, q := range qs {
		low, high, _ := position(h.count, q)
		ranks = append(ranks, low, high)
	}
	slices.Sort(ranks)
	ranks = slices.Compact(ranks)
	values := h.orderStatisticsNS(ranks)
	at := func(rank int64) float64 {
		i, _ := slices.BinarySearch(ranks, rank)
		return values[i]
	}
	for i, q := range qs {
		low, high, weight := position(h.count, q)
		out[i] = lerp(at(low), at(high), weight)
	}
	return out
}

// orderStatisticsNS returns the values at zero-based ranks, which are ascending.
func (h *Histogram) orderStatisticsNS(ranks []int64) []float64 {
	values := make([]float64, len(ranks))
	// The largest value is known exactly, and so high is all that is known of
	// those without a bucket.
	fromMax := h.count - max(h.overflow, 1)
	next, seen := 0, int64(0)
	for low, n := range h.sparse().ForEachBucket {
		seen += n
		mid := min(max(bucketMidNS(low), h.minNS), h.maxNS)
		for next < len(ranks) && ranks[next] < seen {
			values[next] = float64(mid)
			next++
		}
		if next == len(ranks) {
			break
		}
	}
	for i, rank := range ranks {
		switch {
		case rank >= fromMax:
			values[i] = float64(h.maxNS)
		case rank == 0:
			values[i] = float64(h.minNS)
		}
	}
	return values
}

// position returns the two zero-based ranks that quantile q of n values lies
// between, and the weight of the upper one: numpy's linear rule, h = (n-1)q.
func position(n int64, q float64) (low, high int64, weight float64) {
	if !(q > 0) { // NaN too
		q = 0
	}
	h := float64(n-1) * min(q, 1)
	low = min(int64(h), n-1)
	return low, min(low+1, n-1), h - float64(low)
}

// lerp interpolates from a to b as numpy does: from whichever end is nearer, so
// that weight 1 gives b and the result is monotonic in weight. The conversions
// keep processors that can from fusing the product with the sum: the same input
// gives the same bits everywhere.
func lerp(a, b, weight float64) float64 {
	if weight >= 0.5 {
		return b - float64((b-a)*(1-weight))
	}
	return a + float64((b-a)*weight)
}

// quantileSorted returns the q-th quantile of ascending values, of which there is
// at least one.
func quantileSorted(sorted []float64, q float64) float64 {
	low, high, weight := position(int64(len(sorted)), q)
	return lerp(sorted[low], sorted[high], weight)
}

// Buckets yields the buckets in use, in ascending order: the middle of each in milliseconds and how many latencies
// it holds. Middles below the exact minimum or above the exact maximum are moved to it.
func (h *Histogram) Buckets() iter.Seq2[float64, int64] {
	return func(yield func(float64, int64) bool) {
		for low, n := range h.sparse().ForEachBucket {
			mid := min(max(bucketMidNS(low), h.minNS), h.maxNS)
			if !yield(toMS(time.Duration(mid)), n) {
				return
			}
		}
	}
}
