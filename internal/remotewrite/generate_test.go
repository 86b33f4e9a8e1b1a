package remotewrite

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// gen makes random requests. faults is the chance, in [0,1), that any one
// choice is one that a receiver has to refuse or count.
type gen struct {
	*rand.Rand
	faults float64
}

func (g gen) fault() bool { return g.Float64() < g.faults }

// rare is for faults that spoil a whole message.
func (g gen) rare() bool { return g.Float64() < g.faults*g.faults }

func pick[T any](g gen, xs ...T) T { return xs[g.IntN(len(xs))] }

func (g gen) ms() int64 {
	now := capturedAt.UnixMilli()
	if g.fault() {
		return pick(g, 0, -1, 1, 1795198610, 1<<35-1, 1<<35, now+600_000, now+600_001, now*1000, math.MaxInt64, math.MinInt64)
	}
	return now - g.Int64N(4*3600_000)
}

// count is a number of series, seldom none.
func (g gen) count() int { return max(g.IntN(5), min(g.IntN(20), 1)) }

func (g gen) startMS() int64 { return pick(g, 0, 0, g.ms()) }

func (g gen) value() float64 {
	return pick(g, g.Float64()*1e6, 0, math.Float64frombits(staleNaN), math.NaN(), math.Inf(1), math.Float64frombits(staleNaN+1))
}

func (g gen) text() string {
	if g.fault() {
		return pick(g, "", "\xff", "a\x80b", "é", "日本語のラベル", string(make([]byte, 40)))
	}
	return pick(g, "a", "job", "instance", "le", "__name__", "http_requests_total", "localhost:9090", "0.5", "code")
}

func (g gen) labels() [][2]string {
	var ls [][2]string
	if !g.fault() {
		ls = append(ls, [2]string{"__name__", "up"})
	}
	n := g.IntN(6)
	if g.fault() {
		n = 15 + g.IntN(8)
	}
	names := []string{"aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh", "ii", "jj", "kk", "ll", "mm", "nn", "oo", "pp", "qq", "rr", "ss", "tt", "uu", "vv", "ww"}
	for i := range n {
		name := names[i]
		if g.fault() {
			name = g.text()
		}
		ls = append(ls, [2]string{name, g.text()})
	}
	if g.fault() {
		g.Shuffle(len(ls), func(i, j int) { ls[i], ls[j] = ls[j], ls[i] })
	}
	return ls
}

// rawHistogram is the parts that both versions' Histogram messages have.
type rawHistogram struct {
	float                    bool
	count, zero              float64
	zeroFloat                bool
	sum                      float64
	schema                   int32
	threshold                float64
	negSpans, posSpans       [][2]int
	negDeltas, posDeltas     []int64
	negCounts, posCounts     []float64
	custom                   []float64
	ms, start                int64
	omitCount, omitZeroCount bool
}

func (g gen) buckets(h *rawHistogram) (spans [][2]int, deltas []int64, counts []float64) {
	n := 0
	for i := range g.IntN(3) {
		off, length := g.IntN(4), g.IntN(4)
		if i == 0 && h.schema != customBuckets {
			off -= 2
		}
		if g.fault() {
			off = -off
		}
		spans = append(spans, [2]int{off, length})
		n += length
	}
	if g.fault() {
		n++
	}
	last := int64(0)
	for range n {
		c := g.Int64N(10)
		if g.fault() {
			c = -c
		}
		deltas = append(deltas, c-last)
		last = c
		counts = append(counts, float64(c))
		h.count += float64(c)
	}
	if h.float {
		deltas = nil
	} else {
		counts = nil
	}
	return spans, deltas, counts
}

