package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// block is a console transcript of the README: its commands are run and the output is compared.
type block struct {
	exact    bool // to the letter; else numbers may differ
	commands []transcript
}

type transcript struct {
	command string
	output  string
}

var consoleBlock = regexp.MustCompile("(?s)<!-- readme:(exact|shape) -->\n```console\n(.*?)```\n")

func readBlocks(readme string) []block {
	var blocks []block
	for _, m := range consoleBlock.FindAllStringSubmatch(readme, -1) {
		b := block{exact: m[1] == "exact"}
		for line := range strings.Lines(m[2]) {
			if cmd, ok := strings.CutPrefix(line, "$ "); ok {
				b.commands = append(b.commands, transcript{command: strings.TrimSpace(cmd)})
			} else if len(b.commands) > 0 {
				b.commands[len(b.commands)-1].output += line
			}
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// TestREADME runs every command that the README shows and compares what it prints, stderr first as on a terminal. Run
// it with -update to write the transcripts anew.
func TestREADME(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "README.md")
	readme, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	blocks := readBlocks(string(readme))
	if len(blocks) == 0 {
		t.Fatal("the README shows no transcript: the test looks for the wrong thing")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(root, "fixtures"), filepath.Join(dir, "fixtures")); err != nil {
		t.Fatal(err)
	}
	fresh := string(readme)
	for _, b := range blocks {
		for _, c := range b.commands {
			args := strings.Fields(c.command)
			if args[0] != "cirrusbench" {
				t.Errorf("the transcript runs %q, not cirrusbench", c.command)
				continue
			}
			cmd := exec.CommandContext(t.Context(), self, args[1:]...)
			// testscript's main runs the program under this name.
			cmd.Args[0] = "cirrusbench"
			cmd.Dir = dir
			var out, errOut bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errOut
			if err := cmd.Run(); err != nil {
				if ee, ok := err.(*exec.ExitError); !ok || ee.ExitCode() != exitInvalid || b.exact { //nolint:errorlint // Run returns it bare
					t.Errorf("$ %s: %v\n%s", c.command, err, errOut.Bytes())
				}
			}
			got := errOut.String() + out.String()
			if *update {
				fresh = strings.Replace(fresh, "$ "+c.command+"\n"+c.output, "$ "+c.command+"\n"+got, 1)
				continue
			}
			want := c.output
			if !b.exact {
				got, want = shape(got), shape(want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("$ %s: the README differs (-README +now); run the test with -update:\n%s", c.command, diff)
			}
		}
	}
	if *update && fresh != string(readme) {
		if err := os.WriteFile(path, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	number  = regexp.MustCompile(`\b[0-9a-f]{12}\b|[~*]?[0-9][0-9a-f,.:T-]*`)
	invalid = regexp.MustCompile(`(?ms)^INVALID: do not trust.*?\n\n|^cirrusbench: (?:INVALID|hint|note): [^\n]*\n`)
	spaces  = regexp.MustCompile(`[ ─\n]+`)
)

// shape is what a transcript says apart from its numbers. On a busy machine a run may rightly call itself INVALID; that
// is not what the README shows.
func shape(s string) string {
	s = invalid.ReplaceAllString(s, "")
	s = strings.ReplaceAll(s, "Load generator  INVALID:", "Load generator  valid:")
	return strings.TrimSpace(spaces.ReplaceAllString(number.ReplaceAllString(s, "#"), " "))
}
