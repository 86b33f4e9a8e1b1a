package stats

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/bits"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// NewPackedHistogram returns an empty histogram that stores only the buckets in
// use: some hundred bytes when new, 45 KB after a million lognormal latencies.
// Recording costs a binary search. Use it where there are many, as for pairs of
// source and destination.
func NewPackedHistogram() *Histogram {
	return &Histogram{packed: hdr.NewPacked(lowestNS, highestNS, digits)}
}

// sparse returns the buckets in use, in ascending order. The result must not be
// changed: it is h's own store when h is packed.
func (h *Histogram) sparse() *hdr.PackedHistogram {
	if h.packed != nil {
		return h.packed
	}
	p := hdr.NewPacked(lowestNS, highestNS, digits)
	if h.dense != nil {
		p.MergeFrom(h.dense)
	}
	return p
}

// bucketWidthNS returns the width of the bucket that begins at lowNS.
func bucketWidthNS(lowNS int64) int64 {
	power := bits.Len64(uint64(lowNS)|subBucketMask) - subBucketBits - unitBits
	return unitNS << power
}

// bucketMidNS returns the middle of the bucket that begins at lowNS. No value of
// the bucket is further away than half its width.
func bucketMidNS(lowNS int64) int64 { return lowNS + bucketWidthNS(lowNS)/2 }

const (
	// maxEncodedBytes bounds what DecodeHistogram looks at. A histogram with every
	// one of its 29,696 buckets at the largest count needs 9 bytes a bucket
	// before compression, and a third more in base64.
	maxEncodedBytes = 512 << 10
	// maxDecodedCount bounds the count of a decoded histogram: the largest
	// integer that every JSON reader keeps. A thousand of them still add up
	// without overflow.
	maxDecodedCount = 1<<53 - 1

	// Compressed V2: cookie, length of the zlib stream, zlib stream.
	outerHeaderBytes = 8
	// Inside the stream: cookie, payload length, index offset, digits (32 bits
	// each), lowest, highest, conversion ratio (64 bits each).
	innerHeaderBytes = 40
)

// Encode returns the histogram in the compressed V2 encoding of HdrHistogram as
// base64, which any HdrHistogram library reads as nanoseconds. Latencies above
// 24 h count as 24 h there. The exact numbers kept outside the buckets are not
// part of that format: store [Histogram.Moments] next to it and use
// [RestoreHistogram] to get everything back.
func (h *Histogram) Encode() (string, error) {
	b, err := h.sparse().Encode()
	if err != nil {
		return "", fmt.Errorf("encoding a histogram: %w", err)
	}
	return string(b), nil
}

// DecodeHistogram reads what [Histogram.Encode] wrote, and any other compressed
// V2 histogram of the same geometry (1,000 ns to 24 h, three digits). The result
// is packed. Its minimum, maximum, mean and standard deviation come from the
// middles of the buckets, since the encoding has nothing better. Input that is
// too long, damaged or of another geometry is an error, and costs no more than
// some MB of memory to find out.
func DecodeHistogram(s string) (*Histogram, error) {
	h, err := decodeHistogram(s)
	if err != nil {
		return nil, fmt.Errorf("decoding a histogram: %w", err)
	}
	return h, nil
}

func decodeHistogram(s string) (*Histogram, error) {
	if s == "" {
		return nil, errors.New("there is none")
	}
	if len(s) > maxEncodedBytes {
		return nil, fmt.Errorf("%d bytes are more than the %d a histogram can have", len(s), maxEncodedBytes)
	}
	// The library believes the geometry in the header and inflates up to 9 bytes
	// for each of its buckets: up to 55 MB, from a thousandth of that. So look first.
	if err := checkGeometry(s); err != nil {
		return nil, err
	}
	p, err := hdr.DecodePacked([]byte(s))
	if err != nil {
		return nil, err
	}
	if p.TotalCount() > maxDecodedCount {
		return nil, fmt.Errorf("a count of %d is more than the %d that can be trusted", p.TotalCount(), int64(maxDecodedCount))
	}
	h := &Histogram{packed: p, count: p.TotalCount()}
	for low, n := range p.ForEachBucket {
		if low > highestNS {
			return nil, fmt.Errorf("it has values above %d ns", highestNS)
		}
		mid := min(bucketMidNS(low), highestNS)
		if h.minNS == 0 {
			h.minNS = mid
		}
		h.maxNS = mid
		sq := square(uint64(mid))
		h.addMoments(times(uint64(mid), uint64(n)), timesWide(sq, uint64(n)))
	}
	return h, nil
}

