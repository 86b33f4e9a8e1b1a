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
}

// Response is what came of sending an Outgoing. Err is nil for every complete HTTP answer, also 4xx and
// 5xx; Written is nil unless the server said what it wrote.
type Response struct {
	Status  int
	Written *Written
	Message string // start of an error answer's body, one line
	Err     error
	Timeout bool
}

// Written is what a receiver of protocol 2.0 confirms in its X-Prometheus-Remote-Write-*-Written headers.
type Written struct {
	Samples, Histograms, Exemplars int
}

// Sender delivers one request and returns when the last byte of the answer is read. It must be safe for
// concurrent use, keep connections alive between calls, and never retry by itself: a retry the engine
// does not see is latency nobody recorded.
type Sender interface {
	Send(ctx context.Context, r *Outgoing) Response
}

// HTTPConfig is what an HTTPSender needs to know.
type HTTPConfig struct {
	URL         string            // http or https; an empty path becomes /api/v1/write
	MaxInFlight int               // connections kept open
	Header      map[string]string // added to every request, replacing what the sender sets; values may be secret
	UserAgent   string
	Org         string // replaces the captured org; "" keeps it
	TLS         *tls.Config
}

// HTTPSender posts requests over net/http (HTTP/1.1, and HTTP/2 where TLS negotiates it).
type HTTPSender struct {
	client    *http.Client
	transport *http.Transport
	url       url.URL
	query     url.Values
	header    http.Header
	org       string
}

// NewHTTPSender checks the configuration; it does not connect.
func NewHTTPSender(c HTTPConfig) (*HTTPSender, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("parsing target: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("target %q is not an http:// or https:// URL", u.Redacted())
	}
	if u.User != nil {
		return nil, errors.New("target has credentials in its URL, where they reach logs and results: hand them over in a file")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/api/v1/write"
	}
	n := max(c.MaxInFlight, 1)
	// WriteBufferSize: head and body of a usual request (11–72 KB) leave in one write; with the default
	// 4 KB the body goes through an io.Copy buffer of its own, 22 KB of garbage a request.
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		TLSClientConfig:       c.TLS,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true,
		MaxIdleConns:          n,
		MaxIdleConnsPerHost:   n,
		MaxConnsPerHost:       n,
		IdleConnTimeout:       90 * time.Second,
		WriteBufferSize:       64 << 10,
		ExpectContinueTimeout: time.Second,
	}
	s := &HTTPSender{
		client: &http.Client{
			Transport:     t,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		transport: t,
		url:       *u,
		query:     u.Query(),
		header:    http.Header{"User-Agent": {c.UserAgent}},
		org:       c.Org,
	}
	for k, v := range c.Header {
		s.header.Set(k, v)
	}
	return s, nil
}

// Close drops the idle connections.
func (s *HTTPSender) Close() { s.transport.CloseIdleConnections() }

// URL is where the requests go, for the run file. It leaves out the query, which may hold a key.
func (s *HTTPSender) URL() string {
	u := s.url
	u.RawQuery, u.ForceQuery = "", false
	return u.String()
}

// maxMessage is how much of an error answer is kept as an example.
const maxMessage = 256

// Send implements Sender.
func (s *HTTPSender) Send(ctx context.Context, r *Outgoing) Response {
	u := s.url
	if !s.query.Has("cluster_name") && r.Cluster != "" {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += "cluster_name=" + url.QueryEscape(r.Cluster)
	}
	req := (&http.Request{
		Method:        http.MethodPost,
		URL:           &u,
		Host:          u.Host,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		ContentLength: int64(len(r.Body)),
		Body:          body{bytes.NewReader(r.Body)},
		Header:        make(http.Header, len(s.header)+4),
	}).WithContext(ctx)
	req.Header["Content-Type"] = []string{r.Version.ContentType()}
	req.Header["Content-Encoding"] = []string{"snappy"}
	req.Header.Set(remotewrite.HeaderVersion, r.Version.HeaderValue())
	org := r.Org
	if s.org != "" {
		org = s.org
	}
	req.Header.Set("X-Scope-OrgID", org)
	maps.Copy(req.Header, s.header)

	resp, err := s.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // it would repeat the URL, whose query may hold a key
		}
		return Response{Err: err, Timeout: isTimeout(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	out := Response{Status: resp.StatusCode, Written: written(resp.Header)}
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

// written reads the confirmation headers; nil when there are none or they are not numbers.
func written(h http.Header) *Written {
	var w Written
	for name, p := range map[string]*int{
		remotewrite.HeaderSamplesWritten: &w.Samples, remotewrite.HeaderHistogramsWritten: &w.Histograms, remotewrite.HeaderExemplarsWritten: &w.Exemplars,
	} {
		n, err := strconv.Atoi(h.Get(name))
		if err != nil || n < 0 {
			return nil
		}
		*p = n
	}
	return &w
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// errorClass names a failed exchange for the run file's errors: a short, bounded set.
func errorClass(r Response) string {
	switch {
	case r.Timeout:
		return "timeout"
	case r.Err == nil:
		return "http_" + strconv.Itoa(r.Status)
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
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	s = strings.TrimSpace(strings.ToValidUTF8(s, "?"))
	return s[:min(len(s), maxMessage)]
}
