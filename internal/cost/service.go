package cost

import (
	"errors"
	"fmt"
)

// Sizes in which services bill. All of them are binary.
const (
	kib = 1024
	gib = 1 << 30
	// httpUnit is what one HTTP API request may carry before it counts twice.
	httpUnit = 512 * kib
	// sqsChunk is the billed chunk of an SQS call; it is not the largest message.
	sqsChunk = 64 * kib
	// putUnit is the payload unit of a Kinesis record.
	putUnit = 25 * kib
	// firehoseUnit is what every record is rounded up to, also inside a batch.
	firehoseUnit = 5 * kib
	// eventOverhead is what CloudWatch Logs adds to every event.
	eventOverhead = 26
	// ephemeralFree is the temporary storage that comes with a function.
	ephemeralFree = 512
)

// Free tiers beyond Lambda's, granted every month to every account.
const (
	freeSQSRequests = 1_000_000
	freeLogGB       = 5
)

// usageMonth is what a month asks of a service.
type usageMonth struct {
	requests Decimal // of the whole month
	hours    Decimal
	scale    Decimal // growth since the first month
	payload  Decimal // bytes per request
	free     bool
}

// quantity is a part of the month's usage of one priced dimension.
type quantity struct {
	service, dimension string
	amount, free       Decimal
	price              *Price     // replaces the book's price when the user states one
	of                 *[2]string // service and dimension that the price is a fraction of
}

// Service is something an architecture uses beside Lambda functions. The
// services of this package are the only ones.
type Service interface {
	// Check returns what is wrong with the service's own figures.
	Check() error
	// usage returns what a month uses of it.
	usage(m usageMonth) []quantity
}

var (
	_ Service = APIGateway{}
	_ Service = S3{}
	_ Service = Logs{}
	_ Service = Kinesis{}
	_ Service = Firehose{}
	_ Service = SQS{}
	_ Service = DynamoDB{}
	_ Service = EC2{}
	_ Service = VCPU{}
	_ Service = Fargate{}
	_ Service = MSK{}
	_ Service = ALB{}
	_ Service = EKS{}
	_ Service = NAT{}
	_ Service = Ops{}
)

// lambdaService is Lambda's name in the price book.
const lambdaService = "lambda"

func q(service, dimension string, amount Decimal) quantity {
	return quantity{service: service, dimension: dimension, amount: amount}
}

// units returns how many units of size bytes take, each started one counting whole; 1 for nothing.
func units(bytes Decimal, size int64) Decimal {
	n := bytes.Quo(Int(size)).Ceil()
	if n.Sign() <= 0 {
		return Int(1)
	}
	return n
}

func gigabytes(bytes Decimal) Decimal { return bytes.Quo(Int(gib)) }

// Volume is a number of records: so many per request, or as many as make up a
// monthly volume, which grows with the traffic. Set one of the two.
type Volume struct {
	// PerRequest is the number of records per request.
	PerRequest *Decimal
	// GB is the volume of the first month in GiB.
	GB *Decimal
}

// records returns the number of records of so many bytes in a month.
func (v Volume) records(m usageMonth, bytes Decimal) Decimal {
	if v.GB != nil {
		return v.GB.Mul(m.scale).Mul(Int(gib)).Quo(bytes)
	}
	if v.PerRequest != nil {
		return m.requests.Mul(*v.PerRequest)
	}
	return m.requests
}

func (v Volume) check(bytes Decimal) error {
	switch {
	case v.GB != nil && v.PerRequest != nil:
		return errors.New("a number per request and a volume are given; keep one")
	case v.GB != nil && v.GB.Sign() < 0, v.PerRequest != nil && v.PerRequest.Sign() < 0:
		return errors.New("a negative number of records")
	case bytes.Sign() <= 0:
		return errors.New("the size of a record must be above 0 bytes")
	}
	return nil
}

