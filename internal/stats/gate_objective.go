package stats

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// GateObjective is a service level that must hold by itself, whatever the baseline does: a percentile of the latency
// or the ratio of requests that are not OK must stay below a limit.
type GateObjective struct {
	// Text is the objective as the user wrote it.
	Text string
	// Quantile is the percentile as a ratio; 0 for the error ratio.
	Quantile float64
	// Limit is in milliseconds, or a ratio.
	Limit float64
}

// ParseGateObjectives reads objectives such as "p99<250ms,error_ratio<0.1%". An empty text has none. What cannot be
// read is an [*InputError].
func ParseGateObjectives(s string) ([]GateObjective, error) {
	var list []GateObjective
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		o, err := parseGateObjective(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, nil
}

func parseGateObjective(s string) (GateObjective, error) {
	bad := func(msg string) (GateObjective, error) {
		return GateObjective{}, &InputError{
			Msg:  fmt.Sprintf("objective %q %s", s, msg),
			Hint: "write objectives as p99<250ms or error_ratio<0.1%, separated by commas",
		}
	}
	name, limit, ok := strings.Cut(s, "<")
	if !ok {
		return bad("has no <")
	}
	limit = strings.TrimSpace(strings.TrimPrefix(limit, "="))
	o := GateObjective{Text: s}
	number, factor := limit, 1.0
	switch name = strings.TrimSpace(name); name {
	case "p50", "p90", "p95", "p99", "p99.9", "p99.99", "p99.999":
		percent, err := strconv.ParseFloat(name[1:], 64)
		if err != nil {
			return bad("names no percentile")
		}
		o.Quantile = percent / 100
		unit := false
		for _, u := range []struct {
			suffix string
			ms     float64
		}{{"ms", 1}, {"us", 1e-3}, {"µs", 1e-3}, {"s", 1e3}} {
			if number, unit = strings.CutSuffix(limit, u.suffix); unit {
				factor = u.ms
				break
			}
		}
		if !unit {
			return bad("has a limit without a unit, such as ms")
		}
	case "error_ratio":
		if n, percent := strings.CutSuffix(limit, "%"); percent {
			number, factor = n, 0.01
		}
	default:
		return bad("is of neither p50, p90, p95, p99, p99.9, p99.99, p99.999 nor error_ratio")
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 || v == 0 && o.Quantile > 0 {
		return bad("has a limit that is no positive number")
	}
	if o.Limit = v * factor; o.Quantile == 0 && o.Limit > 1 {
		return bad("has a limit above 100 %")
	}
	return o, nil
}

// GateObjectiveResult is how an objective fared. Observed, Lower and Upper are in milliseconds, or ratios for the
// error ratio.
type GateObjectiveResult struct {
	Objective string `json:"objective"`
	// Verdict is FAIL when it is shown to be broken, PASS when it is shown to hold, else INCONCLUSIVE.
	Verdict  Verdict    `json:"verdict"`
	Limit    float64    `json:"limit"`
	Observed GateNumber `json:"observed"`
	Lower    GateNumber `json:"lower"`
	Upper    GateNumber `json:"upper"`
}

// Judge compares latencies and counts with the objective: limits that each err with a probability of at most
// alpha, from the binomial distribution and so for latencies of any distribution.
func (o GateObjective) Judge(h *Histogram, c Counts, alpha float64) GateObjectiveResult {
	r := GateObjectiveResult{Objective: o.Text, Limit: o.Limit, Verdict: Inconclusive}
	var observed, lower, upper float64
	if o.Quantile > 0 {
		observed = math.NaN()
		if h.Count() > 0 {
			observed = h.Quantiles(o.Quantile)[0]
		}
		lower, upper = h.QuantileLimits(o.Quantile, alpha)
	} else {
		bad := c.Failed + c.TimedOut
		observed = math.NaN()
		if c.Sent > 0 {
			observed = float64(bad) / float64(c.Sent)
		}
		lower, upper = ProportionLimits(bad, c.Sent, alpha)
	}
	r.Observed, r.Lower, r.Upper = GateNumber(observed), GateNumber(lower), GateNumber(upper)
	switch {
	case lower > o.Limit:
		r.Verdict = Fail
	case upper <= o.Limit:
		r.Verdict = Pass
	}
	return r
}
