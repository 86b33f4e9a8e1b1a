package replay

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"iter"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// requestIDHeaders name the invocation behind an answer, the best first: a function URL and Lambda's own
// API give the id that Lambda logs; an HTTP API gives its own, and CloudFront in front of either one more.
func requestIDHeaders() [3]string {
	return [...]string{"X-Amzn-Requestid", "Apigw-Requestid", "X-Amz-Cf-Id"}
}

// maxRequestID is the longest request id that is kept; AWS's have 16 to 56 bytes.
const maxRequestID = 128

// requestID takes the invocation's id from the answer's head; empty when there is none.
func requestID(h http.Header) string {
	for _, name := range requestIDHeaders() {
		if v := strings.TrimSpace(h.Get(name)); v != "" && len(v) <= maxRequestID {
			return v
		}
	}
	return ""
}

// requestID takes the id from one line of the head.
func (a *answer) requestID(name, value []byte, resp *Response) {
	headers := requestIDHeaders()
	for i, h := range headers {
		rank := len(headers) - i
		if rank > a.idRank && foldEqual(name, h) && len(value) > 0 && len(value) <= maxRequestID {
			resp.RequestID, a.idRank = string(value), rank
		}
	}
}

// DefaultRequestIDs is how many request ids a [Ledger] keeps, some 200 MB of them.
const DefaultRequestIDs = 4 << 20

// Ledger is a [Sender] that passes everything on to another one and remembers by request id how long each
// answer took, so that a log that is read later can be joined with it.
//
// Its memory is bounded: when it is full it goes on with every second id, then with every fourth and so on,
// chosen by a hash of the id, which is a fair sample of the whole run.
type Ledger struct {
	Sender
	limit int

	mu      sync.Mutex // guards all below
	seed    maphash.Seed
	entries map[idKey]ledgerEntry
	mask    uint64 // an id is kept when its hash has no bit of it
	counts  ledgerCounts
}

type ledgerCounts struct {
	attempts, answered, refused, nameless int64
}

// idKey is a request id: a UUID as its 16 bytes, anything else as two hashes of it. That two of a million
// ids share 128 bits is out of the question.
type idKey [16]byte

type ledgerEntry struct {
	client time.Duration
	warmup bool
	found  bool
}

// NewLedger wraps s, which must fill Response.RequestID. limit is how many ids are kept at most; 0 =
// DefaultRequestIDs.
func NewLedger(s Sender, limit int) *Ledger {
	if limit <= 0 {
		limit = DefaultRequestIDs
	}
	l := &Ledger{Sender: s, limit: limit}
	l.reset()
	return l
}

func (l *Ledger) reset() {
	l.seed = maphash.MakeSeed()
	l.entries, l.mask, l.counts = map[idKey]ledgerEntry{}, 0, ledgerCounts{}
}

// Send implements Sender.
func (l *Ledger) Send(ctx context.Context, r *Outgoing) Response {
	begin := time.Now()
	resp := l.Sender.Send(ctx, r)
	client := time.Since(begin)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !r.Warmup {
		l.counts.attempts++
	}
	switch {
	case resp.Err != nil:
		return resp
	case resp.Status == http.StatusTooManyRequests:
		// A gateway throttles without an invocation; a function that says so itself has one, which the join
		// finds among the foreign ones.
		if !r.Warmup {
			l.counts.refused++
		}
		return resp
	case !r.Warmup:
		l.counts.answered++
	}
	if resp.RequestID == "" {
		if !r.Warmup {
			l.counts.nameless++
		}
		return resp
	}
	l.keep(resp.RequestID, ledgerEntry{client: client, warmup: r.Warmup})
	return resp
}

// keep remembers an id if it is in the sample.
func (l *Ledger) keep(id string, e ledgerEntry) {
	key, sum := l.key(id)
	if sum&l.mask != 0 {
		return
	}
	l.entries[key] = e
	for len(l.entries) > l.limit {
		l.mask = l.mask<<1 | 1
		for k := range l.entries {
			if maphash.Bytes(l.seed, k[:])&l.mask != 0 {
				delete(l.entries, k)
			}
		}
	}
}

// key makes the key of an id, and the hash that decides whether it is kept.
func (l *Ledger) key(id string) (k idKey, sum uint64) {
	if !parseUUID(&k, id) {
		a, b := maphash.String(l.seed, id), maphash.String(l.seed, id+"\x00")
		for i := range 8 {
			k[i], k[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
		}
	}
	return k, maphash.Bytes(l.seed, k[:])
}

// parseUUID reads 8-4-4-4-12 hexadecimal digits.
func parseUUID(k *idKey, s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	var digits [32]byte
	copy(digits[:], s[:8])
	copy(digits[8:], s[9:13])
	copy(digits[12:], s[14:18])
	copy(digits[16:], s[19:23])
	copy(digits[20:], s[24:])
	_, err := hex.Decode(k[:], digits[:])
	return err == nil
}

// Kept is how many request ids are remembered.
func (l *Ledger) Kept() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// Join reads Lambda's records and matches them with the requests of the run. missing is how many of the
// requests that were kept have no record: it may pay to read the log again a little later. The error is the
// one that ended reading; bad lines are counted in the result.
func (l *Ledger) Join(from string, records iter.Seq2[lambdalog.Invocation, error]) (o lambdalog.Observed, missing int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, e := range l.entries {
		if e.found {
			e.found = false
			l.entries[k] = e
		}
	}
	var u lambdalog.Observer
	for v, err := range records {
		if err != nil {
			if err := u.Note(err); err != nil {
				return lambdalog.Observed{}, 0, err
			}
			continue
		}
		if v.Kind != lambdalog.KindReport {
			continue
		}
		key, sum := l.key(v.RequestID)
		e, ok := l.entries[key]
		switch {
		case v.RequestID == "", !ok && sum&l.mask == 0:
			u.Foreign()
		case !ok: // not in the sample
		case e.found:
			// An id that is logged twice was invoked twice: the second time by somebody's retry.
			u.Foreign()
		default:
			e.found = true
			l.entries[key] = e
			u.Matched(v, e.client, e.warmup)
		}
	}
	var unmatched, warm int64
	for _, e := range l.entries {
		switch {
		case e.found:
		case e.warmup:
			warm++
		default:
			unmatched++
		}
	}
	oneIn := int64(l.mask) + 1
	if l.counts.nameless > 0 {
		u.Warn(fmt.Errorf("%d answers carry no request id, so nothing can be joined with them", l.counts.nameless))
	}
	if warm > 0 {
		u.Warn(fmt.Errorf("%d requests of the warm-up have no record", warm))
	}
	u.Sampled(oneIn)
	u.Unmatched(unmatched + l.counts.nameless)
	o = u.Observed()
	o.From, o.Attempts, o.Refused = from, l.counts.attempts, l.counts.refused
	o.Answered = l.counts.answered
	return o, unmatched + warm, nil
}

// Reset forgets the run, so that the next one starts anew.
func (l *Ledger) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reset()
}
