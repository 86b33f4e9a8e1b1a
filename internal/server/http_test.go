package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts the server on a loopback port, and returns its URL and a client.
func serve(t *testing.T, core *server.Core) (string, *http.Client) {
	t.Helper()
	s := httptest.NewServer(core.Handler())
	t.Cleanup(s.Close)
	return s.URL, s.Client()
}

// answer is what came back.
type answer struct {
	StatusCode int
	Header     http.Header
	Close      bool // the server closes the connection
}

// post sends a request. A body that is not a *bytes.Reader is sent chunked.
func post(t *testing.T, client *http.Client, url string, h http.Header, body io.Reader) (answer, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range h {
		if k != "Content-Length" && k != "Accept-Encoding" {
			req.Header[k] = v
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return answer{StatusCode: resp.StatusCode, Header: resp.Header, Close: resp.Close}, string(text)
}

func v1Header() http.Header { return http.Header{"Content-Type": {remotewrite.V1.ContentType()}} }

// TestHTTPCaptures sends every capture with a Content-Length and then chunked, in
// small pieces.
func TestHTTPCaptures(t *testing.T) {
	d, err := store.NewDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	url, client := serve(t, newCore(t, server.Config{Sink: server.NewStoreSink(d)}))
	for _, r := range good(t) {
		h := r.Header.Clone()
		h.Set("X-Scope-OrgID", "alfa")
		for _, body := range []io.Reader{bytes.NewReader(r.Body), iotest.HalfReader(bytes.NewReader(r.Body))} {
			resp, text := post(t, client, url+"/api/v1/write?cluster_name=eu-1", h, body)
			if resp.StatusCode != http.StatusNoContent || text != "" {
				t.Errorf("%s: %d %q", r.Name, resp.StatusCode, text)
			}
			s := r.Summary
			wantWritten(t, resp.Header, remotewrite.Version(s.Version), itoa(s.Samples), itoa(s.IntHistograms+s.FloatHistograms), itoa(s.Exemplars))
		}
	}
	stored := contents(t, d)
	if len(stored) != 10 {
		t.Errorf("%d objects, want 10", len(stored))
	}
	for key, body := range stored {
		k, err := capture.ParseKey(key)
		if err != nil || k.Org != "alfa" || k.Cluster != "eu-1" {
			t.Errorf("key %s: %v", key, err)
		}
		found := false
		for _, r := range good(t) {
			found = found || bytes.Equal(r.Body, body)
		}
		if !found {
			t.Errorf("%s is none of the captures", key)
		}
	}
}

func TestHTTPOrgAndCluster(t *testing.T) {
	mem := store.NewMemory()
	url, client := serve(t, newCore(t, server.Config{Sink: server.NewStoreSink(mem)}))
	for i, tt := range []struct {
		org, query string
		status     int
		prefix     string
	}{
		{"", "", 204, "org=default/cluster=default/"},
		{"bravo", "", 204, "org=bravo/cluster=default/"},
		{"bravo", "?cluster_name=x&cluster_name=y&region=z", 204, "org=bravo/cluster=x/"},
		{"../../tmp", "", 400, ""},
		{"", "?cluster_name=..%2F..%2Ftmp", 400, ""},
		{"", "?cluster_name=%00", 400, ""},
		{"", "?cluster_name=%zz", 400, ""},
		{"a|b", "", 400, ""},
	} {
		h := v1Header()
		if tt.org != "" {
			h.Set("X-Scope-OrgID", tt.org)
		}
		before := contents(t, mem)
		resp, text := post(t, client, url+"/api/v1/write"+tt.query, h, bytes.NewReader(v1(t, 1, clock().Add(-time.Duration(i)*time.Second))))
		if resp.StatusCode != tt.status {
			t.Errorf("org %q, query %q: %d %s, want %d", tt.org, tt.query, resp.StatusCode, text, tt.status)
		}
		for key := range contents(t, mem) {
			if _, old := before[key]; !old && (tt.prefix == "" || !strings.HasPrefix(key, tt.prefix)) {
				t.Errorf("org %q, query %q: stored %s", tt.org, tt.query, key)
			}
		}
	}
	if n := len(contents(t, mem)); n != 3 {
		t.Errorf("%d objects, want 3", n)
	}
}

func TestHTTPPathsAndMethods(t *testing.T) {
	var seen observed
	core := newCore(t, server.Config{Metrics: &seen})
	h := core.Handler()
	for _, tt := range []struct {
		method, path string
		status       int
		allow, text  string
	}{
		{"GET", "/api/v1/write", 405, "POST", "hint: send POST"},
		{"PUT", "/api/v1/write", 405, "POST", "method_not_allowed"},
		{"POST", "/api/v1/write/", 404, "", "hint: write to /api/v1/write"},
		{"POST", "/api/v1/read", 404, "", "not_found"},
		{"POST", "/", 404, "", "not_found"},
		{"POST", "//api/v1/write", 404, "", "not_found"},
		{"POST", "/a/b/api/v1/write", 404, "", "not_found"},
		{"POST", "/a%2Fb/api/v1/write", 404, "", "not_found"},
		{"GET", "/alfa/api/v1/write", 405, "POST", "method_not_allowed"},
		{"GET", "/v1/container-metrics", 405, "POST", "method_not_allowed"},
		{"GET", "/livez", 200, "", "ok"},
		{"POST", "/livez", 405, "GET, HEAD", "method"},
		{"GET", "/healthz", 200, "", "ok"},
		{"GET", "/readyz", 200, "", "ok"},
		{"POST", "/healthz", 405, "GET, HEAD", "method"},
		{"DELETE", "/readyz", 405, "GET, HEAD", "method"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, nil))
		if w.Code != tt.status || w.Header().Get("Allow") != tt.allow || !strings.Contains(w.Body.String(), tt.text) {
			t.Errorf("%s %s: %d %v %q, want %d, Allow %q, %q", tt.method, tt.path, w.Code, w.Header(), w.Body, tt.status, tt.allow, tt.text)
		}
		if strings.Count(w.Body.String(), "\n") != 1 {
			t.Errorf("%s %s: not one line: %q", tt.method, tt.path, w.Body)
		}
	}
	if len(seen.all) != 10 {
		t.Errorf("%d observations, want 10: health checks do not count", len(seen.all))
	}
}

func TestHTTPDrain(t *testing.T) {
	ready := errors.New("not yet")
	core := newCore(t, server.Config{Ready: func(context.Context) error { return ready }})
	url, client := serve(t, core)
	get := func(path string) (int, bool) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		return resp.StatusCode, resp.Close
	}
	if code, _ := get("/readyz"); code != 503 {
		t.Errorf("not ready: %d", code)
	}
	ready = nil
	if code, closes := get("/readyz"); code != 200 || closes {
		t.Errorf("ready: %d, close %v", code, closes)
	}
	core.Drain()
	if code, closes := get("/readyz"); code != 503 || !closes {
		t.Errorf("draining: %d, close %v", code, closes)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("draining, healthz: %d", code)
	}
	resp, text := post(t, client, url+"/api/v1/write", v1Header(), bytes.NewReader(v1(t, 1, clock())))
	if resp.StatusCode != http.StatusNoContent || !resp.Close {
		t.Errorf("draining, write: %d %s, close %v", resp.StatusCode, text, resp.Close)
	}
}

