package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// hostile has markup of every format, control characters, an escape sequence that
// turns a terminal red, text that runs backwards, and broken UTF-8.
const hostile = "<script>alert(1)</script>|a|b\n# h\r\n`c` *d* [e](http://evil.example/) \x1b[31mred\x1b[0m \u202eback\u202c \xff\x00 ${{g}} ]]> & \"q\" 'r' ~s~ @t"

// hostileResults renders everything with hostile names in every string.
func hostileResults(t *testing.T) map[string]func(w io.Writer, f Format) error {
	t.Helper()
	r := makeRun(t, load{requests: 300, pairs: 1, rate: 100, failEvery: 7})
	r.Tool = stats.Tool{Version: hostile, Commit: hostile}
	r.Labels = map[string]string{hostile: hostile, "k": hostile}
	r.Target = stats.Target{URL: "http://h/" + hostile, Kind: hostile}
	r.Corpus.Location, r.Corpus.SHA256 = hostile, hostile
	r.Plan.Arrival, r.Plan.SHA256 = hostile, hostile
	r.Statuses = map[string]int64{hostile: 3, "204": 1}
	r.Errors = []stats.ErrorCount{{Class: hostile, Count: 1, Example: hostile}, {Class: "x", Count: 1, Example: hostile}}
	r.Client.Verdict, r.Client.Reasons = "invalid", []string{hostile, hostile}
	r.Pairs[0].Source, r.Pairs[0].Destination = hostile, hostile
	r.Deltas.Pairs[0].Source, r.Deltas.Pairs[0].Destination = hostile, hostile
	other := *r
	other.Plan.Loop, other.Client.Verdict = hostile, hostile

	d := *r.Deltas
	d.Method = hostile
	s := &lambdalog.Summary{Warnings: []string{hostile}}
	fc := readForecast(t, "forecast-two.json")
	fc.Warnings = []string{hostile}
	a := &fc.Assumptions
	a.Region, a.Month, a.PriceBook = hostile, hostile, cost.BookRef{AsOf: hostile, SHA256: hostile}
	for i := range fc.Architectures {
		a := &fc.Architectures[i]
		a.Name = hostile
		a.NotCounted = append(a.NotCounted, cost.NotCounted{What: hostile, Why: hostile})
		if a.Interval != nil {
			a.Interval.Method = hostile
		}
		for j := range a.Lines {
			l := &a.Lines[j]
			l.Service, l.Dimension, l.UsageType, l.Unit, l.AsOf, l.Confidence = hostile, hostile, hostile, hostile, hostile, hostile
		}
	}
	fc.Comparison.Baseline, fc.Comparison.Candidate = hostile, hostile
	crossing := readForecast(t, "forecast-crossing.json")
	for i := range crossing.Architectures {
		a := &crossing.Architectures[i]
		a.Name, a.Lever.Service, a.Lever.Dimension = hostile, hostile, hostile
		for _, m := range a.Months {
			m.Services[0].Service = hostile
		}
		one := &crossing.Analysis.Architectures[i]
		one.Name = hostile
		one.Tornado[0].Input, one.Tornado[0].LowInput, one.Tornado[0].HighInput = hostile, hostile, hostile
	}
	for i := range crossing.Analysis.BreakEvens {
		b := &crossing.Analysis.BreakEvens[i]
		b.Baseline, b.Candidate, b.Cheaper = hostile, hostile, hostile
	}
	fits := []cost.BillFit{{Arch: hostile, Tier: hostile}}
	ratio := readForecast(t, "forecast-ratio.json")
	ratio.Method.Name, ratio.Method.Formula, ratio.Method.LeavesOut = hostile, hostile, []string{hostile}
	ratio.Comparison.Baseline, ratio.Comparison.Candidate = hostile, hostile
	ratio.Architectures[0].Name = hostile
	return map[string]func(w io.Writer, f Format) error{
		"run":         func(w io.Writer, f Format) error { return Run(w, f, r) },
		"other run":   func(w io.Writer, f Format) error { return Run(w, f, &other) },
		"deltas":      func(w io.Writer, f Format) error { return Deltas(w, f, &d) },
		"invocations": func(w io.Writer, f Format) error { return Invocations(w, f, s) },
		"forecast":    func(w io.Writer, f Format) error { return Forecast(w, f, fc) },
		"ratio":       func(w io.Writer, f Format) error { return Forecast(w, f, ratio) },
		"html":        func(w io.Writer, _ Format) error { return RunHTML(w, r) },
		"fc html":     func(w io.Writer, _ Format) error { return ForecastHTML(w, crossing) },
		"fc html two": func(w io.Writer, _ Format) error { return ForecastHTML(w, fc) },
		"details":     func(w io.Writer, f Format) error { return Forecast(w, f, crossing) },
		"explain":     func(w io.Writer, f Format) error { return ExplainBill(w, f, cost.BillQuery{Region: hostile}, fits) },
		"other html":  func(w io.Writer, _ Format) error { return RunHTML(w, &other) },
	}
}

