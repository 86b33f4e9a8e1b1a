package replay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// Errors of an answer that is not HTTP.
var (
	errMalformedAnswer = errors.New("malformed HTTP response")
	errLongHeader      = errors.New("HTTP response header is too long")

	// errMore says that an answer is not complete yet. It never leaves the package.
	errMore = errors.New("more bytes are needed")
)

const (
	maxHeaderBytes   = 1 << 20
	maxDiscard       = 1 << 20 // of an answer's body; a longer one costs the connection
	maxInformational = 100
	// maxIdleBuffer is how much room a connection keeps between two answers. What answers need is less, unless a line
	// of the header is long, and there can be tens of thousands of connections.
	maxIdleBuffer = 16 << 10
)

// answer is what a response head says about what follows.
type answer struct {
	major, minor  int
	length        int64 // -1 = not given
	chunked       bool
	close         bool
	keepAlive     bool
	badLength     bool
	badEncoding   bool
	confirmations int
	idRank        int // of the header that Response.RequestID is from; 0 = none
}

// part is where in an answer a reader is.
type part uint8

const (
	inStatus part = iota
	inHeader
	inBody      // left bytes to go
	inRest      // all until the end of the connection
	inChunkSize // the line before a chunk
	inChunk     // left bytes to go
	inChunkEnd  // the line end behind a chunk
	inTrailer
	complete
)

// answerReader parses HTTP/1.1 responses in place as their bytes come, however they are cut, and allocates nothing
// in the steady state. Whoever reads the connection puts bytes into space, says how many with got, and calls advance.
type answerReader struct {
	in      []byte // in[r:w] is read and not parsed
	r, w    int
	scanned int // of in[r:w]: holds no line end

	ids           bool // the request id is wanted
	at            part
	started       bool // a byte of the answer has come
	resp          Response
	head          answer
	headBytes     int
	framing       int
	informational int // 1xx responses before this one
	left          int64
	body          discard
	reusable      bool // when complete: the connection can carry another request
}

// next makes ready for another answer.
func (p *answerReader) next() {
	p.at, p.started, p.resp, p.head, p.reusable = inStatus, false, Response{}, answer{length: -1}, false
	p.headBytes, p.informational, p.left, p.framing = 0, 0, 0, 0
	p.body = discard{limit: maxDiscard, kept: p.body.kept[:0]}
}

// pending says whether bytes came that nobody asked for.
func (p *answerReader) pending() bool { return p.w > p.r }

// space returns where to read to; it is never empty.
func (p *answerReader) space() []byte {
	if p.r == p.w {
		p.r, p.w = 0, 0
	}
	switch {
	case p.in == nil:
		p.in = make([]byte, 4096)
	case p.w == len(p.in) && p.r > 0:
		p.w = copy(p.in, p.in[p.r:p.w])
		p.r = 0
	case p.w == len(p.in):
		p.in = append(p.in, make([]byte, len(p.in))...)
	}
	return p.in[p.w:]
}

// got says that n bytes were read into space.
func (p *answerReader) got(n int) {
	p.w += n
	p.started = p.started || n > 0
}

// advance parses what has come: nil when the answer is complete, errMore when it is not yet. Any other error is
// final.
func (p *answerReader) advance() error {
	for p.at != complete {
		if err := p.step(); err != nil {
			return err
		}
	}
	return nil
}

func (p *answerReader) step() error {
	switch p.at {
	case inBody, inChunk, inRest:
		return p.take()
	}
	l, err := p.line()
	if err != nil {
		return err
	}
	if p.framing += len(l) + 1; p.framing > 4<<20 {
		return errLongHeader
	}
	switch p.at {
	case inStatus:
		p.at = inHeader
		return p.status(l)
	case inHeader:
		if len(l) == 0 {
			return p.headDone()
		}
		return p.headerLine(l)
	case inChunkSize:
		return p.chunkSize(l)
	case inChunkEnd:
		if len(l) != 0 {
			return fmt.Errorf("%w: a chunk is longer than it says", errMalformedAnswer)
		}
		p.at = inChunkSize
	default: // inTrailer
		if len(l) == 0 {
			p.at = complete
		}
	}
	return nil
}

// end says that the connection has ended: nil when that completes the answer.
func (p *answerReader) end() error {
	switch {
	case p.at == inRest:
		p.at = complete
		return nil
	case !p.started:
		return io.EOF
	}
	return io.ErrUnexpectedEOF
}

