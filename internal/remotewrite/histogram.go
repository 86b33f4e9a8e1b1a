package remotewrite

import "math"

const (
	// customBuckets is the schema of histograms with custom bucket bounds (NHCB).
	customBuckets = -53
	// Exponential schemas. The specification names -4 to 8; Prometheus takes the
	// finer ones up to 52 and reduces them, so they are no error.
	minSchema, maxSchema = -4, 52
)

// histogram is what the rules need of a Histogram message. It is filled field
// by field in any order and judged at the end, so no bucket is ever stored.
type histogram struct {
	float            bool // the kind, by which count is set
	count, zero      uint64
	zeroFloat        bool
	sum              float64
	schema           int32
	zeroThreshold    float64
	ms, startMS      int64
	positive, negate side
	bounds           bounds
}

// side is the positive or the negative buckets.
type side struct {
	spans          int
	length         uint64 // of all spans
	reach          int64  // offsets and lengths of all spans
	firstNegative  bool   // the first span has a negative offset
	laterNegative  bool   // a later one has
	deltas         int
	last           int64 // the count of the bucket before
	sum            uint64
	deltaNegative  bool
	counts         int
	countsNegative bool
}

// bounds is the custom bucket bounds.
type bounds struct {
	n         int
	last      float64
	nan       bool
	unordered bool
}

// histogram walks a Histogram message of either version; they differ in the
// start timestamp.
func (w *Walker) histogram(b []byte) bool {
	var h histogram
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		if next == bad {
			return false
		}
		var want uint8
		switch num {
		case 1, 4, 6, 14, 15:
			want = wireVarint
		case 17:
			if w.version != V2 {
				if i = skip(b, next, typ); i == bad {
					return false
				}
				continue
			}
			want = wireVarint
		case 2, 3, 5, 7:
			want = wireI64
		case 8, 11:
			want = wireLen
		case 9, 12:
			if i = h.side(num).readDeltas(b, next, typ); i == bad {
				return false
			}
			continue
		case 10, 13, 16:
			if i = h.readFloats(b, next, typ, num); i == bad {
				return false
			}
			continue
		default:
			if i = skip(b, next, typ); i == bad {
				return false
			}
			continue
		}
		if typ != want {
			return false
		}
		var u uint64
		switch want {
		case wireVarint:
			u, i = varint(b, next)
		case wireI64:
			u, i = fixed64(b, next)
		case wireLen:
			var start int
			start, i = span(b, next)
			if i == bad || !h.side(num).readSpan(b[start:i]) {
				return false
			}
		}
		if i == bad {
			return false
		}
		h.set(num, u)
	}
	if h.float {
		w.sum.FloatHistograms++
	} else {
		w.sum.IntHistograms++
	}
	if h.schema == customBuckets {
		w.sum.CustomBucketHistograms++
	}
	w.startTime(h.startMS)
	w.sampleTime(h.ms, "a histogram")
	w.checkHistogram(&h)
	return true
}

// side is the one that a field number belongs to.
func (h *histogram) side(num int32) *side {
	if num >= 11 {
		return &h.positive
	}
	return &h.negate
}

// set takes a field of one number.
func (h *histogram) set(num int32, u uint64) {
	switch num {
	case 1:
		h.count, h.float = u, false
	case 2:
		h.count, h.float = u, true
	case 3:
		h.sum = float(u)
	case 4:
		h.schema = zigzag32(u)
	case 5:
		h.zeroThreshold = float(u)
	case 6:
		h.zero, h.zeroFloat = u, false
	case 7:
		h.zero, h.zeroFloat = u, true
	case 15:
		h.ms = int64(u)
	case 17:
		h.startMS = int64(u)
	}
}

// readSpan reads a BucketSpan.
func (s *side) readSpan(b []byte) bool {
	var offset int32
	var length uint32
	for i := 0; i < len(b); {
		num, typ, next := tag(b, i)
		if next == bad {
			return false
		}
		if num > 2 {
			if i = skip(b, next, typ); i == bad {
				return false
			}
			continue
		}
		if typ != wireVarint {
			return false
		}
		var u uint64
		if u, i = varint(b, next); i == bad {
			return false
		}
		if num == 1 {
			offset = zigzag32(u)
		} else {
			length = uint32(u)
		}
	}
	if offset < 0 {
		if s.spans == 0 {
			s.firstNegative = true
		} else {
			s.laterNegative = true
		}
	}
	s.spans++
	s.length += uint64(length)
	s.reach += int64(offset) + int64(length)
	return true
}

// readDeltas reads a field of integer buckets, packed or not.
func (s *side) readDeltas(b []byte, i int, typ uint8) int {
	end := i + 1
	switch typ {
	case wireVarint:
	case wireLen:
		i, end = span(b, i)
	default:
		return bad
	}
	for i != bad && i < end {
		var u uint64
		if u, i = varint(b, i); i == bad {
			return bad
		}
		s.last += zigzag64(u)
		s.deltas++
		s.sum += uint64(s.last)
		s.deltaNegative = s.deltaNegative || s.last < 0
	}
	return i
}

