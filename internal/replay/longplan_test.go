package replay

import (
	"testing"
	"time"
)

// countedPacer counts how often it is asked.
type countedPacer struct {
	Constant

	asked *int
}

func (p countedPacer) Due(n int) time.Duration {
	*p.asked++
	return p.Constant.Due(n)
}

// TestLongPlanOfASmallCorpus: how many passes a plan has does not make its first requests late: they are looked at before its
// start is fixed, for all who prepare bodies.
func TestLongPlanOfASmallCorpus(t *testing.T) {
	sender, err := NewRawSender(HTTPConfig{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	plan := mustPlan(t, PlanConfig{RatePerS: 200, Requests: 50_000, Objects: 1, Loop: true})
	asked := 0
	plan.Pacer = countedPacer{Constant{200}, &asked}
	e, err := newEngine(Config{Corpus: oneObject(t, 500), Sender: sender, Timestamps: Shift, Order: OrderNone, Timeout: time.Minute, Plan: plan})
	if err != nil {
		t.Fatal(err)
	}
	if asked < 50_000 {
		t.Errorf("%d of 50,000 passes looked at", asked)
	}
	asked = 0
	e.start = time.Now()
	for range 3 {
		e.preparer()
	}
	if asked > 0 {
		t.Errorf("%d looks at the plan after its start was fixed", asked)
	}
}
