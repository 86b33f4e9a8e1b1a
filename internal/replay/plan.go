package replay

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"
)

// Loop says who decides when a request is sent.
type Loop string

// The loop models. In an open loop the plan's due times decide and latency counts from them: waiting
// behind a slow server is part of the number. In a closed loop the next request waits for an answer,
// so a slow server lowers the rate instead, and latency counts from the actual send.
const (
	Open   Loop = "open"
	Closed Loop = "closed"
)

// Plan is the list of intended requests, as a function: entry n replays corpus object Object(n), due at
// Due(n). The first Warmup entries are sent like the others and recorded apart.
type Plan struct {
	Loop        Loop
	Pacer       Pacer         // open loop only
	Arrival     string        // how arrivals spread, for the record: "constant", "poisson", "original", "on answer"
	Timing      string        // where due times come from: "rate", "ramp", "steps", "original", "none"
	RatePerS    float64       // open loop only: the mean rate of the measured part, for the record
	Concurrency int           // closed loop only
	Warmup      int           // entries before the measured ones
	Requests    int           // measured entries; 0 in a closed loop means: until Duration
	Duration    time.Duration // closed loop: stop starting requests after this, also before Requests are sent; 0 = never
	Objects     int           // corpus objects, replayed in order and again from the first
	FanOut      int           // how many clusters each object is sent as, one after the other; at least 1
	Seed        uint64        // of every random choice
	Shard       Shard         // the part that this process executes
	Terms       Terms         // how the requests are sent, as far as it belongs to the plan's identity

	sources *SourceTable // nil unless split by source
	owners  []int        // by number of a source: its shard
}

// Terms are what, beside objects and due times, makes two plans different: runs that differ in them measure different
// things. The engine takes them from [Config]; here they are for the hash.
type Terms struct {
	Order       Order
	Timestamps  TimestampMode
	Timeout     time.Duration // of one attempt
	MaxInFlight int           // counts in an open loop only
	Retry       string        // by its name
}

// PlanConfig is what a user asks for; zero values mean "not given".
type PlanConfig struct {
	RatePerS       float64       // open loop at a constant rate
	Ramp           Ramp          // open loop at a growing or falling rate
	Steps          Steps         // open loop at one rate after the other
	Speed          float64       // open loop at the captured times, so much faster
	MaxGap         time.Duration // of captured time; longer gaps are cut to it
	Poisson        bool          // arrivals are random with the given rate as their mean
	Concurrency    int           // closed loop when none of the above is given
	Duration       time.Duration // length of the measured part
	Requests       int           // number of measured requests
	WarmupDuration time.Duration // open loop: its length; a closed loop takes WarmupRequests
	WarmupRequests int
	Loop           bool // replay the corpus again when it is at its end
	Objects        int  // in the corpus
	FanOut         int
	Seed           uint64
	Shard          Shard
	Times          []time.Time  // by object, ascending: when it was captured; needed for Speed
	Sources        *SourceTable // needed for a shard by source
	Terms          Terms
}

// maxPlanned bounds a plan, and maxEntries the search in one; at a thousand requests a second a plan may
// last eleven days.
const (
	maxPlanned = 1_000_000_000
	maxEntries = 1 << 40
)

// expected is how many requests the given rate makes in the given time, at most.
func (c *PlanConfig) expected() float64 {
	rate := max(c.RatePerS, c.Ramp.From, c.Ramp.To)
	for _, s := range c.Steps {
		rate = max(rate, s.RatePerS)
	}
	span := c.WarmupDuration.Seconds() + max(c.Duration, c.Ramp.Over, c.Steps.Length()).Seconds()
	return max(rate*span, float64(c.Requests)) + float64(c.WarmupRequests)
}

