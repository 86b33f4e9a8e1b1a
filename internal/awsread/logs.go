package awsread

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/smithy-go"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// How the clients behave. A reader of logs may wait: CloudWatch Logs admits 5 to 25
// requests a second of an account, and whoever reads a day of logs runs into that.
const (
	attempts    = 10
	maxBackoff  = 10 * time.Second
	callTimeout = 60 * time.Second // for one attempt, so that a server that hangs is asked again
)

// filterPattern lets CloudWatch Logs send the platform's own lines only: any of
// these phrases. What only looks like one of them is sorted out here.
const filterPattern = `?"REPORT RequestId" ?"INIT_REPORT" ?"RESTORE_REPORT" ?"platform.report" ?"platform.initReport" ?"platform.restoreReport" ?"billed_duration"`

// LogsConfig says how log groups are read.
type LogsConfig struct {
	// AWS has region, credentials and endpoint.
	AWS aws.Config
	// Progress is called after every answer; nil means nobody is told. It must not block.
	Progress func(Progress)
	// Poll is how long to wait between questions for the result of a query; 0 means 500 ms, rising to 5 s.
	Poll time.Duration
	// Backoff is the longest wait between two attempts of a request; 0 means 10 s.
	Backoff time.Duration
}

// Progress is how far reading has come.
type Progress struct {
	// Requests counts answers so far.
	Requests int
	// Records counts invocations found so far.
	Records int64
	// DoneRatio is the part of the time range that is read, in [0, 1].
	DoneRatio float64
	// ScannedBytes is what Logs Insights has scanned, which is what it bills; 0 for FilterLogEvents.
	ScannedBytes float64
}

// Span is a range of time, both ends included.
type Span struct {
	// From and Until are its ends.
	From, Until time.Time
}

// Logs reads log groups. Use [NewLogs]. It is safe for use by several goroutines
// if the Progress function is.
type Logs struct {
	client   *cloudwatchlogs.Client
	progress func(Progress)
	poll     time.Duration
}

// Error is a request that AWS did not answer as asked.
type Error struct {
	// Problem says what failed, Hint what to type next.
	Problem string
	hint    string
	// Err is the cause.
	Err error
}

// Error returns the problem and its cause.
func (e *Error) Error() string { return e.Problem + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do about it; "" when nothing is known to help.
func (e *Error) Hint() string { return e.hint }

// NewLogs returns a reader. Nothing is sent yet. It fails without a region.
func NewLogs(cfg LogsConfig) (*Logs, error) {
	client := cloudwatchlogs.NewFromConfig(withTimeout(cfg.AWS), func(o *cloudwatchlogs.Options) {
		if o.Region == "" && o.BaseEndpoint != nil {
			o.Region = "us-east-1" // compatible servers mostly take any, but a signature needs one
		}
		o.Retryer = newRetryer(cfg.Backoff)
	})
	if client.Options().Region == "" {
		return nil, noRegion()
	}
	l := &Logs{client: client, progress: cfg.Progress, poll: cfg.Poll}
	if l.progress == nil {
		l.progress = func(Progress) {}
	}
	if l.poll <= 0 {
		l.poll = 500 * time.Millisecond
	}
	return l, nil
}

var errNoRegion = errors.New("no AWS region is configured")

func noRegion() error {
	return &Error{Problem: "reading CloudWatch Logs", hint: "set AWS_REGION to the region of the log group", Err: errNoRegion}
}

// withTimeout bounds one attempt. A client that the caller made is left as it is.
func withTimeout(cfg aws.Config) aws.Config {
	switch client := cfg.HTTPClient.(type) {
	case nil:
		cfg.HTTPClient = awshttp.NewBuildableClient().WithTimeout(callTimeout)
	case *awshttp.BuildableClient:
		if client.GetTimeout() == 0 {
			cfg.HTTPClient = client.WithTimeout(callTimeout)
		}
	}
	return cfg
}

func newRetryer(longest time.Duration) aws.Retryer {
	if longest <= 0 {
		longest = maxBackoff
	}
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.MaxBackoff = longest
		o.Backoff = retry.NewExponentialJitterBackoff(longest)
		// A long read is throttled now and then over its whole length; a budget for
		// retries that never fills up again would end it in the middle.
		o.RateLimiter = ratelimit.None
		// StartQuery: too many queries at once. It passes.
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: map[string]struct{}{"LimitExceededException": {}}},
			retry.IsErrorRetryableFunc(brokenAnswer))
	})
}

