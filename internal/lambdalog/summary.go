package lambdalog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"slices"
	"time"
)

// SummarySchema is the schema of Summary's JSON form.
const SummarySchema = "cirrusbench/invocations/v1"

// Tool names the program that made a result.
type Tool struct {
	// Version is the release and Commit the source revision.
	Version string `json:"version"`
	Commit  string `json:"commit"`
}

// Distribution describes a set of durations. Percentiles are interpolated
// linearly between the two nearest order statistics, which is what numpy does
// by default. Everything is absent when the set is empty.
type Distribution struct {
	// Sum is the total.
	Sum Millis `json:"sum"`
	// Mean is the arithmetic mean, rounded to a nanosecond.
	Mean Millis `json:"mean"`
	// P50, P95 and P99 are percentiles, rounded to a nanosecond.
	P50 Millis `json:"p50"`
	P95 Millis `json:"p95"`
	P99 Millis `json:"p99"`
	// Max is the longest.
	Max Millis `json:"max"`
}

// MemoryCount is how many records state a memory size.
type MemoryCount struct {
	// MB is the configured memory and Count the number of REPORT records with it.
	MB    MB    `json:"mb"`
	Count int64 `json:"count"`
}

// StatusCounts counts how invocations ended. A status that Lambda may add is
// counted as Other.
type StatusCounts struct {
	Success int64 `json:"success"`
	Error   int64 `json:"error"`
	Timeout int64 `json:"timeout"`
	Failure int64 `json:"failure"`
	Other   int64 `json:"other,omitempty"`
}

// RuleCounts counts reports by the billing rule that their figures and dates show.
type RuleCounts struct {
	Millisecond  int64 `json:"1ms"`
	InitFree     int64 `json:"1ms_init_free"`
	Slices       int64 `json:"100ms"`
	Inconsistent int64 `json:"inconsistent"`
	Unknown      int64 `json:"unknown"`
}

// Summary is what a set of records says together; its JSON form is
// cirrusbench/invocations/v1.
type Summary struct {
	// Schema is SummarySchema and Tool the program, which the caller sets.
	Schema string `json:"schema"`
	Tool   Tool   `json:"tool"`
	// Records counts all records, Reports those of invocations.
	Records int64 `json:"records"`
	Reports int64 `json:"reports"`
	// Cold counts invocations that waited for an initialisation or a restore.
	Cold int64 `json:"cold"`
	// Billable counts reports with a billed time, Incomplete those cut off before it.
	Billable   int64 `json:"billable"`
	Incomplete int64 `json:"incomplete"`
	// Duplicates counts events that came more than once and were read once.
	Duplicates int64 `json:"duplicates"`
	// Dropped counts records that Lambda itself dropped; the sample lacks them.
	Dropped int64 `json:"dropped"`
	// BadLines counts lines that could not be read.
	BadLines int64 `json:"bad_lines"`
	// Inconsistent counts reports whose billed time no billing rule explains.
	Inconsistent int64 `json:"inconsistent"`
	// Rules counts reports by billing rule. Records of a rule that has ended tell what
	// was billed then, not what would be now.
	Rules RuleCounts `json:"billing_rules"`
	// BilledMS is over billable reports, DurationMS over all reports, InitMS over cold ones.
	BilledMS   Distribution `json:"billed_ms"`
	DurationMS Distribution `json:"duration_ms"`
	InitMS     Distribution `json:"init_ms"`
	// MaxMemoryUsed is the highest high-water mark.
	MaxMemoryUsed MB `json:"max_memory_used_mb"`
	// Memory lists the configured memory sizes, smallest first.
	Memory []MemoryCount `json:"memory_mb"`
	// Statuses counts how the invocations ended.
	Statuses StatusCounts `json:"statuses"`
	// Warnings are notices that a reader of the figures must know.
	Warnings []string `json:"warnings"`
}

// maxWarnings bounds Summary.Warnings; the counters go on counting.
const maxWarnings = 100

