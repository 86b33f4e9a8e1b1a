package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/fixtures"
	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/report"
	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

type replayOptions struct {
	target, org, cluster   string
	rate                   float64
	concurrency, requests  int
	duration, timeout      time.Duration
	warmup                 string
	maxInFlight            int
	loop                   bool
	order, timestamps      string
	headers, labels        []string
	apiKeyFile, bearerFile string
	maxDecoded             byteSize
	seed                   uint64
	output, out, html      string
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
started in this process on loopback with a temporary store.

With --rate requests are due at fixed times whatever the server does (open loop), and latency counts
from then: a server that stands still for a second shows a second. Without --rate each request waits
for an answer before it (closed loop, --concurrency). Requests of one source, which is an org's
cluster, keep their order: at most one of them is in flight (--order none lifts that).

The first interrupt (Ctrl-C) stops sending, waits for the requests in flight and writes the full result;
a second one kills.

` + exitCodes(exitOK, exitFailed, exitUsage, exitInvalid, exitInterrupted),
		Example: `  cirrusbench replay --rate 100 --duration 2s
  cirrusbench replay ./data --target http://127.0.0.1:9201 --concurrency 4 --requests 1000 --out run.json`,
		Args: argsRange(0, 1, "CORPUS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runReplay(cmd.Context(), e, &o, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.target, "target", "", "URL to send to (default: a bundled server started in this process)")
	f.Float64Var(&o.rate, "rate", 0, "open loop: requests per second")
	f.IntVar(&o.concurrency, "concurrency", 0, "closed loop: requests in flight (default 1)")
	f.DurationVar(&o.duration, "duration", 0, "how long to start requests for, warm-up not counted")
	f.IntVar(&o.requests, "requests", 0, "how many requests to send, warm-up not counted (default: the corpus once)")
	f.StringVar(&o.warmup, "warmup", "0", "requests (100) or time (5s; open loop) sent first and recorded apart")
	f.IntVar(&o.maxInFlight, "max-in-flight", 256, "open loop: requests in flight at most; waiting for one is part of latency")
	f.BoolVar(&o.loop, "loop", true, "start the corpus again when it is at its end")
	f.StringVar(&o.order, "order", "source", "source: requests of an org's cluster never overtake each other; none")
	f.StringVar(&o.timestamps, "timestamps", "shift", "keep; shift: move each pass so that its newest sample is now; now: move each request")
	f.StringVar(&o.org, "org", "", "replay only what this org sent")
	f.StringVar(&o.cluster, "cluster", "", "replay only what clusters of this name sent")
	f.StringArrayVar(&o.headers, "header", nil, "add a header, as Name=value (repeatable; not for secrets)")
	f.StringVar(&o.apiKeyFile, "api-key-file", "", "file with the key to send as X-Api-Key")
	f.StringVar(&o.bearerFile, "bearer-token-file", "", "file with the token to send as Authorization: Bearer")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "for one request")
	f.Var(&o.maxDecoded, "max-decoded", "largest decoded body in the corpus")
	f.Uint64Var(&o.seed, "seed", 1, "of every random choice, kept in the run file")
	f.StringArrayVar(&o.labels, "label", nil, "note in the run file, as name=value (repeatable)")
	f.StringVar(&o.out, "out", "", "write the run to this file (run.json)")
	f.StringVar(&o.html, "html", "", "write a page about the run to this file")
	addOutputFlag(cmd, &o.output, "table", "json", "markdown")
	for name, values := range map[string][]string{"order": {"source", "none"}, "timestamps": {"keep", "shift", "now"}} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
	}
	return cmd
}

// planConfig checks the flags that need no file or network, and says all that is wrong with them.
func (o *replayOptions) planConfig(objects int) (replay.PlanConfig, error) {
	p := replay.PlanConfig{
		RatePerS: o.rate, Concurrency: o.concurrency, Duration: o.duration, Requests: o.requests,
		Loop: o.loop, Objects: objects, Seed: o.seed,
	}
	var errs []error
	if n, err := strconv.Atoi(strings.TrimSuffix(o.warmup, "req")); err == nil {
		p.WarmupRequests = n
	} else if p.WarmupDuration, err = time.ParseDuration(o.warmup); err != nil {
		errs = append(errs, fmt.Errorf("warm-up %q is neither a number of requests (100) nor a time (5s)", o.warmup))
	}
	if o.maxInFlight < 1 {
		errs = append(errs, fmt.Errorf("max-in-flight must be at least 1, not %d", o.maxInFlight))
	}
	if o.timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout must be positive, not %v", o.timeout))
	}
	if !slices.Contains([]string{"source", "none"}, o.order) {
		errs = append(errs, fmt.Errorf("order must be source or none, not %q", o.order))
	}
	if !slices.Contains([]string{"keep", "shift", "now"}, o.timestamps) {
		errs = append(errs, fmt.Errorf("timestamps must be keep, shift or now, not %q", o.timestamps))
	}
	if _, err := replay.NewPlan(p); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return p, usagef("run 'cirrusbench replay --help' for an example", "%v", err)
	}
	return p, nil
}

