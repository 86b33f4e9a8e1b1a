package remotewrite

import (
	"encoding/binary"
	"fmt"

	"github.com/golang/snappy"
)

// Template is a compressed body that is sent many times, each time with other timestamps and, if it was made with a label,
// another value of that. What takes time is done once: finding the timestamps, rewriting the series and compressing. A
// Template does not change, so it may be used by several goroutines.
//
// A compressed block says of most bytes only where the same bytes stood before. So a timestamp is written where it stands
// literally, and all that refer to it follow. That holds as long as what refers to it is the same timestamp, byte for
// byte, and not another that happens to look alike: where it is not, the block is made to have the bytes themselves.
type Template struct {
	body    []byte // compressed
	times   []timeOf
	patches []patch
	width   int // of the label's value, in bytes
}

// timeOf is a timestamp that stands in the body once or many times.
type timeOf struct {
	ms     int64
	series int32 // the first that has it
	width  uint8 // in bytes
}

// patch is a run of bytes in the body that are a part of a timestamp or of the label's value.
type patch struct {
	at      uint32 // in the body
	what    int32  // in times; -1 = the value
	from, n uint32 // bytes of that
}

// NewTemplate makes a template of a decoded message. With a name, every series gets that label as
// [Relabel] gives it, with a value of as many bytes as this one; without, labels stay as they are and value is to be
// empty. Malformed protobuf is an [*Error] with Status 400.
func NewTemplate(v Version, decoded []byte, name, value string) (*Template, error) {
	if v != V1 && v != V2 {
		return nil, badRequest(reasonVersion, "reading a remote-write message: %s", v)
	}
	message := decoded
	var values []int // where the label's value stands
	if name != "" {
		var err error
		if message, values, err = relabel(make([]byte, 0, len(decoded)+len(decoded)/8), v, decoded, name, value); err != nil {
			return nil, err
		}
	}
	var f stampFinder
	stamps, err := f.find(v, message)
	if err != nil {
		return nil, err
	}
	t := &Template{width: len(value)}
	marks := make([]mark, len(message))
	for _, at := range values {
		for i := range len(value) {
			marks[at+i] = mark{-1, uint32(i)}
		}
	}
	known := map[timeOf]int32{}
	for _, s := range stamps {
		key := timeOf{ms: s.ms, width: s.width}
		what, ok := known[key]
		if !ok {
			what = int32(len(t.times))
			known[key] = what
			t.times = append(t.times, timeOf{s.ms, s.series, s.width})
		}
		for i := range uint32(s.width) {
			marks[s.off+i] = mark{what + 1, i}
		}
	}
	w := blockWriter{message: message, marks: marks}
	w.rewrite(snappy.Encode(nil, message))
	t.body, t.patches = w.out, w.patches
	return t, nil
}

// Size is about how many bytes of memory the template takes.
func (t *Template) Size() int64 {
	const timeBytes, patchBytes = 16, 16
	return int64(cap(t.body) + timeBytes*cap(t.times) + patchBytes*cap(t.patches))
}

// Append appends the compressed body to dst, its timestamps moved by deltaMS milliseconds as [Shift] moves them, with value for
// that of its label. A value of another length than the template's, and a timestamp that would not fit, are errors, and dst is
// returned as it was.
func (t *Template) Append(dst []byte, deltaMS int64, value string) ([]byte, error) {
	if len(value) != t.width {
		return dst, fmt.Errorf("a template for values of %d bytes does not fit %q", t.width, value)
	}
	if deltaMS != 0 {
		for _, s := range t.times {
			if err := shiftable(s.ms, deltaMS, s.width, s.series); err != nil {
				return dst, err
			}
		}
	}
	begin := len(dst)
	dst = append(dst, t.body...)
	b := dst[begin:]
	var varint [binary.MaxVarintLen64]byte
	for _, p := range t.patches {
		to := b[p.at : p.at+p.n]
		switch {
		case p.what < 0:
			copy(to, value[p.from:])
		case deltaMS != 0:
			s := &t.times[p.what]
			put(varint[:s.width], uint64(s.ms+deltaMS))
			copy(to, varint[p.from:])
		}
	}
	return dst, nil
}

