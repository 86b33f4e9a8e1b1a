package collector

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

// TestBatch: what comes within the age of a batch goes out as one request of 2.0, a
// quarter of its size, with the org and the cluster of its sender.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &receiver{}, spool.Options{}, nil)
		r.run()
		var wire int
		for i := range 13 {
			body := shifted(t, "v1-prom242-500samples-plain", int64(i)*5000)
			wire += len(body)
			r.mustPost(prod, remotewrite.V1, body)
			time.Sleep(4 * time.Second)
		}
		time.Sleep(7 * time.Second)
		if n := len(r.recv.tried()); n != 0 {
			t.Fatalf("%d requests before the batch is a minute old", n)
		}
		time.Sleep(2 * time.Second)
		r.check()
		if len(r.recv.kept()) != 1 {
			t.Fatalf("%d requests, want 1", len(r.recv.kept()))
		}
		got := r.recv.kept()[0]
		if got.version != remotewrite.V2 || got.org != "alfa" || got.cluster != "prod" {
			t.Errorf("version %v, org %q, cluster %q", got.version, got.org, got.cluster)
		}
		if len(got.body) > wire/4 {
			t.Errorf("%d bytes of %d, more than a quarter", len(got.body), wire)
		}
		if s := r.f.Stats(); s.Records != 13 || s.Requests != 1 || s.Samples != 13*500 || s.SentBytes != int64(len(got.body)) || s.ReceivedBytes != int64(wire) {
			t.Errorf("%+v", s)
		}
		if s := r.q.Stats(); s.Pending.Records != 0 {
			t.Errorf("pending %+v", s.Pending)
		}
	})
}

// TestCaptures: what real senders send arrives bit by bit, merged with other requests and
// alone, in both versions.
func TestCaptures(t *testing.T) {
	names := []string{
		"v1-prom242-500samples-plain", "v1-prom242-exemplars-nativehist", "v1-prom3-int-and-float-hist", "v1-vmagent-3000series-unsorted-labels",
		"v2-prom3-2000samples-plain", "v2-prom3-exemplars-hist-nhcb-startts", "v2-prom3-stale-markers", "v2-prom3-type-unit-metadata", "v1-prom242-metadata-only",
	}
	for _, protocol := range []remotewrite.Version{0, remotewrite.V1, remotewrite.V2} {
		t.Run(fmt.Sprintf("protocol %d", protocol), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, &receiver{}, spool.Options{}, func(c *Config) { c.Protocol = protocol })
				for _, name := range names {
					r.mustPost(prod, remotewrite.Version(name[1]-'0'), capture(t, name))
				}
				alone := capture(t, names[6])
				r.mustPost(spool.Lane{Org: "bravo", Cluster: "default"}, remotewrite.V2, alone)
				r.drain()
				want, got := r.sent, r.recv.content()
				// Metadata moves between series and entries of its own: TestMetadata.
				isMetadata := func(l string) bool { return strings.HasPrefix(l, "metadata ") }
				want, got = slices.DeleteFunc(want, isMetadata), slices.DeleteFunc(got, isMetadata)
				slices.Sort(want)
				if lost := minus(want, got); len(lost) > 0 || len(minus(got, want)) > 0 {
					t.Errorf("lost %d, too many %d, such as %.1q", len(lost), len(minus(got, want)), lost)
				}
				for _, s := range r.recv.kept() {
					if s.org == "bravo" && protocol == 0 && !bytes.Equal(s.body, alone) {
						t.Error("a request that is alone is not sent as it came")
					}
					if protocol != 0 && s.version != protocol && !strings.HasPrefix(s.lines[0], "metadata") {
						t.Errorf("sent version %v", s.version)
					}
				}
			})
		})
	}
}

// TestMetadata: metadata of 1.0 goes with the series that it belongs to, and only what
// belongs to none is a request more.
func TestMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		families := func(names ...string) []byte {
			var req prompb.WriteRequest
			for _, name := range names {
				req.Metadata = append(req.Metadata, prompb.MetricMetadata{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: name, Help: "Help of " + name})
			}
			b, err := req.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			return remotewrite.Encode(nil, b)
		}
		r := newRig(t, &receiver{}, spool.Options{}, nil)
		r.mustPost(prod, remotewrite.V1, samples(t, 5, epoch, 0))
		r.mustPost(prod, remotewrite.V1, families("requests"))
		r.drain()
		if got := r.recv.kept(); len(got) != 1 || got[0].version != remotewrite.V2 {
			t.Fatalf("%d requests", len(got))
		}
		b, err := remotewrite.Decode(nil, r.recv.kept()[0].body, 1<<20)
		var req writev2.Request
		if err == nil {
			err = req.Unmarshal(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		if m := req.Timeseries[0].Metadata; m.Type != writev2.Metadata_METRIC_TYPE_COUNTER || req.Symbols[m.HelpRef] != "Help of requests" {
			t.Errorf("%+v", m)
		}
		// One that has no series here.
		r.mustPost(prod, remotewrite.V1, samples(t, 5, epoch+1000, 10))
		r.mustPost(prod, remotewrite.V1, families("other", "requests_total", "third"))
		r.drain()
		got := r.recv.kept()[1:]
		if len(got) != 2 || got[1].version != remotewrite.V1 || !slices.Equal(got[1].lines, []string{`metadata other COUNTER "Help of other"`, `metadata third COUNTER "Help of third"`}) {
			t.Errorf("%+v", got)
		}
	})
}

