package report

import (
	"io"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

// maxFits is how many explanations of a bill are shown; JSON has all of them.
const maxFits = 12

// ExplainBill renders the combinations of memory, processor and price that make a
// known bill, the nearest first. A format other than [Table] and [Markdown] is an
// error.
func ExplainBill(w io.Writer, f Format, in cost.BillQuery, fits []cost.BillFit) error {
	p := &page{title: "What could have made a Lambda bill of " + in.Monthly.Format() + " a month"}
	k := block{
		plain: "Requests and duration at list price, without free tier, that come to the bill. A bill alone does not tell the memory: several combinations fit.",
		facts: []fact{
			{"Traffic", quantity(in.RequestsPerHour) + " requests an hour"},
			{"Mean billed", places(in.MeanMS, 2) + " ms"},
			{"Prices", "AWS list prices of " + clean(in.Region)},
		},
	}
	if len(fits) == 0 {
		k.notes = []string{"Nothing fits. A wider --tolerance shows what is near."}
		p.blocks = []block{k}
		return p.write(w, f)
	}
	g := grid{
		caption: "Explanations of the bill",
		head:    []string{"processor", "memory", "price of a GB-second", "$", "requests", "duration", "a month", "off by"},
		text:    []int{2},
	}
	for i := range fits[:min(maxFits, len(fits))] {
		b := &fits[i]
		g.rows = append(g.rows, []string{
			clean(string(b.Arch)), count(int64(b.Memory)) + nbsp + "MB", clean(b.Tier), unitPrice(b.Price), b.Requests.Format(), b.Duration.Format(),
			b.Monthly.Format(), b.Difference.Format(),
		})
	}
	k.tables = []grid{g}
	if rest := len(fits) - maxFits; rest > 0 {
		k.notes = append(k.notes, plural(int64(rest), "more combination")+" in the JSON output.")
	}
	k.notes = append(k.notes, "Memory was tried in steps of 32 MB. “tier 2” and above apply when other functions of the account fill the lower tiers.")
	p.blocks = []block{k}
	return p.write(w, f)
}
