package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cirrusbench/cirrusbench/internal/collector"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/server/keys"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

// gcPercent is how much the heap of a collector may grow before it is collected again: a quarter instead of its double.
const gcPercent = 25

type collectOptions struct {
	listen, dir                      string
	keys, tlsCert, tlsKey            string
	maxBody, maxDecoded, maxInFlight byteSize
	futureTolerance, drainTimeout    time.Duration

	fsync                         string
	maxBytes, minFree, segment    byteSize
	maxAge, segmentAge, keepSent  time.Duration
	dropOldest, accessLog, silent bool

	forward forwardFlags
}

// forwardFlags say where batches go, how large they are and how often they come.
type forwardFlags struct {
	url                      string
	target                   targetFlags
	apiKeyFile, bearerFile   string
	protocol                 string
	batchBytes, batchDecoded byteSize
	batchSamples             int64
	batchAge                 time.Duration
	concurrency              int
	maxRate                  float64
}

func (o *forwardFlags) add(f *pflag.FlagSet) {
	o.batchBytes, o.batchDecoded = collector.DefaultBatchBytes, collector.DefaultBatchDecodedBytes
	f.StringVar(&o.url, "forward", "", "URL to send batches to, such as https://host/api/v1/write")
	f.StringVar(&o.apiKeyFile, "api-key-file", "", "file with the key to send as X-Api-Key; re-read when it changes and on 401 and 403")
	f.StringVar(&o.bearerFile, "bearer-token-file", "", "file with the token to send as Authorization: Bearer; re-read likewise")
	f.StringVar(&o.protocol, "protocol", "auto", "of merged requests: 2.0, 1.0, or auto: 2.0 where it is taken")
	f.Var(&o.batchBytes, "batch-bytes", "send a batch when the requests in it have so many bytes, as they came")
	f.Var(&o.batchDecoded, "batch-decoded-bytes", "or so many decompressed")
	f.Int64Var(&o.batchSamples, "batch-samples", collector.DefaultBatchSamples, "or so many samples")
	f.IntVar(&o.concurrency, "concurrency", collector.DefaultConcurrency, "requests under way at once; of one org and cluster only one ever is")
	f.Float64Var(&o.maxRate, "max-rate", collector.DefaultRequestsPerSecond, "requests a second at most, also after an outage; 0: no limit")
	f.DurationVar(&o.target.timeout, "timeout", collector.DefaultTimeout, "for one attempt")
	f.StringArrayVar(&o.target.headers, "header", nil, "add a header, as Name=value (repeatable; not for secrets)")
	f.StringVar(&o.target.caCert, "cacert", "", "file with the certificates to trust (PEM)")
	f.StringVar(&o.target.cert, "cert", "", "file with the client certificate (PEM)")
	f.StringVar(&o.target.key, "key", "", "file with the key of the client certificate (PEM; default: in --cert)")
	f.BoolVar(&o.target.insecure, "insecure", false, "do not verify the receiver's certificate")
	f.StringVar(&o.target.proxy, "proxy", "", "URL of a proxy (default: HTTPS_PROXY, HTTP_PROXY, NO_PROXY)")
}

