package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// Forecast renders a cost and concurrency forecast: the assumptions, the totals of
// every architecture and how they compare, concurrency against the quota, every
// billed line of the first month, and what is left out. A forecast by duration
// ratio, which has no lines, shows its figures both as the first paper rounded them
// and exactly. What [cost.Analyse] found is shown when it is there. A nil result is an error, and so is a format other than [Table] and
// [Markdown].
func Forecast(w io.Writer, f Format, fc *cost.Result) error {
	if fc == nil {
		return errNothing
	}
	p := &page{title: "Cost and concurrency forecast", alerts: forecastAlerts(fc)}
	if fc.Method != nil {
		p.title = "Forecast by the ratio of billed durations"
		p.blocks = append(p.blocks, ratioBlocks(fc)...)
		if k, some := concurrencyBlock(fc.Architectures[:min(2, len(fc.Architectures))]); some {
			p.blocks = append(p.blocks, k)
		}
		p.blocks = append(p.blocks, block{title: "What this leaves out", items: cleanAll(fc.Method.LeavesOut)})
		return p.write(w, f)
	}
	p.blocks = append(p.blocks, block{facts: assumptionFacts(&fc.Assumptions)}, costBlock(fc))
	if k, some := concurrencyBlock(fc.Architectures); some {
		p.blocks = append(p.blocks, k)
	}
	if k, some := leverBlock(fc.Architectures); some {
		p.blocks = append(p.blocks, k)
	}
	p.blocks = append(p.blocks, detailBlocks(fc)...)
	for i := range fc.Architectures {
		p.blocks = append(p.blocks, linesBlock(&fc.Architectures[i]))
	}
	if k, some := leftOutBlock(fc.Architectures); some {
		p.blocks = append(p.blocks, k)
	}
	return p.write(w, f)
}

// maxAlertReasons keeps warnings from burying the result.
const maxAlertReasons = 8

// forecastAlerts gathers the warnings of the whole and of each architecture.
func forecastAlerts(fc *cost.Result) []alert {
	reasons := cleanAll(fc.Warnings)
	for i := range fc.Architectures {
		a := &fc.Architectures[i]
		for _, w := range a.Warnings {
			reasons = append(reasons, clean(a.Name+": "+w))
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	if rest := len(reasons) - maxAlertReasons; rest > 0 {
		reasons = append(reasons[:maxAlertReasons], plural(int64(rest), "more warning")+" in the JSON output")
	}
	return []alert{{text: "READ WITH CARE:", reasons: reasons}}
}

func cleanAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = clean(s)
	}
	return out
}

func assumptionFacts(a *cost.Assumptions) []fact {
	if a.Months == 0 {
		return nil // not a forecast
	}
	month := clean(string(a.Month))
	switch a.Month {
	case cost.MonthCalendar:
		month = "calendar months (28 to 31 days)"
	case cost.Month30Days:
		month = "months of 30 days"
	case cost.Month730Hours:
		month = "months of 730 hours"
	}
	growth := "no growth"
	if a.Growth.Sign() != 0 {
		growth = "growth of " + percentOf(a.Growth) + " a month"
	}
	free := "not granted"
	if a.FreeTier {
		free = "granted, once for each architecture"
	}
	prices := fmt.Sprintf("AWS list prices of %s, book of %s", clean(a.Region), clean(a.PriceBook.AsOf))
	if h := short(a.PriceBook.SHA256); h != "" {
		prices += ", sha256 " + clean(h)
	}
	return []fact{
		{"Time", fmt.Sprintf("%s from %s, %s, %s", plural(int64(a.Months), "month"), a.Start, month, growth)},
		{"Prices", prices},
		{"Free tier", free},
	}
}

