package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/prompb"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// execute runs c on the real clock; workers keeps it off the loop.
func execute(ctx context.Context, t *testing.T, c Config, workers bool) (*stats.Run, error) {
	t.Helper()
	e, err := newEngine(c)
	if err != nil {
		t.Fatal(err)
	}
	e.noLoop = workers
	res, err := e.run(ctx)
	if err != nil {
		return nil, err
	}
	var run stats.Run
	if err := res.Fill(&run, c, stats.Target{URL: "test", Kind: "http"}); err != nil {
		t.Fatal(err)
	}
	return &run, nil
}

// bothWays are the loop, where there is one, and workers.
func bothWays() map[string]bool { return map[string]bool{"loop": false, "workers": true} }

func serveFunc(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	return srv.URL
}

func noContent(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusNoContent)
}

// oneObject is a corpus of one body of that many bytes, near enough, sent with protocol 1.0.
func oneObject(t *testing.T, size int) *capture.Corpus {
	t.Helper()
	return objects(t, size)
}

// objects is a corpus of such bodies of one source.
func objects(t *testing.T, sizes ...int) *capture.Corpus {
	t.Helper()
	mem := store.NewMemory()
	for _, size := range sizes {
		body, entry := syntheticBody(t, size)
		if _, err := mem.Put(t.Context(), entry, body); err != nil {
			t.Fatal(err)
		}
	}
	c, err := capture.Load(t.Context(), mem, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// syntheticBody is a request of one sample whose compressed body has about size bytes, and the key it is stored under.
func syntheticBody(t *testing.T, size int) (body []byte, key string) {
	t.Helper()
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	noise := make([]byte, max(size-100, 1))
	for i := range noise {
		noise[i] = '!' + byte(rng.IntN(90))
	}
	var req prompb.WriteRequest
	labels := []prompb.Label{{Name: "__name__", Value: "up"}}
	for i := 0; len(noise) > 0; i++ {
		n := min(len(noise), 1000)
		labels = append(labels, prompb.Label{Name: fmt.Sprintf("l%04d", i), Value: string(noise[:n])})
		noise = noise[n:]
	}
	req.Timeseries = []prompb.TimeSeries{{Labels: labels, Samples: []prompb.Sample{{Value: 1, Timestamp: at.UnixMilli()}}}}
	raw, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	body = snappy.Encode(nil, raw)
	return body, capture.NewKey("acme", "eu-1", remotewrite.V1, at, body).String()
}

// TestLoopAgreesWithNetHTTP runs three requests against every scripted server, once through the loop and once through
// workers and net/http, and compares what the run files say.
func TestLoopAgreesWithNetHTTP(t *testing.T) {
	small, large := oneObject(t, 300), oneObject(t, 100_000)
	for _, s := range scripts() {
		for name, corpus := range map[string]*capture.Corpus{"small": small, "large": large} {
			t.Run(s.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				see := func(workers bool) string {
					url, conns := s.listen(t)
					c := Config{
						Corpus: corpus, Timestamps: Keep, Order: OrderNone, MaxInFlight: 1, Timeout: 20 * time.Second,
						// By the next request a server that closes has closed, on a busy machine too.
						Plan: mustPlan(t, PlanConfig{RatePerS: 10, Requests: 3, Loop: true, Objects: 1}),
					}
					if workers {
						c.Sender = newSender(t, HTTPConfig{URL: url, MaxInFlight: 1})
					} else {
						c.Sender = newRaw(t, HTTPConfig{URL: url})
					}
					run, err := execute(t.Context(), t, c, workers)
					if err != nil {
						t.Fatal(err)
					}
					classes := make([]string, 0, len(run.Errors))
					for _, e := range run.Errors {
						class := e.Class
						if s.cut {
							class = strings.Replace(class, "network", "connection_lost", 1)
						}
						example := ""
						if strings.HasPrefix(class, "http_") {
							example = e.Example
						}
						classes = append(classes, fmt.Sprintf("%s × %d %s", class, e.Count, example))
					}
					c2 := run.Counts
					return fmt.Sprintf("sent %d ok %d failed %d timed out %d written %d statuses %v errors %v connections %d",
						c2.Sent, c2.OK, c2.Failed, c2.TimedOut, c2.SamplesWritten, run.Statuses, classes, conns.Load())
				}
				got := see(false)
				if s.early && name == "large" {
					// Whether the answer or the reset comes first is the kernel's affair.
					if !strings.Contains(got, "ok 0 failed 3") {
						t.Errorf("early refusal seen as %s", got)
					}
					return
				}
				if diff := cmp.Diff(see(true), got); diff != "" {
					t.Errorf("-net/http +loop:\n%s", diff)
				}
			})
		}
	}
}

// TestOrderOfSources: a server counts the requests of a source that overlap or come out of order; with 64 in flight and
// order kept there are none. Without it there are, so the server does look.
func TestOrderOfSources(t *testing.T) {
	corpus := bundled(t)
	for _, order := range []Order{OrderSource, OrderNone} {
		for way, workers := range bothWays() {
			t.Run(way, func(t *testing.T) {
				var mu sync.Mutex
				inFlight, newest := map[string]int{}, map[string]int64{}
				var overlaps, reordered, most, now int
				url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
					source := r.Header.Get("X-Scope-OrgID") + "/" + r.URL.Query().Get("cluster_name")
					body, _ := io.ReadAll(r.Body)
					at := newestSample(t, r, body)
					mu.Lock()
					now++
					most = max(most, now)
					if inFlight[source]++; inFlight[source] > 1 {
						overlaps++
					}
					if at > 0 && at < newest[source] {
						reordered++
					}
					newest[source] = max(newest[source], at)
					mu.Unlock()
					time.Sleep(20 * time.Millisecond)
					mu.Lock()
					inFlight[source]--
					now--
					mu.Unlock()
					w.WriteHeader(http.StatusNoContent)
				})
				const requests = 600
				run, err := execute(t.Context(), t, Config{
					Corpus: corpus, Timestamps: Now, Order: order, Timeout: time.Minute, FanOutLabel: "cluster",
					Sender: newRaw(t, HTTPConfig{URL: url}),
					Plan:   mustPlan(t, PlanConfig{Concurrency: 64, Requests: requests, Loop: true, Objects: len(corpus.Entries()), FanOut: 20}),
				}, workers)
				if err != nil {
					t.Fatal(err)
				}
				if run.Counts.OK != requests || most > 64 || most < 2 {
					t.Errorf("%+v, %d in flight at most", run.Counts, most)
				}
				if broken := overlaps + reordered; (broken > 0) != (order == OrderNone) {
					t.Errorf("order %s: %d overlaps, %d out of order", order, overlaps, reordered)
				}
			})
		}
	}
}

