package stats

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// RunSchema is the value of "schema" in a run file.
const RunSchema = "cirrusbench/run/v1"

// Run is the content of a run file: what was planned, what happened and how long
// it took. [Recorder.Fill] sets what was measured, whoever runs the load the rest.
type Run struct {
	Schema string `json:"schema"`
	Tool   Tool   `json:"tool"`
	// StartedAt and FinishedAt are wall-clock times in UTC, for people only: no
	// duration is taken from them.
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	// Labels are the user's own.
	Labels map[string]string `json:"labels,omitempty"`
	// Interrupted tells that the run was stopped before its plan was done.
	Interrupted bool `json:"interrupted"`
	// Merged is how several shards became this run; absent for the run of one process.
	Merged *Merged `json:"merged,omitempty"`

	Plan   Plan   `json:"plan"`
	Corpus Corpus `json:"corpus"`
	Target Target `json:"target"`
	Counts Counts `json:"counts"`
	// Statuses counts answers by HTTP status, such as "204".
	Statuses map[string]int64 `json:"statuses"`
	// Errors counts the requests that are not OK, sorted by class.
	Errors []ErrorCount `json:"errors"`
	// WarmupErrors are those of the warm-up, which Errors leaves out.
	WarmupErrors []ErrorCount `json:"warmup_errors,omitempty"`
	Achieved     Achieved     `json:"achieved"`

	// Latency is of successes, from the intended send; Service the same from the
	// actual send; ScheduleError how far off the load generator sent.
	Latency       Latency `json:"latency"`
	Service       Latency `json:"service"`
	ScheduleError Latency `json:"schedule_error"`
	// FailedLatency is of requests that failed or timed out, from the intended
	// send, and WarmupLatency of the warm-up. Absent when there were none.
	FailedLatency *Latency `json:"failed_latency,omitempty"`
	WarmupLatency *Latency `json:"warmup_latency,omitempty"`

	Deltas   *Deltas         `json:"deltas"`
	Pairs    []RunPair       `json:"pairs"`
	Timeline []TimelinePoint `json:"timeline"`
	Client   Client          `json:"client"`
	// Objectives are what --slo asked for; absent when nothing was.
	Objectives []Objective `json:"objectives,omitempty"`
	// Billed is the summary of invocations, as its own command prints it, when the
	// target reports what it billed.
	Billed json.RawMessage `json:"billed,omitempty"`
	// Histograms makes merging runs exact. The one of Latency is the sum over Pairs.
	Histograms *Histograms `json:"histograms,omitempty"`
}

// Tool names the build that wrote a file.
type Tool struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
}

// Plan is what the run was to do.
type Plan struct {
	// Loop is "open" (requests are due at times) or "closed" (a request is due when
	// the one before is done).
	Loop string `json:"loop"`
	// Arrival is how requests spread in time: "constant", "poisson", "original" or "on
	// answer"; Timing where due times come from: "rate", "ramp", "steps", "original" or
	// "none".
	Arrival     string  `json:"arrival"`
	Timing      string  `json:"timing"`
	RatePerS    float64 `json:"rate_per_s"`
	Concurrency int     `json:"concurrency"`
	MaxInFlight int     `json:"max_in_flight"`
	// Planned is the number of requests without the Warmup ones before them.
	Planned int64  `json:"planned"`
	Warmup  int64  `json:"warmup"`
	Seed    uint64 `json:"seed"`
	// FanOut is the number of clusters that each capture was sent as, when more than one. Order, Timestamps and
	// TimeoutMS say how requests were sent: they are not in SHA256.
	FanOut     int     `json:"fan_out,omitempty"`
	Order      string  `json:"order,omitempty"`
	Timestamps string  `json:"timestamps,omitempty"`
	TimeoutMS  float64 `json:"timeout_ms,omitempty"`
	// SHA256 is the hash of the plan in hex: equal hashes, equal plans. The shards of
	// a plan have one hash.
	SHA256 string `json:"sha256"`
	// Shard is the part of the plan that this run executed; absent for all of it.
	Shard *Shard `json:"shard,omitempty"`
}

