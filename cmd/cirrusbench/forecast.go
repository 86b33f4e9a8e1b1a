package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/report"
)

type forecastOptions struct {
	scenario, method                      string
	list                                  bool
	memory, baselineMemory                int
	arch, baselineArch                    string
	region, month, start, growth          string
	months                                int
	requestsPerHour, clusters, perCluster string
	concurrency, meanMS, baselineMS       string
	baseline, monthlyCost                 string
	explain, tolerance, prices            string
	quota                                 int
	freeTier, details                     bool
	seed                                  uint64
	output, out                           string
	source                                recordSource
	changed                               func(flag string) bool
	now                                   func() time.Time
}

func newForecastCommand(e *env) *cobra.Command {
	o := forecastOptions{now: time.Now}
	cmd := &cobra.Command{
		Use:   "forecast [FILE…]",
		Short: "Turn billed durations into money and concurrency over 24 months",
		Long: `Forecast what a Lambda function costs and how much of the concurrency quota it takes.

FILE holds Lambda's own records, in any form that 'cirrusbench invocations' reads (cloudwatch:GROUP too), or a run.json of 'cirrusbench
replay' whose target said what it billed; --mean-ms states a mean billed duration instead. How many requests there are is --requests-per-hour, or --clusters with
--per-cluster-per-hour, or a measured --concurrency with the duration it was measured at. A second
architecture to compare with is --baseline FILE or --baseline-ms. --scenario reads all of this from a YAML
file, with API Gateway, S3, logs, queues, streams and servers beside the function, or takes a bundled scenario
by its name; --list-scenarios lists them. With none of them the first bundled scenario is priced: the first
paper's Python function against its Go rewrite and against batches from a collector at the client, from
synthetic records made to the paper's published averages.

Every line has its price, tier, usage type and date, from a price book inside this program. Intervals are 95 %
and come from resampling the records; what the forecast leaves out is listed.

--details adds what moves the total, break-evens, throttling, provisioned concurrency and memory headroom.
-o csv has a line for each month, -o html is one page with charts and all details.

--explain-bill 3633 forecasts nothing but lists what combinations of memory, processor and price tier could
have made a Lambda bill of 30 days (or --month).

--method duration-ratio scales a known --monthly-cost by the ratio of two mean durations instead, as the
first paper did, and says what that leaves out.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  cirrusbench forecast
  cirrusbench forecast --details
  cirrusbench forecast --list-scenarios
  cirrusbench forecast --scenario log-shipping --details
  cirrusbench forecast -o html --out forecast.html
  cirrusbench forecast --mean-ms 70 --baseline-ms 953 --memory 128 --clusters 100
  cirrusbench forecast --explain-bill 3633 --concurrency 354 --mean-ms 953
  cirrusbench forecast --method duration-ratio --monthly-cost 3633 --baseline-ms 953 --mean-ms 70`,
		Args: argsRange(0, -1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.changed = cmd.Flags().Changed
			return runForecast(e, &o, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.scenario, "scenario", "", "YAML file with traffic and architectures, or the name of a bundled one")
	f.BoolVar(&o.list, "list-scenarios", false, "list the bundled scenarios")
	f.StringVar(&o.method, "method", "priced", "priced: from the price book; duration-ratio: scale --monthly-cost")
	f.IntVar(&o.memory, "memory", 0, "memory of the function in MB (default: as the records say)")
	f.StringVar(&o.arch, "arch", "arm64", "processor: arm64, x86_64")
	f.IntVar(&o.baselineMemory, "baseline-memory", 0, "memory of the baseline in MB (default: as its records say, else --memory)")
	f.StringVar(&o.baselineArch, "baseline-arch", "", "processor of the baseline (default: --arch)")
	f.StringVar(&o.region, "region", "us-east-1", "AWS region of the prices")
	f.StringVar(&o.requestsPerHour, "requests-per-hour", "", "requests an hour, in the first month")
	f.StringVar(&o.clusters, "clusters", "", "clusters that send")
	f.StringVar(&o.perCluster, "per-cluster-per-hour", "1500", "requests a cluster sends an hour")
	f.StringVar(&o.concurrency, "concurrency", "", "measured mean of concurrent executions, at --baseline-ms or else --mean-ms")
	f.StringVar(&o.meanMS, "mean-ms", "", "mean billed duration, instead of records")
	f.StringVar(&o.baselineMS, "baseline-ms", "", "mean billed duration of the baseline")
	f.StringVar(&o.baseline, "baseline", "", "records of the baseline; with --scenario: the name of its architecture")
	f.StringVar(&o.monthlyCost, "monthly-cost", "", "duration-ratio: the known bill of a month in dollars")
	f.IntVar(&o.months, "months", 24, "how many months")
	f.StringVar(&o.start, "start", "", "first month, as 2026-12 (default: next month)")
	f.StringVar(&o.month, "month", "calendar", "length of a month: calendar, 30d, 730h")
	f.StringVar(&o.growth, "growth", "0%", "growth of the traffic a month, as 2% or 0.02")
	f.BoolVar(&o.freeTier, "free-tier", false, "take Lambda's monthly free tier off, once over all functions")
	f.BoolVar(&o.details, "details", false, "also show sensitivities, break-evens, throttling, provisioned concurrency, headroom")
	f.StringVar(&o.explain, "explain-bill", "", "list what could have made this monthly bill in dollars")
	f.StringVar(&o.tolerance, "tolerance", "", "explain-bill: how far off is a fit, as 1% (default: half a dollar)")
	f.IntVar(&o.quota, "quota", cost.DefaultQuota, "concurrency quota of the account")
	f.StringVar(&o.prices, "prices", "", "file of prices, JSON book or YAML overrides, that win over the built-in ones")
	f.Uint64Var(&o.seed, "seed", 1, "of the resampling behind the intervals")
	o.source.addFlags(cmd)
	addResultFlags(cmd, &o.output, &o.out, "table", "json", "markdown", "csv", "html")
	for name, values := range map[string][]string{
		"method": {"priced", "duration-ratio"}, "arch": {"arm64", "x86_64"}, "baseline-arch": {"arm64", "x86_64"}, "month": {"calendar", "30d", "730h"},
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
	}
	return cmd
}

func runForecast(e *env, o *forecastOptions, files []string) error {
	if err := o.source.check(append([]string{o.baseline}, files...)); err != nil {
		return err
	}
	if o.list {
		return listScenarios(e, o, files)
	}
	book, err := priceBook(o.prices)
	if err != nil {
		return err
	}
	if o.changed("region") && !slices.Contains(book.Regions(), o.region) {
		return usagef("use one of "+strings.Join(lambdaRegions(book), ", ")+", or give prices for it with --prices FILE", "there is no price for region %q", o.region)
	}
	if o.explain != "" {
		return explainBill(e, o, files, book)
	}
	if o.changed("tolerance") {
		return usagef("add --explain-bill 3633", "--tolerance goes with --explain-bill only")
	}
	var result *cost.Result
	switch o.method {
	case "priced":
		s, err := o.buildScenario(e, files)
		if err != nil {
			return err
		}
		if s.Start == (cost.YearMonth{}) {
			s.Start = cost.MonthOf(o.now()).Add(1)
		}
		if result, err = cost.Forecast(s, book); err != nil {
			return asUsage(err)
		}
		if o.details || o.output == "html" {
			if err := cost.Analyse(s, book, result); err != nil {
				return err
			}
		}
	case "duration-ratio":
		if o.output == "html" || o.output == "csv" {
			return usagef("use -o table, -o markdown or -o json", "--method duration-ratio has no %s format", o.output)
		}
		if result, err = o.durationRatio(files, book); err != nil {
			return asUsage(err)
		}
	default:
		return usagef("use --method priced or --method duration-ratio", "unknown method %q", o.method)
	}
	result.Tool = lambdalog.Tool(tool())
	if o.clusters != "" && !o.changed("per-cluster-per-hour") {
		e.sayf("note: taking %s requests an hour from each cluster; --per-cluster-per-hour says otherwise", o.perCluster)
	}
	return emit(e, o.out, func(w io.Writer) error {
		switch o.output {
		case "json":
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			return enc.Encode(result)
		case "csv":
			return report.ForecastCSV(w, result)
		case "html":
			return report.ForecastHTML(w, result)
		}
		return report.Forecast(w, report.Format(o.output), result)
	})
}

// buildScenario makes the scenario: from a file, from flags and records, or the bundled one.
func (o *forecastOptions) buildScenario(e *env, files []string) (*cost.Scenario, error) {
	stated := o.meanMS != "" || o.baselineMS != "" || o.baseline != ""
	switch {
	case o.scenario != "" && (len(files) > 0 || o.meanMS != "" || o.baselineMS != ""):
		return nil, usagef("name the records in the scenario: billed: {from: FILE}", "--scenario says all; files, --mean-ms and --baseline-ms do not go with it")
	case o.scenario != "":
		return o.scenarioOf(e)
	case len(files) == 0 && !stated:
		return o.demoScenario(e)
	}
	s := &cost.Scenario{Region: o.region, Month: cost.MonthRule(o.month), Months: o.months, FreeTier: o.freeTier, Seed: o.seed, Quota: o.quota}
	if o.quota < 1 {
		return nil, usagef("give the account's concurrency quota, for instance --quota 1000", "--quota is %d", o.quota)
	}
	var p parser
	s.Start = p.start(o.start, o.now())
	s.Growth = p.ratio("growth", o.growth)
	s.Traffic = o.traffic(&p)
	arch := p.arch("arch", o.arch)
	baselineArch := arch
	if o.baselineArch != "" {
		baselineArch = p.arch("baseline-arch", o.baselineArch)
	}
	if p.err() != nil {
		return nil, p.err()
	}
	candidate := cost.Function{Arch: arch, Memory: lambdalog.MB(o.memory)}
	name := "candidate"
	switch {
	case len(files) > 0 && o.meanMS != "":
		return nil, usagef("leave one of them out", "both records and --mean-ms are given")
	case len(files) > 0:
		if err := readBilled(e, &o.source, files, &candidate); err != nil {
			return nil, err
		}
		name = baseName(files[0])
	case o.meanMS != "":
		candidate.Billed = cost.Billed{MeanMS: p.decimal("mean-ms", o.meanMS)}
	default:
		return nil, usagef("give a file of Lambda records, or --mean-ms", "there is a baseline but nothing to compare it with")
	}
	var baseline *cost.Function
	baselineName := "baseline"
	switch {
	case o.baseline != "" && o.baselineMS != "":
		return nil, usagef("leave one of them out", "both --baseline and --baseline-ms are given")
	case o.baseline != "":
		baseline, baselineName = &cost.Function{Arch: baselineArch, Memory: lambdalog.MB(o.baselineMemory)}, baseName(o.baseline)
		if err := readBilled(e, &o.source, []string{o.baseline}, baseline); err != nil {
			return nil, err
		}
	case o.baselineMS != "":
		memory := o.baselineMemory
		if memory == 0 {
			memory = o.memory
		}
		baseline = &cost.Function{Arch: baselineArch, Memory: lambdalog.MB(memory), Billed: cost.Billed{MeanMS: p.decimal("baseline-ms", o.baselineMS)}}
	}
	if p.err() != nil {
		return nil, p.err()
	}
	if baseline != nil {
		if baselineName == name {
			baselineName += " (baseline)"
		}
		s.Architectures = append(s.Architectures, cost.Architecture{Name: baselineName, Functions: []cost.Function{*baseline}})
	}
	s.Architectures = append(s.Architectures, cost.Architecture{Name: name, Functions: []cost.Function{candidate}})
	return s, nil
}

// traffic reads how many requests there are.
func (o *forecastOptions) traffic(p *parser) cost.Traffic {
	var t cost.Traffic
	if o.requestsPerHour != "" {
		t.RequestsPerHour = p.amount("requests-per-hour", o.requestsPerHour)
	}
	if o.clusters != "" {
		t.Clusters, t.PerClusterPerHour = p.amount("clusters", o.clusters), p.amount("per-cluster-per-hour", o.perCluster)
	}
	if o.concurrency != "" {
		t.Concurrency = p.amount("concurrency", o.concurrency)
		if at := orElse(o.baselineMS, o.meanMS); at != "" {
			t.MeanMS = p.decimal("mean-ms", at)
		}
	}
	return t
}

// override puts the flags that were given over what a scenario file says.
func (o *forecastOptions) override(s *cost.Scenario) error {
	var p parser
	for flag, set := range map[string]func(){
		"region":    func() { s.Region = o.region },
		"month":     func() { s.Month = cost.MonthRule(o.month) },
		"months":    func() { s.Months = o.months },
		"start":     func() { s.Start = p.start(o.start, o.now()) },
		"growth":    func() { s.Growth = p.ratio("growth", o.growth) },
		"free-tier": func() { s.FreeTier = o.freeTier },
		"baseline":  func() { s.Baseline = o.baseline },
		"seed":      func() { s.Seed = o.seed },
		"quota":     func() { s.Quota = o.quota },
	} {
		if o.changed(flag) {
			set()
		}
	}
	if s.Quota < 0 || o.changed("quota") && o.quota < 1 {
		return usagef("give the account's concurrency quota, for instance --quota 1000", "--quota is %d", o.quota)
	}
	for _, flag := range []string{"memory", "arch", "baseline-memory", "baseline-arch"} {
		if o.changed(flag) {
			return usagef("write it into the scenario", "--%s does not go with a scenario, which says it for each architecture", flag)
		}
	}
	if o.requestsPerHour != "" || o.clusters != "" || o.concurrency != "" {
		s.Traffic = o.traffic(&p)
	}
	return p.err()
}

func (o *forecastOptions) durationRatio(files []string, book *cost.PriceBook) (*cost.Result, error) {
	if len(files) > 0 || o.scenario != "" {
		return nil, usagef("leave the files out, or use --method priced", "duration-ratio takes two means and a bill, no records")
	}
	var p parser
	in := cost.RatioInput{Months: o.months, Start: p.start(o.start, o.now()), Book: book, Region: o.region}
	for _, f := range []struct {
		flag, value string
		set         func(d cost.Decimal)
	}{
		{"monthly-cost", o.monthlyCost, func(d cost.Decimal) { in.Monthly = cost.Dollars(d) }},
		{"baseline-ms", o.baselineMS, func(d cost.Decimal) { in.BaselineMS = d }},
		{"mean-ms", o.meanMS, func(d cost.Decimal) { in.CandidateMS = d }},
		{"concurrency", o.concurrency, func(d cost.Decimal) { in.Concurrency = &d }},
	} {
		switch {
		case f.value != "":
			f.set(*p.decimal(f.flag, f.value))
		case f.flag != "concurrency":
			p.bad(usagef("give --monthly-cost 3633 --baseline-ms 953 --mean-ms 70", "--%s is missing", f.flag))
		}
	}
	if p.err() != nil {
		return nil, p.err()
	}
	return cost.DurationRatio(in)
}

// asUsage makes a mistake in what was asked for one of usage. What is wrong in a file is reported with its
// place when it is read, so that what is left is in the flags, except what says itself that it is not.
func asUsage(err error) error {
	asked, whole := askedFor(err)
	if !whole || len(asked) == 0 {
		return err
	}
	return usagef(asked[0].Hint(), "%v", err)
}

// askedFor returns the mistakes in what was asked for that err is made of; false when it is not made of them alone.
func askedFor(err error) ([]*cost.UserError, bool) {
	if joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		var all []*cost.UserError
		for _, err := range joined.Unwrap() {
			asked, whole := askedFor(err)
			if !whole {
				return nil, false
			}
			all = append(all, asked...)
		}
		return all, true
	}
	e, ok := errors.AsType[*cost.UserError](err)
	if !ok || e.OfInput() {
		return nil, false
	}
	return []*cost.UserError{e}, true
}

var errNoBilled = errors.New("the records hold no billed invocation")

// readBilled reads what a function is billed: a run, when the only file is one, or Lambda's records.
func readBilled(e *env, source *recordSource, files []string, f *cost.Function) error {
	if len(files) == 1 && isRunFile(files[0]) {
		r, label, closeInput, err := openInput(e, files[0])
		if err != nil {
			return err
		}
		defer closeInput()
		billed, memory, err := cost.BilledOfRun(r, label)
		if err != nil {
			return err
		}
		f.Billed = billed
		if f.Memory == 0 {
			f.Memory = memory
		}
		return nil
	}
	usage, err := readUsage(e, source, files)
	if err != nil {
		return err
	}
	f.Billed = cost.Billed{Usage: usage}
	return nil
}

// isRunFile looks at the first bytes of a regular file. What cannot be opened is left to the reader's error.
func isRunFile(name string) bool {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return false // the first bytes of a pipe can be read only once
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 4<<10)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	return cost.IsRun(head[:n])
}

