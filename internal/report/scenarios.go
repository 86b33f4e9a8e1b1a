package report

import (
	"io"
	"strings"
)

// ScenarioInfo says what a scenario is about.
type ScenarioInfo struct {
	// Name selects it, About is one sentence, Architectures are what it compares.
	Name          string   `json:"name"`
	About         string   `json:"about"`
	Architectures []string `json:"architectures"`
}

// Scenarios renders a list of scenarios.
func Scenarios(w io.Writer, f Format, list []ScenarioInfo) error {
	p := &page{title: "Bundled scenarios"}
	for _, s := range list {
		p.blocks = append(p.blocks, block{
			title: clean(s.Name), plain: clean(s.About),
			facts: []fact{{"Compares", clean(strings.Join(s.Architectures, ", "))}},
		})
	}
	return p.write(w, f)
}
