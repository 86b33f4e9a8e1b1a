package replay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// Outgoing is one request as it goes on the wire.
type Outgoing struct {
	Org, Cluster string
	Version      remotewrite.Version
	Body         []byte // compressed
	Samples      int    // what the body holds, as the remote write specification counts them
	Histograms   int
	Exemplars    int
	Warmup       bool
	SHA256       string    // of Body in hex, where Config.HashBodies asks for it
	Attempt      int       // 0 for the first, then how often it was sent before
	Now          time.Time // when it is handed to the sender
	Deadline     time.Time // when the sender must have given up; zero = never
}

// Response is what came of sending an Outgoing. Err is nil for every complete HTTP answer, also 4xx and
// 5xx.
type Response struct {
	Status     int
	Confirmed  bool // the server said what it wrote
	Written    Written
	RetryAfter time.Duration // what the server asks for with a 429 or 5xx; 0 = nothing
	Message    string        // start of an error answer's body, one line
	Class      string        // names the failure where the status alone does not; usually empty
	RequestID  string        // of the invocation behind the answer, where HTTPConfig.RequestIDs asks for it
	Err        error
	Timeout    bool
}

// Written is what a receiver of protocol 2.0 confirms in its X-Prometheus-Remote-Write-*-Written headers.
type Written struct {
	Samples, Histograms, Exemplars int
}

// Sender delivers one request and returns when the last byte of the answer is read. It must be safe for
// concurrent use, keep connections alive between calls, and never retry by itself: a retry the engine
// does not see is latency nobody recorded. The end of ctx breaks a request off, as r.Deadline does.
type Sender interface {
	Send(ctx context.Context, r *Outgoing) Response
	// Close drops the connections; no Send may be under way.
	Close()
}

// HTTPConfig is what a sender needs to know of its target.
type HTTPConfig struct {
	URL         string            // http or https; an empty path becomes /api/v1/write
	MaxInFlight int               // connections kept open
	Header      map[string]string // added to every request, replacing what the sender sets; values may be secret
	UserAgent   string
	TLS         *tls.Config                           // of https; nil = the system's roots
	UnixSocket  string                                // path of a socket to connect to instead of the URL's host
	Proxy       func(*http.Request) (*url.URL, error) // nil = none
	HTTP1       bool                                  // no HTTP/2 even if the server offers it
	RequestIDs  bool                                  // fill Response.RequestID
	// Sign signs a request whose body has the given SHA-256 in hex. It must not read the body.
	Sign func(ctx context.Context, r *http.Request, bodySHA256 string) error
}

const connectTimeout = 10 * time.Second

// target is what both senders know of where requests go.
type target struct {
	url    url.URL
	host   string // Host header
	query  url.Values
	header http.Header
	tls    *tls.Config
}

func newTarget(c HTTPConfig) (target, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		// The parser's own message repeats the URL, which may hold a key.
		return target{}, errors.New("target is not a URL")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return target{}, errors.New("target does not begin with http:// or https:// and a host")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return target{}, fmt.Errorf("target's port %s is not from 1 to 65,535", port)
		}
	}
	if u.User != nil {
		return target{}, errors.New("target has credentials in its URL, where they reach logs and results: hand them over in a file")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/api/v1/write"
	}
	u.Fragment = ""
	u.RawQuery = strings.ReplaceAll(u.RawQuery, " ", "%20") // url.Parse leaves them, and they end the request line
	t := target{url: *u, host: u.Host, query: u.Query(), header: http.Header{"User-Agent": {c.UserAgent}}}
	for k, v := range c.Header {
		if !validHeader(k, v) {
			return target{}, fmt.Errorf("header %q has a name or a value that HTTP does not allow", k) // the value may be secret
		}
		if http.CanonicalHeaderKey(k) == "Host" {
			t.host = v
			continue
		}
		t.header.Set(k, v)
	}
	return t, nil
}

