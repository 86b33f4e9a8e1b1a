package collector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

// Forwarder sends what is in a queue. Use [NewForwarder].
type Forwarder struct {
	cfg  Config
	url  *url.URL
	log  *slog.Logger
	pace *pacer

	buildMu sync.Mutex // one batch is built at a time: that is where the memory goes
	builder builder

	mu        sync.Mutex
	stats     Stats
	declined  [3]bool // by version: the receiver does not take it
	bodyLimit int     // of a merged request, once a receiver has answered 413; 0: none
	recvLimit int64   // the same for the bodies as they came
}

// Stats is what a forwarder has done since it was made.
type Stats struct {
	Requests         int64 // delivered
	Records          int64 // delivered
	Samples          int64 // delivered, with histograms, as they were received
	SentBytes        int64 // of delivered requests
	ReceivedBytes    int64 // of the bodies in them
	Attempts         int64
	Failures         map[string]int64 // attempts that failed, by status, "network" or "timeout", or "unconfirmed"
	DeadRecords      int64
	DeadSamples      int64
	DroppedMetadata  int64 // entries of 1.0 that the receiver did not take; the samples beside them arrived
	Splits           int64
	Replanned        int64 // batches that were not the same bytes after a restart
	PlanFailures     int64 // batches sent without a plan, because the state could not be written
	InFlight         int
	LanesWaiting     int // after a failure
	LastSuccess      time.Time
	UnauthorizedFrom time.Time // since when the key is refused; zero: it is not
}

// NewForwarder returns a forwarder. The error names everything that is wrong with cfg.
func NewForwarder(cfg Config) (*Forwarder, error) {
	u, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("configuring the collector: %w", err)
	}
	cfg = cfg.withDefaults()
	f := &Forwarder{cfg: cfg, url: u, log: cfg.Logger, pace: newPacer(cfg.RequestsPerSecond)}
	f.builder.q = cfg.Queue
	f.stats.Failures = map[string]int64{}
	return f, nil
}

// Stats returns what was done.
func (f *Forwarder) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	s.Failures = maps.Clone(f.stats.Failures)
	return s
}

func (f *Forwarder) count(change func(*Stats)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.stats)
}

// course is the delivery of one lane. It belongs to its worker while one is under way,
// and to Run otherwise.
type course struct {
	lane     spool.Lane
	busy     bool
	pieces   []piece
	failures int // in a row
	notUntil time.Time
	denied   bool // waits for a key
	shown    int  // the generation of the key that was denied

	// Of a record that is sent in parts, those that are behind us.
	partsDead      bool
	partsDelivered bool
	deadSamples    int64
}

// plan is what the queue's state file keeps of the piece that is being sent.
type plan struct {
	Version remotewrite.Version `json:"version"`
	Records int                 `json:"records"`
	SHA256  string              `json:"sha256"`
	// Of a record that is sent in parts: the series of the part, whether it leaves the
	// metadata out, and whether other parts follow. Those before it are delivered.
	From       int  `json:"from,omitempty"`
	To         int  `json:"to,omitempty"`
	NoMetadata bool `json:"no_metadata,omitempty"`
	More       bool `json:"more,omitempty"`
}

