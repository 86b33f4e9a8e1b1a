package spool

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/durable"
)

// Errors that callers tell apart.
var (
	// ErrLocked says that another process has the queue open.
	ErrLocked = errors.New("another process has the queue open")
	// ErrFull says that a record does not fit into Options.MaxBytes or would leave less
	// than Options.MinFreeBytes free.
	ErrFull = errors.New("the queue is full")
	// ErrTooManyLanes says that more than 10,000 lanes have records to deliver.
	ErrTooManyLanes = errors.New("the queue has too many lanes")
	// ErrClosed says that the queue has been closed.
	ErrClosed = errors.New("the queue is closed")
)

// Sync says when records are made durable.
type Sync string

// The ways to sync.
const (
	// SyncAlways makes a record durable before Append returns.
	SyncAlways Sync = "always"
	// SyncInterval syncs once a second: a loss of power takes what came since, a kill
	// of the process nothing.
	SyncInterval Sync = "interval"
	// SyncNever leaves it to the operating system.
	SyncNever Sync = "never"
)

// Defaults of [Options].
const (
	DefaultSegmentBytes = 32 << 20
	DefaultSegmentAge   = time.Minute
	DefaultMaxBytes     = 10 << 30
	DefaultMinFreeBytes = 256 << 20
	DefaultKeepSent     = 24 * time.Hour
)

const (
	maxLanes = 10_000
	// groupBytes bounds what one sync makes durable, and with it the write buffer.
	groupBytes = 4 << 20
	tick       = time.Second
	// maxGather bounds how long a sync is put off for more records, however slow the
	// disk is.
	maxGather = 2 * time.Millisecond
)

// Options are the choices of a queue. The zero value of each field stands for its
// default.
type Options struct {
	// SegmentBytes and SegmentAge say when a segment is closed and the next one
	// begun. Space is given back by segments. Defaults 32 MiB and 1 minute.
	SegmentBytes int64
	SegmentAge   time.Duration
	// MaxBytes bounds everything in the directory, quarantine and kept segments
	// included. Default 10 GiB.
	MaxBytes int64
	// MinFreeBytes is how much of the disk is left free. Default 256 MiB; negative: 0.
	MinFreeBytes int64
	// MaxAge is after which time records are dropped undelivered, segment by segment.
	// Default 0: never.
	MaxAge time.Duration
	// DropOldest makes a full queue drop its oldest segment for a new record; the
	// default is to refuse the new one.
	DropOldest bool
	// KeepSent is how long delivered segments stay for a replay; a full queue deletes
	// them earlier. Default 24 h; negative: not at all.
	KeepSent time.Duration
	Sync     Sync // default SyncAlways
	// OnSync is told of every sync: how long it took and how many records it made
	// durable. It must not block.
	OnSync func(d time.Duration, records int)
	Logger *slog.Logger // nil: no log

	create func(path string) (segmentWriter, error) // of tests
	free   func(dir string) (int64, error)
}

func (o Options) withDefaults() Options {
	o.SegmentBytes = cmp.Or(o.SegmentBytes, DefaultSegmentBytes)
	o.SegmentAge = cmp.Or(o.SegmentAge, DefaultSegmentAge)
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	o.SegmentBytes = min(o.SegmentBytes, max(o.MaxBytes/4, 1)) // or there were nothing to drop
	o.MinFreeBytes = max(cmp.Or(o.MinFreeBytes, DefaultMinFreeBytes), 0)
	o.KeepSent = cmp.Or(o.KeepSent, DefaultKeepSent)
	o.Sync = cmp.Or(o.Sync, SyncAlways)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.create == nil {
		o.create = createSegment
	}
	if o.free == nil {
		o.free = freeBytes
	}
	return o
}

// Tally adds up records.
type Tally struct {
	Records      int64
	Bytes        int64 // of bodies, as received
	DecodedBytes int64
	Samples      int64 // with histograms
	Oldest       time.Time
}

