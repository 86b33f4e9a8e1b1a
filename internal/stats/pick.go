package stats

import (
	"math"
	"math/bits"
	"slices"
)

// sample is a latency as somebody has it: in any unit, exact.
type sample interface{ int32 | float64 }

// picker finds order statistics of rows without sorting them. A small sample tells between which two values the lowest rank lies, and
// above which all others: a [sieve] aimed so keeps a fifth of the values and counts the rest, and what it keeps goes through
// the next sieve, until there is little enough left for quickselect.
//
// Nothing but speed depends on the sample: a sieve knows when a rank has escaped it, and is aimed again, wider. The positions
// of a sample are random, so that no order of the values can make that happen often.
type picker[T sample] struct {
	random random
	sieves []*sieve[T] // by depth
	spare  []T
	drawn  []T // a sample
}

const (
	// selectBelow is how many values quickselect is faster for than another sieve.
	selectBelow = 600
	// aimErrors is how many standard errors of the sample a sieve lets through to either side of a rank, at first. More
	// keep more, fewer miss more often; another pass is cheap.
	aimErrors = 3
	// aimErrorsPooled is the same for all rows together, of which another pass is not cheap.
	aimErrorsPooled = 4.5
	// aimErrorsMost is where aiming ends: only values that cannot be compared escape so wide a sieve.
	aimErrorsMost = 100
	// mostRanks is how many ranks there are to find: the smallest, and two for each of five quantiles.
	mostRanks = 11
)

func (p *picker[T]) spareFor(n int) []T {
	p.spare = slices.Grow(p.spare[:0], n)
	return p.spare[:n]
}

// pick returns the values at deltaRanks of n values, those of parts.
func (p *picker[T]) pick(parts [][]T, n int64) []T {
	ranks := deltaRanks(n)
	values := make([]T, len(ranks))
	p.find(parts, ranks, values, 0)
	return values
}

// find puts the values at ranks, which ascend, of all parts together into out. The parts stay as they are. depth is how many
// sieves they have been through.
func (p *picker[T]) find(parts [][]T, ranks []int64, out []T, depth int) {
	if len(ranks) == 0 {
		return
	}
	var n int64
	for _, part := range parts {
		n += int64(len(part))
	}
	if depth == len(p.sieves) {
		p.sieves = append(p.sieves, &sieve[T]{})
	}
	s := p.sieves[depth]
	for errors := float64(aimErrors); n > selectBelow && errors < aimErrorsMost; errors *= 2 {
		if !p.aim(s, parts, n, ranks, errors) {
			_, to := nearRanks(ranks)
			p.find(parts, ranks[:to], out[:to], depth)
			p.find(parts, ranks[to:], out[to:], depth)
			return
		}
		for _, part := range parts {
			s.sift(part)
		}
		if int64(len(s.kept)) > n/8*7 {
			break
		}
		if p.resolve(s, parts, ranks, out, depth+1) {
			return
		}
	}
	s.kept = s.kept[:0]
	for _, part := range parts {
		s.kept = append(s.kept, part...)
	}
	var scratch [mostRanks]int64
	selectRanks(&p.random, s.kept, p.spareFor(len(s.kept)), scratch[:copy(scratch[:], ranks)], out)
}

// resolve puts the values at ranks of parts, all of which have gone through s, into out. It returns false when a rank has
// escaped.
func (p *picker[T]) resolve(s *sieve[T], parts [][]T, ranks []int64, out []T, depth int) bool {
	var (
		indexes [mostRanks]int64
		at      [mostRanks]int
		values  [mostRanks]T
		n       int
	)
	for i, rank := range ranks {
		index, v, ok := s.find(rank, parts)
		switch {
		case !ok:
			return false
		case index < 0:
			out[i] = v
		default:
			indexes[n], at[n] = index, i
			n++
		}
	}
	near := n
	if len(s.kept) > selectBelow {
		_, near = nearRanks(indexes[:n])
	}
	kept := [][]T{s.kept}
	p.find(kept, indexes[:near], values[:near], depth)
	p.find(kept, indexes[near:n], values[near:n], depth)
	for i := range n {
		out[at[i]] = values[i]
	}
	return true
}

// nearRanks returns which of the ranks a sieve gets at between its bounds: from the lowest that needs one, and so not rank 0, to that
// next to it.
func nearRanks(ranks []int64) (from, to int) {
	if len(ranks) > 0 && ranks[0] == 0 {
		from++
	}
	to = from
	for to < len(ranks) && ranks[to] <= ranks[from]+1 {
		to++
	}
	return from, to
}

