// Command gate-sim runs made-up jobs through the gate that `cirrusbench gate` uses and prints how often it says
// what. It ends with an error when an unchanged job fails more often than the rule promises, or when a
// regression is found less often than the documentation says.
//
// A job is up to 40 blocks of two arms of 1,500 requests. Latencies are lognormal with a slow path. On top of
// them lie what runners do to them: a factor of the machine (the same for both arms of a job, another one in
// the next job), a drift from measurement to measurement (AR(1)), and bursts of a neighbour that slow some requests of
// some measurements down. The strength of each is set so that the models give what the simulation gave that the rule
// was designed by, whose numbers are printed below ours: both the gate's verdicts and the false alarms of comparing one
// number of one job with one number of another, which are what is reported from such runners. A model that is more than
// 15 points away from any of them ends the program with an error.
//
// Two runners are ours. One gets 50 % faster during the job, which a comparison of all A with all B would take for a
// change. One shows the limit of the rule: a candidate that stalls rarely, in 15 % of its measurements for 3 % of its
// requests, is not found by any rule in so few blocks without false alarms; the result counts its stalled blocks.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// scenario is a kind of runner; the numbers are standard deviations of logarithms and probabilities.
type scenario struct {
	name    string
	machine float64 // factor of the job
	drift   float64 // of the AR(1) process from arm-run to arm-run
	burst   float64 // probability that a neighbour disturbs an arm-run
	touched float64 // share of the requests that a burst slows down
	trend   float64 // a job gets faster by this, in all, from its first block to its last
	// stall is the probability that the candidate stalls in an arm-run: 3 % of its requests take four times as long.
	stall float64
	// like is what the simulation that the rule was designed by says of such a runner; nil for runners that are only ours.
	like *reference
}

// reference is the outcome of another simulation of the same rule, 500 jobs a cell, standard error up to 2.2 points:
// percent of jobs by true change, and percent of unchanged jobs in which one number is beyond another by +5, +10, +20 %.
type reference struct {
	fail, pass, blocks [5]float64
	single             [3]float64
}

// String lists the numbers of a reference by true change.
func (r *reference) String() string {
	var cells []string
	for i := range r.fail {
		cells = append(cells, fmt.Sprintf("%g; %g; %g", r.fail[i], r.pass[i], r.blocks[i]))
	}
	cells[0] += fmt.Sprintf("; %g, %g, %g", r.single[0], r.single[1], r.single[2])
	return strings.Join(cells, "* | *")
}

func scenarios() []scenario {
	return []scenario{
		{
			name: "dedicated", machine: 0.034, drift: 0.01, burst: 0.01, touched: 0.03,
			like: &reference{
				[5]float64{0, 3, 88, 100, 100},
				[5]float64{92, 3, 0, 0, 0},
				[5]float64{25, 39, 26, 12, 10},
				[3]float64{17, 2, 0},
			},
		},
		{
			name: "shared", machine: 0.09, drift: 0.02, burst: 0.13, touched: 0.05,
			like: &reference{
				[5]float64{0, 4, 60, 97, 100},
				[5]float64{59, 4, 0, 0, 0},
				[5]float64{32, 39, 33, 21, 12},
				[3]float64{40, 26, 8},
			},
		},
		{
			name: "bad shared", machine: 0.19, drift: 0.09, burst: 0.30, touched: 0.12,
			like: &reference{
				[5]float64{0, 3, 18, 60, 100},
				[5]float64{21, 5, 1, 0, 0},
				[5]float64{37, 39, 37, 32, 17},
				[3]float64{44, 38, 29},
			},
		},
		{name: "warming up", machine: 0.09, drift: 0.02, burst: 0.13, touched: 0.05, trend: 0.7},
		{name: "rare stall", machine: 0.034, drift: 0.01, burst: 0.01, touched: 0.03, stall: 0.15},
	}
}

const (
	requests = 1500
	medianMS = 5.0
	sigma    = 0.35  // of the lognormal part
	slowPath = 0.015 // of the requests go the slow way
	rho      = 0.8   // of the drift
)

type simulation struct {
	scenario

	rnd    *rand.Rand
	factor float64 // of the machine
	z      float64 // of the drift
}

func newSimulation(s scenario, seed, job uint64) *simulation {
	rnd := rand.New(rand.NewPCG(seed, job))
	return &simulation{scenario: s, rnd: rnd, factor: math.Exp(s.machine * rnd.NormFloat64()), z: rnd.NormFloat64()}
}

