package remotewrite

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"
)

// Defaults of [Limits].
const (
	defaultMaxDecodedBytes = 64 << 20
	defaultFutureTolerance = 10 * time.Minute
	defaultMaxSeries       = 500_000
	defaultMaxSamples      = 1_000_000
	defaultMaxSymbols      = 1_000_000
	defaultMaxLabels       = 256
	defaultMaxNameBytes    = 1 << 10
	defaultMaxLabelBytes   = 32 << 10

	// maxMessage bounds every message, so that offsets into it leave two bits of
	// a uint32 free.
	maxMessage = 1<<30 - 1
)

// Limits bounds what a walk accepts. A field that is zero, or negative where
// nothing else is said, stands for its default.
type Limits struct {
	// MaxDecodedBytes bounds the decoded message in bytes. Default 64 MiB; more
	// than 1 GiB-1 is never accepted.
	MaxDecodedBytes int
	// FutureTolerance is how far a timestamp may be ahead of now. Default 10
	// minutes; negative switches the check off, for reading recorded data.
	FutureTolerance time.Duration
	// MaxSeries bounds the series of a request. Default 500,000.
	MaxSeries int
	// MaxSamples bounds samples, histograms and exemplars of a request, taken
	// together. Default 1,000,000.
	MaxSamples int
	// MaxSymbols bounds the symbol table of a 2.0 request. Default 1,000,000; the
	// walker keeps 16 bytes a symbol.
	MaxSymbols int
	// MaxLabelsPerSeries bounds the labels of one series or exemplar. Default
	// 256.
	MaxLabelsPerSeries int
	// MaxLabelNameBytes bounds one label name in bytes. Default 1 KiB.
	MaxLabelNameBytes int
	// MaxLabelBytes bounds one label value in bytes. Default 32 KiB.
	MaxLabelBytes int
	// LegacyNames refuses series whose metric or label names are not what Prometheus
	// took before it took any UTF-8: [a-zA-Z_:][a-zA-Z0-9_:]* and the same without the
	// colon. For storage that cannot keep others; it takes the walk off its fast path.
	LegacyNames bool
}

// withDefaults fills in the defaults.
func (l Limits) withDefaults() Limits {
	l.MaxDecodedBytes = cmp.Or(max(l.MaxDecodedBytes, 0), defaultMaxDecodedBytes)
	l.FutureTolerance = cmp.Or(l.FutureTolerance, defaultFutureTolerance)
	l.MaxSeries = cmp.Or(max(l.MaxSeries, 0), defaultMaxSeries)
	l.MaxSamples = cmp.Or(max(l.MaxSamples, 0), defaultMaxSamples)
	l.MaxSymbols = cmp.Or(max(l.MaxSymbols, 0), defaultMaxSymbols)
	l.MaxLabelsPerSeries = cmp.Or(max(l.MaxLabelsPerSeries, 0), defaultMaxLabels)
	l.MaxLabelNameBytes = cmp.Or(max(l.MaxLabelNameBytes, 0), defaultMaxNameBytes)
	l.MaxLabelBytes = cmp.Or(max(l.MaxLabelBytes, 0), defaultMaxLabelBytes)
	return l
}

// Counts is what a request holds.
type Counts struct {
	// Series counts TimeSeries messages. Real senders repeat a series for its
	// exemplars, so this is not the number of distinct label sets.
	Series int
	// Samples counts float samples, stale markers included.
	Samples int
	// StaleSamples counts the samples among them whose value is, bit by bit, the
	// stale marker 0x7ff0000000000002.
	StaleSamples int
	// IntHistograms counts native histograms with integer counts, those with
	// custom buckets included. A histogram that gives no count is one of them.
	IntHistograms int
	// FloatHistograms counts native histograms with float counts, those with
	// custom buckets included.
	FloatHistograms int
	// CustomBucketHistograms counts the histograms among both kinds whose schema
	// is -53 (NHCB). It is a part of them and not a third kind.
	CustomBucketHistograms int
	// Exemplars counts exemplars, on series of their own or beside samples.
	Exemplars int
	// Metadata counts metadata: in 1.0 entries of the request, in 2.0 series
	// whose metadata has a type, a help or a unit.
	Metadata int
	// StartTimestamps counts samples and histograms with a non-zero start
	// timestamp (2.0-rc.4), plus series with a non-zero created_timestamp
	// (2.0-rc.3).
	StartTimestamps int
	// UnsortedSeries counts series whose labels are not in the order of their
	// names. They are accepted: vmagent sends nearly all of its series so.
	UnsortedSeries int
	// EmptyLabels counts series labels with an empty value, which mean the same
	// as no label.
	EmptyLabels int
}

