package storetest

import (
	"bytes"
	"context"
	"encoding/xml"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// S3Config is a configuration for an S3 server at endpoint, without the SDK's config
// package and its look at the environment.
func S3Config(endpoint, accessKey, secretKey string) aws.Config {
	return aws.Config{
		Region: "us-east-1", BaseEndpoint: &endpoint,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}, nil
		}),
	}
}

// S3Server is as much of S3 as the store uses, in memory, for tests without a network:
// PutObject with If-None-Match, GetObject and ListObjectsV2 in path style. It answers
// what the API reference says and no more, and refuses what the reference does not
// have; signatures it does not check. It is no proof of anything about S3: for that
// the same tests run against a real server. Use [NewS3Server].
type S3Server struct {
	// PageSize bounds the keys of one answer to a listing.
	PageSize int

	mu      sync.Mutex
	buckets map[string]map[string][]byte // guarded by mu
}

// NewS3Server returns a server with these empty buckets.
func NewS3Server(buckets ...string) *S3Server {
	s := &S3Server{PageSize: 1000, buckets: map[string]map[string][]byte{}}
	for _, b := range buckets {
		s.buckets[b] = map[string][]byte{}
	}
	return s
}

// Objects returns the contents of a bucket by key.
func (s *S3Server) Objects(bucket string) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string][]byte, len(s.buckets[bucket]))
	for k, v := range s.buckets[bucket] {
		all[k] = bytes.Clone(v)
	}
	return all
}

// ServeHTTP implements [http.Handler].
func (s *S3Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.ContentLength >= 0 && int64(len(body)) != r.ContentLength {
		WriteS3Error(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	objects, ok := s.buckets[bucket]
	switch {
	case r.Header.Get("Authorization") == "":
		WriteS3Error(w, http.StatusForbidden, "AccessDenied")
	case !ok:
		WriteS3Error(w, http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodPut && key != "" && r.Header.Get("Content-Encoding") == "":
		_, exists := objects[key]
		if exists && r.Header.Get("If-None-Match") == "*" {
			WriteS3Error(w, http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		objects[key] = body
		w.Header().Set("ETag", `"0"`)
	case r.Method == http.MethodGet && key != "":
		b, exists := objects[key]
		if !exists {
			WriteS3Error(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b)
	case r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2":
		s.list(w, r.URL.Query(), objects)
	default:
		WriteS3Error(w, http.StatusNotImplemented, "NotImplemented")
	}
}

func (s *S3Server) list(w http.ResponseWriter, q url.Values, objects map[string][]byte) {
	type content struct {
		Key  string
		Size int
	}
	var answer struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []content
	}
	limit := s.PageSize
	if n, err := strconv.Atoi(q.Get("max-keys")); err == nil && n < limit {
		limit = n
	}
	var keys []string
	for k := range objects {
		if strings.HasPrefix(k, q.Get("prefix")) && k > q.Get("continuation-token") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	if len(keys) > limit {
		keys, answer.IsTruncated = keys[:limit], true
		answer.NextContinuationToken = keys[limit-1]
	}
	for _, k := range keys {
		answer.Contents = append(answer.Contents, content{Key: k, Size: len(objects[k])})
	}
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(answer)
}

// WriteS3Error answers with an error in S3's form.
func WriteS3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>"+code+"</Message></Error>")
}

// HTTPFault is what a [FaultProxy] does to a request.
type HTTPFault struct {
	// Status is answered instead of asking the server behind; 0: ask it.
	Status int
	// Code is the S3 error code that goes with Status, such as SlowDown; empty: the
	// answer is a proxy's HTML page.
	Code string
	// Reset closes the connection instead of answering. With Status 0 the server
	// behind has carried the request out: it failed but persisted.
	Reset bool
	// CutAfter lets that many bytes of the server's answer through and closes the
	// connection; 0: all.
	CutAfter int
	// Hang waits before anything else until the sender gives up or this has passed.
	Hang time.Duration
}

// FaultProxy stands in front of an S3 server and fails as Hook says: what a gateway, a
// network and S3 itself do on a bad day. The zero HTTPFault passes the request on.
type FaultProxy struct {
	Next http.Handler
	Hook func(r *http.Request) HTTPFault
}

// ServeHTTP implements [http.Handler].
func (p *FaultProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := p.Hook(r)
	// The body is read in any case: a server that answers before it has taken the body
	// is another fault than these.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if fault.Hang > 0 {
		timer := time.NewTimer(fault.Hang)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if fault.Status != 0 {
		switch {
		case fault.Reset:
			panic(http.ErrAbortHandler)
		case fault.Code != "":
			WriteS3Error(w, fault.Status, fault.Code)
		default:
			http.Error(w, "<html>"+http.StatusText(fault.Status)+"</html>", fault.Status)
		}
		return
	}
	if fault.Reset || fault.CutAfter > 0 {
		rec := &recorder{header: http.Header{}, status: http.StatusOK}
		p.Next.ServeHTTP(rec, r)
		if !fault.Reset {
			maps.Copy(w.Header(), rec.header)
			w.WriteHeader(rec.status)
			_, _ = w.Write(rec.body.Bytes()[:min(fault.CutAfter, rec.body.Len())])
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler) // net/http closes the connection without an end
	}
	p.Next.ServeHTTP(w, r)
}

// recorder keeps an answer back.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
