package stats

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
)

// GateArm names a side of a comparison.
type GateArm string

// The arms of a gate.
const (
	Baseline  GateArm = "baseline"
	Candidate GateArm = "candidate"
)

// GateConfig is what a gate is to decide and by which rule.
type GateConfig struct {
	Rule   GateRule
	Metric GateMetric // the one that decides
	// ByOrg lets each org decide by itself instead of all requests together.
	ByOrg bool
	// MaxErrorRatio is the share of requests that may fail in either arm.
	MaxErrorRatio float64
	// Objectives must hold for the candidate by themselves.
	Objectives []GateObjective
	// Self says that both arms are the same, to measure the noise.
	Self bool
	// Goal is a change to find; with Self the blocks that it takes are worked out. 0 for none.
	Goal float64
}

// The limits beyond which a block, or a whole gate, is not judged.
const (
	maxGateCPURatio      = 0.85
	idleCPURatio         = 0.50 // below it a late load generator waited for others
	maxScheduleShare     = 0.50 // of the metric: what the load generator itself may have added
	maxNotReadyShare     = 0.01
	minSentShare         = 0.99
	maxResolutionShare   = 0.02
	maxFisherP           = 0.01
	fewestBlocksToJudge  = 10 // before so many were tried, discarded ones are no pattern
	maxDiscardedFraction = 0.5
)

// Gate takes blocks one by one and applies the rule. Make one with [NewGate]; it is not safe for concurrent use.
type Gate struct {
	config   GateConfig
	started  bool
	blocks   []GateBlock
	families []gateFamily
	diffs    map[gateFamily][]float64
	pooled   map[GateArm]*armTotal
	done     bool
	verdict  Verdict
	reasons  []string
	decided  []GateDecision
	slo      []GateObjectiveResult
	kept     int
	dilution []float64 // of each kept block
	// unsupported: an arm had fewer successes in a block than the metric needs, which the configuration allows.
	unsupported bool
}

// armTotal is what all kept blocks of an arm add up to.
type armTotal struct {
	counts           Counts
	latency, service *Histogram
	p99              []float64
	saturated, runs  int64
	late             int64
	errors           map[string]ErrorCount
}

// NewGate returns a gate without blocks. The error says what is wrong with the configuration.
func NewGate(c GateConfig) (*Gate, error) {
	if err := c.Rule.Check(); err != nil {
		return nil, err
	}
	if c.ByOrg && !c.Metric.FromDue() {
		return nil, fmt.Errorf("metric %s is not known by org", c.Metric.Name)
	}
	if !(c.MaxErrorRatio >= 0 && c.MaxErrorRatio <= 1) {
		return nil, fmt.Errorf("the error ratio must be from 0 %% to 100 %%, not %v %%", c.MaxErrorRatio*100)
	}
	g := &Gate{config: c, diffs: map[gateFamily][]float64{}, verdict: Inconclusive, pooled: map[GateArm]*armTotal{}}
	for _, arm := range []GateArm{Baseline, Candidate} {
		g.pooled[arm] = &armTotal{latency: NewPackedHistogram(), service: NewPackedHistogram()}
	}
	return g, nil
}

// GateBlock is one block in the result: both arms measured once, one after the other.
type GateBlock struct {
	// First is the arm that a coin let begin.
	First GateArm `json:"first"`
	// Discarded is why the block does not count; empty when it does.
	Discarded string        `json:"discarded,omitempty"`
	Baseline  GateBlockSide `json:"baseline"`
	Candidate GateBlockSide `json:"candidate"`
}

// GateBlockSide is one arm in one block. Value is the metric in its own unit.
type GateBlockSide struct {
	OK     int64      `json:"ok"`
	Errors int64      `json:"errors"`
	P50MS  float64    `json:"p50_ms"`
	P99MS  float64    `json:"p99_ms"`
	Value  GateNumber `json:"value"`
	// CostPerMillion is in US dollars, a decimal; absent when the target does not say what it bills. Where money is the
	// metric, it stands here and Value is null.
	CostPerMillion     string  `json:"cost_usd_per_million,omitempty"`
	CPURatio           float64 `json:"cpu_ratio"`
	StealRatio         float64 `json:"steal_ratio"`
	ScheduleErrorP99MS float64 `json:"schedule_error_p99_ms"`
}

