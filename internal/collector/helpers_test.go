package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"go.uber.org/goleak"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// prod is the lane of tests that need only one.
var prod = spool.Lane{Org: "alfa", Cluster: "prod"}

// epoch is the time of the first sample of tests.
const epoch = 1_763_661_600_000

// samples makes a 1.0 body: series from 0 up to n with one sample each, whose value is
// id + the series' number.
func samples(tb testing.TB, n int, ms int64, id float64) []byte {
	tb.Helper()
	var req prompb.WriteRequest
	for i := range n {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: []prompb.Label{
				{Name: "__name__", Value: "requests_total"}, {Name: "instance", Value: fmt.Sprintf("host-%d.example.com:9090", i)}, {Name: "job", Value: "api"},
			},
			Samples: []prompb.Sample{{Value: id + float64(i), Timestamp: ms}},
		})
	}
	b, err := req.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return remotewrite.Encode(nil, b)
}

// lines says what a body holds, a line a sample, histogram, exemplar or metadata entry,
// read with the decoder that Prometheus generates.
func lines(v remotewrite.Version, body []byte) ([]string, error) {
	b, err := remotewrite.Decode(nil, body, 1<<28)
	if err != nil {
		return nil, err
	}
	var out []string
	if v == remotewrite.V1 {
		var req prompb.WriteRequest
		if err := req.Unmarshal(b); err != nil {
			return nil, err
		}
		pairs := func(in []prompb.Label) (p []string) {
			for _, l := range in {
				p = append(p, l.Name+"="+l.Value)
			}
			slices.Sort(p)
			return p
		}
		for _, ts := range req.Timeseries {
			for _, s := range ts.Samples {
				out = append(out, fmt.Sprintf("%q %x %d", pairs(ts.Labels), math.Float64bits(s.Value), s.Timestamp))
			}
			for _, e := range ts.Exemplars {
				out = append(out, fmt.Sprintf("%q exemplar %q %x %d", pairs(ts.Labels), pairs(e.Labels), math.Float64bits(e.Value), e.Timestamp))
			}
			for _, h := range ts.Histograms {
				out = append(out, fmt.Sprintf("%q histogram %v %d", pairs(ts.Labels), h.Sum, h.Timestamp))
			}
		}
		for _, m := range req.Metadata {
			out = append(out, fmt.Sprintf("metadata %s %s %q", m.MetricFamilyName, m.Type, m.Help))
		}
		return out, nil
	}
	var req writev2.Request
	if err := req.Unmarshal(b); err != nil {
		return nil, err
	}
	pairs := func(refs []uint32) (p []string) {
		for i := 0; i+1 < len(refs); i += 2 {
			p = append(p, req.Symbols[refs[i]]+"="+req.Symbols[refs[i+1]])
		}
		slices.Sort(p)
		return p
	}
	for _, ts := range req.Timeseries {
		for _, s := range ts.Samples {
			out = append(out, fmt.Sprintf("%q %x %d", pairs(ts.LabelsRefs), math.Float64bits(s.Value), s.Timestamp))
		}
		for _, e := range ts.Exemplars {
			out = append(out, fmt.Sprintf("%q exemplar %q %x %d", pairs(ts.LabelsRefs), pairs(e.LabelsRefs), math.Float64bits(e.Value), e.Timestamp))
		}
		for _, h := range ts.Histograms {
			out = append(out, fmt.Sprintf("%q histogram %v %d", pairs(ts.LabelsRefs), h.Sum, h.Timestamp))
		}
	}
	return out, nil
}

// request is what a receiver has got.
type request struct {
	version remotewrite.Version
	org     string
	cluster string
	header  http.Header
	body    []byte
	lines   []string
	at      time.Time
}

