package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/store"
)

// Identity is what all shards of a run must share.
type Identity struct {
	Total        int    `json:"total"`
	PlanSHA256   string `json:"plan_sha256"`
	CorpusSHA256 string `json:"corpus_sha256"`
	ConfigSHA256 string `json:"config_sha256"`
}

// differs names what two identities do not share; empty when they are equal.
func (i Identity) differs(o Identity) string {
	switch {
	case i.Total != o.Total:
		return fmt.Sprintf("the number of shards (%d and %d)", i.Total, o.Total)
	case i.PlanSHA256 != o.PlanSHA256:
		return "the plan"
	case i.CorpusSHA256 != o.CorpusSHA256:
		return "the corpus"
	case i.ConfigSHA256 != o.ConfigSHA256:
		return "the configuration (target, order, timestamps, limits or version)"
	}
	return ""
}

// Barrier is where the shards of a run wait for each other.
type Barrier struct {
	Store    store.Store
	Index    int
	Attempt  string // tells this process from others of the same index; part of object names
	Identity Identity
	// Lead is from the moment when all are ready to T0; 0 means 10 s. It must be longer than a round trip to the store.
	Lead time.Duration
	// Timeout bounds the wait for all to be ready; 0 means 10 min.
	Timeout time.Duration
	// Say, if not nil, is told what happens, for people.
	Say func(format string, args ...any)
}

// Start is when a shard begins.
type Start struct {
	T0    time.Time // by the store's clock: the same for all shards
	Local time.Time // T0 by the clock of this machine
	Clock Clock
}

// Errors that tell why a shard does not execute its part.
var (
	// ErrTimeout says that not all shards were ready in time, or that one of them ended before: nobody starts.
	ErrTimeout = errors.New("the shards did not start")
	// ErrUnlike says that the shards do not agree on what to do: nobody starts.
	ErrUnlike = errors.New("the shards do not agree")
	// ErrAborted says that the run goes on without this attempt: it came too late, or another attempt has its index.
	ErrAborted = errors.New("aborted")
	// ErrClock says that the clock of this machine is too far from the store's.
	ErrClock = errors.New("the clock is wrong")
)

const (
	defaultLead    = 10 * time.Second
	defaultTimeout = 10 * time.Minute
	minPoll        = 125 * time.Millisecond
	// claimLead is how long before T0 an index is claimed: as late as a slow store allows, so that an attempt that dies
	// while it waits can be replaced.
	claimLead = 2 * time.Second

	readySchema = "cirrusbench/ready/v1"
	startSchema = "cirrusbench/start/v1"
	claimSchema = "cirrusbench/claim/v1"
)

type readyObject struct {
	Schema  string `json:"schema"`
	Index   int    `json:"index"`
	Attempt string `json:"attempt"`
	Identity
	Clock
}

type startObject struct {
	Schema string `json:"schema"`
	// T0 is by the store's clock. Refused says instead why nobody starts, and by whom.
	T0      time.Time `json:"t0,omitzero"`
	Refused string    `json:"refused,omitempty"`
	// Kind of a refusal: "timeout" or "unlike".
	Kind    string `json:"kind,omitempty"`
	Index   int    `json:"index"`
	Attempt string `json:"attempt"`
	Identity
}

type claimObject struct {
	Schema  string `json:"schema"`
	Attempt string `json:"attempt"`
}

