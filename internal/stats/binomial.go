package stats

import (
	"math"
	"time"
)

// binomialTailBelow returns the largest k with P(Bin(n, p) ≤ k) ≤ alpha, or -1 when there is none.
// The terms are added from far below the mean, where nothing that counts has been left out (the mass more
// than 12 standard deviations and 60 below it is less than 1e-25).
func binomialTailBelow(n int64, p, alpha float64) int64 {
	mean, sd := float64(n)*p, math.Sqrt(float64(n)*p*(1-p))
	k := int64(max(math.Floor(mean-12*sd-60), 0))
	logTerm := logBinomial(n, k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p)
	term, odds := math.Exp(logTerm), p/(1-p)
	sum := term
	if sum > alpha {
		return k - 1 // only from k = 0: further up the first term is negligible
	}
	for k < n {
		if term < math.SmallestNonzeroFloat64*1e10 {
			// The recurrence would multiply zero for ever; take the next term by itself.
			logTerm = logBinomial(n, k+1) + float64(k+1)*math.Log(p) + float64(n-k-1)*math.Log1p(-p)
			term = math.Exp(logTerm)
		} else {
			term *= float64(n-k) / float64(k+1) * odds
		}
		if sum += term; sum > alpha {
			return k
		}
		k++
	}
	return n
}

// logBinomial returns the logarithm of n over k.
func logBinomial(n, k int64) float64 {
	lg := func(x int64) float64 {
		v, _ := math.Lgamma(float64(x) + 1)
		return v
	}
	return lg(n) - lg(k) - lg(n-k)
}

// quantileRanks returns the one-based ranks of the order statistics that bound the q-th quantile of n
// independent values, each with an error probability of at most alpha: below the lower one the quantile
// does not lie, above the upper one neither. lower 0 and upper n+1 mean that n values do not bound it.
func quantileRanks(n int64, q, alpha float64) (lower, upper int64) {
	// P(X₍ᵣ₎ > Q) = P(Bin(n, q) ≤ r-1), the chance that fewer than r values are at most Q.
	lower = binomialTailBelow(n, q, alpha) + 1
	// P(X₍ᵣ₎ < Q) = P(Bin(n, q) ≥ r) = P(Bin(n, 1-q) ≤ n-r).
	upper = n - binomialTailBelow(n, 1-q, alpha)
	return lower, upper
}

// QuantileLimits bounds the q-th quantile, q in (0,1), of what the recorded latencies are a sample of, in
// milliseconds: each limit is wrong with a probability of at most alpha. They are order statistics whose
// ranks come from the binomial distribution, so they hold for any distribution of independent latencies;
// each is read at the outer edge of its bucket. lower is 0 and upper infinite where there are too few
// latencies for a limit.
func (h *Histogram) QuantileLimits(q, alpha float64) (lowerMS, upperMS float64) {
	upperMS = math.Inf(1)
	if h.count == 0 || !(q > 0 && q < 1) || !(alpha > 0 && alpha < 1) {
		return 0, upperMS
	}
	lower, upper := quantileRanks(h.count, q, alpha)
	ranks := make([]int64, 0, 2)
	if lower >= 1 {
		ranks = append(ranks, lower-1)
	}
	if upper <= h.count {
		ranks = append(ranks, upper-1)
	}
	if len(ranks) == 0 {
		return 0, upperMS
	}
	values := h.orderStatisticsNS(ranks)
	half := func(ns float64) float64 { return float64(bucketWidthNS(int64(ns))) / 2 }
	within := func(ns float64) float64 {
		return toMS(time.Duration(min(max(ns, float64(h.minNS)), float64(h.maxNS))))
	}
	if lower >= 1 {
		lowerMS = within(values[0] - half(values[0]))
	}
	if upper <= h.count {
		last := values[len(values)-1]
		upperMS = within(last + half(last))
	}
	return lowerMS, upperMS
}

// ProportionLimits bounds the probability behind k events in n independent trials (Clopper and Pearson),
// each limit with an error probability of at most alpha. Without trials it is 0 to 1.
func ProportionLimits(k, n int64, alpha float64) (lower, upper float64) {
	if n <= 0 || k < 0 || k > n || !(alpha > 0 && alpha < 1) {
		return 0, 1
	}
	upper = 1
	if k < n {
		// The largest p at which so few events still have the probability alpha.
		upper = bisect(func(p float64) bool { return binomialCDF(k, n, p) > alpha })
	}
	if k > 0 {
		// The smallest p at which so many have it: the same seen from the other side.
		lower = 1 - bisect(func(p float64) bool { return binomialCDF(n-k, n, p) > alpha })
	}
	return lower, upper
}

// bisect returns the p in [0,1] up to which holds is true.
func bisect(holds func(p float64) bool) float64 {
	lo, hi := 0.0, 1.0
	for range 60 {
		if mid := lo + (hi-lo)/2; holds(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// binomialCDF returns P(Bin(n, p) ≤ k), adding terms downwards from k until they no longer count.
func binomialCDF(k, n int64, p float64) float64 {
	switch {
	case k >= n || p <= 0:
		return 1
	case p >= 1:
		return 0
	}
	if float64(k) > float64(n)*p { // the shorter tail is above
		return 1 - binomialCDF(n-k-1, n, 1-p)
	}
	term := math.Exp(logBinomial(n, k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	sum := term
	for odds := (1 - p) / p; k > 0 && term > sum*1e-17; k-- {
		term *= float64(k) / float64(n-k+1) * odds
		sum += term
	}
	return min(sum, 1)
}

// FisherExact is the two-sided p-value of Fisher's exact test: the probability, were a1 events of n1 trials
// and a2 of n2 due to one common rate, of a split at most as likely as this one. It returns 1 when there is
// nothing to compare.
func FisherExact(a1, n1, a2, n2 int64) float64 {
	if a1 < 0 || a2 < 0 || a1 > n1 || a2 > n2 || n1 == 0 || n2 == 0 || a1+a2 == 0 || a1+a2 == n1+n2 {
		return 1
	}
	events, total := a1+a2, n1+n2
	logP := func(k int64) float64 {
		return logBinomial(n1, k) + logBinomial(n2, events-k) - logBinomial(total, events)
	}
	lo, hi := max(0, events-n2), min(events, n1)
	// Splits as likely as this one count; rounding must not leave them out.
	limit := logP(a1) + 1e-7
	mode := min(max(int64(float64(events+1)*float64(n1+1)/float64(total+2)), lo), hi)
	var p float64
	walk := func(k, step int64) {
		for ; k >= lo && k <= hi; k += step {
			l := logP(k)
			if l <= limit {
				p += math.Exp(l)
			}
			if l < -50 { // so far out that the rest of the tail is below 1e-20
				return
			}
		}
	}
	walk(mode, -1)
	walk(mode+1, 1)
	return min(p, 1)
}
