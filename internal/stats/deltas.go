package stats

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// DeltasSchema is the value of "schema" in a file of deltas.
const DeltasSchema = "cirrusbench/deltas/v1"

// DeltaMethod tells how percentiles behind the deltas are computed.
type DeltaMethod string

const (
	// DeltaExact keeps every latency, 8 bytes each, and has no error.
	DeltaExact DeltaMethod = "exact"
	// DeltaHDR keeps a histogram for each pair and states its error bound.
	DeltaHDR DeltaMethod = "hdr"
)

// ParseDeltaMethod reads the name of a method. An unknown one is an [*InputError].
func ParseDeltaMethod(s string) (DeltaMethod, error) {
	switch m := DeltaMethod(s); m {
	case DeltaExact, DeltaHDR:
		return m, nil
	default:
		return "", &InputError{Msg: fmt.Sprintf("method %q is unknown", s), Hint: "use exact or hdr"}
	}
}

// NegativePolicy tells what becomes of negative latencies, which two clocks that
// disagree produce. They are counted under every policy.
type NegativePolicy string

const (
	// NegativeKeep uses them as they are. Histograms cannot, so [DeltaHDR] refuses.
	NegativeKeep NegativePolicy = "keep"
	// NegativeClamp uses them as 0.
	NegativeClamp NegativePolicy = "clamp"
	// NegativeDrop leaves them out.
	NegativeDrop NegativePolicy = "drop"
)

// ParseNegativePolicy reads the name of a policy. An unknown one is an [*InputError].
func ParseNegativePolicy(s string) (NegativePolicy, error) {
	switch p := NegativePolicy(s); p {
	case NegativeKeep, NegativeClamp, NegativeDrop:
		return p, nil
	default:
		return "", &InputError{Msg: fmt.Sprintf("policy %q for negative latencies is unknown", s), Hint: "use keep, clamp or drop"}
	}
}

// PairKey names an ordered pair: latencies from p1 to w1 and from w1 to p1 are two
// pairs. Names are compared byte by byte; the empty name is a name.
type PairKey struct{ Source, Destination string }

// Compare orders pairs by source, then destination.
func (k PairKey) Compare(o PairKey) int {
	return cmp.Or(strings.Compare(k.Source, o.Source), strings.Compare(k.Destination, o.Destination))
}

// Levels holds one value for each of D2 to D5.
type Levels[T any] struct {
	D2 T `json:"d2"`
	D3 T `json:"d3"`
	D4 T `json:"d4"`
	D5 T `json:"d5"`
}

// DeltaSet is the median and the deltas of one set of latencies, in milliseconds.
type DeltaSet struct {
	Count    int64   `json:"count"`
	MinMS    float64 `json:"min_ms"`
	MedianMS float64 `json:"median_ms"`
	D2MS     float64 `json:"d2_ms"`
	D3MS     float64 `json:"d3_ms"`
	D4MS     float64 `json:"d4_ms"`
	D5MS     float64 `json:"d5_ms"`
	// BoundMS is the largest error each delta can have: 0 for the exact method,
	// (P + M)/2048 + 0.001 ms for histograms.
	BoundMS Levels[float64] `json:"bound_ms"`
	// Supported tells that the percentile lies below the largest latency. It takes
	// 101, 1,001, 10,001 and 100,001 latencies; with fewer, the delta is still
	// given, but interpolates the maximum.
	Supported Levels[bool] `json:"supported"`
}

// PairDeltas is the [DeltaSet] of one pair.
type PairDeltas struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	DeltaSet
}

// DeltaSummary describes one delta over all pairs, every pair with the same
// weight, in milliseconds.
type DeltaSummary struct {
	MedianMS float64 `json:"median_ms"`
	MeanMS   float64 `json:"mean_ms"`
	// StdMS is the population standard deviation (divisor n).
	StdMS float64 `json:"std_ms"`
	MaxMS float64 `json:"max_ms"`
	MinMS float64 `json:"min_ms"`
	// BoundMS is the largest error that any of the five can have: the largest
	// bound of a pair.
	BoundMS        float64 `json:"bound_ms"`
	SupportedPairs int     `json:"supported_pairs"`
}

