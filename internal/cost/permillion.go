package cost

import (
	"fmt"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// Invoked adds up invocations and what they were billed, so that they can be priced. Its zero value is none.
type Invoked struct {
	// Count is the number of billed invocations, BilledMS what all of them were billed, and Memory what the
	// function has.
	Count    int64
	BilledMS Decimal
	Memory   lambdalog.MB
}

// InvokedOf takes the invocations of a summary. ok is false when it has none, or when the function has no
// memory size or several: then nothing can be said of its price.
func InvokedOf(s lambdalog.Summary) (v Invoked, ok bool) {
	if s.Billable == 0 || len(s.Memory) != 1 || s.Memory[0].MB <= 0 {
		return Invoked{}, false
	}
	switch {
	case s.BilledMS.Sum.Known:
		v.BilledMS = durationMS(s.BilledMS.Sum.Value)
	case s.BilledMS.Mean.Known:
		v.BilledMS = durationMS(s.BilledMS.Mean.Value).Mul(Int(s.Billable))
	default:
		return Invoked{}, false
	}
	v.Count, v.Memory = s.Billable, s.Memory[0].MB
	return v, true
}

// Add returns both together; ok is false when they are of unlike memory, so that they have no common price.
func (v Invoked) Add(o Invoked) (sum Invoked, ok bool) {
	if v.Count == 0 {
		return o, true
	}
	return Invoked{v.Count + o.Count, v.BilledMS.Add(o.BilledMS), v.Memory}, v.Memory == o.Memory
}

// PerMillion is what a million such invocations cost at the list price of the first tier: requests and the time that
// was billed, and nothing of what lies before or behind the function. An unknown price is a [*MissingPriceError].
func (v Invoked) PerMillion(book *PriceBook, arch Arch, region string) (USD, error) {
	if v.Count <= 0 {
		return USD{}, userError("nothing was billed", "run against a target that reports what it bills, such as lambda://FUNCTION")
	}
	million := Int(1_000_000)
	gbSeconds := v.BilledMS.Mul(Int(int64(v.Memory))).Mul(million).Quo(Int(1000 * 1024).Mul(Int(v.Count)))
	var total USD
	for _, x := range []struct {
		dimension string
		quantity  Decimal
	}{{arch.requestsDimension(), million}, {arch.durationDimension(), gbSeconds}} {
		p, err := book.Lookup(lambdaService, x.dimension, region)
		if err != nil {
			return USD{}, fmt.Errorf("pricing invocations: %w", err)
		}
		total = total.Add(p.Tiers[0].Price.Mul(x.quantity))
	}
	return total, nil
}
