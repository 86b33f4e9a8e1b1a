package cost_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cirrusbench/cirrusbench/internal/cost"
)

const goodScenario = `version: 1
region: us-east-1
month: 30d
start: 2026-12
months: 24
growth_monthly: "0.02"
free_tier: true
quota: 500
seed: 7
traffic: {clusters: 891.5, per_cluster_per_hour: 1500}
architectures:
  python:
    lambda: {arch: x86, memory_mb: 256, billed: {mean_ms: "953", cold_ms: "10600", cold_share: "0.001"}}
  go:
    lambda: {arch: arm, memory_mb: 128, billed: {mean_ms: 70}}
baseline: python
candidate: go
`

func TestLoadScenario(t *testing.T) {
	s, err := cost.LoadScenario(strings.NewReader(goodScenario), "s.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if s.Region != "us-east-1" || s.Month != cost.Month30Days || s.Start.String() != "2026-12" || s.Months != 24 ||
		s.Growth.String() != "0.02" || !s.FreeTier || s.Quota != 500 || s.Seed != 7 || s.Baseline != "python" || s.Candidate != "go" {
		t.Errorf("got %+v", s)
	}
	if len(s.Architectures) != 2 || s.Architectures[0].Name != "python" || s.Architectures[1].Functions[0].Arch != cost.ArchARM ||
		s.Architectures[0].Functions[0].Memory != 256 || s.Architectures[0].Functions[0].Billed.ColdMS.String() != "10600" {
		t.Errorf("architectures: %+v", s.Architectures)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
}

// A price or a mean that YAML would make a float must keep its digits.
func TestScenarioNumbersKeepTheirDigits(t *testing.T) {
	text := strings.Replace(goodScenario, "mean_ms: 70", "mean_ms: 70.00000000000000000001", 1)
	s, err := cost.LoadScenario(strings.NewReader(text), "s.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Architectures[1].Functions[0].Billed.MeanMS.String(); got != "70.00000000000000000001" {
		t.Errorf("got %s", got)
	}
}

func TestScenarioMistakes(t *testing.T) {
	for _, tt := range []struct {
		name, old, replace string
		line               int
		want               string
	}{
		{"unknown key", "region: us-east-1", "regoin: us-east-1", 2, `unknown key "regoin"`},
		{"version", "version: 1", "version: 2", 1, "reads version 1"},
		{"month", "month: 30d", "month: 31d", 3, "calendar, 30d or 730h"},
		{"start", "start: 2026-12", "start: soon", 4, "not a month"},
		{"months", "months: 24", "months: 2.5", 5, "whole number"},
		{"growth", `"0.02"`, "fast", 6, "not a decimal"},
		{"growth without its sign of percent", `"0.02"`, "2", 6, `"2" is not a share such as 5% or 0.05`},
		{"free tier", "free_tier: true", "free_tier: maybe", 7, "free_tier"},
		{"two forms of traffic", "clusters: 891.5", "requests_per_hour: 5, clusters: 891.5", 10, "more than once"},
		{"half a form", ", per_cluster_per_hour: 1500", "", 10, "together"},
		{"key of a service", "    lambda: {arch: x86", "    s3: {putts: 1}\n    lambda: {arch: x86", 13, `unknown key "putts" in python.s3`},
		{"figure of a service", "    lambda: {arch: x86", "    sqs: {message_bytes: 0}\n    lambda: {arch: x86", 13, "size of a record"},
		{"kind of logs", "    lambda: {arch: x86", "    logs: {kind: best}\n    lambda: {arch: x86", 13, "vended, custom"},
		{"kind of gateway", "    lambda: {arch: x86", "    apigateway: soap\n    lambda: {arch: x86", 13, "apigateway is"},
		{"unknown base", "    lambda: {arch: x86", "    base: go\n    lambda: {arch: x86", 13, `no architecture "go" above it`},
		{"batch of nothing", "memory_mb: 256", "memory_mb: 256, batch: 0", 13, "batch is 0"},
		{"later key in architecture", "    lambda: {arch: x86", "    rocket: {}\n    lambda: {arch: x86", 13, `unknown key "rocket"`},
		{"unknown key in eks", "    lambda: {arch: x86", "    eks: {nodes: 1}\n    lambda: {arch: x86", 13, `unknown key "nodes"`},
		{"negative cluster", "    lambda: {arch: x86", "    eks: {clusters: -1}\n    lambda: {arch: x86", 13, "-1 is negative"},
		{"ops without mapping", "    lambda: {arch: x86", "    ops: 5000\n    lambda: {arch: x86", 13, "must be a mapping"},
		{"nat by request and volume", "    lambda: {arch: x86", "    nat: {gb: 1, bytes_per_request: 1}\n    lambda: {arch: x86", 13, "keep one"},
		{"snapstart that is no mapping", "memory_mb: 256", "memory_mb: 256, snapstart: true", 13, "must be a mapping"},
		{"unknown savings plan", "memory_mb: 256", "memory_mb: 256, savings_plan: 9y", 13, "savings_plan is"},
		{"no environments", "memory_mb: 256", "memory_mb: 256, provisioned: {environments: 0}", 13, "0 provisioned environments"},
		{"too many hours", "memory_mb: 256", "memory_mb: 256, provisioned: {environments: 1, hours_per_day: 25}", 13, "25 hours"},
		{"arch", "arch: x86", "arch: mips", 13, "arm64 or x86_64"},
		{"no memory", "memory_mb: 256, ", "", 13, "memory_mb"},
		{"from and mean", `mean_ms: "953"`, `from: a.log, mean_ms: "953"`, 13, "from already says"},
		{"no number", `"953"`, "slow", 13, "not a decimal"},
		{"twice", "region: us-east-1", "region: us-east-1\nregion: eu-west-1", 3, "region"},
		{"alias", "region: us-east-1", "region: &r us-east-1", 2, "anchors"},
		{"syntax", "region: us-east-1", "region: [us-east-1", 0, "no valid YAML"},
		{"list", "architectures:\n  python:\n    lambda:", "architectures:\n  python: 5\n  other:\n    lambda:", 12, "must be a mapping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(goodScenario, tt.old, tt.replace, 1)
			if text == goodScenario {
				t.Fatal("the test changes nothing")
			}
			_, err := cost.LoadScenario(strings.NewReader(text), "s.yaml")
			bad, ok := errors.AsType[*cost.ScenarioError](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), tt.want) || bad.Name != "s.yaml" || tt.line != 0 && bad.Line != tt.line || bad.Hint() == "" {
				t.Errorf("got %v (hint %q), want line %d with %q", err, bad.Hint(), tt.line, tt.want)
			}
		})
	}
	for _, text := range []string{"", "# nothing\n", "5", "- a\n", "version: 1\n"} {
		if _, err := cost.LoadScenario(strings.NewReader(text), "s.yaml"); err == nil {
			t.Errorf("%q accepted", text)
		}
	}
	_, err := cost.LoadScenario(strings.NewReader("version: 3\nmonth: x\n"), "s.yaml")
	if n := strings.Count(err.Error(), "s.yaml:"); n != 4 {
		t.Errorf("%d problems, want all 4: %v", n, err)
	}
}

