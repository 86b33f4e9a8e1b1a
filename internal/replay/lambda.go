package replay

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// LambdaScheme begins a target that is a Lambda function.
const LambdaScheme = "lambda://"

// LambdaTarget is a function to invoke.
type LambdaTarget struct {
	Function  string // name or ARN
	Qualifier string // alias or version; empty: $LATEST
	Path      string // in the event; empty: /api/v1/write
	Query     url.Values
}

// ParseLambdaTarget reads lambda://FUNCTION[:ALIAS][/PATH][?QUERY], where FUNCTION is a name or an ARN.
func ParseLambdaTarget(s string) (LambdaTarget, error) {
	var t LambdaTarget
	rest, ok := strings.CutPrefix(s, LambdaScheme)
	if !ok {
		return t, errors.New("target does not begin with " + LambdaScheme)
	}
	rest, query, _ := strings.Cut(rest, "?")
	var err error
	if t.Query, err = url.ParseQuery(query); err != nil {
		return t, errors.New("target has a query that cannot be read") // it may hold a key
	}
	rest, path, ok := strings.Cut(rest, "/")
	if t.Path = "/" + path; !ok || path == "" {
		t.Path = "/api/v1/write"
	}
	t.Function = rest
	if arn, ok := strings.CutPrefix(rest, "arn:"); ok {
		// arn:aws:lambda:REGION:ACCOUNT:function:NAME[:ALIAS]
		parts := strings.Split(arn, ":")
		if len(parts) < 6 || len(parts) > 7 || parts[1] != "lambda" || parts[4] != "function" {
			return t, fmt.Errorf("%q is not the ARN of a Lambda function", rest)
		}
		rest = strings.Join(parts[5:], ":")
		t.Function = strings.TrimSuffix(t.Function, rest)
	} else {
		t.Function = ""
	}
	if rest == "" {
		return t, errors.New("lambda:// names no function")
	}
	name, qualifier, ok := strings.Cut(rest, ":")
	if !lambdaName(name) || (ok && qualifier != "$LATEST" && !lambdaName(qualifier)) {
		return t, fmt.Errorf("%q is not FUNCTION or FUNCTION:ALIAS of letters, digits, - and _", rest)
	}
	t.Function += name
	t.Qualifier = qualifier
	return t, nil
}

// lambdaName says whether s may name a function or an alias.
func lambdaName(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	return s != "" && len(s) <= 140 && strings.Trim(s, allowed) == ""
}

// String is the target without its path and query, which may hold a key.
func (t *LambdaTarget) String() string {
	if t.Qualifier != "" {
		return LambdaScheme + t.Function + ":" + t.Qualifier
	}
	return LambdaScheme + t.Function
}

// LambdaConfig is what a [LambdaSender] needs beside the AWS configuration.
type LambdaConfig struct {
	Target      LambdaTarget
	MaxInFlight int               // connections kept open
	Header      map[string]string // added to every event's, replacing what the sender sets; values may be secret
	UserAgent   string
	// Record gets the record of every invocation that has one, one at a time; nil: nobody does.
	Record func(lambdalog.Invocation)
}

// LambdaSender invokes a function directly, as API Gateway would: with an event of payload format 2.0 whose
// body is the request in base64. It asks for the tail of each invocation's log and reads from it what the
// invocation was billed.
//
// What an invocation costs the client beyond an HTTP request is in the measured time: base64, the SHA-256 of
// the event for the signature, and the SDK. The SDK retries nothing here.
type LambdaSender struct {
	target LambdaTarget
	head   target // for its headers and query only
	client *lambda.Client
	http   *awshttp.BuildableClient
	record func(lambdalog.Invocation)

	mu    sync.Mutex // guards all below
	heads map[headKey][]byte
	seen  lambdalog.Observer
}

// NewLambdaSender checks the configuration; it does not connect. Region, credentials and endpoint are cfg's.
func NewLambdaSender(cfg aws.Config, c LambdaConfig) (*LambdaSender, error) {
	header := http.Header{"User-Agent": {c.UserAgent}}
	for k, v := range c.Header {
		if !validHeader(k, v) {
			return nil, fmt.Errorf("header %q has a name or a value that HTTP does not allow", k) // the value may be secret
		}
		header.Set(k, v)
	}
	head := target{query: c.Target.Query, header: header}
	head.url.RawQuery = c.Target.Query.Encode()
	n := max(c.MaxInFlight, 1)
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = n, n, n
		t.WriteBufferSize = 256 << 10
		t.DisableCompression = true
	})
	s := &LambdaSender{
		target: c.Target, head: head, http: client, record: c.Record, heads: map[headKey][]byte{},
		client: lambda.NewFromConfig(cfg, func(o *lambda.Options) {
			o.HTTPClient = boundedClient{client}
			o.Retryer = aws.NopRetryer{}
		}),
	}
	return s, nil
}

// maxLambdaAnswer bounds what is read of an answer, in bytes. The SDK keeps all of it in memory, once for each request in
// flight; a function's answer has at most 6 MB (Lambda's quotas).
const maxLambdaAnswer = 8 << 20

