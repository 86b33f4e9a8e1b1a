// Package store keeps objects: named, immutable byte strings in a directory, in
// memory or elsewhere. It is the place where the reference server puts the requests
// it has accepted and from where replay reads them back.
//
// Objects are put once and never changed. A key is a slash-separated path such as
// "org=alfa/cluster=eu-1/date=2026-11-20/hour=18/20261120T182501.123Z-….rw1.sz";
// [ValidKey] has the rules, which are the same for every backend.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cirrusbench/cirrusbench/internal/durable"
)

// Object is what a listing tells of a stored object.
type Object struct {
	Key  string
	Size int64 // bytes
}

// Store is an object store. Its methods may be called from several goroutines at
// once. A key that breaks the rules of [ValidKey] is an error wrapping
// [ErrInvalidKey] everywhere. package storetest checks every backend against this
// contract.
type Store interface {
	// Put stores body under key unless there is an object with this key already.
	// When it returns without error the object is as durable as the backend can make
	// it; created is false when it was there before, which is a success. A backend
	// that sees that the stored object has another content returns an error wrapping
	// ErrConflict. An error leaves open whether the object was stored; it is never
	// stored in part, and the caller may put it again. Put does not keep body.
	Put(ctx context.Context, key string, body []byte) (created bool, err error)

	// Get returns the object, or an error wrapping ErrNotFound. The caller owns the
	// bytes.
	Get(ctx context.Context, key string) ([]byte, error)

	// List yields every object whose key starts with prefix, byte for byte, in
	// lexical order of the keys. An object put or lost while the listing runs may be
	// in it or not. An error, also that of a cancelled context, is yielded as the last
	// element with the zero Object. A place that does not exist yet is empty. The
	// memory used does not grow with the number of objects as far as the backend
	// allows it; each says so.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
}

// Errors that callers tell apart.
var (
	ErrNotFound   = errors.New("no such object")
	ErrConflict   = errors.New("another content is stored under this key")
	ErrReadOnly   = errors.New("store is read-only")
	ErrInvalidKey = errors.New("invalid object key")
)

// MaxKeyBytes is the greatest length of a key, which is that of S3.
const MaxKeyBytes = 1024

// maxElementBytes is the greatest length of a file name on the usual file systems.
const maxElementBytes = 255

// ValidKey reports whether key may name an object: 1 to 1024 bytes of valid UTF-8
// without control characters and backslashes, whose slash-separated elements are
// 1 to 255 bytes long and neither "." nor ".." nor a name that the directory store
// uses for unfinished files. The error wraps [ErrInvalidKey].
func ValidKey(key string) error {
	bad := func(why string) error { return fmt.Errorf("%w %q: %s", ErrInvalidKey, clip(key), why) }
	switch {
	case key == "":
		return bad("it is empty")
	case len(key) > MaxKeyBytes:
		return bad(fmt.Sprintf("%d bytes, the limit is %d", len(key), MaxKeyBytes))
	case !utf8.ValidString(key):
		return bad("not valid UTF-8")
	case strings.ContainsFunc(key, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }):
		return bad("control character or backslash")
	case !fs.ValidPath(key) || key == ".":
		return bad("empty element, \".\" or \"..\"")
	}
	for element := range strings.SplitSeq(key, "/") {
		if durable.IsTemp(element) {
			return bad("the name of an unfinished file")
		}
		if len(element) > maxElementBytes {
			return bad(fmt.Sprintf("element of %d bytes, the limit is %d", len(element), maxElementBytes))
		}
	}
	return nil
}

// clip keeps a hostile key from filling a log.
func clip(s string) string {
	const limit = 128
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
