package stats

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// GateMetric is a number of one arm that a gate compares. Smaller is better.
type GateMetric struct {
	// Name is the metric's name in flags and JSON, such as p99_ms.
	Name string
	// quantile is the percentile behind it, as a ratio; 0 for a number that comes ready-made.
	quantile float64
	service  bool // of the service time instead of latency
	delta    bool // above the median
	needs    int64
	lax      bool // whatever there is will do
	// stepMS is the step in which a ready-made number is reported; 0 when it has none of note.
	stepMS float64
}

// gateMetrics lists what can be compared, the default first.
func gateMetrics() []GateMetric {
	// Ten requests beyond a percentile are what it takes for it to be more than chance. Deltas need what
	// their support needs, and never less than that of their p99.
	return []GateMetric{
		{Name: "p99_ms", quantile: qD2, needs: 1_000},
		{Name: "p50_ms", quantile: qMedian, needs: 20},
		{Name: "p90_ms", quantile: 0.90, needs: 100},
		{Name: "p95_ms", quantile: 0.95, needs: 200},
		{Name: "p99_9_ms", quantile: qD3, needs: 10_000},
		{Name: "p99_99_ms", quantile: qD4, needs: 100_000},
		{Name: "service_p50_ms", quantile: qMedian, service: true, needs: 20},
		{Name: "service_p99_ms", quantile: qD2, service: true, needs: 1_000},
		{Name: "service_p99_9_ms", quantile: qD3, service: true, needs: 10_000},
		{Name: "d2_ms", quantile: qD2, delta: true, needs: 1_000},
		{Name: "d3_ms", quantile: qD3, delta: true, needs: 1_001},
		{Name: "d4_ms", quantile: qD4, delta: true, needs: 10_001},
		{Name: "d5_ms", quantile: qD5, delta: true, needs: 100_001},
		// Lambda's Duration has two decimals. What is billed is whole milliseconds, of which a percentile is too
		// coarse: at 5 ms one step is 20 %. A mean of many is not.
		{Name: "duration_p99_ms", needs: 1_000, stepMS: 0.01},
		{Name: "billed_mean_ms", needs: 20},
		{Name: CostMetric, needs: 20},
	}
}

// CostMetric is the name of the metric that is money: what a million requests are billed, in US dollars.
const CostMetric = "cost_usd_per_million"

// GateMetricNames lists the names that [ParseGateMetric] knows, the default first.
func GateMetricNames() []string {
	var names []string
	for _, m := range gateMetrics() {
		names = append(names, m.Name)
	}
	return names
}

// ParseGateMetric finds a metric by its name. An unknown one is an [*InputError].
func ParseGateMetric(name string) (GateMetric, error) {
	for _, m := range gateMetrics() {
		if m.Name == name {
			return m, nil
		}
	}
	return GateMetric{}, &InputError{
		Msg:  fmt.Sprintf("metric %q is unknown", name),
		Hint: "use one of " + strings.Join(GateMetricNames(), ", "),
	}
}

// Needs is the number of requests that an arm must be sent in a block for the metric to mean anything.
func (m GateMetric) Needs() int64 {
	if m.lax {
		return 1
	}
	return m.needs
}

// needsOK is how many successes that leaves when a share of the requests may fail: one error in a thousand must
// not void a gate that allows ten. What a percentile needs so as not to interpolate the maximum is never waived.
func (m GateMetric) needsOK(maxErrorRatio float64) int64 {
	if m.lax {
		return 1
	}
	support := int64(0)
	if m.quantile > 0 {
		support = int64(math.Round(1/(1-m.quantile))) + 1
	}
	return max(int64(math.Ceil(float64(m.needs)*(1-maxErrorRatio))), min(support, m.needs))
}

// WithoutSupport returns the metric without that need.
func (m GateMetric) WithoutSupport() GateMetric {
	m.lax = true
	return m
}

func (m GateMetric) strict() GateMetric {
	m.lax = false
	return m
}

// ReadyMade tells whether the number comes from what the target says of itself, and not from what was measured here.
func (m GateMetric) ReadyMade() bool { return m.quantile == 0 }

// FromDue tells whether the metric counts from the intended send, so that lateness of the load generator is
// part of it.
func (m GateMetric) FromDue() bool { return m.quantile > 0 && !m.service }

// gateFamily names one comparison of a gate: a metric of all requests or of one org's.
type gateFamily struct{ metric, org string }

func (s *GateSample) histogram(m GateMetric, org string) *Histogram {
	switch {
	case org != "":
		return s.ByOrg[org]
	case m.service:
		return s.Service
	default:
		return s.Latency
	}
}

// value returns the metric in its unit, NaN when the arm has none. org "" stands for all requests.
func (s *GateSample) value(m GateMetric, org string) float64 {
	if m.quantile == 0 {
		if v, ok := s.Extra[m.Name]; ok && org == "" {
			return v
		}
		return math.NaN()
	}
	h := s.histogram(m, org)
	if h == nil || h.Count() == 0 {
		return math.NaN()
	}
	q := h.Quantiles(m.quantile, qMedian)
	if m.delta {
		return q[0] - q[1]
	}
	return q[0]
}

// count is the number of values behind [GateSample.value].
func (s *GateSample) count(m GateMetric, org string) int64 {
	if m.ReadyMade() {
		return s.Reports
	}
	if h := s.histogram(m, org); h != nil {
		return h.Count()
	}
	return 0
}

