// Package storetest is the contract of store.Store as a test suite, and a store
// that fails on demand.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/store"
)

// objects are in no order; "a-b" lies between "a" and "a/c" as names and before
// them as keys.
func objects() map[string][]byte {
	return map[string][]byte{
		"org=alfa/cluster=eu-1/date=2026-11-20/hour=18/x.rw1.sz":   []byte("one"),
		"org=alfa/cluster=eu-1/date=2026-11-20/hour=19/x.rw2.sz":   []byte("three"),
		"org=alfa/cluster=eu-1.b/date=2026-11-20/hour=18/x.rw1.sz": []byte("four"),
		"org=alfa-2/cluster=c/x":                                   bytes.Repeat([]byte{0, 255, '\n'}, 50_000),
		"org=bravo/y":                                              {},
		"top":                                                      []byte("top"),
		"zürich/ü":                                                 []byte("not ASCII"),
	}
}

func sortedKeys(m map[string][]byte, prefix string) []string {
	keys := []string{}
	for k := range m {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// Run checks that the stores which open returns honour the contract. Each call of
// open must return a new and empty store.
func Run(t *testing.T, open func() store.Store) {
	t.Helper()
	RunReadOnly(t, func(content map[string][]byte) store.Store {
		s := open()
		for key, body := range content {
			created, err := s.Put(t.Context(), key, body)
			if err != nil || !created {
				t.Fatalf("Put(%q) = %v, %v", key, created, err)
			}
		}
		return s
	})
	t.Run("Put", func(t *testing.T) { testPut(t, open()) })
	t.Run("PutConflict", func(t *testing.T) { testConflict(t, open()) })
	t.Run("PutKeepsNoBody", func(t *testing.T) { testOwnership(t, open()) })
	t.Run("PutRace", func(t *testing.T) { testRace(t, open()) })
	t.Run("PutWhileListing", func(t *testing.T) { testPutWhileListing(t, open()) })
	t.Run("PutInvalidKey", func(t *testing.T) {
		s := open()
		for _, key := range invalidKeys() {
			if created, err := s.Put(t.Context(), key, []byte("x")); created || !errors.Is(err, store.ErrInvalidKey) {
				t.Errorf("Put(%.40q) = %v, %v; want ErrInvalidKey", key, created, err)
			}
		}
		if got := list(t, s, ""); len(got) != 0 {
			t.Errorf("stored %v", got)
		}
	})
	t.Run("PutCancelled", func(t *testing.T) {
		s := open()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if created, err := s.Put(ctx, "a/b", []byte("x")); created || !errors.Is(err, context.Canceled) {
			t.Errorf("Put = %v, %v; want context.Canceled", created, err)
		}
		if got := list(t, s, ""); len(got) != 0 {
			t.Errorf("stored %v", got)
		}
	})
}

// RunReadOnly checks everything but Put. Each call of open must return a store with
// exactly this content.
func RunReadOnly(t *testing.T, open func(content map[string][]byte) store.Store) {
	t.Helper()
	t.Run("Get", func(t *testing.T) {
		s := open(objects())
		for key, want := range objects() {
			got, err := s.Get(t.Context(), key)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("Get(%q) = %d bytes, %v; want %d", key, len(got), err, len(want))
				continue
			}
			for i := range got { // the caller owns it
				got[i]++
			}
			if got, err := s.Get(t.Context(), key); err != nil || !bytes.Equal(got, want) {
				t.Errorf("Get(%q) again: changed, %v", key, err)
			}
		}
	})
	t.Run("GetNotFound", func(t *testing.T) {
		s := open(objects())
		// No object, a prefix of one, something below one.
		for _, key := range []string{"nothing", "org=alfa", "org=alfa/cluster=eu-1", "top/below"} {
			if _, err := s.Get(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Get(%q): %v, want ErrNotFound", key, err)
			}
		}
	})
	t.Run("GetInvalidKey", func(t *testing.T) {
		s := open(objects())
		for _, key := range invalidKeys() {
			if _, err := s.Get(t.Context(), key); !errors.Is(err, store.ErrInvalidKey) {
				t.Errorf("Get(%.40q): %v, want ErrInvalidKey", key, err)
			}
		}
	})
	t.Run("GetCancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := open(objects()).Get(ctx, "top"); !errors.Is(err, context.Canceled) {
			t.Errorf("Get: %v, want context.Canceled", err)
		}
	})
	t.Run("List", func(t *testing.T) {
		s := open(objects())
		for _, prefix := range []string{
			"", "o", "org=alfa", "org=alfa/", "org=alfa/cluster=eu-1", "org=alfa/cluster=eu-1/", "org=alfa/cluster=eu-1/date=2026-11-20/hour=1",
			"top", "top/", "nothing", "nothing/", "zürich", "/", ".", "..", "../", "org=alfa//",
		} {
			got := []string{}
			for _, o := range list(t, s, prefix) {
				got = append(got, o.Key)
				if want := len(objects()[o.Key]); o.Size != int64(want) {
					t.Errorf("List(%q): %s has %d bytes, want %d", prefix, o.Key, o.Size, want)
				}
			}
			if diff := cmp.Diff(sortedKeys(objects(), prefix), got); diff != "" {
				t.Errorf("List(%q) (-want +got):\n%s", prefix, diff)
			}
		}
	})
	t.Run("ListEmpty", func(t *testing.T) {
		if got := list(t, open(nil), ""); len(got) != 0 {
			t.Errorf("List = %v", got)
		}
	})
	t.Run("ListStops", func(t *testing.T) {
		n := 0
		for _, err := range open(objects()).List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 2 {
				break
			}
		}
		if n != 2 {
			t.Errorf("%d objects, want 2", n)
		}
	})
	t.Run("ListCancelled", func(t *testing.T) {
		s := open(objects())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got []string
		var last error
		for o, err := range s.List(ctx, "") {
			if last != nil {
				t.Fatal("an element after the error")
			}
			if err != nil {
				last = err
				if o != (store.Object{}) {
					t.Errorf("error with object %v", o)
				}
				continue
			}
			got = append(got, o.Key)
			cancel()
		}
		if len(got) == len(objects()) || !errors.Is(last, context.Canceled) {
			t.Errorf("%d objects, then %v; want context.Canceled before the end", len(got), last)
		}
	})
}