// measure makes up one arm-run; progress is how far the job is, 0 to 1.
func (s *simulation) measure(arm stats.GateArm, change, progress float64) *stats.GateSample {
	s.z = rho*s.z + math.Sqrt(1-rho*rho)*s.rnd.NormFloat64()
	scale := medianMS * s.factor * math.Exp(s.drift*s.z-s.trend*progress) * (1 + change)
	touched, by := 0.0, 1.0
	if s.rnd.Float64() < s.burst {
		touched, by = s.touched, 1.5+2.5*s.rnd.Float64()
	}
	if arm == stats.Candidate && s.stall > 0 && s.rnd.Float64() < s.stall {
		touched, by = 0.03, 4
	}
	dense := stats.NewHistogram()
	for range requests {
		ms := scale * math.Exp(sigma*s.rnd.NormFloat64())
		if s.rnd.Float64() < slowPath {
			ms *= 1.5 + s.rnd.ExpFloat64()
		}
		if touched > 0 && s.rnd.Float64() < touched {
			ms *= by
		}
		_ = dense.Record(time.Duration(ms * 1e6)) // positive, so there is nothing to refuse
	}
	h := stats.NewPackedHistogram() // as it comes from a run
	h.Merge(dense)
	return &stats.GateSample{Counts: stats.Counts{Planned: requests, Sent: requests, OK: requests}, Latency: h, Service: stats.NewPackedHistogram()}
}

// run plays one job through the gate.
func (s *simulation) run(change float64, metric stats.GateMetric) (*stats.GateResult, error) {
	rule := stats.DefaultGateRule()
	gate, err := stats.NewGate(stats.GateConfig{Rule: rule, Metric: metric, MaxErrorRatio: 0.01})
	if err != nil {
		return nil, err
	}
	for !gate.Done() {
		progress := float64(gate.Kept()) / float64(rule.MaxBlocks())
		var a, b *stats.GateSample
		first := stats.Baseline
		if s.rnd.IntN(2) == 0 {
			a = s.measure(stats.Baseline, 0, progress)
			b = s.measure(stats.Candidate, change, progress)
		} else {
			first = stats.Candidate
			b = s.measure(stats.Candidate, change, progress)
			a = s.measure(stats.Baseline, 0, progress)
		}
		gate.Add(first, a, b)
	}
	return gate.Result(), nil
}

// single is the usual way: one number of this job against one of an earlier job, each over 20 blocks.
func single(s scenario, change float64, seed, job uint64) float64 {
	p99 := func(change float64, seed uint64) float64 {
		sim, all := newSimulation(s, seed, job), stats.NewHistogram()
		for k := range 20 {
			all.Merge(sim.measure(stats.Candidate, change, float64(k)/40).Latency)
		}
		return all.Quantiles(0.99)[0]
	}
	return p99(change, seed+1) / p99(0, seed+2)
}

// tally counts verdicts of one scenario and change.
type tally struct {
	jobs, blocks  int
	verdicts      map[stats.Verdict]int
	stalled       [2]int // blocks that the result calls stalled, baseline and candidate
	single        [3]int // beyond +5, +10 and +20 %
	singleOfThese int
}

func (t *tally) percent(v stats.Verdict) float64 {
	return 100 * float64(t.verdicts[v]) / float64(t.jobs)
}

type task struct {
	scenario, change, job int
}

