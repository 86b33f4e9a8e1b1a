package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// slowServer starts a receiver that takes everything, after a delay: `slow NAME DELAY` sets $NAME to its URL.
func slowServer(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: slow NAME DELAY")
	}
	delay, err := time.ParseDuration(args[1])
	ts.Check(err)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(delay)
		w.WriteHeader(http.StatusNoContent)
	}))
	ts.Setenv(args[0], srv.URL)
	ts.Defer(srv.Close)
}

func TestSplitCommand(t *testing.T) {
	for in, want := range map[string][]string{
		"a b  c":                 {"a", "b", "c"},
		" \ta\n":                 {"a"},
		"a 'b c' \"d e\"":        {"a", "b c", "d e"},
		"a'b'\"c\"":              {"abc"},
		`a\ b '\c' "\""`:         {"a b", `\c`, `"`},
		"a ''":                   {"a", ""},
		"x --store=null: $HOME;": {"x", "--store=null:", "$HOME;"},
		"":                       nil,
		"  ":                     nil,
		"a 'b":                   nil,
		`a \`:                    nil,
	} {
		got, err := splitCommand(in)
		if diff := cmp.Diff(want, got); diff != "" || (err != nil) != (want == nil) {
			t.Errorf("%q: %v %s", in, err, diff)
		}
	}
}

func TestShare(t *testing.T) {
	for in, want := range map[string]share{"5%": 0.05, "0.05": 0.05, "7.5 %": 0.075, "0": 0, "150%": 1.5} {
		var s share
		if err := s.Set(in); err != nil || s != want {
			t.Errorf("%q: %v %v", in, s, err)
		}
	}
	for _, in := range []string{"", "5", "1", "-1%", "NaN", "x%", "2000%", "%"} {
		var s share
		if err := s.Set(in); err == nil {
			t.Errorf("%q is taken as %v", in, s)
		}
	}
	if s := share(0.05); s.String() != "5%" {
		t.Error(s.String())
	}
}

// TestEndingOfGate: only a PASS, or an INCONCLUSIVE that was declared harmless, ends with code 0.
func TestEndingOfGate(t *testing.T) {
	for _, c := range []struct {
		verdict        stats.Verdict
		onInconclusive string
		interrupted    bool
		want           int
	}{
		{stats.Pass, "", false, 0},
		{stats.Pass, "fail", false, 0},
		{stats.Fail, "pass", false, 3},
		{stats.Inconclusive, "", false, 4},
		{stats.Inconclusive, "pass", false, 0},
		{stats.Inconclusive, "fail", false, 3},
		{stats.Invalid, "pass", false, 5},
		{stats.Invalid, "", true, 130},
		{"", "pass", false, 5},
	} {
		o := gateOptions{onInconclusive: c.onInconclusive}
		if got := conclude(io.Discard, o.endingOfGate(&stats.GateResult{Verdict: c.verdict}, c.interrupted)); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
