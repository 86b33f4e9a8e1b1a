package report_test

import (
	"fmt"
	"os"

	"github.com/cirrusbench/cirrusbench/internal/report"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

func ExampleDeltas() {
	c := stats.NewDeltaCollector(stats.DeltaExact, stats.NegativeKeep)
	for i := range 2000 {
		c.Add(stats.PairKey{Source: "producer-1", Destination: "worker-1"}, 10+float64(i)/100)
	}
	d, err := c.Result()
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := report.Deltas(os.Stdout, report.Table, d); err != nil {
		fmt.Println(err)
	}
	// Output:
	// Tail deltas D2–D5
	//
	// Latencies  2,000 used of 2,000 rows
	// Pairs      1 pair of one source and one destination
	// Method     exact: every latency was kept, so the deltas have no rounding error
	//
	// D2–D5 IN MILLISECONDS
	// How far the slow end of a pair (a source and a destination) lies above its median: D2 at p99, D3 at
	// p99.9, D4 at p99.99, D5 at p99.999. The columns describe that over all pairs.
	// Metric  Median  Mean  StdDev   Max   Min
	// ─────────────────────────────────────────
	// D2        9.80  9.80    0.00  9.80  9.80
	// D3        9.98  9.98    0.00  9.98  9.98
	// D4*       9.99  9.99    0.00  9.99  9.99
	// D5*       9.99  9.99    0.00  9.99  9.99
	//
	// Level  from p50 to  needs a pair  pairs that have it  pooled ms
	// ────────────────────────────────────────────────────────────────
	// D2     p99                   101              1 of 1       9.80
	// D3     p99.9               1,001              1 of 1       9.98
	// D4*    p99.99             10,001              0 of 1      *9.99
	// D5*    p99.999           100,001              0 of 1      *9.99
	// * interpolates the maximum of pairs with too few samples: D4 needs n ≥ 10,001 (0 of 1 pair), D5
	// needs n ≥ 100,001 (0 of 1 pair); smallest pair n = 2,000.
	// “pooled” takes all latencies together, as if there were one pair.
}
