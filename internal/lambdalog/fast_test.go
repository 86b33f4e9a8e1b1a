package lambdalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// result is everything that reading an input says.
type result struct {
	Summary    Summary
	Records    []Invocation
	Complaints []string
	Err        string
}

// carefully reads without any short way.
func carefully(r io.Reader) result {
	var got result
	var u Summariser
	s := &scanner{name: "in", seen: make(map[string]struct{}), slow: true}
	s.yield = func(v Invocation, err error) bool {
		if err == nil {
			u.Add(v)
			got.Records = append(got.Records, v)
			return true
		}
		got.Complaints = append(got.Complaints, err.Error())
		return u.Note(err) == nil
	}
	if err := s.input(r, fileLines(), 0); err != nil {
		got.Err = fmt.Sprintf("reading in: %v", err)
	}
	got.Summary = u.Summary()
	return got
}

// quickly reads by the short way, record by record.
func quickly(r io.Reader, size int) result {
	var got result
	var u Summariser
	s := &scanner{name: "in", seen: make(map[string]struct{}), size: size}
	s.yield = func(v Invocation, err error) bool {
		if err == nil {
			u.Add(v)
			got.Records = append(got.Records, v)
			return true
		}
		got.Complaints = append(got.Complaints, err.Error())
		return u.Note(err) == nil
	}
	if err := s.input(r, fileLines(), 0); err != nil {
		got.Err = fmt.Sprintf("reading in: %v", err)
	}
	got.Summary = u.Summary()
	return got
}

// inBulk reads by the short way with several workers, which lists no records.
func inBulk(r io.Reader, size, workers int) result {
	var got result
	var u Summariser
	note := func(err error) { got.Complaints = append(got.Complaints, err.Error()) }
	if err := u.read(r, &bulk{sum: &u, note: note, workers: workers, size: size}, "in"); err != nil {
		got.Err = err.Error()
	}
	got.Summary = u.Summary()
	return got
}

// same compares the careful way with the others, in blocks of a size. failing makes every reader end with an error
// behind the data.
func same(tb testing.TB, data []byte, size int, failing error) {
	tb.Helper()
	open := func() io.Reader {
		if failing == nil {
			return bytes.NewReader(data)
		}
		return io.MultiReader(bytes.NewReader(data), iotest.ErrReader(failing))
	}
	want := carefully(open())
	if diff := cmp.Diff(want, quickly(open(), size)); diff != "" {
		tb.Fatalf("Scan (-careful +short):\n%s", diff)
	}
	want.Records = nil
	for _, workers := range []int{1, 3} {
		if diff := cmp.Diff(want, inBulk(open(), size, workers)); diff != "" {
			tb.Fatalf("%d workers (-careful +short):\n%s", workers, diff)
		}
	}
}

const (
	usual    = "REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: 41.37 ms\tBilled Duration: 42 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\n"
	coldOne  = "REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: 41.37 ms\tBilled Duration: 130 ms\tMemory Size: 256 MB\tMax Memory Used: 36 MB\tInit Duration: 88.61 ms\t\n"
	platform = `{"time":"2026-11-20T17:00:00.411Z","type":"platform.report","record":{"requestId":"r","status":"timeout","metrics":{"durationMs":3000,"billedDurationMs":3000,"memorySizeMB":128,"maxMemoryUsedMB":38}}}` + "\n"
)

