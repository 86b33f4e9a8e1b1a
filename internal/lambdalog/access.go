package lambdalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Access is one line of the access log of an API Gateway, as far as it says which invocation answered a request.
type Access struct {
	// GatewayID is the gateway's own id of the request, which it sends to the client ($context.requestId).
	GatewayID string
	// RequestID is the id that Lambda has of the invocation and logs; "" when the line has "-" in its place: nothing
	// was invoked, or the gateway gave up waiting for the answer that has the id.
	RequestID string
	// Source is where the line was read.
	Source Source
}

// AccessFields name the two fields of a line. A field within an object is named with dots, as integration.requestId.
// With "" the usual names are looked for: those of the variables, in any spelling.
//
// An API has the format of its access log from whoever made it. The variables are, as AWS documents them
// (https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging-variables.html, read on 2026-11-26):
//
//   - $context.requestId, the id that the gateway gives the request; for an HTTP API $context.extendedRequestId is the same;
//   - $context.integration.requestId, the request id of the AWS endpoint, equivalent to $context.awsEndpointRequestId, which
//     is what the endpoint has answered with as x-amzn-requestId: Lambda's own for a function. REST APIs have both as well.
//
// That a variable without a value is written as "-" is not on that page, but is what logs hold.
type AccessFields struct {
	// Gateway is the field with the gateway's id, Lambda the one with the invocation's.
	Gateway, Lambda string
}

// ScanAccess yields the lines of an access log in JSON, out of every container that [Scan] knows.
//
// A *LineError concerns one line that is no JSON object or lacks one of the fields, a *NoticeError one place, and reading
// goes on behind either; any other error is the last thing yielded: r failed. Memory use is bounded as for Scan, and no
// ids are kept: a line that is there twice is yielded twice.
func ScanAccess(r io.Reader, name string, fields AccessFields) iter.Seq2[Access, error] {
	return func(yield func(Access, error) bool) {
		s := newAccessScanner(name, fields, yield)
		err := s.input(r, fileLines(), 0)
		if err != nil && !errors.Is(err, errStop) {
			yield(Access{}, fmt.Errorf("reading %s: %w", name, err))
		}
	}
}

// ScanAccessEvents yields the lines of an access log in log events that are in memory already, as [ScanEvents] does for
// records.
func ScanAccessEvents(events iter.Seq2[Event, error], name string, fields AccessFields) iter.Seq2[Access, error] {
	return func(yield func(Access, error) bool) {
		s := newAccessScanner(name, fields, yield)
		n := 0
		for e, err := range events {
			n++
			if err != nil {
				yield(Access{}, err)
				return
			}
			if s.message(event{text: e.Message}, n) != nil {
				return
			}
		}
	}
}

// accessReader is what a scanner makes of events when they are lines of an access log.
type accessReader struct {
	fields AccessFields
	yield  func(Access, error) bool
}

func newAccessScanner(name string, fields AccessFields, yield func(Access, error) bool) *scanner {
	s := &scanner{name: name, access: &accessReader{fields: fields, yield: yield}}
	s.yield = func(_ Invocation, err error) bool {
		return err == nil || yield(Access{}, err) // a record of Lambda's is no line of an access log
	}
	return s
}

// accessText reads one event. Whatever a tool has put before the object, such as a time and a log stream, is skipped.
func (s *scanner) accessText(text string, line int) error {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	brace := max(0, strings.IndexByte(text, '{'))
	if quick, err := s.quickAccess(text[brace:], line); quick || err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text[brace:]), &fields) != nil {
		return s.bad(line, errors.New("is no JSON object: of access logs only those in JSON can be read"))
	}
	return s.accessObject(fields, line)
}

// accessObject reads the object that a line consists of.
func (s *scanner) accessObject(fields map[string]json.RawMessage, line int) error {
	a, err := s.access.read(fields)
	if err != nil {
		return s.bad(line, err)
	}
	return s.accessLine(a, line)
}

