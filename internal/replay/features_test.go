package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// TestOriginalTimingKeepsGaps: the requests leave with the captured gaps, divided by the speed.
func TestOriginalTimingKeepsGaps(t *testing.T) {
	corpus := bundled(t)
	var times []time.Time
	for _, e := range corpus.Entries() {
		times = append(times, e.Key.Time)
	}
	for _, speed := range []float64{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var at []time.Time
			sender := senderFunc(func(_ context.Context, r *Outgoing) Response {
				mu.Lock()
				at = append(at, time.Now())
				mu.Unlock()
				return confirmed(r)
			})
			run := inBubble(t.Context(), t, Config{
				Corpus: corpus, Sender: sender, Timestamps: Keep, Order: OrderSource, MaxInFlight: 8, Timeout: time.Minute,
				Plan: mustPlan(t, PlanConfig{Speed: speed, Objects: len(times), Times: times, MaxGap: time.Minute}),
			})
			if len(at) != len(times) || run.Plan.Timing != "original" {
				t.Fatalf("%d sends, plan %+v", len(at), run.Plan)
			}
			for i := 1; i < len(at); i++ {
				want := min(times[i].Sub(times[i-1]), time.Minute).Seconds() / speed
				near(t, fmt.Sprintf("speed %v: gap %d", speed, i), at[i].Sub(at[i-1]).Seconds(), want, 1e-6)
			}
		})
	}
}

// TestRetry: what may succeed later is sent again after 30 ms, 60 ms, … or the server's own delay; the request
// is one latency from its due time, the retries are counted, and the source's next request waits.
func TestRetry(t *testing.T) {
	corpus := bundled(t)
	tests := []struct {
		name     string
		answers  []Response // then success
		retry    Retry
		ok       bool
		attempts int
		latency  float64 // ms; every answer takes 1 ms
	}{
		{"none", []Response{{Status: 503}}, Retry{}, false, 1, 1},
		{"backoff doubles", []Response{{Status: 503}, {Status: 500}, {Err: errors.New("reset")}}, NewPrometheusRetry(false, time.Minute), true, 4, 4 + 30 + 60 + 120},
		{"a timeout is retried", []Response{{Err: context.DeadlineExceeded, Timeout: true}}, NewPrometheusRetry(false, time.Minute), true, 2, 2 + 30},
		{"the server's delay", []Response{{Status: 503, RetryAfter: 2 * time.Second}, {Status: 503}}, NewPrometheusRetry(false, time.Minute), true, 3, 3 + 2000 + 4000},
		{"the backoff has a limit", slices.Repeat([]Response{{Status: 503}}, 10), NewPrometheusRetry(false, time.Minute), true, 11, 11 + 30*(1+2+4+8+16+32+64+128) + 2*5000},
		{"429 is final", []Response{{Status: 429}}, NewPrometheusRetry(false, time.Minute), false, 1, 1},
		{"429 if asked to", []Response{{Status: 429}}, NewPrometheusRetry(true, time.Minute), true, 2, 2 + 30},
		{"400 is final", []Response{{Status: 400}}, NewPrometheusRetry(true, time.Minute), false, 1, 1},
		{"given up", slices.Repeat([]Response{{Status: 503}}, 1000), NewPrometheusRetry(false, time.Second), false, 6, 6 + 30*(1+2+4+8+16)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				var seen []int
				sender := senderFunc(func(_ context.Context, r *Outgoing) Response {
					time.Sleep(time.Millisecond)
					seen = append(seen, r.Attempt)
					if n++; n <= len(tt.answers) {
						return tt.answers[n-1]
					}
					return confirmed(r)
				})
				run := inBubble(t.Context(), t, Config{
					Corpus: corpus, Sender: sender, Timestamps: Shift, Order: OrderSource, MaxInFlight: 8, Timeout: time.Second, Retry: tt.retry,
					Plan: mustPlan(t, PlanConfig{RatePerS: 1, Requests: 1, Objects: len(corpus.Entries())}),
				})
				if (run.Counts.OK == 1) != tt.ok || len(seen) != tt.attempts || int(run.Counts.Retried) != tt.attempts-1 || run.Counts.Sent != 1 {
					t.Errorf("counts %+v, attempts %v", run.Counts, seen)
				}
				for i, a := range seen {
					if a != i {
						t.Errorf("attempts are numbered %v", seen)
						break
					}
				}
				l := run.Latency
				if !tt.ok {
					l = *run.FailedLatency
				}
				near(t, "latency", l.MaxMS, tt.latency, 0.01)
			})
		})
	}
}

