package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/replay"
)

// planFlags say what is sent when.
type planFlags struct {
	rate                  float64
	ramp, steps           string
	arrival, timing       string
	speed                 float64
	maxGap                time.Duration
	concurrency, requests int
	duration              time.Duration
	warmup                string
	loop                  bool
	fanOut                int
	fanOutLabel           string
	shard, shardBy        string
	seed                  uint64
	dryRun                bool
}

func (o *planFlags) add(f *pflag.FlagSet) {
	f.Float64Var(&o.rate, "rate", 0, "open loop: requests per second")
	f.StringVar(&o.ramp, "ramp", "", "open loop: FROM:TO:TIME, a rate that changes evenly and then stays (10:500:30s)")
	f.StringVar(&o.steps, "steps", "", "open loop: RATE:TIME,…, one rate after the other (100:10s,200:10s)")
	f.StringVar(&o.timing, "timing", "rate", "rate; original: open loop at the captured times")
	f.Float64Var(&o.speed, "speed", 1, "original timing: this many times faster")
	f.DurationVar(&o.maxGap, "max-gap", 0, "original timing: cut longer gaps between captures to this (0: none)")
	f.StringVar(&o.arrival, "arrival", "constant", "constant: evenly; poisson: at random, with the rate as the mean")
	f.IntVar(&o.concurrency, "concurrency", 0, "closed loop: requests in flight (default 1)")
	f.DurationVar(&o.duration, "duration", 0, "how long to start requests for, warm-up not counted")
	f.IntVar(&o.requests, "requests", 0, "how many requests to send, warm-up not counted (default: the corpus once)")
	f.StringVar(&o.warmup, "warmup", "0", "requests (100) or time (5s; open loop) sent first and recorded apart")
	f.BoolVar(&o.loop, "loop", true, "start the corpus again when it is at its end")
	f.IntVar(&o.fanOut, "fan-out", 0, "send each capture as this many clusters, each with series of its own (default: 1, and 20 for the bundled captures)")
	f.StringVar(&o.fanOutLabel, "fan-out-label", "cluster", "the label that makes the series of a fan-out differ")
	f.StringVar(&o.shard, "shard", "", "I/N: execute only part I (from 0) of N of the plan; /N takes I from JOB_COMPLETION_INDEX")
	f.StringVar(&o.shardBy, "shard-by", "source", "source: whole clusters, whose order is kept; request: one by one")
	f.Uint64Var(&o.seed, "seed", 1, "of every random choice, kept in the run file")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and send nothing")
}

// config checks the flags that need no file or network, and says all that is wrong with them.
func (o *planFlags) config(getenv func(string) string) (replay.PlanConfig, error) {
	p := replay.PlanConfig{
		RatePerS: o.rate, Concurrency: o.concurrency, Duration: o.duration, Requests: o.requests, MaxGap: o.maxGap,
		Poisson: o.arrival == "poisson", Loop: o.loop, FanOut: o.fanOut, Seed: o.seed, Objects: 1,
	}
	var errs []error
	check := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if n, err := strconv.Atoi(strings.TrimSuffix(o.warmup, "req")); err == nil {
		p.WarmupRequests = n
	} else if p.WarmupDuration, err = time.ParseDuration(o.warmup); err != nil {
		check(fmt.Errorf("--warmup %q is neither a number of requests (100) nor a time (5s)", o.warmup))
	}
	var err error
	if o.ramp != "" {
		p.Ramp, err = replay.ParseRamp(o.ramp)
		check(err)
	}
	if o.steps != "" {
		p.Steps, err = replay.ParseSteps(o.steps)
		check(err)
	}
	check(oneOf("arrival", o.arrival, "constant", "poisson"))
	check(oneOf("timing", o.timing, "rate", "original"))
	switch {
	case o.timing == "original":
		p.Speed = o.speed
		if o.speed == 0 {
			check(errors.New("--speed must be a positive number such as 1 or 4, not 0"))
		}
	case o.speed != 1 || o.maxGap != 0:
		check(errors.New("--speed and --max-gap need --timing original"))
	}
	if o.fanOut < 0 {
		check(fmt.Errorf("--fan-out must be at least 1, not %d", o.fanOut))
	}
	if o.fanOutLabel == "" || o.fanOutLabel == "__name__" {
		check(fmt.Errorf("%q cannot be the label of a fan-out", o.fanOutLabel))
	}
	if o.shard != "" {
		spec := o.shard
		if strings.HasPrefix(spec, "/") {
			spec = getenv("JOB_COMPLETION_INDEX") + spec
		}
		p.Shard, err = replay.ParseShard(spec, replay.ShardBy(o.shardBy))
		check(err)
	}
	check(p.Check())
	if err := errors.Join(errs...); err != nil {
		return p, usagef("run 'cirrusbench replay --help' for an example", "%v", err)
	}
	return p, nil
}