// costBlock has the totals of all architectures and what they mean.
func costBlock(fc *cost.Result) block {
	k := block{
		title: "Cost in US dollars",
		plain: "Every billed line at list price, month by month.",
	}
	months := 0
	for i := range fc.Architectures {
		months = max(months, len(fc.Architectures[i].Months))
	}
	if months == 0 {
		k.plain = "There is nothing to price."
		return k
	}
	g := grid{caption: "Cost in US dollars", head: []string{"architecture", "month 1"}}
	for _, n := range []int{12, 24} {
		if n <= months {
			g.head = append(g.head, fmt.Sprintf("month %d", n))
		}
	}
	if months > 12 {
		g.head = append(g.head, "year 1")
	}
	if months > 1 {
		g.head = append(g.head, plural(int64(months), "month"))
	}
	for i := range fc.Architectures {
		a := &fc.Architectures[i]
		row := []string{cut(clean(a.Name), 40), a.Month1.Format()}
		for _, n := range []int{12, 24} {
			switch {
			case n > months:
			case n > len(a.Months):
				row = append(row, "–")
			default:
				row = append(row, a.Months[n-1].Total.Format())
			}
		}
		if months > 12 {
			row = append(row, a.Year1.Format())
		}
		if months > 1 {
			row = append(row, a.Total.Format())
		}
		g.rows = append(g.rows, row)
	}
	k.tables = []grid{g}
	if band, some := bandsGrid(fc, months); some {
		k.tables = append(k.tables, band)
	}
	k.notes = compareNotes(fc, months)
	return k
}

// bandsGrid shows the totals under the scenario's low and high variation.
func bandsGrid(fc *cost.Result, months int) (grid, bool) {
	all := plural(int64(months), "month")
	g := grid{
		caption:   "Low and high, as the scenario's bands say",
		captioned: true,
		head:      []string{"architecture", "low, month 1", "high, month 1", "low, " + all, "high, " + all},
	}
	for i := range fc.Architectures {
		if b := fc.Architectures[i].Bands; b != nil {
			g.rows = append(g.rows, []string{
				cut(clean(fc.Architectures[i].Name), 40), b.Low.Month1.Format(), b.High.Month1.Format(), b.Low.Total.Format(), b.High.Total.Format(),
			})
		}
	}
	return g, len(g.rows) > 0
}

func comparisonNotes(c *cost.Comparison, months int) []string {
	base, cand := clean(c.Baseline), clean(c.Candidate)
	what := "saves"
	amount := c.Savings
	if c.Savings.Sign() < 0 {
		what, amount = "costs", cost.USD{}.Sub(c.Savings)
	}
	text := fmt.Sprintf("%s %s %s", cand, what, amount.Format())
	if c.Savings.Sign() < 0 {
		text += " more"
	}
	text += fmt.Sprintf(" in %s against %s", plural(int64(months), "month"), base)
	if r := c.SavingsRatio; r != nil && c.Savings.Sign() >= 0 {
		text += " (" + percentOf(*r) + ")"
	}
	notes := []string{text + "."}
	var factors []string
	for _, x := range []struct {
		name string
		d    *cost.Decimal
	}{
		{"cost", c.CostRatio}, {"mean billed time", c.DurationRatio}, {"mean concurrency", c.ConcurrencyRatio}, {"quota needed", c.QuotaRatio},
	} {
		if x.d != nil {
			factors = append(factors, fmt.Sprintf("%s ×%s", x.name, factor(*x.d)))
		}
	}
	if len(factors) > 0 {
		notes = append(notes, fmt.Sprintf("%s over %s: %s.", base, cand, strings.Join(factors, ", ")))
	}
	return notes
}

