package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// object is a JSON object of an event.
type object = map[string]any

// eventShapes are the forms in which one request reaches a function.
func eventShapes(r recorded) map[string]object {
	headers := func(name func(string) string) object {
		h := object{}
		for k := range r.Header {
			h[name(k)] = r.Header.Get(k)
		}
		h[name("X-Scope-OrgID")] = "alfa"
		return h
	}
	multi := func(name func(string) string) object {
		h := object{}
		for k, v := range headers(name) {
			h[k] = []any{v}
		}
		return h
	}
	asIs := func(s string) string { return s }
	with := func(e object) object {
		e["body"] = base64.StdEncoding.EncodeToString(r.Body)
		e["isBase64Encoded"] = true
		return e
	}
	v1 := func() object {
		return with(object{
			"resource": "/{proxy+}", "path": "/api/v1/write", "httpMethod": "POST",
			"headers": headers(asIs), "multiValueHeaders": multi(asIs),
			"queryStringParameters":           object{"cluster_name": "eu-1"},
			"multiValueQueryStringParameters": object{"cluster_name": []any{"eu-1"}},
			"pathParameters":                  object{"proxy": "api/v1/write"}, "stageVariables": nil,
			"requestContext": object{"stage": "prod", "httpMethod": "POST", "path": "/prod/api/v1/write", "identity": object{"sourceIp": "198.51.100.1"}},
		})
	}
	v2 := func(stage, path string) object {
		return with(object{
			"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "cluster_name=eu-1",
			"headers": headers(strings.ToLower), "queryStringParameters": object{"cluster_name": "eu-1"},
			"requestContext": object{"stage": stage, "http": object{"method": "POST", "path": path, "protocol": "HTTP/1.1"}, "timeEpoch": 1763663100000},
		})
	}
	elb := object{"elb": object{"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/x/1"}}
	plainV1 := v1()
	delete(plainV1, "multiValueHeaders")
	delete(plainV1, "multiValueQueryStringParameters")
	return map[string]object{
		"API Gateway, payload 1.0":                     v1(),
		"API Gateway, payload 1.0, plain headers only": plainV1,
		"API Gateway, payload 2.0":                     v2("$default", "/api/v1/write"),
		"API Gateway, payload 2.0, named stage":        v2("prod", "/prod/api/v1/write"),
		"function URL":                                 v2("$default", "/api/v1/write"),
		"load balancer, plain headers": with(object{
			"requestContext": elb, "httpMethod": "POST", "path": "/api/v1/write",
			"queryStringParameters": object{"cluster_name": "eu%2D1"}, "headers": headers(strings.ToLower),
		}),
		"load balancer, multi-value headers": with(object{
			"requestContext": elb, "httpMethod": "POST", "path": "/api/v1/write",
			"multiValueQueryStringParameters": object{"cluster_name": []any{"eu-1"}}, "multiValueHeaders": multi(strings.ToLower),
		}),
		"direct": with(object{"headers": headers(asIs), "queryStringParameters": object{"cluster_name": "eu-1"}}),
	}
}

