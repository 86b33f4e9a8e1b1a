package replay

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestSecretsHasEveryForm(t *testing.T) {
	got := Secrets("a/b+c&\"<d>\nä", "abc", "", "abcd", "abcdefgh", "two words")
	for _, want := range []string{
		"a/b+c&\"<d> ä", "a%2Fb%2Bc%26%22%3Cd%3E%0A%C3%A4", "a%2fb%2bc%26%22%3cd%3e%0a%c3%a4", "a%2Fb+c&%22%3Cd%3E%0A%C3%A4",
		`a/b+c&\"<d>\nä`, `a/b+c\u0026\"\u003cd\u003e\nä`, "a/b+c&amp;&#34;&lt;d&gt; ä", "two+words", "two%20words", "abcd", "abcdefgh",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
	if slices.Contains(got, "abc") || slices.Contains(got, "") {
		t.Errorf("%q has what would tear words apart", got)
	}
	if slices.Index(got, "abcdefgh") > slices.Index(got, "abcd") {
		t.Errorf("%q: of abcdefgh the end would be left", got)
	}
	for i, s := range got {
		if slices.Contains(got[i+1:], s) {
			t.Errorf("%q is there twice", s)
		}
	}
}

// TestSignatureIsMasked although credentials are others with each request, as after a renewal.
func TestSignatureIsMasked(t *testing.T) {
	url := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusForbidden)
		_, signature, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
		_, _ = fmt.Fprintf(w, "the canonical request is x-amz-security-token:%s and its signature is not %s", r.Header.Get("X-Amz-Security-Token"), signature)
	})
	n := 0
	s := newSender(t, HTTPConfig{URL: url, Sign: func(_ context.Context, r *http.Request, _ string) error {
		n++
		r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=AKIA, SignedHeaders=host, Signature=feed%d", n))
		r.Header.Set("X-Amz-Security-Token", fmt.Sprintf("token%d", n))
		return nil
	}})
	for range 3 {
		const want = "the canonical request is x-amz-security-token:[masked] and its signature is not [masked]"
		if resp := s.Send(t.Context(), outgoing()); resp.Status != http.StatusForbidden || resp.Message != want {
			t.Errorf("%+v", resp)
		}
	}
}
