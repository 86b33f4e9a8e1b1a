package cost_test

import (
	"io"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

func TestMoreServices(t *testing.T) {
	each := func(s string) cost.Volume { return cost.Volume{PerRequest: decp(t, s)} }
	for _, tt := range []struct {
		name     string
		service  cost.Service
		requests string
		quantity string // of the first line
		total    string
	}{
		{"a WebSocket message of 32 KB and a byte are two", cost.WebSocket{MessagesPerRequest: cost.Int(1), MessageBytes: cost.Int(32*1024 + 1)}, "1000000", "2000000", "2.00"},
		{"WebSocket messages and minutes", cost.WebSocket{MessagesPerRequest: cost.Int(2), MinutesPerRequest: cost.Int(4)}, "1000000", "2000000", "3.00"},
		{"transfer to the internet in tiers", cost.Transfer{InternetGB: dec(t, "20480")}, "0", "20480", "1792.00"},
		{"between zones it is billed on each side", cost.Transfer{ZoneGB: cost.Int(100)}, "0", "200", "2.00"},
		{"to another region", cost.Transfer{RegionGB: cost.Int(100)}, "0", "100", "2.00"},
		{"a KiB per request to the internet", cost.Transfer{InternetBytesPerRequest: cost.Int(1024)}, "1048576", "1", "0.09"},
		{"logs straight to S3", cost.Logs{Kind: cost.LogsVendedS3, GB: dec(t, "20000")}, "0", "20000", "4024.00"},
		{"queries of logs", cost.Logs{Kind: cost.LogsCustom, InsightsGB: dec(t, "1000")}, "0", "1000", "5.00"},
		{"retention of seven days doubles the shard hours", cost.Kinesis{Shards: cost.Int(10), RecordBytes: cost.Int(1), Records: each("0"), RetentionHours: cost.Int(168)}, "0", "7200", "252.00"},
		{"retention of a day is included", cost.Kinesis{Shards: cost.Int(10), RecordBytes: cost.Int(1), Records: each("0"), RetentionHours: cost.Int(24)}, "0", "7200", "108.00"},
		{"enhanced fan-out", cost.Kinesis{Shards: cost.Int(1), RecordBytes: cost.Int(1024), FanOut: cost.Int(2)}, "1048576", "720", "32.44"},
		{"fan-out on demand", cost.Kinesis{RecordBytes: cost.Int(1024), FanOut: cost.Int(1)}, "1048576", "720", "28.93"},
		{"an idle trigger asks 0.65 million times", cost.SQS{MessageBytes: cost.Int(1), Messages: each("0"), IdlePollers: cost.Int(5)}, "0", "648000", "0.26"},
		{"managed instances and their fee", cost.ManagedInstances{Type: "m7g.xlarge", Count: cost.Int(1), Hours: decp(t, "2000"), PriceHour: decp(t, "0.0457")}, "100000000", "2000", "160.36"},
		{"managed instances on demand", cost.ManagedInstances{Type: "m7g.xlarge", Count: cost.Int(3), PerRequest: decp(t, "0.5")}, "1000000", "2160", "405.49"},
		{"tasks that follow the traffic", cost.Fargate{
			Arch: cost.ArchX86, VCPU: cost.Int(1), MemoryGB: cost.Int(2), Tasks: cost.Int(3),
			Scaling: cost.Scaling{CPUMSPerRequest: cost.Int(10), PeakRatio: cost.Int(2)},
		}, "2592000000", "24480", "1208.58"}, // 1,000/s × 2 × 10 ms / 0.6 are 33.3 vCPUs: 34 tasks
		{"at least so many tasks", cost.Fargate{
			Arch: cost.ArchX86, VCPU: dec(t, "0.25"), MemoryGB: dec(t, "0.5"), Tasks: cost.Int(3), Scaling: cost.Scaling{CPUMSPerRequest: cost.Int(1)},
		}, "2592000", "540", "26.66"},
		{"pods that follow the traffic", cost.VCPU{
			PriceHour: usd(t, "0.05"), CPUs: cost.Int(2), Nodes: cost.Int(1), Scaling: cost.Scaling{CPUMSPerRequest: cost.Int(10), UtilisationRatio: dec(t, "0.5")},
		}, "2592000000", "14400", "720.00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := forecast(t, scenario(t, perMonth(t, tt.requests), cost.Architecture{Name: "a", Services: []cost.Service{tt.service}})).Architectures[0]
			if got := a.Month1.Fixed(2); got != tt.total {
				t.Errorf("got %s, want %s; lines %+v", got, tt.total, a.Lines)
			}
			if a.Lines[0].Quantity.Round(0).String() != tt.quantity {
				t.Errorf("quantity %s, want %s", a.Lines[0].Quantity, tt.quantity)
			}
		})
	}
	free := scenario(t, perMonth(t, "0"), cost.Architecture{Name: "a", Services: []cost.Service{cost.Transfer{InternetGB: cost.Int(150)}}})
	free.FreeTier = true
	if got := forecast(t, free).Architectures[0].Month1.Fixed(2); got != "4.50" {
		t.Errorf("150 GB with 100 free cost %s, want 4.50", got)
	}
	minus := dec(t, "-1")
	for _, bad := range []cost.Service{
		cost.WebSocket{MessageBytes: minus},
		cost.Transfer{ZoneGB: minus},
		cost.ManagedInstances{},
		cost.ManagedInstances{Type: "x", Hours: &minus},
		cost.Kinesis{RecordBytes: cost.Int(1), RetentionHours: cost.Int(169)},
		cost.SQS{MessageBytes: cost.Int(1), IdlePollers: minus},
		cost.VCPU{Scaling: cost.Scaling{UtilisationRatio: cost.Int(2)}},
		cost.Fargate{Arch: cost.ArchARM, Scaling: cost.Scaling{PeakRatio: minus}},
	} {
		if bad.Check() == nil {
			t.Errorf("%+v accepted", bad)
		}
	}
}