func TestHTTPTooLarge(t *testing.T) {
	const limit = 300 << 10 // beyond the first read, so that the buffer has to grow
	mem := store.NewMemory()
	core := newCore(t, server.Config{Sink: server.NewStoreSink(mem), MaxBodyBytes: limit})
	h := core.Handler()
	for _, tt := range []struct {
		name   string
		size   int
		length int64
		status int
		read   int // at most
	}{
		{"announced", limit + 1, limit + 1, 413, 0},
		{"chunked", limit + 1, -1, 413, limit + 1},
		{"endless", 100 << 20, -1, 413, limit + 1},
		{"just within, chunked", limit, -1, 400, limit},
		{"just within, announced", limit, limit, 400, limit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := &counter{r: io.LimitReader(zeros{}, int64(tt.size))}
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/write", body)
			req.ContentLength = tt.length
			req.Header = v1Header()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			if w.Code != tt.status {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.status)
			}
			if tt.status == 413 && !strings.Contains(w.Body.String(), itoa(limit)) {
				t.Errorf("the answer does not name the limit: %s", w.Body)
			}
			if body.n > tt.read {
				t.Errorf("read %d bytes, want at most %d", body.n, tt.read)
			}
		})
	}
	if n := len(contents(t, mem)); n != 0 {
		t.Errorf("%d objects", n)
	}
	// And on the wire.
	url, client := serve(t, core)
	resp, text := post(t, client, url+"/api/v1/write", v1Header(), io.LimitReader(zeros{}, limit+1))
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("chunked over the wire: %d %s", resp.StatusCode, text)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// A large body grows its buffer several times and arrives whole.
func TestHTTPLargeBody(t *testing.T) {
	noise := make([]byte, 0, 1<<20)
	for i := uint32(1); len(noise) < 900<<10; i = i*1664525 + 1013904223 {
		noise = append(noise, byte('a'+i>>28))
	}
	body := labelled(t, string(noise))
	if len(body) < 500<<10 {
		t.Fatalf("body of %d bytes compresses too well", len(body))
	}
	mem := store.NewMemory()
	core := newCore(t, server.Config{Sink: server.NewStoreSink(mem), Limits: remotewrite.Limits{MaxLabelBytes: 1 << 20}})
	url, client := serve(t, core)
	for _, r := range []io.Reader{bytes.NewReader(body), iotest.HalfReader(bytes.NewReader(body))} {
		if resp, text := post(t, client, url+"/api/v1/write", v1Header(), r); resp.StatusCode != http.StatusNoContent {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	}
	for _, got := range contents(t, mem) {
		if !bytes.Equal(got, body) {
			t.Error("the stored body differs")
		}
	}
}

func TestHTTPSlowBody(t *testing.T) {
	mem := store.NewMemory()
	var seen observed
	h := newCore(t, server.Config{Sink: server.NewStoreSink(mem), Metrics: &seen}).Handler()
	body := v1(t, 2, clock())
	for _, tt := range []struct {
		name   string
		body   io.Reader
		status int
	}{
		{"byte by byte", iotest.OneByteReader(bytes.NewReader(body)), 204},
		{"end with the last bytes", iotest.DataErrReader(bytes.NewReader(body)), 204},
		{"too slow", io.MultiReader(bytes.NewReader(body[:5]), iotest.ErrReader(os.ErrDeadlineExceeded)), 503},
		{"sender gone", io.MultiReader(bytes.NewReader(body[:5]), iotest.ErrReader(io.ErrUnexpectedEOF)), 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/write", tt.body)
			req.Header = v1Header()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			if w.Code != tt.status {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.status)
			}
			if o := seen.last(t); tt.status == 503 && (o.Reason != "body_interrupted" || o.WireBytes != 5 || w.Header().Get("Connection") != "close") {
				t.Errorf("observed %+v, headers %v", o, w.Header())
			}
		})
	}
	if n := len(contents(t, mem)); n != 1 {
		t.Errorf("%d objects, want 1", n)
	}
}

