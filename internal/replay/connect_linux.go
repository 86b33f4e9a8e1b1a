//go:build linux && (amd64 || arm64)

package replay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// peers are the addresses that the loop connects to by itself. A connection that is needed in the middle of a run is part
// of a request's latency, and a goroutine that dials may wait for a processor as long as a time slice: 10 ms that would
// be booked on the server. So where the address is known, connecting is one more thing that the loop does without
// blocking. What needs a resolver, or the choice between address families, is a goroutine's.
type peers struct {
	resolved []netip.AddrPort // of the target's name, before the run
	usable   []netip.AddrPort // of them, those that the loop may take, in turn
	next     int
	fixed    bool // the target is an address: a failure says nothing against it
}

// resolveWithin bounds how long a run waits for a resolver before it begins.
const resolveWithin = 2 * time.Second

// resolve looks up the target's name before anything is due. That it fails is nobody's error yet: requests will.
func (s *RawSender) resolve(ctx context.Context) {
	if s.network != "tcp" || s.tls != nil {
		return
	}
	if at, err := netip.ParseAddrPort(s.address); err == nil {
		if at.Addr().Zone() == "" { // with one it is left to a goroutine
			s.known = []netip.AddrPort{netip.AddrPortFrom(at.Addr().Unmap(), at.Port())}
		}
		return
	}
	host, service, err := net.SplitHostPort(s.address)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return
	}
	s.known = nil
	for _, a := range addrs {
		if a.Zone() == "" {
			s.known = append(s.known, netip.AddrPortFrom(a.Unmap(), uint16(port)))
		}
	}
}

func newPeers(s *RawSender) peers {
	_, err := netip.ParseAddrPort(s.address)
	p := peers{resolved: slices.Clone(s.known), fixed: err == nil}
	if len(s.known) > 0 {
		// Of two families one may lead nowhere, which only dialling finds out.
		if one := ofFamily(s.known, s.known[0].Addr()); len(one) == len(s.known) {
			p.usable = one
		}
	}
	return p
}

func ofFamily(all []netip.AddrPort, like netip.Addr) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range all {
		if a.Addr().Is4() == like.Is4() {
			out = append(out, a)
		}
	}
	return out
}

// reached says that dialling has led to an address.
func (p *peers) reached(at netip.AddrPort) {
	if len(p.usable) > 0 || !at.IsValid() || at.Addr().Zone() != "" {
		return
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if p.usable = ofFamily(p.resolved, at.Addr()); len(p.usable) == 0 {
		p.usable = []netip.AddrPort{at}
	}
}

// failed says that the loop could not connect to an address: of a name's others are left, or it is asked for anew.
func (p *peers) failed(at netip.AddrPort) {
	if !p.fixed {
		same := func(a netip.AddrPort) bool { return a == at }
		p.usable, p.resolved = slices.DeleteFunc(p.usable, same), slices.DeleteFunc(p.resolved, same)
	}
}

// share is until when one address of several may take, of a time to connect that ends with by: as long as each of them, but no
// less than net.Dialer gives one.
func (p *peers) share(now, by time.Duration) time.Duration {
	const least = 2 * time.Second
	return min(by, now+max(least, (by-now)/time.Duration(len(p.usable))))
}

// take returns the next address; false where dialling is a goroutine's.
func (p *peers) take() (netip.AddrPort, bool) {
	if len(p.usable) == 0 {
		return netip.AddrPort{}, false
	}
	at := p.usable[p.next%len(p.usable)]
	p.next++
	return at, true
}

// connect begins to open a connection for f, which is to stand by then; false where it cannot, and a goroutine must.
func (l *loop) connect(f *flight, by time.Duration) bool {
	at, ok := l.peers.take()
	if !ok {
		return false
	}
	family := unix.AF_INET6
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	if at.Addr().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.post(func() { l.fail(f, l.dialError(at, os.NewSyscallError("socket", err))) })
		return true
	}
	// As net.Dialer and dialNet set them. They are hints: without, it is only slower.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAlive.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAlive.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	if err = unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.EINTR) { // of those an event tells
		_ = unix.Close(fd)
		l.post(func() { l.refused(f, at, by, os.NewSyscallError("connect", err)) })
		return true
	}
	c, err := l.adopt(fd)
	if err != nil {
		l.post(func() { l.fail(f, err) })
		return true
	}
	c.f, f.conn, c.connecting, c.connectBy = f, c, at, by
	l.connects.pushLive(deadline{f, f.gen, l.peers.share(l.now, by)}, deadline.connecting)
	return true
}

