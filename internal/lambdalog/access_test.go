package lambdalog_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// accessLine has the format that deploy/sam/template.yaml gives its API.
const accessLine = `{"requestId":"JKJaXmPLvHcESHA=","requestTime":"26/Nov/2026:14:00:00 +0000","httpMethod":"POST","path":"/api/v1/write",` +
	`"status":"204","integrationRequestId":"5a56ac87-15c9-505b-93e2-7773063edf57","integrationLatency":"9","responseLatency":"11"}`

// read collects lines, as "gateway lambda", and complaints.
func read(seq iter.Seq2[lambdalog.Access, error]) (lines, bad []string) {
	for a, err := range seq {
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		lines = append(lines, fmt.Sprintf("%s %s", a.GatewayID, a.RequestID))
	}
	return lines, bad
}

func TestScanAccess(t *testing.T) {
	const both = "JKJaXmPLvHcESHA= 5a56ac87-15c9-505b-93e2-7773063edf57"
	var one lambdalog.AccessFields
	for _, tt := range []struct {
		name   string
		fields lambdalog.AccessFields
		input  string
		want   []string
		bad    []string // what each complaint has in it
	}{
		{"one line", one, accessLine, []string{both}, nil},
		{"lines, one of them empty", one, accessLine + "\r\n\n" + accessLine + "\n", []string{both, both}, nil},
		{"gzip", one, string(zip(t, accessLine+"\n"+accessLine)), []string{both, both}, nil},
		{"aws logs tail", one, "2026-11-26T14:00:00.411000+00:00 abc123-$default " + accessLine + "\n2026-11-26T14:00:00.412000+00:00 abc123-$default " + accessLine + "\n", []string{both, both}, nil},
		{"S3 export", one, "2026-11-26T14:00:00.411Z " + accessLine + "\n", []string{both}, nil},
		{"FilterLogEvents", one, `{"events":[{"eventId":"1","timestamp":1795194000411,"message":` + quoted(accessLine+"\n") + `}],"searchedLogStreams":[]}`, []string{both}, nil},
		{"the same, indented", one, "{\n \"events\": [\n  {\"eventId\":\"1\",\n   \"message\":" + quoted(accessLine) + "\n  }\n ]\n}\n", []string{both}, nil},
		{"subscription in gzip", one, string(zip(t, payload(t, "1", accessLine))), []string{both}, nil},
		{"Kinesis", one, fmt.Sprintf(`{"Records":[{"kinesis":{"data":%q}}]}`, base64.StdEncoding.EncodeToString(zip(t, payload(t, "1", accessLine)))), []string{both}, nil},
		{"array of lines", one, "[" + accessLine + ",\n" + accessLine + "]", []string{both, both}, nil},
		{"Logs Insights, JSON", one, `[{"@timestamp":"2026-11-26 14:00:00.000","@message":` + quoted(accessLine) + `}]`, []string{both}, nil},
		{"Logs Insights, CSV", one, "@timestamp,@message\n2026-11-26 14:00:00.000,\"" + strings.ReplaceAll(accessLine, `"`, `""`) + "\"\n", []string{both}, nil},
		{"empty", one, "", nil, nil},

		{"nothing was invoked", one, `{"requestId":"g","integrationRequestId":"-"}`, []string{"g "}, nil},
		{"null, and no text at all", one, `{"requestId":"g","integrationRequestId":null}` + "\n" + `{"requestId":"g","integrationRequestId":""}`, []string{"g ", "g "}, nil},
		{"the other variable", one, `{"requestId":"g","awsEndpointRequestId":"l"}`, []string{"g l"}, nil},
		{"both variables, one without a value", one, `{"requestId":"g","integrationRequestId":"-","awsEndpointRequestId":"l"}`, []string{"g l"}, nil},
		{"names of variables", one, `{"$context.requestId":"g","$context.integration.requestId":"l"}`, []string{"g l"}, nil},
		{"snake case", one, `{"request_id":"g","integration_request_id":"l"}`, []string{"g l"}, nil},
		{"objects", one, `{"context":{"requestId":"g","integration":{"requestId":"l","status":"204"}}}`, []string{"g l"}, nil},
		{"an object for the integration", one, `{"requestId":"g","integration":{"requestId":"l"}}`, []string{"g l"}, nil},
		{"extended id beside the id", one, `{"extendedRequestId":"e","requestId":"g","integrationRequestId":"l"}`, []string{"g l"}, nil},
		{"extended id alone", one, `{"extendedRequestId":"e","integrationRequestId":"l"}`, []string{"e l"}, nil},
		{"who calls Lambda's id the request id", one, `{"gatewayRequestId":"g","requestId":"x","lambdaRequestId":"l"}`, []string{"g l"}, nil},
		{"one name twice", one, `{"requestId":"h","request_id":"g","integrationRequestId":"l"}`, []string{"g l"}, nil},

		{"named fields", lambdalog.AccessFields{Gateway: "id", Lambda: "fn"}, `{"id":"g","fn":"l","requestId":"x","integrationRequestId":"y"}`, []string{"g l"}, nil},
		{"named fields in objects", lambdalog.AccessFields{Gateway: "a.b.id", Lambda: "a.c"}, `{"a":{"b":{"id":"g"},"c":"l"}}`, []string{"g l"}, nil},
		{"a name with a dot", lambdalog.AccessFields{Gateway: "a.id", Lambda: "a.fn"}, `{"a.id":"g","a":{"fn":"l"}}`, []string{"g l"}, nil},
		{"an object with a dot", lambdalog.AccessFields{Gateway: "a.b.id", Lambda: "fn"}, `{"a.b":{"id":"g"},"fn":"-"}`, []string{"g "}, nil},
		{"one named field", lambdalog.AccessFields{Lambda: "fn"}, `{"requestId":"g","fn":"l"}`, []string{"g l"}, nil},
		{
			"a named field is not there",
			lambdalog.AccessFields{Gateway: "requestId", Lambda: "fn"},
			`{"requestId":"g","integrationRequestId":"l"}`, nil,
			[]string{`log:1: has no field "fn", only "integrationRequestId", "requestId"`},
		},

		{"no JSON between", one, accessLine + "\n198.51.100.1 - - [26/Nov/2026:14:00:00 +0000] \"POST /api/v1/write HTTP/1.1\" 204 0\n" + accessLine, []string{both, both}, []string{"log:2: is no JSON object"}},
		{"broken off", one, accessLine + "\n" + accessLine[:100], []string{both}, []string{"log:2: is no JSON object"}},
		{"broken first line", one, `{"requestId":"g","integrationRequestId":-,"status":"204"}` + "\n" + accessLine, []string{both}, []string{"log:1: reading JSON: ", "log:1: is no JSON object"}},
		{
			"no integration", one, `{"requestId":"g","ip":"198.51.100.1"}`, nil,
			[]string{`log:1: has no field with the integration's request id, such as "integrationRequestId":"$context.integration.requestId", only "ip", "requestId"`},
		},
		{"no request", one, `{"integrationRequestId":"l"}`, nil, []string{`log:1: has no field with the gateway's request id, such as "requestId":"$context.requestId", only "integrationRequestId"`}},
		{"many fields", one, `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"` + strings.Repeat("z", 1000) + `":1}`, nil, []string{`"l" and 3 more`}},
		{"a request without an id", one, `{"requestId":"-","integrationRequestId":"l"}`, nil, []string{"log:1: has no request id of the gateway's"}},
		{"ids that are no text", one, `{"requestId":7,"integrationRequestId":[]}`, nil, []string{"log:1: has no request id of the gateway's"}},
		{"Lambda's log", one, report + "\n" + report, nil, []string{"log:1: is no JSON object", "log:2: is no JSON object"}},
		{"Lambda's log in JSON", one, `{"time":"2026-11-26T14:00:00Z","type":"platform.report","record":{"requestId":"r","metrics":{}}}`, nil, []string{"log:1: has no field with the gateway's"}},
		{"Lambda's log by Insights", one, `[{"@message":` + quoted(report) + `,"@duration":"1"}]`, nil, nil},
		{"nested beyond all sense", one, strings.Repeat(`{"context":`, 50) + `{"requestId":"g"}` + strings.Repeat("}", 50), nil, []string{"log:1: has no field with the gateway's"}},
		{"a line too long", one, accessLine + "\n" + `{"requestId":"` + strings.Repeat("x", lambdalog.MaxLineBytes) + `"}` + "\n" + accessLine, []string{both, both}, []string{"log:2: line is longer than"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, bad := read(lambdalog.ScanAccess(strings.NewReader(tt.input), "log", tt.fields))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s\ncomplaints %q", diff, bad)
			}
			if len(bad) != len(tt.bad) {
				t.Fatalf("complaints %q, want %q", bad, tt.bad)
			}
			for i, want := range tt.bad {
				if !strings.Contains(bad[i], want) {
					t.Errorf("complaint %q, want %q", bad[i], want)
				}
			}
		})
	}
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Complaints about the format say nothing of requests: only names of fields.
func TestScanAccessQuotesNoValue(t *testing.T) {
	for _, line := range []string{
		`{"authorization":"Bearer canary"}`, `{"requestId":"g","authorization":"Bearer canary"}`, `{"requestId":"g", canary`, `Bearer canary`,
	} {
		if _, bad := read(lambdalog.ScanAccess(strings.NewReader(line), "log", lambdalog.AccessFields{})); len(bad) == 0 || strings.Contains(strings.Join(bad, " "), "Bearer canary") {
			t.Errorf("%s: %q", line, bad)
		}
	}
}

