package cost

import (
	"fmt"
	"math"
)

// Concurrency is how many environments the traffic of the first month keeps
// busy. Mean is by Little's law; the quantiles are those of Poisson arrivals.
// A nil figure is unknown or does not exist.
type Concurrency struct {
	Mean float64 `json:"mean"`
	P99  *int    `json:"p99"`
	P999 *int    `json:"p99_9"`
	// P9999 is what the busiest moment in ten thousand needs.
	P9999 *int `json:"p99_99"`
	// RPSQuotaNeed is the concurrency quota that admits the request rate: a
	// tenth of it, because the quota of requests a second is ten times that of
	// concurrency.
	RPSQuotaNeed float64 `json:"rps_quota_need"`
	// ColdStorm is the concurrency right after a deployment, while every
	// environment is still starting: rate times the length of a cold invocation.
	ColdStorm *float64 `json:"cold_storm"`
	Quota     int      `json:"quota"`
	// MonthsToQuota is when growth takes the p99 or the request rate over the
	// quota; nil without growth, 0 when it is over already.
	MonthsToQuota *float64 `json:"months_to_quota"`
	// ObservedMax is the most invocations at one moment in the records, when they have times.
	ObservedMax *int `json:"observed_max"`
	// ObservedMean, ObservedP99 and ObservedP999 are those over the time that the records span.
	ObservedMean *float64 `json:"observed_mean"`
	ObservedP99  *int     `json:"observed_p99"`
	ObservedP999 *int     `json:"observed_p99_9"`

	// Dispersion is that of the traffic, by which the quantiles are taken; 1 means Poisson arrivals.
	Dispersion float64 `json:"dispersion"`
	// ObservedDispersion is that of the records, when they have times.
	ObservedDispersion *float64 `json:"observed_dispersion"`

	mean float64 // unrounded
}

// need returns what the quota must admit on average.
func (c *Concurrency) need() float64 { return max(c.mean, c.RPSQuotaNeed) }

func (s *Scenario) concurrency(perHour Decimal, dispersion *Decimal, functions []Function, rates []rate) *Concurrency {
	perSecond := perHour.Float64() / 3600
	c := &Concurrency{Quota: s.quota(), Dispersion: 1}
	if dispersion != nil {
		c.Dispersion = dispersion.Float64()
	}
	storm, stormKnown, invocations := 0.0, true, 0.0
	for _, r := range rates {
		n := perSecond * r.perRequest.Float64()
		invocations += n
		c.mean += n * r.wallMS / 1000
		storm += n * r.coldMS / 1000
		stormKnown = stormKnown && r.coldMS > 0
	}
	c.Mean = round(c.mean, 2)
	c.RPSQuotaNeed = round(invocations/requestsPerEnvironment, 2)
	for q, target := range map[float64]**int{0.99: &c.P99, 0.999: &c.P999, 0.9999: &c.P9999} {
		if k, ok := BurstQuantile(c.mean, c.Dispersion, q); ok {
			*target = &k
		}
	}
	if stormKnown && len(rates) > 0 {
		storm = round(storm, 1)
		c.ColdStorm = &storm
	}
	if growth := s.Growth.Float64(); growth > 0 && c.P99 != nil {
		if months, ok := MonthsToQuota(max(float64(*c.P99), invocations/requestsPerEnvironment), float64(c.Quota), growth); ok {
			months = round(months, 1)
			c.MonthsToQuota = &months
		}
	}
	// The peaks of several functions need not coincide, so only one is reported.
	if len(functions) == 1 && functions[0].Billed.Usage != nil {
		if peak, ok := functions[0].Billed.Usage.PeakConcurrency(); ok {
			c.ObservedMax = &peak
		}
		if mean, at, ok := functions[0].Billed.Usage.ObservedConcurrency(0.99, 0.999); ok {
			mean = round(mean, 2)
			c.ObservedMean, c.ObservedP99, c.ObservedP999 = &mean, &at[0], &at[1]
		}
		if d, ok := functions[0].Billed.Usage.Dispersion(); ok {
			d = round(d, 2)
			c.ObservedDispersion = &d
		}
	}
	return c
}

// burstyAbove is the dispersion above which independent arrivals are no model.
const burstyAbove = 2

// warning says that the records show bursts which the quantiles do not have in them.
func (c *Concurrency) warning() string {
	if c.ObservedDispersion == nil || *c.ObservedDispersion <= burstyAbove || *c.ObservedDispersion <= c.Dispersion {
		return ""
	}
	return fmt.Sprintf("requests in the records come in bursts (dispersion %.1f): the concurrency quantiles are too low; set the traffic's dispersion", *c.ObservedDispersion)
}

// MonthsToQuota returns after how many months a need that grows by the ratio
// growth per month reaches the quota: ln(quota/need)/ln(1+growth), and 0 when
// it is there already. It is false when it never grows there.
func MonthsToQuota(need, quota, growth float64) (float64, bool) {
	if need >= quota && need > 0 {
		return 0, true
	}
	months := math.Log(quota/need) / math.Log1p(growth)
	if !(growth > 0) || !(need > 0) || math.IsInf(months, 0) {
		return 0, false
	}
	return months, true
}

// Bytes of the platform's own START, END and REPORT lines of one invocation,
// with the 26 bytes that CloudWatch adds to every event.
const platformLogBytes = 370

// notCounted lists what the same requests cost beyond Lambda, at list price in
// the first month where the book knows it.
func (s *Scenario) notCounted(book *PriceBook, requests Decimal, rates []rate, services []Service) []NotCounted {
	amount := func(service, dimension string, quantity Decimal) *USD {
		p, err := book.Lookup(service, dimension, s.Region)
		if err != nil {
			return nil
		}
		_, total, _ := p.Cost(quantity)
		return &total
	}
	invocations := Int(0)
	for _, r := range rates {
		invocations = invocations.Add(requests.Mul(r.perRequest))
	}
	logGB := invocations.Mul(Int(platformLogBytes)).Quo(Int(1 << 30))
	counted := make(map[string]bool)
	for _, svc := range services {
		counted[fmt.Sprintf("%T", svc)] = true
	}
	var list []NotCounted
	add := func(n NotCounted, by Service) {
		if by == nil || !counted[fmt.Sprintf("%T", by)] {
			list = append(list, n)
		}
	}
	add(NotCounted{"API Gateway, HTTP API, one request each of at most 512 KB", "depends on how the function is reached; REST APIs cost more, function URLs nothing", amount("apigateway", "http-requests", requests)}, APIGateway{})
	add(NotCounted{"API Gateway, REST API, one request each", "the alternative to an HTTP API", amount("apigateway", "rest-requests", requests)}, APIGateway{})
	add(NotCounted{"S3 PUT, one object per request", "depends on how many requests are stored together; batching in the client divides it", amount("s3", "put-copy-post-list", requests)}, S3{})
	if len(rates) > 0 {
		add(NotCounted{"CloudWatch Logs, Lambda's own START, END and REPORT lines (370 bytes per invocation)", "depends on the log format and level; the application's own lines come on top", amount("cloudwatch-logs", "ingest-vended-lambda", logGB)}, Logs{})
	}
	add(NotCounted{"S3 storage and reads, data transfer, support, taxes, discounts and savings plans", "not known from invocations", nil}, nil)
	if len(rates) > 0 {
		add(NotCounted{"initialisations that failed or timed out before an invocation", "their billing is not documented", nil}, nil)
	}
	return list
}
