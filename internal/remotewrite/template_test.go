package remotewrite

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang/snappy"
)

// checkTemplate compares a template with what it stands for: relabelling, then shifting.
func checkTemplate(t *testing.T, v Version, decoded []byte, name, value, other string, delta int64) {
	t.Helper()
	tpl, err := NewTemplate(v, decoded, name, value)
	for _, set := range []string{value, other} {
		want := bytes.Clone(decoded)
		var wantErr error
		if name != "" {
			want, wantErr = Relabel(nil, v, decoded, name, set)
		}
		if wantErr == nil {
			wantErr = Shift(v, want, delta)
		}
		malformed := wantErr
		if e, ok := errors.AsType[*Error](wantErr); ok && e.Reason != "malformed_protobuf" {
			malformed = nil // of the timestamps, which a template meets when it is used
		} else if wantErr == nil && delta == 0 {
			malformed = Shift(v, bytes.Clone(want), 1) // nothing to shift is no error, also of what cannot be
			if e, ok := errors.AsType[*Error](malformed); ok && e.Reason != "malformed_protobuf" {
				malformed = nil
			}
		}
		if (err != nil) != (malformed != nil) {
			t.Fatalf("making a template: %v, want %v", err, malformed)
		}
		if err != nil {
			return
		}
		dst := []byte("before")
		got, gotErr := tpl.Append(dst, delta, set)
		switch {
		case (gotErr != nil) != (wantErr != nil):
			t.Fatalf("%v, want %v", gotErr, wantErr)
		case gotErr != nil:
			if gotErr.Error() != wantErr.Error() || string(got) != "before" {
				t.Fatalf("%v, want %v, and %q is left", gotErr, wantErr, got)
			}
		case !bytes.HasPrefix(got, dst):
			t.Fatalf("%q is overwritten", dst)
		default:
			message, err := snappy.Decode(nil, got[len(dst):])
			if err != nil || !bytes.Equal(message, want) {
				t.Fatalf("%q by %d ms is not what relabelling and shifting give: %v", set, delta, err)
			}
		}
	}
}

func TestTemplateIsRelabelAndShift(t *testing.T) {
	files, err := filepath.Glob("../../fixtures/captures/v*.snappy")
	if err != nil || len(files) == 0 {
		t.Fatal("no captures", err)
	}
	for _, f := range files {
		body, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		v := V1
		if strings.HasPrefix(filepath.Base(f), "v2") {
			v = V2
		}
		decoded, err := Decode(nil, body, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, delta := range []int64{0, 1, -86_400_000, 1 << 50} {
			checkTemplate(t, v, decoded, "", "", "", delta)
			for _, name := range []string{"cluster", "job", "__name__", "zzz", "A"} {
				checkTemplate(t, v, decoded, name, "canary-2", "canary-3", delta)
				checkTemplate(t, v, decoded, name, "", "", delta)
			}
		}
		tpl, err := NewTemplate(v, decoded, "cluster", "four")
		if err != nil {
			t.Fatal(err)
		}
		if out, err := tpl.Append(nil, 1, "three"); err == nil || out != nil {
			t.Error("a value of another length is taken")
		}
		sent, err := tpl.Append(nil, 1, "five")
		if err != nil {
			t.Fatal(err)
		}
		if n := tpl.Size(); n < int64(len(sent)) || n > int64(2*len(sent))+1000 {
			t.Errorf("%d bytes sent, a template says it takes %d", len(sent), n)
		}
		// As large as if it were compressed anew, or a replay would measure other bodies than were captured.
		message, err := Decode(nil, sent, 0)
		if err != nil {
			t.Fatal(err)
		}
		if anew := len(snappy.Encode(nil, message)); len(sent) > anew+anew/50+10 {
			t.Errorf("%s: %d bytes sent, %d if compressed anew", f, len(sent), anew)
		}
	}
	if _, err := NewTemplate(0, nil, "", ""); err == nil {
		t.Error("a template of no version")
	}
}

// FuzzTemplate: whatever the bytes are, a template is relabelling and shifting.
func FuzzTemplate(f *testing.F) {
	files, err := filepath.Glob("../../fixtures/captures/v*.snappy")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		body, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if decoded, err := Decode(nil, body, 0); err == nil && len(decoded) < 100_000 {
			f.Add(decoded, int64(60_000), "x", true)
		}
	}
	f.Add([]byte("\x0a\x00"), int64(1), "", false)
	f.Fuzz(func(t *testing.T, b []byte, delta int64, value string, relabelled bool) {
		for _, v := range []Version{V1, V2} {
			name := ""
			if relabelled {
				name = "cluster"
			} else {
				value = ""
			}
			checkTemplate(t, v, b, name, value, strings.Repeat("y", len(value)), delta)
		}
	})
}
