package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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

	scratch   []byte
	relabeled []byte
	encoded   []byte
}

// prepare returns plan entry n as a job. It reads and decodes, and so may fail; the job's body is its own.
func (p *preparer) prepare(ctx context.Context, n int) (j *job, err error) {
	object, replica, pass := p.plan.Object(n)
	entry := &p.corpus.Entries()[object]
	raw, err := p.body(ctx, object)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", entry.Key, err)
	}
	if p.hash {
		defer func() {
			if j != nil {
				sum := sha256.Sum256(j.req.Body)
				j.req.SHA256 = hex.EncodeToString(sum[:])
			}
		}()
	}
	source := p.sources.At(object, replica)
	if used, ok := p.jobs.Get().(*job); ok {
		j = used
	} else {
		j = new(job)
	}
	*j = job{n: n, warmup: n < p.plan.Warmup, due: p.plan.Due(n), source: source.number, virtual: object*p.plan.FanOut + replica}
	j.req = Outgoing{
		Org: entry.Key.Org, Cluster: source.Cluster, Version: entry.Key.Version, Body: raw, Warmup: j.warmup,
		Samples: entry.Samples, Histograms: entry.Histograms, Exemplars: entry.Exemplars,
	}
	if !p.corpus.InMemory() {
		j.budget = int64(len(raw))
	}
	delta := p.delta(j.due, pass, entry)
	if delta == 0 && replica == 0 {
		// Bodies of a corpus in memory cost nothing more; others wait here like shifted ones.
		return j, nil
	}
	if p.scratch, err = remotewrite.Decode(p.scratch[:0], raw, p.maxDecoded); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", entry.Key, err)
	}
	if err = remotewrite.Shift(entry.Key.Version, p.scratch, delta); err != nil {
		return nil, fmt.Errorf("shifting the timestamps of %s: %w", entry.Key, err)
	}
	decoded := p.scratch
	if replica > 0 {
		if p.relabeled, err = remotewrite.Relabel(p.relabeled[:0], entry.Key.Version, p.scratch, p.label, source.Cluster); err != nil {
			return nil, fmt.Errorf("relabelling %s: %w", entry.Key, err)
		}
		decoded = p.relabeled
	}
	// Encode wants room for a body that does not shrink, ten times what nearly all of them take: not in the look-ahead.
	p.encoded = snappy.Encode(p.encoded[:cap(p.encoded)], decoded)
	j.req.Body = bytes.Clone(p.encoded)
	j.budget = int64(len(j.req.Body))
	return j, nil
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
