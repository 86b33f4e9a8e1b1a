package lambdalog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// expected is one entry of testdata/records/expected.json.
type expected struct {
	Kind        string          `json:"kind"`
	RequestID   *string         `json:"requestId"`
	DurationMs  string          `json:"durationMs"`
	BilledMs    json.RawMessage `json:"billedMs"`
	MemoryMB    int             `json:"memoryMB"`
	MaxMemoryMB int             `json:"maxMemoryMB"`
	Cold        bool            `json:"cold"`
	Status      string          `json:"status"`
	InitMs      string          `json:"initMs"`
	RestoreMs   string          `json:"restoreMs"`
	BilledRest  int             `json:"billedRestoreMs"`
	ErrorType   string          `json:"errorType"`
	Phase       string          `json:"phase"`
	Billable    *bool           `json:"billable"`
}

type expectedFile struct {
	Records    []expected `json:"records"`
	SameAs     string     `json:"sameAs"`
	Duplicates int64      `json:"duplicates"`
	Dropped    int64      `json:"droppedRecords"`
	Aggregate  bool       `json:"aggregate"`
}

func loadExpected(t *testing.T, dir string) map[string]expectedFile {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatal(err)
	}
	files := make(map[string]expectedFile)
	for name, body := range raw {
		var f expectedFile
		if body[0] == '[' {
			err = json.Unmarshal(body, &f.Records)
		} else {
			err = json.Unmarshal(body, &f)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		files[name] = f
	}
	return files
}

// short is what the table compares; times and places have tests of their own.
type short struct {
	Kind, ID, Duration, Billed, Init, Restore, BilledRestore string
	Memory, Max                                              int
	Cold, Billable                                           bool
	Status, ErrorType, Phase                                 string
}

func shorten(v lambdalog.Invocation) short {
	return short{
		string(v.Kind), v.RequestID, v.Duration.String(), v.Billed.String(), v.Init.String(), v.Restore.String(), v.BilledRestore.String(),
		int(v.Memory), int(v.MaxMemoryUsed), v.Cold, v.Billable, string(v.Status), v.ErrorType, v.Phase,
	}
}

func (e expected) short() short {
	s := short{
		Kind: e.Kind, Duration: e.DurationMs, Init: e.InitMs, Restore: e.RestoreMs,
		Memory: e.MemoryMB, Max: e.MaxMemoryMB, Cold: e.Cold, Status: e.Status, ErrorType: e.ErrorType, Phase: e.Phase,
	}
	if e.RequestID != nil {
		s.ID = *e.RequestID
	}
	if b := string(e.BilledMs); b != "" && b != "null" {
		s.Billed = b
	}
	if e.BilledRest > 0 {
		s.BilledRestore = lambdalog.MillisOf(time.Duration(e.BilledRest) * time.Millisecond).String()
	}
	s.Billable = s.Billed != ""
	if e.Billable != nil {
		s.Billable = *e.Billable
	}
	return s
}

type scanned struct {
	records []lambdalog.Invocation
	lines   []*lambdalog.LineError
	notices []*lambdalog.NoticeError
}

func scan(tb testing.TB, data []byte, name string) scanned {
	tb.Helper()
	var s scanned
	for v, err := range lambdalog.Scan(bytes.NewReader(data), name) {
		if bad, ok := errors.AsType[*lambdalog.LineError](err); ok {
			s.lines = append(s.lines, bad)
			continue
		}
		if notice, ok := errors.AsType[*lambdalog.NoticeError](err); ok {
			s.notices = append(s.notices, notice)
			continue
		}
		if err != nil {
			tb.Fatal(err)
		}
		s.records = append(s.records, v)
	}
	return s
}

func TestRecordFiles(t *testing.T) { recordFiles(t, "testdata/records", 22) }

// TestShapeFiles reads the shapes that testdata/records has no file of, made from their descriptions.
func TestShapeFiles(t *testing.T) { recordFiles(t, "testdata/shapes", 19) }

