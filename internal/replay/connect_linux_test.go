//go:build linux && (amd64 || arm64)

package replay

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// idleLoop is a loop that has not begun.
func idleLoop(t *testing.T, c Config) *loop {
	t.Helper()
	e, err := newEngine(c)
	if err != nil {
		t.Fatal(err)
	}
	e.budget = newByteBudget(e.Lookahead)
	e.live.hist = stats.NewHistogram()
	e.start = time.Now()
	l, err := newLoop(e, e.inline)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// TestLoopConnectsItself: to an address, and to a name with one family of addresses, no goroutine dials.
func TestLoopConnectsItself(t *testing.T) {
	url := serveFunc(t, noContent)
	sender := newRaw(t, HTTPConfig{URL: url})
	sender.resolve(t.Context())
	l := idleLoop(t, Config{
		Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderNone, Timeout: time.Minute, Sender: sender,
		Plan: mustPlan(t, PlanConfig{Concurrency: 8, Requests: 200, Loop: true, Objects: 1}),
	})
	l.dial = func(time.Time) (int, netip.AddrPort, error) {
		t.Error("a goroutine was asked to dial")
		return -1, netip.AddrPort{}, errors.New("not wanted")
	}
	done := make(chan struct{})
	go func() { defer close(done); l.run(t.Context(), nil) }()
	<-done
	if c := l.rec.Counts(); c.OK != 200 {
		t.Errorf("%+v, want 200 ok", c)
	}
}

// TestConnectByName: a name is reached whatever families it has, and over IPv6.
func TestConnectByName(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", at)
		if err != nil {
			t.Logf("%s cannot be listened on here: %v", at, err)
			continue
		}
		srv := &http.Server{Handler: http.HandlerFunc(noContent), ReadHeaderTimeout: time.Minute}
		done := make(chan struct{})
		go func() { defer close(done); _ = srv.Serve(l) }()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		hosts := []string{l.Addr().String()}
		// Which families the name has is the machine's business, that it is reached through any of them is ours.
		if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", "localhost:"+port); err == nil {
			_ = conn.Close()
			hosts = append(hosts, "localhost:"+port)
		}
		for _, host := range hosts {
			run, err := execute(t.Context(), t, Config{
				Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderNone, Timeout: time.Minute,
				Sender: newRaw(t, HTTPConfig{URL: "http://" + host}),
				Plan:   mustPlan(t, PlanConfig{Concurrency: 4, Requests: 100, Loop: true, Objects: 1}),
			}, false)
			if err != nil {
				t.Fatal(err)
			}
			if run.Counts.OK != 100 {
				t.Errorf("%s on %s: %+v %+v, want 100 ok", host, at, run.Counts, run.Errors)
			}
		}
		_ = srv.Close()
		<-done
	}
}

func TestPeers(t *testing.T) {
	four, other := netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("192.0.2.2:80")
	six := netip.MustParseAddrPort("[2001:db8::1]:80")
	takes := func(p *peers, n int) (all []netip.AddrPort) {
		for range n {
			if at, ok := p.take(); ok {
				all = append(all, at)
			}
		}
		return all
	}
	equal := func(what string, got []netip.AddrPort, want ...netip.AddrPort) {
		t.Helper()
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Errorf("%s: -want +got\n%s", what, d)
		}
	}
	peersOf := func(address string, known ...netip.AddrPort) *peers {
		p := newPeers(&RawSender{network: "tcp", address: address, known: known})
		return &p
	}

	p := peersOf("192.0.2.1:80", four)
	equal("an address", takes(p, 2), four, four)
	p.failed(four)
	equal("an address that refused", takes(p, 1), four)

	p = peersOf("name:80", four, other)
	equal("a name", takes(p, 3), four, other, four)
	p.failed(four)
	equal("a name of which one refused", takes(p, 2), other, other)
	p.failed(other)
	equal("a name of which all refused", takes(p, 1))
	p.reached(other)
	equal("a name that was looked up again", takes(p, 2), other, other)

	p = peersOf("name:80", six, four, other)
	equal("a name with two families", takes(p, 1))
	p.reached(other)
	equal("after one was reached", takes(p, 2), four, other)
	p.failed(other)
	p.failed(four)
	p.reached(six)
	equal("after another was reached", takes(p, 2), six, six)

	p = peersOf("name:80")
	equal("a name without an answer", takes(p, 1))
	p.reached(netip.MustParseAddrPort("[::ffff:192.0.2.1]:80"))
	equal("when it was reached", takes(p, 1), four)
	equal("with a zone, which is left to a goroutine", takes(func() *peers {
		p := peersOf("name:80")
		p.reached(netip.MustParseAddrPort("[fe80::1%eth0]:80"))
		return p
	}(), 1))
}

