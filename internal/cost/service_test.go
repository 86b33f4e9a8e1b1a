package cost_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// perMonth is traffic that makes n requests in a month of 30 days.
func perMonth(tb testing.TB, n string) cost.Traffic {
	tb.Helper()
	perHour := dec(tb, n).Quo(cost.Int(720))
	return cost.Traffic{RequestsPerHour: &perHour}
}

func TestServices(t *testing.T) {
	gb := func(s string) cost.Volume { return cost.Volume{GB: decp(t, s)} }
	each := func(s string) cost.Volume { return cost.Volume{PerRequest: decp(t, s)} }
	for _, tt := range []struct {
		name     string
		service  cost.Service
		requests string
		month    cost.MonthRule
		quantity string // of the first line; "" is not checked
		total    string
	}{
		{"REST API, 5 M requests an hour", cost.APIGateway{REST: true}, "3600000000", cost.Month30Days, "3600000000", "9221.10"},
		{"HTTP API, 12 M requests an hour", cost.APIGateway{}, "8640000000", cost.Month30Days, "8640000000", "7806.00"},
		{"one PUT per request", cost.S3{PutsPerRequest: cost.Int(1)}, "962820000", cost.Month30Days, "", "4814.10"},
		{"stored bytes in tiers", cost.S3{StorageGB: dec(t, "61440")}, "0", cost.Month30Days, "", "1402.88"},
		{"custom logs", cost.Logs{Kind: cost.LogsCustom, GB: dec(t, "20000")}, "0", cost.Month30Days, "20000", "10000.00"},
		{"Lambda's logs in tiers", cost.Logs{Kind: cost.LogsVended, GB: dec(t, "20000")}, "0", cost.Month30Days, "20000", "7560.00"},
		{"tiers of terabytes, not gigabytes", cost.Logs{Kind: cost.LogsVended, GB: dec(t, "61440")}, "0", cost.Month30Days, "", "12800.00"},
		{"every event adds 26 bytes", cost.Logs{Kind: cost.LogsCustom, BytesPerRequest: cost.Int(998), EventsPerRequest: cost.Int(1)}, "1048576", cost.Month30Days, "1", "0.50"},
		{"80 shards", cost.Kinesis{Shards: cost.Int(80), RecordBytes: cost.Int(1024), Records: each("0")}, "0", cost.Month30Days, "57600", "864.00"},
		{"units count per record", cost.Kinesis{Shards: cost.Int(1), RecordBytes: cost.Int(1024)}, "8640000000", cost.Month30Days, "720", "131.76"},
		{"26 KB are two units", cost.Kinesis{Shards: cost.Int(1), RecordBytes: cost.Int(26 * 1024)}, "1000000000", cost.Month30Days, "", "38.80"},
		{"a stream on demand", cost.Kinesis{RecordBytes: cost.Int(512), Consumers: cost.Int(1)}, "1048576", cost.Month30Days, "720", "28.90"},
		{"records are rounded up to 5 KB", cost.Firehose{RecordBytes: cost.Int(1024), Records: each("2")}, "1048576", cost.Month30Days, "10", "0.29"},
		{"512 byte records cost ten times", cost.Firehose{RecordBytes: cost.Int(512), Records: gb("1000")}, "0", cost.Month30Days, "10000", "290.00"},
		{"64 KiB messages, all three calls", cost.SQS{MessageBytes: cost.Int(65536), Messages: gb("20000")}, "0", cost.Month30Days, "983040000", "393.22"},
		{"send only", cost.SQS{MessageBytes: cost.Int(65536), Messages: gb("1"), Calls: 1}, "0", cost.Month30Days, "16384", "0.01"},
		{"1 KB costs as much as 64 KB", cost.SQS{MessageBytes: cost.Int(1024), Messages: each("1"), Calls: 1}, "1000000", cost.Month30Days, "1000000", "0.40"},
		{"delete carries no payload", cost.SQS{MessageBytes: cost.Int(128 * 1024), Messages: each("1")}, "1000000", cost.Month30Days, "5000000", "2.00"},
		{"ten of 6 KB are one chunk", cost.SQS{MessageBytes: cost.Int(6 * 1024), Messages: each("1"), Batch: 10}, "1000000", cost.Month30Days, "300000", "0.12"},
		{"ten of 7 KB are two chunks", cost.SQS{MessageBytes: cost.Int(7 * 1024), Messages: each("1"), Batch: 10, Calls: 1}, "1000000", cost.Month30Days, "200000", "0.08"},
		{"writes per KB, reads per 4 KB at half", cost.DynamoDB{ItemBytes: cost.Int(1025), WritesPerRequest: cost.Int(1), ReadsPerRequest: cost.Int(1), Eventual: true}, "1000000", cost.Month30Days, "2000000", "1.31"},
		{"8 workers", cost.EC2{Type: "m7i.2xlarge", Count: cost.Int(8)}, "0", cost.Month730Hours, "5840", "2354.69"},
		{"reserved", cost.EC2{Type: "m7i.2xlarge", Count: cost.Int(1), Reserved: true}, "0", cost.Month730Hours, "", "194.91"},
		{"3 brokers", cost.MSK{Type: "kafka.m7g.2xlarge", Brokers: cost.Int(3)}, "0", cost.Month730Hours, "2190", "1787.04"},
		{"broker storage", cost.MSK{Type: "kafka.m7g.2xlarge", Brokers: cost.Int(3), StorageGB: cost.Int(1000)}, "0", cost.Month730Hours, "", "2087.04"},
		{"half a vCPU on three nodes", cost.VCPU{PriceHour: usd(t, "0.0552"), CPUs: dec(t, "0.5"), Nodes: cost.Int(3)}, "0", cost.Month30Days, "1080", "59.62"},
		{"two vCPUs on five nodes", cost.VCPU{PriceHour: usd(t, "0.0552"), CPUs: cost.Int(2), Nodes: cost.Int(5)}, "0", cost.Month30Days, "", "397.44"},
		{"1.1 vCPUs on four nodes", cost.VCPU{PriceHour: usd(t, "0.0552"), CPUs: dec(t, "1.1"), Nodes: cost.Int(4)}, "0", cost.Month30Days, "", "174.87"},
		{"a load balancer", cost.ALB{LCUs: cost.Int(2)}, "0", cost.Month30Days, "720", "27.72"},
		{"two clusters of Kubernetes", cost.EKS{Clusters: cost.Int(2)}, "0", cost.Month30Days, "1440", "144.00"},
		{"a cluster in extended support", cost.EKS{Clusters: cost.Int(1), ExtendedSupport: true}, "0", cost.Month30Days, "720", "432.00"},
		{"a NAT gateway and a KiB each", cost.NAT{Gateways: cost.Int(1), BytesPerRequest: cost.Int(1024)}, "10485760", cost.Month30Days, "720", "32.85"},
		{"people", cost.Ops{Monthly: usd(t, "5000.5")}, "0", cost.Month30Days, "1", "5000.50"},
		{"three tasks", cost.Fargate{Arch: cost.ArchX86, VCPU: dec(t, "0.25"), MemoryGB: dec(t, "0.5"), Tasks: cost.Int(3)}, "0", cost.Month730Hours, "", "27.03"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := scenario(t, perMonth(t, tt.requests), cost.Architecture{Name: "a", Services: []cost.Service{tt.service}})
			s.Month = tt.month
			a := forecast(t, s).Architectures[0]
			if got := a.Month1.Fixed(2); got != tt.total {
				t.Errorf("got %s, want %s; lines %+v", got, tt.total, a.Lines)
			}
			if tt.quantity != "" && a.Lines[0].Quantity.Round(0).String() != tt.quantity {
				t.Errorf("quantity %s, want %s", a.Lines[0].Quantity, tt.quantity)
			}
			if a.Concurrency != nil {
				t.Error("a concurrency without functions")
			}
		})
	}
}

