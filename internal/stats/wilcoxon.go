package stats

import (
	"math"
	"slices"
)

// SignedRank is the estimate of the Wilcoxon signed-rank procedure for the centre of paired differences.
// All of it is distribution-free: it needs no more than that the signs of the differences from their
// centre are symmetric.
type SignedRank struct {
	// Estimate is the Hodges–Lehmann estimate: the median of the Walsh averages (dᵢ+dⱼ)/2, i ≤ j.
	Estimate float64
	// Lower and Upper are one-sided confidence limits, each at the level asked for. They are infinite
	// when the differences are too few for a limit at that level to exist.
	Lower, Upper float64
}

// NewSignedRank returns the estimate from differences d, each limit with an error probability of at most
// alpha. The limits are order statistics of the Walsh averages; the null distribution behind them is
// exact, so no random numbers and no normal approximation are involved. It returns NaN and infinite limits
// without differences or when one is not finite.
func NewSignedRank(d []float64, alpha float64) SignedRank {
	s := SignedRank{math.NaN(), math.Inf(-1), math.Inf(1)}
	walsh := walshAverages(d)
	if len(walsh) == 0 {
		return s
	}
	s.Estimate = quantileSorted(walsh, 0.5)
	if c := signedRankCritical(len(d), alpha); c >= 0 {
		s.Lower, s.Upper = walsh[c], walsh[len(walsh)-1-c]
	}
	return s
}

// SignedRankPValue is the one-sided probability, were the centre of the differences at most shift, of
// differences that lie above shift as clearly as d does. It is below alpha exactly when the lower limit of
// [NewSignedRank] at alpha lies above shift. Differences equal to shift count against the claim. It
// returns 1 when there are no differences or one is not finite.
func SignedRankPValue(d []float64, shift float64) float64 {
	walsh := walshAverages(d)
	if len(walsh) == 0 {
		return 1
	}
	// The signed-rank statistic is the number of Walsh averages on the far side.
	atMost, _ := slices.BinarySearchFunc(walsh, shift, func(w, s float64) int {
		if w <= s {
			return -1
		}
		return 1
	})
	return signedRankCDF(len(d))[atMost]
}

// walshAverages returns the averages of all pairs of differences, each with itself too, in ascending
// order; nil when one is not finite.
func walshAverages(d []float64) []float64 {
	walsh := make([]float64, 0, len(d)*(len(d)+1)/2)
	for i, a := range d {
		if math.IsNaN(a) || math.IsInf(a, 0) {
			return nil
		}
		for _, b := range d[:i+1] {
			walsh = append(walsh, a/2+b/2) // halved first: the sum could leave the range
		}
	}
	slices.Sort(walsh)
	return walsh
}

// signedRankCDF returns P(W ≤ w) for w = 0 … n(n+1)/2, where W is the sum of those of the ranks 1 … n
// that a fair coin picks. Probabilities of up to 53 differences are exact, being sums of powers of two.
func signedRankCDF(n int) []float64 {
	p := make([]float64, n*(n+1)/2+1)
	p[0] = 1
	top := 0
	for rank := 1; rank <= n; rank++ {
		top += rank
		for w := top; w >= 0; w-- {
			p[w] /= 2
			if w >= rank {
				p[w] += p[w-rank] / 2
			}
		}
	}
	for w := 1; w < len(p); w++ {
		p[w] = min(p[w-1]+p[w], 1)
	}
	return p
}

// signedRankCritical returns the largest w with P(W ≤ w) ≤ alpha, or -1 when there is none.
func signedRankCritical(n int, alpha float64) int {
	c := -1
	for w, p := range signedRankCDF(n) {
		if p > alpha {
			break
		}
		c = w
	}
	return c
}
