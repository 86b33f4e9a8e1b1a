package replay

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

func TestParseLambdaTarget(t *testing.T) {
	for _, tc := range []struct{ in, function, qualifier, path, url string }{
		{"lambda://fn", "fn", "", "/api/v1/write", "lambda://fn"},
		{"lambda://fn:prod", "fn", "prod", "/api/v1/write", "lambda://fn:prod"},
		{"lambda://fn:$LATEST", "fn", "$LATEST", "/api/v1/write", "lambda://fn:$LATEST"},
		{"lambda://fn:7/write?key=secret", "fn", "7", "/write", "lambda://fn:7"},
		{
			"lambda://arn:aws:lambda:eu-west-1:123456789012:function:fn:prod", "arn:aws:lambda:eu-west-1:123456789012:function:fn", "prod",
			"/api/v1/write", "lambda://arn:aws:lambda:eu-west-1:123456789012:function:fn:prod",
		},
	} {
		got, err := ParseLambdaTarget(tc.in)
		if err != nil || got.Function != tc.function || got.Qualifier != tc.qualifier || got.Path != tc.path || got.String() != tc.url {
			t.Errorf("%s: %+v, %v", tc.in, got, err)
		}
	}
	for _, bad := range []string{"", "lambda://", "http://fn", "lambda://a b", "lambda://fn:", "lambda://fn:a:b", "lambda://:prod", "lambda://arn:aws:s3:::x", "lambda://fn?%zz"} {
		if got, err := ParseLambdaTarget(bad); err == nil {
			t.Errorf("%q is taken for %+v", bad, got)
		}
	}
}

func FuzzParseLambdaTarget(f *testing.F) {
	for _, s := range []string{"lambda://fn:prod", "lambda://arn:aws:lambda:r:1:function:f:a/p?q=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseLambdaTarget(s)
		if err != nil {
			return
		}
		again, err := ParseLambdaTarget(got.String())
		if err != nil || again.Function != got.Function || again.Qualifier != got.Qualifier {
			t.Errorf("%q: %+v, and again %+v, %v", s, got, again, err)
		}
	})
}

// fakeLambda answers the Invoke API as a script says.
type fakeLambda struct {
	script func(n int, event map[string]any) fakeAnswer

	mu       sync.Mutex
	n        int
	requests []*http.Request
	events   []map[string]any
}

type fakeAnswer struct {
	status        int               // of the API; 0 = 200
	errorType     string            // of the API
	header        map[string]string // of the API's answer
	functionError string
	payload       string
	log           string // in the tail
	wait          time.Duration
	hangUp        bool
}

func (f *fakeLambda) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var event map[string]any
	_ = json.Unmarshal(b, &event)
	f.mu.Lock()
	n := f.n
	f.n++
	f.requests, f.events = append(f.requests, r), append(f.events, event)
	f.mu.Unlock()
	a := f.script(n, event)
	select {
	case <-time.After(a.wait):
	case <-r.Context().Done():
	}
	if a.hangUp {
		panic(http.ErrAbortHandler)
	}
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
	w.Header().Set("X-Amzn-Requestid", id)
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	if a.errorType != "" {
		w.Header().Set("X-Amzn-Errortype", a.errorType)
	}
	if a.functionError != "" {
		w.Header().Set("X-Amz-Function-Error", a.functionError)
	}
	if a.log != "" {
		w.Header().Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(a.log, "ID", id))))
	}
	w.WriteHeader(max(a.status, 0) + 200*boolInt(a.status == 0))
	_, _ = io.WriteString(w, a.payload)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

const (
	warmReport = "…cut line\nSTART RequestId: ID Version: 3\nEND RequestId: ID\n" +
		"REPORT RequestId: ID\tDuration: 2.50 ms\tBilled Duration: 3 ms\tMemory Size: 128 MB\tMax Memory Used: 20 MB\t\n"
	coldReport = "REPORT RequestId: ID\tDuration: 2.50 ms\tBilled Duration: 103 ms\tMemory Size: 128 MB\tMax Memory Used: 20 MB\tInit Duration: 99.83 ms\t\n"
	written204 = `{"statusCode":204,"headers":{"x-prometheus-remote-write-samples-written":"7","x-prometheus-remote-write-histograms-written":"0","x-prometheus-remote-write-exemplars-written":"0"}}`
)

