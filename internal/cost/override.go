package cost

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"
)

// ParseOverrides reads prices that win over those of base: a whole price book as
// JSON, or YAML such as
//
//	version: 1
//	as_of: 2026-11-01
//	source: enterprise discount, contract 4711
//	prices:
//	  lambda.duration-arm@us-east-1: {price: 0.0000100000}
//	  apigateway.http-requests@us-west-2:
//	    unit: 512-KB request unit
//	    tiers: [{from: 0, price: 0.000001}, {from: 300000000, price: 0.0000009}]
//
// unit and usage_type may be left out for a price that base has; unit must not
// differ from base's. Keys are strict, amounts are US dollars. All mistakes are
// returned together, each with file and line. The result is base with the prices
// added.
func ParseOverrides(r io.Reader, name string, base *PriceBook) (*PriceBook, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxBookBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(data) > maxBookBytes {
		return nil, fmt.Errorf("reading %s: larger than %d bytes", name, maxBookBytes)
	}
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n\ufeff"), []byte("{")) {
		over, err := ParsePriceBook(bytes.NewReader(data), name)
		if err != nil {
			return nil, err
		}
		return base.With(over), nil
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, yamlError(err, name)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, &ScenarioError{name, 1, "there are no prices", "begin with version: 1"}
	}
	l := &loader{name: name}
	over := l.overrides(doc.Content[0], base)
	if err := errors.Join(l.problems...); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	over.sha = hex.EncodeToString(sum[:])
	return base.With(over), nil
}

func (l *loader) overrides(n *yaml.Node, base *PriceBook) *PriceBook {
	var asOf, source, currency string
	var prices *yaml.Node
	version := false
	l.mapping(n, "the price file", fields{
		"version": func(v *yaml.Node) {
			version = true
			if v.Value != "1" {
				l.bad(v, "write version: 1", "version is %.20q, this program reads version 1", v.Value)
			}
		},
		"as_of":  l.setText(&asOf, "as_of"),
		"source": l.setText(&source, "source"),
		"currency": func(v *yaml.Node) {
			if currency, _ = l.text(v, "currency"); currency != "USD" {
				l.bad(v, "give the prices in US dollars", "currency is %.10q, want USD", currency)
			}
		},
		"prices": func(v *yaml.Node) { prices = v },
	})
	over := &PriceBook{asOf: asOf, sources: make(map[string]BookSource), byID: make(map[string]int)}
	if n.Kind != yaml.MappingNode {
		return over
	}
	for key, there := range map[string]bool{"version": version, "as_of": asOf != "", "source": source != "", "prices": prices != nil} {
		if !there {
			l.bad(n, "add "+key+":", "%s is missing", key)
		}
	}
	if prices == nil {
		return over
	}
	over.sources[l.name] = BookSource{What: source, Where: l.name, Kind: "override"}
	known := make(fields)
	for i := 0; prices.Kind == yaml.MappingNode && i+1 < len(prices.Content); i += 2 {
		key := prices.Content[i]
		known[key.Value] = func(v *yaml.Node) {
			if p, ok := l.overridePrice(key, v, base); ok {
				p.AsOf, p.Source = asOf, []string{l.name}
				over.byID[p.ID] = len(over.prices)
				over.prices = append(over.prices, p)
			}
		}
	}
	l.mapping(prices, "prices", known)
	return over
}

func (l *loader) overridePrice(key, n *yaml.Node, base *PriceBook) (Price, bool) {
	service, rest, ok := strings.Cut(key.Value, ".")
	at := strings.LastIndex(rest, "@")
	if !ok || service == "" || at <= 0 || at == len(rest)-1 {
		l.bad(key, "write service.dimension@region, as 'cirrusbench prices list' shows them", "%.80q is no id of a price", key.Value)
		return Price{}, false
	}
	p := Price{ID: key.Value, Service: service, Dimension: rest[:at], Region: rest[at+1:], Confidence: ConfidenceMedium}
	before, had := base.Get(p.ID)
	var price *Decimal
	var tiers *yaml.Node
	problems := len(l.problems)
	l.mapping(n, key.Value, fields{
		"unit":       l.setText(&p.Unit, "unit"),
		"usage_type": l.setText(&p.UsageType, "usage_type"),
		"note":       l.setText(&p.Note, "note"),
		"currency": func(v *yaml.Node) {
			if v.Value != "USD" {
				l.bad(v, "give all prices in US dollars", "currency of %s is %.10q, want USD", key.Value, v.Value)
			}
		},
		"price": l.setp(&price, "price"),
		"tiers": func(v *yaml.Node) { tiers = v },
	})
	switch {
	case len(l.problems) > problems:
		return p, false
	case had && p.Unit != "" && p.Unit != before.Unit:
		l.bad(n, "convert the price to a "+before.Unit, "unit of %s is %.40q, the book has %q", p.ID, p.Unit, before.Unit)
	case !had && p.Unit == "":
		l.bad(n, "add unit:", "%s is new and has no unit", p.ID)
	case (price == nil) == (tiers == nil):
		l.bad(n, "give price: or tiers:", "%s needs either a price or tiers", p.ID)
	case price != nil:
		p.Tiers = []Tier{{Price: Dollars(*price)}}
	case tiers.Kind != yaml.SequenceNode || len(tiers.Content) == 0:
		l.bad(tiers, "write [{from: 0, price: …}, {from: …, price: …}]", "tiers must be a list")
	default:
		p.Tiers = l.overrideTiers(tiers)
	}
	for _, t := range p.Tiers {
		if t.Price.Sign() < 0 || !t.Price.Round(jsonPlaces).Equal(t.Price) {
			l.bad(n, "give a price of 0 or more", "price %s is negative or has more than %d decimals", t.Price, jsonPlaces)
		}
	}
	if had {
		p.Unit = before.Unit
		if p.UsageType == "" {
			p.UsageType = before.UsageType
		}
	}
	return p, len(l.problems) == problems
}

func (l *loader) overrideTiers(n *yaml.Node) []Tier {
	var list []Tier
	for i, v := range n.Content {
		var from, price *Decimal
		l.mapping(v, "a tier", fields{"from": l.setp(&from, "from"), "price": l.setp(&price, "price")})
		if from == nil || price == nil {
			l.bad(v, "write {from: 0, price: …}", "a tier needs from and price")
			return nil
		}
		switch {
		case i == 0 && from.Sign() != 0:
			l.bad(v, "begin with from: 0", "the first tier begins at %s", from)
			return nil
		case i > 0 && from.Cmp(list[i-1].From) <= 0:
			l.bad(v, "order the tiers by from", "tier from %s does not lie above the one before it", from)
			return nil
		case i > 0:
			list[i-1].To = from
		}
		list = append(list, Tier{From: *from, Price: Dollars(*price)})
	}
	return list
}