func TestResolve(t *testing.T) {
	for _, tt := range []struct {
		address string
		want    []netip.AddrPort
	}{
		{"127.0.0.1:81", []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:81")}},
		{"[::1]:81", []netip.AddrPort{netip.MustParseAddrPort("[::1]:81")}},
		{"[::ffff:127.0.0.1]:81", []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:81")}},
		{"[fe80::1%lo]:81", nil},
		{"no.such.name.invalid:81", nil},
	} {
		s := &RawSender{network: "tcp", address: tt.address}
		s.resolve(t.Context())
		if d := cmp.Diff(tt.want, s.known, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.address, d)
		}
	}
}

// fullListener is an address where connections are neither taken nor refused.
func fullListener(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in, ok := at.(*unix.SockaddrInet4)
	if !ok {
		t.Fatalf("%T", at)
	}
	address := netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)).String()
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		cancel()
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("this kernel takes any number of connections")
	return ""
}

// TestConnectTimesOut: whichever of the two limits comes first ends a connection that does not come about.
func TestConnectTimesOut(t *testing.T) {
	address := fullListener(t)
	for name, limits := range map[string]struct{ connect, request time.Duration }{
		"connecting": {50 * time.Millisecond, time.Minute},
		"request":    {time.Minute, 50 * time.Millisecond},
	} {
		sender := newRaw(t, HTTPConfig{URL: "http://" + address})
		sender.timeout = limits.connect
		run, err := execute(t.Context(), t, Config{
			Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderNone, Timeout: limits.request, Sender: sender,
			Plan: mustPlan(t, PlanConfig{Concurrency: 2, Requests: 4, Loop: true, Objects: 1}),
		}, false)
		if err != nil {
			t.Fatal(err)
		}
		if c := run.Counts; c.TimedOut != 4 || c.Sent != 4 || len(run.Errors) != 1 || !strings.Contains(run.Errors[0].Example, "dial tcp "+address) {
			t.Errorf("%s: %+v %+v, want 4 timed out while dialling", name, c, run.Errors)
		}
	}
}

// TestDeadTargetEndsAClosedLoop: connections that fail at once must not keep the loop from seeing that its time is over,
// nor from being interrupted.
func TestDeadTargetEndsAClosedLoop(t *testing.T) {
	c := Config{
		Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderNone, Timeout: time.Minute, Sender: newRaw(t, HTTPConfig{URL: "http://127.0.0.1:1"}),
		Plan: mustPlan(t, PlanConfig{Concurrency: 2, Duration: 50 * time.Millisecond, Loop: true, Objects: 1}),
	}
	run, err := execute(t.Context(), t, c, false)
	if err != nil {
		t.Fatal(err)
	}
	if c := run.Counts; c.Failed == 0 || c.Failed != c.Sent {
		t.Errorf("%+v, want all failed", c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.Plan = mustPlan(t, PlanConfig{Concurrency: 2, Duration: time.Hour, Loop: true, Objects: 1})
	c.Progress, c.Interval = func(p Progress) {
		if p.Sent > 0 {
			cancel()
		}
	}, 10*time.Millisecond
	if run, err = execute(ctx, t, c, false); err != nil || run.Counts.Sent == 0 {
		t.Errorf("%v, %+v", err, run)
	}
}

// TestAttemptThatFailsAtOnce: a retry whose connection breaks in the very write waits for its next turn; it is not lost.
func TestAttemptThatFailsAtOnce(t *testing.T) {
	l := idleLoop(t, Config{
		Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderNone, Timeout: time.Minute,
		Retry:  Retry{Min: time.Hour, Max: time.Hour, For: 10 * time.Hour},
		Sender: newRaw(t, HTTPConfig{URL: "http://127.0.0.1:1"}),
		Plan:   mustPlan(t, PlanConfig{Concurrency: 3, Requests: 3, Loop: true, Objects: 1}),
	})
	l.now = l.e.since()
	for range 3 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.adopt(pair[0])
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(pair[1])
		c.rested = l.now // nobody looks whether it stands
		l.idle = append(l.idle, c)
		j := l.fetch(t.Context())
		f := &flight{job: j, started: l.now, retryAt: l.now}
		l.inFlight++
		l.retries = append(l.retries, f)
	}
	l.expire()
	if len(l.retries) != 3 || l.retries[0] == l.retries[1] || l.retries[0].retryAt < l.now+time.Minute {
		t.Errorf("%d wait for another attempt, want 3", len(l.retries))
	}
}

// TestNameWithDeadAddresses: of a name's addresses those that refuse or do not answer cost no request, while another does;
// and when none of those that it had answers, it is looked up again.
func TestNameWithDeadAddresses(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(noContent), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	here := netip.MustParseAddrPort(l.Addr().String())
	refuses := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), here.Port())
	for name, tt := range map[string]struct {
		known     func(t *testing.T) []netip.AddrPort
		elsewhere bool
		atLeast   time.Duration
	}{
		"one refuses": {known: func(*testing.T) []netip.AddrPort { return []netip.AddrPort{refuses, here} }},
		"one is silent": {known: func(t *testing.T) []netip.AddrPort {
			t.Helper()
			return []netip.AddrPort{netip.MustParseAddrPort(fullListener(t)), here}
		}, atLeast: 2 * time.Second},
		"all refuse": {known: func(*testing.T) []netip.AddrPort { return []netip.AddrPort{refuses, refuses} }, elsewhere: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sender := newRaw(t, HTTPConfig{URL: "http://" + here.String()})
			sender.address, sender.known = "name:1", tt.known(t)
			loop := idleLoop(t, Config{
				Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderNone, Timeout: 3 * time.Second, Sender: sender,
				Plan: mustPlan(t, PlanConfig{Concurrency: 8, Requests: 200, Loop: true, Objects: 1}),
			})
			goes := newRaw(t, HTTPConfig{URL: "http://" + here.String()})
			var asked atomic.Int32
			loop.dial = func(by time.Time) (int, netip.AddrPort, error) {
				asked.Add(1)
				if by.After(time.Now().Add(sender.timeout)) {
					t.Errorf("a goroutine is to dial until %v", by)
				}
				return goes.dialFD(context.Background(), by)
			}
			began, ran := time.Now(), make(chan struct{})
			go func() { defer close(ran); loop.run(t.Context(), nil) }()
			<-ran
			if c := loop.rec.Counts(); c.OK != 200 || time.Since(began) < tt.atLeast {
				t.Errorf("%+v after %v, want 200 ok after %v", c, time.Since(began), tt.atLeast)
			}
			if got := asked.Load() > 0; got != tt.elsewhere {
				t.Errorf("a goroutine was asked to dial: %v, want %v", got, tt.elsewhere)
			}
		})
	}
}

