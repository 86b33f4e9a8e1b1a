package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// page is a report before it has a format. All strings in it are plain text that
// went through clean if it came from outside; escaping is up to the format.
type page struct {
	title string
	// alerts come first: what changes how all the rest must be read.
	alerts []alert
	blocks []block
}

// alert is a warning with its reasons.
type alert struct {
	text    string
	reasons []string
}

// block is one titled part of a page, shown in the order of its fields.
type block struct {
	title string
	// subject is a name from outside that ends the title. It keeps its case.
	subject string
	plain   string // what the block says, in plain words
	facts   []fact
	tables  []grid
	items   []string // a list, with bullets
	notes   []string
}

type fact struct{ label, text string }

// grid is a table. Its first column is text and the others are numbers, unless
// text says otherwise.
type grid struct {
	caption string // for formats that have captions
	head    []string
	rows    [][]string
	text    []int // columns besides the first that are left-aligned
	elastic int   // column that the table format cuts to the width of a line; 0 for none
	// captioned puts the caption above the table in formats that have none too.
	captioned bool
	under     int // column that the table format sets under the first, to save width; 0 for none
}

func (g *grid) isText(column int) bool {
	return column == 0 || slices.Contains(g.text, column)
}

// lineWidth is the width of a terminal that is safe to assume.
const lineWidth = 100

