// Package capture is recorded remote-write traffic: how an accepted request is
// named when it is stored, and how the stored requests are read back to be
// replayed. There is one format for both, so that what a server stores is what
// replay replays.
//
// One object is one request. Its content is the body exactly as it was received,
// still snappy; everything else is in its key:
//
//	org=alfa/cluster=eu-1/date=2026-11-20/hour=18/20261120T182501.123Z-0123456789abcdef0123456789abcdef.rw1.sz
//	│        │            │               │       │                    │                                │
//	│        │            └───────────────┴───────┤                    │                                └ protocol 1.0 or 2.0
//	│        └ where it comes from                │                    └ SHA-256 of the body, first half
//	└ whose it is                                 └ newest sample in the body, UTC
//
// Neither the clock nor chance has a part in a key, so a request that is sent again
// lands on the object that is there already. The NAME=VALUE elements are those
// that Athena, Spark and DuckDB read as partitions.
package capture
