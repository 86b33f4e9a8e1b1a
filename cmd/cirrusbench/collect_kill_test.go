package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"golang.org/x/sys/unix"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// collecting is a collector in a process of its own.
type collecting struct {
	t   testing.TB
	url string
	cmd *exec.Cmd
	log *lockedBuffer
	end chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) line(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.WriteString(s + "\n")
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startCollector runs `collect` and returns when it listens.
func startCollector(tb testing.TB, args ...string) *collecting {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	if built := os.Getenv("CIRRUSBENCH_BINARY"); built != "" {
		self = built // smaller than the test binary, which a measurement of memory should see
	}
	c := &collecting{t: tb, log: &lockedBuffer{}, end: make(chan error, 1)}
	c.cmd = exec.CommandContext(context.Background(), self, append([]string{"collect", "--listen", "127.0.0.1:0"}, args...)...)
	c.cmd.Args[0] = "cirrusbench" // under this name the test binary is the program
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	url := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				url <- m[1]
			}
			c.log.line(lines.Text())
		}
		c.end <- c.cmd.Wait()
	}()
	tb.Cleanup(func() { _ = c.cmd.Process.Kill() })
	select {
	case c.url = <-url:
	case err := <-c.end:
		tb.Fatalf("the collector ended: %v\n%s", err, c.log)
	}
	return c
}

// kill ends it as a crash does.
func (c *collecting) kill() {
	c.t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	if err := <-c.end; err == nil {
		c.t.Fatal("it had ended by itself")
	}
}

// terminate ends it as an orchestrator does.
func (c *collecting) terminate() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	if err := <-c.end; err != nil {
		c.t.Errorf("the collector ended with %v\n%s", err, c.log)
	}
}

// metric reads one; it is negative when there is none.
func (c *collecting) metric(name string) float64 {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.url+"/metrics", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(page)
	if m == nil {
		return -1
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

// awaitEmpty waits until everything is delivered.
func (c *collecting) awaitEmpty() {
	c.t.Helper()
	for range 1200 {
		if c.metric("cirrusbench_collector_pending_requests") == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Fatalf("not everything is delivered\n%s", c.log)
}

// post sends a request that is known by its number; 0 is no answer.
func (c *collecting) post(client *http.Client, id int) (status int, retryAfter string) {
	req := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: "id"}, {Name: "pad", Value: strings.Repeat(strconv.Itoa(id*7919), 100)}},
		Samples: []prompb.Sample{{Value: float64(id), Timestamp: time.Now().UnixMilli()}},
	}}}
	b, err := req.Marshal()
	if err != nil {
		c.t.Error(err)
		return 0, ""
	}
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+"/api/v1/write?cluster_name=c"+strconv.Itoa(id%3), bytes.NewReader(remotewrite.Encode(nil, b)))
	if err != nil {
		c.t.Error(err)
		return 0, ""
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("Content-Encoding", "snappy")
	resp, err := client.Do(r)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After")
}

// idReceiver is the reference server over a store in memory, with faults in front of it.
type idReceiver struct {
	*httptest.Server
	store *store.Memory
	fault func() (before, after int) // statuses to answer instead of storing, or after it; -1 cuts the connection
}