// TestHostileText renders text from outside: nothing of it may act on a terminal,
// become markup, or break a table.
func TestHostileText(t *testing.T) {
	for name, f := range hostileResults(t) {
		for format := range formats() {
			t.Run(name+"/"+string(format), func(t *testing.T) {
				out := string(rendered(t, func(w io.Writer) error { return f(w, format) }))
				if !utf8.ValidString(out) {
					t.Error("the output is no valid UTF-8")
				}
				for i, c := range out {
					if c != '\n' && (unicode.IsControl(c) || unicode.Is(unicode.Cf, c)) {
						t.Fatalf("character %U in %q", c, out[max(0, i-20):min(len(out), i+20)])
					}
				}
				switch {
				case strings.Contains(name, "html"):
					checkHTML(t, []byte(out))
				case format == Markdown:
					checkMarkdown(t, out)
				}
			})
		}
	}
}

// unescaped tells whether the byte at i has an even number of backslashes before it.
func unescaped(s string, i int) bool {
	n := 0
	for i--; i >= 0 && s[i] == '\\'; i-- {
		n++
	}
	return n%2 == 0
}

func checkMarkdown(t *testing.T, out string) {
	t.Helper()
	columns := 0
	for line := range strings.Lines(out) {
		pipes := 0
		for i := range len(line) {
			switch line[i] {
			case '|':
				if unescaped(line, i) {
					pipes++
				}
			case '<', '`', '[', ']', '~', '_', '$':
				if line[i] == '<' || unescaped(line, i) {
					t.Errorf("%q is not escaped in %q", line[i], line)
				}
			}
		}
		if !strings.HasPrefix(line, "|") {
			if pipes > 0 {
				t.Errorf("a pipe outside of a table in %q", line)
			}
			columns = 0
			continue
		}
		if columns > 0 && pipes != columns {
			t.Errorf("%d pipes instead of %d in %q", pipes, columns, line)
		}
		columns = pipes
	}
}

// checkHTML parses the page as XML, which is stricter than HTML, and checks that
// nothing in it makes a browser act or load anything.
func checkHTML(t *testing.T, page []byte) {
	t.Helper()
	page = withoutScripts(t, page)
	allowed := map[string]bool{}
	for e := range strings.FieldsSeq("nav a h3 output noscript html head meta title style body header main footer section h1 h2 p span div ul li dl dt dd figure figcaption details summary " +
		"table caption thead tbody tr th td svg desc line text rect circle polyline polygon") {
		allowed[e] = true
	}
	ids, refs := map[string]bool{}, []string{}
	d := xml.NewDecoder(bytes.NewReader(page))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if !allowed[e.Name.Local] {
			t.Errorf("element %s is not expected", e.Name.Local)
		}
		for _, a := range e.Attr {
			switch name := a.Name.Local; {
			case name == "id":
				if ids[a.Value] {
					t.Errorf("id %s stands twice", a.Value)
				}
				ids[a.Value] = true
			case name == "aria-labelledby":
				refs = append(refs, strings.Fields(a.Value)...)
			case name == "href" && strings.HasPrefix(a.Value, "#"):
				refs = append(refs, a.Value[1:])
			case strings.HasPrefix(name, "on"), name == "href", name == "src", name == "style", name == "srcset", name == "action":
				t.Errorf("attribute %s=%q", name, a.Value)
			}
			// Text from outside is allowed in what a screen reader says.
			if a.Name.Local != "aria-label" && (strings.Contains(a.Value, "://") || strings.Contains(a.Value, "url(")) {
				t.Errorf("attribute %s=%q", a.Name.Local, a.Value)
			}
			for _, n := range []string{"NaN", "Inf"} {
				if strings.Contains(a.Value, n) {
					t.Errorf("attribute %s=%q", a.Name.Local, a.Value)
				}
			}
		}
	}
	for _, r := range refs {
		if !ids[r] {
			t.Errorf("nothing has the id %s", r)
		}
	}
	style := page[bytes.Index(page, []byte("<style>")):bytes.Index(page, []byte("</style>"))]
	for _, s := range []string{"url(", "@import", "://"} {
		if bytes.Contains(style, []byte(s)) {
			t.Errorf("the style sheet contains %s", s)
		}
	}
	if bytes.Contains(bytes.ToLower(page), []byte("<script")) {
		t.Error("the page has a script")
	}
}

