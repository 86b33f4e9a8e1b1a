//go:build linux && (amd64 || arm64)

package replay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// loop is the engine's fast path: one locked thread that waits for due times, sends, reads and records, all
// connections in one epoll set. What other engines pay for handing requests from a scheduler to workers
// (channels, locks, a thread to wake) does not exist here: a request costs one sendmsg, one read and a share of an
// epoll_wait. It carries plain HTTP/1.1 over TCP and unix sockets; everything else goes through [Sender.Send].
//
// Nothing but the thread that runs it touches its fields, apart from those below mu.
type loop struct {
	e      *engine
	sender *RawSender
	rec    *stats.Recorder
	walk   *walk
	prep   *preparer // nil: jobs come through e.prepared

	turns    turns
	slots    int // requests under way at most
	room     int // closed loop: this many jobs wait at most for their source's turn
	inFlight int
	next     *job // open loop: the next to come due
	planEnd  bool // all of the plan was fetched
	landed   bool // a flight has ended since the last feed
	waited   bool // next was not ready when it was asked for
	fed      bool // nothing more is to be started but what waits
	fedAt    time.Duration
	measured bool          // closed loop: the measured part has begun
	end      time.Duration // closed loop by time: nothing starts after
	now      time.Duration // as last read
	err      error         // of preparing

	ep        int
	events    []unix.EpollEvent
	conns     []*loopConn // by descriptor
	gen       uint32      // of the latest
	idle      []*loopConn // the last used last
	free      []*flight
	peers     peers
	deadlines fifo[deadline] // ascending: all attempts have the same timeout
	connects  fifo[deadline] // of connections that are being opened; ascending, but for second addresses, which deadlines bounds
	retries   []*flight      // waiting for their next attempt
	wasRetry  []*flight      // empty: room for the list that follows
	retryFrom time.Duration  // no retry is due before
	heads     [][]byte       // of first attempts, by source and version
	msg       unix.Msghdr
	iov       [2]unix.Iovec
	pollFD    [1]unix.PollFd
	napFor    unix.Timespec
	peek      [1]byte

	stopped atomic.Bool // start nothing more
	hungry  atomic.Bool // waits for a prepared batch
	helpers sync.WaitGroup
	dial    func(deadline time.Time) (fd int, at netip.AddrPort, err error)

	mu     sync.Mutex
	inbox  []func() // guarded by mu: what the loop is to do, as others have asked
	wakeFD int      // an eventfd; written under mu, or it might be another file by then
}

// flight is a request under way: from its start until its last attempt has ended.
type flight struct {
	job      *job
	conn     *loopConn // nil while it is being dialled or waits for another attempt
	started  time.Duration
	deadline time.Duration // of the attempt under way
	backoff  time.Duration
	retryAt  time.Duration
	last     Response // of the attempt before
	gen      uint32   // changes with every attempt and when it ends
}

type deadline struct {
	f   *flight
	gen uint32
	at  time.Duration
}

// live says whether the attempt is still under way.
func (d deadline) live() bool { return d.f.gen == d.gen }

// connecting says whether the attempt still waits for its connection.
func (d deadline) connecting() bool {
	return d.live() && d.f.conn != nil && d.f.conn.connecting.IsValid()
}

// loopConn is a connection. It belongs to a flight or to loop.idle.
type loopConn struct {
	fd         int
	gen        uint32 // of the connections that this loop has had: descriptors come back
	f          *flight
	answer     answerReader
	out        []byte         // head
	rest       [2][]byte      // of head and body, what is not written yet
	rested     time.Duration  // idle since
	connecting netip.AddrPort // valid until it stands
	connectBy  time.Duration  // all of the connecting
	writing    bool
	hungUp     bool
	writeErr   error
}

// errAttemptTimeout is what an attempt without an answer in time ends with.
var errAttemptTimeout = fmt.Errorf("reading the answer: %w", os.ErrDeadlineExceeded)

// newLoop returns nil when the run needs something that the loop has not.
func newLoop(e *engine, feed func() (*preparer, *walk)) (*loop, error) {
	s, ok := e.Sender.(*RawSender)
	if !ok || s.tls != nil || e.noLoop {
		return nil, nil //nolint:nilnil // the workers do it
	}
	l := &loop{
		e: e, sender: s, rec: stats.NewDenseRecorder(), turns: e.newTurns(), slots: e.workers, room: max(64, 8*e.workers),
		events: make([]unix.EpollEvent, 256), heads: make([][]byte, 2*len(e.sources.Names())), ep: -1, wakeFD: -1, end: math.MaxInt64 / 2,
		// Without the run's context: what has been started is waited for.
		peers: newPeers(s), dial: func(at time.Time) (int, netip.AddrPort, error) { return s.dialFD(context.Background(), at) },
	}
	l.prep, l.walk = feed()
	var err error
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		l.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	}
	if err == nil {
		err = unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, l.wakeFD, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(l.wakeFD)})
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("setting up the sender's event loop: %w", err)
	}
	return l, nil
}

