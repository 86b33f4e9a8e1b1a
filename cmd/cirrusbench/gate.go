package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/report"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// share is a flag value that is a part of a whole, written 5% or 0.05; it may exceed 100 % for changes.
type share float64

func (s *share) String() string { return strconv.FormatFloat(float64(*s)*100, 'g', 6, 64) + "%" }

func (s *share) Set(text string) error {
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		v /= 100
	}
	if err != nil || math.IsNaN(v) || v < 0 || v > 10 || !percent && v >= 1 {
		return fmt.Errorf("%q is not a share such as 5%% or 0.05", text)
	}
	*s = share(v)
	return nil
}

func (*share) Type() string { return "percent" }

type gateOptions struct {
	replayOptions // what is sent; the parts of replay that a gate shares
	priceFlags

	baseline, candidate       string
	baselineCmd, candidateCmd string
	self, selfCmd             string
	startTimeout              time.Duration
	metric                    string
	coinSeed                  uint64
	tolerance, alpha          share
	maxErrors, goal           share
	looks                     []int
	byOrg, allowUnsupported   bool
	force                     bool
	onInconclusive            string
	summary, comment          string
	junit, save               string
	annotate                  bool
}

func newGateCommand(e *env) *cobra.Command {
	o := gateOptions{tolerance: 0.05, alpha: 0.05, maxErrors: 0.01, replayOptions: replayOptions{maxDecoded: 64 << 20}}
	o.loop, o.timing, o.speed, o.shardBy, o.seed = true, "rate", 1, string(replay.BySource), 1
	cmd := &cobra.Command{
		Use:   "gate [CORPUS] --baseline A --candidate B",
		Short: "Decide whether a candidate's latency has regressed against a baseline",
		Long: `Decide whether a candidate is slower than a baseline by more than a tolerance, and say so by exit code.

Two URLs, two aliases of a Lambda function, or two commands that start a server, are measured in one job: in
every block both get the same requests, one after the other, a coin deciding who begins. After 10, 20 and 40
blocks the ratio of their p99 is estimated with exact limits that hold whatever noise the machine makes. PASS
and FAIL are each wrong in at most 5 % of the jobs; INCONCLUSIVE says that this machine is too noisy to tell.
Blocks in which the load generator was the limit are set aside.

A command is started without a shell and must print 'listening on http://…', or listen where --baseline or
--candidate says; it is stopped at the end. Two run files give advice only: a machine that was busier on the
other day looks like a regression. What a gate saved stands for its candidate there.

--self compares a target with itself, to learn how small a change this machine can show. CORPUS is as in
'cirrusbench replay'.

` + exitCodes(exitOK, exitFailed, exitUsage, exitSLO, exitInconclusive, exitInvalid, exitInterrupted),
		Example: `  cirrusbench gate --self-cmd 'cirrusbench serve --listen 127.0.0.1:0 --store null:' --metric p50_ms --requests 50 --rate 500 --tolerance 50% --on-inconclusive pass
  cirrusbench gate --baseline-cmd './old serve --listen 127.0.0.1:0' --candidate-cmd './new serve --listen 127.0.0.1:0' --summary "$GITHUB_STEP_SUMMARY"
  cirrusbench gate --baseline https://blue.example.com --candidate https://green.example.com --slo 'p99<250ms' --junit gate.xml
  cirrusbench gate --baseline lambda://writer:blue --candidate lambda://writer:green --metric cost_usd_per_million`,
		Args: argsRange(0, 1, "CORPUS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.drains.Store(true)
			if !cmd.Flags().Changed("annotate") {
				o.annotate = e.getenv("GITHUB_ACTIONS") == "true"
			}
			return runGate(cmd.Context(), e, &o, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.baseline, "baseline", "", "what to compare with: a URL, a run file, or what a gate has saved")
	f.StringVar(&o.candidate, "candidate", "", "what is judged: a URL, a run file, or what a gate has saved")
	f.StringVar(&o.baselineCmd, "baseline-cmd", "", "command that starts the baseline's server")
	f.StringVar(&o.candidateCmd, "candidate-cmd", "", "command that starts the candidate's server")
	f.StringVar(&o.self, "self", "", "URL to compare with itself, to measure the noise")
	f.StringVar(&o.selfCmd, "self-cmd", "", "command that starts a server, run twice and compared with itself")
	f.DurationVar(&o.startTimeout, "start-timeout", 30*time.Second, "how long a command may take until it listens")
	f.StringVar(&o.metric, "metric", stats.GateMetricNames()[0], "what decides: "+strings.Join(stats.GateMetricNames(), ", "))
	f.Var(&o.tolerance, "tolerance", "change that is accepted")
	f.Var(&o.alpha, "alpha", "probability of either wrong verdict")
	f.IntSliceVar(&o.looks, "looks", []int{10, 20, 40}, "numbers of blocks after which to look")
	f.Var(&o.maxErrors, "max-errors", "share of requests that may fail")
	f.StringVar(&o.slo, "slo", "", "objectives of the candidate by itself, such as 'p99<250ms,error_ratio<0.1%'")
	f.Var(&o.goal, "goal", "change that you want to find: prints the blocks it takes")
	f.BoolVar(&o.byOrg, "by-org", false, "judge each org by itself (Holm's correction)")
	f.BoolVar(&o.allowUnsupported, "allow-unsupported", false, "judge a percentile that has too few requests behind it")
	f.BoolVar(&o.force, "force", false, "compare run files of unlike plans or corpora")
	f.StringVar(&o.onInconclusive, "on-inconclusive", "", "exit code when INCONCLUSIVE: pass (0) or fail (3) instead of 4")
	o.targetFlags.add(f)
	o.addPrices(f)
	o.completePrices(cmd)
	_ = f.MarkHidden("target") // there are two, with names of their own
	f.Float64Var(&o.rate, "rate", 250, "requests per second")
	f.StringVar(&o.arrival, "arrival", "constant", "constant: evenly; poisson: at random, with the rate as the mean")
	f.IntVar(&o.fanOut, "fan-out", 0, "send each capture as this many clusters, each with series of its own (default: 1, and 20 for the bundled captures)")
	f.StringVar(&o.fanOutLabel, "fan-out-label", "cluster", "the label that makes the series of a fan-out differ")
	f.IntVar(&o.requests, "requests", 1000, "requests of each arm in each block; a tenth more go before them, not counted")
	f.IntVar(&o.maxInFlight, "max-in-flight", 256, "requests in flight at most; waiting for one is part of latency")
	f.StringVar(&o.order, "order", "source", "source: requests of an org's cluster never overtake each other; none")
	f.StringVar(&o.timestamps, "timestamps", "shift", "keep; shift: each pass so that its newest sample is now; now: each request")
	f.StringVar(&o.org, "org", "", "replay only what this org sent")
	f.StringVar(&o.cluster, "cluster", "", "replay only what clusters of this name sent")
	f.Var(&o.maxDecoded, "max-decoded", "largest decoded body in the corpus")
	f.Uint64Var(&o.coinSeed, "seed", 0, "of the coin that orders the arms, kept in the result (0: a new one each time)")
	f.StringArrayVar(&o.labels, "label", nil, "note in the result, as name=value (repeatable), such as git_sha=…")
	f.StringVar(&o.summary, "summary", "", "append the verdict as Markdown to this file, such as $GITHUB_STEP_SUMMARY")
	f.StringVar(&o.comment, "comment", "", "write the verdict as Markdown for a comment, at most 65,536 characters, to this file")
	f.StringVar(&o.junit, "junit", "", "write the verdict as JUnit XML to this file")
	f.StringVar(&o.save, "save", "", "write the result as JSON to this file (baseline.json)")
	f.BoolVar(&o.annotate, "annotate", false, "print GitHub annotations to standard error (default: when GITHUB_ACTIONS is true)")
	addResultFlags(cmd, &o.output, &o.out, "table", "json", "markdown")
	for name, values := range map[string][]string{
		"order": {"source", "none"}, "timestamps": {"keep", "shift", "now"}, "arrival": {"constant", "poisson"},
		"sender": {"auto", "raw", "nethttp"}, "retry": {"none", "prometheus", "prometheus+429"}, "metric": stats.GateMetricNames(), "on-inconclusive": {"pass", "fail"},
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
	}
	return cmd
}

// gatePlan is what the flags come to, checked.
type gatePlan struct {
	config         stats.GateConfig
	baseline, cand gateTarget
	files          bool
	plan           replay.PlanConfig
	labels         map[string]string
	seed           uint64
	prices         *pricer
	hint           string // what to do about an INVALID
}

// gateTarget is one side as the user gave it.
type gateTarget struct {
	arm      stats.GateArm
	location string   // URL or file; may be empty when there is a command
	command  []string // nil when there is none
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") || isLambda(s)
}

func runGate(ctx context.Context, e *env, o *gateOptions, args []string) error {
	p, err := o.settle(e)
	if err != nil {
		return err
	}
	if err := checkWritable(o.out, o.summary, o.comment, o.junit, o.save); err != nil {
		return err
	}
	var r *stats.GateResult
	if p.files {
		if len(args) > 0 {
			return usagef("leave it out", "run files hold what was sent: a corpus has no use")
		}
		r, err = gateFiles(e, p, o.force)
	} else {
		r, err = gateLive(ctx, e, o, p, args)
	}
	if err != nil {
		return err
	}
	r.Tool, r.Labels = tool(), p.labels
	interrupted := ctx.Err() != nil
	ending := o.endingOfGate(r, interrupted)
	if p.hint != "" && r.Verdict == stats.Invalid && !interrupted {
		ending = withHint(ending, p.hint)
	}
	return errors.Join(o.deliverGate(e, r, interrupted), ending)
}

// settle checks all that needs neither file nor network.
func (o *gateOptions) settle(e *env) (*gatePlan, error) {
	p := &gatePlan{seed: o.coinSeed}
	metric, err := stats.ParseGateMetric(o.metric)
	if err != nil {
		return nil, usagef(hintOf(err), "%v", err)
	}
	if o.allowUnsupported {
		metric = metric.WithoutSupport()
	}
	objectives, err := stats.ParseGateObjectives(o.slo)
	if err != nil {
		return nil, usagef(hintOf(err), "%v", err)
	}
	p.config = stats.GateConfig{
		Rule:   stats.GateRule{Tolerance: float64(o.tolerance), Alpha: float64(o.alpha), Looks: o.looks},
		Metric: metric, ByOrg: o.byOrg, MaxErrorRatio: float64(o.maxErrors), Objectives: objectives,
		Self: o.self != "" || o.selfCmd != "", Goal: float64(o.goal),
	}
	if _, err := stats.NewGate(p.config); err != nil {
		return nil, usagef("run 'cirrusbench gate --help' for an example", "%v", err)
	}
	if o.onInconclusive != "" && o.onInconclusive != "pass" && o.onInconclusive != "fail" {
		return nil, usagef("use pass or fail", "--on-inconclusive must be pass or fail, not %q", o.onInconclusive)
	}
	if p.prices, err = o.pricer(); err != nil {
		return nil, err
	}
	if p.labels, err = keyValues("label", o.labels); err != nil {
		return nil, err
	}
	if _, err := o.header(); err != nil { // before any server is started
		return nil, err
	}
	if o.target != "" {
		return nil, usagef("give --baseline and --candidate, or --self", "a gate has no --target")
	}
	if err := o.targets(p); err != nil {
		return nil, err
	}
	if p.files {
		return p, nil
	}
	o.warmup = strconv.Itoa((o.requests + 9) / 10)
	if o.rate <= 0 || o.requests < 1 {
		return nil, usagef("give both, such as --rate 250 --requests 1000", "a gate measures in an open loop: rate and requests must be positive")
	}
	if p.plan, _, err = o.check(e); err != nil {
		return nil, err
	}
	if p.seed == 0 {
		p.seed = rand.Uint64() >> 11 // drawn once and kept; 53 bits, which every JSON reader holds
	}
	return p, nil
}

// targets settles what is compared with what.
func (o *gateOptions) targets(p *gatePlan) error {
	const hint = "give --baseline and --candidate (two URLs, or two run files), --baseline-cmd and --candidate-cmd, or --self URL"
	baseline, candidate, baselineCmd, candidateCmd := o.baseline, o.candidate, o.baselineCmd, o.candidateCmd
	if p.config.Self {
		if baseline != "" || candidate != "" || baselineCmd != "" || candidateCmd != "" || (o.self != "" && o.selfCmd != "") {
			return usagef(hint, "a target that is compared with itself has no other")
		}
		baseline, candidate, baselineCmd, candidateCmd = o.self, o.self, o.selfCmd, o.selfCmd
	}
	for _, t := range []struct {
		to            *gateTarget
		arm           stats.GateArm
		location, cmd string
	}{{&p.baseline, stats.Baseline, baseline, baselineCmd}, {&p.cand, stats.Candidate, candidate, candidateCmd}} {
		*t.to = gateTarget{arm: t.arm, location: t.location}
		switch {
		case t.location == "" && t.cmd == "":
			return usagef(hint, "there is no %s", t.arm)
		case strings.Contains(t.location, "://") && !isURL(t.location):
			return usagef("give an http:// or https:// URL, lambda://FUNCTION, or the name of a run file", "the %s %q cannot be measured", t.arm, t.location)
		case t.cmd != "" && t.location != "" && !isURL(t.location):
			return usagef("give the URL on which the command listens, or none if it prints 'listening on http://…'", "the %s has a command and a file", t.arm)
		case t.cmd != "":
			words, err := splitCommand(t.cmd)
			if err != nil {
				return usagef("write the command as in a shell: words, quoted where they hold spaces", "--%s-cmd: %v", t.arm, err)
			}
			t.to.command = words
		}
	}
	files := 0
	for _, t := range []gateTarget{p.baseline, p.cand} {
		if t.command == nil && !isURL(t.location) {
			files++
		}
	}
	if files == 1 {
		return usagef("measure both live, which is the real gate; or record the other with 'cirrusbench replay --out run.json'", "a run file can only be compared with a run file")
	}
	p.files = files == 2
	if p.files && p.config.Self {
		return usagef("give a URL", "--self measures, and needs something to measure")
	}
	return nil
}

// gateFiles compares two stored runs.
func gateFiles(e *env, p *gatePlan, force bool) (*stats.GateResult, error) {
	var runs [2]*stats.Run
	var samples [2]stats.GateSample
	for i, t := range []gateTarget{p.baseline, p.cand} {
		run, sample, err := readStored(e, t.location, p.config.ByOrg)
		if _, ok := errors.AsType[*os.PathError](err); ok {
			if hostPort.MatchString(t.location) && errors.Is(err, fs.ErrNotExist) {
				err = withHint(err, "write http://"+t.location+" to measure what listens there")
			}
			return nil, err // no such file: nothing was measured, well or badly
		}
		if err != nil {
			p.hint = cmp.Or(hintOf(err), "give a file that 'cirrusbench replay --out' or 'cirrusbench gate --save' wrote")
			return invalidGate(p, fmt.Sprintf("the %s cannot be judged: %v", t.arm, err)), nil
		}
		p.prices.addBilled(&sample, run)
		runs[i], samples[i] = run, sample
	}
	if why := unlike(runs[0], runs[1]); why != "" && !force {
		r := invalidGate(p, why)
		r.Arms.Baseline.Target, r.Arms.Candidate.Target = runs[0].Target, runs[1].Target
		p.hint = "give --force to compare them all the same"
		return r, nil
	}
	r, err := stats.CompareStored(p.config, &samples[0], &samples[1])
	if err != nil {
		return nil, usagef(hintOf(err), "%v", err)
	}
	for i := range samples {
		if needs := p.config.Metric.Needs(); samples[i].Counts.Sent > 0 && samples[i].Counts.Sent < needs {
			p.hint = p.moreRequests(needs)
		}
	}
	r.Plan, r.Corpus, r.StartedAt, r.FinishedAt = runs[1].Plan, runs[1].Corpus, runs[1].StartedAt, runs[1].FinishedAt
	r.Arms.Baseline.Target, r.Arms.Candidate.Target = runs[0].Target, runs[1].Target
	r.Arms.Baseline.CostPerMillion, r.Arms.Candidate.CostPerMillion = samples[0].CostPerMillion, samples[1].CostPerMillion
	return r, nil
}

// invalidGate is the result when not even a block could be made.
func invalidGate(p *gatePlan, reason string) *stats.GateResult {
	g, err := stats.NewGate(p.config)
	if err != nil { // the configuration was checked before
		return &stats.GateResult{Schema: stats.GateSchema, Verdict: stats.Invalid, Reasons: []string{err.Error()}}
	}
	g.Stop(reason)
	r := g.Result()
	r.Advisory = p.files
	return r
}

// deliverGate writes and prints the result in every form that was asked for. For people there is nothing in one that was
// interrupted before its first block: that is said at the end.
func (o *gateOptions) deliverGate(e *env, r *stats.GateResult, interrupted bool) error {
	var errs []error
	if o.save != "" {
		errs = append(errs, emit(e, o.save, r.WriteJSON))
	}
	if o.junit != "" {
		errs = append(errs, emit(e, o.junit, func(w io.Writer) error { return report.GateJUnit(w, r) }))
	}
	if o.summary != "" {
		errs = append(errs, appendSummary(e, o.summary, r))
	}
	if o.comment != "" {
		errs = append(errs, emit(e, o.comment, func(w io.Writer) error { return report.GateSummary(w, r, report.MaxComment) }))
	}
	if o.annotate {
		errs = append(errs, report.GateAnnotations(e.err, r))
	}
	if interrupted && r.Blocks == 0 && o.output != "json" && o.out == "" {
		return errors.Join(errs...)
	}
	errs = append(errs, emit(e, o.out, func(w io.Writer) error {
		if o.output == "json" {
			return r.WriteJSON(w)
		}
		return report.Gate(w, report.Format(o.output), r)
	}))
	return errors.Join(errs...)
}

// appendSummary adds the verdict to a step summary, which other steps write to as well.
func appendSummary(e *env, path string, r *stats.GateResult) error {
	room := report.MaxStepSummary
	if info, err := os.Stat(path); err == nil {
		room -= int(min(info.Size(), report.MaxStepSummary))
	}
	var b strings.Builder
	if err := report.GateSummary(&b, r, room); err != nil {
		return err
	}
	if b.Len() == 0 {
		e.sayf("note: %s has no room for the verdict: steps before have filled the %d bytes that it may have", path, report.MaxStepSummary)
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return withHint(fmt.Errorf("appending the summary: %w", err), writeHint(path))
	}
	_, err = f.WriteString(b.String())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("appending the summary: %w", err)
	}
	return nil
}

// endingOfGate is what a gate says by its exit code.
func (o *gateOptions) endingOfGate(r *stats.GateResult, interrupted bool) error {
	why := strings.Join(r.Reasons, "; ")
	switch {
	case interrupted:
		return &statusError{code: exitInterrupted, msg: fmt.Sprintf("interrupted: no verdict after %s of up to %d", plural(int64(r.Blocks), "block"), slices.Max(append(r.Looks, 0)))}
	case r.Verdict == stats.Pass:
		return nil
	case r.Verdict == stats.Fail:
		return &statusError{code: exitSLO, msg: "FAIL: " + why}
	case r.Verdict == stats.Inconclusive && o.onInconclusive == "pass":
		return nil
	case r.Verdict == stats.Inconclusive && o.onInconclusive == "fail":
		return withHint(&statusError{code: exitSLO, msg: "INCONCLUSIVE, which --on-inconclusive makes a failure: " + why}, quieter(r))
	case r.Verdict == stats.Inconclusive:
		return withHint(&statusError{code: exitInconclusive, msg: "INCONCLUSIVE: " + why}, quieter(r))
	default:
		return &statusError{code: exitInvalid, msg: "INVALID: " + why}
	}
}

// quieter is what to do about INCONCLUSIVE.
func quieter(r *stats.GateResult) string {
	if r.Self {
		return "use a quieter machine, more requests a block, or a --tolerance that this machine can show"
	}
	return "use a quieter machine or more requests a block; --self says what this machine can show"
}

// hostPort is a target as curl takes it, which is not the name of a file.
var hostPort = regexp.MustCompile(`^(localhost|[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}(/|$)`)

// readRunFile opens and checks a run file; - is standard input.
func readRunFile(e *env, name string) (*stats.Run, error) {
	in, label, closeInput, err := openInput(e, name)
	if err != nil {
		return nil, err
	}
	defer closeInput()
	return stats.ReadRun(in, label)
}

// readStored opens and checks a run file or a result that a gate saved, and takes from it what is compared; - is standard
// input.
func readStored(e *env, name string, byOrg bool) (*stats.Run, stats.GateSample, error) {
	in, label, closeInput, err := openInput(e, name)
	if err != nil {
		return nil, stats.GateSample{}, err
	}
	defer closeInput()
	return stats.ReadStored(in, label, byOrg)
}

// unlike says why two runs cannot be compared; empty when they can.
func unlike(a, b *stats.Run) string {
	var why []string
	if a.Corpus.SHA256 != b.Corpus.SHA256 {
		why = append(why, "the corpora are not the same")
	}
	if a.Plan.SHA256 != b.Plan.SHA256 {
		why = append(why, "the plans are not the same")
	}
	return strings.Join(why, " and ")
}

// splitCommand splits a command line into words as a shell does, with quotes and backslashes and nothing else.
func splitCommand(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	inWord, escaped := false, false
	for _, r := range s {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			inWord, escaped = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	switch {
	case quote != 0 || escaped:
		return nil, errors.New("a quote is not closed")
	case len(words) == 0:
		return nil, errors.New("the command is empty")
	}
	return slices.Clip(words), nil
}

// unavailable tells whether the plan asks for fewer requests than the metric needs: that is known before a
// byte is sent.
func (p *gatePlan) unavailable(plan *replay.Plan) string {
	needs := p.config.Metric.Needs()
	if int64(plan.Requests) >= needs {
		return ""
	}
	p.hint = p.moreRequests(needs)
	return fmt.Sprintf("%s needs %d requests of each arm in each block, and %d are planned", p.config.Metric.Name, needs, plan.Requests)
}

// moreRequests is what to do when a metric needs more requests than there are.
func (p *gatePlan) moreRequests(needs int64) string {
	return fmt.Sprintf("measure with --requests %d or more, or judge by another --metric; --allow-unsupported judges %s all the same", needs, p.config.Metric.Name)
}
