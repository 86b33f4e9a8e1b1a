package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

func cutEnv(kv string) (name, value string, ok bool) { return strings.Cut(kv, "=") }

// commands are what scripts can say beside testscript's own.
func commands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"exitcode":   exitCode,
		"verdict":    verdict,
		"start":      start,
		"terminate":  terminate,
		"post":       post,
		"get":        get,
		"await":      await,
		"objects":    objects,
		"corrupt":    corrupt,
		"bytes":      writeBytes,
		"truncate":   truncateFile,
		"s3":         startS3,
		"cloudwatch": startCloudWatch,
		"cert":       writeCertificate,
		"bootstrap":  buildBootstrap,
		"slow":       slowServer,
		"httpapi":    startHTTPAPI,

		"await-post": awaitPost,

		"background":     background,
		"ended":          ended,
		"same-run":       sameRun,
		"same-start":     sameStart,
		"collect-runs":   collectRuns,
		"damage":         damage,
		"await-object":   awaitObject,
		"rest-of-shards": restOfShards,
	}
}

// exitCode runs a command and compares its exit code: `exitcode 2 cirrusbench replay --rate -1`. Its output is
// there for stdout and stderr. `exitcode 0,5` takes either: a run on a busy machine may rightly call itself INVALID.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE COMMAND…")
	}
	got := codeOf(ts, args[1:])
	if !slices.Contains(strings.Split(args[0], ","), strconv.Itoa(got)) {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// codeOf runs a command and returns its exit code.
func codeOf(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	if ee, ok := err.(*exec.ExitError); ok { //nolint:errorlint // testscript returns it bare
		return ee.ExitCode()
	}
	ts.Check(err)
	return 0
}

// verdict is exitcode for a command that a busy machine may rightly end with INVALID or INCONCLUSIVE, exit codes 5 and 4: they
// say nothing about what is tested, so it is run again, up to five times in all. A wrong PASS or FAIL counts at once.
func verdict(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: verdict CODE COMMAND…")
	}
	for range 5 {
		got := codeOf(ts, args[1:])
		switch {
		case slices.Contains(strings.Split(args[0], ","), strconv.Itoa(got)):
			return
		case got != exitInvalid && got != exitInconclusive:
			ts.Fatalf("exit code %d, want %s", got, args[0])
		}
	}
	ts.Fatalf("undecided five times: the machine is too busy for this test")
}

// process is a program in the background that said where it listens.
type process struct {
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	done   chan error
}

var listening = regexp.MustCompile(`listening on (https?://\S+)`)

// start runs `start NAME cirrusbench serve …` in the background, waits until it listens and sets $NAME to its URL.
func start(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: start NAME COMMAND…")
	}
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	cmd := exec.CommandContext(context.Background(), path, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = os.Environ()
	for _, name := range append([]string{"HOME", "TMPDIR"}, s3Env...) {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	r, w, err := os.Pipe()
	ts.Check(err)
	cmd.Stderr = w
	ts.Check(cmd.Start())
	ts.Check(w.Close())
	s := &process{cmd: cmd, stderr: &bytes.Buffer{}, done: make(chan error, 1)}
	url := make(chan string, 1)
	go func() {
		buf := make([]byte, 4096)
		sent := false
		for {
			n, err := r.Read(buf)
			s.stderr.Write(buf[:n])
			if m := listening.FindSubmatch(s.stderr.Bytes()); m != nil && !sent {
				url <- string(m[1])
				sent = true
			}
			if err != nil {
				break
			}
		}
		s.done <- cmd.Wait()
	}()
	select {
	case u := <-url:
		ts.Setenv(args[0], u)
		ts.Setenv(args[0]+"_ADDR", u[strings.Index(u, "//")+2:])
	case err := <-s.done:
		ts.Fatalf("server ended: %v\n%s", err, s.stderr)
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		ts.Fatalf("server does not listen")
	}
	running(ts)[args[0]] = s
	ts.Defer(func() {
		if s.cmd.ProcessState == nil {
			_ = s.cmd.Process.Kill()
		}
	})
}

// s3Env is the environment in which a command finds the S3 server of startS3.
var s3Env = []string{"AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}

// startS3 starts an S3 server in memory with these buckets and lets the commands of the script find it: `s3 BUCKET…`.
func startS3(ts *testscript.TestScript, _ bool, args []string) {
	srv := httptest.NewServer(storetest.NewS3Server(args...))
	ts.Defer(srv.Close)
	for i, value := range []string{srv.URL, "us-east-1", "test", "testsecret"} {
		ts.Setenv(s3Env[i], value)
	}
}

// buildBootstrap builds the Lambda function as it is deployed: `bootstrap FILE`.
func buildBootstrap(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: bootstrap FILE")
	}
	if out, err := goBuildBootstrap(context.Background(), ts.MkAbs(args[0])).CombinedOutput(); err != nil {
		ts.Fatalf("building the bootstrap: %v\n%s", err, out)
	}
}

func goBuildBootstrap(ctx context.Context, file string) *exec.Cmd {
	return exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-o", file, "../cirrusbench-lambda")
}

// writeCertificate makes a self-signed certificate for loopback: `cert CERT KEY NAME`.
func writeCertificate(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: cert CERT KEY NAME")
	}
	cert, key, err := selfSigned(args[2])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), cert, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), key, 0o600))
}

