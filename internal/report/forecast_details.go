package report

import (
	"fmt"
	"slices"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// leverBlock says for every architecture where its money goes and what would save most.
func leverBlock(all []cost.ArchitectureResult) (block, bool) {
	k := block{
		title: "The next lever",
		plain: "The largest line of month 1, and what half as many requests (twice as large, with the same billed time together) or half the billed time would save in it.",
	}
	for i := range all {
		l := all[i].Lever
		if l == nil {
			continue
		}
		text := fmt.Sprintf("%s: %s, %s of %s.", clean(all[i].Name), clean(l.Service+" "+l.Dimension), ratioText(l.ShareRatio), all[i].Month1.Format())
		if l.Service != "lambda" && l.LambdaShareRatio != nil && l.LambdaShareRatio.Sign() > 0 {
			text += fmt.Sprintf(" Lambda is %s.", ratioText(l.LambdaShareRatio))
		}
		half := [...]string{"half as many requests save " + l.HalfRequests.Format(), "half the billed time " + l.HalfBilled.Format()}
		switch l.Kind {
		case cost.LeverRequests:
			text += fmt.Sprintf(" The lever is the number of requests: %s, %s.", half[0], half[1])
		case cost.LeverBilledTime:
			text += fmt.Sprintf(" The lever is the billed time: half of it saves %s, %s.", l.HalfBilled.Format(), half[0])
		case cost.LeverFixed:
			text += " Neither the number of requests nor the billed time moves the total much."
		}
		k.items = append(k.items, text)
	}
	return k, len(k.items) > 0
}

// ratioText prints a share in percent with one decimal.
func ratioText(d *cost.Decimal) string {
	if d == nil {
		return "–"
	}
	return places(d.Mul(cost.Int(100)), 1) + nbsp + "%"
}

// detailBlocks shows the analysis of a forecast, and the spare memory that its records show.
func detailBlocks(fc *cost.Result) []block {
	if fc.Analysis == nil {
		return nil
	}
	var blocks []block
	months := plural(int64(fc.Assumptions.Months), "month")
	if k, some := breakEvenBlock(fc.Analysis.BreakEvens, months); some {
		blocks = append(blocks, k)
	}
	if k, some := sizeBlock(fc.Analysis.SizeBreakEvens, months); some {
		blocks = append(blocks, k)
	}
	for i := range fc.Analysis.Architectures {
		if a := &fc.Analysis.Architectures[i]; len(a.Tornado) > 0 {
			blocks = append(blocks, tornadoBlock(a, months))
		}
	}
	if k, some := limitsBlock(fc.Analysis.Architectures); some {
		blocks = append(blocks, k)
	}
	if k, some := warmBlock(fc.Analysis.Architectures); some {
		blocks = append(blocks, k)
	}
	if k, some := headroomBlock(fc.Architectures); some {
		blocks = append(blocks, k)
	}
	return blocks
}

func breakEvenBlock(list []cost.BreakEvenResult, months string) (block, bool) {
	k := block{title: "Break-even", plain: "The requests an hour, in month 1, at which two architectures cost the same over " + months + "."}
	type outcome struct {
		baseline string
		cheaper  bool // the baseline is, and not the others
	}
	never := make(map[outcome][]string)
	var order []outcome
	for _, b := range list {
		if b.RequestsPerHour != nil {
			k.items = append(k.items, fmt.Sprintf("%s and %s: %s.", clean(b.Baseline), clean(b.Candidate), quantity(*b.RequestsPerHour)))
			continue
		}
		o := outcome{clean(b.Baseline), b.Cheaper == b.Baseline}
		if never[o] == nil {
			order = append(order, o)
		}
		never[o] = append(never[o], clean(b.Candidate))
	}
	for _, o := range order {
		others := joinAnd(never[o])
		cheaper := others + " are"
		switch {
		case o.cheaper:
			cheaper = o.baseline + " is"
		case len(never[o]) == 1:
			cheaper = others + " is"
		}
		between := " and "
		if len(never[o]) > 1 {
			between = " against "
		}
		k.items = append(k.items, fmt.Sprintf("%s: none; %s cheaper at any rate between %s and %s.",
			o.baseline+between+others, cheaper, quantity(list[0].Low), quantity(list[0].High)))
	}
	return k, len(k.items) > 0
}

func sizeBlock(list []cost.SizeBreakEven, months string) (block, bool) {
	k := block{
		title: "Break-even of message sizes",
		plain: "The size of a message, in bytes, above which a queue that carries the same volume is cheaper over " + months + ".",
	}
	for _, b := range list {
		k.items = append(k.items, fmt.Sprintf("%s against %s: %s bytes.", clean(b.Queue), clean(b.Other), quantity(b.MessageBytes)))
	}
	return k, len(k.items) > 0
}

func tornadoBlock(a *cost.ArchitectureAnalysis, months string) block {
	k := block{title: "What moves the total,", subject: clean(a.Name), plain: "Total of " + months + " when one input changes, the strongest first."}
	g := grid{caption: "What moves the total of " + clean(a.Name), head: []string{"input", "from", "to", "total from", "total to", "spread"}, text: []int{1, 2}}
	for _, s := range a.Tornado {
		g.rows = append(g.rows, []string{clean(s.Input), clean(s.LowInput), clean(s.HighInput), s.Low.Format(), s.High.Format(), s.Spread.Format()})
	}
	k.tables = []grid{g}
	return k
}

func limitsBlock(all []cost.ArchitectureAnalysis) (block, bool) {
	k := block{
		title: "Throttling in month 1",
		plain: "What a concurrency limit throttles when requests come at random (Erlang's loss formula). The last column is the share of cold starts under steady traffic.",
	}
	g := grid{caption: "Throttling in month 1", head: []string{"architecture", "at the quota", "limit for 1 in 1,000", "limit for 1 in 10^6", "cold starts"}}
	idle := 0.0
	for i := range all {
		t := all[i].Throttling
		if t == nil {
			continue
		}
		idle = t.IdleS
		limit := func(n *int) string {
			if n == nil {
				return "–"
			}
			return count(int64(*n))
		}
		cold := "–"
		if t.ColdShareModel > 0 {
			cold = smallShare(t.ColdShareModel)
		}
		g.rows = append(g.rows, []string{cut(clean(all[i].Name), 32), smallShare(t.AtQuota), limit(t.LimitFor1000), limit(t.LimitForMillion), cold})
	}
	k.tables = []grid{g}
	k.notes = []string{fmt.Sprintf("Cold starts assume that an idle environment is kept for %s s, which AWS does not publish; deployments come on top.", figure(idle))}
	return k, len(g.rows) > 0
}

// smallShare prints a share that may be tiny.
func smallShare(f float64) string {
	switch {
	case f > 0 && f < 1e-6:
		return "under 0.0001" + nbsp + "%"
	case f > 0 && f < 1e-3:
		return decimal(f*100, 4) + nbsp + "%"
	}
	return percent(f)
}

func warmBlock(all []cost.ArchitectureAnalysis) (block, bool) {
	k := block{
		title: "Environments kept ready, month 1",
		plain: "What it costs to keep the mean number of busy environments provisioned, before the invocations in them, or warm with a ping every five minutes.",
	}
	g := grid{caption: "Environments kept ready, month 1", head: []string{"architecture", "environments", "provisioned", "cheaper when busy above", "pings", "by pings"}}
	for i := range all {
		p := all[i].Provisioned
		if p == nil {
			continue
		}
		g.rows = append(g.rows, []string{
			cut(clean(all[i].Name), 32), count(int64(p.Environments)), p.Month.Format(), percentOf(p.BreakEvenBusy), quantity(p.KeepWarmPings), p.KeepWarm.Format(),
		})
	}
	k.tables = []grid{g}
	return k, len(g.rows) > 0
}

func headroomBlock(all []cost.ArchitectureResult) (block, bool) {
	k := block{title: "Memory headroom"}
	for i := range all {
		if h := all[i].Headroom; h != nil {
			k.items = append(k.items, fmt.Sprintf("%s: %s MB allocated, at most %s used: batches may grow at least ×%s before memory is the limit.",
				clean(all[i].Name), count(int64(h.MemoryMB)), count(int64(h.MaxMemoryUsedMB)), factor(h.Factor)))
		}
	}
	return k, len(k.items) > 0
}

// compareNotes says what each architecture saves against the baseline, and how
// many times cheaper the one that is compared is.
func compareNotes(fc *cost.Result, months int) []string {
	if fc.Comparison == nil {
		return nil
	}
	notes := comparisonNotes(fc.Comparison, months)
	for i := range fc.Comparisons {
		c := &fc.Comparisons[i]
		if c.Candidate != fc.Comparison.Candidate || c.Baseline != fc.Comparison.Baseline {
			notes = append(notes, comparisonNotes(c, months)[:1]...)
		}
	}
	return slices.Clip(notes)
}
