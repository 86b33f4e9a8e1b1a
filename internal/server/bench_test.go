package server_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// BenchmarkIngest measures the core alone, without storing.
func BenchmarkIngest(b *testing.B) {
	for _, name := range []string{"v1-prom242-500samples-plain", "v2-prom3-2000samples-plain"} {
		b.Run(name, func(b *testing.B) {
			r := readRecorded(b, name+".snappy")
			core := newCore(b, server.Config{Sink: server.NewStoreSink(store.Null{})})
			in := r.input()
			b.SetBytes(int64(len(r.Body)))
			b.ReportAllocs()
			for b.Loop() {
				if res := core.Ingest(context.Background(), in); res.Status != http.StatusNoContent {
					b.Fatal(res.Message)
				}
			}
		})
	}
}

// BenchmarkHandler measures the HTTP face without the network.
func BenchmarkHandler(b *testing.B) {
	r := readRecorded(b, "v1-prom242-500samples-plain.snappy")
	h := newCore(b, server.Config{Sink: server.NewStoreSink(store.Null{})}).Handler()
	b.SetBytes(int64(len(r.Body)))
	b.ReportAllocs()
	for b.Loop() {
		req := httptest.NewRequestWithContext(context.Background(), http.MethodPost, server.PathWrite, bytes.NewReader(r.Body))
		req.Header = r.Header
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != http.StatusNoContent {
			b.Fatal(w.Body)
		}
	}
}
