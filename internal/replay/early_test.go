package replay

import (
	"io"
	"net"
	"testing"
	"time"
)

// TestAnswerBeforeTheRequest: a server that refuses connections with an answer as soon as they stand, and then lets its peer end
// them as most do, is answered for at once, also where its answer and the connection are one event.
func TestAnswerBeforeTheRequest(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				if tcp, ok := c.(*net.TCPConn); ok {
					_ = tcp.CloseWrite()
				}
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	for name, workers := range bothWays() {
		t.Run(name, func(t *testing.T) {
			sender, err := NewRawSender(HTTPConfig{URL: "http://" + l.Addr().String()})
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			run, err := execute(t.Context(), t, Config{
				Corpus: oneObject(t, 500), Sender: sender, Timestamps: Keep, Order: OrderNone, Timeout: 2 * time.Second,
				Plan: mustPlan(t, PlanConfig{Concurrency: 200, Objects: 1, Requests: 2000, Loop: true}),
			}, workers)
			if err != nil {
				t.Fatal(err)
			}
			if run.Counts.TimedOut > 0 || run.Counts.Failed != 2000 {
				t.Errorf("%+v, errors %+v", run.Counts, run.Errors)
			}
		})
	}
}