// lines are what logs are made of, records, decoys, and lines that miss the usual form by little.
func sampleLines() []string {
	id := "5a56ac87-15c9-505b-93e2-7773063edf57"
	return []string{
		usual, coldOne, platform,
		"START RequestId: " + id + " Version: $LATEST\n",
		"END RequestId: " + id + "\n",
		"\n", "\r\n", " \n", "\t\t\n", "S\n", "E", "{", "{\n", "R\n", "REPORT\n",
		strings.Replace(usual, "\n", "\r\n", 1),
		strings.Replace(usual, "\t\n", "\n", 1),
		strings.Replace(usual, "41.37", "41.3", 1),
		strings.Replace(usual, "41.37", "41.375", 1),
		strings.Replace(usual, "41.37", "41", 1),
		strings.Replace(usual, "41.37", "9999999.37", 1),
		strings.Replace(usual, "41.37", "1234567.37", 1),
		strings.Replace(usual, "41.37", "-1.37", 1),
		strings.Replace(usual, "41.37", ".37", 1),
		strings.Replace(usual, "41.37 ms", "41.37ms", 1),
		strings.Replace(usual, "41.37 ms", "41.37 s", 1),
		strings.Replace(usual, "41.37", "125.00", 1),
		strings.Replace(strings.Replace(usual, "41.37", "125.00", 1), "42", "200", 1),
		strings.Replace(usual, "42 ms", "999 ms", 1),
		strings.Replace(usual, "42 ms", "43 ms", 1),
		strings.Replace(usual, "42 ms", "41 ms", 1),
		strings.Replace(usual, "42 ms", "40 ms", 1),
		strings.Replace(usual, "42 ms", "00042 ms", 1),
		strings.Replace(usual, "42 ms", "99999999 ms", 1),
		strings.Replace(usual, "128", "0", 1),
		strings.Replace(usual, "128", "10240", 1),
		strings.Replace(usual, "36 MB", "0 MB", 1),
		strings.Replace(coldOne, "88.61", "0.00", 1),
		strings.Replace(coldOne, "130", "42", 1), // initialisation free
		strings.Replace(coldOne, "Init", "Restore", 1),
		strings.Replace(usual, "\t\n", "\tStatus: error\tError Type: Runtime.ExitError\t\n", 1),
		strings.Replace(usual, "\t\n", "\tRestore Duration: 400.00 ms\tBilled Restore Duration: 26 ms\t\n", 1),
		strings.ReplaceAll(usual, "\t", " "),
		strings.Replace(usual, "RequestId: ", "RequestId:  ", 1),
		strings.Replace(usual, "5a56", "5a5", 1),
		strings.Replace(usual, "5a56", "5a\t6", 1),
		strings.Replace(usual, "5a56", "5a 6", 1),
		strings.Replace(usual, "5a56", "5a\n6", 1),
		strings.Replace(usual, "5a56", "5\u00a06", 1),
		strings.Replace(usual, "5a56", "é56", 1),
		usual[:60] + "\n", usual[:90] + "\n", usual[:100] + "\n",
		"2026-11-20T17:00:00.411Z " + usual,
		"2026-11-20T17:00:00,411Z " + usual,
		"2026-11-20T17:00:00 " + usual,
		"2026-11-20T17:00:00.411Z 2026/11/20/[$LATEST]0123456789abcdef " + coldOne,
		"2026/11/20/[$LATEST]0123456789abcdef 2026-11-20T17:00:00.411000 " + usual,
		"2026-11-20T17:00:00.411Z\t" + id + "\tINFO\tREPORT RequestId: x\n",
		"2026-11-20T17:00:00.411Z " + platform,
		"2026-11-20 17:00:00 " + usual,
		" " + usual, "\t" + platform, "\u00a0" + platform, "\v" + platform,
		"the word " + usual,
		"upstream said: Billed Duration: 999 ms\n",
		"Duration: 41.37 ms Billed Duration: 42 ms Memory Size: 128 MB Max Memory Used: 36 MB\n",
		"Billed Duration: 42 ms\tDuration: 41.37 ms\tMemory Size: 128 MB\n",
		"Memory Size: 128 MB\tDuration: 41.37 ms\tBilled Duration: 42 ms\n",
		"Max Memory Used: 36 MB Memory Size: 128 MB Duration: 41.37 ms Billed Duration: 42 ms\n",
		"Status: error Duration: 41.37 ms Billed Duration: 42 ms Memory Size: 128 MB\n",
		"Error Type: X Duration: 41.37 ms Billed Duration: 42 ms Memory Size: 128 MB\n",
		"Phase: init Duration: 41.37 ms Billed Duration: 42 ms Memory Size: 128 MB\n",
		"Init Duration: 88.61 ms Duration: 41.37 ms Billed Duration: 130 ms Memory Size: 128 MB\n",
		"RequestId: " + id + " Duration: 41.37 ms Billed Duration: 42 ms Memory Size: 128 MB\n",
		"Restore Duration: 1.00 ms Duration: 41.37 ms Billed Duration: 42 ms Memory Size: 128 MB\n",
		"INIT_REPORT Init Duration: 9998.71 ms\tPhase: init\tStatus: timeout\n",
		"RESTORE_REPORT Restore Duration: 412.66 ms\tStatus: success\n",
		"XRAY TraceId: 1-5759e988\tSegmentId: 6f7c\tSampled: true\t\n",
		`{"level":"INFO","msg":"billed_duration is a word"}` + "\n",
		`{"_aws":{},"event_type":"performance","request_id":"r","billed_duration":42,"duration":41.37,"total_memory":128,"used_memory_max":36,"cold_start":1}` + "\n",
		`{"type":"platform.report","record":{"metrics":` + "\n",
		`{"type":"platform.logsDropped","record":{"droppedRecords":7}}` + "\n",
		"REPORT RequestId: " + id + "\tDuration: many ms\tBilled Duration: 42 ms\n",
		"REPORT RequestId: " + id + "\tDuration: 1.00 ms\tDuration: 2.00 ms\tBilled Duration: 42 ms\n",
		"\xff\xfe binary \x00\n", "Größe: 12\n", "日本\n",
	}
}

