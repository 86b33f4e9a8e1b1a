package remotewrite

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// Merger makes one request of many. It groups the samples of a series under one copy
// of its labels, which is what makes a batch small: senders write one sample a series a
// request, so their bodies are mostly labels.
//
// What goes in comes out, bit by bit: values (staleness markers are NaNs with a
// meaning), timestamps, start timestamps, histograms and exemplars. What is normalised
// does not change what is meant: labels are sorted, labels without a value are left out
// (a label that is not there means the same), the samples of a series are brought into
// the order of their times, and one that is there already, equal in every bit, is not
// repeated. A created timestamp (2.0-rc.3, one a series) becomes the start timestamp of
// each sample (2.0-rc.4). Of metadata the last word on a family (1.0) or a series (2.0)
// counts. Unknown fields are dropped.
//
// The zero value is ready. The same calls of Add always give the same bytes. A Merger
// must not be used by two goroutines at once; it keeps no reference to what it was
// given.
type Merger struct {
	symbols map[string]uint32
	list    []string // by reference
	byLabel map[string]int
	series  []mergedSeries
	family  map[string]int
	meta    [][]byte // 1.0 entries, as they came

	key      []byte // scratch: the references of a series' labels
	pairs    []labelPair
	table    [][]byte // the symbols of the 2.0 message under way
	own      []uint32 // what they are here; 0 stands for not asked yet
	scratch  []byte
	scratch2 []byte
}

// mergedSeries is a series and all that was said of it. There may be a hundred thousand
// of them, so what few series have is apart.
type mergedSeries struct {
	labels  string // references, name and value in turn, as uvarints
	samples []mergedSample
	others  *mergedOthers // nil: none
}

// mergedOthers is what a series has beside samples.
type mergedOthers struct {
	histograms []mergedHistogram
	exemplars  []mergedExemplar
	meta       metadataV2 // of 2.0, with references of ours
}

// other is for adding to it, has for reading.
func (s *mergedSeries) other() *mergedOthers {
	if s.others == nil {
		s.others = &mergedOthers{}
	}
	return s.others
}

func (s *mergedSeries) has() mergedOthers {
	if s.others == nil {
		return mergedOthers{}
	}
	return *s.others
}

// keepSamples is the most samples that a series keeps memory for from one batch to the
// next.
const keepSamples = 256

type mergedSample struct {
	value     uint64 // the bits
	ms, start int64
}

type mergedHistogram struct {
	ms, start int64
	rest      string // all fields but the two timestamps
}

type mergedExemplar struct {
	labels string // references, as uvarints
	value  uint64
	ms     int64
}

// labelPair is a label by its references.
type labelPair struct{ name, value uint32 }

// Len is the number of series and of metadata entries of 1.0 in the merged request.
func (m *Merger) Len() (series, metadata int) { return len(m.series), len(m.meta) }

// Reset forgets everything but keeps memory for the next batch.
func (m *Merger) Reset() {
	clear(m.symbols)
	clear(m.byLabel)
	clear(m.family)
	clear(m.list)
	for i := range m.series {
		s := &m.series[i]
		if cap(s.samples) > keepSamples {
			s.samples = nil
		}
		*s = mergedSeries{samples: s.samples[:0]}
	}
	clear(m.meta)
	m.list, m.series, m.meta = m.list[:0], m.series[:0], m.meta[:0]
}

// Add takes in a decoded message that [Walker.Walk] accepts. Malformed protobuf is an
// [*Error] with Status 400; then a part of the message may have been taken in, and the
// Merger is of use only after Reset. So are a few oddities that Prometheus' decoder and
// the walk let pass and no encoder writes, such as a packed list whose last number ends
// behind the list: send such a message as it is.
func (m *Merger) Add(v Version, decoded []byte) error {
	if m.symbols == nil {
		m.symbols, m.byLabel, m.family = map[string]uint32{}, map[string]int{}, map[string]int{}
	}
	if len(m.list) == 0 {
		m.symbol(nil) // the empty string is number 0
	}
	var ok bool
	switch v {
	case V1:
		ok = m.addV1(decoded)
	case V2:
		ok = m.addV2(decoded)
	default:
		return badRequest(reasonVersion, "merging a remote-write message: %s", v)
	}
	if !ok {
		return badRequest(reasonMalformed, "merging the %s message: malformed protobuf", v)
	}
	return nil
}

