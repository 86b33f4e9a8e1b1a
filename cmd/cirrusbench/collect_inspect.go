package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/collector"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

// inspection is what `collect inspect -o json` prints.
type inspection struct {
	Schema string `json:"schema"`
	Tool   any    `json:"tool"`
	Dir    string `json:"dir"`
	Intact bool   `json:"intact"`
	*spool.Report
	Dead []collector.DeadLetter `json:"dead"`
	// DeadErrors are dead letters that cannot be read.
	DeadErrors []string `json:"dead_errors"`
}

func newCollectInspectCommand(e *env) *cobra.Command {
	var output, out string
	cmd := &cobra.Command{
		Use:   "inspect [DIR]",
		Short: "Say what is in a collector's queue, and check every checksum",
		Long: `Say what is in a collector's queue: segments, what is not sent yet, batches under way, requests that were
put aside, and files that are not the queue's. Every checksum is checked; when one does not hold the exit
code is 1.

It takes no lock and changes nothing, so it may look at a queue at work; the last record may then be under
way and look broken.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  mkdir -p queue && cirrusbench collect inspect ./queue`,
		Args:    argsRange(0, 1, "DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "./queue"
			if len(args) == 1 {
				dir = args[0]
			}
			return runCollectInspect(e, dir, output, out)
		},
	}
	addResultFlags(cmd, &output, &out, "table", "json")
	return cmd
}

func runCollectInspect(e *env, dir, output, out string) error {
	rep, err := spool.Inspect(dir)
	if err != nil {
		return withHint(err, "give the directory that 'cirrusbench collect --dir' has")
	}
	in := inspection{
		Schema: "cirrusbench/queue-inspection/v1", Tool: tool(), Dir: dir, Intact: rep.Broken() == 0, Report: rep,
		Dead: []collector.DeadLetter{}, DeadErrors: []string{},
	}
	if err := in.readDead(filepath.Join(dir, "dead")); err != nil {
		return err
	}
	render := in.table
	if output == "json" {
		render = func(w io.Writer) error {
			j := json.NewEncoder(w)
			j.SetIndent("", "  ")
			j.SetEscapeHTML(false)
			return j.Encode(in)
		}
	}
	if err := emit(e, out, render); err != nil {
		return err
	}
	if !in.Intact {
		return withHint(fmt.Errorf("%s: %s", dir, brokenPlaces(rep.Broken())),
			"the collector passes over them and delivers the rest; at its next start it copies them to quarantine/")
	}
	return nil
}

func (in *inspection) readDead(dir string) error {
	names, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.json"))
	if err != nil {
		return err
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var d collector.DeadLetter
		if err == nil {
			err = json.Unmarshal(b, &d)
		}
		if err == nil && d.Schema != collector.DeadSchema {
			err = fmt.Errorf("its schema is %.40q", d.Schema)
		}
		if err != nil {
			in.DeadErrors = append(in.DeadErrors, fmt.Sprintf("%s: %v", filepath.Base(name), err))
			continue
		}
		in.Dead = append(in.Dead, d)
	}
	return nil
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func (in *inspection) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) } // Flush has the error
	at := func(t time.Time) string {
		if t.IsZero() {
			return "–"
		}
		return t.UTC().Format("2006-01-02 15:04:05")
	}
	say("Queue in %s\n", in.Dir)
	var records, pending, samples, bytes int64
	for _, s := range in.Segments {
		records, pending, samples, bytes = records+s.Records, pending+s.Pending, samples+s.Samples, bytes+s.Bytes
	}
	say("Requests\t%s in %s, %s, %s", count(records), plural(len(in.Segments), "segment"), sizeOf(bytes), plural(samples, "sample"))
	say("Not sent\t%s", count(pending))
	say("Put aside\t%s", count(len(in.Dead)+len(in.DeadErrors)))
	if in.Intact {
		say("Checksums\tall hold")
	} else {
		say("Checksums\t%s", brokenPlaces(in.Broken()))
	}
	if in.StateError != "" {
		say("State\t%s", in.StateError)
	}
	if len(in.Segments) > 0 {
		say("\nSEGMENTS")
		say("file\tbytes\trequests\tnot sent\tsamples\tseq\treceived from\tto\tbroken")
		for _, s := range in.Segments {
			seq := "–"
			if s.Records > 0 {
				seq = fmt.Sprintf("%d–%d", s.First, s.Last)
			}
			broken := "–"
			for i, b := range s.Broken {
				if i == 0 {
					broken = ""
				}
				broken += fmt.Sprintf("%s at %d ", plural(b.Bytes, "byte"), b.Offset)
			}
			if s.Error != "" {
				broken = s.Error
			}
			say("%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s", s.Name, s.Bytes, s.Records, s.Pending, s.Samples, seq, at(s.Oldest), at(s.Newest), strings.TrimSpace(broken))
		}
	}
	if len(in.State.Lanes) > 0 {
		say("\nORGS AND CLUSTERS")
		say("org\tcluster\tsent up to seq\tbatch under way")
		for _, l := range in.State.Lanes {
			plan := "–"
			if l.Plan != nil {
				plan = fmt.Sprintf("up to seq %d", l.Through)
			}
			say("%s\t%s\t%d\t%s", l.Org, l.Cluster, l.Done, plan)
		}
	}
	if len(in.Dead) > 0 {
		say("\nPUT ASIDE IN dead/")
		say("file\torg\tcluster\tsamples\treceived\tstatus\treason")
		for _, d := range in.Dead {
			say("%s\t%s\t%s\t%d\t%s\t%d\t%s", d.Body, d.Org, d.Cluster, d.Samples, at(d.Received), d.Status, d.Reason)
		}
	}
	for _, text := range in.DeadErrors {
		say("dead/%s", text)
	}
	if len(in.Quarantine) > 0 {
		say("\nQUARANTINE\n%s", strings.Join(in.Quarantine, "\n"))
	}
	if len(in.Foreign) > 0 {
		say("\nNOT THE QUEUE'S\n%s", strings.Join(in.Foreign, "\n"))
	}
	return t.Flush()
}

func brokenPlaces[N int | int64](n N) string {
	if n == 1 {
		return "1 place is broken"
	}
	return plural(n, "place") + " are broken"
}

// sizeOf writes a number of bytes for people.
func sizeOf(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return plural(n, "byte")
}
