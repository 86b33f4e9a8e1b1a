package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// alfa is the lane of tests that need only one.
var alfa = Lane{Org: "alfa", Cluster: "prod"}

// open opens a queue and closes it at the end of the test.
func open(tb testing.TB, dir string, opt Options) *Queue {
	tb.Helper()
	q, err := Open(dir, opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := q.Close(); err != nil {
			tb.Errorf("closing: %v", err)
		}
	})
	return q
}

// record makes a record whose body says which it is.
func record(l Lane, body string) *Record {
	return &Record{Lane: l, Received: time.UnixMilli(time.Now().UnixMilli()).UTC(), Version: 1, NewestMS: 1763661600000, DecodedBytes: 7, Samples: 2, Body: []byte(body)}
}

func appendOne(tb testing.TB, q *Queue, l Lane, body string) uint64 {
	tb.Helper()
	seq, err := q.Append(context.Background(), record(l, body))
	if err != nil {
		tb.Fatalf("append %.20q: %v", body, err)
	}
	return seq
}

// bodies returns what a lane has to deliver.
func bodies(tb testing.TB, q *Queue, l Lane, after uint64) []string {
	tb.Helper()
	var out []string
	if err := q.Scan(l, after, func(r Record) (bool, error) {
		out = append(out, string(r.Body))
		return true, nil
	}); err != nil {
		tb.Fatal(err)
	}
	return out
}

// files returns the names in a directory that match.
func files(tb testing.TB, dir, pattern string) []string {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		tb.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func pendingOf(q *Queue, l Lane) Pending {
	for _, p := range q.Pending() {
		if p.Lane == l {
			return p
		}
	}
	return Pending{}
}

// faulty is a segment file that fails when it is told to.
type faulty struct {
	segmentWriter
	f *faults
}

// faults are shared by all files of a queue.
type faults struct {
	mu       sync.Mutex
	write    error // of the next writes, after half of the bytes
	sync     error // of the next syncs
	truncate error
	writes   int
	syncs    int
}

func (f *faults) set(write, sync, truncate error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write, f.sync, f.truncate = write, sync, truncate
}

func (f *faults) create(path string) (segmentWriter, error) {
	w, err := createSegment(path)
	if err != nil {
		return nil, err
	}
	return faulty{w, f}, nil
}

func (w faulty) WriteAt(p []byte, off int64) (int, error) {
	w.f.mu.Lock()
	err := w.f.write
	w.f.writes++
	w.f.mu.Unlock()
	if err != nil {
		n, werr := w.segmentWriter.WriteAt(p[:len(p)/2], off)
		return n, errors.Join(err, werr)
	}
	return w.segmentWriter.WriteAt(p, off)
}

func (w faulty) Sync() error {
	w.f.mu.Lock()
	err := w.f.sync
	w.f.syncs++
	w.f.mu.Unlock()
	if err != nil {
		return err
	}
	return w.segmentWriter.Sync()
}

func (w faulty) Truncate(n int64) error {
	w.f.mu.Lock()
	err := w.f.truncate
	w.f.mu.Unlock()
	if err != nil {
		return err
	}
	return w.segmentWriter.Truncate(n)
}

// fill makes a directory with one closed segment of n records and returns its path and
// its content, and where each record begins, the end included.
func fill(tb testing.TB, dir string, n int) (path string, content []byte, begins []int64) {
	tb.Helper()
	q, err := Open(dir, Options{Sync: SyncNever})
	if err != nil {
		tb.Fatal(err)
	}
	at := int64(segmentHeader)
	for i := range n {
		r := record(alfa, fmt.Sprintf("body %d %s", i, recordMagic))
		begins = append(begins, at)
		at += r.size()
		if _, err := q.Append(tb.Context(), r); err != nil {
			tb.Fatal(err)
		}
	}
	begins = append(begins, at)
	if err := q.Close(); err != nil {
		tb.Fatal(err)
	}
	segs := files(tb, dir, "*.seg")
	if len(segs) != 1 {
		tb.Fatalf("segments %v, want one", segs)
	}
	content, err = os.ReadFile(segs[0])
	if err != nil || int64(len(content)) != at {
		tb.Fatalf("%d bytes, %v; want %d", len(content), err, at)
	}
	return segs[0], content, begins
}
