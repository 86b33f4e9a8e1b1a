package stats

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"slices"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// The geometry of every histogram. Nanoseconds, because writers of HDR logs
// assume them; 24 h, because a range of one hour is exceeded in practice; three
// digits, because four need 14 times the memory.
const (
	lowestNS  int64 = 1000
	highestNS int64 = int64(24 * time.Hour)
	digits          = 3

	// unitNS is the width of the narrowest bucket: the largest power of two that
	// is not above lowestNS.
	unitNS int64 = 512
	// subBucketBits is the number of bits that tell the buckets of one power of
	// two apart: 2048 is the first power of two that is not below 2*10^digits.
	subBucketBits = 11
	unitBits      = 9
	subBucketMask = uint64(1<<subBucketBits-1) << unitBits
)

// ErrNegativeLatency is returned by [Histogram.Record] for a latency below zero.
// One process on a monotonic clock never measures one.
var ErrNegativeLatency = errors.New("latency is negative")

// Histogram is a High Dynamic Range histogram of latencies from 1 µs to 24 h with
// three significant digits. Count, minimum, maximum, sum and sum of squares are
// kept exactly and outside the buckets, as integers, so that mean and standard
// deviation neither lose digits nor depend on the order of recording.
//
// The zero value is an empty dense histogram. A Histogram must not be copied
// after first use and is not safe for concurrent use.
type Histogram struct {
	// At most one of the two is set; both are nil in the zero value.
	dense  *hdr.Histogram
	packed *hdr.PackedHistogram

	count        int64
	minNS, maxNS int64
	sum          [2]uint64 // ns, little-endian words
	squares      [3]uint64 // ns², little-endian words
	overflow     int64
	negative     int64
}

// NewHistogram returns an empty dense histogram: the fastest to record into, at
// 238 KB of memory.
func NewHistogram() *Histogram {
	return &Histogram{dense: hdr.New(lowestNS, highestNS, digits)}
}

// Record adds one latency. A latency above 24 h is counted by [Histogram.Overflow]
// and still moves the exact maximum, mean and standard deviation. A negative one
// changes nothing but [Histogram.Negative] and yields [ErrNegativeLatency].
func (h *Histogram) Record(d time.Duration) error {
	ns := int64(d)
	if ns < 0 {
		h.negative++
		return ErrNegativeLatency
	}
	var err error
	switch {
	case h.dense != nil:
		err = h.dense.RecordValue(min(ns, highestNS))
	case h.packed != nil:
		err = h.packed.RecordValue(min(ns, highestNS))
	default:
		h.makeDense()
		err = h.dense.RecordValue(min(ns, highestNS))
	}
	if err != nil {
		return fmt.Errorf("recording a latency: %w", err)
	}
	if ns > highestNS {
		h.overflow++
	}
	if h.count == 0 || ns < h.minNS {
		h.minNS = ns
	}
	h.maxNS = max(h.maxNS, ns)
	h.count++
	// The same as addMoments of one value, which is too large to be inlined.
	var c uint64
	h.sum[0], c = bits.Add64(h.sum[0], uint64(ns), 0)
	h.sum[1] += c
	hi, lo := bits.Mul64(uint64(ns), uint64(ns))
	h.squares[0], c = bits.Add64(h.squares[0], lo, 0)
	h.squares[1], c = bits.Add64(h.squares[1], hi, c)
	h.squares[2] += c
	return nil
}

// makeDense gives a histogram without a store a dense one.
func (h *Histogram) makeDense() {
	if h.dense == nil {
		h.dense = hdr.New(lowestNS, highestNS, digits)
	}
}

// Merge adds all of o to h. It is exact, associative and free of order, whatever
// mix of dense and packed histograms takes part. o stays as it is; a nil o adds
// nothing.
func (h *Histogram) Merge(o *Histogram) {
	if o == nil {
		return
	}
	h.negative += o.negative
	if o.count == 0 {
		return
	}
	h.mergeBuckets(o)
	if h.count == 0 || o.minNS < h.minNS {
		h.minNS = o.minNS
	}
	h.maxNS = max(h.maxNS, o.maxNS)
	h.count += o.count
	h.overflow += o.overflow
	h.addMoments(o.sum, o.squares)
}

// mergeBuckets adds the bucket counts of o. Both sides share one geometry, so
// nothing can fall outside it and the library has nothing to drop.
func (h *Histogram) mergeBuckets(o *Histogram) {
	if h.packed == nil {
		h.makeDense()
	}
	switch {
	case h.dense != nil && o.dense != nil && h != o:
		h.dense.Merge(o.dense)
	case h.dense != nil:
		o.sparse().MergeInto(h.dense)
	default:
		h.packed.Merge(o.sparse())
	}
}

// Reset empties h, which keeps its memory and stays as dense or packed as it is.
func (h *Histogram) Reset() {
	dense, packed := h.dense, h.packed
	switch {
	case dense != nil:
		dense.Reset()
	case packed != nil:
		packed.Reset()
	}
	*h = Histogram{dense: dense, packed: packed}
}