// symbol returns the reference of a text.
func (m *Merger) symbol(text []byte) uint32 {
	if ref, ok := m.symbols[string(text)]; ok {
		return ref
	}
	ref := uint32(len(m.list))
	s := string(text)
	m.symbols[s] = ref
	m.list = append(m.list, s)
	return ref
}

// find returns the series with the labels in m.pairs, which it sorts.
func (m *Merger) find() *mergedSeries {
	m.key = m.appendLabels(m.key[:0])
	i, ok := m.byLabel[string(m.key)]
	if !ok {
		i = len(m.series)
		key := string(m.key)
		m.byLabel[key] = i
		if i < cap(m.series) {
			m.series = m.series[:i+1] // with memory for samples
		} else {
			m.series = append(m.series, mergedSeries{})
		}
		m.series[i].labels = key
	}
	return &m.series[i]
}

// appendLabels sorts m.pairs by name, drops what has no value, and encodes the rest.
func (m *Merger) appendLabels(dst []byte) []byte {
	m.pairs = slices.DeleteFunc(m.pairs, func(p labelPair) bool { return p.value == 0 })
	byName := func(a, b labelPair) int {
		if a.name == b.name {
			return 0
		}
		return bytes.Compare([]byte(m.list[a.name]), []byte(m.list[b.name]))
	}
	if !slices.IsSortedFunc(m.pairs, byName) {
		slices.SortStableFunc(m.pairs, byName)
	}
	for _, p := range m.pairs {
		dst = binary.AppendUvarint(dst, uint64(p.name))
		dst = binary.AppendUvarint(dst, uint64(p.value))
	}
	return dst
}

func (s *mergedSeries) addSample(x mergedSample) {
	// From the end: what comes is nearly always the newest.
	i := len(s.samples)
	for i > 0 && s.samples[i-1].ms > x.ms {
		i--
	}
	for j := i - 1; j >= 0 && s.samples[j].ms == x.ms; j-- {
		if s.samples[j] == x {
			return
		}
	}
	s.samples = slices.Insert(s.samples, i, x)
}

func (o *mergedOthers) addHistogram(x mergedHistogram) {
	i := len(o.histograms)
	for i > 0 && o.histograms[i-1].ms > x.ms {
		i--
	}
	for j := i - 1; j >= 0 && o.histograms[j].ms == x.ms; j-- {
		if o.histograms[j] == x {
			return
		}
	}
	o.histograms = slices.Insert(o.histograms, i, x)
}

func (o *mergedOthers) addExemplar(x mergedExemplar) {
	i := len(o.exemplars)
	for i > 0 && o.exemplars[i-1].ms > x.ms {
		i--
	}
	for j := i - 1; j >= 0 && o.exemplars[j].ms == x.ms; j-- {
		if o.exemplars[j] == x {
			return
		}
	}
	o.exemplars = slices.Insert(o.exemplars, i, x)
}

// addV1 takes in a prometheus.WriteRequest; false when it is malformed.
func (m *Merger) addV1(b []byte) bool {
	return eachField(b, func(f field) bool {
		switch {
		case f.num != 1 && f.num != 3:
			return true
		case f.typ != wireLen:
			return false
		case f.num == 3:
			return m.addMetadataV1(f.payload)
		}
		// Labels may come behind samples, so they are read first.
		m.pairs = m.pairs[:0]
		if !eachField(f.payload, func(f field) bool {
			return f.num != 1 || f.typ == wireLen && m.labelV1(f.payload)
		}) {
			return false
		}
		s := m.find()
		return eachField(f.payload, func(f field) bool {
			switch f.num {
			case 2, 3, 4:
				if f.typ != wireLen {
					return false
				}
			}
			switch f.num {
			case 2:
				x, ok := readSample(f.payload, V1)
				s.addSample(x)
				return ok
			case 3:
				return m.exemplar(s, f.payload, V1)
			case 4:
				return m.histogram(s, f.payload, V1, 0)
			}
			return true
		})
	})
}

