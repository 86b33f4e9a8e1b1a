// Package lambdalog reads what AWS Lambda says of its own invocations: the
// REPORT lines and platform.* JSON records that state how long an invocation
// ran, how much of that was billed, and in which environment.
//
// [Scan] takes any of the shapes in which those records leave CloudWatch Logs,
// the Telemetry API or a console window, and yields one [Invocation] a record.
// A line that claims to be a record and cannot be read is an error with its
// file and line ([LineError]); reading goes on behind it. What is said once
// about a whole input (duplicates removed, records dropped by Lambda, averages
// instead of records) comes as a [NoticeError].
//
// Two rules hold everywhere:
//
//   - Missing is missing. A duration that the record does not state is absent
//     ([Millis].Known is false), never 0, because 0 would be a price.
//   - Billed time is read, never recomputed. The printed duration is rounded to
//     two or three decimals and what is billed beside it has changed over the
//     years (100 ms slices until 2020-11, initialisation free for managed
//     runtimes until 2025-07), so only Billed Duration is the truth. The two
//     are compared and the outcome kept in [Invocation].Rule.
//
// The record shapes:
//
//	REPORT RequestId: ID <tab> Duration: 41.37 ms <tab> Billed Duration: 42 ms <tab> Memory Size: 128 MB <tab> Max Memory Used: 36 MB
//	    … optional, in any order: Init Duration, Restore Duration, Billed Restore Duration, Status, Error Type
//	Duration: 41.37 ms Billed Duration: 42 ms Memory Size: 128 MB …      (console paste: no prefix, spaces)
//	INIT_REPORT Init Duration: 9998.71 ms <tab> Phase: init <tab> Status: timeout
//	RESTORE_REPORT Restore Duration: 412.66 ms <tab> Status: success
//	{"time": …, "type": "platform.report", "record": {"requestId": …, "status": …, "metrics": {"durationMs": …}}}
//
// The containers: plain text; text prefixed with a time, or with a time and a
// log stream (S3 export, aws logs tail, sam logs); JSON lines; Telemetry API
// arrays; FilterLogEvents and GetLogEvents answers; Logs Insights answers as
// JSON and CSV; subscription events (Lambda, Kinesis, Firehose); the LogResult
// of a synchronous invoke; Lambda Insights performance events; GetMetricData
// answers, which hold averages only. Any of them may be gzip-compressed, also
// as several members in a row.
package lambdalog
