package stats

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

// near is the tolerance of the exact method: 1e-6 ms and 1e-9 of the value.
func near(got, want float64) bool {
	return math.Abs(got-want) <= 1e-6+1e-9*math.Abs(want)
}

func collect(tb testing.TB, file string, method DeltaMethod, policy NegativePolicy) *Deltas {
	tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	c := NewDeltaCollector(method, policy)
	if err := ReadDeltasCSV(bytes.NewReader(data), file, c); err != nil {
		tb.Fatal(err)
	}
	d, err := c.Result()
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func readJSON(tb testing.TB, file string, v any) {
	tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		tb.Fatal(err)
	}
}

func (s *DeltaSet) list() [4]float64 { return [4]float64{s.D2MS, s.D3MS, s.D4MS, s.D5MS} }

func (l *Levels[T]) list() [4]T { return [4]T{l.D2, l.D3, l.D4, l.D5} }

type smallExpected struct {
	Info struct {
		Rows, Used, Skipped, Negative int64
	} `json:"info"`
	Pairs []struct {
		Src, Dst    string
		N           int64
		Median      float64
		D2, D3      float64
		D4, D5      float64
		BoundD2     float64 `json:"D2_bound"`
		BoundD3     float64 `json:"D3_bound"`
		BoundD4     float64 `json:"D4_bound"`
		BoundD5     float64 `json:"D5_bound"`
		SupportedAt []string
		Supported   []string
	} `json:"pairs"`
	Summary map[string]struct {
		Median, Mean, Std, Max, Min float64
	} `json:"summary"`
	Support      map[string]int     `json:"support"`
	SummaryBound map[string]float64 `json:"summary_bound"`
	Pooled       struct {
		N              int64
		Median         float64
		D2, D3, D4, D5 float64
		Supported      []string
	} `json:"pooled"`
}

var levelNames = [4]string{"D2", "D3", "D4", "D5"}

const smallDir = "../../fixtures/deltas/"

