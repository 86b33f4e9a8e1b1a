// Package kinesis puts records into a Kinesis data stream in batches: a bounded queue, workers that fill PutRecords
// calls from it, and another try for what a call did not take.
//
//	Put ──► queue ──► worker: up to 500 records, 5 MiB ──► PutRecords
//	          ▲                                                │
//	          └──────── the records that failed, in front ◄────┘
//
// A batch goes out when it is full, when its oldest record has waited for [Config.Linger], or when the queue is being
// flushed. PutRecords takes some records of a call and turns others down, mostly because their shard is over its rate:
// those go back to the front of the queue, before anything newer, and the worker waits a moment that grows with each
// call that fails.
//
// [Config.Async] decides what Put promises. Without it, Put returns when Kinesis has the record, so a success is
// durable. With it, Put returns when the record is in the queue: faster for the sender, and lost when the process dies.
// Either way a record may arrive more than once, and order is kept for nobody: shards have none between them.
package kinesis