// labelV1 appends a Label to m.pairs.
func (m *Merger) labelV1(b []byte) bool {
	l, ok := labelV1(b, 0, len(b))
	if ok {
		m.pairs = append(m.pairs, labelPair{m.symbol(b[l.name:][:l.nameLen]), m.symbol(b[l.value:][:l.valueLen])})
	}
	return ok
}

// addMetadataV1 keeps an entry unless there is one like it. An entry for the same
// family takes the place of the one before.
func (m *Merger) addMetadataV1(b []byte) bool {
	var name []byte
	if !eachField(b, func(f field) bool {
		if f.num == 2 {
			name = f.payload
		}
		return true
	}) {
		return false
	}
	if i, ok := m.family[string(name)]; ok {
		if !bytes.Equal(m.meta[i], b) {
			m.meta[i] = bytes.Clone(b)
		}
		return true
	}
	m.family[string(name)] = len(m.meta)
	m.meta = append(m.meta, bytes.Clone(b))
	return true
}

// readSample reads a Sample of either version.
func readSample(b []byte, v Version) (x mergedSample, ok bool) {
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		var u uint64
		switch {
		case next == bad:
			return x, false
		case num == 1 && typ == wireI64:
			x.value, i = fixed64(b, next)
		case num == 2 && typ == wireVarint:
			u, i = varint(b, next)
			x.ms = int64(u)
		case num == 3 && typ == wireVarint && v == V2:
			u, i = varint(b, next)
			x.start = int64(u)
		case num <= 2:
			return x, false
		default:
			i = skip(b, next, typ)
		}
		if i == bad {
			return x, false
		}
	}
	return x, true
}

// histogram adds a Histogram, whose fields are the same in both versions but for the
// start timestamp of 2.0. created is that of the series in 2.0-rc.3.
func (m *Merger) histogram(s *mergedSeries, b []byte, v Version, created int64) bool {
	x := mergedHistogram{start: created}
	m.scratch = m.scratch[:0]
	ok := eachField(b, func(f field) bool {
		switch {
		case f.num == 15 && f.typ == wireVarint:
			u, _ := varint(f.value, 0)
			x.ms = int64(u)
		case f.num == 17 && v == V2 && f.typ == wireVarint:
			if u, _ := varint(f.value, 0); u != 0 {
				x.start = int64(u)
			}
		case f.num == 17: // means nothing in 1.0
		case !wholePacked(f):
			return false
		default:
			m.scratch = append(m.scratch, f.raw...)
		}
		return true
	})
	x.rest = string(m.scratch)
	s.other().addHistogram(x)
	return ok
}

// wholePacked says whether a list of numbers in a histogram ends where its field does.
// The generated code reads on behind the end, as does the walk; such a message cannot be
// taken apart by fields.
func wholePacked(f field) bool {
	if f.typ != wireLen {
		return true
	}
	switch f.num {
	case 9, 12:
		i := 0
		for i != bad && i < len(f.payload) {
			_, i = varint(f.payload, i)
		}
		return i != bad
	case 10, 13, 16:
		return len(f.payload)%8 == 0
	}
	return true
}

// exemplar adds an Exemplar of either version.
func (m *Merger) exemplar(s *mergedSeries, b []byte, v Version) bool {
	var x mergedExemplar
	m.pairs = m.pairs[:0]
	refs := m.scratch[:0]
	ok := eachField(b, func(f field) bool {
		switch {
		case f.num == 1 && v == V1:
			return f.typ == wireLen && m.labelV1(f.payload)
		case f.num == 1:
			refs = append(refs, f.raw...)
		case f.num == 2 && f.typ == wireI64:
			x.value, _ = fixed64(f.value, 0)
		case f.num == 3 && f.typ == wireVarint:
			u, _ := varint(f.value, 0)
			x.ms = int64(u)
		}
		return true
	})
	m.scratch = refs
	if ok && v == V2 {
		ok = m.pairsV2(refs)
	}
	m.scratch2 = m.appendLabels(m.scratch2[:0])
	x.labels = string(m.scratch2)
	s.other().addExemplar(x)
	return ok
}

