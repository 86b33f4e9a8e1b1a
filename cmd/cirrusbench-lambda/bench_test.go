package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/cirrusbench/cirrusbench/internal/lambdahost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// build builds a function as it is deployed.
func build(b *testing.B, pkg string) string {
	b.Helper()
	file := filepath.Join(b.TempDir(), "bootstrap")
	cmd := exec.CommandContext(b.Context(), "go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", file, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return file
}

// fakeS3 takes every object, over TLS; it returns the environment of a function that is to use it.
func fakeS3(b *testing.B) []string {
	b.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
	}))
	b.Cleanup(srv.Close)
	cert := filepath.Join(b.TempDir(), "cert.pem")
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o644); err != nil {
		b.Fatal(err)
	}
	return []string{
		"SSL_CERT_FILE=" + cert, "AWS_ENDPOINT_URL_S3=" + srv.URL, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test",
		"AWS_SECRET_ACCESS_KEY=secret", "CIRRUSBENCH_STORE=s3://bucket/captures", "HOME=" + b.TempDir(), "PATH=" + os.Getenv("PATH"),
	}
}

// bigBody is a request of 1.0 with 2,000 series of ten labels: about 124 KB, 890 KB decoded.
func bigBody(tb testing.TB) []byte {
	tb.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	now := time.Now().UnixMilli()
	var req prompb.WriteRequest
	for i := range 2000 {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: []prompb.Label{
				{Name: "__name__", Value: fmt.Sprintf("container_network_transmit_packets_dropped_total_%d", i/50)},
				{Name: "cluster", Value: "production-eu-central-1"},
				{Name: "container", Value: fmt.Sprintf("application-%02d", rnd.IntN(40))},
				{Name: "endpoint", Value: "https-metrics"},
				{Name: "id", Value: fmt.Sprintf("/kubepods/burstable/pod%08x-1c22-4b1e-9d3f-0a5861de2ad4/container", rnd.Uint32())},
				{Name: "instance", Value: fmt.Sprintf("10.%d.%d.%d:10250", rnd.IntN(4), rnd.IntN(256), rnd.IntN(256))},
				{Name: "job", Value: "kubelet-and-cadvisor"},
				{Name: "metrics_path", Value: "/metrics/cadvisor"},
				{Name: "namespace", Value: fmt.Sprintf("team-%02d-production", rnd.IntN(30))},
				{Name: "pod", Value: fmt.Sprintf("application-deployment-with-a-name-%02d-6b9c7d5f44-%05x", rnd.IntN(40), rnd.Uint32()&0xfffff)},
			},
			Samples: []prompb.Sample{{Value: float64(rnd.IntN(1 << 20)), Timestamp: now - int64(rnd.IntN(5000))}},
		})
	}
	raw, err := req.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return snappy.Encode(nil, raw)
}

