package report

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// Runs renders one or more runs for a terminal or as Markdown: one as [Run] does, several side by side, each with its
// alerts and facts. It computes no difference: that is what a comparison is for.
func Runs(w io.Writer, f Format, runs []stats.NamedRun) error {
	switch len(runs) {
	case 0:
		return errNothing
	case 1:
		return Run(w, f, runs[0].Run)
	}
	p := &page{title: plural(int64(len(runs)), "run") + " side by side"}
	var facts []fact
	for i, r := range runs {
		for _, a := range runAlerts(r.Run) {
			p.alerts = append(p.alerts, alert{"Run " + runLetter(i) + ": " + a.text, a.reasons})
		}
		facts = append(facts, fact{runLetter(i), fmt.Sprintf("%s: %s to %s, %s", clean(r.Name), runTitle(r.Run), targetText(r.Run), planText(&r.Run.Plan))})
	}
	p.blocks = append(p.blocks, block{facts: facts}, sideBySide(runs))
	for i, r := range runs {
		for _, k := range errorsBlock(r.Run, maxErrorRows) {
			k.title += ", run " + runLetter(i)
			p.blocks = append(p.blocks, k)
		}
	}
	return p.write(w, f)
}

// runNumber is a line of the table that puts runs side by side, and a column of the CSV.
type runNumber struct {
	name  string // with its unit, as the keys of the run file have it
	exact func(r *stats.Run) string
	// shown is how a table prints it; nil: as exact has it, or by number.
	shown func(r *stats.Run) string
	// number is what a table prints with the decimals of its row, behind a mark if it is doubtful; nil: it is no measurement.
	number func(r *stats.Run) (value float64, mark string, some bool)
}

// cells prints the number of each run for a table: those of a row have the same decimals.
func (n *runNumber) cells(runs []stats.NamedRun) []string {
	cells := make([]string, len(runs))
	if n.number == nil {
		for i, r := range runs {
			show := n.shown
			if show == nil {
				show = n.exact
			}
			cells[i] = show(r.Run)
		}
		return cells
	}
	var values []float64
	for _, r := range runs {
		if v, _, some := n.number(r.Run); some {
			values = append(values, v)
		}
	}
	show := aligned(values)
	for i, r := range runs {
		cells[i] = "–"
		if v, mark, some := n.number(r.Run); some {
			cells[i] = mark + show(v)
		}
	}
	return cells
}

// The marks of doubtful numbers.
const (
	rough       = "~" // fewer than ten requests were slower
	unsupported = "*" // a pair has too few requests
)

