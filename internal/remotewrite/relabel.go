package remotewrite

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Relabel appends to dst a copy of a decoded message in which every series has the label name with the given
// value: it replaces the label's value, or inserts the label where its name sorts. Names are compared as bytes.
// Everything else stays as it is, fields that this package does not know included.
//
// In a 2.0 message the label gets two symbols of its own behind those that are there, so that no other use
// of a symbol changes. Malformed protobuf is an [*Error] with Status 400.
func Relabel(dst []byte, v Version, decoded []byte, name, value string) ([]byte, error) {
	out, _, err := relabel(dst, v, decoded, name, value)
	return out, err
}

// relabel also returns where in the result the value stands.
func relabel(dst []byte, v Version, decoded []byte, name, value string) (out []byte, values []int, err error) {
	r := relabeller{name: []byte(name), value: []byte(value)}
	r.label = appendField(appendField(nil, 1, r.name), 2, r.value)
	var ok bool
	switch v {
	case V1:
		out, ok = r.requestV1(dst, decoded)
	case V2:
		out, ok = r.requestV2(dst, decoded)
	default:
		return nil, nil, badRequest(reasonVersion, "relabelling a remote-write message: %s", v)
	}
	if !ok {
		return nil, nil, badRequest(reasonMalformed, "relabelling the %s message: malformed protobuf", v)
	}
	return out, r.values, nil
}

type relabeller struct {
	name, value []byte
	label       []byte // 1.0: the content of a label with the two
	values      []int  // where the value stands in the result
	at          int    // 1.0: where it stands in scratch
	scratch     []byte
	packed      []byte

	symbols [][]byte // 2.0
	nameRef uint64   // 2.0: of the two new symbols
}

// field is one field of a message: raw is all of it, value what follows the tag, payload the content if it
// is length-delimited.
type field struct {
	num     int32
	typ     uint8
	raw     []byte
	value   []byte
	payload []byte
}

// eachField calls f for every field of b; false when b is malformed or f says so.
func eachField(b []byte, f func(field) bool) bool {
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		if next == bad {
			return false
		}
		end := skip(b, next, typ)
		if end == bad {
			return false
		}
		fd := field{num: num, typ: typ, raw: b[i:end], value: b[next:end]}
		if typ == wireLen {
			start, stop := span(b, next)
			if stop == bad {
				return false
			}
			fd.payload = b[start:stop]
		}
		if !f(fd) {
			return false
		}
		i = end
	}
	return true
}

func appendField(dst []byte, num int32, payload []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(num)<<3|uint64(wireLen))
	dst = binary.AppendUvarint(dst, uint64(len(payload)))
	return append(dst, payload...)
}

// requestV1 rewrites a prometheus.WriteRequest; false when it is malformed.
func (r *relabeller) requestV1(dst, b []byte) ([]byte, bool) {
	ok := eachField(b, func(f field) bool {
		if f.num != 1 {
			dst = append(dst, f.raw...)
			return true
		}
		if f.typ != wireLen || !r.seriesV1(f.payload) {
			return false
		}
		dst = appendField(dst, 1, r.scratch)
		r.values = append(r.values, len(dst)-len(r.scratch)+r.at)
		return true
	})
	return dst, ok
}

// insertV1 puts the label into scratch.
func (r *relabeller) insertV1() {
	r.scratch = appendField(r.scratch, 1, r.label)
	r.at = len(r.scratch) - len(r.value)
}

// seriesV1 puts the rewritten series into scratch.
func (r *relabeller) seriesV1(b []byte) bool {
	r.scratch = r.scratch[:0]
	done := false
	ok := eachField(b, func(f field) bool {
		if f.num != 1 {
			if !done { // series usually have all labels first
				done = true
				r.insertV1()
			}
			r.scratch = append(r.scratch, f.raw...)
			return true
		}
		if f.typ != wireLen {
			return false
		}
		var name []byte
		if !eachField(f.payload, func(l field) bool {
			if l.num == 1 {
				name = l.payload
			}
			return true
		}) {
			return false
		}
		switch c := bytes.Compare(name, r.name); {
		case c == 0 && done:
			return true // it was inserted already: labels are not sorted
		case c >= 0 && !done:
			done = true
			r.insertV1()
			if c == 0 {
				return true
			}
		}
		r.scratch = append(r.scratch, f.raw...)
		return true
	})
	if ok && !done {
		r.insertV1()
	}
	return ok
}

// requestV2 rewrites an io.prometheus.write.v2.Request; false when it is malformed.
func (r *relabeller) requestV2(dst, b []byte) ([]byte, bool) {
	last := -1
	n := 0
	if !eachField(b, func(f field) bool {
		if f.num == 4 {
			if f.typ != wireLen {
				return false
			}
			r.symbols = append(r.symbols, f.payload)
			last = n
		}
		n++
		return true
	}) {
		return nil, false
	}
	if last < 0 {
		return append(dst, b...), true // no symbols, so no series
	}
	r.nameRef = uint64(len(r.symbols))
	n = 0
	ok := eachField(b, func(f field) bool {
		if f.num == 5 {
			if f.typ != wireLen || !r.seriesV2(f.payload) {
				return false
			}
			dst = appendField(dst, 5, r.scratch)
		} else {
			dst = append(dst, f.raw...)
		}
		if n == last {
			dst = appendField(dst, 4, r.name)
			dst = appendField(dst, 4, r.value)
			r.values = append(r.values, len(dst)-len(r.value))
		}
		n++
		return true
	})
	return dst, ok
}

// seriesV2 puts the rewritten series into scratch.
func (r *relabeller) seriesV2(b []byte) bool {
	var refs []uint64
	if !eachField(b, func(f field) bool {
		if f.num != 1 {
			return true
		}
		switch f.typ {
		case wireVarint:
			u, _ := varint(f.value, 0)
			refs = append(refs, u)
		case wireLen:
			for i := 0; i < len(f.payload); {
				u, next := varint(f.payload, i)
				if next == bad {
					return false
				}
				refs = append(refs, u)
				i = next
			}
		default:
			return false
		}
		return true
	}) || len(refs)%2 != 0 {
		return false
	}
	at := len(refs)
	replace := false
	for i := 0; i < len(refs); i += 2 {
		if refs[i] >= uint64(len(r.symbols)) {
			return false
		}
		if c := bytes.Compare(r.symbols[refs[i]], r.name); c == 0 {
			at, replace = i, true
			break
		} else if c > 0 && at == len(refs) {
			at = i
		}
	}
	if replace {
		refs[at+1] = r.nameRef + 1
	} else {
		refs = slices.Insert(refs, at, r.nameRef, r.nameRef+1)
	}
	r.packed = r.packed[:0]
	for _, u := range refs {
		r.packed = binary.AppendUvarint(r.packed, u)
	}
	r.scratch = appendField(r.scratch[:0], 1, r.packed)
	return eachField(b, func(f field) bool {
		if f.num != 1 {
			r.scratch = append(r.scratch, f.raw...)
		}
		return true
	})
}