// Histograms counts all native histograms, as the Written header wants them.
func (c Counts) Histograms() int { return c.IntHistograms + c.FloatHistograms }

// minus is what c has more than o.
func (c Counts) minus(o Counts) Counts {
	return Counts{
		Series:                 c.Series - o.Series,
		Samples:                c.Samples - o.Samples,
		StaleSamples:           c.StaleSamples - o.StaleSamples,
		IntHistograms:          c.IntHistograms - o.IntHistograms,
		FloatHistograms:        c.FloatHistograms - o.FloatHistograms,
		CustomBucketHistograms: c.CustomBucketHistograms - o.CustomBucketHistograms,
		Exemplars:              c.Exemplars - o.Exemplars,
		Metadata:               c.Metadata - o.Metadata,
		StartTimestamps:        c.StartTimestamps - o.StartTimestamps,
		UnsortedSeries:         c.UnsortedSeries - o.UnsortedSeries,
		EmptyLabels:            c.EmptyLabels - o.EmptyLabels,
	}
}

// plus adds up.
func (c Counts) plus(o Counts) Counts { return c.minus(Counts{}.minus(o)) }

// Summary is what a request holds and when. It depends on the message alone,
// not on the clock, so the same body always gives the same Summary.
type Summary struct {
	Counts
	// MinTimestampMS and MaxTimestampMS are the first and the last timestamp in
	// milliseconds since 1970 over samples and histograms; over exemplars only if
	// the request has neither. Start timestamps play no part. Both are zero when
	// HasTimestamp is false.
	MinTimestampMS, MaxTimestampMS int64
	// HasTimestamp is false for a request without samples, histograms and
	// exemplars: one with metadata only.
	HasTimestamp bool
}

// staleNaN is the NaN that marks a series as gone.
const staleNaN = 0x7ff0000000000002

// minPlausibleMS is 1971-02-02 as milliseconds. It is the smallest number whose
// varint has six bytes; a time in seconds stays below it for another thousand
// years.
const minPlausibleMS = 1 << 35

// Walker walks messages. It holds scratch memory that is reused, so that a walk
// allocates nothing once it has seen a message of the same size. The zero value
// is ready; a Walker must not be used by two goroutines at once. It keeps no
// reference to a message after Walk returns.
type Walker struct {
	version  Version
	lim      Limits
	maxMS    int64  // the latest timestamp that is not in the future
	maxName  uint32 // bytes of a label name
	maxValue uint32 // bytes of a label value

	seriesLeft  int // MaxSeries less the refused
	samplesLeft int // MaxSamples less the refused

	sum   tally
	saved tally // sum as it was before the series under way
	rej   rejections

	// The series under way.
	why    reason // of its refusal, the first found
	text   string // its description, when it is among the first ten
	labels labelList
	ex     labelList // of the exemplar under way

	symbols []symbol // of a 2.0 request
	order   []uint32 // scratch to look for duplicates
}

// tally adds up a Summary.
type tally struct {
	Counts
	minMS, maxMS     int64 // of samples and histograms
	exMinMS, exMaxMS int64 // of exemplars
}

func newTally() tally {
	return tally{minMS: math.MaxInt64, maxMS: math.MinInt64, exMinMS: math.MaxInt64, exMaxMS: math.MinInt64}
}

func (t *tally) summary() Summary {
	s := Summary{Counts: t.Counts}
	switch {
	case t.Samples+t.Histograms() > 0:
		s.MinTimestampMS, s.MaxTimestampMS, s.HasTimestamp = t.minMS, t.maxMS, true
	case t.Exemplars > 0:
		s.MinTimestampMS, s.MaxTimestampMS, s.HasTimestamp = t.exMinMS, t.exMaxMS, true
	}
	return s
}

