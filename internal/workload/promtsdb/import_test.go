package promtsdb

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/workload"
)

const start = 1_763_661_600_000 // 2025-11-20T18:00:00Z

// truth is what a database holds: every sample as text.
type truth map[string]int

func (tr truth) add(l labels.Labels, t int64, what string) { tr[fmt.Sprintf("%s %d %s", l, t, what)]++ }

func floatText(v float64) string { return fmt.Sprintf("%016x", math.Float64bits(v)) }

func testHistogram(i int) *histogram.Histogram {
	return &histogram.Histogram{
		Schema: 1, ZeroThreshold: 0.001, ZeroCount: uint64(i), Count: uint64(12 + 5*i), Sum: 18.4 * float64(i+1),
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}, {Offset: 1, Length: 2}}, PositiveBuckets: []int64{int64(i + 3), 0, 0, 0},
	}
}

// writeBlock makes a block of n floats a second in each of the series, and of histograms in one more; it adds them to tr.
func writeBlock(t *testing.T, dir, ulid string, mint int64, n int, names []string, tr truth) string {
	t.Helper()
	b := filepath.Join(dir, ulid)
	if err := os.MkdirAll(b, 0o755); err != nil {
		t.Fatal(err)
	}
	cw, err := chunks.NewWriter(filepath.Join(b, "chunks"))
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		l     labels.Labels
		metas []chunks.Meta
	}
	var all []entry
	for s, name := range names {
		l := labels.FromStrings("__name__", name, "instance", fmt.Sprintf("i-%d", s%3), "cluster", fmt.Sprintf("c%d", s%2))
		e := entry{l: l}
		for first := 0; first < n; first += 120 {
			m := chunks.Meta{MinTime: mint + int64(first)*1000}
			last := min(first+120, n)
			if name == "hist" {
				c := chunkenc.NewHistogramChunk()
				app, err := c.Appender()
				if err != nil {
					t.Fatal(err)
				}
				for i := first; i < last; i++ {
					at := mint + int64(i)*1000
					h := testHistogram(i)
					next, _, after, err := app.AppendHistogram(nil, 0, at, h, false)
					if err != nil || (next != nil && i > first) {
						t.Fatal(err, next)
					}
					app = after
					tr.add(l, at, fmt.Sprint("hist ", h.Count))
				}
				m.Chunk = c
			} else {
				c := chunkenc.NewXORChunk()
				app, err := c.Appender()
				if err != nil {
					t.Fatal(err)
				}
				for i := first; i < last; i++ {
					at, v := mint+int64(i)*1000, float64(s*1000+i)
					if i == n-1 {
						v = math.Float64frombits(value.StaleNaN)
					}
					app.Append(0, at, v)
					tr.add(l, at, floatText(v))
				}
				m.Chunk = c
			}
			m.MaxTime = mint + int64(last-1)*1000
			e.metas = append(e.metas, m)
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return labels.Compare(a.l, b.l) })
	for _, e := range all { // their references must ascend
		if err := cw.WriteChunks(e.metas...); err != nil {
			t.Fatal(err)
		}
	}
	if err := cw.Close(); err != nil {
		t.Fatal(err)
	}
	iw, err := index.NewWriter(t.Context(), filepath.Join(b, "index"))
	if err != nil {
		t.Fatal(err)
	}
	symbols := map[string]bool{}
	for _, e := range all {
		e.l.Range(func(l labels.Label) { symbols[l.Name], symbols[l.Value] = true, true })
	}
	for _, s := range slices.Sorted(maps.Keys(symbols)) {
		if err := iw.AddSymbol(s); err != nil {
			t.Fatal(err)
		}
	}
	for i, e := range all {
		if err := iw.AddSeries(storage.SeriesRef(i+1), e.l, e.metas...); err != nil {
			t.Fatal(err)
		}
	}
	if err := iw.Close(); err != nil {
		t.Fatal(err)
	}
	writeMeta(t, b, ulid, mint, mint+int64(n)*1000, "")
	return b
}

