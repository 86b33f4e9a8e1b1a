package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cirrusbench/cirrusbench/fixtures"
	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/report"
	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

type replayOptions struct {
	planFlags
	targetFlags
	shardFlags

	org, cluster      string
	maxInFlight       int
	order, timestamps string
	labels            []string
	maxDecoded        byteSize
	slo               string
	output, out       string
	html, hlog        string
	live, findMax     bool
}

func newReplayCommand(e *env) *cobra.Command {
	o := replayOptions{maxDecoded: 64 << 20}
	cmd := &cobra.Command{
		Use:   "replay [CORPUS]",
		Short: "Replay captured requests against an endpoint and measure its latency",
		Long: `Replay captured remote-write requests against an endpoint and measure how long each takes.

CORPUS is a location that 'cirrusbench serve' has written to: ./dir, file:///abs/dir or
s3://bucket/prefix (configured as for the AWS CLI, AWS_ENDPOINT_URL_S3 included). Without one, the
captures bundled in this program are replayed; without --target, against the bundled reference server,
started in this process on loopback with a temporary store. --target lambda://FUNCTION[:ALIAS] invokes a
Lambda function (configured as for the AWS CLI) and records what each invocation was billed; --billed-from joins a
run against a function URL with Lambda's log, and with --gateway-log one against an API Gateway.

With --rate, --ramp, --steps or --timing original, requests are due at planned times whatever the server
does (open loop), and latency counts from then: a server that stands still for a second shows a second.
Without them each request waits for an answer before it (closed loop, --concurrency). Requests of one source, which is an org's
cluster, keep their order: at most one of them is in flight (--order none lifts that).

The whole plan is known before the first byte is sent: --dry-run prints it, and --shard executes one part
of it, in as many processes as there are parts; --object-store lets these begin together and leave their
results for 'cirrusbench merge'. --fan-out sends every capture as several clusters.
--find-max runs one rate after the other for --duration each (10 s) and prints the highest that meets --slo,
with 99 % of the requests sent in time, no pile of requests in flight and a generator that was not the limit.
--retry prometheus sends failed requests again; the time for all attempts is one latency.

The first interrupt (Ctrl-C) stops sending, waits for the requests in flight and writes the full result;
a second one kills.

` + exitCodes(exitOK, exitFailed, exitUsage, exitSLO, exitInvalid, exitInterrupted),
		Example: `  cirrusbench replay --rate 100 --duration 2s
  cirrusbench replay --timing original --speed 4 --max-gap 10s --dry-run
  cirrusbench replay --rate 50 --arrival poisson --duration 5s --slo 'p99<2s,error_ratio<1%'
  cirrusbench replay ./data --target https://example.com/api/v1/write --concurrency 4 --requests 1000 --out run.json`,
		Args: argsRange(0, 1, "CORPUS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := notZero(cmd.Flags(), "rate", "concurrency", "duration", "requests"); err != nil {
				return err
			}
			e.drains.Store(true)
			return runReplay(cmd.Context(), e, &o, args)
		},
	}
	f := cmd.Flags()
	o.planFlags.add(f)
	o.targetFlags.add(f)
	o.shardFlags.add(f)
	f.IntVar(&o.maxInFlight, "max-in-flight", 256, "open loop: requests in flight at most; waiting for one is part of latency")
	f.StringVar(&o.order, "order", "source", "source: requests of an org's cluster never overtake each other; none")
	f.StringVar(&o.timestamps, "timestamps", "shift", "keep; shift: move each pass so that its newest sample is now; now: move each request")
	f.StringVar(&o.org, "org", "", "replay only what this org sent")
	f.StringVar(&o.cluster, "cluster", "", "replay only what clusters of this name sent")
	f.Var(&o.maxDecoded, "max-decoded", "largest decoded body in the corpus")
	f.StringVar(&o.slo, "slo", "", "objectives, such as 'p99<250ms,error_ratio<0.1%'; a broken one is exit code 3")
	f.BoolVar(&o.findMax, "find-max", false, "search the highest rate that meets --slo: double from --rate, then halve the interval to 5 %")
	f.StringArrayVar(&o.labels, "label", nil, "note in the run file, as name=value (repeatable)")
	f.StringVar(&o.out, "out", "", "write the run to this file (run.json)")
	f.StringVar(&o.html, "html", "", "write a page about the run to this file")
	f.StringVar(&o.hlog, "hlog", "", "write the latencies to this file as an HDR histogram log")
	f.BoolVar(&o.live, "live", false, "redraw a table of percentiles while the run goes on")
	addOutputFlag(cmd, &o.output, "table", "json", "markdown")
	for name, values := range map[string][]string{
		"order": {"source", "none"}, "timestamps": {"keep", "shift", "now"}, "arrival": {"constant", "poisson"}, "timing": {"rate", "original"},
		"shard-by": {"source", "request"}, "sender": {"auto", "raw", "nethttp"}, "retry": {"none", "prometheus", "prometheus+429"},
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
	}
	return cmd
}

