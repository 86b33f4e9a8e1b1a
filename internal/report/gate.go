package report

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// Gate renders the verdict of a gate and what led to it. A nil result is an error, and so is a format other
// than [Table] and [Markdown].
func Gate(w io.Writer, f Format, r *stats.GateResult) error {
	if r == nil {
		return errNothing
	}
	p := &page{title: gateTitle(r), alerts: gateAlerts(r), blocks: []block{{facts: gateFacts(r)}}}
	p.blocks = append(p.blocks, gateComparisonBlocks(r)...)
	if r.Arms.Baseline.Sent+r.Arms.Candidate.Sent > 0 { // otherwise a table of zeros
		p.blocks = append(p.blocks, gateArmsBlock(r))
	}
	if k, some := gateObjectivesBlock(r); some {
		p.blocks = append(p.blocks, k)
	}
	if k, some := gateNoiseBlock(r); some {
		p.blocks = append(p.blocks, k)
	}
	return p.write(w, f)
}

func gateTitle(r *stats.GateResult) string {
	what := "gate on " + clean(r.Metric)
	if r.Self {
		what = "a target against itself, " + clean(r.Metric)
	}
	title := string(r.Verdict) + ": " + what
	if r.EstimateRatio.Known() {
		title += " " + changeText(r.EstimateRatio)
		if r.LowerRatio.Known() && r.UpperRatio.Known() {
			title += fmt.Sprintf(" (%s to %s)", changeText(r.LowerRatio), changeText(r.UpperRatio))
		}
	}
	return title
}

// changeText prints a ratio as a change in percent, with its sign.
func changeText(ratio stats.GateNumber) string {
	if !ratio.Known() {
		return "?"
	}
	s := fixed((float64(ratio)-1)*100, 1)
	if !strings.HasPrefix(s, "-") {
		s = "+" + s
	}
	return s + " %"
}

func shareText(ratio stats.GateNumber) string {
	if !ratio.Known() {
		return "?"
	}
	return fixed(float64(ratio)*100, 1) + " %"
}

func gateAlerts(r *stats.GateResult) []alert {
	var alerts []alert
	if len(r.Reasons) > 0 {
		text := map[stats.Verdict]string{
			stats.Fail:         "FAIL: the candidate has regressed.",
			stats.Inconclusive: "INCONCLUSIVE: the evidence shows neither a regression nor its absence.",
			stats.Invalid:      "INVALID: what was measured must not be judged.",
			stats.Pass:         "PASS, with remarks.",
		}[r.Verdict]
		if r.Verdict == stats.Invalid && gateUnread(r) {
			text = "INVALID: there is nothing to judge."
		}
		if r.Verdict == stats.Invalid && strings.HasPrefix(r.Reasons[0], "interrupted after ") {
			text = "INTERRUPTED: there is no verdict."
		}
		a := alert{text: text}
		for _, reason := range r.Reasons {
			a.reasons = append(a.reasons, clean(reason))
		}
		alerts = append(alerts, a)
	}
	if r.Advisory && !gateUnread(r) {
		alerts = append(alerts, alert{text: "ADVISORY: two stored runs. The limits know the chance within a run; that the machine was busier on the other day " +
			"is in the numbers and not in the limits. On shared runners such a comparison alarms on a quarter to a half of unchanged jobs. The real gate measures two URLs in one job."})
	}
	if r.Unsupported {
		alerts = append(alerts, alert{text: "UNSUPPORTED: a block has too few requests for " + clean(r.Metric) + ", which is little more than its slowest request. It was judged because --allow-unsupported says so."})
	}
	if r.Self && r.Verdict == stats.Fail {
		alerts = append(alerts, alert{text: "A target differs from itself: look for what the two measurements do not share."})
	}
	return alerts
}