func runNumbers() []runNumber {
	whole := func(name string, pick func(*stats.Run) int64) runNumber {
		return runNumber{
			name: name, exact: func(r *stats.Run) string { return strconv.FormatInt(pick(r), 10) }, shown: func(r *stats.Run) string { return count(pick(r)) },
		}
	}
	part := func(name string, there func(*stats.Run) int64, mark func(*stats.Run) string, pick func(*stats.Run) float64) runNumber {
		return runNumber{
			name: name,
			exact: func(r *stats.Run) string {
				if there(r) == 0 {
					return ""
				}
				return strconv.FormatFloat(pick(r), 'f', -1, 64)
			},
			number: func(r *stats.Run) (float64, string, bool) {
				if there(r) == 0 {
					return 0, "", false
				}
				return pick(r), mark(r), true
			},
		}
	}
	sure := func(*stats.Run) string { return "" }
	least := func(enough int64, there func(*stats.Run) int64) func(*stats.Run) string {
		return func(r *stats.Run) string {
			if there(r) < enough {
				return rough
			}
			return ""
		}
	}
	ok := func(r *stats.Run) int64 { return r.Counts.OK }
	sent := func(r *stats.Run) int64 { return r.Counts.Sent }
	scheduled := func(r *stats.Run) int64 { return r.ScheduleError.Count }
	numbers := []runNumber{
		whole("planned", func(r *stats.Run) int64 { return r.Counts.Planned }),
		whole("sent", func(r *stats.Run) int64 { return r.Counts.Sent }),
		whole("ok", ok),
		whole("failed", func(r *stats.Run) int64 { return r.Counts.Failed }),
		whole("timed_out", func(r *stats.Run) int64 { return r.Counts.TimedOut }),
		part("rate_per_s", sent, sure, func(r *stats.Run) float64 { return r.Achieved.RatePerS }),
		part("samples_per_s", sent, sure, func(r *stats.Run) float64 { return r.Achieved.SamplesPerS }),
		part("mean_ms", ok, sure, func(r *stats.Run) float64 { return r.Latency.MeanMS }),
	}
	for _, q := range percentiles() {
		numbers = append(numbers, part(percentileKey(q.name), ok, least(q.enough, ok), func(r *stats.Run) float64 { return q.value(&r.Latency) }))
	}
	numbers = append(
		numbers,
		part("max_ms", ok, sure, func(r *stats.Run) float64 { return r.Latency.MaxMS }),
		part("service_p50_ms", ok, least(20, ok), func(r *stats.Run) float64 { return r.Service.P50MS }),
		part("service_p99_ms", ok, least(1_000, ok), func(r *stats.Run) float64 { return r.Service.P99MS }),
		part("schedule_error_p99_ms", scheduled, least(1_000, scheduled), func(r *stats.Run) float64 { return r.ScheduleError.P99MS }),
	)
	for i, pick := range []func(*stats.DeltaSummary) float64{
		func(s *stats.DeltaSummary) float64 { return s.MedianMS }, func(s *stats.DeltaSummary) float64 { return s.MaxMS },
	} {
		for l := range 4 {
			name := fmt.Sprintf("d%d_%s_ms", l+2, []string{"median", "max"}[i])
			mark := func(r *stats.Run) string {
				if levels(r.Deltas)[l].summary.SupportedPairs < len(r.Deltas.Pairs) {
					return unsupported
				}
				return ""
			}
			numbers = append(numbers, part(name, ok, mark, func(r *stats.Run) float64 { return pick(levels(r.Deltas)[l].summary) }))
		}
	}
	return append(numbers, runNumber{name: "load_generator", exact: func(r *stats.Run) string { return clean(cmp.Or(r.Client.Verdict, "not judged")) }})
}

// percentileKey turns p99.9 into p99_9_ms.
func percentileKey(name string) string {
	b := []byte(name + "_ms")
	for i := range b {
		if b[i] == '.' {
			b[i] = '_'
		}
	}
	return string(b)
}

// sideBySide is a table with a column for each run.
func sideBySide(runs []stats.NamedRun) block {
	k := block{title: "Side by side", plain: "Latency counts from the moment a request was due (open loop) or sent (closed loop). D2–D5 are the median and the largest over the pairs."}
	g := grid{caption: "The runs side by side", head: []string{""}}
	for i := range runs {
		g.head = append(g.head, runLetter(i))
	}
	marked := map[string]bool{}
	for _, n := range runNumbers() {
		cells := n.cells(runs)
		for _, c := range cells {
			if c != "" {
				marked[c[:1]] = true
			}
		}
		g.rows = append(g.rows, append([]string{n.name}, cells...))
	}
	k.tables = []grid{g}
	if marked[rough] {
		k.notes = append(k.notes, "~ fewer than 10 requests were slower than this: a rough value that the next run may not repeat.")
	}
	if marked[unsupported] {
		k.notes = append(k.notes, "* interpolates the maximum of pairs with too few samples: "+supportNeeds()+".")
	}
	k.notes = append(k.notes, "Whether a difference is more than chance: cirrusbench compare says with what confidence, cirrusbench gate decides.")
	return k
}

// RunsCSV writes a line for each run, under a header; numbers are as in the run files, without separators.
func RunsCSV(w io.Writer, runs []stats.NamedRun) error {
	if len(runs) == 0 {
		return errNothing
	}
	numbers := runNumbers()
	head := []string{"run", "started_at", "target", "plan_sha256", "corpus_sha256"}
	for _, n := range numbers {
		head = append(head, n.name)
	}
	rows := [][]string{head}
	for _, r := range runs {
		started := ""
		if !r.Run.StartedAt.IsZero() {
			started = r.Run.StartedAt.UTC().Format("2006-01-02T15:04:05.999Z07:00")
		}
		row := []string{csvText(r.Name), started, csvText(r.Run.Target.URL), csvText(r.Run.Plan.SHA256), csvText(r.Run.Corpus.SHA256)}
		for _, n := range numbers {
			row = append(row, n.exact(r.Run))
		}
		rows = append(rows, row)
	}
	if err := csv.NewWriter(w).WriteAll(rows); err != nil {
		return fmt.Errorf("writing a report: %w", err)
	}
	return nil
}
