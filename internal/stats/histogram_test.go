package stats

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

const day = 24 * time.Hour

// heavyTailed returns n latencies around 15 ms with a tail of minutes, the same for
// the same seed and, made of integers only, on every machine.
func heavyTailed(seed uint64, n int) []time.Duration {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([]time.Duration, n)
	for i := range out {
		out[i] = time.Duration(rng.Int64N(int64(20*time.Millisecond))) << min(bits.TrailingZeros64(rng.Uint64()), 14)
	}
	return out
}

func record(tb testing.TB, h *Histogram, latencies ...time.Duration) *Histogram {
	tb.Helper()
	for _, d := range latencies {
		if err := h.Record(d); err != nil {
			tb.Fatalf("Record(%v): %v", d, err)
		}
	}
	return h
}

// slowQuantileNS is numpy's linear rule in exact arithmetic; q is per 100,000.
func slowQuantileNS(sorted []time.Duration, q int64) float64 {
	h := big.NewRat(int64(len(sorted)-1)*q, 100_000)
	j := new(big.Int).Quo(h.Num(), h.Denom()).Int64()
	weight := new(big.Rat).Sub(h, new(big.Rat).SetInt64(j))
	a := new(big.Rat).SetInt64(int64(sorted[j]))
	b := new(big.Rat).SetInt64(int64(sorted[min(int(j)+1, len(sorted)-1)]))
	r := b.Sub(b, a)
	r.Mul(r, weight).Add(r, a)
	f, _ := r.Float64()
	return f
}

// kinds are the two stores behind a histogram; what holds for one must hold for
// the other.
func kinds() map[string]func() *Histogram {
	return map[string]func() *Histogram{
		"dense":  NewHistogram,
		"packed": NewPackedHistogram,
		"zero":   func() *Histogram { return new(Histogram) },
	}
}

func TestQuantileAgainstOrderStatistics(t *testing.T) {
	repeat := func(d time.Duration, n int) []time.Duration { return slices.Repeat([]time.Duration{d}, n) }
	ms := time.Millisecond
	outlier := make([]time.Duration, 0, 60_000)
	outlier = append(append(outlier, repeat(100*ms, 59_999)...), 9*time.Second)
	cases := map[string][]time.Duration{
		"one":           {5 * ms},
		"two far apart": {ms, time.Second},
		"constant":      repeat(7*ms, 1000),
		"zeros":         repeat(0, 10),
		"sub-µs":        {1, 2, 3, 100, 511, 512, 513, 1000},
		"bimodal even":  append(repeat(ms, 50), repeat(time.Second, 50)...),
		"bimodal odd":   append(repeat(ms, 50), repeat(time.Second, 51)...),
		"outlier":       outlier,
		"2.8 h":         append(repeat(10*ms, 40), 10_080*time.Second),
		"24 h":          {day, day - 1, time.Second},
		"heavy tail":    heavyTailed(1, 20_000),
	}
	qs := []int64{0, 1, 1_000, 25_000, 50_000, 75_000, 90_000, 95_000, 99_000, 99_900, 99_990, 99_999, 100_000}
	for name, latencies := range cases {
		sorted := slices.Sorted(slices.Values(latencies))
		for kind, newHistogram := range kinds() {
			t.Run(name+"/"+kind, func(t *testing.T) {
				h := record(t, newHistogram(), latencies...)
				all := make([]float64, len(qs))
				for i, q := range qs {
					all[i] = float64(q) / 100_000
				}
				got := h.Quantiles(all...)
				for i, q := range qs {
					want := slowQuantileNS(sorted, q)
					bound := want/2048 + 256
					if diff := math.Abs(got[i]*1e6 - want); diff > bound+1e-3 {
						t.Errorf("q=%d/100000: got %v ns, want %v ± %v", q, got[i]*1e6, want, bound)
					}
					if one := h.Quantile(all[i]); one != time.Duration(math.Round(got[i]*1e6)) {
						t.Errorf("q=%d/100000: Quantile says %v, Quantiles %v ms", q, one, got[i])
					}
				}
				if h.Quantile(0) != h.Min() || h.Quantile(1) != h.Max() {
					t.Errorf("ends are %v and %v, want exactly %v and %v", h.Quantile(0), h.Quantile(1), h.Min(), h.Max())
				}
			})
		}
	}
}

