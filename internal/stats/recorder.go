package stats

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Outcome is how a request ended.
type Outcome uint8

const (
	// OK is a request whose answer was a success.
	OK Outcome = iota
	// Failed is a request that was refused or broken off.
	Failed
	// TimedOut is a request without an answer in time.
	TimedOut
)

// Observation is one request, retries included. Times are since the start of the
// run on the monotonic clock.
type Observation struct {
	Pair PairKey
	// Intended is when the plan wanted the request sent, Started when it was,
	// Done when the last byte of the answer had come or the request had failed.
	Intended, Started, Done time.Duration
	Outcome                 Outcome
	// Status is the HTTP status of the last answer, 0 when there was none.
	Status int
	// Samples is how many samples the request carried, SamplesWritten how many the
	// receiver says it wrote, Bytes the size of the body as sent.
	Samples, SamplesWritten, Bytes int64
	// ErrorClass groups the errors of requests that are not OK; empty stands for
	// the status. ErrorExample is one error in full, free of secrets.
	ErrorClass, ErrorExample string
	// Retries is how often the request was sent again.
	Retries int
	// Unconfirmed says that a success of protocol 2.0 came without the headers that say what was written.
	Unconfirmed bool
	// Warmup keeps the request out of every number but those of the warm-up.
	Warmup bool
}

// Recorder takes the observations of one worker. The worker owns it: there are no
// locks. Merge the recorders of all workers when they are done, or swap a worker's
// recorder for a new one at the end of an interval.
//
// All histograms in it are packed, unless [NewDenseRecorder] made it. There can be
// as many recorders as requests in flight, and a dense pair of histograms would
// take half a megabyte each.
type Recorder struct {
	counts   Counts
	statuses map[int]int64
	errors   tallies

	// The latency of all successes is the sum over the pairs, so it is not recorded
	// a second time.
	pairs         map[PairKey]*Histogram
	service       *Histogram
	scheduleError *Histogram
	failed        *Histogram
	warmup        *Histogram
	warmupErrors  tallies

	timeline map[int64]*second
	// What was looked up last: most requests are of the same pair and second as
	// the one before.
	lastPair      PairKey
	lastHistogram *Histogram
	lastSecond    *second
	lastT         int64
	dense         bool

	begin, end time.Duration // of what was measured
	measured   bool          // whether there are begin and end
}

type errorTally struct {
	count   int64
	example string
	at      time.Duration
}

// second is what happened in one second of the run.
type second struct {
	sent, ok, failed int64
	finished         int64
	latency          *Histogram
}

// NewRecorder returns an empty recorder.
func NewRecorder() *Recorder {
	return &Recorder{
		statuses:      make(map[int]int64),
		errors:        make(tallies),
		warmupErrors:  make(tallies),
		pairs:         make(map[PairKey]*Histogram),
		service:       NewPackedHistogram(),
		scheduleError: NewPackedHistogram(),
		failed:        NewPackedHistogram(),
		warmup:        NewPackedHistogram(),
		timeline:      make(map[int64]*second),
	}
}

// maxDensePairs bounds the memory of a dense recorder to some MB; further pairs
// are packed.
const maxDensePairs = 16

// NewDenseRecorder returns an empty recorder that is faster and takes up to 5 MB:
// for an engine that has one, and not one a request in flight.
func NewDenseRecorder() *Recorder {
	r := NewRecorder()
	r.dense, r.service, r.scheduleError = true, NewHistogram(), NewHistogram()
	return r
}

// Record takes one request. The latency of a success counts from the intended
// send, its service time from the actual one. Requests that failed or timed out
// have their own histogram, from the intended send, and never mix with successes.
//
// A negative latency, which the monotonic clock excludes, is counted in
// [Counts.LatencyNegative] and makes [Run.Check] fail.
func (r *Recorder) Record(o Observation) {
	latency := o.Done - o.Intended
	if o.Warmup {
		r.counts.Warmup++
		r.note(r.warmup, latency)
		if o.Outcome != OK {
			r.warmupErrors.add(errorClass(o), errorTally{1, truncate(o.ErrorExample), o.Done})
		}
		return
	}
	if !r.measured || o.Intended < r.begin {
		r.begin = o.Intended
	}
	if !r.measured || o.Done > r.end {
		r.end = o.Done
	}
	r.measured = true

	r.counts.Sent++
	r.counts.Retried += int64(o.Retries)
	r.counts.SamplesSent += o.Samples
	r.counts.SamplesWritten += o.SamplesWritten
	r.counts.BytesSent += o.Bytes
	if o.Status != 0 {
		r.statuses[o.Status]++
	}
	r.second(o.Started).sent++
	done := r.second(o.Done)
	done.finished++

	if o.Outcome == OK {
		r.counts.OK++
		if o.Unconfirmed {
			r.counts.Unconfirmed++
		}
		done.ok++
		r.note(r.pair(o.Pair), latency)
		r.note(r.service, o.Done-o.Started)
		// Counted already, should it be negative.
		_ = done.latency.Record(latency)
		return
	}
	if o.Outcome == TimedOut {
		r.counts.TimedOut++
	} else {
		r.counts.Failed++
	}
	done.failed++
	r.note(r.failed, latency)
	r.errors.add(errorClass(o), errorTally{1, truncate(o.ErrorExample), o.Done})
}