// recordFiles compares every file of a directory with its expected.json, which names each of them and no other.
func recordFiles(t *testing.T, dir string, number int) {
	t.Helper()
	files := loadExpected(t, dir)
	paths, err := filepath.Glob(dir + "/[0-9]*")
	if err != nil || len(paths) != number || len(files) != number {
		t.Fatalf("want %d record files, got %d, and %d in expected.json (%v)", number, len(paths), len(files), err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			want, ok := files[name]
			if !ok {
				t.Fatal("not in expected.json")
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := scan(t, data, name)
			records := want.Records
			if want.SameAs != "" {
				records = files[want.SameAs].Records
			}
			var wantShort, gotShort []short
			for _, r := range records {
				wantShort = append(wantShort, r.short())
			}
			for _, r := range got.records {
				gotShort = append(gotShort, shorten(r))
			}
			if diff := cmp.Diff(wantShort, gotShort); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if len(got.lines) != 0 {
				t.Errorf("unexpected bad line: %v", got.lines[0])
			}
			sum, err := lambdalog.Summarise(lambdalog.Scan(bytes.NewReader(data), name))
			if err != nil {
				t.Fatal(err)
			}
			if sum.Duplicates != want.Duplicates || sum.Dropped != want.Dropped {
				t.Errorf("duplicates %d, dropped %d; want %d, %d", sum.Duplicates, sum.Dropped, want.Duplicates, want.Dropped)
			}
			if aggregate := len(got.notices) == 1 && got.notices[0].Kind == lambdalog.NoticeAggregate; aggregate != want.Aggregate {
				t.Errorf("aggregate %v, want %v", aggregate, want.Aggregate)
			}
		})
	}
}

func TestAggregateIsWeightedByInvocations(t *testing.T) {
	data, err := os.ReadFile("testdata/records/67_get_metric_data.json")
	if err != nil {
		t.Fatal(err)
	}
	a := scan(t, data, "m").notices[0].Aggregate
	// (1500·70.2 + 1512·69.7)/3012; the mean of the two hourly means would be 69.95 exactly.
	if a.Invocations != 3012 || a.MeanDuration.Value.Round(time.Microsecond) != 69949*time.Microsecond {
		t.Errorf("got %d invocations, mean %s ms", a.Invocations, a.MeanDuration)
	}
}

func TestParseReport(t *testing.T) {
	const id = "5a56ac87-15c9-505b-93e2-7773063edf57"
	warm := short{Kind: "report", ID: id, Duration: "41.37", Billed: "42", Memory: 128, Max: 36, Billable: true, Status: "success"}
	cold := warm
	cold.Init, cold.Cold, cold.Billed = "88.61", true, "130"
	tests := []struct {
		name, line string
		want       short
		incomplete bool
	}{
		{"tabs", "REPORT RequestId: " + id + "\tDuration: 41.37 ms\tBilled Duration: 42 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\n", warm, false},
		{"spaces", "REPORT RequestId: " + id + " Duration: 41.37 ms Billed Duration: 42 ms Memory Size: 128 MB Max Memory Used: 36 MB", warm, false},
		{"legacy space before tab", "REPORT RequestId: " + id + "\tDuration: 41.37 ms\tBilled Duration: 42 ms \tMemory Size: 128 MB\tMax Memory Used: 36 MB\t", warm, false},
		{"emulator puts init first", "REPORT RequestId: " + id + "\tInit Duration: 88.61 ms\tDuration: 41.37 ms\tBilled Duration: 130 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t", cold, false},
		{"init last", "REPORT RequestId: " + id + "\tDuration: 41.37 ms\tBilled Duration: 130 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 88.61 ms\t", cold, false},
		{"unknown field", "REPORT RequestId: " + id + "\tDuration: 41.37 ms\tBilled Duration: 42 ms\tSwap Used: 3 MB\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t", warm, false},
		{"cut before billed", "REPORT RequestId: " + id + "\tDuration: 41.37 ms\tBilled Du", short{Kind: "report", ID: id, Duration: "41.37", Status: "success"}, true},
		{"cut in a number", "REPORT RequestId: " + id + "\tDuration: 41.37 ms\tBilled Duration: 4", short{Kind: "report", ID: id, Duration: "41.37", Status: "success"}, true},
		{"cut in the unit", "REPORT RequestId: " + id + "\tDuration: 41.37 ms\tBilled Duration: 42 m", short{Kind: "report", ID: id, Duration: "41.37", Status: "success"}, true},
		{"cut behind billed", "REPORT RequestId: " + id + "\tDuration: 41.37 ms\tBilled Duration: 42 ms\tMem", short{Kind: "report", ID: id, Duration: "41.37", Billed: "42", Billable: true, Status: "success"}, false},
		{"id only", "REPORT RequestId: " + id, short{Kind: "report", ID: id, Status: "success"}, true},
		{"managed instance", "REPORT RequestId: " + id + "\tDuration: 12.34 ms", short{Kind: "report", ID: id, Duration: "12.34", Status: "success"}, false},
		{"memory but no billed", "REPORT RequestId: " + id + "\tDuration: 12.34 ms\tMemory Size: 128 MB", short{Kind: "report", ID: id, Duration: "12.34", Memory: 128, Status: "success"}, true},
		{"bare", "Duration: 41.37 ms Billed Duration: 42 ms Memory Size: 128 MB Max Memory Used: 36 MB", short{Kind: "report", Duration: "41.37", Billed: "42", Memory: 128, Max: 36, Billable: true, Status: "success"}, false},
		{"restore report", "RESTORE_REPORT Restore Duration: 412.66 ms\tStatus: timeout", short{Kind: "restoreReport", Restore: "412.66", Status: "timeout"}, false},
		{"init error", "INIT_REPORT Init Duration: 3.10 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ExitError", short{Kind: "initReport", Init: "3.1", Phase: "invoke", Status: "error", ErrorType: "Runtime.ExitError"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := lambdalog.ParseReport(tt.line)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, shorten(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Incomplete != tt.incomplete {
				t.Errorf("incomplete %v, want %v", got.Incomplete, tt.incomplete)
			}
		})
	}
}

func TestParseReportRefuses(t *testing.T) {
	const id = "5a56ac87-15c9-505b-93e2-7773063edf57"
	tests := []struct {
		name, line string
		notReport  bool
	}{
		{"application words", "the word REPORT RequestId: is in this line", true},
		{"application line with prefix", "REPORT RequestId: is what this line begins with", true},
		{"message with billed", "upstream said: Billed Duration: 999 ms", true},
		{"bare duration", "Duration: 12 ms", true},
		{"bare with a tail", "Duration: 41 ms Billed Duration: 42 ms Memory Size: 128 MB per worker", true},
		{"bare with other unit", "Duration: 41 s Billed Duration: 42 ms Memory Size: 128 MB", true},
		{"empty", "", true},
		{"seconds", "REPORT RequestId: " + id + "\tDuration: 1.2 s\tBilled Duration: 42 ms", false},
		{"no unit inside", "REPORT RequestId: " + id + "\tDuration: 41.37\tBilled Duration: 42 ms", false},
		{"no number", "REPORT RequestId: " + id + "\tDuration: many ms\tBilled Duration: 42 ms", false},
		{"negative", "REPORT RequestId: " + id + "\tDuration: -1 ms\tBilled Duration: 42 ms", false},
		{"not a number", "REPORT RequestId: " + id + "\tDuration: NaN ms\tBilled Duration: 42 ms", false},
		{"twice", "REPORT RequestId: " + id + "\tDuration: 1 ms\tDuration: 2 ms\tBilled Duration: 42 ms", false},
		{"absurd", "REPORT RequestId: " + id + "\tDuration: 99999999999999999999 ms\tBilled Duration: 42 ms", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := lambdalog.ParseReport(tt.line)
			if err == nil {
				t.Fatalf("accepted as %+v", v)
			}
			if errors.Is(err, lambdalog.ErrNotReport) != tt.notReport {
				t.Errorf("got %v, want not-a-report %v", err, tt.notReport)
			}
		})
	}
}