// notNegative returns an error that names the first negative value.
func notNegative(values ...Decimal) error {
	for _, v := range values {
		if v.Sign() < 0 {
			return fmt.Errorf("%s is negative", v)
		}
	}
	return nil
}

// APIGateway is the entrance of every request.
type APIGateway struct {
	// REST bills requests; else it is an HTTP API, which bills every started 512 KB.
	REST bool
}

// Check implements Service.
func (APIGateway) Check() error { return nil }

func (a APIGateway) usage(m usageMonth) []quantity {
	if a.REST {
		return []quantity{q("apigateway", "rest-requests", m.requests)}
	}
	return []quantity{q("apigateway", "http-requests", m.requests.Mul(units(m.payload, httpUnit)))}
}

// S3 is object storage.
type S3 struct {
	// PutsPerRequest and GetsPerRequest are API calls per request.
	PutsPerRequest, GetsPerRequest Decimal
	// StorageGB is the mean stored volume of the first month in GiB: the
	// integral of stored bytes over time. It grows with the traffic.
	StorageGB Decimal
}

// Check implements Service.
func (s S3) Check() error { return notNegative(s.PutsPerRequest, s.GetsPerRequest, s.StorageGB) }

func (s S3) usage(m usageMonth) []quantity {
	return []quantity{
		q("s3", "put-copy-post-list", m.requests.Mul(s.PutsPerRequest)),
		q("s3", "get-and-other", m.requests.Mul(s.GetsPerRequest)),
		q("s3", "standard-storage", s.StorageGB.Mul(m.scale)),
	}
}

// LogKind is the price class of log ingestion.
type LogKind string

// The kinds of logs.
const (
	// LogsVended are Lambda's own log groups, which have tiers since 2025-05.
	LogsVended LogKind = "vended"
	// LogsCustom are all other log groups.
	LogsCustom LogKind = "custom"
	// LogsVendedS3 are Lambda's own logs delivered to S3 or Firehose without a log group.
	LogsVendedS3 LogKind = "vended-s3"
	// LogsVendedIA and LogsCustomIA are the same in the infrequent-access class.
	LogsVendedIA LogKind = "vended-ia"
	LogsCustomIA LogKind = "custom-ia"
)

func (k LogKind) dimension() string {
	switch k {
	case LogsVended:
		return "ingest-vended-lambda"
	case LogsCustom:
		return "ingest-custom-standard"
	case LogsVendedS3:
		return "vended-delivery-s3-or-firehose"
	case LogsVendedIA:
		return "ingest-vended-lambda-ia"
	case LogsCustomIA:
		return "ingest-custom-ia"
	}
	return ""
}

// Logs is CloudWatch Logs.
type Logs struct {
	// Kind is the price class.
	Kind LogKind
	// BytesPerRequest and EventsPerRequest make up the ingested bytes; every
	// event adds 26 bytes, unless BytesPerRequest has them in it already.
	BytesPerRequest, EventsPerRequest Decimal
	// GB is the ingested volume of the first month instead, in GiB.
	GB Decimal
	// StorageGB is the mean stored volume in compressed GiB; it grows with the traffic.
	StorageGB Decimal
	// InsightsGB is what queries of Logs Insights scan in the first month, in GiB; it grows with the traffic.
	InsightsGB Decimal
}

// Check implements Service.
func (l Logs) Check() error {
	if l.Kind.dimension() == "" {
		return fmt.Errorf("kind is %.20q, want vended, custom, vended-s3, vended-ia or custom-ia", l.Kind)
	}
	if l.GB.Sign() > 0 && (l.BytesPerRequest.Sign() > 0 || l.EventsPerRequest.Sign() > 0) {
		return errors.New("bytes per request and a volume are given; keep one")
	}
	return notNegative(l.BytesPerRequest, l.EventsPerRequest, l.GB, l.StorageGB, l.InsightsGB)
}

