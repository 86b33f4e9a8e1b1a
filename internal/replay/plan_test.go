package replay

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNewPlan(t *testing.T) {
	tests := []struct {
		name             string
		in               PlanConfig
		loop             Loop
		warmup, requests int
		lastDue          time.Duration
	}{
		// happy
		{"nothing given: the corpus once", PlanConfig{Objects: 10, Loop: true}, Closed, 0, 10, 0},
		{"rate and duration", PlanConfig{Objects: 10, RatePerS: 100, Duration: 10 * time.Second, Loop: true}, Open, 0, 1000, 9990 * time.Millisecond},
		{"rate and requests", PlanConfig{Objects: 10, RatePerS: 4, Requests: 3, Loop: true}, Open, 0, 3, 500 * time.Millisecond},
		{"the shorter of duration and requests", PlanConfig{Objects: 10, RatePerS: 100, Duration: time.Second, Requests: 5000, Loop: true}, Open, 0, 100, 990 * time.Millisecond},
		{"less than one a second", PlanConfig{Objects: 3, RatePerS: 0.1, Duration: time.Second, Loop: true}, Open, 0, 1, 0},
		{"a fraction of a request counts", PlanConfig{Objects: 3, RatePerS: 3, Duration: 500 * time.Millisecond, Loop: true}, Open, 0, 2, 333333333},
		{"float noise does not add one", PlanConfig{Objects: 3, RatePerS: 0.1 * 3, Duration: 10 * time.Second, Loop: true}, Open, 0, 3, 6666666667},
		{"warm-up by time", PlanConfig{Objects: 10, RatePerS: 100, Duration: time.Second, WarmupDuration: time.Second / 2, Loop: true}, Open, 50, 100, 1490 * time.Millisecond},
		{"warm-up by requests", PlanConfig{Objects: 10, Concurrency: 4, Requests: 100, WarmupRequests: 7, Loop: true}, Closed, 7, 100, 0},
		{"no loop: the corpus is the end", PlanConfig{Objects: 10, RatePerS: 100, Duration: time.Second, WarmupRequests: 4}, Open, 4, 6, 90 * time.Millisecond},
		{"a ramp is as long as it takes", PlanConfig{Objects: 10, Ramp: Ramp{0, 100, 10 * time.Second}, Loop: true}, Open, 0, 500, 9989994995},
		{"steps are as long as they are", PlanConfig{Objects: 10, Steps: Steps{{10, time.Second}, {20, time.Second}}, Loop: true}, Open, 0, 30, 1950 * time.Millisecond},
		{"fan-out: the corpus once is more", PlanConfig{Objects: 10, FanOut: 3, RatePerS: 10}, Open, 0, 30, 2900 * time.Millisecond},
		{"closed loop by time has no end of requests", PlanConfig{Objects: 10, Concurrency: 2, Duration: time.Second, Loop: true}, Closed, 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := NewPlan(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if p.Loop != tt.loop || p.Warmup != tt.warmup || p.Requests != tt.requests {
				t.Errorf("got %s warmup %d requests %d, want %s %d %d", p.Loop, p.Warmup, p.Requests, tt.loop, tt.warmup, tt.requests)
			}
			if got := p.Due(max(p.Total()-1, 0)); got != tt.lastDue {
				t.Errorf("last request due at %v, want %v", got, tt.lastDue)
			}
		})
	}
}

