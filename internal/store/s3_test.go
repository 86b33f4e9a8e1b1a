package store_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

// script answers one request after the other with the next fault, then works.
type script struct {
	mu     sync.Mutex
	faults []storetest.HTTPFault // guarded by mu
	seen   []*http.Request       // guarded by mu
}

func (s *script) next(r *http.Request) storetest.HTTPFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r)
	if len(s.faults) == 0 {
		return storetest.HTTPFault{}
	}
	f := s.faults[0]
	s.faults = s.faults[1:]
	return f
}

func (s *script) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// openFake returns a store over fake, with a proxy before it that fails like this.
func openFake(t *testing.T, fake *storetest.S3Server, location string, faults ...storetest.HTTPFault) (*store.S3, *script) {
	t.Helper()
	sc := &script{faults: faults}
	srv := httptest.NewServer(&storetest.FaultProxy{Next: fake, Hook: sc.next})
	t.Cleanup(srv.Close)
	s, err := store.NewS3(storetest.S3Config(srv.URL, "key", "secret"), location)
	if err != nil {
		t.Fatal(err)
	}
	return s, sc
}

func TestContractS3(t *testing.T) {
	for _, location := range []string{"s3://bucket", "s3://bucket/a/prefix/"} {
		t.Run(location, func(t *testing.T) {
			storetest.Run(t, func() store.Store {
				fake := storetest.NewS3Server("bucket")
				fake.PageSize = 2 // every listing goes over pages
				s, _ := openFake(t, fake, location)
				return s
			})
		})
	}
}

func TestS3Prefix(t *testing.T) {
	fake := storetest.NewS3Server("bucket")
	one, _ := openFake(t, fake, "s3://bucket/one")
	other, _ := openFake(t, fake, "S3://bucket/one-more/")
	for _, s := range []*store.S3{one, other} {
		if _, err := s.Put(t.Context(), "k", []byte(s.String())); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string][]byte{"one/k": []byte("s3://bucket/one/"), "one-more/k": []byte("s3://bucket/one-more/")}
	if diff := cmp.Diff(want, fake.Objects("bucket")); diff != "" {
		t.Errorf("in the bucket (-want +got):\n%s", diff)
	}
	for o, err := range one.List(t.Context(), "") {
		if err != nil || o.Key != "k" {
			t.Errorf("List yields %v, %v", o, err)
		}
	}
	if _, err := one.Put(t.Context(), strings.Repeat("k/", 511)+"k", nil); !errors.Is(err, store.ErrInvalidKey) {
		t.Errorf("a key too long with its prefix: %v", err)
	}
}

