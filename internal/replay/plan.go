package replay

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"
)

// Pacer says when the n-th request (from 0) is due, counted from the start of the run. It is a pure,
// non-decreasing function of n: no clock, no state, so a plan can be printed, hashed and split
// before the first byte is sent.
type Pacer interface {
	Due(n int) time.Duration
}

// Constant is the open-loop pacer of a fixed arrival rate in requests per second.
type Constant struct {
	RatePerS float64
}

// Due returns n/RatePerS. It multiplies once instead of adding up steps, so the error does not grow.
func (c Constant) Due(n int) time.Duration {
	return time.Duration(math.Round(float64(n) / c.RatePerS * float64(time.Second)))
}

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
	RatePerS    float64       // open loop only, for the record
	Concurrency int           // closed loop only
	Warmup      int           // entries before the measured ones
	Requests    int           // measured entries; 0 in a closed loop means: until Duration
	Duration    time.Duration // closed loop without Requests: stop starting requests after this
	Objects     int           // corpus objects, replayed in order and again from the first
	Seed        uint64        // of every random choice; none of the present pacers makes one
}

// PlanConfig is what a user asks for; zero values mean "not given".
type PlanConfig struct {
	RatePerS       float64       // > 0: open loop
	Concurrency    int           // closed loop when RatePerS is 0
	Duration       time.Duration // length of the measured part
	Requests       int           // number of measured requests
	WarmupDuration time.Duration // open loop: its length; a closed loop takes WarmupRequests
	WarmupRequests int
	Loop           bool // replay the corpus again when it is at its end
	Objects        int  // in the corpus
	Seed           uint64
}

// NewPlan turns what was asked for into a plan. All problems are reported at once.
func NewPlan(c PlanConfig) (*Plan, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if math.IsNaN(c.RatePerS) || math.IsInf(c.RatePerS, 0) || c.RatePerS < 0 {
		bad("rate must be a positive number of requests per second, not %v", c.RatePerS)
	}
	if c.RatePerS > 1e6 {
		bad("rate %v/s is beyond what one process can send (limit 1,000,000/s)", c.RatePerS)
	}
	if c.Concurrency < 0 {
		bad("concurrency must be at least 1, not %d", c.Concurrency)
	}
	if c.RatePerS > 0 && c.Concurrency > 0 {
		bad("rate (open loop) and concurrency (closed loop) exclude each other")
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
	if c.WarmupDuration > 0 && c.RatePerS == 0 {
		bad("a closed loop has no planned rate: give its warm-up as a number of requests, not as a duration")
	}
	if c.Objects <= 0 {
		bad("the corpus has no objects")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}

	p := &Plan{Loop: Closed, Warmup: c.WarmupRequests, Requests: c.Requests, Duration: c.Duration, Objects: c.Objects, Seed: c.Seed}
	if c.RatePerS > 0 {
		p.Loop, p.RatePerS, p.Pacer = Open, c.RatePerS, Constant{c.RatePerS}
		p.Warmup += int(math.Ceil(c.RatePerS * c.WarmupDuration.Seconds()))
		if n := int(math.Ceil(c.RatePerS*c.Duration.Seconds() - 1e-9)); c.Duration > 0 && (p.Requests == 0 || n < p.Requests) {
			p.Requests = max(n, 1)
		}
	} else {
		p.Concurrency = max(c.Concurrency, 1)
	}
	if p.Requests == 0 && p.Duration == 0 {
		p.Requests = c.Objects // neither given: the corpus once
	}
	if rest := c.Objects - p.Warmup; !c.Loop && (p.Requests == 0 || p.Requests > rest) {
		if rest <= 0 {
			return nil, fmt.Errorf("the warm-up of %d requests uses up the corpus of %d objects and it is not looped", p.Warmup, c.Objects)
		}
		p.Requests = rest
	}
	return p, nil
}

// Total is the number of entries, warm-up included; 0 when only a duration ends the run.
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

// Object returns the index of the corpus object that entry n replays, and the pass through the corpus it
// belongs to, both from 0.
func (p *Plan) Object(n int) (object, pass int) {
	return n % p.Objects, n / p.Objects
}

// SHA256 identifies the plan: two runs with equal plan hashes sent the same objects at the same intended
// times. keys are the corpus objects' keys in order. Due times are a pure function of what is hashed.
func (p *Plan) SHA256(keys iter.Seq[string]) string {
	h := sha256.New()
	head := fmt.Sprintf("cirrusbench/plan/v1 %s %T rate=%v concurrency=%d warmup=%d requests=%d duration=%d objects=%d seed=%d\n",
		p.Loop, p.Pacer, p.RatePerS, p.Concurrency, p.Warmup, p.Requests, p.Duration, p.Objects, p.Seed)
	h.Write([]byte(head))
	for k := range keys {
		h.Write([]byte(k + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil))
}
