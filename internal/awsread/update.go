package awsread

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// Update is what a price list makes of a book.
type Update struct {
	// Book is the candidate, nil when nothing in the list belongs to the book.
	Book *cost.PriceBook
	// Changes are its differences from the book that it was made from.
	Changes []cost.BookChange
	// Found are the ids whose price the list states, changed or not.
	Found []string
	// NotCovered are ids of which the list cannot say anything: their service or region is not
	// in it, or the book does not know how they are called there.
	NotCovered []string
}

// maxChange is the largest change of a price that is taken without being asked for.
const maxChange = "0.5"

// Update makes the candidate. It is a [*PriceListError] when a price of the book is
// missing although its service and region are in the list, when tiers leave a gap
// or overlap, when a unit is another one, when two products claim to be one price,
// and, unless accept, when a price changes by more than 50 % or its tiers by number.
func (l *PriceList) Update(accept bool) (*Update, error) {
	u := new(Update)
	var problems []string
	var prices []cost.Price
	newest := ""
	for _, p := range l.book.List("") {
		if p.Selector == nil || !l.covers(&p) {
			u.NotCovered = append(u.NotCovered, p.ID)
			continue
		}
		o, problem := l.find(&p)
		if problem == "" {
			problem = l.take(&p, o)
		}
		if problem != "" {
			problems = append(problems, p.ID+": "+problem)
			continue
		}
		newest = max(newest, p.AsOf)
		u.Found = append(u.Found, p.ID)
		prices = append(prices, p)
	}
	if len(problems) > 0 {
		return nil, &PriceListError{problems}
	}
	if len(prices) == 0 {
		return u, nil
	}
	book, err := l.book.Updated(newest, prices, l.sources)
	if err != nil {
		return nil, &PriceListError{strings.Split(err.Error(), "\n")}
	}
	u.Book, u.Changes = book, cost.DiffBooks(l.book, book)
	if accept {
		return u, nil
	}
	limit, err := cost.ParseDecimal(maxChange)
	if err != nil {
		return nil, fmt.Errorf("reading the limit: %w", err)
	}
	for _, c := range u.Changes {
		switch {
		case c.TiersChanged:
			problems = append(problems, fmt.Sprintf("%s: has %d tiers now, or others, and had %d: accept it with --accept", c.ID, len(c.New.Tiers), len(c.Old.Tiers)))
		case c.MaxChangeRatio != nil && c.MaxChangeRatio.Cmp(limit) > 0:
			problems = append(problems, fmt.Sprintf("%s: costs %s now and did %s, a change of more than 50 %%: accept it with --accept", c.ID, c.New.Tiers[0].Price, c.Old.Tiers[0].Price))
		}
	}
	if len(problems) > 0 {
		return nil, &PriceListError{problems}
	}
	return u, nil
}

// covers says whether the list has anything of the price's service in its region.
func (l *PriceList) covers(p *cost.Price) bool {
	service := p.Selector["serviceCode"]
	return l.seen[service+" "+p.Region] || service == "" && l.seen[" "+p.Region]
}

// find returns the product that is the price: by its usage type, or else by its group.
func (l *PriceList) find(p *cost.Price) (*offer, string) {
	for _, match := range []func(*cost.Price, map[string]string) bool{byUsage, byGroup} {
		var found []*offer
		for _, o := range l.offers {
			if o.attributes["regionCode"] == p.Region && match(p, o.attributes) && l.sameService(p, o) && agrees(p, o) {
				found = append(found, o)
			}
		}
		slices.SortFunc(found, func(a, b *offer) int { return strings.Compare(a.sku, b.sku) })
		switch {
		case len(found) == 1:
			return found[0], ""
		case len(found) > 1:
			return nil, fmt.Sprintf("%d products claim to be this price: %s and %s", len(found), found[0].sku, found[1].sku)
		}
	}
	return nil, "the price list has its service and region but not this price (" + selectorText(p) + ")"
}

func (l *PriceList) sameService(p *cost.Price, o *offer) bool {
	return o.service == "" || p.Selector["serviceCode"] == "" || o.service == p.Selector["serviceCode"]
}

