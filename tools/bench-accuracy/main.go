// Command bench-accuracy measures how true the replay engine's numbers are, with the real clock, the real binary and a
// server in a process of its own whose latencies are known beforehand:
//
//   - a constant rate: how far from their due times requests leave, and the rate achieved;
//   - a server that stands still for 100 ms every 5 s: the tail against the one computed from that schedule;
//   - a server that stands still for one second in ten (both senders), the check for coordinated omission;
//   - captured gaps at speeds 1 and 4: how far the gaps between arrivals, as the server saw them, are off.
//
// It prints what it measured beside what it should be, and judges nothing: run it on a quiet machine.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

func main() {
	ctx := context.Background()
	var err error
	switch {
	case len(os.Args) == 6 && os.Args[1] == "serve":
		err = serve(ctx, os.Args[2:])
	case len(os.Args) == 2:
		err = measure(ctx, os.Args[1])
	default:
		err = errors.New("usage: bench-accuracy CIRRUSBENCH")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-accuracy:", err)
		os.Exit(1)
	}
}

// stalls says when a server stands still, counted from its first request.
type stalls struct {
	first, every, length time.Duration
	delay                time.Duration // of every answer
}

// latency is what a request that arrives at has to wait.
func (s stalls) latency(at time.Duration) time.Duration {
	if s.length > 0 && at >= s.first {
		if into := (at - s.first) % s.every; into < s.length {
			return s.length - into + s.delay
		}
	}
	return s.delay
}

// quantiles are those of the latencies of n requests at a constant rate, by numpy's linear rule, in ms.
func (s stalls) quantiles(n int, rate float64, qs ...float64) []float64 {
	all := make([]float64, n)
	for k := range all {
		all[k] = float64(s.latency(time.Duration(float64(k)/rate*1e9))) / 1e6
	}
	slices.Sort(all)
	out := make([]float64, len(qs))
	for i, q := range qs {
		h := q * float64(n-1)
		j := int(h)
		out[i] = all[j] + (h-float64(j))*(all[min(j+1, n-1)]-all[j])
	}
	return out
}