// receiver is a remote-write endpoint in memory, as a transport: nothing of it is outside
// of a synctest bubble. It knows requests by their bytes, as the reference server does.
type receiver struct {
	t      testing.TB
	answer func(n int, r *request) *reply // nil, or nil returned: 204 with full counts

	mu       sync.Mutex
	attempts []request // all
	stored   []request // once each, in order
	known    map[string]bool
	again    int // attempts with the bytes of a stored one
	underWay int
	most     int // under way at once
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	in := request{org: req.Header.Get("X-Scope-OrgID"), cluster: req.URL.Query().Get("cluster_name"), header: req.Header.Clone(), body: body, at: time.Now()}
	if in.version, err = remotewrite.Negotiate(req.Header.Get("Content-Type"), req.Header.Get("Content-Encoding")); err != nil {
		r.t.Errorf("headers: %v", err)
	}
	if in.lines, err = lines(in.version, body); err != nil {
		r.t.Errorf("body: %v", err)
	}
	r.mu.Lock()
	n := len(r.attempts)
	r.attempts = append(r.attempts, in)
	r.underWay++
	r.most = max(r.most, r.underWay)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.underWay--
		r.mu.Unlock()
	}()
	var resp *reply
	if r.answer != nil {
		resp = r.answer(n, &in)
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if resp == nil {
		resp = full(&in)
	}
	if resp.code == 0 {
		return nil, io.ErrUnexpectedEOF // the connection broke
	}
	if resp.code/100 == 2 {
		r.store(in)
	}
	return resp.response(), nil
}

func (r *receiver) store(in request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[string]bool{}
	}
	if r.known[string(in.body)] {
		r.again++
		return
	}
	r.known[string(in.body)] = true
	r.stored = append(r.stored, in)
}

// tried is every attempt, kept what was stored.
func (r *receiver) tried() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.attempts)
}

func (r *receiver) kept() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.stored)
}

// repeats is how many attempts had the bytes of a stored one.
func (r *receiver) repeats() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.again
}

func (r *receiver) mostAtOnce() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most
}

// reply is what a receiver says.
type reply struct {
	code   int // 0: the connection breaks
	text   string
	header []string // name, value
}

func (r *reply) response() *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(r.header); i += 2 {
		h.Set(r.header[i], r.header[i+1])
	}
	return &http.Response{StatusCode: r.code, Header: h, Body: io.NopCloser(strings.NewReader(r.text))}
}

// status is an answer without counts.
func status(code int, text string, header ...string) *reply {
	return &reply{code: code, text: text, header: header}
}

// broken is no answer at all.
func broken() *reply { return &reply{} }

// full is a 204 that confirms everything.
func full(r *request) *reply {
	if r.version == remotewrite.V1 {
		return status(http.StatusNoContent, "")
	}
	var samples, histograms, exemplars int
	for _, l := range r.lines {
		switch {
		case strings.Contains(l, "] exemplar "):
			exemplars++
		case strings.Contains(l, "] histogram "):
			histograms++
		default:
			samples++
		}
	}
	return status(http.StatusNoContent, "", remotewrite.HeaderSamplesWritten, strconv.Itoa(samples),
		remotewrite.HeaderHistogramsWritten, strconv.Itoa(histograms), remotewrite.HeaderExemplarsWritten, strconv.Itoa(exemplars))
}

// content is every line that was stored, sorted, duplicates included.
func (r *receiver) content() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, s := range r.stored {
		out = append(out, s.lines...)
	}
	slices.Sort(out)
	return out
}

// rig is a collector without its HTTP listener.
type rig struct {
	t    *testing.T
	dir  string
	q    *spool.Queue
	core *server.Core
	f    *Forwarder
	recv *receiver

	stop func() // ends the forwarder
	sent []string
}

// newRig opens a queue and makes a forwarder, which does not run yet.
func newRig(t *testing.T, recv *receiver, opt spool.Options, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "queue"), recv: recv}
	recv.t = t
	r.open(opt, change)
	return r
}