func (t *Tally) add(r *Record, bytes int64) {
	if t.Records == 0 || r.Received.Before(t.Oldest) {
		t.Oldest = r.Received
	}
	t.Records++
	t.Bytes += bytes
	t.DecodedBytes += int64(r.DecodedBytes)
	t.Samples += int64(r.Samples) + int64(r.Histograms)
}

func (t *Tally) merge(o Tally) {
	if o.Records == 0 {
		return
	}
	if t.Records == 0 || o.Oldest.Before(t.Oldest) {
		t.Oldest = o.Oldest
	}
	t.Records += o.Records
	t.Bytes += o.Bytes
	t.DecodedBytes += o.DecodedBytes
	t.Samples += o.Samples
}

// segment is a file of records.
type segment struct {
	path    string
	first   uint64
	last    uint64 // of the last record; first-1 when there is none
	salt    uint32
	size    int64 // up to here it may be read
	created time.Time
	newest  time.Time // when its last record was received
	active  bool
	dropped bool
	pending map[Lane]*Tally // what is not delivered; an entry for every lane with a record
	broken  map[int64]bool  // where stretches passed over begin, those that are counted
}

func (s *segment) delivered() bool {
	for _, t := range s.pending {
		if t.Records > 0 {
			return false
		}
	}
	return true
}

// lane is a lane with records to deliver, or with a plan.
type lane struct {
	done    uint64
	through uint64
	plan    json.RawMessage
	hint    hint
}

// hint is where the record behind seq begins, to spare a search.
type hint struct {
	seq  uint64
	path string
	off  int64
}

// Queue is an open queue. Use [Open]. Its methods may be called from several
// goroutines at once.
type Queue struct {
	dir  string
	opt  Options
	log  *slog.Logger
	lock *os.File
	wake chan struct{} // the committer has something to do
	done chan struct{} // the committer has ended

	stateMu sync.Mutex // held while state.json is written, taken before mu

	mu       sync.Mutex
	closed   bool
	waiting  []*appending
	reserved int64 // bytes of waiting
	want     int   // with fewer records waiting the committer is left alone
	next     uint64
	segs     []*segment // not all delivered, ascending; the last may be active
	kept     []*segment // delivered, ascending
	lanes    map[Lane]*lane
	segBytes int64 // of segs and kept
	other    int64 // bytes in the directory that are not segments
	free     int64 // at the last look, less what was written since
	freeAt   time.Time
	stats    Stats
	changed  chan struct{} // closed when records come

	// The committer's own.
	file   segmentWriter
	buf    []byte
	dirty  bool // written and not synced
	synced time.Time
	ticks  int
	last   [2]syncedGroup // the last two groups that were synced, the later one first
	gather *time.Timer
}

// segmentWriter is the file of the active segment.
type segmentWriter interface {
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

type osSegment struct{ *os.File }

func (f osSegment) Sync() error { return syncData(f.File) }

func createSegment(path string) (segmentWriter, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osSegment{f}, nil
}

// syncedGroup is what one sync made durable.
type syncedGroup struct {
	records int
	took    time.Duration // the sync
}

// appending is a record on its way to the disk.
type appending struct {
	rec  *Record
	size int64
	done chan error
}

// Stats is what a queue has done and holds.
type Stats struct {
	Pending       Tally
	PendingLanes  int
	Segments      int   // not all delivered
	SegmentsKept  int   // delivered and kept
	UsedBytes     int64 // everything in the directory
	FreeBytes     int64 // of the disk, at most a second old
	Accepted      Tally // since Open
	Refused       int64 // appends that found the queue full, since Open
	WriteFailures int64 // writes and syncs that failed, since Open
	Syncs         int64
	Dropped       Tally // undelivered, by DropOldest and MaxAge, since Open
	Corrupt       int64 // stretches passed over, found since Open
	CorruptBytes  int64
	TornBytes     int64 // cut off at the end of segments when the queue was opened
	StateFailures int64 // writes of state.json that failed, since Open
}

// Append puts a record at the end of the queue and returns its sequence number once
// it is as durable as Options.Sync says. It gives r its Seq and does not keep r. When
// ctx ends while the record waits it is not appended; once it is being written Append
// waits for the outcome.
//
// The error wraps [ErrFull], [ErrTooManyLanes], [ErrClosed] or what the file system
// says; the record may be in the queue all the same when a sync has failed.
func (q *Queue) Append(ctx context.Context, r *Record) (uint64, error) {
	if err := r.check(); err != nil {
		return 0, fmt.Errorf("appending to the queue: %w", err)
	}
	a := &appending{rec: r, size: r.size(), done: make(chan error, 1)}
	q.mu.Lock()
	if err := q.admit(a); err != nil {
		q.mu.Unlock()
		return 0, fmt.Errorf("appending to the queue: %w", err)
	}
	q.waiting = append(q.waiting, a)
	q.reserved += a.size
	enough := len(q.waiting) >= q.want
	q.mu.Unlock()
	if enough {
		q.kick()
	}
	select {
	case err := <-a.done:
		return r.Seq, err
	case <-ctx.Done():
	}
	q.mu.Lock()
	if i := slices.Index(q.waiting, a); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.reserved -= a.size
		q.mu.Unlock()
		return 0, fmt.Errorf("appending to the queue: %w", context.Cause(ctx))
	}
	q.mu.Unlock()
	return r.Seq, <-a.done // the body is being read
}

