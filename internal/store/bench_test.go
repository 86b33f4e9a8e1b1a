package store_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/store"
)

// BenchmarkDirPut measures a durable put of 13 KB, syncs included.
func BenchmarkDirPut(b *testing.B) {
	d, err := store.NewDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 13_000)
	n := 0
	for b.Loop() {
		if _, err := d.Put(b.Context(), fmt.Sprintf("org=a/cluster=b/%d", n), body); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
