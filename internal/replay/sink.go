package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Sink is a server on loopback that reads requests and answers 204 to each, as fast as this process can: what
// the load generator measures against it is the generator itself.
type Sink struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool // guarded by mu
	closed bool              // guarded by mu
}

// NewSink starts a sink.
func NewSink(ctx context.Context) (*Sink, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the sink: %w", err)
	}
	s := &Sink{listener: l, conns: map[net.Conn]bool{}}
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if s.add(conn) {
				s.wg.Go(func() { s.serve(conn) })
			}
		}
	})
	return s, nil
}

// URL is where it listens.
func (s *Sink) URL() string { return "http://" + s.listener.Addr().String() + "/api/v1/write" }

// Close ends the sink and all connections, and waits for their goroutines.
func (s *Sink) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		err = errors.Join(err, c.Close())
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

func (s *Sink) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return false
	}
	s.conns[c] = true
	return true
}

// serve answers until the connection ends or sends what no sender of ours does.
func (s *Sink) serve(conn net.Conn) {
	defer func() {
		s.mu.Lock()
		known := s.conns[conn]
		delete(s.conns, conn)
		closed := s.closed
		s.mu.Unlock()
		if known && !closed {
			_ = conn.Close()
		}
	}()
	answer := []byte("HTTP/1.1 204 No Content\r\n\r\n")
	buf := make([]byte, 64<<10)
	have := 0
	for {
		end := bytes.Index(buf[:have], []byte("\r\n\r\n"))
		for end < 0 {
			if have == len(buf) {
				return
			}
			n, err := conn.Read(buf[have:])
			if err != nil {
				return
			}
			have += n
			end = bytes.Index(buf[:have], []byte("\r\n\r\n"))
		}
		length := int64(0)
		for line := range bytes.SplitSeq(buf[:end], []byte("\r\n")) {
			if name, value, ok := bytes.Cut(line, []byte(":")); ok && foldEqual(name, "Content-Length") {
				if length, ok = digits(bytes.TrimSpace(value)); !ok {
					return
				}
			}
		}
		rest := length - int64(have-end-4)
		if rest < 0 {
			return // a pipelined request: none of our senders makes any
		}
		for rest > 0 {
			n, err := conn.Read(buf[:min(int64(len(buf)), rest)])
			if err != nil {
				return
			}
			rest -= int64(n)
		}
		have = 0
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}