func TestReadRecords(t *testing.T) {
	text := strings.Replace(goodScenario, "memory_mb: 128, billed: {mean_ms: 70}", "billed: {from: go.log}", 1)
	s, err := cost.LoadScenario(strings.NewReader(text), "s.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err == nil {
		t.Error("records that were not read passed")
	}
	err = s.ReadRecords(func(string) (io.ReadCloser, error) { return nil, os.ErrNotExist })
	user, ok := errors.AsType[*cost.UserError](err)
	if !errors.Is(err, os.ErrNotExist) || !ok || user.Hint() == "" {
		t.Errorf("got %v", err)
	}
	err = s.ReadRecords(func(name string) (io.ReadCloser, error) {
		if name != "go.log" {
			t.Errorf("opened %q", name)
		}
		return os.Open("testdata/paper.txt")
	})
	if err != nil {
		t.Fatal(err)
	}
	r := forecast(t, s)
	if got := r.Architectures[1].MeanBilledMS.Round(2).String(); got != "116.53" {
		t.Errorf("mean %s", got)
	}
}

func TestParseRatio(t *testing.T) {
	for _, tt := range [][2]string{{"2%", "0.02"}, {"0.02", "0.02"}, {" 2 %", "0.02"}, {"0", "0"}, {"-1.5%", "-0.015"}, {"0.99", "0.99"}, {"200%", "2"}} {
		if got, err := cost.ParseRatio(tt[0]); err != nil || got.String() != tt[1] {
			t.Errorf("%q: got %s (%v), want %s", tt[0], got, err, tt[1])
		}
	}
	for _, in := range []string{"", "%", "2%%", "two", "1", "2", "-1", "1.5", "1e3"} {
		if got, err := cost.ParseRatio(in); err == nil {
			t.Errorf("%q accepted as %s", in, got)
		}
	}
}

func FuzzScenario(f *testing.F) {
	f.Add([]byte(goodScenario))
	files, err := os.ReadDir(scenarioDir)
	if err != nil || len(files) < 5 {
		f.Fatalf("%d bundled scenarios (%v)", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(scenarioDir + "/" + file.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("version: 1\ntraffic: {requests_per_hour: 1e9}\narchitectures: {a: {lambda: {arch: arm, memory_mb: 128, billed: {mean_ms: 1}}}}\n"))
	f.Add([]byte("version: 1\nregion: us-east-1\nstart: 2026-12\ntraffic: {requests_per_hour: 5, dispersion: 3}\narchitectures:\n  a: {apigateway: rest, s3: {puts_per_request: 1}, logs: {kind: custom, gb: 5}, sqs: {message_bytes: 1, batch: 10, fifo: true}}\n  b: {base: a, kinesis: {record_bytes: 1}, firehose: {record_bytes: 9, gb: 1}, msk: {type: x, brokers: 3}, vcpu: {price_hour: 1, cpus: 1}}\n"))
	b := book(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := cost.LoadScenario(bytes.NewReader(data), "fuzz")
		if err != nil {
			if s != nil {
				t.Error("an error came with a scenario")
			}
			return
		}
		s.Months = min(s.Months, 3)
		r, err := cost.Forecast(s, b)
		if err != nil {
			return
		}
		for _, a := range r.Architectures {
			if a.Total.Err() != nil || a.Total.Sign() < 0 {
				t.Errorf("%s: total %s", a.Name, a.Total)
			}
		}
	})
}
