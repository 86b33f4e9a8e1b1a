// Package cirrusbench_test holds the checks that look at the tree as a whole.
package cirrusbench_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/cirrusbench/cirrusbench/"

// plan is the table of docs/architecture.md: a package of internal/ and what it may import of ours.
// A package on no row does not exist; a row may be ahead of its package.
var plan = map[string][]string{
	"remotewrite": {},
	"stats":       {},
	"lambdalog":   {},
	"durable":     {},
	"lambdahost":  {},
	"store":       {"durable"},
	"spool":       {"durable"},
	"shard":       {"store", "stats"},
	"kinesis":     {},
	"cost":        {"lambdalog", "stats"},
	"capture":     {"store", "remotewrite"},
	"awsread":     {"lambdalog", "cost"},
	"server":      {"remotewrite", "capture"},
	"workload":    {"capture", "remotewrite"},
	"replay":      {"capture", "remotewrite", "stats", "lambdalog"},
	"pipeline":    {"stats"},
	"logship":     {"lambdalog"},
	"report":      {"stats", "cost", "lambdalog"},
	"collector":   {"server", "spool", "remotewrite", "durable"},
}

// TestFloorPlan parses every import in-process: a test that asked `go list` would be served from the
// test cache when only another package changed.
func TestFloorPlan(t *testing.T) {
	files := 0
	err := fs.WalkDir(os.DirFS("internal"), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		files++
		name, _, _ := strings.Cut(p, "/")
		allowed, ok := plan[name]
		if !ok {
			t.Errorf("package %s is not on the floor plan", name)
		}
		for _, dep := range imports(t, path.Join("internal", p)) {
			inner, internal := strings.CutPrefix(dep, "internal/")
			inner, _, _ = strings.Cut(inner, "/")
			if !internal || (inner != name && !slices.Contains(allowed, inner)) {
				t.Errorf("internal/%s: %s may not import %s", p, name, dep)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Fatal("no package found under internal/: the test looks in the wrong place")
	}
}

// TestFixturesImportNothing keeps the embedded data free of code: it may be embedded by any main.
func TestFixturesImportNothing(t *testing.T) {
	for _, dep := range imports(t, "fixtures/fixtures.go") {
		t.Errorf("fixtures/fixtures.go imports %s; data imports nothing of ours", dep)
	}
}

// TestPlanIsDocumented compares the map above with the table in docs/architecture.md.
func TestPlanIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| [0-9] \\| `([a-z]+)` \\|[^|]*\\| ([^|]*) \\|")
	documented := map[string][]string{}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		documented[m[1]] = []string{}
		for dep := range strings.SplitSeq(m[2], ",") {
			if dep = strings.TrimSpace(dep); dep != "–" {
				documented[m[1]] = append(documented[m[1]], dep)
			}
		}
	}
	for name, deps := range plan {
		got, ok := documented[name]
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(deps)); !ok || !slices.Equal(got, want) {
			t.Errorf("docs/architecture.md: %s may import %v, the test says %v", name, got, want)
		}
	}
	for name := range documented {
		if _, ok := plan[name]; !ok {
			t.Errorf("docs/architecture.md has a row for %s, the test has none", name)
		}
	}
}

// imports returns what a Go file imports of this module, without the module path.
func imports(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for _, spec := range f.Imports {
		s, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if dep, ok := strings.CutPrefix(s, modulePath); ok {
			ours = append(ours, dep)
		}
	}
	return ours
}
