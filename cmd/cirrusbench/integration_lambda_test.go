//go:build integration

package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/lambdahost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

// TestIntegrationLambda runs the bootstrap as it is deployed under the host, with a real S3 server behind it: one body
// through the events of every gateway is one object, and what replay sends is what the REPORT lines count.
func TestIntegrationLambda(t *testing.T) {
	gateway, bootstrap := os.Getenv("CIRRUSBENCH_VERSITYGW"), os.Getenv("CIRRUSBENCH_BOOTSTRAP")
	if gateway == "" || bootstrap == "" {
		t.Fatal("CIRRUSBENCH_VERSITYGW or CIRRUSBENCH_BOOTSTRAP is not set: run make integration")
	}
	dir := t.TempDir()
	bucket := filepath.Join(dir, "s3")
	endpoint := storetest.StartVersityGW(t, gateway, bucket, "captures")
	awsEnv := append(os.Environ(), "AWS_ENDPOINT_URL_S3="+endpoint, "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID="+storetest.VersityGWKey, "AWS_SECRET_ACCESS_KEY="+storetest.VersityGWSecret)
	reports := filepath.Join(dir, "reports.log")
	host := exec.CommandContext(t.Context(), binary(t), "lambda-host", bootstrap, "--listen", "127.0.0.1:0", "--environments", "100",
		"--env", "CIRRUSBENCH_STORE=s3://captures/live", "--out", reports)
	host.Env = awsEnv
	stderr, err := host.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Process.Kill() })
	lines := bufio.NewScanner(stderr)
	url := ""
	for url == "" && lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			url = m[1]
		}
	}

	body, err := os.ReadFile("../../fixtures/captures/v2-prom3-stale-markers.snappy")
	if err != nil {
		t.Fatal(err)
	}
	const shapes = 7
	for name, event := range gatewayEvents(body) {
		payload, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		if got := postEvent(t, url+lambdahost.PathInvoke, payload); got != http.StatusNoContent {
			t.Errorf("%s: %d", name, got)
		}
	}
	if n := objectsIn(t, bucket); n != 1 {
		t.Errorf("%d objects after one body in %d events, want 1", n, shapes)
	}

	out, err := exec.CommandContext(t.Context(), binary(t), "replay", "--target", url+"/api/v1/write", "--rate", "50", "--requests", "200", "-o", "json").Output()
	if code := exitCodeOf(err); code != exitOK && code != exitInvalid {
		t.Fatalf("replaying against the host: %v", err)
	}
	var run stats.Run
	if err := json.Unmarshal(out, &run); err != nil {
		t.Fatal(err)
	}
	if run.Counts.OK != 200 {
		t.Errorf("replaying against the host: %+v", run.Counts)
	}
	if err := host.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		t.Logf("lambda-host: %s", lines.Text())
	}
	if err := host.Wait(); err != nil {
		t.Errorf("lambda-host ended with %v", err)
	}
	if n := objectsIn(t, bucket); n < 100 { // times are shifted to now, so most are new
		t.Errorf("%d objects after 200 requests", n)
	}

	// What the function stored is a corpus, and its records are the bill.
	replay := exec.CommandContext(t.Context(), binary(t), "replay", "s3://captures/live", "--requests", "20", "-o", "json")
	replay.Env = awsEnv
	if out, err = replay.Output(); exitCodeOf(err) != exitOK && exitCodeOf(err) != exitInvalid {
		t.Fatalf("replaying what the function stored: %v", err)
	}
	run = stats.Run{}
	if err := json.Unmarshal(out, &run); err != nil || run.Counts.OK != 20 {
		t.Errorf("replaying what the function stored: %v, %+v", err, run.Counts)
	}
	f, err := os.Open(reports)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	n := 0
	for in := bufio.NewScanner(f); in.Scan(); {
		if v, err := lambdalog.ParseReport(in.Text()); err == nil {
			n++
			if !v.Billed.Known || v.Memory == 0 {
				t.Errorf("%s: not whole", in.Text())
			}
		}
	}
	if want := shapes + 200; n != want {
		t.Errorf("%d REPORT lines, want %d", n, want)
	}
	if out, err := exec.CommandContext(t.Context(), binary(t), "forecast", reports, "--clusters", "900").CombinedOutput(); err != nil {
		t.Errorf("forecast: %v\n%s", err, out)
	}
}

// gatewayEvents are the events that one request becomes.
func gatewayEvents(body []byte) map[string]map[string]any {
	type object = map[string]any
	headers := object{"content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request", "content-encoding": "snappy", "x-scope-orgid": "alfa"}
	multi := object{}
	for k, v := range headers {
		multi[k] = []any{v}
	}
	b64 := base64.StdEncoding.EncodeToString(body)
	v2 := func(stage, path string) object {
		return object{
			"version": "2.0", "rawPath": path, "rawQueryString": "cluster_name=prod", "headers": headers, "body": b64, "isBase64Encoded": true,
			"requestContext": object{"stage": stage, "http": object{"method": "POST", "path": path}},
		}
	}
	v1 := object{
		"httpMethod": "POST", "path": "/api/v1/write", "headers": headers, "multiValueHeaders": multi, "body": b64, "isBase64Encoded": true,
		"queryStringParameters": object{"cluster_name": "prod"}, "requestContext": object{"stage": "prod"},
	}
	elb := object{"elb": object{"targetGroupArn": "arn"}}
	return map[string]map[string]any{
		"REST API": v1, "HTTP API": v2("$default", "/api/v1/write"), "HTTP API with a stage": v2("prod", "/prod/api/v1/write"),
		"function URL": v2("$default", "/api/v1/write"),
		"load balancer": {
			"httpMethod": "POST", "path": "/api/v1/write", "headers": headers, "body": b64, "isBase64Encoded": true,
			"queryStringParameters": object{"cluster_name": "prod"}, "requestContext": elb,
		},
		"load balancer, multi-value": {
			"httpMethod": "POST", "path": "/api/v1/write", "multiValueHeaders": multi, "body": b64, "isBase64Encoded": true,
			"multiValueQueryStringParameters": object{"cluster_name": []any{"prod"}}, "requestContext": elb,
		},
		"direct": {"headers": headers, "body": b64, "isBase64Encoded": true, "queryStringParameters": object{"cluster_name": "prod"}},
	}
}

// postEvent invokes the function and returns the status in its answer.
func postEvent(t *testing.T, url string, payload []byte) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a struct {
		StatusCode int `json:"statusCode"`
	}
	if err := json.Unmarshal(b, &a); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return a.StatusCode
}

// objectsIn counts the captured requests below a directory of versitygw.
func objectsIn(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".sz" {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
