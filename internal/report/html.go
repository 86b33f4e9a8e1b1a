package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

//go:embed page.html
var pageTemplate string

// RunHTML renders a run as one HTML page that needs nothing else: no network, no
// script, no font. It has everything that [Run] prints, the percentile spectrum,
// the run second by second and D2 to D5 of each pair as pictures, and all their
// numbers as tables. A histogram in the run that cannot be decoded is an error; a
// missing one costs only the picture made of it.
func RunHTML(w io.Writer, r *stats.Run) error {
	if r == nil {
		return errNothing
	}
	page, err := newHTMLPage(r)
	if err != nil {
		return fmt.Errorf("rendering a report as html: %w", err)
	}
	return page.write(w)
}

// write renders the page and writes it in one piece.
func (p *htmlPage) write(w io.Writer) error {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("rendering a report as html: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return fmt.Errorf("rendering a report as html: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing a report: %w", err)
	}
	return nil
}

// htmlPage is what the template sees.
type htmlPage struct {
	Title, Subtitle string
	Badge           string
	Valid           bool
	FactsTitle      string
	Alerts          []htmlAlert
	Cards           []htmlCard
	Facts           []htmlFact
	Sections        []htmlSection
	Words           []htmlFact
	Tool            string
}

type htmlAlert struct {
	Text    string
	Reasons []string
}

type htmlCard struct{ Label, Value, Unit, Note string }

type htmlFact struct{ Label, Text string }

type htmlSection struct {
	ID, Title, Plain string
	Figure           template.HTML
	FigureNote       string
	Facts            []htmlFact
	Items            []string
	Tables           []htmlTable
	Notes            []string
	Details          []htmlTable // long tables, folded
}

type htmlTable struct {
	Caption string
	Head    []htmlCell
	Rows    [][]htmlCell
}

type htmlCell struct {
	Value string
	Text  bool // left-aligned
}

func newHTMLPage(r *stats.Run) (*htmlPage, error) {
	p := runPage(r)
	page := &htmlPage{
		Title: p.title, Subtitle: targetText(r),
		Badge: "load generator " + clean(cmp.Or(r.Client.Verdict, "not judged")), Valid: !invalid(r), FactsTitle: "The run",
		Cards: cards(r), Facts: htmlFacts(p.blocks[0].facts), Words: words(),
		Tool: toolText(r.Tool.Version, r.Tool.Commit),
	}
	if !page.Valid {
		page.Badge = "load generator INVALID"
	}
	for _, a := range p.alerts {
		page.Alerts = append(page.Alerts, htmlAlert{a.text, a.reasons})
	}
	latency, err := latencySection(r, &p.blocks[1])
	if err != nil {
		return nil, err
	}
	page.Sections = append(page.Sections, latency)
	if s, some := timelineSection(r); some {
		page.Sections = append(page.Sections, s)
	}
	page.Sections = append(page.Sections, deltasSection(r))
	for _, k := range errorsBlock(r, math.MaxInt) {
		page.Sections = append(page.Sections, section("errors", &k))
	}
	if len(r.Statuses) > 0 {
		page.Sections = append(page.Sections, statusesSection(r.Statuses))
	}
	return page, nil
}

// toolText names the program that made a page.
func toolText(version, commit string) string {
	text := strings.TrimSpace("cirrusbench " + clean(version))
	if c := short(commit); c != "" {
		text += " (commit " + clean(c) + ")"
	}
	return text
}

// cards are the numbers to see first.
func cards(r *stats.Run) []htmlCard {
	c := &r.Counts
	done := htmlCard{"requests ok", count(c.OK), "", "of " + count(c.Sent) + " sent"}
	rate := htmlCard{"rate", figure(r.Achieved.RatePerS), "/s", span(r.Achieved.DurationMS) + " long"}
	if r.Plan.Loop == "open" && r.Plan.RatePerS > 0 {
		rate.Note = "of " + figure(r.Plan.RatePerS) + " planned"
	}
	out := []htmlCard{done, rate}
	l := &r.Latency
	if l.Count == 0 {
		return out
	}
	for _, q := range percentiles() {
		if q.name != "p50" && q.name != "p99" && q.name != "p99.9" {
			continue
		}
		card := htmlCard{q.name, figure(q.value(l)), "ms", "latency"}
		if l.Count < q.enough {
			card.Value, card.Note = "~"+card.Value, "few samples"
		}
		out = append(out, card)
	}
	return append(out, htmlCard{"max", figure(l.MaxMS), "ms", "latency"})
}

func htmlFacts(facts []fact) []htmlFact {
	out := make([]htmlFact, len(facts))
	for i, f := range facts {
		out[i] = htmlFact{f.label, f.text}
	}
	return out
}

// section turns a block into a section without a figure.
func section(id string, k *block) htmlSection {
	s := htmlSection{
		ID: id, Title: strings.TrimSpace(k.title + " " + k.subject), Plain: k.plain, Notes: k.notes, Items: k.items, Facts: htmlFacts(k.facts),
	}
	for i := range k.tables {
		s.Tables = append(s.Tables, table(&k.tables[i]))
	}
	return s
}

