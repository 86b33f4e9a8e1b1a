package server

import (
	"iter"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// Metrics receives what the server observes. Observe is called once for every
// request that is not a health check, when its answer is known, from many goroutines.
type Metrics interface {
	Observe(o Observation)
}

// Amounts counts what was not stored.
type Amounts struct {
	Samples    int
	Histograms int
	Exemplars  int
	Metadata   int
}

// Observation is what is worth counting of one request. Neither the org nor the
// cluster is in it: they are without bound and make no metric label.
type Observation struct {
	Status  int
	Version remotewrite.Version // 0: not negotiated
	Reason  string              // why it was refused, one of [Reasons]; empty: it was not

	WireBytes    int // of the body as far as it was read
	DecodedBytes int // 0: not decoded

	// Summary is what was stored, now or before; Duplicate says before. Rejected is what
	// was not, as far as it is known: not for a body that does not decode. Partial says
	// that the request was refused and its good part stored, so that there are both.
	Summary   remotewrite.Summary
	Duplicate bool
	Partial   bool
	Rejected  Amounts
	// Refused counts the series and metadata entries that were refused, by reason; nil:
	// none were, or the request was refused as a whole.
	Refused map[string]int

	Decode time.Duration // unpacking and checking; 0: not done
	Store  time.Duration // in the sink, also when it failed; 0: not done
	Total  time.Duration // from the headers to the answer, reading the body included
}

// Reasons of the server itself; those of the content are in remotewrite.
const (
	reasonNotFound        = "not_found"
	reasonMethod          = "method_not_allowed"
	reasonUnauthorized    = "unauthorized"
	reasonAuthFailed      = "authentication_failed"
	reasonOrgName         = "org_name"
	reasonClusterName     = "cluster_name"
	reasonQuery           = "query"
	reasonBodyTooLarge    = "body_too_large"
	reasonBodyInterrupted = "body_interrupted"
	reasonBodyMangled     = "body_mangled"
	reasonBodyBase64      = "body_base64"
	reasonMemory          = "out_of_memory_budget"
	reasonEmptyMessage    = "empty_message"
	reasonForbidden       = "forbidden"
	reasonTimestampRange  = "timestamp_out_of_range"
	reasonStoreFailed     = "store_failed"
	reasonInternal        = "internal_error"
)

// Reasons yields every value of Observation.Reason, in a fixed order, so that
// metrics can start with all of them at zero.
func Reasons() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, r := range []string{
			reasonNotFound, reasonMethod, reasonUnauthorized, reasonAuthFailed, reasonOrgName, reasonClusterName, reasonQuery,
			reasonBodyTooLarge, reasonBodyInterrupted, reasonBodyMangled, reasonBodyBase64, reasonMemory, reasonEmptyMessage, reasonForbidden,
			reasonTimestampRange, reasonStoreFailed, reasonInternal,
		} {
			if !yield(r) {
				return
			}
		}
		for r := range remotewrite.Reasons() {
			if !yield(r) {
				return
			}
		}
	}
}
