package cost

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Resamples is the number of bootstrap replicates behind an Interval.
const Resamples = 2000

// Below these sizes a mean is not to be trusted; the result says so.
const (
	enoughSamples = 100
	enoughColds   = 5
)

// fewestBlocks is the number of log streams or hours below which they are not
// resampled: so few say nothing about how blocks differ.
const fewestBlocks = 20

// Interval is a 95 % interval of a mean of billed milliseconds.
type Interval struct {
	// Low and High are the bounds in milliseconds.
	Low, High float64
	// Samples is the number of invocations, Colds how many of them were cold.
	Samples, Colds int
	// Method says what was resampled: "bootstrap" single invocations, "bootstrap
	// by log stream" or "bootstrap by hour" blocks of them.
	Method string
}

// Warning says that there are too few samples to trust the mean, and how many
// are needed; "" when there are enough.
func (v Interval) Warning() string {
	coldStarts := fmt.Sprintf("%d cold starts", v.Colds)
	if v.Colds == 1 {
		coldStarts = "1 cold start"
	}
	switch {
	case v.Samples == 0:
		return ""
	case v.Samples < enoughSamples:
		return fmt.Sprintf("too few samples: %d invocations, at least %d are needed; use the interval, not the mean", v.Samples, enoughSamples)
	case v.Colds < enoughColds:
		return fmt.Sprintf("too few samples: %s, at least %d are needed; their share of the cost is a guess", coldStarts, enoughColds)
	}
	return ""
}

// MeanInterval returns the 95 % interval of the mean of warm and cold durations
// together by a stratified bootstrap: each of the 2,000 replicates draws the
// number of cold ones, then the warm and the cold each from their own stratum.
// It is the percentile interval: a correction for skewed replicates (BCa) would
// change little, because however skewed the durations are, the skewness of the
// replicates of n single invocations stays below 1.
//
// A sample of any size is resampled whole. In a stratum of more than 2,000
// invocations, durations that lie within a tenth of its standard deviation count
// as their mean: that narrows the interval by less than one part in 2,000, and by
// far less than another seed does. The slices must be sorted for the result to be
// reproducible.
func MeanInterval(warm, cold []float64, rng *rand.Rand) Interval {
	return bootstrap(countsOf(warm), countsOf(cold), rng)
}

// counted is a value and how often it was seen.
type counted struct {
	value float64
	n     int64
}

func countsOf(values []float64) []counted {
	var list []counted
	for _, v := range values {
		if k := len(list); k > 0 && list[k-1].value == v {
			list[k-1].n++
			continue
		}
		list = append(list, counted{v, 1})
	}
	return list
}

// bootstrap resamples two strata, each in the order of its values.
func bootstrap(warm, cold []counted, rng *rand.Rand) Interval {
	w, c := newStratum(warm), newStratum(cold)
	n := w.n + c.n
	v := Interval{Samples: int(n), Colds: int(c.n), Method: "bootstrap"}
	if n == 0 {
		return Interval{}
	}
	share := newCoin(float64(c.n) / float64(n))
	means := make([]float64, Resamples)
	for i := range means {
		colds := share.heads(rng, n)
		means[i] = (w.resample(rng, n-colds) + c.resample(rng, colds)) / float64(n)
	}
	slices.Sort(means)
	v.Low, v.High = linear(means, 0.025), linear(means, 0.975)
	return v
}

// stratum is a set of values that is drawn from with replacement.
type stratum struct {
	n      int64
	sum    float64
	single []float64 // every value, when they are few enough to be drawn one by one
	values []float64 // else the distinct ones
	coins  []coin    // of drawing this value rather than one of those behind it
}

const (
	fewValues = 2000 // up to so many values are drawn one by one
	fineness  = 10   // above, those within this part of the standard deviation are taken together
)

func newStratum(list []counted) *stratum {
	s := &stratum{}
	squares := 0.0
	for _, c := range list {
		s.n += c.n
		s.sum += float64(c.n) * c.value
	}
	if s.n <= fewValues {
		for _, c := range list {
			s.single = append(s.single, slices.Repeat([]float64{c.value}, int(c.n))...)
		}
		return s
	}
	mean := s.sum / float64(s.n)
	for _, c := range list {
		squares += float64(c.n) * (c.value - mean) * (c.value - mean)
	}
	list = together(list, math.Sqrt(squares/float64(s.n))/fineness)
	// The most frequent first: few draws are left for the long tail.
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b counted) int { return cmp.Compare(b.n, a.n) })
	left := s.n
	for _, c := range list {
		s.values = append(s.values, c.value)
		s.coins = append(s.coins, newCoin(float64(c.n)/float64(left)))
		left -= c.n
	}
	return s
}

