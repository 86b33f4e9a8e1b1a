package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// chart is a picture that the page's script draws. What it holds stands in a table of the page as well.
type chart struct {
	XAxis  string        `json:"x_axis"` // "share": log10(1/(1-q)); "seconds"
	YLabel string        `json:"y_label"`
	YLog   bool          `json:"y_log"`
	Unit   string        `json:"unit"`
	Whole  bool          `json:"whole,omitempty"` // counts: no ticks between whole numbers
	X      []chartNumber `json:"x"`
	Series []chartSeries `json:"series"`
	Heat   *heatMap      `json:"heat,omitempty"`
}

type chartSeries struct {
	Name  string `json:"name"`
	Color int    `json:"color"`
	Dash  bool   `json:"dash,omitempty"`
	Thin  bool   `json:"thin,omitempty"`
	// Tail continues the series before it, where fewer than ten requests lie beyond.
	Tail bool `json:"tail,omitempty"`
	// Off hides the line until its button is pressed.
	Off bool          `json:"off,omitempty"`
	Y   []chartNumber `json:"y"`
}

// heatMap counts requests by stretch of time and band of latency.
type heatMap struct {
	Start int64         `json:"start"` // second of the first column
	Step  int64         `json:"step"`  // seconds a column covers
	Edges []chartNumber `json:"edges"` // of the bands, in ms: one more than there are bands
	// Cells holds for each column the bands in use, each as its number and its requests.
	Cells [][]int64 `json:"cells"`
}

// chartNumber is a number in the data of a page, rounded as the tables are; what is no number is null.
type chartNumber float64

// MarshalJSON implements [json.Marshaler].
func (n chartNumber) MarshalJSON() ([]byte, error) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	if math.Abs(f) < 1e12 {
		f = math.Round(f*1e6)/1e6 + 0
	}
	return strconv.AppendFloat(nil, f, 'f', -1, 64), nil
}

func none() chartNumber { return chartNumber(math.NaN()) }

// curve is a line of a percentile spectrum.
type curve struct {
	name  string
	color int
	thin  bool
	h     *stats.Histogram
}

// The points of a spectrum: so many for each 9 of the percentile, and one for the maximum, this far behind the rest.
const (
	spectrumPerNine = 16
	maximumBehind   = 0.12
)

// spectrumChart draws latency over the share of requests that were faster, with the tail spread out: every whole
// step to the right is ten times rarer. A curve ends with its maximum.
func spectrumChart(curves []curve, yLabel string) *chart {
	var us []float64
	end := 0.0
	for _, c := range curves {
		own := math.Log10(float64(c.h.Count()))
		end = max(end, own)
		us = append(us, max(own-1, 0), own, own+maximumBehind)
	}
	for i := 0; float64(i)/spectrumPerNine <= end; i++ {
		us = append(us, float64(i)/spectrumPerNine)
	}
	slices.Sort(us)
	us = slices.CompactFunc(us, func(a, b float64) bool { return math.Abs(b-a) < 1e-9 })
	ch := &chart{XAxis: "share", YLabel: yLabel, YLog: true, Unit: "ms"}
	qs := make([]float64, len(us))
	for i, u := range us {
		ch.X = append(ch.X, chartNumber(u))
		qs[i] = 1 - math.Pow(10, -u)
	}
	for _, c := range curves {
		values, own := c.h.Quantiles(append(qs, 1)...), math.Log10(float64(c.h.Count()))
		sure := chartSeries{Name: c.name, Color: c.color, Thin: c.thin, Y: make([]chartNumber, len(us))}
		rest := chartSeries{Name: c.name, Color: c.color, Thin: c.thin, Dash: true, Tail: true, Y: make([]chartNumber, len(us))}
		for i, u := range us {
			sure.Y[i], rest.Y[i] = none(), none()
			v := chartNumber(values[i])
			if u > own+1e-9 {
				v = chartNumber(values[len(us)])
			}
			if u <= own-1+1e-9 {
				sure.Y[i] = v
			}
			if u >= own-1-1e-9 && u <= own+maximumBehind+1e-9 {
				rest.Y[i] = v
			}
		}
		ch.Series = append(ch.Series, sure, rest)
	}
	return ch
}

// spectrumTable has the spectrum's points. Where few requests lie beyond, values have a ~.
func (c *chart) spectrumTable(caption string) htmlTable {
	g := grid{caption: caption, head: []string{"share of requests"}}
	for _, s := range c.Series {
		if !s.Tail {
			g.head = append(g.head, s.Name)
		}
	}
	for i, u := range c.X {
		row := []string{spectrumShare(float64(u))}
		for k := 0; k < len(c.Series); k += 2 {
			cell := chartCell(c.Series[k].Y[i], 6)
			if math.IsNaN(float64(c.Series[k].Y[i])) && !math.IsNaN(float64(c.Series[k+1].Y[i])) {
				cell = "~" + chartCell(c.Series[k+1].Y[i], 6)
			}
			row = append(row, cell)
		}
		g.rows = append(g.rows, row)
	}
	return table(&g)
}

