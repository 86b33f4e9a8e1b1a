// Package collector is the client side of remote write: it takes requests from senders
// nearby, keeps them on disk, and forwards them in fewer, larger ones.
//
// # How a request walks
//
//	sender → server.Core → [Sink] → spool.Queue      204 once it is on disk
//	spool.Queue → [Forwarder] → batch → endpoint     done once it has answered 2xx
//
// The queue keeps requests as they came. The [Forwarder] takes the oldest of a lane (an
// org and a cluster), merges them into one request grouped by series, and notes in the
// queue's state file which records that are and the SHA-256 of the result before it
// sends. So a batch that is sent again, after a failure or a crash, is the same bytes,
// and a receiver that knows requests by their hash stores it once.
//
// # What an answer means
//
//	2xx                  delivered; to a 2.0 request only if the Written headers are
//	                     there and cover all samples and histograms that were sent, else
//	                     it is sent once more as 1.0
//	413                  the batch is halved, and later ones begin smaller
//	415                  the other protocol version, once
//	400, 422             the batch is halved until the bad record is alone; that one goes
//	                     to dead/ with the reason
//	any of these to      the metadata is dropped; the samples beside it are delivered
//	metadata of its own  and are not sent again
//	401, 403             the key is read anew; with another key at once, else as below
//	network, 408, 425,   the same again for ever: a random time up to 1 s, 2 s, 4 s …
//	429, 5xx, all else   60 s later, or when Retry-After says, 5 minutes at most
//
// Within a lane nothing overtakes: a batch is done before the next one is sent. Lanes do
// not wait for each other.
package collector
