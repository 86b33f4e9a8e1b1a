package capture

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// DefaultMemoryBytes is the total size of bodies up to which a corpus is kept in
// memory when [Options] does not say.
const DefaultMemoryBytes = 256 << 20

// defaultMaxDecodedBytes is that of remotewrite.Limits.
const defaultMaxDecodedBytes = 64 << 20

// defaultWorkers hides the latency of a remote store and suits a small machine.
const defaultWorkers = 4

// Options says what [Load] reads. The zero value reads everything.
type Options struct {
	Org     string // only this org; empty: all
	Cluster string // only clusters of this name; empty: all

	// Limits bound what a body may hold, as in the server that stored it. The tolerance
	// for timestamps in the future does not count: a capture may have been made
	// anywhere and at any time.
	Limits remotewrite.Limits

	// Location is how people call the store, for messages and results. Empty: the
	// String method of the store, if it has one.
	Location string

	// MemoryBytes is the total size of bodies up to which they stay in memory after
	// loading; a greater corpus is read from the store again, body by body. 0:
	// DefaultMemoryBytes. Negative: never in memory.
	MemoryBytes int64

	// Workers is the number of objects read and verified at a time. 0: 4.
	Workers int
}

// Entry describes one captured request.
type Entry struct {
	Key  Key
	Size int64 // bytes of the body as sent, compressed

	Samples    int
	Series     int
	Histograms int
	Exemplars  int

	// The oldest and the newest timestamp in the body, in milliseconds since the
	// epoch; zero and meaningless when HasTimestamp is false (metadata only).
	MinTimestampMS int64
	MaxTimestampMS int64
	HasTimestamp   bool
}

// Corpus is the index of the captured requests at a location, ordered by time and,
// where that is the same, by key. Its fields and entries are not to be changed. Its
// methods may be called from several goroutines at once.
type Corpus struct {
	Location string
	Bytes    int64  // of all bodies, compressed
	Samples  int64  // of all bodies; histograms not counted
	Foreign  int    // objects at the location that are not captured requests
	Example  string // the key of a foreign object, or empty

	entries []Entry
	bodies  [][]byte // like entries, or nil when they are read from the store
	store   store.Store
	sha256  string
}

// ObjectError says that an object which is named as a captured request is not
// one. Err wraps [ErrInvalidKey], [ErrMismatch], [ErrTooLarge] or a
// *remotewrite.Error.
type ObjectError struct {
	Key    string
	Err    error
	Hint   string
	Others int // further broken objects, whose keys come after Key
}

// What else can be wrong with an object.
var (
	// ErrMismatch says that the content of an object is not what its key promises.
	ErrMismatch = errors.New("content does not match the key")
	// ErrTooLarge says that an object is too long to be read at all.
	ErrTooLarge = errors.New("object is too large")
)

// Error names the object and the trouble, without the hint.
func (e *ObjectError) Error() string {
	if e.Others > 0 {
		return fmt.Sprintf("broken capture %s (and %d more): %v", clip(e.Key), e.Others, e.Err)
	}
	return fmt.Sprintf("broken capture %s: %v", clip(e.Key), e.Err)
}

// Unwrap returns the cause.
func (e *ObjectError) Unwrap() error { return e.Err }

// EmptyError says that there is nothing to replay at a location.
type EmptyError struct {
	Location string
	Foreign  int // objects that are something else
	Hint     string
}

// Error names the location, without the hint.
func (e *EmptyError) Error() string {
	if e.Foreign > 0 {
		return fmt.Sprintf("no captured requests at %s (%d other objects)", e.Location, e.Foreign)
	}
	return "no captured requests at " + e.Location
}