// What a function is billed beside requests and duration, each by its own rule.
func TestFunctionExtras(t *testing.T) {
	base := func() cost.Function {
		return cost.Function{Arch: cost.ArchX86, Memory: 128, Billed: cost.Billed{MeanMS: decp(t, "100")}}
	}
	month := func(f cost.Function, payload string, free bool) cost.ArchitectureResult {
		traffic := perMonth(t, "1000000")
		traffic.PayloadBytes = decp(t, payload)
		s := scenario(t, traffic, cost.Architecture{Name: "a", Functions: []cost.Function{f}})
		s.FreeTier = free
		return forecast(t, s).Architectures[0]
	}
	f := base()
	f.Async = true
	for payload, want := range map[string]string{"1": "1000000", "262144": "1000000", "262145": "2000000", "1048576": "13000000"} {
		if got := line(t, month(f, payload, false), "requests").Quantity.Round(0).String(); got != want {
			t.Errorf("an event of %s bytes: %s requests, want %s", payload, got, want)
		}
	}
	if got := line(t, month(base(), "1048576", false), "requests").Quantity.Round(0).String(); got != "1000000" {
		t.Errorf("a synchronous call of 1 MB counts as %s requests", got)
	}
	f = base()
	f.StreamedBytes = decp(t, "7340032")
	if got := line(t, month(f, "1", false), "response-streaming").Amount.Fixed(2); got != "7.81" {
		t.Errorf("a million of 7 MB: %s, want 7.81", got)
	}
	if got := line(t, month(f, "1", true), "response-streaming").Amount.Fixed(2); got != "7.01" {
		t.Errorf("with 100 GB free: %s, want 7.01", got)
	}
	f.StreamedBytes = decp(t, "6291456")
	if got := line(t, month(f, "1", false), "response-streaming").Amount.Fixed(2); got != "0.00" {
		t.Errorf("6 MB are free, got %s", got)
	}
	f = base()
	f.Durable = &cost.Durable{OperationsPerInvocation: cost.Int(4), BytesPerInvocation: cost.Int(1024), RetainedGB: cost.Int(10)}
	a := month(f, "1", false)
	if got := line(t, a, "durable-operations").Amount.Fixed(2); got != "32.00" {
		t.Errorf("4 million operations: %s, want 32.00", got)
	}
	if got := line(t, a, "durable-data-retained").Amount.Fixed(2); got != "1.50" {
		t.Errorf("10 GB-months: %s, want 1.50", got)
	}
	f = base()
	f.Pollers = &cost.Pollers{Source: "kafka", Units: cost.Int(2)}
	if got := line(t, month(f, "1", false), "esm-poller-unit-kafka").Amount.Fixed(2); got != "266.40" {
		t.Errorf("two pollers: %s, want 266.40", got)
	}
	f.Pollers = &cost.Pollers{Source: "sqs", Units: cost.Int(1)}
	s := scenario(t, perMonth(t, "1"), cost.Architecture{Name: "a", Functions: []cost.Function{f}})
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "pollers") {
		t.Errorf("one poller of a queue: %v", err)
	}
}

