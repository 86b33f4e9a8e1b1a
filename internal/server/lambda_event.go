package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// event is what there is to know of an event of any of the forms.
type event struct {
	method     string
	path       string // percent-encoded
	query      string // percent-encoded
	header     http.Header
	body       []byte // of the JSON string, between its quotes
	escaped    bool   // body has backslashes
	base64     bool
	balancer   bool // it comes from an application load balancer
	multiValue bool // it has multi-value headers
}

// parse reads an event. It looks at the fields that matter and skips the rest; body
// refers to payload.
//
// An event of format 2.0 has rawPath, rawQueryString and requestContext.http.method;
// one of format 1.0 and of a load balancer has path, httpMethod and the query in
// parts, and differs in whether those parts are still percent-encoded.
func (ev *event) parse(payload []byte) error {
	*ev = event{header: http.Header{}}
	var (
		stage, rawPath, rawMethod          string
		plain                              = http.Header{}
		parts, multiParts                  = url.Values{}, url.Values{}
		sawMultiValue, sawRaw, sawRawQuery bool
	)
	s := scan{b: payload}
	err := s.object(func(name string) (err error) {
		switch name {
		case "body":
			if s.null() {
				ev.body = nil
				return nil
			}
			ev.body, ev.escaped, err = s.str()
		case "isBase64Encoded":
			ev.base64, err = s.boolean()
		case "headers":
			err = s.values(plain.Add)
		case "multiValueHeaders":
			err = s.values(func(k, v string) { sawMultiValue = true; ev.header.Add(k, v) })
		case "queryStringParameters":
			err = s.values(parts.Add)
		case "multiValueQueryStringParameters":
			err = s.values(multiParts.Add)
		case "httpMethod":
			ev.method, err = s.text()
		case "path":
			ev.path, err = s.text()
		case "rawPath":
			sawRaw = true
			rawPath, err = s.text()
		case "rawQueryString":
			sawRawQuery = true
			ev.query, err = s.text()
		case "requestContext":
			if s.null() {
				return nil
			}
			err = s.object(func(name string) (err error) {
				switch name {
				case "elb":
					ev.balancer = true
					return s.skip(0)
				case "stage":
					stage, err = s.text()
				case "http":
					err = s.object(func(name string) (err error) {
						if name == "method" {
							rawMethod, err = s.text()
							return err
						}
						return s.skip(0)
					})
				default:
					return s.skip(0)
				}
				return err
			})
		default:
			return s.skip(0)
		}
		return err
	})
	if err != nil {
		return err
	}
	if s.space(); s.i != len(s.b) {
		return errors.New("something follows the JSON object")
	}

	ev.multiValue = sawMultiValue
	if !sawMultiValue { // else they hold the same and less
		ev.header = plain
	}
	if sawRaw {
		ev.path = rawPath
	}
	if rawMethod != "" {
		ev.method = rawMethod
	}
	// Only the path of format 2.0 begins with the stage.
	if rest, ok := strings.CutPrefix(ev.path, "/"+stage+"/"); ok && stage != "" && sawRaw {
		ev.path = "/" + rest
	}
	if !sawRawQuery {
		if len(multiParts) > 0 {
			parts = multiParts
		}
		ev.query = joinQuery(parts, ev.balancer)
	}
	// A direct invocation need not say what there is no choice about.
	if ev.method == "" {
		ev.method = http.MethodPost
	}
	if ev.path == "" {
		ev.path = PathWrite
	}
	return nil
}

// joinQuery puts a query together. A load balancer hands on the parts as they were in
// the URL; API Gateway decodes them.
func joinQuery(parts url.Values, encoded bool) string {
	if !encoded {
		return parts.Encode()
	}
	var all []string
	for k, vs := range parts {
		for _, v := range vs {
			all = append(all, k+"="+v)
		}
	}
	slices.Sort(all)
	return strings.Join(all, "&")
}

// reader returns the body as an HTTP body.
func (ev *event) reader() *eventBody {
	src := ev.body
	if ev.escaped {
		var err error
		if src, err = unescape(src); err != nil {
			return &eventBody{length: -1, err: badBase64()}
		}
		if ev.base64 { // base64(1) breaks its lines
			src = bytes.ReplaceAll(bytes.ReplaceAll(src, []byte("\n"), nil), []byte("\r"), nil)
		}
	}
	if !ev.base64 {
		r := &eventBody{src: src, length: int64(len(src)), plain: true}
		if !utf8.Valid(src) || bytes.Contains(src, []byte(string(utf8.RuneError))) {
			r.err = mangled()
		}
		return r
	}
	n := len(src)
	length := n / 4 * 3
	switch {
	case n%4 != 0:
		return &eventBody{src: src, length: -1, err: badBase64()}
	case n > 1 && src[n-2] == '=':
		length -= 2
	case n > 0 && src[n-1] == '=':
		length--
	}
	return &eventBody{src: src, length: int64(length)}
}

// eventBody reads the body of an event, decoding it into the reader's own buffer.
type eventBody struct {
	src    []byte
	length int64 // of what is read, if nothing is wrong
	plain  bool
	rest   []byte // decoded and not read yet
	three  [3]byte
	err    error
}

// Close does nothing.
func (*eventBody) Close() error { return nil }

