package remotewrite

import (
	"fmt"
	"iter"
	"net/http"
	"strings"
	"unicode/utf8"
)

// Error says why a request is refused. It never carries the payload: of a label
// it quotes 64 bytes at most.
type Error struct {
	// Status is the HTTP status to answer with: 400, 413 or 415. All of them
	// tell a sender that the same request never succeeds.
	Status int
	// Reason is a snake_case word out of the bounded set of [Reasons], fit to be
	// the value of a metric label.
	Reason string
	// Detail says for people what is wrong and where.
	Detail string
	// Hint says what to do about it; it may be empty.
	Hint string
}

// Error is the Detail.
func (e *Error) Error() string {
	if e.Detail == "" {
		return "remote-write request refused: " + e.Reason
	}
	return e.Detail
}

// reason is the small number behind Error.Reason.
type reason uint8

const (
	reasonNone reason = iota

	// Of the whole request.
	reasonVersion
	reasonContentType
	reasonContentEncoding
	reasonBodyEmpty
	reasonSnappyFramed
	reasonNotSnappy
	reasonSnappyCorrupt
	reasonDecodedTooLarge
	reasonMalformed
	reasonWrongSchema
	reasonEmptyRequest
	reasonFirstSymbol
	reasonTooManySeries
	reasonTooManySamples
	reasonTooManySymbols
	reasonTimestampWidth

	// Of one series or one metadata entry.
	reasonNameMissing
	reasonLabelNameEmpty
	reasonLabelDuplicate
	reasonLabelUTF8
	reasonLabelTooLong
	reasonTooManyLabels
	reasonRefsOdd
	reasonRefOutOfRange
	reasonTimestampZero
	reasonTimestampNegative
	reasonTimestampSeconds
	reasonTimestampFuture
	reasonExemplarTimestamp
	reasonHistogramSchema
	reasonHistogramSpans
	reasonHistogramBuckets
	reasonHistogramCount
	reasonHistogramBounds
	reasonHistogramMixed
	reasonMetadataUTF8
	reasonNameNotLegacy

	reasonCount
)

func (r reason) String() string {
	return [reasonCount]string{
		reasonNone:              "none",
		reasonVersion:           "unknown_version",
		reasonContentType:       "content_type",
		reasonContentEncoding:   "content_encoding",
		reasonBodyEmpty:         "body_empty",
		reasonSnappyFramed:      "snappy_framed",
		reasonNotSnappy:         "not_snappy",
		reasonSnappyCorrupt:     "snappy_corrupt",
		reasonDecodedTooLarge:   "decoded_too_large",
		reasonMalformed:         "malformed_protobuf",
		reasonWrongSchema:       "wrong_schema",
		reasonEmptyRequest:      "empty_request",
		reasonFirstSymbol:       "first_symbol",
		reasonTooManySeries:     "too_many_series",
		reasonTooManySamples:    "too_many_samples",
		reasonTooManySymbols:    "too_many_symbols",
		reasonTimestampWidth:    "timestamp_width",
		reasonNameMissing:       "name_missing",
		reasonLabelNameEmpty:    "label_name_empty",
		reasonLabelDuplicate:    "label_duplicate",
		reasonLabelUTF8:         "label_invalid_utf8",
		reasonLabelTooLong:      "label_too_long",
		reasonTooManyLabels:     "too_many_labels",
		reasonRefsOdd:           "refs_odd",
		reasonRefOutOfRange:     "ref_out_of_range",
		reasonTimestampZero:     "timestamp_zero",
		reasonTimestampNegative: "timestamp_negative",
		reasonTimestampSeconds:  "timestamp_seconds",
		reasonTimestampFuture:   "timestamp_future",
		reasonExemplarTimestamp: "exemplar_no_timestamp",
		reasonHistogramSchema:   "histogram_schema",
		reasonHistogramSpans:    "histogram_spans",
		reasonHistogramBuckets:  "histogram_buckets",
		reasonHistogramCount:    "histogram_count",
		reasonHistogramBounds:   "histogram_custom_bounds",
		reasonHistogramMixed:    "histogram_mixed",
		reasonMetadataUTF8:      "metadata_invalid_utf8",
		reasonNameNotLegacy:     "name_not_legacy",
	}[r]
}

// hint is what to do about a reason, where there is something general to say.
func (r reason) hint() string {
	switch r {
	case reasonTimestampZero, reasonExemplarTimestamp:
		return "set the timestamp: milliseconds since 1970-01-01 UTC"
	case reasonTimestampSeconds:
		return "timestamps are milliseconds since 1970-01-01 UTC; these look like seconds, multiply by 1000"
	case reasonTimestampFuture:
		return "check the sender's clock, and that timestamps are milliseconds and not micro- or nanoseconds"
	case reasonNameMissing:
		return "every series needs a non-empty __name__ label; look for a relabel rule that drops it"
	case reasonTooManySeries, reasonTooManySamples, reasonTooManySymbols:
		return "send smaller requests: in Prometheus lower queue_config.max_samples_per_send"
	case reasonNameNotLegacy:
		return "rename it with letters, digits and underscores; in Prometheus set metric_name_validation_scheme: legacy"
	case reasonTooManyLabels, reasonLabelTooLong:
		return "drop or shorten labels with write_relabel_configs"
	}
	return ""
}