// Deltas is D2 to D5 for each pair, summed up over the pairs, and pooled over all
// latencies. Summary and Pooled are all zero when there are no pairs.
type Deltas struct {
	// Schema and Tool are set in a file of deltas and absent inside a run file.
	Schema string `json:"schema,omitempty"`
	Tool   *Tool  `json:"tool,omitempty"`
	// Rows is the number of records read. Used of them count in the numbers below,
	// Skipped held no latency, and Negative had one below zero (used or not,
	// as the policy says).
	Rows     int64       `json:"rows"`
	Used     int64       `json:"used"`
	Skipped  int64       `json:"skipped"`
	Negative int64       `json:"negative"`
	Method   DeltaMethod `json:"method"`
	// Pairs is sorted by source, then destination.
	Pairs   []PairDeltas         `json:"pairs"`
	Summary Levels[DeltaSummary] `json:"summary"`
	Pooled  DeltaSet             `json:"pooled"`
}

// WriteJSON writes d as a file of deltas made by tool: indented, in a fixed order,
// with a newline at the end.
func (d *Deltas) WriteJSON(w io.Writer, tool Tool) error {
	file := *d
	file.Schema = DeltasSchema
	file.Tool = &tool
	if err := writeJSON(w, &file); err != nil {
		return fmt.Errorf("writing deltas: %w", err)
	}
	return nil
}

// The quantiles behind a DeltaSet, the median first.
const (
	qMedian = 0.5
	qD2     = 0.99
	qD3     = 0.999
	qD4     = 0.9999
	qD5     = 0.99999
)

// newDeltaSet builds a set from its percentiles in milliseconds: the median and
// those of D2 to D5.
func newDeltaSet(count int64, minMS float64, p [5]float64, bound func(p float64) float64) DeltaSet {
	m := p[0]
	return DeltaSet{
		Count:    count,
		MinMS:    minMS,
		MedianMS: m,
		D2MS:     p[1] - m,
		D3MS:     p[2] - m,
		D4MS:     p[3] - m,
		D5MS:     p[4] - m,
		BoundMS:  Levels[float64]{D2: bound(p[1]), D3: bound(p[2]), D4: bound(p[3]), D5: bound(p[4])},
		Supported: Levels[bool]{
			D2: count >= 101, D3: count >= 1_001, D4: count >= 10_001, D5: count >= 100_001,
		},
	}
}

// Deltas returns the median and D2 to D5 of everything recorded, with the error
// bound of a histogram. It is all zero when nothing is recorded.
func (h *Histogram) Deltas() DeltaSet {
	if h.count == 0 {
		return DeltaSet{}
	}
	p := [5]float64(h.Quantiles(qMedian, qD2, qD3, qD4, qD5))
	// A bucket is at most 1/1024 of its values wide, and at least 512 ns; its
	// middle is off by half of that. Interpolation does not add to it. With two or
	// more latencies above 24 h, one that reads as the maximum can be off by
	// all that lies between.
	var beyond float64
	if h.overflow > 1 {
		beyond = toMS(h.Max() - time.Duration(highestNS))
	}
	return newDeltaSet(h.count, toMS(h.Min()), p, func(percentile float64) float64 {
		return (percentile+p[0])/2048 + 0.001 + beyond
	})
}

// DeltasFromHistograms returns the deltas of the histogram of each pair. Pairs
// without a latency are left out.
func DeltasFromHistograms(pairs map[PairKey]*Histogram) *Deltas {
	d := &Deltas{Method: DeltaHDR, Pairs: make([]PairDeltas, 0, len(pairs))}
	pooled := NewHistogram()
	for _, key := range slices.SortedFunc(maps.Keys(pairs), PairKey.Compare) {
		h := pairs[key]
		if h == nil {
			continue
		}
		pooled.Merge(h)
		if h.Count() > 0 {
			d.Pairs = append(d.Pairs, PairDeltas{key.Source, key.Destination, h.Deltas()})
		}
	}
	d.Used = pooled.Count()
	d.Negative = pooled.Negative()
	d.Rows = d.Used + d.Negative
	d.Summary = summarize(d.Pairs)
	d.Pooled = pooled.Deltas()
	return d
}