// BenchmarkEvent is the function without its runtime and its store: from the raw event to the answer.
func BenchmarkEvent(b *testing.B) {
	event, size := bigEvent(b)
	h, err := setUp(func(name string) string {
		return map[string]string{"CIRRUSBENCH_STORE": "null:", "GOMAXPROCS": "as it is", "GOMEMLIMIT": "as it is"}[name]
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx := lambdacontext.NewContext(b.Context(), &lambdacontext.LambdaContext{AwsRequestID: "5a56ac87-15c9-505b-93e2-7773063edf57"})
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if out, _ := h.Invoke(ctx, event); !bytes.Contains(out, []byte(`"statusCode":204`)) {
			b.Fatalf("%s", out)
		}
	}
}

// bigEvent is the body as an HTTP API of API Gateway hands it on.
func bigEvent(tb testing.TB) (event []byte, body int) {
	tb.Helper()
	b := bigBody(tb)
	event, err := json.Marshal(map[string]any{
		"version": "2.0", "routeKey": "POST /api/v1/write", "rawPath": "/api/v1/write", "rawQueryString": "cluster_name=prod",
		"headers": map[string]string{
			"content-type": "application/x-protobuf", "content-encoding": "snappy", "x-prometheus-remote-write-version": "0.1.0",
			"user-agent": "Prometheus/3.15.0", "content-length": strconv.Itoa(len(b)), "host": "abc.execute-api.us-east-1.amazonaws.com",
			"x-forwarded-for": "198.51.100.1", "x-forwarded-port": "443", "x-forwarded-proto": "https", "x-amzn-trace-id": "Root=1-5f84c7a9-0",
		},
		"queryStringParameters": map[string]string{"cluster_name": "prod"},
		"requestContext": map[string]any{
			"accountId": "123456789012", "apiId": "abc", "domainName": "abc.execute-api.us-east-1.amazonaws.com", "requestId": "id", "stage": "$default",
			"http":      map[string]string{"method": "POST", "path": "/api/v1/write", "protocol": "HTTP/1.1", "sourceIp": "198.51.100.1", "userAgent": "Prometheus/3.15.0"},
			"timeEpoch": 1763663100000,
		},
		"body": base64.StdEncoding.EncodeToString(b), "isBase64Encoded": true,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return event, len(b)
}

// measured is what a host has seen of a function.
type measured struct {
	stats   lambdahost.Stats
	reports []lambdalog.Invocation
}

func (m measured) cpuMS() float64 { return m.stats.CPU.Seconds() * 1e3 / float64(m.stats.Invocations) }

// median of what f takes from each report.
func (m measured) median(f func(lambdalog.Invocation) time.Duration) float64 {
	var all []time.Duration
	for _, r := range m.reports {
		all = append(all, f(r))
	}
	slices.Sort(all)
	return float64(all[len(all)/2]) / float64(time.Millisecond)
}

// measure invokes a function n times, one after the other with a pause between.
func measure(b *testing.B, bootstrap string, env []string, hold bool, n int, pause time.Duration, event []byte) measured {
	b.Helper()
	var log bytes.Buffer
	h, err := lambdahost.New(lambdahost.Config{Command: []string{bootstrap}, Env: env, Environments: 1, HoldCPU: hold, Log: &log})
	if e, ok := errors.AsType[*lambdahost.CPUError](err); ok {
		b.Skip(e)
	}
	if err != nil {
		b.Fatal(err)
	}
	for range n {
		for {
			a, err := h.Invoke(context.Background(), event)
			if errors.Is(err, lambdahost.ErrThrottled) { // the one before has been answered but has not ended
				time.Sleep(200 * time.Microsecond)
				continue
			}
			if err != nil || a.FunctionError != "" || !bytes.Contains(a.Payload, []byte(`"statusCode":204`)) {
				b.Fatalf("%v %s %s", err, a.FunctionError, a.Payload)
			}
			break
		}
		time.Sleep(pause)
	}
	if err := h.Close(); err != nil {
		b.Fatal(err)
	}
	m := measured{stats: h.Stats()}
	for line := range strings.SplitSeq(log.String(), "\n") {
		if r, err := lambdalog.ParseReport(line); err == nil {
			m.reports = append(m.reports, r)
		}
	}
	return m
}

func medianOf(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// BenchmarkInvocation is the CPU time of one invocation with a request of 2,000 series that is put to S3 over TLS, of this
// function and of an ordinary one, five interleaved pairs in one run; and the memory after 100.
func BenchmarkInvocation(b *testing.B) {
	ours, ordinary, env := build(b, "."), build(b, "./peers/ordinary"), fakeS3(b)
	event, size := bigEvent(b)
	b.Logf("body %d bytes, event %d bytes", size, len(event))
	for b.Loop() {
		var our, their, ratio []float64
		var ourMB, theirMB int
		for range 5 {
			o, t := measure(b, ours, env, false, 101, 0, event), measure(b, ordinary, env, false, 101, 0, event)
			our, their, ratio = append(our, o.cpuMS()), append(their, t.cpuMS()), append(ratio, t.cpuMS()/o.cpuMS())
			ourMB, theirMB = max(ourMB, o.stats.MaxMemoryMB), max(theirMB, t.stats.MaxMemoryMB)
		}
		b.ReportMetric(medianOf(our), "cpu-ms/op")
		b.ReportMetric(medianOf(their), "ordinary-cpu-ms/op")
		b.ReportMetric(medianOf(ratio), "x-ordinary")
		b.ReportMetric(float64(ourMB), "MB")
		b.ReportMetric(float64(theirMB), "ordinary-MB")
	}
}

// BenchmarkHeld is the duration of such an invocation with the CPU share of 128 MB and a pause before the next one, five
// interleaved pairs in one run.
func BenchmarkHeld(b *testing.B) {
	ours, ordinary, env := build(b, "."), build(b, "./peers/ordinary"), fakeS3(b)
	event, _ := bigEvent(b)
	duration := func(r lambdalog.Invocation) time.Duration { return r.Duration.Value }
	for b.Loop() {
		var our, their, ratio, cpu, theirCPU []float64
		for range 5 {
			o, t := measure(b, ours, env, true, 21, 100*time.Millisecond, event), measure(b, ordinary, env, true, 21, 100*time.Millisecond, event)
			our, their = append(our, o.median(duration)), append(their, t.median(duration))
			ratio = append(ratio, t.median(duration)/o.median(duration))
			cpu, theirCPU = append(cpu, o.cpuMS()), append(theirCPU, t.cpuMS())
		}
		b.ReportMetric(medianOf(our), "p50-ms")
		b.ReportMetric(medianOf(their), "ordinary-p50-ms")
		b.ReportMetric(medianOf(ratio), "x-ordinary")
		b.ReportMetric(medianOf(cpu), "cpu-ms/op")
		b.ReportMetric(medianOf(theirCPU), "ordinary-cpu-ms/op")
	}
}

// BenchmarkStart is the time from exec to the first question for an event, against a function that does nothing.
func BenchmarkStart(b *testing.B) {
	ours, nothing, ordinary := build(b, "."), build(b, "./peers/nothing"), build(b, "./peers/ordinary")
	env := fakeS3(b)
	event := []byte(`{"rawPath":"/healthz","requestContext":{"http":{"method":"GET"}}}`)
	initMS := func(bootstrap string) float64 {
		var log bytes.Buffer
		h, err := lambdahost.New(lambdahost.Config{Command: []string{bootstrap}, Env: env, Log: &log})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.Invoke(context.Background(), event); err != nil {
			b.Fatal(err)
		}
		if err := h.Close(); err != nil {
			b.Fatal(err)
		}
		for line := range strings.SplitSeq(log.String(), "\n") {
			if r, err := lambdalog.ParseReport(line); err == nil {
				return float64(r.Init.Value) / float64(time.Millisecond)
			}
		}
		b.Fatalf("no report in\n%s", log.String())
		return 0
	}
	for b.Loop() {
		var our, none, their []float64
		var over []float64
		for range 41 {
			our, none, their = append(our, initMS(ours)), append(none, initMS(nothing)), append(their, initMS(ordinary))
			over = append(over, our[len(our)-1]/none[len(none)-1])
		}
		b.ReportMetric(medianOf(our), "init-ms")
		b.ReportMetric(medianOf(none), "nothing-init-ms")
		b.ReportMetric(medianOf(their), "ordinary-init-ms")
		b.ReportMetric(medianOf(over), "x-nothing")
	}
	info, err := os.Stat(ours)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/1e6, "size-MB")
}