// TestAnswers: every answer that is not the end of a batch keeps it, and it comes again
// as the same bytes.
func TestAnswers(t *testing.T) {
	type answers = func(n int, r *request) *reply
	first := func(n int, resp func() *reply) answers {
		return func(i int, _ *request) *reply {
			if i < n {
				return resp()
			}
			return nil
		}
	}
	code := func(c int, header ...string) func() *reply {
		return func() *reply { return status(c, "text", header...) }
	}
	for _, tt := range []struct {
		name      string
		answer    answers
		low, high time.Duration // when the second attempt comes
		reason    string
	}{
		{"network", first(1, broken), time.Millisecond, 1100 * time.Millisecond, "network"},
		{"408", first(1, code(408)), time.Millisecond, 1100 * time.Millisecond, "408"},
		{"425", first(1, code(425)), time.Millisecond, 1100 * time.Millisecond, "425"},
		{"429", first(1, code(429)), time.Millisecond, 1100 * time.Millisecond, "429"},
		{"500", first(1, code(500)), time.Millisecond, 1100 * time.Millisecond, "500"},
		{"503", first(1, code(503)), time.Millisecond, 1100 * time.Millisecond, "503"},
		{"507", first(1, code(507)), time.Millisecond, 1100 * time.Millisecond, "507"},
		{"401", first(1, code(401)), time.Millisecond, 1100 * time.Millisecond, "401"},
		{"403", first(1, code(403)), time.Millisecond, 1100 * time.Millisecond, "403"},
		{"404", first(1, code(404)), time.Millisecond, 1100 * time.Millisecond, "404"},
		{"409, in no list", first(1, code(409)), time.Millisecond, 1100 * time.Millisecond, "409"},
		{"a redirect is not followed", first(1, code(301, "Location", "http://other/")), time.Millisecond, 1100 * time.Millisecond, "301"},
		{"Retry-After in seconds", first(1, code(503, "Retry-After", "17")), 17 * time.Second, 18100 * time.Millisecond, "503"},
		{"Retry-After on 429", first(1, code(429, "Retry-After", "17")), 17 * time.Second, 18100 * time.Millisecond, "429"},
		{"Retry-After as a date", first(1, func() *reply {
			return status(503, "", "Retry-After", time.Now().Add(31*time.Second).UTC().Format(http.TimeFormat))
		}), 30 * time.Second, 32100 * time.Millisecond, "503"},
		{"Retry-After of an hour", first(1, code(503, "Retry-After", "3600")), 5 * time.Minute, 5*time.Minute + 1100*time.Millisecond, "503"},
		{"Retry-After that is none", first(1, code(503, "Retry-After", "soon")), time.Millisecond, 1100 * time.Millisecond, "503"},
		{"no answer in time", func(n int, _ *request) *reply {
			if n == 0 {
				time.Sleep(time.Minute)
			}
			return nil
		}, time.Minute, 62 * time.Second, "timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, &receiver{answer: tt.answer}, spool.Options{}, nil)
				for i := range 3 {
					r.mustPost(prod, remotewrite.V1, samples(t, 5, epoch+int64(i), float64(10*i)))
				}
				r.drain()
				r.check()
				if len(r.recv.tried()) != 2 || !equalBodies(r.recv.tried()) {
					t.Fatalf("%d attempts", len(r.recv.tried()))
				}
				if d := r.recv.tried()[1].at.Sub(r.recv.tried()[0].at); d < tt.low || d > tt.high {
					t.Errorf("the second attempt came after %v, want %v to %v", d, tt.low, tt.high)
				}
				if n := r.recv.tried()[1].header.Get("Retry-Attempt"); n != "1" {
					t.Errorf("Retry-Attempt %q", n)
				}
				if s := r.f.Stats(); s.Failures[tt.reason] != 1 || s.Attempts != 2 || s.Requests != 1 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestBackoff: the waits grow to a minute, are random, and never longer.
func TestBackoff(t *testing.T) {
	for n := 1; n < 100; n++ {
		limit := min(time.Second<<min(n-1, 10), time.Minute)
		seen := map[time.Duration]bool{}
		for range 100 {
			d := backoff(n, 0)
			if d <= 0 || d > limit+time.Millisecond {
				t.Fatalf("failure %d: %v, limit %v", n, d, limit)
			}
			seen[d] = true
		}
		if len(seen) < 50 {
			t.Errorf("failure %d: %d different waits of 100", n, len(seen))
		}
	}
}

// TestOutage is test (d): the receiver is down for six hours while a request a second
// comes. Then all of it arrives, once, in minutes, and never faster than the limit.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hours, rate = 6, 2
		up := time.Now().Add(hours * time.Hour)
		recv := &receiver{answer: func(int, *request) *reply {
			time.Sleep(300 * time.Millisecond) // what a serverless receiver takes
			if time.Now().Before(up) {
				return broken()
			}
			return nil
		}}
		r := newRig(t, recv, spool.Options{SegmentBytes: 1 << 20}, func(c *Config) { c.RequestsPerSecond = rate })
		r.run()
		n := 0
		for ; time.Now().Before(up); n++ {
			r.mustPost(prod, remotewrite.V1, samples(t, 2, epoch+int64(n)*1000, float64(10*n)))
			time.Sleep(time.Second)
		}
		if s := r.q.Stats(); s.Pending.Records != int64(n) || n != hours*3600 {
			t.Fatalf("%d posted, pending %+v", n, s.Pending)
		}
		outage := len(recv.tried())
		for r.q.Stats().Pending.Records > 0 {
			time.Sleep(time.Second)
			if time.Since(up) > 10*time.Minute {
				t.Fatalf("after 10 minutes: pending %+v", r.q.Stats().Pending)
			}
		}
		caughtUp := time.Since(up)
		r.stop()
		r.check()
		tried := recv.tried()
		at := func(i int) time.Time { return tried[i].at }
		for i := range tried[1:] {
			if d := at(i + 1).Sub(at(i)); d < time.Second/rate-time.Millisecond {
				t.Fatalf("attempt %d came %v after the one before", i+1, d)
			}
		}
		if recv.repeats() != 0 {
			t.Errorf("%d requests were stored before", recv.repeats())
		}
		// A wait of half a minute on average, for six hours.
		if outage < 300 || outage > 2500 {
			t.Errorf("%d attempts during the outage", outage)
		}
		t.Logf("%d requests, %d attempts in %d h of outage; caught up %v after it with %d requests at %d/s at most", n, outage, hours, caughtUp, len(recv.kept()), rate)
	})
}

