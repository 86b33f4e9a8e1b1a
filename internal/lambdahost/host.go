package lambdahost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Defaults of [Config].
const (
	DefaultEnvironments = 4
	DefaultMemoryMB     = 128
	DefaultTimeout      = 30 * time.Second
	DefaultCPUPeriod    = 20 * time.Millisecond
)

// The sizes that a function can have, in MB, and the longest time that it can take.
const (
	MinMemoryMB = 128
	MaxMemoryMB = 10240
	MaxTimeout  = 15 * time.Minute
)

// maxPayloadBytes is Lambda's limit for the event and for the answer of an invocation.
const maxPayloadBytes = 6 << 20

// Config says what is run, and how. Only Command is required.
type Config struct {
	// Command is the bootstrap and its arguments.
	Command []string

	// Env is its environment, NAME=value; the variables that Lambda sets are added.
	Env []string

	// Environments is how many may run at once, 1 to 1000; above it invocations are
	// throttled. Default 4.
	Environments int

	// MemoryMB is the size that REPORT lines state and that HoldCPU goes by, 128 to
	// 10240. It is no limit. Default 128.
	MemoryMB int

	// Timeout ends an invocation that takes longer, 1 ms to 15 minutes. Default 30 s.
	Timeout time.Duration

	// HoldCPU gives each environment the CPU share of MemoryMB, by a cgroup; New
	// fails with a [*CPUError] where that is not allowed. CPUPeriod is the period of
	// the quota, 10 ms to 1 s, default 20 ms. Cgroup is the directory under which the
	// cgroups are made; empty: the root of the hierarchy.
	HoldCPU   bool
	CPUPeriod time.Duration
	Cgroup    string

	// Log gets the lines of Lambda and whatever the function prints, line by line.
	// nil: nothing.
	Log io.Writer
}

// Errors that callers tell apart.
var (
	ErrThrottled = errors.New("all environments are busy")
	ErrTooLarge  = fmt.Errorf("event is larger than the %d bytes that Lambda takes", maxPayloadBytes)
	ErrClosed    = errors.New("host is closed")
)

// Answer is what an invocation returned.
type Answer struct {
	Payload []byte
	// FunctionError is empty, or why the payload is an error object: "Unhandled", or
	// what the runtime said.
	FunctionError string
	// RequestID is that of the REPORT line.
	RequestID string
	// Log is the end of what the log has of the invocation, REPORT line included; only
	// from InvokeTail.
	Log []byte
}

// Stats counts what a host has done.
type Stats struct {
	Invocations int // that have ended, well or not
	Cold        int // of these, with the start of an environment
	Throttled   int
	Failed      int           // timed out, or the process ended
	CPU         time.Duration // user and system time of the functions after their start; known after Close
	MaxMemoryMB int           // greatest resident memory of a process, 0: not known
}

// Host is a function with its environments. Use [New]; its methods may be called from
// several goroutines at once.
type Host struct {
	cfg  Config
	cpu  *cpuGroup // nil: not held
	log  lineLog
	wait sync.WaitGroup // the goroutine of each environment

	mu     sync.Mutex
	idle   []*environment // the most recently used last
	all    []*environment
	closed bool
	stats  Stats
}

