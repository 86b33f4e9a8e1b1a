package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// startHTTPAPI is what an HTTP API does to request ids: `httpapi NAME URL LOG [-strip] [-refuse N] [-format FORMAT]`
// passes requests on to URL, answers with an id of its own and without Lambda's, and writes both ids to LOG in FORMAT,
// where %[1]s is its own and %[2]s Lambda's. With -strip it takes off what the bundled server says of the invocation,
// as if another program were the function; with -refuse it answers every Nth request by itself.
func startHTTPAPI(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: httpapi NAME URL LOG [-strip] [-refuse N] [-format FORMAT]")
	}
	target, err := url.Parse(args[1])
	ts.Check(err)
	log, err := os.Create(ts.MkAbs(args[2]))
	ts.Check(err)
	strip, refuse, format := false, 0, `{"requestId":"%[1]s","status":"%[3]d","integrationRequestId":"%[2]s"}`
	for rest := args[3:]; len(rest) > 0; rest = rest[1:] {
		switch {
		case rest[0] == "-strip":
			strip = true
		case rest[0] == "-refuse" && len(rest) > 1:
			refuse, err = strconv.Atoi(rest[1])
			ts.Check(err)
			rest = rest[1:]
		case rest[0] == "-format" && len(rest) > 1:
			format = strings.ReplaceAll(rest[1], `\n`, "\n")
			rest = rest[1:]
		default:
			ts.Fatalf("httpapi: what is %s?", rest[0])
		}
	}
	var mu sync.Mutex // guards n and log
	n := 0
	answered := func(h http.Header, number, status int, invocation string) {
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "request%05d", number))
		h.Set("Apigw-Requestid", id)
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(log, format+"\n", id, invocation, status) // a line that is missing fails the script
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		number, _ := strconv.Atoi(r.Request.Header.Get("Test-Number"))
		invocation := r.Header.Get("X-Amzn-Requestid")
		r.Header.Del("X-Amzn-Requestid")
		if strip {
			r.Header.Del(remotewrite.HeaderInvocation)
		}
		answered(r.Header, number, r.StatusCode, invocation)
		return nil
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n++
		number := n
		mu.Unlock()
		if refuse > 0 && number%refuse == 0 {
			_, _ = io.Copy(io.Discard, r.Body)
			answered(w.Header(), number, http.StatusForbidden, "-")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		r.Header.Set("Test-Number", strconv.Itoa(number))
		proxy.ServeHTTP(w, r)
	}))
	ts.Setenv(args[0], srv.URL)
	ts.Defer(func() { srv.Close(); _ = log.Close() })
}

// The formats that the deployments give their access logs are ones that --gateway-log reads without being told how.
func TestDeployedAccessLogs(t *testing.T) {
	format := regexp.MustCompile(`(?m)^ +[Ff]ormat: '(\{.*\})'$`)
	for _, file := range []string{"../../deploy/sam/template.yaml", "../../deploy/serverless/serverless.yml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := format.FindAllStringSubmatch(string(text), -1)
		if len(found) != 1 {
			t.Errorf("%s: %d formats of an access log", file, len(found))
			continue
		}
		line := strings.NewReplacer("$context.integration.requestId", "of-lambda", "$context.requestId", "of-gateway").Replace(found[0][1])
		line = regexp.MustCompile(`\$context[.a-zA-Z]*`).ReplaceAllString(line, "-")
		n := 0
		for a, err := range lambdalog.ScanAccess(strings.NewReader(line), file, lambdalog.AccessFields{}) {
			if n++; err != nil || a.GatewayID != "of-gateway" || a.RequestID != "of-lambda" {
				t.Errorf("%+v, %v of %s", a, err, line)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d lines of %s", file, n, line)
		}
	}
}
