package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// Prices renders a list of prices of a book: [Table] or [Markdown].
func Prices(w io.Writer, f Format, book *cost.PriceBook, prices []cost.Price, warnings []string) error {
	g := grid{caption: "Prices in US dollars", head: []string{"id", "unit", "price $", "from", "as of", "confidence"}, text: []int{1, 4, 5}}
	for _, p := range prices {
		for i, t := range p.Tiers {
			row := []string{"", "", t.Price.Decimal().String(), separated(t.From.String()), "", string(t.Confidence)}
			if i == 0 {
				row[0], row[1], row[4] = clean(p.ID), clean(p.Unit), clean(p.AsOf)
			}
			if row[5] == "" {
				row[5] = string(p.Confidence)
			}
			g.rows = append(g.rows, row)
		}
	}
	k := block{title: "Prices in US dollars", plain: "A price holds from the quantity of a month in its row on, for the part of the quantity that lies above it."}
	k.tables = []grid{g}
	pg := &page{title: "AWS list prices", blocks: []block{{facts: []fact{
		{"Book", fmt.Sprintf("of %s, sha256 %s, %s", clean(book.AsOf()), book.SHA256()[:12], plural(int64(len(prices)), "price"))},
	}}, k}}
	if missing := book.Missing(); len(missing) > 0 {
		pg.blocks = append(pg.blocks, block{title: "Not in the book", items: cleanAll(missing)})
	}
	return writePrices(w, f, pg, warnings)
}

// Price renders all that a book knows of one price: [Table] or [Markdown].
func Price(w io.Writer, f Format, book *cost.PriceBook, p *cost.Price, warnings []string) error {
	facts := []fact{
		{"Service", clean(p.Service + " " + p.Dimension + " in " + p.Region)}, {"Unit", clean(p.Unit)}, {"As of", clean(p.AsOf)}, {"Confidence", string(p.Confidence)},
	}
	for _, x := range []fact{
		{"Usage type", p.UsageType}, {"Rounding", p.Rounding}, {"Minimum", p.Minimum}, {"Scope", p.Scope}, {"Free", p.Free}, {"Effective", p.Effective}, {"Note", p.Note},
	} {
		if x.text != "" {
			facts = append(facts, fact{x.label, clean(x.text)})
		}
	}
	for _, id := range p.Source {
		text := id
		if s, ok := book.Source(id); ok {
			text = id + ": " + s.What + ", " + s.Where
		}
		facts = append(facts, fact{"Source", clean(text)})
	}
	g := grid{caption: "Tiers", head: []string{"from", "to", "price $"}}
	for _, t := range p.Tiers {
		to := "without end"
		if t.To != nil {
			to = separated(t.To.String())
		}
		g.rows = append(g.rows, []string{separated(t.From.String()), to, t.Price.Decimal().String()})
	}
	return writePrices(w, f, &page{title: clean(p.ID), blocks: []block{{facts: facts}, {title: "Tiers, by the quantity of a month", tables: []grid{g}}}}, warnings)
}

// PriceChanges renders the differences of two books: [Table] or [Markdown].
func PriceChanges(w io.Writer, f Format, changes []cost.BookChange, notes []string) error {
	k := block{title: "Changes", plain: "No price differs.", notes: cleanAll(notes)}
	if len(changes) > 0 {
		k.plain = plural(int64(len(changes)), "price") + singular(len(changes), " differs", " differ") + ", tier by tier as price from quantity."
		g := grid{caption: "Changes of prices in US dollars", head: []string{"id", "before", "now", "change"}, text: []int{1, 2}}
		for _, c := range changes {
			change := ""
			switch {
			case c.Old == nil:
				change = "new"
			case c.New == nil:
				change = "gone"
			case c.UnitChanged:
				change = "unit"
			case c.TiersChanged:
				change = "tiers"
			case c.MaxChangeRatio != nil:
				change = percent(c.MaxChangeRatio.Float64())
			}
			g.rows = append(g.rows, []string{clean(c.ID), tiersText(c.Old), tiersText(c.New), change})
		}
		k.tables = []grid{g}
	}
	return writePrices(w, f, &page{title: "Differences of two price books", blocks: []block{k}}, nil)
}

func tiersText(p *cost.Price) string {
	if p == nil {
		return "–"
	}
	var parts []string
	for _, t := range p.Tiers {
		text := t.Price.Decimal().String()
		if t.From.Sign() > 0 {
			text += " from " + t.From.String()
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func writePrices(w io.Writer, f Format, p *page, warnings []string) error {
	if len(warnings) > 0 {
		p.blocks = append(p.blocks, block{title: "Warnings", items: cleanAll(warnings)})
	}
	return p.write(w, f)
}
