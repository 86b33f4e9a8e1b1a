// Package replay is the load engine: it sends captured remote-write requests to an endpoint and records
// how long each took.
//
// A run is a [Plan] first: which object is due when, computed before the first byte is sent. [Run] then
// only executes it:
//
//	corpus ─► preparer ─► (bounded look-ahead) ─► feeder ─► dispatcher ─► workers ─► Sender
//	          shifts timestamps off the            waits for   one request   own recorder each,
//	          timed path                           due times   a source      merged at the end
//
// Latency counts from the moment a request was due, not from when a worker got round to it. A generator
// that starts its clock at the actual send stops measuring exactly while the server is stuck
// (coordinated omission): of 1,000 requests at 100/s against a server that freezes for a second, it
// reports one slow one, where 100 were kept waiting. Three numbers are kept apart: latency (from due),
// service time (from actual send), and schedule error (how late the engine itself was although a
// worker and the source's turn were free). Only the last one is the engine's own fault.
package replay
