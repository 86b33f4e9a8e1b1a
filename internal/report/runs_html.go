package report

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// The charting library, as npm has it; tools/uplot.sh fetches and checks it.
//
//go:embed uplot/uPlot.iife.min.js
var uplotScript string

//go:embed uplot/uPlot.min.css
var uplotCSS string

//go:embed charts.js
var chartsScript string

// maxRuns is how many runs have colours of their own on one page.
const maxRuns = 8

// RunsHTML renders one or more runs as one HTML page that needs nothing else: no network and no font. It has
// everything that [Run] prints, and as charts the percentile spectrum, latency over time as a heat map, rates, requests
// in flight, schedule error, D2 to D5 of each pair, and what Lambda billed, cold and warm, where the run says so. fc,
// which may be nil, adds the months of a forecast. Every number of a chart stands in a table too, and the page can be
// read without its script. A histogram in a run that cannot be decoded is an error; a missing one costs only the chart
// made of it. More than 8 runs are an error.
func RunsHTML(w io.Writer, runs []stats.NamedRun, fc *cost.Result) error {
	if len(runs) == 0 || slices.ContainsFunc(runs, func(r stats.NamedRun) bool { return r.Run == nil }) {
		return errNothing
	}
	if len(runs) > maxRuns {
		return fmt.Errorf("rendering a report as html: %d runs are more than a page can tell apart (%d)", len(runs), maxRuns)
	}
	b := &runsPage{runs: runs, page: &htmlPage{Words: words()}}
	if err := b.build(fc); err != nil {
		return fmt.Errorf("rendering a report as html: %w", err)
	}
	return b.page.write(w)
}

// runsPage is a page in the making.
type runsPage struct {
	runs   []stats.NamedRun
	page   *htmlPage
	charts []*chart
}

func (b *runsPage) build(fc *cost.Result) error {
	b.head()
	for _, part := range []func() error{b.latency, b.overTime, b.scheduleError} {
		if err := part(); err != nil {
			return err
		}
	}
	b.deltas()
	for i := range b.runs {
		r := b.runs[i].Run
		for _, k := range errorsBlock(r, math.MaxInt) {
			b.add(b.titled("errors", i, section("errors", &k)))
		}
		if len(r.Statuses) > 0 {
			b.add(b.titled("statuses", i, statusesSection(r.Statuses)))
		}
	}
	b.billed()
	b.forecast(fc)
	if len(b.charts) == 0 {
		return nil
	}
	data, err := chartData(b.charts)
	if err != nil {
		return err
	}
	script := uplotScript + "\n" + chartsScript
	sum := sha256.Sum256([]byte(script))
	// Everything here was made by us, or encoded as JSON in which < and > are escaped.
	b.page.ChartData, b.page.ChartCSS, b.page.Script = template.JS(data), template.CSS(uplotCSS), template.JS(script)
	b.page.Policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	return nil
}

func (b *runsPage) single() bool { return len(b.runs) == 1 }

// name is what a run is called in a chart or a table.
func (b *runsPage) name(i int) string {
	if b.single() {
		return ""
	}
	return runLetter(i)
}

// named puts the name of a run before the name of a thing.
func (b *runsPage) named(i int, thing string) string {
	return strings.TrimSpace(b.name(i) + " " + thing)
}

// titled gives a section of one run an id and a title of its own.
func (b *runsPage) titled(id string, i int, s htmlSection) htmlSection {
	s.ID = id
	if !b.single() {
		s.ID += "-" + strings.ToLower(runLetter(i))
		s.Title += ", run " + runLetter(i)
		for _, tables := range [][]htmlTable{s.Tables, s.Details} {
			for k := range tables {
				tables[k].Caption += ", run " + runLetter(i)
			}
		}
	}
	return s
}

func (b *runsPage) add(s htmlSection) {
	b.page.Sections = append(b.page.Sections, s)
	b.page.Contents = append(b.page.Contents, htmlLink{s.ID, s.Title})
}

