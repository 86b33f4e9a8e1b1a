package stats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// ReadStored reads what a live target can be compared with later: a run file, as [ReadRun] does, or a result that a gate
// saved. Of the latter it returns what the candidate did in all blocks, as a run of one pair: when the result was
// saved as a baseline, that is what is the baseline now. One that is INVALID holds nothing to compare with, and is an
// [*InputError].
func ReadStored(rd io.Reader, name string) (*Run, error) {
	data, err := io.ReadAll(io.LimitReader(rd, maxRunBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if json.Unmarshal(data, &head) != nil || head.Schema != GateSchema {
		return ReadRun(bytes.NewReader(data), name) // which says what is wrong with it
	}
	r := new(GateResult)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, jsonError(err, name, data)
	}
	if r.Verdict == Invalid {
		return nil, &InputError{Name: name, Msg: "the gate that saved it was INVALID: nothing in it can be compared with", Hint: "measure the baseline again"}
	}
	run, err := r.candidateRun()
	if err != nil {
		return nil, &InputError{Name: name, Msg: "the file contradicts itself", Err: err, Hint: "do not edit saved results; run the gate again"}
	}
	return run, nil
}

// SavedGate is the source of the one pair of a run that stands for a saved gate: which org sent what is not in there.
const SavedGate = "(saved gate)"

// candidateRun is the run of all blocks of the candidate.
func (r *GateResult) candidateRun() (*Run, error) {
	arm := &r.Arms.Candidate
	run := &Run{
		Schema: RunSchema, Tool: r.Tool, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Labels: r.Labels,
		Plan: r.Plan, Corpus: r.Corpus, Target: arm.Target, Errors: arm.ErrorClasses, Latency: arm.Latency, Service: arm.Service,
		Counts: Counts{Planned: arm.Sent, Sent: arm.Sent, OK: arm.OK, Failed: arm.Errors}, Client: Client{Verdict: "valid"},
	}
	if arm.Errors > 0 {
		run.FailedLatency = &Latency{Count: arm.Errors}
	}
	if arm.Histogram != nil {
		run.Pairs = []RunPair{{Source: SavedGate, Destination: arm.Target.URL, Count: arm.Latency.Count, Latency: arm.Latency, EncodedHistogram: *arm.Histogram}}
	}
	run.normalize()
	run.Deltas = nil // a gate keeps none
	if err := run.Check(); err != nil {
		return nil, err
	}
	for i := range run.Pairs {
		if _, err := run.Pairs[i].Decode(); err != nil {
			return nil, err
		}
	}
	return run, nil
}