func newestSample(t *testing.T, r *http.Request, body []byte) int64 {
	t.Helper()
	v := remotewrite.V1
	if strings.Contains(r.Header.Get("Content-Type"), "v2") {
		v = remotewrite.V2
	}
	raw, err := remotewrite.Decode(nil, body, 1<<26)
	if err != nil {
		t.Error(err)
		return 0
	}
	var w remotewrite.Walker
	sum, err := w.Walk(v, raw, remotewrite.Limits{FutureTolerance: time.Hour}, time.Now())
	if err != nil {
		t.Error(err)
	}
	if !sum.HasTimestamp {
		return 0
	}
	return sum.MaxTimestampMS
}

// raise makes most at least n.
func raise(most *atomic.Int64, n int64) {
	for m := most.Load(); n > m; m = most.Load() {
		if most.CompareAndSwap(m, n) {
			return
		}
	}
}

// TestConnections: 10,000 requests need no more connections than may be in flight, and no more are in flight.
func TestConnections(t *testing.T) {
	corpus := oneObject(t, 300)
	for name, newSender := range map[string]func(url string) Sender{
		"raw":      func(url string) Sender { return newRaw(t, HTTPConfig{URL: url}) },
		"net/http": func(url string) Sender { return newSender(t, HTTPConfig{URL: url, MaxInFlight: 8}) },
	} {
		for _, p := range []PlanConfig{{Concurrency: 8}, {RatePerS: 20_000}} {
			t.Run(name, func(t *testing.T) {
				var conns, now, most atomic.Int64
				srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					raise(&most, now.Add(1))
					noContent(w, r)
					now.Add(-1)
				}))
				srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
					if s == http.StateNew {
						conns.Add(1)
					}
				}
				srv.Start()
				defer srv.Close()
				p.Requests, p.Loop, p.Objects = 10_000, true, 1
				run, err := execute(t.Context(), t, Config{
					Corpus: corpus, Timestamps: Keep, Order: OrderNone, MaxInFlight: 8, Timeout: time.Minute,
					Sender: newSender(srv.URL), Plan: mustPlan(t, p),
				}, false)
				if err != nil {
					t.Fatal(err)
				}
				limit := int64(8)
				if name != "raw" {
					limit = 80 // net/http gives one up now and then, when an answer overtakes the end of its request's writing
				}
				if run.Counts.OK != 10_000 || conns.Load() > limit || most.Load() > 8 {
					t.Errorf("%+v over %d connections, %d at a time", run.Counts, conns.Load(), most.Load())
				}
			})
		}
	}
}

