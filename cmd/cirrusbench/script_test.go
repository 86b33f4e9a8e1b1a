package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func cutEnv(kv string) (name, value string, ok bool) { return strings.Cut(kv, "=") }

// commands are what scripts can say beside testscript's own.
func commands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"exitcode": exitCode,
		"start":    start,
		"stop":     stop,
		"post":     post,
		"get":      get,
		"await":    await,
		"objects":  objects,
		"corrupt":  corrupt,
		"bytes":    writeBytes,
		"truncate": truncateFile,
		"slow":     slowServer,
	}
}

// exitCode runs a command and compares its exit code: `exitcode 2 cirrusbench replay --rate -1`. Its output is
// there for stdout and stderr. `exitcode 0,5` takes either: a run on a busy machine may rightly call itself INVALID.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if ee, ok := err.(*exec.ExitError); ok { //nolint:errorlint // testscript returns it bare
		got = ee.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if !slices.Contains(strings.Split(args[0], ","), strconv.Itoa(got)) {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// process is a program in the background that said where it listens.
type process struct {
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	done   chan error
}

var listening = regexp.MustCompile(`listening on (http://\S+)`)

// start runs `start NAME cirrusbench serve …` in the background, waits until it listens and sets $NAME to its URL.
func start(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: start NAME COMMAND…")
	}
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	cmd := exec.CommandContext(context.Background(), path, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "TMPDIR="+ts.Getenv("TMPDIR"))
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
		ts.Setenv(args[0]+"_ADDR", strings.TrimPrefix(u, "http://"))
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

type runningKey struct{}

// running is the script's own table of servers.
func running(ts *testscript.TestScript) map[string]*process {
	m, ok := ts.Value(runningKey{}).(map[string]*process)
	if !ok {
		ts.Fatalf("the script has no table of servers")
	}
	return m
}

// stop sends SIGTERM to a started server and expects it to end with code 0: `stop NAME [PATTERN]` also looks for a
// pattern in what it printed.
func stop(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 1 || running(ts)[args[0]] == nil {
		ts.Fatalf("usage: stop NAME [PATTERN]")
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
	if len(args) > 1 && !regexp.MustCompile(args[1]).Match(s.stderr.Bytes()) {
		ts.Fatalf("server did not print %q:\n%s", args[1], s.stderr)
	}
}

// post sends a file as a remote-write request: `post CODE URL FILE VERSION [Header=value…]`; VERSION is 1, 2 or -
// (headers only by hand). A leading "chunked:" before the file leaves out Content-Length.
func post(ts *testscript.TestScript, _ bool, args []string) {
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
	roundTrip(ts, req, args[0])
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
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	var b strings.Builder
	fmt.Fprintln(&b, resp.Status)
	ts.Check(resp.Header.Write(&b))
	fmt.Fprintf(&b, "\n%s", body)
	ts.Check(os.WriteFile(ts.MkAbs("response"), []byte(b.String()), 0o644))
	if strconv.Itoa(resp.StatusCode) != want {
		ts.Fatalf("status %d, want %s\n%s", resp.StatusCode, want, b.String())
	}
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