// serve answers 204 after the given delay; while it stands still nothing is answered. On end of input it prints when each
// request came, in ns since the first.
func serve(ctx context.Context, args []string) error {
	var s stalls
	for i, to := range []*time.Duration{&s.first, &s.every, &s.length, &s.delay} {
		d, err := time.ParseDuration(args[i])
		if err != nil {
			return err
		}
		*to = d
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	var mu sync.Mutex
	var begin time.Time
	var arrivals []time.Duration
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				buf := make([]byte, 1<<20)
				for readRequest(conn, buf) {
					mu.Lock()
					if begin.IsZero() {
						begin = time.Now()
					}
					at := time.Since(begin)
					arrivals = append(arrivals, at)
					mu.Unlock()
					time.Sleep(s.latency(at) - (time.Since(begin) - at))
					if _, err := io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	for _, at := range arrivals {
		fmt.Println(int64(at))
	}
	return nil
}

func readRequest(conn net.Conn, buf []byte) bool {
	have, need := 0, 0
	for need == 0 || have < need {
		n, err := conn.Read(buf[have:])
		if err != nil {
			return false
		}
		have += n
		if end := bytes.Index(buf[:have], []byte("\r\n\r\n")); need == 0 && end > 0 {
			_, rest, _ := bytes.Cut(buf[:end+2], []byte("Content-Length: "))
			digits, _, _ := bytes.Cut(rest, []byte("\r\n"))
			length, err := strconv.Atoi(string(digits))
			if err != nil {
				return false
			}
			need = end + 4 + length
		}
	}
	return true
}

// replay runs the binary against a server with these stalls.
func replay(ctx context.Context, binary string, s stalls, args ...string) (*stats.Run, []time.Duration, error) {
	server := exec.CommandContext(ctx, os.Args[0], "serve", s.first.String(), s.every.String(), s.length.String(), s.delay.String())
	in, err := server.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	url, w := io.Pipe()
	server.Stdout, server.Stderr = io.MultiWriter(w, &out), os.Stderr
	if err := server.Start(); err != nil {
		return nil, nil, err
	}
	addr := make([]byte, 64)
	n, err := url.Read(addr)
	if err != nil {
		return nil, nil, err
	}
	go func() { _, _ = io.Copy(io.Discard, url) }()
	args = append([]string{"replay", "--target", "http://" + strings.TrimSpace(string(addr[:n])), "-o", "json"}, args...)
	cmd := exec.CommandContext(ctx, binary, args...)
	doc, runErr := cmd.Output()
	_ = in.Close()
	err = server.Wait()
	if ee := (*exec.ExitError)(nil); runErr != nil && (!errors.As(runErr, &ee) || ee.ExitCode() != 5) {
		return nil, nil, fmt.Errorf("%v: %w", args, runErr)
	}
	var run stats.Run
	if err := errors.Join(err, json.Unmarshal(doc, &run)); err != nil {
		return nil, nil, err
	}
	var arrivals []time.Duration
	for line := range strings.Lines(out.String()) {
		if at, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err == nil {
			arrivals = append(arrivals, time.Duration(at))
		}
	}
	return &run, arrivals, nil
}

func measure(ctx context.Context, binary string) error {
	const long = time.Hour
	run, _, err := replay(ctx, binary, stalls{long, long, 0, 0}, "--rate", "1000", "--duration", "10s", "--timestamps", "keep", "--fan-out", "1", "--order", "none")
	if err != nil {
		return err
	}
	fmt.Printf("constant 1,000/s, 10 s: median send error %.1f us (goal 15), p99 %.1f us; rate %.3f/s, off by %.4f %% (goal 0.1); client %s\n",
		run.ScheduleError.P50MS*1e3, run.ScheduleError.P99MS*1e3, run.Achieved.RatePerS, math.Abs(run.Achieved.RatePerS/1000-1)*100, verdict(run))

	s := stalls{first: 2500 * time.Millisecond, every: 5 * time.Second, length: 100 * time.Millisecond}
	const rate, seconds = 2000, 30
	run, _, err = replay(ctx, binary, s, "--rate", "2000", "--duration", "30s", "--timestamps", "keep", "--fan-out", "1", "--order", "none", "--max-in-flight", "1024")
	if err != nil {
		return err
	}
	want := s.quantiles(rate*seconds, rate, 0.99, 0.999, 0.9999)
	for i, got := range []float64{run.Latency.P99MS, run.Latency.P999MS, run.Latency.P9999MS} {
		fmt.Printf("stalls of 100 ms every 5 s at 2,000/s, %s: %.2f ms, computed %.2f ms, off by %.2f %% (goal 3)\n",
			[]string{"p99", "p99.9", "p99.99"}[i], got, want[i], math.Abs(got/want[i]-1)*100)
	}
	fmt.Printf("  send error p50 %.1f us, p99 %.1f us; client %s\n", run.ScheduleError.P50MS*1e3, run.ScheduleError.P99MS*1e3, verdict(run))

	s = stalls{first: 5 * time.Second, every: long, length: time.Second, delay: time.Millisecond}
	want = s.quantiles(1000, 100, 0.9, 0.95, 0.99, 1)
	for _, sender := range []string{"raw", "nethttp"} {
		run, _, err = replay(ctx, binary, s, "--rate", "100", "--duration", "10s", "--sender", sender)
		if err != nil {
			return err
		}
		l := run.Latency
		fmt.Printf("frozen for 1 s of 10 at 100/s, %s: p90 %.2f, p95 %.1f, p99 %.1f, max %.1f ms; computed %.2f, %.1f, %.1f, %.1f; service p99 %.1f; client %s\n",
			sender, l.P90MS, l.P95MS, l.P99MS, l.MaxMS, want[0], want[1], want[2], want[3], run.Service.P99MS, verdict(run))
	}
	run, _, err = replay(ctx, binary, s, "--concurrency", "1", "--duration", "10s", "--sender", "raw")
	if err != nil {
		return err
	}
	fmt.Printf("the same, closed loop: p99 %.2f ms, max %.1f ms, %.0f requests/s; the file says loop %q, arrival %q\n",
		run.Latency.P99MS, run.Latency.MaxMS, run.Achieved.RatePerS, run.Plan.Loop, run.Plan.Arrival)

	dir, err := os.MkdirTemp("", "bench-accuracy")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	corpus := filepath.Join(dir, "corpus")
	if out, err := exec.CommandContext(ctx, binary, "capture", "synth", corpus, "--clusters", "3", "--series", "100", "--scrapes", "8", "--interval", "400ms").CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	for _, speed := range []string{"1", "4"} {
		args := []string{corpus, "--timing", "original", "--speed", speed, "--loop=false", "--order", "none"}
		plan, err := exec.CommandContext(ctx, binary, append([]string{"replay", "--dry-run", "-o", "json"}, args...)...).Output()
		if err != nil {
			return err
		}
		var dry struct {
			Entries []struct {
				DueMS float64 `json:"due_ms"`
			} `json:"entries"`
		}
		if err := json.Unmarshal(plan, &dry); err != nil {
			return err
		}
		_, arrivals, err := replay(ctx, binary, stalls{long, long, 0, 0}, args...)
		if err != nil {
			return err
		}
		if len(arrivals) != len(dry.Entries) {
			return fmt.Errorf("%d of %d requests arrived", len(arrivals), len(dry.Entries))
		}
		var worst float64
		for i := 1; i < len(arrivals); i++ {
			gap := float64(arrivals[i]-arrivals[i-1]) / 1e6
			worst = max(worst, math.Abs(gap-(dry.Entries[i].DueMS-dry.Entries[i-1].DueMS)))
		}
		fmt.Printf("original timing at speed %s: %d gaps, as the server saw them at most %.3f ms off (goal 1)\n", speed, len(arrivals)-1, worst)
	}
	return nil
}

func verdict(run *stats.Run) string {
	return strings.Join(append([]string{run.Client.Verdict}, run.Client.Reasons...), "; ")
}