func TestShortWayOnEveryLine(t *testing.T) {
	for _, line := range sampleLines() {
		for _, around := range []string{"%s", "x\n%s", "x\n" + usual + "%s" + usual, "x\n%s" + strings.Repeat("y", 2*fastLine) + "\n", platform + "%s" + usual} {
			data := []byte(strings.Replace(around, "%s", line, 1))
			same(t, data, blockBytes, nil)
			same(t, bytes.TrimRight(data, "\n"), blockBytes, nil)
			same(t, data, blockBytes, errors.New("boom"))
		}
	}
}

// Small blocks, so that their edges fall everywhere.
func TestShortWayOnRandomLogs(t *testing.T) {
	defer goleak.VerifyNone(t)
	lines := sampleLines()
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var b bytes.Buffer
		b.WriteString("x\n")
		for b.Len() < 30_000 {
			switch n := rng.IntN(1000); {
			case n < 500:
				fmt.Fprintf(&b, "REPORT RequestId: %08x-15c9-505b-93e2-7773063edf57\tDuration: %d.%02d ms\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t\n",
					rng.Uint32(), n*n, n%100, n*n+1, 128<<rng.IntN(3), rng.IntN(200))
			default:
				b.WriteString(lines[rng.IntN(len(lines))])
			}
		}
		same(t, b.Bytes(), 1+rng.IntN(3000), nil)
		same(t, b.Bytes(), 1+rng.IntN(3000), errors.New("boom"))
	}
}

// A line that is cut by the end of a block must be read as if it were not: every place of the cut is tried.
func TestShortWayAtBlockEdges(t *testing.T) {
	text := []byte("x\n" + usual + coldOne + usual)
	for size := 1; size < len(text)+2; size++ {
		same(t, text, size, nil)
	}
}

func TestShortWayOnLongLines(t *testing.T) {
	for _, n := range []int{blockBytes, MaxLineBytes - 1, MaxLineBytes, MaxLineBytes + 1, MaxLineBytes + 2, 2*MaxLineBytes + blockBytes} {
		long := strings.Repeat("z", n)
		for _, text := range []string{
			"x\n" + usual + long + "\n" + usual, "x\n" + usual + long + "\n" + long + "\n" + usual + "REPORT RequestId: bad\tDuration: x ms\n", "x\n" + usual + long,
		} {
			same(t, []byte(text), blockBytes, nil)
			same(t, []byte(text), blockBytes, errors.New("boom"))
		}
	}
}

func TestShortWayOnRecordFiles(t *testing.T) {
	names, err := os.ReadDir("testdata/records")
	if err != nil || len(names) == 0 {
		t.Fatal(err)
	}
	for _, n := range names {
		data, err := os.ReadFile("testdata/records/" + n.Name())
		if err != nil {
			t.Fatal(err)
		}
		same(t, data, 700, nil)
	}
}

// The short way must be taken, or its tests compare nothing.
func TestShortWayIsTaken(t *testing.T) {
	var r fastReport
	for _, line := range []string{usual, coldOne} {
		b := append([]byte(line), make([]byte, fastLine)...)
		if n := parseFast(b, &r); n != len(line) || !r.plain() {
			t.Errorf("%q: read %d of %d bytes", line, n, len(line))
		}
	}
	for _, line := range []string{"START RequestId: x\n", "END RequestId: x\n", "[INFO] x\n", `{"level":"INFO"}` + "\n", "2026-11-20T17:00:00.411Z\tx\tINFO\tREPORT\n", "\tat com.example\n"} {
		if !dull([]byte(line)) {
			t.Errorf("%q is looked at closely", line)
		}
	}
}

func FuzzSummary(f *testing.F) {
	for _, line := range sampleLines() {
		f.Add([]byte("x\n" + line + usual))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		same(t, data, blockBytes, nil)
		same(t, append([]byte("x\n"), data...), 300, nil)
	})
}

func BenchmarkSummary(b *testing.B) {
	data := []byte(strings.Repeat("START RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57 Version: $LATEST\n"+strings.Repeat("an application's line of a usual length ", 6)+"\nEND RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\n"+usual, 20_000))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var u Summariser
		if err := u.Read(bytes.NewReader(data), "b", 1, nil); err != nil {
			b.Fatal(err)
		}
	}
}
