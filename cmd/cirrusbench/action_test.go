package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/cirrusbench/cirrusbench/internal/report"
)

// compositeAction is a GitHub action made of steps.
type compositeAction struct {
	Inputs map[string]struct {
		Description string
		Default     string
	}
	Outputs map[string]struct{ Value string }
	Runs    struct {
		Using string
		Steps []actionStep
	}
}

type actionStep struct {
	Name, ID, If, Shell, Run, Uses string
	Env, With                      map[string]string
}

func readAction(t *testing.T) (compositeAction, string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "github-action", "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var action compositeAction
	if err := yaml.Unmarshal(data, &action); err != nil {
		t.Fatal(err)
	}
	if action.Runs.Using != "composite" || len(action.Inputs) < 10 {
		t.Fatalf("%+v", action)
	}
	return action, string(data)
}

func (a *compositeAction) step(t *testing.T, name string) actionStep {
	t.Helper()
	for _, s := range a.Runs.Steps {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no step %q", name)
	return actionStep{}
}

// TestActionKnowsTheFlags: the composite action hands its inputs to the gate as variables named after flags, and
// forgets none.
func TestActionKnowsTheFlags(t *testing.T) {
	action, used := readAction(t)
	flags := newGateCommand(&env{}).Flags()
	for name, in := range action.Inputs {
		if in.Description == "" || !strings.Contains(used, "inputs."+name+" }}") && !strings.Contains(used, "inputs."+name+" !=") && !strings.Contains(used, "inputs."+name+" ==") {
			t.Errorf("input %s has no description or no use", name)
		}
	}
	var known []string
	for _, step := range action.Runs.Steps {
		for variable, value := range step.Env {
			if !strings.HasPrefix(variable, "CIRRUSBENCH_") {
				continue
			}
			flag := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(variable, "CIRRUSBENCH_")), "_", "-")
			known = append(known, flag)
			if flags.Lookup(flag) == nil || value != "${{ inputs."+flag+" }}" {
				t.Errorf("%s=%s: the gate has no such flag, or gets another input", variable, value)
			}
		}
		if strings.Contains(step.Run, "${{") {
			t.Errorf("step %q: an expression in the script lets an input run commands", step.Name)
		}
		if step.Run != "" && step.Shell == "" {
			t.Errorf("step %q has no shell, which a composite action needs", step.Name)
		}
	}
	for _, must := range []string{"baseline", "candidate", "baseline-cmd", "candidate-cmd", "tolerance", "on-inconclusive"} {
		if !slices.Contains(known, must) {
			t.Errorf("--%s cannot be given", must)
		}
	}
	if !strings.Contains(action.step(t, "Comment").Run, report.SummaryMarker) {
		t.Error("the comment of an earlier run is looked for by another marker than the gate writes")
	}
}

// runner stands for GitHub's: it runs the shell steps of an action as it does.
type runner struct {
	t      *testing.T
	action compositeAction
	dir    string
	env    []string          // beside what a step sets
	values map[string]string // of expressions, such as inputs.rate
}

func newRunner(t *testing.T, inputs map[string]string) *runner {
	t.Helper()
	action, _ := readAction(t)
	r := &runner{t: t, action: action, dir: t.TempDir(), values: map[string]string{
		"github.sha": "0123abc", "github.repository": "o/r", "github.event.pull_request.number": "7", "github.token": "canary-token",
	}}
	for name, in := range action.Inputs {
		r.values["inputs."+name] = r.expand(in.Default)
	}
	for name, value := range inputs {
		if _, ok := action.Inputs[name]; !ok {
			t.Fatalf("there is no input %s", name)
		}
		r.values["inputs."+name] = value
	}
	for name, file := range map[string]string{"GITHUB_STEP_SUMMARY": "summary.md", "GITHUB_OUTPUT": "output", "GITHUB_PATH": "path"} {
		r.env = append(r.env, name+"="+filepath.Join(r.dir, file))
	}
	r.env = append(r.env, "RUNNER_TEMP="+r.dir, "GITHUB_ACTIONS=true", "PATH="+os.Getenv("PATH"), "HOME="+r.dir, "TMPDIR="+r.dir)
	return r
}

var expression = regexp.MustCompile(`\$\{\{ *([^ }]+) *\}\}`)

func (r *runner) expand(s string) string {
	return expression.ReplaceAllStringFunc(s, func(e string) string {
		value, ok := r.values[expression.FindStringSubmatch(e)[1]]
		if !ok {
			r.t.Fatalf("nothing is known of %s", e)
		}
		return value
	})
}