// Done tells that no further block is wanted.
func (g *Gate) Done() bool { return g.done }

// Kept is the number of blocks that count so far, and Tried of all.
func (g *Gate) Kept() int { return g.kept }

// Tried is the number of blocks so far, with those that do not count.
func (g *Gate) Tried() int { return len(g.blocks) }

// Add takes one block. When a block shows that nothing can be judged, such as an arm without a success, the
// gate is done at once; a block in which the load generator was the limit is set aside and another is wanted
// instead.
func (g *Gate) Add(first GateArm, baseline, candidate *GateSample) {
	if g.done {
		return
	}
	block := GateBlock{First: first, Baseline: g.side(baseline), Candidate: g.side(candidate)}
	block.Discarded = g.saturated(baseline, candidate)
	g.blocks = append(g.blocks, block)
	if reasons := g.unusable(baseline, candidate); len(reasons) > 0 {
		g.end(Invalid, reasons...)
		return
	}
	if block.Discarded != "" {
		g.judgeDiscarded()
		return
	}
	if !g.started {
		g.start(baseline, candidate)
	}
	for _, f := range g.families {
		g.diffs[f] = append(g.diffs[f], math.Log(candidate.value(g.config.Metric, f.org)/baseline.value(g.config.Metric, f.org)))
	}
	g.kept++
	g.dilution = append(g.dilution, g.diluted(baseline, candidate))
	g.pool(Baseline, baseline)
	g.pool(Candidate, candidate)
	if g.config.Rule.IsLook(g.kept) {
		g.look()
	}
}

// start settles what is compared, by the first block.
func (g *Gate) start(a, b *GateSample) {
	g.started = true
	if !g.config.ByOrg {
		g.families = []gateFamily{{g.config.Metric.Name, ""}}
		return
	}
	for _, org := range orgs(a, b) {
		g.families = append(g.families, gateFamily{g.config.Metric.Name, org})
	}
}

func (g *Gate) side(s *GateSample) GateBlockSide {
	side := GateBlockSide{
		OK: s.Counts.OK, Errors: s.Counts.Failed + s.Counts.TimedOut, Value: GateNumber(s.value(g.config.Metric, "")), CostPerMillion: s.CostPerMillion,
		CPURatio: roundRatio(s.Client.CPURatio), StealRatio: roundRatio(s.Client.StealRatio), ScheduleErrorP99MS: s.Client.ScheduleErrorP99MS,
	}
	if g.config.Metric.Name == CostMetric {
		side.Value = nan()
	}
	if s.Latency.Count() > 0 {
		q := s.Latency.Quantiles(qMedian, qD2)
		side.P50MS, side.P99MS = roundMS(q[0]), roundMS(q[1])
	}
	return side
}

func (g *Gate) pool(arm GateArm, s *GateSample) {
	t := g.pooled[arm]
	t.counts.add(&s.Counts)
	t.addErrors(s)
	t.late += s.LateSends
	t.latency.Merge(s.Latency)
	t.service.Merge(s.Service)
	if s.Latency.Count() > 0 {
		t.p99 = append(t.p99, s.Latency.Quantiles(qD2)[0])
	}
}

// saturated says that the load generator was the limit in either arm, and counts in which.
func (g *Gate) saturated(a, b *GateSample) string {
	reason := ""
	for _, side := range []struct {
		arm GateArm
		s   *GateSample
	}{{Baseline, a}, {Candidate, b}} {
		t := g.pooled[side.arm]
		t.runs++
		if why := side.s.saturated(g.config.Metric); why != "" {
			t.saturated++
			reason = cmp.Or(reason, fmt.Sprintf("the load generator was the limit while it measured the %s: %s", side.arm, why))
		}
	}
	return reason
}