// together counts values that lie in one cell of the given width as their mean.
func together(list []counted, width float64) []counted {
	if !(width > 0) {
		return list // all are the same
	}
	var out []counted
	cell := math.NaN()
	for _, c := range list {
		at := math.Floor(c.value / width)
		if k := len(out); k > 0 && at == cell {
			o := &out[k-1]
			o.value += (c.value - o.value) * float64(c.n) / float64(o.n+c.n)
			o.n += c.n
			continue
		}
		cell = at
		out = append(out, c)
	}
	return out
}

// resample returns the sum of n draws. How often each value comes up is drawn at
// once, value by value, so that a draw of a hundred thousand takes as many steps
// as there are values.
func (s *stratum) resample(rng *rand.Rand, n int64) float64 {
	sum := 0.0
	if len(s.single) > 0 {
		for range n {
			sum += s.single[rng.IntN(len(s.single))]
		}
		return sum
	}
	for i, v := range s.values {
		if n == 0 {
			break
		}
		k := n
		if i < len(s.values)-1 {
			k = s.coins[i].heads(rng, n)
		}
		sum += float64(k) * v
		n -= k
	}
	return sum
}

// coin falls on its head with a probability.
type coin struct {
	p       float64 // at most a half: the rarer side
	flipped bool
	odds    float64 // p/(1−p)
	logOdds float64
	logMiss float64 // log(1−p)
}

func newCoin(p float64) coin {
	c := coin{p: p}
	if p > 0.5 {
		c.p, c.flipped = 1-p, true
	}
	c.odds = c.p / (1 - c.p)
	c.logOdds, c.logMiss = math.Log(c.odds), math.Log1p(-c.p)
	return c
}

// heads returns how many of n throws fall on the head: a binomial number. Small
// ones are drawn by inversion, large ones by Hörmann's transformed rejection
// (BTRS, 1993), so that the time does not grow with n.
func (c *coin) heads(rng *rand.Rand, n int64) int64 {
	var k int64
	switch mean := float64(n) * c.p; {
	case n <= 0:
		return 0
	case c.p <= 0:
	case mean < 10:
		k = c.few(rng, n)
	default:
		k = c.many(rng, n, mean)
	}
	if c.flipped {
		return n - k
	}
	return k
}

func (c *coin) few(rng *rand.Rand, n int64) int64 {
	for {
		p := math.Exp(float64(n) * c.logMiss)
		u := rng.Float64()
		for k := int64(0); k <= n && k < 200; k++ {
			if u < p {
				return k
			}
			u -= p
			p *= c.odds * float64(n-k) / float64(k+1)
		}
		// Rounding left a sliver of probability beyond the end: draw again.
	}
}

func (c *coin) many(rng *rand.Rand, n int64, mean float64) int64 {
	sd := math.Sqrt(mean * (1 - c.p))
	b := 1.15 + 2.53*sd
	a := -0.0873 + 0.0248*b + 0.01*c.p
	centre, squeeze := mean+0.5, 0.92-4.2/b
	lgamma := func(k int64) float64 {
		v, _ := math.Lgamma(float64(k) + 1)
		return v
	}
	mode, peak := int64(0), math.NaN() // found when they are first needed, which is seldom
	for {
		u, v := rng.Float64()-0.5, rng.Float64()
		edge := 0.5 - math.Abs(u)
		k := int64(math.Floor((2*a/edge+b)*u + centre))
		if edge >= 0.07 && v <= squeeze {
			return k
		}
		if k < 0 || k > n {
			continue
		}
		if math.IsNaN(peak) {
			mode = int64(math.Floor(float64(n+1) * c.p))
			peak = lgamma(mode) + lgamma(n-mode)
		}
		v = math.Log(v * (2.83 + 5.1/b) * sd / (a/(edge*edge) + b))
		if v <= peak-lgamma(k)-lgamma(n-k)+float64(k-mode)*c.logOdds {
			return k
		}
	}
}

// block is what belongs together: the invocations of a log stream or of an hour.
type block struct {
	n, colds int64
	sum      float64 // billed ms
}

func (b *block) add(ms float64, cold bool) {
	b.n++
	b.sum += ms
	if cold {
		b.colds++
	}
}

// blockInterval resamples whole blocks, because durations within one are alike:
// single invocations would make the interval too narrow.
func blockInterval(blocks []block, by string, rng *rand.Rand) Interval {
	v := Interval{Method: "bootstrap by " + by}
	for _, b := range blocks {
		v.Samples += int(b.n)
		v.Colds += int(b.colds)
	}
	means := make([]float64, Resamples)
	for i := range means {
		k, sum := int64(0), 0.0
		for range blocks {
			b := &blocks[rng.IntN(len(blocks))]
			k += b.n
			sum += b.sum
		}
		means[i] = sum / float64(k)
	}
	slices.Sort(means)
	v.Low, v.High = linear(means, 0.025), linear(means, 0.975)
	return v
}

// linear interpolates the q-quantile of sorted values at position q·(n−1).
func linear(sorted []float64, q float64) float64 {
	pos := q * float64(len(sorted)-1)
	low := int(pos)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (pos-float64(low))*(sorted[high]-sorted[low])
}
