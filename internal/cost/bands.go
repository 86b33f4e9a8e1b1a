package cost

import (
	"fmt"
)

// Variation is another view of the future: what a scenario's low or high band
// takes instead of its base. A nil field leaves the base as it is.
type Variation struct {
	// Growth replaces the growth per month.
	Growth *Decimal
	// Requests and Billed multiply the traffic and the billed time.
	Requests, Billed *Decimal
	// ColdShare replaces the share of cold starts, where the cold and the warm
	// mean are known: from records, or from warm_ms and cold_ms.
	ColdShare *Decimal
	// Batch multiplies the size of batches: functions that take several requests
	// at once run so much less often and so much longer.
	Batch *Decimal
}

func (v *Variation) problems(name string) []error {
	var problems []error
	bad := func(msg, hint string) { problems = append(problems, userError("band "+name+": "+msg, hint)) }
	if v.Growth != nil && !validGrowth(*v.Growth) {
		bad(fmt.Sprintf("growth of %s a month is out of range", v.Growth), "write 0.02 or 2%")
	}
	for _, f := range [...]struct {
		key string
		d   *Decimal
	}{{"batch", v.Batch}, {"billed", v.Billed}, {"requests", v.Requests}} {
		if f.d != nil && (f.d.Sign() <= 0 || f.d.Cmp(Int(1000)) > 0) {
			bad(fmt.Sprintf("%s of %s", f.key, f.d), "write a factor above 0, such as 1.2")
		}
	}
	if c := v.ColdShare; c != nil && (c.Sign() < 0 || c.Cmp(Int(1)) > 0) {
		bad(fmt.Sprintf("cold share of %s", c), "give a share between 0 and 1")
	}
	return problems
}

// apply changes copies of a scenario and one of its architectures.
func (v *Variation) apply(s *Scenario, a *Architecture) {
	if v.Growth != nil {
		s.Growth = *v.Growth
	}
	if v.Requests != nil {
		scaleTraffic(s, a, *v.Requests)
	}
	for i := range a.Functions {
		f := &a.Functions[i]
		factor := Int(1)
		if v.Billed != nil {
			factor = factor.Mul(*v.Billed)
		}
		if v.ColdShare != nil {
			if other, ok := f.Billed.withColdShare(*v.ColdShare); ok {
				factor = factor.Mul(other.Quo(f.Billed.mean()))
			}
		}
		if per := f.PerRequest; v.Batch != nil && per != nil && per.Cmp(Int(1)) < 0 {
			fewer := per.Quo(*v.Batch)
			f.PerRequest = &fewer
			factor = factor.Mul(*v.Batch)
		}
		f.Billed.factor = &factor
	}
}

// scaleTraffic multiplies the traffic of an architecture.
func scaleTraffic(s *Scenario, a *Architecture, by Decimal) {
	t := s.Traffic
	if a.Traffic != nil {
		t = *a.Traffic
	}
	// Validity of the traffic itself is checked when it is priced.
	if perHour, err := t.PerHour(); err == nil {
		perHour = perHour.Mul(by)
		a.Traffic = &Traffic{RequestsPerHour: &perHour, PayloadBytes: t.PayloadBytes, Dispersion: t.Dispersion}
	}
}

// withColdShare returns the mean billed milliseconds with another share of cold
// invocations; false when the cold and the warm mean are not both known.
func (b *Billed) withColdShare(share Decimal) (Decimal, bool) {
	var warm, cold Decimal
	switch {
	case b.Usage != nil:
		w, c, ok := b.Usage.means()
		if !ok {
			return Decimal{}, false
		}
		warm, cold = w, c
	case b.ColdMS == nil:
		return Decimal{}, false
	case b.WarmMS != nil:
		warm, cold = *b.WarmMS, *b.ColdMS
	case b.ColdShare != nil && b.ColdShare.Cmp(Int(1)) < 0:
		// The mean holds the cold ones already.
		cold = *b.ColdMS
		warm = b.MeanMS.Sub(b.ColdShare.Mul(cold)).Quo(Int(1).Sub(*b.ColdShare))
	default:
		return Decimal{}, false
	}
	return Int(1).Sub(share).Mul(warm).Add(share.Mul(cold)), warm.Sign() >= 0
}

// means returns the mean billed milliseconds of warm and of cold invocations;
// false unless there are both.
func (u *Usage) means() (warm, cold Decimal, ok bool) {
	var n [2]int64
	sum := [2]Decimal{Int(0), Int(0)}
	for c, k := range u.cells {
		i := 0
		if c.cold {
			i = 1
		}
		n[i] += k
		sum[i] = sum[i].Add(durationMS(c.billed).Mul(Int(k)))
	}
	if n[0] == 0 || n[1] == 0 {
		return Decimal{}, Decimal{}, false
	}
	return sum[0].Quo(Int(n[0])), sum[1].Quo(Int(n[1])), true
}

// Bands are a forecast under the scenario's low and high variation: how wrong the
// traffic, the growth and the like may turn out. It is another thing than the
// sampling interval, which says how well the billed time is known.
type Bands struct {
	Low  Band `json:"low"`
	High Band `json:"high"`
}

// Band is the forecast of one architecture under a variation.
type Band struct {
	Month1 USD         `json:"month_1_usd"`
	Total  USD         `json:"total_usd"`
	Months []BandMonth `json:"months"`
}

// BandMonth is one month of a band.
type BandMonth struct {
	Month YearMonth `json:"month"`
	Total USD       `json:"total_usd"`
}

// bands prices an architecture under both variations; nil without any.
func (s *Scenario) bands(book *PriceBook, name string) (*Bands, error) {
	if s.Low == nil && s.High == nil {
		return nil, nil //nolint:nilnil // a scenario without bands has none
	}
	out := new(Bands)
	for _, side := range [...]struct {
		v  *Variation
		to *Band
	}{{s.Low, &out.Low}, {s.High, &out.High}} {
		months, err := s.monthsOf(book, name, func(s *Scenario, a *Architecture) {
			if side.v != nil {
				side.v.apply(s, a)
			}
		})
		if err != nil {
			return nil, err
		}
		for i, total := range months {
			side.to.Months = append(side.to.Months, BandMonth{s.Start.Add(i), total})
			side.to.Total = side.to.Total.Add(total)
		}
		side.to.Month1 = months[0]
	}
	return out, nil
}

// PriceConfidence splits the first month by how sure the prices of its lines are.
type PriceConfidence struct {
	High   USD `json:"high_usd"`
	Medium USD `json:"medium_usd"`
	Low    USD `json:"low_usd"`
}

func confidenceOf(lines []Line) PriceConfidence {
	var c PriceConfidence
	for i := range lines {
		to := &c.Low
		switch lines[i].Confidence {
		case ConfidenceHigh:
			to = &c.High
		case ConfidenceMedium:
			to = &c.Medium
		case ConfidenceLow:
		}
		*to = to.Add(lines[i].Amount)
	}
	return c
}
