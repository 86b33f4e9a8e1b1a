package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// Tune renders a comparison of memory sizes: what a million invocations cost at
// each, warm and cold apart, and which size the three strategies choose.
func Tune(w io.Writer, f Format, r *cost.TuneResult) error {
	if r == nil {
		return errNothing
	}
	p := &page{title: "Memory sizes of a function"}
	if len(r.Warnings) > 0 {
		p.alerts = []alert{{text: "READ WITH CARE:", reasons: cleanAll(r.Warnings)}}
	}
	facts := []fact{
		{"Measured", clean(r.Source)},
		{"Prices", fmt.Sprintf("Lambda on %s in %s, list prices, book of %s, no free tier", clean(string(r.Arch)), clean(r.Region), clean(r.Book.AsOf))},
	}
	for _, c := range [...]struct {
		name string
		k    *cost.TuneChoice
		why  string
	}{
		{"Cost", &r.Cost, "the cheapest"},
		{"Speed", &r.Speed, "the fastest"},
		{"Balanced", &r.Balanced, percentOf(r.Balance) + " of the weight on cost, the rest on speed"},
	} {
		text := fmt.Sprintf("%s MB, %s", count(int64(c.k.Memory)), c.why)
		if len(c.k.Tied) > 0 {
			names := make([]string, len(c.k.Tied))
			for i, mb := range c.k.Tied {
				names[i] = count(int64(mb))
			}
			text += "; not told apart from " + joinAnd(names) + " MB"
		}
		facts = append(facts, fact{c.name, text})
	}
	p.blocks = append(p.blocks, block{facts: facts})
	warm := grid{
		caption: "Memory sizes, warm", head: []string{"memory MB", "n", "billed ms", "95 % interval", "ran ms", "$ per million", "95 % interval"},
	}
	cold := grid{caption: "Memory sizes, cold", head: warm.head}
	for i := range r.Points {
		t := &r.Points[i]
		name := count(int64(t.Memory))
		if t.Pareto {
			name += " *"
		}
		if t.Warm != nil {
			warm.rows = append(warm.rows, tuneRow(name, t.Warm))
		} else {
			warm.rows = append(warm.rows, tuneRow(name, &t.All))
		}
		if t.Cold != nil {
			cold.rows = append(cold.rows, tuneRow(count(int64(t.Memory)), t.Cold))
		}
	}
	p.blocks = append(p.blocks, block{
		title: "Warm invocations", plain: "What a million of them cost at each memory size, request fee included.",
		tables: []grid{warm}, notes: []string{"* on the Pareto front: no other size is both cheaper and faster."},
	})
	if len(cold.rows) > 0 {
		p.blocks = append(p.blocks, block{title: "Cold starts", plain: "The same for invocations that waited for an initialisation.", tables: []grid{cold}})
	}
	p.blocks = append(p.blocks, block{title: "What this leaves out", items: []string{
		"the share of cold starts, which depends on the traffic; `cirrusbench forecast` prices both together.",
		"other limits of a memory size: network, and what does not fit.",
		"tiers, savings plans and the free tier: they change all sizes alike, or nearly.",
	}})
	return p.write(w, f)
}

func tuneRow(name string, k *cost.TuneCost) []string {
	row := []string{name, count(int64(k.Samples)), places(k.MeanMS, 2), "–", figure(k.DurationMS), "$" + k.PerMillion.Fixed(3), "–"}
	if v := k.Interval; v != nil {
		row[3] = figure(v.Low) + " to " + figure(v.High)
	}
	if v := k.CostInterval; v != nil {
		row[6] = "$" + v.Low.Fixed(3) + " to $" + v.High.Fixed(3)
	}
	return row
}

// TuneCSV writes a line for each memory size and kind of invocation.
func TuneCSV(w io.Writer, r *cost.TuneResult) error {
	if r == nil {
		return errNothing
	}
	rows := [][]string{{
		"memory_mb", "kind", "samples", "mean_billed_ms", "low_ms", "high_ms", "mean_duration_ms", "usd_per_million", "low_usd", "high_usd", "pareto", "strategies",
	}}
	for i := range r.Points {
		p := &r.Points[i]
		var chosen []string
		for _, c := range [...]struct {
			name   string
			memory lambdalog.MB
		}{{"cost", r.Cost.Memory}, {"speed", r.Speed.Memory}, {"balanced", r.Balanced.Memory}} {
			if c.memory == p.Memory {
				chosen = append(chosen, c.name)
			}
		}
		for _, kind := range [...]struct {
			name string
			k    *cost.TuneCost
		}{{"warm", p.Warm}, {"cold", p.Cold}, {"all", &p.All}} {
			if kind.k == nil {
				continue
			}
			float := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
			row := []string{
				strconv.Itoa(int(p.Memory)), kind.name, strconv.Itoa(kind.k.Samples), kind.k.MeanMS.String(), "", "", float(kind.k.DurationMS),
				csvAmount(kind.k.PerMillion), "", "", strconv.FormatBool(p.Pareto), strings.Join(chosen, " "),
			}
			if v := kind.k.Interval; v != nil {
				row[4], row[5] = float(v.Low), float(v.High)
			}
			if v := kind.k.CostInterval; v != nil {
				row[8], row[9] = csvAmount(v.Low), csvAmount(v.High)
			}
			rows = append(rows, row)
		}
	}
	cw := csv.NewWriter(w)
	if err := cw.WriteAll(rows); err != nil {
		return fmt.Errorf("writing a report: %w", err)
	}
	return nil
}
