package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"regexp"
	"strconv"
)

// The header of a segment is written twice, so that no single broken sector makes the
// salt unknown:
//
//	 0  magic "CBSPOOL\n"
//	 8  version of the format, 1 (4 bytes)
//	12  salt (4)
//	16  sequence number of the first record (8)
//	24  0 (4)
//	28  CRC-32C of the bytes 0 to 27
//	32  the same 32 bytes again
const (
	segmentMagic   = "CBSPOOL\n"
	segmentHeader  = 64
	segmentVersion = 1
)

// VersionError says that a file of a queue is of a version that this program does not
// know.
type VersionError struct {
	Path    string
	Version uint32
}

// Error names the file and both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, this program knows version %d", e.Path, e.Version, segmentVersion)
}

// Hint says what to do.
func (*VersionError) Hint() string {
	return "run the newer cirrusbench that wrote it; nothing in the queue was changed"
}

// errNoSegment says that neither copy of a segment's header is intact.
var errNoSegment = errors.New("neither copy of the segment header is intact")

var segmentName = regexp.MustCompile(`^([0-9a-f]{16})\.(seg|sent)$`)

// parseName reads the first sequence number out of the name of a segment.
func parseName(name string) (first uint64, sent, ok bool) {
	m := segmentName.FindStringSubmatch(name)
	if m == nil {
		return 0, false, false
	}
	first, err := strconv.ParseUint(m[1], 16, 64)
	return first, m[2] == "sent", err == nil
}

func segmentFile(first uint64, sent bool) string {
	if sent {
		return fmt.Sprintf("%016x.sent", first)
	}
	return fmt.Sprintf("%016x.seg", first)
}

func appendSegmentHeader(dst []byte, salt uint32, first uint64) []byte {
	for range 2 {
		at := len(dst)
		dst = append(dst, segmentMagic...)
		dst = binary.LittleEndian.AppendUint32(dst, segmentVersion)
		dst = binary.LittleEndian.AppendUint32(dst, salt)
		dst = binary.LittleEndian.AppendUint64(dst, first)
		dst = append(dst, 0, 0, 0, 0)
		dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
	}
	return dst
}

// readSegmentHeader reads either copy.
func readSegmentHeader(r io.ReaderAt) (version, salt uint32, err error) {
	var b [segmentHeader]byte
	if n, err := r.ReadAt(b[:], 0); err != nil && (!errors.Is(err, io.EOF) || n == 0) {
		return 0, 0, err
	}
	for _, h := range [][]byte{b[:32], b[32:]} {
		if string(h[:8]) == segmentMagic && crc32.Checksum(h[:28], castagnoli) == binary.LittleEndian.Uint32(h[28:]) {
			return binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:]), nil
		}
	}
	return 0, 0, errNoSegment
}

// scanner reads the records of a segment in order and passes over what is broken.
type scanner struct {
	r    io.ReaderAt
	size int64 // where reading ends
	salt uint32
	off  int64 // of the next record
	seq  uint64
	// bad is told of each broken stretch; one that reaches size may be a record that
	// was being written when the power went.
	bad func(off, n int64)
	// want says whose body is read and checked; nil: all of them.
	want func(*Record) bool

	window []byte // of the file
	at     int64  // where window begins
}

const windowBytes = 256 << 10

// bytes returns up to n bytes at off; fewer only at the end.
func (s *scanner) bytes(off int64, n int) ([]byte, error) {
	if n = int(min(int64(n), s.size-off)); n <= 0 {
		return nil, nil
	}
	if off < s.at || off+int64(n) > s.at+int64(len(s.window)) {
		want := int(min(int64(max(n, windowBytes)), s.size-off))
		if cap(s.window) < want {
			s.window = make([]byte, want)
		}
		got, err := s.r.ReadAt(s.window[:want], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		s.window, s.at = s.window[:got], off
		n = min(n, got)
	}
	return s.window[off-s.at:][:n], nil
}

// next returns the next intact record and where it begins; its Body is nil when want
// says no, and else valid until the next call. io.EOF is the end.
func (s *scanner) next() (Record, int64, error) {
	broken := int64(-1) // where the broken stretch begins
	report := func(end int64) {
		if broken >= 0 && s.bad != nil {
			s.bad(broken, end-broken)
		}
		broken = -1
	}
	for s.off < s.size {
		head, err := s.bytes(s.off, recordHeader+maxNames)
		if err != nil {
			return Record{}, 0, err
		}
		rec, length, sum, ok := parseHeader(head, s.salt)
		if !ok || rec.Seq <= s.seq || length > maxBody {
			if broken < 0 {
				broken = s.off
			}
			if err := s.seek(); err != nil {
				return Record{}, 0, err
			}
			continue
		}
		begin := s.off
		body := begin + recordHeader + int64(len(rec.Org)+len(rec.Cluster))
		end := body + int64(length)
		if end > s.size {
			// The length is right, so what is missing was never written, or is cut off.
			if broken < 0 {
				broken = begin
			}
			s.off = s.size
			break
		}
		if s.want == nil || s.want(&rec) {
			rec.Body, err = s.bytes(body, int(length))
			if err != nil {
				return Record{}, 0, err
			}
			if len(rec.Body) != int(length) || crc32.Update(s.salt, castagnoli, rec.Body) != sum {
				if broken < 0 {
					broken = begin
				}
				s.off, s.seq = end, rec.Seq
				continue
			}
		}
		report(begin)
		s.off, s.seq = end, rec.Seq
		return rec, begin, nil
	}
	report(s.size)
	return Record{}, 0, io.EOF
}

// seek moves off to the next place behind it that may be a record.
func (s *scanner) seek() error {
	s.off++
	for s.off < s.size {
		b, err := s.bytes(s.off, windowBytes)
		if err != nil {
			return err
		}
		if i := bytes.Index(b, []byte(recordMagic)); i >= 0 {
			s.off += int64(i)
			return nil
		}
		if len(b) < len(recordMagic) {
			break
		}
		s.off += int64(len(b) - len(recordMagic) + 1)
	}
	s.off = s.size
	return nil
}