func lambdaSender(t *testing.T, f *fakeLambda, c LambdaConfig) *LambdaSender {
	t.Helper()
	srv := httptest.NewUnstartedServer(f)
	srv.Config.ErrorLog = nil
	srv.Start()
	t.Cleanup(srv.Close)
	if c.Target.Function == "" {
		c.Target = LambdaTarget{Function: "fn", Qualifier: "prod", Path: "/api/v1/write"}
	}
	s, err := NewLambdaSender(aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(srv.URL),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "canary-secret"}, nil
		}),
	}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// The event is that of an HTTP API, signed, for the alias; what the function confirms is confirmed, and what the
// tail says is billed.
func TestLambdaSend(t *testing.T) {
	f := &fakeLambda{script: func(n int, _ map[string]any) fakeAnswer {
		if n == 0 {
			return fakeAnswer{payload: written204, log: coldReport}
		}
		return fakeAnswer{payload: written204, log: warmReport}
	}}
	s := lambdaSender(t, f, LambdaConfig{MaxInFlight: 2, Header: map[string]string{"X-Api-Key": "canary-key"}, UserAgent: "test"})
	for i := range 5 {
		r := s.Send(t.Context(), &Outgoing{
			Org: "alfa", Cluster: "prod", Version: remotewrite.V2, Body: []byte("\x00body\xff"), Samples: 7, Warmup: i == 1, Deadline: time.Now().Add(time.Minute),
		})
		if r.Err != nil || r.Status != 204 || !r.Confirmed || r.Written.Samples != 7 || r.RequestID == "" {
			t.Fatalf("%+v", r)
		}
	}
	e := f.events[0]
	body, err := base64.StdEncoding.DecodeString(e["body"].(string)) //nolint:errcheck // a panic will do
	if err != nil || string(body) != "\x00body\xff" || e["isBase64Encoded"] != true || e["version"] != "2.0" || e["rawPath"] != "/api/v1/write" {
		t.Errorf("event %v", e)
	}
	h := e["headers"].(map[string]any)               //nolint:errcheck // a panic will do
	q := e["queryStringParameters"].(map[string]any) //nolint:errcheck // a panic will do
	if h["x-scope-orgid"] != "alfa" || h["x-api-key"] != "canary-key" || h["content-encoding"] != "snappy" || q["cluster_name"] != "prod" ||
		h["content-type"] != remotewrite.V2.ContentType() || e["rawQueryString"] != "cluster_name=prod" {
		t.Errorf("event %v", e)
	}
	r := f.requests[0]
	if r.URL.Path != "/2015-03-31/functions/fn/invocations" || r.URL.Query().Get("Qualifier") != "prod" || r.Header.Get("X-Amz-Log-Type") != "Tail" ||
		!strings.Contains(r.Header.Get("Authorization"), "AKIDEXAMPLE/") {
		t.Errorf("request %v %v", r.URL, r.Header)
	}
	o := s.Observed()
	if o.Attempts != 4 || o.Answered != 4 || o.Matched != 4 || o.Unmatched != 0 || o.Reports != 4 || o.Cold != 1 || o.Warmup.Reports != 1 ||
		o.BilledMS.Sum.Value != 112*time.Millisecond || o.ColdStarts.Count != 1 || o.WarmStarts.Count != 3 ||
		o.ColdStarts.InitMS.Mean.Value != 99830*time.Microsecond || o.WarmStarts.DurationMS.P50.Value != 2500*time.Microsecond {
		t.Errorf("observed %+v", o)
	}
	if again := s.Observed(); again.Attempts != 0 {
		t.Errorf("the second time: %+v", again)
	}
}