// withoutScripts checks the two scripts that a page with charts may have and cuts them out: data that is JSON, and a
// script that the page's policy names by its hash. A page without charts has neither.
func withoutScripts(t *testing.T, page []byte) []byte {
	t.Helper()
	const dataTag, scriptTag, end = `<script type="application/json" id="chart-data">`, "<script>", "</script>"
	if !bytes.Contains(page, []byte(dataTag)) {
		return page
	}
	before, rest, _ := bytes.Cut(page, []byte(dataTag))
	data, rest, ok := bytes.Cut(rest, []byte(end))
	var charts []chart
	if err := json.Unmarshal(data, &charts); !ok || err != nil {
		t.Fatalf("the data of the charts: %v", err)
	}
	if n := bytes.Count(page, []byte("data-chart=")); n != len(charts) {
		t.Errorf("%d places for %d charts", n, len(charts))
	}
	_, rest, _ = bytes.Cut(rest, []byte(scriptTag))
	script, after, ok := bytes.Cut(rest, []byte(end))
	if !ok || string(script) != uplotScript+"\n"+chartsScript {
		t.Error("the script is not the page's own")
	}
	sum := sha256.Sum256(script)
	if policy := "script-src &#39;sha256-" + strings.ReplaceAll(base64.StdEncoding.EncodeToString(sum[:]), "+", "&#43;"); !bytes.Contains(page, []byte(policy)) {
		t.Errorf("the policy does not allow the script: want %s", policy)
	}
	return slices.Concat(before, after)
}

func TestRunHTMLIsWellFormed(t *testing.T) {
	for name, r := range runs(t) {
		t.Run(name, func(t *testing.T) {
			page := rendered(t, func(w io.Writer) error { return RunHTML(w, r) })
			checkHTML(t, page)
			// Spectrum, heat map, rates, in flight and, in an open loop, schedule error.
			charts := strings.Count(string(page), "data-chart=")
			// Where nothing succeeded there is no latency over time, and a run of a second and a half has no rates.
			want := map[string]int{"empty": 0, "refused": 4, "invalid": 3}
			if n, special := want[name]; special && charts != n || !special && charts != 5 {
				t.Errorf("the page has %d charts", charts)
			}
			if r.Latency.Count > 0 && !strings.Contains(string(page), decimal(r.Latency.MaxMS, latencyPlaces(r.Latency.MaxMS))) {
				t.Error("the maximum is not on the page")
			}
		})
	}
}

// TestSameBytesTwice renders from maps that are built anew each time.
func TestSameBytesTwice(t *testing.T) {
	var first map[string]string
	allRuns, allForecasts := runs(t), forecasts(t)
	for range 3 {
		all := map[string]string{}
		for name, r := range allRuns {
			for i := range 12 {
				r.Labels, r.Statuses = map[string]string{}, map[string]int64{}
				for j := range 12 {
					r.Labels[strconv.Itoa((i+j)%12)] = "x"
					r.Statuses[strconv.Itoa(400+(i+j)%12)] = 7
				}
			}
			all[name+" html"] = string(rendered(t, func(w io.Writer) error { return RunHTML(w, r) }))
			for f := range formats() {
				all[name+string(f)] = string(rendered(t, func(w io.Writer) error { return Run(w, f, r) }))
			}
		}
		for name, fc := range allForecasts {
			all["forecast "+name] = string(rendered(t, func(w io.Writer) error { return Forecast(w, Table, fc) }))
			if fc.Method == nil {
				all["forecast html "+name] = string(rendered(t, func(w io.Writer) error { return ForecastHTML(w, fc) }))
			}
		}
		if first == nil {
			first = all
			continue
		}
		for name := range all {
			if all[name] != first[name] {
				t.Errorf("%s came out in another way the second time", name)
			}
		}
	}
}