// Check returns everything that is wrong with what was asked for. It looks at no more than Objects of what
// comes from the corpus.
func (c *PlanConfig) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if math.IsNaN(c.RatePerS) || math.IsInf(c.RatePerS, 0) || c.RatePerS < 0 {
		bad("rate must be a positive number of requests per second, not %v", c.RatePerS)
	}
	if c.RatePerS > maxRatePerS {
		bad("rate %v/s is beyond what one process can send (limit 1,000,000/s)", c.RatePerS)
	}
	if c.Concurrency < 0 {
		bad("concurrency must be at least 1, not %d", c.Concurrency)
	}
	if c.Speed != 0 && !(c.Speed > 0 && c.Speed <= 1e6) {
		bad("speed must be a positive number such as 1 or 4, not %v", c.Speed)
	}
	if c.MaxGap < 0 {
		bad("the longest gap must be positive, not %v", c.MaxGap)
	}
	switch open := c.openWays(); {
	case len(open) > 1:
		bad("%s exclude each other", strings.Join(open, " and "))
	case len(open) == 1 && c.Concurrency > 0:
		bad("%s (open loop) and concurrency (closed loop) exclude each other", open[0])
	case c.Poisson && (len(open) == 0 || c.Speed > 0):
		bad("poisson arrivals need a rate, a ramp or steps")
	case len(open) == 0 && c.WarmupDuration > 0:
		bad("a closed loop has no planned rate: give its warm-up as a number of requests, not as a duration")
	}
	if c.Duration < 0 {
		bad("duration must be positive, not %v", c.Duration)
	}
	if c.Requests < 0 {
		bad("requests must be at least 1, not %d", c.Requests)
	}
	if c.WarmupDuration < 0 || c.WarmupRequests < 0 {
		bad("warm-up must not be negative")
	}
	if c.FanOut < 0 || c.FanOut > 10_000 {
		bad("fan-out must be from 1 to 10,000, not %d", c.FanOut)
	}
	if c.expected() > maxPlanned {
		bad("a plan of more than %d requests", int64(maxPlanned))
	}
	if c.Objects <= 0 {
		bad("the corpus has no objects")
	}
	return errors.Join(errs...)
}

// openWays names the ways to pace an open loop that were given.
func (c *PlanConfig) openWays() []string {
	var ways []string
	for _, w := range []struct {
		given bool
		name  string
	}{{c.RatePerS > 0, "rate"}, {c.Ramp.Over > 0, "ramp"}, {len(c.Steps) > 0, "steps"}, {c.Speed > 0, "original timing"}} {
		if w.given {
			ways = append(ways, w.name)
		}
	}
	return ways
}

// NewPlan turns what was asked for into a plan. All problems are reported at once.
func NewPlan(c PlanConfig) (*Plan, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	p := &Plan{
		Loop: Open, Warmup: c.WarmupRequests, Requests: c.Requests, Objects: c.Objects, FanOut: max(c.FanOut, 1),
		Seed: c.Seed, Shard: c.Shard, Terms: c.Terms,
	}
	virtual := p.Objects * p.FanOut
	if c.Speed > 0 && len(c.Times) != c.Objects {
		return nil, fmt.Errorf("original timing needs the time of each of the %d objects and has %d", c.Objects, len(c.Times))
	}
	p.pace(&c)
	if p.Loop == Open {
		p.Warmup += countBefore(p.Pacer, c.WarmupDuration, maxEntries)
		if c.Duration > 0 {
			n := countBefore(p.Pacer, p.Pacer.Due(p.Warmup)+c.Duration, maxEntries) - p.Warmup
			if p.Requests == 0 || n < p.Requests {
				p.Requests = max(n, 1)
			}
		}
	} else {
		p.Concurrency, p.Duration = max(c.Concurrency, 1), c.Duration
	}
	if p.Requests == 0 && p.Duration == 0 {
		p.Requests = virtual // neither given: the corpus once
	}
	if rest := virtual - p.Warmup; !c.Loop && (p.Requests == 0 || p.Requests > rest) {
		if rest <= 0 {
			return nil, fmt.Errorf("the warm-up of %d requests uses up the corpus of %d objects and it is not looped", p.Warmup, virtual)
		}
		p.Requests = rest
	}
	if p.Loop == Open {
		p.RatePerS = p.meanRate()
	}
	if p.Shard.Total > 1 && p.Shard.By == BySource {
		p.sources = c.Sources
		for _, name := range c.Sources.Names() {
			p.owners = append(p.owners, owner(name, p.Shard.Total))
		}
	}
	return p, nil
}

