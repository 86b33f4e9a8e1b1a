package cost

import (
	"fmt"
	"time"
)

// MonthRule says how long a month is. It is stated with every forecast, because
// a bill of 28 days and one of 31 differ by a tenth.
type MonthRule string

// The month rules.
const (
	// MonthCalendar prices the days that each month has, as a bill does.
	MonthCalendar MonthRule = "calendar"
	// Month30Days counts 720 hours, as the papers do.
	Month30Days MonthRule = "30d"
	// Month730Hours counts a twelfth of a year, as AWS's calculators do.
	Month730Hours MonthRule = "730h"
)

// ParseMonthRule reads calendar, 30d or 730h.
func ParseMonthRule(s string) (MonthRule, error) {
	switch r := MonthRule(s); r {
	case MonthCalendar, Month30Days, Month730Hours:
		return r, nil
	}
	return "", fmt.Errorf("month is %.20q, want calendar, 30d or 730h", s)
}

// Hours returns the hours of month m by the rule.
func (r MonthRule) Hours(m YearMonth) Decimal {
	switch r {
	case Month30Days:
		return Int(720)
	case Month730Hours:
		return Int(730)
	case MonthCalendar:
	}
	return Int(int64(m.Days()) * 24)
}

// YearMonth is a calendar month, such as 2026-12.
type YearMonth struct {
	Year  int
	Month time.Month
}

// ParseYearMonth reads a month written as 2026-12, between 2000-01 and 2999-12.
func ParseYearMonth(s string) (YearMonth, error) {
	t, err := time.Parse("2006-01", s)
	if err != nil || t.Year() < 2000 || t.Year() > 2999 {
		return YearMonth{}, fmt.Errorf("%.20q is not a month such as 2026-12", s)
	}
	return YearMonth{t.Year(), t.Month()}, nil
}

// MonthOf returns the month of t in UTC.
func MonthOf(t time.Time) YearMonth {
	t = t.UTC()
	return YearMonth{t.Year(), t.Month()}
}

// Add returns the month n months later.
func (m YearMonth) Add(n int) YearMonth {
	t := time.Date(m.Year, m.Month+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
	return YearMonth{t.Year(), t.Month()}
}

// Days returns the number of days in the month.
func (m YearMonth) Days() int {
	return time.Date(m.Year, m.Month+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// String returns the month as 2026-12.
func (m YearMonth) String() string { return fmt.Sprintf("%04d-%02d", m.Year, int(m.Month)) }

// MarshalJSON writes the month as a string.
func (m YearMonth) MarshalJSON() ([]byte, error) { return []byte(`"` + m.String() + `"`), nil }

// UnmarshalJSON reads what MarshalJSON writes.
func (m *YearMonth) UnmarshalJSON(data []byte) error {
	if len(data) < 2 {
		return fmt.Errorf("%.20q is not a month such as 2026-12", data)
	}
	v, err := ParseYearMonth(string(data[1 : len(data)-1]))
	if err != nil {
		return err
	}
	*m = v
	return nil
}
