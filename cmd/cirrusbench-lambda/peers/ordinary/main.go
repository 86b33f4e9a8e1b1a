// Command ordinary is the remote-write function that a good tutorial leads to, for the benchmarks to compare with:
// the typed event, the generated protobuf code, the SDK as it comes.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

type handler struct {
	client         *s3.Client
	bucket, prefix string
}

func main() {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(os.Getenv("CIRRUSBENCH_STORE"), "s3://"), "/")
	h := &handler{client: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }), bucket: bucket, prefix: prefix}
	lambda.Start(h.handle)
}

func (h *handler) handle(ctx context.Context, ev events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	answer := func(status int, body string) (events.APIGatewayV2HTTPResponse, error) {
		return events.APIGatewayV2HTTPResponse{StatusCode: status, Body: body}, nil
	}
	body := []byte(ev.Body)
	if ev.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(ev.Body); err != nil {
			return answer(http.StatusBadRequest, err.Error())
		}
	}
	decoded, err := snappy.Decode(nil, body)
	if err != nil {
		return answer(http.StatusBadRequest, err.Error())
	}
	var req prompb.WriteRequest
	if err := req.Unmarshal(decoded); err != nil {
		return answer(http.StatusBadRequest, err.Error())
	}
	newest := int64(0)
	for _, series := range req.Timeseries {
		named := false
		for _, l := range series.Labels {
			named = named || l.Name == "__name__" && l.Value != ""
		}
		if !named {
			return answer(http.StatusBadRequest, "a series has no name")
		}
		for _, s := range series.Samples {
			newest = max(newest, s.Timestamp)
		}
	}
	sum := sha256.Sum256(body)
	key := fmt.Sprintf("%s/%s/%d-%s.sz", h.prefix, ev.QueryStringParameters["cluster_name"], newest, hex.EncodeToString(sum[:16]))
	if _, err := h.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &h.bucket, Key: aws.String(key), Body: bytes.NewReader(body)}); err != nil {
		return answer(http.StatusServiceUnavailable, "not stored")
	}
	return answer(http.StatusNoContent, "")
}