func TestPayloadCountsPer512KB(t *testing.T) {
	traffic := perMonth(t, "1000000")
	traffic.PayloadBytes = decp(t, "524289")
	s := scenario(t, traffic, cost.Architecture{Name: "a", Services: []cost.Service{cost.APIGateway{}}})
	if got := forecast(t, s).Architectures[0].Month1.Fixed(2); got != "2.00" {
		t.Errorf("a request of 512 KB and a byte: %s, want 2.00 a million", got)
	}
}

// Two services of one dimension share its tiers, and the free tier of a service is granted once.
func TestServicesShareTiers(t *testing.T) {
	logs := cost.Logs{Kind: cost.LogsVended, GB: dec(t, "10000")}
	s := scenario(t, perMonth(t, "0"), cost.Architecture{Name: "a", Services: []cost.Service{logs, logs}})
	a := forecast(t, s).Architectures[0]
	if len(a.Lines) != 1 || a.Month1.Fixed(2) != "7560.00" {
		t.Errorf("%d lines, %s; want one line and 7560.00", len(a.Lines), a.Month1.Fixed(2))
	}
	s.FreeTier = true
	if got := forecast(t, s).Architectures[0].Lines[0].FreeQuantity.String(); got != "5" {
		t.Errorf("%s GB are free, want 5", got)
	}
}

