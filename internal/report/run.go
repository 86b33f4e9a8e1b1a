package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// Run renders what a run measured: what was sent where and how fast, latency,
// errors, D2 to D5, and whether the load generator can be trusted. A nil run is an
// error, and so is a format other than [Table] and [Markdown].
func Run(w io.Writer, f Format, r *stats.Run) error {
	if r == nil {
		return errNothing
	}
	p := runPage(r)
	p.blocks = append(p.blocks, observedBlock(r.Billed)...)
	p.blocks = append(p.blocks, errorsBlock(r, maxErrorRows)...)
	p.blocks = append(p.blocks, runDeltasBlock(r.Deltas))
	return p.write(w, f)
}

// maxErrorRows keeps a run with many kinds of errors on one screen.
const maxErrorRows = 5

// runPage is what every rendering of a run begins with: alerts, facts and latency.
func runPage(r *stats.Run) *page {
	return &page{
		title:  runTitle(r),
		alerts: runAlerts(r),
		blocks: []block{{facts: runFacts(r)}, latencyBlock(r)},
	}
}

func runTitle(r *stats.Run) string {
	if r.StartedAt.IsZero() {
		return "Replay"
	}
	return "Replay of " + r.StartedAt.UTC().Format("2006-01-02 15:04:05 UTC")
}

func runAlerts(r *stats.Run) []alert {
	var alerts []alert
	if invalid(r) {
		a, reasons := alert{text: "INVALID: do not trust these numbers. The load generator, not the target, may have made them."}, r.Client.Reasons
		if why := r.NoSuccess(); why != "" {
			a.text, reasons = "INVALID: "+clean(why)+".", r.GeneratorReasons()
		}
		for _, reason := range reasons {
			a.reasons = append(a.reasons, clean(reason))
		}
		alerts = append(alerts, a)
	}
	broken := alert{text: "FAIL: not every objective was met."}
	for _, o := range r.Objectives {
		if !o.Met {
			broken.reasons = append(broken.reasons, fmt.Sprintf("%s, measured %s", clean(o.Objective), clean(o.Measured)))
		}
	}
	if len(broken.reasons) > 0 {
		alerts = append(alerts, broken)
	}
	c := &r.Counts
	if m := r.Merged; m != nil && m.Partial {
		a := alert{text: fmt.Sprintf("PARTIAL: merged from %d of %s. The numbers are right for what is there, and not those of the plan.", len(m.Parts), plural(int64(m.Shards), "shard"))}
		for _, reason := range m.Reasons {
			a.reasons = append(a.reasons, clean(reason))
		}
		return append(alerts, a)
	}
	switch {
	case r.Interrupted && c.Planned > 0:
		alerts = append(alerts, alert{text: fmt.Sprintf("INTERRUPTED: stopped before the plan was done; %s of %s sent. The numbers are of those.",
			count(c.Sent), plural(c.Planned, "planned request"))})
	case r.Interrupted:
		alerts = append(alerts, alert{text: fmt.Sprintf("INTERRUPTED: stopped before the plan was done; %s sent. The numbers are of those.", plural(c.Sent, "request"))})
	case c.NotSent > 0:
		alerts = append(alerts, alert{text: fmt.Sprintf("INCOMPLETE: %s of %s never sent.", count(c.NotSent), plural(c.Planned, "planned request"))})
	}
	return alerts
}

func invalid(r *stats.Run) bool { return r.Client.Verdict == "invalid" }

// nothingMeasured says that a run is invalid only because nothing succeeded, for which its load generator is not to blame.
func nothingMeasured(r *stats.Run) bool {
	return invalid(r) && r.NoSuccess() != "" && len(r.GeneratorReasons()) == 0
}