// TestFitsAScreen holds the table format to its promise.
func TestFitsAScreen(t *testing.T) {
	check := func(name string, most int, f func(io.Writer) error) {
		t.Helper()
		out := string(rendered(t, f))
		if n := strings.Count(out, "\n"); n > most {
			t.Errorf("%s has %d lines", name, n)
		}
		for line := range strings.Lines(out) {
			line = strings.TrimSuffix(line, "\n")
			if n := utf8.RuneCountInString(line); n > lineWidth {
				t.Errorf("%s has a line of %d characters: %s", name, n, line)
			}
			if strings.TrimRight(line, " ") != line {
				t.Errorf("%s has spaces at the end of %q", name, line)
			}
		}
	}
	for name, r := range runs(t) {
		check("run "+name, 45, func(w io.Writer) error { return Run(w, Table, r) })
	}
	for name, d := range deltas(t) {
		check("deltas "+name, 30, func(w io.Writer) error { return Deltas(w, Table, d) })
	}
	for name, s := range summaries() {
		check("invocations "+name, 25, func(w io.Writer) error { return Invocations(w, Table, s) })
	}
	for name, fc := range forecasts(t) {
		most := 110
		if fc.Analysis != nil {
			most = 170 // asked for by --details
		}
		check("forecast "+name, most, func(w io.Writer) error { return Forecast(w, Table, fc) })
	}
}

// TestNoCellIsCut looks for every cell of a table in the output.
func TestNoCellIsCut(t *testing.T) {
	g := grid{
		head: []string{"name", "n", "a heading longer than its cells", "text"}, text: []int{3},
		rows: [][]string{
			{"a", "1", "2", "short"},
			{"日本語の名前", "1,234,567,890,123.456", "~0.001", "ü – … × ± ≥"},
			{"", "–", "", "x"},
			{"a rather long name that is wider than the heading", "0", "*5.00", strings.Repeat("long ", 30)},
		},
	}
	p := page{blocks: []block{{tables: []grid{g}}}}
	for f := range formats() {
		out := string(rendered(t, func(w io.Writer) error { return p.write(w, f) }))
		for _, row := range append([][]string{g.head}, g.rows...) {
			for _, cell := range row {
				if f == Markdown {
					cell = markdownText(cell)
				}
				if !strings.Contains(out, strings.TrimSpace(cell)) {
					t.Errorf("%s: no %q in\n%s", f, cell, out)
				}
			}
		}
	}
}

func TestElasticColumnIsCut(t *testing.T) {
	r := makeRun(t, load{requests: 20, pairs: 1, rate: 10, failEvery: 2})
	r.Errors[0].Example = strings.Repeat("long ", 60)
	out := string(rendered(t, func(w io.Writer) error { return Run(w, Table, r) }))
	if !strings.Contains(out, "…") || strings.Contains(out, strings.Repeat("long ", 20)) {
		t.Error("a long example is not cut")
	}
	if out := string(rendered(t, func(w io.Writer) error { return Run(w, Markdown, r) })); !strings.Contains(out, strings.TrimSpace(r.Errors[0].Example)) {
		t.Error("Markdown cuts a long example")
	}
}

func TestManyErrorsAreCounted(t *testing.T) {
	r := &stats.Run{}
	for i := range 9 {
		r.Errors = append(r.Errors, stats.ErrorCount{Class: fmt.Sprintf("class-%d", i), Count: int64(1 + i)})
	}
	out := string(rendered(t, func(w io.Writer) error { return Run(w, Table, r) }))
	for _, want := range []string{"class-8", "class-4", "10 requests of 4 kinds more"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "class-3") {
		t.Error("more than the most frequent errors are listed")
	}
	if page := string(rendered(t, func(w io.Writer) error { return RunHTML(w, r) })); !strings.Contains(page, "class-0") {
		t.Error("the page does not list all errors")
	}
}

