package capture_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

const helloKey = "org=alfa/cluster=eu-1/date=2026-11-20/hour=18/20261120T182501.123Z-2cf24dba5fb0a30e26e83b2ac5b9e29e.rw1.sz"

func TestNewKey(t *testing.T) {
	// Another zone and a fraction of a millisecond: the key has neither.
	zone := time.FixedZone("", 3600)
	at := time.Date(2026, 11, 20, 19, 25, 1, 123_999_999, zone)
	k := capture.NewKey("alfa", "eu-1", remotewrite.V1, at, []byte("hello"))
	if k.String() != helloKey {
		t.Errorf("key %s, want %s", k, helloKey)
	}
	k.Version = remotewrite.V2
	if want := strings.Replace(helloKey, "rw1", "rw2", 1); k.String() != want {
		t.Errorf("key %s, want %s", k, want)
	}
}

func TestParseKey(t *testing.T) {
	k, err := capture.ParseKey(helloKey)
	want := capture.Key{
		Org: "alfa", Cluster: "eu-1", Time: time.Date(2026, 11, 20, 18, 25, 1, 123_000_000, time.UTC),
		Hash: "2cf24dba5fb0a30e26e83b2ac5b9e29e", Version: remotewrite.V1,
	}
	if diff := cmp.Diff(want, k); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	for _, edit := range [][2]string{
		{helloKey, ""},
		{"org=alfa/", ""},
		{"org=alfa", "org="},
		{"org=alfa", "org=.."},
		{"org=alfa", "org=a b"},
		{"org=alfa", "org=" + strings.Repeat("a", 65)},
		{"cluster=eu-1", "cluster=eu\n1"},
		{"date=2026-11-20", "date=2026-11-21"},
		{"hour=18", "hour=19"},
		{"20261120T18", "20261120T19"},
		{"T182501", "T186001"},
		{".123Z", "Z"},
		{".123Z", ".123"},
		{"-2cf", "-2CF"},
		{"-2cf24d", "-2cf24"},
		{"rw1", "rw3"},
		{".sz", ".snappy"},
		{".sz", ".sz\n"},
		{"org=", "/org="},
		{"org=", "data/org="},
	} {
		s := strings.Replace(helloKey, edit[0], edit[1], 1)
		if k, err := capture.ParseKey(s); !errors.Is(err, capture.ErrInvalidKey) || k != (capture.Key{}) {
			t.Errorf("ParseKey(%q) = %v, %v", s, k, err)
		}
	}
}

func TestValidName(t *testing.T) {
	for _, good := range []string{"a", "A-Z_0.9", "default", "...", ".a", "-", strings.Repeat("x", 64)} {
		if err := capture.ValidName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "a/b", `a\b`, "a b", "a\n", "a\x00", "ä", "a=b", "a%2fb", "\xff", strings.Repeat("x", 65)} {
		if err := capture.ValidName(bad); !errors.Is(err, capture.ErrInvalidName) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPrefix(t *testing.T) {
	for want, got := range map[string]string{
		"":                       capture.Prefix("", ""),
		"org=alfa/":              capture.Prefix("alfa", ""),
		"org=alfa/cluster=eu-1/": capture.Prefix("alfa", "eu-1"),
	} {
		if got != want || !strings.HasPrefix(helloKey, want) {
			t.Errorf("prefix %q, want %q", got, want)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(helloKey)
	f.Add(strings.Replace(helloKey, "2026", "0000", 2))
	f.Add("org=../cluster=a/date=2026-02-30/hour=24/20260230T240000.000Z-00000000000000000000000000000000.rw2.sz")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := capture.ParseKey(s)
		if err != nil {
			if k != (capture.Key{}) {
				t.Errorf("error with key %v", k)
			}
			return
		}
		if k.String() != s {
			t.Errorf("%q reads as %q", s, k)
		}
		if capture.ValidName(k.Org) != nil || capture.ValidName(k.Cluster) != nil || len(k.Hash) != 32 {
			t.Errorf("accepted %+v", k)
		}
		if again := capture.NewKey(k.Org, k.Cluster, k.Version, k.Time, nil); again.Time != k.Time {
			t.Errorf("time %s, again %s", k.Time, again.Time)
		}
	})
}

// FuzzNewKey: what the server names can be read back.
func FuzzNewKey(f *testing.F) {
	f.Add("alfa", "eu-1", int64(1795198188751), true, []byte("hello"))
	f.Add(".a", "-", int64(0), false, []byte{})
	f.Fuzz(func(t *testing.T, org, cluster string, ms int64, second bool, body []byte) {
		if capture.ValidName(org) != nil || capture.ValidName(cluster) != nil {
			return
		}
		ms %= time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
		if ms < 0 {
			ms = -ms
		}
		v := remotewrite.V1
		if second {
			v = remotewrite.V2
		}
		k := capture.NewKey(org, cluster, v, time.UnixMilli(ms), body)
		got, err := capture.ParseKey(k.String())
		if err != nil || got != k {
			t.Errorf("%s reads as %v, %v", k, got, err)
		}
		if !strings.HasPrefix(k.String(), capture.Prefix(org, cluster)) {
			t.Errorf("%s is not under its prefix", k)
		}
	})
}