// Reasons yields every value that [Error.Reason] can take, in a fixed order, so
// that a receiver can create its metrics with all of them at zero.
func Reasons() iter.Seq[string] {
	return func(yield func(string) bool) {
		for r := reasonNone + 1; r < reasonCount; r++ {
			if !yield(r.String()) {
				return
			}
		}
	}
}

// badRequest makes an error about the request as a whole.
func badRequest(r reason, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Reason: r.String(), Detail: fmt.Sprintf(format, args...), Hint: r.hint()}
}

// tooMuch makes an error about a request that would pass if it were split.
func tooMuch(r reason, format string, args ...any) *Error {
	return &Error{Status: http.StatusRequestEntityTooLarge, Reason: r.String(), Detail: fmt.Sprintf(format, args...), Hint: r.hint()}
}

// maxQuoted bounds what an error shows of a label, in bytes.
const maxQuoted = 64

// quote shows a label name or value: escaped, and cut at maxQuoted bytes on a
// rune boundary.
func quote(s []byte) string {
	if len(s) <= maxQuoted {
		return fmt.Sprintf("%q", s)
	}
	n := maxQuoted
	for n > maxQuoted-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.TrimSuffix(fmt.Sprintf("%q", s[:n]), `"`) + `…"`
}

// maxFirst is how many rejections are kept as text.
const maxFirst = 10

// Rejections says what a walk refused, by series. A series is refused as a
// whole: with it go its samples, histograms and exemplars.
type Rejections struct {
	// Series, Samples, Histograms and Exemplars count what the refused series
	// held; Metadata counts refused entries of a 1.0 request and metadata of
	// refused series.
	Series, Samples, Histograms, Exemplars, Metadata int
	// First describes the first ten refusals in the order of the request.
	First []string
	// ByReason counts refusals by [Error.Reason].
	ByReason map[string]int
}

// Total is the number of refusals: series plus metadata entries of their own.
func (r Rejections) Total() int {
	n := 0
	for _, c := range r.ByReason {
		n += c
	}
	return n
}

// rejections collects inside a Walker; it is reused from walk to walk.
type rejections struct {
	lost    Counts // what the refused series held, and refused metadata
	first   []string
	reasons [reasonCount]int
	total   int
	why     reason // of the first refusal
	cuts    []cut  // where in the message the refused fields are, in order
}

// cut is a part of a message that is refused: fields with their tags and lengths.
type cut struct{ start, end uint32 }

// cutOut notes that the field in b[start:end] is refused.
func (r *rejections) cutOut(start, end int) {
	if n := len(r.cuts); n > 0 && r.cuts[n-1].end == uint32(start) {
		r.cuts[n-1].end = uint32(end)
		return
	}
	r.cuts = append(r.cuts, cut{uint32(start), uint32(end)})
}

func (r *rejections) reset() {
	if r.total == 0 {
		return
	}
	clear(r.first)
	*r = rejections{first: r.first[:0], cuts: r.cuts[:0]}
}

func (r *rejections) add(why reason, text string) {
	if r.total == 0 {
		r.why = why
	}
	if text != "" {
		r.first = append(r.first, text)
	}
	r.reasons[why]++
	r.total++
}

// export copies the collection for a caller.
func (r *rejections) export() Rejections {
	out := Rejections{
		Series:     r.lost.Series,
		Samples:    r.lost.Samples,
		Histograms: r.lost.Histograms(),
		Exemplars:  r.lost.Exemplars,
		Metadata:   r.lost.Metadata,
	}
	if r.total == 0 {
		return out
	}
	out.First = append(out.First, r.first...)
	out.ByReason = make(map[string]int)
	for why, n := range r.reasons {
		if n > 0 {
			out.ByReason[reason(why).String()] = n
		}
	}
	return out
}

// err makes one error of all refusals: the first in full, the rest as counts.
func (r *rejections) err() *Error {
	var sb strings.Builder
	sb.WriteString(r.first[0])
	if r.total > 1 {
		fmt.Fprintf(&sb, "; %d refused in all:", r.total)
		for why, n := range r.reasons {
			if n > 0 {
				fmt.Fprintf(&sb, " %s %d", reason(why), n)
			}
		}
	}
	return &Error{Status: http.StatusBadRequest, Reason: r.why.String(), Detail: sb.String(), Hint: r.why.hint()}
}
