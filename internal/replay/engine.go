package replay

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
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
	Retry       Retry
	// DrainTimeout bounds how long requests that wait for their source's turn or for a slot go on being started after
	// the last of the plan was due; what is left then counts as not sent and makes the run invalid. 0 = no bound.
	DrainTimeout time.Duration
	HashBodies   bool   // the sender signs: fill Outgoing.SHA256
	FanOutLabel  string // the label that a fan-out sets to the replica's cluster; "" = cluster
	// Secrets are values that must not reach a result; a target may repeat them in its answers.
	Secrets []string
	// Lookahead bounds the bytes of bodies that are prepared ahead of the time they are due and not yet answered; 0 means 128 MiB. What
	// comes due when they fill it is prepared shortly before its turn: the bodies of requests in flight come on top, about as many
	// behind them, and some hundred others.
	Lookahead int64
	// StartAt is when the run begins, unless it is zero: several processes with parts of one plan begin together. What that
	// moment is too early for leaves late and is judged as late: nothing is due later because of it.
	StartAt time.Time
	// Observe, if not nil, may change what is recorded of plan entry n. It is for tests that need latencies to be a
	// function of the plan; nothing in the program sets it.
	Observe func(n int, o *stats.Observation)
	// Progress is called about every Interval from one goroutine, and once more at the end. May be nil.
	Progress func(Progress)
	Interval time.Duration
}

// Progress is a run as seen from outside while it goes on; warm-up included.
type Progress struct {
	BeginsIn           time.Duration // before the first request can be due: bodies are being prepared, or others waited for
	Elapsed            time.Duration
	Planned            int // 0 when only a duration ends the run
	Sent, OK, Failed   int64
	TimedOut, InFlight int64
	P50, P90, P99      time.Duration // of requests that were ok, from due time
	P999, Max          time.Duration
	Retried            int64
	Due                int64 // entries whose time has come
	WarmingUp, Final   bool
	PlannedTime        time.Duration
}

// Result is what a run leaves behind: the merged recorder and what the engine knows beside it.
type Result struct {
	Recorder    *stats.Recorder
	StartedAt   time.Time // wall clock
	MeasuredAt  time.Time // wall clock: when the measured part begins, the zero of the recorder
	FinishedAt  time.Time
	Planned     int // measured entries of this shard
	Warmup      int // entries of this shard before them
	NotSent     int // of them never sent, because the run was interrupted
	Interrupted bool
	NotReady    int // entries whose body was not prepared when they were due, warm-up included
	Client      ClientUse
}

// MaxWorkers bounds the requests in flight: each has a goroutine, a recorder and a connection of its own.
const MaxWorkers = 1 << 15

// errNothingOwned says that a shard has no part of the plan.
var errNothingOwned = errors.New("no request of the plan falls to this shard")

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
	if workers > MaxWorkers {
		return nil, fmt.Errorf("%d requests in flight are more than one process can have (limit %d)", workers, MaxWorkers)
	}
	if c.FanOutLabel == "" {
		c.FanOutLabel = "cluster"
	}
	e := &engine{Config: c, workers: max(workers, 1), kept: newTemplates(), nap: nap, spin: spinFor, processors: processors()}
	if e.processors == 1 {
		e.spin = 0 // the workers need the one processor
	}
	var err error
	if e.sources, err = Sources(c.Corpus, c.Plan.FanOut); err != nil {
		return nil, err
	}
	e.ownWarmup, e.ownMeasured = c.Plan.Own()
	if c.Plan.Total() > 0 && e.ownMeasured == 0 {
		return nil, errNothingOwned
	}
	if c.Timestamps == Shift {
		e.passes = newPasses(c.Corpus, c.Plan)
	}
	return e, nil
}

type engine struct {
	Config

	workers  int
	nap      func(time.Duration) // sleeps about that long; a test's fake clock has another
	spin     time.Duration       // the last stretch before a due time, watched instead of slept
	start    time.Time           // monotonic zero of every offset
	disp     *dispatcher
	prepared chan []*job // in batches: a hand-over costs more than most of what is done with a job
	batch    []*job      // the feeder's own: what is left of the last one
	jobs     sync.Pool   // of *job that were sent
	budget   *byteBudget
	refills  *refills
	kept     *templates
	passes   *passes       // in the mode Shift
	notReady int           // the feeder's own, like zero
	zero     time.Duration // when the measured part begins

	// The sender has nothing to do with a body any more when it returns. net/http may still read one then.
	synchronous bool

	processors int   // that this process may use
	noLoop     bool  // a test wants the workers
	loop       *loop // the fast path; nil: workers send

	sources                *SourceTable
	ownWarmup, ownMeasured int // entries of this shard
	interrupted            <-chan struct{}

	live struct { // what Progress reads; mu guards hist only
		sent, ok, failed, timedOut, inFlight, due, retried atomic.Int64

		mu   sync.Mutex
		hist *stats.Histogram // since the last snapshot

		// Only Progress' goroutine touches these: what it took so far, and what it takes the next with.
		all, spare *stats.Histogram
	}
}