// line takes the next line, without its end; it is valid until the next read.
func (p *answerReader) line() ([]byte, error) {
	i := bytes.IndexByte(p.in[p.r+p.scanned:p.w], '\n')
	if i < 0 {
		if p.scanned = p.w - p.r; p.scanned > maxHeaderBytes {
			return nil, errLongHeader
		}
		return nil, errMore
	}
	l := p.in[p.r : p.r+p.scanned+i]
	p.r += p.scanned + i + 1
	p.scanned = 0
	if n := len(l); n > 0 && l[n-1] == '\r' {
		l = l[:n-1]
	}
	return l, nil
}

// status reads a status line: HTTP/1.1 204 No Content.
func (p *answerReader) status(l []byte) error {
	if len(l) < 12 || string(l[:5]) != "HTTP/" || l[6] != '.' || l[8] != ' ' || (len(l) > 12 && l[12] != ' ') {
		return errMalformedAnswer
	}
	for _, i := range [...]int{5, 7, 9, 10, 11} {
		if l[i] < '0' || l[i] > '9' {
			return errMalformedAnswer
		}
	}
	p.head.major, p.head.minor = int(l[5]-'0'), int(l[7]-'0')
	p.resp.Status = int(l[9]-'0')*100 + int(l[10]-'0')*10 + int(l[11]-'0')
	return nil
}

func (p *answerReader) headerLine(l []byte) error {
	if p.headBytes += len(l); p.headBytes > maxHeaderBytes {
		return errLongHeader
	}
	if l[0] == ' ' || l[0] == '\t' {
		return nil // the rest of a folded value, none of which we read
	}
	i := bytes.IndexByte(l, ':')
	if i <= 0 || bytes.IndexByte(l[:i], ' ') >= 0 {
		return errMalformedAnswer
	}
	p.header(l[:i], bytes.Trim(l[i+1:], " \t"))
	return nil
}

// headDone decides by the head what follows it.
func (p *answerReader) headDone() error {
	resp, a := &p.resp, &p.head
	if resp.Status/100 == 1 && resp.Status != http.StatusSwitchingProtocols {
		if p.informational++; p.informational > maxInformational {
			return fmt.Errorf("%w: too many 1xx", errMalformedAnswer)
		}
		p.at, p.resp, p.head, p.headBytes = inStatus, Response{}, answer{length: -1}, 0
		return nil
	}
	if resp.Confirmed = a.confirmations == 0b111; !resp.Confirmed {
		resp.Written = Written{}
	}
	if resp.Status != http.StatusTooManyRequests && resp.Status/100 != 5 {
		resp.RetryAfter = 0
	}
	modern := a.major > 1 || (a.major == 1 && a.minor >= 1)
	p.reusable = !a.close && (modern || a.keepAlive)
	if resp.Status/100 != 2 {
		p.body.keep = maxMessage
	}
	switch {
	case a.badLength:
		return fmt.Errorf("%w: bad Content-Length", errMalformedAnswer)
	case a.badEncoding && modern:
		return fmt.Errorf("%w: unsupported transfer encoding", errMalformedAnswer)
	case resp.Status/100 == 1:
		p.at, p.reusable = complete, false
	case resp.Status == http.StatusNoContent || resp.Status == http.StatusNotModified:
		p.at = complete
	case a.chunked && modern:
		p.at = inChunkSize
	case a.length == 0:
		p.at = complete
	case a.length > 0:
		p.at, p.left = inBody, a.length
	default: // the end of the connection is the end of the answer
		p.at, p.left, p.reusable = inRest, 1<<62, false
	}
	return nil
}

// take drops body bytes.
func (p *answerReader) take() error {
	if p.r == p.w {
		return errMore
	}
	n := min(int64(p.w-p.r), p.left)
	b := p.in[p.r : p.r+int(n)]
	p.r += int(n)
	p.left -= n
	if !p.body.take(b) {
		p.at, p.reusable = complete, false // longer than anybody needs to read
		return nil
	}
	if p.left == 0 {
		if p.at == inChunk {
			p.at = inChunkEnd
		} else {
			p.at = complete
		}
	}
	return nil
}

