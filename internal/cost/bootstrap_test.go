package cost_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// invocation is a billed record of a function with 128 MB.
func invocation(billedMS int, cold bool, at time.Time, stream string) lambdalog.Invocation {
	d := lambdalog.MillisOf(time.Duration(billedMS) * time.Millisecond)
	return lambdalog.Invocation{
		Kind: lambdalog.KindReport, Billable: true, Memory: 128, Duration: d, Billed: d, Cold: cold, Time: at, Stream: stream,
	}
}

// A large sample is resampled too, and gives what the central limit theorem says.
func TestBootstrapOfManyRecords(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	const n = 100_000
	values := make([]float64, n)
	var warm, cold []float64
	u := new(cost.Usage)
	for i := range values {
		ms, isCold := 2+int(math.Exp(4+0.8*rng.NormFloat64())), rng.Float64() < 0.01
		if isCold {
			ms += 9000
			cold = append(cold, float64(ms))
		} else {
			warm = append(warm, float64(ms))
		}
		values[i] = float64(ms)
		u.Add(invocation(ms, isCold, time.Time{}, ""))
	}
	mean, squares := 0.0, 0.0
	for _, v := range values {
		mean += v / n
	}
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	half := 1.96 * math.Sqrt(squares/(n-1)/n)
	slices.Sort(warm)
	slices.Sort(cold)
	for name, v := range map[string]cost.Interval{
		"usage": u.Interval(1), "values": cost.MeanInterval(warm, cold, rand.New(rand.NewPCG(2, 2))),
	} {
		if v.Method != "bootstrap" || v.Samples != n || v.Colds != len(cold) {
			t.Errorf("%s: %+v", name, v)
		}
		// The bounds of 2,000 replicates have an error of about 4 % of half the width.
		if math.Abs(v.Low-(mean-half)) > 0.12*half || math.Abs(v.High-(mean+half)) > 0.12*half {
			t.Errorf("%s: [%.2f, %.2f], want about [%.2f, %.2f]", name, v.Low, v.High, mean-half, mean+half)
		}
	}
	if u.Interval(1) != u.Interval(1) || u.Interval(1) == u.Interval(2) {
		t.Error("the seed does not decide the interval")
	}
	before := u.Interval(1)
	u.Add(invocation(100_000, true, time.Time{}, ""))
	if u.Interval(1) == before {
		t.Error("a record was added and the interval stayed")
	}
}

// Where the same durations come in blocks, the interval is that of the blocks.
func TestIntervalByBlocks(t *testing.T) {
	start := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	add := func(streams, hours bool) *cost.Usage {
		rng := rand.New(rand.NewPCG(3, 3))
		u := new(cost.Usage)
		for b := range 40 {
			level := 50 + int(40*rng.Float64()) // what an environment or an hour has in common
			for i := range 50 {
				at, stream := time.Time{}, ""
				if streams {
					stream = fmt.Sprintf("2026/11/20/[$LATEST]%032d", b)
				}
				if hours {
					at = start.Add(time.Duration(b)*time.Hour + time.Duration(i)*time.Minute)
				}
				u.Add(invocation(level+rng.IntN(5), i == 0, at, stream))
			}
		}
		return u
	}
	single := add(false, false).Interval(1)
	byStream, byHour := add(true, true).Interval(1), add(false, true).Interval(1)
	if single.Method != "bootstrap" || byStream.Method != "bootstrap by log stream" || byHour.Method != "bootstrap by hour" {
		t.Errorf("methods %q, %q, %q", single.Method, byStream.Method, byHour.Method)
	}
	// 40 levels decide, not 2,000 records: the interval is about √50 times wider.
	if ratio := (byStream.High - byStream.Low) / (single.High - single.Low); ratio < 5 || ratio > 9 {
		t.Errorf("blocks make the interval ×%.2f wider, want about ×7", ratio)
	}
	if byStream.Samples != 2000 || byStream.Colds != 40 {
		t.Errorf("%+v", byStream)
	}
	few := new(cost.Usage)
	for i := range 200 {
		few.Add(invocation(50, false, time.Time{}, fmt.Sprintf("2026/11/20/[$LATEST]%d", i%19)))
	}
	if v := few.Interval(1); v.Method != "bootstrap" {
		t.Errorf("19 streams: %q", v.Method)
	}
	some := add(true, false)
	some.Add(invocation(50, false, time.Time{}, ""))
	if v := some.Interval(1); v.Method != "bootstrap" {
		t.Errorf("a record without a stream: %q", v.Method)
	}
}

