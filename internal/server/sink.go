package server

import (
	"context"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// Request is an accepted remote-write request on its way to a [Sink].
type Request struct {
	Body    []byte // as received, snappy; valid until Store returns
	Version remotewrite.Version
	Summary remotewrite.Summary // what it holds

	org, cluster string
	newest       time.Time
}

// Key names the request for a store. It is computed anew at every call, for it takes a
// SHA-256 of Body, which is a good part of what a request costs: a sink that does not
// ask for it does not pay for it.
func (r Request) Key() capture.Key {
	return capture.NewKey(r.org, r.cluster, r.Version, r.newest, r.Body)
}

// Org is whose request it is, Cluster where it comes from; both are valid in a key.
func (r Request) Org() string { return r.org }

// Cluster is the cluster that the request names, or [DefaultName].
func (r Request) Cluster() string { return r.cluster }

// Newest is the newest timestamp in the request, or the minute in which it came when it
// holds metadata only.
func (r Request) Newest() time.Time { return r.newest }

// Sink is where accepted requests go.
//
// Store returns without error only when the request is persisted as well as the
// sink ever will: the sender forgets it then. created is false when a request with
// the same [Request.Key] was there before, which is a success. On an error the sender is told
// to come back, so Store may get a request again that it has persisted in spite of
// the error. It makes no retries longer than ctx allows, does not keep Body, does
// not change it, and may be called from several goroutines at once.
type Sink interface {
	Store(ctx context.Context, r Request) (created bool, err error)
}

// Putter is the part of an object store that a sink needs: put-if-absent, durable on
// return. It is a subset of store.Store.
type Putter interface {
	Put(ctx context.Context, key string, body []byte) (created bool, err error)
}

// Discarder is a [Putter] that keeps nothing, and so needs no key: store.Null.
type Discarder interface {
	Putter
	// Discard is Put of an object that nobody has named. It fails when ctx is done, and
	// does not wait: [Config.StoreTimeout] is not for it.
	Discard(ctx context.Context) error
}

type storeSink struct{ p Putter }

// NewStoreSink returns a sink that puts the body of each request under its key. When p
// is a [Discarder] it only discards, and no key is computed.
func NewStoreSink(p Putter) Sink {
	if d, ok := p.(Discarder); ok {
		return discardSink{d: d}
	}
	return storeSink{p: p}
}

func (s storeSink) Store(ctx context.Context, r Request) (bool, error) {
	return s.p.Put(ctx, r.Key().String(), r.Body)
}

type discardSink struct{ d Discarder }

func (s discardSink) Store(ctx context.Context, _ Request) (bool, error) {
	if err := s.d.Discard(ctx); err != nil {
		return false, err //nolint:wrapcheck // as storeSink: the store has said all
	}
	return true, nil
}
