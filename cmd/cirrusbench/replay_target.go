package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/pflag"

	"github.com/cirrusbench/cirrusbench/internal/replay"
)

// targetFlags say where requests go and how the client shows who it is. Their names are curl's.
type targetFlags struct {
	target                 string
	sender                 string
	headers                []string
	apiKeyFile, bearerFile string
	sigv4                  string
	caCert, cert, key      string
	insecure, http1        bool
	unixSocket, proxy      string
	timeout, drainTimeout  time.Duration
	retry                  string
	retryFor               time.Duration
	billedFrom             string
	billedWait             time.Duration
	gatewayLog             string
	gatewayFields          string

	credentials []string // of AWS, those that making senders came upon: see secrets
}

func (o *targetFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.target, "target", "", "URL to send to, or lambda://FUNCTION[:ALIAS] (default: a bundled server started in this process)")
	f.StringVar(&o.sender, "sender", "auto", "raw: lean HTTP/1.1; nethttp: also HTTP/2, proxies, SigV4; auto: raw for http:// where it can")
	f.StringArrayVar(&o.headers, "header", nil, "add a header, as Name=value (repeatable; not for secrets)")
	f.StringVar(&o.apiKeyFile, "api-key-file", "", "file with the key to send as X-Api-Key")
	f.StringVar(&o.bearerFile, "bearer-token-file", "", "file with the token to send as Authorization: Bearer")
	f.StringVar(&o.sigv4, "sigv4", "", "SERVICE/REGION: sign requests for AWS with the SDK's usual credentials (execute-api/us-east-1)")
	f.StringVar(&o.caCert, "cacert", "", "file with the certificates to trust (PEM)")
	f.StringVar(&o.cert, "cert", "", "file with the client certificate (PEM)")
	f.StringVar(&o.key, "key", "", "file with the key of the client certificate (PEM; default: in --cert)")
	f.BoolVar(&o.insecure, "insecure", false, "do not verify the server's certificate")
	f.BoolVar(&o.http1, "http1.1", false, "do not use HTTP/2")
	f.StringVar(&o.unixSocket, "unix-socket", "", "connect to this socket instead of the host in --target")
	f.StringVar(&o.proxy, "proxy", "", "URL of a proxy (default: HTTPS_PROXY, HTTP_PROXY, NO_PROXY)")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "for one attempt")
	f.DurationVar(&o.drainTimeout, "drain-timeout", time.Minute, "after the last request was due, go on starting those that wait for this long (0: until all are sent)")
	f.StringVar(&o.retry, "retry", "none", "none; prometheus: retry network errors and 5xx as Prometheus does; prometheus+429: these too")
	f.DurationVar(&o.retryFor, "retry-for", time.Minute, "give a request up when it has been retried for so long")
	f.StringVar(&o.billedFrom, "billed-from", "", "Lambda's log of the run, to join by request id: a file, or cloudwatch:LOG-GROUP")
	f.DurationVar(&o.billedWait, "billed-wait", 30*time.Second, "read the logs again for so long while requests are missing in them")
	f.StringVar(&o.gatewayLog, "gateway-log", "", "access log of the API Gateway before the function, in JSON, to find Lambda's request ids by the gateway's: a file, or cloudwatch:LOG-GROUP")
	f.StringVar(&o.gatewayFields, "gateway-log-fields", "", "its fields with the gateway's and the integration's request id, as NAME,NAME (default: by their usual names)")
}

