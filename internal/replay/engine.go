package replay

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// Order says whether requests of one source may overtake each other.
type Order string

// The orders. A Prometheus receiver rejects out-of-order samples, so a source (an org's cluster) has by
// default at most one request in flight.
const (
	OrderSource Order = "source"
	OrderNone   Order = "none"
)

// Config is one run.
type Config struct {
	Corpus      *capture.Corpus
	Plan        *Plan
	Sender      Sender
	Destination string // names the endpoint in pairs, e.g. host:port
	Timestamps  TimestampMode
	Order       Order
	MaxInFlight int           // open loop: requests in flight at most; time spent waiting for one is latency
	Timeout     time.Duration // of one request; > 0
	MaxDecoded  int           // cap on one object's decoded size in bytes; 0 = remotewrite's default
	// Lookahead bounds the bytes of prepared bodies that wait or are in flight; 0 means 128 MiB.
	Lookahead int64
	// Progress is called about every Interval from one goroutine, and once more at the end. May be nil.
	Progress func(Progress)
	Interval time.Duration
}

// Progress is a run as seen from outside while it goes on; warm-up included.
type Progress struct {
	Elapsed            time.Duration
	Planned            int // 0 when only a duration ends the run
	Sent, OK, Failed   int64
	TimedOut, InFlight int64
	P50, P99           time.Duration // of requests that were ok, from due time
	Due                int64         // entries whose time has come
	WarmingUp, Final   bool
	PlannedTime        time.Duration
}

// Result is what a run leaves behind: the merged recorder and what the engine knows beside it.
type Result struct {
	Recorder    *stats.Recorder
	StartedAt   time.Time // wall clock
	FinishedAt  time.Time
	Planned     int // measured entries
	NotSent     int // of them never sent, because the run was interrupted
	Interrupted bool
	NotReady    int // entries whose body was not prepared when they were due, warm-up included
	Client      ClientUse
}

// Run executes the plan. When ctx is cancelled it stops starting requests, waits for those in flight
// (each bounded by Timeout) and returns the full result with Interrupted set: nothing measured is lost.
// The error is for what stops a run altogether, such as a corpus that cannot be read; requests that fail
// are results.
func Run(ctx context.Context, c Config) (*Result, error) {
	e, err := newEngine(c)
	if err != nil {
		return nil, err
	}
	return e.run(ctx)
}

func newEngine(c Config) (*engine, error) {
	if c.Timeout <= 0 {
		return nil, errors.New("request timeout must be positive")
	}
	if c.Lookahead <= 0 {
		c.Lookahead = 128 << 20
	}
	if c.Interval <= 0 {
		c.Interval = 250 * time.Millisecond
	}
	workers := c.MaxInFlight
	if c.Plan.Loop == Closed {
		workers = c.Plan.Concurrency
	}
	return &engine{Config: c, workers: max(workers, 1), nap: nap, spin: spinFor}, nil
}

type engine struct {
	Config

	workers  int
	nap      func(time.Duration) // sleeps about that long; a test's fake clock has another
	spin     time.Duration       // the last stretch before a due time, watched instead of slept
	start    time.Time           // monotonic zero of every offset
	disp     *dispatcher
	prepared chan *job
	budget   *byteBudget
	notReady int // the feeder's own

	live struct { // what Progress reads; mu guards hist only
		sent, ok, failed, timedOut, inFlight, due atomic.Int64

		mu   sync.Mutex
		hist *stats.Histogram
	}
}

// since is the run's clock: monotonic time from its start.
func (e *engine) since() time.Duration { return time.Since(e.start) }

