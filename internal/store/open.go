package store

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// LocationError says why a location cannot be opened.
type LocationError struct {
	Location string
	Problem  string
	Hint     string // what to type instead
	Err      error  // the cause, or nil
}

// Error names the location and the problem, without the hint.
func (e *LocationError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("opening location %q: %s: %v", clip(e.Location), e.Problem, e.Err)
	}
	return fmt.Sprintf("opening location %q: %s", clip(e.Location), e.Problem)
}

// Unwrap returns the cause.
func (e *LocationError) Unwrap() error { return e.Err }

// cutScheme cuts off what stands before the path of a URL; a path with a slash before
// its first colon is not one.
//
// No regular expression: compiling one is a part of every cold start.
func cutScheme(location string) (scheme, rest string, ok bool) {
	for i := range len(location) {
		switch c := location[i]; {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
		case i > 0 && c == ':':
			return location[:i], location[i+1:], true
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return "", location, false
		}
	}
	return "", location, false
}

// Option changes what [Open] can open.
type Option func(*options)

type options struct {
	aws func(context.Context) (aws.Config, error)
}

// WithAWS lets [Open] open "s3://bucket/prefix": load is asked for region, credentials
// and endpoint when it comes to that. The SDK's own config.LoadDefaultConfig is such a
// function; it is not called here because it reads the environment, and because a
// Lambda function does better without it.
func WithAWS(load func(context.Context) (aws.Config, error)) Option {
	return func(o *options) { o.aws = load }
}

// Open returns the store at location: "./dir", "/abs/dir", "file:///abs/dir", "mem:"
// (a new and empty one in each call), "null:" or, with [WithAWS], "s3://bucket/prefix".
// Every error is a [*LocationError]. A directory need not exist; see [NewDir].
func Open(ctx context.Context, location string, opts ...Option) (Store, error) {
	const forms = "give a directory (./data), file:///abs/dir, s3://bucket/prefix, mem: or null:"
	var o options
	for _, set := range opts {
		set(&o)
	}
	fail := func(problem, hint string, cause error) (Store, error) {
		return nil, &LocationError{Location: location, Problem: problem, Hint: hint, Err: cause}
	}
	if err := ctx.Err(); err != nil {
		return fail("interrupted", "try again", err)
	}
	path := location
	if s, rest, ok := cutScheme(location); ok {
		switch s = strings.ToLower(s); {
		case s == "mem" && rest == "":
			return NewMemory(), nil
		case s == "null" && rest == "":
			return Null{}, nil
		case s == "mem" || s == "null":
			return fail("nothing may follow "+s+":", "write "+s+":", nil)
		case s == "file":
			u, err := url.Parse(location)
			if err != nil {
				return fail("not a URL", "write file:///abs/dir", err)
			}
			if u.Host != "" || !strings.HasPrefix(u.Path, "/") || u.RawQuery != "" || u.Fragment != "" {
				return fail("not an absolute path on this machine", "write file:///abs/dir with three slashes, or ./dir", nil)
			}
			path = u.Path
		case s == "s3":
			return openS3(ctx, location, o.aws)
		case len(s) == 1:
			return fail("drive letters are not supported", "write the path with a leading ./ or from the root: ./data", nil)
		default:
			return fail("unknown scheme "+s+":", forms+"; a directory with a colon in its name is written ./"+clip(location), nil)
		}
	}
	switch {
	case path == "":
		return fail("it is empty", forms, nil)
	case strings.ContainsRune(path, 0):
		return fail("it contains a NUL byte", forms, nil)
	}
	d, err := NewDir(path)
	if err != nil {
		return fail("not a usable directory", "give a directory that you may read and write, or one that does not exist yet", err)
	}
	return d, nil
}

func openS3(ctx context.Context, location string, load func(context.Context) (aws.Config, error)) (Store, error) {
	if _, _, err := parseS3(location); err != nil {
		return nil, err
	}
	if load == nil {
		return nil, &LocationError{Location: location, Problem: "S3 is not available here", Hint: "give a directory: ./data"}
	}
	cfg, err := load(ctx)
	if err != nil {
		return nil, &LocationError{
			Location: location, Problem: "loading the AWS configuration", Hint: "check AWS_PROFILE, AWS_REGION and ~/.aws/config", Err: err,
		}
	}
	s, err := NewS3(cfg, location)
	if err != nil {
		return nil, err
	}
	return s, nil
}
