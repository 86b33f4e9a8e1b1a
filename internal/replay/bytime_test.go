package replay

import (
	"net/http"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// TestClosedLoopByTimeAndCount: whichever comes first ends a closed loop, and that it was the time misses no request that was planned.
func TestClosedLoopByTimeAndCount(t *testing.T) {
	url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Millisecond)
		noContent(w, r)
	})
	for name, workers := range bothWays() {
		for _, tt := range []struct {
			name  string
			c     PlanConfig
			whole bool // all of the requests are sent
		}{
			{"time", PlanConfig{Requests: 1 << 20, Loop: true}, false},
			{"time, the corpus once", PlanConfig{FanOut: 10_000}, false},
			{"count", PlanConfig{Requests: 5, Loop: true}, true},
		} {
			t.Run(name+", "+tt.name, func(t *testing.T) {
				sender, err := NewRawSender(HTTPConfig{URL: url})
				if err != nil {
					t.Fatal(err)
				}
				defer sender.Close()
				tt.c.Concurrency, tt.c.Objects, tt.c.Duration = 2, 1, 300*time.Millisecond
				run, err := execute(t.Context(), t, Config{
					Corpus: oneObject(t, 500), Sender: sender, Timestamps: Keep, Order: OrderNone, Timeout: time.Second, Plan: mustPlan(t, tt.c),
				}, workers)
				if err != nil {
					t.Fatal(err)
				}
				if c := run.Counts; c.NotSent != 0 || c.OK != c.Planned || (c.OK == 5) != tt.whole || run.Client.Verdict != "valid" {
					t.Errorf("%+v, %+v", c, run.Client)
				}
			})
		}
	}
}

// TestShardsByTimeAndCount: the shards of such a plan do not know how many requests they make together.
func TestShardsByTimeAndCount(t *testing.T) {
	c := Config{Corpus: oneObject(t, 500)}
	for _, limit := range []time.Duration{0, time.Second} {
		var run stats.Run
		c.Plan = mustPlan(t, PlanConfig{Concurrency: 1, Requests: 9, Duration: limit, Objects: 1, Loop: true, Shard: Shard{Index: 0, Total: 2, By: ByRequest}})
		c.Describe(&run, stats.Target{})
		if all := run.Plan.Shard.PlannedAll; (all == 9) != (limit == 0) {
			t.Errorf("%v: %d planned", limit, all)
		}
	}
}
