package stats

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CompareSchema is the value of "schema" in the JSON of a comparison.
const CompareSchema = "cirrusbench/compare/v1"

// compareAlpha is the error probability of every interval of a comparison: 95 % confidence.
const compareAlpha = 0.05

// Comparison is two or more runs side by side. The first is what the others are compared with.
type Comparison struct {
	Schema string `json:"schema"`
	Tool   Tool   `json:"tool"`
	// ConfidenceRatio is of every interval: it knows the chance within a run and not what differs between two
	// machines or two moments.
	ConfidenceRatio float64 `json:"confidence_ratio"`
	// Unlike says what the runs do not share although they should; empty when nothing.
	Unlike  []string        `json:"unlike"`
	Runs    []ComparedRun   `json:"runs"`
	Metrics []CompareMetric `json:"metrics"`
}

// ComparedRun is one of the runs.
type ComparedRun struct {
	Name      string            `json:"name"`
	StartedAt time.Time         `json:"started_at,omitzero"`
	Labels    map[string]string `json:"labels,omitempty"`
	Target    Target            `json:"target"`
	Plan      Plan              `json:"plan"`
	Corpus    Corpus            `json:"corpus"`
	Counts    Counts            `json:"counts"`
	Verdict   string            `json:"verdict"`
}

// CompareMetric is one number of all runs, in the order of the runs.
type CompareMetric struct {
	// Name carries its unit: p99_ms, error_ratio, rate_per_s.
	Name   string         `json:"name"`
	Values []CompareValue `json:"values"`
}

// CompareValue is one number of one run. Without an interval, Lower and Upper are null.
type CompareValue struct {
	Value GateNumber `json:"value"`
	Lower GateNumber `json:"lower"`
	Upper GateNumber `json:"upper"`
	// USD is the value where it is money, a decimal; Value is null then.
	USD string `json:"usd,omitempty"`
	// Supported is false where a percentile interpolates the maximum.
	Supported bool `json:"supported"`
	// Change is this run over the first one, with an interval; null for the first run and where none is known.
	Change *CompareChange `json:"change"`
}

// CompareChange is a ratio of two runs, 1 when equal. Clear tells that the interval leaves out 1.
type CompareChange struct {
	Ratio      GateNumber `json:"ratio"`
	LowerRatio GateNumber `json:"lower_ratio"`
	UpperRatio GateNumber `json:"upper_ratio"`
	Clear      bool       `json:"clear"`
}

// NamedRun is a run with the name that it goes by in a comparison.
type NamedRun struct {
	Name string
	Run  *Run
	// Extra has numbers that the run file does not state itself, such as billed_mean_ms.
	Extra map[string]float64
	// CostPerMillion is the one of [CostMetric] as it is printed, a decimal.
	CostPerMillion string
}

