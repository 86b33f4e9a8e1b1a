package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// priceFlags say at which prices what a target billed becomes money.
type priceFlags struct {
	arch, region string
}

func (o *priceFlags) addPrices(f *pflag.FlagSet) {
	f.StringVar(&o.arch, "arch", "arm64", "processor of a Lambda function, for its price: arm64, x86_64")
	f.StringVar(&o.region, "region", "us-east-1", "AWS region of the prices")
}

func (o *priceFlags) completePrices(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("arch", cobra.FixedCompletions([]string{"arm64", "x86_64"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
}

// pricer prices what targets billed. It keeps the sum of all that one of them did.
type pricer struct {
	book   *cost.PriceBook
	arch   cost.Arch
	region string
}

// pricer checks the flags; a region without prices is an error before anything is measured.
func (o *priceFlags) pricer() (*pricer, error) {
	arch, err := cost.ParseArch(o.arch)
	if err != nil {
		return nil, usagef("use arm64 or x86_64", "%v", err)
	}
	book, err := cost.EmbeddedBook()
	if err != nil {
		return nil, err
	}
	p := &pricer{book, arch, o.region}
	if _, err := p.perMillion(cost.Invoked{Count: 1, Memory: 128}); err != nil {
		return nil, usagef("'cirrusbench prices list --service lambda' says which regions there are", "%v", err)
	}
	return p, nil
}

func (p *pricer) perMillion(v cost.Invoked) (cost.USD, error) {
	return v.PerMillion(p.book, p.arch, p.region)
}

// addBilled takes over what the target said of its own durations and bill, if it did, and returns what can be priced.
func (p *pricer) addBilled(s *stats.GateSample, run *stats.Run) cost.Invoked {
	var billed lambdalog.Summary
	if len(run.Billed) == 0 || json.Unmarshal(run.Billed, &billed) != nil {
		return cost.Invoked{}
	}
	s.Reports = billed.Billable
	for _, x := range []struct {
		name string
		v    lambdalog.Millis
	}{{"billed_mean_ms", billed.BilledMS.Mean}, {"duration_p99_ms", billed.DurationMS.P99}} {
		if x.v.Known {
			s.Extra[x.name] = float64(x.v.Value) / float64(time.Millisecond)
		}
	}
	v, ok := cost.InvokedOf(billed)
	if !ok {
		return cost.Invoked{}
	}
	if usd, err := p.perMillion(v); err == nil { // the region was checked
		s.Extra[stats.CostMetric] = usd.Decimal().Float64() // for a ratio only; what is printed is the decimal
		s.CostPerMillion = usd.Fixed(costPlaces)
	}
	return v
}

// costPlaces are the decimals of dollars per million requests: a request is 20 cents per million.
const costPlaces = 6
