package stats

import (
	"fmt"
	"io"
)

// ReadStored reads what another stored run can be compared with: a run file, read and checked as [ReadRun] does, or a
// result that a gate saved. Of the latter it takes what the candidate did in all blocks: when the result was saved as a
// baseline, that is what is the baseline now. One that is INVALID holds nothing to compare with, and is an
// [*InputError]. With byOrg the sample is split by org, which no gate saves.
//
// A file of any size takes the memory of its largest value and of the sum of its histograms, with byOrg of one for each
// org. The run that is returned has none of its long lists; what was read is in the sample.
func ReadStored(rd io.Reader, name string, byOrg bool) (*Run, GateSample, error) {
	return readStored(rd, name, byOrg, usualLimits())
}

func readStored(rd io.Reader, name string, byOrg bool, limits runLimits) (*Run, GateSample, error) {
	g := newGateSampler(byOrg)
	saved := new(GateResult)
	run, err := scanRun(rd, name, limits, runLists{
		pair:   func(p *RunPair) error { g.pair(p); return nil },
		second: func(p *TimelinePoint) error { g.second(p); return nil },
		saved:  saved,
	})
	if err != nil {
		return nil, GateSample{}, err
	}
	if run.Schema == GateSchema {
		if run, err = saved.candidateRun(run, name); err != nil {
			return nil, GateSample{}, err
		}
		if byOrg {
			return nil, GateSample{}, fmt.Errorf("%s is the result of a gate, which does not hold what each org measured", name)
		}
		s, err := NewGateSample(run)
		return run, s, err
	}
	s, err := g.sample(run)
	return run, s, err
}

// candidateRun is the run of all blocks of the candidate. head has what a gate's result and a run file have in common.
func (r *GateResult) candidateRun(head *Run, name string) (*Run, error) {
	if r.Verdict == Invalid {
		return nil, &InputError{Name: name, Msg: "the gate that saved it was INVALID: nothing in it can be compared with", Hint: "measure the baseline again"}
	}
	arm := &r.Arms.Candidate
	run := &Run{
		Schema: RunSchema, Tool: head.Tool, StartedAt: head.StartedAt, FinishedAt: head.FinishedAt, Labels: head.Labels,
		Plan: head.Plan, Corpus: head.Corpus, Target: arm.Target, Errors: arm.ErrorClasses, Latency: arm.Latency, Service: arm.Service,
		Counts: Counts{Planned: arm.Sent, Sent: arm.Sent, OK: arm.OK, Failed: arm.Errors}, Client: Client{Verdict: "valid"},
	}
	if arm.Errors > 0 {
		run.FailedLatency = &Latency{Count: arm.Errors}
	}
	if arm.Histogram != nil {
		run.Pairs = []RunPair{{Source: "(saved gate)", Destination: arm.Target.URL, Count: arm.Latency.Count, Latency: arm.Latency, EncodedHistogram: *arm.Histogram}}
	}
	run.normalize()
	run.Deltas = nil // a gate keeps none
	err := run.Check()
	for i := range run.Pairs {
		if err == nil {
			_, err = run.Pairs[i].Decode()
		}
	}
	if err != nil {
		return nil, &InputError{Name: name, Msg: "the file contradicts itself", Err: err, Hint: "do not edit saved results; run the gate again"}
	}
	return run, nil
}