// place gives a chart its number and returns where it goes.
func (b *runsPage) place(c *chart, title, desc, note string) htmlChart {
	b.charts = append(b.charts, c)
	return htmlChart{len(b.charts) - 1, title, desc, note}
}

func (b *runsPage) head() {
	p := b.page
	first := b.runs[0].Run
	p.Tool, p.FactsTitle, p.Valid = toolText(first.Tool.Version, first.Tool.Commit), "The run", true
	for i := range b.runs {
		r := b.runs[i].Run
		p.Valid = p.Valid && !invalid(r)
		for _, a := range runAlerts(r) {
			text := a.text
			if !b.single() {
				text = "Run " + runLetter(i) + ": " + text
			}
			p.Alerts = append(p.Alerts, htmlAlert{text, a.reasons})
		}
	}
	p.Badge = "load generator " + clean(cmp.Or(first.Client.Verdict, "not judged"))
	if b.single() {
		switch {
		case nothingMeasured(first):
			p.Badge = "INVALID: no request succeeded"
		case !p.Valid:
			p.Badge = "load generator INVALID"
		}
		p.Title, p.Subtitle, p.Cards, p.Facts = runTitle(first), targetText(first), cards(first), htmlFacts(runFacts(first))
		return
	}
	p.Badge, p.FactsTitle = "", "The runs"
	p.Title = plural(int64(len(b.runs)), "run") + " side by side"
	var names []string
	for i := range b.runs {
		r := b.runs[i].Run
		names = append(names, runLetter(i)+": "+clean(b.runs[i].Name))
		p.Facts = append(p.Facts, htmlFact{runLetter(i), clean(b.runs[i].Name) + ": " + runTitle(r)})
	}
	p.Subtitle = strings.Join(names, " · ")
	facts := b.factsTable()
	b.add(section("facts", &facts))
	k := sideBySide(b.runs)
	b.add(section("overview", &k))
}

// factsTable has what was run, a column for each run.
func (b *runsPage) factsTable() block {
	g := grid{caption: "What was run", head: []string{""}}
	cells := map[string][]string{}
	var labels []string
	for i := range b.runs {
		g.head = append(g.head, runLetter(i))
		g.text = append(g.text, i+1)
		for _, f := range runFacts(b.runs[i].Run) {
			if cells[f.label] == nil {
				labels = append(labels, f.label)
				cells[f.label] = make([]string, len(b.runs))
			}
			cells[f.label][i] = f.text
		}
	}
	for _, l := range labels {
		row := []string{l}
		for _, c := range cells[l] {
			row = append(row, cmp.Or(c, "–"))
		}
		g.rows = append(g.rows, row)
	}
	return block{title: "What was run", tables: []grid{g}}
}

// latency is the table of percentiles and the spectrum.
func (b *runsPage) latency() error {
	var s htmlSection
	for i := range b.runs {
		k := latencyBlock(b.runs[i].Run)
		one := section("latency", &k)
		if i == 0 {
			s = one
			s.Tables = nil
		}
		for _, t := range one.Tables {
			if !b.single() {
				t.Caption = "Run " + runLetter(i) + ", latency in milliseconds"
			}
			s.Tables = append(s.Tables, t)
		}
		for _, n := range one.Notes {
			if !slices.Contains(s.Notes, n) {
				s.Notes = append(s.Notes, n)
			}
		}
	}
	var curves []curve
	for i := range b.runs {
		own, err := latencyCurves(b.runs[i].Run)
		if err != nil {
			return err
		}
		for k, c := range own {
			c.name, c.color = b.named(i, c.name), i
			if b.single() {
				c.color = k
			}
			c.thin = k > 0
			if b.single() || k == 0 { // the lines of several runs are enough to tell apart
				curves = append(curves, c)
			}
		}
	}
	if len(curves) > 0 {
		c := spectrumChart(curves, "ms")
		desc := []string{"Latency in milliseconds by percentile."}
		for _, x := range curves {
			q := x.h.Quantiles(0.5, 0.99, 0.999, 1)
			desc = append(desc, fmt.Sprintf("%s: p50 %s, p99 %s, p99.9 %s, max %s.", x.name, figure(q[0]), figure(q[1]), figure(q[2]), figure(q[3])))
		}
		s.Charts = append(s.Charts, b.place(c, "Percentile spectrum", strings.Join(desc, " "),
			"Follow a line to the right to find ever rarer, ever slower requests: above 99 % is the slowest request of a hundred, above 99.9 % "+
				"the slowest of a thousand. Dashed: fewer than 10 requests were slower. A line ends with the slowest request."))
		s.Details = append(s.Details, c.spectrumTable("Percentile spectrum, latency in milliseconds"))
	}
	b.add(s)
	return nil
}

