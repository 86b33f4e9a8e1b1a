package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

//go:embed page.html
var pageTemplate string

// RunHTML is [RunsHTML] of one run.
func RunHTML(w io.Writer, r *stats.Run) error {
	return RunsHTML(w, []stats.NamedRun{{Run: r}}, nil)
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
	Contents        []htmlLink
	Sections        []htmlSection
	Words           []htmlFact
	Tool            string

	// What a page with charts has besides: their data, the library's style sheet, the script that draws them and the
	// policy that lets no other one run.
	ChartData template.JS
	ChartCSS  template.CSS
	Script    template.JS
	Policy    string
}

type htmlAlert struct {
	Text    string
	Reasons []string
}

// htmlLink is an entry of the list of contents.
type htmlLink struct{ ID, Title string }

type htmlCard struct{ Label, Value, Unit, Note string }

type htmlFact struct{ Label, Text string }

type htmlSection struct {
	ID, Title, Plain string
	Charts           []htmlChart
	Figure           template.HTML
	FigureNote       string
	Facts            []htmlFact
	Items            []string
	Tables           []htmlTable
	Notes            []string
	Details          []htmlTable // long tables, folded
}

// htmlChart is the place of a chart: its number in the page's data, and what a screen reader says of it.
type htmlChart struct {
	Index             int
	Title, Desc, Note string
}

type htmlTable struct {
	Caption string
	Head    []htmlCell
	Rows    [][]htmlCell
}

// Wide says that the table may not fit on a narrow screen, so that it must be reachable with the keyboard to be scrolled.
func (t htmlTable) Wide() bool {
	const character, padding, narrow = 8, 12, 320
	width := 0
	for j := range t.Head {
		widest := longest(t.Head[j])
		for _, row := range t.Rows {
			if j < len(row) {
				widest = max(widest, longest(row[j]))
			}
		}
		width += character*widest + padding
	}
	return width > narrow
}

// longest counts the characters of a cell that must stand on one line.
func longest(c htmlCell) int {
	if !c.Text {
		return utf8.RuneCountInString(c.Value)
	}
	n := 0
	for word := range strings.FieldsSeq(c.Value) {
		n = max(n, utf8.RuneCountInString(word))
	}
	return n
}

type htmlCell struct {
	Value string
	Text  bool // left-aligned
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
	places := latencyPlaces(l.MaxMS) // as in the table
	for _, q := range percentiles() {
		if q.name != "p50" && q.name != "p99" && q.name != "p99.9" {
			continue
		}
		card := htmlCard{q.name, decimal(q.value(l), places), "ms", "latency"}
		if l.Count < q.enough {
			card.Value, card.Note = "~"+card.Value, "few samples"
		}
		out = append(out, card)
	}
	return append(out, htmlCard{"max", decimal(l.MaxMS, places), "ms", "latency"})
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
