package stats

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"
)

// GateSchema is the value of "schema" in the JSON of a gate.
const GateSchema = "cirrusbench/gate/v1"

// GateNumber is a number that may be unknown or unbounded; JSON has null for both.
type GateNumber float64

func nan() GateNumber { return GateNumber(math.NaN()) }

// Known tells whether the number is finite.
func (n GateNumber) Known() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// MarshalJSON writes a finite number with six decimals at most, else null.
func (n GateNumber) MarshalJSON() ([]byte, error) {
	if !n.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(math.Round(float64(n)*1e6)/1e6 + 0)
}

// UnmarshalJSON reads null as NaN.
func (n *GateNumber) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = nan()
		return nil
	}
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*n = GateNumber(f)
	return nil
}

// GateResult is the outcome of a gate and all that led to it: the JSON of the gate and its baseline file.
//
// EstimateRatio, LowerRatio and UpperRatio are candidate over baseline, 1 when equal. ToleranceRatio and
// MinimumDetectableRatio are changes: 0.05 is 5 %.
type GateResult struct {
	Schema  string  `json:"schema"`
	Tool    Tool    `json:"tool"`
	Verdict Verdict `json:"verdict"`
	// Reasons say what decided; a PASS has none.
	Reasons []string `json:"reasons"`
	// Advisory: two stored runs were compared, which two machines or two moments may have made unequal.
	Advisory bool   `json:"advisory"`
	Self     bool   `json:"self"`
	Metric   string `json:"metric"`
	// Unsupported: there were too few requests for the metric in a block, and it was judged all the same, as asked.
	Unsupported    bool       `json:"unsupported"`
	EstimateRatio  GateNumber `json:"estimate_ratio"`
	LowerRatio     GateNumber `json:"lower_ratio"`
	UpperRatio     GateNumber `json:"upper_ratio"`
	ToleranceRatio float64    `json:"tolerance_ratio"`
	AlphaRatio     float64    `json:"alpha_ratio"`
	Looks          []int      `json:"looks"`
	// MaxErrorRatio is the share of requests that might fail, and ByOrg tells that each org was judged by itself.
	MaxErrorRatio          float64    `json:"max_error_ratio"`
	ByOrg                  bool       `json:"by_org"`
	Blocks                 int        `json:"blocks"`
	Discarded              int        `json:"discarded"`
	MinimumDetectableRatio GateNumber `json:"minimum_detectable_ratio"`
	// DilutionRatio is the share of the metric that the load generator may have added to both arms, in the median
	// of the blocks; a PASS was asked to lie below the tolerance by as much.
	DilutionRatio float64 `json:"dilution_ratio"`
	// Noise is the standard deviation of log(candidate/baseline) from block to block.
	Noise       GateNumber            `json:"noise"`
	Comparisons []GateComparison      `json:"comparisons"`
	Objectives  []GateObjectiveResult `json:"objectives"`
	Goal        *GateGoal             `json:"goal,omitempty"`
	Detectable  []GateDetectable      `json:"detectable,omitempty"`

	StartedAt  time.Time         `json:"started_at,omitzero"`
	FinishedAt time.Time         `json:"finished_at,omitzero"`
	Labels     map[string]string `json:"labels,omitempty"`
	Host       *GateHost         `json:"host,omitempty"`
	Plan       Plan              `json:"plan"`
	Corpus     Corpus            `json:"corpus"`
	// Seed is of the coin that orders the arms in a block.
	Seed         uint64      `json:"seed"`
	Arms         GateArms    `json:"arms"`
	Measurements []GateBlock `json:"measurements"`
}

// GateArms are the two sides of a gate.
type GateArms struct {
	Baseline  GateArmResult `json:"baseline"`
	Candidate GateArmResult `json:"candidate"`
}