// Every way in which an invocation can end has a class of its own, and is billed or not as it is on Lambda.
func TestLambdaFailures(t *testing.T) {
	for _, tc := range []struct {
		name      string
		answer    fakeAnswer
		status    int
		class     string
		timeout   bool
		refused   int64
		matched   int64
		unmatched int64
		retry     time.Duration
	}{
		{
			name:   "throttled",
			answer: fakeAnswer{status: 429, errorType: "TooManyRequestsException", header: map[string]string{"Retry-After": "2"}, payload: `{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}`},
			status: 429, class: "throttled", refused: 1, retry: 2 * time.Second,
		},
		{
			name:   "function error",
			answer: fakeAnswer{functionError: "Unhandled", payload: `{"errorType":"Runtime.ExitError","errorMessage":"exited"}`, log: strings.Replace(warmReport, "\t\n", "\tStatus: error\tError Type: Runtime.ExitError\t\n", 1)},
			status: 502, class: "function_error", matched: 1,
		},
		{
			name:   "function timeout",
			answer: fakeAnswer{functionError: "Unhandled", payload: `{"errorMessage":"2026-11-20T00:00:00Z ID Task timed out after 3.00 seconds"}`, log: strings.Replace(warmReport, "\t\n", "\tStatus: timeout\t\n", 1)},
			status: 504, class: "function_timeout", matched: 1,
		},
		{name: "no tail", answer: fakeAnswer{payload: written204}, status: 204, class: "http_204", unmatched: 1},
		{name: "tail without a report", answer: fakeAnswer{payload: written204, log: "only what the function printed\n"}, status: 204, class: "http_204", unmatched: 1},
		{name: "report of another", answer: fakeAnswer{payload: written204, log: strings.ReplaceAll(warmReport, "ID", "11111111-0000-4000-8000-000000000000")}, status: 204, class: "http_204", unmatched: 1},
		{
			name:   "tail in JSON",
			answer: fakeAnswer{payload: written204, log: `{"time":"2026-11-20T17:00:00.000Z","type":"platform.report","record":{"requestId":"ID","status":"success","metrics":{"durationMs":2.5,"billedDurationMs":3,"memorySizeMB":128,"maxMemoryUsedMB":20}}}` + "\n"},
			status: 204, class: "http_204", matched: 1,
		},
		{name: "refused by the function", answer: fakeAnswer{payload: `{"statusCode":400,"body":"bad sample"}`, log: warmReport}, status: 400, class: "http_400", matched: 1},
		{name: "no HTTP answer", answer: fakeAnswer{payload: `"pong"`, log: warmReport}, status: 502, class: "bad_answer", matched: 1},
		{name: "unknown function", answer: fakeAnswer{status: 404, errorType: "ResourceNotFoundException", payload: `{"Message":"Function not found"}`}, status: 404, class: "lambda_ResourceNotFoundException", refused: 1},
		{name: "not allowed", answer: fakeAnswer{status: 403, errorType: "AccessDeniedException", payload: `{"Message":"no"}`}, status: 403, class: "lambda_AccessDeniedException", refused: 1},
		{name: "too large", answer: fakeAnswer{status: 413, errorType: "RequestTooLargeException", payload: `{"message":"no"}`}, status: 413, class: "lambda_RequestTooLargeException", refused: 1},
		{name: "service", answer: fakeAnswer{status: 500, errorType: "ServiceException", payload: `{"Message":"no"}`}, status: 500, class: "lambda_ServiceException", refused: 1},
		{name: "as long as is read", answer: fakeAnswer{payload: `{"statusCode":204,"body":"` + strings.Repeat("x", maxLambdaAnswer-28) + `"}`, log: warmReport}, status: 204, class: "http_204", matched: 1},
		{name: "longer than is read", answer: fakeAnswer{payload: strings.Repeat(" ", maxLambdaAnswer+1), log: warmReport}, class: "answer_too_large"},
		{name: "an error longer than is read", answer: fakeAnswer{status: 500, errorType: "ServiceException", payload: strings.Repeat(" ", 2*maxLambdaAnswer)}, class: "answer_too_large"},
		{name: "slow", answer: fakeAnswer{wait: time.Minute}, class: "timeout", timeout: true},
		{name: "hung up", answer: fakeAnswer{hangUp: true}, class: "connection_lost"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &fakeLambda{script: func(int, map[string]any) fakeAnswer { return tc.answer }}
			s := lambdaSender(t, f, LambdaConfig{})
			timeout := time.Minute
			if tc.timeout {
				timeout = 100 * time.Millisecond
			}
			r := s.Send(t.Context(), &Outgoing{Org: "a", Version: remotewrite.V1, Body: []byte("x"), Deadline: time.Now().Add(timeout)})
			if r.Status != tc.status || errorClass(r) != tc.class || r.Timeout != tc.timeout || r.RetryAfter != tc.retry || (r.Err != nil) != (tc.status == 0) {
				t.Errorf("%+v, class %s", r, errorClass(r))
			}
			if strings.Contains(r.Message, "canary") || (r.Err != nil && strings.Contains(r.Err.Error(), "canary")) {
				t.Errorf("a secret in %+v", r)
			}
			o := s.Observed()
			if o.Attempts != 1 || o.Refused != tc.refused || o.Matched != tc.matched || o.Unmatched != tc.unmatched {
				t.Errorf("observed %+v", o)
			}
			// One that ran out of time may not have arrived.
			f.mu.Lock()
			n := f.n
			f.mu.Unlock()
			if n > 1 || n < 1 && !tc.timeout {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

// A cancelled context is no timeout.
func TestLambdaCanceled(t *testing.T) {
	f := &fakeLambda{script: func(int, map[string]any) fakeAnswer { return fakeAnswer{wait: time.Minute} }}
	s := lambdaSender(t, f, LambdaConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	r := s.Send(ctx, &Outgoing{Version: remotewrite.V1, Body: []byte("x")})
	if r.Err == nil || r.Timeout || errorClass(r) != "canceled" {
		t.Errorf("%+v, class %s", r, errorClass(r))
	}
}

// Through the whole engine, with throttles and errors among the answers: everything adds up.
func TestLambdaRun(t *testing.T) {
	var throttled, failed atomic.Int64
	f := &fakeLambda{script: func(n int, _ map[string]any) fakeAnswer {
		switch n % 10 {
		case 3:
			throttled.Add(1)
			return fakeAnswer{status: 429, errorType: "TooManyRequestsException", payload: `{"Reason":"CallerRateLimitExceeded"}`}
		case 7:
			failed.Add(1)
			return fakeAnswer{functionError: "Unhandled", payload: `{}`, log: warmReport}
		}
		return fakeAnswer{payload: `{"statusCode":204}`, log: warmReport}
	}}
	s := lambdaSender(t, f, LambdaConfig{MaxInFlight: 8})
	corpus := bundled(t)
	plan := mustPlan(t, PlanConfig{RatePerS: 500, Requests: 100, Loop: true, Objects: len(corpus.Entries())})
	c := Config{Corpus: corpus, Plan: plan, Sender: s, Timestamps: Shift, Order: OrderNone, MaxInFlight: 8, Timeout: time.Minute}
	res, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var run stats.Run
	if err := res.Fill(&run, c, stats.Target{URL: s.URL(), Kind: "lambda"}); err != nil {
		t.Fatal(err)
	}
	o := s.Observed()
	counts := map[string]int64{}
	for _, e := range run.Errors {
		counts[e.Class] = e.Count
	}
	if run.Counts.Sent != 100 || counts["throttled"] != throttled.Load() || counts["function_error"] != failed.Load() || throttled.Load() == 0 || failed.Load() == 0 {
		t.Errorf("%+v, errors %+v", run.Counts, run.Errors)
	}
	if o.Attempts != 100 || o.Refused != throttled.Load() || o.Matched != 100-throttled.Load() || o.Answered != o.Matched || o.Reports != o.Matched {
		t.Errorf("observed %+v", o)
	}
}

func TestReadTailBounds(t *testing.T) {
	for _, tail := range []string{"", "not base64!", strings.Repeat("A", 1<<20), base64.StdEncoding.EncodeToString([]byte("REPORT RequestId: \xff"))} {
		if v := readTail(tail, ""); v.Kind != "" {
			t.Errorf("%.20q: %+v", tail, v)
		}
	}
}

func FuzzReadTail(f *testing.F) {
	f.Add(base64.StdEncoding.EncodeToString([]byte(coldReport)), "")
	f.Add(base64.StdEncoding.EncodeToString([]byte(`{"type":"platform.report"}`)), "x")
	f.Fuzz(func(_ *testing.T, tail, id string) { readTail(tail, id) })
}

func FuzzLambdaAnswer(f *testing.F) {
	f.Add([]byte(written204))
	f.Add([]byte(`{"statusCode":503,"multiValueHeaders":{"Retry-After":["3"]},"body":"eA==","isBase64Encoded":true}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r := lambdaAnswer(payload)
		if r.Status < 200 || r.Status > 599 || len(r.Message) > maxMessage {
			t.Errorf("%+v", r)
		}
	})
}