// Run sends until ctx ends, which also ends the requests under way. Once drain is closed
// everything is due, and Run returns nil when nothing is left to send.
func (f *Forwarder) Run(ctx context.Context, drain <-chan struct{}) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	finished := make(chan *course, f.cfg.Concurrency)
	courses := map[spool.Lane]*course{}
	keys := time.NewTicker(keyEvery)
	defer keys.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	running, draining, turn := 0, false, 0
	for {
		changed := f.cfg.Queue.Changed()
		now := time.Now()
		next := now.Add(time.Hour)
		pending := f.cfg.Queue.Pending()
		if draining && running == 0 && len(pending) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("forwarding: %w", context.Cause(ctx))
		}
		waiting := 0
		// Not always the same lanes first.
		turn++
		for i := range pending {
			p := &pending[(i+turn)%len(pending)]
			c := courses[p.Lane]
			if c != nil && c.busy {
				continue
			}
			due := f.due(p, draining)
			if c != nil && c.notUntil.After(due) {
				due = c.notUntil
				waiting++
			}
			if due.After(now) {
				if due.Before(next) {
					next = due
				}
				continue
			}
			if running == f.cfg.Concurrency {
				continue // one that ends wakes us
			}
			if c == nil {
				c = &course{lane: p.Lane}
				courses[p.Lane] = c
			}
			c.busy = true
			running++
			workers.Go(func() {
				f.deliver(ctx, c, *p)
				finished <- c
			})
		}
		f.count(func(s *Stats) { s.InFlight, s.LanesWaiting = running, waiting })
		// Under load records come all the time, and looking at every one of them would
		// cost more than it is worth.
		if soon := now.Add(lookEvery); next.Before(soon) {
			next = soon
		}
		timer.Reset(next.Sub(now))
		for looked := false; !looked; {
			select {
			case <-changed:
				changed = nil
				if at := now.Add(lookEvery); at.Before(next) {
					next = at
					timer.Reset(time.Until(next))
				}
			case <-timer.C:
				looked = true
			case c := <-finished:
				c.busy = false
				running--
				if c.failures == 0 && len(c.pieces) == 0 {
					delete(courses, c.lane)
				}
				looked = true
			case <-keys.C:
				if f.cfg.Key != nil {
					f.cfg.Key.refresh(false)
					looked = f.wakeDenied(courses)
				}
			case <-drain:
				drain, draining, looked = nil, true, true
			case <-ctx.Done():
				workers.Wait()
				return fmt.Errorf("forwarding: %w", context.Cause(ctx))
			}
		}
	}
}

// wakeDenied lets the lanes try again that were refused with another key than the one in
// use, no matter who has read that one.
func (f *Forwarder) wakeDenied(courses map[spool.Lane]*course) (woken bool) {
	_, now := f.cfg.Key.get()
	for _, c := range courses {
		if !c.busy && c.denied && c.shown != now {
			c.denied, c.notUntil, woken = false, time.Time{}, true
		}
	}
	return woken
}

// due is when the next batch of a lane is to be sent.
func (f *Forwarder) due(p *spool.Pending, draining bool) time.Time {
	lim := f.limits()
	if draining || p.Plan != nil || p.Bytes >= lim.bytes || p.DecodedBytes >= lim.decoded || p.Samples >= lim.samples ||
		p.Records >= maxBatchRecords {
		return time.Time{}
	}
	return p.Oldest.Add(f.cfg.BatchAge)
}

func (f *Forwarder) limits() limits {
	f.mu.Lock()
	defer f.mu.Unlock()
	lim := limits{f.cfg.BatchBytes, f.cfg.BatchDecodedBytes, f.cfg.BatchSamples}
	if f.recvLimit > 0 {
		lim.bytes = min(lim.bytes, f.recvLimit)
	}
	return lim
}

// deliver sends the next batch of a lane. It returns when that is delivered, or has to
// wait.
func (f *Forwarder) deliver(ctx context.Context, c *course, p spool.Pending) {
	if len(c.pieces) == 0 {
		c.pieces = resume(&p)
	}
	for len(c.pieces) > 0 && ctx.Err() == nil {
		wait, err := f.step(ctx, c, p.Last)
		if err != nil && ctx.Err() == nil {
			c.failures++
			wait = backoff(c.failures, 0)
			f.log.Error("the queue cannot be forwarded", "lane", c.lane.String(), "retry_in", wait, "error", err.Error())
		}
		if err != nil || wait > 0 {
			c.notUntil = time.Now().Add(wait)
			return
		}
	}
}

// resume returns the pieces to begin with: a new batch, or what the process before this
// one has planned.
func resume(p *spool.Pending) []piece {
	first := piece{after: p.Done}
	if p.Plan == nil {
		return []piece{first}
	}
	first.through = p.Through
	var old plan
	if err := json.Unmarshal(p.Plan, &old); err != nil || (old.Version != remotewrite.V1 && old.Version != remotewrite.V2) || old.From < 0 || old.To < 0 {
		return []piece{first} // of another version of this program: the records are what counts
	}
	first.version, first.planned = old.Version, old.SHA256
	first.from, first.to, first.noMetadata, first.more = old.From, old.To, old.NoMetadata, old.More
	if !old.More {
		return []piece{first}
	}
	rest := piece{after: first.after, through: first.through, version: first.version, from: old.To}
	return []piece{first, rest}
}

