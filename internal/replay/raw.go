package replay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// RawSender posts requests over HTTP/1.1 connections of its own: head and body leave in one system call,
// the answer is parsed in place, and in the steady state nothing is allocated. It knows what a
// remote-write exchange needs and no more: no HTTP/2, no proxies, no signing; [HTTPSender] has those. A
// differential test holds the two to the same results.
type RawSender struct {
	target
	network, address string
	timeout          time.Duration // of connecting
	ids              bool          // answers' request ids are wanted

	mu   sync.Mutex
	idle []*rawConn // guarded by mu: the last used last, its caches are warm
}

// NewRawSender checks the configuration; it does not connect.
func NewRawSender(c HTTPConfig) (*RawSender, error) {
	t, err := newTarget(c)
	if err != nil {
		return nil, err
	}
	if c.Sign != nil || c.Proxy != nil {
		return nil, errors.New("the raw sender can neither sign requests nor use a proxy")
	}
	s := &RawSender{target: t, network: "tcp", address: t.url.Host, timeout: connectTimeout, ids: c.RequestIDs}
	if t.url.Port() == "" {
		port := "80"
		if t.url.Scheme == "https" {
			port = "443"
		}
		s.address = net.JoinHostPort(t.url.Hostname(), port)
	}
	if c.UnixSocket != "" {
		s.network, s.address = "unix", c.UnixSocket
	}
	if t.url.Scheme == "https" {
		s.tls = tlsFor(c.TLS, t.url.Hostname())
		s.tls.NextProtos = []string{"http/1.1"}
	}
	return s, nil
}

// Close implements Sender.
func (s *RawSender) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.idle {
		_ = c.conn.Close()
	}
	s.idle = nil
}

// Send implements Sender.
func (s *RawSender) Send(ctx context.Context, r *Outgoing) Response {
	if err := ctx.Err(); err != nil {
		return Response{Err: err, Timeout: isTimeout(err)}
	}
	c, err := s.connect(ctx, r)
	if err != nil {
		return Response{Err: err, Timeout: isTimeout(err)}
	}
	if ctx.Done() != nil {
		detach := context.AfterFunc(ctx, func() {
			c.canceled.Store(true)
			_ = c.conn.SetDeadline(time.Unix(1, 0))
		})
		defer detach()
	}
	resp := c.exchange(r)
	if resp.Err != nil && ctx.Err() != nil {
		resp.Err, resp.Timeout = ctx.Err(), isTimeout(ctx.Err())
	}
	if !c.reusable || ctx.Err() != nil {
		_ = c.conn.Close()
		return resp
	}
	c.used = time.Now()
	s.mu.Lock()
	s.idle = append(s.idle, c)
	s.mu.Unlock()
	return resp
}

// sendBuffer is room for a large body in the kernel, so that it leaves in one write.
const sendBuffer = 256 << 10

// staleAfter is how long a connection may rest before it is looked at for having been closed by the
// server. Looking costs a system call.
const staleAfter = 5 * time.Millisecond

// connect returns an idle connection that still stands, or a new one. A request is never sent twice: a
// connection that dies under it is a failure that the run counts.
func (s *RawSender) connect(ctx context.Context, r *Outgoing) (*rawConn, error) {
	for {
		s.mu.Lock()
		last := len(s.idle) - 1
		if last < 0 {
			s.mu.Unlock()
			return s.dial(ctx, r)
		}
		c := s.idle[last]
		s.idle[last] = nil
		s.idle = s.idle[:last]
		s.mu.Unlock()
		if r.Now.Sub(c.used) < staleAfter && !r.Now.IsZero() || !c.closedByPeer() {
			return c, nil
		}
		_ = c.conn.Close()
	}
}

