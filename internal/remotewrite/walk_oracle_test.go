package remotewrite

import (
	"math/rand/v2"
	"testing"
)

// someLimits are limits that random messages run into.
var someLimits = []Limits{
	{},
	{FutureTolerance: -1},
	{MaxLabelsPerSeries: 17, MaxLabelNameBytes: 10, MaxLabelBytes: 20},
}

func TestWalkAgainstOracle(t *testing.T) {
	const rounds = 2500
	for _, v := range []Version{V1, V2} {
		t.Run(v.String(), func(t *testing.T) {
			g := gen{Rand: rand.New(rand.NewPCG(1, uint64(v)))}
			seen := map[string]int{}
			var w Walker // one for all: a walk must not depend on the one before
			for i := range rounds {
				b := g.message(t, v)
				seen[compareWithOracle(t, &w, v, b, someLimits[i%len(someLimits)])]++
			}
			// A generator that stopped making one of these would leave a hole that
			// nobody sees.
			want := []string{
				"", "malformed_protobuf", "wrong_schema", "name_missing", "label_name_empty", "label_duplicate",
				"label_invalid_utf8", "label_too_long", "too_many_labels", "timestamp_zero", "timestamp_negative",
				"timestamp_seconds", "timestamp_future", "exemplar_no_timestamp", "histogram_schema", "histogram_spans",
				"histogram_buckets", "histogram_count", "histogram_custom_bounds", "histogram_mixed", "metadata_invalid_utf8",
			}
			if v == V2 {
				want = append(want, "empty_request", "first_symbol", "refs_odd", "ref_out_of_range")
			}
			for _, why := range want {
				if seen[why] == 0 {
					t.Errorf("no message ended in %q", why)
				}
			}
			if seen[""] < rounds/5 || seen[""] > rounds*4/5 {
				t.Errorf("%d of %d messages were accepted: the generator is out of balance", seen[""], rounds)
			}
			t.Log(seen)
		})
	}
}
