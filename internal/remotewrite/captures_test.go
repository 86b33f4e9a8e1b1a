package remotewrite

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const capturesDir = "../../fixtures/captures"

// capturedAt is a little later than all captures.
var capturedAt = time.Date(2026, 11, 20, 18, 30, 0, 0, time.UTC)

// capture is a recorded request.
type capture struct {
	Header  map[string][]string
	Summary captureSummary
	body    []byte
}

func (c capture) get(name string) string {
	if v := c.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// captureSummary is what an independent decoder found when the request was
// recorded.
type captureSummary struct {
	RWVersion       int   `json:"rw_version"`
	DecodedBytes    int   `json:"decoded_bytes"`
	Series          int   `json:"series"`
	Samples         int   `json:"samples"`
	Stale           int   `json:"stale"`
	Exemplars       int   `json:"exemplars"`
	IntHistograms   int   `json:"int_histograms"`
	FloatHistograms int   `json:"float_histograms"`
	CustomBuckets   int   `json:"custom_bucket_histograms"`
	Metadata        int   `json:"metadata"`
	StartTimestamps int   `json:"start_timestamps"`
	Symbols         int   `json:"symbols"`
	UnsortedSeries  int   `json:"unsorted_series"`
	MinTS           int64 `json:"min_ts"`
	MaxTS           int64 `json:"max_ts"`
}

func readCapture(tb testing.TB, name string) capture {
	tb.Helper()
	base := strings.TrimSuffix(filepath.Join(capturesDir, name), ".snappy")
	js, err := os.ReadFile(strings.TrimSuffix(base, ".zst") + ".json")
	if err != nil {
		tb.Fatal(err)
	}
	var c capture
	if err := json.Unmarshal(js, &c); err != nil {
		tb.Fatal(err)
	}
	if c.body, err = os.ReadFile(filepath.Join(capturesDir, name)); err != nil {
		tb.Fatal(err)
	}
	return c
}

// captureNames lists the good captures of a version, 0 for all.
func captureNames(tb testing.TB, v Version) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(capturesDir, "v*.snappy"))
	if err != nil || len(files) != 10 {
		tb.Fatalf("found %d captures, want 10 (%v)", len(files), err)
	}
	var names []string
	for _, f := range files {
		name := filepath.Base(f)
		if v == 0 || strings.HasPrefix(name, map[Version]string{V1: "v1-", V2: "v2-"}[v]) {
			names = append(names, name)
		}
	}
	return names
}

// decodeCapture negotiates and unpacks a capture.
func decodeCapture(tb testing.TB, name string) (capture, Version, []byte) {
	tb.Helper()
	c := readCapture(tb, name)
	v, err := Negotiate(c.get("Content-Type"), c.get("Content-Encoding"))
	if err != nil {
		tb.Fatal(err)
	}
	decoded, err := Decode(nil, c.body, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return c, v, decoded
}

func TestCapturesReproduceTheirSummaries(t *testing.T) {
	var w Walker
	for _, name := range captureNames(t, 0) {
		t.Run(name, func(t *testing.T) {
			c, v, decoded := decodeCapture(t, name)
			if int(v) != c.Summary.RWVersion {
				t.Errorf("negotiated %s, recorded %d", v, c.Summary.RWVersion)
			}
			if len(decoded) != c.Summary.DecodedBytes {
				t.Errorf("decoded %d bytes, recorded %d", len(decoded), c.Summary.DecodedBytes)
			}
			got, err := w.Walk(v, decoded, Limits{}, capturedAt)
			if err != nil {
				t.Fatal(err)
			}
			cs := c.Summary
			want := Summary{
				Counts: Counts{
					Series: cs.Series, Samples: cs.Samples, StaleSamples: cs.Stale,
					IntHistograms: cs.IntHistograms, FloatHistograms: cs.FloatHistograms, CustomBucketHistograms: cs.CustomBuckets,
					Exemplars: cs.Exemplars, Metadata: cs.Metadata, StartTimestamps: cs.StartTimestamps,
					UnsortedSeries: cs.UnsortedSeries,
				},
			}
			if cs.MinTS <= cs.MaxTS {
				want.MinTimestampMS, want.MaxTimestampMS, want.HasTimestamp = cs.MinTS, cs.MaxTS, true
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("summary differs (-recorded +walked):\n%s", d)
			}
			if v == V2 && len(w.symbols) != cs.Symbols {
				t.Errorf("%d symbols, recorded %d", len(w.symbols), cs.Symbols)
			}
		})
	}
}

func TestBadCaptures(t *testing.T) {
	t.Run("zstd", func(t *testing.T) {
		c := readCapture(t, "bad-vmagent-zstd-encoding.zst")
		_, err := Negotiate(c.get("Content-Type"), c.get("Content-Encoding"))
		wantError(t, err, 415, "content_encoding")
		_, err = Decode(nil, c.body, 0)
		wantError(t, err, 400, "not_snappy")
	})
	t.Run("1.0 labelled as 2.0", func(t *testing.T) {
		_, v, decoded := decodeCapture(t, "bad-promtool-v1body-labelled-v2.snappy")
		if v != V2 {
			t.Fatalf("negotiated %s", v)
		}
		var w Walker
		sum, err := w.Walk(v, decoded, Limits{}, capturedAt)
		e := wantError(t, err, 400, "wrong_schema")
		if !strings.Contains(e.Hint, "promtool") {
			t.Errorf("hint %q does not name promtool", e.Hint)
		}
		if sum != (Summary{}) {
			t.Errorf("summary %+v of a refused request", sum)
		}
		// The body is a good 1.0 request.
		if _, err := w.Walk(V1, decoded, Limits{}, capturedAt); err != nil {
			t.Errorf("as 1.0: %v", err)
		}
	})
}

// wantError fails unless err is an *Error with that status and reason.
func wantError(tb testing.TB, err error, status int, why string) Error {
	tb.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		tb.Fatalf("error %v, want an *Error with %d %s", err, status, why)
	}
	if e.Status != status || e.Reason != why {
		tb.Errorf("error %d %s (%v), want %d %s", e.Status, e.Reason, e, status, why)
	}
	return *e
}