func (l *loop) close() {
	for _, c := range l.conns {
		if c != nil {
			_ = unix.Close(c.fd)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fd := range []*int{&l.ep, &l.wakeFD} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
			*fd = -1
		}
	}
}

// wake makes the loop look around; any goroutine may call it.
func (l *loop) wake() { l.post(nil) }

// post has the loop do something, if it is not nil, on its own thread; any goroutine may call it.
func (l *loop) post(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if do != nil {
		l.inbox = append(l.inbox, do)
	}
	if l.wakeFD >= 0 {
		_, _ = unix.Write(l.wakeFD, binary.NativeEndian.AppendUint64(nil, 1)) // full means that it will wake anyway
	}
}

// attend does what was posted.
func (l *loop) attend() {
	l.mu.Lock()
	all := l.inbox
	l.inbox = nil
	l.mu.Unlock()
	for _, do := range all {
		l.now = l.e.since()
		do()
	}
}

// stop lets what is under way end and starts nothing more.
func (l *loop) stop() {
	l.stopped.Store(true)
	l.wake()
}

// run executes the plan; fed is closed when nothing more is going to be fed.
func (l *loop) run(ctx context.Context, fed chan<- struct{}) {
	runtime.LockOSThread() // for good: the thread ends with this goroutine, and its settings with it
	tightenTimer()
	if l.e.Plan.Loop == Open {
		favourThread()
	}
	for {
		l.now = l.e.since()
		if l.stopped.Load() {
			l.abandon()
		}
		l.attend()
		l.expire()
		l.landed = false
		if l.feed(ctx); l.fed && fed != nil {
			close(fed)
			fed, l.fedAt = nil, l.now
		}
		if l.fed && l.inFlight == 0 && l.turns.waiting == 0 {
			break
		}
		l.wait(ctx)
	}
	l.helpers.Wait() // all have reported: whatever they work for counts as under way
}

// abandon drops what is not under way.
func (l *loop) abandon() {
	l.turns.drop()
	l.next, l.planEnd, l.fed = nil, true, true
	for _, f := range l.retries {
		l.land(f, &f.last)
	}
	l.retries = l.retries[:0]
}

// fetch returns the next entry of the plan, or nil when there is none, for now or for good.
func (l *loop) fetch(ctx context.Context) *job {
	if l.planEnd {
		return nil
	}
	if l.prep != nil {
		n, ok, err := l.walk.next()
		var j *job
		if ok && err == nil {
			j, err = l.prep.prepare(ctx, n)
		}
		if err != nil {
			l.err = err
		}
		l.planEnd = j == nil
		return j
	}
	e := l.e
	for len(e.batch) == 0 {
		batch, open, empty := l.receive()
		if empty {
			// Say that a wake-up is wanted, and look again: it may have come just before.
			l.hungry.Store(true)
			if batch, open, empty = l.receive(); empty {
				l.waited = true
				return nil
			}
			l.hungry.Store(false)
		}
		if !open {
			l.planEnd = true
			return nil
		}
		e.batch = batch
	}
	j := e.batch[0]
	e.batch = e.batch[1:]
	return j
}

func (l *loop) receive() (batch []*job, open, empty bool) {
	select {
	case batch, open = <-l.e.prepared:
		return batch, open, false
	default:
		return nil, true, true
	}
}

// feed starts what is due and what there is room for.
func (l *loop) feed(ctx context.Context) {
	if l.stopped.Load() || ctx.Err() != nil {
		return // abandon follows, as soon as the loop is told
	}
	if l.e.Plan.Loop == Open {
		l.feedOpen(ctx)
	} else {
		l.feedClosed(ctx)
	}
	if l.fed && l.e.Plan.Loop == Open && l.e.DrainTimeout > 0 && l.now-l.fedAt >= l.e.DrainTimeout && l.turns.unsent() && l.fedAt > 0 {
		l.turns.drop() // their sources' last requests are waited for
		l.e.refills.stop()
	}
}