// readFloats reads a field of floats, packed or not: the buckets of a float
// histogram or the custom bounds.
func (h *histogram) readFloats(b []byte, i int, typ uint8, num int32) int {
	end := i + 1
	switch typ {
	case wireI64:
	case wireLen:
		i, end = span(b, i)
	default:
		return bad
	}
	for i != bad && i < end {
		var u uint64
		if u, i = fixed64(b, i); i == bad {
			return bad
		}
		if num == 16 {
			h.bounds.add(float(u))
			continue
		}
		s := h.side(num)
		s.counts++
		s.countsNegative = s.countsNegative || float(u) < 0
	}
	return i
}

func (c *bounds) add(f float64) {
	c.nan = c.nan || math.IsNaN(f)
	c.unordered = c.unordered || c.n > 0 && f <= c.last
	c.last = f
	c.n++
}

// checkHistogram refuses histograms whose parts contradict each other. The
// rules are those of Prometheus' own receiver, plus one: a histogram may not
// mix integer and float buckets, where Prometheus silently drops one of the
// two.
func (w *Walker) checkHistogram(h *histogram) {
	custom := h.schema == customBuckets
	if !custom && (h.schema < minSchema || h.schema > maxSchema) {
		w.refuse(reasonHistogramSchema, "a histogram has the schema %d, known are %d to %d and %d", h.schema, minSchema, maxSchema, customBuckets)
	}
	// The buckets of the other kind, and of this kind.
	pOther, nOther := h.positive.counts, h.negate.counts
	pOwn, nOwn := h.positive.deltas, h.negate.deltas
	negative := h.positive.deltaNegative || h.negate.deltaNegative
	zeroIsZero := h.zero == 0
	if h.float {
		pOther, nOther, pOwn, nOwn = pOwn, nOwn, pOther, nOther
		negative = h.positive.countsNegative || h.negate.countsNegative
	}
	if h.zeroFloat {
		zeroIsZero = float(h.zero) == 0
	}
	if pOther+nOther > 0 || h.zeroFloat != h.float && !zeroIsZero {
		w.refuse(reasonHistogramMixed, "a histogram mixes integer and float buckets")
		return // the rules below would compare apples and pears
	}
	if zeroIsZero {
		h.zero = 0 // which a float -0 is not, bit by bit
	}
	if negative {
		w.refuse(reasonHistogramBuckets, "a histogram has a bucket with a negative count")
	}
	if h.positive.length != uint64(pOwn) || h.negate.length != uint64(nOwn) {
		w.refuse(reasonHistogramSpans, "a histogram's spans cover %d positive and %d negative buckets, it has %d and %d",
			h.positive.length, h.negate.length, pOwn, nOwn)
	}
	if h.positive.laterNegative || h.negate.laterNegative || custom && h.positive.firstNegative {
		w.refuse(reasonHistogramSpans, "a histogram has a span with a negative offset")
	}
	if custom {
		w.checkCustomBuckets(h, zeroIsZero)
	} else if h.bounds.n > 0 {
		w.refuse(reasonHistogramBounds, "a histogram with the schema %d has custom bucket bounds", h.schema)
	}
	if h.float {
		if float(h.count) < 0 || float(h.zero) < 0 {
			w.refuse(reasonHistogramBuckets, "a histogram has a negative count or zero bucket")
		}
		return
	}
	// Of float histograms the sum is not compared: rounding may move it.
	sum := h.positive.sum + h.negate.sum + h.zero
	// A NaN observation is in the count and in no bucket, and it makes the sum
	// NaN.
	if sum > h.count || sum < h.count && !math.IsNaN(h.sum) {
		w.refuse(reasonHistogramCount, "a histogram's buckets hold %d observations, its count is %d", sum, h.count)
	}
}

// checkCustomBuckets applies the rules of schema -53.
func (w *Walker) checkCustomBuckets(h *histogram, zeroIsZero bool) {
	switch {
	case h.bounds.nan:
		w.refuse(reasonHistogramBounds, "a histogram has a custom bucket bound that is NaN")
	case h.bounds.unordered:
		w.refuse(reasonHistogramBounds, "a histogram's custom bucket bounds do not increase")
	case h.bounds.n > 0 && math.IsInf(h.bounds.last, 1):
		w.refuse(reasonHistogramBounds, "a histogram's last custom bucket bound is +Inf, which is implied")
	case int64(h.bounds.n)+1 < h.positive.reach:
		w.refuse(reasonHistogramBounds, "a histogram's %d custom bucket bounds do not cover its spans, which reach to %d", h.bounds.n, h.positive.reach)
	case h.negate.spans > 0 || h.negate.deltas > 0 || h.negate.counts > 0:
		w.refuse(reasonHistogramBuckets, "a histogram with custom buckets has negative buckets")
	case !zeroIsZero || h.zeroThreshold != 0:
		w.refuse(reasonHistogramBuckets, "a histogram with custom buckets has a zero bucket")
	}
}
