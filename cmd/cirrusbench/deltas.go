package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/report"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

func newDeltasCommand(e *env) *cobra.Command {
	var output, out, negative, method string
	cmd := &cobra.Command{
		Use:   "deltas FILE",
		Short: "Compute the tail-latency deltas D2–D5 of a run or of any latency data",
		Long: `Compute D2–D5 for every pair of source and destination: p99, p99.9, p99.99 and p99.999 minus the
median, then their median, mean, standard deviation, maximum and minimum over the pairs.

FILE is a run.json that 'cirrusbench replay --out' wrote, an HDR histogram log (.hlog) in nanoseconds, a
CSV with the columns src, dst and latency_ms, or JSON lines with these keys; plain or gzip, - for
standard input. Latency data is computed
exactly unless --method hdr is given; a run holds histograms, so its deltas come with an error bound.
Rows without a latency are left out, counted, and the first is named on stderr.

A percentile beyond the largest sample but one is an interpolation of the maximum. It is printed, and
marked as unsupported: D5 needs 100,001 samples in a pair.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  printf 'src,dst,latency_ms\na,b,1.5\na,b,2.5\n' | cirrusbench deltas -
  cirrusbench replay --requests 100 --out run.json; cirrusbench deltas run.json -o json`,
		Args: argsRange(1, 1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := readDeltas(e, args[0], method, negative)
			if err != nil {
				return err
			}
			return emit(e, out, func(w io.Writer) error {
				if output == "json" {
					return d.WriteJSON(w, tool())
				}
				return report.Deltas(w, report.Format(output), d)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&negative, "negative", "keep", "negative latencies (two clocks): keep, clamp to 0, drop")
	f.StringVar(&method, "method", "", "exact or hdr (default: exact for latency data; a run is always hdr)")
	addResultFlags(cmd, &output, &out, "table", "json", "markdown")
	return cmd
}

// readDeltas tells a run file from latency data by its first bytes.
func readDeltas(e *env, name, method, negative string) (*stats.Deltas, error) {
	if !slices.Contains([]string{"keep", "clamp", "drop"}, negative) {
		return nil, usagef("use --negative keep, clamp or drop", "unknown policy for negative latencies %q", negative)
	}
	if method != "" && method != "exact" && method != "hdr" {
		return nil, usagef("use --method exact or --method hdr", "unknown method %q", method)
	}
	in, label, closeInput, err := openInput(e, name)
	if err != nil {
		return nil, err
	}
	defer closeInput()
	r := bufio.NewReaderSize(in, 64<<10)
	if magic, _ := r.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) { // an error will come again
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", label, err)
		}
		r = bufio.NewReaderSize(z, 64<<10)
	}
	head, err := r.Peek(4 << 10) // fewer bytes than that come with an error that the reader will meet again
	if len(head) == 0 && err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s: %w", label, err)
	}
	switch first := bytes.TrimLeft(head, "\ufeff \t\r\n"); {
	case isHLog(first):
		if method == "exact" {
			return nil, usagef("leave out --method, or give the latencies as CSV", "a histogram log holds histograms: its deltas cannot be exact")
		}
		pairs, err := stats.ReadHLog(r, label)
		if err != nil {
			return nil, err
		}
		return stats.DeltasFromHistograms(pairs), nil
	case len(first) > 0 && first[0] == '{' && !isJSONLines(first):
		if method == "exact" {
			return nil, usagef("leave out --method, or give the latencies as CSV", "a run file holds histograms: its deltas cannot be exact")
		}
		run, err := stats.ReadRun(r, label)
		if err != nil {
			return nil, err
		}
		if run.Client.Verdict != "valid" && run.Client.Verdict != "" {
			e.sayf("warning: the run in %s is INVALID, do not trust its deltas: %s", label, strings.Join(run.Client.Reasons, "; "))
		}
		if err := run.Whole(); err != nil {
			e.sayf("warning: %s: %v", label, err)
		}
		if run.Interrupted {
			e.sayf("warning: the run in %s was interrupted: %d of %d requests were not sent", label, run.Counts.NotSent, run.Counts.Planned)
		}
		return run.Deltas, nil
	default:
		if method == "" {
			method = "exact"
		}
		c := stats.NewDeltaCollector(stats.DeltaMethod(method), stats.NegativePolicy(negative))
		read := stats.ReadDeltasCSV
		if len(first) > 0 && first[0] == '{' {
			read = stats.ReadDeltasJSONL
		}
		if err := read(r, label, c); err != nil {
			return nil, err
		}
		if first, skipped, rows := c.FirstSkipped(); first != nil {
			e.sayf("warning: %s:%d: %q holds no latency in milliseconds, such as 12.5: %d of %d rows left out", label, first.Line, first.Text, skipped, rows)
		}
		return c.Result()
	}
}

// isHLog says whether a file begins like an HDR histogram log.
func isHLog(head []byte) bool {
	return bytes.HasPrefix(head, []byte("#[")) || bytes.HasPrefix(head, []byte(`"StartTimestamp"`))
}

// isJSONLines says whether the first line is a whole object with a latency in it.
func isJSONLines(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	var row map[string]json.RawMessage
	return json.Unmarshal(line, &row) == nil && row["latency_ms"] != nil
}

// openInput opens a file, or standard input for "-". label names it in errors.
func openInput(e *env, name string) (r io.Reader, label string, closeInput func(), err error) {
	if name == "-" {
		return e.in, "standard input", func() {}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, "", nil, withHint(err, "check the name; - reads standard input")
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, "", nil, withHint(fmt.Errorf("%s is a directory", name), "give a file")
	}
	return f, name, func() { _ = f.Close() }, nil
}