// admit says whether there is room. q.mu is held.
func (q *Queue) admit(a *appending) error {
	if q.closed {
		return ErrClosed
	}
	if _, ok := q.lanes[a.rec.Lane]; !ok && len(q.lanes) >= maxLanes {
		q.stats.Refused++
		return ErrTooManyLanes
	}
	for {
		err := q.room(a.size)
		if err == nil {
			return nil
		}
		// What was delivered goes first; it is kept for convenience only.
		if q.dropKept() {
			continue
		}
		if q.opt.DropOldest && q.dropOldest("full") {
			continue
		}
		q.stats.Refused++
		return err
	}
}

// room says whether n more bytes may be written.
func (q *Queue) room(n int64) error {
	n += q.reserved + segmentHeader
	if used := q.segBytes + q.other + n; used > q.opt.MaxBytes {
		return fmt.Errorf("%w: it would have %d bytes, the limit is %d", ErrFull, used, q.opt.MaxBytes)
	}
	if now := time.Now(); now.Sub(q.freeAt) >= tick || q.free-n < q.opt.MinFreeBytes {
		free, err := q.opt.free(q.dir)
		if err != nil {
			return fmt.Errorf("asking for free space: %w", err)
		}
		q.free, q.freeAt = free, now
	}
	if q.free-n < q.opt.MinFreeBytes {
		return fmt.Errorf("%w: the disk has %d bytes free, %d are to stay free", ErrFull, q.free, q.opt.MinFreeBytes)
	}
	return nil
}

// dropKept deletes the oldest delivered segment. q.mu is held.
func (q *Queue) dropKept() bool {
	if len(q.kept) == 0 {
		return false
	}
	s := q.kept[0]
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.log.Error("deleting a delivered segment", "path", s.path, "error", err.Error())
		return false
	}
	q.kept = slices.Delete(q.kept, 0, 1)
	q.segBytes -= s.size
	q.freeAt = time.Time{}
	return true
}

// dropOldest deletes the oldest segment with what is undelivered in it, if it is not
// the active one. q.mu is held.
func (q *Queue) dropOldest(why string) bool {
	if len(q.segs) == 0 || q.segs[0].active {
		return false
	}
	s := q.segs[0]
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.log.Error("dropping the oldest segment", "path", s.path, "error", err.Error())
		return false
	}
	var lost Tally
	for _, t := range s.pending {
		lost.merge(*t)
	}
	s.dropped = true
	q.segs = slices.Delete(q.segs, 0, 1)
	q.segBytes -= s.size
	q.stats.Dropped.merge(lost)
	q.freeAt = time.Time{}
	q.log.Warn("dropped undelivered records", "why", why, "records", lost.Records, "samples", lost.Samples, "oldest", lost.Oldest)
	return true
}

