package report

import (
	"io"
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

func TestCompareGolden(t *testing.T) {
	a := makeRun(t, load{requests: 3000, pairs: 3, rate: 100})
	b := makeRun(t, load{requests: 3000, pairs: 3, rate: 100, failEvery: 100})
	b.Client.Verdict = "invalid"
	b.Plan.SHA256 = "another"
	c, err := stats.CompareRuns([]stats.NamedRun{{Name: "a.json", Run: a}, {Name: "b.json", Run: b}})
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "compare.txt", rendered(t, func(w io.Writer) error { return Compare(w, Table, c) }))
	checkGolden(t, "compare.md", rendered(t, func(w io.Writer) error { return Compare(w, Markdown, c) }))
	c.Runs[1].Name = "<b>\x1b[1m token=canary"
	out := string(rendered(t, func(w io.Writer) error { return Compare(w, Markdown, c) }))
	for _, bad := range []string{"<b>", "\x1b", "canary"} {
		if strings.Contains(out, bad) {
			t.Errorf("%q is shown", bad)
		}
	}
	if Compare(io.Discard, Table, nil) == nil || Compare(io.Discard, "xml", c) == nil {
		t.Error("no error")
	}
}
