// Package stats holds the numbers of a benchmark run: latency histograms, the
// per-worker recorder, percentiles, the tail deltas D2 to D5, and the run file
// that carries them between commands.
//
// A measurement takes this way:
//
//  1. Every worker owns a [Recorder] and calls [Recorder.Record] once for every
//     request. Nothing is locked, so nothing may be shared.
//  2. When the run ends, or an interval does, the recorders are merged with
//     [Recorder.Merge]. Merging adds integers only: it is exact, associative and
//     free of order.
//  3. [Recorder.Fill] puts what was recorded into a [Run], the content of a run
//     file. [ReadRun] reads it back and [Run.Check] proves that no request got
//     lost on the way.
//
// # Percentiles
//
// Every percentile of this package follows numpy's linear rule: for n sorted
// values and a quantile q, h = (n-1)q is the position, and the result is
// interpolated between the order statistics at floor(h) and floor(h)+1. A
// [Histogram] reads an order statistic at the middle of its bucket, so it errs
// by at most 1/2048 of the value plus 256 ns, and never beyond the exact minimum
// and maximum, which are kept apart.
//
// # D2 to D5
//
// The Shasta paper compares tails by what they add to the median. For each
// ordered pair of a source and a destination, with M the median and Pq the q-th
// percentile of its latencies:
//
//	D2 = P99     - M
//	D3 = P99.9   - M
//	D4 = P99.99  - M
//	D5 = P99.999 - M
//
// The summary is the median, mean, population standard deviation, maximum and
// minimum of each D over the pairs, every pair with the same weight. A constant
// offset between two clocks cancels in P - M; a drifting one does not.
package stats