// check says all that is wrong with the flags that needs no file or network.
func (o *targetFlags) check() error {
	var errs []error
	if o.timeout <= 0 {
		errs = append(errs, fmt.Errorf("--timeout must be positive, not %v", o.timeout))
	}
	if o.drainTimeout < 0 {
		errs = append(errs, fmt.Errorf("--drain-timeout must not be negative, not %v", o.drainTimeout))
	}
	if o.retryFor <= 0 {
		errs = append(errs, fmt.Errorf("--retry-for must be positive, not %v", o.retryFor))
	}
	errs = append(errs, oneOf("sender", o.sender, "auto", "raw", "nethttp"), oneOf("retry", o.retry, "none", "prometheus", "prometheus+429"))
	if service, region, ok := strings.Cut(o.sigv4, "/"); o.sigv4 != "" && (!ok || service == "" || region == "" || strings.Contains(region, "/")) {
		errs = append(errs, fmt.Errorf("--sigv4 %q is not SERVICE/REGION, such as execute-api/us-east-1", o.sigv4))
	}
	if o.sigv4 != "" && o.bearerFile != "" {
		errs = append(errs, errors.New("--sigv4 and --bearer-token-file both set the Authorization header"))
	}
	if o.sender == "raw" && (o.sigv4 != "" || o.proxy != "") {
		errs = append(errs, errors.New("the raw sender has no SigV4 and no proxies: use --sender nethttp"))
	}
	if o.key != "" && o.cert == "" {
		errs = append(errs, errors.New("--key needs the certificate it belongs to: --cert"))
	}
	errs = append(errs, o.checkBilled()...)
	return errors.Join(errs...)
}

func (o *targetFlags) retries() replay.Retry {
	if o.retry == "none" {
		return replay.Retry{}
	}
	return replay.NewPrometheusRetry(o.retry == "prometheus+429", o.retryFor)
}

// newSender makes the sender for a target. It reads files and, for SigV4 and functions, looks for credentials.
func (o *targetFlags) newSender(ctx context.Context, e *env, target string, maxInFlight int) (sender, error) {
	if isLambda(target) {
		return o.newLambdaSender(ctx, e, target, maxInFlight)
	}
	s, err := o.newHTTPSender(ctx, e, target, maxInFlight)
	if err != nil || o.billedFrom == "" {
		return s, err
	}
	return o.newLedgerSender(ctx, s)
}

// newHTTPSender makes the sender for a URL.
func (o *targetFlags) newHTTPSender(ctx context.Context, e *env, target string, maxInFlight int) (sender, error) {
	header, err := o.header()
	if err != nil {
		return nil, err
	}
	c := replay.HTTPConfig{
		URL: target, MaxInFlight: maxInFlight, Header: header, UserAgent: "cirrusbench/" + tool().Version,
		UnixSocket: o.unixSocket, HTTP1: o.http1, RequestIDs: o.billedFrom != "",
	}
	if c.TLS, err = o.tls(); err != nil {
		return nil, err
	}
	if c.Proxy, err = o.proxyFor(target); err != nil {
		return nil, err
	}
	if o.sigv4 != "" {
		if c.Sign, err = o.newSigner(ctx, e); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(target)
	useRaw := o.sender == "raw" || (o.sender == "auto" && err == nil && u.Scheme == "http" && c.Proxy == nil && c.Sign == nil)
	if useRaw {
		s, err := replay.NewRawSender(c)
		if err != nil {
			return nil, usagef("give --target as http://host:port/api/v1/write", "%v", err)
		}
		return s, nil
	}
	s, err := replay.NewHTTPSender(c)
	if err != nil {
		return nil, usagef("give --target as http://host:port/api/v1/write", "%v", err)
	}
	return s, nil
}

// sender is what replay sends with.
type sender interface {
	replay.Sender
	URL() string
}

// header collects what --header and the secret files add to every request.
func (o *targetFlags) header() (map[string]string, error) {
	h, err := keyValues("header", o.headers)
	if err != nil {
		return nil, err
	}
	for name := range h {
		switch http.CanonicalHeaderKey(name) {
		case "Authorization", "Proxy-Authorization", "X-Api-Key", "Cookie", "X-Amz-Security-Token":
			return nil, usagef("use --bearer-token-file or --api-key-file", "--header %s would show a secret in the process list", name)
		case "Content-Length", "Transfer-Encoding", "Connection":
			return nil, usagef("leave it out", "--header %s is the sender's own", name)
		}
	}
	for _, s := range []struct{ flag, file, name, prefix string }{
		{"api-key-file", o.apiKeyFile, "X-Api-Key", ""}, {"bearer-token-file", o.bearerFile, "Authorization", "Bearer "},
	} {
		if s.file == "" {
			continue
		}
		secret, err := os.ReadFile(s.file)
		if err != nil {
			return nil, withHint(fmt.Errorf("reading --%s: %w", s.flag, err), secretHint)
		}
		value := strings.TrimSpace(string(secret))
		if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, withHint(fmt.Errorf("reading --%s: %s is empty or is not one line of text", s.flag, s.file), secretHint)
		}
		h[s.name] = s.prefix + value
	}
	return h, nil
}