// GateArmResult is all blocks of one arm together.
type GateArmResult struct {
	Target  Target  `json:"target"`
	Sent    int64   `json:"sent"`
	OK      int64   `json:"ok"`
	Errors  int64   `json:"errors"`
	Latency Latency `json:"latency"`
	Service Latency `json:"service"`
	// StalledBlocks counts blocks whose p99 is above twice the median p99 of the arm: rare stalls, which a
	// gate of this length cannot judge.
	StalledBlocks int `json:"stalled_blocks"`
	// ErrorClasses are the requests that are not OK, by class.
	ErrorClasses []ErrorCount `json:"error_classes"`
	// CostPerMillion is what a million requests are billed in US dollars at list price, a decimal, by all that was
	// measured; absent when the target does not say. The caller sets it.
	CostPerMillion string            `json:"cost_usd_per_million,omitempty"`
	Histogram      *EncodedHistogram `json:"histogram,omitempty"`
}

// GateComparison is one metric, of all requests or of one org's.
type GateComparison struct {
	Metric                 string     `json:"metric"`
	Org                    string     `json:"org,omitempty"`
	Verdict                Verdict    `json:"verdict"`
	EstimateRatio          GateNumber `json:"estimate_ratio"`
	LowerRatio             GateNumber `json:"lower_ratio"`
	UpperRatio             GateNumber `json:"upper_ratio"`
	PFail                  GateNumber `json:"p_fail"`
	Noise                  GateNumber `json:"noise"`
	MinimumDetectableRatio GateNumber `json:"minimum_detectable_ratio"`
}

func newGateComparison(f gateFamily, d *GateDecision) GateComparison {
	c := GateComparison{
		Metric: f.metric, Org: f.org, Verdict: d.Verdict, EstimateRatio: GateNumber(d.EstimateRatio),
		LowerRatio: GateNumber(d.LowerRatio), UpperRatio: GateNumber(d.UpperRatio), PFail: GateNumber(d.PFail),
		Noise: GateNumber(d.Noise), MinimumDetectableRatio: GateNumber(d.MinimumDetectable),
	}
	if c.LowerRatio == 0 {
		c.LowerRatio = nan() // no limit at all
	}
	return c
}

// GateGoal is a change to be found and the blocks that takes; 0 blocks: it is within the tolerance, or the noise
// is unknown.
type GateGoal struct {
	ChangeRatio float64 `json:"change_ratio"`
	Blocks      int     `json:"blocks"`
}

// GateDetectable is the smallest change that a number of blocks detects in 80 % of the cases.
type GateDetectable struct {
	Blocks                 int        `json:"blocks"`
	MinimumDetectableRatio GateNumber `json:"minimum_detectable_ratio"`
}

// GateHost describes the machine that measured.
type GateHost struct {
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	CPUModel string `json:"cpu_model,omitempty"`
	CPUs     int    `json:"cpus"`
	// Procs is how many of them the process may use, by its container's limits.
	Procs  int    `json:"procs"`
	Kernel string `json:"kernel,omitempty"`
	// CPUQuota is how many processors the container's quota lets the load generator use, and MemoryBytes the memory that it
	// may use; 0 when unknown.
	CPUQuota    float64 `json:"cpu_quota,omitempty"`
	MemoryBytes int64   `json:"memory_bytes,omitempty"`
}

// WriteJSON writes the result: indented, in a fixed order, with a newline at the end.
func (r *GateResult) WriteJSON(w io.Writer) error {
	if err := writeJSON(w, r); err != nil {
		return fmt.Errorf("writing the gate's result: %w", err)
	}
	return nil
}