var errLongAnswer = fmt.Errorf("the answer is longer than %d MiB, which is more than Lambda ever sends", maxLambdaAnswer>>20)

// boundedClient ends answers that are longer than maxLambdaAnswer with errLongAnswer.
type boundedClient struct{ client *awshttp.BuildableClient }

func (b boundedClient) Do(r *http.Request) (*http.Response, error) {
	resp, err := b.client.Do(r)
	if err == nil {
		resp.Body = &boundedBody{resp.Body, maxLambdaAnswer}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser

	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	// One byte more than is allowed tells an answer that is longer from one that ends there.
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		b.left = -1 // also for the next read, which is of nothing
		return 0, errLongAnswer
	}
	return n, err
}

// URL is the target, for the run file.
func (s *LambdaSender) URL() string { return s.target.String() }

// Close implements Sender.
func (s *LambdaSender) Close() { s.http.GetTransport().CloseIdleConnections() }

// Send implements Sender.
func (s *LambdaSender) Send(ctx context.Context, r *Outgoing) Response {
	if !r.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.Deadline)
		defer cancel()
	}
	in := &lambda.InvokeInput{FunctionName: &s.target.Function, LogType: types.LogTypeTail}
	if s.target.Qualifier != "" {
		in.Qualifier = &s.target.Qualifier
	}
	begin := time.Now()
	in.Payload = s.event(r, begin)
	out, err := s.client.Invoke(ctx, in)
	client := time.Since(begin)
	if err != nil {
		resp := lambdaFailure(err)
		s.note(r.Warmup, resp.Err == nil, nil, 0)
		return resp
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	v := readTail(aws.ToString(out.LogResult), id)
	s.note(r.Warmup, false, &v, client)
	resp := lambdaAnswer(out.Payload)
	if class := aws.ToString(out.FunctionError); class != "" {
		resp = functionFailure(out.Payload, &v)
	}
	resp.RequestID = id
	return resp
}

// note counts one attempt and its record.
func (s *LambdaSender) note(warmup, refused bool, v *lambdalog.Invocation, client time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !warmup {
		s.seen.Attempt()
	}
	switch {
	case v == nil:
		if refused && !warmup {
			s.seen.Refused()
		}
	case v.Kind == lambdalog.KindReport:
		s.seen.Matched(*v, client, warmup)
		if s.record != nil {
			s.record(*v)
		}
	case !warmup:
		s.seen.Unmatched(1)
	}
}

// Observed returns what was billed since the sender was made or last asked.
func (s *LambdaSender) Observed() lambdalog.Observed {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.seen.Observed()
	o.From = lambdalog.FromTail
	s.seen = lambdalog.Observer{}
	return o
}

// event makes the event of an HTTP API. Its buffer is not used again: the transport may still read it when
// an early answer is there.
func (s *LambdaSender) event(r *Outgoing, now time.Time) []byte {
	key := headKey{r.Org, r.Cluster, r.Version, r.Attempt}
	s.mu.Lock()
	head, ok := s.heads[key]
	s.mu.Unlock()
	if !ok {
		head = s.eventHead(r)
		s.mu.Lock()
		if len(s.heads) < 1<<16 { // a bound for endless attempts
			s.heads[key] = head
		}
		s.mu.Unlock()
	}
	b := make([]byte, 0, len(head)+base64.StdEncoding.EncodedLen(len(r.Body))+64)
	b = append(b, head...)
	b = append(b, `"timeEpoch":`...)
	b = strconv.AppendInt(b, now.UnixMilli(), 10)
	b = append(b, `},"isBase64Encoded":true,"body":"`...)
	b = base64.StdEncoding.AppendEncode(b, r.Body)
	return append(b, `"}`...)
}

// eventHead is the event up to the time in its request context.
func (s *LambdaSender) eventHead(r *Outgoing) []byte {
	headers := map[string]string{"host": "lambda"}
	for name, values := range s.head.headerOf(r) {
		headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	u := s.head.requestURL(r)
	query := map[string]string{}
	for name, values := range u.Query() {
		query[name] = strings.Join(values, ",")
	}
	q := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil { // strings and maps of them always marshal
			return `""`
		}
		return string(b)
	}
	path := q(s.target.Path)
	return []byte(`{"version":"2.0","routeKey":"$default","rawPath":` + path + `,"rawQueryString":` + q(u.RawQuery) +
		`,"queryStringParameters":` + q(query) + `,"headers":` + q(headers) +
		`,"requestContext":{"accountId":"000000000000","apiId":"cirrusbench","domainName":"lambda","requestId":"cirrusbench",` +
		`"routeKey":"$default","stage":"$default","http":{"method":"POST","path":` + path +
		`,"protocol":"HTTP/1.1","sourceIp":"127.0.0.1","userAgent":` + q(headers["user-agent"]) + `},`)
}

