//go:build linux

// Command benchsink is the server that load generators are compared against: one thread, one epoll loop, a
// fixed 204 to every POST with a Content-Length. Bodies are dropped in the kernel (MSG_TRUNC), so that the
// generator is the limit and not the sink. It knows nothing else of HTTP and is no server for anything else.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

func main() {
	panic(serve(os.Args)) // it ends by being killed
}

// conn is a connection: the bytes of a head that is not complete, and what is missing of a body.
type conn struct {
	head []byte
	rest int
}

func serve(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: benchsink HOST:PORT")
	}
	addr, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // nothing is allocated once the connections are there
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(l, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		return err
	}
	if err := unix.Listen(l, 1024); err != nil {
		return err
	}
	// Port 0 is the kernel's choice, so say which one it is.
	bound, err := unix.Getsockname(l)
	if err != nil {
		return err
	}
	if in, ok := bound.(*unix.SockaddrInet4); ok {
		if _, err := fmt.Println(netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))); err != nil {
			return err
		}
	}
	ep, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, l, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l)}); err != nil {
		return err
	}
	conns := map[int]*conn{}
	events := make([]unix.EpollEvent, 256)
	buf := make([]byte, 8192)
	text := []byte("HTTP/1.1 204 No Content\r\nX-Prometheus-Remote-Write-Samples-Written: 1000000\r\n" +
		"X-Prometheus-Remote-Write-Histograms-Written: 1000000\r\nX-Prometheus-Remote-Write-Exemplars-Written: 1000000\r\n\r\n")
	for {
		n, err := unix.EpollWait(ep, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for i := range max(n, 0) {
			fd := int(events[i].Fd)
			if fd == l {
				nfd, _, err := unix.Accept4(l, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
				if err != nil {
					continue
				}
				_ = unix.SetsockoptInt(nfd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
				conns[nfd] = &conn{head: make([]byte, 0, 8192)}
				if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, nfd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(nfd)}); err != nil {
					return err
				}
				continue
			}
			if !conns[fd].ready(fd, buf, text) {
				delete(conns, fd)
				_ = unix.Close(fd)
			}
		}
	}
}

// ready reads what has come and answers; false when the connection is over.
func (c *conn) ready(fd int, buf, text []byte) bool {
	if c.rest > 0 {
		return c.drop(fd, text)
	}
	n, err := unix.Read(fd, buf[:cap(c.head)-len(c.head)])
	if errors.Is(err, unix.EAGAIN) {
		return true
	}
	if n <= 0 || err != nil {
		return false
	}
	c.head = append(c.head, buf[:n]...)
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
		return c.drop(fd, text)
	}
	return answer(fd, text)
}

// drop discards body bytes without copying them out of the kernel.
func (c *conn) drop(fd int, text []byte) bool {
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
	return answer(fd, text)
}

func answer(fd int, text []byte) bool {
	n, err := unix.Write(fd, text)
	return err == nil && n == len(text)
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
