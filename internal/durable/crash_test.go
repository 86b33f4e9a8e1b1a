package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"syscall"
	"testing"
)

// disk is a simulated file system that knows what would be left after a power cut.
// It is as mean as POSIX allows: bytes survive only once their file was synced,
// names only once their directory was synced — or, in the other extreme, names
// survive at once and bytes do not.
type disk struct {
	dirs  map[string]*directory
	ops   int          // operations so far
	fail  int          // the operation of this number fails (1 is the first); 0: none
	err   error        // how it fails
	what  string       // which operation did
	after func() error // when set, runs after every operation
}

type directory struct {
	now, synced map[string]*inode
}

type inode struct {
	now, synced []byte
	isDir       bool
}

var _ files = (*disk)(nil)

func newDisk() *disk {
	return &disk{dirs: map[string]*directory{"/": {now: map[string]*inode{}, synced: map[string]*inode{}}}}
}

func (d *disk) op(what string) error {
	d.ops++
	if d.ops == d.fail {
		d.what = what
		return d.err
	}
	return nil
}

func (d *disk) done() error {
	if d.after != nil {
		return d.after()
	}
	return nil
}

func (d *disk) lookup(path string) (*directory, string, error) {
	dir, ok := d.dirs[filepath.Dir(path)]
	if !ok {
		return nil, "", fs.ErrNotExist
	}
	return dir, filepath.Base(path), nil
}

func (d *disk) create(path string, _ fs.FileMode) (file, error) {
	if err := d.op("create"); err != nil {
		return nil, err
	}
	dir, name, err := d.lookup(path)
	if err != nil {
		return nil, err
	}
	if dir.now[name] != nil {
		return nil, fs.ErrExist
	}
	n := &inode{}
	dir.now[name] = n
	return &diskFile{d: d, n: n}, d.done()
}

func (d *disk) link(from, to string) error {
	if err := d.op("link"); err != nil {
		return err
	}
	src, srcName, err := d.lookup(from)
	if err != nil {
		return err
	}
	dst, dstName, err := d.lookup(to)
	if err != nil {
		return err
	}
	if dst.now[dstName] != nil {
		return fs.ErrExist
	}
	dst.now[dstName] = src.now[srcName]
	return d.done()
}

func (d *disk) rename(from, to string) error {
	if err := d.op("rename"); err != nil {
		return err
	}
	src, srcName, err := d.lookup(from)
	if err != nil {
		return err
	}
	dst, dstName, err := d.lookup(to)
	if err != nil {
		return err
	}
	dst.now[dstName] = src.now[srcName]
	delete(src.now, srcName)
	return d.done()
}

func (d *disk) remove(path string) error {
	if err := d.op("remove"); err != nil {
		return err
	}
	dir, name, err := d.lookup(path)
	if err != nil {
		return err
	}
	delete(dir.now, name)
	delete(d.dirs, path)
	return d.done()
}

func (d *disk) mkdir(path string, _ fs.FileMode) error {
	if err := d.op("mkdir"); err != nil {
		return err
	}
	dir, name, err := d.lookup(path)
	if err != nil {
		return err
	}
	if dir.now[name] != nil {
		return fs.ErrExist
	}
	dir.now[name] = &inode{isDir: true}
	d.dirs[path] = &directory{now: map[string]*inode{}, synced: map[string]*inode{}}
	return d.done()
}

func (d *disk) isDir(path string) (bool, error) {
	if err := d.op("isDir"); err != nil {
		return false, err
	}
	if path == "/" {
		return true, nil
	}
	dir, name, err := d.lookup(path)
	if err != nil {
		return false, err
	}
	n := dir.now[name]
	if n == nil {
		return false, fs.ErrNotExist
	}
	return n.isDir, d.done()
}

func (d *disk) syncDir(path string) error {
	if err := d.op("syncDir"); err != nil {
		return err
	}
	dir := d.dirs[path]
	dir.synced = maps.Clone(dir.now)
	return d.done()
}

type diskFile struct {
	d *disk
	n *inode
}

// Write stores half of the bytes when it fails, as a full disk does.
func (f *diskFile) Write(p []byte) (int, error) {
	if err := f.d.op("Write"); err != nil {
		f.n.now = append(f.n.now, p[:len(p)/2]...)
		return len(p) / 2, err
	}
	f.n.now = append(f.n.now, p...)
	return len(p), f.d.done()
}

func (f *diskFile) Sync() error {
	if err := f.d.op("Sync"); err != nil {
		return err
	}
	f.n.synced = append([]byte(nil), f.n.now...)
	return f.d.done()
}

func (f *diskFile) Close() error {
	if err := f.d.op("Close"); err != nil {
		return err
	}
	return f.d.done()
}

