package main

import (
	"errors"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestBadValue(t *testing.T) {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.Float64("rate", 0, "")
	f.Int("memory", 0, "")
	f.Int64("requests", 100, "")
	f.Duration("duration", 10*time.Second, "")
	f.Bool("loop", true, "")
	size := byteSize(1 << 20)
	f.Var(&size, "max-body", "")
	for _, c := range []struct{ flag, value, msg, hint string }{
		{"rate", "100/s", `--rate must be a number, not "100/s"`, "write it like --rate 100"},
		{"rate", "fast", `--rate must be a number, not "fast"`, ""},
		{"rate", "2.5k", `--rate must be a number, not "2.5k"`, "write it like --rate 2.5"},
		{"memory", "128MB", `--memory must be a whole number, not "128MB"`, "write it like --memory 128"},
		{"memory", "1.5", `--memory must be a whole number, not "1.5"`, "write it like --memory 1"},
		{"memory", "99999999999999999999", `--memory is out of range: "99999999999999999999"`, ""},
		{"requests", "many", `--requests must be a whole number, not "many"`, "write it like --requests 100"},
		{"duration", "5", `--duration must be a time with its unit, such as 500ms, 5s or 10m, not "5"`, "write it like --duration 5s"},
		{"duration", "", `--duration must be a time with its unit, such as 500ms, 5s or 10m, not ""`, "write it like --duration 10s"},
		{"loop", "maybe", `--loop must be true or false, not "maybe"`, "write --loop, or --loop=false"},
		{"max-body", "foo", `--max-body: "foo" is not a size from 1 byte to 1024GiB, such as 10MiB`, ""},
	} {
		if msg, hint := badValue(f.Set(c.flag, c.value)); msg != c.msg || hint != c.hint {
			t.Errorf("%s %q:\n%q\n%q, want\n%q\n%q", c.flag, c.value, msg, hint, c.msg, c.hint)
		}
	}
	if msg, hint := badValue(errors.New("another")); msg != "" || hint != "" {
		t.Errorf("another error: %q %q", msg, hint)
	}
}
