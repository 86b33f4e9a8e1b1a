package replay

import (
	"slices"
	"testing"
	"time"
)

// TestTurnsSoon: whoever goes out next is named before its turn.
func TestTurnsSoon(t *testing.T) {
	var named []int
	soon := func(j *job) {
		if !slices.Contains(named, j.n) {
			named = append(named, j.n)
		}
	}
	expect := func(what string, want ...int) {
		t.Helper()
		if slices.Sort(named); !slices.Equal(named, want) {
			t.Errorf("%s: %v were named, want %v", what, named, want)
		}
	}
	jobs := func(n, sources int) (all []*job) {
		for i := range n {
			all = append(all, &job{n: i, source: i % sources})
		}
		return all
	}
	still := func() time.Duration { return 0 }

	// Of few sources several each.
	ts := newTurns(OrderSource, 3, 1, soon, still)
	for _, j := range jobs(3*soonest, 3) {
		if ts.admit(j) && j.n > 0 {
			ts.hold(j)
		}
	}
	if want := 2 + 3*(soonest/3); len(named) != want { // two are ready
		t.Errorf("%d of 3 sources' jobs were named, want %d", len(named), want)
	}

	// Of many the next of those that are under way.
	named = nil
	const many = 2 * soonest
	ts = newTurns(OrderSource, many, 2, soon, still)
	all := jobs(3*many, many)
	for _, j := range all[:many+5] {
		if ts.admit(j) && j.n >= 2 && j.n < 5 {
			ts.hold(j)
		}
	}
	expect("what is ready, and behind what is under way", 2, 3, 4, many, many+1)
	ts.take()
	expect("behind what was taken", 2, 3, 4, many, many+1, many+2)
}

// TestTurnsNameNoMoreThanFew: however many wait, bodies are made for a few of them only.
func TestTurnsNameNoMoreThanFew(t *testing.T) {
	for _, order := range []Order{OrderNone, OrderSource} {
		for _, sources := range []int{1, 6, 63, 65, 1000} {
			const slots = 4
			perSource := 5 + 3*soonest/sources
			named, most := map[*job]bool{}, 0
			waits := map[*job]bool{}
			ts := newTurns(order, sources, slots, func(j *job) {
				if !waits[j] {
					t.Fatalf("job %d of source %d was named, which does not wait", j.n, j.source)
				}
				named[j] = true
				most = max(most, len(named))
			}, func() time.Duration { return 0 })
			var out []*job
			for n := range perSource * sources {
				j := &job{n: n, source: n % sources}
				waits[j] = true
				if !ts.admit(j) {
					continue
				}
				if len(out) == slots {
					ts.hold(j)
					continue
				}
				delete(waits, j)
				out = append(out, j)
			}
			late := 0
			for sent := len(out); len(out) > 0; sent++ {
				ts.done(out[0])
				out = out[1:]
				j := ts.take()
				if j == nil {
					continue
				}
				if !named[j] {
					late++
				}
				delete(named, j)
				delete(waits, j)
				out = append(out, j)
				if sources < soonest && len(named) < min(len(waits)/2, soonest/2) {
					t.Fatalf("%s, %d sources: %d of %d that wait were named", order, sources, len(named), len(waits))
				}
			}
			if len(waits) > 0 || late > 0 {
				t.Errorf("%s, %d sources: %d were not taken, %d not named before", order, sources, len(waits), late)
			}
			if limit := 2*soonest + 2*slots; most > limit || sources > 1 && most < soonest/2 {
				t.Errorf("%s, %d sources: up to %d had bodies, want about %d and no more than %d", order, sources, most, soonest, limit)
			}
		}
	}
}

// TestTurnsOurs: whoever waits behind a job that waits for its body waits for that too, and nobody for what was before it came.
func TestTurnsOurs(t *testing.T) {
	const s = time.Second
	var now time.Duration
	ts := newTurns(OrderSource, 3, 2, func(*job) {}, func() time.Duration { return now })
	first, second, third := &job{}, &job{}, &job{}
	held, late, blocks := &job{source: 1}, &job{source: 1}, &job{source: 2}

	ts.admit(first)
	ts.admit(blocks) // both slots are taken
	ts.stall(first)
	now = 1 * s
	ts.admit(second)
	ts.admit(held)
	ts.hold(held)
	now = 3 * s
	ts.resume(first) // second has waited 2 s for that; held 2 s of half the slots
	ts.admit(third)
	now = 10 * s // being sent
	ts.stall(blocks)
	now = 12 * s
	ts.done(first)
	ts.admit(late)
	if ts.take() != held { // which has waited 2 s more of half the slots, as second does until it is taken
		t.Fatal("taken out of turn")
	}
	now = 16 * s
	ts.resume(blocks)
	ts.done(blocks)
	if ts.take() != second {
		t.Fatal("taken out of turn")
	}
	ts.done(second)
	ts.done(held)
	if ts.take() != third || ts.take() != late {
		t.Fatal("taken out of turn")
	}
	for name, tt := range map[string]struct {
		j    *job
		want time.Duration
	}{
		"first: its own":                                {first, 3 * s},
		"blocks: its own":                               {blocks, 6 * s},
		"held: two times half a slot":                   {held, 1*s + 1*s},
		"second: first's, and half a slot":              {second, 2*s + 2*s},
		"third: what second waited":                     {third, 2 * s},
		"late: nothing, held had its slot when it came": {late, 0},
	} {
		if tt.j.ours != tt.want {
			t.Errorf("%s: waited %v for us, want %v", name, tt.j.ours, tt.want)
		}
	}
}

func TestOurDelay(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		why  string
		j    job
		want time.Duration
	}{
		{"a slot was free", job{slotFree: true, late: 2 * ms}, 1000 * ms},
		{"it waited for others", job{late: 2 * ms}, 2 * ms},
		{"its body took next to nothing of that", job{late: 2 * ms, ours: 50 * ms}, 2 * ms},
		{"its body took a good part of that", job{late: 2 * ms, ours: 51 * ms}, 53 * ms},
		{"and never more than all", job{late: 2 * ms, ours: 5000 * ms}, 1000 * ms},
	} {
		tt.j.due = 100 * ms
		if got := tt.j.ourDelay(1100 * ms); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.why, got, tt.want)
		}
	}
}