// step does the next thing about the first piece: it sends it, or takes it apart. It says
// how long to wait before the next step; 0: not at all.
func (f *Forwarder) step(ctx context.Context, c *course, last uint64) (time.Duration, error) {
	p := &c.pieces[0]
	f.buildMu.Lock()
	b, err := f.builder.build(c.lane, *p, f.limits(), f.choose)
	f.buildMu.Unlock()
	if err != nil {
		return 0, err
	}
	if len(b.seqs) == 0 {
		// Dropped by the queue, or broken; it has counted and logged that.
		through := p.through
		if through == 0 {
			through = last
		}
		c.partsDead, c.partsDelivered, c.deadSamples = false, false, 0
		f.finish(c, through)
		return 0, nil
	}
	if p.through > b.through {
		rest := *p
		rest.after, rest.planned, rest.sent = b.through, "", 0
		c.pieces = append([]piece{*p, rest}, c.pieces[1:]...)
		p = &c.pieces[0]
	}
	p.through = b.through
	if len(b.messages) == 0 {
		f.finish(c, b.through) // messages without content
		return 0, nil
	}
	// What is delivered is not taken apart: its halves would be other bytes.
	if limit := f.messageLimit(); p.sent == 0 && limit > 0 && b.bytes() > limit && f.split(c, b, true) {
		return 0, nil
	}
	f.plan(c, p, b)
	for i := p.sent; i < len(b.messages); i++ {
		wait, moved, err := f.transmit(ctx, c, p, b, &b.messages[i])
		if err != nil || wait > 0 || moved {
			return wait, err
		}
		p.sent = i + 1
		c.failures, c.denied = 0, false
	}
	c.partsDelivered = true
	if p.more {
		c.pieces = c.pieces[1:]
		return 0, nil
	}
	f.tally(c, b)
	f.finish(c, b.through)
	return 0, nil
}

// tally counts the records of a batch once nothing of them is left to send. One that is
// dead in part is a dead record, and each of its samples is what became of it.
func (f *Forwarder) tally(c *course, b *batch) {
	f.count(func(s *Stats) {
		switch {
		case !c.partsDead:
			s.Records += b.tally.Records
			s.Samples += b.tally.Samples
			s.ReceivedBytes += b.tally.Bytes
		case !c.partsDelivered:
			s.DeadRecords += b.tally.Records
			s.DeadSamples += b.tally.Samples
		default:
			s.DeadRecords += b.tally.Records
			s.DeadSamples += c.deadSamples
			s.Samples += b.tally.Samples - c.deadSamples
		}
	})
	c.partsDead, c.partsDelivered, c.deadSamples = false, false, 0
}

// finish marks the first piece as done.
func (f *Forwarder) finish(c *course, through uint64) {
	c.pieces = c.pieces[1:]
	if err := f.cfg.Queue.Done(c.lane, through); err != nil {
		// It is done for this process, and a restart would send it again.
		f.log.Warn("delivered records are not noted as such", "lane", c.lane.String(), "error", err.Error())
	}
}

// plan notes what is about to be sent, so that after a crash it is sent as the same bytes.
func (f *Forwarder) plan(c *course, p *piece, b *batch) {
	p.version = b.messages[0].version
	if p.planned == b.sha256 {
		return
	}
	if p.planned != "" && !p.switched {
		f.log.Warn("a batch is not the same as before", "lane", c.lane.String(), "through", b.through)
		f.count(func(s *Stats) { s.Replanned++ })
	}
	text, err := json.Marshal(plan{Version: p.version, Records: len(b.seqs), SHA256: b.sha256, From: p.from, To: p.to, NoMetadata: p.noMetadata, More: p.more})
	if err == nil {
		err = f.cfg.Queue.Plan(c.lane, b.through, text)
	}
	if err != nil {
		// The disk is full: sending is what empties it, so it must not wait for it. What a
		// crash just now would cost is a batch that the receiver stores twice.
		f.log.Warn("a batch is sent without a plan", "lane", c.lane.String(), "error", err.Error())
		f.count(func(s *Stats) { s.PlanFailures++ })
		return
	}
	p.planned = b.sha256
}

