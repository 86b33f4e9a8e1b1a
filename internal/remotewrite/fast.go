package remotewrite

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
)

// The fast path: series of the one form that nearly all senders write nearly
// always (every length and reference as short as can be, fields in order,
// labels and then samples, nothing wrong) are read here, with no call per
// field. Anything else at all, and above all anything that might be wrong,
// makes it give up on the series before it has counted anything of it; the
// walk proper then reads the series from its start. So the fast path decides
// nothing but that a series is good.

// fastSum is what the fast path found in a series.
type fastSum struct {
	samples, stale, starts, metadata int
	minMS, maxMS                     int64
	sorted                           bool
}

// commit counts in the series.
func (w *Walker) commit(f *fastSum) {
	s := &w.sum
	s.Series++
	s.Samples += f.samples
	s.StaleSamples += f.stale
	s.StartTimestamps += f.starts
	s.Metadata += f.metadata
	if !f.sorted {
		s.UnsortedSeries++
	}
	s.minMS = min(s.minMS, f.minMS)
	s.maxMS = max(s.maxMS, f.maxMS)
}

// nameKey is keyOf("__name__").
const nameKey = '_'<<56 | '_'<<48 | 'n'<<40 | 'a'<<32 | 'm'<<24 | 'e'<<16 | '_'<<8 | '_'

// keyAt is the first eight bytes of the text of n > 0 bytes at i, as a number
// that orders like the text; shorter texts are filled up with zeros. Texts with
// equal keys may differ. Eight bytes have to be there at i.
func keyAt(b []byte, i, n int) uint64 {
	k := binary.BigEndian.Uint64(b[i:])
	if n < 8 {
		k &= ^uint64(0) << (64 - 8*uint(n))
	}
	return k
}

// fewLabels bounds the labels of a series on the fast path.
const fewLabels = 32

// fastSeriesV1 reads a TimeSeries, or gives up.
func (w *Walker) fastSeriesV1(b []byte) bool {
	if w.maxName < 0x7f || w.maxValue < 0x7f || w.lim.LegacyNames {
		return false // the lengths below would have to be checked, or the names
	}
	f := fastSum{minMS: math.MaxInt64, maxMS: math.MinInt64, sorted: true}
	var keys [fewLabels]uint64
	var prev uint64
	named := false
	i, n, prevAt, prevLen := 0, 0, 0, 0
	//	0a size 0a nameLen name... 12 valueLen value...
	for len(b)-i >= 12 && b[i] == 1<<3|wireLen {
		size, nameLen := int(b[i+1]), int(b[i+3])
		at := i + 4
		v := at + nameLen
		if b[i+2] != 1<<3|wireLen || v+2 > len(b) {
			return false
		}
		valueLen := int(b[v+1])
		i = v + 2 + valueLen
		if b[v] != 2<<3|wireLen || size != nameLen+valueLen+4 || size|nameLen|valueLen >= 0x80 ||
			nameLen == 0 || valueLen == 0 || i > len(b) || n == fewLabels {
			return false
		}
		key := keyAt(b, at, nameLen)
		if key <= prev {
			if key == prev {
				switch c := bytes.Compare(b[prevAt:prevAt+prevLen], b[at:v]); {
				case c == 0:
					return false
				case c > 0:
					f.sorted = false
				}
			} else {
				f.sorted = false
			}
		}
		named = named || key == nameKey && nameLen == 8
		keys[n] = key
		n++
		prev, prevAt, prevLen = key, at, nameLen
	}
	if !named || n > w.lim.MaxLabelsPerSeries || !isASCII(b[:i]) || !f.sorted && !distinct(keys[:n]) {
		return false
	}
	for i < len(b) {
		if i = w.fastSample(b, i, &f); i == bad {
			return false
		}
	}
	w.commit(&f)
	return true
}

// distinct says whether no key occurs twice.
func distinct(keys []uint64) bool {
	for i, k := range keys {
		if slices.Contains(keys[:i], k) {
			return false
		}
	}
	return true
}