// TestKeyRotation is test (e): the receiver says 401 until the key file is another one.
func TestKeyRotation(t *testing.T) {
	for _, code := range []int{401, 403} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "key")
				write := func(key string) {
					t.Helper()
					if err := os.WriteFile(file+".new", []byte(key), 0o600); err != nil {
						t.Fatal(err)
					}
					if err := os.Rename(file+".new", file); err != nil {
						t.Fatal(err)
					}
				}
				write("canary-old\n")
				var log bytes.Buffer
				key, err := OpenKey(file, "Authorization", "Bearer ", slog.New(slog.NewJSONHandler(&log, nil)))
				if err != nil {
					t.Fatal(err)
				}
				recv := &receiver{}
				valid := "Bearer canary-old"
				var mu sync.Mutex
				recv.answer = func(_ int, r *request) *reply {
					mu.Lock()
					defer mu.Unlock()
					if got := r.header.Get("Authorization"); got != valid {
						return status(code, "the key "+strings.TrimPrefix(got, "Bearer ")+" is not known")
					}
					return nil
				}
				r := newRig(t, recv, spool.Options{}, func(c *Config) {
					c.Key, c.BatchAge, c.Logger = key, -1, slog.New(slog.NewJSONHandler(&log, nil))
				})
				r.run()
				r.mustPost(prod, remotewrite.V1, samples(t, 3, epoch, 0))
				time.Sleep(time.Second)
				r.check()
				// The receiver changes over before the file does, by an hour.
				mu.Lock()
				valid = "Bearer canary-new"
				mu.Unlock()
				r.mustPost(prod, remotewrite.V1, samples(t, 3, epoch+1000, 10))
				time.Sleep(time.Hour)
				if len(recv.kept()) != 1 || r.f.Stats().UnauthorizedFrom.IsZero() {
					t.Fatalf("%d stored, %+v", len(recv.kept()), r.f.Stats())
				}
				// A file that is no key changes nothing.
				write("")
				time.Sleep(10 * time.Minute)
				write("canary-new\n")
				swapped := time.Now()
				for r.q.Stats().Pending.Records > 0 {
					time.Sleep(10 * time.Millisecond)
					if time.Since(swapped) > 2*time.Second {
						t.Fatal("no delivery within 2 s of the new key")
					}
				}
				r.stop()
				r.check()
				if s := r.f.Stats(); !s.UnauthorizedFrom.IsZero() || s.DeadRecords != 0 {
					t.Errorf("%+v", s)
				}
				if strings.Contains(log.String(), "canary") {
					t.Errorf("the log has a key: %s", log.String())
				}
			})
		})
	}
}

// TestKeyReadAtOnce: a key that was replaced since it was read is found by the 401.
func TestKeyReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := OpenKey(file, "X-Api-Key", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("two"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newRig(t, &receiver{answer: func(_ int, r *request) *reply {
			if r.header.Get("X-Api-Key") != "two" {
				return status(401, "")
			}
			return nil
		}}, spool.Options{}, func(c *Config) { c.Key = key })
		r.mustPost(prod, remotewrite.V1, samples(t, 3, epoch, 0))
		began := time.Now()
		r.drain()
		r.check()
		if d := time.Since(began); d > 100*time.Millisecond || len(r.recv.tried()) != 2 {
			t.Errorf("%d attempts in %v", len(r.recv.tried()), d)
		}
	})
}

