package remotewrite

import (
	"math/bits"
	"sync"
)

// Shift adds deltaMS milliseconds to every timestamp of a decoded message, in
// place: samples, histograms, exemplars, start timestamps (2.0-rc.4) and
// created timestamps (2.0-rc.3). An unset (zero) start timestamp stays unset.
//
// Nothing is marshalled anew, so a timestamp has to keep its width on the wire:
// milliseconds have six bytes from 1971-02-02 to 2109-05-15. A timestamp that
// would need another width, a sample, histogram or exemplar without one, and
// malformed protobuf are an [*Error] with Status 400, and then not one byte has
// been changed: the whole message is checked before the first patch.
//
// A delta of zero leaves the message alone and is never an error.
//
// Shift reads only what it needs to find timestamps; that the message is valid
// otherwise is for [Walker.Walk] to say.
func Shift(v Version, decoded []byte, deltaMS int64) error {
	if v != V1 && v != V2 {
		return badRequest(reasonVersion, "shifting a remote-write message: %s", v)
	}
	if deltaMS == 0 {
		return nil
	}
	f, _ := stampFinders.Get().(*stampFinder)
	defer stampFinders.Put(f)
	stamps, err := f.find(v, decoded)
	if err != nil {
		return err
	}
	return shiftStamps(decoded, stamps, deltaMS)
}

var stampFinders = sync.Pool{New: func() any { return new(stampFinder) }} //nolint:gochecknoglobals // a cache of memory

// stamp is a timestamp in a message. When its field comes more than once the last one counts, as for every reader.
type stamp struct {
	ms     int64
	off    uint32 // of its first byte; messages are far below 4 GiB
	series int32
	width  uint8 // in bytes; 0 = it has to be there and is not
}

// shiftStamps adds deltaMS to the timestamps of b, or says why it cannot and leaves b alone.
func shiftStamps(b []byte, stamps []stamp, deltaMS int64) error {
	for i := range stamps {
		if err := shiftable(stamps[i].ms, deltaMS, stamps[i].width, stamps[i].series); err != nil {
			return err
		}
	}
	for i := range stamps {
		s := &stamps[i]
		put(b[s.off:s.off+uint32(s.width)], uint64(s.ms+deltaMS))
	}
	return nil
}

// shiftable says why a timestamp cannot be shifted, if it cannot.
func shiftable(ms, deltaMS int64, bytes uint8, series int32) error {
	// A sum that overflows changes its sign and with it its width.
	if width(ms) == int(bytes) && width(ms+deltaMS) == int(bytes) {
		return nil
	}
	err := badRequest(reasonTimestampWidth,
		"shifting a timestamp in series %d: %d ms and %d ms later do not both fit its %d bytes on the wire", series, ms, deltaMS, bytes)
	err.Hint = "timestamps can be shifted between 1971-02-02 and 2109-05-15"
	return err
}

// stampFinder walks a message for its timestamps.
type stampFinder struct {
	version Version
	series  int
	stamps  []stamp
	err     *Error
}

// find returns the timestamps of a message, which the next call takes back. An optional one that is unset is left out.
func (f *stampFinder) find(v Version, b []byte) ([]stamp, error) {
	f.version, f.series, f.stamps, f.err = v, 0, f.stamps[:0], nil
	if f.request(b); f.err != nil {
		return nil, f.err
	}
	return f.stamps, nil
}

// malformed sets the error, unless something deeper down has set one.
func (f *stampFinder) malformed() {
	if f.err == nil {
		f.err = badRequest(reasonMalformed, "shifting the %s message: malformed protobuf in or behind series %d", f.version, f.series)
	}
}

// request walks the top level.
func (f *stampFinder) request(b []byte) {
	field := int32(1)
	if f.version == V2 {
		field = 5
	}
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		switch {
		case next == bad:
			i = bad
		case num == field:
			start, end := span(b, next)
			if i = end; typ != wireLen || end == bad || !f.timeSeries(b[start:end], start) {
				i = bad
				break
			}
			f.series++
		default:
			i = skip(b, next, typ)
		}
		if i == bad {
			f.malformed()
			return
		}
	}
}

// timeSeries walks a series that begins at base; false once f.err is set.
func (f *stampFinder) timeSeries(b []byte, base int) bool {
	var created stamp
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		switch {
		case next == bad:
			i = bad
		case num == 1 && f.version == V2:
			i = skipPacked(b, next, typ)
		case num == 2:
			i = f.leaf(b, next, typ, base, 2, 3)
		case num == 3 && f.version == V1, num == 4 && f.version == V2:
			i = f.leaf(b, next, typ, base, 3, 0)
		case num == 4 && f.version == V1, num == 3 && f.version == V2:
			i = f.leaf(b, next, typ, base, 15, 17)
		case num == 6 && f.version == V2 && typ == wireVarint:
			i = f.read(&created, b, next, base)
		default:
			i = skip(b, next, typ)
		}
		if i == bad {
			f.malformed()
			return false
		}
	}
	f.add(created, true)
	return true
}

// read reads a timestamp.
func (f *stampFinder) read(s *stamp, b []byte, i, base int) int {
	u, next := varint(b, i)
	if next != bad {
		*s = stamp{ms: int64(u), off: uint32(base + i), series: int32(f.series), width: uint8(next - i)}
	}
	return next
}

func (f *stampFinder) add(s stamp, optional bool) {
	if s.ms == 0 && optional {
		return
	}
	s.series = int32(f.series)
	f.stamps = append(f.stamps, s)
}

// leaf finds, in the sample, exemplar or histogram at i, the timestamp in field at, and in a 2.0 message the start
// timestamp in field startAt.
func (f *stampFinder) leaf(b []byte, i int, typ uint8, base int, at, startAt int32) int {
	start, end := span(b, i)
	if typ != wireLen || end == bad {
		return bad
	}
	b, base = b[start:end], base+start
	var ts, started stamp
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		switch {
		case next == bad:
			i = bad
		case num == at:
			if typ != wireVarint {
				i = bad
				break
			}
			i = f.read(&ts, b, next, base)
		case num == startAt && f.version == V2:
			if typ != wireVarint {
				i = bad
				break
			}
			i = f.read(&started, b, next, base)
		case at == 15 && (num == 9 || num == 12), at == 3 && num == 1 && f.version == V2:
			i = skipPacked(b, next, typ)
		case at == 15 && (num == 10 || num == 13 || num == 16):
			i = skipPackedFloats(b, next, typ)
		default:
			i = skip(b, next, typ)
		}
		if i == bad {
			f.malformed()
			return bad
		}
	}
	f.add(ts, false)
	f.add(started, true)
	return end
}

// width is how many bytes a varint needs.
func width(v int64) int { return (bits.Len64(uint64(v)|1) + 6) / 7 }

// put writes a varint that fills b.
func put(b []byte, u uint64) {
	for i := range b {
		b[i] = byte(u) | 0x80
		u >>= 7
	}
	b[len(b)-1] &^= 0x80
}

// skipPacked steps over a field of integers, packed or not. The last integer of
// a packed list may reach beyond it, as for the generated code.
func skipPacked(b []byte, i int, typ uint8) int {
	if typ != wireLen {
		return skip(b, i, typ)
	}
	i, end := span(b, i)
	for i != bad && i < end {
		_, i = varint(b, i)
	}
	return i
}

// skipPackedFloats is skipPacked for eight-byte floats.
func skipPackedFloats(b []byte, i int, typ uint8) int {
	if typ != wireLen {
		return skip(b, i, typ)
	}
	i, end := span(b, i)
	for i != bad && i < end {
		_, i = fixed64(b, i)
	}
	return i
}