// TestInterruptEndsRetries: an interrupted run does not wait out a backoff.
func TestInterruptEndsRetries(t *testing.T) {
	corpus := bundled(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		run := inBubble(ctx, t, Config{
			Corpus: corpus, Timestamps: Shift, Order: OrderSource, MaxInFlight: 8, Timeout: time.Second, Retry: NewPrometheusRetry(false, time.Hour),
			Sender: senderFunc(func(context.Context, *Outgoing) Response { return Response{Status: 503, RetryAfter: time.Hour / 2} }),
			Plan:   mustPlan(t, PlanConfig{RatePerS: 10, Requests: 100, Loop: true, Objects: len(corpus.Entries())}),
		})
		if took := time.Since(begin); took > 2*time.Second || !run.Interrupted {
			t.Errorf("took %v, interrupted %v", took, run.Interrupted)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 20, 21, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, " 3 ": 3 * time.Second, "-1": 0, "soon": 0, "99999999": 24 * time.Hour,
		"Fri, 20 Nov 2026 21:00:10 GMT": 10 * time.Second, "Fri, 20 Nov 2026 20:00:10 GMT": 0,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

// seriesIn decodes a body with Prometheus' own code and returns each series' labels as text.
func seriesIn(t *testing.T, r *Outgoing) (all []string) {
	t.Helper()
	raw, err := remotewrite.Decode(nil, r.Body, 0)
	if err != nil {
		t.Error(err)
		return nil
	}
	if r.Version == remotewrite.V1 {
		var m prompb.WriteRequest
		if err := m.Unmarshal(raw); err != nil {
			t.Error(err)
		}
		for _, ts := range m.Timeseries {
			all = append(all, fmt.Sprint(ts.Labels))
		}
		return all
	}
	var m writev2.Request
	if err := m.Unmarshal(raw); err != nil {
		t.Error(err)
	}
	for _, ts := range m.Timeseries {
		var b strings.Builder
		for _, ref := range ts.LabelsRefs {
			b.WriteString(m.Symbols[ref] + " ")
		}
		all = append(all, b.String())
	}
	return all
}

// TestFanOut: N clusters make N times the sources and N times the distinct series, whatever the protocol, and
// what each body holds is otherwise the same.
func TestFanOut(t *testing.T) {
	corpus := bundled(t)
	objects := len(corpus.Entries())
	count := func(fan int) (sources, series, samples int) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			distinct, from, pairs := map[string]bool{}, map[string]bool{}, map[string]bool{}
			sender := senderFunc(func(_ context.Context, r *Outgoing) Response {
				mu.Lock()
				defer mu.Unlock()
				from[r.Org+"/"+r.Cluster] = true
				captured, _, _ := strings.Cut(r.Cluster, ".r") // two clusters of an org may have equal series as captured
				pairs[r.Org+"/"+captured] = true
				for _, s := range seriesIn(t, r) {
					distinct[r.Org+captured+s] = true
				}
				return confirmed(r)
			})
			run := inBubble(t.Context(), t, Config{
				Corpus: corpus, Sender: sender, Timestamps: Shift, Order: OrderSource, MaxInFlight: 8, Timeout: time.Minute,
				Plan: mustPlan(t, PlanConfig{RatePerS: 1000, FanOut: fan, Objects: objects}),
			})
			if run.Counts.OK != int64(objects*fan) || len(run.Pairs) != len(pairs) {
				t.Errorf("counts %+v, %d pairs", run.Counts, len(run.Pairs))
			}
			sources, series, samples = len(from), len(distinct), int(run.Counts.SamplesSent)
		})
		return sources, series, samples
	}
	sources1, series1, samples1 := count(1)
	sources3, series3, samples3 := count(3)
	if sources3 != 3*sources1 || series3 != 3*series1 || samples3 != 3*samples1 {
		t.Errorf("%d sources, %d series, %d samples; three times as many clusters make %d, %d, %d", sources1, series1, samples1, sources3, series3, samples3)
	}
}

