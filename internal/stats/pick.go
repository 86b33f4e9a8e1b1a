package stats

import (
	"math"
	"slices"
)

// sample is a latency as somebody has it: in any unit, exact.
type sample interface{ ~int32 | ~float64 }

// picker finds order statistics of rows without sorting them: it counts values into buckets of equal width, looks up in
// which bucket a rank falls, and sorts only what is in that bucket. That is one pass to count and one to gather, at
// two to three nanoseconds a value together, where sorting takes twenty times as long. All rows share one division into
// buckets, so that their counts add up to those of all rows pooled.
//
// Nothing but speed depends on where the buckets lie: they only have to ascend.
type picker[T sample] struct {
	lo, scale float64
	index     []uint16 // by value of a row: its bucket
	counts    []uint32 // by bucket, of a row
	pooled    []int64  // by bucket, of all rows
	list      []uint8  // by bucket: 1 + the list that gathers it, 0 = none; and inPool
	lists     [][]T
	n         int64
	expected  []uint8 // by bucket: inPool where a rank of all rows together is expected
	pool      []T     // the values of those buckets, of all rows
}

// inPool marks a bucket that is gathered for all rows together.
const inPool = 0x80

const (
	pickBuckets = 1 << 12 // their counts fit into the first-level cache
	pickSamples = 1 << 10
	// sortBelow is how many gathered values are sorted at once instead of being divided again.
	sortBelow = 1 << 12
)

// newPicker divides the range of a sample of the rows into buckets. What lies outside goes into the first and the last.
func newPicker[T sample](rows [][]T) *picker[T] {
	p := &picker[T]{
		counts: make([]uint32, pickBuckets), pooled: make([]int64, pickBuckets), list: make([]uint8, pickBuckets), scale: 1,
		expected: make([]uint8, pickBuckets),
	}
	some := sampleOf(rows, pickSamples)
	if len(some) == 0 {
		return p
	}
	p.lo = float64(some[0])
	// The largest of a thousand is an outlier more often than not: leave the values above to the last bucket.
	width := float64(some[len(some)-1-len(some)/256]) - p.lo
	if width <= 0 {
		width = float64(some[len(some)-1]) - p.lo
	}
	if width > 0 {
		if s := (pickBuckets - 2) / (1.25 * width); !math.IsInf(s, 0) {
			p.scale = s
		}
	}
	return p
}

// sampleOf returns about n of the values, evenly spread, ascending.
func sampleOf[T sample](rows [][]T, n int) []T {
	var total int
	for _, row := range rows {
		total += len(row)
	}
	var some []T
	step := total/n + 1
	at := 0
	for _, row := range rows {
		for ; at < len(row); at += step {
			some = append(some, row[at])
		}
		at -= len(row)
	}
	slices.Sort(some)
	return some
}

// expect has row keep for all the values around those ranks of all rows together that D2 to D5 need: which buckets hold
// them is known from a sample with near certainty. Without it, all has to read every row again.
func (p *picker[T]) expect(rows [][]T) {
	some := sampleOf(rows, 1<<14)
	m := float64(len(some))
	// Four standard errors to either side.
	at := func(q, errors float64) int {
		rank := m*q + errors*math.Sqrt(m*q*(1-q))
		return p.bucket(some[int(min(max(rank, 0), m-1))])
	}
	for b := at(qMedian, -4); b <= at(qMedian, 4); b++ {
		p.expected[b] = inPool
	}
	for b := at(qD2, -4); b < pickBuckets; b++ {
		p.expected[b] = inPool
	}
	p.expected[0] = inPool // for the smallest
}

// bucket must ascend with v. Values are finite, and so is their difference to lo.
func (p *picker[T]) bucket(v T) int {
	x := (float64(v) - p.lo) * p.scale
	if x < 0 {
		return 0
	}
	if x > pickBuckets-1 {
		return pickBuckets - 1
	}
	return int(x)
}

