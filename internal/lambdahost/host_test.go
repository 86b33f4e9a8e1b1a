package lambdahost_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"go.uber.org/goleak"

	"github.com/cirrusbench/cirrusbench/internal/lambdahost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// roleVariable makes the test binary a function, one that behaves in the way that its value says.
const roleVariable = "LAMBDAHOST_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		function(role)
		os.Exit(3)
	}
	goleak.VerifyTestMain(m)
}

// function is a Lambda function on AWS's own runtime library, which so says that we speak its protocol.
func function(role string) {
	if role == "broken" {
		fmt.Println("cannot start")
		os.Exit(1)
	}
	if role == "heavy" {
		burn()
	}
	calls := 0
	lambda.Start(func(ctx context.Context, event json.RawMessage) (any, error) {
		calls++
		switch string(event) {
		case `"exit"`:
			os.Exit(4)
		case `"exit later"`:
			time.AfterFunc(50*time.Millisecond, func() { os.Exit(4) })
		case `"panic"`:
			panic("a bug")
		case `"error"`:
			return nil, errors.New("no luck")
		case `"hang"`:
			time.Sleep(time.Hour)
		case `"burn"`:
			burn()
		case `"wait"`:
			time.Sleep(300 * time.Millisecond)
		case `"nonsense"`:
			return "not an HTTP answer", nil
		case `"print"`:
			fmt.Println("one line\nREPORT: mine")
		}
		if _, ok := ctx.Deadline(); !ok {
			return nil, errors.New("no deadline")
		}
		if role == "echo" {
			return map[string]any{"statusCode": 200, "headers": map[string]string{"X-Call": strconv.Itoa(calls)}, "body": string(event)}, nil
		}
		return map[string]any{"call": calls, "pid": os.Getpid(), "memory": os.Getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), "region": os.Getenv("AWS_REGION")}, nil
	})
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(t *testing.T, role string, cfg lambdahost.Config) (*lambdahost.Host, *buffer) {
	t.Helper()
	log := &buffer{}
	cfg.Command, cfg.Env, cfg.Log = []string{os.Args[0]}, append(os.Environ(), roleVariable+"="+role), log
	h, err := lambdahost.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, log
}

type reply struct {
	Call   int    `json:"call"`
	PID    int    `json:"pid"`
	Memory string `json:"memory"`
	Region string `json:"region"`
}