func TestServicesRefuse(t *testing.T) {
	minus := dec(t, "-1")
	for _, bad := range []cost.Service{
		cost.S3{PutsPerRequest: minus},
		cost.Logs{},
		cost.Logs{Kind: cost.LogsCustom, GB: cost.Int(1), BytesPerRequest: cost.Int(1)},
		cost.Kinesis{},
		cost.Kinesis{RecordBytes: cost.Int(1), Shards: minus},
		cost.Firehose{RecordBytes: cost.Int(1), Records: cost.Volume{GB: decp(t, "1"), PerRequest: decp(t, "1")}},
		cost.SQS{MessageBytes: cost.Int(1), Batch: 11},
		cost.SQS{MessageBytes: cost.Int(1), Calls: 4},
		cost.DynamoDB{},
		cost.EC2{Count: cost.Int(1)},
		cost.EC2{Type: "m7i.2xlarge", Count: minus},
		cost.VCPU{PriceHour: usd(t, "0.0000000000001")},
		cost.Fargate{},
		cost.MSK{Brokers: cost.Int(3)},
	} {
		s := scenario(t, perMonth(t, "1"), cost.Architecture{Name: "a", Services: []cost.Service{bad}})
		if _, err := cost.Forecast(s, book(t)); err == nil {
			t.Errorf("%#v accepted", bad)
		}
	}
	s := scenario(t, perMonth(t, "1"), cost.Architecture{Name: "a", Services: []cost.Service{cost.EC2{Type: "z99.huge", Count: cost.Int(1)}}})
	_, err := cost.Forecast(s, book(t))
	if _, ok := errors.AsType[*cost.MissingPriceError](err); !ok {
		t.Errorf("got %v, want a missing price", err)
	}
}

func TestEphemeralStorage(t *testing.T) {
	a := stated(t, "a", cost.ArchX86, 128, "280")
	a.Functions[0].EphemeralMB = 2048
	lines := forecast(t, scenario(t, perMonth(t, "6000000"), a)).Architectures[0].Lines
	if len(lines) != 3 || lines[2].Dimension != "ephemeral-storage" || lines[2].Amount.Fixed(2) != "0.08" {
		t.Errorf("lines %+v", lines)
	}
}

