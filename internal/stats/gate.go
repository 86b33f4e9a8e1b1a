package stats

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Verdict is what a gate concludes.
type Verdict string

const (
	// Pass means that the change is shown to be within the tolerance.
	Pass Verdict = "PASS"
	// Fail means that the change is shown to be beyond the tolerance, or an objective to be broken.
	Fail Verdict = "FAIL"
	// Inconclusive means that the evidence shows neither.
	Inconclusive Verdict = "INCONCLUSIVE"
	// Invalid means that what was measured must not be judged.
	Invalid Verdict = "INVALID"
)

// GateRule is a sequential test of paired blocks. In every block both arms, the baseline A and the candidate
// B, are measured once in random order; the data are the differences log(B/A).
//
// The rule looks at the data after the numbers of blocks in Looks and stops at the first look that decides.
// Each look has an equal share of Alpha (Bonferroni). Since the order in a block is random, the signs of the
// differences about a common centre are symmetric, whatever drifts from block to block. Hence P([Fail]) is at
// most Alpha when B is at most Tolerance worse, and P([Pass]) at most Alpha when it is worse than that.
type GateRule struct {
	Tolerance float64 // change that is accepted: 0.05 is 5 %
	Alpha     float64 // error probability of either wrong verdict
	Looks     []int   // numbers of blocks, ascending
	// Dilution is the share of the measured number that the load generator may have added to both arms, 0 to 1. It
	// makes a change look smaller, so [Pass] asks for an upper limit below Tolerance·(1-Dilution).
	Dilution float64
}

// DefaultGateRule returns the rule with a tolerance of 5 %, an error probability of 5 % and looks after
// 10, 20 and 40 blocks.
func DefaultGateRule() GateRule {
	return GateRule{Tolerance: 0.05, Alpha: 0.05, Looks: []int{10, 20, 40}}
}

// Check returns an error that says why the rule cannot be applied: above all, when the first look has too
// few blocks to ever decide.
func (r GateRule) Check() error {
	if !(r.Tolerance >= 0 && r.Tolerance <= 10) {
		return fmt.Errorf("the tolerance must be from 0 %% to 1000 %%, not %v %%", r.Tolerance*100)
	}
	if !(r.Alpha > 0 && r.Alpha <= 0.5) {
		return fmt.Errorf("alpha must be above 0 and at most 0.5, not %v", r.Alpha)
	}
	if len(r.Looks) == 0 {
		return errors.New("a gate needs at least one look at its blocks")
	}
	before := 0
	for _, k := range r.Looks {
		if k <= before || k > maxGateBlocks {
			return fmt.Errorf("looks must be ascending numbers of blocks of at most %d, not %v", maxGateBlocks, r.Looks)
		}
		before = k
	}
	if need := r.fewestBlocks(); r.Looks[0] < need {
		return fmt.Errorf("%d blocks can never decide at this error probability: the first look needs at least %d", r.Looks[0], need)
	}
	return nil
}

// maxGateBlocks bounds the work of a look, which grows with the square of the blocks.
const maxGateBlocks = 1000

// fewestBlocks is the number of blocks from which all of them pointing one way is evidence enough.
func (r GateRule) fewestBlocks() int {
	return int(math.Ceil(-math.Log2(r.alphaPerLook())))
}

func (r GateRule) alphaPerLook() float64 { return r.Alpha / float64(len(r.Looks)) }

// MaxBlocks is the number of blocks after which the rule is at its end.
func (r GateRule) MaxBlocks() int { return r.Looks[len(r.Looks)-1] }

// IsLook tells whether the rule looks at the data after so many blocks.
func (r GateRule) IsLook(blocks int) bool { return slices.Contains(r.Looks, blocks) }

// GateDecision is the outcome of a look.
type GateDecision struct {
	Verdict Verdict
	// Blocks is how many the decision rests on.
	Blocks int
	// EstimateRatio is the Hodges–Lehmann estimate of candidate over baseline, 1 when equal. LowerRatio and
	// UpperRatio bound it, each with an error probability of alpha over the number of looks; they are 0 and
	// infinite when there are too few blocks.
	EstimateRatio, LowerRatio, UpperRatio float64
	// PFail is the one-sided p-value for a change beyond the tolerance.
	PFail float64
	// Noise is the standard deviation of the differences, by the median absolute deviation.
	Noise float64
	// MinimumDetectable is the smallest change that this noise lets so many blocks detect, see [GateRule.MinimumDetectable].
	MinimumDetectable float64
}

