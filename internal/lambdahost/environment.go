package lambdahost

import (
	"time"
)

// initTimeout is how long a function may take to ask for its first event.
const initTimeout = 10 * time.Second

// invocation is one event on its way through an environment.
type invocation struct {
	id       string
	event    []byte
	deadline time.Time
	answer   chan outcome // holds one
	tail     chan []byte  // holds one: the end of the log, when that is over; nil: not wanted
}

type outcome struct {
	answer Answer
	err    error
}

// environment is one process at a time. Everything in it belongs to its goroutine.
type environment struct {
	host *Host
	n    int
	jobs chan *invocation // holds one; closed by Host.Close
	proc *process         // nil: the next invocation is cold
	err  error            // of ending processes; to be read when the goroutine is over
}

func newEnvironment(h *Host, n int) *environment {
	return &environment{host: h, n: n, jobs: make(chan *invocation, 1)}
}

// run serves invocations until there are no more.
func (e *environment) run() {
	for inv := range e.jobs {
		r := e.serve(inv)
		e.host.release(e, r)
	}
	e.end()
}

// end ends the process, if there is one.
func (e *environment) end() {
	if e.proc == nil {
		return
	}
	cpu, err := e.proc.kill()
	e.host.addCPU(cpu)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.proc = nil
}

// serve runs one invocation and returns what is to be reported of it.
func (e *environment) serve(inv *invocation) *report {
	h := e.host
	r := &report{id: inv.id, memoryMB: h.cfg.MemoryMB}
	if e.proc != nil && e.proc.gone() { // it ended while it had nothing to do
		e.end()
	}
	if e.proc == nil {
		r.cold = true
		if out := e.start(r, inv); out != nil {
			inv.answer <- *out
			return r
		}
	}
	p := e.proc
	first := "START RequestId: " + inv.id + " Version: $LATEST"
	h.log.print(first)
	p.tail.begin(first)
	begin := time.Now()
	inv.deadline = begin.Add(h.cfg.Timeout)
	timeout := time.NewTimer(h.cfg.Timeout)
	defer timeout.Stop()
	events := p.events // the process has asked, so somebody takes it soon

	answered := false
	answer := func(a Answer) {
		if !answered {
			inv.answer <- outcome{answer: a}
			answered = true
		}
	}
	for asked := false; !asked; {
		select {
		case events <- inv:
			events = nil
		case a := <-p.answers:
			answer(a)
		case at := <-p.asks: // it is done when it wants more
			r.duration = at.Sub(begin)
			// An answer comes before the question, but select does not know that.
			select {
			case a := <-p.answers:
				answer(a)
			default:
			}
			asked = true
		case at := <-p.exited:
			r.duration, r.status, r.errorType = at.Sub(begin), "error", "Runtime.ExitError"
			select {
			case a := <-p.answers:
				answer(a)
			default:
			}
			answer(errorAnswer("Runtime.ExitError", "RequestId: "+inv.id+" Error: Runtime exited"))
			asked = true
		case <-timeout.C:
			r.duration, r.status = h.cfg.Timeout, "timeout"
			answer(errorAnswer("Sandbox.Timedout", "RequestId: "+inv.id+" Error: Task timed out after "+seconds(h.cfg.Timeout)+" seconds"))
			asked = true
		}
	}
	answer(errorAnswer("Runtime.NoAnswer", "RequestId: "+inv.id+" Error: the function asked for the next event without an answer"))
	r.maxMemoryMB = p.maxMemoryMB(h.cfg.MemoryMB)
	if r.status != "" {
		e.end() // before the lines, so that what the process printed comes first
	}
	end := []string{"END RequestId: " + inv.id, r.String()}
	h.log.print(end...)
	tail := p.tail.end(end...)
	if inv.tail != nil {
		inv.tail <- tail
	}
	return r
}

// start starts a process and waits until it asks for an event. It returns an outcome
// when that fails.
func (e *environment) start(r *report, inv *invocation) *outcome {
	h := e.host
	p, err := startProcess(h, e.n)
	if err != nil {
		r.status = "error"
		return &outcome{err: err}
	}
	e.proc = p
	timeout := time.NewTimer(initTimeout)
	defer timeout.Stop()
	var status, errorType string
	select {
	case at := <-p.asks:
		r.init = at.Sub(p.started)
		if err := p.ready(h.cpu, e.n); err != nil {
			r.status = "error"
			e.end()
			return &outcome{err: err}
		}
		return nil
	case at := <-p.exited:
		r.duration, status, errorType = at.Sub(p.started), "error", "Runtime.ExitError"
	case <-timeout.C:
		r.duration, status = initTimeout, "timeout"
	}
	r.status, r.cold = status, true
	e.end()
	line := initReport(r.duration, status, errorType)
	h.log.print(line)
	if inv.tail != nil {
		inv.tail <- []byte(line + "\n")
	}
	return &outcome{answer: errorAnswer("Runtime.ExitError", "the function ended before it asked for an event; see its output")}
}