func (l Logs) usage(m usageMonth) []quantity {
	perRequest := l.BytesPerRequest.Add(l.EventsPerRequest.Mul(Int(eventOverhead)))
	in := q("cloudwatch-logs", l.Kind.dimension(), gigabytes(m.requests.Mul(perRequest)).Add(l.GB.Mul(m.scale)))
	if m.free && l.Kind != LogsVendedS3 {
		in.free = Int(freeLogGB)
	}
	return []quantity{
		in, q("cloudwatch-logs", "storage", l.StorageGB.Mul(m.scale)), q("cloudwatch-logs", "insights-scanned", l.InsightsGB.Mul(m.scale)),
	}
}

// Kinesis is a data stream.
type Kinesis struct {
	// Shards is the number of provisioned shards; 0 means on-demand capacity.
	// Provision for the peak: a shard takes 1 MiB/s and 1,000 records a second.
	// It does not grow with the traffic.
	Shards Decimal
	// RecordBytes is the size of a record. Every record counts by itself, also
	// in PutRecords: per started 25 KB, or per started KB on demand.
	RecordBytes Decimal
	// Records says how many there are.
	Records Volume
	// Consumers is the number of readers of an on-demand stream, each billed for what it reads.
	Consumers Decimal
	// FanOut is the number of readers with enhanced fan-out: billed for what they
	// read and, on a provisioned stream, for every shard and hour.
	FanOut Decimal
	// RetentionHours above 24 and up to 168 bill every provisioned shard once more; 0 means 24.
	RetentionHours Decimal
}

// Check implements Service.
func (k Kinesis) Check() error {
	if k.RetentionHours.Cmp(Int(168)) > 0 {
		return fmt.Errorf("retention of %s hours, up to 168 can be priced", k.RetentionHours)
	}
	return errors.Join(k.Records.check(k.RecordBytes), notNegative(k.Shards, k.Consumers, k.FanOut, k.RetentionHours))
}

func (k Kinesis) usage(m usageMonth) []quantity {
	records := k.Records.records(m, k.RecordBytes)
	if k.Shards.Sign() > 0 {
		shardHours, extended := k.Shards.Mul(m.hours), Int(0)
		if k.RetentionHours.Cmp(Int(24)) > 0 {
			extended = shardHours
		}
		return []quantity{
			q("kinesis", "shard-hour", shardHours),
			q("kinesis", "put-payload-unit", records.Mul(units(k.RecordBytes, putUnit))),
			q("kinesis", "extended-retention", extended),
			q("kinesis", "efo-consumer-shard-hour", shardHours.Mul(k.FanOut)),
			q("kinesis", "efo-data", gigabytes(records.Mul(k.RecordBytes)).Mul(k.FanOut)),
		}
	}
	return []quantity{
		q("kinesis", "ondemand-stream-hour", m.hours),
		q("kinesis", "ondemand-data-in", gigabytes(records.Mul(units(k.RecordBytes, kib)).Mul(Int(kib)))),
		q("kinesis", "ondemand-data-out", gigabytes(records.Mul(k.RecordBytes)).Mul(k.Consumers)),
		q("kinesis", "ondemand-efo-out", gigabytes(records.Mul(k.RecordBytes)).Mul(k.FanOut)),
	}
}

// Firehose is a delivery stream.
type Firehose struct {
	// RecordBytes is the size of a record, which is rounded up to 5 KB by itself, also in PutRecordBatch.
	RecordBytes Decimal
	// Records says how many there are.
	Records Volume
}

// Check implements Service.
func (f Firehose) Check() error { return f.Records.check(f.RecordBytes) }

func (f Firehose) usage(m usageMonth) []quantity {
	billed := f.Records.records(m, f.RecordBytes).Mul(units(f.RecordBytes, firehoseUnit)).Mul(Int(firehoseUnit))
	return []quantity{q("firehose", "ingest-direct-put-or-kinesis", gigabytes(billed))}
}

