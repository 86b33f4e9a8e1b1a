package cost

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The counts of a binomial number are those of its distribution, by a χ² test, for both ways to draw it.
func TestCoin(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for _, tt := range []struct {
		n int64
		p float64
	}{{5, 0.3}, {15, 1.0 / 15}, {40, 0.2}, {40, 0.8}, {100, 0.5}, {1000, 0.011}, {100_000, 0.0005}, {100_000, 0.37}} {
		const draws = 40_000
		c := newCoin(tt.p)
		seen := make(map[int64]int)
		sum := 0.0
		for range draws {
			k := c.heads(rng, tt.n)
			if k < 0 || k > tt.n {
				t.Fatalf("%d of %d", k, tt.n)
			}
			seen[k]++
			sum += float64(k)
		}
		mean, sd := float64(tt.n)*tt.p, math.Sqrt(float64(tt.n)*tt.p*(1-tt.p))
		if off := math.Abs(sum/draws - mean); off > 4.5*sd/math.Sqrt(draws) {
			t.Errorf("n %d, p %g: mean %g, want %g", tt.n, tt.p, sum/draws, mean)
		}
		lg := func(x float64) float64 { v, _ := math.Lgamma(x + 1); return v }
		chi, cells := 0.0, 0
		for k := max(0, int64(mean-4*sd)); k <= min(tt.n, int64(mean+4*sd)+1); k++ {
			x, n := float64(k), float64(tt.n)
			want := draws * math.Exp(lg(n)-lg(x)-lg(n-x)+x*math.Log(tt.p)+(n-x)*math.Log1p(-tt.p))
			if want < 8 {
				continue
			}
			d := float64(seen[k]) - want
			chi += d * d / want
			cells++
		}
		// χ² of cells degrees of freedom has the standard deviation √(2·cells).
		if limit := float64(cells) + 5*math.Sqrt(2*float64(cells)); chi > limit {
			t.Errorf("n %d, p %g: χ² is %.1f over %d counts, want at most %.1f", tt.n, tt.p, chi, cells, limit)
		}
	}
	for _, p := range []float64{0, 1} {
		c := newCoin(p)
		if got := c.heads(rng, 1000); got != int64(1000*p) {
			t.Errorf("p %g: %d of 1000", p, got)
		}
	}
}

// Values taken together keep the sum, and all but a trace of the variance.
func TestTogether(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	var list []counted
	v := 0.0
	for range 20_000 {
		v += 0.01 * rng.Float64()
		list = append(list, counted{v, 1 + rng.Int64N(3)})
	}
	sums := func(list []counted) (n, sum, squares float64) {
		for _, c := range list {
			n += float64(c.n)
			sum += float64(c.n) * c.value
		}
		for _, c := range list {
			squares += float64(c.n) * (c.value - sum/n) * (c.value - sum/n)
		}
		return n, sum, squares
	}
	n, sum, squares := sums(list)
	near := together(list, math.Sqrt(squares/n)/fineness)
	n2, sum2, squares2 := sums(near)
	if len(near) > 200 || n2 != n || math.Abs(sum2/sum-1) > 1e-12 || math.Abs(math.Sqrt(squares2/squares)-1) > 1.0/2000 {
		t.Errorf("%d values, n %g of %g, sum %g of %g, variance off by %g", len(near), n2, n, sum2, sum, squares2/squares-1)
	}
}