// What is priced is no longer listed as left out.
func TestCountedServicesAreNotListedAsLeftOut(t *testing.T) {
	a := stated(t, "go", cost.ArchARM, 128, "70")
	a.Services = []cost.Service{
		cost.APIGateway{}, cost.S3{PutsPerRequest: cost.Int(1)}, cost.Logs{Kind: cost.LogsVended, BytesPerRequest: cost.Int(370)},
	}
	got := forecast(t, scenario(t, littles(t), a)).Architectures[0]
	for _, n := range got.NotCounted {
		if strings.Contains(n.What, "API Gateway") || strings.Contains(n.What, "PUT") || strings.Contains(n.What, "CloudWatch") {
			t.Errorf("%s is priced and listed as left out", n.What)
		}
	}
	// 304.89 + 896.54 + 4814.10 + 165.89
	if got.Month1.Fixed(2) != "6181.42" {
		t.Errorf("whole path %s", got.Month1.Fixed(2))
	}
}

func TestScenarioWithServices(t *testing.T) {
	const text = `version: 1
region: us-east-1
month: 30d
start: 2026-12
months: 1
traffic: {clusters: 891.5, per_cluster_per_hour: 1500, payload_bytes: 65536}
architectures:
  go:
    lambda: {arch: arm, memory_mb: 128, billed: {mean_ms: 70}}
    apigateway: http
    s3: {puts_per_request: 1}
    logs: {bytes_per_request: 370}
  batched:
    base: go
    traffic: {per_cluster_per_hour: 6}
  rest:
    base: go
    apigateway: rest
    lambda: {arch: arm, memory_mb: 128, batch: 500, billed: {mean_ms: 70}}
  queue:
    sqs: {message_bytes: 65536, calls_per_message: 3, gb: 20000}
  stream:
    kinesis: {shards: 80, record_bytes: 1024, records_per_request: 1}
    firehose: {record_bytes: 512, gb: 1000}
    dynamodb: {item_bytes: 100, writes_per_request: 1, eventual: true}
  servers:
    vcpu: {price_hour: "0.0552", cpus: "1.1", nodes: 4}
    ec2: {type: m7i.2xlarge, count: 8}
    fargate: {arch: arm, vcpu: 0.25, memory_gb: 0.5, tasks: 3}
    msk: {brokers: 3, type: kafka.m7g.2xlarge, gb: 1000}
`
	s, err := cost.LoadScenario(strings.NewReader(text), "s.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := forecast(t, s)
	totals := make(map[string]string)
	for _, a := range r.Architectures {
		totals[a.Name] = a.Month1.Fixed(2)
	}
	want := map[string]string{"go": "6181.42", "queue": "393.22"}
	for name, total := range want {
		if totals[name] != total {
			t.Errorf("%s: %s, want %s", name, totals[name], total)
		}
	}
	if got := r.Architectures[1].RequestsMonth1.String(); got != "3851280" {
		t.Errorf("batched: %s requests, want 891.5 × 6 × 720", got)
	}
	if lines := r.Architectures[2].Lines; lines[0].Quantity.Round(0).String() != "1925640" || len(lines) != 5 {
		t.Errorf("rest: %s invocations, %d lines", lines[0].Quantity, len(lines))
	}
	if n := len(r.Architectures[5].Lines); n != 6 {
		t.Errorf("servers: %d lines, want 6", n)
	}
}

func TestExplainBill(t *testing.T) {
	perHour, err := littles(t).PerHour()
	if err != nil {
		t.Fatal(err)
	}
	in := cost.BillQuery{Monthly: usd(t, "3633"), RequestsPerHour: perHour, MeanMS: dec(t, "953"), Region: "us-east-1", Month: cost.Month30Days}
	fits, err := cost.ExplainBill(in, book(t))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"x86_64 256 tier 2": "3633.44", "arm64 288 tier 1": "3633.46", "arm64 320 tier 2": "3633.47"}
	for _, f := range fits {
		key := strings.Join([]string{string(f.Arch), cost.Int(int64(f.Memory)).String(), f.Tier}, " ")
		if w, ok := want[key]; ok {
			if f.Monthly.Fixed(2) != w {
				t.Errorf("%s: %s, want %s", key, f.Monthly.Fixed(2), w)
			}
			delete(want, key)
		}
		if f.Requests.Fixed(2) != "192.56" {
			t.Errorf("%s: requests %s", key, f.Requests.Fixed(2))
		}
	}
	if len(want) != 0 {
		t.Errorf("not found: %v among %d fits", want, len(fits))
	}
	in.Monthly = usd(t, "1")
	if fits, err := cost.ExplainBill(in, book(t)); err != nil || len(fits) != 0 {
		t.Errorf("a bill below its request fee is explained by %+v (%v)", fits, err)
	}
	if _, err := cost.ExplainBill(cost.BillQuery{Monthly: usd(t, "1")}, book(t)); err == nil {
		t.Error("a bill without traffic is explained")
	}
}

