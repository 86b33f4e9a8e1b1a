package lambdalog

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"time"
)

// This file is the short way through a plain text log, for the shape that nearly
// all REPORT lines have. It decides by the first byte of a line, and by fixed
// words at fixed places. Whatever is not exactly as expected is left to the
// careful parser, so that both ways give the same result; fast_test.go and
// FuzzSummary compare them.

// fastReport is a REPORT line in its usual form: tab separated, durations with
// two decimals, without status, error or restore.
type fastReport struct {
	duration int64
	init     int64 // 1/100 ms, as duration; -1 for none
	billed   int64 // ms
	memory   int64 // MB
	used     int64 // MB
}

// fastLine is the longest line that the short way reads, and what must be there
// behind the start of a line so that it needs no further checks of its end.
const fastLine = 256

const (
	fastHead  = "REPORT RequestId: "
	requestID = 36
)

// word returns 8 bytes as they lie in memory.
func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// number reads up to 7 digits at the start of b and returns their value and how
// many there were: 0 when there is none, 8 when there are more.
func number(b []byte) (v int64, n int) {
	w := word(b) ^ 0x3030303030303030
	// A byte above 9 gets its high bit set. A carry can only come from such a byte
	// and go to later ones, of which the first is not one.
	stop := (w + 0x7676767676767676 | w) & 0x8080808080808080
	n = bits.TrailingZeros64(stop) >> 3
	w <<= (8 - uint(n)) * 8 // leading zeros instead of what follows
	w = w*10 + w>>8
	w = (w&0x000000ff000000ff*0x000f424000000064 + w>>16&0x000000ff000000ff*0x0000271000000001) >> 32
	return int64(w & 0xffffffff), n
}

// parseFast reads the REPORT line at the start of b, of which at least fastLine
// bytes must be there, and returns its length with the newline; 0 for any line
// that is not exactly as expected.
func parseFast(b []byte, r *fastReport) int {
	b = b[:fastLine:fastLine]
	if string(b[:16]) != fastHead[:16] || b[16] != ':' || b[17] != ' ' {
		return 0
	}
	const id = len(fastHead)
	if !oneWord(b[id : id+requestID]) {
		return 0
	}
	p := id + requestID
	if string(b[p:p+11]) != "\tDuration: " {
		return 0
	}
	p += 11
	v, n := hundredthsAt(b[p:])
	if n == 0 {
		return 0
	}
	r.duration = v
	p += n
	if string(b[p:p+16]) != " ms\tBilled Durat" || string(b[p+16:p+21]) != "ion: " {
		return 0
	}
	p += 21
	if v, n = number(b[p:]); n == 0 || n > 7 {
		return 0
	}
	r.billed = v
	p += n
	if string(b[p:p+16]) != " ms\tMemory Size:" || b[p+16] != ' ' {
		return 0
	}
	p += 17
	if v, n = number(b[p:]); n == 0 || n > 7 {
		return 0
	}
	r.memory = v
	p += n
	if string(b[p:p+16]) != " MB\tMax Memory U" || string(b[p+16:p+21]) != "sed: " {
		return 0
	}
	p += 21
	if v, n = number(b[p:]); n == 0 || n > 7 {
		return 0
	}
	r.used = v
	p += n
	r.init = -1
	if string(b[p:p+5]) == " MB\t\n" {
		return p + 5
	}
	if string(b[p:p+16]) != " MB\tInit Duratio" || string(b[p+16:p+19]) != "n: " {
		return 0
	}
	p += 19
	if v, n = hundredthsAt(b[p:]); n == 0 {
		return 0
	}
	r.init = v
	p += n
	if string(b[p:p+5]) == " ms\t\n" {
		return p + 5
	}
	return 0
}

// oneWord says that the bytes of a request id are one word: none of them is a tab,
// a space, a newline or anything else below '!', and none is beyond ASCII.
func oneWord(b []byte) bool {
	const space = 0x2121212121212121
	b = b[:requestID]
	w0, w1, w2, w3, w4 := word(b), word(b[8:]), word(b[16:]), word(b[24:]), word(b[28:])
	return ((w0-space)|w0|(w1-space)|w1|(w2-space)|w2|(w3-space)|w3|(w4-space)|w4)&0x8080808080808080 == 0
}