// note records d and counts what the histogram cannot hold.
func (r *Recorder) note(h *Histogram, d time.Duration) {
	if err := h.Record(d); err != nil {
		r.counts.LatencyNegative++
	} else if d > time.Duration(highestNS) {
		r.counts.LatencyOverflow++
	}
}

// RecordScheduleError takes the difference between the intended and the actual
// send of a request for which a slot was free: the lateness that is the load
// generator's own fault. Too early is as wrong as too late, so the sign is dropped.
func (r *Recorder) RecordScheduleError(d time.Duration) {
	// Not negative, so there is nothing that Record could refuse.
	_ = r.scheduleError.Record(max(d, -d, 0))
}

// Merge adds all of o to r, exactly and in any order. o stays as it is and shares
// nothing with r afterwards; it must not be in use by its worker meanwhile.
func (r *Recorder) Merge(o *Recorder) {
	if o == nil {
		return
	}
	r.counts.add(&o.counts)
	for status, n := range o.statuses {
		r.statuses[status] += n
	}
	for class, tally := range o.errors {
		r.errors.add(class, tally)
	}
	for class, tally := range o.warmupErrors {
		r.warmupErrors.add(class, tally)
	}
	for key, h := range o.pairs {
		r.pair(key).Merge(h)
	}
	r.service.Merge(o.service)
	r.scheduleError.Merge(o.scheduleError)
	r.failed.Merge(o.failed)
	r.warmup.Merge(o.warmup)
	for t, from := range o.timeline {
		to := r.secondAt(t)
		to.sent += from.sent
		to.ok += from.ok
		to.failed += from.failed
		to.finished += from.finished
		to.latency.Merge(from.latency)
	}
	if o.measured {
		if !r.measured || o.begin < r.begin {
			r.begin = o.begin
		}
		if !r.measured || o.end > r.end {
			r.end = o.end
		}
		r.measured = true
	}
}

func (r *Recorder) pair(key PairKey) *Histogram {
	if r.lastHistogram != nil && r.lastPair == key {
		return r.lastHistogram
	}
	h := r.pairs[key]
	if h == nil {
		if h = NewPackedHistogram(); r.dense && len(r.pairs) < maxDensePairs {
			h = NewHistogram()
		}
		r.pairs[key] = h
	}
	r.lastPair, r.lastHistogram = key, h
	return h
}

// maxTimelineSeconds bounds the timeline to seven days; its last point takes
// whatever comes later.
const maxTimelineSeconds = 7 * 24 * 60 * 60

func (r *Recorder) second(at time.Duration) *second {
	return r.secondAt(min(max(int64(at/time.Second), 0), maxTimelineSeconds-1))
}

func (r *Recorder) secondAt(t int64) *second {
	if r.lastSecond != nil && r.lastT == t {
		return r.lastSecond
	}
	s := r.timeline[t]
	if s == nil {
		s = &second{latency: NewPackedHistogram()}
		r.timeline[t] = s
	}
	r.lastSecond, r.lastT = s, t
	return s
}

// tallies are errors by class.
type tallies map[string]errorTally

// add keeps the example of the earliest error, so that the order of merging
// does not show.
func (ts tallies) add(class string, t errorTally) {
	old, known := ts[class]
	if known && cmp.Or(cmp.Compare(old.at, t.at), strings.Compare(old.example, t.example)) <= 0 {
		t.at, t.example = old.at, old.example
	}
	t.count += old.count
	ts[class] = t
}

// counts are the classes in their order.
func (ts tallies) counts() []ErrorCount {
	all := make([]ErrorCount, 0, len(ts))
	for _, class := range slices.Sorted(maps.Keys(ts)) {
		t := ts[class]
		all = append(all, ErrorCount{class, t.count, t.example})
	}
	return all
}

func errorClass(o Observation) string {
	switch {
	case o.ErrorClass != "":
		return o.ErrorClass
	case o.Outcome == TimedOut:
		return "timeout"
	case o.Status != 0:
		return "status_" + strconv.Itoa(o.Status)
	default:
		return "unknown"
	}
}

// maxExampleBytes is enough for an error message and too little for a body.
const maxExampleBytes = 300