func gateFacts(r *stats.GateResult) []fact {
	var facts []fact
	if !gateUnread(r) {
		facts = append(facts, fact{"Baseline", gateTargetText(&r.Arms.Baseline)}, fact{"Candidate", gateTargetText(&r.Arms.Candidate)})
	}
	facts = append(facts,
		fact{"Rule", fmt.Sprintf("%s may rise by %s; either wrong verdict in at most %s of jobs", clean(r.Metric), shareText(stats.GateNumber(r.ToleranceRatio)), percent(r.AlphaRatio))})
	if !r.Advisory {
		blocks := gateBlocksText(r)
		if len(r.Looks) > 0 {
			blocks += "; looks after " + joinAnd(intTexts(r.Looks))
		}
		facts = append(facts, fact{"Blocks", blocks})
	}
	if r.Plan.SHA256 != "" {
		facts = append(facts, fact{"Plan", planText(&r.Plan)}, fact{"Corpus", corpusText(&r.Corpus)})
	}
	if r.MinimumDetectableRatio.Known() {
		facts = append(facts, fact{"Noise", fmt.Sprintf("%s from block to block: so many blocks find a rise of %s in 80 of 100 jobs",
			shareText(r.Noise), shareText(r.MinimumDetectableRatio))})
	}
	if r.DilutionRatio >= 0.005 {
		facts = append(facts, fact{"Load generator", fmt.Sprintf("may be %s of %s in both arms, which hides as much of a change; PASS was asked for %s less",
			shareText(stats.GateNumber(r.DilutionRatio)), clean(r.Metric), shareText(stats.GateNumber(r.DilutionRatio*r.ToleranceRatio)))})
	}
	if len(r.Labels) > 0 {
		var labels []string
		for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
			labels = append(labels, clean(k+"="+r.Labels[k]))
		}
		facts = append(facts, fact{"Labels", strings.Join(labels, ", ")})
	}
	return facts
}

// gateUnread says that neither arm was measured, or that no file of its measurements could be read.
func gateUnread(r *stats.GateResult) bool {
	return len(r.Measurements) == 0 && r.Arms.Baseline.Sent+r.Arms.Candidate.Sent == 0 && r.Arms.Baseline.Target.URL+r.Arms.Candidate.Target.URL == ""
}

// gateBlocksText says how many blocks count, and why the others do not.
func gateBlocksText(r *stats.GateResult) string {
	aside, ok := 0, int64(0)
	for i := range r.Measurements {
		m := &r.Measurements[i]
		ok += m.Baseline.OK + m.Candidate.OK
		if m.Discarded != "" {
			aside++
		}
	}
	if len(r.Measurements) != r.Blocks+r.Discarded {
		aside = r.Discarded
	}
	text := plural(int64(r.Blocks), "block") + singular(r.Blocks, " counts", " count")
	switch {
	case r.Blocks == 0 && len(r.Measurements) > 0 && ok == 0:
		return "none counts: no request succeeded"
	case aside < r.Discarded:
		text += "; 1 cannot be judged"
	}
	if aside > 0 {
		text += fmt.Sprintf("; %s set aside, in which the load generator was the limit", count(int64(aside)))
	}
	return text
}

func gateTargetText(a *stats.GateArmResult) string { return cmp.Or(clean(a.Target.URL), "not stated") }

func intTexts(list []int) []string {
	var out []string
	for _, n := range list {
		out = append(out, count(int64(n)))
	}
	return out
}

func gateComparisonBlocks(r *stats.GateResult) []block {
	if len(r.Comparisons) == 0 {
		return nil
	}
	k := block{
		title: "Candidate against baseline",
		plain: "Change of the candidate; with the limits that it is above and below. FAIL: all of it lies beyond the tolerance. PASS: all of it lies within.",
	}
	g := grid{caption: "Candidate against baseline", head: []string{"metric", "change", "at least", "at most", "verdict"}, text: []int{4}}
	for _, c := range worstFirst(r.Comparisons) {
		name := clean(c.Metric)
		if c.Org != "" {
			name += ", org " + clean(c.Org)
		}
		g.rows = append(g.rows, []string{name, changeText(c.EstimateRatio), changeText(c.LowerRatio), changeText(c.UpperRatio), string(c.Verdict)})
	}
	k.tables = []grid{g}
	if len(r.Comparisons) > 1 {
		k.notes = []string{"Several comparisons: each FAIL has stood Holm's correction."}
	}
	return []block{k}
}