func TestQuantileExactCases(t *testing.T) {
	h := record(t, NewHistogram(), time.Millisecond, time.Second)
	if got := h.Quantile(0.5); got != 500500*time.Microsecond {
		t.Errorf("the median of 1 and 1000 ms is %v, want 500.5ms", got)
	}
	h = NewHistogram()
	for range 59_999 {
		record(t, h, 100*time.Millisecond)
	}
	record(t, h, 9*time.Second)
	// h = 59999 * 0.99999 = 59998.40001: 40.001 % of the way from 100 to 9,000 ms.
	if got, want := h.Quantiles(0.99999)[0], 100+0.40001*8900; math.Abs(got-want) > 0.05 {
		t.Errorf("p99.999 of 60,000 with one outlier is %v ms, want %v", got, want)
	}
}

func TestQuantileArguments(t *testing.T) {
	h := record(t, NewHistogram(), time.Millisecond, 2*time.Millisecond, 9*time.Millisecond)
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{
		{math.NaN(), time.Millisecond},
		{math.Inf(-1), time.Millisecond},
		{-0.5, time.Millisecond},
		{1.5, 9 * time.Millisecond},
		{99, 9 * time.Millisecond},
		{math.Inf(1), 9 * time.Millisecond},
	} {
		if got := h.Quantile(c.q); got != c.want {
			t.Errorf("Quantile(%v) = %v, want %v", c.q, got, c.want)
		}
	}
	if got := h.Quantiles(); len(got) != 0 {
		t.Errorf("no quantiles asked for, got %v", got)
	}
	if got := new(Histogram).Quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %v, want 0", got)
	}
}

func TestRecordOverflow(t *testing.T) {
	for kind, newHistogram := range kinds() {
		t.Run(kind, func(t *testing.T) {
			h := record(t, newHistogram(), time.Second, 2*time.Hour, day)
			if h.Overflow() != 0 || h.Max() != day {
				t.Fatalf("before: overflow %d, max %v", h.Overflow(), h.Max())
			}
			record(t, h, 25*time.Hour)
			if h.Count() != 4 || h.Overflow() != 1 {
				t.Errorf("count %d, overflow %d, want 4 and 1", h.Count(), h.Overflow())
			}
			if h.Max() != 25*time.Hour || h.Quantile(1) != 25*time.Hour {
				t.Errorf("max %v, p100 %v, want 25h exactly", h.Max(), h.Quantile(1))
			}
			if want := (time.Second + 51*time.Hour) / 4; h.Mean() != want {
				t.Errorf("mean %v, want %v", h.Mean(), want)
			}
			record(t, h, math.MaxInt64, math.MaxInt64)
			if h.Max() != math.MaxInt64 || h.Overflow() != 3 {
				t.Errorf("max %v, overflow %d", h.Max(), h.Overflow())
			}
			if h.Mean() <= 0 || h.StdDev() <= 0 {
				t.Errorf("mean %d and stddev %d wrapped", h.Mean(), h.StdDev())
			}
			if b := h.Deltas().BoundMS.D5; b < float64(math.MaxInt64-day)/1e6 {
				t.Errorf("bound %v ms hides that overflows have no bucket", b)
			}
		})
	}
}

// There is no bucket above 24 h: what lies there reads as the maximum.
func TestQuantileAboveRange(t *testing.T) {
	h := record(t, NewHistogram(), time.Second, 25*time.Hour, 30*time.Hour)
	if got := h.Quantile(0.5); got != 30*time.Hour {
		t.Errorf("median %v, want 30h", got)
	}
	if got := h.Quantile(0.25); got <= 14*time.Hour || got >= 16*time.Hour {
		t.Errorf("p25 %v, want half of the way from 1s to 30h", got)
	}
}