// TestLoopRetries: a request is sent again until it succeeds, says so in a header, and counts once.
func TestLoopRetries(t *testing.T) {
	corpus := oneObject(t, 300)
	for way, workers := range bothWays() {
		t.Run(way, func(t *testing.T) {
			var attempts [3]atomic.Int64
			url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				n, _ := strconv.Atoi(r.Header.Get("Retry-Attempt"))
				attempts[n].Add(1)
				if n < 2 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				w.WriteHeader(http.StatusNoContent)
			})
			run, err := execute(t.Context(), t, Config{
				Corpus: corpus, Timestamps: Keep, Order: OrderNone, Timeout: time.Minute,
				Retry:  Retry{Min: time.Millisecond, Max: 2 * time.Millisecond, For: time.Minute},
				Sender: newRaw(t, HTTPConfig{URL: url}),
				Plan:   mustPlan(t, PlanConfig{Concurrency: 4, Requests: 20, Loop: true, Objects: 1}),
			}, workers)
			if err != nil {
				t.Fatal(err)
			}
			if c := run.Counts; c.OK != 20 || c.Retried != 40 || attempts[0].Load() != 20 || attempts[2].Load() != 20 {
				t.Errorf("%+v, attempts %d %d %d", c, attempts[0].Load(), attempts[1].Load(), attempts[2].Load())
			}
		})
	}
}

// hanging is a server that reads requests and never answers; count says how many came.
func hanging(t *testing.T) (url string, count *atomic.Int64) {
	t.Helper()
	count = new(atomic.Int64)
	quit := make(chan struct{})
	url = serveFunc(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		count.Add(1)
		select {
		case <-quit:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(quit) }) // before the server waits for its handlers
	return url, count
}

// TestDrain: behind a target that never answers, requests that wait for their source's turn are not started for ever:
// what is left counts as not sent, and the run is invalid because its worst latencies are missing.
func TestDrain(t *testing.T) {
	corpus := oneObject(t, 300)
	for way, workers := range bothWays() {
		t.Run(way, func(t *testing.T) {
			url, _ := hanging(t)
			run, err := execute(t.Context(), t, Config{
				Corpus: corpus, Timestamps: Keep, Order: OrderSource, MaxInFlight: 4, Timeout: 100 * time.Millisecond, DrainTimeout: 50 * time.Millisecond,
				Sender: newRaw(t, HTTPConfig{URL: url}),
				Plan:   mustPlan(t, PlanConfig{RatePerS: 1e5, Requests: 1000, Loop: true, Objects: 1}),
			}, workers)
			if err != nil {
				t.Fatal(err)
			}
			c := run.Counts
			if c.Planned != 1000 || c.TimedOut == 0 || c.TimedOut != c.Sent || c.NotSent < 900 || run.Interrupted {
				t.Errorf("%+v, interrupted %v", c, run.Interrupted)
			}
			if run.Client.Verdict != "invalid" || !strings.Contains(strings.Join(run.Client.Reasons, "; "), "not sent") {
				t.Errorf("client %+v", run.Client)
			}
		})
	}
}

