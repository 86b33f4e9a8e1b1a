package cost

import (
	"errors"
	"fmt"
)

const (
	// websocketUnit is what a message of a WebSocket API may carry before it counts twice.
	websocketUnit = 32 * kib
	// asyncFirst is what an asynchronous event may carry as one request, asyncUnit every further one.
	asyncFirst = 256 * kib
	asyncUnit  = 64 * kib
	// streamFree is what a streamed response may carry before it is billed.
	streamFree = 6 << 20
	// emptyReceives is how often an idle poller of a queue asks in an hour: a long poll lasts 20 s.
	emptyReceives = 3600 / 20
)

// Free tiers of transfer and streaming, granted every month.
const (
	freeTransferGB = 100
	freeStreamedGB = 100
)

var (
	_ Service = WebSocket{}
	_ Service = Transfer{}
	_ Service = ManagedInstances{}
)

// WebSocket is a WebSocket API of API Gateway.
type WebSocket struct {
	// MessagesPerRequest counts both directions.
	MessagesPerRequest Decimal
	// MessageBytes is the size of a message; every started 32 KB counts. 0 means small.
	MessageBytes Decimal
	// MinutesPerRequest is the time of a connection that falls on a request, in minutes.
	MinutesPerRequest Decimal
}

// Check implements Service.
func (w WebSocket) Check() error {
	return notNegative(w.MessagesPerRequest, w.MessageBytes, w.MinutesPerRequest)
}

func (w WebSocket) usage(m usageMonth) []quantity {
	return []quantity{
		q("apigateway", "websocket-messages", m.requests.Mul(w.MessagesPerRequest).Mul(units(w.MessageBytes, websocketUnit))),
		q("apigateway", "websocket-connection-minutes", m.requests.Mul(w.MinutesPerRequest)),
	}
}

// Transfer is what leaves a zone, a region or AWS. All volumes are GiB of the
// first month and grow with the traffic. Between Lambda and S3, SQS, Kinesis or
// DynamoDB in one region it costs nothing.
type Transfer struct {
	// InternetGB goes out to the internet, InternetBytesPerRequest too, for every request.
	InternetGB, InternetBytesPerRequest Decimal
	// ZoneGB crosses from one zone to another; it is billed on each side.
	ZoneGB Decimal
	// RegionGB goes to another region.
	RegionGB Decimal
}

// Check implements Service.
func (t Transfer) Check() error {
	return notNegative(t.InternetGB, t.InternetBytesPerRequest, t.ZoneGB, t.RegionGB)
}

func (t Transfer) usage(m usageMonth) []quantity {
	out := q("data-transfer", "internet-out", gigabytes(m.requests.Mul(t.InternetBytesPerRequest)).Add(t.InternetGB.Mul(m.scale)))
	if m.free {
		out.free = Int(freeTransferGB)
	}
	return []quantity{
		out,
		q("data-transfer", "inter-az", t.ZoneGB.Mul(m.scale).Mul(Int(2))),
		q("data-transfer", "inter-region-us-or-eu", t.RegionGB.Mul(m.scale)),
	}
}

// ManagedInstances are Lambda functions on EC2 instances of their own: the
// instances and a fee on their on-demand price are billed instead of the
// duration. They do not grow with the traffic.
type ManagedInstances struct {
	// Type is the instance type and Count how many run; three cover three zones.
	Type  string
	Count Decimal
	// Hours is for how long all of them run in a month; nil means all month.
	Hours *Decimal
	// PriceHour replaces the on-demand price of an instance, such as by a savings
	// plan; the fee stays that of the on-demand price. nil means on demand.
	PriceHour *Decimal
	// PerRequest is the number of invocations per request; nil means 1.
	PerRequest *Decimal
}

// Check implements Service.
func (l ManagedInstances) Check() error {
	if l.Type == "" {
		return errors.New("no instance type")
	}
	for _, d := range [...]*Decimal{l.Hours, l.PriceHour, l.PerRequest} {
		if d != nil && d.Sign() < 0 {
			return fmt.Errorf("%s is negative", d)
		}
	}
	return notNegative(l.Count)
}

func (l ManagedInstances) usage(m usageMonth) []quantity {
	hours := l.Count.Mul(m.hours)
	if l.Hours != nil {
		hours = l.Count.Mul(*l.Hours)
	}
	requests := m.requests
	if l.PerRequest != nil {
		requests = requests.Mul(*l.PerRequest)
	}
	instances := q("ec2", "linux-on-demand."+l.Type, hours)
	if l.PriceHour != nil {
		instances.price = statedPrice("ec2", "instances."+l.Type, "instance-hour", Dollars(*l.PriceHour))
	}
	fee := q(lambdaService, "managed-instances-fee", hours)
	fee.of = &[2]string{"ec2", "linux-on-demand." + l.Type}
	return []quantity{instances, fee, q(lambdaService, "requests", requests)}
}

