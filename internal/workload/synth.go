package workload

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// SynthConfig describes traffic to make. The same configuration makes the same bytes.
type SynthConfig struct {
	Orgs      int           // how many
	Clusters  int           // in each org
	Series    int           // in each cluster
	Batch     int           // series in a request, as Prometheus' max_samples_per_send; 0 = all of a cluster
	Scrapes   int           // how often each series has a sample
	Interval  time.Duration // between scrapes
	Churn     float64       // share of a cluster's series that are new ones at each scrape, 0 to 1
	Histogram float64       // share of series that are native histograms, 0 to 1
	Version   remotewrite.Version
	Start     time.Time // of the first scrape
	Seed      uint64
}

// Request is one request that was made.
type Request struct {
	Key  capture.Key
	Body []byte
}

// Check returns everything that is wrong with c.
func (c *SynthConfig) Check() error {
	var errs []error
	for _, n := range []struct {
		name  string
		value int
	}{{"orgs", c.Orgs}, {"clusters", c.Clusters}, {"series", c.Series}, {"scrapes", c.Scrapes}} {
		if n.value < 1 || n.value > 10_000_000 {
			errs = append(errs, fmt.Errorf("%s must be from 1 to 10,000,000, not %d", n.name, n.value))
		}
	}
	if c.Batch < 0 {
		errs = append(errs, fmt.Errorf("batch must not be negative, but is %d", c.Batch))
	}
	if c.Interval < time.Millisecond {
		errs = append(errs, fmt.Errorf("the interval must be at least 1ms, not %v", c.Interval))
	}
	for _, r := range []struct {
		name  string
		value float64
	}{{"churn", c.Churn}, {"histograms", c.Histogram}} {
		if !(r.value >= 0 && r.value <= 1) {
			errs = append(errs, fmt.Errorf("%s must be a share from 0 to 1, not %v", r.name, r.value))
		}
	}
	if c.Version != remotewrite.V1 && c.Version != remotewrite.V2 {
		errs = append(errs, fmt.Errorf("the protocol is 1 or 2, not %d", c.Version))
	}
	if y := c.Start.Year(); y < 1972 || y > 2100 {
		errs = append(errs, fmt.Errorf("the start must lie between 1972 and 2100, not in %d", y))
	}
	return errors.Join(errs...)
}

// Requests is how many requests Synth makes.
func (c SynthConfig) Requests() int64 {
	each := int64(1)
	if c.Batch > 0 {
		each = (int64(c.Series) + int64(c.Batch) - 1) / int64(c.Batch)
	}
	return int64(c.Scrapes) * int64(c.Orgs) * int64(c.Clusters) * each
}

