package promtsdb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
)

// The write-ahead log is a row of segments; a segment is a row of pages of 32 KiB; a record lies in one page
// or is cut into fragments, each with a head of 7 bytes:
//
//	type, and the compression (1) | length (2) | CRC32-C (4) | data
//
// (Prometheus' documentation, tsdb/docs/format/wal.md.)
const (
	walPage       = 32 << 10
	walHead       = 7
	walFull       = 1
	walFirst      = 2
	walMiddle     = 3
	walLast       = 4
	walTypeMask   = 7
	walSnappy     = 1 << 3
	walZstd       = 1 << 4
	maxWALRecord  = 64 << 20 // decompressed; Prometheus' own are some MB at most
	segmentDigits = 8
)

// errTorn says that a segment ends within a record, as that of a running Prometheus may.
var errTorn = errors.New("the segment ends within a record")

// walReader reads the records of one segment.
type walReader struct {
	r     *bufio.Reader
	total int64 // bytes read
	raw   []byte
	out   []byte
	zstd  *zstd.Decoder
	page  [walPage]byte
}

// next returns the next record, which is valid until the call after; io.EOF at the end.
func (w *walReader) next() ([]byte, error) {
	w.raw = w.raw[:0]
	for n := 0; ; n++ {
		head := w.page[:walHead]
		for {
			if _, err := io.ReadFull(w.r, head[:1]); err != nil {
				if n > 0 && errors.Is(err, io.EOF) {
					return nil, errTorn
				}
				return nil, err
			}
			w.total++
			if head[0]&walTypeMask != 0 {
				break
			}
			// The rest of the page is padding.
			if err := w.skip((walPage - int(w.total%walPage)) % walPage); err != nil {
				return nil, err
			}
		}
		kind := head[0]
		if err := w.read(head[1:]); err != nil {
			return nil, err
		}
		length, sum := int(binary.BigEndian.Uint16(head[1:])), binary.BigEndian.Uint32(head[3:])
		if length > walPage-walHead {
			return nil, fmt.Errorf("a fragment of %d bytes does not fit into a page", length)
		}
		data := w.page[walHead : walHead+length]
		if err := w.read(data); err != nil {
			return nil, err
		}
		if crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) != sum {
			return nil, errors.New("the checksum of a record is another")
		}
		t := kind & walTypeMask
		if first := t == walFull || t == walFirst; t > walLast || first != (n == 0) {
			return nil, errors.New("the fragments of a record are out of order")
		}
		if len(w.raw)+length > maxWALRecord {
			return nil, errors.New("a record is too long")
		}
		w.raw = append(w.raw, data...)
		if t == walFull || t == walLast {
			return w.decode(kind)
		}
	}
}

func (w *walReader) read(b []byte) error {
	n, err := io.ReadFull(w.r, b)
	w.total += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}

func (w *walReader) skip(n int) error {
	skipped, err := w.r.Discard(n)
	w.total += int64(skipped)
	if errors.Is(err, io.EOF) {
		return nil // the next read says so
	}
	return err
}

// decode decompresses a whole record.
func (w *walReader) decode(kind byte) ([]byte, error) {
	switch {
	case kind&walSnappy != 0:
		n, err := snappy.DecodedLen(w.raw)
		if err != nil || n > maxWALRecord {
			return nil, errors.New("a record is not snappy or too long")
		}
		w.out, err = snappy.Decode(w.out[:cap(w.out)], w.raw)
		if err != nil {
			return nil, fmt.Errorf("decompressing a record: %w", err)
		}
		return w.out, nil
	case kind&walZstd != 0:
		if w.zstd == nil {
			var err error
			if w.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWALRecord)); err != nil {
				return nil, fmt.Errorf("decompressing a record: %w", err)
			}
		}
		var err error
		if w.out, err = w.zstd.DecodeAll(w.raw, w.out[:0]); err != nil {
			return nil, fmt.Errorf("decompressing a record: %w", err)
		}
		return w.out, nil
	}
	return w.raw, nil
}

// walFiles returns the segments to read, in order: those of the last checkpoint and those behind it.
func walFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the write-ahead log: %w", err)
	}
	checkpoint, at := "", -1
	for _, e := range entries {
		if number, ok := strings.CutPrefix(e.Name(), "checkpoint."); ok && e.IsDir() {
			if n, err := strconv.Atoi(number); err == nil && n > at { // not checkpoint.N.tmp
				checkpoint, at = e.Name(), n
			}
		}
	}
	var files []string
	if checkpoint != "" {
		if files, err = segments(filepath.Join(dir, checkpoint), -1); err != nil {
			return nil, err
		}
	}
	rest, err := segments(dir, at)
	return append(files, rest...), err
}

// segments lists the segments of a directory with a number above at.
func segments(dir string, at int) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the write-ahead log: %w", err)
	}
	type segment struct {
		n    int
		path string
	}
	var all []segment
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil || len(e.Name()) < segmentDigits || e.IsDir() || n <= at {
			continue
		}
		all = append(all, segment{n, filepath.Join(dir, e.Name())})
	}
	slices.SortFunc(all, func(a, b segment) int { return a.n - b.n })
	paths := make([]string, len(all))
	for i := range all {
		paths[i] = all[i].path
	}
	return paths, nil
}