// Walk checks a decoded message of version v and counts what it holds.
//
// The error is an [*Error]. When the request as a whole is no good (not
// protobuf, the message of the other version, over a limit) the Summary is
// zero. When series are refused, the walk still goes through all of the
// message: the error describes the first and counts the others, [Walker.Rejections]
// tells them apart, and the Summary covers what is left, which is what a
// receiver that stores the good part would store.
//
// A series is refused for: no or an empty __name__ (also on series that hold
// exemplars or metadata only), an empty or repeated label name, text that is
// not UTF-8, references that are odd in number or out of range, a timestamp
// that is 0, negative, in seconds or later than now plus the tolerance, an
// exemplar without a timestamp, and a histogram whose parts contradict each
// other. Unsorted labels and empty values are counted and accepted, and so are
// series with exemplars only, requests with metadata only, old timestamps, any
// float value, and an empty message.
//
// Walk does not change decoded and allocates only to describe refusals.
func (w *Walker) Walk(v Version, decoded []byte, lim Limits, now time.Time) (Summary, error) {
	w.start(v, lim, now)
	if limit := min(w.lim.MaxDecodedBytes, maxMessage); len(decoded) > limit {
		return Summary{}, badRequest(reasonDecodedTooLarge, "the message has %d bytes, the limit is %d", len(decoded), limit)
	}
	var err *Error
	switch v {
	case V1:
		err = w.walkV1(decoded)
	case V2:
		err = w.walkV2(decoded)
	default:
		err = badRequest(reasonVersion, "walking a remote-write message: %s", v)
	}
	if err != nil {
		return Summary{}, err
	}
	if w.rej.total > 0 {
		return w.sum.summary(), w.rej.err()
	}
	return w.sum.summary(), nil
}

// CutRefused takes what the last walk refused out of decoded, the message that it
// walked, and returns what is left: the message that the Summary of that walk
// describes. It works in place, so decoded is spoilt. Of a 2.0 request all symbols
// stay, so that references hold.
func (w *Walker) CutRefused(decoded []byte) []byte {
	cuts := w.rej.cuts
	if len(cuts) == 0 {
		return decoded
	}
	n := int(cuts[0].start)
	for i, c := range cuts {
		next := len(decoded)
		if i+1 < len(cuts) {
			next = int(cuts[i+1].start)
		}
		n += copy(decoded[n:], decoded[c.end:next])
	}
	return decoded[:n]
}

// Rejections says what the last walk refused, when its error was about series
// or metadata entries and not about the request as a whole. The result is the
// caller's to keep.
func (w *Walker) Rejections() Rejections { return w.rej.export() }

func (w *Walker) start(v Version, lim Limits, now time.Time) {
	w.version, w.lim = v, lim.withDefaults()
	w.maxName, w.maxValue = uint32(min(w.lim.MaxLabelNameBytes, maxMessage)), uint32(min(w.lim.MaxLabelBytes, maxMessage))
	w.seriesLeft, w.samplesLeft = w.lim.MaxSeries, w.lim.MaxSamples
	w.maxMS = math.MaxInt64
	if w.lim.FutureTolerance >= 0 {
		w.maxMS = now.Add(w.lim.FutureTolerance).UnixMilli()
	}
	w.sum = newTally()
	w.rej.reset()
	w.why, w.text = reasonNone, ""
}

// malformed is the error for broken protobuf.
func (w *Walker) malformed(v Version) *Error {
	return badRequest(reasonMalformed, "decoding the %s message: malformed protobuf in or behind series %d", v, w.sum.Series+w.rej.lost.Series)
}

// beginSeries opens a series: what comes up to endSeries stands or falls with
// it.
func (w *Walker) beginSeries() {
	w.saved = w.sum
	w.sum.Series++
	w.labels.reset()
}

// endSeries closes a series that beginSeries has opened.
func (w *Walker) endSeries() {
	if w.why == reasonNone {
		return
	}
	lost := w.sum.minus(w.saved.Counts)
	w.sum = w.saved
	w.rej.lost = w.rej.lost.plus(lost)
	w.rej.add(w.why, w.text)
	w.why, w.text = reasonNone, ""
	// What is refused counts towards the limits as well.
	w.seriesLeft -= lost.Series
	w.samplesLeft -= lost.Samples + lost.Histograms() + lost.Exemplars
}

