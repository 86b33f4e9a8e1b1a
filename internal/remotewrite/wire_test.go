package remotewrite

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The messages here are written by hand, as no marshaller would write them:
// what they hold against the walk is what a fast path is tempted to overlook.

// cat joins fields to a message.
func cat(fields ...[]byte) []byte { return slices.Concat(fields...) }

// num is a varint field, pad a varint field that is n bytes longer than needed.
func num(field int, v uint64) []byte { return pad(field, v, 0) }

func pad(field int, v uint64, n int) []byte {
	b := binary.AppendUvarint(nil, v)
	for range n {
		b[len(b)-1] |= 0x80
		b = append(b, 0)
	}
	return append(binary.AppendUvarint(nil, uint64(field)<<3), b...)
}

// f64 is a field of eight bytes.
func f64(field int, v float64) []byte {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(nil, uint64(field)<<3|wireI64), math.Float64bits(v))
}

// sub is a length-delimited field: a message, a text or a packed list.
func sub(field int, parts ...[]byte) []byte { return lied(field, len(cat(parts...)), parts...) }

// lied is sub with a length of one's own.
func lied(field, length int, parts ...[]byte) []byte {
	b := binary.AppendUvarint(nil, uint64(field)<<3|wireLen)
	b = binary.AppendUvarint(b, uint64(length))
	return append(b, cat(parts...)...)
}

func str(field int, s string) []byte { return sub(field, []byte(s)) }

func lbl(name, value string) []byte { return sub(1, str(1, name), str(2, value)) }

// Fields of good messages.
func nameLabel() []byte { return lbl("__name__", "up") }
func sampleNow() []byte { return sub(2, f64(1, 1), num(2, uint64(nowMS))) }
func symbolTab() []byte { return cat(str(4, ""), str(4, "__name__"), str(4, "up"), str(4, "job")) }
func refsField() []byte { return sub(1, []byte{1, 2}) }
func unknownF() []byte  { return num(100, 7) }