// brokenAnswer says that an answer ended in its middle. Everything that is asked
// here may be asked again.
func brokenAnswer(err error) aws.Ternary {
	_, broken := errors.AsType[*smithy.DeserializationError](err)
	if broken || errors.Is(err, io.ErrUnexpectedEOF) {
		return aws.TrueTernary
	}
	return aws.UnknownTernary
}

// Records fetches every platform record that the log group holds in the span,
// page by page, in the order CloudWatch Logs gives them. Errors are those of
// [lambdalog.ScanEvents]; one that is neither of its complaints is the last, an
// [*Error] or the context's. An event on two pages is read once.
func (l *Logs) Records(ctx context.Context, group string, span Span) iter.Seq2[lambdalog.Invocation, error] {
	return func(yield func(lambdalog.Invocation, error) bool) {
		p := Progress{}
		for v, err := range lambdalog.ScanEvents(l.events(ctx, group, filterPattern, span, &p), "cloudwatch:"+group) {
			if err == nil {
				p.Records++
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

// Accesses fetches every line of an API Gateway's access log that the log group holds in the span, as Records does with
// records of Lambda's. Errors are those of [lambdalog.ScanAccessEvents]. A line on two pages is yielded twice.
func (l *Logs) Accesses(ctx context.Context, group string, span Span, fields lambdalog.AccessFields) iter.Seq2[lambdalog.Access, error] {
	return lambdalog.ScanAccessEvents(l.events(ctx, group, "", span, &Progress{}), "cloudwatch:"+group, fields)
}

func (l *Logs) events(ctx context.Context, group, pattern string, span Span, p *Progress) iter.Seq2[lambdalog.Event, error] {
	return func(yield func(lambdalog.Event, error) bool) {
		from, until := span.From.UnixMilli(), span.Until.UnixMilli()
		in := &cloudwatchlogs.FilterLogEventsInput{
			StartTime: &from, EndTime: &until, Limit: aws.Int32(10_000),
		}
		if pattern != "" {
			in.FilterPattern = &pattern
		}
		in.LogGroupName, in.LogGroupIdentifier = groupOrARN(group)
		for {
			page, err := l.client.FilterLogEvents(ctx, in)
			if err != nil {
				yield(lambdalog.Event{}, explain(ctx, "reading log group "+group, err))
				return
			}
			p.Requests++
			for _, e := range page.Events {
				event := lambdalog.Event{ID: aws.ToString(e.EventId), Stream: aws.ToString(e.LogStreamName), Message: aws.ToString(e.Message)}
				if e.Timestamp != nil {
					event.Time = time.UnixMilli(*e.Timestamp).UTC()
					if until > from {
						p.DoneRatio = max(p.DoneRatio, float64(*e.Timestamp-from)/float64(until-from))
					}
				}
				if !yield(event, nil) {
					return
				}
			}
			l.progress(*p)
			// A page may be empty and still not be the last: the token decides.
			next := aws.ToString(page.NextToken)
			if next == "" {
				return
			}
			if next == aws.ToString(in.NextToken) {
				yield(lambdalog.Event{}, &Error{
					Problem: "reading log group " + group, Err: errors.New("CloudWatch Logs returned the token of the same page again"),
					hint: "try again with a shorter --since",
				})
				return
			}
			in.NextToken = &next
		}
	}
}

// groupOrARN tells the name of a log group from its ARN, by which groups of other accounts are named.
func groupOrARN(group string) (name, arn *string) {
	if strings.HasPrefix(group, "arn:") {
		return nil, aws.String(strings.TrimSuffix(group, ":*"))
	}
	return &group, nil
}

// explain turns an error of the SDK into one that a person can act on.
func explain(ctx context.Context, what string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%s: %w", what, cause)
	}
	e := &Error{Problem: what, Err: err}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		e.Err = fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage())
		switch api.ErrorCode() {
		case "ResourceNotFoundException":
			e.hint = "Lambda's log groups are called /aws/lambda/FUNCTION; 'aws logs describe-log-groups' lists them; is AWS_REGION right?"
		case "AccessDeniedException":
			e.hint = "the credentials need logs:FilterLogEvents, or logs:StartQuery, logs:GetQueryResults and logs:StopQuery, on the log group"
		case "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException", "InvalidClientTokenId":
			e.hint = "check the credentials, for instance with 'aws sts get-caller-identity'"
		case "ThrottlingException", "LimitExceededException":
			e.hint = "try again later, or with a shorter --since"
		}
		return e
	}
	if strings.Contains(err.Error(), "failed to refresh cached credentials") || strings.Contains(err.Error(), "get identity") {
		e.hint = "no credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	}
	return e
}
