package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/fixtures"
	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// The totals of every bundled scenario are the same in the table, Markdown, JSON, CSV and on the page, whatever
// each of them rounds: a figure that is printed is the JSON's figure, half-up to cents.
func TestSameTotalsInEveryForm(t *testing.T) {
	book, err := cost.EmbeddedBook()
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.ReadDir(fixtures.Scenarios(), ".")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 5 {
		t.Fatalf("%d scenarios are bundled, there were 5", len(files))
	}
	for _, file := range files {
		t.Run(file.Name(), func(t *testing.T) {
			f, err := fixtures.Scenarios().Open(file.Name())
			if err != nil {
				t.Fatal(err)
			}
			s, err := cost.LoadScenario(f, file.Name())
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.ReadRecords(func(name string) (io.ReadCloser, error) {
				return fixtures.LambdaRecords().Open(strings.TrimPrefix(path.Clean(name), "../lambda-records/"))
			}); err != nil {
				t.Fatal(err)
			}
			fc, err := cost.Forecast(s, book)
			if err != nil {
				t.Fatal(err)
			}
			if err := cost.Analyse(s, book, fc); err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(fc)
			if err != nil {
				t.Fatal(err)
			}
			var parsed struct {
				Architectures []struct {
					Name   string   `json:"name"`
					Month1 cost.USD `json:"month_1_usd"`
					Total  cost.USD `json:"total_usd"`
					Months []struct {
						Total cost.USD `json:"total_usd"`
					} `json:"months"`
					Lines []struct {
						Amount cost.USD `json:"amount_usd"`
					} `json:"lines"`
				} `json:"architectures"`
			}
			if err := json.Unmarshal(data, &parsed); err != nil {
				t.Fatal(err)
			}
			forms := make(map[string]string)
			for name, render := range map[string]func(io.Writer) error{
				"table":    func(w io.Writer) error { return Forecast(w, Table, fc) },
				"markdown": func(w io.Writer) error { return Forecast(w, Markdown, fc) },
				"html":     func(w io.Writer) error { return ForecastHTML(w, fc) },
				"csv":      func(w io.Writer) error { return ForecastCSV(w, fc) },
			} {
				var b bytes.Buffer
				if err := render(&b); err != nil {
					t.Fatal(err)
				}
				forms[name] = b.String()
			}
			rows, err := csv.NewReader(strings.NewReader(forms["csv"])).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			inCSV := make(map[string]cost.USD)
			for _, row := range rows[1:] {
				month, err := cost.ParseUSD(row[3])
				if err != nil {
					t.Fatal(err)
				}
				inCSV[row[0]] = inCSV[row[0]].Add(month)
			}
			for _, a := range parsed.Architectures {
				var months, lines cost.USD
				for _, m := range a.Months {
					months = months.Add(m.Total)
				}
				for _, l := range a.Lines {
					lines = lines.Add(l.Amount)
				}
				for what, sum := range map[string]cost.USD{"months": months, "csv": inCSV[a.Name]} {
					if sum.Fixed(2) != a.Total.Fixed(2) {
						t.Errorf("%s: %s sum to %s, the total is %s", a.Name, what, sum.Fixed(2), a.Total.Fixed(2))
					}
				}
				if lines.Fixed(2) != a.Month1.Fixed(2) || a.Months[0].Total.Fixed(2) != a.Month1.Fixed(2) {
					t.Errorf("%s: lines sum to %s, month 1 is %s", a.Name, lines.Fixed(2), a.Month1.Fixed(2))
				}
				for _, form := range []string{"table", "markdown", "html"} {
					for _, amount := range []string{a.Month1.Format(), a.Total.Format()} {
						if !strings.Contains(forms[form], amount) {
							t.Errorf("%s: %s is not in the %s", a.Name, amount, form)
						}
					}
				}
			}
		})
	}
}
