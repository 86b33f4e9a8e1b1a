package cost_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// seedNumber is a figure of the papers this program comes from, of AWS's own examples, or of a peer.
type seedNumber struct {
	ID        string            `json:"id"`
	Seed      string            `json:"seed"`
	Quote     string            `json:"quote"`
	Inputs    map[string]string `json:"inputs"`
	Formula   string            `json:"formula"`
	Expr      string            `json:"expr"`
	Expected  string            `json:"expected"`
	Tolerance string            `json:"tolerance"`
	Status    string            `json:"status"`
	Note      string            `json:"note"`
}

func seedNumbers(tb testing.TB) []seedNumber {
	tb.Helper()
	data, err := os.ReadFile("testdata/seed_numbers.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct {
		Schema    int          `json:"schema"`
		Generated string       `json:"generated"`
		Rounding  string       `json:"rounding"`
		Count     int          `json:"count"`
		Entries   []seedNumber `json:"entries"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		tb.Fatal(err)
	}
	if len(file.Entries) != 182 || file.Count != 182 {
		tb.Fatalf("%d numbers, want 182", len(file.Entries))
	}
	return file.Entries
}

// rounding names the rule by which a number is rounded, from the outermost call of its formula.
func (n *seedNumber) rounding() string {
	switch {
	case strings.Contains(n.Expr, ")+hup("):
		return "parts half-up to 2 decimals, then added"
	case strings.HasPrefix(n.Expr, "hup(") && strings.HasSuffix(n.Expr, ")"):
		if at := strings.LastIndexByte(n.Expr, ','); at > 0 && !strings.ContainsAny(n.Expr[at:len(n.Expr)-1], "()") {
			return "half-up to " + n.Expr[at+1:len(n.Expr)-1] + " decimals"
		}
		return "half-up to a whole number"
	case strings.HasPrefix(n.Expr, "ceil("), strings.HasPrefix(n.Expr, "max(ceil("):
		return "up to a whole number"
	case strings.HasPrefix(n.Expr, "floor("):
		return "cut to a whole number"
	}
	return "exact"
}

// TestSeedNumbers recomputes every number from its inputs, in decimal arithmetic and by the rounding it names.
func TestSeedNumbers(t *testing.T) {
	roundings := make(map[string]int)
	for _, n := range seedNumbers(t) {
		rounding := n.rounding()
		roundings[rounding]++
		t.Run(n.ID+"/"+rounding, func(t *testing.T) {
			got, err := evaluate(n.Expr, n.Inputs)
			if err != nil {
				t.Fatal(err)
			}
			off := got.Sub(dec(t, n.Expected))
			if off.Sign() < 0 {
				off = cost.Int(0).Sub(off)
			}
			if off.Cmp(dec(t, n.Tolerance)) > 0 {
				t.Errorf("%s: %s = %s, want %s ± %s", n.Quote, n.Expr, got, n.Expected, n.Tolerance)
			}
		})
	}
	for _, want := range []string{"exact", "cut to a whole number", "up to a whole number", "half-up to 2 decimals", "half-up to 9 decimals"} {
		if roundings[want] == 0 {
			t.Errorf("no number is %s: the rounding is not recognised; found %v", want, roundings)
		}
	}
}

// TestSeedNumbersByTheProgram computes what the program has a way to compute by its own code, and not by
// the formula that stands beside the number.
func TestSeedNumbersByTheProgram(t *testing.T) {
	expected := make(map[string]seedNumber)
	for _, n := range seedNumbers(t) {
		expected[n.ID] = n
	}
	checked := make(map[string]bool)
	check := func(id, got string) {
		t.Helper()
		checked[id] = true
		n, ok := expected[id]
		if !ok {
			t.Errorf("there is no number %s", id)
			return
		}
		if !dec(t, got).Equal(dec(t, n.Expected)) {
			t.Errorf("%s: %s, want %s (%s)", id, got, n.Expected, n.Quote)
		}
	}
	b := book(t)
	ratio, err := cost.DurationRatio(cost.RatioInput{
		Monthly: usd(t, "3633"), BaselineMS: dec(t, "953"), CandidateMS: dec(t, "70"), Months: 24,
		Start: cost.YearMonth{Year: 2026, Month: time.December}, Concurrency: decp(t, "354"), Book: b, Region: "us-east-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	m := ratio.Method
	check("000.cost.12m", m.AsInPaper.BaselineYear.String())
	check("000.cost.24m", m.AsInPaper.BaselineTotal.String())
	check("000.saving.pct", m.SavingsRatioRounded.Mul(cost.Int(100)).String())
	check("000.saving.pct.exact", m.SavingsRatio.Mul(cost.Int(100)).Round(4).String())
	check("000.go.12m", m.AsInPaper.CandidateYear.String())
	check("000.go.24m", m.AsInPaper.CandidateTotal.String())
	check("000.go.12m.exact_ratio", m.Exact.CandidateYear.Fixed(2))
	check("000.go.24m.exact_ratio", m.Exact.CandidateTotal.Fixed(2))
	check("000.concurrency.factor", m.DurationRatioRounded.String())
	check("000.twelve_x", m.AsInPaper.BaselineYear.Ratio(m.AsInPaper.CandidateYear).Round(2).String())
	check("000.month.requests", m.RequestFeeKept.RequestFee.Fixed(2))
	check("000.go.month.fixed_requests", m.RequestFeeKept.CandidateMonth.Fixed(2))

	perHour, err := littles(t).PerHour()
	if err != nil {
		t.Fatal(err)
	}
	check("000.rate", perHour.Quo(cost.Int(3600)).Round(2).String())
	check("000.rate.h", perHour.Round(0).String())
	check("000.clusters", perHour.Quo(cost.Int(1500)).Round(1).String())

	// One month of a function or a service.
	month := func(traffic cost.Traffic, rule cost.MonthRule, f *cost.Function, services ...cost.Service) cost.ArchitectureResult {
		a := cost.Architecture{Name: "a", Services: services}
		if f != nil {
			a.Functions = []cost.Function{*f}
		}
		s := scenario(t, traffic, a)
		s.Month = rule
		return forecast(t, s).Architectures[0]
	}
	fn := func(arch cost.Arch, memory lambdalog.MB, mean string) *cost.Function {
		return &cost.Function{Arch: arch, Memory: memory, Billed: cost.Billed{MeanMS: decp(t, mean)}}
	}
	python := month(littles(t), cost.Month30Days, fn(cost.ArchX86, 128, "953"))
	golang := month(littles(t), cost.Month30Days, fn(cost.ArchARM, 128, "70"))
	check("000.month.python.128.x86", python.Month1.Fixed(2))
	check("000.month.python.128.arm", month(littles(t), cost.Month30Days, fn(cost.ArchARM, 128, "953")).Month1.Fixed(2))
	check("000.go.month.128arm", golang.Month1.Fixed(2))
	check("000.go.concurrency", fmt.Sprintf("%.2f", golang.Concurrency.Mean))
	check("000.go.rps_quota_concurrency", fmt.Sprintf("%.1f", golang.Concurrency.RPSQuotaNeed))
	for id, arch := range map[string]cost.Arch{"000.per_ms.arm": cost.ArchARM, "000.per_ms.x86": cost.ArchX86} {
		dimension := map[cost.Arch]string{cost.ArchARM: "duration-arm", cost.ArchX86: "duration-x86"}[arch]
		check(id, lookup(t, b, "lambda", dimension).Tiers[0].Price.Mul(cost.GBSeconds(cost.Int(1), 128)).Fixed(10))
	}
	fits, err := cost.ExplainBill(cost.BillQuery{
		Monthly: usd(t, "3633"), RequestsPerHour: perHour, MeanMS: dec(t, "953"), Region: "us-east-1", Month: cost.Month30Days,
		Start: cost.YearMonth{Year: 2026, Month: time.December},
	}, b)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(fits, func(f cost.BillFit) bool { return f.Arch == cost.ArchX86 && f.Memory == 256 && f.Tier == "tier 2" })
	if i < 0 {
		t.Fatalf("256 MB at the second tier is not among the explanations: %+v", fits)
	}
	check("000.month.h1", fits[i].Monthly.Fixed(0))

	u := paperRecords(t)
	check("000.sample.n", cost.Int(u.Invocations()).String())
	check("000.sample.all_mean", u.BilledMS().Quo(cost.Int(15)).Round(2).String())
	check("000.sample.warm_mean", u.BilledMS().Sub(cost.Int(870)).Quo(cost.Int(14)).Round(2).String())
	// The billed time of every printed line is read, and where it says so follows from the printed duration.
	f, err := os.Open("testdata/paper.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for v, err := range lambdalog.Scan(f, "paper.txt") {
		if err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprintf("000.line.%02d", n), cost.Frac(int64(v.Billed.Value), 6).String())
		n++
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	check("000.memory.headroom", strconv.Itoa(128-int(u.Summary().MaxMemoryUsed)))

	perMonthOf := func(n string) cost.Traffic { return perMonth(t, n) }
	gb := func(s string) cost.Volume { return cost.Volume{GB: decp(t, s)} }
	none := cost.Volume{PerRequest: decp(t, "0")}
	one := func(n string, rule cost.MonthRule, s cost.Service) string {
		return month(perMonthOf(n), rule, nil, s).Month1.Fixed(2)
	}
	check("001.apigw.5M.tiered", one("3600000000", cost.Month30Days, cost.APIGateway{REST: true}))
	check("001.apigw.12M.tiered", one("8640000000", cost.Month30Days, cost.APIGateway{REST: true}))
	check("001.httpapi.12M", one("8640000000", cost.Month30Days, cost.APIGateway{}))
	pods := func(cpus string, nodes int64) string {
		return month(perMonthOf("0"), cost.Month30Days, nil, cost.VCPU{PriceHour: usd(t, "0.0552"), CPUs: dec(t, cpus), Nodes: cost.Int(nodes)}).Month1.Trunc(0).String()
	}
	check("001.low", pods("0.5", 3))
	check("001.high", pods("2", 5))
	check("001.avg", pods("1.1", 4))
	check("001.kinesis.shards", one("0", cost.Month30Days, cost.Kinesis{Shards: cost.Int(80), RecordBytes: cost.Int(1024), Records: none}))
	stream := month(perMonthOf("8640000000"), cost.Month30Days, nil, cost.Kinesis{Shards: cost.Int(1), RecordBytes: cost.Int(1024)})
	check("001.kinesis.put.12M", stream.Lines[1].Amount.Fixed(2))
	check("002.cw.gb", month(perMonthOf("0"), cost.Month30Days, nil, cost.Logs{Kind: cost.LogsCustom, GB: dec(t, "20000")}).Lines[0].Quantity.Round(0).String())
	check("002.cw.tiered", one("0", cost.Month30Days, cost.Logs{Kind: cost.LogsVended, GB: dec(t, "20000")}))
	queue := func(bytes, volume string, calls int) cost.USD {
		return month(perMonthOf("0"), cost.Month30Days, nil, cost.SQS{MessageBytes: dec(t, bytes), Messages: gb(volume), Calls: calls}).Month1
	}
	check("002.sqs.send_per_gb", queue("65536", "1", 1).Fixed(7))
	check("002.sqs.path_per_gb", queue("65536", "1", 3).Fixed(7))
	logs := month(perMonthOf("0"), cost.Month30Days, nil, cost.Logs{Kind: cost.LogsCustom, GB: dec(t, "20000")}).Month1
	saving := func(u, against cost.USD) cost.Decimal {
		return cost.Int(1).Sub(u.Ratio(against)).Mul(cost.Int(100))
	}
	check("002.sqs.saving", saving(queue("65536", "20000", 3), logs).Round(2).String())
	check("002.sqs.saving.sendonly", saving(queue("65536", "20000", 1), logs).Round(2).String())
	check("002.saving.tiered", saving(queue("65536", "20000", 3), usd(t, "7560")).Round(1).String())
	x, err := cost.BreakEven(100, 65536, func(x cost.Decimal) (cost.USD, error) {
		return queue(x.String(), "1000", 3), nil
	}, func(cost.Decimal) (cost.USD, error) { return usd(t, "500"), nil })
	if err != nil {
		t.Fatal(err)
	}
	check("002.sqs.break_even_bytes", x.Round(0).String())
	check("002.extension.delay.per_million", durationOf(t, month(perMonthOf("1000000"), cost.Month30Days, fn(cost.ArchX86, 1024, "500"))))
	check("002.stream.delay.per_million", durationOf(t, month(perMonthOf("1000000"), cost.Month30Days, fn(cost.ArchX86, 1024, "80"))))

	check("003.today.125.128", lookup(t, b, "lambda", "duration-x86").Tiers[0].Price.Mul(cost.GBSeconds(cost.Int(125), 128)).Fixed(12))
	for id, n := range expected {
		what, mb, ok := strings.Cut(strings.TrimPrefix(id, "003."), ".")
		if n.Seed != "003" || !ok || what != "free_seconds" && what != "price100ms" {
			continue
		}
		size, ok := dec(t, mb).Int64()
		if !ok {
			t.Fatalf("%s names no memory", id)
		}
		if what == "free_seconds" {
			check(id, cost.Int(cost.FreeGBSeconds).Quo(cost.GBSeconds(cost.Int(1000), lambdalog.MB(size))).Round(0).String())
			continue
		}
		check(id, usd(t, "0.00001667").Mul(cost.GBSeconds(cost.Int(100), lambdalog.MB(size))).Fixed(9))
	}
	check("004.workers.month", one("0", cost.Month730Hours, cost.EC2{Type: "m7i.2xlarge", Count: cost.Int(8)}))
	check("004.msk.month", one("0", cost.Month730Hours, cost.MSK{Type: "kafka.m7g.2xlarge", Brokers: cost.Int(3)}))
	reserved := month(perMonthOf("0"), cost.Month730Hours, nil, cost.EC2{Type: "m7i.2xlarge", Count: cost.Int(8), Reserved: true}).Month1
	check("004.ec2.discount", saving(reserved, usd(t, "2354.688")).Round(1).String())

	example := scenario(t, perMonthOf("3000000"), cost.Architecture{Name: "a", Functions: []cost.Function{*fn(cost.ArchX86, 1536, "120")}})
	example.FreeTier = true
	check("aws.ex1", forecast(t, example).Architectures[0].Month1.Fixed(2))
	ephemeral := fn(cost.ArchX86, 128, "280")
	ephemeral.EphemeralMB = 2048
	check("aws.ephemeral", amountOf(t, month(perMonthOf("6000000"), cost.Month30Days, ephemeral), "ephemeral-storage").Fixed(2))
	kept, err := cost.ProvisionedMonth(b, "us-east-1", cost.ArchX86, 100, 1536, cost.Int(8))
	if err != nil {
		t.Fatal(err)
	}
	check("aws.pc1", kept.Fixed(2))
	_, busy, _ := lookup(t, b, "lambda", "provisioned-duration-x86").Cost(cost.GBSeconds(cost.Int(100), 1536).Mul(cost.Int(500_000)))
	check("aws.pc1.duration", busy.Fixed(2))
	snap := fn(cost.ArchX86, 1024, "100")
	snap.SnapStart = &cost.SnapStart{Versions: cost.Int(1), RestoresPerInvocation: cost.Int(1)}
	traffic := cost.Traffic{RequestsPerHour: decp(t, "100")} // 74,400 in a December
	snapped := month(traffic, cost.MonthCalendar, snap)
	check("aws.snap.cache", amountOf(t, snapped, "snapstart-cache").Fixed(2))
	check("aws.snap.restore", amountOf(t, snapped, "snapstart-restore").Fixed(1))
	for id, q := range map[string]struct{ dimension, gbSeconds string }{
		"infracost.x86.tiers": {"duration-x86", "61440000000"}, "infracost.arm.tiers": {"duration-arm", "74752000000"},
	} {
		_, total, _ := lookup(t, b, "lambda", q.dimension).Cost(dec(t, q.gbSeconds))
		check(id, total.Fixed(2))
	}
	// What is left is arithmetic of the papers that no forecast repeats: sampling per hour, per-vCPU prices and so on.
	if len(checked) < 164 {
		t.Errorf("%d of 182 numbers come from the program's own code, there were 164", len(checked))
	}
	t.Logf("%d of 182 numbers come from the program's own code", len(checked))
}

func lookup(tb testing.TB, b *cost.PriceBook, service, dimension string) *cost.Price {
	tb.Helper()
	p, err := b.Lookup(service, dimension, "us-east-1")
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func amountOf(tb testing.TB, a cost.ArchitectureResult, dimension string) cost.USD {
	tb.Helper()
	return line(tb, a, dimension).Amount
}

func durationOf(tb testing.TB, a cost.ArchitectureResult) string {
	tb.Helper()
	return amountOf(tb, a, "duration-x86").Fixed(2)
}

// TestNumbersThatDoNotReproduceAreDocumented holds docs/costs.md to the list.
func TestNumbersThatDoNotReproduceAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/costs.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, n := range seedNumbers(t) {
		switch n.Status {
		case "reproduces", "ours", "derived", "input", "aws_example", "peer_golden":
			continue
		}
		found++
		if !strings.Contains(string(doc), "`"+n.ID+"`") {
			t.Errorf("docs/costs.md does not say why %s (%s) is %s", n.ID, n.Quote, n.Status)
		}
	}
	if found != 10 {
		t.Errorf("%d numbers do not simply reproduce, there were 10", found)
	}
}

// evaluate computes a formula: + − * /, parentheses, hup(x, places), floor, ceil, max and marginal
// tiers(quantity, (upto, price), …, (None, price)).
func evaluate(expr string, inputs map[string]string) (cost.Decimal, error) {
	p := &formula{text: strings.ReplaceAll(expr, " ", ""), inputs: inputs}
	v := p.sum()
	if p.err == nil && p.at != len(p.text) {
		p.fail("unexpected %q", p.text[p.at:])
	}
	if p.err == nil {
		p.err = v.Err()
	}
	return v, p.err
}

type formula struct {
	text   string
	at     int
	inputs map[string]string
	err    error
}

func (p *formula) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%s at %d: %s", p.text, p.at, fmt.Sprintf(format, args...))
	}
	p.at = len(p.text)
}

func (p *formula) take(s string) bool {
	if strings.HasPrefix(p.text[p.at:], s) {
		p.at += len(s)
		return true
	}
	return false
}

func (p *formula) sum() cost.Decimal {
	v := p.product()
	for {
		switch {
		case p.take("+"):
			v = v.Add(p.product())
		case p.take("-"):
			v = v.Sub(p.product())
		default:
			return v
		}
	}
}

func (p *formula) product() cost.Decimal {
	v := p.value()
	for {
		switch {
		case p.take("*"):
			v = v.Mul(p.value())
		case p.take("/"):
			v = v.Quo(p.value())
		default:
			return v
		}
	}
}

func (p *formula) value() cost.Decimal {
	if p.take("(") {
		v := p.sum()
		if !p.take(")") {
			p.fail("missing )")
		}
		return v
	}
	start := p.at
	for p.at < len(p.text) && (p.text[p.at] == '.' || p.text[p.at] >= '0' && p.text[p.at] <= '9' || p.text[p.at]|0x20 >= 'a' && p.text[p.at]|0x20 <= 'z') {
		p.at++
	}
	word := p.text[start:p.at]
	if p.take("(") {
		return p.call(word)
	}
	if input, ok := p.inputs[word]; ok {
		word = input
	}
	v, err := cost.ParseDecimal(word)
	if err != nil {
		p.fail("%q: %v", word, err)
	}
	return v
}

func (p *formula) call(name string) cost.Decimal {
	if name == "tiers" {
		return p.tiers()
	}
	args := []cost.Decimal{p.sum()}
	for p.take(",") {
		args = append(args, p.sum())
	}
	if !p.take(")") {
		p.fail("missing ) of %s", name)
		return cost.Decimal{}
	}
	switch {
	case name == "hup" && len(args) == 1:
		return args[0].Round(0)
	case name == "hup" && len(args) == 2:
		places, _ := args[1].Int64()
		return args[0].Round(int32(places))
	case name == "floor" && len(args) == 1:
		return args[0].Trunc(0)
	case name == "ceil" && len(args) == 1:
		return args[0].Ceil()
	case name == "max" && len(args) == 2:
		return cost.Int(0).Sub(cost.Int(0).Sub(args[0]).Min(cost.Int(0).Sub(args[1])))
	}
	p.fail("unknown function %s of %d", name, len(args))
	return cost.Decimal{}
}

func (p *formula) tiers() cost.Decimal {
	quantity, sum, from := p.sum(), cost.Int(0), cost.Int(0)
	for p.take(",") {
		if !p.take("(") {
			p.fail("a tier is (upto, price)")
			return sum
		}
		upto := quantity
		if !p.take("None") {
			upto = p.sum().Min(quantity)
		}
		if !p.take(",") {
			p.fail("a tier is (upto, price)")
			return sum
		}
		price := p.sum()
		if !p.take(")") {
			p.fail("missing ) of a tier")
			return sum
		}
		if part := upto.Sub(from); part.Sign() > 0 {
			sum = sum.Add(part.Mul(price))
			from = upto
		}
	}
	if !p.take(")") {
		p.fail("missing ) of tiers")
	}
	return sum
}