// mark says what a byte of a message belongs to. The zero value is a byte that stays.
type mark struct {
	what int32 // -1 = the label's value; a timestamp's number from 1
	at   uint32
}

// blockWriter writes a compressed block anew, so that no marked byte refers to one with another mark.
type blockWriter struct {
	message []byte
	marks   []mark
	out     []byte
	patches []patch
	pending int // message up to here has been written
}

// The elements of a block: https://github.com/google/snappy/blob/main/format_description.txt, 2026-11-26.
const (
	elementLiteral = iota
	elementNear
	elementFar
	// There is a fourth for what lies farther back than 64 KiB, which Encode has no use for: it takes so much at a time.
)

// rewrite takes a block that is the message.
func (w *blockWriter) rewrite(block []byte) {
	size, n := binary.Uvarint(block)
	w.out = binary.AppendUvarint(make([]byte, 0, len(block)+len(block)/16), size)
	at := 0 // in the message
	for b := block[n:]; len(b) > 0; {
		length, offset := int(b[0]>>2), 0
		switch b[0] & 3 {
		case elementLiteral:
			extra := max(length-59, 0) // bytes that have the length
			if extra > 0 {
				var le [4]byte
				copy(le[:], b[1:1+extra])
				length = int(binary.LittleEndian.Uint32(le[:]))
			}
			length++
			b = b[1+extra+length:]
		case elementNear:
			length, offset = 4+length&7, int(b[0]>>5)<<8|int(b[1])
			b = b[2:]
		case elementFar:
			length, offset = length+1, int(binary.LittleEndian.Uint16(b[1:]))
			b = b[3:]
		}
		if offset > 0 {
			w.refer(at, offset, length)
		}
		at += length
	}
	w.literal(at)
}

// refer writes that the bytes from at on are those offset before, as far as their marks say so too.
func (w *blockWriter) refer(at, offset, length int) {
	const least = 4 // shorter ones are cheaper as literals
	for end := at + length; at < end; {
		same := at
		for same < end && w.marks[same] == w.marks[same-offset] {
			same++
		}
		if same-at >= least || same == end && same-at == length {
			w.literal(at)
			w.copy(offset, same-at)
			w.pending = same
		}
		for at = same; at < end && w.marks[at] != w.marks[at-offset]; {
			at++ // which the next literal has
		}
	}
}

// literal writes the bytes of the message up to end that are not written yet.
func (w *blockWriter) literal(end int) {
	n := end - w.pending
	if n == 0 {
		return
	}
	switch last := n - 1; {
	case last < 60:
		w.out = append(w.out, byte(last)<<2)
	case last < 1<<8:
		w.out = append(w.out, 60<<2, byte(last))
	case last < 1<<16:
		w.out = append(w.out, 61<<2, byte(last), byte(last>>8))
	default:
		w.out = binary.LittleEndian.AppendUint32(append(w.out, 63<<2), uint32(last))
	}
	for i := w.pending; i < end; i++ {
		if m := w.marks[i]; m.what != 0 {
			at := uint32(len(w.out) + i - w.pending)
			what := max(m.what-1, -1)
			if last := len(w.patches) - 1; last >= 0 && w.patches[last].continues(at, what, m.at) {
				w.patches[last].n++
			} else {
				w.patches = append(w.patches, patch{at, what, m.at, 1})
			}
		}
	}
	w.out = append(w.out, w.message[w.pending:end]...)
	w.pending = end
}

func (p *patch) continues(at uint32, what int32, from uint32) bool {
	return p.what == what && p.at+p.n == at && p.from+p.n == from
}

// copy writes that the next n bytes are those offset before.
func (w *blockWriter) copy(offset, n int) {
	const most = 64
	for ; n > 0; n -= most {
		if length := min(n, most); length >= 4 && length < 12 && offset < 1<<11 {
			w.out = append(w.out, byte(offset>>8)<<5|byte(length-4)<<2|elementNear, byte(offset))
		} else {
			w.out = append(w.out, byte(length-1)<<2|elementFar, byte(offset), byte(offset>>8))
		}
	}
}