// saturated says why the load generator may have made this sample. Lateness of the generator is the same for
// both arms, so it makes no difference between them. But it hides one: to a degree the rule makes up for that
// ([GateRule.Dilution]), beyond it the block is of no use.
func (s *GateSample) saturated(m GateMetric) string {
	if s.Client.CPURatio > maxGateCPURatio {
		return fmt.Sprintf("it used %.0f %% of its CPU (limit %.0f %%)", s.Client.CPURatio*100, maxGateCPURatio*100)
	}
	if s.Client.ThrottledPeriods > 0 {
		return fmt.Sprintf("the kernel throttled it for %.1f ms: its CPU quota was used up", s.Client.ThrottledMS)
	}
	if float64(s.NotReady) > maxNotReadyShare*float64(s.Counts.Planned) {
		return fmt.Sprintf("%d of %d bodies were not ready when they were due", s.NotReady, s.Counts.Planned)
	}
	if late, value := s.lateness(m); late > maxScheduleShare*value {
		why := ""
		if s.Client.CPURatio < idleCPURatio {
			why = fmt.Sprintf("; it used %.0f %% of its CPU, so something else keeps this machine busy", s.Client.CPURatio*100)
		}
		return fmt.Sprintf("requests left %.3f ms late at p%g, which is %.0f %% of the %.3f ms measured (limit %.0f %%)%s",
			late, 100*m.quantile, 100*late/value, value, 100*maxScheduleShare, why)
	}
	return ""
}

// lateness returns what the load generator may have added to the metric, and what was measured. It is the same
// percentile of both; in a delta, too, lateness adds to the percentile.
func (s *GateSample) lateness(m GateMetric) (lateMS, valueMS float64) {
	if !m.FromDue() || s.Latency.Count() == 0 || s.ScheduleError == nil || s.ScheduleError.Count() == 0 {
		return 0, 1
	}
	return s.ScheduleError.Quantiles(m.quantile)[0], s.Latency.Quantiles(m.quantile)[0]
}

// diluted is the larger share of lateness in either arm.
func (g *Gate) diluted(a, b *GateSample) float64 {
	share := 0.0
	for _, s := range []*GateSample{a, b} {
		if late, value := s.lateness(g.config.Metric); value > 0 {
			share = max(share, late/value)
		}
	}
	return share
}

// rule is the configured one, with the dilution of the blocks so far.
func (g *Gate) rule() GateRule {
	r := g.config.Rule
	if len(g.dilution) > 0 {
		r.Dilution = quantileSorted(slices.Sorted(slices.Values(g.dilution)), 0.5)
	}
	return r
}

