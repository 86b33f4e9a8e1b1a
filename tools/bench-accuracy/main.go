// Command bench-accuracy measures how true the replay engine's numbers are, with the real clock, the real binary and a
// server in a process of its own whose latencies are known beforehand:
//
//   - a constant rate: how far from their due times requests leave, and the rate achieved;
//   - a server that stands still for 100 ms every 5 s: the tail against the one computed from that schedule;
//   - a server that stands still for one second in ten (both senders), the check for coordinated omission;
//   - captured gaps at speeds 1 and 4: how far the gaps between arrivals, as the server saw them, are off.
//
// It prints what it measured beside what it should be, and what the server saw: a machine that sleeps for some
// milliseconds is slow for both, a generator that measures wrongly only for itself. It judges nothing: run it on a quiet
// machine.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/tools/internal/stalls"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: bench-accuracy CIRRUSBENCH BENCHSINK")
		os.Exit(2)
	}
	if err := measure(context.Background(), bench{os.Args[1], os.Args[2]}); err != nil {
		fmt.Fprintln(os.Stderr, "bench-accuracy:", err)
		os.Exit(1)
	}
}

// quantiles are those of the latencies of n requests at a constant rate, by numpy's linear rule, in ms, when the first is
// due so long after the first request has come, and any comes a way after it was due. Without the way the reference would
// lack a request of each stall, the one due just before it that comes in it: half a millisecond at 2,000/s.
func quantiles(s stalls.Schedule, after, way time.Duration, n int, rate float64, qs ...float64) []float64 {
	all := make([]float64, n)
	for k := range all {
		all[k] = float64(way+s.Latency(after+way+time.Duration(float64(k)/rate*1e9))) / 1e6
	}
	return quantilesOf(all, qs...)
}