// SQS is a queue.
type SQS struct {
	// MessageBytes is the size of a message.
	MessageBytes Decimal
	// Messages says how many there are.
	Messages Volume
	// Calls is how far a message goes: 1 it is sent, 2 also received, 3 also deleted; 0 means 3.
	Calls int
	// Batch is the number of messages in a call, 1 to 10; 0 means 1. A call
	// counts per started 64 KiB of all its messages.
	Batch int
	// FIFO is the ordered kind of queue.
	FIFO bool
	// IdlePollers is how many pollers of a trigger find nothing all month: each
	// asks every 20 seconds. An idle trigger has about 5.
	IdlePollers Decimal
}

// Check implements Service.
func (s SQS) Check() error {
	if s.Calls < 0 || s.Calls > 3 {
		return fmt.Errorf("%d calls per message, want 1 (send), 2 (receive) or 3 (delete)", s.Calls)
	}
	if s.Batch < 0 || s.Batch > 10 {
		return fmt.Errorf("batch of %d, want 1 to 10", s.Batch)
	}
	return errors.Join(s.Messages.check(s.MessageBytes), notNegative(s.IdlePollers))
}

func (s SQS) usage(m usageMonth) []quantity {
	batch, calls := Int(int64(max(s.Batch, 1))), s.Calls
	if calls == 0 {
		calls = 3
	}
	batches := s.Messages.records(m, s.MessageBytes).Quo(batch)
	carrying := units(s.MessageBytes.Mul(batch), sqsChunk)
	total := batches.Mul(carrying) // send
	if calls >= 2 {
		total = total.Add(batches.Mul(carrying)) // receive carries the payload again
	}
	if calls >= 3 {
		total = total.Add(batches) // delete carries none
	}
	total = total.Add(s.IdlePollers.Mul(m.hours).Mul(Int(emptyReceives)))
	u := q("sqs", "requests-standard", total)
	if s.FIFO {
		u.dimension = "requests-fifo"
	}
	if m.free {
		u.free = Int(freeSQSRequests)
	}
	return []quantity{u}
}

// DynamoDB is an on-demand table.
type DynamoDB struct {
	// ItemBytes is the size of an item: writes count per started KB, reads per started 4 KB.
	ItemBytes Decimal
	// WritesPerRequest and ReadsPerRequest are items per request.
	WritesPerRequest, ReadsPerRequest Decimal
	// Eventual makes reads eventually consistent, at half the units.
	Eventual bool
	// StorageGB is the mean stored volume in GiB; it grows with the traffic.
	StorageGB Decimal
}

// Check implements Service.
func (d DynamoDB) Check() error {
	if d.ItemBytes.Sign() <= 0 {
		return errors.New("the size of an item must be above 0 bytes")
	}
	return notNegative(d.WritesPerRequest, d.ReadsPerRequest, d.StorageGB)
}

func (d DynamoDB) usage(m usageMonth) []quantity {
	reads := m.requests.Mul(d.ReadsPerRequest).Mul(units(d.ItemBytes, 4*kib))
	if d.Eventual {
		reads = reads.Quo(Int(2))
	}
	return []quantity{
		q("dynamodb", "write-request-unit", m.requests.Mul(d.WritesPerRequest).Mul(units(d.ItemBytes, kib))),
		q("dynamodb", "read-request-unit", reads),
		q("dynamodb", "storage", d.StorageGB.Mul(m.scale)),
	}
}

// EC2 is a fixed number of instances that run all month.
type EC2 struct {
	// Type is the instance type, such as m7i.2xlarge.
	Type string
	// Count is how many there are; it does not grow with the traffic.
	Count Decimal
	// Reserved takes the reserved price instead of on demand.
	Reserved bool
}

// Check implements Service.
func (e EC2) Check() error {
	if e.Type == "" {
		return errors.New("no instance type")
	}
	return notNegative(e.Count)
}

func (e EC2) usage(m usageMonth) []quantity {
	kind := "linux-on-demand."
	if e.Reserved {
		kind = "linux-reserved."
	}
	return []quantity{q("ec2", kind+e.Type, e.Count.Mul(m.hours))}
}