// forwarder makes one that sends what is in q.
func (o *forwardFlags) forwarder(q *spool.Queue, dead, prefix string, onBatch func(collector.Batch), log *slog.Logger) (*collector.Forwarder, *collector.Key, error) {
	if o.url == "" {
		return nil, nil, usagef("give --forward https://host/api/v1/write", "--forward is missing")
	}
	c := collector.Config{
		Queue: q, URL: o.url, UserAgent: "cirrusbench/" + tool().Version, DeadDir: dead, DeadPrefix: prefix,
		BatchBytes: int64(o.batchBytes), BatchDecodedBytes: int64(o.batchDecoded), BatchSamples: o.batchSamples,
		BatchAge: cmp.Or(o.batchAge, -1), Concurrency: o.concurrency, RequestsPerSecond: cmp.Or(o.maxRate, -1), Timeout: o.target.timeout,
		OnBatch: onBatch, Logger: log,
	}
	switch o.protocol {
	case "auto":
	case "1.0", "1":
		c.Protocol = remotewrite.V1
	case "2.0", "2":
		c.Protocol = remotewrite.V2
	default:
		return nil, nil, usagef("use --protocol auto, 1.0 or 2.0", "unknown protocol %q", o.protocol)
	}
	if o.concurrency < 1 || o.batchSamples < 1 || o.maxRate < 0 || o.target.timeout <= 0 {
		return nil, nil, usagef("leave them out for the defaults", "--concurrency, --batch-samples and --timeout must be positive, --max-rate not negative")
	}
	header, err := o.target.header()
	if err != nil {
		return nil, nil, err
	}
	c.Header = http.Header{}
	for name, value := range header {
		c.Header.Set(name, value)
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: o.concurrency,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		WriteBufferSize:     64 << 10,
	}
	if transport.TLSClientConfig, err = o.target.tls(); err != nil {
		return nil, nil, err
	}
	if transport.Proxy, err = o.target.proxyFor(o.url); err != nil {
		return nil, nil, err
	}
	c.Transport = transport
	if o.apiKeyFile != "" && o.bearerFile != "" {
		return nil, nil, usagef("leave one of them out", "--api-key-file and --bearer-token-file contradict each other")
	}
	flag := "--api-key-file"
	switch {
	case o.apiKeyFile != "":
		c.Key, err = collector.OpenKey(o.apiKeyFile, "X-Api-Key", "", log)
	case o.bearerFile != "":
		flag = "--bearer-token-file"
		c.Key, err = collector.OpenKey(o.bearerFile, "Authorization", "Bearer ", log)
	}
	if err != nil {
		return nil, nil, withHint(fmt.Errorf("%s: %w", flag, err), secretHint)
	}
	f, err := collector.NewForwarder(c)
	if err != nil {
		return nil, nil, usagef("write --forward https://host/api/v1/write", "%v", err)
	}
	return f, c.Key, nil
}

