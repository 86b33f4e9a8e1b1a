package stats

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// The most that is read of a run file, and the most of it that can be in memory at once while it is read. Run files of a
// replay stay far below the first: their timeline takes 128 MiB, and a pair 10 to 50 KB. Below the second stay, as what
// is not a list that is read an element at a time, the parts of a merged run: 30 MB for as many shards as there can be.
const (
	maxRunBytes   = 1 << 30
	maxValueBytes = 64 << 20
)

// runLimits are maxRunBytes and maxValueBytes, or less in tests.
type runLimits struct{ file, value int64 }

func usualLimits() runLimits { return runLimits{maxRunBytes, maxValueBytes} }

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
	return readRun(rd, name, usualLimits())
}

func readRun(rd io.Reader, name string, limits runLimits) (*Run, error) {
	var pairs []RunPair
	var seconds []TimelinePoint
	var deltas []PairDeltas
	run, err := scanRun(rd, name, limits, runLists{
		pair:   func(p *RunPair) error { pairs = append(pairs, *p); return nil },
		second: func(p *TimelinePoint) error { seconds = append(seconds, *p); return nil },
		deltas: func(p *PairDeltas) error { deltas = append(deltas, *p); return nil },
	})
	if err != nil {
		return nil, err
	}
	run.Pairs, run.Timeline, run.Deltas.Pairs = pairs, seconds, deltas
	run.normalize()
	return run, nil
}

// runLists takes the elements of the lists of a run file that can be long, each as it is read. They may keep the
// values behind the pointers and not the pointers. An error ends the reading.
type runLists struct {
	pair   func(*RunPair) error
	second func(*TimelinePoint) error
	deltas func(*PairDeltas) error // those of the deltas; nil where nobody wants them
	// saved takes verdict and arms when the file is what a gate saved; nil where only a run file will do.
	saved *GateResult
}

// scanRun reads a run file and checks it as [Run.Check] does. The run that it returns has none of the long lists: they
// went to lists, maybe before it turned out that the file cannot be read. What a gate saved is not checked.
func scanRun(rd io.Reader, name string, limits runLimits, lists runLists) (*Run, error) {
	// The decoder reads some hundred bytes at a time. What it has not come to must be in its own buffer: see line.
	s := &runScanner{name: name, in: runReader{rd: bufio.NewReaderSize(rd, 64<<10), limits: limits}, lists: lists}
	s.dec = json.NewDecoder(&s.in)
	s.in.done = s.dec.InputOffset
	run, err := s.scan()
	switch {
	case s.in.err != nil:
		return nil, fmt.Errorf("reading %s: %w", name, s.in.err)
	case s.in.long:
		return nil, checkRunSize(name, limits.file+1, limits.file)
	case s.in.bulky:
		return nil, s.bad(s.line(), fmt.Errorf("a value is larger than %d bytes", limits.value))
	case err != nil:
		return nil, err
	}
	return run, nil
}

const runHint = "give a file that cirrusbench replay --out wrote"

// runScanner reads one run file.
type runScanner struct {
	name   string
	in     runReader
	dec    *json.Decoder
	lists  runLists
	raw    json.RawMessage // the value that was read last, in memory that the next one reuses
	totals runTotals
}

// scan reads the file from beginning to end.
func (s *runScanner) scan() (*Run, error) {
	switch first, err := s.dec.Token(); {
	case errors.Is(err, io.EOF):
		return nil, &InputError{Name: s.name, Msg: "the file is empty", Hint: runHint}
	case err != nil || first != json.Delim('{'):
		return nil, s.bad(s.line(), errors.New("it does not begin with {"))
	}
	run := new(Run)
	fields := run.fields()
	if s.lists.saved != nil {
		fields["verdict"], fields["arms"] = &s.lists.saved.Verdict, &s.lists.saved.Arms
	}
	err := s.members("", fields, func(key string) error {
		switch key {
		case "pairs":
			return scanList(s, key, func(p *RunPair) error { s.totals.addPair(p); return s.lists.pair(p) })
		case "timeline":
			return scanList(s, key, func(p *TimelinePoint) error { s.totals.addSecond(p); return s.lists.second(p) })
		case "deltas":
			return s.deltas(run)
		}
		if err := s.value(key, fields[key]); err != nil || key != "schema" || s.wants(run.Schema) {
			return err
		}
		return s.foreign(run.Schema)
	})
	if err != nil {
		return nil, err
	}
	if next, err := s.dec.Token(); !errors.Is(err, io.EOF) {
		what := "something"
		if next == json.Delim('{') {
			what = "a second document"
		}
		return nil, s.bad(s.line(), fmt.Errorf("%s follows its end", what))
	}
	if !s.wants(run.Schema) {
		return nil, s.foreign(run.Schema)
	}
	run.normalize()
	if run.Schema != RunSchema {
		return run, nil
	}
	if err := run.check(&s.totals); err != nil {
		return nil, &InputError{Name: s.name, Msg: "the file contradicts itself", Err: err, Hint: "do not edit run files; run the measurement again"}
	}
	return run, nil
}

