package awsread_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cirrusbench/cirrusbench/internal/awsread"
	"github.com/cirrusbench/cirrusbench/internal/awsread/awsreadtest"
	"github.com/cirrusbench/cirrusbench/internal/cost"
)

func embedded(tb testing.TB) *cost.PriceBook {
	tb.Helper()
	book, err := cost.EmbeddedBook()
	if err != nil {
		tb.Fatal(err)
	}
	return book
}

// sku is a product of a made-up price list, in the shape of AWS's.
type sku struct {
	id, unit   string
	attributes map[string]string
	tiers      [][3]string // begin, end, price
	currency   string
}

// unitOf is what AWS calls the units of the book's Lambda prices.
func unitOf(p *cost.Price) string {
	return map[string]string{"request": "Requests", "GB-second": "Lambda-GB-Second", "512-KB request unit": "Requests"}[p.Unit]
}

// listOf makes the products that a price list has for a service and region of the book.
func listOf(book *cost.PriceBook, service, region string) []sku {
	var list []sku
	for i, p := range book.List(service) {
		if p.Region != region || p.Selector == nil {
			continue
		}
		s := sku{id: fmt.Sprintf("SKU%03d%s", i, strings.ToUpper(strings.ReplaceAll(region, "-", ""))), unit: unitOf(&p), currency: "USD", attributes: map[string]string{
			"servicecode": p.Selector["serviceCode"], "location": "somewhere", "locationType": "AWS Region", "regionCode": region,
			"usagetype": p.Selector["usagetype"], "group": p.Selector["group"], "operation": "",
		}}
		for _, t := range p.Tiers {
			end := "Inf"
			if t.To != nil {
				end = t.To.String()
			}
			s.tiers = append(s.tiers, [3]string{t.From.String(), end, t.Price.Decimal().String()})
		}
		list = append(list, s)
	}
	return list
}

// freeTier is the product that carries the free tier: the group of the real one, a price of 0, and no region of its own.
func freeTier(region string) sku {
	return sku{id: "AAAFREE", unit: "Lambda-GB-Second", currency: "USD", tiers: [][3]string{{"0", "400000", "0.0000000000"}, {"400000", "Inf", "0"}}, attributes: map[string]string{
		"servicecode": "AWSLambda", "location": "Any", "regionCode": region, "usagetype": "Global-Lambda-GB-Second", "group": "AWS-Lambda-Duration",
	}}
}

func (s *sku) dimensions() map[string]any {
	dims := make(map[string]any)
	for i, t := range s.tiers {
		code := fmt.Sprintf("%s.JRTCKXETXF.RATE%d", s.id, i)
		dims[code] = map[string]any{
			"rateCode": code, "unit": s.unit, "beginRange": t[0], "endRange": t[1], "description": "made up", "appliesTo": []string{},
			"pricePerUnit": map[string]string{s.currency: t[2]},
		}
	}
	return dims
}

func (s *sku) term() map[string]any {
	return map[string]any{s.id + ".JRTCKXETXF": map[string]any{
		"offerTermCode": "JRTCKXETXF", "sku": s.id, "effectiveDate": "2027-01-01T00:00:00Z", "termAttributes": map[string]string{}, "priceDimensions": s.dimensions(),
	}}
}

// bulk is a bulk file. Go writes the keys of maps in order, so that the SKU decides what comes first.
func bulk(tb testing.TB, service string, list []sku) string {
	tb.Helper()
	products, terms := make(map[string]any), make(map[string]any)
	for _, s := range list {
		products[s.id] = map[string]any{"sku": s.id, "productFamily": "Serverless", "attributes": s.attributes}
		terms[s.id] = s.term()
	}
	body := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			tb.Fatal(err)
		}
		return string(data)
	}
	return `{"formatVersion":"v1.0","disclaimer":"x","offerCode":"` + service + `","version":"20270101000000","publicationDate":"2027-01-02T00:00:00Z","products":` +
		body(products) + `,"terms":{"OnDemand":` + body(terms) + `,"Reserved":{"X":{"Y":[1,{"z":2}]}}},"attributesList":{}}`
}

// documents is an answer of GetProducts: every document is a string.
func documents(tb testing.TB, service string, list []sku) string {
	tb.Helper()
	var texts []string
	for _, s := range list {
		data, err := json.Marshal(map[string]any{
			"serviceCode": service, "version": "20270101000000", "publicationDate": "2027-01-02T00:00:00Z",
			"product": map[string]any{"sku": s.id, "productFamily": "Serverless", "attributes": s.attributes},
			"terms":   map[string]any{"OnDemand": s.term()},
		})
		if err != nil {
			tb.Fatal(err)
		}
		texts = append(texts, string(data))
	}
	data, err := json.Marshal(map[string]any{"FormatVersion": "aws_v1", "NextToken": "t", "PriceList": texts})
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}

