package keys_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server/keys"
)

func hash(key string) string {
	h := sha256.Sum256([]byte(key))
	return hex.EncodeToString(h[:])
}

func TestParse(t *testing.T) {
	// A hash of digits only is still text.
	table, err := keys.Parse([]byte("# comment\norgs:\n  alfa: [" + hash("one") + ", " + strings.ToUpper(hash("two")) + "]\n  bravo.1:\n    - " +
		strings.Repeat("1", 64) + "\n    - " + hash("three") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"one": "alfa", "two": "alfa", "three": "bravo.1", "four": "", "": "", hash("one"): ""} {
		if got, ok := table.Org(key); got != want || ok != (want != "") {
			t.Errorf("Org(%q) = %q, %v; want %q", key, got, ok, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const canary = "canary-key-in-clear"
	good := hash("one")
	for name, tt := range map[string]struct{ file, text string }{
		"empty":         {"", "not of the form"},
		"no orgs":       {"orgs: {}", "no org has a key"},
		"no key":        {"orgs: {alfa: []}", "org alfa has no key"},
		"bad org":       {"orgs: {../x: [" + good + "]}", "invalid name"},
		"clear text":    {"orgs: {alfa: [" + canary + "]}", "key 1 of org alfa is not a SHA-256"},
		"short":         {"orgs: {alfa: [" + good[:63] + "]}", "not a SHA-256"},
		"long":          {"orgs: {alfa: [" + good + "0]}", "not a SHA-256"},
		"two orgs":      {"orgs: {alfa: [" + good + "], bravo: [" + good + "]}", "key 1 of org bravo is also a key of alfa"},
		"twice":         {"orgs: {alfa: [" + good + ", " + strings.ToUpper(good) + "]}", "key 2 of org alfa is also a key of alfa"},
		"unknown field": {"orgs: {alfa: [" + good + "]}\nkeys: " + canary, "not of the form"},
		"not a list":    {"orgs:\n  alfa: " + canary, "not of the form"},
		"not a map":     {canary, "not of the form"},
		"not YAML":      {"orgs: {alfa: [" + canary, "not of the form"},
		"bytes":         {"\x00\xff" + canary, "not of the form"},
	} {
		_, err := keys.Parse([]byte(tt.file))
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %q", name, err, tt.text)
		}
		if err != nil && (strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), good)) {
			t.Errorf("%s: the error quotes the file: %v", name, err)
		}
	}
}

// file writes a key file and opens it with a clock that the test moves.
func file(t *testing.T, content string) (f *keys.File, path string, log *bytes.Buffer, now *time.Time) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys.yaml")
	write(t, path, content)
	log = &bytes.Buffer{}
	at := time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC)
	now = &at
	f, err := keys.Open(path, slog.New(slog.NewTextHandler(log, nil)), func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	return f, path, log, now
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func orgs(org string, ks ...string) string {
	var s strings.Builder
	s.WriteString("orgs:\n  " + org + ":\n")
	for _, k := range ks {
		s.WriteString("    - " + hash(k) + "\n")
	}
	return s.String()
}

func TestAuthenticate(t *testing.T) {
	f, _, _, _ := file(t, orgs("alfa", "one", "k:with colon", "two words"))
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, tt := range []struct {
		name, authorization, apiKey string
		ok                          bool
	}{
		{"bearer", "Bearer one", "", true},
		{"bearer in lower case, two spaces", "bearer  one ", "", true},
		{"basic", basic("anybody:one"), "", true},
		{"basic, key as user", basic("one:"), "", true},
		{"basic, no colon", basic("one"), "", true},
		{"basic, colon in the key", basic("u:k:with colon"), "", true},
		{"raw", "one", "", true},
		{"api key", "", "one", true},
		{"api key beside a gateway's own", "Bearer gateway", "one", true},
		{"nothing", "", "", false},
		{"bearer of nothing", "Bearer ", "", false},
		{"wrong", "Bearer two", "", false},
		{"hash", "Bearer " + hash("one"), "", false},
		{"prefix", "Bearer on", "", false},
		{"longer", "Bearer onee", "", false},
		{"basic, wrong password for the right user", basic("one:two"), "", false},
		{"basic, not base64", "Basic one", "", false},
		{"other scheme", "Digest one", "", false},
		{"raw with a space", "two words", "", false},
		{"wrong api key", "", "two", false},
	} {
		r := &http.Request{Header: http.Header{}}
		r.Header.Set("X-Scope-OrgID", "bravo")
		if tt.authorization != "" {
			r.Header.Set("Authorization", tt.authorization)
		}
		if tt.apiKey != "" {
			r.Header.Set("X-Api-Key", tt.apiKey)
		}
		org, err := f.Authenticate(r)
		if tt.ok {
			if err != nil || org != "alfa" {
				t.Errorf("%s: %q, %v", tt.name, org, err)
			}
			continue
		}
		e, ok := errors.AsType[*remotewrite.Error](err)
		if org != "" || !ok || e.Status != http.StatusUnauthorized || e.Hint == "" {
			t.Errorf("%s: %q, %v", tt.name, org, err)
		}
		if err != nil && (strings.Contains(err.Error(), "two") || strings.Contains(e.Hint, hash("one"))) {
			t.Errorf("%s: the error tells the key: %v", tt.name, err)
		}
	}
}

// TestRotation: a key is added, senders change, the old one goes; nobody restarts and
// nobody is turned away in between.
func TestRotation(t *testing.T) {
	f, path, log, now := file(t, orgs("alfa", "old"))
	ask := func(key string) bool {
		_, err := f.Org(t.Context(), "Bearer "+key, "")
		return err == nil
	}
	expect := func(when string, oldOK, newOK bool) {
		t.Helper()
		if got := [...]bool{ask("old"), ask("new")}; got != [...]bool{oldOK, newOK} {
			t.Errorf("%s: old, new = %v; want %v, %v\n%s", when, got, oldOK, newOK, log)
		}
	}
	expect("at the start", true, false)
	write(t, path, orgs("alfa", "old", "new"))
	expect("before the next look", true, false)
	*now = now.Add(keys.CheckEvery)
	expect("with both", true, true)

	// What is no good, or not there, changes nothing.
	for _, content := range []string{"", "orgs: {alfa: [x]}", orgs("..", "new")} {
		write(t, path, content)
		*now = now.Add(keys.CheckEvery)
		expect("with a broken file", true, true)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		*now = now.Add(keys.CheckEvery)
		expect("without the file", true, true)
	}

	// Same size, same time stamp: the content counts.
	write(t, path, orgs("alfa", "old", "ne2"))
	*now = now.Add(keys.CheckEvery)
	expect("with another key", true, false)
	stamp, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, orgs("alfa", "ol2", "new"))
	if err := os.Chtimes(path, stamp.ModTime(), stamp.ModTime()); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(keys.CheckEvery)
	expect("with the new one alone", false, true)

	if n := strings.Count(log.String(), "level=ERROR"); n != 4 {
		t.Errorf("%d errors in the log, want one for each broken file and one for none:\n%s", n, log)
	}
	for _, k := range []string{"old", "new"} {
		if strings.Contains(log.String(), hash(k)) {
			t.Error("the log has a hash")
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "bad"), "orgs: {}")
	write(t, filepath.Join(dir, "huge"), strings.Repeat("#", 5<<20))
	for _, name := range []string{"missing", "bad", "huge", "."} {
		if f, err := keys.Open(filepath.Join(dir, name), nil, nil); err == nil {
			t.Errorf("%s: opened %v", name, f)
		}
	}
}

func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, path, orgs("alfa", "old"))
	var at time.Time
	f, err := keys.Open(path, nil, func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	at = at.Add(keys.CheckEvery)
	write(t, path, orgs("alfa", "old", "new"))
	done := make(chan error, 16)
	for range cap(done) {
		go func() {
			_, err := f.Org(t.Context(), "Bearer old", "")
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := f.Org(t.Context(), "Bearer new", ""); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(orgs("alfa", "one", "two")), "one")
	f.Add([]byte("orgs: {alfa: []}"), "")
	f.Add([]byte("orgs: {alfa: [*x]}"), "x")
	f.Fuzz(func(t *testing.T, b []byte, key string) {
		table, err := keys.Parse(b)
		if err != nil {
			return
		}
		if org, ok := table.Org(key); ok && capture.ValidName(org) != nil {
			t.Errorf("key %q is of %q, which no path may have", key, org)
		}
	})
}

func ExampleParse() {
	t, err := keys.Parse([]byte("orgs: {alfa: [5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8]}"))
	if err != nil {
		panic(err)
	}
	fmt.Println(t.Org("password"))
	// Output: alfa true
}
