package replay

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// Objective is one comparison of a service level objective, such as p99<250ms.
type Objective struct {
	text   string
	metric string
	op     string
	limit  float64 // in ms, a ratio, or per second
}

// metrics that an objective can name, with the way to read them from a run. Latencies are those of
// successes, from the due time, in ms.
func metric(name string) (read func(*stats.Run) float64, unit string) {
	latency := func(f func(*stats.Latency) float64) (func(*stats.Run) float64, string) {
		return func(r *stats.Run) float64 {
			if r.Latency.Count == 0 {
				return math.NaN() // nothing succeeded: no objective on latency is met
			}
			return f(&r.Latency)
		}, "ms"
	}
	switch name {
	case "mean":
		return latency(func(l *stats.Latency) float64 { return l.MeanMS })
	case "p50":
		return latency(func(l *stats.Latency) float64 { return l.P50MS })
	case "p90":
		return latency(func(l *stats.Latency) float64 { return l.P90MS })
	case "p95":
		return latency(func(l *stats.Latency) float64 { return l.P95MS })
	case "p99":
		return latency(func(l *stats.Latency) float64 { return l.P99MS })
	case "p99.9":
		return latency(func(l *stats.Latency) float64 { return l.P999MS })
	case "p99.99":
		return latency(func(l *stats.Latency) float64 { return l.P9999MS })
	case "p99.999":
		return latency(func(l *stats.Latency) float64 { return l.P99999MS })
	case "max":
		return latency(func(l *stats.Latency) float64 { return l.MaxMS })
	case "error_ratio":
		return func(r *stats.Run) float64 {
			if r.Counts.Sent == 0 {
				return math.NaN()
			}
			return float64(r.Counts.Failed+r.Counts.TimedOut) / float64(r.Counts.Sent)
		}, "ratio"
	case "rate":
		return func(r *stats.Run) float64 { return r.Achieved.RatePerS }, "per_s"
	}
	return nil, ""
}

const metricNames = "mean, p50, p90, p95, p99, p99.9, p99.99, p99.999, max, error_ratio, rate"

// ParseObjectives reads a list such as "p99<250ms,error_ratio<0.1%,rate>=100". Latencies have a unit;
// error_ratio is a number from 0 to 1 or per cent; rate is in requests per second.
func ParseObjectives(s string) ([]Objective, error) {
	var all []Objective
	for text := range strings.SplitSeq(s, ",") {
		text = strings.ReplaceAll(text, " ", "")
		i := strings.IndexAny(text, "<>")
		if i < 0 {
			return nil, fmt.Errorf("objective %q has no < or >; write it like p99<250ms", text)
		}
		o := Objective{text: text, metric: text[:i], op: text[i : i+1]}
		value := text[i+1:]
		if rest, ok := strings.CutPrefix(value, "="); ok {
			o.op, value = o.op+"=", rest
		}
		read, unit := metric(o.metric)
		if read == nil {
			return nil, fmt.Errorf("objective %q: there is no %q; known are %s", text, o.metric, metricNames)
		}
		var err error
		switch unit {
		case "ms":
			var d time.Duration
			if d, err = time.ParseDuration(value); err == nil {
				o.limit = ms(d)
			}
		case "ratio":
			number, percent := strings.CutSuffix(value, "%")
			if o.limit, err = strconv.ParseFloat(number, 64); percent {
				o.limit /= 100
			}
		default:
			o.limit, err = strconv.ParseFloat(value, 64)
		}
		if err != nil || !(o.limit >= 0) || math.IsInf(o.limit, 0) {
			return nil, fmt.Errorf("objective %q: %q is not a limit such as 250ms (latency), 0.1%% (error_ratio) or 100 (rate)", text, value)
		}
		all = append(all, o)
	}
	return all, nil
}

// Judge compares a run with objectives. What was not measured does not meet any.
func Judge(objectives []Objective, run *stats.Run) []stats.Objective {
	var judged []stats.Objective
	for _, o := range objectives {
		read, unit := metric(o.metric)
		v := read(run)
		j := stats.Objective{Objective: o.text}
		switch o.op { // a NaN meets none
		case "<":
			j.Met = v < o.limit
		case "<=":
			j.Met = v <= o.limit
		case ">":
			j.Met = v > o.limit
		case ">=":
			j.Met = v >= o.limit
		}
		switch {
		case math.IsNaN(v):
			j.Measured = "nothing"
		case unit == "ms":
			j.Measured = strconv.FormatFloat(v, 'f', 3, 64) + "ms"
		case unit == "ratio":
			j.Measured = strconv.FormatFloat(v*100, 'f', 4, 64) + "%"
		default:
			j.Measured = strconv.FormatFloat(v, 'f', 2, 64) + "/s"
		}
		judged = append(judged, j)
	}
	return judged
}
