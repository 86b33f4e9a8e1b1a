package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// The exit codes in use; the README has the table.
const (
	exitOK           = 0
	exitFailed       = 1
	exitUsage        = 2
	exitSLO          = 3
	exitInconclusive = 4
	exitInvalid      = 5
	exitInterrupted  = 130
)

// exitCodes is the part of a command's help that lists its exit codes.
func exitCodes(codes ...int) string {
	meaning := map[int]string{
		exitOK:           "done",
		exitFailed:       "failed: network, I/O, or a bad input file",
		exitUsage:        "wrong usage",
		exitSLO:          "FAIL: a regression beyond the tolerance, or an objective given by --slo is broken",
		exitInconclusive: "INCONCLUSIVE: the evidence shows neither PASS nor FAIL",
		exitInvalid:      "INVALID or PARTIAL: the numbers must not be trusted; the reasons are printed",
		exitInterrupted:  "interrupted; what was measured until then is written",
	}
	var b strings.Builder
	b.WriteString("Exit codes:")
	for _, c := range codes {
		fmt.Fprintf(&b, "\n  %-4d %s", c, meaning[c])
	}
	return b.String()
}

// usageError is a command line that cannot be carried out: exit code 2.
type usageError struct {
	msg  string
	hint string
}

func (e *usageError) Error() string { return e.msg }

func usagef(hint, format string, args ...any) error {
	return &usageError{msg: fmt.Sprintf(format, args...), hint: hint}
}

// statusError ends the program with a code of its own. Its message is for people and may be empty when
// everything has been said.
type statusError struct {
	code int
	msg  string
}

func (e *statusError) Error() string { return e.msg }

// hintError adds what to type next to an error that has no hint of its own.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hintError{err: err, hint: hint}
}

// conclude prints err as a person wants to read it and returns the exit code: the one place that maps
// errors to codes.
func conclude(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitFailed
	if e, ok := errors.AsType[*statusError](err); ok {
		code = e.code
	} else if _, ok := errors.AsType[*usageError](err); ok {
		code = exitUsage
	} else if errors.Is(err, context.Canceled) {
		code = exitInterrupted
	}
	if e, ok := errors.AsType[*os.PathError](err); ok && e.Path == os.Stdout.Name() && errors.Is(e, syscall.EPIPE) {
		return code // | head has had enough, which is nothing to complain of
	}
	if msg := strings.TrimSpace(err.Error()); msg != "" {
		for line := range strings.SplitSeq(msg, "\n") {
			sayf(w, "%s", line)
		}
	}
	if h := hintOf(err); h != "" {
		sayf(w, "hint: %s", h)
	}
	return code
}

// hintOf finds the hint that the outermost error with one carries.
func hintOf(err error) string {
	if e, ok := errors.AsType[*usageError](err); ok && e.hint != "" {
		return e.hint
	}
	if e, ok := errors.AsType[*hintError](err); ok {
		return e.hint
	}
	if e, ok := errors.AsType[*capture.ObjectError](err); ok && e.Hint != "" {
		return e.Hint
	}
	if e, ok := errors.AsType[*capture.EmptyError](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*store.LocationError](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*stats.InputError](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return e.Hint()
	}
	if e, ok := errors.AsType[*remotewrite.Error](err); ok {
		return e.Hint
	}
	return ""
}
