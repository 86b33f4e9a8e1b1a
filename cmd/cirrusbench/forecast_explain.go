package main

import (
	"encoding/json"
	"io"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/report"
)

// explainSchema is the schema of --explain-bill -o json.
const explainSchema = "cirrusbench/explain-bill/v1"

// explanation is the JSON form of --explain-bill.
type explanation struct {
	Schema          string         `json:"schema"`
	Tool            lambdalog.Tool `json:"tool"`
	Bill            cost.USD       `json:"bill_usd"`
	RequestsPerHour cost.Decimal   `json:"requests_per_hour"`
	MeanBilledMS    cost.Decimal   `json:"mean_billed_ms"`
	Region          string         `json:"region"`
	Month           cost.MonthRule `json:"month"`
	Start           cost.YearMonth `json:"start"`
	PriceBook       cost.BookRef   `json:"price_book"`
	Fits            []cost.BillFit `json:"fits"`
}

// explainBill lists what could have made a bill. Without traffic and a duration it
// takes those of the bundled scenario's baseline.
func explainBill(e *env, o *forecastOptions, files []string, book *cost.PriceBook) error {
	var p parser
	in := cost.BillQuery{
		Monthly: cost.Dollars(*p.decimal("explain-bill", o.explain)), Region: o.region,
		Month: cost.Month30Days, Start: p.start(o.start, o.now()),
	}
	if o.changed("month") {
		in.Month = cost.MonthRule(o.month)
		if _, err := cost.ParseMonthRule(o.month); err != nil {
			p.bad(usagef("use calendar, 30d or 730h", "--month: %v", err))
		}
	}
	if o.tolerance != "" {
		in.Tolerance = p.ratio("tolerance", o.tolerance)
	}
	t := o.traffic(&p)
	if p.err() != nil {
		return p.err()
	}
	if o.output != "table" && o.output != "markdown" && o.output != "json" {
		return usagef("use -o table, -o markdown or -o json", "--explain-bill has no %s format", o.output)
	}
	if err := o.billInput(e, files, t, &in); err != nil {
		return err
	}
	fits, err := cost.ExplainBill(in, book)
	if err != nil {
		return asUsage(err)
	}
	return emit(e, o.out, func(w io.Writer) error {
		if o.output != "json" {
			return report.ExplainBill(w, report.Format(o.output), in, fits)
		}
		if fits == nil {
			fits = []cost.BillFit{}
		}
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(explanation{
			Schema: explainSchema, Tool: lambdalog.Tool(tool()), Bill: in.Monthly, RequestsPerHour: in.RequestsPerHour.Round(3),
			MeanBilledMS: in.MeanMS.Round(6), Region: in.Region, Month: in.Month, Start: in.Start,
			PriceBook: cost.BookRef{AsOf: book.AsOf(), SHA256: book.SHA256()}, Fits: fits,
		})
	})
}

// billInput finds the traffic and the mean duration behind a bill.
func (o *forecastOptions) billInput(e *env, files []string, t cost.Traffic, in *cost.BillQuery) error {
	var p parser
	stated := orElse(o.baselineMS, o.meanMS)
	none := t == cost.Traffic{}
	switch {
	case o.scenario != "" || o.baseline != "":
		return usagef("give a file of records, or --mean-ms", "--explain-bill takes neither --scenario nor --baseline")
	case len(files) > 0 && stated != "":
		return usagef("leave one of them out", "both records and a mean are given")
	case len(files) > 0:
		usage, err := readUsage(e, &o.source, files)
		if err != nil {
			return err
		}
		if usage.Invocations() == 0 {
			return withHint(errNoBilled, "'cirrusbench invocations FILE' shows what it holds")
		}
		in.MeanMS = usage.BilledMS().Quo(cost.Int(usage.Invocations()))
	case stated != "":
		in.MeanMS = *p.decimal("mean-ms", stated)
	case none:
		s, err := o.demoScenario(e)
		if err != nil {
			return err
		}
		usage := s.Architectures[0].Functions[0].Billed.Usage
		in.MeanMS = usage.BilledMS().Quo(cost.Int(usage.Invocations()))
		t = s.Traffic
	default:
		return usagef("give a file of records, or --mean-ms", "the mean billed duration behind the bill is missing")
	}
	if t.Concurrency != nil && t.MeanMS == nil {
		t.MeanMS = &in.MeanMS
	}
	if p.err() != nil {
		return p.err()
	}
	var err error
	in.RequestsPerHour, err = t.PerHour()
	return asUsage(err)
}
