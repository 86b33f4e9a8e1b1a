package cost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Updated returns b with new tiers for some prices, as read from a price list at
// a date (YYYY-MM-DD). Every price must be in b already and names its source,
// which sources explains. The result went through the same checks as a book that
// is read from a file.
func (b *PriceBook) Updated(asOf string, prices []Price, sources map[string]BookSource) (*PriceBook, error) {
	over := &PriceBook{asOf: asOf, sources: sources, prices: prices}
	var problems []error
	for _, p := range prices {
		if _, ok := b.Get(p.ID); !ok {
			problems = append(problems, fmt.Errorf("%s is not in the book", p.ID))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	data, err := b.With(over).MarshalJSON()
	if err != nil {
		return nil, err
	}
	return ParsePriceBook(bytes.NewReader(data), "the updated book")
}

// MarshalJSON writes the book as a file that ParsePriceBook reads.
func (b *PriceBook) MarshalJSON() ([]byte, error) {
	f := bookFile{Schema: bookSchema, Generated: b.asOf, Currency: "USD", Rules: b.rules, Sources: b.sources, Missing: b.missing}
	for _, p := range b.prices {
		raw := bookPrice{
			ID: p.ID, Service: p.Service, Dimension: p.Dimension, Region: p.Region, Unit: p.Unit, Currency: "USD",
			AsOf: p.AsOf, Effective: p.Effective, Source: p.Source, Confidence: p.Confidence,
			Free: p.Free, Rounding: p.Rounding, Scope: p.Scope, Minimum: p.Minimum, Note: p.Note, Selector: maps.Clone(p.Selector),
		}
		if p.UsageType != "" && raw.Selector["usagetype"] == "" {
			raw.Selector = map[string]string{"usagetype": p.UsageType}
			maps.Copy(raw.Selector, p.Selector)
		}
		for _, t := range p.Tiers {
			tier := bookTier{From: t.From.String(), Price: t.Price.Decimal().String(), Confidence: t.Confidence}
			if t.To != nil {
				to := t.To.String()
				tier.To = &to
			}
			raw.Tiers = append(raw.Tiers, tier)
		}
		f.Prices = append(f.Prices, raw)
	}
	data, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return nil, fmt.Errorf("writing price book: %w", err)
	}
	return data, nil
}

// Age returns how many days lie between the date of the book and now, and
// whether that is more than 90, after which prices should be checked. Both are
// zero when the date cannot be read.
func (b *PriceBook) Age(now time.Time) (days int, stale bool) {
	asOf, err := time.Parse(time.DateOnly, b.asOf)
	if err != nil {
		return 0, false
	}
	days = int(now.Sub(asOf).Hours() / 24)
	return days, days > staleAfterDays
}

// Services returns the services that the book has prices of, in order.
func (b *PriceBook) Services() []string {
	names := make(map[string]bool)
	for _, p := range b.prices {
		names[p.Service] = true
	}
	return slices.Sorted(maps.Keys(names))
}
