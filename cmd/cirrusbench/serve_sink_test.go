package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/kinesis"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
)

// shelf is a stream that keeps what it is given, after down.
type shelf struct {
	down    int // calls that fail first
	records []types.PutRecordsRequestEntry
}

func (s *shelf) PutRecords(_ context.Context, in *awskinesis.PutRecordsInput, _ ...func(*awskinesis.Options)) (*awskinesis.PutRecordsOutput, error) {
	if s.down--; s.down >= 0 {
		return nil, errors.New("no answer")
	}
	s.records = append(s.records, in.Records...)
	return &awskinesis.PutRecordsOutput{Records: make([]types.PutRecordsResultEntry, len(in.Records))}, nil
}

func (s *shelf) DescribeStreamSummary(context.Context, *awskinesis.DescribeStreamSummaryInput, ...func(*awskinesis.Options)) (*awskinesis.DescribeStreamSummaryOutput, error) {
	return nil, errors.New("not asked")
}

// A request in a stream is what it would have been in a store; a stream that takes nothing is a 503.
func TestStreamSink(t *testing.T) {
	body, err := os.ReadFile("../../fixtures/captures/v2-prom3-stale-markers.snappy")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		down   int
		status int
	}{
		{"at once", 0, http.StatusNoContent},
		{"at the third call", 2, http.StatusNoContent},
		{"never", 1 << 30, http.StatusServiceUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &shelf{down: tt.down}
				s, err := kinesis.Open(kinesis.Config{API: api, Stream: "s", Workers: 1})
				if err != nil {
					t.Fatal(err)
				}
				core, err := server.New(server.Config{Sink: streamSink{s}, Now: func() time.Time { return time.Now().AddDate(100, 0, 0) }})
				if err != nil {
					t.Fatal(err)
				}
				res := core.Ingest(t.Context(), server.Input{Org: "alfa", Cluster: "eu", ContentType: remotewrite.V2.ContentType(), Body: body})
				if res.Status != tt.status || (res.Header.Get("Retry-After") != "") != (tt.status == http.StatusServiceUnavailable) {
					t.Errorf("%d %v", res.Status, res.Header)
				}
				if err := s.Close(t.Context()); err != nil {
					t.Error(err)
				}
				if tt.status != http.StatusNoContent {
					return
				}
				if len(api.records) != 1 || string(api.records[0].Data) != string(body) {
					t.Fatalf("%d records", len(api.records))
				}
				k, err := capture.ParseKey(*api.records[0].PartitionKey)
				if err != nil || k.Org != "alfa" || k.Cluster != "eu" || k.Version != remotewrite.V2 {
					t.Errorf("%+v, %v", k, err)
				}
			})
		})
	}
}
