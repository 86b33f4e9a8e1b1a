package lambdalog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The labels of text records, longest first, so that "Duration" never matches
// the end of "Billed Duration".
const (
	labelBilledRestore = "Billed Restore Duration"
	labelRestore       = "Restore Duration"
	labelBilled        = "Billed Duration"
	labelMaxMemory     = "Max Memory Used"
	labelInit          = "Init Duration"
	labelMemory        = "Memory Size"
	labelErrorType     = "Error Type"
	labelRequestID     = "RequestId"
	labelDuration      = "Duration"
	labelStatus        = "Status"
	labelPhase         = "Phase"
)

func labels() [11]string {
	return [...]string{
		labelBilledRestore, labelRestore, labelBilled, labelMaxMemory, labelInit,
		labelMemory, labelErrorType, labelRequestID, labelDuration, labelStatus, labelPhase,
	}
}

// ParseReport reads one text record: a REPORT, INIT_REPORT or RESTORE_REPORT
// line, or a REPORT line that lost its prefix or its tabs in a console. It
// returns ErrNotReport for a line that is none of these, and another error for
// one that is but cannot be read. A line that is cut off is no error: what
// stands before the cut is returned, and Incomplete set when the billed time
// is lost.
func ParseReport(line string) (Invocation, error) {
	line = strings.TrimRight(line, " \t\r\n")
	switch {
	case strings.HasPrefix(line, "REPORT RequestId:"):
		return parsePrefixed(KindReport, line[len("REPORT "):])
	case strings.HasPrefix(line, "INIT_REPORT "):
		return parsePrefixed(KindInitReport, line[len("INIT_REPORT "):])
	case strings.HasPrefix(line, "RESTORE_REPORT "):
		return parsePrefixed(KindRestoreReport, line[len("RESTORE_REPORT "):])
	case leadingLabel(line) != "":
		return parseBare(line)
	}
	return Invocation{}, ErrNotReport
}

func parsePrefixed(kind Kind, rest string) (Invocation, error) {
	if kind == KindReport && !looksLikeReport(rest) {
		return Invocation{}, ErrNotReport
	}
	if kind != KindReport && leadingLabel(rest) == "" {
		return Invocation{}, ErrNotReport
	}
	r := reader{v: Invocation{Kind: kind}}
	if err := r.read(rest); err != nil {
		return Invocation{}, err
	}
	r.v.settle(!r.cut)
	return r.v, nil
}

// parseBare reads a REPORT line without its prefix. Because an application may
// print the same words, such a line must be a whole report and nothing else.
func parseBare(line string) (Invocation, error) {
	r := reader{v: Invocation{Kind: KindReport}, strict: true}
	if err := r.read(line); err != nil || r.cut {
		return Invocation{}, ErrNotReport
	}
	if !r.v.Duration.Known || !r.v.Billed.Known || r.v.Memory == 0 {
		return Invocation{}, ErrNotReport
	}
	r.v.settle(true)
	return r.v, nil
}

