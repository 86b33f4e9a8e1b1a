//go:build integration

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/store/storetest"
)

// replayed runs replay with -o json and logs its figures.
func replayed(t *testing.T, environ []string, args ...string) *stats.Run {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t), append(append([]string{"replay"}, args...), "-o", "json")...)
	cmd.Env = append(os.Environ(), environ...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if code := exitCodeOf(err); code != exitOK && code != exitInvalid { // what is invalid here is the machine's speed
		t.Fatalf("replay %v: %v\n%s", args, err, &stderr)
	}
	run := new(stats.Run)
	if err := json.Unmarshal(out, run); err != nil {
		t.Fatalf("replay %v: %v\n%s", args, err, &stderr)
	}
	t.Logf("%s: %d sent, %d ok at %.0f/s, %d samples; p50 %.2f, p99 %.2f, max %.2f ms; %s", run.Target.URL, run.Counts.Sent, run.Counts.OK,
		run.Achieved.RatePerS, run.Counts.SamplesWritten, run.Latency.P50MS, run.Latency.P99MS, run.Latency.MaxMS, run.Client.Verdict)
	return run
}

// allOK checks that what was planned was sent, answered and written.
func allOK(t *testing.T, run *stats.Run) {
	t.Helper()
	c := &run.Counts
	if c.Planned == 0 || c.Sent != c.Planned || c.OK != c.Sent || c.SamplesWritten != c.SamplesSent || c.SamplesSent == 0 {
		t.Errorf("%+v, errors %+v", *c, run.Errors)
	}
}

// synth makes a corpus of clusters with several scrapes each.
func synth(t *testing.T, args ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "corpus")
	base := []string{"capture", "synth", dir, "--orgs", "2", "--clusters", "16", "--series", "120", "--batch", "40", "--scrapes", "4", "--churn", "0.05", "--seed", "7"}
	if out, err := exec.CommandContext(t.Context(), binary(t), append(base, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestIntegrationReplayStore replays both protocols against the server with a real S3 server behind it: what was sent
// is what was written is what is in the store.
func TestIntegrationReplayStore(t *testing.T) {
	endpoint := s3(t)
	environ := s3Environ(endpoint)
	for i, protocol := range []string{"1", "2"} {
		corpus := synth(t, "--protocol", protocol, "--histograms", "0.1")
		location := fmt.Sprintf("s3://bucket/replay-%d", i)
		server, stop := startServeEnv(t, environ, "--store", location)
		// Twice through the corpus and a half: 960 requests of 64 clusters, at most 64 in flight.
		run := replayed(t, nil, corpus, "--target", server, "--rate", "300", "--requests", "960", "--fan-out", "2", "--max-in-flight", "64")
		stop()
		allOK(t, run)
		for k, v := range map[string]string{
			"AWS_ENDPOINT_URL_S3": endpoint, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": storetest.VersityGWKey, "AWS_SECRET_ACCESS_KEY": storetest.VersityGWSecret,
		} {
			t.Setenv(k, v)
		}
		s, err := openStore(t.Context(), location)
		if err != nil {
			t.Fatal(err)
		}
		if stored := storedSamples(t, s); int64(stored.Samples) != run.Counts.SamplesWritten || stored.IntHistograms == 0 {
			t.Errorf("protocol %s: %d samples are in the store, %d were written", protocol, stored.Samples, run.Counts.SamplesWritten)
		}
	}
}

// promServer starts Debian's Prometheus as a receiver; it scrapes nothing.
func promServer(t *testing.T, args ...string) (addr string, stop func()) {
	t.Helper()
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("no prometheus: run make integration")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr = freePort(t)
	cmd := exec.CommandContext(t.Context(), prometheus, append([]string{
		"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "tsdb"), "--web.listen-address=" + addr,
		"--web.enable-remote-write-receiver", "--enable-feature=native-histograms", "--log.level=warn",
	}, args...)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("prometheus does not listen")
		}
	}
	return addr, func() {
		t.Helper()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("prometheus ended with %v", err)
		}
	}
}

