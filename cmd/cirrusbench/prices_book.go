package main

import (
	"os"
	"slices"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// priceBook returns the built-in price book, with the prices of a file over it when one is given.
func priceBook(overrides string) (*cost.PriceBook, error) {
	book, err := cost.EmbeddedBook()
	if err != nil || overrides == "" {
		return book, err
	}
	f, err := os.Open(overrides)
	if err != nil {
		return nil, withHint(err, "check the name; 'cirrusbench prices list' shows the built-in prices")
	}
	defer func() { _ = f.Close() }()
	return cost.ParseOverrides(f, overrides, book)
}

// lambdaRegions are the regions of which the book has Lambda's prices, without which nothing of a function can be priced.
func lambdaRegions(book *cost.PriceBook) []string {
	var regions []string
	for _, p := range book.List("lambda") {
		regions = append(regions, p.Region)
	}
	slices.Sort(regions)
	return slices.Compact(regions)
}