func truncate(s string) string {
	if len(s) <= maxExampleBytes {
		return s
	}
	cut := maxExampleBytes
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// Counts returns what was counted so far; Planned and NotSent, which a recorder
// cannot know, are 0.
func (r *Recorder) Counts() Counts { return r.counts }

// Latency returns the histogram of all successes, from the intended send. It is a
// new one on every call.
func (r *Recorder) Latency() *Histogram {
	all := NewHistogram()
	for _, h := range r.pairs {
		all.Merge(h)
	}
	return all
}

// Fill puts everything recorded into run: latency, service, schedule_error,
// failed_latency, warmup_latency, deltas, pairs, timeline, statuses, errors, warmup_errors,
// achieved, the scheduling error of client, and counts but for Planned and
// NotSent, which stay as they are. It overwrites what was there. It fails only
// when a histogram cannot be encoded.
func (r *Recorder) Fill(run *Run) error {
	planned, notSent := run.Counts.Planned, run.Counts.NotSent
	run.Counts = r.counts
	run.Counts.Planned, run.Counts.NotSent = planned, notSent

	run.Statuses = make(map[string]int64, len(r.statuses))
	for status, n := range r.statuses {
		run.Statuses[strconv.Itoa(status)] = n
	}
	run.Errors, run.WarmupErrors = r.errors.counts(), r.warmupErrors.counts()

	latency := r.Latency()
	run.Latency = latency.Latency()
	run.Service = r.service.Latency()
	run.ScheduleError = r.scheduleError.Latency()
	run.Client.ScheduleErrorP99MS = run.ScheduleError.P99MS
	run.FailedLatency = optionalLatency(r.failed)
	run.WarmupLatency = optionalLatency(r.warmup)
	run.Deltas = DeltasFromHistograms(r.pairs)
	run.Achieved = r.achieved()
	timeline, err := r.points(maxTimelineBytes)
	if err != nil {
		return err
	}
	run.Timeline = timeline

	run.Pairs = make([]RunPair, 0, len(r.pairs))
	for _, key := range slices.SortedFunc(maps.Keys(r.pairs), PairKey.Compare) {
		pair, err := newRunPair(key, r.pairs[key])
		if err != nil {
			return err
		}
		run.Pairs = append(run.Pairs, pair)
	}
	histograms, err := r.histograms()
	run.Histograms = histograms
	return err
}

func optionalLatency(h *Histogram) *Latency {
	if h.Count() == 0 {
		return nil
	}
	l := h.Latency()
	return &l
}

// Span returns the first intended send and the last answer of the measured requests; both are 0 when there was none.
func (r *Recorder) Span() (begin, end time.Duration) { return r.begin, r.end }

func (r *Recorder) achieved() Achieved {
	duration := r.end - r.begin
	a := Achieved{DurationMS: toMS(duration)}
	if duration > 0 {
		a.RatePerS = float64(r.counts.Sent) / duration.Seconds()
		a.SamplesPerS = float64(r.counts.SamplesWritten) / duration.Seconds()
	}
	return a
}

// maxTimelineBytes bounds what the histograms of the timeline take in a run file.
const maxTimelineBytes = 128 << 20

// points returns the timeline without gaps: a second in which nothing happened is
// where a server stood still. Histograms that take more than limit bytes together
// are left out, all of them.
func (r *Recorder) points(limit int) ([]TimelinePoint, error) {
	points := r.bare()
	for i := range points {
		p := &points[i]
		if p.OK == 0 {
			continue
		}
		h := r.timeline[p.TS].latency
		encoded, err := h.Encode()
		if err != nil {
			return nil, fmt.Errorf("second %d: %w", p.TS, err)
		}
		if limit -= len(encoded); limit < 0 {
			return r.bare(), nil
		}
		p.Histogram, p.MinMS = encoded, toMS(h.Min())
	}
	return points, nil
}

// bare is the timeline without histograms.
func (r *Recorder) bare() []TimelinePoint {
	if len(r.timeline) == 0 {
		return []TimelinePoint{}
	}
	last := slices.Max(slices.Collect(maps.Keys(r.timeline)))
	points := make([]TimelinePoint, 0, last+1)
	var inFlight int64
	for t := range last + 1 {
		p := TimelinePoint{TS: t, InFlight: inFlight}
		if s := r.timeline[t]; s != nil {
			inFlight += s.sent - s.finished
			q := s.latency.Quantiles(qMedian, 0.99)
			p = TimelinePoint{
				TS: t, Sent: s.sent, OK: s.ok, Failed: s.failed, InFlight: inFlight,
				P50MS: roundMS(q[0]), P99MS: roundMS(q[1]), MaxMS: toMS(s.latency.Max()),
			}
		}
		points = append(points, p)
	}
	return points
}

func (r *Recorder) histograms() (*Histograms, error) {
	var hs Histograms
	for _, part := range []struct {
		to **EncodedHistogram
		h  *Histogram
	}{
		{&hs.Service, r.service},
		{&hs.ScheduleError, r.scheduleError},
		{&hs.FailedLatency, r.failed},
		{&hs.WarmupLatency, r.warmup},
	} {
		if part.h.Count() == 0 && part.h.Negative() == 0 {
			continue
		}
		encoded, err := encodeHistogram(part.h)
		if err != nil {
			return nil, err
		}
		*part.to = &encoded
	}
	return &hs, nil
}