// addV2 takes in an io.prometheus.write.v2.Request; false when it is malformed.
func (m *Merger) addV2(b []byte) bool {
	m.table, m.own = m.table[:0], m.own[:0]
	if !eachField(b, func(f field) bool {
		if f.num == 4 {
			m.table = append(m.table, f.payload)
			m.own = append(m.own, 0)
		}
		return f.num != 4 || f.typ == wireLen
	}) {
		return false
	}
	return eachField(b, func(f field) bool {
		return f.num != 5 || f.typ == wireLen && m.seriesV2(f.payload)
	})
}

// ref maps a reference of the message under way to one of ours.
func (m *Merger) ref(theirs uint64) (uint32, bool) {
	if theirs >= uint64(len(m.table)) {
		return 0, false
	}
	if m.own[theirs] == 0 && len(m.table[theirs]) > 0 {
		m.own[theirs] = m.symbol(m.table[theirs])
	}
	return m.own[theirs], true
}

// pairsV2 sets m.pairs from labels_refs fields, packed or not.
func (m *Merger) pairsV2(fields []byte) bool {
	m.pairs = m.pairs[:0]
	n, name := 0, uint32(0)
	one := func(u uint64) bool {
		ref, ok := m.ref(uint64(uint32(u)))
		if n%2 == 1 {
			m.pairs = append(m.pairs, labelPair{name, ref})
		}
		name = ref
		n++
		return ok
	}
	ok := eachField(fields, func(f field) bool {
		if f.typ == wireVarint {
			u, _ := varint(f.value, 0)
			return one(u)
		}
		for i := 0; i < len(f.payload); {
			var u uint64
			if u, i = varint(f.payload, i); i == bad || !one(u) {
				return false
			}
		}
		return f.typ == wireLen
	})
	return ok && n%2 == 0
}

func (m *Merger) seriesV2(b []byte) bool {
	var meta metadataV2
	var created int64
	refs := m.scratch[:0]
	if !eachField(b, func(f field) bool {
		switch f.num {
		case 1:
			refs = append(refs, f.raw...)
		case 5:
			return f.typ == wireLen && meta.walk(f.payload)
		case 6:
			if f.typ == wireVarint {
				u, _ := varint(f.value, 0)
				created = int64(u)
			}
		}
		return true
	}) {
		return false
	}
	m.scratch = refs
	if !m.pairsV2(refs) {
		return false
	}
	s := m.find()
	if meta != (metadataV2{}) {
		help, ok1 := m.ref(uint64(meta.help))
		unit, ok2 := m.ref(uint64(meta.unit))
		if !ok1 || !ok2 {
			return false
		}
		s.other().meta = metadataV2{typ: meta.typ, help: help, unit: unit}
	}
	return eachField(b, func(f field) bool {
		switch f.num {
		case 2, 3, 4:
			if f.typ != wireLen {
				return false
			}
		}
		switch f.num {
		case 2:
			x, ok := readSample(f.payload, V2)
			if x.start == 0 {
				x.start = created
			}
			s.addSample(x)
			return ok
		case 3:
			return m.histogram(s, f.payload, V2, created)
		case 4:
			return m.exemplar(s, f.payload, V2)
		}
		return true
	})
}

