package main

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A renewed certificate is taken up, a broken one is not, and says so in the log.
func TestCertificateRenewal(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	install := func(name string) {
		t.Helper()
		cert, key, err := selfSigned(name)
		if err != nil {
			t.Fatal(err)
		}
		for file, b := range map[string][]byte{certFile: cert, keyFile: key} {
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	install("one")
	var log bytes.Buffer
	c, err := openCertificate(certFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		t.Helper()
		got, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(got.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	later := func() { c.checked = time.Now().Add(-certificateEvery) }
	install("two")
	if got := name(); got != "one" {
		t.Errorf("the files are read for every handshake: %s", got)
	}
	later()
	if got := name(); got != "two" {
		t.Errorf("after the renewal: %s", got)
	}
	if err := os.WriteFile(certFile, []byte("half of a cert"), 0o600); err != nil {
		t.Fatal(err)
	}
	later()
	if got := name(); got != "two" || !bytes.Contains(log.Bytes(), []byte("cannot be renewed")) {
		t.Errorf("with a broken file: %s\n%s", got, &log)
	}
	install("three")
	later()
	if got := name(); got != "three" {
		t.Errorf("after the repair: %s", got)
	}
}
