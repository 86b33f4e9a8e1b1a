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
		{"the bundled server on Lambda", [][2]string{{"Apigw-Requestid", "gw="}, {"X-Amzn-Requestid", "rest-api"}, {"cirrusbench-lambda-request-id", "fn"}}, "fn"},
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

// accesses are lines of a gateway's log; each pair is the gateway's id and Lambda's.
func accesses(pairs ...[2]string) iter.Seq2[lambdalog.Access, error] {
	var b strings.Builder
	for _, p := range pairs {
		fmt.Fprintf(&b, `{"requestId":%q,"integrationRequestId":%q}`+"\n", p[0], p[1])
	}
	return lambdalog.ScanAccess(strings.NewReader(b.String()), "access", lambdalog.AccessFields{})
}

func gatewayID(n int) string { return fmt.Sprintf("gw%06d=", n) }

func TestLedgerBridge(t *testing.T) {
	n := -1
	l := NewLedger(answering(func(*Outgoing) Response {
		n++
		switch n {
		case 7:
			return Response{Status: 204, RequestID: testID(n)} // from a function without a gateway
		case 8:
			return Response{Status: 204}
		}
		return Response{Status: 204, RequestID: gatewayID(n)}
	}), 0)
	for i := range 9 {
		send(t, l, i < 2) // 0 and 1 are the warm-up
	}
	all := []string{testID(0), testID(1), testID(2), testID(3), testID(4), testID(5), testID(7), testID(99)}
	join := func() (lambdalog.Observed, int64) {
		t.Helper()
		o, missing, err := l.Join("log", reports(all...))
		if err != nil {
			t.Fatal(err)
		}
		return o, missing
	}
	if o, missing := join(); o.Gateway != nil || o.Matched != 1 || o.Unmatched != 6 || missing != 7 || o.Foreign != 7 {
		t.Errorf("before the gateway's log: %d missing, %+v", missing, o)
	}

	// The log is read while it grows. 4 is not in it yet, 5 is there without an invocation.
	first := [][2]string{
		{gatewayID(0), testID(0)},
		{gatewayID(1), "-"},
		{gatewayID(2), testID(2)},
		{gatewayID(3), testID(3)},
		{gatewayID(3), testID(3)}, // an event that is on two pages
		{gatewayID(5), "-"},
		{gatewayID(50), "-"},
		{gatewayID(51), testID(99)},
		{gatewayID(6), testID(3)}, // it answered another request
	}
	if err := l.Bridge("access", accesses(first...)); err != nil {
		t.Fatal(err)
	}
	o, missing := join()
	want := lambdalog.GatewayLog{From: "access", Lines: 9, LinesWithout: 3, Bridged: 2, RequestsWithout: 1}
	if o.Gateway == nil || *o.Gateway != want || o.Matched != 3 || o.Unmatched != 4 || o.Warmup.Reports != 1 || o.Foreign != 4 || missing != 2 {
		t.Errorf("%d missing, %+v, %+v", missing, o.Gateway, o)
	}
	if kept := l.Kept(); kept != 8 {
		t.Errorf("%d ids are kept of 8", kept)
	}

	// Now 4 is in it, and what was "-" for a moment is not.
	if err := l.Bridge("access", accesses(append(first, [2]string{gatewayID(4), testID(4)}, [2]string{gatewayID(5), testID(5)}, [2]string{gatewayID(1), testID(1)})...)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		o, missing = join()
		want = lambdalog.GatewayLog{From: "access", Lines: 12, LinesWithout: 3, Bridged: 4}
		if *o.Gateway != want || o.Matched != 5 || o.Unmatched != 2 || o.Warmup.Reports != 2 || o.Foreign != 1 || missing != 1 {
			t.Errorf("%d missing, %+v, %+v", missing, o.Gateway, o)
		}
	}

	l.Reset()
	if o, _ := join(); o.Gateway != nil {
		t.Errorf("after a reset: %+v", o.Gateway)
	}
}

// Bad lines are counted; an error that ends reading is returned.
func TestLedgerBridgeComplains(t *testing.T) {
	l := NewLedger(answering(func(*Outgoing) Response { return Response{Status: 204, RequestID: gatewayID(1)} }), 0)
	send(t, l, false)
	mixed := lambdalog.ScanAccess(strings.NewReader("x\n"+`{"requestId":"gw000001=","integrationRequestId":"00000001-0000-4000-8000-000000000001"}`+"\n{}\n"), "access", lambdalog.AccessFields{})
	if err := l.Bridge("access", mixed); err != nil {
		t.Fatal(err)
	}
	o, missing, err := l.Join("log", reports(testID(1)))
	if want := (lambdalog.GatewayLog{From: "access", Lines: 1, BadLines: 2, Bridged: 1}); err != nil || *o.Gateway != want || o.Matched != 1 || missing != 0 {
		t.Errorf("%v, %+v", err, o.Gateway)
	}
	broken := errors.New("disk")
	if err := l.Bridge("access", func(yield func(lambdalog.Access, error) bool) { yield(lambdalog.Access{}, broken) }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// A sample of the gateway's ids stays a sample, of bounded size, and nobody's records are taken for foreign ones.
func TestLedgerBridgeBounds(t *testing.T) {
	const limit, sent = 1000, 20_000
	n := 0
	l := NewLedger(answering(func(*Outgoing) Response { n++; return Response{Status: 204, RequestID: gatewayID(n)} }), limit)
	ids, pairs := make([]string, sent), make([][2]string, 0, 2*sent)
	for i := range sent {
		ids[i] = testID(i + 1)
		pairs = append(pairs, [2]string{gatewayID(i + 1), ids[i]}, [2]string{gatewayID(sent + 1 + i), testID(sent + 1 + i)})
		send(t, l, false)
	}
	kept := l.Kept()
	if err := l.Bridge("access", accesses(pairs...)); err != nil {
		t.Fatal(err)
	}
	if k := l.Kept(); k != kept || k > limit {
		t.Fatalf("%d ids are kept, before the log %d", k, kept)
	}
	o, missing, err := l.Join("log", reports(ids...))
	if err != nil || missing != 0 || o.Unmatched != 0 || o.Foreign != 0 || o.Matched != int64(kept) || o.Gateway.Bridged != int64(kept) || len(o.Warnings) != 1 {
		t.Errorf("%d missing, %v, %+v, %+v", missing, err, o.Gateway, o)
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