func TestOpenKey(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": " \n", "two lines": "canary\ncanary", "control": "canary\x01", "long": strings.Repeat("canary", 20_000)} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKey(file, "X-Api-Key", "", nil); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenKey(filepath.Join(dir, "missing"), "X-Api-Key", "", nil); err == nil {
		t.Error("a missing file is a key")
	}
}

// TestTooLarge is test (f): the receiver takes n bytes at most.
func TestTooLarge(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records int
		series  int
		limit   int
		dead    int64
	}{
		{"halves of the records", 16, 20, 900, 0},
		{"down to single records", 8, 50, 900, 0},
		{"down to parts of one record", 1, 500, 2000, 0},
		{"parts of each record", 4, 300, 2000, 0},
		{"not even one series", 1, 4, 60, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				recv := &receiver{answer: func(_ int, r *request) *reply {
					if len(r.body) > tt.limit {
						return status(413, "too large")
					}
					return nil
				}}
				r := newRig(t, recv, spool.Options{}, nil)
				post := func(ms int64) {
					for i := range tt.records {
						r.mustPost(prod, remotewrite.V1, samples(t, tt.series, ms+int64(i)*1000, float64(1000*i)))
					}
				}
				post(epoch)
				r.drain()
				if tt.dead > 0 {
					if s := r.f.Stats(); s.DeadRecords != tt.dead || s.DeadSamples != 4 || len(recv.kept()) != 0 {
						t.Errorf("%+v", s)
					}
					return
				}
				r.check()
				before := r.f.Stats()
				// The next ones begin smaller.
				post(epoch + 100_000)
				r.drain()
				r.check()
				after := r.f.Stats()
				if first, second := before.Failures["413"], after.Failures["413"]-before.Failures["413"]; second >= first || first == 0 {
					t.Errorf("413 came %d times at first and %d times later", first, second)
				}
				if after.DeadRecords != 0 {
					t.Errorf("%+v", after)
				}
			})
		})
	}
}

// TestPoison is test (g): one request in a thousand is refused for good.
func TestPoison(t *testing.T) {
	for _, code := range []int{400, 422} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const bad = 777
				recv := &receiver{answer: func(_ int, r *request) *reply {
					for _, l := range r.lines {
						if strings.HasSuffix(l, fmt.Sprint(" ", epoch+bad*1000)) {
							return status(code, "out of bounds\nand more")
						}
					}
					return nil
				}}
				r := newRig(t, recv, spool.Options{}, nil)
				for i := range 1000 {
					r.mustPost(prod, remotewrite.V1, samples(t, 2, epoch+int64(i)*1000, float64(10*i)))
				}
				poison := samples(t, 2, epoch+bad*1000, 10*bad)
				r.drain()
				r.sent = slices.DeleteFunc(r.sent, func(l string) bool { return strings.HasSuffix(l, fmt.Sprint(" ", epoch+bad*1000)) })
				r.check()
				if s := r.f.Stats(); s.Records != 999 || s.DeadRecords != 1 || s.DeadSamples != 2 || s.Failures[strconv.Itoa(code)] > 12 {
					t.Errorf("%+v", s)
				}
				body, err := os.ReadFile(filepath.Join(r.dir, "dead", fmt.Sprintf("%016x.rw1.sz", bad+1)))
				if err != nil || !bytes.Equal(body, poison) {
					t.Errorf("dead letter: %v", err)
				}
				text, err := os.ReadFile(filepath.Join(r.dir, "dead", fmt.Sprintf("%016x.json", bad+1)))
				if err != nil {
					t.Fatal(err)
				}
				var d DeadLetter
				if err := json.Unmarshal(text, &d); err != nil || d.Status != code || d.Reason != "out of bounds" || d.Org != "alfa" || d.Cluster != "prod" || d.Samples != 2 || d.Version != "1.0" {
					t.Errorf("%v %+v", err, d)
				}
				// In order, all along.
				var last string
				for _, s := range recv.kept() {
					if first := s.lines[0][strings.LastIndex(s.lines[0], " ")+1:]; first < last {
						t.Errorf("%s after %s", first, last)
					} else {
						last = first
					}
				}
			})
		})
	}
}

