//go:build integration

package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

// TestIntegrationS3 holds the store against a real S3 server, versitygw, alone and through a proxy that fails.
func TestIntegrationS3(t *testing.T) {
	gateway := os.Getenv("CIRRUSBENCH_VERSITYGW")
	if gateway == "" {
		t.Fatal("CIRRUSBENCH_VERSITYGW is not set: run make integration")
	}
	root := t.TempDir()
	endpoint := storetest.StartVersityGW(t, gateway, root, "bucket")
	var n atomic.Int32
	open := func(endpoint string) *store.S3 {
		s, err := store.NewS3(storetest.S3Config(endpoint, storetest.VersityGWKey, storetest.VersityGWSecret), fmt.Sprintf("s3://bucket/run-%d", n.Add(1)))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Run("Contract", func(t *testing.T) {
		storetest.Run(t, func() store.Store { return open(endpoint) })
	})
	t.Run("Probe", func(t *testing.T) {
		if err := open(endpoint).Probe(t.Context()); err != nil {
			t.Error(err)
		}
		for location, secret := range map[string]string{"s3://nothing-here": storetest.VersityGWSecret, "s3://bucket": "wrong"} {
			s, err := store.NewS3(storetest.S3Config(endpoint, storetest.VersityGWKey, secret), location)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Probe(t.Context())
			if e, ok := errors.AsType[*store.S3Error](err); !ok || e.Hint() == "" {
				t.Errorf("%s: %v", location, err)
			}
		}
	})

	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // the signature is over it
	}}
	// Over TLS the signature leaves the body out; what arrives must be the body all the same.
	t.Run("TLS", func(t *testing.T) {
		secure := httptest.NewTLSServer(forward)
		t.Cleanup(secure.Close)
		storetest.Run(t, func() store.Store {
			cfg := storetest.S3Config(secure.URL, storetest.VersityGWKey, storetest.VersityGWSecret)
			cfg.HTTPClient = secure.Client()
			s, err := store.NewS3(cfg, fmt.Sprintf("s3://bucket/run-%d", n.Add(1)))
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
	through := func(t *testing.T, faults ...storetest.HTTPFault) (*store.S3, *script) {
		t.Helper()
		sc := &script{faults: faults}
		srv := httptest.NewServer(&storetest.FaultProxy{Hook: sc.next, Next: forward})
		t.Cleanup(srv.Close)
		return open(srv.URL), sc
	}
	body := []byte(strings.Repeat("body", 4000))
	for _, tt := range []struct {
		name           string
		faults         []storetest.HTTPFault
		created, fails bool
	}{
		{"502", []storetest.HTTPFault{{Status: 502}}, true, false},
		{"slow down", []storetest.HTTPFault{{Status: 503, Code: "SlowDown"}}, true, false},
		{"reset after body", []storetest.HTTPFault{{Reset: true}}, false, false},
		{"slow", []storetest.HTTPFault{{Hang: 100 * time.Millisecond}}, true, false},
		{"down", []storetest.HTTPFault{{Status: 502}, {Status: 502}}, false, true},
		{"hangs", []storetest.HTTPFault{{Hang: time.Minute}}, false, true},
		{"persisted, then down", []storetest.HTTPFault{{Reset: true}, {Status: 502}}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := through(t, tt.faults...)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if created, err := s.Put(ctx, "org=a/k", body); created != tt.created || (err != nil) != tt.fails {
				t.Errorf("Put = %v, %v", created, err)
			}
			// The sender comes back: one object, the right one.
			if _, err := s.Put(t.Context(), "org=a/k", body); err != nil {
				t.Errorf("putting again: %v", err)
			}
			if got, err := s.Get(t.Context(), "org=a/k"); err != nil || string(got) != string(body) {
				t.Errorf("Get: %d bytes, %v", len(got), err)
			}
			files, err := filepath.Glob(filepath.Join(root, strings.TrimPrefix(s.String(), "s3://"), "org=a", "*"))
			if err != nil || len(files) != 1 {
				t.Errorf("on the server's disk: %v, %v", files, err)
			}
		})
	}
}
