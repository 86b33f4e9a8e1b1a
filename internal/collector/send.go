package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

// verdict is what an answer means for the request.
type verdict int

const (
	accepted    verdict = iota
	later               // the same again
	denied              // 401, 403: the same again, with another key
	tooLarge            // 413
	refused             // 400, 422: never
	unsupported         // 415: not in this version
	unconfirmed         // 2xx, but what was written is not said, or is less than was sent
)

// answer is what came of an attempt.
type answer struct {
	status     int // 0: there was none
	err        error
	retryAfter time.Duration
	missing    bool   // of a 2xx: it does not say what was written
	text       string // the first line of it, or what is wrong; without secrets
	generation int    // of the key that was shown
	took       time.Duration
	verdict    verdict
}

// reason is what happened, as a metric's label.
func (a *answer) reason() string {
	switch {
	case a.verdict == unconfirmed:
		return "unconfirmed"
	case a.status != 0:
		return strconv.Itoa(a.status)
	case errors.Is(a.err, context.DeadlineExceeded):
		return "timeout"
	}
	return "network"
}

// maxAnswerBytes is what is read of an answer.
const maxAnswerBytes = 4 << 10

// send makes one attempt.
func (f *Forwarder) send(ctx context.Context, lane spool.Lane, m *message, failures int) answer {
	if err := f.pace.wait(ctx); err != nil {
		return answer{err: err, text: "ended", verdict: later}
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	began := time.Now()
	a := f.attempt(ctx, lane, m, failures)
	a.took = time.Since(began)
	a.verdict = a.judge()
	return a
}

func (f *Forwarder) attempt(ctx context.Context, lane spool.Lane, m *message, failures int) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.target(lane), bytes.NewReader(m.body))
	if err != nil {
		return answer{err: err, text: err.Error()}
	}
	maps.Copy(req.Header, f.cfg.Header.Clone())
	req.Header.Set("Content-Type", m.version.ContentType())
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set(remotewrite.HeaderVersion, m.version.HeaderValue())
	if f.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", f.cfg.UserAgent)
	}
	if lane.Org != server.DefaultName {
		req.Header.Set("X-Scope-OrgID", lane.Org)
	}
	if failures > 0 {
		req.Header.Set("Retry-Attempt", strconv.Itoa(failures))
	}
	a := answer{}
	secret := ""
	if f.cfg.Key != nil {
		secret, a.generation = f.cfg.Key.get()
		req.Header.Set(f.cfg.Key.header, f.cfg.Key.prefix+secret)
	}
	resp, err := f.cfg.Transport.RoundTrip(req)
	if err != nil {
		a.err, a.text = err, clean(err.Error(), secret)
		return a
	}
	defer func() { _ = resp.Body.Close() }() // whatever is left in it is of no use
	a.status = resp.StatusCode
	a.retryAfter = retryAfter(resp.Header, time.Now())
	// An answer cut short after its status is an answer.
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	a.text = clean(string(text), secret)
	if a.status/100 == 2 && m.version == remotewrite.V2 {
		a.missing, a.err = written(resp.Header, m.counts)
		if a.err != nil {
			a.text = a.err.Error()
		}
	}
	return a
}

// judge says what the answer means.
func (a *answer) judge() verdict {
	switch {
	case a.status/100 == 2 && a.err == nil:
		return accepted
	case a.status/100 == 2:
		return unconfirmed
	}
	switch a.status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return refused
	case http.StatusUnauthorized, http.StatusForbidden:
		return denied
	case http.StatusRequestEntityTooLarge:
		return tooLarge
	case http.StatusUnsupportedMediaType:
		return unsupported
	}
	return later
}

// maxMetadataFailures is how often metadata is sent to a receiver that answers each time
// as if it would never take it.
const maxMetadataFailures = 10

// forGood says whether the metadata beside samples that are delivered is given up after
// this answer, the failures-th in a row.
func (a *answer) forGood(failures int) bool {
	switch a.verdict {
	case tooLarge, refused, unsupported, unconfirmed:
		return true
	case later:
	case accepted, denied:
		return false
	}
	switch a.status {
	case 0, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false // no matter of what is in the request
	}
	return failures >= maxMetadataFailures
}

// written compares what the receiver of a 2.0 request says it wrote with what it was sent.
// A receiver that takes the request for one of 1.0 finds nothing in it and answers 2xx.
// Fewer exemplars are no failure: Prometheus says so of any that it does not keep, and it
// would not keep them the next time either.
func written(h http.Header, sent remotewrite.Counts) (missing bool, err error) {
	for _, c := range [...]struct {
		header string
		sent   int
	}{
		{remotewrite.HeaderSamplesWritten, sent.Samples},
		{remotewrite.HeaderHistogramsWritten, sent.Histograms()},
		{remotewrite.HeaderExemplarsWritten, sent.Exemplars},
	} {
		if c.sent == 0 {
			continue
		}
		v := h.Get(c.header)
		if v == "" {
			return true, fmt.Errorf("the answer has no %s: does the receiver know remote write 2.0?", c.header)
		}
		if n, err := strconv.Atoi(v); err != nil || n < c.sent && c.header != remotewrite.HeaderExemplarsWritten {
			return false, fmt.Errorf("%s is %.20q, sent were %d", c.header, v, c.sent)
		}
	}
	return false, nil
}

// target is where requests of a lane go.
func (f *Forwarder) target(lane spool.Lane) string {
	if lane.Cluster == server.DefaultName {
		return f.url.String()
	}
	u := *f.url
	name := "cluster_name=" + url.QueryEscape(lane.Cluster)
	if u.RawQuery != "" {
		q := u.Query()
		q.Set("cluster_name", lane.Cluster)
		u.RawQuery = q.Encode()
		return u.String()
	}
	u.RawQuery = name
	return u.String()
}

// clean makes one short line of what a receiver or the network says, without the secret
// that a receiver may have quoted.
func clean(text, secret string) string {
	const limit = 300
	if secret != "" {
		text = strings.ReplaceAll(text, secret, "[key]")
	}
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}