func TestSmallAgainstNumpy(t *testing.T) {
	var want smallExpected
	readJSON(t, smallDir+"small.expected.json", &want)
	for _, method := range []DeltaMethod{DeltaExact, DeltaHDR} {
		t.Run(string(method), func(t *testing.T) {
			d := collect(t, smallDir+"small.csv", method, NegativeKeep)
			if d.Method != method || d.Rows != want.Info.Rows || d.Used != want.Info.Used || d.Skipped != want.Info.Skipped || d.Negative != want.Info.Negative {
				t.Errorf("got method %s, rows %d, used %d, skipped %d, negative %d", d.Method, d.Rows, d.Used, d.Skipped, d.Negative)
			}
			if len(d.Pairs) != len(want.Pairs) {
				t.Fatalf("%d pairs, want %d", len(d.Pairs), len(want.Pairs))
			}
			within := func(got, want, bound float64) bool {
				if method == DeltaExact {
					return near(got, want)
				}
				return math.Abs(got-want) <= bound
			}
			for i, w := range want.Pairs {
				p := d.Pairs[i]
				if p.Source != w.Src || p.Destination != w.Dst || p.Count != w.N {
					t.Fatalf("pair %d is %s to %s with %d, want %s to %s with %d", i, p.Source, p.Destination, p.Count, w.Src, w.Dst, w.N)
				}
				bounds := [4]float64{w.BoundD2, w.BoundD3, w.BoundD4, w.BoundD5}
				if !within(p.MedianMS, w.Median, w.Median/2048+0.001) {
					t.Errorf("%s to %s: median %v, want %v", w.Src, w.Dst, p.MedianMS, w.Median)
				}
				for l, value := range [4]float64{w.D2, w.D3, w.D4, w.D5} {
					if got := p.list()[l]; !within(got, value, bounds[l]) {
						t.Errorf("%s to %s: %s %v, want %v ± %v", w.Src, w.Dst, levelNames[l], got, value, bounds[l])
					}
					if got := p.Supported.list()[l]; got != slices.Contains(w.Supported, levelNames[l]) {
						t.Errorf("%s to %s: %s supported %v", w.Src, w.Dst, levelNames[l], got)
					}
					wantBound := bounds[l]
					if method == DeltaExact {
						wantBound = 0
					}
					// The bound follows the measured percentile and not the true one, which
					// moves it by 1/1024 at most.
					if got := p.BoundMS.list()[l]; math.Abs(got-wantBound) > wantBound/1000 {
						t.Errorf("%s to %s: %s bound %v, want %v", w.Src, w.Dst, levelNames[l], got, wantBound)
					}
				}
			}
			for l, s := range d.Summary.list() {
				w, bound := want.Summary[levelNames[l]], want.SummaryBound[levelNames[l]]
				for _, v := range []struct {
					name      string
					got, want float64
				}{
					{"median", s.MedianMS, w.Median},
					{"mean", s.MeanMS, w.Mean},
					{"std", s.StdMS, w.Std},
					{"max", s.MaxMS, w.Max},
					{"min", s.MinMS, w.Min},
				} {
					if !within(v.got, v.want, bound) {
						t.Errorf("summary %s: %s %v, want %v ± %v", levelNames[l], v.name, v.got, v.want, bound)
					}
				}
				if s.SupportedPairs != want.Support[levelNames[l]] {
					t.Errorf("summary %s: %d pairs supported, want %d", levelNames[l], s.SupportedPairs, want.Support[levelNames[l]])
				}
			}
			pooled := [4]float64{want.Pooled.D2, want.Pooled.D3, want.Pooled.D4, want.Pooled.D5}
			for l, got := range d.Pooled.list() {
				bound := (pooled[l]+2*want.Pooled.Median)/2048 + 0.001
				if !within(got, pooled[l], bound) {
					t.Errorf("pooled %s %v, want %v ± %v", levelNames[l], got, pooled[l], bound)
				}
				if d.Pooled.Supported.list()[l] != slices.Contains(want.Pooled.Supported, levelNames[l]) {
					t.Errorf("pooled %s supported %v", levelNames[l], d.Pooled.Supported.list()[l])
				}
			}
			if d.Pooled.Count != want.Pooled.N {
				t.Errorf("pooled count %d, want %d", d.Pooled.Count, want.Pooled.N)
			}
		})
	}
}

// The golden table has two decimals in each cell.
func TestSmallTable(t *testing.T) {
	golden, err := os.ReadFile(smallDir + "small.expected.md")
	if err != nil {
		t.Fatal(err)
	}
	d := collect(t, smallDir+"small.csv", DeltaExact, NegativeKeep)
	lines := strings.Split(strings.TrimSpace(string(golden)), "\n")[2:]
	if len(lines) != 4 {
		t.Fatalf("%d lines, want 4", len(lines))
	}
	for l, s := range d.Summary.list() {
		var median, mean, std, high, low float64
		if _, err := fmt.Sscanf(lines[l], "| "+levelNames[l]+" | %f | %f | %f | %f | %f |", &median, &mean, &std, &high, &low); err != nil {
			t.Fatalf("line %q: %v", lines[l], err)
		}
		got := []float64{s.MedianMS, s.MeanMS, s.StdMS, s.MaxMS, s.MinMS}
		for i, want := range []float64{median, mean, std, high, low} {
			if math.Abs(got[i]-want) > 0.01 {
				t.Errorf("%s column %d: %v, want %v", levelNames[l], i, got[i], want)
			}
		}
	}
}

type adversarialExpected struct {
	Rows, Used, Skipped, Negative int64
	Pairs                         []struct {
		Source, Destination string
		Count               int64
		MedianMS            float64    `json:"median_ms"`
		DMS                 [4]float64 `json:"d_ms"`
	}
	Summary [4]DeltaSummary
	Pooled  struct {
		Count    int64
		MedianMS float64    `json:"median_ms"`
		DMS      [4]float64 `json:"d_ms"`
	}
}

