package promtsdb

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// blockMeta is what is read of a block's meta.json.
type blockMeta struct {
	ULID    string `json:"ulid"`
	MinTime int64  `json:"minTime"` // ms
	MaxTime int64  `json:"maxTime"` // ms, not included
	Version int    `json:"version"`
	Stats   struct {
		NumSamples int64 `json:"numSamples"`
	} `json:"stats"`
	Compaction struct {
		Hints   []string `json:"hints"`
		Sources []string `json:"sources"`
		Parents []struct {
			ULID string `json:"ulid"`
		} `json:"parents"`
		Deletable bool `json:"deletable"`
	} `json:"compaction"`
}

// maxMeta is the longest meta.json that is read.
const maxMeta = 16 << 20

// block is one block of the database.
type block struct {
	dir  string
	meta blockMeta

	index      *index.Reader
	chunks     *chunks.Reader
	tombstones tombstones.Reader
	series     []storage.SeriesRef // that are selected
	deleted    int64
}

func (b *block) outOfOrder() bool {
	return slices.Contains(b.meta.Compaction.Hints, "from-out-of-order")
}

// findBlocks reads the metas of the blocks in the time range, the oldest first. A block that another one was
// made of is left out.
func (im *importer) findBlocks() ([]*block, error) {
	entries, err := os.ReadDir(im.c.Dir)
	if err != nil {
		return nil, &Error{Problem: "opening the Prometheus database", Err: err, hint: "give the directory of --storage.tsdb.path"}
	}
	var blocks []*block
	parents := map[string]bool{}
	for _, e := range entries {
		dir := filepath.Join(im.c.Dir, e.Name())
		f, err := os.Open(filepath.Join(dir, "meta.json"))
		if errors.Is(err, fs.ErrNotExist) || !e.IsDir() {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading a block: %w", err)
		}
		b := &block{dir: dir}
		info, err := f.Stat()
		if err == nil && info.Size() > maxMeta {
			err = errors.New("it is too long")
		}
		if err == nil {
			err = json.NewDecoder(f).Decode(&b.meta)
		}
		if err = errors.Join(err, f.Close()); err == nil && (b.meta.Version != 1 || b.meta.MinTime > b.meta.MaxTime) {
			err = fmt.Errorf("version %d, from %d to %d", b.meta.Version, b.meta.MinTime, b.meta.MaxTime)
		}
		if err != nil {
			return nil, &Error{Problem: "reading " + filepath.Join(dir, "meta.json"), Err: err, hint: "move the block away to import the others"}
		}
		for _, p := range b.meta.Compaction.Parents {
			parents[p.ULID] = true
		}
		if b.meta.Compaction.Deletable {
			continue
		}
		blocks = append(blocks, b)
	}
	blocks = slices.DeleteFunc(blocks, func(b *block) bool {
		return parents[b.meta.ULID] || b.meta.MaxTime <= im.from || b.meta.MinTime >= im.to
	})
	slices.SortFunc(blocks, func(a, b *block) int {
		return cmp.Or(cmp.Compare(a.meta.MinTime, b.meta.MinTime), strings.Compare(a.meta.ULID, b.meta.ULID))
	})
	return blocks, nil
}

// open opens the files of a block and finds the series that are selected.
func (b *block) open(ctx context.Context, im *importer) (err error) {
	fail := func(what string, err error) error {
		return errors.Join(&Error{Problem: "reading the " + what + " of block " + filepath.Base(b.dir), Err: err, hint: "move the block away to import the others"}, b.close())
	}
	if b.index, err = index.NewFileReader(filepath.Join(b.dir, "index"), index.DecodePostingsRaw); err != nil {
		return fail("index", err)
	}
	if b.chunks, err = chunks.NewDirReader(filepath.Join(b.dir, "chunks"), nil); err != nil {
		return fail("chunks", err)
	}
	if b.tombstones, _, err = tombstones.ReadTombstones(b.dir); err != nil {
		return fail("tombstones", err)
	}
	name, value := index.AllPostingsKey()
	p, err := b.index.Postings(ctx, name, value)
	if err != nil {
		return fail("index", err)
	}
	var builder labels.ScratchBuilder
	for p.Next() {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, b.close())
		}
		if len(im.match) > 0 {
			if err := b.index.Series(p.At(), &builder, nil); err != nil {
				return fail("index", err)
			}
			if !im.selects(builder.Labels()) {
				continue
			}
		}
		b.series = append(b.series, p.At())
	}
	if p.Err() != nil {
		return fail("index", p.Err())
	}
	return nil
}

func (b *block) close() error {
	var errs []error
	if b.index != nil {
		errs = append(errs, b.index.Close())
	}
	if b.chunks != nil {
		errs = append(errs, b.chunks.Close())
	}
	if b.tombstones != nil {
		errs = append(errs, b.tombstones.Close())
	}
	b.index, b.chunks, b.tombstones, b.series = nil, nil, nil, nil
	return errors.Join(errs...)
}

