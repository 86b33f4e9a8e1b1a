package report

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// errNothing is returned when there is nothing to render.
var errNothing = errors.New("rendering a report: there is no result")

// Deltas renders the tail deltas D2 to D5: the table of the Shasta paper, then
// how many pairs support each level, the error bound, and the deltas over all
// latencies pooled. A nil value is an error, and so is a format other than [Table]
// and [Markdown].
func Deltas(w io.Writer, f Format, d *stats.Deltas) error {
	if d == nil {
		return errNothing
	}
	p := &page{title: "Tail deltas D2–D5", blocks: []block{{facts: deltasFacts(d)}}}
	k := deltasBlock(d)
	if len(d.Pairs) > 0 {
		k.tables = append(k.tables, supportGrid(d))
		k.notes = append(supportNotes(d), "“pooled” takes all latencies together, as if there were one pair.")
	}
	p.blocks = append(p.blocks, k)
	return p.write(w, f)
}

func deltasFacts(d *stats.Deltas) []fact {
	rows := fmt.Sprintf("%s used of %s", count(d.Used), plural(d.Rows, "row"))
	if d.Skipped > 0 {
		rows += fmt.Sprintf("; %s skipped, which held no latency", count(d.Skipped))
	}
	if d.Negative > 0 {
		rows += fmt.Sprintf("; %s below zero, which means that two clocks disagree", count(d.Negative))
	}
	return []fact{
		{"Latencies", rows},
		{"Pairs", plural(int64(len(d.Pairs)), "pair") + " of one source and one destination"},
		{"Method", methodText(d)},
	}
}

func methodText(d *stats.Deltas) string {
	switch d.Method {
	case stats.DeltaExact:
		return "exact: every latency was kept, so the deltas have no rounding error"
	case stats.DeltaHDR:
		return "hdr: a histogram for each pair, so the deltas have the small error given below"
	default:
		return clean(string(d.Method))
	}
}

// level is one of D2 to D5 with how the results name and support it.
type level struct {
	name, percentile string
	enough           int64 // latencies a pair needs for the percentile to lie below its maximum
	summary          *stats.DeltaSummary
	pooledMS         float64
	pooledSupported  bool
	pooledBoundMS    float64
}

func levels(d *stats.Deltas) []level {
	s, p := &d.Summary, &d.Pooled
	return []level{
		{"D2", "p99", 101, &s.D2, p.D2MS, p.Supported.D2, p.BoundMS.D2},
		{"D3", "p99.9", 1_001, &s.D3, p.D3MS, p.Supported.D3, p.BoundMS.D3},
		{"D4", "p99.99", 10_001, &s.D4, p.D4MS, p.Supported.D4, p.BoundMS.D4},
		{"D5", "p99.999", 100_001, &s.D5, p.D5MS, p.Supported.D5, p.BoundMS.D5},
	}
}

func (l *level) starred(d *stats.Deltas) string {
	if l.summary.SupportedPairs < len(d.Pairs) {
		return l.name + "*"
	}
	return l.name
}

// supportNeeds says how many latencies of a pair each level needs.
func supportNeeds() string {
	var needs []string
	for _, l := range levels(new(stats.Deltas)) {
		needs = append(needs, l.name+" needs n ≥ "+count(l.enough))
	}
	return strings.Join(needs, ", ")
}

// deltasBlock is the table alone.
func deltasBlock(d *stats.Deltas) block {
	k := block{title: "D2–D5 in milliseconds"}
	if d == nil || len(d.Pairs) == 0 {
		k.plain = "There is no latency, hence nothing to compute D2–D5 from."
		return k
	}
	k.plain = "How far the slow end of a pair (a source and a destination) lies above its median: D2 at p99, D3 at p99.9, " +
		"D4 at p99.99, D5 at p99.999. The columns describe that over all pairs."
	g := grid{caption: "D2–D5 over the pairs, in milliseconds", head: []string{"Metric", "Median", "Mean", "StdDev", "Max", "Min"}}
	for _, l := range levels(d) {
		s := l.summary
		g.rows = append(g.rows, []string{l.starred(d), decimal(s.MedianMS, 2), decimal(s.MeanMS, 2), decimal(s.StdMS, 2), decimal(s.MaxMS, 2), decimal(s.MinMS, 2)})
	}
	k.tables = []grid{g}
	return k
}