// TestTimedOutMakesRoom: what waits behind a request that ran out of time is sent when that has ended, though nothing
// else happens: in a closed loop what waits for a slot, in an open one what waits for its source's turn when the last was due.
func TestTimedOutMakesRoom(t *testing.T) {
	corpus := oneObject(t, 300)
	for _, p := range []PlanConfig{{Concurrency: 1}, {Concurrency: 2}, {RatePerS: 1000}} {
		for way, workers := range bothWays() {
			t.Run(way, func(t *testing.T) {
				// A run that would sleep for ever is interrupted, and says so.
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				url, _ := hanging(t)
				p.Requests, p.Loop, p.Objects = 4, true, 1
				run, err := execute(ctx, t, Config{
					Corpus: corpus, Timestamps: Keep, Order: OrderSource, MaxInFlight: 4, Timeout: 50 * time.Millisecond,
					Sender: newRaw(t, HTTPConfig{URL: url}), Plan: mustPlan(t, p),
				}, workers)
				if err != nil {
					t.Fatal(err)
				}
				if c := run.Counts; run.Interrupted || c.Sent != 4 || c.TimedOut != 4 || c.NotSent != 0 {
					t.Errorf("%+v: %+v, interrupted %v", p, c, run.Interrupted)
				}
			})
		}
	}
}

// TestClosedLoopWaitsForItsSources: the drain timeout is for what is late. In a closed loop nothing is due, and what
// waits behind a source of one request at a time is sent.
func TestClosedLoopWaitsForItsSources(t *testing.T) {
	corpus := oneObject(t, 300)
	for way, workers := range bothWays() {
		t.Run(way, func(t *testing.T) {
			url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(2 * time.Millisecond)
				noContent(w, r)
			})
			run, err := execute(t.Context(), t, Config{
				Corpus: corpus, Timestamps: Keep, Order: OrderSource, Timeout: time.Minute, DrainTimeout: time.Nanosecond,
				Sender: newRaw(t, HTTPConfig{URL: url}), Plan: mustPlan(t, PlanConfig{Concurrency: 4, Requests: 50, Loop: true, Objects: 1}),
			}, workers)
			if err != nil {
				t.Fatal(err)
			}
			if c := run.Counts; c.OK != 50 || c.NotSent != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestInterruptBeforeTheStart: a run that is interrupted before it begins leaves a result that can be read.
func TestInterruptBeforeTheStart(t *testing.T) {
	corpus := oneObject(t, 300)
	for _, p := range []PlanConfig{{RatePerS: 10}, {Concurrency: 2}} {
		for way, workers := range bothWays() {
			t.Run(way, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				url, count := hanging(t)
				p.Requests, p.Loop, p.Objects = 4, true, 1
				run, err := execute(ctx, t, Config{
					Corpus: corpus, Timestamps: Keep, Order: OrderSource, MaxInFlight: 4, Timeout: time.Minute, StartAt: time.Now().Add(time.Hour),
					Sender: newRaw(t, HTTPConfig{URL: url}), Plan: mustPlan(t, p),
				}, workers) // checks the file
				if err != nil {
					t.Fatal(err)
				}
				if c := run.Counts; !run.Interrupted || c.Sent != 0 || c.NotSent != 4 || count.Load() != 0 || run.FinishedAt.Before(run.StartedAt) {
					t.Errorf("%+v, interrupted %v, from %v to %v", c, run.Interrupted, run.StartedAt, run.FinishedAt)
				}
			})
		}
	}
}

// TestSecretsAreMasked also where only the beginning of one is left of a message that was cut.
func TestSecretsAreMasked(t *testing.T) {
	const secret = "canary-0123456789abcdefghijklmnop"
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"nothing to hide", "nothing to hide"},
		{"key " + secret + " is wrong, " + secret, "key [masked] is wrong, [masked]"},
		{"key " + secret[:len(secret)-1], "key [masked]"},
		{"key " + secret[:4], "key [masked]"},
		{"key " + secret[:3], "key " + secret[:3]},
		{secret[:10], "[masked]"},
		{secret[:10] + " is not the end", secret[:10] + " is not the end"},
	} {
		if got := mask(tt.in, secret); got != tt.want {
			t.Errorf("%q is masked as %q, want %q", tt.in, got, tt.want)
		}
	}
	url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, strings.Repeat("x", maxMessage-20)+r.Header.Get("X-Api-Key"))
	})
	for way, workers := range bothWays() {
		run, err := execute(t.Context(), t, Config{
			Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderSource, Timeout: time.Minute, Secrets: []string{secret},
			Sender: newRaw(t, HTTPConfig{URL: url, Header: map[string]string{"X-Api-Key": secret}}),
			Plan:   mustPlan(t, PlanConfig{Concurrency: 1, Requests: 1, Loop: true, Objects: 1}),
		}, workers)
		if err != nil {
			t.Fatal(err)
		}
		if len(run.Errors) != 1 || strings.Contains(run.Errors[0].Example, secret[:4]) || !strings.HasSuffix(run.Errors[0].Example, "[masked]") {
			t.Errorf("%s: %+v", way, run.Errors)
		}
	}
}