func (s *scanner) accessLine(a Access, line int) error {
	a.Source = Source{Name: s.name, Line: line}
	if !s.access.yield(a, nil) {
		return errStop
	}
	return nil
}

// read takes the two ids from a line.
func (r *accessReader) read(fields map[string]json.RawMessage) (Access, error) {
	found := accessFinds{}
	found.take(fields, r.fields, nil, 0)
	gateway, invoked := &found.gateway, &found.lambda
	switch {
	case gateway.rank == 0:
		return Access{}, missingField(fields, r.fields.Gateway, "the gateway's", `"requestId":"$context.requestId"`)
	case gateway.id == "":
		return Access{}, errors.New("has no request id of the gateway's")
	case invoked.rank == 0:
		return Access{}, missingField(fields, r.fields.Lambda, "the integration's", `"integrationRequestId":"$context.integration.requestId"`)
	}
	return Access{GatewayID: gateway.id, RequestID: invoked.id}, nil
}

// missingField says which field a line lacks, and which ones it has: names stand in the format of the log, and unlike
// values they say nothing of its requests.
func missingField(fields map[string]json.RawMessage, asked, whose, example string) error {
	const most, longest = 12, 40
	names := slices.Sorted(maps.Keys(fields))
	rest := ""
	if len(names) > most {
		names, rest = names[:most], fmt.Sprintf(" and %d more", len(names)-most)
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%.*q", longest, name)
	}
	if asked != "" {
		return fmt.Errorf("has no field %q, only %s%s", asked, strings.Join(names, ", "), rest)
	}
	return fmt.Errorf("has no field with %s request id, such as %s, only %s%s", whose, example, strings.Join(names, ", "), rest)
}

// accessFinds are the best fields of a line so far.
type accessFinds struct{ gateway, lambda accessFind }

type accessFind struct {
	rank int // 1 is the best name; 0: none found
	id   string
}

// take looks at the fields of an object, which path leads to: its names with nothing but their letters and digits.
func (f *accessFinds) take(fields map[string]json.RawMessage, asked AccessFields, path []byte, depth int) {
	if depth > maxDepth {
		return
	}
	if asked.Gateway != "" && depth == 0 {
		f.gateway.look(fields, asked.Gateway)
	}
	if asked.Lambda != "" && depth == 0 {
		f.lambda.look(fields, asked.Lambda)
	}
	if asked.Gateway != "" && asked.Lambda != "" {
		return
	}
	for name, raw := range fields {
		at := appendPlain(path, name)
		if len(raw) > 0 && raw[0] == '{' {
			var inner map[string]json.RawMessage
			if json.Unmarshal(raw, &inner) == nil {
				f.take(inner, asked, at, depth+1)
			}
			continue
		}
		if asked.Gateway == "" {
			f.gateway.better(gatewayRank(string(at)), asString(raw))
		}
		if asked.Lambda == "" {
			f.lambda.better(lambdaRank(string(at)), asString(raw))
		}
	}
}

// look finds the field that was asked for.
func (f *accessFind) look(fields map[string]json.RawMessage, path string) {
	if raw, ok := fields[path]; ok {
		f.better(1, asString(raw))
		return
	}
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		var inner map[string]json.RawMessage
		if raw := fields[path[:i]]; len(raw) > 0 && raw[0] == '{' && json.Unmarshal(raw, &inner) == nil {
			f.look(inner, path[i+1:])
		}
	}
}

// better takes a field if its name is better than what there is, or if that says nothing.
func (f *accessFind) better(rank int, id string) {
	if rank == 0 {
		return
	}
	if id = strings.TrimSpace(id); id == "-" {
		id = ""
	}
	if f.rank == 0 || (id != "" && (f.id == "" || rank < f.rank || rank == f.rank && id < f.id)) { // fields come in any order
		f.rank, f.id = rank, id
	}
}

// appendPlain appends a name without what spellings differ in: integration_requestId and integration.requestId are one.
func appendPlain(b []byte, name string) []byte {
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'A' && c <= 'Z':
			b = append(b, c+'a'-'A')
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b = append(b, c)
		}
	}
	return b
}