// Wait says that this shard is ready, waits until all are, and returns when there are at least some hundred milliseconds
// left to T0: the caller begins then. Exactly one attempt of an index gets that far. Every other end is an error
// wrapping one of this package's, or of the store: nothing must be sent then. A shard that ends while it waits, for
// whatever reason, keeps all the others from starting, if the store still takes its word for it; a store that fails is
// asked again for half the lead before that.
func (b *Barrier) Wait(ctx context.Context) (Start, error) {
	lead, timeout := b.Lead, b.Timeout
	if lead <= 0 {
		lead = defaultLead
	}
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	clock, err := readClock(ctx, b.Store)
	if err != nil {
		return Start{}, fmt.Errorf("reading the store's clock: %w", err)
	}
	if err := b.judge(clock); err != nil {
		return Start{}, err
	}
	// A run that began is not joined. That is known before this attempt says it is ready.
	start, err := b.started(ctx)
	if err != nil {
		return Start{}, err
	}
	if start == nil {
		if err := b.ready(ctx, clock); err != nil {
			// It may have been written all the same, and the others would count on this shard.
			_, err = b.refuse(ctx, "timeout", fmt.Sprintf("shard %d could not say that it was ready", b.Index), err)
			return Start{}, err
		}
		if start, err = b.await(ctx, clock, lead, timeout); err != nil {
			return Start{}, err
		}
	}
	if what := b.Identity.differs(start.Identity); what != "" {
		return Start{}, b.abort(ctx, fmt.Errorf("%w on %s: the run was started by shard %d", ErrUnlike, what, start.Index))
	}
	s := Start{T0: start.T0, Local: start.T0.Add(-clock.offset()), Clock: clock}
	if late := time.Since(s.Local); late > 0 {
		return s, b.abort(ctx, fmt.Errorf("%w: the run began %v ago, and a part of it is never made up for", ErrAborted, late.Round(time.Millisecond)))
	}
	if err := sleep(ctx, time.Until(s.Local)-min(claimLead, lead/2)); err != nil {
		return s, fmt.Errorf("waiting for T0: %w", err)
	}
	for {
		err := b.claim(ctx)
		if err == nil {
			break
		}
		// The others begin whatever happens here, so a store that fails is asked again while there is time.
		if errors.Is(err, ErrAborted) || time.Until(s.Local) <= minPoll || sleep(ctx, minPoll) != nil {
			return s, err
		}
	}
	if late := time.Since(s.Local); late > 0 {
		return s, b.abort(ctx, fmt.Errorf("%w: the store took until %v after T0 to answer", ErrAborted, late.Round(time.Millisecond)))
	}
	return s, nil
}

func (b *Barrier) say(format string, args ...any) {
	if b.Say != nil {
		b.Say(format, args...)
	}
}

// Limits of what a clock may be off: below the first nobody notices in latencies of a network, and beyond the second
// shards would not even start in the same second.
const (
	warnOffset   = 50 * time.Millisecond
	refuseOffset = time.Second
)

func (b *Barrier) judge(c Clock) error {
	switch off := c.offset().Abs(); {
	case !c.Known:
		b.say("note: the store does not tell the time: shards start by their own clocks")
	case off > refuseOffset:
		return fmt.Errorf("%w: it is %v off the store's (±%v); set it, for instance by NTP", ErrClock, off.Round(time.Millisecond), c.margin().Round(time.Millisecond))
	case off > warnOffset:
		b.say("warning: the clock of this machine is %v off the store's (±%v); it is corrected for, but set it", off.Round(time.Millisecond), c.margin().Round(time.Millisecond))
	}
	return nil
}

func readyKey(index int) string { return "ready/" + strconv.Itoa(index) }

const startKey = "start"

// ready says that this shard could begin. Another attempt of the index may have said so before, with the same intent.
func (b *Barrier) ready(ctx context.Context, clock Clock) error {
	err := putJSON(ctx, b.Store, readyKey(b.Index), readyObject{readySchema, b.Index, b.Attempt, b.Identity, clock})
	if err != nil {
		return fmt.Errorf("saying that the shard is ready: %w", err)
	}
	return nil
}

