package report

import (
	"bytes"
	"encoding/csv"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

func someRuns(t *testing.T) []stats.NamedRun {
	t.Helper()
	all := runs(t)
	return []stats.NamedRun{{Name: "normal.json", Run: all["normal"]}, {Name: "errors.json", Run: all["errors"]}, {Name: "empty.json", Run: all["empty"]}}
}

func TestRunsGolden(t *testing.T) {
	for f, ext := range formats() {
		checkGolden(t, "runs."+ext, rendered(t, func(w io.Writer) error { return Runs(w, f, someRuns(t)) }))
	}
	checkGolden(t, "runs.csv", rendered(t, func(w io.Writer) error { return RunsCSV(w, someRuns(t)) }))
}

func TestRunsNeedRuns(t *testing.T) {
	one := someRuns(t)[:1]
	for name, err := range map[string]error{
		"no run":     Runs(io.Discard, Table, nil),
		"no run csv": RunsCSV(io.Discard, nil),
		"no page":    RunsHTML(io.Discard, nil, nil),
		"nil run":    RunsHTML(io.Discard, []stats.NamedRun{{Name: "a"}}, nil),
		"too many":   RunsHTML(io.Discard, []stats.NamedRun{one[0], one[0], one[0], one[0], one[0], one[0], one[0], one[0], one[0]}, nil),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestRunsPageIsWellFormed puts runs on one page of which two have hostile names.
func TestRunsPageIsWellFormed(t *testing.T) {
	all := someRuns(t)
	all[0].Name = hostile
	all[1].Run.Labels = map[string]string{hostile: hostile}
	all[1].Run.Errors[0].Class = hostile
	for i := range all[1].Run.Pairs {
		all[1].Run.Pairs[i].Source += hostile
	}
	page := rendered(t, func(w io.Writer) error { return RunsHTML(w, all, readForecast(t, "forecast-two.json")) })
	checkHTML(t, page)
	if n := bytes.Count(page, []byte("alert(1)")); n == 0 || bytes.Contains(page, []byte("<script>alert")) {
		t.Errorf("the hostile name stands %d times on the page, or acts", n)
	}
}

func TestRunsCSVIsHarmless(t *testing.T) {
	all := someRuns(t)
	all[0].Name = "=HYPERLINK(1)"
	rows, err := csv.NewReader(bytes.NewReader(rendered(t, func(w io.Writer) error { return RunsCSV(w, all) }))).ReadAll()
	if err != nil || len(rows) != 4 || rows[1][0] != "'=HYPERLINK(1)" {
		t.Errorf("%v: %q", err, rows)
	}
}

// TestSpectrum checks the curve of a hundred known latencies against their percentiles.
func TestSpectrum(t *testing.T) {
	h := stats.NewHistogram()
	for i := range 100 {
		if err := h.Record(time.Duration(i+1) * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	c := spectrumChart([]curve{{name: "x", h: h}, {name: "y", h: h}}, "ms")
	if len(c.Series) != 4 || len(c.X) < 2*spectrumPerNine {
		t.Fatalf("%d series of %d points", len(c.Series), len(c.X))
	}
	for i, u := range c.X {
		y := c.Series[0].Y[i]
		if dashed := float64(u) > 1+1e-9; dashed != math.IsNaN(float64(y)) {
			t.Errorf("at %v the certain part is %v", u, y)
		}
		if float64(u) >= 1-1e-9 {
			y = c.Series[1].Y[i]
		}
		want := h.Quantiles(1 - math.Pow(10, -float64(u)))[0]
		if float64(u) > 2+1e-9 {
			want = 100
		}
		if math.Abs(float64(y)-want) > 1e-9 {
			t.Errorf("at %v the curve is %v, want %v", u, y, want)
		}
	}
}

// TestHeatMapHoldsEveryRequest adds up its cells.
func TestHeatMapHoldsEveryRequest(t *testing.T) {
	r := makeRun(t, load{requests: 3000, pairs: 3, rate: 100, stallAt: 4 * time.Second})
	h, err := heatOf(r)
	if err != nil || h == nil {
		t.Fatal(h, err)
	}
	var n int64
	for _, cells := range h.chart.Heat.Cells {
		for i := 1; i < len(cells); i += 2 {
			n += cells[i]
		}
	}
	if n != r.Counts.OK {
		t.Errorf("the cells hold %d requests of %d", n, r.Counts.OK)
	}
	edges := h.chart.Heat.Edges
	if float64(edges[0]) > r.Latency.MinMS || float64(edges[len(edges)-1]) < r.Latency.MaxMS {
		t.Errorf("bands from %v to %v leave out latencies from %v to %v", edges[0], edges[len(edges)-1], r.Latency.MinMS, r.Latency.MaxMS)
	}
	r.Timeline[2].Histogram = "HISTF"
	if _, err := heatOf(r); err == nil || !strings.Contains(err.Error(), "second 2") {
		t.Errorf("a damaged second: %v", err)
	}
	r.Timeline[2].Histogram = ""
	if h, err := heatOf(r); h != nil || err != nil {
		t.Errorf("a run without latencies by second: %v, %v", h, err)
	}
}

// The numbers of a row line up, and those of too few samples are marked as in the other tables.
func TestSideBySideMarks(t *testing.T) {
	all := someRuns(t)
	all[1].Run.Deltas.Summary.D2.MaxMS = 1491.09
	for _, f := range []Format{Table, Markdown} {
		out := strings.ReplaceAll(string(rendered(t, func(w io.Writer) error { return Runs(w, f, all) })), `\`, "")
		for name, want := range map[string]string{
			"p90_ms": "4.80 5.34 –", "d2_max_ms": "4.28 1,491.09 –", "d3_median_ms": "25.67 *972.99 –", "d4_max_ms": "*73.45 *997.97 –",
		} {
			var got string
			for line := range strings.Lines(out) {
				if fields := strings.Fields(strings.ReplaceAll(line, "|", "")); len(fields) > 1 && fields[0] == name {
					got = strings.Join(fields[1:], " ")
				}
			}
			if got != want {
				t.Errorf("%s: %s is %q, want %q", f, name, got, want)
			}
		}
		if !strings.Contains(out, "* interpolates the maximum of pairs with too few samples: D2 needs n ≥ 101,") {
			t.Errorf("%s does not explain the mark", f)
		}
	}
	if out := string(rendered(t, func(w io.Writer) error { return Deltas(w, Table, all[1].Run.Deltas) })); !strings.Contains(out, " 1,491.09") {
		t.Errorf("no separator in\n%s", out)
	}
}
