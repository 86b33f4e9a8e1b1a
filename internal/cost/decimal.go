package cost

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// precision is the number of significant digits of every operation: the 34 of
// IEEE decimal128. The largest amounts here have 13 digits before the point.
const precision = 34

// jsonPlaces is the number of decimals of money and quantities in JSON. Prices
// have at most as many, so a price is never rounded.
const jsonPlaces = 12

// Decimal is an immutable decimal number: a quantity, a price factor or a
// ratio. The zero value is 0. Operations keep 34 significant digits.
//
// An operation that has no result (a division by zero, an overflow) makes a
// Decimal that carries the error, and so does every operation with it: Err
// tells, String says "invalid", and MarshalJSON fails, so that no figure comes
// out of it.
type Decimal struct {
	d   *apd.Decimal
	err error
}

// ParseDecimal reads a decimal number such as 0.0000166667 or 1.5e6. It refuses
// infinities, NaN and magnitudes beyond 1e40, which no bill reaches.
func ParseDecimal(s string) (Decimal, error) {
	if len(s) == 0 || len(s) > 80 || strings.ContainsAny(s, "_xXpP") {
		return Decimal{}, fmt.Errorf("%.40q is not a decimal number", s)
	}
	d, _, err := apd.NewFromString(s)
	if err != nil || d.Form != apd.Finite {
		return Decimal{}, fmt.Errorf("%.40q is not a decimal number", s)
	}
	if high := int64(d.Exponent) + d.NumDigits(); d.Exponent < -60 || high > 40 {
		return Decimal{}, fmt.Errorf("%.40q is out of range", s)
	}
	return Decimal{d: d}, nil
}

// Int returns n as a Decimal.
func Int(n int64) Decimal { return Decimal{d: apd.New(n, 0)} }

// Frac returns n/10^places, for instance Frac(2, 7) for 0.0000002.
func Frac(n int64, places int32) Decimal { return Decimal{d: apd.New(n, -places)} }

// fromFloat turns a statistic into a Decimal with six decimals. It is for
// bounds of intervals, never for money.
func fromFloat(f float64) Decimal {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Decimal{err: errors.New("statistic is no number")}
	}
	d, err := ParseDecimal(strconv.FormatFloat(f, 'f', 6, 64))
	if err != nil {
		return Decimal{err: err}
	}
	return d
}

func (d Decimal) value() *apd.Decimal {
	if d.d == nil {
		return new(apd.Decimal)
	}
	return d.d
}

func arithmetic() *apd.Context {
	return &apd.Context{
		Precision: precision, MaxExponent: 6144, MinExponent: -6143,
		Traps: apd.DefaultTraps, Rounding: apd.RoundHalfUp,
	}
}

func (d Decimal) op(e Decimal, f func(c *apd.Context, z, x, y *apd.Decimal) (apd.Condition, error)) Decimal {
	if d.err != nil {
		return d
	}
	if e.err != nil {
		return e
	}
	z := new(apd.Decimal)
	if _, err := f(arithmetic(), z, d.value(), e.value()); err != nil {
		return Decimal{err: fmt.Errorf("calculating: %w", err)}
	}
	return Decimal{d: z}
}

// Add returns d + e.
func (d Decimal) Add(e Decimal) Decimal { return d.op(e, (*apd.Context).Add) }

// Sub returns d − e.
func (d Decimal) Sub(e Decimal) Decimal { return d.op(e, (*apd.Context).Sub) }

// Mul returns d × e.
func (d Decimal) Mul(e Decimal) Decimal { return d.op(e, (*apd.Context).Mul) }

// Quo returns d / e, and a Decimal with an error when e is 0.
func (d Decimal) Quo(e Decimal) Decimal {
	return d.op(e, func(c *apd.Context, z, x, y *apd.Decimal) (apd.Condition, error) {
		cond, err := c.Quo(z, x, y)
		if err == nil {
			z.Reduce(z) // an exact quotient need not carry 34 digits
		}
		return cond, err
	})
}

// Pow returns d multiplied n times with itself; 1 for n ≤ 0.
func (d Decimal) Pow(n int) Decimal {
	p := Int(1)
	for range n {
		p = p.Mul(d)
	}
	return p
}