func call(t *testing.T, h *lambdahost.Host, event string) (reply, lambdahost.Answer) {
	t.Helper()
	a, err := h.Invoke(t.Context(), []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	var r reply
	_ = json.Unmarshal(a.Payload, &r) // an error object has none of it
	return r, a
}

var reportLine = regexp.MustCompile(`(?m)^START RequestId: (\S{36}) Version: \$LATEST
(?:one line\n|REPORT: mine\n)*END RequestId: (\S{36})
REPORT RequestId: (\S{36})\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 256 MB\tMax Memory Used: \d+ MB\t(Init Duration: \d+\.\d\d ms\t)?$`)

// The first invocation is cold and the second warm, in the same process; the lines are Lambda's, and our own
// parser reads them.
func TestInvoke(t *testing.T) {
	h, log := start(t, "ok", lambdahost.Config{MemoryMB: 256, Environments: 1})
	first, _ := retry(t, h, `"print"`)
	second, _ := retry(t, h, `{}`)
	if first.Call != 1 || second.Call != 2 || first.PID != second.PID || first.Memory != "256" || first.Region == "" {
		t.Errorf("%+v, %+v", first, second)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	found := reportLine.FindAllStringSubmatch(log.String(), -1)
	if len(found) != 2 {
		t.Fatalf("not two invocations:\n%s", log)
	}
	for i, m := range found {
		if m[1] != m[2] || m[1] != m[3] || (m[4] != "") != (i == 0) {
			t.Errorf("invocation %d: %q", i, m)
		}
	}
	if found[0][1] == found[1][1] {
		t.Error("two invocations have one id")
	}
	if !strings.Contains(log.String(), "one line\n") {
		t.Errorf("what the function printed is not there:\n%s", log)
	}
	reports := parse(t, log.String())
	if len(reports) != 2 {
		t.Fatalf("%d reports", len(reports))
	}
	cold := reports[0]
	if sum := cold.Duration.Value + cold.Init.Value; cold.Billed.Value < sum || cold.Billed.Value > sum+time.Millisecond+10*time.Microsecond {
		t.Errorf("billed %v for %v + %v", cold.Billed.Value, cold.Duration.Value, cold.Init.Value)
	}
	if s := h.Stats(); s.Invocations != 2 || s.Cold != 1 || s.Failed != 0 || s.CPU <= 0 || s.MaxMemoryMB <= 0 {
		t.Errorf("%+v", s)
	}
	if _, err := h.Invoke(t.Context(), []byte(`{}`)); !errors.Is(err, lambdahost.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func parse(t *testing.T, log string) []lambdalog.Invocation {
	t.Helper()
	var all []lambdalog.Invocation
	for line := range strings.SplitSeq(log, "\n") {
		v, err := lambdalog.ParseReport(line)
		if errors.Is(err, lambdalog.ErrNotReport) {
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", line, err)
		}
		all = append(all, v)
	}
	return all
}

// What goes wrong in a function is an answer, a status in its REPORT line and a new process.
func TestFailures(t *testing.T) {
	for _, tc := range []struct {
		name, event, says, report string
		restarts                  bool
	}{
		{"error", `"error"`, "no luck", "", false},
		{"panic", `"panic"`, "a bug", "Status: error\tError Type: Runtime.ExitError", true},
		{"exit", `"exit"`, "Runtime exited", "Status: error\tError Type: Runtime.ExitError", true},
		{"timeout", `"hang"`, "timed out after 1.00 seconds", "\tDuration: 1000.00 ms\tBilled Duration: 1000 ms\tMemory Size: 128 MB\t", true},
		{"timeout, its status", `"hang"`, "Task timed out", " MB\tStatus: timeout\t\n", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, log := start(t, "ok", lambdahost.Config{Environments: 1, Timeout: time.Second})
			before, _ := call(t, h, `{}`)
			_, a := retry(t, h, tc.event)
			if a.FunctionError == "" || !strings.Contains(string(a.Payload), tc.says) {
				t.Errorf("%q %s", a.FunctionError, a.Payload)
			}
			after, _ := retry(t, h, `{}`)
			if (before.PID != after.PID) != tc.restarts {
				t.Errorf("processes %d and %d", before.PID, after.PID)
			}
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(log.String(), tc.report) {
				t.Errorf("no %q in\n%s", tc.report, log)
			}
			if len(parse(t, log.String())) != 3 {
				t.Errorf("not three reports:\n%s", log)
			}
		})
	}
}

// retry invokes until the one environment is free: an answer is out before its invocation has ended.
func retry(t *testing.T, h *lambdahost.Host, event string) (reply, lambdahost.Answer) {
	t.Helper()
	for {
		a, err := h.Invoke(t.Context(), []byte(event))
		if errors.Is(err, lambdahost.ErrThrottled) {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var r reply
		_ = json.Unmarshal(a.Payload, &r) // an error object has none of it
		return r, a
	}
}

// A process that ends while it has nothing to do is replaced before it is given anything.
func TestIdleDeath(t *testing.T) {
	h, log := start(t, "ok", lambdahost.Config{Environments: 1})
	first, _ := call(t, h, `"exit later"`)
	p, err := os.FindProcess(first.PID)
	if err != nil {
		t.Fatal(err)
	}
	for p.Signal(syscall.Signal(0)) == nil { // until it has been waited for
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // and the one who waited has said so
	if r, a := retry(t, h, `{}`); a.FunctionError != "" || r.PID == first.PID {
		t.Errorf("%s", a.Payload)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if s := h.Stats(); s.Cold != 2 {
		t.Errorf("%+v\n%s", s, log)
	}
}

// A function that cannot start says so once a try.
func TestBrokenStart(t *testing.T) {
	h, log := start(t, "broken", lambdahost.Config{Environments: 1})
	_, a := call(t, h, `{}`)
	if a.FunctionError == "" {
		t.Errorf("%s", a.Payload)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if s := log.String(); !strings.HasPrefix(s, "cannot start\nINIT_REPORT Init Duration: ") || !strings.Contains(s, "\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\t\n") {
		t.Errorf("%q", s)
	}

	h, err := lambdahost.New(lambdahost.Config{Command: []string{"/nowhere/bootstrap"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Invoke(t.Context(), []byte(`{}`)); err == nil || !strings.Contains(err.Error(), "/nowhere/bootstrap") {
		t.Error(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// Invocations at the same time take environments of their own, up to the limit.
func TestConcurrency(t *testing.T) {
	const n = 3
	h, _ := start(t, "ok", lambdahost.Config{Environments: n})
	var wg sync.WaitGroup
	errs := make(chan error, n+2)
	for range n + 2 {
		wg.Go(func() {
			_, err := h.Invoke(context.Background(), []byte(`"wait"`))
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	throttled := 0
	for err := range errs {
		if errors.Is(err, lambdahost.ErrThrottled) {
			throttled++
		} else if err != nil {
			t.Error(err)
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if s := h.Stats(); throttled != 2 || s.Throttled != 2 || s.Invocations != n || s.Cold != n {
		t.Errorf("%d throttled, %+v", throttled, s)
	}
}

// The front makes an event of payload format 2.0 of a request, and an answer of what comes back.
func TestFront(t *testing.T) {
	h, _ := start(t, "echo", lambdahost.Config{})
	srv := httptest.NewServer(h.Handler())
	defer srv.Close()
	do := func(path, contentType string, body []byte) (status int, header http.Header, answer string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		req.Header.Add("X-Twice", "a")
		req.Header.Add("X-Twice", "b")
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(b)
	}
	code, header, got := do("/api/v1/write?cluster_name=a%20b", "application/x-protobuf", []byte{0xff, 0})
	if code != http.StatusOK || header.Get("X-Call") == "" {
		t.Errorf("%d %v", code, header)
	}
	for _, want := range []string{
		`"version":"2.0"`, `"rawPath":"/api/v1/write"`, `"rawQueryString":"cluster_name=a%20b"`, `"cluster_name":"a b"`,
		`"x-twice":"a,b"`, `"method":"POST"`, `"body":"/wA="`, `"isBase64Encoded":true`, `"stage":"$default"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if _, _, got := do("/x", "text/plain; charset=utf-8", []byte("hé")); !strings.Contains(got, `"body":"hé","headers"`) || !strings.Contains(got, `"isBase64Encoded":false`) {
		t.Error(got)
	}
	if _, _, got := do("/x", "application/json", []byte("\xff")); !strings.Contains(got, `"isBase64Encoded":true`) {
		t.Error(got)
	}
	if code, _, _ := do("/x", "application/x-protobuf", make([]byte, 5<<20)); code != http.StatusRequestEntityTooLarge { // 6.7 MiB in base64
		t.Error(code)
	}
	if code, _, _ := do("/x", "application/x-protobuf", make([]byte, 10<<20+1)); code != http.StatusRequestEntityTooLarge {
		t.Error(code)
	}
	if code, _, got := do(lambdahost.PathInvoke, "application/json", []byte(`{"a": 1}`)); code != http.StatusOK || !strings.Contains(got, `"body":"{\"a\": 1}"`) {
		t.Error(code, got)
	}
	if code, header, _ := do(lambdahost.PathInvoke, "application/json", []byte(`"error"`)); code != http.StatusOK || header.Get("X-Amz-Function-Error") != "Unhandled" {
		t.Error(code, header)
	}
}

// What is not an HTTP answer is a 502, and so is a function that fails.
func TestFrontBadAnswer(t *testing.T) {
	h, _ := start(t, "ok", lambdahost.Config{})
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	if w.Code != http.StatusBadGateway {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []lambdahost.Config{
		{},
		{Command: []string{""}},
		{Command: []string{"x"}, MemoryMB: 64},
		{Command: []string{"x"}, MemoryMB: 10241},
		{Command: []string{"x"}, Environments: -1},
		{Command: []string{"x"}, Timeout: 16 * time.Minute},
		{Command: []string{"x"}, CPUPeriod: time.Millisecond},
	} {
		if _, err := lambdahost.New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
	if got := lambdahost.CPUShare(1769); got != 1 {
		t.Errorf("1769 MB are %v CPUs", got)
	}
	_, err := lambdahost.New(lambdahost.Config{Command: []string{"x"}, HoldCPU: true, Cgroup: t.TempDir()})
	if e, ok := errors.AsType[*lambdahost.CPUError](err); !ok || e.Hint() == "" {
		t.Errorf("a directory that is no cgroup: %v", err)
	}
	_, err = lambdahost.New(lambdahost.Config{Command: []string{"x"}, HoldCPU: true, CPUPeriod: 10 * time.Millisecond})
	if _, ok := errors.AsType[*lambdahost.CPUError](err); !ok {
		t.Errorf("a quota below the kernel's least: %v", err)
	}
}