// latencyCurves decodes the histograms behind the latency table.
func latencyCurves(r *stats.Run) ([]curve, error) {
	all := stats.NewHistogram()
	for i := range r.Pairs {
		p := &r.Pairs[i]
		if p.Histogram == "" {
			continue
		}
		h, err := p.Decode()
		if err != nil {
			return nil, fmt.Errorf("pair %s: %w", pairName(p.Source, p.Destination), err)
		}
		all.Merge(h)
	}
	var curves []curve
	if all.Count() > 0 {
		name := "latency from due time"
		if r.Plan.Loop == "closed" {
			name = "latency"
		}
		curves = append(curves, curve{name: name, h: all})
	}
	if r.Histograms == nil {
		return curves, nil
	}
	for _, part := range []struct {
		name string
		from *stats.EncodedHistogram
	}{{"service time", r.Histograms.Service}, {"failed requests", r.Histograms.FailedLatency}} {
		h, err := decodePart(part.from, part.name)
		if err != nil {
			return nil, err
		}
		if h != nil {
			curves = append(curves, curve{name: part.name, h: h})
		}
	}
	return curves, nil
}

// decodePart returns a histogram that may be missing or empty, or nil.
func decodePart(e *stats.EncodedHistogram, name string) (*stats.Histogram, error) {
	if e == nil {
		return nil, nil //nolint:nilnil // nothing is no error
	}
	h, err := e.Decode()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if h.Count() == 0 {
		return nil, nil //nolint:nilnil // as above
	}
	return h, nil
}

// timed is a run in the charts over time.
type timed struct {
	cols []column // nil when nothing happened
	// rates is cols without the last second, if the run ended within it.
	rates []column
}

// drawsRates tells whether there are points enough for a line.
func (t *timed) drawsRates() bool { return len(t.rates) > 1 }

// timedOf groups the timeline of a run in stretches of so many seconds. A second within which the run ended stands alone.
func timedOf(r *stats.Run, each int) (t timed) {
	whole := r.Timeline
	if t.cols = columns(whole, each); t.cols == nil || !endedWithin(r) {
		t.rates = t.cols
		return t
	}
	whole, last := whole[:len(whole)-1], whole[len(whole)-1:]
	t.rates = columns(whole, each)
	if t.rates == nil {
		return t
	}
	t.cols = slices.Clip(t.rates)
	return timed{append(t.cols, columns(last, 1)...), t.rates}
}

