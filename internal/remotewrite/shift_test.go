package remotewrite

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// message is what both versions' requests can do.
type message interface {
	Marshal() ([]byte, error)
	Unmarshal(b []byte) error
}

// timesOf decodes a message and points at its timestamps: those that have to
// be there, and start timestamps, which may be zero.
func timesOf(v Version, b []byte) (m message, times, starts []*int64, err error) {
	if v == V1 {
		var r prompb.WriteRequest
		err = r.Unmarshal(b)
		for i := range r.Timeseries {
			ts := &r.Timeseries[i]
			for j := range ts.Samples {
				times = append(times, &ts.Samples[j].Timestamp)
			}
			for j := range ts.Histograms {
				times = append(times, &ts.Histograms[j].Timestamp)
			}
			for j := range ts.Exemplars {
				times = append(times, &ts.Exemplars[j].Timestamp)
			}
		}
		return &r, times, nil, err
	}
	var r writev2.Request
	err = r.Unmarshal(b)
	for i := range r.Timeseries {
		ts := &r.Timeseries[i]
		for j := range ts.Samples {
			times = append(times, &ts.Samples[j].Timestamp)
			starts = append(starts, &ts.Samples[j].StartTimestamp)
		}
		for j := range ts.Histograms {
			times = append(times, &ts.Histograms[j].Timestamp)
			starts = append(starts, &ts.Histograms[j].StartTimestamp)
		}
		for j := range ts.Exemplars {
			times = append(times, &ts.Exemplars[j].Timestamp)
		}
	}
	return &r, times, starts, err
}

// createdOf is the created timestamp (2.0-rc.3) of each series, the last one
// where there are many, and 0 where there is none.
func createdOf(m message) (out []int64) {
	r, ok := m.(*writev2.Request)
	if !ok {
		return nil
	}
	for _, ts := range r.Timeseries {
		var ms int64
		for _, f := range fieldsOf(ts.XXX_unrecognized) {
			if f.num == 6 && f.typ == wireVarint {
				ms = int64(f.value)
			}
		}
		out = append(out, ms)
	}
	return out
}

// dropUnknown forgets the fields that the decoder did not know, of series, as
// createdOf has looked at them.
func dropUnknown(m message) {
	if r, ok := m.(*writev2.Request); ok {
		for i := range r.Timeseries {
			r.Timeseries[i].XXX_unrecognized = nil
		}
	}
}

// sixBytes says whether a timestamp has the width that timestamps have.
func sixBytes(ms int64) bool { return ms >= 1<<35 && ms < 1<<42 }

