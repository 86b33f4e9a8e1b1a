package replay

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/quick"
	"time"
)

// TestConstantNeverGoesBack: due times never decrease, and the n-th lies at n/rate to the nanosecond
// however long the run.
func TestConstantNeverGoesBack(t *testing.T) {
	f := func(rate uint32, n uint32) bool {
		c := Constant{RatePerS: float64(rate%1_000_000 + 1)}
		a, b := c.Due(int(n)), c.Due(int(n)+1)
		want := float64(n) / c.RatePerS * 1e9
		return a <= b && float64(a)-want < 2 && want-float64(a) < 2
	}
	if err := quick.Check(f, &quick.Config{MaxCount: 100_000}); err != nil {
		t.Error(err)
	}
}

// profiles are random rates over time.
func profiles(rng *rand.Rand) []profile {
	rate := func() float64 { return math.Exp(rng.Float64()*14 - 2) } // 0.14 to 160,000
	span := func() time.Duration { return time.Duration(1 + rng.Int64N(int64(time.Hour))) }
	return []profile{
		Constant{rate()},
		Ramp{rate(), rate(), span()},
		Ramp{0, rate(), span()},
		Ramp{5, 5, span()},
		Steps{{rate(), span()}},
		Steps{{rate(), span()}, {rate(), span()}, {rate(), span()}},
	}
}

// TestProfiles: due times never decrease, and the integral of the rate up to the n-th due time is n.
func TestProfiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		for _, p := range profiles(rng) {
			n := rng.IntN(1 << uint(rng.IntN(24)))
			a, b := p.Due(n), p.Due(n+1)
			if a < 0 || a > b {
				t.Fatalf("%v: %d due %v, then %v", p, n, a, b)
			}
			// A nanosecond of rounding is worth so many requests.
			tolerance := 1e-6*float64(n) + 1e-9*2e5 + 1e-3
			if got := p.count(a); math.Abs(got-float64(n)) > tolerance {
				t.Fatalf("%v: entry %d is due at %v, when %v are expected", p, n, a, got)
			}
		}
	}
}

func TestRampByHand(t *testing.T) {
	r := Ramp{From: 0, To: 100, Over: 10 * time.Second} // 5·t² requests until t, 500 in all
	for n, want := range map[int]time.Duration{0: 0, 5: time.Second, 125: 5 * time.Second, 500: 10 * time.Second, 600: 11 * time.Second} {
		if got := r.Due(n); (got - want).Abs() > time.Microsecond {
			t.Errorf("entry %d due %v, want %v", n, got, want)
		}
	}
	s := Steps{{10, 2 * time.Second}, {100, time.Second}}
	for n, want := range map[int]time.Duration{0: 0, 10: time.Second, 20: 2 * time.Second, 70: 2500 * time.Millisecond, 220: 4 * time.Second} {
		if got := s.Due(n); got != want {
			t.Errorf("steps: entry %d due %v, want %v", n, got, want)
		}
	}
}

// TestPoisson: gaps are exponential with the mean that was asked for, any entry can be computed on its own,
// and the seed decides.
func TestPoisson(t *testing.T) {
	const n, rate = 200_000, 1000.0
	p := newPoisson(Constant{rate}, 7, n, 0)
	var sum, squares float64
	longer := 0
	prev := time.Duration(0)
	for i := range n {
		at := p.Due(i)
		if at < prev {
			t.Fatalf("entry %d goes back", i)
		}
		gap := (at - prev).Seconds() * rate
		sum += gap
		squares += gap * gap
		if gap > 1 {
			longer++
		}
		prev = at
	}
	mean := sum / n
	// Five standard errors: an exponential has deviation 1, and of its square 2√5.
	near(t, "mean gap", mean, 1, 5/math.Sqrt(n))
	near(t, "mean square", squares/n, 2, 5*2*math.Sqrt(5)/math.Sqrt(n))
	near(t, "share of gaps above the mean", float64(longer)/n, math.Exp(-1), 5*0.5/math.Sqrt(n))
	if newPoisson(Constant{rate}, 7, 10, time.Minute).Due(777) != p.Due(777) {
		t.Error("the same entry of a shorter plan is due at another time")
	}
	if newPoisson(Constant{rate}, 8, n, 0).Due(777) == p.Due(777) {
		t.Error("another seed makes the same arrivals")
	}
	// Arrivals follow a ramp: half of the time has a quarter of them.
	ramp := newPoisson(Ramp{0, 2 * rate, 100 * time.Second}, 1, n, 0)
	near(t, "arrivals of the first half", float64(countBefore(ramp, 50*time.Second, n)), 25_000, 5*math.Sqrt(25_000))
}

func TestPoissonPlanLastsAsLongAsAsked(t *testing.T) {
	p := mustPlan(t, PlanConfig{RatePerS: 1000, Poisson: true, Duration: 10 * time.Second, WarmupDuration: time.Second, WarmupRequests: 5, Loop: true, Objects: 3, Seed: 3})
	begin, end := p.Due(p.Warmup), p.Due(p.Total()-1)
	if p.Due(p.Total()) < begin+10*time.Second || end >= begin+10*time.Second {
		t.Errorf("the measured part goes from %v to %v", begin, end)
	}
	if p.Requests < 9500 || p.Requests > 10_500 || p.Warmup < 850 || p.Warmup > 1150 || p.RatePerS != 1000 {
		t.Errorf("%d requests after %d, rate %v", p.Requests, p.Warmup, p.RatePerS)
	}
}

