package remotewrite

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// labelsOf decodes with the generated code: the labels of every series, in order.
func labelsOf(t *testing.T, v Version, b []byte) [][]prompb.Label {
	t.Helper()
	var all [][]prompb.Label
	if v == V1 {
		var r prompb.WriteRequest
		if err := r.Unmarshal(b); err != nil {
			t.Fatal(err)
		}
		for _, ts := range r.Timeseries {
			all = append(all, ts.Labels)
		}
		return all
	}
	var r writev2.Request
	if err := r.Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	for _, ts := range r.Timeseries {
		var ls []prompb.Label
		for i := 0; i < len(ts.LabelsRefs); i += 2 {
			ls = append(ls, prompb.Label{Name: r.Symbols[ts.LabelsRefs[i]], Value: r.Symbols[ts.LabelsRefs[i+1]]})
		}
		all = append(all, ls)
	}
	return all
}

// TestRelabelCaptures: on real requests exactly one label of each series changes, the labels stay as sorted
// as they were, and everything else that the walker counts is the same.
func TestRelabelCaptures(t *testing.T) {
	files, err := filepath.Glob("../../fixtures/captures/v*.snappy")
	if err != nil || len(files) == 0 {
		t.Fatal("no captures", err)
	}
	for _, f := range files {
		for _, name := range []string{"cluster", "job", "__name__", "zzz", "A"} {
			t.Run(filepath.Base(f)+"/"+name, func(t *testing.T) {
				body, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				v := V1
				if strings.HasPrefix(filepath.Base(f), "v2") {
					v = V2
				}
				raw, err := Decode(nil, body, 0)
				if err != nil {
					t.Fatal(err)
				}
				out, err := Relabel(nil, v, raw, name, "canary-2")
				if err != nil {
					t.Fatal(err)
				}
				before, after := labelsOf(t, v, raw), labelsOf(t, v, out)
				for i := range before {
					want := slices.Clone(before[i])
					sorted := slices.IsSortedFunc(want, byName)
					want = slices.DeleteFunc(want, func(l prompb.Label) bool { return l.Name == name })
					want = append(want, prompb.Label{Name: name, Value: "canary-2"})
					slices.SortFunc(want, byName)
					got := slices.Clone(after[i])
					if sorted != slices.IsSortedFunc(got, byName) {
						t.Errorf("series %d: sorted %v before and not after", i, sorted)
					}
					slices.SortFunc(got, byName)
					if diff := gocmp.Diff(want, got); diff != "" {
						t.Fatalf("series %d:\n%s", i, diff)
					}
				}
				var w Walker
				sum1, err1 := w.Walk(v, raw, Limits{FutureTolerance: -1}, time.Now())
				sum2, err2 := w.Walk(v, out, Limits{FutureTolerance: -1}, time.Now())
				if err1 != nil || err2 != nil || sum1.Series != sum2.Series || sum1.Counts != sum2.Counts {
					t.Errorf("walk: %+v %v, then %+v %v", sum1, err1, sum2, err2)
				}
			})
		}
	}
}

func byName(a, b prompb.Label) int { return cmp.Compare(a.Name, b.Name) }

func FuzzRelabel(f *testing.F) {
	f.Add([]byte("\x0a\x0e\x0a\x0c\x0a\x03foo\x12\x05value"), false)
	f.Add([]byte("\x22\x00\x22\x01a\x22\x01b\x2a\x04\x0a\x02\x01\x02"), true)
	f.Fuzz(func(t *testing.T, b []byte, two bool) {
		v := V1
		if two {
			v = V2
		}
		var w Walker
		if _, err := w.Walk(v, b, Limits{FutureTolerance: -1}, time.Now()); err != nil {
			_, _ = Relabel(nil, v, b, "cluster", "x") // must not panic
			return
		}
		out, err := Relabel(nil, v, b, "cluster", "x")
		if err != nil {
			t.Fatalf("a valid message is refused: %v", err)
		}
		for _, ls := range labelsOf(t, v, out) {
			n := 0
			for _, l := range ls {
				if l.Name == "cluster" {
					n++
				}
			}
			if n != 1 {
				t.Fatalf("%d cluster labels in %v", n, ls)
			}
		}
	})
}
