package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/workload"
	"github.com/cirrusbench/cirrusbench/internal/workload/promtsdb"
)

func newCaptureImportCommand(e *env) *cobra.Command {
	c := promtsdb.Config{}
	var protocol int
	var from, to, output string
	var external []string
	cmd := &cobra.Command{
		Use:   "import DATA LOCATION",
		Short: "Make captures of a Prometheus database",
		Long: `Make captures of what a Prometheus has stored: the requests that its remote write would have sent, in the
order of time, at LOCATION (./dir, file:///abs/dir or s3://bucket/prefix).

DATA is the data directory of a Prometheus server or agent (--storage.tsdb.path); it is only read, and a
Prometheus may run on it. Blocks are read first, then the write-ahead log of what is in none yet. The log
holds what was really sent, exemplars and metadata included; blocks hold samples and native histograms.
External labels are not in a database: --external-label adds them. What is left out is counted and said.

Importing the same data with the same flags again changes nothing. Memory is bounded by --window samples and
by the labels of the series in the log.

` + exitCodes(exitOK, exitFailed, exitUsage, exitInterrupted),
		Example: `  cirrusbench capture import ./data ./corpus --cluster prod --external-label cluster=prod
  cirrusbench capture import /var/lib/prometheus/metrics2 ./corpus --from 2026-11-20T18:00:00Z --to 2026-11-20T19:00:00Z --match 'job=~"node.*"' --protocol 2`,
		Args: argsRange(2, 2, "DATA or LOCATION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Dir, c.Version = args[0], remotewrite.Version(min(max(protocol, 0), 255))
			var err error
			for _, t := range []struct {
				flag, text string
				to         *time.Time
			}{{"from", from, &c.From}, {"to", to, &c.To}} {
				if t.text == "" {
					continue
				}
				if *t.to, err = time.Parse(time.RFC3339, t.text); err != nil {
					return usagef("write --"+t.flag+" 2026-11-20T18:00:00Z", "%s %q is not a time", t.flag, t.text)
				}
			}
			if c.ExternalLabels, err = keyValues("external-label", external); err != nil {
				return err
			}
			if err := c.Check(); err != nil {
				return usagef("run 'cirrusbench capture import --help' for an example", "%v", err)
			}
			e.drains.Store(true)
			return runImport(cmd.Context(), e, c, args[1], output)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Org, "org", "default", "the org of the captures")
	f.StringVar(&c.Cluster, "cluster", "default", "the cluster of the captures")
	f.StringVar(&c.ClusterLabel, "cluster-label", "", "take the cluster from this label where a series has it")
	f.StringArrayVar(&external, "external-label", nil, "add a label to series without it, as NAME=VALUE (repeatable)")
	f.StringVar(&from, "from", "", "leave out samples before this time (default: none)")
	f.StringVar(&to, "to", "", "leave out samples from this time on (default: none)")
	f.StringArrayVar(&c.Match, "match", nil, "only series whose label matches: NAME=VALUE, !=, =~ or !~ (repeatable: all must)")
	f.IntVar(&protocol, "protocol", 1, "remote write 1 or 2")
	f.IntVar(&c.Batch, "batch", promtsdb.DefaultBatch, "samples in a request, as Prometheus' max_samples_per_send")
	f.DurationVar(&c.Span, "span", promtsdb.DefaultSpan, "time that a request covers, as Prometheus' batch_send_deadline")
	f.IntVar(&c.Window, "window", promtsdb.DefaultWindow, "samples in memory at most, some 70 bytes each")
	addOutputFlag(cmd, &output, "table", "json")
	return cmd
}

func runImport(ctx context.Context, e *env, c promtsdb.Config, location, output string) error {
	s, err := openStore(ctx, location)
	if err != nil {
		return err
	}
	var made, present, size int64
	put := putRequest(s, &made, &present, &size)
	begin, said := time.Now(), time.Now()
	res, err := promtsdb.Import(ctx, c, func(ctx context.Context, r workload.Request) error {
		if time.Since(said) >= 10*time.Second {
			said = time.Now()
			e.sayf("%s so far, up to %s", plural(made+present, "capture"), r.Key.Time.Format(time.RFC3339))
		}
		return put(ctx, r)
	})
	if err != nil && ctx.Err() != nil {
		return incomplete(location, made+present, 0)
	}
	if err != nil {
		return fmt.Errorf("importing captures: %w", err)
	}
	e.sayf("made %s of %s at %s in %.1f s; %s there already", plural(made, "capture"), plural(size, "byte"), location, time.Since(begin).Seconds(), were(present))
	if output == "json" {
		return importJSON(e.out, c.Dir, location, &res)
	}
	return importText(e.out, &res)
}

func importText(w io.Writer, r *promtsdb.Result) error {
	_, err := fmt.Fprintf(w, "%s of %s series: %s, %s, %s\n", plural(r.Requests, "request"), count(r.Series),
		plural(r.Samples, "sample"), plural(r.Histograms, "histogram"), plural(r.Exemplars, "exemplar"))
	if err == nil && r.Requests > 0 {
		_, err = fmt.Fprintf(w, "from %s to %s; %s of them from %s, %s from %s of the log\n",
			r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339), count(r.FromBlocks), plural(r.Blocks, "block"), count(r.FromLog), plural(r.Segments, "segment"))
	}
	for _, l := range r.LeftOut {
		if err == nil {
			_, err = fmt.Fprintf(w, "left out: %s\n", l)
		}
	}
	return err
}

func importJSON(w io.Writer, source, location string, r *promtsdb.Result) error {
	type leftOut struct {
		Reason string `json:"reason"`
		Count  *int64 `json:"count"` // null: not counted
		Unit   string `json:"unit,omitempty"`
	}
	out := struct {
		Schema     string    `json:"schema"`
		Tool       any       `json:"tool"`
		Source     string    `json:"source"`
		Location   string    `json:"location"`
		Requests   int64     `json:"requests"`
		Series     int64     `json:"series"`
		Samples    int64     `json:"samples"`
		Histograms int64     `json:"histograms"`
		Exemplars  int64     `json:"exemplars"`
		FromBlocks int64     `json:"from_blocks"`
		FromLog    int64     `json:"from_log"`
		Blocks     int       `json:"blocks"`
		Segments   int       `json:"segments"`
		First      time.Time `json:"first,omitzero"`
		Last       time.Time `json:"last,omitzero"`
		LeftOut    []leftOut `json:"left_out"`
	}{
		"cirrusbench/import/v1", tool(), source, location, r.Requests, r.Series, r.Samples, r.Histograms, r.Exemplars,
		r.FromBlocks, r.FromLog, r.Blocks, r.Segments, r.First, r.Last,
		[]leftOut{},
	}
	for _, l := range r.LeftOut {
		x := leftOut{Reason: l.Reason, Unit: l.Unit}
		if l.Count > 0 {
			x.Count = &l.Count
		}
		out.LeftOut = append(out.LeftOut, x)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}
