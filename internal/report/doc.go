// Package report renders results for people: as a table for a terminal, as
// Markdown for a ticket or a CI summary, runs as CSV, and runs and forecasts as one
// self-contained HTML page each.
//
// It takes values and holds no formula: what is shown was computed by the package
// that made the value. Every block has a title and a line of plain words, so that a
// reader needs no other page to understand it. The output depends on the value
// alone, not on locale, time zone, terminal or the order of a map, and contains no
// terminal escape sequences.
//
// Names and error messages come from the network. Control characters in them are
// made visible, what is markup in the format is escaped, and what looks like a
// credential is masked.
package report
