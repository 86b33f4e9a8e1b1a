package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/joshdk/go-junit"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// gateResult is what a gate that failed leaves behind.
func gateResult() *stats.GateResult {
	arm := func(url string, factor float64) stats.GateArmResult {
		return stats.GateArmResult{
			Target: stats.Target{URL: url, Kind: "http"}, Sent: 10_000, OK: 9_990, Errors: 10, StalledBlocks: int(factor) - 1,
			Latency: stats.Latency{Count: 9_990, P50MS: 4 * factor, P99MS: 11.5 * factor, P999MS: 40, MaxMS: 71.25},
		}
	}
	return &stats.GateResult{
		Schema: stats.GateSchema, Verdict: stats.Fail, Metric: "p99_ms",
		Reasons:       []string{"p99_ms is 98.4 % higher, and at least 91.2 %: beyond the tolerance of 5 %"},
		EstimateRatio: 1.984, LowerRatio: 1.912, UpperRatio: 2.05, ToleranceRatio: 0.05, AlphaRatio: 0.05, Looks: []int{10, 20, 40},
		Blocks: 10, Discarded: 1, MinimumDetectableRatio: 0.113, DilutionRatio: 0.02, Noise: 0.061,
		Comparisons: []stats.GateComparison{
			{Metric: "p99_ms", Org: "alfa", Verdict: stats.Fail, EstimateRatio: 1.984, LowerRatio: 1.912, UpperRatio: 2.05},
			{Metric: "p99_ms", Org: "bravo", Verdict: stats.Pass, EstimateRatio: 0.99, LowerRatio: 0.9, UpperRatio: 1.01},
		},
		Objectives: []stats.GateObjectiveResult{
			{Objective: "p99<250ms", Verdict: stats.Pass, Limit: 250, Observed: 23, Lower: 22, Upper: 24.5},
			{Objective: "error_ratio<0.1%", Verdict: stats.Inconclusive, Limit: 0.001, Observed: 0.001, Lower: 0.0005, Upper: 0.0017},
		},
		Goal: &stats.GateGoal{ChangeRatio: 0.1, Blocks: 16}, Detectable: []stats.GateDetectable{{Blocks: 10, MinimumDetectableRatio: 0.113}},
		Plan:   stats.Plan{Loop: "open", Arrival: "constant", RatePerS: 250, Planned: 1000, MaxInFlight: 256, SHA256: "9f86d081884c7d65"},
		Corpus: stats.Corpus{Location: "bundled", Objects: 10, Bytes: 310_703, Samples: 12_159, SHA256: "7458ab88750d"},
		Arms:   stats.GateArms{Baseline: arm("https://blue.example.com/api/v1/write", 1), Candidate: arm("https://green.example.com/api/v1/write", 2)},
		Labels: map[string]string{"git_sha": "0123abc"},
	}
}

func TestGateGolden(t *testing.T) {
	checkGolden(t, "gate.txt", rendered(t, func(w io.Writer) error { return Gate(w, Table, gateResult()) }))
	checkGolden(t, "gate.md", rendered(t, func(w io.Writer) error { return GateSummary(w, gateResult(), 1<<20) }))
	checkGolden(t, "gate.xml", rendered(t, func(w io.Writer) error { return GateJUnit(w, gateResult()) }))
	checkGolden(t, "gate.annotations", rendered(t, func(w io.Writer) error { return GateAnnotations(w, gateResult()) }))
}

// TestGateSummaryFits: whatever the limit, the summary stays within it, is text, and says what is missing.
func TestGateSummaryFits(t *testing.T) {
	r := gateResult()
	for range 200 {
		r.Reasons = append(r.Reasons, strings.Repeat("wörter ", 10))
	}
	whole := len(rendered(t, func(w io.Writer) error { return GateSummary(w, r, 1<<20) }))
	for limit := 0; limit <= whole; limit += 97 {
		got := rendered(t, func(w io.Writer) error { return GateSummary(w, r, limit) })
		if len(got) > limit || !utf8.Valid(got) {
			t.Fatalf("%d bytes for a limit of %d", len(got), limit)
		}
		if len(got) > 0 && !bytes.Contains(got, []byte(" left out (")) && !bytes.Contains(got, []byte("are left out")) && !bytes.Contains(got, []byte("</details>")) {
			t.Fatalf("a limit of %d cuts without a word", limit)
		}
		if limit > 300 && !bytes.HasPrefix(got, []byte("## ❌ FAIL: gate on p99")) {
			t.Fatalf("a limit of %d: the verdict is not first: %.60q", limit, got)
		}
	}
}

