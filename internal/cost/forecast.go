package cost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// ForecastSchema is the schema of Result's JSON form.
const ForecastSchema = "cirrusbench/forecast/v1"

// Arch is the processor architecture of a function.
type Arch string

// The architectures, as Lambda names them.
const (
	// ArchARM is Graviton.
	ArchARM Arch = "arm64"
	// ArchX86 is Intel and AMD.
	ArchX86 Arch = "x86_64"
)

// ParseArch reads arm64 or x86_64, and the short forms arm and x86.
func ParseArch(s string) (Arch, error) {
	switch s {
	case "arm64", "arm":
		return ArchARM, nil
	case "x86_64", "x86", "amd64":
		return ArchX86, nil
	}
	return "", fmt.Errorf("architecture is %.20q, want arm64 or x86_64", s)
}

func (a Arch) durationDimension() string {
	if a == ArchARM {
		return "duration-arm"
	}
	return "duration-x86"
}

func (a Arch) requestsDimension() string {
	if a == ArchARM {
		return "requests-arm"
	}
	return "requests"
}

// Lambda's monthly free tier, granted once per payer over all functions,
// regions and architectures: 1,000,000 requests and 400,000 GB-seconds
// (AWS Lambda pricing page, 2026-10).
const (
	FreeRequests  = 1_000_000
	FreeGBSeconds = 400_000
)

// DefaultQuota is the concurrency that an AWS account has per region unless it
// asked for more. New accounts may have less.
const DefaultQuota = 1000

// requestsPerEnvironment is how many synchronous requests a second one unit of
// concurrency admits: the request quota is ten times the concurrency quota, so
// a function faster than 100 ms runs into the request quota first.
const requestsPerEnvironment = 10

// maxMonths bounds a forecast: fifty years.
const maxMonths = 600

// Traffic is the number of requests per hour in the first month. Set exactly
// one of its three forms.
type Traffic struct {
	// RequestsPerHour is the number itself.
	RequestsPerHour *Decimal
	// Clusters times PerClusterPerHour is the number.
	Clusters, PerClusterPerHour *Decimal
	// Concurrency is a measured mean number of busy environments, and MeanMS
	// the mean duration with which it was measured. By Little's law the rate is
	// concurrency / duration.
	Concurrency, MeanMS *Decimal
	// PayloadBytes is the size of a request, for services that bill by it; nil means small.
	PayloadBytes *Decimal
	// Dispersion is the variance of the number of requests over its mean, in
	// windows as long as an invocation: 1 for independent arrivals (nil), more
	// for bursts.
	Dispersion *Decimal
}

func (t Traffic) payload() Decimal {
	if t.PayloadBytes == nil {
		return Int(0)
	}
	return *t.PayloadBytes
}

// PerHour returns the requests per hour.
func (t Traffic) PerHour() (Decimal, error) {
	forms := 0
	var rate Decimal
	if t.RequestsPerHour != nil {
		forms++
		rate = *t.RequestsPerHour
	}
	if t.Clusters != nil || t.PerClusterPerHour != nil {
		forms++
		if t.Clusters == nil || t.PerClusterPerHour == nil {
			return Decimal{}, userError("clusters and requests per cluster and hour must be given together",
				"give both, for instance --clusters 891.5 --per-cluster-per-hour 1500")
		}
		rate = t.Clusters.Mul(*t.PerClusterPerHour)
	}
	if t.Concurrency != nil {
		forms++
		if t.MeanMS == nil || t.MeanMS.Sign() <= 0 {
			return Decimal{}, userError("a concurrency says nothing about requests without the mean duration it was measured with",
				"give the mean too, for instance --concurrency 354 --baseline-ms 953")
		}
		rate = t.Concurrency.Mul(Int(3_600_000)).Quo(*t.MeanMS)
	}
	switch {
	case forms == 0:
		return Decimal{}, userError("the number of requests is not given",
			"give --requests-per-hour, or --clusters (times --per-cluster-per-hour, 1500 unless given), or --concurrency")
	case forms > 1:
		return Decimal{}, userError("the number of requests is given more than once",
			"keep one of requests per hour, clusters, and concurrency")
	case rate.Err() != nil:
		return Decimal{}, rate.Err()
	case rate.Sign() < 0:
		return Decimal{}, userError("the number of requests is negative", "give a number of requests that is 0 or more")
	}
	return rate, nil
}

// Billed is what is known of the billed time of a function: either records, or
// stated means.
type Billed struct {
	// Usage holds measured records. When set, the other fields are not used.
	Usage *Usage
	// From names a file of records that is to be read into Usage; see Scenario.ReadRecords.
	From string
	// MeanMS is the mean billed time over all invocations, cold ones included.
	MeanMS *Decimal
	// WarmMS is the mean over warm invocations; with ColdMS and ColdShare it makes up MeanMS.
	WarmMS *Decimal
	// ColdMS is the mean billed time of cold invocations.
	ColdMS *Decimal
	// ColdShare is the share of cold invocations, in [0, 1].
	ColdShare *Decimal
	// Samples is the number of invocations behind MeanMS when it was measured, else 0.
	Samples int64

	factor *Decimal // scales the billed time for a what-if
}