// since is the run's clock: monotonic time from its start.
func (e *engine) since() time.Duration { return time.Since(e.start) }

func (e *engine) run(ctx context.Context) (*Result, error) {
	e.prepared = make(chan []*job, maxBatches)
	e.budget = newByteBudget(e.Lookahead)
	e.live.hist, e.live.all, e.live.spare = stats.NewHistogram(), stats.NewHistogram(), stats.NewHistogram()
	if s, ok := e.Sender.(*RawSender); ok {
		e.synchronous = true
		s.resolve(ctx)
	}
	before := readUse()
	lead := e.lead(ctx)
	e.start = time.Now().Add(lead)
	startedAt := e.start

	// feedCtx ends the feeding side: by the caller, or by a body that cannot be prepared.
	feedCtx, stopFeeding := context.WithCancelCause(ctx)
	defer stopFeeding(nil)
	e.interrupted = ctx.Done()
	e.refills = e.newRefills(ctx, stopFeeding)
	defer e.refills.close()

	e.disp = newDispatcher(e.newTurns())
	e.zero = e.Plan.Due(e.Plan.Warmup)
	var err error
	if e.loop, err = newLoop(e, e.inline); err != nil { //nolint:contextcheck // what has been started is waited for, also after the end of ctx
		return nil, err
	}
	var prep sync.WaitGroup
	if e.loop == nil || !e.static() {
		prep.Go(func() {
			// The cause stands before the look-ahead ends, or the feeder would take the end for the plan's.
			defer e.nudge()
			defer close(e.prepared)
			if err := e.prepareAll(feedCtx); err != nil {
				stopFeeding(err)
			}
		})
	}
	execute := e.viaWorkers
	if e.loop != nil {
		defer e.loop.close()
		execute = e.viaLoop
	}
	defer withSpare()()
	stopProgress := e.reportProgress()
	total, use := execute(ctx, feedCtx, func() {
		stopFeeding(nil)
		prep.Wait()
	})
	stopProgress()
	finishedAt := time.Now()
	if finishedAt.Before(startedAt) { // interrupted before it began
		finishedAt = startedAt
	}
	if e.loop != nil && e.loop.err != nil {
		return nil, e.loop.err
	}
	if err := e.refills.failed(); err != nil && ctx.Err() == nil {
		return nil, err
	}
	failed := context.Cause(feedCtx)
	if failed != nil && !errors.Is(failed, context.Canceled) && ctx.Err() == nil {
		return nil, failed
	}
	if e.Plan.Loop == Closed {
		use = readUse() // here the last answers are most of a short run
	}
	res := &Result{
		Recorder: total, StartedAt: startedAt.UTC(), MeasuredAt: startedAt.Add(e.zero).UTC(),
		FinishedAt: finishedAt.UTC(), Interrupted: ctx.Err() != nil,
		NotReady: e.notReady, Planned: e.ownMeasured, Warmup: e.ownWarmup, Client: use.minus(before, e.processors),
	}
	sent := int(total.Counts().Sent)
	if res.Planned == 0 || e.Plan.Duration > 0 && !res.Interrupted {
		res.Planned = sent // the plan was a duration, with so many requests at most
	}
	res.NotSent = res.Planned - sent
	return res, nil
}