func TestAdversarialAgainstNumpy(t *testing.T) {
	var all map[NegativePolicy]adversarialExpected
	readJSON(t, "testdata/adversarial.expected.json", &all)
	for _, c := range []struct {
		method DeltaMethod
		policy NegativePolicy
	}{
		{DeltaExact, NegativeKeep},
		{DeltaExact, NegativeClamp},
		{DeltaExact, NegativeDrop},
		{DeltaHDR, NegativeClamp},
		{DeltaHDR, NegativeDrop},
	} {
		t.Run(string(c.method)+"/"+string(c.policy), func(t *testing.T) {
			want := all[c.policy]
			d := collect(t, "testdata/adversarial.csv", c.method, c.policy)
			if d.Rows != want.Rows || d.Used != want.Used || d.Skipped != want.Skipped || d.Negative != want.Negative {
				t.Errorf("rows %d, used %d, skipped %d, negative %d; want %d, %d, %d, %d",
					d.Rows, d.Used, d.Skipped, d.Negative, want.Rows, want.Used, want.Skipped, want.Negative)
			}
			if len(d.Pairs) != len(want.Pairs) {
				t.Fatalf("%d pairs, want %d", len(d.Pairs), len(want.Pairs))
			}
			within := func(got, want, bound float64) bool {
				return near(got, want) || c.method == DeltaHDR && math.Abs(got-want) <= bound
			}
			for i, w := range want.Pairs {
				p := d.Pairs[i]
				if p.Source != w.Source || p.Destination != w.Destination || p.Count != w.Count {
					t.Fatalf("pair %d is %q to %q with %d, want %q to %q with %d", i, p.Source, p.Destination, p.Count, w.Source, w.Destination, w.Count)
				}
				if !within(p.MedianMS, w.MedianMS, w.MedianMS/2048+0.001) {
					t.Errorf("%q to %q: median %v, want %v", p.Source, p.Destination, p.MedianMS, w.MedianMS)
				}
				for l, value := range w.DMS {
					if bound := p.BoundMS.list()[l]; !within(p.list()[l], value, bound) {
						t.Errorf("%q to %q: %s %v, want %v ± %v", p.Source, p.Destination, levelNames[l], p.list()[l], value, bound)
					}
				}
			}
			for l, w := range want.Summary {
				s := d.Summary.list()[l]
				got := []float64{s.MedianMS, s.MeanMS, s.StdMS, s.MaxMS, s.MinMS}
				for i, value := range []float64{w.MedianMS, w.MeanMS, w.StdMS, w.MaxMS, w.MinMS} {
					if !within(got[i], value, s.BoundMS) {
						t.Errorf("summary %s column %d: %v, want %v ± %v", levelNames[l], i, got[i], value, s.BoundMS)
					}
				}
			}
			for l, value := range want.Pooled.DMS {
				if bound := d.Pooled.BoundMS.list()[l]; !within(d.Pooled.list()[l], value, bound) {
					t.Errorf("pooled %s %v, want %v ± %v", levelNames[l], d.Pooled.list()[l], value, bound)
				}
			}
			if d.Pooled.Count != want.Pooled.Count {
				t.Errorf("pooled count %d, want %d", d.Pooled.Count, want.Pooled.Count)
			}
		})
	}
}

