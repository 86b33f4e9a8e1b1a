package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/spool"
)

type collectReplayOptions struct {
	dir, from, to string
	forward       forwardFlags
	dryRun, quiet bool
}

func newCollectReplayCommand(e *env) *cobra.Command {
	var o collectReplayOptions
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Send again what a collector has sent",
		Long: `Send again what a collector has sent: the requests that it received from --from up to before --to and that
are still in its queue (--keep-sent, 24 hours by default). They are merged into batches as the collector
does it, with the same answers to failures. The collector may run meanwhile; its queue is only read. What
is refused for good is put aside in dead/ of the queue, in files that begin with replay-.

The batches need not be those that were sent before, so a receiver that knows requests by their hash stores
them once more; a time-series database takes samples that it has for what they are.

` + exitCodes(exitOK, exitFailed, exitUsage, exitInterrupted),
		Example: `  mkdir -p queue && cirrusbench collect replay --dir ./queue --from 2026-11-20T10:00:00Z --to 2026-11-20T11:00:00Z --forward https://host/api/v1/write`,
		Args:    argsRange(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			e.drains.Store(true)
			return runCollectReplay(cmd.Context(), e, &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "./queue", "directory of the collector's queue")
	f.StringVar(&o.from, "from", "", "first time of receipt, such as 2026-11-20T10:00:00Z, or 90m for as long ago")
	f.StringVar(&o.to, "to", "0s", "time of receipt at which to end, likewise")
	o.forward.add(f)
	f.BoolVar(&o.dryRun, "dry-run", false, "only say what would be sent")
	f.BoolVar(&o.quiet, "quiet", false, "log warnings and errors only")
	return cmd
}

// momentOf reads a time, or how long ago it was.
func momentOf(flag, s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, usagef("write --"+flag+" 2026-11-20T10:00:00Z, or --"+flag+" 90m for 90 minutes ago", "--%s %q is neither a time nor a duration", flag, s)
}

// replayChunkBytes is how much is copied aside at once: it is sent before the next.
const replayChunkBytes = 64 << 20

func runCollectReplay(ctx context.Context, e *env, o *collectReplayOptions) (err error) {
	now := time.Now()
	if o.from == "" {
		return usagef("write --from 2026-11-20T10:00:00Z, or --from 90m for 90 minutes ago", "--from is missing")
	}
	from, err := momentOf("from", o.from, now)
	if err != nil {
		return err
	}
	to, err := momentOf("to", o.to, now)
	if err != nil {
		return err
	}
	if !from.Before(to) {
		return usagef("give the earlier time as --from", "--from %s is not before --to %s", from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
	}
	if o.dryRun {
		var t spool.Tally
		broken, err := spool.History(o.dir, from, to, func(r spool.Record) error {
			t.Records++
			t.Bytes += int64(len(r.Body))
			t.Samples += int64(r.Samples) + int64(r.Histograms)
			return ctx.Err()
		})
		if err != nil {
			return withHint(err, "give the directory that 'cirrusbench collect --dir' has")
		}
		_, err = fmt.Fprintf(e.out, "would send %d requests, %s, %d samples; %d broken places passed over\n", t.Records, sizeOf(t.Bytes), t.Samples, broken)
		return err
	}
	level := slog.LevelInfo
	if o.quiet {
		level = slog.LevelWarn
	}
	log := slog.New(slog.NewJSONHandler(e.err, &slog.HandlerOptions{Level: level}))
	// A queue of its own, so that everything is as in the collector: order, merging, failures.
	tmp, err := os.MkdirTemp("", "cirrusbench-replay-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	q, err := spool.Open(tmp, spool.Options{Sync: spool.SyncNever, KeepSent: -1, MinFreeBytes: -1, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	o.forward.batchAge = 0
	f, _, err := o.forward.forwarder(q, filepath.Join(o.dir, "dead"), "replay-"+now.UTC().Format("20060102T150405Z")+"-", nil, log)
	if err != nil {
		return err
	}
	everything := make(chan struct{})
	close(everything)
	var copied int64
	broken, err := spool.History(o.dir, from, to, func(r spool.Record) error {
		if copied += int64(len(r.Body)); copied > replayChunkBytes {
			copied = 0
			if err := f.Run(ctx, everything); err != nil {
				return err
			}
		}
		_, err := q.Append(ctx, &r)
		return err
	})
	if err == nil {
		err = f.Run(ctx, everything)
	}
	s := f.Stats()
	if _, perr := fmt.Fprintf(e.out, "sent %d requests again in %d batches, %d samples; %d put aside; %d broken places passed over\n",
		s.Records, s.Requests, s.Samples, s.DeadRecords, broken); err == nil {
		err = perr
	}
	return err
}