func writeMeta(t *testing.T, dir, ulid string, mint, maxt int64, compaction string) {
	t.Helper()
	meta := fmt.Sprintf(`{"ulid":%q,"minTime":%d,"maxTime":%d,"version":1,"compaction":{"level":1%s}}`, ulid, mint, maxt, compaction)
	if err := os.WriteFile(filepath.Join(dir, "meta.json"), []byte(meta), 0o600); err != nil {
		t.Fatal(err)
	}
}

// importAll imports and returns what the requests hold; it checks each of them.
func importAll(t *testing.T, c Config) (truth, Result, []workload.Request) {
	t.Helper()
	c.Org, c.Cluster = cmp.Or(c.Org, "alfa"), cmp.Or(c.Cluster, "prod")
	tr := truth{}
	var all []workload.Request
	s := store.NewMemory()
	res, err := Import(t.Context(), c, func(ctx context.Context, r workload.Request) error {
		all = append(all, r)
		decode(t, r, tr, cmp.Or(c.Batch, DefaultBatch), cmp.Or(c.Span, DefaultSpan))
		_, err := s.Put(ctx, r.Key.String(), r.Body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) > 0 { // and as replay reads it
		corpus, err := capture.Load(t.Context(), s, capture.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := int64(len(corpus.Entries())); got != res.Requests || corpus.Samples != res.Samples {
			t.Errorf("the corpus has %d requests and %d samples: %+v", got, corpus.Samples, res)
		}
	}
	return tr, res, all
}

func decode(t *testing.T, r workload.Request, tr truth, batch int, span time.Duration) {
	t.Helper()
	raw, err := snappy.Decode(nil, r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var times []int64
	n := 0
	note := func(l labels.Labels, at int64, what string) {
		n++
		times = append(times, at)
		tr.add(l, at, what)
	}
	var b labels.ScratchBuilder
	if r.Key.Version == remotewrite.V1 {
		var w prompb.WriteRequest
		if err := w.Unmarshal(raw); err != nil {
			t.Fatal(err)
		}
		for _, ts := range w.Timeseries {
			l := ts.ToLabels(&b, nil)
			for _, s := range ts.Samples {
				note(l, s.Timestamp, floatText(s.Value))
			}
			for _, h := range ts.Histograms {
				note(l, h.Timestamp, fmt.Sprint("hist ", h.ToIntHistogram().Count))
			}
			for _, e := range ts.Exemplars {
				note(l, e.Timestamp, "exemplar "+floatText(e.Value))
			}
		}
	} else {
		var w writev2.Request
		if err := w.Unmarshal(raw); err != nil {
			t.Fatal(err)
		}
		for _, ts := range w.Timeseries {
			l, err := ts.ToLabels(&b, w.Symbols)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range ts.Samples {
				note(l, s.Timestamp, floatText(s.Value))
			}
			for _, h := range ts.Histograms {
				note(l, h.Timestamp, fmt.Sprint("hist ", h.ToIntHistogram().Count))
			}
			for _, e := range ts.Exemplars {
				note(l, e.Timestamp, "exemplar "+floatText(e.Value))
			}
		}
	}
	if n == 0 || n > batch || slices.Max(times)-slices.Min(times) >= span.Milliseconds() || slices.Max(times) != r.Key.Time.UnixMilli() {
		t.Errorf("%s: %d samples from %d to %d", r.Key, n, slices.Min(times), slices.Max(times))
	}
}

func diff(t *testing.T, want, got truth) {
	t.Helper()
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("in the database (-) and in the corpus (+):\n%.2000s", d)
	}
}

func only(tr truth, keep func(string) bool) truth {
	out := truth{}
	for k, n := range tr {
		if keep(k) {
			out[k] = n
		}
	}
	return out
}

// Every sample of the blocks is in the corpus once, bit for bit, in the order of time, whatever the window.
func TestImportBlocks(t *testing.T) {
	dir := t.TempDir()
	want := truth{}
	names := []string{"up", "hist", "a_total", "b_total", "c"}
	writeBlock(t, dir, "01B", start+300_000, 100, names, want)
	writeBlock(t, dir, "01A", start, 300, names, want)
	for _, v := range []remotewrite.Version{remotewrite.V1, remotewrite.V2} {
		for _, window := range []int{0, 7, 50} {
			got, res, requests := importAll(t, Config{Dir: dir, Version: v, Window: window, Batch: 11})
			diff(t, want, got)
			if res.Samples != 1600 || res.Histograms != 400 || res.FromBlocks != 2000 || res.FromLog != 0 || res.Series != 5 || res.Blocks != 2 || len(res.LeftOut) != 1 {
				t.Errorf("%+v", res)
			}
			if !slices.IsSortedFunc(requests, func(a, b workload.Request) int { return a.Key.Time.Compare(b.Key.Time) }) {
				t.Error("requests are not in the order of time")
			}
		}
	}
	t.Run("matchers", func(t *testing.T) {
		got, res, _ := importAll(t, Config{Dir: dir, Version: remotewrite.V1, Match: []string{`__name__=~".*_total|up"`, "instance!=i-0"}})
		diff(t, only(want, func(k string) bool { return strings.Contains(k, "_total") && !strings.Contains(k, `"i-0"`) }), got)
		if res.Series == 0 || res.Series == 5 {
			t.Errorf("%+v", res)
		}
	})
	t.Run("time range", func(t *testing.T) {
		from, to := time.UnixMilli(start+100_500), time.UnixMilli(start+310_000)
		got, res, _ := importAll(t, Config{Dir: dir, Version: remotewrite.V2, From: from, To: to})
		if res.Samples+res.Histograms != 5*209 || !res.First.Equal(time.UnixMilli(start+101_000)) || !res.Last.Equal(time.UnixMilli(start+309_000)) {
			t.Errorf("%+v", res)
		}
		for k := range got {
			if want[k] != 1 {
				t.Errorf("%s is not in the database", k)
			}
		}
	})
	t.Run("clusters by label", func(t *testing.T) {
		_, res, requests := importAll(t, Config{Dir: dir, Version: remotewrite.V1, ClusterLabel: "cluster", ExternalLabels: map[string]string{"replica": "r1", "cluster": "no"}})
		clusters := map[string]bool{}
		for _, r := range requests {
			clusters[r.Key.Cluster] = true
		}
		if !maps.Equal(clusters, map[string]bool{"c0": true, "c1": true}) || res.Samples != 1600 {
			t.Errorf("%v %+v", clusters, res)
		}
	})
}

// Blocks that overlap are read together, and what both hold is taken once; a block that was compacted is not read.
func TestImportOverlap(t *testing.T) {
	dir := t.TempDir()
	want, again := truth{}, truth{}
	names := []string{"up", "c"}
	writeBlock(t, dir, "01A", start, 300, names, want)
	writeBlock(t, dir, "01B", start+100_000, 300, names, again)
	parent := writeBlock(t, dir, "01P", start, 10, []string{"gone"}, truth{})
	writeMeta(t, filepath.Join(dir, "01A"), "01A", start, start+300_000, `,"parents":[{"ulid":"01P"}]`)
	_ = parent
	got, res, _ := importAll(t, Config{Dir: dir, Version: remotewrite.V1, Window: 100})
	at := map[string]bool{} // a series has one sample at a time
	for k := range got {
		series, _, _ := strings.Cut(k, "} ")
		var ms int64
		if _, err := fmt.Sscan(k[len(series)+2:], &ms); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint(series, ms)
		if at[id] {
			t.Errorf("twice: %s", id)
		}
		at[id] = true
	}
	if len(at) != 2*400 || res.Samples != 800 || res.Series != 2 {
		t.Errorf("%d, %+v", len(at), res)
	}
}

func TestImportTombstones(t *testing.T) {
	dir := t.TempDir()
	b := writeBlock(t, dir, "01A", start, 100, []string{"up"}, truth{})
	ir, err := index.NewFileReader(filepath.Join(b, "index"), index.DecodePostingsRaw)
	if err != nil {
		t.Fatal(err)
	}
	name, all := index.AllPostingsKey()
	p, err := ir.Postings(t.Context(), name, all)
	if err != nil || !p.Next() {
		t.Fatal(err)
	}
	stones := tombstones.NewMemTombstones()
	stones.AddInterval(p.At(), tombstones.Interval{Mint: start + 10_000, Maxt: start + 19_000})
	if err := ir.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tombstones.WriteFile(slog.New(slog.DiscardHandler), b, stones); err != nil {
		t.Fatal(err)
	}
	_, res, _ := importAll(t, Config{Dir: dir, Version: remotewrite.V1, Window: 13})
	if res.Samples != 90 || !slices.Contains(res.LeftOut, LeftOut{"samples that were deleted in the database", 10, "sample"}) {
		t.Errorf("%+v", res)
	}
}

// logWriter writes segments as Prometheus does.
type logWriter struct {
	b    bytes.Buffer
	mask byte
}

func (w *logWriter) write(t *testing.T, rec []byte) {
	t.Helper()
	switch w.mask {
	case walSnappy:
		rec = snappy.Encode(nil, rec)
	case walZstd:
		e, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		rec = e.EncodeAll(rec, nil)
	}
	for first := true; first || len(rec) > 0; first = false {
		room := walPage - w.b.Len()%walPage
		if room < walHead {
			w.b.Write(make([]byte, room))
			room = walPage
		}
		part := rec[:min(len(rec), room-walHead)]
		rec = rec[len(part):]
		kind := byte(walMiddle)
		switch {
		case first && len(rec) == 0:
			kind = walFull
		case first:
			kind = walFirst
		case len(rec) == 0:
			kind = walLast
		}
		head := []byte{kind | w.mask}
		head = binary.BigEndian.AppendUint16(head, uint16(len(part)))
		head = binary.BigEndian.AppendUint32(head, crc32.Checksum(part, crc32.MakeTable(crc32.Castagnoli)))
		w.b.Write(append(head, part...))
	}
}

func (w *logWriter) save(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), w.b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func seriesRecord(from, n int) []byte {
	var all []record.RefSeries
	for i := from; i < from+n; i++ {
		all = append(all, record.RefSeries{Ref: chunks.HeadSeriesRef(i), Labels: logLabels(i)})
	}
	return new(record.Encoder).Series(all, nil)
}

func logLabels(i int) labels.Labels {
	return labels.FromStrings("__name__", "log_metric", "i", strconv.Itoa(i), "long", strings.Repeat("x", 300))
}

// samplesRecord has one sample of every series at a time.
func samplesRecord(at int64, n int, tr truth) []byte {
	var all []record.RefSample
	for i := range n {
		all = append(all, record.RefSample{Ref: chunks.HeadSeriesRef(i + 1), T: at, V: float64(at + int64(i))})
		if tr != nil {
			tr.add(logLabels(i+1), at, floatText(float64(at+int64(i))))
		}
	}
	return new(record.Encoder).Samples(all, nil)
}

// The log: series from the checkpoint, records of every kind and compression, over several pages and segments.
func TestImportLog(t *testing.T) {
	for name, mask := range map[string]byte{"plain": 0, "snappy": walSnappy, "zstd": walZstd} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			wal := filepath.Join(dir, "wal")
			want := truth{}
			const n = 150 // their names take more than a page
			checkpoint := &logWriter{mask: mask}
			checkpoint.write(t, seriesRecord(1, n))
			checkpoint.save(t, filepath.Join(wal, "checkpoint.00000003"), "00000000")
			old := &logWriter{mask: mask}
			old.write(t, samplesRecord(start-1000, n, nil)) // covered by the checkpoint
			old.save(t, wal, "00000003")
			(&logWriter{}).save(t, filepath.Join(wal, "checkpoint.00000005.tmp"), "00000000")

			w := &logWriter{mask: mask}
			for i := range 40 {
				w.write(t, samplesRecord(start+int64(i)*1000, n, want))
			}
			w.save(t, wal, "00000004")
			w = &logWriter{mask: mask}
			enc := record.Encoder{}
			h := testHistogram(3)
			rec, rest := enc.HistogramSamples([]record.RefHistogramSample{{Ref: 1, T: start + 40_000, H: h}}, nil)
			if len(rest) != 0 {
				t.Fatal(rest)
			}
			w.write(t, rec)
			want.add(logLabels(1), start+40_000, fmt.Sprint("hist ", h.Count))
			w.write(t, enc.Exemplars([]record.RefExemplar{{Ref: 2, T: start + 40_000, V: 1.5, Labels: labels.FromStrings("trace_id", "abc")}}, nil))
			want.add(logLabels(2), start+40_000, "exemplar "+floatText(1.5))
			w.write(t, enc.Metadata([]record.RefMetadata{{Ref: 1, Type: uint8(record.Counter), Unit: "s", Help: "help"}, {Ref: 99999, Type: 1}}, nil))
			w.write(t, samplesRecord(start+41_000, n, want))
			w.write(t, enc.Samples([]record.RefSample{{Ref: 99999, T: start + 41_000, V: 1}}, nil))
			w.write(t, enc.Tombstones([]tombstones.Stone{{Ref: 1, Intervals: tombstones.Intervals{{Mint: 1, Maxt: 2}}}}, nil))
			w.save(t, wal, "00000005")

			for _, v := range []remotewrite.Version{remotewrite.V1, remotewrite.V2} {
				got, res, _ := importAll(t, Config{Dir: dir, Version: v, Batch: 100})
				diff(t, want, got)
				if res.Samples != 41*n || res.Histograms != 1 || res.Exemplars != 1 || res.FromLog != 41*n+2 || res.Segments != 3 || res.MetadataSeries != 1 || len(res.LeftOut) != 2 {
					t.Errorf("%+v", res)
				}
			}
		})
	}
}