func runReplay(ctx context.Context, e *env, o *replayOptions, args []string) (err error) {
	if _, err := o.planConfig(1 << 30); err != nil { // before any file is read: wrong usage comes first
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
	if err := checkWritable(o.out, o.html); err != nil {
		return err
	}
	corpus, err := o.loadCorpus(ctx, args)
	if err != nil {
		return err
	}
	pc, err := o.planConfig(len(corpus.Entries()))
	if err != nil {
		return err
	}
	plan, err := replay.NewPlan(pc)
	if err != nil {
		return usagef("", "%v", err)
	}

	target := stats.Target{URL: o.target, Kind: "http"}
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
	sender, err := replay.NewHTTPSender(replay.HTTPConfig{
		URL: target.URL, MaxInFlight: maxInFlight, Header: header, UserAgent: "cirrusbench/" + tool().Version,
	})
	if err != nil {
		return usagef("give --target as http://host:port/api/v1/write", "%v", err)
	}
	defer sender.Close()
	target.URL = sender.URL()
	warnOrder(e, o, plan, corpus)

	bar := newProgress(e.err, e.errTTY, plan)
	config := replay.Config{
		Corpus: corpus, Plan: plan, Sender: sender, Destination: destination(target), Timestamps: replay.TimestampMode(o.timestamps),
		Order: replay.Order(o.order), MaxInFlight: o.maxInFlight, Timeout: o.timeout, MaxDecoded: int(o.maxDecoded),
		Progress: bar.update, Interval: bar.interval,
	}
	result, err := replay.Run(ctx, config)
	bar.close()
	if err != nil {
		return err
	}
	run := &stats.Run{Tool: tool(), Labels: labels}
	sums := result.Fill(run, config, target) // reported last: a run that does not add up is better looked at than lost
	return errors.Join(o.deliver(e, run), sums, ending(run))
}

// ending is what a run says by its exit code when its result is out.
func ending(run *stats.Run) error {
	switch {
	case run.Interrupted:
		return &statusError{code: exitInterrupted, msg: fmt.Sprintf("interrupted: %d of %d requests were not sent", run.Counts.NotSent, run.Counts.Planned)}
	case run.Counts.OK == 0:
		return withHint(&statusError{code: exitInvalid, msg: "INVALID: no request was answered with success, so there is no latency to speak of"},
			"look at the errors above; is the target up, and does it take remote write at this path?")
	case run.Client.Verdict != "valid":
		return withHint(&statusError{code: exitInvalid, msg: "INVALID: the load generator was the limit: " + strings.Join(run.Client.Reasons, "; ")},
			"lower --rate, or run the generator on a machine of its own")
	}
	return nil
}

// deliver writes and prints the result.
func (o *replayOptions) deliver(e *env, run *stats.Run) error {
	var errs []error
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
	s, err := openStore(ctx, location)
	if err != nil {
		return nil, err
	}
	if dir, ok := s.(*store.Dir); ok {
		if _, err := os.Stat(dir.String()); err != nil {
			return nil, withHint(fmt.Errorf("opening corpus: %w", err),
				"give a directory that 'cirrusbench serve --store' has written to, or none for the bundled captures")
		}
	}
	return s, nil
}

// header collects what --header and the secret files add to every request.
func (o *replayOptions) header() (map[string]string, error) {
	h, err := keyValues("header", o.headers)
	if err != nil {
		return nil, err
	}
	for name := range h {
		switch http.CanonicalHeaderKey(name) {
		case "Authorization", "Proxy-Authorization", "X-Api-Key", "Cookie":
			return nil, usagef("use --bearer-token-file or --api-key-file", "--header %s would show a secret in the process list", name)
		}
	}
	for _, s := range []struct{ file, name, prefix string }{
		{o.apiKeyFile, "X-Api-Key", ""}, {o.bearerFile, "Authorization", "Bearer "},
	} {
		if s.file == "" {
			continue
		}
		secret, err := os.ReadFile(s.file)
		if err != nil {
			return nil, fmt.Errorf("reading the secret: %w", err)
		}
		value := strings.TrimSpace(string(secret))
		if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, withHint(fmt.Errorf("reading the secret: %s is empty or is not one line of text", s.file), "the file holds the secret and nothing else")
		}
		h[s.name] = s.prefix + value
	}
	return h, nil
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

// destination names the endpoint in source–destination pairs.
func destination(t stats.Target) string {
	if t.Kind == "embedded" {
		return "embedded"
	}
	u, err := url.Parse(t.URL)
	if err != nil {
		return t.Kind
	}
	return u.Host
}

// warnOrder says when keeping order leaves less concurrency than was asked for.
func warnOrder(e *env, o *replayOptions, plan *replay.Plan, corpus *capture.Corpus) {
	if o.order != "source" || plan.Loop != replay.Closed {
		return
	}
	sources := map[string]bool{}
	for _, en := range corpus.Entries() {
		sources[en.Key.Org+"/"+en.Key.Cluster] = true
	}
	if plan.Concurrency > len(sources) {
		e.sayf("note: %d requests in flight were asked for, but the corpus has %d sources whose order is kept; --order none lifts that",
			plan.Concurrency, len(sources))
	}
}
