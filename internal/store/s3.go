package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// How the S3 client behaves. The SDK's own defaults are made for jobs that may wait:
// three attempts with up to 20 s between them, 30 s to connect. A sender of remote
// write repeats a failed request anyway, and while a request waits for the store it
// holds memory and, on Lambda, is billed.
const (
	s3Attempts     = 2
	s3MaxBackoff   = 200 * time.Millisecond
	s3DialTimeout  = 2 * time.Second
	s3TLSTimeout   = 3 * time.Second
	s3IdlePerHost  = 64
	s3ProbeTimeout = 3 * time.Second
)

// S3 is a store in a bucket of Amazon S3 or of a server that speaks its protocol.
// Use [NewS3].
//
// Put is one PutObject with If-None-Match: *. Of several puts of one key S3 lets the
// first in and answers 412 to the others, which is the success "stored before"; the
// content is not compared. A put that failed at our end may have succeeded there: the
// next one finds out. A call makes two attempts at most and ends with the context's
// deadline. The first attempt of a put goes around the SDK's middleware, see [directPut].
//
// The body goes without a checksum of its own. Over TLS its signature leaves the body
// out as well: TLS protects it on the way, and hashing it again would cost more than
// all the rest of the request. Over plain HTTP the signature covers it.
//
// List holds one page of 1,000 keys.
type S3 struct {
	client *s3.Client
	bucket string
	prefix string // empty, or with a slash at its end
	secure bool   // TLS protects the body on the way

	// direct makes the first attempt of a put, nil: the SDK makes all. It is made by the first put: finding the endpoint
	// takes a while, which the start of a function need not wait for.
	directOnce sync.Once
	direct     *directPut
}

var _ Store = (*S3)(nil)

// NewS3 returns the store at location, "s3://bucket/prefix". Of cfg it takes region,
// credentials, BaseEndpoint and whatever else the SDK's environment sets; with an
// endpoint the bucket is in the path of a request and not in its host name. An
// HTTPClient that is nil is made with short time limits for connecting. Nothing is
// sent yet. Every error is a [*LocationError].
func NewS3(cfg aws.Config, location string) (*S3, error) {
	bucket, prefix, err := parseS3(location)
	if err != nil {
		return nil, err
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = awshttp.NewBuildableClient().
			WithDialerOptions(func(d *net.Dialer) { d.Timeout = s3DialTimeout }).
			WithTransportOptions(func(t *http.Transport) {
				t.TLSHandshakeTimeout = s3TLSTimeout
				t.MaxIdleConnsPerHost = s3IdlePerHost
			})
	}
	if cfg.Credentials != nil {
		cfg.Credentials = credentials{cfg.Credentials}
	}
	secure := true
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		if o.BaseEndpoint != nil {
			o.UsePathStyle = true
			secure = !strings.HasPrefix(strings.ToLower(*o.BaseEndpoint), "http://")
		}
		if o.Region == "" && o.BaseEndpoint != nil {
			o.Region = "us-east-1" // compatible servers mostly take any, but a signature needs one
		}
		o.Retryer = newS3Retryer()
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	if client.Options().Region == "" {
		return nil, &LocationError{
			Location: location, Problem: "no AWS region is configured",
			Hint: "set AWS_REGION to the region of the bucket, or AWS_ENDPOINT_URL_S3 for another S3 server",
		}
	}
	if secure {
		client = s3.New(client.Options(), s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware))
	}
	return &S3{client: client, bucket: bucket, prefix: prefix, secure: secure}, nil
}

func newS3Retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = s3Attempts
		o.MaxBackoff = s3MaxBackoff
		o.Backoff = retry.NewExponentialJitterBackoff(s3MaxBackoff)
		// Two conditional puts of one key at the same time: S3 asks one of them to try
		// again.
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: map[string]struct{}{"ConditionalRequestConflict": {}}})
	})
}

// bucketName checks the part of S3's rules that keeps a name from meaning something else
// in a URL.
func bucketName(s string) bool {
	outer := func(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
	if len(s) < 3 || len(s) > 63 || !outer(s[0]) || !outer(s[len(s)-1]) || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !outer(c) && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// parseS3 takes "s3://bucket/prefix" apart.
func parseS3(location string) (bucket, prefix string, err error) {
	const form = "write s3://bucket or s3://bucket/prefix"
	fail := func(problem string, cause error) (string, string, error) {
		return "", "", &LocationError{Location: location, Problem: problem, Hint: form, Err: cause}
	}
	scheme, rest, _ := cutScheme(location)
	rest, ok := strings.CutPrefix(rest, "//")
	if !strings.EqualFold(scheme, "s3") || !ok {
		return fail("not of the form s3://bucket/prefix", nil)
	}
	bucket, prefix, _ = strings.Cut(rest, "/")
	if !bucketName(bucket) {
		return fail("not a valid bucket name", nil)
	}
	prefix = strings.TrimSuffix(prefix, "/")
	if prefix == "" {
		return bucket, "", nil
	}
	if err := ValidKey(prefix); err != nil {
		return fail("not a valid prefix", err)
	}
	return bucket, prefix + "/", nil
}

// String returns the location of the store.
func (s *S3) String() string { return "s3://" + s.bucket + "/" + s.prefix }

// Probe asks for the first object of the store, so that a server finds out before its
// first request whether it reaches the bucket. Credentials that may write but not list
// pass.
func (s *S3) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s3ProbeTimeout)
	defer cancel()
	_, err := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &s.prefix, MaxKeys: aws.Int32(1)})
	if err == nil || s3Code(err) == "AccessDenied" {
		return nil
	}
	return fmt.Errorf("probing %s: %w", s, s.failure(err))
}

