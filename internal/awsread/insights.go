package awsread

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// insightsQuery counts invocations that were billed alike. Records are text or
// JSON, whichever the function is set to; a field that a record does not have
// becomes -1, so that no invocation falls out of its group. A cold start is
// found by arithmetic on the field that only cold starts have: 1 for an
// initialisation, 2 for a restore.
//
// Memory is in bytes of a megabyte of 1,000,000 in the fields that Insights takes
// from text, and in megabytes in JSON.
const insightsQuery = `filter @message like /^REPORT RequestId: / or type = "platform.report"
| parse @message /\tRestore Duration: (?<restored>[0-9.]+) ms/
| parse @message /\tStatus: (?<ended>[a-z]+)/
| fields coalesce(@billedDuration, record.metrics.billedDurationMs, -1) as billed,
  coalesce(@memorySize / 1000000, record.metrics.memorySizeMB, -1) as memory,
  coalesce(@initDuration, record.metrics.initDurationMs, -1) as init,
  coalesce(restored, record.metrics.restoreDurationMs, -1) as restore,
  coalesce(@initDuration * 0 + 1, record.metrics.initDurationMs * 0 + 1, restored * 0 + 2, record.metrics.restoreDurationMs * 0 + 2, 0) as cold,
  coalesce(ended, record.status, "success") as outcome,
  coalesce(@duration, record.metrics.durationMs, -1) as duration,
  coalesce(@maxMemoryUsed / 1000000, record.metrics.maxMemoryUsedMB, -1) as used
| stats count(*) as n, sum(duration) as duration_sum, max(duration) as duration_max, min(duration) as duration_min,
  sum(init) as init_sum, max(init) as init_max, sum(restore) as restore_sum, max(restore) as restore_max, max(used) as used_max
  by billed, memory, cold, outcome`

// insightsRowCap is the most rows that one answer of Logs Insights has. A span
// whose answer has as many is halved and asked again.
const insightsRowCap = 10_000

// Groups lets Logs Insights count the invocations in the span by what they were
// billed. Its ends are cut to seconds. A span with more than 10,000 different
// groups is halved until it fits, and the number of invocations in an answer is
// compared with the number of records that Insights says it matched: an answer
// that lacks some is an error. When the consumer stops or ctx ends, the running
// query is stopped.
func (l *Logs) Groups(ctx context.Context, group string, span Span) iter.Seq2[lambdalog.Group, error] {
	return func(yield func(lambdalog.Group, error) bool) {
		r := &insights{Logs: l, group: group, whole: span.Until.Unix() - span.From.Unix() + 1}
		err := r.read(ctx, span.From.Unix(), span.Until.Unix(), yield)
		if err != nil && !errors.Is(err, errStopped) {
			yield(lambdalog.Group{}, err)
		}
	}
}

var errStopped = errors.New("stopped")

type insights struct {
	*Logs
	group    string
	whole    int64 // seconds
	done     int64 // seconds
	progress Progress
}

// read reads the seconds from..until, both included.
func (r *insights) read(ctx context.Context, from, until int64, yield func(lambdalog.Group, error) bool) error {
	answer, err := r.query(ctx, from, until)
	if err != nil {
		return err
	}
	if len(answer.Results) >= insightsRowCap {
		if until <= from {
			return &Error{
				Problem: "querying log group " + r.group, Err: fmt.Errorf("one second has more than %d different groups, which is as many as Logs Insights returns", insightsRowCap),
				hint: "read this span with --via events",
			}
		}
		middle := from + (until-from)/2
		if err := r.read(ctx, from, middle, yield); err != nil {
			return err
		}
		return r.read(ctx, middle+1, until, yield)
	}
	groups := make([]lambdalog.Group, 0, len(answer.Results))
	total := int64(0)
	for i, row := range answer.Results {
		g, err := groupOf(row)
		if err != nil {
			return &Error{Problem: fmt.Sprintf("querying log group %s: row %d", r.group, i+1), Err: err}
		}
		total += g.Count
		groups = append(groups, g)
	}
	if answer.Statistics != nil && float64(total) != answer.Statistics.RecordsMatched {
		return &Error{
			Problem: "querying log group " + r.group,
			Err:     fmt.Errorf("the answer counts %d invocations, but %.0f records matched: it is not complete", total, answer.Statistics.RecordsMatched),
			hint:    "read the records instead, with --via events",
		}
	}
	r.done += until - from + 1
	r.progress.Records += total
	r.progress.DoneRatio = float64(r.done) / float64(r.whole)
	r.Logs.progress(r.progress)
	for _, g := range groups {
		if !yield(g, nil) {
			return errStopped
		}
	}
	return nil
}