func (s *RawSender) dial(ctx context.Context, r *Outgoing) (*rawConn, error) {
	deadline := time.Now().Add(s.timeout)
	if !r.Deadline.IsZero() && r.Deadline.Before(deadline) {
		deadline = r.Deadline
	}
	d := net.Dialer{Deadline: deadline, KeepAlive: 30 * time.Second}
	conn, err := d.DialContext(ctx, s.network, s.address)
	if err != nil {
		return nil, err
	}
	if b, ok := conn.(interface{ SetWriteBuffer(int) error }); ok {
		_ = b.SetWriteBuffer(sendBuffer) // a hint: with less a large body only takes more system calls
	}
	c := &rawConn{conn: conn, sender: s, used: time.Now(), heads: map[headKey][]byte{}, in: make([]byte, 4096)}
	if sc, ok := conn.(syscall.Conn); ok {
		if c.raw, err = sc.SyscallConn(); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		c.peek = c.peekOnce
	}
	if err := conn.SetWriteDeadline(r.Deadline); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if s.tls != nil {
		t := tls.Client(conn, s.tls)
		hs, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		if err := t.HandshakeContext(hs); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		c.conn, c.encrypted = t, true
	}
	return c, nil
}

// headKey is what the head of a request depends on, apart from the length of its body.
type headKey struct {
	org, cluster string
	version      remotewrite.Version
	attempt      int
}

// rawConn is one connection. One request at a time uses it.
type rawConn struct {
	conn      net.Conn
	raw       syscall.RawConn
	encrypted bool
	sender    *RawSender
	used      time.Time
	armed     time.Time // the read deadline that is set; it may be too early, see fill
	deadline  time.Time // of the request under way
	canceled  atomic.Bool
	reusable  bool
	started   bool // a byte of the answer has come

	heads  map[headKey][]byte // up to "Content-Length: "
	out    []byte
	pieces [2][]byte
	vec    net.Buffers

	in   []byte // answer: in[r:w] is read and not parsed
	r, w int

	peek      func(fd uintptr) bool
	peekGone  bool
	peekBytes [1]byte
}