// VCPU is a share of a server at a price that the user states, such as pods on
// a cluster that exists anyway.
type VCPU struct {
	// PriceHour is the price of a vCPU for an hour.
	PriceHour USD
	// CPUs is the number of vCPUs per node and Nodes how many nodes there are, or
	// the fewest when they follow the traffic.
	CPUs, Nodes Decimal
	// Scaling makes the number of nodes follow the traffic.
	Scaling Scaling
}

// Check implements Service.
func (v VCPU) Check() error {
	if !v.PriceHour.Round(jsonPlaces).Equal(v.PriceHour) {
		return fmt.Errorf("price %s has more than %d decimals", v.PriceHour, jsonPlaces)
	}
	return errors.Join(notNegative(v.PriceHour.Decimal(), v.CPUs, v.Nodes), v.Scaling.check())
}

func (v VCPU) usage(m usageMonth) []quantity {
	u := q("vcpu", "vcpu-hour", v.CPUs.Mul(v.Scaling.servers(m, v.CPUs, v.Nodes)).Mul(m.hours))
	u.price = statedPrice(u.service, u.dimension, "vCPU-hour", v.PriceHour)
	return []quantity{u}
}

// Fargate is a number of tasks that run all month.
type Fargate struct {
	// Arch is the processor architecture.
	Arch Arch
	// VCPU and MemoryGB are those of one task, Tasks how many run, or the fewest when they follow the traffic.
	VCPU, MemoryGB, Tasks Decimal
	// Scaling makes the number of tasks follow the traffic.
	Scaling Scaling
}

// Check implements Service.
func (f Fargate) Check() error {
	if f.Arch != ArchARM && f.Arch != ArchX86 {
		return fmt.Errorf("architecture is %.20q, want arm64 or x86_64", f.Arch)
	}
	return errors.Join(notNegative(f.VCPU, f.MemoryGB, f.Tasks), f.Scaling.check())
}

func (f Fargate) usage(m usageMonth) []quantity {
	suffix := archSuffix(f.Arch)
	hours := f.Scaling.servers(m, f.VCPU, f.Tasks).Mul(m.hours)
	return []quantity{
		q("fargate", "fargate-vcpu-hour"+suffix, hours.Mul(f.VCPU)),
		q("fargate", "fargate-gb-hour"+suffix, hours.Mul(f.MemoryGB)),
	}
}

// MSK is a Kafka cluster.
type MSK struct {
	// Type is the broker type, such as kafka.m7g.2xlarge, and Brokers how many there are.
	Type    string
	Brokers Decimal
	// StorageGB is the storage of one broker in GiB. Brokers and storage do not grow with the traffic.
	StorageGB Decimal
}

// Check implements Service.
func (k MSK) Check() error {
	if k.Type == "" {
		return errors.New("no broker type")
	}
	return notNegative(k.Brokers, k.StorageGB)
}

func (k MSK) usage(m usageMonth) []quantity {
	return []quantity{
		q("msk", "broker-hour."+k.Type, k.Brokers.Mul(m.hours)),
		q("msk", "storage", k.StorageGB.Mul(k.Brokers)),
	}
}

// ALB is an application load balancer.
type ALB struct {
	// LCUs is the mean number of load balancer capacity units in the first month;
	// it grows with the traffic. One takes 25 new connections a second, 3,000
	// active ones, 1 GB an hour or 1,000 rule evaluations a second, whichever is most.
	LCUs Decimal
}

// Check implements Service.
func (a ALB) Check() error { return notNegative(a.LCUs) }

func (a ALB) usage(m usageMonth) []quantity {
	return []quantity{q("elb", "alb-hour", m.hours), q("elb", "alb-lcu-hour", a.LCUs.Mul(m.scale).Mul(m.hours))}
}

