package cost

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Resamples is the number of bootstrap replicates behind an Interval.
const Resamples = 2000

// maxBootstrap is the largest sample that is resampled; beyond it the mean is
// so nearly normal that the central limit theorem gives the same interval.
const maxBootstrap = 5000

// Below these sizes a mean is not to be trusted; the result says so.
const (
	enoughSamples = 100
	enoughColds   = 5
)

// Interval is a 95 % interval of a mean of billed milliseconds.
type Interval struct {
	// Low and High are the bounds in milliseconds.
	Low, High float64
	// Samples is the number of invocations, Colds how many of them were cold.
	Samples, Colds int
	// Method is bootstrap or normal.
	Method string
}

// Warning says that there are too few samples to trust the mean, and how many
// are needed; "" when there are enough.
func (v Interval) Warning() string {
	switch {
	case v.Samples == 0:
		return ""
	case v.Samples < enoughSamples:
		return fmt.Sprintf("too few samples: %d invocations, at least %d are needed; use the interval, not the mean", v.Samples, enoughSamples)
	case v.Colds < enoughColds:
		return fmt.Sprintf("too few samples: %d cold starts, at least %d are needed; their share of the cost is a guess", v.Colds, enoughColds)
	}
	return ""
}

// MeanInterval returns the 95 % percentile interval of the mean of warm and
// cold durations together by a stratified bootstrap: every replicate draws the
// cold share, then the warm and the cold mean each from their own stratum.
// Samples beyond 5,000 use the normal interval of the stratified mean instead.
// The slices must be sorted for the result to be reproducible.
func MeanInterval(warm, cold []float64, rng *rand.Rand) Interval {
	n := len(warm) + len(cold)
	v := Interval{Samples: n, Colds: len(cold)}
	if n == 0 {
		return v
	}
	share := float64(len(cold)) / float64(n)
	if n > maxBootstrap {
		return normalInterval(stratumOf(warm), stratumOf(cold))
	}
	v.Method = "bootstrap"
	means := make([]float64, Resamples)
	for i := range means {
		colds := 0
		for range n {
			if rng.Float64() < share {
				colds++
			}
		}
		f := float64(colds) / float64(n)
		means[i] = (1-f)*resample(warm, rng) + f*resample(cold, rng)
	}
	slices.Sort(means)
	v.Low, v.High = linear(means, 0.025), linear(means, 0.975)
	return v
}

// resample returns the mean of as many draws with replacement as there are values.
func resample(values []float64, rng *rand.Rand) float64 {
	if len(values) == 0 {
		return 0
	}
	sum := 0.0
	for range values {
		sum += values[rng.IntN(len(values))]
	}
	return sum / float64(len(values))
}

// stratum is what the normal interval needs to know of a set of durations.
type stratum struct {
	n              int
	mean, variance float64
}

// add takes count equal values, by Welford's method for weighted data.
func (s *stratum) add(value float64, count int) {
	before := s.n
	s.n += count
	delta := value - s.mean
	s.mean += delta * float64(count) / float64(s.n)
	// variance holds the sum of squares until it is asked for.
	s.variance += delta * delta * float64(before) * float64(count) / float64(s.n)
}

// ofMean returns the variance of the stratum's mean; 0 where it cannot be known.
func (s *stratum) ofMean() float64 {
	if s.n < 2 {
		return 0
	}
	return s.variance / float64(s.n-1) / float64(s.n)
}

func stratumOf(values []float64) stratum {
	var s stratum
	for _, v := range values {
		s.add(v, 1)
	}
	return s
}

// normalInterval is the interval of the stratified mean by the central limit theorem.
func normalInterval(warm, cold stratum) Interval {
	n := warm.n + cold.n
	f := float64(cold.n) / float64(n)
	between := cold.mean - warm.mean
	mean := (1-f)*warm.mean + f*cold.mean
	variance := f*(1-f)*between*between/float64(n) + (1-f)*(1-f)*warm.ofMean() + f*f*cold.ofMean()
	half := 1.959963984540054 * math.Sqrt(variance)
	return Interval{Low: max(0, mean-half), High: mean + half, Samples: n, Colds: cold.n, Method: "normal"}
}

// linear interpolates the q-quantile of sorted values at position q·(n−1).
func linear(sorted []float64, q float64) float64 {
	pos := q * float64(len(sorted)-1)
	low := int(pos)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (pos-float64(low))*(sorted[high]-sorted[low])
}

