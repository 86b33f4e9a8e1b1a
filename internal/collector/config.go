package collector

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

// Defaults of [Config].
const (
	DefaultBatchBytes        = 4 << 20
	DefaultBatchDecodedBytes = 24 << 20
	DefaultBatchSamples      = 100_000
	DefaultBatchAge          = time.Minute
	DefaultConcurrency       = 4
	DefaultRequestsPerSecond = 5
	DefaultTimeout           = 30 * time.Second
)

const (
	// maxRecordBytes bounds what a record of the queue unpacks to: what remotewrite takes
	// at most.
	maxRecordBytes = 1<<30 - 1
	// maxBatchRecords bounds the list of sequence numbers that a batch is halved by.
	maxBatchRecords = 20_000
	// maxBatchSeries bounds what merging takes: some 250 bytes a series.
	maxBatchSeries = 55_000
	minBackoff     = time.Second
	maxBackoff     = time.Minute
	maxRetryAfter  = 5 * time.Minute
	keyEvery       = time.Second
	lookEvery      = 50 * time.Millisecond
)

// Config is what a [Forwarder] is made of. Queue and URL are required; the zero value of
// every other field stands for its default.
type Config struct {
	Queue *spool.Queue

	// URL is where batches go, such as https://host/api/v1/write. A cluster that is not
	// "default" is added as ?cluster_name=, an org that is not "default" as the header
	// X-Scope-OrgID.
	URL string

	// Transport carries the requests. nil: http.DefaultTransport.
	Transport http.RoundTripper

	// Header is added to every request. UserAgent is sent as such.
	Header    http.Header
	UserAgent string

	// Key shows who we are; nil: nothing does.
	Key *Key

	// A batch is sent when its requests reach one of these together, or when its oldest
	// is BatchAge old. BatchBytes counts bodies as they came, compressed; the merged
	// request is smaller. Defaults 4 MiB, 24 MiB, 100,000 and 1 minute; a negative
	// BatchAge sends at once.
	BatchBytes        int64
	BatchDecodedBytes int64
	BatchSamples      int64
	BatchAge          time.Duration

	// Protocol is the version of merged requests. 0: 2.0, and 1.0 for a receiver that
	// does not take it.
	Protocol remotewrite.Version

	// Concurrency is how many requests are under way at once, one a lane; the default is
	// 4. RequestsPerSecond bounds the rate of all requests, so that catching up after an
	// outage does not use up the quota of a serverless receiver. Default 5; negative: no
	// bound.
	Concurrency       int
	RequestsPerSecond float64

	// Timeout bounds one attempt. Default 30 s.
	Timeout time.Duration

	// DeadDir is where requests go that the receiver will never take. DeadPrefix begins
	// the names of the files.
	DeadDir    string
	DeadPrefix string

	// OnBatch is told of every delivered request; it must not block.
	OnBatch func(Batch)

	Logger *slog.Logger // nil: no log. Neither bodies nor keys are logged.
}

// Batch is a delivered request.
type Batch struct {
	Records       int // merged into it
	Samples       int // in it, with histograms
	Bytes         int // sent, compressed
	ReceivedBytes int64
	Took          time.Duration // the attempt that succeeded
}

func (c Config) withDefaults() Config {
	c.BatchBytes = cmp.Or(c.BatchBytes, DefaultBatchBytes)
	c.BatchDecodedBytes = cmp.Or(c.BatchDecodedBytes, DefaultBatchDecodedBytes)
	c.BatchSamples = cmp.Or(c.BatchSamples, DefaultBatchSamples)
	c.BatchAge = cmp.Or(c.BatchAge, DefaultBatchAge)
	c.Concurrency = cmp.Or(c.Concurrency, DefaultConcurrency)
	c.RequestsPerSecond = cmp.Or(c.RequestsPerSecond, DefaultRequestsPerSecond)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// check names everything that is wrong.
func (c *Config) check() (*url.URL, error) {
	var problems []error
	if c.Queue == nil {
		problems = append(problems, errors.New("no queue"))
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		problems = append(problems, errors.New("the URL to forward to is not of the form https://host/api/v1/write"))
	case u.User != nil:
		problems = append(problems, errors.New("the URL to forward to has credentials, which would show in the process list"))
	}
	if c.DeadDir == "" {
		problems = append(problems, errors.New("no directory for requests that are refused"))
	}
	if c.BatchBytes < 0 || c.BatchDecodedBytes < 0 || c.BatchSamples < 0 {
		problems = append(problems, errors.New("the limits of a batch must be positive"))
	}
	if c.Concurrency < 0 || c.Timeout < 0 {
		problems = append(problems, errors.New("concurrency and timeout must be positive"))
	}
	if c.Protocol > remotewrite.V2 {
		problems = append(problems, fmt.Errorf("protocol %d is neither 1 nor 2", c.Protocol))
	}
	return u, errors.Join(problems...)
}