// EKS is the control plane of Kubernetes clusters, without nodes.
type EKS struct {
	// Clusters is how many there are; it does not grow with the traffic.
	Clusters Decimal
	// ExtendedSupport bills a Kubernetes version that is out of standard support.
	ExtendedSupport bool
}

// Check implements Service.
func (e EKS) Check() error { return notNegative(e.Clusters) }

func (e EKS) usage(m usageMonth) []quantity {
	dimension := "cluster-hour"
	if e.ExtendedSupport {
		dimension = "cluster-hour-extended-support"
	}
	return []quantity{q("eks", dimension, e.Clusters.Mul(m.hours))}
}

// NAT is a number of NAT gateways.
type NAT struct {
	// Gateways is how many there are, usually one for each zone; it does not grow with the traffic.
	Gateways Decimal
	// BytesPerRequest goes through them for every request.
	BytesPerRequest Decimal
	// GB is the volume of the first month instead, in GiB; it grows with the traffic.
	GB Decimal
}

// Check implements Service.
func (n NAT) Check() error {
	if n.GB.Sign() > 0 && n.BytesPerRequest.Sign() > 0 {
		return errors.New("bytes per request and a volume are given; keep one")
	}
	return notNegative(n.Gateways, n.BytesPerRequest, n.GB)
}

func (n NAT) usage(m usageMonth) []quantity {
	return []quantity{
		q("vpc", "nat-hour", n.Gateways.Mul(m.hours)),
		q("vpc", "nat-gb", gigabytes(m.requests.Mul(n.BytesPerRequest)).Add(n.GB.Mul(m.scale))),
	}
}

// Ops is what running the architecture costs beside AWS, such as people, as the user states it.
type Ops struct {
	// Monthly is the amount a month; it does not grow with the traffic.
	Monthly USD
}

// Check implements Service.
func (o Ops) Check() error {
	if !o.Monthly.Round(jsonPlaces).Equal(o.Monthly) {
		return fmt.Errorf("amount %s has more than %d decimals", o.Monthly, jsonPlaces)
	}
	return notNegative(o.Monthly.Decimal())
}

func (o Ops) usage(usageMonth) []quantity {
	if o.Monthly.Sign() == 0 {
		return nil
	}
	u := q("ops", "month", Int(1))
	u.price = statedPrice(u.service, u.dimension, "month", o.Monthly)
	return []quantity{u}
}

// SavingsPlan is a compute savings plan for the duration of a function; requests keep their price.
type SavingsPlan string

// The savings plans that the price book knows.
const (
	// SavingsPlan1Y is one year without upfront payment.
	SavingsPlan1Y SavingsPlan = "1y-no-upfront"
	// SavingsPlanUpfront pays everything upfront.
	SavingsPlanUpfront SavingsPlan = "all-upfront"
)

// Provisioned keeps environments of a function ready. Such a function has no
// free tier, and what exceeds its environments runs on demand.
type Provisioned struct {
	// Environments is how many are kept.
	Environments int
	// HoursPerDay is for how long; nil means 24.
	HoursPerDay *Decimal
}

func (p *Provisioned) hours(m Decimal) Decimal {
	if p.HoursPerDay == nil {
		return m
	}
	return m.Mul(*p.HoursPerDay).Quo(Int(24))
}

// busy returns the share of the invocations that run in the environments: what
// Erlang's loss formula does not throttle, in the hours in which they are there.
func (p *Provisioned) busy(load float64) Decimal {
	share := fromFloat(1 - ErlangB(p.Environments, load))
	if p.HoursPerDay != nil {
		share = share.Mul(*p.HoursPerDay).Quo(Int(24))
	}
	return share
}

// SnapStart bills the snapshot of a function and every restore of it. It is free for Java.
type SnapStart struct {
	// Versions is how many published versions keep a snapshot, all month.
	Versions Decimal
	// RestoresPerInvocation is the share of invocations that restore it: that of cold starts.
	RestoresPerInvocation Decimal
}