// checkShift shifts a copy of b and compares with the generated decoder. It
// returns the reason of the refusal, or "".
func checkShift(tb testing.TB, v Version, b []byte, delta int64) string {
	tb.Helper()
	shifted := bytes.Clone(b)
	shiftErr := Shift(v, shifted, delta)
	before, times, starts, err := timesOf(v, b)
	created := createdOf(before)

	if shiftErr != nil {
		e := wantAnyError(tb, shiftErr)
		if !bytes.Equal(shifted, b) {
			tb.Fatalf("%v, and the message has changed\n%x", shiftErr, b)
		}
		if e.Reason == "malformed_protobuf" && err == nil {
			tb.Fatalf("%v, but the generated decoder accepts it\n%x", shiftErr, b)
		}
		if err != nil {
			return e.Reason
		}
		// A message as a sender writes it, with times between 1971 and 2109 before
		// and after, has to be shifted.
		canonical, _ := before.Marshal()
		ok := bytes.Equal(canonical, b)
		for _, t := range times {
			ok = ok && sixBytes(*t) && sixBytes(*t+delta)
		}
		for _, t := range starts {
			ok = ok && (*t == 0 || sixBytes(*t) && sixBytes(*t+delta))
		}
		for _, t := range created {
			ok = ok && (t == 0 || sixBytes(t) && sixBytes(t+delta))
		}
		if ok && !slices.ContainsFunc(created, func(t int64) bool { return t != 0 }) {
			tb.Fatalf("%v, but nothing stands against it\n%x", shiftErr, b)
		}
		return e.Reason
	}
	if len(shifted) != len(b) {
		tb.Fatal("the length has changed")
	}
	if err != nil {
		return "" // Shift does not validate what it need not read
	}
	for _, t := range times {
		*t += delta
	}
	for _, t := range starts {
		if *t != 0 {
			*t += delta
		}
	}
	after, _, _, err := timesOf(v, shifted)
	if err != nil {
		tb.Fatalf("the shifted message does not decode: %v\n%x", err, b)
	}
	for i, t := range createdOf(after) {
		if want := created[i]; want != 0 && t != want+delta || want == 0 && t != 0 {
			tb.Fatalf("created timestamp %d became %d\n%x", want, t, b)
		}
	}
	dropUnknown(before)
	dropUnknown(after)
	want, _ := before.Marshal()
	got, _ := after.Marshal()
	if !bytes.Equal(want, got) {
		tb.Fatalf("shifted by %d, the message is not the same with other times\nbefore %x\nwant   %x\ngot    %x", delta, b, want, got)
	}
	// And back again, to the byte.
	if err := Shift(v, shifted, -delta); err != nil || !bytes.Equal(shifted, b) {
		tb.Fatalf("shifting back: %v\n%x", err, b)
	}
	return ""
}

func TestShiftCaptures(t *testing.T) {
	var w Walker
	for _, name := range captureNames(t, 0) {
		t.Run(name, func(t *testing.T) {
			_, v, decoded := decodeCapture(t, name)
			before, err := w.Walk(v, decoded, Limits{}, capturedAt)
			if err != nil {
				t.Fatal(err)
			}
			const day = 24 * 3600 * 1000
			for _, delta := range []int64{0, 1, -1, day, -20 * 365 * day} {
				if why := checkShift(t, v, decoded, delta); why != "" {
					t.Fatalf("by %d: %s", delta, why)
				}
			}
			if err := Shift(v, decoded, -day); err != nil {
				t.Fatal(err)
			}
			after, err := w.Walk(v, decoded, Limits{}, capturedAt)
			if err != nil {
				t.Fatal(err)
			}
			if before.HasTimestamp {
				before.MinTimestampMS -= day
				before.MaxTimestampMS -= day
			}
			if after != before {
				t.Errorf("summary %+v, want %+v", after, before)
			}
		})
	}
}

