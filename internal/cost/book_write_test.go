package cost_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// A book that is written is the book that is read: nothing but its hash may differ.
func TestBookRoundTrip(t *testing.T) {
	b := book(t)
	data, err := b.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	back, err := cost.ParsePriceBook(bytes.NewReader(data), "written")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cost.DiffBooks(b, back); len(diff) != 0 || back.AsOf() != b.AsOf() || len(back.Missing()) != len(b.Missing()) {
		t.Errorf("%d differences, as of %s", len(diff), back.AsOf())
	}
	for _, p := range b.List("") {
		q, ok := back.Get(p.ID)
		if !ok || q.UsageType != p.UsageType || q.Note != p.Note || q.AsOf != p.AsOf || q.Confidence != p.Confidence || len(q.Selector) != len(p.Selector) {
			t.Errorf("%s: %+v", p.ID, q)
		}
	}
	again, err := back.MarshalJSON()
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("written a second time it differs (%v)", err)
	}
}

func TestUpdatedRefusesWhatItDoesNotKnow(t *testing.T) {
	b := book(t)
	p, _ := b.Get("lambda.requests@us-east-1")
	p.ID, p.Region = "lambda.requests@mars-1", "mars-1"
	if _, err := b.Updated("2027-01-01", []cost.Price{p}, nil); err == nil || !strings.Contains(err.Error(), "lambda.requests@mars-1 is not in the book") {
		t.Errorf("got %v", err)
	}
	p, _ = b.Get("lambda.requests@us-east-1")
	p.Source = []string{"nobody"}
	if _, err := b.Updated("2027-01-01", []cost.Price{p}, nil); err == nil || !strings.Contains(err.Error(), "not listed") {
		t.Errorf("a source that is not explained: %v", err)
	}
}

func TestAgeOfTheBook(t *testing.T) {
	b := book(t) // of 2026-11-20
	for _, tt := range []struct {
		now   time.Time
		days  int
		stale bool
	}{
		{time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), 0, false},
		{time.Date(2027, 2, 18, 0, 0, 0, 0, time.UTC), 90, false},
		{time.Date(2027, 2, 19, 0, 0, 0, 0, time.UTC), 91, true},
	} {
		if days, stale := b.Age(tt.now); days != tt.days || stale != tt.stale {
			t.Errorf("%s: %d days, stale %v", tt.now, days, stale)
		}
	}
}