// From which message size on is a queue cheaper than custom logs?
func TestBreakEven(t *testing.T) {
	prices := book(t)
	month := func(svc cost.Service) (cost.USD, error) {
		r, err := cost.Forecast(scenario(t, perMonth(t, "1000000"), cost.Architecture{Name: "a", Services: []cost.Service{svc}}), prices)
		if err != nil {
			return cost.USD{}, err
		}
		return r.Architectures[0].Total, nil
	}
	queue := func(x cost.Decimal) (cost.USD, error) { return month(cost.SQS{MessageBytes: x}) }
	logs := func(share string) func(cost.Decimal) (cost.USD, error) {
		return func(x cost.Decimal) (cost.USD, error) {
			u, err := month(cost.Logs{Kind: cost.LogsCustom, BytesPerRequest: x})
			return u.Mul(dec(t, share)), err
		}
	}
	for _, tt := range []struct{ share, want string }{{"1", "2577"}, {"0.05", "51540"}} {
		x, err := cost.BreakEven(1, 65536, queue, logs(tt.share))
		if err != nil || x.Round(0).String() != tt.want {
			t.Errorf("share %s: %s (%v), want %s", tt.share, x, err, tt.want)
		}
	}
	if _, err := cost.BreakEven(10_000, 60_000, queue, logs("1")); !errors.Is(err, cost.ErrNoBreakEven) {
		t.Errorf("got %v", err)
	}
	if _, err := cost.BreakEven(5, 1, queue, queue); err == nil {
		t.Error("an empty range is accepted")
	}
}

func TestBreakEvenRequests(t *testing.T) {
	goer := stated(t, "go", cost.ArchARM, 128, "70")
	tasks := cost.Architecture{Name: "tasks", Services: []cost.Service{
		cost.Fargate{Arch: cost.ArchX86, VCPU: dec(t, "0.25"), MemoryGB: dec(t, "0.5"), Tasks: cost.Int(3)},
	}}
	s := scenario(t, littles(t), goer, tasks)
	s.Month = cost.Month730Hours
	x, err := cost.BreakEvenRequests(s, book(t), "go", "tasks", 1, 1e7)
	if err != nil {
		t.Fatal(err)
	}
	// 27.03 dollars over 730 hours at 0.70 ms of 128 MB and a request fee each.
	each := usd(t, "0.0000133334").Mul(cost.GBSeconds(cost.Int(70), 128)).Add(usd(t, "0.0000002"))
	month := usd(t, "0.04048").Mul(dec(t, "547.5")).Add(usd(t, "0.004445").Mul(dec(t, "1095")))
	if want := month.Ratio(each).Quo(cost.Int(730)); math.Abs(x.Float64()-want.Float64()) > 0.01 {
		t.Errorf("got %s requests an hour, want %s", x, want)
	}
	if _, err := cost.BreakEvenRequests(s, book(t), "go", "nobody", 1, 1e7); err == nil {
		t.Error("an unknown architecture is accepted")
	}
}

