package capture_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

const capturesDir = "../../fixtures/captures"

type recorded struct {
	Name    string
	Body    []byte
	Summary struct {
		Version         int   `json:"rw_version"`
		Series          int   `json:"series"`
		Samples         int   `json:"samples"`
		Exemplars       int   `json:"exemplars"`
		IntHistograms   int   `json:"int_histograms"`
		FloatHistograms int   `json:"float_histograms"`
		MinTS           int64 `json:"min_ts"`
		MaxTS           int64 `json:"max_ts"`
	} `json:"summary"`
}

func captures(t *testing.T) []recorded {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(capturesDir, "v*.snappy"))
	if err != nil || len(files) != 10 {
		t.Fatalf("%d captures, %v; want 10", len(files), err)
	}
	var all []recorded
	for _, f := range files {
		js, err := os.ReadFile(strings.TrimSuffix(f, ".snappy") + ".json")
		if err != nil {
			t.Fatal(err)
		}
		r := recorded{Name: filepath.Base(f)}
		if err := json.Unmarshal(js, &r); err != nil {
			t.Fatal(err)
		}
		if r.Body, err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// received is when the captures without a timestamp came.
var received = time.Date(2026, 11, 20, 18, 10, 39, 0, time.UTC)

// put stores the captures, those of 1.0 as alfa's and those of 2.0 as bravo's.
func put(t *testing.T, s store.Store) map[string]recorded {
	t.Helper()
	all := map[string]recorded{}
	for _, r := range captures(t) {
		at, org := received, "alfa"
		if r.Summary.MaxTS > 0 {
			at = time.UnixMilli(r.Summary.MaxTS)
		}
		if r.Summary.Version == 2 {
			org = "bravo"
		}
		key := capture.NewKey(org, "eu-1", remotewrite.Version(r.Summary.Version), at, r.Body).String()
		if _, err := s.Put(t.Context(), key, r.Body); err != nil {
			t.Fatal(err)
		}
		all[key] = r
	}
	return all
}

func TestLoad(t *testing.T) {
	mem := store.NewMemory()
	want := put(t, mem)
	for _, key := range []string{"README.md", "org=alfa/notes.txt"} {
		if _, err := mem.Put(t.Context(), key, []byte("not a capture")); err != nil {
			t.Fatal(err)
		}
	}
	var gets atomic.Int32
	counted := storetest.Faults{Store: mem, Hook: func(op, _ string) (bool, error) {
		if op == storetest.OpGet {
			gets.Add(1)
		}
		return true, nil
	}}
	for name, opt := range map[string]capture.Options{
		"in memory":   {Location: "here"},
		"read again":  {Location: "here", MemoryBytes: -1},
		"just no fit": {Location: "here", MemoryBytes: 310_702},
		"just a fit":  {Location: "here", MemoryBytes: 310_703, Workers: 1},
		"many hands":  {Location: "here", Workers: 100},
	} {
		t.Run(name, func(t *testing.T) {
			gets.Store(0)
			c, err := capture.Load(t.Context(), counted, opt)
			if err != nil {
				t.Fatal(err)
			}
			if n := gets.Load(); n != 10 {
				t.Errorf("%d objects were read, want each of 10 once", n)
			}
			if c.Location != "here" || c.Bytes != 310_703 || c.Samples != 12_159 || c.Foreign != 2 || c.Example != "README.md" {
				t.Errorf("location %s, %d bytes, %d samples, %d foreign, such as %s", c.Location, c.Bytes, c.Samples, c.Foreign, c.Example)
			}
			entries := c.Entries()
			if len(entries) != 10 {
				t.Fatalf("%d entries", len(entries))
			}
			var keys []string
			for i, e := range entries {
				r, ok := want[e.Key.String()]
				if !ok {
					t.Fatalf("entry %s was never put", e.Key)
				}
				keys = append(keys, e.Key.String())
				if i > 0 {
					a, b := entries[i-1].Key, e.Key
					if c := a.Time.Compare(b.Time); c > 0 || c == 0 && a.String() >= b.String() {
						t.Errorf("%s before %s", a, b)
					}
				}
				s := r.Summary
				wantEntry := capture.Entry{
					Key: e.Key, Size: int64(len(r.Body)), Samples: s.Samples, Series: s.Series,
					Histograms: s.IntHistograms + s.FloatHistograms, Exemplars: s.Exemplars,
				}
				if s.MaxTS > 0 {
					wantEntry.MinTimestampMS, wantEntry.MaxTimestampMS, wantEntry.HasTimestamp = s.MinTS, s.MaxTS, true
				}
				if diff := cmp.Diff(wantEntry, e); diff != "" {
					t.Errorf("%s (-want +got):\n%s", r.Name, diff)
				}
				body, err := c.Body(t.Context(), i)
				if err != nil || !bytes.Equal(body, r.Body) {
					t.Errorf("body of %s: %d bytes, %v", r.Name, len(body), err)
				}
			}
			slices.Sort(keys)
			sum := sha256.Sum256([]byte(strings.Join(keys, "\n") + "\n"))
			if got := hex.EncodeToString(sum[:]); c.SHA256() != got {
				t.Errorf("sha256 %s, want %s", c.SHA256(), got)
			}
			again := int32(0)
			if opt.MemoryBytes == -1 || opt.MemoryBytes == 310_702 {
				again = 10
			}
			if n := gets.Load() - 10; n != again {
				t.Errorf("%d bodies were read again, want %d", n, again)
			}
		})
	}
}

func TestLoadFilters(t *testing.T) {
	mem := store.NewMemory()
	put(t, mem)
	for _, tt := range []struct {
		opt  capture.Options
		want int
	}{
		{capture.Options{Org: "alfa"}, 6},
		{capture.Options{Org: "bravo", Cluster: "eu-1"}, 4},
		{capture.Options{Cluster: "eu-1"}, 10},
		{capture.Options{Org: "alf"}, 0},
		{capture.Options{Cluster: "eu"}, 0},
		{capture.Options{Org: "bravo", Cluster: "eu-2"}, 0},
	} {
		c, err := capture.Load(t.Context(), mem, tt.opt)
		if tt.want == 0 {
			if e, ok := errors.AsType[*capture.EmptyError](err); !ok || !strings.Contains(e.Hint, "filter") || e.Location != "mem:" {
				t.Errorf("%+v: %v (%+v), want EmptyError", tt.opt, err, e)
			}
			continue
		}
		if err != nil || len(c.Entries()) != tt.want {
			t.Errorf("%+v: %v, want %d entries", tt.opt, err, tt.want)
		}
	}
	for _, opt := range []capture.Options{{Org: "../x"}, {Cluster: "a/b"}} {
		if _, err := capture.Load(t.Context(), mem, opt); !errors.Is(err, capture.ErrInvalidName) {
			t.Errorf("%+v: %v", opt, err)
		}
	}
}

func TestLoadEmpty(t *testing.T) {
	mem := store.NewMemory()
	_, err := capture.Load(t.Context(), mem, capture.Options{Location: "./data"})
	if e, ok := errors.AsType[*capture.EmptyError](err); !ok || e.Location != "./data" || !strings.Contains(e.Hint, "serve") || err.Error() != "no captured requests at ./data" {
		t.Errorf("%v (%+v)", err, e)
	}
	if _, err := mem.Put(t.Context(), "20261120T182501.123Z.json", nil); err != nil {
		t.Fatal(err)
	}
	_, err = capture.Load(t.Context(), mem, capture.Options{})
	if e, ok := errors.AsType[*capture.EmptyError](err); !ok || e.Foreign != 1 || !strings.Contains(e.Hint, "org=") || err.Error() != "no captured requests at mem: (1 other objects)" {
		t.Errorf("%v (%+v)", err, e)
	}
}

// TestLoadBroken breaks one object at a time, and then several.
func TestLoadBroken(t *testing.T) {
	plain := captures(t)[0] // v1-prom242-500samples-plain
	newest := time.UnixMilli(plain.Summary.MaxTS)
	key := capture.NewKey("alfa", "eu-1", remotewrite.V1, newest, plain.Body).String()
	text := []byte("this is no snappy")
	bad := snappy.Encode(nil, []byte("this is no protobuf"))
	wrongVersion := capture.NewKey("alfa", "eu-1", remotewrite.V2, newest, plain.Body).String()
	tests := []struct {
		name string
		key  string
		body []byte
		want error // nil: a *remotewrite.Error
		hint string
	}{
		{"cut", key, plain.Body[:1000], capture.ErrMismatch, "cut or changed"},
		{"changed", key, append(plain.Body[:len(plain.Body)-1:len(plain.Body)-1], 0), capture.ErrMismatch, "cut or changed"},
		{"renamed", strings.Replace(key, "hour=18", "hour=17", 1), plain.Body, capture.ErrInvalidKey, "do not rename"},
		{"moved", "data/" + key, plain.Body, capture.ErrInvalidKey, "the directory that holds org="},
		{"of a version to come", strings.Replace(key, ".rw1", ".rw3", 1), plain.Body, capture.ErrInvalidKey, "do not rename"},
		{"wrong time", capture.NewKey("alfa", "eu-1", remotewrite.V1, newest.Add(time.Millisecond), plain.Body).String(), plain.Body, capture.ErrMismatch, "cut or changed"},
		{"not snappy", capture.NewKey("alfa", "eu-1", remotewrite.V1, newest, text).String(), text, nil, "would not accept"},
		{"not protobuf", capture.NewKey("alfa", "eu-1", remotewrite.V1, newest, bad).String(), bad, nil, "would not accept"},
		{"other version", wrongVersion, plain.Body, nil, "would not accept"},
	}
	all := store.NewMemory()
	put(t, all)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mem := store.NewMemory()
			for _, s := range []store.Store{mem, all} {
				if _, err := s.Put(t.Context(), tt.key, tt.body); err != nil && !errors.Is(err, store.ErrConflict) {
					t.Fatal(err)
				}
			}
			_, err := capture.Load(t.Context(), mem, capture.Options{})
			e, ok := errors.AsType[*capture.ObjectError](err)
			if !ok || e.Key != tt.key || !strings.Contains(e.Hint, tt.hint) || e.Others != 0 || !strings.HasPrefix(err.Error(), "broken capture "+tt.key+": ") {
				t.Fatalf("%v (%+v)", err, e)
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if _, ok := errors.AsType[*remotewrite.Error](err); ok != (tt.want == nil) {
				t.Errorf("%v: a remotewrite.Error is %v", err, ok)
			}
		})
	}
	// Seven keys are new; "cut" and "changed" have that of a good object. The first
	// broken key is reported, whoever of the workers comes first.
	for range 5 {
		_, err := capture.Load(t.Context(), all, capture.Options{Workers: 8})
		if e, ok := errors.AsType[*capture.ObjectError](err); !ok || e.Key != "data/"+key || e.Others != 6 || !strings.Contains(err.Error(), "and 6 more") {
			t.Errorf("%v (%+v)", err, e)
		}
	}
}

