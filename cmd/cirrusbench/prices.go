package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/awsread"
	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/durable"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/report"
)

const pricesSchema = "cirrusbench/prices/v1"

// builtIn names the price book inside the program where a file could be named.
const builtIn = "built-in"

func newPricesCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prices",
		Short: "The price book: list, show, diff, refresh",
		Long: `Look at the AWS prices inside this program, compare price books, and make a newer one from AWS's price list.

A price that is not in the book is an error of whatever needs it, never 0 and never another region's price.
'cirrusbench forecast --prices FILE' takes your own: a price book, or YAML with single prices
(docs/costs.md).

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  cirrusbench prices list --service lambda --region us-east-1`,
		Args:    argsRange(0, 0, ""),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPricesListCommand(e), newPricesShowCommand(e), newPricesDiffCommand(e), newPricesRefreshCommand(e))
	return cmd
}

func newPricesListCommand(e *env) *cobra.Command {
	var service, region, prices, output, out string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the prices of the book",
		Long: `List the prices of the book with tiers, date and confidence, and what the book lacks.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  cirrusbench prices list --service lambda --region us-east-1`,
		Args:    argsRange(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			book, err := priceBook(prices)
			if err != nil {
				return err
			}
			if service != "" && !slices.Contains(book.Services(), service) {
				return usagef("services are "+strings.Join(book.Services(), ", "), "the book has no service %q", service)
			}
			list := slices.DeleteFunc(book.List(service), func(p cost.Price) bool { return region != "" && p.Region != region })
			if len(list) == 0 {
				return usagef("leave out --region to see which there are", "the book has no price of region %q", region)
			}
			return emit(e, out, func(w io.Writer) error {
				switch output {
				case "json":
					return encodePrices(w, map[string]any{"book": bookJSON(book), "prices": list, "missing": book.Missing(), "warnings": orEmpty(staleWarnings(book, time.Now()))})
				case "csv":
					return pricesCSV(w, list)
				}
				return report.Prices(w, report.Format(output), book, list, staleWarnings(book, time.Now()))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&service, "service", "", "only this service, such as lambda")
	f.StringVar(&region, "region", "", "only this region, such as us-east-1")
	f.StringVar(&prices, "prices", "", "file of prices, JSON book or YAML overrides, that win over the built-in ones")
	addResultFlags(cmd, &output, &out, "table", "json", "markdown", "csv")
	return cmd
}

func newPricesShowCommand(e *env) *cobra.Command {
	var prices, output, out string
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one price with its tiers, rules and sources",
		Long: `Show all that the book knows of one price: tiers, rounding, free tier, usage type, date, confidence, sources.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  cirrusbench prices show lambda.duration-arm@us-east-1`,
		Args:    argsRange(1, 1, "ID"),
		RunE: func(_ *cobra.Command, args []string) error {
			book, err := priceBook(prices)
			if err != nil {
				return err
			}
			p, ok := book.Get(args[0])
			if !ok {
				return missingPrice(book, args[0])
			}
			return emit(e, out, func(w io.Writer) error {
				if output == "json" {
					return encodePrices(w, map[string]any{"book": bookJSON(book), "prices": []cost.Price{p}, "warnings": orEmpty(staleWarnings(book, time.Now()))})
				}
				return report.Price(w, report.Format(output), book, &p, staleWarnings(book, time.Now()))
			})
		},
	}
	cmd.Flags().StringVar(&prices, "prices", "", "file of prices, JSON book or YAML overrides, that win over the built-in ones")
	addResultFlags(cmd, &output, &out, "table", "json", "markdown")
	return cmd
}

// missingPrice says which price is missing, where it is known, and how to supply it.
func missingPrice(book *cost.PriceBook, id string) error {
	service, rest, _ := strings.Cut(id, ".")
	dimension, region, ok := strings.Cut(rest, "@")
	if !ok || service == "" || dimension == "" || region == "" {
		return usagef("write service.dimension@region; 'cirrusbench prices list' shows them", "%q is no id of a price", id)
	}
	_, err := book.Lookup(service, dimension, region)
	var near []string
	for _, p := range book.List(service) {
		if strings.HasPrefix(p.Dimension, dimension) && p.Region == region {
			near = append(near, p.ID)
		}
	}
	if len(near) > 0 {
		slices.Sort(near)
		return withHint(err, "did you mean "+strings.Join(near[:min(len(near), 5)], ", ")+"?")
	}
	return err
}

func newPricesDiffCommand(e *env) *cobra.Command {
	var output, out string
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two price books",
		Long: `List the prices whose unit, tiers or amounts differ. A and B are price books, YAML overrides (laid over the
built-in book), or the word built-in.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  cirrusbench prices diff built-in built-in`,
		Args:    argsRange(2, 2, "a price book"),
		RunE: func(_ *cobra.Command, args []string) error {
			a, err := namedBook(args[0])
			if err != nil {
				return err
			}
			b, err := namedBook(args[1])
			if err != nil {
				return err
			}
			changes := cost.DiffBooks(a, b)
			return emit(e, out, func(w io.Writer) error {
				if output == "json" {
					return encodePrices(w, map[string]any{"a": bookJSON(a), "b": bookJSON(b), "changes": orEmpty(changes)})
				}
				return report.PriceChanges(w, report.Format(output), changes, nil)
			})
		},
	}
	addResultFlags(cmd, &output, &out, "table", "json", "markdown")
	return cmd
}

