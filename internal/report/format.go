package report

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Format is how text is laid out.
type Format string

// The formats.
const (
	// Table is for a terminal: aligned columns, lines of at most 100 characters
	// unless a single word is longer.
	Table Format = "table"
	// Markdown is for pages that render GitHub's dialect of Markdown.
	Markdown Format = "markdown"
)

// count prints a whole number with thousands separators.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	return sign + group(s)
}

// group puts a comma between every three of the digits.
func group(digits string) string {
	if len(digits) <= 3 {
		return digits
	}
	head := (len(digits)-1)%3 + 1
	var b strings.Builder
	b.WriteString(digits[:head])
	for i := head; i < len(digits); i += 3 {
		b.WriteByte(',')
		b.WriteString(digits[i : i+3])
	}
	return b.String()
}

// decimal prints f with a fixed number of decimals and thousands separators.
func decimal(f float64, places int) string { return separated(fixed(f, places)) }

// separated puts thousands separators into a decimal number; what is no number stays as it is.
func separated(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	whole, frac, found := strings.Cut(s, ".")
	if whole == "" || whole[0] < '0' || whole[0] > '9' {
		return sign + s
	}
	if found {
		frac = "." + frac
	}
	return sign + group(whole) + frac
}

// withoutZeros leaves out the zeros that end a decimal number.
func withoutZeros(s string) string {
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// fixed prints f with a fixed number of decimals, without separators and without
// a negative zero. What is no number prints as n/a.
func fixed(f float64, places int) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return "n/a"
	}
	s := strconv.FormatFloat(f, 'f', places, 64)
	if s[0] == '-' && strings.Trim(s, "-0.") == "" {
		s = s[1:]
	}
	return s
}

// figure prints f with the decimals its size deserves: about four digits, without
// zeros at the end.
func figure(f float64) string {
	places := 3
	switch a := math.Abs(f); {
	case a >= 1000:
		places = 0
	case a >= 100:
		places = 1
	case a >= 1:
		places = 2
	}
	return withoutZeros(decimal(f, places))
}

// aligned returns how to print numbers that stand together: as [figure] does, all with the decimals of the one that has most.
func aligned(all []float64) func(f float64) string {
	places := 0
	for _, f := range all {
		if _, frac, found := strings.Cut(figure(f), "."); found {
			places = max(places, len(frac))
		}
	}
	return func(f float64) string { return decimal(f, places) }
}

// nbsp keeps a number and its unit on one line. Only HTML gets to see it; the
// other formats replace it by a space that can be searched for.
const nbsp = "\u00a0"

// percent prints a ratio of 0 to 1 in percent.
func percent(ratio float64) string {
	p := ratio * 100
	switch a := math.Abs(p); {
	case a == 0 || a >= 10:
		return decimal(p, 0) + nbsp + "%"
	case a >= 1:
		return decimal(p, 1) + nbsp + "%"
	default:
		return decimal(p, 2) + nbsp + "%"
	}
}

// size prints a number of bytes in binary units.
func size(n int64) string {
	if n > -1024 && n < 1024 {
		return plural(n, "byte")
	}
	f := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		f /= 1024
		if math.Abs(f) < 1024 {
			return decimal(f, 1) + nbsp + unit
		}
	}
	return decimal(f/1024, 1) + nbsp + "PiB"
}

// span prints a length of time given in milliseconds.
func span(ms float64) string {
	switch {
	case ms < 1000:
		return figure(ms) + nbsp + "ms"
	case ms < 120_000:
		return decimal(ms/1000, 1) + nbsp + "s"
	case ms < 7_200_000:
		return decimal(ms/60_000, 1) + nbsp + "min"
	default:
		return decimal(ms/3_600_000, 1) + nbsp + "h"
	}
}

// plural prints n and the noun in the right number.
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// singular picks the form of a verb that follows a number of things.
func singular(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// joinAnd joins words as a sentence does.
func joinAnd(words []string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

// short cuts a hash to what tells two of them apart.
func short(hash string) string {
	const enough = 12
	if len(hash) <= enough {
		return hash
	}
	return hash[:enough]
}

// What looks like a credential: in the user part of a URL, as the value of a
// query parameter or header whose name says so, or behind an authentication scheme.
var (
	secretUserinfo = regexp.MustCompile(`(://)[^/@\s"']*@`)
	secretValue    = regexp.MustCompile(`(?i)([a-z0-9_.-]*(?:token|secret|passw|api[_-]?key|signature|credential)[a-z0-9_.-]*"?\s*[=:]\s*"?)[^&\s"',;]+`)
	secretScheme   = regexp.MustCompile(`((?i:bearer|basic)\s+)[a-z._~-]*[A-Z0-9+/=][^\s"',;]*`)
	secretAWSKey   = regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{12,}`)
)

const mask = "[masked]"

// clean makes a string that came from outside fit to be shown: on one line,
// without characters that act on a terminal, without what looks like a credential.
// Whoever stores such strings is to keep secrets out; this is the second door.
func clean(s string) string {
	if strings.Contains(s, "://") {
		s = secretUserinfo.ReplaceAllString(s, "${1}"+mask+"@")
	}
	s = secretScheme.ReplaceAllString(s, "${1}"+mask)
	s = secretAWSKey.ReplaceAllString(s, mask)
	s = secretValue.ReplaceAllString(s, "${1}"+mask)
	return visible(s)
}

// visible writes control characters, invisible format characters (among them those
// that turn the direction of writing) and broken UTF-8 as Go escapes.
func visible(s string) string {
	if !strings.ContainsFunc(s, hidden) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !utf8.ValidString(s[i:min(i+utf8.RuneLen(r), len(s))]):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case hidden(r):
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

// cut shortens s to at most n characters, the last of which then is an ellipsis.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	for i := range s {
		n--
		if n == 0 {
			return strings.TrimRight(s[:i], " ") + "…"
		}
	}
	return s
}

// wrap breaks text at spaces into lines of at most width characters. A longer word
// stands alone.
func wrap(text string, width int) []string {
	var lines []string
	var line strings.Builder
	length := 0
	for word := range strings.SplitSeq(text, " ") {
		n := utf8.RuneCountInString(word)
		if n == 0 {
			continue
		}
		if length > 0 && length+1+n > width {
			lines = append(lines, line.String())
			line.Reset()
			length = 0
		}
		if length > 0 {
			line.WriteByte(' ')
			length++
		}
		line.WriteString(word)
		length += n
	}
	if length > 0 {
		lines = append(lines, line.String())
	}
	return lines
}
