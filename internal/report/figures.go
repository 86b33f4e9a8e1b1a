package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

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

// curve is a line of the percentile spectrum.
type curve struct {
	name  string
	color string // class of its colour
	broad bool
	h     *stats.Histogram
}

func (c *curve) class() string {
	if c.broad {
		return "curve under " + c.color
	}
	return "curve " + c.color
}

// spectrum draws latency over the share of requests that were faster, with the
// tail spread out: every step to the right is ten times rarer.
func spectrum(curves []curve) template.HTML {
	const top, bottom, height = legendHeight + 26, 372, 420
	low, high := math.Inf(1), 0.0
	var most int64
	desc := []string{"Latency in milliseconds by percentile."}
	for _, c := range curves {
		low, high = min(low, c.h.Quantiles(0)[0]), max(high, c.h.Quantiles(1)[0])
		most = max(most, c.h.Count())
		q := c.h.Quantiles(0.5, 0.9, 0.99, 0.999, 1)
		desc = append(desc, fmt.Sprintf("%s: p50 %s, p90 %s, p99 %s, p99.9 %s, max %s.", c.name, figure(q[0]), figure(q[1]), figure(q[2]), figure(q[3]), figure(q[4])))
	}
	d := newDrawing("spectrum", height, "Percentile spectrum", strings.Join(desc, " "))
	y := newScale(low, high, bottom, top)
	title := "ms"
	if y.log {
		title = "ms, log scale"
	}
	yAxis(d, &y, title)

	// u = log10(1/(1−q)): 1 is p90, 2 is p99. The maximum, at q = 1, would be
	// infinitely far away and gets a place of its own behind the rest.
	end := math.Log10(float64(max(most, 2)))
	x := scale{min: 0, max: end + 0.45, from: marginLeft, to: plotRight}
	d.line("grid", x.at(math.Log10(2)), top, x.at(math.Log10(2)), bottom)
	d.text("tick", "middle", x.at(math.Log10(2)), bottom+20, "50 %")
	for u := 1.0; u <= end+1e-9; u++ {
		d.line("grid", x.at(u), top, x.at(u), bottom)
		d.text("tick", "middle", x.at(u), bottom+20, percentileName(int(u))+" %")
	}
	d.line("grid", plotRight, top, plotRight, bottom)
	d.text("tick", "end", plotRight, bottom+20, "max")
	d.text("axis", "middle", (marginLeft+plotRight)/2, bottom+42, "percentile: the share of requests that took no longer")
	d.line("frame", marginLeft, bottom, plotRight, bottom)

	var names []string
	for _, c := range curves {
		names = append(names, c.name)
		drawCurve(d, c, &x, &y)
	}
	legend(d, 16, names, func(i int, lx, ly float64) { d.line(curves[i].class(), lx, ly, lx+24, ly) })
	d.text("note", "end", plotRight, 20, "dashed: fewer than 10 slower requests")
	return d.html()
}

func drawCurve(d *drawing, c curve, x, y *scale) {
	const perDecade = 24
	n := float64(c.h.Count())
	end := math.Log10(n)
	sure := math.Log10(n / 10) // beyond, fewer than ten requests are slower
	var us, qs []float64
	for i := 0; float64(i)/perDecade < end; i++ {
		us = append(us, float64(i)/perDecade)
	}
	us = append(us, end)
	if sure > 0 {
		us = append(us, sure)
	}
	slices.Sort(us)
	us = slices.Compact(us)
	for _, u := range us {
		qs = append(qs, 1-math.Pow(10, -u))
	}
	values := c.h.Quantiles(append(qs, 1)...)
	var solid, dashed []point
	for i, u := range us {
		p := point{x.at(u), y.at(values[i])}
		if u <= sure {
			solid = append(solid, p)
		}
		if u >= sure {
			dashed = append(dashed, p)
		}
	}
	maximum := values[len(values)-1]
	dashed = append(dashed, point{plotRight, y.at(maximum)})
	d.path(c.class(), solid)
	d.path(c.class()+" dashed", dashed)
	d.mark(0, "fill-"+c.color, plotRight, y.at(maximum), fmt.Sprintf("%s: max %s ms", c.name, figure(maximum)))
}

// percentileName prints 1 − 10^−u in percent: 90, 99, 99.9 and so on.
func percentileName(u int) string {
	switch u {
	case 1:
		return "90"
	case 2:
		return "99"
	default:
		return "99." + strings.Repeat("9", u-2)
	}
}

// maxColumns is how many points the timeline has at most; a longer run has several
// seconds to a point.
const maxColumns = 480

// column is one point of the timeline: the seconds from to to. Rates are means
// over them, latencies those of the worst second.
type column struct {
	from, to              int64
	sent, ok, failed      float64 // per second
	inFlight              int64
	p50MS, p99MS, worstMS float64
	answered              bool // there is a latency
}

// columns groups the timeline, from the first second in which something happened.
func columns(points []stats.TimelinePoint) (cols []column, secondsEach int) {
	first := slices.IndexFunc(points, func(p stats.TimelinePoint) bool { return p.Sent+p.OK+p.Failed > 0 })
	if first < 0 {
		return nil, 1
	}
	points = points[first:]
	each := (len(points) + maxColumns - 1) / maxColumns
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
	return cols, each
}

