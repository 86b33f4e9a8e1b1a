package awsread

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// PriceList collects what AWS's price list says about the prices of a book. Feed
// it with [PriceList.Read] or [PriceList.Fetch], then ask for [PriceList.Update].
// Everything else in the list is skipped as it is read, so that memory does not
// grow with the size of a bulk file.
type PriceList struct {
	book    *cost.PriceBook
	offers  map[string]*offer // by SKU
	sources map[string]cost.BookSource
	seen    map[string]bool // service code and region for which there was anything
}

// offer is one product and its price on demand.
type offer struct {
	sku, unit, service, source, asOf string
	attributes                       map[string]string
	tiers                            []listTier
}

type listTier struct{ from, to, price string }

// NewPriceList returns an empty list that looks out for the prices of book.
func NewPriceList(book *cost.PriceBook) *PriceList {
	return &PriceList{book: book, offers: make(map[string]*offer), sources: make(map[string]cost.BookSource), seen: make(map[string]bool)}
}

const (
	// maxProductBytes bounds one product or one term of a price list.
	maxProductBytes = 4 << 20
	// maxListBytes bounds a whole file; AmazonEC2's are hundreds of MB, all regions together a few GB.
	maxListBytes = 8 << 30
	// maxKept bounds how many products and early terms are kept.
	maxKept = 200_000
)

// PriceListError is a price list that cannot be used for the book.
type PriceListError struct {
	// Problems say what is wrong, one by one.
	Problems []string
}

// Error returns the problems, one a line.
func (e *PriceListError) Error() string { return strings.Join(e.Problems, "\n") }

// Hint says what to do about it.
func (*PriceListError) Hint() string {
	return "compare with AWS's page; --accept takes large changes, and 'cirrusbench forecast --prices FILE' your own prices"
}

type product struct {
	SKU           string            `json:"sku"`
	ProductFamily string            `json:"productFamily"`
	Attributes    map[string]string `json:"attributes"`
}

type term struct {
	SKU             string               `json:"sku"`
	EffectiveDate   string               `json:"effectiveDate"`
	PriceDimensions map[string]dimension `json:"priceDimensions"`
}

type dimension struct {
	BeginRange   string            `json:"beginRange"`
	EndRange     string            `json:"endRange"`
	Unit         string            `json:"unit"`
	PricePerUnit map[string]string `json:"pricePerUnit"`
}

// document collects what one JSON object holds, in whatever order it comes.
type document struct {
	name, offerCode, published string
	product                    *product          // of a GetProducts document
	terms                      map[string][]term // by SKU; with product: all of them
	wanted                     map[string]product
	regions                    map[string]bool
}

// Read takes a file of a price list: a bulk file (offers/v1.0/aws/…/index.json), an
// answer of GetProducts, or its documents one behind the other, plain or gzip. An
// error is a broken file, with its name and the offset; what does not fit the book
// is found by Update.
func (l *PriceList) Read(r io.Reader, name string) error {
	br := bufio.NewReaderSize(r, 256<<10)
	if head, _ := br.Peek(2); len(head) == 2 && head[0] == 0x1f && head[1] == 0x8b { // a short file is found out below
		zr, err := gzip.NewReader(br)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		br = bufio.NewReaderSize(zr, 256<<10)
	}
	capped := &capReader{r: br, left: maxListBytes}
	dec := json.NewDecoder(capped)
	fail := func(err error) error { return fmt.Errorf("reading %s at byte %d: %w", name, dec.InputOffset(), err) }
	before := len(l.seen)
	for {
		capped.value = maxProductBytes
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fail(err)
		}
		if token != json.Delim('{') {
			return fail(errors.New("a price list is made of JSON objects"))
		}
		if err := l.object(dec, capped, name); err != nil {
			return fail(unexpected(err))
		}
	}
	if len(l.seen) == before && before == 0 {
		return &Error{
			Problem: "reading " + name, Err: errors.New("there is no product in it"),
			hint: "give a bulk file of AWS's price list, such as https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AWSLambda/current/us-east-1/index.json",
		}
	}
	return nil
}

// unexpected keeps an object that ends early apart from a file that ends.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// capReader bounds what is read in all and for one value.
type capReader struct {
	r     io.Reader
	left  int64
	value int64
}

var errTooLarge = errors.New("a value is larger than 4 MiB, or the file larger than 8 GiB")

