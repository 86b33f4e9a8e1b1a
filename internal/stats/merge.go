package stats

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Merged says what a run was merged from; a run of one process has none.
type Merged struct {
	// Shards is how many parts the plan was split into, and Parts those that were merged, by index.
	Shards int          `json:"shards"`
	Parts  []MergedPart `json:"parts"`
	// Partial tells that something of the plan is missing, for Reasons. The numbers are right for what is there, and
	// must not be compared with those of a whole run.
	Partial bool     `json:"partial"`
	Reasons []string `json:"reasons"`
	// StartSpreadMS is between the first and the last shard's start by their own clocks, which may differ.
	StartSpreadMS float64 `json:"start_spread_ms"`
}

// MergedPart is one shard of a merged run.
type MergedPart struct {
	Index int    `json:"index"`
	Name  string `json:"name"` // of its file
	Sent  int64  `json:"sent"`
	// Verdict is the shard's load generator's.
	Verdict       string    `json:"verdict"`
	StartedAt     time.Time `json:"started_at,omitzero"`
	ClockOffsetMS float64   `json:"clock_offset_ms"`
}

// ErrPartial says that a run was merged from less than all of its shards.
var ErrPartial = errors.New("the run is PARTIAL: something of its plan is missing")

// Whole returns an error wrapping [ErrPartial] for a run that was merged from less than all of its shards.
func (r *Run) Whole() error {
	if r.Merged == nil || !r.Merged.Partial {
		return nil
	}
	why := "for an unknown reason"
	if len(r.Merged.Reasons) > 0 {
		why = r.Merged.Reasons[0]
	}
	return fmt.Errorf("%w: %s", ErrPartial, why)
}

// MergeError says why runs are not shards of one run.
type MergeError struct {
	Name string // of the run that does not fit
	Why  string
}

// Error names the run and what is wrong with it.
func (e *MergeError) Error() string { return e.Name + ": " + e.Why }

