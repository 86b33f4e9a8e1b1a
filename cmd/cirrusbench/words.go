package main

import (
	"strconv"
	"strings"
)

// count writes a number for people, with a comma between every three digits.
func count[N int | int64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	var b strings.Builder
	for i, r := range s {
		if i > 0 && s[i-1] != '-' && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// were begins a clause about n things: "1 was", "1,234 were".
func were[N int | int64](n N) string {
	if n == 1 {
		return "1 was"
	}
	return count(n) + " were"
}

// plural is a number of things, whose name gets an s unless it is one.
func plural[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}