// BilledOf returns the billed time that a summary of records states, without
// the durations themselves, so that no interval can be given.
func BilledOf(s lambdalog.Summary) (Billed, error) {
	if s.Billable == 0 || !s.BilledMS.Mean.Known {
		return Billed{}, inputError("the run has no billed durations", "run against a target that reports them, such as lambda://FUNCTION")
	}
	mean := durationMS(s.BilledMS.Mean.Value)
	if s.BilledMS.Sum.Known {
		mean = durationMS(s.BilledMS.Sum.Value).Quo(Int(s.Billable))
	}
	b := Billed{MeanMS: &mean, Samples: s.Billable}
	if s.Reports > 0 {
		share := Int(s.Cold).Quo(Int(s.Reports))
		b.ColdShare = &share
	}
	return b, nil
}

// IsRun says whether a file that begins with head is a run as `cirrusbench
// replay` writes it, and not Lambda's own records.
func IsRun(head []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")) && bytes.Contains(head, []byte(`"`+stats.RunSchema+`"`))
}

// BilledOfRun returns what the target of a run said it billed, and the memory of
// its function, 0 when it has none or several.
func BilledOfRun(r io.Reader, name string) (Billed, lambdalog.MB, error) {
	run, err := stats.ReadRun(r, name)
	if err != nil {
		return Billed{}, 0, err
	}
	var s lambdalog.Summary
	if len(run.Billed) > 0 {
		if err := json.Unmarshal(run.Billed, &s); err != nil {
			return Billed{}, 0, fmt.Errorf("reading billed of %s: %w", name, err)
		}
	}
	b, err := BilledOf(s)
	if err != nil {
		return Billed{}, 0, fmt.Errorf("%s: %w", name, err)
	}
	memory := lambdalog.MB(0)
	if len(s.Memory) == 1 {
		memory = s.Memory[0].MB
	}
	return b, memory, nil
}

// Function is one Lambda function of an architecture.
type Function struct {
	// Name tells it apart; it may be empty when there is only one.
	Name string
	// Arch is its processor architecture.
	Arch Arch
	// Memory is its configured memory. 0 takes what the records state; a value
	// that differs from theirs prices the same durations at another memory.
	Memory lambdalog.MB
	// Billed is its billed time per invocation.
	Billed Billed
	// PerRequest is the number of invocations per request; nil means 1. A
	// function that takes batches of 500 has 1/500.
	PerRequest *Decimal
	// EphemeralMB is its temporary storage; what is above 512 MB is billed by
	// the time it runs. 0 means 512.
	EphemeralMB lambdalog.MB
	// Plan prices the duration by a savings plan; empty means list price.
	Plan SavingsPlan
	// Provisioned and SnapStart are nil when not used.
	Provisioned *Provisioned
	SnapStart   *SnapStart
	// Async functions are billed by the size of their events: a request for the
	// first 256 KB of the payload and one for every further 64 KB.
	Async bool
	// StreamedBytes is the size of a streamed response; what is above 6 MB is billed. nil means not streamed.
	StreamedBytes *Decimal
	// Durable and Pollers are nil when not used.
	Durable *Durable
	Pollers *Pollers

	memoryFactor *Decimal // scales the memory for a what-if
}

// Architecture is one way to serve the traffic.
type Architecture struct {
	// Name tells it apart.
	Name string
	// Traffic replaces the scenario's own when set.
	Traffic *Traffic
	// Functions run for every request. The free tier and the price tiers count over all of them.
	Functions []Function
	// Services are what else it uses.
	Services []Service
}

// Scenario is everything a forecast depends on, besides prices.
type Scenario struct {
	// Region is the AWS region that prices are taken for.
	Region string
	// Month is the length of a month, Start the first month, and Months how many there are.
	Month  MonthRule
	Start  YearMonth
	Months int
	// Growth is the growth of the traffic per month: 0.02 for 2 %.
	Growth Decimal
	// FreeTier grants the monthly free tier, once for every architecture.
	FreeTier bool
	// Traffic is that of the first month.
	Traffic Traffic
	// Architectures are priced one by one.
	Architectures []Architecture
	// Baseline and Candidate name the two that are compared; empty means the first and the second.
	Baseline, Candidate string
	// Quota is the concurrency quota; 0 means DefaultQuota.
	Quota int
	// Seed makes the intervals reproducible.
	Seed uint64
	// Low and High are the variations of the scenario's bands; nil means no band on that side.
	Low, High *Variation
}

