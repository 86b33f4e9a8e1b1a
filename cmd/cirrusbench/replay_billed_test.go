package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/awsread/awsreadtest"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/replay"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// namedSender answers with a request id of its own each time.
type namedSender struct{ n int }

func (s *namedSender) Send(context.Context, *replay.Outgoing) replay.Response {
	s.n++
	return replay.Response{Status: 204, RequestID: fmt.Sprintf("00000000-0000-4000-8000-%012d", s.n)}
}

func (*namedSender) Close()      {}
func (*namedSender) URL() string { return "https://example.com/api/v1/write" }

// A run is joined with the log group; pages that repeat events and a throttle on the way change nothing.
func TestBilledFromCloudWatch(t *testing.T) {
	fake := &awsreadtest.CloudWatch{Group: "/aws/lambda/writer", PageSize: 3, Overlap: 1, Faults: []string{"throttle"}}
	for i := range 20 {
		fake.Events = append(fake.Events, awsreadtest.Event{
			ID: strconv.Itoa(i), Time: time.Now(),
			Message: fmt.Sprintf("REPORT RequestId: 00000000-0000-4000-8000-%012d\tDuration: 2.50 ms\tBilled Duration: 3 ms\tMemory Size: 128 MB\tMax Memory Used: 20 MB\t\n", i+1),
		})
	}
	srv := httptest.NewServer(fake)
	defer srv.Close()
	defer fake.Close()
	for k, v := range map[string]string{
		"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": srv.URL, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI-EXAMPLE", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(k, v)
	}
	o := &targetFlags{billedFrom: "cloudwatch:/aws/lambda/writer"}
	got, said := billed(t, o, &namedSender{})
	if got.Matched != 18 || got.Foreign != 2 || got.Unmatched != 0 || got.From != o.billedFrom || got.BilledMS.Sum.Value != 54*time.Millisecond || said != "" {
		t.Errorf("%+v, said %s", got, said)
	}
}

// gatewaySender answers with ids of a gateway's each time.
type gatewaySender struct{ namedSender }

func (s *gatewaySender) Send(context.Context, *replay.Outgoing) replay.Response {
	s.n++
	return replay.Response{Status: 204, RequestID: fmt.Sprintf("JKJaXmPLvHc%05d=", s.n)}
}

// The gateway's log may be a log group too, beside a log of Lambda's in a file; its lines come late.
func TestGatewayLogFromCloudWatch(t *testing.T) {
	fake := &awsreadtest.CloudWatch{Group: "/aws/apigateway/writer", PageSize: 3, Overlap: 1, Faults: []string{"throttle"}}
	var lambdas bytes.Buffer
	for i := range 20 {
		fake.Events = append(fake.Events, awsreadtest.Event{
			ID: strconv.Itoa(i), Time: time.Now(),
			Message: fmt.Sprintf(`{"requestId":"JKJaXmPLvHc%05d=","integrationRequestId":"00000000-0000-4000-8000-%012d"}`, i+1, i+1),
		})
		fmt.Fprintf(&lambdas, "REPORT RequestId: 00000000-0000-4000-8000-%012d\tDuration: 2.50 ms\tBilled Duration: 3 ms\tMemory Size: 128 MB\tMax Memory Used: 20 MB\t\n", i+1)
	}
	srv := httptest.NewServer(fake)
	defer srv.Close()
	defer fake.Close()
	for k, v := range map[string]string{
		"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": srv.URL, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI-EXAMPLE", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(k, v)
	}
	file := filepath.Join(t.TempDir(), "reports.log")
	if err := os.WriteFile(file, lambdas.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &targetFlags{billedFrom: file, gatewayLog: "cloudwatch:/aws/apigateway/writer"}
	got, said := billed(t, o, &gatewaySender{})
	if got.Matched != 18 || got.Foreign != 2 || got.Unmatched != 0 || got.Gateway == nil || got.Gateway.Bridged != 18 || got.Gateway.From != o.gatewayLog || said != "" {
		t.Errorf("%+v, %+v, said %s", got, got.Gateway, said)
	}
}

// billed is what is found of 18 requests, and what is said about it.
func billed(t *testing.T, o *targetFlags, to sender) (got lambdalog.Observed, said string) {
	t.Helper()
	s, err := o.newLedgerSender(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	for range 18 {
		s.Send(t.Context(), &replay.Outgoing{})
	}
	run := &stats.Run{StartedAt: time.Now()}
	var out bytes.Buffer
	if err := o.bill(t.Context(), &env{err: &out}, s, run); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(run.Billed, &got); err != nil {
		t.Fatal(err)
	}
	return got, out.String()
}
