package lambdalog

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind says which platform record an Invocation was read from.
type Kind string

// The kinds of records.
const (
	// KindReport is the record of one finished invocation; the only kind that is billed.
	KindReport Kind = "report"
	// KindInitReport is the record of an initialisation. What it costs is in the REPORT that follows.
	KindInitReport Kind = "initReport"
	// KindRestoreReport is the record of a SnapStart restore. What it costs is in the REPORT that follows.
	KindRestoreReport Kind = "restoreReport"
)

// Status is how an invocation ended, in Lambda's own words. Text REPORT lines
// of successful invocations do not state it; they count as StatusSuccess.
type Status string

// The statuses that Lambda knows.
const (
	// StatusSuccess is an invocation that ended well.
	StatusSuccess Status = "success"
	// StatusError is an invocation that ended with an error; ErrorType says which.
	StatusError Status = "error"
	// StatusFailure is an invocation that Lambda reports as failed.
	StatusFailure Status = "failure"
	// StatusTimeout is an invocation that ran into the function's time limit.
	StatusTimeout Status = "timeout"
)

// BillingRule is the rule by which a record's billed time follows from its
// durations, as found by comparing them.
type BillingRule string

// The rules found in records.
const (
	// RuleUnknown means that duration or billed duration is absent.
	RuleUnknown BillingRule = ""
	// RuleMillisecond bills the duration up to the next millisecond, initialisation and restore included.
	RuleMillisecond BillingRule = "1ms"
	// RuleInitFree bills per millisecond but not the initialisation: managed runtimes until 2025-07-31.
	RuleInitFree BillingRule = "1ms_init_free"
	// RuleSlices bills 100 ms slices: everything until 2020-11-30.
	RuleSlices BillingRule = "100ms"
	// RuleInconsistent marks a billed time that no rule explains. It still counts as billed.
	RuleInconsistent BillingRule = "inconsistent"
)

// Millis is a length of time that a record states in milliseconds. The zero
// value means that the record does not state it. Lambda prints at most three
// decimals, so the value is exact in nanoseconds.
type Millis struct {
	// Value is the stated length; meaningless unless Known.
	Value time.Duration
	// Known says whether the record states a length at all.
	Known bool
}

// MillisOf returns d as a stated length.
func MillisOf(d time.Duration) Millis { return Millis{Value: d, Known: true} }

// String returns the length in milliseconds without unit and without trailing
// zeros, for instance 41.37, and the empty string when it is absent.
func (m Millis) String() string {
	if !m.Known {
		return ""
	}
	return formatMillis(m.Value)
}

// MarshalJSON writes the milliseconds as a JSON number with all its decimals,
// or null when the length is absent.
func (m Millis) MarshalJSON() ([]byte, error) {
	if !m.Known {
		return []byte("null"), nil
	}
	return []byte(formatMillis(m.Value)), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Millis) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*m = Millis{}
		return nil
	}
	d, err := parseMillis(strings.Trim(string(data), `"`))
	if err != nil {
		return fmt.Errorf("reading milliseconds: %w", err)
	}
	*m = MillisOf(d)
	return nil
}

// MB is an amount of memory as Lambda counts it: 1 MB is 1,048,576 bytes and
// 1024 MB are a GB of the price list. 0 means that the record does not state it.
type MB int

// MarshalJSON writes the number, or null when the record does not state it.
func (m MB) MarshalJSON() ([]byte, error) {
	if m == 0 {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(m), 10), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *MB) UnmarshalJSON(data []byte) error {
	*m = 0
	if string(data) == "null" {
		return nil
	}
	n, err := strconv.Atoi(string(data))
	if err != nil {
		return fmt.Errorf("reading megabytes: %w", err)
	}
	*m = MB(n)
	return nil
}

// Source is the place a record was read from.
type Source struct {
	// Name is the name of the input as given to Scan.
	Name string
	// Line is the line in it, from 1. Records packed into one encoded line share its number.
	Line int
}

// String returns name:line.
func (s Source) String() string { return s.Name + ":" + strconv.Itoa(s.Line) }

