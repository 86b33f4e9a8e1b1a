package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// env is the process as commands see it, so that a test can hand in another.
type env struct {
	in     io.Reader
	out    io.Writer // results
	err    io.Writer // everything else
	getenv func(string) string
	errTTY bool // err is a terminal: progress may redraw its line
	// observe is for tests that run the program with latencies that are a function of the plan; see replay.Config.
	observe func(n int, o *stats.Observation)
	drains  *atomic.Bool // set by commands that finish their work after an interrupt; the others end at once
}

// sayf prints a line for people. Nobody can be told when that fails.
func (e *env) sayf(format string, args ...any) { sayf(e.err, format, args...) }

func sayf(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, "cirrusbench: "+format+"\n", args...)
}

func processEnv() *env {
	return &env{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv,
		errTTY: term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb",
		drains: new(atomic.Bool),
	}
}

// run is the program: it parses args, carries the command out and returns the exit code.
func run(args []string, e *env) int {
	// The first signal asks the command to finish: a replay drains, a server lets requests end. After it
	// the default action is back, so that a second one kills.
	// A pipe that closes early is a write error like another, after which everything is cleaned up.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	defer context.AfterFunc(ctx, func() {
		stop()
		if !e.drains.Load() {
			os.Exit(exitInterrupted)
		}
	})()

	root := newRootCommand(e)
	root.SetArgs(args)
	root.SetIn(e.in)
	root.SetOut(e.out)
	root.SetErr(e.err)
	strictExtras(root)
	return conclude(e.err, root.ExecuteContext(ctx))
}

func newRootCommand(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "cirrusbench",
		Short: "From real remote-write traffic to a measured tail to dollars",
		Long: `cirrusbench benchmarks serverless Prometheus remote-write ingestion and forecasts its cost.

It replays captured requests against an endpoint without coordinated omission, computes the
tail-latency deltas D2–D5 with their error and support, and turns the durations that Lambda
billed into money and concurrency over 24 months.`,
		Example: `  cirrusbench replay                              the main job: bundled server, bundled corpus
  cirrusbench replay --target https://host/api/v1/write --rate 100 --duration 60s --out run.json
  cirrusbench deltas run.json
  cirrusbench forecast`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(noEmptyFlags(cmd), flagsFromEnv(cmd, e.getenv))
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.Version = tool().Version
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if cmd.HasAvailableSubCommands() && cmd.Flags().NArg() > 0 { // replai --rate 100: the command is wrong and not the flag
			return unknownCommand(cmd, cmd.Flags().Arg(0))
		}
		if msg, hint := badValue(err); msg != "" {
			return usagef(cmp.Or(hint, fmt.Sprintf("run '%s --help' for its flags", cmd.CommandPath())), "%s", msg)
		}
		hint := fmt.Sprintf("run '%s --help' for its flags", cmd.CommandPath())
		if near := nearFlag(cmd, err); near != "" {
			hint = "did you mean --" + near + "?"
		} else if owners := flagOwners(cmd, strings.TrimPrefix(unknownFlag(cmd, err), "--")); len(owners) > 0 {
			hint = "it is a flag of '" + strings.Join(owners, "', '") + "'"
		}
		return usagef(hint, "%s", flagMessage(cmd, err))
	})
	root.AddCommand(
		newServeCommand(e),
		newCollectCommand(e),
		newReplayCommand(e),
		newCaptureCommand(e),
		newSelftestCommand(e),
		newDeltasCommand(e),
		newCompareCommand(e),
		newReportCommand(e),
		newMergeCommand(e),
		newGateCommand(e),
		newInvocationsCommand(e),
		newForecastCommand(e),
		newTuneCommand(e),
		newPricesCommand(e),
		newLambdaHostCommand(e),
		newVersionCommand(e),
	)
	return root
}

// strictExtras makes names that cobra's help and completion do not know errors: a script must not take the list of commands
// for what it asked for. It must know where the output goes.
func strictExtras(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Use, cmd.Long = "help [COMMAND]", "Help about any command: the same as COMMAND --help."
			cmd.PersistentPreRunE = func(*cobra.Command, []string) error { return nil } // its flags are of no account
			help := cmd.Run
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				if of, rest, err := root.Find(args); err != nil {
					return err
				} else if len(rest) > 0 {
					return unknownCommand(of, rest[0])
				}
				help(cmd, args)
				return nil
			}
		case "completion":
			cmd.Args = argsRange(0, 0, "")
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range cmd.Commands() {
				shell.Args = argsRange(0, 0, "")
			}
		}
	}
}