// timeline draws latency and rate over time, one above the other.
func timeline(cols []column, plannedPerS float64) template.HTML {
	const latencyTop, latencyBottom, rateHeight = legendHeight + 26, 250, 120
	low, high, rate := math.Inf(1), 0.0, plannedPerS
	var ok, failed float64
	for _, c := range cols {
		if c.answered {
			low, high = min(low, c.p50MS), max(high, c.worstMS)
		}
		rate = max(rate, c.ok+c.failed)
		ok, failed = ok+c.ok*float64(c.to-c.from), failed+c.failed*float64(c.to-c.from)
	}
	// Without a success there is no latency, and the rate has the picture to itself.
	answered := !math.IsInf(low, 1)
	rateLegend := 16.0
	if answered {
		rateLegend = latencyBottom + 32
	}
	rateTop := rateLegend + 38
	rateBottom := rateTop + rateHeight
	begin, end := cols[0].from, cols[len(cols)-1].to
	desc := fmt.Sprintf("From second %s to %s of the run, %s requests succeeded and %s did not.", count(begin), count(end), decimal(ok, 0), decimal(failed, 0))
	if answered {
		desc += fmt.Sprintf(" In the worst second the slowest request took %s ms.", figure(high))
	}
	d := newDrawing("timeline", int(rateBottom)+46, "Second by second", desc)
	x := scale{min: float64(begin), max: float64(end), from: marginLeft, to: plotRight}
	if answered {
		drawLatencies(d, cols, &x, low, high, latencyTop, latencyBottom)
	}
	r := newScale(0, rate, rateBottom, rateTop)
	yAxis(d, &r, "answers per second")

	for _, c := range cols {
		left, width := x.at(float64(c.from)), x.at(float64(c.to))-x.at(float64(c.from))
		// A hairline between bars as long as they are wide enough to show one.
		gap := 0.0
		if width > 4 {
			gap = 1
		}
		if c.ok > 0 {
			d.rect("bar-ok", left, r.at(c.ok), width-gap, rateBottom-r.at(c.ok), "")
		}
		if c.failed > 0 {
			d.rect("bar-failed", left, r.at(c.ok+c.failed), width-gap, r.at(c.ok)-r.at(c.ok+c.failed), "")
		}
	}
	if plannedPerS > 0 {
		d.line("planned", marginLeft, r.at(plannedPerS), plotRight, r.at(plannedPerS))
	}
	d.line("frame", marginLeft, rateBottom, plotRight, rateBottom)
	for _, v := range secondsTicks(begin, end) {
		d.text("tick", "middle", x.at(v), rateBottom+20, tick(v))
	}
	d.text("axis", "middle", (marginLeft+plotRight)/2, rateBottom+40, "seconds since the start")
	for _, c := range cols {
		left, width := x.at(float64(c.from)), x.at(float64(c.to))-x.at(float64(c.from))
		tip := fmt.Sprintf("second %s: %s ok/s, %s failed/s", count(c.from), figure(c.ok), figure(c.failed))
		if c.answered {
			tip += fmt.Sprintf("; p50 %s ms, p99 %s ms, max %s ms", figure(c.p50MS), figure(c.p99MS), figure(c.worstMS))
		}
		d.rect("hit", left, legendHeight, width, rateBottom-legendHeight, tip)
	}
	names := []string{"ok", "failed or timed out"}
	if plannedPerS > 0 {
		names = append(names, "planned rate")
	}
	legend(d, rateLegend, names, func(i int, lx, ly float64) {
		switch i {
		case 0:
			d.rect("bar-ok", lx+6, ly-6, 12, 12, "")
		case 1:
			d.rect("bar-failed", lx+6, ly-6, 12, 12, "")
		default:
			d.line("planned", lx, ly, lx+24, ly)
		}
	})
	return d.html()
}

// drawLatencies draws the upper half of the timeline.
func drawLatencies(d *drawing, cols []column, x *scale, low, high, top, bottom float64) {
	y := newScale(low, high, bottom, top)
	title := "latency, ms"
	if y.log {
		title += ", log scale"
	}
	yAxis(d, &y, title)
	series := []struct {
		name, class string
		value       func(*column) float64
	}{
		{"p50", "curve s3", func(c *column) float64 { return c.p50MS }},
		{"p99", "curve s1", func(c *column) float64 { return c.p99MS }},
		{"max", "curve s2", func(c *column) float64 { return c.worstMS }},
	}
	var names []string
	for _, s := range series {
		names = append(names, s.name)
		var part []point
		for i := range cols {
			c := &cols[i]
			if !c.answered {
				d.path(s.class, part)
				part = nil
				continue
			}
			part = append(part, point{x.at(float64(c.from+c.to) / 2), y.at(s.value(c))})
		}
		d.path(s.class, part)
	}
	d.line("frame", marginLeft, bottom, plotRight, bottom)
	legend(d, 16, names, func(i int, lx, ly float64) { d.line(series[i].class, lx, ly, lx+24, ly) })
}

// secondsTicks returns whole seconds along a stretch of time.
func secondsTicks(begin, end int64) []float64 {
	step := max(niceStep(float64(end-begin)/10), 1)
	first := math.Ceil(float64(begin) / step)
	var ticks []float64
	for i := range maxTicks {
		if v := (first + float64(i)) * step; v <= float64(end) {
			ticks = append(ticks, v)
		}
	}
	return ticks
}

// maxPairRows is how many pairs the figure has room for.
const maxPairRows = 30

// pairDots draws D2 to D5 of each pair as marks on one line.
func pairDots(pairs []stats.PairDeltas) template.HTML {
	const rowHeight, left = 24, 250
	top := float64(legendHeight + 10)
	bottom := top + rowHeight*float64(len(pairs))
	low, high := math.Inf(1), 0.0
	for i := range pairs {
		p := &pairs[i]
		low = min(low, p.D2MS, p.D3MS, p.D4MS, p.D5MS)
		high = max(high, p.D2MS, p.D3MS, p.D4MS, p.D5MS)
	}
	d := newDrawing("pairs", int(bottom)+52, "D2 to D5 of each pair",
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
