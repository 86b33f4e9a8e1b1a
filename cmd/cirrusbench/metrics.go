package main

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/cirrusbench/cirrusbench/internal/kinesis"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
)

// metrics are the server's observations as Prometheus sees them. Every label set is bounded: neither the org nor
// the cluster nor anything a sender writes is one.
type metrics struct {
	registry *prometheus.Registry

	requests   *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	written    *prometheus.CounterVec
	rejected   *prometheus.CounterVec
	rejections *prometheus.CounterVec
	stale      prometheus.Counter
	duplicates prometheus.Counter
	unsorted   prometheus.Counter
	empty      prometheus.Counter
	partial    prometheus.Counter
	refused    *prometheus.CounterVec
	decode     prometheus.Histogram
	store      prometheus.Histogram
	total      prometheus.Histogram
}

var _ server.Metrics = (*metrics)(nil)

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "cirrusbench", Name: name, Help: help}, labels)
	}
	plain := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "cirrusbench", Name: name, Help: help})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "cirrusbench", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18),
		})
	}
	m := &metrics{
		registry:   prometheus.NewRegistry(),
		requests:   counter("requests_total", "Remote-write requests by answer and protocol version.", "code", "version"),
		bytes:      counter("received_bytes_total", "Bytes of request bodies, as sent (wire) and decompressed (decoded).", "form"),
		written:    counter("written_total", "What was stored, duplicates not counted again.", "kind"),
		rejected:   counter("rejected_total", "What was in refused requests, as far as they could be read.", "kind"),
		rejections: counter("rejected_requests_total", "Refused requests by reason.", "reason"),
		stale:      plain("stale_samples_total", "Stored samples that are staleness markers."),
		duplicates: plain("duplicate_requests_total", "Requests that had been stored before."),
		unsorted:   plain("unsorted_series_total", "Stored series whose labels were not sorted."),
		empty:      plain("empty_labels_total", "Labels of stored series that have no value."),
		partial:    plain("partial_writes_total", "Refused requests of which the good part was stored."),
		refused:    counter("refused_series_total", "Series and metadata entries refused in requests that were read to their end, by reason.", "reason"),
		decode:     histogram("decode_seconds", "Time to decompress and validate a request."),
		store:      histogram("store_seconds", "Time in the store, failures included."),
		total:      histogram("request_seconds", "Time from the headers to the answer, reading the body included."),
	}
	m.registry.MustRegister(m.requests, m.bytes, m.written, m.rejected, m.rejections, m.stale, m.duplicates, m.unsorted, m.empty, m.partial, m.refused,
		m.decode, m.store, m.total, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for r := range server.Reasons() {
		m.rejections.WithLabelValues(r)
	}
	for r := range remotewrite.Reasons() {
		m.refused.WithLabelValues(r)
	}
	for _, kind := range kinds {
		m.written.WithLabelValues(kind)
		m.rejected.WithLabelValues(kind)
	}
	return m
}

var kinds = [...]string{"samples", "histograms", "exemplars", "metadata"} //nolint:gochecknoglobals // a constant list

// watch adds gauges of what is under way.
func (m *metrics) watch(inFlight func() (requests, bytes int64)) {
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "cirrusbench", Name: name, Help: help}, value))
	}
	gauge("in_flight_requests", "Requests under way.", func() float64 { n, _ := inFlight(); return float64(n) })
	gauge("in_flight_bytes", "Memory reserved by requests under way.", func() float64 { _, n := inFlight(); return float64(n) })
}

// watchStream adds what the stats of a stream to Kinesis say.
func (m *metrics) watchStream(stats func() kinesis.Stats) {
	add := func(name, help string, value func(kinesis.Stats) float64) {
		get := func() float64 { return value(stats()) }
		if strings.HasSuffix(name, "_total") {
			m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "cirrusbench", Subsystem: "stream", Name: name, Help: help}, get))
			return
		}
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "cirrusbench", Subsystem: "stream", Name: name, Help: help}, get))
	}
	add("sent_records_total", "Records that Kinesis has taken.", func(s kinesis.Stats) float64 { return float64(s.Sent) })
	add("sent_bytes_total", "Bytes of them, partition keys included.", func(s kinesis.Stats) float64 { return float64(s.SentBytes) })
	add("calls_total", "Calls of PutRecords.", func(s kinesis.Stats) float64 { return float64(s.Calls) })
	add("failed_calls_total", "Calls that failed as a whole.", func(s kinesis.Stats) float64 { return float64(s.FailedCalls) })
	add("retried_records_total", "Records that a call did not take, each time counted.", func(s kinesis.Stats) float64 { return float64(s.Retried) })
	add("refused_records_total", "Records that found the queue full.", func(s kinesis.Stats) float64 { return float64(s.Refused) })
	add("queue_records", "Records that wait or are in a call.", func(s kinesis.Stats) float64 { return float64(s.Records) })
	add("queue_bytes", "Bytes of them.", func(s kinesis.Stats) float64 { return float64(s.Bytes) })
}

// Observe implements server.Metrics.
func (m *metrics) Observe(o server.Observation) {
	version := "unknown"
	if o.Version != 0 {
		version = o.Version.String()
	}
	m.requests.WithLabelValues(strconv.Itoa(o.Status), version).Inc()
	m.bytes.WithLabelValues("wire").Add(float64(o.WireBytes))
	m.bytes.WithLabelValues("decoded").Add(float64(o.DecodedBytes))
	m.total.Observe(o.Total.Seconds())
	if o.Decode > 0 {
		m.decode.Observe(o.Decode.Seconds())
	}
	if o.Store > 0 {
		m.store.Observe(o.Store.Seconds())
	}
	if o.Reason != "" {
		m.rejections.WithLabelValues(o.Reason).Inc()
		for i, n := range [...]int{o.Rejected.Samples, o.Rejected.Histograms, o.Rejected.Exemplars, o.Rejected.Metadata} {
			m.rejected.WithLabelValues(kinds[i]).Add(float64(n))
		}
		for reason, n := range o.Refused {
			m.refused.WithLabelValues(reason).Add(float64(n))
		}
		if !o.Partial {
			return
		}
		m.partial.Inc()
	}
	if o.Duplicate {
		m.duplicates.Inc()
		return
	}
	s := o.Summary
	for i, n := range [...]int{s.Samples, s.Histograms(), s.Exemplars, s.Metadata} {
		m.written.WithLabelValues(kinds[i]).Add(float64(n))
	}
	m.stale.Add(float64(s.StaleSamples))
	m.unsorted.Add(float64(s.UnsortedSeries))
	m.empty.Add(float64(s.EmptyLabels))
}
