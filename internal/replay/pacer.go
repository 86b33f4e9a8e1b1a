package replay

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Pacer says when the n-th request (from 0) is due, counted from the start of the run. It is a pure,
// non-decreasing function of n: no clock, no state, so a plan can be printed, hashed and split
// before the first byte is sent.
type Pacer interface {
	Due(n int) time.Duration
	// String describes the pacer so that equal descriptions mean equal due times; it goes into the
	// plan's hash.
	String() string
}

// profile is a pacer that comes from a rate over time, so that random arrivals can follow it as well: at
// returns when x requests have come due on average, and count is the inverse of it.
type profile interface {
	Pacer
	at(x float64) time.Duration
	count(t time.Duration) float64
}

// Constant is the open-loop pacer of a fixed arrival rate in requests per second.
type Constant struct {
	RatePerS float64
}

// Due returns n/RatePerS. It multiplies once instead of adding up steps, so the error does not grow.
func (c Constant) Due(n int) time.Duration { return c.at(float64(n)) }

// String implements Pacer.
func (c Constant) String() string { return "constant " + figure(c.RatePerS) }

func (c Constant) at(x float64) time.Duration    { return seconds(x / c.RatePerS) }
func (c Constant) count(t time.Duration) float64 { return c.RatePerS * t.Seconds() }

// Ramp is the pacer of a rate that goes evenly from From to To requests per second during Over, and stays
// at To afterwards.
type Ramp struct {
	From, To float64
	Over     time.Duration
}

// Due returns when the integral of the rate reaches n.
func (r Ramp) Due(n int) time.Duration { return r.at(float64(n)) }

// String implements Pacer.
func (r Ramp) String() string {
	return fmt.Sprintf("ramp %s:%s:%v", figure(r.From), figure(r.To), r.Over)
}

func (r Ramp) at(x float64) time.Duration {
	over := r.Over.Seconds()
	if inRamp := (r.From + r.To) / 2 * over; x > inRamp {
		return seconds(over + (x-inRamp)/r.To)
	}
	// From·t + slope·t²/2 = x, solved so that nothing cancels when the slope is small or negative.
	slope := (r.To - r.From) / over
	root := math.Sqrt(max(r.From*r.From+2*slope*x, 0))
	if x == 0 {
		return 0
	}
	return seconds(min(2*x/(r.From+root), over))
}

func (r Ramp) count(t time.Duration) float64 {
	over, s := r.Over.Seconds(), t.Seconds()
	if s > over {
		return (r.From+r.To)/2*over + (s-over)*r.To
	}
	return r.From*s + (r.To-r.From)/over*s*s/2
}

// ParseRamp reads FROM:TO:DURATION, such as 10:500:30s.
func ParseRamp(s string) (Ramp, error) {
	bad := fmt.Errorf("ramp %q is not FROM:TO:DURATION with rates per second, such as 10:500:30s", s)
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return Ramp{}, bad
	}
	from, err1 := strconv.ParseFloat(parts[0], 64)
	to, err2 := strconv.ParseFloat(parts[1], 64)
	over, err3 := time.ParseDuration(parts[2])
	if err1 != nil || err2 != nil || err3 != nil || over <= 0 || !(from >= 0) || !goodRate(to) || from > maxRatePerS {
		return Ramp{}, bad
	}
	return Ramp{from, to, over}, nil
}

// Step is one part of a staircase of rates.
type Step struct {
	RatePerS float64
	For      time.Duration
}

// Steps is the pacer of rates one after the other; the last one stays.
type Steps []Step

// Due returns when the integral of the rate reaches n.
func (s Steps) Due(n int) time.Duration { return s.at(float64(n)) }

// String implements Pacer.
func (s Steps) String() string {
	parts := make([]string, len(s))
	for i, p := range s {
		parts[i] = fmt.Sprintf("%s:%v", figure(p.RatePerS), p.For)
	}
	return "steps " + strings.Join(parts, ",")
}

func (s Steps) at(x float64) time.Duration {
	var begin time.Duration
	for i, p := range s {
		n := p.RatePerS * p.For.Seconds()
		if x < n || i == len(s)-1 {
			return begin + seconds(x/p.RatePerS)
		}
		x -= n
		begin += p.For
	}
	return begin
}

func (s Steps) count(t time.Duration) float64 {
	var x float64
	for i, p := range s {
		if t <= p.For || i == len(s)-1 {
			return x + p.RatePerS*t.Seconds()
		}
		x += p.RatePerS * p.For.Seconds()
		t -= p.For
	}
	return x
}

// Length is how long the steps take together.
func (s Steps) Length() time.Duration {
	var sum time.Duration
	for _, p := range s {
		sum += p.For
	}
	return sum
}

// ParseSteps reads RATE:DURATION,…, such as 100:10s,200:10s.
func ParseSteps(s string) (Steps, error) {
	var steps Steps
	for part := range strings.SplitSeq(s, ",") {
		rate, length, ok := strings.Cut(part, ":")
		r, err1 := strconv.ParseFloat(rate, 64)
		d, err2 := time.ParseDuration(length)
		if !ok || err1 != nil || err2 != nil || d <= 0 || d > maxStep || !goodRate(r) {
			return nil, fmt.Errorf("steps %q are not RATE:DURATION,… with rates per second, such as 100:10s,200:10s", s)
		}
		steps = append(steps, Step{r, d})
	}
	return steps, nil
}

