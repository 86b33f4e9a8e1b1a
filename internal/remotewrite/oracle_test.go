package remotewrite

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	promhist "github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// The oracle: the decoder that Prometheus generates from the protocol
// definitions, plus the rules of Walk written a second time over its objects,
// slowly and without looking at the walk. Whatever the two disagree on is a
// bug, in either direction.

// reasonSet is a set of reasons that apply. All histogram_* reasons count as
// one, because Prometheus' own Validate stands in for them.
type reasonSet map[string]bool

func reasonClass(why string) string {
	if strings.HasPrefix(why, "histogram_") {
		return "histogram"
	}
	return why
}

// verdict is what the oracle says.
type verdict struct {
	malformed bool
	request   reasonSet // of the whole request
	// first holds what applies to the first refused series, and to the first
	// refused metadata entry.
	first    reasonSet
	accepted Summary
	lost     Counts
	refused  int
}

// judge collects the verdict on one request.
type judge struct {
	lim   Limits
	nowMS int64
	verdict

	seriesRefused, metaRefused bool
	times, exTimes             []int64 // of accepted series
}

func newJudge(lim Limits, now time.Time) *judge {
	j := &judge{lim: lim.withDefaults()}
	j.nowMS = now.UnixMilli()
	j.request, j.first = reasonSet{}, reasonSet{}
	return j
}

// oneSeries is a series of either version, put into one shape.
type oneSeries struct {
	labels     [][2]string
	extra      reasonSet // what the version's own rules say
	samples    []oneSample
	histograms []oneHistogram
	exemplars  []oneExemplar
	metadata   int
	created    int64
}

type oneSample struct {
	value     float64
	ms, start int64
}

type oneExemplar struct {
	labels [][2]string
	ms     int64
}

type oneHistogram struct {
	ms, start int64
	schema    int32
	float     bool
	mixed     bool
	ints      *promhist.Histogram
	floats    *promhist.FloatHistogram
}

func (j *judge) time(rs reasonSet, ms int64) {
	switch {
	case ms == 0:
		rs["timestamp_zero"] = true
	case ms < 0:
		rs["timestamp_negative"] = true
	case ms < 34359738368:
		rs["timestamp_seconds"] = true
	case j.lim.FutureTolerance >= 0 && ms > j.nowMS+j.lim.FutureTolerance.Milliseconds():
		rs["timestamp_future"] = true
	}
}

func (j *judge) labelRules(rs reasonSet, ls [][2]string) {
	if len(ls) > j.lim.MaxLabelsPerSeries {
		rs["too_many_labels"] = true
		return
	}
	seen := map[string]bool{}
	for _, l := range ls {
		if l[0] == "" {
			rs["label_name_empty"] = true
		}
		if seen[l[0]] {
			rs["label_duplicate"] = true
		}
		seen[l[0]] = true
		if !utf8.ValidString(l[0]) || !utf8.ValidString(l[1]) {
			rs["label_invalid_utf8"] = true
		}
		if len(l[0]) > j.lim.MaxLabelNameBytes || len(l[1]) > j.lim.MaxLabelBytes {
			rs["label_too_long"] = true
		}
	}
}

func (j *judge) series(s oneSeries) {
	rs := maps.Clone(s.extra)
	if rs == nil {
		rs = reasonSet{}
	}
	c := Counts{Series: 1, Metadata: s.metadata}
	j.labelRules(rs, s.labels)
	if !rs["too_many_labels"] {
		name := ""
		for _, l := range s.labels {
			if l[0] == "__name__" && l[1] != "" {
				name = l[1]
			}
			if l[1] == "" {
				c.EmptyLabels++
			}
		}
		if name == "" {
			rs["name_missing"] = true
		}
		if !slices.IsSortedFunc(s.labels, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) }) {
			c.UnsortedSeries = 1
		}
	}
	if s.created != 0 {
		c.StartTimestamps++
	}
	var times, exTimes []int64
	for _, x := range s.samples {
		c.Samples++
		if math.Float64bits(x.value) == 0x7ff0000000000002 {
			c.StaleSamples++
		}
		if x.start != 0 {
			c.StartTimestamps++
		}
		j.time(rs, x.ms)
		times = append(times, x.ms)
	}
	for _, h := range s.histograms {
		if h.float {
			c.FloatHistograms++
		} else {
			c.IntHistograms++
		}
		if h.schema == -53 {
			c.CustomBucketHistograms++
		}
		if h.start != 0 {
			c.StartTimestamps++
		}
		j.time(rs, h.ms)
		times = append(times, h.ms)
		if h.mixed || !validHistogram(h) {
			rs["histogram"] = true
		}
	}
	for _, e := range s.exemplars {
		c.Exemplars++
		j.labelRules(rs, e.labels)
		if e.ms == 0 {
			rs["exemplar_no_timestamp"] = true
		} else {
			j.time(rs, e.ms)
		}
		exTimes = append(exTimes, e.ms)
	}
	if len(rs) > 0 {
		j.lost = addCounts(j.lost, c)
		j.refused++
		if !j.seriesRefused {
			j.seriesRefused = true
			maps.Copy(j.first, rs)
		}
		return
	}
	j.accepted.Counts = addCounts(j.accepted.Counts, c)
	j.times = append(j.times, times...)
	j.exTimes = append(j.exTimes, exTimes...)
}

