package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// Invocations renders what Lambda's records say of the invocations: how many there
// were, how they ended, and the distribution of billed time, duration and
// initialisation. A nil summary is an error, and so is a format other than [Table]
// and [Markdown].
func Invocations(w io.Writer, f Format, s *lambdalog.Summary) error {
	if s == nil {
		return errNothing
	}
	p := &page{
		title:  "Lambda invocations by their own records",
		blocks: []block{{facts: invocationFacts(s)}, billedBlock(s)},
	}
	if k, some := warningsBlock(s); some {
		p.blocks = append(p.blocks, k)
	}
	return p.write(w, f)
}

func invocationFacts(s *lambdalog.Summary) []fact {
	records := fmt.Sprintf("%s, %s of them of invocations", plural(s.Records, "record"), count(s.Reports))
	reports := fmt.Sprintf("%s billed, %s cold", count(s.Billable), count(s.Cold))
	if s.Reports > 0 {
		reports += " (" + percent(float64(s.Cold)/float64(s.Reports)) + ")"
	}
	t := &s.Statuses
	ended := fmt.Sprintf("%s success, %s error, %s failure, %s timeout", count(t.Success), count(t.Error), count(t.Failure), count(t.Timeout))
	if t.Other > 0 {
		ended += ", " + count(t.Other) + " other"
	}
	facts := []fact{{"Read", records}, {"Invocations", reports}, {"Ended in", ended}}
	var memory []string
	for _, m := range s.Memory {
		memory = append(memory, fmt.Sprintf("%s MB × %s", count(int64(m.MB)), count(m.Count)))
	}
	if s.MaxMemoryUsed > 0 {
		memory = append(memory, fmt.Sprintf("at most %s MB used", count(int64(s.MaxMemoryUsed))))
	}
	if len(memory) > 0 {
		facts = append(facts, fact{"Memory", strings.Join(memory, ", ")})
	}
	var doubts []string
	for _, d := range []struct {
		n    int64
		text string
	}{
		{s.Incomplete, "cut off before the billed time"},
		{s.Inconsistent, "with a billed time that no billing rule explains"},
		{s.Rules.Slices, "billed in slices of 100 ms, as until November 2020"},
		{s.Rules.InitFree, "with a free initialisation, as until July 2025"},
		{s.Duplicates, "read once although they came more than once"},
		{s.Dropped, "dropped by Lambda itself"},
		{s.BadLines, "on lines that could not be read"},
	} {
		if d.n > 0 {
			doubts = append(doubts, count(d.n)+" "+d.text)
		}
	}
	if len(doubts) > 0 {
		facts = append(facts, fact{"In doubt", strings.Join(doubts, "; ")})
	}
	return facts
}

func billedBlock(s *lambdalog.Summary) block {
	k := block{title: "Time in milliseconds"}
	if !s.BilledMS.Max.Known && !s.DurationMS.Max.Known && !s.InitMS.Max.Known {
		k.plain = "No record states a billed time or a duration, so there is nothing to price."
		return k
	}
	k.plain = "Billed is what Lambda charges for, duration is how long the handler ran, initialisation is what a cold start waited for first."
	g := grid{caption: "Time by Lambda's records, in milliseconds", head: []string{"", "mean", "p50", "p95", "p99", "max", "sum"}}
	for _, r := range []struct {
		name string
		d    *lambdalog.Distribution
	}{
		{"billed", &s.BilledMS},
		{"duration", &s.DurationMS},
		{"initialisation", &s.InitMS},
	} {
		if !r.d.Max.Known {
			continue
		}
		row := []string{r.name}
		for _, m := range []lambdalog.Millis{r.d.Mean, r.d.P50, r.d.P95, r.d.P99, r.d.Max, r.d.Sum} {
			row = append(row, millis(m))
		}
		g.rows = append(g.rows, row)
	}
	k.tables = []grid{g}
	return k
}

// maxWarningRows keeps warnings from burying the result.
const maxWarningRows = 10

func warningsBlock(s *lambdalog.Summary) (block, bool) {
	if len(s.Warnings) == 0 {
		return block{}, false
	}
	k := block{title: "Warnings"}
	k.items = cleanAll(s.Warnings[:min(maxWarningRows, len(s.Warnings))])
	if rest := len(s.Warnings) - len(k.items); rest > 0 {
		k.notes = []string{plural(int64(rest), "more warning") + " in the JSON output."}
	}
	return k, true
}

// millis prints a length of time in milliseconds with two decimals, and a dash when
// it is absent.
func millis(m lambdalog.Millis) string {
	if !m.Known {
		return "–"
	}
	const unit = time.Millisecond / 100
	return decimal(float64(m.Value.Round(unit)/unit)/100, 2)
}
