package collector

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

// counting is a receiver that only counts.
type counting struct{ requests, bytes atomic.Int64 }

func (c *counting) RoundTrip(req *http.Request) (*http.Response, error) {
	n, err := io.Copy(io.Discard, req.Body)
	if err != nil {
		return nil, err
	}
	c.requests.Add(1)
	c.bytes.Add(n)
	if strings.Contains(req.Header.Get("Content-Type"), "v2") {
		return status(204, "", remotewrite.HeaderSamplesWritten, "1000000").response(), nil
	}
	return status(204, "").response(), nil
}

// held is what the process holds: open files (0 where the system does not say),
// goroutines, and bytes of heap after a collection.
func held() (files, goroutines int, heap uint64) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err == nil {
		files = len(entries)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return files, runtime.NumGoroutine(), m.HeapAlloc
}

// TestManySegments is test (i): ten thousand segments go through, in twenty lanes,
// and the process holds no more at the end than it did early on.
func TestManySegments(t *testing.T) {
	rounds := 10_000
	if testing.Short() {
		rounds = 2_000
	}
	synctest.Test(t, func(t *testing.T) {
		recv := &counting{}
		r := newRig(t, &receiver{}, spool.Options{SegmentBytes: 1, KeepSent: -1}, func(c *Config) {
			c.Transport, c.BatchAge = recv, 3*time.Second
		})
		r.run()
		body := samples(t, 5, epoch, 0)
		var files, goroutines int
		var heap uint64
		for i := range rounds {
			res := r.core.Ingest(t.Context(), server.Input{
				Org: fmt.Sprint("org-", i%20), Cluster: "c", ContentType: remotewrite.V1.ContentType(), ContentEncoding: "snappy", Body: body,
			})
			if res.Status != http.StatusNoContent {
				t.Fatalf("round %d: status %d", i, res.Status)
			}
			if i%3 == 0 { // so that some are merged
				time.Sleep(100 * time.Millisecond)
			}
			if i == rounds/10 {
				synctest.Wait()
				files, goroutines, heap = held()
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		f, g, h := held()
		if f > files || g > goroutines+1 || h > heap+1<<20 {
			t.Errorf("open files %d, later %d; goroutines %d, later %d; heap %d, later %d", files, f, goroutines, g, heap, h)
		}
		s := r.q.Stats()
		if s.Pending.Records != 0 || r.f.Stats().Records != int64(rounds) || s.Segments > 1 {
			t.Errorf("%+v, %+v", s, r.f.Stats())
		}
		t.Logf("%d segments; open files %d → %d, goroutines %d → %d, heap %d → %d KiB, %d requests", rounds, files, f, goroutines, g, heap>>10, h>>10, recv.requests.Load())
	})
}
