package collector

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// Key is a secret in a file that may be replaced at any time. Use [OpenKey].
type Key struct {
	path, header, prefix string
	log                  *slog.Logger

	mu         sync.Mutex
	value      string
	generation int
	stamp      stamp
	since      time.Time // of value
	failing    bool
}

// stamp is what tells one content of a file from the next without reading it.
type stamp struct {
	modified time.Time
	size     int64
	file     os.FileInfo
}

func (s stamp) same(o stamp) bool {
	return s.modified.Equal(o.modified) && s.size == o.size && s.file != nil && o.file != nil && os.SameFile(s.file, o.file)
}

// maxKeyBytes bounds a key file; a token has some kilobytes at most.
const maxKeyBytes = 64 << 10

// OpenKey reads a secret that is sent in header, behind prefix. The file must be good
// now; a later one that is not leaves the secret as it is. No error holds the secret.
func OpenKey(path, header, prefix string, log *slog.Logger) (*Key, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	k := &Key{path: path, header: header, prefix: prefix, log: log}
	if _, err := k.load(true); err != nil {
		return nil, err
	}
	return k, nil
}

// get is the secret, and a number that changes with it.
func (k *Key) get() (value string, generation int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.value, k.generation
}

// Since is when the secret in use was read first.
func (k *Key) Since() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.since
}

// refresh reads the file when it has changed, or in any case when it must.
func (k *Key) refresh(must bool) {
	changed, err := k.load(must)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		if !k.failing {
			k.log.Error("the key cannot be read, the old one stays", "error", err.Error())
		}
		k.failing = true
		return
	}
	k.failing = false
	if changed {
		k.log.Info("took up a new key", "path", k.path)
	}
}

func (k *Key) load(must bool) (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	info, err := os.Stat(k.path)
	if err != nil {
		return false, fmt.Errorf("reading the key: %w", err)
	}
	now := stamp{info.ModTime(), info.Size(), info}
	if !must && now.same(k.stamp) {
		return false, nil
	}
	if info.Size() > maxKeyBytes {
		return false, fmt.Errorf("reading the key: %s has %d bytes, that is no key", k.path, info.Size())
	}
	b, err := os.ReadFile(k.path)
	if err != nil {
		return false, fmt.Errorf("reading the key: %w", err)
	}
	value := strings.TrimSpace(string(b))
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return false, errors.New("reading the key: " + k.path + " is empty or is not one line of text")
	}
	k.stamp = now
	if value == k.value {
		return false, nil
	}
	k.value, k.since = value, time.Now()
	k.generation++
	return true, nil
}