// overTime is the heat map of each run, and rates and requests in flight of all of them.
func (b *runsPage) overTime() error {
	s := htmlSection{ID: "timeline", Title: "Second by second"}
	longest := 0
	for i := range b.runs {
		longest = max(longest, len(b.runs[i].Run.Timeline))
	}
	each := max((longest+maxPoints-1)/maxPoints, 1)
	all := make([]timed, len(b.runs))
	some := false
	var missing []string
	for i := range b.runs {
		r := b.runs[i].Run
		if all[i] = timedOf(r, each); all[i].cols == nil {
			continue
		}
		some = true
		latency, tables, err := b.latencyOverTime(i, all[i].cols, int64(each))
		if err != nil {
			return err
		}
		s.Charts = append(s.Charts, latency...)
		s.Details = append(s.Details, tables...)
		switch {
		case r.Counts.OK == 0:
			missing = append(missing, sentence("no request succeeded", b.inRun(i))+", so there is no latency over time.")
		case len(latency) == 0:
			missing = append(missing, sentence("too few seconds", b.inRun(i))+" have a success for a chart of latency over time.")
		}
	}
	if !some {
		return nil
	}
	if len(s.Charts) > 0 {
		s.Plain = "What was answered in each second, and how long the answered requests had taken. A gap is a second without a success."
	}
	if charts, without := b.ratesOverTime(all, each); charts != nil || without != "" {
		s.Charts = append(s.Charts, charts...)
		missing = append(missing, without)
	}
	s.Plain = strings.TrimSpace(s.Plain + " " + strings.Join(missing, " "))
	for i := range b.runs {
		if all[i].cols != nil {
			s.Details = append(s.Details, timelineTable("The run over time"+b.ofRun(i), all[i].cols))
		}
	}
	b.add(s)
	return nil
}

// sentence begins a sentence with what is the case, and where.
func sentence(what, where string) string {
	return strings.TrimSpace(strings.ToUpper(what[:1]) + what[1:] + " " + where)
}

// latencyOverTime is the heat map of a run with its tables, or lines when the run file holds no latencies by second.
// It is nothing when there is nothing to draw.
func (b *runsPage) latencyOverTime(i int, cols []column, each int64) (charts []htmlChart, tables []htmlTable, err error) {
	r := b.runs[i].Run
	h, err := heatOf(r)
	if err != nil {
		return nil, nil, err
	}
	title := strings.TrimSpace("Latency over time " + b.inRun(i))
	if h != nil {
		note := "The stronger the colour of a cell, the more of a band's requests: the scale is logarithmic. "
		if step := h.chart.Heat.Step; step > 1 {
			note += fmt.Sprintf("A column covers %s. ", plural(step, "second"))
		}
		for _, t := range h.tables() {
			t.Caption = strings.TrimSpace(t.Caption + b.ofRun(i))
			tables = append(tables, t)
		}
		return []htmlChart{b.place(h.chart, title, "A heat map: time to the right, latency upwards, the number of requests as shade, with p50, p99 and the slowest as lines. "+worstText(r), note+"Lines: p50, p99 and, behind its button, the slowest.")}, tables, nil
	}
	answered := 0
	for k := range cols {
		if cols[k].answered {
			answered++
		}
	}
	if answered < 2 {
		return nil, nil, nil
	}
	c := over([][]column{cols}, each)
	c.YLabel, c.YLog, c.Unit = "latency, ms", true, "ms"
	c.addLine("p50", 2, false, cols, latencyOf(func(c *column) float64 { return c.p50MS }))
	c.addLine("p99", 0, false, cols, latencyOf(func(c *column) float64 { return c.p99MS }))
	c.addLine("max", 1, false, cols, latencyOf(func(c *column) float64 { return c.worstMS }))
	return []htmlChart{b.place(c, title, "p50, p99 and the slowest request as lines. "+worstText(r), "This run file holds no latencies by second, hence lines and no heat map.")}, nil, nil
}

