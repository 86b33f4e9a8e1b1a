package cost

import (
	"time"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// Seen is how many records there were, with those that came more than once.
func (u *Usage) Seen() int64 { return u.summary.Seen() }

// Note takes an error that came instead of a record. It returns the error when
// reading ended with it, and nil when it is a warning of the result.
func (u *Usage) Note(err error) error { return u.summary.Note(err) }

// AddGroup takes many invocations at once. They have no times, so that the
// observed concurrency stays unknown.
func (u *Usage) AddGroup(g lambdalog.Group) {
	u.summary.AddGroup(g)
	if !g.Billed.Known || g.Count <= 0 {
		return
	}
	if u.cells == nil {
		u.cells = make(map[cell]int64)
	}
	u.cells[cell{g.Memory, g.Cold, g.Billed.Value}] += g.Count
	u.untimed += g.Count
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	wall := ms(g.Durations.Sum) + ms(g.Inits.Sum) + ms(g.Restores.Sum)
	if g.Durations.Count == 0 {
		// Without durations the billed time is the best that is known of how long they ran.
		wall = ms(g.Billed.Value) * float64(g.Count)
	}
	u.wall += wall
	u.walls += g.Count
	if g.Cold {
		u.coldWall += wall
		u.coldWalls += g.Count
	}
}
