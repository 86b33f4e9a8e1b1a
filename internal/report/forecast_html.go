package report

import (
	"encoding/csv"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// ForecastHTML renders a forecast as one HTML page that needs nothing else: no
// network, no script, no font. It has everything that [Forecast] prints, and
// pictures of the months by service, of the totals with their sampling error, and,
// when the forecast was analysed, of the cost over the request rate. A forecast by
// duration ratio has no months to draw and is an error.
func ForecastHTML(w io.Writer, fc *cost.Result) error {
	if fc == nil {
		return errNothing
	}
	if fc.Method != nil {
		return errRatioPage
	}
	page := &htmlPage{
		Title: "Cost and concurrency forecast", Valid: true, FactsTitle: "Assumptions",
		Facts: htmlFacts(assumptionFacts(&fc.Assumptions)), Words: forecastWords(), Tool: toolText(fc.Tool.Version, fc.Tool.Commit),
	}
	var names []string
	for i := range fc.Architectures {
		a := &fc.Architectures[i]
		names = append(names, clean(a.Name))
		page.Cards = append(page.Cards, htmlCard{clean(a.Name), a.Month1.Format(), "", "month 1; " + a.Total.Format() + " in all"})
	}
	page.Subtitle = strings.Join(names, " · ")
	for _, a := range forecastAlerts(fc) {
		page.Alerts = append(page.Alerts, htmlAlert{a.text, a.reasons})
	}
	totals := costBlock(fc)
	s := section("cost", &totals)
	if drawn := drawable(fc.Architectures); len(drawn) > 0 {
		s.Figure, s.FigureNote = totalsFigure(drawn)
		if left := len(fc.Architectures) - len(drawn); left > 0 {
			s.FigureNote = strings.TrimSpace(s.FigureNote + fmt.Sprintf(" The figures have room for %d architectures; %s in the tables only.", maxDrawn, areOrIs(left)))
		}
		s.Details = []htmlTable{monthsTable(drawn)}
		page.Sections = append(page.Sections, s, htmlSection{
			ID: "services", Title: "Months by service", Plain: "What each month is made up of. All architectures share one scale.",
			Figure: stackFigure(drawn), Details: []htmlTable{servicesTable(drawn)},
		})
	} else {
		page.Sections = append(page.Sections, s)
	}
	if k, some := leverBlock(fc.Architectures); some {
		page.Sections = append(page.Sections, section("lever", &k))
	}
	if k, some := concurrencyBlock(fc.Architectures); some {
		page.Sections = append(page.Sections, section("concurrency", &k))
	}
	for i, k := range detailBlocks(fc) {
		s := section("detail-"+strconv.Itoa(i), &k)
		if i == 0 && len(fc.Analysis.Curve) > 1 && len(fc.Analysis.BreakEvens) > 0 {
			s.Figure, s.FigureNote = curveFigure(fc)
			s.Details = []htmlTable{curveTable(fc)}
		}
		page.Sections = append(page.Sections, s)
	}
	for i := range fc.Architectures {
		k := linesBlock(&fc.Architectures[i])
		page.Sections = append(page.Sections, section("lines-"+strconv.Itoa(i), &k))
	}
	if k, some := leftOutBlock(fc.Architectures); some {
		page.Sections = append(page.Sections, section("left-out", &k))
	}
	return page.write(w)
}

var errRatioPage = errors.New("a forecast by duration ratio has no page: use a table, Markdown or JSON")

// forecastWords explains the terms of the page.
func forecastWords() []htmlFact {
	return []htmlFact{
		{"Billed time", "What Lambda charges for: the duration of an invocation up to the next millisecond, with the initialisation of a cold start."},
		{"GB-second", "A second of billed time with 1,024 MB of memory. 128 MB for a second are an eighth of it."},
		{"Tier", "A range of the month's quantity with a price of its own. Only what lies in it has that price."},
		{"Concurrency", "How many environments, each of which serves one request at a time, are busy at once."},
		{"95 % interval", "Where the mean would lie in 95 of 100 repetitions of the measurement. It covers the sampling of the records, not prices or traffic."},
	}
}

// maxDrawn is how many architectures a figure has room for.
const maxDrawn = 8

// drawable returns the architectures that have months, as many as a figure takes.
func drawable(all []cost.ArchitectureResult) []cost.ArchitectureResult {
	var drawn []cost.ArchitectureResult
	for i := range all {
		if len(all[i].Months) > 0 && len(drawn) < maxDrawn {
			drawn = append(drawn, all[i])
		}
	}
	return drawn
}

func areOrIs(n int) string {
	if n == 1 {
		return "the last one is"
	}
	return fmt.Sprintf("the last %d are", n)
}

// dollars is an amount as a coordinate; it is never printed.
func dollars(u cost.USD) float64 { return u.Decimal().Float64() }

func seriesClass(i int) string { return fmt.Sprintf("series k%d dash%d", i%8, i%4) }

// bandKind names the bands around a line of totals.
type bandKind int

const (
	scenarioBand bandKind = iota
	intervalBand
)

// bandNames is which architectures have a band of each kind that is drawn, and one too narrow to be seen beside its line.
type bandNames struct{ drawn, narrow [2][]string }

// leastBand is the height of a band, in pixels, from which on it is seen on both sides of its line.
const leastBand = 6

// draw draws the area between two edges unless it is too narrow to be seen, and notes which it was.
func (n *bandNames) draw(d *drawing, kind bandKind, i int, name string, upper, lower []point) {
	if len(upper) < 2 {
		return
	}
	height := 0.0
	for j := range upper {
		if h := lower[j].y - upper[j].y; h > height {
			height = h
		}
	}
	if !(height >= leastBand) {
		n.narrow[kind] = append(n.narrow[kind], name)
		return
	}
	n.drawn[kind] = append(n.drawn[kind], name)
	class := fmt.Sprintf("band k%d", i%8)
	if kind == intervalBand {
		class += " interval"
	}
	back := slices.Clone(lower)
	slices.Reverse(back)
	d.area(class, append(slices.Clone(upper), back...))
}

// note says what the bands are. It says nothing when there are none.
func (n *bandNames) note() string {
	var text []string
	switch scenario, interval := len(n.drawn[scenarioBand]) > 0, len(n.drawn[intervalBand]) > 0; {
	case scenario && interval:
		text = append(text, "Bands are the scenario's low and high; the stronger ones in them are the 95 % sampling interval of the billed time.")
	case scenario:
		text = append(text, "Bands are the scenario's low and high.")
	case interval:
		text = append(text, "Bands are the 95 % sampling interval of the billed time.")
	}
	if names := n.narrow[scenarioBand]; len(names) > 0 {
		text = append(text, "The scenario's low and high of "+joinAnd(names)+" are too close to the line to be drawn.")
	}
	if names := n.narrow[intervalBand]; len(names) > 0 {
		text = append(text, "The 95 % sampling interval of "+joinAnd(names)+" is too narrow to be drawn; its limits are in the table.")
	}
	return strings.Join(text, " ")
}

// totalsFigure draws the total of each month as a line, with what bands there are, and says what these are.
func totalsFigure(all []cost.ArchitectureResult) (figure template.HTML, note string) {
	const above, depth, below = legendHeight + 26, 270, 46
	low, high, months := math.Inf(1), 0.0, 0
	desc := []string{"Total of each month in US dollars."}
	var names []string
	for i := range all {
		a := &all[i]
		names = append(names, cut(clean(a.Name), 24))
		months = max(months, len(a.Months))
		for _, m := range a.Months {
			low, high = min(low, dollars(m.Total)), max(high, dollars(m.Total))
			if m.Interval != nil {
				low, high = min(low, dollars(m.Interval.Low)), max(high, dollars(m.Interval.High))
			}
		}
		if a.Bands != nil {
			for j := range min(len(a.Bands.Low.Months), len(a.Bands.High.Months)) {
				low, high = min(low, dollars(a.Bands.Low.Months[j].Total)), max(high, dollars(a.Bands.High.Months[j].Total))
			}
		}
		last := a.Months[len(a.Months)-1]
		desc = append(desc, fmt.Sprintf("%s: %s in %s, %s in %s.", clean(a.Name), a.Month1.Format(), a.Months[0].Month, last.Total.Format(), last.Month))
	}
	more := moreLegend(names)
	top, bottom := float64(above+more), float64(above+more+depth)
	d := newDrawing("totals", above+more+depth+below, "Cost of each month", strings.Join(desc, " "))
	y := newScale(low, high, bottom, top)
	title := "US dollars a month"
	if y.log {
		title += ", log scale"
	}
	yAxis(d, &y, title)
	x := scale{min: 0, max: float64(max(months-1, 1)), from: marginLeft + 10, to: plotRight - 10}
	d.line("frame", marginLeft, bottom, plotRight, bottom)
	longest := all[0].Months
	for i := range all {
		if len(all[i].Months) > len(longest) {
			longest = all[i].Months
		}
	}
	step := max(1, (months+11)/12)
	for i := 0; i < months; i += step {
		d.text("tick", "middle", x.at(float64(i)), bottom+20, longest[i].Month.String())
	}
	var bands bandNames
	for i := range all {
		var line, lower, upper []point
		if b := all[i].Bands; b != nil {
			var above, below []point
			for j := range min(len(b.Low.Months), len(b.High.Months)) {
				above = append(above, point{x.at(float64(j)), y.at(dollars(b.High.Months[j].Total))})
				below = append(below, point{x.at(float64(j)), y.at(dollars(b.Low.Months[j].Total))})
			}
			bands.draw(d, scenarioBand, i, clean(all[i].Name), above, below)
		}
		for j, m := range all[i].Months {
			line = append(line, point{x.at(float64(j)), y.at(dollars(m.Total))})
			if m.Interval != nil {
				upper = append(upper, point{x.at(float64(j)), y.at(dollars(m.Interval.High))})
				lower = append(lower, point{x.at(float64(j)), y.at(dollars(m.Interval.Low))})
			}
		}
		bands.draw(d, intervalBand, i, clean(all[i].Name), upper, lower)
		d.path(seriesClass(i), line)
	}
	legendRows(d, names, func(i int, lx, ly float64) { d.line(seriesClass(i), lx, ly, lx+24, ly) })
	return d.html(), bands.note()
}

// legendBreaks returns which names begin another row of a legend.
func legendBreaks(names []string) map[int]bool {
	breaks := make(map[int]bool)
	x := 0.0
	for i, name := range names {
		width := 32 + 7.2*float64(len([]rune(name)))
		if x > 0 && marginLeft+x+width > plotRight {
			breaks[i] = true
			x = 0
		}
		x += width + 26
	}
	return breaks
}

// legendRow is the height of a row of a legend behind the first.
const legendRow = 20

// moreLegend returns the height of the rows of a legend behind the first.
func moreLegend(names []string) int { return legendRow * len(legendBreaks(names)) }

// legendRows draws a legend in as many rows as it takes.
func legendRows(d *drawing, names []string, sample func(i int, x, y float64)) {
	breaks := legendBreaks(names)
	first, y := 0, 16.0
	for i := range names {
		if end := i + 1; end == len(names) || breaks[end] {
			from := first
			legend(d, y, names[from:end], func(k int, x, y float64) { sample(from+k, x, y) })
			first = end
			y += legendRow
		}
	}
}

// serviceNames lists the services of all architectures, the dearest first. All
// but the first seven are one.
func serviceNames(all []cost.ArchitectureResult) (names []string, index map[string]int) {
	sums := make(map[string]cost.USD)
	for i := range all {
		for _, m := range all[i].Months {
			for _, s := range m.Services {
				if _, seen := sums[s.Service]; !seen {
					names = append(names, s.Service)
				}
				sums[s.Service] = sums[s.Service].Add(s.Amount)
			}
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return sums[b].Cmp(sums[a]) })
	index = make(map[string]int)
	for i, name := range names {
		index[name] = min(i, 7)
	}
	if len(names) > 8 {
		names = append(names[:7:7], "others")
	}
	return names, index
}

// stackFigure draws each month as a bar of its services, a panel for each architecture.
func stackFigure(all []cost.ArchitectureResult) template.HTML {
	const perRow, panelHeight = 4, 190
	names, index := serviceNames(all)
	for i := range names {
		names[i] = clean(names[i])
	}
	top := legendHeight + 24 + moreLegend(names)
	columns := min(perRow, len(all))
	rows := (len(all) + columns - 1) / columns
	high := 0.0
	desc := []string{"Each month by service, in US dollars."}
	for i := range all {
		for _, m := range all[i].Months {
			high = max(high, dollars(m.Total))
		}
		var parts []string
		for _, s := range all[i].Months[0].Services {
			parts = append(parts, clean(s.Service)+" "+s.Amount.Format())
		}
		desc = append(desc, fmt.Sprintf("%s, first month: %s.", clean(all[i].Name), joinAnd(parts)))
	}
	d := newDrawing("stack", top+rows*(panelHeight+56), "Months by service", strings.Join(desc, " "))
	width := (float64(plotRight-marginLeft) - 18*float64(columns-1)) / float64(columns)
	for i := range all {
		a := &all[i]
		left := marginLeft + float64(i%columns)*(width+18)
		above := float64(top + (i/columns)*(panelHeight+56))
		below := above + panelHeight
		y := newScale(0, high, below, above)
		for _, v := range y.ticks() {
			d.line("grid", left, y.at(v), left+width, y.at(v))
			if i%columns == 0 {
				d.text("tick", "end", left-8, y.at(v)+4, tick(v))
			}
		}
		each := width / float64(len(a.Months))
		gap := 0.0
		if each > 4 {
			gap = 1
		}
		for j, m := range a.Months {
			layers := make([]float64, 8)
			tips := make([]string, 8)
			for _, s := range m.Services {
				k := index[s.Service]
				layers[k] += dollars(s.Amount)
				tips[k] = strings.TrimPrefix(tips[k]+fmt.Sprintf(", %s %s", clean(s.Service), s.Amount.Format()), ", ")
			}
			sum := 0.0
			for k, v := range layers {
				if v <= 0 {
					continue
				}
				d.rect(fmt.Sprintf("layer k%d", k), left+float64(j)*each, y.at(sum+v), each-gap, y.at(sum)-y.at(sum+v),
					fmt.Sprintf("%s, %s: %s", clean(a.Name), m.Month, tips[k]))
				sum += v
			}
		}
		d.line("frame", left, below, left+width, below)
		d.text("tick", "start", left, below+18, a.Months[0].Month.String())
		if len(a.Months) > 1 {
			d.text("tick", "end", left+width, below+18, a.Months[len(a.Months)-1].Month.String())
		}
		d.text("label", "middle", left+width/2, below+36, cut(clean(a.Name), int(width/8)))
	}
	d.text("axis", "start", 4, float64(top-12), "US dollars a month")
	legendRows(d, names, func(i int, lx, ly float64) { d.rect(fmt.Sprintf("layer k%d", min(i, 7)), lx+6, ly-6, 12, 12, "") })
	return d.html()
}

// curveFigure draws the total of each architecture over the request rate, and says what its marks are.
func curveFigure(fc *cost.Result) (figure template.HTML, note string) {
	const above, depth, below = legendHeight + 26, 270, 56
	curve := fc.Analysis.Curve
	low, high := math.Inf(1), 0.0
	for _, p := range curve {
		for _, t := range p.Totals {
			if v := dollars(t); v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	var names []string
	for i := range min(len(fc.Architectures), maxDrawn) {
		names = append(names, cut(clean(fc.Architectures[i].Name), 24))
	}
	more := moreLegend(names)
	top, bottom := float64(above+more), float64(above+more+depth)
	d := newDrawing("curve", above+more+depth+below, "Cost over the request rate",
		fmt.Sprintf("Total of the forecast for each architecture, from %s to %s requests an hour. The numbers are in the table below.",
			quantity(curve[0].RequestsPerHour), quantity(curve[len(curve)-1].RequestsPerHour)))
	y := newScale(low, high, bottom, top)
	title := "US dollars in all"
	if y.log {
		title += ", log scale"
	}
	yAxis(d, &y, title)
	x := newScale(curve[0].RequestsPerHour.Float64(), curve[len(curve)-1].RequestsPerHour.Float64(), marginLeft, plotRight)
	for _, v := range x.ticks() {
		d.line("grid", x.at(v), top, x.at(v), bottom)
		d.text("tick", "middle", x.at(v), bottom+20, tick(v))
	}
	d.line("frame", marginLeft, bottom, plotRight, bottom)
	d.text("axis", "middle", (marginLeft+plotRight)/2, bottom+42, "requests an hour in month 1, log scale")
	for i := range names {
		var line []point
		for _, p := range curve {
			if i < len(p.Totals) && dollars(p.Totals[i]) > 0 {
				line = append(line, point{x.at(p.RequestsPerHour.Float64()), y.at(dollars(p.Totals[i]))})
			}
		}
		d.path(seriesClass(i), line)
	}
	middle := curve[len(curve)/2].RequestsPerHour
	d.line("planned", x.at(middle.Float64()), top, x.at(middle.Float64()), bottom)
	note = "The dashed upright line is this forecast."
	for _, b := range fc.Analysis.BreakEvens {
		if b.RequestsPerHour == nil {
			continue
		}
		at := b.RequestsPerHour.Float64()
		if at < x.min || at > x.max {
			continue
		}
		note = "The dashed upright line is this forecast; diamonds are break-evens."
		d.line("frame", x.at(at), bottom-8, x.at(at), bottom+8)
		d.mark(2, "point k7", x.at(at), bottom, fmt.Sprintf("%s and %s cost the same at %s requests an hour", clean(b.Baseline), clean(b.Candidate), quantity(*b.RequestsPerHour)))
	}
	legendRows(d, names, func(i int, lx, ly float64) { d.line(seriesClass(i), lx, ly, lx+24, ly) })
	return d.html(), note
}

func monthsTable(all []cost.ArchitectureResult) htmlTable {
	g := grid{caption: "Totals by month", head: []string{"month"}}
	for i := range all {
		g.head = append(g.head, clean(all[i].Name), "95"+nbsp+"% low", "95"+nbsp+"% high")
	}
	for j := range all[0].Months {
		row := []string{all[0].Months[j].Month.String()}
		for i := range all {
			if j >= len(all[i].Months) {
				row = append(row, "–", "–", "–")
				continue
			}
			m := &all[i].Months[j]
			row = append(row, m.Total.Format())
			if m.Interval == nil {
				row = append(row, "–", "–")
			} else {
				row = append(row, m.Interval.Low.Format(), m.Interval.High.Format())
			}
		}
		g.rows = append(g.rows, row)
	}
	return table(&g)
}

func servicesTable(all []cost.ArchitectureResult) htmlTable {
	g := grid{caption: "Months by service", head: []string{"architecture", "month", "service", "amount"}, text: []int{1, 2}}
	for i := range all {
		for _, m := range all[i].Months {
			for _, s := range m.Services {
				g.rows = append(g.rows, []string{clean(all[i].Name), m.Month.String(), clean(s.Service), s.Amount.Format()})
			}
		}
	}
	return table(&g)
}

func curveTable(fc *cost.Result) htmlTable {
	g := grid{caption: "Cost over the request rate", head: []string{"requests an hour"}}
	for i := range fc.Architectures {
		g.head = append(g.head, clean(fc.Architectures[i].Name))
	}
	for _, p := range fc.Analysis.Curve {
		row := []string{quantity(p.RequestsPerHour)}
		for i := range fc.Architectures {
			if i < len(p.Totals) {
				row = append(row, p.Totals[i].Format())
			} else {
				row = append(row, "–")
			}
		}
		g.rows = append(g.rows, row)
	}
	return table(&g)
}

// ForecastCSV writes a line for every architecture and month: requests, total,
// bounds of the sampling interval, and a column for each service. Amounts are in
// US dollars with up to twelve decimals, as in JSON.
func ForecastCSV(w io.Writer, fc *cost.Result) error {
	if fc == nil {
		return errNothing
	}
	var services []string
	for i := range fc.Architectures {
		for _, m := range fc.Architectures[i].Months {
			for _, s := range m.Services {
				if !slices.Contains(services, s.Service) {
					services = append(services, s.Service)
				}
			}
		}
	}
	cw := csv.NewWriter(w)
	head := []string{"architecture", "month", "requests", "total_usd", "low_usd", "high_usd"}
	for _, s := range services {
		head = append(head, csvText(strings.ReplaceAll(s, "-", "_")+"_usd"))
	}
	rows := [][]string{head}
	for i := range fc.Architectures {
		a := &fc.Architectures[i]
		for _, m := range a.Months {
			row := []string{csvText(a.Name), m.Month.String(), m.Requests.String(), csvAmount(m.Total), "", ""}
			if m.Interval != nil {
				row[4], row[5] = csvAmount(m.Interval.Low), csvAmount(m.Interval.High)
			}
			for _, s := range services {
				cell := ""
				for _, x := range m.Services {
					if x.Service == s {
						cell = csvAmount(x.Amount)
					}
				}
				row = append(row, cell)
			}
			rows = append(rows, row)
		}
	}
	if err := cw.WriteAll(rows); err != nil {
		return fmt.Errorf("writing a report: %w", err)
	}
	return nil
}

// csvAmount prints money as JSON has it.
func csvAmount(u cost.USD) string {
	return withoutZeros(u.Fixed(12))
}

// csvText makes a name harmless: spreadsheets take text that begins like a formula for one.
func csvText(s string) string {
	s = clean(s)
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		return "'" + s
	}
	return s
}