// ratesOverTime is the charts of rates and requests in flight, or a sentence that says why a run is not in them.
func (b *runsPage) ratesOverTime(all []timed, each int) (charts []htmlChart, without string) {
	var rates [][]column
	var short, ended []string
	for i := range all {
		rates = append(rates, nil)
		r := b.runs[i].Run
		switch {
		case all[i].cols == nil:
		case !all[i].drawsRates():
			short = append(short, strings.TrimSpace("run "+b.name(i)))
		default:
			rates[i] = all[i].rates
			if endedWithin(r) {
				ended = append(ended, fmt.Sprintf("%s ended within second %s", strings.TrimSpace("run "+b.name(i)), count(r.Timeline[len(r.Timeline)-1].TS)))
			}
		}
	}
	if len(short) > 0 {
		subject, verb := joinAnd(short), singular(len(short), " is", " are")
		if b.single() {
			subject = "the run"
		}
		without = sentence(subject+verb+" too short for rates and requests in flight as lines, which need two whole seconds; the numbers are in the table.", "")
	}
	if !slices.ContainsFunc(rates, func(cols []column) bool { return cols != nil }) {
		return nil, without
	}
	note := ""
	if each > 1 {
		note = fmt.Sprintf("One point covers %s: rates are their mean, latencies and requests in flight those of the worst second. ", plural(int64(each), "second"))
	}
	if len(ended) > 0 {
		text := joinAnd(ended) + "; a second that is not whole has no rate and is not drawn, only listed in the table."
		if b.single() {
			text = "the " + text
		}
		note += sentence(text, "")
	}
	return []htmlChart{b.rates(rates, int64(each), strings.TrimSpace(note)), b.inFlight(rates, int64(each), strings.TrimSpace(sampledText+note))}, without
}

// sampledText says what the chart of requests in flight is made of.
const sampledText = "Counted at the end of each second: sent, and not yet answered. A stall that is over by then does not show, " +
	"nor do requests that wait to be sent, for their turn or for one of those in flight. "

func (b *runsPage) ofRun(i int) string {
	if b.single() {
		return ""
	}
	return ", run " + runLetter(i)
}

func (b *runsPage) inRun(i int) string {
	if b.single() {
		return ""
	}
	return "in run " + runLetter(i)
}

// worstText says what a picture of a run shows at a glance.
func worstText(r *stats.Run) string {
	worst := stats.TimelinePoint{}
	for _, p := range r.Timeline {
		if p.MaxMS > worst.MaxMS {
			worst = p
		}
	}
	if worst.MaxMS == 0 {
		return "No request succeeded."
	}
	return fmt.Sprintf("The slowest request took %s ms and was answered in second %s.", figure(worst.MaxMS), count(worst.TS))
}

func (b *runsPage) rates(all [][]column, each int64, note string) htmlChart {
	c := over(all, each)
	c.YLabel, c.Unit = "requests per second", "/s"
	var desc []string
	for i := range b.runs {
		r := b.runs[i].Run
		color := i
		bad := 6
		if !b.single() {
			bad = i
		}
		if all[i] == nil {
			continue
		}
		if b.single() {
			c.addLine("sent", 7, false, all[i], func(c *column) chartNumber { return chartNumber(c.sent) })
		}
		c.addLine(b.named(i, "ok"), color, false, all[i], func(c *column) chartNumber { return chartNumber(c.ok) })
		c.addLine(b.named(i, "failed or timed out"), bad, true, all[i], func(c *column) chartNumber { return chartNumber(c.failed) })
		n := &r.Counts
		desc = append(desc, strings.TrimSpace(fmt.Sprintf("%s %s succeeded and %s did not.", b.name(i), plural(n.OK, "request"), count(n.Failed+n.TimedOut))))
	}
	return b.place(c, "Rates", "Requests sent and answered in each second. "+strings.Join(desc, " "), note)
}

func (b *runsPage) inFlight(all [][]column, each int64, note string) htmlChart {
	c := over(all, each)
	c.YLabel, c.Whole = "requests in flight", true
	var desc []string
	for i := range b.runs {
		if all[i] == nil {
			continue
		}
		c.addLine(b.named(i, "in flight"), i, false, all[i], func(c *column) chartNumber { return chartNumber(c.inFlight) })
		most := slices.MaxFunc(all[i], func(a, b column) int { return cmp.Compare(a.inFlight, b.inFlight) })
		desc = append(desc, strings.TrimSpace(fmt.Sprintf("%s At most %s, in second %s.", b.name(i), count(most.inFlight), count(most.from))))
	}
	return b.place(c, "In flight", "Requests sent and not yet answered at the end of each second. "+strings.Join(desc, " "), note)
}

