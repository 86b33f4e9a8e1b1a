package awsread_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/cirrusbench/cirrusbench/internal/awsread"
	"github.com/cirrusbench/cirrusbench/internal/awsread/awsreadtest"
	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const group = "/aws/lambda/ingest"

var start = time.Date(2026, 11, 20, 17, 0, 0, 0, time.UTC)

func whole() awsread.Span { return awsread.Span{From: start, Until: start.Add(24 * time.Hour)} }

// clientFor starts the fake and returns a reader of it with short waits.
func clientFor(t *testing.T, fake *awsreadtest.CloudWatch, progress func(awsread.Progress)) *awsread.Logs {
	t.Helper()
	server := httptest.NewServer(fake)
	t.Cleanup(func() {
		fake.Close()
		server.Close()
	})
	client := server.Client()
	t.Cleanup(client.CloseIdleConnections)
	logs, err := awsread.NewLogs(awsread.LogsConfig{
		AWS: aws.Config{
			Region: "us-east-1", BaseEndpoint: aws.String(server.URL), HTTPClient: client,
			Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "not-a-secret"}, nil
			}),
		},
		Progress: progress, Poll: time.Millisecond, Backoff: 2 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return logs
}

// invocations makes n invocations with their START and END lines, some of them cold, failed, restored or in JSON.
func invocations(n int) *awsreadtest.CloudWatch {
	rng := rand.New(rand.NewPCG(1, 2))
	fake := &awsreadtest.CloudWatch{Group: group}
	add := func(at time.Time, message string) {
		fake.Events = append(fake.Events, awsreadtest.Event{ID: fmt.Sprintf("%056d", len(fake.Events)), Time: at, Message: message})
	}
	for i := range n {
		at := start.Add(time.Duration(i) * time.Second)
		id := fmt.Sprintf("%08x-15c9-505b-93e2-7773063edf57", i)
		add(at, "START RequestId: "+id+" Version: $LATEST\n")
		add(at, "stored 12 series, Billed Duration: 999 ms is only a text\n")
		ms := 10 + rng.IntN(40)
		switch i % 10 {
		case 0:
			add(at, fmt.Sprintf("REPORT RequestId: %s\tDuration: %d.25 ms\tBilled Duration: %d ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 88.50 ms\t\n", id, ms, ms+89))
		case 1:
			add(at, fmt.Sprintf(`{"time":"2026-11-20T17:00:00.411Z","type":"platform.report","record":{"requestId":%q,"status":"timeout","metrics":{"durationMs":%d.125,"billedDurationMs":%d,"memorySizeMB":256,"maxMemoryUsedMB":41}}}`, id, ms, ms+1))
		case 2:
			add(at, fmt.Sprintf("REPORT RequestId: %s\tDuration: %d.50 ms\tBilled Duration: %d ms\tMemory Size: 128 MB\tMax Memory Used: 37 MB\tRestore Duration: 400.25 ms\tBilled Restore Duration: 26 ms\t\n", id, ms, ms+27))
		case 3:
			add(at, fmt.Sprintf("REPORT RequestId: %s\tDuration: %d.50 ms\tBilled Duration: %d ms\tMemory Size: 128 MB\tMax Memory Used: 37 MB\tStatus: error\tError Type: Runtime.ExitError\t\n", id, ms, ms+1))
		default:
			add(at, fmt.Sprintf("REPORT RequestId: %s\tDuration: %d.75 ms\tBilled Duration: %d ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\n", id, ms, ms+1))
		}
	}
	return fake
}