// kick wakes the committer.
func (q *Queue) kick() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// commit is the goroutine that writes. It ends when the queue is closed and nothing
// waits.
func (q *Queue) commit() {
	defer close(q.done)
	t := time.NewTicker(tick)
	defer t.Stop()
	q.gather = time.NewTimer(0)
	defer q.gather.Stop()
	for {
		select {
		case <-q.wake:
			q.awaitOthers()
			for q.commitGroup() {
				q.awaitOthers()
			}
		case <-t.C:
			q.maintain(time.Now())
		}
		q.mu.Lock()
		end := q.closed && len(q.waiting) == 0
		q.mu.Unlock()
		if end {
			return
		}
	}
}

// awaitOthers lets the first records of a group wait for others to share their sync
// with, when others are about to come.
//
// Senders that one sync has answered come back together. Had the first of them the next
// sync for itself, the others would wait for that one and then for their own, during
// which no sender is left to be served: with 32 senders, groups of 1 and of 31 take
// turns, and the processors rest. So a sync is put off until half of the senders are
// there; the last two groups together are all of them. The other half is served
// meanwhile. It is put off for four times what a sync takes at most, and only while
// others keep coming. A sender that is alone, or comes when the others did not, waits
// for nobody.
func (q *Queue) awaitOthers() {
	want := (q.last[0].records + q.last[1].records) / 2
	// The time of a sync includes what the goroutine waits for a processor afterwards,
	// so the shorter one is the truer.
	step := min(q.last[0].took, q.last[1].took)
	gone := time.Since(q.synced)
	if want < 2 || gone >= min(step, maxGather) {
		return
	}
	limit := min(4*step, maxGather)
	for n, few := q.fewerWait(want); few && gone < limit; gone = time.Since(q.synced) {
		q.gather.Reset(min(step, limit-gone))
		var now int
		for pause := true; pause && few; now, few = q.fewerWait(want) {
			select {
			case <-q.wake: // possibly of a record that n counts
			case <-q.gather.C:
				pause = false
			}
		}
		if now == n {
			break // nobody came
		}
		n = now
	}
	q.fewerWait(0)
}

// fewerWait says how many records wait, and whether it is worth while to wait for more,
// up to want. Until it is called again, Append wakes the committer for the record that
// makes them as many, and for no other.
func (q *Queue) fewerWait(want int) (n int, few bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.want = want
	n = len(q.waiting)
	return n, n > 0 && n < want && q.reserved < groupBytes && !q.closed
}

// commitGroup makes what waits durable; false when nothing does.
func (q *Queue) commitGroup() bool {
	q.mu.Lock()
	n, bytes := 0, int64(0)
	for n < len(q.waiting) && (n == 0 || bytes+q.waiting[n].size <= groupBytes) {
		bytes += q.waiting[n].size
		n++
	}
	group := slices.Clone(q.waiting[:n])
	q.waiting = append(q.waiting[:0], q.waiting[n:]...)
	next := q.next
	q.mu.Unlock()
	if n == 0 {
		return false
	}
	err := q.write(group, next, bytes)
	q.mu.Lock()
	q.reserved -= bytes
	if err != nil {
		q.stats.WriteFailures++
		q.freeAt = time.Time{}
		// Some of it may be on the disk all the same. A number that came twice would let
		// the delivery of one record pass for that of the other.
		q.next = max(q.next, next+uint64(n))
		if errors.Is(err, syscall.ENOSPC) {
			q.dropKept() // so that the sender's next try finds room
		}
	}
	q.mu.Unlock()
	for _, a := range group {
		a.done <- err
	}
	return true
}

// write appends a group to the active segment and syncs it.
func (q *Queue) write(group []*appending, next uint64, bytes int64) error {
	seg, err := q.activeSegment(next, bytes)
	if err != nil {
		return err
	}
	q.buf = q.buf[:0]
	for i, a := range group {
		a.rec.Seq = next + uint64(i)
		q.buf = a.rec.append(q.buf, seg.salt)
	}
	if _, err := q.file.WriteAt(q.buf, seg.size); err != nil {
		// What is behind size is not seen by readers; the next group overwrites it.
		if terr := q.file.Truncate(seg.size); terr != nil {
			err = errors.Join(err, q.abandon(seg))
		}
		return fmt.Errorf("writing to the queue: %w", err)
	}
	q.dirty = true
	if q.opt.Sync == SyncAlways {
		if err := q.sync(len(group)); err != nil {
			// After a failed sync nobody knows what is on the disk, and the next sync
			// would not say: the file is not used further.
			return errors.Join(fmt.Errorf("syncing the queue: %w", err), q.abandon(seg))
		}
	}
	q.publish(seg, group)
	return nil
}

