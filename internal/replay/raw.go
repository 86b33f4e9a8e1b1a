package replay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
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
	timeout          time.Duration    // of connecting
	ids              bool             // answers' request ids are wanted
	known            []netip.AddrPort // what the event loop may connect to by itself, see resolve

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

// keepAlive is how often the kernel asks for a peer that says nothing.
const keepAlive = 30 * time.Second

// staleAfter is how long a connection of the event loop may rest before it is looked at for having been closed by the
// server, beyond what the loop is told of it. Looking costs a system call.
const staleAfter = 5 * time.Millisecond

// restsFor is the same for connections of workers, which nobody watches while they rest. It is short, so that bytes
// that nobody asked for are seen, and long enough for a busy connection to be spared the system call.
const restsFor = 100 * time.Microsecond

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
		if r.Now.Sub(c.used) < restsFor && !r.Now.IsZero() || !c.stale() {
			return c, nil
		}
		_ = c.conn.Close()
	}
}

// dialNet opens the transport connection, before any TLS.
func (s *RawSender) dialNet(ctx context.Context, deadline time.Time) (net.Conn, error) {
	if limit := time.Now().Add(s.timeout); deadline.IsZero() || limit.Before(deadline) {
		deadline = limit
	}
	d := net.Dialer{Deadline: deadline, KeepAlive: keepAlive}
	conn, err := d.DialContext(ctx, s.network, s.address)
	if err != nil {
		return nil, err
	}
	if b, ok := conn.(interface{ SetWriteBuffer(int) error }); ok {
		_ = b.SetWriteBuffer(sendBuffer) // a hint: with less a large body only takes more system calls
	}
	return conn, nil
}

func (s *RawSender) dial(ctx context.Context, r *Outgoing) (*rawConn, error) {
	conn, err := s.dialNet(ctx, r.Deadline)
	if err != nil {
		return nil, err
	}
	c := &rawConn{conn: conn, sender: s, used: time.Now(), heads: map[headKey][]byte{}, answer: answerReader{ids: s.ids}}
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
		c.under = &tlsTransport{Conn: conn}
		t := tls.Client(c.under, s.tls)
		hs, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		if !r.Deadline.IsZero() {
			hs, cancel = context.WithDeadline(hs, r.Deadline)
			defer cancel()
		}
		if err := t.HandshakeContext(hs); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		c.conn = t
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
	conn     net.Conn
	raw      syscall.RawConn
	under    *tlsTransport // what a TLS connection runs on; nil without TLS
	sender   *RawSender
	used     time.Time
	armed    time.Time // the read deadline that is set; it may be too early, see fill
	deadline time.Time // of the request under way
	canceled atomic.Bool
	reusable bool
	full     bool // the last read took as much as there was room for: the kernel may have more

	heads  map[headKey][]byte // up to "Content-Length: "
	out    []byte
	pieces [2][]byte
	vec    net.Buffers

	answer answerReader

	peek      func(fd uintptr) bool
	peekBytes [1]byte
	peekGone  bool // the connection has ended
	peekMore  bool // there are bytes to read
}