// Load lists the captured requests in s, reads each of them once and verifies it:
// the key has the layout, the hash is that of the body, the body decodes and is a
// valid request, and the time is that of its newest sample. Objects whose name does
// not end like a captured request are counted and left alone.
//
// It fails with an [*ObjectError] for the first broken object in the order of keys
// after having looked at all of them, and with an [*EmptyError] when there is none.
// The index needs a few hundred bytes of memory an object; for the bodies see
// Options.MemoryBytes.
func Load(ctx context.Context, s store.Store, opt Options) (*Corpus, error) {
	c := &Corpus{Location: opt.Location, store: s}
	if c.Location == "" {
		c.Location = "the given store"
		if named, ok := s.(fmt.Stringer); ok {
			c.Location = named.String()
		}
	}
	for _, name := range []string{opt.Org, opt.Cluster} {
		if name == "" {
			continue
		}
		if err := ValidName(name); err != nil {
			return nil, fmt.Errorf("loading corpus: %w", err)
		}
	}
	objects, err := c.list(ctx, opt)
	if err != nil {
		return nil, fmt.Errorf("loading corpus from %s: %w", c.Location, err)
	}
	if len(objects) == 0 {
		return nil, &EmptyError{Location: c.Location, Foreign: c.Foreign, Hint: emptyHint(opt, c)}
	}
	if limit := cmp.Or(opt.MemoryBytes, DefaultMemoryBytes); c.Bytes <= limit {
		c.bodies = make([][]byte, len(objects))
	}
	c.sha256 = hashKeys(objects) // they are still in the order of keys
	c.entries = make([]Entry, len(objects))
	if err := c.read(ctx, objects, opt); err != nil {
		return nil, err
	}
	c.sort()
	return c, nil
}

// Entries returns the index, which belongs to the corpus.
func (c *Corpus) Entries() []Entry { return c.entries }

// SHA256 identifies the corpus: the SHA-256, in 64 hexadecimal digits, of all keys
// in lexical order, each followed by a line feed. As a key holds the hash of its
// body, two corpora with the same sum hold the same requests.
func (c *Corpus) SHA256() string { return c.sha256 }

// Body returns the body of Entries()[i] as it was sent. It must not be changed. It
// fails only when the bodies do not fit in memory and the store fails, or no longer
// holds what it did.
func (c *Corpus) Body(ctx context.Context, i int) ([]byte, error) {
	if c.bodies != nil {
		return c.bodies[i], nil
	}
	key := c.entries[i].Key
	body, err := c.store.Get(ctx, key.String())
	if err != nil {
		return nil, fmt.Errorf("reading corpus: %w", err)
	}
	if hash(body) != key.Hash {
		return nil, fmt.Errorf("reading corpus: %w", mismatch(key.String()))
	}
	return body, nil
}

// InMemory reports whether all bodies are kept in memory.
func (c *Corpus) InMemory() bool { return c.bodies != nil }

// list returns the objects to load, in the order of keys, and counts.
func (c *Corpus) list(ctx context.Context, opt Options) ([]store.Object, error) {
	var objects []store.Object
	for o, err := range c.store.List(ctx, Prefix(opt.Org, opt.Cluster)) {
		if err != nil {
			return nil, err
		}
		if !isRequest(o.Key) {
			c.Foreign++
			if c.Example == "" {
				c.Example = o.Key
			}
			continue
		}
		if opt.Cluster != "" && opt.Org == "" {
			// A key that does not parse stays, to be reported.
			if k, err := ParseKey(o.Key); err == nil && k.Cluster != opt.Cluster {
				continue
			}
		}
		objects = append(objects, o)
		c.Bytes += o.Size
	}
	return objects, nil
}

func emptyHint(opt Options, c *Corpus) string {
	switch {
	case opt.Org != "" || opt.Cluster != "":
		return "leave out the filter by org or cluster, or check the names"
	case c.Foreign > 0:
		return "the files are called org=…/cluster=…/date=…/hour=…/….rw1.sz; give the directory that holds org=…"
	default:
		return "record some first: run `cirrusbench serve --store DIR` and let Prometheus write to it"
	}
}

