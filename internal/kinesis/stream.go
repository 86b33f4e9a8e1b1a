package kinesis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
)

// The limits of PutRecords (Amazon Kinesis Data Streams API reference, PutRecords). A record may be larger on streams
// that are set up for it; one of this size is taken by all.
const (
	MaxBatchRecords      = 500
	MaxBatchBytes        = 5 << 20
	MaxRecordBytes       = 1 << 20 // data and partition key
	MaxPartitionKeyRunes = 256
)

// Defaults of [Config].
const (
	DefaultLinger     = 20 * time.Millisecond
	DefaultQueueBytes = 64 << 20
	DefaultWorkers    = 4
)

// How often and for how long.
const (
	callTimeout  = 10 * time.Second
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// Errors that callers tell apart.
var (
	ErrFull     = errors.New("the queue to the stream is full")
	ErrClosed   = errors.New("the stream is closed")
	ErrKey      = fmt.Errorf("partition key has not 1 to %d characters", MaxPartitionKeyRunes)
	ErrTooLarge = fmt.Errorf("record is larger than the %d bytes that a stream takes", MaxRecordBytes)
)

// API is what is needed of the SDK's client, which must not retry by itself.
type API interface {
	PutRecords(ctx context.Context, in *kinesis.PutRecordsInput, opts ...func(*kinesis.Options)) (*kinesis.PutRecordsOutput, error)
	DescribeStreamSummary(ctx context.Context, in *kinesis.DescribeStreamSummaryInput, opts ...func(*kinesis.Options)) (*kinesis.DescribeStreamSummaryOutput, error)
}

// NewClient returns the SDK's client without its retries, which would send a batch again as a whole and hold on to
// records that nobody waits for.
func NewClient(cfg aws.Config) *kinesis.Client {
	return kinesis.NewFromConfig(cfg, func(o *kinesis.Options) { o.Retryer = aws.NopRetryer{} })
}

// Config says where records go, and how. API and Stream are required.
type Config struct {
	API    API
	Stream string // the name

	// Async makes Put return when the record is in the queue. Whoever is told of a success then can lose it.
	Async bool
	// Linger is how long the oldest record waits for others to share its call. Default 20 ms; negative: not at all.
	Linger time.Duration
	// QueueBytes bounds the records in the queue and in calls under way. Default 64 MiB.
	QueueBytes int
	// Workers is how many calls may be under way at once. Default 4.
	Workers int
	// BatchRecords and BatchBytes bound one call; default and maximum 500 and 5 MiB.
	BatchRecords, BatchBytes int

	Logger *slog.Logger // nil: no log. Records are never logged.
}

// Record is what is put.
type Record struct {
	PartitionKey string // 1 to 256 characters; decides on the shard
	Data         []byte
}

// Stats counts what a stream has done.
type Stats struct {
	Sent        int64 // records that Kinesis has taken
	SentBytes   int64
	Calls       int64 // of PutRecords
	FailedCalls int64 // calls that failed as a whole
	Retried     int64 // records that were put back, each time counted
	Refused     int64 // records that found the queue full
	Lost        int64 // records that were answered with success and never sent: only with Async, at the end
	Records     int   // in the queue and in calls under way
	Bytes       int
}

// Stream is the queue and its workers. Use [Open]; its methods may be called from several goroutines at once.
type Stream struct {
	cfg     Config
	log     *slog.Logger
	q       *queue
	stop    context.CancelFunc // ends the workers, whatever is left
	running context.Context    //nolint:containedctx // the workers' life, which is not that of a call
	workers sync.WaitGroup

	sent, sentBytes, calls, failedCalls, retried, refused, lost atomic.Int64
}

// Open checks cfg and starts the workers, which [Stream.Close] ends. It sends nothing.
func Open(cfg Config) (*Stream, error) {
	cfg.Linger = cmp.Or(cfg.Linger, DefaultLinger)
	cfg.QueueBytes = cmp.Or(cfg.QueueBytes, DefaultQueueBytes)
	cfg.Workers = cmp.Or(cfg.Workers, DefaultWorkers)
	cfg.BatchRecords = cmp.Or(cfg.BatchRecords, MaxBatchRecords)
	cfg.BatchBytes = cmp.Or(cfg.BatchBytes, MaxBatchBytes)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var problems []error
	if cfg.API == nil {
		problems = append(problems, errors.New("no client"))
	}
	if cfg.Stream == "" {
		problems = append(problems, errors.New("no stream"))
	}
	if cfg.QueueBytes < MaxRecordBytes {
		problems = append(problems, fmt.Errorf("queue of %d bytes does not hold one record of %d", cfg.QueueBytes, MaxRecordBytes))
	}
	if cfg.Workers < 1 || cfg.Workers > 1000 {
		problems = append(problems, fmt.Errorf("%d workers are not in 1 to 1000", cfg.Workers))
	}
	if cfg.BatchRecords < 1 || cfg.BatchRecords > MaxBatchRecords {
		problems = append(problems, fmt.Errorf("batch of %d records is not in 1 to %d", cfg.BatchRecords, MaxBatchRecords))
	}
	if cfg.BatchBytes < 1 || cfg.BatchBytes > MaxBatchBytes {
		problems = append(problems, fmt.Errorf("batch of %d bytes is not in 1 to %d", cfg.BatchBytes, MaxBatchBytes))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("opening stream: %w", err)
	}
	s := &Stream{cfg: cfg, log: cfg.Logger, q: newQueue(cfg)}
	s.running, s.stop = context.WithCancel(context.Background())
	for range cfg.Workers {
		s.workers.Go(s.work)
	}
	return s, nil
}

// Put hands a record over. Without Async it returns when Kinesis has it, or an error when it may not have it: the
// caller must send it again. With Async it returns at once, and only the errors above are left. Data is kept until
// Put returns, with Async a copy of it for longer.
func (s *Stream) Put(ctx context.Context, r Record) error {
	if len(r.Data)+len(r.PartitionKey) > MaxRecordBytes {
		return ErrTooLarge
	}
	if n := utf8.RuneCountInString(r.PartitionKey); n < 1 || n > MaxPartitionKeyRunes {
		return ErrKey // Kinesis would turn the whole call down
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("putting record: %w", err)
	}
	// A copy also without Async: a caller that stops waiting takes its buffer with it, and a call may be under way.
	r.Data = append([]byte(nil), r.Data...)
	e := &entry{Record: r, since: time.Now()}
	if !s.cfg.Async {
		e.result = make(chan error, 1)
	}
	if err := s.q.add(e); err != nil {
		if errors.Is(err, ErrFull) {
			s.refused.Add(1)
		}
		return err
	}
	if s.cfg.Async {
		return nil
	}
	select {
	case err := <-e.result:
		return err
	case <-ctx.Done():
		s.q.abandon(e)
		return fmt.Errorf("putting record: %w", ctx.Err())
	}
}

// work sends batches until the queue is closed and empty, or the stream stopped.
func (s *Stream) work() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for s.running.Err() == nil {
		batch, wait, all := s.q.take(time.Now())
		if all {
			s.q.wake() // the other workers end too
			return
		}
		if batch != nil {
			s.send(batch)
			continue
		}
		if wait < 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-s.running.Done():
		case <-s.q.changed:
		case <-timer.C:
		}
	}
}

