//go:build integration

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/cirrusbench/cirrusbench/internal/capture"
)

// moto starts a server that speaks Kinesis' protocol, with a stream of three shards.
func moto(t *testing.T) (endpoint string, client *kinesis.Client) {
	t.Helper()
	path := os.Getenv("CIRRUSBENCH_MOTO")
	if path == "" {
		t.Fatal("CIRRUSBENCH_MOTO is not set: run make integration")
	}
	addr := freePort(t)
	host, port, _ := net.SplitHostPort(addr)
	cmd := exec.CommandContext(t.Context(), path, "-H", host, "-p", port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, of course
	})
	endpoint = "http://" + addr
	for begin := time.Now(); fetch(t, endpoint+"/moto-api/data.json") == ""; time.Sleep(50 * time.Millisecond) {
		if time.Since(begin) > 30*time.Second {
			t.Fatal("moto does not answer")
		}
	}
	client = kinesis.New(kinesis.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("test", "secret", ""),
	})
	if _, err := client.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(3)}); err != nil {
		t.Fatal(err)
	}
	return endpoint, client
}

func kinesisEnviron(endpoint string) []string {
	return []string{"AWS_ENDPOINT_URL_KINESIS=" + endpoint, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=secret"}
}

// readStream reads every record of the stream, and checks each against the key that it has. It returns the hashes, and
// the number of shards that have any.
func readStream(t *testing.T, client *kinesis.Client) (hashes map[string]int, shards int) {
	t.Helper()
	hashes = map[string]int{}
	list, err := client.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: aws.String("s")})
	if err != nil {
		t.Fatal(err)
	}
	for _, shard := range list.Shards {
		it, err := client.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{
			StreamName: aws.String("s"), ShardId: shard.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for next := it.ShardIterator; next != nil; {
			page, err := client.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: next})
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Records) == 0 {
				break
			}
			found += len(page.Records)
			for _, r := range page.Records {
				k, err := capture.ParseKey(*r.PartitionKey)
				sum := sha256.Sum256(r.Data)
				if err != nil || hex.EncodeToString(sum[:16]) != k.Hash {
					t.Errorf("record %s is not what its key says: %v", *r.PartitionKey, err)
				}
				hashes[k.Hash]++
			}
			next = page.NextShardIterator
		}
		if found > 0 {
			shards++
		}
	}
	return hashes, shards
}

// TestIntegrationKinesis writes to a stream that fails now and then, and reads it back: whatever got a success is in it,
// byte by byte; with async after a clean end.
func TestIntegrationKinesis(t *testing.T) {
	for _, answer := range []string{"sync", "async"} {
		t.Run(answer, func(t *testing.T) {
			endpoint, client := moto(t)
			target, err := url.Parse(endpoint)
			if err != nil {
				t.Fatal(err)
			}
			var calls, failed atomic.Int64
			backend := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
			// moto numbers records without a lock: two calls at once overwrite each other's.
			var one sync.Mutex
			proxy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				one.Lock()
				defer one.Unlock()
				backend.ServeHTTP(w, r)
			})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch calls.Add(1) % 5 {
				case 2:
					failed.Add(1)
					w.WriteHeader(http.StatusInternalServerError)
				case 4: // it has happened, but nobody learns of it
					failed.Add(1)
					proxy.ServeHTTP(httptest.NewRecorder(), r)
					panic(http.ErrAbortHandler)
				default:
					proxy.ServeHTTP(w, r)
				}
			}))
			defer srv.Close()
			args := []string{"--sink", "kinesis://s", "--answer", answer, "--drain-timeout", "60s"}
			if answer == "async" {
				args = append(args, "--linger", "1s")
			}
			serve, stop := startServeEnv(t, kinesisEnviron(srv.URL), args...)
			l := &load{url: serve, acked: map[string]bool{}, others: map[int]int{}}
			end := make(chan struct{})
			time.AfterFunc(3*time.Second, func() { close(end) })
			l.run(t, 8, 1, end)
			page := fetch(t, serve+"/metrics")
			stop() // flushes

			hashes, shards := readStream(t, client)
			missing, twice := 0, 0
			for h := range l.acked {
				if hashes[h] == 0 {
					missing++
				}
			}
			for _, n := range hashes {
				if n > 1 {
					twice++
				}
			}
			if missing != 0 || len(l.acked) < 50 || len(l.others) != 0 || shards != 3 || failed.Load() < 2 {
				t.Errorf("%d of %d acknowledged requests are not in the stream; other statuses %v; %d shards, %d failed calls",
					missing, len(l.acked), l.others, shards, failed.Load())
			}
			t.Logf("%d sent, %d acknowledged, %d in the stream, %d more than once; %v calls, %v failed, %v records a call",
				l.sent, len(l.acked), len(hashes), twice, calls.Load(), failed.Load(),
				metric(page, "cirrusbench_stream_sent_records_total", "")/metric(page, "cirrusbench_stream_calls_total", ""))
		})
	}
}
