package report

import (
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// An interrupted warm-up counts what was sent; a plan that ended by itself is not called a part of one.
func TestWarmupInterrupted(t *testing.T) {
	for want, interrupted := range map[string]bool{"36 of 200 requests before": true, "200 requests before": false} {
		r := &stats.Run{Interrupted: interrupted}
		r.Plan.Warmup, r.Counts.Warmup = 200, 36
		r.WarmupErrors = []stats.ErrorCount{{Class: "dns", Count: 30}, {Class: "timeout", Count: 2}}
		got := ""
		for _, f := range runFacts(r) {
			if f.label == "Warm-up" {
				got = f.text
			}
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("interrupted %v: %q does not begin with %q", interrupted, got, want)
		}
		if end := "; not all succeeded: dns × 30, timeout × 2"; !strings.HasSuffix(got, end) {
			t.Errorf("%q does not end with %q", got, end)
		}
	}
}