// looksLikeReport keeps application lines that begin with "REPORT RequestId:"
// out: the id must be a UUID, or a tab or a duration must follow it.
func looksLikeReport(rest string) bool {
	value := strings.TrimLeft(rest[len("RequestId:"):], " ")
	end := strings.IndexAny(value, " \t")
	if end < 0 {
		return isUUID(value)
	}
	if end == 0 {
		return false
	}
	if value[end] == '\t' || isUUID(value[:end]) {
		return true
	}
	label := leadingLabel(value[end+1:])
	return strings.HasSuffix(label, labelDuration)
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
			continue
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// leadingLabel returns the known label with which s begins, or "".
func leadingLabel(s string) string {
	for _, l := range labels() {
		if strings.HasPrefix(s, l) && strings.HasPrefix(s[len(l):], ":") {
			return l
		}
	}
	return ""
}

// reader collects the fields of one record.
type reader struct {
	v      Invocation
	seen   [11]bool
	strict bool // every word must belong to a known field
	cut    bool // the record ends in the middle of a field
}

func (r *reader) read(s string) error {
	if strings.Contains(s, "\t") {
		return r.readTabs(s)
	}
	return r.readSpaces(s)
}

// readTabs reads what Lambda writes: fields separated by tabs.
func (r *reader) readTabs(s string) error {
	for s != "" {
		part, rest, _ := strings.Cut(s, "\t")
		s = rest
		part = strings.TrimSpace(part)
		last := strings.Trim(s, " \t") == ""
		if part == "" {
			continue
		}
		label := leadingLabel(part)
		if label == "" {
			// A field that this reader does not know, or the first half of a known one.
			if r.strict {
				return ErrNotReport
			}
			r.cut = r.cut || last && !strings.Contains(part, ": ")
			continue
		}
		if err := r.field(label, part[len(label)+1:], last); err != nil {
			return err
		}
	}
	return nil
}

// readSpaces reads a record whose tabs became spaces: a field ends where the
// next known label begins.
func (r *reader) readSpaces(s string) error {
	for s != "" {
		label := leadingLabel(s)
		if label == "" {
			if r.strict {
				return ErrNotReport
			}
			return errors.New("unknown field in report")
		}
		s = s[len(label)+1:]
		end := len(s)
		for i := range len(s) {
			if s[i] == ' ' && leadingLabel(s[i+1:]) != "" {
				end = i
				break
			}
		}
		value := s[:end]
		s = strings.TrimLeft(s[end:], " ")
		if err := r.field(label, value, s == ""); err != nil {
			return err
		}
	}
	return nil
}

// field takes one value. last says that nothing follows it, so that a missing
// unit there is a cut and not an error.
func (r *reader) field(label, value string, last bool) error {
	value = strings.TrimSpace(value)
	for i, l := range labels() {
		if l != label {
			continue
		}
		if r.seen[i] {
			return fmt.Errorf("report states %s twice", label)
		}
		r.seen[i] = true
	}
	var err error
	switch label {
	case labelRequestID:
		r.v.RequestID = firstWord(value)
	case labelDuration:
		r.v.Duration, err = r.millis(label, value, last)
	case labelBilled:
		r.v.Billed, err = r.millis(label, value, last)
	case labelInit:
		r.v.Init, err = r.millis(label, value, last)
	case labelRestore:
		r.v.Restore, err = r.millis(label, value, last)
	case labelBilledRestore:
		r.v.BilledRestore, err = r.millis(label, value, last)
	case labelMemory:
		r.v.Memory, err = r.megabytes(label, value, last)
	case labelMaxMemory:
		r.v.MaxMemoryUsed, err = r.megabytes(label, value, last)
	case labelStatus:
		r.v.Status = Status(strings.ToLower(firstWord(value)))
	case labelErrorType:
		r.v.ErrorType = firstWord(value)
	case labelPhase:
		r.v.Phase = firstWord(value)
	}
	return err
}

// quantity splits a value into its number and checks the unit. ok is false when
// the value is cut off.
func (r *reader) quantity(label, value, unit string, last bool) (number string, ok bool, err error) {
	number, rest, found := strings.Cut(value, " ")
	rest = strings.TrimLeft(rest, " ")
	if !found || rest != unit && last && strings.HasPrefix(unit, rest) {
		if last {
			r.cut = true
			return "", false, nil
		}
		return "", false, fmt.Errorf("%s has no unit, want %s", label, unit)
	}
	got, tail, _ := strings.Cut(rest, " ")
	if got != unit || r.strict && tail != "" {
		return "", false, fmt.Errorf("%s has unit %.20q, want %s", label, got, unit)
	}
	return number, true, nil
}

func (r *reader) millis(label, value string, last bool) (Millis, error) {
	number, ok, err := r.quantity(label, value, "ms", last)
	if !ok {
		return Millis{}, err
	}
	d, err := parseMillis(number)
	if err != nil {
		return Millis{}, fmt.Errorf("reading %s: %w", label, err)
	}
	return MillisOf(d), nil
}

func (r *reader) megabytes(label, value string, last bool) (MB, error) {
	number, ok, err := r.quantity(label, value, "MB", last)
	if !ok {
		return 0, err
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("reading %s: %.40q is not a number of MB", label, number)
	}
	return MB(n), nil
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}