// spectrumShare prints 1 − 10^−u in percent, with as many decimals as tell it from its neighbours.
func spectrumShare(u float64) string {
	return strconv.FormatFloat(100*(1-math.Pow(10, -u)), 'f', int(u)+3, 64) + nbsp + "%"
}

func chartCell(n chartNumber, places int) string {
	if math.IsNaN(float64(n)) {
		return "–"
	}
	return decimal(float64(n), places)
}

// maxPoints bounds the points of a line over time, of all runs together those of the tables; a longer run has several
// seconds to a point.
const maxPoints = 10_000

// column is one point of the timeline: the seconds from from to to, the last not included. Rates are means over
// them, latencies those of the worst second.
type column struct {
	from, to              int64
	sent, ok, failed      float64 // per second
	inFlight              int64
	p50MS, p99MS, worstMS float64
	answered              bool // there is a latency
}

// endedWithin tells whether the run ended within its last second. What stands in such a second is no rate: often it is one
// late answer. A second counts as whole when the next request would have been due after it.
func endedWithin(r *stats.Run) bool {
	const wholeEnough = 0.95
	n := len(r.Timeline)
	if n == 0 {
		return false
	}
	endS := r.Achieved.DurationMS / 1000
	if r.Counts.Sent > 1 {
		endS += endS / float64(r.Counts.Sent-1)
	}
	part := endS - float64(r.Timeline[n-1].TS)
	return part >= 0 && part < wholeEnough
}

// columns groups the timeline in stretches of so many seconds; it is nil when nothing happened in any.
func columns(points []stats.TimelinePoint, each int) (cols []column) {
	if !slices.ContainsFunc(points, func(p stats.TimelinePoint) bool { return p.Sent+p.OK+p.Failed > 0 }) {
		return nil
	}
	for group := range slices.Chunk(points, each) {
		c := column{from: group[0].TS, to: group[len(group)-1].TS + 1}
		for _, p := range group {
			c.sent += float64(p.Sent)
			c.ok += float64(p.OK)
			c.failed += float64(p.Failed)
			c.inFlight = max(c.inFlight, p.InFlight)
			c.p50MS, c.p99MS, c.worstMS = max(c.p50MS, p.P50MS), max(c.p99MS, p.P99MS), max(c.worstMS, p.MaxMS)
			c.answered = c.answered || p.OK > 0
		}
		n := float64(len(group))
		c.sent, c.ok, c.failed = c.sent/n, c.ok/n, c.failed/n
		cols = append(cols, c)
	}
	return cols
}

// over makes a chart over time of the columns of all runs, which share a width. Where a run has ended, or a value is
// unknown, the line has a gap.
func over(all [][]column, each int64) *chart {
	ch := &chart{XAxis: "seconds"}
	last := int64(0)
	for _, cols := range all {
		last = max(last, int64(len(cols)))
	}
	for i := range last {
		ch.X = append(ch.X, chartNumber(i*each))
	}
	return ch
}

func (c *chart) addLine(name string, color int, dash bool, cols []column, value func(*column) chartNumber) {
	s := chartSeries{Name: name, Color: color, Dash: dash, Thin: len(cols) > 600, Y: make([]chartNumber, len(c.X))}
	for i := range s.Y {
		s.Y[i] = none()
		if i < len(cols) {
			s.Y[i] = value(&cols[i])
		}
	}
	c.Series = append(c.Series, s)
}

func latencyOf(pick func(*column) float64) func(*column) chartNumber {
	return func(c *column) chartNumber {
		if !c.answered {
			return none()
		}
		return chartNumber(pick(c))
	}
}

// Bands of a heat map for each power of ten, and columns that a picture has room for.
const (
	bandsPerTen = 10
	maxHeat     = 400
)

// heat is a heat map with what its columns hold.
type heat struct {
	chart *chart
	cols  []heatColumn
}

// heatColumn is a stretch of time: all its latencies together.
type heatColumn struct {
	from, to            int64
	count               int64
	p50MS, p99MS, maxMS float64
	bands               []int64 // band and requests, in turn
}