// Read implements io.Reader.
func (c *capReader) Read(p []byte) (int, error) {
	if c.left <= 0 || c.value <= 0 {
		return 0, errTooLarge
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left, c.value)])
	c.left -= int64(n)
	c.value -= int64(n)
	return n, err //nolint:wrapcheck // io.EOF must stay io.EOF
}

// object reads the object whose brace was just read.
func (l *PriceList) object(dec *json.Decoder, capped *capReader, name string) error {
	d := &document{name: name, terms: make(map[string][]term), wanted: make(map[string]product), regions: make(map[string]bool)}
	for dec.More() {
		capped.value = maxProductBytes
		token, err := dec.Token()
		if err != nil {
			return err //nolint:wrapcheck // the caller adds the place
		}
		switch key, _ := token.(string); key {
		case "products":
			err = members(dec, capped, func(sku string) error { return l.product(dec, d, sku) })
		case "terms":
			err = members(dec, capped, func(kind string) error {
				if kind != "OnDemand" {
					return skip(dec, capped)
				}
				return members(dec, capped, func(key string) error { return l.term(dec, d, key) })
			})
		case "product":
			d.product = new(product)
			err = dec.Decode(d.product)
		case "PriceList":
			err = l.documents(dec, capped, name)
		case "offerCode", "serviceCode":
			err = dec.Decode(&d.offerCode)
		case "publicationDate":
			err = dec.Decode(&d.published)
		default:
			err = skip(dec, capped)
		}
		if err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return err //nolint:wrapcheck // the caller adds the place
	}
	return l.finish(d)
}

// members calls f for every key of the object that comes next; f reads the value.
func members(dec *json.Decoder, capped *capReader, f func(key string) error) error {
	token, err := dec.Token()
	if err != nil {
		return err //nolint:wrapcheck // the caller adds the place
	}
	if token != json.Delim('{') {
		return errors.New("want an object")
	}
	for dec.More() {
		capped.value = maxProductBytes
		token, err := dec.Token()
		if err != nil {
			return err //nolint:wrapcheck // the caller adds the place
		}
		key, _ := token.(string)
		if err := f(key); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err //nolint:wrapcheck // the caller adds the place
}

// skip reads a value of any size without keeping it.
func skip(dec *json.Decoder, capped *capReader) error {
	for open := 0; ; {
		capped.value = maxProductBytes
		token, err := dec.Token()
		if err != nil {
			return err //nolint:wrapcheck // the caller adds the place
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			open++
		case json.Delim('}'), json.Delim(']'):
			open--
		}
		if open == 0 {
			return nil
		}
	}
}

// documents reads the list of an answer of GetProducts: each document a string, or an object.
func (l *PriceList) documents(dec *json.Decoder, capped *capReader, name string) error {
	token, err := dec.Token()
	if err != nil {
		return err //nolint:wrapcheck // the caller adds the place
	}
	if token != json.Delim('[') {
		return errors.New("PriceList is no array")
	}
	for dec.More() {
		capped.value = maxProductBytes
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err //nolint:wrapcheck // the caller adds the place
		}
		if len(raw) > 0 && raw[0] == '"' {
			var text string
			if err := json.Unmarshal(raw, &text); err != nil {
				return err //nolint:wrapcheck // the caller adds the place
			}
			raw = json.RawMessage(text)
		}
		if err := l.add(raw, name); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err //nolint:wrapcheck // the caller adds the place
}

// add takes one document of GetProducts.
func (l *PriceList) add(raw []byte, name string) error {
	capped := &capReader{r: bytes.NewReader(raw), left: maxListBytes, value: maxProductBytes}
	dec := json.NewDecoder(capped)
	token, err := dec.Token()
	if err != nil {
		return fmt.Errorf("document: %w", unexpected(err))
	}
	if token != json.Delim('{') {
		return errors.New("document is no object")
	}
	if err := l.object(dec, capped, name); err != nil {
		return fmt.Errorf("document: %w", unexpected(err))
	}
	return nil
}

func (l *PriceList) product(dec *json.Decoder, d *document, sku string) error {
	var p product
	if err := dec.Decode(&p); err != nil {
		return err //nolint:wrapcheck // the caller adds the place
	}
	d.regions[p.Attributes["regionCode"]] = true
	if !l.mayMatch(&p) {
		return nil
	}
	if len(d.wanted) >= maxKept {
		return fmt.Errorf("more than %d products match the book", maxKept)
	}
	d.wanted[sku] = p
	return nil
}

func (l *PriceList) term(dec *json.Decoder, d *document, key string) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return err //nolint:wrapcheck // the caller adds the place
	}
	sku, _, whole := strings.Cut(key, ".")
	if _, wanted := d.wanted[sku]; !wanted && len(d.regions) > 0 {
		return nil // products came first, and this is none of them
	}
	if len(d.terms) >= maxKept {
		return fmt.Errorf("the terms of more than %d products come before the products", maxKept)
	}
	if whole { // of a document, one term
		var t term
		if err := json.Unmarshal(raw, &t); err != nil {
			return fmt.Errorf("term %.60q: %w", key, err)
		}
		d.terms[sku] = append(d.terms[sku], t)
		return nil
	}
	var terms map[string]term
	if err := json.Unmarshal(raw, &terms); err != nil {
		return fmt.Errorf("terms of %.60q: %w", key, err)
	}
	for _, k := range slices.Sorted(maps.Keys(terms)) {
		d.terms[sku] = append(d.terms[sku], terms[k])
	}
	return nil
}