// namedBook reads a whole book as it stands, so that a diff shows what it lacks, and overrides over the built-in one.
func namedBook(name string) (*cost.PriceBook, error) {
	if name == builtIn {
		return priceBook("")
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, withHint(err, "give a price book file, or the word "+builtIn)
	}
	if strings.HasPrefix(strings.TrimLeft(string(data), " \t\r\n\ufeff"), "{") {
		return cost.ParsePriceBook(strings.NewReader(string(data)), name)
	}
	return priceBook(name)
}

func newPricesRefreshCommand(e *env) *cobra.Command {
	var from, output, out string
	var accept bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "refresh --from FILE|DIR|aws",
		Short: "Make a newer price book from AWS's price list",
		Long: `Read AWS's price list, find the prices of the built-in book in it, and show what changed; --out writes the
candidate, which 'cirrusbench forecast --prices' takes. FILE is a bulk file of the price list (no account needed:
https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AWSLambda/current/us-east-1/index.json) or an answer of
'aws pricing get-products', plain or gzip; DIR has several; aws asks the price list service with your credentials
(pricing:GetProducts). Prices that the list does not cover stay as they are and are counted.

Nothing is written when a price of the book is missing in the list, tiers leave a gap, a unit is another one, or a
price changes by more than 50 % without --accept.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  echo '{"serviceCode":"AWSQueueService","product":{"sku":"A","attributes":{"regionCode":"eu-west-1","usagetype":"EU-Requests-Tier1"}},"terms":{"OnDemand":{"A.B":{"priceDimensions":{"C":{"unit":"Requests","beginRange":"0","endRange":"Inf","pricePerUnit":{"USD":"0.0000004"}}}}}}}' >list.json; cirrusbench prices refresh --from list.json --accept
  cirrusbench prices refresh --from index.json
  cirrusbench prices refresh --from aws --out prices.json`,
		Args: argsRange(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" {
				return usagef("give --from FILE, --from DIR or --from aws", "--from is missing")
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, &timeoutError{timeout})
			defer cancel()
			book, err := priceBook("")
			if err != nil {
				return err
			}
			list := awsread.NewPriceList(book)
			if err := readPriceList(ctx, e, list, from); err != nil {
				return err
			}
			u, err := list.Update(accept)
			if err != nil {
				return err
			}
			if u.Book == nil {
				return withHint(fmt.Errorf("%s has none of the book's prices", from), "the book has prices of "+strings.Join(book.Services(), ", "))
			}
			if out != "" {
				data, err := u.Book.MarshalJSON()
				if err != nil {
					return err
				}
				if err := durable.WriteFile(out, append(data, '\n'), 0o644); err != nil {
					return withHint(err, writeHint(out))
				}
				e.sayf("wrote %s", out)
			}
			if output == "json" {
				return encodePrices(e.out, map[string]any{"book": bookJSON(u.Book), "changes": orEmpty(u.Changes), "found": u.Found, "not_covered": orEmpty(u.NotCovered)})
			}
			return report.PriceChanges(e.out, report.Format(output), u.Changes, []string{
				fmt.Sprintf("%d of %d prices were found in the price list; the others are as they were.", len(u.Found), len(u.Found)+len(u.NotCovered)),
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "where the price list is: a file, a directory of files, or aws")
	f.BoolVar(&accept, "accept", false, "take changes of more than 50 % and other tiers")
	f.StringVar(&out, "out", "", "write the candidate to this file")
	f.DurationVar(&timeout, "timeout", 15*time.Minute, "aws: give up after this long")
	addOutputFlag(cmd, &output, "table", "json", "markdown")
	return cmd
}

func readPriceList(ctx context.Context, e *env, list *awsread.PriceList, from string) error {
	if from == "aws" {
		cfg, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return withHint(fmt.Errorf("configuring AWS: %w", err), "check AWS_PROFILE, ~/.aws/config and the environment")
		}
		last := time.Now()
		return list.Fetch(ctx, awsread.PricingConfig{AWS: cfg, Progress: func(done, all int) {
			if now := time.Now(); now.Sub(last) >= plainEvery {
				last = now
				e.sayf("asked for %d of %d prices", done, all)
			}
		}})
	}
	files := []string{from}
	if info, err := os.Stat(from); err == nil && info.IsDir() {
		files = nil
		err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && (strings.HasSuffix(path, ".json") || strings.HasSuffix(path, ".json.gz")) {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return withHint(fmt.Errorf("no file of a price list is in %s", from), "price lists end in .json or .json.gz")
		}
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return withHint(err, "give a file, a directory, or aws")
		}
		if err := errors.Join(list.Read(f, name), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// staleWarnings says that a book is old.
func staleWarnings(book *cost.PriceBook, now time.Time) []string {
	days, stale := book.Age(now)
	if !stale {
		return nil
	}
	return []string{fmt.Sprintf("the prices are of %s, %d days ago: 'cirrusbench prices refresh --from aws' compares them with AWS's", book.AsOf(), days)}
}

func bookJSON(book *cost.PriceBook) map[string]string {
	return map[string]string{"as_of": book.AsOf(), "sha256": book.SHA256()}
}

// encodePrices writes a result with schema and tool in front.
func encodePrices(w io.Writer, fields map[string]any) error {
	head, err := json.Marshal(struct {
		Schema string         `json:"schema"`
		Tool   lambdalog.Tool `json:"tool"`
	}{pricesSchema, lambdalog.Tool(tool())})
	if err != nil {
		return err
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(json.RawMessage(string(head[:len(head)-1]) + "," + string(rest[1:])))
}

// orEmpty makes JSON print [] for nothing.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// pricesCSV writes a row for each tier.
func pricesCSV(w io.Writer, list []cost.Price) error {
	cw := csv.NewWriter(w)
	rows := [][]string{{"id", "service", "dimension", "region", "unit", "from", "to", "price_usd", "as_of", "confidence", "usage_type"}}
	for _, p := range list {
		for _, t := range p.Tiers {
			to, sure := "", string(p.Confidence)
			if t.To != nil {
				to = t.To.String()
			}
			if t.Confidence != "" {
				sure = string(t.Confidence)
			}
			rows = append(rows, []string{p.ID, p.Service, p.Dimension, p.Region, p.Unit, t.From.String(), to, t.Price.Decimal().String(), p.AsOf, sure, p.UsageType})
		}
	}
	return cw.WriteAll(rows)
}
