package replay

import (
	"bytes"
	"cmp"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// minSecret is the length below which nothing is masked: it would hide nothing and tear words apart.
const minSecret = 4

// Secrets returns the forms in which an answer may repeat secret values, for [Config.Secrets]: as they are, percent-encoded,
// in JSON and in HTML, with control characters as spaces, since so is an answer. Values below 4 bytes are left out. A value
// that the user has given percent-encoded should be in values both ways: what a target decodes is not known here.
func Secrets(values ...string) []string {
	var all []string
	for _, v := range values {
		query := url.QueryEscape(v)
		for _, form := range []string{
			v, query, strings.ReplaceAll(query, "+", "%20"), // as SigV4 rewrites a query
			url.PathEscape(v), inJSON(v, false), inJSON(v, true), html.EscapeString(v),
		} {
			form = printable(form) // as the answer is
			all = append(all, form, lowerEscapes.ReplaceAllStringFunc(form, strings.ToLower))
		}
	}
	all = slices.DeleteFunc(all, func(s string) bool { return len(s) < minSecret })
	// The longest first, or a value that begins like another would leave the other's end.
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b)) })
	return slices.Compact(all)
}

var lowerEscapes = regexp.MustCompile("%[0-9A-F]{2}")

// inJSON is v within the quotes of a JSON string.
func inJSON(v string, escapeHTML bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(escapeHTML)
	if err := e.Encode(v); err != nil {
		return v // which no string is
	}
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}

// signature returns what signing has put into the header of a request: it must not be seen where its answer is.
func signature(h http.Header) []string {
	authorization := h.Get("Authorization")
	values := []string{authorization, h.Get("X-Amz-Security-Token")}
	if _, hex, ok := strings.Cut(authorization, "Signature="); ok {
		values = append(values, hex)
	}
	return values
}