func (e *engine) run(ctx context.Context) (*Result, error) {
	names, sources := sourcesOf(e.Corpus)
	e.disp = newDispatcher(e.Order, len(names))
	e.prepared = make(chan *job, 1024)
	e.budget = newByteBudget(e.Lookahead)
	e.live.hist = stats.NewHistogram()
	before := readUse()
	// A little lead lets the preparer fill the look-ahead and the workers start before anything is due.
	const lead = 20 * time.Millisecond
	e.start = time.Now().Add(lead)
	startedAt := e.start

	// feedCtx ends the feeding side: by the caller, or by a body that cannot be prepared.
	feedCtx, stopFeeding := context.WithCancelCause(ctx)
	defer stopFeeding(nil)

	recorders := make([]*stats.Recorder, e.workers)
	var work sync.WaitGroup
	for i := range recorders {
		recorders[i] = stats.NewRecorder()
		work.Go(func() { e.work(recorders[i], names) }) //nolint:contextcheck // what is sent is waited for, also after the end of ctx
	}
	var prep sync.WaitGroup
	prep.Go(func() {
		if err := e.prepareAll(feedCtx, sources); err != nil {
			stopFeeding(err)
		}
	})
	stopProgress := e.reportProgress()

	// A cancelled run starts nothing more, also while the feeder is held up.
	detach := context.AfterFunc(feedCtx, e.disp.cancel)
	whole := e.feed(feedCtx)
	if detach(); whole {
		e.disp.close()
	} else {
		e.disp.cancel()
	}
	failed := context.Cause(feedCtx)
	stopFeeding(nil)
	prep.Wait()
	work.Wait()
	stopProgress()
	if failed != nil && ctx.Err() == nil {
		return nil, failed
	}

	total := stats.NewRecorder()
	for _, r := range recorders {
		total.Merge(r)
	}
	res := &Result{
		Recorder: total, StartedAt: startedAt.UTC(), FinishedAt: time.Now().UTC(), Interrupted: ctx.Err() != nil,
		NotReady: e.notReady, Planned: e.Plan.Requests, Client: readUse().minus(before),
	}
	sent := int(total.Counts().Sent)
	if res.Planned == 0 {
		res.Planned = sent // the plan was a duration
	}
	res.NotSent = res.Planned - sent
	return res, nil
}

