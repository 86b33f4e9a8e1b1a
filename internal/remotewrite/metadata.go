package remotewrite

import "strings"

// Types of metrics, the same numbers in both versions.
const (
	typeCounter        = 1
	typeHistogram      = 3
	typeGaugeHistogram = 4
	typeSummary        = 5
	typeInfo           = 6
)

// AttachMetadata gives the metadata entries of 1.0 to series, where 2.0 has its metadata:
// that of a family to the first of its series, if it has none of its own. So a request
// with metadata need not be two. Entries that no series belongs to stay what they are,
// see [Merger.AppendMetadata].
func (m *Merger) AttachMetadata() {
	if len(m.meta) == 0 {
		return
	}
	given := make([]bool, len(m.meta))
	for i := range m.series {
		s := &m.series[i]
		if s.has().meta != (metadataV2{}) {
			continue
		}
		at, ok := m.entryFor(m.metricName(s))
		if !ok || given[at] {
			continue
		}
		typ, help, unit := readMetadata(m.meta[at])
		if meta := (metadataV2{typ: typ, help: m.symbol(help), unit: m.symbol(unit)}); meta != (metadataV2{}) {
			s.other().meta = meta
			given[at] = true
		}
	}
	left := 0
	for name, at := range m.family {
		if given[at] {
			delete(m.family, name)
		}
	}
	place := make([]int, len(m.meta))
	for at := range m.meta {
		if !given[at] {
			m.meta[left] = m.meta[at]
			place[at] = left
			left++
		}
	}
	for name, at := range m.family {
		m.family[name] = place[at]
	}
	clear(m.meta[left:])
	m.meta = m.meta[:left]
}

// entryFor finds the entry for the family that a metric belongs to.
func (m *Merger) entryFor(metric string) (at int, ok bool) {
	if at, ok = m.family[metric]; ok {
		return at, true
	}
	for _, part := range [...]struct {
		suffix string
		types  [3]int32
	}{
		{"_bucket", [3]int32{typeHistogram, typeGaugeHistogram}},
		{"_count", [3]int32{typeHistogram, typeSummary}},
		{"_sum", [3]int32{typeHistogram, typeSummary}},
		{"_gcount", [3]int32{typeGaugeHistogram}},
		{"_gsum", [3]int32{typeGaugeHistogram}},
		{"_total", [3]int32{typeCounter}},
		{"_created", [3]int32{typeCounter, typeHistogram, typeSummary}},
		{"_info", [3]int32{typeInfo}},
	} {
		family, ok := strings.CutSuffix(metric, part.suffix)
		if !ok {
			continue
		}
		at, ok = m.family[family]
		if !ok {
			return 0, false
		}
		typ, _, _ := readMetadata(m.meta[at])
		for _, t := range part.types {
			if t != 0 && t == typ {
				return at, true
			}
		}
		return 0, false
	}
	return 0, false
}

// readMetadata reads a MetricMetadata that was read before.
func readMetadata(b []byte) (typ int32, help, unit []byte) {
	eachField(b, func(f field) bool {
		switch {
		case f.num == 1 && f.typ == wireVarint:
			u, _ := varint(f.value, 0)
			typ = int32(u)
		case f.num == 4 && f.typ == wireLen:
			help = f.payload
		case f.num == 5 && f.typ == wireLen:
			unit = f.payload
		}
		return true
	})
	return typ, help, unit
}

// metricName is the value of __name__.
func (m *Merger) metricName(s *mergedSeries) string {
	name, label, second := "", "", false
	eachRef(s.labels, func(r uint32) {
		if second && label == "__name__" {
			name = m.list[r]
		}
		label, second = m.list[r], !second
	})
	return name
}