// survivors returns what path may hold after a power cut now: nil means no file.
// The path through the directories has to survive, too.
func (d *disk) survivors(path string) []*string {
	content := func(n *inode) *string {
		if n == nil {
			return nil
		}
		s := string(n.synced)
		return &s
	}
	dir, name, err := d.lookup(path)
	if err != nil {
		return []*string{nil}
	}
	only := content(dir.synced[name])
	for at := filepath.Dir(path); at != "/"; at = filepath.Dir(at) {
		if d.dirs[filepath.Dir(at)].synced[filepath.Base(at)] == nil {
			only = nil
		}
	}
	return []*string{only, content(dir.now[name])}
}

// operations of the package over a simulated disk, on a file whose content was "old"
// (synced) or which was not there.
var operations = []struct {
	name    string
	old     string // "" = not there
	allowed []string
	run     func(f files, path string) error
}{
	{"replace new", "", []string{"", "new content"}, func(f files, path string) error {
		return replace(f, path, 0o644, renderNew)
	}},
	{"replace old", "old", []string{"old", "new content"}, func(f files, path string) error {
		return replace(f, path, 0o644, renderNew)
	}},
	{"create", "", []string{"", "new content"}, func(f files, path string) error {
		_, err := createExclusive(f, path, []byte("new content"), 0o644)
		return err
	}},
	{"create again", "old", []string{"old"}, func(f files, path string) error {
		created, err := createExclusive(f, path, []byte("new content"), 0o644)
		if created {
			return errors.Join(err, errors.New("replaced an existing file"))
		}
		return err
	}},
	{"create below new directories", "", []string{"", "new content"}, func(f files, path string) error {
		if err := mkdirAll(f, filepath.Dir(path), 0o755); err != nil {
			return err
		}
		_, err := createExclusive(f, path, []byte("new content"), 0o644)
		return err
	}},
}

func simulated(old string, deep bool) (*disk, string) {
	d := newDisk()
	if deep {
		return d, "/a/b/object"
	}
	if old != "" {
		n := &inode{now: []byte(old), synced: []byte(old)}
		d.dirs["/"].now["object"], d.dirs["/"].synced["object"] = n, n
	}
	return d, "/object"
}

func check(d *disk, path string, allowed []string) error {
	for _, got := range d.survivors(path) {
		s := ""
		if got != nil {
			if *got == "" {
				return errors.New("an empty file survives")
			}
			s = *got
		}
		ok := false
		for _, a := range allowed {
			ok = ok || a == s
		}
		if !ok {
			return fmt.Errorf("%q survives, want one of %q", s, allowed)
		}
	}
	return nil
}

// TestPowerCut cuts the power after every single operation.
func TestPowerCut(t *testing.T) {
	for _, tt := range operations {
		t.Run(tt.name, func(t *testing.T) {
			d, path := simulated(tt.old, tt.name == "create below new directories")
			d.after = func() error {
				if err := check(d, path, tt.allowed); err != nil {
					t.Errorf("power cut after operation %d: %v", d.ops, err)
				}
				return nil
			}
			if err := tt.run(d, path); err != nil {
				t.Fatal(err)
			}
			if err := check(d, path, tt.allowed[len(tt.allowed)-1:]); err != nil {
				t.Errorf("power cut after success: %v", err)
			}
		})
	}
}

// TestFailure lets every single operation fail, with and without a power cut
// afterwards, and then tries again.
func TestFailure(t *testing.T) {
	for _, tt := range operations {
		t.Run(tt.name, func(t *testing.T) {
			deep := tt.name == "create below new directories"
			d, path := simulated(tt.old, deep)
			if err := tt.run(d, path); err != nil {
				t.Fatal(err)
			}
			for n := 1; n <= d.ops; n++ {
				d, path := simulated(tt.old, deep)
				d.fail, d.err = n, syscall.EIO
				err := tt.run(d, path)
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("operation %d failed, the result is %v", n, err)
				}
				if err := check(d, path, tt.allowed); err != nil {
					t.Errorf("operation %d failed: %v", n, err)
				}
				for dir, entries := range d.dirs {
					for name := range entries.now {
						if IsTemp(name) && d.what != "remove" {
							t.Errorf("operation %d failed: %s left in %s", n, name, dir)
						}
					}
				}
				d.fail = 0
				if err := tt.run(d, path); err != nil {
					t.Errorf("again after operation %d failed: %v", n, err)
				}
				if err := check(d, path, tt.allowed[len(tt.allowed)-1:]); err != nil {
					t.Errorf("again after operation %d failed: %v", n, err)
				}
			}
		})
	}
}

// renderNew writes "new content" in two pieces.
func renderNew(w io.Writer) error {
	for _, piece := range []string{"new ", "content"} {
		if _, err := io.WriteString(w, piece); err != nil {
			return err
		}
	}
	return nil
}
