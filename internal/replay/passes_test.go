package replay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/workload"
)

// clocks checks that no series goes back in time, as a Prometheus receiver does.
type clocks struct {
	mu     sync.Mutex
	last   map[string]int64
	back   int
	newest int64
	oldest int64
	first  string
}

// take checks a request and returns the newest timestamp so far.
func (c *clocks) take(t *testing.T, r *Outgoing) int64 {
	t.Helper()
	raw, err := remotewrite.Decode(nil, r.Body, 1<<26)
	if err != nil {
		t.Error(err)
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	note := func(kind string, l labels.Labels, at int64) {
		id := kind + r.Org + "/" + r.Cluster + l.String()
		// A series of the captures may repeat a sample of its own; a pass must not.
		if was, ok := c.last[id]; ok && at < was {
			c.back++
			c.first = fmt.Sprintf("%s: %d after %d", id, at, was)
		}
		c.last[id] = at
		c.newest = max(c.newest, at)
		if c.oldest == 0 || at < c.oldest {
			c.oldest = at
		}
	}
	var b labels.ScratchBuilder
	if r.Version == remotewrite.V1 {
		var w prompb.WriteRequest
		if err := w.Unmarshal(raw); err != nil {
			t.Error(err)
		}
		for _, ts := range w.Timeseries {
			l := ts.ToLabels(&b, nil)
			for _, s := range ts.Samples {
				note("s", l, s.Timestamp)
			}
			for _, h := range ts.Histograms {
				note("s", l, h.Timestamp)
			}
			for _, e := range ts.Exemplars {
				note("e", l, e.Timestamp)
			}
		}
		return c.newest
	}
	var w writev2.Request
	if err := w.Unmarshal(raw); err != nil {
		t.Error(err)
	}
	for _, ts := range w.Timeseries {
		l, err := ts.ToLabels(&b, w.Symbols)
		if err != nil {
			t.Error(err)
		}
		for _, s := range ts.Samples {
			note("s", l, s.Timestamp)
			if s.StartTimestamp > s.Timestamp {
				t.Errorf("a start timestamp %d after its sample of %d", s.StartTimestamp, s.Timestamp)
			}
		}
		for _, h := range ts.Histograms {
			note("s", l, h.Timestamp)
		}
		for _, e := range ts.Exemplars {
			note("e", l, e.Timestamp)
		}
	}
	return c.newest
}

// synthetic makes a corpus of several scrapes of the same series, in both protocols.
func synthetic(t *testing.T, scrapes int) *capture.Corpus {
	t.Helper()
	s := store.NewMemory()
	for v := remotewrite.V1; v <= remotewrite.V2; v++ {
		c := workload.SynthConfig{
			Orgs: 1, Clusters: 3, Series: 20, Batch: 7, Scrapes: scrapes, Interval: 15 * time.Second, Histogram: 0.2, Version: v, Seed: uint64(v),
			Start: time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC).Add(time.Duration(v) * time.Hour),
		}
		err := workload.Synth(t.Context(), c, func(ctx context.Context, r workload.Request) error {
			r.Key.Org = fmt.Sprintf("org-%d", v)
			_, err := s.Put(ctx, r.Key.String(), r.Body)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	c, err := capture.Load(t.Context(), s, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// However fast the corpus goes round, no series goes back in time, nothing lies in the future, and the last pass is of now.
func TestPassesFollowEachOther(t *testing.T) {
	for _, tc := range []struct {
		name   string
		plan   PlanConfig
		took   time.Duration // of a request
		recent bool
	}{
		{"open, fast", PlanConfig{RatePerS: 1000, Requests: 2000}, time.Millisecond, true},
		{"open, slow", PlanConfig{RatePerS: 1, Requests: 500}, time.Millisecond, true},
		{"open, a ramp", PlanConfig{Ramp: Ramp{From: 1, To: 2000, Over: 4 * time.Second}, Requests: 1500}, time.Millisecond, true},
		{"open, poisson with a warm-up", PlanConfig{RatePerS: 300, Poisson: true, Requests: 900, WarmupRequests: 100, Seed: 7}, time.Millisecond, true},
		{"original", PlanConfig{Speed: 1000, Requests: 600}, time.Millisecond, true},
		{"fan-out", PlanConfig{RatePerS: 1000, Requests: 2000, FanOut: 3}, time.Millisecond, true},
		{"closed", PlanConfig{Concurrency: 4, Requests: 1000}, time.Millisecond, true},
		{"closed by time", PlanConfig{Concurrency: 2, Duration: 2 * time.Second}, time.Millisecond, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			corpus := synthetic(t, 4)
			tc.plan.Loop, tc.plan.Objects = true, len(corpus.Entries())
			if tc.plan.Speed > 0 {
				for _, e := range corpus.Entries() {
					tc.plan.Times = append(tc.plan.Times, e.Key.Time)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				c := &clocks{last: map[string]int64{}}
				run := inBubble(t.Context(), t, Config{
					Corpus: corpus, Timestamps: Shift, Order: OrderSource, MaxInFlight: 16, Timeout: time.Minute, Plan: mustPlan(t, tc.plan),
					Sender: senderFunc(func(_ context.Context, r *Outgoing) Response {
						if newest := c.take(t, r); newest > time.Now().UnixMilli() {
							t.Errorf("a sample of %v at %v", time.UnixMilli(newest), time.Now())
						}
						time.Sleep(tc.took)
						return confirmed(r)
					}),
				})
				if c.back > 0 || run.Counts.OK != run.Counts.Planned {
					t.Errorf("%d samples go back in time, such as %s; %+v", c.back, c.first, run.Counts)
				}
				// The last pass may be cut, and then the newest sample is of the one before.
				limit := float64(longestSpan(corpus)) + run.Achieved.DurationMS + 1000
				if age := time.Now().UnixMilli() - c.newest; tc.recent && float64(age) > limit {
					t.Errorf("the newest sample is %d ms old, limit %.0f", age, limit)
				}
			})
		})
	}
}

// The limits: against the definition, for random due times.
func TestPassesLimits(t *testing.T) {
	corpus := synthetic(t, 3)
	n := len(corpus.Entries())
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var plan *Plan
		if rng.IntN(2) == 0 {
			plan = mustPlan(t, PlanConfig{RatePerS: 0.01 + 100*rng.Float64(), Requests: 1 + rng.IntN(20*n), Loop: true, Objects: n})
		} else {
			plan = mustPlan(t, PlanConfig{Ramp: Ramp{From: 10 * rng.Float64(), To: 1 + 10*rng.Float64(), Over: time.Minute}, Requests: 1 + rng.IntN(20*n), Loop: true, Objects: n})
		}
		start := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
		p := newPasses(corpus, plan).from(start)
		last := int64(0)
		for k := 0; k*n < plan.Total(); k++ {
			due := start.Add(plan.Due(k * n)).UnixMilli()
			d := p.of(k, due)
			if again := p.of(k, due+5); again != d {
				t.Fatalf("pass %d: %d, and then %d", k, d, again)
			}
			if k > 0 && d-last < p.step {
				t.Fatalf("pass %d overlaps the one before: %d after %d, step %d", k, d, last, p.step)
			}
			if d+p.newestMS > due {
				t.Fatalf("pass %d lies in the future", k)
			}
			last = d
		}
		if last+p.newestMS != start.Add(plan.Due(((plan.Total()-1)/n)*n)).UnixMilli() {
			t.Fatalf("the last pass is not of its due time")
		}
	}
}

func TestBacklog(t *testing.T) {
	corpus := synthetic(t, 4)
	n := len(corpus.Entries())
	step := time.Duration(longestSpan(corpus)+1) * time.Millisecond
	if step < 45*time.Second || step > time.Minute {
		t.Fatalf("a source spans %v", step)
	}
	for _, tc := range []struct {
		name string
		plan PlanConfig
		want time.Duration
	}{
		{"one pass", PlanConfig{RatePerS: 1000}, 0},
		{"as slow as it was captured", PlanConfig{RatePerS: float64(n) / 60, Requests: 10 * n}, 0},
		{"fast", PlanConfig{RatePerS: float64(n), Requests: 10 * n}, 9 * (step - time.Second)},
		{"closed", PlanConfig{Concurrency: 1, Requests: 10 * n}, 9 * step},
	} {
		tc.plan.Objects, tc.plan.Loop = n, true
		if got := Backlog(corpus, mustPlan(t, tc.plan)); (got - tc.want).Abs() > 20*time.Millisecond {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}
