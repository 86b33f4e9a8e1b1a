package cost

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

//go:embed book/prices.json
var embeddedBook []byte

// bookSchema is the schema of a price book file.
const bookSchema = "cirrusbench.pricebook/1"

// Confidence says how sure a price is.
type Confidence string

// The levels of confidence.
const (
	// ConfidenceHigh has several independent sources or an arithmetic proof.
	ConfidenceHigh Confidence = "high"
	// ConfidenceMedium has one good source.
	ConfidenceMedium Confidence = "medium"
	// ConfidenceLow should be verified before anyone relies on it.
	ConfidenceLow Confidence = "low"
)

func (c Confidence) rank() int {
	return slices.Index([]Confidence{ConfidenceLow, ConfidenceMedium, ConfidenceHigh}, c)
}

// worse returns the lower of two confidences.
func (c Confidence) worse(d Confidence) Confidence {
	if d != "" && d.rank() < c.rank() {
		return d
	}
	return c
}

// Tier is a range of the quantity of one month at one price.
type Tier struct {
	// From is the first quantity of the tier, inclusive.
	From Decimal `json:"from"`
	// To is the first quantity beyond it; nil for the last tier.
	To *Decimal `json:"to"`
	// Price is what one unit costs.
	Price USD `json:"price_usd"`
	// Confidence is that of the price when it differs from the Price's own.
	Confidence Confidence `json:"confidence,omitempty"`
}

// Price is one billed dimension of one service in one region.
type Price struct {
	// ID is service.dimension@region.
	ID string `json:"id"`
	// Service, Dimension and Region are the parts of the id.
	Service   string `json:"service"`
	Dimension string `json:"dimension"`
	Region    string `json:"region"`
	// Unit is what a quantity of 1 is.
	Unit string `json:"unit"`
	// Tiers are ordered and without gaps, the first from 0, the last without end.
	Tiers []Tier `json:"tiers"`
	// AsOf is the date of the price as its source gives it.
	AsOf string `json:"as_of"`
	// Source lists ids of PriceBook.Sources.
	Source []string `json:"source"`
	// Confidence says how sure the price is.
	Confidence Confidence `json:"confidence"`
	// UsageType is the name on AWS's bill; empty when unknown.
	UsageType string `json:"usage_type,omitempty"`
	// Selector finds the price in AWS's price list, by attributes of the product;
	// nil when it is not known how.
	Selector map[string]string `json:"selector,omitempty"`
	// Free, Rounding, Scope, Minimum, Effective and Note say in words what the numbers do not.
	Free      string `json:"free,omitempty"`
	Rounding  string `json:"rounding,omitempty"`
	Scope     string `json:"scope,omitempty"`
	Minimum   string `json:"minimum,omitempty"`
	Effective string `json:"effective,omitempty"`
	Note      string `json:"note,omitempty"`
}

// TierAmount is the part of a quantity that falls into one tier.
type TierAmount struct {
	// Quantity is the part, Price what a unit of it costs, Amount the product.
	Quantity Decimal `json:"quantity"`
	Price    USD     `json:"price_usd"`
	Amount   USD     `json:"amount_usd"`
}

// Cost prices the quantity of one month: each part at the price of its tier.
// It returns the parts, their sum, and the lowest confidence of the prices
// used. A quantity of 0 has no parts.
func (p *Price) Cost(quantity Decimal) (parts []TierAmount, total USD, sure Confidence) {
	sure = p.Confidence
	for _, t := range p.Tiers {
		if quantity.Cmp(t.From) <= 0 {
			break
		}
		part := quantity.Sub(t.From)
		if t.To != nil {
			part = part.Min(t.To.Sub(t.From))
		}
		amount := t.Price.Mul(part)
		parts = append(parts, TierAmount{Quantity: part, Price: t.Price, Amount: amount})
		total = total.Add(amount)
		sure = sure.worse(t.Confidence)
	}
	if quantity.Err() != nil {
		total = USD{quantity}
	}
	return parts, total, sure
}

// BookSource says where prices were read.
type BookSource struct {
	// What was read, Where it was found, and the Kind of source.
	What  string `json:"what"`
	Where string `json:"where"`
	Kind  string `json:"kind"`
}

// PriceBook is a dated set of prices. It is immutable.
type PriceBook struct {
	asOf    string
	sha     string
	sources map[string]BookSource
	missing []string
	rules   map[string]json.RawMessage
	prices  []Price
	byID    map[string]int
}

// MissingPriceError says that a price is in no book. It is never replaced by 0
// or by another region's price.
type MissingPriceError struct {
	// Service, Dimension and Region name the price.
	Service, Dimension, Region string
	// Regions are the regions for which the book has this dimension.
	Regions []string
}