// loadBundled reads a scenario of fixtures/scenarios with its records.
func loadBundled(tb testing.TB, name string) *cost.Scenario {
	tb.Helper()
	f, err := os.Open(path.Join(scenarioDir, name+".yaml"))
	if err != nil {
		tb.Fatal(err)
	}
	s, err := cost.LoadScenario(f, name+".yaml")
	if err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	if err := s.ReadRecords(func(from string) (io.ReadCloser, error) { return os.Open(path.Join(scenarioDir, from)) }); err != nil {
		tb.Fatal(err)
	}
	return s
}

// Every bundled scenario is priced, and the figures of its article come out.
func TestBundledScenarios(t *testing.T) {
	want := map[string]map[string]string{
		"demo":         {"python-today": "10221.04", "go": "6386.47", "go-batched": "489.06"},
		"api-gateway":  {"k8s-pods": "174.87", "k8s-pods-low": "59.62", "k8s-pods-high": "397.44", "apigw-kinesis-lambda": "22237.54"},
		"log-shipping": {"cloudwatch-kinesis-firehose": "10892.23", "extension-sqs-shipper": "512.72", "direct-to-s3": "4093.00"},
		"memory-sweep": {"m128": "1.24", "m2048": "24.57", "no-state-kept": "90.57"},
		"kafka":        {"msk-ec2": "4451.73", "msk-lambda": "2389.92", "msk-managed-instances": "2513.32"},
	}
	files, err := os.ReadDir(scenarioDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(file.Name(), ".yaml")
		t.Run(name, func(t *testing.T) {
			if len(want[name]) == 0 {
				t.Fatal("no figure of this scenario is known")
			}
			s := loadBundled(t, name)
			r := forecast(t, s)
			if r.Comparison == nil || len(r.Comparisons) != len(s.Architectures)-1 {
				t.Errorf("comparison %+v", r.Comparison)
			}
			found := 0
			for _, a := range r.Architectures {
				if amount, ok := want[name][a.Name]; ok {
					found++
					if got := a.Month1.Fixed(2); got != amount {
						t.Errorf("%s: %s in month 1, want %s", a.Name, got, amount)
					}
				}
			}
			if found != len(want[name]) {
				t.Errorf("%d of %d architectures are there", found, len(want[name]))
			}
		})
	}
}

func TestScenarioWithSeveralFunctions(t *testing.T) {
	read := func(lambda string) (*cost.Scenario, error) {
		return cost.LoadScenario(strings.NewReader("version: 1\nregion: us-east-1\nstart: 2026-12\ntraffic: {requests_per_hour: 1}\narchitectures:\n  a:\n    lambda: "+lambda+"\n"), "s.yaml")
	}
	const rest = "arch: arm64, memory_mb: 128, billed: {mean_ms: 5}"
	s, err := read("[{name: one, async: true, streamed_bytes: 5, " + rest + "}, {name: two, pollers: {source: kafka, units: 1}, durable: {operations_per_invocation: 1, bytes_per_invocation: 2, retained_gb: 3}, " + rest + "}]")
	if err != nil {
		t.Fatal(err)
	}
	f := s.Architectures[0].Functions
	if len(f) != 2 || f[0].Name != "one" || !f[0].Async || f[0].StreamedBytes == nil || f[1].Pollers.Source != "kafka" || f[1].Durable.RetainedGB.String() != "3" {
		t.Errorf("%+v", f)
	}
	for lambda, want := range map[string]string{
		"[{" + rest + "}]": "has no name",
		"[{name: a, " + rest + "}, {name: a, " + rest + "}]": "two functions",
		"[]": "is empty",
		"{" + rest + ", pollers: {source: mail, units: 1}}":                "pollers of",
		"{" + rest + ", durable: {operations_per_invocation: -1}}":         "-1 is negative",
		"{" + rest + ", streamed_bytes: -1}":                               "streams -1 bytes",
		"{" + rest + ", durable: {steps: 1}}":                              `unknown key "steps"`,
		"{" + rest + "}\n    transfer: {zone_gb: -1}":                      "-1 is negative",
		"{" + rest + "}\n    lmi: {count: 3}":                              "no instance type",
		"{" + rest + "}\n    websocket: {messages: 3}":                     `unknown key "messages"`,
		"{" + rest + "}\n    fargate: {vcpu: 1, utilisation: 3}":           "utilisation of 3",
		"{" + rest + "}\n    kinesis: {record_bytes: 1, retention_h: 999}": "retention of 999",
	} {
		if _, err := read(lambda); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "s.yaml:") {
			t.Errorf("%s: got %v, want %q", lambda, err, want)
		}
	}
}