// validHeader says whether a header may go on the wire as it is: no byte in it ends the line.
func validHeader(name, value string) bool {
	const separators = "()<>@,;:\\\"/[]?={} \t"
	bad := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(separators, r) }
	if name == "" || strings.ContainsFunc(name, bad) {
		return false
	}
	return !strings.ContainsFunc(value, func(r rune) bool { return (r < ' ' && r != '\t') || r == 0x7f })
}

// URL is where the requests go, for the run file. It leaves out the query, which may hold a key.
func (t *target) URL() string {
	u := t.url
	u.RawQuery, u.ForceQuery = "", false
	return u.String()
}

// requestURL is the target with the request's cluster, unless the target names one.
func (t *target) requestURL(r *Outgoing) *url.URL {
	u := t.url
	if !t.query.Has("cluster_name") && r.Cluster != "" {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += "cluster_name=" + url.QueryEscape(r.Cluster)
	}
	return &u
}

// headerOf is what Prometheus sends with a request, and the user's own headers over it.
func (t *target) headerOf(r *Outgoing) http.Header {
	h := make(http.Header, len(t.header)+5)
	h["Content-Type"] = []string{r.Version.ContentType()}
	h["Content-Encoding"] = []string{"snappy"}
	h.Set(remotewrite.HeaderVersion, r.Version.HeaderValue())
	h.Set("X-Scope-OrgID", r.Org)
	if r.Attempt > 0 {
		h.Set("Retry-Attempt", strconv.Itoa(r.Attempt)) // as Prometheus does
	}
	maps.Copy(h, t.header)
	return h
}

// tlsFor returns a copy of c, which may be nil, for one host.
func tlsFor(c *tls.Config, host string) *tls.Config {
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c = c.Clone()
	if c.ServerName == "" {
		c.ServerName = host
	}
	return c
}

// HTTPSender posts requests over net/http (HTTP/1.1, and HTTP/2 where TLS negotiates it).
type HTTPSender struct {
	target
	client    *http.Client
	transport *http.Transport
	sign      func(ctx context.Context, r *http.Request, bodySHA256 string) error
	ids       bool
}

// NewHTTPSender checks the configuration; it does not connect.
func NewHTTPSender(c HTTPConfig) (*HTTPSender, error) {
	tg, err := newTarget(c)
	if err != nil {
		return nil, err
	}
	n := max(c.MaxInFlight, 1)
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}
	dial := dialer.DialContext
	if c.UnixSocket != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", c.UnixSocket)
		}
	}
	// WriteBufferSize: head and body of nearly every request leave in one write; with the default 4 KB the
	// body goes through an io.Copy buffer of its own, 22 KB of garbage a request.
	t := &http.Transport{
		Proxy:                 c.Proxy,
		DialContext:           dial,
		TLSHandshakeTimeout:   connectTimeout,
		TLSClientConfig:       c.TLS,
		ForceAttemptHTTP2:     !c.HTTP1,
		DisableCompression:    true,
		MaxIdleConns:          n,
		MaxIdleConnsPerHost:   n,
		MaxConnsPerHost:       n,
		IdleConnTimeout:       90 * time.Second,
		WriteBufferSize:       256 << 10,
		ExpectContinueTimeout: time.Second,
	}
	if c.HTTP1 {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
	}
	return &HTTPSender{
		target: tg,
		client: &http.Client{
			Transport:     t,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		transport: t,
		sign:      c.Sign,
		ids:       c.RequestIDs,
	}, nil
}

// Close implements Sender.
func (s *HTTPSender) Close() { s.transport.CloseIdleConnections() }

// maxMessage is how much of an error answer is kept as an example.
const maxMessage = 256

