package stats

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

func hlogRecorder() *Recorder {
	r := NewRecorder()
	for i := range 3000 {
		at := time.Duration(i) * time.Millisecond
		r.Record(Observation{
			Pair:     PairKey{Source: fmt.Sprintf("org, %d|x/é", i%3), Destination: "host:1"},
			Intended: at, Started: at, Done: at + time.Duration(i+1)*time.Microsecond, Status: 204,
		})
	}
	r.Record(Observation{Warmup: true, Done: time.Hour})
	r.Record(Observation{Outcome: Failed, Done: time.Second})
	return r
}

// TestHLogReadByTheLibrary: hdrhistogram-go's own reader finds every latency, once without a tag and once with.
func TestHLogReadByTheLibrary(t *testing.T) {
	r := hlogRecorder()
	var b bytes.Buffer
	start := time.Date(2026, 11, 20, 21, 0, 0, 250e6, time.UTC)
	if err := r.WriteHLog(&b, start, Tool{Version: "test"}); err != nil {
		t.Fatal(err)
	}
	log := hdr.NewHistogramLogReader(bytes.NewReader(b.Bytes()))
	counts := map[string]int64{}
	var untagged *hdr.Histogram
	lines := 0
	for {
		h, err := log.NextIntervalHistogram()
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if h == nil {
			break
		}
		lines++
		counts[h.Tag()] += h.TotalCount()
		if h.Tag() == "" {
			if untagged == nil {
				untagged = hdr.New(lowestNS, highestNS, digits)
			}
			untagged.Merge(h)
		}
	}
	if counts[""] != 3000 || counts["org%2C+0%7Cx%2F%C3%A9|host%3A1"] != 1000 || len(counts) != 4 || lines != 6+1 {
		t.Errorf("%d lines, counts %v\n%s", lines, counts, b.String()[:400])
	}
	if got := untagged.ValueAtQuantile(100); time.Duration(got) < 3*time.Millisecond-3*time.Microsecond || time.Duration(got) > 3*time.Millisecond+5*time.Microsecond {
		t.Errorf("the largest value reads as %v, want 3ms", time.Duration(got))
	}
}

func TestHLogRoundTrip(t *testing.T) {
	r := hlogRecorder()
	var b bytes.Buffer
	if err := r.WriteHLog(&b, time.Unix(0, 0), Tool{}); err != nil {
		t.Fatal(err)
	}
	got, err := ReadHLog(&b, "x.hlog")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(r.pairs) {
		t.Fatalf("%d pairs, want %d", len(got), len(r.pairs))
	}
	for key, h := range r.pairs {
		g := got[key]
		if g == nil || g.Count() != h.Count() {
			t.Errorf("%v: %v", key, g)
			continue
		}
		want, _ := h.Encode()
		have, _ := g.Encode()
		if want != have {
			t.Errorf("%v: the buckets differ", key)
		}
	}
}

func TestReadHLogRefuses(t *testing.T) {
	good, err := hlogRecorder().Latency().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := ReadHLog(strings.NewReader("0,1,2,"+good+"\n0,1,2,"+good), "x"); err != nil || m[PairKey{}].Count() != 6000 {
		t.Errorf("two lines without a tag: %v %v", m, err)
	}
	for _, bad := range []string{
		"", "#[StartTime: 1]\n", "0,1,2\n", "Tag=x", "0,1,2,HISTFAAAA", "Tag=a,0,1,2,zz", "x,y\n", strings.Repeat("a", maxEncodedBytes+5000),
		"0,1,2," + strings.Repeat("A", 1000),
	} {
		_, err := ReadHLog(strings.NewReader(bad), "x.hlog")
		if _, ok := errors.AsType[*InputError](err); !ok {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

func FuzzReadHLog(f *testing.F) {
	var b bytes.Buffer
	if err := hlogRecorder().WriteHLog(&b, time.Unix(0, 0), Tool{}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(_ *testing.T, in []byte) { _, _ = ReadHLog(bytes.NewReader(in), "x") })
}