func TestShiftRefuses(t *testing.T) {
	const lo, hi = int64(1 << 35), int64(1<<42 - 1) // 1971-02-02 and 2109-05-15
	good := at(nowMS)
	padded := func() []byte { // nowMS in seven bytes
		b := v1(t, good)
		ts := binary.AppendUvarint(nil, uint64(nowMS))
		i := bytes.Index(b, ts)
		long := append(bytes.Clone(ts), 0)
		long[5] |= 0x80
		b = slices.Concat(b[:i], long, b[i+6:])
		b[1]++                              // TimeSeries
		b[bytes.Index(b, []byte("up"))+3]++ // Sample
		return b
	}()
	if _, err := new(Walker).Walk(V1, padded, Limits{}, capturedAt); err != nil {
		t.Fatalf("the padded message is not what it should be: %v", err)
	}
	tests := []struct {
		name   string
		v      Version
		body   []byte
		delta  int64
		reason string
	}{
		{"to the first", V1, v1(t, good), lo - nowMS, ""},
		{"before the first", V1, v1(t, good), lo - nowMS - 1, "timestamp_width"},
		{"to the last", V1, v1(t, good), hi - nowMS, ""},
		{"behind the last", V1, v1(t, good), hi - nowMS + 1, "timestamp_width"},
		{"into the negative", V1, v1(t, good), -nowMS - 1, "timestamp_width"},
		{"overflow", V1, v1(t, at(math.MaxInt64)), 1, "timestamp_width"},
		{"underflow", V1, v1(t, at(math.MinInt64)), -1, "timestamp_width"},
		{"from the negative", V1, v1(t, at(-5)), -1, ""}, // ten bytes each
		{"no timestamp", V1, v1(t, at(0)), 1, "timestamp_width"},
		{"padded", V1, padded, 1, "timestamp_width"},
		// The bad one is behind one and before one that would pass.
		{"one of three", V1, v1(t, good, at(5), good), 1000, "timestamp_width"},
		{"exemplar", V1, v1(t, prompb.TimeSeries{Exemplars: []prompb.Exemplar{{Timestamp: 5}}}), 1000, "timestamp_width"},
		{"histogram", V1, v1(t, prompb.TimeSeries{Histograms: []prompb.Histogram{{Timestamp: 5}}}), 1000, "timestamp_width"},
		{"start timestamp", V2, v2(t, nil, writev2.TimeSeries{Samples: []writev2.Sample{{Timestamp: nowMS, StartTimestamp: 1}}}), 1000, "timestamp_width"},
		{"created timestamp", V2, v2(t, nil, writev2.TimeSeries{XXX_unrecognized: []byte{6 << 3, 1}}), 1000, "timestamp_width"},
		{"unset created timestamp", V2, v2(t, nil, writev2.TimeSeries{XXX_unrecognized: []byte{6 << 3, 0}}), 1000, ""},
		{"created timestamp of another type", V2, v2(t, nil, writev2.TimeSeries{XXX_unrecognized: []byte{6<<3 | wireLen, 1, 1}}), 1000, ""},
		{"cut short", V1, v1(t, good)[:10], 1, "malformed_protobuf"},
		{"nothing to shift", V2, nil, 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if why := checkShift(t, tt.v, tt.body, tt.delta); why != tt.reason {
				t.Errorf("refused with %q, want %q", why, tt.reason)
			}
		})
	}
	wantError(t, Shift(0, v1(t, good), 1), 400, "unknown_version")
}

func TestShiftRandomMessages(t *testing.T) {
	for _, v := range []Version{V1, V2} {
		g := gen{Rand: rand.New(rand.NewPCG(3, uint64(v)))}
		seen := map[string]int{}
		for range 600 {
			seen[checkShift(t, v, g.message(t, v), pick[int64](g, 1, -1, 1000, -86_400_000, 1<<41, -1<<41, math.MaxInt64, math.MinInt64))]++
		}
		for _, why := range []string{"", "timestamp_width", "malformed_protobuf"} {
			if seen[why] < 20 {
				t.Errorf("%s: only %d messages ended in %q", v, seen[why], why)
			}
		}
	}
}

func TestShiftAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has pools forget at random")
	}
	for _, name := range []string{"v1-prom3-int-and-float-hist.snappy", "v2-prom3-exemplars-hist-nhcb-startts.snappy"} {
		_, v, decoded := decodeCapture(t, name)
		delta := int64(1)
		allocs := testing.AllocsPerRun(5, func() {
			if err := Shift(v, decoded, delta); err != nil {
				t.Fatal(err)
			}
			delta = -delta
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

func FuzzShift(f *testing.F) {
	for _, v := range []Version{V1, V2} {
		g := gen{Rand: rand.New(rand.NewPCG(4, uint64(v)))}
		for range 30 {
			f.Add(g.message(f, v), v == V2, int64(1000))
		}
		for _, name := range captureNames(f, v) {
			_, _, decoded := decodeCapture(f, name)
			f.Add(someOf(f, v, decoded), v == V2, int64(-86_400_000))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, second bool, delta int64) {
		if len(b) > 1<<16 {
			return
		}
		v := V1
		if second {
			v = V2
		}
		checkShift(t, v, b, delta)
	})
}