// checkGeometry reads the header of an encoded histogram and no more.
func checkGeometry(s string) error {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return err
	}
	if len(raw) < outerHeaderBytes {
		return io.ErrUnexpectedEOF
	}
	z, err := zlib.NewReader(bytes.NewReader(raw[outerHeaderBytes:]))
	if err != nil {
		return err
	}
	header := make([]byte, innerHeaderBytes)
	if _, err := io.ReadFull(z, header); err != nil {
		return fmt.Errorf("reading the header: %w", err)
	}
	gotDigits := binary.BigEndian.Uint32(header[12:])
	gotLowest := int64(binary.BigEndian.Uint64(header[16:]))
	gotHighest := int64(binary.BigEndian.Uint64(header[24:]))
	if gotDigits != digits || gotLowest != lowestNS || gotHighest != highestNS {
		return fmt.Errorf("its range is %d to %d with %d digits; only %d to %d ns with %d digits can be merged",
			gotLowest, gotHighest, gotDigits, lowestNS, highestNS, digits)
	}
	return nil
}

// times returns a*b as words, the least significant first.
func times(a, b uint64) [2]uint64 {
	hi, lo := bits.Mul64(a, b)
	return [2]uint64{lo, hi}
}

// timesWide returns a*b for an a below 2^128 as words, the least significant first.
func timesWide(a [3]uint64, b uint64) [3]uint64 {
	low := times(a[0], b)
	high := times(a[1], b)
	mid, c := bits.Add64(low[1], high[0], 0)
	return [3]uint64{low[0], mid, high[1] + c}
}

// Moments are the exact numbers that a histogram keeps outside its buckets. The
// sums are decimal strings since they outgrow what JSON readers hold exactly.
type Moments struct {
	MinNS           int64  `json:"min_ns"`
	MaxNS           int64  `json:"max_ns"`
	SumNS           string `json:"sum_ns"`
	SumOfSquaresNS2 string `json:"sum_of_squares_ns2"`
	// Overflow is the number of latencies above 24 h, Negative of those below 0.
	Overflow int64 `json:"overflow"`
	Negative int64 `json:"negative"`
}

// Moments returns the exact numbers of h.
func (h *Histogram) Moments() Moments {
	return Moments{
		MinNS:           h.minNS,
		MaxNS:           h.maxNS,
		SumNS:           words(h.sum[:]).String(),
		SumOfSquaresNS2: words(h.squares[:]).String(),
		Overflow:        h.overflow,
		Negative:        h.negative,
	}
}

// RestoreHistogram returns the histogram that encoded and m were taken from, so
// that merging restored histograms is as exact as merging the originals. It is an
// error when the two cannot belong together.
func RestoreHistogram(encoded string, m Moments) (*Histogram, error) {
	h, err := DecodeHistogram(encoded)
	if err != nil {
		return nil, err
	}
	if err := h.restore(m); err != nil {
		return nil, fmt.Errorf("restoring a histogram: %w", err)
	}
	return h, nil
}

