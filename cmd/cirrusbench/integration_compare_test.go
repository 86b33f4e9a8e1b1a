//go:build integration

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestIntegrationBenchstat: the real benchstat, in the version that the Makefile pins, reads what compare writes:
// every metric is a unit of its own, every run a column, with the values of the JSON and without a complaint.
func TestIntegrationBenchstat(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	pin := regexp.MustCompile(`(?m)^BENCHSTAT\s*:=\s*(\S+)$`).FindSubmatch(makefile)
	if pin == nil {
		t.Fatal("the Makefile pins no benchstat")
	}
	dir := t.TempDir()
	binary := os.Getenv("CIRRUSBENCH_BINARY")
	run := func(stdin []byte, name string, args ...string) (string, string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil && cmd.ProcessState.ExitCode() != exitInvalid { // a busy machine may make a run INVALID
			t.Fatalf("%s %q: %v\n%s", name, args, err, &stderr)
		}
		return stdout.String(), stderr.String()
	}
	for _, name := range []string{"a.json", "b.json"} {
		run(nil, binary, "replay", "--rate", "500", "--requests", "500", "--out", name)
	}
	bench, _ := run(nil, binary, "compare", "a.json", "b.json", "-o", "benchfmt")
	csv, complaints := run([]byte(bench), "go", "run", string(pin[1]), "-format", "csv", "-col", "run", "-")
	notes := regexp.MustCompile(`need >= |all samples are equal|summaries must be >0|go: downloading`)
	for line := range strings.Lines(complaints) {
		// One run of each is too few for an interval, and zeros have no geometric mean: benchstat is right to say so.
		if !notes.MatchString(line) && strings.TrimSpace(line) != "" {
			t.Errorf("benchstat complains: %s", line)
		}
	}
	if !strings.Contains(csv, ",a.json,") || !strings.Contains(csv, ",b.json,") {
		t.Errorf("the runs are no columns:\n%s", csv)
	}
	for _, unit := range []string{"p50-ms", "p99-ms", "service-p99-ms", "d2-ms", "error-ratio", "rate-per-s"} {
		if !strings.Contains(csv, unit+",CI") {
			t.Errorf("benchstat knows no unit %s:\n%s", unit, csv)
		}
	}
	// The number that benchstat shows is the one that was written.
	p99 := regexp.MustCompile(` ([0-9.]+) p99-ms`).FindStringSubmatch(bench)
	if p99 == nil || !strings.Contains(csv, "Replay,"+p99[1]+",") {
		t.Errorf("p99 of the first run, %v, is not in\n%s", p99, csv)
	}
}