// read verifies all objects with a few workers and fills in the entries.
func (c *Corpus) read(ctx context.Context, objects []store.Object, opt Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		next    atomic.Int64
		wg      sync.WaitGroup
		mu      sync.Mutex
		first   = len(objects) // guarded by mu, like broken and cause
		broken  int
		cause   error
		intern  sync.Map // names repeat in every key; one copy of each will do
		workers = min(cmp.Or(max(opt.Workers, 0), defaultWorkers), len(objects))
	)
	// Bytes that do not compress grow by a sixth and a little in a snappy block.
	decoded := int64(cmp.Or(max(opt.Limits.MaxDecodedBytes, 0), defaultMaxDecodedBytes))
	greatest := decoded + decoded/6 + 32
	refuse := func(i int, err error) {
		mu.Lock()
		defer mu.Unlock()
		broken++
		if i < first {
			first, cause = i, err
		}
	}
	for range workers {
		wg.Go(func() {
			var v verifier
			v.lim = opt.Limits
			v.lim.FutureTolerance = -1 // the clock plays no part here
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(objects) {
					return
				}
				if objects[i].Size > greatest {
					refuse(i, fmt.Errorf("%w: %d bytes, the longest request that decodes within the limit has %d",
						ErrTooLarge, objects[i].Size, greatest))
					continue
				}
				body, err := c.store.Get(ctx, objects[i].Key)
				if err != nil {
					cancel(err) // the store fails: no use in going on
					return
				}
				entry, err := v.verify(objects[i].Key, body)
				if err != nil {
					refuse(i, err)
					continue
				}
				entry.Key.Hash = strings.Clone(entry.Key.Hash)
				entry.Key.Org = internName(&intern, entry.Key.Org)
				entry.Key.Cluster = internName(&intern, entry.Key.Cluster)
				c.entries[i] = entry
				if c.bodies != nil {
					c.bodies[i] = body
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("loading corpus from %s: %w", c.Location, context.Cause(ctx))
	}
	if broken > 0 {
		key := objects[first].Key
		return &ObjectError{Key: key, Err: cause, Others: broken - 1, Hint: hintFor(cause)}
	}
	return nil
}

// internName returns one copy of a name that is a part of many long keys, so that
// the keys can be freed.
func internName(m *sync.Map, s string) string {
	if v, ok := m.Load(s); ok {
		return v.(string) //nolint:errcheck // only strings are stored
	}
	s = strings.Clone(s)
	m.Store(s, s)
	return s
}

func hintFor(err error) string {
	switch {
	case errors.Is(err, ErrInvalidKey):
		return "do not rename captured requests; give the directory that holds org=…"
	case errors.Is(err, ErrMismatch):
		return "the object was cut or changed after it was stored: delete it or copy it again"
	case errors.Is(err, ErrTooLarge):
		return "raise the limit for decoded bytes to that of the server which stored it"
	}
	const hint = "the server would not accept this request: delete the object, or raise the limits if it breaks one"
	if e, ok := errors.AsType[*remotewrite.Error](err); ok && e.Hint != "" {
		return hint + " (" + e.Hint + ")"
	}
	return hint
}

// sort puts the entries in the order of time, then key. They are in that of keys.
func (c *Corpus) sort() {
	order := make([]int, len(c.entries))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return c.entries[a].Key.Time.Compare(c.entries[b].Key.Time)
	})
	entries := make([]Entry, len(order))
	for to, from := range order {
		entries[to] = c.entries[from]
		c.Samples += int64(c.entries[from].Samples)
	}
	c.entries = entries
	if c.bodies != nil {
		bodies := make([][]byte, len(order))
		for to, from := range order {
			bodies[to] = c.bodies[from]
		}
		c.bodies = bodies
	}
}

// verifier holds the buffers that verifying one body after the other reuses.
type verifier struct {
	lim     remotewrite.Limits
	walker  remotewrite.Walker
	decoded []byte
}

func (v *verifier) verify(name string, body []byte) (Entry, error) {
	key, err := ParseKey(name)
	if err != nil {
		return Entry{}, err
	}
	if hash(body) != key.Hash {
		return Entry{}, mismatch(name)
	}
	if v.decoded, err = remotewrite.Decode(v.decoded, body, v.lim.MaxDecodedBytes); err != nil {
		return Entry{}, err
	}
	sum, err := v.walker.Walk(key.Version, v.decoded, v.lim, time.Time{})
	if err != nil {
		return Entry{}, err
	}
	if sum.HasTimestamp && sum.MaxTimestampMS != key.Time.UnixMilli() {
		return Entry{}, fmt.Errorf("%w: the newest sample is of %s",
			ErrMismatch, time.UnixMilli(sum.MaxTimestampMS).UTC().Format(time.RFC3339Nano))
	}
	e := Entry{
		Key: key, Size: int64(len(body)),
		Samples: sum.Samples, Series: sum.Series, Histograms: sum.Histograms(), Exemplars: sum.Exemplars,
		HasTimestamp: sum.HasTimestamp,
	}
	if sum.HasTimestamp {
		e.MinTimestampMS, e.MaxTimestampMS = sum.MinTimestampMS, sum.MaxTimestampMS
	}
	return e, nil
}

func mismatch(key string) error {
	return fmt.Errorf("%w: the hash of %s is another", ErrMismatch, clip(key))
}

// hashKeys hashes the keys, which are in lexical order.
func hashKeys(objects []store.Object) string {
	h := sha256.New()
	for _, o := range objects {
		io.WriteString(h, o.Key) //nolint:errcheck // a hash never fails to write
		io.WriteString(h, "\n")  //nolint:errcheck // a hash never fails to write
	}
	return hex.EncodeToString(h.Sum(nil))
}
