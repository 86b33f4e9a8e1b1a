package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// gateSide is one arm that can be measured.
type gateSide struct {
	arm    stats.GateArm
	target stats.Target
	sender sender
	server *gateServer // nil when it was there before us
	billed cost.Invoked
	mixed  bool // functions of unlike memory answered: they have no common price
}

// add takes what was billed in one measurement.
func (s *gateSide) add(v cost.Invoked) {
	sum, ok := s.billed.Add(v)
	s.billed, s.mixed = sum, s.mixed || !ok
}

// costPerMillion is what a million requests were billed by all measurements; empty when that is not known.
func (s *gateSide) costPerMillion(p *pricer) string {
	if s.billed.Count == 0 || s.mixed {
		return ""
	}
	usd, err := p.perMillion(s.billed)
	if err != nil {
		return ""
	}
	return usd.Fixed(costPlaces)
}

func (s *gateSide) close() error {
	if s.sender != nil {
		s.sender.Close()
	}
	if s.server != nil {
		return s.server.stop()
	}
	return nil
}

// gateLive measures both arms in interleaved blocks until the gate has decided.
func gateLive(ctx context.Context, e *env, o *gateOptions, p *gatePlan, args []string) (result *stats.GateResult, err error) {
	corpus, err := o.loadCorpus(ctx, args)
	if err != nil {
		return nil, err
	}
	pc := p.plan
	if pc.FanOut == 0 && len(args) == 0 {
		pc.FanOut = 20 // as replay does: five clusters are too few senders
	}
	plan, err := o.plan(pc, corpus)
	if err != nil {
		return nil, err
	}
	if why := p.unavailable(plan); why != "" {
		return invalidGate(p, why), nil
	}
	if n := plan.Objects * plan.FanOut; n > plan.Total() {
		e.sayf("note: each measurement replays the first %d of the corpus' %d requests", plan.Total(), n)
	}
	warnOrder(e, &o.replayOptions, plan, corpus)

	sides := map[stats.GateArm]*gateSide{}
	defer func() {
		for _, s := range sides {
			err = errors.Join(err, s.close())
		}
	}()
	for _, t := range []gateTarget{p.baseline, p.cand} {
		side, err := o.startSide(ctx, e, t)
		if err != nil {
			return nil, err
		}
		sides[t.arm] = side
	}

	gate, err := stats.NewGate(p.config)
	if err != nil {
		return nil, err
	}
	job := &gateJob{
		gate: gate, corpus: corpus, plan: plan, options: o, sides: sides,
		coin: rand.New(rand.NewPCG(p.seed, 0)), progress: newGateProgress(e, p.config.Rule.MaxBlocks()),
		prices: p.prices,
	}
	header, err := o.header()
	if err != nil {
		return nil, err
	}
	for _, t := range []gateTarget{p.baseline, p.cand} {
		job.secrets = append(job.secrets, o.secrets(header, t.location)...)
	}
	started := time.Now().UTC()
	err = job.run(ctx)
	job.progress.close()
	if err != nil {
		return nil, err
	}
	if ctx.Err() == nil {
		p.hint = job.hint
	}
	r := gate.Result()
	r.StartedAt, r.FinishedAt, r.Seed, r.Host = started, time.Now().UTC(), p.seed, hostInfo()
	r.Plan, r.Corpus = job.last.Plan, job.last.Corpus
	r.Arms.Baseline.Target, r.Arms.Candidate.Target = sides[stats.Baseline].target, sides[stats.Candidate].target
	r.Host.CPUQuota = job.last.Client.CPUs
	r.Arms.Baseline.CostPerMillion, r.Arms.Candidate.CostPerMillion = sides[stats.Baseline].costPerMillion(p.prices), sides[stats.Candidate].costPerMillion(p.prices)
	return r, nil
}

// startSide makes an arm ready to be measured, and starts its server if that is asked for.
func (o *gateOptions) startSide(ctx context.Context, e *env, t gateTarget) (*gateSide, error) {
	side := &gateSide{arm: t.arm, target: stats.Target{URL: t.location, Kind: "http"}}
	if isLambda(t.location) {
		side.target.Kind = "lambda"
	}
	if t.command != nil {
		server, err := startGateServer(ctx, t.command, t.location, o.startTimeout)
		if err != nil {
			hint := "the command must print 'listening on http://…', or --" + string(t.arm) + " must say where it listens"
			if o.selfCmd != "" {
				hint = "the command must print 'listening on http://…'"
			}
			return nil, withHint(fmt.Errorf("starting the %s: %w", t.arm, err), hint)
		}
		side.server, side.target.URL = server, server.url
		e.sayf("started the %s on %s", t.arm, server.url)
	}
	sender, err := o.newSender(ctx, e, side.target.URL, o.maxInFlight)
	if err != nil {
		return nil, errors.Join(err, side.close())
	}
	side.sender, side.target.URL = sender, sender.URL()
	return side, nil
}

// gateJob is the sequence of blocks.
type gateJob struct {
	gate     *stats.Gate
	corpus   *capture.Corpus
	plan     *replay.Plan
	options  *gateOptions
	sides    map[stats.GateArm]*gateSide
	coin     *rand.Rand
	progress *gateProgress
	last     stats.Run
	secrets  []string
	prices   *pricer
	hint     string // what to look at when an arm answered nothing with success
}

