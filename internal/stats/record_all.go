package stats

import (
	"fmt"
	"math/bits"
	"time"
)

// A batch counts into an array of its own with the histogram's geometry and hands it over at the end: the library
// takes one value a call.
const batchBuckets = (64-unitBits-subBucketBits)<<(subBucketBits-1) + 1<<subBucketBits

// Batch records many latencies of one pair at once, some times faster than [Histogram.Record] does one by one. The
// zero value is ready; it can be used for one histogram after the other, which saves its memory of 180 KB.
type Batch struct {
	counts []uint32
}

// Record adds values, each a latency in units of unit, to h. Above 24 h it does what [Histogram.Record] does. It
// is an error if one is negative, and h is then unchanged; so is a unit that is not from 1 ns to 1 s.
func (b *Batch) Record(h *Histogram, values []int32, unit time.Duration) error {
	if unit < 1 || unit > time.Second {
		return fmt.Errorf("recording latencies: a unit of %v is not from 1 ns to 1 s", unit)
	}
	if len(values) == 0 {
		return nil
	}
	smallest, largest := values[0], values[0]
	for _, v := range values {
		smallest, largest = min(smallest, v), max(largest, v)
	}
	if smallest < 0 {
		return ErrNegativeLatency
	}
	if int64(largest)*int64(unit) > highestNS {
		for _, v := range values {
			_ = h.Record(time.Duration(v) * unit) // not negative, so there is nothing to refuse
		}
		return nil
	}
	if b.counts == nil {
		b.counts = make([]uint32, batchBuckets)
	}
	if ns := int64(smallest) * int64(unit); h.count == 0 || ns < h.minNS {
		h.minNS = ns
	}
	h.maxNS = max(h.maxNS, int64(largest)*int64(unit))
	for len(values) > 0 {
		n := min(len(values), 1<<31) // so that no counter and no sum overflows
		b.chunk(h, values[:n], unit)
		values = values[n:]
	}
	return nil
}

// chunk adds values to all of h but the extremes.
func (b *Batch) chunk(h *Histogram, values []int32, unit time.Duration) {
	counts := (*[batchBuckets]uint32)(b.counts)
	var sum, squares, carry uint64 // 2^31 values below 2^31 have a sum below 2^62
	for _, v := range values {
		x := uint64(uint32(v))
		ns := x * uint64(unit)
		power := bits.Len64(ns|subBucketMask) - subBucketBits - unitBits
		i := power<<(subBucketBits-1) + int(ns>>(uint(power+unitBits)&63))
		counts[i]++
		sum += x
		var c uint64
		squares, c = bits.Add64(squares, x*x, 0)
		carry += c
	}
	for i, n := range counts {
		if n == 0 {
			continue
		}
		counts[i] = 0
		power := max(i>>(subBucketBits-1)-1, 0)
		low := int64(i-power<<(subBucketBits-1)) << (power + unitBits)
		h.recordBucket(low, int64(n))
	}
	h.count += int64(len(values))
	h.addMoments(times(sum, uint64(unit)), timesWide([3]uint64{squares, carry}, uint64(unit)*uint64(unit)))
}

// recordBucket counts n values of the bucket that begins at low, and nothing outside the buckets.
func (h *Histogram) recordBucket(low, n int64) {
	// What lies within the range is never refused.
	if h.packed != nil {
		_ = h.packed.RecordValues(low, n)
		return
	}
	h.makeDense()
	_ = h.dense.RecordValues(low, n)
}