// write renders p and writes it in one piece.
func (p *page) write(w io.Writer, f Format) error {
	var b bytes.Buffer
	var err error
	switch f {
	case Table:
		err = p.text(&b)
	case Markdown:
		err = p.markdown(&b)
	default:
		return fmt.Errorf("rendering a report: format %q is unknown, use %s or %s", f, Table, Markdown)
	}
	if err != nil {
		return fmt.Errorf("rendering a report as %s: %w", f, err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing a report: %w", err)
	}
	return nil
}

func (p *page) text(b *bytes.Buffer) error {
	paragraph(b, "", p.title)
	for _, a := range p.alerts {
		b.WriteByte('\n')
		paragraph(b, "", a.text)
		for _, r := range a.reasons {
			paragraph(b, "  - ", r)
		}
	}
	for i := range p.blocks {
		k := &p.blocks[i]
		b.WriteByte('\n')
		if k.title != "" {
			// Capitals set a heading apart without costing a line.
			paragraph(b, "", strings.ToUpper(k.title)+" "+k.subject)
		}
		paragraph(b, "", k.plain)
		width := 0
		for _, f := range k.facts {
			width = max(width, utf8.RuneCountInString(f.label))
		}
		for _, f := range k.facts {
			paragraph(b, f.label+strings.Repeat(" ", width-utf8.RuneCountInString(f.label)+2), f.text)
		}
		for j := range k.tables {
			if j > 0 {
				b.WriteByte('\n')
			}
			if k.tables[j].captioned {
				paragraph(b, "", k.tables[j].caption)
			}
			if err := k.tables[j].plainText(b); err != nil {
				return err
			}
		}
		for _, n := range k.items {
			paragraph(b, "- ", n)
		}
		for _, n := range k.notes {
			paragraph(b, "", n)
		}
	}
	return nil
}

// paragraph writes text wrapped, the first line behind lead and the others
// indented by as much.
func paragraph(b *bytes.Buffer, lead, text string) {
	indent := strings.Repeat(" ", utf8.RuneCountInString(lead))
	for _, line := range wrap(text, lineWidth-len(indent)) {
		b.WriteString(lead)
		b.WriteString(strings.ReplaceAll(line, nbsp, " "))
		b.WriteByte('\n')
		lead = indent
	}
}

// plainText writes the table without borders.
func (g *grid) plainText(b *bytes.Buffer) error {
	out, err := g.lines()
	if g.under > 0 && slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool { return utf8.RuneCountInString(line) > lineWidth+2 }) {
		out, err = g.folded().lines()
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(strings.ReplaceAll(out, nbsp, " ")) {
		// A column has one space on either side; those at the edges are of no use.
		_, n := utf8.DecodeRuneInString(line)
		b.WriteString(strings.TrimRight(line[n:], " \n"))
		b.WriteByte('\n')
	}
	return nil
}

// lines lays the table out, with a space at either edge.
func (g *grid) lines() (string, error) {
	rows := g.rows
	if g.elastic > 0 {
		rows = g.fitted(lineWidth)
	}
	var out bytes.Buffer
	err := render(&out, g, g.head, rows, renderer.NewBlueprint(tw.Rendition{
		Borders: tw.BorderNone,
		Symbols: tw.NewSymbols(tw.StyleLight),
		Settings: tw.Settings{
			Lines:      tw.Lines{ShowTop: tw.Off, ShowBottom: tw.Off, ShowHeaderLine: tw.On, ShowFooterLine: tw.Off},
			Separators: tw.Separators{ShowHeader: tw.On, ShowFooter: tw.Off, BetweenRows: tw.Off, BetweenColumns: tw.Off},
		},
	}))
	return out.String(), err
}

// folded moves the column under into the first one: behind its name in the head,
// below its cell in the rows.
func (g *grid) folded() *grid {
	drop := func(row []string) []string { return slices.Delete(slices.Clone(row), g.under, g.under+1) }
	f := &grid{caption: g.caption, head: drop(g.head), elastic: g.elastic}
	f.head[0] += ", " + g.head[g.under]
	for _, column := range g.text {
		switch {
		case column < g.under:
			f.text = append(f.text, column)
		case column > g.under:
			f.text = append(f.text, column-1)
		}
	}
	pending := ""
	flush := func(row []string) {
		if pending == "" {
			return
		}
		if row != nil && row[0] == "" {
			row[0] = pending
		} else {
			f.rows = append(f.rows, append([]string{pending}, make([]string, len(f.head)-1)...))
		}
		pending = ""
	}
	for _, row := range g.rows {
		short := drop(row)
		flush(short)
		f.rows = append(f.rows, short)
		if below := row[g.under]; below != "" && below != "–" {
			pending = "  " + below
		}
	}
	flush(nil)
	return f
}

// fitted returns the rows with the elastic column cut so that a line is no longer
// than width, within reason.
func (g *grid) fitted(width int) [][]string {
	const least = 20
	rest := 0
	for j := range g.head {
		if j == g.elastic {
			continue
		}
		widest := utf8.RuneCountInString(g.head[j])
		for _, row := range g.rows {
			widest = max(widest, utf8.RuneCountInString(row[j]))
		}
		rest += widest + 2
	}
	rows := make([][]string, len(g.rows))
	for i, row := range g.rows {
		rows[i] = slices.Clone(row)
		rows[i][g.elastic] = cut(row[g.elastic], max(width-rest, least))
	}
	return rows
}

// render lays the cells out with r. All columns have one space on either side: the
// library cuts cells when columns differ in that.
func render(w io.Writer, g *grid, head []string, rows [][]string, r tw.Renderer) error {
	align := make(tw.Alignment, len(head))
	for i := range align {
		align[i] = tw.AlignRight
		if g.isText(i) {
			align[i] = tw.AlignLeft
		}
	}
	cells := tw.CellConfig{
		Formatting: tw.CellFormatting{AutoWrap: tw.WrapNone, AutoFormat: tw.Off},
		Alignment:  tw.CellAlignment{Global: tw.AlignRight, PerColumn: align},
	}
	t := tablewriter.NewTable(w,
		// By default the width of dashes and ellipses follows the locale.
		tablewriter.WithEastAsian(tw.Off),
		tablewriter.WithRenderer(r),
		tablewriter.WithConfig(tablewriter.Config{Header: cells, Row: cells, Behavior: tw.Behavior{TrimSpace: tw.Off, AutoHide: tw.Off}}),
		tablewriter.WithHeaderAutoFormat(tw.Off),
	)
	t.Header(head)
	if err := t.Bulk(rows); err != nil {
		return err
	}
	return t.Render()
}

func (p *page) markdown(b *bytes.Buffer) error {
	fmt.Fprintf(b, "# %s\n", markdownText(p.title))
	for _, a := range p.alerts {
		fmt.Fprintf(b, "\n> **%s**\n", markdownText(a.text))
		for _, r := range a.reasons {
			fmt.Fprintf(b, "> - %s\n", markdownText(r))
		}
	}
	for i := range p.blocks {
		k := &p.blocks[i]
		if k.title != "" {
			fmt.Fprintf(b, "\n## %s\n", markdownText(strings.TrimSpace(k.title+" "+k.subject)))
		}
		if k.plain != "" {
			fmt.Fprintf(b, "\n%s\n", markdownText(k.plain))
		}
		if len(k.facts) > 0 {
			b.WriteByte('\n')
		}
		for _, f := range k.facts {
			fmt.Fprintf(b, "- **%s:** %s\n", markdownText(f.label), markdownText(f.text))
		}
		for j := range k.tables {
			b.WriteByte('\n')
			if k.tables[j].captioned {
				fmt.Fprintf(b, "%s\n\n", markdownText(k.tables[j].caption))
			}
			if err := k.tables[j].markdown(b); err != nil {
				return err
			}
		}
		bullets := slices.Concat(k.items, k.notes)
		if len(bullets) > 0 {
			b.WriteByte('\n')
		}
		for _, n := range bullets {
			fmt.Fprintf(b, "- %s\n", markdownText(n))
		}
	}
	return nil
}

func (g *grid) markdown(b *bytes.Buffer) error {
	head := make([]string, len(g.head))
	for i, cell := range g.head {
		head[i] = markdownText(cell)
	}
	rows := make([][]string, len(g.rows))
	for i, row := range g.rows {
		rows[i] = make([]string, len(row))
		for j, cell := range row {
			rows[i][j] = markdownText(cell)
		}
	}
	return render(b, g, head, rows, renderer.NewMarkdown())
}

// markdownText escapes all that Markdown or the HTML in it could read as markup.
func markdownText(s string) string {
	return strings.NewReplacer(
		nbsp, " ", `&`, "&amp;", `<`, "&lt;", `>`, "&gt;",
		nbsp, " ",
		`\`, `\\`, "`", "\\`", `*`, `\*`, `_`, `\_`, `[`, `\[`, `]`, `\]`, `|`, `\|`, `~`, `\~`, `#`, `\#`, `$`, `\$`,
	).Replace(s)
}
