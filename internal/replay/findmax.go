package replay

import (
	"cmp"
	"context"
	"fmt"
	"math"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// Trial is one rate that a search for the highest one has tried.
type Trial struct {
	RatePerS float64
	Good     bool
	Client   bool // the load generator was the limit, not the target
	Reasons  []string
	Run      *stats.Run
}

// JudgeTrial says whether a run at a constant rate is one that the target sustains: the objectives are met,
// 99 % of what was planned for each moment was sent in time, requests in flight did not pile up, and the
// generator was not the limit.
func JudgeTrial(rate float64, run *stats.Run) Trial {
	s := Trial{RatePerS: rate, Run: run}
	bad := func(format string, args ...any) { s.Reasons = append(s.Reasons, fmt.Sprintf(format, args...)) }
	for _, o := range run.Objectives {
		if !o.Met {
			bad("%s, measured %s", o.Objective, o.Measured)
		}
	}
	if run.Counts.OK == 0 {
		s.Reasons = append(s.Reasons, cmp.Or(run.NoSuccess(), "no request succeeded"))
	}
	seconds := int64(math.Ceil(float64(run.Counts.Planned) / rate))
	var inTime, early, late int64
	for _, p := range run.Timeline {
		if p.TS >= seconds {
			break // what was sent after the plan's end is what the target held up
		}
		inTime += p.Sent
		switch third := seconds / 3; {
		case third == 0:
		case p.TS < third:
			early += p.InFlight
		case p.TS >= seconds-third:
			late += p.InFlight
		}
	}
	if float64(inTime) < 0.99*float64(run.Counts.Planned) {
		bad("%d of %d requests were sent in time", inTime, run.Counts.Planned)
	}
	if third := seconds / 3; third > 0 && late > 2*early+10*third {
		bad("requests in flight grew from %.0f to %.0f", float64(early)/float64(third), float64(late)/float64(third))
	}
	if run.Client.Verdict != "valid" {
		reasons := run.GeneratorReasons()
		s.Client = run.Counts.OK > 0 || len(reasons) > 0 // of a target that answers nothing it is not the limit
		s.Reasons = append(s.Reasons, reasons...)
	}
	s.Good = len(s.Reasons) == 0
	return s
}

// FindMax looks for the highest rate that try finds good: it doubles from start until one is not, then halves
// the interval until it is narrower than precision (0.05 is 5 %). When start itself is not good it halves
// first. It returns every trial in order and the rate of the best good one, 0 when there is none down to a
// thousandth of start. It ends at limit.
func FindMax(ctx context.Context, start, limit, precision float64, try func(context.Context, float64) (Trial, error)) (steps []Trial, best float64, err error) {
	good := func(rate float64) (bool, error) {
		s, err := try(ctx, rate)
		if err != nil {
			return false, err
		}
		steps = append(steps, s)
		if s.Good {
			best = max(best, rate)
		}
		return s.Good, nil
	}
	low, high := 0.0, 0.0 // the highest good rate, the lowest bad one
	for rate := start; ; {
		ok, err := good(rate)
		if err != nil {
			return steps, best, err
		}
		if ok {
			low = rate
		} else {
			high = rate
		}
		switch {
		case low > 0 && high > 0:
		case ok && rate >= limit:
			return steps, best, nil
		case ok:
			rate = min(2*rate, limit)
			continue
		case rate < start/1000:
			return steps, best, nil
		default:
			rate /= 2
			continue
		}
		break
	}
	for high/low > 1+precision {
		// Three digits are enough, and look like a rate.
		rate := roundTo3((low + high) / 2)
		if rate <= low || rate >= high {
			break
		}
		ok, err := good(rate)
		if err != nil {
			return steps, best, err
		}
		if ok {
			low = rate
		} else {
			high = rate
		}
	}
	return steps, best, nil
}

func roundTo3(v float64) float64 {
	scale := math.Pow(10, math.Floor(math.Log10(v))-2)
	return math.Round(v/scale) * scale
}