// Shard says which part of a plan a run is: Index, from 0, of Total, split By "source"
// or "request". PlannedAll is the number of requests planned for all shards together,
// 0 when only a duration ends the run.
type Shard struct {
	Index      int    `json:"index"`
	Total      int    `json:"total"`
	By         string `json:"by"`
	PlannedAll int64  `json:"planned_all"`
	// Attempt tells processes that executed the same shard apart, and T0 is when all shards began, by the clock of the
	// object store that they met in; ClockOffsetMS was added to this machine's clock to get the store's, and may be
	// wrong by ClockErrorMS. Absent without --object-store.
	Attempt       string    `json:"attempt,omitempty"`
	T0            time.Time `json:"t0,omitzero"`
	ClockOffsetMS float64   `json:"clock_offset_ms,omitempty"`
	ClockErrorMS  float64   `json:"clock_error_ms,omitempty"`
	// FromMS and ToMS are the first due time and the last answer of this shard, since the measured part of the plan
	// began; SpanMS is the time that the whole plan covers, 0 in a closed loop. They make merged rates exact.
	FromMS float64 `json:"from_ms"`
	ToMS   float64 `json:"to_ms"`
	SpanMS float64 `json:"span_ms"`
}

// Corpus is the recorded traffic that was replayed.
type Corpus struct {
	Location string `json:"location"`
	Objects  int64  `json:"objects"`
	Bytes    int64  `json:"bytes"`
	Samples  int64  `json:"samples"`
	SHA256   string `json:"sha256"`
}

// Target is where requests went. Kind is "http", "lambda" or "embedded"; URL
// carries no credentials.
type Target struct {
	URL  string `json:"url"`
	Kind string `json:"kind"`
}

// Counts counts the requests of a run, the warm-up apart. In every run
// Planned = Sent + NotSent and Sent = OK + Failed + TimedOut.
type Counts struct {
	Planned  int64 `json:"planned"`
	Sent     int64 `json:"sent"`
	NotSent  int64 `json:"not_sent"`
	OK       int64 `json:"ok"`
	Failed   int64 `json:"failed"`
	TimedOut int64 `json:"timed_out"`
	// Retried is the number of times a request was sent again.
	Retried        int64 `json:"retried"`
	SamplesSent    int64 `json:"samples_sent"`
	SamplesWritten int64 `json:"samples_written"`
	BytesSent      int64 `json:"bytes_sent"`
	// Unconfirmed is the number of successes of protocol 2.0 without the headers that say what was written.
	Unconfirmed int64 `json:"unconfirmed"`
	// Warmup is the number of requests of the warm-up, part of no other count.
	Warmup int64 `json:"warmup"`
	// LatencyOverflow counts times above 24 h, LatencyNegative impossible ones.
	LatencyOverflow int64 `json:"latency_overflow"`
	LatencyNegative int64 `json:"latency_negative"`
}

func (c *Counts) add(o *Counts) {
	c.Planned += o.Planned
	c.Sent += o.Sent
	c.NotSent += o.NotSent
	c.OK += o.OK
	c.Failed += o.Failed
	c.TimedOut += o.TimedOut
	c.Retried += o.Retried
	c.SamplesSent += o.SamplesSent
	c.SamplesWritten += o.SamplesWritten
	c.BytesSent += o.BytesSent
	c.Unconfirmed += o.Unconfirmed
	c.Warmup += o.Warmup
	c.LatencyOverflow += o.LatencyOverflow
	c.LatencyNegative += o.LatencyNegative
}

// ErrorCount is a class of errors with the earliest error of that class.
type ErrorCount struct {
	Class   string `json:"class"`
	Count   int64  `json:"count"`
	Example string `json:"example"`
}

// Achieved is what the run got done between the first intended send and the last
// answer: requests sent and samples written by the receiver, each per second.
type Achieved struct {
	RatePerS    float64 `json:"rate_per_s"`
	SamplesPerS float64 `json:"samples_per_s"`
	DurationMS  float64 `json:"duration_ms"`
}

// RunPair is one pair of source and destination, successes only.
type RunPair struct {
	Source      string   `json:"source"`
	Destination string   `json:"destination"`
	Count       int64    `json:"count"`
	Latency     Latency  `json:"latency"`
	Deltas      DeltaSet `json:"deltas"`
	EncodedHistogram
}

// Key returns the names of the pair.
func (p *RunPair) Key() PairKey { return PairKey{p.Source, p.Destination} }

func newRunPair(key PairKey, h *Histogram) (RunPair, error) {
	encoded, err := encodeHistogram(h)
	if err != nil {
		return RunPair{}, fmt.Errorf("pair %q to %q: %w", key.Source, key.Destination, err)
	}
	return RunPair{key.Source, key.Destination, h.Count(), h.Latency(), h.Deltas(), encoded}, nil
}