// TestShardsSendThePlan: three shards together send what one process sends.
func TestShardsSendThePlan(t *testing.T) {
	corpus := bundled(t)
	sources, err := Sources(corpus, 2)
	if err != nil {
		t.Fatal(err)
	}
	send := func(shards ...Shard) (sent map[string]int, planned, all int64) {
		sent = map[string]int{}
		for _, shard := range shards {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				begin := time.Now()
				sender := senderFunc(func(_ context.Context, r *Outgoing) Response {
					mu.Lock()
					defer mu.Unlock()
					sent[fmt.Sprint(time.Since(begin).Round(time.Millisecond), r.Org, r.Cluster, r.Samples)]++
					return confirmed(r)
				})
				run := inBubble(t.Context(), t, Config{
					Corpus: corpus, Sender: sender, Timestamps: Keep, Order: OrderSource, MaxInFlight: 8, Timeout: time.Minute,
					Plan: mustPlan(t, PlanConfig{
						RatePerS: 100, Requests: 95, WarmupRequests: 7, FanOut: 2, Loop: true, Objects: len(corpus.Entries()), Sources: sources, Shard: shard,
					}),
				})
				if shard.Total > 1 && (run.Plan.Shard == nil || run.Plan.Shard.PlannedAll != 95) {
					t.Errorf("shard in the run file: %+v", run.Plan.Shard)
				}
				planned += run.Counts.Planned
			})
		}
		return sent, planned, 95
	}
	want, planned, all := send(Shard{})
	if planned != all {
		t.Fatal(planned)
	}
	for _, by := range []ShardBy{BySource, ByRequest} {
		got, planned, _ := send(Shard{0, 3, by}, Shard{1, 3, by}, Shard{2, 3, by})
		if planned != all || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("by %s: planned %d; sent\n%v\nwant\n%v", by, planned, got, want)
		}
	}
}

func TestShardWithoutAnySource(t *testing.T) {
	corpus := bundled(t)
	c := PlanConfig{Concurrency: 1, Duration: time.Hour, Loop: true, Objects: len(corpus.Entries()), Shard: Shard{0, 100_000, BySource}}
	var err error
	if c.Sources, err = Sources(corpus, 1); err != nil {
		t.Fatal(err)
	}
	for _, requests := range []int{0, 50} {
		c.Requests = requests
		_, err := Run(t.Context(), Config{Corpus: corpus, Plan: mustPlan(t, c), Timeout: time.Second, Sender: senderFunc(func(_ context.Context, r *Outgoing) Response { return confirmed(r) })})
		if !errors.Is(err, errNothingOwned) {
			t.Errorf("%d requests: %v", requests, err)
		}
	}
}

