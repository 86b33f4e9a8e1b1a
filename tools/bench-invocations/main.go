// Command bench-invocations measures `cirrusbench invocations` on a large text log in the page cache against mawk,
// which sums one field, and `wc -l`, which only counts lines: in one run, in turn, medians of the rounds.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	binary := flag.String("binary", "bin/cirrusbench", "the program to measure")
	dir := flag.String("dir", ".cache/bench", "where the log is made and kept")
	size := flag.Int64("bytes", 1_000_000_000, "size of the log")
	rounds := flag.Int("rounds", 7, "rounds, each of which runs every program once")
	flag.Parse()
	if err := run(*binary, *dir, *size, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench-invocations:", err)
		os.Exit(1)
	}
}

// subject is a program that is measured.
type subject struct {
	name  string
	cores int
	args  []string
	check func(out []byte, c counts) error
	took  []time.Duration
	rss   int64 // KiB
}

func run(binary, dir string, size int64, rounds int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	log := filepath.Join(dir, fmt.Sprintf("invocations-%d.log", size))
	fmt.Printf("making %s\n", log)
	c, err := generate(log, size)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(log) }() // it is made in seconds and fills the disk
	fmt.Printf("%d bytes, %d lines, %d of them REPORT lines, %d cold; %s, %d CPUs\n", c.bytes, c.lines, c.reports, c.cold, runtime.Version(), runtime.NumCPU())

	wc := &subject{name: "wc -l", cores: 1, args: []string{"wc", "-l", log}, check: expect(strconv.FormatInt(c.lines, 10) + " ")}
	mawk := &subject{name: "mawk, sum of one field", cores: 1, args: []string{"mawk", `/^REPORT RequestId: / {s += $9} END {printf "%d\n", s}`, log}, check: expect(strconv.FormatInt(c.billedMS, 10))}
	one := &subject{name: "cirrusbench, one core", cores: 1, args: []string{binary, "invocations", log, "-o", "json"}, check: summary}
	two := &subject{name: "cirrusbench, two cores", cores: 2, args: one.args, check: summary}
	subjects := []*subject{wc, mawk, one, two}
	for round := range rounds + 1 { // the first one warms the page cache and is not counted
		for _, s := range subjects {
			took, rss, out, err := measure(s)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if err := s.check(out, c); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if round > 0 {
				s.took = append(s.took, took)
				s.rss = max(s.rss, rss)
			}
		}
	}
	fmt.Printf("\n%-24s %9s %9s %9s %8s %10s\n", "", "median s", "fastest", "slowest", "GB/s", "peak MiB")
	for _, s := range subjects {
		slices.Sort(s.took)
		m := s.median()
		fmt.Printf("%-24s %9.3f %9.3f %9.3f %8.2f %10.1f\n", s.name, m, s.took[0].Seconds(), s.took[len(s.took)-1].Seconds(), float64(c.bytes)/1e9/m, float64(s.rss)/1024)
	}
	fmt.Println()
	goal("one core against mawk", mawk.median()/one.median(), "at least", 2.5)
	goal("one core: time over that of wc -l", one.median()/wc.median(), "at most", 2.2)
	goal("two cores against mawk", mawk.median()/two.median(), "at least", 4)
	goal("peak memory, MiB", float64(max(one.rss, two.rss))/1024, "at most", 64)
	return nil
}

func goal(what string, got float64, word string, want float64) {
	verdict := "met"
	if word == "at least" && got < want || word == "at most" && got > want {
		verdict = "MISSED"
	}
	fmt.Printf("%-36s %6.2f   goal: %s %g: %s\n", what, got, word, want, verdict)
}

func (s *subject) median() float64 {
	n := len(s.took)
	return (s.took[(n-1)/2] + s.took[n/2]).Seconds() / 2
}

// measure runs a subject once, held to as many cores as it may use.
func measure(s *subject) (took time.Duration, rssKiB int64, out []byte, err error) {
	args := append([]string{"taskset", "-c", strings.Join([]string{"0", "1"}[:s.cores], ",")}, s.args...)
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...) //nolint:gosec // the commands stand above
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GOMAXPROCS="+strconv.Itoa(s.cores))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err = cmd.Run()
	took = time.Since(start)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		rssKiB = usage.Maxrss
	}
	return took, rssKiB, stdout.Bytes(), nil
}

func expect(prefix string) func([]byte, counts) error {
	return func(out []byte, _ counts) error {
		if !strings.HasPrefix(string(out), prefix) {
			return fmt.Errorf("printed %.80q, want %s", out, prefix)
		}
		return nil
	}
}

// summary compares what cirrusbench says with what is known of the log.
func summary(out []byte, c counts) error {
	var s struct {
		Reports  int64 `json:"reports"`
		Cold     int64 `json:"cold"`
		Billable int64 `json:"billable"`
		BadLines int64 `json:"bad_lines"`
		BilledMS struct {
			Sum int64 `json:"sum"`
		} `json:"billed_ms"`
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return err
	}
	if s.Reports != c.reports || s.Cold != c.cold || s.Billable != c.reports || s.BilledMS.Sum != c.billedMS || s.BadLines != 0 {
		return errors.New("its result is not that of the log that was written")
	}
	return nil
}