// unknownCommand is the error of a command with subcommands whose first argument is none of them.
func unknownCommand(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 2 // cobra has none for commands below the root
	hint := fmt.Sprintf("run '%s --help' for the list of commands", cmd.CommandPath())
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		hint = fmt.Sprintf("did you mean '%s %s'?", cmd.CommandPath(), near[0])
	}
	return usagef(hint, "unknown command %q", name)
}

// flagMessage makes pflag's wording say what is wrong in one clause.
func flagMessage(cmd *cobra.Command, err error) string {
	if name := unknownFlag(cmd, err); name != "" {
		return "unknown flag " + name
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok && e.GetFlag() != nil {
		return "--" + e.GetFlag().Name + " needs a value"
	}
	return err.Error()
}

// unknownFlag is the flag that a command does not have, as it was typed. pflag takes -rate for the letters r, a, t and e: it is given
// in full where it is a flag's name, and by its first letter otherwise, for the rest may be a value, and a secret.
func unknownFlag(cmd *cobra.Command, err error) string {
	e, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return ""
	}
	if e.GetSpecifiedShortnames() == "" {
		return "--" + strings.TrimLeft(e.GetSpecifiedName(), "-")
	}
	if letters, _, _ := strings.Cut(e.GetSpecifiedShortnames(), "="); cmd.Flags().Lookup(letters) != nil {
		return "-" + letters
	}
	return "-" + e.GetSpecifiedName()
}

// nearFlag names the flag that was meant instead of one that the command does not have, or is empty: the same name after another
// number of dashes, or the only name that begins with what was typed.
func nearFlag(cmd *cobra.Command, err error) string {
	typed := strings.TrimLeft(unknownFlag(cmd, err), "-")
	if len(typed) < 2 {
		return ""
	}
	var begins []string
	exact := ""
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Hidden:
		case f.Name == typed:
			exact = f.Name
		case strings.HasPrefix(f.Name, typed):
			begins = append(begins, f.Name)
		}
	})
	if exact == "" && len(begins) == 1 {
		return begins[0]
	}
	return exact
}

// flagOwners are the commands below cmd that have the flag.
func flagOwners(cmd *cobra.Command, name string) []string {
	var owners []string
	for _, sub := range cmd.Commands() {
		if sub.Flags().Lookup(name) != nil && sub.IsAvailableCommand() {
			owners = append(owners, sub.CommandPath())
		}
	}
	return owners
}

// noEmptyFlags refuses --target= and the like. It is what a script writes whose variable is not set, and must not be another
// job than the one that was asked for.
func noEmptyFlags(cmd *cobra.Command) error {
	var errs []error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" {
			errs = append(errs, usagef("leave it out, or give it a value; is a variable not set?", "--%s is empty", f.Name))
		}
	})
	return errors.Join(errs...)
}

// envName is the environment variable that stands for a flag.
func envName(flag string) string {
	return "CIRRUSBENCH_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// flagsFromEnv sets every flag that was not given from its environment variable.
func flagsFromEnv(cmd *cobra.Command, getenv func(string) string) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" {
			return
		}
		v := getenv(envName(f.Name))
		if v == "" {
			return
		}
		if err := cmd.Flags().Set(f.Name, v); err != nil {
			msg, _ := badValue(err)
			errs = append(errs, usagef("unset it, or give --"+f.Name, "environment variable %s: %s", envName(f.Name), cmp.Or(msg, err.Error())))
		}
	})
	return errors.Join(errs...)
}

// noArgs and argsRange are cobra's checks with errors that count as wrong usage.
func argsRange(lo, hi int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := "run '" + cmd.CommandPath() + " --help' for an example"
		switch {
		case len(args) < lo:
			return usagef(hint, "%s is missing", what)
		case hi >= 0 && len(args) > hi:
			if hi == 0 && cmd.HasAvailableSubCommands() {
				return unknownCommand(cmd, args[0])
			}
			if hi == 0 {
				return usagef(hint, "unexpected argument %q", args[0])
			}
			return usagef(hint, "unexpected argument %q after %s", args[hi], what)
		}
		return nil
	}
}