// TestDeadLetterOnFullDisk: a record that cannot be put aside stays in the queue.
func TestDeadLetterOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recv := &receiver{answer: func(int, *request) *reply { return status(400, "no") }}
		r := newRig(t, recv, spool.Options{}, nil)
		blocker := filepath.Join(r.dir, "dead") // a file where the directory should be
		if err := os.WriteFile(blocker, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r.mustPost(prod, remotewrite.V1, samples(t, 2, epoch, 0))
		r.run()
		time.Sleep(10 * time.Minute)
		if s := r.q.Stats(); s.Pending.Records != 1 || r.f.Stats().DeadRecords != 0 {
			t.Fatalf("%+v", s)
		}
		if err := os.Remove(blocker); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if s := r.q.Stats(); s.Pending.Records != 0 || r.f.Stats().DeadRecords != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestVersions: a receiver that knows only one version gets that one, and is asked for
// the other once.
func TestVersions(t *testing.T) {
	only := func(v remotewrite.Version) func(int, *request) *reply {
		return func(_ int, r *request) *reply {
			if r.version != v {
				return status(415, "unknown")
			}
			return nil
		}
	}
	blind := func(int, *request) *reply { // takes everything for 1.0
		return status(204, "")
	}
	misspelt := func(int, *request) *reply {
		return status(200, "", "X-Prometheus-Remote-Write-Written-Samples", "5")
	}
	for _, tt := range []struct {
		name     string
		answer   func(int, *request) *reply
		want     remotewrite.Version
		failures map[string]int64
	}{
		{"1.0 only", only(remotewrite.V1), remotewrite.V1, map[string]int64{"415": 1}},
		{"2.0 only", only(remotewrite.V2), remotewrite.V2, map[string]int64{}},
		{"204 that confirms nothing", blind, remotewrite.V1, map[string]int64{"unconfirmed": 1}},
		{"other header names", misspelt, remotewrite.V1, map[string]int64{"unconfirmed": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				recv := &receiver{}
				recv.answer = func(n int, r *request) *reply {
					resp := tt.answer(n, r)
					if resp != nil && resp.code/100 == 2 && r.version == remotewrite.V2 && tt.want == remotewrite.V1 {
						// It says 2xx and stores nothing.
						resp.code = 204
						r.lines = nil
					}
					return resp
				}
				r := newRig(t, recv, spool.Options{}, nil)
				for batch := range 3 {
					for i := range 4 {
						r.mustPost(prod, remotewrite.V1, samples(t, 5, epoch+int64(batch*100+i), float64(100*batch+10*i)))
					}
					r.drain()
				}
				r.check()
				s := r.f.Stats()
				for reason, n := range tt.failures {
					if s.Failures[reason] != n {
						t.Errorf("%s: %d failures, want %d", reason, s.Failures[reason], n)
					}
				}
				if len(s.Failures) != len(tt.failures) {
					t.Errorf("failures %v, want %v", s.Failures, tt.failures)
				}
			})
		})
	}
}

// TestNeitherVersion: 415 to both is no reason to give anything up.
func TestNeitherVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := time.Now().Add(20 * time.Minute)
		recv := &receiver{answer: func(int, *request) *reply {
			if time.Now().Before(up) {
				return status(415, "")
			}
			return nil
		}}
		r := newRig(t, recv, spool.Options{}, nil)
		for i := range 4 {
			r.mustPost(prod, remotewrite.V1, samples(t, 5, epoch+int64(i), float64(10*i)))
		}
		r.drain()
		r.check()
		if n := r.f.Stats().Failures["415"]; n < 10 || n > 400 {
			t.Errorf("%d times 415 in 20 minutes", n)
		}
	})
}

// TestShortCounts: a receiver that confirms less than it was sent gets the batch once
// more as 1.0, and later ones as 2.0 again.
func TestShortCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recv := &receiver{answer: func(n int, r *request) *reply {
			if n == 0 {
				r.lines = nil
				return status(204, "", remotewrite.HeaderSamplesWritten, "19")
			}
			return nil
		}}
		r := newRig(t, recv, spool.Options{}, nil)
		for range 2 {
			for i := range 4 {
				r.mustPost(prod, remotewrite.V1, samples(t, 5, epoch+int64(len(r.sent)+i), float64(len(r.sent))))
			}
			r.drain()
		}
		r.check()
		var got []remotewrite.Version
		for _, a := range recv.tried() {
			got = append(got, a.version)
		}
		if !slices.Equal(got, []remotewrite.Version{2, 1, 2}) || r.f.Stats().Failures["unconfirmed"] != 1 {
			t.Errorf("versions %v, %+v", got, r.f.Stats())
		}
	})
}

// TestSameBytesAfterCrash: at the moment when the receiver has a request and the answer
// is lost, the process is killed. The next one sends the same bytes, whatever came since.
func TestSameBytesAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recv := &receiver{}
		var dir string
		r := newRig(t, recv, spool.Options{}, nil)
		recv.answer = func(n int, in *request) *reply {
			if n == 0 {
				dir = copyDir(t, r.dir)
				recv.store(*in)
				return broken()
			}
			t.Error("the killed process goes on")
			return nil
		}
		for i := range 20 {
			r.mustPost(prod, remotewrite.V1, samples(t, 50, epoch+int64(i)*1000, float64(100*i)))
		}
		r.run()
		time.Sleep(time.Minute + 100*time.Millisecond)
		r.stop()
		if dir == "" {
			t.Fatal("nothing was sent")
		}
		recv.answer = nil
		next := &rig{t: t, dir: dir, recv: recv, sent: r.sent}
		next.open(spool.Options{}, nil)
		for i := range 20 {
			next.mustPost(prod, remotewrite.V1, samples(t, 50, epoch+int64(20+i)*1000, float64(2000+100*i)))
		}
		next.drain()
		next.check() // nothing is there twice
		if recv.repeats() != 1 || !equalBodies(recv.tried()[:2]) || next.f.Stats().Replanned != 0 {
			t.Errorf("%d requests again, %+v", recv.repeats(), next.f.Stats())
		}
	})
}

