package main

import "testing"

func TestPlural(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 requests", 1: "1 request", 2: "2 requests", 999: "999 requests", 1000: "1,000 requests", 1234567: "1,234,567 requests",
		-5: "-5 requests", -123: "-123 requests", -1234: "-1,234 requests", 100000: "100,000 requests",
	} {
		if got := plural(n, "request"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
