package report

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// checkGolden compares got with testdata/name.
func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run go test with -update to write it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

// rendered returns what f writes.
func rendered(t *testing.T, f func(io.Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// load describes a run to make up.
type load struct {
	requests, pairs int
	rate            float64
	closed          bool
	failEvery       int
	warmup          int
	stallAt         time.Duration // the server stands still for a second
}

// makeRun makes up a run as the load engine would record it. It depends on
// nothing but l: times are in whole microseconds, so that no rounding of a
// platform shows.
func makeRun(t *testing.T, l load) *stats.Run {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	rec := stats.NewRecorder()
	us := func(f float64) time.Duration { return time.Duration(math.Round(f)) * time.Microsecond }
	run := &stats.Run{
		Schema:    stats.RunSchema,
		Tool:      stats.Tool{Version: "v0.1.0", Commit: "0123456789abcdef"},
		StartedAt: time.Date(2026, 11, 20, 18, 25, 1, 0, time.UTC),
		Plan: stats.Plan{
			Loop: "open", Arrival: "constant", Timing: "rate", RatePerS: l.rate, MaxInFlight: 512,
			Planned: int64(l.requests), Warmup: int64(l.warmup), Seed: 1, SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		},
		Corpus: stats.Corpus{Location: "bundled", Objects: 40, Bytes: 812_345, Samples: 20_000, SHA256: "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"},
		Target: stats.Target{URL: "https://ingest.example.com/api/v1/write?cluster_name=prod", Kind: "http"},
		Client: stats.Client{CPURatio: 0.1234, GCPauseMaxMS: 0.098, Verdict: "valid", Reasons: []string{}},
	}
	run.FinishedAt = run.StartedAt.Add(31 * time.Second)
	if l.closed {
		run.Plan.Loop, run.Plan.Arrival, run.Plan.RatePerS, run.Plan.Concurrency = "closed", "", 0, 8
	}
	for i := range l.warmup {
		due := us(float64(i) / l.rate * 1e6)
		rec.Record(stats.Observation{Intended: due, Started: due, Done: due + us(9000+10*float64(i)), Status: 204, Warmup: true})
	}
	begin := us(float64(l.warmup) / l.rate * 1e6)
	for i := range l.requests {
		due := begin + us(float64(i)/l.rate*1e6)
		lag := us(20 + 30*rnd.Float64())
		took := us(3000 * math.Exp(0.35*rnd.NormFloat64()))
		if rnd.IntN(200) == 0 {
			took *= time.Duration(4 + rnd.IntN(20))
		}
		started := due + lag
		if l.stallAt > 0 && due >= l.stallAt && due < l.stallAt+time.Second {
			started = l.stallAt + time.Second
		}
		o := stats.Observation{
			Pair:     stats.PairKey{Source: fmt.Sprintf("org-%d", 1+i%l.pairs), Destination: "ingest.example.com"},
			Intended: due, Started: started, Done: started + took,
			Status: 204, Samples: 500, SamplesWritten: 500, Bytes: 20_308,
		}
		if l.closed {
			o.Intended = o.Started
		}
		if l.failEvery > 0 && i%l.failEvery == l.failEvery-1 {
			o.SamplesWritten = 0
			switch i / l.failEvery % 3 {
			case 0:
				o.Outcome, o.Status, o.ErrorExample = stats.Failed, 503, "503 Service Unavailable: the store is full"
			case 1:
				o.Outcome, o.Status, o.ErrorClass, o.ErrorExample, o.Done = stats.TimedOut, 0, "timeout", `Post "https://ingest.example.com/api/v1/write": context deadline exceeded`, o.Started+10*time.Second
			default:
				o.Outcome, o.Status, o.ErrorClass, o.ErrorExample, o.Retries = stats.Failed, 0, "connection", "read tcp 192.0.2.1:51544->192.0.2.2:443: read: connection reset by peer", 1
			}
		}
		rec.Record(o)
		rec.RecordScheduleError(lag)
	}
	run.Counts.Planned = int64(l.requests)
	if err := rec.Fill(run); err != nil {
		t.Fatal(err)
	}
	if err := run.Check(); err != nil {
		t.Fatal(err)
	}
	return run
}

// runs are the runs that every rendering of a run is tested with.
func runs(t *testing.T) map[string]*stats.Run {
	t.Helper()
	normal := makeRun(t, load{requests: 6000, pairs: 5, rate: 200, warmup: 200})
	normal.Labels = map[string]string{"commit": "abc123", "branch": "main"}

	embedded := makeRun(t, load{requests: 1000, pairs: 2, rate: 500})
	embedded.Target = stats.Target{URL: "http://127.0.0.1:40211/api/v1/write", Kind: "embedded"}

	interrupted := makeRun(t, load{requests: 900, pairs: 3, rate: 200})
	interrupted.Interrupted = true
	interrupted.Counts.Planned, interrupted.Counts.NotSent = 6000, 5100
	interrupted.Plan.Planned = 6000

	bad := makeRun(t, load{requests: 3000, pairs: 1, rate: 2000})
	bad.Client.Verdict, bad.Client.CPURatio = "invalid", 0.97
	bad.Client.Reasons = []string{
		"the generator held requests up for 12.345 ms at p99 (limit 1.000 ms)",
		"the generator used 97 % of the CPU it may use (limit 85 %)",
	}

	failing := makeRun(t, load{requests: 4000, pairs: 4, rate: 200, failEvery: 50, stallAt: 8 * time.Second})

	refused := makeRun(t, load{requests: 12, pairs: 1, rate: 10, failEvery: 1})
	refused.Client.Verdict, refused.Client.Reasons = "invalid", []string{refused.NoSuccess()}

	closed := makeRun(t, load{requests: 2500, pairs: 2, rate: 250, closed: true})

	return map[string]*stats.Run{
		"normal": normal, "embedded": embedded, "interrupted": interrupted, "invalid": bad, "errors": failing,
		"refused": refused, "closed": closed, "empty": {Schema: stats.RunSchema},
	}
}

// supportedRun has requests enough for D5.
func supportedRun(t *testing.T) *stats.Run {
	t.Helper()
	r := makeRun(t, load{requests: 100_100, pairs: 1, rate: 4000})
	r.Billed = []byte(`{"schema":"cirrusbench/invocations/v1","reports":100100,"cold":31,"billed_ms":{"sum":7007000,"mean":70,"p50":61,"p95":140,"p99":190,"max":870}}`)
	return r
}

func formats() map[Format]string { return map[Format]string{Table: "txt", Markdown: "md"} }

func TestRunGolden(t *testing.T) {
	all := runs(t)
	all["supported"] = supportedRun(t)
	for name, r := range all {
		for f, ext := range formats() {
			t.Run(name+"/"+string(f), func(t *testing.T) {
				got := rendered(t, func(w io.Writer) error { return Run(w, f, r) })
				checkGolden(t, "run-"+name+"."+ext, got)
			})
		}
	}
}

func TestRunHTMLGolden(t *testing.T) {
	for name, r := range runs(t) {
		t.Run(name, func(t *testing.T) {
			got := rendered(t, func(w io.Writer) error { return RunHTML(w, r) })
			// The style sheet is the same on every page and looked at by eye.
			begin, end := bytes.Index(got, []byte("<style>")), bytes.Index(got, []byte("</style>"))
			if begin < 0 || end < begin {
				t.Fatal("the page has no style sheet")
			}
			got = slices.Concat(got[:begin+len("<style>")], got[end:])
			// So is the script, whose hash is in the policy.
			got = bytes.ReplaceAll(got, []byte(uplotScript+"\n"+chartsScript), nil)
			got = regexp.MustCompile(`script-src &#39;sha256-[^;]*;`).ReplaceAll(got, []byte("script-src"))
			checkGolden(t, "run-"+name+".html", got)
		})
	}
}
