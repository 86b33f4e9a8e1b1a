package lambdahost

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const functionARN = "arn:aws:lambda:us-east-1:000000000000:function:function"

// process is a running bootstrap and the Runtime API that it alone knows.
type process struct {
	cmd     *exec.Cmd
	started time.Time
	api     *http.Server
	served  chan struct{}
	output  sync.WaitGroup
	tail    tail          // of the invocation under way
	member  *cpuMember    // nil: the CPU is not held
	initCPU time.Duration // used when it asked first

	asks    chan time.Time   // it wants an event; holds one
	events  chan *invocation // the event
	answers chan Answer      // holds one
	exited  chan time.Time   // holds one

	mu      sync.Mutex
	current string // the id whose answer is awaited
}

// startProcess starts the bootstrap with a Runtime API of its own.
func startProcess(h *Host, n int) (*process, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("opening the Runtime API: %w", err)
	}
	p := &process{
		asks: make(chan time.Time, 1), events: make(chan *invocation), answers: make(chan Answer, 1),
		exited: make(chan time.Time, 1), served: make(chan struct{}),
	}
	p.api = &http.Server{Handler: p.handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(p.served)
		_ = p.api.Serve(l) // ends with ErrServerClosed when kill says so
	}()
	path := h.cfg.Command[0]
	p.cmd = exec.CommandContext(context.Background(), path, h.cfg.Command[1:]...)
	p.cmd.Env = append(append([]string{}, h.cfg.Env...),
		"AWS_LAMBDA_RUNTIME_API="+l.Addr().String(),
		"AWS_LAMBDA_FUNCTION_NAME=function", "AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE="+strconv.Itoa(h.cfg.MemoryMB),
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/function", "AWS_LAMBDA_LOG_STREAM_NAME=local/"+strconv.Itoa(n),
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"_HANDLER=bootstrap", "LAMBDA_TASK_ROOT="+filepath.Dir(path), "TZ=:UTC")
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if !set(h.cfg.Env, name) {
			p.cmd.Env = append(p.cmd.Env, name+"=us-east-1")
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", path, err), p.closeAPI())
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w // the files themselves, so that Wait does not copy
	apart(p.cmd)
	p.started = time.Now()
	err = p.cmd.Start()
	_ = w.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", path, err), r.Close(), p.closeAPI())
	}
	p.output.Go(func() {
		copyLines(&h.log, &p.tail, r)
		_ = r.Close()
	})
	p.output.Go(func() {
		_ = p.cmd.Wait() // how it ended does not matter, only that
		p.exited <- time.Now()
	})
	return p, nil
}

func set(env []string, name string) bool {
	for _, kv := range env {
		if strings.HasPrefix(kv, name+"=") {
			return true
		}
	}
	return false
}

// copyLines copies what the function prints into the log, a line at a time.
func copyLines(log *lineLog, t *tail, r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			log.print(line)
			t.add(line)
		}
		if err != nil {
			return
		}
	}
}

// ready is called when the start is over: from now on CPU time counts and is held.
func (p *process) ready(g *cpuGroup, n int) error {
	p.initCPU = cpuTime(p.cmd.Process.Pid)
	if g == nil {
		return nil
	}
	var err error
	p.member, err = g.join(n, p.cmd.Process.Pid)
	return err
}

// gone says whether the process has ended by itself.
func (p *process) gone() bool {
	select {
	case at := <-p.exited:
		p.exited <- at
		return true
	default:
		return false
	}
}

// kill ends the process and everything around it. It returns the CPU time used after
// the start.
func (p *process) kill() (time.Duration, error) {
	_ = p.cmd.Process.Kill() // fails when it has ended
	p.output.Wait()
	err := p.closeAPI()
	if p.member != nil {
		err = errors.Join(err, p.member.leave())
	}
	state := p.cmd.ProcessState
	return max(0, state.UserTime()+state.SystemTime()-p.initCPU), err
}

func (p *process) closeAPI() error {
	err := p.api.Close()
	<-p.served
	if err != nil {
		return fmt.Errorf("closing the Runtime API: %w", err)
	}
	return nil
}

func (p *process) maxMemoryMB(size int) int {
	if mb := peakMemoryMB(p.cmd.Process.Pid); mb > 0 {
		return mb
	}
	return size // not known
}

// handler is the Runtime API (AWS Lambda developer guide, "Using the Lambda runtime
// API").
func (p *process) handler() http.Handler {
	const prefix = "/2018-06-01/runtime/"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+prefix+"invocation/next", p.next)
	mux.HandleFunc("POST "+prefix+"invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) {
		p.answer(w, r, func([]byte) string { return "" })
	})
	mux.HandleFunc("POST "+prefix+"invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) {
		p.answer(w, r, func([]byte) string { return "Unhandled" })
	})
	mux.HandleFunc("POST "+prefix+"init/error", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // it prints the same, and exits
		w.WriteHeader(http.StatusAccepted)
	})
	return mux
}

// next hands out an event as soon as there is one.
func (p *process) next(w http.ResponseWriter, r *http.Request) {
	select {
	case p.asks <- time.Now():
	default: // two questions at once: a runtime with several loops, which we do not serve
		http.Error(w, "one question at a time", http.StatusTooManyRequests)
		return
	}
	select {
	case inv := <-p.events:
		p.mu.Lock()
		p.current = inv.id
		p.mu.Unlock()
		header := w.Header()
		header.Set("Content-Type", "application/json")
		header.Set("Content-Length", strconv.Itoa(len(inv.event)))
		header.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
		header.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
		header.Set("Lambda-Runtime-Invoked-Function-Arn", functionARN)
		_, _ = w.Write(inv.event) // a process that has gone is seen by its exit
	case <-r.Context().Done():
	}
}

// answer takes the answer or the error of the current invocation.
func (p *process) answer(w http.ResponseWriter, r *http.Request, kind func(body []byte) string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxPayloadBytes+1))
	if err != nil {
		http.Error(w, "the answer did not arrive in full", http.StatusBadRequest)
		return
	}
	a := Answer{Payload: body, FunctionError: kind(body)}
	status := http.StatusAccepted
	if len(body) > maxPayloadBytes {
		a = errorAnswer("Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (6291556 bytes).")
		status = http.StatusRequestEntityTooLarge
	}
	p.mu.Lock()
	current := p.current
	if current == r.PathValue("id") {
		p.current = ""
	}
	p.mu.Unlock()
	if current == "" || current != r.PathValue("id") {
		http.Error(w, "no such invocation is under way", http.StatusBadRequest)
		return
	}
	p.answers <- a // one invocation, one answer: there is room
	w.WriteHeader(status)
}

// errorAnswer is what Lambda answers in the place of a function.
func errorAnswer(kind, message string) Answer {
	b, err := json.Marshal(map[string]string{"errorType": kind, "errorMessage": message})
	if err != nil { // two strings always marshal
		b = []byte(`{}`)
	}
	return Answer{Payload: b, FunctionError: "Unhandled"}
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) }