// pace sets the loop and its pacer.
func (p *Plan) pace(c *PlanConfig) {
	var mean profile
	switch {
	case c.RatePerS > 0:
		mean, p.Timing, p.RatePerS = Constant{c.RatePerS}, "rate", c.RatePerS
	case c.Ramp.Over > 0:
		mean, p.Timing = c.Ramp, "ramp"
		if c.Duration == 0 && c.Requests == 0 {
			c.Duration = c.Ramp.Over // a ramp has a length of its own
		}
	case len(c.Steps) > 0:
		mean, p.Timing = c.Steps, "steps"
		if c.Duration == 0 && c.Requests == 0 {
			c.Duration = c.Steps.Length()
		}
	case c.Speed > 0:
		p.Timing, p.Arrival = "original", "original"
		p.Pacer = newOriginal(c.Times, c.Speed, c.MaxGap, p.FanOut)
		return
	default:
		p.Loop, p.Timing, p.Arrival = Closed, "none", "on answer"
		return
	}
	p.Pacer, p.Arrival = mean, "constant"
	if c.Poisson {
		// As many arrivals as the plan can ask for: those of the warm-up say when the measured part begins.
		q := newPoisson(mean, c.Seed, c.WarmupRequests, c.WarmupDuration)
		warmup := c.WarmupRequests + countBefore(q, c.WarmupDuration, maxEntries)
		q = newPoisson(mean, c.Seed, warmup+1, 0)
		if c.Duration > 0 {
			q = newPoisson(mean, c.Seed, warmup+1, q.Due(warmup)+c.Duration)
		} else {
			q = newPoisson(mean, c.Seed, warmup+cmp.Or(c.Requests, p.Objects*p.FanOut)+1, 0)
		}
		p.Pacer, p.Arrival = q, "poisson"
	}
}

// meanRate is the rate of the measured part: the exact one where it is constant.
func (p *Plan) meanRate() float64 {
	if c, ok := p.Pacer.(Constant); ok {
		return c.RatePerS
	}
	if q, ok := p.Pacer.(*Poisson); ok {
		if c, ok := q.mean.(Constant); ok {
			return c.RatePerS
		}
	}
	if span := p.Due(p.Total()) - p.Due(p.Warmup); span > 0 {
		return float64(p.Requests) / span.Seconds()
	}
	return 0
}

// Total is the number of entries of the whole plan, warm-up included; 0 when only a duration ends the run.
func (p *Plan) Total() int {
	if p.Requests == 0 {
		return 0
	}
	return p.Warmup + p.Requests
}

// Due returns when entry n is due, from the start of the run; 0 in a closed loop, where nothing is.
func (p *Plan) Due(n int) time.Duration {
	if p.Pacer == nil {
		return 0
	}
	return p.Pacer.Due(n)
}

// Object returns the index of the corpus object that entry n replays, which of the fan-out's clusters it is
// sent as, and the pass through the corpus it belongs to, all from 0.
func (p *Plan) Object(n int) (object, replica, pass int) {
	virtual := p.Objects * p.FanOut
	v := n % virtual
	return v / p.FanOut, v % p.FanOut, n / virtual
}

// cycle is after how many entries it begins anew which objects are whose.
func (p *Plan) cycle() int { return p.Objects * p.FanOut * max(p.Shard.Total, 1) }

// Owns says whether entry n belongs to this process' shard.
func (p *Plan) Owns(n int) bool {
	switch {
	case p.Shard.Total <= 1:
		return true
	case p.owners != nil:
		object, replica, _ := p.Object(n)
		return p.owners[p.sources.At(object, replica).number] == p.Shard.Index
	}
	return n%p.Shard.Total == p.Shard.Index
}

// Own counts this shard's entries, the warm-up and the measured ones; without Requests, measured is 0.
func (p *Plan) Own() (warmup, measured int) {
	if p.Shard.Total <= 1 {
		return p.Warmup, p.Requests
	}
	for n := range p.Warmup + p.Requests {
		if !p.Owns(n) {
			continue
		}
		if n < p.Warmup {
			warmup++
		} else {
			measured++
		}
	}
	return warmup, measured
}

// SHA256 identifies the plan: two runs with equal plan hashes sent the same objects at the same intended
// times and on the same [Terms]. keys are the corpus objects' keys in order. Due times are a pure function of what is hashed. The
// shards of a plan share its hash.
func (p *Plan) SHA256(keys iter.Seq[string]) string {
	h := sha256.New()
	pacer := "none"
	if p.Pacer != nil {
		pacer = p.Pacer.String()
	}
	terms := p.Terms
	if p.Loop == Closed {
		terms.MaxInFlight = 0
	}
	head := fmt.Sprintf("cirrusbench/plan/v2 %s %s concurrency=%d warmup=%d requests=%d duration=%d objects=%d fan_out=%d seed=%d "+
		"order=%s timestamps=%s timeout=%d max_in_flight=%d retry=%s\n",
		p.Loop, pacer, p.Concurrency, p.Warmup, p.Requests, p.Duration, p.Objects, p.FanOut, p.Seed,
		terms.Order, terms.Timestamps, terms.Timeout, terms.MaxInFlight, terms.Retry)
	h.Write([]byte(head))
	for k := range keys {
		h.Write([]byte(k + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil))
}