func TestScanAccessEnds(t *testing.T) {
	// The reader's error is the last thing; so is the end of the consumer's interest.
	broken := errors.New("disk")
	var last error
	n := 0
	for _, err := range lambdalog.ScanAccess(io.MultiReader(strings.NewReader(accessLine+"\n"), iotest.ErrReader(broken)), "log", lambdalog.AccessFields{}) {
		last = err
		n++
	}
	if n != 2 || !errors.Is(last, broken) || !strings.Contains(last.Error(), "reading log: ") {
		t.Errorf("%d, %v", n, last)
	}
	for _, input := range []string{strings.Repeat(accessLine+"\n", 3), strings.Repeat("x\n", 3), "[" + accessLine + "," + accessLine + "]"} {
		n, last = 0, nil
		for _, err := range lambdalog.ScanAccess(strings.NewReader(input), "log", lambdalog.AccessFields{}) {
			last = err
			n++
			break
		}
		if n != 1 || (last != nil) != (input[0] == 'x') {
			t.Errorf("%d after a break, %v", n, last)
		}
	}
}

func TestScanAccessEvents(t *testing.T) {
	broken := errors.New("throttled")
	events := func(yield func(lambdalog.Event, error) bool) {
		_ = yield(lambdalog.Event{ID: "1", Message: accessLine + "\n"}, nil) && yield(lambdalog.Event{ID: "2", Message: "x"}, nil) &&
			yield(lambdalog.Event{ID: "1", Message: accessLine}, nil) && yield(lambdalog.Event{}, broken)
	}
	lines, bad := read(lambdalog.ScanAccessEvents(events, "cloudwatch:g", lambdalog.AccessFields{}))
	if len(lines) != 2 || len(bad) != 2 || !strings.HasPrefix(bad[0], "cloudwatch:g:2: is no JSON") || bad[1] != "throttled" {
		t.Errorf("%q, %q", lines, bad)
	}
	for a, err := range lambdalog.ScanAccessEvents(events, "cloudwatch:g", lambdalog.AccessFields{}) {
		if err != nil || a.Source != (lambdalog.Source{Name: "cloudwatch:g", Line: 1}) {
			t.Errorf("%+v, %v", a.Source, err)
		}
		break
	}
}

