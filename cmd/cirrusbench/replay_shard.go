package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/shard"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// shardFlags say where the processes of a sharded run meet.
type shardFlags struct {
	objectStore    string
	barrierTimeout time.Duration
	startLead      time.Duration
}

func (o *shardFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.objectStore, "object-store", "", "with --shard: a directory or s3://bucket/prefix, new for each run, where all shards wait for each other and leave their results")
	f.DurationVar(&o.barrierTimeout, "barrier-timeout", 10*time.Minute, "with --object-store: give up when not all shards are ready by then; nobody starts, exit code 5")
	f.DurationVar(&o.startLead, "start-lead", 10*time.Second, "with --object-store: from when all shards are ready to the common start")
}

func (o *shardFlags) check(sharded, other bool) error {
	switch {
	case o.objectStore == "":
		return nil
	case !sharded:
		return errors.New("--object-store needs --shard, such as --shard 0/4, or --shard /4 in a Kubernetes Indexed Job")
	case other:
		return errors.New("--object-store is for a run: it goes neither with --find-max nor with --dry-run")
	case strings.HasPrefix(o.objectStore, "mem:") || strings.HasPrefix(o.objectStore, "null:"):
		return fmt.Errorf("in %s no other process would find anything", o.objectStore)
	case o.barrierTimeout <= 0:
		return fmt.Errorf("--barrier-timeout must be positive, not %v", o.barrierTimeout)
	case o.startLead < time.Second || o.startLead > time.Hour:
		return fmt.Errorf("--start-lead must be from 1s to 1h, not %v", o.startLead)
	}
	return nil
}

// shard executes this process' part of a plan together with others, and leaves the result in the object store.
func (x *execution) shard(ctx context.Context, plan *replay.Plan) error {
	e, o := x.e, x.o
	s, err := openStore(ctx, o.objectStore)
	if err != nil {
		return err
	}
	var uid [8]byte
	_, _ = rand.Read(uid[:]) // never fails
	attempt := hex.EncodeToString(uid[:])
	intent := &stats.Run{Tool: tool()}
	config := x.config(plan)
	config.Describe(intent, x.target)
	barrier := shard.Barrier{
		Store: s, Index: plan.Shard.Index, Attempt: attempt, Identity: shard.IdentityOf(intent), Lead: o.startLead, Timeout: o.barrierTimeout,
		Say: func(format string, args ...any) {
			e.sayf("shard %d/%d: "+format, append([]any{plan.Shard.Index, plan.Shard.Total}, args...)...)
		},
	}
	start, err := barrier.Wait(ctx)
	if err != nil {
		return barrierError(err)
	}
	x.startAt = start.Local
	run, result, err := x.runOrIdle(ctx, plan)
	if run == nil {
		return err
	}
	own := run.Plan.Shard
	own.Attempt, own.T0, own.ClockOffsetMS, own.ClockErrorMS = attempt, start.T0, start.Clock.OffsetMS(), start.Clock.ErrorMS()
	// The result is worth more than the time an interrupt asks for.
	putCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := errors.Join(err, shard.Put(putCtx, s, attempt, run), o.deliver(e, run, result)); err != nil {
		return err
	}
	barrier.Say("wrote the result of attempt %s", attempt)
	remark(e, run)
	if run.Counts.Planned == 0 && !run.Interrupted {
		barrier.Say("note: no request of the plan falls to this shard: use fewer shards, a larger --fan-out or --shard-by request")
		return nil
	}
	return ending(run)
}

// runOrIdle executes a plan, of which a shard may have nothing: then its result is empty, and the merge complete.
func (x *execution) runOrIdle(ctx context.Context, plan *replay.Plan) (*stats.Run, *replay.Result, error) {
	if _, measured := plan.Own(); measured > 0 || plan.Total() == 0 {
		return x.run(ctx, plan)
	}
	result := replay.Idle(x.startAt)
	run := &stats.Run{Tool: tool(), Labels: x.labels}
	err := result.Fill(run, x.config(plan), x.target)
	return run, result, err
}

// barrierError gives the ends of a barrier their exit code and hint.
func barrierError(err error) error {
	status := &statusError{code: exitInvalid, msg: "INVALID: nothing was sent: " + err.Error()}
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, shard.ErrTimeout):
		return withHint(status, "look at the shards that are missing; use a new --object-store location for the next run")
	case errors.Is(err, shard.ErrUnlike):
		return withHint(status, "start all shards with the same flags, corpus and version, and a new --object-store location")
	case errors.Is(err, shard.ErrAborted):
		return withHint(status, "each run needs a new --object-store location; a shard that was lost makes its run PARTIAL")
	case errors.Is(err, shard.ErrClock):
		return withHint(status, "synchronise the clocks of all machines")
	}
	return err
}
