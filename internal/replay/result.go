package replay

import (
	"fmt"
	"iter"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// Fill writes everything the run knows into the run file: plan, corpus, target, counts, latencies, verdict.
// It fails when the numbers do not add up, which no run may hide.
func (r *Result) Fill(run *stats.Run, c Config, target stats.Target) error {
	run.StartedAt, run.FinishedAt, run.Interrupted = r.StartedAt, r.FinishedAt, r.Interrupted
	c.Describe(run, target)
	run.Plan.Planned, run.Plan.Warmup = int64(r.Planned), int64(r.Warmup)
	if s := run.Plan.Shard; s != nil {
		from, to := r.Recorder.Span()
		s.FromMS, s.ToMS = ms(from), ms(to)
		if c.Plan.Loop == Open {
			s.SpanMS = ms(c.Plan.Due(c.Plan.Total()) - c.Plan.Due(c.Plan.Warmup))
		}
	}
	run.Counts.Planned, run.Counts.NotSent = int64(r.Planned), int64(r.NotSent)
	if err := r.Recorder.Fill(run); err != nil {
		return fmt.Errorf("writing down the run: %w", err)
	}
	toDuration := func(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
	run.Client = verdict(r.Client, toDuration(run.Latency.P50MS), toDuration(run.ScheduleError.P99MS), target.Kind == "embedded")
	if why := run.NoSuccess(); why != "" && !run.Interrupted {
		run.Client.Verdict = "invalid"
		run.Client.Reasons = append(run.Client.Reasons, why)
	}
	if r.NotSent > 0 && !r.Interrupted {
		run.Client.Verdict = "invalid"
		run.Client.Reasons = append(run.Client.Reasons, fmt.Sprintf(
			"%d requests were not sent, because %v after the last was due they still waited behind others: their latencies, the worst, are missing", r.NotSent, c.DrainTimeout))
	}
	for _, e := range run.Errors {
		if e.Class == ClientExhausted {
			run.Client.Verdict = "invalid"
			run.Client.Reasons = append(run.Client.Reasons, fmt.Sprintf(
				"%d requests failed because the generator had no file descriptor, port or address for another connection: not the target's failures", e.Count))
		}
	}
	r.spread(run, c.Plan)
	if r.NotReady > 0 && r.NotReady*100 > r.Planned {
		run.Client.Verdict = "invalid"
		run.Client.Reasons = append(run.Client.Reasons, fmt.Sprintf("%d bodies were not prepared when they were due", r.NotReady))
	}
	return run.Check()
}

// Describe writes down what a run is to do, which is known before it begins: plan, corpus and target.
func (c *Config) Describe(run *stats.Run, target stats.Target) {
	run.Plan = stats.Plan{
		Loop: string(c.Plan.Loop), Arrival: c.Plan.Arrival, Timing: c.Plan.Timing, RatePerS: c.Plan.RatePerS,
		Concurrency: c.Plan.Concurrency, MaxInFlight: c.MaxInFlight, Seed: c.Plan.Seed, SHA256: c.Plan.SHA256(Keys(c.Corpus)),
	}
	run.Plan.Order, run.Plan.Timestamps, run.Plan.TimeoutMS = string(c.Order), string(c.Timestamps), ms(c.Timeout)
	if c.Plan.FanOut > 1 {
		run.Plan.FanOut = c.Plan.FanOut
	}
	if c.Plan.Loop == Closed {
		run.Plan.MaxInFlight = c.Plan.Concurrency
	}
	if s := c.Plan.Shard; s.Total > 1 {
		run.Plan.Shard = &stats.Shard{Index: s.Index, Total: s.Total, By: string(s.By), PlannedAll: int64(c.Plan.Requests)}
		if c.Plan.Duration > 0 {
			run.Plan.Shard.PlannedAll = 0 // nobody knows how many of them the time allows
		}
	}
	run.Corpus = stats.Corpus{
		Location: c.Corpus.Location, Objects: int64(len(c.Corpus.Entries())), Bytes: c.Corpus.Bytes,
		Samples: c.Corpus.Samples, SHA256: c.Corpus.SHA256(),
	}
	run.Target = target
}

// Idle is the result of a shard that no request of the plan falls to.
func Idle(at time.Time) *Result {
	return &Result{Recorder: stats.NewRecorder(), StartedAt: at.UTC(), MeasuredAt: at.UTC(), FinishedAt: at.UTC()}
}

// spread makes the achieved rate that of the time the plan covers. The recorder sees the first request's due time
// and the last one's answer, which leaves out the gap behind the last: 3 requests at 2/s would make 3/s.
func (r *Result) spread(run *stats.Run, p *Plan) {
	if p.Loop != Open || r.Interrupted || p.Shard.Total > 1 {
		return
	}
	span := p.Due(p.Total()) - p.Due(p.Warmup)
	if was := run.Achieved.DurationMS; was > 0 && ms(span) > was {
		factor := was / ms(span)
		run.Achieved = stats.Achieved{
			RatePerS: run.Achieved.RatePerS * factor, SamplesPerS: run.Achieved.SamplesPerS * factor, DurationMS: ms(span),
		}
	}
}

// Keys yields the corpus objects' keys in replay order.
func Keys(c *capture.Corpus) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, e := range c.Entries() {
			if !yield(e.Key.String()) {
				return
			}
		}
	}
}