// TestCrashInPieces: the same while a batch is being taken apart. What was delivered of
// it comes again as the same bytes, if at all.
func TestCrashInPieces(t *testing.T) {
	for at := range 12 {
		t.Run(fmt.Sprint("attempt ", at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				recv := &receiver{}
				killed := make(chan string, 1)
				var r *rig
				limit := func(in *request) *reply {
					if len(in.body) > 1200 {
						return status(413, "")
					}
					return nil
				}
				recv.answer = func(n int, in *request) *reply {
					if n == at {
						killed <- copyDir(t, r.dir)
						if limit(in) == nil {
							recv.store(*in)
						}
						return broken()
					}
					return limit(in)
				}
				r = newRig(t, recv, spool.Options{}, nil)
				for i := range 8 {
					r.mustPost(prod, remotewrite.V1, samples(t, 60, epoch+int64(i)*1000, float64(100*i)))
				}
				stop := r.run()
				for len(killed) == 0 && r.q.Stats().Pending.Records > 0 {
					time.Sleep(10 * time.Millisecond)
				}
				stop()
				if len(killed) == 0 {
					t.Fatal("it was over before")
				}
				recv.answer = func(_ int, in *request) *reply { return limit(in) }
				next := &rig{t: t, dir: <-killed, recv: recv, sent: r.sent}
				next.open(spool.Options{}, nil)
				next.drain()
				next.check()
			})
		})
	}
}

// TestOrder: within a lane nothing overtakes, and a lane whose receiver fails does not
// hold up others.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recv := &receiver{answer: func(n int, r *request) *reply {
			time.Sleep(200 * time.Millisecond)
			if r.org == "bad" || n%3 == 1 {
				return status(503, "")
			}
			return nil
		}}
		r := newRig(t, recv, spool.Options{}, func(c *Config) { c.BatchAge, c.Concurrency = -1, 3 })
		r.run()
		r.post(spool.Lane{Org: "bad", Cluster: "x"}, remotewrite.V1, samples(t, 1, epoch, 1))
		r.sent = nil
		for i := range 300 {
			r.mustPost(spool.Lane{Org: fmt.Sprint("org-", i%7), Cluster: "c"}, remotewrite.V1, samples(t, 2, epoch+int64(i)*1000, float64(10*i)))
			time.Sleep(100 * time.Millisecond)
		}
		for r.q.Stats().Pending.Records > 1 {
			time.Sleep(time.Second)
		}
		r.stop()
		r.check()
		if recv.mostAtOnce() != 3 {
			t.Errorf("%d requests were under way at once, want 3", recv.mostAtOnce())
		}
		last := map[string]int64{}
		for _, s := range recv.kept() {
			for _, l := range s.lines {
				var ms int64
				if _, err := fmt.Sscan(l[strings.LastIndex(l, " ")+1:], &ms); err != nil {
					t.Fatal(err)
				}
				if ms < last[s.org] && s.lines[0] == l {
					t.Errorf("%s: %d after %d", s.org, ms, last[s.org])
				}
				last[s.org] = max(last[s.org], ms)
			}
		}
	})
}

// TestBatchLimits: a batch is sent when it has enough of anything.
func TestBatchLimits(t *testing.T) {
	body := samples(t, 100, epoch, 0)
	for name, change := range map[string]func(*Config){
		"bytes":   func(c *Config) { c.BatchBytes = int64(10 * len(body)) },
		"decoded": func(c *Config) { n, _ := remotewrite.DecodedLen(body, 1<<20); c.BatchDecodedBytes = int64(10 * n) },
		"samples": func(c *Config) { c.BatchSamples = 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, &receiver{}, spool.Options{}, func(c *Config) { c.BatchAge = time.Hour; change(c) })
				r.run()
				for i := range 9 {
					r.mustPost(prod, remotewrite.V1, samples(t, 100, epoch+int64(i), 0))
				}
				time.Sleep(time.Minute)
				if n := len(r.recv.tried()); n != 0 {
					t.Fatalf("%d requests too early", n)
				}
				for i := range 14 {
					r.mustPost(prod, remotewrite.V1, samples(t, 100, epoch+int64(9+i), 0))
				}
				time.Sleep(time.Minute)
				if len(r.recv.kept()) != 2 || r.f.Stats().Records < 18 || r.f.Stats().Records > 22 {
					t.Fatalf("%d requests, %+v", len(r.recv.kept()), r.f.Stats())
				}
			})
		})
	}
}

// TestPiecesDoNotWait: what is left of a batch that was halved goes out without waiting for
// the age of another batch, also after a failure.
func TestPiecesDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recv := &receiver{answer: func(n int, _ *request) *reply {
			switch n {
			case 0:
				return status(413, "")
			case 2:
				return status(503, "")
			}
			return nil
		}}
		r := newRig(t, recv, spool.Options{}, func(c *Config) { c.BatchAge, c.BatchSamples = 24*time.Hour, 100 })
		r.run()
		for i := range 10 {
			r.mustPost(prod, remotewrite.V1, samples(t, 10, epoch+int64(i), float64(100*i)))
		}
		time.Sleep(time.Minute)
		r.check()
	})
}