// Send implements Sender.
func (s *HTTPSender) Send(ctx context.Context, r *Outgoing) Response {
	if !r.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.Deadline)
		defer cancel()
	}
	u := s.requestURL(r)
	req := (&http.Request{
		Method:        http.MethodPost,
		URL:           u,
		Host:          s.host,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		ContentLength: int64(len(r.Body)),
		Body:          body{bytes.NewReader(r.Body)},
		Header:        s.headerOf(r),
	}).WithContext(ctx)
	if s.sign != nil {
		if err := s.sign(ctx, req, r.SHA256); err != nil {
			return Response{Err: fmt.Errorf("signing the request: %w", err)}
		}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // it would repeat the URL, whose query may hold a key
		}
		return Response{Err: err, Timeout: isTimeout(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	out := Response{Status: resp.StatusCode}
	out.Written, out.Confirmed = written(resp.Header)
	if s.ids {
		out.RequestID = requestID(resp.Header)
	}
	if out.Status == http.StatusTooManyRequests || out.Status/100 == 5 {
		out.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	// The answer counts when its last byte is read, and only a read-out connection is used again.
	if out.Status/100 == 2 {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	} else {
		var msg []byte
		msg, err = io.ReadAll(io.LimitReader(resp.Body, maxMessage))
		if err == nil {
			_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
		}
		out.Message = oneLine(string(msg))
		if s.sign != nil && out.Message != "" {
			// AWS answers a wrong signature with all that was signed. Credentials are renewed, so the caller cannot know them.
			for _, secret := range Secrets(signature(req.Header)...) {
				out.Message = mask(out.Message, secret)
			}
		}
	}
	if err != nil {
		return Response{Err: fmt.Errorf("reading the answer: %w", err), Timeout: isTimeout(err)}
	}
	return out
}

// body can be closed and, having no GetBody beside it, not be sent a second time behind our back: net/http
// repeats only a request of which no byte left.
type body struct{ *bytes.Reader }

// Close does nothing: the bytes belong to the corpus.
func (body) Close() error { return nil }

// written reads the confirmation headers; false when there are none or they are not numbers.
func written(h http.Header) (w Written, confirmed bool) {
	for name, p := range map[string]*int{
		remotewrite.HeaderSamplesWritten: &w.Samples, remotewrite.HeaderHistogramsWritten: &w.Histograms, remotewrite.HeaderExemplarsWritten: &w.Exemplars,
	} {
		n, err := strconv.Atoi(h.Get(name))
		if err != nil || n < 0 {
			return Written{}, false
		}
		*p = n
	}
	return w, true
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// ClientExhausted is the class of requests that failed because the generator's side had nothing left to connect with: not
// failures of the target.
const ClientExhausted = "client_exhausted"

// exhausted says that the generator's side had no file descriptor, port or memory for a connection: the target was not asked.
func exhausted(err error) bool {
	for _, e := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// errorClass names a failed exchange for the run file's errors: a short, bounded set.
func errorClass(r Response) string {
	switch {
	case r.Class != "":
		return r.Class
	case r.Timeout:
		return "timeout"
	case r.Err == nil:
		return "http_" + strconv.Itoa(r.Status)
	case exhausted(r.Err):
		return ClientExhausted
	case errors.Is(r.Err, syscall.ECONNREFUSED):
		return "connection_refused"
	case errors.Is(r.Err, syscall.ECONNRESET), errors.Is(r.Err, syscall.EPIPE), errors.Is(r.Err, io.EOF),
		errors.Is(r.Err, io.ErrUnexpectedEOF), errors.Is(r.Err, net.ErrClosed):
		return "connection_lost"
	case errors.Is(r.Err, context.Canceled):
		return "canceled"
	}
	if _, ok := errors.AsType[*net.DNSError](r.Err); ok {
		return "dns"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](r.Err); ok {
		return "tls"
	}
	return "network"
}

// oneLine keeps an example printable: control characters become spaces, and it is cut at maxMessage.
func oneLine(s string) string {
	s = strings.TrimSpace(printable(s))
	return s[:min(len(s), maxMessage)]
}

// printable replaces control characters by spaces, and what is no text by a question mark.
func printable(s string) string {
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s), "?")
}