// Read is that of io.Reader. Its errors are *remotewrite.Error.
func (b *eventBody) Read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case len(p) == 0:
		return 0, nil
	case len(b.rest) > 0:
		n := copy(p, b.rest)
		b.rest = b.rest[n:]
		return n, nil
	case len(b.src) == 0:
		return 0, io.EOF
	case b.plain:
		n := copy(p, b.src)
		b.src = b.src[n:]
		return n, nil
	case len(p) < 3:
		// Not even one group of four characters fits.
		n, err := b.decode(b.three[:], 4)
		if err != nil {
			return 0, err
		}
		k := copy(p, b.three[:n])
		b.rest = b.three[k:n]
		return k, nil
	}
	return b.decode(p, min(len(p)/3*4, len(b.src)))
}

// decode takes the next n characters, a multiple of four.
func (b *eventBody) decode(p []byte, n int) (int, error) {
	k, err := base64.StdEncoding.Decode(p, b.src[:n])
	// Line breaks, which the package skips, and padding before the end would leave it
	// short of three bytes a group.
	if last := n == len(b.src); err != nil || !last && k != n/4*3 || last && k < n/4*3-2 {
		b.err = badBase64()
		return 0, b.err
	}
	b.src = b.src[n:]
	return k, nil
}

// scan reads JSON from its front. What it is sure to be is checked by Lambda already;
// it is strict in what it uses, and otherwise only finds its way.
type scan struct {
	b []byte
	i int
}

// maxDepth bounds the nesting of values that are skipped.
const maxDepth = 64

func (s *scan) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\t' || s.b[s.i] == '\r') {
		s.i++
	}
}

func (s *scan) fail(want string) error {
	return fmt.Errorf("it is not the JSON that was expected: no %s at byte %d", want, s.i)
}

// take reads the character c, after white space.
func (s *scan) take(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scan) literal(word string) bool {
	s.space()
	if bytes.HasPrefix(s.b[s.i:], []byte(word)) {
		s.i += len(word)
		return true
	}
	return false
}

func (s *scan) null() bool { return s.literal("null") }

func (s *scan) boolean() (bool, error) {
	switch {
	case s.literal("true"):
		return true, nil
	case s.literal("false"), s.null():
		return false, nil
	}
	return false, s.fail("true or false")
}

// str reads a string and returns what is between its quotes.
func (s *scan) str() (raw []byte, escaped bool, err error) {
	if !s.take('"') {
		return nil, false, s.fail("string")
	}
	start := s.i
	end := bytes.IndexByte(s.b[start:], '"')
	if end < 0 {
		return nil, false, s.fail("end of the string")
	}
	if bytes.IndexByte(s.b[start:start+end], '\\') < 0 {
		s.i = start + end + 1
		return s.b[start : start+end], false, nil
	}
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case '"':
			s.i++
			return s.b[start : s.i-1], true, nil
		case '\\':
			s.i++
		}
		s.i++
	}
	s.i = len(s.b)
	return nil, false, s.fail("end of the string")
}

// text reads a string or null.
func (s *scan) text() (string, error) {
	if s.null() {
		return "", nil
	}
	raw, escaped, err := s.str()
	if err != nil {
		return "", err
	}
	if escaped || !utf8.Valid(raw) {
		if raw, err = unescape(raw); err != nil {
			return "", err
		}
	}
	return string(raw), nil
}

// unescape resolves what is between the quotes of a JSON string.
func unescape(raw []byte) ([]byte, error) {
	var text string
	quoted := slices.Concat([]byte{'"'}, raw, []byte{'"'})
	if err := json.Unmarshal(quoted, &text); err != nil {
		return nil, errors.New("it has a string that is not JSON")
	}
	return []byte(text), nil
}

// object reads an object or null; value must read the value of each name.
func (s *scan) object(value func(name string) error) error {
	if s.null() {
		return nil
	}
	return s.list('{', '}', func() error {
		name, err := s.text()
		if err != nil {
			return err
		}
		if !s.take(':') {
			return s.fail("colon")
		}
		return value(name)
	})
}

func (s *scan) list(open, end byte, element func() error) error {
	if !s.take(open) {
		return s.fail("'" + string(open) + "'")
	}
	if s.take(end) {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.take(end) {
			return nil
		}
		if !s.take(',') {
			return s.fail("comma or '" + string(end) + "'")
		}
	}
}

// values reads an object whose values are strings, or lists of strings.
func (s *scan) values(add func(name, value string)) error {
	return s.object(func(name string) error {
		if s.space(); s.i < len(s.b) && s.b[s.i] == '[' {
			return s.list('[', ']', func() error {
				v, err := s.text()
				if err == nil {
					add(name, v)
				}
				return err
			})
		}
		if s.null() {
			return nil
		}
		v, err := s.text()
		if err == nil {
			add(name, v)
		}
		return err
	})
}

// skip reads any value.
func (s *scan) skip(depth int) error {
	if s.space(); depth > maxDepth || s.i == len(s.b) {
		return s.fail("value")
	}
	switch c := s.b[s.i]; {
	case c == '"':
		_, _, err := s.str()
		return err
	case c == '[':
		return s.list('[', ']', func() error { return s.skip(depth + 1) })
	case c == '{':
		return s.list('{', '}', func() error {
			if _, _, err := s.str(); err != nil {
				return err
			}
			if !s.take(':') {
				return s.fail("colon")
			}
			return s.skip(depth + 1)
		})
	case c == '-' || '0' <= c && c <= '9':
		for s.i < len(s.b) && strings.IndexByte("+-.eE0123456789", s.b[s.i]) >= 0 {
			s.i++
		}
		return nil
	case s.literal("true"), s.literal("false"), s.null():
		return nil
	}
	return s.fail("value")
}
