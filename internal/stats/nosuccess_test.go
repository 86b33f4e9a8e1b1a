package stats

import (
	"slices"
	"testing"
)

func TestNoSuccess(t *testing.T) {
	r := &Run{Counts: Counts{Planned: 10, Sent: 10, Failed: 10}, Errors: []ErrorCount{{Class: "connection_refused", Count: 10}}}
	const want = "no request succeeded (connection_refused × 10): nothing was measured"
	if got := r.NoSuccess(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// What a run file of an older version says is known too, and what the generator did stays.
	r.Client.Reasons = []string{want, "no request was answered with success, so there is no latency to speak of", "used 97 % of the CPU"}
	if got := r.GeneratorReasons(); !slices.Equal(got, []string{"used 97 % of the CPU"}) {
		t.Errorf("the generator's reasons are %q", got)
	}
	r.Errors = []ErrorCount{{Class: "connection_refused", Count: 7}, {Class: "timeout", Count: 3}}
	if got := r.NoSuccess(); got != "no request succeeded (most often connection_refused, 7 of 10): nothing was measured" {
		t.Errorf("two classes: %q", got)
	}
	r.Errors = nil
	if got := r.NoSuccess(); got != "no request succeeded: nothing was measured" {
		t.Errorf("without errors: %q", got)
	}
	r.Counts.OK = 1
	if got := r.NoSuccess(); got != "" {
		t.Errorf("one success: %q", got)
	}
	if got := (&Run{}).NoSuccess(); got != "" {
		t.Errorf("an empty plan: %q", got)
	}
}
