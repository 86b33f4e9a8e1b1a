package lambdalog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// MaxLineBytes is the longest line that is read; longer ones are skipped and
// reported. CloudWatch Logs takes no event beyond 1 MiB.
const MaxLineBytes = 1 << 20

// maxValueBytes bounds one JSON value: one event, row or subscription payload.
const maxValueBytes = 16 << 20

// maxDepth bounds containers within containers, such as base64 of gzip of JSON.
const maxDepth = 6

// Scan reads r, whose container it finds out from the first bytes, and yields
// the records in it in their order. name is the input's name in errors and
// sources.
//
// With a nil error the Invocation is a record. A *LineError or *NoticeError
// concerns one place, and reading goes on behind it; any other error is the
// last thing yielded: r failed. Memory use is bounded by MaxLineBytes for a
// line and 16 MiB for a JSON value, whatever the size of the input, except that
// the event ids of the records read are kept to recognise duplicates.
func Scan(r io.Reader, name string) iter.Seq2[Invocation, error] {
	return func(yield func(Invocation, error) bool) {
		s := &scanner{name: name, yield: yield, seen: make(map[string]struct{})}
		err := s.input(r, fileLines(), 0)
		if err != nil && !errors.Is(err, errStop) {
			yield(Invocation{}, fmt.Errorf("reading %s: %w", name, err))
		}
	}
}

// Event is one log event as the CloudWatch Logs API returns it.
type Event struct {
	// ID is the event's id, by which repeated events are recognised; "" for none.
	ID string
	// Time is when the event was written; zero when it is not known.
	Time time.Time
	// Stream is its log stream; "" when it is not known.
	Stream string
	// Message is the event's text, of one or more lines, or JSON.
	Message string
}

// ScanEvents yields the records in log events that are in memory already, as
// Scan does for those of a file. The line of a record's Source is the number of
// its event, from 1. An error of events is yielded and is the last one.
func ScanEvents(events iter.Seq2[Event, error], name string) iter.Seq2[Invocation, error] {
	return func(yield func(Invocation, error) bool) {
		s := &scanner{name: name, yield: yield, seen: make(map[string]struct{})}
		n := 0
		for e, err := range events {
			n++
			if err != nil {
				yield(Invocation{}, err)
				return
			}
			if s.message(event{text: e.Message, time: e.Time, id: e.ID, stream: e.Stream}, n) != nil {
				return // the consumer has had enough: nothing else ends a message
			}
		}
	}
}

// errStop unwinds the scanner when the consumer has had enough.
var errStop = errors.New("stopped")

// errTooLarge ends a JSON value beyond maxValueBytes.
var errTooLarge = errors.New("value is larger than 16 MiB")

type scanner struct {
	name   string
	yield  func(Invocation, error) bool
	seen   map[string]struct{} // event ids of records, not of all events
	bulk   *bulk               // set when text may be summed up by several goroutines
	access *accessReader       // set when events are lines of an access log and not records
	slow   bool                // tests only: no short ways
	size   int                 // tests only: of a block, instead of blockBytes
}

func (s *scanner) record(v Invocation, line int) error {
	v.Source = Source{Name: s.name, Line: line}
	if !s.yield(v, nil) {
		return errStop
	}
	return nil
}

func (s *scanner) bad(line int, err error) error {
	if !s.yield(Invocation{}, &LineError{Name: s.name, Line: line, Msg: err.Error()}) {
		return errStop
	}
	return nil
}

func (s *scanner) notice(line int, kind NoticeKind, count int64) error {
	if !s.yield(Invocation{}, &NoticeError{Name: s.name, Line: line, Kind: kind, Count: count}) {
		return errStop
	}
	return nil
}

// input finds out the container and reads it.
func (s *scanner) input(r io.Reader, lines *lineCounter, depth int) error {
	if depth > maxDepth {
		return s.bad(lines.at(0), errors.New("containers are nested too deeply"))
	}
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading first bytes: %w", err)
	}
	if len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b {
		zr, err := gzip.NewReader(br)
		if err != nil {
			return fmt.Errorf("opening gzip: %w", err)
		}
		return s.input(zr, lines, depth+1)
	}
	if bytes.Equal(head, []byte("\xef\xbb\xbf")) {
		if _, err := br.Discard(3); err != nil {
			return fmt.Errorf("skipping byte order mark: %w", err)
		}
	}
	// Peek returns what there is. An input that breaks off early still gives
	// its first records; the error comes back with the next read.
	head, err = br.Peek(br.Size())
	if len(head) == 0 && err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading first bytes: %w", err)
	}
	switch {
	case isDocument(head):
		return s.documents(br, lines, depth)
	case isInsightsCSV(head):
		return s.csv(br, lines)
	default:
		return s.lines(br, lines, depth)
	}
}

