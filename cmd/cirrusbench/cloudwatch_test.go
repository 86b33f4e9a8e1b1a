package main

import (
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cirrusbench/cirrusbench/internal/awsread/awsreadtest"
)

// startCloudWatch runs `cloudwatch GROUP FILE`: a CloudWatch Logs on loopback whose log group holds the lines of the
// file, one a second, the last one written an hour ago.
func startCloudWatch(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: cloudwatch GROUP FILE")
	}
	data, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	fake := &awsreadtest.CloudWatch{Group: args[0], PageSize: 2, Overlap: 1, Running: 1, Faults: []string{"throttle"}}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	for i, line := range lines {
		fake.Events = append(fake.Events, awsreadtest.Event{
			ID: strconv.Itoa(i), Time: time.Now().Add(-time.Hour - time.Duration(len(lines)-i)*time.Second), Message: line + "\n",
		})
	}
	server := httptest.NewServer(fake)
	ts.Defer(func() { fake.Close(); server.Close() })
	ts.Setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", server.URL)
	ts.Setenv("AWS_REGION", "us-east-1")
	ts.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	ts.Setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-EXAMPLE")
	ts.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}