// wants tells whether a file of that schema is what is to be read.
func (s *runScanner) wants(schema string) bool {
	return schema == RunSchema || s.lists.saved != nil && schema == GateSchema
}

// fields returns where the value of each key belongs; nil is for the long lists and what has one.
func (r *Run) fields() map[string]any {
	return map[string]any{
		"schema": &r.Schema, "tool": &r.Tool, "started_at": &r.StartedAt, "finished_at": &r.FinishedAt, "labels": &r.Labels,
		"interrupted": &r.Interrupted, "merged": &r.Merged, "plan": &r.Plan, "corpus": &r.Corpus, "target": &r.Target,
		"counts": &r.Counts, "statuses": &r.Statuses, "errors": &r.Errors, "warmup_errors": &r.WarmupErrors, "achieved": &r.Achieved, "latency": &r.Latency,
		"service": &r.Service, "schedule_error": &r.ScheduleError, "failed_latency": &r.FailedLatency, "warmup_latency": &r.WarmupLatency,
		"deltas": nil, "pairs": nil, "timeline": nil, "client": &r.Client, "objectives": &r.Objectives, "billed": &r.Billed, "histograms": &r.Histograms,
	}
}

// fields is the same of the deltas of a run file, which have no schema of their own.
func (d *Deltas) fields() map[string]any {
	return map[string]any{
		"schema": &d.Schema, "tool": &d.Tool, "rows": &d.Rows, "used": &d.Used, "skipped": &d.Skipped, "negative": &d.Negative,
		"method": &d.Method, "pairs": nil, "summary": &d.Summary, "pooled": &d.Pooled,
	}
}

// deltas reads the deltas of a run; null is none.
func (s *runScanner) deltas(run *Run) error {
	if there, err := s.open("deltas", '{', "an object"); err != nil || !there {
		return err
	}
	run.Deltas = new(Deltas)
	fields := run.Deltas.fields()
	return s.members("deltas.", fields, func(key string) error {
		if key != "pairs" {
			return s.value("deltas."+key, fields[key])
		}
		return scanList(s, "deltas.pairs", func(p *PairDeltas) error {
			if s.lists.deltas == nil {
				return nil
			}
			return s.lists.deltas(p)
		})
	})
}

// open reads the beginning of the list or object of a key; there is false for null.
func (s *runScanner) open(path string, delim json.Delim, want string) (there bool, err error) {
	token, err := s.dec.Token()
	if err != nil {
		return false, s.syntax(err)
	}
	if token == nil || token == delim {
		return token != nil, nil
	}
	is := "a number"
	switch token.(type) {
	case json.Delim:
		is = map[bool]string{true: "a list", false: "an object"}[token == json.Delim('[')]
	case string:
		is = "a string"
	case bool:
		is = "a bool"
	}
	return false, s.bad(s.line(), fmt.Errorf("%s: %s stands where %s does", path, is, want))
}

// members reads an object whose beginning was read, a key at a time: each is to read its value. Keys that are not known
// may be there any number of times.
func (s *runScanner) members(in string, known map[string]any, each func(key string) error) error {
	seen := map[string]bool{}
	for s.dec.More() {
		token, err := s.dec.Token()
		if err != nil {
			return s.syntax(err)
		}
		key, _ := token.(string) // the decoder takes nothing else for a key
		if seen[key] {
			return s.bad(s.line(), fmt.Errorf("the key %q is there twice", in+key))
		}
		if _, ok := known[key]; ok {
			seen[key] = true
		}
		if err := each(key); err != nil {
			return err
		}
	}
	return s.end()
}

// scanList reads the list of a key, an element at a time; null is an empty one.
func scanList[T any](s *runScanner, path string, each func(*T) error) error {
	if there, err := s.open(path, '[', "a list"); err != nil || !there {
		return err
	}
	for s.dec.More() {
		var v T
		if err := s.value(path, &v); err != nil {
			return err
		}
		if err := each(&v); err != nil {
			return err
		}
	}
	return s.end()
}