// aim empties s and makes it ready for the n values of parts and the ranks among them that are to be found, errors standard
// errors of a sample to either side. It returns false when the lowest rank and the others are too close for that.
func (p *picker[T]) aim(s *sieve[T], parts [][]T, n int64, ranks []int64, errors float64) bool {
	s.reset()
	from, to := nearRanks(ranks)
	if from == to {
		return true
	}
	// So large that the sample costs about as much as what is kept because it is small.
	log := max(5, bits.Len64(uint64(n))*2/3-3)
	m := float64(int64(1) << log)
	at := func(rank int64, errors float64) float64 {
		q := (float64(rank) + 0.5) / float64(n)
		return math.Floor(m*q + errors*math.Sqrt(m*q*(1-q)) + math.Copysign(1, errors))
	}
	lo, hi, tail := max(at(ranks[from], -errors), -1), min(at(ranks[to-1], errors), m), m
	if to < len(ranks) {
		tail = at(ranks[to], -errors)
		switch {
		case tail > hi:
		case m-lo > m/4:
			return false
		default: // keep all from the lowest rank
			hi, tail = m, m
		}
	}
	p.drawn = draw(&p.random, p.drawn, parts, n, log)
	s.lo, s.hi = bounds[T]()
	bound := [3]*T{&s.lo, &s.hi, &s.tail}
	var indexes [3]int64
	var values [3]T
	some := 0
	for i, index := range [3]float64{lo, hi, tail} {
		if index >= 0 && index < m {
			indexes[some], bound[some] = int64(index), bound[i]
			some++
		}
	}
	selectRanks(&p.random, p.drawn, p.spareFor(len(p.drawn)), indexes[:some], values[:some])
	for i := range some {
		*bound[i] = values[i]
	}
	s.kept = slices.Grow(s.kept, int(1.1*(hi-lo+m-tail)/m*float64(n))+siftSlack)
	return true
}

// deltaRanks are the ranks behind the median and D2 to D5 of n values, and the smallest, ascending and without
// repetition.
func deltaRanks(n int64) []int64 {
	ranks := make([]int64, 1, 11)
	for _, q := range [...]float64{qMedian, qD2, qD3, qD4, qD5} {
		low, high, _ := position(n, q)
		ranks = append(ranks, low, high)
	}
	slices.Sort(ranks)
	return slices.Compact(ranks)
}

// pickedDeltaSet is the exact set of n values, of which those at deltaRanks are given; unitMS is one of them in ms.
func pickedDeltaSet[T sample](n int64, ranks []int64, values []T, unitMS float64) DeltaSet {
	at := func(rank int64) float64 {
		i, _ := slices.BinarySearch(ranks, rank)
		return float64(values[i]) * unitMS
	}
	var p [5]float64
	for i, q := range [...]float64{qMedian, qD2, qD3, qD4, qD5} {
		low, high, weight := position(n, q)
		p[i] = lerp(at(low), at(high), weight)
	}
	return newDeltaSet(n, at(0), p, func(float64) float64 { return 0 })
}

// ExactDeltas returns the exact deltas of latencies that are grouped by pair already: rows[i] are those of keys[i], in
// any order, in units of unitMS milliseconds. Rows without a latency are left out. The rows stay as they are.
func ExactDeltas[T sample](keys []PairKey, rows [][]T, unitMS float64) *Deltas {
	order := make([]int, 0, len(rows))
	for i := range rows {
		if len(rows[i]) > 0 {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return keys[a].Compare(keys[b]) })
	d := &Deltas{Method: DeltaExact, Pairs: make([]PairDeltas, 0, len(order))}
	// All rows together are sifted row by row, while a row is still in the cache.
	var p picker[T]
	pooled := &sieve[T]{}
	for _, i := range order {
		d.Used += int64(len(rows[i]))
	}
	pooledRanks := deltaRanks(d.Used)
	together := len(order) > 1
	if together {
		together = p.aim(pooled, rows, d.Used, pooledRanks, aimErrorsPooled)
	}
	for _, i := range order {
		n := int64(len(rows[i]))
		if together {
			pooled.sift(rows[i])
		}
		d.Pairs = append(d.Pairs, PairDeltas{keys[i].Source, keys[i].Destination, pickedDeltaSet(n, deltaRanks(n), p.pick(rows[i:i+1], n), unitMS)})
	}
	d.Rows = d.Used
	d.Summary = summarize(d.Pairs)
	switch {
	case len(order) == 1:
		d.Pooled = d.Pairs[0].DeltaSet
	case len(order) > 1:
		values := make([]T, len(pooledRanks))
		if !together || !p.resolve(pooled, rows, pooledRanks, values, 0) {
			p.find(rows, pooledRanks, values, 0)
		}
		d.Pooled = pickedDeltaSet(d.Used, pooledRanks, values, unitMS)
	}
	return d
}