// usualWay is the median of what requests take from when they are due to the server: a generator that is late now and
// then does not move it, so that its delays do not become part of what it is held to.
func usualWay(seen []exchange, started time.Time, rate float64) time.Duration {
	all := make([]time.Duration, len(seen))
	for k, e := range seen {
		all[k] = e.came.Sub(started) - time.Duration(float64(k)/rate*1e9)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func quantilesOf(all []float64, qs ...float64) []float64 {
	slices.Sort(all)
	out := make([]float64, len(qs))
	for i, q := range qs {
		h := q * float64(len(all)-1)
		j := int(h)
		out[i] = all[j] + (h-float64(j))*(all[min(j+1, len(all)-1)]-all[j])
	}
	return out
}

// exchange is when a request had come to the server and when its answer left there.
type exchange struct{ came, left time.Time }

// observed is what quantiles are of, as the server saw it: from when requests were due until their answers left. A generator
// that measures right is off from it by the way of an answer and nothing else, whatever the machine does meanwhile.
func observed(seen []exchange, started time.Time, rate float64, qs ...float64) []float64 {
	all := make([]float64, len(seen))
	for k, e := range seen {
		all[k] = e.left.Sub(started).Seconds()*1e3 - float64(k)/rate*1e3
	}
	return quantilesOf(all, qs...)
}

// bench is the two programs.
type bench struct{ binary, sink string }

// replay runs the binary against a server with these stalls and returns what the server saw of each request, as they came.
func (b bench) replay(ctx context.Context, s stalls.Schedule, args ...string) (*stats.Run, []exchange, error) {
	server := exec.CommandContext(ctx, b.sink, "127.0.0.1:0", s.String())
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
	cmd := exec.CommandContext(ctx, b.binary, args...)
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
	var seen []exchange
	for line := range strings.Lines(out.String()) {
		var came, left int64
		if n, _ := fmt.Sscan(line, &came, &left); n == 2 {
			seen = append(seen, exchange{time.Unix(0, came), time.Unix(0, left)})
		}
	}
	return &run, seen, nil
}

func measure(ctx context.Context, b bench) error {
	idle := stalls.Schedule{First: time.Hour, Every: time.Hour}
	run, _, err := b.replay(ctx, idle, "--rate", "1000", "--duration", "10s", "--timestamps", "keep", "--fan-out", "1", "--order", "none")
	if err != nil {
		return err
	}
	fmt.Printf("constant 1,000/s, 10 s: median send error %.1f us (goal 15), p99 %.1f us; rate %.3f/s, off by %.4f %% (goal 0.1); client %s\n",
		run.ScheduleError.P50MS*1e3, run.ScheduleError.P99MS*1e3, run.Achieved.RatePerS, math.Abs(run.Achieved.RatePerS/1000-1)*100, verdict(run))
	for _, part := range []func(context.Context) error{b.stalling, b.frozen, b.gaps} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stalling has a server that stands still for 100 ms every 5 s.
func (b bench) stalling(ctx context.Context) error {
	s := stalls.Schedule{First: 2500 * time.Millisecond, Every: 5 * time.Second, Length: 100 * time.Millisecond}
	const rate, seconds = 2000, 30
	run, seen, err := b.replay(ctx, s, "--rate", "2000", "--duration", "30s", "--timestamps", "keep", "--fan-out", "1", "--order", "none", "--max-in-flight", "1024")
	if err != nil {
		return err
	}
	way := usualWay(seen, run.StartedAt, rate)
	want := quantiles(s, run.StartedAt.Sub(seen[0].came), way, rate*seconds, rate, 0.99, 0.999, 0.9999)
	saw := observed(seen, run.StartedAt, rate, 0.99, 0.999, 0.9999)
	for i, got := range []float64{run.Latency.P99MS, run.Latency.P999MS, run.Latency.P9999MS} {
		fmt.Printf("stalls of 100 ms every 5 s at 2,000/s, %s: %.2f ms, computed %.2f ms, off by %.2f %% (goal 3); the server saw %.2f ms, off by %.2f %%\n",
			[]string{"p99", "p99.9", "p99.99"}[i], got, want[i], math.Abs(got/want[i]-1)*100, saw[i], math.Abs(got/saw[i]-1)*100)
	}
	fmt.Printf("  computed with the usual way to the server, %.3f ms; that two hundred answers leave one after another is not computed in\n", way.Seconds()*1e3)
	fmt.Printf("  send error p50 %.1f us, p99 %.1f us; client %s\n", run.ScheduleError.P50MS*1e3, run.ScheduleError.P99MS*1e3, verdict(run))
	return nil
}

// frozen has a server that stands still for one second of ten, the check for coordinated omission. The p90 is the edge
// between what waited and what did not: a single slow request of the 900 others moves it. So that a request due at the
// very second is on the same side of the edge in every run, the server stands still a millisecond early.
func (b bench) frozen(ctx context.Context) error {
	s := stalls.Schedule{First: 4999 * time.Millisecond, Every: time.Hour, Length: time.Second, Delay: time.Millisecond}
	for _, sender := range []string{"raw", "nethttp"} {
		run, seen, err := b.replay(ctx, s, "--rate", "100", "--duration", "10s", "--sender", sender)
		if err != nil {
			return err
		}
		after := run.StartedAt.Sub(seen[0].came)
		want := quantiles(s, after, usualWay(seen, run.StartedAt, 100), 1000, 100, 0.9, 0.95, 0.99, 1)
		l := run.Latency
		fmt.Printf("frozen for 1 s of 10 at 100/s, %s: p90 %.2f, p95 %.1f, p99 %.1f, max %.1f ms; computed %.2f, %.1f, %.1f, %.1f (goal about 2, 501.5, 901.1, 1001)\n",
			sender, l.P90MS, l.P95MS, l.P99MS, l.MaxMS, want[0], want[1], want[2], want[3])
		saw := observed(seen, run.StartedAt, 100, 0.9, 0.95, 0.99, 1)
		fmt.Printf("  as the server saw it, with this machine's own hiccups and without the way back: %.2f, %.1f, %.1f, %.1f\n", saw[0], saw[1], saw[2], saw[3])
		fmt.Printf("  first request seen %.2f ms after it was due; service p99 %.1f ms; send error p99 %.3f ms; client %s\n",
			-after.Seconds()*1e3, run.Service.P99MS, run.ScheduleError.P99MS, verdict(run))
	}
	run, _, err := b.replay(ctx, s, "--concurrency", "1", "--duration", "10s", "--sender", "raw")
	if err != nil {
		return err
	}
	fmt.Printf("the same, closed loop: p99 %.2f ms, max %.1f ms, %.0f requests/s; the file says loop %q, arrival %q\n",
		run.Latency.P99MS, run.Latency.MaxMS, run.Achieved.RatePerS, run.Plan.Loop, run.Plan.Arrival)
	return nil
}

// gaps replays captured times.
func (b bench) gaps(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench-accuracy")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	corpus := filepath.Join(dir, "corpus")
	if out, err := exec.CommandContext(ctx, b.binary, "capture", "synth", corpus, "--clusters", "3", "--series", "100", "--scrapes", "20", "--interval", "400ms").CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	for _, speed := range []string{"1", "4"} {
		args := []string{corpus, "--timing", "original", "--speed", speed, "--loop=false", "--order", "none"}
		plan, err := exec.CommandContext(ctx, b.binary, append([]string{"replay", "--dry-run", "-o", "json"}, args...)...).Output()
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
		_, seen, err := b.replay(ctx, stalls.Schedule{}, args...)
		if err != nil {
			return err
		}
		if len(seen) != len(dry.Entries) {
			return fmt.Errorf("%d of %d requests arrived", len(seen), len(dry.Entries))
		}
		var worst float64
		for i := 1; i < len(seen); i++ {
			gap := seen[i].came.Sub(seen[i-1].came).Seconds() * 1e3
			worst = max(worst, math.Abs(gap-(dry.Entries[i].DueMS-dry.Entries[i-1].DueMS)))
		}
		fmt.Printf("original timing at speed %s: %d gaps, as the server saw them at most %.3f ms off (goal 1)\n", speed, len(seen)-1, worst)
	}
	return nil
}

func verdict(run *stats.Run) string {
	return strings.Join(append([]string{run.Client.Verdict}, run.Client.Reasons...), "; ")
}