func TestNewPlanRefuses(t *testing.T) {
	nan := 0.0
	nan /= nan
	tests := []struct {
		in   PlanConfig
		want []string
	}{
		{PlanConfig{RatePerS: -1}, []string{"rate must be a positive", "corpus has no objects"}},
		{PlanConfig{RatePerS: nan, Objects: 1}, []string{"rate must be a positive"}},
		{PlanConfig{RatePerS: 2e6, Objects: 1}, []string{"beyond"}},
		{PlanConfig{RatePerS: 1, Concurrency: 1, Objects: 1}, []string{"exclude each other"}},
		{PlanConfig{RatePerS: 1, Speed: 2, Objects: 1}, []string{"rate and original timing exclude"}},
		{PlanConfig{Ramp: Ramp{1, 2, 3}, Concurrency: 2, Objects: 1}, []string{"ramp (open loop) and concurrency"}},
		{PlanConfig{Poisson: true, Objects: 1}, []string{"poisson arrivals need a rate"}},
		{PlanConfig{Poisson: true, Speed: 1, Objects: 1}, []string{"poisson arrivals need a rate"}},
		{PlanConfig{Speed: nan, Objects: 1}, []string{"speed must be"}},
		{PlanConfig{Speed: 1, MaxGap: -1, Objects: 1}, []string{"longest gap"}},
		{PlanConfig{Speed: 1, Objects: 1}, []string{"needs the time of each"}},
		{PlanConfig{FanOut: -1, Objects: 1}, []string{"fan-out"}},
		{PlanConfig{RatePerS: 1e6, Duration: 1e6 * time.Second, Objects: 1}, []string{"a plan of more than"}},
		{PlanConfig{Duration: -1, Requests: -1, Concurrency: -1, Objects: 1}, []string{"duration", "requests", "concurrency"}},
		{PlanConfig{WarmupDuration: time.Second, Objects: 1}, []string{"closed loop has no planned rate"}},
		{PlanConfig{WarmupRequests: 10, Objects: 10}, []string{"uses up the corpus"}},
	}
	for _, tt := range tests {
		_, err := NewPlan(tt.in)
		if err == nil {
			t.Errorf("%+v: accepted", tt.in)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%+v: error %q does not say %q", tt.in, err, w)
			}
		}
	}
}

func TestPlanSHA256(t *testing.T) {
	sum := func(change func(*PlanConfig), keys ...string) string {
		c := PlanConfig{Objects: 2, RatePerS: 10, Duration: time.Second, Loop: true}
		change(&c)
		p, err := NewPlan(c)
		if err != nil {
			t.Fatal(err)
		}
		return p.SHA256(slices.Values(keys))
	}
	same := func(*PlanConfig) {}
	base := sum(same, "a", "b")
	if base != sum(same, "a", "b") {
		t.Error("equal plans have different hashes")
	}
	for name, other := range map[string]string{
		"another rate":     sum(func(c *PlanConfig) { c.RatePerS = 20 }, "a", "b"),
		"another length":   sum(func(c *PlanConfig) { c.Duration = 2 * time.Second }, "a", "b"),
		"another warm-up":  sum(func(c *PlanConfig) { c.WarmupRequests = 1 }, "a", "b"),
		"another order":    sum(same, "b", "a"),
		"other arrivals":   sum(func(c *PlanConfig) { c.Poisson = true; c.Duration = 0; c.Requests = 10 }, "a", "b"),
		"another fan-out":  sum(func(c *PlanConfig) { c.FanOut = 2 }, "a", "b"),
		"another seed":     sum(func(c *PlanConfig) { c.Seed = 2 }, "a", "b"),
		"order not kept":   sum(func(c *PlanConfig) { c.Terms.Order = OrderNone }, "a", "b"),
		"timestamps kept":  sum(func(c *PlanConfig) { c.Terms.Timestamps = Keep }, "a", "b"),
		"another timeout":  sum(func(c *PlanConfig) { c.Terms.Timeout = time.Second }, "a", "b"),
		"fewer in flight":  sum(func(c *PlanConfig) { c.Terms.MaxInFlight = 3 }, "a", "b"),
		"retries":          sum(func(c *PlanConfig) { c.Terms.Retry = "prometheus" }, "a", "b"),
		"another boundary": sum(same, "ab", ""),
	} {
		if other == base {
			t.Errorf("%s: the hash is the same", name)
		}
	}
}