// TestFastFailuresStayApart: a tenth of fast 503s does not change what is said of successes.
func TestFastFailuresStayApart(t *testing.T) {
	corpus := bundled(t)
	measure := func(fail bool) *stats.Run {
		var run *stats.Run
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int64
			sender := senderFunc(func(_ context.Context, r *Outgoing) Response {
				i := n.Add(1)
				if fail && i%10 == 0 {
					time.Sleep(10 * time.Microsecond)
					return Response{Status: 503}
				}
				time.Sleep(20 * time.Millisecond)
				return confirmed(r)
			})
			run = inBubble(t.Context(), t, Config{
				Corpus: corpus, Sender: sender, Timestamps: Keep, Order: OrderNone, MaxInFlight: 64, Timeout: time.Minute,
				Plan: mustPlan(t, PlanConfig{RatePerS: 100, Requests: 1000, Loop: true, Objects: len(corpus.Entries())}),
			})
		})
		return run
	}
	without, with := measure(false), measure(true)
	if with.Latency.P50MS != without.Latency.P50MS || with.Latency.MinMS != without.Latency.MinMS || with.Latency.MaxMS != without.Latency.MaxMS {
		t.Errorf("latency of successes %+v, without failures %+v", with.Latency, without.Latency)
	}
	if with.Counts.Failed != 100 || with.FailedLatency.MaxMS > 1 || with.Statuses["503"] != 100 || with.Counts.OK != 900 {
		t.Errorf("counts %+v, failed latency %+v", with.Counts, with.FailedLatency)
	}
}

// TestConstantServer: 70 ms are 70 ms in every number that is one.
func TestConstantServer(t *testing.T) {
	corpus := bundled(t)
	synctest.Test(t, func(t *testing.T) {
		run := inBubble(t.Context(), t, Config{
			Corpus: corpus, Timestamps: Keep, Order: OrderNone, MaxInFlight: 64, Timeout: time.Minute,
			Sender: senderFunc(func(_ context.Context, r *Outgoing) Response { time.Sleep(70 * time.Millisecond); return confirmed(r) }),
			Plan:   mustPlan(t, PlanConfig{RatePerS: 50, Requests: 500, Loop: true, Objects: len(corpus.Entries())}),
		})
		for what, l := range map[string]stats.Latency{"latency": run.Latency, "service": run.Service, "a pair": run.Pairs[0].Latency} {
			near(t, what, l.P50MS, 70, 0.04)
			near(t, what, l.P99999MS, 70, 0.04)
			near(t, what, l.MeanMS, 70, 1e-6)
		}
		near(t, "timeline", run.Timeline[3].P99MS, 70, 0.04)
		judged := Judge(mustObjectives(t, "p99<70.5ms,p99>69.5ms,p50<0.07s,error_ratio<=0,rate>49,max<70ms"), run)
		for i, want := range []bool{true, true, false, true, true, false} {
			if judged[i].Met != want {
				t.Errorf("%+v, want met %v", judged[i], want)
			}
		}
	})
}

func mustObjectives(t *testing.T, s string) []Objective {
	t.Helper()
	o, err := ParseObjectives(s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestObjectives(t *testing.T) {
	run := &stats.Run{Latency: stats.Latency{Count: 10, P99MS: 250}, Counts: stats.Counts{Sent: 1000, OK: 999, Failed: 1}, Achieved: stats.Achieved{RatePerS: 99.5}}
	for s, want := range map[string]bool{
		"p99<250ms": false, "p99<=250ms": true, "p99 < 0.2501s": true, "error_ratio<0.1%": false, "error_ratio<=0.1%": true, "error_ratio<0.002": true, "rate>=99.5": true,
	} {
		if got := Judge(mustObjectives(t, s), run); len(got) != 1 || got[0].Met != want {
			t.Errorf("%s: %+v, want %v", s, got, want)
		}
	}
	for _, s := range []string{"p99<1h", "max<1h", "p99>0s", "error_ratio<=1"} {
		if got := Judge(mustObjectives(t, s), &stats.Run{}); got[0].Met {
			t.Errorf("%s is met by a run that measured nothing", s)
		}
	}
	for _, bad := range []string{"", "p99", "p99=1ms", "p98<1ms", "p99<250", "p99<-1ms", "error_ratio<x", "error_ratio<NaN", "rate>Inf", "p99<1ms,"} {
		if _, err := ParseObjectives(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}