// overLimits says whether the request holds too much.
func (w *Walker) overLimits() bool {
	return w.sum.Series > w.seriesLeft || w.sum.Samples+w.sum.IntHistograms+w.sum.FloatHistograms+w.sum.Exemplars > w.samplesLeft
}

func (w *Walker) limitError() *Error {
	if w.sum.Series > w.seriesLeft {
		return tooMuch(reasonTooManySeries, "the request has more than %d series, the limit", w.lim.MaxSeries)
	}
	return tooMuch(reasonTooManySamples, "the request has more than %d samples, histograms and exemplars, the limit", w.lim.MaxSamples)
}

// refuse marks the series under way as bad. Only the first reason counts, and
// only the first ten refusals are put into words.
func (w *Walker) refuse(why reason, format string, args ...any) {
	if w.why != reasonNone {
		return
	}
	w.why = why
	if len(w.rej.first) < maxFirst {
		w.text = fmt.Sprintf("series %d: ", w.saved.Series+w.rej.lost.Series) + fmt.Sprintf(format, args...)
	}
}

// sampleTime checks and counts in the timestamp of a sample or histogram.
func (w *Walker) sampleTime(ms int64, what string) {
	if ms < minPlausibleMS || ms > w.maxMS {
		w.refuseTime(ms, what)
	}
	if ms < w.sum.minMS {
		w.sum.minMS = ms
	}
	if ms > w.sum.maxMS {
		w.sum.maxMS = ms
	}
}

// exemplarTime is sampleTime for exemplars.
func (w *Walker) exemplarTime(ms int64) {
	switch {
	case ms == 0:
		w.refuse(reasonExemplarTimestamp, "an exemplar has no timestamp")
	case ms < minPlausibleMS || ms > w.maxMS:
		w.refuseTime(ms, "an exemplar")
	}
	w.sum.exMinMS = min(w.sum.exMinMS, ms)
	w.sum.exMaxMS = max(w.sum.exMaxMS, ms)
}

func (w *Walker) refuseTime(ms int64, what string) {
	switch {
	case ms == 0:
		w.refuse(reasonTimestampZero, "%s has the timestamp 0 or none", what)
	case ms < 0:
		w.refuse(reasonTimestampNegative, "%s has the negative timestamp %d", what, ms)
	case ms < minPlausibleMS:
		w.refuse(reasonTimestampSeconds, "%s has the timestamp %d, which is no plausible number of milliseconds", what, ms)
	default:
		w.refuse(reasonTimestampFuture, "%s has the timestamp %d ms, the latest accepted is %d ms", what, ms, w.maxMS)
	}
}

// startTime counts in a start timestamp; zero means unset.
func (w *Walker) startTime(ms int64) {
	if ms != 0 {
		w.sum.StartTimestamps++
	}
}

// label is where a label's name and value are in the message.
type label struct {
	name, nameLen   uint32
	value, valueLen uint32
}

// labelList is a bounded list of labels.
type labelList struct {
	list []label
	n    int // all labels, also those beyond the bound
	// valid means that all text of the list is known to be UTF-8.
	valid bool
}

func (l *labelList) reset() { l.list, l.n, l.valid = l.list[:0], 0, false }

func (l *labelList) add(x label, limit int) {
	l.n++
	if l.n <= limit {
		l.list = append(l.list, x)
	}
}

// checkSeriesLabels checks and counts the labels of the series under way.
func (w *Walker) checkSeriesLabels(b []byte) {
	named, sorted := w.checkLabels(b, &w.labels, "")
	if !sorted {
		w.sum.UnsortedSeries++
	}
	if !named {
		w.refuse(reasonNameMissing, "the series has no __name__ label, or an empty one")
	}
}

// checkExemplarLabels checks the labels of the exemplar under way.
func (w *Walker) checkExemplarLabels(b []byte) {
	empty := w.sum.EmptyLabels
	w.checkLabels(b, &w.ex, "an exemplar's ")
	w.sum.EmptyLabels = empty // counted of series only
}