// finish brings the products of an object together with their terms.
func (l *PriceList) finish(d *document) error {
	if d.product != nil {
		d.regions[d.product.Attributes["regionCode"]] = true
		if l.mayMatch(d.product) {
			d.wanted[d.product.SKU] = *d.product
		}
	}
	for region := range d.regions {
		l.seen[d.offerCode+" "+region] = true
	}
	for _, sku := range slices.Sorted(maps.Keys(d.wanted)) {
		p := d.wanted[sku]
		terms := d.terms[sku]
		if len(terms) == 0 {
			continue // sold by reservation only
		}
		o := &offer{sku: sku, service: d.offerCode, attributes: p.Attributes, asOf: d.published, source: "PL " + d.name}
		if o.service == "" {
			o.service = p.Attributes["servicecode"]
		}
		if len(terms) > 1 {
			return fmt.Errorf("product %.60q has %d prices on demand", sku, len(terms))
		}
		for _, dim := range terms[0].PriceDimensions {
			usd, ok := dim.PricePerUnit["USD"]
			if !ok {
				return fmt.Errorf("product %.60q has no price in USD", sku)
			}
			if o.unit != "" && o.unit != dim.Unit {
				return fmt.Errorf("product %.60q has the units %.40q and %.40q", sku, o.unit, dim.Unit)
			}
			o.unit = dim.Unit
			o.tiers = append(o.tiers, listTier{dim.BeginRange, dim.EndRange, usd})
		}
		if terms[0].EffectiveDate != "" {
			o.asOf = terms[0].EffectiveDate
		}
		if len(l.offers) >= maxKept {
			return fmt.Errorf("more than %d products match the book", maxKept)
		}
		if _, ok := l.sources[o.source]; !ok {
			l.sources[o.source] = cost.BookSource{What: "AWS price list, published " + d.published, Where: d.name, Kind: "price list"}
		}
		l.offers[sku] = o
	}
	return nil
}

// mayMatch says whether any price of the book could be this product.
func (l *PriceList) mayMatch(p *product) bool {
	if isFree(p.Attributes) {
		return false
	}
	for _, price := range l.book.List("") {
		if price.Selector != nil && price.Region == p.Attributes["regionCode"] && (byUsage(&price, p.Attributes) || byGroup(&price, p.Attributes)) {
			return true
		}
	}
	return false
}

// isFree recognises the products that carry free tiers: they have the group of the real ones and a price of 0.
func isFree(attributes map[string]string) bool {
	return attributes["location"] == "Any" || strings.HasPrefix(attributes["usagetype"], "Global-") ||
		strings.Contains(strings.ToLower(attributes["groupDescription"]), "free tier")
}

func byUsage(p *cost.Price, attributes map[string]string) bool {
	for want := range strings.SplitSeq(p.Selector["usagetype"], " / ") {
		if want != "" && attributes["usagetype"] == want {
			return true
		}
	}
	return false
}

func byGroup(p *cost.Price, attributes map[string]string) bool {
	return p.Selector["group"] != "" && p.Selector["group"] == attributes["group"]
}
