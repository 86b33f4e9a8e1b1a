package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// drawing is an SVG picture in the making. Classes are those of the page's style
// sheet, which knows the colours of light and dark pages.
type drawing struct {
	b strings.Builder
}

// newDrawing begins a picture. Its id must be unique on the page; title and desc
// are what a screen reader says.
func newDrawing(id string, height int, title, desc string) *drawing {
	d := new(drawing)
	fmt.Fprintf(&d.b, `<svg viewBox="0 0 %d %d" role="img" aria-labelledby="%s-title %s-desc">`, figureWidth, height, id, id)
	fmt.Fprintf(&d.b, `<title id="%s-title">%s</title><desc id="%s-desc">%s</desc>`, id, html.EscapeString(title), id, html.EscapeString(desc))
	return d
}

// html ends the picture.
func (d *drawing) html() template.HTML {
	// Everything that came from outside went through EscapeString.
	return template.HTML(d.b.String() + "</svg>")
}

// px prints a coordinate. One that makes no sense, because a number in a file does
// not, lands outside of the picture.
func px(v float64) string {
	const far = 9999
	if math.IsNaN(v) {
		v = -far
	}
	v = min(max(v, -far), far)
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

func (d *drawing) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&d.b, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, px(x1), px(y1), px(x2), px(y2))
}

// text writes s; anchor is start, middle or end.
func (d *drawing) text(class, anchor string, x, y float64, s string) {
	fmt.Fprintf(&d.b, `<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`, class, anchor, px(x), px(y), html.EscapeString(s))
}

// rect draws a rectangle with a tooltip, if tip is not empty.
func (d *drawing) rect(class string, x, y, w, h float64, tip string) {
	fmt.Fprintf(&d.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"`, class, px(x), px(y), px(max(w, 0)), px(max(h, 0)))
	d.close("rect", tip)
}

func (d *drawing) close(element, tip string) {
	if tip == "" {
		d.b.WriteString("/>")
		return
	}
	fmt.Fprintf(&d.b, `><title>%s</title></%s>`, html.EscapeString(tip), element)
}

// point is a place on the picture.
type point struct{ x, y float64 }

// path draws a line through points; a single one becomes a dot.
func (d *drawing) path(class string, points []point) {
	switch len(points) {
	case 0:
		return
	case 1:
		fmt.Fprintf(&d.b, `<circle class="%s dot" cx="%s" cy="%s" r="1.5"/>`, class, px(points[0].x), px(points[0].y))
		return
	}
	fmt.Fprintf(&d.b, `<polyline class="%s" points="`, class)
	for i, p := range points {
		if i > 0 {
			d.b.WriteByte(' ')
		}
		d.b.WriteString(px(p.x) + "," + px(p.y))
	}
	d.b.WriteString(`"/>`)
}

// area fills the polygon of points.
func (d *drawing) area(class string, points []point) {
	fmt.Fprintf(&d.b, `<polygon class="%s" points="`, class)
	for i, p := range points {
		if i > 0 {
			d.b.WriteByte(' ')
		}
		d.b.WriteString(px(p.x) + "," + px(p.y))
	}
	d.b.WriteString(`"/>`)
}

// mark draws one of four shapes, so that colour is not the only difference.
func (d *drawing) mark(shape int, class string, x, y float64, tip string) {
	const r = 5
	switch shape {
	case 0:
		fmt.Fprintf(&d.b, `<circle class="%s" cx="%s" cy="%s" r="%d"`, class, px(x), px(y), r)
		d.close("circle", tip)
		return
	case 1:
		fmt.Fprintf(&d.b, `<rect class="%s" x="%s" y="%s" width="%d" height="%d"`, class, px(x-r+0.5), px(y-r+0.5), 2*r-1, 2*r-1)
		d.close("rect", tip)
		return
	}
	corners := []point{{x, y - r - 1}, {x + r + 1, y}, {x, y + r + 1}, {x - r - 1, y}}
	if shape == 3 {
		corners = []point{{x, y - r - 0.5}, {x + r + 0.5, y + r - 0.5}, {x - r - 0.5, y + r - 0.5}}
	}
	fmt.Fprintf(&d.b, `<polygon class="%s" points="`, class)
	for i, c := range corners {
		if i > 0 {
			d.b.WriteByte(' ')
		}
		d.b.WriteString(px(c.x) + "," + px(c.y))
	}
	d.b.WriteByte('"')
	d.close("polygon", tip)
}

// scale maps numbers to a stretch of the picture.
type scale struct {
	min, max float64
	log      bool
	from, to float64 // coordinates of min and max
}

// newScale returns a scale that holds all of low to high: logarithmic when they
// are far apart, so that neither end is squeezed to a line, else linear from 0.
func newScale(low, high, from, to float64) scale {
	if low > 0 && high/low > 20 {
		return scale{min: roundDown125(low), max: roundUp125(high), log: true, from: from, to: to}
	}
	if !(high > 0) {
		high = 1
	}
	step := niceStep(high / 5)
	return scale{min: 0, max: step * math.Ceil(high/step-1e-9), from: from, to: to}
}

// at returns the coordinate of v, which may lie beyond the scale.
func (s *scale) at(v float64) float64 {
	if s.log {
		return s.from + (s.to-s.from)*(math.Log10(v)-math.Log10(s.min))/(math.Log10(s.max)-math.Log10(s.min))
	}
	return s.from + (s.to-s.from)*(v-s.min)/(s.max-s.min)
}

// maxTicks is far above what a scale has; it bounds what numbers without sense in a
// file can cost.
const maxTicks = 50

// ticks returns round numbers all along the scale.
func (s *scale) ticks() []float64 {
	var ticks []float64
	if !s.log {
		step := niceStep((s.max - s.min) / 5)
		for i := range maxTicks {
			if v := s.min + float64(i)*step; v <= s.max*(1+1e-9) {
				ticks = append(ticks, v)
			}
		}
		return ticks
	}
	factors := []float64{1, 2, 5}
	if s.max/s.min > 1e3 {
		factors = []float64{1}
	}
	lowest := math.Floor(math.Log10(s.min))
	for i := range maxTicks {
		for _, f := range factors {
			if v := f * math.Pow(10, lowest+float64(i)); v >= s.min*(1-1e-9) && v <= s.max*(1+1e-9) {
				ticks = append(ticks, v)
			}
		}
	}
	return ticks
}

// niceStep returns 1, 2 or 5 times a power of ten, not below v.
func niceStep(v float64) float64 { return roundUp125(v) }

func roundUp125(v float64) float64 {
	base := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*base >= v*(1-1e-9) {
			return f * base
		}
	}
	return 10 * base
}

func roundDown125(v float64) float64 {
	base := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{5, 2} {
		if f*base <= v*(1+1e-9) {
			return f * base
		}
	}
	return base
}

// tick prints the number at a tick.
func tick(v float64) string {
	if v >= 1e7 && v < 1e12 {
		return tick(v/1e6) + nbsp + "M" // a longer number would not fit beside the axis
	}
	places := 3
	if a := math.Abs(v); a > 0 && a < 0.001 {
		places = min(int(math.Ceil(-math.Log10(a)-1e-9)), 9)
	}
	return withoutZeros(decimal(v, places))
}
