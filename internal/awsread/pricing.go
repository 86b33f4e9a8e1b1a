package awsread

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/pricing"
	"github.com/aws/aws-sdk-go-v2/service/pricing/types"
)

// pricingRegion is where the price list is asked for, whatever the region of the
// prices: its service exists in three regions only.
const pricingRegion = "us-east-1"

// PricingConfig says how the price list is asked for.
type PricingConfig struct {
	// AWS has credentials and endpoint; its region does not count.
	AWS aws.Config
	// Progress is told after every price how many of how many were asked for; nil means nobody is told.
	Progress func(done, all int)
	// Backoff is the longest wait between two attempts of a request; 0 means 10 s.
	Backoff time.Duration
}

// Fetch asks AWS's Price List service for every price of the book that the book
// knows how to find, one request each and more for answers of several pages.
func (l *PriceList) Fetch(ctx context.Context, cfg PricingConfig) error {
	client := pricing.NewFromConfig(withTimeout(cfg.AWS), func(o *pricing.Options) {
		o.Region = pricingRegion
		o.Retryer = newRetryer(cfg.Backoff)
	})
	var queries []*pricing.GetProductsInput
	for _, p := range l.book.List("") {
		if p.Selector["serviceCode"] == "" {
			continue
		}
		for usage := range strings.SplitSeq(p.Selector["usagetype"], " / ") {
			equal := func(field, value string) types.Filter {
				return types.Filter{Field: &field, Value: &value, Type: types.FilterTypeTermMatch}
			}
			service := p.Selector["serviceCode"]
			queries = append(queries, &pricing.GetProductsInput{
				ServiceCode: &service, FormatVersion: aws.String("aws_v1"), MaxResults: aws.Int32(100),
				Filters: []types.Filter{equal("regionCode", p.Region), equal("usagetype", usage)},
			})
			// Asked for and not there is missing, not out of reach.
			l.seen[service+" "+p.Region] = true
		}
	}
	for i, in := range queries {
		what := "asking for the price of " + *in.ServiceCode + " " + *in.Filters[1].Value
		for pages := pricing.NewGetProductsPaginator(client, in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return explainPricing(ctx, what, err)
			}
			for _, document := range page.PriceList {
				if err := l.add([]byte(document), "GetProducts"); err != nil {
					return &Error{Problem: what, Err: err}
				}
			}
		}
		if cfg.Progress != nil {
			cfg.Progress(i+1, len(queries))
		}
	}
	return nil
}

func explainPricing(ctx context.Context, what string, err error) error {
	err = explain(ctx, what, err)
	if e, ok := err.(*Error); ok && strings.Contains(e.Err.Error(), "AccessDenied") { //nolint:errorlint // explain returns it bare
		e.hint = "the credentials need pricing:GetProducts; bulk files need none: --from FILE"
	}
	return err
}
