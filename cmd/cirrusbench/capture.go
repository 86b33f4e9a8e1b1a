package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/fixtures"
	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/store"
	"github.com/cirrusbench/cirrusbench/internal/workload"
)

func newCaptureCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capture",
		Short: "Make and inspect captured traffic",
		Long: `Make and inspect captured traffic: what 'cirrusbench serve' stores and 'cirrusbench replay' replays.

` + exitCodes(exitOK, exitFailed, exitUsage, exitInterrupted),
		Example: "  cirrusbench capture synth ./corpus --clusters 3 --series 500 --scrapes 4\n  cirrusbench capture inspect ./corpus",
		Args:    argsRange(0, 0, ""),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCaptureSynthCommand(e), newCaptureImportCommand(e), newCaptureInspectCommand(e))
	return cmd
}

func newCaptureSynthCommand(e *env) *cobra.Command {
	c := workload.SynthConfig{}
	var protocol int
	var start string
	cmd := &cobra.Command{
		Use:   "synth LOCATION",
		Short: "Make synthetic captures",
		Long: `Make synthetic captures at LOCATION (./dir or file:///abs/dir): the requests of some orgs' clusters, with labels
as Kubernetes gives them, counters that grow, and native histograms if asked for. The same flags make the
same bytes, and making them again changes nothing.

Memory does not grow with the size of what is made.

` + exitCodes(exitOK, exitFailed, exitUsage, exitInterrupted),
		Example: "  cirrusbench capture synth ./corpus --orgs 2 --clusters 3 --series 500 --scrapes 4 --churn 0.05 --histograms 0.02",
		Args:    argsRange(1, 1, "LOCATION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Version = remotewrite.Version(min(max(protocol, 0), 255))
			at, err := time.Parse(time.RFC3339, start)
			if err != nil {
				return usagef("write --start 2026-11-20T18:00:00Z", "--start %q is not a time", start)
			}
			c.Start = at
			if err := c.Check(); err != nil {
				return usagef("run 'cirrusbench capture synth --help' for an example", "%v", err)
			}
			e.drains.Store(true)
			return runSynth(cmd.Context(), e, c, args[0])
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Orgs, "orgs", 1, "how many orgs")
	f.IntVar(&c.Clusters, "clusters", 3, "clusters in each org")
	f.IntVar(&c.Series, "series", 1000, "series in each cluster")
	f.IntVar(&c.Batch, "batch", 2000, "series in a request, as Prometheus' max_samples_per_send (0: all of a cluster)")
	f.IntVar(&c.Scrapes, "scrapes", 4, "samples of each series")
	f.DurationVar(&c.Interval, "interval", 15*time.Second, "between two samples of a series")
	f.Float64Var(&c.Churn, "churn", 0, "share of the series that are new ones at each scrape")
	f.Float64Var(&c.Histogram, "histograms", 0, "share of the series that are native histograms")
	f.IntVar(&protocol, "protocol", 1, "remote write 1 or 2")
	f.StringVar(&start, "start", "2026-11-20T18:00:00Z", "time of the first samples")
	f.Uint64Var(&c.Seed, "seed", 1, "of names and values")
	return cmd
}

func runSynth(ctx context.Context, e *env, c workload.SynthConfig, location string) error {
	s, err := store.Open(ctx, location)
	if err != nil {
		return err
	}
	var made, present, size int64
	err = workload.Synth(ctx, c, putRequest(s, &made, &present, &size))
	if err != nil && ctx.Err() != nil {
		return incomplete(location, made+present, c.Requests())
	}
	if err != nil {
		return fmt.Errorf("making captures: %w", err)
	}
	e.sayf("made %s of %s at %s; %s there already", plural(made, "capture"), plural(size, "byte"), location, were(present))
	return nil
}

// incomplete says what an interrupt has left behind; of 0 it is not known how many there would have been.
func incomplete(location string, written, of int64) error {
	total := ""
	if of > 0 {
		total = " of " + count(of)
	}
	return withHint(&statusError{code: exitInterrupted, msg: fmt.Sprintf("interrupted: %s%s captures written at %s; the corpus is incomplete", count(written), total, location)},
		"the same command makes the rest, and leaves what is there as it is")
}

// putRequest stores a request and counts it.
func putRequest(s store.Store, made, present, size *int64) func(context.Context, workload.Request) error {
	return func(ctx context.Context, r workload.Request) error {
		created, err := s.Put(ctx, r.Key.String(), r.Body)
		if err != nil {
			return err
		}
		if created {
			*made++
			*size += int64(len(r.Body))
		} else {
			*present++
		}
		return nil
	}
}

func newCaptureInspectCommand(e *env) *cobra.Command {
	var org, cluster, output, out string
	maxDecoded := byteSize(64 << 20)
	cmd := &cobra.Command{
		Use:   "inspect [CORPUS]",
		Short: "Verify captures and say what they hold",
		Long: `Read every capture of a corpus, verify it as replay does, and say what each source sent. Without CORPUS the
captures bundled in this program are inspected.

` + exitCodes(exitOK, exitFailed, exitUsage, exitInterrupted),
		Example: "  cirrusbench capture inspect\n  cirrusbench capture inspect ./data --org default -o json",
		Args:    argsRange(0, 1, "CORPUS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opt := capture.Options{Org: org, Cluster: cluster, Location: "bundled", MemoryBytes: -1, Limits: remotewrite.Limits{MaxDecodedBytes: int(maxDecoded)}}
			s := store.Store(store.FromFS(fixtures.Corpus()))
			if len(args) > 0 {
				opened, err := openExisting(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				s, opt.Location = opened, args[0]
			}
			c, err := capture.Load(cmd.Context(), s, opt)
			if err != nil {
				return err
			}
			return emit(e, out, func(w io.Writer) error { return printInspection(w, output, c) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&org, "org", "", "only what this org sent")
	f.StringVar(&cluster, "cluster", "", "only what clusters of this name sent")
	f.Var(&maxDecoded, "max-decoded", "largest decoded body")
	addResultFlags(cmd, &output, &out, "table", "json")
	return cmd
}

// inspectedGroup is a source, or all of them, in JSON.
type inspectedGroup struct {
	Org        string    `json:"org,omitempty"`
	Cluster    string    `json:"cluster,omitempty"`
	Requests   int64     `json:"requests"`
	Version1   int64     `json:"requests_v1"`
	Version2   int64     `json:"requests_v2"`
	Bytes      int64     `json:"bytes"`
	MinBytes   int64     `json:"body_min_bytes"`
	P50Bytes   int64     `json:"body_p50_bytes"`
	MaxBytes   int64     `json:"body_max_bytes"`
	Series     int64     `json:"series"`
	Samples    int64     `json:"samples"`
	Histograms int64     `json:"histograms"`
	Exemplars  int64     `json:"exemplars"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
	PerS       float64   `json:"requests_per_s"`
}

func inspected(g *workload.Group) inspectedGroup {
	return inspectedGroup{
		Org: g.Org, Cluster: g.Cluster, Requests: g.Requests, Version1: g.Version1, Version2: g.Requests - g.Version1, Bytes: g.Bytes,
		MinBytes: g.MinBytes, P50Bytes: g.P50Bytes, MaxBytes: g.MaxBytes, Series: g.Series, Samples: g.Samples, Histograms: g.Histograms,
		Exemplars: g.Exemplars, First: g.First, Last: g.Last, PerS: g.RequestsPerS(),
	}
}

func printInspection(w io.Writer, format string, c *capture.Corpus) error {
	s := workload.Inspect(c)
	if format == "json" {
		doc := struct {
			Schema   string           `json:"schema"`
			Tool     any              `json:"tool"`
			Location string           `json:"location"`
			SHA256   string           `json:"sha256"`
			Foreign  int              `json:"foreign_objects"`
			Total    inspectedGroup   `json:"total"`
			Sources  []inspectedGroup `json:"sources"`
		}{"cirrusbench/corpus/v1", tool(), c.Location, c.SHA256(), c.Foreign, inspected(&s.Total), nil}
		for i := range s.Sources {
			doc.Sources = append(doc.Sources, inspected(&s.Sources[i]))
		}
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(doc)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	var errs []error
	row := func(cells ...any) {
		for _, c := range cells {
			_, err := fmt.Fprintf(t, "%v\t", c)
			errs = append(errs, err)
		}
		_, err := fmt.Fprintln(t)
		errs = append(errs, err)
	}
	row("source", "requests", "1.0", "2.0", "bytes", "p50 body", "max body", "series", "samples", "histograms", "exemplars", "first", "last", "per s")
	line := func(name string, g *workload.Group) {
		row(name, count(g.Requests), count(g.Version1), count(g.Requests-g.Version1), count(g.Bytes), count(g.P50Bytes), count(g.MaxBytes),
			count(g.Series), count(g.Samples), count(g.Histograms), count(g.Exemplars),
			g.First.Format("2006-01-02 15:04:05"), g.Last.Format("2006-01-02 15:04:05"), strconv.FormatFloat(g.RequestsPerS(), 'f', 3, 64))
	}
	for i := range s.Sources {
		g := &s.Sources[i]
		line(g.Org+"/"+g.Cluster, g)
	}
	line("all", &s.Total)
	errs = append(errs, t.Flush())
	_, err := fmt.Fprintf(w, "Corpus %s, sha256 %s; every body was read and is valid.\n", c.Location, c.SHA256()[:12])
	return errors.Join(append(errs, err)...)
}
