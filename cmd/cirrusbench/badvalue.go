package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// leadingNumber is what a person meant who wrote 100/s or 128MB.
var leadingNumber = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?`)

// wholeDuration is a time as it must be written, of which only its size can be wrong.
var wholeDuration = regexp.MustCompile(`^[-+]?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`)

// badValue says what the value of a flag must be, and what to write instead of the one that was given; both are empty for another
// error. It takes the place of the words of strconv and time, which name functions.
func badValue(err error) (msg, hint string) {
	e, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return "", ""
	}
	flag, value := e.GetFlag(), e.GetValue()
	name := "--" + flag.Name
	var must string
	number := leadingNumber.FindString(value)
	switch flag.Value.Type() {
	case "float64":
		must = "a number"
	case "int", "int64", "uint", "uint64":
		must = "a whole number"
		number, _, _ = strings.Cut(number, ".")
	case "duration":
		must = "a time with its unit, such as 500ms, 5s or 10m"
		if number != "" {
			number += "s"
		}
	case "intSlice":
		example := strings.Trim(flag.DefValue, "[]")
		return fmt.Sprintf("%s must be whole numbers with commas between them, not %q", name, value), fmt.Sprintf("write it like %s %s", name, example)
	case "bool":
		return fmt.Sprintf("%s must be true or false, not %q", name, value), fmt.Sprintf("write %s, or %s=false", name, name)
	default:
		return fmt.Sprintf("%s: %v", name, e.Unwrap()), ""
	}
	if errors.Is(e.Unwrap(), strconv.ErrRange) || (flag.Value.Type() == "duration" && wholeDuration.MatchString(value)) {
		return fmt.Sprintf("%s is out of range: %q", name, value), ""
	}
	if number == "" {
		number = flag.DefValue // a value that is right, in the form that is
	}
	if number != "" && number != "0" && number != "0s" {
		hint = fmt.Sprintf("write it like %s %s", name, number)
	}
	return fmt.Sprintf("%s must be %s, not %q", name, must, value), hint
}
