package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readBack opens the queue, reads what is in it and closes it.
func readBack(tb testing.TB, dir string) (got []string, s Stats) {
	tb.Helper()
	q, err := Open(dir, Options{Sync: SyncNever})
	if err != nil {
		tb.Fatal(err)
	}
	got, s = bodies(tb, q, alfa, 0), q.Stats()
	if err := q.Close(); err != nil {
		tb.Fatal(err)
	}
	return got, s
}

func expected(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("body %d %s", i, recordMagic))
	}
	return out
}

// TestTruncatedAnywhere cuts the last segment at every byte: what is read back is all
// whole records before the cut, and the queue goes on from there.
func TestTruncatedAnywhere(t *testing.T) {
	const n = 4
	path, content, begins := fill(t, t.TempDir(), n)
	for cut := range content {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), content[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		whole := 0
		for whole < n && begins[whole+1] <= int64(cut) {
			whole++
		}
		got, s := readBack(t, dir)
		if diff := cmp.Diff(expected(whole), got); diff != "" {
			t.Fatalf("cut at %d (-want +got):\n%s", cut, diff)
		}
		if s.Pending.Records != int64(whole) || s.Corrupt != 0 {
			t.Fatalf("cut at %d: %+v", cut, s)
		}
		if cut%17 != 0 {
			continue
		}
		q, err := Open(dir, Options{Sync: SyncNever})
		if err != nil {
			t.Fatal(err)
		}
		if seq := appendOne(t, q, alfa, "after"); seq != uint64(whole+1) {
			t.Fatalf("cut at %d: the next record has number %d", cut, seq)
		}
		if diff := cmp.Diff(append(expected(whole), "after"), bodies(t, q, alfa, 0)); diff != "" {
			t.Fatalf("cut at %d and gone on (-want +got):\n%s", cut, diff)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEveryBitFlip flips every bit of the second of four records, and every bit of the
// segment's header: one flip costs one record at most, and what is lost is counted.
func TestEveryBitFlip(t *testing.T) {
	const n = 4
	path, content, begins := fill(t, t.TempDir(), n)
	dir := t.TempDir()
	check := func(bit int64, want []string, corrupt int64) {
		t.Helper()
		flipped := bytes.Clone(content)
		flipped[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		got, s := readBack(t, dir)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("bit %d of byte %d flipped (-want +got):\n%s", bit%8, bit/8, diff)
		}
		if s.Corrupt != corrupt {
			t.Fatalf("bit %d of byte %d flipped: %d broken stretches, want %d", bit%8, bit/8, s.Corrupt, corrupt)
		}
	}
	want := slices.Delete(expected(n), 1, 2)
	for bit := begins[1] * 8; bit < begins[2]*8; bit++ {
		check(bit, want, 1)
	}
	for bit := range int64(segmentHeader * 8) {
		check(bit, expected(n), 0) // the other copy of the header is intact
	}
	aside := files(t, filepath.Join(dir, quarantineDir), "*")
	if len(aside) != 1 {
		t.Fatalf("quarantine: %v", aside)
	}
	if b, err := os.ReadFile(aside[0]); err != nil || int64(len(b)) != begins[2]-begins[1] {
		t.Errorf("%d bytes in quarantine, %v; want the record", len(b), err)
	}
	// The file itself keeps all of its bytes.
	if b, err := os.ReadFile(filepath.Join(dir, filepath.Base(path))); err != nil || len(b) != len(content) {
		t.Errorf("the segment has %d bytes, %v; want %d", len(b), err, len(content))
	}
}

// A segment whose header is gone altogether is kept for people, and the queue opens.
func TestBrokenHeader(t *testing.T) {
	dir := t.TempDir()
	path, content, _ := fill(t, dir, 3)
	if err := os.WriteFile(path, append(make([]byte, segmentHeader), content[segmentHeader:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	got, s := readBack(t, dir)
	if len(got) != 0 || s.Corrupt != 1 || s.CorruptBytes != int64(len(content)) {
		t.Errorf("%q, %+v", got, s)
	}
	if aside := files(t, filepath.Join(dir, quarantineDir), "*"); len(aside) != 1 {
		t.Errorf("quarantine: %v", aside)
	}
}

// Bytes inside a body that look like a record are none: they do not have the salt.
func TestRecordInsideBody(t *testing.T) {
	inner := record(alfa, "forged")
	inner.Seq = 99
	dir := t.TempDir()
	q, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	appendOne(t, q, alfa, "first "+string(inner.append(nil, 0)))
	appendOne(t, q, alfa, "second")
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	seg := files(t, dir, "*.seg")[0]
	content, err := os.ReadFile(seg)
	if err != nil {
		t.Fatal(err)
	}
	content[segmentHeader+1] ^= 1 // so that reading must look for the next record
	if err := os.WriteFile(seg, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := readBack(t, dir); !slices.Equal(got, []string{"second"}) {
		t.Errorf("read %q", got)
	}
}

// A newer version, a foreign file and a broken state: the queue says so and loses nothing.
func TestOddDirectories(t *testing.T) {
	t.Run("newer segment", func(t *testing.T) {
		dir := t.TempDir()
		fill(t, dir, 2)
		h := appendSegmentHeader(nil, 1, 50)
		for at := 0; at < segmentHeader; at += 32 {
			binary.LittleEndian.PutUint32(h[at+8:], 2)
			binary.LittleEndian.PutUint32(h[at+28:], crc32.Checksum(h[at:at+28], castagnoli))
		}
		newer := filepath.Join(dir, segmentFile(50, false))
		if err := os.WriteFile(newer, append(h, "whatever"...), 0o600); err != nil {
			t.Fatal(err)
		}
		before := snapshot(t, dir)
		_, err := Open(dir, Options{})
		if e, ok := errors.AsType[*VersionError](err); !ok || e.Version != 2 || e.Path != newer || e.Hint() == "" {
			t.Fatalf("error %v, want a *VersionError", err)
		}
		if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
			t.Errorf("the directory was changed:\n%s", diff)
		}
	})
	t.Run("newer state", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(`{"schema":"cirrusbench/queue/v7"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "version 7") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("foreign", func(t *testing.T) {
		dir := t.TempDir()
		fill(t, dir, 2)
		for _, name := range []string{"notes.txt", "0000.seg", "0000000000000001.seg~"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, _ := readBack(t, dir); len(got) != 2 {
			t.Errorf("read %q", got)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "notes.txt")); err != nil || string(b) != "mine" {
			t.Errorf("the foreign file: %q, %v", b, err)
		}
		rep, err := Inspect(dir)
		if err != nil || len(rep.Foreign) != 3 {
			t.Errorf("%+v, %v", rep, err)
		}
	})
	t.Run("broken state", func(t *testing.T) {
		dir := t.TempDir()
		fill(t, dir, 2)
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(`{"schema":`), 0o600); err != nil {
			t.Fatal(err)
		}
		rep, err := Inspect(dir)
		if err != nil || rep.Broken() != 1 {
			t.Errorf("inspect before: %+v, %v", rep, err)
		}
		if got, _ := readBack(t, dir); len(got) != 2 {
			t.Errorf("read %q", got)
		}
		if aside := files(t, filepath.Join(dir, quarantineDir), "state.json-*"); len(aside) != 1 {
			t.Errorf("quarantine: %v", aside)
		}
	})
	t.Run("no permission", func(t *testing.T) {
		if os.Getuid() == 0 {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(filepath.Join(dir, "file"), Options{}); err == nil {
				t.Error("a file was opened as a directory")
			}
			return // root may do anything
		}
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, Options{}); !errors.Is(err, os.ErrPermission) {
			t.Errorf("error %v", err)
		}
	})
}

// snapshot reads all files of a directory but the lock.
func snapshot(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	all := map[string]string{}
	for _, path := range files(tb, dir, "*") {
		if info, err := os.Stat(path); err != nil || info.IsDir() || filepath.Base(path) == lockName {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		all[filepath.Base(path)] = string(b)
	}
	return all
}

// TestSecondProcess: flock belongs to the open file, so a second Open of this process
// meets it like one of another process.
func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	q, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	appendOne(t, q, alfa, "one")
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("second: %v, want ErrLocked", err)
	}
	appendOne(t, q, alfa, "two")
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _ := readBack(t, dir); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("read %q", got)
	}
}

// FuzzScan reads any bytes as a segment: no panic, it ends, and what it returns
// re-encodes to the bytes that were read.
func FuzzScan(f *testing.F) {
	r := record(alfa, "body")
	r.Seq = 1
	one := r.append(nil, 5)
	r.Seq = 2
	two := r.append(bytes.Clone(one), 5)
	for _, seed := range [][]byte{nil, one, two, two[:len(two)-1], append([]byte("CBr\x01"), two...), append(two, one...)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var bad int64
		s := scanner{r: bytes.NewReader(b), size: int64(len(b)), salt: 5, bad: func(off, n int64) {
			if n <= 0 || off < 0 || off+n > int64(len(b)) {
				t.Fatalf("broken stretch of %d bytes at %d of %d", n, off, len(b))
			}
			bad += n
		}}
		var good int64
		for {
			rec, at, err := s.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			again := rec.append(nil, 5)
			// Byte 15 is kept for later use and not read; milliseconds are all that is kept of a time.
			end := at + int64(len(again))
			if end > int64(len(b)) || len(again) != int(rec.size()) || !bytes.Equal(again[recordHeader:], b[at+recordHeader:end]) {
				t.Fatalf("record at %d does not re-encode to what was read", at)
			}
			good += rec.size()
		}
		if good+bad != int64(len(b)) {
			t.Fatalf("%d good and %d broken bytes of %d", good, bad, len(b))
		}
	})
}
