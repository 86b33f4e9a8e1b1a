package spool

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestAppendAndDeliver(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, Options{SegmentBytes: 400, MaxBytes: 1 << 20})
	bravo := Lane{"bravo", "x"}
	for i := range 10 {
		appendOne(t, q, alfa, fmt.Sprint("a", i))
		appendOne(t, q, bravo, fmt.Sprint("b", i))
	}
	if p := pendingOf(q, alfa); p.Records != 10 || p.Bytes != 20 || p.Samples != 20 || p.DecodedBytes != 70 || p.Last < 19 {
		t.Errorf("pending %+v", p)
	}
	// Part of a segment; the other lane does not move.
	if err := q.Done(alfa, 5); err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff([]string{"a3", "a4", "a5", "a6", "a7", "a8", "a9"}, bodies(t, q, alfa, 5)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if p := pendingOf(q, alfa); p.Records != 7 || p.Bytes != 14 || p.Done != 5 {
		t.Errorf("pending %+v", p)
	}
	if p := pendingOf(q, bravo); p.Records != 10 || p.Done != 0 {
		t.Errorf("pending %+v", p)
	}
	for _, l := range []Lane{alfa, bravo} {
		if err := q.Done(l, 20); err != nil {
			t.Fatal(err)
		}
	}
	if got := q.Pending(); len(got) != 0 {
		t.Errorf("pending %+v", got)
	}
	if s := q.Stats(); s.Pending.Records != 0 || s.Accepted.Records != 20 || s.SegmentsKept == 0 || s.Segments != 1 {
		t.Errorf("%+v", s) // the active segment is not put aside
	}
	var history []string
	if _, err := History(dir, time.Time{}, time.Now().Add(time.Hour), func(r Record) error {
		history = append(history, string(r.Body))
		return nil
	}); err != nil || len(history) != 20 || history[0] != "a0" || history[19] != "b9" {
		t.Errorf("history %q, %v", history, err)
	}
}

