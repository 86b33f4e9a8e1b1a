package lambdahost

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// report is what Lambda says of an invocation when it is over.
type report struct {
	id          string
	duration    time.Duration
	cold        bool
	init        time.Duration // when cold
	memoryMB    int
	maxMemoryMB int
	status      string // empty, "error" or "timeout"
	errorType   string
}

// String is the REPORT line, without its line feed. Init Duration comes last and is
// billed since August 2025. The trailing tab is Lambda's.
func (r *report) String() string {
	var b strings.Builder
	billed := r.duration
	if r.cold {
		billed += r.init
	}
	fmt.Fprintf(&b, "REPORT RequestId: %s\tDuration: %s ms\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t",
		r.id, millis(r.duration), ceilMillis(billed), r.memoryMB, r.maxMemoryMB)
	if r.cold {
		fmt.Fprintf(&b, "Init Duration: %s ms\t", millis(r.init))
	}
	if r.status != "" {
		fmt.Fprintf(&b, "Status: %s\t", r.status)
	}
	if r.errorType != "" {
		fmt.Fprintf(&b, "Error Type: %s\t", r.errorType)
	}
	return b.String()
}

// initReport is the line of a start that came to nothing.
func initReport(d time.Duration, status, errorType string) string {
	s := fmt.Sprintf("INIT_REPORT Init Duration: %s ms\tPhase: init\tStatus: %s\t", millis(d), status)
	if errorType != "" {
		s += "Error Type: " + errorType + "\t"
	}
	return s
}

func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 2, 64)
}

// ceilMillis rounds up to whole milliseconds; what ran is never free.
func ceilMillis(d time.Duration) int64 {
	return max(1, int64((d+time.Millisecond-1)/time.Millisecond))
}

// newRequestID returns a random UUID (version 4).
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
