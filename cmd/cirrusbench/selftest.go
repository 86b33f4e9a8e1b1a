package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

func newSelftestCommand(e *env) *cobra.Command {
	o := replayOptions{maxDecoded: 64 << 20}
	var out, output string
	var rate float64
	var concurrency int
	cmd := &cobra.Command{
		Use:   "selftest [CORPUS]",
		Short: "Measure the load generator itself on this machine",
		Long: `Measure the load generator itself on this machine, against a sink in this process that answers at once:

  ceiling   how many requests a second it can send, closed loop
  floor     what it reports as latency at a modest rate, open loop; no target can show less
  timing    how far from their due times the requests left

Compare a run with them: close to the ceiling, or with latencies like the floor's, it says little of the
target. Sink and generator share this machine's processors, so a target elsewhere leaves more for the
generator. Without CORPUS the bundled captures are sent, as captured.

` + exitCodes(exitOK, exitFailed, exitUsage, exitInterrupted),
		Example: "  cirrusbench selftest --duration 2s\n  cirrusbench selftest ./data --sender nethttp -o json",
		Args:    argsRange(0, 1, "CORPUS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.rate = 0
			pc, err := o.config(e.getenv)
			if err == nil {
				err = o.targetFlags.check()
			}
			if err != nil {
				return usagef("run 'cirrusbench selftest --help' for an example", "%v", err)
			}
			switch {
			case o.duration <= 0:
				return usagef("write --duration 5s", "--duration must be positive, not %v", o.duration)
			case !(rate > 0 && rate <= 1e5):
				return usagef("write --rate 1000", "--rate must be positive and at most 100,000, not %v", rate)
			case concurrency < 1 || concurrency > 10_000:
				return usagef("write --concurrency 16", "--concurrency must be from 1 to 10,000, not %d", concurrency)
			}
			corpus, err := o.loadCorpus(cmd.Context(), args)
			if err != nil {
				return err
			}
			e.drains.Store(true)
			r, err := selftest(cmd.Context(), e, &o, pc, corpus, rate, concurrency)
			if err != nil && cmd.Context().Err() != nil {
				return &statusError{code: exitInterrupted, msg: "interrupted: nothing was measured to its end, and nothing is written"}
			}
			if err != nil {
				return err
			}
			return emit(e, out, func(w io.Writer) error { return r.write(w, output) })
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.duration, "duration", 5*time.Second, "of each of the two measurements")
	f.Float64Var(&rate, "rate", 1000, "requests per second for floor and timing")
	f.IntVar(&concurrency, "concurrency", 16, "requests in flight for the ceiling")
	f.StringVar(&o.sender, "sender", "auto", "raw or nethttp; auto takes raw")
	addResultFlags(cmd, &output, &out, "table", "json")
	// What selftest does not offer has replay's defaults.
	o.arrival, o.timing, o.speed, o.warmup, o.loop, o.fanOut, o.fanOutLabel, o.seed = "constant", "rate", 1, "0", true, 1, "cluster", 1
	o.retry, o.retryFor, o.timeout = "none", time.Minute, 30*time.Second
	o.order, o.timestamps, o.maxInFlight = "none", "keep", 256
	return cmd
}

// selftestResult is what a selftest measured.
type selftestResult struct {
	Schema  string     `json:"schema"`
	Tool    stats.Tool `json:"tool"`
	Sender  string     `json:"sender"`
	CPUs    float64    `json:"cpus"`
	Body    int64      `json:"mean_body_bytes"`
	Ceiling struct {
		Concurrency int     `json:"concurrency"`
		RatePerS    float64 `json:"rate_per_s"`
		BytesPerS   float64 `json:"bytes_per_s"`
		P50MS       float64 `json:"p50_ms"`
		P99MS       float64 `json:"p99_ms"`
		CPURatio    float64 `json:"cpu_ratio"`
		CPUUS       float64 `json:"cpu_us_per_request"`
	} `json:"ceiling"`
	Floor struct {
		RatePerS float64       `json:"rate_per_s"`
		Achieved float64       `json:"achieved_rate_per_s"`
		Latency  stats.Latency `json:"latency"`
		Schedule stats.Latency `json:"schedule_error"`
		Client   stats.Client  `json:"client"`
	} `json:"floor"`
}

func selftest(ctx context.Context, e *env, o *replayOptions, pc replay.PlanConfig, corpus *capture.Corpus, rate float64, concurrency int) (_ *selftestResult, err error) {
	sink, err := replay.NewSink(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	send, err := o.newSender(ctx, e, sink.URL(), max(concurrency, o.maxInFlight))
	if err != nil {
		return nil, err
	}
	defer send.Close()
	x := &execution{e: e, o: o, corpus: corpus, sender: send, target: stats.Target{URL: send.URL(), Kind: "http"}}
	measure := func(pc replay.PlanConfig) (*stats.Run, error) {
		plan, err := o.plan(pc, corpus)
		if err != nil {
			return nil, err
		}
		run, _, err := x.run(ctx, plan)
		if err == nil && ctx.Err() != nil {
			err = ctx.Err()
		}
		if err == nil && (run.Counts.OK == 0 || run.Counts.OK != run.Counts.Sent) {
			err = fmt.Errorf("testing against the sink: %d of %d requests failed: %v", run.Counts.Sent-run.Counts.OK, run.Counts.Sent, run.Errors)
		}
		return run, err
	}
	r := &selftestResult{Schema: "cirrusbench/selftest/v1", Tool: tool(), Sender: "raw", Body: corpus.Bytes / int64(len(corpus.Entries()))}
	if o.sender == "nethttp" {
		r.Sender = "nethttp"
	}
	pc.Concurrency = concurrency
	run, err := measure(pc)
	if err != nil {
		return nil, err
	}
	c := &r.Ceiling
	c.Concurrency, c.RatePerS, c.P50MS, c.P99MS = concurrency, run.Achieved.RatePerS, run.Latency.P50MS, run.Latency.P99MS
	c.BytesPerS = float64(run.Counts.BytesSent) / (run.Achieved.DurationMS / 1e3)
	c.CPURatio, r.CPUs = run.Client.CPURatio, run.Client.CPUs
	c.CPUUS = run.Client.CPURatio * run.Client.CPUs * run.Achieved.DurationMS * 1e3 / float64(run.Counts.Sent)
	pc.Concurrency, pc.RatePerS = 0, rate
	if run, err = measure(pc); err != nil {
		return nil, err
	}
	r.Floor.RatePerS, r.Floor.Achieved, r.Floor.Latency, r.Floor.Schedule, r.Floor.Client = rate, run.Achieved.RatePerS, run.Latency, run.ScheduleError, run.Client
	return r, nil
}

func (r *selftestResult) write(w io.Writer, format string) error {
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	c, f := &r.Ceiling, &r.Floor
	_, err := fmt.Fprintf(w, `Load generator on this machine: %.3g processors, %s sender, bodies of %d bytes on average, sink in this process

Ceiling  %.0f requests/s, %.0f MB/s at %d in flight (p50 %.3f ms, p99 %.3f ms); %.1f µs of CPU a request, the sink's included
Floor    p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, max %.3f ms at %.0f requests/s: no target can show less
Timing   requests left %.3f ms from their due time at p50, %.3f ms at p99; %.2f of %.0f requests/s achieved
`, r.CPUs, r.Sender, r.Body, c.RatePerS, c.BytesPerS/1e6, c.Concurrency, c.P50MS, c.P99MS, c.CPUUS,
		f.Latency.P50MS, f.Latency.P99MS, f.Latency.P999MS, f.Latency.MaxMS, f.RatePerS, f.Schedule.P50MS, f.Schedule.P99MS, f.Achieved, f.RatePerS)
	if err == nil && f.Client.Verdict != "valid" {
		for _, reason := range f.Client.Reasons {
			if _, err = fmt.Fprintf(w, "Warning  %s: this machine is too busy, or too small, for this rate\n", reason); err != nil {
				break
			}
		}
	}
	return err
}