// Decide judges the differences log(B/A), one for each block. [Inconclusive] means: go on to the next look,
// if there is one. It does not ask whether the number of blocks is one of the looks; calling it more often than
// that gives up the error probability.
func (r GateRule) Decide(differences []float64) GateDecision {
	s := NewSignedRank(differences, r.alphaPerLook())
	limit := math.Log1p(r.Tolerance)
	d := GateDecision{
		Verdict:       Inconclusive,
		Blocks:        len(differences),
		EstimateRatio: math.Exp(s.Estimate),
		LowerRatio:    math.Exp(s.Lower),
		UpperRatio:    math.Exp(s.Upper),
		PFail:         SignedRankPValue(differences, limit),
		Noise:         GateNoise(differences),
	}
	d.MinimumDetectable = r.MinimumDetectable(d.Noise, len(differences))
	switch {
	case math.IsNaN(s.Estimate):
		d.Verdict = Invalid
	case s.Lower > limit:
		d.Verdict = Fail
	case s.Upper < math.Log1p(r.Tolerance*(1-r.Dilution)):
		d.Verdict = Pass
	}
	return d
}

// DecideAll judges several families of differences, such as one for each org, as one gate. It fails when
// any family does by Holm's procedure, which keeps the probability of one false alarm in all of them at
// alpha; it passes when every family passes, which needs no correction. The decisions are in the order
// of the families.
func (r GateRule) DecideAll(families [][]float64) (Verdict, []GateDecision) {
	decisions := make([]GateDecision, len(families))
	p := make([]float64, len(families))
	for i, f := range families {
		decisions[i] = r.Decide(f)
		p[i] = decisions[i].PFail
	}
	rejected := Holm(p, r.alphaPerLook())
	verdict := Pass
	for i := range decisions {
		d := &decisions[i]
		if d.Verdict == Fail && !rejected[i] {
			d.Verdict = Inconclusive
		}
		verdict = worst(verdict, d.Verdict)
	}
	if len(families) == 0 {
		verdict = Invalid
	}
	return verdict, decisions
}

// worst orders verdicts: what must not be judged outweighs all, then what is shown to be wrong.
func worst(a, b Verdict) Verdict {
	order := []Verdict{Pass, Inconclusive, Fail, Invalid}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// Holm tells which of the hypotheses with p-values p are rejected by Holm's step-down procedure: the
// probability to reject any true one is at most alpha. A p-value that is NaN is no evidence.
func Holm(p []float64, alpha float64) []bool {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	known := func(i int) float64 {
		if math.IsNaN(p[i]) {
			return 1
		}
		return p[i]
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(known(a), known(b)) })
	rejected := make([]bool, len(p))
	for i, j := range order {
		if known(j) > alpha/float64(len(p)-i) {
			break
		}
		rejected[j] = true
	}
	return rejected
}

// GateNoise is the standard deviation of differences as a normal distribution of the same median absolute
// deviation would have it: 1.4826 MAD. It is NaN without differences.
func GateNoise(differences []float64) float64 {
	if len(differences) == 0 {
		return math.NaN()
	}
	d := slices.Sorted(slices.Values(differences))
	m := quantileSorted(d, 0.5)
	for i := range d {
		d[i] = math.Abs(d[i] - m)
	}
	slices.Sort(d)
	return 1.4826 * quantileSorted(d, 0.5)
}

// detectionFactor is the distance between a change and the tolerance, in standard errors of the mean, at
// which a look fails a regression in 80 % of the cases: (z₁₋ₐ + z₀.₈)/√0.955, where a is the error
// probability of a look and 0.955 the efficiency of the signed-rank procedure for normal noise.
func (r GateRule) detectionFactor() float64 {
	z := func(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }
	return (z(1-r.alphaPerLook()) + z(0.80)) / math.Sqrt(0.955)
}

// MinimumDetectable is the smallest change, 0.2 for 20 %, that the rule finds in 80 % of the cases with so
// many blocks of that noise: log(1+m) = log(1+tolerance) + f·noise/√blocks with the factor f of the rule.
func (r GateRule) MinimumDetectable(noise float64, blocks int) float64 {
	return math.Expm1(math.Log1p(r.Tolerance) + r.detectionFactor()*noise/math.Sqrt(float64(blocks)))
}

// BlocksFor is the number of blocks that detect a change of goal, 0.2 for 20 %, in 80 % of the cases with that
// noise. ok is false when no number does: the goal is within the tolerance.
func (r GateRule) BlocksFor(goal, noise float64) (blocks int, ok bool) {
	gap := math.Log1p(goal) - math.Log1p(r.Tolerance)
	if !(gap > 0) || math.IsNaN(noise) {
		return 0, false
	}
	k := math.Ceil(math.Pow(r.detectionFactor()*noise/gap, 2))
	return int(min(max(k, float64(r.fewestBlocks())), math.MaxInt32)), true
}