// concurrencyBlock sets what each architecture needs against the quota.
func concurrencyBlock(all []cost.ArchitectureResult) (block, bool) {
	if !slices.ContainsFunc(all, func(a cost.ArchitectureResult) bool { return a.Concurrency != nil }) {
		return block{}, false
	}
	k := block{
		title: "Concurrency in month 1",
		plain: "How many environments are busy at once: on average, and in the busiest 1 of 100 and of 1,000 moments if requests come at random. " +
			"“for the rate” is what the quota must be for the requests per second alone, of which it admits 10 per environment. " +
			"“cold storm” is after a deployment, while every environment starts.",
	}
	g := grid{caption: "Concurrency in month 1", head: []string{"architecture", "mean", "p99", "p99.9", "for the rate", "cold storm", "quota"}}
	seen, over := false, false
	// The numbers of a column have the same decimals.
	var means, rates, storms []float64
	for i := range all {
		if c := all[i].Concurrency; c != nil {
			means, rates = append(means, c.Mean), append(rates, c.RPSQuotaNeed)
			if c.ColdStorm != nil {
				storms = append(storms, *c.ColdStorm)
			}
		}
	}
	mean, rate, cold := aligned(means), aligned(rates), aligned(storms)
	for i := range all {
		seen = seen || all[i].Concurrency != nil && all[i].Concurrency.ObservedMax != nil
	}
	if seen {
		g.head = append(g.head, "seen p99", "seen max")
	}
	var growth []string
	for i := range all {
		a := &all[i]
		c := a.Concurrency
		if c == nil {
			continue
		}
		against := func(v float64, text string) string {
			if c.Quota > 0 && v > float64(c.Quota) {
				over = true
				return "!" + text
			}
			return text
		}
		whole := func(n *int) string {
			if n == nil {
				return "–"
			}
			return against(float64(*n), count(int64(*n)))
		}
		storm := "–"
		if c.ColdStorm != nil {
			storm = against(*c.ColdStorm, cold(*c.ColdStorm))
		}
		row := []string{
			cut(clean(a.Name), 32), against(c.Mean, mean(c.Mean)), whole(c.P99), whole(c.P999),
			against(c.RPSQuotaNeed, rate(c.RPSQuotaNeed)), storm, count(int64(c.Quota)),
		}
		if seen {
			row = append(row, whole(c.ObservedP99), whole(c.ObservedMax))
		}
		g.rows = append(g.rows, row)
		if m := c.MonthsToQuota; m != nil {
			months := figure(*m) + " months"
			if months == "1 months" {
				months = "1 month"
			}
			text := fmt.Sprintf("%s reaches the quota after %s of growth", clean(a.Name), months)
			if *m == 0 {
				text = clean(a.Name) + " is over the quota from the start"
			}
			growth = append(growth, text)
		}
	}
	k.tables = []grid{g}
	if seen {
		k.notes = append(k.notes, "seen: in the records themselves, from when each ended and how long it took; their traffic may be another than the forecast's.")
	}
	if over {
		k.notes = append(k.notes, "! above the quota: Lambda throttles what exceeds it.")
	}
	if len(growth) > 0 {
		k.notes = append(k.notes, strings.Join(growth, "; ")+".")
	}
	return k, true
}

// linesBlock shows how the first month of an architecture is made up.
func linesBlock(a *cost.ArchitectureResult) block {
	k := block{title: "Lines of month 1,", subject: clean(a.Name), facts: []fact{{"Requests", quantity(a.RequestsMonth1)}}}
	if a.MeanBilledMS.Sign() != 0 || a.Concurrency != nil {
		k.facts = append(k.facts, fact{"Mean billed", meanBilledText(a)})
	}
	if text := coldText(&a.Cold); text != "" {
		k.facts = append(k.facts, fact{"Cold starts", text})
	}
	if t := a.TotalInterval; t != nil {
		k.facts = append(k.facts, fact{"Sampling", fmt.Sprintf("95 %% interval of the %s: %s to %s",
			plural(int64(len(a.Months)), "month"), t.Low.Format(), t.High.Format())})
	}
	if len(a.Lines) == 0 {
		k.notes = []string{"There is no line."}
		return k
	}
	g := grid{
		caption: "Billed lines of " + clean(a.Name) + " in month 1",
		head:    []string{"what is billed", "AWS usage type", "quantity", "unit", "price $", "amount", "share"},
		text:    []int{1, 3},
		under:   1,
	}
	for i := range a.Lines {
		g.rows = append(g.rows, lineRows(&a.Lines[i], a.Month1)...)
	}
	g.rows = append(g.rows, []string{"month 1", "", "", "", "", a.Month1.Format(), ""})
	k.tables = []grid{g}
	k.notes = []string{priceNote(a.Lines) + confidenceNote(a)}
	return k
}

// confidenceNote says how much of the first month hangs on prices that are less sure.
func confidenceNote(a *cost.ArchitectureResult) string {
	unsure := a.PriceConfidence.Medium.Add(a.PriceConfidence.Low)
	share := unsure.Ratio(a.Month1)
	if unsure.Sign() <= 0 || share.Err() != nil {
		return ""
	}
	return fmt.Sprintf(" Of the month %s, %s, hang on prices that are not of high confidence.", places(share.Mul(cost.Int(100)), 1)+nbsp+"%", unsure.Format())
}