// lead is how long before the run's start its side that prepares begins. A little lets the workers start before anything
// is due. In an open loop it is about as long as filling the look-ahead takes: whoever prepares while requests are due
// takes a processor from them, and from a server beside us, which would seem to be slow by itself.
func (e *engine) lead(ctx context.Context) time.Duration {
	const (
		least = 20 * time.Millisecond
		most  = time.Second
		trial = 20 * time.Millisecond // of preparing, to see how long it takes
	)
	switch {
	case !e.StartAt.IsZero():
		return time.Until(e.StartAt) // and not a moment later: the others do not wait
	case e.Plan.Loop == Closed || e.static():
		return least
	case !e.Corpus.InMemory():
		return most
	}
	// What is made once of an object, and for its replicas' names of each length, takes most of the first time.
	const names = 5 // lengths at most: of ".r2" to ".r10000"
	objects := e.Plan.Objects * min(e.Plan.FanOut, 1+names)
	first, bytes, tried := e.try(ctx, trial, maxBatch)
	again, _, _ := e.try(ctx, trial, tried)
	if tried == 0 {
		return least
	}
	all := int64(maxBatch * maxBatches)
	if own := int64(e.ownWarmup + e.ownMeasured); own > 0 {
		all = min(all, own)
	}
	if bytes > 0 {
		all = min(all, e.Lookahead*int64(tried)/bytes)
	}
	takes := again*time.Duration(all) + max(first-again, 0)*time.Duration(min(all, int64(objects)))
	return min(least+takes*3/2, most) // half more, for when others are busy too
}

// try prepares the first entries, for about that long and no more than most, and says how long one takes.
func (e *engine) try(ctx context.Context, within time.Duration, most int) (each time.Duration, bytes int64, tried int) {
	began := time.Now()
	e.start = began // which timestamps are made from
	p := e.preparer()
	for w := e.walk(); tried < most && time.Since(began) < within; tried++ {
		n, ok, err := w.next()
		if !ok || err != nil {
			break // prepareAll meets it again, and reports it
		}
		j, err := p.prepare(ctx, n)
		if err != nil {
			break
		}
		bytes += j.budget
	}
	return time.Since(began) / time.Duration(max(tried, 1)), bytes, tried
}

// viaLoop runs the plan on the loop's one thread.
func (e *engine) viaLoop(ctx, feedCtx context.Context, endFeeding func()) (*stats.Recorder, use) {
	l := e.loop
	fed := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx, fed) }) // not feedCtx, which ends when all is fed
	defer context.AfterFunc(ctx, l.stop)()
	detach := context.AfterFunc(feedCtx, l.stop)
	<-fed
	use := readUse() // waiting for the last answers uses nothing, and would hide that sending used all
	detach()
	endFeeding()
	wg.Wait()
	return l.rec, use
}

// viaWorkers runs the plan with a goroutine for each request in flight.
func (e *engine) viaWorkers(ctx, feedCtx context.Context, endFeeding func()) (*stats.Recorder, use) {
	recorders := make([]*stats.Recorder, e.workers)
	var work sync.WaitGroup
	for i := range recorders {
		recorders[i] = stats.NewRecorder()
		work.Go(func() { e.work(recorders[i]) }) //nolint:contextcheck // what is sent is waited for
	}
	// A cancelled run starts nothing more, also while the feeder is held up.
	feedCtx, end := context.WithCancel(feedCtx)
	defer end()
	detach := context.AfterFunc(feedCtx, e.disp.cancel)
	var whole bool
	var feeding sync.WaitGroup // a goroutine of its own, with whose thread the priority ends that an open loop gives it
	feeding.Go(func() { whole = e.feed(feedCtx, end) })
	feeding.Wait()
	use := readUse() // waiting for the last answers uses nothing, and would hide that sending used all
	if detach(); whole {
		e.disp.close()
		if e.DrainTimeout > 0 && e.Plan.Loop == Open {
			defer time.AfterFunc(e.DrainTimeout, func() {
				e.disp.cancel()
				e.refills.stop()
			}).Stop()
		}
	} else {
		e.disp.cancel()
	}
	defer context.AfterFunc(ctx, e.disp.cancel)() // drop what waits also now
	endFeeding()
	work.Wait()
	total := stats.NewRecorder()
	for _, r := range recorders {
		total.Merge(r)
	}
	return total, use
}

// nudge tells a loop that waits for prepared jobs that there are some, or that there will be none.
func (e *engine) nudge() {
	if e.loop != nil && e.loop.hungry.Swap(false) {
		e.loop.wake()
	}
}

func (e *engine) newTurns() turns {
	return newTurns(e.Order, len(e.sources.Names()), e.workers, e.refills.ask, e.since)
}

// static says that bodies go out as they are in memory: there is nothing to prepare ahead of time.
func (e *engine) static() bool {
	return e.Timestamps == Keep && e.Plan.FanOut <= 1 && e.Corpus.InMemory() && !e.HashBodies
}

