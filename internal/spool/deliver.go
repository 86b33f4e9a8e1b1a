package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/durable"
)

// Pending is what a lane has to deliver.
type Pending struct {
	Lane
	Tally
	// Done is the sequence number up to which everything is delivered, Last one that no
	// record counted here exceeds.
	Done, Last uint64
	// Plan is what [Queue.Plan] has stored for the records up to Through; nil: none.
	Through uint64
	Plan    json.RawMessage
}

// Pending returns the lanes that have records to deliver, or a plan.
func (q *Queue) Pending() []Pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := map[Lane]*Pending{}
	for _, s := range q.segs {
		for name, t := range s.pending {
			if t.Records == 0 {
				continue
			}
			p := all[name]
			if p == nil {
				p = &Pending{Lane: name}
				all[name] = p
			}
			p.merge(*t)
			p.Last = s.last
		}
	}
	out := make([]Pending, 0, len(all))
	for name, l := range q.lanes {
		p := all[name]
		if p == nil {
			if l.plan == nil {
				continue
			}
			p = &Pending{Lane: name}
		}
		p.Done, p.Through, p.Plan = l.done, l.through, l.plan
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Pending) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// Scan calls visit with the records of a lane behind the sequence number after, in
// order, until visit says no or fails or no record is left. The Body of a record is
// valid during the visit only. What is broken is passed over and counted.
func (q *Queue) Scan(name Lane, after uint64, visit func(Record) (more bool, err error)) error {
	q.mu.Lock()
	var h hint
	if l := q.lanes[name]; l != nil && l.hint.seq != 0 && l.hint.seq <= after {
		h = l.hint
	}
	var todo []*segment
	for _, s := range q.segs {
		if s.last > after && s.pending[name] != nil {
			todo = append(todo, s)
		}
	}
	q.mu.Unlock()
	for _, s := range todo {
		more, err := q.scanSegment(s, name, after, h, visit)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (q *Queue) scanSegment(s *segment, name Lane, after uint64, h hint, visit func(Record) (bool, error)) (more bool, err error) {
	q.mu.Lock()
	size, path, gone := s.size, s.path, s.dropped
	q.mu.Unlock()
	if gone {
		return true, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // dropped in between
	}
	if err != nil {
		return false, fmt.Errorf("reading the queue: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	sc := scanner{r: f, size: size, salt: s.salt, off: segmentHeader}
	if h.path == path {
		sc.off = h.off
	}
	sc.want = func(r *Record) bool { return r.Lane == name && r.Seq > after }
	sc.bad = func(off, n int64) {
		q.mu.Lock()
		known := s.broken[off]
		if !known {
			if s.broken == nil {
				s.broken = map[int64]bool{}
			}
			s.broken[off] = true
			q.stats.Corrupt++
			q.stats.CorruptBytes += n
		}
		q.mu.Unlock()
		if known {
			return
		}
		q.log.Error("passed over broken bytes in the queue", "path", path, "offset", off, "bytes", n)
	}
	for {
		rec, _, err := sc.next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("reading the queue: %w", err)
		}
		if rec.Lane != name || rec.Seq <= after {
			continue
		}
		if more, err := visit(rec); err != nil || !more {
			return false, err
		}
		q.mu.Lock()
		if l := q.lanes[name]; l != nil {
			l.hint = hint{seq: rec.Seq, path: path, off: sc.off}
		}
		q.mu.Unlock()
	}
}

// Plan stores what the caller wants to know again after a restart of how it delivers
// the records of a lane up to through. It replaces the plan before it.
func (q *Queue) Plan(name Lane, through uint64, plan json.RawMessage) error {
	q.stateMu.Lock()
	defer q.stateMu.Unlock()
	q.mu.Lock()
	l := q.lanes[name]
	if l == nil {
		l = &lane{}
		q.lanes[name] = l
	}
	l.through, l.plan = through, plan
	q.mu.Unlock()
	return q.saveState()
}

// Done says that all records of a lane up to through are delivered, and forgets its
// plan. Segments of which everything is delivered are kept for Options.KeepSent.
//
// An error means that a restart may deliver the records again; in this process they
// are done.
func (q *Queue) Done(name Lane, through uint64) error {
	// When the tallies cannot be made the records are done all the same: Scan passes over
	// them.
	counted := q.consume(name, through)
	q.stateMu.Lock()
	q.mu.Lock()
	l := q.lanes[name]
	if l == nil {
		l = &lane{}
		q.lanes[name] = l
	}
	l.done, l.through, l.plan = max(l.done, through), 0, nil
	q.mu.Unlock()
	err := q.saveState()
	q.stateMu.Unlock()
	return errors.Join(counted, err, q.settle())
}

// consume takes what is delivered out of the tallies.
func (q *Queue) consume(name Lane, through uint64) error {
	q.mu.Lock()
	var partly *segment
	var before Tally
	var size int64
	var path string
	for _, s := range q.segs {
		t := s.pending[name]
		if t == nil || s.first > through {
			continue
		}
		if s.last <= through {
			*t = Tally{}
			continue
		}
		partly, before, size, path = s, *t, s.size, s.path
	}
	var h hint
	if l := q.lanes[name]; l != nil && l.hint.seq != 0 && l.hint.seq <= through {
		h = l.hint
	}
	q.mu.Unlock()
	if partly == nil {
		return nil
	}
	// What remains of this segment is counted by reading its headers.
	left, err := count(path, partly.salt, size, name, through, h)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	t := partly.pending[name]
	since := Tally{
		Records: t.Records - before.Records, Bytes: t.Bytes - before.Bytes,
		DecodedBytes: t.DecodedBytes - before.DecodedBytes, Samples: t.Samples - before.Samples, Oldest: time.Now(),
	}
	left.merge(since)
	*t = left
	return nil
}

// count adds up the records of a lane behind after in the first size bytes.
func count(path string, salt uint32, size int64, name Lane, after uint64, h hint) (Tally, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Tally{}, nil
	}
	if err != nil {
		return Tally{}, fmt.Errorf("reading the queue: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	sc := scanner{r: f, size: size, salt: salt, off: segmentHeader, want: func(*Record) bool { return false }}
	if h.path == path {
		sc.off = h.off
	}
	var t Tally
	for {
		rec, at, err := sc.next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return Tally{}, fmt.Errorf("reading the queue: %w", err)
		}
		if rec.Lane == name && rec.Seq > after {
			t.add(&rec, sc.off-at-int64(recordHeader+len(rec.Org)+len(rec.Cluster)))
		}
	}
}

// saveState writes state.json. q.stateMu is held.
func (q *Queue) saveState() error {
	q.mu.Lock()
	s := State{Next: q.next, Lanes: make([]LaneState, 0, len(q.lanes))}
	for name, l := range q.lanes {
		if l.done == 0 && l.plan == nil {
			continue
		}
		s.Lanes = append(s.Lanes, LaneState{Org: name.Org, Cluster: name.Cluster, Done: l.done, Through: l.through, Plan: l.plan})
	}
	q.mu.Unlock()
	if err := writeState(q.dir, s); err != nil {
		q.mu.Lock()
		q.stats.StateFailures++
		q.mu.Unlock()
		return err
	}
	return nil
}

// settle puts aside the closed segments of which everything is delivered. Their going
// is itself a durable note of that, which is what helps when the disk is too full for
// state.json.
func (q *Queue) settle() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var errs []error
	moved := false
	q.segs = slices.DeleteFunc(q.segs, func(s *segment) bool {
		if s.active || !s.delivered() {
			return false
		}
		if q.opt.KeepSent < 0 {
			if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
				return false
			}
			moved = true
			q.segBytes -= s.size
			return true
		}
		to := putAside(s.path)
		if err := os.Rename(s.path, to); err != nil {
			errs = append(errs, err)
			return false
		}
		s.path, moved = to, true
		q.kept = append(q.kept, s)
		return true
	})
	if moved {
		slices.SortFunc(q.kept, func(a, b *segment) int { return strings.Compare(a.path, b.path) })
		q.freeAt = time.Time{}
		q.forget()
		errs = append(errs, durable.SyncDir(q.dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("putting delivered segments aside: %w", err)
	}
	return nil
}
