package durable

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// names returns the names in a directory, temporary ones included.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "run.json")
	for _, content := range []string{"first", "", strings.Repeat("long ", 1<<18)} {
		if err := WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Fatalf("read back %d bytes, %v; want %d", len(got), err, len(content))
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if diff := cmp.Diff([]string{"run.json"}, names(t, dir)); diff != "" {
		t.Errorf("files left (-want +got):\n%s", diff)
	}
}

// TestRenderKeepsTheOldFile: a renderer that gives up half-way leaves nothing behind.
func TestRenderKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "run.json")
	broken := errors.New("no more")
	render := func(err error) func(io.Writer) error {
		return func(w io.Writer) error {
			for range 3 {
				if _, err := io.WriteString(w, "piece "); err != nil {
					return err
				}
			}
			return err
		}
	}
	if err := Render(path, 0o600, render(broken)); !errors.Is(err, broken) || len(names(t, dir)) != 0 {
		t.Errorf("%v, and there is %q", err, names(t, dir))
	}
	if err := Render(path, 0o600, render(nil)); err != nil {
		t.Fatal(err)
	}
	if err := Render(path, 0o600, func(w io.Writer) error { return errors.Join(render(nil)(w), broken) }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "piece piece piece " || len(names(t, dir)) != 1 {
		t.Errorf("the file is %q, %v; there is %q", got, err, names(t, dir))
	}
}

func TestWriteFileErrors(t *testing.T) {
	dir := t.TempDir()
	if err := WriteFile(filepath.Join(dir, "no", "such"), nil, 0o644); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	if err := WriteFile(dir, nil, 0o644); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("path of a directory: %v", err)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("files left: %q", got)
	}
}

func TestWriteFileLongestName(t *testing.T) {
	dir := t.TempDir()
	name := strings.Repeat("n", 255)
	if err := WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
		t.Error(err)
	}
	if created, err := CreateExclusive(filepath.Join(dir, strings.Repeat("m", 255)), []byte("x"), 0o644); err != nil || !created {
		t.Error(created, err)
	}
}

func TestWriteFileFollowsLink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("target", link); err != nil {
		t.Skip(err)
	}
	if err := WriteFile(link, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(target); string(got) != "new" {
		t.Errorf("target holds %q", got)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link is now %v, %v", info.Mode(), err)
	}
}

func TestCreateExclusive(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "object")
	created, err := CreateExclusive(path, []byte("one"), 0o644)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	created, err = CreateExclusive(path, []byte("two"), 0o644)
	if err != nil || created {
		t.Fatal(created, err)
	}
	if got, _ := os.ReadFile(path); string(got) != "one" {
		t.Errorf("content %q was replaced", got)
	}
	if _, err := CreateExclusive(filepath.Join(dir, "no", "such"), nil, 0o644); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	if diff := cmp.Diff([]string{"object"}, names(t, dir)); diff != "" {
		t.Errorf("files left (-want +got):\n%s", diff)
	}
}

func TestCreateExclusiveRace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "object")
	body := bytes.Repeat([]byte("body"), 1000)
	var (
		wg    sync.WaitGroup
		start = make(chan struct{})
		wins  atomic.Int32
	)
	for range 20 {
		wg.Go(func() {
			<-start
			created, err := CreateExclusive(path, body, 0o644)
			if err != nil {
				t.Error(err)
			}
			if created {
				wins.Add(1)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, body) {
				t.Errorf("after the call: %d bytes, %v", len(got), err)
			}
		})
	}
	close(start)
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d calls created the file, want 1", wins.Load())
	}
	if diff := cmp.Diff([]string{"object"}, names(t, dir)); diff != "" {
		t.Errorf("files left (-want +got):\n%s", diff)
	}
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "c")
	for range 2 {
		if err := MkdirAll(path, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() || info.Mode().Perm() != 0o750 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"file", "file/below"} {
		if err := MkdirAll(filepath.Join(dir, bad), 0o750); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s: %v, want ENOTDIR", bad, err)
		}
	}
	t.Chdir(dir)
	if err := MkdirAll("relative/path", 0o750); err != nil {
		t.Error(err)
	}
}

func TestMkdirAllRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "c", "d")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := MkdirAll(path, 0o755); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestIsTemp(t *testing.T) {
	for name, want := range map[string]bool{".tmp-ABC": true, "x.tmp-": false, "": false, ".tmp": false} {
		if IsTemp(name) != want {
			t.Errorf("IsTemp(%q) = %v", name, !want)
		}
	}
}
