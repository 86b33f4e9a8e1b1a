package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

func readScriptRun(ts *testscript.TestScript, name string) *stats.Run {
	data, err := os.ReadFile(ts.MkAbs(name))
	ts.Check(err)
	run, err := stats.ReadRun(bytes.NewReader(data), name)
	ts.Check(err)
	return run
}

// sameRun says what in two runs differs of all that follows from the plan and the latencies: `same-run A.json B.json`.
// Histograms are compared as they are encoded, which is bucket by bucket.
func sameRun(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same-run A.json B.json")
	}
	type parts struct {
		Plan          stats.Plan
		Corpus        stats.Corpus
		Counts        stats.Counts
		Statuses      map[string]int64
		Errors        []stats.ErrorCount
		Latency       stats.Latency
		Service       stats.Latency
		FailedLatency *stats.Latency
		Warmup        *stats.Latency
		Deltas        *stats.Deltas
		Pairs         []stats.RunPair
		Timeline      []stats.TimelinePoint
		Achieved      stats.Achieved
		ServiceBy     *stats.EncodedHistogram
	}
	of := func(name string) parts {
		r := readScriptRun(ts, name)
		return parts{
			r.Plan, r.Corpus, r.Counts, r.Statuses, r.Errors, r.Latency, r.Service, r.FailedLatency, r.WarmupLatency, r.Deltas, r.Pairs, r.Timeline, r.Achieved,
			r.Histograms.Service,
		}
	}
	a, b := of(args[0]), of(args[1])
	if a.Counts.Sent < 100 || a.Counts.Failed == 0 || len(a.Timeline) < 3 {
		ts.Fatalf("%s is too small to say anything: %+v", args[0], a.Counts)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		ts.Fatalf("%s and %s differ (-first +second):\n%s", args[0], args[1], diff)
	}
}

// sameStart checks that all shards of a merged run have begun together: `same-start RUN.json SHARDS`.
func sameStart(ts *testscript.TestScript, _ bool, args []string) {
	run := readScriptRun(ts, args[0])
	if n := strconv.Itoa(len(run.Merged.Parts)); n != args[1] {
		ts.Fatalf("%s parts", n)
	}
	if run.Merged.StartSpreadMS > 20 {
		ts.Fatalf("the shards began up to %v ms apart", run.Merged.StartSpreadMS)
	}
}

// runFiles returns the run files of complete attempts below a location.
func runFiles(ts *testscript.TestScript, dir string) []string {
	manifests, err := filepath.Glob(filepath.Join(ts.MkAbs(dir), "shards", "*", "attempt-*", "manifest.json"))
	ts.Check(err)
	if len(manifests) == 0 {
		ts.Fatalf("no result below %s", dir)
	}
	return manifests
}

// collectRuns copies the run files of shards from a location: `collect-runs DIR` makes shard-0.json and so on.
func collectRuns(ts *testscript.TestScript, _ bool, args []string) {
	for _, m := range runFiles(ts, args[0]) {
		dir := filepath.Dir(m)
		data, err := os.ReadFile(filepath.Join(dir, "run.json"))
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs("shard-"+filepath.Base(filepath.Dir(dir))+".json"), data, 0o600))
	}
}

// damage changes one result below a location: `damage DIR geometry|run`; the geometry in its manifest, or the length of
// its run file.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	manifest := slices.Min(runFiles(ts, args[0]))
	data, err := os.ReadFile(manifest)
	ts.Check(err)
	var m map[string]any
	ts.Check(json.Unmarshal(data, &m))
	geometry := map[string]any{"lowest_ns": 1, "highest_ns": 3_600_000_000_000, "digits": 2}
	if args[1] == "run" {
		geometry = map[string]any{"lowest_ns": 1000, "highest_ns": 86_400_000_000_000, "digits": 3}
		file := filepath.Join(filepath.Dir(manifest), "run.json")
		body, err := os.ReadFile(file)
		ts.Check(err)
		ts.Check(os.WriteFile(file, append(body, '\n'), 0o600))
	}
	m["histogram"] = geometry
	data, err = json.Marshal(m)
	ts.Check(err)
	ts.Check(os.WriteFile(manifest, data, 0o600))
}

