package stats

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// MostFrequent is the error with the largest count, of equals the first, and the zero value of none.
func MostFrequent(list []ErrorCount) ErrorCount {
	if len(list) == 0 {
		return ErrorCount{}
	}
	return slices.MaxFunc(list, func(a, b ErrorCount) int { return cmp.Compare(a.Count, b.Count) })
}

const noSuccess = "no request succeeded"

// NoSuccess says in one clause why nothing was measured, with the class of most errors and its count, or is empty for a run
// of which a request succeeded or that was to send none. Such a run is invalid, and its load generator is not to blame.
func (r *Run) NoSuccess() string {
	if r.Counts.OK > 0 || r.Counts.Planned == 0 {
		return ""
	}
	why := ""
	if len(r.Errors) > 0 {
		top := MostFrequent(r.Errors)
		why = fmt.Sprintf(" (%s × %d)", top.Class, top.Count)
		if n := r.Counts.Failed + r.Counts.TimedOut; n > top.Count {
			why = fmt.Sprintf(" (most often %s, %d of %d)", top.Class, top.Count, n)
		}
	}
	return noSuccess + why + ": nothing was measured"
}

// GeneratorReasons are the reasons of a verdict that the load generator may have to answer for: all but that nothing succeeded.
func (r *Run) GeneratorReasons() []string {
	return slices.DeleteFunc(slices.Clone(r.Client.Reasons), func(reason string) bool {
		return r.Counts.OK == 0 && (strings.HasPrefix(reason, noSuccess) || strings.HasPrefix(reason, "no request was answered"))
	})
}
