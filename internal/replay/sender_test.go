package replay

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

func newSender(t *testing.T, c HTTPConfig) *HTTPSender {
	t.Helper()
	s, err := NewHTTPSender(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func outgoing() *Outgoing {
	return &Outgoing{Org: "alfa", Cluster: "prod & west", Version: remotewrite.V2, Body: []byte("body"), Samples: 5, Exemplars: 1}
}

func TestHTTPSenderSendsWhatPrometheusSends(t *testing.T) {
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.WithoutCancel(r.Context()))
		body, _ = io.ReadAll(r.Body)
		w.Header().Set(remotewrite.HeaderSamplesWritten, "5")
		w.Header().Set(remotewrite.HeaderHistogramsWritten, "0")
		w.Header().Set(remotewrite.HeaderExemplarsWritten, "1")
		w.WriteHeader(http.StatusNoContent)
	}))
	defer srv.Close()
	s := newSender(t, HTTPConfig{URL: srv.URL + "?region=us-east-1", UserAgent: "cirrusbench/test", Header: map[string]string{"X-Api-Key": "k"}})
	resp := s.Send(t.Context(), outgoing())
	if resp.Err != nil || resp.Status != 204 || !resp.Confirmed || resp.Written != (Written{5, 0, 1}) {
		t.Fatalf("response %+v", resp)
	}
	if string(body) != "body" || got.ContentLength != 4 || got.Method != http.MethodPost {
		t.Errorf("sent %s %d bytes %q", got.Method, got.ContentLength, body)
	}
	if want := "/api/v1/write?region=us-east-1&cluster_name=prod+%26+west"; got.URL.String() != want {
		t.Errorf("URL %s, want %s", got.URL, want)
	}
	for k, want := range map[string]string{
		"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request", "Content-Encoding": "snappy",
		"X-Prometheus-Remote-Write-Version": "2.0.0", "X-Scope-OrgID": "alfa", "User-Agent": "cirrusbench/test", "X-Api-Key": "k",
	} {
		if got.Header.Get(k) != want {
			t.Errorf("%s: %q, want %q", k, got.Header.Get(k), want)
		}
	}
}

func TestJudge(t *testing.T) {
	v1 := &Outgoing{Version: remotewrite.V1, Samples: 5}
	v2 := &Outgoing{Version: remotewrite.V2, Samples: 5, Histograms: 2, Exemplars: 1}
	tests := []struct {
		name    string
		out     *Outgoing
		resp    Response
		outcome stats.Outcome
		class   string
		written int64
	}{
		{"1.0 confirms by its status", v1, Response{Status: 204}, stats.OK, "", 5},
		{"2.0 confirms all", v2, Response{Status: 204, Confirmed: true, Written: Written{5, 2, 1}}, stats.OK, "", 5},
		{"2.0 confirms more than was sent, which cannot be", v2, Response{Status: 200, Confirmed: true, Written: Written{6, 2, 1}}, stats.OK, "", 5},
		{"2.0 without the headers", v2, Response{Status: 204}, stats.OK, "", 0},
		{"2.0 lost samples behind a 204", v2, Response{Status: 204, Confirmed: true, Written: Written{4, 2, 1}}, stats.Failed, "short_write", 4},
		{"2.0 lost an exemplar behind a 204", v2, Response{Status: 204, Confirmed: true, Written: Written{5, 2, 0}}, stats.Failed, "short_write", 5},
		{"redirect is no success", v1, Response{Status: 302}, stats.Failed, "http_302", 0},
		{"throttled", v1, Response{Status: 429, Message: "slow down"}, stats.Failed, "http_429", 0},
		{"partial write", v2, Response{Status: 400, Confirmed: true, Written: Written{3, 0, 0}}, stats.Failed, "http_400", 3},
		{"timeout", v1, Response{Err: context.DeadlineExceeded, Timeout: true}, stats.TimedOut, "timeout", 0},
		{"broken", v1, Response{Err: io.ErrUnexpectedEOF}, stats.Failed, "connection_lost", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			outcome, class, example, written := judge(tt.out, &tt.resp)
			if outcome != tt.outcome || class != tt.class || written != tt.written {
				t.Errorf("got %v %q %d (%s), want %v %q %d", outcome, class, written, example, tt.outcome, tt.class, tt.written)
			}
		})
	}
}

// TestHTTPSenderFailures looks at what real connections do.
func TestHTTPSenderFailures(t *testing.T) {
	slow := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			<-slow
		case "/early": // answers before the body is read
			w.Header().Set("Connection", "close")
			http.Error(w, "too large\n\x1b[31mred", http.StatusRequestEntityTooLarge)
		case "/cut":
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
		case "/redirect":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}
	}))
	defer srv.Close()
	defer close(slow)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String() + "/x"
	_ = l.Close()

	big := outgoing()
	big.Body = make([]byte, 8<<20)
	tests := []struct {
		name, url, class string
		out              *Outgoing
	}{
		{"nobody listens", nobody, "connection_refused", outgoing()},
		{"no answer in time", srv.URL + "/slow", "timeout", outgoing()},
		{"early refusal", srv.URL + "/early", "http_413", outgoing()},
		{"cut off", srv.URL + "/cut", "connection_lost", outgoing()},
		{"redirect", srv.URL + "/redirect", "http_302", outgoing()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSender(t, HTTPConfig{URL: tt.url + "?api_key=canary"})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if tt.class == "timeout" {
				ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
			}
			defer cancel()
			resp := s.Send(ctx, tt.out)
			if got := errorClass(resp); got != tt.class {
				t.Errorf("class %q (%+v), want %q", got, resp, tt.class)
			}
			if resp.Err != nil && strings.Contains(resp.Err.Error(), "canary") {
				t.Errorf("error repeats the query: %v", resp.Err)
			}
			if strings.ContainsAny(resp.Message, "\n\x1b") {
				t.Errorf("message %q holds control characters", resp.Message)
			}
		})
	}
}

// TestHTTPSenderReusesConnections: bodies are read out, so 2,000 requests need about as many connections as
// there are senders. net/http gives a connection up when the answer is there and the write is not confirmed
// within 50 ms, which a busy machine brings about now and then.
func TestHTTPSenderReusesConnections(t *testing.T) {
	const workers = 8
	var conns atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		http.Error(w, strings.Repeat("x", 5000), http.StatusServiceUnavailable)
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	s := newSender(t, HTTPConfig{URL: srv.URL, MaxInFlight: workers})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range 250 {
				if resp := s.Send(t.Context(), outgoing()); resp.Status != 503 {
					t.Errorf("response %+v", resp)
				}
			}
		})
	}
	wg.Wait()
	if conns.Load() > 4*workers {
		t.Errorf("%d connections for %d workers and 2,000 requests", conns.Load(), workers)
	}
}

func TestNewHTTPSenderRefuses(t *testing.T) {
	for _, u := range []string{"", "host:80", "ftp://host/", "http://", "http://user:canary-secret@host/"} {
		_, err := NewHTTPSender(HTTPConfig{URL: u})
		if err == nil {
			t.Errorf("%q accepted", u)
		} else if strings.Contains(err.Error(), "canary-secret") {
			t.Errorf("error repeats the secret: %v", err)
		}
	}
}
