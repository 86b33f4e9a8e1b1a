package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// TestActionKnowsTheFlags: the composite action hands its inputs to the gate as variables named after flags, and
// forgets none.
func TestActionKnowsTheFlags(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "github-action", "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var action struct {
		Inputs map[string]struct{ Description string }
		Runs   struct {
			Using string
			Steps []struct {
				Name, Shell, Run, Uses string
				Env                    map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(data, &action); err != nil {
		t.Fatal(err)
	}
	if action.Runs.Using != "composite" || len(action.Inputs) < 10 {
		t.Fatalf("%+v", action)
	}
	flags := newGateCommand(&env{}).Flags()
	used := string(data)
	for name, in := range action.Inputs {
		if in.Description == "" || !strings.Contains(used, "inputs."+name+" }}") && !strings.Contains(used, "inputs."+name+" !=") {
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
}
