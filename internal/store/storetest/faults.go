package storetest

import (
	"context"
	"fmt"
	"iter"

	"github.com/cirrusbench/cirrusbench/internal/store"
)

// The operations that a hook of [Faults] is told about.
const (
	OpPut  = "put"
	OpGet  = "get"
	OpList = "list" // the key is the prefix
)

// Faults is a store in front of another one that fails as its hooks say.
type Faults struct {
	Store store.Store

	// Hook decides about an operation: whether it is applied to the store, and the
	// error that the caller gets. (true, nil) is a store that works, (false, err) one
	// that failed, and (true, err) one that failed but persisted: the answer was lost.
	// (false, nil) is a store that lies: a Put that stores nothing, a Get that does not
	// find. nil: everything works.
	Hook func(op, key string) (apply bool, err error)

	// Wait runs before Hook; it makes a store slow, and should heed ctx. An error of it
	// is the result of the operation. nil: no wait.
	Wait func(ctx context.Context, op, key string) error
}

var _ store.Store = Faults{}

func (f Faults) decide(ctx context.Context, op, key string) (bool, error) {
	if f.Wait != nil {
		if err := f.Wait(ctx, op, key); err != nil {
			return false, err
		}
	}
	if f.Hook == nil {
		return true, nil
	}
	return f.Hook(op, key)
}

// Put implements [store.Store]. created is false with an injected error.
func (f Faults) Put(ctx context.Context, key string, body []byte) (bool, error) {
	apply, injected := f.decide(ctx, OpPut, key)
	if !apply {
		return injected == nil, injected
	}
	created, err := f.Store.Put(ctx, key, body)
	if err == nil && injected != nil {
		return false, injected
	}
	return created, err
}

// Get implements [store.Store].
func (f Faults) Get(ctx context.Context, key string) ([]byte, error) {
	apply, injected := f.decide(ctx, OpGet, key)
	switch {
	case injected != nil:
		return nil, injected
	case !apply:
		return nil, fmt.Errorf("getting %s: %w", key, store.ErrNotFound)
	}
	return f.Store.Get(ctx, key)
}

// List implements [store.Store]. With an injected error and apply the listing breaks
// off after its first object.
func (f Faults) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		apply, injected := f.decide(ctx, OpList, prefix)
		if apply {
			for o, err := range f.Store.List(ctx, prefix) {
				if !yield(o, err) {
					return
				}
				if injected != nil {
					break
				}
			}
		}
		if injected != nil {
			yield(store.Object{}, injected)
		}
	}
}
