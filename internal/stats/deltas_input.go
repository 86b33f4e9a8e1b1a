package stats

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxRecordBytes bounds one record of a latency file, and so the memory that a
// missing line end or an open quote can take.
const maxRecordBytes = 256 << 10

// The columns of a latency file.
const (
	columnSource      = "src"
	columnDestination = "dst"
	columnLatency     = "latency_ms"
)

// ReadDeltasCSV reads latencies from CSV into c. The first line names the columns;
// src, dst and latency_ms must be among them, in any order and case, and others
// are ignored. Input may be compressed by gzip and may begin with a byte order
// mark. name stands for the input in errors.
//
// A row that is short, is not well-formed or has no finite number for a latency
// is counted as skipped. Missing columns, a file without a row, a record above
// 256 KiB and damaged compression are an [*InputError].
func ReadDeltasCSV(r io.Reader, name string, c *DeltaCollector) error {
	text, err := openText(r, name)
	if err != nil {
		return err
	}
	budget := &recordReader{r: text}
	rows := csv.NewReader(budget)
	rows.FieldsPerRecord = -1
	rows.ReuseRecord = true

	budget.next()
	header, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return &InputError{Name: name, Msg: "the file is empty", Hint: "the first line must name the columns: " + columnNames}
	}
	if err != nil {
		return csvError(err, name, 0)
	}
	columns, err := findColumns(header)
	if err != nil {
		return named(err, name)
	}
	found, lastLine := false, 1
	for {
		budget.next()
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		found = true
		if err != nil {
			if !isRowError(err) {
				return csvError(err, name, lastLine)
			}
			line := 0
			if e, ok := errors.AsType[*csv.ParseError](err); ok {
				line = e.StartLine
			}
			c.skipAt(line, err.Error())
			continue
		}
		lastLine, _ = rows.FieldPos(len(row) - 1)
		if skipped := c.skipped; columns.add(row, c) && c.skipped == skipped || c.firstSkipped != nil {
			continue
		}
		line, _ := rows.FieldPos(0)
		c.noteSkipped(line, columns.text(row))
	}
	if !found {
		return &InputError{Name: name, Msg: "the file has a header and no rows", Hint: "write one row for each latency"}
	}
	return nil
}

const columnNames = columnSource + ", " + columnDestination + " and " + columnLatency

// csvColumns are the indices of the three columns.
type csvColumns struct{ source, destination, latency int }

func findColumns(header []string) (csvColumns, error) {
	var c csvColumns
	for _, column := range []struct {
		name  string
		index *int
	}{{columnSource, &c.source}, {columnDestination, &c.destination}, {columnLatency, &c.latency}} {
		*column.index = -1
		for i, field := range header {
			if !strings.EqualFold(strings.TrimSpace(field), column.name) {
				continue
			}
			if *column.index >= 0 {
				return c, &InputError{Line: 1, Msg: fmt.Sprintf("column %s appears twice", column.name), Hint: "keep one of the two"}
			}
			*column.index = i
		}
		if *column.index < 0 {
			return c, &InputError{
				Line: 1,
				Msg:  fmt.Sprintf("column %s is missing", column.name),
				Hint: "the first line must name the columns " + columnNames + ", separated by commas",
			}
		}
	}
	return c, nil
}

// add reports whether the row has a number for a latency.
func (c csvColumns) add(row []string, to *DeltaCollector) bool {
	if max(c.source, c.destination, c.latency) >= len(row) {
		to.Skip()
		return false
	}
	ms, err := parseMS(row[c.latency])
	if err != nil {
		to.Skip()
		return false
	}
	to.Add(PairKey{row[c.source], row[c.destination]}, ms)
	return true
}

// text is the latency as it is written, or the row when it is short.
func (c csvColumns) text(row []string) string {
	if max(c.source, c.destination, c.latency) >= len(row) {
		return strings.Join(row, ",")
	}
	return row[c.latency]
}

// parseMS reads a decimal number. Hexadecimal ones, which strconv reads too, are
// no way to write a latency.
func parseMS(s string) (float64, error) {
	s = strings.TrimSpace(s)
	if strings.ContainsAny(s, "xX") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}

