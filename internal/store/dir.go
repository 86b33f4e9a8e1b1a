package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/cirrusbench/cirrusbench/internal/durable"
)

// Permissions before umask.
const (
	objectPerm    = 0o644
	directoryPerm = 0o755
)

// maxKnownDirs bounds the memory that a long-lived server spends on remembering
// which directories it has made durable: 24 a day for each cluster.
const maxKnownDirs = 8192

// Dir is a store in a directory: the key is the path below it. Use [NewDir].
//
// When Put returns, the bytes of the object, its directory entry and every
// directory between it and the root have been synced to the disk, in this order;
// several puts share no sync. Files whose name tells that they are unfinished are
// left out of a listing, and so is everything that is neither a regular file nor a
// directory: symbolic links below the root are not followed by List.
//
// A key cannot be both an object and a prefix of another one ("a" and "a/b"), as
// it could in S3; the second put fails.
type Dir struct {
	root string

	mu    sync.Mutex
	known map[string]struct{} // guarded by mu: directories that are durable
}

var _ Store = (*Dir)(nil)

// NewDir returns a store in the directory path, which the first Put makes when it
// is not there. It is an error when path is something else than a directory.
func NewDir(path string) (*Dir, error) {
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening directory store %s: %w", path, err)
	}
	if info, err := os.Stat(root); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("opening directory store: %w", &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR})
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening directory store: %w", err)
	}
	return &Dir{root: root, known: map[string]struct{}{}}, nil
}

// String returns the absolute path of the directory.
func (d *Dir) String() string { return d.root }

// Probe makes the directory if need be and writes a temporary file to it, so that a
// server finds out before its first request whether it can store anything.
func (d *Dir) Probe(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("probing %s: %w", d.root, err)
	}
	if err := durable.MkdirAll(d.root, directoryPerm); err != nil {
		return fmt.Errorf("probing store: %w", err)
	}
	f, err := os.CreateTemp(d.root, ".tmp-probe-*")
	if err != nil {
		return fmt.Errorf("probing store: %w", err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("probing store: %w", err)
	}
	return nil
}

// Put implements [Store]. It looks at the context before it starts, but a started
// write runs to its end.
func (d *Dir) Put(ctx context.Context, key string, body []byte) (bool, error) {
	if err := check(ctx, "putting", key); err != nil {
		return false, err
	}
	path := d.path(key)
	if err := d.makeDir(filepath.Dir(path)); err != nil {
		return false, fmt.Errorf("putting %s: %w", key, err)
	}
	created, err := durable.CreateExclusive(path, body, objectPerm)
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody has removed a directory that was known: make it again, once.
		d.forgetDirs()
		if err = d.makeDir(filepath.Dir(path)); err == nil {
			created, err = durable.CreateExclusive(path, body, objectPerm)
		}
	}
	if err != nil {
		return created, fmt.Errorf("putting %s: %w", key, err)
	}
	if !created {
		// Rare (a repeated request), and cheap: the acknowledgement must not vouch for
		// an object that something else has cut or changed on the disk.
		old, err := os.ReadFile(path)
		if err != nil {
			return false, fmt.Errorf("putting %s: %w", key, err)
		}
		if !bytes.Equal(old, body) {
			return false, fmt.Errorf("putting %s: %w", key, ErrConflict)
		}
	}
	return created, nil
}

// Get implements [Store].
func (d *Dir) Get(ctx context.Context, key string) ([]byte, error) {
	if err := check(ctx, "getting", key); err != nil {
		return nil, err
	}
	body, err := os.ReadFile(d.path(key))
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", key, notFound(err))
	}
	return body, nil
}

// List implements [Store]. It holds the names of one directory on each level at a
// time.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return listFS(ctx, os.DirFS(d.root), prefix)
}

func (d *Dir) path(key string) string {
	return filepath.Join(d.root, filepath.FromSlash(key))
}

// makeDir makes dir and everything above it, up to the root and the root itself,
// durable. A directory that another process has made is synced once as well, for
// that process may have been killed before it came to do so.
func (d *Dir) makeDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[dir]; ok {
		return nil
	}
	if err := durable.MkdirAll(dir, directoryPerm); err != nil {
		return err
	}
	if len(d.known) > maxKnownDirs {
		clear(d.known)
	}
	for dir != d.root {
		parent := filepath.Dir(dir)
		if err := durable.SyncDir(parent); err != nil {
			return err
		}
		d.known[dir] = struct{}{}
		if _, ok := d.known[parent]; ok {
			return nil
		}
		dir = parent
	}
	d.known[d.root] = struct{}{}
	return nil
}

func (d *Dir) forgetDirs() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.known)
}

// notFound turns the errors of a file system that mean "there is no such object"
// into ErrNotFound: also a directory, or a path through a file.
func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) {
		return ErrNotFound
	}
	return err
}
