package main

import (
	"cmp"
	"context"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/kinesis"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// outlet is where the requests of a server go.
type outlet struct {
	sink   server.Sink
	probe  func(ctx context.Context) error // says whether it can be written to; nil: always
	close  func(ctx context.Context) error // sends what waits; not nil
	stream func() kinesis.Stats            // nil: no stream
}

func storeOutlet(s store.Store) outlet {
	d := outlet{sink: server.NewStoreSink(s), close: func(context.Context) error { return nil }}
	if p, ok := s.(interface {
		Probe(ctx context.Context) error
	}); ok {
		d.probe = p.Probe
	}
	return d
}

const (
	kinesisScheme = "kinesis://"

	// maxStreamBody leaves room for the key, and for the good part of a request, packed anew, to grow a little.
	maxStreamBody = kinesis.MaxRecordBytes / 8 * 7
)

// streamName is what AWS lets a stream be called.
var streamName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)

// checkSinkFlags looks at the flags that belong together, and fits the largest body to the sink.
func checkSinkFlags(cmd *cobra.Command, o *serveOptions) error {
	if o.answer != "sync" && o.answer != "async" {
		return usagef("write --answer sync or --answer async", "--answer must be sync or async, not %q", o.answer)
	}
	name, stream := strings.CutPrefix(o.sink, kinesisScheme)
	changed := cmd.Flags().Changed
	switch {
	case !stream && o.sink != "store":
		return usagef("write --sink store or --sink kinesis://STREAM", "--sink is %q", o.sink)
	case !stream:
		for _, f := range []string{"answer", "queue-bytes", "linger"} {
			if changed(f) {
				return usagef("give --sink kinesis://STREAM as well, or leave it out", "--%s is for a stream", f)
			}
		}
		return nil
	case !streamName.MatchString(name):
		return usagef("write kinesis://STREAM with the name of the stream, which has letters, digits, '_', '.' and '-'", "--sink %s does not name a stream", o.sink)
	case changed("store"):
		return usagef("leave one of them out", "--store and --sink %s contradict each other", o.sink)
	case o.linger < 0:
		return usagef("write --linger 0s to wait for nothing", "--linger is negative")
	case o.queueBytes < kinesis.MaxRecordBytes:
		return usagef("give it some megabytes", "--queue-bytes is less than one record of %d bytes", kinesis.MaxRecordBytes)
	case changed("max-body") && o.maxBody > maxStreamBody:
		return usagef("lower it, or leave it out", "--max-body is more than the %d bytes that fit into a record of Kinesis", maxStreamBody)
	}
	o.maxBody = min(o.maxBody, maxStreamBody)
	return nil
}

// openSink opens the store or the stream.
func openSink(ctx context.Context, o *serveOptions, log *slog.Logger) (outlet, error) {
	name, stream := strings.CutPrefix(o.sink, kinesisScheme)
	if !stream {
		s, err := openStore(ctx, o.store)
		if err != nil {
			return outlet{}, err
		}
		return storeOutlet(s), nil
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return outlet{}, withHint(err, "check AWS_PROFILE, AWS_REGION and ~/.aws/config")
	}
	if cfg.Region == "" {
		return outlet{}, usagef("set AWS_REGION to the region of the stream", "no AWS region is configured")
	}
	s, err := kinesis.Open(kinesis.Config{
		API: kinesis.NewClient(cfg), Stream: name, Async: o.answer == "async",
		Linger:     cmp.Or(o.linger, -time.Nanosecond), // 0 is none and not the default
		QueueBytes: int(o.queueBytes), Logger: log,
	})
	if err != nil {
		return outlet{}, err
	}
	return outlet{sink: streamSink{s}, probe: s.Probe, close: s.Close, stream: s.Stats}, nil
}

// streamSink puts requests into a stream, each under the key that a store would have given it.
type streamSink struct{ s *kinesis.Stream }

// Store implements server.Sink. A stream does not know what it had before.
func (s streamSink) Store(ctx context.Context, r server.Request) (created bool, err error) {
	if err := s.s.Put(ctx, kinesis.Record{PartitionKey: r.Key().String(), Data: r.Body}); err != nil {
		return false, err
	}
	return true, nil
}