// New checks cfg. Nothing is started before the first invocation.
func New(cfg Config) (*Host, error) {
	cfg.Environments = cmp.Or(cfg.Environments, DefaultEnvironments)
	cfg.MemoryMB = cmp.Or(cfg.MemoryMB, DefaultMemoryMB)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	cfg.CPUPeriod = cmp.Or(cfg.CPUPeriod, DefaultCPUPeriod)
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	var problems []error
	if len(cfg.Command) == 0 || cfg.Command[0] == "" {
		problems = append(problems, errors.New("no bootstrap"))
	}
	if cfg.Environments < 1 || cfg.Environments > 1000 {
		problems = append(problems, fmt.Errorf("%d environments are not in 1 to 1000", cfg.Environments))
	}
	if cfg.MemoryMB < MinMemoryMB || cfg.MemoryMB > MaxMemoryMB {
		problems = append(problems, fmt.Errorf("memory of %d MB is not in %d to %d", cfg.MemoryMB, MinMemoryMB, MaxMemoryMB))
	}
	if cfg.Timeout < time.Millisecond || cfg.Timeout > MaxTimeout {
		problems = append(problems, fmt.Errorf("timeout of %s is not in 1ms to %s", cfg.Timeout, MaxTimeout))
	}
	if cfg.CPUPeriod < 10*time.Millisecond || cfg.CPUPeriod > time.Second {
		problems = append(problems, fmt.Errorf("CPU period of %s is not in 10ms to 1s", cfg.CPUPeriod))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("configuring host: %w", err)
	}
	h := &Host{cfg: cfg, log: lineLog{w: cfg.Log}}
	if cfg.HoldCPU {
		var err error
		if h.cpu, err = openCPU(cfg.Cgroup, CPUShare(cfg.MemoryMB), cfg.CPUPeriod); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// CPUShare is the number of CPUs that a function of memoryMB gets: one at 1,769 MB, and
// in proportion otherwise (AWS Lambda developer guide, "Configure Lambda function
// memory").
func CPUShare(memoryMB int) float64 { return float64(memoryMB) / 1769 }

// Invoke runs the function on an event. The error is one of those above, one of ctx, or
// says that no environment can be started; an error of the function is in the answer. An
// invocation goes on when ctx ends, as on Lambda.
func (h *Host) Invoke(ctx context.Context, event []byte) (Answer, error) {
	return h.invoke(ctx, event, false)
}

// InvokeTail is Invoke that waits for the invocation's REPORT line and returns the last
// 4 KB of its log, as Lambda does for a log type of Tail.
func (h *Host) InvokeTail(ctx context.Context, event []byte) (Answer, error) {
	return h.invoke(ctx, event, true)
}

func (h *Host) invoke(ctx context.Context, event []byte, tail bool) (Answer, error) {
	if len(event) > maxPayloadBytes {
		return Answer{}, ErrTooLarge
	}
	inv := &invocation{id: newRequestID(), event: event, answer: make(chan outcome, 1)}
	if tail {
		inv.tail = make(chan []byte, 1)
	}
	if err := h.dispatch(inv); err != nil {
		return Answer{}, err
	}
	var out outcome
	select {
	case out = <-inv.answer:
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
	out.answer.RequestID = inv.id
	if tail && out.err == nil {
		select {
		case out.answer.Log = <-inv.tail:
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
	return out.answer, out.err
}

// dispatch gives an invocation to an idle environment, or to a new one.
func (h *Host) dispatch(inv *invocation) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var env *environment
	switch n := len(h.idle); {
	case h.closed:
		return ErrClosed
	case n > 0:
		env, h.idle = h.idle[n-1], h.idle[:n-1]
	case len(h.all) == h.cfg.Environments:
		h.stats.Throttled++
		return ErrThrottled
	default:
		env = newEnvironment(h, len(h.all))
		h.all = append(h.all, env)
		h.wait.Go(env.run)
	}
	env.jobs <- inv // does not block: it is idle, and only we, who hold the lock, give or close
	return nil
}

// release makes an environment idle; it is not any more when the host is closed.
func (h *Host) release(env *environment, r *report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.Invocations++
	if r.cold {
		h.stats.Cold++
	}
	if r.status != "" {
		h.stats.Failed++
	}
	h.stats.MaxMemoryMB = max(h.stats.MaxMemoryMB, r.maxMemoryMB)
	if !h.closed {
		h.idle = append(h.idle, env)
	}
}

// Stats returns the counts so far.
func (h *Host) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stats
}

// Close lets the invocations under way end, then ends every process and waits for it.
// Nothing is left running after it.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	all := h.all
	for _, env := range all {
		close(env.jobs)
	}
	h.mu.Unlock()
	h.wait.Wait()
	errs := []error{h.log.err()}
	for _, env := range all {
		errs = append(errs, env.err)
	}
	if h.cpu != nil {
		errs = append(errs, h.cpu.close())
	}
	return errors.Join(errs...)
}

func (h *Host) addCPU(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.CPU += d
}

// lineLog writes whole lines, from many goroutines. It keeps the first error.
type lineLog struct {
	mu    sync.Mutex
	w     io.Writer
	first error
}

func (l *lineLog) print(lines ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := io.WriteString(l.w, strings.Join(lines, "\n")+"\n"); err != nil && l.first == nil {
		l.first = fmt.Errorf("writing the log: %w", err)
	}
}

func (l *lineLog) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}
