package store_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

func newDir(t *testing.T) (*store.Dir, string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "not", "there", "yet")
	d, err := store.NewDir(root)
	if err != nil {
		t.Fatal(err)
	}
	return d, root
}

func TestContractDir(t *testing.T) {
	storetest.Run(t, func() store.Store { d, _ := newDir(t); return d })
}

func TestContractMemory(t *testing.T) {
	storetest.Run(t, func() store.Store { return store.NewMemory() })
}

func TestContractFaultless(t *testing.T) {
	storetest.Run(t, func() store.Store { return storetest.Faults{Store: store.NewMemory()} })
}

func TestContractFS(t *testing.T) {
	storetest.RunReadOnly(t, func(content map[string][]byte) store.Store {
		fsys := fstest.MapFS{}
		for key, body := range content {
			fsys[key] = &fstest.MapFile{Data: body}
		}
		return store.FromFS(fsys)
	})
	created, err := store.FromFS(fstest.MapFS{}).Put(t.Context(), "a", nil)
	if created || !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Put = %v, %v; want ErrReadOnly", created, err)
	}
}

func TestNull(t *testing.T) {
	var s store.Null
	for range 2 {
		if created, err := s.Put(t.Context(), "a/b", []byte("x")); err != nil || !created {
			t.Errorf("Put = %v, %v", created, err)
		}
	}
	if _, err := s.Put(t.Context(), "../b", nil); !errors.Is(err, store.ErrInvalidKey) {
		t.Errorf("Put of a bad key: %v", err)
	}
	if _, err := s.Get(t.Context(), "a/b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get: %v", err)
	}
	for o, err := range s.List(t.Context(), "") {
		t.Errorf("List yields %v, %v", o, err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for location, want := range map[string]string{
		"./data":                    root + "/data",
		"data":                      root + "/data",
		".":                         root,
		"./a:b":                     root + "/a:b",
		root + "/x":                 root + "/x",
		"file://" + root + "/x":     root + "/x",
		"FILE://" + root + "/x":     root + "/x",
		"file://" + root + "/%20x+": root + "/ x+",
		"mem:":                      "mem:",
		"null:":                     "null:",
	} {
		s, err := store.Open(t.Context(), location)
		if err != nil {
			t.Errorf("Open(%q): %v", location, err)
			continue
		}
		named, ok := s.(interface{ String() string })
		if !ok || named.String() != want {
			t.Errorf("Open(%q) = %v, want %s", location, s, want)
		}
	}
	if entries, _ := os.ReadDir(root); len(entries) != 1 {
		t.Errorf("Open has made something: %v", entries)
	}
	for location, problem := range map[string]string{
		"":                   "it is empty",
		"s3://bucket/prefix": "S3 is not available",
		"S3://bucket":        "S3 is not available",
		"gs://bucket":        "unknown scheme gs:",
		"a:b":                "unknown scheme a",
		"C:\\data":           "drive letters",
		"mem:x":              "nothing may follow",
		"null://":            "nothing may follow",
		"file://host/dir":    "not an absolute path",
		"file:relative":      "not an absolute path",
		"file:///a?b":        "not an absolute path",
		"file:///%zz":        "not a URL",
		"file:///%00":        "NUL",
		"./file":             "not a usable directory",
		"./file/below":       "not a usable directory",
	} {
		_, err := store.Open(t.Context(), location)
		e, ok := errors.AsType[*store.LocationError](err)
		if location == "a:b" {
			problem = "drive letters" // one letter is more likely a drive than a scheme
		}
		if !ok || !strings.Contains(e.Problem, problem) || e.Hint == "" || !strings.Contains(e.Error(), problem) {
			t.Errorf("Open(%q): %v (%+v), want %q and a hint", location, err, e, problem)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Open(ctx, "mem:"); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a cancelled context: %v", err)
	}
}

func TestDirLayout(t *testing.T) {
	d, root := newDir(t)
	key := "org=a/cluster=b/object.rw1.sz"
	if _, err := d.Put(t.Context(), key, []byte("body")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "org=a", "cluster=b", "object.rw1.sz")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&^0o644 != 0 || info.Mode().Perm()&0o400 == 0 {
		t.Errorf("object file: %v, %v", info, err)
	}
	// What others have left there: unfinished files, links, names that are no keys.
	for _, name := range []string{".tmp-ABCDEF", `back\slash`, "line\nfeed"} {
		if err := os.WriteFile(filepath.Join(root, "org=a", name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for o, err := range d.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	if diff := cmp.Diff([]string{key}, keys); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
}

func TestDirNoticesDamage(t *testing.T) {
	d, root := newDir(t)
	if _, err := d.Put(t.Context(), "object", []byte("body")); err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{"", "bo", "bodY"} {
		if err := os.WriteFile(filepath.Join(root, "object"), []byte(damaged), 0o644); err != nil {
			t.Fatal(err)
		}
		if created, err := d.Put(t.Context(), "object", []byte("body")); created || !errors.Is(err, store.ErrConflict) {
			t.Errorf("Put over %q = %v, %v; want ErrConflict", damaged, created, err)
		}
	}
}

func TestDirObjectAndPrefix(t *testing.T) {
	d, _ := newDir(t)
	for _, key := range []string{"a", "b/c"} {
		if _, err := d.Put(t.Context(), key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"a/below", "b"} {
		if created, err := d.Put(t.Context(), key, []byte("x")); created || err == nil {
			t.Errorf("Put(%q) = %v, %v; want an error", key, created, err)
		}
	}
}

// A directory removed under a running server comes back with the next put.
func TestDirRemovedUnderneath(t *testing.T) {
	d, root := newDir(t)
	for range 2 {
		if created, err := d.Put(t.Context(), "org=a/object", []byte("x")); err != nil || !created {
			t.Fatalf("Put = %v, %v", created, err)
		}
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
	}
	for o, err := range d.List(t.Context(), "") {
		t.Errorf("List of nothing yields %v, %v", o, err)
	}
}

func TestDirProbe(t *testing.T) {
	d, root := newDir(t)
	if err := d.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 0 {
		t.Errorf("after Probe: %v, %v", entries, err)
	}
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.Probe(t.Context()); err == nil {
		t.Error("Probe of a file succeeds")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Probe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Probe with a cancelled context: %v", err)
	}
}

func TestListReadError(t *testing.T) {
	broken := errors.New("disk on fire")
	s := store.FromFS(brokenFS{fstest.MapFS{"a/x": {}, "b/x": {}, "c/x": {}}, "b", broken})
	var keys []string
	var last error
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			last = err
			continue
		}
		keys = append(keys, o.Key)
	}
	if diff := cmp.Diff([]string{"a/x"}, keys); diff != "" || !errors.Is(last, broken) {
		t.Errorf("error %v, keys (-want +got):\n%s", last, diff)
	}
}

type brokenFS struct {
	fs.FS

	at  string
	err error
}

func (b brokenFS) Open(name string) (fs.File, error) {
	if name == b.at {
		return nil, b.err
	}
	return b.FS.Open(name)
}

func TestFaults(t *testing.T) {
	var (
		ctx     = t.Context()
		down    = errors.New("down")
		apply   bool
		problem error
		mem     = store.NewMemory()
		f       = storetest.Faults{Store: mem, Hook: func(_, _ string) (bool, error) { return apply, problem }}
	)
	stored := func(key string) bool { _, err := mem.Get(ctx, key); return err == nil }

	apply, problem = false, down
	if created, err := f.Put(ctx, "failed", nil); created || !errors.Is(err, down) || stored("failed") {
		t.Errorf("failed: %v, %v", created, err)
	}
	apply, problem = true, down
	if created, err := f.Put(ctx, "persisted", nil); created || !errors.Is(err, down) || !stored("persisted") {
		t.Errorf("failed but persisted: %v, %v", created, err)
	}
	if _, err := f.Get(ctx, "persisted"); !errors.Is(err, down) {
		t.Errorf("Get: %v", err)
	}
	n := 0
	for _, err := range f.List(ctx, "") {
		if n++; n == 2 && !errors.Is(err, down) {
			t.Errorf("List: %v", err)
		}
	}
	if n != 2 {
		t.Errorf("List yields %d elements, want an object and an error", n)
	}
	apply, problem = false, nil
	if created, err := f.Put(ctx, "lie", nil); !created || err != nil || stored("lie") {
		t.Errorf("lie: %v, %v", created, err)
	}
	if _, err := f.Get(ctx, "persisted"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of a lying store: %v", err)
	}
	f.Wait = func(context.Context, string, string) error { return down }
	apply = true
	if _, err := f.Put(ctx, "slow", nil); !errors.Is(err, down) || stored("slow") {
		t.Errorf("Wait: %v", err)
	}
}

func FuzzValidKey(f *testing.F) {
	for _, s := range []string{"a", "org=a/cluster=b/x.rw1.sz", "../a", "a//b", "", "a/.tmp-x", "ü\x00"} {
		f.Add(s)
	}
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, key string) {
		if err := store.ValidKey(key); err != nil {
			if !errors.Is(err, store.ErrInvalidKey) || len(err.Error()) > 2000 {
				t.Errorf("ValidKey(%q): %v", key, err)
			}
			return
		}
		path := filepath.Join(root, filepath.FromSlash(key))
		if rel, err := filepath.Rel(root, path); err != nil || rel != key || !filepath.IsLocal(rel) {
			t.Errorf("key %q leads to %q, %v", key, path, err)
		}
		m := store.NewMemory()
		if _, err := m.Put(t.Context(), key, nil); err != nil {
			t.Error(err)
		}
	})
}
