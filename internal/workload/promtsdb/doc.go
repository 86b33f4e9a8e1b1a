// Package promtsdb makes captured requests of a Prometheus database: the bodies that its remote write would
// have sent, in the order of time, from the blocks on disk and from the write-ahead log of the head.
//
//	blocks ─► windows of time ─┐
//	                           ├─► batches of a cluster ─► remote write 1.0 or 2.0
//	checkpoint, WAL ───────────┘
//
// It reads the index, the chunks and the records of the log with Prometheus' own small packages for them,
// and not with its package tsdb, which brings service discovery and four cloud SDKs along (ADR 21). The
// database is only read, so it may be one that a Prometheus has open.
//
// What a database does not hold, or what is not taken from it, is counted in [Result.LeftOut]. Memory is
// bounded by a window of samples, and by the labels of the series in the log.
package promtsdb
