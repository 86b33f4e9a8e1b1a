package lambdalog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// accessesOf reads a log with or without the short way.
func accessesOf(input string, fields AccessFields, slow bool) (out []string) {
	s := newAccessScanner("log", fields, func(a Access, err error) bool {
		out = append(out, fmt.Sprintf("%+v %v", a, err))
		return true
	})
	s.slow = slow
	err := s.input(strings.NewReader(input), fileLines(), 0)
	return append(out, fmt.Sprint(err))
}

func TestQuickAccess(t *testing.T) {
	r := accessReader{}
	for line, want := range map[string]bool{
		`{"requestId":"g","integrationRequestId":"l"}`:                        true,
		`{ "requestId" : "g" , "status": 204, "integrationRequestId" : "-" }`: true,
		`{"requestId":"g","integrationRequestId":"l","n":-1,"z":0}`:           true,
		`{"requestId":"g","integrationRequestId":"l",}`:                       false,
		`{,"requestId":"g","integrationRequestId":"l"}`:                       false,
		`{"requestId":"g","integrationRequestId":"l"}}`:                       false,
		`{"requestId":"g","integrationRequestId":"l"`:                         false,
		`{"requestId":"g","integrationRequestId":"l","n":01}`:                 false,
		`{"requestId":"g","integrationRequestId":"l","n":-}`:                  false,
		`{"requestId":"g","integrationRequestId":"l","n":1.5}`:                false,
		`{"requestId":"g","integrationRequestId":"l","n":{}}`:                 false,
		`{"requestId":"g","integrationRequestId":"l","n":"\u0041"}`:           false,
		`{"requestId":"g" "integrationRequestId":"l"}`:                        false,
		`{"requestId" "g","integrationRequestId":"l"}`:                        false,
		`{"requestId":"-","integrationRequestId":"l"}`:                        false,
		`{"requestId":"g"}`: false,
		`{"requestId":"g","requestId":"h","integrationRequestId":"l"}`:            false,
		`{"requestId":"g","integrationRequestId":"l","LogResult":"e30="}`:         false,
		`{"requestId":"g","integrationRequestId":"l","user":"J` + "\u00f6" + `"}`: false,
		`{}`: false,
		``:   false,
	} {
		if _, ok := r.quick(line); ok != want {
			t.Errorf("%s: %v", line, ok)
		}
	}
}

// FuzzQuickAccess: whatever the line and the names, the short way reads what the long one does.
func FuzzQuickAccess(f *testing.F) {
	for _, s := range []string{
		`{"requestId":"g","status":204,"integrationRequestId":"l"}`, `{"requestId":"g","requestId":"h","integrationRequestId":"l"}`,
		`{"request_id":"g","requestId":"h","integrationRequestId":"-","awsEndpointRequestId":"l"}`, `x {"requestId":"g","integrationRequestId":"l"}`,
		`{"requestId":"g","integrationRequestId":"l","events":"x"}` + "\n" + `{"events":"g","integrationRequestId":"l","n":-0}`,
		`{"requestId":" g\u007f ","integrationRequestId":"l"} ` + "\n\n\t" + `{"a.id":"g","a.fn":"l"}`, `{"requestId":"g","integrationRequestId":"l"}{}`,
	} {
		f.Add(s, "", "")
		f.Add(s, "a.id", "a.fn")
		f.Add(s, "events", "")
		f.Add(s, "requestId", "requestId")
	}
	f.Fuzz(func(t *testing.T, input, gateway, invoked string) {
		fields := AccessFields{Gateway: gateway, Lambda: invoked}
		if diff := cmp.Diff(accessesOf(input, fields, true), accessesOf(input, fields, false)); diff != "" {
			t.Errorf("%q: %s", input, diff)
		}
	})
}