func runFacts(r *stats.Run) []fact {
	c := &r.Counts
	facts := []fact{
		{"Target", targetText(r)},
		{"Corpus", corpusText(&r.Corpus)},
		{"Plan", planText(&r.Plan)},
	}
	if m := r.Merged; m != nil {
		facts = append(facts, fact{"Shards", fmt.Sprintf("%d of %d, added up; they started within %s of each other by their own clocks", len(m.Parts), m.Shards, span(m.StartSpreadMS))})
	} else if s := r.Plan.Shard; s != nil {
		facts = append(facts, fact{"Shard", fmt.Sprintf("part %d of %d (by %s) of a plan %s", s.Index, s.Total, clean(s.By), planSize(s.PlannedAll))})
	}
	if r.Plan.Warmup > 0 || c.Warmup > 0 || r.WarmupLatency != nil {
		text := plural(max(c.Warmup, r.Plan.Warmup), "request") + " before the measured ones, in none of the other numbers"
		if r.Interrupted && c.Warmup < r.Plan.Warmup {
			text = count(c.Warmup) + " of " + text
		}
		if l := r.WarmupLatency; l != nil && l.Count > 0 {
			text += fmt.Sprintf("; median %s, slowest %s", span(l.P50MS), span(l.MaxMS))
		}
		if len(r.WarmupErrors) > 0 {
			var kinds []string
			for _, e := range r.WarmupErrors {
				kinds = append(kinds, clean(e.Class)+" × "+count(e.Count))
			}
			text += "; not all succeeded: " + strings.Join(kinds, ", ")
		}
		facts = append(facts, fact{"Warm-up", text})
	}
	facts = append(facts,
		fact{"Requests", requestsText(r)},
		fact{"Rate", rateText(r)},
	)
	if len(r.Statuses) > 0 {
		facts = append(facts, fact{"Statuses", statusesText(r.Statuses)})
	}
	if text := billedText(r.Billed); text != "" {
		facts = append(facts, fact{"Billed", text})
	}
	if len(r.Objectives) > 0 {
		facts = append(facts, fact{"Objectives", objectivesText(r.Objectives)})
	}
	facts = append(facts, fact{"Load generator", clientText(r)})
	if len(r.Labels) > 0 {
		var labels []string
		for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
			labels = append(labels, clean(k+"="+r.Labels[k]))
		}
		facts = append(facts, fact{"Labels", strings.Join(labels, ", ")})
	}
	return facts
}

// planSize is what there is to say of the size of a whole plan, which nobody knows where its time ends it.
func planSize(requests int64) string {
	if requests == 0 {
		return "that its time ends"
	}
	return "of " + plural(requests, "request")
}

// objectivesText says which objectives were met, and what was measured.
func objectivesText(all []stats.Objective) string {
	var texts []string
	for _, o := range all {
		verdict := "met"
		if !o.Met {
			verdict = "BROKEN"
		}
		texts = append(texts, fmt.Sprintf("%s %s, measured %s", clean(o.Objective), verdict, clean(o.Measured)))
	}
	return strings.Join(texts, "; ")
}

func targetText(r *stats.Run) string {
	text := clean(r.Target.URL)
	switch r.Target.Kind {
	case "embedded":
		text += " (the reference server, started in this process)"
	case "lambda":
		text += " (a Lambda function, invoked directly)"
	}
	return cmp.Or(text, "not stated")
}

func corpusText(c *stats.Corpus) string {
	text := fmt.Sprintf("%s: %s, %s, %s", clean(cmp.Or(c.Location, "not stated")), plural(c.Objects, "object"), size(c.Bytes), plural(c.Samples, "sample"))
	if c.SHA256 != "" {
		text += ", sha256 " + clean(short(c.SHA256))
	}
	return text
}