// inline returns what makes jobs on the spot, where that costs next to nothing: nil where it does not.
func (e *engine) inline() (*preparer, *walk) {
	if !e.static() {
		return nil, nil
	}
	return e.preparer(), e.walk()
}

func (e *engine) preparer() *preparer {
	p := &preparer{composer: e.composer(), plan: e.Plan, jobs: &e.jobs, mode: e.Timestamps, start: e.start, since: e.since, sources: e.sources}
	if e.Timestamps == Shift {
		p.passes = e.passes.from(e.start)
	}
	return p
}

func (e *engine) composer() composer {
	return composer{
		corpus: e.Corpus, fanOut: e.Plan.FanOut, label: e.FanOutLabel, hash: e.HashBodies, maxDecoded: e.MaxDecoded, kept: e.kept,
	}
}

// walk yields the entries of the plan that this shard owns.
type walk struct {
	plan     *Plan
	n, owned int
	patience int // a plan of which that many entries in a row from the first are not ours has none for us
}

func (e *engine) walk() *walk {
	return &walk{plan: e.Plan, patience: e.Plan.cycle()}
}

func (w *walk) next() (n int, ok bool, err error) {
	total := w.plan.Total()
	for ; total == 0 || w.n < total; w.n++ {
		if w.plan.Owns(w.n) {
			w.owned++
			w.n++
			return w.n - 1, true, nil
		}
		if w.n > w.patience && w.owned == 0 {
			return 0, false, errNothingOwned
		}
	}
	return 0, false, nil
}

// prepareAll fills the look-ahead in plan order and closes it at the end.
func (e *engine) prepareAll(ctx context.Context) error {
	p, w := e.preparer(), e.walk()
	if !e.Corpus.InMemory() {
		p.ahead = newReadAhead(ctx, e.Corpus, e.Plan)
		defer p.ahead.close()
	}
	// A server that stands still for long leaves bodies waiting until there is no room for more. What is due then waits
	// without one: it is due whether there is room or not.
	const handOver = 20 * time.Millisecond // before it is due
	var size int64
	passing := false // the one before went without a body
	var batch []*job
	hand := func() bool {
		if len(batch) == 0 {
			return true
		}
		select {
		case e.prepared <- batch:
			batch = nil
			e.nudge()
			return true
		case <-ctx.Done():
			return false
		}
	}
	for {
		if stopped(ctx) {
			return nil // that the caller stops is not the preparer's failure
		}
		n, ok, err := w.next()
		if err != nil {
			return err
		}
		if !ok {
			hand()
			return nil
		}
		// Preparing is the one thing here that computes for long. On two processors it would hold one for a whole
		// time slice of 10 ms, and whoever has something due would wait.
		runtime.Gosched()
		j := p.outline(n)
		// The size is not known before; the last one's is near enough.
		switch {
		case passing && e.since() > j.due-handOver:
			j.bare = true // what was passed over is not caught up with here, but at its turn
		case !e.budget.roomy(size):
			// What is held back here cannot give its bytes back: hand it over before waiting for any.
			if !hand() {
				return nil
			}
			patience := time.Duration(-1)
			if e.Plan.Loop == Open {
				patience = max(j.due-handOver-e.since(), 0)
			}
			j.bare = !e.budget.wait(ctx, size, patience)
		}
		if passing = j.bare; j.bare {
			j.buf = nil // which nobody would have counted
			if p.ahead != nil {
				p.ahead.pass(n, p.object(j))
			}
		} else {
			if err := p.fill(ctx, j); err != nil {
				return err
			}
			size = j.budget
			e.budget.take(size)
		}
		batch = append(batch, j)
		// Full batches are for when there is time: a feeder with nothing to do gets what there is.
		if (len(batch) == maxBatch || len(e.prepared) == 0) && !hand() {
			return nil
		}
	}
}

func stopped(ctx context.Context) bool { return ctx.Err() != nil }

// The look-ahead has at most this many jobs, whatever their bytes.
const (
	maxBatch   = 32
	maxBatches = 32
)