// transmit sends a message until it is clear what becomes of it. moved says that the
// pieces of the course are others now.
func (f *Forwarder) transmit(ctx context.Context, c *course, p *piece, b *batch, m *message) (wait time.Duration, moved bool, err error) {
	for {
		f.count(func(s *Stats) { s.Attempts++ })
		a := f.send(ctx, c.lane, m, c.failures)
		if ctx.Err() != nil && a.verdict == later {
			return 0, true, nil // it has ended, and nothing was said of the request
		}
		if a.verdict == accepted {
			f.delivered(b, m, &a)
			return 0, false, nil
		}
		f.count(func(s *Stats) { s.Failures[a.reason()]++ })
		if m.metadata && m != &b.messages[0] && a.forGood(c.failures+1) {
			// The samples are in. Nothing of them is sent again, or given up, for metadata,
			// which senders repeat.
			f.count(func(s *Stats) { s.DroppedMetadata += int64(m.counts.Metadata) })
			return 0, false, nil
		}
		switch a.verdict {
		case denied:
			// The file may have been replaced a moment ago, or after the request was made.
			f.cfg.Key.refreshIfAny()
			if f.cfg.Key != nil {
				if _, now := f.cfg.Key.get(); now != a.generation {
					continue
				}
			}
			f.count(func(s *Stats) {
				if s.UnauthorizedFrom.IsZero() {
					s.UnauthorizedFrom = time.Now()
				}
			})
			return f.later(c, &a, true), false, nil
		case tooLarge:
			f.remember(b)
			if f.split(c, b, true) {
				return 0, true, nil
			}
			return f.dead(c, p, b, m, a)
		case refused:
			if f.split(c, b, false) {
				return 0, true, nil
			}
			return f.dead(c, p, b, m, a)
		case unsupported, unconfirmed:
			if m.metadata {
				// The rest of the batch is in, so the version that it has is the only one.
				f.count(func(s *Stats) { s.DroppedMetadata += int64(m.counts.Metadata) })
				return 0, false, nil
			}
			if f.change(c, p, b, m, &a) {
				return 0, true, nil
			}
			if b.odd && f.cfg.Protocol == 0 {
				return f.dead(c, p, b, m, a) // it cannot be had in the other version
			}
			return f.later(c, &a, false), false, nil
		case later, accepted:
		}
		return f.later(c, &a, false), false, nil
	}
}

// refreshIfAny reads the key file at once; there may be no key.
func (k *Key) refreshIfAny() {
	if k != nil {
		k.refresh(true)
	}
}

func (f *Forwarder) delivered(b *batch, m *message, a *answer) {
	f.count(func(s *Stats) {
		s.Requests++
		s.SentBytes += int64(len(m.body))
		s.LastSuccess = time.Now()
		s.UnauthorizedFrom = time.Time{}
	})
	if f.cfg.OnBatch != nil {
		f.cfg.OnBatch(Batch{
			Records: len(b.seqs), Samples: m.counts.Samples + m.counts.Histograms(), Bytes: len(m.body),
			ReceivedBytes: b.tally.Bytes, Took: a.took,
		})
	}
}

// later makes the course wait.
func (f *Forwarder) later(c *course, a *answer, denied bool) time.Duration {
	c.failures++
	c.denied, c.shown = denied, a.generation
	wait := backoff(c.failures, a.retryAfter)
	if c.failures == 1 || c.failures%10 == 0 {
		say := f.log.Warn
		if denied || a.status != 0 && a.status < http.StatusInternalServerError && a.status != http.StatusTooManyRequests && a.status != http.StatusRequestTimeout {
			say = f.log.Error // somebody has to do something about it
		}
		say("a batch was not taken and is kept", "lane", c.lane.String(), "status", a.status, "answer", a.text, "failures", c.failures, "retry_in", wait)
	}
	return wait
}

