package store

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
)

// Memory is a store that lasts as long as the process: for tests and trials. Use
// [NewMemory].
type Memory struct {
	mu      sync.RWMutex
	objects map[string][]byte // guarded by mu; the byte slices are never changed
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store in memory.
func NewMemory() *Memory { return &Memory{objects: map[string][]byte{}} }

// String returns the location of the store.
func (m *Memory) String() string { return "mem:" }

// Put implements [Store]. Only the life of the process makes it durable.
func (m *Memory) Put(ctx context.Context, key string, body []byte) (bool, error) {
	if err := check(ctx, "putting", key); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.objects[key]; ok {
		if !bytes.Equal(old, body) {
			return false, fmt.Errorf("putting %s: %w", key, ErrConflict)
		}
		return false, nil
	}
	m.objects[key] = bytes.Clone(body)
	return true, nil
}

// Get implements [Store].
func (m *Memory) Get(ctx context.Context, key string) ([]byte, error) {
	if err := check(ctx, "getting", key); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	body, ok := m.objects[key]
	if !ok {
		return nil, fmt.Errorf("getting %s: %w", key, ErrNotFound)
	}
	return append([]byte{}, body...), nil
}

// List implements [Store]. It takes a copy of the matching keys when it starts.
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		m.mu.RLock()
		var found []Object
		for key, body := range m.objects {
			if strings.HasPrefix(key, prefix) {
				found = append(found, Object{Key: key, Size: int64(len(body))})
			}
		}
		m.mu.RUnlock()
		slices.SortFunc(found, func(a, b Object) int { return strings.Compare(a.Key, b.Key) })
		for _, o := range found {
			if err := ctx.Err(); err != nil {
				yield(Object{}, listError(prefix, err))
				return
			}
			if !yield(o, nil) {
				return
			}
		}
	}
}

// Null is a store that checks keys and throws everything away: every Put creates,
// nothing is ever found.
type Null struct{}

var _ Store = Null{}

// String returns the location of the store.
func (Null) String() string { return "null:" }

// Discard is [Null.Put] of an object that has no key: naming what is thrown away would
// only cost. It fails when ctx is done.
func (Null) Discard(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("discarding an object: %w", err)
	}
	return nil
}

// Put implements [Store] without storing anything.
func (Null) Put(ctx context.Context, key string, _ []byte) (bool, error) {
	if err := check(ctx, "putting", key); err != nil {
		return false, err
	}
	return true, nil
}

// Get implements [Store]; nothing is ever found.
func (Null) Get(ctx context.Context, key string) ([]byte, error) {
	if err := check(ctx, "getting", key); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("getting %s: %w", key, ErrNotFound)
}

// List implements [Store]; it is always empty.
func (Null) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(Object{}, listError(prefix, err))
		}
	}
}

// check is what every call does first: look at the context and at the key.
func check(ctx context.Context, verb, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", verb, clip(key), err)
	}
	if err := ValidKey(key); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

func listError(prefix string, err error) error {
	if prefix == "" {
		return fmt.Errorf("listing objects: %w", err)
	}
	return fmt.Errorf("listing objects under %q: %w", clip(prefix), err)
}
