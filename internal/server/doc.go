// Package server is the reference receiver of Prometheus remote write, 1.0 and
// 2.0. It checks a request, names it after its content and hands it to a [Sink];
// the sender gets its 204 once the sink has it.
//
// [Core] knows no transport. [Core.Ingest] takes a request apart from where it came
// from, and [Core.Handler] is its HTTP face:
//
//	POST /api/v1/write          the request; org from X-Scope-OrgID, cluster from ?cluster_name=
//	POST /ORG/api/v1/write      the same, with the org in the path
//	POST /v1/container-metrics  the same as the first, where some collectors write
//	GET  /livez, /healthz       200 while the process lives
//	GET  /readyz                200 while it wants traffic, else 503
//
// [Core.Lambda] is its face in a Lambda function: it makes that HTTP request of an
// event and the event's answer of the HTTP one.
//
// # What a sender is told
//
// Senders repeat a request for ever on 5xx and drop it on 4xx, 429 included
// (Prometheus by default). So the status says one thing: may the same request
// succeed later?
//
//	204  stored, or stored before: the counts are the full ones either way
//	400  does not decode, or is not a valid request, or not in all its parts; bad
//	     org or cluster name
//	401  (or what Config.Authenticate says) not allowed
//	403  the key is for another org than the one in the path
//	404  405  unknown path or method
//	413  the body is over the limit
//	415  content type or encoding unknown, so that the sender may change to another
//	500  a bug; the panic is logged. Also a body that a gateway has turned into text,
//	     until somebody repairs the gateway
//	503  not stored, with Retry-After: the sink failed, memory is short, the
//	     body did not arrive; never 429
//
// They are checked in this order: path, method, authentication, content type,
// content encoding, names, size, memory, snappy, message. Answers to 2.0 requests
// carry the Written headers, with zeros when nothing was stored; answers to 1.0 never
// do.
//
// # Partial writes
//
// When series or metadata entries of a message are refused, the others are stored,
// packed anew as a request of the same version and named after its own hash. The
// sender gets a 400 all the same, as the specification wants it, with the Written
// headers of what was stored. The first line of the answer names the first refusal and
// counts them by reason; up to nine lines with the next refusals follow.
//
// Labels that are not sorted, and labels with an empty value, which mean the same as
// no label, are counted and stored as they came: what is stored is what was sent.
//
// # Time limits
//
// The core sets none but [Config.StoreTimeout]. Whoever makes the http.Server must
// set ReadHeaderTimeout, ReadTimeout and IdleTimeout: a sender that trickles its
// body holds memory of the budget until then.
package server