func validHistogram(h oneHistogram) bool {
	if h.schema != -53 && (h.schema < -4 || h.schema > 52) {
		return false
	}
	if h.float {
		h.floats.Schema = clampSchema(h.schema)
		return h.floats.Validate() == nil
	}
	h.ints.Schema = clampSchema(h.schema)
	return h.ints.Validate() == nil
}

// clampSchema turns the reserved schemas, which Prometheus reduces before it
// validates, into the finest that Validate knows.
func clampSchema(s int32) int32 { return min(s, 8) }

func addCounts(a, b Counts) Counts {
	a.Series += b.Series
	a.Samples += b.Samples
	a.StaleSamples += b.StaleSamples
	a.IntHistograms += b.IntHistograms
	a.FloatHistograms += b.FloatHistograms
	a.CustomBucketHistograms += b.CustomBucketHistograms
	a.Exemplars += b.Exemplars
	a.Metadata += b.Metadata
	a.StartTimestamps += b.StartTimestamps
	a.UnsortedSeries += b.UnsortedSeries
	a.EmptyLabels += b.EmptyLabels
	return a
}

func (j *judge) finish() verdict {
	times := j.times
	if len(times) == 0 {
		times = j.exTimes
	}
	if len(times) > 0 {
		j.accepted.HasTimestamp = true
		j.accepted.MinTimestampMS, j.accepted.MaxTimestampMS = slices.Min(times), slices.Max(times)
	}
	return j.verdict
}

// oracleV1 judges a 1.0 message.
func oracleV1(b []byte, lim Limits, now time.Time) verdict {
	j := newJudge(lim, now)
	var m prompb.WriteRequest
	if m.Unmarshal(b) != nil {
		return verdict{malformed: true}
	}
	if len(b) > 0 && len(m.Timeseries) == 0 && len(m.Metadata) == 0 {
		j.request["wrong_schema"] = true
	}
	labels := func(in []prompb.Label) (out [][2]string) {
		for _, l := range in {
			out = append(out, [2]string{l.Name, l.Value})
		}
		return out
	}
	for _, ts := range m.Timeseries {
		s := oneSeries{labels: labels(ts.Labels)}
		for _, x := range ts.Samples {
			s.samples = append(s.samples, oneSample{value: x.Value, ms: x.Timestamp})
		}
		for _, x := range ts.Exemplars {
			s.exemplars = append(s.exemplars, oneExemplar{labels(x.Labels), x.Timestamp})
		}
		for _, h := range ts.Histograms {
			o := oneHistogram{ms: h.Timestamp, schema: h.Schema, float: h.IsFloatHistogram()}
			if o.float {
				o.floats = h.ToFloatHistogram()
				o.mixed = len(h.PositiveDeltas)+len(h.NegativeDeltas) > 0 || h.GetZeroCountInt() != 0
			} else {
				o.ints = h.ToIntHistogram()
				o.mixed = len(h.PositiveCounts)+len(h.NegativeCounts) > 0 || h.GetZeroCountFloat() != 0
			}
			s.histograms = append(s.histograms, o)
		}
		j.series(s)
	}
	for _, md := range m.Metadata {
		if utf8.ValidString(md.MetricFamilyName) && utf8.ValidString(md.Help) && utf8.ValidString(md.Unit) {
			j.accepted.Metadata++
			continue
		}
		j.lost.Metadata++
		j.refused++
		if !j.metaRefused {
			j.metaRefused = true
			j.first["metadata_invalid_utf8"] = true
		}
	}
	return j.finish()
}