// feed submits prepared jobs, in an open loop each at its due time. It returns false when it ended before
// the plan did: with ctx, which stop ends.
func (e *engine) feed(ctx context.Context, stop func()) (whole bool) {
	if e.Plan.Loop == Open {
		runtime.LockOSThread() // for good: the thread ends with this goroutine, and its settings with it
		tightenTimer()
		favourThread()
	}
	// A closed loop looks this far ahead for a source whose turn is free.
	room := max(64, 8*e.workers)
	var end *time.Timer // of a closed loop by time: whatever holds the feeder up, a full look-ahead too, the end comes without it
	defer func() {
		if end != nil {
			end.Stop()
		}
	}()
	measuring := false
	for {
		j, waited, ok := e.nextPrepared(ctx)
		if !ok {
			return ctx.Err() == nil
		}
		if e.Plan.Loop == Open {
			if waited && e.since() > j.due && !j.warmup {
				e.notReady++
			}
			if !e.sleepUntil(ctx, j.due) {
				return false
			}
			j.late = e.since() - j.due
		} else {
			if !e.sleepUntil(ctx, 0) {
				return false
			}
			e.disp.waitRoom(room)
			if !measuring && !j.warmup {
				measuring = true
				if e.ownWarmup > 0 { // the measured part begins when all of it has ended
					e.disp.waitIdle()
					e.zero = e.since()
				}
				if e.Plan.Duration > 0 {
					end = time.AfterFunc(e.zero+e.Plan.Duration-e.since(), stop)
				}
			}
			if e.Plan.Duration > 0 && !j.warmup && e.since()-e.zero >= e.Plan.Duration {
				return false
			}
		}
		j.zero = e.zero
		e.live.due.Add(1)
		e.disp.submit(j)
	}
}

