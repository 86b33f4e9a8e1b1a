package replay

import (
	"testing"
	"time"
)

// TestSink: both senders get an answer to every request, whatever its size, over one connection each.
func TestSink(t *testing.T) {
	s, err := NewSink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, send := range []Sender{newRaw(t, HTTPConfig{URL: s.URL()}), newSender(t, HTTPConfig{URL: s.URL(), MaxInFlight: 1})} {
		for _, size := range []int{1, 5000, 64 << 10, 300_000, 7} {
			r := outgoing()
			r.Body, r.Deadline = make([]byte, size), time.Now().Add(time.Minute)
			if resp := send.Send(t.Context(), r); resp.Status != 204 {
				t.Errorf("%T, %d bytes: %+v", send, size, resp)
			}
		}
	}
	s.mu.Lock()
	if len(s.conns) != 2 {
		t.Errorf("%d connections", len(s.conns))
	}
	s.mu.Unlock()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