// worstFirst sorts what failed before the rest: where there is no room for all, it is what must be seen.
func worstFirst(list []stats.GateComparison) []stats.GateComparison {
	order := []stats.Verdict{stats.Invalid, stats.Fail, stats.Inconclusive, stats.Pass}
	return slices.SortedStableFunc(slices.Values(list), func(a, b stats.GateComparison) int {
		return cmp.Compare(slices.Index(order, a.Verdict), slices.Index(order, b.Verdict))
	})
}

func gateArmsBlock(r *stats.GateResult) block {
	k := block{title: "All blocks together, in milliseconds", plain: "Pooled latencies of each arm. They do not decide: drift of the machine is in them."}
	g := grid{caption: "Latency in milliseconds", head: []string{"", "requests", "errors", "p50", "p99", "p99.9", "max", "blocks stalled"}}
	for _, x := range []struct {
		name string
		a    *stats.GateArmResult
	}{{"baseline", &r.Arms.Baseline}, {"candidate", &r.Arms.Candidate}} {
		l := &x.a.Latency
		places := latencyPlaces(l.MaxMS)
		row := []string{x.name, count(x.a.OK), count(x.a.Errors)}
		for _, ms := range []float64{l.P50MS, l.P99MS, l.P999MS, l.MaxMS} {
			cell := "–"
			if l.Count > 0 {
				cell = decimal(ms, places)
			}
			row = append(row, cell)
		}
		g.rows = append(g.rows, append(row, count(int64(x.a.StalledBlocks))))
	}
	k.tables = []grid{g}
	k.notes = append(k.notes, gateArmNotes(r)...)
	if r.Arms.Baseline.StalledBlocks+r.Arms.Candidate.StalledBlocks > 0 {
		k.notes = append(k.notes, "Stalled: p99 above twice the arm's median. Rare stalls are too few here to be judged; a long nightly run can.")
	}
	return k
}

// gateArmNotes says which errors there were, and what was billed.
func gateArmNotes(r *stats.GateResult) []string {
	var notes []string
	for _, x := range []struct {
		name string
		a    *stats.GateArmResult
	}{{"baseline", &r.Arms.Baseline}, {"candidate", &r.Arms.Candidate}} {
		for i, e := range x.a.ErrorClasses {
			if i == maxListed {
				notes = append(notes, fmt.Sprintf("Errors of the %s: %s.", x.name, plural(int64(len(x.a.ErrorClasses)-i), "more kind")))
				break
			}
			note := fmt.Sprintf("Errors of the %s: %s × %s", x.name, clean(e.Class), count(e.Count))
			if e.Example != "" && e.Example != e.Class {
				note += ", such as: " + clean(e.Example)
			}
			notes = append(notes, note)
		}
	}
	if a, b := r.Arms.Baseline.CostPerMillion, r.Arms.Candidate.CostPerMillion; a != "" || b != "" {
		notes = append(notes, fmt.Sprintf("Billed per million requests at list price: baseline %s, candidate %s; requests and duration, nothing of what lies before or behind the function.",
			statedUSD(a), statedUSD(b)))
	}
	return notes
}

// maxListed is how many classes of errors an arm shows.
const maxListed = 5

func statedUSD(amount string) string {
	if amount == "" {
		return "not stated"
	}
	return "$" + clean(amount)
}

func gateObjectivesBlock(r *stats.GateResult) (block, bool) {
	if len(r.Objectives) == 0 {
		return block{}, false
	}
	k := block{title: "Objectives of the candidate", plain: "FAIL only where the lower limit is above the objective: chance cannot explain it."}
	g := grid{caption: "Objectives", head: []string{"objective", "observed", "at least", "at most", "verdict"}, text: []int{4}}
	for _, o := range r.Objectives {
		number := func(n stats.GateNumber) string {
			if !n.Known() {
				return "?"
			}
			if strings.HasPrefix(o.Objective, "error_ratio") {
				return fixed(float64(n)*100, 3) + " %"
			}
			return figure(float64(n)) + " ms"
		}
		g.rows = append(g.rows, []string{clean(o.Objective), number(o.Observed), number(o.Lower), number(o.Upper), string(o.Verdict)})
	}
	k.tables = []grid{g}
	return k, true
}

