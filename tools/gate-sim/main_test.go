package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// TestSameSeedSameTable: the table must not depend on which worker plays which job.
func TestSameSeedSameTable(t *testing.T) {
	var tables [2]bytes.Buffer
	for i := range tables {
		// Few jobs break a promise by chance; that is not what this test is about.
		_ = run(&tables[i], []string{"-jobs", "2", "-seed", "7"})
	}
	if tables[0].String() != tables[1].String() || !strings.Contains(tables[0].String(), "| shared | FAIL |") {
		t.Errorf("%s\n%s", &tables[0], &tables[1])
	}
}

// TestBrokenPromisesAreNamed: a gate that failed unchanged jobs must not go unnoticed.
func TestBrokenPromisesAreNamed(t *testing.T) {
	changes := []float64{0, 0.2}
	table := make([][]tally, len(scenarios()))
	for i := range table {
		table[i] = []tally{
			{jobs: 100, verdicts: verdicts(6, 94)},
			{jobs: 100, verdicts: verdicts(80, 6)},
		}
	}
	err := check(table, changes)
	for _, want := range []string{"shared: 6.0 % of unchanged jobs fail", "shared: 6.0 % of jobs with +20 % pass", "shared: +20 % is found in 80.0 %"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	for i := range table {
		table[i] = []tally{{jobs: 100, verdicts: verdicts(5, 90)}, {jobs: 100, verdicts: verdicts(99, 0)}}
	}
	if err := check(table, changes); err != nil {
		t.Error(err)
	}
}

// TestKinderModelsAreNamed: noise that is not what the rule was designed by proves nothing.
func TestKinderModelsAreNamed(t *testing.T) {
	changes := []float64{0, 0.05, 0.10, 0.20, 0.50}
	for _, s := range scenarios() {
		if s.like == nil {
			continue
		}
		cells := make([]tally, len(changes))
		for j := range cells {
			cells[j] = tally{jobs: 100, verdicts: verdicts(int(s.like.fail[j]), int(s.like.pass[j]))}
		}
		cells[0].singleOfThese = 100
		for k := range s.like.single {
			cells[0].single[k] = int(s.like.single[k])
		}
		if errs := s.unlike(cells, changes); len(errs) > 0 {
			t.Errorf("%s is unlike itself: %v", s.name, errs)
		}
		cells[0].verdicts[stats.Pass] -= 20
		cells[2].verdicts[stats.Fail] -= 16
		cells[0].single[0] += 16
		if errs := s.unlike(cells, changes); len(errs) != 3 {
			t.Errorf("%s: %v", s.name, errs)
		}
	}
}

// TestUnchangedJobsRarelyFail: a hundred times nothing has changed, on the usual runner.
func TestUnchangedJobsRarelyFail(t *testing.T) {
	shared := scenarios()[1:2]
	table, err := simulate(shared, 100, 13, []float64{0}, false)
	if err != nil {
		t.Fatal(err)
	}
	if c := table[0][0]; shared[0].name != "shared" || c.jobs != 100 || c.verdicts[stats.Fail] > 5 || c.verdicts[stats.Pass] < 25 {
		t.Errorf("%s: %+v", shared[0].name, c)
	}
}

func verdicts(fail, pass int) map[stats.Verdict]int {
	return map[stats.Verdict]int{stats.Fail: fail, stats.Pass: pass}
}