// row returns the order statistics of a row at ranks, which ascend, in ranks' order, and adds the row to the pool.
func (p *picker[T]) row(row []T, ranks []int64) []T {
	clear(p.counts)
	if cap(p.index) < len(row) {
		p.index = make([]uint16, len(row))
	}
	index := p.index[:len(row)]
	counts := (*[pickBuckets]uint32)(p.counts)
	for i, v := range row {
		b := uint16(p.bucket(v)) % pickBuckets
		index[i] = b
		counts[b]++
	}
	p.n += int64(len(row))
	for b, n := range counts {
		p.pooled[b] += int64(n)
	}
	found := p.find(ranks, func(b int) int64 { return int64(counts[b]) })
	list := (*[pickBuckets]uint8)(p.list)
	for i, b := range index {
		k := list[b%pickBuckets]
		if k == 0 {
			continue
		}
		if k&inPool != 0 {
			p.pool = append(p.pool, row[i])
		}
		if k &^= inPool; k != 0 {
			p.lists[k-1] = append(p.lists[k-1], row[i])
		}
	}
	return p.resolve(found)
}

// all returns the order statistics of all rows together; each must have gone through row before.
func (p *picker[T]) all(rows [][]T, ranks []int64) []T {
	found := p.find(ranks, func(b int) int64 { return p.pooled[b] })
	list := (*[pickBuckets]uint8)(p.list)
	for _, k := range list {
		if k != 0 && k&inPool == 0 { // not as expected
			clear(p.expected)
			found = p.find(ranks, func(b int) int64 { return p.pooled[b] })
			p.pool = nil
			break
		}
	}
	if p.pool != nil {
		rows = [][]T{p.pool}
	}
	for _, row := range rows {
		for _, v := range row {
			if k := list[p.bucket(v)%pickBuckets] &^ inPool; k != 0 {
				p.lists[k-1] = append(p.lists[k-1], v)
			}
		}
	}
	return p.resolve(found)
}

// place is where a rank lies: in a list, so many values from its first.
type place struct {
	list int
	rank int64
}

// find says which buckets hold ranks and prepares a list for each.
func (p *picker[T]) find(ranks []int64, count func(b int) int64) []place {
	copy(p.list, p.expected)
	for i := range p.lists {
		p.lists[i] = p.lists[i][:0]
	}
	found := make([]place, 0, len(ranks))
	lists := 0
	var before int64
	for b := 0; b < pickBuckets && len(found) < len(ranks); b++ {
		n := count(b)
		for len(found) < len(ranks) && ranks[len(found)] < before+n {
			if p.list[b]&^inPool == 0 {
				if lists++; len(p.lists) < lists {
					p.lists = append(p.lists, nil)
				}
				p.list[b] |= uint8(lists)
			}
			found = append(found, place{int(p.list[b]&^inPool) - 1, ranks[len(found)] - before})
		}
		before += n
	}
	return found
}

// resolve finds the values at places in the gathered lists.
func (p *picker[T]) resolve(found []place) []T {
	values := make([]T, 0, len(found))
	for len(found) > 0 {
		k := found[0].list
		list := p.lists[k]
		var ranks []int64
		for len(ranks) < len(found) && found[len(ranks)].list == k {
			ranks = append(ranks, found[len(ranks)].rank)
		}
		found = found[len(ranks):]
		// A bucket that holds nearly everything, or one value again and again, is not to be divided for ever.
		if len(list) <= sortBelow || int64(len(list)) > p.n/4*3 {
			slices.Sort(list)
			for _, r := range ranks {
				values = append(values, list[r])
			}
			continue
		}
		values = append(values, newPicker([][]T{list}).row(list, ranks)...)
	}
	return values
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
	p := newPicker(rows)
	if len(order) > 1 {
		p.expect(rows)
	}
	for _, i := range order {
		n := int64(len(rows[i]))
		ranks := deltaRanks(n)
		d.Used += n
		d.Pairs = append(d.Pairs, PairDeltas{keys[i].Source, keys[i].Destination, pickedDeltaSet(n, ranks, p.row(rows[i], ranks), unitMS)})
	}
	d.Rows = d.Used
	d.Summary = summarize(d.Pairs)
	if d.Used > 0 {
		ranks := deltaRanks(d.Used)
		d.Pooled = pickedDeltaSet(d.Used, ranks, p.all(rows, ranks), unitMS)
	}
	return d
}
