package cost

import (
	"fmt"
	"slices"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// memoryStep is the step in which ExplainBill tries memory sizes. Lambda takes
// every MB, but with every MB some size always fits.
const memoryStep = 32

// BillQuery asks which functions could have made a known bill.
type BillQuery struct {
	// Monthly is the bill of Lambda requests and duration for one month.
	Monthly USD
	// RequestsPerHour and MeanMS are the measured traffic and mean billed milliseconds.
	RequestsPerHour, MeanMS Decimal
	// Region is where the prices are taken, Month the length of the month and
	// Start which one for MonthCalendar.
	Region string
	Month  MonthRule
	Start  YearMonth
	// Tolerance is the largest deviation that still fits, as a share of the
	// bill; 0 means half a dollar.
	Tolerance Decimal
}

// BillFit is one explanation of a bill.
type BillFit struct {
	// Arch and Memory are the function's.
	Arch   Arch         `json:"arch"`
	Memory lambdalog.MB `json:"memory_mb"`
	// Tier says what the GB-second cost: "tier 1", "tier 2" and so on when other
	// functions of the account fill the lower tiers, or a savings plan.
	Tier string `json:"tier"`
	// Price is the price of a GB-second.
	Price USD `json:"price_usd"`
	// Requests and Duration are the two parts, Monthly their sum.
	Requests USD `json:"requests_usd"`
	Duration USD `json:"duration_usd"`
	Monthly  USD `json:"monthly_usd"`
	// Difference is Monthly minus the bill.
	Difference USD `json:"difference_usd"`
}

// ExplainBill lists the combinations of memory, architecture and price tier
// that make a known bill, the nearest first. Several combinations usually do,
// so a bill alone does not tell a function's memory. The free tier is not
// taken off.
func ExplainBill(in BillQuery, book *PriceBook) ([]BillFit, error) {
	switch {
	case in.Monthly.Sign() <= 0 || in.Monthly.Err() != nil:
		return nil, userError("there is no bill to explain", "give the monthly bill, for instance --explain-bill 3633")
	case in.RequestsPerHour.Sign() <= 0 || in.MeanMS.Sign() <= 0:
		return nil, userError("a bill can be explained only with its traffic and mean duration",
			"give them, for instance --concurrency 354 --baseline-ms 953")
	}
	tolerance := Dollars(Frac(5, 1))
	if in.Tolerance.Sign() > 0 {
		tolerance = in.Monthly.Mul(in.Tolerance)
	}
	requests := in.RequestsPerHour.Mul(in.Month.Hours(in.Start))
	var fits []BillFit
	for _, arch := range [...]Arch{ArchX86, ArchARM} {
		fee, err := priceLine(book, in.Region, q(lambdaService, arch.requestsDimension(), requests))
		if err != nil {
			return nil, err
		}
		prices, err := durationPrices(book, arch, in.Region)
		if err != nil {
			return nil, err
		}
		for _, p := range prices {
			for mb := lambdalog.MB(128); mb <= 10240; mb += memoryStep {
				duration := p.price.Mul(requests.Mul(GBSeconds(in.MeanMS, mb)))
				f := BillFit{
					Arch: arch, Memory: mb, Tier: p.name, Price: p.price,
					Requests: fee.Amount, Duration: duration, Monthly: fee.Amount.Add(duration),
				}
				f.Difference = f.Monthly.Sub(in.Monthly)
				if f.distance().Cmp(tolerance) <= 0 {
					fits = append(fits, f)
				}
			}
		}
	}
	slices.SortStableFunc(fits, func(a, b BillFit) int { return a.distance().Cmp(b.distance()) })
	return fits, nil
}

func (f BillFit) distance() USD {
	if f.Difference.Sign() < 0 {
		return USD{}.Sub(f.Difference)
	}
	return f.Difference
}

type namedPrice struct {
	name  string
	price USD
}

// durationPrices lists what a GB-second may cost.
func durationPrices(book *PriceBook, arch Arch, region string) ([]namedPrice, error) {
	p, err := book.Lookup(lambdaService, arch.durationDimension(), region)
	if err != nil {
		return nil, err
	}
	var list []namedPrice
	for i, t := range p.Tiers {
		list = append(list, namedPrice{fmt.Sprintf("tier %d", i+1), t.Price})
	}
	for _, plan := range [...]string{"savings-plan-1y-no-upfront", "savings-plan-all-upfront"} {
		// A region without savings-plan prices in the book is simply not tried.
		if p, err := book.Lookup(lambdaService, plan+archSuffix(arch), region); err == nil {
			list = append(list, namedPrice{plan, p.Tiers[0].Price})
		}
	}
	return list, nil
}