// What a put says to S3: conditional, without checksum and framing, in path style.
func TestS3PutRequest(t *testing.T) {
	s, sc := openFake(t, storetest.NewS3Server("bucket"), "s3://bucket/p")
	if _, err := s.Put(t.Context(), "k", []byte("body")); err != nil {
		t.Fatal(err)
	}
	r := sc.seen[0]
	got := map[string]string{"path": r.URL.Path, "length": r.Header.Get("Content-Length")}
	for _, h := range []string{"If-None-Match", "Content-Encoding", "X-Amz-Content-Sha256", "X-Amz-Trailer", "X-Amz-Checksum-Crc32", "X-Amz-Sdk-Checksum-Algorithm"} {
		got[h] = r.Header.Get(h)
	}
	want := map[string]string{
		"path": "/bucket/p/k", "length": "4", "If-None-Match": "*", "Content-Encoding": "", "X-Amz-Trailer": "",
		"X-Amz-Checksum-Crc32": "", "X-Amz-Sdk-Checksum-Algorithm": "",
		// printf body | sha256sum
		"X-Amz-Content-Sha256": "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

// Over TLS the body is not hashed again, and arrives as it is all the same.
func TestS3PutOverTLS(t *testing.T) {
	fake := storetest.NewS3Server("bucket")
	sc := &script{}
	srv := httptest.NewTLSServer(&storetest.FaultProxy{Next: fake, Hook: sc.next})
	t.Cleanup(srv.Close)
	cfg := storetest.S3Config(srv.URL, "key", "secret")
	cfg.HTTPClient = srv.Client()
	s, err := store.NewS3(cfg, "s3://bucket")
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("b", 13_000)
	if created, err := s.Put(t.Context(), "k", []byte(body)); err != nil || !created {
		t.Fatalf("Put = %v, %v", created, err)
	}
	if got := string(fake.Objects("bucket")["k"]); got != body {
		t.Errorf("stored %d bytes, want %d", len(got), len(body))
	}
	h := sc.seen[0].Header
	if h.Get("X-Amz-Content-Sha256") != "UNSIGNED-PAYLOAD" || h.Get("Content-Encoding") != "" || h.Get("X-Amz-Trailer") != "" {
		t.Errorf("headers %v", h)
	}
}

func TestS3Faults(t *testing.T) {
	var (
		badGateway = storetest.HTTPFault{Status: http.StatusBadGateway}
		slowDown   = storetest.HTTPFault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}
		conflict   = storetest.HTTPFault{Status: http.StatusConflict, Code: "ConditionalRequestConflict"}
		resetEarly = storetest.HTTPFault{Status: http.StatusBadGateway, Reset: true}
		resetLate  = storetest.HTTPFault{Reset: true}
		denied     = storetest.HTTPFault{Status: http.StatusForbidden, Code: "AccessDenied"}
	)
	for _, tt := range []struct {
		name    string
		faults  []storetest.HTTPFault
		created bool
		fails   bool
		stored  int
		tries   int
	}{
		{"works", nil, true, false, 1, 1},
		{"502 once", []storetest.HTTPFault{badGateway}, true, false, 1, 2},
		{"502 for good", []storetest.HTTPFault{badGateway, badGateway, badGateway}, false, true, 0, 2},
		{"slow down", []storetest.HTTPFault{slowDown}, true, false, 1, 2},
		{"slow down for good", []storetest.HTTPFault{slowDown, slowDown, slowDown}, false, true, 0, 2},
		{"conflict", []storetest.HTTPFault{conflict}, true, false, 1, 2},
		{"reset before", []storetest.HTTPFault{resetEarly}, true, false, 1, 2},
		// The retry finds what the first attempt has stored.
		{"reset after", []storetest.HTTPFault{resetLate}, false, false, 1, 2},
		{"failed but persisted", []storetest.HTTPFault{resetLate, badGateway}, false, true, 1, 2},
		{"denied", []storetest.HTTPFault{denied}, false, true, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fake := storetest.NewS3Server("bucket")
			s, sc := openFake(t, fake, "s3://bucket", tt.faults...)
			created, err := s.Put(t.Context(), "k", []byte("body"))
			if created != tt.created || (err != nil) != tt.fails {
				t.Errorf("Put = %v, %v; want %v, failure %v", created, err, tt.created, tt.fails)
			}
			if got := fake.Objects("bucket"); len(got) != tt.stored || tt.stored == 1 && string(got["k"]) != "body" {
				t.Errorf("stored %q", got)
			}
			if sc.requests() != tt.tries {
				t.Errorf("%d attempts, want %d", sc.requests(), tt.tries)
			}
			// Whatever happened: the same put again ends well, with one object.
			if _, err := s.Put(t.Context(), "k", []byte("body")); err != nil && len(sc.faults) == 0 {
				t.Errorf("putting again: %v", err)
			}
		})
	}
}

// A store that hangs is given up at the deadline and not after the SDK's patience.
func TestS3Deadline(t *testing.T) {
	fake := storetest.NewS3Server("bucket")
	s, _ := openFake(t, fake, "s3://bucket", storetest.HTTPFault{Hang: time.Minute}, storetest.HTTPFault{Hang: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if created, err := s.Put(ctx, "k", []byte("body")); created || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Put = %v, %v; want the deadline", created, err)
	}
	if got := fake.Objects("bucket"); len(got) != 0 {
		t.Errorf("stored %q", got)
	}
}

// roundTripper is an HTTP client without a network, so that time can be a bubble's.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) Do(r *http.Request) (*http.Response, error) { return f(r) }

// Two attempts and one wait of at most 200 ms: a store that is down must not eat the
// time that the sender's gateway gives a request.
func TestS3RetryIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := storetest.S3Config("http://s3.test", "key", "secret")
		cfg.HTTPClient = roundTripper(func(*http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			storetest.WriteS3Error(w, http.StatusServiceUnavailable, "SlowDown")
			return w.Result(), nil
		})
		s, err := store.NewS3(cfg, "s3://bucket")
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			began := time.Now()
			if _, err := s.Put(t.Context(), "k", []byte("body")); err == nil {
				t.Fatal("Put succeeds")
			}
			if took := time.Since(began); took > 200*time.Millisecond { // the bubble's clock
				t.Errorf("a put waited %v", took)
			}
		}
	})
}