// Wilson returns the 95 % score interval of a share of k in n; 0 and 1 when n is 0.
func Wilson(k, n int64) (low, high float64) {
	if n <= 0 {
		return 0, 1
	}
	const z = 1.959963984540054
	p, m := float64(k)/float64(n), float64(n)
	centre := p + z*z/(2*m)
	half := z * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	scale := 1 + z*z/m
	return max(0, (centre-half)/scale), min(1, (centre+half)/scale)
}

// maxMean bounds the means for which quantiles are summed: a thousand times
// the largest quota anyone has.
const maxMean = 1e9

// PoissonQuantile returns the smallest k for which a Poisson count with the
// given mean is at most k with probability q, by exact summation. With Poisson
// arrivals the number of busy environments is such a count whatever the shape
// of the durations (M/G/∞). It is false for a mean that is negative or above
// 1e9, and for q outside (0, 1).
func PoissonQuantile(mean, q float64) (int, bool) {
	if !(mean >= 0) || mean > maxMean || !(q > 0) || !(q < 1) {
		return 0, false
	}
	// Below the start lies less than 1e-30 of the mass.
	k := int(max(0, mean-12*math.Sqrt(mean)-20))
	lg, _ := math.Lgamma(float64(k) + 1)
	p := math.Exp(float64(k)*math.Log(max(mean, math.SmallestNonzeroFloat64)) - mean - lg)
	if mean == 0 {
		return 0, true
	}
	sum := p
	limit := int(mean + 40*math.Sqrt(mean) + 200)
	for sum < q && k < limit {
		k++
		p *= mean / float64(k)
		sum += p
	}
	return k, true
}

// BurstQuantile returns the smallest k for which a count with the given mean
// and dispersion (variance over mean) is at most k with probability q. For a
// dispersion of 1 it is PoissonQuantile; above it the count is negative
// binomial, which is what requests that come in bursts give. A dispersion below
// 1 is taken as 1. It is false where PoissonQuantile is.
func BurstQuantile(mean, dispersion, q float64) (int, bool) {
	if !(dispersion > 1) || mean == 0 {
		return PoissonQuantile(mean, q)
	}
	if !(mean >= 0) || mean > maxMean || !(q > 0) || !(q < 1) || dispersion > 1e6 {
		return 0, false
	}
	r := mean / (dispersion - 1)
	fail := 1 - 1/dispersion
	sd := math.Sqrt(mean * dispersion)
	k := int(max(0, mean-12*sd-20))
	lk, _ := math.Lgamma(float64(k) + r)
	lr, _ := math.Lgamma(r)
	lf, _ := math.Lgamma(float64(k) + 1)
	p := math.Exp(lk - lr - lf - r*math.Log(dispersion) + float64(k)*math.Log(fail))
	sum := p
	limit := int(mean + 60*sd + 60*dispersion + 200)
	for sum < q && k < limit {
		p *= (float64(k) + r) / float64(k+1) * fail
		k++
		sum += p
	}
	return k, true
}

// ErlangB returns the share of requests that are throttled when limit
// environments may run and load are busy on average, for Poisson arrivals and
// any distribution of durations (Erlang's loss formula).
func ErlangB(limit int, load float64) float64 {
	if load <= 0 {
		return 0
	}
	blocked := 1.0
	for k := 1; k <= limit; k++ {
		blocked = load * blocked / (float64(k) + load*blocked)
	}
	return blocked
}

// ColdShare estimates the share of cold starts under steady Poisson traffic:
// perSecond requests that keep load environments busy, each environment kept
// for idle seconds after its last request, the most recently used one taken
// first. The k-th environment is used at the rate at which exactly k−1 are busy.
// How long AWS keeps idle environments is not published, so idle is an
// assumption (minutes to tens of minutes); the estimate tends to be low.
func ColdShare(perSecond, load, idle float64) float64 {
	if !(perSecond > 0) || !(load >= 0) || load > 1e6 || !(idle >= 0) {
		return 0
	}
	share := 0.0
	limit := int(load + 12*math.Sqrt(load) + 30)
	for k := range limit {
		lg, _ := math.Lgamma(float64(k) + 1)
		p := math.Exp(-load - lg)
		if load > 0 {
			p = math.Exp(float64(k)*math.Log(load) - load - lg)
		} else if k > 0 {
			p = 0
		}
		share += p * math.Exp(-perSecond*p*idle)
	}
	return min(1, share)
}
