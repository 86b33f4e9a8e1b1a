package stats

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxRunBytes bounds a run file. Those of a replay stay far below it: its timeline takes 128 MiB, and a pair 10 to 50 KB.
const maxRunBytes = 1 << 30

// CheckRunSize returns an [*InputError] for a run file that is too large for [ReadRun] and [Merger.Add], for those who
// would have to take it into memory to find out.
func CheckRunSize(name string, bytes int64) error { return checkRunSize(name, bytes, maxRunBytes) }

func checkRunSize(name string, bytes, limit int64) error {
	if bytes <= limit {
		return nil
	}
	return &InputError{
		Name: name, Msg: fmt.Sprintf("the file is larger than %d bytes, the most that is read of a run file", limit),
		Hint: "is it a run file? If so, give its plan more shards or less --duration, so that each file is smaller",
	}
}

// ReadRun reads a run file and checks it with [Run.Check]. name stands for the
// file in errors. What is not a run file, is above 1 GiB, or contradicts itself
// is an [*InputError].
func ReadRun(rd io.Reader, name string) (*Run, error) {
	return readRun(rd, name, maxRunBytes)
}

func readRun(rd io.Reader, name string, limit int64) (*Run, error) {
	var pairs []RunPair
	var seconds []TimelinePoint
	run, err := scanRun(rd, name, limit, runLists{
		pair:   func(p *RunPair) error { pairs = append(pairs, *p); return nil },
		second: func(p *TimelinePoint) error { seconds = append(seconds, *p); return nil },
	})
	if err != nil {
		return nil, err
	}
	run.Pairs, run.Timeline = pairs, seconds
	run.normalize()
	return run, nil
}

// runLists takes the elements of the two lists of a run file that can be long, each as it is read. They may keep the
// values behind the pointers and not the pointers. An error ends the reading.
type runLists struct {
	pair   func(*RunPair) error
	second func(*TimelinePoint) error
}

// scanRun reads a run file and checks it as [Run.Check] does. The run that it returns has neither pairs nor timeline:
// they went to lists, maybe before it turned out that the file cannot be read.
func scanRun(rd io.Reader, name string, limit int64, lists runLists) (*Run, error) {
	// The decoder reads some hundred bytes at a time. What it has not come to must be in its own buffer: see line.
	s := &runScanner{name: name, limit: limit, lines: lineReader{rd: bufio.NewReaderSize(rd, 64<<10), left: limit + 1}, lists: lists}
	s.dec = json.NewDecoder(&s.lines)
	run, err := s.scan()
	switch {
	case s.lines.err != nil:
		return nil, fmt.Errorf("reading %s: %w", name, s.lines.err)
	case s.lines.left == 0:
		return nil, checkRunSize(name, limit+1, limit)
	case err != nil:
		return nil, err
	}
	return run, nil
}

const runHint = "give a file that cirrusbench replay --out wrote"

// runScanner reads one run file.
type runScanner struct {
	name   string
	limit  int64
	lines  lineReader
	dec    *json.Decoder
	lists  runLists
	raw    json.RawMessage // the value that was read last, in memory that the next one reuses
	totals runTotals
}

// scan reads the file from beginning to end.
func (s *runScanner) scan() (*Run, error) {
	first, err := s.dec.Token()
	if errors.Is(err, io.EOF) {
		return nil, &InputError{Name: s.name, Msg: "the file is empty", Hint: runHint}
	}
	if err != nil {
		return nil, s.syntax(err)
	}
	if first != json.Delim('{') {
		return nil, s.bad(s.line(), errors.New("it is no object"))
	}
	run := new(Run)
	fields := run.fields()
	seen := map[string]bool{}
	for s.dec.More() {
		token, err := s.dec.Token()
		if err != nil {
			return nil, s.syntax(err)
		}
		key, ok := token.(string)
		if !ok {
			return nil, s.bad(s.line(), fmt.Errorf("%v stands where a key does", token))
		}
		if seen[key] {
			return nil, s.bad(s.line(), fmt.Errorf("the key %q is there twice", key))
		}
		seen[key] = true
		switch key {
		case "pairs":
			err = scanList(s, func(p *RunPair) error { s.totals.addPair(p); return s.lists.pair(p) })
		case "timeline":
			err = scanList(s, func(p *TimelinePoint) error { s.totals.addSecond(p); return s.lists.second(p) })
		default:
			err = s.value(fields[key])
		}
		if err != nil {
			return nil, err
		}
		if key == "schema" && run.Schema != RunSchema {
			return nil, s.foreign(run.Schema)
		}
	}
	if _, err := s.dec.Token(); err != nil {
		return nil, s.syntax(err)
	}
	if token, err := s.dec.Token(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("%v stands behind its end", token)
		}
		return nil, s.bad(s.line(), err)
	}
	if run.Schema != RunSchema {
		return nil, s.foreign(run.Schema)
	}
	run.normalize()
	if err := run.check(&s.totals); err != nil {
		return nil, &InputError{Name: s.name, Msg: "the file contradicts itself", Err: err, Hint: "do not edit run files; run the measurement again"}
	}
	return run, nil
}

