package cost_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

func book(tb testing.TB) *cost.PriceBook {
	tb.Helper()
	b, err := cost.EmbeddedBook()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestEmbeddedBook(t *testing.T) {
	b := book(t)
	if n := len(b.List("")); n != 150 || b.AsOf() != "2026-11-20" || len(b.SHA256()) != 64 {
		t.Errorf("%d prices as of %s, sha256 %s", n, b.AsOf(), b.SHA256())
	}
	for _, region := range []string{"us-east-1", "us-east-2", "us-west-2", "eu-west-1"} {
		for _, dimension := range []string{"requests", "requests-arm", "duration-x86", "duration-arm"} {
			p, err := b.Lookup("lambda", dimension, region)
			if err != nil {
				t.Fatal(err)
			}
			if p.UsageType == "" || p.Confidence != cost.ConfidenceHigh {
				t.Errorf("%s: usage type %q, confidence %s", p.ID, p.UsageType, p.Confidence)
			}
			for _, s := range p.Source {
				if _, ok := b.Source(s); !ok {
					t.Errorf("%s: source %s is not listed", p.ID, s)
				}
			}
		}
	}
}

func TestMissingPriceIsAnError(t *testing.T) {
	_, err := book(t).Lookup("cloudwatch-logs", "ingest-custom-standard", "us-west-2")
	missing, ok := errors.AsType[*cost.MissingPriceError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(missing.Hint(), "eu-west-1, us-east-1, us-east-2") || !strings.Contains(missing.Hint(), "cloudwatch-logs.ingest-custom-standard@us-west-2") {
		t.Errorf("hint: %s", missing.Hint())
	}
	_, err = book(t).Lookup("memorydb", "node-hour", "us-east-1")
	if missing, ok = errors.AsType[*cost.MissingPriceError](err); !ok || len(missing.Regions) != 0 {
		t.Errorf("got %v", err)
	}
	// Another region's price is another price.
	us, err := book(t).Lookup("cloudwatch-logs", "ingest-custom-standard", "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	eu, err := book(t).Lookup("cloudwatch-logs", "ingest-custom-standard", "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	if us.Tiers[0].Price.Fixed(2) != "0.50" || eu.Tiers[0].Price.Fixed(2) != "0.57" {
		t.Errorf("got %s and %s, want 0.50 and 0.57", us.Tiers[0].Price, eu.Tiers[0].Price)
	}
}

func TestTiersAreMarginal(t *testing.T) {
	for _, tt := range []struct{ service, dimension, region, quantity, want string }{
		{"lambda", "duration-x86", "us-east-1", "61440000000", "854203.30"},
		{"lambda", "duration-arm", "us-east-1", "74752000000", "832358.16"},
		{"lambda", "duration-x86", "us-east-1", "6000000000", "100000.20"},
		{"lambda", "duration-x86", "us-east-1", "0", "0.00"},
		{"apigateway", "rest-requests", "us-east-1", "3600000000", "9221.10"},
		{"apigateway", "rest-requests", "us-east-1", "8640000000", "21216.30"},
		{"apigateway", "http-requests", "us-east-1", "8640000000", "7806.00"},
		{"apigateway", "http-requests", "us-east-1", "3600000000", "3270.00"},
		{"cloudwatch-logs", "ingest-vended-lambda", "us-east-1", "20000", "7560.00"},
		{"cloudwatch-logs", "ingest-vended-lambda", "us-east-1", "61440", "12800.00"},
		{"cloudwatch-logs", "ingest-custom-standard", "us-east-1", "20000", "10000.00"},
	} {
		p, err := book(t).Lookup(tt.service, tt.dimension, tt.region)
		if err != nil {
			t.Fatal(err)
		}
		parts, total, _ := p.Cost(dec(t, tt.quantity))
		if total.Fixed(2) != tt.want {
			t.Errorf("%s × %s: got %s, want %s", p.ID, tt.quantity, total.Fixed(2), tt.want)
		}
		sum := cost.Int(0)
		for _, part := range parts {
			sum = sum.Add(part.Quantity)
		}
		if !sum.Equal(dec(t, tt.quantity)) {
			t.Errorf("%s: tiers hold %s of %s", p.ID, sum, tt.quantity)
		}
	}
}

func TestConfidenceIsThatOfTheTiersUsed(t *testing.T) {
	p, err := book(t).Lookup("lambda", "duration-x86", "us-west-2")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, sure := p.Cost(cost.Int(1000)); sure != cost.ConfidenceHigh {
		t.Errorf("first tier: %s", sure)
	}
	if _, _, sure := p.Cost(dec(t, "7e9")); sure != cost.ConfidenceMedium {
		t.Errorf("second tier: %s", sure)
	}
}

// AWS's price list holds tiers in an unordered map; no order may change a price.
func TestTierOrderDoesNotMatter(t *testing.T) {
	data, err := os.ReadFile("book/prices.json")
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]any
	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatal(err)
	}
	rng, original := rand.New(rand.NewPCG(3, 4)), book(t)
	for range 64 {
		prices, ok := raw["prices"].([]any)
		if !ok {
			t.Fatal("no prices")
		}
		for _, p := range prices {
			price, ok := p.(map[string]any)
			if !ok {
				t.Fatal("price is no object")
			}
			tiers, ok := price["tiers"].([]any)
			if !ok {
				t.Fatal("no tiers")
			}
			rng.Shuffle(len(tiers), func(i, j int) { tiers[i], tiers[j] = tiers[j], tiers[i] })
		}
		shuffled, err := json.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		b, err := cost.ParsePriceBook(bytes.NewReader(shuffled), "shuffled")
		if err != nil {
			t.Fatal(err)
		}
		p, err := b.Lookup("lambda", "duration-x86", "us-east-1")
		if err != nil {
			t.Fatal(err)
		}
		if _, total, _ := p.Cost(dec(t, "61440000000")); total.Fixed(2) != "854203.30" {
			t.Fatalf("got %s", total.Fixed(2))
		}
		if diff := cost.DiffBooks(original, b); len(diff) != 0 {
			t.Fatalf("%d differences, first %s", len(diff), diff[0].ID)
		}
	}
}

// small is a whole price book with one price, whose tiers are replaceable.
func small(tiers string) string {
	return `{"schema":"cirrusbench.pricebook/1","generated":"2027-01-01","currency":"USD","sources":{"S":{"what":"w","where":"x","kind":"k"}},
"prices":[{"id":"lambda.requests@us-east-1","service":"lambda","dimension":"requests","region":"us-east-1","unit":"request","currency":"USD",
"tiers":` + tiers + `,"as_of":"2027-01-01","source":["S"],"confidence":"high"}]}`
}

func TestPriceBookRefuses(t *testing.T) {
	good := small(`[{"from":"0","to":null,"price":"0.0000003"}]`)
	if _, err := cost.ParsePriceBook(strings.NewReader(good), "p"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, body, want string }{
		{"gap", small(`[{"from":"0","to":"10","price":"1"},{"from":"11","to":null,"price":"1"}]`), "ends at 10"},
		{"overlap", small(`[{"from":"0","to":"10","price":"1"},{"from":"9","to":null,"price":"1"}]`), "ends at 10"},
		{"no end", small(`[{"from":"0","to":"10","price":"1"}]`), "without end"},
		{"two ends", small(`[{"from":"0","to":null,"price":"1"},{"from":"10","to":null,"price":"1"}]`), "without end"},
		{"late start", small(`[{"from":"5","to":null,"price":"1"}]`), "begin at 0"},
		{"empty tier", small(`[{"from":"0","to":"0","price":"1"},{"from":"0","to":null,"price":"1"}]`), "empty"},
		{"no tiers", small(`[]`), "no tiers"},
		{"negative", small(`[{"from":"0","to":null,"price":"-1"}]`), "negative"},
		{"money as a float", small(`[{"from":"0","to":null,"price":0.5}]`), "cannot unmarshal"},
		{"too many decimals", small(`[{"from":"0","to":null,"price":"0.0000000000001"}]`), "decimals"},
		{"no price", small(`[{"from":"0","to":null}]`), "decimal number"},
		{"unknown key", small(`[{"from":"0","to":null,"price":"1","per":"x"}]`), "unknown field"},
		{"source", strings.Replace(good, `"source":["S"]`, `"source":["T"]`, 1), "not listed"},
		{"confidence", strings.Replace(good, `"confidence":"high"`, `"confidence":"sure"`, 1), "confidence"},
		{"id", strings.Replace(good, `"id":"lambda.requests@us-east-1"`, `"id":"lambda.requests@us-east-2"`, 1), "id is not"},
		{"currency", strings.Replace(good, `"unit":"request","currency":"USD"`, `"unit":"request","currency":"EUR"`, 1), "currency"},
		{"schema", strings.Replace(good, "pricebook/1", "pricebook/9", 1), "schema"},
		{"two documents", good + good, "more than one"},
		{"syntax", "{\n\"schema\": 1", "p:2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := cost.ParsePriceBook(strings.NewReader(tt.body), "p")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestOverridesAndDiff(t *testing.T) {
	over, err := cost.ParsePriceBook(strings.NewReader(small(`[{"from":"0","to":null,"price":"0.0000003"}]`)), "p")
	if err != nil {
		t.Fatal(err)
	}
	b := book(t)
	both := b.With(over)
	p, err := both.Lookup("lambda", "requests", "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	if p.Tiers[0].Price.String() != "0.0000003" || len(both.List("")) != 150 || both.SHA256() == b.SHA256() {
		t.Errorf("price %s, %d prices", p.Tiers[0].Price, len(both.List("")))
	}
	if old, err := b.Lookup("lambda", "requests", "us-east-1"); err != nil || old.Tiers[0].Price.Fixed(7) != "0.0000002" {
		t.Errorf("the first book changed: %v", err)
	}
	changes := cost.DiffBooks(b, both)
	if len(changes) != 1 || changes[0].MaxChangeRatio == nil || changes[0].MaxChangeRatio.Round(4).String() != "0.5000" {
		t.Errorf("changes: %+v", changes)
	}
	if removed := cost.DiffBooks(b, over); len(removed) != 150 || removed[0].New != nil {
		t.Errorf("%d changes", len(removed))
	}
}

func FuzzPriceBook(f *testing.F) {
	f.Add([]byte(small(`[{"from":"0","to":"10","price":"1"},{"from":"10","to":null,"price":"0.5"}]`)))
	f.Add([]byte(small(`[{"from":"0","to":null,"price":"1e-7"}]`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := cost.ParsePriceBook(bytes.NewReader(data), "fuzz")
		if err != nil {
			return
		}
		for _, p := range b.List("") {
			// More never costs less.
			var before cost.USD
			for _, q := range []int64{0, 1, 10, 11, 1_000_000} {
				_, total, _ := p.Cost(cost.Int(q))
				if total.Err() == nil && total.Cmp(before) < 0 {
					t.Errorf("%s: %d units cost %s after %s", p.ID, q, total, before)
				}
				before = total
			}
		}
	})
}
