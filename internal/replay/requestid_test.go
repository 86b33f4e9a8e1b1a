package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// Both senders take the same id from the same answer.
func TestRequestID(t *testing.T) {
	for _, tc := range []struct {
		name   string
		header [][2]string
		want   string
	}{
		{"none", nil, ""},
		{"function URL", [][2]string{{"X-Amzn-RequestId", "b5f1a8a2-7d0e-4f0e-9d5e-000000000001"}}, "b5f1a8a2-7d0e-4f0e-9d5e-000000000001"},
		{"HTTP API", [][2]string{{"apigw-requestid", "JKJaXmPLvHcESHA="}}, "JKJaXmPLvHcESHA="},
		{"CloudFront", [][2]string{{"X-Amz-Cf-Id", "cf=="}}, "cf=="},
		{"the best of them, whatever comes first", [][2]string{{"X-Amz-Cf-Id", "cf=="}, {"Apigw-Requestid", "gw="}, {"x-amzn-requestid", " one "}}, "one"},
		{"the best of them, whatever comes last", [][2]string{{"x-amzn-requestid", "one"}, {"Apigw-Requestid", "gw="}}, "one"},
		{"too long", [][2]string{{"x-amzn-requestid", strings.Repeat("x", maxRequestID+1)}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for _, h := range tc.header {
					w.Header()[h[0]] = []string{h[1]}
				}
				w.WriteHeader(http.StatusNoContent)
			}))
			defer srv.Close()
			for _, ids := range []bool{true, false} {
				c := HTTPConfig{URL: srv.URL, MaxInFlight: 1, RequestIDs: ids}
				raw, err := NewRawSender(c)
				if err != nil {
					t.Fatal(err)
				}
				plain, err := NewHTTPSender(c)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range []Sender{raw, plain} {
					want := tc.want
					if !ids {
						want = ""
					}
					if r := s.Send(t.Context(), &Outgoing{Version: remotewrite.V1, Body: []byte("x")}); r.RequestID != want || r.Err != nil {
						t.Errorf("%T: %+v, want %q", s, r, want)
					}
					s.Close()
				}
			}
		})
	}
}

func testID(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", n, n) }

// answering is a sender whose answers say what f does.
func answering(f func(r *Outgoing) Response) Sender {
	return senderFunc(func(_ context.Context, r *Outgoing) Response { return f(r) })
}

func reports(ids ...string) iter.Seq2[lambdalog.Invocation, error] {
	var b strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&b, "REPORT RequestId: %s\tDuration: 2.50 ms\tBilled Duration: 3 ms\tMemory Size: 128 MB\tMax Memory Used: 20 MB\t\n", id)
	}
	return lambdalog.Scan(strings.NewReader(b.String()), "log")
}

func send(t *testing.T, s Sender, warmup bool) {
	t.Helper()
	s.Send(t.Context(), &Outgoing{Warmup: warmup, Deadline: time.Now().Add(time.Minute)})
}

func TestLedgerJoin(t *testing.T) {
	n := -1
	l := NewLedger(answering(func(*Outgoing) Response {
		n++
		switch n {
		case 5:
			return Response{Status: 429, RequestID: "throttled"}
		case 6:
			return Response{Err: errors.New("reset")}
		case 7:
			return Response{Status: 204} // without an id
		case 8:
			return Response{Status: 400, RequestID: testID(n)}
		}
		return Response{Status: 204, RequestID: testID(n)}
	}), 0)
	for i := range 10 {
		send(t, l, i == 0) // 0 is the warm-up
	}
	for range 2 { // reading again starts anew
		o, missing, err := l.Join("log", reports(testID(0), testID(1), testID(2), testID(2), testID(3), testID(8), testID(77)))
		if err != nil {
			t.Fatal(err)
		}
		// 4 and 9 are not in the log, 7 cannot be; the second record of 2 and that of 77 are somebody else's.
		if o.Attempts != 9 || o.Refused != 1 || o.Answered != 7 || o.Matched != 4 || o.Unmatched != 3 || o.Foreign != 2 || missing != 2 ||
			o.Warmup.Reports != 1 || o.Reports != 4 || o.SampledOneIn != 1 || len(o.Warnings) != 1 || o.From != "log" {
			t.Errorf("missing %d, %+v", missing, o)
		}
	}
	l.Reset()
	if o, missing, err := l.Join("log", reports(testID(1))); err != nil || missing != 0 || o.Attempts != 0 || o.Matched != 0 || o.Foreign != 1 {
		t.Errorf("after a reset: %d, %v, %+v", missing, err, o)
	}
}

// However many requests there are, the ids kept are bounded and are a fair sample.
func TestLedgerBounds(t *testing.T) {
	const limit, sent = 1000, 20_000
	n := 0
	l := NewLedger(answering(func(*Outgoing) Response { n++; return Response{Status: 204, RequestID: testID(n)} }), limit)
	ids := make([]string, sent)
	for i := range sent {
		ids[i] = testID(i + 1)
		send(t, l, false)
		if k := l.Kept(); k > limit {
			t.Fatalf("%d ids are kept", k)
		}
	}
	o, missing, err := l.Join("log", reports(ids...))
	if err != nil || missing != 0 || o.Unmatched != 0 || o.Foreign != 0 || o.Attempts != sent || o.Answered != sent {
		t.Errorf("%d missing, %v, %+v", missing, err, o)
	}
	if o.SampledOneIn < 16 || o.Matched < limit/4 || o.Matched*o.SampledOneIn < sent*2/3 || o.Matched*o.SampledOneIn > sent*3/2 {
		t.Errorf("%d matched, one in %d", o.Matched, o.SampledOneIn)
	}
}

func TestLedgerJoinFails(t *testing.T) {
	l := NewLedger(answering(func(*Outgoing) Response { return Response{Status: 204, RequestID: testID(1)} }), 0)
	send(t, l, false)
	broken := errors.New("disk")
	_, _, err := l.Join("log", func(yield func(lambdalog.Invocation, error) bool) { yield(lambdalog.Invocation{}, broken) })
	if !errors.Is(err, broken) {
		t.Error(err)
	}
}
