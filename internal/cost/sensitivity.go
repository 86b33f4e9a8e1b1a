package cost

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// ErrNoBreakEven says that one side is cheaper over the whole range.
var ErrNoBreakEven = errors.New("no break-even in the range")

// BreakEven finds where two costs that depend on x are equal, between low and
// high, by bisection to a relative precision of 1e-9. It returns ErrNoBreakEven
// when the same side is cheaper at both ends. Where the costs cross more than
// once it finds one of the crossings.
func BreakEven(low, high float64, a, b func(x Decimal) (USD, error)) (Decimal, error) {
	if !(low >= 0) || !(high > low) || math.IsInf(high, 0) {
		return Decimal{}, userError("the range of the break-even is empty", "give a lower bound below the upper one")
	}
	sign := func(x float64) (int, error) {
		at := fromFloat(x)
		costA, err := a(at)
		if err != nil {
			return 0, err
		}
		costB, err := b(at)
		if err != nil {
			return 0, err
		}
		diff := costA.Sub(costB)
		return diff.Sign(), diff.Err()
	}
	atLow, err := sign(low)
	if err != nil {
		return Decimal{}, err
	}
	atHigh, err := sign(high)
	if err != nil {
		return Decimal{}, err
	}
	switch {
	case atLow == 0:
		return fromFloat(low), nil
	case atHigh == 0:
		return fromFloat(high), nil
	case atLow == atHigh:
		return Decimal{}, ErrNoBreakEven
	}
	for range 200 {
		if high-low <= 1e-9*high {
			break
		}
		mid := low + (high-low)/2
		s, err := sign(mid)
		if err != nil {
			return Decimal{}, err
		}
		switch s {
		case 0:
			return fromFloat(mid), nil
		case atLow:
			low = mid
		default:
			high = mid
		}
	}
	return fromFloat(high), nil
}

// BreakEvenRequests finds the requests per hour at which two architectures of a
// scenario cost the same over its whole length, between low and high. Traffic
// of the architectures' own keeps its ratio to the scenario's.
func BreakEvenRequests(s *Scenario, book *PriceBook, one, other string, low, high float64) (Decimal, error) {
	total := func(name string) func(Decimal) (USD, error) {
		return func(x Decimal) (USD, error) { return s.totalAt(book, name, x) }
	}
	return BreakEven(low, high, total(one), total(other))
}

// totalOf prices one architecture after a change to copies of it and of the scenario.
func (s *Scenario) totalOf(book *PriceBook, name string, change func(*Scenario, *Architecture)) (USD, error) {
	months, err := s.monthsOf(book, name, change)
	if err != nil {
		return USD{}, err
	}
	var total USD
	for _, m := range months {
		total = total.Add(m)
	}
	return total, total.Err()
}

// monthsOf returns the totals of the single months.
func (s *Scenario) monthsOf(book *PriceBook, name string, change func(*Scenario, *Architecture)) ([]USD, error) {
	i := slices.IndexFunc(s.Architectures, func(a Architecture) bool { return a.Name == name })
	if i < 0 {
		return nil, userError(fmt.Sprintf("there is no architecture %q", name), "name one of the scenario's architectures")
	}
	changed := *s
	a := s.Architectures[i]
	a.Functions, a.Services = slices.Clone(a.Functions), slices.Clone(a.Services)
	change(&changed, &a)
	changed.Architectures, changed.Baseline, changed.Candidate = []Architecture{a}, "", ""
	if err := changed.Validate(); err != nil {
		return nil, err
	}
	traffic := changed.Traffic
	if a.Traffic != nil {
		traffic = *a.Traffic
	}
	perHour, err := traffic.PerHour()
	if err != nil {
		return nil, err
	}
	rates := make([]rate, 0, len(a.Functions))
	for _, f := range a.Functions {
		r, err := f.price()
		if err != nil {
			return nil, err
		}
		rates = append(rates, r)
	}
	months := make([]USD, 0, changed.Months)
	growth := Int(1).Add(changed.Growth)
	same := make(map[int]USD) // months without growth are alike when they have as many days
	for i := range changed.Months {
		m := changed.Start.Add(i)
		if total, ok := same[m.Days()]; ok && changed.Growth.Sign() == 0 {
			months = append(months, total)
			continue
		}
		use := usageMonth{hours: changed.Month.Hours(m), scale: growth.Pow(i), payload: traffic.payload(), free: changed.FreeTier}
		use.requests = perHour.Mul(use.hours).Mul(use.scale)
		lines, err := changed.month(book, rates, a.Services, use, boundMean)
		if err != nil {
			return nil, err
		}
		total := sumLines(lines)
		if err := total.Err(); err != nil {
			return nil, fmt.Errorf("summing lines: %w", err)
		}
		months = append(months, total)
		same[m.Days()] = total
	}
	return months, nil
}

// Swing is how much one input moves a forecast.
type Swing struct {
	// Input names what is changed, LowInput and HighInput to what.
	Input     string `json:"input"`
	LowInput  string `json:"low_input"`
	HighInput string `json:"high_input"`
	// Low and High are the totals with those inputs, Spread their distance.
	Low    USD `json:"low_usd"`
	High   USD `json:"high_usd"`
	Spread USD `json:"spread_usd"`
}