// unusable lists what makes the samples no basis for any verdict.
func (g *Gate) unusable(a, b *GateSample) []string {
	var reasons []string
	m := g.config.Metric
	for _, side := range []struct {
		arm GateArm
		s   *GateSample
	}{{Baseline, a}, {Candidate, b}} {
		s, c := side.s, &side.s.Counts
		bad := func(format string, args ...any) {
			reasons = append(reasons, "the "+string(side.arm)+" "+fmt.Sprintf(format, args...))
		}
		switch {
		case c.Sent == 0:
			bad("was sent nothing")
			continue
		case c.OK == 0:
			bad("answered none of %d requests with success%s", c.Sent, s.worstError())
			continue
		case c.Sent < c.Planned && float64(c.Sent) < minSentShare*float64(c.Planned):
			bad("was sent %d of %d planned requests (limit %.0f %%)", c.Sent, c.Planned, minSentShare*100)
		}
		for _, org := range g.orgsToCheck(a, b) {
			name := ""
			if org != "" {
				name = " for org " + org
			}
			n, needs := s.count(m, org), m.needsOK(g.config.MaxErrorRatio)
			g.unsupported = g.unsupported || m.lax && n < m.strict().needsOK(g.config.MaxErrorRatio)
			if n == 0 && m.ReadyMade() {
				bad("does not say what it billed, so that it has no %s", m.Name)
				continue
			}
			if n < needs {
				few := strconv.FormatInt(needs, 10)
				if of := m.Needs(); of > needs {
					few = fmt.Sprintf("%d requests, %d of them with success", of, needs)
					if m.ReadyMade() {
						few = fmt.Sprintf("%d requests, %d of them with a report", of, needs)
					}
				}
				bad("has %s in a block%s; %s needs %s%s", m.counted(n), name, m.Name, few, s.worstError())
				continue
			}
			switch v := s.value(m, org); {
			case math.IsNaN(v):
				bad("has no %s%s", m.Name, name)
			case !(v > 0) || math.IsInf(v, 0):
				bad("has a %s of %v%s, of which no ratio can be taken", m.Name, v, name)
			case s.resolutionMS(m, v) > maxResolutionShare*v:
				bad("has a %s of %.4f ms%s, too short to be told apart: it comes in steps of %.4f ms", m.Name, v, name, s.resolutionMS(m, v))
			}
		}
	}
	return reasons
}

func (g *Gate) orgsToCheck(a, b *GateSample) []string {
	if !g.config.ByOrg {
		return []string{""}
	}
	return orgs(a, b)
}

// judgeDiscarded ends the gate when too few blocks are left, or when one arm makes the generator fail more than
// the other: then setting blocks aside would choose among the measurements.
func (g *Gate) judgeDiscarded() {
	if len(g.blocks) < fewestBlocksToJudge {
		return
	}
	if discarded := len(g.blocks) - g.kept; float64(discarded) > maxDiscardedFraction*float64(len(g.blocks)) {
		last := g.blocks[len(g.blocks)-1].Discarded
		g.end(Invalid, fmt.Sprintf("%d of %d blocks had to be set aside: %s", discarded, len(g.blocks), last))
		return
	}
	g.judgeSaturation()
}

func (g *Gate) judgeSaturation() {
	a, b := g.pooled[Baseline], g.pooled[Candidate]
	if p := FisherExact(a.saturated, a.runs, b.saturated, b.runs); p < maxFisherP {
		g.end(Invalid, fmt.Sprintf("the load generator was the limit in %d of %d measurements of the baseline and %d of %d of the candidate: the arms do not load it alike",
			a.saturated, a.runs, b.saturated, b.runs))
	}
}

// errorReasons compares the error ratios of all blocks so far with the limit and with each other, and asks whether
// the baseline could take the load.
func (g *Gate) errorReasons() []string {
	var reasons []string
	bad := map[GateArm]int64{}
	for _, arm := range []GateArm{Baseline, Candidate} {
		c := &g.pooled[arm].counts
		bad[arm] = c.Failed + c.TimedOut
		if ratio := float64(bad[arm]) / float64(c.Sent); ratio > g.config.MaxErrorRatio {
			reasons = append(reasons, fmt.Sprintf("%d of %d requests to the %s failed (%.2f %%, limit %.2f %%)%s", bad[arm], c.Sent, arm, ratio*100, g.config.MaxErrorRatio*100, worstError(g.pooled[arm].classes())))
		}
	}
	a, b := g.pooled[Baseline], g.pooled[Candidate]
	// A candidate that cannot keep up has long latencies, which say so. A baseline that cannot makes any candidate
	// look good. Single blocks in which it could not still count: to leave them out would choose by the outcome.
	if float64(a.late) > (1-minSentShare)*float64(a.counts.Planned) {
		reasons = append(reasons, fmt.Sprintf("the baseline does not keep up with the rate: %d of %d requests left after the last one was due", a.late, a.counts.Planned))
	}
	if p := FisherExact(bad[Baseline], a.counts.Sent, bad[Candidate], b.counts.Sent); p < maxFisherP {
		reasons = append(reasons, fmt.Sprintf("the arms fail differently: %d of %d requests to the baseline, %d of %d to the candidate (Fisher's exact test, p = %.2g); latencies of successes cannot be compared",
			bad[Baseline], a.counts.Sent, bad[Candidate], b.counts.Sent, p))
	}
	return reasons
}