// scheduleError is how far off the load generator sent, as a spectrum.
func (b *runsPage) scheduleError() error {
	var curves []curve
	for i := range b.runs {
		r := b.runs[i].Run
		if r.Histograms == nil {
			continue
		}
		h, err := decodePart(r.Histograms.ScheduleError, "schedule error")
		if err != nil {
			return err
		}
		if h != nil {
			curves = append(curves, curve{name: b.named(i, "schedule error"), color: i, h: h})
		}
	}
	if len(curves) == 0 {
		return nil
	}
	c := spectrumChart(curves, "ms")
	var desc []string
	for _, x := range curves {
		q := x.h.Quantiles(0.5, 0.99, 1)
		desc = append(desc, fmt.Sprintf("%s: p50 %s, p99 %s, max %s ms.", x.name, figure(q[0]), figure(q[1]), figure(q[2])))
	}
	b.add(htmlSection{
		ID: "schedule-error", Title: "Schedule error",
		Plain:   "How far from its due time the load generator sent a request that it was free to send. It is the generator's own fault: where it is large, the run is invalid.",
		Charts:  []htmlChart{b.place(c, "Schedule error", strings.Join(desc, " "), "")},
		Details: []htmlTable{c.spectrumTable("Schedule error in milliseconds")},
	})
	return nil
}

func (b *runsPage) deltas() {
	for i := range b.runs {
		b.add(b.titled("deltas", i, deltasSection("pairs"+strings.ToLower(b.name(i)), b.runs[i].Run)))
	}
}

func deltasSection(figureID string, r *stats.Run) htmlSection {
	k := deltasBlock(r.Deltas)
	if len(k.tables) == 0 {
		return section("deltas", &k)
	}
	d := r.Deltas
	k.tables = append(k.tables, supportGrid(d))
	k.notes = append(supportNotes(d), "“pooled” takes all requests together, as if there were one pair. "+boundText(d, worstBound(d)))
	s := section("deltas", &k)

	// With too many pairs to show, those with the longest tails are of interest.
	shown := byTail(d.Pairs, maxPairRows)
	if len(shown) < len(d.Pairs) {
		s.FigureNote = fmt.Sprintf("The %d pairs with the largest D5 of %s.", len(shown), count(int64(len(d.Pairs))))
	}
	s.Figure = pairDots(figureID, shown)
	g := grid{
		caption: "D2–D5 by pair, in milliseconds",
		head:    []string{"source", "destination", "requests", "min", "median", "D2", "D3", "D4", "D5", "D5 ±"},
		text:    []int{1},
	}
	for i := range d.Pairs {
		p := &d.Pairs[i]
		star := func(supported bool, ms float64) string {
			if supported {
				return decimal(ms, 2)
			}
			return "*" + decimal(ms, 2)
		}
		g.rows = append(g.rows, []string{
			clean(p.Source), clean(p.Destination), count(p.Count), decimal(p.MinMS, 3), decimal(p.MedianMS, 3),
			star(p.Supported.D2, p.D2MS), star(p.Supported.D3, p.D3MS), star(p.Supported.D4, p.D4MS), star(p.Supported.D5, p.D5MS), bound(p.BoundMS.D5),
		})
	}
	s.Details = []htmlTable{table(&g)}
	return s
}

func statusesSection(statuses map[string]int64) htmlSection {
	g := grid{caption: "Answers by HTTP status", head: []string{"status", "answers"}}
	for _, part := range sortedStatuses(statuses) {
		g.rows = append(g.rows, []string{clean(part), count(statuses[part])})
	}
	return htmlSection{ID: "statuses", Title: "Statuses", Plain: "What the target answered, by HTTP status. Requests without an answer are not in here.", Tables: []htmlTable{table(&g)}}
}

