// Package stalls describes a server that stands still at known times, for those who play it and for those who compute
// what must be measured of it.
package stalls

import (
	"fmt"
	"strings"
	"time"
)

// Schedule says when a server stands still, counted from its first request: after First for Length, and again Every. Any
// answer takes Delay. Without a Length it never stands still.
type Schedule struct {
	First, Every, Length, Delay time.Duration
}

// Latency is what a request that comes at has to wait for its answer.
func (s Schedule) Latency(at time.Duration) time.Duration {
	if s.Length > 0 && at >= s.First {
		if into := (at - s.First) % s.Every; into < s.Length {
			return s.Length - into + s.Delay
		}
	}
	return s.Delay
}

// String is what [Parse] reads.
func (s Schedule) String() string {
	return fmt.Sprintf("%v,%v,%v,%v", s.First, s.Every, s.Length, s.Delay)
}

// Parse reads FIRST,EVERY,LENGTH,DELAY, each as 1.5s or 100ms.
func Parse(text string) (Schedule, error) {
	var s Schedule
	fields := strings.Split(text, ",")
	to := []*time.Duration{&s.First, &s.Every, &s.Length, &s.Delay}
	if len(fields) != len(to) {
		return s, fmt.Errorf("%q is no schedule: want FIRST,EVERY,LENGTH,DELAY", text)
	}
	for i, f := range fields {
		d, err := time.ParseDuration(f)
		if err != nil {
			return s, fmt.Errorf("%q is no schedule: %w", text, err)
		}
		*to[i] = d
	}
	if s.Length > 0 && s.Every <= s.Length {
		return s, fmt.Errorf("%q is no schedule: it never moves again", text)
	}
	return s, nil
}
