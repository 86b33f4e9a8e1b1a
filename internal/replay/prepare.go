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
	composer

	jobs    *sync.Pool
	plan    *Plan
	sources *SourceTable
	ahead   *readAhead // nil: the corpus is in memory
	mode    TimestampMode
	start   time.Time            // wall clock of the run's start
	since   func() time.Duration // since the start
	passes  *passes              // in the mode Shift
}

// composer makes bodies of captured ones. One goroutine at a time uses it.
type composer struct {
	corpus     *capture.Corpus
	fanOut     int
	label      string // that a fan-out sets to the replica's cluster
	hash       bool
	maxDecoded int

	kept *templates
	// A pass goes through all objects before it comes back to the first, so what is kept stays, and of a larger corpus the
	// latest object's are at hand for its replicas.
	latest  map[templateKey]*remotewrite.Template
	of      int // latest's object
	decoded []byte
	encoded []byte
}

// templates keep what is made of an object once: one sent again, by another replica or in another pass, costs a copy then.
type templates struct {
	mu    sync.Mutex
	all   map[templateKey]*remotewrite.Template // guarded by mu
	bytes int64                                 // guarded by mu: that they take
	full  bool                                  // guarded by mu: of another there was no room
}

// templateBytes bounds the templates kept.
const templateBytes = 64 << 20

type templateKey struct{ object, width int } // of the replica's name in bytes; -1 = the labels stay

func newTemplates() *templates {
	return &templates{all: map[templateKey]*remotewrite.Template{}}
}

// get returns a template, or nil; full says that another will not be kept.
func (ts *templates) get(key templateKey) (t *remotewrite.Template, full bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.all[key], ts.full
}

// keep returns false where there is no room for t.
func (ts *templates) keep(key templateKey, t *remotewrite.Template) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.all[key] != nil { // somebody else was faster
		return true
	}
	n := t.Size()
	if ts.full = ts.full || ts.bytes+n > templateBytes; ts.full {
		return false
	}
	ts.all[key] = t
	ts.bytes += n
	return true
}

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
	read := p.corpus.Body
	if p.ahead != nil {
		read = p.ahead.body
	}
	raw, err := read(ctx, p.object(j))
	return p.compose(j, raw, err)
}

// object is the corpus object that a job sends.
func (c *composer) object(j *job) int { return j.virtual / c.fanOut }

// compose makes the body of a job of the captured one, if that could be read.
func (c *composer) compose(j *job, raw []byte, err error) error {
	entry := &c.corpus.Entries()[c.object(j)]
	if err != nil {
		return fmt.Errorf("reading %s: %w", entry.Key, err)
	}
	j.req.Body = raw
	if !c.corpus.InMemory() {
		j.budget = int64(len(raw)) // bodies of a corpus in memory cost nothing more
	}
	if replicated := j.virtual%c.fanOut > 0; replicated || j.deltaMS != 0 {
		if err := c.write(j, entry, raw, replicated); err != nil {
			return err
		}
		j.req.Body = j.buf
		j.budget = int64(cap(j.buf))
	}
	if c.hash {
		sum := sha256.Sum256(j.req.Body)
		j.req.SHA256 = hex.EncodeToString(sum[:])
	}
	return nil
}

// quick says that composing a job's body takes next to nothing.
func (c *composer) quick(j *job) bool {
	if !c.corpus.InMemory() {
		return false
	}
	replicated := j.virtual%c.fanOut > 0
	if !replicated && j.deltaMS == 0 {
		return true
	}
	t, _ := c.kept.get(c.key(j, replicated))
	return t != nil
}

// key is what a job's template is kept under.
func (c *composer) key(j *job, rename bool) templateKey {
	if rename {
		return templateKey{c.object(j), len(j.req.Cluster)}
	}
	return templateKey{c.object(j), -1}
}

// write makes a job's body in its buffer: shifted and, if it is to be, under its replica's name.
func (c *composer) write(j *job, entry *capture.Entry, raw []byte, rename bool) error {
	key, label, value := c.key(j, rename), "", ""
	if rename {
		label, value = c.label, j.req.Cluster
	}
	if c.latest == nil {
		c.latest = map[templateKey]*remotewrite.Template{}
	}
	if c.of != key.object {
		c.of = key.object
		clear(c.latest)
	}
	t, full := c.kept.get(key)
	if t = cmp.Or(t, c.latest[key]); t == nil {
		var err error
		if c.decoded, err = remotewrite.Decode(c.decoded[:0], raw, c.maxDecoded); err != nil {
			return fmt.Errorf("decoding %s: %w", entry.Key, err)
		}
		if full && !rename { // it would serve once
			if err := remotewrite.Shift(entry.Key.Version, c.decoded, j.deltaMS); err != nil {
				return fmt.Errorf("shifting the timestamps of %s: %w", entry.Key, err)
			}
			// Encode wants room for a body that does not shrink, ten times what nearly all of them take: not in the look-ahead.
			c.encoded = snappy.Encode(c.encoded[:cap(c.encoded)], c.decoded)
			j.buf = append(slices.Grow(j.buf[:0], len(c.encoded)), c.encoded...)
			return nil
		}
		// Of the names of one length the first makes the template, whichever is wanted: how well a block compresses depends on
		// it, and shards of a run are to send the bytes that one process would.
		model := value
		if rename {
			model = replicaName(entry.Key.Cluster, firstOfWidth(len(value)-len(replicaName(entry.Key.Cluster, 0))+1))
		}
		if t, err = remotewrite.NewTemplate(entry.Key.Version, c.decoded, label, model); err != nil {
			return fmt.Errorf("preparing %s: %w", entry.Key, err)
		}
		if !c.kept.keep(key, t) {
			c.latest[key] = t
		}
	}
	var err error
	if j.buf, err = t.Append(j.buf[:0], j.deltaMS, value); err != nil {
		return fmt.Errorf("shifting the timestamps of %s: %w", entry.Key, err)
	}
	return nil
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