// Decode returns the histogram of the pair. It is an error when it does not fit the
// count of the pair.
func (p *RunPair) Decode() (*Histogram, error) {
	h, err := p.EncodedHistogram.Decode()
	if err == nil && h.Count() != p.Count {
		err = fmt.Errorf("the histogram holds %d latencies and not %d", h.Count(), p.Count)
	}
	if err != nil {
		return nil, fmt.Errorf("pair %q to %q: %w", p.Source, p.Destination, err)
	}
	return h, nil
}

// EncodedHistogram is a histogram in a file.
type EncodedHistogram struct {
	// Histogram is HDR V2, compressed, in base64; see [Histogram.Encode].
	Histogram string `json:"histogram"`
	// Moments is what that encoding lacks.
	Moments Moments `json:"moments"`
}

// Decode returns the histogram; see [RestoreHistogram].
func (e *EncodedHistogram) Decode() (*Histogram, error) {
	return RestoreHistogram(e.Histogram, e.Moments)
}

func encodeHistogram(h *Histogram) (EncodedHistogram, error) {
	s, err := h.Encode()
	return EncodedHistogram{s, h.Moments()}, err
}

// Histograms holds the histograms behind the latencies of the same name. Those
// with nothing in them are absent.
type Histograms struct {
	Service       *EncodedHistogram `json:"service,omitempty"`
	ScheduleError *EncodedHistogram `json:"schedule_error,omitempty"`
	FailedLatency *EncodedHistogram `json:"failed_latency,omitempty"`
	WarmupLatency *EncodedHistogram `json:"warmup_latency,omitempty"`
}

// TimelinePoint is one second of the run without the warm-up, TS seconds after its
// start. Sent counts by the second of the send; OK, Failed (timeouts included) and
// the latencies of successes by the second of the answer. InFlight is at the end of
// the second.
type TimelinePoint struct {
	TS       int64   `json:"t_s"`
	Sent     int64   `json:"sent"`
	OK       int64   `json:"ok"`
	Failed   int64   `json:"failed"`
	InFlight int64   `json:"in_flight"`
	P50MS    float64 `json:"p50_ms"`
	P99MS    float64 `json:"p99_ms"`
	MaxMS    float64 `json:"max_ms"`
	// Histogram holds the latencies of the second as [Histogram.Encode] writes them, MinMS the smallest: together
	// with MaxMS they make merging timelines exact. Both are absent where nothing succeeded, and everywhere in a
	// run whose timeline would be too large a file.
	MinMS     float64 `json:"min_ms,omitempty"`
	Histogram string  `json:"histogram,omitempty"`
}

// Decode returns the latencies of the second: count, buckets, minimum and maximum are those recorded, mean and
// standard deviation are not. It is an empty histogram where nothing succeeded, and an error where the file holds
// no histogram or one of something else.
func (p *TimelinePoint) Decode() (*Histogram, error) {
	if p.OK == 0 {
		return NewPackedHistogram(), nil
	}
	if p.Histogram == "" {
		return nil, fmt.Errorf("second %d: %w", p.TS, ErrNoTimelineHistogram)
	}
	h, err := DecodeHistogram(p.Histogram)
	if err != nil {
		return nil, fmt.Errorf("second %d: %w", p.TS, err)
	}
	if err := h.narrow(toNS(p.MinMS), toNS(p.MaxMS)); err != nil || h.count != p.OK {
		return nil, fmt.Errorf("second %d: the histogram does not fit %d successes from %v to %v ms", p.TS, p.OK, p.MinMS, p.MaxMS)
	}
	return h, nil
}

// ErrNoTimelineHistogram says that a run file has no histogram for each second.
var ErrNoTimelineHistogram = errors.New("the run file has no histogram of this second")

// Client is how the load generator itself fared.
type Client struct {
	// CPURatio is the share of the CPU it was allowed that it used.
	CPURatio float64 `json:"cpu_ratio"`
	// CPUs is how many processors that is: fewer than the machine has under a quota.
	CPUs         float64 `json:"cpus"`
	GCPauseMaxMS float64 `json:"gc_pause_max_ms"`
	// ThrottledPeriods and ThrottledMS are the kernel's, for a CPU quota that was used
	// up; StealRatio is the share of CPU time that the hypervisor gave to others.
	ThrottledPeriods   int64   `json:"throttled_periods"`
	ThrottledMS        float64 `json:"throttled_ms"`
	StealRatio         float64 `json:"steal_ratio"`
	ScheduleErrorP99MS float64 `json:"schedule_error_p99_ms"`
	// Verdict is "valid", or "invalid" when the load generator was the limit, for
	// Reasons.
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons"`
}

// Objective is a service level objective and whether the run met it. Measured is in
// the unit of the objective, as text.
type Objective struct {
	Objective string `json:"objective"`
	Measured  string `json:"measured"`
	Met       bool   `json:"met"`
}