// await waits for the start object, which shard 0 writes when all are ready, and which any shard writes as a refusal
// when it gives up.
func (b *Barrier) await(ctx context.Context, clock Clock, lead, timeout time.Duration) (*startObject, error) {
	deadline := time.Now().Add(timeout)
	said := -1
	if b.Index != 0 {
		b.say("ready, and waiting for the other shards")
	}
	// A store that fails for a moment does not cost a run that all are ready for. One that fails for longer would let the
	// others start without this shard: then nobody is to start, as far as the store takes that down.
	patience := lead / 2
	var failing time.Time // since when the store cannot be read; zero: it can
	for {
		start, err := b.started(ctx)
		if start != nil || refused(err) {
			return start, err
		}
		// Listing is dear where there are many shards: the first does it for all, and the others only to say who is missing.
		var there map[int]bool
		var unlike string
		over := time.Now().After(deadline)
		if err == nil && (b.Index == 0 || over) && ctx.Err() == nil {
			there, unlike, err = b.roll(ctx)
		}
		if err == nil && unlike == "" && len(there) == b.Identity.Total && b.Index == 0 && ctx.Err() == nil {
			t0 := time.Now().Add(clock.offset() + lead).UTC()
			start, err = b.decide(ctx, startObject{Schema: startSchema, T0: t0, Index: b.Index, Attempt: b.Attempt, Identity: b.Identity})
			if start != nil {
				b.say("all %d shards are ready: the run begins at %s", b.Identity.Total, start.T0.Format("15:04:05.000 UTC"))
			}
			if start != nil || refused(err) {
				return start, err
			}
		}
		switch {
		case ctx.Err() != nil:
			why := fmt.Sprintf("shard %d was interrupted while it waited", b.Index)
			return b.refuse(ctx, "timeout", why, fmt.Errorf("waiting for the other shards: %w", ctx.Err()))
		case err != nil:
			if failing.IsZero() {
				failing = time.Now()
				b.say("warning: the store fails, trying again: %v", err)
			}
			if over || time.Since(failing) >= patience {
				start, answer := b.refuse(ctx, "timeout", fmt.Sprintf("shard %d could not read the store", b.Index), nil)
				switch {
				case start != nil:
					return start, nil // it was decided meanwhile
				case refused(answer):
					return nil, fmt.Errorf("%w: %w", answer, err)
				case over:
					return nil, err
				}
			}
		case unlike != "":
			return b.refuse(ctx, "unlike", unlike, nil)
		case over:
			return b.refuse(ctx, "timeout", fmt.Sprintf("after %v only %d of %d shards were ready; missing: %s", timeout, len(there), b.Identity.Total, absent(there, b.Identity.Total)), nil)
		}
		if err == nil {
			failing = time.Time{}
			if b.Index == 0 && len(there) != said {
				said = len(there)
				b.say("waiting for the start: %d of %d shards are ready", said, b.Identity.Total)
			}
		}
		// All have to see the start well before T0.
		poll := min(max(lead/8, minPoll), time.Second)
		if err := sleep(ctx, min(poll, time.Until(deadline)+time.Millisecond)); err != nil {
			continue // the context has ended: the next turn says so
		}
	}
}

// refused says whether an error is the answer of the start object that nobody starts, and not one of the store.
func refused(err error) bool { return errors.Is(err, ErrTimeout) || errors.Is(err, ErrUnlike) }

// roll lists the shards that are ready, and says in what one of them differs from this one.
func (b *Barrier) roll(ctx context.Context) (there map[int]bool, unlike string, err error) {
	there = map[int]bool{}
	for o, err := range b.Store.List(ctx, "ready/") {
		if err != nil {
			return nil, "", fmt.Errorf("waiting for the other shards: %w", err)
		}
		index, err := strconv.Atoi(strings.TrimPrefix(o.Key, "ready/"))
		if err != nil || index < 0 {
			continue
		}
		if index >= b.Identity.Total {
			return nil, fmt.Sprintf("shard %d is ready, and this run has %d", index, b.Identity.Total), nil
		}
		there[index] = true
	}
	// Whoever starts the run has looked at all of them; the others compare themselves with what it writes.
	if b.Index != 0 || len(there) < b.Identity.Total {
		return there, "", nil
	}
	for index := range b.Identity.Total {
		var r readyObject
		if err := getJSON(ctx, b.Store, readyKey(index), readySchema, &r); err != nil {
			return nil, "", fmt.Errorf("waiting for the other shards: %w", err)
		}
		if what := b.Identity.differs(r.Identity); what != "" {
			return nil, fmt.Sprintf("shards 0 and %d differ in %s", index, what), nil
		}
	}
	return there, "", nil
}

