package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
)

// FS is a read-only store over a file system. Use [FromFS].
type FS struct{ fsys fs.FS }

var _ Store = FS{}

// FromFS returns a store that reads the files of fsys, such as a corpus embedded in
// the program.
func FromFS(fsys fs.FS) FS { return FS{fsys: fsys} }

// Put implements [Store]; it always fails with an error wrapping [ErrReadOnly].
func (f FS) Put(ctx context.Context, key string, _ []byte) (bool, error) {
	if err := check(ctx, "putting", key); err != nil {
		return false, err
	}
	return false, fmt.Errorf("putting %s: %w", key, ErrReadOnly)
}

// Get implements [Store].
func (f FS) Get(ctx context.Context, key string) ([]byte, error) {
	if err := check(ctx, "getting", key); err != nil {
		return nil, err
	}
	info, err := fs.Stat(f.fsys, key)
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", key, notFound(err))
	}
	if info.IsDir() {
		// An fs.FS reports reading a directory with an error of its own making.
		return nil, fmt.Errorf("getting %s: %w", key, ErrNotFound)
	}
	body, err := fs.ReadFile(f.fsys, key)
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", key, notFound(err))
	}
	return body, nil
}

// List implements [Store]. It holds the names of one directory on each level at a
// time.
func (f FS) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return listFS(ctx, f.fsys, prefix)
}

// listFS walks the part of fsys that prefix reaches.
func listFS(ctx context.Context, fsys fs.FS, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		l := lister{ctx: ctx, fsys: fsys, prefix: prefix, yield: yield}
		if err := l.dir("."); err != nil && !errors.Is(err, errStop) {
			yield(Object{}, listError(prefix, err))
		}
	}
}

// errStop unwinds a listing whose reader wants no more.
var errStop = errors.New("stop")

type lister struct {
	ctx    context.Context //nolint:containedctx // it lives as long as one call of the iterator
	fsys   fs.FS
	prefix string
	yield  func(Object, error) bool
}

func (l *lister) dir(dir string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(l.fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the root is not there yet, or dir has gone in between
	}
	if err != nil {
		return err
	}
	// In the order of keys a directory counts as its name with a slash: "a-b" comes
	// before "a/c", though "a" comes before "a-b".
	sortName := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	for _, e := range entries {
		key := path.Join(dir, e.Name())
		switch {
		case ValidKey(key) != nil: // unfinished files, and what was never put
		case e.IsDir():
			if branch := key + "/"; strings.HasPrefix(branch, l.prefix) || strings.HasPrefix(l.prefix, branch) {
				if err := l.dir(key); err != nil {
					return err
				}
			}
		case e.Type().IsRegular() && strings.HasPrefix(key, l.prefix):
			if err := l.object(key, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lister) object(key string, e fs.DirEntry) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !l.yield(Object{Key: key, Size: info.Size()}, nil) {
		return errStop
	}
	return nil
}