// ConfigSHA256 identifies how a run was carried out: everything that all shards of a run must share besides plan and
// corpus. The address of a server that each process starts for itself is left out.
func (r *Run) ConfigSHA256() string {
	p := r.Plan
	target := r.Target
	if target.Kind == "embedded" {
		target.URL = ""
	}
	s := Shard{}
	if p.Shard != nil {
		s = *p.Shard
	}
	// A list and not the plan itself, which also holds what is this shard's own.
	data, err := json.Marshal([]any{
		r.Tool.Version, target, p.Loop, p.Arrival, p.Timing, p.RatePerS, p.Concurrency, p.MaxInFlight, p.Seed, p.FanOut,
		p.Order, p.Timestamps, p.TimeoutMS, s.Total, s.By, s.PlannedAll,
	})
	if err != nil {
		panic(err) // numbers and strings
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Geometry is the range and precision of every histogram in a run file; only equal ones can be merged.
type Geometry struct {
	LowestNS  int64 `json:"lowest_ns"`
	HighestNS int64 `json:"highest_ns"`
	Digits    int   `json:"digits"`
}

// HistogramGeometry returns the one geometry that this build writes and reads.
func HistogramGeometry() Geometry { return Geometry{lowestNS, highestNS, digits} }

// Merger adds up the runs of the shards of one plan, one run file at a time: it keeps the sum, and of each run no more
// than what it was and how much it sent. Counts and histograms are added exactly, whatever the order, and timelines
// second by second; percentiles and D2 to D5 are those of all requests together, never means. Use [NewMerger].
type Merger struct {
	heads  []NamedRun // of all runs, without lists and histograms, in the order in which they were added
	index  map[int]string
	total  *Recorder
	broken bool // a run was added in part
}

// NewMerger returns a Merger without any run.
func NewMerger() *Merger { return &Merger{index: map[int]string{}, total: NewRecorder()} }

// Add reads the run file of a shard as [ReadRun] does and adds it. The run that it returns has neither pairs, nor deltas
// of pairs, nor timeline. A run that is no shard, or not one of the same run as the first one that was added, and a
// second one of an index are a [*MergeError]. After an error the sum is of no use, and there is no result; further runs
// can be added to find out what is wrong with them.
func (m *Merger) Add(rd io.Reader, name string) (*Run, error) {
	r, err := m.add(rd, name, usualLimits())
	m.broken = m.broken || err != nil
	return r, err
}

func (m *Merger) add(rd io.Reader, name string, limits runLimits) (*Run, error) {
	// What is wrong with a histogram is not what is wrong with the file.
	r, err := scanRun(rd, name, limits, runLists{
		pair:   func(p *RunPair) error { return prefixed(name, m.total.addPair(p)) },
		second: func(p *TimelinePoint) error { return prefixed(name, m.total.addSecond(p)) },
	})
	if err != nil {
		return nil, err
	}
	if r.Plan.Shard == nil {
		return nil, &MergeError{name, "this run is not a shard: it executed its whole plan"}
	}
	head := NamedRun{Name: name, Run: r.head()}
	first := &head
	if len(m.heads) > 0 {
		first = &m.heads[0]
	}
	if err := fits(&head, first); err != nil {
		return nil, err
	}
	index := r.Plan.Shard.Index
	if before, ok := m.index[index]; ok {
		return nil, &MergeError{name, fmt.Sprintf("shard %d is there twice, also as %s", index, before)}
	}
	if err := m.total.addRest(r); err != nil {
		return nil, prefixed(name, err)
	}
	m.index[index] = name
	m.heads = append(m.heads, head)
	return r, nil
}

func prefixed(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// head is what a merged run is told of this one.
func (r *Run) head() *Run {
	return &Run{
		Tool: r.Tool, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Labels: r.Labels, Interrupted: r.Interrupted,
		Plan: r.Plan, Corpus: r.Corpus, Target: r.Target, Counts: r.Counts, Client: r.Client,
	}
}

// Merge returns the run of all that was added. Missing says, by index, why there is no run of a shard; entries of shards
// that are there are ignored. A shard that is missing, or was interrupted, makes the result [Merged.Partial]. Numbers
// that do not add up to the plan are a [*MergeError]. The Merger must not be used afterwards.
func (m *Merger) Merge(missing map[int]string) (*Run, error) {
	switch {
	case m.broken:
		return nil, errors.New("merging runs: one of them could not be added")
	case len(m.heads) == 0:
		return nil, errors.New("merging runs: there is none")
	}
	slices.SortFunc(m.heads, func(a, b NamedRun) int { return cmp.Compare(a.Run.Plan.Shard.Index, b.Run.Plan.Shard.Index) })
	return assemble(m.heads, missing, m.total)
}

// maxShards is how many parts a plan can be split into, and maxAbsent how many missing ones are named.
const (
	maxShards = 100_000
	maxAbsent = 20
)

// fits tells whether r belongs to the same run as first.
func fits(r, first *NamedRun) error {
	s, f := r.Run.Plan.Shard, first.Run.Plan.Shard
	unlike := func(what string) error {
		return &MergeError{r.Name, fmt.Sprintf("%s than that of %s", what, first.Name)}
	}
	switch {
	case s.Total < 1 || s.Total > maxShards || s.Index < 0 || s.Index >= s.Total:
		return &MergeError{r.Name, fmt.Sprintf("there is no shard %d of %d", s.Index, s.Total)}
	case r.Run.Plan.SHA256 != first.Run.Plan.SHA256:
		return unlike("it followed another plan (sha256 " + r.Run.Plan.SHA256 + ")")
	case r.Run.Corpus.SHA256 != first.Run.Corpus.SHA256:
		return unlike("it replayed another corpus (sha256 " + r.Run.Corpus.SHA256 + ")")
	case s.Total != f.Total || s.By != f.By || s.PlannedAll != f.PlannedAll:
		return unlike(fmt.Sprintf("its plan was split otherwise (%d parts by %s)", s.Total, s.By))
	case r.Run.ConfigSHA256() != first.Run.ConfigSHA256():
		return unlike("it was configured otherwise (target, order, timestamps, limits or version)")
	case !s.T0.Equal(f.T0):
		return unlike("it was started by another barrier (T0 " + s.T0.Format(time.RFC3339Nano) + ")")
	}
	return nil
}

// assemble makes the run file of what was added up.
func assemble(runs []NamedRun, missing map[int]string, total *Recorder) (*Run, error) {
	first := runs[0].Run
	shard := *first.Plan.Shard
	m := &Merged{Shards: shard.Total, Reasons: []string{}}
	out := &Run{
		Schema: RunSchema, Tool: first.Tool, Labels: maps.Clone(first.Labels), Plan: first.Plan, Corpus: first.Corpus, Target: first.Target, Merged: m,
	}
	out.Plan.Shard, out.Plan.Planned, out.Plan.Warmup = nil, 0, 0
	out.Client = Client{Verdict: "valid", Reasons: []string{}}
	var spread []time.Time
	var span float64
	for _, r := range runs {
		one := r.Run
		s := one.Plan.Shard
		m.Parts = append(m.Parts, MergedPart{s.Index, r.Name, one.Counts.Sent, one.Client.Verdict, one.StartedAt, s.ClockOffsetMS})
		if one.Interrupted {
			out.Interrupted = true
			m.Reasons = append(m.Reasons, fmt.Sprintf("shard %d was interrupted: %d of its %d requests were not sent", s.Index, one.Counts.NotSent, one.Counts.Planned))
		}
		maps.DeleteFunc(out.Labels, func(k, v string) bool { return one.Labels[k] != v })
		if out.StartedAt.IsZero() || one.StartedAt.Before(out.StartedAt) {
			out.StartedAt = one.StartedAt
		}
		if one.FinishedAt.After(out.FinishedAt) {
			out.FinishedAt = one.FinishedAt
		}
		spread = append(spread, one.StartedAt)
		out.Plan.Planned += one.Plan.Planned
		out.Plan.Warmup += one.Plan.Warmup
		out.Counts.Planned += one.Counts.Planned
		out.Counts.NotSent += one.Counts.NotSent
		span = max(span, s.SpanMS)
		out.Client.add(&one.Client, s.Index)
	}
	m.StartSpreadMS = toMS(slices.MaxFunc(spread, time.Time.Compare).Sub(slices.MinFunc(spread, time.Time.Compare)))
	there := map[int]bool{}
	for _, p := range m.Parts {
		there[p.Index] = true
	}
	absent := 0
	for i := range shard.Total {
		if there[i] {
			continue
		}
		if absent++; absent <= maxAbsent {
			m.Reasons = append(m.Reasons, fmt.Sprintf("shard %d is missing: %s", i, cmp.Or(missing[i], "there is no run of it")))
		}
	}
	if absent > maxAbsent {
		m.Reasons = append(m.Reasons, fmt.Sprintf("%d more shards are missing", absent-maxAbsent))
	}
	m.Partial = len(m.Reasons) > 0
	if err := total.Fill(out); err != nil {
		return nil, err
	}
	if shard.PlannedAll > 0 {
		if len(m.Parts) == shard.Total && out.Plan.Planned != shard.PlannedAll {
			return nil, &MergeError{runs[0].Name, fmt.Sprintf("the shards were to send %d requests together, and the plan has %d", out.Plan.Planned, shard.PlannedAll)}
		}
		out.Plan.Planned, out.Counts.Planned = shard.PlannedAll, shard.PlannedAll
		out.Counts.NotSent = shard.PlannedAll - out.Counts.Sent
	}
	if !m.Partial {
		out.Achieved.stretch(span)
	}
	out.normalize()
	return out, out.Check()
}

// stretch makes the rates those of the time that the plan covers, which is longer than from the first due time to the
// last answer.
func (a *Achieved) stretch(spanMS float64) {
	if a.DurationMS <= 0 || spanMS <= a.DurationMS {
		return
	}
	factor := a.DurationMS / spanMS
	a.RatePerS, a.SamplesPerS, a.DurationMS = a.RatePerS*factor, a.SamplesPerS*factor, spanMS
}

// add makes c that of several load generators: the worst of each number, and every reason.
func (c *Client) add(o *Client, shard int) {
	c.CPURatio = max(c.CPURatio, o.CPURatio)
	c.CPUs += o.CPUs
	c.GCPauseMaxMS = max(c.GCPauseMaxMS, o.GCPauseMaxMS)
	c.ThrottledPeriods += o.ThrottledPeriods
	c.ThrottledMS += o.ThrottledMS
	c.StealRatio = max(c.StealRatio, o.StealRatio)
	if o.Verdict != "valid" {
		c.Verdict = "invalid"
		reasons := o.Reasons
		if len(reasons) == 0 {
			reasons = []string{"its load generator was not judged valid"}
		}
		for _, reason := range reasons {
			c.Reasons = append(c.Reasons, "shard "+strconv.Itoa(shard)+": "+reason)
		}
	}
}

// addPair adds a pair of a run file.
func (r *Recorder) addPair(p *RunPair) error {
	h, err := p.Decode()
	if err != nil {
		return err
	}
	r.pair(p.Key()).Merge(h)
	return nil
}

// addSecond adds a second of a run file.
func (r *Recorder) addSecond(p *TimelinePoint) error {
	if p.Sent == 0 && p.OK == 0 && p.Failed == 0 {
		return nil
	}
	h, err := p.Decode()
	if err != nil {
		return err
	}
	s := r.secondAt(min(max(p.TS, 0), maxTimelineSeconds-1))
	s.sent, s.ok, s.failed, s.finished = s.sent+p.Sent, s.ok+p.OK, s.failed+p.Failed, s.finished+p.OK+p.Failed
	s.latency.Merge(h)
	return nil
}

// addRest adds everything else of a run file that is added up.
func (r *Recorder) addRest(from *Run) error {
	counts := from.Counts
	counts.Planned, counts.NotSent = 0, 0
	r.counts.add(&counts)
	for name, n := range from.Statuses {
		status, err := strconv.Atoi(name)
		if err != nil {
			return fmt.Errorf("status %q is no number", name)
		}
		r.statuses[status] += n
	}
	for _, e := range from.Errors {
		r.errors.add(e.Class, errorTally{e.Count, e.Example, 0})
	}
	for _, e := range from.WarmupErrors {
		r.warmupErrors.add(e.Class, errorTally{e.Count, e.Example, 0})
	}
	histograms := from.Histograms
	if histograms == nil {
		histograms = &Histograms{}
	}
	for _, part := range []struct {
		name  string
		from  *EncodedHistogram
		to    *Histogram
		count int64
	}{
		{"service", histograms.Service, r.service, from.Service.Count},
		{"schedule_error", histograms.ScheduleError, r.scheduleError, from.ScheduleError.Count},
		{"failed_latency", histograms.FailedLatency, r.failed, from.FailedLatency.count()},
		{"warmup_latency", histograms.WarmupLatency, r.warmup, from.WarmupLatency.count()},
	} {
		h := NewPackedHistogram()
		if part.from != nil {
			var err error
			if h, err = part.from.Decode(); err != nil {
				return fmt.Errorf("%s: %w", part.name, err)
			}
		}
		if h.Count() != part.count {
			return fmt.Errorf("%s: the histogram holds %d values and not %d", part.name, h.Count(), part.count)
		}
		part.to.Merge(h)
	}
	if s := from.Plan.Shard; s != nil && from.Counts.Sent > 0 {
		begin, end := time.Duration(toNS(s.FromMS)), time.Duration(toNS(s.ToMS))
		if !r.measured || begin < r.begin {
			r.begin = begin
		}
		if !r.measured || end > r.end {
			r.end = end
		}
		r.measured = true
	}
	return nil
}
