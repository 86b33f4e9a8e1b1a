package remotewrite

import (
	"encoding/binary"
	"math"
)

// The protobuf wire types.
const (
	wireVarint = 0
	wireI64    = 1
	wireLen    = 2
	wireStart  = 3
	wireEnd    = 4
	wireI32    = 5
)

// bad is the index that the readers below return for malformed input. They all
// take a message and an index into it, and return the index behind what they
// read. What they accept is exactly what the code that gogo/protobuf generates
// for Prometheus accepts.
const bad = -1

// varint reads a varint of up to ten bytes; bits beyond 64 are lost.
func varint(b []byte, i int) (v uint64, next int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return varintLong(b, i)
}

func varintLong(b []byte, i int) (v uint64, next int) {
	for shift := uint(0); shift < 64; shift += 7 {
		if uint(i) >= uint(len(b)) {
			return 0, bad
		}
		c := b[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, i
		}
	}
	return 0, bad
}

// tag reads a field number and a wire type at i < len(b). Numbers below one are
// malformed; a number beyond 32 bits is cut to 32. The wire type is for the
// caller to check, which knows the field, or for skip.
func tag(b []byte, i int) (num int32, typ uint8, next int) {
	if c := b[i]; c-8 < 0x80-8 { // 1 <= num <= 15
		return int32(c >> 3), c & 7, i + 1
	}
	return tagLong(b, i)
}

func tagLong(b []byte, i int) (num int32, typ uint8, next int) {
	v, next := varintLong(b, i)
	num, typ = int32(v>>3), uint8(v&7)
	if next == bad || num <= 0 {
		return 0, 0, bad
	}
	return num, typ, next
}

// span reads a length and returns the borders of that many bytes.
func span(b []byte, i int) (start, end int) {
	// Two bytes cover lengths below 16 KiB, those of nearly all messages.
	if i+1 < len(b) {
		n := int(b[i])
		i++
		if n >= 0x80 {
			c := int(b[i])
			i++
			n = n&0x7f | c<<7
			if c >= 0x80 {
				return spanLong(b, i-2)
			}
		}
		if n <= len(b)-i {
			return i, i + n
		}
		return bad, bad
	}
	return spanLong(b, i)
}

func spanLong(b []byte, i int) (start, end int) {
	n, i := varint(b, i)
	if i == bad || n > uint64(len(b)-i) {
		return bad, bad
	}
	return i, i + int(n)
}

// skip steps over a value of an unknown field, groups included. The end of a
// group that has no start is malformed.
func skip(b []byte, i int, typ uint8) int {
	switch typ {
	case wireVarint:
		_, i = varint(b, i)
		return i
	case wireI64:
		i += 8
	case wireLen:
		_, i = span(b, i)
		return i
	case wireStart:
		return skipGroup(b, i)
	case wireI32:
		i += 4
	default:
		return bad
	}
	if i > len(b) {
		return bad
	}
	return i
}

// skipGroup steps behind the end of the group whose start tag ends at i. Groups
// nest without recursion, and field numbers inside do not matter.
func skipGroup(b []byte, i int) int {
	for depth := 1; depth > 0; {
		var v uint64
		if v, i = varint(b, i); i == bad {
			return bad
		}
		switch typ := uint8(v & 7); typ {
		case wireStart:
			depth++
		case wireEnd:
			depth--
		default:
			if i = skip(b, i, typ); i == bad {
				return bad
			}
		}
	}
	return i
}

// fixed64 reads eight bytes, little endian.
func fixed64(b []byte, i int) (v uint64, next int) {
	if i+8 > len(b) {
		return 0, bad
	}
	return binary.LittleEndian.Uint64(b[i:]), i + 8
}

func float(v uint64) float64 { return math.Float64frombits(v) }

// zigzag32 and zigzag64 undo the encoding of sint32 and sint64.
func zigzag32(v uint64) int32 { u := uint32(v); return int32(u>>1) ^ -int32(u&1) }
func zigzag64(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