// prepareAll fills the look-ahead in plan order and closes it at the end.
func (e *engine) prepareAll(ctx context.Context, sources []int) error {
	defer close(e.prepared)
	p := &preparer{
		corpus: e.Corpus, plan: e.Plan, mode: e.Timestamps, maxDecoded: e.MaxDecoded, start: e.start, since: e.since,
		sources: sources, pass: -1, newestMS: newest(e.Corpus),
	}
	for n := 0; e.Plan.Total() == 0 || n < e.Plan.Total(); n++ {
		if ctx.Err() != nil {
			return nil // that the caller stops is not the preparer's failure
		}
		j, err := p.prepare(ctx, n)
		if err != nil {
			return err
		}
		if !e.budget.acquire(ctx, j.budget) {
			return nil
		}
		select {
		case e.prepared <- j:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// feed submits prepared jobs, in an open loop each at its due time. It returns false when it ended before
// the plan did.
func (e *engine) feed(ctx context.Context) (whole bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tightenTimer()
	// A closed loop looks this far ahead for a source whose turn is free.
	room := max(64, 8*e.workers)
	for {
		j, waited, ok := e.nextPrepared(ctx)
		if !ok {
			return ctx.Err() == nil
		}
		if e.Plan.Loop == Open {
			if waited && e.since() > j.due {
				e.notReady++
			}
			if !e.sleepUntil(ctx, j.due) {
				return false
			}
		} else {
			if !e.sleepUntil(ctx, 0) {
				return false
			}
			e.disp.waitRoom(room)
			if e.Plan.Duration > 0 && e.since() >= e.Plan.Duration {
				return false
			}
		}
		e.live.due.Add(1)
		e.disp.submit(j)
	}
}

// nextPrepared takes the next job from the look-ahead; waited says that it was not there yet, ok that
// there is one.
func (e *engine) nextPrepared(ctx context.Context) (j *job, waited, ok bool) {
	select {
	case j, ok = <-e.prepared:
		return j, false, ok
	default:
	}
	select {
	case j, ok = <-e.prepared:
		return j, true, ok
	case <-ctx.Done():
		return nil, true, false
	}
}

// sleepUntil returns at offset t of the run, or false when ctx ends first. It sleeps in slices, so that a
// cancelled run does not wait for a far due time, and spins over the last stretch.
func (e *engine) sleepUntil(ctx context.Context, t time.Duration) bool {
	const slice = 50 * time.Millisecond
	for {
		rest := t - e.since()
		switch {
		case rest <= 0:
			return ctx.Err() == nil
		case rest > e.spin:
			if ctx.Err() != nil {
				return false
			}
			e.nap(min(rest-e.spin, slice))
		}
	}
}

// work sends jobs until the dispatcher has no more.
func (e *engine) work(rec *stats.Recorder, names []string) {
	hand := make(chan *job, 1)
	var done *job
	for {
		j := e.disp.next(hand, done)
		if j == nil {
			return
		}
		e.send(j, rec, names)
		done = j
	}
}

// send delivers one job and records it. It does not take the run's context: what is sent is waited for.
func (e *engine) send(j *job, rec *stats.Recorder, names []string) {
	ctx, cancel := context.WithTimeout(context.Background(), e.Timeout)
	defer cancel()
	e.live.sent.Add(1)
	e.live.inFlight.Add(1)
	started := e.since()
	if e.Plan.Loop == Closed {
		j.due = started
	}
	resp := e.Sender.Send(ctx, &j.req)
	finished := e.since()
	e.live.inFlight.Add(-1)

	// The measured part's own zero: its first second is the timeline's first.
	zero := e.Plan.Due(e.Plan.Warmup)
	o := stats.Observation{
		Pair:     stats.PairKey{Source: names[j.source], Destination: e.Destination},
		Intended: j.due - zero, Started: started - zero, Done: finished - zero,
		Status: resp.Status, Samples: int64(j.req.Samples), Bytes: int64(len(j.req.Body)), Warmup: j.warmup,
	}
	o.Outcome, o.ErrorClass, o.ErrorExample, o.SamplesWritten = judge(&j.req, resp)
	rec.Record(o)
	if e.Plan.Loop == Open && j.slotFree && !j.warmup {
		rec.RecordScheduleError(started - j.due)
	}
	switch o.Outcome {
	case stats.OK:
		e.live.ok.Add(1)
		e.live.mu.Lock()
		_ = e.live.hist.Record(finished - j.due) // the recorder has counted anything odd about it
		e.live.mu.Unlock()
	case stats.TimedOut:
		e.live.timedOut.Add(1)
	default:
		e.live.failed.Add(1)
	}
	e.budget.release(j.budget)
	j.req.Body = nil
}

// judge decides what a response means. A 2xx of protocol 2.0 that confirms less than was sent is a
// failure: the samples are gone and only these headers say so.
func judge(r *Outgoing, resp Response) (outcome stats.Outcome, class, example string, written int64) {
	if resp.Written != nil {
		written = int64(resp.Written.Samples)
	}
	switch {
	case resp.Timeout:
		return stats.TimedOut, errorClass(resp), resp.Err.Error(), 0
	case resp.Err != nil:
		return stats.Failed, errorClass(resp), resp.Err.Error(), 0
	case resp.Status/100 != 2:
		return stats.Failed, errorClass(resp), resp.Message, written
	case resp.Written == nil:
		// Protocol 1.0 confirms nothing beyond the status.
		return stats.OK, "", "", int64(r.Samples)
	case resp.Written.Samples < r.Samples || resp.Written.Histograms < r.Histograms || resp.Written.Exemplars < r.Exemplars:
		return stats.Failed, "short_write", fmt.Sprintf("%d of %d samples, %d of %d histograms, %d of %d exemplars confirmed",
			resp.Written.Samples, r.Samples, resp.Written.Histograms, r.Histograms, resp.Written.Exemplars, r.Exemplars), written
	}
	return stats.OK, "", "", written
}

// reportProgress starts the goroutine that calls Progress; the returned func ends it and waits.
func (e *engine) reportProgress() (stop func()) {
	if e.Progress == nil {
		return func() {}
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(e.Interval)
		defer t.Stop()
		for {
			select {
			case <-quit:
				e.Progress(e.snapshot(true))
				return
			case <-t.C:
				e.Progress(e.snapshot(false))
			}
		}
	})
	return func() {
		close(quit)
		wg.Wait()
	}
}

func (e *engine) snapshot(final bool) Progress {
	p := Progress{
		Elapsed: max(e.since(), 0), Planned: e.Plan.Total(), Final: final, PlannedTime: e.Plan.Duration,
		Sent: e.live.sent.Load(), OK: e.live.ok.Load(), Failed: e.live.failed.Load(), TimedOut: e.live.timedOut.Load(),
		InFlight: e.live.inFlight.Load(), Due: e.live.due.Load(),
	}
	p.WarmingUp = p.Due < int64(e.Plan.Warmup)
	if e.Plan.Loop == Open {
		p.PlannedTime = e.Plan.Due(e.Plan.Total())
	}
	e.live.mu.Lock()
	defer e.live.mu.Unlock()
	if e.live.hist.Count() > 0 {
		p.P50, p.P99 = e.live.hist.Quantile(0.5), e.live.hist.Quantile(0.99)
	}
	return p
}

// sourcesOf numbers the sources of a corpus: a source is an org's cluster.
func sourcesOf(c *capture.Corpus) (names []string, byObject []int) {
	index := map[string]int{}
	for _, en := range c.Entries() {
		name := en.Key.Org + "/" + en.Key.Cluster
		i, ok := index[name]
		if !ok {
			i = len(names)
			index[name] = i
			names = append(names, name)
		}
		byObject = append(byObject, i)
	}
	return names, byObject
}

// newest is the newest sample timestamp in a corpus, in ms since the epoch.
func newest(c *capture.Corpus) int64 {
	var ms int64
	for _, en := range c.Entries() {
		if en.HasTimestamp {
			ms = max(ms, en.MaxTimestampMS)
		}
	}
	return ms
}
