package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/report"
	"github.com/cirrusbench/cirrusbench/internal/shard"
	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

func newMergeCommand(e *env) *cobra.Command {
	var output, out, html string
	cmd := &cobra.Command{
		Use:   "merge LOCATION | RUN.json…",
		Short: "Add up the shards of a run, exactly",
		Long: `Add up the results of the shards of one run: those that 'cirrusbench replay --shard --object-store LOCATION' left in a
directory or s3://bucket/prefix, or the run files of shards.

Counts and histograms are added, so percentiles and D2–D5 are those of all requests together, and timelines are
aligned on the common start. The result is a run file like that of a single process.

Every shard must have followed the same plan, with the same corpus, configuration and version; of each index exactly one
complete result counts, and its hashes must hold: anything else is refused. Where a shard is missing or was interrupted
the result is marked PARTIAL, the exit code is 5, and 'compare' and 'gate' do not take it.

` + exitCodes(exitOK, exitFailed, exitUsage, exitSLO, exitInvalid),
		Example: `  cirrusbench replay --requests 60 --shard 0/2 --out 0.json && cirrusbench replay --requests 60 --shard 1/2 --out 1.json && cirrusbench merge 0.json 1.json --out run.json
  cirrusbench merge s3://bench/2026-11-20 --out run.json --html report.html`,
		Args: argsRange(1, -1, "a location or run files"),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := mergeRuns(cmd.Context(), e, args)
			if err != nil {
				return err
			}
			var errs []error
			if out != "" {
				errs = append(errs, emit(e, out, run.WriteJSON))
			}
			if html != "" {
				errs = append(errs, emit(e, html, func(w io.Writer) error { return report.RunHTML(w, run) }))
			}
			if output == "json" {
				errs = append(errs, run.WriteJSON(e.out))
			} else {
				errs = append(errs, report.Run(e.out, report.Format(output), run))
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
			remark(e, run)
			if m := run.Merged; m.Partial {
				return withHint(&statusError{code: exitInvalid, msg: "PARTIAL: " + strings.Join(m.Reasons, "; ")},
					"the numbers are right for what is there; run again to have all of it")
			}
			return ending(run)
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "write the merged run to this file")
	f.StringVar(&html, "html", "", "write a page about the merged run to this file")
	addOutputFlag(cmd, &output, "table", "json", "markdown")
	return cmd
}

// mergeRuns reads and adds up what args name, one run file at a time.
func mergeRuns(ctx context.Context, e *env, args []string) (*stats.Run, error) {
	m := shardMerger{e: e, Merger: stats.NewMerger()}
	missing, err := m.collect(ctx, args)
	if err != nil {
		return nil, refused(err)
	}
	run, err := m.Merge(missing)
	if err != nil {
		return nil, refused(err)
	}
	if m.billed {
		e.sayf("note: what was billed is not merged: the run files hold percentiles of it, which cannot be added; use 'cirrusbench invocations' on all records")
	}
	if len(m.objectives) > 0 {
		judged, err := replay.ParseObjectives(strings.Join(m.objectives, ","))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.first, err)
		}
		run.Objectives = replay.Judge(judged, run)
	}
	return run, nil
}

// shardMerger adds up run files and keeps what this command needs of them besides the sum.
type shardMerger struct {
	e *env
	*stats.Merger
	first      string   // the name of the first one
	objectives []string // of the first one
	billed     bool     // whether any holds what was billed
}

// add reads a run file and adds it.
func (m *shardMerger) add(rd io.Reader, name string) (*stats.Run, error) {
	run, err := m.Add(rd, name)
	if err != nil {
		return nil, err
	}
	m.billed = m.billed || len(run.Billed) > 0
	if m.first == "" {
		m.first = name
		for _, o := range run.Objectives {
			m.objectives = append(m.objectives, o.Objective)
		}
	}
	return run, nil
}

// collect adds run files, or the results in a location. It returns why there is no result of a shard, by its index.
func (m *shardMerger) collect(ctx context.Context, args []string) (map[int]string, error) {
	if info, err := os.Stat(args[0]); err == nil && !info.IsDir() || args[0] == "-" || len(args) > 1 || strings.HasSuffix(args[0], ".json") {
		return nil, m.addFiles(args)
	}
	s, err := openStore(ctx, args[0])
	if err != nil {
		return nil, err
	}
	if dir, ok := s.(*store.Dir); ok {
		if _, err := os.Stat(dir.String()); err != nil {
			return nil, withHint(err, "give the --object-store location of the shards, or their run files")
		}
	}
	c, err := shard.Collect(ctx, s, m.add)
	if err != nil {
		return nil, err
	}
	for _, n := range c.Notes {
		m.e.sayf("note: %s", n)
	}
	return c.Missing, nil
}

// addFiles adds run files; all that cannot be read are reported, and of those that can the first that does not fit.
func (m *shardMerger) addFiles(names []string) error {
	var unreadable, unlike []error
	for _, name := range names {
		err := m.addFile(name)
		_, misfit := errors.AsType[*stats.MergeError](err)
		switch {
		case misfit && len(unlike) == 0:
			unlike = append(unlike, err)
		case err != nil && !misfit:
			unreadable = append(unreadable, err)
		}
	}
	if len(unreadable) > 0 {
		return errors.Join(unreadable...)
	}
	return errors.Join(unlike...)
}

func (m *shardMerger) addFile(name string) error {
	in, label, closeInput, err := openInput(m.e, name)
	if err != nil {
		return err
	}
	defer closeInput()
	_, err = m.add(in, label)
	return err
}

// refused gives results that must not be added up their exit code.
func refused(err error) error {
	if errors.Is(err, shard.ErrNoResult) {
		return withHint(err, "are the shards still running? Each leaves its result when it ends; give what --object-store had")
	}
	_, unlike := errors.AsType[*stats.MergeError](err)
	_, damaged := errors.AsType[*shard.DamagedError](err)
	if unlike || damaged {
		return withHint(&statusError{code: exitInvalid, msg: "REFUSED: " + err.Error()}, "a location holds the shards of one run: use a new one for each, and the same version everywhere")
	}
	return err
}