// AppendV2 appends the series from from up to before to as a decoded 2.0 request, and
// says what is in it. It leaves out the metadata of 1.0, which belongs to no series: see
// [Merger.AppendMetadata].
func (m *Merger) AppendV2(dst []byte, from, to int) ([]byte, Counts) {
	var c Counts
	// Only symbols that the part needs, in the order of their first use.
	table := make([]uint32, len(m.list)) // theirs by ours; 0: not used yet
	dst = appendField(dst, 4, nil)
	used := uint32(1)
	ref := func(ours uint32) uint64 {
		if ours == 0 {
			return 0
		}
		if table[ours] == 0 {
			table[ours] = used
			used++
			dst = binary.AppendUvarint(dst, 4<<3|wireLen)
			dst = binary.AppendUvarint(dst, uint64(len(m.list[ours])))
			dst = append(dst, m.list[ours]...)
		}
		return uint64(table[ours])
	}
	note := func(r uint32) { ref(r) }
	for i := from; i < to; i++ {
		s := &m.series[i]
		eachRef(s.labels, note)
		o := s.has()
		for j := range o.exemplars {
			eachRef(o.exemplars[j].labels, note)
		}
		note(o.meta.help)
		note(o.meta.unit)
	}
	var series []byte
	for i := from; i < to; i++ {
		series = m.series[i].appendV2(series[:0], ref, &c)
		dst = appendField(dst, 5, series)
	}
	return dst, c
}

// eachRef calls f for every reference in a list of uvarints.
func eachRef(refs string, f func(uint32)) {
	for i := 0; i < len(refs); {
		var u uint64
		for shift := 0; ; shift += 7 {
			c := refs[i]
			i++
			u |= uint64(c&0x7f) << shift
			if c < 0x80 {
				break
			}
		}
		f(uint32(u))
	}
}

// appendV2 encodes a TimeSeries of 2.0. All symbols have references by now.
func (s *mergedSeries) appendV2(dst []byte, ref func(uint32) uint64, c *Counts) []byte {
	var buf [64]byte
	refs := func(labels string) []byte {
		out := buf[:0]
		eachRef(labels, func(r uint32) { out = binary.AppendUvarint(out, ref(r)) })
		return out
	}
	c.Series++
	dst = appendField(dst, 1, refs(s.labels))
	for i := range s.samples {
		x := &s.samples[i]
		body := x.append(buf[:0], true)
		dst = appendField(dst, 2, body)
		c.Samples++
		if x.value == staleNaN {
			c.StaleSamples++
		}
		if x.start != 0 {
			c.StartTimestamps++
		}
	}
	o := s.has()
	for i := range o.histograms {
		x := &o.histograms[i]
		body := x.append(nil, true)
		dst = appendField(dst, 3, body)
		x.count(c)
		if x.start != 0 {
			c.StartTimestamps++
		}
	}
	for i := range o.exemplars {
		x := &o.exemplars[i]
		var body []byte
		if x.labels != "" {
			body = appendField(body, 1, refs(x.labels))
		}
		dst = appendField(dst, 4, x.appendRest(body))
		c.Exemplars++
	}
	if o.meta != (metadataV2{}) {
		body := buf[:0]
		for _, f := range [...]struct {
			num uint64
			v   uint64
		}{{1, uint64(o.meta.typ)}, {3, ref(o.meta.help)}, {4, ref(o.meta.unit)}} {
			if f.v != 0 {
				body = binary.AppendUvarint(body, f.num<<3)
				body = binary.AppendUvarint(body, f.v)
			}
		}
		dst = appendField(dst, 5, body)
		c.Metadata++
	}
	return dst
}

// append encodes the sample, with its start timestamp where the version has one.
func (x *mergedSample) append(dst []byte, start bool) []byte {
	if x.value != 0 {
		dst = append(dst, 1<<3|wireI64)
		dst = binary.LittleEndian.AppendUint64(dst, x.value)
	}
	dst = appendMS(dst, 2, x.ms)
	if start {
		dst = appendMS(dst, 3, x.start)
	}
	return dst
}

func (x *mergedHistogram) append(dst []byte, start bool) []byte {
	dst = append(dst, x.rest...)
	dst = appendMS(dst, 15, x.ms)
	if start {
		dst = appendMS(dst, 17, x.start)
	}
	return dst
}

func (x *mergedHistogram) count(c *Counts) {
	float, custom := false, false
	rest := []byte(x.rest)
	for i := 0; i < len(rest); { // well-formed: it was read before
		num, typ, next := tag(rest, i)
		switch num {
		case 2:
			float = true
		case 1:
			float = false
		case 4:
			u, _ := varint(rest, next)
			custom = zigzag32(u) == customBuckets
		}
		i = skip(rest, next, typ)
	}
	if float {
		c.FloatHistograms++
	} else {
		c.IntHistograms++
	}
	if custom {
		c.CustomBucketHistograms++
	}
}

