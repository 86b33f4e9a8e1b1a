package remotewrite

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// content is what requests say, as a set of lines: the oracle of the merge. It reads
// them with the decoder that Prometheus generates.
type content struct {
	data map[string]bool   // samples, histograms and exemplars
	meta map[string]string // by series (2.0) or family (1.0)
}

func newContent() content { return content{map[string]bool{}, map[string]string{}} }

func labelLine(ls [][2]string) string {
	ls = slices.DeleteFunc(slices.Clone(ls), func(l [2]string) bool { return l[1] == "" })
	slices.SortFunc(ls, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return fmt.Sprintf("%q", ls)
}

func (c content) sample(labels string, value float64, ms, start int64) {
	c.data[fmt.Sprintf("%s sample %x %d %d", labels, math.Float64bits(value), ms, start)] = true
}

func (c content) histogram(tb testing.TB, labels string, h writev2.Histogram, start int64) {
	tb.Helper()
	h.StartTimestamp = cmp.Or(h.StartTimestamp, start)
	b, err := h.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	c.data[fmt.Sprintf("%s histogram %x", labels, b)] = true
}

func (c content) exemplar(labels, own string, value float64, ms int64) {
	c.data[fmt.Sprintf("%s exemplar %s %x %d", labels, own, math.Float64bits(value), ms)] = true
}

// add reads a request. With lossy, what 1.0 cannot say is left out.
func (c content) add(tb testing.TB, v Version, b []byte, lossy bool) {
	tb.Helper()
	start := func(ms int64) int64 {
		if lossy {
			return 0
		}
		return ms
	}
	if v == V1 {
		var req prompb.WriteRequest
		if err := req.Unmarshal(b); err != nil {
			tb.Fatal(err)
		}
		pairs := func(in []prompb.Label) (out [][2]string) {
			for _, l := range in {
				out = append(out, [2]string{l.Name, l.Value})
			}
			return out
		}
		for _, ts := range req.Timeseries {
			labels := labelLine(pairs(ts.Labels))
			for _, s := range ts.Samples {
				c.sample(labels, s.Value, s.Timestamp, 0)
			}
			for _, e := range ts.Exemplars {
				c.exemplar(labels, labelLine(pairs(e.Labels)), e.Value, e.Timestamp)
			}
			for _, h := range ts.Histograms {
				raw, err := h.Marshal()
				if err != nil {
					tb.Fatal(err)
				}
				var h2 writev2.Histogram
				if err := h2.Unmarshal(raw); err != nil {
					tb.Fatal(err)
				}
				h2.StartTimestamp = 0
				c.histogram(tb, labels, h2, 0)
			}
		}
		for _, m := range req.Metadata {
			c.meta["family "+m.MetricFamilyName] = fmt.Sprintf("%d %q %q", m.Type, m.Help, m.Unit)
		}
		return
	}
	var req writev2.Request
	if err := req.Unmarshal(b); err != nil {
		tb.Fatal(err)
	}
	pairs := func(refs []uint32) (out [][2]string) {
		for i := 0; i+1 < len(refs); i += 2 {
			out = append(out, [2]string{req.Symbols[refs[i]], req.Symbols[refs[i+1]]})
		}
		return out
	}
	created := createdTimestamps(b)
	for i, ts := range req.Timeseries {
		labels := labelLine(pairs(ts.LabelsRefs))
		for _, s := range ts.Samples {
			c.sample(labels, s.Value, s.Timestamp, start(cmp.Or(s.StartTimestamp, created[i])))
		}
		for _, e := range ts.Exemplars {
			c.exemplar(labels, labelLine(pairs(e.LabelsRefs)), e.Value, e.Timestamp)
		}
		for _, h := range ts.Histograms {
			h.StartTimestamp = start(cmp.Or(h.StartTimestamp, created[i]))
			c.histogram(tb, labels, h, 0)
		}
		if m := ts.Metadata; m.Type != 0 || m.HelpRef != 0 || m.UnitRef != 0 {
			c.meta["series "+labels] = fmt.Sprintf("%d %q %q", m.Type, req.Symbols[m.HelpRef], req.Symbols[m.UnitRef])
		}
	}
}

// createdTimestamps finds the field of 2.0-rc.3 that the decoder of rc.4 skips, by series.
func createdTimestamps(b []byte) (all []int64) {
	eachField(b, func(f field) bool {
		if f.num == 5 {
			all = append(all, 0)
			eachField(f.payload, func(f field) bool {
				if f.num == 6 {
					u, _ := varint(f.value, 0)
					all[len(all)-1] = int64(u)
				}
				return true
			})
		}
		return true
	})
	return all
}

// mergeAll adds everything and returns the merged message of 2.0, that of 1.0 and the
// metadata of 1.0. It checks the counts against a walk.
func mergeAll(tb testing.TB, m *Merger, add func(m *Merger)) (v2, v1, meta []byte) {
	tb.Helper()
	m.Reset()
	add(m)
	series, entries := m.Len()
	var w Walker
	var counts Counts
	check := func(v Version, b []byte, want Counts) {
		tb.Helper()
		if len(b) == 0 {
			return
		}
		got, err := w.Walk(v, b, Limits{FutureTolerance: -1}, capturedAt)
		if err != nil {
			tb.Fatalf("the merged %s message is refused: %v", v, err)
		}
		if diff := gocmp.Diff(want, got.Counts); diff != "" {
			tb.Fatalf("counts of the merged %s message (-told +walked):\n%s", v, diff)
		}
	}
	if series > 0 {
		v2, counts = m.AppendV2(nil, 0, series)
		check(V2, v2, counts)
		v1, counts = m.AppendV1(nil, 0, series)
		check(V1, v1, counts)
	}
	meta, counts = m.AppendMetadata(nil, 0, entries)
	check(V1, meta, counts)
	return v2, v1, meta
}

// TestMergeAgainstOracle merges random requests of both versions: what the merged ones
// say is what the single ones said, and nothing more.
func TestMergeAgainstOracle(t *testing.T) {
	g := gen{Rand: rand.New(rand.NewPCG(3, 4))}
	var m Merger
	for round := range 400 {
		g.faults = []float64{0, 0.03}[round%2]
		want, lossy := newContent(), newContent()
		v2, v1, meta := mergeAll(t, &m, func(m *Merger) {
			for range 1 + g.IntN(6) {
				v := pick(g, V1, V2)
				var b []byte
				if v == V1 {
					b = g.requestV1(t)
				} else {
					b = g.requestV2(t)
				}
				var w Walker
				if _, err := w.Walk(v, b, Limits{FutureTolerance: -1}, capturedAt); err != nil {
					continue // a collector does not take it in
				}
				for range 1 + g.IntN(2) { // some come twice
					if err := m.Add(v, b); err != nil {
						t.Fatal(err)
					}
				}
				want.add(t, v, b, false)
				lossy.add(t, v, b, true)
			}
		})
		got := newContent()
		got.add(t, V2, v2, false)
		got.add(t, V1, meta, false)
		if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(content{})); diff != "" {
			t.Fatalf("round %d, 2.0 (-single +merged):\n%s", round, diff)
		}
		got = newContent()
		got.add(t, V1, v1, false)
		if diff := gocmp.Diff(lossy.data, got.data); diff != "" {
			t.Fatalf("round %d, 1.0 (-single +merged):\n%s", round, diff)
		}
		checkGrouped(t, v2)
	}
}