// fastSeriesV2 reads the TimeSeries in all[i:end], or gives up.
func (w *Walker) fastSeriesV2(all []byte, i, end int) bool {
	b := all[:end]
	if end-i < 2 || b[i] != 1<<3|wireLen || w.lim.LegacyNames {
		return false
	}
	f := fastSum{minMS: math.MaxInt64, maxMS: math.MinInt64, sorted: true}
	i, stop := span(b, i+1)
	if stop == bad {
		return false
	}
	symbols := w.symbols
	var prev symbol
	named := false
	n := 0
	for refs := b[:stop]; i < len(refs); n++ {
		ref := uint32(refs[i])
		i++
		if ref >= 0x80 { // up to three bytes: 2 million symbols
			if i == len(refs) {
				return false
			}
			c := uint32(refs[i])
			i++
			ref = ref&0x7f | c<<7
			if c >= 0x80 {
				if i == len(refs) || refs[i] >= 0x80 {
					return false
				}
				ref = ref&0x3fff | uint32(refs[i])<<14
				i++
			}
		}
		if uint(ref) >= uint(len(symbols)) {
			return false
		}
		s := symbols[ref]
		if s.size > symbolPlain {
			return false
		}
		if n%2 != 0 {
			continue
		}
		if s.key <= prev.key {
			if s.key < prev.key || bytes.Compare(prev.text(all), s.text(all)) >= 0 {
				return false
			}
		}
		if s.size > w.maxName {
			return false
		}
		named = named || s.key == nameKey && s.size == 8
		prev = s
	}
	if !named || n%2 != 0 || n/2 > w.lim.MaxLabelsPerSeries {
		return false
	}
	for i < end {
		if b[i] == 2<<3|wireLen {
			if i = w.fastSample(b, i, &f); i == bad {
				return false
			}
			continue
		}
		if b[i] != 5<<3|wireLen || end-i < 2 || f.metadata > 0 {
			return false
		}
		start, next := span(b, i+1)
		if next == bad {
			return false
		}
		i = next
		if start == next {
			continue
		}
		var m metadataV2
		if !m.walk(b[start:next]) || uint(max(m.help, m.unit)) >= uint(len(symbols)) ||
			(symbols[m.help].size|symbols[m.unit].size)&badUTF8 != 0 {
			return false
		}
		if m != (metadataV2{}) {
			f.metadata++
		}
	}
	w.commit(&f)
	return true
}

// fastSample reads a sample field of either version at i, or gives up.
//
//	12 size [09 value] 10 ms [18 startMS]
func (w *Walker) fastSample(b []byte, i int, f *fastSum) int {
	if len(b)-i < 9 || b[i] != 2<<3|wireLen || b[i+1] >= 0x80 {
		return bad
	}
	end := i + 2 + int(b[i+1])
	if end > len(b) {
		return bad
	}
	b = b[:end]
	i += 2
	var value uint64
	if i+9 <= end && b[i] == 1<<3|wireI64 {
		value = binary.LittleEndian.Uint64(b[i+1:])
		i += 9
	}
	if i+7 > end || b[i] != 2<<3|wireVarint {
		return bad
	}
	ms := timestamp6(b, i+1)
	if ms < minPlausibleMS || ms > w.maxMS {
		return bad
	}
	if i += 7; i < end {
		// A 1.0 sample has no such field; the walk proper skips it.
		if w.version != V2 || i+7 != end || b[i] != 3<<3|wireVarint || timestamp6(b, i+1) < minPlausibleMS {
			return bad
		}
		f.starts++
	}
	f.samples++
	if value == staleNaN {
		f.stale++
	}
	f.minMS = min(f.minMS, ms)
	f.maxMS = max(f.maxMS, ms)
	return end
}

// timestamp6 reads a varint of exactly six bytes at i, or returns bad. Two
// bytes have to be there before it.
func timestamp6(b []byte, i int) int64 {
	const more, last = 0x0080_8080_8080, 0x8000_0000_0000
	x := binary.LittleEndian.Uint64(b[i-2:i+6]) >> 16
	if x&(more|last) != more {
		return bad
	}
	// Close the gaps that the continuation bits leave, two by two.
	x &^= more
	x = x&0x007f_007f_007f | x&0x7f00_7f00_7f00>>1
	return int64(x&0x3fff | x>>2&0xfff_c000 | x>>4&0x3ff_f000_0000)
}

// isASCII says whether no byte has its high bit set.
func isASCII(b []byte) bool {
	const high = 0x8080808080808080
	for len(b) >= 32 {
		x := binary.LittleEndian.Uint64(b) | binary.LittleEndian.Uint64(b[8:]) |
			binary.LittleEndian.Uint64(b[16:]) | binary.LittleEndian.Uint64(b[24:])
		if x&high != 0 {
			return false
		}
		b = b[32:]
	}
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b)&high != 0 {
			return false
		}
		b = b[8:]
	}
	var x byte
	for _, c := range b {
		x |= c
	}
	return x < 0x80
}
