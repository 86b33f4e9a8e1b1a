package promtsdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/workload"
)

// Defaults of [Config].
const (
	DefaultBatch = 2000            // samples in a request: max_samples_per_send of Prometheus 3
	DefaultSpan  = 5 * time.Second // batch_send_deadline
	// DefaultWindow is how many samples of blocks are in memory at most, of some 70 bytes each.
	DefaultWindow = 1_000_000
)

// Config says what is imported and as what. Dir, Org, Cluster and Version are required.
type Config struct {
	// Dir is the data directory of a Prometheus server or agent: blocks and wal/, one of them suffices.
	Dir string
	// From and To bound the time of the samples, To not included; zero: no bound.
	From, To time.Time
	// Match selects series: NAME=VALUE, NAME!=VALUE, NAME=~REGEXP or NAME!~REGEXP, all of which must hold.
	Match []string
	// Org and Cluster name the source. ClusterLabel, if set, names a label whose value is the cluster of its
	// series instead, where it is a valid name.
	Org, Cluster, ClusterLabel string
	// ExternalLabels are added to every series that lacks them, as Prometheus does when it sends; they are not
	// in its database.
	ExternalLabels map[string]string
	Version        remotewrite.Version
	// Batch is how many samples a request holds at most; 0 = DefaultBatch. Span is how much time a batch covers
	// at most; 0 = DefaultSpan.
	Batch int
	Span  time.Duration
	// Window is how many samples are in memory at most; 0 = DefaultWindow.
	Window int
}

// Result counts what was imported and what was not.
type Result struct {
	Requests, Series                int64
	Samples, Histograms, Exemplars  int64
	FromBlocks, FromLog             int64 // samples, histograms and exemplars
	Blocks, Segments                int   // read
	First, Last                     time.Time
	LeftOut                         []LeftOut // sorted by reason
	StartTimestamps, MetadataSeries int64     // carried along, in 2.0 only
}

// LeftOut is something of the database that is not in the corpus.
type LeftOut struct {
	Reason string
	Count  int64  // 0: not counted
	Unit   string // of Count, singular
}

// String says it in one line.
func (l LeftOut) String() string {
	switch l.Count {
	case 0:
		return l.Reason
	case 1:
		return "1 " + l.Unit + ": " + l.Reason
	}
	unit := l.Unit
	if !strings.HasSuffix(unit, "s") {
		unit += "s"
	}
	return fmt.Sprintf("%d %s: %s", l.Count, unit, l.Reason)
}

// Error says what is wrong with the database or with what is asked of it.
type Error struct {
	Problem string
	Err     error // or nil
	hint    string
}

// Error names the problem, without the hint.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Problem + ": " + e.Err.Error()
	}
	return e.Problem
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *Error) Hint() string { return e.hint }

// series is one series of the database. Several may have the same labels: in different blocks.
type series struct {
	labels  labels.Labels
	cluster string // empty: not selected
	hash    uint64
	meta    *metadata
}

type metadata struct {
	kind       model.MetricType
	unit, help string
}

// sample is a float, a histogram or an exemplar of a series.
type sample struct {
	t, st    int64 // ms; st 0: none
	v        float64
	series   *series
	h        *histogram.Histogram
	fh       *histogram.FloatHistogram
	exemplar *labels.Labels
}

type importer struct {
	c        Config
	put      func(context.Context, workload.Request) error
	match    []*labels.Matcher
	external []labels.Label
	from, to int64 // ms
	res      Result
	left     map[string]*LeftOut
	sent     map[uint64]struct{} // hashes of the series sent
	nameless map[uint64]struct{}
	batches  map[string]*batch
	inBlocks int64
	blocks   bool // blocks are being read, not the log
	enc      encoder
}

// Import reads the database and hands each request to put, in the order of time: first what blocks hold, then
// the log.
func Import(ctx context.Context, c Config, put func(context.Context, workload.Request) error) (res Result, err error) {
	im, err := newImporter(c, put)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		// The readers of index and chunks check what they read, and still are others' code on others' bytes.
		if p := recover(); p != nil {
			err = &Error{Problem: fmt.Sprintf("reading %s: %v", c.Dir, p), hint: "the database is damaged: does Prometheus open it? " + firstLine(debug.Stack())}
		}
	}()
	blocks, err := im.findBlocks()
	if err != nil {
		return Result{}, err
	}
	wal := filepath.Join(c.Dir, "wal")
	segments, err := walFiles(wal)
	if err != nil {
		return Result{}, err
	}
	if len(blocks) == 0 && len(segments) == 0 {
		return Result{}, &Error{Problem: c.Dir + " holds neither blocks nor a write-ahead log", hint: "give the directory of --storage.tsdb.path: it holds wal/ and directories with meta.json"}
	}
	im.res.Blocks, im.res.Segments = len(blocks), len(segments)
	im.blocks = true
	if err := im.readBlocks(ctx, blocks); err != nil {
		return Result{}, err
	}
	im.blocks = false
	covered := int64(math.MinInt64)
	for _, b := range blocks {
		if !b.outOfOrder() {
			covered = max(covered, b.meta.MaxTime)
		}
	}
	if err := im.readHead(ctx, wal, covered); err != nil {
		return Result{}, err
	}
	im.leaveOthers()
	return im.result(), nil
}

