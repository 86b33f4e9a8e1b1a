package main

import (
	"math"
	"slices"
	"testing"
	"time"
)

// TestAnyCycleHasTheDistribution: wherever a measurement begins, its percentiles are those of the script.
func TestAnyCycleHasTheDistribution(t *testing.T) {
	for _, scale := range []float64{1, 1.12, 2, 0.8} {
		s, err := newScript(6*time.Millisecond, 0.4, scale, 1000, 3, false)
		if err != nil {
			t.Fatal(err)
		}
		var all []time.Duration
		for range 2500 {
			all = append(all, s.delay())
		}
		for _, from := range []int{0, 100, 1234} {
			d := slices.Sorted(slices.Values(all[from : from+1000]))
			p99 := 6 * scale * math.Exp(0.4*2.326348)
			if got := d[989].Seconds() * 1e3; math.Abs(got/p99-1) > 0.01 {
				t.Errorf("×%v from %d: p99 is %.3f ms, want %.3f ms", scale, from, got, p99)
			}
			if got := (d[499] + d[500]).Seconds() * 1e3 / 2; math.Abs(got/(6*scale)-1) > 0.001 {
				t.Errorf("×%v from %d: the median is %.3f ms", scale, from, got)
			}
		}
	}
}

// TestRandomDelays: drawn independently, they have the same distribution and no cycle.
func TestRandomDelays(t *testing.T) {
	s, err := newScript(6*time.Millisecond, 0.4, 1, 10, 3, true)
	if err != nil {
		t.Fatal(err)
	}
	above := 0
	for range 20_000 {
		if s.delay() > s.quantile(0.9) {
			above++
		}
	}
	if above < 1800 || above > 2200 { // 2,000, give or take five standard deviations
		t.Errorf("%d of 20000 are beyond p90", above)
	}
}

func TestBadScripts(t *testing.T) {
	for _, c := range []struct {
		median       time.Duration
		sigma, scale float64
		cycle        int
	}{{0, 0.4, 1, 10}, {1, -1, 1, 10}, {1, 0.4, 0, 10}, {1, 0.4, 1, 0}, {1, math.NaN(), 1, 10}, {1, 0.4, math.NaN(), 10}} {
		if _, err := newScript(c.median, c.sigma, c.scale, c.cycle, 1, false); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}
