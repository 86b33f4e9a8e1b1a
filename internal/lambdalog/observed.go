package lambdalog

import (
	"errors"
	"time"
)

// Observed is what a client and Lambda say of the same invocations: the summary of the records that
// were matched with requests, and beside it what the client waited for them. In JSON it is a
// cirrusbench/invocations/v1 object with further keys.
type Observed struct {
	Summary
	// From is where the records came from: "log tail" of each invocation, or a file or log group.
	From string `json:"from"`
	// Attempts counts what the client sent, the warm-up apart; a request that was retried counts each
	// time. Attempts = Answered + Refused + those that had no answer.
	Attempts int64 `json:"attempts"`
	// Answered counts attempts that an invocation answered, well or not, or that carry a request id.
	Answered int64 `json:"answered"`
	// Refused counts attempts that never reached the function, such as throttled ones: not billed.
	Refused int64 `json:"refused"`
	// Matched counts attempts whose record was found, and Unmatched those answered without one: whatever was billed for them
	// is in none of the figures.
	Matched   int64 `json:"matched"`
	Unmatched int64 `json:"unmatched"`
	// SampledOneIn is 1, or n when only one in n request ids was kept to bound the memory. Then
	// Unmatched counts only what was kept.
	SampledOneIn int64 `json:"sampled_one_in"`
	// Foreign counts records that belong to none of the requests: other clients' of the same function.
	Foreign int64 `json:"foreign"`
	// Cold and Warm are the two kinds of invocations as the client saw them.
	ColdStarts Seen `json:"cold_starts"`
	WarmStarts Seen `json:"warm_starts"`
	// Warmup is what was sent before the measured part: billed, and part of no other figure.
	Warmup WarmupBill `json:"warmup"`
	// Gateway is what the access log of a gateway was good for; nil when none was read.
	Gateway *GatewayLog `json:"gateway_log,omitempty"`
}

// GatewayLog is what the access log of a gateway was good for, whose lines say by which id Lambda knows a request.
type GatewayLog struct {
	// From is the file or log group.
	From string `json:"from"`
	// Lines counts the lines with both fields, of whatever client, and BadLines those that could not be read.
	Lines    int64 `json:"lines"`
	BadLines int64 `json:"bad_lines"`
	// LinesWithout counts lines that have "-" in the place of Lambda's id.
	LinesWithout int64 `json:"lines_without_integration_id"`
	// Bridged counts requests of the measured part whose answers carried the gateway's id and whose invocation the
	// log named, and RequestsWithout those for which it had "-". Both are part of what was kept, as Unmatched is.
	Bridged         int64 `json:"bridged"`
	RequestsWithout int64 `json:"requests_without_integration_id"`
}

// Note takes an error that ScanAccess yielded. It returns the error when reading ended with it, and nil when
// reading goes on.
func (g *GatewayLog) Note(err error) error {
	if _, ok := errors.AsType[*LineError](err); ok {
		g.BadLines++
		return nil
	}
	if notice, ok := errors.AsType[*NoticeError](err); ok {
		if notice.Kind == NoticeLongLine {
			g.BadLines++
		}
		return nil
	}
	return err
}

// Seen is how long invocations took for the client, and what part of that the function took. All are
// over successes and failures alike, since all are billed.
type Seen struct {
	// Count is the number of invocations.
	Count int64 `json:"count"`
	// ClientMS is from the send to the last byte of the answer, in steps of 0.01 ms.
	ClientMS Distribution `json:"client_ms"`
	// DurationMS is Lambda's Duration and InitMS its initialisation or restore.
	DurationMS Distribution `json:"duration_ms"`
	InitMS     Distribution `json:"init_ms"`
	// OutsideMS is ClientMS less DurationMS and InitMS, request by request: the network, the gateway
	// and, for a cold start, what Lambda does before it starts the function.
	OutsideMS Distribution `json:"network_gateway_ms"`
	// Clamped counts those where that is negative, because the function went on after its answer;
	// they count as 0.
	Clamped int64 `json:"clamped"`
}

// WarmupBill is what the warm-up was billed.
type WarmupBill struct {
	// Reports counts its records and Cold those of cold starts.
	Reports int64 `json:"reports"`
	Cold    int64 `json:"cold"`
	// BilledMS is the sum of what they were billed; absent when there was none.
	BilledMS Millis `json:"billed_ms_sum"`
}

// FromTail is the From of records that came with the answers.
const FromTail = "log tail"

// Observer builds an Observed. Its zero value is ready to use; it is not safe for concurrent use. Its
// memory grows with the number of distinct durations.
type Observer struct {
	sum        Summariser
	o          Observed
	cold, warm seen
}

type seen struct {
	count, clamped                  int64
	client, duration, init, outside counts
}

// clientStep is how finely the client's times are kept: that of Lambda's own durations.
const clientStep = 10 * time.Microsecond

// Attempt counts a request of the measured part as it is sent.
func (u *Observer) Attempt() { u.o.Attempts++ }

// Refused counts a request of the measured part that did not reach the function.
func (u *Observer) Refused() { u.o.Refused++ }

// Unmatched counts an answered request of the measured part without a record.
func (u *Observer) Unmatched(n int64) {
	u.o.Answered += n
	u.o.Unmatched += n
}

// Foreign counts a record that belongs to no request.
func (u *Observer) Foreign() { u.o.Foreign++ }

// Sampled says that one in n request ids was kept.
func (u *Observer) Sampled(n int64) { u.o.SampledOneIn = n }

// Note takes an error that Scan yielded, as [Summariser.Note] does.
func (u *Observer) Note(err error) error { return u.sum.Note(err) }

// Warn adds a notice that a reader of the figures must know.
func (u *Observer) Warn(err error) { u.sum.warn(err) }

// Matched takes the record of a request that the client waited for.
func (u *Observer) Matched(v Invocation, client time.Duration, warmup bool) {
	if warmup {
		u.o.Warmup.Reports++
		if v.Cold {
			u.o.Warmup.Cold++
		}
		if v.Billed.Known {
			u.o.Warmup.BilledMS = MillisOf(u.o.Warmup.BilledMS.Value + v.Billed.Value)
		}
		return
	}
	u.o.Answered++
	u.o.Matched++
	u.sum.Add(v)
	s := &u.warm
	if v.Cold {
		s = &u.cold
	}
	s.count++
	s.client.add(MillisOf(client.Round(clientStep)))
	s.duration.add(v.Duration)
	start := v.Init
	if v.Restore.Known {
		start = MillisOf(v.Init.Value + v.Restore.Value)
	}
	s.init.add(start)
	if !v.Duration.Known {
		return
	}
	outside := (client - v.Duration.Value - start.Value).Round(clientStep)
	if outside < 0 {
		s.clamped++
		outside = 0
	}
	s.outside.add(MillisOf(outside))
}

func (s *seen) result() Seen {
	return Seen{
		Count: s.count, ClientMS: s.client.distribution(), DurationMS: s.duration.distribution(), InitMS: s.init.distribution(),
		OutsideMS: s.outside.distribution(), Clamped: s.clamped,
	}
}

// Observed returns what was taken so far.
func (u *Observer) Observed() Observed {
	o := u.o
	o.Summary = u.sum.Summary()
	o.SampledOneIn = max(o.SampledOneIn, 1)
	o.ColdStarts, o.WarmStarts = u.cold.result(), u.warm.result()
	return o
}
