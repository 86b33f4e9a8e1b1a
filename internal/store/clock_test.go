package store_test

import (
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

func TestDirClock(t *testing.T) {
	d, err := store.NewDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	at, resolution, err := d.Clock(t.Context())
	after := time.Now()
	if err != nil {
		t.Fatal(err)
	}
	if at.After(after) || at.Add(resolution).Before(before) {
		t.Errorf("a file of between %v and %v is of %v, give or take %v", before, after, at, resolution)
	}
	for o, err := range d.List(t.Context(), "") {
		t.Errorf("reading the clock leaves %v (%v)", o, err)
	}
}

func TestS3Clock(t *testing.T) {
	s, _ := openFake(t, storetest.NewS3Server("bucket"), "s3://bucket/p")
	before := time.Now()
	at, resolution, err := s.Clock(t.Context())
	after := time.Now()
	if err != nil {
		t.Fatal(err)
	}
	if at.After(after) || at.Add(resolution).Before(before) {
		t.Errorf("an answer of between %v and %v is of %v, give or take %v", before, after, at, resolution)
	}
}
