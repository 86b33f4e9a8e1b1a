package replay

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

func newRaw(t *testing.T, c HTTPConfig) *RawSender {
	t.Helper()
	s, err := NewRawSender(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// script is a server that answers the n-th request of a connection with the n-th of its steps, written byte
// by byte where split is set, and then closes.
type script struct {
	name   string
	steps  []string
	split  bool
	early  bool // answers when the head is read, and closes without reading the body
	refuse bool // the answer comes when the head is read; the body is never read, the connection stays
	hang   bool // never answers
	cut    bool // ends inside a header line, which net/http calls malformed and not cut off
}

func (s script) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if tc, ok := conn.(*net.TCPConn); ok {
		_ = tc.SetNoDelay(true)
	}
	r := bufio.NewReader(conn)
	for _, step := range s.steps {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if s.hang {
			_, _ = io.Copy(io.Discard, r)
			return
		}
		if !s.early && !s.refuse {
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
		}
		if s.split {
			for i := range step {
				if _, err := conn.Write([]byte{step[i]}); err != nil {
					return
				}
			}
		} else if _, err := io.WriteString(conn, step); err != nil {
			return
		}
		if s.refuse {
			time.Sleep(300 * time.Millisecond)
			return
		}
	}
}

// listen serves the script on loopback and counts connections.
func (s script) listen(t *testing.T) (url string, conns *atomic.Int64) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns = new(atomic.Int64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			wg.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return "http://" + l.Addr().String(), conns
}

func scripts() []script {
	const confirm = "X-Prometheus-Remote-Write-Samples-Written: 5\r\nX-Prometheus-Remote-Write-Histograms-Written: 0\r\nx-prometheus-remote-write-exemplars-written: 1\r\n"
	ok := "HTTP/1.1 204 No Content\r\n" + confirm + "\r\n"
	say := func(head, body string) string { return "HTTP/1.1 " + head + "\r\n\r\n" + body }
	return []script{
		{name: "204", steps: []string{ok, ok, ok}},
		{name: "204 split at every byte", steps: []string{ok, ok, ok}, split: true},
		{name: "200 with a length", steps: []string{say("200 OK\r\nContent-Length: 5", "hello"), ok, ok}},
		{name: "length 0", steps: []string{say("200 OK\r\nContent-Length: 0", ""), ok, ok}},
		{name: "no reason phrase", steps: []string{say("200 \r\nContent-Length: 0", ""), say("200\r\nContent-Length: 0", ""), ok}},
		{name: "bare line feeds", steps: []string{strings.ReplaceAll(ok, "\r\n", "\n"), ok, ok}},
		{name: "chunked", steps: []string{say("503 Busy\r\nTransfer-Encoding: chunked\r\nRetry-After: 7", "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"), ok, ok}},
		{name: "chunked, split", steps: []string{say("400 No\r\nTransfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"), ok, ok}, split: true},
		{name: "chunked wins over a length", steps: []string{say("200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", "1\r\nx\r\n0\r\n\r\n"), ok, ok}},
		{name: "chunk size is no number", steps: []string{say("200 OK\r\nTransfer-Encoding: chunked", "zz\r\nabc\r\n0\r\n\r\n"), ok, ok}},
		{name: "chunk longer than it says", steps: []string{say("200 OK\r\nTransfer-Encoding: chunked", "2\r\nabc\r\n0\r\n\r\n"), ok, ok}},
		{name: "chunked, cut off", steps: []string{say("200 OK\r\nTransfer-Encoding: chunked", "5\r\nab")}},
		{name: "unknown transfer encoding", steps: []string{say("200 OK\r\nTransfer-Encoding: gzip", "abc")}},
		{name: "one 1xx", steps: []string{say("100 Continue", "") + ok, ok, ok}},
		{name: "several 1xx", steps: []string{say("103 Early Hints\r\nLink: x", "") + say("102 Processing", "") + ok, ok, ok}},
		{name: "1xx, split", steps: []string{say("100 Continue", "") + ok, ok, ok}, split: true},
		{name: "connection: close", steps: []string{say("204 No Content\r\nConnection: close", "")}},
		{name: "connection: a list with close", steps: []string{say("200 OK\r\nConnection: foo, Close\r\nContent-Length: 2", "ok")}},
		{name: "until the end of the connection", steps: []string{say("500 Oops\r\nContent-Type: text/plain", "it broke")}},
		{name: "HTTP/1.0", steps: []string{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"}},
		{name: "HTTP/1.0 keep-alive", steps: []string{"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", ok, ok}},
		{name: "HTTP/1.0 has no chunks", steps: []string{"HTTP/1.0 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok"}},
		{name: "length cut off", steps: []string{say("200 OK\r\nContent-Length: 10", "abc")}},
		{name: "header cut off", steps: []string{"HTTP/1.1 200 OK\r\nContent-Le"}, cut: true},
		{name: "status line cut off", steps: []string{"HTTP/1.1 20"}, cut: true},
		{name: "nothing", steps: []string{""}},
		{name: "garbage", steps: []string{"SSH-2.0-OpenSSH\r\n\r\n"}},
		{name: "status of two digits", steps: []string{"HTTP/1.1 20 OK\r\n\r\n"}},
		{name: "status of four digits", steps: []string{"HTTP/1.1 2000 OK\r\n\r\n"}},
		{name: "header without a colon", steps: []string{say("200 OK\r\nnonsense\r\nContent-Length: 0", "")}},
		{name: "two equal lengths", steps: []string{say("200 OK\r\nContent-Length: 2\r\nContent-Length: 2", "ok"), ok, ok}},
		{name: "two different lengths", steps: []string{say("200 OK\r\nContent-Length: 2\r\nContent-Length: 3", "ok")}},
		{name: "negative length", steps: []string{say("200 OK\r\nContent-Length: -2", "ok")}},
		{name: "429 with a delay", steps: []string{say("429 Slow\r\nRetry-After: 3\r\nContent-Length: 4", "slow"), ok, ok}},
		{name: "400 with a delay that does not count", steps: []string{say("400 Bad\r\nRetry-After: 3\r\nContent-Length: 3", "bad"), ok, ok}},
		{name: "long error message", steps: []string{say("400 Bad\r\nContent-Length: 5000", strings.Repeat("é\x1b[31m ", 625)), ok, ok}},
		{name: "half a confirmation", steps: []string{say("204 No\r\nX-Prometheus-Remote-Write-Samples-Written: 5", ""), ok, ok}},
		{name: "a confirmation that is no number", steps: []string{strings.Replace(ok, "5", "five", 1), ok, ok}},
		{name: "304 has no body", steps: []string{say("304 Not Modified\r\nContent-Length: 100", ""), ok, ok}},
		{name: "closes after an answer without saying so", steps: []string{ok}},
		{name: "early refusal, then closed", steps: []string{say("413 Too Large\r\nConnection: close\r\nContent-Length: 9", "too large")}, early: true},
	}
}

// TestRawAgreesWithNetHTTP lets both senders send the same three requests to the same server and compares
// everything they say, and how many connections they needed.
func TestRawAgreesWithNetHTTP(t *testing.T) {
	for _, s := range scripts() {
		for _, size := range []int{100, 100_000} {
			t.Run(fmt.Sprintf("%s/%d", s.name, size), func(t *testing.T) {
				t.Parallel()
				see := func(send Sender, conns *atomic.Int64) (all []string) {
					for range 3 {
						r := outgoing()
						r.Body = make([]byte, size)
						r.Deadline = time.Now().Add(20 * time.Second)
						resp := send.Send(t.Context(), r)
						all = append(all, fmt.Sprintf("%d %v %+v %v %q %v %s", resp.Status, resp.Confirmed, resp.Written, resp.RetryAfter, resp.Message, resp.Timeout, classOf(resp)))
						// So long that the raw sender looks at the connection, and net/http has seen it close.
						time.Sleep(3 * staleAfter)
					}
					return append(all, fmt.Sprintf("%d connections", conns.Load()))
				}
				url1, conns1 := s.listen(t)
				url2, conns2 := s.listen(t)
				want := see(newSender(t, HTTPConfig{URL: url1, MaxInFlight: 1}), conns1)
				got := see(newRaw(t, HTTPConfig{URL: url2}), conns2)
				if s.early && size > 1000 {
					// Whether the answer or the reset comes first is the kernel's affair; a class or a 413 it must be.
					for _, line := range append(want[:3], got[:3]...) {
						if !strings.Contains(line, "413") && !strings.Contains(line, "connection_lost") {
							t.Errorf("early refusal seen as %s", line)
						}
					}
					return
				}
				if s.cut {
					for i := range want {
						want[i] = strings.Replace(want[i], "network", "connection_lost", 1)
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("-net/http +raw:\n%s", diff)
				}
			})
		}
	}
}

// classOf is the error class; both senders have their own words for an answer that is not HTTP.
func classOf(r Response) string {
	if r.Err == nil {
		return "ok"
	}
	return errorClass(r)
}

// TestRefusalWithoutReading: a server that answers and then neither reads nor closes must not hold the request
// up until its deadline.
func TestRefusalWithoutReading(t *testing.T) {
	s := script{steps: []string{"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"}, refuse: true}
	for _, name := range []string{"raw", "net/http"} {
		t.Run(name, func(t *testing.T) {
			url, _ := s.listen(t)
			var send Sender = newRaw(t, HTTPConfig{URL: url})
			if name != "raw" {
				send = newSender(t, HTTPConfig{URL: url, MaxInFlight: 1})
			}
			r := outgoing()
			r.Body = make([]byte, 64<<20)
			r.Deadline = time.Now().Add(time.Minute)
			resp := send.Send(t.Context(), r)
			if resp.Status != 413 && errorClass(resp) != "connection_lost" {
				t.Errorf("%+v", resp)
			}
			if resp.Status == 413 && resp.Message != "no" {
				t.Errorf("message %q", resp.Message)
			}
		})
	}
}

// TestRawSendsTheSame: what arrives at a server is the same from both senders, header by header.
func TestRawSendsTheSame(t *testing.T) {
	got := make(chan string, 2)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s %s %d %s\n", r.Method, r.RequestURI, r.Host, r.ContentLength, r.Proto)
		_ = r.Header.Write(&b)
		n, _ := io.Copy(&b, r.Body)
		fmt.Fprintf(&b, "%d bytes", n)
		got <- b.String()
		w.WriteHeader(http.StatusNoContent)
	}))
	defer srv.Close()
	for _, size := range []int{1, 4, joinBelow - 1, joinBelow, 500_000} {
		for _, v := range []remotewrite.Version{remotewrite.V1, remotewrite.V2} {
			c := HTTPConfig{URL: srv.URL + "/push?region=eu west", UserAgent: "cirrusbench/test", Header: map[string]string{"x-api-key": "k", "Host": "other.example"}}
			r := outgoing()
			r.Version, r.Body, r.Attempt = v, []byte(strings.Repeat("b", size)), size%3
			for _, s := range []Sender{newSender(t, c), newRaw(t, c)} {
				if resp := s.Send(t.Context(), r); resp.Status != 204 {
					t.Fatalf("%+v", resp)
				}
			}
			if diff := cmp.Diff(<-got, <-got); diff != "" {
				t.Errorf("%d bytes: -net/http +raw:\n%s", size, diff)
			}
		}
	}
}

func TestRawTimeoutAndCancel(t *testing.T) {
	url, _ := script{steps: []string{""}, hang: true}.listen(t)
	s := newRaw(t, HTTPConfig{URL: url})
	r := outgoing()
	r.Deadline = time.Now().Add(30 * time.Millisecond)
	if resp := s.Send(t.Context(), r); !resp.Timeout || errorClass(resp) != "timeout" {
		t.Errorf("no answer: %+v", resp)
	}
	r.Deadline = time.Now().Add(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	if resp := s.Send(ctx, r); errorClass(resp) != "canceled" {
		t.Errorf("cancelled: %+v", resp)
	}
	if resp := s.Send(ctx, r); errorClass(resp) != "canceled" {
		t.Errorf("cancelled before: %+v", resp)
	}
}

// TestSendersOverTLSAndUnix: both senders over TLS with a client certificate asked for, and over a socket.
func TestSendersOverTLSAndUnix(t *testing.T) {
	var proto atomic.Value
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto.Store(r.Proto)
		_, _ = io.Copy(io.Discard, r.Body)
		if r.TLS != nil && len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	srv := httptest.NewUnstartedServer(handler)
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	trust := srv.Client().Transport.(*http.Transport).TLSClientConfig //nolint:errcheck,forcetypeassert // httptest's own
	withCert := trust.Clone()
	withCert.Certificates = srv.TLS.Certificates

	path := filepath.Join(t.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Skip("no unix sockets:", err)
	}
	usrv := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = usrv.Serve(l) }()
	defer func() { _ = usrv.Close(); <-done; _ = os.Remove(path) }()

	for _, tt := range []struct {
		name       string
		c          HTTPConfig
		status     int
		class      string
		http, raws string // protocols
	}{
		{"trusted with a certificate", HTTPConfig{URL: srv.URL, TLS: withCert}, 204, "ok", "HTTP/2.0", "HTTP/1.1"},
		{"HTTP/1.1 asked for", HTTPConfig{URL: srv.URL, TLS: withCert, HTTP1: true}, 204, "ok", "HTTP/1.1", "HTTP/1.1"},
		{"without a certificate", HTTPConfig{URL: srv.URL, TLS: trust}, 403, "ok", "HTTP/2.0", "HTTP/1.1"},
		{"not trusted", HTTPConfig{URL: srv.URL}, 0, "tls", "", ""},
		{"unix socket", HTTPConfig{URL: "http://somewhere/", UnixSocket: path}, 204, "ok", "HTTP/1.1", "HTTP/1.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, s := range map[string]Sender{tt.http: newSender(t, tt.c), tt.raws: newRaw(t, tt.c)} {
				for range 2 {
					r := outgoing()
					r.Body = make([]byte, 200_000)
					resp := s.Send(t.Context(), r)
					if resp.Status != tt.status || classOf(resp) != tt.class {
						t.Errorf("%T: %+v", s, resp)
					}
				}
				if tt.status != 0 && tt.http == tt.raws && proto.Load() != name {
					t.Errorf("%T spoke %v", s, proto.Load())
				}
			}
		})
	}
}