// TestOriginal: gaps are the captured ones divided by the speed, a long one is cut, and passes follow on.
func TestOriginal(t *testing.T) {
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var times []time.Time
	for _, s := range []float64{0, 1, 1, 3.5, 1000} {
		times = append(times, base.Add(time.Duration(s*float64(time.Second))))
	}
	due := func(c PlanConfig) (ms []int64) {
		c.Objects, c.Times, c.Loop = len(times), times, true
		if c.Requests == 0 {
			c.Requests = 7
		}
		p := mustPlan(t, c)
		for n := range p.Total() {
			ms = append(ms, p.Due(n).Milliseconds())
		}
		return ms
	}
	for _, tt := range []struct {
		c    PlanConfig
		want []int64
	}{
		{PlanConfig{Speed: 1}, []int64{0, 1000, 1000, 3500, 1_000_000, 1_250_000, 1_251_000}},
		{PlanConfig{Speed: 4}, []int64{0, 250, 250, 875, 250_000, 312_500, 312_750}},
		{PlanConfig{Speed: 1, MaxGap: 2 * time.Second}, []int64{0, 1000, 1000, 3000, 5000, 6250, 7250}},
		{PlanConfig{Speed: 0.5, MaxGap: 2 * time.Second, Requests: 2}, []int64{0, 2000}},
		{PlanConfig{Speed: 1, FanOut: 2, Requests: 4}, []int64{0, 500, 1000, 1000}},
	} {
		if got := due(tt.c); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: due %v, want %v", tt.c, got, tt.want)
		}
	}
	one := newOriginal(times[:1], 2, 0, 1)
	if one.Due(1) != 500*time.Millisecond {
		t.Errorf("one object again after %v", one.Due(1))
	}
}

func TestParseRampAndSteps(t *testing.T) {
	if r, err := ParseRamp("0:500:30s"); err != nil || r != (Ramp{0, 500, 30 * time.Second}) {
		t.Errorf("%v %v", r, err)
	}
	if s, err := ParseSteps("1.5:1s,20:2m"); err != nil || !slices.Equal(s, Steps{{1.5, time.Second}, {20, 2 * time.Minute}}) {
		t.Errorf("%v %v", s, err)
	}
	for _, bad := range []string{"", "1:2", "1:2:3", "a:2:1s", "1:0:1s", "1:-2:1s", "-1:2:1s", "NaN:1:1s", "1:NaN:1s", "1:2:-1s", "1:1e9:1s", "1:2:3s:4"} {
		if r, err := ParseRamp(bad); err == nil {
			t.Errorf("ramp %q accepted: %v", bad, r)
		}
	}
	for _, bad := range []string{"", "1", "1:1s,", "0:1s", "1:0s", "1:x", "NaN:1s", "1e9:1s", "1:9999999h"} {
		if s, err := ParseSteps(bad); err == nil {
			t.Errorf("steps %q accepted: %v", bad, s)
		}
	}
}

// TestShardsMakeThePlan: whatever the plan and the number of shards, every entry is owned by exactly one of
// them, what each counts as its own adds up, and by source no source is on two shards.
func TestShardsMakeThePlan(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		objects, fan, total := 1+rng.IntN(20), 1+rng.IntN(3), 1+rng.IntN(7)
		sources := randomSources(rng, objects, fan)
		for _, by := range []ShardBy{BySource, ByRequest} {
			c := PlanConfig{RatePerS: 10, Requests: 1 + rng.IntN(200), WarmupRequests: rng.IntN(20), Objects: objects, FanOut: fan, Loop: true, Sources: sources}
			whole := mustPlan(t, c)
			owners := make([]int, whole.Total())
			bySource := map[string]int{}
			warmup, measured := 0, 0
			for i := range total {
				c.Shard = Shard{i, total, by}
				p := mustPlan(t, c)
				w, m := p.Own()
				warmup, measured = warmup+w, measured+m
				for n := range p.Total() {
					if p.Due(n) != whole.Due(n) {
						t.Fatalf("entry %d is due at another time in a shard", n)
					}
					if !p.Owns(n) {
						continue
					}
					owners[n]++
					object, replica, _ := p.Object(n)
					s := sources.NameAt(object, replica)
					if other, ok := bySource[s]; ok && by == BySource && other != i {
						t.Fatalf("source %s is on shards %d and %d", s, other, i)
					}
					bySource[s] = i
				}
				if p.SHA256(slices.Values([]string{"k"})) != whole.SHA256(slices.Values([]string{"k"})) {
					t.Fatal("a shard has another plan hash")
				}
			}
			for n, k := range owners {
				if k != 1 {
					t.Fatalf("%d shards by %s: entry %d has %d owners", total, by, n, k)
				}
			}
			if warmup != whole.Warmup || measured != whole.Requests {
				t.Fatalf("shards own %d+%d entries of %d+%d", warmup, measured, whole.Warmup, whole.Requests)
			}
		}
	}
}

func TestParseShard(t *testing.T) {
	if s, err := ParseShard("2/4", BySource); err != nil || s != (Shard{2, 4, BySource}) {
		t.Errorf("%v %v", s, err)
	}
	for _, bad := range []string{"", "1", "4/4", "-1/4", "a/4", "0/0", "0/4/2", "0/1000000"} {
		if _, err := ParseShard(bad, BySource); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	if _, err := ParseShard("0/2", "color"); err == nil {
		t.Error("by color accepted")
	}
}

// randomSources gives each of the objects one of six clusters.
func randomSources(rng *rand.Rand, objects, fan int) *SourceTable {
	t := &SourceTable{fanOut: fan}
	for c := range 6 * fan {
		s := Source{Org: "o", Cluster: fmt.Sprint(c/fan, ".", c%fan), number: c}
		t.sources, t.names = append(t.sources, s), append(t.names, s.Name())
	}
	for range objects {
		t.base = append(t.base, int32(fan*rng.IntN(6)))
	}
	return t
}