// TestIntegrationReplayPrometheus replays against a receiver that refuses what is out of order: several passes at 64 in
// flight, in an open and in a closed loop, and it refuses nothing.
func TestIntegrationReplayPrometheus(t *testing.T) {
	corpus := synth(t, "--histograms", "0.1")
	for name, args := range map[string][]string{
		"open":           {"--rate", "400", "--max-in-flight", "64"},
		"closed":         {"--concurrency", "64"},
		"closed by time": {"--concurrency", "64", "--duration", "3s"},
	} {
		t.Run(name, func(t *testing.T) {
			addr, stop := promServer(t)
			for end := time.Now().Add(30 * time.Second); fetch(t, "http://"+addr+"/-/ready") == "" && time.Now().Before(end); {
				time.Sleep(100 * time.Millisecond)
			}
			if name != "closed by time" {
				args = append(args, "--requests", "2400") // 2.1 passes of 384 captures as 3 clusters
			}
			run := replayed(t, nil, append([]string{corpus, "--target", "http://" + addr + "/api/v1/write", "--fan-out", "3"}, args...)...)
			page := fetch(t, "http://"+addr+"/metrics")
			allOK(t, run)
			for _, bad := range []string{"prometheus_tsdb_out_of_order_samples_total", "prometheus_tsdb_too_old_samples_total", "prometheus_tsdb_out_of_bound_samples_total"} {
				if n := metric(page, bad, ""); n != 0 {
					t.Errorf("%s %v", bad, n)
				}
			}
			// What the head has taken: floats, and a histogram each tenth series.
			appended := metric(page, "prometheus_tsdb_head_samples_appended_total", "")
			if appended < float64(run.Counts.SamplesSent) {
				t.Errorf("%v samples were appended, %d sent", appended, run.Counts.SamplesSent)
			}
			answer := fetch(t, "http://"+addr+"/api/v1/query?query="+url.QueryEscape(`sum(count_over_time({__name__=~".+",__name__!="http_request_duration_seconds"}[30d]))`))
			if want := fmt.Sprintf(`"%d"]`, run.Counts.SamplesSent); !strings.Contains(answer, want) {
				t.Errorf("sent %d samples, in the store: %.300s", run.Counts.SamplesSent, answer)
			}
			t.Logf("%d samples sent and in the store, %v appended, 0 out of order", run.Counts.SamplesSent, appended)
			stop()
		})
	}
}

// certificates makes a CA, a server's and a client's certificate, as PEM files.
func certificates(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, kind string, der []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "server", "client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		}
		if ca == nil {
			c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
			ca, caKey = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", der)
		write(name+".key", "PRIVATE KEY", keyDER)
	}
	return dir
}

