package cost_test

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// loaded reads a scenario whose records, whatever their name, are those of the bundled Go function.
func loaded(t *testing.T, text string) *cost.Scenario {
	t.Helper()
	s, err := cost.LoadScenario(strings.NewReader(text), "s.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ReadRecords(func(string) (io.ReadCloser, error) { return os.Open("../../fixtures/lambda-records/demo/go.log") }); err != nil {
		t.Fatal(err)
	}
	return s
}

// The scenario that the documentation shows gives all its architectures the same services, and batches cost less.
func TestDocumentedScenario(t *testing.T) {
	doc, err := os.ReadFile("../../docs/costs.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(doc), "```yaml\nversion: 1\nregion")
	text, _, end := strings.Cut(text, "```")
	if !ok || !end {
		t.Fatal("docs/costs.md shows no scenario")
	}
	r := forecast(t, loaded(t, "version: 1\nregion"+text))
	if len(r.Warnings) > 0 {
		t.Errorf("warnings: %q", r.Warnings)
	}
	for i := 1; i < len(r.Architectures); i++ {
		dear, cheap := &r.Architectures[i-1], &r.Architectures[i]
		if dear.Total.Sub(cheap.Total).Sign() <= 0 {
			t.Errorf("%s costs %s, %s costs %s", dear.Name, dear.Total.Format(), cheap.Name, cheap.Total.Format())
		}
		var services [2][]string
		for j, a := range []*cost.ArchitectureResult{dear, cheap} {
			for _, l := range a.Lines {
				services[j] = append(services[j], l.Service)
			}
		}
		if !slices.Equal(services[0], services[1]) {
			t.Errorf("%s has %q, %s has %q", dear.Name, services[0], cheap.Name, services[1])
		}
	}
}

func TestUnlikeServices(t *testing.T) {
	const function = "lambda: {arch: arm64, memory_mb: 128, billed: {mean_ms: 4}}"
	for name, tt := range map[string]struct {
		architectures string
		want          []string
	}{
		"alike": {"a: {" + function + ", apigateway: http}\n  b: {" + function + ", apigateway: rest}", nil},
		"gateway and puts": {
			"python: {" + function + "}\n  go: {" + function + ", apigateway: http, s3: {puts_per_request: 1}}\n  batched: {base: go}",
			[]string{"apigateway is priced for go and batched and missing for python", "s3 puts_per_request is priced for go and batched and missing for python"},
		},
		"logs":                 {"a: {" + function + ", logs: {bytes_per_request: 370}}\n  b: {" + function + "}", []string{"logs is priced for a and missing for b"}},
		"a volume of logs":     {"a: {" + function + ", logs: {gb: 370}}\n  b: {" + function + "}", nil},
		"pods have no gateway": {"a: {" + function + ", apigateway: http}\n  b: {ec2: {type: m7i.2xlarge, count: 8}}", nil},
		"pods store as well":   {"a: {" + function + ", s3: {puts_per_request: 1}}\n  b: {ec2: {type: m7i.2xlarge, count: 8}}", []string{"s3 puts_per_request is priced for a and missing for b"}},
		"a balancer instead":   {"a: {" + function + ", apigateway: http}\n  b: {" + function + ", alb: {lcus: 1}}", nil},
	} {
		s := loaded(t, "version: 1\nregion: us-east-1\nstart: 2026-12\nmonths: 1\ntraffic: {requests_per_hour: 1000}\narchitectures:\n  "+tt.architectures+"\n")
		got := forecast(t, s).Warnings
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i, w := range tt.want {
			if !strings.HasPrefix(got[i], w) {
				t.Errorf("%s: %q, want %q", name, got[i], w)
			}
		}
	}
}
