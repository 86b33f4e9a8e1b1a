package server

import (
	"context"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// Request is an accepted remote-write request on its way to a [Sink].
type Request struct {
	Key     capture.Key
	Body    []byte // as received, snappy; valid until Store returns
	Version remotewrite.Version
	Summary remotewrite.Summary // what it holds
}

// Sink is where accepted requests go.
//
// Store returns without error only when the request is persisted as well as the
// sink ever will: the sender forgets it then. created is false when a request with
// the same key was there before, which is a success. On an error the sender is told
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

type storeSink struct{ p Putter }

// NewStoreSink returns a sink that puts the body of each request under its key.
func NewStoreSink(p Putter) Sink { return storeSink{p: p} }

func (s storeSink) Store(ctx context.Context, r Request) (bool, error) {
	return s.p.Put(ctx, r.Key.String(), r.Body)
}