// Validate returns every problem of the scenario.
func (s *Scenario) Validate() error {
	var problems []error
	bad := func(msg, hint string) { problems = append(problems, userError(msg, hint)) }
	if s.Region == "" {
		bad("no region", "give --region, for instance --region us-east-1")
	}
	if _, err := ParseMonthRule(string(s.Month)); err != nil {
		bad(err.Error(), "give --month calendar, --month 30d or --month 730h")
	}
	if s.Months < 1 || s.Months > maxMonths {
		bad(fmt.Sprintf("%d months, want 1 to %d", s.Months, maxMonths), "give --months, for instance --months 24")
	}
	if s.Start.Year < 2000 || s.Start.Year > 2999 || s.Start.Month < time.January || s.Start.Month > time.December {
		bad("no first month", "give --start, for instance --start 2026-12")
	}
	if !validGrowth(s.Growth) {
		bad(fmt.Sprintf("growth of %s a month is out of range", s.Growth), "give the growth per month, for instance --growth 2%")
	}
	if s.Quota < 0 {
		bad("the concurrency quota is negative", "leave it out to use 1000")
	}
	if len(s.Architectures) == 0 {
		bad("nothing to price", "give a file of Lambda records, or --mean-ms, or --scenario")
	}
	if slices.ContainsFunc(s.Architectures, func(a Architecture) bool { return a.Traffic == nil }) {
		if _, err := s.Traffic.PerHour(); err != nil {
			problems = append(problems, err)
		}
	}
	for name, v := range map[string]*Variation{"low": s.Low, "high": s.High} {
		if v != nil {
			problems = append(problems, v.problems(name)...)
		}
	}
	names := make(map[string]bool)
	for _, a := range s.Architectures {
		if names[a.Name] {
			bad(fmt.Sprintf("two architectures are named %q", a.Name), "give each its own name")
		}
		names[a.Name] = true
		problems = append(problems, a.problems()...)
	}
	for _, name := range [...]string{s.Baseline, s.Candidate} {
		if name != "" && !names[name] {
			bad(fmt.Sprintf("there is no architecture %q to compare", name), "name one of the scenario's architectures")
		}
	}
	return errors.Join(problems...)
}

// validGrowth admits what shrinks to less than all and grows at most elevenfold a month.
func validGrowth(g Decimal) bool { return g.Cmp(Int(-1)) > 0 && g.Cmp(Int(10)) <= 0 }

func (a Architecture) problems() []error {
	var problems []error
	bad := func(msg, hint string) { problems = append(problems, userError(a.Name+": "+msg, hint)) }
	if len(a.Functions) == 0 && len(a.Services) == 0 {
		bad("no function and no service", "give its Lambda function, or another service")
	}
	for _, svc := range a.Services {
		if err := svc.Check(); err != nil {
			bad(fmt.Sprintf("%T: %v", svc, err), "correct the figures of this service")
		}
	}
	for i := range a.Functions {
		problems = append(problems, a.Functions[i].problems(a.Name)...)
		problems = append(problems, a.Functions[i].Billed.problems(a.Name)...)
	}
	return problems
}

// problems checks a function without its billed time.
func (f *Function) problems(name string) []error {
	var problems []error
	bad := func(msg, hint string) { problems = append(problems, userError(name+": "+msg, hint)) }
	if f.Arch != ArchARM && f.Arch != ArchX86 {
		bad(fmt.Sprintf("architecture is %.20q", f.Arch), "give --arch arm64 or --arch x86_64")
	}
	if f.Memory != 0 && (f.Memory < 128 || f.Memory > 10240) {
		bad(fmt.Sprintf("memory of %d MB, Lambda has 128 to 10240", f.Memory), "give a memory of Lambda's, for instance 128")
	}
	if f.EphemeralMB != 0 && (f.EphemeralMB < ephemeralFree || f.EphemeralMB > 10240) {
		bad(fmt.Sprintf("temporary storage of %d MB, Lambda has 512 to 10240", f.EphemeralMB), "leave it out to use 512")
	}
	if f.PerRequest != nil && f.PerRequest.Sign() < 0 {
		bad("a negative number of invocations per request", "give 0 or more")
	}
	return append(problems, f.optionProblems(name)...)
}

