package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/shard"
	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// shardLoad is what each shard of a made-up run sends: sources that send once a second each.
type shardLoad struct{ shards, sources, seconds int }

// write leaves the results of all shards in dir, as a replay does, and returns what the run files take together.
func (l shardLoad) write(tb testing.TB, dir string) (total int64) {
	tb.Helper()
	s, err := store.NewDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range l.shards {
		rec := stats.NewRecorder()
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		for second := range l.seconds {
			for source := range l.sources {
				due := time.Duration(second)*time.Second + time.Duration(source)*time.Second/time.Duration(l.sources)
				took := time.Duration(20e6 * math.Exp(0.7*rnd.NormFloat64()))
				rec.Record(stats.Observation{
					Pair: stats.PairKey{Source: fmt.Sprintf("shard-%d/cluster-%d", i, source), Destination: "host"}, Intended: due, Started: due, Done: due + took,
					Samples: 500, SamplesWritten: 500, Bytes: 5000, Status: 204,
				})
				rec.RecordScheduleError(time.Duration(rnd.IntN(20_000)))
			}
		}
		requests := int64(l.sources * l.seconds)
		from, to := rec.Span()
		r := &stats.Run{
			StartedAt: time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC), FinishedAt: time.Date(2026, 11, 20, 18, 0, l.seconds, 0, time.UTC),
			Plan: stats.Plan{
				Loop: "open", Arrival: "constant", Timing: "rate", RatePerS: float64(l.shards * l.sources), Planned: requests, SHA256: "plan",
				Shard: &stats.Shard{Index: i, Total: l.shards, By: "source", PlannedAll: int64(l.shards) * requests, FromMS: from.Seconds() * 1e3, ToMS: to.Seconds() * 1e3},
			},
			Corpus: stats.Corpus{SHA256: "corpus"}, Client: stats.Client{Verdict: "valid"},
		}
		r.Counts.Planned = requests
		if err := rec.Fill(r); err != nil {
			tb.Fatal(err)
		}
		if err := shard.Put(tb.Context(), s, strconv.Itoa(i), r); err != nil {
			tb.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "shards", "*", "*", "run.json"))
	if err != nil || len(files) != l.shards {
		tb.Fatal(len(files), err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			tb.Fatal(err)
		}
		total += info.Size()
	}
	return total
}

// peakMemory runs the program in a process of its own and returns how much memory it took at most, in bytes.
func peakMemory(tb testing.TB, args ...string) int64 {
	tb.Helper()
	program := "cirrusbench" // this one: see TestMain
	if built := os.Getenv("CIRRUSBENCH_BINARY"); built != "" {
		program = built
	}
	// The kernel counts what the process had in memory before it became the program, and that is what this one has and had.
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), program, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		tb.Fatal("the system does not say what a process used")
	}
	return usage.Maxrss << 10
}

// BenchmarkMergeMemory merges 32 shards of an hour, 8 sources each, with the program of CIRRUSBENCH_BINARY if that is
// set.
func BenchmarkMergeMemory(b *testing.B) {
	dir := b.TempDir()
	total := shardLoad{shards: 32, sources: 8, seconds: 3600}.write(b, dir)
	var peak int64
	for b.Loop() {
		peak = max(peak, peakMemory(b, "merge", dir, "--out", filepath.Join(dir, "merged.json")))
	}
	b.ReportMetric(float64(peak)/1e6, "peak-MB")
	b.ReportMetric(float64(total)/1e6, "run-files-MB")
}