// Error names the missing price.
func (e *MissingPriceError) Error() string {
	return fmt.Sprintf("no price for %s %s in region %s", e.Service, e.Dimension, e.Region)
}

// Hint says what to do about it.
func (e *MissingPriceError) Hint() string {
	id := e.Service + "." + e.Dimension + "@" + e.Region
	if len(e.Regions) == 0 {
		return fmt.Sprintf("add %q to a price book file and pass it with --prices", id)
	}
	return fmt.Sprintf("the book has this price for %s; for another region add %q to a price book file and pass it with --prices",
		strings.Join(e.Regions, ", "), id)
}

// EmbeddedBook returns the price book that is built into the program.
func EmbeddedBook() (*PriceBook, error) {
	return ParsePriceBook(bytes.NewReader(embeddedBook), "built-in prices.json")
}

type bookFile struct {
	Schema    string                     `json:"schema"`
	Generated string                     `json:"generated"`
	Currency  string                     `json:"currency"`
	Rules     map[string]json.RawMessage `json:"rules,omitempty"`
	Sources   map[string]BookSource      `json:"sources"`
	Prices    []bookPrice                `json:"prices"`
	Missing   []string                   `json:"missing,omitempty"`
}

type bookPrice struct {
	ID         string            `json:"id"`
	Service    string            `json:"service"`
	Dimension  string            `json:"dimension"`
	Region     string            `json:"region"`
	Unit       string            `json:"unit"`
	Currency   string            `json:"currency"`
	Tiers      []bookTier        `json:"tiers"`
	AsOf       string            `json:"as_of"`
	Effective  string            `json:"effective,omitempty"`
	Source     []string          `json:"source"`
	Confidence Confidence        `json:"confidence"`
	Free       string            `json:"free,omitempty"`
	Rounding   string            `json:"rounding,omitempty"`
	Scope      string            `json:"scope,omitempty"`
	Minimum    string            `json:"minimum,omitempty"`
	Note       string            `json:"note,omitempty"`
	Selector   map[string]string `json:"selector,omitempty"`
}

type bookTier struct {
	From       string     `json:"from"`
	To         *string    `json:"to"`
	Price      string     `json:"price"`
	Confidence Confidence `json:"confidence,omitempty"`
}

// maxBookBytes bounds a price book file; the built-in one has 82 KB.
const maxBookBytes = 16 << 20

// ParsePriceBook reads a price book and checks it whole: ids, currency, tiers
// without gaps, prices that are not negative and have at most 12 decimals. It
// returns every problem it finds, each with name and id. Unknown keys are
// errors.
func ParsePriceBook(r io.Reader, name string) (*PriceBook, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxBookBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(data) > maxBookBytes {
		return nil, fmt.Errorf("reading %s: larger than %d bytes", name, maxBookBytes)
	}
	var f bookFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		at := dec.InputOffset()
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = syntax.Offset
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			at = int64(len(data))
		}
		line := 1 + bytes.Count(data[:min(at, int64(len(data)))], []byte("\n"))
		return nil, fmt.Errorf("reading %s:%d: %w", name, line, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("reading %s: more than one JSON value", name)
	}
	var problems []error
	if f.Schema != bookSchema {
		problems = append(problems, fmt.Errorf("%s: schema is %.40q, want %q", name, f.Schema, bookSchema))
	}
	if f.Currency != "USD" {
		problems = append(problems, fmt.Errorf("%s: currency is %.10q, want USD", name, f.Currency))
	}
	if f.Generated == "" {
		problems = append(problems, fmt.Errorf("%s: no date in generated", name))
	}
	sum := sha256.Sum256(data)
	b := &PriceBook{
		asOf: f.Generated, sha: hex.EncodeToString(sum[:]), sources: f.Sources, missing: f.Missing, rules: f.Rules,
		byID: make(map[string]int, len(f.Prices)),
	}
	for i, raw := range f.Prices {
		p, err := raw.price(f.Sources)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: price %d (%.80q): %w", name, i+1, raw.ID, err))
			continue
		}
		if _, dup := b.byID[p.ID]; dup {
			problems = append(problems, fmt.Errorf("%s: price %d: %s stands twice", name, i+1, p.ID))
			continue
		}
		b.byID[p.ID] = len(b.prices)
		b.prices = append(b.prices, p)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return b, nil
}

