package cost_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

func TestBands(t *testing.T) {
	a := stated(t, "a", cost.ArchX86, 1024, "100")
	a.Functions[0].Billed = cost.Billed{WarmMS: decp(t, "100"), ColdMS: decp(t, "1100"), ColdShare: decp(t, "0.01")} // 110 ms
	batched := stated(t, "batched", cost.ArchX86, 1024, "500")
	batched.Functions[0].PerRequest = decp(t, "0.01")
	s := scenario(t, perMonth(t, "1000000"), a, batched)
	s.Months = 3
	s.Low = &cost.Variation{Requests: decp(t, "0.5"), ColdShare: decp(t, "0")}
	s.High = &cost.Variation{Billed: decp(t, "2"), Growth: decp(t, "1"), Batch: decp(t, "2")}
	r := forecast(t, s)
	// 0.20 for the requests of a million, and 1 GB for 0.11 s each.
	b := r.Architectures[0].Bands
	if got := b.Low.Month1.Fixed(4); got != "0.9333" { // half the requests, 100 ms: 0.10 + 0.5e5 × 0.0000166667
		t.Errorf("low month %s", got)
	}
	if got := b.High.Month1.Fixed(4); got != "3.8667" { // 220 ms
		t.Errorf("high month %s", got)
	}
	if got := b.High.Months[2].Total.Ratio(b.High.Month1).Round(6).String(); got != "4.000000" {
		t.Errorf("the third month of 100 %% growth is ×%s the first", got)
	}
	var sum cost.USD
	for _, m := range b.High.Months {
		sum = sum.Add(m.Total)
	}
	if !sum.Equal(b.High.Total) || b.High.Months[1].Month.String() != "2027-01" {
		t.Errorf("%+v", b.High)
	}
	// Batches twice as large: half the request fee, the same time together; twice the time by billed.
	if got := r.Architectures[1].Bands.High.Month1.Fixed(6); got != "0.167667" { // 5,000 × 0.0000002 + 10,000 GB-s
		t.Errorf("batched, high month %s", got)
	}
	s.Low = nil
	if got := forecast(t, s).Architectures[0].Bands.Low.Month1; !got.Equal(r.Architectures[0].Month1) {
		t.Errorf("without a low variation the band is %s, want the base", got)
	}
	s.High = nil
	if forecast(t, s).Architectures[0].Bands != nil {
		t.Error("bands without variations")
	}
	// From records the cold and the warm mean are known.
	u := new(cost.Usage)
	for i := range 100 {
		u.Add(invocation(100+900*(i/90), i >= 90, time.Time{}, ""))
	}
	s = scenario(t, perMonth(t, "1000000"), cost.Architecture{Name: "a", Functions: []cost.Function{{Arch: cost.ArchX86, Billed: cost.Billed{Usage: u}}}})
	s.High = &cost.Variation{ColdShare: decp(t, "1")}
	measured := forecast(t, s).Architectures[0]
	if got := line(t, measured, "duration-x86").Amount.Mul(dec(t, "1000")).Quo(dec(t, "190")); !measured.Bands.High.Month1.Equal(got.Add(usd(t, "0.2"))) {
		t.Errorf("all cold: %s, want %s", measured.Bands.High.Month1, got)
	}
}

func TestBandsOfAScenario(t *testing.T) {
	read := func(bands string) (*cost.Scenario, error) {
		return cost.LoadScenario(strings.NewReader(goodScenario+"bands: "+bands+"\n"), "s.yaml")
	}
	s, err := read("{low: {growth_monthly: -1%, requests: 0.8}, high: {billed: 1.5, cold_share: 0.02, batch: 3}}")
	if err != nil {
		t.Fatal(err)
	}
	if s.Low.Growth.String() != "-0.01" || s.Low.Requests.String() != "0.8" || s.High.ColdShare.String() != "0.02" || s.High.Batch.String() != "3" {
		t.Errorf("%+v, %+v", s.Low, s.High)
	}
	for bands, want := range map[string]string{
		"{low: {growth_monthly: -200%}}": "growth of -2",
		"{low: {growth_monthly: 2}}":     `"2" is not a share such as 5% or 0.05`,
		"{low: {growth_monthly: much}}":  "growth_monthly",
		"{high: {requests: 0}}":          "requests of 0",
		"{high: {billed: -1}}":           "billed of -1",
		"{high: {cold_share: 2}}":        "cold share of 2",
		"{middle: {}}":                   `unknown key "middle"`,
		"{low: {months: 3}}":             `unknown key "months"`,
		"5":                              "must be a mapping",
	} {
		if _, err := read(bands); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "s.yaml:") {
			t.Errorf("%s: got %v, want %q", bands, err, want)
		}
	}
}