// readBlocks sends what the blocks hold in the order of time. Blocks that overlap are read together.
func (im *importer) readBlocks(ctx context.Context, blocks []*block) error {
	for len(blocks) > 0 {
		n, end := 1, blocks[0].meta.MaxTime
		for n < len(blocks) && blocks[n].meta.MinTime < end {
			end = max(end, blocks[n].meta.MaxTime)
			n++
		}
		if err := im.readGroup(ctx, blocks[:n], end); err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	return im.flush(ctx)
}

// readGroup reads blocks that overlap, a window of time after the other. The window is as long as memory
// allows: reading each costs a walk through the index, and a chunk is decoded once for each window it is in.
func (im *importer) readGroup(ctx context.Context, blocks []*block, end int64) (err error) {
	defer func() {
		for _, b := range blocks {
			err = errors.Join(err, b.close())
			if b.deleted > 0 {
				im.leave("samples that were deleted in the database", b.deleted, "sample")
				b.deleted = 0
			}
		}
	}()
	for _, b := range blocks {
		if err := b.open(ctx, im); err != nil {
			return err
		}
	}
	w := &window{im: im, blocks: blocks}
	width := int64(60_000)
	from, end := max(blocks[0].meta.MinTime, im.from), min(end, im.to)
	for from < end {
		to := end
		if width < end-from {
			to = from + width
		}
		ok, err := w.read(ctx, from, to)
		if err != nil {
			return err
		}
		if !ok {
			if width = (to - from) / 2; width == 0 {
				return &Error{
					Problem: fmt.Sprintf("more than %d samples are of one millisecond", im.c.Window),
					hint:    "select fewer series with --match, or raise --window",
				}
			}
			continue
		}
		for i := range w.samples {
			if err := im.take(ctx, w.samples[i]); err != nil {
				return err
			}
		}
		if len(w.samples) < im.c.Window/4 && width < math.MaxInt64/4 {
			width *= 2
		}
		from = to
	}
	return nil
}

// window collects the samples of a time range.
type window struct {
	im      *importer
	blocks  []*block
	samples []sample
	names   map[string]*series // by labels: where blocks overlap

	builder labels.ScratchBuilder
	metas   []chunks.Meta
}

// read collects the samples from from to to, sorted by time. It is false when they are too many.
func (w *window) read(ctx context.Context, from, to int64) (bool, error) {
	clear(w.samples)
	w.samples = w.samples[:0]
	var in []*block
	for _, b := range w.blocks {
		if b.meta.MinTime < to && b.meta.MaxTime > from {
			in = append(in, b)
		}
	}
	w.names = nil
	if len(in) > 1 {
		w.names = map[string]*series{}
	}
	deleted := make([]int64, len(in))
	for i, b := range in {
		for n, ref := range b.series {
			if n%1024 == 0 && ctx.Err() != nil {
				return false, ctx.Err()
			}
			if err := w.one(b, ref, from, to, &deleted[i]); err != nil {
				return false, &Error{Problem: "reading block " + filepath.Base(b.dir), Err: err, hint: "move the block away to import the others"}
			}
			if len(w.samples) > w.im.c.Window {
				return false, nil
			}
		}
	}
	for i, b := range in {
		b.deleted += deleted[i]
	}
	// Stable: the series of a scrape stay in the order of their labels.
	slices.SortStableFunc(w.samples, func(a, b sample) int { return cmp.Compare(a.t, b.t) })
	if len(in) > 1 {
		w.dedupe()
	}
	return true, nil
}

// dedupe removes what several blocks hold: a series has one sample at a time.
func (w *window) dedupe() {
	kept := w.samples[:0]
	seen := map[*series]bool{}
	at := int64(math.MinInt64)
	for _, s := range w.samples {
		if s.t != at {
			clear(seen)
			at = s.t
		}
		if seen[s.series] {
			continue
		}
		seen[s.series] = true
		kept = append(kept, s)
	}
	clear(w.samples[len(kept):])
	w.samples = kept
}

// one collects the samples of one series.
func (w *window) one(b *block, ref storage.SeriesRef, from, to int64, deleted *int64) error {
	if err := b.index.Series(ref, &w.builder, &w.metas); err != nil {
		return err
	}
	var s *series
	var gone tombstones.Intervals
	for _, m := range w.metas {
		if m.MaxTime < from || m.MinTime >= to {
			continue
		}
		if s == nil {
			l := w.builder.Labels()
			if w.names == nil {
				s = w.im.newSeries(l)
			} else if s = w.names[string(l.Bytes(nil))]; s == nil {
				s = w.im.newSeries(l)
				w.names[string(l.Bytes(nil))] = s
			}
			if s.cluster == "" {
				return nil
			}
			var err error
			if gone, err = b.tombstones.Get(ref); err != nil {
				return err
			}
		}
		c, iterable, err := b.chunks.ChunkOrIterable(m)
		if err != nil {
			return err
		}
		var it chunkenc.Iterator
		if c != nil {
			it = c.Iterator(nil)
		} else {
			it = iterable.Iterator(nil)
		}
		for kind := it.Seek(from); kind != chunkenc.ValNone; kind = it.Next() {
			x := sample{t: it.AtT(), st: it.AtST(), series: s}
			if x.t >= to {
				break
			}
			switch kind {
			case chunkenc.ValFloat:
				_, x.v = it.At()
			case chunkenc.ValHistogram:
				_, x.h = it.AtHistogram(nil)
			case chunkenc.ValFloatHistogram:
				_, x.fh = it.AtFloatHistogram(nil)
			default:
				return fmt.Errorf("a chunk holds values of type %v", kind)
			}
			if covered(gone, x.t) {
				*deleted++
				continue
			}
			w.samples = append(w.samples, x)
			if len(w.samples) > w.im.c.Window {
				return nil
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
	}
	return nil
}

// covered says whether t lies in one of the intervals.
func covered(all tombstones.Intervals, t int64) bool {
	for _, i := range all {
		if t >= i.Mint && t <= i.Maxt {
			return true
		}
	}
	return false
}

// leaveOthers names what a database may hold and the import does not look at.
func (im *importer) leaveOthers() {
	if files, err := filepath.Glob(filepath.Join(im.c.Dir, "wbl", "*")); err == nil && len(files) > 0 {
		im.leave("out-of-order samples that are not in a block yet (wbl)", int64(len(files)), "segment")
	}
	if im.res.FromBlocks > 0 {
		im.leave("exemplars and metadata of what is in blocks: Prometheus does not keep them there", 0, "")
	}
}