// checkGrouped: no series comes twice, its samples are in order and its labels sorted.
func checkGrouped(t *testing.T, b []byte) {
	t.Helper()
	var req writev2.Request
	if err := req.Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, ts := range req.Timeseries {
		key := fmt.Sprint(ts.LabelsRefs)
		if seen[key] {
			t.Errorf("series %s comes twice", key)
		}
		seen[key] = true
		if !slices.IsSortedFunc(ts.Samples, func(a, b writev2.Sample) int { return cmp.Compare(a.Timestamp, b.Timestamp) }) {
			t.Errorf("samples of %s are not in order", key)
		}
	}
	if dup := len(req.Symbols) - len(slices.Compact(slices.Sorted(slices.Values(req.Symbols)))); dup != 0 {
		t.Errorf("%d symbols come twice", dup)
	}
}

// TestMergeCaptures: real requests survive, whole and in parts of any borders.
func TestMergeCaptures(t *testing.T) {
	var m Merger
	want := newContent()
	add := func(m *Merger) {
		for _, v := range []Version{V1, V2} {
			for _, name := range captureNames(t, v) {
				_, _, b := decodeCapture(t, name)
				if err := m.Add(v, b); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				want.add(t, v, b, false)
			}
		}
	}
	v2, _, meta := mergeAll(t, &m, add)
	got := newContent()
	got.add(t, V2, v2, false)
	got.add(t, V1, meta, false)
	if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(content{})); diff != "" {
		t.Fatalf("(-single +merged):\n%s", diff)
	}
	if len(want.data) < 5000 || len(want.meta) < 100 {
		t.Errorf("only %d samples and %d metadata: the captures are not what they were", len(want.data), len(want.meta))
	}

	parts := newContent()
	n, entries := m.Len()
	rng := rand.New(rand.NewPCG(5, 6))
	for from := 0; from < n; {
		to := min(n, from+1+rng.IntN(n/4))
		b, _ := m.AppendV2(nil, from, to)
		parts.add(t, V2, b, false)
		from = to
	}
	for i := range entries {
		b, _ := m.AppendMetadata(nil, i, i+1)
		parts.add(t, V1, b, false)
	}
	if diff := gocmp.Diff(want, parts, gocmp.AllowUnexported(content{})); diff != "" {
		t.Fatalf("in parts (-single +merged):\n%s", diff)
	}

	again, _, _ := mergeAll(t, &m, add)
	if string(again) != string(v2) {
		t.Error("the same calls give other bytes")
	}
}

