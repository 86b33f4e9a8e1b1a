package main

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/report"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

func newCompareCommand(e *env) *cobra.Command {
	var output, out string
	var force bool
	var prices priceFlags
	cmd := &cobra.Command{
		Use:   "compare A.json B.json…",
		Short: "Put runs side by side, with confidence intervals",
		Long: `Put two or more runs side by side: percentiles, service time, D2–D5, errors, rates and what was billed, with
95 % confidence intervals. The first run is what the others are compared with.

Runs of unlike plans or corpora are refused (exit code 5) unless --force is given. With a run that is INVALID itself the
comparison is printed, and the exit code is 5 unless --force is given. The intervals know the chance
within a run and not what the machines did differently: to decide whether something has become slower, use
'cirrusbench gate' with two URLs.

-o benchfmt is for benchstat (-col run), -o github-action-benchmark is the last run for that action's customSmallerIsBetter.

` + exitCodes(exitOK, exitFailed, exitUsage, exitInvalid),
		Example: `  cirrusbench replay --requests 100 --out a.json && cirrusbench replay --requests 100 --out b.json && cirrusbench compare a.json b.json
  cirrusbench compare a.json b.json -o benchfmt | benchstat -col run -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return usagef("give two or more files that 'cirrusbench replay --out' wrote; 'cirrusbench report' shows one", "a second run file is missing")
			}
			return argsRange(2, -1, "a pair of run files")(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := prices.pricer()
			if err != nil {
				return err
			}
			runs, err := readRuns(e, p, args)
			if err != nil {
				return err
			}
			c, err := stats.CompareRuns(runs)
			if errors.Is(err, stats.ErrPartial) {
				return withHint(&statusError{code: exitInvalid, msg: "INVALID: " + err.Error()}, "merge the results of all shards, or run again")
			}
			if err != nil {
				return err
			}
			c.Tool = tool()
			if len(c.Unlike) > 0 && !force {
				return withHint(&statusError{code: exitInvalid, msg: "INVALID: " + strings.Join(c.Unlike, "; ")}, "give --force to compare them all the same")
			}
			err = emit(e, out, func(w io.Writer) error {
				switch output {
				case "json":
					return c.WriteJSON(w)
				case "benchfmt":
					return c.WriteBenchfmt(w)
				case "github-action-benchmark":
					return c.WriteActionBenchmark(w)
				default:
					return report.Compare(w, report.Format(output), c)
				}
			})
			if err != nil || force {
				return err
			}
			return invalidRuns(runs)
		},
	}
	f := cmd.Flags()
	prices.addPrices(f)
	prices.completePrices(cmd)
	f.BoolVar(&force, "force", false, "compare runs of unlike plans or corpora, and INVALID ones, with exit code 0")
	addResultFlags(cmd, &output, &out, "table", "json", "markdown", "benchfmt", "github-action-benchmark")
	return cmd
}

// invalidRuns is what a comparison ends with when a run in it must not be trusted.
func invalidRuns(runs []stats.NamedRun) error {
	var bad []string
	for i := range runs {
		if r := runs[i].Run; r.Client.Verdict == "invalid" {
			bad = append(bad, runs[i].Name+" is not to be trusted: "+strings.Join(r.Client.Reasons, "; "))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return withHint(&statusError{code: exitInvalid, msg: "INVALID: " + strings.Join(bad, "\nINVALID: ")}, "run it again, or give --force to end with 0 all the same")
}

// readRuns reads run files with what was billed, in money too.
func readRuns(e *env, p *pricer, names []string) ([]stats.NamedRun, error) {
	runs, err := readRunFiles(e, names)
	if err != nil {
		return nil, err
	}
	for i := range runs {
		extra := stats.GateSample{Extra: map[string]float64{}}
		p.addBilled(&extra, runs[i].Run)
		runs[i].Extra, runs[i].CostPerMillion = extra.Extra, extra.CostPerMillion
	}
	return runs, nil
}

// readRunFiles reads run files; all that is wrong with any of them is reported.
func readRunFiles(e *env, names []string) ([]stats.NamedRun, error) {
	runs := make([]stats.NamedRun, len(names))
	var errs []error
	for i, name := range names {
		run, err := readRunFile(e, name)
		if err != nil {
			if _, ok := errors.AsType[*os.PathError](err); !ok {
				err = withHint(err, hintOf(err))
			}
			errs = append(errs, err)
			continue
		}
		runs[i] = stats.NamedRun{Name: name, Run: run}
	}
	return runs, errors.Join(errs...)
}
