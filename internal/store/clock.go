package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/cirrusbench/cirrusbench/internal/durable"
)

// Clock is a store that tells the time of the machine that keeps it, so that machines that share the store can compare
// their clocks.
type Clock interface {
	// Clock returns the store's time at some moment of the call, cut down to a multiple of resolution.
	Clock(ctx context.Context) (at time.Time, resolution time.Duration, err error)
}

var (
	_ Clock = (*Dir)(nil)
	_ Clock = (*S3)(nil)
)

// dirResolution is the coarsest tick of a kernel that files get their times from; network file systems tell no worse.
const dirResolution = 10 * time.Millisecond

// Clock implements [Clock]: it is the time that a new file gets, which on a network file system is the server's.
func (d *Dir) Clock(ctx context.Context) (time.Time, time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, 0, fmt.Errorf("reading the clock of %s: %w", d.root, err)
	}
	if err := durable.MkdirAll(d.root, directoryPerm); err != nil {
		return time.Time{}, 0, fmt.Errorf("reading the clock of a store: %w", err)
	}
	f, err := os.CreateTemp(d.root, ".tmp-clock-*")
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("reading the clock of a store: %w", err)
	}
	info, err := f.Stat()
	if err := errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
		return time.Time{}, 0, fmt.Errorf("reading the clock of a store: %w", err)
	}
	return info.ModTime(), dirResolution, nil
}

// Clock implements [Clock]: it is the Date of an answer, which has whole seconds.
func (s *S3) Clock(ctx context.Context) (time.Time, time.Duration, error) {
	out, err := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &s.prefix, MaxKeys: aws.Int32(1)})
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("reading the clock of %s: %w", s, s.failure(err))
	}
	at, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok {
		return time.Time{}, 0, fmt.Errorf("reading the clock of %s: an answer has no Date", s)
	}
	return at, time.Second, nil
}