func (raw bookPrice) price(sources map[string]BookSource) (Price, error) {
	p := Price{
		ID: raw.ID, Service: raw.Service, Dimension: raw.Dimension, Region: raw.Region, Unit: raw.Unit,
		AsOf: raw.AsOf, Source: raw.Source, Confidence: raw.Confidence, UsageType: raw.Selector["usagetype"], Selector: raw.Selector,
		Free: raw.Free, Rounding: raw.Rounding, Scope: raw.Scope, Minimum: raw.Minimum, Effective: raw.Effective, Note: raw.Note,
	}
	switch {
	case raw.ID != raw.Service+"."+raw.Dimension+"@"+raw.Region:
		return p, fmt.Errorf("id is not service.dimension@region (%.120q)", raw.Service+"."+raw.Dimension+"@"+raw.Region)
	case raw.Service == "" || raw.Dimension == "" || raw.Region == "" || raw.Unit == "":
		return p, errors.New("service, dimension, region and unit must be set")
	case raw.Currency != "USD":
		return p, fmt.Errorf("currency is %.10q, want USD", raw.Currency)
	case raw.AsOf == "":
		return p, errors.New("no date in as_of")
	case raw.Confidence.rank() < 0:
		return p, fmt.Errorf("confidence is %.20q, want high, medium or low", raw.Confidence)
	case len(raw.Source) == 0:
		return p, errors.New("no source")
	case len(raw.Tiers) == 0:
		return p, errors.New("no tiers")
	}
	for _, s := range raw.Source {
		if _, ok := sources[s]; !ok {
			return p, fmt.Errorf("source %.40q is not listed", s)
		}
	}
	for _, t := range raw.Tiers {
		tier, err := t.tier()
		if err != nil {
			return p, err
		}
		p.Tiers = append(p.Tiers, tier)
	}
	// AWS's price list keeps tiers in an unordered map; their order in a file says nothing.
	slices.SortFunc(p.Tiers, func(a, b Tier) int { return a.From.Cmp(b.From) })
	if p.Tiers[0].From.Sign() != 0 {
		return p, errors.New("first tier does not begin at 0")
	}
	for i, t := range p.Tiers {
		if last := i == len(p.Tiers)-1; last != (t.To == nil) {
			return p, errors.New("exactly the last tier must be without end")
		}
		if t.To != nil && t.To.Cmp(p.Tiers[i+1].From) != 0 {
			return p, fmt.Errorf("tier ends at %s and the next begins at %s", t.To, p.Tiers[i+1].From)
		}
		if t.To != nil && t.To.Cmp(t.From) <= 0 {
			return p, fmt.Errorf("tier from %s is empty", t.From)
		}
	}
	return p, nil
}

func (t bookTier) tier() (Tier, error) {
	from, err := ParseDecimal(t.From)
	if err != nil {
		return Tier{}, fmt.Errorf("reading from: %w", err)
	}
	tier := Tier{From: from, Confidence: t.Confidence}
	if t.Confidence != "" && t.Confidence.rank() < 0 {
		return Tier{}, fmt.Errorf("confidence is %.20q, want high, medium or low", t.Confidence)
	}
	if t.To != nil {
		to, err := ParseDecimal(*t.To)
		if err != nil {
			return Tier{}, fmt.Errorf("reading to: %w", err)
		}
		tier.To = &to
	}
	if tier.Price, err = ParseUSD(t.Price); err != nil {
		return Tier{}, fmt.Errorf("reading price: %w", err)
	}
	if tier.Price.Sign() < 0 {
		return Tier{}, fmt.Errorf("price %s is negative", tier.Price)
	}
	if !tier.Price.Round(jsonPlaces).Equal(tier.Price) {
		return Tier{}, fmt.Errorf("price %s has more than %d decimals", tier.Price, jsonPlaces)
	}
	return tier, nil
}

// AsOf returns the date of the book.
func (b *PriceBook) AsOf() string { return b.asOf }

// staleAfterDays is how old prices may be at the start of a forecast.
const staleAfterDays = 90

// staleness says that the book is old for a forecast that starts in a month;
// "" when it is not, or when its date cannot be read.
func (b *PriceBook) staleness(start YearMonth) string {
	asOf, err := time.Parse(time.DateOnly, b.asOf)
	if err != nil {
		return ""
	}
	first := time.Date(start.Year, start.Month, 1, 0, 0, 0, 0, time.UTC)
	days := int(first.Sub(asOf).Hours() / 24)
	if days <= staleAfterDays {
		return ""
	}
	return fmt.Sprintf("the prices are of %s, %d days before the forecast starts: check them against AWS's price list", b.asOf, days)
}

// SHA256 returns the hash of the file the book was read from, in hex. A book
// that was combined with others has the hash of their hashes.
func (b *PriceBook) SHA256() string { return b.sha }

// Source returns what a source id in a price stands for.
func (b *PriceBook) Source(id string) (BookSource, bool) {
	s, ok := b.sources[id]
	return s, ok
}

