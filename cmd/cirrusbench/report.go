package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/report"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

func newReportCommand(e *env) *cobra.Command {
	var output, out, forecast string
	cmd := &cobra.Command{
		Use:   "report RUN.json…",
		Short: "Make a page, a table or a CSV of one or more runs",
		Long: `Make a page, a table or a CSV of one or more run files, which 'cirrusbench replay --out' and 'cirrusbench merge'
write.

-o html is one page that needs nothing else and loads nothing: percentile spectrum, latency over time as a heat
map, rates, requests in flight, schedule error, D2–D5 of each pair, errors and what Lambda billed, all of them as
tables too. --forecast adds the months of a forecast that 'cirrusbench forecast -o json' wrote. -o csv is a line
for each run.

Several runs stand side by side without a judgement: 'cirrusbench compare' has the confidence intervals.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  cirrusbench replay --requests 100 --out run.json && cirrusbench report run.json -o html --out report.html
  cirrusbench report monday.json tuesday.json -o markdown
  cirrusbench report run.json --forecast forecast.json -o html --out report.html`,
		Args: argsRange(1, -1, "a run file"),
		RunE: func(_ *cobra.Command, args []string) error {
			if forecast != "" && output != "html" {
				return usagef("add -o html", "--forecast is for the page")
			}
			if output == "html" && len(args) > 8 {
				return usagef("use -o csv or -o markdown for more", "a page has room for 8 runs, not %d", len(args))
			}
			runs, err := readRunFiles(e, args)
			if err != nil {
				return err
			}
			var fc *cost.Result
			if forecast != "" {
				if fc, err = readForecast(e, forecast); err != nil {
					return err
				}
			}
			return emit(e, out, func(w io.Writer) error { return renderRuns(w, output, runs, fc) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&forecast, "forecast", "", "with -o html: a forecast as JSON, whose months the page shows")
	addResultFlags(cmd, &output, &out, "table", "markdown", "html", "csv")
	known := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if output == "json" {
			return usagef("a run file is the JSON; 'cirrusbench compare -o json' has that of several", "a report has no JSON of its own")
		}
		return known(cmd, args)
	}
	return cmd
}

func renderRuns(w io.Writer, format string, runs []stats.NamedRun, fc *cost.Result) error {
	switch format {
	case "html":
		return report.RunsHTML(w, runs, fc)
	case "csv":
		return report.RunsCSV(w, runs)
	default:
		return report.Runs(w, report.Format(format), runs)
	}
}

// maxForecastBytes bounds what a forecast file may take into memory.
const maxForecastBytes = 64 << 20

// readForecast reads what forecast -o json wrote.
func readForecast(e *env, name string) (*cost.Result, error) {
	const hint = "give a file that 'cirrusbench forecast -o json --out forecast.json' wrote"
	in, label, closeInput, err := openInput(e, name)
	if err != nil {
		return nil, err
	}
	defer closeInput()
	data, err := io.ReadAll(io.LimitReader(in, maxForecastBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", label, err)
	}
	if len(data) > maxForecastBytes {
		return nil, withHint(fmt.Errorf("%s is larger than %d bytes", label, maxForecastBytes), hint)
	}
	fc := new(cost.Result)
	if err := json.Unmarshal(bytes.TrimSpace(data), fc); err != nil {
		return nil, withHint(fmt.Errorf("%s is no forecast: %w", label, err), hint)
	}
	if fc.Schema != cost.ForecastSchema {
		return nil, withHint(fmt.Errorf("%s: the schema is %q and not %q", label, fc.Schema, cost.ForecastSchema), hint)
	}
	return fc, nil
}