// Check returns an error that names the first identity between the numbers of the
// run that does not hold: a request was lost or counted twice.
func (r *Run) Check() error {
	var t runTotals
	for i := range r.Pairs {
		t.addPair(&r.Pairs[i])
	}
	for i := range r.Timeline {
		t.addSecond(&r.Timeline[i])
	}
	return r.check(&t)
}

// runTotals adds up what Check needs of the lists of a run, so that they need not be in memory for it.
type runTotals struct {
	pairs            int64 // the sum of their counts; see sum for all of these
	seconds          int
	sent, ok, failed int64
}

func (t *runTotals) addPair(p *RunPair) { t.pairs = sum(t.pairs, p.Count) }

func (t *runTotals) addSecond(p *TimelinePoint) {
	t.seconds++
	t.sent, t.ok, t.failed = sum(t.sent, p.Sent), sum(t.ok, p.OK), sum(t.failed, p.Failed)
}

// check is Check with the lists added up already.
func (r *Run) check(t *runTotals) error {
	c := &r.Counts
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"planned", c.Planned},
		{"sent", c.Sent},
		{"not_sent", c.NotSent},
		{"ok", c.OK},
		{"failed", c.Failed},
		{"timed_out", c.TimedOut},
		{"retried", c.Retried},
		{"samples_sent", c.SamplesSent},
		{"samples_written", c.SamplesWritten},
		{"bytes_sent", c.BytesSent},
		{"unconfirmed", c.Unconfirmed},
		{"warmup", c.Warmup},
		{"latency_overflow", c.LatencyOverflow},
		{"latency_negative", c.LatencyNegative},
	} {
		if n.value < 0 || n.value > maxDecodedCount {
			return fmt.Errorf("checking the run: %s is %d, which is no count", n.name, n.value)
		}
	}
	if c.LatencyNegative > 0 {
		return fmt.Errorf("checking the run: %d latencies are negative, which one clock cannot measure", c.LatencyNegative)
	}
	if y := r.StartedAt.Year(); y < 1 || y > 9999 {
		return fmt.Errorf("checking the run: started_at is in the year %d", y)
	}
	if r.FinishedAt.Before(r.StartedAt) && !r.FinishedAt.IsZero() || r.FinishedAt.Year() > 9999 {
		return errors.New("checking the run: finished_at is no time after started_at")
	}
	identities := []identity{
		{"planned = sent + not_sent", c.Planned, sum(c.Sent, c.NotSent)},
		{"sent = ok + failed + timed_out", c.Sent, sum(c.OK, c.Failed, c.TimedOut)},
		{"latency.count = ok", r.Latency.Count, c.OK},
		{"service.count = ok", r.Service.Count, c.OK},
		{"failed_latency.count = failed + timed_out", r.FailedLatency.count(), sum(c.Failed, c.TimedOut)},
		{"warmup_latency.count = warmup", r.WarmupLatency.count(), c.Warmup},
	}
	identities = append(identities, identity{"sum of pairs.count = ok", t.pairs, c.OK})
	identities = append(identities, identity{"sum of errors.count = failed + timed_out", total(r.Errors), sum(c.Failed, c.TimedOut)})
	if n := total(r.WarmupErrors); n < 0 || n > c.Warmup {
		return fmt.Errorf("checking the run: %d errors of the warm-up, which had %d requests", n, c.Warmup)
	}
	if r.Deltas != nil {
		identities = append(identities, identity{"deltas.used = ok", r.Deltas.Used, c.OK})
	}
	if t.seconds > 0 {
		identities = append(identities,
			identity{"sum of timeline.sent = sent", t.sent, c.Sent},
			identity{"sum of timeline.ok = ok", t.ok, c.OK},
			identity{"sum of timeline.failed = failed + timed_out", t.failed, sum(c.Failed, c.TimedOut)},
		)
	}
	for _, i := range identities {
		if i.left != i.right {
			return fmt.Errorf("checking the run: %s does not hold: %d is not %d", i.name, i.left, i.right)
		}
	}
	return nil
}

type identity struct {
	name        string
	left, right int64
}

// sum adds counts; a negative one or a total that leaves int64 makes -1, which
// equals no count and stays -1 whatever is added.
func sum(counts ...int64) int64 {
	var total int64
	for _, n := range counts {
		if n < 0 || n > math.MaxInt64-total {
			return -1
		}
		total += n
	}
	return total
}