// TestMergeMetadataForV1: what 2.0 keeps with its series is not lost to a receiver that
// knows 1.0 only.
func TestMergeMetadataForV1(t *testing.T) {
	table := writev2.NewSymbolTable()
	var req writev2.Request
	for _, name := range []string{"h_bucket", "h_sum", "h_count", "g"} {
		typ := writev2.Metadata_METRIC_TYPE_HISTOGRAM
		if name == "g" {
			typ = writev2.Metadata_METRIC_TYPE_GAUGE
		}
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
			LabelsRefs: []uint32{table.Symbolize("__name__"), table.Symbolize(name)},
			Samples:    []writev2.Sample{{Value: 1, Timestamp: capturedAt.UnixMilli()}},
			Metadata:   writev2.Metadata{Type: typ, HelpRef: table.Symbolize("help of " + name[:1]), UnitRef: table.Symbolize("s")},
		})
	}
	req.Symbols = table.Symbols()
	b, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var m Merger
	_, v1, _ := mergeAll(t, &m, func(m *Merger) {
		if err := m.Add(V2, b); err != nil {
			t.Fatal(err)
		}
	})
	got := newContent()
	got.add(t, V1, v1, false)
	if diff := gocmp.Diff(map[string]string{"family h": `3 "help of h" "s"`, "family g": `2 "help of g" "s"`}, got.meta); diff != "" {
		t.Error(diff)
	}
}

func TestMergeMalformed(t *testing.T) {
	var m Merger
	for _, c := range []struct {
		v Version
		b string
	}{{V1, "\x0a\x05"}, {V1, "\x0a\x02\x12\x01"}, {V2, "\x22\x00\x2a\x02\x08\x09"}, {V2, "\x22\x00\x2a\x03\x0a\x01\x00"}, {3, ""}} {
		if err := m.Add(c.v, []byte(c.b)); err == nil {
			t.Errorf("%s %q: no error", c.v, c.b)
		}
		m.Reset()
	}
}

