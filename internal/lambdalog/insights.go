package lambdalog

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// insightsRowCap is the longest answer that Logs Insights gives; a full one is
// most likely cut off.
const insightsRowCap = 10_000

// insightsMB is a megabyte of @memorySize and @maxMemoryUsed: Insights prints
// 1.28E8 for 128 MB, so dividing by 2^20 would make 122 MB of it.
const insightsMB = 1_000_000

// insightsRow is one row of a get-query-results answer: a list of fields, whose
// number varies from row to row.
func (s *scanner) insightsRow(raw json.RawMessage, line int, row int64) error {
	var fields []struct {
		Field string `json:"field"`
		Value string `json:"value"`
	}
	if raw[0] == '{' {
		return s.insightsObject(raw, line, row)
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return s.bad(line, fmt.Errorf("reading Insights row: %w", err))
	}
	values := make(map[string]string, len(fields))
	for _, f := range fields {
		values[f.Field] = f.Value
	}
	return s.insights(values, line, row)
}

// isInsightsObject recognises a row of the console's JSON export.
func isInsightsObject(raw json.RawMessage) bool {
	return bytes.Contains(raw, []byte(`"@billedDuration"`)) || bytes.Contains(raw, []byte(`"@duration"`)) ||
		bytes.Contains(raw, []byte(`"@message"`))
}

// insightsObject is one row of the console's JSON export: an object whose
// values are strings or numbers.
func (s *scanner) insightsObject(raw json.RawMessage, line int, row int64) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return s.bad(line, fmt.Errorf("reading Insights row: %w", err))
	}
	values := make(map[string]string, len(fields))
	for k, v := range fields {
		values[k] = asString(v)
		if values[k] == "" && len(v) > 0 && (v[0] >= '0' && v[0] <= '9') {
			values[k] = string(v)
		}
	}
	return s.insights(values, line, row)
}

// insights reads one row, whatever the export it came in.
func (s *scanner) insights(values map[string]string, line int, row int64) error {
	if row == insightsRowCap {
		if err := s.notice(line, NoticeRowCap, insightsRowCap); err != nil {
			return err
		}
	}
	e := event{time: parseTime(values["@timestamp"]), text: values["@message"], stream: values["@logStream"]}
	// The message itself states more than the fields that Insights takes from it.
	if v, err := ParseReport(e.text); err == nil {
		return s.parsed(v, e, line)
	}
	if strings.HasPrefix(e.text, "{") {
		return s.message(e, line)
	}
	if kind := values["@type"]; kind != "" && kind != "REPORT" {
		return nil
	}
	if values["@duration"] == "" && values["@billedDuration"] == "" {
		return nil
	}
	v := Invocation{Kind: KindReport, RequestID: values["@requestId"]}
	var errs []error
	millis := func(field string) Millis {
		text := values[field]
		if text == "" {
			return Millis{}
		}
		d, err := parseMillis(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading %s: %w", field, err))
			return Millis{}
		}
		return MillisOf(d)
	}
	memory := func(field string) MB {
		text := values[field]
		if text == "" {
			return 0
		}
		n := json.Number(text)
		mb, err := wholeMB(&n, insightsMB)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading %s: %w", field, err))
		}
		return mb
	}
	v.Duration, v.Billed, v.Init = millis("@duration"), millis("@billedDuration"), millis("@initDuration")
	v.Memory, v.MaxMemoryUsed = memory("@memorySize"), memory("@maxMemoryUsed")
	if err := errors.Join(errs...); err != nil {
		return s.bad(line, err)
	}
	// A query that did not ask for the billed duration looks like a Managed
	// Instance; it must not pass for one.
	v.settle(false)
	return s.parsed(v, e, line)
}

// isInsightsCSV recognises the header of the console's CSV export.
func isInsightsCSV(head []byte) bool {
	first, _, _ := bytes.Cut(bytes.TrimLeft(head, " \t\r\n"), []byte("\n"))
	if len(first) == 0 || first[0] != '@' && !bytes.HasPrefix(first, []byte(`"@`)) {
		return false
	}
	for _, column := range [...]string{"@billedDuration", "@duration", "@message"} {
		if bytes.Contains(first, []byte(column)) {
			return true
		}
	}
	return false
}

// csv reads the console's CSV export.
func (s *scanner) csv(br *bufio.Reader, lines *lineCounter) error {
	budget := &budgetReader{r: br, lines: fixedLine(0)}
	r := csv.NewReader(budget)
	r.FieldsPerRecord = -1
	r.LazyQuotes = true
	r.ReuseRecord = true
	header, err := r.Read()
	if err != nil {
		return fmt.Errorf("reading CSV header: %w", err)
	}
	columns := make([]string, len(header))
	for i, h := range header {
		columns[i] = strings.TrimSpace(h)
	}
	values := make(map[string]string, len(columns))
	for row := int64(1); ; row++ {
		budget.reset()
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if bad, ok := errors.AsType[*csv.ParseError](err); ok {
			if err := s.bad(lines.count(bad.StartLine), fmt.Errorf("reading CSV: %w", bad.Err)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("reading CSV: %w", err)
		}
		at, _ := r.FieldPos(0)
		clear(values)
		for i, field := range record {
			if i < len(columns) {
				values[columns[i]] = field
			}
		}
		if err := s.insights(values, lines.count(at), row); err != nil {
			return err
		}
	}
}

// parsePerformance reads a performance event of Lambda Insights, which its
// extension writes for every invocation in CloudWatch's embedded metric format.
func parsePerformance(fields map[string]json.RawMessage) (Invocation, error) {
	_, emf := fields["_aws"]
	billed, ok := fields["billed_duration"]
	if !emf || !ok || asString(fields["event_type"]) != "performance" {
		return Invocation{}, ErrNotReport
	}
	v := Invocation{Kind: KindReport, RequestID: asString(fields["request_id"])}
	var errs []error
	read := func(key string, raw json.RawMessage, m *Millis) {
		if len(raw) == 0 {
			return
		}
		if err := m.UnmarshalJSON(raw); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	read("billed_duration", billed, &v.Billed)
	read("duration", fields["duration"], &v.Duration)
	read("init_duration", fields["init_duration"], &v.Init)
	memory := func(key string) MB {
		raw, ok := fields[key]
		if !ok {
			return 0
		}
		n := json.Number(raw)
		mb, err := wholeMB(&n, 1)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
		return mb
	}
	v.Memory, v.MaxMemoryUsed = memory("total_memory"), memory("used_memory_max")
	if err := errors.Join(errs...); err != nil {
		return Invocation{}, fmt.Errorf("reading Lambda Insights event: %w", err)
	}
	v.settle(false)
	// The event states a cold start also where the initialisation time is missing.
	v.Cold = v.Cold || string(fields["cold_start"]) == "1" || string(fields["cold_start"]) == "true"
	return v, nil
}
