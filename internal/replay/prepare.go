package replay

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/golang/snappy"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// TimestampMode says what happens to the sample timestamps of captured bodies.
type TimestampMode string

// The timestamp modes.
const (
	// Keep sends the captured bytes as they are. A receiver that stores by content sees duplicates from
	// the second pass on.
	Keep TimestampMode = "keep"
	// Shift moves a whole pass through the corpus by one distance: gaps are preserved, nothing is in the
	// future, and no series goes back in time from one pass to the next. The corpus' newest sample lies at the
	// pass' first due time, or before it where passes follow each other faster than they were captured.
	Shift TimestampMode = "shift"
	// Now moves every request by itself, so that its newest sample lies at its own due time.
	Now TimestampMode = "now"
)

// preparer makes plan entries ready to send, in plan order and ahead of time: un-snappy, patch, re-snappy
// cost far more than a schedule error may.
type preparer struct {
	corpus     *capture.Corpus
	jobs       *sync.Pool
	plan       *Plan
	sources    *SourceTable
	ahead      *readAhead // nil: the corpus is in memory
	label      string     // that a fan-out sets to the replica's cluster
	hash       bool
	mode       TimestampMode
	maxDecoded int
	start      time.Time            // wall clock of the run's start
	since      func() time.Duration // since the start
	passes     *passes              // in the mode Shift

	templates templates
	decoded   []byte
	encoded   []byte
}

// templates keep what is made of an object once: one sent again, by another replica or in another pass, costs a copy then.
type templates struct {
	kept  map[templateKey]*remotewrite.Template
	bytes int64 // that they take
	full  bool  // of another there was no room
	// A pass goes through all objects before it comes back to the first, so what is kept stays, and of a larger corpus the
	// latest object's are at hand for its replicas.
	latest map[templateKey]*remotewrite.Template
	of     int // latest's object
}

// templateBytes bounds the templates kept.
const templateBytes = 64 << 20

type templateKey struct{ object, width int } // of the replica's name in bytes; -1 = the labels stay

// prepare returns plan entry n as a job. It reads and decodes, and so may fail; the job's body is its own.
func (p *preparer) prepare(ctx context.Context, n int) (*job, error) {
	j := p.outline(n)
	if err := p.fill(ctx, j); err != nil {
		return nil, err
	}
	return j, nil
}

// outline returns plan entry n as a job without a body. Entries are asked for in their order.
func (p *preparer) outline(n int) *job {
	object, replica, pass := p.plan.Object(n)
	entry := &p.corpus.Entries()[object]
	source := p.sources.At(object, replica)
	j, ok := p.jobs.Get().(*job)
	if !ok {
		j = new(job)
	}
	*j = job{buf: j.buf, n: n, warmup: n < p.plan.Warmup, due: p.plan.Due(n), source: source.number, virtual: object*p.plan.FanOut + replica}
	j.req = Outgoing{
		Org: entry.Key.Org, Cluster: source.Cluster, Version: entry.Key.Version, Warmup: j.warmup,
		Samples: entry.Samples, Histograms: entry.Histograms, Exemplars: entry.Exemplars,
	}
	j.deltaMS = p.delta(j.due, pass, entry)
	return j
}

// fill makes the body of a job, and says what of the look-ahead it takes.
func (p *preparer) fill(ctx context.Context, j *job) error {
	object, replica := j.virtual/p.plan.FanOut, j.virtual%p.plan.FanOut
	entry := &p.corpus.Entries()[object]
	raw, err := p.body(ctx, object)
	if err != nil {
		return fmt.Errorf("reading %s: %w", entry.Key, err)
	}
	return p.compose(j, entry, raw, replica)
}

// compose makes the body of a job of the captured one.
func (p *preparer) compose(j *job, entry *capture.Entry, raw []byte, replica int) error {
	j.req.Body = raw
	if !p.corpus.InMemory() {
		j.budget = int64(len(raw)) // bodies of a corpus in memory cost nothing more
	}
	if j.deltaMS != 0 || replica > 0 {
		label := ""
		if replica > 0 {
			label = p.label
		}
		if err := p.write(j.virtual/p.plan.FanOut, entry, raw, label, j.req.Cluster, j.deltaMS); err != nil {
			return err
		}
		// Encode wants room for a body that does not shrink, ten times what nearly all of them take: not in the look-ahead.
		p.encoded = snappy.Encode(p.encoded[:cap(p.encoded)], p.decoded)
		j.buf = append(slices.Grow(j.buf[:0], len(p.encoded)), p.encoded...)
		j.req.Body = j.buf
		j.budget = int64(cap(j.buf))
	}
	if p.hash {
		sum := sha256.Sum256(j.req.Body)
		j.req.SHA256 = hex.EncodeToString(sum[:])
	}
	return nil
}

// write puts the message of an object into p.decoded, relabelled if there is a label and shifted.
func (p *preparer) write(object int, entry *capture.Entry, raw []byte, label, value string, delta int64) error {
	key := templateKey{object, len(value)}
	if label == "" {
		key.width, value = -1, ""
	}
	ts := &p.templates
	if ts.kept == nil {
		ts.kept, ts.latest = map[templateKey]*remotewrite.Template{}, map[templateKey]*remotewrite.Template{}
	}
	if ts.of != object {
		ts.of = object
		clear(ts.latest)
	}
	t := cmp.Or(ts.kept[key], ts.latest[key])
	if t == nil {
		var err error
		if p.decoded, err = remotewrite.Decode(p.decoded[:0], raw, p.maxDecoded); err != nil {
			return fmt.Errorf("decoding %s: %w", entry.Key, err)
		}
		if ts.full && label == "" { // it would serve once
			if err := remotewrite.Shift(entry.Key.Version, p.decoded, delta); err != nil {
				return fmt.Errorf("shifting the timestamps of %s: %w", entry.Key, err)
			}
			return nil
		}
		if t, err = remotewrite.NewTemplate(entry.Key.Version, p.decoded, label, value); err != nil {
			return fmt.Errorf("preparing %s: %w", entry.Key, err)
		}
		if n := t.Size(); !ts.full && ts.bytes+n <= templateBytes {
			ts.kept[key] = t
			ts.bytes += n
		} else {
			ts.full = true
			ts.latest[key] = t
		}
	}
	var err error
	if p.decoded, err = t.Append(p.decoded[:0], delta, value); err != nil {
		return fmt.Errorf("shifting the timestamps of %s: %w", entry.Key, err)
	}
	return nil
}

// body reads the body of an object.
func (p *preparer) body(ctx context.Context, object int) ([]byte, error) {
	if p.ahead != nil {
		return p.ahead.body(ctx, object)
	}
	return p.corpus.Body(ctx, object)
}

// delta is how far the timestamps of an entry are moved, in ms.
func (p *preparer) delta(due time.Duration, pass int, entry *capture.Entry) int64 {
	if p.mode == Keep || !entry.HasTimestamp {
		return 0
	}
	if p.plan.Loop == Closed {
		due = p.since() // nothing is due in a closed loop; it will be sent soon
	}
	dueMS := p.start.Add(due).UnixMilli()
	if p.mode == Now {
		return dueMS - entry.MaxTimestampMS
	}
	return p.passes.of(pass, dueMS)
}