// look applies the rule to the blocks so far.
func (g *Gate) look() {
	if reasons := g.errorReasons(); len(reasons) > 0 {
		g.end(Invalid, reasons...)
		return
	}
	if g.judgeSaturation(); g.done {
		return
	}
	data := make([][]float64, len(g.families))
	for i, f := range g.families {
		data[i] = g.diffs[f]
	}
	rule := g.rule()
	verdict, decisions := rule.DecideAll(data)
	g.decided = decisions
	total := g.pooled[Candidate]
	g.slo = nil
	var broken []string
	for _, o := range g.config.Objectives {
		r := o.Judge(total.latency, total.counts, rule.alphaPerLook())
		g.slo = append(g.slo, r)
		if r.Verdict == Fail {
			broken = append(broken, "the candidate breaks the objective "+o.Text)
		}
	}
	last := g.kept >= rule.MaxBlocks()
	switch {
	case len(broken) > 0:
		g.end(Fail, append(broken, g.explain(verdict, decisions)...)...)
	case verdict != Inconclusive || last:
		g.end(verdict, g.explain(verdict, decisions)...)
	}
}

// explain says in words what decided.
func (g *Gate) explain(verdict Verdict, decisions []GateDecision) []string {
	var reasons []string
	for i, d := range decisions {
		f := g.families[i]
		what := f.metric
		if f.org != "" {
			what += " of org " + f.org
		}
		limit := g.config.Rule.Tolerance * 100
		switch {
		case d.Verdict == Fail:
			reasons = append(reasons, fmt.Sprintf("%s is %.1f %% higher, and at least %.1f %%: beyond the tolerance of %.4g %%",
				what, (d.EstimateRatio-1)*100, (d.LowerRatio-1)*100, limit))
		case d.Verdict == Inconclusive && verdict != Fail:
			reasons = append(reasons, fmt.Sprintf("%s changed by something from %+.1f %% to %+.1f %%: after %d blocks that is neither within the tolerance of %.4g %% nor beyond it",
				what, (d.LowerRatio-1)*100, (d.UpperRatio-1)*100, d.Blocks, limit))
		}
	}
	return reasons
}

func (g *Gate) end(v Verdict, reasons ...string) {
	g.done, g.verdict, g.reasons = true, v, reasons
}

// Stop ends a gate that cannot go on, such as one that was interrupted. It is INVALID unless it was done before.
func (g *Gate) Stop(reason string) {
	if !g.done {
		g.end(Invalid, reason)
	}
}

