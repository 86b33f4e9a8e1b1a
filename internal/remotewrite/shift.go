package remotewrite

import "math/bits"

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
	s := shifter{version: v, delta: deltaMS}
	s.request(decoded)
	if s.err == nil {
		s.patch = true
		s.request(decoded)
	}
	if s.err != nil {
		return s.err
	}
	return nil
}

// shifter walks a message; first to check, then to patch.
type shifter struct {
	version Version
	delta   int64
	patch   bool
	series  int
	err     *Error
}

// malformed sets the error, unless something deeper down has set one.
func (s *shifter) malformed() {
	if s.err == nil {
		s.err = badRequest(reasonMalformed, "shifting the %s message: malformed protobuf in or behind series %d", s.version, s.series)
	}
}

// request walks the top level.
func (s *shifter) request(b []byte) {
	field := int32(1)
	if s.version == V2 {
		field = 5
	}
	s.series = 0
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		switch {
		case next == bad:
			i = bad
		case num == field:
			if i = s.message(b, next, typ, s.timeSeries); i != bad {
				s.series++
			}
		default:
			i = skip(b, next, typ)
		}
		if i == bad {
			s.malformed()
			return
		}
	}
}

// message hands the message at i to f, which returns false once s.err is set.
func (s *shifter) message(b []byte, i int, typ uint8, f func([]byte) bool) int {
	start, end := span(b, i)
	if typ != wireLen || end == bad || !f(b[start:end]) {
		return bad
	}
	return end
}

func (s *shifter) timeSeries(b []byte) bool {
	created := patchSpot{}
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		switch {
		case next == bad:
			i = bad
		case num == 1 && s.version == V2:
			i = skipPacked(b, next, typ)
		case num == 2:
			i = s.message(b, next, typ, s.sample)
		case num == 3 && s.version == V1, num == 4 && s.version == V2:
			i = s.message(b, next, typ, s.exemplar)
		case num == 4 && s.version == V1, num == 3 && s.version == V2:
			i = s.message(b, next, typ, s.histogram)
		case num == 6 && s.version == V2 && typ == wireVarint:
			i = created.read(b, next)
		default:
			i = skip(b, next, typ)
		}
		if i == bad {
			s.malformed()
			return false
		}
	}
	return s.move(b, created, true)
}

func (s *shifter) sample(b []byte) bool {
	return s.leaf(b, 2, 3)
}

func (s *shifter) exemplar(b []byte) bool {
	return s.leaf(b, 3, 0)
}

func (s *shifter) histogram(b []byte) bool {
	return s.leaf(b, 15, 17)
}

// leaf moves the timestamp in field at, and in a 2.0 message the start
// timestamp in field startAt.
func (s *shifter) leaf(b []byte, at, startAt int32) bool {
	var ts, start patchSpot
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
			i = ts.read(b, next)
		case num == startAt && s.version == V2:
			if typ != wireVarint {
				i = bad
				break
			}
			i = start.read(b, next)
		case at == 15 && (num == 9 || num == 12), at == 3 && num == 1 && s.version == V2:
			i = skipPacked(b, next, typ)
		case at == 15 && (num == 10 || num == 13 || num == 16):
			i = skipPackedFloats(b, next, typ)
		default:
			i = skip(b, next, typ)
		}
		if i == bad {
			s.malformed()
			return false
		}
	}
	return s.move(b, ts, false) && s.move(b, start, true)
}

// patchSpot is where a timestamp is in a message. When the field comes more
// than once the last one counts, as for every reader.
type patchSpot struct {
	ms         int64
	off, width int
}

func (p *patchSpot) read(b []byte, i int) int {
	u, next := varint(b, i)
	*p = patchSpot{int64(u), i, next - i}
	return next
}

// move checks a timestamp or patches it. An optional one may be unset.
func (s *shifter) move(b []byte, p patchSpot, optional bool) bool {
	if p.ms == 0 && optional {
		return true
	}
	to := p.ms + s.delta
	if s.patch {
		put(b[p.off:p.off+p.width], uint64(to))
		return true
	}
	// A sum that overflows changes its sign and with it its width.
	if width(p.ms) != p.width || width(to) != p.width {
		s.err = badRequest(reasonTimestampWidth,
			"shifting a timestamp in series %d: %d ms and %d ms later do not both fit its %d bytes on the wire", s.series, p.ms, s.delta, p.width)
		s.err.Hint = "timestamps can be shifted between 1971-02-02 and 2109-05-15"
		return false
	}
	return true
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