func TestSecretsAreMasked(t *testing.T) {
	for in, secret := range map[string]string{
		"https://user:hunter2@host/api":                                          "hunter2",
		"https://hunter2@host/api":                                               "hunter2",
		"https://host/api?token=hunter2&cluster_name=prod":                       "hunter2",
		"https://host/api?cluster_name=prod&X-Amz-Signature=hunter2":             "hunter2",
		"https://host/api?X-Amz-Credential=hunter2%2F20261120":                   "hunter2",
		`Get "https://host/?api_key=hunter2": EOF`:                               "hunter2",
		"Authorization: Bearer Hunter2.x-y_z":                                    "Hunter2",
		"authorization: basic aHVudGVyMg==":                                      "aHVudGVyMg",
		`{"secret": "hunter2", "x": 1}`:                                          "hunter2",
		"X-Api-Key: hunter2":                                                     "hunter2",
		"the key AKIAIOSFODNN7EXAMPLE is not valid":                              "AKIAIOSFODNN7EXAMPLE",
		"password=hunter2;host=x":                                                "hunter2",
		"proxyconnect tcp: https://u:hunter2@proxy:3128: connection was refused": "hunter2",
	} {
		out := clean(in)
		if strings.Contains(out, secret) || !strings.Contains(out, mask) {
			t.Errorf("clean(%q) is %q", in, out)
		}
		r := &stats.Run{Target: stats.Target{URL: in}, Errors: []stats.ErrorCount{{Class: in, Count: 1, Example: in}}, Client: stats.Client{Verdict: "invalid", Reasons: []string{in}}}
		for f := range formats() {
			if out := rendered(t, func(w io.Writer) error { return Run(w, f, r) }); bytes.Contains(out, []byte(secret)) {
				t.Errorf("%s shows the secret of %q", f, in)
			}
		}
		if out := rendered(t, func(w io.Writer) error { return RunHTML(w, r) }); bytes.Contains(out, []byte(secret)) {
			t.Errorf("the page shows the secret of %q", in)
		}
	}
	for _, harmless := range []string{
		"https://host/api?cluster_name=prod", "Basic authentication is required", "bearer token is missing",
		"me@example.com", "503 Service Unavailable", "read tcp 192.0.2.1:51544->192.0.2.2:443: read: connection reset by peer",
	} {
		if out := clean(harmless); out != harmless {
			t.Errorf("clean(%q) is %q", harmless, out)
		}
	}
}

// TestFewSamplesAreMarked checks the mark at the very number of samples where ten
// requests are slower.
func TestFewSamplesAreMarked(t *testing.T) {
	for _, c := range percentiles() {
		for _, n := range []int64{c.enough - 1, c.enough} {
			l := stats.Latency{Count: n, P50MS: 1.5, P90MS: 1.5, P95MS: 1.5, P99MS: 1.5, P999MS: 1.5, P9999MS: 1.5, MaxMS: 2}
			k := latencyBlock(&stats.Run{Latency: l})
			g := k.tables[0]
			for i, name := range g.head {
				if name != c.name {
					continue
				}
				marked := strings.HasPrefix(g.rows[0][i], "~")
				if want := n < c.enough; marked != want {
					t.Errorf("%s of %d requests: marked is %v", c.name, n, marked)
				}
				// What the mark stands for: n·(1−q) < 10.
				q, _ := map[string]float64{"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}[c.name]
				if want := math.Round(float64(n)*(1-q)*1e6)/1e6 < 10; marked != want {
					t.Errorf("%s of %d requests: marked is %v, but %g requests are slower", c.name, n, marked, float64(n)*(1-q))
				}
			}
		}
	}
}

// TestNonsenseNumbers renders what no measurement gives: it must neither panic nor
// hang, and a picture must not hold NaN.
func TestNonsenseNumbers(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -5, 1e308, math.SmallestNonzeroFloat64, math.MaxFloat64, -math.MaxFloat64} {
		r := makeRun(t, load{requests: 50, pairs: 2, rate: 10})
		r.Latency.P50MS, r.Latency.MaxMS = v, v
		r.Achieved = stats.Achieved{RatePerS: v, SamplesPerS: v, DurationMS: v}
		r.Plan.RatePerS = v
		r.Client.CPURatio = v
		r.Deltas.Pairs[0].D5MS, r.Deltas.Pairs[1].D2MS = v, v
		r.Deltas.Summary.D2.MedianMS, r.Deltas.Summary.D2.BoundMS = v, v
		r.Timeline[0] = stats.TimelinePoint{TS: math.MinInt64, OK: math.MaxInt64, Sent: -1, P50MS: v, P99MS: v, MaxMS: v}
		r.Timeline[1] = stats.TimelinePoint{TS: math.MaxInt64, Failed: math.MaxInt64, InFlight: math.MinInt64, MaxMS: v}
		checkHTML(t, rendered(t, func(w io.Writer) error { return RunHTML(w, r) }))
		for f := range formats() {
			rendered(t, func(w io.Writer) error { return Run(w, f, r) })
		}
	}
}