// peekOnce looks whether the peer has closed, without waiting.
func (c *rawConn) peekOnce(fd uintptr) bool {
	n, _, err := syscall.Recvfrom(int(fd), c.peekBytes[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	// Also bytes that nobody asked for make the connection unusable. TLS has records of its own to send.
	c.peekGone = (err == nil && (n == 0 || !c.encrypted)) || (err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR))
	return true
}

func (c *rawConn) closedByPeer() bool {
	if c.w > c.r {
		return true
	}
	if c.raw == nil {
		return false
	}
	return c.raw.Read(c.peek) != nil || c.peekGone
}

// exchange sends one request and reads its answer.
func (c *rawConn) exchange(r *Outgoing) Response {
	c.reusable, c.started, c.deadline = false, false, r.Deadline
	if c.encrypted || c.armed.IsZero() || c.armed.After(r.Deadline) {
		if err := c.arm(); err != nil {
			return failure(err)
		}
	}
	whole, err := c.write(r)
	if err != nil && isTimeout(err) {
		return failure(err)
	}
	// A server may refuse a request before it has read it, and close: its answer counts, not our broken pipe.
	resp := c.readAnswer()
	if err != nil && resp.Err != nil {
		return failure(err)
	}
	c.reusable = c.reusable && whole && resp.Err == nil
	return resp
}

func failure(err error) Response { return Response{Err: err, Timeout: isTimeout(err)} }

const (
	// joinBelow is the size of a body that is cheaper to copy behind its head than to send as a second piece.
	joinBelow = 16 << 10
	// writeSlice is how long a write waits for room before it looks whether the server has answered already.
	writeSlice = 10 * time.Millisecond
)

// write sends head and body. whole is false when the server answered before it had taken everything.
func (c *rawConn) write(r *Outgoing) (whole bool, err error) {
	key := headKey{r.Org, r.Cluster, r.Version, r.Attempt}
	head, ok := c.heads[key]
	if !ok {
		head = c.sender.head(r)
		if len(c.heads) < 4096 { // a bound for endless attempts
			c.heads[key] = head
		}
	}
	c.out = append(c.out[:0], head...)
	c.out = strconv.AppendInt(c.out, int64(len(r.Body)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	if c.encrypted || len(r.Body) < joinBelow {
		c.out = append(c.out, r.Body...)
		c.pieces = [2][]byte{c.out, nil}
		c.vec = c.pieces[:1]
	} else {
		c.pieces = [2][]byte{c.out, r.Body}
		c.vec = c.pieces[:]
	}
	// What surely fits into the kernel's buffer is written at once; a deadline that is set has no say then.
	rearm := len(r.Body) >= joinBelow || c.encrypted
	for {
		limit := r.Deadline
		if rearm {
			// A TLS connection does not survive a write that timed out.
			if slice := time.Now().Add(writeSlice); !c.encrypted && len(r.Body) >= joinBelow && (limit.IsZero() || slice.Before(limit)) {
				limit = slice
			}
			if err = c.conn.SetWriteDeadline(limit); err != nil {
				return false, err
			}
		}
		rearm = true
		if len(c.vec) == 1 {
			var n int
			n, err = c.conn.Write(c.vec[0])
			c.vec[0] = c.vec[0][n:]
		} else {
			_, err = c.vec.WriteTo(c.conn)
		}
		switch {
		case err == nil:
			return true, nil
		case !isTimeout(err), c.canceled.Load(), !r.Deadline.IsZero() && !time.Now().Before(r.Deadline):
			return false, err
		case c.closedByPeer(): // or has answered
			return false, nil
		}
	}
}

// Errors of an answer that is not HTTP.
var (
	errMalformedAnswer = errors.New("malformed HTTP response")
	errLongHeader      = errors.New("HTTP response header is too long")
)

const (
	maxHeaderBytes   = 1 << 20
	maxDiscard       = 1 << 20 // of an answer's body; a longer one costs the connection
	maxInformational = 100
)

// answer is what a response head says about what follows.
type answer struct {
	major, minor  int
	length        int64 // -1 = not given
	chunked       bool
	close         bool
	keepAlive     bool
	badLength     bool
	badEncoding   bool
	confirmations int
	idRank        int // of the header that Response.RequestID is from; 0 = none
}

// readAnswer reads one final response.
func (c *rawConn) readAnswer() (resp Response) {
	var a answer
	for n := 0; ; n++ {
		resp, a = Response{}, answer{length: -1}
		if err := c.readHead(&resp, &a); err != nil {
			return failure(fmt.Errorf("reading the answer: %w", err))
		}
		if resp.Status/100 != 1 || resp.Status == http.StatusSwitchingProtocols {
			break
		}
		if n == maxInformational {
			return failure(fmt.Errorf("reading the answer: %w: too many 1xx", errMalformedAnswer))
		}
	}
	resp.Confirmed = a.confirmations == 0b111
	if !resp.Confirmed {
		resp.Written = Written{}
	}
	modern := a.major > 1 || (a.major == 1 && a.minor >= 1)
	c.reusable = !a.close && (modern || a.keepAlive)
	var err error
	sink := discard{limit: maxDiscard}
	if resp.Status/100 != 2 {
		sink.keep = maxMessage
	}
	switch {
	case a.badLength:
		err = fmt.Errorf("%w: bad Content-Length", errMalformedAnswer)
	case a.badEncoding && modern:
		err = fmt.Errorf("%w: unsupported transfer encoding", errMalformedAnswer)
	case resp.Status/100 == 1 || resp.Status == http.StatusNoContent || resp.Status == http.StatusNotModified:
	case a.chunked && modern:
		err = c.readChunks(&sink)
	case a.length >= 0:
		err = c.readN(a.length, &sink)
	default:
		c.reusable = false
		if err = c.readN(1<<62, &sink); errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil // the end of the connection is the end of the answer
		}
	}
	if errors.Is(err, errEnough) {
		c.reusable, err = false, nil
	}
	if err != nil {
		return failure(fmt.Errorf("reading the answer: %w", err))
	}
	if resp.Status/100 != 2 {
		resp.Message = oneLine(string(sink.kept))
	}
	if resp.Status != http.StatusTooManyRequests && resp.Status/100 != 5 {
		resp.RetryAfter = 0
	}
	return resp
}

// fill reads more of the answer, or returns io.EOF.
func (c *rawConn) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if c.w == len(c.in) {
		if c.r > 0 {
			c.w = copy(c.in, c.in[c.r:c.w])
			c.r = 0
		} else {
			c.in = append(c.in, make([]byte, len(c.in))...)
		}
	}
	for {
		n, err := c.conn.Read(c.in[c.w:])
		c.w += n
		if n > 0 {
			c.started = true
			return nil
		}
		// Setting a deadline costs a timer. So one that an earlier request set stays, and is set anew only if it
		// strikes before this request's own.
		if err == nil || !isTimeout(err) || c.canceled.Load() || c.armed.Equal(c.deadline) {
			return err
		}
		if err := c.arm(); err != nil {
			return err
		}
	}
}

// arm sets the read deadline to that of the request under way.
func (c *rawConn) arm() error {
	c.armed = c.deadline
	if err := c.conn.SetReadDeadline(c.deadline); err != nil {
		return err
	}
	if c.canceled.Load() { // it came between: stay awake
		return c.conn.SetDeadline(time.Unix(1, 0))
	}
	return nil
}

// line returns the next line without its end; it is valid until the next read.
func (c *rawConn) line() ([]byte, error) {
	scanned := 0
	for {
		if i := bytes.IndexByte(c.in[c.r+scanned:c.w], '\n'); i >= 0 {
			l := c.in[c.r : c.r+scanned+i]
			c.r += scanned + i + 1
			if n := len(l); n > 0 && l[n-1] == '\r' {
				l = l[:n-1]
			}
			return l, nil
		}
		scanned = c.w - c.r
		if scanned > maxHeaderBytes {
			return nil, errLongHeader
		}
		if err := c.fill(); err != nil {
			if errors.Is(err, io.EOF) && c.started {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// readHead reads a status line and header lines.
func (c *rawConn) readHead(resp *Response, a *answer) error {
	l, err := c.line()
	if err != nil {
		return err
	}
	// HTTP/1.1 204 No Content
	if len(l) < 12 || string(l[:5]) != "HTTP/" || l[6] != '.' || l[8] != ' ' || (len(l) > 12 && l[12] != ' ') {
		return errMalformedAnswer
	}
	for _, i := range [...]int{5, 7, 9, 10, 11} {
		if l[i] < '0' || l[i] > '9' {
			return errMalformedAnswer
		}
	}
	a.major, a.minor = int(l[5]-'0'), int(l[7]-'0')
	resp.Status = int(l[9]-'0')*100 + int(l[10]-'0')*10 + int(l[11]-'0')
	for total := 0; ; {
		l, err := c.line()
		if err != nil {
			return err
		}
		if len(l) == 0 {
			return nil
		}
		if total += len(l); total > maxHeaderBytes {
			return errLongHeader
		}
		if l[0] == ' ' || l[0] == '\t' {
			continue // the rest of a folded value, none of which we read
		}
		name, value, ok := bytes.Cut(l, []byte(":"))
		if !ok || len(name) == 0 || bytes.IndexByte(name, ' ') >= 0 {
			return errMalformedAnswer
		}
		c.header(name, bytes.Trim(value, " \t"), resp, a)
	}
}

// header takes what matters of one header line.
func (c *rawConn) header(name, value []byte, resp *Response, a *answer) {
	if c.sender != nil && c.sender.ids {
		a.requestID(name, value, resp)
	}
	switch len(name) {
	case len("Content-Length"):
		if foldEqual(name, "Content-Length") {
			n, ok := digits(value)
			if !ok || (a.length >= 0 && a.length != n) {
				a.badLength = true
			}
			a.length = n
		}
	case len("Transfer-Encoding"):
		if foldEqual(name, "Transfer-Encoding") {
			a.badEncoding = a.badEncoding || a.chunked || !foldEqual(value, "chunked")
			a.chunked = true
		}
	case len("Connection"):
		if foldEqual(name, "Connection") {
			for len(value) > 0 {
				var token []byte
				token, value, _ = bytes.Cut(value, []byte(","))
				token = bytes.Trim(token, " \t")
				a.close = a.close || foldEqual(token, "close")
				a.keepAlive = a.keepAlive || foldEqual(token, "keep-alive")
			}
		}
	case len("Retry-After"):
		if foldEqual(name, "Retry-After") {
			resp.RetryAfter = retryAfter(string(value), time.Now())
		}
	case len(remotewrite.HeaderSamplesWritten):
		if foldEqual(name, remotewrite.HeaderSamplesWritten) {
			a.confirm(0, value, &resp.Written.Samples)
		}
	case len(remotewrite.HeaderHistogramsWritten):
		if foldEqual(name, remotewrite.HeaderHistogramsWritten) {
			a.confirm(1, value, &resp.Written.Histograms)
		}
	case len(remotewrite.HeaderExemplarsWritten):
		if foldEqual(name, remotewrite.HeaderExemplarsWritten) {
			a.confirm(2, value, &resp.Written.Exemplars)
		}
	}
}

// confirm takes the first value of a confirmation header, as http.Header.Get does.
func (a *answer) confirm(bit int, value []byte, to *int) {
	if a.confirmations&(0b1001<<bit) != 0 {
		return
	}
	n, ok := digits(value)
	if !ok || n > 1<<53 {
		a.confirmations |= 0b1000 << bit // seen and no number
		return
	}
	a.confirmations |= 1 << bit
	*to = int(n)
}

func foldEqual(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		x, y := b[i], s[i]
		if 'A' <= x && x <= 'Z' {
			x |= 0x20
		}
		if 'A' <= y && y <= 'Z' {
			y |= 0x20
		}
		if x != y {
			return false
		}
	}
	return true
}

// digits reads a decimal number without a sign.
func digits(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// errEnough says that an answer is longer than anybody needs to read.
var errEnough = errors.New("the answer is too long to be read out")

// discard takes an answer's body: it keeps the beginning.
type discard struct {
	keep, limit int64
	kept        []byte
	seen        int64
}

func (d *discard) take(b []byte) error {
	if rest := d.keep - int64(len(d.kept)); rest > 0 {
		d.kept = append(d.kept, b[:min(int64(len(b)), rest)]...)
	}
	if d.seen += int64(len(b)); d.seen > d.limit+d.keep {
		return errEnough
	}
	return nil
}

// readN reads n bytes of body; io.ErrUnexpectedEOF when the connection ends before.
func (c *rawConn) readN(n int64, d *discard) error {
	for n > 0 {
		if c.r == c.w {
			if err := c.fill(); err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return err
			}
		}
		k := min(int64(c.w-c.r), n)
		b := c.in[c.r : c.r+int(k)]
		c.r += int(k)
		n -= k
		if err := d.take(b); err != nil {
			return err
		}
	}
	return nil
}

// readChunks reads a chunked body and its trailer.
func (c *rawConn) readChunks(d *discard) error {
	for {
		l, err := c.line()
		if err != nil {
			return err
		}
		l, _, _ = bytes.Cut(l, []byte(";"))
		l = bytes.TrimRight(l, " \t")
		if len(l) == 0 || len(l) > 15 {
			return fmt.Errorf("%w: bad chunk size", errMalformedAnswer)
		}
		var n int64
		for _, ch := range l {
			h := unhex(ch)
			if h < 0 {
				return fmt.Errorf("%w: bad chunk size", errMalformedAnswer)
			}
			n = n<<4 | h
		}
		if n == 0 {
			break
		}
		if err := c.readN(n, d); err != nil {
			return err
		}
		if l, err = c.line(); err != nil {
			return err
		} else if len(l) != 0 {
			return fmt.Errorf("%w: a chunk is longer than it says", errMalformedAnswer)
		}
	}
	for {
		l, err := c.line()
		if err != nil {
			return err
		}
		if len(l) == 0 {
			return nil
		}
	}
}

// unhex returns the value of a hexadecimal digit, or -1.
func unhex(c byte) int64 {
	switch {
	case '0' <= c && c <= '9':
		return int64(c - '0')
	case 'a' <= c && c <= 'f':
		return int64(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int64(c-'A') + 10
	}
	return -1
}

// head returns a request's head up to the number of its length.
func (s *RawSender) head(r *Outgoing) []byte {
	var b bytes.Buffer
	u := s.requestURL(r)
	b.WriteString("POST " + u.RequestURI() + " HTTP/1.1\r\nHost: " + s.host + "\r\n")
	_ = s.headerOf(r).Write(&b) // a buffer takes everything
	b.WriteString("Content-Length: ")
	return b.Bytes()
}
