// Package workload makes and inspects traffic: synthetic captures, captures from a Prometheus TSDB's blocks, and
// what a corpus holds.
//
// What it makes is what the reference server would have stored, had a Prometheus sent it: one object a request,
// under the key of its content. Replay cannot tell the difference, and need not.
package workload
