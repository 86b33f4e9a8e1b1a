package lambdahost

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// maxGatewayBytes is API Gateway's limit for the body of a request.
const maxGatewayBytes = 10 << 20

// PathInvoke takes an event as it is, as Lambda's Invoke API does; with any other name in the place of
// "function" too, since a host has one function.
const PathInvoke = "/2015-03-31/functions/function/invocations"

// invokePattern is PathInvoke for every name, which may be an ARN, and any Qualifier.
const invokePattern = "POST /2015-03-31/functions/{name}/invocations"

// Handler returns an HTTP API in front of the function: each request becomes an event
// of payload format 2.0 and its answer an HTTP response, as with an HTTP API of API
// Gateway or a function URL. [PathInvoke] takes events of any form instead.
//
// When all environments are busy it answers 429, when the function fails 502, and 413
// to a body above 10 MiB or an event above 6 MiB, which is a body of 4.4 MiB in base64.
func (h *Host) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(invokePattern, h.serveInvoke)
	mux.HandleFunc("/", h.serveGateway)
	return mux
}

// serveInvoke is the Invoke API.
func (h *Host) serveInvoke(w http.ResponseWriter, r *http.Request) {
	event, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayloadBytes))
	if err != nil {
		refuseInvoke(w, unreadable(err), ErrTooLarge)
		return
	}
	if t := r.Header.Get("X-Amz-Invocation-Type"); t != "" && t != "RequestResponse" {
		refuseInvoke(w, http.StatusBadRequest, errors.New("this host invokes synchronously only, not as "+t))
		return
	}
	invoke := h.Invoke
	if strings.EqualFold(r.Header.Get("X-Amz-Log-Type"), "Tail") {
		invoke = h.InvokeTail
	}
	a, err := invoke(r.Context(), event)
	if err != nil {
		refuseInvoke(w, statusOf(err), err)
		return
	}
	w.Header().Set(headerRequestID, a.RequestID)
	w.Header().Set("X-Amz-Executed-Version", "$LATEST")
	if a.FunctionError != "" {
		w.Header().Set("X-Amz-Function-Error", a.FunctionError)
	}
	if len(a.Log) > 0 {
		w.Header().Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString(a.Log))
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.Payload) // a client that has gone needs no answer
}

const headerRequestID = "X-Amzn-Requestid"

// refuseInvoke answers in the place of Lambda, so that an SDK finds the error it knows.
func refuseInvoke(w http.ResponseWriter, status int, err error) {
	kind, body := "ServiceException", map[string]string{"Type": "Service", "message": err.Error()}
	switch status {
	case http.StatusTooManyRequests:
		kind = "TooManyRequestsException"
		body = map[string]string{"Type": "User", "Reason": "ConcurrentInvocationLimitExceeded", "message": "Rate Exceeded."}
	case http.StatusRequestEntityTooLarge:
		kind, body["Type"] = "RequestTooLargeException", "User"
	case http.StatusBadRequest:
		kind, body["Type"] = "InvalidRequestContentException", "User"
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", kind)
	w.Header().Set(headerRequestID, newRequestID())
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone needs no answer
}

// serveGateway is the HTTP API.
func (h *Host) serveGateway(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxGatewayBytes))
	if err != nil {
		refuse(w, unreadable(err))
		return
	}
	event, err := gatewayEvent(r, body, time.Now())
	if err != nil {
		refuse(w, http.StatusInternalServerError)
		return
	}
	a, err := h.Invoke(r.Context(), event)
	if err != nil {
		refuse(w, statusOf(err))
		return
	}
	w.Header().Set(headerRequestID, a.RequestID)
	if a.FunctionError != "" {
		refuse(w, http.StatusBadGateway)
		return
	}
	writeAnswer(w, a.Payload)
}

func unreadable(err error) int {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrThrottled):
		return http.StatusTooManyRequests
	case errors.Is(err, ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrClosed):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// refuse answers in the place of the function, as the gateway does.
func refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": http.StatusText(status)}) // a client that has gone needs no answer
}

// gatewayEvent makes the event of payload format 2.0 of a request.
func gatewayEvent(r *http.Request, body []byte, now time.Time) ([]byte, error) {
	headers := map[string]string{"host": r.Host}
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	event := map[string]any{
		"version": "2.0", "routeKey": "$default",
		"rawPath": r.URL.EscapedPath(), "rawQueryString": r.URL.RawQuery,
		"headers": headers,
		"requestContext": map[string]any{
			"accountId": "000000000000", "apiId": "local", "domainName": r.Host, "requestId": newRequestID(),
			"routeKey": "$default", "stage": "$default",
			"time": now.UTC().Format("02/Jan/2006:15:04:05 -0700"), "timeEpoch": now.UnixMilli(),
			"http": map[string]any{
				"method": r.Method, "path": r.URL.EscapedPath(), "protocol": r.Proto, "sourceIp": host, "userAgent": r.UserAgent(),
			},
		},
	}
	if len(r.URL.RawQuery) > 0 {
		query := map[string]string{}
		for name, values := range r.URL.Query() {
			query[name] = strings.Join(values, ",")
		}
		event["queryStringParameters"] = query
	}
	switch {
	case len(body) == 0:
		event["isBase64Encoded"] = false
	case isText(r.Header) && utf8.Valid(body):
		event["body"], event["isBase64Encoded"] = string(body), false
	default:
		event["body"], event["isBase64Encoded"] = base64.StdEncoding.EncodeToString(body), true
	}
	return json.Marshal(event)
}

// isText says whether a gateway hands a body on as text.
func isText(h http.Header) bool {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && h.Get("Content-Encoding") == "" &&
		(strings.HasPrefix(t, "text/") || slices.Contains([]string{"application/json", "application/xml", "application/javascript"}, t))
}

// writeAnswer makes the HTTP answer of what the function returned; 502 if it is none.
func writeAnswer(w http.ResponseWriter, payload []byte) {
	var a struct {
		StatusCode        int                 `json:"statusCode"`
		Headers           map[string]string   `json:"headers"`
		MultiValueHeaders map[string][]string `json:"multiValueHeaders"`
		Body              string              `json:"body"`
		IsBase64Encoded   bool                `json:"isBase64Encoded"`
	}
	if err := json.Unmarshal(payload, &a); err != nil || a.StatusCode < 200 || a.StatusCode > 599 {
		refuse(w, http.StatusBadGateway)
		return
	}
	body := []byte(a.Body)
	if a.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(a.Body); err != nil {
			refuse(w, http.StatusBadGateway)
			return
		}
	}
	maps.Copy(w.Header(), a.MultiValueHeaders)
	for name, value := range a.Headers {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.StatusCode)
	if len(body) > 0 {
		_, _ = w.Write(body) // a client that has gone needs no answer
	}
}