func marshal(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// lambdaAnswer is what a gateway reads of the answer of a function.
type lambdaAnswer struct {
	StatusCode        int                 `json:"statusCode"`
	StatusDescription string              `json:"statusDescription"`
	Headers           map[string]string   `json:"headers"`
	MultiValueHeaders map[string][]string `json:"multiValueHeaders"`
	Body              string              `json:"body"`
	IsBase64Encoded   bool                `json:"isBase64Encoded"`
}

func (a lambdaAnswer) header() http.Header {
	h := http.Header{}
	for k, v := range a.Headers {
		h.Set(k, v)
	}
	maps.Copy(h, a.MultiValueHeaders)
	return h
}

func invoke(tb testing.TB, c *server.Core, payload []byte) lambdaAnswer {
	tb.Helper()
	return invokeContext(context.Background(), tb, c, payload)
}

func invokeContext(ctx context.Context, tb testing.TB, c *server.Core, payload []byte) lambdaAnswer {
	tb.Helper()
	before := bytes.Clone(payload)
	out, err := c.Lambda(nil).Invoke(ctx, payload)
	if err != nil {
		tb.Fatal(err)
	}
	if !bytes.Equal(before, payload) {
		tb.Error("the event was changed")
	}
	var a lambdaAnswer
	dec := json.NewDecoder(bytes.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		tb.Fatalf("the answer %q: %v", out, err)
	}
	return a
}

// One body through every form is one stored object, which is also that of HTTP.
func TestLambdaShapes(t *testing.T) {
	for _, r := range good(t) {
		t.Run(r.Name, func(t *testing.T) {
			st := store.NewMemory()
			obs := &observed{}
			c := newCore(t, server.Config{Sink: server.NewStoreSink(st), Metrics: obs})
			v := remotewrite.Version(r.Summary.Version)
			in := r.input()
			in.Org, in.Cluster = "alfa", "eu-1"
			if res := c.Ingest(t.Context(), in); res.Status != http.StatusNoContent || !res.Created {
				t.Fatalf("%+v", res)
			}
			want := contents(t, st)
			for name, ev := range eventShapes(r) {
				a := invoke(t, c, marshal(t, ev))
				if a.StatusCode != http.StatusNoContent || a.Body != "" || a.IsBase64Encoded {
					t.Errorf("%s: %+v", name, a)
				}
				if !obs.last(t).Duplicate && obs.last(t).Summary.HasTimestamp { // metadata alone takes the clock, which stands
					t.Errorf("%s: another object", name)
				}
				wantWritten(t, a.header(), v, itoa(r.Summary.Samples), itoa(r.Summary.IntHistograms+r.Summary.FloatHistograms), itoa(r.Summary.Exemplars))
				balancer := strings.HasPrefix(name, "load balancer")
				if multi := a.MultiValueHeaders != nil; multi != (balancer && strings.Contains(name, "multi")) {
					t.Errorf("%s: multi-value headers in the answer: %v", name, multi)
				}
				if want := map[bool]string{true: "204 No Content"}[balancer]; a.StatusDescription != want {
					t.Errorf("%s: status description %q, want %q", name, a.StatusDescription, want)
				}
			}
			if diff := cmp.Diff(want, contents(t, st)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Each change to a good event has its own answer, and nothing but a 204 stores.
func TestLambdaRefusals(t *testing.T) {
	r := readRecorded(t, "v2-prom3-stale-markers.snappy")
	const v2 = "API Gateway, payload 2.0"
	set := func(kv ...any) func(object) {
		return func(e object) {
			for i := 0; i < len(kv); i += 2 {
				e[kv[i].(string)] = kv[i+1] //nolint:errcheck,forcetypeassert // the table below
			}
		}
	}
	// What a REST API without binaryMediaTypes makes of the body.
	text := strings.ToValidUTF8(string(r.Body), "\uFFFD")
	for _, tc := range []struct {
		name   string
		shape  string
		change func(object)
		status int
		says   string
	}{
		{"mangled", "API Gateway, payload 1.0", set("isBase64Encoded", false, "body", text), 500, "binaryMediaTypes"},
		{"mangled, balancer", "load balancer, plain headers", set("isBase64Encoded", false, "body", text), 500, "body_mangled"},
		{"base64 but not said so", v2, set("isBase64Encoded", false), 400, "snappy"},
		{"said to be base64 but is not", v2, set("body", "äöü!"), 400, "body_base64"},
		{"base64 cut short", v2, set("body", "AAAAA"), 400, "body_base64"},
		{"base64 with padding inside", v2, set("body", "AA==AAAA"), 400, "body_base64"},
		{"no body", v2, set("body", nil), 400, "body_empty"},
		{"method", v2, set("requestContext", object{"http": object{"method": "GET"}}), 405, "method"},
		{"path", v2, set("rawPath", "/elsewhere"), 404, "not_found"},
		{"stage that is not a stage", v2, set("rawPath", "/prod/api/v1/nothing"), 404, "not_found"},
		{"cluster", v2, set("rawQueryString", "cluster_name=..%2f.."), 400, "cluster_name"},
		{"query", v2, set("rawQueryString", "cluster_name=%zz"), 400, "query"},
		{"no headers", "direct", set("headers", nil), 415, "content_type"},
		{"not an object", "", nil, 400, "event"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st := store.NewMemory()
			var log bytes.Buffer
			c := newCore(t, server.Config{Sink: server.NewStoreSink(st), Logger: slog.New(slog.NewJSONHandler(&log, nil))})
			payload := []byte(`[1]`)
			if tc.change != nil {
				ev := maps.Clone(eventShapes(r)[tc.shape])
				tc.change(ev)
				payload = marshal(t, ev)
			}
			a := invoke(t, c, payload)
			if a.StatusCode != tc.status || !strings.Contains(a.Body, tc.says) {
				t.Errorf("%d %q, want %d and %q", a.StatusCode, a.Body, tc.status, tc.says)
			}
			if log.Len() == 0 {
				t.Error("nothing was logged")
			}
			if n := len(contents(t, st)); n != 0 {
				t.Errorf("%d objects were stored", n)
			}
		})
	}
}

// Whatever the event and whatever becomes of it, the answer says which invocation gave it, if that is known.
func TestLambdaNamesTheInvocation(t *testing.T) {
	const id = "5a56ac87-15c9-505b-93e2-7773063edf57"
	r := readRecorded(t, "v2-prom3-stale-markers.snappy")
	c := newCore(t, server.Config{Sink: server.NewStoreSink(store.NewMemory())})
	events := map[string][]byte{"not an object": []byte(`[1]`), "nothing in it": []byte(`{}`)}
	for name, ev := range eventShapes(r) {
		events[name] = marshal(t, ev)
	}
	for name, payload := range events {
		for want, requestID := range map[string]func(context.Context) string{
			id: func(context.Context) string { return id }, "": func(context.Context) string { return "" }, "-": nil,
		} {
			out, err := c.Lambda(requestID).Invoke(t.Context(), payload)
			if err != nil {
				t.Fatal(err)
			}
			var a lambdaAnswer
			if err := json.Unmarshal(out, &a); err != nil {
				t.Fatal(err)
			}
			got := a.header()[remotewrite.HeaderInvocation]
			if len(want) > 1 && (len(got) != 1 || got[0] != want) || len(want) <= 1 && got != nil {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}

// A body whose bytes happen to be text arrives unencoded, and a JSON writer may escape what it likes.
func TestLambdaEncodings(t *testing.T) {
	r := readRecorded(t, "v1-prom242-500samples-plain.snappy")
	b64 := base64.StdEncoding.EncodeToString(r.Body)
	var wrapped []byte
	for i := 0; i < len(b64); i += 76 {
		wrapped = append(append(wrapped, b64[i:min(i+76, len(b64))]...), '\n')
	}
	st := store.NewMemory()
	c := newCore(t, server.Config{Sink: server.NewStoreSink(st)})
	event := eventShapes(r)["direct"]
	payload := func(body string) []byte {
		event["body"] = "BODY"
		return bytes.Replace(marshal(t, event), []byte(`"BODY"`), []byte(`"`+body+`"`), 1)
	}
	for name, body := range map[string]string{
		"plain":         b64,
		"slashes":       strings.ReplaceAll(b64, "/", `\/`),
		"plus and more": strings.ReplaceAll(strings.ReplaceAll(b64, "+", `\u002b`), "=", `\u003d`),
		"line breaks":   strings.ReplaceAll(string(wrapped), "\n", `\n`),
	} {
		if a := invoke(t, c, payload(body)); a.StatusCode != http.StatusNoContent {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.Body)
		}
	}
	if n := len(contents(t, st)); n != 1 {
		t.Errorf("%d objects, want 1", n)
	}

	// The sink gets the very bytes of a body that is text.
	ascii := asciiBody(t)
	var got []byte
	c = newCore(t, server.Config{Sink: sinkFunc(func(_ context.Context, r server.Request) (bool, error) {
		got = bytes.Clone(r.Body)
		return true, nil
	})})
	event["body"], event["isBase64Encoded"] = string(ascii), false
	if a := invoke(t, c, marshal(t, event)); a.StatusCode != http.StatusNoContent || !bytes.Equal(got, ascii) {
		t.Errorf("%d %s: %q", a.StatusCode, a.Body, got)
	}
}

// asciiBody is a metadata request that is ASCII when compressed by literals alone.
func asciiBody(tb testing.TB) []byte {
	tb.Helper()
	//	metadata (field 3): type 1, family "up", help "hh"
	msg := []byte("\x1a\x0a\x08\x01\x12\x02up\x22\x02hh")
	body := append([]byte{byte(len(msg)), byte(len(msg)-1) << 2}, msg...)
	for _, c := range body {
		if c >= 0x80 {
			tb.Fatal("not ASCII")
		}
	}
	return body
}

// Health checks reach the function as well; a balancer sends them as events.
func TestLambdaHealth(t *testing.T) {
	c := newCore(t, server.Config{})
	ev := object{"requestContext": object{"elb": object{}}, "httpMethod": "GET", "path": server.PathReadyz, "headers": object{}, "body": "", "isBase64Encoded": false}
	if a := invoke(t, c, marshal(t, ev)); a.StatusCode != http.StatusOK || a.Body != "ok\n" || a.StatusDescription != "200 OK" {
		t.Errorf("%+v", a)
	}
	c.Drain()
	if a := invoke(t, c, marshal(t, ev)); a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("draining: %+v", a)
	}
}

// A panic costs its request a 500 and the next one nothing.
func TestLambdaPanic(t *testing.T) {
	r := readRecorded(t, "v1-prom242-500samples-plain.snappy")
	calls := 0
	c := newCore(t, server.Config{Sink: sinkFunc(func(context.Context, server.Request) (bool, error) {
		if calls++; calls == 1 {
			panic("a bug")
		}
		return true, nil
	})})
	payload := marshal(t, eventShapes(r)["function URL"])
	if a := invoke(t, c, payload); a.StatusCode != http.StatusInternalServerError {
		t.Errorf("%+v", a)
	}
	if a := invoke(t, c, payload); a.StatusCode != http.StatusNoContent {
		t.Errorf("%+v", a)
	}
}

// A store that hangs is given up in time to tell the sender before Lambda kills the function.
func TestLambdaDeadline(t *testing.T) {
	r := readRecorded(t, "v1-prom242-500samples-plain.snappy")
	deadline := time.Now().Add(time.Minute)
	c := newCore(t, server.Config{StoreTimeout: -1, Sink: sinkFunc(func(ctx context.Context, _ server.Request) (bool, error) {
		d, ok := ctx.Deadline()
		if early := deadline.Sub(d); !ok || early < 100*time.Millisecond || early > time.Second {
			t.Errorf("the store may take until %v before the end", early)
		}
		return false, context.DeadlineExceeded
	})})
	ctx, cancel := context.WithDeadline(t.Context(), deadline)
	defer cancel()
	a := invokeContext(ctx, t, c, marshal(t, eventShapes(r)["function URL"]))
	if a.StatusCode != http.StatusServiceUnavailable || a.Headers["Retry-After"] == "" {
		t.Errorf("%+v", a)
	}
}