func TestPriceConfidence(t *testing.T) {
	a := forecast(t, scenario(t, perMonth(t, "0"), cost.Architecture{Name: "a", Services: []cost.Service{
		cost.EC2{Type: "m7i.2xlarge", Count: cost.Int(1)}, cost.MSK{Type: "kafka.m7g.2xlarge", Brokers: cost.Int(1)}, cost.Ops{Monthly: usd(t, "7")},
	}})).Architectures[0]
	c := a.PriceConfidence
	if sum := c.High.Add(c.Medium).Add(c.Low); !sum.Equal(a.Month1) {
		t.Errorf("parts sum to %s, month is %s", sum, a.Month1)
	}
	if c.Low.Fixed(2) != "7.00" || c.Medium.Fixed(2) != "587.52" || c.High.Fixed(2) != "290.30" {
		t.Errorf("high %s, medium %s, low %s", c.High, c.Medium, c.Low)
	}
}

// The process that the records show, rebuilt: three a second of 500 ms, and once ten at the same moment.
func TestObservedConcurrency(t *testing.T) {
	start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	u := new(cost.Usage)
	for i := range 1000 {
		at := start.Add(time.Duration(i) * time.Second)
		for range 3 {
			u.Add(invocation(500, false, at, ""))
		}
	}
	for range 7 {
		u.Add(invocation(500, false, start.Add(10*time.Second), ""))
	}
	mean, q, ok := u.ObservedConcurrency(0.4, 0.99, 0.9999)
	if !ok || mean < 1.5 || mean > 1.51 {
		t.Errorf("mean %v (%v), want 3,007 × 0.5 s in 999.5 s", mean, ok)
	}
	if q[0] != 0 || q[1] != 3 || q[2] != 10 {
		t.Errorf("quantiles %v, want 0, 3 and 10", q)
	}
	if peak, ok := u.PeakConcurrency(); !ok || peak != q[2] {
		t.Errorf("peak %d", peak)
	}
	a := forecast(t, scenario(t, perMonth(t, "1000000"), cost.Architecture{Name: "a", Functions: []cost.Function{{Arch: cost.ArchX86, Billed: cost.Billed{Usage: u}}}})).Architectures[0]
	if c := a.Concurrency; c.ObservedMean == nil || *c.ObservedP99 != 3 || *c.ObservedMax != 10 || *c.ObservedP999 != 3 {
		t.Errorf("%+v", a.Concurrency)
	}
	u.Add(invocation(5, false, time.Time{}, ""))
	if _, _, ok := u.ObservedConcurrency(0.5); ok {
		t.Error("a record without a time")
	}
}

func TestBreakEvenOfPairsAndSizes(t *testing.T) {
	s := loadBundled(t, "log-shipping")
	s.Months = 1
	r := forecast(t, s)
	if err := cost.Analyse(s, book(t), r); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, b := range r.Analysis.SizeBreakEvens {
		if b.Queue == "only-sqs" && b.Other == "only-cloudwatch" {
			found = true
			if b.MessageBytes.String() != "2577" {
				t.Errorf("%s bytes, want 2577", b.MessageBytes)
			}
		}
	}
	if !found {
		t.Errorf("the queue and CloudWatch do not cross: %+v", r.Analysis.SizeBreakEvens)
	}
	s = loadBundled(t, "api-gateway")
	s.Months = 1
	r = forecast(t, s)
	if err := cost.Analyse(s, book(t), r); err != nil {
		t.Fatal(err)
	}
	// A function for each event is cheaper than pods that follow the traffic only while there are few events.
	for _, b := range r.Analysis.BreakEvens {
		if b.Baseline != "apigw-lambda" || b.Candidate != "k8s-scaled" {
			continue
		}
		perHour, err := s.Traffic.PerHour()
		if err != nil || b.RequestsPerHour == nil || b.RequestsPerHour.Cmp(perHour) > 0 {
			t.Errorf("break-even %v", b.RequestsPerHour)
		}
		return
	}
	t.Errorf("the pair is not among %+v", r.Analysis.BreakEvens)
}