// lineRows gives a line one row for each price tier that it reaches, and one for
// what is free.
func lineRows(l *cost.Line, month cost.USD) [][]string {
	var rows [][]string
	add := func(q cost.Decimal, price string, amount cost.USD) {
		row := []string{"", "", quantity(q), shortUnit(l.Unit), price, amount.Format(), "–"}
		if len(rows) == 0 {
			row[0], row[1] = lineName(l), cmp.Or(clean(l.UsageType), "–")
		}
		if share := amount.Ratio(month); share.Err() == nil && amount.Sign() != 0 {
			row[6] = places(share.Mul(cost.Int(100)), 1) + nbsp + "%"
		}
		rows = append(rows, row)
	}
	if l.FreeQuantity.Sign() > 0 {
		add(l.FreeQuantity, "free", cost.USD{})
	}
	for _, t := range l.Tiers {
		add(t.Quantity, unitPrice(t.Price), t.Amount)
	}
	if len(rows) == 0 {
		add(l.Quantity, "–", l.Amount)
	}
	return rows
}

// shortUnit leaves out of a unit what the name of its line says already.
func shortUnit(unit string) string {
	unit, _, _ = strings.Cut(clean(unit), " (")
	unit = strings.TrimSuffix(unit, " per record")
	return strings.Replace(unit, "-KB request ", "-KB ", 1)
}

func lineName(l *cost.Line) string { return clean(l.Service + " " + l.Dimension) }

// priceNote says how old and how sure the prices of the lines are, and names those that are less sure.
func priceNote(lines []cost.Line) string {
	var dates, doubtful, stated []string
	for i := range lines {
		l := &lines[i]
		if slices.Contains(l.Source, "scenario") {
			stated = append(stated, lineName(l))
			continue
		}
		if asOf := clean(l.AsOf); !slices.Contains(dates, asOf) {
			dates = append(dates, asOf)
		}
		if l.Confidence != cost.ConfidenceHigh {
			doubtful = append(doubtful, lineName(l)+" "+clean(string(l.Confidence)))
		}
	}
	if len(dates) == 0 {
		return "Prices as the scenario states them."
	}
	slices.Sort(dates)
	text := "Prices of " + dates[0]
	if len(dates) > 1 {
		text += " to " + dates[len(dates)-1]
	}
	text += ", confidence high"
	if len(doubtful) > 0 {
		text += " except " + joinAnd(doubtful)
	}
	if len(stated) > 0 {
		text += "; " + joinAnd(stated) + " as the scenario states"
	}
	return text + "."
}

func meanBilledText(a *cost.ArchitectureResult) string {
	text := places(a.MeanBilledMS, 2) + " ms"
	if v := a.Interval; v != nil {
		text += fmt.Sprintf(", 95 %% interval %s to %s ms from %s", figure(v.Low), figure(v.High), plural(int64(v.Samples), "sample"))
		if v.Method != "" {
			text += " (" + clean(v.Method) + ")"
		}
		return text
	}
	if a.Samples > 0 {
		return text + ", from " + plural(a.Samples, "invocation") + ", without an interval"
	}
	return text + ", stated, not measured"
}

func coldText(c *cost.Cold) string {
	if c.Share == nil {
		return ""
	}
	text := percentOf(*c.Share) + " of the invocations"
	if v := c.Interval; v != nil {
		text += fmt.Sprintf(", 95 %% interval %s to %s", percent(v.Low), percent(v.High))
	}
	return text
}

