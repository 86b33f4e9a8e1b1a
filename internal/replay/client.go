package replay

import (
	"fmt"
	"math"
	"runtime"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// ClientUse is what the load generator itself consumed during a run. With an embedded server it includes
// that server.
type ClientUse struct {
	CPU        time.Duration // user + system
	Wall       time.Duration
	Procs      int           // processors the process may use (GOMAXPROCS, which follows the cgroup quota)
	GCPauseMax time.Duration // longest stop of the world for garbage collection (bucket's upper edge)
}

// CPURatio is the share of the CPU time available to the process that it used, 0 to 1.
func (u ClientUse) CPURatio() float64 {
	if u.Wall <= 0 || u.Procs == 0 {
		return 0
	}
	return u.CPU.Seconds() / (u.Wall.Seconds() * float64(u.Procs))
}

// The limits beyond which the generator, not the target, may have made the numbers.
const (
	maxCPURatio      = 0.85
	maxScheduleError = time.Millisecond // or 5 % of the median latency, whichever is more
)

// verdict judges whether the generator kept up: the run's latencies are only worth reading if it did.
func verdict(u ClientUse, latencyP50, scheduleP99 time.Duration, embedded bool) stats.Client {
	c := stats.Client{
		CPURatio: u.CPURatio(), GCPauseMaxMS: ms(u.GCPauseMax), ScheduleErrorP99MS: ms(scheduleP99), Verdict: "valid", Reasons: []string{},
	}
	invalid := func(format string, args ...any) {
		c.Verdict = "invalid"
		c.Reasons = append(c.Reasons, fmt.Sprintf(format, args...))
	}
	if limit := max(maxScheduleError, latencyP50/20); scheduleP99 > limit {
		invalid("requests left %.3f ms after they were due at p99 although a slot was free (limit %.3f ms)", ms(scheduleP99), ms(limit))
	}
	if ratio := u.CPURatio(); ratio > maxCPURatio {
		who := "the generator"
		if embedded {
			who = "the generator and the embedded server"
		}
		invalid("%s used %.0f %% of the CPU it may use (limit %.0f %%)", who, ratio*100, maxCPURatio*100)
	}
	return c
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// use is a reading of the process' running totals.
type use struct {
	at     time.Time
	cpu    time.Duration
	pauses *metrics.Float64Histogram
}

func readUse() use {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	u := use{at: time.Now(), cpu: processCPU()}
	if sample[0].Value.Kind() == metrics.KindFloat64Histogram {
		u.pauses = sample[0].Value.Float64Histogram()
	}
	return u
}

func (u use) minus(before use) ClientUse {
	c := ClientUse{CPU: u.cpu - before.cpu, Wall: u.at.Sub(before.at), Procs: runtime.GOMAXPROCS(0)}
	if u.pauses == nil || before.pauses == nil {
		return c
	}
	for i, n := range slices.Backward(u.pauses.Counts) {
		if n > before.pauses.Counts[i] {
			if edge := u.pauses.Buckets[i+1]; !math.IsInf(edge, 0) {
				c.GCPauseMax = time.Duration(edge * float64(time.Second))
			} else {
				c.GCPauseMax = time.Duration(u.pauses.Buckets[i] * float64(time.Second))
			}
			break
		}
	}
	return c
}
