package main

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/awsread"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// cloudwatchPrefix marks an input that is a log group and not a file.
const cloudwatchPrefix = "cloudwatch:"

// eventsSpan is the longest span whose records are fetched one by one unless --via says otherwise: a page of
// FilterLogEvents holds at most 10,000 events, and an account may ask for 5 to 25 pages a second.
const eventsSpan = 6 * time.Hour

// recordConsumer takes what inputs hold, record by record or counted.
type recordConsumer interface {
	Add(v lambdalog.Invocation)
	AddGroup(g lambdalog.Group)
	Note(err error) error
	Seen() int64
}

// recordSource says how the inputs of a command are read: files, standard input and log groups.
type recordSource struct {
	since, until, via string
	timeout           time.Duration
	oneByOne          bool // the output lists records, so that counts are not enough
	changed           func(flag string) bool
	now               func() time.Time
	context           func() context.Context
}

func (o *recordSource) addFlags(cmd *cobra.Command) {
	o.changed, o.now, o.context = cmd.Flags().Changed, time.Now, cmd.Context
	f := cmd.Flags()
	f.StringVar(&o.since, "since", "24h", "cloudwatch: from when on, as 90m, 24h, 7d before now, or a time such as 2026-11-20T17:00:00Z")
	f.StringVar(&o.until, "until", "", "cloudwatch: until when, in the same forms (default: now)")
	f.StringVar(&o.via, "via", "auto", "cloudwatch: events (one by one, free), insights (counted by Logs Insights, billed by the GB), or auto: by the length of the span")
	f.DurationVar(&o.timeout, "timeout", 15*time.Minute, "cloudwatch: give up after this long")
	_ = cmd.RegisterFlagCompletionFunc("via", cobra.FixedCompletions([]string{"auto", "events", "insights"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
}

// check refuses a span of time where no input is a log group, whose records are not chosen by it.
func (o *recordSource) check(inputs []string) error {
	if slices.ContainsFunc(inputs, func(name string) bool { return strings.HasPrefix(name, cloudwatchPrefix) }) {
		return nil
	}
	for _, flag := range []string{"since", "until", "via"} {
		if o.changed(flag) {
			return usagef("leave it out, or read a log group: cloudwatch:/aws/lambda/my-function", "--%s goes with cloudwatch: only; a file is read whole", flag)
		}
	}
	return nil
}

// read hands everything that the inputs hold to c, and names those of several that hold nothing; of one the caller does.
func (o *recordSource) read(e *env, inputs []string, c recordConsumer) error {
	var bare []string
	for _, name := range inputs {
		before := c.Seen()
		if err := o.readOne(e, name, c); err != nil {
			return err
		}
		if c.Seen() == before {
			bare = append(bare, name)
		}
	}
	if len(bare) < len(inputs) { // otherwise it is an error
		for _, name := range bare {
			e.sayf("warning: %s holds no Lambda record", name)
		}
	}
	return nil
}

func (o *recordSource) readOne(e *env, name string, c recordConsumer) error {
	if group, ok := strings.CutPrefix(name, cloudwatchPrefix); ok {
		return o.readGroup(e, group, c)
	}
	if sum, ok := c.(summing); ok && sum.onlySum() != nil {
		return sumUp(e, name, sum.onlySum())
	}
	return consume(records(e, []string{name}), c)
}

// summing is a consumer that may need no more than the sum of the records, which all cores can make together.
type summing interface{ onlySum() *lambdalog.Summariser }

func sumUp(e *env, name string, sum *lambdalog.Summariser) error {
	r, label, closeInput, err := openInput(e, name)
	if err != nil {
		return err
	}
	defer closeInput()
	c := complaints{e: e}
	defer c.close()
	return sum.Read(r, label, runtime.GOMAXPROCS(0), c.show)
}

// failing is a consumer that may have no use for further records, because its output failed.
type failing interface{ failed() error }

// consume hands records to c until the first error that ends reading.
func consume(seq iter.Seq2[lambdalog.Invocation, error], c recordConsumer) error {
	f, canFail := c.(failing)
	for v, err := range seq {
		if err == nil {
			c.Add(v)
		} else if err := c.Note(err); err != nil {
			return err
		}
		if canFail && f.failed() != nil {
			return f.failed()
		}
	}
	return nil
}

// readGroup reads a log group. An interrupt ends the query at AWS before the program.
func (o *recordSource) readGroup(e *env, group string, c recordConsumer) error {
	span, via, err := o.plan(group)
	if err != nil {
		return err
	}
	e.drains.Store(true)
	defer e.drains.Store(false)
	ctx, cancel := context.WithTimeoutCause(o.context(), o.timeout, &timeoutError{o.timeout})
	defer cancel()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return withHint(fmt.Errorf("configuring AWS: %w", err), "check AWS_PROFILE, ~/.aws/config and the environment")
	}
	line := newReadingLine(e, "reading "+group)
	logs, err := awsread.NewLogs(awsread.LogsConfig{AWS: cfg, Progress: line.update})
	if err != nil {
		return err
	}
	e.sayf("reading %s from %s until %s by %s", group, span.From.UTC().Format(time.RFC3339), span.Until.UTC().Format(time.RFC3339),
		map[string]string{"events": "FilterLogEvents", "insights": "a Logs Insights query"}[via])
	if via == "events" {
		err = consume(complain(e, logs.Records(ctx, group, span)), c)
	} else {
		for g, groupErr := range logs.Groups(ctx, group, span) {
			if groupErr != nil {
				err = groupErr
				break
			}
			c.AddGroup(g)
		}
	}
	line.close()
	return err
}

// plan finds out the span and the way to read it.
func (o *recordSource) plan(group string) (awsread.Span, string, error) {
	if group == "" {
		return awsread.Span{}, "", usagef("write cloudwatch:/aws/lambda/my-function", "the log group is missing after cloudwatch:")
	}
	now := o.now()
	from, err := moment("since", o.since, now)
	if err != nil {
		return awsread.Span{}, "", err
	}
	until := now
	if o.until != "" {
		if until, err = moment("until", o.until, now); err != nil {
			return awsread.Span{}, "", err
		}
	}
	if !from.Before(until) {
		return awsread.Span{}, "", usagef("give an earlier --since", "the span from %s until %s is empty", from.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339))
	}
	via := o.via
	switch {
	case via != "auto" && via != "events" && via != "insights":
		return awsread.Span{}, "", usagef("use --via auto, events or insights", "unknown way %q", via)
	case via == "insights" && o.oneByOne:
		return awsread.Span{}, "", usagef("use --via events, or -o json for a summary", "Logs Insights counts records, it does not list them")
	case via == "auto" && (o.oneByOne || until.Sub(from) <= eventsSpan):
		via = "events"
	case via == "auto":
		via = "insights"
	}
	return awsread.Span{From: from, Until: until}, via, nil
}

// moment reads a time, or a length of time before now.
func moment(flag, s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 100_000 {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, usagef("write --"+flag+" 24h, 7d or 2026-11-20T17:00:00Z", "--%s is %q, which is no time", flag, s)
}

// timeoutError says which limit passed.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string { return fmt.Sprintf("not done after %s", e.after) }

// Hint says what to do about it.
func (*timeoutError) Hint() string {
	return "give a longer --timeout, or a shorter span with --since and --until"
}

// readingLine shows how far a log group is read: one redrawn line on a terminal, a plain one every 10 s elsewhere.
type readingLine struct {
	e       *env
	what    string
	start   time.Time
	printed time.Time
	drawn   bool
	last    awsread.Progress
}

func newReadingLine(e *env, what string) *readingLine {
	now := time.Now()
	return &readingLine{e: e, what: what, start: now, printed: now}
}

func (l *readingLine) update(p awsread.Progress) {
	l.last = p
	now := time.Now()
	every := plainEvery
	if l.e.errTTY {
		every = 250 * time.Millisecond
	}
	if now.Sub(l.printed) < every {
		return
	}
	l.printed = now
	text := fmt.Sprintf("%s: %.0f %%, %d invocations, %d requests, %s", l.what, 100*p.DoneRatio, p.Records, p.Requests, now.Sub(l.start).Round(time.Second))
	if p.ScannedBytes > 0 {
		text += fmt.Sprintf(", %.2f GB scanned", p.ScannedBytes/1e9)
	}
	if l.e.errTTY {
		l.drawn = true
		_, _ = fmt.Fprintf(l.e.err, "\r\x1b[K%s", text) // nobody can be told
		return
	}
	l.e.sayf("%s", text)
}

// close takes the line away and says what Logs Insights will bill.
func (l *readingLine) close() {
	if l.drawn {
		_, _ = fmt.Fprint(l.e.err, "\r\x1b[K") // nobody can be told
	}
	if l.last.ScannedBytes > 0 {
		l.e.sayf("Logs Insights scanned %.3f GB, which AWS bills by the GB", l.last.ScannedBytes/1e9)
	}
}
