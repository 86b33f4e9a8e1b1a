package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cirrusbench/cirrusbench/internal/collector"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

// collectMetrics are those of the local endpoint and, with the prefix cirrusbench_collector_, of the queue and of what
// is forwarded.
type collectMetrics struct {
	server *metrics
	fsync  prometheus.Histogram
	group  prometheus.Histogram

	batchBytes, batchSamples, batchRecords, attempt prometheus.Histogram
}

func newCollectMetrics() *collectMetrics {
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "cirrusbench", Subsystem: "collector", Name: name, Help: help, Buckets: buckets})
	}
	m := &collectMetrics{
		server:       newMetrics(),
		fsync:        histogram("fsync_seconds", "Time of a sync of the queue.", prometheus.ExponentialBuckets(50e-6, 2, 18)),
		group:        histogram("fsync_requests", "Requests that a sync made durable.", prometheus.ExponentialBuckets(1, 2, 10)),
		batchBytes:   histogram("batch_bytes", "Bytes of delivered requests, compressed.", prometheus.ExponentialBuckets(1<<10, 2, 14)),
		batchSamples: histogram("batch_samples", "Samples and histograms in delivered requests.", prometheus.ExponentialBuckets(10, 4, 9)),
		batchRecords: histogram("batch_requests", "Received requests in a delivered one.", prometheus.ExponentialBuckets(1, 2, 14)),
		attempt:      histogram("delivery_seconds", "Time of an attempt that delivered.", prometheus.ExponentialBuckets(1e-3, 2, 16)),
	}
	m.server.registry.MustRegister(m.fsync, m.group, m.batchBytes, m.batchSamples, m.batchRecords, m.attempt)
	return m
}

// sync is told of every sync of the queue.
func (m *collectMetrics) sync(d time.Duration, records int) {
	m.fsync.Observe(d.Seconds())
	m.group.Observe(float64(records))
}

// batch is told of every delivered request.
func (m *collectMetrics) batch(b collector.Batch) {
	m.batchBytes.Observe(float64(b.Bytes))
	m.batchSamples.Observe(float64(b.Samples))
	m.batchRecords.Observe(float64(b.Records))
	m.attempt.Observe(b.Took.Seconds())
}

// watch adds what is asked for when somebody scrapes.
func (m *collectMetrics) watch(q *spool.Queue, f *collector.Forwarder, key *collector.Key) {
	m.server.registry.MustRegister(&collectState{q: q, f: f, key: key})
}

// collectState reads the state of the queue and of the forwarder at every scrape.
type collectState struct {
	q   *spool.Queue
	f   *collector.Forwarder
	key *collector.Key // nil: none
}

// Describe implements prometheus.Collector: what is sent depends on what has happened, so it is not checked before.
func (*collectState) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collectState) Collect(ch chan<- prometheus.Metric) {
	send := func(kind prometheus.ValueType, name, help string, v float64, labels ...string) {
		var names []string
		values := make([]string, 0, len(labels)/2)
		for i := 0; i < len(labels); i += 2 {
			names = append(names, labels[i])
			values = append(values, labels[i+1])
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("cirrusbench_collector_"+name, help, names, nil), kind, v, values...)
	}
	counter := func(name, help string, v int64, labels ...string) {
		send(prometheus.CounterValue, name, help, float64(v), labels...)
	}
	gauge := func(name, help string, v float64, labels ...string) {
		send(prometheus.GaugeValue, name, help, v, labels...)
	}
	now := time.Now()
	q, s := c.q.Stats(), c.f.Stats()

	age := 0.0
	if q.Pending.Records > 0 {
		age = now.Sub(q.Pending.Oldest).Seconds()
	}
	gauge("oldest_unsent_age_seconds", "How long the oldest request in the queue waits.", age)
	gauge("pending_requests", "Requests in the queue that are not delivered.", float64(q.Pending.Records))
	gauge("pending_samples", "Samples and histograms in them.", float64(q.Pending.Samples))
	gauge("pending_bytes", "Bytes of their bodies.", float64(q.Pending.Bytes))
	gauge("pending_lanes", "Orgs with clusters that have some.", float64(q.PendingLanes))
	gauge("waiting_lanes", "Of these, those that wait after a failure.", float64(s.LanesWaiting))
	gauge("segments", "Files of the queue.", float64(q.Segments), "state", "unsent")
	gauge("segments", "Files of the queue.", float64(q.SegmentsKept), "state", "sent")
	gauge("used_bytes", "Bytes in the directory of the queue.", float64(q.UsedBytes))
	gauge("disk_free_bytes", "Bytes free on its disk.", float64(q.FreeBytes))

	counter("acked_requests_total", "Requests taken into the queue.", q.Accepted.Records)
	counter("acked_samples_total", "Samples and histograms in them.", q.Accepted.Samples)
	counter("acked_bytes_total", "Bytes of their bodies.", q.Accepted.Bytes)
	counter("delivered_requests_total", "Received requests that are delivered.", s.Records)
	counter("delivered_samples_total", "Samples and histograms in them.", s.Samples)
	counter("delivered_bytes_total", "Bytes of bodies: as received, and as sent.", s.ReceivedBytes, "form", "received")
	counter("delivered_bytes_total", "Bytes of bodies: as received, and as sent.", s.SentBytes, "form", "sent")
	counter("batches_total", "Requests that the receiver has taken.", s.Requests)
	counter("attempts_total", "Requests sent, failures included.", s.Attempts)
	for reason, n := range s.Failures {
		counter("failures_total", "Attempts that failed, by status or reason.", n, "reason", reason)
	}
	for _, d := range []struct {
		why              string
		records, samples int64
	}{{"dead_letter", s.DeadRecords, s.DeadSamples}, {"drop_oldest_or_age", q.Dropped.Records, q.Dropped.Samples}} {
		counter("dropped_requests_total", "Accepted requests that are not delivered and will not be.", d.records, "why", d.why)
		counter("dropped_samples_total", "Samples and histograms in them.", d.samples, "why", d.why)
	}
	counter("dropped_metadata_total", "Metadata entries that the receiver did not take; the samples beside them are delivered.", s.DroppedMetadata)
	counter("refused_requests_total", "Requests answered 503 because the queue was full.", q.Refused)
	counter("splits_total", "Batches halved.", s.Splits)
	counter("replanned_total", "Batches that were not the same bytes after a restart.", s.Replanned)
	counter("plan_failures_total", "Batches sent without a plan on disk.", s.PlanFailures)
	counter("write_failures_total", "Writes and syncs of the queue that failed.", q.WriteFailures)
	counter("state_failures_total", "Writes of the state file that failed.", q.StateFailures)
	counter("corrupt_stretches_total", "Broken stretches of the queue passed over.", q.Corrupt)
	counter("corrupt_bytes_total", "Bytes in them.", q.CorruptBytes)
	counter("torn_bytes_total", "Bytes cut off at the end of files when the queue was opened.", q.TornBytes)
	counter("fsyncs_total", "Syncs of the queue.", q.Syncs)
	if !s.LastSuccess.IsZero() {
		gauge("last_success_timestamp_seconds", "When the receiver took a request last.", float64(s.LastSuccess.UnixMilli())/1e3)
	}
	unauthorized := 0.0
	if !s.UnauthorizedFrom.IsZero() {
		unauthorized = now.Sub(s.UnauthorizedFrom).Seconds()
	}
	gauge("unauthorized_seconds", "For how long the receiver has been answering 401 or 403; 0: it is not.", unauthorized)
	if c.key != nil {
		gauge("key_age_seconds", "Since when the key in use is used.", now.Sub(c.key.Since()).Seconds())
	}
}