// oracleV2 judges a 2.0 message.
func oracleV2(b []byte, lim Limits, now time.Time) verdict {
	j := newJudge(lim, now)
	var m writev2.Request
	if m.Unmarshal(b) != nil {
		return verdict{malformed: true}
	}
	known := len(m.Symbols)+len(m.Timeseries) > 0
	for _, f := range fieldsOf(m.XXX_unrecognized) {
		if f.num >= 1 && f.num <= 3 {
			j.request["wrong_schema"] = true
		}
	}
	switch {
	case len(b) == 0 || len(j.request) > 0:
	case !known:
		j.request["wrong_schema"] = true
	case len(m.Timeseries) == 0:
		j.request["empty_request"] = true
	case len(m.Symbols) == 0 || m.Symbols[0] != "":
		j.request["first_symbol"] = true
	}
	symbol := func(rs reasonSet, ref uint32, utf8Reason string) string {
		if int(ref) >= len(m.Symbols) {
			rs["ref_out_of_range"] = true
			return ""
		}
		if !utf8.ValidString(m.Symbols[ref]) {
			rs[utf8Reason] = true
		}
		return m.Symbols[ref]
	}
	labels := func(rs reasonSet, refs []uint32) (out [][2]string) {
		if len(refs)%2 != 0 {
			rs["refs_odd"] = true
			symbol(rs, refs[len(refs)-1], "label_invalid_utf8")
		}
		for i := 0; i+1 < len(refs); i += 2 {
			out = append(out, [2]string{symbol(rs, refs[i], "label_invalid_utf8"), symbol(rs, refs[i+1], "label_invalid_utf8")})
		}
		return out
	}
	for _, ts := range m.Timeseries {
		s := oneSeries{extra: reasonSet{}}
		s.labels = labels(s.extra, ts.LabelsRefs)
		for _, x := range ts.Samples {
			s.samples = append(s.samples, oneSample{value: x.Value, ms: x.Timestamp, start: x.StartTimestamp})
		}
		for _, x := range ts.Exemplars {
			s.exemplars = append(s.exemplars, oneExemplar{labels(s.extra, x.LabelsRefs), x.Timestamp})
		}
		for _, h := range ts.Histograms {
			o := oneHistogram{ms: h.Timestamp, start: h.StartTimestamp, schema: h.Schema, float: h.IsFloatHistogram()}
			if o.float {
				o.floats = h.ToFloatHistogram()
				o.mixed = len(h.PositiveDeltas)+len(h.NegativeDeltas) > 0 || h.GetZeroCountInt() != 0
			} else {
				o.ints = h.ToIntHistogram()
				o.mixed = len(h.PositiveCounts)+len(h.NegativeCounts) > 0 || h.GetZeroCountFloat() != 0
			}
			s.histograms = append(s.histograms, o)
		}
		if md := ts.Metadata; md.Type != 0 || md.HelpRef != 0 || md.UnitRef != 0 {
			s.metadata = 1
			symbol(s.extra, md.HelpRef, "metadata_invalid_utf8")
			symbol(s.extra, md.UnitRef, "metadata_invalid_utf8")
		}
		for _, f := range fieldsOf(ts.XXX_unrecognized) {
			if f.num == 6 && f.typ == 0 {
				s.created = int64(f.value)
			}
		}
		j.series(s)
	}
	return j.finish()
}

// rawField is a field of a well-formed message.
type rawField struct {
	num   int32
	typ   int
	value uint64 // of a varint
	raw   []byte // of the whole field, tag included
	body  []byte // of a length-delimited one
}

// slowVarint reads a varint that is known to be there.
func slowVarint(b []byte) (v uint64, n int) {
	for {
		v |= uint64(b[n]&0x7f) << (7 * n)
		n++
		if b[n-1] < 0x80 {
			return v, n
		}
	}
}

// fieldsOf splits a message that some decoder has accepted.
func fieldsOf(b []byte) (out []rawField) {
	for len(b) > 0 {
		t, n := slowVarint(b)
		f := rawField{num: int32(t >> 3), typ: int(t & 7)}
		size := n
		switch f.typ {
		case 0:
			v, m := slowVarint(b[n:])
			f.value = v
			size += m
		case 1:
			size += 8
		case 2:
			v, m := slowVarint(b[n:])
			f.body = b[n+m : n+m+int(v)]
			size += m + int(v)
		case 3:
			for depth := 1; depth > 0; {
				t, m := slowVarint(b[size:])
				size += m
				switch t & 7 {
				case 0:
					_, m := slowVarint(b[size:])
					size += m
				case 1:
					size += 8
				case 2:
					v, m := slowVarint(b[size:])
					size += m + int(v)
				case 3:
					depth++
				case 4:
					depth--
				case 5:
					size += 4
				}
			}
		case 5:
			size += 4
		}
		f.raw = b[:size]
		b = b[size:]
		out = append(out, f)
	}
	return out
}

