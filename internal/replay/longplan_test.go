package replay

import (
	"context"
	"testing"
	"time"
)

// slowly is a pacer that takes a while for each due time, as one of random arrivals does.
type slowly struct{ Constant }

func (s slowly) Due(n int) time.Duration {
	for began := time.Now(); time.Since(began) < 20*time.Microsecond; {
	}
	return s.Constant.Due(n)
}

// TestLongPlanOfASmallCorpus: how many passes a plan has does not make its first requests late.
func TestLongPlanOfASmallCorpus(t *testing.T) {
	for name, workers := range bothWays() {
		t.Run(name, func(t *testing.T) {
			sender, err := NewRawSender(HTTPConfig{URL: serveFunc(t, noContent)})
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			plan := mustPlan(t, PlanConfig{RatePerS: 200, Requests: 50_000, Objects: 1, Loop: true})
			plan.Pacer = slowly{Constant{200}}
			run, err := execute(ctx, t, Config{
				Corpus: oneObject(t, 500), Sender: sender, Timestamps: Shift, Order: OrderNone, Timeout: time.Minute, MaxInFlight: 64,
				Plan: plan, Interval: 10 * time.Millisecond,
				Progress: func(p Progress) {
					if p.Sent >= 200 {
						cancel()
					}
				},
			}, workers)
			if err != nil {
				t.Fatal(err)
			}
			if late := run.ScheduleError.MaxMS; late > 500 {
				t.Errorf("%d requests, the first sent %.0f ms late", run.Counts.Sent, late)
			}
		})
	}
}