func (l *loop) feedOpen(ctx context.Context) {
	for l.inFlight < l.slots {
		j := l.turns.take()
		if j == nil {
			break
		}
		l.launch(j)
		l.now = l.e.since() // of hundreds that begin at once, each when it does
	}
	for !l.fed {
		if l.next == nil {
			l.next = l.fetch(ctx)
			if l.next == nil {
				l.fed = l.planEnd
				return
			}
			if l.waited {
				if l.waited = false; l.e.since() > l.next.due && !l.next.warmup {
					l.e.notReady++
				}
			}
		}
		j := l.next
		if j.due > l.now {
			if l.now = l.e.since(); j.due > l.now {
				return
			}
		}
		l.next = nil
		j.late, j.zero = l.now-j.due, l.e.zero
		l.e.live.due.Add(1)
		if !l.turns.admit(j) {
			continue
		}
		if l.inFlight >= l.slots {
			l.turns.hold(j)
			continue
		}
		j.slotFree = true
		l.launch(j)
		l.now = l.e.since()
	}
}

func (l *loop) feedClosed(ctx context.Context) {
	if l.now < 0 {
		return
	}
	if l.now >= l.end && !l.fed {
		l.turns.drop()
		l.fed = true
	}
	for l.inFlight < l.slots {
		j := l.turns.take()
		for j == nil && !l.fed && l.turns.waiting < l.room {
			if l.next == nil {
				if l.next = l.fetch(ctx); l.next == nil {
					l.fed = l.planEnd
					break
				}
			}
			if !l.measured && !l.next.warmup && !l.beginMeasured() {
				break
			}
			l.next.zero = l.e.zero
			l.e.live.due.Add(1)
			if l.turns.admit(l.next) {
				j = l.next
			}
			l.next = nil
		}
		if j == nil {
			return
		}
		l.launch(j)
		l.now = l.e.since()
	}
}

// beginMeasured begins the measured part once all of the warm-up has ended; false before.
func (l *loop) beginMeasured() bool {
	if l.e.ownWarmup > 0 {
		if l.inFlight+l.turns.waiting > 0 {
			return false
		}
		l.now = l.e.since()
		l.e.zero = l.now
	}
	l.measured = true
	if d := l.e.Plan.Duration; d > 0 {
		l.end = l.e.zero + d
	}
	return true
}

// launch sends a job for the first time, once it has a body.
func (l *loop) launch(j *job) {
	var f *flight
	if last := len(l.free) - 1; last >= 0 {
		f = l.free[last]
		l.free = l.free[:last]
	} else {
		f = new(flight)
	}
	f.job, f.backoff = j, 0
	l.inFlight++
	if !j.bare {
		l.begin(f)
		return
	}
	body := l.e.refills.serve(j)
	l.now = l.e.since()
	if isClosed(body.done) {
		l.board(f)
		return
	}
	l.turns.stall(j)
	l.helpers.Go(func() {
		<-body.done
		l.post(func() {
			l.turns.resume(j)
			l.board(f)
		})
	})
}

func (l *loop) begin(f *flight) {
	f.started = l.now
	l.e.begin(f.job, f.started)
	l.attempt(f)
}

// board starts a flight whose body is there, or known not to come.
func (l *loop) board(f *flight) {
	j := f.job
	if j.refill.err == nil && !l.stopped.Load() {
		l.begin(f)
		return
	}
	// Never sent: either nothing more is to be, or the engine returns the error.
	if l.e.refills.failed() != nil {
		l.stop()
	}
	l.inFlight--
	l.landed = true
	l.turns.done(j)
	f.job = nil
	l.free = append(l.free, f)
}

// attempt sends f's request over an idle connection or a new one.
func (l *loop) attempt(f *flight) {
	f.gen++
	f.deadline = l.now + l.e.Timeout
	l.deadlines.pushLive(deadline{f, f.gen, f.deadline}, deadline.live)
	if c := l.takeIdle(); c != nil {
		l.write(c, f)
	} else {
		l.open(f, min(f.deadline, l.now+l.sender.timeout))
	}
}

// takeIdle returns an idle connection that still stands, or nil. That its server has closed one may be an event which
// nobody has looked at yet, so one that has rested is asked; that costs a system call.
func (l *loop) takeIdle() *loopConn {
	for {
		last := len(l.idle) - 1
		if last < 0 {
			return nil
		}
		c := l.idle[last]
		if l.now-c.rested < staleAfter || l.standing(c) {
			l.idle = l.idle[:last]
			return c
		}
		l.drop(c)
	}
}

// standing looks whether nothing has come on a connection: neither its end nor bytes that nobody asked for.
func (l *loop) standing(c *loopConn) bool {
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&l.peek[0])), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return errno == unix.EAGAIN || errno == unix.EINTR
}