// heatOf makes the heat map of a run, or nil when the run file has no latencies by second.
func heatOf(r *stats.Run) (*heat, error) {
	low, high := math.Inf(1), 0.0
	for i := range r.Timeline {
		if p := &r.Timeline[i]; p.OK > 0 {
			if p.Histogram == "" {
				return nil, nil
			}
			low, high = min(low, max(p.MinMS, 0.001)), max(high, p.MaxMS)
		}
	}
	if !(high >= low) {
		return nil, nil
	}
	first := math.Floor(math.Log10(low)*bandsPerTen + 1e-9)
	bands := max(int(math.Floor(math.Log10(high)*bandsPerTen+1e-9)-first)+1, 1)
	if bands > 12*bandsPerTen {
		return nil, errors.New("the timeline has latencies from less than a nanosecond to years")
	}
	step := max((len(r.Timeline)+maxHeat-1)/maxHeat, 1)
	h := &heat{chart: &chart{XAxis: "seconds", YLabel: "latency, ms", YLog: true, Unit: "ms"}}
	m := &heatMap{Start: r.Timeline[0].TS, Step: int64(step)}
	for i := range bands + 1 {
		m.Edges = append(m.Edges, chartNumber(math.Pow(10, (first+float64(i))/bandsPerTen)))
	}
	names := []string{"p50", "p99", "max"}
	lines := make([][]chartNumber, len(names))
	for group := range slices.Chunk(r.Timeline, step) {
		all := stats.NewPackedHistogram()
		for i := range group {
			one, err := group[i].Decode()
			if err != nil {
				return nil, err
			}
			all.Merge(one)
		}
		c := heatColumn{from: group[0].TS, to: group[len(group)-1].TS + 1, count: all.Count(), bands: []int64{}}
		h.chart.X = append(h.chart.X, chartNumber(float64(c.from+c.to)/2))
		if all.Count() == 0 {
			for i := range lines {
				lines[i] = append(lines[i], none())
			}
		} else {
			q := all.Quantiles(0.5, 0.99, 1)
			c.p50MS, c.p99MS, c.maxMS = q[0], q[1], q[2]
			for i := range lines {
				lines[i] = append(lines[i], chartNumber(q[i]))
			}
			c.bands = bandCounts(all, first, bands)
		}
		m.Cells = append(m.Cells, c.bands)
		h.cols = append(h.cols, c)
	}
	for i, name := range names {
		h.chart.Series = append(h.chart.Series, chartSeries{Name: name, Color: []int{2, 1, 6}[i], Thin: true, Off: name == "max", Y: lines[i]})
	}
	h.chart.Heat = m
	return h, nil
}

// bandCounts counts the latencies of h by band.
func bandCounts(h *stats.Histogram, first float64, bands int) []int64 {
	counts := make([]int64, bands)
	for ms, n := range h.Buckets() {
		band := 0
		if ms > 0 {
			band = int(math.Floor(math.Log10(ms)*bandsPerTen+1e-9) - first)
		}
		counts[min(max(band, 0), bands-1)] += n
	}
	pairs := []int64{}
	for i, n := range counts {
		if n > 0 {
			pairs = append(pairs, int64(i), n)
		}
	}
	return pairs
}

// tables are the columns of a heat map, and its cells.
func (h *heat) tables() []htmlTable {
	cols := grid{caption: "The heat map's columns", head: []string{"seconds", "ok", "p50 ms", "p99 ms", "max ms"}}
	cells := grid{caption: "The heat map's cells", head: []string{"seconds", "from ms", "to ms", "requests"}}
	for _, c := range h.cols {
		when := secondsText(c.from, c.to)
		if c.count == 0 {
			cols.rows = append(cols.rows, []string{when, "0", "–", "–", "–"})
			continue
		}
		cols.rows = append(cols.rows, []string{when, count(c.count), decimal(c.p50MS, 6), decimal(c.p99MS, 6), decimal(c.maxMS, 6)})
		for i := 0; i < len(c.bands); i += 2 {
			edges := h.chart.Heat.Edges[c.bands[i]:]
			cells.rows = append(cells.rows, []string{when, decimal(float64(edges[0]), 6), decimal(float64(edges[1]), 6), count(c.bands[i+1])})
		}
	}
	return []htmlTable{table(&cols), table(&cells)}
}

func secondsText(from, to int64) string {
	if to-from > 1 {
		return count(from) + "–" + count(to-1)
	}
	return count(from)
}

// chartData is the page's data as it stands in its script element: JSON in which nothing can end the element.
func chartData(charts []*chart) (string, error) {
	b, err := json.Marshal(charts)
	if err != nil {
		return "", fmt.Errorf("writing the data of the charts: %w", err)
	}
	return string(b), nil
}

// timelineTable is what the charts over time draw.
func timelineTable(caption string, cols []column) htmlTable {
	g := grid{caption: caption, head: []string{"seconds", "sent/s", "ok/s", "failed/s", "in flight", "p50 ms", "p99 ms", "max ms"}}
	for _, c := range cols {
		row := []string{secondsText(c.from, c.to), rateCell(c.sent), rateCell(c.ok), rateCell(c.failed), count(c.inFlight), "–", "–", "–"}
		if c.answered {
			row[5], row[6], row[7] = decimal(c.p50MS, 6), decimal(c.p99MS, 6), decimal(c.worstMS, 6)
		}
		g.rows = append(g.rows, row)
	}
	return table(&g)
}

// rateCell prints a whole number of requests as such; a mean over several seconds needs decimals.
func rateCell(f float64) string {
	if f == math.Trunc(f) {
		return decimal(f, 0)
	}
	return decimal(f, 3)
}

// byTail sorts pairs by their longest tail and cuts the list.
func byTail(pairs []stats.PairDeltas, most int) []stats.PairDeltas {
	if len(pairs) <= most {
		return pairs
	}
	sorted := slices.Clone(pairs)
	slices.SortStableFunc(sorted, func(a, b stats.PairDeltas) int { return cmp.Compare(b.D5MS, a.D5MS) })
	return sorted[:most]
}
