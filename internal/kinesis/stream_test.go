package kinesis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
)

// fake is a stream that fails as it is told to.
type fake struct {
	// refuse says why the record n of the call is not taken; empty: it is. nil: all are.
	refuse func(call, n int) string
	// fail says why the call as a whole fails. nil: none does.
	fail  func(call int) error
	takes time.Duration // how long a call takes

	mu    sync.Mutex
	calls [][]string     // guarded by mu: the keys of each
	taken map[string]int // guarded by mu: how often
	bad   []string       // guarded by mu: what breaks the rules of PutRecords
}

// seen returns the keys of each call so far.
func (f *fake) seen() [][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fake) PutRecords(ctx context.Context, in *kinesis.PutRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.PutRecordsOutput, error) {
	f.mu.Lock()
	var keys []string
	size := 0
	for _, r := range in.Records {
		keys = append(keys, *r.PartitionKey)
		size += len(r.Data) + len(*r.PartitionKey)
	}
	call := len(f.calls)
	f.calls = append(f.calls, keys)
	if len(in.Records) < 1 || len(in.Records) > 500 || size > 5<<20 || *in.StreamName != "stream" {
		f.bad = append(f.bad, fmt.Sprintf("call %d: %d records, %d bytes", call, len(in.Records), size))
	}
	f.mu.Unlock()
	select {
	case <-time.After(f.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f.fail != nil {
		if err := f.fail(call); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &kinesis.PutRecordsOutput{}
	for i, r := range in.Records {
		var e types.PutRecordsResultEntry
		if f.refuse != nil {
			if why := f.refuse(call, i); why != "" {
				e.ErrorCode = aws.String(why)
			}
		}
		if e.ErrorCode == nil {
			f.taken[*r.PartitionKey]++
		}
		out.Records = append(out.Records, e)
	}
	return out, nil
}

func (f *fake) DescribeStreamSummary(context.Context, *kinesis.DescribeStreamSummaryInput, ...func(*kinesis.Options)) (*kinesis.DescribeStreamSummaryOutput, error) {
	return &kinesis.DescribeStreamSummaryOutput{StreamDescriptionSummary: &types.StreamDescriptionSummary{StreamStatus: types.StreamStatusDeleting}}, nil
}

// open starts a stream to f.
func (f *fake) open(t *testing.T, cfg Config) *Stream {
	t.Helper()
	f.taken = map[string]int{}
	cfg.API, cfg.Stream = f, "stream"
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.bad) > 0 {
			t.Error(f.bad)
		}
		if st := s.Stats(); st.Records != 0 || st.Bytes != 0 {
			t.Errorf("still in the queue: %+v", st)
		}
	})
	return s
}

func put(t *testing.T, s *Stream, key string, size int) {
	t.Helper()
	if err := s.Put(t.Context(), Record{PartitionKey: key, Data: make([]byte, size)}); err != nil {
		t.Errorf("%s: %v", key, err)
	}
}

func closeNow(t *testing.T, s *Stream) {
	t.Helper()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A call has as many records as it may, and what waits goes out when the queue is flushed.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s := f.open(t, Config{Async: true, Linger: time.Hour, Workers: 1})
		for i := range 1200 {
			put(t, s, strconv.Itoa(i), 100)
		}
		synctest.Wait()
		if calls := f.seen(); len(calls) != 2 || len(calls[0]) != 500 || len(calls[1]) != 500 {
			t.Errorf("%d calls before the flush", len(calls))
		}
		closeNow(t, s)
		if len(f.calls) != 3 || len(f.calls[2]) != 200 || len(f.taken) != 1200 {
			t.Errorf("%d calls, %d records", len(f.calls), len(f.taken))
		}
		for k, n := range f.taken {
			if n != 1 {
				t.Errorf("record %s was sent %d times", k, n)
			}
		}
		if st := s.Stats(); st.Sent != 1200 || st.Calls != 3 || st.Retried != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// So does one with as many bytes.
func TestBatchBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s := f.open(t, Config{Async: true, Linger: time.Hour, Workers: 1})
		for i := range 12 {
			put(t, s, strconv.Itoa(i), MaxRecordBytes-10)
		}
		closeNow(t, s)
		for i, c := range f.calls {
			if len(c) > 5 {
				t.Errorf("call %d has %d MiB", i, len(c))
			}
		}
		if len(f.taken) != 12 || len(f.calls) != 3 {
			t.Errorf("%d records in %d calls", len(f.taken), len(f.calls))
		}
		if err := s.Put(t.Context(), Record{PartitionKey: "k", Data: make([]byte, MaxRecordBytes)}); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
		for _, key := range []string{"", strings.Repeat("ü", MaxPartitionKeyRunes+1)} {
			if err := s.Put(t.Context(), Record{PartitionKey: key}); !errors.Is(err, ErrKey) {
				t.Error(err)
			}
		}
	})
}

// The oldest record does not wait for longer than Linger.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s := f.open(t, Config{Async: true, Linger: 50 * time.Millisecond})
		put(t, s, "a", 1)
		time.Sleep(40 * time.Millisecond)
		put(t, s, "b", 1)
		synctest.Wait()
		if calls := f.seen(); len(calls) != 0 {
			t.Error("too early", calls)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if calls := f.seen(); len(calls) != 1 || len(calls[0]) != 2 {
			t.Error(calls)
		}
		closeNow(t, s)
	})
}

