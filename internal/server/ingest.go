package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// DefaultName is the org or the cluster of a request that names none.
const DefaultName = "default"

// Input is a remote-write request apart from its transport.
type Input struct {
	Org             string // already authenticated; empty: [DefaultName]
	Cluster         string // empty: [DefaultName]
	ContentType     string
	ContentEncoding string
	Body            []byte // as received; only read, and not kept
}

// Result is the answer to a request.
type Result struct {
	Status  int
	Header  http.Header         // may be nil
	Message string              // the body of the answer, of which the first line says it all; empty with 204
	Summary remotewrite.Summary // what was stored, now or before, also when the rest was refused; zero otherwise
	Created bool                // false: refused, or stored before
}

// Ingest checks a request and hands it to the sink. What can go wrong is in the
// status of the result; a panic is a 500. Calls may run at the same time.
func (c *Core) Ingest(ctx context.Context, in Input) (res Result) {
	x := c.begin()
	defer func() {
		if p := recover(); p != nil {
			res = x.panicked(ctx, p)
		}
		x.end(ctx, res)
	}()
	if res, ok := x.admit(in.Org, in.Cluster, in.ContentType, in.ContentEncoding); !ok {
		return res
	}
	x.seen.WireBytes = len(in.Body)
	if int64(len(in.Body)) > c.cfg.MaxBodyBytes {
		return x.tooLarge()
	}
	if !x.reserve(int64(len(in.Body))) {
		return x.busy()
	}
	return x.process(ctx, in.Body)
}

// exchange is one request and its answer.
type exchange struct {
	c        *Core
	start    time.Time
	scratch  *scratch
	reserved int64 // of the budget
	org      string
	cluster  string
	path     string // these three of an HTTP request, for the log
	remote   string
	agent    string
	seen     Observation
	err      error // for the log
}

func (c *Core) begin() *exchange {
	c.requests.Add(1)
	return &exchange{c: c, start: c.cfg.Now(), scratch: c.getScratch()}
}

// end gives back what the exchange holds, and counts and logs it.
func (x *exchange) end(ctx context.Context, res Result) {
	c := x.c
	c.budget.give(x.reserved)
	if x.scratch != nil {
		c.putScratch(x.scratch)
	}
	c.requests.Add(-1)
	x.seen.Status = res.Status
	x.seen.Total = c.cfg.Now().Sub(x.start)
	x.log(ctx, res)
	if c.cfg.Metrics != nil {
		c.cfg.Metrics.Observe(x.seen)
	}
}

func (x *exchange) log(ctx context.Context, res Result) {
	log := x.c.log
	switch {
	case res.Status >= http.StatusInternalServerError:
		if log.Enabled(ctx, slog.LevelWarn) {
			log.LogAttrs(ctx, slog.LevelWarn, "request not stored", x.attrs(res)...)
		}
	case res.Status >= http.StatusBadRequest:
		if log.Enabled(ctx, slog.LevelInfo) {
			log.LogAttrs(ctx, slog.LevelInfo, "request refused", x.attrs(res)...)
		}
	default:
		if log.Enabled(ctx, slog.LevelDebug) {
			log.LogAttrs(ctx, slog.LevelDebug, "request stored", x.attrs(res)...)
		}
	}
}

