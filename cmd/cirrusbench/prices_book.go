package main

import (
	"os"

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
