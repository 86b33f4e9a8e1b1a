package lambdalog

import (
	"math/bits"
	"time"
)

// Group is a number of invocations that were billed alike. It is what a query
// that counts where the records are stored gives back instead of the records:
// the billed time of every one of them is known, the durations only together.
type Group struct {
	// Count is the number of invocations, at least 1.
	Count int64
	// Billed is the billed time of each of them; absent where the records state none.
	Billed Millis
	// Memory is the configured memory of each of them; 0 where the records do not state it.
	Memory MB
	// Cold and Status hold for each of them.
	Cold   bool
	Status Status
	// MaxMemoryUsed is the highest of their high-water marks.
	MaxMemoryUsed MB
	// Durations, Inits and Restores are what their single times come to.
	Durations, Inits, Restores Total
}

// Total is the sum and the longest of a number of lengths of time. The zero
// value is a total of none.
type Total struct {
	// Count is how many lengths there were, at most the group's.
	Count int64
	// Sum and Max are their sum and the longest of them.
	Sum, Max time.Duration
}

// AddGroup takes many invocations at once. Of their durations the sum and the
// longest become known but no percentile, which the Summary then leaves out.
func (u *Summariser) AddGroup(g Group) {
	u.s.Records += g.Count
	u.s.Reports += g.Count
	if g.Cold {
		u.s.Cold += g.Count
	}
	if g.Billed.Known {
		u.s.Billable += g.Count
		u.billed.addN(g.Billed, g.Count)
	} else {
		u.s.Incomplete += g.Count
	}
	u.s.Rules.Unknown += g.Count
	u.durations.add(g.Durations)
	u.inits.add(g.Inits)
	u.s.MaxMemoryUsed = max(u.s.MaxMemoryUsed, g.MaxMemoryUsed)
	u.addMemory(g.Memory, g.Count)
	u.addStatus(g.Status, g.Count)
}

// totals adds up totals without overflow.
type totals struct {
	n      int64
	hi, lo uint64
	max    time.Duration
}

func (t *totals) add(x Total) {
	if x.Count <= 0 {
		return
	}
	t.n += x.Count
	var carry uint64
	t.lo, carry = bits.Add64(t.lo, uint64(max(x.Sum, 0)), 0)
	t.hi += carry
	t.max = max(t.max, x.Max)
}

// into makes a distribution of single lengths one of those and t's together.
func (t *totals) into(c counts, d Distribution) Distribution {
	if t.n == 0 {
		return d
	}
	n, hi, lo := c.sum()
	var carry uint64
	lo, carry = bits.Add64(lo, t.lo, 0)
	hi, _ = bits.Add64(hi, t.hi, carry)
	whole := meanAndSum(n+t.n, hi, lo)
	whole.Max = MillisOf(max(d.Max.Value, t.max))
	return whole
}
