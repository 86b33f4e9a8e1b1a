package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// Lane is what records are kept in order for: one org and one cluster.
type Lane struct {
	Org     string
	Cluster string
}

// String is the lane for people: org/cluster.
func (l Lane) String() string { return l.Org + "/" + l.Cluster }

// Record is a request body and what is known of it.
type Record struct {
	// Seq is given by the queue: 1 for the first record that it ever held, and more
	// for every later one.
	Seq      uint64
	Received time.Time // in whole milliseconds, UTC
	Lane
	Version      uint8 // of the remote-write protocol: 1 or 2
	NewestMS     int64 // the newest timestamp in the body, in milliseconds since 1970; 0: none
	DecodedBytes uint32
	Samples      uint32
	Histograms   uint32
	Exemplars    uint32
	Metadata     uint32
	Body         []byte // as received
}

// The layout of a record; all numbers are little endian.
//
//	 0  magic "CBr\x01"
//	 4  CRC-32C of the body
//	 8  length of the body in bytes
//	12  length of org, length of cluster, protocol version, 0 (one byte each)
//	16  sequence number (8 bytes)
//	24  received, ms since 1970 (8)
//	32  newest timestamp, ms since 1970 (8)
//	40  decoded bytes, samples, histograms, exemplars, metadata (4 each)
//	60  CRC-32C of the bytes 0 to 59 and of org and cluster
//	64  org, cluster, body
//
// Both checksums go on from the segment's salt, so that bytes which look like a record
// inside a body, or are left over from another file, are not taken for one.
const (
	recordHeader = 64
	maxNames     = 2 * math.MaxUint8
	// maxBody is far above what a server accepts; a greater length is no record.
	maxBody = 1 << 30
)

const recordMagic = "CBr\x01"

//nolint:gochecknoglobals // a constant table
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// size is how many bytes the record takes in a segment.
func (r *Record) size() int64 {
	return int64(recordHeader + len(r.Org) + len(r.Cluster) + len(r.Body))
}

// check says what cannot be written.
func (r *Record) check() error {
	switch {
	case len(r.Org) > math.MaxUint8 || len(r.Cluster) > math.MaxUint8:
		return errors.New("the names of org and cluster are limited to 255 bytes each")
	case len(r.Body) > maxBody:
		return fmt.Errorf("a body of %d bytes is above the limit of %d", len(r.Body), maxBody)
	}
	return nil
}

// append encodes the record.
func (r *Record) append(dst []byte, salt uint32) []byte {
	at := len(dst)
	dst = append(dst, recordMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Update(salt, castagnoli, r.Body))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.Body)))
	dst = append(dst, byte(len(r.Org)), byte(len(r.Cluster)), r.Version, 0)
	dst = binary.LittleEndian.AppendUint64(dst, r.Seq)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Received.UnixMilli()))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.NewestMS))
	for _, n := range [...]uint32{r.DecodedBytes, r.Samples, r.Histograms, r.Exemplars, r.Metadata} {
		dst = binary.LittleEndian.AppendUint32(dst, n)
	}
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, r.Org...)
	dst = append(dst, r.Cluster...)
	binary.LittleEndian.PutUint32(dst[at+60:], headerSum(dst[at:], salt))
	return append(dst, r.Body...)
}

// headerSum is the checksum of the header and the names behind it, which b starts with.
func headerSum(b []byte, salt uint32) uint32 {
	names := int(b[12]) + int(b[13])
	sum := crc32.Update(salt, castagnoli, b[:60])
	return crc32.Update(sum, castagnoli, b[recordHeader:recordHeader+names])
}

// parseHeader reads the header and the names that b starts with. It is not ok when
// they are not intact.
func parseHeader(b []byte, salt uint32) (r Record, body, bodySum uint32, ok bool) {
	if len(b) < recordHeader || string(b[:4]) != recordMagic || len(b) < recordHeader+int(b[12])+int(b[13]) ||
		binary.LittleEndian.Uint32(b[60:]) != headerSum(b, salt) {
		return Record{}, 0, 0, false
	}
	org := recordHeader + int(b[12])
	r = Record{
		Seq:          binary.LittleEndian.Uint64(b[16:]),
		Received:     time.UnixMilli(int64(binary.LittleEndian.Uint64(b[24:]))).UTC(),
		Lane:         Lane{Org: string(b[recordHeader:org]), Cluster: string(b[org : org+int(b[13])])},
		Version:      b[14],
		NewestMS:     int64(binary.LittleEndian.Uint64(b[32:])),
		DecodedBytes: binary.LittleEndian.Uint32(b[40:]),
		Samples:      binary.LittleEndian.Uint32(b[44:]),
		Histograms:   binary.LittleEndian.Uint32(b[48:]),
		Exemplars:    binary.LittleEndian.Uint32(b[52:]),
		Metadata:     binary.LittleEndian.Uint32(b[56:]),
	}
	return r, binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[4:]), true
}
