package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/report"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// findMaxPrecision is how narrow the interval around the knee becomes.
const findMaxPrecision = 0.05

// checkFindMax says what a search cannot do without.
func (o *replayOptions) checkFindMax() error {
	var errs []error
	if o.slo == "" {
		errs = append(errs, errors.New("--find-max needs --slo: what a rate has to meet"))
	}
	if o.rate <= 0 {
		errs = append(errs, errors.New("--find-max needs --rate: where to begin"))
	}
	if o.requests > 0 || o.shard != "" || o.hlog != "" || o.dryRun {
		errs = append(errs, errors.New("find-max goes with none of --requests, --shard, --hlog and --dry-run"))
	}
	return errors.Join(errs...)
}

// findMax runs one plan after the other until it has found the highest rate that the target sustains. The last
// good run goes to --out and --html.
func (x *execution) findMax(ctx context.Context, pc replay.PlanConfig) error {
	if pc.Duration == 0 {
		pc.Duration = 10 * time.Second
	}
	const limit = 1e6
	var best *stats.Run
	trials, rate, err := replay.FindMax(ctx, pc.RatePerS, limit, findMaxPrecision, func(ctx context.Context, rate float64) (replay.Trial, error) {
		pc.RatePerS = rate
		plan, err := x.o.plan(pc, x.corpus)
		if err != nil {
			return replay.Trial{}, err
		}
		run, _, err := x.run(ctx, plan)
		if err != nil {
			return replay.Trial{}, err
		}
		if ctx.Err() != nil {
			return replay.Trial{}, ctx.Err()
		}
		t := replay.JudgeTrial(rate, run)
		verdict := "good"
		if t.Good {
			best = run
		} else {
			verdict = strings.Join(t.Reasons, "; ")
		}
		x.e.sayf("%s/s: p50 %.3f ms, p99 %.3f ms, %d of %d failed: %s", rateText(rate), run.Latency.P50MS, run.Latency.P99MS,
			run.Counts.Failed+run.Counts.TimedOut, run.Counts.Sent, verdict)
		return t, nil
	})
	if err != nil {
		return err
	}
	if err := x.deliverSearch(trials, rate, best); err != nil {
		return err
	}
	limited := false // the lowest rate that failed did so because of the generator alone
	lowest := 0.0
	for _, t := range trials {
		if !t.Good && (lowest == 0 || t.RatePerS < lowest) {
			lowest, limited = t.RatePerS, t.Client
		}
	}
	alive := slices.ContainsFunc(trials, func(t replay.Trial) bool { return t.Run.Counts.OK > 0 })
	switch {
	case !alive && len(trials) > 0:
		return withHint(&statusError{code: exitInvalid, msg: "INVALID: " + cmp.Or(trials[0].Run.NoSuccess(), "no request succeeded")}, deadHint(trials[0].Run))
	case limited:
		return withHint(&statusError{code: exitInvalid, msg: "INVALID: the load generator, not the target, ended the search: " + lastReason(trials)},
			"run the generator on a machine of its own; 'cirrusbench selftest' shows its ceiling")
	case rate == 0:
		return &statusError{code: exitSLO, msg: "SLO broken at every rate that was tried"}
	}
	return nil
}

func lastReason(trials []replay.Trial) string {
	for _, trial := range slices.Backward(trials) {
		if trial.Client {
			return strings.Join(trial.Reasons, "; ")
		}
	}
	return ""
}

// rateText prints a rate without needless digits.
func rateText(r float64) string { return fmt.Sprintf("%.6g", r) }

// deliverSearch prints the search and writes the best run.
func (x *execution) deliverSearch(trials []replay.Trial, rate float64, best *stats.Run) error {
	var errs []error
	if best != nil {
		if x.o.out != "" {
			errs = append(errs, emit(x.e, x.o.out, best.WriteJSON))
		}
		if x.o.html != "" {
			errs = append(errs, emit(x.e, x.o.html, func(w io.Writer) error { return report.RunHTML(w, best) }))
		}
	}
	if x.o.output == "json" {
		errs = append(errs, searchJSON(x.e.out, x.o.slo, trials, rate))
	} else {
		errs = append(errs, searchTable(x.e.out, x.o.slo, trials, rate))
	}
	return errors.Join(errs...)
}

type trialJSON struct {
	RatePerS   float64  `json:"rate_per_s"`
	Good       bool     `json:"good"`
	Reasons    []string `json:"reasons"`
	P50MS      float64  `json:"p50_ms"`
	P99MS      float64  `json:"p99_ms"`
	ErrorRatio float64  `json:"error_ratio"`
	CPURatio   float64  `json:"client_cpu_ratio"`
}

func trialOf(t replay.Trial) trialJSON {
	j := trialJSON{RatePerS: t.RatePerS, Good: t.Good, Reasons: t.Reasons, P50MS: t.Run.Latency.P50MS, P99MS: t.Run.Latency.P99MS, CPURatio: t.Run.Client.CPURatio}
	if j.Reasons == nil {
		j.Reasons = []string{}
	}
	if c := &t.Run.Counts; c.Sent > 0 {
		j.ErrorRatio = float64(c.Failed+c.TimedOut) / float64(c.Sent)
	}
	return j
}

func searchJSON(w io.Writer, slo string, trials []replay.Trial, rate float64) error {
	doc := struct {
		Schema    string      `json:"schema"`
		Tool      stats.Tool  `json:"tool"`
		SLO       string      `json:"slo"`
		Max       float64     `json:"max_rate_per_s"`
		Precision float64     `json:"precision_ratio"`
		Trials    []trialJSON `json:"trials"`
	}{"cirrusbench/find-max/v1", tool(), slo, rate, findMaxPrecision, []trialJSON{}}
	for _, t := range trials {
		doc.Trials = append(doc.Trials, trialOf(t))
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

func searchTable(w io.Writer, slo string, trials []replay.Trial, rate float64) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(t, "requests/s\tp50 ms\tp99 ms\terrors\tverdict")
	errs := []error{err}
	for _, trial := range trials {
		j := trialOf(trial)
		verdict := "good"
		if !j.Good {
			verdict = strings.Join(j.Reasons, "; ")
		}
		_, err := fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%.2f %%\t%s\n", rateText(j.RatePerS), j.P50MS, j.P99MS, j.ErrorRatio*100, verdict)
		errs = append(errs, err)
	}
	errs = append(errs, t.Flush())
	if rate > 0 {
		_, err = fmt.Fprintf(w, "Highest rate that meets %s: %s requests/s (within %.0f %%)\n", slo, rateText(rate), findMaxPrecision*100)
	} else {
		_, err = fmt.Fprintf(w, "No rate that was tried meets %s\n", slo)
	}
	return errors.Join(append(errs, err)...)
}
