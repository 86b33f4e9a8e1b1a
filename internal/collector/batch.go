package collector

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

// piece is a run of records of a lane that is sent together, or a part of one record
// that was too large for the receiver.
type piece struct {
	after, through uint64              // records; through 0: as many as make a batch
	version        remotewrite.Version // of the merged request; 0: not chosen yet
	switched       bool                // version is the second that was tried
	from, to       int                 // series of a single record; to 0: up to the last
	noMetadata     bool                // which another part of the record has
	more           bool                // other parts of the record follow
	planned        string              // SHA-256 of what the state file has a plan for
	sent           int                 // messages of it that are delivered already, or given up
}

// message is a request body.
type message struct {
	version  remotewrite.Version
	body     []byte // snappy
	counts   remotewrite.Counts
	metadata bool // metadata of 1.0 beside a 2.0 request, which has no place for it
}

// batch is a piece as it is sent.
type batch struct {
	through  uint64
	seqs     []uint64 // of the records
	only     spool.Record
	odd      bool // a record that cannot be merged and is sent as it came
	series   int  // that can be sent apart
	messages []message
	sha256   string
	tally    spool.Tally
}

func (b *batch) bytes() (n int) {
	for _, m := range b.messages {
		n = max(n, len(m.body))
	}
	return n
}

// limits say when a batch has enough.
type limits struct{ bytes, decoded, samples int64 }

func (l limits) exceeded(t *spool.Tally, r *spool.Record) bool {
	return t.Bytes+int64(len(r.Body)) > l.bytes || t.DecodedBytes+int64(r.DecodedBytes) > l.decoded ||
		t.Samples+int64(r.Samples)+int64(r.Histograms) > l.samples
}

// builder makes batches of records. It holds the memory that this takes, so there is one
// for all lanes.
type builder struct {
	q       *spool.Queue
	merger  remotewrite.Merger
	decoded []byte
	message []byte
	encoded []byte
}

// build makes the batch of a piece. The same piece of the same records makes the same
// bytes: nothing here may depend on time, chance or the order of a map. choose says which
// version a request of n records is to have, when the piece does not; own is that of the
// first record. The batch has no records when there are none.
func (b *builder) build(lane spool.Lane, p piece, lim limits, choose func(n int, own remotewrite.Version) remotewrite.Version) (*batch, error) {
	out, err := b.merge(lane, p, lim)
	if err != nil || len(out.seqs) == 0 {
		return out, err
	}
	own := remotewrite.Version(out.only.Version)
	v := p.version
	if v == 0 {
		v = choose(len(out.seqs), own)
	}
	if v == remotewrite.V2 && !out.odd {
		b.merger.AttachMetadata()
	}
	var metadata int
	out.series, metadata = b.merger.Len()
	if p.noMetadata {
		metadata = 0
	}
	from, to := p.from, p.to
	if to == 0 || to > out.series {
		to = out.series
	}
	from = min(from, to)
	switch {
	case out.odd || len(out.seqs) == 1 && v == own && p.from == 0 && p.to == 0:
		r := &out.only
		out.messages = []message{{version: own, body: r.Body, counts: remotewrite.Counts{
			Samples: int(r.Samples), IntHistograms: int(r.Histograms), Exemplars: int(r.Exemplars),
		}}}
	case v == remotewrite.V2:
		if to > from {
			b.add(out, v, false, func(dst []byte) ([]byte, remotewrite.Counts) { return b.merger.AppendV2(dst, from, to) })
		}
		if metadata > 0 {
			b.add(out, remotewrite.V1, true, func(dst []byte) ([]byte, remotewrite.Counts) { return b.merger.AppendMetadata(dst, 0, metadata) })
		}
	default:
		b.add(out, v, false, func(dst []byte) ([]byte, remotewrite.Counts) {
			dst, counts := b.merger.AppendV1(dst, from, to)
			dst, more := b.merger.AppendMetadata(dst, 0, metadata)
			counts.Metadata += more.Metadata
			return dst, counts
		})
	}
	if len(out.seqs) > 1 {
		out.only.Body = nil
	}
	sum := sha256.New()
	for _, m := range out.messages {
		sum.Write([]byte{byte(m.version)})
		sum.Write(m.body)
	}
	out.sha256 = hex.EncodeToString(sum.Sum(nil))
	return out, nil
}

func (b *builder) add(out *batch, v remotewrite.Version, metadata bool, encode func([]byte) ([]byte, remotewrite.Counts)) {
	var counts remotewrite.Counts
	b.message, counts = encode(b.message[:0])
	b.encoded = remotewrite.Encode(b.encoded, b.message)
	out.messages = append(out.messages, message{version: v, body: bytes.Clone(b.encoded), counts: counts, metadata: metadata})
}

// merge takes the records of a piece into the merger.
func (b *builder) merge(lane spool.Lane, p piece, lim limits) (*batch, error) {
	for {
		out := &batch{}
		again := false
		b.merger.Reset()
		err := b.q.Scan(lane, p.after, func(r spool.Record) (bool, error) {
			n := len(out.seqs)
			switch {
			case p.through != 0 && r.Seq > p.through, n >= maxBatchRecords:
				return false, nil
			case p.through == 0 && n > 0 && lim.exceeded(&out.tally, &r):
				return false, nil
			}
			var err error
			b.decoded, err = remotewrite.Decode(b.decoded, r.Body, maxRecordBytes)
			if err == nil {
				err = b.merger.Add(remotewrite.Version(r.Version), b.decoded)
			}
			if err != nil && n > 0 {
				// What the merger holds is spoilt: without this one from the start.
				p.through, again = out.through, true
				return false, nil
			}
			out.odd = err != nil
			if n == 0 {
				out.only = r
				out.only.Body = bytes.Clone(r.Body)
			}
			out.seqs = append(out.seqs, r.Seq)
			out.through = r.Seq
			out.tally.Records++
			out.tally.Bytes += int64(len(r.Body))
			out.tally.DecodedBytes += int64(r.DecodedBytes)
			out.tally.Samples += int64(r.Samples) + int64(r.Histograms)
			// A batch of too many series takes too much memory; one that is planned has to be
			// what it was.
			series, _ := b.merger.Len()
			return !out.odd && (p.through != 0 || series < maxBatchSeries), nil
		})
		if err != nil {
			return nil, fmt.Errorf("building a batch: %w", err)
		}
		if !again {
			return out, nil
		}
	}
}