// summarize describes each delta over the pairs, in the order of the pairs, which
// is fixed, so that rounding is too.
func summarize(pairs []PairDeltas) Levels[DeltaSummary] {
	if len(pairs) == 0 {
		return Levels[DeltaSummary]{}
	}
	level := func(value, bound func(*DeltaSet) float64, supported func(*DeltaSet) bool) DeltaSummary {
		var s DeltaSummary
		values := make([]float64, len(pairs))
		var sum float64
		for i := range pairs {
			p := &pairs[i].DeltaSet
			values[i] = value(p)
			sum += values[i]
			s.BoundMS = max(s.BoundMS, bound(p))
			if supported(p) {
				s.SupportedPairs++
			}
		}
		n := float64(len(values))
		s.MeanMS = sum / n
		var squares float64
		for _, v := range values {
			squares += float64((v - s.MeanMS) * (v - s.MeanMS)) // not fused, see lerp
		}
		s.StdMS = math.Sqrt(squares / n)
		slices.Sort(values)
		s.MedianMS = quantileSorted(values, qMedian)
		s.MinMS, s.MaxMS = values[0], values[len(values)-1]
		return s
	}
	return Levels[DeltaSummary]{
		D2: level(func(p *DeltaSet) float64 { return p.D2MS }, func(p *DeltaSet) float64 { return p.BoundMS.D2 }, func(p *DeltaSet) bool { return p.Supported.D2 }),
		D3: level(func(p *DeltaSet) float64 { return p.D3MS }, func(p *DeltaSet) float64 { return p.BoundMS.D3 }, func(p *DeltaSet) bool { return p.Supported.D3 }),
		D4: level(func(p *DeltaSet) float64 { return p.D4MS }, func(p *DeltaSet) float64 { return p.BoundMS.D4 }, func(p *DeltaSet) bool { return p.Supported.D4 }),
		D5: level(func(p *DeltaSet) float64 { return p.D5MS }, func(p *DeltaSet) float64 { return p.BoundMS.D5 }, func(p *DeltaSet) bool { return p.Supported.D5 }),
	}
}

// maxLatencyMS bounds what counts as a latency: 285 years, which still fits a
// time.Duration. A larger number is no latency but a mistake, and its square
// could leave the range of a float.
const maxLatencyMS = 9e12

// DeltaCollector gathers latencies of pairs one by one. Make one with
// [NewDeltaCollector]; it is not safe for concurrent use.
type DeltaCollector struct {
	method DeltaMethod
	policy NegativePolicy

	exact map[PairKey][]float64 // ms
	hists map[PairKey]*Histogram

	rows, used, skipped, negative int64

	firstSkipped *SkippedRow
}

// SkippedRow is a row that held no latency.
type SkippedRow struct {
	// Line is where it begins, from 1.
	Line int
	// Text is its latency where it has one and the whole row where not, shortened to 80 characters.
	Text string
}

// FirstSkipped returns the first row of the input that held no latency, and how many of how many rows did not; nil when
// there was none. Rows that [DeltaCollector.Skip] and [DeltaCollector.Add] were told of directly are counted only.
func (c *DeltaCollector) FirstSkipped() (first *SkippedRow, skipped, rows int64) {
	return c.firstSkipped, c.skipped, c.rows
}

// skipAt counts a row as skipped and keeps the first.
func (c *DeltaCollector) skipAt(line int, text string) {
	c.Skip()
	c.noteSkipped(line, text)
}

func (c *DeltaCollector) noteSkipped(line int, text string) {
	const longest = 80
	if c.firstSkipped != nil {
		return
	}
	if r := []rune(text[:min(len(text), 4*longest+4)]); len(text) > len(string(r)) || len(r) > longest {
		text = string(r[:min(len(r), longest)]) + "…"
	}
	c.firstSkipped = &SkippedRow{Line: line, Text: strings.Clone(text)}
}

// NewDeltaCollector returns an empty collector. The empty method is [DeltaExact]
// and the empty policy [NegativeKeep]; unknown ones are refused by
// [DeltaCollector.Result].
func NewDeltaCollector(method DeltaMethod, policy NegativePolicy) *DeltaCollector {
	return &DeltaCollector{
		method: cmp.Or(method, DeltaExact),
		policy: cmp.Or(policy, NegativeKeep),
		exact:  make(map[PairKey][]float64),
		hists:  make(map[PairKey]*Histogram),
	}
}