// limits bounds the metric of the population behind one sample: each limit is wrong with a probability of at
// most alpha as far as chance in the sample goes.
func (s *GateSample) limits(m GateMetric, org string, alpha float64) (lowerMS, upperMS float64) {
	h := s.histogram(m, org)
	if m.quantile == 0 || h == nil {
		return 0, math.Inf(1)
	}
	if !m.delta {
		return h.QuantileLimits(m.quantile, alpha)
	}
	// Both percentiles may err at once: half the error for each.
	low, high := h.QuantileLimits(m.quantile, alpha/2)
	medianLow, medianHigh := h.QuantileLimits(qMedian, alpha/2)
	return max(low-medianHigh, 0), high - medianLow
}

// resolutionMS is the step in which the metric can change.
func (s *GateSample) resolutionMS(m GateMetric, valueMS float64) float64 {
	if m.ReadyMade() {
		return m.stepMS
	}
	return toMS(1) * float64(bucketWidthNS(int64(max(valueMS, 0)*1e6)))
}

// GateSample is what one arm measured in one block, or in a whole stored run.
type GateSample struct {
	Counts Counts
	// LateSends is how many requests left after the second in which the plan's last one was due.
	LateSends int64
	// NotReady is how many bodies were not prepared when they were due.
	NotReady int64
	Client   Client
	Latency  *Histogram
	Service  *Histogram
	// ScheduleError is how late the load generator sent; nil when that is not known.
	ScheduleError *Histogram
	// ByOrg splits Latency by org.
	ByOrg map[string]*Histogram
	// Extra has numbers that come ready-made, by metric name, from so many Reports of the target.
	Extra   map[string]float64
	Reports int64
	// CostPerMillion is the one of [CostMetric] as it is printed, a decimal: dollars are no float.
	CostPerMillion string
	// Errors are the classes of requests that are not OK.
	Errors []ErrorCount
}

// NewGateSample takes what a gate needs from a run. A run without histograms, or with one that cannot be read,
// is an error.
func NewGateSample(run *Run) (GateSample, error) {
	g := newGateSampler(true)
	for i := range run.Pairs {
		g.pair(&run.Pairs[i])
	}
	for i := range run.Timeline {
		g.second(&run.Timeline[i])
	}
	return g.sample(run)
}

// gateSampler makes the sample of a run, whose pairs and seconds it takes one by one and before the rest: it keeps the sum.
type gateSampler struct {
	latency *Histogram
	byOrg   map[string]*Histogram // nil when nobody asks for it
	sent    []int64               // by second
	err     error                 // of the first histogram that cannot be read
}

func newGateSampler(byOrg bool) *gateSampler {
	g := &gateSampler{latency: NewPackedHistogram()}
	if byOrg {
		g.byOrg = map[string]*Histogram{}
	}
	return g
}

func (g *gateSampler) pair(p *RunPair) {
	if p.Count == 0 || g.err != nil {
		return
	}
	h, err := p.Decode()
	if err != nil {
		g.err = fmt.Errorf("reading the run's histograms: %w", err)
		return
	}
	g.latency.Merge(h)
	if g.byOrg == nil {
		return
	}
	org, _, _ := strings.Cut(p.Source, "/")
	if g.byOrg[org] == nil {
		g.byOrg[strings.Clone(org)] = NewPackedHistogram()
	}
	g.byOrg[org].Merge(h)
}

func (g *gateSampler) second(p *TimelinePoint) {
	if p.Sent == 0 {
		return
	}
	t := int(min(max(p.TS, 0), maxTimelineSeconds-1))
	if t >= len(g.sent) {
		g.sent = append(g.sent, make([]int64, t+1-len(g.sent))...)
	}
	g.sent[t] += p.Sent
}

// sample returns the sample of the run whose lists were taken; run need not have them.
func (g *gateSampler) sample(run *Run) (GateSample, error) {
	if err := run.Whole(); err != nil {
		return GateSample{}, err
	}
	s := GateSample{
		Counts: run.Counts, Client: run.Client, Latency: g.latency, Service: NewPackedHistogram(),
		ByOrg: g.byOrg, Extra: map[string]float64{}, Errors: run.Errors,
	}
	if g.err != nil {
		return s, g.err
	}
	if run.Histograms != nil && run.Histograms.Service != nil {
		h, err := run.Histograms.Service.Decode()
		if err != nil {
			return s, fmt.Errorf("reading the run's service times: %w", err)
		}
		s.Service.Merge(h)
	}
	if run.Histograms != nil && run.Histograms.ScheduleError != nil {
		h, err := run.Histograms.ScheduleError.Decode()
		if err != nil {
			return s, fmt.Errorf("reading the run's schedule errors: %w", err)
		}
		s.ScheduleError = h
	}
	if run.Plan.Loop == "open" && run.Plan.RatePerS > 0 {
		lastDue := float64(run.Plan.Planned-1) / run.Plan.RatePerS
		for t, sent := range g.sent {
			if float64(t) > lastDue {
				s.LateSends += sent
			}
		}
	}
	return s, nil
}

// orgs returns the names in either arm, sorted.
func orgs(a, b *GateSample) []string {
	all := maps.Clone(a.ByOrg)
	maps.Copy(all, b.ByOrg)
	return slices.Sorted(maps.Keys(all))
}