// TestRestart: what is delivered, planned and pending is known again.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	plan := json.RawMessage(`{"n":1}`)
	q, err := Open(dir, Options{SegmentBytes: 300, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9 {
		appendOne(t, q, alfa, strconv.Itoa(i))
	}
	if err := errors.Join(q.Done(alfa, 4), q.Plan(alfa, 7, plan), q.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Append(t.Context(), record(alfa, "late")); !errors.Is(err, ErrClosed) {
		t.Errorf("append after Close: %v", err)
	}
	q = open(t, dir, Options{})
	p := pendingOf(q, alfa)
	var got map[string]int
	if err := json.Unmarshal(p.Plan, &got); err != nil || got["n"] != 1 || p.Through != 7 || p.Done != 4 || p.Records != 5 {
		t.Errorf("after the restart %+v, %v", p, err)
	}
	if diff := gocmp.Diff([]string{"4", "5", "6", "7", "8"}, bodies(t, q, alfa, p.Done)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if seq := appendOne(t, q, alfa, "next"); seq != 10 {
		t.Errorf("the next record has number %d", seq)
	}
	if err := q.Done(alfa, 7); err != nil {
		t.Fatal(err)
	}
	if p := pendingOf(q, alfa); p.Plan != nil || p.Records != 3 {
		t.Errorf("after Done %+v", p)
	}
}

// TestNumbersNeverComeTwice, not even when every file that knows of them is gone.
func TestNumbersNeverComeTwice(t *testing.T) {
	dir := t.TempDir()
	q, err := Open(dir, Options{KeepSent: -1})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		appendOne(t, q, alfa, "x")
	}
	if err := errors.Join(q.Done(alfa, 3), q.Close()); err != nil {
		t.Fatal(err)
	}
	if segs := files(t, dir, "*.se*"); len(segs) != 0 {
		t.Errorf("delivered segments are kept: %v", segs)
	}
	q = open(t, dir, Options{KeepSent: -1})
	if seq := appendOne(t, q, alfa, "x"); seq != 4 {
		t.Errorf("number %d", seq)
	}
}

// TestGroupCommit: appends that wait together share a sync, and none returns before it.
func TestGroupCommit(t *testing.T) {
	f := &faults{}
	var groups []int
	var mu sync.Mutex
	q := open(t, t.TempDir(), Options{create: f.create, OnSync: func(_ time.Duration, n int) {
		mu.Lock()
		groups = append(groups, n)
		mu.Unlock()
	}})
	var wg sync.WaitGroup
	seen := make([]bool, 401)
	for range 40 {
		wg.Go(func() {
			for range 10 {
				seq, err := q.Append(context.Background(), record(alfa, strings.Repeat("x", 500)))
				mu.Lock()
				if err != nil || seq < 1 || seq > 400 || seen[seq] {
					t.Errorf("number %d, %v", seq, err)
				} else {
					seen[seq] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range groups {
		total += n
	}
	if total != 400 || len(groups) > 300 {
		t.Errorf("%d syncs made %d records durable", len(groups), total)
	}
	if s := q.Stats(); s.Syncs != int64(len(groups)) {
		t.Errorf("counted %d syncs of %d", s.Syncs, len(groups))
	}
	t.Logf("%d appends, %d syncs", total, len(groups))
}

// TestNoAckBeforeSync: while the sync hangs, Append does not return and readers see
// nothing.
func TestNoAckBeforeSync(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	q := open(t, t.TempDir(), Options{OnSync: func(_ time.Duration, n int) {
		if n > 0 {
			close(begun)
			<-release // OnSync runs after the sync and before the answer
		}
	}})
	acked := make(chan error, 1)
	go func() {
		_, err := q.Append(context.Background(), record(alfa, "x"))
		acked <- err
	}()
	<-begun
	select {
	case err := <-acked:
		t.Errorf("acked (%v) before the sync was over", err)
	default:
	}
	if p := q.Pending(); len(p) != 0 {
		t.Errorf("readers see %+v", p)
	}
	close(release)
	if err := <-acked; err != nil {
		t.Error(err)
	}
	if got := bodies(t, q, alfa, 0); len(got) != 1 {
		t.Errorf("read %q", got)
	}
}

// TestWriteFailures: a write or a sync that fails costs these appends and nothing else.
func TestWriteFailures(t *testing.T) {
	noSpace := fmt.Errorf("injected: %w", syscall.ENOSPC)
	for _, c := range []struct {
		name                  string
		write, sync, truncate error
	}{
		{"write", noSpace, nil, nil},
		{"write and truncate", noSpace, nil, syscall.EIO},
		{"sync", nil, syscall.EIO, nil},
		{"sync and truncate", nil, syscall.EIO, syscall.EIO},
		{"all", noSpace, syscall.EIO, syscall.EIO},
	} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, first %v", c.name, first), func(t *testing.T) {
				dir := t.TempDir()
				f := &faults{}
				q, err := Open(dir, Options{create: f.create})
				if err != nil {
					t.Fatal(err)
				}
				var want []string
				if !first {
					appendOne(t, q, alfa, "before")
					want = append(want, "before")
				}
				f.set(c.write, c.sync, c.truncate)
				last := uint64(len(want))
				for range 3 {
					if _, err := q.Append(t.Context(), record(alfa, "failed")); !errors.Is(err, cmp.Or(c.write, c.sync)) {
						t.Fatalf("append: %v, want %v", err, cmp.Or(c.write, c.sync))
					}
				}
				if diff := gocmp.Diff(want, bodies(t, q, alfa, 0)); diff != "" {
					t.Fatalf("after the failure (-want +got):\n%s", diff)
				}
				f.set(nil, nil, nil)
				for i := range 3 {
					seq := appendOne(t, q, alfa, fmt.Sprint("after", i))
					if seq <= last {
						t.Errorf("number %d after %d", seq, last)
					}
					last = seq
					want = append(want, fmt.Sprint("after", i))
				}
				if diff := gocmp.Diff(want, bodies(t, q, alfa, 0)); diff != "" {
					t.Errorf("then (-want +got):\n%s", diff)
				}
				if s := q.Stats(); s.WriteFailures != 3 || s.Pending.Records != int64(len(want)) {
					t.Errorf("%+v", s)
				}
				if err := q.Close(); err != nil {
					t.Error(err)
				}
				// A record of a failed sync may be found again; one that was accepted must be.
				got, _ := readBack(t, dir)
				for _, w := range want {
					if !slices.Contains(got, w) {
						t.Errorf("%q is lost: %q", w, got)
					}
				}
			})
		}
	}
}

// TestFull: with less room than the records need, appends are refused, nothing is lost,
// and delivery makes room again.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, Options{MaxBytes: 20_000, SegmentBytes: 2_000})
	body := strings.Repeat("x", 900)
	var last uint64
	for {
		seq, err := q.Append(t.Context(), record(alfa, body))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = seq
	}
	if last < 10 || last > 21 {
		t.Errorf("%d records of 1 KB fit into 20 KB", last)
	}
	s := q.Stats()
	if s.Refused != 1 || s.UsedBytes > 20_000 || q.Ready() == nil {
		t.Errorf("%+v, ready %v", s, q.Ready())
	}
	if got := bodies(t, q, alfa, 0); len(got) != int(last) {
		t.Errorf("%d records of %d", len(got), last)
	}
	if err := q.Done(alfa, last/2); err != nil {
		t.Fatal(err)
	}
	appendOne(t, q, alfa, body) // deletes delivered segments
	if err := q.Ready(); err != nil {
		t.Error(err)
	}
	if got := bodies(t, q, alfa, last/2); len(got) != int(last-last/2)+1 {
		t.Errorf("%d records left", len(got))
	}
}

func TestDropOldest(t *testing.T) {
	q := open(t, t.TempDir(), Options{MaxBytes: 20_000, SegmentBytes: 2_000, DropOldest: true})
	for i := range 100 {
		appendOne(t, q, alfa, fmt.Sprintf("%03d%s", i, strings.Repeat("x", 900)))
	}
	s := q.Stats()
	got := bodies(t, q, alfa, 0)
	if s.UsedBytes > 20_000 || s.Dropped.Records+int64(len(got)) != 100 || s.Dropped.Samples != 2*s.Dropped.Records || s.Refused != 0 {
		t.Errorf("%d left, %+v", len(got), s)
	}
	if got[0][:3] != fmt.Sprintf("%03d", s.Dropped.Records) || got[len(got)-1][:3] != "099" {
		t.Errorf("left from %.3s to %.3s", got[0], got[len(got)-1])
	}
	if p := pendingOf(q, alfa); p.Records != int64(len(got)) {
		t.Errorf("%+v", p)
	}
}

// TestFreeSpace: the floor of free space refuses like the cap does.
func TestFreeSpace(t *testing.T) {
	free := int64(1 << 30)
	var mu sync.Mutex
	q := open(t, t.TempDir(), Options{MinFreeBytes: 1 << 20, free: func(string) (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		return free, nil
	}})
	appendOne(t, q, alfa, "x")
	mu.Lock()
	free = 1 << 20
	mu.Unlock()
	q.mu.Lock()
	q.freeAt = time.Time{} // as if a second had gone by
	q.mu.Unlock()
	if _, err := q.Append(t.Context(), record(alfa, "y")); !errors.Is(err, ErrFull) {
		t.Errorf("append: %v", err)
	}
	if err := q.Ready(); !errors.Is(err, ErrFull) {
		t.Errorf("ready: %v", err)
	}
}

func TestTooManyLanes(t *testing.T) {
	q := open(t, t.TempDir(), Options{Sync: SyncNever})
	for i := range maxLanes {
		appendOne(t, q, Lane{strconv.Itoa(i), "c"}, "x")
	}
	if _, err := q.Append(t.Context(), record(Lane{"new", "c"}, "x")); !errors.Is(err, ErrTooManyLanes) {
		t.Errorf("append: %v", err)
	}
	appendOne(t, q, Lane{"7", "c"}, "x")
}

func TestAppendRefusesLongNames(t *testing.T) {
	q := open(t, t.TempDir(), Options{})
	if _, err := q.Append(t.Context(), record(Lane{strings.Repeat("o", 256), "c"}, "x")); err == nil {
		t.Error("no error")
	}
}

// TestCancelled: an append whose context ends before its turn is not in the queue.
func TestCancelled(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	q := open(t, t.TempDir(), Options{OnSync: func(_ time.Duration, n int) {
		if n > 0 {
			once.Do(func() { close(begun); <-release })
		}
	}})
	first := make(chan error, 1)
	go func() {
		_, err := q.Append(context.Background(), record(alfa, "first"))
		first <- err
	}()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Append(ctx, record(alfa, "second")); !errors.Is(err, context.Canceled) {
		t.Errorf("second: %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	appendOne(t, q, alfa, "third")
	if diff := gocmp.Diff([]string{"first", "third"}, bodies(t, q, alfa, 0)); diff != "" {
		t.Error(diff)
	}
}

// TestClock: what a second's tick does, in no time.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		q, err := Open(dir, Options{Sync: SyncInterval, SegmentAge: time.Minute, KeepSent: time.Hour, MaxAge: 3 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		appendOne(t, q, alfa, "one")
		syncs := q.Stats().Syncs
		time.Sleep(2 * time.Second)
		if got := q.Stats().Syncs; got != syncs+1 {
			t.Errorf("%d syncs after two idle seconds, want one", got-syncs)
		}
		time.Sleep(time.Minute) // the segment is closed by its age
		if err := q.Done(alfa, 1); err != nil {
			t.Fatal(err)
		}
		if s := q.Stats(); s.Segments != 0 || s.SegmentsKept != 1 {
			t.Errorf("delivered: %+v", s)
		}
		time.Sleep(time.Hour)
		if s := q.Stats(); s.SegmentsKept != 0 || len(files(t, dir, "*.sent")) != 0 {
			t.Errorf("an hour later: %+v", s)
		}
		appendOne(t, q, alfa, "two")
		time.Sleep(3*time.Hour + 2*time.Second)
		if s := q.Stats(); s.Dropped.Records != 1 || s.Pending.Records != 0 {
			t.Errorf("too old: %+v", s)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestManySegments: files, goroutines and what is held of the past do not grow with the
// number of segments that went through.
func TestManySegments(t *testing.T) {
	rounds := 10_000
	if testing.Short() {
		rounds = 1_000
	}
	dir := t.TempDir()
	q := open(t, dir, Options{SegmentBytes: 1, KeepSent: -1, Sync: SyncNever})
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return 0
		}
		return len(entries)
	}
	var early int
	for i := range rounds {
		seq := appendOne(t, q, alfa, "x")
		if got := bodies(t, q, alfa, seq-1); len(got) != 1 {
			t.Fatalf("round %d: read %q", i, got)
		}
		if i%100 == 99 {
			if err := q.Done(alfa, seq); err != nil {
				t.Fatal(err)
			}
		}
		if i == 100 {
			early = descriptors()
		}
	}
	if late := descriptors(); late > early+2 {
		t.Errorf("%d open files after %d segments, %d after 100", late, rounds, early)
	}
	s := q.Stats()
	if s.Segments > 101 || len(q.lanes) > 1 || len(files(t, dir, "*")) > 105 {
		t.Errorf("%+v, %d lanes, files %v", s, len(q.lanes), files(t, dir, "*"))
	}
}

// TestAgainstModel does at random what a queue can do, restarts included, and compares
// it with lists in memory.
func TestAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	opt := Options{SegmentBytes: 500, Sync: SyncNever, KeepSent: -1, MaxBytes: 1 << 30}
	q, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	lanes := []Lane{alfa, {"alfa", "dev"}, {"bravo", "prod"}}
	type entry struct {
		seq  uint64
		body string
	}
	model := map[Lane][]entry{}
	done := map[Lane]uint64{}
	for i := range 1200 {
		l := lanes[rng.IntN(len(lanes))]
		switch n := rng.IntN(100); {
		case n < 60:
			body := fmt.Sprint(i, strings.Repeat("y", rng.IntN(200)))
			model[l] = append(model[l], entry{appendOne(t, q, l, body), body})
		case n < 90 && len(model[l]) > 0:
			k := rng.IntN(len(model[l]))
			done[l] = model[l][k].seq
			model[l] = model[l][k+1:]
			if err := q.Done(l, done[l]); err != nil {
				t.Fatal(err)
			}
		case n < 95:
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			if q, err = Open(dir, opt); err != nil {
				t.Fatal(err)
			}
		}
		if i%20 != 0 {
			continue
		}
		for _, l := range lanes {
			var want []string
			var bytes int64
			for _, e := range model[l] {
				want = append(want, e.body)
				bytes += int64(len(e.body))
			}
			if diff := gocmp.Diff(want, bodies(t, q, l, done[l])); diff != "" {
				t.Fatalf("step %d, %s (-want +got):\n%s", i, l, diff)
			}
			if p := pendingOf(q, l); p.Records != int64(len(want)) || p.Bytes != bytes || p.Samples != 2*p.Records {
				t.Fatalf("step %d, %s: pending %+v, want %d records of %d bytes", i, l, p, len(want), bytes)
			}
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestConcurrent has writers, a reader for each lane and a restart at the end.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	q, err := Open(dir, Options{SegmentBytes: 4000, Sync: SyncNever})
	if err != nil {
		t.Fatal(err)
	}
	lanes := []Lane{{"o", "0"}, {"o", "1"}, {"o", "2"}}
	const each = 300
	var wg sync.WaitGroup
	for _, l := range lanes {
		for w := range 2 {
			wg.Go(func() {
				for i := range each {
					if _, err := q.Append(context.Background(), record(l, fmt.Sprint(w, ":", i))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			var after uint64
			next := [2]int{}
			for next[0]+next[1] < 2*each {
				more := q.Changed()
				got := 0
				err := q.Scan(l, after, func(r Record) (bool, error) {
					w, i := int(r.Body[0]-'0'), 0
					if _, err := fmt.Sscan(string(r.Body[2:]), &i); err != nil {
						return false, err
					}
					if i != next[w] || r.Seq <= after {
						return false, fmt.Errorf("%s: read %q with number %d after %d, want %d", l, r.Body, r.Seq, after, next[w])
					}
					next[w]++
					after = r.Seq
					got++
					return got < 20, nil
				})
				if err != nil || t.Failed() {
					t.Error(err)
					return
				}
				if got == 0 {
					<-more
					continue
				}
				if err := q.Done(l, after); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s := q.Stats(); s.Pending.Records != 0 || s.Accepted.Records != 6*each {
		t.Errorf("%+v", s)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err := Inspect(dir)
	if err != nil || rep.Broken() != 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	var records int64
	for _, s := range rep.Segments {
		records += s.Records
		if s.Pending != 0 {
			t.Errorf("%+v", s)
		}
	}
	if records != 6*each {
		t.Errorf("%d records in all segments, want %d", records, 6*each)
	}
}

// TestFullDisk uses a real file system of 1 MiB where the machine lets it mount one.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	unmount, err := mountSmall(dir, "size=1m")
	if err != nil {
		t.Skip("cannot mount a tmpfs here:", err)
	}
	defer unmount()
	q, err := Open(filepath.Join(dir, "queue"), Options{SegmentBytes: 100_000, MinFreeBytes: -1, MaxBytes: 1 << 30, free: func(string) (int64, error) { return 1 << 40, nil }})
	if err != nil {
		t.Fatal(err)
	}
	var accepted []string
	failures := 0
	for i := range 200 {
		body := fmt.Sprintf("%03d%s", i, strings.Repeat("z", 10_000))
		switch _, err := q.Append(t.Context(), record(alfa, body)); {
		case err == nil:
			accepted = append(accepted, body)
		case errors.Is(err, syscall.ENOSPC):
			failures++
		default:
			t.Fatal(err)
		}
		if failures == 5 {
			break
		}
	}
	if failures != 5 || len(accepted) < 50 {
		t.Fatalf("%d accepted, %d failures", len(accepted), failures)
	}
	if diff := gocmp.Diff(accepted, bodies(t, q, alfa, 0)); diff != "" {
		t.Fatal("records were lost")
	}
	// Delivery works on a full disk, and makes room. There is no room for the kept
	// segments either: they go first, once appends need them to.
	var last uint64
	if err := q.Scan(alfa, 0, func(r Record) (bool, error) { last = r.Seq; return r.Seq < 30, nil }); err != nil {
		t.Fatal(err)
	}
	if err := q.Done(alfa, last); err != nil {
		t.Logf("state.json on the full disk: %v", err)
	}
	tries := 0
	for tries = range 10 {
		if _, err = q.Append(t.Context(), record(alfa, "again"+strings.Repeat("z", 10_000))); err == nil {
			break
		}
	}
	if err != nil || tries == 0 {
		t.Fatalf("after %d tries on the full disk: %v", tries+1, err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q, err = Open(filepath.Join(dir, "queue"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}()
	got := bodies(t, q, alfa, 0)
	if diff := gocmp.Diff("again", got[len(got)-1][:5]); diff != "" || len(got) < len(accepted)-30 {
		t.Errorf("%d records after a restart, %s", len(got), diff)
	}
}

// TestHistoryOfQueueAtWork: a segment that is put aside after the directory was listed is
// read under its new name.
func TestHistoryOfQueueAtWork(t *testing.T) {
	dir := t.TempDir()
	q := open(t, dir, Options{SegmentBytes: 300, MaxBytes: 1 << 20})
	for i := range 9 {
		appendOne(t, q, alfa, strconv.Itoa(i))
	}
	if err := q.Done(alfa, 4); err != nil {
		t.Fatal(err)
	}
	undelivered := files(t, dir, "*.seg")
	var got []string
	broken, err := History(dir, time.Time{}, time.Now().Add(time.Hour), func(r Record) error {
		if len(got) == 0 {
			if err := errors.Join(q.Done(alfa, 9), q.Close()); err != nil {
				t.Fatal(err)
			}
		}
		got = append(got, string(r.Body))
		return nil
	})
	if diff := gocmp.Diff([]string{"0", "1", "2", "3", "4", "5", "6", "7", "8"}, got); diff != "" || err != nil || broken != 0 {
		t.Errorf("%v, %d broken, (-want +got):\n%s", err, broken, diff)
	}
	if len(undelivered) < 2 || len(files(t, dir, "*.seg")) != 0 {
		t.Fatalf("the test is of no use: %v were undelivered, %v are", undelivered, files(t, dir, "*.seg"))
	}
	// An error of the caller's is not taken for a file that is gone.
	if _, err := History(dir, time.Time{}, time.Now().Add(time.Hour), func(Record) error { return os.ErrNotExist }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error of a visit is lost: %v", err)
	}
}

// TestInspectPutAside: the same of a report.
func TestInspectPutAside(t *testing.T) {
	dir := t.TempDir()
	path, _, _ := fill(t, dir, 3)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, putAside(path)); err != nil {
		t.Fatal(err)
	}
	rep := &Report{}
	rep.segments(dir, entries, nil)
	if len(rep.Segments) != 1 || !rep.Segments[0].Sent || rep.Segments[0].Records != 3 || rep.Segments[0].Pending != 0 || rep.Broken() != 0 {
		t.Errorf("%+v", rep)
	}
}

// TestStuckLaneHoldsNoOther: the lanes that come and go behind one that never gets on are
// forgotten, and one with delivered records beside its own is not.
func TestStuckLaneHoldsNoOther(t *testing.T) {
	dir := t.TempDir()
	opt := Options{SegmentBytes: 300, MaxBytes: 1 << 20, Sync: SyncNever}
	q, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	stuck, beside := Lane{"stuck", "x"}, Lane{"beside", "x"}
	appendOne(t, q, stuck, "s")
	if err := q.Done(beside, appendOne(t, q, beside, "b")); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		l := Lane{"guest", strconv.Itoa(i)}
		if err := q.Done(l, appendOne(t, q, l, "g")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(q.lanes); n > 10 || q.lanes[beside] == nil || q.lanes[stuck] == nil {
		t.Errorf("%d lanes are known", n)
	}
	// Twice: the first restart must not forget what the second one has to know.
	for range 2 {
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if q, err = Open(dir, opt); err != nil {
			t.Fatal(err)
		}
		if p := q.Pending(); len(p) != 1 || p[0].Lane != stuck || p[0].Records != 1 || q.lanes[beside] == nil || len(q.lanes) > 10 {
			t.Errorf("after a restart %d lanes are known, pending %+v", len(q.lanes), p)
		}
		if err := q.Plan(stuck, 1, json.RawMessage(`{}`)); err != nil { // writes state.json
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}
