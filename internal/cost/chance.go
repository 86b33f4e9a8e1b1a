package cost

import "math"

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
