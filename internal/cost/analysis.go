package cost

import (
	"errors"
	"math"
	"slices"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// LeverKind names what saves most.
type LeverKind string

// The levers.
const (
	// LeverRequests is fewer, larger requests: what a batching client makes.
	LeverRequests LeverKind = "requests"
	// LeverBilledTime is a shorter billed time.
	LeverBilledTime LeverKind = "billed_time"
	// LeverFixed is what neither of the two moves by a hundredth, such as servers and shards.
	LeverFixed LeverKind = "fixed"
)

// Lever says where the money of the first month goes and what would save most.
type Lever struct {
	// Kind is the lever that saves more.
	Kind LeverKind `json:"lever"`
	// Service and Dimension name the largest line, Amount is what it costs and ShareRatio its share of the month.
	Service    string   `json:"largest_service"`
	Dimension  string   `json:"largest_dimension"`
	Amount     USD      `json:"largest_usd"`
	ShareRatio *Decimal `json:"largest_share_ratio"`
	// LambdaShareRatio is the share of all Lambda lines.
	LambdaShareRatio *Decimal `json:"lambda_share_ratio"`
	// HalfRequests is saved by half as many, twice as large requests that take
	// the same billed time together; HalfBilled by half the billed time.
	HalfRequests USD `json:"half_requests_saves_usd"`
	HalfBilled   USD `json:"half_billed_time_saves_usd"`
}

// lever prices the first month twice more: with requests in pairs, and with half the billed time.
func (s *Scenario) lever(book *PriceBook, rates []rate, services []Service, m usageMonth, lines []Line) (*Lever, error) {
	total := sumLines(lines)
	if total.Sign() <= 0 {
		return nil, nil //nolint:nilnil // what costs nothing has no lever
	}
	half, two := Frac(5, 1), Int(2)
	scaled := func(time Decimal) []rate {
		list := slices.Clone(rates)
		for i := range list {
			list[i].gbSeconds = list[i].gbSeconds.Mul(time)
			list[i].billedMS = list[i].billedMS.Mul(time)
		}
		return list
	}
	pairs := m
	pairs.requests, pairs.payload = m.requests.Mul(half), m.payload.Mul(two)
	var saved [2]USD
	for i, try := range [...]struct {
		rates []rate
		m     usageMonth
	}{{scaled(two), pairs}, {scaled(half), m}} {
		changed, err := s.month(book, try.rates, services, try.m, boundMean)
		if err != nil {
			return nil, err
		}
		saved[i] = total.Sub(sumLines(changed))
	}
	l := &Lever{Kind: LeverRequests, HalfRequests: saved[0], HalfBilled: saved[1]}
	little := total.Mul(Frac(1, 2))
	switch {
	case saved[0].Cmp(little) < 0 && saved[1].Cmp(little) < 0:
		l.Kind = LeverFixed
	case saved[1].Cmp(saved[0]) > 0:
		l.Kind = LeverBilledTime
	}
	var lambda USD
	for i := range lines {
		if lines[i].Service == lambdaService {
			lambda = lambda.Add(lines[i].Amount)
		}
		if i == 0 || lines[i].Amount.Cmp(l.Amount) > 0 {
			l.Service, l.Dimension, l.Amount = lines[i].Service, lines[i].Dimension, lines[i].Amount
		}
	}
	share := func(u USD) *Decimal {
		d := u.Ratio(total).Round(6)
		return &d
	}
	l.ShareRatio, l.LambdaShareRatio = share(l.Amount), share(lambda)
	return l, nil
}

// Headroom compares the memory of a function with what its records say was used.
type Headroom struct {
	// MemoryMB is configured, MaxMemoryUsedMB the high-water mark over all records.
	MemoryMB        lambdalog.MB `json:"memory_mb"`
	MaxMemoryUsedMB lambdalog.MB `json:"max_memory_used_mb"`
	// Factor is MemoryMB over MaxMemoryUsedMB: by how much batches may grow if all
	// of the used memory grew with them. Part of it does not, so this is on the safe side.
	Factor Decimal `json:"factor"`
}

// headroom is nil when the records do not state both figures.
func (f Function) headroom() *Headroom {
	if f.Billed.Usage == nil {
		return nil
	}
	used := f.Billed.Usage.Summary().MaxMemoryUsed
	memory := f.Memory
	if sizes := f.Billed.Usage.Memory(); memory == 0 && len(sizes) > 0 {
		memory = sizes[0]
	}
	if used <= 0 || memory <= 0 {
		return nil
	}
	return &Headroom{MemoryMB: memory, MaxMemoryUsedMB: used, Factor: Int(int64(memory)).Quo(Int(int64(used))).Round(2)}
}

// Analysis is what a forecast does not need but a decision does; see Analyse.
type Analysis struct {
	// Architectures has one entry for each of the forecast's, in the same order.
	Architectures []ArchitectureAnalysis `json:"architectures"`
	// BreakEvens compares the baseline with each other architecture, and has the
	// pairs of the others whose costs cross.
	BreakEvens []BreakEvenResult `json:"break_evens"`
	// SizeBreakEvens are the sizes of messages at which a queue costs as much as what does without.
	SizeBreakEvens []SizeBreakEven `json:"size_break_evens"`
	// Curve has the totals of all architectures over the request rate.
	Curve []CurvePoint `json:"curve"`
}

// ArchitectureAnalysis is the analysis of one architecture.
type ArchitectureAnalysis struct {
	Name string `json:"name"`
	// Tornado lists what moves the total, the strongest first.
	Tornado []Swing `json:"tornado"`
	// Throttling is nil when the architecture has no function.
	Throttling *Throttling `json:"throttling"`
	// Provisioned is nil when the price or the memory is not known, or there are several functions.
	Provisioned *ProvisionedAnalysis `json:"provisioned"`
}

// Throttling says what a limit on the concurrency does to random arrivals, by Erlang's loss formula.
type Throttling struct {
	// AtQuota is the share of requests that the quota throttles.
	AtQuota float64 `json:"at_quota_ratio"`
	// LimitFor1000 is the smallest limit that throttles at most one request in a
	// thousand, LimitForMillion one in a million; nil beyond 10^7.
	LimitFor1000    *int `json:"limit_for_1e3"`
	LimitForMillion *int `json:"limit_for_1e6"`
	// ColdShareModel is the estimated share of cold starts of steady traffic when
	// environments stay IdleS seconds after their last request, which AWS does not publish.
	ColdShareModel float64 `json:"cold_share_model_ratio"`
	IdleS          float64 `json:"assumed_idle_s"`
}

// assumedIdle is how long an environment is taken to stay, in seconds.
const assumedIdle = 600

// ProvisionedAnalysis is what it costs to have no cold start.
type ProvisionedAnalysis struct {
	// Environments is the mean concurrency, rounded up.
	Environments int `json:"environments"`
	// Month keeps them provisioned for the first month, before the invocations in them.
	Month USD `json:"month_usd"`
	// BreakEvenBusy is the share of the time that an environment must be busy to be cheaper than on demand.
	BreakEvenBusy Decimal `json:"break_even_busy_ratio"`
	// KeepWarmPings and KeepWarm are the invocations and the cost in the first month of
	// a ping of 1 ms every five minutes to each of them instead.
	KeepWarmPings Decimal `json:"keep_warm_pings"`
	KeepWarm      USD     `json:"keep_warm_usd"`
}

// BreakEvenResult says at which traffic two architectures cost the same over the whole forecast.
type BreakEvenResult struct {
	Baseline  string `json:"baseline"`
	Candidate string `json:"candidate"`
	// Low and High bound the search, in requests an hour of the scenario's traffic in the first month.
	Low  Decimal `json:"low_requests_per_hour"`
	High Decimal `json:"high_requests_per_hour"`
	// RequestsPerHour is where the costs cross; nil when Cheaper is the cheaper one from Low to High.
	RequestsPerHour *Decimal `json:"requests_per_hour"`
	Cheaper         string   `json:"cheaper,omitempty"`
}

// SizeBreakEven says at which message size an architecture with a queue and one
// without cost the same over the whole forecast, with the same volume.
type SizeBreakEven struct {
	// Queue has the SQS queue whose messages grow and shrink, Other has none.
	Queue string `json:"queue"`
	Other string `json:"other"`
	// MessageBytes is where the costs cross: smaller messages make the queue dearer.
	MessageBytes Decimal `json:"message_bytes"`
}

// CurvePoint is the cost of every architecture at one request rate.
type CurvePoint struct {
	// RequestsPerHour is the scenario's traffic in the first month. Architectures
	// with traffic of their own are scaled with it.
	RequestsPerHour Decimal `json:"requests_per_hour"`
	// Totals are in the order of the architectures, over the whole forecast.
	Totals []USD `json:"totals_usd"`
}

// The break-even search and the curve cover the scenario's traffic times and over these.
const (
	breakEvenSpan = 1000
	curveSpan     = 100
	curvePoints   = 17
)

// Analyse fills in r.Analysis: what moves each total by how much, where the
// architectures cost the same, what a concurrency limit throttles, and what
// provisioned concurrency costs. r is the forecast of s by book.
func Analyse(s *Scenario, book *PriceBook, r *Result) error {
	an := &Analysis{BreakEvens: []BreakEvenResult{}, SizeBreakEvens: []SizeBreakEven{}, Curve: []CurvePoint{}}
	for i, a := range s.Architectures {
		one := ArchitectureAnalysis{Name: a.Name}
		var err error
		if one.Tornado, err = Tornado(s, book, a.Name, Frac(2, 1)); err != nil {
			return err
		}
		if c := r.Architectures[i].Concurrency; c != nil {
			one.Throttling = s.throttling(a, c)
			one.Provisioned = s.provisioned(book, a, c)
		}
		an.Architectures = append(an.Architectures, one)
	}
	perHour, err := s.Traffic.PerHour()
	if err == nil && perHour.Sign() > 0 && len(s.Architectures) > 1 {
		if err := an.breakEvens(s, book, perHour); err != nil {
			return err
		}
	}
	r.Analysis = an
	return nil
}

func (an *Analysis) breakEvens(s *Scenario, book *PriceBook, perHour Decimal) error {
	base := s.Architectures[0].Name
	if s.Baseline != "" {
		base = s.Baseline
	}
	for i := range s.Architectures {
		for j := range s.Architectures {
			one, other := s.Architectures[i].Name, s.Architectures[j].Name
			if other == base || one != base && i >= j {
				continue // a pair once, the baseline first
			}
			b, err := s.breakEven(book, one, other, perHour)
			if err != nil {
				return err
			}
			if one == base || b.RequestsPerHour != nil {
				an.BreakEvens = append(an.BreakEvens, b)
			}
		}
	}
	slices.SortStableFunc(an.BreakEvens, func(a, b BreakEvenResult) int {
		switch {
		case a.Baseline == b.Baseline:
			return 0
		case a.Baseline == base:
			return -1
		case b.Baseline == base:
			return 1
		}
		return 0
	})
	if err := an.sizeBreakEvens(s, book); err != nil {
		return err
	}
	from := math.Log10(perHour.Float64() / curveSpan)
	step := 2 * math.Log10(curveSpan) / (curvePoints - 1)
	for i := range curvePoints {
		x := fromFloat(math.Pow(10, from+step*float64(i))).Round(3)
		p := CurvePoint{RequestsPerHour: x, Totals: make([]USD, 0, len(s.Architectures))}
		for _, a := range s.Architectures {
			total, err := s.totalAt(book, a.Name, x)
			if err != nil {
				return err
			}
			p.Totals = append(p.Totals, total)
		}
		an.Curve = append(an.Curve, p)
	}
	return nil
}

// breakEven compares two architectures over the traffic.
func (s *Scenario) breakEven(book *PriceBook, one, other string, perHour Decimal) (BreakEvenResult, error) {
	low, high := perHour.Quo(Int(breakEvenSpan)), perHour.Mul(Int(breakEvenSpan))
	b := BreakEvenResult{Baseline: one, Candidate: other, Low: low.Round(3), High: high.Round(3)}
	x, err := BreakEvenRequests(s, book, one, other, low.Float64(), high.Float64())
	if err == nil {
		x = x.Round(1)
		b.RequestsPerHour = &x
		return b, nil
	}
	if !errors.Is(err, ErrNoBreakEven) {
		return b, err
	}
	costs := [2]USD{}
	for i, name := range [...]string{one, other} {
		if costs[i], err = s.totalAt(book, name, perHour); err != nil {
			return b, err
		}
	}
	if b.Cheaper = one; costs[1].Cmp(costs[0]) < 0 {
		b.Cheaper = other
	}
	return b, nil
}

// Messages are searched from 64 bytes to what a queue bills as one.
const smallestMessage = 64

// sizeBreakEvens finds for every queue of a given volume the size of its messages
// from which on it is cheaper than each architecture without one.
func (an *Analysis) sizeBreakEvens(s *Scenario, book *PriceBook) error {
	for _, a := range s.Architectures {
		i := slices.IndexFunc(a.Services, func(svc Service) bool {
			q, ok := svc.(SQS)
			return ok && q.Messages.GB != nil
		})
		if i < 0 {
			continue
		}
		ofSize := func(x Decimal) (USD, error) {
			return s.totalOf(book, a.Name, func(_ *Scenario, changed *Architecture) {
				if queue, ok := changed.Services[i].(SQS); ok {
					queue.MessageBytes = x
					changed.Services[i] = queue
				}
			})
		}
		for _, other := range s.Architectures {
			if slices.ContainsFunc(other.Services, func(svc Service) bool { _, ok := svc.(SQS); return ok }) {
				continue
			}
			fixed, err := s.totalOf(book, other.Name, func(*Scenario, *Architecture) {})
			if err != nil {
				return err
			}
			x, err := BreakEven(smallestMessage, sqsChunk, ofSize, func(Decimal) (USD, error) { return fixed, nil })
			if errors.Is(err, ErrNoBreakEven) {
				continue
			}
			if err != nil {
				return err
			}
			an.SizeBreakEvens = append(an.SizeBreakEvens, SizeBreakEven{Queue: a.Name, Other: other.Name, MessageBytes: x.Round(0)})
		}
	}
	return nil
}

// totalAt prices an architecture over the whole forecast with another request
// rate. Traffic of its own is scaled with the scenario's.
func (s *Scenario) totalAt(book *PriceBook, name string, perHour Decimal) (USD, error) {
	usual, err := s.Traffic.PerHour()
	if err != nil {
		usual = Int(0) // every architecture has traffic of its own
	}
	return s.totalOf(book, name, func(_ *Scenario, a *Architecture) {
		t := Traffic{RequestsPerHour: &perHour, PayloadBytes: s.Traffic.PayloadBytes}
		if a.Traffic != nil {
			t.PayloadBytes = a.Traffic.PayloadBytes
			own, err := a.Traffic.PerHour()
			if err == nil && usual.Sign() > 0 {
				own = own.Mul(perHour).Quo(usual)
				t.RequestsPerHour = &own
			}
		}
		a.Traffic = &t
	})
}

func (s *Scenario) throttling(a Architecture, c *Concurrency) *Throttling {
	t := &Throttling{AtQuota: ErlangB(c.Quota, c.mean), IdleS: assumedIdle}
	t.LimitFor1000, t.LimitForMillion = erlangLimit(c.mean, 1e-3), erlangLimit(c.mean, 1e-6)
	traffic := s.Traffic
	if a.Traffic != nil {
		traffic = *a.Traffic
	}
	if perHour, err := traffic.PerHour(); err == nil && len(a.Functions) == 1 {
		perSecond := perHour.Float64() / 3600
		if per := a.Functions[0].PerRequest; per != nil {
			perSecond *= per.Float64()
		}
		t.ColdShareModel = ColdShare(perSecond, c.mean, assumedIdle)
	}
	return t
}

// erlangLimit returns the smallest limit that throttles at most share of the requests.
func erlangLimit(load, share float64) *int {
	if load <= 0 {
		zero := 0
		return &zero
	}
	blocked := 1.0
	for k := 1; k <= 10_000_000; k++ {
		if blocked = load * blocked / (float64(k) + load*blocked); blocked <= share {
			return &k
		}
	}
	return nil
}

func (s *Scenario) provisioned(book *PriceBook, a Architecture, c *Concurrency) *ProvisionedAnalysis {
	if len(a.Functions) != 1 || !(c.mean < 1e6) {
		return nil
	}
	f := a.Functions[0]
	memory := f.Memory
	if memory == 0 && f.Billed.Usage != nil {
		sizes := f.Billed.Usage.Memory()
		if len(sizes) != 1 {
			return nil
		}
		memory = sizes[0]
	}
	if memory == 0 {
		return nil
	}
	hours := s.Month.Hours(s.Start)
	p := &ProvisionedAnalysis{Environments: int(math.Ceil(c.mean))}
	var err error
	if p.Month, err = ProvisionedMonth(book, s.Region, f.Arch, p.Environments, memory, hours); err != nil {
		return nil // the book lacks the price for this region: nothing is made up
	}
	if p.BreakEvenBusy, err = ProvisionedBreakEven(book, s.Region, f.Arch); err != nil {
		return nil
	}
	p.BreakEvenBusy = p.BreakEvenBusy.Round(4)
	if p.KeepWarmPings, p.KeepWarm, err = KeepWarm(book, s.Region, f.Arch, p.Environments, memory, Int(1), Int(5), hours); err != nil {
		return nil
	}
	return p
}
