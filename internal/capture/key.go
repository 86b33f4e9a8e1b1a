package capture

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// Key names a captured request. It is made of the request alone, so that a sender
// which repeats itself repeats the key.
type Key struct {
	Org     string
	Cluster string
	// Time is the greatest timestamp in the body, in UTC and whole milliseconds. A
	// body without one (metadata only) has the time when it was received.
	Time time.Time
	// Hash is the first half of the SHA-256 of the body as received, in 32 lower-case
	// hexadecimal digits.
	Hash    string
	Version remotewrite.Version
}

// ErrInvalidName says that an org or a cluster has a name that may not be part of a
// key.
var ErrInvalidName = errors.New("invalid name")

// ErrInvalidKey says that a key does not have the layout of a captured request.
var ErrInvalidKey = errors.New("invalid capture key")

const (
	maxNameBytes = 64
	timeLayout   = "20060102T150405.000Z"
	hashBytes    = 16
)

// NewKey returns the key of the request that org sent for cluster with protocol v.
// maxTimestamp is cut to milliseconds; its year must be in 0 to 9999 for the key to
// be read back by [ParseKey].
func NewKey(org, cluster string, v remotewrite.Version, maxTimestamp time.Time, body []byte) Key {
	return Key{
		Org: org, Cluster: cluster, Version: v,
		Time: time.UnixMilli(maxTimestamp.UnixMilli()).UTC(),
		Hash: hash(body),
	}
}

func hash(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:hashBytes])
}

// String returns the key as a path:
//
//	org=<org>/cluster=<cluster>/date=2006-01-02/hour=15/20060102T150405.000Z-<hash>.rw1.sz
//
// with .rw2.sz for protocol 2.0.
func (k Key) String() string {
	t := k.Time.UTC()
	b := make([]byte, 0, 160)
	b = append(b, "org="...)
	b = append(b, k.Org...)
	b = append(b, "/cluster="...)
	b = append(b, k.Cluster...)
	b = t.AppendFormat(b, "/date=2006-01-02/hour=15/")
	b = t.AppendFormat(b, timeLayout)
	b = append(b, '-')
	b = append(b, k.Hash...)
	b = append(b, ".rw"...)
	b = append(b, '0'+byte(k.Version))
	b = append(b, ".sz"...)
	return string(b)
}

// Prefix returns what the keys of all requests of org and cluster start with. An
// empty cluster stands for all clusters of the org, an empty org for everything.
func Prefix(org, cluster string) string {
	switch {
	case org == "":
		return ""
	case cluster == "":
		return "org=" + org + "/"
	default:
		return "org=" + org + "/cluster=" + cluster + "/"
	}
}

// ParseKey reads a key back. The layout is strict: a string that is accepted is the
// String of the key returned. Errors wrap [ErrInvalidKey].
func ParseKey(s string) (Key, error) {
	k, err := cutKey(s)
	if err != nil {
		return Key{}, fmt.Errorf("%w %q: %w", ErrInvalidKey, clip(s), err)
	}
	if k.String() != s {
		return Key{}, fmt.Errorf("%w %q: date and hour are not those of the time", ErrInvalidKey, clip(s))
	}
	return k, nil
}

// errLayout says what a key looks like. The key is taken apart by hand: compiling a
// regular expression is a tenth of a millisecond of each start on Lambda.
var errLayout = errors.New("not org=…/cluster=…/date=…/hour=…/<time>-<hash>.rwN.sz")

// cutKey takes a key apart. That date and hour are those of the time, and that nothing
// else is in it, shows when the key is put together again.
func cutKey(s string) (Key, error) {
	elements := strings.Split(s, "/")
	if len(elements) != 5 {
		return Key{}, errLayout
	}
	org, isOrg := strings.CutPrefix(elements[0], "org=")
	cluster, isCluster := strings.CutPrefix(elements[1], "cluster=")
	if !isOrg || !isCluster || !strings.HasPrefix(elements[2], "date=") || !strings.HasPrefix(elements[3], "hour=") {
		return Key{}, errLayout
	}
	at, rest, _ := strings.Cut(elements[4], "-")
	h, version, ok := strings.Cut(rest, ".rw")
	if !ok || version != "1.sz" && version != "2.sz" || !isHash(h) {
		return Key{}, errLayout
	}
	for _, name := range []string{org, cluster} {
		if err := ValidName(name); err != nil {
			return Key{}, err
		}
	}
	t, err := time.Parse(timeLayout, at)
	if err != nil {
		return Key{}, err
	}
	return Key{Org: org, Cluster: cluster, Time: t, Hash: h, Version: remotewrite.Version(version[0] - '0')}, nil
}

func isHash(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 2*hashBytes
}

// ValidName reports whether s may be the name of an org or a cluster: 1 to 64 of
// A-Z a-z 0-9 . _ - and neither "." nor "..". It is what stands between a header
// that anybody can send and the path of a file. The error wraps [ErrInvalidName].
func ValidName(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidName)
	case len(s) > maxNameBytes:
		return fmt.Errorf("%w %q: %d bytes, the limit is %d", ErrInvalidName, clip(s), len(s), maxNameBytes)
	case s == "." || s == "..":
		return fmt.Errorf("%w %q", ErrInvalidName, s)
	}
	bad := func(r rune) bool {
		switch {
		case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
			return false
		}
		return true
	}
	if strings.ContainsFunc(s, bad) {
		return fmt.Errorf("%w %q: only A-Z a-z 0-9 . _ - are allowed", ErrInvalidName, clip(s))
	}
	return nil
}

// isRequest says whether a key ends like that of a captured request, of versions to come
// too: .rwN.sz.
func isRequest(key string) bool {
	rest, ok := strings.CutSuffix(key, ".sz")
	stem := strings.TrimRight(rest, "0123456789")
	return ok && stem != rest && strings.HasSuffix(stem, ".rw")
}

// clip keeps a hostile name from filling a log or a page.
func clip(s string) string {
	const limit = 200
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