// notZero refuses a 0 that was given for one of the named flags: it would mean what leaving the flag out means, and so start another
// run than the one that was asked for.
func notZero(f *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		if v := f.Lookup(name); v.Changed && v.Value.String() == v.DefValue && strings.Trim(v.DefValue, "0s") == "" {
			return usagef("leave --"+name+" out, or give it a value", "%s must be positive, not %s", name, v.Value)
		}
	}
	return nil
}

// check looks at every flag before any file is read: wrong usage comes first, and all of it at once.
func (o *replayOptions) check(e *env) (pc replay.PlanConfig, objectives []replay.Objective, err error) {
	pc, planErr := o.config(e.getenv)
	pc.Terms = o.terms()
	errs := []error{
		planErr, o.targetFlags.check(), o.shardFlags.check(o.shard != "", o.findMax || o.dryRun),
		oneOf("order", o.order, "source", "none"), oneOf("timestamps", o.timestamps, "keep", "shift", "now"),
	}
	if o.maxInFlight < 1 {
		errs = append(errs, fmt.Errorf("--max-in-flight must be at least 1, not %d", o.maxInFlight))
	}
	if o.slo != "" {
		var sloErr error
		objectives, sloErr = replay.ParseObjectives(o.slo)
		errs = append(errs, sloErr)
	}
	if o.findMax {
		errs = append(errs, o.checkFindMax())
	}
	if err := errors.Join(errs...); err != nil {
		return pc, nil, usagef("run 'cirrusbench replay --help' for an example", "%v", err)
	}
	return pc, objectives, nil
}

func runReplay(ctx context.Context, e *env, o *replayOptions, args []string) (err error) {
	pc, objectives, err := o.check(e)
	if err != nil {
		return err
	}
	labels, err := keyValues("label", o.labels)
	if err != nil {
		return err
	}
	header, err := o.header()
	if err != nil {
		return err
	}
	if err := o.checkFiles(); err != nil {
		return err
	}
	corpus, err := o.loadCorpus(ctx, args)
	if err != nil {
		return err
	}
	if pc.FanOut == 0 && len(args) == 0 {
		// Ten captures of five clusters are real, and too few senders: at a rate worth measuring each would wait for
		// its own requests. A hundred clusters at 1 a second are what a fleet looks like.
		pc.FanOut = 20
	}
	plan, err := o.plan(pc, corpus)
	if err != nil {
		return err
	}
	if o.dryRun {
		return emit(e, o.out, func(w io.Writer) error { return printPlan(w, o.output, plan, corpus) })
	}

	target := stats.Target{URL: o.target, Kind: "http"}
	if isLambda(o.target) {
		target.Kind = "lambda"
	}
	if o.target == "" {
		embedded, err := startEmbedded(ctx, o.maxDecoded)
		if err != nil {
			return fmt.Errorf("starting the bundled server: %w", err)
		}
		defer func() { err = errors.Join(err, embedded.stop()) }()
		target = stats.Target{URL: embedded.url, Kind: "embedded"}
		e.sayf("no --target: started the bundled server on %s with a temporary store", embedded.url)
	}
	maxInFlight := o.maxInFlight
	if plan.Loop == replay.Closed {
		maxInFlight = plan.Concurrency
	}
	sender, err := o.newSender(ctx, e, target.URL, maxInFlight)
	if err != nil {
		return err
	}
	defer sender.Close()
	target.URL = sender.URL()
	warnPart(e, plan)
	warnOrder(e, o, plan, corpus)
	warnBacklog(e, o.timestamps, plan, corpus)

	x := &execution{e: e, o: o, corpus: corpus, sender: sender, target: target, labels: labels, objectives: objectives, secrets: o.secrets(header, o.target)}
	if o.findMax {
		return x.findMax(ctx, pc)
	}
	if o.objectStore != "" {
		return x.shard(ctx, plan)
	}
	run, result, err := x.run(ctx, plan)
	if run == nil {
		return err
	}
	if err := errors.Join(o.deliver(e, run, result), err); err != nil {
		return err // a result that is lost outweighs what it says
	}
	remark(e, run)
	return ending(run)
}

