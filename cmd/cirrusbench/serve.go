package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/kinesis"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/server/keys"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

type serveOptions struct {
	listen, store, sink, answer      string
	keys, tlsCert, tlsKey            string
	maxBody, maxDecoded, maxInFlight byteSize
	queueBytes                       byteSize
	linger                           time.Duration
	futureTolerance                  time.Duration
	drainTimeout                     time.Duration
	legacyNames, accessLog, quiet    bool
}

func newServeCommand(e *env) *cobra.Command {
	o := serveOptions{
		maxBody: server.DefaultMaxBodyBytes, maxDecoded: 64 << 20, maxInFlight: server.DefaultMaxInFlightBytes,
		queueBytes: kinesis.DefaultQueueBytes,
	}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the reference remote-write server",
		Long: `Run the reference remote-write server: POST /api/v1/write takes Prometheus remote write 1.0 and 2.0,
validates every request and stores its body as received, one object a request, synced to disk (or put
into S3) before the answer. The store is a corpus for 'cirrusbench replay'.

S3 is configured as for the AWS CLI: AWS_REGION, credentials from the environment, ~/.aws or the role of
the machine, and AWS_ENDPOINT_URL_S3 for another S3 server.

GET /healthz, /livez, /readyz and /metrics are served beside it. The cluster is the query parameter
cluster_name, else "default". With --keys the org is the one whose API key the request shows (Authorization:
Bearer, Basic with the key as password, or bare; or X-Api-Key), and a request without a known key is
refused. Without --keys there is no authentication: the org is the X-Scope-OrgID header or the path
/ORG/api/v1/write, else "default"; listen on loopback, or put a proxy in front.

--keys names a YAML file with the SHA-256 of each key (printf %s "$KEY" | sha256sum). An org may have
several, so that keys can be rotated; a change is taken up within a second:

  orgs:
    alfa:
      - 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8

When some series of a request are refused the others are stored, and the answer is a 400 that counts both.
Overload and a failing store are answered 503 with Retry-After, never 429: Prometheus drops what gets a
429. SIGTERM or Ctrl-C lets requests under way finish; a second one kills.

With --sink kinesis://STREAM requests go into a Kinesis data stream instead of a store, up to 500 in a call: the
data is the body as received, the partition key the object key that a store would have given it. --answer sync
answers when Kinesis has the request; --answer async when it is in the queue, from where it is sent before
the program ends, and lost when it is killed. A full queue is a 503. The region and the credentials are
found as for S3; AWS_ENDPOINT_URL_KINESIS is another endpoint.

The log is JSON, one line for each request that is not stored, or with --access-log for every request.
Neither bodies nor keys are in it.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  cirrusbench serve --store ./data
  curl --data-binary @body.snappy -H 'Content-Type: application/x-protobuf' \
       -H 'Content-Encoding: snappy' 'http://127.0.0.1:9201/api/v1/write?cluster_name=prod'`,
		Args: argsRange(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			e.drains.Store(true)
			if err := checkSinkFlags(cmd, &o); err != nil {
				return err
			}
			return runServe(cmd.Context(), e, &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:9201", "address to listen on; port 0 takes a free one and prints it")
	f.StringVar(&o.store, "store", "./data", "where to keep requests: ./dir, file:///abs/dir, s3://bucket/prefix, mem:, or null: to validate and discard")
	f.StringVar(&o.sink, "sink", "store", "where requests go: store, or kinesis://STREAM")
	f.StringVar(&o.answer, "answer", "sync", "when a request is answered, with --sink kinesis: sync, when Kinesis has it, or async, when it is in the queue")
	f.Var(&o.queueBytes, "queue-bytes", "requests that may wait for Kinesis; above it 503")
	f.DurationVar(&o.linger, "linger", kinesis.DefaultLinger, "how long a request waits for others to share its call to Kinesis")
	f.StringVar(&o.keys, "keys", "", "YAML file with the SHA-256 hashes of API keys by org; without it there is no authentication")
	f.StringVar(&o.tlsCert, "tls-cert-file", "", "PEM certificate with its chain, to serve HTTPS; re-read when it changes")
	f.StringVar(&o.tlsKey, "tls-key-file", "", "PEM key of --tls-cert-file")
	f.Var(&o.maxBody, "max-body", "largest body as sent; above it 413")
	f.Var(&o.maxDecoded, "max-decoded", "largest body after decompression; above it 400, before anything is allocated")
	f.Var(&o.maxInFlight, "max-in-flight-bytes", "memory for requests under way; above it 503")
	f.DurationVar(&o.futureTolerance, "future-tolerance", 10*time.Minute, "how far ahead of the clock a timestamp may be; negative: any")
	f.BoolVar(&o.legacyNames, "legacy-names", false, "refuse series whose metric or label names need UTF-8")
	f.BoolVar(&o.accessLog, "access-log", false, "log every request, not only those that are not stored")
	f.DurationVar(&o.drainTimeout, "drain-timeout", 10*time.Second, "how long requests under way may take to finish at the end")
	f.BoolVar(&o.quiet, "quiet", false, "log warnings and errors only")
	return cmd
}

func runServe(ctx context.Context, e *env, o *serveOptions) error {
	if (o.tlsCert == "") != (o.tlsKey == "") {
		return usagef("give both, or neither to serve HTTP", "--tls-cert-file and --tls-key-file go together")
	}
	if o.accessLog && o.quiet {
		return usagef("leave one of them out", "--access-log and --quiet contradict each other")
	}
	level := slog.LevelInfo
	switch {
	case o.quiet:
		level = slog.LevelWarn
	case o.accessLog:
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewJSONHandler(e.err, &slog.HandlerOptions{Level: level}))
	// Before the store, so that an address that cannot be had leaves no directory behind.
	l, err := listen(ctx, o.listen)
	if err != nil {
		return err
	}
	d, err := openSink(ctx, o, log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	err = serveOn(ctx, e, o, l, d, log)
	// Whatever has been answered and not sent is sent now, also after an error.
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.drainTimeout)
	defer cancel()
	return errors.Join(err, d.close(deadline))
}

// checkListen refuses an address that can be none of any machine. A name may turn out to be unknown, a port to be taken.
func checkListen(ctx context.Context, address string) error {
	const hint = "write --listen HOST:PORT, such as 127.0.0.1:9201, or :9201 for every address of this machine"
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return usagef(hint, "--listen %q is not HOST:PORT", address)
	}
	if n, err := strconv.Atoi(port); err == nil && (n < 0 || n > 65535) {
		return usagef(hint, "--listen %q: ports go from 0 to 65535", address)
	} else if err != nil {
		if _, err := net.DefaultResolver.LookupPort(ctx, "tcp", port); err != nil || port == "" {
			return usagef(hint, "--listen %q: %q is no port", address, port)
		}
	}
	return nil
}

// listen opens the socket of --listen.
func listen(ctx context.Context, address string) (net.Listener, error) {
	if err := checkListen(ctx, address); err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err == nil {
		return l, nil
	}
	hint := "use --listen 127.0.0.1:0 for a free port"
	_, malformed := errors.AsType[*net.AddrError](err)
	_, unknown := errors.AsType[*net.DNSError](err)
	if malformed || unknown {
		hint = "write --listen HOST:PORT, such as 127.0.0.1:9201, or :9201 for every address of this machine"
	}
	return nil, withHint(fmt.Errorf("listening on %s: %w", address, err), hint)
}

// serveOn serves on l, which it closes, until ctx ends.
func serveOn(ctx context.Context, e *env, o *serveOptions, l net.Listener, d outlet, log *slog.Logger) error {
	srv, err := newHTTPServer(ctx, d, o, log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if l, err = announce(e, srv, l, o.tlsCert, o.tlsKey, log); err != nil {
		return err
	}
	return srv.serve(ctx, l, o.drainTimeout)
}

// announce puts TLS on l where a certificate is given, and says where the server listens. With an error l is closed.
func announce(e *env, srv *httpServer, l net.Listener, certFile, keyFile string, log *slog.Logger) (net.Listener, error) {
	scheme := "http"
	if certFile != "" {
		cert, err := openCertificate(certFile, keyFile, log)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		srv.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get, NextProtos: []string{"h2", "http/1.1"}}
		l, scheme = tls.NewListener(l, srv.http.TLSConfig), "https"
	}
	if _, err := fmt.Fprintf(e.err, "listening on %s://%s\n", scheme, l.Addr()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// httpServer is the reference server with everything around it: metrics, time limits, shutdown.
type httpServer struct {
	core *server.Core
	http *http.Server
}

func newHTTPServer(ctx context.Context, d outlet, o *serveOptions, log *slog.Logger) (*httpServer, error) {
	m := newMetrics()
	cfg := server.Config{
		Sink: d.sink,
		Limits: remotewrite.Limits{
			MaxDecodedBytes: int(o.maxDecoded), LegacyNames: o.legacyNames,
			FutureTolerance: cmp.Or(o.futureTolerance, time.Nanosecond), // 0 is no tolerance and not the default
		},
		MaxBodyBytes: int64(o.maxBody), MaxInFlightBytes: int64(o.maxInFlight), Logger: log, Metrics: m,
	}
	if o.keys != "" {
		file, err := keys.Open(o.keys, log, nil)
		if err != nil {
			return nil, withHint(err, "write the keys as 'cirrusbench serve --help' shows")
		}
		cfg.Authenticate = file.Authenticate
	}
	if d.probe != nil {
		cfg.Ready = d.probe
		if err := d.probe(ctx); err != nil {
			log.WarnContext(ctx, "the store is not writable", "error", err.Error())
		}
	}
	core, err := server.New(cfg)
	if err != nil {
		return nil, usagef("raise --max-in-flight-bytes, or lower --max-body and --max-decoded", "%v", err)
	}
	m.watch(core.InFlight)
	if d.stream != nil {
		m.watchStream(d.stream)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.Handle("/", core.Handler())
	return &httpServer{core: core, http: &http.Server{
		Handler: mux,
		// A body of 10 MiB takes a minute at 1.4 Mbit/s; slower senders are cut off, not waited for.
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      90 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}, nil
}

// serve answers requests on l until ctx ends, then lets those under way finish.
func (s *httpServer) serve(ctx context.Context, l net.Listener, drain time.Duration) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	s.core.Drain()
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := s.http.Shutdown(deadline)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests were still under way after %v: %w", drain, err), s.http.Close())
	}
	if closed := <-failed; !errors.Is(closed, http.ErrServerClosed) { // Serve has returned: nothing is left running
		err = errors.Join(err, closed)
	}
	return err
}

// embedded is a reference server in this process, on loopback, over a temporary directory.
type embedded struct {
	url    string
	cancel context.CancelFunc
	done   chan error
	dir    string
}

func startEmbedded(ctx context.Context, maxDecoded byteSize) (*embedded, error) {
	dir, err := os.MkdirTemp("", "cirrusbench-store-")
	if err != nil {
		return nil, err
	}
	em, err := startEmbeddedIn(ctx, dir, maxDecoded)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return em, nil
}

func startEmbeddedIn(ctx context.Context, dir string, maxDecoded byteSize) (*embedded, error) {
	s, err := store.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	o := &serveOptions{
		maxBody: server.DefaultMaxBodyBytes, maxDecoded: maxDecoded, maxInFlight: max(server.DefaultMaxInFlightBytes, 4*maxDecoded),
		futureTolerance: 10 * time.Minute,
	}
	srv, err := newHTTPServer(ctx, storeOutlet(s), o, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	// An interrupted replay still waits for its answers: the server ends when it is told to.
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	em := &embedded{url: "http://" + l.Addr().String() + server.PathWrite, cancel: cancel, done: make(chan error, 1), dir: dir}
	go func() { em.done <- srv.serve(own, l, 5*time.Second) }()
	return em, nil
}

// stop ends the server and deletes its store.
func (em *embedded) stop() error {
	em.cancel()
	return errors.Join(<-em.done, os.RemoveAll(em.dir))
}