// The squares of eight of the longest durations need more than 128 bits.
func TestMomentsOfTheLongest(t *testing.T) {
	h := NewPackedHistogram()
	for range 8 {
		record(t, h, 0, math.MaxInt64)
	}
	half := float64(math.MaxInt64) / 2
	if mean, std := float64(h.Mean()), float64(h.StdDev()); math.Abs(mean-half) > 1e-9*half || math.Abs(std-half) > 1e-9*half {
		t.Errorf("mean %v, stddev %v, want both %v", mean, std, half)
	}
}

func TestRecordNegative(t *testing.T) {
	for kind, newHistogram := range kinds() {
		t.Run(kind, func(t *testing.T) {
			h := record(t, newHistogram(), time.Second)
			if err := h.Record(-1); !errors.Is(err, ErrNegativeLatency) {
				t.Fatalf("Record(-1) = %v, want ErrNegativeLatency", err)
			}
			if h.Count() != 1 || h.Negative() != 1 || h.Min() != time.Second {
				t.Errorf("count %d, negative %d, min %v", h.Count(), h.Negative(), h.Min())
			}
			o := newHistogram()
			_ = o.Record(-5)
			h.Merge(o)
			if h.Negative() != 2 {
				t.Errorf("negative %d after merging, want 2", h.Negative())
			}
		})
	}
}

// A narrow spread on top of a large mean: sums of floats lose all of it.
func TestStdDevDoesNotCancel(t *testing.T) {
	h := NewHistogram()
	base := 20 * time.Hour
	const n = 100_000
	for i := range n {
		record(t, h, base+time.Duration(i%2)*2)
	}
	if h.Mean() != base+1 {
		t.Errorf("mean %d, want %d", h.Mean(), base+1)
	}
	if h.StdDev() != 1 {
		t.Errorf("stddev %d ns, want 1", h.StdDev())
	}
}

func TestMeanAndStdDev(t *testing.T) {
	latencies := heavyTailed(3, 5000)
	h := record(t, NewPackedHistogram(), latencies...)
	var mean, squares float64
	for _, d := range latencies {
		mean += float64(d) / float64(len(latencies))
	}
	for _, d := range latencies {
		squares += (float64(d) - mean) * (float64(d) - mean)
	}
	std := math.Sqrt(squares / float64(len(latencies)))
	if diff := math.Abs(float64(h.Mean()) - mean); diff > 1 {
		t.Errorf("mean %v, want %v ns", h.Mean(), mean)
	}
	if diff := math.Abs(float64(h.StdDev()) - std); diff > 1 {
		t.Errorf("stddev %v, want %v ns", h.StdDev(), std)
	}
	// Half a nanosecond rounds up, less rounds down.
	if got := record(t, NewHistogram(), 1, 2).Mean(); got != 2 {
		t.Errorf("mean of 1 and 2 ns is %d, want 2", got)
	}
	if got := record(t, NewHistogram(), 1, 1, 2).Mean(); got != 1 {
		t.Errorf("mean of 1, 1 and 2 ns is %d, want 1", got)
	}
}

// state is all that a histogram knows, in a form that can be compared.
func state(tb testing.TB, h *Histogram) string {
	tb.Helper()
	encoded, err := h.Encode()
	if err != nil {
		tb.Fatalf("Encode: %v", err)
	}
	return fmt.Sprintf("%d %+v %s", h.Count(), h.Moments(), encoded)
}