// write begins to send f's request on c.
func (l *loop) write(c *loopConn, f *flight) {
	c.f, f.conn = f, c
	r := &f.job.req
	kept := 2*f.job.source + int(r.Version) - 1 // what a head depends on
	head := l.heads[kept]
	if head == nil || r.Attempt > 0 {
		if head = l.sender.head(r); r.Attempt == 0 {
			l.heads[kept] = head
		}
	}
	c.out = append(c.out[:0], head...)
	c.out = strconv.AppendInt(c.out, int64(len(r.Body)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	c.rest = [2][]byte{c.out, r.Body}
	c.writing, c.writeErr = true, nil
	c.answer.next()
	if l.push(c); c.writeErr != nil {
		l.read(c)
	}
}

// push writes as much as the kernel takes.
func (l *loop) push(c *loopConn) {
	for {
		n := 0
		for i := range c.rest {
			if b := c.rest[i]; len(b) > 0 {
				l.iov[n].Base = &b[0]
				l.iov[n].SetLen(len(b))
				n++
			}
		}
		if n == 0 {
			c.writing = false
			return
		}
		l.msg.Iov = &l.iov[0]
		l.msg.SetIovlen(n)
		sent, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(c.fd), uintptr(unsafe.Pointer(&l.msg)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch errno {
		case 0:
			k := min(int(sent), len(c.rest[0]))
			c.rest[0] = c.rest[0][k:]
			c.rest[1] = c.rest[1][int(sent)-k:]
		case unix.EINTR:
		case unix.EAGAIN:
			return
		default:
			// A server may refuse a request before it has read it, and close: its answer counts, not our broken pipe.
			c.writing, c.writeErr = false, os.NewSyscallError("sendmsg", errno)
			c.hungUp = true
			return
		}
	}
}

// ready looks at a connection of which the kernel says that something has changed.
func (l *loop) ready(c *loopConn, events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.hungUp = true
	}
	if c.connecting.IsValid() && !l.connected(c) {
		return
	}
	if c.f == nil {
		if c.hungUp || events&unix.EPOLLIN != 0 { // closed, or bytes that nobody asked for
			l.drop(c)
		}
		return
	}
	if c.writing && events&unix.EPOLLOUT != 0 {
		l.push(c)
	}
	if events&unix.EPOLLIN != 0 || c.hungUp {
		l.read(c)
	}
}

// read takes what has come of an answer.
func (l *loop) read(c *loopConn) {
	for {
		buf := c.answer.space()
		got, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		n := int(got)
		var err error
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return
		case errno != 0:
			err = os.NewSyscallError("read", errno)
		case n == 0:
			err = c.answer.end()
		default:
			c.answer.got(n)
			err = c.answer.advance()
		}
		switch {
		case err == nil:
			if n == len(buf) && leftover(c.fd) {
				c.answer.reusable = false
			}
			l.answered(c)
			return
		case errors.Is(err, errMore):
			if n < len(buf) && !c.hungUp {
				return // drained: more will be another edge
			}
		default:
			resp := brokenAnswer(err)
			if c.writeErr != nil {
				resp = failure(c.writeErr)
			}
			f := c.f
			l.drop(c)
			l.now = l.e.since()
			l.settle(f, &resp)
			return
		}
	}
}

// leftover says whether the kernel has more than the answer, or the end of the connection: there is no other edge for it.
func leftover(fd int) bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return !errors.Is(err, unix.EAGAIN)
}

// answered ends the attempt on c with its answer.
func (l *loop) answered(c *loopConn) {
	l.now = l.e.since()
	f, resp := c.f, c.answer.response()
	if c.answer.reusable && !c.writing && c.writeErr == nil && !c.hungUp && !c.answer.pending() {
		c.f, f.conn, c.rested = nil, nil, l.now
		l.idle = append(l.idle, c)
	} else {
		l.drop(c)
	}
	l.settle(f, &resp)
}

// drop closes a connection.
func (l *loop) drop(c *loopConn) {
	if c.f != nil {
		c.f.conn = nil
	} else {
		for i := range l.idle {
			if l.idle[i] == c {
				l.idle = append(l.idle[:i], l.idle[i+1:]...)
				break
			}
		}
	}
	c.f = nil
	l.conns[c.fd] = nil
	_ = unix.Close(c.fd)
}

// settle ends an attempt: with another one to come, or for good.
func (l *loop) settle(f *flight, resp *Response) {
	f.gen++
	wait, next, again := l.e.Retry.wait(resp, f.backoff, l.now-f.started)
	if again && !l.stopped.Load() {
		f.backoff, f.retryAt, f.last = next, l.now+wait, *resp
		l.await(f)
		return
	}
	l.land(f, resp)
}