// readTail finds the report of an invocation in the tail of its log: base64 of the last 4 KB, whose first
// line may have lost its head, and from which what the function printed may have pushed the report. The
// zero Invocation means that there is none.
func readTail(tail, id string) lambdalog.Invocation {
	const maxTail = 64 << 10
	if tail == "" || len(tail) > maxTail {
		return lambdalog.Invocation{}
	}
	text, err := base64.StdEncoding.DecodeString(tail)
	if err != nil {
		return lambdalog.Invocation{}
	}
	var found lambdalog.Invocation
	take := func(v lambdalog.Invocation) {
		if v.Kind == lambdalog.KindReport && (id == "" || v.RequestID == "" || v.RequestID == id) {
			found = v
		}
	}
	structured := false
	for line := range strings.SplitSeq(string(text), "\n") {
		structured = structured || strings.HasPrefix(line, "{")
		if v, err := lambdalog.ParseReport(line); err == nil {
			take(v)
		}
	}
	if found.Kind == "" && structured { // the function logs in JSON
		for v, err := range lambdalog.Scan(strings.NewReader(string(text)), lambdalog.FromTail) {
			if err == nil {
				take(v)
			}
		}
	}
	return found
}

// lambdaAnswer reads what a function returned to its gateway.
func lambdaAnswer(payload []byte) Response {
	var a struct {
		StatusCode        int                 `json:"statusCode"`
		Headers           map[string]string   `json:"headers"`
		MultiValueHeaders map[string][]string `json:"multiValueHeaders"`
		Body              string              `json:"body"`
		IsBase64Encoded   bool                `json:"isBase64Encoded"`
	}
	if err := json.Unmarshal(payload, &a); err != nil || a.StatusCode < 200 || a.StatusCode > 599 {
		return Response{
			Status: http.StatusBadGateway, Class: "bad_answer",
			Message: oneLine("the function's answer has no statusCode: " + string(payload[:min(len(payload), maxMessage)])),
		}
	}
	h := make(http.Header, len(a.Headers))
	for name, values := range a.MultiValueHeaders {
		for _, v := range values {
			h.Add(name, v)
		}
	}
	for name, v := range a.Headers {
		h.Set(name, v)
	}
	resp := Response{Status: a.StatusCode}
	resp.Written, resp.Confirmed = written(h)
	if a.StatusCode == http.StatusTooManyRequests || a.StatusCode/100 == 5 {
		resp.RetryAfter = retryAfter(h.Get("Retry-After"), time.Now())
	}
	if a.StatusCode/100 != 2 {
		message := a.Body
		if a.IsBase64Encoded {
			if b, err := base64.StdEncoding.DecodeString(message); err == nil {
				message = string(b)
			}
		}
		resp.Message = oneLine(message[:min(len(message), 4*maxMessage)])
	}
	return resp
}

// functionFailure is an invocation that ended in an error of the function: its gateway would answer 502,
// and 504 when it took too long.
func functionFailure(payload []byte, v *lambdalog.Invocation) Response {
	var e struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}
	resp := Response{Status: http.StatusBadGateway, Class: "function_error"}
	message := string(payload)
	if json.Unmarshal(payload, &e) == nil && e.ErrorMessage+e.ErrorType != "" {
		message = strings.TrimPrefix(e.ErrorType+": ", ": ") + e.ErrorMessage
	}
	if v.Status == lambdalog.StatusTimeout || e.ErrorType == "Sandbox.Timedout" || strings.Contains(e.ErrorMessage, "Task timed out after") {
		resp.Status, resp.Class = http.StatusGatewayTimeout, "function_timeout"
	}
	resp.Message = oneLine(message[:min(len(message), 4*maxMessage)])
	return resp
}

// lambdaFailure is an attempt that Lambda did not take, or whose answer did not come.
func lambdaFailure(err error) Response {
	if errors.Is(err, errLongAnswer) {
		return Response{Err: errLongAnswer, Class: "answer_too_large"}
	}
	status, ok := errors.AsType[*awshttp.ResponseError](err)
	api, isAPI := errors.AsType[smithy.APIError](err)
	if !ok || !isAPI || status.HTTPStatusCode() == 0 {
		return Response{Err: err, Timeout: isTimeout(err)}
	}
	resp := Response{Status: status.HTTPStatusCode(), Message: oneLine(api.ErrorMessage()), RequestID: status.ServiceRequestID()}
	throttled, ok := errors.AsType[*types.TooManyRequestsException](err)
	switch {
	case ok:
		resp.Status, resp.Class = http.StatusTooManyRequests, "throttled"
		resp.Message = oneLine(strings.TrimSuffix(string(throttled.Reason)+": "+resp.Message, ": "))
		resp.RetryAfter = retryAfter(aws.ToString(throttled.RetryAfterSeconds), time.Now())
	case resp.Status/100 == 2: // an answer that the SDK cannot read
		return Response{Err: err}
	default:
		resp.Class = "lambda_" + api.ErrorCode()
	}
	if resp.Class == "lambda_" || len(resp.Class) > 80 || strings.ContainsFunc(resp.Class, func(r rune) bool { return r <= ' ' || r > '~' }) {
		resp.Class = "lambda_error"
	}
	return resp
}