func newIDReceiver(t *testing.T, fault func() (before, after int)) *idReceiver {
	t.Helper()
	r := &idReceiver{store: store.NewMemory(), fault: fault}
	core, err := server.New(server.Config{Sink: server.NewStoreSink(r.store)})
	if err != nil {
		t.Fatal(err)
	}
	h := core.Handler()
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		before, after := 0, 0
		if r.fault != nil {
			before, after = r.fault()
		}
		say := func(code int) {
			if code < 0 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(code)
		}
		switch {
		case before != 0:
			say(before)
		case after != 0:
			h.ServeHTTP(httptest.NewRecorder(), req)
			say(after)
		default:
			h.ServeHTTP(w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// ids counts how often each number is in the store, and the most that one object has.
func (r *idReceiver) ids(t *testing.T) (count map[int]int, most int) {
	t.Helper()
	count = map[int]int{}
	for o, err := range r.store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		body, err := r.store.Get(t.Context(), o.Key)
		if err != nil {
			t.Fatal(err)
		}
		b, err := remotewrite.Decode(nil, body, 1<<28)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		note := func(v float64) {
			count[int(v)]++
			n++
		}
		if strings.HasSuffix(o.Key, ".rw1.sz") {
			var req prompb.WriteRequest
			err = req.Unmarshal(b)
			for _, ts := range req.Timeseries {
				for _, s := range ts.Samples {
					note(s.Value)
				}
			}
		} else {
			var req writev2.Request
			err = req.Unmarshal(b)
			for _, ts := range req.Timeseries {
				for _, s := range ts.Samples {
					note(s.Value)
				}
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, n)
	}
	return count, most
}

// TestCollectKill is test (a) of the collector: it is killed at a random moment under load, over and over, while the
// receiver fails in every way, also after it has stored. After each kill all that was acknowledged is delivered, and no
// more than a batch twice. CIRRUSBENCH_KILL_ROUNDS sets the number of kills; the default is 10.
func TestCollectKill(t *testing.T) {
	rounds := 10
	if s := os.Getenv("CIRRUSBENCH_KILL_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	recv := newIDReceiver(t, func() (before, after int) {
		mu.Lock()
		defer mu.Unlock()
		switch p := rng.Float64(); {
		case p < 0.1:
			return http.StatusServiceUnavailable, 0
		case p < 0.15:
			return -1, 0
		case p < 0.25:
			return 0, -1
		case p < 0.3:
			return 0, http.StatusGatewayTimeout
		}
		return 0, 0
	})
	dir := filepath.Join(t.TempDir(), "queue")
	args := []string{
		"--dir", dir, "--forward", recv.URL + "/api/v1/write", "--batch-age", "60ms", "--max-rate", "0", "--segment-bytes", "64KiB", "--quiet",
	}
	var (
		next    atomic.Int64
		acked   sync.Map // of int
		sent    int
		repeats int
	)
	check := func(round int) {
		t.Helper()
		count, most := recv.ids(t)
		lost, n := 0, 0
		acked.Range(func(id, _ any) bool {
			n++
			if k, ok := id.(int); ok && count[k] == 0 {
				lost++
			}
			return true
		})
		twice := 0
		for _, k := range count {
			twice += k - 1
		}
		if lost > 0 {
			t.Errorf("round %d: %d acknowledged, %d of them lost", round, n, lost)
		}
		if twice-repeats > most {
			t.Errorf("round %d: %d delivered twice, the largest batch has %d", round, twice-repeats, most)
		}
		repeats, sent = twice, n
	}
	for round := range rounds {
		c := startCollector(t, args...)
		c.awaitEmpty()
		check(round)
		mu.Lock()
		wait := time.Duration(rng.Int64N(int64(500 * time.Millisecond)))
		mu.Unlock()
		dead := make(chan struct{})
		var senders sync.WaitGroup
		for range 8 {
			senders.Go(func() {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for {
					select {
					case <-dead:
						return
					default:
					}
					id := int(next.Add(1))
					if status, _ := c.post(client, id); status == http.StatusNoContent {
						acked.Store(id, true)
					}
				}
			})
		}
		time.Sleep(wait)
		c.kill()
		close(dead)
		senders.Wait()
	}
	c := startCollector(t, args...)
	c.awaitEmpty()
	c.terminate()
	check(rounds)
	if sent < 10*rounds {
		t.Errorf("%d requests were acknowledged in %d rounds: the test tests nothing", sent, rounds)
	}
	t.Logf("%d kills: %d requests acknowledged, 0 lost unless said above, %d delivered twice", rounds, sent, repeats)
}

// TestCollectDiskFull is test (c): writes fail because the disk is full, or because the system allows files no larger
// than they are. Senders get 503 with Retry-After, the process lives, and everything acknowledged is delivered.
func TestCollectDiskFull(t *testing.T) {
	for _, tt := range []struct {
		name string
		disk func(t *testing.T, dir string) (full func(c *collecting), roomy func(c *collecting))
	}{
		{"no larger files", func(*testing.T, string) (full, roomy func(*collecting)) {
			limit := func(n uint64) func(c *collecting) {
				return func(c *collecting) {
					c.t.Helper()
					if err := unix.Prlimit(c.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: math.MaxUint64}, nil); err != nil {
						c.t.Fatal(err)
					}
				}
			}
			return limit(50_000), limit(math.MaxUint64)
		}},
		{"tmpfs of 4 MiB", func(t *testing.T, dir string) (full, roomy func(*collecting)) {
			t.Helper()
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
				t.Skip("this user may not mount a tmpfs; the queue's own test of a full disk and the other case here remain:", err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
			return func(*collecting) {}, func(*collecting) {}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			full, roomy := tt.disk(t, dir)
			var down atomic.Bool
			down.Store(true)
			recv := newIDReceiver(t, func() (before, after int) {
				if down.Load() {
					return http.StatusServiceUnavailable, 0
				}
				return 0, 0
			})
			c := startCollector(t, "--dir", filepath.Join(dir, "queue"), "--forward", recv.URL+"/api/v1/write", "--batch-age", "50ms", "--max-rate", "0",
				"--min-free", "1B", "--segment-bytes", "256KiB")
			full(c)
			client := &http.Client{}
			defer client.CloseIdleConnections()
			acked, refused, id := []int{}, 0, 0
			send := func() int {
				id++
				status, retryAfter := c.post(client, id)
				switch status {
				case http.StatusNoContent:
					acked = append(acked, id)
				case http.StatusServiceUnavailable:
					refused++
					if retryAfter == "" {
						t.Error("503 without Retry-After")
					}
				default:
					t.Fatalf("status %d\n%s", status, c.log)
				}
				return status
			}
			for refused < 20 && id < 60_000 {
				send()
			}
			if refused < 20 || len(acked) < 10 {
				t.Fatalf("%d acknowledged, %d refused", len(acked), refused)
			}
			before := len(acked)
			roomy(c)
			down.Store(false)
			for tries := 0; ; tries++ {
				if send() == http.StatusNoContent {
					break
				}
				if tries > 2400 { // after so many failures it may wait a minute before it tries to forward again
					t.Fatal("it never takes requests again")
				}
				time.Sleep(50 * time.Millisecond)
			}
			c.awaitEmpty()
			for range 100 {
				send()
			}
			c.terminate()
			count, _ := recv.ids(t)
			for _, id := range acked {
				if count[id] == 0 {
					t.Errorf("%d was acknowledged and is lost", id)
				}
			}
			if len(acked) < before+100 {
				t.Errorf("%d acknowledged before there was room, %d in all", before, len(acked))
			}
			t.Logf("%d acknowledged before it was full, then %d refused, then %d acknowledged", before, refused, len(acked)-before)
		})
	}
}

// TestCollectSecondProcess is test (h): the second process refuses the directory, the first one goes on.
func TestCollectSecondProcess(t *testing.T) {
	recv := newIDReceiver(t, nil)
	dir := filepath.Join(t.TempDir(), "queue")
	c := startCollector(t, "--dir", dir, "--forward", recv.URL+"/api/v1/write", "--batch-age", "50ms")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	second := exec.CommandContext(t.Context(), self, "collect", "--listen", "127.0.0.1:0", "--dir", dir, "--forward", recv.URL)
	second.Args[0] = "cirrusbench"
	out, err := second.CombinedOutput()
	if ee, ok := errors.AsType[*exec.ExitError](err); !ok || ee.ExitCode() != exitFailed || !strings.Contains(string(out), "another process") {
		t.Errorf("%v\n%s", err, out)
	}
	if status, _ := c.post(http.DefaultClient, 1); status != http.StatusNoContent {
		t.Errorf("status %d", status)
	}
	c.awaitEmpty()
	c.terminate()
	if count, _ := recv.ids(t); count[1] != 1 {
		t.Error("the request of the first process is not delivered")
	}
}
