package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

// environment makes a getenv of pairs; what tunes the process is left as it is.
func environment(kv ...string) func(string) string {
	m := map[string]string{"GOMAXPROCS": "as it is", "GOMEMLIMIT": "as it is"}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return func(name string) string { return m[name] }
}

// status invokes a function with a capture and returns the status and the body of its answer.
func status(t *testing.T, h *server.Lambda, body []byte, header map[string]string) (int, string) {
	t.Helper()
	headers := map[string]string{"content-type": "application/x-protobuf", "content-encoding": "snappy"}
	maps.Copy(headers, header)
	event, err := json.Marshal(map[string]any{"headers": headers, "body": base64.StdEncoding.EncodeToString(body), "isBase64Encoded": true})
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.Invoke(t.Context(), event)
	if err != nil {
		t.Fatal(err)
	}
	var a struct {
		StatusCode int    `json:"statusCode"`
		Body       string `json:"body"`
	}
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, a.Body
}

// Every answer says by which id Lambda logs the invocation, for whoever joins answers with that log.
func TestAnswersNameTheInvocation(t *testing.T) {
	h, err := setUp(environment("CIRRUSBENCH_STORE", "null:"))
	if err != nil {
		t.Fatal(err)
	}
	const id = "5a56ac87-15c9-505b-93e2-7773063edf57"
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: id})
	for want, ctx := range map[string]context.Context{id: ctx, "": t.Context()} {
		out, err := h.Invoke(ctx, []byte(`{"headers":{}}`))
		if err != nil {
			t.Fatal(err)
		}
		var a struct {
			Headers map[string]string `json:"headers"`
		}
		if err := json.Unmarshal(out, &a); err != nil {
			t.Fatal(err)
		}
		if got, ok := a.Headers[remotewrite.HeaderInvocation]; got != want || ok != (want != "") {
			t.Errorf("%q, want %q, in %s", got, want, out)
		}
	}
}

func captured(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("../../fixtures/captures/v1-prom242-500samples-plain.snappy")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The function stores in S3 with nothing but the variables that Lambda sets.
func TestStoresInS3(t *testing.T) {
	s3 := storetest.NewS3Server("bucket")
	token := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token = r.Header.Get("X-Amz-Security-Token")
		s3.ServeHTTP(w, r)
	}))
	defer srv.Close()
	h, err := setUp(environment(
		"CIRRUSBENCH_STORE", "s3://bucket/captures", "AWS_REGION", "eu-central-1", "AWS_ENDPOINT_URL_S3", srv.URL,
		"AWS_ACCESS_KEY_ID", "id", "AWS_SECRET_ACCESS_KEY", "secret", "AWS_SESSION_TOKEN", "token",
	))
	if err != nil {
		t.Fatal(err)
	}
	body := captured(t)
	for range 2 {
		if code, says := status(t, h, body, nil); code != 204 {
			t.Fatal(code, says)
		}
	}
	if token != "token" {
		t.Errorf("the session token is %q", token)
	}
	objects := s3.Objects("bucket")
	if len(objects) != 1 {
		t.Fatalf("%d objects", len(objects))
	}
	for key, got := range objects {
		if !strings.HasPrefix(key, "captures/org=default/cluster=default/") || !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes", key, len(got))
		}
	}

	// Without credentials it starts, and asks senders to come back.
	h, err = setUp(environment("CIRRUSBENCH_STORE", "s3://bucket/captures", "AWS_REGION", "eu-central-1", "AWS_ENDPOINT_URL_S3", srv.URL))
	if err != nil {
		t.Fatal(err)
	}
	if code, says := status(t, h, body, nil); code != 503 || strings.Contains(says, "AWS_") {
		t.Error(code, says)
	}
}

// With keys the org is that of the key, and nobody else writes.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "keys.yaml")
	// printf %s sesame | sha256sum
	if err := os.WriteFile(file, []byte("orgs:\n  alfa:\n    - d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	h, err := setUp(environment("CIRRUSBENCH_STORE", data, "CIRRUSBENCH_KEYS", file))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		header map[string]string
		want   int
	}{
		{nil, 401},
		{map[string]string{"authorization": "Bearer wrong"}, 401},
		{map[string]string{"x-scope-orgid": "alfa"}, 401},
		{map[string]string{"authorization": "Bearer sesame"}, 204},
		{map[string]string{"x-api-key": "sesame"}, 204},
	} {
		if code, says := status(t, h, captured(t), tc.header); code != tc.want {
			t.Errorf("%v: %d %s, want %d", tc.header, code, says, tc.want)
		}
	}
	if _, err := os.Stat(filepath.Join(data, "org=alfa", "cluster=default")); err != nil {
		t.Error(err)
	}
}

func TestSetUpErrors(t *testing.T) {
	for _, tc := range []struct {
		kv   []string
		says string
	}{
		{nil, "CIRRUSBENCH_STORE is not set; hint: "},
		{[]string{"CIRRUSBENCH_STORE", "ftp://x"}, "unknown scheme ftp:; hint: "},
		{[]string{"CIRRUSBENCH_STORE", "s3://bucket"}, "no AWS region is configured; hint: "},
		{[]string{"CIRRUSBENCH_STORE", "null:", "CIRRUSBENCH_MAX_DECODED", "lots"}, "hint: set it to a number of bytes"},
		{[]string{"CIRRUSBENCH_STORE", "null:", "CIRRUSBENCH_KEYS", "/nowhere/keys.yaml"}, "/nowhere/keys.yaml"},
		{[]string{"CIRRUSBENCH_STORE", "null:", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "x"}, "MEMORY_SIZE"},
	} {
		_, err := setUp(environment(tc.kv...))
		if err == nil {
			t.Errorf("%v is taken", tc.kv)
			continue
		}
		var b bytes.Buffer
		if explain(&b, err); !strings.Contains(b.String(), tc.says) || strings.Count(b.String(), "\n") != 1 {
			t.Errorf("%v: %q", tc.kv, b.String())
		}
	}
	if _, err := setUp(environment("CIRRUSBENCH_STORE", "ftp://x")); !errors.As(err, new(*store.LocationError)) {
		t.Error(err)
	}
}

// The runtime is fitted to the memory size, unless somebody says otherwise.
func TestTune(t *testing.T) {
	procs, limit := runtime.GOMAXPROCS(0), debug.SetMemoryLimit(-1)
	defer func() {
		runtime.GOMAXPROCS(procs)
		debug.SetMemoryLimit(limit)
	}()
	runtime.GOMAXPROCS(2)
	nothing := func(string) string { return "" }
	tune(1769, nothing)
	if got := runtime.GOMAXPROCS(0); got != 2 {
		t.Errorf("%d threads with a whole CPU", got)
	}
	tune(128, nothing)
	if got := runtime.GOMAXPROCS(0); got != 1 {
		t.Errorf("%d threads with a fourteenth of a CPU", got)
	}
	if got := debug.SetMemoryLimit(-1); got != 128<<20*9/10 {
		t.Errorf("memory limit %d", got)
	}
	runtime.GOMAXPROCS(2)
	tune(256, environment())
	if runtime.GOMAXPROCS(0) != 2 || debug.SetMemoryLimit(-1) != 128<<20*9/10 {
		t.Error("what the environment says is overruled")
	}
}