// MarshalJSON writes name:line as a JSON string.
func (s Source) MarshalJSON() ([]byte, error) {
	data, err := json.Marshal(s.String())
	if err != nil {
		return nil, fmt.Errorf("writing source: %w", err)
	}
	return data, nil
}

// Invocation is one record of Lambda about an invocation or an initialisation.
// Its JSON form is a line of `cirrusbench invocations -o jsonl`.
type Invocation struct {
	// Kind is the sort of record.
	Kind Kind
	// RequestID is Lambda's request id; asynchronous retries share one. Empty in console pastes and init records.
	RequestID string
	// Time is when the record was written, which is the END of the invocation; zero when the container has no times.
	Time time.Time
	// Stream is the log stream, one for every environment; empty when the container does not name it.
	Stream string
	// Duration is the time the handler and the extensions behind it ran, without initialisation.
	Duration Millis
	// Billed is the billed time, initialisation and restore included where Lambda bills them.
	Billed Millis
	// Init is the time of the initialisation; known only for cold starts.
	Init Millis
	// Restore is the time of a SnapStart restore.
	Restore Millis
	// BilledRestore is the billed part of the restore. It is already inside Billed: never add the two.
	BilledRestore Millis
	// Memory is the function's configured memory.
	Memory MB
	// MaxMemoryUsed is the high-water mark of the environment, over all its invocations so far.
	MaxMemoryUsed MB
	// Cold says that this invocation waited for an initialisation or a restore.
	Cold bool
	// Status is how it ended.
	Status Status
	// ErrorType is Lambda's class of the error, for instance Runtime.ExitError.
	ErrorType string
	// Phase is the phase of an initialisation: init, invoke or restore.
	Phase string
	// Billable says that this record carries billed time. Managed Instances and init records do not.
	Billable bool
	// Incomplete says that the record was cut off before its billed time.
	Incomplete bool
	// Rule is the billing rule that the record's own figures show.
	Rule BillingRule
	// Source is where the record was read.
	Source Source
}

// Wall returns the time the invocation kept its environment busy: duration
// plus initialisation or restore. It is false when the duration is absent.
func (v Invocation) Wall() (time.Duration, bool) {
	return v.Duration.Value + v.Init.Value + v.Restore.Value, v.Duration.Known
}

type invocationJSON struct {
	Kind          Kind        `json:"kind"`
	RequestID     *string     `json:"request_id"`
	Time          *string     `json:"time"`
	Duration      Millis      `json:"duration_ms"`
	Billed        Millis      `json:"billed_ms"`
	Init          Millis      `json:"init_ms"`
	Restore       Millis      `json:"restore_ms"`
	BilledRestore Millis      `json:"billed_restore_ms"`
	Memory        MB          `json:"memory_mb"`
	MaxMemoryUsed MB          `json:"max_memory_used_mb"`
	Cold          bool        `json:"cold"`
	Status        Status      `json:"status"`
	ErrorType     *string     `json:"error_type"`
	Phase         string      `json:"phase,omitempty"`
	Billable      bool        `json:"billable"`
	Incomplete    bool        `json:"incomplete"`
	Rule          BillingRule `json:"billing_rule,omitempty"`
	Source        Source      `json:"source"`
}