// TestIntegrationReplayAuth shows who we are to peers that check it and are not ours: Prometheus by client certificate,
// an S3 server by SigV4; and to our own by bearer token and API key. With the wrong secret each of them refuses.
func TestIntegrationReplayAuth(t *testing.T) {
	class := func(run *stats.Run) string {
		if len(run.Errors) != 1 {
			return fmt.Sprintf("%+v", run.Errors)
		}
		return run.Errors[0].Class
	}
	t.Run("client certificate", func(t *testing.T) {
		dir := certificates(t)
		file := func(name string) string { return filepath.Join(dir, name) }
		web := file("web.yml")
		if err := os.WriteFile(web, fmt.Appendf(nil, "tls_server_config:\n  cert_file: %s\n  key_file: %s\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: %s\n",
			file("server.pem"), file("server.key"), file("ca.pem")), 0o600); err != nil {
			t.Fatal(err)
		}
		addr, stop := promServer(t, "--web.config.file="+web)
		target := "https://" + addr + "/api/v1/write"
		for _, sender := range []string{"raw", "nethttp"} {
			base := []string{synth(t), "--target", target, "--sender", sender, "--requests", "50", "--cacert", file("ca.pem"), "--retry", "prometheus", "--retry-for", "20s"}
			allOK(t, replayed(t, nil, append(base, "--cert", file("client.pem"), "--key", file("client.key"))...))
		}
		run := replayed(t, nil, "--target", target, "--requests", "1", "--fan-out", "1", "--cacert", file("ca.pem"))
		if run.Counts.OK != 0 {
			t.Errorf("without a certificate: %+v", run.Counts)
		}
		run = replayed(t, nil, "--target", target, "--requests", "1", "--fan-out", "1", "--cert", file("client.pem"), "--key", file("client.key"))
		if run.Counts.OK != 0 || class(run) != "tls" {
			t.Errorf("with a server that nobody vouches for: %+v %+v", run.Counts, run.Errors)
		}
		stop()
	})
	t.Run("SigV4", func(t *testing.T) {
		endpoint := s3(t)
		// A POST that S3 knows and whose body it does not like; it looks at the signature first.
		target := endpoint + "/bucket?delete"
		environ := s3Environ(endpoint)
		good := replayed(t, environ, "--target", target, "--sigv4", "s3/us-east-1", "--requests", "3", "--fan-out", "1")
		if c := class(good); !strings.HasPrefix(c, "http_4") || c == "http_403" {
			t.Errorf("with the right key: %+v", good.Errors)
		}
		wrong := slices.Concat(environ, []string{"AWS_SECRET_ACCESS_KEY=canary-wrong"})
		bad := replayed(t, wrong, "--target", target, "--sigv4", "s3/us-east-1", "--requests", "3", "--fan-out", "1")
		if class(bad) != "http_403" || !strings.Contains(bad.Errors[0].Example, "Signature") {
			t.Errorf("with a wrong key: %+v", bad.Errors)
		}
		t.Logf("right key: %+v; wrong key: %+v", good.Errors, bad.Errors)
	})
	t.Run("token and key", func(t *testing.T) {
		dir := t.TempDir()
		write := func(name, text string) string {
			t.Helper()
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		key := write("key", "canary-5f1c7a\n")
		keys := write("keys.yaml", fmt.Sprintf("orgs:\n  alfa:\n    - %x\n", sha256.Sum256([]byte("canary-5f1c7a"))))
		server, stop := startServe(t, "--store", "null:", "--keys", keys)
		allOK(t, replayed(t, nil, "--target", server, "--requests", "20", "--bearer-token-file", key))
		allOK(t, replayed(t, nil, "--target", server, "--requests", "20", "--api-key-file", key))
		run := replayed(t, nil, "--target", server, "--requests", "3", "--fan-out", "1", "--bearer-token-file", write("wrong", "canary-wrong"))
		if class(run) != "http_401" {
			t.Errorf("with a wrong token: %+v", run.Errors)
		}
		stop()
	})
}

// TestIntegrationReplayLambda runs the bootstrap as it is deployed under the host: by HTTP joined with the log, and by
// the Invoke API.
func TestIntegrationReplayLambda(t *testing.T) {
	bootstrap := os.Getenv("CIRRUSBENCH_BOOTSTRAP")
	if bootstrap == "" {
		t.Fatal("CIRRUSBENCH_BOOTSTRAP is not set: run make integration")
	}
	dir := t.TempDir()
	reports, data := filepath.Join(dir, "reports.log"), filepath.Join(dir, "store")
	host := exec.CommandContext(t.Context(), binary(t), "lambda-host", bootstrap, "--listen", "127.0.0.1:0", "--environments", "64",
		"--env", "CIRRUSBENCH_STORE="+data, "--out", reports)
	stderr, err := host.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Process.Kill() })
	lines := bufio.NewScanner(stderr)
	address := ""
	for address == "" && lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
		}
	}
	environ := []string{"AWS_ENDPOINT_URL_LAMBDA=" + address, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=canary-secret"}
	corpus := synth(t, "--protocol", "2")
	var samples int64
	for name, args := range map[string][]string{
		"lambda": {"--target", "lambda://writer:prod"},
		"http":   {"--target", address + "/api/v1/write", "--billed-from", reports},
	} {
		run := replayed(t, environ, append([]string{corpus, "--rate", "60", "--requests", "384", "--timestamps", "now"}, args...)...)
		allOK(t, run)
		samples += run.Counts.SamplesWritten
		var billed lambdalog.Observed
		if err := json.Unmarshal(run.Billed, &billed); err != nil {
			t.Fatal(err)
		}
		if billed.Matched != 384 || billed.Reports != 384 || billed.Unmatched != 0 || !billed.BilledMS.Mean.Known || billed.WarmStarts.Count == 0 {
			t.Errorf("%s: %s", name, run.Billed)
		}
		t.Logf("%s: billed %s ms on average, p99 %s; %d cold with init %s ms; warm: client %s, duration %s, network + gateway %s ms (p50)", name,
			billed.BilledMS.Mean, billed.BilledMS.P99, billed.Cold, billed.ColdStarts.InitMS.P50, billed.WarmStarts.ClientMS.P50,
			billed.WarmStarts.DurationMS.P50, billed.WarmStarts.OutsideMS.P50)
	}
	if err := host.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		t.Logf("lambda-host: %s", lines.Text())
	}
	if err := host.Wait(); err != nil {
		t.Errorf("lambda-host ended with %v", err)
	}
	s, err := store.Open(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	if stored := storedSamples(t, s); int64(stored.Samples) != samples {
		t.Errorf("%d samples are in the store, %d were written", stored.Samples, samples)
	}
}