// awaitObject waits until a store in the S3 server of startS3 has an object: `await-object s3://BUCKET/PREFIX KEY`.
func awaitObject(ts *testscript.TestScript, _ bool, args []string) {
	s, err := store.NewS3(storetest.S3Config(ts.Getenv("AWS_ENDPOINT_URL_S3"), ts.Getenv("AWS_ACCESS_KEY_ID"), ts.Getenv("AWS_SECRET_ACCESS_KEY")), args[0])
	ts.Check(err)
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := s.Get(context.Background(), args[1])
		if err == nil {
			return
		}
		if !errors.Is(err, store.ErrNotFound) || time.Now().After(deadline) {
			ts.Fatalf("%v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// restOfShards runs all but shard 0 of $SHARDS at once: `rest-of-shards DIR`.
func restOfShards(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(ts.Getenv("SHARDS"))
	ts.Check(err)
	path, err := exec.LookPath("cirrusbench-fake")
	ts.Check(err)
	dir := ts.MkAbs(".")
	failed := make([]string, n)
	var wg sync.WaitGroup
	for i := 1; i < n; i++ {
		wg.Go(func() {
			cmd := exec.Command(path, "replay", "--rate", "50", "--requests", "10", "--fan-out", "1", "--object-store", args[0], "--start-lead", "5s", //nolint:noctx // ends by its own timeout
				"--barrier-timeout", "60s", "--shard", fmt.Sprintf("%d/%d", i, n), "--shard-by", "request")
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "wrote the result") {
				failed[i] = fmt.Sprintf("shard %d: %v\n%s", i, err, out)
			}
		})
	}
	wg.Wait()
	if all := strings.Join(failed, ""); all != "" {
		ts.Fatalf("%s", all)
	}
}

// background starts a command whose end `ended` waits for: `background NAME COMMAND…`.
func background(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: background NAME COMMAND…")
	}
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	cmd := exec.Command(path, args[2:]...) //nolint:noctx // killed at the end of the script
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = os.Environ()
	for _, name := range append([]string{"HOME", "TMPDIR", "JOB_COMPLETION_INDEX"}, s3Env...) {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	p := &process{cmd: cmd, stderr: &bytes.Buffer{}, done: make(chan error, 1)}
	cmd.Stderr = p.stderr
	ts.Check(cmd.Start())
	go func() { p.done <- cmd.Wait() }()
	running(ts)[args[0]] = p
	ts.Defer(func() { _ = cmd.Process.Kill() })
}

// ended waits for a command in the background and checks its exit code, -1 when it was killed: `ended NAME CODE[,CODE…]`.
// With kill before its name it is killed first, as nothing can catch.
func ended(ts *testscript.TestScript, _ bool, args []string) {
	kill := len(args) == 3 && args[0] == "kill"
	if kill {
		args = args[1:]
	}
	if len(args) != 2 || running(ts)[args[0]] == nil {
		ts.Fatalf("usage: ended [kill] NAME CODE[,CODE…]")
	}
	p := running(ts)[args[0]]
	if kill {
		ts.Check(p.cmd.Process.Kill())
	}
	select {
	case <-p.done: //nolint:errcheck // its exit code is what is asked for
	case <-time.After(time.Minute):
		ts.Fatalf("%s does not end\n%s", args[0], p.stderr)
	}
	if code := p.cmd.ProcessState.ExitCode(); !slices.Contains(strings.Split(args[1], ","), strconv.Itoa(code)) {
		ts.Fatalf("%s: exit code %d, want %s\n%s", args[0], code, args[1], p.stderr)
	}
}