// nextPrepared takes the next job from the look-ahead; waited says that it was not there yet, ok that
// there is one.
func (e *engine) nextPrepared(ctx context.Context) (j *job, waited, ok bool) {
	if len(e.batch) == 0 {
		select {
		case e.batch, ok = <-e.prepared:
		default:
			waited = true
			select {
			case e.batch, ok = <-e.prepared:
			case <-ctx.Done():
			}
		}
		if !ok {
			return nil, waited, false
		}
	}
	j, e.batch = e.batch[0], e.batch[1:]
	return j, waited, true
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

// work sends jobs until the dispatcher has no more. What is sent is waited for, also after the end of ctx.
func (e *engine) work(rec *stats.Recorder) {
	hand := make(chan *job, 1)
	var done *job
	for {
		j := e.disp.next(hand, done)
		if j == nil {
			return
		}
		// A closed loop by time starts nothing after its end, also of what was submitted before; nor does an interrupted run,
		// whose dispatcher may learn of it a moment later.
		over := e.Plan.Loop == Closed && e.Plan.Duration > 0 && !j.warmup && e.since()-j.zero >= e.Plan.Duration
		if !over && j.bare {
			body := e.refills.serve(j)
			if !isClosed(body.done) {
				e.disp.stall(j)
				<-body.done
				e.disp.resume(j)
			}
			if body.err != nil {
				over = true
				e.disp.cancel() // either nothing more is to be sent, or run returns the error
			}
		}
		if over || isClosed(e.interrupted) {
			e.budget.release(j.budget) // the preparer may wait for it
		} else {
			e.send(j, rec)
		}
		if done != nil {
			e.jobs.Put(done)
		}
		done = j
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// send delivers one job and records it. It does not take the run's context: what is sent is waited for.
func (e *engine) send(j *job, rec *stats.Recorder) {
	started := e.since()
	e.begin(j, started)
	resp := e.attempts(&j.req, started)
	e.finish(j, rec, started, e.since(), &resp)
}

// begin counts a job as being sent.
func (e *engine) begin(j *job, started time.Duration) {
	e.live.sent.Add(1)
	e.live.inFlight.Add(1)
	if e.Plan.Loop == Closed {
		j.due = started
	}
}

// finish records a job with the last of its answers.
func (e *engine) finish(j *job, rec *stats.Recorder, started, finished time.Duration, resp *Response) {
	e.live.inFlight.Add(-1)
	o := stats.Observation{
		// A fan-out's clusters are the captured one many times: their latencies are one pair's.
		Pair: stats.PairKey{Source: e.sources.NameAt(j.virtual/e.Plan.FanOut, 0), Destination: e.Destination},
		// The measured part has its own zero: its first second is the timeline's first.
		Intended: j.due - j.zero, Started: started - j.zero, Done: finished - j.zero,
		Status: resp.Status, Samples: int64(j.req.Samples), Bytes: int64(len(j.req.Body)), Warmup: j.warmup, Retries: j.req.Attempt,
	}
	o.Outcome, o.ErrorClass, o.ErrorExample, o.SamplesWritten = judge(&j.req, resp)
	o.Unconfirmed = o.Outcome == stats.OK && j.req.Version == remotewrite.V2 && !resp.Confirmed
	if o.ErrorExample != "" {
		for _, secret := range e.Secrets {
			o.ErrorExample = mask(o.ErrorExample, secret)
		}
	}
	if e.Observe != nil {
		seen := o // a copy, or every observation of every run would be allocated
		e.Observe(j.n, &seen)
		o = seen
	}
	rec.Record(o)
	if e.Plan.Loop == Open && !j.warmup {
		rec.RecordScheduleError(j.ourDelay(started))
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
	if !e.synchronous {
		j.buf = nil
	}
}

// ourDelay is how much of the time from a job's due time until it started is the generator's doing. With a slot free it is all.
// Without one, what passed before the job was submitted still is, and what it waited for bodies, if that is more than a
// twentieth of all its waiting: a generator that stood still must not count as a slow server.
func (j *job) ourDelay(started time.Duration) time.Duration {
	const material = 20
	waited := started - j.due
	switch {
	case j.slotFree:
		return waited
	case j.ours*material > waited:
		return min(j.late+j.ours, waited)
	}
	return j.late
}

// mask hides a secret, also one of which only the beginning is left because the text was cut.
func mask(s, secret string) string {
	const telling = 4
	s = strings.ReplaceAll(s, secret, "[masked]")
	for n := min(len(secret)-1, len(s)); n >= telling; n-- {
		if rest, ok := strings.CutSuffix(s, secret[:n]); ok {
			return rest + "[masked]"
		}
	}
	return s
}

// attempts sends a request until it succeeds or is not to be retried; an interrupted run retries nothing
// more. All attempts together are one request with one latency.
func (e *engine) attempts(r *Outgoing, started time.Duration) Response {
	var backoff time.Duration
	for {
		r.Now = time.Now()
		r.Deadline = r.Now.Add(e.Timeout)
		resp := e.Sender.Send(context.Background(), r)
		wait, next, again := e.Retry.wait(&resp, backoff, e.since()-started)
		if !again {
			return resp
		}
		backoff = next
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-e.interrupted:
			t.Stop()
			return resp
		}
		r.Attempt++
		e.live.retried.Add(1)
	}
}

// judge decides what a response means. A 2xx of protocol 2.0 that confirms less than was sent is a
// failure: the samples are gone and only these headers say so.
func judge(r *Outgoing, resp *Response) (outcome stats.Outcome, class, example string, written int64) {
	written = int64(min(resp.Written.Samples, r.Samples)) // more than was sent cannot have been written
	switch {
	case resp.Timeout:
		return stats.TimedOut, errorClass(*resp), resp.Err.Error(), 0
	case resp.Err != nil:
		return stats.Failed, errorClass(*resp), resp.Err.Error(), 0
	case resp.Status/100 != 2:
		return stats.Failed, errorClass(*resp), resp.Message, written
	case !resp.Confirmed && r.Version == remotewrite.V2:
		// 2.0 asks for the headers. Without them the latency counts and nothing says that the samples do.
		return stats.OK, "", "", 0
	case !resp.Confirmed:
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
		BeginsIn: max(-e.since(), 0), Elapsed: max(e.since(), 0), Planned: e.ownWarmup + e.ownMeasured, Final: final, PlannedTime: e.Plan.Duration,
		Sent: e.live.sent.Load(), OK: e.live.ok.Load(), Failed: e.live.failed.Load(), TimedOut: e.live.timedOut.Load(),
		InFlight: e.live.inFlight.Load(), Due: e.live.due.Load(), Retried: e.live.retried.Load(),
	}
	if e.Plan.Total() == 0 {
		p.Planned = 0
	}
	p.WarmingUp = p.Due < int64(e.ownWarmup)
	if e.Plan.Loop == Open {
		p.PlannedTime = e.Plan.Due(e.Plan.Total())
	}
	// Whoever sends waits for this lock, so nothing is computed under it.
	e.live.mu.Lock()
	e.live.hist, e.live.spare = e.live.spare, e.live.hist
	e.live.mu.Unlock()
	all := e.live.all
	all.Merge(e.live.spare)
	e.live.spare.Reset()
	if all.Count() > 0 {
		q := all.Quantiles(0.5, 0.9, 0.99, 0.999)
		for i, to := range []*time.Duration{&p.P50, &p.P90, &p.P99, &p.P999} {
			*to = time.Duration(q[i] * float64(time.Millisecond))
		}
		p.Max = all.Max()
	}
	return p
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