// TestBytesBehindAnAnswer: what a server sends behind its answer, unasked, is not taken for the next one, also when the
// answer ends exactly where a read does.
func TestBytesBehindAnAnswer(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the loop needs Linux")
	}
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 4055\r\n\r\n"
	answer := head + strings.Repeat("b", 4055)
	if n := len(new(answerReader).space()); n != len(answer) {
		t.Fatalf("the first read is of %d bytes and the answer has %d", n, len(answer))
	}
	stale := answer + "HTTP/1.1 503 Stale\r\nContent-Length: 0\r\n\r\n"
	url, _ := script{steps: []string{stale, stale, stale, stale}}.listen(t)
	run, err := execute(t.Context(), t, Config{
		Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderSource, Timeout: time.Minute, Sender: newRaw(t, HTTPConfig{URL: url}),
		Plan: mustPlan(t, PlanConfig{Concurrency: 1, Requests: 4, Loop: true, Objects: 1}),
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	if run.Counts.OK != 4 {
		t.Errorf("%+v %+v", run.Counts, run.Errors)
	}
}

// TestFirstOfAClosedLoop: each of the first requests, which go out one behind the other, is timed from its own start.
func TestFirstOfAClosedLoop(t *testing.T) {
	url := serveFunc(t, noContent)
	var mu sync.Mutex
	starts := map[time.Duration]bool{}
	_, err := execute(t.Context(), t, Config{
		Corpus: oneObject(t, 300), Timestamps: Keep, Order: OrderNone, Timeout: time.Minute, Sender: newRaw(t, HTTPConfig{URL: url}),
		Plan: mustPlan(t, PlanConfig{Concurrency: 50, Requests: 50, Loop: true, Objects: 1}),
		Observe: func(_ int, o *stats.Observation) {
			mu.Lock()
			defer mu.Unlock()
			starts[o.Started] = true
		},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(starts) < 25 {
		t.Errorf("50 requests were started at %d moments", len(starts))
	}
}

// TestProgressLosesNothing: however often somebody looks, the last look has what the run file has.
func TestProgressLosesNothing(t *testing.T) {
	corpus := oneObject(t, 300)
	for way, workers := range bothWays() {
		url := serveFunc(t, noContent)
		var last Progress
		run, err := execute(t.Context(), t, Config{
			Corpus: corpus, Timestamps: Keep, Order: OrderNone, Timeout: time.Minute, Sender: newRaw(t, HTTPConfig{URL: url}),
			Plan:     mustPlan(t, PlanConfig{Concurrency: 4, Requests: 2000, Loop: true, Objects: 1}),
			Progress: func(p Progress) { last = p }, Interval: time.Millisecond,
		}, workers)
		if err != nil {
			t.Fatal(err)
		}
		l := run.Latency
		got := []float64{ms(last.P50), ms(last.P90), ms(last.P99), ms(last.P999), ms(last.Max)}
		for i, want := range []float64{l.P50MS, l.P90MS, l.P99MS, l.P999MS, l.MaxMS} {
			near(t, fmt.Sprintf("%s: percentile %d", way, i), got[i], want, 1e-5)
		}
		if !last.Final || last.OK != 2000 || l.Count != 2000 {
			t.Errorf("%s: %+v", way, last)
		}
	}
}

// TestLoopInterrupt: an interrupt starts nothing more, gives up waiting for further attempts, waits for what is in
// flight, and the counts add up.
func TestLoopInterrupt(t *testing.T) {
	corpus := oneObject(t, 300)
	for _, p := range []PlanConfig{{RatePerS: 10_000, Requests: 1000}, {Concurrency: 4, Requests: 1000}, {Concurrency: 4, Duration: time.Hour}} {
		for _, retry := range []Retry{{}, {Min: time.Hour, Max: time.Hour, For: 24 * time.Hour}} {
			for way, workers := range bothWays() {
				t.Run(way, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					var count atomic.Int64
					answer := make(chan struct{})
					url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
						_, _ = io.Copy(io.Discard, r.Body)
						if count.Add(1) == 4 {
							cancel()
							time.AfterFunc(20*time.Millisecond, func() { close(answer) })
						}
						if retry.For == 0 {
							<-answer
						}
						w.WriteHeader(http.StatusServiceUnavailable)
					})
					p.Loop, p.Objects = true, 1
					run, err := execute(ctx, t, Config{
						Corpus: corpus, Timestamps: Keep, Order: OrderNone, MaxInFlight: 4, Timeout: time.Minute, Retry: retry,
						Sender: newRaw(t, HTTPConfig{URL: url}), Plan: mustPlan(t, p),
					}, workers)
					if err != nil {
						t.Fatal(err)
					}
					if c := run.Counts; !run.Interrupted || c.Sent != 4 || c.Failed != 4 || count.Load() != 4 || c.Planned != c.Sent+c.NotSent {
						t.Errorf("%+v, interrupted %v, %d seen", c, run.Interrupted, count.Load())
					}
				})
			}
		}
	}
}

