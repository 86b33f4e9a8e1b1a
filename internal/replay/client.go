package replay

import (
	"fmt"
	"math"
	"os"
	"runtime/metrics"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// ClientUse is what the load generator itself consumed during a run. With an embedded server it includes
// that server.
type ClientUse struct {
	CPU              time.Duration // user + system
	Wall             time.Duration
	CPUs             float64       // processors the process may use: GOMAXPROCS, or a quota of its control group below it
	GCPauseMax       time.Duration // longest stop of the world for garbage collection (bucket's upper edge)
	GCPauses         time.Duration // all of them together, each counted as its bucket's upper edge
	ThrottledPeriods int64         // periods in which the control group's CPU quota was used up
	Throttled        time.Duration // how long the group then stood still
	StealRatio       float64       // share of the machine's CPU time that its hypervisor gave to others
}

// CPURatio is the share of the CPU time available to the process that it used, 0 to 1.
func (u ClientUse) CPURatio() float64 {
	if u.Wall <= 0 || u.CPUs == 0 {
		return 0
	}
	return u.CPU.Seconds() / (u.Wall.Seconds() * u.CPUs)
}

// The limits beyond which the generator, not the target, may have made the numbers.
const (
	maxCPURatio      = 0.85
	maxScheduleError = time.Millisecond // or 5 % of the median latency, whichever is more
	maxStealRatio    = 0.05
	maxGCRatio       = 0.01        // above it garbage collection is part of p99
	minJudged        = time.Second // a shorter run says nothing about shares of time
)

// verdict judges whether the generator kept up: the run's latencies are only worth reading if it did.
func verdict(u ClientUse, latencyP50, scheduleP99 time.Duration, embedded bool) stats.Client {
	c := stats.Client{
		CPURatio: u.CPURatio(), CPUs: u.CPUs, GCPauseMaxMS: ms(u.GCPauseMax), ScheduleErrorP99MS: ms(scheduleP99),
		ThrottledPeriods: u.ThrottledPeriods, ThrottledMS: ms(u.Throttled), StealRatio: u.StealRatio, Verdict: "valid", Reasons: []string{},
	}
	invalid := func(format string, args ...any) {
		c.Verdict = "invalid"
		c.Reasons = append(c.Reasons, fmt.Sprintf(format, args...))
	}
	if limit := max(maxScheduleError, latencyP50/20); scheduleP99 > limit {
		invalid("the generator held requests up for %.3f ms at p99 (limit %.3f ms)", ms(scheduleP99), ms(limit))
	}
	long := u.Wall >= minJudged
	if ratio := u.CPURatio(); long && ratio > maxCPURatio {
		who := "the generator"
		if embedded {
			who = "the generator and the embedded server"
		}
		invalid("%s used %.0f %% of the CPU it may use, %.3g processors (limit %.0f %%)", who, ratio*100, u.CPUs, maxCPURatio*100)
	}
	if u.ThrottledPeriods > 0 {
		invalid("the kernel throttled the generator's control group in %d periods, for %.1f ms: its CPU quota was used up", u.ThrottledPeriods, ms(u.Throttled))
	}
	if u.StealRatio > maxStealRatio {
		invalid("the hypervisor took %.1f %% of the machine's CPU time (limit %.0f %%)", u.StealRatio*100, maxStealRatio*100)
	}
	if long && u.GCPauses.Seconds() > maxGCRatio*u.Wall.Seconds() {
		invalid("the generator stood still for garbage collection for %.1f ms of %.1f s (limit %.0f %%)", ms(u.GCPauses), u.Wall.Seconds(), maxGCRatio*100)
	}
	return c
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// use is a reading of the process' running totals.
type use struct {
	at     time.Time
	cpu    time.Duration
	pauses *metrics.Float64Histogram
	kernel kernelUse
}

func readUse() use {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	u := use{at: time.Now(), cpu: processCPU(), kernel: machine{os.DirFS("/")}.read()}
	if sample[0].Value.Kind() == metrics.KindFloat64Histogram {
		u.pauses = sample[0].Value.Float64Histogram()
	}
	return u
}

// minus is what was used since before, by a process that may use so many processors if no quota says fewer.
func (u use) minus(before use, processors int) ClientUse {
	c := ClientUse{
		CPU: u.cpu - before.cpu, Wall: u.at.Sub(before.at), CPUs: min(float64(processors), machine{os.DirFS("/")}.quota()),
		ThrottledPeriods: u.kernel.throttledPeriods - before.kernel.throttledPeriods, Throttled: u.kernel.throttled - before.kernel.throttled,
	}
	if total := u.kernel.total - before.kernel.total; total > 0 {
		c.StealRatio = float64(u.kernel.steal-before.kernel.steal) / float64(total)
	}
	if u.pauses == nil || before.pauses == nil {
		return c
	}
	for i, n := range u.pauses.Counts {
		n -= before.pauses.Counts[i]
		if n == 0 {
			continue
		}
		edge := u.pauses.Buckets[i+1]
		if math.IsInf(edge, 0) {
			edge = u.pauses.Buckets[i]
		}
		pause := time.Duration(edge * float64(time.Second))
		c.GCPauseMax = pause // buckets ascend
		c.GCPauses += time.Duration(n) * pause
	}
	return c
}