// What a call did not take is in front of the next one, in its order, after a pause.
func TestFailedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{refuse: func(call, n int) string {
			if call == 0 && n%2 == 1 {
				return "ProvisionedThroughputExceededException"
			}
			return ""
		}}
		s := f.open(t, Config{Async: true, Linger: time.Millisecond, Workers: 4, BatchRecords: 4})
		for i := range 10 {
			put(t, s, strconv.Itoa(i), 1)
			if i == 3 { // the first batch is full, and comes back before the others are there
				synctest.Wait()
			}
		}
		synctest.Wait()
		if calls := f.seen(); len(calls) != 1 {
			t.Errorf("no pause: %v", calls)
		}
		closeNow(t, s)
		if !slices.Equal(f.calls[1], []string{"1", "3", "4", "5"}) {
			t.Errorf("%v", f.calls)
		}
		if st := s.Stats(); st.Sent != 10 || st.Retried != 2 || st.FailedCalls != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Without Async a success is what Kinesis has said, and the one who stops waiting takes the record along.
func TestSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{takes: time.Second, fail: func(call int) error {
			if call < 3 {
				return errors.New("no answer")
			}
			return nil
		}}
		s := f.open(t, Config{Linger: -1, Workers: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		buf := []byte("abc")
		if err := s.Put(ctx, Record{PartitionKey: "gone", Data: buf}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		copy(buf, "xyz") // the caller's again
		start := time.Now()
		put(t, s, "kept", 1)
		if waited := time.Since(start); waited < time.Second || f.taken["kept"] != 1 {
			t.Errorf("answered after %v, taken %v", waited, f.taken)
		}
		closeNow(t, s)
		if f.taken["gone"] != 0 {
			t.Error("a record that nobody waits for was sent again and again")
		}
	})
}

// A full queue takes nothing in.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{takes: time.Second}
		s := f.open(t, Config{Async: true, QueueBytes: MaxRecordBytes, Linger: -1})
		put(t, s, "a", MaxRecordBytes/2)
		synctest.Wait() // it is in a call, and counts
		if err := s.Put(t.Context(), Record{PartitionKey: "b", Data: make([]byte, MaxRecordBytes/2)}); !errors.Is(err, ErrFull) {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		put(t, s, "c", MaxRecordBytes/2)
		closeNow(t, s)
		if st := s.Stats(); st.Refused != 1 || st.Sent != 2 {
			t.Errorf("%+v", st)
		}
		if err := s.Put(t.Context(), Record{PartitionKey: "d"}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// What fails for good is told to those who wait; with Async nobody does, and the end counts what is lost.
func TestPermanent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := &smithy.GenericAPIError{Code: "ResourceNotFoundException", Message: "no such stream"}
		f := &fake{fail: func(int) error { return gone }}
		s := f.open(t, Config{Linger: -1})
		if err := s.Put(t.Context(), Record{PartitionKey: "a"}); !errors.Is(err, gone) {
			t.Error(err)
		}
		closeNow(t, s)
		if st := s.Stats(); st.Calls != 1 {
			t.Errorf("%+v", st)
		}

		f = &fake{fail: func(int) error { return gone }}
		s = f.open(t, Config{Async: true, Linger: -1})
		put(t, s, "a", 1)
		put(t, s, "b", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := s.Close(ctx)
		if err == nil || !strings.Contains(err.Error(), "2 records") || s.Stats().Lost != 2 {
			t.Error(err, s.Stats())
		}
		// It went on trying, ever more slowly: a minute of half a second's pauses would be 120 calls.
		if n := s.Stats().Calls; n < 5 || n > 100 {
			t.Errorf("%d calls in a minute", n)
		}
	})
}

// The end does not wait for a call for ever, and tells those who wait.
func TestCloseCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{takes: time.Hour}
		s := f.open(t, Config{Linger: -1})
		result := make(chan error)
		go func() { result <- s.Put(t.Context(), Record{PartitionKey: "a"}) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := s.Close(ctx); err != nil || time.Since(start) > time.Second {
			t.Error(err, time.Since(start)) // nobody was told of a success
		}
		if err := <-result; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// Many senders, a stream that fails at random, and senders that give up at random: whatever was answered with success
// has been taken, and nothing is left at the end.
func TestFaults(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprint("async ", async), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(1, 2))
				var mu sync.Mutex
				chance := func(p float64) bool {
					mu.Lock()
					defer mu.Unlock()
					return rng.Float64() < p
				}
				f := &fake{
					takes: 20 * time.Millisecond,
					fail: func(int) error {
						if chance(0.2) {
							return errors.New("broken pipe")
						}
						return nil
					},
					refuse: func(int, int) string {
						if chance(0.2) {
							return "InternalFailure"
						}
						return ""
					},
				}
				s := f.open(t, Config{Async: async, BatchRecords: 7, QueueBytes: MaxRecordBytes})
				var acked []string
				var all sync.WaitGroup
				for w := range 50 {
					all.Go(func() {
						for i := range 20 {
							key := fmt.Sprintf("%d-%d", w, i)
							ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
							err := s.Put(ctx, Record{PartitionKey: key, Data: bytes.Repeat([]byte{byte(i)}, 10_000)})
							cancel()
							if err == nil {
								mu.Lock()
								acked = append(acked, key)
								mu.Unlock()
							}
						}
					})
				}
				all.Wait()
				closeNow(t, s)
				if len(acked) < 100 {
					t.Errorf("only %d of 1,000 were answered with success", len(acked))
				}
				for _, key := range acked {
					if f.taken[key] == 0 {
						t.Errorf("%s was answered with success and is not in the stream", key)
					}
				}
			})
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	_, err := Open(Config{QueueBytes: 1, Workers: -1, BatchRecords: 501, BatchBytes: -1})
	for _, want := range []string{"no client", "no stream", "queue of 1 bytes", "-1 workers", "batch of 501", "batch of -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestProbe(t *testing.T) {
	f := &fake{}
	s := f.open(t, Config{})
	if err := s.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "it is DELETING") {
		t.Error(err)
	}
	closeNow(t, s)
}