// Add takes one latency in milliseconds. NaN, infinities and anything beyond 285
// years count as skipped. With [DeltaHDR] latencies are rounded to the nanosecond.
// The collector keeps its own copy of the names.
func (c *DeltaCollector) Add(pair PairKey, latencyMS float64) {
	if math.IsNaN(latencyMS) || math.Abs(latencyMS) > maxLatencyMS {
		c.Skip()
		return
	}
	c.rows++
	if latencyMS < 0 {
		c.negative++
		switch c.policy {
		case NegativeClamp:
			latencyMS = 0
		case NegativeDrop:
			return
		}
	}
	c.used++
	if c.method != DeltaHDR {
		samples, known := c.exact[pair]
		if !known {
			pair = pair.clone()
		}
		// Adding 0 turns -0, which sorts by chance, into 0.
		c.exact[pair] = append(samples, latencyMS+0)
		return
	}
	h := c.hists[pair]
	if h == nil {
		h = NewPackedHistogram()
		c.hists[pair.clone()] = h
	}
	// Negative only under the policy "keep", which Result refuses; there is nothing
	// else that Record could refuse.
	_ = h.Record(time.Duration(math.Round(latencyMS * 1e6)))
}

func (k PairKey) clone() PairKey {
	return PairKey{strings.Clone(k.Source), strings.Clone(k.Destination)}
}

// Skip counts one record that holds no latency.
func (c *DeltaCollector) Skip() {
	c.rows++
	c.skipped++
}

// Result returns the deltas of what was gathered so far. They do not depend on
// the order of the calls of Add. An unknown method or policy, negative latencies
// that the method cannot hold, and the lack of any usable latency are each an
// [*InputError].
func (c *DeltaCollector) Result() (*Deltas, error) {
	if _, err := ParseDeltaMethod(string(c.method)); err != nil {
		return nil, err
	}
	if _, err := ParseNegativePolicy(string(c.policy)); err != nil {
		return nil, err
	}
	if c.method == DeltaHDR && c.policy == NegativeKeep && c.negative > 0 {
		return nil, &InputError{
			Msg:  fmt.Sprintf("%d latencies are negative, which a histogram cannot hold", c.negative),
			Hint: "use the exact method, or choose clamp or drop for negative latencies",
		}
	}
	if c.used == 0 {
		return nil, c.noLatency()
	}
	var d *Deltas
	if c.method == DeltaHDR {
		d = DeltasFromHistograms(c.hists)
	} else {
		keys := slices.SortedFunc(maps.Keys(c.exact), PairKey.Compare)
		rows := make([][]float64, len(keys))
		for i, key := range keys {
			rows[i] = c.exact[key]
		}
		d = ExactDeltas(keys, rows, 1)
	}
	d.Rows, d.Used, d.Skipped, d.Negative = c.rows, c.used, c.skipped, c.negative
	return d, nil
}

func (c *DeltaCollector) noLatency() error {
	if c.rows == 0 {
		return &InputError{Msg: "there is not a single latency", Hint: "check that the input has rows after its header"}
	}
	if c.skipped == c.rows {
		return &InputError{
			Msg:  fmt.Sprintf("none of the %d rows holds a latency", c.rows),
			Hint: "latency_ms must be a decimal number of milliseconds, such as 12.5",
		}
	}
	return &InputError{
		Msg:  fmt.Sprintf("none of the %d rows is left: %d are negative, %d hold no latency", c.rows, c.negative, c.skipped),
		Hint: "check that the difference is taken as end minus begin, or keep negative latencies",
	}
}

// InputError tells what is wrong with something the user gave, and what to do.
type InputError struct {
	// Name is the file, as the user wrote it; empty when the error is about no file.
	Name string
	// Line is the line in the file, from 1; 0 when the error is about all of it.
	Line int
	// Msg says what is wrong, Hint what to do about it.
	Msg, Hint string
	// Err is the cause, if there is one.
	Err error
}

// Error returns the place and what is wrong there, without the hint.
func (e *InputError) Error() string {
	var b strings.Builder
	if e.Name != "" {
		b.WriteString(e.Name)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *InputError) Unwrap() error { return e.Err }

// named gives err the name of the file, when it is an InputError that lacks one.
func named(err error, name string) error {
	if e, ok := errors.AsType[*InputError](err); ok && e.Name == "" {
		e.Name = name
	}
	return err
}
