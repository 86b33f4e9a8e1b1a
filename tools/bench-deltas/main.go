//go:build unix

// Command bench-deltas measures the exact and the HDR way to D2–D5 over rows of int32 latencies in microseconds, one row a
// pair, on one core:
//
//	bench-deltas make FILE PAIRS ROW    writes lognormal latencies, little-endian
//	bench-deltas run FILE PAIRS         prints ns of CPU time a value, and what came out, as JSON
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench-deltas:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	runtime.GOMAXPROCS(1)
	var pairs, row int
	var err error
	switch {
	case len(args) == 4 && args[0] == "make":
		if row, err = strconv.Atoi(args[3]); err != nil {
			return err
		}
	case len(args) == 3 && args[0] == "run":
	default:
		return errors.New("usage: bench-deltas make FILE PAIRS ROW | run FILE PAIRS")
	}
	if pairs, err = strconv.Atoi(args[2]); err != nil {
		return err
	}
	if args[0] == "make" {
		return generate(args[1], pairs, row)
	}
	return measure(args[1], pairs)
}

func generate(name string, pairs, row int) error {
	values := make([]int32, pairs*row)
	for p := range pairs {
		rng := rand.New(rand.NewPCG(1, uint64(p)))
		median := 2000 * (1 + rng.Float64())
		for i := range row {
			v := median * math.Exp(0.5*rng.NormFloat64())
			if rng.IntN(500) == 0 {
				v += 50_000 * rng.ExpFloat64() // the slow path
			}
			values[p*row+i] = int32(v)
		}
	}
	return os.WriteFile(name, unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 4*len(values)), 0o600)
}

// cpu is the CPU time of this process so far.
func cpu() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func measure(name string, pairs int) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	values := unsafe.Slice((*int32)(unsafe.Pointer(&b[0])), len(b)/4)
	rows, keys := make([][]int32, pairs), make([]stats.PairKey, pairs)
	for p := range rows {
		rows[p] = values[p*len(values)/pairs : (p+1)*len(values)/pairs]
		keys[p] = stats.PairKey{Source: strconv.Itoa(p), Destination: "x"}
	}
	n := float64(len(values))

	began := cpu()
	exact := stats.ExactDeltas(keys, rows, 0.001)
	exactNS := float64(cpu()-began) / n

	began = cpu()
	var batch stats.Batch
	histograms := make(map[stats.PairKey]*stats.Histogram, pairs)
	for p, row := range rows {
		h := stats.NewPackedHistogram()
		if err := batch.Record(h, row, time.Microsecond); err != nil {
			return err
		}
		histograms[keys[p]] = h
	}
	hdr := stats.DeltasFromHistograms(histograms)
	hdrNS := float64(cpu()-began) / n

	within := true
	for i := range exact.Pairs {
		e, h := &exact.Pairs[i].DeltaSet, &hdr.Pairs[i].DeltaSet
		within = within && math.Abs(e.D2MS-h.D2MS) <= h.BoundMS.D2 && math.Abs(e.D3MS-h.D3MS) <= h.BoundMS.D3 &&
			math.Abs(e.D4MS-h.D4MS) <= h.BoundMS.D4 && math.Abs(e.D5MS-h.D5MS) <= h.BoundMS.D5
	}
	s := &exact.Summary
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"exact_ns": exactNS, "hdr_ns": hdrNS, "hdr_within_bound": within,
		"median_ms": []float64{s.D2.MedianMS, s.D3.MedianMS, s.D4.MedianMS, s.D5.MedianMS},
		"std_ms":    []float64{s.D2.StdMS, s.D3.StdMS, s.D4.StdMS, s.D5.StdMS},
	})
}