func TestPeersShare(t *testing.T) {
	p := peers{usable: make([]netip.AddrPort, 3)}
	for by, want := range map[time.Duration]time.Duration{31 * time.Second: 11 * time.Second, 4 * time.Second: 3 * time.Second, 2 * time.Second: 2 * time.Second} {
		if got := p.share(time.Second, by); got != want {
			t.Errorf("of the time until %v one address of three has until %v, want %v", by, got, want)
		}
	}
}

// TestEventOfAClosedConnection: what the kernel had to say about a connection is not believed of the next with its number.
func TestEventOfAClosedConnection(t *testing.T) {
	l := idleLoop(t, Config{
		Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderNone, Timeout: time.Minute,
		Sender: newRaw(t, HTTPConfig{URL: "http://127.0.0.1:1"}),
		Plan:   mustPlan(t, PlanConfig{Concurrency: 1, Requests: 1, Loop: true, Objects: 1}),
	})
	pair := func() (*loopConn, int) {
		t.Helper()
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.adopt(fds[0])
		if err != nil {
			t.Fatal(err)
		}
		l.idle = append(l.idle, c)
		return c, fds[1]
	}
	old, peer := pair()
	_ = unix.Close(peer)
	n := l.poll()
	if n != 1 {
		t.Fatalf("%d events, want one", n)
	}
	l.drop(old)
	c, peer := pair()
	defer func() { _ = unix.Close(peer) }()
	if c.fd != old.fd {
		t.Skipf("descriptor %d was not used again, but %d", old.fd, c.fd)
	}
	l.handle(t.Context(), n)
	if c.hungUp || l.conns[c.fd] != c {
		t.Error("the new connection was taken for the closed one")
	}
	if n = l.poll(); n != 1 {
		t.Fatalf("%d events of the new one, want one", n)
	}
	_ = unix.Close(peer)
	l.handle(t.Context(), l.poll())
	if l.conns[c.fd] != nil {
		t.Error("an event of the new connection was not believed")
	}
}

// TestLoopWaitsForABody: what a request waits for its body at its turn is the generator's delay.
func TestLoopWaitsForABody(t *testing.T) {
	const takes = 30 * time.Millisecond
	l := idleLoop(t, Config{
		Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderNone, MaxInFlight: 1, Timeout: time.Minute,
		Sender: newRaw(t, HTTPConfig{URL: serveFunc(t, noContent)}),
		Plan:   mustPlan(t, PlanConfig{RatePerS: 1000, Requests: 1, Loop: true, Objects: 1}),
	})
	l.e.refills, l.planEnd = slowRefills(takes), true
	l.launch(&job{bare: true, req: Outgoing{Version: remotewrite.V1}})
	ran := make(chan struct{})
	go func() { defer close(ran); l.run(t.Context(), nil) }()
	<-ran
	var run stats.Run
	if err := l.rec.Fill(&run); err != nil {
		t.Fatal(err)
	}
	if got := run.ScheduleError.MaxMS; got < ms(takes) || run.Counts.OK != 1 {
		t.Errorf("send error %v ms, want at least %v; %+v", got, takes, run.Counts)
	}
}