// fields returns where the value of each key belongs, but for those of the long lists.
func (r *Run) fields() map[string]any {
	return map[string]any{
		"schema": &r.Schema, "tool": &r.Tool, "started_at": &r.StartedAt, "finished_at": &r.FinishedAt, "labels": &r.Labels,
		"interrupted": &r.Interrupted, "merged": &r.Merged, "plan": &r.Plan, "corpus": &r.Corpus, "target": &r.Target,
		"counts": &r.Counts, "statuses": &r.Statuses, "errors": &r.Errors, "achieved": &r.Achieved, "latency": &r.Latency,
		"service": &r.Service, "schedule_error": &r.ScheduleError, "failed_latency": &r.FailedLatency, "warmup_latency": &r.WarmupLatency,
		"deltas": &r.Deltas, "client": &r.Client, "objectives": &r.Objectives, "billed": &r.Billed, "histograms": &r.Histograms,
	}
}

// scanList reads a list of the file, an element at a time; null is an empty one.
func scanList[T any](s *runScanner, each func(*T) error) error {
	token, err := s.dec.Token()
	switch {
	case err != nil:
		return s.syntax(err)
	case token == nil:
		return nil
	case token != json.Delim('['):
		return s.bad(s.line(), fmt.Errorf("%v stands where a list does", token))
	}
	for s.dec.More() {
		var v T
		if err := s.value(&v); err != nil {
			return err
		}
		if err := each(&v); err != nil {
			return err
		}
	}
	if _, err := s.dec.Token(); err != nil {
		return s.syntax(err)
	}
	return nil
}

// value reads one value into to, or past it when to is nil.
func (s *runScanner) value(to any) error {
	if err := s.dec.Decode(&s.raw); err != nil {
		return s.syntax(err)
	}
	if to == nil {
		return nil
	}
	err := json.Unmarshal(s.raw, to)
	if err == nil {
		return nil
	}
	line := s.line()
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && kind.Offset >= 0 && kind.Offset <= int64(len(s.raw)) {
		line -= bytes.Count(s.raw[kind.Offset:], []byte("\n"))
	}
	return s.bad(line, err)
}

// line is the number of the line that the decoder has come to.
func (s *runScanner) line() int {
	ahead, err := io.ReadAll(s.dec.Buffered())
	if err != nil { // it is memory
		return 0
	}
	return 1 + s.lines.n - bytes.Count(ahead, []byte("\n"))
}

// syntax says where the JSON is broken. The decoder stands in front of the value or the token that it cannot read.
func (s *runScanner) syntax(err error) error {
	line := s.line()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return s.bad(1+s.lines.n, io.ErrUnexpectedEOF)
	}
	ahead, readErr := io.ReadAll(s.dec.Buffered())
	var v json.RawMessage
	if broken, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(ahead, &v)); ok && readErr == nil && broken.Offset > 0 && broken.Offset <= int64(len(ahead)) {
		line += bytes.Count(ahead[:broken.Offset-1], []byte("\n"))
	}
	return s.bad(line, err)
}

func (s *runScanner) bad(line int, err error) error {
	return &InputError{Name: s.name, Line: line, Msg: "the file is not a run file", Err: err, Hint: runHint}
}

// foreign says that the file is of something else.
func (s *runScanner) foreign(schema string) error {
	if schema == "" {
		return &InputError{Name: s.name, Msg: "the file has no schema", Hint: runHint}
	}
	return &InputError{Name: s.name, Msg: fmt.Sprintf("the schema is %q and not %q", schema, RunSchema), Hint: runHint}
}

// lineReader reads at most left bytes and counts the line breaks in them.
type lineReader struct {
	rd   io.Reader
	left int64
	n    int
	err  error // but for io.EOF
}

func (r *lineReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.rd.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	r.n += bytes.Count(p[:n], []byte("\n"))
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

func jsonError(err error, name string, data []byte) error {
	e := &InputError{Name: name, Msg: "the file is not a run file", Err: err, Hint: runHint}
	var offset int64
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = syntax.Offset
	} else if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = kind.Offset
	}
	if offset > 0 && offset <= int64(len(data)) {
		e.Line = 1 + bytes.Count(data[:offset-1], []byte("\n"))
	}
	return e
}