// query runs the query over the seconds from..until and waits for its end.
func (r *insights) query(ctx context.Context, from, until int64) (*cloudwatchlogs.GetQueryResultsOutput, error) {
	what := "querying log group " + r.group
	in := &cloudwatchlogs.StartQueryInput{
		StartTime: &from, EndTime: &until, QueryString: aws.String(insightsQuery), Limit: aws.Int32(insightsRowCap),
	}
	if name, arn := groupOrARN(r.group); name != nil {
		in.LogGroupName = name
	} else {
		in.LogGroupIdentifiers = []string{*arn}
	}
	started, err := r.client.StartQuery(ctx, in)
	if err != nil {
		return nil, explain(ctx, what, err)
	}
	r.progress.Requests++
	scanned := r.progress.ScannedBytes
	for wait := r.poll; ; wait = min(wait*3/2, 10*r.poll) {
		answer, err := r.client.GetQueryResults(ctx, &cloudwatchlogs.GetQueryResultsInput{QueryId: started.QueryId})
		if err != nil {
			r.stop(ctx, started.QueryId)
			return nil, explain(ctx, what, err)
		}
		r.progress.Requests++
		if answer.Statistics != nil {
			r.progress.ScannedBytes = scanned + answer.Statistics.BytesScanned
		}
		switch answer.Status {
		case types.QueryStatusComplete:
			return answer, nil
		case types.QueryStatusScheduled, types.QueryStatusRunning, types.QueryStatusUnknown:
		case types.QueryStatusTimeout:
			return nil, &Error{Problem: what, Err: errors.New("Logs Insights ended the query after its limit of 60 minutes"), hint: "give a shorter --since"}
		case types.QueryStatusFailed, types.QueryStatusCancelled:
			return nil, &Error{Problem: what, Err: fmt.Errorf("the query ended as %s", answer.Status), hint: "try again, or read the records with --via events"}
		default:
			return nil, &Error{Problem: what, Err: fmt.Errorf("the query has the unknown status %.40q", answer.Status)}
		}
		r.Logs.progress(r.progress)
		select {
		case <-ctx.Done():
			r.stop(ctx, started.QueryId)
			return nil, explain(ctx, what, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// stop ends a query that nobody waits for any more: it would go on scanning, which is billed.
func (r *insights) stop(ctx context.Context, id *string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, _ = r.client.StopQuery(ctx, &cloudwatchlogs.StopQueryInput{QueryId: id}) // best effort: it may have ended
}

// groupOf reads one row of an answer to insightsQuery.
func groupOf(row []types.ResultField) (lambdalog.Group, error) {
	values := make(map[string]string, len(row))
	for _, f := range row {
		values[aws.ToString(f.Field)] = aws.ToString(f.Value)
	}
	var errs []error
	number := func(key string) float64 {
		f, err := strconv.ParseFloat(values[key], 64)
		if err != nil || math.IsNaN(f) || math.Abs(f) > 1e15 {
			errs = append(errs, fmt.Errorf("%s is %.40q, want a number", key, values[key]))
			return 0
		}
		return f
	}
	g := lambdalog.Group{Count: int64(number("n")), Cold: number("cold") >= 1, Status: lambdalog.Status(values["outcome"])}
	if g.Count < 1 {
		errs = append(errs, fmt.Errorf("n is %.40q, want a count", values["n"]))
	}
	if billed := number("billed"); billed >= 0 {
		g.Billed = lambdalog.MillisOf(millis(billed))
	}
	g.Memory, g.MaxMemoryUsed = megabytes(number("memory")), megabytes(number("used_max"))
	// A sum over values of which some are missing, as -1, is no sum of the others.
	if number("duration_min") >= 0 {
		g.Durations = lambdalog.Total{Count: g.Count, Sum: millis(number("duration_sum")), Max: millis(number("duration_max"))}
	}
	switch number("cold") {
	case 1:
		g.Inits = lambdalog.Total{Count: g.Count, Sum: millis(number("init_sum")), Max: millis(number("init_max"))}
	case 2:
		g.Restores = lambdalog.Total{Count: g.Count, Sum: millis(number("restore_sum")), Max: millis(number("restore_max"))}
	}
	return g, errors.Join(errs...)
}

func millis(ms float64) time.Duration { return time.Duration(math.Round(ms * 1e6)) }

// megabytes is 0 for what the records do not state.
func megabytes(n float64) lambdalog.MB {
	if n < 0 || n > math.MaxInt32 {
		return 0
	}
	return lambdalog.MB(math.Round(n))
}