// Synth makes the requests in the order of their time and hands each to put. It needs memory for one request
// at a time, whatever the size of the corpus.
func Synth(ctx context.Context, c SynthConfig, put func(context.Context, Request) error) error {
	if err := c.Check(); err != nil {
		return err
	}
	batch := c.Batch
	if batch == 0 {
		batch = c.Series
	}
	for scrape := range c.Scrapes {
		for org := range c.Orgs {
			for cluster := range c.Clusters {
				g := generator{c: &c, org: org, cluster: cluster, scrape: scrape}
				g.rng = rand.New(rand.NewPCG(c.Seed, uint64(scrape)<<40^uint64(org)<<20^uint64(cluster)))
				// Targets are scraped at different moments of the interval.
				offset := time.Duration(rand.New(rand.NewPCG(c.Seed^0x5bd1, uint64(org)<<20^uint64(cluster))).Int64N(int64(c.Interval)))
				g.at = c.Start.Add(time.Duration(scrape)*c.Interval + offset).UnixMilli()
				for first := 0; first < c.Series; first += batch {
					if err := ctx.Err(); err != nil {
						return err
					}
					body, err := g.request(first, min(first+batch, c.Series))
					if err != nil {
						return err
					}
					key := capture.NewKey(OrgName(org), ClusterName(cluster), c.Version, time.UnixMilli(g.at).UTC(), body)
					if err := put(ctx, Request{key, body}); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// OrgName and ClusterName are what synthetic orgs and clusters are called.
func OrgName(i int) string { return "org-" + strconv.Itoa(i+1) }

// ClusterName is the name of the i-th cluster, from 0, of any org.
func ClusterName(i int) string { return "cluster-" + strconv.Itoa(i+1) }

// generator makes the requests of one scrape of one cluster.
type generator struct {
	c                    *SynthConfig
	org, cluster, scrape int
	at                   int64 // ms
	rng                  *rand.Rand
}

// metrics are names of the kind that a cluster has, with the share of the label that tells their series apart.
func metrics() []string {
	return []string{
		"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_network_receive_bytes_total",
		"kube_pod_status_phase", "kube_deployment_status_replicas", "http_requests_total", "go_goroutines", "process_resident_memory_bytes",
		"node_cpu_seconds_total", "node_filesystem_avail_bytes", "apiserver_request_total", "etcd_disk_wal_fsync_duration_seconds_count",
	}
}

// labelsOf returns the sorted names and values of series i, which is the same at every scrape until churn
// replaces it: as pods are, by one with another name.
func (g *generator) labelsOf(i int, histogram bool) []string {
	generation := 0
	if g.c.Churn > 0 {
		// Each series is replaced every 1/churn scrapes, not all at one time.
		generation = int(float64(g.scrape)*g.c.Churn + float64(i%997)/997)
	}
	name := metrics()[i%len(metrics())]
	if histogram {
		name = "http_request_duration_seconds"
	}
	pod := i / len(metrics())
	id := rand.New(rand.NewPCG(g.c.Seed, uint64(g.org)<<44^uint64(g.cluster)<<32^uint64(pod)<<8^uint64(generation)))
	service := "service-" + strconv.Itoa(pod%40)
	return []string{
		"__name__", name,
		"cluster", ClusterName(g.cluster),
		"container", service,
		"instance", fmt.Sprintf("10.%d.%d.%d:8080", g.cluster%256, pod/250%256, pod%250),
		"job", "kubernetes-pods",
		"namespace", "team-" + strconv.Itoa(pod%12),
		"pod", fmt.Sprintf("%s-%08x-%05x", service, id.Uint32(), id.Uint32()&0xfffff),
		"shard", strconv.Itoa(i),
	}
}

// value is a counter's: it grows from scrape to scrape.
func (g *generator) value(i int) float64 {
	return math.Floor(float64(g.scrape+1)*float64(10+i%1000) + g.rng.Float64()*float64(i%1000))
}

// isHistogram spreads native histograms evenly over the series.
func (g *generator) isHistogram(i int) bool {
	return math.Floor(float64(i+1)*g.c.Histogram) > math.Floor(float64(i)*g.c.Histogram)
}

func (g *generator) request(first, end int) ([]byte, error) {
	var raw []byte
	var err error
	if g.c.Version == remotewrite.V1 {
		raw, err = g.v1(first, end).Marshal()
	} else {
		raw, err = g.v2(first, end).Marshal()
	}
	if err != nil {
		return nil, fmt.Errorf("marshalling a request: %w", err)
	}
	return snappy.Encode(nil, raw), nil
}

func (g *generator) v1(first, end int) *prompb.WriteRequest {
	r := &prompb.WriteRequest{}
	for i := first; i < end; i++ {
		h := g.isHistogram(i)
		ts := prompb.TimeSeries{}
		for pair := range slices.Chunk(g.labelsOf(i, h), 2) {
			ts.Labels = append(ts.Labels, prompb.Label{Name: pair[0], Value: pair[1]})
		}
		if h {
			count, sum, deltas := g.buckets(i)
			ts.Histograms = []prompb.Histogram{{
				Count: &prompb.Histogram_CountInt{CountInt: count}, Sum: sum, Schema: 3, ZeroThreshold: 1e-128,
				ZeroCount:     &prompb.Histogram_ZeroCountInt{ZeroCountInt: 0},
				PositiveSpans: []prompb.BucketSpan{{Offset: -20, Length: uint32(len(deltas))}}, PositiveDeltas: deltas, Timestamp: g.at,
			}}
		} else {
			ts.Samples = []prompb.Sample{{Value: g.value(i), Timestamp: g.at}}
		}
		r.Timeseries = append(r.Timeseries, ts)
	}
	return r
}

func (g *generator) v2(first, end int) *writev2.Request {
	symbols := writev2.NewSymbolTable()
	r := &writev2.Request{}
	for i := first; i < end; i++ {
		h := g.isHistogram(i)
		ts := writev2.TimeSeries{}
		for _, s := range g.labelsOf(i, h) {
			ts.LabelsRefs = append(ts.LabelsRefs, symbols.Symbolize(s))
		}
		ts.Metadata.Type = writev2.Metadata_METRIC_TYPE_COUNTER
		if h {
			ts.Metadata.Type = writev2.Metadata_METRIC_TYPE_HISTOGRAM
			count, sum, deltas := g.buckets(i)
			ts.Histograms = []writev2.Histogram{{
				Count: &writev2.Histogram_CountInt{CountInt: count}, Sum: sum, Schema: 3, ZeroThreshold: 1e-128,
				ZeroCount:     &writev2.Histogram_ZeroCountInt{ZeroCountInt: 0},
				PositiveSpans: []writev2.BucketSpan{{Offset: -20, Length: uint32(len(deltas))}}, PositiveDeltas: deltas, Timestamp: g.at,
			}}
		} else {
			ts.Samples = []writev2.Sample{{Value: g.value(i), Timestamp: g.at}}
		}
		r.Timeseries = append(r.Timeseries, ts)
	}
	r.Symbols = symbols.Symbols()
	return r
}

// buckets makes the buckets of a latency histogram: a hump, as differences from one bucket to the next.
func (g *generator) buckets(i int) (count uint64, sum float64, deltas []int64) {
	const n = 24
	prev := int64(0)
	for b := range n {
		x := float64(b-n/2) / 4
		in := int64(math.Floor(float64(g.scrape+1) * float64(20+i%50) * math.Exp(-x*x/2) * (0.9 + 0.2*g.rng.Float64())))
		deltas = append(deltas, in-prev)
		prev = in
		count += uint64(in)
		sum += float64(in) * math.Exp2(float64(b-20)/8)
	}
	return count, sum, deltas
}
