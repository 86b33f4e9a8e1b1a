package replay

import (
	"time"

	"github.com/cirrusbench/cirrusbench/internal/capture"
)

// passes says how far each pass through the corpus is shifted in [Shift]: every source's samples go on where
// the pass before ended, gaps within a pass are kept, and nothing lies in the future.
//
// A pass that takes longer to replay than its source took to be captured can end at the present every time. A
// faster one cannot: its samples would overlap those of the pass before, and a receiver that wants a series
// in order refuses them. Then the passes lie back to back and it is the last that ends at the present: the
// first lies in the past, as when a backlog is delivered.
type passes struct {
	newestMS int64
	step     int64   // least distance of two passes, ms
	total    int     // passes of the plan, 0 in a plan that never ends
	limits   []int64 // of each pass, for a plan that begins at 0

	startMS int64
	pass    int // the latest, -1 before the first
	delta   int64
}

// maxLimits bounds the memory for the limits of each pass, 8 bytes for one.
const maxLimits = 1 << 20

// closedRate is the most requests a second that a closed loop ended by time is taken for, all its workers
// together and each of them. Its passes are not known: more than this would reach into the future.
const (
	closedRate    = 100_000
	closedRateOne = 10_000
)

// newPasses looks at all of a plan, which takes a second where it has millions of passes: do so before anything can be due.
func newPasses(c *capture.Corpus, p *Plan) *passes {
	s := &passes{newestMS: newest(c), step: longestSpan(c) + 1}
	virtual := p.Objects * p.FanOut
	total := p.Total()
	if total == 0 {
		rate := min(closedRate, closedRateOne*float64(p.Concurrency))
		total = p.Warmup + int(min(rate*p.Duration.Seconds(), maxPlanned))
	}
	s.total = (total + virtual - 1) / virtual
	if p.Loop != Open {
		return s
	}
	// The limit of a pass is the latest place from which all that follow still fit: the least, over itself and
	// those, of the place at their own due time, less the passes between.
	n := min(s.total, maxLimits)
	s.limits = make([]int64, n)
	least := int64(0)
	for k := s.total - 1; k >= 0; k-- {
		natural := p.Due(k*virtual).Milliseconds() - s.newestMS
		if k == s.total-1 || natural < least-s.step {
			least = natural
		} else {
			least -= s.step
		}
		if k < n {
			s.limits[k] = least
		}
	}
	return s
}

// from returns the passes of a plan that begins at start, before the first.
func (s *passes) from(start time.Time) *passes {
	begun := *s // the limits are shared, and not written any more
	begun.startMS, begun.pass = start.UnixMilli(), -1
	return &begun
}

// of returns how far pass k is shifted, in ms, at the time dueMS. Passes are asked for in their order.
func (s *passes) of(k int, dueMS int64) int64 {
	if k == s.pass {
		return s.delta
	}
	var want int64
	switch {
	case k < len(s.limits):
		want = s.startMS + s.limits[k]
	case len(s.limits) > 0: // beyond what is kept: back to back
		want = s.delta
	default:
		want = dueMS - s.newestMS - int64(max(s.total-1-k, 0))*s.step
	}
	if s.pass >= 0 {
		want = max(want, s.delta+int64(k-s.pass)*s.step)
	}
	s.pass, s.delta = k, want
	return want
}

// Backlog is how long before the run's start the newest sample of the first pass lies, because passes
// follow each other faster than they were captured; 0 when they do not, or with a plan of one pass.
func Backlog(c *capture.Corpus, p *Plan) time.Duration {
	at := time.UnixMilli(newest(c))
	s := newPasses(c, p).from(at)
	back := -s.of(0, at.Add(p.Due(0)).UnixMilli())
	return max(0, time.Duration(back)*time.Millisecond)
}

// longestSpan is the longest time, in ms, that one source's samples span: no series spans more.
func longestSpan(c *capture.Corpus) int64 {
	type name struct{ org, cluster string }
	type span struct{ first, last int64 }
	spans := map[name]span{}
	longest := int64(0)
	for _, e := range c.Entries() {
		if !e.HasTimestamp {
			continue
		}
		n := name{e.Key.Org, e.Key.Cluster}
		s, ok := spans[n]
		if !ok {
			s = span{e.MinTimestampMS, e.MaxTimestampMS}
		}
		s.first, s.last = min(s.first, e.MinTimestampMS), max(s.last, e.MaxTimestampMS)
		spans[n] = s
		longest = max(longest, s.last-s.first)
	}
	return longest
}
