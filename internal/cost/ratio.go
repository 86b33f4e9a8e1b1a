package cost

import (
	"fmt"
)

// RatioInput is what the duration-ratio method takes: a bill and two mean
// billed durations.
type RatioInput struct {
	// Monthly is the known bill of a month, with the baseline.
	Monthly USD
	// BaselineMS and CandidateMS are mean billed milliseconds.
	BaselineMS, CandidateMS Decimal
	// Baseline and Candidate name the two; empty means "baseline" and "candidate".
	Baseline, Candidate string
	// Months is the length of the forecast and Start its first month.
	Months int
	Start  YearMonth
	// Concurrency is the measured mean number of busy environments of the baseline; nil when unknown.
	Concurrency *Decimal
	// Book and Region price the request fee that is inside Monthly, when
	// Concurrency is known too; nil leaves RatioMethod.RequestFeeKept out.
	Book   *PriceBook
	Region string
}

// RatioMethod explains a forecast by duration ratio and keeps both ways to
// round it.
type RatioMethod struct {
	// Name is duration-ratio and Formula says what is multiplied.
	Name    string `json:"name"`
	Formula string `json:"formula"`
	// Monthly, BaselineMS and CandidateMS are the inputs.
	Monthly     USD     `json:"monthly_cost_usd"`
	BaselineMS  Decimal `json:"baseline_ms"`
	CandidateMS Decimal `json:"candidate_ms"`
	// DurationRatio is baseline over candidate, with one decimal in DurationRatioRounded.
	DurationRatio        Decimal `json:"duration_ratio"`
	DurationRatioRounded Decimal `json:"duration_ratio_rounded"`
	// SavingsRatio is 1 − candidate/baseline, in whole percent in SavingsRatioRounded.
	SavingsRatio        Decimal `json:"savings_ratio"`
	SavingsRatioRounded Decimal `json:"savings_ratio_rounded"`
	// AsInPaper holds the figures by the first paper's rounding, Exact those without rounding.
	AsInPaper RatioFigures `json:"as_in_paper"`
	Exact     RatioFigures `json:"exact"`
	// Understatement is by how much the paper's rounding lowers the candidate's total.
	Understatement USD `json:"understatement_usd"`
	// RequestFeeKept scales only what depends on the duration and keeps the
	// request fee; nil when the request rate is not known.
	RequestFeeKept *RequestFeeKept `json:"request_fee_kept"`
	// LeavesOut says what scaling a bill by durations gets wrong.
	LeavesOut []string `json:"leaves_out"`
}

// RatioFigures are the amounts of a year and of the whole forecast.
type RatioFigures struct {
	BaselineYear   USD `json:"baseline_year_usd"`
	BaselineTotal  USD `json:"baseline_total_usd"`
	CandidateYear  USD `json:"candidate_year_usd"`
	CandidateTotal USD `json:"candidate_total_usd"`
}

// RequestFeeKept is the candidate's bill when the request fee does not shrink.
type RequestFeeKept struct {
	// RequestFee is the monthly fee at list price over 30 days.
	RequestFee     USD     `json:"request_fee_usd"`
	CandidateMonth USD     `json:"candidate_month_usd"`
	CandidateTotal USD     `json:"candidate_total_usd"`
	SavingsRatio   Decimal `json:"savings_ratio"`
}

// candidateExact is the name suffix of the architecture without rounding.
const candidateExact = " (exact ratio)"

