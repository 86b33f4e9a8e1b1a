package remotewrite

import "fmt"

// Template is a decoded message that is sent many times, each time with other timestamps and, if it was made with a label,
// another value of that. What takes time is done once: finding the timestamps and rewriting the series. A Template does
// not change, so it may be used by several goroutines.
type Template struct {
	message []byte
	stamps  []stamp
	values  []int // where the label's value stands
	width   int   // of the value, in bytes
}

// NewTemplate makes a template of a decoded message, which it copies. With a name, every series gets that label as
// [Relabel] gives it, with a value of as many bytes as this one; without, labels stay as they are and value is to be
// empty. Malformed protobuf is an [*Error] with Status 400.
func NewTemplate(v Version, decoded []byte, name, value string) (*Template, error) {
	if v != V1 && v != V2 {
		return nil, badRequest(reasonVersion, "reading a remote-write message: %s", v)
	}
	t := &Template{width: len(value)}
	var err error
	if name == "" {
		t.message = append(t.message, decoded...)
	} else if t.message, t.values, err = relabel(make([]byte, 0, len(decoded)+len(decoded)/8), v, decoded, name, value); err != nil {
		return nil, err
	}
	var f stampFinder
	t.stamps, err = f.find(v, t.message)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Size is about how many bytes of memory the template takes.
func (t *Template) Size() int64 {
	const stampBytes, intBytes = 24, 8
	return int64(cap(t.message) + stampBytes*cap(t.stamps) + intBytes*cap(t.values))
}

// Append appends the message to dst, its timestamps moved by deltaMS milliseconds as [Shift] moves them, with value for
// that of its label. A value of another length than the template's, and a timestamp that would not fit, are errors, and dst is
// returned as it was.
func (t *Template) Append(dst []byte, deltaMS int64, value string) ([]byte, error) {
	if len(value) != t.width {
		return dst, fmt.Errorf("a template for values of %d bytes does not fit %q", t.width, value)
	}
	begin := len(dst)
	dst = append(dst, t.message...)
	b := dst[begin:]
	for _, at := range t.values {
		copy(b[at:], value)
	}
	if deltaMS != 0 {
		if err := shiftStamps(b, t.stamps, deltaMS); err != nil {
			return dst[:begin], err
		}
	}
	return dst, nil
}