// frame returns the length of the START or END line at the start of b, of which
// at least fastLine bytes must be there; 0 for any other line. These two are half
// of most logs, and where they end is known without a search.
func frame(b []byte) int {
	b = b[:fastLine:fastLine]
	const start, end = 71, 52
	switch {
	case b[start-1] == '\n' && string(b[:16]) == "START RequestId:" && string(b[start-17:start-1]) == "Version: $LATEST" && b[16] == ' ' && b[start-18] == ' ' && oneWord(b[17:17+requestID]):
		return start
	case b[end-1] == '\n' && string(b[:15]) == "END RequestId: " && oneWord(b[15:15+requestID]):
		return end
	}
	return 0
}

// hundredthsAt reads a number with two decimals and returns it in hundredths
// with its length; 0 when it is none.
func hundredthsAt(b []byte) (v int64, n int) {
	v, n = number(b)
	if n == 0 || n > 7 || b[n] != '.' {
		return 0, 0
	}
	tens, ones := b[n+1]-'0', b[n+2]-'0'
	if tens > 9 || ones > 9 {
		return 0, 0
	}
	return v*100 + int64(tens)*10 + int64(ones), n + 3
}

// plain says that the billed time follows from the durations by the rule of
// today, so that nothing about the record needs a closer look.
func (r *fastReport) plain() bool {
	hundredths := r.duration
	if r.init > 0 {
		hundredths += r.init
	}
	off := r.billed - (hundredths+99)/100
	return off >= -1 && off <= 1 && r.memory > 0
}

// invocation returns what the careful parser makes of the line at the start of b.
func (r *fastReport) invocation(b []byte) Invocation {
	v := Invocation{
		Kind: KindReport, RequestID: string(b[len(fastHead) : len(fastHead)+requestID]),
		Duration: MillisOf(time.Duration(r.duration) * hundredth), Billed: MillisOf(time.Duration(r.billed) * time.Millisecond),
		Memory: MB(r.memory), MaxMemoryUsed: MB(r.used), Status: StatusSuccess, Billable: true, Rule: RuleMillisecond,
	}
	if r.init >= 0 {
		v.Init, v.Cold = MillisOf(time.Duration(r.init)*hundredth), true
	}
	return v
}

// hundredth is the unit of durations in text records.
const hundredth = time.Millisecond / 100

// dull says that a line can hold no record, from its first bytes alone. It never
// errs on the side of true. line has its newline, or is the last of the input.
func dull(line []byte) bool {
	if len(line) < 2 {
		return len(line) == 0 || line[0] == '\n'
	}
	switch c := line[0]; c {
	case 'S': // START, but Status:
		return line[1] != 't'
	case 'E': // END, but Error Type:
		return line[1] != 'r'
	case 'D', 'B', 'R', 'I', 'M', 'P': // the other labels and the REPORTs
		return !hasLabelStart(line)
	case '{':
		return !mayBeRecord(line)
	case '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return !hasPrefix(line)
	case ' ', '\t', '\r', '\v', '\f':
		// Only an object may stand behind space.
		rest := bytes.TrimLeft(line, " \t\r\v\f\n")
		return len(rest) == 0 || rest[0] < 0x80 && (rest[0] != '{' || !mayBeRecord(rest))
	default:
		return c < 0x80
	}
}

// hasLabelStart says that a line may begin with a label or a record's name.
func hasLabelStart(line []byte) bool {
	second := line[1]
	switch line[0] {
	case 'D': // Duration
		return second == 'u'
	case 'B': // Billed …
		return second == 'i'
	case 'R': // REPORT, RESTORE_REPORT, RequestId, Restore Duration
		return second == 'E' || second == 'e'
	case 'I': // INIT_REPORT, Init Duration
		return second == 'N' || second == 'n'
	case 'M': // Max Memory Used, Memory Size
		return second == 'a' || second == 'e'
	default: // Phase
		return second == 'h'
	}
}

// mayBeRecord says that an object may be a platform record or a performance
// event: it holds a part of what the careful parser looks for.
func mayBeRecord(line []byte) bool {
	return bytes.Contains(line, []byte("_duration")) || bytes.Contains(line, []byte("platform."))
}

// hasPrefix says that a line may begin with a time or a log stream that a
// container put there.
func hasPrefix(line []byte) bool {
	if len(line) < len("2026/11/20/[") {
		return false
	}
	if line[4] == '/' {
		return true
	}
	if line[4] != '-' || line[10] != 'T' {
		return false
	}
	// The first word must be a time and nothing else.
	for _, c := range line[11:] {
		switch {
		case c == ' ':
			return true
		case c >= '0' && c <= '9', c == ':', c == '.', c == ',', c == 'Z', c == '+', c == '-':
		default:
			return false
		}
	}
	return false
}
