package spool

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// BenchmarkDurable appends 13 KB bodies, the size that Prometheus sends, from 32
// senders, and then from one sender after the other, each with a sync of its own. It
// prints the ratio of both, and how often this disk syncs such a body without a queue.
func BenchmarkDurable(b *testing.B) {
	body := make([]byte, 13<<10)
	single := durablePerSecond(b, 1, 300, body)
	disk := syncsPerSecond(b, 300, body)
	b.ResetTimer()
	grouped := 0.0
	for b.Loop() {
		grouped = durablePerSecond(b, 32, 6000, body)
	}
	b.ReportMetric(grouped, "requests/s")
	b.ReportMetric(grouped/single, "x-one-sync-each")
	b.ReportMetric(disk, "bare-fdatasync/s")
	b.ReportMetric(0, "ns/op")
}

func durablePerSecond(b *testing.B, senders, n int, body []byte) float64 {
	b.Helper()
	q, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range n / senders {
				if _, err := q.Append(context.Background(), &Record{Lane: alfa, Received: began, Version: 1, Body: body}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
	return float64(n) / took.Seconds()
}

func syncsPerSecond(b *testing.B, n int, body []byte) float64 {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	began := time.Now()
	for range n {
		if _, err := f.Write(body); err != nil {
			b.Fatal(err)
		}
		if err := syncData(f); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(began).Seconds()
}