// send makes one call and puts back what Kinesis did not take.
func (s *Stream) send(batch []*entry) {
	in := &kinesis.PutRecordsInput{StreamName: &s.cfg.Stream, Records: make([]types.PutRecordsRequestEntry, len(batch))}
	for i, e := range batch {
		in.Records[i] = types.PutRecordsRequestEntry{Data: e.Data, PartitionKey: &e.PartitionKey}
	}
	ctx, cancel := context.WithTimeout(s.running, callTimeout)
	out, err := s.cfg.API.PutRecords(ctx, in)
	cancel()
	s.calls.Add(1)
	if err == nil && len(out.Records) != len(batch) {
		err = fmt.Errorf("the answer is about %d records, the call had %d", len(out.Records), len(batch))
	}
	if err != nil {
		s.failedCalls.Add(1)
		s.log.Warn("putting records failed", "error", err.Error(), "records", len(batch))
		s.q.outcome(time.Now(), false)
		if permanent(err) && !s.cfg.Async {
			s.finish(batch, fmt.Errorf("putting records: %w", err))
			return
		}
		s.retry(batch)
		return
	}
	var taken, failed []*entry
	reasons := map[string]int{}
	for i, r := range out.Records {
		if r.ErrorCode == nil {
			taken = append(taken, batch[i])
			continue
		}
		failed = append(failed, batch[i])
		reasons[*r.ErrorCode]++
	}
	for _, e := range taken {
		s.sent.Add(1)
		s.sentBytes.Add(int64(e.size()))
	}
	s.finish(taken, nil)
	if len(failed) > 0 {
		s.log.Warn("the stream did not take all records", "failed", len(failed), "records", len(batch), "reasons", reasons)
	}
	s.q.outcome(time.Now(), len(failed) == 0)
	s.retry(failed)
}

func (s *Stream) retry(failed []*entry) {
	s.retried.Add(int64(len(failed)))
	s.q.putBack(failed)
}

// finish tells those who wait for these records.
func (s *Stream) finish(entries []*entry, err error) {
	for _, e := range entries {
		if e.result != nil {
			e.result <- err
		}
	}
	s.q.done(entries)
}

// permanent says that the same call fails again until somebody repairs something: those who wait are better told.
func permanent(err error) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	switch e.ErrorCode() {
	case "ResourceNotFoundException", "AccessDeniedException", "ValidationException", "InvalidArgumentException",
		"UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException", "MissingAuthenticationTokenException":
		return true
	}
	return false
}

// Close takes no more records, sends those that are there without waiting for more, and ends the workers. When ctx ends
// before, what is left is given up: those who wait get an error, and with Async the records are lost, which the error
// counts.
func (s *Stream) Close(ctx context.Context) error {
	s.q.close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.workers.Wait()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	s.stop() // also ends calls under way
	<-ended
	left := s.q.rest()
	lost := 0
	for _, e := range left {
		if e.result == nil {
			lost++
		}
	}
	s.finish(left, ErrClosed)
	if lost > 0 {
		s.lost.Add(int64(lost))
		return fmt.Errorf("flushing stream %s: %d records that had been answered are lost: %w", s.cfg.Stream, lost, context.Cause(ctx))
	}
	return nil
}

// Probe asks whether the stream can be written to. Credentials that may put but not describe pass.
func (s *Stream) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := s.cfg.API.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &s.cfg.Stream})
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "AccessDeniedException" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("probing stream %s: %w", s.cfg.Stream, err)
	}
	if d := out.StreamDescriptionSummary; d != nil && d.StreamStatus != types.StreamStatusActive && d.StreamStatus != types.StreamStatusUpdating {
		return fmt.Errorf("probing stream %s: it is %s", s.cfg.Stream, d.StreamStatus)
	}
	return nil
}

// Stats returns the counts so far.
func (s *Stream) Stats() Stats {
	records, bytes := s.q.depth()
	return Stats{
		Sent: s.sent.Load(), SentBytes: s.sentBytes.Load(), Calls: s.calls.Load(), FailedCalls: s.failedCalls.Load(),
		Retried: s.retried.Load(), Refused: s.refused.Load(), Lost: s.lost.Load(), Records: records, Bytes: bytes,
	}
}