func (r *rig) open(opt spool.Options, change func(*Config)) {
	r.t.Helper()
	if opt.Sync == "" {
		opt.Sync = spool.SyncNever // the spool's own tests are about that
	}
	q, err := spool.Open(r.dir, opt)
	if err != nil {
		r.t.Fatal(err)
	}
	r.q = q
	r.t.Cleanup(func() {
		if err := q.Close(); err != nil {
			r.t.Error(err)
		}
	})
	if r.core, err = server.New(server.Config{Sink: NewSink(q), Ready: Ready(q), Limits: remotewrite.Limits{FutureTolerance: -1}}); err != nil {
		r.t.Fatal(err)
	}
	c := Config{Queue: q, URL: "http://receiver/api/v1/write", Transport: r.recv, DeadDir: filepath.Join(r.dir, "dead"), RequestsPerSecond: -1}
	if change != nil {
		change(&c)
	}
	if r.f, err = NewForwarder(c); err != nil {
		r.t.Fatal(err)
	}
}

// run starts the forwarder; it ends with the test, or when the result is called.
func (r *rig) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.f.Run(ctx, nil) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				r.t.Errorf("Run: %v", err)
			}
		})
	}
	r.t.Cleanup(stop)
	r.stop = stop
	return stop
}

// drain sends everything that there is.
func (r *rig) drain() {
	r.t.Helper()
	everything := make(chan struct{})
	close(everything)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	if err := r.f.Run(ctx, everything); err != nil {
		r.t.Fatal(err)
	}
}

// post sends a body through the local endpoint and returns the status.
func (r *rig) post(lane spool.Lane, v remotewrite.Version, body []byte) int {
	r.t.Helper()
	res := r.core.Ingest(context.Background(), server.Input{Org: lane.Org, Cluster: lane.Cluster, ContentType: v.ContentType(), ContentEncoding: "snappy", Body: body})
	if res.Status/100 == 2 {
		l, err := lines(v, body)
		if err != nil {
			r.t.Fatal(err)
		}
		r.sent = append(r.sent, l...)
	}
	return res.Status
}

// mustPost is post that expects to be acknowledged.
func (r *rig) mustPost(lane spool.Lane, v remotewrite.Version, body []byte) {
	r.t.Helper()
	if got := r.post(lane, v, body); got != http.StatusNoContent {
		r.t.Fatalf("status %d", got)
	}
}

// check compares what was acknowledged with what was stored: all of it, and once.
func (r *rig) check() {
	r.t.Helper()
	want := slices.Clone(r.sent)
	slices.Sort(want)
	got := r.recv.content()
	if !slices.Equal(want, got) {
		r.t.Errorf("%d lines were acknowledged, %d are stored: lost %d, too many %d", len(want), len(got), len(minus(want, got)), len(minus(got, want)))
		for _, l := range minus(want, got)[:min(3, len(minus(want, got)))] {
			r.t.Errorf("lost: %s", l)
		}
	}
}

// minus is what is in a more often than in b.
func minus(a, b []string) (out []string) {
	n := map[string]int{}
	for _, l := range b {
		n[l]++
	}
	for _, l := range a {
		if n[l]--; n[l] < 0 {
			out = append(out, l)
		}
	}
	return out
}

func capture(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("../../fixtures/captures", name+".snappy"))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// shifted is a 1.0 capture as if it had been taken later.
func shifted(tb testing.TB, name string, ms int64) []byte {
	tb.Helper()
	b, err := remotewrite.Decode(nil, capture(tb, name), 1<<28)
	if err == nil {
		err = remotewrite.Shift(remotewrite.V1, b, ms)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return remotewrite.Encode(nil, b)
}

// copyDir is what a kill at this moment would leave.
func copyDir(tb testing.TB, from string) string {
	tb.Helper()
	to := filepath.Join(tb.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		tb.Fatal(err)
	}
	return to
}

// equalBodies says whether all requests have the same bytes.
func equalBodies(rs []request) bool {
	for _, r := range rs[1:] {
		if !bytes.Equal(r.body, rs[0].body) {
			return false
		}
	}
	return true
}