// tls is nil unless a flag asks for something of its own.
func (o *targetFlags) tls() (*tls.Config, error) {
	if o.caCert == "" && o.cert == "" && !o.insecure {
		return nil, nil //nolint:nilnil // no configuration is the system's
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.insecure} //nolint:gosec // the user asked for it by name
	if o.caCert != "" {
		pem, err := os.ReadFile(o.caCert)
		if err != nil {
			return nil, fmt.Errorf("reading the certificates to trust: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, withHint(fmt.Errorf("reading the certificates to trust: %s has none", o.caCert), "the file is in PEM, with lines -----BEGIN CERTIFICATE-----")
		}
	}
	if o.cert != "" {
		key := o.key
		if key == "" {
			key = o.cert
		}
		pair, err := tls.LoadX509KeyPair(o.cert, key)
		if err != nil {
			return nil, withHint(fmt.Errorf("reading the client certificate: %w", err), "give --cert and --key as PEM files that belong together")
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// proxyFor is nil when requests to target need no proxy.
func (o *targetFlags) proxyFor(target string) (func(*http.Request) (*url.URL, error), error) {
	if o.unixSocket != "" {
		return nil, nil //nolint:nilnil // a socket is direct
	}
	if o.proxy != "" {
		u, err := url.Parse(o.proxy)
		if err != nil || u.Host == "" {
			return nil, usagef("write --proxy http://host:3128", "--proxy is not a URL")
		}
		if u.User != nil {
			return nil, usagef("set HTTPS_PROXY in the environment instead", "--proxy has credentials, which show in the process list")
		}
		return http.ProxyURL(u), nil
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // the sender will say what is wrong with it
	}
	if p, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err == nil && p == nil {
		return nil, nil //nolint:nilnil // the environment names none for it
	}
	return http.ProxyFromEnvironment, nil
}

// awsCredentials looks for credentials before anything is timed and returns what of them must not be shown.
func awsCredentials(ctx context.Context, e *env, cfg aws.Config) ([]string, error) {
	k, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, withHint(fmt.Errorf("finding AWS credentials: %w", err), credentialsHint(e.getenv))
	}
	return []string{k.AccessKeyID, k.SecretAccessKey, k.SessionToken}, nil
}

// newSigner returns a function that signs requests with AWS Signature Version 4 and the credentials of the SDK's usual
// chain, which it notes for secrets. It is wired here so that the engine knows nothing of AWS.
func (o *targetFlags) newSigner(ctx context.Context, e *env) (func(context.Context, *http.Request, string) error, error) {
	service, region, _ := strings.Cut(o.sigv4, "/")
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(region))
	if err != nil {
		return nil, fmt.Errorf("loading the AWS configuration: %w", err)
	}
	hidden, err := awsCredentials(ctx, e, cfg)
	if err != nil {
		return nil, err
	}
	o.credentials = append(o.credentials, hidden...)
	signer := v4.NewSigner()
	return func(ctx context.Context, r *http.Request, bodySHA256 string) error {
		k, err := cfg.Credentials.Retrieve(ctx) // cached; renewed shortly before it expires
		if err != nil {
			return fmt.Errorf("renewing AWS credentials: %w", err)
		}
		if service == "s3" { // which wants to see what the signature is over
			r.Header.Set("X-Amz-Content-Sha256", bodySHA256)
		}
		return signer.SignHTTP(ctx, k, r, bodySHA256, service, region, time.Now())
	}, nil
}

const secretHint = "give the name of a file that holds the secret and nothing else"
