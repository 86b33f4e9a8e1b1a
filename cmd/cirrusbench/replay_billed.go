package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

func isLambda(target string) bool { return strings.HasPrefix(target, replay.LambdaScheme) }

// checkBilled says what is wrong with the flags that have to do with what is billed, and with those that
// make no sense for a function.
func (o *targetFlags) checkBilled() []error {
	var errs []error
	if o.billedWait < 0 {
		errs = append(errs, fmt.Errorf("--billed-wait must not be negative, but is %v", o.billedWait))
	}
	if o.billedFrom == cloudwatchPrefix {
		errs = append(errs, errors.New("--billed-from names no log group: cloudwatch:/aws/lambda/FUNCTION"))
	}
	errs = append(errs, o.checkGateway()...)
	if !isLambda(o.target) {
		return errs
	}
	if _, err := replay.ParseLambdaTarget(o.target); err != nil {
		errs = append(errs, err)
	}
	if o.billedFrom != "" {
		errs = append(errs, errors.New("a lambda:// target reports what it billed with every answer: leave --billed-from out"))
	}
	if o.gatewayLog != "" {
		errs = append(errs, errors.New("there is no gateway before a lambda:// target: leave --gateway-log out"))
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

// checkGateway says what is wrong with the flags about the log of a gateway.
func (o *targetFlags) checkGateway() []error {
	var errs []error
	if o.gatewayLog == cloudwatchPrefix {
		errs = append(errs, errors.New("--gateway-log names no log group: cloudwatch:LOG-GROUP"))
	}
	if o.gatewayLog != "" && o.billedFrom == "" && !isLambda(o.target) {
		errs = append(errs, errors.New("gateway-log says which invocation is whose, and only Lambda's own log what it was billed: give --billed-from too"))
	}
	if o.gatewayFields != "" && o.gatewayLog == "" {
		errs = append(errs, errors.New("--gateway-log-fields are those of --gateway-log, which is not given"))
	}
	if _, err := o.accessFields(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// accessFields are the fields of the gateway's log that the user has named.
func (o *targetFlags) accessFields() (lambdalog.AccessFields, error) {
	if o.gatewayFields == "" {
		return lambdalog.AccessFields{}, nil
	}
	gateway, invoked, ok := strings.Cut(o.gatewayFields, ",")
	f := lambdalog.AccessFields{Gateway: strings.TrimSpace(gateway), Lambda: strings.TrimSpace(invoked)}
	if !ok || f.Gateway == "" || f.Lambda == "" || f.Gateway == f.Lambda || strings.Contains(f.Lambda, ",") {
		return f, fmt.Errorf("--gateway-log-fields %q are not two names, such as requestId,integrationRequestId", o.gatewayFields)
	}
	return f, nil
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
	logs *awsread.Logs // nil: the logs are files
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
		var bad error
		var err error
		if observed, bad, err = o.join(ctx, s, run); err != nil {
			return fmt.Errorf("reading what was billed: %w", err)
		}
		s.Reset()
		if err := remarkGateway(e, &observed, bad); err != nil {
			return fmt.Errorf("reading the gateway's log: %w", err)
		}
	default:
		return nil
	}
	observed.Tool = lambdalog.Tool(tool())
	o.remarkUnmatched(e, &observed)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(observed); err != nil {
		return fmt.Errorf("writing down what was billed: %w", err)
	}
	run.Billed = json.RawMessage(bytes.TrimSpace(b.Bytes()))
	return nil
}

// remarkUnmatched says which requests are in none of the figures.
func (o *targetFlags) remarkUnmatched(e *env, observed *lambdalog.Observed) {
	n := observed.Unmatched
	if g := observed.Gateway; g != nil && g.RequestsWithout > 0 {
		n -= g.RequestsWithout
		e.sayf("note: %d of %d answered requests have no integration request id in %s: the gateway answered them by itself, or gave up waiting for the function, which is billed all the same",
			g.RequestsWithout, observed.Answered, g.From)
	}
	if n <= 0 {
		return
	}
	e.sayf("note: %d of %d answered requests have no billed duration (%s): whatever was billed for them is in none of the figures",
		n, observed.Answered, observed.From)
	if observed.Matched == 0 {
		e.sayf("note: no request was found there, so nothing says what the run was billed")
	}
	if observed.Matched == 0 && observed.Foreign > 0 && o.gatewayLog == "" {
		e.sayf("hint: an API Gateway answers with request ids of its own, which Lambda does not log: --gateway-log names the log that has both")
	}
}

// remarkGateway says what the log of a gateway was not good for. A log without a single line that can be used is an error
// when it was needed: the user meant another file, or has to change the format.
func remarkGateway(e *env, observed *lambdalog.Observed, bad error) error {
	g := observed.Gateway
	if g == nil {
		return nil
	}
	needed := observed.Unmatched > g.RequestsWithout
	if g.Lines == 0 && g.BadLines > 0 && needed {
		return withHint(bad, gatewayHint)
	}
	if g.BadLines > 0 {
		e.sayf("note: %d lines of the gateway's log are of no use, the first of them: %v", g.BadLines, bad)
	}
	if g.Bridged == 0 && needed {
		e.sayf("note: the gateway's log %s has no line of a request of this run, and %d of others", g.From, g.Lines)
	}
	return nil
}

const gatewayHint = `an API's access log has the format that its stage says; it must be JSON and have "requestId":"$context.requestId" and ` +
	`"integrationRequestId":"$context.integration.requestId"; --gateway-log-fields takes other names of these`

// join reads the logs until every request is found or the time to wait is over: logs come late. bad is what is wrong with
// the first line of the gateway's log that could not be used.
func (o *targetFlags) join(ctx context.Context, s ledgerSender, run *stats.Run) (observed lambdalog.Observed, bad, err error) {
	again := 500 * time.Millisecond
	if s.logs != nil {
		again = 5 * time.Second // each reading is some requests, of which an account has few a second
	}
	end := time.Now().Add(o.billedWait)
	for {
		if o.gatewayLog != "" {
			bad = nil
			if err := s.Bridge(o.gatewayLog, firstComplaint(o.accesses(ctx, s, run), &bad)); err != nil {
				return lambdalog.Observed{}, nil, err
			}
		}
		observed, missing, err := s.Join(o.billedFrom, o.billedRecords(ctx, s, run))
		rest := time.Until(end)
		if err != nil || missing == 0 || rest <= 0 || ctx.Err() != nil {
			return observed, bad, err
		}
		t := time.NewTimer(min(rest, again))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// firstComplaint passes on what seq yields and keeps the first error.
func firstComplaint[T any](seq iter.Seq2[T, error], first *error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v, err := range seq {
			if err != nil && *first == nil {
				*first = err
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

// billedRecords yields Lambda's records from a file or a log group.
func (o *targetFlags) billedRecords(ctx context.Context, s ledgerSender, run *stats.Run) iter.Seq2[lambdalog.Invocation, error] {
	if group, ok := strings.CutPrefix(o.billedFrom, cloudwatchPrefix); ok {
		return s.logs.Records(ctx, group, logSpan(run))
	}
	return logFile(o.billedFrom, "give the file that 'cirrusbench lambda-host --out' or 'aws logs tail' writes", lambdalog.Scan)
}

// accesses yields the lines of a gateway's log from a file or a log group.
func (o *targetFlags) accesses(ctx context.Context, s ledgerSender, run *stats.Run) iter.Seq2[lambdalog.Access, error] {
	fields, err := o.accessFields()
	if err != nil { // it was checked
		return func(yield func(lambdalog.Access, error) bool) { yield(lambdalog.Access{}, err) }
	}
	if group, ok := strings.CutPrefix(o.gatewayLog, cloudwatchPrefix); ok {
		return s.logs.Accesses(ctx, group, logSpan(run), fields)
	}
	return logFile(o.gatewayLog, "give the file that 'aws logs tail' writes of the log group of the API's stage", func(r io.Reader, name string) iter.Seq2[lambdalog.Access, error] {
		return lambdalog.ScanAccess(r, name, fields)
	})
}

// logSpan is when a log group may have been told of the run. A clock may be a little off, and a record is written at the
// end of its invocation.
func logSpan(run *stats.Run) awsread.Span {
	return awsread.Span{From: run.StartedAt.Add(-time.Minute), Until: time.Now().Add(time.Minute)}
}

// logFile yields what scan finds in a file.
func logFile[T any](name, hint string, scan func(io.Reader, string) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		f, err := os.Open(name)
		if err != nil {
			var none T
			yield(none, withHint(err, hint))
			return
		}
		defer func() { _ = f.Close() }() // it was only read
		scan(f, name)(yield)
	}
}

// newLedgerSender keeps request ids of what s sends. A log group is looked for before anything is sent.
func (o *targetFlags) newLedgerSender(ctx context.Context, s sender) (sender, error) {
	l := ledgerSender{Ledger: replay.NewLedger(s, 0), url: s.URL()}
	if !strings.HasPrefix(o.billedFrom, cloudwatchPrefix) && !strings.HasPrefix(o.gatewayLog, cloudwatchPrefix) {
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