// FuzzMerge: whatever a walk accepts can be merged, and then says the same.
func FuzzMerge(f *testing.F) {
	g := gen{Rand: rand.New(rand.NewPCG(7, 8))}
	for range 20 {
		f.Add(uint8(1), g.requestV1(f))
		f.Add(uint8(2), g.requestV2(f))
	}
	f.Fuzz(func(t *testing.T, version uint8, b []byte) {
		v := Version(version)
		var w Walker
		sum, err := w.Walk(v, b, Limits{FutureTolerance: -1}, capturedAt)
		var m Merger
		if merr := m.Add(v, b); err != nil {
			return // it must not panic; what it makes of the message does not matter
		} else if merr != nil {
			return // an oddity, see Add
		}
		series, entries := m.Len()
		if series > sum.Series || entries > sum.Metadata {
			t.Fatalf("%d series and %d entries of %+v", series, entries, sum)
		}
		if series == 0 {
			return
		}
		out, told := m.AppendV2(nil, 0, series)
		got, err := w.Walk(V2, out, Limits{FutureTolerance: -1}, capturedAt)
		if err != nil {
			t.Fatalf("the merged message is refused: %v", err)
		}
		if got.Counts != told || got.Samples > sum.Samples || got.Exemplars > sum.Exemplars || got.Histograms() > sum.Histograms() ||
			got.MaxTimestampMS != sum.MaxTimestampMS || got.MinTimestampMS != sum.MinTimestampMS || got.HasTimestamp != sum.HasTimestamp {
			t.Fatalf("%+v became %+v, told %+v", sum, got, told)
		}
	})
}

// scrapes makes n requests of a sender that scrapes every 5 s out of one: timestamps
// move on, and so do the values of half of the series.
func scrapes(tb testing.TB, n int) [][]byte {
	tb.Helper()
	_, _, b := decodeCapture(tb, "v1-prom242-500samples-plain.snappy")
	rng := rand.New(rand.NewPCG(9, 10))
	var all [][]byte
	for i := range n {
		var req prompb.WriteRequest
		if err := req.Unmarshal(b); err != nil {
			tb.Fatal(err)
		}
		for j := range req.Timeseries {
			s := &req.Timeseries[j].Samples[0]
			s.Timestamp += int64(i) * 5000
			if j%2 == 0 {
				s.Value += float64(i*rng.IntN(100)) / 7
			}
		}
		out, err := req.Marshal()
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, out)
	}
	return all
}

// mergedShare is the size of n scrapes merged, as a share of their sizes one by one,
// on the wire.
func mergedShare(tb testing.TB, n int, v Version) float64 {
	tb.Helper()
	var m Merger
	single := 0
	for _, b := range scrapes(tb, n) {
		single += len(Encode(nil, b))
		if err := m.Add(V1, b); err != nil {
			tb.Fatal(err)
		}
	}
	series, _ := m.Len()
	out, _ := m.AppendV2(nil, 0, series)
	if v == V1 {
		out, _ = m.AppendV1(nil, 0, series)
	}
	return float64(len(Encode(nil, out))) / float64(single)
}

func TestMergedSize(t *testing.T) {
	for _, c := range []struct {
		n    int
		v    Version
		most float64
	}{{13, V2, 0.25}, {13, V1, 0.30}, {1, V2, 1}} {
		share := mergedShare(t, c.n, c.v)
		t.Logf("%d samples a series, %s: %.1f %% of the wire bytes", c.n, c.v, 100*share)
		if share > c.most {
			t.Errorf("%d samples a series, %s: %.1f %% of the wire bytes, want at most %.0f %%", c.n, c.v, 100*share, 100*c.most)
		}
	}
}

// BenchmarkMerge merges 13 scrapes of 500 series and prints what is left of their bytes.
func BenchmarkMerge(b *testing.B) {
	all := scrapes(b, 13)
	var m Merger
	var out []byte
	for b.Loop() {
		m.Reset()
		for _, one := range all {
			if err := m.Add(V1, one); err != nil {
				b.Fatal(err)
			}
		}
		series, _ := m.Len()
		out, _ = m.AppendV2(out[:0], 0, series)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(13*500), "ns/sample")
	b.ReportMetric(100*mergedShare(b, 13, V2), "%-of-wire-bytes")
}