func update(t *testing.T, accept bool, texts ...string) (*awsread.Update, error) {
	t.Helper()
	l := awsread.NewPriceList(embedded(t))
	for _, text := range texts {
		if err := l.Read(strings.NewReader(text), "list.json"); err != nil {
			t.Fatal(err)
		}
	}
	return l.Update(accept)
}

func TestPriceListThatAgreesChangesNothing(t *testing.T) {
	list := listOf(embedded(t), "lambda", "us-east-1")
	for name, text := range map[string]string{
		"bulk file":   bulk(t, "AWSLambda", append(list, freeTier("us-east-1"))),
		"GetProducts": documents(t, "AWSLambda", append([]sku{freeTier("us-east-1")}, list...)),
	} {
		u, err := update(t, false, text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(u.Changes) != 0 || len(u.Found) != len(list) || len(u.Found) == 0 || len(u.Found)+len(u.NotCovered) != 150 {
			t.Errorf("%s: %d changes, %d found, %d not covered", name, len(u.Changes), len(u.Found), len(u.NotCovered))
		}
		p, ok := u.Book.Get("lambda.duration-x86@us-east-1")
		if !ok || p.AsOf != "2027-01-01" || p.Confidence != cost.ConfidenceHigh || u.Book.AsOf() < "2027" {
			t.Errorf("%s: %+v", name, p)
		}
		if s, ok := u.Book.Source(p.Source[0]); !ok || !strings.Contains(s.What, "2027-01-02") {
			t.Errorf("%s: source %+v", name, s)
		}
		// Prices that the list did not speak of keep what they had.
		if q, ok := u.Book.Get("lambda.duration-x86@eu-west-1"); !ok || q.AsOf == "2027-01-01" {
			t.Errorf("%s: %+v", name, q)
		}
	}
}

// The free tier's product has the same group as the real one and sorts before it: its price of 0 must never win.
func TestFreeTierNeverWins(t *testing.T) {
	list := listOf(embedded(t), "lambda", "us-east-1")
	for i := range list {
		if list[i].attributes["group"] == "AWS-Lambda-Duration" {
			list[i].attributes["usagetype"] = "Renamed-GB-Second" // so that only the group tells
		}
	}
	u, err := update(t, false, bulk(t, "AWSLambda", append([]sku{freeTier("us-east-1")}, list...)))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := u.Book.Get("lambda.duration-x86@us-east-1")
	if len(p.Tiers) != 3 || p.Tiers[0].Price.Sign() == 0 {
		t.Errorf("%+v", p.Tiers)
	}
}

// AWS keeps the tiers in an unordered map: 64 orders, one result.
func TestTiersInAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	list := listOf(embedded(t), "lambda", "us-east-1")
	for range 64 {
		for i := range list {
			tiers := list[i].tiers
			rng.Shuffle(len(tiers), func(a, b int) { tiers[a], tiers[b] = tiers[b], tiers[a] })
		}
		u, err := update(t, false, bulk(t, "AWSLambda", list))
		if err != nil {
			t.Fatal(err)
		}
		p, _ := u.Book.Get("lambda.duration-x86@us-east-1")
		quantity, err := cost.ParseDecimal("61440000000")
		if err != nil {
			t.Fatal(err)
		}
		if _, total, _ := p.Cost(quantity); total.Fixed(2) != "854203.30" || len(u.Changes) != 0 {
			t.Fatalf("%s, %d changes", total.Fixed(2), len(u.Changes))
		}
	}
}