// Min returns the smaller of d and e.
func (d Decimal) Min(e Decimal) Decimal {
	if e.err != nil || d.err == nil && d.Cmp(e) > 0 {
		return e
	}
	return d
}

// Cmp returns −1, 0 or +1 as d is less than, equal to or greater than e. An
// invalid Decimal compares as 0.
func (d Decimal) Cmp(e Decimal) int { return d.value().Cmp(e.value()) }

// Equal says whether d and e are the same number and equally valid.
func (d Decimal) Equal(e Decimal) bool { return d.Cmp(e) == 0 && (d.err == nil) == (e.err == nil) }

// Sign returns −1, 0 or +1.
func (d Decimal) Sign() int { return d.value().Sign() }

// Err returns the error of the operation that made d invalid, or nil.
func (d Decimal) Err() error { return d.err }

// Round returns d with the given number of decimals, half-up (away from zero).
func (d Decimal) Round(places int32) Decimal { return d.quantize(places, apd.RoundHalfUp) }

// Trunc returns d cut to the given number of decimals.
func (d Decimal) Trunc(places int32) Decimal { return d.quantize(places, apd.RoundDown) }

// Ceil returns the smallest whole number not below d.
func (d Decimal) Ceil() Decimal { return d.quantize(0, apd.RoundCeiling) }

func (d Decimal) quantize(places int32, mode apd.Rounder) Decimal {
	if d.err != nil {
		return d
	}
	c := arithmetic()
	c.Precision, c.Rounding = 4*precision, mode
	z := new(apd.Decimal)
	if _, err := c.Quantize(z, d.value(), -places); err != nil {
		return Decimal{err: fmt.Errorf("rounding: %w", err)}
	}
	return Decimal{d: z}
}

// Int64 returns d rounded half-up to a whole number; false when d is invalid or
// does not fit.
func (d Decimal) Int64() (int64, bool) {
	r := d.Round(0)
	if r.err != nil {
		return 0, false
	}
	n, err := r.value().Int64()
	return n, err == nil
}

// lostDigits says whether d looks like what a program prints of a binary float
// that should have had fewer digits: 0.30000000000000004, the shortest text for
// the sum of 0.1 and 0.2, or 1.1000000000000001, the 17 digits of 1.1.
func (d Decimal) lostDigits() bool {
	const kept = 15 // every decimal number of up to 15 digits survives a float
	z, _ := new(apd.Decimal).Reduce(d.value())
	if z.NumDigits() <= kept {
		return false
	}
	float := d.Float64()
	for _, places := range [...]int{-1, 16} {
		printed, err := ParseDecimal(strconv.FormatFloat(float, 'e', places, 64))
		if err == nil && printed.Equal(d) {
			return true
		}
	}
	return false
}

// Float64 returns the nearest float, for statistics and ratios, never for money.
func (d Decimal) Float64() float64 {
	f, err := d.value().Float64()
	if err != nil || d.err != nil {
		return math.NaN()
	}
	return f
}

// String returns d in plain notation with all its digits.
func (d Decimal) String() string {
	if d.err != nil {
		return "invalid"
	}
	return d.value().Text('f')
}

// plain returns d with at most jsonPlaces decimals and at least least, without
// further trailing zeros.
func (d Decimal) plain(least int) (string, error) {
	r := d.Round(jsonPlaces)
	if r.err != nil {
		return "", r.err
	}
	s := r.String()
	for strings.Contains(s, ".") && s[len(s)-1] == '0' && len(s)-strings.IndexByte(s, '.')-1 > least {
		s = s[:len(s)-1]
	}
	s = strings.TrimSuffix(s, ".")
	if strings.Trim(s, "-0.") == "" {
		s = strings.TrimPrefix(s, "-")
	}
	return s, nil
}

// MarshalJSON writes d as a JSON number with at most 12 decimals, half-up.
func (d Decimal) MarshalJSON() ([]byte, error) {
	s, err := d.plain(0)
	if err != nil {
		return nil, fmt.Errorf("writing decimal: %w", err)
	}
	return []byte(s), nil
}

