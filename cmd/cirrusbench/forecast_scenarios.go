package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/cirrusbench/cirrusbench/fixtures"
	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/report"
)

// demoName is the scenario that is priced when nothing is given.
const demoName = "demo"

// scenariosSchema is the schema of --list-scenarios -o json.
const scenariosSchema = "cirrusbench/scenarios/v1"

// scenarioOf reads --scenario: a file, or else a bundled scenario of that name. Flags that were given
// replace what it says.
func (o *forecastOptions) scenarioOf(e *env) (*cost.Scenario, error) {
	if info, err := os.Stat(o.scenario); err == nil && info.IsDir() {
		return nil, withHint(fmt.Errorf("--scenario %s is a directory", o.scenario), "give a file in it; 'cirrusbench forecast --list-scenarios' lists what is bundled")
	}
	f, err := os.Open(o.scenario)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(o.scenario, `/\.`) {
		name := strings.ToLower(o.scenario) // --list-scenarios prints them in capitals
		s, err := bundledScenario(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usagef("use one of "+strings.Join(scenarioNames(), ", ")+", or give a file such as ./"+o.scenario+".yaml",
				"there is neither a file nor a bundled scenario %q", o.scenario)
		}
		if err != nil {
			return nil, err
		}
		e.sayf("pricing the bundled scenario %s", name)
		return s, o.override(s)
	}
	if err != nil {
		return nil, withHint(err, "check the name; 'cirrusbench forecast --list-scenarios' lists what is bundled")
	}
	defer func() { _ = f.Close() }()
	s, err := cost.LoadScenario(f, o.scenario)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(o.scenario)
	if err := s.ReadRecords(func(name string) (io.ReadCloser, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return os.Open(name)
	}); err != nil {
		return nil, err
	}
	return s, o.override(s)
}

// demoScenario is the bundled scenario of the first paper.
func (o *forecastOptions) demoScenario(e *env) (*cost.Scenario, error) {
	s, err := bundledScenario(demoName)
	if err != nil {
		return nil, err
	}
	e.sayf("no records given: pricing the bundled scenario, the first paper's Python function, its Go rewrite, and batching (synthetic records)")
	return s, o.override(s)
}

// bundledScenario reads a scenario that is inside the program, with its records. It is fs.ErrNotExist for
// another name.
func bundledScenario(name string) (*cost.Scenario, error) {
	f, err := fixtures.Scenarios().Open(name + ".yaml")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	s, err := cost.LoadScenario(f, name+".yaml")
	if err != nil {
		return nil, err
	}
	return s, s.ReadRecords(func(from string) (io.ReadCloser, error) {
		return openBundled(fixtures.LambdaRecords(), strings.TrimPrefix(path.Clean(from), "../lambda-records/"))
	})
}

func openBundled(fsys fs.FS, name string) (io.ReadCloser, error) { return fsys.Open(name) }

// scenarioNames lists the bundled scenarios, the one that is the default first.
func scenarioNames() []string {
	names := []string{demoName}
	entries, err := fs.ReadDir(fixtures.Scenarios(), ".")
	if err != nil {
		return names // never: it is inside the program
	}
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), ".yaml"); ok && name != demoName {
			names = append(names, name)
		}
	}
	return names
}

// scenarioList is the JSON form of --list-scenarios.
type scenarioList struct {
	Schema    string                `json:"schema"`
	Tool      lambdalog.Tool        `json:"tool"`
	Scenarios []report.ScenarioInfo `json:"scenarios"`
}

// listScenarios says what scenarios are bundled, and what they compare.
func listScenarios(e *env, o *forecastOptions, files []string) error {
	if len(files) > 0 || o.scenario != "" || o.explain != "" {
		return usagef("leave the rest out", "--list-scenarios goes with -o and --out only")
	}
	if o.output != "table" && o.output != "markdown" && o.output != "json" {
		return usagef("use -o table, -o markdown or -o json", "--list-scenarios has no %s format", o.output)
	}
	list := scenarioList{Schema: scenariosSchema, Tool: lambdalog.Tool(tool())}
	for _, name := range scenarioNames() {
		s, err := bundledScenario(name)
		if err != nil {
			return err
		}
		about, err := aboutScenario(name)
		if err != nil {
			return err
		}
		info := report.ScenarioInfo{Name: name, About: about}
		for _, a := range s.Architectures {
			info.Architectures = append(info.Architectures, a.Name)
		}
		list.Scenarios = append(list.Scenarios, info)
	}
	return emit(e, o.out, func(w io.Writer) error {
		if o.output != "json" {
			return report.Scenarios(w, report.Format(o.output), list.Scenarios)
		}
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	})
}

// aboutScenario returns the first sentence of the comment at the head of a scenario.
func aboutScenario(name string) (string, error) {
	f, err := fixtures.Scenarios().Open(name + ".yaml")
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	var words []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, comment := strings.CutPrefix(lines.Text(), "# ")
		if !comment {
			break
		}
		words = append(words, text)
	}
	text := strings.Join(words, " ")
	for i := 1; i < len(text); i++ {
		if text[i] == ' ' && (text[i-1] == '.' || text[i-1] == '?') {
			return text[:i], nil
		}
	}
	if text == "" {
		return "", fmt.Errorf("bundled scenario %s does not say what it is", name)
	}
	return text, nil
}
