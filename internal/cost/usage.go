package cost

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// Usage is what a set of Lambda's records says was billed. Its zero value is
// empty and ready for Add. It keeps counts of distinct durations, so its memory
// does not grow with the number of equal records; only the times of records,
// where they have any, are kept one by one.
type Usage struct {
	cells     map[cell]int64
	wall      float64 // ms, over invocations with a duration
	walls     int64
	coldWall  float64 // ms, over cold invocations with a duration
	coldWalls int64
	spans     []span
	untimed   int64
	streams   map[string]*block
	hours     map[int64]*block // by hours since 1970
	cached    *cachedInterval
	summary   lambdalog.Summariser
}

// cell is a distinct billed invocation.
type cell struct {
	memory lambdalog.MB
	cold   bool
	billed time.Duration
}

// span is the time an invocation occupied its environment.
type span struct{ start, end int64 }

// UsageOf reads all records. The error is the one that ended reading; bad lines
// and notices are warnings of the result.
func UsageOf(records iter.Seq2[lambdalog.Invocation, error]) (*Usage, error) {
	u := new(Usage)
	if err := u.Read(records); err != nil {
		return nil, err
	}
	return u, nil
}

// Read adds all records of one more input.
func (u *Usage) Read(records iter.Seq2[lambdalog.Invocation, error]) error {
	for v, err := range records {
		if err != nil {
			if err := u.summary.Note(err); err != nil {
				return fmt.Errorf("reading records: %w", err)
			}
			continue
		}
		u.Add(v)
	}
	return nil
}

// Add takes one record. Records without a billed time count in Summary but not
// in the usage.
func (u *Usage) Add(v lambdalog.Invocation) {
	u.summary.Add(v)
	if !v.Billable {
		return
	}
	if u.cells == nil {
		u.cells = make(map[cell]int64)
	}
	u.cells[cell{v.Memory, v.Cold, v.Billed.Value}]++
	wall, ok := v.Wall()
	if !ok {
		// Without a duration the billed time is the best that is known of how long it ran.
		wall = v.Billed.Value
	}
	u.block(&v)
	ms := float64(wall) / float64(time.Millisecond)
	u.wall += ms
	u.walls++
	if v.Cold {
		u.coldWall += ms
		u.coldWalls++
	}
	if v.Time.IsZero() {
		u.untimed++
		return
	}
	end := v.Time.UnixNano()
	u.spans = append(u.spans, span{end - int64(wall), end})
}

// block adds a record to those of its log stream and its hour.
func (u *Usage) block(v *lambdalog.Invocation) {
	billed := float64(v.Billed.Value) / float64(time.Millisecond)
	if v.Stream != "" {
		b, ok := u.streams[v.Stream]
		if !ok {
			if u.streams == nil {
				u.streams = make(map[string]*block)
			}
			b = new(block)
			u.streams[strings.Clone(v.Stream)] = b
		}
		b.add(billed, v.Cold)
	}
	if !v.Time.IsZero() {
		hour := v.Time.Unix() / 3600
		b, ok := u.hours[hour]
		if !ok {
			if u.hours == nil {
				u.hours = make(map[int64]*block)
			}
			b = new(block)
			u.hours[hour] = b
		}
		b.add(billed, v.Cold)
	}
}

// Summary returns the summary of the records read so far.
func (u *Usage) Summary() lambdalog.Summary { return u.summary.Summary() }

// Invocations returns the number of billed invocations.
func (u *Usage) Invocations() int64 {
	n := int64(0)
	for _, k := range u.cells {
		n += k
	}
	return n
}

// Cold returns the number of billed invocations that were cold.
func (u *Usage) Cold() int64 {
	n := int64(0)
	for c, k := range u.cells {
		if c.cold {
			n += k
		}
	}
	return n
}

// BilledMS returns the exact sum of billed milliseconds.
func (u *Usage) BilledMS() Decimal {
	sum := Int(0)
	for c, k := range u.cells {
		sum = sum.Add(durationMS(c.billed).Mul(Int(k)))
	}
	return sum
}

// GBSeconds returns the exact sum of billed time times memory. memory replaces
// what the records state unless it is 0. It is an error when neither is known.
func (u *Usage) GBSeconds(memory lambdalog.MB) (Decimal, error) {
	sum := Int(0)
	for c, k := range u.cells {
		mb := memory
		if mb == 0 {
			mb = c.memory
		}
		if mb == 0 {
			return Decimal{}, userError("the records do not state the memory size", "state it with --memory, for instance --memory 128")
		}
		sum = sum.Add(GBSeconds(durationMS(c.billed), mb).Mul(Int(k)))
	}
	return sum, nil
}

// Memory returns the memory sizes that the records state, smallest first; 0
// stands for records that state none.
func (u *Usage) Memory() []lambdalog.MB {
	var sizes []lambdalog.MB
	for c := range u.cells {
		if !slices.Contains(sizes, c.memory) {
			sizes = append(sizes, c.memory)
		}
	}
	slices.Sort(sizes)
	return sizes
}

// MeanWallMS returns the mean time in milliseconds that an invocation occupied
// its environment, initialisation included; 0 when there are none.
func (u *Usage) MeanWallMS() float64 {
	if u.walls == 0 {
		return 0
	}
	return u.wall / float64(u.walls)
}

// ColdWallMS returns the same mean over cold invocations only; false when there are none.
func (u *Usage) ColdWallMS() (float64, bool) {
	if u.coldWalls == 0 {
		return 0, false
	}
	return u.coldWall / float64(u.coldWalls), true
}