func TestBillingRule(t *testing.T) {
	line := func(rest string) string { return "REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\t" + rest }
	tests := []struct {
		name, line string
		want       lambdalog.BillingRule
	}{
		{"init billed, one ceiling over the sum", line("Duration: 770.04 ms\tBilled Duration: 870 ms\tInit Duration: 99.83 ms"), lambdalog.RuleMillisecond},
		{"one ceiling, 2025", line("Duration: 5000.00 ms\tBilled Duration: 5579 ms\tInit Duration: 578.07 ms"), lambdalog.RuleMillisecond},
		{"init free", line("Duration: 953.02 ms\tBilled Duration: 954 ms\tInit Duration: 1204.55 ms"), lambdalog.RuleInitFree},
		{"hidden digits", line("Duration: 85.00 ms\tBilled Duration: 86 ms"), lambdalog.RuleMillisecond},
		{"slices", line("Duration: 125.00 ms\tBilled Duration: 200 ms"), lambdalog.RuleSlices},
		{"restore is inside", line("Duration: 127.10 ms\tBilled Duration: 154 ms\tRestore Duration: 400.00 ms\tBilled Restore Duration: 26 ms"), lambdalog.RuleMillisecond},
		{"restore added twice", line("Duration: 127.10 ms\tBilled Duration: 180 ms\tRestore Duration: 400.00 ms\tBilled Restore Duration: 26 ms"), lambdalog.RuleInconsistent},
		{"nothing explains", line("Duration: 41.37 ms\tBilled Duration: 999 ms"), lambdalog.RuleInconsistent},
		{"absent", line("Duration: 41.37 ms"), lambdalog.RuleUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := lambdalog.ParseReport(tt.line)
			if err != nil {
				t.Fatal(err)
			}
			if v.Rule != tt.want {
				t.Errorf("rule %q, want %q", v.Rule, tt.want)
			}
		})
	}
}