func invalidKeys() []string {
	return []string{
		"", ".", "..", "/", "/abs", "a/", "a//b", "a/./b", "a/../b", "../a", "a/..", `a\b`, "a\x00b", "a\nb", "\xff",
		"a/.tmp-1/b", ".tmp-1", strings.Repeat("k", 256), strings.Repeat("k/", 600) + "k",
	}
}

func list(t *testing.T, s store.Store, prefix string) []store.Object {
	t.Helper()
	var got []store.Object
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("List(%q): %v", prefix, err)
		}
		got = append(got, o)
	}
	return got
}

func testPut(t *testing.T, s store.Store) {
	t.Helper()
	for i, want := range []bool{true, false, false} {
		created, err := s.Put(t.Context(), "a/b", []byte("body"))
		if err != nil || created != want {
			t.Errorf("Put number %d = %v, %v; want %v", i+1, created, err, want)
		}
	}
	if diff := cmp.Diff([]store.Object{{Key: "a/b", Size: 4}}, list(t, s, "")); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

func testConflict(t *testing.T, s store.Store) {
	t.Helper()
	if _, err := s.Put(t.Context(), "a", []byte("body")); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"bodY", "longer body", ""} {
		created, err := s.Put(t.Context(), "a", []byte(other))
		if created || (err != nil && !errors.Is(err, store.ErrConflict)) {
			t.Errorf("Put(%q) = %v, %v; want false and, if noticed, ErrConflict", other, created, err)
		}
	}
	if got, err := s.Get(t.Context(), "a"); err != nil || string(got) != "body" {
		t.Errorf("Get = %q, %v; the first content must stay", got, err)
	}
}

func testOwnership(t *testing.T, s store.Store) {
	t.Helper()
	body := []byte("body")
	if _, err := s.Put(t.Context(), "a", body); err != nil {
		t.Fatal(err)
	}
	copy(body, "XXXX")
	if got, err := s.Get(t.Context(), "a"); err != nil || string(got) != "body" {
		t.Errorf("Get = %q, %v; Put has kept the caller's bytes", got, err)
	}
}

func testRace(t *testing.T, s store.Store) {
	t.Helper()
	var (
		wg    sync.WaitGroup
		start = make(chan struct{})
		wins  atomic.Int32
		body  = bytes.Repeat([]byte("race"), 5000)
	)
	for range 20 {
		wg.Go(func() {
			<-start
			created, err := s.Put(t.Context(), "org=a/same", body)
			if err != nil {
				t.Error(err)
			}
			if created {
				wins.Add(1)
			}
			if got, err := s.Get(t.Context(), "org=a/same"); err != nil || !bytes.Equal(got, body) {
				t.Errorf("Get after Put: %d bytes, %v", len(got), err)
			}
		})
	}
	close(start)
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d puts created the object, want 1", wins.Load())
	}
	if got := list(t, s, ""); len(got) != 1 {
		t.Errorf("stored %v", got)
	}
}

func testPutWhileListing(t *testing.T, s store.Store) {
	t.Helper()
	for i := range 5 {
		if _, err := s.Put(t.Context(), fmt.Sprintf("a/%d", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for o, err := range s.List(t.Context(), "a/") {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n > 100 {
			t.Fatal("the listing does not end")
		}
		if _, err := s.Put(t.Context(), "b/"+o.Key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if n != 5 {
		t.Errorf("%d objects, want 5", n)
	}
}