func TestTornado(t *testing.T) {
	a := stated(t, "go", cost.ArchARM, 128, "70")
	s := scenario(t, littles(t), a)
	swings, err := cost.Tornado(s, book(t), "go", dec(t, "0.2"))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]cost.Swing)
	for i, w := range swings {
		got[w.Input] = w
		if i > 0 && w.Spread.Cmp(swings[i-1].Spread) > 0 {
			t.Errorf("%s is out of order", w.Input)
		}
	}
	// The request fee of 192.56 moves with requests but not with billed time.
	if w := got["requests"]; w.Low.Fixed(2) != "243.91" || w.High.Fixed(2) != "365.87" {
		t.Errorf("requests: %s to %s", w.Low.Fixed(2), w.High.Fixed(2))
	}
	if w := got["billed time"]; w.Low.Fixed(2) != "282.43" || w.High.Fixed(2) != "327.36" {
		t.Errorf("billed time: %s to %s", w.Low.Fixed(2), w.High.Fixed(2))
	}
	if w := got["memory, same billed time"]; w.Low.Fixed(2) != "248.73" || w.High.Fixed(2) != "417.22" {
		t.Errorf("memory: %s to %s", w.Low.Fixed(2), w.High.Fixed(2))
	}
	// A forecast of one month does not grow.
	if w, ok := got["growth per month"]; ok {
		t.Errorf("growth moves one month: %+v", w)
	}
	if again := forecast(t, s).Architectures[0].Month1.Fixed(2); again != "304.89" {
		t.Errorf("the scenario itself was changed: %s", again)
	}
	if _, err := cost.Tornado(s, book(t), "go", dec(t, "2")); err == nil {
		t.Error("a variation of 200 % is accepted")
	}
}

func TestProvisionedAndKeepWarm(t *testing.T) {
	b := book(t)
	u, err := cost.ProvisionedMonth(b, "us-east-1", cost.ArchARM, 26, 128, cost.Int(730))
	if err != nil || u.Fixed(2) != "28.47" {
		t.Errorf("26 environments: %s (%v), want 28.47", u.Fixed(2), err)
	}
	u, err = cost.ProvisionedMonth(b, "us-east-1", cost.ArchX86, 100, 1536, cost.Int(8))
	if err != nil || u.Fixed(2) != "18.00" {
		t.Errorf("the pricing page's example: %s (%v), want 18.00", u.Fixed(2), err)
	}
	// A minute is billed as five.
	minute, err := cost.ProvisionedMonth(b, "us-east-1", cost.ArchX86, 1, 1024, cost.Int(1).Quo(cost.Int(60)))
	if err != nil || !minute.Equal(usd(t, "0.0000041667").Mul(cost.Int(300))) {
		t.Errorf("a minute: %s (%v)", minute, err)
	}
	for _, arch := range []cost.Arch{cost.ArchX86, cost.ArchARM} {
		share, err := cost.ProvisionedBreakEven(b, "us-east-1", arch)
		if err != nil || share.Round(2).String() != "0.60" {
			t.Errorf("%s: break-even at %s (%v), want 0.60", arch, share, err)
		}
	}
	pings, u, err := cost.KeepWarm(b, "us-east-1", cost.ArchARM, 1, 128, cost.Int(1), cost.Int(5), cost.Int(730))
	if err != nil || pings.String() != "8760" || u.Fixed(4) != "0.0018" {
		t.Errorf("%s pings cost %s (%v)", pings, u, err)
	}
	if _, _, err := cost.KeepWarm(b, "us-east-1", cost.ArchARM, 1, 128, cost.Int(1), cost.Int(0), cost.Int(730)); err == nil {
		t.Error("pings without an interval are accepted")
	}
	if _, err := cost.ProvisionedBreakEven(b, "eu-west-1", cost.ArchARM); err == nil {
		t.Error("a price that the book lacks was made up")
	}
}