// run runs a step as GitHub does: bash -e, pipefail, with what it sets as variables. It returns the exit code.
func (r *runner) run(name string) (code int, output string) {
	r.t.Helper()
	step := r.action.step(r.t, name)
	script := filepath.Join(r.dir, "step.sh")
	if err := os.WriteFile(script, []byte(step.Run), 0o600); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.CommandContext(r.t.Context(), "bash", "--noprofile", "--norc", "-e", "-o", "pipefail", script)
	cmd.Dir, cmd.Env = r.dir, slices.Clone(r.env)
	for variable, value := range step.Env {
		cmd.Env = append(cmd.Env, variable+"="+r.expand(value))
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func (r *runner) file(name string) string {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

// shim puts a program of this name before all others; what it was called with is kept in NAME.log.
func (r *runner) shim(name, script string) {
	r.t.Helper()
	bin := filepath.Join(r.dir, "shims")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		r.t.Fatal(err)
	}
	text := "#!/bin/sh\nprintf '%s\\n' \"$*\" >> \"" + filepath.Join(r.dir, name+".log") + "\"\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil { //nolint:gosec // it is to be run
		r.t.Fatal(err)
	}
	r.env = append(r.env, "PATH="+bin+":"+os.Getenv("PATH"))
}

// delayed starts a receiver that answers after a delay.
func delayed(t *testing.T, delay time.Duration) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		time.Sleep(delay)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestActionRuns: the shell steps do on this machine what they are to do in CI: the verdict is the exit code, an output,
// a summary, a comment, an annotation and files to keep.
func TestActionRuns(t *testing.T) {
	r := newRunner(t, map[string]string{
		"baseline": delayed(t, time.Millisecond), "candidate": delayed(t, 60*time.Millisecond), "metric": "p50_ms", "requests": "20", "rate": "200",
		// Nothing of an input may be taken for shell.
		"slo": "p50<10s", "corpus": "",
	})
	r.env = append(r.env, "CIRRUSBENCH_LOOKS=6", "CIRRUSBENCH_ALPHA=0.1") // a shorter job than a real one
	code, out := r.run("Gate")
	if code != exitSLO || !strings.Contains(out, "::error title=cirrusbench gate%3A FAIL::FAIL: gate on p50_ms") {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	if got := r.file("output"); got != "verdict=FAIL\njson="+filepath.Join(r.dir, "gate.json")+"\n" {
		t.Errorf("outputs: %q", got)
	}
	for name, want := range map[string]string{
		"summary.md": "## ❌ FAIL", "gate.md": report.SummaryMarker, "gate.xml": "<failure", "gate.json": `"git_sha": "0123abc"`,
	} {
		if !strings.Contains(r.file(name), want) {
			t.Errorf("%s has no %s:\n%s", name, want, r.file(name))
		}
	}

	// The comment is written anew, and over the one that is there.
	r.shim("gh", `case "$*" in *--paginate*) cat "$RUNNER_TEMP/comments" ;; esac`)
	for comments, want := range map[string]string{
		"":        "api --method POST repos/o/r/issues/7/comments --field body=@" + filepath.Join(r.dir, "gate.md") + " --silent",
		"42\n9\n": "api --method PATCH repos/o/r/issues/comments/42 --field body=@" + filepath.Join(r.dir, "gate.md") + " --silent",
	} {
		if err := os.WriteFile(filepath.Join(r.dir, "comments"), []byte(comments), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out := r.run("Comment"); code != 0 || !strings.Contains(r.file("gh.log"), want) || strings.Contains(r.file("gh.log"), "canary-token") {
			t.Errorf("exit code %d %s\n%s", code, out, r.file("gh.log"))
		}
	}

	// Cirrusbench is installed in the version that was asked for, as one word.
	r.values["inputs.version"] = "v1.2.3; touch owned"
	r.shim("go", "echo /gopath")
	if code, out := r.run("Install cirrusbench"); code != 0 || !strings.Contains(r.file("go.log"), "install github.com/cirrusbench/cirrusbench/cmd/cirrusbench@v1.2.3; touch owned\n") || r.file("path") != "/gopath/bin\n" {
		t.Errorf("exit code %d %s\n%s", code, out, r.file("go.log"))
	}
	if _, err := os.Stat(filepath.Join(r.dir, "owned")); err == nil {
		t.Error("an input ran as a command")
	}
}

// TestActionIsNeverGreenByMistake: where nothing could be measured, the job must stop and say INVALID.
func TestActionIsNeverGreenByMistake(t *testing.T) {
	for name, c := range map[string]struct {
		inputs  map[string]string
		code    int
		verdict string
	}{
		"nothing given":   {nil, exitUsage, "INVALID"},
		"nobody listens":  {map[string]string{"baseline": "http://127.0.0.1:1", "candidate": "http://127.0.0.1:1", "metric": "p50_ms", "requests": "20"}, exitInvalid, "INVALID"},
		"quotes and such": {map[string]string{"baseline": "$(touch owned)", "candidate": "`touch owned`"}, exitFailed, "INVALID"},
	} {
		r := newRunner(t, c.inputs)
		code, out := r.run("Gate")
		if code != c.code || !strings.HasPrefix(r.file("output"), "verdict="+c.verdict+"\n") {
			t.Errorf("%s: exit code %d, outputs %q\n%s", name, code, r.file("output"), out)
		}
		if _, err := os.Stat(filepath.Join(r.dir, "owned")); err == nil {
			t.Errorf("%s: an input ran as a command", name)
		}
	}
}
