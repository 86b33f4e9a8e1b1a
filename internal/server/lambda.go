package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// answerMargin is left of an invocation's time to answer in: a function that Lambda
// kills has stored for nothing, because the sender learns of a failure only.
const answerMargin = 500 * time.Millisecond

// Lambda is the face of a [Core] inside a Lambda function. It takes the events of API
// Gateway (payload formats 1.0 and 2.0), of function URLs, of application load
// balancers (with plain and with multi-value headers) and direct invocations with an
// event of the same form, and answers each in its own form.
//
// It makes an HTTP request of the event and hands it to [Core.Handler], so that paths,
// keys, limits and statuses are the same everywhere. The body is not unmarshalled: it
// is found in the raw event and decoded from base64 straight into the buffer of the
// core.
//
// Its only method is that of lambda.Handler in aws-lambda-go.
type Lambda struct {
	core      *Core
	http      http.Handler
	requestID func(context.Context) string
}

// Lambda returns the Lambda face of the server. requestID tells from the context of an invocation by which id Lambda logs
// it: every answer then has it in the header [remotewrite.HeaderInvocation], for whoever joins answers with the log.
// With nil, or while it returns "", no answer has that header.
func (c *Core) Lambda(requestID func(context.Context) string) *Lambda {
	if requestID == nil {
		requestID = func(context.Context) string { return "" }
	}
	return &Lambda{core: c, http: c.Handler(), requestID: requestID}
}

// Invoke answers one event. payload is only read, and not kept. The error is always
// nil: whatever is wrong with an event or with us is a status, since an error of the
// function would cost the sender its reason and, after a panic, the next one a cold
// start.
func (l *Lambda) Invoke(ctx context.Context, payload []byte) (answer []byte, err error) {
	var ev event
	w := &eventWriter{header: http.Header{}}
	id := l.requestID(ctx)
	w.name(id)
	defer func() {
		if p := recover(); p != nil { // the core recovers its own
			l.core.log.LogAttrs(ctx, slog.LevelError, "panic while serving an event",
				slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
			w := &eventWriter{header: http.Header{}, status: http.StatusInternalServerError}
			w.name(id)
			answer, err = w.render(&ev), nil
		}
	}()
	if err := ev.parse(payload); err != nil {
		l.core.log.LogAttrs(ctx, slog.LevelWarn, "event not understood", slog.String("error", err.Error()), slog.Int("event_bytes", len(payload)))
		w.status, w.body = http.StatusBadRequest, []byte("event: "+err.Error()+"; hint: send an event of API Gateway, a function URL or a load balancer\n")
		return w.render(&ev), nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		margin := min(answerMargin, time.Until(deadline)/10)
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-margin))
		defer cancel()
	}
	l.http.ServeHTTP(w, ev.request(ctx))
	return w.render(&ev), nil
}

// request makes the HTTP request that the event tells of.
func (ev *event) request(ctx context.Context) *http.Request {
	body := ev.reader()
	path, err := url.PathUnescape(ev.path)
	if err != nil {
		path = ev.path
	}
	r := &http.Request{
		Method: ev.method, URL: &url.URL{Path: path, RawQuery: ev.query}, Header: ev.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: ev.header.Get("Host"),
		Body: body, ContentLength: body.length,
	}
	return r.WithContext(ctx)
}

// eventWriter collects the answer of the handler.
type eventWriter struct {
	header http.Header
	status int
	body   []byte
}

// name says which invocation answers.
func (w *eventWriter) name(id string) {
	if id != "" {
		w.header[remotewrite.HeaderInvocation] = []string{id}
	}
}

func (w *eventWriter) Header() http.Header { return w.header }

func (w *eventWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *eventWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, p...)
	return len(p), nil
}

// render makes the answer that the sender of the event understands. All of them take
// statusCode, headers and body; a load balancer that sends multi-value headers wants
// them back, and ignores the others.
func (w *eventWriter) render(ev *event) []byte {
	b := make([]byte, 0, 512+len(w.body))
	b = append(b, `{"statusCode":`...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	if ev.balancer {
		b = append(b, `,"statusDescription":`...)
		b = appendJSON(b, strconv.Itoa(w.status)+" "+http.StatusText(w.status))
	}
	multi := ev.balancer && ev.multiValue
	if multi {
		b = append(b, `,"multiValueHeaders":{`...)
	} else {
		b = append(b, `,"headers":{`...)
	}
	first := true
	for name, values := range w.header {
		if len(values) == 0 || name == "Connection" { // the connection is not ours
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendJSON(b, name), ':')
		if multi {
			b = append(appendJSON(append(b, '['), values[0]), ']')
		} else {
			b = appendJSON(b, values[0]) // the core sets one value each
		}
	}
	b = append(b, `},"isBase64Encoded":false,"body":`...)
	b = appendJSON(b, string(w.body))
	return append(b, '}')
}

func appendJSON(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // a string always marshals
		return append(b, `""`...)
	}
	return append(b, q...)
}

// mangled is what a gateway does to a body when it takes it for text: every byte that
// is not UTF-8 is gone for good. It is the deployment's fault and not the sender's, so
// the sender must keep the request until somebody has repaired it.
func mangled() error {
	return &remotewrite.Error{
		Status: http.StatusInternalServerError,
		Reason: reasonBodyMangled,
		Detail: "the gateway has turned the binary body into text; its bytes are lost",
		Hint:   "declare application/x-protobuf (or */*) under binaryMediaTypes of the REST API",
	}
}

func badBase64() error {
	return &remotewrite.Error{
		Status: http.StatusBadRequest,
		Reason: reasonBodyBase64,
		Detail: "the body of the event is not valid base64 although isBase64Encoded says so",
		Hint:   "encode the body in standard base64 with padding",
	}
}