// appendRest encodes value and time of the exemplar.
func (x *mergedExemplar) appendRest(dst []byte) []byte {
	if x.value != 0 {
		dst = append(dst, 2<<3|wireI64)
		dst = binary.LittleEndian.AppendUint64(dst, x.value)
	}
	return appendMS(dst, 3, x.ms)
}

func appendMS(dst []byte, num uint64, ms int64) []byte {
	if ms == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, num<<3|wireVarint)
	return binary.AppendUvarint(dst, uint64(ms))
}

// AppendV1 appends the series from from up to before to as a decoded 1.0 request, and
// says what is in it: for receivers that know no 2.0. Start timestamps get lost, which
// 1.0 has no place for. Metadata that came with series becomes an entry for each family.
func (m *Merger) AppendV1(dst []byte, from, to int) ([]byte, Counts) {
	var c Counts
	var series, part []byte
	labels := func(dst []byte, refs string) []byte {
		name, second := "", false
		eachRef(refs, func(r uint32) {
			if second {
				part = appendText(appendText(part[:0], 1, name), 2, m.list[r])
				dst = appendField(dst, 1, part)
			}
			name, second = m.list[r], !second
		})
		return dst
	}
	families := map[string]bool{}
	for i := from; i < to; i++ {
		s := &m.series[i]
		o := s.has()
		if name := m.familyName(s); name != "" && !families[name] {
			families[name] = true
			part = appendText(part[:0], 2, name)
			if o.meta.typ != 0 {
				part = binary.AppendUvarint(append(part, 1<<3), uint64(o.meta.typ))
			}
			if o.meta.help != 0 {
				part = appendText(part, 4, m.list[o.meta.help])
			}
			if o.meta.unit != 0 {
				part = appendText(part, 5, m.list[o.meta.unit])
			}
			dst = appendField(dst, 3, part)
			c.Metadata++
		}
		if len(s.samples)+len(o.histograms)+len(o.exemplars) == 0 {
			continue // it was there for its metadata
		}
		c.Series++
		series = labels(series[:0], s.labels)
		for j := range s.samples {
			part = s.samples[j].append(part[:0], false)
			series = appendField(series, 2, part)
			c.Samples++
			if s.samples[j].value == staleNaN {
				c.StaleSamples++
			}
		}
		for j := range o.exemplars {
			x := &o.exemplars[j]
			body := x.appendRest(labels(nil, x.labels))
			series = appendField(series, 3, body)
			c.Exemplars++
		}
		for j := range o.histograms {
			part = o.histograms[j].append(part[:0], false)
			series = appendField(series, 4, part)
			o.histograms[j].count(&c)
		}
		dst = appendField(dst, 1, series)
	}
	return dst, c
}

// familyName is what 1.0 calls the thing that the metadata of a series is about: the
// name of the metric without the suffixes that parts of histograms and summaries have.
// It is empty when the series has no metadata.
func (m *Merger) familyName(s *mergedSeries) string {
	meta := s.has().meta
	if meta == (metadataV2{}) {
		return ""
	}
	family := m.metricName(s)
	if meta.typ == typeHistogram || meta.typ == typeGaugeHistogram || meta.typ == typeSummary {
		for _, suffix := range [...]string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(family, suffix); ok {
				return base
			}
		}
	}
	return family
}

func appendText(dst []byte, num uint64, text string) []byte {
	dst = binary.AppendUvarint(dst, num<<3|wireLen)
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}

// AppendMetadata appends the metadata entries of 1.0 from from up to before to as a
// decoded 1.0 request, and says what is in it.
func (m *Merger) AppendMetadata(dst []byte, from, to int) ([]byte, Counts) {
	for _, e := range m.meta[from:to] {
		dst = appendField(dst, 3, e)
	}
	return dst, Counts{Metadata: to - from}
}