// The records' own streams arrive in the usage.
func TestStreamsOfRecords(t *testing.T) {
	var text strings.Builder
	for i := range 60 {
		fmt.Fprintf(&text, "2026-11-20T17:%02d:00.000000+00:00 2026/11/20/[$LATEST]%032d REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: %d.00 ms\tBilled Duration: %d ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\n", i, i%20, 40+i, 40+i)
	}
	u, err := cost.UsageOf(lambdalog.Scan(strings.NewReader(text.String()), "tail.log"))
	if err != nil {
		t.Fatal(err)
	}
	if v := u.Interval(1); v.Method != "bootstrap by log stream" || v.Samples != 60 {
		t.Errorf("%+v", v)
	}
}

// The percentile interval covers the true mean about as often as it says.
func TestIntervalCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 4))
	const trials = 200
	covered := 0
	for range trials {
		var warm, cold []float64
		for range 400 {
			if rng.Float64() < 0.05 {
				cold = append(cold, 800+100*rng.ExpFloat64())
			} else {
				warm = append(warm, 40+30*rng.ExpFloat64())
			}
		}
		slices.Sort(warm)
		slices.Sort(cold)
		v := cost.MeanInterval(warm, cold, rng)
		if mean := 0.95*70 + 0.05*900; v.Low <= mean && mean <= v.High {
			covered++
		}
	}
	// 95 % of 200 are 190; four standard deviations of a binomial are 12.
	if covered < 177 {
		t.Errorf("%d of %d intervals hold the true mean, want about 190", covered, trials)
	}
}

// forecastOf builds the forecast that the speed goal is stated for: so many architectures over 24 months,
// each with 100,000 records of its own.
func forecastOf(tb testing.TB, architectures int) *cost.Scenario {
	tb.Helper()
	s := scenario(tb, cost.Traffic{Clusters: decp(tb, "891.5"), PerClusterPerHour: decp(tb, "1500"), PayloadBytes: decp(tb, "65536")})
	s.Month, s.Months, s.Growth, s.FreeTier = cost.MonthCalendar, 24, dec(tb, "0.02"), true
	for i := range architectures {
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		u := new(cost.Usage)
		for k := range 100_000 {
			u.Add(invocation(1+int(math.Exp(4.2+0.3*float64(i%8)+0.6*rng.NormFloat64())), k%100 == 0, time.Time{}, ""))
		}
		s.Architectures = append(s.Architectures, cost.Architecture{
			Name: fmt.Sprintf("a%d", i), Functions: []cost.Function{{Arch: cost.ArchARM, Billed: cost.Billed{Usage: u}}},
			Services: []cost.Service{
				cost.APIGateway{}, cost.S3{PutsPerRequest: cost.Int(1)}, cost.Logs{Kind: cost.LogsVended, BytesPerRequest: cost.Int(370)},
			},
		})
	}
	return s
}

// BenchmarkForecast is the speed goal: 24 months of 10 architectures with 2,000 bootstrap replicates over
// 100,000 records each take less than a second. goal/op is how often the goal would fit into the time taken.
func BenchmarkForecast(b *testing.B) {
	s, book := forecastOf(b, 10), book(b)
	b.ReportAllocs()
	seed := uint64(1)
	for b.Loop() {
		s.Seed = seed // another seed, so that nothing is kept from the last time
		seed++
		if _, err := cost.Forecast(s, book); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(time.Second)/(float64(b.Elapsed())/float64(b.N)), "goal/op")
}

// BenchmarkInterval resamples 100,000 records 2,000 times. draws/s counts the single draws that stand behind it.
func BenchmarkInterval(b *testing.B) {
	u := forecastOf(b, 1).Architectures[0].Functions[0].Billed.Usage
	seed := uint64(1)
	for b.Loop() {
		u.Interval(seed)
		seed++
	}
	b.ReportMetric(100_000*cost.Resamples/(b.Elapsed().Seconds()/float64(b.N)), "draws/s")
}