func TestLoadTooLarge(t *testing.T) {
	mem := store.NewMemory()
	put(t, mem)
	opt := capture.Options{Limits: remotewrite.Limits{MaxDecodedBytes: 50_000}}
	_, err := capture.Load(t.Context(), mem, opt)
	if e, ok := errors.AsType[*capture.ObjectError](err); !ok || e.Others == 0 || e.Hint == "" {
		t.Errorf("%v (%+v)", err, e)
	}
	// An object that cannot be a request within the limit is not even read.
	huge := storetest.Faults{Store: mem, Hook: func(op, key string) (bool, error) {
		if op == storetest.OpGet {
			t.Errorf("%s was read", key)
		}
		return true, nil
	}}
	opt.Limits.MaxDecodedBytes = 1000
	_, err = capture.Load(t.Context(), huge, opt)
	if !errors.Is(err, capture.ErrTooLarge) {
		t.Error(err)
	}
	if e, ok := errors.AsType[*capture.ObjectError](err); !ok || e.Others != 9 || !strings.Contains(e.Hint, "raise the limit") {
		t.Errorf("%v (%+v)", err, e)
	}
}

func TestLoadStoreFails(t *testing.T) {
	mem := store.NewMemory()
	put(t, mem)
	down := errors.New("down")
	for _, op := range []string{storetest.OpList, storetest.OpGet} {
		s := storetest.Faults{Store: mem, Hook: func(o, _ string) (bool, error) {
			if o == op {
				return true, down
			}
			return true, nil
		}}
		if _, err := capture.Load(t.Context(), s, capture.Options{Location: "far away"}); !errors.Is(err, down) || !strings.Contains(err.Error(), "far away") {
			t.Errorf("%s: %v", op, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := storetest.Faults{Store: mem, Hook: func(op, _ string) (bool, error) {
		if op == storetest.OpGet {
			cancel()
		}
		return true, nil
	}}
	if _, err := capture.Load(ctx, s, capture.Options{Workers: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// A body that has changed since the corpus was loaded is noticed when it is read.
func TestBodyChangedUnderneath(t *testing.T) {
	dir := t.TempDir()
	d, err := store.NewDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	put(t, d)
	c, err := capture.Load(t.Context(), d, capture.Options{MemoryBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	if c.Location != dir {
		t.Errorf("location %s, want %s", c.Location, dir)
	}
	path := filepath.Join(dir, c.Entries()[3].Key.String())
	if err := os.WriteFile(path, []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Body(t.Context(), 3); !errors.Is(err, capture.ErrMismatch) {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Body(t.Context(), 3); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}
