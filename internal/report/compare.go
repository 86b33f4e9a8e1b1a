package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// Compare renders runs side by side. A nil comparison is an error, and so is a format other than [Table] and [Markdown].
func Compare(w io.Writer, f Format, c *stats.Comparison) error {
	if c == nil {
		return errNothing
	}
	p := &page{title: "Comparison of " + plural(int64(len(c.Runs)), "run")}
	if len(c.Unlike) > 0 {
		a := alert{text: "UNLIKE: these runs did not do the same. Their difference may come from that."}
		for _, u := range c.Unlike {
			a.reasons = append(a.reasons, clean(u))
		}
		p.alerts = append(p.alerts, a)
	}
	var facts []fact
	for i, r := range c.Runs {
		text := fmt.Sprintf("%s: %s, %s of %s ok", clean(r.Name), clean(r.Target.URL), count(r.Counts.OK), plural(r.Counts.Sent, "request"))
		if !r.StartedAt.IsZero() {
			text += ", " + r.StartedAt.UTC().Format("2006-01-02 15:04:05 UTC")
		}
		facts = append(facts, fact{runLetter(i), text})
		switch {
		case r.Verdict == "invalid" && r.Counts.OK == 0:
			p.alerts = append(p.alerts, alert{text: fmt.Sprintf("INVALID: in run %s no request succeeded: nothing was measured.", runLetter(i))})
		case r.Verdict == "invalid":
			p.alerts = append(p.alerts, alert{text: fmt.Sprintf("INVALID: in run %s the load generator was the limit; do not trust its numbers.", runLetter(i))})
		}
	}
	p.blocks = append(p.blocks, block{facts: facts})
	for i := 1; i < len(c.Runs); i++ {
		p.blocks = append(p.blocks, compareBlock(c, i))
	}
	return p.write(w, f)
}

// runLetter names a run in a table.
func runLetter(i int) string {
	if i < 26 {
		return string(rune('A' + i))
	}
	return fmt.Sprintf("R%d", i+1)
}

func compareBlock(c *stats.Comparison, i int) block {
	a, b := runLetter(0), runLetter(i)
	k := block{
		title: fmt.Sprintf("%s against %s", b, a),
		plain: fmt.Sprintf("With %s intervals. They know the chance within a run; what the machines did differently is not in them.", percent(c.ConfidenceRatio)),
	}
	g := grid{caption: k.title, head: []string{"", a, "interval", b, "interval", "change", "interval"}}
	starred, endless := false, false
	for _, m := range c.Metrics {
		va, vb := m.Values[0], m.Values[i]
		row := []string{m.Name, compareCell(m.Name, va), compareInterval(m.Name, va), compareCell(m.Name, vb), compareInterval(m.Name, vb), "–", "–"}
		starred = starred || !va.Supported || !vb.Supported
		endless = endless || strings.HasSuffix(row[2], "?") || strings.HasSuffix(row[4], "?")
		if ch := vb.Change; ch != nil {
			row[5] = changeText(ch.Ratio)
			if ch.LowerRatio.Known() {
				upper := "?"
				if ch.UpperRatio.Known() {
					upper = changeText(ch.UpperRatio)
				}
				row[6] = changeText(ch.LowerRatio) + " to " + upper
			}
			if ch.Clear {
				row[5] += " !"
			}
		}
		g.rows = append(g.rows, row)
	}
	k.tables = []grid{g}
	k.notes = append(k.notes, "! the interval of the change leaves out 0.")
	if starred {
		k.notes = append(k.notes, "* too few requests: interpolates the maximum. The true value is more likely above than below, and its interval may begin above the number.")
	}
	if endless {
		k.notes = append(k.notes, "? no upper limit: too few requests lie above.")
	}
	k.notes = append(k.notes, "d2_ms to d5_ms are of all requests pooled; d2_pairs_median_ms to d5_pairs_median_ms are medians over the pairs of a source and a destination, with limits over the pairs.")
	return k
}

func compareCell(name string, v stats.CompareValue) string {
	if v.USD != "" {
		return "$" + v.USD
	}
	s := compareNumber(name, v.Value)
	if !v.Supported && v.Value.Known() {
		s = "*" + s
	}
	return s
}

func compareNumber(name string, n stats.GateNumber) string {
	switch {
	case !n.Known():
		return "–"
	case strings.HasSuffix(name, "_ratio"):
		return fixed(float64(n)*100, 3) + " %"
	default:
		return figure(float64(n))
	}
}

func compareInterval(name string, v stats.CompareValue) string {
	if !v.Lower.Known() && !v.Upper.Known() || !v.Value.Known() {
		return "–"
	}
	upper := "?"
	if v.Upper.Known() {
		upper = compareNumber(name, v.Upper)
	}
	return compareNumber(name, v.Lower) + "–" + upper
}