// CompareRuns puts runs side by side, the first being what the others are compared with. It takes unlike ones and
// says so in [Comparison.Unlike]. The limits of a percentile are order statistics with binomial ranks, those of an
// error ratio are Clopper and Pearson's; those of a change follow from them, each end with half the error.
func CompareRuns(runs []NamedRun) (*Comparison, error) {
	if len(runs) < 2 {
		return nil, errors.New("comparing takes at least two runs")
	}
	c := &Comparison{Schema: CompareSchema, ConfidenceRatio: 1 - compareAlpha, Unlike: []string{}}
	samples := make([]GateSample, len(runs))
	for i, r := range runs {
		s, err := NewGateSample(r.Run)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
		samples[i] = s
		c.Runs = append(c.Runs, ComparedRun{
			Name: r.Name, StartedAt: r.Run.StartedAt, Labels: r.Run.Labels, Target: r.Run.Target, Plan: r.Run.Plan,
			Corpus: r.Run.Corpus, Counts: r.Run.Counts, Verdict: r.Run.Client.Verdict,
		})
		if first := runs[0].Run; r.Run.Corpus.SHA256 != first.Corpus.SHA256 {
			c.Unlike = append(c.Unlike, fmt.Sprintf("%s replayed another corpus than %s", r.Name, runs[0].Name))
		} else if r.Run.Plan.SHA256 != first.Plan.SHA256 {
			c.Unlike = append(c.Unlike, fmt.Sprintf("%s followed another plan than %s", r.Name, runs[0].Name))
		}
	}
	for _, m := range compareMetrics() {
		c.add(m.Name, len(runs), func(i int, alpha float64) (CompareValue, float64, float64) {
			lower, upper := samples[i].limits(m, "", alpha)
			n := samples[i].count(m, "")
			v := CompareValue{Value: GateNumber(samples[i].value(m, "")), Supported: float64(n-1)*(1-m.quantile) >= 1-1e-9}
			return v, lower, upper
		})
	}
	for _, l := range pairLevels() {
		c.add(l.name, len(runs), func(i int, alpha float64) (CompareValue, float64, float64) {
			return medianOverPairs(runs[i].Run, l, alpha)
		})
	}
	c.add("error_ratio", len(runs), func(i int, alpha float64) (CompareValue, float64, float64) {
		n := &runs[i].Run.Counts
		lower, upper := ProportionLimits(n.Failed+n.TimedOut, n.Sent, alpha)
		return CompareValue{Value: GateNumber(float64(n.Failed+n.TimedOut) / float64(n.Sent)), Supported: true}, lower, upper
	})
	plain := func(name string, value func(i int) float64) {
		c.add(name, len(runs), func(i int, _ float64) (CompareValue, float64, float64) {
			return CompareValue{Value: GateNumber(value(i)), Supported: true}, math.NaN(), math.NaN()
		})
	}
	plain("rate_per_s", func(i int) float64 { return runs[i].Run.Achieved.RatePerS })
	plain("samples_per_s", func(i int) float64 { return runs[i].Run.Achieved.SamplesPerS })
	for _, name := range []string{"duration_p99_ms", "billed_mean_ms", CostMetric} {
		plain(name, func(i int) float64 {
			if v, ok := runs[i].Extra[name]; ok {
				return v
			}
			return math.NaN()
		})
	}
	if last := len(c.Metrics) - 1; last >= 0 && c.Metrics[last].Name == CostMetric {
		for i := range runs {
			v := &c.Metrics[last].Values[i]
			v.Value, v.USD = nan(), runs[i].CostPerMillion
		}
	}
	return c, nil
}

// pairLevel is one of D2 to D5 as it is defined: for each pair of a source and a destination.
type pairLevel struct {
	name string
	of   func(*DeltaSet) (ms float64, supported bool)
}

func pairLevels() []pairLevel {
	return []pairLevel{
		{"d2_pairs_median_ms", func(d *DeltaSet) (float64, bool) { return d.D2MS, d.Supported.D2 }},
		{"d3_pairs_median_ms", func(d *DeltaSet) (float64, bool) { return d.D3MS, d.Supported.D3 }},
		{"d4_pairs_median_ms", func(d *DeltaSet) (float64, bool) { return d.D4MS, d.Supported.D4 }},
		{"d5_pairs_median_ms", func(d *DeltaSet) (float64, bool) { return d.D5MS, d.Supported.D5 }},
	}
}

// medianOverPairs is the median of a level over the pairs of a run, with limits from the order statistics over the
// pairs. It is supported where every pair supports the level.
func medianOverPairs(run *Run, l pairLevel, alpha float64) (v CompareValue, lower, upper float64) {
	var values []float64
	v.Supported = true
	for i := range run.Pairs {
		if run.Pairs[i].Count == 0 {
			continue
		}
		ms, supported := l.of(&run.Pairs[i].Deltas)
		values = append(values, ms)
		v.Supported = v.Supported && supported
	}
	v.Value, lower, upper = nan(), math.NaN(), math.Inf(1)
	if len(values) == 0 {
		return v, lower, upper
	}
	slices.Sort(values)
	v.Value = GateNumber(quantileSorted(values, qMedian))
	first, last := quantileRanks(int64(len(values)), qMedian, alpha)
	if first >= 1 {
		lower = values[first-1]
	}
	if last <= int64(len(values)) {
		upper = values[last-1]
	}
	return v, lower, upper
}

// compareMetrics are the percentiles and deltas of a comparison.
func compareMetrics() []GateMetric {
	var list []GateMetric
	for _, m := range gateMetrics() {
		if m.quantile > 0 {
			list = append(list, m)
		}
	}
	list[0], list[1], list[2], list[3] = list[1], list[2], list[3], list[0] // ascending: p99 is the gate's default only
	return list
}

// add appends a metric unless no run has it. measure returns the value of a run and its limits at an error
// probability for each.
func (c *Comparison) add(name string, runs int, measure func(i int, alpha float64) (v CompareValue, lower, upper float64)) {
	m := CompareMetric{Name: name}
	known := false
	for i := range runs {
		v, lower, upper := measure(i, compareAlpha/2)
		v.Lower, v.Upper = GateNumber(lower), GateNumber(upper)
		known = known || v.Value.Known()
		if i > 0 {
			v.Change = changeOf(i, measure)
		}
		m.Values = append(m.Values, v)
	}
	if known {
		c.Metrics = append(c.Metrics, m)
	}
}

