package cost

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// TuneSchema is the schema of TuneResult's JSON form.
const TuneSchema = "cirrusbench/tune/v1"

// TuneInput is what was measured at one memory size.
type TuneInput struct {
	// Memory is the size.
	Memory lambdalog.MB
	// Billed holds records, or a mean and the number of invocations behind it.
	Billed Billed
}

// ByMemory sorts records by the memory size they state. Those that state none
// are an error of reading, not a size.
func ByMemory(into map[lambdalog.MB]*Usage, v lambdalog.Invocation) bool {
	if !v.Billable {
		return true
	}
	if v.Memory == 0 {
		return false
	}
	u, ok := into[v.Memory]
	if !ok {
		u = new(Usage)
		into[v.Memory] = u
	}
	u.Add(v)
	return true
}

// TuneConfig says how measured memory sizes are compared.
type TuneConfig struct {
	// Region and Arch decide the prices.
	Region string
	Arch   Arch
	// Balance weighs cost against speed in the balanced strategy: 1 is only cost, 0 only speed.
	Balance Decimal
	// Seed makes the intervals reproducible.
	Seed uint64
}

// TuneResult compares memory sizes of a function; its JSON form is cirrusbench/tune/v1.
type TuneResult struct {
	Schema  string         `json:"schema"`
	Tool    lambdalog.Tool `json:"tool"`
	Region  string         `json:"region"`
	Arch    Arch           `json:"arch"`
	Balance Decimal        `json:"balance_ratio"`
	Seed    uint64         `json:"seed"`
	Source  string         `json:"source"`
	Book    BookRef        `json:"price_book"`
	// Points are the memory sizes, smallest first.
	Points []TunePoint `json:"points"`
	// Cost, Speed and Balanced are the sizes that the three strategies choose.
	Cost     TuneChoice `json:"cost"`
	Speed    TuneChoice `json:"speed"`
	Balanced TuneChoice `json:"balanced"`
	Warnings []string   `json:"warnings"`
}

// TunePoint is one memory size.
type TunePoint struct {
	Memory lambdalog.MB `json:"memory_mb"`
	// Warm and Cold keep the two kinds of invocations apart; All has them in the
	// share in which they were measured. A kind that was not seen is nil.
	Warm *TuneCost `json:"warm"`
	Cold *TuneCost `json:"cold"`
	All  TuneCost  `json:"all"`
	// Pareto says that no other size is both cheaper and faster when warm.
	Pareto bool `json:"pareto"`
}

// TuneCost is what a million invocations of a kind cost, request fee included.
type TuneCost struct {
	Samples int `json:"samples"`
	// MeanMS is the mean billed time and Interval its 95 % interval; nil without single records.
	MeanMS   Decimal     `json:"mean_billed_ms"`
	Interval *MSInterval `json:"interval"`
	// DurationMS is the mean time that they ran, which is what a caller waits for.
	DurationMS float64 `json:"mean_duration_ms"`
	// PerMillion is the cost of a million, CostInterval its 95 % interval.
	PerMillion   USD          `json:"usd_per_million"`
	CostInterval *USDInterval `json:"usd_per_million_interval"`
}

// TuneChoice is what a strategy chooses.
type TuneChoice struct {
	Memory lambdalog.MB `json:"memory_mb"`
	// Tied are the sizes that the measurement does not tell from it: their intervals overlap.
	Tied []lambdalog.MB `json:"tied_mb"`
}

// perMillion is the number of invocations that costs are stated for.
const perMillion = 1_000_000

