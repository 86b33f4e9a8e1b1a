package remotewrite

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/golang/snappy"
)

// claim is a body of n bytes that announces a decoded length.
func claim(decoded uint64, n int) []byte {
	b := binary.AppendUvarint(nil, decoded)
	for len(b) < n {
		b = append(b, 0)
	}
	return b
}

func TestDecode(t *testing.T) {
	text := []byte(strings.Repeat("up{job=\"api\"} ", 1000))
	zeros := make([]byte, 1<<20)
	var framed bytes.Buffer
	fw := snappy.NewBufferedWriter(&framed)
	if _, err := fw.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := fw.Close(); err != nil {
		t.Fatal(err)
	}
	good := snappy.Encode(nil, text)
	tests := []struct {
		name   string
		body   []byte
		max    int
		want   []byte
		reason string
		text   []string // what the error says
	}{
		{name: "text", body: good, want: text},
		{name: "empty message", body: []byte{0}, want: []byte{}},
		{name: "at the limit", body: good, max: len(text), want: text},
		{name: "best ratio", body: snappy.Encode(nil, zeros), want: zeros},
		{name: "one over the limit", body: good, max: len(text) - 1, reason: "decoded_too_large", text: []string{"14000", "13999"}},
		{name: "over the default limit", body: claim(64<<20+1, 1<<20), reason: "decoded_too_large", text: []string{"67108865", "67108864"}},
		{name: "1 GiB in six bytes", body: claim(1<<30, 6), reason: "decoded_too_large"},
		{name: "1 GiB in six bytes, allowed", body: claim(1<<30, 6), max: 1 << 31, reason: "snappy_corrupt"},
		{name: "60 MiB in six bytes", body: claim(60<<20, 6), reason: "snappy_corrupt"},
		{name: "beyond 32 bits", body: claim(1<<32, 9), max: 1 << 40, reason: "snappy_corrupt"},
		{name: "all ones", body: []byte{0xff, 0xff, 0xff, 0xff, 0x0f}, reason: "decoded_too_large"},
		{name: "endless length", body: bytes.Repeat([]byte{0xff}, 20), reason: "snappy_corrupt"},
		{name: "length cut short", body: []byte{0x80}, reason: "snappy_corrupt"},
		{name: "cut short", body: good[:len(good)-1], reason: "snappy_corrupt"},
		{name: "too long", body: append(bytes.Clone(good), 0, 'x'), reason: "snappy_corrupt"},
		{name: "empty", body: nil, reason: "body_empty"},
		{name: "framed", body: framed.Bytes(), reason: "snappy_framed", text: []string{"framed"}},
		{name: "gzip", body: []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"), reason: "not_snappy", text: []string{"gzip"}},
		{name: "zstd", body: []byte("\x28\xb5\x2f\xfd\x00\x00\x00"), reason: "not_snappy", text: []string{"zstd"}},
		{name: "not compressed", body: text, reason: "snappy_corrupt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dst := make([]byte, 3, 100)
			got, err := Decode(dst, tt.body, tt.max)
			if tt.reason == "" {
				if err != nil || !bytes.Equal(got, tt.want) {
					t.Fatalf("%d bytes, %v; want %d bytes", len(got), err, len(tt.want))
				}
				if n, err := DecodedLen(tt.body, tt.max); err != nil || n != len(tt.want) {
					t.Errorf("DecodedLen = %d, %v", n, err)
				}
				return
			}
			e := wantError(t, err, 400, tt.reason)
			for _, s := range tt.text {
				if !strings.Contains(e.Error(), s) {
					t.Errorf("error %q does not say %q", e.Error(), s)
				}
			}
			if len(got) != 0 || cap(got) < cap(dst) {
				t.Errorf("on error len %d cap %d: the caller's buffer is lost", len(got), cap(got))
			}
		})
	}
}

func TestEncode(t *testing.T) {
	var buf []byte
	for _, n := range []int{100_000, 0, 1, 100, 70_000} {
		message := bytes.Repeat([]byte("message "), n/8+1)[:n]
		if got := EncodedLen(int64(n)); got != int64(snappy.MaxEncodedLen(n)) {
			t.Errorf("EncodedLen(%d) = %d, snappy says %d", n, got, snappy.MaxEncodedLen(n))
		}
		before := cap(buf)
		buf = Encode(buf, message)
		if before > 0 && cap(buf) != before {
			t.Errorf("%d bytes: a buffer of %d bytes is not reused", n, before)
		}
		if got, err := snappy.Decode(nil, buf); err != nil || !bytes.Equal(got, message) {
			t.Errorf("%d bytes: %d back, %v", n, len(got), err)
		}
	}
}

func TestDecodeReusesItsBuffer(t *testing.T) {
	c := readCapture(t, "v1-prom242-500samples-plain.snappy")
	buf, err := Decode(nil, c.body, 0)
	if err != nil {
		t.Fatal(err)
	}
	allocs := testing.AllocsPerRun(50, func() {
		if buf, err = Decode(buf, c.body, 0); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a body", allocs)
	}
}

// TestBombAllocatesNothing holds what a refused body may cost: an error, and
// never memory of the size that it announces.
func TestBombAllocatesNothing(t *testing.T) {
	for name, body := range map[string][]byte{
		"1 GiB":  claim(1<<30, 6),
		"60 MiB": claim(60<<20, 6),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			const rounds = 10
			for range rounds {
				if _, err := Decode(nil, body, 0); err == nil {
					t.Fatal("accepted")
				}
			}
			runtime.ReadMemStats(&after)
			if got := (after.TotalAlloc - before.TotalAlloc) / rounds; got > 16<<10 {
				t.Errorf("refusing it allocated %d bytes", got)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(snappy.Encode(nil, []byte("up up up up up up up up up up up up up up")))
	f.Add(claim(1<<30, 6))
	f.Add([]byte("\xff\x06\x00\x00sNaPpY\x01"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x28"))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	const limit = 1 << 20
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := Decode(nil, body, limit)
		if err != nil {
			wantAnyError(t, err)
			got = nil
		} else if cap(got) > limit+limit/8+64 {
			t.Fatalf("allocated %d bytes", cap(got))
		}
		// What is refused is nothing that snappy itself would have decoded within
		// the limit.
		n, lenErr := snappy.DecodedLen(body)
		if lenErr != nil || n > limit {
			if err == nil {
				t.Fatalf("accepted a body of length %d (%v)", n, lenErr)
			}
			return
		}
		want, wantErr := snappy.Decode(nil, body)
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v; snappy %d bytes, %v", len(got), err, len(want), wantErr)
		}
	})
}