func planText(p *stats.Plan) string {
	var b strings.Builder
	switch p.Loop {
	case "open":
		fmt.Fprintf(&b, "open loop (requests are due at fixed times), %s requests/s", figure(p.RatePerS))
		if p.Arrival != "" {
			fmt.Fprintf(&b, ", %s arrivals", clean(p.Arrival))
		}
	case "closed":
		fmt.Fprintf(&b, "closed loop (the next request waits for an answer), %s at once", count(int64(p.Concurrency)))
	default:
		b.WriteString(clean(cmp.Or(p.Loop, "not stated")))
	}
	if p.Planned > 0 {
		fmt.Fprintf(&b, ", %s", plural(p.Planned, "request"))
	}
	if p.MaxInFlight > 0 && p.Loop != "closed" {
		fmt.Fprintf(&b, ", at most %s in flight", count(int64(p.MaxInFlight)))
	}
	if p.FanOut > 1 {
		fmt.Fprintf(&b, ", each capture sent as %s", plural(int64(p.FanOut), "cluster"))
	}
	if p.SHA256 != "" {
		fmt.Fprintf(&b, ", sha256 %s", clean(short(p.SHA256)))
	}
	return b.String()
}

func requestsText(r *stats.Run) string {
	c := &r.Counts
	text := count(c.Sent) + " sent"
	if c.Planned != c.Sent {
		text += " of " + count(c.Planned) + " planned"
	}
	text += fmt.Sprintf(": %s ok, %s failed, %s timed out; %s not sent", count(c.OK), count(c.Failed), count(c.TimedOut), count(c.NotSent))
	if c.Retried > 0 {
		text += fmt.Sprintf("; %s sent again", plural(c.Retried, "time"))
	}
	switch c.SamplesSent {
	case 0:
	case c.SamplesWritten:
		text += fmt.Sprintf("; all %s written", plural(c.SamplesSent, "sample"))
	default:
		text += fmt.Sprintf("; %s of %s written", count(c.SamplesWritten), plural(c.SamplesSent, "sample"))
	}
	return text
}

func rateText(r *stats.Run) string {
	if r.Counts.Sent == 0 {
		return "nothing was sent"
	}
	text := figure(r.Achieved.RatePerS) + " requests/s"
	if r.Plan.Loop == "open" && r.Plan.RatePerS > 0 {
		text += " of " + figure(r.Plan.RatePerS) + " planned"
	}
	return fmt.Sprintf("%s, %s samples/s written, for %s", text, figure(r.Achieved.SamplesPerS), span(r.Achieved.DurationMS))
}

// statusesText lists answers by HTTP status, in ascending order.
func statusesText(statuses map[string]int64) string {
	var parts []string
	for _, s := range sortedStatuses(statuses) {
		parts = append(parts, clean(s)+" × "+count(statuses[s]))
	}
	return strings.Join(parts, ", ")
}

func sortedStatuses(statuses map[string]int64) []string {
	return slices.Sorted(maps.Keys(statuses))
}

func clientText(r *stats.Run) string {
	c := &r.Client
	verdict := clean(cmp.Or(c.Verdict, "not judged"))
	switch {
	case nothingMeasured(r):
		verdict = "not judged, for no request succeeded"
	case c.Verdict == "invalid":
		verdict = "INVALID"
	}
	return fmt.Sprintf("%s: used %s of its CPU, schedule error %s at p99, longest GC pause %s",
		verdict, percent(c.CPURatio), span(c.ScheduleErrorP99MS), span(c.GCPauseMaxMS))
}

// billedText shows what the target said it billed; a summary in a shape that is
// not known is left to the run file.
func billedText(raw json.RawMessage) string {
	var s lambdalog.Summary
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil || !s.BilledMS.Mean.Known {
		return ""
	}
	d := &s.BilledMS
	return fmt.Sprintf("%s ms a request on average, p99 %s ms, max %s ms; %s, %s",
		millis(d.Mean), millis(d.P99), millis(d.Max), plural(s.Reports, "record"), plural(s.Cold, "cold start"))
}

// percentile is a column of the latency table.
type percentile struct {
	name string
	// enough is the number of latencies at which ten lie above the percentile.
	enough int64
	value  func(*stats.Latency) float64
}

func percentiles() []percentile {
	return []percentile{
		{"p50", 20, func(l *stats.Latency) float64 { return l.P50MS }},
		{"p90", 100, func(l *stats.Latency) float64 { return l.P90MS }},
		{"p95", 200, func(l *stats.Latency) float64 { return l.P95MS }},
		{"p99", 1_000, func(l *stats.Latency) float64 { return l.P99MS }},
		{"p99.9", 10_000, func(l *stats.Latency) float64 { return l.P999MS }},
		{"p99.99", 100_000, func(l *stats.Latency) float64 { return l.P9999MS }},
	}
}