func newCollectCommand(e *env) *cobra.Command {
	o := collectOptions{
		maxBody: server.DefaultMaxBodyBytes, maxDecoded: 64 << 20, maxInFlight: server.DefaultMaxInFlightBytes,
		maxBytes: spool.DefaultMaxBytes, minFree: spool.DefaultMinFreeBytes, segment: spool.DefaultSegmentBytes,
	}
	cmd := &cobra.Command{
		Use:   "collect",
		Short: "Collect remote write nearby, keep it on disk, forward it in batches",
		Long: `Collect remote write near its senders and forward it in fewer, larger requests.

POST /api/v1/write takes Prometheus remote write 1.0 and 2.0 and answers 204 once the request is on disk
(--fsync always). Requests of an org and cluster are merged, grouped by series, and sent to --forward when
they reach --batch-bytes, --batch-decoded-bytes, --batch-samples or --batch-age. What is in the queue
survives outages of the receiver, a kill of the process and a loss of power. A batch that is sent again is
the same bytes, so that a receiver which knows requests by their hash stores it once.

Network errors, 401, 403, 404, 408, 425, 429 and 5xx are tried again for ever, after a random time of up
to a minute or when Retry-After says so. A key in a file is re-read when it changes and at once on 401 and
403. A batch that is refused for good (400, 422) is halved until the bad request is alone; that one is put
aside in dead/. 413 makes batches smaller, 415 changes the protocol version.

When the queue is full (--max-bytes, --min-free) senders get 503 with Retry-After and keep their data;
with --drop-oldest they do not notice and the oldest data goes. Both are counted.

GET /livez, /readyz and /metrics are served beside it. SIGTERM or Ctrl-C stops taking requests, tries to
send what is left for --drain-timeout and exits with 0; the rest stays on disk. A second one kills.

The log is JSON. Neither bodies nor keys are in it.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  cirrusbench collect --listen 127.0.0.1:9090 --dir ./queue --forward https://host/api/v1/write
  cirrusbench collect inspect ./queue
  cirrusbench collect replay --dir ./queue --from 2026-11-20T10:00:00Z --to 2026-11-20T11:00:00Z \
       --forward https://host/api/v1/write`,
		Args: argsRange(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			e.drains.Store(true)
			return runCollect(cmd.Context(), e, &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:9090", "address to listen on; port 0 takes a free one and prints it")
	f.StringVar(&o.dir, "dir", "./queue", "directory of the queue; only one process may have it open")
	o.forward.add(f)
	f.DurationVar(&o.forward.batchAge, "batch-age", collector.DefaultBatchAge, "or when the oldest request in it is so old; 0: at once")
	f.StringVar(&o.fsync, "fsync", string(spool.SyncAlways), "always: before the answer, one sync for all that wait; interval: once a second; never: leave it to the system")
	f.Var(&o.maxBytes, "max-bytes", "most bytes in --dir, sent and put aside included")
	f.Var(&o.minFree, "min-free", "how much of the disk to leave free")
	f.DurationVar(&o.maxAge, "max-age", 0, "drop what could not be sent for so long; 0: never")
	f.BoolVar(&o.dropOldest, "drop-oldest", false, "when the queue is full drop the oldest instead of answering 503")
	f.DurationVar(&o.keepSent, "keep-sent", spool.DefaultKeepSent, "keep what was sent for 'collect replay'; 0: not at all")
	f.Var(&o.segment, "segment-bytes", "size of a file of the queue: space is given back by files")
	f.DurationVar(&o.segmentAge, "segment-age", spool.DefaultSegmentAge, "begin another file after this time")
	f.StringVar(&o.keys, "keys", "", "YAML file with the SHA-256 hashes of API keys by org, as for 'serve'; without it there is no authentication")
	f.StringVar(&o.tlsCert, "tls-cert-file", "", "PEM certificate with its chain, to serve HTTPS; re-read when it changes")
	f.StringVar(&o.tlsKey, "tls-key-file", "", "PEM key of --tls-cert-file")
	f.Var(&o.maxBody, "max-body", "largest body as sent; above it 413")
	f.Var(&o.maxDecoded, "max-decoded", "largest body after decompression; above it 400, before anything is allocated")
	f.Var(&o.maxInFlight, "max-in-flight-bytes", "memory for requests under way; above it 503")
	f.DurationVar(&o.futureTolerance, "future-tolerance", 10*time.Minute, "how far ahead of the clock a timestamp may be; negative: any")
	f.DurationVar(&o.drainTimeout, "drain-timeout", 30*time.Second, "how long to try to send what is left at the end")
	f.BoolVar(&o.accessLog, "access-log", false, "log every request, not only those that are not stored")
	f.BoolVar(&o.silent, "quiet", false, "log warnings and errors only")
	cmd.AddCommand(newCollectInspectCommand(e), newCollectReplayCommand(e))
	return cmd
}

func runCollect(ctx context.Context, e *env, o *collectOptions) (err error) {
	if (o.tlsCert == "") != (o.tlsKey == "") {
		return usagef("give both, or neither to serve HTTP", "--tls-cert-file and --tls-key-file go together")
	}
	level := slog.LevelInfo
	switch {
	case o.silent:
		level = slog.LevelWarn
	case o.accessLog:
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewJSONHandler(e.err, &slog.HandlerOptions{Level: level}))
	if e.getenv("GOGC") == "" && e.getenv("GOMEMLIMIT") == "" {
		// It runs beside what it collects from, so memory is dearer than the few percent of a processor that this costs.
		debug.SetGCPercent(gcPercent)
	}
	if err := o.check(ctx); err != nil {
		return err
	}
	m := newCollectMetrics()
	q, err := o.open(m, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	f, key, err := o.forward.forwarder(q, filepath.Join(o.dir, "dead"), "", m.batch, log)
	if err != nil {
		return err
	}
	m.watch(q, f, key)
	core, err := o.core(q, m, log)
	if err != nil {
		return err
	}
	m.server.watch(core.InFlight)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.server.registry, promhttp.HandlerOpts{}))
	mux.Handle("/", core.Handler())
	// The time limits are those of serve.
	srv := &httpServer{core: core, http: &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 90 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}
	l, err := listen(ctx, o.listen)
	if err != nil {
		return err
	}
	if l, err = announce(e, srv, l, o.tlsCert, o.tlsKey, log); err != nil {
		return err
	}
	return collect(ctx, srv, l, f, q, o.drainTimeout, log)
}

// check makes what the flags ask for once without a queue: what is wrong with them must leave no directory behind.
func (o *collectOptions) check(ctx context.Context) error {
	log := slog.New(slog.DiscardHandler)
	if err := checkListen(ctx, o.listen); err != nil {
		return err
	}
	if _, err := o.sync(); err != nil {
		return err
	}
	if _, _, err := o.forward.forwarder(new(spool.Queue), o.dir, "", nil, log); err != nil {
		return err
	}
	_, err := o.core(new(spool.Queue), newCollectMetrics(), log)
	return err
}

func (o *collectOptions) sync() (spool.Sync, error) {
	switch s := spool.Sync(o.fsync); s {
	case spool.SyncAlways, spool.SyncInterval, spool.SyncNever:
		return s, nil
	default:
		return "", usagef("use --fsync always, interval or never", "unknown --fsync %q", o.fsync)
	}
}

// collect serves and forwards until ctx ends, and then tries to send what is left.
func collect(ctx context.Context, srv *httpServer, l net.Listener, f *collector.Forwarder, q *spool.Queue, drain time.Duration, log *slog.Logger) error {
	forwarding, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	empty, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- f.Run(forwarding, empty) }()
	// What comes in has half of the time to finish, so that some is left for sending.
	err := srv.serve(ctx, l, drain/2+time.Second)
	close(empty)
	timer := time.AfterFunc(drain, stop)
	defer timer.Stop()
	if ferr := <-done; ferr != nil && !errors.Is(ferr, context.Canceled) {
		err = errors.Join(err, ferr)
	}
	if left := q.Stats().Pending; left.Records > 0 {
		log.Warn("stopped with requests that are not sent; they stay in the queue", "requests", left.Records, "samples", left.Samples, "oldest", left.Oldest)
	}
	return err
}

// open opens the queue.
func (o *collectOptions) open(m *collectMetrics, log *slog.Logger) (*spool.Queue, error) {
	opt := spool.Options{
		SegmentBytes: int64(o.segment), SegmentAge: o.segmentAge, MaxBytes: int64(o.maxBytes), MinFreeBytes: int64(o.minFree),
		MaxAge: o.maxAge, DropOldest: o.dropOldest, KeepSent: cmp.Or(o.keepSent, -1), Sync: spool.Sync(o.fsync), OnSync: m.sync, Logger: log,
	}
	q, err := spool.Open(o.dir, opt)
	switch {
	case errors.Is(err, spool.ErrLocked):
		return nil, withHint(err, "end the other process, or give this one a --dir of its own")
	case err != nil && hintOf(err) == "":
		return nil, withHint(err, "may you write to "+o.dir+"? 'cirrusbench collect inspect "+o.dir+"' says what is in it")
	}
	return q, err
}

// core is the local endpoint.
func (o *collectOptions) core(q *spool.Queue, m *collectMetrics, log *slog.Logger) (*server.Core, error) {
	cfg := server.Config{
		Sink: collector.NewSink(q),
		Limits: remotewrite.Limits{
			MaxDecodedBytes: int(o.maxDecoded),
			FutureTolerance: cmp.Or(o.futureTolerance, time.Nanosecond), // 0 is no tolerance and not the default
		},
		MaxBodyBytes: int64(o.maxBody), MaxInFlightBytes: int64(o.maxInFlight), Logger: log, Metrics: m.server, Ready: collector.Ready(q),
	}
	if o.keys != "" {
		file, err := keys.Open(o.keys, log, nil)
		if err != nil {
			return nil, withHint(err, "write the keys as 'cirrusbench serve --help' shows")
		}
		cfg.Authenticate = file.Authenticate
	}
	core, err := server.New(cfg)
	if err != nil {
		return nil, usagef("raise --max-in-flight-bytes, or lower --max-body and --max-decoded", "%v", err)
	}
	return core, nil
}