// Count returns the number of latencies recorded, those above 24 h included and
// negative ones not.
func (h *Histogram) Count() int64 { return h.count }

// Overflow returns how many of the latencies were above 24 h.
func (h *Histogram) Overflow() int64 { return h.overflow }

// Negative returns how many negative latencies were refused.
func (h *Histogram) Negative() int64 { return h.negative }

// Min returns the exact minimum, 0 when nothing is recorded.
func (h *Histogram) Min() time.Duration { return time.Duration(h.minNS) }

// Max returns the exact maximum, 0 when nothing is recorded.
func (h *Histogram) Max() time.Duration { return time.Duration(h.maxNS) }

// Mean returns the exact arithmetic mean, rounded to the nanosecond, and 0 when
// nothing is recorded.
func (h *Histogram) Mean() time.Duration {
	if h.count == 0 {
		return 0
	}
	// The sum is at most count * (2^63-1), hence its high word is below count and
	// the quotient fits.
	n := uint64(h.count)
	quotient, remainder := bits.Div64(h.sum[1], h.sum[0], n)
	if remainder >= n-remainder {
		quotient++
	}
	return time.Duration(quotient)
}

// StdDev returns the population standard deviation (divisor n), rounded to the
// nanosecond, and 0 when nothing is recorded. The variance is taken from exact
// integer sums: nothing cancels out, however narrow the spread.
func (h *Histogram) StdDev() time.Duration {
	if h.count == 0 {
		return 0
	}
	sum := words(h.sum[:])
	n := big.NewInt(h.count)
	// n² Var = n Σx² - (Σx)².
	scaled := new(big.Int).Mul(n, words(h.squares[:]))
	scaled.Sub(scaled, new(big.Int).Mul(sum, sum))
	f, _ := new(big.Float).SetInt(scaled).Float64()
	return time.Duration(math.Round(math.Sqrt(max(f, 0)) / float64(h.count)))
}

// Latency is the summary of a histogram as the run file has it. All times are
// milliseconds with at most six decimals, which is whole nanoseconds; they are 0
// when Count is 0. Percentiles follow the rule of [Histogram.Quantile].
type Latency struct {
	Count    int64   `json:"count"`
	MinMS    float64 `json:"min_ms"`
	MeanMS   float64 `json:"mean_ms"`
	StdDevMS float64 `json:"stddev_ms"`
	P50MS    float64 `json:"p50_ms"`
	P90MS    float64 `json:"p90_ms"`
	P95MS    float64 `json:"p95_ms"`
	P99MS    float64 `json:"p99_ms"`
	P999MS   float64 `json:"p99_9_ms"`
	P9999MS  float64 `json:"p99_99_ms"`
	P99999MS float64 `json:"p99_999_ms"`
	MaxMS    float64 `json:"max_ms"`
}

// Latency returns the summary of everything recorded.
func (h *Histogram) Latency() Latency {
	q := h.Quantiles(0.50, 0.90, 0.95, 0.99, 0.999, 0.9999, 0.99999)
	for i := range q {
		q[i] = roundMS(q[i])
	}
	return Latency{
		Count:    h.count,
		MinMS:    toMS(h.Min()),
		MeanMS:   toMS(h.Mean()),
		StdDevMS: toMS(h.StdDev()),
		P50MS:    q[0],
		P90MS:    q[1],
		P95MS:    q[2],
		P99MS:    q[3],
		P999MS:   q[4],
		P9999MS:  q[5],
		P99999MS: q[6],
		MaxMS:    toMS(h.Max()),
	}
}

// addMoments adds a sum and a sum of squares. 128 and 192 bits hold the sums of
// 2^63 latencies of any length, so the last carry is always zero.
func (h *Histogram) addMoments(sum [2]uint64, squares [3]uint64) {
	var c uint64
	h.sum[0], c = bits.Add64(h.sum[0], sum[0], 0)
	h.sum[1], _ = bits.Add64(h.sum[1], sum[1], c)
	h.squares[0], c = bits.Add64(h.squares[0], squares[0], 0)
	h.squares[1], c = bits.Add64(h.squares[1], squares[1], c)
	h.squares[2], _ = bits.Add64(h.squares[2], squares[2], c)
}

// square returns v² as words, the least significant first.
func square(v uint64) [3]uint64 {
	hi, lo := bits.Mul64(v, v)
	return [3]uint64{lo, hi, 0}
}

// words returns the number that little-endian 64-bit words stand for.
func words(w []uint64) *big.Int {
	n := new(big.Int)
	for _, word := range slices.Backward(w) {
		n.Lsh(n, 64)
		n.Or(n, new(big.Int).SetUint64(word))
	}
	return n
}

// toMS converts to milliseconds. The quotient is the float nearest to a decimal
// of six places, so it prints with no more than six.
func toMS(d time.Duration) float64 { return float64(d) / 1e6 }

// toNS is the inverse of toMS for what fits 104 days.
func toNS(ms float64) int64 { return int64(math.Round(ms * 1e6)) }

// roundMS rounds milliseconds to six decimals and turns -0 into 0.
func roundMS(ms float64) float64 { return math.Round(ms*1e6)/1e6 + 0 }