func (g gen) histogram() rawHistogram {
	h := rawHistogram{
		float: g.IntN(2) == 0, sum: g.value(), ms: g.ms(), start: g.startMS(),
		schema: pick[int32](g, -4, 0, 3, 8, 52, customBuckets, customBuckets),
	}
	h.zeroFloat = h.float
	if g.fault() {
		h.schema = pick[int32](g, -5, 9, 53, -52, -54, math.MaxInt32, math.MinInt32)
	}
	h.posSpans, h.posDeltas, h.posCounts = g.buckets(&h)
	if h.schema != customBuckets || g.fault() {
		h.negSpans, h.negDeltas, h.negCounts = g.buckets(&h)
		h.zero = float64(g.IntN(5))
		h.count += h.zero
		h.threshold = 0.001
	}
	if h.schema == customBuckets || g.fault() {
		h.custom = []float64{0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 40, 50, 60}
		if g.fault() {
			h.custom = pick(g, h.custom[:2], []float64{1, 1}, []float64{2, 1, 3}, []float64{1, math.NaN(), 2}, []float64{1, math.Inf(1)}, []float64{math.Inf(-1), 0})
		}
	}
	if g.fault() {
		h.count += float64(g.IntN(3)) - 1
	}
	if g.fault() {
		h.zeroFloat = !h.zeroFloat
	}
	if g.fault() {
		h.posDeltas, h.posCounts = append(h.posDeltas, 1), append(h.posCounts, 1)
	}
	h.omitCount, h.omitZeroCount = g.fault(), g.fault()
	return h
}

func (h rawHistogram) v1() prompb.Histogram {
	out := prompb.Histogram{
		Sum: h.sum, Schema: h.schema, ZeroThreshold: h.threshold,
		NegativeDeltas: h.negDeltas, NegativeCounts: h.negCounts, PositiveDeltas: h.posDeltas, PositiveCounts: h.posCounts,
		Timestamp: h.ms, CustomValues: h.custom,
	}
	switch {
	case h.omitCount:
	case h.float:
		out.Count = &prompb.Histogram_CountFloat{CountFloat: h.count}
	default:
		out.Count = &prompb.Histogram_CountInt{CountInt: uint64(int64(h.count))}
	}
	switch {
	case h.omitZeroCount:
	case h.zeroFloat:
		out.ZeroCount = &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: h.zero}
	default:
		out.ZeroCount = &prompb.Histogram_ZeroCountInt{ZeroCountInt: uint64(h.zero)}
	}
	for _, s := range h.negSpans {
		out.NegativeSpans = append(out.NegativeSpans, prompb.BucketSpan{Offset: int32(s[0]), Length: uint32(s[1])})
	}
	for _, s := range h.posSpans {
		out.PositiveSpans = append(out.PositiveSpans, prompb.BucketSpan{Offset: int32(s[0]), Length: uint32(s[1])})
	}
	return out
}

// v2 goes by way of the bytes: the two messages have the same fields.
func (h rawHistogram) v2(tb testing.TB) writev2.Histogram {
	tb.Helper()
	one := h.v1()
	b, err := one.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	var out writev2.Histogram
	if err := out.Unmarshal(b); err != nil {
		tb.Fatal(err)
	}
	out.StartTimestamp = h.start
	return out
}

