package stats

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func zip(tb testing.TB, s string) string {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, s); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// read is what a collector of exact latencies has gathered.
type read struct {
	Rows, Skipped int64
	Latencies     map[PairKey][]float64
}

func gathered(c *DeltaCollector) read { return read{c.rows, c.skipped, c.exact} }

func TestReadDeltasCSV(t *testing.T) {
	ab := PairKey{"a", "b"}
	for name, c := range map[string]struct {
		in   string
		want read
	}{
		"plain":            {"src,dst,latency_ms\na,b,1\na,b,2.5\n", read{2, 0, map[PairKey][]float64{ab: {1, 2.5}}}},
		"no last newline":  {"src,dst,latency_ms\na,b,1", read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"CRLF":             {"src,dst,latency_ms\r\na,b,1\r\na,b,2\r\n", read{2, 0, map[PairKey][]float64{ab: {1, 2}}}},
		"byte order mark":  {"\ufeffsrc,dst,latency_ms\na,b,1\n", read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"order and extras": {"x,latency_ms,dst,y,src\n9,1,b,8,a\n", read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"header case":      {" SRC ,Dst,Latency_MS\na,b,1\n", read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"gzip":             {zip(t, "src,dst,latency_ms\na,b,1\n"), read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"gzip with mark":   {zip(t, "\ufeffsrc,dst,latency_ms\na,b,1\n"), read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"two gzip members": {zip(t, "src,dst,latency_ms\na,b,1\n") + zip(t, "a,b,2\n"), read{2, 0, map[PairKey][]float64{ab: {1, 2}}}},
		"quotes": {"src,dst,latency_ms\n\"a,1\",\"say \"\"hi\"\"\",\"1\"\n\"two\nlines\",b,2\n", read{2, 0, map[PairKey][]float64{
			{"a,1", `say "hi"`}: {1}, {"two\nlines", "b"}: {2},
		}}},
		"no confusion of names": {"src,dst,latency_ms\nab,c,1\na,bc,2\nc,ab,3\n,abc,4\nabc,,5\n", read{5, 0, map[PairKey][]float64{
			{"ab", "c"}: {1}, {"a", "bc"}: {2}, {"c", "ab"}: {3}, {"", "abc"}: {4}, {"abc", ""}: {5},
		}}},
		"numbers": {"src,dst,latency_ms\na,b,1e3\na,b,+7\na,b,  12  \na,b,-3\na,b,.5\na,b,0\n", read{6, 0, map[PairKey][]float64{ab: {1000, 7, 12, -3, .5, 0}}}},
		"no numbers": {
			"src,dst,latency_ms\na,b,NaN\na,b,inf\na,b,-Infinity\na,b,\na,b,fast\na,b,\"1,5\"\na,b,1e999\na,b,0x1p3\na,b,9.1e12\na,b,1\n",
			read{10, 9, map[PairKey][]float64{ab: {1}}},
		},
		"short rows":       {"src,dst,latency_ms\na,b\na\na,b,1\n", read{3, 2, map[PairKey][]float64{ab: {1}}}},
		"long row":         {"src,dst,latency_ms\na,b,1,2,3\n", read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"blank lines":      {"src,dst,latency_ms\n\na,b,1\n\n", read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"quote in a field": {"src,dst,latency_ms\na\"x,b,1\n\"a\"x,b,2\na,b,3\n", read{3, 2, map[PairKey][]float64{ab: {3}}}},
		"open quote last":  {"src,dst,latency_ms\na,b,1\n\"a,b,2", read{2, 1, map[PairKey][]float64{ab: {1}}}},
		"all skipped":      {"src,dst,latency_ms\na,b,x\n", read{1, 1, map[PairKey][]float64{}}},
	} {
		t.Run(name, func(t *testing.T) {
			for reading, wrap := range map[string]func(io.Reader) io.Reader{
				"whole": func(r io.Reader) io.Reader { return r },
				"bytes": iotest.OneByteReader,
			} {
				collector := NewDeltaCollector(DeltaExact, NegativeKeep)
				if err := ReadDeltasCSV(wrap(strings.NewReader(c.in)), "x.csv", collector); err != nil {
					t.Fatalf("%s: %v", reading, err)
				}
				if diff := cmp.Diff(c.want, gathered(collector)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", reading, diff)
				}
			}
		})
	}
}

func TestReadDeltasCSVRefuses(t *testing.T) {
	packed := zip(t, "src,dst,latency_ms\n"+strings.Repeat("a,b,1\n", 1000))
	damaged := []byte(packed)
	damaged[len(damaged)/2] ^= 0xff
	for name, c := range map[string]struct {
		in, want string
		line     int
	}{
		"empty":             {"", "x.csv: the file is empty", 0},
		"blank":             {"\n\n", "x.csv: the file is empty", 0},
		"only a mark":       {"\ufeff", "x.csv: the file is empty", 0},
		"header only":       {"src,dst,latency_ms\n", "x.csv: the file has a header and no rows", 0},
		"no src":            {"dst,latency_ms\nb,1\n", "x.csv:1: column src is missing", 1},
		"no dst":            {"src,latency_ms\na,1\n", "x.csv:1: column dst is missing", 1},
		"no latency":        {"src,dst,latency\na,b,1\n", "x.csv:1: column latency_ms is missing", 1},
		"twice":             {"src,dst,latency_ms,SRC\na,b,1,c\n", "x.csv:1: column src appears twice", 1},
		"semicolons":        {"src;dst;latency_ms\na;b;1\n", "x.csv:1: column src is missing", 1},
		"UTF-16":            {"\xff\xfes\x00r\x00c\x00", "x.csv: the text is UTF-16", 0},
		"open quote":        {"src,dst,latency_ms\na,b,1\n\"a,b,2\na,b,3\na,b,4\n", "x.csv:3: a quoted field does not end", 3},
		"open quote, large": {"src,dst,latency_ms\na,b,1\n\"a,b,2\n" + strings.Repeat("a,b,3\n", maxRecordBytes/4), "x.csv:3: a record is longer than 262144 bytes", 3},
		"long line":         {"src,dst,latency_ms\n" + strings.Repeat("x", maxRecordBytes+8192), "x.csv:2: a record is longer", 2},
		"long header":       {strings.Repeat("x", maxRecordBytes+8192), "x.csv:1: a record is longer", 1},
		"gzip cut off":      {packed[:len(packed)-4], "x.csv: the compressed data are damaged or cut off", 0},
		"gzip damaged":      {string(damaged), "x.csv: the compressed data are damaged", 0},
		"gzip header":       {"\x1f\x8b\x00", "x.csv: the compressed data are damaged", 0},
		"empty gzip":        {zip(t, ""), "x.csv: the file is empty", 0},
	} {
		t.Run(name, func(t *testing.T) {
			err := ReadDeltasCSV(strings.NewReader(c.in), "x.csv", NewDeltaCollector(DeltaExact, NegativeKeep))
			e, ok := errors.AsType[*InputError](err)
			if !ok {
				t.Fatalf("got %v, want an InputError", err)
			}
			if strings.HasPrefix(name, "gzip") && e.Unwrap() == nil {
				t.Error("the cause is lost")
			}
			if !strings.HasPrefix(e.Error(), c.want) || e.Line != c.line || e.Hint == "" {
				t.Errorf("error %q at line %d, hint %q; want %q at line %d and a hint", e, e.Line, e.Hint, c.want, c.line)
			}
		})
	}
}

func TestReadDeltasFailingReader(t *testing.T) {
	broken := errors.New("cable pulled")
	for name, in := range map[string]string{"at once": "", "later": "src,dst,latency_ms\na,b,1\n"} {
		t.Run(name, func(t *testing.T) {
			for _, f := range []func(io.Reader, string, *DeltaCollector) error{ReadDeltasCSV, ReadDeltasJSONL} {
				r := io.MultiReader(strings.NewReader(in), iotest.ErrReader(broken))
				if err := f(r, "x", NewDeltaCollector("", "")); !errors.Is(err, broken) {
					t.Errorf("got %v, want the reader's error", err)
				}
			}
		})
	}
}

func TestReadDeltasJSONL(t *testing.T) {
	ab := PairKey{"a", "b"}
	line := `{"src":"a","dst":"b","latency_ms":1}` + "\n"
	for name, c := range map[string]struct {
		in   string
		want read
	}{
		"plain":        {line + line, read{2, 0, map[PairKey][]float64{ab: {1, 1}}}},
		"no newline":   {strings.TrimSpace(line), read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"mark, CRLF":   {"\ufeff" + strings.ReplaceAll(line, "\n", "\r\n"), read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"gzip":         {zip(t, line), read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"blank lines":  {"\n" + line + "  \n", read{1, 0, map[PairKey][]float64{ab: {1}}}},
		"extra keys":   {`{"x":[1,{}],"latency_ms":2e1,"dst":"b","src":"a"}`, read{1, 0, map[PairKey][]float64{ab: {20}}}},
		"number texts": {`{"src":"a","dst":"b","latency_ms":"12.5"}`, read{1, 0, map[PairKey][]float64{ab: {12.5}}}},
		"empty names":  {`{"src":"","dst":"","latency_ms":2}`, read{1, 0, map[PairKey][]float64{{}: {2}}}},
		"skipped": {
			"{\n[]\n7\nnull\n" + `{"src":"a","dst":"b"}` + "\n" + `{"src":"a","latency_ms":1}` + "\n" + `{"dst":"b","latency_ms":1}` + "\n" +
				`{"src":"a","dst":"b","latency_ms":null}` + "\n" + `{"src":"a","dst":"b","latency_ms":"NaN"}` + "\n" +
				`{"src":1,"dst":"b","latency_ms":1}` + "\n" + line,
			read{11, 10, map[PairKey][]float64{ab: {1}}},
		},
		"long line": {strings.Repeat("x", 3*maxRecordBytes) + "\n" + line, read{2, 1, map[PairKey][]float64{ab: {1}}}},
	} {
		t.Run(name, func(t *testing.T) {
			collector := NewDeltaCollector(DeltaExact, NegativeKeep)
			if err := ReadDeltasJSONL(strings.NewReader(c.in), "x.jsonl", collector); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, gathered(collector)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, empty := range []string{"", "\n \n", "\ufeff"} {
		err := ReadDeltasJSONL(strings.NewReader(empty), "x.jsonl", NewDeltaCollector("", ""))
		if e, ok := errors.AsType[*InputError](err); !ok || e.Error() != "x.jsonl: the file is empty" {
			t.Errorf("%q: got %v", empty, err)
		}
	}
}

// checkDeltas holds for the deltas of any input.
func checkDeltas(t *testing.T, c *DeltaCollector) {
	t.Helper()
	d, err := c.Result()
	if err != nil {
		if _, ok := errors.AsType[*InputError](err); !ok {
			t.Fatalf("%v is no InputError", err)
		}
		return
	}
	var count int64
	for i, p := range d.Pairs {
		count += p.Count
		if p.D2MS > p.D3MS || p.D3MS > p.D4MS || p.D4MS > p.D5MS {
			// Equal percentiles may differ by the last bit.
			if !near(p.D2MS, p.D5MS) {
				t.Fatalf("deltas do not rise: %+v", p)
			}
		}
		if i > 0 && d.Pairs[i-1].Source == p.Source && d.Pairs[i-1].Destination == p.Destination {
			t.Fatalf("pair %q to %q twice", p.Source, p.Destination)
		}
	}
	if count != d.Used || d.Pooled.Count != count || d.Rows < d.Used+d.Skipped {
		t.Fatalf("rows %d, used %d, skipped %d, pairs %d, pooled %d", d.Rows, d.Used, d.Skipped, count, d.Pooled.Count)
	}
	// encoding/json refuses NaN and infinities.
	if err := d.WriteJSON(io.Discard, Tool{}); err != nil {
		t.Fatal(err)
	}
}

func FuzzDeltasCSV(f *testing.F) {
	f.Add("src,dst,latency_ms\na,b,1\na,b,2\n")
	f.Add("\ufefflatency_ms,x,dst,src\r\n-1e3,\"q\"\"\",b,a\r\nNaN,,,\n")
	f.Add("src,dst,latency_ms\n\"a,b,1\n")
	f.Add(zip(f, "src,dst,latency_ms\na,b,9e12\nc,d,-9e12\n"))
	f.Fuzz(func(t *testing.T, in string) {
		for _, method := range []DeltaMethod{DeltaExact, DeltaHDR} {
			for _, policy := range []NegativePolicy{NegativeKeep, NegativeClamp, NegativeDrop} {
				c := NewDeltaCollector(method, policy)
				if err := ReadDeltasCSV(strings.NewReader(in), "fuzz", c); err != nil {
					if e, ok := errors.AsType[*InputError](err); !ok || e.Hint == "" || e.Name != "fuzz" {
						t.Fatalf("%v is no InputError with a hint and a name", err)
					}
					continue
				}
				checkDeltas(t, c)
			}
		}
	})
}

func FuzzDeltasJSONL(f *testing.F) {
	f.Add(`{"src":"a","dst":"b","latency_ms":1}` + "\n" + `{"src":"a","dst":"b","latency_ms":"-2"}`)
	f.Add("{\n[]\n")
	f.Fuzz(func(t *testing.T, in string) {
		c := NewDeltaCollector(DeltaExact, NegativeKeep)
		if err := ReadDeltasJSONL(strings.NewReader(in), "fuzz", c); err != nil {
			if e, ok := errors.AsType[*InputError](err); !ok || e.Hint == "" {
				t.Fatalf("%v is no InputError with a hint", err)
			}
			return
		}
		checkDeltas(t, c)
	})
}

// Memory must not follow the length of a record or the ratio of compression.
func TestReadDeltasCSVMemory(t *testing.T) {
	bomb := zip(t, "src,dst,latency_ms\n"+strings.Repeat("x", 8<<20))
	allocated := allocatedBytes(func() {
		err := ReadDeltasCSV(strings.NewReader(bomb), "bomb", NewDeltaCollector("", ""))
		if _, ok := errors.AsType[*InputError](err); !ok {
			t.Errorf("got %v, want an InputError", err)
		}
	})
	if allocated > 4<<20 {
		t.Errorf("allocated %d bytes", allocated)
	}
}
