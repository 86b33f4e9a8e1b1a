package server

import (
	"context"
	"testing"
)

type nothing struct{}

func (nothing) Store(context.Context, Request) (bool, error) { return true, nil }

// A giant request must not keep its memory in the pool.
func TestPoolForgetsGiants(t *testing.T) {
	c, err := New(Config{Sink: nothing{}})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 { // under the race detector a pool drops things at random
		c.putScratch(&scratch{body: make([]byte, keepBodyBytes+1)})
		c.putScratch(&scratch{decoded: make([]byte, keepDecodedBytes+1)})
		for range 3 {
			if s := c.getScratch(); cap(s.body) > 0 || cap(s.decoded) > 0 {
				t.Fatalf("the pool has kept %d and %d bytes", cap(s.body), cap(s.decoded))
			}
		}
	}
}