func TestErlangB(t *testing.T) {
	for _, tt := range []struct {
		limit      int
		load, want float64
	}{
		{380, 354, 0.0088},
		{400, 354, 0.0011},
		{420, 354, 5.9e-5},
		{450, 354, 1.2e-7},
		{35, 26, 0.017},
		{40, 26, 0.0025},
		{50, 26, 9.4e-6},
		{0, 5, 1},
		{5, 0, 0},
		{1, 1, 0.5},
	} {
		if got := cost.ErlangB(tt.limit, tt.load); math.Abs(got-tt.want) > 0.06*tt.want {
			t.Errorf("limit %d, load %v: got %v, want %v", tt.limit, tt.load, got, tt.want)
		}
	}
}

func TestBurstQuantile(t *testing.T) {
	for _, tt := range []struct {
		mean       float64
		dispersion float64
		want       int
	}{
		{26, 2, 45},
		{26, 5, 59},
		{26, 10, 77},
		{26, 20, 105},
		{354, 2, 418},
		{354, 5, 458},
		{354, 10, 506},
		{354, 20, 578},
		{354, 1, 398},
		{354, 0.5, 398},
		{0, 5, 0},
	} {
		if got, ok := cost.BurstQuantile(tt.mean, tt.dispersion, 0.99); !ok || got != tt.want {
			t.Errorf("mean %v, dispersion %v: got %d, want %d", tt.mean, tt.dispersion, got, tt.want)
		}
	}
	traffic := littles(t)
	traffic.Dispersion = decp(t, "5")
	c := forecast(t, scenario(t, traffic, stated(t, "a", cost.ArchX86, 256, "953"))).Architectures[0].Concurrency
	if *c.P99 != 458 || c.Dispersion != 5 {
		t.Errorf("p99 %d with dispersion %v", *c.P99, c.Dispersion)
	}
}

func TestColdShare(t *testing.T) {
	for _, tt := range []struct{ perSecond, idle, want float64 }{
		{0.01, 600, 0.0032},
		{0.4167, 600, 0.00040},
		{5, 600, 1.5e-4},
		{37, 300, 6.0e-5},
	} {
		if got := cost.ColdShare(tt.perSecond, tt.perSecond*0.07, tt.idle); math.Abs(got-tt.want) > 0.02*tt.want {
			t.Errorf("%v/s: got %v, want %v", tt.perSecond, got, tt.want)
		}
	}
	if cost.ColdShare(0, 0, 600) != 0 || cost.ColdShare(1, 0, 0) != 1 {
		t.Error("limits")
	}
}

func TestDispersion(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 11))
	arrivals := func(burst int) *cost.Usage {
		u := new(cost.Usage)
		at := time.Unix(1_000_000, 0)
		for range 20_000 / burst {
			at = at.Add(time.Duration(rng.ExpFloat64() * float64(burst) * float64(50*time.Millisecond)))
			for range burst {
				d := lambdalog.MillisOf(100 * time.Millisecond)
				u.Add(lambdalog.Invocation{Kind: lambdalog.KindReport, Time: at, Duration: d, Billed: d, Billable: true, Memory: 128})
			}
		}
		return u
	}
	for _, tt := range []struct {
		burst int
		want  float64
	}{{1, 1}, {5, 5}} {
		u := arrivals(tt.burst)
		if d, ok := u.Dispersion(); !ok || math.Abs(d-tt.want) > 0.12*tt.want {
			t.Errorf("bursts of %d: dispersion %v", tt.burst, d)
		}
		a := forecast(t, scenario(t, littles(t), cost.Architecture{Name: "a", Functions: []cost.Function{{Arch: cost.ArchARM, Billed: cost.Billed{Usage: u}}}})).Architectures[0]
		warned := strings.Contains(strings.Join(a.Warnings, "\n"), "bursts")
		if a.Concurrency.ObservedDispersion == nil || a.Concurrency.ObservedMax == nil || warned != (tt.burst > 2) {
			t.Errorf("bursts of %d: %+v, warnings %v", tt.burst, a.Concurrency, a.Warnings)
		}
	}
	if d, ok := paperRecords(t).Dispersion(); ok {
		t.Errorf("dispersion %v of records without times", d)
	}
}