func TestWalkByHand(t *testing.T) {
	// s1 is a 1.0 request of one series with these fields, s2 one of 2.0.
	s1 := func(fields ...[]byte) []byte { return sub(1, fields...) }
	s2 := func(fields ...[]byte) []byte { return cat(symbolTab(), sub(5, fields...)) }
	h1 := func(fields ...[]byte) []byte { return s1(nameLabel(), sub(4, fields...)) }
	at := num(15, uint64(nowMS))
	floats := func(field int, vs ...float64) []byte {
		var b []byte
		for _, v := range vs {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
		return sub(field, b)
	}
	nhcb := func(fields ...[]byte) []byte { return h1(append([][]byte{num(4, 105), num(1, 0), at}, fields...)...) }
	tests := []struct {
		name   string
		v      Version
		body   []byte
		reason string
	}{
		{"plain", V1, s1(nameLabel(), sampleNow()), ""},
		{"plain", V2, s2(refsField(), sampleNow()), ""},
		{"value 0 left out", V1, s1(nameLabel(), sub(2, num(2, uint64(nowMS)))), ""},
		{"several samples", V1, s1(nameLabel(), sampleNow(), sampleNow(), sampleNow()), ""},
		{"samples before labels", V1, s1(sampleNow(), nameLabel()), ""},
		{"samples before labels", V2, s2(sampleNow(), refsField()), ""},
		{"a label behind the samples", V1, s1(nameLabel(), sampleNow(), lbl("zone", "b")), ""},
		{"a bad label behind the samples", V1, s1(nameLabel(), sampleNow(), lbl("zone", "\xff")), "label_invalid_utf8"},
		{"value before name", V1, s1(sub(1, str(2, "up"), str(1, "__name__")), sampleNow()), ""},
		{"explicit empty value", V1, s1(nameLabel(), lbl("job", ""), sampleNow()), ""},
		{"explicit empty name", V1, s1(lbl("", "x"), nameLabel(), sampleNow()), "label_name_empty"},
		{"label without a value", V1, s1(nameLabel(), sub(1, str(1, "job")), sampleNow()), ""},
		// What comes last counts; the bytes of the last name look like a label.
		{"three fields in a label", V1, s1(sub(1, str(1, "__name__"), str(2, "up"), str(1, "\n\x01x\x12\x01y")), sampleNow()), "name_missing"},
		{"unknown field in a label", V1, s1(sub(1, str(1, "__name__"), str(2, "up"), unknownF()), sampleNow()), ""},
		{"unknown field in a sample", V1, s1(nameLabel(), sub(2, f64(1, 1), num(2, uint64(nowMS)), unknownF())), ""},
		{"unknown field in a sample", V2, s2(refsField(), sub(2, f64(1, 1), num(2, uint64(nowMS)), unknownF())), ""},
		{"start timestamp in 1.0", V1, s1(nameLabel(), sub(2, f64(1, 1), num(2, uint64(nowMS)), num(3, uint64(nowMS)))), ""},
		{"start timestamp in 2.0", V2, s2(refsField(), sub(2, f64(1, 1), num(2, uint64(nowMS)), num(3, uint64(nowMS)))), ""},
		{"start timestamp of 0", V2, s2(refsField(), sub(2, num(2, uint64(nowMS)), pad(3, 0, 5))), ""},
		{"timestamp before value", V1, s1(nameLabel(), sub(2, num(2, uint64(nowMS)), f64(1, 1))), ""},
		{"timestamp twice", V1, s1(nameLabel(), sub(2, num(2, uint64(nowMS)), num(2, 0))), "timestamp_zero"},
		{"timestamp of six bytes that is 0", V1, s1(nameLabel(), sub(2, f64(1, 1), pad(2, 0, 5))), "timestamp_zero"},
		{"timestamp of six bytes in seconds", V1, s1(nameLabel(), sub(2, f64(1, 1), pad(2, uint64(capturedAt.Unix()), 1))), "timestamp_seconds"},
		{"timestamp of seven bytes", V1, s1(nameLabel(), sub(2, f64(1, 1), pad(2, uint64(nowMS), 1))), ""},
		{"timestamp of ten bytes", V1, s1(nameLabel(), sub(2, pad(2, uint64(nowMS), 4))), ""},
		{"timestamp of eleven bytes", V1, s1(nameLabel(), sub(2, pad(2, uint64(nowMS), 5))), "malformed_protobuf"},
		{"bits beyond 64", V1, s1(nameLabel(), sub(2, []byte{0x10}, bytes.Repeat([]byte{0xff}, 9), []byte{0x7f})), "timestamp_negative"},
		{"field number beyond 32 bits", V1, s1(nameLabel(), sub(2, num(2+1<<32, uint64(nowMS)))), ""},
		{"field number of 0", V1, s1(nameLabel(), num(0, 1)), "malformed_protobuf"},
		{"negative field number", V1, s1(nameLabel(), num(1<<31, 1)), "malformed_protobuf"},
		// Twelve bytes back is the tag of the same field: a reader that follows
		// never ends.
		{"negative length", V1, s1(nameLabel(), []byte{0xa2, 6, 0xf4}, bytes.Repeat([]byte{0xff}, 8), []byte{1}), "malformed_protobuf"},
		{"length beyond the message", V1, s1(nameLabel(), lied(100, 5, []byte("abcd"))), "malformed_protobuf"},
		{"a group", V1, s1(nameLabel(), []byte{0x4b}, nameLabel(), []byte{0x4b, 0x4c, 0x4c}, sampleNow()), ""},
		{"a group without an end", V1, s1(nameLabel(), []byte{0x4b, 0x4b, 0x4c}), "malformed_protobuf"},
		{"an end without a group", V1, s1(nameLabel(), []byte{0x4c}), "malformed_protobuf"},
		{"eight bytes cut short", V1, s1(nameLabel(), []byte{9<<3 | wireI64, 1, 2, 3, 4, 5, 6, 7}), "malformed_protobuf"},
		{"four bytes cut short", V1, s1(nameLabel(), []byte{9<<3 | wireI32, 1, 2, 3}), "malformed_protobuf"},
		{"unsorted, a repeated prefix", V1, s1(lbl("container_name", "a"), lbl("container_id", "b"), nameLabel()), ""},
		{"sorted, a repeated prefix", V1, s1(nameLabel(), lbl("container_id", "b"), lbl("container_name", "a")), ""},
		{"a prefix of the other", V1, s1(nameLabel(), lbl("a", "b"), lbl("a\x00", "a")), ""},
		{"a prefix of the other, unsorted", V1, s1(nameLabel(), lbl("a\x00", "b"), lbl("a", "a")), ""},
		{"unsorted, twice", V1, s1(lbl("b", "1"), nameLabel(), lbl("b", "2")), "label_duplicate"},
		{"33 labels", V1, s1(slices.Concat(nameLabel(), cat(numbered(32)...)), sampleNow()), ""},
		{"33 labels, unsorted", V1, s1(slices.Concat(cat(numbered(32)...), nameLabel()), sampleNow()), ""},
		{"33 labels, one twice", V1, s1(slices.Concat(lbl("x7", ""), cat(numbered(32)...), nameLabel())), "label_duplicate"},

		{"references one by one", V2, s2(num(1, 1), num(1, 2), sampleNow()), ""},
		{"references in two lists", V2, s2(sub(1, []byte{1}), sub(1, []byte{2}), sampleNow()), ""},
		{"no references, twice", V2, s2(sub(1), refsField(), sub(1)), ""},
		{"long references", V2, s2(sub(1, []byte{0x81, 0, 0x82, 0x80, 0}), sampleNow()), ""},
		{"very long references", V2, s2(sub(1, []byte{0x81, 0x80, 0x80, 0, 2}), sampleNow()), ""},
		{"a reference cut short", V2, cat(symbolTab(), sub(5, sub(1, []byte{1, 0x80}))), "malformed_protobuf"},
		// The list says two bytes; its second reference takes one more.
		{"a reference beyond its list", V2, s2(lied(1, 2, []byte{1, 0x82, 0}), sampleNow()), ""},
		{"a reference of 33 bits", V2, s2(sub(1, []byte{1}, binary.AppendUvarint(nil, 1<<32+2)), sampleNow()), ""},
		{"metadata twice", V2, s2(refsField(), sub(5, num(1, 1)), sampleNow(), sub(5, num(1, 0), num(3, 3))), ""},
		{"metadata taken back", V2, s2(refsField(), sub(5, num(1, 1)), sampleNow(), sub(5, num(1, 0))), ""},
		{"created timestamp twice", V2, s2(refsField(), num(6, 5), num(6, 0)), ""},
		{"created timestamp of another type", V2, s2(refsField(), str(6, "x")), ""},
		{"symbols between series", V2, cat(s2(sub(1, []byte{1, 4})), str(4, "late"), sub(5, sub(1, []byte{1, 4}))), ""},
		{"symbols that look alike", V2, cat(symbolTab(), str(4, "container_b"), str(4, "container_a"), sub(5, sub(1, []byte{1, 2, 5, 2, 4, 2}))), ""},
		{"symbols that look alike, unsorted", V2, cat(symbolTab(), str(4, "container_b"), str(4, "container_a"), sub(5, sub(1, []byte{1, 2, 4, 2, 5, 2}))), ""},
		{"equal symbols", V2, cat(symbolTab(), str(4, "job"), sub(5, sub(1, []byte{1, 2, 3, 2, 4, 2}))), "label_duplicate"},
		{"equal long symbols", V2, cat(symbolTab(), str(4, "container_b"), str(4, "container_b"), sub(5, sub(1, []byte{1, 2, 4, 2, 5, 2}))), "label_duplicate"},
		{"first symbol too long", V2, cat(str(4, strings.Repeat("x", 40_000)), symbolTab(), sub(5, sub(1, []byte{2, 3}))), "first_symbol"},

		{"integer after float count", V1, h1(f64(2, 5), num(1, 0), at), ""},
		{"float after integer count", V1, h1(num(1, 5), f64(2, -1), at), "histogram_buckets"},
		{"no count at all", V1, h1(at), ""},
		{"start timestamp of a 1.0 histogram", V1, h1(at, num(17, 5)), ""},
		{"start timestamp of another type", V1, h1(at, str(17, "x")), ""},
		{"start timestamp of another type", V2, s2(refsField(), sub(3, at, str(17, "x"))), "malformed_protobuf"},
		{"start timestamp of a 2.0 histogram", V2, s2(refsField(), sub(3, at, num(17, 5))), ""},
		{"deltas one by one", V1, h1(num(1, 3), sub(11, num(2, 2)), num(12, 2), num(12, 2), at), ""},
		{"deltas beyond their list", V1, h1(num(1, 1), sub(11, num(2, 1)), lied(12, 1, []byte{0x82, 0}), at), ""},
		{"floats beyond their list", V1, h1(f64(2, 1), sub(11, num(2, 1)), lied(13, 3, make([]byte, 8)), at), ""},
		{"bounds", V1, nhcb(floats(16, -1, 0, 1)), ""},
		{"bounds one by one", V1, nhcb(f64(16, -1), f64(16, 1)), ""},
		{"-Inf as the first bound", V1, nhcb(floats(16, math.Inf(-1), 1)), ""},
		{"equal bounds", V1, nhcb(floats(16, 1, 1)), "histogram_custom_bounds"},
		{"NaN as a bound", V1, nhcb(floats(16, 1, math.NaN())), "histogram_custom_bounds"},
		{"+Inf as a bound", V1, nhcb(floats(16, 1, math.Inf(1))), "histogram_custom_bounds"},
		{"the +Inf bucket", V1, nhcb(floats(16, 1), sub(11, num(2, 2)), sub(12, []byte{0, 0})), ""},
		{"a bucket beyond", V1, nhcb(floats(16, 1), sub(11, num(2, 3)), sub(12, []byte{0, 0, 0})), "histogram_custom_bounds"},
		{"custom buckets with a zero bucket", V1, nhcb(num(6, 1)), "histogram_buckets"},
		{"custom buckets with a zero threshold", V1, nhcb(f64(5, 1)), "histogram_buckets"},
		{"custom buckets with a negative span", V1, nhcb(sub(8, num(2, 0))), "histogram_buckets"},
		{"custom buckets with a negative offset", V1, nhcb(sub(11, num(1, 1))), "histogram_spans"},
		{"schema at the lower end", V1, h1(at, num(4, 7)), ""},
		{"schema below", V1, h1(at, num(4, 9)), "histogram_schema"},
		{"schema at the upper end", V1, h1(at, num(4, 104)), ""},
		{"schema above", V1, h1(at, num(4, 106)), "histogram_schema"},

		{"repeated text in metadata", V1, sub(3, str(2, "\xff"), str(2, "up")), ""},
		{"metadata of another type", V1, sub(3, num(2, 1)), "malformed_protobuf"},
	}
	var w Walker
	for _, tt := range tests {
		t.Run(tt.v.String()+" "+tt.name, func(t *testing.T) {
			if why := compareWithOracle(t, &w, tt.v, tt.body, Limits{}); why != tt.reason {
				t.Errorf("walk says %q, want %q", why, tt.reason)
			}
			checkShift(t, tt.v, tt.body, 1000)
		})
	}
}

// numbered is n labels, sorted, all before __name__ in no order of bytes.
func numbered(n int) [][]byte {
	var out [][]byte
	for i := range n {
		out = append(out, lbl("x"+string(rune('A'+i)), "v"))
	}
	return append(out, lbl("x7", "v"))[:n+1]
}

func TestShiftByHand(t *testing.T) {
	at := num(15, uint64(nowMS))
	tests := []struct {
		name   string
		v      Version
		body   []byte
		reason string
	}{
		{"1.0 knows no start timestamp", V1, sub(1, sub(2, num(2, uint64(nowMS)), num(3, uint64(nowMS)))), ""},
		{"1.0 knows no start timestamp of histograms", V1, sub(1, sub(4, at, num(17, uint64(nowMS)))), ""},
		{"2.0 does", V2, cat(symbolTab(), sub(5, sub(2, num(2, uint64(nowMS)), num(3, uint64(nowMS))), sub(3, at, num(17, uint64(nowMS))))), ""},
		{"the last one counts", V1, sub(1, sub(2, num(2, 5), num(2, uint64(nowMS)))), ""},
		{"the last one counts, alas", V1, sub(1, sub(2, num(2, uint64(nowMS)), num(2, 5))), "timestamp_width"},
		{"positive deltas beyond their list", V1, sub(1, sub(4, lied(12, 1, []byte{0x82, 0}), at)), ""},
		{"negative deltas beyond their list", V1, sub(1, sub(4, lied(9, 1, []byte{0x82, 0}), at)), ""},
		{"positive counts beyond their list", V1, sub(1, sub(4, lied(13, 3, make([]byte, 8)), at)), ""},
		{"negative counts beyond their list", V1, sub(1, sub(4, lied(10, 3, make([]byte, 8)), at)), ""},
		{"bounds beyond their list", V1, sub(1, sub(4, lied(16, 3, make([]byte, 8)), at)), ""},
		{"references beyond their list", V2, sub(5, lied(1, 1, []byte{0x82, 0}), sampleNow()), ""},
		{"references of an exemplar beyond their list", V2, sub(5, sub(4, lied(1, 1, []byte{0x82, 0}), num(3, uint64(nowMS)))), ""},
		// Seven bytes, and the time to come would have them by right.
		{"padded to the width to come", V1, sub(1, sub(2, pad(2, 1<<42-1, 1))), "timestamp_width"},
		{"timestamp of another type", V1, sub(1, sub(2, str(2, "x"))), "malformed_protobuf"},
		{"start timestamp of another type", V2, sub(5, sub(2, num(2, uint64(nowMS)), str(3, "x"))), "malformed_protobuf"},
		{"series of another type", V1, num(1, 1), "malformed_protobuf"},
	}
	for _, tt := range tests {
		t.Run(tt.v.String()+" "+tt.name, func(t *testing.T) {
			if why := checkShift(t, tt.v, tt.body, 1000); why != tt.reason {
				t.Errorf("refused with %q, want %q", why, tt.reason)
			}
		})
	}
}

// TestWrongVersionHint holds that each version's body under the other's label
// is answered with what to send instead.
func TestWrongVersionHint(t *testing.T) {
	var w Walker
	for _, tt := range []struct {
		labelled Version
		body     []byte
		hint     string
	}{
		{V1, cat(symbolTab(), sub(5, refsField())), contentTypeV2},
		{V2, sub(1, nameLabel()), "Content-Type: " + contentTypeV1},
		{V2, sub(3, str(2, "up")), "promtool"},
	} {
		_, err := w.Walk(tt.labelled, tt.body, Limits{}, capturedAt)
		if e := wantError(t, err, 400, "wrong_schema"); !strings.Contains(e.Hint, tt.hint) {
			t.Errorf("hint %q does not say %q", e.Hint, tt.hint)
		}
	}
}

// TestWalkNearMisses changes plain messages, the ones that take the fast path,
// a little at a time: every byte in turn, and one field in unusual ways.
func TestWalkNearMisses(t *testing.T) {
	bases := map[Version][]byte{
		V1: cat(sub(1, nameLabel(), lbl("job", "api"), sampleNow()), sub(1, lbl("a", "b"), nameLabel(), sub(2, num(2, uint64(nowMS))))),
		V2: cat(symbolTab(), sub(5, sub(1, []byte{1, 2, 3, 2}), sampleNow(), sub(5, num(1, 1), num(3, 2))), sub(5, refsField(), sub(2, num(2, uint64(nowMS)), num(3, uint64(nowMS-1))), sub(5))),
	}
	var w Walker
	for v, base := range bases {
		t.Run(v.String(), func(t *testing.T) {
			for i, c := range base {
				for _, x := range []byte{0, 1, 2, c - 1, c + 1, c ^ 0x80, c ^ 8, c ^ 2, 0x7f, 0x80, 0xff} {
					b := bytes.Clone(base)
					b[i] = x
					compareWithOracle(t, &w, v, b, Limits{})
				}
				compareWithOracle(t, &w, v, base[:i], Limits{})
				compareWithOracle(t, &w, v, slices.Delete(bytes.Clone(base), i, i+1), Limits{})
				compareWithOracle(t, &w, v, slices.Insert(bytes.Clone(base), i, c), Limits{})
			}
			g := gen{Rand: rand.New(rand.NewPCG(5, uint64(v))), faults: 0.05}
			for i := range 3000 {
				compareWithOracle(t, &w, v, g.rewire(base, v, kindRequest), someLimits[i%len(someLimits)])
			}
		})
	}
}

func TestDecodedLenBoundary(t *testing.T) {
	// Three bytes yield 64 at most: a copy of a distance in two bytes.
	for n, ok := range map[uint64]bool{64: true, 65: false} {
		body := append(binary.AppendUvarint(nil, n), 0xfe, 1, 0)
		if _, err := DecodedLen(body, 0); (err == nil) != ok {
			t.Errorf("%d bytes out of 3: %v", n, err)
		}
	}
}
