package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/fixtures"
	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdahost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/report"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

type tuneOptions struct {
	arch, region, balance, prices string
	seed                          uint64
	bootstrap, event, path        string
	memory                        []int
	requests, cold                int
	holdCPU                       bool
	cpuPeriod, timeout            time.Duration
	cgroup                        string
	env                           []string
	output, out                   string
	changed                       func(flag string) bool
}

func newTuneCommand(e *env) *cobra.Command {
	var o tuneOptions
	cmd := &cobra.Command{
		Use:   "tune [FILE|MB=FILE|lambda://FUNCTION[:ALIAS]…]",
		Short: "Choose the memory size of a function: the cheapest, the fastest, the best balanced",
		Long: `Compare what was measured of a function at several memory sizes: what a million invocations cost at each, warm
and cold apart, with 95 % intervals, the Pareto front of cost and speed, and the size that each of three
strategies chooses.

FILE holds Lambda's own records, in any form that 'cirrusbench invocations' reads; they state their memory size, and
one file may hold several. MB=FILE names the size, for a run.json of 'cirrusbench replay' that does not state one.

lambda://FUNCTION[:ALIAS] measures live: functions or aliases that are deployed at different sizes take turns and get
--requests captured requests each; what every invocation was billed is read from the tail of its log.

--bootstrap measures on this machine instead: it runs the bootstrap of a function, as 'cirrusbench lambda-host' does, at every size of --memory, one invocation at a time, --requests each. The sizes take turns, and
every turn is a cold start: --cold of them for each. The function gets the captured requests bundled in this program,
or the event of --event. --hold-cpu gives every size the CPU share that Lambda gives it, which needs root or a
delegated cgroup; without it all sizes run alike, and only their prices differ.

Nothing is trimmed: what is rare and long is billed too. The strategies go by warm invocations.

` + exitCodes(exitOK, exitFailed, exitUsage, exitInterrupted),
		Example: `  cirrusbench tune --bootstrap bin/bootstrap --env CIRRUSBENCH_STORE=null: --requests 20 --cold 2
  cirrusbench tune 128.log 256.log 512.log
  cirrusbench tune lambda://ingest-128 lambda://ingest-512 --requests 500
  cirrusbench tune 128=run-128.json 512=run-512.json --balance 0.8`,
		Args: argsRange(0, -1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.changed = cmd.Flags().Changed
			err := runTune(cmd.Context(), e, &o, args)
			if err != nil && cmd.Context().Err() != nil {
				return &statusError{code: exitInterrupted, msg: "interrupted: the sizes were not all measured, and nothing is written"}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.arch, "arch", "arm64", "processor that the prices are of: arm64, x86_64")
	f.StringVar(&o.region, "region", "us-east-1", "AWS region of the prices")
	f.StringVar(&o.balance, "balance", "0.5", "weight of cost in the balanced strategy; the rest is speed")
	f.StringVar(&o.prices, "prices", "", "file of prices that win over the built-in ones")
	f.Uint64Var(&o.seed, "seed", 1, "of the resampling behind the intervals")
	f.StringVar(&o.bootstrap, "bootstrap", "", "bootstrap of a function to measure on this machine")
	f.IntSliceVar(&o.memory, "memory", []int{128, 256, 512, 1024, 1769}, "bootstrap: memory sizes in MB")
	f.IntVar(&o.requests, "requests", 200, "bootstrap and lambda://: invocations at each size")
	f.IntVar(&o.cold, "cold", 10, "bootstrap: how many of them are cold starts")
	f.StringVar(&o.event, "event", "", "bootstrap: file with the event to send, instead of the bundled requests")
	f.StringVar(&o.path, "path", "/api/v1/write", "bootstrap: path that the bundled requests are sent to")
	f.BoolVar(&o.holdCPU, "hold-cpu", false, "bootstrap: hold the CPU share of each size")
	f.DurationVar(&o.cpuPeriod, "cpu-period", lambdahost.DefaultCPUPeriod, "bootstrap: period of the CPU quota")
	f.DurationVar(&o.timeout, "timeout", lambdahost.DefaultTimeout, "bootstrap: end an invocation that takes longer")
	f.StringVar(&o.cgroup, "cgroup", "", "bootstrap: cgroup directory to work under (default the root of the hierarchy)")
	f.StringArrayVar(&o.env, "env", nil, "bootstrap: NAME=value for the function's environment; may be given several times")
	addResultFlags(cmd, &o.output, &o.out, "table", "json", "markdown", "csv")
	_ = cmd.RegisterFlagCompletionFunc("arch", cobra.FixedCompletions([]string{"arm64", "x86_64"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
	return cmd
}

func runTune(ctx context.Context, e *env, o *tuneOptions, args []string) error {
	var p parser
	c := cost.TuneConfig{Region: o.region, Arch: p.arch("arch", o.arch), Balance: p.weight("balance", o.balance), Seed: o.seed}
	if p.err() != nil {
		return p.err()
	}
	book, err := priceBook(o.prices)
	if err != nil {
		return err
	}
	if !slices.Contains(book.Regions(), o.region) {
		return usagef("use one of "+strings.Join(lambdaRegions(book), ", "), "there is no price for region %q", o.region)
	}
	var inputs []cost.TuneInput
	var source string
	var warnings []string
	switch {
	case o.bootstrap == "" && len(args) == 0:
		return usagef("give records, as 'cirrusbench tune 128.log 256.log', or --bootstrap bin/bootstrap", "there is nothing to compare")
	case o.bootstrap != "" && len(args) > 0:
		return usagef("leave one of them out", "records and --bootstrap are given")
	case o.bootstrap != "":
		e.drains.Store(true) // environments are to be ended
		inputs, warnings, err = o.measure(ctx, e)
		source = fmt.Sprintf("on this machine, %s invocations at each size, %d of them cold", strconv.Itoa(o.requests), o.cold)
		if o.holdCPU {
			source += ", with the CPU share of the size"
		}
	case slices.ContainsFunc(args, liveTarget):
		for _, flag := range []string{"memory", "cold", "event", "path", "hold-cpu", "env"} {
			if o.changed(flag) {
				return usagef("add --bootstrap, or leave it out", "--%s goes with --bootstrap only", flag)
			}
		}
		e.drains.Store(true)
		inputs, warnings, err = o.invoke(ctx, e, args)
		source = fmt.Sprintf("live, %d invocations each of %s", o.requests, strings.Join(args, ", "))
	default:
		for _, flag := range []string{"memory", "requests", "cold", "event", "path", "hold-cpu", "env"} {
			if o.changed(flag) {
				return usagef("add --bootstrap, or leave it out", "--%s goes with --bootstrap only", flag)
			}
		}
		inputs, err = o.read(e, args)
		source = "in " + strings.Join(args, ", ")
	}
	if err != nil {
		return err
	}
	r, err := cost.Tune(inputs, c, book)
	if err != nil {
		return asUsage(err)
	}
	r.Tool, r.Source, r.Warnings = lambdalog.Tool(tool()), source, append(warnings, r.Warnings...)
	return emit(e, o.out, func(w io.Writer) error {
		switch o.output {
		case "json":
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			return enc.Encode(r)
		case "csv":
			return report.TuneCSV(w, r)
		}
		return report.Tune(w, report.Format(o.output), r)
	})
}

// weight reads a number from 0 to 1, or the same in percent.
func (p *parser) weight(flag, s string) cost.Decimal {
	d, err := cost.ParseDecimal(s)
	if err != nil {
		d, err = cost.ParseRatio(s)
	}
	if err != nil || d.Sign() < 0 || d.Cmp(cost.Int(1)) > 0 {
		p.bad(usagef("write --"+flag+" 0 for only speed, 1 for only cost, or a number between them", "--%s must be a number from 0 to 1, not %q", flag, s))
	}
	return d
}

// read sorts the records of files by their memory size.
func (o *tuneOptions) read(e *env, args []string) ([]cost.TuneInput, error) {
	sizes := make(map[lambdalog.MB]*cost.Usage)
	var inputs []cost.TuneInput
	for _, arg := range args {
		name, memory, err := memoryOf(arg)
		if err != nil {
			return nil, err
		}
		if isRunFile(name) {
			billed, stated, err := readRun(e, name)
			if err != nil {
				return nil, err
			}
			if memory == 0 {
				memory = stated
			}
			if memory == 0 {
				return nil, withHint(fmt.Errorf("%s does not state the memory size", name), "name it: 128="+name)
			}
			inputs = append(inputs, cost.TuneInput{Memory: memory, Billed: billed})
			continue
		}
		before := 0
		for _, u := range sizes {
			before += int(u.Invocations())
		}
		for v, err := range records(e, []string{name}) {
			if err != nil {
				if note := new(lambdalog.Summariser).Note(err); note != nil {
					return nil, fmt.Errorf("reading records: %w", note)
				}
				continue
			}
			if memory != 0 {
				v.Memory = memory
			}
			if !cost.ByMemory(sizes, v) {
				return nil, withHint(fmt.Errorf("%s:%d: the record does not state the memory size", v.Source.Name, v.Source.Line), "name it: 128="+name)
			}
		}
		for _, u := range sizes {
			before -= int(u.Invocations())
		}
		if before == 0 {
			return nil, withHint(fmt.Errorf("%s: %w", name, errNoBilled), "'cirrusbench invocations "+name+"' shows what it holds")
		}
	}
	return append(inputs, inputsOf(sizes)...), nil
}

// memoryOf reads FILE or MB=FILE.
func memoryOf(arg string) (name string, memory lambdalog.MB, err error) {
	size, rest, ok := strings.Cut(arg, "=")
	if !ok {
		return arg, 0, nil
	}
	mb, err := strconv.Atoi(size)
	if err != nil {
		return arg, 0, nil //nolint:nilerr // a name with an equals sign in it
	}
	if mb < 128 || mb > 10240 {
		return "", 0, usagef("Lambda has 128 to 10240 MB", "memory of %d MB in %s", mb, arg)
	}
	return rest, lambdalog.MB(mb), nil
}

func liveTarget(arg string) bool {
	name, _, err := memoryOf(arg)
	return err == nil && isLambda(name)
}

// liveTurns is how often live functions take turns.
const liveTurns = 10

// invoke measures functions, or aliases of one, that are deployed at different memory sizes. They take turns.
// What an invocation was billed, and the size it ran at, is in the tail of its log.
func (o *tuneOptions) invoke(ctx context.Context, e *env, args []string) ([]cost.TuneInput, []string, error) {
	if o.requests < 1 {
		return nil, nil, usagef("give --requests 200", "--requests is %d", o.requests)
	}
	sizes := make(map[lambdalog.MB]*cost.Usage)
	senders := make([]*replay.LambdaSender, len(args))
	for i, arg := range args {
		name, memory, err := memoryOf(arg)
		if err != nil {
			return nil, nil, err
		}
		if !isLambda(name) {
			return nil, nil, usagef("give functions only, or files only", "%s is no lambda:// target", arg)
		}
		senders[i], _, err = newLambda(ctx, e, name, replay.LambdaConfig{MaxInFlight: 1, Record: func(v lambdalog.Invocation) {
			if memory != 0 {
				v.Memory = memory
			}
			cost.ByMemory(sizes, v)
		}})
		if err != nil {
			return nil, nil, err
		}
		defer senders[i].Close()
	}
	corpus, err := capture.Load(ctx, store.FromFS(fixtures.Corpus()), capture.Options{Location: "bundled"})
	if err != nil {
		return nil, nil, err
	}
	entries, failed := corpus.Entries(), 0
	for turn := range liveTurns {
		for i, s := range senders {
			for k := turn; k < o.requests; k += liveTurns {
				if ctx.Err() != nil {
					return nil, nil, ctx.Err()
				}
				at := k % len(entries)
				body, err := corpus.Body(ctx, at)
				if err != nil {
					return nil, nil, err
				}
				r := s.Send(ctx, &replay.Outgoing{
					Org: entries[at].Key.Org, Cluster: entries[at].Key.Cluster, Version: entries[at].Key.Version, Body: body,
					Now: time.Now(), Deadline: time.Now().Add(o.timeout),
				})
				if r.Err != nil && len(sizes) == 0 && failed >= 3 {
					return nil, nil, withHint(fmt.Errorf("invoking %s: %w", args[i], r.Err), "check the name, the region and the credentials")
				}
				if r.Err != nil || r.Status >= http.StatusBadRequest {
					failed++
				}
			}
			e.sayf("turn %d of %d: %s", turn+1, liveTurns, args[i])
		}
	}
	var warnings []string
	if failed > 0 {
		warnings = append(warnings, fmt.Sprintf("%d of %d invocations failed; those that were billed are counted", failed, o.requests*len(args)))
	}
	if len(sizes) == 0 {
		return nil, nil, withHint(errNoBilled, "the tail of the log holds no REPORT: does the function print more than 4 KB at its end?")
	}
	return inputsOf(sizes), warnings, nil
}

// readRun reads what the target of a run said it billed.
func readRun(e *env, name string) (cost.Billed, lambdalog.MB, error) {
	r, label, closeInput, err := openInput(e, name)
	if err != nil {
		return cost.Billed{}, 0, err
	}
	defer closeInput()
	return cost.BilledOfRun(r, label)
}

func inputsOf(sizes map[lambdalog.MB]*cost.Usage) []cost.TuneInput {
	var inputs []cost.TuneInput
	for _, mb := range slices.Sorted(maps.Keys(sizes)) {
		inputs = append(inputs, cost.TuneInput{Memory: mb, Billed: cost.Billed{Usage: sizes[mb]}})
	}
	return inputs
}

// measure runs the function on this machine. The sizes take turns, so that what else the machine does falls
// on all of them alike.
func (o *tuneOptions) measure(ctx context.Context, e *env) ([]cost.TuneInput, []string, error) {
	path, err := findBootstrap(o.bootstrap)
	switch {
	case err != nil:
		return nil, nil, err
	case o.cold < 1 || o.requests < o.cold:
		return nil, nil, usagef("give --cold of at least 1 and --requests of at least --cold", "--requests is %d and --cold is %d", o.requests, o.cold)
	case len(o.memory) == 0:
		return nil, nil, usagef("give --memory 128,256,512", "there is no memory size")
	}
	for _, kv := range o.env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			return nil, nil, usagef("write --env CIRRUSBENCH_STORE=null:", "--env %q is not NAME=value", kv)
		}
	}
	send, err := o.sender(ctx)
	if err != nil {
		return nil, nil, err
	}
	sizes := make(map[lambdalog.MB]*cost.Usage)
	failed := 0
	for turn := range o.cold {
		n := o.requests / o.cold
		if turn < o.requests%o.cold {
			n++
		}
		for _, mb := range o.memory {
			e.sayf("turn %d of %d: %d MB", turn+1, o.cold, mb)
			var log bytes.Buffer
			host, err := lambdahost.New(lambdahost.Config{
				Command: []string{path}, Env: append(os.Environ(), o.env...), Environments: 1, MemoryMB: mb,
				Timeout: o.timeout, HoldCPU: o.holdCPU, CPUPeriod: o.cpuPeriod, Cgroup: o.cgroup, Log: &log,
			})
			if _, ok := errors.AsType[*lambdahost.CPUError](err); ok {
				return nil, nil, err
			}
			if err != nil {
				return nil, nil, usagef("run 'cirrusbench tune --help' for the limits", "%v", err)
			}
			for range n {
				if ctx.Err() != nil {
					return nil, nil, errors.Join(ctx.Err(), host.Close())
				}
				if !send(ctx, host) {
					failed++
				}
			}
			if err := host.Close(); err != nil {
				return nil, nil, err
			}
			for v, err := range lambdalog.Scan(&log, fmt.Sprintf("%d MB", mb)) {
				if err == nil {
					cost.ByMemory(sizes, v)
				}
			}
		}
	}
	if len(sizes) == 0 || failed == o.requests*len(o.memory) {
		return nil, nil, withHint(errors.New("every invocation failed"), "run it with 'cirrusbench lambda-host' and look at its log; give what it needs by --env")
	}
	var warnings []string
	if !o.holdCPU {
		warnings = append(warnings, "without --hold-cpu every size had whole CPUs: the sizes differ in price only")
	}
	if failed > 0 {
		warnings = append(warnings, fmt.Sprintf("%d of %d invocations failed; they are billed, and counted", failed, o.requests*len(o.memory)))
	}
	return inputsOf(sizes), warnings, nil
}

// sender returns what sends the next event; it says whether the function did its work.
func (o *tuneOptions) sender(ctx context.Context) (func(context.Context, *lambdahost.Host) bool, error) {
	// An environment answers before it asks for the next event; until it does, it is busy.
	patiently := func(ctx context.Context, try func() (busy, ok bool)) bool {
		for since := time.Now(); ; {
			busy, ok := try()
			if !busy || ctx.Err() != nil || time.Since(since) > o.timeout {
				return ok
			}
			time.Sleep(time.Millisecond / 4)
		}
	}
	if o.event != "" {
		event, err := os.ReadFile(o.event)
		if err != nil {
			return nil, withHint(err, "give a file with the event as JSON")
		}
		return func(ctx context.Context, h *lambdahost.Host) bool {
			return patiently(ctx, func() (busy, ok bool) {
				a, err := h.Invoke(ctx, event)
				return errors.Is(err, lambdahost.ErrThrottled), err == nil && a.FunctionError == ""
			})
		}, nil
	}
	corpus, err := capture.Load(ctx, store.FromFS(fixtures.Corpus()), capture.Options{Location: "bundled"})
	if err != nil {
		return nil, err
	}
	next := 0
	return func(ctx context.Context, h *lambdahost.Host) bool {
		entry := corpus.Entries()[next%len(corpus.Entries())]
		body, err := corpus.Body(ctx, next%len(corpus.Entries()))
		next++
		if err != nil {
			return false
		}
		return patiently(ctx, func() (busy, ok bool) {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1"+o.path, bytes.NewReader(body))
			if err != nil {
				return false, false
			}
			r.RemoteAddr = "127.0.0.1:0"
			r.Header.Set("Content-Encoding", "snappy")
			r.Header.Set("Content-Type", entry.Key.Version.ContentType())
			r.Header.Set(remotewrite.HeaderVersion, entry.Key.Version.HeaderValue())
			w := &statusWriter{header: make(http.Header), status: http.StatusOK}
			h.Handler().ServeHTTP(w, r)
			return w.status == http.StatusTooManyRequests, w.status < http.StatusBadRequest
		})
	}, nil
}

// statusWriter keeps the status of an answer and drops the rest.
type statusWriter struct {
	header http.Header
	status int
}

func (w *statusWriter) Header() http.Header         { return w.header }
func (w *statusWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *statusWriter) WriteHeader(status int)      { w.status = status }