// total is how many errors there are of all classes; -1 when that is no count.
func total(errs []ErrorCount) int64 {
	counts := make([]int64, len(errs))
	for i := range errs {
		counts[i] = errs[i].Count
	}
	return sum(counts...)
}

func (l *Latency) count() int64 {
	if l == nil {
		return 0
	}
	return l.Count
}

// normalize makes equal runs equal: lists that are empty are not nil and times are
// UTC.
func (r *Run) normalize() {
	r.StartedAt, r.FinishedAt = r.StartedAt.UTC(), r.FinishedAt.UTC()
	if r.Statuses == nil {
		r.Statuses = map[string]int64{}
	}
	if r.Errors == nil {
		r.Errors = []ErrorCount{}
	}
	if len(r.WarmupErrors) == 0 {
		r.WarmupErrors = nil // as it is read back
	}
	if r.Pairs == nil {
		r.Pairs = []RunPair{}
	}
	if r.Timeline == nil {
		r.Timeline = []TimelinePoint{}
	}
	if r.Client.Reasons == nil {
		r.Client.Reasons = []string{}
	}
	if m := r.Merged; m != nil && (m.Reasons == nil || m.Parts == nil) {
		with := *m
		with.Reasons, with.Parts = append([]string{}, m.Reasons...), append([]MergedPart{}, m.Parts...)
		r.Merged = &with
	}
	if bytes.Equal(bytes.TrimSpace(r.Billed), []byte("null")) {
		r.Billed = nil
	}
	if r.Deltas == nil {
		r.Deltas = DeltasFromHistograms(nil)
	}
	if r.Deltas.Pairs == nil {
		d := *r.Deltas
		d.Pairs = []PairDeltas{}
		r.Deltas = &d
	}
}

// WriteJSON writes the run file: indented, in a fixed order, with a newline at the
// end. The schema is always set. It does not call [Run.Check]: a run that lost count
// is better looked at than lost. A run that cannot be encoded, for a number that is
// none, leaves nothing written.
func (r *Run) WriteJSON(w io.Writer) error {
	// Once for the errors and once for the bytes: the encoder wants all of a value in memory, several times over, and a
	// run file can have hundreds of MB.
	for _, to := range []io.Writer{io.Discard, w} {
		if err := r.writeJSON(to); err != nil {
			return fmt.Errorf("writing the run: %w", err)
		}
	}
	return nil
}

func (r *Run) writeJSON(w io.Writer) error {
	file := *r
	file.Schema = RunSchema
	file.normalize()
	pairs, seconds := file.Pairs, file.Timeline
	file.Pairs, file.Timeline = []RunPair{}, []TimelinePoint{}
	var rest bytes.Buffer
	if err := writeJSON(&rest, &file); err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, 64<<10)
	before, after, found := bytes.Cut(rest.Bytes(), []byte(emptyPairs))
	between, after, also := bytes.Cut(after, []byte(emptyTimeline))
	if !found || !also {
		return errors.New("the lists have no place in it") // a key was renamed
	}
	// Errors of a bufio.Writer stay until Flush.
	_, _ = b.Write(before)
	if err := writeList(b, emptyPairs, pairs); err != nil {
		return err
	}
	_, _ = b.Write(between)
	if err := writeList(b, emptyTimeline, seconds); err != nil {
		return err
	}
	_, _ = b.Write(after)
	return b.Flush()
}

// The long lists of a run file as they are when empty. No other key stands at this depth, and no string of JSON has a
// line break in it, so that each is there once.
const (
	emptyPairs    = "\n  \"pairs\": []"
	emptyTimeline = "\n  \"timeline\": []"
)

// writeList writes what [writeJSON] makes of a list at the first depth, one element at a time.
func writeList[T any](b *bufio.Writer, empty string, list []T) error {
	if len(list) == 0 {
		_, _ = b.WriteString(empty)
		return nil
	}
	_, _ = b.WriteString(strings.TrimSuffix(empty, "]"))
	e := json.NewEncoder(&indented{b})
	e.SetEscapeHTML(false)
	e.SetIndent("    ", "  ")
	for i := range list {
		if i > 0 {
			_ = b.WriteByte(',')
		}
		_, _ = b.WriteString("\n    ")
		if err := e.Encode(&list[i]); err != nil {
			return err
		}
	}
	_, err := b.WriteString("\n  ]")
	return err
}

// indented passes on what an encoder writes without the line break at its end.
type indented struct{ b *bufio.Writer }

func (w *indented) Write(p []byte) (int, error) {
	if _, err := w.b.Write(bytes.TrimSuffix(p, []byte("\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeJSON writes v in one piece, so that a value that cannot be encoded leaves
// nothing half written.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}
