package cost_test

import (
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

func billedSummary(count int64, billed time.Duration, memory ...lambdalog.MB) lambdalog.Summary {
	s := lambdalog.Summary{Billable: count, Reports: count}
	s.BilledMS.Sum = lambdalog.MillisOf(billed)
	for _, mb := range memory {
		s.Memory = append(s.Memory, lambdalog.MemoryCount{MB: mb, Count: count})
	}
	return s
}

// TestPerMillion: a million requests of 70 ms at 128 MB on Graviton are 0.20 for the requests and 8,750 GB-seconds
// of 0.0000133334 each.
func TestPerMillion(t *testing.T) {
	v, ok := cost.InvokedOf(billedSummary(10, 700*time.Millisecond, 128))
	if !ok {
		t.Fatal("nothing is known of ten invocations")
	}
	usd, err := v.PerMillion(book(t), cost.ArchARM, "us-east-1")
	if err != nil || usd.Fixed(6) != "0.316667" {
		t.Errorf("%s %v", usd.Fixed(6), err)
	}
	x86, err := v.PerMillion(book(t), cost.ArchX86, "us-east-1")
	if err != nil || x86.Cmp(usd) <= 0 {
		t.Errorf("x86_64 costs %s: %v", x86.Fixed(6), err)
	}
	// Twice as long at twice the memory is four times the time's part.
	more, _ := cost.InvokedOf(billedSummary(10, 1400*time.Millisecond, 256))
	if usd, err := more.PerMillion(book(t), cost.ArchARM, "us-east-1"); err != nil || usd.Fixed(6) != "0.666669" {
		t.Errorf("%s %v", usd.Fixed(6), err)
	}
	if _, err := v.PerMillion(book(t), cost.ArchARM, "mars-1"); err == nil {
		t.Error("a price is made up")
	}
	if _, err := (cost.Invoked{}).PerMillion(book(t), cost.ArchARM, "us-east-1"); err == nil {
		t.Error("nothing has a price")
	}
}

func TestInvokedOf(t *testing.T) {
	for name, s := range map[string]lambdalog.Summary{
		"nothing": {}, "no memory": billedSummary(1, time.Second), "two sizes": billedSummary(1, time.Second, 128, 256), "zero memory": billedSummary(1, time.Second, 0),
		"no billed time": {Billable: 1, Memory: []lambdalog.MemoryCount{{MB: 128, Count: 1}}},
	} {
		if v, ok := cost.InvokedOf(s); ok {
			t.Errorf("%s: %+v", name, v)
		}
	}
	mean := lambdalog.Summary{Billable: 4, Memory: []lambdalog.MemoryCount{{MB: 128, Count: 4}}}
	mean.BilledMS.Mean = lambdalog.MillisOf(70 * time.Millisecond)
	if v, ok := cost.InvokedOf(mean); !ok || !v.BilledMS.Equal(cost.Int(280)) {
		t.Errorf("%+v %v", v, ok)
	}
	a, _ := cost.InvokedOf(billedSummary(10, time.Second, 128))
	b, _ := cost.InvokedOf(billedSummary(30, time.Second, 128))
	c, _ := cost.InvokedOf(billedSummary(1, time.Second, 512))
	if sum, ok := a.Add(b); !ok || sum.Count != 40 || !sum.BilledMS.Equal(cost.Int(2000)) {
		t.Errorf("%+v %v", sum, ok)
	}
	if _, ok := a.Add(c); ok {
		t.Error("unlike memory is added")
	}
	if sum, ok := (cost.Invoked{}).Add(c); !ok || sum.Count != 1 {
		t.Errorf("%+v %v", sum, ok)
	}
}