func (q *Queue) sync(records int) error {
	began := time.Now()
	err := q.file.Sync()
	q.synced = time.Now()
	took := q.synced.Sub(began)
	if records > 0 {
		q.last = [2]syncedGroup{{records, took}, q.last[0]}
	}
	q.dirty = false
	q.mu.Lock()
	q.stats.Syncs++
	q.mu.Unlock()
	if q.opt.OnSync != nil {
		q.opt.OnSync(took, records)
	}
	return err
}

// publish lets readers see a group.
func (q *Queue) publish(seg *segment, group []*appending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range group {
		r := a.rec
		seg.size += a.size
		q.segBytes += a.size
		seg.last, seg.newest = r.Seq, r.Received
		q.free -= a.size
		if q.lanes[r.Lane] == nil {
			q.lanes[r.Lane] = &lane{}
		}
		t := seg.pending[r.Lane]
		if t == nil {
			t = &Tally{}
			seg.pending[r.Lane] = t
		}
		t.add(r, int64(len(r.Body)))
		q.stats.Accepted.add(r, int64(len(r.Body)))
	}
	q.next = seg.last + 1
	close(q.changed)
	q.changed = make(chan struct{})
}

// activeSegment returns the segment to write n bytes to, and makes one when there is
// none or the last one is full.
func (q *Queue) activeSegment(next uint64, n int64) (*segment, error) {
	q.mu.Lock()
	seg := q.active()
	q.mu.Unlock()
	if seg != nil && (seg.size == segmentHeader || seg.size+n <= q.opt.SegmentBytes) {
		return seg, nil
	}
	if seg != nil {
		if err := q.seal(seg); err != nil {
			return nil, err
		}
	}
	seg = &segment{
		path: filepath.Join(q.dir, segmentFile(next, false)), first: next, last: next - 1,
		salt: rand.Uint32(), size: segmentHeader, created: time.Now(), active: true, pending: map[Lane]*Tally{},
	}
	file, err := q.opt.create(seg.path)
	if errors.Is(err, fs.ErrExist) {
		// Left by a segment that could not be begun; it holds no record, or next were
		// greater.
		if err = q.quarantineFile(seg.path, "it was never begun"); err == nil {
			file, err = q.opt.create(seg.path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("beginning a segment: %w", err)
	}
	_, err = file.WriteAt(appendSegmentHeader(nil, seg.salt, next), 0)
	if err == nil && q.opt.Sync != SyncNever {
		if err = file.Sync(); err == nil {
			err = durable.SyncDir(q.dir)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("beginning a segment: %w", errors.Join(err, file.Close(), os.Remove(seg.path)))
	}
	q.file = file
	q.mu.Lock()
	q.segs = append(q.segs, seg)
	q.segBytes += seg.size
	q.mu.Unlock()
	return seg, nil
}

// active returns the active segment, or nil. q.mu is held.
func (q *Queue) active() *segment {
	if n := len(q.segs); n > 0 && q.segs[n-1].active {
		return q.segs[n-1]
	}
	return nil
}

// seal ends the active segment.
func (q *Queue) seal(seg *segment) error {
	if q.dirty && q.opt.Sync != SyncNever {
		if err := q.sync(0); err != nil {
			return errors.Join(fmt.Errorf("syncing the queue: %w", err), q.abandon(seg))
		}
	}
	err := q.file.Close()
	q.file, q.dirty = nil, false
	q.mu.Lock()
	seg.active = false
	q.mu.Unlock()
	if err != nil {
		return fmt.Errorf("closing a segment: %w", err)
	}
	if err := q.settle(); err != nil {
		q.log.Error("putting delivered segments aside", "error", err.Error()) // comes again
	}
	return nil
}

// abandon ends a segment that could not be written to. What readers have seen of it
// stays.
func (q *Queue) abandon(seg *segment) error {
	//nolint:errcheck // best effort: what is behind size may be records that nobody was promised
	q.file.Truncate(seg.size)
	err := q.file.Close()
	q.file, q.dirty = nil, false
	q.mu.Lock()
	defer q.mu.Unlock()
	seg.active = false
	if seg.last < seg.first {
		q.segs = slices.DeleteFunc(q.segs, func(s *segment) bool { return s == seg })
		q.segBytes -= seg.size
		err = errors.Join(err, os.Remove(seg.path))
	}
	return err
}

// maintain does what is due once a second.
func (q *Queue) maintain(now time.Time) {
	q.mu.Lock()
	seg := q.active()
	q.mu.Unlock()
	if seg != nil && seg.last >= seg.first && now.Sub(seg.created) >= q.opt.SegmentAge {
		if err := q.seal(seg); err != nil {
			q.log.Error("closing a segment", "error", err.Error())
		}
		seg = nil
	}
	if seg != nil && q.dirty && q.opt.Sync == SyncInterval {
		if err := q.sync(0); err != nil {
			q.log.Error("syncing the queue", "error", err.Error())
			q.mu.Lock()
			q.stats.WriteFailures++
			q.mu.Unlock()
			if err := q.abandon(seg); err != nil {
				q.log.Error("closing a segment", "error", err.Error())
			}
		}
	}
	other := int64(-1)
	if q.ticks++; q.ticks%10 == 0 {
		other = otherBytes(q.dir)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if other >= 0 {
		q.other = other
	}
	for len(q.kept) > 0 && now.Sub(q.kept[0].newest) > q.opt.KeepSent {
		if !q.dropKept() {
			break
		}
	}
	for q.opt.MaxAge > 0 && len(q.segs) > 0 && now.Sub(q.segs[0].newest) > q.opt.MaxAge {
		if !q.dropOldest("age") {
			break
		}
	}
}

// otherBytes adds up what is in the directory beside segments.
func otherBytes(dir string) int64 {
	var n int64
	//nolint:errcheck // a file that goes away while we look takes no space
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // as above
		}
		if _, _, ok := parseName(d.Name()); ok && filepath.Dir(path) == filepath.Clean(dir) {
			return nil
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// Changed returns a channel that is closed when records come.
func (q *Queue) Changed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.changed
}

// Stats returns what the queue has done and holds.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Segments, s.SegmentsKept = len(q.segs), len(q.kept)
	s.UsedBytes = q.segBytes + q.other
	if now := time.Now(); now.Sub(q.freeAt) >= tick {
		if free, err := q.opt.free(q.dir); err == nil {
			q.free, q.freeAt = free, now
		}
	}
	s.FreeBytes = q.free
	lanes := map[Lane]bool{}
	for _, seg := range q.segs {
		for l, t := range seg.pending {
			s.Pending.merge(*t)
			lanes[l] = lanes[l] || t.Records > 0
		}
	}
	for _, pending := range lanes {
		if pending {
			s.PendingLanes++
		}
	}
	return s
}

// Ready says whether a record of usual size would be accepted now.
func (q *Queue) Ready() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if q.opt.DropOldest || len(q.kept) > 0 {
		return nil
	}
	return q.room(64 << 10)
}

// Close waits for appends under way, makes everything durable and gives the queue
// free. Appends that come later get [ErrClosed].
func (q *Queue) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		<-q.done
		return nil
	}
	q.closed = true
	q.mu.Unlock()
	q.kick()
	<-q.done
	var errs []error
	if q.file != nil {
		q.mu.Lock()
		seg := q.active()
		q.mu.Unlock()
		if seg.last < seg.first { // nothing was ever written to it
			errs = append(errs, q.abandon(seg))
		} else {
			errs = append(errs, q.seal(seg))
		}
	}
	errs = append(errs, q.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the queue: %w", err)
	}
	return nil
}
