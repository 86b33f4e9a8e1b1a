package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/durable"
)

const (
	lockName      = "lock"
	quarantineDir = "quarantine"
)

// Open opens the queue in a directory, which is made if it is missing, and reads all
// that is undelivered in it once: what fails its checksum is copied to quarantine/ and
// passed over, and what was being written when the process ended is cut off.
//
// The error wraps [ErrLocked] when another process has it open, and is a
// [*VersionError] when a newer program has written to it; nothing is changed then.
func Open(dir string, opt Options) (*Queue, error) {
	opt = opt.withDefaults()
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the queue: %w", err)
	}
	q := &Queue{
		dir: dir, opt: opt, log: opt.Logger, wake: make(chan struct{}, 1), done: make(chan struct{}),
		next: 1, lanes: map[Lane]*lane{}, changed: make(chan struct{}),
	}
	var err error
	if q.lock, err = os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("opening the queue: %w", err)
	}
	if err = lockFile(q.lock); err == nil {
		err = q.recover()
	}
	if err != nil {
		return nil, fmt.Errorf("opening the queue in %s: %w", dir, errors.Join(err, q.lock.Close()))
	}
	go q.commit()
	return q, nil
}

// recover reads what is there.
func (q *Queue) recover() error {
	entries, err := os.ReadDir(q.dir)
	if err != nil {
		return err
	}
	// First a look that changes nothing: one segment of a newer version and we are the
	// wrong program for this queue.
	state, stateErr := readState(q.dir)
	if stateErr != nil && !errors.Is(stateErr, ErrState) {
		return stateErr
	}
	for _, e := range entries {
		if _, _, ok := parseName(e.Name()); !ok {
			q.foreign(e)
			continue
		}
		if err := checkVersion(filepath.Join(q.dir, e.Name())); err != nil {
			return err
		}
	}
	if stateErr != nil {
		q.log.Error("delivered records may be delivered again", "error", stateErr.Error())
		if err := q.quarantineFile(filepath.Join(q.dir, stateFile), stateErr.Error()); err != nil {
			return err
		}
	}
	q.next = max(q.next, state.Next)
	for _, l := range state.Lanes {
		q.lanes[Lane{l.Org, l.Cluster}] = &lane{done: l.Done, through: l.Through, plan: l.Plan}
		q.next = max(q.next, l.Done+1, l.Through+1)
	}
	for _, e := range entries {
		if durable.IsTemp(e.Name()) {
			// Of a process that was killed while it wrote the state.
			if err := os.Remove(filepath.Join(q.dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		first, sent, ok := parseName(e.Name())
		if !ok {
			continue
		}
		seg, err := q.recoverSegment(filepath.Join(q.dir, e.Name()), first, sent)
		if err != nil {
			return fmt.Errorf("reading %s: %w", e.Name(), err)
		}
		switch {
		case seg == nil:
		case sent:
			q.kept = append(q.kept, seg)
		default:
			q.segs = append(q.segs, seg)
		}
		q.next = max(q.next, first)
		if seg != nil {
			q.next = max(q.next, seg.last+1)
			q.segBytes += seg.size
		}
	}
	q.other = otherBytes(q.dir)
	q.mu.Lock()
	q.forget()
	q.mu.Unlock()
	return q.settle()
}

// foreign mentions a file that is not ours.
func (q *Queue) foreign(e fs.DirEntry) {
	switch name := e.Name(); {
	case name == lockName, name == stateFile, name == quarantineDir, name == "dead", durable.IsTemp(name):
	default:
		q.log.Warn("a file in the queue's directory is not the queue's; it is left alone", "name", name)
	}
}

func checkVersion(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	version, _, err := readSegmentHeader(f)
	if err == nil && version != segmentVersion {
		return &VersionError{Path: path, Version: version}
	}
	return nil // a broken header is for recoverSegment
}

// recoverSegment reads a segment through. It returns nil when there is nothing in it
// that could be a record.
func (q *Queue) recoverSegment(path string, first uint64, sent bool) (*segment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	_, salt, err := readSegmentHeader(f)
	if errors.Is(err, errNoSegment) || errors.Is(err, io.EOF) {
		// A segment's header is durable before a record is accepted into it, so a short
		// file has none; a longer one is for people to look at.
		if info.Size() <= segmentHeader {
			q.stats.TornBytes += info.Size()
			return nil, os.Remove(path)
		}
		q.stats.Corrupt++
		q.stats.CorruptBytes += info.Size()
		return nil, q.quarantineFile(path, "its header is broken")
	}
	if err != nil {
		return nil, err
	}
	seg := &segment{
		path: path, first: first, last: first - 1, salt: salt, size: info.Size(),
		created: info.ModTime(), newest: info.ModTime(), pending: map[Lane]*Tally{},
	}
	if sent {
		return seg, nil
	}
	type stretch struct{ off, n int64 }
	var broken []stretch
	sc := scanner{r: f, size: info.Size(), salt: salt, off: segmentHeader}
	sc.bad = func(off, n int64) { broken = append(broken, stretch{off, n}) }
	for {
		rec, _, err := sc.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		seg.last, seg.newest = rec.Seq, rec.Received
		// Of a delivered record there is an entry too: forget goes by that.
		t := seg.pending[rec.Lane]
		if t == nil {
			t = &Tally{}
			seg.pending[rec.Lane] = t
		}
		if l := q.lanes[rec.Lane]; l == nil {
			q.lanes[rec.Lane] = &lane{}
		} else if rec.Seq <= l.done {
			continue
		}
		t.add(&rec, int64(len(rec.Body)))
	}
	for i, b := range broken {
		if i == len(broken)-1 && b.off+b.n == info.Size() {
			q.stats.TornBytes += b.n
			q.log.Warn("cut off what was being written when the process ended", "path", path, "offset", b.off, "bytes", b.n)
			if err := q.quarantineBytes(f, path, b.off, b.n); err != nil {
				return nil, err
			}
			if err := os.Truncate(path, b.off); err != nil {
				return nil, err
			}
			seg.size = b.off
			continue
		}
		if seg.broken == nil {
			seg.broken = map[int64]bool{}
		}
		seg.broken[b.off] = true
		q.stats.Corrupt++
		q.stats.CorruptBytes += b.n
		q.log.Error("passed over broken bytes in the queue", "path", path, "offset", b.off, "bytes", b.n)
		if err := q.quarantineBytes(f, path, b.off, b.n); err != nil {
			return nil, err
		}
	}
	if seg.last < seg.first && seg.size <= segmentHeader {
		return nil, os.Remove(path)
	}
	return seg, nil
}

// quarantineBytes copies a stretch of a segment to a file of its own. A full disk must
// not keep the queue from opening, so then there is only the log.
func (q *Queue) quarantineBytes(r io.ReaderAt, path string, off, n int64) error {
	b := make([]byte, min(n, 16<<20))
	if _, err := r.ReadAt(b, off); err != nil {
		return err
	}
	to := filepath.Join(q.dir, quarantineDir, filepath.Base(path)+"-"+strconv.FormatInt(off, 10))
	err := durable.MkdirAll(filepath.Dir(to), 0o700)
	if err == nil {
		err = durable.WriteFile(to, b, 0o600)
	}
	if err != nil {
		q.log.Error("broken bytes could not be put aside", "error", err.Error())
	}
	return nil
}

// quarantineFile moves a file away.
func (q *Queue) quarantineFile(path, why string) error {
	to := filepath.Join(q.dir, quarantineDir)
	if err := durable.MkdirAll(to, 0o700); err != nil {
		return err
	}
	to = filepath.Join(to, filepath.Base(path)+"-"+time.Now().UTC().Format("20060102T150405.000000"))
	q.log.Error("moved a file of the queue to quarantine", "path", path, "to", to, "why", why)
	if err := os.Rename(path, to); err != nil {
		return err
	}
	return errors.Join(durable.SyncDir(filepath.Dir(to)), durable.SyncDir(q.dir))
}

// forget drops lanes of which nothing is left to know: without a plan, and without a
// record, delivered or not, in a segment that would be read again after a restart. q.mu is
// held.
func (q *Queue) forget() {
	for name, l := range q.lanes {
		if l.plan == nil && !slices.ContainsFunc(q.segs, func(s *segment) bool { return s.pending[name] != nil }) {
			delete(q.lanes, name)
		}
	}
}