// The seed's own sizes: one pair of many latencies against the slow rule.
func TestLargePairs(t *testing.T) {
	for _, n := range []int{100, 101, 1_000, 1_001, 10_000, 10_001, 43_200, 100_000, 100_001} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			latencies := heavyTailed(uint64(n), n)
			latencies[n/2] = 9 * time.Second
			sorted := slices.Sorted(slices.Values(latencies))
			exact, hists := NewDeltaCollector(DeltaExact, NegativeKeep), NewDeltaCollector(DeltaHDR, NegativeKeep)
			key := PairKey{"a", "b"}
			for _, d := range latencies {
				exact.Add(key, toMS(d))
				hists.Add(key, toMS(d))
			}
			for _, c := range []*DeltaCollector{exact, hists} {
				d, err := c.Result()
				if err != nil {
					t.Fatal(err)
				}
				p := d.Pairs[0]
				median := slowQuantileNS(sorted, 50_000)
				for l, q := range []int64{99_000, 99_900, 99_990, 99_999} {
					want := (slowQuantileNS(sorted, q) - median) / 1e6
					if got := p.list()[l]; math.Abs(got-want) > p.BoundMS.list()[l]+1e-6+1e-9*want {
						t.Errorf("%s: %s %v, want %v ± %v", c.method, levelNames[l], got, want, p.BoundMS.list()[l])
					}
					if got, want := p.Supported.list()[l], n >= []int{101, 1_001, 10_001, 100_001}[l]; got != want {
						t.Errorf("%s: %s supported %v, want %v", c.method, levelNames[l], got, want)
					}
				}
			}
		})
	}
}

func marshal(tb testing.TB, d *Deltas) string {
	tb.Helper()
	var b strings.Builder
	if err := d.WriteJSON(&b, Tool{"1.0.0", "abc"}); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// The order of rows must not show in a single byte.
func TestDeltasDoNotDependOnOrder(t *testing.T) {
	type row struct {
		key PairKey
		ms  float64
	}
	rng := rand.New(rand.NewPCG(20, 21))
	rows := make([]row, 3000)
	for i := range rows {
		rows[i] = row{PairKey{fmt.Sprint("s", rng.IntN(9)), fmt.Sprint("d", rng.IntN(3))}, math.Exp(3 * rng.NormFloat64())}
	}
	rows = append(rows, row{PairKey{"s0", "d0"}, math.Copysign(0, -1)}, row{PairKey{"s0", "d0"}, 0})
	for _, method := range []DeltaMethod{DeltaExact, DeltaHDR} {
		var want string
		for range 10 {
			c := NewDeltaCollector(method, NegativeKeep)
			for _, r := range rows {
				c.Add(r.key, r.ms)
			}
			d, err := c.Result()
			if err != nil {
				t.Fatal(err)
			}
			if again, err := c.Result(); err != nil || marshal(t, again) != marshal(t, d) {
				t.Fatalf("%s: a second Result differs (err %v)", method, err)
			}
			switch got := marshal(t, d); {
			case want == "":
				want = got
			case got != want:
				t.Fatalf("%s: shuffled rows give other bytes", method)
			}
			rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		}
		if strings.Contains(want, "-0,") || strings.Contains(want, "-0\n") {
			t.Errorf("%s: there is a -0 in the output", method)
		}
	}
}

func TestDeltasFromHistograms(t *testing.T) {
	a := record(t, NewPackedHistogram(), time.Millisecond, 3*time.Millisecond)
	_ = a.Record(-1)
	d := DeltasFromHistograms(map[PairKey]*Histogram{
		{"b", "x"}: record(t, NewHistogram(), 7*time.Millisecond),
		{"a", "y"}: a,
		{"a", "b"}: NewHistogram(),
		{"z", "z"}: nil,
	})
	if d.Rows != 4 || d.Used != 3 || d.Negative != 1 || d.Skipped != 0 || d.Method != DeltaHDR {
		t.Errorf("rows %d, used %d, negative %d, skipped %d", d.Rows, d.Used, d.Negative, d.Skipped)
	}
	if len(d.Pairs) != 2 || d.Pairs[0].Source != "a" || d.Pairs[1].Source != "b" {
		t.Fatalf("pairs %+v", d.Pairs)
	}
	if p := d.Pairs[0]; p.MinMS != 1 || p.MedianMS != 2 || !near(p.D2MS, 0.98) {
		t.Errorf("pair a to y: %+v", p)
	}
	if p := d.Pairs[1]; p.Count != 1 || p.D5MS != 0 || p.Supported != (Levels[bool]{}) {
		t.Errorf("a single latency must have deltas of 0, unsupported: %+v", p)
	}
	if d.Pooled.Count != 3 || d.Pooled.MedianMS < 2.99 || d.Pooled.MedianMS > 3.01 {
		t.Errorf("pooled %+v", d.Pooled)
	}
	empty := DeltasFromHistograms(nil)
	want := &Deltas{Method: DeltaHDR, Pairs: []PairDeltas{}}
	if diff := cmp.Diff(want, empty); diff != "" {
		t.Errorf("no pairs (-want +got):\n%s", diff)
	}
}

func TestDeltasJSONKeys(t *testing.T) {
	c := NewDeltaCollector(DeltaExact, NegativeKeep)
	c.Add(PairKey{"p", "w"}, 1)
	c.Add(PairKey{"p", "w"}, 2)
	c.Skip()
	d, err := c.Result()
	if err != nil {
		t.Fatal(err)
	}
	got := marshal(t, d)
	golden(t, "deltas.golden.json", got)
	if d.Schema != "" || d.Tool != nil {
		t.Error("writing a file changed the deltas")
	}
	embedded, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(embedded), "schema") || strings.Contains(string(embedded), "tool") {
		t.Errorf("deltas inside a run must not carry schema and tool: %s", embedded)
	}
}

