package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

func TestForecastHTMLGolden(t *testing.T) {
	for name, fc := range forecasts(t) {
		if fc.Method != nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			got := rendered(t, func(w io.Writer) error { return ForecastHTML(w, fc) })
			checkHTML(t, got)
			figures := map[string]int{"empty": 0, "demo": 3, "crossing": 3}
			want, special := figures[name]
			if !special {
				want = 2
			}
			if n := bytes.Count(got, []byte("<svg")); n != want {
				t.Errorf("%d figures, want %d", n, want)
			}
			begin, end := bytes.Index(got, []byte("<style>")), bytes.Index(got, []byte("</style>"))
			checkGolden(t, "forecast-"+name+".html", slices.Concat(got[:begin+len("<style>")], got[end:]))
		})
	}
}

// TestForecastTotalsAgree looks for the same totals in every form.
func TestForecastTotalsAgree(t *testing.T) {
	for name, fc := range forecasts(t) {
		if fc.Method != nil || name == "empty" || name == "tiers" { // in tiers the first month is made up
			continue
		}
		table := string(rendered(t, func(w io.Writer) error { return Forecast(w, Table, fc) }))
		markdown := strings.ReplaceAll(string(rendered(t, func(w io.Writer) error { return Forecast(w, Markdown, fc) })), `\$`, "$")
		page := string(rendered(t, func(w io.Writer) error { return ForecastHTML(w, fc) }))
		rows, err := csv.NewReader(bytes.NewReader(rendered(t, func(w io.Writer) error { return ForecastCSV(w, fc) }))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for i := range fc.Architectures {
			a := &fc.Architectures[i]
			for form, text := range map[string]string{"table": table, "markdown": markdown, "html": page} {
				for _, amount := range []cost.USD{a.Month1, a.Total} {
					if !strings.Contains(text, amount.Format()) {
						t.Errorf("%s: %s does not say %s", name, form, amount.Format())
					}
				}
			}
			var sum cost.USD
			for _, row := range rows {
				if row[0] == a.Name {
					u, err := cost.ParseUSD(row[3])
					if err != nil {
						t.Fatal(err)
					}
					sum = sum.Add(u)
				}
			}
			if sum.Format() != a.Total.Format() {
				t.Errorf("%s: the months of %s in CSV are %s, the total is %s", name, a.Name, sum.Format(), a.Total.Format())
			}
		}
	}
}

func TestForecastCSV(t *testing.T) {
	fc := readForecast(t, "forecast-demo.json")
	fc.Architectures[0].Name = "=HYPERLINK(\"x\")"
	got := string(rendered(t, func(w io.Writer) error { return ForecastCSV(w, fc) }))
	head, rest, _ := strings.Cut(got, "\n")
	if head != "architecture,month,requests,total_usd,low_usd,high_usd,lambda_usd,apigateway_usd,s3_usd,cloudwatch_logs_usd" {
		t.Errorf("head is %s", head)
	}
	if !strings.HasPrefix(rest, `"'=HYPERLINK(""x"")",2026-12,`) {
		t.Errorf("a name that is a formula: %.60s", rest)
	}
	if n := strings.Count(rest, "\n"); n != 3*6 {
		t.Errorf("%d lines", n)
	}
}

func TestExplainBillGolden(t *testing.T) {
	in := cost.BillQuery{Monthly: usd(t, "3633"), RequestsPerHour: cost.Int(1_337_250), MeanMS: cost.Int(953), Region: "us-east-1"}
	many := make([]cost.BillFit, maxFits+3)
	for i := range many {
		many[i] = cost.BillFit{Arch: cost.ArchARM, Memory: 128, Tier: "tier 1", Price: usd(t, "0.0000133334"), Monthly: usd(t, "3633.1"), Difference: usd(t, "0.1")}
	}
	for name, fits := range map[string][]cost.BillFit{"none": nil, "many": many} {
		for f, ext := range formats() {
			checkGolden(t, fmt.Sprintf("explain-%s.%s", name, ext), rendered(t, func(w io.Writer) error { return ExplainBill(w, f, in, fits) }))
		}
	}
}

// TestManyServices draws more services than there are colours, and more
// architectures than there is room for.
func TestManyServices(t *testing.T) {
	fc := readForecast(t, "forecast-demo.json")
	fc.Analysis = nil
	for i := range 12 {
		for _, m := range fc.Architectures[0].Months {
			m.Services[0].Service = "lambda"
		}
		a := fc.Architectures[0]
		a.Name = fmt.Sprintf("a%d", i)
		a.Months = slices.Clone(a.Months)
		for j := range a.Months {
			a.Months[j].Services = []cost.ServiceAmount{{Service: fmt.Sprintf("service-%d", i), Amount: usd(t, "10")}}
		}
		fc.Architectures = append(fc.Architectures, a)
	}
	page := rendered(t, func(w io.Writer) error { return ForecastHTML(w, fc) })
	checkHTML(t, page)
	if !bytes.Contains(page, []byte(">others<")) {
		t.Error("the legend does not name the others")
	}
}

// A legend of many architectures takes several rows and stays inside the figure.
func TestLegendWraps(t *testing.T) {
	names := []string{"cloudwatch-kinesis-fire…", "extension-sqs-shipper", "extension-waits", "small-messages", "cloudwatch-today", "direct-to-s3"}
	breaks := legendBreaks(names)
	if len(breaks) != 1 || breaks[0] || moreLegend(names) != legendRow || moreLegend(names[:2]) != 0 {
		t.Errorf("breaks before %v", breaks)
	}
	d := newDrawing("x", 100, "x", "x")
	var at []float64
	legendRows(d, names, func(i int, x, y float64) {
		if i != len(at) || x+32+7.2*float64(len([]rune(names[i]))) > plotRight {
			t.Errorf("%d at %g, %g", i, x, y)
		}
		at = append(at, y)
	})
	if len(at) != len(names) || at[0] != 16 || at[len(at)-1] != 16+legendRow {
		t.Errorf("rows at %v", at)
	}
}

// A table that may be wider than a narrow screen says so; one that fits does not become a stop of the Tab key.
func TestWideTables(t *testing.T) {
	for text, want := range map[string]bool{"1,200": false, "$1,234,567.89": true} {
		g := grid{head: []string{"month", "low", "high", "total"}, rows: [][]string{{"a name in words that wrap", text, text, text}}}
		if got := table(&g).Wide(); got != want {
			t.Errorf("with %s wide is %v", text, got)
		}
	}
}

// The caption of the totals says which bands are drawn, and no more.
func TestBandCaptions(t *testing.T) {
	demo := func() []cost.ArchitectureResult { return readForecast(t, "forecast-demo.json").Architectures }
	months := func(totals ...string) []cost.MonthResult {
		out := slices.Clone(demo()[0].Months[:len(totals)])
		for i, s := range totals {
			out[i].Total, out[i].Interval = usd(t, s), nil
		}
		return out
	}
	band := func(low, high string) *cost.Bands {
		two := func(total string) []cost.BandMonth {
			return []cost.BandMonth{{Total: usd(t, total)}, {Total: usd(t, total)}}
		}
		return &cost.Bands{Low: cost.Band{Months: two(low)}, High: cost.Band{Months: two(high)}}
	}
	interval := func(low, high string) []cost.MonthResult {
		all := months("1000", "1000")
		for i := range all {
			all[i].Interval = &cost.USDInterval{Low: usd(t, low), High: usd(t, high)}
		}
		return all
	}
	for name, c := range map[string]struct {
		bands  *cost.Bands
		months []cost.MonthResult
		drawn  int
		want   string
	}{
		"none":     {nil, months("1000", "1000"), 0, ""},
		"a month":  {nil, interval("900", "1100")[:1], 0, ""},
		"scenario": {band("800", "1200"), months("1000", "1000"), 1, "Bands are the scenario's low and high."},
		"interval": {nil, interval("900", "1100"), 1, "Bands are the 95 % sampling interval of the billed time."},
		"both":     {band("800", "1200"), interval("900", "1100"), 2, "Bands are the scenario's low and high; the stronger ones in them are the 95 % sampling interval of the billed time."},
		"narrow": {
			band("999", "1001"), interval("998", "1002"), 0,
			"The scenario's low and high of x are too close to the line to be drawn. The 95 % sampling interval of x is too narrow to be drawn; its limits are in the table.",
		},
	} {
		figure, note := totalsFigure([]cost.ArchitectureResult{{Name: "x", Months: c.months, Bands: c.bands}})
		if n := strings.Count(string(figure), "<polygon"); note != c.want || n != c.drawn {
			t.Errorf("%s: %d bands with %q, want %d with %q", name, n, note, c.drawn, c.want)
		}
	}
}

// A forecast says in words what its second table of totals and its break-evens are, in every format.
func TestForecastTextsAreExplained(t *testing.T) {
	fc := readForecast(t, "forecast-demo.json")
	a := &fc.Architectures[0]
	a.Bands = &cost.Bands{Low: cost.Band{Month1: a.Month1, Total: a.Total}, High: cost.Band{Month1: a.Month1, Total: a.Total}}
	for form, out := range map[string][]byte{
		"table":    rendered(t, func(w io.Writer) error { return Forecast(w, Table, fc) }),
		"markdown": rendered(t, func(w io.Writer) error { return Forecast(w, Markdown, fc) }),
		"html":     rendered(t, func(w io.Writer) error { return ForecastHTML(w, fc) }),
	} {
		text := strings.ReplaceAll(string(out), "&#39;", "'")
		if n := strings.Count(text, "Low and high, as the scenario's bands say"); n == 0 || form != "html" && n > 1 {
			t.Errorf("%s: the table of bands is explained %d times", form, n)
		}
		if !strings.Contains(strings.Join(strings.Fields(text), " "), "python-today against go and go-batched: none; go and go-batched are cheaper at any rate between") {
			t.Errorf("%s: the break-even does not say who is cheaper", form)
		}
	}
	for _, c := range []struct{ candidate, cheaper, want string }{
		{"b", "a", "a and b: none; a is cheaper at any rate between 1 and 2."},
		{"b", "b", "a and b: none; b is cheaper at any rate between 1 and 2."},
	} {
		k, _ := breakEvenBlock([]cost.BreakEvenResult{{Baseline: "a", Candidate: c.candidate, Cheaper: c.cheaper, Low: cost.Int(1), High: cost.Int(2)}}, "24 months")
		if len(k.items) != 1 || k.items[0] != c.want {
			t.Errorf("%q, want %q", k.items, c.want)
		}
	}
}

// The numbers of a column have the same decimals; one thing is not plural.
func TestNumbersInWordsAndColumns(t *testing.T) {
	figures := func(all []float64) (texts []string) {
		for show, i := aligned(all), 0; i < len(all); i++ {
			texts = append(texts, show(all[i]))
		}
		return texts
	}
	if got := figures([]float64{353.82, 25.8167, 26}); !slices.Equal(got, []string{"353.82", "25.82", "26.00"}) {
		t.Errorf("%q", got)
	}
	if got := figures([]float64{3937.5, 323}); !slices.Equal(got, []string{"3,938", "323"}) {
		t.Errorf("%q", got)
	}
	for n, want := range map[int]string{1: "1 price differs, tier by tier", 2: "2 prices differ, tier by tier"} {
		out := string(rendered(t, func(w io.Writer) error { return PriceChanges(w, Table, make([]cost.BookChange, n), nil) }))
		if !strings.Contains(out, want) {
			t.Errorf("%d changes are %q", n, out)
		}
	}
}