func TestLongTimelineIsBounded(t *testing.T) {
	points := make([]stats.TimelinePoint, 7*24*3600)
	for i := range points {
		points[i] = stats.TimelinePoint{TS: int64(i), Sent: 2, OK: 1, Failed: 1, P50MS: 1, P99MS: 2, MaxMS: 3}
	}
	points[40].MaxMS = 99
	cols := columns(points, 61)
	if c := cols[0]; c.worstMS != 99 || c.ok != 1 || c.failed != 1 || c.sent != 2 || c.to != 61 {
		t.Errorf("the first point is %+v", c)
	}
	if cols := columns(points[5:6], 1); len(cols) != 1 || cols[0].from != 5 {
		t.Errorf("a timeline of one second becomes %+v", cols)
	}
	if cols := columns(make([]stats.TimelinePoint, 3), 1); cols != nil {
		t.Errorf("a timeline without anything becomes %+v", cols)
	}
	r := makeRun(t, load{requests: 20, pairs: 1, rate: 10})
	r.Timeline = points
	page := rendered(t, func(w io.Writer) error { return RunHTML(w, r) })
	if n := bytes.Count(page, []byte("<tr>")); n > maxPoints+1000 {
		t.Errorf("a week of seconds makes %d rows", n)
	}
	if !bytes.Contains(page, []byte("One point covers 61 seconds")) {
		t.Error("the page does not say that points cover several seconds")
	}
}

func TestManyPairs(t *testing.T) {
	r := makeRun(t, load{requests: 400, pairs: 100, rate: 100})
	page := string(rendered(t, func(w io.Writer) error { return RunHTML(w, r) }))
	if !strings.Contains(page, "The 30 pairs with the largest D5 of 100.") {
		t.Error("the page does not say that it draws a part of the pairs")
	}
	for _, name := range []string{"org-1<", "org-50<", "org-100<"} {
		if !strings.Contains(page, name) {
			t.Errorf("%s is not in the table of all pairs", name)
		}
	}
}

func TestDamagedHistogramIsAnError(t *testing.T) {
	r := makeRun(t, load{requests: 20, pairs: 1, rate: 10})
	r.Pairs[0].Histogram = "HISTF"
	err := RunHTML(io.Discard, r)
	if err == nil || !strings.Contains(err.Error(), "org-1") {
		t.Errorf("the error is %v", err)
	}
	r.Pairs[0].Histogram = ""
	r.Histograms = nil
	page := rendered(t, func(w io.Writer) error { return RunHTML(w, r) })
	if bytes.Contains(page, []byte("<h3>Percentile spectrum")) {
		t.Error("there is a spectrum without a histogram")
	}
}