func gateNoiseBlock(r *stats.GateResult) (block, bool) {
	if len(r.Detectable) == 0 && r.Goal == nil {
		return block{}, false
	}
	k := block{title: "What this machine can show", plain: "The smallest rise that is found in 80 of 100 jobs, at the noise that was measured."}
	if len(r.Detectable) > 0 {
		g := grid{caption: "Smallest rise that is found", head: []string{"blocks", "rise"}}
		for _, d := range r.Detectable {
			g.rows = append(g.rows, []string{count(int64(d.Blocks)), shareText(d.MinimumDetectableRatio)})
		}
		k.tables = []grid{g}
	}
	switch {
	case r.Goal == nil:
	case r.Goal.Blocks == 0:
		k.notes = append(k.notes, fmt.Sprintf("No number of blocks finds a rise of %s: it is within the tolerance, or nothing is known of the noise.", shareText(stats.GateNumber(r.Goal.ChangeRatio))))
	default:
		k.notes = append(k.notes, fmt.Sprintf("To find a rise of %s takes %s.", shareText(stats.GateNumber(r.Goal.ChangeRatio)), plural(int64(r.Goal.Blocks), "block")))
	}
	return k, true
}

// SummaryMarker lets a job that writes comments find its own one again. It is HTML that is not shown.
const SummaryMarker = "<!-- cirrusbench gate -->"

// What GitHub takes: bytes of a step's summary, and characters of a comment.
const (
	MaxStepSummary = 1 << 20
	MaxComment     = 65_536
)

// GateSummary renders the verdict for a CI step summary or a comment: the verdict in the first line, then one table, the
// rest folded. It stays within limit bytes, and so within as many characters: first the details go, then the last
// lines, and both are said with a count. With no room for even that, it writes nothing.
func GateSummary(w io.Writer, r *stats.GateResult, limit int) error {
	if r == nil {
		return errNothing
	}
	mark := map[stats.Verdict]string{stats.Pass: "✅", stats.Fail: "❌", stats.Inconclusive: "❔", stats.Invalid: "⚠️"}[r.Verdict]
	var head, details bytes.Buffer
	fmt.Fprintf(&head, "## %s %s\n%s\n", mark, markdownText(gateTitle(r)), SummaryMarker)
	for _, reason := range r.Reasons {
		fmt.Fprintf(&head, "\n- %s\n", markdownText(clean(reason)))
	}
	if r.Advisory && !gateUnread(r) {
		head.WriteString("\n- Advisory: two stored runs, not measured side by side.\n")
	}
	for _, k := range gateComparisonBlocks(r) {
		head.WriteByte('\n')
		if err := k.tables[0].markdown(&head); err != nil {
			return err
		}
	}
	details.WriteString("\n<details><summary>Details</summary>\n\n")
	var body bytes.Buffer
	if err := Gate(&body, Markdown, r); err != nil {
		return err
	}
	// The title and what follows it up to the facts stand above already.
	at := bytes.Index(body.Bytes(), []byte("\n- **Baseline:**"))
	if at < 0 {
		at = bytes.Index(body.Bytes(), []byte("\n- **Rule:**"))
	}
	if at >= 0 {
		details.Write(body.Bytes()[at:])
	} else {
		details.Write(body.Bytes())
	}
	details.WriteString("\n</details>\n\n")

	text := head.String() + details.String()
	if len(text) > limit {
		text = head.String() + fmt.Sprintf("\nDetails of %s are left out: there is no room for them here.\n", size(int64(details.Len())))
	}
	if len(text) > limit {
		text = cutLines(text, limit)
	}
	if _, err := io.WriteString(w, strings.ReplaceAll(text, nbsp, " ")); err != nil {
		return fmt.Errorf("writing a summary: %w", err)
	}
	return nil
}

