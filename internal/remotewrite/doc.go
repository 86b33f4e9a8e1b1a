// Package remotewrite reads Prometheus remote-write requests of both protocol
// versions: it negotiates the version from the headers, unpacks snappy under a
// cap, and walks the protobuf message in place, so that a receiver can say
// whether a request is acceptable and what it holds without building a single
// object.
//
// The usual order of calls is [Negotiate], [Decode], [Walker.Walk]. [Shift]
// moves recorded requests in time for a replay.
//
// # Wire format, version 1.0 (prometheus.WriteRequest)
//
//	WriteRequest           TimeSeries             Label          Sample
//	 1 timeseries *        1 labels *             1 name         1 value     f64
//	 3 metadata   *        2 samples *            2 value        2 timestamp ms
//	                       3 exemplars *
//	MetricMetadata         4 histograms *         Exemplar
//	 1 type                                       1 labels *
//	 2 metric_family_name                         2 value     f64
//	 4 help   5 unit                              3 timestamp ms
//
// # Wire format, version 2.0 (io.prometheus.write.v2.Request)
//
//	Request                TimeSeries             Sample
//	 1-3 reserved          1 labels_refs [u32]    1 value           f64
//	 4 symbols *           2 samples *            2 timestamp       ms
//	 5 timeseries *        3 histograms *         3 start_timestamp ms (rc.4)
//	                       4 exemplars *
//	Metadata               5 metadata             Exemplar
//	 1 type                6 created_timestamp    1 labels_refs [u32]
//	 3 help_ref              ms (rc.3 only)       2 value           f64
//	 4 unit_ref                                   3 timestamp       ms
//
// References index the symbols; symbols[0] is the empty string. Drafts up to
// 2.0-rc.3 carried one created_timestamp a series, 2.0-rc.4 a start_timestamp
// a sample; both are read.
//
// # Native histograms, both versions
//
//	Histogram
//	 1 count_int   u64 | 2 count_float   f64     11 positive_spans *
//	 3 sum         f64                           12 positive_deltas [s64]
//	 4 schema      s32                           13 positive_counts [f64]
//	 5 zero_threshold f64                        14 reset_hint
//	 6 zero_count_int  | 7 zero_count_float      15 timestamp       ms
//	 8 negative_spans *                          16 custom_values   [f64]
//	 9 negative_deltas [s64]                     17 start_timestamp ms (2.0)
//	10 negative_counts [f64]                     BucketSpan: 1 offset s32, 2 length u32
//
// ([x] is a packed list, read unpacked too; * is repeated.)
//
// Unknown fields are never an error. What counts as well-formed protobuf is
// what the Go code generated for Prometheus accepts; the tests hold the walk
// against that code on fuzzed input.
package remotewrite