func table(g *grid) htmlTable {
	t := htmlTable{Caption: g.caption, Head: make([]htmlCell, len(g.head)), Rows: make([][]htmlCell, len(g.rows))}
	for j, cell := range g.head {
		t.Head[j] = htmlCell{cell, g.isText(j)}
	}
	for i, row := range g.rows {
		t.Rows[i] = make([]htmlCell, len(row))
		for j, cell := range row {
			t.Rows[i][j] = htmlCell{cell, g.isText(j)}
		}
	}
	return t
}

func latencySection(r *stats.Run, k *block) (htmlSection, error) {
	s := section("latency", k)
	curves, err := latencyCurves(r)
	if err != nil {
		return s, err
	}
	if len(curves) > 0 {
		s.Figure = spectrum(curves)
		s.FigureNote = "How to read it: follow a line to the right to find ever rarer, ever slower requests. " +
			"Above 99 % is the slowest request of a hundred, above 99.9 % the slowest of a thousand."
	}
	return s, nil
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
		// Broader than the one drawn over it, so that both show where they are equal.
		curves = append(curves, curve{name, "s1", true, all})
	}
	if r.Histograms != nil && r.Histograms.Service != nil {
		h, err := r.Histograms.Service.Decode()
		if err != nil {
			return nil, fmt.Errorf("service time: %w", err)
		}
		if h.Count() > 0 {
			curves = append(curves, curve{"service time", "s2", false, h})
		}
	}
	return curves, nil
}

func timelineSection(r *stats.Run) (htmlSection, bool) {
	cols, each := columns(r.Timeline)
	if len(cols) == 0 {
		return htmlSection{}, false
	}
	planned := 0.0
	if r.Plan.Loop == "open" {
		planned = r.Plan.RatePerS
	}
	s := htmlSection{
		ID: "timeline", Title: "Second by second",
		Plain:  "What was answered in each second, and how long the answered requests had taken. A gap is a second without a success.",
		Figure: timeline(cols, planned),
	}
	if each > 1 {
		s.FigureNote = fmt.Sprintf("One point covers %s: rates are their mean, latencies those of the worst second.", plural(int64(each), "second"))
	}
	g := grid{caption: "The run over time", head: []string{"seconds", "sent/s", "ok/s", "failed/s", "in flight", "p50 ms", "p99 ms", "max ms"}}
	for _, c := range cols {
		row := []string{count(c.from), figure(c.sent), figure(c.ok), figure(c.failed), count(c.inFlight), "–", "–", "–"}
		if c.to-c.from > 1 {
			row[0] += "–" + count(c.to-1)
		}
		if c.answered {
			row[5], row[6], row[7] = decimal(c.p50MS, 3), decimal(c.p99MS, 3), decimal(c.worstMS, 3)
		}
		g.rows = append(g.rows, row)
	}
	s.Details = []htmlTable{table(&g)}
	return s, true
}

func deltasSection(r *stats.Run) htmlSection {
	k := deltasBlock(r.Deltas)
	if len(k.tables) == 0 {
		return section("deltas", &k)
	}
	d := r.Deltas
	k.tables = append(k.tables, supportGrid(d))
	k.notes = append(supportNotes(d), "“pooled” takes all requests together, as if there were one pair. "+boundText(d, worstBound(d)))
	s := section("deltas", &k)

	// With too many pairs to show, those with the longest tails are of interest.
	shown := d.Pairs
	if len(shown) > maxPairRows {
		byTail := slices.Clone(d.Pairs)
		slices.SortStableFunc(byTail, func(a, b stats.PairDeltas) int { return cmp.Compare(b.D5MS, a.D5MS) })
		shown = byTail[:maxPairRows]
		s.FigureNote = fmt.Sprintf("The %d pairs with the largest D5 of %s.", maxPairRows, count(int64(len(d.Pairs))))
	}
	s.Figure = pairDots(shown)
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

// words explains the terms of the page.
func words() []htmlFact {
	return []htmlFact{
		{"p50, p99, p99.9", "Percentiles. p99 is the time that 99 of 100 requests did not exceed; p50 is the median. Between two measured values they are interpolated as numpy does."},
		{"Latency from due time", "From the moment the plan wanted a request sent to the last byte of the answer. A request that had to wait because the server was slow has waited for its user too; tools that count from the send leave that out."},
		{"Service time", "From the actual send to the last byte of the answer."},
		{"Schedule error", "How far from its due time the load generator sent a request although it was free to send it. It is the generator's own fault, so a large one makes the run invalid."},
		{"Open and closed loop", "In an open loop requests are due at fixed times whatever the server does, as with real clients. In a closed loop a fixed number of workers wait for an answer before the next request."},
		{"D2, D3, D4, D5", "p99, p99.9, p99.99 and p99.999 minus the median of the same pair: what the tail adds to a normal request."},
		{"Pair", "One source, such as an organisation or a cluster, and one destination."},
		{"Histogram", "Latencies are counted in buckets at most 0.1 % wide (HDR, high dynamic range), from a microsecond to 24 hours. Minimum, maximum and mean are exact."},
	}
}
