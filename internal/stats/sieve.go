package stats

import (
	"math"
	"math/bits"
	"slices"
)

// sieve lets through what decides about some ranks of many values and counts the rest: it keeps the values between lo and hi,
// around the lowest rank, and those above tail, among which are all others. Both are open intervals, so that a value which
// comes again and again, and is therefore likely to be a bound, is not kept but counted.
type sieve[T sample] struct {
	lo, hi, tail T // in this order
	kept         []T
	n            int64 // values that went through
	aboveLo      int64
	aboveTail    int64
	least        T
	tied         bool // the following are counted
	atLo, atHi   int64
	atTail       int64
}

const (
	// siftBlock is how many values are sifted before there is made room for more.
	siftBlock = 1 << 14
	// siftSlack is how many values behind those that a sift keeps it may overwrite.
	siftSlack = 8
)

// bounds returns the smallest and the largest value of a type.
func bounds[T sample]() (bottom, top T) {
	switch p := any(&top).(type) {
	case *int32:
		*p = math.MaxInt32
		return T(math.MinInt32), top
	case *float64:
		*p = math.Inf(1)
	}
	return -top, top
}

// reset empties s and lets nothing through.
func (s *sieve[T]) reset() {
	_, top := bounds[T]()
	*s = sieve[T]{lo: top, hi: top, tail: top, least: top, kept: s.kept[:0]}
}

// sift has values go through s.
func (s *sieve[T]) sift(values []T) {
	s.n += int64(len(values))
	for block := range slices.Chunk(values, siftBlock) {
		s.kept = slices.Grow(s.kept, len(block)+siftSlack)
		if ints, ok := any(s).(*sieve[int32]); ok {
			if part, ok := any(block).([]int32); ok {
				block = block[siftInt32(ints, part):]
			}
		}
		s.siftGeneric(block)
	}
}

// siftGeneric sifts values, for which there is room. It has no branch but that of the loop: whether a value is kept is not to be
// foreseen.
func (s *sieve[T]) siftGeneric(values []T) {
	dst := s.kept[len(s.kept):cap(s.kept)]
	lo, hi, tail, least := s.lo, s.hi, s.tail, s.least
	kept, aboveLo, aboveTail := 0, 0, 0
	for _, v := range values {
		a, b, t := one(v > lo), one(v < hi), one(v > tail)
		if v < least {
			least = v
		}
		dst[kept] = v
		kept += a&b | t
		aboveLo += a
		aboveTail += t
	}
	s.kept = s.kept[:len(s.kept)+kept]
	s.aboveLo += int64(aboveLo)
	s.aboveTail += int64(aboveTail)
	s.least = least
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// tie counts the values at the bounds of s, those of parts, which have gone through it.
func (s *sieve[T]) tie(parts [][]T) {
	if s.tied {
		return
	}
	s.tied = true
	for _, part := range parts {
		lo, hi, tail := 0, 0, 0
		for _, v := range part {
			lo += one(v == s.lo)
			hi += one(v == s.hi)
			tail += one(v == s.tail)
		}
		s.atLo += int64(lo)
		s.atHi += int64(hi)
		s.atTail += int64(tail)
	}
	if s.hi == s.lo {
		s.atHi = 0
	}
}

// find looks for the value at rank of parts, which have gone through s. It is known, and index -1, or at the rank index of
// what was kept; or it has escaped and ok is false.
func (s *sieve[T]) find(rank int64, parts [][]T) (index int64, v T, ok bool) {
	kept := int64(len(s.kept))
	fromMid := s.n - s.aboveLo
	fromHi := fromMid + kept - s.aboveTail
	fromTail := s.n - s.aboveTail
	switch {
	case rank == 0:
		return -1, s.least, true
	case rank >= fromMid && rank < fromHi:
		return rank - fromMid, 0, true
	case rank >= fromTail:
		return rank - (s.n - kept), 0, true
	}
	s.tie(parts)
	switch {
	case rank < fromMid && rank >= fromMid-s.atLo:
		return -1, s.lo, true
	case rank >= fromHi && rank < fromHi+s.atHi:
		return -1, s.hi, true
	case rank >= fromHi && rank >= fromTail-s.atTail:
		return -1, s.tail, true
	}
	return 0, 0, false
}

// random gives a random number of 64 bits, of which the upper are random enough for positions.
type random uint64

func (r *random) next() uint64 {
	*r = *r*6364136223846793005 + 1442695040888963407
	return uint64(*r)
}

// draw returns one value of each of 1<<log equal stretches of the n values in parts, at a random place.
func draw[T sample](r *random, into []T, parts [][]T, n int64, log int) []T {
	into = into[:0]
	part, before := 0, int64(0)
	for i := range int64(1) << log {
		within, _ := bits.Mul64(r.next(), uint64(n))
		at := int64((uint64(i*n) + within) >> log)
		for at-before >= int64(len(parts[part])) {
			before += int64(len(parts[part]))
			part++
		}
		into = append(into, parts[part][at-before])
	}
	return into
}

// selectRanks puts the values that are at ranks of values, ascending, into out. It overwrites values, ranks, and as much of spare. This
// is quickselect with random pivots.
func selectRanks[T sample](r *random, values, spare []T, ranks []int64, out []T) {
	for len(ranks) > 0 {
		if len(values) <= 12 {
			slices.Sort(values)
			for i, rank := range ranks {
				out[i] = values[rank]
			}
			return
		}
		at, _ := bits.Mul64(r.next(), uint64(len(values)))
		pivot := values[at]
		split := partition(values, spare, pivot)
		if split == len(values) {
			// The pivot is the largest: it, and all like it, are done.
			split = 0
			for _, v := range values {
				values[split] = v
				split += one(v < pivot)
			}
			for len(ranks) > 0 && ranks[len(ranks)-1] >= int64(split) {
				out[len(ranks)-1] = pivot
				ranks = ranks[:len(ranks)-1]
			}
			values = values[:split]
			continue
		}
		left := 0
		for left < len(ranks) && ranks[left] < int64(split) {
			left++
		}
		rest := len(values) - split
		selectRanks(r, values[:split], spare[rest:], ranks[:left], out[:left])
		values, spare, ranks, out = spare[:rest], values[split:], ranks[left:], out[left:]
		for i := range ranks {
			ranks[i] -= int64(split)
		}
	}
}

// partition leaves those of values that are not above pivot in values, and moves the others to spare.
func partition[T sample](values, spare []T, pivot T) int {
	low, high := 0, 0
	if ints, ok := any(values).([]int32); ok && len(values) >= 32 {
		room, _ := any(spare).([]int32) // they are of one type
		at, _ := any(pivot).(int32)
		low, high = partitionInt32(ints, room, at)
	}
	return partitionFrom(values, spare, pivot, low, high)
}

// partitionFrom goes on where low values were left and high moved.
func partitionFrom[T sample](values, spare []T, pivot T, low, high int) int {
	spare = spare[:len(values)]
	for _, v := range values[low+high:] {
		values[low] = v
		spare[high] = v
		k := 1 - one(v > pivot)
		low += k
		high += 1 - k
	}
	return low
}
