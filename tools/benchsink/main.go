//go:build linux

// Command benchsink is the server that load generators are measured against: one thread, one epoll loop, a fixed 204 to
// every POST with a Content-Length. Bodies are dropped in the kernel (MSG_TRUNC), so that the generator is the limit and
// not the sink. It knows nothing else of HTTP and is no server for anything else.
//
// Given a schedule it is a server whose latencies are known beforehand: it answers after a delay, and stands still at
// regular times. When its standard input ends it prints of each request, in the order they came, when it had come and when
// its answer left, in ns of wall-clock time since the epoch, and ends.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cirrusbench/cirrusbench/tools/internal/stalls"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "benchsink:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: benchsink HOST:PORT [FIRST,EVERY,LENGTH,DELAY]")
	}
	s := &sink{
		conns: map[int]*conn{}, buf: make([]byte, 8192),
		text: []byte("HTTP/1.1 204 No Content\r\nX-Prometheus-Remote-Write-Samples-Written: 1000000\r\n" +
			"X-Prometheus-Remote-Write-Histograms-Written: 1000000\r\nX-Prometheus-Remote-Write-Exemplars-Written: 1000000\r\n\r\n"),
	}
	if len(args) > 1 {
		schedule, err := stalls.Parse(args[1])
		if err != nil {
			return err
		}
		s.schedule = &schedule
	}
	return s.serve(args[0])
}

// conn is a connection: the bytes of a head that is not complete, and what is missing of a body.
type conn struct {
	head []byte
	rest int
}

// sink is the server. Only its one thread touches it.
type sink struct {
	ep       int
	conns    map[int]*conn
	buf      []byte
	text     []byte // of every answer
	schedule *stalls.Schedule
	seen     []exchange // of every request, as they came
	waiting  []answer   // ascending, for later requests are never answered earlier
}

// exchange is a request and its answer.
type exchange struct{ came, left time.Time }

// answer is one that waits until it is due.
type answer struct {
	fd, number int // number is that of its exchange
	due        time.Time
}

// listen opens the socket and says where it is: port 0 is the kernel's choice.
func listen(address string) (int, error) {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return -1, err
	}
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, err
	}
	if err := unix.Bind(l, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		return -1, err
	}
	if err := unix.Listen(l, 1024); err != nil {
		return -1, err
	}
	bound, err := unix.Getsockname(l)
	if err != nil {
		return -1, err
	}
	if in, ok := bound.(*unix.SockaddrInet4); ok {
		fmt.Println(netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)))
	}
	return l, nil
}

func (s *sink) serve(address string) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)                             // next to nothing is allocated once the connections are there
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // answers leave when they are due
	l, err := listen(address)
	if err != nil {
		return err
	}
	if s.ep, err = unix.EpollCreate1(0); err != nil {
		return err
	}
	watch := []int{l}
	if s.schedule != nil {
		watch = append(watch, int(os.Stdin.Fd()))
	}
	for _, fd := range watch {
		if err := unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return err
		}
	}
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := s.wait(events)
		if err != nil {
			return err
		}
		for i := range n {
			switch fd := int(events[i].Fd); {
			case fd == l:
				if err := s.accept(l); err != nil {
					return err
				}
			case s.conns[fd] == nil: // standard input, on which nothing but its end comes
				return s.print()
			case !s.ready(fd):
				delete(s.conns, fd)
				_ = unix.Close(fd)
			}
		}
	}
}

// wait returns what has come, and answers what is due meanwhile.
func (s *sink) wait(events []unix.EpollEvent) (int, error) {
	for {
		ms := -1
		if len(s.waiting) > 0 {
			ms = 0
			if rest := time.Until(s.waiting[0].due); rest > 0 {
				nap := unix.NsecToTimespec(int64(rest))
				poll := [1]unix.PollFd{{Fd: int32(s.ep), Events: unix.POLLIN}}
				if _, err := unix.Ppoll(poll[:], &nap, nil); err != nil && !errors.Is(err, unix.EINTR) {
					return 0, err
				}
			}
			for now := time.Now(); len(s.waiting) > 0 && !s.waiting[0].due.After(now); s.waiting = s.waiting[1:] {
				w := s.waiting[0]
				if s.seen[w.number].left = time.Now(); s.conns[w.fd] != nil && !s.answer(w.fd) {
					delete(s.conns, w.fd)
					_ = unix.Close(w.fd)
				}
			}
		}
		n, err := unix.EpollWait(s.ep, events, ms)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return 0, err
		case n > 0:
			return n, nil
		}
	}
}

func (s *sink) print() error {
	w := bufio.NewWriter(os.Stdout)
	for _, e := range s.seen {
		_, _ = fmt.Fprintln(w, e.came.UnixNano(), e.left.UnixNano())
	}
	return w.Flush()
}

func (s *sink) accept(l int) error {
	fd, _, err := unix.Accept4(l, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return nil //nolint:nilerr // the client has gone again
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	s.conns[fd] = &conn{head: make([]byte, 0, 8192)}
	return unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// ready reads what has come and answers; false when the connection is over.
func (s *sink) ready(fd int) bool {
	c := s.conns[fd]
	if c.rest > 0 {
		return s.drop(c, fd)
	}
	n, err := unix.Read(fd, s.buf[:cap(c.head)-len(c.head)])
	if errors.Is(err, unix.EAGAIN) {
		return true
	}
	if n <= 0 || err != nil {
		return false
	}
	c.head = append(c.head, s.buf[:n]...)
	end := bytes.Index(c.head, []byte("\r\n\r\n"))
	if end < 0 {
		return len(c.head) < cap(c.head)
	}
	length := contentLength(c.head[:end+2])
	if length < 0 {
		return false
	}
	c.rest = end + 4 + length - len(c.head)
	c.head = c.head[:0]
	if c.rest > 0 {
		return s.drop(c, fd)
	}
	return s.arrived(fd)
}

// drop discards body bytes without copying them out of the kernel.
func (s *sink) drop(c *conn, fd int) bool {
	var none [1]byte
	for c.rest > 0 {
		n, err := discard(fd, none[:], c.rest)
		if errors.Is(err, unix.EAGAIN) {
			return true
		}
		if n <= 0 || err != nil {
			return false
		}
		c.rest -= n
	}
	return s.arrived(fd)
}

// arrived answers a request that is complete, or puts its answer off.
func (s *sink) arrived(fd int) bool {
	if s.schedule == nil {
		return s.answer(fd)
	}
	now := time.Now()
	s.seen = append(s.seen, exchange{now, now})
	wait := s.schedule.Latency(now.Sub(s.seen[0].came))
	if wait == 0 && len(s.waiting) == 0 {
		return s.answer(fd)
	}
	s.waiting = append(s.waiting, answer{fd, len(s.seen) - 1, now.Add(wait)})
	return true
}

func (s *sink) answer(fd int) bool {
	n, err := unix.Write(fd, s.text)
	return err == nil && n == len(s.text)
}

// contentLength reads the header in any case, without allocating; -1 when there is none.
func contentLength(head []byte) int {
	const name = "content-length: "
	for i := 0; i+len(name) < len(head); i++ {
		if head[i] != '\n' || !bytes.EqualFold(head[i+1:min(i+1+len(name), len(head))], []byte(name)) {
			continue
		}
		n := 0
		for _, c := range head[i+1+len(name):] {
			if c < '0' || c > '9' {
				return n
			}
			n = n*10 + int(c-'0')
		}
	}
	return -1
}
