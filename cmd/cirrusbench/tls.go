package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a TLS certificate in two files that may be renewed while the server runs.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu        sync.Mutex
	checked   time.Time        // guarded by mu
	cert, key []byte           // guarded by mu: as last read
	current   *tls.Certificate // guarded by mu
}

// certificateEvery is how long a renewed certificate may go unnoticed.
const certificateEvery = 10 * time.Second

// openCertificate reads the files, which must be good; later ones that are not leave the certificate as it is.
func openCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.load(); err != nil {
		return nil, withHint(err, "give a PEM certificate with its chain and the PEM key that belongs to it")
	}
	return c, nil
}

// load reads the files. It is called with mu held, or before anybody else has c.
func (c *certificate) load() error {
	c.checked = time.Now()
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return fmt.Errorf("reading the TLS certificate: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return fmt.Errorf("reading the TLS key: %w", err)
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("reading the TLS certificate %s with the key %s: %w", c.certFile, c.keyFile, err)
	}
	c.cert, c.key, c.current = cert, key, &pair
	return nil
}

// get is what a handshake asks.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) >= certificateEvery {
		if err := c.load(); err != nil {
			c.log.Error("the TLS certificate cannot be renewed, the old one stays", "error", err.Error())
		}
	}
	return c.current, nil
}