// statedPrice is a price that the scenario states.
func statedPrice(service, dimension, unit string, price USD) *Price {
	return &Price{
		ID: service + "." + dimension + "@scenario", Service: service, Dimension: dimension, Region: "scenario", Unit: unit,
		Tiers: []Tier{{Price: price}}, AsOf: "scenario", Source: []string{"scenario"}, Confidence: ConfidenceLow,
	}
}

// shareOf is a price that is a fraction of another one, such as the fee of managed instances.
func shareOf(fraction, whole *Price) *Price {
	p := *fraction
	p.Unit = whole.Unit
	p.Tiers = []Tier{{Price: whole.Tiers[0].Price.Mul(fraction.Tiers[0].Price.Decimal())}}
	p.Confidence = fraction.Confidence.worse(whole.Confidence)
	p.AsOf = min(fraction.AsOf, whole.AsOf)
	return &p
}

// Scaling makes servers follow the traffic. The zero value does not: their number is fixed.
type Scaling struct {
	// CPUMSPerRequest is the CPU time that a request takes, in milliseconds.
	CPUMSPerRequest Decimal
	// UtilisationRatio is how busy the vCPUs may be at the peak; 0 means 0.6.
	UtilisationRatio Decimal
	// PeakRatio is the rate at the peak over its mean; 0 means 1.
	PeakRatio Decimal
}

func (s Scaling) check() error {
	if s.UtilisationRatio.Cmp(Int(1)) > 0 {
		return fmt.Errorf("utilisation of %s, want a ratio of at most 1", s.UtilisationRatio)
	}
	return notNegative(s.CPUMSPerRequest, s.UtilisationRatio, s.PeakRatio)
}

// vcpus returns the vCPUs that the peak of a month needs.
func (s Scaling) vcpus(m usageMonth) Decimal {
	use, peak := s.UtilisationRatio, s.PeakRatio
	if use.Sign() == 0 {
		use = Frac(6, 1)
	}
	if peak.Sign() == 0 {
		peak = Int(1)
	}
	perSecond := m.requests.Quo(m.hours.Mul(Int(3600))).Mul(peak)
	return perSecond.Mul(s.CPUMSPerRequest).Quo(Int(1000)).Quo(use)
}

// servers returns how many servers of so many vCPUs the peak needs, and at least least.
func (s Scaling) servers(m usageMonth, each, least Decimal) Decimal {
	if s.CPUMSPerRequest.Sign() == 0 || each.Sign() <= 0 {
		return least
	}
	n := s.vcpus(m).Quo(each).Ceil()
	if n.Cmp(least) < 0 {
		return least
	}
	return n
}

// asyncRequests returns as how many requests an asynchronous event counts: one
// for the first 256 KB and one for every further 64 KB.
func asyncRequests(payload Decimal) Decimal {
	more := payload.Sub(Int(asyncFirst))
	if more.Sign() <= 0 {
		return Int(1)
	}
	return Int(1).Add(units(more, asyncUnit))
}

// Durable is the part of a durable function that is billed beside its invocations.
type Durable struct {
	// OperationsPerInvocation are steps, waits and the like.
	OperationsPerInvocation Decimal
	// BytesPerInvocation are written, and RetainedGB is the mean volume kept, in GiB, in the first month.
	BytesPerInvocation, RetainedGB Decimal
}

// Pollers are the event pollers of a function in provisioned mode.
type Pollers struct {
	// Source is sqs or kafka.
	Source string
	// Units is how many run all month. SQS needs at least 2.
	Units Decimal
}

// more returns what n invocations of the function use beside requests and duration.
func (f *Function) more(n Decimal, m usageMonth) []quantity {
	var list []quantity
	if b := f.StreamedBytes; b != nil {
		over := b.Sub(Int(streamFree))
		if over.Sign() < 0 {
			over = Int(0)
		}
		u := q(lambdaService, "response-streaming", gigabytes(n.Mul(over)))
		if m.free {
			u.free = Int(freeStreamedGB)
		}
		list = append(list, u)
	}
	if d := f.Durable; d != nil {
		list = append(list,
			q(lambdaService, "durable-operations", n.Mul(d.OperationsPerInvocation)),
			q(lambdaService, "durable-data-written", gigabytes(n.Mul(d.BytesPerInvocation))),
			q(lambdaService, "durable-data-retained", d.RetainedGB.Mul(m.scale)))
	}
	if p := f.Pollers; p != nil {
		list = append(list, q(lambdaService, "esm-poller-unit-"+p.Source, p.Units.Mul(m.hours)))
	}
	return list
}
