package lambdalog_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

const report = "REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: 41.37 ms\tBilled Duration: 42 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t"

func zip(tb testing.TB, text string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// payload is what CloudWatch Logs hands to a subscription.
func payload(tb testing.TB, id, message string) string {
	tb.Helper()
	data, err := json.Marshal(map[string]any{
		"messageType": "DATA_MESSAGE",
		"logEvents":   []any{map[string]any{"id": id, "timestamp": 1795194000411, "message": message}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}

func TestContainers(t *testing.T) {
	one, two := payload(t, "1", report), payload(t, "2", report)
	b64 := base64.StdEncoding.EncodeToString
	tests := []struct {
		name  string
		input []byte
		want  int
	}{
		{"byte order mark", []byte("\xef\xbb\xbf" + report), 1},
		{"carriage returns", []byte(report + "\r\n" + report + "\r\n"), 2},
		{"firehose object: gzip members, no newlines", append(zip(t, one), zip(t, two)...), 2},
		{"firehose object with newlines", []byte(one + "\n" + two + "\n"), 2},
		{"kinesis event", fmt.Appendf(nil, `{"Records":[{"kinesis":{"data":%q}},{"kinesis":{"data":%q}}]}`, b64(zip(t, one)), b64(zip(t, two))), 2},
		{"firehose transformation event", fmt.Appendf(nil, `{"invocationId":"x","records":[{"recordId":"1","data":%q}]}`, b64(zip(t, one))), 1},
		{"control message", []byte(`{"messageType":"CONTROL_MESSAGE","logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health of destination"}]}`), 0},
		{"export probe", []byte("Permission Check Successful"), 0},
		{"sam logs", []byte("2026/11/20/[$LATEST]00c1 2026-11-20T17:00:00.411000 " + report + "\n"), 1},
		{"tail --format short", []byte("2026-11-20T17:00:00 " + report + "\n"), 1},
		{"xray line", []byte(report + "\nXRAY TraceId: 1-5759e988-bd862e3fe1be46a994272793\tSegmentId: 6f7c0e\tSampled: true\t\n"), 1},
		{"xray line in the message", []byte(payload(t, "1", report+"\nXRAY TraceId: 1-5759e988\tSegmentId: 6f7c\tSampled: true\t\n")), 1},
		{"json line after text", []byte("START\n" + `{"time":"2026-11-20T17:00:00Z","type":"platform.report","record":{"requestId":"r","status":"success","metrics":{"durationMs":1.5,"billedDurationMs":2,"memorySizeMB":128,"maxMemoryUsedMB":38}}}`), 1},
		{"container inside application text is none", []byte("START\n" + one + "\n"), 0},
		{"array of pages", []byte("[" + `{"events":[{"message":"` + strings.ReplaceAll(report, "\t", `\t`) + `","eventId":"a"}]}` + "," + `{"events":[{"message":"` + strings.ReplaceAll(report, "\t", `\t`) + `","eventId":"a"}]}` + "]"), 1},
		{"console json export", []byte(`[{"@timestamp":"2026-11-20 17:00:01.000","@requestId":"r","@duration":"47.66","@billedDuration":"48.0","@memorySize":"1.28E8","@maxMemoryUsed":"3.6E7"}]`), 1},
		{"insights messages only", []byte("@timestamp,@message\n2026-11-20 17:00:01.000,\"" + report + "\n\"\n"), 1},
		{"lambda insights event", []byte(`{"_aws":{},"event_type":"performance","request_id":"r","billed_duration":42,"duration":41.37,"total_memory":128,"used_memory_max":36,"cold_start":1}`), 1},
		{"text that begins with a bracket", []byte("[INFO] starting\n" + report), 1},
		{"text that begins with a brace", []byte("{not json\n" + report + "\n"), 1},
		{"pretty json that breaks off", []byte("[\n {\"type\": \"platform.report\", \"record\": \n"), 0},
		{"empty", nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := scan(t, tt.input, "in")
			if len(got.records) != tt.want {
				t.Fatalf("got %d records, want %d (bad lines %v)", len(got.records), tt.want, got.lines)
			}
			for _, v := range got.records {
				if !v.Billable || v.Incomplete || v.Memory != 128 && v.Memory != 0 {
					t.Errorf("record %+v", v)
				}
			}
		})
	}
}

func TestTruncatedGzipIsAnError(t *testing.T) {
	var text strings.Builder
	for i := range 20_000 { // more than one read buffer must come out before the cut
		fmt.Fprintf(&text, "REPORT RequestId: %08x-15c9-505b-93e2-7773063edf57\tDuration: %d ms\tBilled Duration: %d ms\t\n", i*2654435761%(1<<32), i, i)
	}
	data := zip(t, text.String())
	var last error
	n := 0
	for _, err := range lambdalog.Scan(bytes.NewReader(data[:len(data)-6]), "in.gz") {
		if last = err; err == nil {
			n++
		}
	}
	if last == nil || n == 0 {
		t.Errorf("%d records, error %v; want the records and then an error", n, last)
	}
}

func TestTailWithoutReport(t *testing.T) {
	got := scan(t, fmt.Appendf(nil, `{"StatusCode":200,"LogResult":%q}`, base64.StdEncoding.EncodeToString([]byte("ed Duration: 42 ms\tMemory"))), "in")
	if len(got.records) != 0 || len(got.notices) != 1 || got.notices[0].Kind != lambdalog.NoticeNoReport {
		t.Errorf("got %+v", got)
	}
}

func TestInsightsRowCap(t *testing.T) {
	input := "@requestId,@billedDuration\n" + strings.Repeat("r,42\n", 10_000)
	got := scan(t, []byte(input), "in.csv")
	if len(got.records) != 10_000 || len(got.notices) != 1 || got.notices[0].Kind != lambdalog.NoticeRowCap {
		t.Errorf("%d records, notices %v", len(got.records), got.notices)
	}
}

func TestEventIDDecidesDuplicates(t *testing.T) {
	input := payload(t, "1", report) + payload(t, "1", report) + payload(t, "2", report)
	got := scan(t, []byte(input), "in")
	if len(got.records) != 2 || len(got.notices) != 1 || got.notices[0].Kind != lambdalog.NoticeDuplicate {
		t.Errorf("%d records, notices %v; the request id must not decide", len(got.records), got.notices)
	}
}

func TestInvocationJSON(t *testing.T) {
	v, err := lambdalog.ParseReport(report)
	if err != nil {
		t.Fatal(err)
	}
	v.Source = lambdalog.Source{Name: "a.log", Line: 7}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"kind":"report","request_id":"5a56ac87-15c9-505b-93e2-7773063edf57","time":null,"duration_ms":41.37,"billed_ms":42,` +
		`"init_ms":null,"restore_ms":null,"billed_restore_ms":null,"memory_mb":128,"max_memory_used_mb":36,"cold":false,"status":"success",` +
		`"error_type":null,"billable":true,"incomplete":false,"billing_rule":"1ms","source":"a.log:7"}`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Error(diff)
	}
}

func TestMillisJSON(t *testing.T) {
	for _, want := range []lambdalog.Millis{{}, lambdalog.MillisOf(0), lambdalog.MillisOf(590113 * time.Microsecond), lambdalog.MillisOf(1)} {
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got lambdalog.Millis
		if err := json.Unmarshal(data, &got); err != nil || got != want {
			t.Errorf("%s: got %+v (%v), want %+v", data, got, err, want)
		}
	}
	var m lambdalog.Millis
	if err := json.Unmarshal([]byte(`"x"`), &m); err == nil {
		t.Error("accepted a word")
	}
}

func TestSummary(t *testing.T) {
	data, err := os.ReadFile("testdata/records/12_text_console_paste_spaces_no_prefix.txt")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := lambdalog.Summarise(lambdalog.Scan(bytes.NewReader(data), "p"))
	if err != nil {
		t.Fatal(err)
	}
	if sum.Records != 3 || sum.Reports != 3 || sum.Cold != 1 || sum.Billable != 3 || sum.Statuses.Success != 3 {
		t.Errorf("counts: %+v", sum)
	}
	// numpy.percentile([829, 39, 62], [50, 95, 99])
	b := sum.BilledMS
	if b.Sum.String() != "930" || b.Mean.String() != "310" || b.P50.String() != "62" || b.P95.String() != "752.3" || b.P99.String() != "813.66" || b.Max.String() != "829" {
		t.Errorf("billed: %+v", b)
	}
	if diff := cmp.Diff([]lambdalog.MemoryCount{{MB: 128, Count: 3}}, sum.Memory); diff != "" {
		t.Error(diff)
	}
	empty, err := json.Marshal(lambdalog.Summary{}.BilledMS)
	if err != nil || string(empty) != `{"sum":null,"mean":null,"p50":null,"p95":null,"p99":null,"max":null}` {
		t.Errorf("empty distribution: %s (%v)", empty, err)
	}
}

// The mean of any set lies between its smallest and largest value, and so do
// the percentiles, in order.
func TestDistributionProperties(t *testing.T) {
	for seed := range 200 {
		var u lambdalog.Summariser
		var all []float64
		for i := range seed%17 + 1 {
			d := time.Duration((seed*7919+i*104729)%900_000) * time.Millisecond
			all = append(all, float64(d))
			u.Add(lambdalog.Invocation{Kind: lambdalog.KindReport, Billed: lambdalog.MillisOf(d), Billable: true})
		}
		slices.Sort(all)
		b := u.Summary().BilledMS
		sum := 0.0
		for _, x := range all {
			sum += x
		}
		if float64(b.Sum.Value) != sum || math.Abs(float64(b.Mean.Value)-sum/float64(len(all))) > 1 {
			t.Fatalf("seed %d: sum %v, mean %v of %v", seed, b.Sum, b.Mean, all)
		}
		if !slices.IsSorted([]float64{all[0], float64(b.P50.Value), float64(b.P95.Value), float64(b.P99.Value), float64(b.Max.Value)}) {
			t.Fatalf("seed %d: %+v out of order", seed, b)
		}
	}
}

func FuzzReport(f *testing.F) {
	for _, line := range []string{
		report,
		"Duration: 41.37 ms Billed Duration: 42 ms Memory Size: 128 MB Max Memory Used: 36 MB",
		"INIT_REPORT Init Duration: 9998.71 ms\tPhase: init\tStatus: timeout",
		"REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: 4",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		v, err := lambdalog.ParseReport(line)
		if err != nil {
			if diff := cmp.Diff(lambdalog.Invocation{}, v); diff != "" {
				t.Errorf("an error came with a record: %s", diff)
			}
			return
		}
		if v.Billable != (v.Kind == lambdalog.KindReport && v.Billed.Known) {
			t.Errorf("billable without billed time: %+v", v)
		}
		if v.Billed.Value < 0 || v.Duration.Value < 0 || v.Init.Value < 0 || v.Memory < 0 {
			t.Errorf("negative value: %+v", v)
		}
		if _, err := json.Marshal(v); err != nil {
			t.Error(err)
		}
	})
}

func FuzzScan(f *testing.F) {
	names, err := os.ReadDir("testdata/records")
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range names {
		data, err := os.ReadFile("testdata/records/" + n.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(payload(f, "1", report)))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		for v, err := range lambdalog.Scan(bytes.NewReader(data), "fuzz") {
			if n++; n > 100_000 {
				return
			}
			if err != nil {
				continue
			}
			if v.Source.Line < 1 || v.Source.Line > bytes.Count(data, []byte("\n"))+1 && data[0] != 0x1f {
				t.Errorf("record from line %d", v.Source.Line)
			}
		}
	})
}

func BenchmarkScan(b *testing.B) {
	data := []byte(strings.Repeat("START RequestId: x\n"+report+"\nEND RequestId: x\n", 1000))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range lambdalog.Scan(bytes.NewReader(data), "b") {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
