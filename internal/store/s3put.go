package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyauth "github.com/aws/smithy-go/auth"
	"github.com/aws/smithy-go/encoding/httpbinding"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// directPut makes the request of a put without the SDK's middleware, of which there are some fifty layers: a seventh of
// what an invocation on Lambda takes. It uses the SDK's own endpoint, credentials, signature and HTTP client, and makes
// the first of two attempts. What may go better is tried a second time by the SDK, and so is what it knows to handle:
// redirections and clocks that differ.
type directPut struct {
	base    url.URL // of the bucket, with a slash at its end
	header  http.Header
	region  string
	creds   aws.CredentialsProvider
	client  s3.HTTPClient
	signer  *v4.Signer
	payload string // what the signature says of the body; empty: its hash
}

// newDirectPut returns nil for a bucket that needs more than a plain signature, such as a directory bucket.
func newDirectPut(ctx context.Context, o s3.Options, bucket string, secure bool) *directPut {
	end, err := o.EndpointResolverV2.ResolveEndpoint(ctx, s3.EndpointParameters{
		Bucket: &bucket, Region: &o.Region, Endpoint: o.BaseEndpoint, ForcePathStyle: &o.UsePathStyle, Accelerate: &o.UseAccelerate,
		UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
	})
	if err != nil || o.Credentials == nil || o.HTTPClient == nil {
		return nil // the SDK will say what is wrong
	}
	d := &directPut{base: end.URI, header: end.Headers, region: o.Region, creds: o.Credentials, client: o.HTTPClient, signer: v4.NewSigner()}
	options, _ := smithyauth.GetAuthOptions(&end.Properties)
	if len(options) == 0 || options[0].SchemeID != "sigv4" {
		return nil
	}
	if name, ok := smithyhttp.GetSigV4SigningName(&options[0].SignerProperties); !ok || name != "s3" {
		return nil
	}
	if region, ok := smithyhttp.GetSigV4SigningRegion(&options[0].SignerProperties); ok {
		d.region = region
	}
	if secure {
		d.payload = "UNSIGNED-PAYLOAD"
	}
	d.base.Path, d.base.RawPath = strings.TrimSuffix(d.base.Path, "/")+"/", ""
	return d
}

// what comes of an attempt that has not stored anything for sure.
type next int

const (
	nextNothing next = iota // it is over, well or not
	nextOnce                // another attempt may fare better
	nextSDK                 // the SDK knows what to do
)

// put makes one attempt.
func (d *directPut) put(ctx context.Context, name string, body []byte) (created bool, then next, err error) {
	u := d.base
	u.RawPath = u.EscapedPath() + httpbinding.EscapePath(name, false) // as the server does for the signature
	u.Path += name
	payload := d.payload
	if payload == "" {
		sum := sha256.Sum256(body)
		payload = hex.EncodeToString(sum[:])
	}
	r := &http.Request{
		Method: http.MethodPut, URL: &u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
	if len(body) == 0 {
		r.Body = http.NoBody
	}
	maps.Copy(r.Header, d.header)
	r.Header["If-None-Match"] = []string{"*"}
	r.Header["Content-Type"] = []string{"application/octet-stream"}
	r.Header["X-Amz-Content-Sha256"] = []string{payload}
	r.Header["User-Agent"] = []string{"cirrusbench"}
	r = r.WithContext(ctx)
	creds, err := d.creds.Retrieve(ctx)
	if err != nil {
		return false, nextNothing, err
	}
	err = d.signer.SignHTTP(ctx, creds, r, payload, "s3", d.region, time.Now(), func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil {
		return false, nextNothing, err
	}
	resp, err := d.client.Do(r)
	if err != nil {
		return false, nextOnce, nil //nolint:nilerr // the second attempt has the last word
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // to its end, so that the connection can be used again
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return false, nextOnce, nil //nolint:nilerr // the second attempt has the last word
	}
	switch status := resp.StatusCode; {
	case status == http.StatusOK:
		return true, nextNothing, nil
	case status == http.StatusPreconditionFailed:
		return false, nextNothing, nil
	case status >= 500, status == http.StatusConflict, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return false, nextOnce, nil
	case status < 400:
		return false, nextSDK, nil
	}
	var said struct {
		Code, Message string
	}
	_ = xml.Unmarshal(answer, &said) // an answer that is not S3's has its status only
	switch said.Code {
	case "RequestTimeTooSkewed", "RequestExpired":
		return false, nextSDK, nil
	case "RequestTimeout", "SlowDown", "InternalError":
		return false, nextOnce, nil
	}
	return false, nextNothing, &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: resp},
		Err:      &smithy.GenericAPIError{Code: cmp.Or(said.Code, http.StatusText(resp.StatusCode)), Message: said.Message},
	}
}

// pause waits for up to s3MaxBackoff before a second attempt.
func pause(ctx context.Context) {
	t := time.NewTimer(rand.N(s3MaxBackoff))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// once makes the SDK's client make one attempt.
func once(o *s3.Options) { o.Retryer = aws.NopRetryer{} }
