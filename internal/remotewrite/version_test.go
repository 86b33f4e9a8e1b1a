package remotewrite

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestNegotiate(t *testing.T) {
	tests := []struct {
		typ, encoding string
		want          Version
		reason        string
	}{
		{"application/x-protobuf", "snappy", V1, ""},
		{"application/x-protobuf", "", V1, ""},
		{"application/x-protobuf", " Snappy ", V1, ""},
		{"Application/X-Protobuf", "snappy", V1, ""},
		{"application/x-protobuf;", "snappy", V1, ""},
		{"application/x-protobuf; charset=utf-8", "snappy", V1, ""},
		{"application/x-protobuf;proto=prometheus.WriteRequest", "snappy", V1, ""},
		{"application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy", V2, ""},
		{"application/x-protobuf; proto=io.prometheus.write.v2.Request", "snappy", V2, ""},
		{"application/x-protobuf ;\tproto=io.prometheus.write.v2.Request ", "snappy", V2, ""},
		{`application/x-protobuf;proto="io.prometheus.write.v2.Request"`, "snappy", V2, ""},
		{"application/x-protobuf;PROTO=IO.Prometheus.Write.V2.Request", "snappy", V2, ""},

		{"", "snappy", 0, "content_type"},
		{"application/json", "snappy", 0, "content_type"},
		{"image/png", "snappy", 0, "content_type"},
		{"application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", 0, "content_type"},
		{"application/x-protobuf;proto=", "snappy", 0, "content_type"},
		{"application/x-protobuf;proto", "snappy", 0, "content_type"},
		{"application/x-protobuf;proto=prometheus.WriteRequest;proto=io.prometheus.write.v2.Request", "snappy", 0, "content_type"},
		{"application/x-protobuf-stuff", "snappy", 0, "content_type"},

		{"application/x-protobuf", "zstd", 0, "content_encoding"},
		{"application/x-protobuf", "gzip", 0, "content_encoding"},
		{"application/x-protobuf", "snappy, snappy", 0, "content_encoding"},
		{"application/x-protobuf", "identity", 0, "content_encoding"},
		{"application/x-protobuf", "sna ppy", 0, "content_encoding"},

		// The type is what is told when both are wrong.
		{"application/json", "gzip", 0, "content_type"},
	}
	for _, tt := range tests {
		t.Run(tt.typ+" "+tt.encoding, func(t *testing.T) {
			got, err := Negotiate(tt.typ, tt.encoding)
			if tt.reason != "" {
				if e := wantError(t, err, http.StatusUnsupportedMediaType, tt.reason); e.Hint == "" {
					t.Error("no hint")
				}
			} else if err != nil {
				t.Error(err)
			}
			if got != tt.want {
				t.Errorf("version %s, want %s", got, tt.want)
			}
		})
	}
}

func TestVersionSpeaksAsTheSpecificationSays(t *testing.T) {
	tests := []struct {
		v                    Version
		str, typ, headerName string
	}{
		{V1, "1.0", "application/x-protobuf", "0.1.0"},
		{V2, "2.0", "application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"},
		{7, "unknown version 7", "", ""},
	}
	for _, tt := range tests {
		if tt.v.String() != tt.str || tt.v.ContentType() != tt.typ || tt.v.HeaderValue() != tt.headerName {
			t.Errorf("got %q %q %q, want %q %q %q", tt.v, tt.v.ContentType(), tt.v.HeaderValue(), tt.str, tt.typ, tt.headerName)
		}
		if got, err := Negotiate(tt.v.ContentType(), "snappy"); tt.typ != "" && (err != nil || got != tt.v) {
			t.Errorf("%s: its own content type gives %s, %v", tt.v, got, err)
		}
	}
	// Written out, so that a slip of the pen in the constants shows.
	for got, want := range map[string]string{
		HeaderVersion:           "X-Prometheus-Remote-Write-Version",
		HeaderSamplesWritten:    "X-Prometheus-Remote-Write-Samples-Written",
		HeaderHistogramsWritten: "X-Prometheus-Remote-Write-Histograms-Written",
		HeaderExemplarsWritten:  "X-Prometheus-Remote-Write-Exemplars-Written",
	} {
		if got != want || got != http.CanonicalHeaderKey(got) {
			t.Errorf("header %q, want %q", got, want)
		}
	}
}

func TestReasons(t *testing.T) {
	all := slices.Collect(Reasons())
	if len(all) != int(reasonCount)-1 {
		t.Errorf("%d reasons, want %d", len(all), reasonCount-1)
	}
	seen := map[string]bool{}
	for _, r := range all {
		if r == "" || seen[r] || strings.Trim(r, "abcdefghijklmnopqrstuvwxyz_0123456789") != "" {
			t.Errorf("reason %q is empty, repeated or not snake_case", r)
		}
		seen[r] = true
	}
	for range Reasons() {
		break // must not panic
	}
}

func TestQuoteIsBounded(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"up", `"up"`},
		{strings.Repeat("a", 64), `"` + strings.Repeat("a", 64) + `"`},
		{strings.Repeat("a", 65), `"` + strings.Repeat("a", 64) + `…"`},
		{strings.Repeat("a", 63) + "é", `"` + strings.Repeat("a", 63) + `…"`},
		{strings.Repeat("\x80", 100), `"` + strings.Repeat(`\x80`, 60) + `…"`},
	} {
		if got := quote([]byte(tt.in)); got != tt.want {
			t.Errorf("quote(%q) = %s, want %s", tt.in, got, tt.want)
		}
	}
}