// MarshalJSON writes the record with every key present: what the record does
// not state is null.
func (v Invocation) MarshalJSON() ([]byte, error) {
	data, err := json.Marshal(invocationJSON{
		Kind: v.Kind, RequestID: orNull(v.RequestID), Time: orNull(formatTime(v.Time)),
		Duration: v.Duration, Billed: v.Billed, Init: v.Init, Restore: v.Restore, BilledRestore: v.BilledRestore,
		Memory: v.Memory, MaxMemoryUsed: v.MaxMemoryUsed, Cold: v.Cold,
		Status: v.Status, ErrorType: orNull(v.ErrorType), Phase: v.Phase,
		Billable: v.Billable, Incomplete: v.Incomplete, Rule: v.Rule, Source: v.Source,
	})
	if err != nil {
		return nil, fmt.Errorf("writing invocation: %w", err)
	}
	return data, nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// settle derives what follows from the fields read: cold, billable, incomplete
// and the billing rule. whole says that the record was not visibly cut off.
func (v *Invocation) settle(whole bool) {
	if v.Status == "" {
		v.Status = StatusSuccess
	}
	if v.Kind != KindReport {
		return
	}
	v.Cold = v.Init.Known || v.Restore.Known
	v.Billable = v.Billed.Known
	// Managed Instances are billed by the hours of their instances; their
	// reports state the duration and nothing else.
	managed := whole && v.Duration.Known && v.Memory == 0 && v.MaxMemoryUsed == 0
	v.Incomplete = !v.Billed.Known && !managed
	v.Rule = v.billingRule()
}

// dated corrects the rule by the date of the record, which its figures alone may not
// show: 99.10 ms billed as 100 may be either, and a free initialisation after
// July 2025 is no rule any more.
func (v *Invocation) dated() {
	if v.Time.IsZero() {
		return
	}
	millisecond := time.Date(2020, time.December, 1, 0, 0, 0, 0, time.UTC)
	initBilled := time.Date(2025, time.August, 1, 0, 0, 0, 0, time.UTC)
	switch v.Rule {
	case RuleMillisecond:
		if v.Time.Before(millisecond) && v.Billed.Value%(100*time.Millisecond) == 0 {
			v.Rule = RuleSlices
		}
	case RuleSlices:
		if !v.Time.Before(millisecond) {
			v.Rule = RuleInconsistent
		}
	case RuleInitFree:
		if v.Time.Before(millisecond) || !v.Time.Before(initBilled) {
			v.Rule = RuleInconsistent
		}
	case RuleUnknown, RuleInconsistent:
	}
}

func (v *Invocation) billingRule() BillingRule {
	if !v.Billed.Known || !v.Duration.Known {
		return RuleUnknown
	}
	// One ceiling over the sum, ±1 ms because the printed durations are rounded.
	ceil := func(d, unit time.Duration) time.Duration {
		if rest := d % unit; rest > 0 {
			d += unit - rest
		}
		return d
	}
	near := func(want time.Duration) bool {
		return v.Billed.Value >= want-time.Millisecond && v.Billed.Value <= want+time.Millisecond
	}
	d := v.Duration.Value
	switch {
	case near(ceil(d+v.Init.Value+v.BilledRestore.Value, time.Millisecond)):
		return RuleMillisecond
	case v.Init.Known && near(ceil(d, time.Millisecond)):
		return RuleInitFree
	case v.Billed.Value == ceil(d, 100*time.Millisecond):
		return RuleSlices
	default:
		return RuleInconsistent
	}
}

// maxMillis bounds what is accepted as a duration: far above Lambda's own
// limits, far below the range of time.Duration.
const maxMillis = 1_000_000_000_000

// parseMillis reads a non-negative decimal number of milliseconds.
func parseMillis(s string) (time.Duration, error) {
	whole, frac, _ := strings.Cut(s, ".")
	if whole == "" || len(whole) > 13 || !digits(whole) || !digits(frac) {
		return parseMillisFloat(s)
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n > maxMillis {
		return 0, fmt.Errorf("%.40q is not a number of milliseconds", s)
	}
	// Six decimals of a millisecond are a nanosecond; nobody prints more.
	if len(frac) > 6 {
		frac = frac[:6]
	}
	ns := int64(0)
	for i := range 6 {
		ns *= 10
		if i < len(frac) {
			ns += int64(frac[i] - '0')
		}
	}
	return time.Duration(n)*time.Millisecond + time.Duration(ns), nil
}

// parseMillisFloat reads the forms that Insights prints, such as 1.2E3.
func parseMillisFloat(s string) (time.Duration, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0) || f > maxMillis || strings.ContainsAny(s, "_xXpPnN") {
		return 0, fmt.Errorf("%.40q is not a number of milliseconds", s)
	}
	return time.Duration(f*1e6 + 0.5), nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func formatMillis(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	s := fmt.Sprintf("%s%d.%06d", sign, d/time.Millisecond, d%time.Millisecond)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