// leftOutBlock lists what the forecasts do not count, each item once.
func leftOutBlock(all []cost.ArchitectureResult) (block, bool) {
	k := block{title: "What this leaves out", plain: "The same requests cause more cost than is counted above. Amounts are for month 1 at list price."}
	type item struct {
		what, why string
		names     []string
		amounts   []string
	}
	var list []*item
	for i := range all {
		for _, n := range all[i].NotCounted {
			at := slices.IndexFunc(list, func(x *item) bool { return x.what == n.What && x.why == n.Why })
			if at < 0 {
				at = len(list)
				list = append(list, &item{what: n.What, why: n.Why})
			}
			if n.Amount != nil {
				list[at].names = append(list[at].names, clean(all[i].Name))
				list[at].amounts = append(list[at].amounts, n.Amount.Format())
			}
		}
	}
	for _, x := range list {
		text := clean(x.what)
		switch {
		case len(x.amounts) == 0:
		case len(slices.Compact(slices.Clone(x.amounts))) == 1:
			text += ", " + x.amounts[0]
		default:
			for j, name := range x.names {
				x.amounts[j] += " for " + name
			}
			text += ", " + strings.Join(x.amounts, ", ")
		}
		if x.why != "" {
			text += ": " + clean(x.why)
		}
		k.items = append(k.items, text+".")
	}
	return k, len(k.items) > 0
}

// ratioBlocks shows a forecast that scales a bill by the ratio of durations.
func ratioBlocks(fc *cost.Result) []block {
	m := fc.Method
	months := plural(int64(fc.Assumptions.Months), "month")
	facts := []fact{
		{"Method", clean(m.Name) + ": " + clean(m.Formula)},
		{"Bill", m.Monthly.Format() + " a month, with the baseline"},
		{"Mean billed", fmt.Sprintf("%s ms before, %s ms after: ×%s", places(m.BaselineMS, 2), places(m.CandidateMS, 2), places(m.DurationRatioRounded, 1))},
		{"Saving", fmt.Sprintf("%s of the bill, %s rounded", percentOf(m.SavingsRatio.Round(4)), percentOf(m.SavingsRatioRounded))},
	}
	baseline, candidate := "baseline", "candidate"
	if c := fc.Comparison; c != nil {
		baseline, candidate = clean(c.Baseline), clean(c.Candidate)
	}
	p, x := &m.AsInPaper, &m.Exact
	k := block{
		title: "Cost in US dollars",
		plain: "A known bill, scaled by how much less time is billed. Everything else on the bill is taken to shrink with it, which it does not.",
		tables: []grid{{
			caption: "Cost in US dollars",
			head:    []string{"", "a year", months},
			rows: [][]string{
				{baseline, p.BaselineYear.Format(), p.BaselineTotal.Format()},
				{candidate + ", rounded as in the paper", p.CandidateYear.Format(), p.CandidateTotal.Format()},
				{candidate + ", exact ratio", x.CandidateYear.Format(), x.CandidateTotal.Format()},
			},
		}},
	}
	if m.Understatement.Sign() != 0 {
		k.notes = []string{fmt.Sprintf(
			"The first paper rounds the saving to whole percent and cuts the year to whole dollars: %s a year and %s in %s. "+
				"By the unrounded ratio it is %s and %s; the difference is %s.",
			p.CandidateYear.Format(), p.CandidateTotal.Format(), months, x.CandidateYear.Format(), x.CandidateTotal.Format(), m.Understatement.Format())}
	}
	return []block{{facts: facts}, k}
}

// quantity prints a decimal number for people: whole above 1,000, else with up to
// three decimals.
func quantity(d cost.Decimal) string {
	if d.Cmp(cost.Int(1000)) >= 0 {
		return places(d, 0)
	}
	return places(d, 3)
}

// places prints d half-up with at most n decimals and thousands separators.
func places(d cost.Decimal, n int32) string {
	if d.Err() != nil {
		return "invalid"
	}
	s := withoutZeros(d.Round(n).String())
	if s == "-0" {
		return "0"
	}
	return separated(s)
}

// percentOf prints a ratio in percent.
func percentOf(ratio cost.Decimal) string {
	return places(ratio.Mul(cost.Int(100)), 2) + nbsp + "%"
}

// factor prints a ratio with about three digits.
func factor(d cost.Decimal) string {
	switch {
	case d.Cmp(cost.Int(100)) >= 0:
		return places(d, 0)
	case d.Cmp(cost.Int(10)) >= 0:
		return places(d, 1)
	default:
		return places(d, 2)
	}
}

// unitPrice prints a price with all its digits.
func unitPrice(u cost.USD) string {
	return withoutZeros(u.String())
}
