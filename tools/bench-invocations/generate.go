package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"time"
)

// counts is what a generated log holds, known from writing it.
type counts struct {
	bytes, lines, reports, cold int64
	billedMS                    int64
}

// generate writes a text log of about size bytes: of 64 lines 13 are REPORT lines, the others are START and END
// lines and what applications print, some of it JSON, and now and then words that look like a record. The same size
// and seed give the same bytes.
func generate(path string, size int64) (c counts, err error) {
	f, err := os.Create(path)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // data for a benchmark
	line := make([]byte, 0, 1024)
	put := func() error {
		c.bytes += int64(len(line))
		c.lines++
		_, err := w.Write(line)
		line = line[:0]
		return err
	}
	for c.bytes < size {
		id := requestID(rng)
		line = append(append(append(line, "START RequestId: "...), id...), " Version: $LATEST\n"...)
		if err := put(); err != nil {
			return c, err
		}
		// 24 application lines and an XRAY line for every 13 invocations: 64 lines with their START, END and REPORT.
		n := 2
		if c.reports%13 < 2 {
			n = 1
		}
		for range n {
			line = application(line, rng, id, c.lines)
			if err := put(); err != nil {
				return c, err
			}
		}
		line = append(append(append(line, "END RequestId: "...), id...), '\n')
		if err := put(); err != nil {
			return c, err
		}
		line = c.report(line, rng, id)
		if err := put(); err != nil {
			return c, err
		}
		if c.reports%13 == 0 {
			line = append(line, "XRAY TraceId: 1-5759e988-bd862e3fe1be46a994272793\tSegmentId: 6f7c0e1d2b3a4958\tSampled: true\t\n"...)
			if err := put(); err != nil {
				return c, err
			}
		}
	}
	return c, w.Flush()
}

func requestID(rng *rand.Rand) []byte {
	return fmt.Appendf(nil, "%08x-%04x-4%03x-8%03x-%012x", rng.Uint32(), rng.Uint32()&0xffff, rng.Uint32()&0xfff, rng.Uint32()&0xfff, rng.Uint64()&0xffffffffffff)
}

// report writes a REPORT line: one in a hundred is cold, one in 500 failed.
func (c *counts) report(b []byte, rng *rand.Rand, id []byte) []byte {
	centis := int64(1000 + rng.ExpFloat64()*4000) // 10 ms and more, 50 ms in the mean
	billed := (centis + 99) / 100
	init := int64(0)
	if rng.IntN(100) == 0 {
		init = 8000 + rng.Int64N(4000)
		billed = (centis + init + 99) / 100
		c.cold++
	}
	b = append(append(b, "REPORT RequestId: "...), id...)
	b = hundredths(append(b, "\tDuration: "...), centis)
	b = strconv.AppendInt(append(b, " ms\tBilled Duration: "...), billed, 10)
	b = append(b, " ms\tMemory Size: 128 MB\tMax Memory Used: "...)
	b = append(strconv.AppendInt(b, 36+rng.Int64N(8), 10), " MB\t"...)
	if init > 0 {
		b = append(hundredths(append(b, "Init Duration: "...), init), " ms\t"...)
	}
	if rng.IntN(500) == 0 {
		b = append(b, "Status: error\tError Type: Runtime.ExitError\t"...)
	}
	c.reports++
	c.billedMS += billed
	return append(b, '\n')
}

func hundredths(b []byte, n int64) []byte { return fmt.Appendf(b, "%d.%02d", n/100, n%100) }

// application writes what a function prints.
func application(b []byte, rng *rand.Rand, id []byte, n int64) []byte {
	at := time.Date(2026, 11, 20, 17, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Millisecond).Format("2006-01-02T15:04:05.000Z")
	switch k := rng.IntN(1000); {
	case k < 2: // looks like a record and is none
		return append(b, "upstream answered: REPORT RequestId: none\tDuration: 1.00 ms\tBilled Duration: 999 ms\n"...)
	case k < 100:
		return fmt.Appendf(b, `{"time":%q,"level":"INFO","msg":"stored","org":"acme","cluster":"prod-%d","series":%d,"bytes":%d,"key":"org=acme/cluster=prod/date=2026-11-20/hour=17/%x.rw1.sz","request":%q}`+"\n",
			at, rng.IntN(900), rng.IntN(5000), rng.IntN(90000), rng.Uint64(), id)
	case k < 300:
		return fmt.Appendf(b, "%s\t%s\tINFO\tPut object org=acme/cluster=prod-%d/date=2026-11-20/hour=17/%016x%016x.rw1.sz with %d bytes, %d series after %d ms, attempt 1 of 2, server POST /api/v1/write from 10.0.%d.%d\n",
			at, id, rng.IntN(900), rng.Uint64(), rng.Uint64(), rng.IntN(90000), rng.IntN(5000), rng.IntN(40), rng.IntN(256), rng.IntN(256))
	default:
		return fmt.Appendf(b, "[INFO] %s request %s: %d samples of %d series from prod-%d, snappy ratio %d.%02d, stored as org=acme/cluster=prod-%d/date=2026-11-20/hour=17/%016x%016x.rw1.sz in %d µs, depth %d, age %d s\n",
			at, id, rng.IntN(50000), rng.IntN(5000), rng.IntN(900), 2+rng.IntN(9), rng.IntN(100), rng.IntN(900), rng.Uint64(), rng.Uint64(), rng.IntN(9000), rng.IntN(9), rng.IntN(9000))
	}
}
