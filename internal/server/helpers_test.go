package server_test

import (
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

var update = flag.Bool("update", false, "write the bundled corpus anew")

const capturesDir = "../../fixtures/captures"

// clock is the time of the server in tests: a little later than the captures.
func clock() time.Time { return time.Date(2026, 11, 20, 18, 45, 0, 0, time.UTC) }

// recorded is a request recorded from a real sender.
type recorded struct {
	Name    string
	Body    []byte
	Header  http.Header `json:"header"`
	Summary struct {
		At              string `json:"at"` // time of day on 2026-11-20
		Version         int    `json:"rw_version"`
		Series          int    `json:"series"`
		Samples         int    `json:"samples"`
		Stale           int    `json:"stale"`
		Exemplars       int    `json:"exemplars"`
		IntHistograms   int    `json:"int_histograms"`
		FloatHistograms int    `json:"float_histograms"`
		Metadata        int    `json:"metadata"`
		MaxTS           int64  `json:"max_ts"`
	} `json:"summary"`
}

func (r recorded) input() server.Input {
	return server.Input{ContentType: r.Header.Get("Content-Type"), ContentEncoding: r.Header.Get("Content-Encoding"), Body: r.Body}
}

func readRecorded(tb testing.TB, file string) recorded {
	tb.Helper()
	base := strings.TrimSuffix(file, filepath.Ext(file))
	js, err := os.ReadFile(filepath.Join(capturesDir, base+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	r := recorded{Name: base}
	if err := json.Unmarshal(js, &r); err != nil {
		tb.Fatal(err)
	}
	if r.Body, err = os.ReadFile(filepath.Join(capturesDir, file)); err != nil {
		tb.Fatal(err)
	}
	return r
}

// good returns the ten captures that are to be accepted.
func good(tb testing.TB) []recorded {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(capturesDir, "v*.snappy"))
	if err != nil || len(files) != 10 {
		tb.Fatalf("%d captures, %v; want 10", len(files), err)
	}
	var all []recorded
	for _, f := range files {
		all = append(all, readRecorded(tb, filepath.Base(f)))
	}
	return all
}

// observed collects observations.
type observed struct {
	mu  sync.Mutex
	all []server.Observation
}

func (o *observed) Observe(x server.Observation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, x)
}

func (o *observed) last(tb testing.TB) server.Observation {
	tb.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) == 0 {
		tb.Fatal("nothing was observed")
	}
	return o.all[len(o.all)-1]
}

// newCore fills in the clock and a memory store.
func newCore(tb testing.TB, cfg server.Config) *server.Core {
	tb.Helper()
	if cfg.Now == nil {
		cfg.Now = clock
	}
	if cfg.Sink == nil {
		cfg.Sink = server.NewStoreSink(store.NewMemory())
	}
	c, err := server.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if n, b := c.InFlight(); n != 0 || b != 0 {
			tb.Errorf("%d requests and %d bytes are still in flight", n, b)
		}
	})
	return c
}

// contents returns everything in a store.
func contents(tb testing.TB, s store.Store) map[string][]byte {
	tb.Helper()
	all := map[string][]byte{}
	for o, err := range s.List(context.Background(), "") {
		if err != nil {
			tb.Fatal(err)
		}
		body, err := s.Get(context.Background(), o.Key)
		if err != nil {
			tb.Fatal(err)
		}
		all[o.Key] = body
	}
	return all
}

// sinkFunc is a sink made of a function.
type sinkFunc func(ctx context.Context, r server.Request) (bool, error)

func (f sinkFunc) Store(ctx context.Context, r server.Request) (bool, error) { return f(ctx, r) }

// wantWritten checks the Written headers: three numbers on 2.0, none on 1.0.
func wantWritten(tb testing.TB, h http.Header, v remotewrite.Version, samples, histograms, exemplars string) {
	tb.Helper()
	want := map[string]string{
		remotewrite.HeaderSamplesWritten:    samples,
		remotewrite.HeaderHistogramsWritten: histograms,
		remotewrite.HeaderExemplarsWritten:  exemplars,
	}
	for name, value := range want {
		if v != remotewrite.V2 {
			value = ""
		}
		if got := h.Get(name); got != value {
			tb.Errorf("%s: %q, want %q", name, got, value)
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