// cutLines shortens text to limit bytes by leaving out its last lines, and says how many. A first line that is too long
// by itself is cut within.
func cutLines(text string, limit int) string {
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	note := func(kept int) string {
		return fmt.Sprintf("\n… %s of %s left out (%s in all).\n", count(int64(len(lines)-kept)), plural(int64(len(lines)), "line"), size(int64(len(text))))
	}
	room := limit - len(note(0)) // the longest: it counts the most
	if room <= 0 {
		return ""
	}
	kept, used := 0, 0
	for kept < len(lines) && used+len(lines[kept]) <= room {
		used += len(lines[kept])
		kept++
	}
	if kept == 0 {
		for used = room; used > 0 && !utf8.RuneStart(text[used]); {
			used--
		}
	}
	return text[:used] + note(kept)
}

// junitSuite is the part of JUnit's XML that CI systems agree on.
type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitMessage `xml:"failure"`
	Error   *junitMessage `xml:"error"`
	Skipped *junitMessage `xml:"skipped"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// GateJUnit writes the verdict as JUnit XML: one test case for each comparison and objective. FAIL is a failure,
// INVALID an error, INCONCLUSIVE a skipped test with a message.
func GateJUnit(w io.Writer, r *stats.GateResult) error {
	if r == nil {
		return errNothing
	}
	s := junitSuite{Name: "cirrusbench gate"}
	text := visibleLines(r.Reasons)
	add := func(name string, v stats.Verdict, message string) {
		c := junitCase{Class: "cirrusbench.gate", Name: name}
		m := &junitMessage{Message: message, Text: text}
		switch v {
		case stats.Fail:
			c.Failure = m
			s.Failures++
		case stats.Invalid:
			c.Error = m
			s.Errors++
		case stats.Inconclusive:
			c.Skipped = m
			s.Skipped++
		}
		s.Tests++
		s.Cases = append(s.Cases, c)
	}
	headline := strings.ReplaceAll(gateTitle(r), nbsp, " ")
	for _, c := range r.Comparisons {
		name, verdict := clean(c.Metric), c.Verdict
		if c.Org != "" {
			name += " org=" + clean(c.Org)
		}
		if r.Verdict == stats.Invalid {
			verdict = stats.Invalid
		}
		message := headline
		if verdict == c.Verdict {
			message = strings.ReplaceAll(fmt.Sprintf("%s: %s %s (%s to %s)", verdict, name, changeText(c.EstimateRatio), changeText(c.LowerRatio), changeText(c.UpperRatio)), nbsp, " ")
		}
		add(name, verdict, message)
	}
	if len(r.Comparisons) == 0 {
		add(clean(r.Metric), r.Verdict, headline)
	}
	for _, o := range r.Objectives {
		add(clean(o.Objective), o.Verdict, string(o.Verdict)+": "+clean(o.Objective))
	}
	out, err := xml.MarshalIndent(&s, "", "  ")
	if err != nil {
		return fmt.Errorf("rendering JUnit XML: %w", err)
	}
	if _, err := io.WriteString(w, xml.Header+string(out)+"\n"); err != nil {
		return fmt.Errorf("writing JUnit XML: %w", err)
	}
	return nil
}

func visibleLines(reasons []string) string {
	var lines []string
	for _, r := range reasons {
		lines = append(lines, clean(r))
	}
	return strings.Join(lines, "\n")
}

// GateAnnotations writes a GitHub workflow command for the verdict, so that it shows beside the change: an error
// for FAIL and INVALID, a warning for INCONCLUSIVE, nothing for PASS.
func GateAnnotations(w io.Writer, r *stats.GateResult) error {
	if r == nil {
		return errNothing
	}
	level := "error"
	switch r.Verdict {
	case stats.Pass:
		return nil
	case stats.Inconclusive:
		level = "warning"
	}
	_, err := fmt.Fprintf(w, "::%s title=%s::%s\n", level, commandProperty("cirrusbench gate: "+string(r.Verdict)),
		commandData(strings.ReplaceAll(gateTitle(r), nbsp, " ")+"\n"+visibleLines(r.Reasons)))
	if err != nil {
		return fmt.Errorf("writing annotations: %w", err)
	}
	return nil
}

// commandData escapes the message of a workflow command, in which a new line would begin another command.
func commandData(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

// commandProperty escapes a property, in which a colon or a comma would end it as well.
func commandProperty(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}