// optionProblems checks what a function has beside its billed time.
func (f *Function) optionProblems(name string) []error {
	var problems []error
	bad := func(msg, hint string) { problems = append(problems, userError(name+": "+msg, hint)) }
	switch f.Plan {
	case "", SavingsPlan1Y, SavingsPlanUpfront:
	default:
		bad(fmt.Sprintf("savings plan is %.20q", f.Plan), "write 1y-no-upfront or all-upfront")
	}
	if p := f.Provisioned; p != nil {
		if p.Environments < 1 || p.Environments > 1_000_000 {
			bad(fmt.Sprintf("%d provisioned environments", p.Environments), "give a number of at least 1")
		}
		if h := p.HoursPerDay; h != nil && (h.Sign() <= 0 || h.Cmp(Int(24)) > 0) {
			bad(fmt.Sprintf("provisioned for %s hours a day", h), "give more than 0 and at most 24")
		}
	}
	if b := f.StreamedBytes; b != nil && b.Sign() < 0 {
		bad(fmt.Sprintf("streams %s bytes", b), "give 0 or more")
	}
	if d := f.Durable; d != nil {
		if err := notNegative(d.OperationsPerInvocation, d.BytesPerInvocation, d.RetainedGB); err != nil {
			bad(fmt.Sprintf("durable: %v", err), "give 0 or more")
		}
	}
	if p := f.Pollers; p != nil && (p.Source != "sqs" && p.Source != "kafka" || p.Units.Sign() <= 0 || p.Source == "sqs" && p.Units.Cmp(Int(2)) < 0) {
		bad(fmt.Sprintf("%s pollers of %.20q", p.Units, p.Source), "give source: sqs with units of at least 2, or source: kafka")
	}
	if s := f.SnapStart; s != nil && (s.Versions.Sign() < 0 || s.RestoresPerInvocation.Sign() < 0 || s.RestoresPerInvocation.Cmp(Int(1)) > 0) {
		bad("SnapStart needs 0 or more versions and a share of restores between 0 and 1", "correct versions or restores_per_invocation")
	}
	return problems
}