// end reads the end of a list or an object.
func (s *runScanner) end() error {
	if _, err := s.dec.Token(); err != nil {
		return s.syntax(err)
	}
	return nil
}

// value reads one value into to, or past it when to is nil.
func (s *runScanner) value(path string, to any) error {
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
	kind, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return s.bad(line, fmt.Errorf("%s: %w", path, err))
	}
	if kind.Offset >= 0 && kind.Offset <= int64(len(s.raw)) {
		line -= bytes.Count(s.raw[kind.Offset:], []byte("\n"))
	}
	if kind.Field != "" {
		path += "." + kind.Field
	}
	return s.bad(line, fmt.Errorf("%s: %s", path, mismatch(kind)))
}

// mismatch says in the words of JSON that a value is of the wrong kind.
func mismatch(e *json.UnmarshalTypeError) string {
	want := "something else"
	switch e.Type.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Float64:
		want = "a number"
	case reflect.String:
		want = "a string"
	case reflect.Bool:
		want = "a bool"
	case reflect.Slice:
		want = "a list"
	case reflect.Struct, reflect.Map:
		want = "an object"
	}
	is, number, _ := strings.Cut(e.Value, " ")
	switch {
	case want != "a number" || is != "number":
		words := map[string]string{"array": "a list", "object": "an object"}
		return cmp.Or(words[is], "a "+is) + " stands where " + want + " does"
	case e.Type.Kind() != reflect.Float64 && strings.ContainsAny(number, ".eE"):
		return brief(number) + " is not written as a whole number"
	default:
		return brief(number) + " is out of range"
	}
}

// line is the number of the line that the decoder has come to.
func (s *runScanner) line() int {
	var ahead lineCount
	_, _ = io.Copy(&ahead, s.dec.Buffered()) // from memory to a count
	return 1 + int(s.in.lines-ahead)
}

// syntax says where the JSON is broken. The decoder stands in front of the value or the token that it cannot read.
func (s *runScanner) syntax(err error) error {
	line := s.line()
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		cut := s.bad(1+int(s.in.lines), errors.New("it ends in the middle"))
		cut.Hint = "was all of it written and copied? Then " + runHint
		return cut
	case strings.Contains(err.Error(), "exceeded max depth"): // the library has no other sign of it
		return s.bad(line, errors.New("a value is nested too deeply"))
	}
	ahead, readErr := io.ReadAll(s.dec.Buffered())
	var v json.RawMessage
	if broken, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(ahead, &v)); ok && readErr == nil && broken.Offset > 0 && broken.Offset <= int64(len(ahead)) {
		line += bytes.Count(ahead[:broken.Offset-1], []byte("\n"))
	}
	return s.bad(line, err)
}

// bad says what is wrong on a line.
func (s *runScanner) bad(line int, err error) *InputError {
	if text := err.Error(); len(text) > maxBriefBytes {
		err = errors.New(brief(text)) // values are quoted in it, which can have any length
	}
	return &InputError{Name: s.name, Line: line, Msg: "the file is not a run file", Err: err, Hint: runHint}
}

// foreign says that the file is of something else.
func (s *runScanner) foreign(schema string) error {
	if schema == "" {
		return &InputError{Name: s.name, Msg: "the file has no schema", Hint: runHint}
	}
	return &InputError{Name: s.name, Msg: fmt.Sprintf("the schema is %q and not %q", brief(schema), RunSchema), Hint: runHint}
}

const maxBriefBytes = 300

// brief is the beginning of a text that may be too long to print.
func brief(s string) string {
	if len(s) <= maxBriefBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxBriefBytes-len("…")], "") + "…"
}

// runReader reads a run file within its limits and counts the line breaks in what it has read.
type runReader struct {
	rd     io.Reader
	limits runLimits
	done   func() int64 // how many bytes the decoder does not need any more
	bytes  int64
	lines  lineCount
	// Why it ended before the file did: an error, a file that is too long, a value that is too large.
	err         error
	long, bulky bool
}

func (r *runReader) Read(p []byte) (int, error) {
	r.long = r.long || r.bytes > r.limits.file
	r.bulky = r.bulky || r.bytes-r.done() > r.limits.value
	if r.long || r.bulky {
		return 0, io.EOF
	}
	n, err := r.rd.Read(p[:min(int64(len(p)), r.limits.file+1-r.bytes)])
	r.bytes += int64(n)
	_, _ = r.lines.Write(p[:n])
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// lineCount counts the line breaks in what is written to it.
type lineCount int

func (c *lineCount) Write(p []byte) (int, error) {
	*c += lineCount(bytes.Count(p, []byte("\n")))
	return len(p), nil
}
