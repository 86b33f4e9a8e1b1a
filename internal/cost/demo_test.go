package cost_test

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write golden files and demo records")

// demo describes a set of synthetic records that has the averages which the
// first paper published.
type demo struct {
	file       string
	memory     int
	used       int
	meanMS     int // over all records, exactly
	coldMS     int // mean of the cold ones
	initMS     float64
	lines      int
	colds      int
	spread     float64 // sigma of the log-normal warm durations
	seed       uint64
	commentary string
}

func demos() []demo {
	return []demo{
		{
			file: "python-today.log", memory: 256, used: 118, meanMS: 953, coldMS: 10600, initMS: 8200,
			lines: 600, colds: 6, spread: 0.45, seed: 1, commentary: "a Python function with 256 MB on x86_64",
		},
		{
			file: "go.log", memory: 128, used: 38, meanMS: 70, coldMS: 870, initMS: 99.83,
			lines: 600, colds: 6, spread: 0.55, seed: 2, commentary: "a Go function with 128 MB on arm64",
		},
	}
}

// generate writes the records of d. Billed time is the next millisecond above
// duration plus initialisation, and its mean is exactly d.meanMS.
func (d demo) generate() []byte {
	rng := rand.New(rand.NewPCG(d.seed, 0))
	billed := make([]int, d.lines)
	cold := make([]bool, d.lines)
	sum := 0
	for i := range d.colds {
		at := i * d.lines / d.colds
		cold[at] = true
		// Pairs around the mean keep the mean of the cold ones exact.
		off := d.coldMS * (i/2 + 1) / 50
		if i%2 == 1 {
			off = -off
		}
		billed[at] = d.coldMS + off
		sum += billed[at]
	}
	warmMean := float64(d.meanMS*d.lines-sum) / float64(d.lines-d.colds)
	for i := range billed {
		if !cold[i] {
			billed[i] = max(2, int(warmMean*math.Exp(d.spread*rng.NormFloat64()-d.spread*d.spread/2)))
			sum += billed[i]
		}
	}
	// What the draw misses is spread over the warm records, a millisecond each.
	for i := 0; sum != d.meanMS*d.lines; i = (i + 1) % d.lines {
		switch {
		case cold[i]:
		case sum < d.meanMS*d.lines:
			billed[i]++
			sum++
		case billed[i] > 2:
			billed[i]--
			sum--
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# SYNTHETIC records: %s, made to the averages that the first paper (Cirrus) published.\n", d.commentary)
	b.WriteString("# They were never measured, and they carry no times. See README.md beside this file.\n")
	for i, ms := range billed {
		fraction := rng.Float64()
		id := fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", rng.Uint32(), rng.UintN(1<<16), rng.UintN(1<<12), rng.UintN(1<<12), rng.Uint64N(1<<48))
		total, tail := float64(ms)-0.01-0.98*fraction, ""
		if cold[i] {
			initMS := d.initMS * (0.95 + 0.1*rng.Float64())
			total -= initMS
			tail = fmt.Sprintf("Init Duration: %.2f ms\t", initMS)
		}
		used := d.used - rng.IntN(3)
		fmt.Fprintf(&b, "REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t%s\n",
			id, total, ms, d.memory, used, tail)
	}
	return b.Bytes()
}

const demoDir = "../../fixtures/lambda-records/demo"

// The demo records in the repository are what this generator makes; -update
// writes them.
func TestDemoRecords(t *testing.T) {
	for _, d := range demos() {
		path := filepath.Join(demoDir, d.file)
		data := d.generate()
		if *update {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%s is not what the generator makes; run go test ./internal/cost -run TestDemoRecords -update", path)
		}
	}
}