func (b Billed) problems(name string) []error {
	var problems []error
	bad := func(msg, hint string) { problems = append(problems, userError(name+": "+msg, hint)) }
	if b.Usage != nil {
		if b.Usage.Invocations() == 0 {
			problems = append(problems, inputError(name+": the records hold no billed invocation",
				"give a file with REPORT lines; `cirrusbench invocations FILE` shows what it holds"))
		}
		return problems
	}
	if b.From != "" {
		bad(fmt.Sprintf("records of %q were not read", b.From), "read them before forecasting")
		return problems
	}
	for label, d := range map[string]*Decimal{"mean": b.MeanMS, "warm": b.WarmMS, "cold": b.ColdMS} {
		if d != nil && (d.Sign() <= 0 || d.Cmp(Int(900_000)) > 0) {
			bad(fmt.Sprintf("%s billed time of %s ms is out of range", label, d), "Lambda bills between 1 ms and 900,000 ms")
		}
	}
	if b.ColdShare != nil && (b.ColdShare.Sign() < 0 || b.ColdShare.Cmp(Int(1)) > 0) {
		bad(fmt.Sprintf("cold share of %s", b.ColdShare), "give a share between 0 and 1")
	}
	switch {
	case b.MeanMS != nil && b.WarmMS != nil:
		bad("both a mean and a warm mean are given", "the mean includes cold invocations already; keep one")
	case b.MeanMS == nil && b.WarmMS == nil:
		bad("no billed time", "give a file of records, or --mean-ms")
	case b.WarmMS != nil && (b.ColdMS == nil || b.ColdShare == nil):
		bad("a warm mean needs the cold mean and the cold share", "give cold_ms and cold_share with warm_ms")
	}
	slices.SortFunc(problems, func(x, y error) int { return compareStrings(x.Error(), y.Error()) })
	return problems
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// mean returns the mean billed milliseconds.
func (b Billed) mean() Decimal {
	switch {
	case b.Usage != nil:
		return b.Usage.BilledMS().Quo(Int(b.Usage.Invocations()))
	case b.MeanMS != nil:
		return *b.MeanMS
	default:
		warm := Int(1).Sub(*b.ColdShare)
		return warm.Mul(*b.WarmMS).Add(b.ColdShare.Mul(*b.ColdMS))
	}
}

// rate is what one invocation of a function takes, on average.
type rate struct {
	arch       Arch
	perRequest Decimal
	billedMS   Decimal
	gbSeconds  Decimal
	ephemeral  lambdalog.MB // billed part only
	low, high  Decimal      // factors that scale gbSeconds to the bounds of the interval
	measured   bool
	wallMS     float64
	coldMS     float64 // 0 when unknown
	interval   Interval
	colds, n   int64
	share      *Decimal
	memory     lambdalog.MB // 0 when several or none is known
	f          *Function
}

// rate returns what one invocation takes, with its interval.
func (f Function) rate(seed uint64) (rate, error) {
	r, err := f.price()
	if err != nil || f.Billed.Usage == nil {
		return r, err
	}
	r.interval = f.Billed.Usage.Interval(seed)
	if r.billedMS.Sign() > 0 {
		r.low = fromFloat(r.interval.Low).Quo(r.billedMS)
		r.high = fromFloat(r.interval.High).Quo(r.billedMS)
	}
	return r, nil
}

// price returns what one invocation takes.
func (f Function) price() (rate, error) {
	r := rate{
		arch: f.Arch, perRequest: Int(1), billedMS: f.Billed.mean(), low: Int(1), high: Int(1),
		ephemeral: max(0, f.EphemeralMB-ephemeralFree), share: f.Billed.ColdShare, memory: f.Memory, f: &f,
	}
	if f.PerRequest != nil {
		r.perRequest = *f.PerRequest
	}
	if u := f.Billed.Usage; u != nil {
		total, err := u.GBSeconds(f.Memory)
		if err != nil {
			return rate{}, err
		}
		r.measured, r.n, r.colds = true, u.Invocations(), u.Cold()
		if sizes := u.Memory(); r.memory == 0 && len(sizes) == 1 {
			r.memory = sizes[0]
		}
		r.gbSeconds = total.Quo(Int(r.n))
		r.wallMS = u.MeanWallMS()
		r.coldMS, _ = u.ColdWallMS()
		share := Int(r.colds).Quo(Int(r.n))
		r.share = &share
	} else {
		if f.Memory == 0 {
			return rate{}, userError("the memory size is not given", "state it with --memory, for instance --memory 128")
		}
		r.gbSeconds = GBSeconds(r.billedMS, f.Memory)
		r.wallMS = r.billedMS.Float64()
		if f.Billed.ColdMS != nil {
			r.coldMS = f.Billed.ColdMS.Float64()
		}
	}
	for _, by := range [...]*Decimal{f.Billed.factor, f.memoryFactor} {
		if by != nil {
			r.gbSeconds = r.gbSeconds.Mul(*by)
		}
	}
	if r.memory == 0 && (f.Provisioned != nil || f.SnapStart != nil) {
		return rate{}, userError("provisioned concurrency and SnapStart need one memory size", "state it with memory_mb")
	}
	if f.Billed.factor != nil {
		r.billedMS = r.billedMS.Mul(*f.Billed.factor)
	}
	return r, nil
}

// measured says whether records stand behind every rate, so that an interval can be given.
func measured(rates []rate) bool {
	return len(rates) > 0 && !slices.ContainsFunc(rates, func(r rate) bool { return !r.measured })
}

// Line is one billed dimension in the first month.
type Line struct {
	// Service and Dimension name the price, UsageType is its name on AWS's bill.
	Service   string `json:"service"`
	Dimension string `json:"dimension"`
	UsageType string `json:"usage_type"`
	// Quantity is what is used, FreeQuantity the part that the free tier takes off.
	Quantity     Decimal `json:"quantity"`
	FreeQuantity Decimal `json:"free_quantity"`
	Unit         string  `json:"unit"`
	// Amount is the sum over Tiers.
	Amount USD          `json:"amount_usd"`
	Tiers  []TierAmount `json:"tiers"`
	// AsOf is the date of the price, Source where it was read, Confidence how sure it is.
	AsOf       string     `json:"as_of"`
	Source     []string   `json:"source"`
	Confidence Confidence `json:"confidence"`
}

// priceLine prices what is used beyond the free part.
func priceLine(book *PriceBook, region string, u quantity) (Line, error) {
	p := u.price
	if p == nil {
		var err error
		if p, err = book.Lookup(u.service, u.dimension, region); err != nil {
			return Line{}, err
		}
		if u.of != nil {
			whole, err := book.Lookup(u.of[0], u.of[1], region)
			if err != nil {
				return Line{}, err
			}
			p = shareOf(p, whole)
		}
	}
	free := u.free.Min(u.amount)
	tiers, amount, sure := p.Cost(u.amount.Sub(free))
	if tiers == nil {
		tiers = []TierAmount{}
	}
	return Line{
		Service: u.service, Dimension: u.dimension, UsageType: p.UsageType,
		Quantity: u.amount, FreeQuantity: free, Unit: p.Unit, Amount: amount, Tiers: tiers,
		AsOf: p.AsOf, Source: p.Source, Confidence: sure,
	}, nil
}

// bound says which end of the interval of the billed time is priced.
type bound int

const (
	boundMean bound = iota
	boundLow
	boundHigh
)

// lambdaUsage returns what the functions use in a month. The free tier is taken
// off here because requests and GB-seconds of both architectures share it.
func lambdaUsage(rates []rate, m usageMonth, at bound) []quantity {
	freeRequests, freeGBSeconds := Int(0), Int(0)
	if m.free {
		freeRequests, freeGBSeconds = Int(FreeRequests), Int(FreeGBSeconds)
	}
	var list, extras []quantity
	// AWS does not say which architecture the free tier is taken off first. The
	// dearer one comes first here, which favours the customer.
	for _, arch := range [...]Arch{ArchX86, ArchARM} {
		count, storage := q(lambdaService, arch.requestsDimension(), Int(0)), q(lambdaService, "ephemeral-storage", Int(0))
		freeCount := Int(0)
		var durations []quantity
		var freeDurations []Decimal // the part of each that the free tier may take off
		for i := range rates {
			r := &rates[i]
			if r.arch != arch {
				continue
			}
			n := m.requests.Mul(r.perRequest)
			requests := n
			if r.f.Async {
				requests = n.Mul(asyncRequests(m.payload))
			}
			count.amount = count.amount.Add(requests)
			gbSeconds := n.Mul(r.gbSeconds).Mul(r.scale(at))
			onDemand, more := r.options(gbSeconds, n, m)
			extras = append(append(extras, more...), r.f.more(n, m)...)
			dimension := arch.durationDimension()
			if r.f.Plan != "" {
				dimension = "savings-plan-" + string(r.f.Plan) + archSuffix(arch)
			}
			j := slices.IndexFunc(durations, func(d quantity) bool { return d.dimension == dimension })
			if j < 0 {
				j = len(durations)
				durations = append(durations, q(lambdaService, dimension, Int(0)))
				freeDurations = append(freeDurations, Int(0))
			}
			durations[j].amount = durations[j].amount.Add(onDemand)
			if r.f.Provisioned == nil {
				freeCount = freeCount.Add(requests)
				freeDurations[j] = freeDurations[j].Add(onDemand)
			}
			storage.amount = storage.amount.Add(n.Mul(GBSeconds(r.billedMS.Mul(r.scale(at)), r.ephemeral)))
		}
		if len(durations) == 0 {
			continue
		}
		count.free = freeRequests.Min(freeCount)
		freeRequests = freeRequests.Sub(count.free)
		list = append(list, count)
		for j, d := range durations {
			d.free = freeGBSeconds.Min(freeDurations[j])
			freeGBSeconds = freeGBSeconds.Sub(d.free)
			list = append(list, d)
		}
		if storage.amount.Sign() > 0 {
			list = append(list, storage)
		}
	}
	return append(list, extras...)
}

// scale returns the factor from the mean billed time to a bound of its interval.
func (r *rate) scale(at bound) Decimal {
	switch at {
	case boundLow:
		return r.low
	case boundHigh:
		return r.high
	case boundMean:
	}
	return Int(1)
}

// options splits the GB-seconds of n invocations into what runs on demand and
// what provisioned concurrency and SnapStart bill.
func (r *rate) options(gbSeconds, n Decimal, m usageMonth) (onDemand Decimal, more []quantity) {
	onDemand = gbSeconds
	second := GBSeconds(Int(1000), r.memory)
	if p := r.f.Provisioned; p != nil {
		const slot = 300 // configured time counts per started five minutes
		seconds := p.hours(m.hours).Mul(Int(3600)).Quo(Int(slot)).Ceil().Mul(Int(slot))
		load := n.Float64() / (m.hours.Float64() * 3600) * r.wallMS / 1000
		busy := gbSeconds.Mul(p.busy(load))
		onDemand = gbSeconds.Sub(busy)
		more = append(more,
			q(lambdaService, "provisioned-concurrency"+archSuffix(r.arch), second.Mul(Int(int64(p.Environments))).Mul(seconds)),
			q(lambdaService, "provisioned-duration"+archSuffix(r.arch), busy))
	}
	if s := r.f.SnapStart; s != nil {
		more = append(more,
			q(lambdaService, "snapstart-cache", second.Mul(s.Versions).Mul(m.hours).Mul(Int(3600))),
			q(lambdaService, "snapstart-restore", n.Mul(s.RestoresPerInvocation).Mul(second)))
	}
	return onDemand, more
}

// month prices one month. Parts of one dimension are priced together, because
// tiers and free tiers count over all of them.
func (s *Scenario) month(book *PriceBook, rates []rate, services []Service, m usageMonth, at bound) ([]Line, error) {
	var all []quantity
	parts := lambdaUsage(rates, m, at)
	functions := len(parts)
	for _, svc := range services {
		parts = append(parts, svc.usage(m)...)
	}
	for k, u := range parts {
		i := slices.IndexFunc(all, func(o quantity) bool {
			return o.service == u.service && o.dimension == u.dimension && o.price == nil && u.price == nil && o.of == nil && u.of == nil
		})
		switch {
		case i >= 0:
			all[i].amount = all[i].amount.Add(u.amount)
		case k < functions || u.amount.Sign() != 0 || u.amount.Err() != nil: // a function's lines are shown even at 0
			all = append(all, u)
		}
	}
	lines := make([]Line, 0, len(all))
	for _, u := range all {
		line, err := priceLine(book, s.Region, u)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func sumLines(lines []Line) USD {
	var sum USD
	for _, l := range lines {
		sum = sum.Add(l.Amount)
	}
	return sum
}

// Forecast prices every architecture of the scenario month by month.
func Forecast(s *Scenario, book *PriceBook) (*Result, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	res := &Result{
		Schema: ForecastSchema,
		Assumptions: Assumptions{
			Region: s.Region, Month: s.Month, Start: s.Start, Months: s.Months, Growth: s.Growth, FreeTier: s.FreeTier,
			Quota: s.quota(), Seed: s.Seed, PriceBook: BookRef{AsOf: book.AsOf(), SHA256: book.SHA256()},
		},
		Architectures: make([]ArchitectureResult, 0, len(s.Architectures)),
		Warnings:      []string{},
	}
	s.resample()
	for _, a := range s.Architectures {
		one, err := s.architecture(a, book)
		if err != nil {
			return nil, fmt.Errorf("pricing %s: %w", a.Name, err)
		}
		res.Architectures = append(res.Architectures, *one)
	}
	res.Comparison, res.Comparisons = s.compare(res.Architectures), s.compareAll(res.Architectures)
	if w := book.staleness(s.Start); w != "" {
		res.Warnings = append(res.Warnings, w)
	}
	res.Warnings = append(res.Warnings, s.unlikeServices()...)
	return res, nil
}

// resample finds the intervals of all records at the same time. Each Usage keeps
// its own, so that the goroutines share nothing.
func (s *Scenario) resample() {
	var all []*Usage
	for _, a := range s.Architectures {
		for _, f := range a.Functions {
			if u := f.Billed.Usage; u != nil && !slices.Contains(all, u) {
				all = append(all, u)
			}
		}
	}
	var wg sync.WaitGroup
	for _, u := range all {
		wg.Go(func() { u.Interval(s.Seed) })
	}
	wg.Wait()
}

func (s *Scenario) quota() int {
	if s.Quota == 0 {
		return DefaultQuota
	}
	return s.Quota
}

func (s *Scenario) architecture(a Architecture, book *PriceBook) (*ArchitectureResult, error) {
	traffic := s.Traffic
	if a.Traffic != nil {
		traffic = *a.Traffic
	}
	perHour, err := traffic.PerHour()
	if err != nil {
		return nil, err
	}
	rates := make([]rate, 0, len(a.Functions))
	for _, f := range a.Functions {
		r, err := f.rate(s.Seed)
		if err != nil {
			return nil, err
		}
		rates = append(rates, r)
	}
	out := &ArchitectureResult{Name: a.Name, Warnings: []string{}}
	for _, r := range rates {
		out.MeanBilledMS = out.MeanBilledMS.Add(r.perRequest.Mul(r.billedMS))
	}
	var low, high USD
	growth := Int(1).Add(s.Growth)
	for i := range s.Months {
		m := s.Start.Add(i)
		use := usageMonth{hours: s.Month.Hours(m), scale: growth.Pow(i), payload: traffic.payload(), free: s.FreeTier}
		use.requests = perHour.Mul(use.hours).Mul(use.scale)
		requests := use.requests
		lines, err := s.month(book, rates, a.Services, use, boundMean)
		if err != nil {
			return nil, err
		}
		total := sumLines(lines)
		if i == 0 {
			out.Lines, out.Month1, out.RequestsMonth1 = lines, total, requests.Round(0)
			out.NotCounted = s.notCounted(book, requests, rates, a.Services)
			if out.Lever, err = s.lever(book, rates, a.Services, use, lines); err != nil {
				return nil, err
			}
		}
		if i < 12 {
			out.Year1 = out.Year1.Add(total)
		}
		out.Total = out.Total.Add(total)
		out.Months = append(out.Months, MonthResult{Month: m, Requests: requests.Round(0), Total: total, Services: byService(lines)})
		if !measured(rates) {
			continue
		}
		lowLines, err := s.month(book, rates, a.Services, use, boundLow)
		if err != nil {
			return nil, err
		}
		highLines, err := s.month(book, rates, a.Services, use, boundHigh)
		if err != nil {
			return nil, err
		}
		in := &USDInterval{Low: sumLines(lowLines), High: sumLines(highLines)}
		out.Months[i].Interval = in
		low, high = low.Add(in.Low), high.Add(in.High)
	}
	if err := out.Total.Err(); err != nil {
		return nil, fmt.Errorf("summing months: %w", err)
	}
	out.describe(a, rates, low, high)
	out.PriceConfidence = confidenceOf(out.Lines)
	if out.Bands, err = s.bands(book, a.Name); err != nil {
		return nil, err
	}
	if len(a.Functions) == 1 {
		out.Headroom = a.Functions[0].headroom()
	}
	if len(a.Functions) > 0 {
		out.Concurrency = s.concurrency(perHour, traffic.Dispersion, a.Functions, rates)
		if w := out.Concurrency.warning(); w != "" {
			out.Warnings = append(out.Warnings, w)
		}
	}
	return out, nil
}

// describe fills in the sampling error and the cold starts.
func (out *ArchitectureResult) describe(a Architecture, rates []rate, low, high USD) {
	for _, f := range a.Functions {
		out.Samples += f.Billed.Samples
	}
	samples, cold, n := 0, int64(0), int64(0)
	var lowMS, highMS float64
	for i, r := range rates {
		samples += r.interval.Samples
		per := r.perRequest.Float64()
		lowMS += per * r.interval.Low
		highMS += per * r.interval.High
		cold += r.colds
		n += r.n
		if w := r.interval.Warning(); w != "" {
			out.Warnings = append(out.Warnings, w)
		}
		f := a.Functions[i]
		if f.Billed.Usage == nil {
			continue
		}
		out.Warnings = append(out.Warnings, f.Billed.Usage.Summary().Warnings...)
		if sizes := f.Billed.Usage.Memory(); f.Memory != 0 && !slices.Equal(sizes, []lambdalog.MB{f.Memory}) && sizes[len(sizes)-1] != 0 {
			out.Warnings = append(out.Warnings, fmt.Sprintf(
				"the records were measured with %v MB and are priced at %d MB: the durations would be others there", sizes, f.Memory))
		}
	}
	if measured(rates) {
		out.Samples = int64(samples)
		out.Interval = &MSInterval{Low: round(lowMS, 3), High: round(highMS, 3), Samples: samples, Method: rates[0].interval.Method}
		out.TotalInterval = &USDInterval{Low: low, High: high}
		lowShare, highShare := Wilson(cold, n)
		share := Int(cold).Quo(Int(n)).Round(6)
		out.Cold = Cold{Share: &share, Interval: &RatioInterval{Low: round(lowShare, 6), High: round(highShare, 6)}}
		return
	}
	if len(rates) == 1 {
		out.Cold = Cold{Share: rates[0].share}
	}
}

// byService sums lines by their service.
func byService(lines []Line) []ServiceAmount {
	var list []ServiceAmount
	for _, l := range lines {
		i := slices.IndexFunc(list, func(a ServiceAmount) bool { return a.Service == l.Service })
		if i < 0 {
			list = append(list, ServiceAmount{Service: l.Service, Amount: l.Amount})
			continue
		}
		list[i].Amount = list[i].Amount.Add(l.Amount)
	}
	return list
}

// compareAll sets every other architecture beside the baseline.
func (s *Scenario) compareAll(all []ArchitectureResult) []Comparison {
	list := []Comparison{}
	base := 0
	for i := range all {
		if s.Baseline != "" && all[i].Name == s.Baseline {
			base = i
		}
	}
	for i := range all {
		if i != base {
			list = append(list, *compareResults(&all[base], &all[i]))
		}
	}
	return list
}

// compare sets the candidate beside the baseline; nil with fewer than two architectures.
func (s *Scenario) compare(all []ArchitectureResult) *Comparison {
	if len(all) < 2 {
		return nil
	}
	find := func(name string, fallback int) *ArchitectureResult {
		for i := range all {
			if name != "" && all[i].Name == name {
				return &all[i]
			}
		}
		return &all[fallback]
	}
	base := find(s.Baseline, 0)
	fallback := 1
	if base.Name == all[1].Name {
		fallback = 0
	}
	return compareResults(base, find(s.Candidate, fallback))
}

func compareResults(base, cand *ArchitectureResult) *Comparison {
	c := &Comparison{Baseline: base.Name, Candidate: cand.Name, Savings: base.Total.Sub(cand.Total)}
	ratio := func(x, y Decimal) *Decimal {
		if q := x.Quo(y).Round(6); q.Err() == nil {
			return &q
		}
		return nil // nothing to divide by: null, not a number
	}
	both := func(x, y Decimal) *Decimal {
		if x.Sign() == 0 {
			return nil // one of them has no function
		}
		return ratio(x, y)
	}
	c.SavingsRatio = ratio(base.Total.Sub(cand.Total).Decimal(), base.Total.Decimal())
	c.CostRatio = ratio(base.Total.Decimal(), cand.Total.Decimal())
	c.DurationRatio = both(base.MeanBilledMS, cand.MeanBilledMS)
	if base.Concurrency != nil && cand.Concurrency != nil {
		c.ConcurrencyRatio = ratio(fromFloat(base.Concurrency.mean), fromFloat(cand.Concurrency.mean))
		c.QuotaRatio = ratio(fromFloat(base.Concurrency.need()), fromFloat(cand.Concurrency.need()))
	}
	return c
}

// round rounds a statistic for print.
func round(f float64, places int) float64 {
	scale := math.Pow(10, float64(places))
	return math.Round(f*scale) / scale
}
