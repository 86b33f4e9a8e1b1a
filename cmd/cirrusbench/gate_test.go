package main

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// slowServer starts a receiver that takes everything, after a delay: `slow NAME DELAY` sets $NAME to its URL.
// `slow NAME DELAY 10` refuses every tenth request with 429, at once.
func slowServer(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: slow NAME DELAY [EVERY]")
	}
	every := int64(0)
	if len(args) == 3 {
		n, err := strconv.ParseInt(args[2], 10, 64)
		ts.Check(err)
		every = n
	}
	var requests atomic.Int64
	delay, err := time.ParseDuration(args[1])
	ts.Check(err)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if n := requests.Add(1); every > 0 && n%every == 0 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
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

// FuzzSplitCommand: a command line is split or refused; words that need no quotes come back as they were.
func FuzzSplitCommand(f *testing.F) {
	for _, s := range []string{"a b", "a 'b c' \"d\"", `a\ b`, "'", "", "\x00 \xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words, err := splitCommand(s)
		if (err == nil) != (len(words) > 0) {
			t.Errorf("%q: %q %v", s, words, err)
		}
		if err == nil && !strings.ContainsAny(s, `'"\`) {
			plain := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' })
			if !slices.EqualFunc(plain, words, func(a, b string) bool { return a == b || strings.ToValidUTF8(a, "\uFFFD") == b || !utf8.ValidString(a) }) {
				t.Errorf("%q: %q", s, words)
			}
		}
	})
}

// TestMemoryLimit: the machine's memory, or a container's where that is less.
func TestMemoryLimit(t *testing.T) {
	meminfo := &fstest.MapFile{Data: []byte("MemFree: 1 kB\nMemTotal:        2048 kB\n")}
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  int64
	}{
		"nothing":    {fstest.MapFS{}, 0},
		"machine":    {fstest.MapFS{"proc/meminfo": meminfo}, 2 << 20},
		"no limit":   {fstest.MapFS{"proc/meminfo": meminfo, "sys/fs/cgroup/memory.max": {Data: []byte("max\n")}}, 2 << 20},
		"limit":      {fstest.MapFS{"proc/meminfo": meminfo, "sys/fs/cgroup/memory.max": {Data: []byte("1048576\n")}}, 1 << 20},
		"huge limit": {fstest.MapFS{"proc/meminfo": meminfo, "sys/fs/cgroup/memory/memory.limit_in_bytes": {Data: []byte("9223372036854771712\n")}}, 2 << 20},
		"version 1":  {fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": {Data: []byte("4096\n")}}, 4096},
		"nonsense":   {fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: x kB\nMemTotal:\n")}}, 0},
	} {
		if got := memoryLimit(c.files); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
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

// A gate of a target against itself is not told to be one.
func TestInconclusiveHints(t *testing.T) {
	for self, want := range map[bool]bool{false: true, true: false} {
		err := new(gateOptions).endingOfGate(&stats.GateResult{Verdict: stats.Inconclusive, Self: self}, false)
		if got := strings.Contains(hintOf(err), "--self"); got != want || hintOf(err) == "" {
			t.Errorf("self %v: hint %q", self, hintOf(err))
		}
	}
}

// TestGateTableNamesTests: a test that docs/gate.md names is there.
func TestGateTableNamesTests(t *testing.T) {
	root := os.DirFS(filepath.Join("..", ".."))
	doc, err := fs.ReadFile(root, "docs/gate.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bTest\w+|\b\w+\.txtar`).FindAllString(string(doc), -1)
	if len(names) < 15 {
		t.Fatalf("only %d tests are named: %q", len(names), names)
	}
	found := map[string]bool{}
	for _, dir := range []string{"internal/stats", "internal/report", "cmd/cirrusbench", "cmd/cirrusbench/testdata/script", "tools/gate-sim"} {
		entries, err := fs.ReadDir(root, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			found[e.Name()] = true
			if !strings.HasSuffix(e.Name(), "_test.go") {
				continue
			}
			code, err := fs.ReadFile(root, path.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)`).FindAllStringSubmatch(string(code), -1) {
				found[m[1]] = true
			}
		}
	}
	for _, name := range names {
		if !found[name] {
			t.Errorf("docs/gate.md names %s, which is not there", name)
		}
	}
}