// await keeps a flight until its next attempt.
func (l *loop) await(f *flight) {
	if len(l.retries) == 0 || f.retryAt < l.retryFrom {
		l.retryFrom = f.retryAt
	}
	l.retries = append(l.retries, f)
}

// land ends a flight.
func (l *loop) land(f *flight, resp *Response) {
	j := f.job
	l.inFlight--
	l.landed = true
	l.e.finish(j, l.rec, f.started, l.now, resp)
	l.turns.done(j)
	l.e.jobs.Put(j)
	f.job, f.last = nil, Response{}
	l.free = append(l.free, f)
}

// expire ends attempts whose time is over, and starts those whose time has come.
func (l *loop) expire() {
	for l.connects.len() > 0 {
		d := *l.connects.front()
		if d.connecting() {
			if d.at > l.now {
				break
			}
			l.disconnect(d.f.conn, os.ErrDeadlineExceeded)
		}
		l.connects.pop()
	}
	for l.deadlines.len() > 0 {
		d := *l.deadlines.front()
		if c := d.f.conn; d.live() {
			if d.at > l.now {
				break
			}
			if c != nil { // a dialler ends by itself
				resp := Response{Err: errAttemptTimeout, Timeout: true}
				l.drop(c)
				l.settle(d.f, &resp)
			}
		}
		l.deadlines.pop()
	}
	if len(l.retries) == 0 || l.retryFrom > l.now { // of tens of thousands, not each is looked at each time
		return
	}
	// An attempt may fail at once and come back to wait: it must not meet the list half taken apart.
	all := l.retries
	l.retries = l.wasRetry
	for _, f := range all {
		if f.retryAt > l.now {
			l.await(f)
			continue
		}
		f.job.req.Attempt++
		l.e.live.retried.Add(1)
		l.attempt(f)
	}
	clear(all)
	l.wasRetry = all[:0]
}

// until is when the loop has something to do without anything having come.
func (l *loop) until() time.Duration {
	t := time.Duration(math.MaxInt64 / 2) // so that subtracting a negative time does not overflow
	switch {
	case l.e.Plan.Loop == Closed && l.now < 0:
		t = 0
	case l.e.Plan.Loop == Closed && !l.fed:
		t = l.end
	case l.next != nil:
		t = l.next.due - l.e.spin
	}
	if l.deadlines.len() > 0 {
		t = min(t, l.deadlines.front().at)
	}
	if l.connects.len() > 0 {
		t = min(t, l.connects.front().at)
	}
	if len(l.retries) > 0 {
		t = min(t, l.retryFrom)
	}
	if l.fed && l.e.Plan.Loop == Open && l.turns.unsent() && l.e.DrainTimeout > 0 {
		t = min(t, l.fedAt+l.e.DrainTimeout)
	}
	return t
}

// wait sleeps until something comes or is due, and handles what has come.
func (l *loop) wait(ctx context.Context) {
	t := l.until()
	n := l.poll()
	if n == 0 && !l.landed {
		if d := t - l.e.since(); d > 0 {
			l.sleep(d)
			n = l.poll()
		}
	}
	l.handle(ctx, n)
}

// handle looks at the first n events.
func (l *loop) handle(ctx context.Context, n int) {
	for i := range n {
		ev := &l.events[i]
		fd := int(ev.Fd)
		if fd == l.wakeFD {
			var count [8]byte
			_, _ = unix.Read(l.wakeFD, count[:])
			continue
		}
		// What was done about an earlier event may have closed this one's connection, and opened another.
		if c := l.conns[fd]; c != nil && c.gen == uint32(ev.Pad) {
			l.ready(c, ev.Events)
		}
		// What is due does not wait for all of a burst of answers.
		if l.e.Plan.Loop == Closed || l.next != nil && l.next.due <= l.now || l.turns.ready.len() > 0 {
			l.feed(ctx)
		}
	}
}

// poll takes the events that are there, without waiting.
func (l *loop) poll() int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// sleep waits for an event for at most d. The kernel may be late by a thousandth of what it is asked for, so a long
// sleep ends a little early.
func (l *loop) sleep(d time.Duration) {
	if d > 5*time.Millisecond {
		d -= d / 64
	}
	l.napFor = unix.NsecToTimespec(int64(min(d, time.Hour)))
	l.pollFD[0] = unix.PollFd{Fd: int32(l.ep), Events: unix.POLLIN}
	_, _ = unix.Ppoll(l.pollFD[:], &l.napFor, nil) // woken early by a signal: the caller looks at the clock again
}