// dead puts the only record of a batch, or the part of it that the piece is, aside.
func (f *Forwarder) dead(c *course, p *piece, b *batch, m *message, a answer) (time.Duration, bool, error) {
	if err := f.bury(c.lane, *p, b, m, a); err != nil {
		return 0, false, err
	}
	samples := int64(m.counts.Samples + m.counts.Histograms())
	f.log.Error("a record was refused for good and is put aside", "lane", c.lane.String(), "seq", b.only.Seq, "status", a.status, "answer", a.text)
	c.partsDead = true
	c.deadSamples += samples
	c.failures = 0
	if p.more {
		c.pieces = c.pieces[1:]
		return 0, true, nil
	}
	f.tally(c, b)
	f.finish(c, b.through)
	return 0, true, nil
}

// split makes two pieces of the first one: half of the records each, or of the series of
// a single record when that helps. It says whether it could.
func (f *Forwarder) split(c *course, b *batch, bySeries bool) bool {
	p := c.pieces[0]
	left, right := p, p
	n := len(b.seqs)
	from, to := p.from, p.to
	if to == 0 {
		to = b.series
	}
	switch {
	case n > 1:
		middle := b.seqs[n/2-1]
		left.through, right.after = middle, middle
		// One that stands alone is sent as it came if that version is taken.
		left.version, right.version = 0, 0
	case bySeries && !b.odd && to-from > 1:
		middle := from + (to-from)/2
		left.from, left.to, left.noMetadata, left.more = from, middle, true, true
		right.from = middle
	default:
		return false
	}
	left.planned, right.planned = "", ""
	left.sent, right.sent = 0, 0
	left.switched, right.switched = false, false
	c.pieces = append([]piece{left, right}, c.pieces[1:]...)
	f.count(func(s *Stats) { s.Splits++ })
	return true
}

// remember makes later batches smaller than one that was too large.
func (f *Forwarder) remember(b *batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	limit := max(b.bytes()/2, 1)
	if f.bodyLimit == 0 || limit < f.bodyLimit {
		f.bodyLimit = limit
		f.log.Info("the receiver takes smaller requests only", "bytes", limit)
	}
	if len(b.seqs) > 1 {
		if half := b.tally.Bytes / 2; f.recvLimit == 0 || half < f.recvLimit {
			f.recvLimit = half
		}
	}
}

func (f *Forwarder) messageLimit() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bodyLimit
}

// choose says which version a request of n records is to have. own is that of the first.
func (f *Forwarder) choose(n int, own remotewrite.Version) remotewrite.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.cfg.Protocol != 0:
		return f.cfg.Protocol
	case n == 1 && !f.declined[own]:
		return own
	case f.declined[remotewrite.V2]:
		return remotewrite.V1
	}
	return remotewrite.V2
}

// change takes the other version for the first piece, once. It says whether it could.
func (f *Forwarder) change(c *course, p *piece, b *batch, m *message, a *answer) bool {
	if f.cfg.Protocol != 0 || b.odd {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.switched {
		// Neither: then it is no matter of versions, and both get another chance later.
		f.declined = [3]bool{}
		p.version, p.switched = 0, false
		return false
	}
	if a.verdict == unsupported || a.missing {
		f.declined[m.version] = true
	}
	p.version, p.switched, p.sent = remotewrite.V1+remotewrite.V2-m.version, true, 0
	f.log.Warn("trying the other protocol version", "lane", c.lane.String(), "from", m.version.String(), "to", p.version.String(), "status", a.status, "answer", a.text)
	return true
}

// Ready says whether requests can be accepted.
func Ready(q *spool.Queue) func(context.Context) error {
	return func(context.Context) error {
		err := q.Ready()
		if errors.Is(err, spool.ErrFull) {
			return fmt.Errorf("not ready: %w", err)
		}
		return err
	}
}
