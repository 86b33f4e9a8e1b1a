// Command cirrusbench-lambda is the reference remote-write server as a Lambda function: the bootstrap of a custom
// runtime behind API Gateway, a function URL or a load balancer. docs/deploy.md says how to deploy it.
//
// It is configured by the environment:
//
//	CIRRUSBENCH_STORE        where to keep requests: s3://bucket/prefix, or a directory in a test
//	CIRRUSBENCH_KEYS         YAML file with the hashes of API keys by org, as for 'cirrusbench serve --keys', in the
//	                         package or a layer; without it the function checks no keys
//	CIRRUSBENCH_MAX_DECODED  largest body after decompression in bytes, default two fifths of what
//	                         memory leaves, 64 MiB at most
//	AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, set by Lambda
//	AWS_ENDPOINT_URL_S3      another S3 server
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/server/keys"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

func main() {
	handler, err := setUp(os.Getenv)
	if err != nil {
		explain(os.Stderr, err)
		os.Exit(1)
	}
	lambda.Start(handler)
}

const (
	// maxEventBytes is Lambda's limit for an event. A body in base64 is three quarters of that at most.
	maxEventBytes = 6 << 20

	// storeTimeout is shorter than the 29 s after which API Gateway answers by itself.
	storeTimeout = 8 * time.Second

	// memoryPerCPU is the size at which a function has a whole CPU.
	memoryPerCPU = 1769
)

// setUp makes everything that outlives an invocation, before the first one: it runs unthrottled.
func setUp(getenv func(string) string) (*server.Lambda, error) {
	memory, err := strconv.Atoi(cmp.Or(getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), "128"))
	if err != nil {
		return nil, fmt.Errorf("reading AWS_LAMBDA_FUNCTION_MEMORY_SIZE: %w", err)
	}
	tune(memory, getenv)
	location := getenv("CIRRUSBENCH_STORE")
	if location == "" {
		return nil, errors.New("CIRRUSBENCH_STORE is not set; hint: set it to s3://bucket/prefix")
	}
	// A request takes its body, the decoded message, and as much again when its good part is packed anew.
	budget := memory << 20 * 3 / 4
	decoded := min(64<<20, (budget-maxEventBytes)*2/5)
	if v := getenv("CIRRUSBENCH_MAX_DECODED"); v != "" {
		if decoded, err = strconv.Atoi(v); err != nil || decoded < 1 || decoded > 1<<32-1 {
			return nil, fmt.Errorf("CIRRUSBENCH_MAX_DECODED is %q; hint: set it to a number of bytes", v)
		}
	}
	s, err := store.Open(context.Background(), location, store.WithAWS(func(context.Context) (aws.Config, error) {
		return awsConfig(getenv), nil
	}))
	if err != nil {
		return nil, err
	}
	cfg := server.Config{
		Sink:         server.NewStoreSink(s),
		Limits:       remotewrite.Limits{MaxDecodedBytes: decoded},
		MaxBodyBytes: maxEventBytes,
		// Lambda gives an environment one event at a time, or as many as it says there.
		MaxInFlightBytes: max(int64(budget), maxEventBytes+1+int64(decoded)+remotewrite.EncodedLen(int64(decoded))) * int64(lambdacontext.MaxConcurrency()),
		StoreTimeout:     storeTimeout,
		Logger:           lambdacontext.NewLogger(),
	}
	if file := getenv("CIRRUSBENCH_KEYS"); file != "" {
		k, err := keys.Open(file, cfg.Logger, nil)
		if err != nil {
			return nil, err
		}
		cfg.Authenticate = k.Authenticate
	}
	core, err := server.New(cfg)
	if err != nil {
		return nil, err
	}
	return core.Lambda(requestID), nil
}

// requestID is the id by which Lambda logs an invocation.
func requestID(ctx context.Context) string {
	c, ok := lambdacontext.FromContext(ctx)
	if !ok {
		return ""
	}
	return c.AwsRequestID
}

// tune fits the runtime to a slice of one CPU and to little memory.
func tune(memoryMB int, getenv func(string) string) {
	if getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(memoryMB) << 20 * 9 / 10)
	}
	// Lambda shows two CPUs to a function that gets a fourteenth of one. Threads that wake each other up on them only
	// use up the slice.
	if getenv("GOMAXPROCS") == "" && memoryMB < memoryPerCPU {
		runtime.GOMAXPROCS(1)
	}
}

// awsConfig is the SDK's configuration from what Lambda puts into the environment. The SDK's own config package would
// look in files, profiles and metadata services as well, and costs a fifth of the start.
func awsConfig(getenv func(string) string) aws.Config {
	cfg := aws.Config{Region: cmp.Or(getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"))}
	if endpoint := cmp.Or(getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL")); endpoint != "" {
		cfg.BaseEndpoint = &endpoint
	}
	credentials := aws.Credentials{
		AccessKeyID: getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken: getenv("AWS_SESSION_TOKEN"), Source: "environment",
	}
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		if !credentials.HasKeys() {
			return aws.Credentials{}, errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")
		}
		return credentials, nil
	})
	return cfg
}

// explain prints why there will be no function, for the one who reads its log.
func explain(w io.Writer, err error) {
	var b strings.Builder
	b.WriteString("cirrusbench-lambda: " + err.Error())
	if e, ok := errors.AsType[*store.LocationError](err); ok && e.Hint != "" {
		b.WriteString("; hint: " + e.Hint)
	}
	_, _ = fmt.Fprintln(w, b.String()) // there is nobody else to tell
}