// maxStep keeps sums of steps far from overflow.
const maxStep = 1000 * time.Hour

// Poisson is the pacer of independent arrivals whose mean rate follows another pacer: the gaps are
// exponential. Equal seeds make equal arrivals.
//
// Arrivals are made in blocks, each from a generator seeded by the block's number, so that any of them
// can be computed again from 8 bytes kept per block.
type Poisson struct {
	mean profile
	seed uint64
	ends []float64 // by block: the expected count at its last arrival
}

// poissonBlock weighs the memory of ends against the time of Due.
const poissonBlock = 64

// newPoisson makes at least n arrivals and those until the time t.
func newPoisson(mean profile, seed uint64, n int, t time.Duration) *Poisson {
	p := &Poisson{mean: mean, seed: seed}
	var x float64
	for limit := mean.count(t); len(p.ends)*poissonBlock < n || x <= limit; {
		x = p.walk(len(p.ends), x, poissonBlock)
		p.ends = append(p.ends, x)
	}
	return p
}

// walk adds the first n gaps of a block to x.
func (p *Poisson) walk(block int, x float64, n int) float64 {
	rng := rand.New(rand.NewPCG(p.seed, uint64(block)))
	for range n {
		x += rng.ExpFloat64()
	}
	return x
}

// Due returns the n-th arrival. Beyond those that the plan needs it returns the last.
func (p *Poisson) Due(n int) time.Duration {
	block := n / poissonBlock
	if block >= len(p.ends) {
		return p.mean.at(p.ends[len(p.ends)-1])
	}
	var x float64
	if block > 0 {
		x = p.ends[block-1]
	}
	return p.mean.at(p.walk(block, x, n%poissonBlock+1))
}

// String implements Pacer.
func (p *Poisson) String() string { return fmt.Sprintf("poisson seed=%d %s", p.seed, p.mean) }

// Original is the pacer of the captured times: object n is due when it was captured, counted from the
// first, with gaps cut to MaxGap and divided by Speed. A further pass begins one mean gap after the last
// object.
type Original struct {
	Speed  float64
	MaxGap time.Duration // in captured time; 0 = none

	offsets []time.Duration // by object, already divided by Speed
	period  time.Duration   // from one pass to the next
	fanOut  int
}

// newOriginal computes the due times of objects captured at times, which ascend. The replicas of a fan-out
// are spread evenly over the gap to the next object: real clusters do not send at one instant.
func newOriginal(times []time.Time, speed float64, maxGap time.Duration, fanOut int) *Original {
	o := &Original{Speed: speed, MaxGap: maxGap, offsets: make([]time.Duration, len(times)), fanOut: max(fanOut, 1)}
	var captured time.Duration
	for i := 1; i < len(times); i++ {
		gap := times[i].Sub(times[i-1])
		if maxGap > 0 {
			gap = min(gap, maxGap)
		}
		captured += gap
		o.offsets[i] = time.Duration(math.Round(float64(captured) / speed))
	}
	last := o.offsets[len(times)-1]
	o.period = last + time.Duration(float64(time.Second)/speed)
	if n := len(times) - 1; n > 0 && last > 0 {
		o.period = last + last/time.Duration(n)
	}
	o.period = max(o.period, 1)
	return o
}

// Due returns when entry n, a replica of an object in a pass, is due.
func (o *Original) Due(n int) time.Duration {
	virtual := len(o.offsets) * o.fanOut
	pass, v := n/virtual, n%virtual
	object, replica := v/o.fanOut, v%o.fanOut
	if int64(pass) > math.MaxInt64/2/int64(o.period) {
		return math.MaxInt64 / 2 // as good as never
	}
	at := o.offsets[object]
	next := o.period
	if object+1 < len(o.offsets) {
		next = o.offsets[object+1]
	}
	return time.Duration(pass)*o.period + at + (next-at)*time.Duration(replica)/time.Duration(o.fanOut)
}

// RatePerS is the mean rate of a whole pass.
func (o *Original) RatePerS() float64 {
	return float64(len(o.offsets)*o.fanOut) / o.period.Seconds()
}

// String implements Pacer. The captured times are in the objects' keys, which the hash has as well.
func (o *Original) String() string {
	return fmt.Sprintf("original speed=%s max_gap=%v", figure(o.Speed), o.MaxGap)
}

// countBefore returns how many requests are due before t. limit bounds the search.
func countBefore(p Pacer, t time.Duration, limit int) int {
	return sort.Search(limit, func(n int) bool { return p.Due(n) >= t })
}

// maxRatePerS is beyond what one process can send.
const maxRatePerS = 1e6

func goodRate(r float64) bool { return r > 0 && r <= maxRatePerS } // false for NaN

// seconds converts to the nanosecond, and to the far future what does not fit.
func seconds(s float64) time.Duration {
	return time.Duration(min(math.Round(s*float64(time.Second)), math.MaxInt64/2))
}

func figure(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