// Summariser builds a Summary record by record. Its zero value is ready to use.
// Its memory grows with the number of distinct durations, not of records.
type Summariser struct {
	s                      Summary
	billed, duration, init counts
	durations, inits       totals // of groups, whose single times are not known
	memory                 map[MB]int64
}

// Add takes one record.
func (u *Summariser) Add(v Invocation) {
	u.s.Records++
	if v.Kind != KindReport {
		return
	}
	u.s.Reports++
	if v.Cold {
		u.s.Cold++
	}
	if v.Billable {
		u.s.Billable++
		u.billed.add(v.Billed)
	}
	if v.Incomplete {
		u.s.Incomplete++
	}
	switch v.Rule {
	case RuleMillisecond:
		u.s.Rules.Millisecond++
	case RuleInitFree:
		u.s.Rules.InitFree++
	case RuleSlices:
		u.s.Rules.Slices++
	case RuleInconsistent:
		u.s.Inconsistent++
		u.s.Rules.Inconsistent++
	default:
		u.s.Rules.Unknown++
	}
	u.duration.add(v.Duration)
	u.init.add(v.Init)
	u.s.MaxMemoryUsed = max(u.s.MaxMemoryUsed, v.MaxMemoryUsed)
	u.addMemory(v.Memory, 1)
	u.addStatus(v.Status, 1)
}

func (u *Summariser) addMemory(mb MB, n int64) {
	if mb == 0 {
		return
	}
	if u.memory == nil {
		u.memory = make(map[MB]int64)
	}
	u.memory[mb] += n
}

func (u *Summariser) addStatus(s Status, n int64) {
	switch s {
	case StatusSuccess:
		u.s.Statuses.Success += n
	case StatusError:
		u.s.Statuses.Error += n
	case StatusTimeout:
		u.s.Statuses.Timeout += n
	case StatusFailure:
		u.s.Statuses.Failure += n
	default:
		u.s.Statuses.Other += n
	}
}

// Note takes an error that Scan yielded. It returns the error when reading
// ended with it, and nil when reading goes on.
func (u *Summariser) Note(err error) error {
	if notice, ok := errors.AsType[*NoticeError](err); ok {
		switch notice.Kind {
		case NoticeDuplicate:
			u.s.Duplicates++
			return nil // overlapping pages are the rule; the count says enough
		case NoticeDropped:
			u.s.Dropped += notice.Count
		case NoticeLongLine:
			u.s.BadLines++
		case NoticeRowCap, NoticeAggregate, NoticeNoReport:
		}
		u.warn(err)
		return nil
	}
	if _, ok := errors.AsType[*LineError](err); ok {
		u.s.BadLines++
		u.warn(err)
		return nil
	}
	return err
}

func (u *Summariser) warn(err error) {
	switch {
	case len(u.s.Warnings) < maxWarnings:
		u.s.Warnings = append(u.s.Warnings, err.Error())
	case len(u.s.Warnings) == maxWarnings:
		u.s.Warnings = append(u.s.Warnings, "further warnings are counted but not listed")
	}
}

// Seen is how many records there were, with those that came more than once.
func (u *Summariser) Seen() int64 { return u.s.Records + u.s.Duplicates }

// Summary returns the summary of what was added so far.
func (u *Summariser) Summary() Summary {
	s := u.s
	s.Schema = SummarySchema
	s.BilledMS = u.billed.distribution()
	s.DurationMS = u.durations.into(u.duration, u.duration.distribution())
	s.InitMS = u.inits.into(u.init, u.init.distribution())
	s.Memory = make([]MemoryCount, 0, len(u.memory))
	for _, mb := range slices.Sorted(maps.Keys(u.memory)) {
		s.Memory = append(s.Memory, MemoryCount{MB: mb, Count: u.memory[mb]})
	}
	s.Warnings = slices.Clone(s.Warnings)
	for _, old := range [...]struct {
		n    int64
		rule string
	}{{s.Rules.Slices, "in slices of 100 ms, a rule that ended in November 2020"}, {s.Rules.InitFree, "without their initialisation, which is free no more since August 2025"}} {
		if old.n > 0 {
			s.Warnings = append(s.Warnings, fmt.Sprintf("%d invocations were billed %s: what they billed is not what they would bill now", old.n, old.rule))
		}
	}
	if s.Warnings == nil {
		s.Warnings = []string{}
	}
	return s
}