// TestStop: Run ends when its context does, also while a request is under way, and
// nothing is lost by that.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recv := &receiver{answer: func(int, *request) *reply { time.Sleep(time.Hour); return nil }}
		r := newRig(t, recv, spool.Options{}, func(c *Config) { c.Timeout = 10 * time.Hour })
		r.mustPost(prod, remotewrite.V1, samples(t, 2, epoch, 0))
		everything := make(chan struct{})
		close(everything)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := r.f.Run(ctx, everything); err == nil {
			t.Error("no error")
		}
		if r.q.Stats().Pending.Records != 1 || r.f.Stats().Attempts != 1 {
			t.Errorf("%+v", r.f.Stats())
		}
	})
}

// TestNewForwarder names all that is wrong at once.
func TestNewForwarder(t *testing.T) {
	_, err := NewForwarder(Config{URL: "ftp://host", Protocol: 7, Concurrency: -1, BatchBytes: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"no queue", "not of the form", "no directory", "limits of a batch", "concurrency", "protocol 7"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
	_, err = NewForwarder(Config{URL: "https://me:canary@host/"})
	if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "credentials") {
		t.Errorf("%v", err)
	}
}

func TestTarget(t *testing.T) {
	for _, tt := range []struct{ url, cluster, want string }{
		{"http://h/w", "default", "http://h/w"},
		{"http://h/w", "prod", "http://h/w?cluster_name=prod"},
		{"http://h/w?region=x", "prod", "http://h/w?cluster_name=prod&region=x"},
		{"http://h/w?cluster_name=all", "prod", "http://h/w?cluster_name=prod"},
		{"http://h/w?cluster_name=all", "default", "http://h/w?cluster_name=all"},
	} {
		r := newRig(t, &receiver{}, spool.Options{}, func(c *Config) { c.URL = tt.url })
		if got := r.f.target(spool.Lane{Org: "o", Cluster: tt.cluster}); got != tt.want {
			t.Errorf("%s with %s: %s, want %s", tt.url, tt.cluster, got, tt.want)
		}
	}
}

func TestClean(t *testing.T) {
	for _, tt := range []struct{ text, secret, want string }{
		{"one\ntwo", "", "one"},
		{"  the key canary is unknown ", "canary", "the key [key] is unknown"},
		{"a\x00b\x1b[31mc", "", "ab[31mc"},
		{"\xff\xfe", "", "?"},
		{strings.Repeat("ä", 400), "", strings.Repeat("ä", 150) + "…"},
	} {
		if got := clean(tt.text, tt.secret); got != tt.want {
			t.Errorf("%.20q: %q, want %q", tt.text, got, tt.want)
		}
	}
}

// families makes a 1.0 body of metadata only.
func families(tb testing.TB, names ...string) []byte {
	tb.Helper()
	var req prompb.WriteRequest
	for _, name := range names {
		req.Metadata = append(req.Metadata, prompb.MetricMetadata{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: name, Help: "Help of " + name})
	}
	b, err := req.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return remotewrite.Encode(nil, b)
}

// TestMetadataRefused: the samples of a batch go out once, whatever becomes of the metadata
// beside them.
func TestMetadataRefused(t *testing.T) {
	for _, tt := range []struct {
		code, times int // of the answers to metadata
		attempts    int // with metadata
		dropped     int64
	}{
		{500, 3, 4, 0},
		{503, 30, 31, 0},
		{429, 12, 13, 0},
		{401, 2, 3, 0},
		{0, 12, 13, 0},
		{400, 99, 1, 2},
		{422, 99, 1, 2},
		{413, 99, 1, 2},
		{415, 99, 1, 2},
		{404, 99, maxMetadataFailures, 2},
		{501, 99, maxMetadataFailures, 2},
	} {
		t.Run(strconv.Itoa(tt.code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var metadata, other int
				recv := &receiver{answer: func(_ int, r *request) *reply {
					if !strings.HasPrefix(r.lines[0], "metadata ") {
						other++
						return nil
					}
					if metadata++; metadata <= tt.times {
						return status(tt.code, "no")
					}
					return nil
				}}
				r := newRig(t, recv, spool.Options{}, nil)
				for i := range 3 {
					r.mustPost(prod, remotewrite.V1, samples(t, 5, epoch+int64(i)*1000, float64(10*i)))
				}
				r.mustPost(prod, remotewrite.V1, families(t, "other", "third"))
				r.drain()
				if tt.dropped > 0 {
					r.sent = slices.DeleteFunc(r.sent, func(l string) bool { return strings.HasPrefix(l, "metadata ") })
				}
				r.check()
				s := r.f.Stats()
				if other != 1 || metadata != tt.attempts || s.DroppedMetadata != tt.dropped {
					t.Errorf("%d requests with samples, %d with metadata, want 1 and %d; %d entries dropped, want %d", other, metadata, tt.attempts, s.DroppedMetadata, tt.dropped)
				}
				if s.Records != 4 || s.Samples != 15 || s.DeadRecords != 0 || s.Splits != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestMetadataAloneRefused: without samples beside it metadata is a request as any other.
func TestMetadataAloneRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recv := &receiver{answer: func(_ int, r *request) *reply {
			if slices.ContainsFunc(r.lines, func(l string) bool { return strings.HasPrefix(l, "metadata bad ") }) {
				return status(400, "no")
			}
			return nil
		}}
		r := newRig(t, recv, spool.Options{}, nil)
		for _, name := range []string{"one", "two", "bad", "four"} {
			r.mustPost(prod, remotewrite.V1, families(t, name))
		}
		r.drain()
		r.sent = slices.DeleteFunc(r.sent, func(l string) bool { return strings.HasPrefix(l, "metadata bad ") })
		r.check()
		if s := r.f.Stats(); s.DeadRecords != 1 || s.Records != 3 || s.DroppedMetadata != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestFewerExemplars: one that the receiver does not keep is no reason to send the samples
// again.
func TestFewerExemplars(t *testing.T) {
	for _, protocol := range []remotewrite.Version{0, remotewrite.V2} {
		t.Run(fmt.Sprintf("protocol %d", protocol), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				recv := &receiver{answer: func(_ int, r *request) *reply {
					resp := full(r)
					last := len(resp.header) - 1
					n, err := strconv.Atoi(resp.header[last])
					if resp.header[last-1] != remotewrite.HeaderExemplarsWritten || err != nil || n == 0 {
						t.Errorf("the test is of no use: %q, %v", resp.header, err)
					}
					resp.header[last] = strconv.Itoa(n - 1)
					return resp
				}}
				r := newRig(t, recv, spool.Options{}, func(c *Config) { c.Protocol = protocol })
				r.mustPost(prod, remotewrite.V2, capture(t, "v2-prom3-exemplars-hist-nhcb-startts"))
				r.drain()
				if s := r.f.Stats(); len(recv.tried()) != 1 || s.Records != 1 || len(s.Failures) != 0 {
					t.Errorf("%d attempts, %+v", len(recv.tried()), s)
				}
			})
		})
	}
}

// TestKeyWakesAllLanes: a new key that one lane has taken up lets all others try again.
func TestKeyWakesAllLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := OpenKey(file, "X-Api-Key", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, &receiver{answer: func(_ int, r *request) *reply {
			if r.header.Get("X-Api-Key") != "two" {
				return status(401, "", "Retry-After", "300")
			}
			return nil
		}}, spool.Options{}, func(c *Config) { c.Key, c.BatchAge = key, -1 })
		r.run()
		for i, org := range []string{"a", "b", "c"} {
			r.mustPost(spool.Lane{Org: org, Cluster: "x"}, remotewrite.V1, samples(t, 3, epoch, float64(10*i)))
		}
		time.Sleep(10*time.Second + 300*time.Millisecond)
		before := len(r.recv.tried())
		if err := os.WriteFile(file+".new", []byte("two"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		// Between two looks at the file, one that does not wait is refused.
		r.mustPost(spool.Lane{Org: "d", Cluster: "x"}, remotewrite.V1, samples(t, 3, epoch, 30))
		time.Sleep(200 * time.Millisecond)
		if before != 3 || len(r.recv.tried()) != 5 || len(r.recv.kept()) != 1 {
			t.Fatalf("the test is of no use: %d attempts, then %d, %d stored", before, len(r.recv.tried()), len(r.recv.kept()))
		}
		time.Sleep(1500 * time.Millisecond)
		r.stop()
		r.check()
	})
}

// TestDeadPartsAddUp: a record of which parts are dead is one dead record, and its samples
// are counted once each.
func TestDeadPartsAddUp(t *testing.T) {
	for name, bad := range map[string][]string{"first": {"host-0"}, "last": {"host-499"}, "both": {"host-0", "host-499"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				recv := &receiver{answer: func(_ int, r *request) *reply {
					if len(r.body) > 2000 {
						return status(413, "too large")
					}
					for _, l := range r.lines {
						for _, host := range bad {
							if strings.Contains(l, "instance="+host+".") {
								return status(400, "no")
							}
						}
					}
					return nil
				}}
				r := newRig(t, recv, spool.Options{}, nil)
				r.mustPost(prod, remotewrite.V1, samples(t, 500, epoch, 0))
				r.drain()
				s, accepted := r.f.Stats(), r.q.Stats().Accepted
				if s.Records+s.DeadRecords != accepted.Records || s.Samples+s.DeadSamples != accepted.Samples {
					t.Errorf("%d records and %d samples were accepted, %+v", accepted.Records, accepted.Samples, s)
				}
				if s.DeadRecords != 1 || s.DeadSamples == 0 || s.Samples != int64(len(recv.content())) {
					t.Errorf("%d samples are stored, %+v", len(recv.content()), s)
				}
			})
		})
	}
}
