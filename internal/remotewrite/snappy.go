package remotewrite

import (
	"bytes"
	"encoding/binary"
	"net/http"

	"github.com/golang/snappy"
)

// DecodedLen reads the decoded length that a snappy block announces and checks
// it before anybody allocates that much. maxDecoded is in bytes; zero is the
// default of [Limits.MaxDecodedBytes].
//
// It refuses with an [*Error] of Status 400: an empty body, the framed snappy
// format and other compressions (with a hint), a length above maxDecoded (with
// both numbers), and a length that a body of this size cannot hold: a snappy
// element of 3 bytes yields 64 at most, so six bytes that announce megabytes
// are a lie or cut short.
func DecodedLen(body []byte, maxDecoded int) (int, error) {
	if maxDecoded <= 0 {
		maxDecoded = defaultMaxDecodedBytes
	}
	if err := sniff(body); err != nil {
		return 0, err
	}
	n, hdr := binary.Uvarint(body)
	if hdr <= 0 || n > 1<<32-1 {
		return 0, badRequest(reasonSnappyCorrupt, "decoding snappy: the %d-byte body does not start with a length", len(body))
	}
	if n > uint64(maxDecoded) {
		err := badRequest(reasonDecodedTooLarge, "decoding snappy: the body decodes to %d bytes, the limit is %d", n, maxDecoded)
		err.Hint = reasonTooManySamples.hint()
		return 0, err
	}
	if 3*n > 64*uint64(len(body)-hdr) {
		return 0, badRequest(reasonSnappyCorrupt, "decoding snappy: a %d-byte body cannot decode to the announced %d bytes", len(body), n)
	}
	return int(n), nil
}

// sniff recognises bodies that are surely not a snappy block.
func sniff(body []byte) error {
	wrong := func(r reason, what string) error {
		return &Error{
			Status: http.StatusBadRequest,
			Reason: r.String(),
			Detail: "decoding snappy: " + what,
			Hint:   "compress the body in the snappy block format (Encode, not a stream writer)",
		}
	}
	switch {
	case len(body) == 0:
		return wrong(reasonBodyEmpty, "the body is empty")
	case bytes.HasPrefix(body, []byte("\xff\x06\x00\x00sNaPpY")):
		return wrong(reasonSnappyFramed, "the body is in the framed (stream) format")
	case bytes.HasPrefix(body, []byte("\x28\xb5\x2f\xfd")):
		return wrong(reasonNotSnappy, "the body is zstd")
	case bytes.HasPrefix(body, []byte("\x1f\x8b\x08")):
		return wrong(reasonNotSnappy, "the body is gzip")
	}
	return nil
}

// EncodedLen is the most bytes that [Encode] makes of a message of n bytes.
func EncodedLen(n int64) int64 { return 32 + n + n/6 }

// Encode packs a message, of 3 GiB at most, as a snappy block into dst's capacity;
// when dst is too small for [EncodedLen] it allocates. Neither may overlap the other.
func Encode(dst, message []byte) []byte {
	if need := EncodedLen(int64(len(message))); int64(cap(dst)) < need {
		dst = make([]byte, need)
	}
	return snappy.Encode(dst[:cap(dst)], message)
}

// Decode unpacks a snappy block into dst's capacity and returns the decoded
// bytes; when dst is too small it allocates once, with some room for the next
// body. It makes the checks of [DecodedLen] first, so it never allocates more
// than maxDecoded bytes plus that room. Neither dst nor the result may overlap
// body. On error the result is dst[:0], so that a caller can keep its buffer.
func Decode(dst, body []byte, maxDecoded int) ([]byte, error) {
	n, err := DecodedLen(body, maxDecoded)
	if err != nil {
		return dst[:0], err
	}
	if cap(dst) < n {
		// Bodies of one sender differ by a few percent: an eighth of head-room
		// lets a reused buffer settle after the first request.
		dst = make([]byte, n+n/8)
	}
	out, err := snappy.Decode(dst[:cap(dst)], body)
	if err != nil {
		return dst[:0], badRequest(reasonSnappyCorrupt, "decoding snappy: the %d-byte body is corrupt or cut short", len(body))
	}
	return out, nil
}
