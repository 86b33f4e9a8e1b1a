package replay

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// talker is a server that says too much: it writes pieces after every request, pause apart.
type talker struct {
	name   string
	pieces []string
	pause  time.Duration
	closes bool // after the pieces
	cut    bool // the first piece is as long as what is read at once
}

func talkers() []talker {
	const ok, stale = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 503 Stale\r\nContent-Length: 0\r\n\r\n"
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 4055\r\n\r\n"
	page := head + strings.Repeat("b", 4096-len(head))
	return []talker{
		{name: "nothing more", pieces: []string{ok}},
		{name: "longer than its length", pieces: []string{ok + "!"}},
		{name: "another answer", pieces: []string{ok + stale}},
		{name: "204 with a body", pieces: []string{"HTTP/1.1 204 No Content\r\n\r\nbody"}},
		{name: "another answer, behind a whole read", pieces: []string{page + stale}, cut: true},
		{name: "another answer, in a write of its own", pieces: []string{page, stale}, cut: true},
		{name: "another answer, in a short write of its own", pieces: []string{ok, stale}},
		{name: "another answer, much more than a read", pieces: []string{ok + strings.Repeat(stale, 5000)}},
		{name: "another answer, a little later", pieces: []string{ok, stale}, pause: time.Millisecond},
		{name: "another answer behind chunks", pieces: []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + stale}},
		{name: "the end, unsaid", pieces: []string{ok}, closes: true},
		{name: "the end, a little later", pieces: []string{ok, ""}, pause: time.Millisecond, closes: true},
	}
}

// listen serves on loopback, encrypted if config is not nil, and counts connections.
func (k talker) listen(t *testing.T, config *tls.Config) (url string, conns *atomic.Int64) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url = "http://" + l.Addr().String()
	if config != nil {
		l, url = tls.NewListener(l, config), "https://"+l.Addr().String()
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
			wg.Go(func() { k.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return url, conns
}

func (k talker) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		for i, p := range k.pieces {
			if i > 0 {
				time.Sleep(k.pause)
			}
			if _, err := io.WriteString(conn, p); err != nil {
				return
			}
		}
		if k.closes {
			return
		}
	}
}

// TestLeftoverBytes: what a server sends without having been asked belongs to no request. The raw sender sees the
// answers that net/http sees, over as many connections, when there is a little time between requests.
func TestLeftoverBytes(t *testing.T) {
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS()
	defer srv.Close()
	serve := &tls.Config{Certificates: srv.TLS.Certificates, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	trust := srv.Client().Transport.(*http.Transport).TLSClientConfig //nolint:errcheck,forcetypeassert // httptest's own
	for _, k := range talkers() {
		if n := len(new(answerReader).space()); k.cut && len(k.pieces[0]) < n {
			t.Fatalf("%s: the first read is of %d bytes", k.name, n)
		}
		for scheme, config := range map[string]*tls.Config{"http": nil, "https": serve} {
			t.Run(k.name+"/"+scheme, func(t *testing.T) {
				if k.pause == 0 {
					t.Parallel()
				}
				see := func(send Sender, pause time.Duration) (all []string) {
					for range 4 {
						r := outgoing()
						r.Now = time.Now()
						r.Deadline = r.Now.Add(20 * time.Second)
						resp := send.Send(context.Background(), r)
						all = append(all, classOf(resp)+" "+http.StatusText(resp.Status))
						time.Sleep(pause)
					}
					return all
				}
				var want []string
				compare := func() (diff string) {
					const pause = 3 * time.Millisecond
					url, conns := k.listen(t, config)
					want = see(newSender(t, HTTPConfig{URL: url, MaxInFlight: 1, TLS: trust, HTTP1: true}), pause)
					want = append(want, fmt.Sprintf("%d connections", conns.Load()))
					url, conns = k.listen(t, config)
					got := see(newRaw(t, HTTPConfig{URL: url, TLS: trust}), pause)
					return cmp.Diff(want, append(got, fmt.Sprintf("%d connections", conns.Load())))
				}
				diff := compare()
				for range 3 { // what comes a little later may come too late, on a busy machine
					if diff == "" || k.pause == 0 {
						break
					}
					diff = compare()
				}
				if diff != "" {
					t.Errorf("-net/http +raw:\n%s", diff)
				}
				if k.pause > 0 {
					return // without a pause there is no telling
				}
				url, _ := k.listen(t, config)
				for i, line := range see(newRaw(t, HTTPConfig{URL: url, TLS: trust}), 0) {
					// In a race with the end of the connection, a request may be lost with it.
					if line != want[0] && (!k.closes || line != "connection_lost ") && !strings.Contains(k.name, "of its own") {
						t.Errorf("request %d, at once behind the one before: %s", i, line)
					}
				}
			})
		}
	}
}

// BenchmarkRawExchange is a request over one connection to a server in the same process.
func BenchmarkRawExchange(b *testing.B) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	})
	for _, scheme := range []string{"http", "https"} {
		b.Run(scheme, func(b *testing.B) {
			srv := httptest.NewUnstartedServer(handler)
			c := HTTPConfig{}
			if scheme == "http" {
				srv.Start()
			} else {
				srv.StartTLS()
				c.TLS = srv.Client().Transport.(*http.Transport).TLSClientConfig //nolint:errcheck,forcetypeassert // httptest's own
			}
			defer srv.Close()
			c.URL = srv.URL
			s, err := NewRawSender(c)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			r := outgoing()
			r.Body = make([]byte, 5000)
			b.ReportAllocs()
			for b.Loop() {
				r.Now = time.Now()
				r.Deadline = r.Now.Add(time.Minute)
				if resp := s.Send(context.Background(), r); resp.Status != http.StatusNoContent {
					b.Fatalf("%+v", resp)
				}
			}
		})
	}
}
