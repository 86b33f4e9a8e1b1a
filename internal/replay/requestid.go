package replay

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// requestIDHeaders name the invocation behind an answer, the best first: the reference server says itself by which id
// Lambda logs it; a function URL and Lambda's own API give that id too, but a REST API gives its own by the same name;
// an HTTP API has a header for its own, and CloudFront in front of any of them one more.
func requestIDHeaders() [4]string {
	return [...]string{remotewrite.HeaderInvocation, "X-Amzn-Requestid", "Apigw-Requestid", "X-Amz-Cf-Id"}
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
	gateway *lambdalog.GatewayLog // what Bridge has read; nil: nothing
}

type ledgerCounts struct {
	attempts, answered, refused, nameless int64
}

// idKey is a request id: a UUID as its 16 bytes, anything else as two hashes of it. That two of a million
// ids share 128 bits is out of the question.
type idKey [16]byte

type ledgerEntry struct {
	client    time.Duration
	warmup    bool
	found     bool
	uninvoked bool // the gateway's log has the request, and no invocation for it
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
	l.entries, l.mask, l.counts, l.gateway = map[idKey]ledgerEntry{}, 0, ledgerCounts{}, nil
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

// Bridge reads the access log of a gateway whose answers carry its own request ids, and puts the ids by which Lambda
// knows the invocations in their place, so that Join finds them. It is for when the run is over, may be called again when
// the log has grown, and takes no memory: an id is replaced, and those of other clients are not kept. The error is
// the one that ended reading; bad lines are counted.
func (l *Ledger) Bridge(from string, log iter.Seq2[lambdalog.Access, error]) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &lambdalog.GatewayLog{From: from}
	if l.gateway != nil {
		g.Bridged = l.gateway.Bridged
	}
	l.gateway = g
	for a, err := range log {
		if err != nil {
			if err := g.Note(err); err != nil {
				return err
			}
			continue
		}
		g.Lines++
		if a.RequestID == "" {
			g.LinesWithout++
		}
		key, _ := l.key(a.GatewayID)
		e, ok := l.entries[key]
		if !ok {
			continue // another client's, of another run, not in the sample, or replaced already
		}
		if a.RequestID == "" {
			e.uninvoked = true
			l.entries[key] = e
			continue
		}
		to, _ := l.key(a.RequestID)
		if _, taken := l.entries[to]; taken {
			continue // an invocation has answered one request
		}
		delete(l.entries, key)
		e.uninvoked = false
		l.entries[to] = e
		if !e.warmup {
			g.Bridged++
		}
	}
	return nil
}

// Join reads Lambda's records and matches them with the requests of the run. missing is how many of the
// requests that were kept have no record and may yet get one: it may pay to read the logs again a little later. The
// error is the one that ended reading; bad lines are counted in the result.
func (l *Ledger) Join(from string, records iter.Seq2[lambdalog.Invocation, error]) (o lambdalog.Observed, missing int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, e := range l.entries {
		if e.found {
			e.found = false
			l.entries[k] = e
		}
	}
	// Which requests are in the sample is decided by the gateway's ids once these were replaced: a record says nothing of it.
	blind := l.mask != 0 && l.gateway != nil && l.gateway.Bridged > 0
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
		case v.RequestID == "", !ok && sum&l.mask == 0 && !blind:
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
	var unmatched, warm, uninvoked, warmUninvoked int64
	for _, e := range l.entries {
		switch {
		case e.found:
		case e.warmup:
			warm++
			if e.uninvoked {
				warmUninvoked++
			}
		default:
			unmatched++
			if e.uninvoked {
				uninvoked++
			}
		}
	}
	oneIn := int64(l.mask) + 1
	if l.counts.nameless > 0 {
		u.Warn(fmt.Errorf("%d answers carry no request id, so nothing can be joined with them", l.counts.nameless))
	}
	if warm > 0 {
		u.Warn(fmt.Errorf("%d requests of the warm-up have no record", warm))
	}
	if blind {
		u.Warn(errors.New("with a sample of the gateway's ids, records of other clients cannot be told from those that were not kept: none is counted as foreign"))
	}
	u.Sampled(oneIn)
	u.Unmatched(unmatched + l.counts.nameless)
	o = u.Observed()
	o.From, o.Attempts, o.Refused = from, l.counts.attempts, l.counts.refused
	o.Answered = l.counts.answered
	if l.gateway != nil {
		g := *l.gateway
		g.RequestsWithout = uninvoked
		o.Gateway = &g
	}
	return o, unmatched + warm - uninvoked - warmUninvoked, nil
}

// Reset forgets the run, so that the next one starts anew.
func (l *Ledger) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reset()
}
