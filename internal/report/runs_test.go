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

// A second within which a run ended is in the table and not among the rates; one after which the next request would have
// been due is whole.
func TestEndedWithin(t *testing.T) {
	for name, c := range map[string]struct {
		load load
		want bool
	}{
		"100 a second":    {load{requests: 1000, pairs: 1, rate: 100}, false},
		"one a second":    {load{requests: 10, pairs: 1, rate: 1}, false},
		"one answer more": {load{requests: 1001, pairs: 1, rate: 100}, true},
		"half a second":   {load{requests: 1050, pairs: 1, rate: 100}, true},
	} {
		r := makeRun(t, c.load)
		if got := endedWithin(r); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		o := timedOf(r, 1)
		if len(o.cols) != len(r.Timeline) || (len(o.rates) < len(o.cols)) != c.want {
			t.Errorf("%s: %d of %d seconds are drawn, of %d", name, len(o.rates), len(o.cols), len(r.Timeline))
		}
		page := string(rendered(t, func(w io.Writer) error { return RunHTML(w, r) }))
		if said := strings.Contains(page, "ended within second 10;"); said != c.want {
			t.Errorf("%s: the caption says so: %v", name, said)
		}
	}
	// Several seconds to a point: what is drawn is what the table lists before the last second.
	o := timedOf(makeRun(t, load{requests: 1050, pairs: 1, rate: 100}), 4)
	if len(o.rates) != 3 || len(o.cols) != 4 || o.cols[2] != o.rates[2] || o.cols[3].from != 10 || o.cols[3].to != 11 {
		t.Errorf("%+v", o)
	}
	if endedWithin(&stats.Run{}) || endedWithin(&stats.Run{Timeline: []stats.TimelinePoint{{TS: 0}, {TS: 1}}}) {
		t.Error("a run without a duration ended")
	}
}

// A chart with nothing in it is left out, and a sentence says why.
func TestEmptyChartsAreLeftOut(t *testing.T) {
	failed := makeRun(t, load{requests: 1, pairs: 1, rate: 10, failEvery: 1})
	page := string(rendered(t, func(w io.Writer) error { return RunHTML(w, failed) }))
	for _, want := range []string{"No request succeeded, so there is no latency over time. The run is too short for rates and requests in flight as lines"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, absent := range []string{"<h3>Latency over time", "<h3>Rates", "<h3>In flight", "no latencies by second"} {
		if strings.Contains(page, absent) {
			t.Errorf("the page says %q", absent)
		}
	}
	good := makeRun(t, load{requests: 1000, pairs: 1, rate: 100})
	two := []stats.NamedRun{{Name: "good", Run: good}, {Name: "failed", Run: failed}}
	page = string(rendered(t, func(w io.Writer) error { return RunsHTML(w, two, nil) }))
	if !strings.Contains(page, "No request succeeded in run B, so there is no latency over time. Run B is too short for rates") || strings.Contains(page, `"name":"B ok"`) {
		t.Error("the page of two runs draws the short one, or does not say that it is left out")
	}
}

// Six tiles fill rows, show the digits of the table, and every section has a link.
func TestTilesAndContents(t *testing.T) {
	r := makeRun(t, load{requests: 3000, pairs: 2, rate: 200, stallAt: 3 * time.Second})
	page := string(rendered(t, func(w io.Writer) error { return RunHTML(w, r) }))
	if !strings.Contains(page, `<ul class="cards six">`) {
		t.Error("the tiles are not six")
	}
	for _, c := range cards(r)[2:] {
		if !strings.Contains(page, "<td>"+c.Value+"</td>") {
			t.Errorf("the tile %s shows %s, which is in no table", c.Label, c.Value)
		}
	}
	for _, part := range strings.Split(page, `<h2 id="`)[1:] {
		id, _, _ := strings.Cut(part, `"`)
		if !strings.Contains(page, `<a href="#`+id+`">`) {
			t.Errorf("no link leads to %s", id)
		}
	}
}

func TestTicksOfSmallNumbers(t *testing.T) {
	for v, want := range map[float64]string{0.0001: "0.0001", 0.00002: "0.00002", 0.001: "0.001", 0.25: "0.25", 0: "0", 5: "5", 2e7: "20" + nbsp + "M"} {
		if got := tick(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}
