package lambdalog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// documents reads JSON values one behind another, with or without newlines
// between them. Where the input turns out not to be JSON it is read as lines.
func (s *scanner) documents(br *bufio.Reader, lines *lineCounter, depth int) error {
	budget := &budgetReader{r: br, lines: lines}
	dec := json.NewDecoder(budget)
	for {
		err := s.document(dec, budget, lines, depth)
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if errors.Is(err, errStop) || budget.err != nil && !errors.Is(budget.err, io.EOF) {
			return err
		}
		at := lines.at(dec.InputOffset())
		if err := s.bad(at, fmt.Errorf("reading JSON: %w", err)); err != nil {
			return err
		}
		rest := bufio.NewReaderSize(io.MultiReader(dec.Buffered(), br), 64<<10)
		return s.lines(rest, lines.from(at), depth)
	}
}

// document reads one JSON value at the top of an input. The arrays in which
// containers hold their events are walked element by element, so that a page
// of any size costs the memory of one event. budget is nil where the whole
// value is in memory already.
func (s *scanner) document(dec *json.Decoder, budget *budgetReader, lines *lineCounter, depth int) error {
	budget.reset()
	token, err := dec.Token()
	if err != nil {
		return err //nolint:wrapcheck // io.EOF must stay io.EOF
	}
	switch token {
	case json.Delim('['):
		rows := int64(0)
		return s.elements(dec, budget, lines, func(raw json.RawMessage, line int) error {
			if raw[0] == '{' && isInsightsObject(raw) {
				rows++
				return s.insightsObject(raw, line, rows)
			}
			if raw[0] != '{' || depth >= maxDepth {
				return nil
			}
			return s.document(json.NewDecoder(bytes.NewReader(raw)), nil, fixedLine(line), depth+1)
		})
	case json.Delim('{'):
		return s.object(dec, budget, lines, depth)
	}
	return nil
}

// elements calls f for every element of the array whose bracket was just read.
func (s *scanner) elements(dec *json.Decoder, budget *budgetReader, lines *lineCounter, f func(json.RawMessage, int) error) error {
	for dec.More() {
		budget.reset()
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fmt.Errorf("element: %w", noEOF(err))
		}
		if err := f(raw, lines.at(dec.InputOffset()-int64(len(raw)))); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("end of array: %w", noEOF(err))
	}
	return nil
}

// noEOF keeps a document that ends early apart from an input that ends.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// object reads the object whose brace was just read.
func (s *scanner) object(dec *json.Decoder, budget *budgetReader, lines *lineCounter, depth int) error {
	fields := make(map[string]json.RawMessage)
	var metrics []metricResult
	at := lines.at(dec.InputOffset())
	container := false
	for dec.More() {
		budget.reset()
		token, err := dec.Token()
		if err != nil {
			return fmt.Errorf("key: %w", noEOF(err))
		}
		key, _ := token.(string)
		var each func(json.RawMessage, int) error
		switch key {
		case "events", "logEvents":
			each = func(raw json.RawMessage, line int) error { return s.logEvent(raw, line) }
		case "results":
			rows := int64(0)
			each = func(raw json.RawMessage, line int) error {
				rows++
				return s.insightsRow(raw, line, rows)
			}
		case "MetricDataResults":
			each = func(raw json.RawMessage, _ int) error {
				var m metricResult
				if json.Unmarshal(raw, &m) == nil && len(metrics) < 500 {
					metrics = append(metrics, m)
				}
				return nil
			}
		case "Records", "records":
			each = func(raw json.RawMessage, line int) error { return s.streamRecord(raw, line, depth) }
		}
		if each == nil {
			var raw json.RawMessage
			if err := dec.Decode(&raw); err != nil {
				return fmt.Errorf("value of %.40q: %w", key, noEOF(err))
			}
			fields[key] = raw
			continue
		}
		token, err = dec.Token()
		if err != nil {
			return fmt.Errorf("value of %q: %w", key, noEOF(err))
		}
		switch token {
		case json.Delim('['):
			container = true
			err = s.elements(dec, budget, lines, each)
		case json.Delim('{'):
			err = skipObject(dec, budget)
		}
		if err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("end of object: %w", noEOF(err))
	}
	if metrics != nil {
		return s.metrics(metrics, at)
	}
	if container && s.access != nil {
		return nil // what stands beside its events is no line of an access log
	}
	return s.fields(fields, at, depth)
}

// skipObject reads to the end of the object whose brace was just read.
func skipObject(dec *json.Decoder, budget *budgetReader) error {
	for open := 1; open > 0; {
		budget.reset()
		token, err := dec.Token()
		if err != nil {
			return fmt.Errorf("skipping object: %w", noEOF(err))
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			open++
		case json.Delim('}'), json.Delim(']'):
			open--
		}
	}
	return nil
}

// fields reads an object that is no list of events.
func (s *scanner) fields(fields map[string]json.RawMessage, line, depth int) error {
	if raw, ok := fields["awslogs"]; ok {
		var logs struct {
			Data string `json:"data"`
		}
		if err := json.Unmarshal(raw, &logs); err != nil {
			return s.bad(line, fmt.Errorf("reading awslogs: %w", err))
		}
		return s.packed(logs.Data, line, depth)
	}
	if data := asString(fields["LogResult"]); data != "" {
		return s.tail(data, line, depth)
	}
	if s.access != nil {
		return s.accessObject(fields, line)
	}
	return s.platformOrInsights(fields, event{}, line)
}

