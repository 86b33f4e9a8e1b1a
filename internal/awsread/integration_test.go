//go:build integration

package awsread_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/cirrusbench/cirrusbench/internal/awsread"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// TestIntegrationMoto reads a log group from moto, another implementation of CloudWatch Logs' protocol: what it
// stores, pages, numbers and filters is not ours.
func TestIntegrationMoto(t *testing.T) {
	program := os.Getenv("CIRRUSBENCH_MOTO")
	if program == "" {
		t.Fatal("CIRRUSBENCH_MOTO is not set: run make integration")
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-H", "127.0.0.1", "-p", port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	client := &http.Client{}
	t.Cleanup(client.CloseIdleConnections)
	cfg := aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + addr), HTTPClient: client,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "testing", SecretAccessKey: "testing"}, nil
		}),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("moto does not listen")
		case <-time.After(100 * time.Millisecond):
		}
	}
	writer := cloudwatchlogs.NewFromConfig(cfg)
	if _, err := writer.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String(group)}); err != nil {
		t.Fatal(err)
	}
	fake := invocations(300)
	now := time.Now().Truncate(time.Second).UTC()
	const streams = 3
	for s := range streams {
		stream := fmt.Sprintf("%s/[$LATEST]%032x", now.Format("2006/01/02"), s)
		if _, err := writer.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String(group), LogStreamName: &stream}); err != nil {
			t.Fatal(err)
		}
		var events []types.InputLogEvent
		for i, e := range fake.Events {
			if i%streams == s {
				events = append(events, types.InputLogEvent{Message: aws.String(e.Message), Timestamp: aws.Int64(now.Add(time.Duration(i-len(fake.Events)) * time.Second).UnixMilli())})
			}
		}
		if _, err := writer.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String(group), LogStreamName: &stream, LogEvents: events}); err != nil {
			t.Fatal(err)
		}
	}
	logs, err := awsread.NewLogs(awsread.LogsConfig{AWS: cfg})
	if err != nil {
		t.Fatal(err)
	}
	read := func(from time.Time) lambdalog.Summary {
		var sum lambdalog.Summariser
		seen := make(map[string]bool)
		for v, err := range logs.Records(ctx, group, awsread.Span{From: from, Until: now}) {
			if err != nil {
				if err := sum.Note(err); err != nil {
					t.Fatal(err)
				}
				continue
			}
			seen[v.Stream] = true
			sum.Add(v)
		}
		if len(seen) == 0 || seen[""] {
			t.Errorf("log streams %v", seen)
		}
		return sum.Summary()
	}
	all := read(now.Add(-time.Hour))
	if all.Reports != 300 || all.Cold != 60 || all.BadLines != 0 || all.Duplicates != 0 || all.Statuses.Timeout != 30 {
		t.Errorf("%+v", all)
	}
	if part := read(now.Add(-300 * time.Second)); part.Reports < 90 || part.Reports > 110 {
		t.Errorf("%d reports in the last third", part.Reports)
	}
}
