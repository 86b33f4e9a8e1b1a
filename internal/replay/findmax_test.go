package replay

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// TestFindMax: for any knee the search ends within 5 % below it, in few steps.
func TestFindMax(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		start := 1 + rng.Float64()*1000
		knee := start / 500 * (1 + rng.Float64()*500*1000)
		steps, best, err := FindMax(t.Context(), start, 1e6, 0.05, func(_ context.Context, rate float64) (Trial, error) {
			return Trial{RatePerS: rate, Good: rate <= knee}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := min(knee, 1e6); best > want || best < want/1.06 {
			t.Fatalf("start %v, knee %v: found %v", start, knee, best)
		}
		if len(steps) > 30 {
			t.Fatalf("start %v, knee %v: %d steps", start, knee, len(steps))
		}
	}
	_, best, err := FindMax(t.Context(), 100, 1e6, 0.05, func(context.Context, float64) (Trial, error) { return Trial{}, nil })
	if best != 0 || err != nil {
		t.Errorf("nothing is good: %v %v", best, err)
	}
	broken := errors.New("broken")
	if steps, _, err := FindMax(t.Context(), 100, 1e6, 0.05, func(_ context.Context, r float64) (Trial, error) {
		if r > 300 {
			return Trial{}, broken
		}
		return Trial{Good: true}, nil
	}); !errors.Is(err, broken) || len(steps) != 2 {
		t.Errorf("%d steps, %v", len(steps), err)
	}
}

func TestJudgeTrial(t *testing.T) {
	base := func() *stats.Run {
		r := &stats.Run{Counts: stats.Counts{Planned: 600, Sent: 600, OK: 600}, Client: stats.Client{Verdict: "valid"}}
		for i := range int64(6) {
			r.Timeline = append(r.Timeline, stats.TimelinePoint{TS: i, Sent: 100, InFlight: 3})
		}
		return r
	}
	tests := []struct {
		name   string
		change func(*stats.Run)
		want   string
		client bool
	}{
		{"good", func(*stats.Run) {}, "", false},
		{"objective", func(r *stats.Run) { r.Objectives = []stats.Objective{{Objective: "p99<1ms", Measured: "2ms"}} }, "p99<1ms", false},
		{"held up", func(r *stats.Run) {
			r.Timeline[5].Sent = 90
			r.Timeline = append(r.Timeline, stats.TimelinePoint{TS: 6, Sent: 10})
		}, "590 of 600", false},
		{"piles up", func(r *stats.Run) { r.Timeline[4].InFlight, r.Timeline[5].InFlight = 40, 60 }, "in flight grew", false},
		{"no success", func(r *stats.Run) { r.Counts.OK = 0 }, "no request succeeded", false},
		{"dead, and said so", func(r *stats.Run) {
			r.Counts.OK, r.Counts.Failed, r.Errors = 0, 600, []stats.ErrorCount{{Class: "connection_refused", Count: 600}}
			r.Client = stats.Client{Verdict: "invalid", Reasons: []string{r.NoSuccess()}}
		}, "no request succeeded (connection_refused × 600)", false},
		{"generator", func(r *stats.Run) { r.Client = stats.Client{Verdict: "invalid", Reasons: []string{"CPU"}} }, "CPU", true},
	}
	for _, tt := range tests {
		r := base()
		tt.change(r)
		s := JudgeTrial(100, r)
		if s.Good != (tt.want == "") || !strings.Contains(strings.Join(s.Reasons, ";"), tt.want) || s.Client != tt.client {
			t.Errorf("%s: %+v", tt.name, s)
		}
	}
}