// Tune prices what was measured at each memory size and chooses the cheapest, the
// fastest and the best balanced one, by warm invocations where there are any: the
// cold share of a measurement says little about that of production. Nothing is
// trimmed: what is rare and long is billed too. The free tier is not taken off.
func Tune(in []TuneInput, c TuneConfig, book *PriceBook) (*TuneResult, error) {
	if len(in) == 0 {
		return nil, userError("there is nothing to compare", "give records of at least two memory sizes")
	}
	if c.Balance.Sign() < 0 || c.Balance.Cmp(Int(1)) > 0 {
		return nil, userError(fmt.Sprintf("the balance is %s, and must be between 0 and 1", c.Balance), "give a number from 0 (only speed) to 1 (only cost)")
	}
	r := &TuneResult{
		Schema: TuneSchema, Region: c.Region, Arch: c.Arch, Balance: c.Balance, Seed: c.Seed,
		Book: BookRef{AsOf: book.AsOf(), SHA256: book.SHA256()}, Warnings: []string{},
	}
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b TuneInput) int { return cmp.Compare(a.Memory, b.Memory) })
	for i := range in {
		if i > 0 && in[i].Memory == in[i-1].Memory {
			return nil, userError(fmt.Sprintf("%d MB stands twice", in[i].Memory), "join the records of one size in one run")
		}
		p, err := c.point(&in[i], book)
		if err != nil {
			return nil, err
		}
		r.Points = append(r.Points, *p)
		if w := tuneWarning(p); w != "" {
			r.Warnings = append(r.Warnings, fmt.Sprintf("%d MB: %s", p.Memory, w))
		}
	}
	if len(r.Points) == 1 {
		r.Warnings = append(r.Warnings, "only one memory size was measured: there is nothing to choose from")
	}
	r.choose()
	return r, nil
}

func tuneWarning(p *TunePoint) string {
	k := p.chosen()
	switch {
	case k.Interval == nil:
		return "no single records, so there is no interval"
	case k.Samples < enoughSamples:
		return fmt.Sprintf("too few samples: %d warm invocations, at least %d are needed; use the interval, not the mean", k.Samples, enoughSamples)
	}
	return ""
}

// chosen is what the strategies go by.
func (p *TunePoint) chosen() *TuneCost {
	if p.Warm != nil {
		return p.Warm
	}
	return &p.All
}

func (c *TuneConfig) point(in *TuneInput, book *PriceBook) (*TunePoint, error) {
	p := &TunePoint{Memory: in.Memory}
	f := Function{Arch: c.Arch, Memory: in.Memory, Billed: in.Billed}
	if problems := append(f.problems(fmt.Sprintf("%d MB", in.Memory)), in.Billed.problems(fmt.Sprintf("%d MB", in.Memory))...); len(problems) > 0 {
		return nil, problems[0]
	}
	million := func(ms Decimal) (USD, error) {
		var sum USD
		for _, u := range [...]quantity{
			q(lambdaService, c.Arch.requestsDimension(), Int(perMillion)),
			q(lambdaService, c.Arch.durationDimension(), GBSeconds(ms, in.Memory).Mul(Int(perMillion))),
		} {
			line, err := priceLine(book, c.Region, u)
			if err != nil {
				return USD{}, err
			}
			sum = sum.Add(line.Amount)
		}
		return sum, sum.Err()
	}
	priced := func(mean Decimal, duration float64, samples int, v Interval) (TuneCost, error) {
		k := TuneCost{Samples: samples, MeanMS: mean.Round(6), DurationMS: round(duration, 3)}
		var err error
		if k.PerMillion, err = million(mean); err != nil || v.Samples == 0 {
			return k, err
		}
		k.Interval = &MSInterval{Low: round(v.Low, 3), High: round(v.High, 3), Samples: v.Samples, Method: v.Method}
		k.CostInterval = new(USDInterval)
		if k.CostInterval.Low, err = million(fromFloat(v.Low)); err != nil {
			return k, err
		}
		k.CostInterval.High, err = million(fromFloat(v.High))
		return k, err
	}
	var err error
	u := in.Billed.Usage
	if u == nil {
		mean := in.Billed.mean()
		p.All, err = priced(mean, mean.Float64(), int(in.Billed.Samples), Interval{})
		return p, err
	}
	n := u.Invocations()
	if p.All, err = priced(u.BilledMS().Quo(Int(n)), u.MeanWallMS(), int(n), u.Interval(c.Seed)); err != nil {
		return nil, err
	}
	for _, kind := range [...]struct {
		cold bool
		to   **TuneCost
		wall float64
		n    int64
	}{{false, &p.Warm, u.wall - u.coldWall, u.walls - u.coldWalls}, {true, &p.Cold, u.coldWall, u.coldWalls}} {
		if kind.n == 0 {
			continue
		}
		list := u.counted(kind.cold)
		sum := Int(0)
		for _, v := range list {
			sum = sum.Add(fromFloat(v.value).Mul(Int(v.n)))
		}
		//nolint:gosec // statistics, not secrets
		v := bootstrap(list, nil, rand.New(rand.NewPCG(c.Seed, uint64(in.Memory))))
		k, err := priced(sum.Quo(Int(kind.n)), kind.wall/float64(kind.n), int(kind.n), v)
		if err != nil {
			return nil, err
		}
		*kind.to = &k
	}
	return p, nil
}