func TestGatewayLogNote(t *testing.T) {
	var g lambdalog.GatewayLog
	other := errors.New("disk")
	for _, tt := range []struct{ in, want error }{
		{&lambdalog.LineError{}, nil},
		{fmt.Errorf("wrapped: %w", &lambdalog.LineError{}), nil},
		{&lambdalog.NoticeError{Kind: lambdalog.NoticeLongLine}, nil},
		{&lambdalog.NoticeError{Kind: lambdalog.NoticeRowCap}, nil},
		{other, other},
	} {
		if got := g.Note(tt.in); !errors.Is(got, tt.want) {
			t.Errorf("%v: %v", tt.in, got)
		}
	}
	if g.BadLines != 3 {
		t.Errorf("%d bad lines", g.BadLines)
	}
}

// FuzzScanAccess: whatever a log holds, reading it ends, ids are never the gateway's word for none, and a line
// in the format that the documentation recommends is read as encoding/json reads it.
func FuzzScanAccess(f *testing.F) {
	for _, s := range []string{
		accessLine, accessLine + "\n" + accessLine, "2026-11-26T14:00:00 s " + accessLine, "[" + accessLine + "]",
		`{"requestId":"g","integrationRequestId":"-"}`, `{"requestId":"\ud800","integrationRequestId":"\u002d"}`, `{"requestId":"g","integration":{"requestId":"l"}}`,
		`{"requestId":"g","requestId":"h","integrationRequestId":null}`, `{"a":{"id":"g"},"a.fn":"l"}`, `{"events":[{"message":"{\"requestId\":\"g\"}"}]}`,
		`{"events":{"a":[1]},"requestId":"g","integrationRequestId":" l "}`, `{"requestId":"g"`, `{"": "-"}`, "x\n{}\n{", "\xef\xbb\xbf{}", `{"awslogs":{"data":"e30="}}`,
	} {
		f.Add([]byte(s), "", "")
		f.Add([]byte(s), "a.id", "a.fn")
	}
	f.Add(zip(f, accessLine), "requestId", "integrationRequestId")
	f.Fuzz(func(t *testing.T, data []byte, gateway, invoked string) {
		lines := 0
		for a, err := range lambdalog.ScanAccess(strings.NewReader(string(data)), "log", lambdalog.AccessFields{Gateway: gateway, Lambda: invoked}) {
			if err != nil {
				if a != (lambdalog.Access{}) {
					t.Fatalf("%+v beside %v", a, err)
				}
				continue
			}
			lines++
			if a.GatewayID == "" || a.GatewayID == "-" || a.RequestID == "-" || a.Source.Line < 1 || a.Source.Name != "log" {
				t.Fatalf("%+v", a)
			}
		}
		// As a value in such a line, the data come back.
		id := strings.TrimSpace(strings.ToValidUTF8(string(data), "\ufffd"))
		if id == "" || id == "-" || len(id) > 1000 {
			return
		}
		line := fmt.Sprintf(`{"requestId":%s,"status":"204","integrationRequestId":%s}`, quoted(id), quoted(id+"x"))
		got, bad := read(lambdalog.ScanAccess(strings.NewReader(line), "log", lambdalog.AccessFields{}))
		if want := []string{id + " " + id + "x"}; !cmp.Equal(got, want) {
			t.Fatalf("%q, %q of %s", got, bad, line)
		}
	})
}

func BenchmarkScanAccess(b *testing.B) {
	text := strings.Repeat(accessLine+"\n", 1000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range lambdalog.ScanAccess(strings.NewReader(text), "log", lambdalog.AccessFields{}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 1000 {
			b.Fatal(n)
		}
	}
}