func (h *Histogram) restore(m Moments) error {
	sum, err := parseWords(m.SumNS, len(h.sum))
	if err != nil {
		return fmt.Errorf("reading sum_ns: %w", err)
	}
	squares, err := parseWords(m.SumOfSquaresNS2, len(h.squares))
	if err != nil {
		return fmt.Errorf("reading sum_of_squares_ns2: %w", err)
	}
	if m.Overflow < 0 || m.Overflow > h.count || m.Negative < 0 || m.Negative > maxDecodedCount {
		return fmt.Errorf("overflow %d and negative %d do not fit a count of %d", m.Overflow, m.Negative, h.count)
	}
	if h.count == 0 {
		if m.MinNS != 0 || m.MaxNS != 0 || words(sum).Sign() != 0 || words(squares).Sign() != 0 {
			return errors.New("the histogram is empty and its moments are not")
		}
		h.negative = m.Negative
		return nil
	}
	if !h.spans(m.MinNS, m.MaxNS) || (m.Overflow > 0) != (m.MaxNS > highestNS) {
		lowest, highest := h.edgesNS()
		return fmt.Errorf("minimum %d ns, maximum %d ns and overflow %d do not fit buckets from %d to %d ns",
			m.MinNS, m.MaxNS, m.Overflow, lowest, highest)
	}
	n := big.NewInt(h.count)
	total := words(sum)
	if total.Cmp(new(big.Int).Mul(n, big.NewInt(m.MinNS))) < 0 || total.Cmp(new(big.Int).Mul(n, big.NewInt(m.MaxNS))) > 0 {
		return fmt.Errorf("a sum of %s ns does not fit %d values between %d and %d ns", m.SumNS, h.count, m.MinNS, m.MaxNS)
	}
	// (Σx)² <= n Σx² <= n max Σx holds for any values between 0 and max.
	scaled := new(big.Int).Mul(n, words(squares))
	upper := new(big.Int).Mul(n, new(big.Int).Mul(big.NewInt(m.MaxNS), total))
	if new(big.Int).Mul(total, total).Cmp(scaled) > 0 || scaled.Cmp(upper) > 0 {
		return fmt.Errorf("a sum of squares of %s ns² does not fit a sum of %s ns", m.SumOfSquaresNS2, m.SumNS)
	}
	copy(h.sum[:], sum)
	copy(h.squares[:], squares)
	h.minNS, h.maxNS = m.MinNS, m.MaxNS
	h.overflow, h.negative = m.Overflow, m.Negative
	return nil
}

// spans tells whether the latencies of h can lie from minNS to maxNS.
func (h *Histogram) spans(minNS, maxNS int64) bool {
	lowest, highest := h.edgesNS()
	// What is above 24 h was put into the bucket of 24 h.
	inBucket := func(ns, low int64) bool {
		ns = min(ns, highestNS)
		return ns >= low && ns < low+bucketWidthNS(low)
	}
	return inBucket(minNS, lowest) && inBucket(maxNS, highest) && minNS <= maxNS
}

// narrow sets the exact minimum and maximum of a histogram that was decoded.
func (h *Histogram) narrow(minNS, maxNS int64) error {
	if !h.spans(minNS, maxNS) {
		return fmt.Errorf("minimum %d ns and maximum %d ns do not fit the buckets", minNS, maxNS)
	}
	h.minNS, h.maxNS = minNS, maxNS
	return nil
}

// edgesNS returns where the lowest and the highest bucket in use begin.
func (h *Histogram) edgesNS() (lowest, highest int64) {
	first := true
	for v := range h.sparse().ForEachBucket {
		if first {
			lowest, first = v, false
		}
		highest = v
	}
	return lowest, highest
}

// parseWords reads a decimal number of at most size 64-bit words.
func parseWords(s string, size int) ([]uint64, error) {
	const maxDigits = 60 // 192 bits have 58
	if s == "" || len(s) > maxDigits {
		return nil, fmt.Errorf("%d characters are no sum", len(s))
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return nil, errors.New("a sum has digits only")
		}
	}
	n, ok := new(big.Int).SetString(s, 10)
	if !ok || n.BitLen() > 64*size {
		return nil, fmt.Errorf("the number has more than %d bits", 64*size)
	}
	w := make([]uint64, size)
	mask := new(big.Int).SetUint64(^uint64(0))
	for i := range w {
		w[i] = new(big.Int).And(n, mask).Uint64()
		n.Rsh(n, 64)
	}
	return w, nil
}
