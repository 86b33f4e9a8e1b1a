package promtsdb

import (
	"fmt"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// encoder makes bodies as Prometheus does: a series for every sample, every histogram and every exemplar.
type encoder struct {
	v1     prompb.WriteRequest
	v2     writev2.Request
	walker remotewrite.Walker
}

// encode returns the compressed body and what is in it. An error of type *remotewrite.Error says that a
// receiver would refuse it.
func (e *encoder) encode(v remotewrite.Version, samples []sample) ([]byte, remotewrite.Summary, error) {
	var raw []byte
	var err error
	if v == remotewrite.V1 {
		e.fillV1(samples)
		raw, err = e.v1.Marshal()
	} else {
		e.fillV2(samples)
		raw, err = e.v2.Marshal()
	}
	if err != nil {
		return nil, remotewrite.Summary{}, fmt.Errorf("marshalling a request: %w", err)
	}
	sum, err := e.walker.Walk(v, raw, remotewrite.Limits{FutureTolerance: -1}, time.Time{})
	if err != nil {
		return nil, remotewrite.Summary{}, err
	}
	return snappy.Encode(nil, raw), sum, nil
}

func (e *encoder) fillV1(samples []sample) {
	r := &e.v1
	r.Timeseries = r.Timeseries[:0]
	for i := range samples {
		s := &samples[i]
		ts := prompb.TimeSeries{Labels: prompb.FromLabels(s.series.labels, nil)}
		switch {
		case s.exemplar != nil:
			ts.Exemplars = []prompb.Exemplar{{Labels: prompb.FromLabels(*s.exemplar, nil), Value: s.v, Timestamp: s.t}}
		case s.h != nil:
			ts.Histograms = []prompb.Histogram{prompb.FromIntHistogram(s.t, s.h)}
		case s.fh != nil:
			ts.Histograms = []prompb.Histogram{prompb.FromFloatHistogram(s.t, s.fh)}
		default:
			ts.Samples = []prompb.Sample{{Value: s.v, Timestamp: s.t}}
		}
		r.Timeseries = append(r.Timeseries, ts)
	}
}

func (e *encoder) fillV2(samples []sample) {
	symbols := writev2.NewSymbolTable()
	refs := func(l labels.Labels) []uint32 {
		out := make([]uint32, 0, 2*l.Len())
		l.Range(func(x labels.Label) { out = append(out, symbols.Symbolize(x.Name), symbols.Symbolize(x.Value)) })
		return out
	}
	r := &e.v2
	r.Timeseries = r.Timeseries[:0]
	for i := range samples {
		s := &samples[i]
		ts := writev2.TimeSeries{LabelsRefs: refs(s.series.labels)}
		if m := s.series.meta; m != nil {
			ts.Metadata = writev2.Metadata{Type: writev2.FromMetadataType(m.kind), UnitRef: symbols.Symbolize(m.unit), HelpRef: symbols.Symbolize(m.help)}
		}
		switch {
		case s.exemplar != nil:
			ts.Exemplars = []writev2.Exemplar{{LabelsRefs: refs(*s.exemplar), Value: s.v, Timestamp: s.t}}
		case s.h != nil:
			ts.Histograms = []writev2.Histogram{writev2.FromIntHistogram(s.st, s.t, s.h)}
		case s.fh != nil:
			ts.Histograms = []writev2.Histogram{writev2.FromFloatHistogram(s.st, s.t, s.fh)}
		default:
			ts.Samples = []writev2.Sample{{Value: s.v, Timestamp: s.t, StartTimestamp: s.st}}
		}
		r.Timeseries = append(r.Timeseries, ts)
	}
	r.Symbols = symbols.Symbols()
}
