package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// The body comes out the same in whatever pieces it is asked for.
func TestEventBodyPieces(t *testing.T) {
	for n := range 20 {
		want := bytes.Repeat([]byte{0xa7, 0, 0xff, 3, 9}, 4)[:n]
		ev := event{body: []byte(base64.StdEncoding.EncodeToString(want)), base64: true}
		if got := ev.reader().length; got != int64(n) {
			t.Errorf("length %d, want %d", got, n)
		}
		for piece := 1; piece < 24; piece++ {
			got, err := io.ReadAll(&pieces{r: ev.reader(), n: piece})
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes in pieces of %d: %x, %v; want %x", n, piece, got, err, want)
			}
		}
		if err := iotest.TestReader(ev.reader(), want); err != nil {
			t.Error(err)
		}
	}
}

// Line breaks that the base64 package would skip must not shorten a body in silence.
func TestEventBodyLineBreaks(t *testing.T) {
	for _, body := range []string{"AAA\n\n\n\nA", "\n\n\n\nAAAAAAAA", "AAAA\r\n\r\nAAAA", "\nAAA\nAAA\nAAA\nAAA"} {
		for _, piece := range []int{1, 3, 6, 100} {
			ev := event{body: []byte(body), base64: true}
			got, err := io.ReadAll(&pieces{r: ev.reader(), n: piece})
			if _, ok := errors.AsType[*remotewrite.Error](err); !ok {
				t.Errorf("%q in pieces of %d: %x, %v", body, piece, got, err)
			}
		}
	}
}

type pieces struct {
	r io.Reader
	n int
}

func (p *pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.n)]) }

// FuzzEvent compares the scanner with encoding/json on everything that is JSON, and wants it to survive the rest.
func FuzzEvent(f *testing.F) {
	for _, s := range []string{
		`{"version":"2.0","rawPath":"/prod/api/v1/write","rawQueryString":"cluster_name=a","headers":{"content-type":"x","a":null},"requestContext":{"stage":"prod","http":{"method":"POST"},"x":[1,{"y":-1.5e3}]},"body":"AAEC","isBase64Encoded":true}`,
		`{"httpMethod":"POST","path":"/x","multiValueHeaders":{"A":["b","c"]},"headers":{"A":"c"},"queryStringParameters":{"q":"1 2"},"body":"\u0041\/\ud800","isBase64Encoded":false}`,
		`{"requestContext":{"elb":{}},"body":null,"multiValueQueryStringParameters":{"a":["%20"]}}`,
		"{\"body\":\"\xff\xfe\"}", `{}`, `null`, `[]`, `{"body":"a`, `{"a":1}}`, `{"":""}`, ` { "body" : "QQ==" , "isBase64Encoded" : true } `,
		strings.Repeat(`{"a":`, 80) + "1" + strings.Repeat("}", 80),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := bytes.Clone(payload)
		var ev event
		err := ev.parse(payload)
		var body []byte
		var bodyErr error
		if err == nil {
			body, bodyErr = io.ReadAll(ev.reader())
		}
		if !bytes.Equal(before, payload) {
			t.Fatal("the event was changed")
		}
		if bodyErr != nil {
			if _, ok := errors.AsType[*remotewrite.Error](bodyErr); !ok {
				t.Fatalf("the error %v is of no kind", bodyErr)
			}
		}
		var want oracle
		if !json.Valid(payload) || !want.read(payload) {
			return
		}
		if err != nil {
			t.Fatalf("a good event is refused: %v", err)
		}
		if ev.base64 != want.base64 || ev.method != want.method || ev.path != want.path {
			t.Fatalf("base64 %v, method %q, path %q; want %+v", ev.base64, ev.method, ev.path, want)
		}
		if !want.base64 && bodyErr == nil && string(body) != want.body {
			t.Fatalf("body %q, want %q", body, want.body)
		}
		if !want.base64 && (bodyErr != nil) != strings.Contains(want.body, "\uFFFD") {
			t.Fatalf("body %q: %v", want.body, bodyErr)
		}
		// encoding/base64 skips line breaks; we take them only in groups that they do not tear.
		if raw, err := base64.StdEncoding.DecodeString(want.body); want.base64 && bodyErr == nil && (err != nil || !bytes.Equal(raw, body)) {
			t.Fatalf("body %x, want %x, %v", body, raw, err)
		} else if want.base64 && bodyErr != nil && err == nil && !strings.ContainsAny(want.body, "\r\n") {
			t.Fatalf("good base64 %q is refused: %v", want.body, bodyErr)
		}
		for name, values := range want.header {
			if got := ev.header.Values(name); len(got) == 0 && len(values) > 0 {
				t.Fatalf("header %q is lost", name)
			}
		}
	})
}

// oracle is the event as encoding/json reads it.
type oracle struct {
	base64             bool
	method, path, body string
	header             map[string][]string
}

// read takes events in which every name occurs once and every field has its type; the others have no single meaning.
func (o *oracle) read(payload []byte) bool {
	if !unique(json.NewDecoder(bytes.NewReader(payload)), 0) {
		return false
	}
	var all map[string]any
	if json.Unmarshal(payload, &all) != nil {
		return false
	}
	fine := true
	str := func(m map[string]any, name string) string {
		s, ok := m[name].(string)
		fine = fine && (ok || m[name] == nil)
		return s
	}
	sub := func(m map[string]any, name string) map[string]any {
		s, ok := m[name].(map[string]any)
		fine = fine && (ok || m[name] == nil)
		return s
	}
	o.body, o.method, o.path = str(all, "body"), str(all, "httpMethod"), str(all, "path")
	b, ok := all["isBase64Encoded"].(bool)
	fine = fine && (ok || all["isBase64Encoded"] == nil)
	o.base64 = b
	rc := sub(all, "requestContext")
	if m := str(sub(rc, "http"), "method"); m != "" {
		o.method = m
	}
	stage := str(rc, "stage")
	if _, ok := all["rawPath"]; ok {
		o.path = str(all, "rawPath")
		if rest, ok := strings.CutPrefix(o.path, "/"+stage+"/"); ok && stage != "" {
			o.path = "/" + rest
		}
	}
	str(all, "rawQueryString")
	if o.method == "" {
		o.method = "POST"
	}
	if o.path == "" {
		o.path = PathWrite
	}
	for _, name := range []string{"headers", "multiValueHeaders", "queryStringParameters", "multiValueQueryStringParameters"} {
		header := map[string][]string{}
		for k, v := range sub(all, name) {
			vs, ok := v.([]any)
			if s, isString := v.(string); isString {
				vs, ok = []any{s}, true
			}
			fine = fine && (ok || v == nil)
			for _, v := range vs {
				s, ok := v.(string)
				fine = fine && (ok || v == nil)
				header[k] = append(header[k], s)
			}
		}
		if name == "multiValueHeaders" && len(header) > 0 || name == "headers" {
			o.header = header
		}
	}
	return fine
}

// unique says whether no object has a name twice and nothing is nested too deep.
func unique(d *json.Decoder, depth int) bool {
	tok, err := d.Token()
	if err != nil || depth > maxDepth-4 {
		return false
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return true
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			s, ok := name.(string)
			if err != nil || !ok || seen[s] {
				return false
			}
			seen[s] = true
		}
		if !unique(d, depth+1) {
			return false
		}
	}
	_, err = d.Token()
	return err == nil
}