// Result returns the outcome so far. What measured it and where is up to the caller.
func (g *Gate) Result() *GateResult {
	c := g.config
	r := &GateResult{
		Schema: GateSchema, Verdict: g.verdict, Reasons: slices.Clone(g.reasons), Self: c.Self,
		Metric: c.Metric.Name, ToleranceRatio: c.Rule.Tolerance, AlphaRatio: c.Rule.Alpha, MaxErrorRatio: c.MaxErrorRatio, ByOrg: c.ByOrg, Looks: slices.Clone(c.Rule.Looks),
		Unsupported: g.unsupported, Blocks: g.kept, Discarded: len(g.blocks) - g.kept, Objectives: g.slo, Measurements: g.blocks,
		DilutionRatio: math.Round(g.rule().Dilution*1e6) / 1e6, Comparisons: []GateComparison{}, EstimateRatio: nan(), LowerRatio: nan(), UpperRatio: nan(), MinimumDetectableRatio: nan(), Noise: nan(),
	}
	if r.Reasons == nil {
		r.Reasons = []string{}
	}
	if r.Objectives == nil {
		r.Objectives = []GateObjectiveResult{}
	}
	for i, f := range g.families {
		d := g.rule().Decide(g.diffs[f])
		if i < len(g.decided) {
			d.Verdict = g.decided[i].Verdict // Holm may have taken it back
		}
		r.Comparisons = append(r.Comparisons, newGateComparison(f, &d))
	}
	if head := worstComparison(r.Comparisons); head != nil {
		r.EstimateRatio, r.LowerRatio, r.UpperRatio = head.EstimateRatio, head.LowerRatio, head.UpperRatio
		r.MinimumDetectableRatio, r.Noise = head.MinimumDetectableRatio, head.Noise
	}
	noise := float64(r.Noise)
	if c.Goal > 0 {
		r.Goal = &GateGoal{ChangeRatio: c.Goal}
		if k, ok := c.Rule.BlocksFor(c.Goal, noise); ok {
			r.Goal.Blocks = k
		}
	}
	if c.Self && !math.IsNaN(noise) {
		for _, k := range DefaultGateRule().Looks {
			r.Detectable = append(r.Detectable, GateDetectable{k, GateNumber(c.Rule.MinimumDetectable(noise, k))})
		}
	}
	r.Arms.Baseline, r.Arms.Candidate = g.pooled[Baseline].result(), g.pooled[Candidate].result()
	return r
}

// worstComparison is the one that the headline shows: the highest lower limit.
func worstComparison(list []GateComparison) *GateComparison {
	var head *GateComparison
	for i := range list {
		if head == nil || list[i].LowerRatio > head.LowerRatio {
			head = &list[i]
		}
	}
	return head
}

func (t *armTotal) result() GateArmResult {
	r := GateArmResult{
		Sent: t.counts.Sent, OK: t.counts.OK, Errors: t.counts.Failed + t.counts.TimedOut,
		Latency: t.latency.Latency(), Service: t.service.Latency(), ErrorClasses: t.classes(),
	}
	if t.latency.Count() > 0 {
		// Latencies up to 24 h in buckets of one geometry can be encoded.
		if e, err := encodeHistogram(t.latency); err == nil {
			r.Histogram = &e
		}
	}
	if len(t.p99) > 0 {
		median := quantileSorted(slices.Sorted(slices.Values(t.p99)), 0.5)
		for _, v := range t.p99 {
			if v > 2*median {
				r.StalledBlocks++
			}
		}
	}
	return r
}

// addErrors takes over the classes of errors of a block.
func (t *armTotal) addErrors(s *GateSample) {
	for _, e := range s.Errors {
		if t.errors == nil {
			t.errors = map[string]ErrorCount{}
		}
		sum, known := t.errors[e.Class]
		if !known {
			sum = ErrorCount{Class: e.Class, Example: e.Example}
		}
		sum.Count += e.Count
		t.errors[e.Class] = sum
	}
}

// classes lists the errors of an arm by class, sorted.
func (t *armTotal) classes() []ErrorCount {
	list := make([]ErrorCount, 0, len(t.errors))
	for _, class := range slices.Sorted(maps.Keys(t.errors)) {
		list = append(list, t.errors[class])
	}
	return list
}

func (s *GateSample) worstError() string { return worstError(s.Errors) }

// worstError names the most frequent error, to be added to a reason; empty when there is none.
func worstError(list []ErrorCount) string {
	if len(list) == 0 {
		return ""
	}
	worst := MostFrequent(list)
	text := "; most often " + worst.Class
	if worst.Example != "" && worst.Example != worst.Class {
		text += ": " + worst.Example
	}
	return text
}

// counted says what a number of values of the metric are.
func (m GateMetric) counted(n int64) string {
	if m.ReadyMade() {
		return fmt.Sprintf("%d reports of what was billed", n)
	}
	return fmt.Sprintf("%d successes", n)
}

func roundRatio(r float64) float64 { return math.Round(r*1e4) / 1e4 }