// checkFiles finds out before a run that each of its results has a place of its own.
func (o *replayOptions) checkFiles() error {
	flags, names := []string{"--out", "--html", "--hlog"}, []string{o.out, o.html, o.hlog}
	for i, name := range names {
		for j, other := range names[:i] {
			if other == "" || filepath.Clean(other) != filepath.Clean(name) {
				continue
			}
			if info, err := os.Stat(other); err == nil && !info.Mode().IsRegular() {
				continue // a pipe or a terminal takes both
			}
			return usagef("give each a name of its own", "%s and %s both write %s", flags[j], flags[i], other)
		}
	}
	return checkWritable(names...)
}

// terms are how requests are sent, as far as it makes two runs different ones.
func (o *replayOptions) terms() replay.Terms {
	return replay.Terms{
		Order: replay.Order(o.order), Timestamps: replay.TimestampMode(o.timestamps), Timeout: o.timeout, MaxInFlight: o.maxInFlight, Retry: o.retry,
	}
}

// execution is everything that a run needs but its plan.
type execution struct {
	e          *env
	o          *replayOptions
	corpus     *capture.Corpus
	sender     sender
	target     stats.Target
	labels     map[string]string
	objectives []replay.Objective
	secrets    []string
	startAt    time.Time // when it begins; zero: at once
}

// config is what replay gets of a plan, but for who is told of its progress.
func (x *execution) config(plan *replay.Plan) replay.Config {
	o := x.o
	return replay.Config{
		Corpus: x.corpus, Plan: plan, Sender: x.sender, Destination: destination(x.target), Timestamps: replay.TimestampMode(o.timestamps),
		Order: replay.Order(o.order), MaxInFlight: o.maxInFlight, Timeout: o.timeout, DrainTimeout: o.drainTimeout, MaxDecoded: int(o.maxDecoded),
		Retry: o.retries(), HashBodies: o.sigv4 != "", FanOutLabel: o.fanOutLabel,
		Secrets: x.secrets, StartAt: x.startAt, Observe: x.e.observe,
	}
}

// run executes a plan. An error beside a run says that its numbers do not add up: it is better looked at than
// lost.
func (x *execution) run(ctx context.Context, plan *replay.Plan) (*stats.Run, *replay.Result, error) {
	e, o := x.e, x.o
	bar := newProgress(e.err, e.errTTY, o.live, plan)
	config := x.config(plan)
	config.Progress, config.Interval = bar.update, bar.interval
	// Who waits for answers after an interrupt should know that this is what happens.
	quiet := context.AfterFunc(ctx, func() { e.sayf("interrupted: waiting for the requests in flight; a second interrupt kills") })
	result, err := replay.Run(ctx, config)
	quiet()
	bar.close()
	if err != nil {
		return nil, nil, err
	}
	run := &stats.Run{Tool: tool(), Labels: x.labels}
	sums := errors.Join(result.Fill(run, config, x.target), o.bill(context.WithoutCancel(ctx), e, x.sender, run))
	run.Objectives = replay.Judge(x.objectives, run)
	return run, result, sums
}

// remark says what a reader of the percentiles must know.
func remark(e *env, run *stats.Run) {
	c := &run.Counts
	if failed := c.Failed + c.TimedOut; failed > 0 && c.OK > 0 {
		e.sayf("note: %s of %s failed (%s): the latencies are those of the others", count(failed), plural(c.Sent, "request"), mostFrequent(run.Errors))
	}
	if c.Unconfirmed > 0 {
		e.sayf("note: %s requests of protocol 2.0 were answered without the headers that say what was written: nothing confirms their samples", count(c.Unconfirmed))
	}
}

// mostFrequent names the class of most errors.
func mostFrequent(all []stats.ErrorCount) string {
	if len(all) == 0 {
		return "no class"
	}
	top := stats.MostFrequent(all)
	return fmt.Sprintf("%s × %s", top.Class, count(top.Count))
}