// Summarise reads all of records. The error is the one that ended reading, if
// any; bad lines and notices are counted in the Summary instead.
func Summarise(records iter.Seq2[Invocation, error]) (Summary, error) {
	var u Summariser
	for v, err := range records {
		if err != nil {
			if err := u.Note(err); err != nil {
				return u.Summary(), err
			}
			continue
		}
		u.Add(v)
	}
	return u.Summary(), nil
}

// counts is a multiset of durations, so that percentiles are exact.
type counts map[time.Duration]int64

func (c *counts) add(m Millis) { c.addN(m, 1) }

func (c *counts) addN(m Millis, n int64) {
	if !m.Known {
		return
	}
	if *c == nil {
		*c = make(counts)
	}
	(*c)[m.Value] += n
}

// sum returns how many durations there are, and their sum in 128 bits: a year
// of busy logs overflows 64.
func (c counts) sum() (n int64, hi, lo uint64) {
	for d, k := range c {
		n += k
		h, l := bits.Mul64(uint64(d), uint64(k))
		var carry uint64
		lo, carry = bits.Add64(lo, l, 0)
		hi, _ = bits.Add64(hi, h, carry)
	}
	return n, hi, lo
}

// meanAndSum returns a distribution of which only these are known. A sum beyond
// 292 years is left out rather than wrapped.
func meanAndSum(n int64, hi, lo uint64) Distribution {
	mean, rem := bits.Div64(hi, lo, uint64(n))
	if rem*2 >= uint64(n) {
		mean++
	}
	d := Distribution{Mean: MillisOf(time.Duration(mean))}
	if hi == 0 && lo <= 1<<63-1 {
		d.Sum = MillisOf(time.Duration(lo))
	}
	return d
}

func (c counts) distribution() Distribution {
	if len(c) == 0 {
		return Distribution{}
	}
	n, hi, lo := c.sum()
	sorted := make(ranked, 0, len(c))
	for d, k := range c {
		sorted = append(sorted, rank{d, k})
	}
	slices.SortFunc(sorted, func(a, b rank) int { return cmp.Compare(a.value, b.value) })
	below := int64(0)
	for i := range sorted {
		below += sorted[i].upTo
		sorted[i].upTo = below
	}
	d := meanAndSum(n, hi, lo)
	d.P50 = MillisOf(sorted.quantile(n, 0.50))
	d.P95 = MillisOf(sorted.quantile(n, 0.95))
	d.P99 = MillisOf(sorted.quantile(n, 0.99))
	d.Max = MillisOf(sorted[len(sorted)-1].value)
	return d
}

// ranked are distinct durations in rising order, each with how many of all are no longer.
type ranked []rank

type rank struct {
	value time.Duration
	upTo  int64
}

// quantile interpolates linearly at position q·(n−1) of n sorted values.
func (r ranked) quantile(n int64, q float64) time.Duration {
	pos := q * float64(n-1)
	low := int64(pos)
	at := func(position int64) time.Duration {
		i, _ := slices.BinarySearchFunc(r, position, func(e rank, position int64) int {
			if e.upTo <= position {
				return -1
			}
			return 1
		})
		return r[min(i, len(r)-1)].value
	}
	a, b := at(low), at(min(low+1, n-1))
	return a + time.Duration((pos-float64(low))*float64(b-a)+0.5)
}

var _ json.Marshaler = Millis{}

// String names the summary's main figures on one line.
func (s Summary) String() string {
	return fmt.Sprintf("%d reports, %d cold, mean billed %s ms", s.Reports, s.Cold, s.BilledMS.Mean)
}