func TestS3GetCut(t *testing.T) {
	for _, tt := range []struct {
		name   string
		faults []storetest.HTTPFault
		fails  bool
	}{
		{"cut once", []storetest.HTTPFault{{CutAfter: 3}}, false},
		{"cut twice", []storetest.HTTPFault{{CutAfter: 3}, {CutAfter: 1}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, sc := openFake(t, storetest.NewS3Server("bucket"), "s3://bucket")
			if _, err := s.Put(t.Context(), "k", []byte("body")); err != nil {
				t.Fatal(err)
			}
			sc.faults = tt.faults
			got, err := s.Get(t.Context(), "k")
			if (err != nil) != tt.fails || err == nil && string(got) != "body" {
				t.Errorf("Get = %q, %v", got, err)
			}
			if errors.Is(err, store.ErrNotFound) {
				t.Error("an answer cut short passes for no object")
			}
		})
	}
}

func TestS3ListFails(t *testing.T) {
	fake := storetest.NewS3Server("bucket")
	fake.PageSize = 1
	s, sc := openFake(t, fake, "s3://bucket")
	for _, k := range []string{"a", "b", "c"} {
		if _, err := s.Put(t.Context(), k, nil); err != nil {
			t.Fatal(err)
		}
	}
	sc.faults = []storetest.HTTPFault{{}, {Status: 500, Code: "InternalError"}, {Status: 500, Code: "InternalError"}}
	var keys []string
	var last error
	for o, err := range s.List(t.Context(), "") {
		if last = err; err == nil {
			keys = append(keys, o.Key)
		}
	}
	if e, ok := errors.AsType[*store.S3Error](last); !ok || e.Code != "InternalError" || !slices.Equal(keys, []string{"a"}) {
		t.Errorf("listed %v, then %v", keys, last)
	}
}

func TestS3Probe(t *testing.T) {
	for _, tt := range []struct {
		name, location string
		faults         []storetest.HTTPFault
		hint           string // empty: no error
	}{
		{"works", "s3://bucket/p", nil, ""},
		{"no bucket", "s3://nothing-here", nil, "create the bucket nothing-here"},
		{"may not list", "s3://bucket", []storetest.HTTPFault{{Status: 403, Code: "AccessDenied"}}, ""},
		{"bad key", "s3://bucket", []storetest.HTTPFault{{Status: 403, Code: "InvalidAccessKeyId"}}, "AWS_ACCESS_KEY_ID"},
		{"elsewhere", "s3://bucket", []storetest.HTTPFault{{Status: 301, Code: "PermanentRedirect"}}, "AWS_REGION"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := openFake(t, storetest.NewS3Server("bucket"), tt.location, tt.faults...)
			err := s.Probe(t.Context())
			if tt.hint == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e, ok := errors.AsType[*store.S3Error](err); !ok || !strings.Contains(e.Hint(), tt.hint) {
				t.Errorf("Probe: %v", err)
			}
		})
	}
}

func TestS3NoCredentials(t *testing.T) {
	cfg := storetest.S3Config("http://127.0.0.1:1", "", "")
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("nobody gave any")
	})
	s, err := store.NewS3(cfg, "s3://bucket")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(t.Context(), "k", nil)
	if e, ok := errors.AsType[*store.S3Error](err); !ok || !strings.Contains(e.Hint(), "no credentials") {
		t.Errorf("Put: %v (%T)", err, err)
	}
}

