package stats

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// WriteHLog writes the latencies of successes as an HDR histogram log, format 1.3, which HdrHistogram's own
// tools read; values are nanoseconds. One line a second of the run without a tag, all pairs together, by the
// second of the answer; then one line a pair over the whole run with the tag source|destination, both
// percent-encoded. The lines without a tag and those with one hold the same latencies.
//
// start is the wall-clock time at which the recorder's clock read 0. The log's own times are relative to it.
func (r *Recorder) WriteHLog(w io.Writer, start time.Time, tool Tool) error {
	b := bufio.NewWriter(w)
	// Errors of a bufio.Writer stay until Flush.
	_, _ = fmt.Fprintf(b, "#[Logged by cirrusbench %s]\n#[Histogram log format version 1.3]\n", tool.Version)
	_, _ = fmt.Fprintf(b, "#[StartTime: %.3f (seconds since epoch), %s]\n", float64(start.UnixMilli())/1e3, start.UTC().Format(time.RFC3339))
	_, _ = fmt.Fprintln(b, `"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"`)
	for _, t := range slices.Sorted(maps.Keys(r.timeline)) {
		if h := r.timeline[t].latency; h.Count() > 0 {
			if err := writeHLogLine(b, "", float64(t), 1, h); err != nil {
				return err
			}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(r.pairs), PairKey.Compare) {
		if err := writeHLogLine(b, hlogTag(key), 0, max(r.end.Seconds(), 0), r.pairs[key]); err != nil {
			return err
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("writing the histogram log: %w", err)
	}
	return nil
}

func writeHLogLine(w io.Writer, tag string, start, length float64, h *Histogram) error {
	encoded, err := h.Encode()
	if err != nil {
		return fmt.Errorf("writing the histogram log: %w", err)
	}
	// The largest value is in ms, as every writer's default has it for nanoseconds.
	_, err = fmt.Fprintf(w, "%s%.3f,%.3f,%.3f,%s\n", tag, start, length, toMS(h.Max()), encoded)
	return err
}

// hlogTag is "Tag=source|destination,": escaped, because a comma or a blank would end it.
func hlogTag(k PairKey) string {
	return "Tag=" + url.QueryEscape(k.Source) + "|" + url.QueryEscape(k.Destination) + ","
}

// ReadHLog reads a histogram log in nanoseconds: the histogram of every tag, or, when no line has one, of all
// lines under one pair without names. A tag source|destination as [Recorder.WriteHLog] writes it becomes that
// pair; any other is a source. Histograms of another geometry than [DecodeHistogram] takes are an
// [*InputError], as is a file that is no histogram log.
func ReadHLog(rd io.Reader, name string) (map[PairKey]*Histogram, error) {
	tagged, all := map[PairKey]*Histogram{}, NewPackedHistogram()
	bad := func(line int, msg string, err error) error {
		return &InputError{Name: name, Line: line, Msg: msg, Err: err, Hint: "give a log that cirrusbench replay --hlog wrote, or any in nanoseconds with 3 digits from 1 µs to 24 h"}
	}
	s := bufio.NewScanner(rd)
	s.Buffer(make([]byte, 64<<10), maxEncodedBytes+4096)
	n := 0
	for s.Scan() {
		n++
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' || line[0] == '"' {
			continue
		}
		to := all
		if rest, ok := strings.CutPrefix(line, "Tag="); ok {
			tag, after, found := strings.Cut(rest, ",")
			if !found {
				return nil, bad(n, "the line ends after its tag", nil)
			}
			key := hlogPair(tag)
			line = after
			if to = tagged[key]; to == nil {
				to = NewPackedHistogram()
				tagged[key] = to
			}
		}
		fields := strings.Split(line, ",")
		if len(fields) != 4 {
			return nil, bad(n, fmt.Sprintf("%d fields instead of 4", len(fields)), nil)
		}
		h, err := DecodeHistogram(fields[3])
		if err != nil {
			return nil, bad(n, "the histogram cannot be read", err)
		}
		if to.Count() > maxDecodedCount-h.Count() {
			return nil, bad(n, "there are more latencies than can be counted", nil)
		}
		to.Merge(h)
	}
	if err := s.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, bad(n+1, "the line is longer than any histogram", nil)
		}
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(tagged) == 0 {
		if all.Count() == 0 {
			return nil, bad(0, "the log holds no latencies", nil)
		}
		tagged[PairKey{}] = all
	}
	return tagged, nil
}

// hlogPair is the inverse of hlogTag.
func hlogPair(tag string) PairKey {
	source, destination, _ := strings.Cut(tag, "|")
	unescape := func(s string) string {
		if u, err := url.QueryUnescape(s); err == nil {
			return u
		}
		return s
	}
	return PairKey{unescape(source), unescape(destination)}
}