// Tornado returns how the total of one architecture moves when its inputs are
// changed one at a time, the strongest first: traffic and billed time by a
// share of variation (0.2 for ±20 %), memory halved and doubled, growth by two
// percentage points a month, the free tier, and the processor architecture.
func Tornado(s *Scenario, book *PriceBook, name string, variation Decimal) ([]Swing, error) {
	if variation.Sign() <= 0 || variation.Cmp(Int(1)) >= 0 {
		return nil, userError("the variation must lie between 0 and 1", "give for instance 0.2")
	}
	less, more := Int(1).Sub(variation), Int(1).Add(variation)
	percent := variation.Mul(Int(100)).Round(0).String()
	type change func(*Scenario, *Architecture)
	traffic := func(by Decimal) change {
		return func(s *Scenario, a *Architecture) { scaleTraffic(s, a, by) }
	}
	eachFunction := func(f func(*Function)) change {
		return func(_ *Scenario, a *Architecture) {
			for i := range a.Functions {
				f(&a.Functions[i])
			}
		}
	}
	billed := func(by Decimal) change { return eachFunction(func(f *Function) { f.Billed.factor = &by }) }
	memory := func(by Decimal) change { return eachFunction(func(f *Function) { f.memoryFactor = &by }) }
	arch := func(to Arch) change { return eachFunction(func(f *Function) { f.Arch = to }) }
	growth := func(by Decimal) change {
		return func(s *Scenario, _ *Architecture) { s.Growth = s.Growth.Add(by) }
	}
	free := func(on bool) change { return func(s *Scenario, _ *Architecture) { s.FreeTier = on } }
	tries := []struct {
		input, low, high string
		a, b             change
	}{
		{"requests", "-" + percent + "%", "+" + percent + "%", traffic(less), traffic(more)},
		{"billed time", "-" + percent + "%", "+" + percent + "%", billed(less), billed(more)},
		{"memory, same billed time", "half", "double", memory(Frac(5, 1)), memory(Int(2))},
		{"growth per month", "-2 points", "+2 points", growth(Frac(-2, 2)), growth(Frac(2, 2))},
		{"free tier", "on", "off", free(true), free(false)},
		{"processor, same billed time", string(ArchARM), string(ArchX86), arch(ArchARM), arch(ArchX86)},
	}
	var swings []Swing
	for _, try := range tries {
		low, err := s.totalOf(book, name, try.a)
		if err != nil {
			return nil, fmt.Errorf("changing %s: %w", try.input, err)
		}
		high, err := s.totalOf(book, name, try.b)
		if err != nil {
			return nil, fmt.Errorf("changing %s: %w", try.input, err)
		}
		spread := high.Sub(low)
		if spread.Sign() < 0 {
			spread = low.Sub(high)
		}
		if spread.Sign() != 0 {
			swings = append(swings, Swing{try.input, try.low, try.high, low, high, spread})
		}
	}
	slices.SortStableFunc(swings, func(a, b Swing) int { return b.Spread.Cmp(a.Spread) })
	return swings, nil
}

// ProvisionedMonth returns what it costs to keep environments provisioned for
// so many hours, without the invocations in them. Configured time counts per
// started five minutes.
func ProvisionedMonth(book *PriceBook, region string, arch Arch, environments int, memory lambdalog.MB, hours Decimal) (USD, error) {
	p, err := book.Lookup(lambdaService, "provisioned-concurrency"+archSuffix(arch), region)
	if err != nil {
		return USD{}, err
	}
	const slot = 300
	seconds := hours.Mul(Int(3600)).Quo(Int(slot)).Ceil().Mul(Int(slot))
	_, total, _ := p.Cost(GBSeconds(Int(1000), memory).Mul(Int(int64(environments))).Mul(seconds))
	return total, total.Err()
}

// ProvisionedBreakEven returns the share of the time that a provisioned
// environment must be busy to cost less than on demand: the price of keeping it
// over what its cheaper duration saves, pc/(on demand − pd).
func ProvisionedBreakEven(book *PriceBook, region string, arch Arch) (Decimal, error) {
	var prices [3]USD
	for i, dimension := range [...]string{"provisioned-concurrency" + archSuffix(arch), "provisioned-duration" + archSuffix(arch), arch.durationDimension()} {
		p, err := book.Lookup(lambdaService, dimension, region)
		if err != nil {
			return Decimal{}, err
		}
		prices[i] = p.Tiers[0].Price
	}
	share := prices[0].Ratio(prices[2].Sub(prices[1]))
	return share, share.Err()
}

// KeepWarm returns what it costs in a month to keep environments warm with a
// ping to each every so many minutes. Keeping more than one takes pings that
// overlap in time. The free tier is not taken off.
func KeepWarm(book *PriceBook, region string, arch Arch, environments int, memory lambdalog.MB, pingMS, everyMinutes, hours Decimal) (pings Decimal, total USD, err error) {
	if everyMinutes.Sign() <= 0 || environments < 0 || pingMS.Sign() < 0 {
		return Decimal{}, USD{}, userError("pings need an interval above 0", "ping every 5 minutes, for instance")
	}
	pings = hours.Mul(Int(60)).Quo(everyMinutes).Mul(Int(int64(environments)))
	for _, u := range [...]quantity{
		q(lambdaService, arch.requestsDimension(), pings),
		q(lambdaService, arch.durationDimension(), pings.Mul(GBSeconds(pingMS, memory))),
	} {
		line, err := priceLine(book, region, u)
		if err != nil {
			return Decimal{}, USD{}, err
		}
		total = total.Add(line.Amount)
	}
	return pings, total, total.Err()
}

func archSuffix(a Arch) string {
	if a == ArchARM {
		return "-arm"
	}
	return "-x86"
}