// logEvent is one event of a FilterLogEvents or GetLogEvents answer, or of a
// subscription payload.
func (s *scanner) logEvent(raw json.RawMessage, line int) error {
	var e struct {
		Timestamp int64  `json:"timestamp"`
		Message   string `json:"message"`
		EventID   string `json:"eventId"`
		ID        string `json:"id"`
		Stream    string `json:"logStreamName"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return s.bad(line, fmt.Errorf("reading log event: %w", err))
	}
	ev := event{text: e.Message, id: e.EventID + e.ID, stream: e.Stream}
	if e.Timestamp > 0 {
		ev.time = time.UnixMilli(e.Timestamp).UTC()
	}
	return s.message(ev, line)
}

// streamRecord is one record of a Kinesis or Firehose event.
func (s *scanner) streamRecord(raw json.RawMessage, line, depth int) error {
	var r struct {
		Data    string `json:"data"`
		Kinesis struct {
			Data string `json:"data"`
		} `json:"kinesis"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return s.bad(line, fmt.Errorf("reading stream record: %w", err))
	}
	if data := r.Data + r.Kinesis.Data; data != "" {
		return s.packed(data, line, depth)
	}
	return nil
}

// metricResult is one metric of a GetMetricData answer.
type metricResult struct {
	Label      string    `json:"Label"`
	Timestamps []string  `json:"Timestamps"`
	Values     []float64 `json:"Values"`
}

// metrics reports what averages there are. The mean is weighted by the
// invocations of each period: the mean of hourly means is another number.
func (s *scanner) metrics(results []metricResult, line int) error {
	count := make(map[string]float64)
	total := 0.0
	for _, m := range results {
		if strings.EqualFold(m.Label, "Invocations") {
			for i := range min(len(m.Timestamps), len(m.Values)) {
				count[m.Timestamps[i]] += m.Values[i]
				total += m.Values[i]
			}
		}
	}
	sum, weight := 0.0, 0.0
	for _, m := range results {
		if strings.EqualFold(m.Label, "Duration") {
			for i := range min(len(m.Timestamps), len(m.Values)) {
				sum += count[m.Timestamps[i]] * m.Values[i]
				weight += count[m.Timestamps[i]]
			}
		}
	}
	a := &Aggregate{}
	if total >= 0 && total < 1e15 {
		a.Invocations = int64(total + 0.5)
	}
	if mean := sum / weight; mean >= 0 && mean < maxMillis {
		a.MeanDuration = MillisOf(time.Duration(mean * 1e6))
	}
	if !s.yield(Invocation{}, &NoticeError{Name: s.name, Line: line, Kind: NoticeAggregate, Count: a.Invocations, Aggregate: a}) {
		return errStop
	}
	return nil
}

// budgetReader fails once a JSON value has taken more than maxValueBytes, and
// notes where the lines begin.
type budgetReader struct {
	r     io.Reader
	lines *lineCounter
	used  int
	err   error
}

// reset starts the budget of the next value.
func (b *budgetReader) reset() {
	if b != nil {
		b.used = 0
	}
}

// Read implements io.Reader.
func (b *budgetReader) Read(p []byte) (int, error) {
	if b.used > maxValueBytes {
		return 0, errTooLarge
	}
	n, err := b.r.Read(p)
	b.used += n
	b.lines.note(p[:n])
	if err != nil {
		b.err = err
	}
	return n, err //nolint:wrapcheck // io.EOF must stay io.EOF
}

// lineCounter turns byte offsets, asked for in rising order, into line numbers.
// It forgets the lines behind the last answer.
type lineCounter struct {
	fixed  bool
	line   int     // line of the last answer
	read   int64   // bytes seen
	breaks []int64 // offsets of newlines behind the last answer
}

func fileLines() *lineCounter { return &lineCounter{line: 1} }

// fixedLine numbers everything with one line: the contents of an encoded line.
func fixedLine(line int) *lineCounter { return &lineCounter{line: line, fixed: true} }

func (l *lineCounter) note(p []byte) {
	if !l.fixed {
		for i, c := range p {
			if c == '\n' {
				l.breaks = append(l.breaks, l.read+int64(i))
			}
		}
	}
	l.read += int64(len(p))
}

// at returns the line that holds the byte at offset.
func (l *lineCounter) at(offset int64) int {
	n := 0
	for n < len(l.breaks) && l.breaks[n] < offset {
		n++
	}
	l.line += n
	l.breaks = l.breaks[n:]
	return l.line
}

// count returns the number of the n-th line of text read from here on.
func (l *lineCounter) count(n int) int {
	if l.fixed {
		return l.line
	}
	return l.line + n - 1
}

// from returns a counter for text that begins at line.
func (l *lineCounter) from(line int) *lineCounter {
	return &lineCounter{line: line, fixed: l.fixed}
}