// key is the object's name in the bucket.
func (s *S3) key(verb, key string) (string, error) {
	if len(s.prefix)+len(key) > MaxKeyBytes {
		return "", fmt.Errorf("%s: %w %q: with the prefix it has %d bytes, the limit is %d",
			verb, ErrInvalidKey, clip(key), len(s.prefix)+len(key), MaxKeyBytes)
	}
	return s.prefix + key, nil
}

// Put implements [Store].
func (s *S3) Put(ctx context.Context, key string, body []byte) (bool, error) {
	if err := check(ctx, "putting", key); err != nil {
		return false, err
	}
	name, err := s.key("putting", key)
	if err != nil {
		return false, err
	}
	var opts []func(*s3.Options)
	s.directOnce.Do(func() { s.direct = newDirectPut(ctx, s.client.Options(), s.bucket, s.secure) })
	if d := s.direct; d != nil {
		created, then, err := d.put(ctx, name, body)
		switch {
		case err != nil:
			return false, fmt.Errorf("putting %s: %w", key, s.failure(err))
		case then == nextNothing:
			return created, nil
		case then == nextOnce:
			pause(ctx)
			opts = append(opts, once)
		}
	}
	_, err = s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: &name, IfNoneMatch: aws.String("*"),
		// A reader that can seek: the SDK reads the body once to sign and again to retry.
		Body: bytes.NewReader(body), ContentLength: aws.Int64(int64(len(body))),
	}, opts...)
	switch {
	case err == nil:
		return true, nil
	case s3Status(err) == http.StatusPreconditionFailed:
		return false, nil
	}
	return false, fmt.Errorf("putting %s: %w", key, s.failure(err))
}

// Get implements [Store]. An answer that breaks off is asked for once more.
func (s *S3) Get(ctx context.Context, key string) ([]byte, error) {
	if err := check(ctx, "getting", key); err != nil {
		return nil, err
	}
	name, err := s.key("getting", key)
	if err != nil {
		return nil, err
	}
	var body []byte
	for range s3Attempts {
		var again bool
		if body, again, err = s.get(ctx, name); !again || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", key, err)
	}
	return body, nil
}

// get reads an object; again says that the answer broke off.
func (s *S3) get(ctx context.Context, name string) (body []byte, again bool, err error) {
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &name})
	if err != nil {
		if s3Code(err) == "NoSuchKey" {
			return nil, false, ErrNotFound
		}
		return nil, false, s.failure(err)
	}
	var buf bytes.Buffer
	if n := aws.ToInt64(out.ContentLength); n > 0 && n <= 64<<20 {
		buf.Grow(int(n) + bytes.MinRead) // what more there is grows as it arrives
	}
	_, err = io.Copy(&buf, out.Body)
	if err = errors.Join(err, out.Body.Close()); err != nil {
		return nil, true, s.failure(err)
	}
	return buf.Bytes(), false, nil
}

// List implements [Store]. What is in the bucket below the prefix and has a name that
// breaks the rules of [ValidKey] is left out.
func (s *S3) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String(s.prefix + prefix)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Object{}, listError(prefix, s.failure(err)))
				return
			}
			for _, o := range page.Contents {
				key := strings.TrimPrefix(aws.ToString(o.Key), s.prefix)
				if ValidKey(key) != nil || !strings.HasPrefix(key, prefix) {
					continue
				}
				if err := ctx.Err(); err != nil {
					yield(Object{}, listError(prefix, err))
					return
				}
				if !yield(Object{Key: key, Size: aws.ToInt64(o.Size)}, nil) {
					return
				}
			}
		}
		if err := ctx.Err(); err != nil {
			yield(Object{}, listError(prefix, err))
		}
	}
}

// S3Error is an answer of S3 that is not a success, or that there was none.
type S3Error struct {
	Bucket string
	// Code is S3's word for it, such as NoSuchBucket; empty when there was no answer.
	Code string
	Err  error // what the SDK says
}

// Error says what the SDK says, which has the bucket's answer in it and no secret.
func (e *S3Error) Error() string { return fmt.Sprintf("bucket %s: %v", e.Bucket, e.Err) }

// Unwrap returns the cause.
func (e *S3Error) Unwrap() error { return e.Err }

// Hint says what to do about it, or nothing.
func (e *S3Error) Hint() string {
	switch e.Code {
	case "NoSuchBucket":
		return "create the bucket " + e.Bucket + ", or correct its name"
	case "AccessDenied":
		return "the credentials need s3:PutObject to serve, s3:GetObject and s3:ListBucket to replay"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken":
		return "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or AWS_PROFILE"
	case "PermanentRedirect", "AuthorizationHeaderMalformed":
		return "set AWS_REGION to the region of the bucket"
	}
	if errors.Is(e.Err, errNoCredentials) {
		return "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
	}
	return ""
}

// errNoCredentials marks what a provider of credentials says, which the SDK hands on
// as plain text.
var errNoCredentials = errors.New("no credentials")

type credentials struct{ aws.CredentialsProvider }

// Retrieve implements [aws.CredentialsProvider].
func (c credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return got, fmt.Errorf("%w: %w", errNoCredentials, err)
	}
	return got, nil
}

func (s *S3) failure(err error) error {
	return &S3Error{Bucket: s.bucket, Code: s3Code(err), Err: err}
}

func s3Code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

func s3Status(err error) int {
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return e.HTTPStatusCode()
	}
	return 0
}
