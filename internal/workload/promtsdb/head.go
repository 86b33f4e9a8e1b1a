package promtsdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
)

// head reads the write-ahead log in the order in which it was written, which is that in which remote write
// sends.
type head struct {
	im     *importer
	series map[chunks.HeadSeriesRef]*series
	from   int64 // older samples are in a block

	decoder record.Decoder
	refs    []record.RefSeries
	samples []record.RefSample
	ex      []record.RefExemplar
	hist    []record.RefHistogramSample
	fhist   []record.RefFloatHistogramSample
	meta    []record.RefMetadata
}

// readHead reads the log in dir. from is the time up to which blocks have everything.
func (im *importer) readHead(ctx context.Context, dir string, from int64) error {
	files, err := walFiles(dir)
	if err != nil {
		return err
	}
	h := &head{im: im, series: map[chunks.HeadSeriesRef]*series{}, from: from}
	h.decoder = record.NewDecoder(labels.NewSymbolTable(), slog.New(slog.DiscardHandler))
	for i, path := range files {
		err := h.segment(ctx, path)
		switch broken := (*walError)(nil); {
		case errors.As(err, &broken) && errors.Is(err, errTorn) && i == len(files)-1:
			// A running Prometheus is about to write the rest.
		case errors.As(err, &broken):
			// Prometheus itself would cut the log here. What follows may refer to series that are lost.
			im.leave(fmt.Sprintf("the log from %s on: %v", filepath.Base(path), broken.err), int64(len(files)-i), "segment")
			return im.flush(ctx)
		case err != nil:
			return err
		}
	}
	return im.flush(ctx)
}

// walError is what is wrong with a segment.
type walError struct{ err error }

func (e *walError) Error() string { return e.err.Error() }
func (e *walError) Unwrap() error { return e.err }

func (h *head) segment(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the write-ahead log: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	w := &walReader{r: bufio.NewReaderSize(f, 16*walPage)}
	defer func() {
		if w.zstd != nil {
			w.zstd.Close()
		}
	}()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := w.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &walError{err}
		}
		if err := h.record(ctx, rec); err != nil {
			return err
		}
	}
}

func (h *head) record(ctx context.Context, rec []byte) (err error) {
	switch kind := h.decoder.Type(rec); kind {
	case record.Series:
		if h.refs, err = h.decoder.Series(rec, h.refs[:0]); err != nil {
			return &walError{err}
		}
		for _, s := range h.refs {
			h.series[s.Ref] = h.im.newSeries(s.Labels)
		}
	case record.Samples, record.SamplesV2:
		if h.samples, err = h.decoder.Samples(rec, h.samples[:0]); err != nil {
			return &walError{err}
		}
		for _, s := range h.samples {
			if err := h.take(ctx, s.Ref, sample{t: s.T, st: s.ST, v: s.V}); err != nil {
				return err
			}
		}
	case record.HistogramSamples, record.HistogramSamplesV2, record.CustomBucketsHistogramSamples:
		if h.hist, err = h.decoder.HistogramSamples(rec, h.hist[:0]); err != nil {
			return &walError{err}
		}
		for _, s := range h.hist {
			if err := h.take(ctx, s.Ref, sample{t: s.T, st: s.ST, h: s.H}); err != nil {
				return err
			}
		}
	case record.FloatHistogramSamples, record.FloatHistogramSamplesV2, record.CustomBucketsFloatHistogramSamples:
		if h.fhist, err = h.decoder.FloatHistogramSamples(rec, h.fhist[:0]); err != nil {
			return &walError{err}
		}
		for _, s := range h.fhist {
			if err := h.take(ctx, s.Ref, sample{t: s.T, st: s.ST, fh: s.FH}); err != nil {
				return err
			}
		}
	case record.Exemplars:
		if h.ex, err = h.decoder.Exemplars(rec, h.ex[:0]); err != nil {
			return &walError{err}
		}
		for i := range h.ex {
			e := h.ex[i]
			if err := h.take(ctx, e.Ref, sample{t: e.T, v: e.V, exemplar: &e.Labels}); err != nil {
				return err
			}
		}
	case record.Metadata:
		if h.meta, err = h.decoder.Metadata(rec, h.meta[:0]); err != nil {
			return &walError{err}
		}
		for _, m := range h.meta {
			if s := h.series[m.Ref]; s != nil {
				if s.meta == nil && s.cluster != "" {
					h.im.res.MetadataSeries++
				}
				s.meta = &metadata{record.ToMetricType(m.Type), m.Unit, m.Help}
			}
		}
	case record.Tombstones:
		h.im.leave("deletions in the log: what they delete is imported", 1, "record")
	case record.MmapMarkers: // of the out-of-order log only
	default:
		h.im.leave(fmt.Sprintf("records of the log of an unknown type (%d)", kind), 1, "record")
	}
	return nil
}

func (h *head) take(ctx context.Context, ref chunks.HeadSeriesRef, s sample) error {
	if s.t < h.from {
		h.im.inBlocks++
		return nil
	}
	if s.t < h.im.from || s.t >= h.im.to {
		return nil
	}
	s.series = h.series[ref]
	if s.series == nil {
		h.im.leave("samples in the log of series that it does not name", 1, "sample")
		return nil
	}
	return h.im.take(ctx, s)
}