// TestGateWithManyOrgsFits: what GitHub takes is never exceeded, what failed is seen first, and what is missing counted.
func TestGateWithManyOrgsFits(t *testing.T) {
	r := gateResult()
	r.Comparisons = nil
	for i := range 20_000 {
		r.Comparisons = append(r.Comparisons, stats.GateComparison{Metric: "p99_ms", Org: fmt.Sprintf("org-%05d", i), Verdict: stats.Pass, EstimateRatio: 1, LowerRatio: 0.9, UpperRatio: 1.1})
	}
	r.Comparisons[19_998].Verdict = stats.Fail
	for _, limit := range []int{MaxComment, MaxStepSummary} {
		got := rendered(t, func(w io.Writer) error { return GateSummary(w, r, limit) })
		if len(got) > limit || len(got) < limit-500 {
			t.Errorf("%d bytes for a limit of %d", len(got), limit)
		}
		shown := bytes.Count(got, []byte("org-"))
		m := regexp.MustCompile(`… ([0-9,]+) of ([0-9,]+) lines left out \(`).FindSubmatch(got)
		if m == nil {
			t.Fatalf("%.200s", got[len(got)-200:])
		}
		number := func(b []byte) int {
			n, err := strconv.Atoi(strings.ReplaceAll(string(b), ",", ""))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		// All lines that are not shown are rows of the table, but for the one on the details.
		if missing := 20_000 - shown; number(m[1])-missing < 0 || number(m[1])-missing > 3 || number(m[2]) < 20_000 {
			t.Errorf("%d orgs are missing and %s lines of %s said to be", missing, m[1], m[2])
		}
		if first := bytes.Index(got, []byte("org-19998")); first < 0 || first > bytes.Index(got, []byte("org-00000")) {
			t.Error("the org that failed is not first")
		}
	}
}

// TestJUnitIsReadByAParser: what CI systems make of the file, seen with the eyes of one that is not ours.
func TestJUnitIsReadByAParser(t *testing.T) {
	r := gateResult()
	r.Comparisons[1].Verdict = stats.Inconclusive
	suites, err := junit.Ingest(rendered(t, func(w io.Writer) error { return GateJUnit(w, r) }))
	if err != nil || len(suites) != 1 {
		t.Fatalf("%v %+v", err, suites)
	}
	totals := suites[0].Totals
	if totals.Tests != 4 || totals.Failed != 1 || totals.Skipped != 2 || totals.Passed != 1 || totals.Error != 0 {
		t.Errorf("%+v", totals)
	}
	for i, want := range []junit.Status{junit.StatusFailed, junit.StatusSkipped, junit.StatusPassed, junit.StatusSkipped} {
		if c := suites[0].Tests[i]; c.Status != want || c.Classname != "cirrusbench.gate" {
			t.Errorf("%s is %s, want %s", c.Name, c.Status, want)
		}
	}
	if c := suites[0].Tests[0]; c.Name != "p99_ms org=alfa" || !strings.Contains(c.Error.Error(), "beyond the tolerance of 5 %") {
		t.Errorf("%+v", c)
	}
	r.Verdict = stats.Invalid
	suites, err = junit.Ingest(rendered(t, func(w io.Writer) error { return GateJUnit(w, r) }))
	if err != nil || suites[0].Totals.Error != 2 || suites[0].Totals.Failed != 0 {
		t.Errorf("%v %+v", err, suites)
	}
}

// TestGateShowsErrorsAndMoney: which errors there were, few of many, and dollars with their digits.
func TestGateShowsErrorsAndMoney(t *testing.T) {
	r := gateResult()
	r.Arms.Candidate.CostPerMillion = "0.316667"
	for i := range 9 {
		r.Arms.Baseline.ErrorClasses = append(r.Arms.Baseline.ErrorClasses, stats.ErrorCount{Class: fmt.Sprintf("status 50%d", i), Count: int64(i) + 1, Example: "full"})
	}
	got := string(rendered(t, func(w io.Writer) error { return Gate(w, Markdown, r) }))
	for _, want := range []string{"Errors of the baseline: status 500 × 1, such as: full", "Errors of the baseline: 4 more kinds.", "baseline not stated, candidate \\$0.316667"} {
		if !strings.Contains(strings.ReplaceAll(got, nbsp, " "), want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}

// TestGateOutputsAreEscaped: an org's name or a server's answer can hold anything.
func TestGateOutputsAreEscaped(t *testing.T) {
	r := gateResult()
	const hostile = "x\r\n::set-output name=a::b,c <script>&\"]]> 100% \x1b[31m token=canary"
	r.Reasons = []string{hostile}
	r.Comparisons[0].Org = hostile
	annotations := string(rendered(t, func(w io.Writer) error { return GateAnnotations(w, r) }))
	if strings.Count(annotations, "\n") != 1 || !strings.HasSuffix(annotations, "\n") || strings.Contains(annotations, "\r") || !strings.Contains(annotations, "100%25") {
		t.Errorf("%q", annotations)
	}
	junit := rendered(t, func(w io.Writer) error { return GateJUnit(w, r) })
	var back junitSuite
	if err := xml.Unmarshal(junit, &back); err != nil || back.Tests != 4 || back.Failures != 1 || back.Skipped != 1 || !strings.Contains(back.Cases[0].Name, "<script>") {
		t.Errorf("%v\n%s", err, junit)
	}
	summary := string(rendered(t, func(w io.Writer) error { return GateSummary(w, r, 1<<20) }))
	for name, out := range map[string]string{"annotations": annotations, "junit": string(junit), "summary": summary} {
		if strings.Contains(out, "canary") || strings.Contains(out, "\x1b") {
			t.Errorf("%s: %q", name, out)
		}
	}
	if strings.Contains(summary, "<script>") {
		t.Error(summary)
	}
}

func TestGateVerdictsInEveryForm(t *testing.T) {
	for verdict, want := range map[stats.Verdict]struct{ junit, annotation string }{
		stats.Pass:         {`failures="0" errors="0" skipped="0"`, ""},
		stats.Inconclusive: {`failures="0" errors="0" skipped="1"`, "::warning "},
		stats.Invalid:      {`failures="0" errors="1" skipped="0"`, "::error "},
		stats.Fail:         {`failures="1" errors="0" skipped="0"`, "::error "},
	} {
		r := &stats.GateResult{
			Verdict: verdict, Metric: "p99_ms", Reasons: []string{"because"}, EstimateRatio: stats.GateNumber(math.NaN()),
			LowerRatio: stats.GateNumber(math.NaN()), UpperRatio: stats.GateNumber(math.Inf(1)),
		}
		if got := string(rendered(t, func(w io.Writer) error { return GateJUnit(w, r) })); !strings.Contains(got, want.junit) {
			t.Errorf("%s: %s", verdict, got)
		}
		if got := string(rendered(t, func(w io.Writer) error { return GateAnnotations(w, r) })); !strings.HasPrefix(got, want.annotation) || (want.annotation == "") != (got == "") {
			t.Errorf("%s: %q", verdict, got)
		}
		for _, f := range []Format{Table, Markdown} {
			if got := string(rendered(t, func(w io.Writer) error { return Gate(w, f, r) })); !strings.Contains(got, string(verdict)+": gate on p99") || strings.Contains(got, "NaN") || strings.Contains(got, "Inf") {
				t.Errorf("%s as %s: %s", verdict, f, got)
			}
		}
	}
	for name, err := range map[string]error{
		"table": Gate(io.Discard, Table, nil), "summary": GateSummary(io.Discard, nil, 1), "junit": GateJUnit(io.Discard, nil),
		"annotations": GateAnnotations(io.Discard, nil), "format": Gate(io.Discard, "xml", gateResult()),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// An invalid gate must not leave a comparison looking green.
	r := gateResult()
	r.Verdict = stats.Invalid
	if got := string(rendered(t, func(w io.Writer) error { return GateJUnit(w, r) })); !strings.Contains(got, `errors="2"`) {
		t.Error(got)
	}
}

// A block without a success is none in which the load generator was the limit, and a file that cannot be read has no targets.
func TestGateSaysWhyNothingCounts(t *testing.T) {
	text := func(r *stats.GateResult) string {
		var b strings.Builder
		if err := Gate(&b, Table, r); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	dead := &stats.GateResult{Verdict: stats.Invalid, Metric: "p99_ms", Reasons: []string{"the baseline answered none"}, Discarded: 1, Measurements: []stats.GateBlock{{Baseline: stats.GateBlockSide{Errors: 10}}}}
	if got := text(dead); !strings.Contains(got, "none counts: no request succeeded") || strings.Contains(got, "load generator") {
		t.Error(got)
	}
	mixed := &stats.GateResult{
		Verdict: stats.Invalid, Metric: "p99_ms", Discarded: 2, Blocks: 1,
		Measurements: []stats.GateBlock{{Baseline: stats.GateBlockSide{OK: 9}}, {Discarded: "late"}, {Baseline: stats.GateBlockSide{OK: 1}}},
	}
	if got := text(mixed); !strings.Contains(got, "1 block counts; 1 cannot be judged; 1 set aside, in which the load generator was the") {
		t.Error(got)
	}
	broken := &stats.GateResult{Verdict: stats.Invalid, Metric: "p99_ms", Reasons: []string{"interrupted after 3 blocks"}, Blocks: 3}
	if got := text(broken); !strings.Contains(got, "INTERRUPTED: there is no verdict.") || strings.Contains(got, "must not be judged") {
		t.Error(got)
	}
	unread := &stats.GateResult{Verdict: stats.Invalid, Metric: "p99_ms", Advisory: true, Reasons: []string{"a.json: the file is empty"}}
	if got := text(unread); !strings.Contains(got, "INVALID: there is nothing to judge.") || strings.Contains(got, "not stated") || strings.Contains(got, "ADVISORY") {
		t.Error(got)
	}
}
