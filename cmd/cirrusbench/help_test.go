package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// leaves returns the commands that do something.
func leaves(c *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "completion" || sub.Name() == "help" {
			continue
		}
		if sub.HasSubCommands() {
			all = append(all, leaves(sub)...)
			if sub.Example == "" {
				continue // it only has commands
			}
		}
		all = append(all, sub)
	}
	return all
}

// TestHelp: every command explains itself, lists its exit codes, and its first example runs as it stands.
func TestHelp(t *testing.T) {
	commands := leaves(newRootCommand(&env{}))
	if len(commands) < 5 {
		t.Fatalf("only %d commands found", len(commands))
	}
	for _, c := range commands {
		t.Run(c.CommandPath(), func(t *testing.T) {
			if !strings.Contains(c.Long, "Exit codes:") {
				t.Error("--help lists no exit codes")
			}
			c.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
					t.Errorf("--%s: usage %q is empty or a sentence", f.Name, f.Usage)
				}
			})
			example, _, _ := strings.Cut(strings.TrimSpace(c.Example), "\n")
			if !strings.Contains(example, "cirrusbench") {
				t.Fatalf("no example: %q", example)
			}
			runExample(t, example)
		})
	}
}

// runExample runs a shell line with the program under test on the PATH. A server is asked to stop once it listens.
func runExample(t *testing.T, line string) {
	t.Helper()
	// exec lets the signal reach the program where the line is one command.
	if strings.HasPrefix(line, "cirrusbench ") {
		line = "exec " + line
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", line)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "CIRRUSBENCH_LISTEN=127.0.0.1:0") // the usual port may be taken here
	if strings.Contains(line, "bin/bootstrap") {                     // what make lambda makes
		if out, err := goBuildBootstrap(t.Context(), filepath.Join(cmd.Dir, "bin", "bootstrap")).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if strings.Contains(line, "capture import ./data") { // what a Prometheus makes
		if err := os.CopyFS(filepath.Join(cmd.Dir, "data"), os.DirFS(filepath.Join("..", "..", "fixtures", "tsdb"))); err != nil {
			t.Fatal(err)
		}
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "listening on") {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == exitInvalid {
		return // a busy machine may rightly make a run INVALID
	}
	if err != nil {
		t.Errorf("$ %s: %v\n%s", line, err, said.String())
	}
}
