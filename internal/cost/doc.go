// Package cost turns what Lambda billed into money and concurrency.
//
// [UsageOf] collects the billed durations of Lambda's own records,
// [LoadScenario] reads a scenario file, and [Forecast] prices a [Scenario] from
// a dated [PriceBook]: every line is a quantity times a unit price with its
// tiers, its AWS usage type, the date of the price and how sure it is. The same
// result says what concurrency the traffic needs, how wide the sampling error
// is, and what was not counted.
//
// Rules that hold everywhere:
//
//   - Money is decimal ([USD]) and is rounded when it is printed, not before.
//   - A GB of Lambda duration is 1024 MB; GB-seconds are the exact sum of
//     billed milliseconds times memory, never a mean times a rounded price.
//   - Tiers are marginal and count per month over all functions of a payer, per
//     region and architecture. The free tier is granted once, not per function.
//   - The length of a month is an input ([MonthRule]). A price that is missing
//     is an error ([MissingPriceError]), never 0 and never another region's.
//
// [DurationRatio] is the other method: it scales a known bill by a ratio of
// durations, as the first paper (Cirrus) did, and lists what that leaves out.
package cost