func absent(there map[int]bool, total int) string {
	const most = 20
	var names []string
	for i := range total {
		if there[i] {
			continue
		}
		if len(names) == most {
			names = append(names, "…")
			break
		}
		names = append(names, strconv.Itoa(i))
	}
	return strings.Join(names, ", ")
}

// started returns the start object, nil when there is none yet, or the refusal in it as an error.
func (b *Barrier) started(ctx context.Context) (*startObject, error) {
	var s startObject
	err := getJSON(ctx, b.Store, startKey, startSchema, &s)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil //nolint:nilnil // not yet is no error
	case err != nil:
		return nil, fmt.Errorf("waiting for the start: %w", err)
	case s.Refused != "" && s.Kind == "unlike":
		return nil, fmt.Errorf("%w: %s", ErrUnlike, s.Refused)
	case s.Refused != "":
		return nil, fmt.Errorf("%w: %s", ErrTimeout, s.Refused)
	}
	return &s, nil
}

// decide puts the start object unless there is one, and returns the one that is there: all shards see the same.
func (b *Barrier) decide(ctx context.Context, s startObject) (*startObject, error) {
	if err := putJSON(ctx, b.Store, startKey, s); err != nil {
		return nil, fmt.Errorf("writing the start: %w", err)
	}
	return b.started(ctx)
}

// refuse keeps everybody from starting, unless the run has been started meanwhile: then that counts. cause, if any, is
// the error of a shard that has to go whatever the others do.
func (b *Barrier) refuse(ctx context.Context, kind, why string, cause error) (*startObject, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	s, err := b.decide(ctx, startObject{Schema: startSchema, Refused: why, Kind: kind, Index: b.Index, Attempt: b.Attempt, Identity: b.Identity})
	if cause != nil {
		return nil, cause
	}
	return s, err
}

// claim makes this attempt the one that executes its index.
func (b *Barrier) claim(ctx context.Context) error {
	key := claimKey(b.Index)
	if err := putJSON(ctx, b.Store, key, claimObject{claimSchema, b.Attempt}); err != nil {
		return fmt.Errorf("claiming shard %d: %w", b.Index, err)
	}
	// What is there counts: a put whose answer was lost has claimed all the same.
	var c claimObject
	if err := getJSON(ctx, b.Store, key, claimSchema, &c); err != nil {
		return fmt.Errorf("claiming shard %d: %w", b.Index, err)
	}
	if c.Attempt != b.Attempt {
		return b.abort(ctx, fmt.Errorf("%w: attempt %s executes shard %d", ErrAborted, c.Attempt, b.Index))
	}
	return nil
}

// abort leaves a note for whoever looks for this attempt, and returns why.
func (b *Barrier) abort(ctx context.Context, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := putJSON(ctx, b.Store, attemptKey(b.Index, b.Attempt, abortedName), abortedObject{abortedSchema, b.Index, b.Attempt, why.Error()})
	return errors.Join(why, err)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// putJSON puts v unless there is an object under key, whose content then stays.
func putJSON(ctx context.Context, s store.Store, key string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if _, err = s.Put(ctx, key, append(data, '\n')); errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// maxObjectBytes bounds the small objects; run files have a limit of their own.
const maxObjectBytes = 1 << 20

// getJSON reads an object of the given schema.
func getJSON(ctx context.Context, s store.Store, key, schema string, v any) error {
	data, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	return parseJSON(key, data, schema, v)
}

func parseJSON(key string, data []byte, schema string, v any) error {
	if len(data) > maxObjectBytes {
		return fmt.Errorf("%s has %d bytes, more than any such object", key, len(data))
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if head.Schema != schema {
		return fmt.Errorf("%s: the schema is %q and not %q", key, head.Schema, schema)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