// TestRawAllocatesNothing: in the steady state a request costs no garbage, large or small, confirmed or not.
func TestRawAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer := []byte("HTTP/1.1 204 No Content\r\nDate: Fri, 20 Nov 2026 21:00:00 GMT\r\nX-Prometheus-Remote-Write-Samples-Written: 5\r\n" +
		"X-Prometheus-Remote-Write-Histograms-Written: 0\r\nX-Prometheus-Remote-Write-Exemplars-Written: 1\r\n\r\n")
	const small, large = 5000, 120_000
	var wg sync.WaitGroup
	wg.Go(func() { // a server that allocates nothing itself
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		buf := make([]byte, 256<<10)
		for {
			seen, need := 0, 0
			for need == 0 || seen < need {
				n, err := conn.Read(buf[seen:])
				if err != nil {
					return
				}
				seen += n
				if i := strings.Index(string(buf[:min(seen, 1024)]), "\r\n\r\n"); need == 0 && i > 0 {
					need = i + 4 + small
					if strings.Contains(string(buf[:i]), "120000") {
						need = i + 4 + large
					}
				}
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	})
	defer wg.Wait()
	defer func() { _ = l.Close() }()
	s := newRaw(t, HTTPConfig{URL: "http://" + l.Addr().String()})
	defer s.Close()
	for _, size := range []int{small, large} {
		r := outgoing()
		r.Body = make([]byte, size)
		ctx := context.Background() // the engine's: it has no Done
		n := testing.AllocsPerRun(200, func() {
			r.Deadline = time.Now().Add(time.Minute)
			if resp := s.Send(ctx, r); resp.Status != 204 || !resp.Confirmed || resp.Written.Samples != 5 {
				t.Errorf("%+v", resp)
			}
		})
		// The server's two conversions to a string are in here; they stay on its stack or cost at most two.
		if n > 2 {
			t.Errorf("%d bytes: %v allocations a request", size, n)
		}
	}
}

// TestAnswerIsBounded: lines around a body end, though no single one of them is long.
func TestAnswerIsBounded(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for name, s := range map[string]struct{ begin, again string }{
		"trailers":         {head + "0\r\n", "a\n"},
		"chunk extensions": {head, "1;" + strings.Repeat("x", 1000) + "\r\na\r\n"},
		"headers":          {"HTTP/1.1 200 OK\r\n", "a: b\r\n"},
	} {
		var p answerReader
		p.next()
		rest, sent := s.begin, 0
		var err error
		for sent < 16<<20 && (sent == 0 || errors.Is(err, errMore)) {
			for len(rest) < 4096 {
				rest += s.again
			}
			n := copy(p.space(), rest)
			p.got(n)
			rest, sent = rest[n:], sent+n
			err = p.advance()
		}
		if !errors.Is(err, errLongHeader) {
			t.Errorf("%s: %v after %d bytes", name, err, sent)
		}
	}
}

// TestLongAnswersLeaveNoMemory: connections that have carried an answer with a long header line do not keep the room
// for it.
func TestLongAnswersLeaveNoMemory(t *testing.T) {
	const conns, long, limit = 48, 900 << 10, 16 << 20
	for way, workers := range bothWays() {
		t.Run(way, func(t *testing.T) {
			header := strings.Repeat("x", long)
			live := func() uint64 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			var seen, grown atomic.Int64
			together, again := make(chan struct{}), make(chan struct{})
			before := live()
			url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
				switch n := seen.Add(1); {
				case n <= conns: // each on a connection of its own
					if n == conns {
						close(together)
					}
					<-together
					w.Header().Set("X-Long", header)
				case n <= 2*conns: // when all have come, none is reading its long answer any more
					if n == 2*conns {
						grown.Store(int64(live()) - int64(before))
						close(again)
					}
					<-again
				}
				noContent(w, r)
			})
			run, err := execute(t.Context(), t, Config{
				Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderNone, Timeout: time.Minute, Sender: newRaw(t, HTTPConfig{URL: url}),
				Plan: mustPlan(t, PlanConfig{Concurrency: conns, Requests: 3 * conns, Loop: true, Objects: 1}),
			}, workers)
			if err != nil {
				t.Fatal(err)
			}
			if run.Counts.OK != 3*conns || grown.Load() == 0 || grown.Load() > limit {
				t.Errorf("%d connections take %d bytes after answers of %d bytes; counts %+v %+v", conns, grown.Load(), long, run.Counts, run.Errors)
			}
		})
	}
}