// TestIntegrationCaptureImport imports what a real Prometheus has scraped, from its log and from a block, and compares
// it with what Prometheus' own tool says is in there.
func TestIntegrationCaptureImport(t *testing.T) {
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("no prometheus: run make integration")
	}
	dir := t.TempDir()
	addr, data := freePort(t), filepath.Join(dir, "tsdb")
	// A block of the hour before, as backfilling makes it.
	var om strings.Builder
	om.WriteString("# TYPE backfilled gauge\n")
	begin := time.Now().Add(-3 * time.Hour).Truncate(time.Hour).Unix()
	const backfilled = 50 * 120
	for i := range 50 {
		for s := range 120 {
			fmt.Fprintf(&om, "backfilled{i=\"%d\"} %d %d\n", i, i*s, begin+int64(15*s))
		}
	}
	om.WriteString("# EOF\n")
	input := filepath.Join(dir, "in.om")
	if err := os.WriteFile(input, []byte(om.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", "tsdb", "create-blocks-from", "openmetrics", input, data).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `global: {scrape_interval: 1s, external_labels: {cluster: alfa}}
scrape_configs:
  - {job_name: self, static_configs: [{targets: ['%s']}]}
  - {job_name: app, static_configs: [{targets: ['%s']}]}
`, addr, app(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	prom := exec.CommandContext(t.Context(), prometheus, "--config.file="+config, "--storage.tsdb.path="+data, "--web.listen-address="+addr,
		"--enable-feature=native-histograms,exemplar-storage", "--log.level=warn")
	prom.Stderr = os.Stderr
	if err := prom.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prom.Process.Kill() })
	for end := time.Now().Add(40 * time.Second); metric(fetch(t, "http://"+addr+"/metrics"), "prometheus_tsdb_head_samples_appended_total", "") < 6000; {
		if time.Now().After(end) {
			t.Fatal("prometheus scrapes nothing")
		}
		time.Sleep(500 * time.Millisecond)
	}
	type imported struct {
		Requests, Samples, Histograms, Exemplars int64
		FromBlocks                               int64 `json:"from_blocks"`
		FromLog                                  int64 `json:"from_log"`
	}
	run := func(to string, args ...string) (r imported) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), binary(t), append([]string{"capture", "import", data, to, "--cluster", "alfa", "--external-label", "cluster=alfa", "-o", "json"}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			if e, ok := errors.AsType[*exec.ExitError](err); ok {
				t.Fatalf("%v\n%s", err, e.Stderr)
			}
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatal(err)
		}
		t.Logf("import %v: %s", args, strings.Join(strings.Fields(string(out)), " "))
		return r
	}
	if live := run(filepath.Join(dir, "live")); live.FromLog == 0 || live.FromBlocks != backfilled {
		t.Errorf("while it runs: %+v", live)
	}
	if err := prom.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := prom.Wait(); err != nil {
		t.Errorf("prometheus ended with %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dump, err := exec.CommandContext(ctx, "promtool", "tsdb", "dump", data).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := int64(bytes.Count(dump, []byte("\n")))
	for _, protocol := range []string{"1", "2"} {
		to := filepath.Join(dir, "corpus"+protocol)
		r := run(to, "--protocol", protocol)
		if r.Samples != want || // its dump leaves out histograms
			r.FromLog == 0 || r.FromBlocks != backfilled || r.Histograms == 0 || r.Exemplars == 0 {
			t.Errorf("%+v, and promtool knows %d samples", r, want)
		}
		server, stop := startServe(t, "--store", filepath.Join(dir, "served"+protocol))
		back := replayed(t, nil, to, "--target", server, "--concurrency", "4")
		stop()
		allOK(t, back)
		if back.Counts.SamplesWritten != r.Samples {
			t.Errorf("%d samples were imported, %d replayed", r.Samples, back.Counts.SamplesWritten)
		}
	}
}
