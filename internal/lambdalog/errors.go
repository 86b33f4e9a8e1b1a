package lambdalog

import (
	"errors"
	"fmt"
	"time"
)

// ErrNotReport says that a line is no record of Lambda's platform: most lines
// of a log are not.
var ErrNotReport = errors.New("no platform record")

// LineError is a line that claims to be a record and cannot be read. Reading
// goes on behind it.
type LineError struct {
	// Name is the input's name and Line the line in it, from 1.
	Name string
	Line int
	// Msg says what is wrong; it does not quote the line.
	Msg string
}

// Error returns name:line: message.
func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %s", e.Name, e.Line, e.Msg) }

// NoticeKind says what a NoticeError tells about its input.
type NoticeKind string

// The notices.
const (
	// NoticeDuplicate is an event that was already read: overlapping pages repeat event ids.
	NoticeDuplicate NoticeKind = "duplicate"
	// NoticeDropped tells that the Telemetry API dropped records, so that the sample is incomplete.
	NoticeDropped NoticeKind = "dropped"
	// NoticeRowCap tells that a Logs Insights answer is as long as Insights allows, so that rows may be missing.
	NoticeRowCap NoticeKind = "row_cap"
	// NoticeAggregate tells that the input holds averages and no records.
	NoticeAggregate NoticeKind = "aggregate"
	// NoticeNoReport tells that the log tail of an invoke does not reach back to its REPORT line.
	NoticeNoReport NoticeKind = "no_report"
	// NoticeLongLine is a line beyond MaxLineBytes, which was skipped.
	NoticeLongLine NoticeKind = "long_line"
)

// NoticeError is something that must be said about an input but is no broken
// line. Reading goes on behind it.
type NoticeError struct {
	// Name is the input's name and Line the line in it, from 1.
	Name string
	Line int
	// Kind says what happened, Count to how many records.
	Kind  NoticeKind
	Count int64
	// Aggregate is set for NoticeAggregate.
	Aggregate *Aggregate
}

// Aggregate is what CloudWatch metrics know of a function: no single
// invocation, no billed time, and a duration without the initialisation. A
// forecast from it is approximate.
type Aggregate struct {
	// Invocations is the number of invocations over all periods.
	Invocations int64
	// MeanDuration is the mean of the Duration metric weighted by invocations.
	MeanDuration Millis
}

// Error says what the notice means, with name:line.
func (e *NoticeError) Error() string {
	at := fmt.Sprintf("%s:%d: ", e.Name, e.Line)
	switch e.Kind {
	case NoticeDuplicate:
		return at + "event was already read, skipped"
	case NoticeDropped:
		return fmt.Sprintf("%sLambda dropped %d telemetry records: the sample is incomplete", at, e.Count)
	case NoticeRowCap:
		return fmt.Sprintf("%sLogs Insights returned its limit of %d rows: narrow the time range, rows may be missing", at, e.Count)
	case NoticeAggregate:
		mean := ""
		if e.Aggregate != nil && e.Aggregate.MeanDuration.Known {
			mean = fmt.Sprintf(" with a mean duration of %s ms", e.Aggregate.MeanDuration.rounded(time.Microsecond))
		}
		return fmt.Sprintf("%smetrics of %d invocations%s hold averages and no billed durations", at, e.Count, mean)
	case NoticeNoReport:
		return at + "the log tail holds no REPORT line: it shows only the last 4 KB of the log"
	case NoticeLongLine:
		return fmt.Sprintf("%sline is longer than %d bytes, skipped", at, MaxLineBytes)
	}
	return at + string(e.Kind)
}

func (m Millis) rounded(unit time.Duration) Millis {
	m.Value = m.Value.Round(unit)
	return m
}
