package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"github.com/cirrusbench/cirrusbench/internal/awsread"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// cloudwatchScheme begins a --billed-from that is a log group.
const cloudwatchScheme = "cloudwatch:"

func isLambda(target string) bool { return strings.HasPrefix(target, replay.LambdaScheme) }

// checkBilled says what is wrong with the flags that have to do with what is billed, and with those that
// make no sense for a function.
func (o *targetFlags) checkBilled() []error {
	var errs []error
	if o.billedWait < 0 {
		errs = append(errs, fmt.Errorf("billed-wait must not be negative, but is %v", o.billedWait))
	}
	if o.billedFrom == cloudwatchScheme {
		errs = append(errs, errors.New("billed-from names no log group: cloudwatch:/aws/lambda/FUNCTION"))
	}
	if !isLambda(o.target) {
		return errs
	}
	if _, err := replay.ParseLambdaTarget(o.target); err != nil {
		errs = append(errs, err)
	}
	if o.billedFrom != "" {
		errs = append(errs, errors.New("a lambda:// target reports what it billed with every answer: leave --billed-from out"))
	}
	for _, f := range []struct {
		given bool
		name  string
	}{
		{o.sender != "auto", "sender"},
		{o.sigv4 != "", "sigv4"},
		{o.caCert != "", "cacert"},
		{o.cert != "", "cert"},
		{o.insecure, "insecure"},
		{o.http1, "http1.1"},
		{o.unixSocket != "", "unix-socket"},
		{o.proxy != "", "proxy"},
	} {
		if f.given {
			errs = append(errs, fmt.Errorf("%s is not for a lambda:// target, which is reached by the AWS SDK", f.name))
		}
	}
	return errs
}

// newLambdaSender makes the sender for a function, with the SDK's usual configuration.
func (o *targetFlags) newLambdaSender(ctx context.Context, e *env, spec string, maxInFlight int) (sender, error) {
	header, err := o.header()
	if err != nil {
		return nil, err
	}
	s, hidden, err := newLambda(ctx, e, spec, replay.LambdaConfig{MaxInFlight: maxInFlight, Header: header})
	if err != nil {
		return nil, err
	}
	o.credentials = append(o.credentials, hidden...)
	return s, nil
}

// newLambda makes what invokes the function that spec names; c holds all but the target and the user agent. It returns
// also what of its credentials must not be shown.
func newLambda(ctx context.Context, e *env, spec string, c replay.LambdaConfig) (*replay.LambdaSender, []string, error) {
	t, err := replay.ParseLambdaTarget(spec)
	if err != nil {
		return nil, nil, usagef("give the target as lambda://FUNCTION or lambda://FUNCTION:ALIAS", "%v", err)
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("loading the AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, nil, withHint(errors.New("no AWS region is set"), "set AWS_REGION, such as AWS_REGION=us-east-1")
	}
	hidden, err := awsCredentials(ctx, e, cfg)
	if err != nil {
		return nil, nil, err
	}
	c.Target, c.UserAgent = t, "cirrusbench/"+tool().Version
	s, err := replay.NewLambdaSender(cfg, c)
	return s, hidden, err
}

func credentialsHint(getenv func(string) string) string {
	if getenv("AWS_PROFILE") != "" {
		return "is the profile in AWS_PROFILE complete and logged in?"
	}
	return "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
}

// ledgerSender is a sender whose answers are joined with a log later.
type ledgerSender struct {
	*replay.Ledger

	url  string
	logs *awsread.Logs // nil: the log is a file
}

// URL implements sender.
func (s ledgerSender) URL() string { return s.url }

// bill writes into the run what the target billed, if that can be known.
func (o *targetFlags) bill(ctx context.Context, e *env, s replay.Sender, run *stats.Run) error {
	var observed lambdalog.Observed
	switch s := s.(type) {
	case *replay.LambdaSender:
		observed = s.Observed()
	case ledgerSender:
		var err error
		if observed, err = o.join(ctx, s, run); err != nil {
			return fmt.Errorf("reading what was billed: %w", err)
		}
		s.Reset()
	default:
		return nil
	}
	observed.Tool = lambdalog.Tool(tool())
	if n := observed.Unmatched; n > 0 {
		e.sayf("note: %d of %d answered requests have no billed duration (%s): they were billed too, and are in none of the figures",
			n, observed.Answered, observed.From)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(observed); err != nil {
		return fmt.Errorf("writing down what was billed: %w", err)
	}
	run.Billed = json.RawMessage(bytes.TrimSpace(b.Bytes()))
	return nil
}

// join reads the log until every request is found or the time to wait is over: logs come late.
func (o *targetFlags) join(ctx context.Context, s ledgerSender, run *stats.Run) (lambdalog.Observed, error) {
	again := 500 * time.Millisecond
	if s.logs != nil {
		again = 5 * time.Second // each reading is some requests, of which an account has few a second
	}
	end := time.Now().Add(o.billedWait)
	for {
		observed, missing, err := s.Join(o.billedFrom, o.billedRecords(ctx, s, run))
		rest := time.Until(end)
		if err != nil || missing == 0 || rest <= 0 || ctx.Err() != nil {
			return observed, err
		}
		t := time.NewTimer(min(rest, again))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// billedRecords yields Lambda's records from a file or a log group.
func (o *targetFlags) billedRecords(ctx context.Context, s ledgerSender, run *stats.Run) iter.Seq2[lambdalog.Invocation, error] {
	if s.logs != nil {
		// A clock may be a little off, and a record is written at the end of its invocation.
		span := awsread.Span{From: run.StartedAt.Add(-time.Minute), Until: time.Now().Add(time.Minute)}
		return s.logs.Records(ctx, strings.TrimPrefix(o.billedFrom, cloudwatchScheme), span)
	}
	return func(yield func(lambdalog.Invocation, error) bool) {
		f, err := os.Open(o.billedFrom)
		if err != nil {
			yield(lambdalog.Invocation{}, withHint(err, "give the file that 'cirrusbench lambda-host --out' or 'aws logs tail' writes"))
			return
		}
		defer func() { _ = f.Close() }() // it was only read
		lambdalog.Scan(f, o.billedFrom)(yield)
	}
}

// newLedgerSender keeps request ids of what s sends. A log group is looked for before anything is sent.
func (o *targetFlags) newLedgerSender(ctx context.Context, s sender) (sender, error) {
	l := ledgerSender{Ledger: replay.NewLedger(s, 0), url: s.URL()}
	if !strings.HasPrefix(o.billedFrom, cloudwatchScheme) {
		return l, nil
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("loading the AWS configuration: %w", err)
	}
	if l.logs, err = awsread.NewLogs(awsread.LogsConfig{AWS: cfg}); err != nil {
		return nil, err
	}
	return l, nil
}