// The secret is in no error, whatever fails.
func TestS3ErrorsKeepTheSecret(t *testing.T) {
	const secret = "a-secret-that-must-not-show"
	srv := httptest.NewServer(storetest.NewS3Server())
	t.Cleanup(srv.Close)
	for _, endpoint := range []string{srv.URL, "http://127.0.0.1:1", "http://not a host"} {
		s, err := store.NewS3(storetest.S3Config(endpoint, "key", secret), "s3://bucket")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), "k", nil); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("Put at %s: %v", endpoint, err)
		}
	}
}

func TestOpenS3(t *testing.T) {
	with := store.WithAWS(func(context.Context) (aws.Config, error) {
		return storetest.S3Config("http://127.0.0.1:1", "k", "s"), nil
	})
	for location, want := range map[string]string{
		"s3://bucket": "s3://bucket/", "s3://bucket/": "s3://bucket/", "S3://my.bucket-1/a/b": "s3://my.bucket-1/a/b/", "s3://bucket/a/b/": "s3://bucket/a/b/",
	} {
		s, err := store.Open(t.Context(), location, with)
		if named, ok := s.(*store.S3); err != nil || !ok || named.String() != want {
			t.Errorf("Open(%q) = %v, %v; want %s", location, s, err, want)
		}
	}
	for _, location := range []string{
		"s3:", "s3:bucket", "s3:/bucket", "s3://", "s3:///prefix", "s3://Bucket", "s3://b", "s3://bucket?x=y", "s3://user@bucket", "s3://a..b",
		"s3://bucket//a", "s3://bucket/a//b", "s3://bucket/../b", "s3://bucket/a\nb",
	} {
		_, err := store.Open(t.Context(), location, with)
		if e, ok := errors.AsType[*store.LocationError](err); !ok || e.Hint == "" {
			t.Errorf("Open(%q): %v", location, err)
		}
	}
	broken := errors.New("no such profile")
	for name, load := range map[string]func(context.Context) (aws.Config, error){
		"cannot load": func(context.Context) (aws.Config, error) { return aws.Config{}, broken },
		"no region":   func(context.Context) (aws.Config, error) { return aws.Config{}, nil },
	} {
		_, err := store.Open(t.Context(), "s3://bucket", store.WithAWS(load))
		if e, ok := errors.AsType[*store.LocationError](err); !ok || !strings.Contains(e.Hint, "AWS_REGION") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Virtual-hosted style and TLS are what AWS itself gets; nothing is sent yet.
	if _, err := store.Open(t.Context(), "s3://bucket", store.WithAWS(func(context.Context) (aws.Config, error) {
		return aws.Config{Region: "eu-central-1"}, nil
	})); err != nil {
		t.Error(err)
	}
}

// The first attempt of a put is a plain request, the second the SDK's; there is no third. The name is escaped as the
// signature has it.
func TestS3PutDirect(t *testing.T) {
	const key = "org=alfa/k"
	fake := storetest.NewS3Server("bucket")
	s, sc := openFake(t, fake, "s3://bucket", storetest.HTTPFault{Status: http.StatusServiceUnavailable, Code: "SlowDown"})
	for _, want := range []bool{true, false} {
		if created, err := s.Put(t.Context(), key, []byte("b")); err != nil || created != want {
			t.Errorf("Put = %v, %v, want %v", created, err, want)
		}
	}
	var agents []string
	for _, r := range sc.seen {
		agent, _, _ := strings.Cut(r.UserAgent(), "/")
		agents = append(agents, agent)
		if r.RequestURI != "" && !strings.HasPrefix(r.RequestURI, "/bucket/org%3Dalfa/k") {
			t.Errorf("%s asks for %s", agent, r.RequestURI)
		}
	}
	if want := []string{"cirrusbench", "aws-sdk-go-v2", "cirrusbench"}; !slices.Equal(agents, want) {
		t.Errorf("requests of %q, want %q", agents, want)
	}
	if len(fake.Objects("bucket")) != 1 {
		t.Errorf("objects %v", fake.Objects("bucket"))
	}
}