func changeOf(i int, measure func(i int, alpha float64) (v CompareValue, lower, upper float64)) *CompareChange {
	a, aLow, aHigh := measure(0, compareAlpha/4)
	b, bLow, bHigh := measure(i, compareAlpha/4)
	ch := &CompareChange{Ratio: GateNumber(float64(b.Value) / float64(a.Value)), LowerRatio: GateNumber(bLow / aHigh), UpperRatio: GateNumber(bHigh / aLow)}
	if !ch.Ratio.Known() {
		return nil
	}
	// No limit is better than one that says nothing.
	if ch.LowerRatio == 0 || !ch.LowerRatio.Known() {
		ch.LowerRatio = nan()
	}
	if !ch.UpperRatio.Known() {
		ch.UpperRatio = nan()
	}
	ch.Clear = ch.LowerRatio > 1 || ch.UpperRatio < 1
	return ch
}

// WriteJSON writes the comparison: indented, in a fixed order, with a newline at the end.
func (c *Comparison) WriteJSON(w io.Writer) error {
	if err := writeJSON(w, c); err != nil {
		return fmt.Errorf("writing the comparison: %w", err)
	}
	return nil
}

// WriteBenchfmt writes the runs in the Go benchmark format, which benchstat and Bencher read: one result line a run,
// with the key "run" naming it (benchstat -col run).
func (c *Comparison) WriteBenchfmt(w io.Writer) error {
	var b strings.Builder
	for _, m := range c.Metrics {
		better := "lower"
		if strings.HasSuffix(m.Name, "_per_s") {
			better = "higher"
		}
		fmt.Fprintf(&b, "Unit %s better=%s\n", benchUnit(m.Name), better)
	}
	for i, r := range c.Runs {
		fmt.Fprintf(&b, "\nrun: %s\nBenchmarkReplay %d", oneWord(r.Name), max(r.Counts.OK, 1))
		for _, m := range c.Metrics {
			switch v := m.Values[i]; {
			case v.USD != "":
				fmt.Fprintf(&b, " %s %s", v.USD, benchUnit(m.Name))
			case v.Value.Known():
				fmt.Fprintf(&b, " %s %s", strconv.FormatFloat(float64(v.Value), 'f', -1, 64), benchUnit(m.Name))
			}
		}
		b.WriteByte('\n')
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing benchmark lines: %w", err)
	}
	return nil
}

// benchUnit is a metric's name as a unit of the Go benchmark format.
func benchUnit(name string) string { return strings.ReplaceAll(name, "_", "-") }

// oneWord keeps a name from becoming two lines.
func oneWord(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, s)
}

// WriteActionBenchmark writes the last run as github-action-benchmark's customSmallerIsBetter reads it.
func (c *Comparison) WriteActionBenchmark(w io.Writer) error {
	type entry struct {
		Name  string      `json:"name"`
		Unit  string      `json:"unit"`
		Value json.Number `json:"value"` // an amount of money keeps its digits
		Range string      `json:"range,omitempty"`
		Extra string      `json:"extra,omitempty"`
	}
	list := []entry{}
	last := len(c.Runs) - 1
	for _, m := range c.Metrics {
		v := m.Values[last]
		if !v.Value.Known() && v.USD == "" || strings.HasSuffix(m.Name, "_per_s") { // larger is better there
			continue
		}
		name, unit := m.Name, "ratio"
		if n, ms := strings.CutSuffix(m.Name, "_ms"); ms {
			name, unit = n, "ms"
		}
		number := json.Number(v.USD)
		if v.USD != "" {
			unit = "USD"
		} else {
			number = json.Number(strconv.FormatFloat(math.Round(float64(v.Value)*1e6)/1e6, 'f', -1, 64))
		}
		e := entry{Name: name, Unit: unit, Value: number}
		if v.Lower.Known() && v.Upper.Known() {
			e.Range = fmt.Sprintf("%.6g to %.6g", float64(v.Lower), float64(v.Upper))
		}
		if !v.Supported {
			e.Extra = "too few requests: interpolates the maximum"
		}
		list = append(list, e)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(list); err != nil {
		return fmt.Errorf("writing benchmark entries: %w", err)
	}
	return nil
}
