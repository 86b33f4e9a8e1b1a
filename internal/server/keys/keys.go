// Package keys says whose request it is, by API keys of which a file has the hashes:
//
//	# sha256 of a key: printf %s "$KEY" | sha256sum
//	orgs:
//	  alfa:
//	    - 4f1a…64 hex digits
//	    - 9c02…            # the next key, while senders change over
//	  bravo:
//	    - 77d0…
//
// A key is worth as much as its randomness: `openssl rand -hex 32` makes a good one. The
// hash is without salt and fast, so a password would be found.
package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// CheckEvery is how long a change of the file may go unnoticed.
const CheckEvery = time.Second

// maxFileBytes bounds a key file: some 10,000 orgs.
const maxFileBytes = 4 << 20

// Table maps keys to orgs. Use [Parse]; it does not change.
type Table struct {
	hashes [][sha256.Size]byte
	orgs   []string // one for each hash
}

// Parse reads a key file. An unknown field, an org whose name is not valid, a hash
// that is not 64 hexadecimal digits and one that stands for two orgs are errors; an
// org may have several keys. The error has no hash in it.
func Parse(b []byte) (*Table, error) {
	var file struct {
		Orgs map[string][]string `yaml:"orgs"`
	}
	if err := yaml.Load(b, &file, yaml.WithKnownFields()); err != nil {
		// What the parser says may quote the file, and somebody may have put a key there
		// instead of its hash.
		return nil, fmt.Errorf("parsing keys: not of the form {orgs: {NAME: [SHA-256, …]}}%s", lineOf(err))
	}
	t := &Table{}
	seen := map[[sha256.Size]byte]string{}
	for _, org := range slices.Sorted(maps.Keys(file.Orgs)) {
		if err := capture.ValidName(org); err != nil {
			return nil, fmt.Errorf("parsing keys: org: %w", err)
		}
		if len(file.Orgs[org]) == 0 {
			return nil, fmt.Errorf("parsing keys: org %s has no key", org)
		}
		for i, text := range file.Orgs[org] {
			var h [sha256.Size]byte
			if n, err := hex.Decode(h[:], []byte(text)[:min(len(text), 2*len(h))]); err != nil || n != len(h) || len(text) != 2*len(h) {
				return nil, fmt.Errorf("parsing keys: key %d of org %s is not a SHA-256 in 64 hexadecimal digits", i+1, org)
			}
			if other, twice := seen[h]; twice {
				return nil, fmt.Errorf("parsing keys: key %d of org %s is also a key of %s", i+1, org, other)
			}
			seen[h] = org
			t.hashes, t.orgs = append(t.hashes, h), append(t.orgs, org)
		}
	}
	if len(t.orgs) == 0 {
		return nil, errors.New("parsing keys: no org has a key")
	}
	return t, nil
}

// lineOf is the line that a YAML error is about, if it says one.
func lineOf(err error) string {
	_, after, found := strings.Cut(err.Error(), "line ")
	end := strings.IndexFunc(after, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(after)
	}
	if !found || end == 0 {
		return ""
	}
	return ", line " + after[:end]
}

// Org returns the org of a key, and whether there is one. It takes as long for a key
// that is nearly right as for any other.
func (t *Table) Org(key string) (string, bool) {
	h := sha256.Sum256([]byte(key))
	found := -1
	for i := range t.hashes {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(h[:], t.hashes[i][:]), i, found)
	}
	if found < 0 {
		return "", false
	}
	return t.orgs[found], true
}

// File is a key file that may change while it is used. Use [Open]; its methods may be
// called from several goroutines at once.
type File struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	table atomic.Pointer[Table]
	next  atomic.Int64 // when to look at the file again, in nanoseconds since 1970

	mu      sync.Mutex
	content []byte // guarded by mu: as last read, good or not
	failed  bool   // guarded by mu: it could not be read the last time
}

// Open reads the key file at path, which must be good. Later changes are taken up
// within [CheckEvery]; one that is not good is logged, and the keys stay as they are. A
// nil log is none, a nil now is time.Now.
func Open(path string, log *slog.Logger, now func() time.Time) (*File, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	f := &File{path: path, log: log, now: now}
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	t, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.content = b
	f.table.Store(t)
	f.next.Store(now().Add(CheckEvery).UnixNano())
	return f, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	if len(b) > maxFileBytes {
		return nil, fmt.Errorf("reading keys: %s is larger than %d bytes", path, maxFileBytes)
	}
	return b, nil
}

// current returns the table, after a look at the file when it is time for one. The
// whole file is read and compared: the time stamp of a file tells nothing of a second
// change within its resolution, nor of a mounted secret that was swapped.
func (f *File) current(ctx context.Context) *Table {
	due := f.next.Load()
	now := f.now()
	if now.UnixNano() < due || !f.next.CompareAndSwap(due, now.Add(CheckEvery).UnixNano()) {
		return f.table.Load() // nobody waits while one looks
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b, err := read(f.path)
	if err != nil {
		if !f.failed {
			f.log.ErrorContext(ctx, "the keys cannot be read, the old ones stay", "error", err.Error())
		}
		f.failed = true
		return f.table.Load()
	}
	f.failed = false
	if bytes.Equal(b, f.content) {
		return f.table.Load()
	}
	f.content = b
	t, err := Parse(b)
	if err != nil {
		f.log.ErrorContext(ctx, "the keys have changed and are not good, the old ones stay", "file", f.path, "error", err.Error())
		return f.table.Load()
	}
	f.table.Store(t)
	f.log.InfoContext(ctx, "the keys have changed", "file", f.path, "keys", len(t.orgs))
	return t
}

// Authenticate returns the org of a request. The key may come as X-Api-Key, or as
// Authorization: "Bearer KEY", "Basic …" with the key as the password (or as the user
// when there is no password), or the bare KEY. The error is a [*remotewrite.Error]
// with status 401. It is made for server.Config.
func (f *File) Authenticate(r *http.Request) (string, error) {
	return f.Org(r.Context(), r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"))
}

// Org is Authenticate for the values of the two headers.
func (f *File) Org(ctx context.Context, authorization, apiKey string) (string, error) {
	refuse := func(detail string) (string, error) {
		return "", &remotewrite.Error{
			Status: http.StatusUnauthorized, Reason: "unauthorized", Detail: detail,
			Hint: "send Authorization: Bearer KEY (in Prometheus authorization: {credentials_file: …}) or X-Api-Key: KEY",
		}
	}
	candidates := presented(authorization, apiKey)
	if len(candidates) == 0 {
		return refuse("the request has no API key")
	}
	t := f.current(ctx)
	for _, key := range candidates {
		if org, ok := t.Org(key); ok {
			return org, nil
		}
	}
	return refuse("the API key is not known")
}

// presented returns the keys that a request shows, never an empty one.
func presented(authorization, apiKey string) []string {
	var keys []string
	add := func(s string) {
		if s = strings.TrimSpace(s); s != "" {
			keys = append(keys, s)
		}
	}
	add(apiKey)
	kind, rest, _ := strings.Cut(strings.TrimSpace(authorization), " ")
	switch {
	case strings.EqualFold(kind, "Bearer"):
		add(rest)
	case strings.EqualFold(kind, "Basic"):
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
		if err != nil {
			break
		}
		user, password, _ := strings.Cut(string(b), ":")
		if password == "" {
			password = user
		}
		add(password)
	case rest == "":
		add(kind)
	}
	return keys
}