// Memory is reserved for what has arrived, not for what was announced.
func TestHTTPReservesWhatArrives(t *testing.T) {
	const limit = 2 << 20
	core := newCore(t, server.Config{
		MaxBodyBytes: limit, Limits: remotewrite.Limits{MaxDecodedBytes: 1000}, MaxInFlightBytes: limit + 1 + 1000 + remotewrite.EncodedLen(1000),
	})
	h := core.Handler()
	start := func(length int64) (*io.PipeWriter, <-chan int) {
		body, w := io.Pipe()
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/write", body)
		req.ContentLength = length
		req.Header = v1Header()
		status := make(chan int, 1)
		go func() {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			status <- rec.Code
			body.CloseWithError(io.ErrClosedPipe)
		}()
		return w, status
	}
	send := func(w *io.PipeWriter, n int) {
		if _, err := w.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	announced, announcedStatus := start(limit)
	send(announced, 10)
	if _, used := core.InFlight(); used > limit/4 {
		t.Errorf("10 of %d announced bytes reserve %d", limit, used)
	}
	chunked, chunkedStatus := start(-1)
	send(chunked, limit/3)
	if _, used := core.InFlight(); used < limit/3 {
		t.Errorf("%d bytes have arrived, %d are reserved", limit/3, used)
	}
	// Now the first one finds no room to go on.
	for err := error(nil); err == nil; {
		_, err = announced.Write(make([]byte, 10_000))
	}
	if got := <-announcedStatus; got != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", got)
	}
	if err := chunked.Close(); err != nil {
		t.Error(err)
	}
	if got := <-chunkedStatus; got != http.StatusBadRequest {
		t.Errorf("status %d, want 400", got)
	}
}

