package remotewrite_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// request makes the body of a 1.0 request.
func request(series ...prompb.TimeSeries) []byte {
	m := prompb.WriteRequest{Timeseries: series}
	b, err := m.Marshal()
	if err != nil {
		panic(err)
	}
	return snappy.Encode(nil, b)
}

func ExampleWalker_Walk() {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	body := request(
		prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: "up"}, {Name: "job", Value: "api"}},
			Samples: []prompb.Sample{{Value: 1, Timestamp: now.UnixMilli()}},
		},
		prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "job", Value: "api"}},
			Samples: []prompb.Sample{{Value: 1, Timestamp: now.Unix()}},
		},
	)

	v, err := remotewrite.Negotiate("application/x-protobuf", "snappy")
	if err != nil {
		fmt.Println(err)
		return
	}
	decoded, err := remotewrite.Decode(nil, body, 32<<20)
	if err != nil {
		fmt.Println(err)
		return
	}
	var w remotewrite.Walker // keep it, and the buffer, for the next request
	sum, err := w.Walk(v, decoded, remotewrite.Limits{}, now)
	fmt.Println("good:", sum.Series, "series,", sum.Samples, "samples, the last at", time.UnixMilli(sum.MaxTimestampMS).UTC().Format(time.TimeOnly))
	if e, ok := errors.AsType[*remotewrite.Error](err); ok {
		fmt.Println(e.Status, e.Reason)
		fmt.Println(e)
		fmt.Println("hint:", e.Hint)
	}
	// Output:
	// good: 1 series, 1 samples, the last at 12:00:00
	// 400 timestamp_seconds
	// series 1: a sample has the timestamp 1795176000, which is no plausible number of milliseconds
	// hint: timestamps are milliseconds since 1970-01-01 UTC; these look like seconds, multiply by 1000
}

func ExampleShift() {
	recorded := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	decoded, err := snappy.Decode(nil, request(prompb.TimeSeries{
		Labels:  []prompb.Label{{Name: "__name__", Value: "up"}},
		Samples: []prompb.Sample{{Value: 1, Timestamp: recorded.UnixMilli()}},
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := remotewrite.Shift(remotewrite.V1, decoded, (24 * time.Hour).Milliseconds()); err != nil {
		fmt.Println(err)
		return
	}
	var w remotewrite.Walker
	sum, err := w.Walk(remotewrite.V1, decoded, remotewrite.Limits{}, recorded.Add(24*time.Hour))
	fmt.Println(time.UnixMilli(sum.MinTimestampMS).UTC().Format(time.RFC3339), err)
	// Output: 2026-11-21T12:00:00Z <nil>
}