// selfSigned returns a certificate for loopback and its key, both as PEM.
func selfSigned(name string) (cert, key []byte, err error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, priv.Public(), priv)
	if err != nil {
		return nil, nil, err
	}
	pk, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk}), nil
}

type runningKey struct{}

// running is the script's own table of servers.
func running(ts *testscript.TestScript) map[string]*process {
	m, ok := ts.Value(runningKey{}).(map[string]*process)
	if !ok {
		ts.Fatalf("the script has no table of servers")
	}
	return m
}

// terminate sends SIGTERM to a started server and expects it to end with code 0: `terminate NAME [PATTERN]` also looks for a
// pattern in what it printed, which is in server.log then.
func terminate(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 1 || running(ts)[args[0]] == nil {
		ts.Fatalf("usage: terminate NAME [PATTERN]")
	}
	s := running(ts)[args[0]]
	ts.Check(s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-s.done:
		if err != nil {
			ts.Fatalf("server ended with %v\n%s", err, s.stderr)
		}
	case <-time.After(30 * time.Second):
		ts.Fatalf("server does not stop")
	}
	ts.Check(os.WriteFile(ts.MkAbs("server.log"), s.stderr.Bytes(), 0o644))
	if len(args) > 1 && !regexp.MustCompile(args[1]).Match(s.stderr.Bytes()) {
		ts.Fatalf("server did not print %q:\n%s", args[1], s.stderr)
	}
}

// post sends a file as a remote-write request: `post CODE URL FILE VERSION [Header=value…]`; VERSION is 1, 2 or -
// (headers only by hand). A leading "chunked:" before the file leaves out Content-Length.
func post(ts *testscript.TestScript, _ bool, args []string) {
	roundTrip(ts, postRequest(ts, args), args[0])
}