// readUsage reads Lambda records; - is standard input and cloudwatch:GROUP a log group.
func readUsage(e *env, source *recordSource, files []string) (*cost.Usage, error) {
	usage := new(cost.Usage)
	if err := source.read(e, files, usage); err != nil {
		return nil, err
	}
	return usage, nil
}

// baseName names an architecture after the file of its records.
func baseName(file string) string {
	if file == "-" {
		return "stdin"
	}
	file = strings.TrimPrefix(file, cloudwatchPrefix)
	return strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// parser collects what is wrong with the values of flags.
type parser struct{ errs []error }

func (p *parser) bad(err error) { p.errs = append(p.errs, err) }
func (p *parser) err() error    { return errors.Join(p.errs...) }

// decimal never returns nil.
func (p *parser) decimal(flag, s string) *cost.Decimal {
	d, err := cost.ParseDecimal(s)
	if err != nil {
		p.bad(usagef("write a number, as --"+flag+" 70", "--%s: %v", flag, err))
	}
	return &d
}

// amount reads a number that is not negative.
func (p *parser) amount(flag, s string) *cost.Decimal {
	d := p.decimal(flag, s)
	if d.Sign() < 0 {
		p.bad(usagef("write --"+flag+" "+strings.TrimPrefix(s, "-"), "--%s must be 0 or more, not %s", flag, s))
	}
	return d
}

func (p *parser) ratio(flag, s string) cost.Decimal {
	d, err := cost.ParseRatio(s)
	if err != nil {
		p.bad(usagef("write --"+flag+" "+percentOf(s), "--%s: %v", flag, err))
	}
	return d
}

// percentOf is the share that was meant by a bare number, or an example of one.
func percentOf(s string) string {
	if s != "" && leadingNumber.FindString(s) == s {
		return s + "%"
	}
	return "2%"
}

func (p *parser) arch(flag, s string) cost.Arch {
	a, err := cost.ParseArch(s)
	if err != nil {
		p.bad(usagef("use arm64 or x86_64", "--%s: %v", flag, err))
	}
	return a
}

// start parses --start; an empty one is the month after now.
func (p *parser) start(s string, now time.Time) cost.YearMonth {
	if s == "" {
		return cost.MonthOf(now).Add(1)
	}
	m, err := cost.ParseYearMonth(s)
	if err != nil {
		p.bad(usagef("write --start 2026-12", "--start: %v", err))
	}
	return m
}