// billed is what Lambda says of the runs' requests, where the run files have it.
func (b *runsPage) billed() {
	g := grid{caption: "Cold and warm", head: []string{"", "records", "cold starts", "warm", "cold share", "init p50 ms", "init max ms"}}
	times := grid{caption: "Times by Lambda's records, in milliseconds", head: []string{"", "mean", "p50", "p95", "p99", "max"}}
	var rows []coldRow
	for i := range b.runs {
		var s lambdalog.Summary
		raw := b.runs[i].Run.Billed
		if len(raw) == 0 || json.Unmarshal(raw, &s) != nil || s.Reports == 0 {
			continue
		}
		name := cmp.Or(b.name(i), "this run")
		warm := max(s.Reports-s.Cold, 0)
		share := float64(s.Cold) / float64(s.Reports)
		g.rows = append(g.rows, []string{name, count(s.Reports), count(s.Cold), count(warm), percent(share), millis(s.InitMS.P50), millis(s.InitMS.Max)})
		for _, part := range []struct {
			name string
			d    *lambdalog.Distribution
		}{{"billed", &s.BilledMS}, {"duration", &s.DurationMS}, {"init", &s.InitMS}} {
			times.rows = append(times.rows, []string{b.named(i, part.name), millis(part.d.Mean), millis(part.d.P50), millis(part.d.P95), millis(part.d.P99), millis(part.d.Max)})
		}
		rows = append(rows, coldRow{name, s.Cold, warm})
	}
	if len(rows) == 0 {
		return
	}
	b.add(htmlSection{
		ID: "billed", Title: "What Lambda billed, cold and warm",
		Plain:  "From the records of the invocations. A cold start is an invocation that had to wait for a new environment.",
		Figure: coldFigure(rows), Tables: []htmlTable{table(&g), table(&times)},
	})
}

// forecast adds the months of a forecast.
func (b *runsPage) forecast(fc *cost.Result) {
	if fc == nil {
		return
	}
	k := costBlock(fc)
	k.title = "Forecast"
	s := section("forecast", &k)
	if drawn := drawable(fc.Architectures); len(drawn) > 0 {
		s.Figure, s.FigureNote = totalsFigure(drawn)
		s.Details = []htmlTable{monthsTable(drawn)}
	}
	for _, a := range forecastAlerts(fc) {
		b.page.Alerts = append(b.page.Alerts, htmlAlert{"Forecast: " + a.text, a.reasons})
	}
	b.add(s)
}

// coldRow is a run in the figure of cold starts.
type coldRow struct {
	name       string
	cold, warm int64
}

// coldFigure draws the share of cold starts of each run as a bar.
func coldFigure(rows []coldRow) template.HTML {
	const top, rowHeight, left = legendHeight, 34, 110
	bottom := float64(top + rowHeight*len(rows))
	var desc []string
	for _, r := range rows {
		desc = append(desc, fmt.Sprintf("%s: %s cold, %s warm.", r.name, count(r.cold), count(r.warm)))
	}
	d := newDrawing("cold", int(bottom)+44, "Cold and warm invocations", strings.Join(desc, " "))
	x := scale{min: 0, max: 1, from: left, to: plotRight}
	for i := range 5 {
		v := float64(i) / 4
		d.line("grid", x.at(v), top, x.at(v), bottom)
		d.text("tick", "middle", x.at(v), bottom+20, decimal(100*v, 0)+nbsp+"%")
	}
	for i, r := range rows {
		y := float64(top + rowHeight*i)
		share := float64(r.cold) / float64(max(r.cold+r.warm, 1))
		d.text("label", "end", left-12, y+22, cut(r.name, 14))
		d.rect("layer k1", left, y+8, x.at(share)-left, 20, fmt.Sprintf("%s: %s cold", r.name, count(r.cold)))
		d.rect("layer k0", x.at(share), y+8, plotRight-x.at(share), 20, fmt.Sprintf("%s: %s warm", r.name, count(r.warm)))
	}
	legend(d, 14, []string{"cold start", "warm"}, func(i int, lx, ly float64) { d.rect(fmt.Sprintf("layer k%d", 1-i), lx+6, ly-6, 12, 12, "") })
	return d.html()
}
