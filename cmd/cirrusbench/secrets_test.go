package main

import (
	"bytes"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// echo answers every request with an error that repeats what it was sent, in one form after the other, each with a
// status of its own: the first example of each is what a run file keeps.
func echo(t *testing.T) (target string, forms int) {
	t.Helper()
	key := func(r *http.Request) string { return r.URL.Query().Get("api_key") }
	text := []func(r *http.Request) string{
		func(r *http.Request) string { return "no such place: " + r.RequestURI },
		func(r *http.Request) string { return "wrong key " + key(r) },
		func(r *http.Request) string {
			b, err := json.Marshal(map[string]string{"api_key": key(r)})
			if err != nil {
				return err.Error()
			}
			return string(b)
		},
		func(r *http.Request) string { return "<p>" + html.EscapeString(key(r)) },
		func(r *http.Request) string { return "try " + strings.ToLower(url.QueryEscape(key(r))) },
		func(r *http.Request) string { return "try " + url.PathEscape(key(r)) },
		func(r *http.Request) string { return strings.Repeat("x", 230) + r.URL.RawQuery }, // cut within
		func(r *http.Request) string { return "signed with " + r.Header.Get("X-Amz-Security-Token") },
		func(r *http.Request) string {
			return "signed with " + url.QueryEscape(r.Header.Get("X-Amz-Security-Token"))
		},
		func(r *http.Request) string { return "you are " + r.Header.Get("Authorization") },
		func(r *http.Request) string {
			var b bytes.Buffer
			_ = r.Header.WriteSubset(&b, map[string]bool{"User-Agent": true, "Content-Type": true, "Content-Encoding": true, "Content-Length": true, "Accept-Encoding": true})
			return b.String()
		},
	}
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		form := int(n.Add(1)-1) % len(text)
		w.WriteHeader(450 + form)
		_, _ = io.WriteString(w, text[form](r))
	}))
	t.Cleanup(srv.Close)
	return srv.URL, len(text)
}

// TestReplayShowsNoSecret: whatever a target repeats of keys, tokens and its own query, and in whatever form, is in no
// output of any kind.
func TestReplayShowsNoSecret(t *testing.T) {
	const canary = "canary" // begins or is in each of the secrets
	target, forms := echo(t)
	target += "?region=eu&api_key=canary%2Fone+two%26%3Cthree%3e%22%C3%A4%0Aend"
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("key"), []byte("canary-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "AWS_") || strings.HasPrefix(kv, "CIRRUSBENCH_")
	})
	environ = append(environ, "AWS_ACCESS_KEY_ID=CANARYCANARYCANARY", "AWS_SECRET_ACCESS_KEY=canary-secret",
		"AWS_SESSION_TOKEN=canary-token/"+strings.Repeat("abc+DEF/", 50)+"==")
	for name, flags := range map[string][]string{
		"raw":     {"--sender", "raw", "--bearer-token-file", file("key"), "--api-key-file", file("key")},
		"nethttp": {"--sender", "nethttp", "--bearer-token-file", file("key"), "--api-key-file", file("key")},
		"sigv4":   {"--sigv4", "execute-api/us-east-1", "--api-key-file", file("key")},
	} {
		for _, output := range []string{"table", "json", "markdown"} {
			t.Run(name+"/"+output, func(t *testing.T) {
				args := append([]string{
					"replay", "--target", target, "--concurrency", "1", "--requests", strconv.Itoa(2 * forms), "-o", output,
					"--out", file("run.json"), "--html", file("run.html"), "--hlog", file("run.hlog"),
				}, flags...)
				cmd := exec.CommandContext(t.Context(), "cirrusbench", args...) // this one: see TestMain
				cmd.Env = environ
				var out, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &errs
				if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitInvalid {
					t.Fatalf("nothing succeeds, and it ends with %v: %s", err, errs.Bytes())
				}
				outputs := map[string][]byte{"stdout": out.Bytes(), "stderr": errs.Bytes()}
				for _, name := range []string{"run.json", "run.html", "run.hlog"} {
					b, err := os.ReadFile(file(name))
					if err != nil {
						t.Fatal(err)
					}
					outputs[name] = b
				}
				for name, b := range outputs {
					if at := bytes.Index(bytes.ToLower(b), []byte(canary)); len(b) == 0 || at >= 0 {
						t.Errorf("%s of %d bytes is empty or shows a secret: %.200q", name, len(b), b[max(at-50, 0):])
					}
				}
				run, err := stats.ReadRun(bytes.NewReader(outputs["run.json"]), "run.json")
				if err != nil {
					t.Fatal(err)
				}
				masked := 0
				for _, e := range run.Errors {
					if strings.Contains(e.Example, "[masked]") {
						masked++
					}
				}
				// A form whose secret was not sent has nothing to mask: the session token without a signature, twice.
				if want := forms - 2; len(run.Errors) != forms || masked < want {
					t.Errorf("of %d examples of errors %d are masked, want %d: the test does not test; %+v", len(run.Errors), masked, want, run.Errors)
				}
			})
		}
	}
}
