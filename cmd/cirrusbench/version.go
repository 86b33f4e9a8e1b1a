package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// version and commit are set by the linker (see the Makefile); a plain `go install` has what the module
// system knows.
var version, commit string //nolint:gochecknoglobals // the linker can only set package variables

// tool says which build made a result.
func tool() stats.Tool {
	t := stats.Tool{Version: version, Commit: commit}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return t
	}
	if t.Version == "" {
		t.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && t.Commit == "" {
			t.Commit = s.Value
		}
	}
	if t.Version == "" || t.Version == "(devel)" {
		t.Version = "devel"
	}
	return t
}

func newVersionCommand(e *env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    "Print the version, the commit it was built from and the Go version.\n\n" + exitCodes(exitOK, exitUsage),
		Example: "  cirrusbench version -o json",
		Args:    argsRange(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			t := tool()
			switch output {
			case "table":
				_, err := fmt.Fprintf(e.out, "cirrusbench %s (commit %s, %s %s/%s)\n", t.Version, orUnknown(t.Commit), runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			case "json":
				enc := json.NewEncoder(e.out)
				enc.SetIndent("", "  ")
				return enc.Encode(struct {
					Schema string     `json:"schema"`
					Tool   stats.Tool `json:"tool"`
					Go     string     `json:"go"`
					OS     string     `json:"os"`
					Arch   string     `json:"arch"`
				}{"cirrusbench/version/v1", t, runtime.Version(), runtime.GOOS, runtime.GOARCH})
			}
			return badOutput(output, "table", "json")
		},
	}
	addOutputFlag(cmd, &output, "table", "json")
	return cmd
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
