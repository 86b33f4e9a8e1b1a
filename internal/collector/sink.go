package collector

import (
	"context"
	"fmt"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

// Sink puts accepted requests into a queue.
type Sink struct {
	q   *spool.Queue
	now func() time.Time
}

var _ server.Sink = (*Sink)(nil)

// NewSink returns a sink that appends to q.
func NewSink(q *spool.Queue) *Sink { return &Sink{q: q, now: time.Now} }

// Store appends the request and returns once it is as durable as the queue makes it.
// created is always true: the queue does not know what it held before.
func (s *Sink) Store(ctx context.Context, r server.Request) (created bool, err error) {
	decoded, err := remotewrite.DecodedLen(r.Body, maxRecordBytes)
	if err != nil {
		return false, fmt.Errorf("reading the length of an accepted body: %w", err) // a bug: it was decoded before
	}
	sum := r.Summary
	rec := spool.Record{
		Received:     s.now().UTC().Truncate(time.Millisecond),
		Lane:         spool.Lane{Org: r.Org(), Cluster: r.Cluster()},
		Version:      uint8(r.Version),
		NewestMS:     r.Newest().UnixMilli(),
		DecodedBytes: uint32(decoded),
		Samples:      uint32(sum.Samples),
		Histograms:   uint32(sum.Histograms()),
		Exemplars:    uint32(sum.Exemplars),
		Metadata:     uint32(sum.Metadata),
		Body:         r.Body,
	}
	if _, err := s.q.Append(ctx, &rec); err != nil {
		return false, err //nolint:wrapcheck // the queue has said all
	}
	return true, nil
}