func oneOf(flag, got string, allowed ...string) error {
	if slices.Contains(allowed, got) {
		return nil
	}
	last := len(allowed) - 1
	return fmt.Errorf("--%s must be %s or %s, not %q", flag, strings.Join(allowed[:last], ", "), allowed[last], got)
}

// plan makes the plan for a corpus.
func (o *planFlags) plan(p replay.PlanConfig, corpus *capture.Corpus) (*replay.Plan, error) {
	p.Objects = len(corpus.Entries())
	var err error
	if p.Sources, err = replay.Sources(corpus, p.FanOut); err != nil {
		return nil, err
	}
	if p.Speed > 0 {
		for _, en := range corpus.Entries() {
			p.Times = append(p.Times, en.Key.Time)
		}
	}
	plan, err := replay.NewPlan(p)
	if err != nil {
		return nil, usagef("", "%v", err)
	}
	return plan, nil
}

// plannedEntry is a line of a dry run.
type plannedEntry struct {
	N      int      `json:"n"`
	DueMS  *float64 `json:"due_ms"` // null in a closed loop
	Warmup bool     `json:"warmup"`
	Source string   `json:"source"`
	Object string   `json:"object"`
	Pass   int      `json:"pass"`
}

// printPlan writes what would be sent when: as CSV with a header, or JSON. A closed loop that ends by time
// has no last entry; one pass of it is shown.
func printPlan(w io.Writer, format string, plan *replay.Plan, corpus *capture.Corpus) error {
	total := plan.Total()
	if total == 0 {
		total = plan.Warmup + plan.Objects*plan.FanOut
	}
	sources, err := replay.Sources(corpus, plan.FanOut)
	if err != nil {
		return err
	}
	entries := func(yield func(plannedEntry) error) error {
		for n := range total {
			if !plan.Owns(n) {
				continue
			}
			object, replica, pass := plan.Object(n)
			e := plannedEntry{
				N: n, Warmup: n < plan.Warmup, Pass: pass,
				Source: sources.NameAt(object, replica), Object: corpus.Entries()[object].Key.String(),
			}
			if plan.Loop == replay.Open {
				ms := float64(plan.Due(n)) / 1e6
				e.DueMS = &ms
			}
			if err := yield(e); err != nil {
				return err
			}
		}
		return nil
	}
	if format != "json" {
		if _, err := io.WriteString(w, "n,due_ms,part,source,pass,object\n"); err != nil {
			return err
		}
		return entries(func(e plannedEntry) error {
			part, due := "measured", ""
			if e.Warmup {
				part = "warmup"
			}
			if e.DueMS != nil {
				due = strconv.FormatFloat(*e.DueMS, 'f', -1, 64)
			}
			_, err := fmt.Fprintf(w, "%d,%s,%s,%s,%d,%s\n", e.N, due, part, e.Source, e.Pass, e.Object)
			return err
		})
	}
	own, measured := plan.Own()
	head, err := json.Marshal(map[string]any{
		"loop": plan.Loop, "arrival": plan.Arrival, "timing": plan.Timing, "rate_per_s": plan.RatePerS, "concurrency": plan.Concurrency,
		"planned": measured, "warmup": own, "seed": plan.Seed, "sha256": plan.SHA256(replay.Keys(corpus)),
	})
	if err != nil {
		return err
	}
	toolJSON, err := json.Marshal(tool())
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "{\"schema\": \"cirrusbench/plan/v1\", \"tool\": %s,\n\"plan\": %s,\n\"entries\": [", toolJSON, head); err != nil {
		return err
	}
	separator := "\n"
	if err := entries(func(e plannedEntry) error {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s%s", separator, line)
		separator = ",\n"
		return err
	}); err != nil {
		return err
	}
	_, err = io.WriteString(w, "\n]}\n")
	return err
}