func (p *answerReader) chunkSize(l []byte) error {
	if i := bytes.IndexByte(l, ';'); i >= 0 {
		l = l[:i]
	}
	l = bytes.TrimRight(l, " \t")
	if len(l) == 0 || len(l) > 15 {
		return fmt.Errorf("%w: bad chunk size", errMalformedAnswer)
	}
	p.left = 0
	for _, ch := range l {
		h := unhex(ch)
		if h < 0 {
			return fmt.Errorf("%w: bad chunk size", errMalformedAnswer)
		}
		p.left = p.left<<4 | h
	}
	if p.at = inChunk; p.left == 0 {
		p.at = inTrailer
	}
	return nil
}

// response is the complete answer. The connection may rest from then on, so room that this answer alone needed is given
// back.
func (p *answerReader) response() Response {
	if len(p.in) > maxIdleBuffer && !p.pending() {
		p.in, p.r, p.w = nil, 0, 0
	}
	if p.resp.Status/100 != 2 {
		p.resp.Message = oneLine(string(p.body.kept))
	}
	return p.resp
}

// brokenAnswer is what comes of an answer that ends with an error.
func brokenAnswer(err error) Response {
	return failure(fmt.Errorf("reading the answer: %w", err))
}

// header takes what matters of one header line.
func (p *answerReader) header(name, value []byte) {
	resp, a := &p.resp, &p.head
	if p.ids {
		a.requestID(name, value, resp)
	}
	switch len(name) {
	case len("Content-Length"):
		if foldEqual(name, "Content-Length") {
			n, ok := digits(value)
			if !ok || (a.length >= 0 && a.length != n) {
				a.badLength = true
			}
			a.length = n
		}
	case len("Transfer-Encoding"):
		if foldEqual(name, "Transfer-Encoding") {
			a.badEncoding = a.badEncoding || a.chunked || !foldEqual(value, "chunked")
			a.chunked = true
		}
	case len("Connection"):
		if foldEqual(name, "Connection") {
			for len(value) > 0 {
				var token []byte
				token, value, _ = bytes.Cut(value, []byte(","))
				token = bytes.Trim(token, " \t")
				a.close = a.close || foldEqual(token, "close")
				a.keepAlive = a.keepAlive || foldEqual(token, "keep-alive")
			}
		}
	case len("Retry-After"):
		if foldEqual(name, "Retry-After") {
			resp.RetryAfter = retryAfter(string(value), time.Now())
		}
	case len(remotewrite.HeaderSamplesWritten):
		if foldEqual(name, remotewrite.HeaderSamplesWritten) {
			a.confirm(0, value, &resp.Written.Samples)
		}
	case len(remotewrite.HeaderHistogramsWritten):
		if foldEqual(name, remotewrite.HeaderHistogramsWritten) {
			a.confirm(1, value, &resp.Written.Histograms)
		}
	case len(remotewrite.HeaderExemplarsWritten):
		if foldEqual(name, remotewrite.HeaderExemplarsWritten) {
			a.confirm(2, value, &resp.Written.Exemplars)
		}
	}
}

// confirm takes the first value of a confirmation header, as http.Header.Get does.
func (a *answer) confirm(bit int, value []byte, to *int) {
	if a.confirmations&(0b1001<<bit) != 0 {
		return
	}
	n, ok := digits(value)
	if !ok || n > 1<<53 {
		a.confirmations |= 0b1000 << bit // seen and no number
		return
	}
	a.confirmations |= 1 << bit
	*to = int(n)
}

func foldEqual(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		x, y := b[i], s[i]
		if 'A' <= x && x <= 'Z' {
			x |= 0x20
		}
		if 'A' <= y && y <= 'Z' {
			y |= 0x20
		}
		if x != y {
			return false
		}
	}
	return true
}

// digits reads a decimal number without a sign.
func digits(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// discard takes an answer's body: it keeps the beginning.
type discard struct {
	keep, limit int64
	kept        []byte
	seen        int64
}

// take returns false when the body is longer than the limit.
func (d *discard) take(b []byte) bool {
	if rest := d.keep - int64(len(d.kept)); rest > 0 {
		d.kept = append(d.kept, b[:min(int64(len(b)), rest)]...)
	}
	d.seen += int64(len(b))
	return d.seen <= d.limit+d.keep
}

// unhex returns the value of a hexadecimal digit, or -1.
func unhex(c byte) int64 {
	switch {
	case '0' <= c && c <= '9':
		return int64(c - '0')
	case 'a' <= c && c <= 'f':
		return int64(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int64(c-'A') + 10
	}
	return -1
}