// TestLoopOverUnixSocket, and to where nobody listens.
func TestLoopOverUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(noContent), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	defer func() { _ = srv.Close(); <-done; _ = os.Remove(path) }()
	for _, tt := range []struct {
		c     HTTPConfig
		ok    int64
		class string
	}{
		{HTTPConfig{URL: "http://somewhere/", UnixSocket: path}, 100, ""},
		{HTTPConfig{URL: "http://somewhere/", UnixSocket: path + "x"}, 0, "network"},
		{HTTPConfig{URL: "http://127.0.0.1:1/"}, 0, "connection_refused"},
	} {
		run, err := execute(t.Context(), t, Config{
			Corpus: oneObject(t, 200_000), Timestamps: Keep, Order: OrderNone, Timeout: time.Minute,
			Sender: newRaw(t, tt.c), Plan: mustPlan(t, PlanConfig{Concurrency: 3, Requests: 100, Loop: true, Objects: 1}),
		}, false)
		if err != nil {
			t.Fatal(err)
		}
		if run.Counts.OK != tt.ok || run.Counts.Sent != 100 || (tt.class != "" && (len(run.Errors) != 1 || run.Errors[0].Class != tt.class)) {
			t.Errorf("%+v %+v, want %d ok, errors %q", run.Counts, run.Errors, tt.ok, tt.class)
		}
	}
}