// checkLabels applies the rules that all labels share, up to the first that is
// broken. It says whether there is a non-empty __name__ and whether the names
// are in order.
func (w *Walker) checkLabels(b []byte, ls *labelList, whose string) (named, sorted bool) {
	if ls.n > w.lim.MaxLabelsPerSeries {
		w.refuse(reasonTooManyLabels, "%slabels are %d, the limit is %d", whose, ls.n, w.lim.MaxLabelsPerSeries)
	}
	sorted = true
	var prev []byte
	for i := range ls.list {
		// Going on would only cost, and with hostile references to one long text
		// it could cost a lot.
		if w.why != reasonNone {
			return false, true
		}
		l := &ls.list[i]
		name := b[l.name : l.name+l.nameLen]
		switch {
		case l.nameLen == 0:
			w.refuse(reasonLabelNameEmpty, "%slabel %d has an empty name", whose, i)
			continue
		case l.nameLen > w.maxName:
			w.refuse(reasonLabelTooLong, "%slabel %s has a name of %d bytes, the limit is %d", whose, quote(name), l.nameLen, w.maxName)
			continue
		case l.valueLen > w.maxValue:
			w.refuse(reasonLabelTooLong, "%slabel %s has a value of %d bytes, the limit is %d", whose, quote(name), l.valueLen, w.maxValue)
			continue
		case !ls.valid && (!utf8.Valid(name) || !utf8.Valid(b[l.value:l.value+l.valueLen])):
			w.refuse(reasonLabelUTF8, "%slabel %s is not valid UTF-8 in its name or value", whose, quote(name))
			continue
		case w.lim.LegacyNames && !legacyLabel(name):
			w.refuse(reasonNameNotLegacy, "%slabel %s has a name with other characters than a-z A-Z 0-9 _", whose, quote(name))
			continue
		case l.valueLen == 0:
			w.sum.EmptyLabels++
		case string(name) == "__name__":
			named = true
			if metric := b[l.value : l.value+l.valueLen]; w.lim.LegacyNames && !legacyMetric(metric) {
				w.refuse(reasonNameNotLegacy, "the metric name %s has other characters than a-z A-Z 0-9 _ :", quote(metric))
			}
		}
		if i > 0 {
			switch c := bytes.Compare(prev, name); {
			case c > 0:
				sorted = false
			case c == 0:
				w.refuse(reasonLabelDuplicate, "%slabel %s occurs twice", whose, quote(name))
			}
		}
		prev = name
	}
	if !sorted && w.why == reasonNone {
		if name, twice := w.duplicate(b, ls.list); twice {
			w.refuse(reasonLabelDuplicate, "%slabel %s occurs twice", whose, quote(name))
		}
	}
	return named, sorted
}

// legacyMetric says whether s is a metric name by the rules before UTF-8.
func legacyMetric(s []byte) bool {
	for i, c := range s {
		letter, digit := 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9'
		if !letter && c != '_' && c != ':' && (!digit || i == 0) {
			return false
		}
	}
	return len(s) > 0
}

// legacyLabel is legacyMetric for the name of a label.
func legacyLabel(s []byte) bool { return legacyMetric(s) && bytes.IndexByte(s, ':') < 0 }

// duplicate looks for a repeated name among labels that are not in order.
func (w *Walker) duplicate(b []byte, ls []label) (name []byte, twice bool) {
	at := func(i int) []byte { return b[ls[i].name : ls[i].name+ls[i].nameLen] }
	const few = 16 // up to here comparing all pairs is cheaper than sorting
	if len(ls) <= few {
		for i := 1; i < len(ls); i++ {
			for j := range i {
				if ls[i].nameLen == ls[j].nameLen && string(at(i)) == string(at(j)) {
					return at(i), true
				}
			}
		}
		return nil, false
	}
	w.order = w.order[:0]
	for i := range ls {
		w.order = append(w.order, uint32(i))
	}
	slices.SortFunc(w.order, func(i, j uint32) int { return bytes.Compare(at(int(i)), at(int(j))) })
	for i := 1; i < len(w.order); i++ {
		if p, q := at(int(w.order[i-1])), at(int(w.order[i])); string(p) == string(q) {
			return q, true
		}
	}
	return nil, false
}