// UnmarshalJSON reads a JSON number or a string with a number in it.
func (d *Decimal) UnmarshalJSON(data []byte) error {
	v, err := ParseDecimal(strings.Trim(string(data), `"`))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// USD is an immutable amount of US dollars, exact to 34 digits; never a float.
// The zero value is nothing. Amounts are rounded when they are printed and not
// before.
type USD struct{ v Decimal }

// ParseUSD reads an amount such as 3633 or 0.0000166667, without sign and
// thousands separators.
func ParseUSD(s string) (USD, error) {
	d, err := ParseDecimal(s)
	if err != nil {
		return USD{}, fmt.Errorf("reading amount: %w", err)
	}
	return USD{d}, nil
}

// Dollars returns d dollars.
func Dollars(d Decimal) USD { return USD{d} }

// Add returns u + v.
func (u USD) Add(v USD) USD { return USD{u.v.Add(v.v)} }

// Sub returns u − v.
func (u USD) Sub(v USD) USD { return USD{u.v.Sub(v.v)} }

// Mul returns u × q, such as a price times a quantity.
func (u USD) Mul(q Decimal) USD { return USD{u.v.Mul(q)} }

// Quo returns u / q; the result is invalid when q is 0.
func (u USD) Quo(q Decimal) USD { return USD{u.v.Quo(q)} }

// Ratio returns u / v; the result is invalid when v is nothing.
func (u USD) Ratio(v USD) Decimal { return u.v.Quo(v.v) }

// Cmp returns −1, 0 or +1 as u is less than, equal to or more than v.
func (u USD) Cmp(v USD) int { return u.v.Cmp(v.v) }

// Equal says whether u and v are the same amount.
func (u USD) Equal(v USD) bool { return u.v.Equal(v.v) }

// Sign returns −1, 0 or +1.
func (u USD) Sign() int { return u.v.Sign() }

// Err returns the error of the operation that made u invalid, or nil.
func (u USD) Err() error { return u.v.err }

// Decimal returns the amount as a number of dollars.
func (u USD) Decimal() Decimal { return u.v }

// Round returns u with the given number of decimals, half-up. Round what is
// shown, and keep adding what is not rounded.
func (u USD) Round(places int32) USD { return USD{u.v.Round(places)} }

// Trunc returns u cut to the given number of decimals.
func (u USD) Trunc(places int32) USD { return USD{u.v.Trunc(places)} }

// String returns the amount in plain notation with all its digits and without sign of currency.
func (u USD) String() string { return u.v.String() }

// Fixed returns the amount half-up with exactly places decimals, such as 87192.00.
func (u USD) Fixed(places int32) string { return u.v.Round(places).String() }

// Format returns the amount for people: dollar sign, thousands separators and
// two decimals, half-up: $87,192.00. Amounts below a cent keep three
// significant digits, because $0.00 would be a wrong price.
func (u USD) Format() string {
	if u.v.err != nil {
		return "invalid"
	}
	places := int32(2)
	if abs := u.v.value(); u.Sign() != 0 {
		// The exponent of the first digit: −3 for 0.00123.
		if first := int64(abs.Exponent) + abs.NumDigits() - 1; first < -2 {
			places = int32(min(-first+2, 30))
		}
	}
	s := u.Fixed(places)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	whole, frac, _ := strings.Cut(s, ".")
	if places > 2 {
		frac = strings.TrimRight(frac, "0")
	}
	return sign + "$" + thousands(whole) + "." + frac
}

// thousands puts a comma between every three digits of a whole number.
func thousands(s string) string {
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// MarshalJSON writes the amount as a decimal string with at least 2 and at most
// 12 decimals, half-up.
func (u USD) MarshalJSON() ([]byte, error) {
	s, err := u.v.plain(2)
	if err != nil {
		return nil, fmt.Errorf("writing amount: %w", err)
	}
	return []byte(`"` + s + `"`), nil
}

// UnmarshalJSON reads a decimal string.
func (u *USD) UnmarshalJSON(data []byte) error {
	if len(data) < 2 || data[0] != '"' {
		return errors.New("money must be a decimal string")
	}
	return u.v.UnmarshalJSON(data)
}