func TestUpdateRefuses(t *testing.T) {
	at := func(list []sku, usage string) *sku {
		for i := range list {
			if list[i].attributes["usagetype"] == usage {
				return &list[i]
			}
		}
		t.Fatalf("no %s", usage)
		return nil
	}
	const duration, requests = "Lambda-GB-Second", "Request"
	for _, tt := range []struct {
		name   string
		change func([]sku) []sku
		want   string
		accept bool // whether --accept lets it through
	}{
		{"missing price", func(l []sku) []sku {
			at(l, requests).attributes["usagetype"] = "x"
			at(l, "x").attributes["group"] = "y"
			return l
		}, "lambda.requests@us-east-1: the price list has its service and region but not this price (usage type Request", false},
		{"gap", func(l []sku) []sku { at(l, duration).tiers[1][0] = "7000000000"; return l }, "lambda.duration-x86@us-east-1: a tier ends at 6000000000 and the next begins at 7000000000", false},
		{"overlap", func(l []sku) []sku { at(l, duration).tiers[1][0] = "5000000000"; return l }, "next begins at 5000000000", false},
		{"no end", func(l []sku) []sku { at(l, duration).tiers[2][1] = "20000000000"; return l }, "its last tier ends at 20000000000", false},
		{"late start", func(l []sku) []sku { at(l, requests).tiers[0][0] = "1"; return l }, "its first tier begins at 1", false},
		{"endless tier", func(l []sku) []sku { at(l, duration).tiers[0][1] = "Inf"; return l }, "has no end", false},
		{"no tiers", func(l []sku) []sku { at(l, requests).tiers = nil; return l }, "lambda.requests@us-east-1", false},
		{"unit", func(l []sku) []sku { at(l, duration).unit = "Hours"; return l }, `is priced by "Hours" now, the book has "GB-second"`, false},
		{"no number", func(l []sku) []sku { at(l, requests).tiers[0][2] = "free"; return l }, "pricePerUnit", false},
		{"negative", func(l []sku) []sku { at(l, requests).tiers[0][2] = "-0.0000002"; return l }, "negative", false},
		{"two claim it", func(l []sku) []sku { twin := *at(l, requests); twin.id = "TWIN"; return append(l, twin) }, "2 products claim to be this price", false},
		{"doubled", func(l []sku) []sku { at(l, requests).tiers[0][2] = "0.0000004"; return l }, "a change of more than 50 %", true},
		{"free of a sudden", func(l []sku) []sku { at(l, requests).tiers[0][2] = "0"; return l }, "a change of more than 50 %", true},
		{"another tier", func(l []sku) []sku {
			at(l, requests).tiers = [][3]string{{"0", "100", "0.0000002"}, {"100", "Inf", "0.0000001"}}
			return l
		}, "has 2 tiers now", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := bulk(t, "AWSLambda", tt.change(listOf(embedded(t), "lambda", "us-east-1")))
			_, err := update(t, false, text)
			e, ok := errors.AsType[*awsread.PriceListError](err)
			if !ok || !strings.Contains(err.Error(), tt.want) || !strings.Contains(e.Hint(), "--accept") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			u, err := update(t, true, text)
			if (err == nil) != tt.accept {
				t.Errorf("with accept: %v", err)
			}
			if err == nil && len(u.Changes) != 1 {
				t.Errorf("%d changes", len(u.Changes))
			}
		})
	}
}

func TestSmallChangesAreTaken(t *testing.T) {
	list := listOf(embedded(t), "lambda", "us-east-1")
	for i := range list {
		if list[i].attributes["usagetype"] == "Request" {
			list[i].tiers[0][2] = "0.00000024"
		}
	}
	u, err := update(t, false, bulk(t, "AWSLambda", list))
	if err != nil || len(u.Changes) != 1 || u.Changes[0].MaxChangeRatio.Round(2).String() != "0.20" {
		t.Fatalf("%+v, %v", u, err)
	}
	// A candidate is a book like another: written and read it is the same.
	data, err := u.Book.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	back, err := cost.ParsePriceBook(bytes.NewReader(data), "candidate")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cost.DiffBooks(u.Book, back); len(diff) != 0 || len(back.Missing()) == 0 || back.AsOf() != u.Book.AsOf() {
		t.Errorf("%d differences", len(diff))
	}
}