func (x *exchange) attrs(res Result) []slog.Attr {
	attrs := []slog.Attr{
		slog.Int("status", res.Status), slog.String("org", x.org), slog.String("cluster", x.cluster),
		slog.Int("wire_bytes", x.seen.WireBytes), slog.Duration("duration", x.seen.Total),
	}
	if x.seen.Version != 0 {
		attrs = append(attrs, slog.String("version", x.seen.Version.String()))
	}
	if x.seen.Reason != "" {
		attrs = append(attrs, slog.String("reason", x.seen.Reason), slog.String("message", firstLine(res.Message)))
	}
	if x.seen.Reason == "" || x.seen.Partial {
		attrs = append(attrs, slog.Int("samples", x.seen.Summary.Samples), slog.Bool("duplicate", x.seen.Duplicate))
	}
	if x.remote != "" {
		attrs = append(attrs, slog.String("path", x.path), slog.String("remote", x.remote), slog.String("user_agent", x.agent))
	}
	if x.err != nil {
		attrs = append(attrs, slog.String("error", x.err.Error()))
	}
	return attrs
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// admit checks what can be checked without the body. It is not ok when the result
// is final.
func (x *exchange) admit(org, cluster, contentType, contentEncoding string) (Result, bool) {
	v, err := remotewrite.Negotiate(contentType, contentEncoding)
	if err != nil {
		return x.refuseError(err), false
	}
	x.seen.Version = v
	x.org, x.cluster = cmp.Or(org, DefaultName), cmp.Or(cluster, DefaultName)
	// Before they come near a path.
	if err := capture.ValidName(x.org); err != nil {
		x.org = ""
		return x.refuse(http.StatusBadRequest, reasonOrgName, "org: "+err.Error(), "set X-Scope-OrgID to a plain name"), false
	}
	if err := capture.ValidName(x.cluster); err != nil {
		x.cluster = ""
		return x.refuse(http.StatusBadRequest, reasonClusterName, "cluster: "+err.Error(), "set ?cluster_name= to a plain name"), false
	}
	return Result{}, true
}

// process takes a body within the limits, for which memory is reserved, to the sink.
func (x *exchange) process(ctx context.Context, body []byte) Result {
	c, lim := x.c, x.c.cfg.Limits
	n, err := remotewrite.DecodedLen(body, lim.MaxDecodedBytes)
	if err != nil {
		return x.refuseError(err)
	}
	if !x.reserve(int64(n)) {
		return x.busy()
	}
	now := c.cfg.Now()
	s := x.scratch
	s.decoded, err = remotewrite.Decode(s.decoded, body, lim.MaxDecodedBytes)
	if err != nil {
		return x.refuseError(err)
	}
	x.seen.DecodedBytes = n
	if n == 0 {
		// A valid message of both versions, but nobody sends a request to say nothing:
		// an encoder has lost its content.
		return x.refuse(http.StatusBadRequest, reasonEmptyMessage, "the body decodes to an empty message", "")
	}
	sum, err := s.walker.Walk(x.seen.Version, s.decoded, lim, now)
	x.seen.Decode = c.cfg.Now().Sub(now)
	if err != nil {
		return x.refused(ctx, now, sum, err)
	}
	created, res, ok := x.store(ctx, now, body, sum)
	if !ok {
		return res
	}
	res = Result{Status: http.StatusNoContent, Summary: sum, Created: created}
	if x.seen.Version == remotewrite.V2 {
		res.Header = http.Header{}
		// A duplicate has the full counts: a sender that reads zeros takes the data for
		// lost.
		setWritten(res.Header, sum.Samples, sum.Histograms(), sum.Exemplars)
	}
	return res
}

// refused answers a request of which the walk has refused something, after storing
// the rest: what is good in a request must not go down with what is bad in it, for the
// sender drops all of it. sum is what the rest holds.
func (x *exchange) refused(ctx context.Context, now time.Time, sum remotewrite.Summary, err error) Result {
	s := x.scratch
	lost := s.walker.Rejections()
	x.seen.Rejected = Amounts{Samples: lost.Samples, Histograms: lost.Histograms, Exemplars: lost.Exemplars, Metadata: lost.Metadata}
	x.seen.Refused = lost.ByReason
	res := x.refuseError(err)
	if lost.Total() == 0 {
		return res
	}
	kept := fmt.Sprintf("nothing of the request is stored (%d refused)", lost.Total())
	if sum.Series+sum.Metadata > 0 {
		left := s.walker.CutRefused(s.decoded)
		if !x.reserve(remotewrite.EncodedLen(int64(len(left)))) {
			return x.busy()
		}
		s.encoded = remotewrite.Encode(s.encoded, left)
		created, failure, ok := x.store(ctx, now, s.encoded, sum)
		if !ok {
			x.seen.Rejected = Amounts{
				Samples: sum.Samples + lost.Samples, Histograms: sum.Histograms() + lost.Histograms,
				Exemplars: sum.Exemplars + lost.Exemplars, Metadata: sum.Metadata + lost.Metadata,
			}
			return failure
		}
		x.seen.Partial = true
		kept = fmt.Sprintf("the rest of the request, %d series and %d metadata entries, is stored", sum.Series, sum.Metadata)
		res.Summary, res.Created = sum, created
		if x.seen.Version == remotewrite.V2 {
			setWritten(res.Header, sum.Samples, sum.Histograms(), sum.Exemplars)
		}
	}
	// Senders log the first line only.
	res.Message += "; " + kept
	if len(lost.First) > 1 {
		res.Message += "\n" + strings.Join(lost.First[1:], "\n")
	}
	return res
}

// store names the request, whose content is sum, after its body and hands it to the
// sink. It is not ok when the result is final.
func (x *exchange) store(ctx context.Context, now time.Time, body []byte, sum remotewrite.Summary) (created bool, res Result, ok bool) {
	c := x.c
	// Metadata alone has no time of its own. The minute in which it came keeps a repeat a second later from being
	// stored twice, and what a sender sends anew every minute apart.
	newest := now.Truncate(time.Minute)
	if sum.HasTimestamp {
		newest = time.UnixMilli(sum.MaxTimestampMS)
	}
	if newest.UTC().Year() > 9999 { // only when the check for the future is off
		x.seen.Rejected = amounts(sum)
		return false, x.refuse(http.StatusBadRequest, reasonTimestampRange, "a timestamp is after the year 9999", "timestamps are in milliseconds"), false
	}

	req := Request{
		Key:  capture.NewKey(x.org, x.cluster, x.seen.Version, newest, body),
		Body: body, Version: x.seen.Version, Summary: sum,
	}
	if limit := c.cfg.StoreTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	began := c.cfg.Now()
	created, err := c.cfg.Sink.Store(ctx, req)
	x.seen.Store = c.cfg.Now().Sub(began)
	if err != nil {
		x.err = err // for us alone: it may tell of paths and hosts
		x.seen.Rejected = amounts(sum)
		return false, x.unavailable(reasonStoreFailed, "the request could not be stored"), false
	}
	x.seen.Summary, x.seen.Duplicate = sum, !created
	return created, Result{}, true
}

func amounts(s remotewrite.Summary) Amounts {
	return Amounts{Samples: s.Samples, Histograms: s.Histograms(), Exemplars: s.Exemplars, Metadata: s.Metadata}
}

func setWritten(h http.Header, samples, histograms, exemplars int) {
	h[remotewrite.HeaderSamplesWritten] = []string{strconv.Itoa(samples)}
	h[remotewrite.HeaderHistogramsWritten] = []string{strconv.Itoa(histograms)}
	h[remotewrite.HeaderExemplarsWritten] = []string{strconv.Itoa(exemplars)}
}

// reserve takes n bytes of the budget, which end gives back.
func (x *exchange) reserve(n int64) bool {
	if !x.c.budget.take(n) {
		return false
	}
	x.reserved += n
	return true
}

// refuse makes an answer that is not a success.
func (x *exchange) refuse(status int, reason, detail, hint string) Result {
	x.seen.Reason = reason
	res := Result{Status: status, Message: reason + ": " + detail, Header: http.Header{}}
	if hint != "" {
		res.Message += "; hint: " + hint
	}
	res.Header["Content-Type"] = []string{"text/plain; charset=utf-8"}
	if x.seen.Version == remotewrite.V2 {
		setWritten(res.Header, 0, 0, 0)
	}
	return res
}

func (x *exchange) refuseError(err error) Result {
	if e, ok := errors.AsType[*remotewrite.Error](err); ok {
		return x.refuse(e.Status, e.Reason, e.Error(), e.Hint)
	}
	x.err = err // a bug: remotewrite promises the type
	return x.refuse(http.StatusInternalServerError, reasonInternal, "internal error", "")
}

func (x *exchange) tooLarge() Result {
	return x.refuse(http.StatusRequestEntityTooLarge, reasonBodyTooLarge,
		fmt.Sprintf("the body is longer than the limit of %d bytes", x.c.cfg.MaxBodyBytes),
		"send smaller requests (max_samples_per_send in Prometheus), or raise the limit of the server")
}

func (x *exchange) busy() Result {
	return x.unavailable(reasonMemory, "too many requests are under way")
}

// unavailable asks the sender to come back. It is never a 429: Prometheus drops what
// gets one, by default.
func (x *exchange) unavailable(reason, detail string) Result {
	res := x.refuse(http.StatusServiceUnavailable, reason, detail, "send the same request again")
	res.Header["Retry-After"] = []string{x.c.retryAfter()}
	return res
}

// panicked makes the answer after a panic.
func (x *exchange) panicked(ctx context.Context, p any) Result {
	x.scratch = nil // who knows who still uses it
	x.err = fmt.Errorf("panic: %v", p)
	x.c.log.LogAttrs(ctx, slog.LevelError, "panic while serving a request",
		slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	return x.refuse(http.StatusInternalServerError, reasonInternal, "internal error", "")
}