// A sender that stops in the middle of its body holds nothing once the read timeout
// of the http.Server has gone by, and nothing of it is stored.
func TestHTTPReadTimeout(t *testing.T) {
	mem := store.NewMemory()
	s := httptest.NewUnstartedServer(newCore(t, server.Config{Sink: server.NewStoreSink(mem)}).Handler())
	s.Config.ReadTimeout = 50 * time.Millisecond
	s.Start()
	defer s.Close()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := io.WriteString(conn, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !resp.Close {
		t.Errorf("got %s %v", resp.Status, resp.Header)
	}
	if n := len(contents(t, mem)); n != 0 {
		t.Errorf("%d objects", n)
	}
}

func TestHTTPAuthenticate(t *testing.T) {
	mem := store.NewMemory()
	url, client := serve(t, newCore(t, server.Config{
		Sink: server.NewStoreSink(mem),
		Authenticate: func(r *http.Request) (string, error) {
			switch r.Header.Get("Authorization") {
			case "Bearer good":
				return "charlie", nil
			case "Bearer banned":
				return "", &remotewrite.Error{Status: 403, Detail: "key is revoked", Hint: "ask for another"}
			case "Bearer broken":
				return "", errors.New("key file /etc/secret cannot be read")
			case "Bearer bug":
				panic("bug")
			default:
				return "", &remotewrite.Error{Status: 401, Detail: "no key"}
			}
		},
	}))
	for key, want := range map[string]int{"good": 204, "": 401, "banned": 403, "broken": 503, "bug": 500} {
		h := v1Header()
		h.Set("Authorization", "Bearer "+key)
		h.Set("X-Scope-OrgID", "somebody-else") // counts for nothing
		resp, text := post(t, client, url+"/api/v1/write", h, bytes.NewReader(v1(t, 1, clock())))
		if resp.StatusCode != want || strings.Contains(text, "secret") {
			t.Errorf("key %q: %d %s, want %d", key, resp.StatusCode, text, want)
		}
		if got := resp.Header.Get("WWW-Authenticate") != ""; got != (want == 401) {
			t.Errorf("key %q: WWW-Authenticate %q", key, resp.Header.Get("WWW-Authenticate"))
		}
		if got := resp.Header.Get("Retry-After") != ""; got != (want == 503) {
			t.Errorf("key %q: Retry-After %q", key, resp.Header.Get("Retry-After"))
		}
	}
	stored := contents(t, mem)
	for key := range stored {
		if !strings.HasPrefix(key, "org=charlie/") {
			t.Errorf("stored %s", key)
		}
	}
	if len(stored) != 1 {
		t.Errorf("%d objects, want 1", len(stored))
	}
}

// Two Content-Encoding lines must not pass for the first of them.
func TestHTTPTwoEncodings(t *testing.T) {
	url, client := serve(t, newCore(t, server.Config{}))
	h := v1Header()
	h["Content-Encoding"] = []string{"snappy", "gzip"}
	if resp, text := post(t, client, url+"/api/v1/write", h, bytes.NewReader(v1(t, 1, clock()))); resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

// TestHTTPConcurrent writes many different requests at once; every body must come
// out whole, or the pooled buffers leak from one request into another.
func TestHTTPConcurrent(t *testing.T) {
	d, err := store.NewDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	url, client := serve(t, newCore(t, server.Config{Sink: server.NewStoreSink(d)}))
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		sent = map[string]bool{}
	)
	for g := range 8 {
		wg.Go(func() {
			for i := range 10 {
				body := labelled(t, strings.Repeat(fmt.Sprintf("%d-%d ", g, i), 1+g*i*10))
				mu.Lock()
				sent[string(body)] = true
				mu.Unlock()
				var r io.Reader = bytes.NewReader(body)
				if i%2 == 1 {
					r = iotest.HalfReader(r)
				}
				if resp, text := post(t, client, url+"/api/v1/write", v1Header(), r); resp.StatusCode != http.StatusNoContent {
					t.Errorf("%d %s", resp.StatusCode, text)
				}
			}
		})
	}
	wg.Wait()
	stored := contents(t, d)
	if len(stored) != 80 || len(sent) != 80 {
		t.Errorf("%d objects of %d, want 80", len(stored), len(sent))
	}
	for key, body := range stored {
		if !sent[string(body)] {
			t.Errorf("%s was never sent", key)
		}
	}
}