// simulate plays so many jobs of each runner and change; usual adds what comparing one number with one number gives.
func simulate(list []scenario, jobs int, seed uint64, changes []float64, usual bool) ([][]tally, error) {
	metric, err := stats.ParseGateMetric("p99_ms")
	if err != nil {
		return nil, err
	}
	out := make([][]tally, len(list))
	for i := range out {
		out[i] = make([]tally, len(changes))
		for j := range out[i] {
			out[i][j].verdicts = map[stats.Verdict]int{}
		}
	}
	tasks := make(chan task)
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for t := range tasks {
				// Every job has a seed of its own: the result does not depend on who plays it when.
				id := seed ^ uint64(t.scenario+1)<<48 ^ uint64(t.change+1)<<40
				sim := newSimulation(list[t.scenario], id, uint64(t.job))
				r, err := sim.run(changes[t.change], metric)
				ratio := 0.0
				if usual && t.change == 0 { // only to show what the noise does to the usual way
					ratio = single(list[t.scenario], changes[t.change], id, uint64(t.job)+1<<32)
				}
				mu.Lock()
				c := &out[t.scenario][t.change]
				c.jobs++
				if r != nil {
					c.blocks += r.Blocks
					c.verdicts[r.Verdict]++
					c.stalled[0] += r.Arms.Baseline.StalledBlocks
					c.stalled[1] += r.Arms.Candidate.StalledBlocks
				}
				if ratio > 0 {
					c.singleOfThese++
					for i, limit := range []float64{1.05, 1.10, 1.20} {
						if ratio > limit {
							c.single[i]++
						}
					}
				}
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	for s := range list {
		for c := range changes {
			if list[s].stall > 0 && c > 0 {
				continue // the stall is the change
			}
			for j := range jobs {
				tasks <- task{s, c, j}
			}
		}
	}
	close(tasks)
	wg.Wait()
	return out, errors.Join(errs...)
}

func run(w io.Writer, args []string) error {
	fs := flag.NewFlagSet("gate-sim", flag.ContinueOnError)
	jobs := fs.Int("jobs", 200, "jobs in each cell")
	seed := fs.Uint64("seed", 20261120, "of all random numbers")
	if err := fs.Parse(args); err != nil {
		return err
	}
	changes := []float64{0, 0.05, 0.10, 0.20, 0.50}
	table, err := simulate(scenarios(), *jobs, *seed, changes, true)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d jobs a cell, seed %d: percent of jobs, by true change of p99; standard error at most %.1f points\n\n", *jobs, *seed, 50/math.Sqrt(float64(*jobs)))
	fmt.Fprint(&b, "| runner | what |")
	for _, c := range changes {
		fmt.Fprintf(&b, " +%.0f %% |", c*100)
	}
	fmt.Fprint(&b, "\n|---|---|"+strings.Repeat("--:|", len(changes))+"\n")
	row := func(name, what string, cell func(*tally) string, cells []tally) {
		fmt.Fprintf(&b, "| %s | %s |", name, what)
		for i := range cells {
			fmt.Fprintf(&b, " %s |", cell(&cells[i]))
		}
		fmt.Fprintln(&b)
	}
	for i, s := range scenarios() {
		cells := table[i]
		if s.stall > 0 {
			cells = cells[:1]
		}
		percentOf := func(v stats.Verdict) func(*tally) string {
			return func(t *tally) string { return fmt.Sprintf("%.1f", t.percent(v)) }
		}
		for _, v := range []stats.Verdict{stats.Fail, stats.Pass, stats.Inconclusive} {
			row(s.name, string(v), percentOf(v), cells)
		}
		row(s.name, "mean blocks", func(t *tally) string { return fmt.Sprintf("%.0f", float64(t.blocks)/float64(t.jobs)) }, cells)
		if s.stall > 0 {
			row(s.name, "blocks that the result calls stalled: baseline, candidate", func(t *tally) string {
				return fmt.Sprintf("%.1f, %.1f", float64(t.stalled[0])/float64(t.jobs), float64(t.stalled[1])/float64(t.jobs))
			}, cells)
			continue
		}
		for k, limit := range []string{"+5 %", "+10 %", "+20 %"} {
			row(s.name, "one number against one number, beyond "+limit, func(t *tally) string {
				return fmt.Sprintf("%.1f", 100*float64(t.single[k])/float64(max(t.singleOfThese, 1)))
			}, cells[:1])
		}
		if l := s.like; l != nil {
			fmt.Fprintf(&b, "| %s | *design: FAIL; PASS; mean blocks; one against one beyond +5, +10, +20 %%* | *%s* |\n", s.name, l)
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return check(table, changes)
}

// check holds the table against what docs/gate.md promises.
func check(table [][]tally, changes []float64) error {
	var errs []error
	for i, s := range scenarios() {
		errs = append(errs, s.unlike(table[i], changes)...)
		for j, c := range changes {
			t := &table[i][j]
			if t.jobs == 0 {
				continue // not played
			}
			if t.verdicts[stats.Invalid] > 0 {
				errs = append(errs, fmt.Errorf("%s, +%.0f %%: %d jobs are INVALID", s.name, c*100, t.verdicts[stats.Invalid]))
			}
			if f := t.percent(stats.Fail); c == 0 && f > 5 {
				errs = append(errs, fmt.Errorf("%s: %.1f %% of unchanged jobs fail, more than 5 %%", s.name, f))
			}
			if p := t.percent(stats.Pass); c >= 0.10 && p > 5 {
				errs = append(errs, fmt.Errorf("%s: %.1f %% of jobs with +%.0f %% pass, more than 5 %%", s.name, p, c*100))
			}
			least := map[string]map[float64]float64{"shared": {0.20: 90, 0.50: 99}, "dedicated": {0.20: 99, 0.50: 99}}[s.name][c]
			if f := t.percent(stats.Fail); f < least {
				errs = append(errs, fmt.Errorf("%s: +%.0f %% is found in %.1f %% of the jobs, less than %.0f %%", s.name, c*100, f, least))
			}
		}
	}
	return errors.Join(errs...)
}

// alike is by how many points our models may differ from those the rule was designed by: three standard errors of
// both, and what is left because the design does not state its parameters.
const alike = 15

// unlike says where a model is not the runner that it is named after: kinder noise would make the gate look better
// than it is.
func (s scenario) unlike(cells []tally, changes []float64) []error {
	if s.like == nil || len(changes) != len(s.like.fail) {
		return nil
	}
	var errs []error
	compare := func(what string, ours, theirs float64) {
		if math.Abs(ours-theirs) > alike {
			errs = append(errs, fmt.Errorf("%s: %s in %.1f %% of the jobs, and in %.0f %% where the rule was designed: the model is another", s.name, what, ours, theirs))
		}
	}
	for j, c := range changes {
		compare(fmt.Sprintf("+%.0f %% is FAIL", c*100), cells[j].percent(stats.Fail), s.like.fail[j])
		compare(fmt.Sprintf("+%.0f %% is PASS", c*100), cells[j].percent(stats.Pass), s.like.pass[j])
	}
	for k, limit := range []string{"+5", "+10", "+20"} {
		compare("one number is beyond another by "+limit+" %", 100*float64(cells[0].single[k])/float64(max(cells[0].singleOfThese, 1)), s.like.single[k])
	}
	return errs
}

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gate-sim:", err)
		os.Exit(1)
	}
}