// Sharding, the mix of stores, the order and the grouping of merges: nothing may
// show in the result.
func TestMergeIsExact(t *testing.T) {
	latencies := append(heavyTailed(4, 4000), 0, 0, 25*time.Hour, 30*time.Hour, day, 1)
	want := record(t, NewHistogram(), latencies...)
	_ = want.Record(-1)
	newHistograms := []func() *Histogram{NewHistogram, NewPackedHistogram, func() *Histogram { return new(Histogram) }}
	rng := rand.New(rand.NewPCG(5, 6))
	for round := range 10 {
		shards := make([]*Histogram, 1+rng.IntN(7))
		for i := range shards {
			shards[i] = newHistograms[rng.IntN(3)]()
		}
		shuffled := slices.Clone(latencies)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for _, d := range shuffled {
			record(t, shards[rng.IntN(len(shards))], d)
		}
		_ = shards[rng.IntN(len(shards))].Record(-1)
		// Merge random neighbours until one is left: a random tree.
		for len(shards) > 1 {
			i := rng.IntN(len(shards) - 1)
			before := state(t, shards[i+1])
			shards[i].Merge(shards[i+1])
			if state(t, shards[i+1]) != before {
				t.Fatal("Merge changed its argument")
			}
			shards = slices.Delete(shards, i+1, i+2)
		}
		if state(t, shards[0]) != state(t, want) {
			t.Fatalf("round %d: merged shards differ from one histogram", round)
		}
		if shards[0].Latency() != want.Latency() {
			t.Fatalf("round %d: %+v is not %+v", round, shards[0].Latency(), want.Latency())
		}
	}
}

func TestMergeEdges(t *testing.T) {
	for kind, newHistogram := range kinds() {
		t.Run(kind, func(t *testing.T) {
			h := record(t, newHistogram(), time.Second, 3*time.Second)
			before := state(t, h)
			h.Merge(nil)
			h.Merge(new(Histogram))
			h.Merge(NewPackedHistogram())
			if state(t, h) != before {
				t.Error("merging nothing changed the histogram")
			}
			into := new(Histogram)
			into.Merge(h)
			if state(t, into) != before {
				t.Error("merging into the zero value is not copying")
			}
			h.Merge(h)
			if h.Count() != 4 || h.Mean() != 2*time.Second || h.Min() != time.Second || h.Max() != 3*time.Second {
				t.Errorf("merged with itself: %+v", h.Latency())
			}
			if want := record(t, NewHistogram(), time.Second, time.Second, 3*time.Second, 3*time.Second); state(t, h) != state(t, want) {
				t.Error("merging with itself is not doubling")
			}
		})
	}
}