// requestV1 makes a random 1.0 message.
func (g gen) requestV1(tb testing.TB) []byte {
	tb.Helper()
	labels := func(in [][2]string) (out []prompb.Label) {
		for _, l := range in {
			out = append(out, prompb.Label{Name: l[0], Value: l[1]})
		}
		return out
	}
	var m prompb.WriteRequest
	for range g.count() {
		ts := prompb.TimeSeries{Labels: labels(g.labels())}
		for range g.IntN(3) {
			ts.Samples = append(ts.Samples, prompb.Sample{Value: g.value(), Timestamp: g.ms()})
		}
		for range max(0, g.IntN(4)-1) {
			ts.Exemplars = append(ts.Exemplars, prompb.Exemplar{Labels: labels(g.labels()), Value: g.value(), Timestamp: g.ms()})
		}
		for range max(0, g.IntN(4)-1) {
			ts.Histograms = append(ts.Histograms, g.histogram().v1())
		}
		m.Timeseries = append(m.Timeseries, ts)
	}
	for range max(0, g.IntN(4)-1) {
		m.Metadata = append(m.Metadata, prompb.MetricMetadata{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: g.text(), Help: g.text(), Unit: g.text()})
	}
	b, err := m.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// requestV2 makes a random 2.0 message.
func (g gen) requestV2(tb testing.TB) []byte {
	tb.Helper()
	table := writev2.NewSymbolTable()
	refs := func(ls [][2]string) (out []uint32) {
		for _, l := range ls {
			out = append(out, table.Symbolize(l[0]), table.Symbolize(l[1]))
		}
		if g.rare() {
			out = append(out, pick[uint32](g, 0, 1, 1000, math.MaxUint32))
		}
		return out
	}
	var m writev2.Request
	for range g.count() {
		ts := writev2.TimeSeries{LabelsRefs: refs(g.labels())}
		for range g.IntN(3) {
			ts.Samples = append(ts.Samples, writev2.Sample{Value: g.value(), Timestamp: g.ms(), StartTimestamp: g.startMS()})
		}
		for range max(0, g.IntN(4)-1) {
			ts.Exemplars = append(ts.Exemplars, writev2.Exemplar{LabelsRefs: refs(g.labels()), Value: g.value(), Timestamp: g.ms()})
		}
		for range max(0, g.IntN(4)-1) {
			ts.Histograms = append(ts.Histograms, g.histogram().v2(tb))
		}
		if g.IntN(2) == 0 {
			ts.Metadata = writev2.Metadata{Type: pick(g, writev2.Metadata_METRIC_TYPE_UNSPECIFIED, writev2.Metadata_METRIC_TYPE_GAUGE), HelpRef: table.Symbolize(g.text())}
			if g.fault() {
				ts.Metadata.UnitRef = 1 << 20
			}
		}
		if g.IntN(4) == 0 { // rc.3
			ts.XXX_unrecognized = binary.AppendUvarint([]byte{6 << 3}, uint64(g.startMS()))
		}
		m.Timeseries = append(m.Timeseries, ts)
	}
	m.Symbols = table.Symbols()
	if g.rare() {
		m.Symbols = pick(g, nil, m.Symbols[1:], m.Symbols[:1], []string{"x"})
	}
	b, err := m.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// kind is a message type in rewire's map of the format.
type kind int

const (
	kindRequest kind = iota
	kindSeries
	kindLeaf // a message whose fields are numbers, packed numbers and text
	kindExemplar
	kindHistogram
	kindNone
)

// child is the type of the message in a field, kindNone if it is none.
func (k kind) child(v Version, num int32) kind {
	switch k {
	case kindRequest:
		switch {
		case num == 1 && v == V1, num == 5 && v == V2:
			return kindSeries
		case num == 3 && v == V1:
			return kindLeaf
		}
	case kindSeries:
		switch {
		case num == 2, num == 1 && v == V1, num == 5 && v == V2:
			return kindLeaf
		case num == 3 && v == V1, num == 4 && v == V2:
			return kindExemplar
		case num == 4 && v == V1, num == 3 && v == V2:
			return kindHistogram
		}
	case kindExemplar:
		if num == 1 && v == V1 {
			return kindLeaf
		}
	case kindHistogram:
		if num == 8 || num == 11 {
			return kindLeaf
		}
	}
	return kindNone
}

// packed says whether a field is a packed list: of varints or of floats.
func (k kind) packed(v Version, num int32) (varints, floats bool) {
	switch k {
	case kindSeries, kindExemplar:
		return num == 1 && v == V2, false
	case kindHistogram:
		return num == 9 || num == 12, num == 10 || num == 13 || num == 16
	}
	return false, false
}

// rewire writes a message anew in ways that decoders have to accept or refuse
// alike: fields in another order, fields twice, unknown fields and groups,
// lists unpacked or split, varints longer than needed, wrong wire types, lists
// whose last element reaches beyond them, a byte changed or cut off.
func (g gen) rewire(b []byte, v Version, k kind) []byte {
	fields := fieldsOf(b)
	if g.fault() {
		g.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	}
	var out []byte
	for _, f := range fields {
		if g.fault() {
			out = append(out, g.unknown()...)
		}
		if g.rare() {
			out = append(out, f.raw...)
		}
		varints, floats := k.packed(v, f.num)
		switch {
		case f.typ == 2 && k.child(v, f.num) != kindNone:
			out = g.appendBody(out, f.num, g.rewire(f.body, v, k.child(v, f.num)))
		case f.typ == 2 && varints && g.fault():
			for rest := f.body; len(rest) > 0; {
				x, n := slowVarint(rest)
				rest = rest[n:]
				out = g.appendVarint(binary.AppendUvarint(out, uint64(f.num)<<3), x)
			}
		case f.typ == 2 && floats && g.fault():
			for x := range slices.Chunk(f.body, 8) {
				out = append(binary.AppendUvarint(out, uint64(f.num)<<3|1), x...)
			}
		case f.typ == 2 && (varints || floats) && g.fault() && len(f.body) > 0:
			cut := 1 + g.IntN(len(f.body)) // a length that may end inside an element
			out = binary.AppendUvarint(out, uint64(f.num)<<3|2)
			out = append(binary.AppendUvarint(out, uint64(cut)), f.body...)
		case f.typ == 0 && g.fault():
			out = g.appendVarint(binary.AppendUvarint(out, uint64(f.num)<<3), f.value)
		case g.rare():
			tag := uint64(f.num)<<3 | uint64(g.IntN(8))
			if g.IntN(2) == 0 { // the same field by a number beyond 32 bits
				tag = (uint64(f.num)+1<<32*uint64(g.IntN(3)))<<3 | uint64(f.typ)
			}
			_, n := slowVarint(f.raw)
			out = append(binary.AppendUvarint(out, tag), f.raw[n:]...)
		default:
			out = append(out, f.raw...)
		}
	}
	if g.fault() {
		out = append(out, g.unknown()...)
	}
	if g.rare() && len(out) > 0 {
		i := g.IntN(len(out))
		out = pick(g, out[:i], append(slices.Clone(out[:i]), out[i+1:]...), append(slices.Clone(out[:i]), append([]byte{byte(g.Uint32())}, out[i+1:]...)...))
	}
	return out
}

func (g gen) appendBody(out []byte, num int32, body []byte) []byte {
	out = binary.AppendUvarint(out, uint64(num)<<3|2)
	if g.fault() {
		out = g.appendVarint(out, uint64(len(body)))
	} else {
		out = binary.AppendUvarint(out, uint64(len(body)))
	}
	return append(out, body...)
}

// appendVarint pads a varint, at times beyond the ten bytes that are allowed.
func (g gen) appendVarint(out []byte, v uint64) []byte {
	b := binary.AppendUvarint(nil, v)
	want := min(len(b)+g.IntN(4), 11)
	for len(b) < want {
		b[len(b)-1] |= 0x80
		b = append(b, pick[byte](g, 0, 0, 0, 0x7f)&map[bool]byte{true: 0xff, false: 0}[len(b) >= 10])
	}
	return append(out, b...)
}

// unknown is a field that neither version knows, or that only looks like one.
func (g gen) unknown() []byte {
	num := pick[uint64](g, 18, 100, 536870911, 1<<32+99, 6, 7)
	if g.rare() {
		num = pick[uint64](g, 0, 1, 2, 3, 4, 5, 17, 1<<31)
	}
	tag := func(typ uint64) []byte { return binary.AppendUvarint(nil, num<<3|typ) }
	switch g.IntN(6) {
	case 0:
		return g.appendVarint(tag(0), g.Uint64())
	case 1:
		return append(tag(1), 1, 2, 3, 4, 5, 6, 7, 8)
	case 2:
		return append(tag(2), 3, 'a', 0xff, 'c')
	case 3: // a group with a field, a group and stray numbers inside
		return append(append(tag(3), 0x08, 0x01, 0x0b, 0x12, 0x01, 'x', 0x0c), tag(4)...)
	case 4:
		return append(tag(5), 1, 2, 3, 4)
	default:
		return pick(g, tag(3), tag(4), append(tag(2), 200), append(tag(1), 1), tag(6))
	}
}

// message makes one random message, mostly but not always acceptable.
func (g gen) message(tb testing.TB, v Version) []byte {
	tb.Helper()
	g.faults = pick(g, 0, 0, 0.02, 0.1)
	var b []byte
	if v == V1 {
		b = g.requestV1(tb)
	} else {
		b = g.requestV2(tb)
	}
	g.faults = pick(g, 0, 0, 0.05, 0.2)
	return g.rewire(b, v, kindRequest)
}
