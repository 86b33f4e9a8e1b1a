package cost

import "github.com/cirrusbench/cirrusbench/internal/lambdalog"

// Result is a forecast; its JSON form is cirrusbench/forecast/v1.
type Result struct {
	// Schema is ForecastSchema and Tool the program, which the caller sets.
	Schema string         `json:"schema"`
	Tool   lambdalog.Tool `json:"tool"`
	// Assumptions are what the figures hold under.
	Assumptions Assumptions `json:"assumptions"`
	// Architectures are priced one by one, in the order of the scenario.
	Architectures []ArchitectureResult `json:"architectures"`
	// Comparison is nil with fewer than two architectures.
	Comparison *Comparison `json:"comparison"`
	// Comparisons sets every other architecture beside the baseline.
	Comparisons []Comparison `json:"comparisons"`
	// Analysis is set by Analyse only.
	Analysis *Analysis `json:"analysis,omitempty"`
	// Method is set for a forecast by duration ratio only.
	Method *RatioMethod `json:"method,omitempty"`
	// Warnings concern the forecast as a whole.
	Warnings []string `json:"warnings"`
}

// Assumptions are what a forecast holds under.
type Assumptions struct {
	Region    string    `json:"region"`
	Month     MonthRule `json:"month"`
	Start     YearMonth `json:"start"`
	Months    int       `json:"months"`
	Growth    Decimal   `json:"growth_ratio"`
	FreeTier  bool      `json:"free_tier"`
	Quota     int       `json:"quota"`
	Seed      uint64    `json:"seed"`
	PriceBook BookRef   `json:"price_book"`
}

// BookRef names the price book that was used.
type BookRef struct {
	AsOf   string `json:"as_of"`
	SHA256 string `json:"sha256"`
}

// ArchitectureResult is the forecast of one architecture.
type ArchitectureResult struct {
	Name string `json:"name"`
	// RequestsMonth1 is rounded to a whole number; prices use it unrounded.
	RequestsMonth1 Decimal `json:"requests_month_1"`
	// MeanBilledMS is the mean billed time per request, over all functions.
	MeanBilledMS Decimal `json:"mean_billed_ms"`
	// Samples is the number of invocations behind MeanBilledMS; 0 when it is stated and not measured.
	Samples int64 `json:"samples"`
	// Interval is the 95 % sampling interval of MeanBilledMS; nil without records of single invocations.
	Interval *MSInterval `json:"interval"`
	// Lines are the billed dimensions of the first month.
	Lines  []Line        `json:"lines"`
	Months []MonthResult `json:"months"`
	Month1 USD           `json:"month_1_usd"`
	// Year1 is the sum of the first twelve months, or of all when there are fewer.
	Year1 USD `json:"year_1_usd"`
	Total USD `json:"total_usd"`
	// TotalInterval prices the bounds of Interval. It is narrower than Interval
	// in proportion, because the request fee does not depend on the duration.
	TotalInterval *USDInterval `json:"total_interval"`
	// Bands is nil when the scenario has none.
	Bands *Bands `json:"bands"`
	// PriceConfidence splits Month1.
	PriceConfidence PriceConfidence `json:"price_confidence"`
	// Concurrency is nil when the method knows no traffic.
	Concurrency *Concurrency `json:"concurrency"`
	Cold        Cold         `json:"cold"`
	// Lever says where the money goes; nil when the first month costs nothing.
	Lever *Lever `json:"next_lever"`
	// Headroom is the spare memory of the function; nil without records or with several functions.
	Headroom *Headroom `json:"memory_headroom"`
	// NotCounted lists what else the traffic costs.
	NotCounted []NotCounted `json:"not_counted"`
	Warnings   []string     `json:"warnings"`
}

// MSInterval is a 95 % interval in milliseconds.
type MSInterval struct {
	Low     float64 `json:"low_ms"`
	High    float64 `json:"high_ms"`
	Samples int     `json:"samples"`
	Method  string  `json:"method"`
}

// USDInterval is an interval of money.
type USDInterval struct {
	Low  USD `json:"low_usd"`
	High USD `json:"high_usd"`
}

// RatioInterval is an interval of a share.
type RatioInterval struct {
	Low  float64 `json:"low_ratio"`
	High float64 `json:"high_ratio"`
}

// MonthResult is the total of one month.
type MonthResult struct {
	Month    YearMonth `json:"month"`
	Requests Decimal   `json:"requests"`
	Total    USD       `json:"total_usd"`
	// Interval prices the bounds of the billed time; nil when it is not measured.
	Interval *USDInterval `json:"interval"`
	// Services are the parts of Total, in the order of the first month's lines.
	Services []ServiceAmount `json:"services"`
}

// ServiceAmount is what one service costs in a month.
type ServiceAmount struct {
	Service string `json:"service"`
	Amount  USD    `json:"amount_usd"`
}

// Cold says how many invocations were cold.
type Cold struct {
	// Share is nil when unknown; Interval is Wilson's 95 % interval when measured.
	Share    *Decimal       `json:"share_ratio"`
	Interval *RatioInterval `json:"interval"`
}

// NotCounted is a cost that the forecast leaves out.
type NotCounted struct {
	// What it is and Why it is left out.
	What string `json:"what"`
	Why  string `json:"why"`
	// Amount is what it would cost in the first month at list price; nil when unknown.
	Amount *USD `json:"amount_usd"`
}

// Comparison sets a candidate beside a baseline. A ratio is nil where there is
// nothing to divide by.
type Comparison struct {
	Baseline  string `json:"baseline"`
	Candidate string `json:"candidate"`
	// Savings is the baseline's total minus the candidate's, SavingsRatio its share of the baseline.
	Savings      USD      `json:"savings_usd"`
	SavingsRatio *Decimal `json:"savings_ratio"`
	// CostRatio, ConcurrencyRatio and DurationRatio are baseline over candidate.
	CostRatio        *Decimal `json:"cost_ratio"`
	ConcurrencyRatio *Decimal `json:"concurrency_ratio"`
	DurationRatio    *Decimal `json:"duration_ratio"`
	// QuotaRatio compares what the quota must admit: concurrency, or a tenth of
	// the request rate where that is more.
	QuotaRatio *Decimal `json:"quota_ratio"`
}