// TestSwitchedConnection: after 101 the connection speaks something else and carries no further request.
func TestSwitchedConnection(t *testing.T) {
	for answer, reusable := range map[string]bool{
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n": false,
		"HTTP/1.1 204 No Content\r\n\r\n":                                               true,
	} {
		var p answerReader
		p.next()
		p.got(copy(p.space(), answer))
		if err := p.advance(); err != nil || p.reusable != reusable {
			t.Errorf("%q: %v, reusable %v", answer, err, p.reusable)
		}
	}
}

func FuzzRawAnswer(f *testing.F) {
	for _, s := range scripts() {
		f.Add([]byte(strings.Join(s.steps, "")))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		client, server := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { _ = server.Close() }()
			_, _ = server.Write(answer)
		})
		c := &rawConn{conn: client, answer: answerReader{in: make([]byte, 64)}}
		got := c.readAnswer()
		_ = client.Close()
		wg.Wait()
		// net/http's own reader, the 1xx skipped as its transport does.
		br := bufio.NewReader(strings.NewReader(string(answer)))
		for n := 0; ; n++ {
			resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodPost})
			if err != nil {
				return // it looks at names and values of headers that play no part here
			}
			_ = resp.Body.Close()
			if resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols && n < maxInformational {
				continue
			}
			if got.Err == nil && got.Status != resp.StatusCode {
				t.Fatalf("status %d, net/http has %d\n%q", got.Status, resp.StatusCode, answer)
			}
			return
		}
	})
}