func TestCollectorRefuses(t *testing.T) {
	key := PairKey{"p", "w"}
	for name, c := range map[string]struct {
		method DeltaMethod
		policy NegativePolicy
		add    []float64
		want   string
	}{
		"unknown method":    {"fast", NegativeKeep, []float64{1}, `method "fast" is unknown`},
		"unknown policy":    {DeltaExact, "flip", []float64{1}, `policy "flip" for negative latencies is unknown`},
		"hdr and negatives": {DeltaHDR, NegativeKeep, []float64{1, -1}, "1 latencies are negative"},
		"nothing":           {DeltaExact, NegativeKeep, nil, "not a single latency"},
		"only nonsense":     {DeltaExact, NegativeKeep, []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300}, "none of the 4 rows holds a latency"},
		"all dropped":       {DeltaExact, NegativeDrop, []float64{-1, -2, math.NaN()}, "2 are negative, 1 hold no latency"},
	} {
		t.Run(name, func(t *testing.T) {
			collector := NewDeltaCollector(c.method, c.policy)
			for _, ms := range c.add {
				collector.Add(key, ms)
			}
			d, err := collector.Result()
			e, ok := errors.AsType[*InputError](err)
			if !ok || d != nil {
				t.Fatalf("got %v, %v; want an InputError", d, err)
			}
			if !strings.Contains(e.Error(), c.want) || e.Hint == "" {
				t.Errorf("error %q, hint %q; want %q and a hint", e, e.Hint, c.want)
			}
		})
	}
}

// A name that shares memory with its row would keep the whole row alive.
func TestCollectorCopiesNames(t *testing.T) {
	row := "p1,w1,5"
	c := NewDeltaCollector("", "")
	c.Add(PairKey{row[:2], row[3:5]}, 5)
	d, err := c.Result()
	if err != nil {
		t.Fatal(err)
	}
	if unsafe.StringData(d.Pairs[0].Source) == unsafe.StringData(row) {
		t.Error("the name is part of the row")
	}
	if d.Method != DeltaExact || d.Pairs[0].Source != "p1" || d.Pairs[0].Destination != "w1" {
		t.Errorf("got %+v", d)
	}
}

func ExampleReadDeltasCSV() {
	c := NewDeltaCollector(DeltaExact, NegativeKeep)
	in := "src,dst,latency_ms\np1,w1,10\np1,w1,20\np1,w1,not measured\n"
	if err := ReadDeltasCSV(strings.NewReader(in), "latencies.csv", c); err != nil {
		fmt.Println(err)
		return
	}
	d, err := c.Result()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("median %.1f ms, D2 %.2f ms, %d of %d rows used\n", d.Pairs[0].MedianMS, d.Pairs[0].D2MS, d.Used, d.Rows)
	// Output: median 15.0 ms, D2 4.90 ms, 2 of 3 rows used
}