// run measures blocks until the gate wants no more. An interrupt ends it without a verdict.
func (j *gateJob) run(ctx context.Context) error {
	for !j.gate.Done() {
		order := []stats.GateArm{stats.Baseline, stats.Candidate}
		if j.coin.IntN(2) == 1 {
			order[0], order[1] = order[1], order[0]
		}
		samples := map[stats.GateArm]*stats.GateSample{}
		for _, arm := range order {
			s, err := j.measure(ctx, j.sides[arm])
			if ctx.Err() != nil {
				j.gate.Stop(fmt.Sprintf("interrupted after %d blocks", j.gate.Kept()))
				return nil //nolint:nilerr // that the run was broken off is what the interrupt asked for
			}
			if err != nil {
				return fmt.Errorf("measuring the %s: %w", arm, err)
			}
			samples[arm] = s
		}
		j.gate.Add(order[0], samples[stats.Baseline], samples[stats.Candidate])
		j.progress.update(j.gate)
	}
	return nil
}

// measure is one arm-run.
func (j *gateJob) measure(ctx context.Context, side *gateSide) (*stats.GateSample, error) {
	o := j.options
	config := replay.Config{
		Corpus: j.corpus, Plan: j.plan, Sender: side.sender, Destination: destination(side.target), Timestamps: replay.TimestampMode(o.timestamps),
		Order: replay.Order(o.order), MaxInFlight: o.maxInFlight, Timeout: o.timeout, DrainTimeout: o.drainTimeout, MaxDecoded: int(o.maxDecoded),
		Retry: o.retries(), HashBodies: o.sigv4 != "", FanOutLabel: o.fanOutLabel, Secrets: j.secrets,
	}
	result, err := replay.Run(ctx, config)
	if err != nil {
		return nil, err
	}
	j.last = stats.Run{}
	if err := result.Fill(&j.last, config, side.target); err != nil {
		return nil, err
	}
	if err := o.bill(context.WithoutCancel(ctx), j.progress.e, side.sender, &j.last); err != nil {
		return nil, err
	}
	s, err := stats.NewGateSample(&j.last)
	if err != nil {
		return nil, err
	}
	if j.last.Counts.Sent > 0 && j.last.Counts.OK == 0 && j.hint == "" {
		flag := string(side.arm)
		if o.self != "" {
			flag = "self"
		}
		j.hint = strings.ReplaceAll(deadHint(&j.last), "--target", "--"+flag)
	}
	s.NotReady = int64(result.NotReady)
	side.add(j.prices.addBilled(&s, &j.last))
	return &s, nil
}

// gateProgress shows how far a gate is.
type gateProgress struct {
	e    *env
	bars *mpb.Progress
	bar  *mpb.Bar
	text string
	said time.Time
}

func newGateProgress(e *env, blocks int) *gateProgress {
	p := &gateProgress{e: e, said: time.Now()}
	if e.errTTY {
		p.bars = mpb.New(mpb.WithOutput(e.err), mpb.WithWidth(24), mpb.WithAutoRefresh())
		p.bar = p.bars.New(int64(blocks), mpb.BarStyle().Lbound("▕").Filler("█").Tip("█").Padding("░").Rbound("▏"),
			mpb.BarRemoveOnComplete(), mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return p.text })))
	}
	return p
}

// update is called after every block.
func (p *gateProgress) update(g *stats.Gate) {
	r := g.Result()
	line := fmt.Sprintf(" %d blocks of up to %d", g.Kept(), r.Looks[len(r.Looks)-1])
	if n := g.Tried() - g.Kept(); n > 0 {
		line += fmt.Sprintf(", %d set aside", n)
	}
	if r.EstimateRatio.Known() {
		line += fmt.Sprintf(", %s %+.1f %%", r.Metric, (float64(r.EstimateRatio)-1)*100)
	}
	if p.bar != nil {
		p.text = line
		p.bar.SetCurrent(int64(g.Kept()))
		return
	}
	if !g.Done() && time.Since(p.said) >= plainEvery {
		p.said = time.Now()
		p.e.sayf("%s", strings.TrimSpace(line))
	}
}

func (p *gateProgress) close() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
	}
}

// hostInfo describes the machine, as far as the system tells.
func hostInfo() *stats.GateHost {
	h := &stats.GateHost{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Procs: runtime.GOMAXPROCS(0)}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		h.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				h.CPUModel = strings.TrimSpace(value)
				break
			}
		}
	}
	h.MemoryBytes = memoryLimit(os.DirFS("/"))
	return h
}

// memoryLimit is the memory of the machine, or less if a container's limit is lower; 0 when neither is known.
func memoryLimit(root fs.FS) int64 {
	limit := int64(0)
	if b, err := fs.ReadFile(root, "proc/meminfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
				if kb, err := strconv.ParseInt(f[1], 10, 53); err == nil {
					limit = kb << 10
				}
			}
		}
	}
	for _, name := range []string{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 && (limit == 0 || n < limit) { // "max" is no number
			limit = n
		}
	}
	return limit
}