// isDocument says whether the input must be read as JSON values rather than as
// lines: an array, or an object that does not end with its first line.
func isDocument(head []byte) bool {
	head = bytes.TrimLeft(head, " \t\r\n")
	if len(head) == 0 {
		return false
	}
	if head[0] == '[' {
		next := bytes.TrimLeft(head[1:], " \t\r\n")
		return len(next) > 0 && bytes.IndexByte([]byte("{[]"), next[0]) >= 0
	}
	if head[0] != '{' {
		return false
	}
	first, _, _ := bytes.Cut(head, []byte("\n"))
	return !json.Valid(first)
}

// lines reads text, one event a line.
func (s *scanner) lines(br *bufio.Reader, lines *lineCounter, depth int) error {
	buf := make([]byte, 0, 4096)
	for n := 1; ; n++ { // only JSON so far: a JSON line may be a container
		line, long, err := readLine(br, buf[:0])
		at := lines.count(n)
		if long {
			if err := s.notice(at, NoticeLongLine, 1); err != nil {
				return err
			}
		} else if text := strings.TrimSpace(string(line)); text != "" {
			quick, stop := s.quickAccess(text, at)
			switch {
			case stop != nil:
				return stop
			case quick:
			case text[0] == '{' && json.Valid([]byte(text)):
				err := s.document(json.NewDecoder(strings.NewReader(text)), nil, fixedLine(at), depth+1)
				if err != nil {
					return err
				}
			default:
				if err := s.textLine(line, at); err != nil {
					return err
				}
				if err == nil {
					return s.plain(br, lines, n+1)
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		buf = line
	}
}

// carefulLines reads text from line n on, one line after the other, without any short way.
func (s *scanner) carefulLines(br *bufio.Reader, lines *lineCounter, n int) error {
	buf := make([]byte, 0, 4096)
	for ; ; n++ {
		line, long, err := readLine(br, buf[:0])
		var stop error
		if long {
			stop = s.notice(lines.count(n), NoticeLongLine, 1)
		} else {
			stop = s.textLine(line, lines.count(n))
		}
		if stop != nil || errors.Is(err, io.EOF) {
			return stop
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		buf = line
	}
}

// textLine reads a line of text that is no container.
func (s *scanner) textLine(line []byte, at int) error {
	text := strings.TrimRight(string(line), "\r\n")
	if strings.TrimSpace(text) == "" {
		return nil
	}
	when, stream, message := splitPrefix(text)
	return s.message(event{text: message, time: when, stream: stream}, at)
}

// readLine reads one line into buf. A line beyond MaxLineBytes is consumed and
// reported as long.
func readLine(br *bufio.Reader, buf []byte) (line []byte, long bool, err error) {
	for {
		part, err := br.ReadSlice('\n')
		if len(buf)+len(part) > MaxLineBytes+1 {
			long, buf = true, buf[:0]
		} else if !long {
			buf = append(buf, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return buf, long, err //nolint:wrapcheck // the caller adds the line
		}
	}
}

// event is one log event, out of its container.
type event struct {
	text   string
	time   time.Time
	id     string
	stream string
}

// splitPrefix takes the time, and the log stream if any, off a line of an S3
// export (time, message), `aws logs tail` (time, stream, message) or `sam logs`
// (stream, time, message).
func splitPrefix(line string) (when time.Time, stream, message string) {
	first, rest, ok := strings.Cut(line, " ")
	if !ok {
		return time.Time{}, "", line
	}
	if when := prefixTime(first); !when.IsZero() {
		if second, message, ok := strings.Cut(rest, " "); ok && isStream(second) {
			return when, second, message
		}
		return when, "", rest
	}
	if isStream(first) {
		if second, message, ok := strings.Cut(rest, " "); ok {
			if when := prefixTime(second); !when.IsZero() {
				return when, first, message
			}
		}
	}
	return time.Time{}, "", line
}

func prefixTime(word string) time.Time {
	if len(word) < len("2026-11-20T17:00:00") || word[4] != '-' || word[10] != 'T' {
		return time.Time{}
	}
	return parseTime(word)
}

// isStream recognises Lambda's log streams, 2026/11/20/[$LATEST]0123….
func isStream(word string) bool {
	return len(word) > 13 && word[4] == '/' && word[7] == '/' && word[10] == '/' &&
		digits(word[:4]) && strings.Contains(word[11:], "[") && strings.Contains(word, "]")
}

// message reads the records in one event. Lines after the first belong to the
// same event: the XRAY line of a REPORT is one of them.
func (s *scanner) message(e event, line int) error {
	if s.access != nil {
		return s.accessText(e.text, line)
	}
	text := strings.TrimSpace(e.text)
	if strings.HasPrefix(text, "{") {
		return s.jsonMessage(e, text, line)
	}
	for part := range strings.SplitSeq(e.text, "\n") {
		v, err := ParseReport(part)
		if errors.Is(err, ErrNotReport) {
			continue
		}
		if err != nil {
			if err := s.bad(line, err); err != nil {
				return err
			}
			continue
		}
		if err := s.parsed(v, e, line); err != nil {
			return err
		}
	}
	return nil
}

// parsed yields a record read from e, once for every event id. It never looks
// at the request id: asynchronous retries share one, and each is billed.
func (s *scanner) parsed(v Invocation, e event, line int) error {
	if e.id != "" {
		if _, dup := s.seen[e.id]; dup {
			return s.notice(line, NoticeDuplicate, 1)
		}
		s.seen[e.id] = struct{}{}
	}
	if !e.time.IsZero() && v.Time.IsZero() {
		v.Time = e.time.UTC()
	}
	v.dated()
	v.Stream = e.stream
	return s.record(v, line)
}

// jsonMessage reads an event that is a JSON object: a platform record, a
// Lambda Insights event, or, mostly, something of the application's.
func (s *scanner) jsonMessage(e event, text string, line int) error {
	if !strings.Contains(text, `platform.`) && !strings.Contains(text, `billed_duration`) {
		return nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		if strings.Contains(text, `"platform.report"`) {
			return s.bad(line, errors.New("platform.report record is no valid JSON"))
		}
		return nil
	}
	return s.platformOrInsights(fields, e, line)
}

func (s *scanner) platformOrInsights(fields map[string]json.RawMessage, e event, line int) error {
	p := platformEvent{Time: asString(fields["time"]), Type: asString(fields["type"]), Record: fields["record"]}
	if p.Type == "platform.logsDropped" {
		var d platformDropped
		if err := json.Unmarshal(p.Record, &d); err != nil {
			return s.bad(line, fmt.Errorf("reading %s: %w", p.Type, err))
		}
		return s.notice(line, NoticeDropped, d.Records)
	}
	v, err := parsePlatform(p)
	if errors.Is(err, ErrNotReport) {
		v, err = parsePerformance(fields)
	}
	if errors.Is(err, ErrNotReport) {
		return nil
	}
	if err != nil {
		return s.bad(line, err)
	}
	return s.parsed(v, e, line)
}

// asString returns a JSON string's value, or "" for anything else.
func asString(raw json.RawMessage) string {
	var text string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &text) != nil {
		return ""
	}
	return text
}

// packed reads base64, with or without gzip below it.
func (s *scanner) packed(data string, line, depth int) error {
	r := base64.NewDecoder(base64.StdEncoding, strings.NewReader(data))
	if err := s.input(r, fixedLine(line), depth+1); err != nil {
		if errors.Is(err, errStop) {
			return err
		}
		return s.bad(line, fmt.Errorf("unpacking encoded data: %w", err))
	}
	return nil
}

// tail reads the LogResult of a synchronous invoke: base64 of the log's last
// 4 KB, whose first line may have lost its head and whose REPORT line may be
// missing.
func (s *scanner) tail(data string, line, depth int) error {
	found := false
	outer := s.yield
	s.yield = func(v Invocation, err error) bool {
		found = found || err == nil && v.Kind == KindReport
		return outer(v, err)
	}
	err := s.packed(data, line, depth)
	s.yield = outer
	if err != nil {
		return err
	}
	if !found {
		return s.notice(line, NoticeNoReport, 1)
	}
	return nil
}
