package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// Defaults of [Config].
const (
	DefaultMaxBodyBytes     = 10 << 20
	DefaultMaxInFlightBytes = 256 << 20
	DefaultStoreTimeout     = 10 * time.Second
	DefaultRetryAfter       = 2 * time.Second
)

// defaultMaxDecodedBytes is that of remotewrite.Limits.
const defaultMaxDecodedBytes = 64 << 20

// greatestLimit is the longest message that a snappy block can hold.
const greatestLimit = 1<<32 - 1

// Config is what a [Core] is made of. Only Sink is required.
type Config struct {
	Sink Sink

	// Limits bound the content of a request; see there for the defaults.
	Limits remotewrite.Limits

	// MaxBodyBytes bounds the body as sent, compressed; more is a 413. Default 10 MiB.
	// A sender drops what gets a 413.
	MaxBodyBytes int64

	// MaxInFlightBytes bounds the memory for bodies, compressed and decoded, of all
	// requests under way; what does not fit gets a 503 and comes back. It must hold one
	// request of the greatest size, or that one would come back for ever. Default
	// 256 MiB.
	MaxInFlightBytes int64

	// StoreTimeout bounds a call of the sink, through its context. It must be shorter
	// than the time limit of any gateway before the server, or the sender is told of a
	// failure and does not learn of the success. Default 10 s; negative: none.
	StoreTimeout time.Duration

	// RetryAfter is what a 503 asks the sender to wait, rounded up to seconds. Default
	// 2 s.
	RetryAfter time.Duration

	// Authenticate says whose request it is. nil: the X-Scope-OrgID header does, or
	// the org is "default"; then the network must keep strangers away. An error that
	// is a *remotewrite.Error is answered with its status (401 or 403), text and hint;
	// any other means that the question could not be decided, and is a 503.
	Authenticate func(r *http.Request) (org string, err error)

	// Ready is asked by /readyz beyond whether the server drains; nil: always ready.
	Ready func(ctx context.Context) error

	Logger  *slog.Logger     // nil: no log. Bodies are never logged.
	Metrics Metrics          // nil: none
	Now     func() time.Time // the clock; nil: time.Now
}

// Core is the transport-free reference server. Use [New]; its methods may be called
// from several goroutines at once.
type Core struct {
	cfg      Config
	log      *slog.Logger
	budget   budget
	requests atomic.Int64 // under way
	draining atomic.Bool
	scratch  sync.Pool // of *scratch
}

// New returns a server. The error names everything that is wrong with cfg.
func New(cfg Config) (*Core, error) {
	cfg.MaxBodyBytes = cmp.Or(cfg.MaxBodyBytes, DefaultMaxBodyBytes)
	cfg.MaxInFlightBytes = cmp.Or(cfg.MaxInFlightBytes, DefaultMaxInFlightBytes)
	cfg.StoreTimeout = cmp.Or(cfg.StoreTimeout, DefaultStoreTimeout)
	cfg.RetryAfter = cmp.Or(cfg.RetryAfter, DefaultRetryAfter)
	decoded := int64(cmp.Or(cfg.Limits.MaxDecodedBytes, defaultMaxDecodedBytes))
	cfg.Limits.MaxDecodedBytes = int(decoded)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var problems []error
	if cfg.Sink == nil {
		problems = append(problems, errors.New("no sink"))
	}
	if cfg.MaxBodyBytes < 0 || cfg.MaxBodyBytes > greatestLimit {
		problems = append(problems, fmt.Errorf("limit for the body of %d bytes is not in 1 to %d", cfg.MaxBodyBytes, int64(greatestLimit)))
	}
	if decoded < 0 || decoded > greatestLimit {
		problems = append(problems, fmt.Errorf("limit for the decoded body of %d bytes is not in 1 to %d", decoded, int64(greatestLimit)))
	}
	if cfg.RetryAfter < 0 {
		problems = append(problems, fmt.Errorf("retry-after of %s is negative", cfg.RetryAfter))
	}
	// One byte more is read to see that a body is too long. The good part of a request
	// is packed anew when the rest is refused.
	if need := cfg.MaxBodyBytes + 1 + decoded + remotewrite.EncodedLen(decoded); len(problems) == 0 && cfg.MaxInFlightBytes < need {
		problems = append(problems, fmt.Errorf("memory budget of %d bytes is less than the %d that the greatest request needs",
			cfg.MaxInFlightBytes, need))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("configuring server: %w", err)
	}
	c := &Core{cfg: cfg, log: cfg.Logger}
	c.budget.limit = cfg.MaxInFlightBytes
	c.scratch.New = func() any { return new(scratch) }
	return c, nil
}

// Drain makes /readyz answer 503 and closes connections after their next answer.
// Requests are served as before: the load balancer needs time to notice.
func (c *Core) Drain() { c.draining.Store(true) }

// InFlight returns the number of requests under way and the bytes of memory they
// have reserved.
func (c *Core) InFlight() (requests, bytes int64) {
	return c.requests.Load(), c.budget.used.Load()
}

// retryAfter is the value of the header, in whole seconds.
func (c *Core) retryAfter() string {
	return strconv.FormatInt(max(1, int64((c.cfg.RetryAfter+time.Second-1)/time.Second)), 10)
}

// budget is memory that requests reserve before they use it. Nobody waits for it:
// two requests that each hold a part and wait for the rest would wait for ever.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// scratch is what serving a request needs and the next one can use again.
type scratch struct {
	body    []byte
	decoded []byte
	encoded []byte // the good part of a request that is refused in part
	walker  remotewrite.Walker
}

// Buffers greater than this are not kept: one giant request must not hold on to
// its memory for the rest of the day. A usual request has 11 to 72 KB, 0.1 to 0.6 MB
// decoded.
const (
	keepBodyBytes    = 1 << 20
	keepDecodedBytes = 8 << 20
)

func (c *Core) getScratch() *scratch {
	s, ok := c.scratch.Get().(*scratch)
	if !ok {
		return new(scratch)
	}
	return s
}

func (c *Core) putScratch(s *scratch) {
	// What the walker keeps grows with the decoded size.
	if cap(s.body) <= keepBodyBytes && cap(s.decoded) <= keepDecodedBytes && cap(s.encoded) <= keepDecodedBytes {
		c.scratch.Put(s)
	}
}