// Missing returns what the book says it has no prices for.
func (b *PriceBook) Missing() []string { return slices.Clone(b.missing) }

// List returns the prices of a service, or all for "", in the order of the file.
func (b *PriceBook) List(service string) []Price {
	var list []Price
	for _, p := range b.prices {
		if service == "" || p.Service == service {
			list = append(list, p)
		}
	}
	return list
}

// Regions returns the regions that the book has prices for, in order.
func (b *PriceBook) Regions() []string {
	var regions []string
	for i := range b.prices {
		if !slices.Contains(regions, b.prices[i].Region) {
			regions = append(regions, b.prices[i].Region)
		}
	}
	slices.Sort(regions)
	return regions
}

// Get returns the price with an id; false when there is none.
func (b *PriceBook) Get(id string) (Price, bool) {
	i, ok := b.byID[id]
	if !ok {
		return Price{}, false
	}
	return b.prices[i], true
}

// Lookup returns the price of a dimension in a region, or a *MissingPriceError.
func (b *PriceBook) Lookup(service, dimension, region string) (*Price, error) {
	if i, ok := b.byID[service+"."+dimension+"@"+region]; ok {
		return &b.prices[i], nil
	}
	e := &MissingPriceError{Service: service, Dimension: dimension, Region: region}
	for _, p := range b.prices {
		if p.Service == service && p.Dimension == dimension {
			e.Regions = append(e.Regions, p.Region)
		}
	}
	slices.Sort(e.Regions)
	return nil, e
}

// With returns b with the prices of over added, which win where both have one.
func (b *PriceBook) With(over *PriceBook) *PriceBook {
	sum := sha256.Sum256([]byte(b.sha + "\n" + over.sha))
	c := &PriceBook{
		asOf: max(b.asOf, over.asOf), sha: hex.EncodeToString(sum[:]), missing: b.missing, rules: b.rules,
		sources: make(map[string]BookSource), byID: make(map[string]int),
	}
	for _, from := range [...]*PriceBook{b, over} {
		maps.Copy(c.sources, from.sources)
		for _, p := range from.prices {
			if i, ok := c.byID[p.ID]; ok {
				c.prices[i] = p
				continue
			}
			c.byID[p.ID] = len(c.prices)
			c.prices = append(c.prices, p)
		}
	}
	return c
}

// BookChange is one difference between two price books.
type BookChange struct {
	// ID is the price that differs.
	ID string `json:"id"`
	// Old is nil for a price that was added, New for one that was removed.
	Old *Price `json:"old"`
	New *Price `json:"new"`
	// MaxChangeRatio is the largest relative change of a tier's price, when both have the same tiers.
	MaxChangeRatio *Decimal `json:"max_change_ratio"`
	// UnitChanged and TiersChanged mark changes that are not just another price.
	UnitChanged  bool `json:"unit_changed"`
	TiersChanged bool `json:"tiers_changed"`
}

// DiffBooks returns the prices whose unit, tiers or amounts differ, ordered by
// id. Dates, sources and notes do not count as differences.
func DiffBooks(a, b *PriceBook) []BookChange {
	ids := make(map[string]bool)
	for _, p := range slices.Concat(a.prices, b.prices) {
		ids[p.ID] = true
	}
	var changes []BookChange
	for id := range ids {
		before, hadBefore := a.Get(id)
		after, hasAfter := b.Get(id)
		c := BookChange{ID: id}
		if hadBefore {
			c.Old = &before
		}
		if hasAfter {
			c.New = &after
		}
		if hadBefore && hasAfter && !c.compare() {
			continue
		}
		changes = append(changes, c)
	}
	slices.SortFunc(changes, func(x, y BookChange) int { return strings.Compare(x.ID, y.ID) })
	return changes
}

// compare fills in what differs between Old and New; false when nothing does.
func (c *BookChange) compare() bool {
	c.UnitChanged = c.Old.Unit != c.New.Unit
	c.TiersChanged = !slices.EqualFunc(c.Old.Tiers, c.New.Tiers, func(x, y Tier) bool { return x.From.Equal(y.From) })
	if c.TiersChanged {
		return true
	}
	changed := false
	most := Int(0)
	for i, t := range c.Old.Tiers {
		now := c.New.Tiers[i].Price
		if t.Price.Equal(now) {
			continue
		}
		changed = true
		ratio := Int(1)
		if t.Price.Sign() > 0 {
			if ratio = now.Ratio(t.Price).Sub(Int(1)); ratio.Sign() < 0 {
				ratio = Int(0).Sub(ratio)
			}
		}
		if ratio.Cmp(most) > 0 {
			most = ratio
		}
	}
	if changed {
		c.MaxChangeRatio = &most
	}
	return changed || c.UnitChanged
}