func latencyBlock(r *stats.Run) block {
	k := block{title: "Latency in milliseconds", plain: latencyPlain(r)}
	type row struct {
		name string
		l    *stats.Latency
	}
	first := "latency from due time"
	if r.Plan.Loop == "closed" {
		first = "latency"
	}
	rows := []row{{first, &r.Latency}, {"service time", &r.Service}, {"schedule error", &r.ScheduleError}, {"failed requests", r.FailedLatency}}
	rows = slices.DeleteFunc(rows, func(x row) bool { return x.l == nil || x.l.Count == 0 })
	if len(rows) == 0 {
		k.plain = "No request was answered, so there is no latency."
		return k
	}
	if r.Latency.Count == 0 {
		k.plain = "No request succeeded: there is no latency of successes, only how long failures took."
	}
	g := grid{caption: "Latency in milliseconds", head: []string{"", "requests"}}
	for _, c := range percentiles() {
		g.head = append(g.head, c.name)
	}
	g.head = append(g.head, "max")
	few := false
	for _, x := range rows {
		cells := []string{x.name, count(x.l.Count)}
		places := latencyPlaces(x.l.MaxMS)
		for _, c := range percentiles() {
			cell := decimal(c.value(x.l), places)
			if x.l.Count < c.enough {
				few = true
				cell = "~" + cell
			}
			cells = append(cells, cell)
		}
		g.rows = append(g.rows, append(cells, decimal(x.l.MaxMS, places)))
	}
	k.tables = []grid{g}
	if few {
		k.notes = append(k.notes, "~ fewer than 10 requests were slower than this: a rough value that the next run may not repeat.")
	}
	if n := r.Counts.LatencyOverflow; n > 0 {
		k.notes = append(k.notes, plural(n, "latency time")+" above 24 h; only their maximum is exact.")
	}
	return k
}

// latencyPlaces returns the decimals that a row of milliseconds deserves: those of
// its largest number, so that they line up.
func latencyPlaces(maxMS float64) int {
	switch {
	case maxMS < 100:
		return 3
	case maxMS < 1_000:
		return 2
	case maxMS < 10_000:
		return 1
	default:
		return 0
	}
}

func latencyPlain(r *stats.Run) string {
	const p99 = " p99 = 99 of 100 successful requests took no longer."
	if r.Plan.Loop == "closed" {
		return "Latency counts from the moment a request was sent: in a closed loop a slow server lowers the rate instead of making requests wait." + p99
	}
	return "Latency counts from the moment a request was due, not from when it was sent; service time counts from the send." + p99
}

func errorsBlock(r *stats.Run, limit int) []block {
	if len(r.Errors) == 0 {
		return nil
	}
	// The most frequent first; the class decides between equals.
	sorted := slices.SortedFunc(slices.Values(r.Errors), func(a, b stats.ErrorCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Class, b.Class), strings.Compare(a.Example, b.Example))
	})
	k := block{title: "Errors", plain: "Requests that did not succeed, by kind, with the earliest example of each."}
	g := grid{caption: "Errors by class", head: []string{"class", "requests", "example"}, text: []int{2}, elastic: 2}
	for _, e := range sorted[:min(limit, len(sorted))] {
		g.rows = append(g.rows, []string{clean(e.Class), count(e.Count), clean(e.Example)})
	}
	k.tables = []grid{g}
	if rest := sorted[min(limit, len(sorted)):]; len(rest) > 0 {
		var n int64
		for _, e := range rest {
			n += e.Count
		}
		k.notes = []string{fmt.Sprintf("%s of %s more %s in the run file.", plural(n, "request"), plural(int64(len(rest)), "kind"), singular(int(n), "is", "are"))}
	}
	return []block{k}
}
