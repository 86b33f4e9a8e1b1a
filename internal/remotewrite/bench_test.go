package remotewrite

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// benchLabels are the ten labels of series i, as a Kubernetes scrape has them.
func benchLabels(i int) [][2]string {
	return [][2]string{
		{"__name__", fmt.Sprintf("container_network_receive_bytes_%d_total", i%50)},
		{"cluster", "production-eu-west-1"},
		{"container", fmt.Sprintf("service-%d", i%20)},
		{"id", fmt.Sprintf("/kubepods/burstable/pod%08d", i)},
		{"instance", "10.12.34.56:10250"},
		{"interface", "eth0"},
		{"job", "kubelet"},
		{"namespace", "observability"},
		{"node", "ip-10-12-34-56.eu-west-1.compute.internal"},
		{"pod", fmt.Sprintf("service-%d-7d9f8b6c5d-x2k4q", i%100)},
	}
}

// benchRequest is a request of n series of ten labels and one sample each.
func benchRequest(tb testing.TB, v Version, n int) []byte {
	tb.Helper()
	ms := capturedAt.UnixMilli()
	var b []byte
	var err error
	if v == V1 {
		var m prompb.WriteRequest
		for i := range n {
			ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: float64(i) * 1.5, Timestamp: ms - int64(i)}}}
			for _, l := range benchLabels(i) {
				ts.Labels = append(ts.Labels, prompb.Label{Name: l[0], Value: l[1]})
			}
			m.Timeseries = append(m.Timeseries, ts)
		}
		b, err = m.Marshal()
	} else {
		table := writev2.NewSymbolTable()
		var m writev2.Request
		for i := range n {
			ts := writev2.TimeSeries{Samples: []writev2.Sample{{Value: float64(i) * 1.5, Timestamp: ms - int64(i)}}}
			for _, l := range benchLabels(i) {
				ts.LabelsRefs = append(ts.LabelsRefs, table.Symbolize(l[0]), table.Symbolize(l[1]))
			}
			m.Timeseries = append(m.Timeseries, ts)
		}
		m.Symbols = table.Symbols()
		b, err = m.Marshal()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// unmarshal is what a receiver without this package does.
func unmarshal(v Version, b []byte) error {
	if v == V1 {
		var m prompb.WriteRequest
		return m.Unmarshal(b)
	}
	var m writev2.Request
	return m.Unmarshal(b)
}

// reportRatio times what f replaces and reports how many times faster f is: the
// median over rounds in which the two take turns, so that the ratio means
// something on a busy machine too. The collector's work for what is replaced is
// in its time.
func reportRatio(b *testing.B, f, replaced func()) {
	b.Helper()
	timed := func(f func()) float64 {
		start := time.Now()
		for range 16 {
			f()
		}
		return float64(time.Since(start))
	}
	var ratios []float64
	for range 31 {
		ratios = append(ratios, timed(replaced)/timed(f))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x-prompb")
}

// benchDecodeWalk is the path of a request from its compressed body. Budget: 0
// allocations and at least 8 times faster than snappy and prompb.
func benchDecodeWalk(b *testing.B, v Version, decoded []byte) {
	b.Helper()
	body := snappy.Encode(nil, decoded)
	var w Walker
	var buf, buf2 []byte
	walk := func() {
		var err error
		if buf, err = Decode(buf, body, 0); err == nil {
			_, err = w.Walk(v, buf, Limits{}, capturedAt)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	replaced := func() {
		var err error
		if buf2, err = snappy.Decode(buf2[:cap(buf2)], body); err == nil {
			err = unmarshal(v, buf2)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(decoded)))
	for b.Loop() {
		walk()
	}
	reportRatio(b, walk, replaced)
}

func BenchmarkDecodeWalkV1(b *testing.B) { benchDecodeWalk(b, V1, benchRequest(b, V1, 500)) }

func BenchmarkDecodeWalkV2(b *testing.B) { benchDecodeWalk(b, V2, benchRequest(b, V2, 2000)) }

// BenchmarkDecodeWalkV1Unseen is of series that the walker does not remember: 200,000, in requests of 500 that take
// turns. Budget as above.
func BenchmarkDecodeWalkV1Unseen(b *testing.B) {
	var bodies [400][]byte
	for i := range bodies {
		bodies[i] = snappy.Encode(nil, scrape(b, 500*i, 500))
	}
	var w Walker
	var buf, buf2 []byte
	var at, at2 int
	walk := func() {
		var err error
		if buf, err = Decode(buf, bodies[at%len(bodies)], 0); err == nil {
			_, err = w.Walk(V1, buf, Limits{}, capturedAt)
		}
		if at++; err != nil {
			b.Fatal(err)
		}
	}
	replaced := func() {
		var err error
		if buf2, err = snappy.Decode(buf2[:cap(buf2)], bodies[at2%len(bodies)]); err == nil {
			err = unmarshal(V1, buf2)
		}
		if at2++; err != nil {
			b.Fatal(err)
		}
	}
	walk()
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		walk()
	}
	reportRatio(b, walk, replaced)
}

// benchWalk is the walk alone. Budget: 0 allocations, several GB/s for 1.0.
func benchWalk(b *testing.B, v Version, decoded []byte) {
	b.Helper()
	var w Walker
	walk := func() {
		if _, err := w.Walk(v, decoded, Limits{}, capturedAt); err != nil {
			b.Fatal(err)
		}
	}
	replaced := func() {
		if err := unmarshal(v, decoded); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(decoded)))
	for b.Loop() {
		walk()
	}
	reportRatio(b, walk, replaced)
}

func BenchmarkWalkV1(b *testing.B) { benchWalk(b, V1, benchRequest(b, V1, 500)) }

func BenchmarkWalkV2(b *testing.B) { benchWalk(b, V2, benchRequest(b, V2, 2000)) }

func BenchmarkWalkCapture(b *testing.B) {
	for _, name := range captureNames(b, 0) {
		b.Run(name, func(b *testing.B) {
			_, v, decoded := decodeCapture(b, name)
			benchWalk(b, v, decoded)
		})
	}
}

func BenchmarkDecodeWalkCapture(b *testing.B) {
	for _, name := range captureNames(b, 0) {
		b.Run(name, func(b *testing.B) {
			_, v, decoded := decodeCapture(b, name)
			benchDecodeWalk(b, v, decoded)
		})
	}
}

// BenchmarkShift moves a request to and fro. Budget: 0 allocations.
func BenchmarkShift(b *testing.B) {
	for _, v := range []Version{V1, V2} {
		b.Run(v.String(), func(b *testing.B) {
			decoded := benchRequest(b, v, 500)
			b.ReportAllocs()
			b.SetBytes(int64(len(decoded)))
			delta := int64(1000)
			for b.Loop() {
				if err := Shift(v, decoded, delta); err != nil {
					b.Fatal(err)
				}
				delta = -delta
			}
		})
	}
}