// peekOnce looks what there is to be read, without waiting and without taking it.
func (c *rawConn) peekOnce(fd uintptr) bool {
	n, _, err := syscall.Recvfrom(int(fd), c.peekBytes[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	c.peekMore = err == nil && n > 0
	c.peekGone = (err == nil && n == 0) || (err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR))
	return true
}

// look asks the kernel whether there are bytes to be read, and whether the connection has ended behind them.
func (c *rawConn) look() (more, gone bool) {
	if c.raw == nil {
		return false, false
	}
	if c.raw.Read(c.peek) != nil {
		return false, true
	}
	return c.peekMore, c.peekGone
}

// closedByPeer says whether the server has closed the connection or has said something.
func (c *rawConn) closedByPeer() bool {
	more, gone := c.look()
	return c.answer.pending() || more || gone
}

// leftover says whether there is more than the answer that was just read: what the server sent without having been
// asked, or the end of the connection. It asks the kernel only if the last read leaves that open.
func (c *rawConn) leftover() bool {
	switch {
	case c.answer.pending():
		return true
	case c.under == nil:
		return c.full && c.closedByPeer()
	}
	// The TLS connection may hold what the kernel has no longer, and never says. This reads that and nothing else.
	c.under.dry = true
	_, err := c.conn.Read(c.answer.space())
	c.under.dry = false
	if !errors.Is(err, errDry) {
		return true
	}
	if !c.under.full {
		return false
	}
	more, gone := c.look()
	return more || gone
}

// stale says whether a connection that has rested must not be used again.
func (c *rawConn) stale() bool {
	more, gone := c.look()
	if gone || !more || c.under == nil {
		return gone || more
	}
	// TLS has messages of its own, such as tickets for later sessions, which it takes in while it reads; or it is the end.
	if c.conn.SetReadDeadline(time.Now().Add(time.Millisecond)) != nil {
		return true
	}
	_, err := c.conn.Read(c.answer.space())
	return !isTimeout(err)
}

// tlsTransport is the connection that a TLS connection runs on.
type tlsTransport struct {
	net.Conn

	dry  bool // reading yields nothing
	full bool // the last read took as much as there was room for
}

// Read implements [net.Conn].
func (t *tlsTransport) Read(b []byte) (int, error) {
	if t.dry {
		return 0, errDry
	}
	n, err := t.Conn.Read(b)
	t.full = n == len(b)
	return n, err
}

// errDry is what reading a dry tlsTransport ends with. To a TLS connection it is a timeout, which it survives.
var errDry net.Error = dryError{}

type dryError struct{}

func (dryError) Error() string   { return "nothing is to be read now" }
func (dryError) Timeout() bool   { return true }
func (dryError) Temporary() bool { return true }

// exchange sends one request and reads its answer.
func (c *rawConn) exchange(r *Outgoing) Response {
	c.reusable, c.deadline = false, r.Deadline
	if c.under != nil || c.armed.IsZero() || c.armed.After(r.Deadline) {
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
	c.reusable = c.answer.reusable && whole && resp.Err == nil && !c.leftover()
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
	if c.under != nil || len(r.Body) < joinBelow {
		c.out = append(c.out, r.Body...)
		c.pieces = [2][]byte{c.out, nil}
		c.vec = c.pieces[:1]
	} else {
		c.pieces = [2][]byte{c.out, r.Body}
		c.vec = c.pieces[:]
	}
	// What surely fits into the kernel's buffer is written at once; a deadline that is set has no say then.
	rearm := len(r.Body) >= joinBelow || c.under != nil
	for {
		limit := r.Deadline
		if rearm {
			// A TLS connection does not survive a write that timed out.
			if slice := time.Now().Add(writeSlice); c.under == nil && len(r.Body) >= joinBelow && (limit.IsZero() || slice.Before(limit)) {
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

// readAnswer reads one final response.
func (c *rawConn) readAnswer() Response {
	c.answer.next()
	for {
		err := c.answer.advance()
		if errors.Is(err, errMore) {
			if err = c.fill(); errors.Is(err, io.EOF) {
				err = c.answer.end()
			}
			if err == nil {
				continue
			}
		}
		if err != nil {
			return brokenAnswer(err)
		}
		return c.answer.response()
	}
}

// fill reads more of the answer, or returns io.EOF.
func (c *rawConn) fill() error {
	for {
		space := c.answer.space()
		n, err := c.conn.Read(space)
		if c.full = n == len(space); n > 0 {
			c.answer.got(n)
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

// head returns a request's head up to the number of its length.
func (s *RawSender) head(r *Outgoing) []byte {
	var b bytes.Buffer
	u := s.requestURL(r)
	b.WriteString("POST " + u.RequestURI() + " HTTP/1.1\r\nHost: " + s.host + "\r\n")
	_ = s.headerOf(r).Write(&b) // a buffer takes everything
	b.WriteString("Content-Length: ")
	return b.Bytes()
}