func firstLine(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\n")
	return s
}

func newImporter(c Config, put func(context.Context, workload.Request) error) (*importer, error) {
	im := &importer{c: c, put: put, left: map[string]*LeftOut{}, sent: map[uint64]struct{}{}, nameless: map[uint64]struct{}{}, batches: map[string]*batch{}, from: math.MinInt64, to: math.MaxInt64}
	im.c.Batch, im.c.Span, im.c.Window = cmp.Or(c.Batch, DefaultBatch), cmp.Or(c.Span, DefaultSpan), cmp.Or(c.Window, DefaultWindow)
	var errs []error
	for _, name := range []string{c.Org, c.Cluster} {
		if err := capture.ValidName(name); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Version != remotewrite.V1 && c.Version != remotewrite.V2 {
		errs = append(errs, fmt.Errorf("the protocol is 1 or 2, not %d", c.Version))
	}
	if im.c.Batch < 1 || im.c.Batch > 1_000_000 {
		errs = append(errs, fmt.Errorf("a batch must be of 1 to 1,000,000 samples, not %d", c.Batch))
	}
	if im.c.Span < time.Millisecond || im.c.Span > 24*time.Hour {
		errs = append(errs, fmt.Errorf("a batch must span 1ms to 24h, not %v", c.Span))
	}
	if !c.From.IsZero() {
		im.from = c.From.UnixMilli()
	}
	if !c.To.IsZero() {
		im.to = c.To.UnixMilli()
	}
	if im.from >= im.to {
		errs = append(errs, errors.New("the time range is empty"))
	}
	for _, s := range c.Match {
		m, err := parseMatcher(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		im.match = append(im.match, m)
	}
	for name, value := range c.ExternalLabels {
		if name == "" || name == model.MetricNameLabel || value == "" {
			errs = append(errs, fmt.Errorf("%q=%q is no external label", name, value))
		}
		im.external = append(im.external, labels.Label{Name: name, Value: value})
	}
	slices.SortFunc(im.external, func(a, b labels.Label) int { return strings.Compare(a.Name, b.Name) })
	if err := errors.Join(errs...); err != nil {
		return nil, &Error{Problem: "importing a Prometheus database", Err: err, hint: "run 'cirrusbench capture import --help' for an example"}
	}
	return im, nil
}

// Check says what is wrong with c, before anything is read.
func (c Config) Check() error {
	_, err := newImporter(c, nil)
	return err
}

// parseMatcher reads NAME=VALUE and its three brothers. The value may be quoted, as in PromQL.
func parseMatcher(s string) (*labels.Matcher, error) {
	i := strings.IndexAny(s, "=!")
	if i <= 0 {
		return nil, fmt.Errorf("%q is not NAME=VALUE, NAME!=VALUE, NAME=~REGEXP or NAME!~REGEXP", s)
	}
	name, rest := strings.TrimSpace(s[:i]), s[i:]
	for _, op := range []struct {
		text string
		kind labels.MatchType
	}{{"=~", labels.MatchRegexp}, {"!~", labels.MatchNotRegexp}, {"!=", labels.MatchNotEqual}, {"=", labels.MatchEqual}} {
		value, ok := strings.CutPrefix(rest, op.text)
		if !ok {
			continue
		}
		if value = strings.TrimSpace(value); len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		m, err := labels.NewMatcher(op.kind, name, value)
		if err != nil {
			return nil, fmt.Errorf("matcher %q: %w", s, err)
		}
		return m, nil
	}
	return nil, fmt.Errorf("%q is not NAME=VALUE, NAME!=VALUE, NAME=~REGEXP or NAME!~REGEXP", s)
}

// selects says whether the labels are wanted, as they are in the database.
func (im *importer) selects(l labels.Labels) bool {
	for _, m := range im.match {
		if !m.Matches(l.Get(m.Name)) {
			return false
		}
	}
	return true
}

// newSeries makes a series of labels; one that is not selected has no cluster.
func (im *importer) newSeries(l labels.Labels) *series {
	s := &series{}
	if !im.selects(l) {
		return s
	}
	if l.Get(model.MetricNameLabel) == "" {
		im.nameless[l.Hash()] = struct{}{}
		return s
	}
	s.cluster = im.c.Cluster
	if im.c.ClusterLabel != "" {
		if value := l.Get(im.c.ClusterLabel); capture.ValidName(value) == nil {
			s.cluster = value
		}
	}
	if len(im.external) > 0 {
		b := labels.NewBuilder(l)
		for _, e := range im.external {
			if !l.Has(e.Name) {
				b.Set(e.Name, e.Value)
			}
		}
		l = b.Labels()
	}
	s.labels, s.hash = l, l.Hash()
	return s
}

// leave counts something that is not imported.
func (im *importer) leave(reason string, n int64, unit string) {
	const maxReasons = 100
	l := im.left[reason]
	if l == nil {
		if len(im.left) >= maxReasons {
			return
		}
		l = &LeftOut{Reason: reason, Unit: unit}
		im.left[reason] = l
	}
	l.Count += n
}

// take adds a sample to the batch of its cluster.
func (im *importer) take(ctx context.Context, s sample) error {
	if s.series.cluster == "" {
		return nil
	}
	if im.c.Version == remotewrite.V1 {
		if (s.h != nil && s.h.UsesCustomBuckets()) || (s.fh != nil && s.fh.UsesCustomBuckets()) {
			im.leave("native histograms with custom buckets, which 1.0 cannot carry", 1, "histogram")
			return nil
		}
		if s.st != 0 {
			im.leave("start timestamps, which 1.0 cannot carry; their samples are imported", 1, "start timestamp")
			s.st = 0
		}
	}
	b := im.batches[s.series.cluster]
	if b == nil {
		b = &batch{cluster: s.series.cluster}
		im.batches[b.cluster] = b
	}
	span := im.c.Span.Milliseconds()
	if len(b.samples) > 0 && (len(b.samples) >= im.c.Batch || s.t-b.first >= span || b.newest-s.t >= span) {
		if err := im.send(ctx, b); err != nil {
			return err
		}
	}
	b.add(s)
	return nil
}

// batch is a request in the making.
type batch struct {
	cluster       string
	samples       []sample
	first, newest int64
}

func (b *batch) add(s sample) {
	if len(b.samples) == 0 {
		b.first, b.newest = s.t, s.t
	}
	b.newest = max(b.newest, s.t)
	b.samples = append(b.samples, s)
}

// flush sends what is left, the oldest first.
func (im *importer) flush(ctx context.Context) error {
	var rest []*batch
	for _, b := range im.batches {
		if len(b.samples) > 0 {
			rest = append(rest, b)
		}
	}
	slices.SortFunc(rest, func(a, b *batch) int {
		return cmp.Or(cmp.Compare(a.newest, b.newest), strings.Compare(a.cluster, b.cluster))
	})
	for _, b := range rest {
		if err := im.send(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// send makes a request of a batch, if the server would take it, and empties the batch.
func (im *importer) send(ctx context.Context, b *batch) error {
	defer func() {
		clear(b.samples)
		b.samples = b.samples[:0]
	}()
	body, sum, err := im.enc.encode(im.c.Version, b.samples)
	if err != nil {
		if refused, ok := errors.AsType[*remotewrite.Error](err); ok {
			im.leave("requests that a receiver would refuse: "+refused.Detail, 1, "request")
			return nil
		}
		return err
	}
	key := capture.NewKey(im.c.Org, b.cluster, im.c.Version, time.UnixMilli(sum.MaxTimestampMS).UTC(), body)
	if err := im.put(ctx, workload.Request{Key: key, Body: body}); err != nil {
		return err
	}
	r := &im.res
	r.Requests++
	r.Samples += int64(sum.Samples)
	r.Histograms += int64(sum.Histograms())
	r.Exemplars += int64(sum.Exemplars)
	n := int64(sum.Samples + sum.Histograms() + sum.Exemplars)
	if im.blocks {
		r.FromBlocks += n
	} else {
		r.FromLog += n
	}
	first, last := time.UnixMilli(sum.MinTimestampMS).UTC(), time.UnixMilli(sum.MaxTimestampMS).UTC()
	if r.First.IsZero() || first.Before(r.First) {
		r.First = first
	}
	if last.After(r.Last) {
		r.Last = last
	}
	for i := range b.samples {
		im.sent[b.samples[i].series.hash] = struct{}{}
		if b.samples[i].st != 0 {
			r.StartTimestamps++
		}
	}
	return nil
}

func (im *importer) result() Result {
	if n := len(im.nameless); n > 0 {
		im.leave("they have no metric name, which remote write does not take", int64(n), "series")
	}
	r := im.res
	r.Series = int64(len(im.sent))
	for _, l := range im.left {
		r.LeftOut = append(r.LeftOut, *l)
	}
	slices.SortFunc(r.LeftOut, func(a, b LeftOut) int { return strings.Compare(a.Reason, b.Reason) })
	return r
}