func TestScanGoesOnBehindBadLines(t *testing.T) {
	const good = "REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: 41.37 ms\tBilled Duration: 42 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\n"
	input := good + "REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: x ms\tBilled Duration: 42 ms\n" +
		strings.Repeat("a", lambdalog.MaxLineBytes+10) + "\n" + good
	got := scan(t, []byte(input), "in.log")
	if len(got.records) != 2 || len(got.lines) != 1 || len(got.notices) != 1 {
		t.Fatalf("got %d records, %d bad lines, %d notices", len(got.records), len(got.lines), len(got.notices))
	}
	if got.lines[0].Name != "in.log" || got.lines[0].Line != 2 || got.notices[0].Line != 3 || got.notices[0].Kind != lambdalog.NoticeLongLine {
		t.Errorf("places: %v, %v", got.lines[0], got.notices[0])
	}
	if s := got.records[1].Source.String(); s != "in.log:4" {
		t.Errorf("source %s, want in.log:4", s)
	}
}

func TestScanStopsWhenTold(t *testing.T) {
	line := "REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: 41.37 ms\tBilled Duration: 42 ms\n"
	n := 0
	for _, err := range lambdalog.Scan(strings.NewReader(strings.Repeat(line, 5)), "x") {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("yielded %d", n)
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

func TestScanReturnsReadErrors(t *testing.T) {
	boom := errors.New("boom")
	var last error
	for _, err := range lambdalog.Scan(failingReader{boom}, "x") {
		last = err
	}
	if !errors.Is(last, boom) {
		t.Errorf("got %v", last)
	}
	_, err := lambdalog.Summarise(lambdalog.Scan(failingReader{boom}, "x"))
	if !errors.Is(err, boom) {
		t.Errorf("Summarise: got %v", err)
	}
}

func TestTimesAndPlaces(t *testing.T) {
	want := time.Date(2026, 11, 20, 17, 0, 0, 411e6, time.UTC)
	for _, name := range []string{"50_s3_export_000000.gz", "52_filter_log_events.json", "54_aws_logs_tail_detailed.txt", "60_subscription_lambda_event.json"} {
		data, err := os.ReadFile("testdata/records/" + name)
		if err != nil {
			t.Fatal(err)
		}
		v := scan(t, data, name).records[0]
		if !v.Time.Equal(want) {
			t.Errorf("%s: time %v, want %v", name, v.Time, want)
		}
	}
	data, err := os.ReadFile("testdata/records/42_telemetry_api_batch_2022-12-13.json")
	if err != nil {
		t.Fatal(err)
	}
	v := scan(t, data, "f").records[1]
	before, _, ok := bytes.Cut(data, []byte(`"type": "platform.report"`))
	if !ok {
		t.Fatal("no report in the file")
	}
	line := 1 + bytes.Count(before, []byte("\n"))
	// The element's brace stands two lines above its type.
	if v.Source.Line != line-2 {
		t.Errorf("line %d, want %d", v.Source.Line, line-2)
	}
}

// The date of a record decides what its figures leave open.
func TestBillingRuleByDate(t *testing.T) {
	const slice = "REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: 99.10 ms\tBilled Duration: 100 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t"
	const slices = "REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: 125.00 ms\tBilled Duration: 200 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t"
	const free = "REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: 953.02 ms\tBilled Duration: 954 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 1204.55 ms\t"
	for _, tt := range []struct {
		at, line string
		want     lambdalog.BillingRule
	}{
		{"", slice, lambdalog.RuleMillisecond},
		{"2020-11-30T23:59:59Z ", slice, lambdalog.RuleSlices},
		{"2020-12-01T00:00:00Z ", slice, lambdalog.RuleMillisecond},
		{"2020-11-30T23:59:59Z ", slices, lambdalog.RuleSlices},
		{"2020-12-01T00:00:00Z ", slices, lambdalog.RuleInconsistent},
		{"", free, lambdalog.RuleInitFree},
		{"2025-07-31T23:59:59Z ", free, lambdalog.RuleInitFree},
		{"2025-08-01T00:00:00Z ", free, lambdalog.RuleInconsistent},
	} {
		got := scan(t, []byte(tt.at+tt.line+"\n"), "in").records
		if len(got) != 1 || got[0].Rule != tt.want {
			t.Errorf("%s%.90s: %+v, want %s", tt.at, tt.line, got, tt.want)
		}
	}
	s, err := lambdalog.Summarise(lambdalog.Scan(strings.NewReader(slices+"\n"+free+"\n"+slice+"\n"), "in"))
	if err != nil || s.Rules != (lambdalog.RuleCounts{Millisecond: 1, InitFree: 1, Slices: 1}) || len(s.Warnings) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}
