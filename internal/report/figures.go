package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// The measures of every figure, in the units of its view box.
const (
	figureWidth  = 960
	marginLeft   = 70
	marginRight  = 24
	plotRight    = figureWidth - marginRight
	legendHeight = 34
)

// legend draws samples of lines or marks with their names, from left to right.
func legend(d *drawing, y float64, names []string, sample func(i int, x, y float64)) {
	x := float64(marginLeft)
	for i, name := range names {
		sample(i, x, y)
		d.text("label", "start", x+32, y+4, name)
		x += 32 + 7.2*float64(len([]rune(name))) + 26
	}
}

// yAxis draws horizontal lines at the ticks and the numbers beside them.
func yAxis(d *drawing, s *scale, title string) {
	for _, v := range s.ticks() {
		y := s.at(v)
		d.line("grid", marginLeft, y, plotRight, y)
		d.text("tick", "end", marginLeft-8, y+4, tick(v))
	}
	d.text("axis", "start", 4, s.to-12, title)
}

// maxPairRows is how many pairs the figure has room for.
const maxPairRows = 30

// pairDots draws D2 to D5 of each pair as marks on one line. id must be unique on the page.
func pairDots(id string, pairs []stats.PairDeltas) template.HTML {
	const rowHeight, left = 24, 250
	top := float64(legendHeight + 10)
	bottom := top + rowHeight*float64(len(pairs))
	low, high := math.Inf(1), 0.0
	for i := range pairs {
		p := &pairs[i]
		low = min(low, p.D2MS, p.D3MS, p.D4MS, p.D5MS)
		high = max(high, p.D2MS, p.D3MS, p.D4MS, p.D5MS)
	}
	d := newDrawing(id, int(bottom)+52, "D2 to D5 of each pair",
		fmt.Sprintf("One row for each of %s, with four marks for D2, D3, D4 and D5 between %s and %s ms. The numbers are in the table below.", plural(int64(len(pairs)), "pair"), figure(low), figure(high)))
	x := newScale(low, high, left, plotRight)
	if low < 0 {
		x = scale{min: low, max: max(high, low+1), from: left, to: plotRight}
	}
	for _, v := range x.ticks() {
		d.line("grid", x.at(v), top, x.at(v), bottom)
		d.text("tick", "middle", x.at(v), bottom+20, tick(v))
	}
	title := "milliseconds above the median of the pair"
	if x.log {
		title += ", log scale"
	}
	d.text("axis", "middle", (left+plotRight)/2, bottom+40, title)
	d.line("frame", left, bottom, plotRight, bottom)
	for i := range pairs {
		p := &pairs[i]
		y := top + rowHeight*(float64(i)+0.5)
		name := pairName(p.Source, p.Destination)
		d.text("label", "end", left-12, y+4, cut(name, 32))
		values := [...]float64{p.D2MS, p.D3MS, p.D4MS, p.D5MS}
		supported := [...]bool{p.Supported.D2, p.Supported.D3, p.Supported.D4, p.Supported.D5}
		d.line("grid", x.at(slices.Min(values[:])), y, x.at(slices.Max(values[:])), y)
		// From D5 to D2, so that what is certain lies on top.
		for l := 3; l >= 0; l-- {
			class, tip := fmt.Sprintf("mark d%d", l+2), fmt.Sprintf("%s: D%d %s ms of %s", name, l+2, figure(values[l]), plural(p.Count, "request"))
			if !supported[l] {
				class += " hollow"
				tip += ", interpolates the maximum"
			}
			d.mark(l, class, x.at(values[l]), y, tip)
		}
	}
	legend(d, 16, []string{"D2 (p99)", "D3 (p99.9)", "D4 (p99.99)", "D5 (p99.999)"}, func(i int, lx, ly float64) { d.mark(i, fmt.Sprintf("mark d%d", i+2), lx+12, ly, "") })
	d.text("note", "end", plotRight, 20, "hollow: too few samples")
	return d.html()
}

func pairName(source, destination string) string {
	name := func(s string) string {
		if s == "" {
			return "(no name)"
		}
		return clean(s)
	}
	return name(source) + " → " + name(destination)
}