// gatewayRank says how well a name fits the gateway's id, 1 being the best; 0: it does not.
func gatewayRank(plain string) int {
	switch strings.TrimPrefix(plain, "context") {
	case "gatewayrequestid", "apigatewayrequestid", "apigwrequestid", "apirequestid":
		return 1 // who says it so clearly may call Lambda's own id requestId
	case "requestid":
		return 2
	case "extendedrequestid":
		return 3
	case "reqid":
		return 4
	}
	return 0
}

// lambdaRank says how well a name fits the invocation's id.
func lambdaRank(plain string) int {
	switch strings.TrimPrefix(plain, "context") {
	case "integrationrequestid":
		return 1
	case "awsendpointrequestid":
		return 2
	case "lambdarequestid", "awsrequestid", "integrationreqid", "integreqid":
		return 3
	}
	return 0
}

// quickAccess reads a line in the form that the gateway mostly writes: one object of plain strings and whole numbers. It is
// false, and has done nothing, for anything else and whenever something is wrong: the long way says what.
func (s *scanner) quickAccess(text string, line int) (bool, error) {
	if s.access == nil || s.slow {
		return false, nil
	}
	a, ok := s.access.quick(text)
	if !ok {
		return false, nil
	}
	return true, s.accessLine(a, line)
}

// quick reads such a line. What it reads, it reads as read does.
func (r *accessReader) quick(line string) (Access, bool) {
	var found accessFinds
	rest, ok := strings.CutPrefix(line, "{")
	for ok && rest != "}" {
		var name, value string
		if name, rest, ok = quickString(strings.TrimLeft(rest, " ")); !ok {
			break
		}
		if rest, ok = strings.CutPrefix(strings.TrimLeft(rest, " "), ":"); !ok {
			break
		}
		rest = strings.TrimLeft(rest, " ")
		if strings.HasPrefix(rest, `"`) {
			value, rest, ok = quickString(rest)
		} else {
			rest, ok = quickNumber(rest)
		}
		if !ok || !found.takeQuick(name, value, r.fields) {
			return Access{}, false
		}
		if rest = strings.TrimLeft(rest, " "); rest != "}" {
			rest, ok = strings.CutPrefix(rest, ",")
			ok = ok && rest != "}"
		}
	}
	if !ok || found.gateway.id == "" || found.lambda.rank == 0 {
		return Access{}, false
	}
	return Access{GatewayID: strings.Clone(found.gateway.id), RequestID: strings.Clone(found.lambda.id)}, true
}

// takeQuick looks at one field. It is false when it takes the long way to say what the field means.
func (f *accessFinds) takeQuick(name, value string, asked AccessFields) bool {
	switch name {
	case "events", "logEvents", "results", "MetricDataResults", "Records", "records", "awslogs", "LogResult":
		return false // names of containers
	}
	var space [40]byte
	var plain []byte
	if asked.Gateway == "" || asked.Lambda == "" {
		plain = appendPlain(space[:0], name)
	}
	is := func(asked string, rank func(string) int) int {
		switch asked {
		case "":
			return rank(string(plain))
		case name:
			return 1
		}
		return 0
	}
	gateway, invoked := is(asked.Gateway, gatewayRank), is(asked.Lambda, lambdaRank)
	if gateway > 0 && gateway == f.gateway.rank || invoked > 0 && invoked == f.lambda.rank {
		return false // twice: which one counts?
	}
	f.gateway.better(gateway, value)
	f.lambda.better(invoked, value)
	return true
}

// quickString takes a string of plain ASCII from the front of s.
func quickString(s string) (value, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", "", false
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[1:i], s[i+1:], true
		case c < ' ', c == '\\', c >= 0x80:
			return "", "", false
		}
	}
	return "", "", false
}

// quickNumber takes a whole number from the front of s.
func quickNumber(s string) (rest string, ok bool) {
	s = strings.TrimPrefix(s, "-")
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return s[n:], n > 0 && (n == 1 || s[0] != '0')
}