// deadHint is what to look at when no request succeeded, by what most of them failed with.
func deadHint(run *stats.Run) string {
	switch top := stats.MostFrequent(run.Errors); {
	case strings.Contains(top.Example, "server gave HTTP response to HTTPS client"), strings.Contains(top.Example, "first record does not look like a TLS handshake"):
		return "the target speaks no TLS there: write http:// in --target"
	case top.Class == "http_401" || top.Class == "http_403":
		return "the target asks who sends: give --api-key-file, --bearer-token-file or --sigv4"
	case top.Class == "http_404" || top.Class == "http_405":
		return "the target takes no remote write at this path: its usual one is /api/v1/write"
	case top.Class == "connection_refused":
		return "nothing listens at that address: is the target up, and is the port right?"
	case top.Class == "dns":
		return "the name of the target's host is not known: is it spelled right?"
	case top.Class == "tls":
		return "the target's certificate is not trusted: give its authority with --cacert"
	case top.Class == replay.ClientExhausted:
		return exhaustedHint
	}
	return "is the target up, and does it take remote write at this path?"
}

const exhaustedHint = "raise this process's limit of open files (ulimit -n), or lower --max-in-flight or --concurrency"

// ending is what a run says by its exit code when its result is out.
func ending(run *stats.Run) error {
	switch {
	case run.Interrupted:
		return &statusError{code: exitInterrupted, msg: fmt.Sprintf("interrupted: %s of %s not sent", count(run.Counts.NotSent), plural(run.Counts.Planned, "request"))}
	case run.Counts.OK == 0:
		return withHint(&statusError{code: exitInvalid, msg: "INVALID: " + cmp.Or(run.NoSuccess(), "no request was planned")},
			deadHint(run))
	case run.Client.Verdict != "valid" && run.Counts.NotSent > 0:
		return withHint(&statusError{code: exitInvalid, msg: "INVALID: " + strings.Join(run.Client.Reasons, "; ")},
			"the target is slower than the plan: lower --rate, or give it more time with --drain-timeout")
	case run.Client.Verdict != "valid":
		invalid := &statusError{code: exitInvalid, msg: "INVALID: the load generator was the limit: " + strings.Join(run.Client.Reasons, "; ")}
		if broken := brokenObjectives(run); broken != nil {
			invalid.msg += "\n" + broken.Error()
		}
		hint := "lower --rate, or run the generator on a machine of its own"
		if slices.ContainsFunc(run.Errors, func(e stats.ErrorCount) bool { return e.Class == replay.ClientExhausted }) {
			hint = exhaustedHint
		} else if len(run.Client.Reasons) == 1 && strings.HasPrefix(run.Client.Reasons[0], "the hypervisor") {
			hint = "others on this machine's host take its processors: run it again, or on a machine that shares none"
		}
		return withHint(invalid, hint)
	}
	return brokenObjectives(run)
}

func brokenObjectives(run *stats.Run) error {
	var broken []string
	for _, o := range run.Objectives {
		if !o.Met {
			broken = append(broken, fmt.Sprintf("%s, measured %s", o.Objective, o.Measured))
		}
	}
	if len(broken) > 0 {
		return &statusError{code: exitSLO, msg: "SLO broken: " + strings.Join(broken, "; ")}
	}
	return nil
}

// deliver writes and prints the result.
func (o *replayOptions) deliver(e *env, run *stats.Run, result *replay.Result) error {
	var errs []error
	if o.hlog != "" {
		errs = append(errs, emit(e, o.hlog, func(w io.Writer) error { return result.Recorder.WriteHLog(w, result.MeasuredAt, tool()) }))
	}
	if o.out != "" {
		errs = append(errs, emit(e, o.out, run.WriteJSON))
	}
	if o.html != "" {
		errs = append(errs, emit(e, o.html, func(w io.Writer) error { return report.RunHTML(w, run) }))
	}
	if o.output == "json" {
		return errors.Join(append(errs, run.WriteJSON(e.out))...)
	}
	return errors.Join(append(errs, report.Run(e.out, report.Format(o.output), run))...)
}

// loadCorpus opens and verifies the corpus: the bundled one without a location.
func (o *replayOptions) loadCorpus(ctx context.Context, args []string) (*capture.Corpus, error) {
	opt := capture.Options{Org: o.org, Cluster: o.cluster, Location: "bundled", Limits: remotewrite.Limits{MaxDecodedBytes: int(o.maxDecoded)}}
	s := store.Store(store.FromFS(fixtures.Corpus()))
	if len(args) > 0 {
		if strings.HasPrefix(args[0], "http://") || strings.HasPrefix(args[0], "https://") || isLambda(args[0]) {
			// The URL is not repeated: it may hold a key.
			return nil, usagef("write --target before the URL; CORPUS is a location of captures, such as ./data", "a URL is where requests go, not a corpus")
		}
		opened, err := openExisting(ctx, args[0])
		if err != nil {
			return nil, err
		}
		s, opt.Location = opened, args[0]
	}
	return capture.Load(ctx, s, opt)
}