// runDeltasBlock is the table with the rest in a few lines.
func runDeltasBlock(d *stats.Deltas) block {
	k := deltasBlock(d)
	if len(k.tables) == 0 {
		return k
	}
	var pooled []string
	for _, l := range levels(d) {
		star := ""
		if !l.pooledSupported {
			star = "*"
		}
		pooled = append(pooled, fmt.Sprintf("%s%s %s", l.name, star, decimal(l.pooledMS, 2)))
	}
	k.notes = append(supportNotes(d), fmt.Sprintf("All %s pooled: %s ms. %s", plural(d.Pooled.Count, "request"), strings.Join(pooled, ", "), boundText(d, worstBound(d))))
	return k
}

func worstBound(d *stats.Deltas) float64 {
	s := &d.Summary
	return max(s.D2.BoundMS, s.D3.BoundMS, s.D4.BoundMS, s.D5.BoundMS)
}

func boundText(d *stats.Deltas, worst float64) string {
	if d.Method == stats.DeltaExact {
		return "The numbers are exact."
	}
	return fmt.Sprintf("Error: ±%s ms at most, by the histogram.", bound(worst))
}

// bound prints an error bound, rounded up because a bound must hold.
func bound(ms float64) string {
	// What is a whole number of thousandths but for float noise stays so.
	return decimal(math.Ceil(ms*1000-1e-6)/1000, 3)
}

// supportGrid tells for each level what it rests on.
func supportGrid(d *stats.Deltas) grid {
	g := grid{
		caption: "What each level rests on",
		head:    []string{"Level", "from p50 to", "needs a pair", "pairs that have it", "pooled ms"},
		text:    []int{1},
	}
	exact := d.Method == stats.DeltaExact
	if !exact {
		g.head = append(g.head, "error ± ms", "pooled ± ms")
	}
	for _, l := range levels(d) {
		pooled := decimal(l.pooledMS, 2)
		if !l.pooledSupported {
			pooled = "*" + pooled
		}
		row := []string{
			l.starred(d), l.percentile, count(l.enough),
			fmt.Sprintf("%s of %s", count(int64(l.summary.SupportedPairs)), count(int64(len(d.Pairs)))), pooled,
		}
		if !exact {
			row = append(row, bound(l.summary.BoundMS), bound(l.pooledBoundMS))
		}
		g.rows = append(g.rows, row)
	}
	return g
}

// supportNotes explains the stars, and says when the error bound is not small.
func supportNotes(d *stats.Deltas) []string {
	var notes, lacking, coarse []string
	for _, l := range levels(d) {
		if n := l.summary.SupportedPairs; n < len(d.Pairs) {
			lacking = append(lacking, fmt.Sprintf("%s needs n ≥ %s (%s of %s)", l.name, count(l.enough), count(int64(n)), plural(int64(len(d.Pairs)), "pair")))
		}
		if b := l.summary.BoundMS; b > 0 && b > l.summary.MedianMS/100 {
			coarse = append(coarse, l.name)
		}
	}
	if len(lacking) > 0 {
		smallest := d.Pairs[0].Count
		for i := range d.Pairs {
			smallest = min(smallest, d.Pairs[i].Count)
		}
		notes = append(notes, fmt.Sprintf("* interpolates the maximum of pairs with too few samples: %s; smallest pair n = %s.", strings.Join(lacking, ", "), count(smallest)))
	}
	if len(coarse) > 0 {
		notes = append(notes, fmt.Sprintf("The error of the histogram exceeds 1 %% of the median of %s.", joinAnd(coarse)))
	}
	return notes
}
