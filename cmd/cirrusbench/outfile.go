package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// formatOf is the format that the ending of a file's name stands for; empty for other endings.
func formatOf(name string) string {
	switch ending := strings.ToLower(filepath.Ext(name)); ending {
	case ".json", ".jsonl", ".csv", ".html":
		return ending[1:]
	case ".ndjson":
		return "jsonl"
	case ".htm":
		return "html"
	case ".md":
		return "markdown"
	}
	return ""
}

// addResultFlags adds -o/--output with the formats that a command can print, and --out with the file that its result goes
// to. A name that ends in .html, .json, .csv, .md or .jsonl stands for the format too, unless -o says otherwise: a table
// in out.html is what nobody asks for.
func addResultFlags(cmd *cobra.Command, output, out *string, formats ...string) {
	cmd.Flags().StringVar(out, "out", "", "write the result to this file, in the format of its ending unless -o says otherwise")
	addOutputFlag(cmd, output, formats...)
	checked := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		format := formatOf(*out)
		switch {
		case format == "" || cmd.Flags().Changed("output"):
		case slices.Contains(formats, format):
			*output = format
		default:
			return usagef("give the file another name, or -o with one of "+strings.Join(formats, ", "), "--out %s: '%s' has no %s format", *out, cmd.CommandPath(), format)
		}
		return checked(cmd, args)
	}
}