// isRowError tells an error that spoils one row from one that spoils the rest of
// the file. A quote that stays open swallows all rows up to the end.
func isRowError(err error) bool {
	e, ok := errors.AsType[*csv.ParseError](err)
	return ok && e.StartLine == e.Line
}

func csvError(err error, name string, lastLine int) error {
	if errors.Is(err, errRecordTooLong) {
		return &InputError{
			Name: name, Line: lastLine + 1, Msg: fmt.Sprintf("a record is longer than %d bytes", maxRecordBytes),
			Hint: "look for a quote that is opened and never closed",
		}
	}
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return &InputError{
			Name: name, Line: e.StartLine, Msg: "a quoted field does not end", Err: e.Err,
			Hint: "close the quote, and write a quote inside a field twice",
		}
	}
	return readError(err, name)
}

func readError(err error, name string) error {
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	if corrupt || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &InputError{Name: name, Msg: "the compressed data are damaged or cut off", Err: err, Hint: "copy the file again"}
	}
	return fmt.Errorf("reading %s: %w", name, err)
}

// ReadDeltasJSONL reads latencies from JSON lines into c: one object a line with
// the keys src, dst and latency_ms, the latter a number or a number in a string.
// Compression, the byte order mark and errors are as in [ReadDeltasCSV]; a line
// that lacks a key, is not an object or is longer than 256 KiB counts as skipped.
func ReadDeltasJSONL(r io.Reader, name string, c *DeltaCollector) error {
	text, err := openText(r, name)
	if err != nil {
		return err
	}
	lines := bufio.NewReaderSize(text, maxRecordBytes)
	found := false
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return readError(err, name)
		}
		switch line = bytes.TrimSpace(line); {
		case tooLong:
			found = true
			c.skipAt(number, fmt.Sprintf("a line longer than %d bytes", maxRecordBytes))
		case len(line) > 0:
			found = true
			if skipped := c.skipped; !addJSON(line, c) || c.skipped != skipped {
				c.noteSkipped(number, string(line[:min(len(line), 400)]))
			}
		}
		if err != nil {
			break
		}
	}
	if !found {
		return &InputError{Name: name, Msg: "the file is empty", Hint: `write one object a line: {"src":"a","dst":"b","latency_ms":12.5}`}
	}
	return nil
}

// addJSON reports whether the line is an object with a number for a latency.
func addJSON(line []byte, c *DeltaCollector) bool {
	var row struct {
		Source      *string     `json:"src"`
		Destination *string     `json:"dst"`
		LatencyMS   json.Number `json:"latency_ms"`
	}
	if json.Unmarshal(line, &row) != nil || row.Source == nil || row.Destination == nil {
		c.Skip()
		return false
	}
	ms, err := parseMS(row.LatencyMS.String())
	if err != nil {
		c.Skip()
		return false
	}
	c.Add(PairKey{*row.Source, *row.Destination}, ms)
	return true
}

// openText unpacks gzip and drops a byte order mark.
func openText(r io.Reader, name string) (io.Reader, error) {
	b := bufio.NewReader(r)
	magic, err := b.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, readError(err, name)
	}
	if bytes.Equal(magic, []byte("\x1f\x8b")) {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, &InputError{Name: name, Msg: "the compressed data are damaged", Err: err, Hint: "copy the file again"}
		}
		b = bufio.NewReader(z)
	}
	// An error here, of the compression most likely, comes again with the next read.
	mark, _ := b.Peek(3)
	switch {
	case bytes.HasPrefix(mark, []byte("\xef\xbb\xbf")):
		_, _ = b.Discard(3)
	case bytes.HasPrefix(mark, []byte("\xff\xfe")), bytes.HasPrefix(mark, []byte("\xfe\xff")):
		return nil, &InputError{Name: name, Msg: "the text is UTF-16", Hint: "save it as UTF-8"}
	}
	return b, nil
}

var errRecordTooLong = errors.New("record is too long")

// recordReader gives up when more than maxRecordBytes are read without a call of
// next: encoding/csv has no limit of its own.
type recordReader struct {
	r    io.Reader
	left int
}

func (b *recordReader) next() { b.left = maxRecordBytes }

// Read implements [io.Reader].
func (b *recordReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errRecordTooLong
	}
	n, err := b.r.Read(p)
	b.left -= n
	return n, err
}