// agrees checks the other attributes that the selector names, where the product states them.
func agrees(p *cost.Price, o *offer) bool {
	for key, want := range p.Selector {
		if key == "usagetype" || key == "serviceCode" || key == "group" {
			continue
		}
		if got, ok := o.attributes[key]; ok && got != want {
			return false
		}
	}
	return true
}

func selectorText(p *cost.Price) string {
	text := "usage type " + p.Selector["usagetype"]
	if p.Selector["group"] != "" {
		text += ", group " + p.Selector["group"]
	}
	return text
}

// take puts the product's tiers into the price. It returns what is wrong with them.
func (l *PriceList) take(p *cost.Price, o *offer) string {
	if !sameUnit(p.Unit, o.unit) {
		return fmt.Sprintf("is priced by %q now, the book has %q", o.unit, p.Unit)
	}
	tiers := make([]cost.Tier, 0, len(o.tiers))
	for _, t := range o.tiers {
		from, err := cost.ParseDecimal(t.from)
		if err != nil {
			return "beginRange: " + err.Error()
		}
		price, err := cost.ParseUSD(t.price)
		if err != nil {
			return "pricePerUnit: " + err.Error()
		}
		tier := cost.Tier{From: from, Price: price}
		if t.to != "Inf" {
			to, err := cost.ParseDecimal(t.to)
			if err != nil {
				return "endRange: " + err.Error()
			}
			tier.To = &to
		}
		tiers = append(tiers, tier)
	}
	// The list is an unordered map: only the numbers say which tier comes first.
	slices.SortFunc(tiers, func(a, b cost.Tier) int { return a.From.Cmp(b.From) })
	for i, t := range tiers {
		switch {
		case i == 0 && t.From.Sign() != 0:
			return fmt.Sprintf("its first tier begins at %s", t.From)
		case i < len(tiers)-1 && t.To == nil:
			return fmt.Sprintf("its tier from %s has no end, but another follows", t.From)
		case i < len(tiers)-1 && t.To.Cmp(tiers[i+1].From) != 0:
			return fmt.Sprintf("a tier ends at %s and the next begins at %s", t.To, tiers[i+1].From)
		case i == len(tiers)-1 && t.To != nil:
			return fmt.Sprintf("its last tier ends at %s", t.To)
		}
	}
	if len(tiers) == 0 {
		return "it has no tiers"
	}
	p.Tiers, p.Source, p.Confidence = tiers, []string{o.source}, cost.ConfidenceHigh
	if day, _, ok := strings.Cut(o.asOf, "T"); ok && len(day) == len("2026-11-20") {
		p.AsOf = day
	}
	return ""
}

// sameUnit says whether AWS's name of a unit is what the book calls it. A unit of
// the list that is not known here counts as another one.
func sameUnit(book, list string) bool {
	list = strings.ToLower(list)
	for _, u := range [...]struct {
		prefix string // of the book's unit
		names  []string
	}{
		{"request", []string{"request", "requests"}},
		{"512-KB request unit", []string{"request", "requests"}},
		{"64-KB request chunk", []string{"request", "requests"}},
		{"GB-second", []string{"lambda-gb-second", "gb-second", "gb-seconds", "second", "seconds"}},
		{"GB-month", []string{"gb-mo", "gb-month"}},
		{"GB", []string{"gb"}},
		{"1-KB WRU", []string{"writerequestunits", "writerequestunit"}},
		{"4-KB RRU", []string{"readrequestunits", "readrequestunit"}},
		{"broker-hour", []string{"hrs", "hours", "hour"}},
		{"instance-hour", []string{"hrs", "hours", "hour"}},
		{"vCPU-hour", []string{"hours", "hour", "hrs", "vcpu-hours"}},
		{"GB-hour", []string{"hours", "hour", "hrs", "gb-hours"}},
		{"shard-hour", []string{"shardhour", "shard-hour", "hours", "hrs"}},
		{"stream-hour", []string{"streamhr", "hours", "hrs"}},
		{"25-KB unit", []string{"putrequestpayloadunits", "putrequest"}},
		{"hour", []string{"hrs", "hours", "hour"}},
	} {
		if book == u.prefix || strings.HasPrefix(book, u.prefix+" ") || strings.HasPrefix(book, u.prefix+" (") {
			return slices.Contains(u.names, list)
		}
	}
	return strings.EqualFold(book, list)
}