// CompareStored judges two stored runs by the limits of their percentiles. These know only the chance within
// a run. What differs between two machines or two moments is in the numbers and not in the limits, so the result
// is advisory: the caller says so.
func CompareStored(c GateConfig, baseline, candidate *GateSample) (*GateResult, error) {
	g, err := NewGate(c)
	if err != nil {
		return nil, err
	}
	side := GateBlock{First: Baseline, Baseline: g.side(baseline), Candidate: g.side(candidate)}
	g.pool(Baseline, baseline)
	g.pool(Candidate, candidate)
	g.start(baseline, candidate)
	reasons := g.unusable(baseline, candidate)
	for _, x := range []struct {
		arm GateArm
		s   *GateSample
	}{{Baseline, baseline}, {Candidate, candidate}} {
		// Where nothing succeeded, unusable has said so, and the load generator is not to blame.
		if x.s.Client.Verdict == "invalid" && x.s.Counts.OK > 0 {
			reasons = append(reasons, fmt.Sprintf("the run of the %s is invalid itself: the load generator was the limit", x.arm))
		}
	}
	if baseline.Counts.OK > 0 && candidate.Counts.OK > 0 {
		reasons = append(reasons, g.errorReasons()...)
	}
	r := g.Result()
	r.Advisory, r.Looks, r.Measurements, r.Blocks = true, []int{}, []GateBlock{side}, 0
	r.Comparisons = []GateComparison{}
	if len(reasons) > 0 {
		r.Verdict, r.Reasons = Invalid, reasons
		return r, nil
	}
	// One-sided limits of the ratio: both ends may err, so each gets half; and every org its own share.
	alpha := c.Rule.Alpha / 2 / float64(len(g.families))
	verdict, limit := Pass, 1+c.Rule.Tolerance
	for _, f := range g.families {
		a, b := baseline.value(c.Metric, f.org), candidate.value(c.Metric, f.org)
		aLow, aHigh := baseline.limits(c.Metric, f.org, alpha)
		bLow, bHigh := candidate.limits(c.Metric, f.org, alpha)
		d := GateDecision{
			Verdict: Inconclusive, EstimateRatio: b / a, LowerRatio: bLow / aHigh, UpperRatio: bHigh / aLow,
			PFail: math.NaN(), Noise: math.NaN(), MinimumDetectable: math.NaN(),
		}
		switch {
		case d.LowerRatio > limit:
			d.Verdict = Fail
		case d.UpperRatio < limit:
			d.Verdict = Pass
		}
		verdict = worst(verdict, d.Verdict)
		r.Comparisons = append(r.Comparisons, newGateComparison(f, &d))
		r.Reasons = append(r.Reasons, g.explainStored(f, &d)...)
	}
	for _, o := range c.Objectives {
		res := o.Judge(candidate.Latency, candidate.Counts, c.Rule.Alpha)
		r.Objectives = append(r.Objectives, res)
		if res.Verdict == Fail {
			verdict = worst(verdict, Fail)
			r.Reasons = append(r.Reasons, "the candidate breaks the objective "+o.Text)
		}
	}
	head := worstComparison(r.Comparisons)
	r.Verdict, r.EstimateRatio, r.LowerRatio, r.UpperRatio = verdict, head.EstimateRatio, head.LowerRatio, head.UpperRatio
	return r, nil
}

func (g *Gate) explainStored(f gateFamily, d *GateDecision) []string {
	what := f.metric
	if f.org != "" {
		what += " of org " + f.org
	}
	tolerance := g.config.Rule.Tolerance * 100
	switch {
	case d.Verdict == Inconclusive && g.config.Metric.ReadyMade():
		return []string{fmt.Sprintf("%s differs by %+.1f %%, and a stored run does not say by how much it does so by chance: measure both live", what, (d.EstimateRatio-1)*100)}
	case d.Verdict == Fail:
		return []string{fmt.Sprintf("%s is %.1f %% higher, beyond the tolerance of %.4g %%", what, (d.EstimateRatio-1)*100, tolerance)}
	case d.Verdict == Inconclusive:
		return []string{fmt.Sprintf("%s differs by %+.1f %%, which one run of each does not tell from the tolerance of %.4g %%", what, (d.EstimateRatio-1)*100, tolerance)}
	default:
		return nil
	}
}