// openExisting opens a location to read from: a directory that is not there is a mistake, not an empty
// store to create.
func openExisting(ctx context.Context, location string) (store.Store, error) {
	const hint = "give a directory that 'cirrusbench serve --store' has written to, or none for the bundled captures"
	if fi, err := os.Stat(location); err == nil && !fi.IsDir() {
		return nil, withHint(fmt.Errorf("opening corpus: %s is a file, not a directory", location), hint)
	}
	s, err := openStore(ctx, location)
	if err != nil {
		return nil, err
	}
	if dir, ok := s.(*store.Dir); ok {
		if _, err := os.Stat(dir.String()); err != nil {
			return nil, withHint(fmt.Errorf("opening corpus: %w", err), hint)
		}
	}
	return s, nil
}

// keyValues parses repeated name=value flags.
func keyValues(flag string, pairs []string) (map[string]string, error) {
	m := make(map[string]string, len(pairs))
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || strings.TrimSpace(k) == "" {
			return nil, usagef(fmt.Sprintf("write --%s name=value", flag), "--%s %q has no name and value", flag, p)
		}
		m[strings.TrimSpace(k)] = v
	}
	return m, nil
}

// secrets are the values that a target might repeat in an answer, in all their forms: keys and tokens, and whatever
// stands in the query. Those of AWS are known once the sender is made.
func (o *targetFlags) secrets(header map[string]string, target string) []string {
	values := []string{header["X-Api-Key"], header["Authorization"], strings.TrimPrefix(header["Authorization"], "Bearer ")}
	values = append(values, o.credentials...)
	if _, query, ok := strings.Cut(target, "?"); ok {
		query, _, _ = strings.Cut(query, "#")
		for pair := range strings.SplitSeq(query, "&") {
			_, v, named := strings.Cut(pair, "=")
			if !named {
				v = pair
			}
			values = append(values, v) // as it goes on the wire
			if decoded, err := url.QueryUnescape(v); err == nil {
				values = append(values, decoded)
			}
			if decoded, err := url.PathUnescape(v); err == nil { // which leaves + as it is
				values = append(values, decoded)
			}
		}
	}
	return replay.Secrets(values...)
}

// destination names the endpoint in source–destination pairs.
func destination(t stats.Target) string {
	if t.Kind == "embedded" {
		return "embedded"
	}
	if isLambda(t.URL) {
		return strings.Replace(t.URL, "//", "", 1)
	}
	u, err := url.Parse(t.URL)
	if err != nil {
		return t.Kind
	}
	return u.Host
}

// warnOrder says when keeping order leaves less concurrency than was asked for, or is likely to hold an open loop up.
// warnPart says of how little of the corpus a short plan is.
func warnPart(e *env, plan *replay.Plan) {
	n := plan.Total()
	if n == 0 || n > (plan.Objects-1)*plan.FanOut { // every capture has a turn
		return
	}
	each := ""
	if plan.FanOut > 1 {
		each = ", each sent as " + plural(plan.FanOut, "cluster")
	}
	first := "first"
	if k := (n + plan.FanOut - 1) / plan.FanOut; k > 1 {
		first += " " + count(k)
	}
	e.sayf("note: only the %s of %s%s: %s; --requests %d sends all", first, plural(plan.Objects, "capture"), each, plural(n, "request"), plan.Objects*plan.FanOut)
}

func warnOrder(e *env, o *replayOptions, plan *replay.Plan, corpus *capture.Corpus) {
	if o.order != "source" {
		return
	}
	sources, err := replay.Sources(corpus, plan.FanOut)
	if err != nil {
		return
	}
	const few = 10 // with more a second, a source's own queue is soon part of its latency
	switch n := len(sources.Names()); {
	case plan.Loop == replay.Closed && plan.Concurrency > n:
		e.sayf("note: %d requests in flight were asked for, but the corpus has %s, whose order is kept; --order none lifts that", plan.Concurrency, plural(n, "source"))
	case plan.Loop == replay.Open && plan.RatePerS > few*float64(n):
		e.sayf("note: the corpus has %s for %.4g requests/s, and a source's order is kept: at most %d in flight, and waiting for one's turn is latency; --fan-out N or --order none lifts that",
			plural(n, "source"), plan.RatePerS, n)
	}
}