// PeakConcurrency returns the most invocations that ran at one moment, rebuilt
// from the records' times: a record is written at the END of its invocation, so
// it ran in [time − duration − init, time]. It is false when a record has no
// time, because the count would be too low.
func (u *Usage) PeakConcurrency() (int, bool) {
	if u.untimed > 0 || len(u.spans) == 0 {
		return 0, false
	}
	starts, ends := make([]int64, len(u.spans)), make([]int64, len(u.spans))
	for i, s := range u.spans {
		starts[i], ends[i] = s.start, s.end
	}
	slices.Sort(starts)
	slices.Sort(ends)
	peak, j := 0, 0
	for i, at := range starts {
		for ends[j] <= at && j < i {
			j++ // an invocation that ends at this moment frees its environment
		}
		peak = max(peak, i-j+1)
	}
	return peak, true
}

// ObservedConcurrency returns how many invocations ran at a moment between the
// first start and the last end of the records: on average, and the smallest
// number that was not exceeded in a share of q of that time, for each q. It is
// false where PeakConcurrency is.
func (u *Usage) ObservedConcurrency(q ...float64) (mean float64, quantiles []int, ok bool) {
	if u.untimed > 0 || len(u.spans) == 0 {
		return 0, nil, false
	}
	starts, ends := make([]int64, len(u.spans)), make([]int64, len(u.spans))
	busy := 0.0
	for i, s := range u.spans {
		starts[i], ends[i] = s.start, s.end
		busy += float64(s.end - s.start)
	}
	slices.Sort(starts)
	slices.Sort(ends)
	total := ends[len(ends)-1] - starts[0]
	if total <= 0 {
		return 0, nil, false
	}
	var at []int64 // time during which so many ran
	level, i, now := 0, 0, starts[0]
	for _, end := range ends {
		for i < len(starts) && starts[i] < end {
			at = spend(at, level, starts[i]-now)
			now = starts[i]
			level++
			i++
		}
		at = spend(at, level, end-now)
		now = end
		level--
	}
	for _, share := range q {
		sum, k := 0.0, 0
		for k = range at {
			if sum += float64(at[k]); sum >= share*float64(total) {
				break
			}
		}
		quantiles = append(quantiles, k)
	}
	return busy / float64(total), quantiles, true
}

func spend(at []int64, level int, ns int64) []int64 {
	for len(at) <= level {
		at = append(at, 0)
	}
	at[level] += ns
	return at
}

// Dispersion estimates how bursty the arrivals in the records are: the variance
// of the number of starts over its mean, in windows as long as a mean
// invocation. It is about 1 for independent arrivals and more for bursts. It is
// false without times, or when the records span fewer than 30 windows.
func (u *Usage) Dispersion() (float64, bool) {
	window := int64(u.MeanWallMS() * float64(time.Millisecond))
	if u.untimed > 0 || len(u.spans) < 2 || window <= 0 {
		return 0, false
	}
	starts := make([]int64, len(u.spans))
	for i, s := range u.spans {
		starts[i] = s.start
	}
	slices.Sort(starts)
	windows := float64((starts[len(starts)-1]-starts[0])/window + 1)
	if windows < 30 {
		return 0, false
	}
	// Empty windows, of which there may be millions, add nothing to the squares.
	squares, run, at := 0.0, 0.0, int64(0)
	for _, start := range starts {
		if w := (start - starts[0]) / window; w != at {
			squares, run, at = squares+run*run, 0, w
		}
		run++
	}
	squares += run * run
	n := float64(len(starts))
	mean := n / windows
	variance := (squares - n*mean) / (windows - 1)
	return variance / mean, true
}

// Interval returns the 95 % interval of the mean billed time in milliseconds.
// When all records name their log stream, or else have times, and there are at
// least 20 streams or hours, those are resampled whole, because durations within
// one are alike; else see MeanInterval. The same seed gives the same interval.
func (u *Usage) Interval(seed uint64) Interval {
	n := u.Invocations()
	if c := u.cached; c != nil && c.seed == seed && c.n == n {
		return c.interval
	}
	v := u.interval(rand.New(rand.NewPCG(seed, 0x63697272757362)), n) //nolint:gosec // statistics, not secrets
	u.cached = &cachedInterval{seed, n, v}
	return v
}

type cachedInterval struct {
	seed     uint64
	n        int64
	interval Interval
}

func (u *Usage) interval(rng *rand.Rand, n int64) Interval {
	if blocks, ok := blocksOf(u.streams, n); ok {
		return blockInterval(blocks, "log stream", rng)
	}
	if blocks, ok := blocksOf(u.hours, n); ok {
		return blockInterval(blocks, "hour", rng)
	}
	// A fixed order makes sums of floats reproducible.
	cells := slices.SortedFunc(maps.Keys(u.cells), func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.billed, b.billed), cmp.Compare(a.memory, b.memory))
	})
	var warm, cold []counted
	for _, c := range cells {
		list := &warm
		if c.cold {
			list = &cold
		}
		*list = append(*list, counted{float64(c.billed) / float64(time.Millisecond), u.cells[c]})
	}
	return bootstrap(warm, cold, rng)
}

// blocksOf returns the blocks in a fixed order; false when they do not hold all
// n invocations, are too few, or hold about one invocation each.
func blocksOf[K cmp.Ordered](m map[K]*block, n int64) ([]block, bool) {
	if len(m) < fewestBlocks || n < 2*int64(len(m)) {
		return nil, false
	}
	blocks := make([]block, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		blocks = append(blocks, *m[key])
		n -= m[key].n
	}
	return blocks, n == 0
}

// GBSeconds returns milliseconds times memory as Lambda bills them: seconds
// times MB/1024.
func GBSeconds(ms Decimal, memory lambdalog.MB) Decimal {
	return ms.Mul(Int(int64(memory))).Quo(Int(1024 * 1000))
}

// durationMS returns d in milliseconds, exactly.
func durationMS(d time.Duration) Decimal { return Frac(int64(d), 6) }
