package lambdahost_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/lambdahost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

func invoke(t *testing.T, h *lambdahost.Host, path, event string, header map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(event))
	for k, v := range header {
		r.Header.Set(k, v)
	}
	for {
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, r.Clone(t.Context()))
		if w.Code != http.StatusTooManyRequests || t.Context().Err() != nil { // the environment may not be idle yet
			return w
		}
		r.Body = io.NopCloser(strings.NewReader(event))
		time.Sleep(time.Millisecond)
	}
}

// The Invoke API gives back the tail of the log of this invocation and no other, with its REPORT line, under any name.
func TestInvokeTail(t *testing.T) {
	h, _ := start(t, "ok", lambdahost.Config{Environments: 1})
	tail := map[string]string{"X-Amz-Log-Type": "Tail"}
	for i, name := range []string{"function", "my-function", "arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af"} {
		w := invoke(t, h, "/2015-03-31/functions/"+name+"/invocations?Qualifier=prod", `"print"`, tail)
		log, err := base64.StdEncoding.DecodeString(w.Header().Get("X-Amz-Log-Result"))
		if err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d %v %s", w.Code, err, w.Body)
		}
		id := w.Header().Get("X-Amzn-Requestid")
		got := parse(t, string(log))
		if len(got) != 1 || got[0].RequestID != id || got[0].Cold != (i == 0) || !got[0].Billed.Known || strings.Count(string(log), "START ") != 1 {
			t.Errorf("%s of %s", log, id)
		}
		if i > 0 && !strings.Contains(string(log), "one line\n") && strings.Contains(string(log), "\nREPORT: mine") {
			t.Errorf("what the function printed is not whole in %s", log)
		}
	}
	if w := invoke(t, h, lambdahost.PathInvoke, `{}`, nil); w.Header().Get("X-Amz-Log-Result") != "" || w.Header().Get("X-Amzn-Requestid") == "" {
		t.Errorf("without a tail: %v", w.Header())
	}
	if w := invoke(t, h, "/api/v1/write", `{}`, nil); w.Header().Get("X-Amzn-Requestid") == "" {
		t.Errorf("through the gateway: %v", w.Header())
	}
}

// An invocation that times out says so in the tail; one that cannot be taken is an error that the SDKs know.
func TestInvokeErrors(t *testing.T) {
	h, _ := start(t, "ok", lambdahost.Config{Environments: 1, Timeout: 300 * time.Millisecond})
	tail := map[string]string{"X-Amz-Log-Type": "Tail"}
	w := invoke(t, h, lambdahost.PathInvoke, `"hang"`, tail)
	log, err := base64.StdEncoding.DecodeString(w.Header().Get("X-Amz-Log-Result"))
	if got := parse(t, string(log)); err != nil || len(got) != 1 || got[0].Status != lambdalog.StatusTimeout || w.Header().Get("X-Amz-Function-Error") == "" {
		t.Errorf("%d %s %v", w.Code, log, w.Header())
	}
	if w := invoke(t, h, lambdahost.PathInvoke, `{}`, map[string]string{"X-Amz-Invocation-Type": "Event"}); w.Code != http.StatusBadRequest || w.Header().Get("X-Amzn-Errortype") == "" {
		t.Errorf("asynchronously: %d %v", w.Code, w.Header())
	}
	if w := invoke(t, h, lambdahost.PathInvoke, strings.Repeat("x", 7<<20), nil); w.Code != http.StatusRequestEntityTooLarge || w.Header().Get("X-Amzn-Errortype") != "RequestTooLargeException" {
		t.Errorf("too large: %d %v", w.Code, w.Header())
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if w := invoke(t, h, lambdahost.PathInvoke, `{}`, tail); w.Code != http.StatusServiceUnavailable || w.Header().Get("X-Amzn-Errortype") != "ServiceException" {
		t.Errorf("closed: %d %v", w.Code, w.Header())
	}
}
