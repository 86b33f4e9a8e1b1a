package server_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

const corpusDir = "../../fixtures/corpus"

// sources says which org and cluster of the bundled corpus sent a capture: several
// of both, so that a replay has pairs to compare.
func sources() map[string][2]string {
	return map[string][2]string{
		"v1-prom242-500samples-plain":           {"alfa", "eu-1"},
		"v1-prom242-exemplars-nativehist":       {"alfa", "eu-1"},
		"v1-prom242-metadata-only":              {"alfa", "eu-1"},
		"v1-prom3-int-and-float-hist":           {"bravo", "us-1"},
		"v1-prom3-metadata-only":                {"bravo", "us-1"},
		"v2-prom3-2000samples-plain":            {"charlie", "ap-1"},
		"v2-prom3-exemplars-hist-nhcb-startts":  {"charlie", "ap-1"},
		"v2-prom3-stale-markers":                {"charlie", "ap-1"},
		"v2-prom3-type-unit-metadata":           {"charlie", "ap-2"},
		"v1-vmagent-3000series-unsorted-labels": {"delta", "edge"},
	}
}

// buildCorpus ingests the captures into a directory, as the server would have stored
// them when they were made.
func buildCorpus(t *testing.T, dir string) {
	t.Helper()
	d, err := store.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range good(t) {
		src, ok := sources()[r.Name]
		if !ok {
			t.Fatalf("capture %s has no org and cluster", r.Name)
		}
		at, err := time.Parse("2006-01-02 15:04:05.000", "2026-11-20 "+r.Summary.At)
		if err != nil {
			t.Fatal(err)
		}
		core := newCore(t, server.Config{Sink: server.NewStoreSink(d), Now: func() time.Time { return at }})
		in := r.input()
		in.Org, in.Cluster = src[0], src[1]
		if res := core.Ingest(t.Context(), in); res.Status != 204 || !res.Created {
			t.Fatalf("%s: %+v", r.Name, res)
		}
	}
}

// TestBundledCorpus checks that the corpus in the program is what this server makes
// of the captures. With -update it writes the corpus anew.
func TestBundledCorpus(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "corpus")
	if *update {
		if err := os.RemoveAll(corpusDir); err != nil {
			t.Fatal(err)
		}
		dir = corpusDir
	}
	buildCorpus(t, dir)
	want, got := contents(t, store.FromFS(os.DirFS(dir))), contents(t, store.FromFS(os.DirFS(corpusDir)))
	for key, body := range got {
		if !bytes.Equal(body, want[key]) {
			t.Errorf("%s differs", key)
		}
		delete(want, key)
	}
	for key := range want {
		t.Errorf("%s is missing", key)
	}
	if len(got) != 10 {
		t.Errorf("%d objects, want 10", len(got))
	}
	if t.Failed() {
		t.Log("if the change is wanted: go test ./internal/server -run TestBundledCorpus -update")
	}
}