// DurationRatio scales a known bill by the ratio of mean billed durations, as
// the first paper (Cirrus) did: the saving is rounded to whole percent, the
// year is cut to whole dollars, and longer forecasts are multiples of that
// year. Because this understates its own model, the result has a third
// architecture with the exact ratio, and RatioMethod states both.
func DurationRatio(in RatioInput) (*Result, error) {
	switch {
	case in.Monthly.Err() != nil || in.Monthly.Sign() <= 0:
		return nil, userError("the monthly cost is not given", "give the known bill, for instance --monthly-cost 3633")
	case in.BaselineMS.Sign() <= 0 || in.CandidateMS.Sign() <= 0:
		return nil, userError("the mean durations are not given", "give both, for instance --baseline-ms 953 --mean-ms 70")
	case in.Months < 1 || in.Months > maxMonths:
		return nil, userError(fmt.Sprintf("%d months, want 1 to %d", in.Months, maxMonths), "give --months, for instance --months 24")
	}
	if in.Baseline == "" {
		in.Baseline = "baseline"
	}
	if in.Candidate == "" {
		in.Candidate = "candidate"
	}
	twelve, years := Int(12), Int(int64(in.Months)).Quo(Int(12))
	left := in.CandidateMS.Quo(in.BaselineMS) // what remains of the bill
	saving := Int(1).Sub(left)
	m := &RatioMethod{
		Name: "duration-ratio", Formula: "monthly cost × months × candidate_ms / baseline_ms",
		Monthly: in.Monthly, BaselineMS: in.BaselineMS, CandidateMS: in.CandidateMS,
		DurationRatio: in.BaselineMS.Quo(in.CandidateMS), SavingsRatio: saving, SavingsRatioRounded: saving.Round(2),
	}
	m.DurationRatioRounded = m.DurationRatio.Round(1)
	year, total := in.Monthly.Mul(twelve), in.Monthly.Mul(Int(int64(in.Months)))
	m.Exact = RatioFigures{year, total, year.Mul(left), total.Mul(left)}
	paperMonth := in.Monthly.Mul(Int(1).Sub(m.SavingsRatioRounded))
	paperYear := paperMonth.Mul(twelve).Trunc(0)
	m.AsInPaper = RatioFigures{year, total, paperYear, paperYear.Mul(years)}
	m.Understatement = m.Exact.CandidateTotal.Sub(m.AsInPaper.CandidateTotal)
	if err := m.keepRequestFee(in, left); err != nil {
		return nil, err
	}
	m.LeavesOut = []string{
		"the request fee: it is part of the bill and does not shrink with the duration",
		"memory and architecture: the candidate may run at another price per GB-second",
		"price tiers and the free tier: a smaller quantity falls into other tiers",
		"growth and the length of months: every month costs the same",
		"API Gateway, S3 requests and logs: they follow the number of requests, not the duration",
		"sampling error: two means say nothing about how sure they are",
		"rounding: the saving is rounded to whole percent and the year cut to whole dollars, as in the paper; see exact",
	}
	res := &Result{
		Schema:      ForecastSchema,
		Assumptions: Assumptions{Region: in.Region, Month: Month30Days, Start: in.Start, Months: in.Months, Quota: DefaultQuota},
		Method:      m,
		Warnings:    []string{"duration-ratio scales the whole bill; --method priced prices each line"},
	}
	if in.Book != nil {
		res.Assumptions.PriceBook = BookRef{AsOf: in.Book.AsOf(), SHA256: in.Book.SHA256()}
	}
	add := func(name string, ms Decimal, month, year, total USD) {
		a := ArchitectureResult{
			Name: name, MeanBilledMS: ms, Lines: []Line{}, Month1: month, Year1: year, Total: total,
			NotCounted: notes(m.LeavesOut), Warnings: []string{},
		}
		for i := range in.Months {
			a.Months = append(a.Months, MonthResult{Month: in.Start.Add(i), Total: month, Services: []ServiceAmount{}})
		}
		if in.Months < 12 {
			a.Year1 = total
		}
		if in.Concurrency != nil {
			a.Concurrency = ratioConcurrency(in.Concurrency.Mul(ms).Quo(in.BaselineMS), *in.Concurrency, in.BaselineMS)
		}
		res.Architectures = append(res.Architectures, a)
	}
	add(in.Baseline, in.BaselineMS, in.Monthly, m.AsInPaper.BaselineYear, m.AsInPaper.BaselineTotal)
	add(in.Candidate, in.CandidateMS, paperMonth, m.AsInPaper.CandidateYear, m.AsInPaper.CandidateTotal)
	add(in.Candidate+candidateExact, in.CandidateMS, in.Monthly.Mul(left), m.Exact.CandidateYear, m.Exact.CandidateTotal)
	for _, a := range res.Architectures {
		if err := a.Total.Err(); err != nil {
			return nil, fmt.Errorf("scaling the bill: %w", err)
		}
	}
	res.Comparison = compareResults(&res.Architectures[0], &res.Architectures[1])
	res.Comparisons = []Comparison{*res.Comparison}
	return res, nil
}

// keepRequestFee prices the requests that the measured concurrency implies.
func (m *RatioMethod) keepRequestFee(in RatioInput, left Decimal) error {
	if in.Concurrency == nil || in.Book == nil {
		return nil
	}
	price, err := in.Book.Lookup(lambdaService, ArchX86.requestsDimension(), in.Region)
	if err != nil {
		return fmt.Errorf("pricing requests: %w", err)
	}
	requests := in.Concurrency.Mul(Int(30 * 86400 * 1000)).Quo(in.BaselineMS)
	_, fee, _ := price.Cost(requests)
	if fee.Cmp(in.Monthly) > 0 {
		return nil // the bill is smaller than its own request fee: the inputs do not belong together
	}
	month := fee.Add(in.Monthly.Sub(fee).Mul(left))
	m.RequestFeeKept = &RequestFeeKept{
		RequestFee: fee, CandidateMonth: month, CandidateTotal: month.Mul(Int(int64(in.Months))),
		SavingsRatio: Int(1).Sub(month.Ratio(in.Monthly)),
	}
	return nil
}

func notes(list []string) []NotCounted {
	out := make([]NotCounted, 0, len(list))
	for _, text := range list {
		out = append(out, NotCounted{What: text, Why: "a ratio of durations cannot know it"})
	}
	return out
}

// ratioConcurrency derives the request rate from the baseline's concurrency and
// duration by Little's law.
func ratioConcurrency(mean, baseline, baselineMS Decimal) *Concurrency {
	perHour := baseline.Mul(Int(3_600_000)).Quo(baselineMS)
	s := &Scenario{}
	c := s.concurrency(perHour, nil, nil, []rate{{perRequest: Int(1), wallMS: mean.Quo(perHour).Mul(Int(3_600_000)).Float64()}})
	return c
}
