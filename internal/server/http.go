package server

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// The paths that [Core.Handler] serves.
const (
	// PathWrite takes requests, also with the org before it: /ORG/api/v1/write.
	PathWrite = "/api/v1/write"
	// PathContainerMetrics takes requests too; some collectors are made to write there.
	PathContainerMetrics = "/v1/container-metrics"
	PathHealthz          = "/healthz"
	PathLivez            = "/livez"
	PathReadyz           = "/readyz"
)

// firstReadBytes bounds what is allocated on the word of a Content-Length alone.
const firstReadBytes = 256 << 10

// Handler returns the HTTP face of the server. It is mounted at the root, for it
// looks at the whole path.
func (c *Core) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case PathHealthz, PathLivez:
			c.serveHealth(w, r, false)
		case PathReadyz:
			c.serveHealth(w, r, true)
		default:
			c.answer(w, c.serveWrite(w, r))
		}
	})
}

func (c *Core) answer(w http.ResponseWriter, res Result) {
	h := w.Header()
	maps.Copy(h, res.Header)
	if c.draining.Load() {
		h["Connection"] = []string{"close"}
	}
	w.WriteHeader(res.Status)
	if res.Message != "" {
		// The sender has gone when this fails; there is nobody to tell.
		io.WriteString(w, res.Message+"\n") //nolint:errcheck // see above
	}
}

// serveHealth answers the health checks.
func (c *Core) serveHealth(w http.ResponseWriter, r *http.Request, ready bool) {
	res := Result{Status: http.StatusOK, Message: "ok", Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		res.Status, res.Message = http.StatusMethodNotAllowed, "method not allowed"
		res.Header.Set("Allow", "GET, HEAD")
	case ready && c.draining.Load():
		res.Status, res.Message = http.StatusServiceUnavailable, "draining"
	case ready && c.cfg.Ready != nil:
		if err := c.cfg.Ready(r.Context()); err != nil {
			c.log.WarnContext(r.Context(), "not ready", "error", err.Error())
			res.Status, res.Message = http.StatusServiceUnavailable, "not ready"
		}
	}
	c.answer(w, res)
}

// serveWrite does everything about a write but to answer it.
func (c *Core) serveWrite(w http.ResponseWriter, r *http.Request) (res Result) {
	ctx := r.Context()
	x := c.begin()
	defer func() {
		if p := recover(); p != nil {
			res = x.panicked(ctx, p)
		}
		x.end(ctx, res)
	}()
	x.path, x.remote, x.agent = clip(r.URL.Path), r.RemoteAddr, clip(r.UserAgent())
	pathOrg, ok := writePath(r.URL.Path)
	if !ok {
		return x.refuse(http.StatusNotFound, reasonNotFound, "nothing is served here", "write to "+PathWrite)
	}
	if r.Method != http.MethodPost {
		res := x.refuse(http.StatusMethodNotAllowed, reasonMethod, "the method is not POST", "send POST "+PathWrite)
		res.Header["Allow"] = []string{http.MethodPost}
		return res
	}
	org := cmp.Or(pathOrg, r.Header.Get("X-Scope-OrgID"))
	if c.cfg.Authenticate != nil {
		var err error
		if org, err = c.cfg.Authenticate(r); err != nil {
			return x.unauthenticated(err)
		}
		if pathOrg != "" && pathOrg != org {
			return x.refuse(http.StatusForbidden, reasonForbidden, "the key is not for the org in the path", "write to "+PathWrite)
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		// A part that cannot be read may be the cluster's name.
		return x.refuse(http.StatusBadRequest, reasonQuery, "the query of the URL cannot be parsed", "write ?cluster_name=NAME")
	}
	if res, ok := x.admit(org, query.Get("cluster_name"), r.Header.Get("Content-Type"), contentEncoding(r)); !ok {
		return res
	}
	if r.ContentLength > c.cfg.MaxBodyBytes {
		return x.tooLarge()
	}
	res, ok = x.read(http.MaxBytesReader(w, r.Body, c.cfg.MaxBodyBytes), r.ContentLength)
	if !ok {
		return res
	}
	return x.process(ctx, x.scratch.body)
}

// writePath says whether a path takes requests, and the org that it names.
func writePath(path string) (org string, ok bool) {
	if path == PathWrite || path == PathContainerMetrics {
		return "", true
	}
	org, ok = strings.CutSuffix(path, PathWrite)
	if !ok || len(org) < 2 || org[0] != '/' || strings.Contains(org[1:], "/") {
		return "", false
	}
	return org[1:], true
}

// clip keeps what a sender says of itself from filling the log.
func clip(s string) string {
	const limit = 128
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}

// contentEncoding joins the codings of a request as one header would have them: two
// of them are as unsupported when they come in two lines.
func contentEncoding(r *http.Request) string {
	return strings.Join(r.Header["Content-Encoding"], ", ")
}

// unauthenticated answers a request whose org is not known.
func (x *exchange) unauthenticated(err error) Result {
	if e, ok := errors.AsType[*remotewrite.Error](err); ok {
		res := x.refuse(e.Status, reasonUnauthorized, e.Error(), e.Hint)
		if e.Status == http.StatusUnauthorized {
			res.Header["Www-Authenticate"] = []string{"Bearer"}
		}
		return res
	}
	x.err = err
	return x.unavailable(reasonAuthFailed, "the sender could not be authenticated")
}

// read reads the body into the scratch buffer, reserving memory as bytes arrive and
// not as they are announced. length is that of the Content-Length header, or -1. It
// is not ok when the result is final.
func (x *exchange) read(body io.Reader, length int64) (Result, bool) {
	size := int64(64 << 10)
	if length >= 0 {
		size = min(length+1, firstReadBytes) // one more, so that the end is seen at once
	}
	size = min(size, x.c.cfg.MaxBodyBytes+1)
	if !x.reserve(size) {
		return x.busy(), false
	}
	buf := slices.Grow(x.scratch.body[:0], int(size))
	for {
		n, err := body.Read(buf[len(buf):size])
		buf = buf[:len(buf)+n]
		x.scratch.body, x.seen.WireBytes = buf, len(buf)
		if err == io.EOF {
			return Result{}, true
		}
		if err != nil {
			return x.interrupted(err), false
		}
		if int64(len(buf)) == size {
			bigger := min(2*size, x.c.cfg.MaxBodyBytes+1)
			if bigger == size {
				return x.tooLarge(), false
			}
			if !x.reserve(bigger - size) {
				return x.busy(), false
			}
			size = bigger
			buf = slices.Grow(buf, int(size)-len(buf))
		}
	}
}

// interrupted answers a request whose body cannot be read to its end. That the
// connection broke says nothing of the request, so the sender must not drop it.
func (x *exchange) interrupted(err error) Result {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return x.tooLarge()
	}
	if e, ok := errors.AsType[*remotewrite.Error](err); ok { // the body of a Lambda event is beyond reading
		return x.refuseError(e)
	}
	x.err = fmt.Errorf("reading body: %w", err)
	res := x.unavailable(reasonBodyInterrupted, "the body did not arrive in full")
	res.Header["Connection"] = []string{"close"}
	return res
}