// compareWithOracle fails when the walk and the oracle disagree on b. It says
// how the walk ended: a reason, or "".
func compareWithOracle(tb testing.TB, w *Walker, v Version, b []byte, lim Limits) string {
	tb.Helper()
	before := slices.Clone(b)
	got, err := w.Walk(v, b, lim, capturedAt)
	if !slices.Equal(before, b) {
		tb.Fatal("Walk changed the message")
	}
	var want verdict
	if v == V1 {
		want = oracleV1(b, lim, capturedAt)
	} else {
		want = oracleV2(b, lim, capturedAt)
	}
	why := ""
	if err != nil {
		e := wantAnyError(tb, err)
		why = e.Reason
	}
	switch {
	case want.malformed:
		if why != "malformed_protobuf" {
			tb.Fatalf("walk says %q (%v), the generated decoder that it is malformed\n%x", why, err, b)
		}
	case len(want.request) > 0:
		if !want.request[why] {
			tb.Fatalf("walk says %q (%v), the oracle %v\n%x", why, err, want.request, b)
		}
	case want.refused > 0:
		if !want.first[reasonClass(why)] {
			tb.Fatalf("walk says %q (%v), the oracle %v\n%x", why, err, want.first, b)
		}
		r := w.Rejections()
		gotLost := [...]int{r.Series, r.Samples, r.Histograms, r.Exemplars, r.Metadata, r.Total()}
		wantLost := [...]int{want.lost.Series, want.lost.Samples, want.lost.Histograms(), want.lost.Exemplars, want.lost.Metadata, want.refused}
		if gotLost != wantLost {
			tb.Fatalf("refused %v, the oracle %v\n%x", gotLost, wantLost, b)
		}
		if len(r.First) != min(want.refused, 10) {
			tb.Fatalf("%d refusals described of %d", len(r.First), want.refused)
		}
	default:
		if err != nil {
			tb.Fatalf("walk says %q (%v), the oracle accepts\n%x", why, err, b)
		}
	}
	wantSum := want.accepted
	if want.malformed || len(want.request) > 0 {
		wantSum = Summary{}
	}
	if got != wantSum {
		tb.Fatalf("summary (-oracle +walk):\n%s\n%x", cmp.Diff(wantSum, got), b)
	}
	if want.refused > 0 && !want.malformed && len(want.request) == 0 {
		checkCut(tb, w, v, b, lim, wantSum)
	}
	return why
}

// checkCut fails unless cutting what the last walk refused of b leaves a message that
// the oracle accepts as a whole and reads as it read the good part of b.
func checkCut(tb testing.TB, w *Walker, v Version, b []byte, lim Limits, accepted Summary) {
	tb.Helper()
	left := w.CutRefused(slices.Clone(b))
	var again verdict
	if v == V1 {
		again = oracleV1(left, lim, capturedAt)
	} else {
		again = oracleV2(left, lim, capturedAt)
	}
	if accepted.Series == 0 {
		again.request = nil // symbols alone are no request
	}
	if again.malformed || len(again.request) > 0 || again.refused > 0 || again.accepted != accepted {
		tb.Fatalf("what is left of the message: malformed %v, %v, %d refused; summary (-want +got):\n%s\n%x\n%x",
			again.malformed, again.request, again.refused, cmp.Diff(accepted, again.accepted), b, left)
	}
}

// wantAnyError fails unless err is an *Error that keeps the promises all errors
// make.
func wantAnyError(tb testing.TB, err error) Error {
	tb.Helper()
	e, ok := err.(*Error) //nolint:errorlint // exactly this type is promised, not one wrapped
	if !ok {
		tb.Fatalf("error of type %T: %v", err, err)
	}
	if !slices.Contains(slices.Collect(Reasons()), e.Reason) {
		tb.Fatalf("reason %q is not in Reasons", e.Reason)
	}
	if e.Status != 400 && e.Status != 413 && e.Status != 415 {
		tb.Fatalf("status %d", e.Status)
	}
	if len(e.Error()) > 2000 || e.Detail == "" {
		tb.Fatalf("error text of %d bytes: %s", len(e.Error()), e)
	}
	return *e
}