// TestLoopUnreadableBody: a body that cannot be prepared ends the run with its name, also when the loop waits for it.
func TestLoopUnreadableBody(t *testing.T) {
	mem := store.NewMemory()
	body, key := syntheticBody(t, 300)
	if _, err := mem.Put(t.Context(), key, body); err != nil {
		t.Fatal(err)
	}
	faulty := &vanishing{Store: mem}
	corpus, err := capture.Load(t.Context(), faulty, capture.Options{MemoryBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	faulty.gone.Store(true)
	url := serveFunc(t, noContent)
	for _, p := range []PlanConfig{{RatePerS: 1000}, {Concurrency: 2}} {
		p.Requests, p.Loop, p.Objects = 100, true, 1
		_, err := execute(t.Context(), t, Config{
			Corpus: corpus, Timestamps: Shift, Order: OrderSource, MaxInFlight: 4, Timeout: time.Second,
			Sender: newRaw(t, HTTPConfig{URL: url}), Plan: mustPlan(t, p),
		}, false)
		if err == nil || !strings.Contains(err.Error(), "org=") || !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v, want an error that names the object and wraps ErrNotFound", err)
		}
	}
}

// TestLoopWarmup: the warm-up comes first and whole and is recorded apart; a closed loop's duration counts from its end.
func TestLoopWarmup(t *testing.T) {
	corpus := oneObject(t, 300)
	url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Millisecond)
		noContent(w, r)
	})
	for _, p := range []PlanConfig{
		{RatePerS: 2000, Requests: 50}, {Concurrency: 3, Requests: 50}, {Concurrency: 3, Duration: 50 * time.Millisecond},
	} {
		p.WarmupRequests, p.Loop, p.Objects = 20, true, 1
		run, err := execute(t.Context(), t, Config{
			Corpus: corpus, Timestamps: Shift, Order: OrderNone, MaxInFlight: 8, Timeout: time.Minute,
			Sender: newRaw(t, HTTPConfig{URL: url}), Plan: mustPlan(t, p),
		}, false)
		if err != nil {
			t.Fatal(err)
		}
		c := run.Counts
		if c.Warmup != 20 || c.OK != c.Sent || c.NotSent != 0 || (p.Requests > 0 && c.Sent != 50) || c.Sent == 0 {
			t.Errorf("%+v: %+v", p, c)
		}
		if run.WarmupLatency == nil || run.WarmupLatency.Count != 20 {
			t.Errorf("%+v: warm-up %+v", p, run.WarmupLatency)
		}
	}
}

// TestSteadyStateAllocatesNothing: a run of 60,000 requests allocates hardly more than one of 20,000.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	if runtime.GOOS != "linux" {
		t.Skip("the loop needs Linux")
	}
	corpus := oneObject(t, 5000)
	sink, err := NewSink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	}()
	mallocs := func(requests int) uint64 {
		e, err := newEngine(Config{
			Corpus: corpus, Timestamps: Keep, Order: OrderNone, Timeout: time.Minute, Sender: newRaw(t, HTTPConfig{URL: sink.URL()}),
			Plan: mustPlan(t, PlanConfig{Concurrency: 16, Requests: requests, Loop: true, Objects: 1}),
		})
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		res, err := e.run(t.Context())
		runtime.ReadMemStats(&after)
		if err != nil || res.Recorder.Counts().OK != int64(requests) {
			t.Fatal(err, res)
		}
		return after.Mallocs - before.Mallocs
	}
	few, many := mallocs(20_000), mallocs(60_000)
	// New buckets of the packed histograms come to some thousands on a machine whose latencies vary much.
	if per := (float64(many) - float64(few)) / 40_000; per > 0.2 {
		t.Errorf("%d allocations for 20,000 requests, %d for 60,000: %.3f a request", few, many, per)
	}
}