// counted returns how often each billed time was seen, in order.
func (u *Usage) counted(cold bool) []counted {
	m := make(map[float64]int64)
	for c, n := range u.cells {
		if c.cold == cold {
			m[durationMS(c.billed).Float64()] += n
		}
	}
	list := make([]counted, 0, len(m))
	for v, n := range m {
		list = append(list, counted{v, n})
	}
	slices.SortFunc(list, func(a, b counted) int { return cmp.Compare(a.value, b.value) })
	return list
}

// choose marks the Pareto front and applies the three strategies.
func (r *TuneResult) choose() {
	dearest, slowest := 0.0, 0.0
	costs, times := make([]float64, len(r.Points)), make([]float64, len(r.Points))
	for i := range r.Points {
		k := r.Points[i].chosen()
		costs[i], times[i] = k.PerMillion.Decimal().Float64(), k.DurationMS
		dearest, slowest = max(dearest, costs[i]), max(slowest, times[i])
	}
	balance := r.Balance.Float64()
	score := make([]float64, len(r.Points))
	for i := range r.Points {
		score[i] = balance*costs[i]/max(dearest, 1e-12) + (1-balance)*times[i]/max(slowest, 1e-12)
		r.Points[i].Pareto = true
		for j := range r.Points {
			if costs[j] <= costs[i] && times[j] <= times[i] && (costs[j] < costs[i] || times[j] < times[i]) {
				r.Points[i].Pareto = false
			}
		}
	}
	r.Cost = r.choice(costs, func(p *TunePoint) (low, high float64, ok bool) {
		v := p.chosen().CostInterval
		if v == nil {
			return 0, 0, false
		}
		return v.Low.Decimal().Float64(), v.High.Decimal().Float64(), true
	})
	r.Speed = r.choice(times, func(p *TunePoint) (low, high float64, ok bool) {
		v := p.chosen().Interval
		if v == nil {
			return 0, 0, false
		}
		return v.Low, v.High, true
	})
	r.Balanced = r.choice(score, func(*TunePoint) (low, high float64, ok bool) { return 0, 0, false })
}

// choice takes the smallest value; of two alike that on the Pareto front, else the smaller memory.
func (r *TuneResult) choice(values []float64, interval func(*TunePoint) (low, high float64, ok bool)) TuneChoice {
	best := 0
	for i := range values {
		if values[i] < values[best] || values[i] == values[best] && r.Points[i].Pareto && !r.Points[best].Pareto {
			best = i
		}
	}
	out := TuneChoice{Memory: r.Points[best].Memory, Tied: []lambdalog.MB{}}
	low, high, ok := interval(&r.Points[best])
	if !ok {
		return out
	}
	for i := range r.Points {
		l, h, ok := interval(&r.Points[i])
		if i != best && ok && l <= high && h >= low {
			out.Tied = append(out.Tied, r.Points[i].Memory)
		}
	}
	return out
}