// connected looks whether c has come to stand, and sends its request then. It returns true where c stands and has that
// request: the event may be that of an answer too, which no other is going to tell of.
func (l *loop) connected(c *loopConn) bool {
	code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		l.disconnect(c, os.NewSyscallError("getsockopt", err))
	case code != 0:
		l.disconnect(c, os.NewSyscallError("connect", unix.Errno(code)))
	default:
		c.connecting = netip.AddrPort{}
		l.write(c, c.f)
		return c.f != nil
	}
	return false
}

// disconnect gives up a connection that has not come to stand.
func (l *loop) disconnect(c *loopConn, err error) {
	f := c.f
	l.drop(c)
	l.refused(f, c.connecting, c.connectBy, err)
}

// refused goes on without a connection to one address: a name may have others, or others by now. The attempt ends where
// there is none to be had. It is posted by whoever has it at once: the flight counts as under way until then, or a target
// that refuses would keep a closed loop starting requests without ever looking around.
func (l *loop) refused(f *flight, at netip.AddrPort, by time.Duration, err error) {
	l.now = l.e.since()
	if l.peers.failed(at); l.peers.fixed || l.now >= by {
		l.fail(f, l.dialError(at, err))
		return
	}
	l.open(f, by)
}

// open has a connection for f opened, which is to stand by then.
func (l *loop) open(f *flight, by time.Duration) {
	if !l.connect(f, by) {
		l.dialElsewhere(f, by)
	}
}

func (l *loop) dialError(at netip.AddrPort, err error) error {
	return &net.OpError{Op: "dial", Net: l.sender.network, Addr: net.TCPAddrFromAddrPort(at), Err: err}
}

// fail ends an attempt that got no connection.
func (l *loop) fail(f *flight, err error) {
	resp := failure(err)
	l.settle(f, &resp)
}

// adopt puts a connection into the epoll set, or closes it.
func (l *loop) adopt(fd int) (*loopConn, error) {
	l.gen++
	// Edge-triggered: one registration for the connection's life.
	err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd), Pad: int32(l.gen),
	})
	if err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	c := &loopConn{fd: fd, gen: l.gen, answer: answerReader{ids: l.sender.ids}}
	for len(l.conns) <= fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[fd] = c
	return c, nil
}

// dialElsewhere has a goroutine open a connection for f.
func (l *loop) dialElsewhere(f *flight, by time.Duration) {
	l.helpers.Go(func() {
		fd, at, err := l.dial(l.e.start.Add(by))
		l.post(func() { l.dialled(f, fd, at, err) })
	})
}

// dialled takes over the connection that a goroutine has opened for f, or not.
func (l *loop) dialled(f *flight, fd int, at netip.AddrPort, err error) {
	var c *loopConn
	if err == nil {
		l.peers.reached(at)
		c, err = l.adopt(fd)
	}
	switch {
	case err != nil:
		l.fail(f, err)
	case l.now >= f.deadline:
		c.rested = l.now
		l.idle = append(l.idle, c)
		resp := Response{Err: errAttemptTimeout, Timeout: true}
		l.settle(f, &resp)
	default:
		l.write(c, f)
	}
}

// dialFD connects and returns the bare descriptor, which the caller owns, and where it leads.
func (s *RawSender) dialFD(ctx context.Context, deadline time.Time) (fd int, at netip.AddrPort, err error) {
	conn, err := s.dialNet(ctx, deadline)
	if err != nil {
		return -1, at, err
	}
	defer func() { _ = conn.Close() }()
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		at = a.AddrPort()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return -1, at, io.ErrClosedPipe
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, at, err
	}
	var dupErr error
	if err := raw.Control(func(p uintptr) { fd, dupErr = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, at, err
	}
	return fd, at, dupErr
}