func TestPriceListFilesThatAreBroken(t *testing.T) {
	good := bulk(t, "AWSLambda", listOf(embedded(t), "lambda", "us-east-1"))
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	if _, err := zw.Write([]byte(good)); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	if u, err := update(t, false, zipped.String()); err != nil || len(u.Found) == 0 {
		t.Fatalf("gzip: %v", err)
	}
	swapped := strings.Replace(good, `"products":`, `"products2":`, 1)
	for _, tt := range []struct{ name, text, want string }{
		{"cut", good[:len(good)/2], "unexpected EOF"},
		{"cut gzip", zipped.String()[:zipped.Len()/2], "unexpected EOF"},
		{"no JSON", "<html>", "invalid character"},
		{"an array", "[]", "made of JSON objects"},
		{"empty", "", "no product"},
		{"other JSON", `{"a":1}`, "no product"},
		{"no products", swapped, "no product"},
		{"products is a list", `{"products":[]}`, "want an object"},
		{"other currency", strings.ReplaceAll(good, `"USD"`, `"CNY"`), "no price in USD"},
		{"huge value", `{"products":{"X":{"sku":"` + strings.Repeat("x", 5<<20) + `"}}}`, "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := awsread.NewPriceList(embedded(t)).Read(strings.NewReader(tt.text), "list.json")
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "list.json") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Terms before products, and the offer code behind both: JSON objects have no order.
func TestKeysInAnyOrder(t *testing.T) {
	list := listOf(embedded(t), "lambda", "us-east-1")
	var parts map[string]json.RawMessage
	if err := json.Unmarshal([]byte(bulk(t, "AWSLambda", list)), &parts); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"terms":%s,"products":%s,"publicationDate":%s,"offerCode":%s}`, parts["terms"], parts["products"], parts["publicationDate"], parts["offerCode"])
	u, err := update(t, false, text)
	if err != nil || len(u.Found) != len(list) || len(u.Changes) != 0 {
		t.Errorf("%+v, %v", u, err)
	}
}

func FuzzPriceList(f *testing.F) {
	book := embedded(f)
	list := listOf(book, "lambda", "us-east-1")
	f.Add([]byte(bulk(f, "AWSLambda", list[:2])), true)
	f.Add([]byte(documents(f, "AWSLambda", append([]sku{freeTier("us-east-1")}, list[:2]...))), false)
	f.Add([]byte(`{"product":{"sku":"A","attributes":{"regionCode":"us-east-1","usagetype":"Request"}},"terms":{"OnDemand":{"A.B":{"priceDimensions":{"x":{"beginRange":"0","endRange":"Inf","unit":"Requests","pricePerUnit":{"USD":"1"}}}}}}}`), true)
	f.Fuzz(func(t *testing.T, data []byte, accept bool) {
		l := awsread.NewPriceList(book)
		if l.Read(bytes.NewReader(data), "fuzz") != nil {
			return
		}
		u, err := l.Update(accept)
		if err != nil || u.Book == nil {
			return
		}
		for _, id := range u.Found {
			p, ok := u.Book.Get(id)
			if !ok || len(p.Tiers) == 0 || p.Tiers[0].From.Sign() != 0 || p.Tiers[len(p.Tiers)-1].To != nil {
				t.Errorf("%s: %+v", id, p.Tiers)
			}
		}
	})
}

func TestFetch(t *testing.T) {
	book := embedded(t)
	fake := &awsreadtest.Pricing{Documents: make(map[string][]string), Throttle: 5}
	all := 0
	for _, p := range book.List("") {
		if p.Selector == nil || p.Service != "lambda" {
			continue
		}
		all++
		for _, s := range listOf(book, "lambda", p.Region) {
			if s.attributes["usagetype"] == p.Selector["usagetype"] {
				var answer struct{ PriceList []string }
				if err := json.Unmarshal([]byte(documents(t, "AWSLambda", []sku{freeTier(p.Region), s})), &answer); err != nil {
					t.Fatal(err)
				}
				fake.Documents[p.Selector["usagetype"]+" "+p.Region] = answer.PriceList
			}
		}
	}
	server := httptest.NewServer(fake)
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	cfg := awsread.PricingConfig{Backoff: time.Millisecond, AWS: aws.Config{
		Region: "eu-west-1", BaseEndpoint: aws.String(server.URL), HTTPClient: client,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "not-a-secret"}, nil
		}),
	}}
	l := awsread.NewPriceList(book)
	if err := l.Fetch(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	// The other services were asked for and are not there: each of their prices is missing.
	_, err := l.Update(false)
	e, ok := errors.AsType[*awsread.PriceListError](err)
	if !ok || strings.Contains(err.Error(), "lambda.") || !strings.Contains(err.Error(), "s3.get-and-other@us-east-1") {
		t.Fatalf("got %v", err)
	}
	asked := 0
	for _, p := range book.List("") {
		if p.Selector != nil {
			asked++
		}
	}
	if len(e.Problems) != asked-all {
		t.Errorf("%d problems, want %d", len(e.Problems), asked-all)
	}
}

// TestManyTermsOfOtherProducts: the terms of a file of another region are passed over, however many they are, when the products
// came first.
func TestManyTermsOfOtherProducts(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"offerCode":"AmazonEC2","publicationDate":"2026-11-01T00:00:00Z","products":{"A":{"sku":"A","attributes":{"regionCode":"nowhere-1"}}},"terms":{"OnDemand":{"A":{}`)
	for i := range 200_001 {
		fmt.Fprintf(&text, `,"B%d":{"x":{}}`, i)
	}
	text.WriteString(`}}}`)
	if err := awsread.NewPriceList(embedded(t)).Read(strings.NewReader(text.String()), "ec2.json"); err != nil {
		t.Error(err)
	}
}