// TestReset: an emptied histogram is as good as a new one, dense, packed or without a store yet.
func TestReset(t *testing.T) {
	for name, create := range map[string]func() *Histogram{"dense": NewHistogram, "packed": NewPackedHistogram, "zero": func() *Histogram { return &Histogram{} }} {
		used, fresh := create(), create()
		for _, d := range []time.Duration{-1, 0, time.Millisecond, 25 * time.Hour} {
			_ = used.Record(d) // the negative one is refused
		}
		used.Reset()
		if used.Count() != 0 || used.Max() != 0 || used.Negative() != 0 || used.Overflow() != 0 {
			t.Errorf("%s: not empty: %+v", name, used.Latency())
		}
		for _, h := range []*Histogram{used, fresh} {
			for i := range 100 {
				if err := h.Record(time.Duration(i) * time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
		}
		if want, got := fresh.Latency(), used.Latency(); got != want {
			t.Errorf("%s: a new one has %+v, the emptied one %+v", name, want, got)
		}
	}
}

// Percentiles come from all the values, not from an average of two percentiles.
func TestMergedPercentileIsNoAverage(t *testing.T) {
	a, b := NewHistogram(), NewPackedHistogram()
	for range 99 {
		record(t, a, time.Millisecond)
	}
	record(t, a, time.Second)
	for range 100 {
		record(t, b, time.Millisecond)
	}
	a.Merge(b)
	if got := a.Latency(); math.Abs(got.P99MS-1) > 0.001 || got.MaxMS != 1000 || got.Count != 200 {
		t.Errorf("got %+v, want p99 1 ms of 200", got)
	}
}

func TestLatencyDecimals(t *testing.T) {
	l := record(t, NewHistogram(), heavyTailed(7, 1000)...).Latency()
	for name, v := range map[string]float64{
		"min": l.MinMS, "mean": l.MeanMS, "stddev": l.StdDevMS, "p50": l.P50MS, "p90": l.P90MS, "p95": l.P95MS,
		"p99": l.P99MS, "p99.9": l.P999MS, "p99.99": l.P9999MS, "p99.999": l.P99999MS, "max": l.MaxMS,
	} {
		text := fmt.Sprint(v)
		if _, decimals, _ := strings.Cut(text, "."); len(decimals) > 6 || strings.Contains(text, "e") {
			t.Errorf("%s prints as %s, want at most six decimals", name, text)
		}
	}
	if !slices.IsSorted([]float64{l.MinMS, l.P50MS, l.P90MS, l.P95MS, l.P99MS, l.P999MS, l.P9999MS, l.P99999MS, l.MaxMS}) {
		t.Errorf("percentiles do not rise: %+v", l)
	}
	if new(Histogram).Latency() != (Latency{}) {
		t.Error("the summary of nothing is not zero")
	}
}

func TestEncodeDecode(t *testing.T) {
	for name, latencies := range map[string][]time.Duration{
		"empty":      nil,
		"one":        {5 * time.Millisecond},
		"zero":       {0, 0},
		"heavy tail": heavyTailed(8, 3000),
		"overflow":   {time.Second, day, 25 * time.Hour, 26 * time.Hour},
		"only over":  {25 * time.Hour, 26 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			dense := record(t, NewHistogram(), latencies...)
			packed := record(t, NewPackedHistogram(), latencies...)
			_ = dense.Record(-1)
			_ = packed.Record(-1)
			encoded, err := dense.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if state(t, dense) != state(t, packed) {
				t.Error("dense and packed encode differently")
			}
			restored, err := RestoreHistogram(encoded, dense.Moments())
			if err != nil {
				t.Fatal(err)
			}
			if state(t, restored) != state(t, dense) || restored.Latency() != dense.Latency() {
				t.Errorf("restored %+v, want %+v", restored.Latency(), dense.Latency())
			}
			decoded, err := DecodeHistogram(encoded)
			if err != nil {
				t.Fatal(err)
			}
			again, err := decoded.Encode()
			if err != nil || again != encoded {
				t.Errorf("encoding what was decoded gives other bytes (err %v)", err)
			}
			if decoded.Count() != dense.Count() {
				t.Errorf("decoded count %d, want %d", decoded.Count(), dense.Count())
			}
			if _, err := RestoreHistogram(encoded, decoded.Moments()); err != nil {
				t.Errorf("the moments of a decoded histogram do not fit it: %v", err)
			}
			if dense.Overflow() > 0 {
				return
			}
			for _, pair := range [][2]time.Duration{
				{decoded.Min(), dense.Min()},
				{decoded.Max(), dense.Max()},
				{decoded.Mean(), dense.Mean()},
				{decoded.Quantile(0.9), dense.Quantile(0.9)},
			} {
				if diff := math.Abs(float64(pair[0] - pair[1])); diff > float64(pair[1])/1024+512 {
					t.Errorf("decoded %v is too far from %v", pair[0], pair[1])
				}
			}
		})
	}
}

// The encoding is read by other libraries, so the library must read it as such.
func TestEncodeIsV2(t *testing.T) {
	encoded, err := record(t, NewPackedHistogram(), time.Millisecond, time.Second).Encode()
	if err != nil {
		t.Fatal(err)
	}
	h, err := hdr.Decode([]byte(encoded))
	if err != nil {
		t.Fatal(err)
	}
	if h.TotalCount() != 2 || h.LowestTrackableValue() != 1000 || h.HighestTrackableValue() != int64(day) || h.SignificantFigures() != 3 {
		t.Errorf("count %d, range %d to %d, %d digits", h.TotalCount(), h.LowestTrackableValue(), h.HighestTrackableValue(), h.SignificantFigures())
	}
	if !h.ValuesAreEquivalent(h.Max(), int64(time.Second)) {
		t.Errorf("max %d ns, want the bucket of 1 s", h.Max())
	}
}

func encodeForeign(tb testing.TB, h *hdr.Histogram) string {
	tb.Helper()
	b, err := h.EncodeV2()
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestDecodeRefuses(t *testing.T) {
	beyond := hdr.New(lowestNS, highestNS, digits)
	if err := beyond.RecordValue(int64(30 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	huge := hdr.New(lowestNS, highestNS, digits)
	if err := huge.RecordValues(1000, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	valid, err := record(t, NewHistogram(), heavyTailed(9, 100)...).Encode()
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(valid)
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct{ in, want string }{
		"empty":          {"", "there is none"},
		"text":           {"not base64!", "illegal base64"},
		"short":          {"AAAA", "EOF"},
		"cut off":        {valid[:len(valid)/2/4*4], ""},
		"damaged":        {string(flipped), ""},
		"other range":    {encodeForeign(t, hdr.New(1, 3_600_000_000, 3)), "range is 1 to 3600000000 with 3 digits"},
		"other digits":   {encodeForeign(t, hdr.New(lowestNS, highestNS, 2)), "with 2 digits"},
		"wide":           {encodeForeign(t, hdr.New(1, math.MaxInt64/4, 5)), "with 5 digits"},
		"above 24 h":     {encodeForeign(t, beyond), "above 86400000000000 ns"},
		"count too high": {encodeForeign(t, huge), "can be trusted"},
		"long":           {strings.Repeat("A", maxEncodedBytes+4), "more than the"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := DecodeHistogram(c.in)
			if err == nil || h != nil {
				t.Fatalf("got %v and no error", h)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

func TestRestoreRefuses(t *testing.T) {
	h := record(t, NewHistogram(), time.Millisecond, 5*time.Millisecond, 10*time.Millisecond)
	encoded, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	empty, err := NewHistogram().Encode()
	if err != nil {
		t.Fatal(err)
	}
	over := record(t, NewHistogram(), time.Second, 25*time.Hour)
	overEncoded, err := over.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		encoded string
		from    *Histogram
		change  func(*Moments)
	}{
		"minimum too low":         {encoded, h, func(m *Moments) { m.MinNS = 0 }},
		"minimum too high":        {encoded, h, func(m *Moments) { m.MinNS = 2e6 }},
		"maximum too low":         {encoded, h, func(m *Moments) { m.MaxNS = 9e6 }},
		"maximum too high":        {encoded, h, func(m *Moments) { m.MaxNS = 11e6 }},
		"maximum without over":    {overEncoded, over, func(m *Moments) { m.Overflow = 0 }},
		"overflow without max":    {encoded, h, func(m *Moments) { m.Overflow = 1 }},
		"overflow above count":    {overEncoded, over, func(m *Moments) { m.Overflow = 3 }},
		"negative overflow":       {encoded, h, func(m *Moments) { m.Overflow = -1 }},
		"negative negative":       {encoded, h, func(m *Moments) { m.Negative = -1 }},
		"sum too low":             {encoded, h, func(m *Moments) { m.SumNS = "2999999" }},
		"sum too high":            {encoded, h, func(m *Moments) { m.SumNS = "30000001" }},
		"sum empty":               {encoded, h, func(m *Moments) { m.SumNS = "" }},
		"sum signed":              {encoded, h, func(m *Moments) { m.SumNS = "+16000000" }},
		"sum of 129 bits":         {encoded, h, func(m *Moments) { m.SumNS = "340282366920938463463374607431768211456" }},
		"sum of a million digits": {encoded, h, func(m *Moments) { m.SumNS = strings.Repeat("9", 1_000_000) }},
		"squares too low":         {encoded, h, func(m *Moments) { m.SumOfSquaresNS2 = "1" }},
		"squares too high":        {encoded, h, func(m *Moments) { m.SumOfSquaresNS2 = "999999999999999999" }},
		"not empty":               {empty, h, func(*Moments) {}},
	} {
		t.Run(name, func(t *testing.T) {
			m := c.from.Moments()
			c.change(&m)
			if got, err := RestoreHistogram(c.encoded, m); err == nil || got != nil {
				t.Errorf("got %+v and no error", got)
			}
		})
	}
	if _, err := RestoreHistogram(encoded, h.Moments()); err != nil {
		t.Errorf("unchanged moments: %v", err)
	}
}

func TestBucketWidthIsTheLibrarys(t *testing.T) {
	h := hdr.New(lowestNS, highestNS, digits)
	for _, v := range []int64{0, 511, 512, 1000, 1 << 19, 1<<20 - 1, 1 << 20, 1<<20 + 1, 1e9, 1<<40 + 12345, highestNS} {
		p := hdr.NewPacked(lowestNS, highestNS, digits)
		if err := p.RecordValue(v); err != nil {
			t.Fatal(err)
		}
		for low := range p.ForEachBucket {
			width := bucketWidthNS(low)
			if v < low || v >= low+width {
				t.Errorf("%d is outside its bucket %d+%d", v, low, width)
			}
			if !h.ValuesAreEquivalent(low, low+width-1) || h.ValuesAreEquivalent(low, low+width) {
				t.Errorf("the bucket of %d is not %d wide", low, width)
			}
		}
	}
}

// TestSums128 adds up squares that leave 128 bits and multiplies by shifting.
func TestSums128(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 11))
	for range 200 {
		v, n := rng.Uint64()>>1, rng.Uint64()>>rng.IntN(64)
		want := new(big.Int).Mul(new(big.Int).SetUint64(v), new(big.Int).SetUint64(v))
		sq := square(v)
		if words(sq[:]).Cmp(want) != 0 {
			t.Fatalf("%d² = %v, want %v", v, words(sq[:]), want)
		}
		want.Mul(want, new(big.Int).SetUint64(n))
		product := timesWide(sq, n)
		if words(product[:]).Cmp(want) != 0 {
			t.Fatalf("%d² * %d = %v, want %v", v, n, words(product[:]), want)
		}
		back, err := parseWords(want.String(), 3)
		if err != nil || words(back).Cmp(want) != 0 {
			t.Fatalf("parseWords(%v) = %v, %v", want, back, err)
		}
	}
}

func FuzzDecodeHistogram(f *testing.F) {
	for _, latencies := range [][]time.Duration{nil, {0}, {time.Second}, heavyTailed(12, 50), {day, 25 * time.Hour}} {
		s, err := record(f, NewPackedHistogram(), latencies...).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s)
	}
	f.Add(encodeForeign(f, hdr.New(1, math.MaxInt64/4, 5)))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := DecodeHistogram(s)
		if err != nil {
			if h != nil {
				t.Fatal("both a histogram and an error")
			}
			return
		}
		if h.Count() > 0 && (h.Min() > h.Quantile(0.5) || h.Quantile(0.5) > h.Max()) {
			t.Fatalf("min %v, median %v, max %v", h.Min(), h.Quantile(0.5), h.Max())
		}
		encoded, err := h.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := RestoreHistogram(encoded, h.Moments())
		if err != nil {
			t.Fatalf("encoding what was decoded: %v", err)
		}
		if state(t, back) != state(t, h) {
			t.Fatal("the way there and back changes the histogram")
		}
	})
}

func ExampleHistogram() {
	h := NewHistogram()
	for i := range 100 {
		if err := h.Record(time.Duration(i+1) * time.Millisecond); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(h.Count(), h.Min(), h.Mean(), h.Max())
	// Output: 100 1ms 50.5ms 100ms
}

// Budget: 10 ns for dense, 150 ns for packed.
func BenchmarkRecord(b *testing.B) {
	latencies := heavyTailed(13, 1<<12)
	for _, c := range []struct {
		name string
		h    *Histogram
	}{{"dense", NewHistogram()}, {"packed", NewPackedHistogram()}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				_ = c.h.Record(latencies[i&(1<<12-1)])
				i++
			}
		})
	}
}

func BenchmarkLatency(b *testing.B) {
	h := record(b, NewHistogram(), heavyTailed(14, 100_000)...)
	b.ReportAllocs()
	for b.Loop() {
		_ = h.Latency()
	}
}
