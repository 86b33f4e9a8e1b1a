package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/report"
)

func newInvocationsCommand(e *env) *cobra.Command {
	var output, out string
	var source recordSource
	cmd := &cobra.Command{
		Use:   "invocations FILE…|cloudwatch:GROUP…",
		Short: "Read what Lambda says it billed",
		Long: `Read Lambda's own records of its invocations and sum up what they bill: REPORT lines as text (tabs, or the
spaces of a console paste, with or without the REPORT), platform.report events as JSON, and the containers
they come in, such as log exports, 'aws logs tail' and Logs Insights answers; plain or gzip. - reads
standard input.

cloudwatch:GROUP reads a log group from AWS, with the region and credentials that the AWS CLI would use. A span of
up to 6 hours (--since, --until) is fetched record by record with FilterLogEvents; a longer one is counted where it
lies by Logs Insights, which AWS bills by the GB scanned and which knows the sums and maxima of durations but not
their percentiles. --via events or --via insights decides otherwise.

Billed Duration is read, never recomputed: Lambda prints a duration of 85.00 ms and bills 86. What a record
does not state is missing, not zero. A line that cannot be read is reported with file and line, counted,
and reading goes on.

-o jsonl and -o csv print one record a line; the other formats print a summary.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  echo 'Duration: 41.37 ms Billed Duration: 42 ms Memory Size: 128 MB' | cirrusbench invocations -
  aws logs tail /aws/lambda/my-function --since 1d | cirrusbench invocations - -o json
  cirrusbench invocations cloudwatch:/aws/lambda/my-function --since 7d`,
		Args: argsRange(1, -1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			source.oneByOne = output == "jsonl" || output == "csv"
			return runInvocations(e, &source, args, output, out)
		},
	}
	source.addFlags(cmd)
	addResultFlags(cmd, &output, &out, "table", "json", "markdown", "jsonl", "csv")
	return cmd
}

func runInvocations(e *env, source *recordSource, files []string, output, out string) error {
	if err := source.check(files); err != nil {
		return err
	}
	return emit(e, out, func(w io.Writer) error {
		var c listing
		flush := func() error { return nil }
		switch output {
		case "jsonl":
			enc := json.NewEncoder(w)
			c.each = func(v lambdalog.Invocation) error { return enc.Encode(v) }
		case "csv":
			cw := csv.NewWriter(w)
			if err := cw.Write(invocationColumns()); err != nil {
				return err
			}
			c.each = func(v lambdalog.Invocation) error { return cw.Write(invocationRow(v)) }
			flush = func() error { cw.Flush(); return cw.Error() }
		}
		if err := source.read(e, files, &c); err != nil {
			return err
		}
		if err := flush(); err != nil {
			return err
		}
		s := c.Summary()
		s.Tool = lambdalog.Tool(tool())
		if s.Records == 0 {
			return withHint(fmt.Errorf("no Lambda record found in %s", strings.Join(files, ", ")),
				"a record is a line such as 'REPORT RequestId: … Duration: 41.37 ms Billed Duration: 42 ms …' or a platform.report event")
		}
		switch output {
		case "json":
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			return enc.Encode(s)
		case "table", "markdown":
			return report.Invocations(w, report.Format(output), &s)
		}
		return nil
	})
}

// listing sums records up and prints each one.
type listing struct {
	lambdalog.Summariser
	each func(lambdalog.Invocation) error
	err  error
}

func (l *listing) Add(v lambdalog.Invocation) {
	l.Summariser.Add(v)
	if l.err == nil && l.each != nil {
		l.err = l.each(v)
	}
}

func (l *listing) failed() error { return l.err }

// onlySum is nil when the records are listed one by one.
func (l *listing) onlySum() *lambdalog.Summariser {
	if l.each != nil {
		return nil
	}
	return &l.Summariser
}

// maxComplaints bounds how many bad lines are shown; all are counted.
const maxComplaints = 10

// records yields what lambdalog reads from the files, one after the other, and shows the first complaints on the way.
// An error that it yields is either one of lambdalog's complaints, after which reading goes on, or the last one.
func records(e *env, files []string) iter.Seq2[lambdalog.Invocation, error] {
	return complain(e, func(yield func(lambdalog.Invocation, error) bool) {
		for _, name := range files {
			r, label, closeInput, err := openInput(e, name)
			if err != nil {
				yield(lambdalog.Invocation{}, err)
				return
			}
			for v, err := range lambdalog.Scan(r, label) {
				if !yield(v, err) {
					closeInput()
					return
				}
			}
			closeInput()
		}
	})
}

// complain passes records on and shows the first complaints on the way.
func complain(e *env, seq iter.Seq2[lambdalog.Invocation, error]) iter.Seq2[lambdalog.Invocation, error] {
	return func(yield func(lambdalog.Invocation, error) bool) {
		c := complaints{e: e}
		for v, err := range seq {
			c.show(err)
			if !yield(v, err) {
				return
			}
		}
		c.close()
	}
}

// complaints shows what is wrong with an input, up to maxComplaints.
type complaints struct {
	e *env
	n int
}

func (c *complaints) show(err error) {
	if !worthSaying(err) {
		return
	}
	if c.n++; c.n <= maxComplaints {
		c.e.sayf("warning: %v", err)
	}
}

func (c *complaints) close() {
	if c.n > maxComplaints {
		c.e.sayf("warning: %d more such lines", c.n-maxComplaints)
	}
}

// worthSaying tells complaints from records, from read errors, which end the command, and from duplicates, which
// are counted and harmless.
func worthSaying(err error) bool {
	if n, ok := errors.AsType[*lambdalog.NoticeError](err); ok {
		return n.Kind != lambdalog.NoticeDuplicate
	}
	_, ok := errors.AsType[*lambdalog.LineError](err)
	return ok
}

func invocationColumns() []string {
	return []string{
		"kind", "request_id", "time", "duration_ms", "billed_ms", "init_ms", "restore_ms", "billed_restore_ms", "memory_mb",
		"max_memory_used_mb", "cold", "status", "error_type", "billable", "incomplete", "source",
	}
}

func invocationRow(v lambdalog.Invocation) []string {
	at := ""
	if !v.Time.IsZero() {
		at = v.Time.UTC().Format(time.RFC3339Nano)
	}
	mb := func(m lambdalog.MB) string {
		if m == 0 {
			return ""
		}
		return strconv.Itoa(int(m))
	}
	return []string{
		string(v.Kind), v.RequestID, at, v.Duration.String(), v.Billed.String(), v.Init.String(), v.Restore.String(), v.BilledRestore.String(),
		mb(v.Memory), mb(v.MaxMemoryUsed), strconv.FormatBool(v.Cold), string(v.Status), v.ErrorType,
		strconv.FormatBool(v.Billable), strconv.FormatBool(v.Incomplete), v.Source.String(),
	}
}