// awaitPost posts until the status is CODE: `await-post CODE URL FILE VERSION [Header=value…]`.
func awaitPost(ts *testscript.TestScript, _ bool, args []string) {
	for range 600 {
		if got := exchange(ts, postRequest(ts, args)); got == args[0] {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("never answered %s", args[0])
}

func postRequest(ts *testscript.TestScript, args []string) *http.Request {
	if len(args) < 4 {
		ts.Fatalf("usage: post CODE URL FILE VERSION [Header=value…]")
	}
	file, chunked := strings.CutPrefix(args[2], "chunked:")
	data, err := os.ReadFile(ts.MkAbs(file))
	ts.Check(err)
	var body io.Reader = bytes.NewReader(data)
	if chunked {
		body = io.MultiReader(body) // hides the length
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, args[1], body)
	ts.Check(err)
	switch args[3] {
	case "1":
		req.Header.Set("Content-Type", "application/x-protobuf")
	case "2":
		req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
	}
	if args[3] != "-" {
		req.Header.Set("Content-Encoding", "snappy")
	}
	for _, kv := range args[4:] {
		k, v, _ := strings.Cut(kv, "=")
		req.Header.Set(k, v)
	}
	return req
}

// get fetches a page: `get CODE URL`.
func get(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: get CODE URL")
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, args[1], nil)
	ts.Check(err)
	roundTrip(ts, req, args[0])
}

// await fetches a page until it matches a pattern: `await URL PATTERN`.
func await(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: await URL PATTERN")
	}
	pattern := regexp.MustCompile(args[1])
	for range 600 {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, args[0], nil)
		ts.Check(err)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil && pattern.Match(body) {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("%s never matched %q", args[0], args[1])
}

// roundTrip puts the answer, headers first, into the file "response".
func roundTrip(ts *testscript.TestScript, req *http.Request, want string) {
	if got := exchange(ts, req); got != want {
		answer, err := os.ReadFile(ts.MkAbs("response"))
		ts.Check(err)
		ts.Fatalf("status %s, want %s\n%s", got, want, answer)
	}
}

// exchange is roundTrip for any status, which it returns.
func exchange(ts *testscript.TestScript, req *http.Request) string {
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, // the certificates of tests are self-signed
	}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	var b strings.Builder
	fmt.Fprintln(&b, resp.Status)
	ts.Check(resp.Header.Write(&b))
	fmt.Fprintf(&b, "\n%s", body)
	ts.Check(os.WriteFile(ts.MkAbs("response"), []byte(b.String()), 0o644))
	return strconv.Itoa(resp.StatusCode)
}

// objects counts the regular files below a directory: `objects N DIR` or `objects FROM..TO DIR`. A directory that is
// not there has none.
func objects(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: objects N DIR or objects FROM..TO DIR")
	}
	n := 0
	root := ts.MkAbs(args[1])
	if _, err := os.Stat(root); err == nil {
		ts.Check(walkFiles(root, func(string) { n++ }))
	}
	low, high, isRange := strings.Cut(args[0], "..")
	if !isRange {
		high = low
	}
	from, err := strconv.Atoi(low)
	ts.Check(err)
	to, err := strconv.Atoi(high)
	ts.Check(err)
	if n < from || n > to {
		ts.Fatalf("%d files in %s, want %s", n, args[1], args[0])
	}
}

func walkFiles(root string, visit func(path string)) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			visit(path)
		}
		return err
	})
}

// corrupt changes the last byte of one file below a directory: `corrupt DIR`.
func corrupt(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: corrupt DIR")
	}
	var files []string
	ts.Check(walkFiles(ts.MkAbs(args[0]), func(path string) { files = append(files, path) }))
	if len(files) == 0 {
		ts.Fatalf("no file in %s", args[0])
	}
	data, err := os.ReadFile(files[0])
	ts.Check(err)
	data[len(data)-1] ^= 1
	ts.Check(os.WriteFile(files[0], data, 0o644))
}

// writeBytes makes a binary file: `bytes FILE HEX`.
func writeBytes(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: bytes FILE HEX")
	}
	data, err := hex.DecodeString(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}

// truncateFile copies all but the last N bytes: `truncate N FROM TO`.
func truncateFile(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: truncate N FROM TO")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	data, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), data[:max(len(data)-n, 0)], 0o644))
}

// TestScriptsRunToTheirEnd: testscript has a command of its own called stop, which ends a script there and then, as
// passed. Whoever means the server writes terminate.
func TestScriptsRunToTheirEnd(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range scripts {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if at := regexp.MustCompile(`(?m)^\s*stop\b.*`).Find(b); at != nil {
			t.Errorf("%s: %q ends the script early", file, at)
		}
	}
}