// full is a disk without space.
type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestErrors(t *testing.T) {
	all := map[string]func(io.Writer, Format) error{
		"run":         func(w io.Writer, f Format) error { return Run(w, f, &stats.Run{}) },
		"deltas":      func(w io.Writer, f Format) error { return Deltas(w, f, &stats.Deltas{}) },
		"invocations": func(w io.Writer, f Format) error { return Invocations(w, f, &lambdalog.Summary{}) },
		"forecast":    func(w io.Writer, f Format) error { return Forecast(w, f, &cost.Result{}) },
		"explain":     func(w io.Writer, f Format) error { return ExplainBill(w, f, cost.BillQuery{}, nil) },
	}
	for name, f := range all {
		if err := f(full{}, Table); !errors.Is(err, errFull) {
			t.Errorf("%s to a full disk: %v", name, err)
		}
		var b bytes.Buffer
		if err := f(&b, "csv"); err == nil || b.Len() > 0 {
			t.Errorf("%s as csv: error %v, %d bytes", name, err, b.Len())
		}
	}
	if err := RunHTML(full{}, &stats.Run{}); !errors.Is(err, errFull) {
		t.Errorf("html to a full disk: %v", err)
	}
	if err := ForecastHTML(full{}, &cost.Result{}); !errors.Is(err, errFull) {
		t.Errorf("html of a forecast to a full disk: %v", err)
	}
	if err := ForecastCSV(full{}, &cost.Result{}); !errors.Is(err, errFull) {
		t.Errorf("csv of a forecast to a full disk: %v", err)
	}
	for name, err := range map[string]error{
		"forecast html": ForecastHTML(io.Discard, nil), "forecast csv": ForecastCSV(io.Discard, nil),
		"ratio html": ForecastHTML(io.Discard, &cost.Result{Method: &cost.RatioMethod{}}),
		"run":        Run(io.Discard, Table, nil), "html": RunHTML(io.Discard, nil), "deltas": Deltas(io.Discard, Table, nil),
		"invocations": Invocations(io.Discard, Table, nil), "forecast": Forecast(io.Discard, Table, nil),
	} {
		if err == nil {
			t.Errorf("%s of nothing is no error", name)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{count(0), "0"},
		{count(999), "999"},
		{count(1000), "1,000"},
		{count(-1234567), "-1,234,567"},
		{count(math.MinInt64), "-9,223,372,036,854,775,808"},
		{decimal(1234.5678, 2), "1,234.57"},
		{decimal(-1234.5, 0), "-1,234"},
		{decimal(-0.001, 2), "0.00"},
		{decimal(math.NaN(), 2), "n/a"},
		{decimal(math.Inf(-1), 2), "n/a"},
		{fixed(52339.16, 2), "52339.16"},
		{figure(0), "0"},
		{figure(0.05), "0.05"},
		{figure(3.0504), "3.05"},
		{figure(199.96), "200"},
		{figure(1234.5), "1,234"},
		{figure(10), "10"},
		{percent(0), "0" + nbsp + "%"},
		{percent(0.1234), "12" + nbsp + "%"},
		{percent(0.0123), "1.2" + nbsp + "%"},
		{percent(0.0001), "0.01" + nbsp + "%"},
		{size(1), "1 byte"},
		{size(1023), "1,023 bytes"},
		{size(812_345), "793.3" + nbsp + "KiB"},
		{size(math.MaxInt64), "8,192.0" + nbsp + "PiB"},
		{span(0.5), "0.5" + nbsp + "ms"},
		{span(30_000), "30.0" + nbsp + "s"},
		{span(600_000), "10.0" + nbsp + "min"},
		{span(86_400_000), "24.0" + nbsp + "h"},
		{bound(0), "0.000"},
		{bound(0.05), "0.050"},
		{bound(0.05 + 1e-12), "0.050"},
		{bound(0.0501), "0.051"},
		{bound(0.00001), "0.001"},
		{cut("abc", 3), "abc"},
		{cut("äöüß", 3), "äö…"},
		{millis(lambdalog.Millis{}), "–"},
		{millis(lambdalog.MillisOf(1234567890 * time.Nanosecond)), "1,234.57"},
		{millis(lambdalog.MillisOf(85 * time.Millisecond)), "85.00"},
		{places(cost.Frac(123456789, 4), 2), "12,345.68"},
		{places(cost.Frac(-1, 4), 2), "0"},
		{unitPrice(cost.Dollars(cost.Frac(2000, 10))), "0.0000002"},
		{factor(cost.Int(953).Quo(cost.Int(70))), "13.6"},
		{quantity(cost.Int(1).Quo(cost.Int(0))), "invalid"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add(hostile)
	f.Add("https://user:pass@host/?token=x")
	f.Fuzz(func(t *testing.T, s string) {
		out := clean(s)
		if !utf8.ValidString(out) || strings.ContainsFunc(out, hidden) {
			t.Errorf("clean(%q) is %q", s, out)
		}
		if again := clean(out); again != clean(again) {
			t.Errorf("cleaning %q does not come to rest", s)
		}
		md := markdownText(out)
		for i := range len(md) {
			if strings.IndexByte("|`*_[]~#$", md[i]) >= 0 && unescaped(md, i) || md[i] == '<' {
				t.Errorf("%q is not escaped in %q", md[i], md)
			}
		}
	})
}

func FuzzWrap(f *testing.F) {
	f.Add("one two  three", 5)
	f.Fuzz(func(t *testing.T, s string, width int) {
		width = min(max(width, 1), 200)
		var words []string
		for _, line := range wrap(s, width) {
			if utf8.RuneCountInString(line) > width && strings.Contains(line, " ") {
				t.Errorf("line %q is wider than %d", line, width)
			}
			words = append(words, strings.Split(line, " ")...)
		}
		want := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' })
		if strings.Join(words, " ") != strings.Join(want, " ") {
			t.Errorf("wrapping %q loses words: %q", s, words)
		}
	})
}