func summary(t *testing.T, logs *awsread.Logs) lambdalog.Summary {
	t.Helper()
	s, err := lambdalog.Summarise(logs.Records(t.Context(), group, whole()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRecordsAreTheSameWhateverThePages(t *testing.T) {
	want := summary(t, clientFor(t, invocations(500), nil))
	if want.Reports != 500 || want.Cold != 100 || want.BadLines != 0 || want.Statuses.Timeout != 50 || want.Statuses.Error != 50 {
		t.Fatalf("%+v", want)
	}
	for name, change := range map[string]func(*awsreadtest.CloudWatch){
		"small pages":         func(f *awsreadtest.CloudWatch) { f.PageSize = 7 },
		"pages that overlap":  func(f *awsreadtest.CloudWatch) { f.PageSize, f.Overlap = 20, 3 },
		"empty pages between": func(f *awsreadtest.CloudWatch) { f.EmptyPages = true },
		"throttled": func(f *awsreadtest.CloudWatch) {
			f.Faults = strings.Split("throttle,throttle,,throttle,throttle,throttle", ",")
		},
		"unavailable":    func(f *awsreadtest.CloudWatch) { f.Faults = []string{"", "unavailable", "unavailable"} },
		"connection cut": func(f *awsreadtest.CloudWatch) { f.Faults = []string{"reset", "", "reset"} },
		"answer cut":     func(f *awsreadtest.CloudWatch) { f.Faults = []string{"", "half", "", "half"} },
		"everything at once": func(f *awsreadtest.CloudWatch) {
			f.PageSize, f.Overlap, f.EmptyPages, f.Faults = 11, 2, true, strings.Split("throttle,half,,reset,,,unavailable,throttle,,throttle", ",")
		},
		"throttled throughout": func(f *awsreadtest.CloudWatch) {
			f.PageSize, f.Faults = 10, strings.Split(strings.Repeat("throttle,,", 60), ",")
		},
	} {
		t.Run(name, func(t *testing.T) {
			fake := invocations(500)
			change(fake)
			got := summary(t, clientFor(t, fake, nil))
			if (fake.Overlap > 0) != (got.Duplicates > 0) {
				t.Errorf("%d duplicates with an overlap of %d", got.Duplicates, fake.Overlap)
			}
			got.Duplicates = 0
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRecordsHaveTimesAndPlaces(t *testing.T) {
	var last awsread.Progress
	logs := clientFor(t, invocations(150), func(p awsread.Progress) { last = p })
	n := 0
	for v, err := range logs.Records(t.Context(), group, awsread.Span{From: start, Until: start.Add(149 * time.Second)}) {
		if err != nil {
			t.Fatal(err)
		}
		if v.Time.IsZero() || v.Stream == "" || v.Source.Name != "cloudwatch:"+group {
			t.Fatalf("%+v", v)
		}
		n++
	}
	if n != 150 || last.Requests != 2 || last.DoneRatio != 1 || last.Records < 100 {
		t.Errorf("%d records, progress %+v", n, last)
	}
}

func TestSpanIsAskedFor(t *testing.T) {
	logs := clientFor(t, invocations(100), nil)
	s, err := lambdalog.Summarise(logs.Records(t.Context(), group, awsread.Span{From: start.Add(10 * time.Second), Until: start.Add(19 * time.Second)}))
	if err != nil || s.Reports != 10 {
		t.Errorf("%d reports, %v; both ends are included", s.Reports, err)
	}
}

// Counting at AWS must come to what reading every record comes to.
func TestGroupsAgreeWithRecords(t *testing.T) {
	fake := invocations(500)
	want := summary(t, clientFor(t, fake, nil))
	for name, change := range map[string]func(*awsreadtest.CloudWatch){
		"one query": func(f *awsreadtest.CloudWatch) { f.Running = 3 },
		"with faults": func(f *awsreadtest.CloudWatch) {
			f.Running, f.Faults = 2, strings.Split("limit,throttle,,throttle,half,reset", ",")
		},
	} {
		t.Run(name, func(t *testing.T) {
			fake := invocations(500)
			change(fake)
			logs := clientFor(t, fake, nil)
			var sum lambdalog.Summariser
			usage := new(cost.Usage)
			for g, err := range logs.Groups(t.Context(), group, whole()) {
				if err != nil {
					t.Fatal(err)
				}
				sum.AddGroup(g)
				usage.AddGroup(g)
			}
			got := sum.Summary()
			direct, err := cost.UsageOf(clientFor(t, invocations(500), nil).Records(t.Context(), group, whole()))
			if err != nil {
				t.Fatal(err)
			}
			a, errA := usage.GBSeconds(0)
			b, errB := direct.GBSeconds(0)
			if err := errors.Join(errA, errB); err != nil || !a.Equal(b) || usage.Cold() != direct.Cold() || fmt.Sprintf("%.6f", usage.MeanWallMS()) != fmt.Sprintf("%.6f", direct.MeanWallMS()) {
				t.Errorf("usage: %s and %s GB-s, %d and %d cold, %f and %f ms (%v)", a, b, usage.Cold(), direct.Cold(), usage.MeanWallMS(), direct.MeanWallMS(), err)
			}
			// Percentiles of durations are not known from sums: absent, not guessed.
			if got.DurationMS.P50.Known || got.InitMS.P99.Known || !got.BilledMS.P99.Known {
				t.Errorf("%+v", got)
			}
			w := want
			for _, d := range []*lambdalog.Distribution{&w.DurationMS, &w.InitMS} {
				d.P50, d.P95, d.P99 = lambdalog.Millis{}, lambdalog.Millis{}, lambdalog.Millis{}
			}
			w.Records = w.Reports                              // a query counts reports only
			w.Rules = lambdalog.RuleCounts{Unknown: w.Reports} // and a rule shows in a single record only
			if diff := cmp.Diff(w, got); diff != "" {
				t.Errorf("(-records +groups):\n%s", diff)
			}
		})
	}
}

func TestSpansWithTooManyGroupsAreHalved(t *testing.T) {
	fake := &awsreadtest.CloudWatch{Group: group}
	for i := range 25_000 {
		fake.Events = append(fake.Events, awsreadtest.Event{
			ID: strconv.Itoa(i), Time: start.Add(time.Duration(i) * time.Second),
			Message: fmt.Sprintf("REPORT RequestId: %08x-15c9-505b-93e2-7773063edf57\tDuration: %d.00 ms\tBilled Duration: %d ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\n", i, i, i),
		})
	}
	var last awsread.Progress
	n, sum := int64(0), time.Duration(0)
	for g, err := range clientFor(t, fake, func(p awsread.Progress) { last = p }).Groups(t.Context(), group, whole()) {
		if err != nil {
			t.Fatal(err)
		}
		n += g.Count
		sum += g.Billed.Value * time.Duration(g.Count)
	}
	if n != 25_000 || sum != 25_000*24_999/2*time.Millisecond || fake.Calls("StartQuery") != 11 || last.DoneRatio != 1 || last.Records != n || last.ScannedBytes == 0 {
		t.Errorf("%d invocations of %s in %d queries, %+v", n, sum, fake.Calls("StartQuery"), last)
	}
	for _, q := range fake.Queries() {
		if !strings.Contains(q, "@memorySize / 1000000") || !strings.Contains(q, "| stats count(*) as n") || !strings.Contains(q, "by billed, memory, cold, outcome") {
			t.Fatalf("query: %s", q)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	events := func(ctx context.Context, l *awsread.Logs) error {
		_, err := lambdalog.Summarise(l.Records(ctx, group, whole()))
		return err
	}
	insights := func(ctx context.Context, l *awsread.Logs) error {
		for _, err := range l.Groups(ctx, group, whole()) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, tt := range []struct {
		name       string
		fake       *awsreadtest.CloudWatch
		read       func(context.Context, *awsread.Logs) error
		want, hint string
	}{
		{"no such group", &awsreadtest.CloudWatch{Group: "/other"}, events, "ResourceNotFoundException", "describe-log-groups"},
		{"no such group", &awsreadtest.CloudWatch{Group: "/other"}, insights, "ResourceNotFoundException", "describe-log-groups"},
		{"denied", &awsreadtest.CloudWatch{Group: group, Faults: []string{"denied"}}, events, "AccessDeniedException", "logs:FilterLogEvents"},
		{"throttled for ever", &awsreadtest.CloudWatch{Group: group, Faults: strings.Split(strings.Repeat("throttle,", 100), ",")}, events, "ThrottlingException", "later"},
		{"endless pages", &awsreadtest.CloudWatch{Group: group, SameToken: true}, events, "same page again", "--since"},
		{"lost rows", &awsreadtest.CloudWatch{Group: group, Events: invocations(30).Events, LoseRows: true}, insights, "not complete", "--via events"},
		{"failed query", &awsreadtest.CloudWatch{Group: group, End: "Failed"}, insights, "ended as Failed", "--via events"},
		{"query timed out", &awsreadtest.CloudWatch{Group: group, End: "Timeout"}, insights, "60 minutes", "--since"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.read(t.Context(), clientFor(t, tt.fake, nil))
			e, ok := errors.AsType[*awsread.Error](err)
			if !ok || !strings.Contains(err.Error(), tt.want) || !strings.Contains(e.Hint(), tt.hint) {
				t.Errorf("got %v, want %q with a hint on %q", err, tt.want, tt.hint)
			}
			if err != nil && strings.Contains(err.Error(), "not-a-secret") {
				t.Error("a secret is in the error")
			}
		})
	}
}

func TestDeadlineEndsReading(t *testing.T) {
	late := errors.New("not done in time")
	for name, fake := range map[string]*awsreadtest.CloudWatch{
		"events":   {Group: group, Faults: []string{"hang"}},
		"insights": {Group: group, Running: 1 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, late)
			defer cancel()
			logs := clientFor(t, fake, nil)
			var err error
			if name == "events" {
				_, err = lambdalog.Summarise(logs.Records(ctx, group, whole()))
			} else {
				for _, groupErr := range logs.Groups(ctx, group, whole()) {
					err = groupErr
				}
				if fake.Calls("StopQuery") != 1 {
					t.Error("the query was not stopped: it would go on and be billed")
				}
			}
			if !errors.Is(err, late) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNoRegion(t *testing.T) {
	_, err := awsread.NewLogs(awsread.LogsConfig{})
	if e, ok := errors.AsType[*awsread.Error](err); !ok || !strings.Contains(e.Hint(), "AWS_REGION") {
		t.Errorf("got %v", err)
	}
}

// Every line of a gateway's log is fetched, whatever it says: there is no pattern for them.
func TestAccesses(t *testing.T) {
	fake := &awsreadtest.CloudWatch{Group: "/aws/apigateway/api", PageSize: 7, Faults: []string{"", "throttle", "half"}, EmptyPages: true}
	for i := range 50 {
		fake.Events = append(fake.Events, awsreadtest.Event{
			ID: strconv.Itoa(i), Time: start.Add(time.Duration(i) * time.Second),
			Message: fmt.Sprintf(`{"requestId":"gw%d=","integrationRequestId":"fn%d"}`, i, i),
		})
	}
	fake.Events[20].Message = "not JSON"
	logs := clientFor(t, fake, nil)
	n, bad := 0, 0
	for a, err := range logs.Accesses(t.Context(), "/aws/apigateway/api", awsread.Span{From: start, Until: start.Add(39 * time.Second)}, lambdalog.AccessFields{}) {
		switch {
		case err != nil && err.Error() == "cloudwatch:/aws/apigateway/api:21: is no JSON object: of access logs only those in JSON can be read":
			bad++
		case err != nil:
			t.Fatal(err)
		case a.RequestID != strings.Replace(strings.TrimSuffix(a.GatewayID, "="), "gw", "fn", 1):
			t.Errorf("%+v", a)
		}
		n++
	}
	if n != 40 || bad != 1 {
		t.Errorf("%d lines, %d bad, want 40 and 1", n, bad)
	}
	for _, err := range logs.Accesses(t.Context(), "other", whole(), lambdalog.AccessFields{}) {
		if e, ok := errors.AsType[*awsread.Error](err); !ok || e.Hint() == "" {
			t.Errorf("%v has no hint", err)
		}
	}
}
