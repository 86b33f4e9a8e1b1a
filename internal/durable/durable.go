package durable

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// tempPrefix starts the name of every file that is not complete yet. The name is
// short and does not contain the final one, so that a final name of the greatest
// length the file system allows still works.
const tempPrefix = ".tmp-"

// IsTemp reports whether name, the last element of a path, is that of a file
// still being written or left behind by a killed process.
func IsTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// WriteFile replaces the file at path by data, or makes it with permissions perm
// (before umask). Readers see the old content or the new one, never a mixture, and
// on return the new one is durable. Its directory must exist.
//
// A symbolic link is followed: its target is replaced. A path that is neither a
// regular file nor a directory (/dev/stdout, a pipe) is written to as it is, for
// renaming a file over a device would take the device away; nothing is synced then.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return Render(path, perm, written(data))
}

// Render is [WriteFile] for content that render writes piece by piece, so that it need not be in memory at once. When
// render fails, the file is what it was. render should write in large pieces: each is a system call. It is called once.
func Render(path string, perm fs.FileMode, render func(io.Writer) error) error {
	target := path
	if info, err := os.Stat(path); err == nil {
		switch {
		case info.IsDir():
			return fmt.Errorf("writing %s: %w", path, &fs.PathError{Op: "write", Path: path, Err: syscall.EISDIR})
		case !info.Mode().IsRegular():
			return renderSpecial(path, render)
		}
		if target, err = filepath.EvalSymlinks(path); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	if err := replace(osFiles{}, target, perm, render); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// CreateExclusive makes the file at path with content data and permissions perm
// (before umask) unless something has that name already, and reports whether it
// did. Of several racing calls exactly one gets true. The final name appears with
// all of its content at once, and its directory must exist.
//
// (false, nil) means that the name was taken and is now durable; whether the
// content is the same is for the caller to find out. An error together with true
// means that the complete file is in place but could not be made durable; a later
// call returns false and tries to sync again. The file system must support hard
// links.
func CreateExclusive(path string, data []byte, perm fs.FileMode) (created bool, err error) {
	created, err = createExclusive(osFiles{}, path, data, perm)
	if err != nil {
		return created, fmt.Errorf("creating %s: %w", path, err)
	}
	return created, nil
}

// MkdirAll makes the directory path and all missing parents with permissions perm
// (before umask), and syncs the parent of each one it makes, so that on return the
// whole new path is durable. A directory that is there already is no error and is
// not synced: use [SyncDir] when another process may have just made it.
func MkdirAll(path string, perm fs.FileMode) error {
	if err := mkdirAll(osFiles{}, filepath.Clean(path), perm); err != nil {
		return fmt.Errorf("making directory %s: %w", path, err)
	}
	return nil
}

// SyncDir makes the entries of the directory path durable: files made, renamed or
// removed in it. It does not sync the content of those files.
func SyncDir(path string) error {
	if err := (osFiles{}).syncDir(path); err != nil {
		return fmt.Errorf("syncing directory %s: %w", path, err)
	}
	return nil
}

// files is what durability needs of a file system. Tests put failures and a
// simulated power cut behind it.
type files interface {
	create(path string, perm fs.FileMode) (file, error) // fails when path exists
	link(from, to string) error                         // fails when to exists
	rename(from, to string) error
	remove(path string) error
	mkdir(path string, perm fs.FileMode) error
	isDir(path string) (bool, error) // fs.ErrNotExist when there is nothing
	syncDir(path string) error
}

type file interface {
	Write(p []byte) (int, error)
	Sync() error
	Close() error
}

func replace(f files, path string, perm fs.FileMode, render func(io.Writer) error) error {
	dir := filepath.Dir(path)
	temp, err := writeTemp(f, dir, perm, render)
	if err != nil {
		return err
	}
	if err := f.rename(temp, path); err != nil {
		return errors.Join(err, f.remove(temp))
	}
	return f.syncDir(dir)
}

func createExclusive(f files, path string, data []byte, perm fs.FileMode) (bool, error) {
	dir := filepath.Dir(path)
	// A repeated put is common (a sender that lost our answer), so look before
	// writing the bytes once more. The race this leaves open is closed by link.
	if _, err := f.isDir(path); err == nil {
		// The one who made it may not have come to its own sync yet.
		return false, f.syncDir(dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	temp, err := writeTemp(f, dir, perm, written(data))
	if err != nil {
		return false, err
	}
	// rename(2) would replace what a racing writer has put there in between.
	linkErr := f.link(temp, path)
	if err := f.remove(temp); err != nil {
		return linkErr == nil, errors.Join(linkErr, err)
	}
	if linkErr != nil && !errors.Is(linkErr, fs.ErrExist) {
		return false, linkErr
	}
	return linkErr == nil, f.syncDir(dir)
}

// writeTemp renders into a new temporary file in dir and syncs it. When it
// fails it leaves no file behind.
func writeTemp(f files, dir string, perm fs.FileMode, render func(io.Writer) error) (path string, err error) {
	path = filepath.Join(dir, tempPrefix+rand.Text())
	w, err := f.create(path, perm)
	if err != nil {
		return "", err
	}
	if err = render(w); err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return "", errors.Join(err, f.remove(path))
	}
	return path, nil
}

func mkdirAll(f files, path string, perm fs.FileMode) error {
	ok, err := f.isDir(path)
	switch {
	case err == nil && ok:
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(path)
	if parent == path {
		return err // not even the root is there
	}
	if err := mkdirAll(f, parent, perm); err != nil {
		return err
	}
	if err := f.mkdir(path, perm); err != nil {
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if ok, statErr := f.isDir(path); statErr != nil || !ok {
			return err
		}
	}
	if err := f.syncDir(parent); err != nil {
		// The next call must not take the directory for one that is durable.
		return errors.Join(err, f.remove(path))
	}
	return nil
}

// renderSpecial writes to a device or a pipe, all or nothing.
func renderSpecial(path string, render func(io.Writer) error) error {
	var data bytes.Buffer
	if err := render(&data); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = w.Write(data.Bytes())
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// written renders data.
func written(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}
