package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// gateServer is a server that we started and will stop.
type gateServer struct {
	url    string
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
	read   sync.WaitGroup
	mu     sync.Mutex
	tail   []string // guarded by mu: the last lines it printed, for an error message
}

var saysListening = regexp.MustCompile(`listening on (https?://[^\s"',]+)`)

// maxTail is how many of a server's last lines an error shows.
const maxTail = 5

// startGateServer starts a command and waits until it listens: on at when that is given, else where its output says.
func startGateServer(ctx context.Context, command []string, at string, timeout time.Duration) (*gateServer, error) {
	// Not CommandContext: an interrupt must not kill a server before the requests under way are answered.
	s := &gateServer{cmd: exec.Command(command[0], command[1:]...), exited: make(chan struct{})} //nolint:noctx // stopped by stop
	said := make(chan string, 1)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stdout, s.cmd.Stderr = w, w
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(err, r.Close(), w.Close())
	}
	_ = w.Close() // the child has its own
	s.read.Go(func() {
		s.readOutput(r, said)
		_ = r.Close()
	})
	go func() { // ends with the process, which stop ends
		_ = s.cmd.Wait() // how it ended is in its ProcessState
		// A child of the child may hold the pipe open: what it says does not matter any more.
		_ = r.SetReadDeadline(time.Now().Add(time.Second))
		s.read.Wait()
		close(s.exited)
	}()
	if err := s.awaitListening(ctx, said, at, timeout); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// readOutput keeps the last lines and looks for the URL.
func (s *gateServer) readOutput(r io.Reader, said chan<- string) {
	lines := bufio.NewReader(r)
	found := false
	for {
		line, err := lines.ReadString('\n')
		if m := saysListening.FindStringSubmatch(line); m != nil && !found {
			found = true
			said <- m[1]
		}
		if line = strings.TrimSpace(line); line != "" {
			s.mu.Lock()
			s.tail = append(s.tail, line[:min(len(line), 200)])
			s.tail = s.tail[max(0, len(s.tail)-maxTail):]
			s.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

func (s *gateServer) awaitListening(ctx context.Context, said <-chan string, at string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var knock <-chan time.Time
	if at != "" {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		knock = ticker.C
	}
	for {
		select {
		case url := <-said:
			if at == "" {
				s.url = url
				return nil
			}
		case <-knock:
			if answers(ctx, at) {
				s.url = at
				return nil
			}
		case <-s.exited:
			return fmt.Errorf("%s ended before it listened (%s)%s", s.cmd.Path, s.cmd.ProcessState, s.lastWords())
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("%s does not listen after %v%s", s.cmd.Path, timeout, s.lastWords())
		}
	}
}

// answers tells whether somebody accepts connections there.
func answers(ctx context.Context, at string) bool {
	u, err := url.Parse(at)
	if err != nil {
		return false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

func (s *gateServer) lastWords() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tail) == 0 {
		return ""
	}
	return "; it last said: " + strings.Join(s.tail, " / ")
}

// stopAfter is how long a server may take to end by itself.
const stopAfter = 10 * time.Second

// stop asks the server to end, kills it when it does not, and waits for it. How it ends does not matter: its
// work is done.
func (s *gateServer) stop() error {
	var err error
	select {
	case <-s.exited:
	default:
		if runtime.GOOS == "windows" {
			err = s.cmd.Process.Kill() // there is no asking
		} else {
			err = s.cmd.Process.Signal(syscall.SIGTERM)
		}
		if errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		patience := time.NewTimer(stopAfter)
		defer patience.Stop()
		select {
		case <-s.exited:
		case <-patience.C:
			err = errors.Join(err, s.cmd.Process.Kill())
			<-s.exited
		}
	}
	return err
}