// What is in a block and still in the log is taken once.
func TestImportBlockAndLog(t *testing.T) {
	dir := t.TempDir()
	want := truth{}
	writeBlock(t, dir, "01A", start, 100, []string{"up"}, want)
	w := &logWriter{}
	w.write(t, seriesRecord(1, 3))
	w.write(t, samplesRecord(start+99_000, 3, nil))
	w.write(t, samplesRecord(start+100_000, 3, want))
	w.save(t, filepath.Join(dir, "wal"), "00000000")
	got, res, _ := importAll(t, Config{Dir: dir, Version: remotewrite.V1})
	diff(t, want, got)
	if res.FromBlocks != 100 || res.FromLog != 3 {
		t.Errorf("%+v", res)
	}
}

// The end of the log may be missing; where it is damaged it ends, and that is said.
func TestImportDamagedLog(t *testing.T) {
	build := func(t *testing.T, damage func(b []byte) []byte, segmentsBehind int) Result {
		t.Helper()
		dir := t.TempDir()
		wal := filepath.Join(dir, "wal")
		w := &logWriter{}
		w.write(t, seriesRecord(1, 3))
		for i := range 10 {
			w.write(t, samplesRecord(start+int64(i)*1000, 3, nil))
		}
		data := damage(w.b.Bytes())
		if err := os.MkdirAll(wal, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(wal, "00000000"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range segmentsBehind {
			w := &logWriter{}
			w.write(t, samplesRecord(start+int64(100+i)*1000, 3, nil))
			w.save(t, wal, fmt.Sprintf("%08d", i+1))
		}
		_, res, _ := importAll(t, Config{Dir: dir, Version: remotewrite.V2})
		return res
	}
	if res := build(t, func(b []byte) []byte { return b[:len(b)-5] }, 0); res.Samples != 27 || len(res.LeftOut) != 0 {
		t.Errorf("torn at the end: %+v", res)
	}
	if res := build(t, func(b []byte) []byte { return b[:len(b)-5] }, 2); res.Samples != 27 || len(res.LeftOut) != 1 || res.LeftOut[0].Count != 3 {
		t.Errorf("torn in the middle: %+v", res)
	}
	if res := build(t, func(b []byte) []byte { b[len(b)-5] ^= 1; return b }, 1); res.Samples != 27 || len(res.LeftOut) != 1 || !strings.Contains(res.LeftOut[0].String(), "2 segments: the log from 00000000 on: the checksum") {
		t.Errorf("damaged: %+v", res)
	}
	if res := build(t, func(b []byte) []byte { return append(b, make([]byte, walPage-len(b))...) }, 1); res.Samples != 33 || len(res.LeftOut) != 0 {
		t.Errorf("padded: %+v", res)
	}
}

func TestImportRefuses(t *testing.T) {
	dir := t.TempDir()
	put := func(context.Context, workload.Request) error { return nil }
	good := Config{Dir: dir, Org: "a", Cluster: "b", Version: remotewrite.V1}
	for name, change := range map[string]func(*Config){
		"an empty directory": func(*Config) {},
		"no directory":       func(c *Config) { c.Dir = filepath.Join(dir, "missing") },
		"org":                func(c *Config) { c.Org = "../x" },
		"protocol":           func(c *Config) { c.Version = 3 },
		"batch":              func(c *Config) { c.Batch = -1 },
		"span":               func(c *Config) { c.Span = -1 },
		"range":              func(c *Config) { c.From, c.To = time.Unix(9, 0), time.Unix(9, 0) },
		"matcher":            func(c *Config) { c.Match = []string{"=x"} },
		"regular expression": func(c *Config) { c.Match = []string{"a=~("} },
		"external label":     func(c *Config) { c.ExternalLabels = map[string]string{"__name__": "x"} },
	} {
		c := good
		change(&c)
		_, err := Import(t.Context(), c, put)
		if e, ok := errors.AsType[*Error](err); !ok || e.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Run("a broken index", func(t *testing.T) {
		b := writeBlock(t, dir, "01A", start, 10, []string{"up"}, truth{})
		path := filepath.Join(b, "index")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for cut := 0; cut < len(data); cut += 7 {
			if err := os.WriteFile(path, data[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Import(t.Context(), good, put); err == nil {
				t.Fatalf("cut at %d of %d: no error", cut, len(data))
			} else if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		for i := range data { // whatever is wrong is an error or goes unnoticed, and never a panic
			flipped := slices.Clone(data)
			flipped[i] ^= 0x55
			if err := os.WriteFile(path, flipped, 0o600); err != nil {
				t.Fatal(err)
			}
			_, _ = Import(t.Context(), good, put)
		}
	})
	t.Run("the store fails", func(t *testing.T) {
		dir := t.TempDir()
		writeBlock(t, dir, "01A", start, 10, []string{"up"}, truth{})
		full := errors.New("full")
		c := good
		c.Dir = dir
		if _, err := Import(t.Context(), c, func(context.Context, workload.Request) error { return full }); !errors.Is(err, full) {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Import(ctx, c, put); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func FuzzWALReader(f *testing.F) {
	w := &logWriter{}
	for i := range 3 {
		w.write(&testing.T{}, bytes.Repeat([]byte{byte(i)}, 20_000))
	}
	f.Add(w.b.Bytes())
	f.Add([]byte{walFull | walSnappy, 0, 6, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &walReader{r: bufio.NewReader(bytes.NewReader(data))}
		for {
			rec, err := r.next()
			if err != nil {
				return
			}
			if len(rec) > maxWALRecord {
				t.Errorf("a record of %d bytes", len(rec))
			}
		}
	})
}

func FuzzParseMatcher(f *testing.F) {
	for _, s := range []string{`a="b"`, "a!=b", "a=~b.*", "a!~b", "=", "!", "a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := parseMatcher(s); err == nil && m.Name == "" {
			t.Errorf("%q has no name", s)
		}
	})
}
