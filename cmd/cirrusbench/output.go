package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/durable"
)

// addOutputFlag adds -o/--output with the formats that a command can print; the first is the default.
func addOutputFlag(cmd *cobra.Command, dst *string, formats ...string) {
	cmd.Flags().StringVarP(dst, "output", "o", formats[0], "result format: "+strings.Join(formats, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
	old := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(formats, *dst) {
			return badOutput(*dst, formats...)
		}
		if old != nil {
			return old(cmd, args)
		}
		return nil
	}
}

func badOutput(got string, formats ...string) error {
	return usagef("use -o "+strings.Join(formats, ", -o "), "unknown output format %q", got)
}

// emit renders a result to stdout, or to a file when path is given: whole or not at all.
func emit(e *env, path string, render func(io.Writer) error) error {
	if path == "" {
		return render(e.out)
	}
	if err := writeFile(path, render); err != nil {
		return err
	}
	e.sayf("wrote %s", path)
	return nil
}

// writeFile renders into a file; an error leaves the old one as it was.
func writeFile(path string, render func(io.Writer) error) error {
	var failed error // of what is rendered, and not for want of a place to write to
	err := durable.Render(path, 0o644, func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 256<<10)
		failed = render(b)
		// It keeps the error of the file, if that was the reason.
		if err := b.Flush(); err != nil {
			failed = nil
			return err
		}
		return failed
	})
	if failed != nil {
		return failed
	}
	return withHint(err, writeHint(path))
}

func writeHint(path string) string {
	return "does the directory " + filepath.Dir(path) + " exist, and may you write there?"
}

// checkWritable finds out before a long job that its result would have nowhere to go.
func checkWritable(paths ...string) error {
	for _, path := range paths {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return withHint(fmt.Errorf("%s is a directory", path), "give the name of a file in it")
		}
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			continue // a device or a pipe: written as it is
		}
		probe, err := os.CreateTemp(filepath.Dir(path), ".cirrusbench-probe-")
		if err != nil {
			return withHint(fmt.Errorf("%s cannot be written: %w", path, errors.Unwrap(err)), writeHint(path))
		}
		if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
			return fmt.Errorf("%s cannot be written: %w", path, err)
		}
	}
	return nil
}
