package cost

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// maxScenarioBytes bounds a scenario file.
const maxScenarioBytes = 1 << 20

// ScenarioError is a mistake in a scenario file, with its place.
type ScenarioError struct {
	// Name is the file and Line the line in it, from 1.
	Name string
	Line int
	// Msg says what is wrong and Fix what to write instead.
	Msg, Fix string
}

// Error returns file:line: message.
func (e *ScenarioError) Error() string { return fmt.Sprintf("%s:%d: %s", e.Name, e.Line, e.Msg) }

// Hint says what to write instead.
func (e *ScenarioError) Hint() string { return e.Fix }

// LoadScenario reads a scenario file:
//
//	version: 1
//	region: us-east-1
//	month: calendar            # or 30d, 730h
//	start: 2026-12
//	months: 24
//	growth_monthly: "0.02"     # or 2%
//	free_tier: false
//	traffic: {clusters: 891.5, per_cluster_per_hour: 1500}   # or requests_per_hour, or concurrency and mean_ms
//	architectures:
//	  python: {lambda: {arch: x86, memory_mb: 256, billed: {mean_ms: 953, cold_ms: 10600, cold_share: 0.001}}}
//	  go:     {lambda: {arch: arm, memory_mb: 128, billed: {from: reports.log}}, apigateway: http, s3: {puts_per_request: 1}}
//	  batched: {base: go, traffic: {per_cluster_per_hour: 6}}   # takes everything else from go, which stands above it
//
// lambda may be a list of functions, each with a name. Services beside lambda are apigateway, websocket,
// s3, logs, kinesis, firehose, sqs, dynamodb, ec2, vcpu, fargate, msk, alb, eks, nat, transfer, lmi and ops;
// their keys are in docs/costs.md.
//
// mean_ms is the mean over all invocations; warm_ms with cold_ms and cold_share
// gives it in parts. Keys are strict: an unknown key, a key that stands twice,
// and an anchor are errors. All mistakes are returned together, each a
// *ScenarioError with file and line. Files named in from are not opened; see
// Scenario.ReadRecords.
func LoadScenario(r io.Reader, name string) (*Scenario, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxScenarioBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(data) > maxScenarioBytes {
		return nil, fmt.Errorf("reading %s: larger than %d bytes", name, maxScenarioBytes)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, yamlError(err, name)
	}
	l := &loader{name: name}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, &ScenarioError{name, 1, "the scenario is empty", "begin with version: 1"}
	}
	s := l.scenario(doc.Content[0])
	if err := errors.Join(l.problems...); err != nil {
		return nil, err
	}
	return s, nil
}

// yamlError keeps the line of a syntax error.
func yamlError(err error, name string) error {
	line := 1
	if _, rest, ok := strings.Cut(err.Error(), "line "); ok {
		end := 0
		for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
			end++
		}
		if n, convErr := strconv.Atoi(rest[:end]); convErr == nil {
			line = n
		}
	}
	return &ScenarioError{name, line, "no valid YAML: " + firstLine(err.Error()), "check indentation, quotes and brackets near this line"}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// loader walks the YAML tree by hand: that keeps the line of every mistake, and
// numbers reach Decimal as they were written.
type loader struct {
	name     string
	problems []error
}

func (l *loader) bad(n *yaml.Node, fix, format string, args ...any) {
	if len(l.problems) < 50 {
		l.problems = append(l.problems, &ScenarioError{l.name, n.Line, fmt.Sprintf(format, args...), fix})
	}
}

// fields maps the keys of a mapping to what reads their values.
type fields map[string]func(*yaml.Node)

// mapping walks a mapping. A key that is not known is an error: what cannot be
// priced must never be ignored.
func (l *loader) mapping(n *yaml.Node, where string, known fields) {
	if n.Kind != yaml.MappingNode {
		l.bad(n, "write it as key: value pairs", "%s must be a mapping", where)
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || value.Kind == yaml.AliasNode || value.Anchor != "" || key.Value == "<<" {
			l.bad(key, "write the value out", "anchors, aliases and merge keys are not taken")
			continue
		}
		if seen[key.Value] {
			l.bad(key, "keep one of them", "%s stands twice in %s", key.Value, where)
			continue
		}
		seen[key.Value] = true
		read, ok := known[key.Value]
		if ok {
			read(value)
		} else {
			names := make([]string, 0, len(known))
			for name := range known {
				names = append(names, name)
			}
			slices.Sort(names)
			l.bad(key, "known keys: "+strings.Join(names, ", "), "unknown key %.40q in %s", key.Value, where)
		}
	}
}

func (l *loader) text(n *yaml.Node, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		l.bad(n, "write a single value", "%s must be a single value", what)
		return "", false
	}
	return n.Value, true
}

func (l *loader) number(n *yaml.Node, what string) *Decimal {
	text, ok := l.text(n, what)
	if !ok {
		return nil
	}
	d, err := ParseDecimal(text)
	if err != nil {
		l.bad(n, "write a number, such as 0.5", "%s: %v", what, err)
		return nil
	}
	if d.lostDigits() {
		l.bad(n, "write the number as it was meant", "%s is %.40s: it went through a binary float, which changed its last digits", what, text)
		return nil
	}
	return &d
}

func (l *loader) whole(n *yaml.Node, what string) int {
	d := l.number(n, what)
	if d == nil {
		return 0
	}
	v, ok := d.Int64()
	if !ok || !d.Equal(d.Round(0)) || v < 0 || v > 1_000_000_000 {
		l.bad(n, "write a whole number", "%s is %s, want a whole number", what, n.Value)
		return 0
	}
	return int(v)
}

func (l *loader) scenario(n *yaml.Node) *Scenario {
	s := &Scenario{Month: MonthCalendar, Months: 24}
	version, traffic, architectures := false, false, false
	var archNode *yaml.Node
	var named []*yaml.Node
	l.mapping(n, "the scenario", fields{
		"version": func(v *yaml.Node) {
			version = true
			if v.Value != "1" {
				l.bad(v, "write version: 1", "version is %.20q, this program reads version 1", v.Value)
			}
		},
		"region": func(v *yaml.Node) { s.Region, _ = l.text(v, "region") },
		"month": func(v *yaml.Node) {
			text, ok := l.text(v, "month")
			if !ok {
				return
			}
			rule, err := ParseMonthRule(text)
			if err != nil {
				l.bad(v, "write calendar, 30d or 730h", "%v", err)
			}
			s.Month = rule
		},
		"start": func(v *yaml.Node) {
			text, ok := l.text(v, "start")
			if !ok {
				return
			}
			start, err := ParseYearMonth(text)
			if err != nil {
				l.bad(v, "write a month such as 2026-12", "start: %v", err)
			}
			s.Start = start
		},
		"months": func(v *yaml.Node) {
			if s.Months = l.whole(v, "months"); s.Months < 1 || s.Months > maxMonths {
				l.bad(v, "write months: 24", "months is %.20s, want 1 to %d", v.Value, maxMonths)
			}
		},
		"growth_monthly": func(v *yaml.Node) {
			text, ok := l.text(v, "growth_monthly")
			if !ok {
				return
			}
			g, err := ParseRatio(text)
			if err != nil {
				l.bad(v, "write 0.02 or 2%", "growth_monthly: %v", err)
			} else if !validGrowth(g) {
				l.bad(v, "write 0.02 or 2%", "growth of %s a month is out of range", g)
			}
			s.Growth = g
		},
		"free_tier": func(v *yaml.Node) {
			switch v.Value {
			case "true":
				s.FreeTier = true
			case "false":
			default:
				l.bad(v, "write true or false", "free_tier is %.20q", v.Value)
			}
		},
		"quota":     func(v *yaml.Node) { s.Quota = l.whole(v, "quota") },
		"seed":      func(v *yaml.Node) { s.Seed = uint64(l.whole(v, "seed")) },
		"baseline":  func(v *yaml.Node) { named = append(named, v); s.Baseline, _ = l.text(v, "baseline") },
		"candidate": func(v *yaml.Node) { named = append(named, v); s.Candidate, _ = l.text(v, "candidate") },
		"bands": func(v *yaml.Node) {
			l.mapping(v, "bands", fields{
				"low":  func(v *yaml.Node) { s.Low = l.variation("low", v) },
				"high": func(v *yaml.Node) { s.High = l.variation("high", v) },
			})
		},
		"traffic": func(v *yaml.Node) {
			traffic = true
			s.Traffic = l.traffic(v, Traffic{})
		},
		"architectures": func(v *yaml.Node) {
			architectures = true
			archNode = v // read last: architectures may change parts of the traffic
		},
	})
	if archNode != nil {
		s.Architectures = l.architectures(archNode, s.Traffic)
		for _, v := range named {
			if !slices.ContainsFunc(s.Architectures, func(a Architecture) bool { return a.Name == v.Value }) {
				l.bad(v, "name one of the architectures", "there is no architecture %.40q to compare", v.Value)
			}
		}
	}
	if n.Kind == yaml.MappingNode {
		for key, there := range map[string]bool{"version": version, "traffic": traffic, "architectures": architectures} {
			if !there {
				l.bad(n, "add "+key+":", "%s is missing", key)
			}
		}
		slices.SortStableFunc(l.problems, compareProblems)
	}
	return s
}

// variation reads one of the bands.
func (l *loader) variation(name string, n *yaml.Node) *Variation {
	v, before := new(Variation), len(l.problems)
	l.mapping(n, "bands."+name, fields{
		"growth_monthly": func(n *yaml.Node) {
			text, ok := l.text(n, "growth_monthly")
			if !ok {
				return
			}
			g, err := ParseRatio(text)
			if err != nil {
				l.bad(n, "write 0.02 or 2%", "growth_monthly: %v", err)
				return
			}
			v.Growth = &g
		},
		"requests":   l.setp(&v.Requests, "requests"),
		"billed":     l.setp(&v.Billed, "billed"),
		"cold_share": l.setp(&v.ColdShare, "cold_share"),
		"batch":      l.setp(&v.Batch, "batch"),
	})
	if len(l.problems) == before {
		for _, err := range v.problems(name) {
			if e, ok := errors.AsType[*UserError](err); ok {
				l.bad(n, e.Hint(), "%v", e)
			}
		}
	}
	return v
}

// compareProblems orders by line, then by text, so that the same file always
// gives the same list.
func compareProblems(a, b error) int {
	x, okX := errors.AsType[*ScenarioError](a)
	y, okY := errors.AsType[*ScenarioError](b)
	if okX && okY && x.Line != y.Line {
		return x.Line - y.Line
	}
	return strings.Compare(a.Error(), b.Error())
}

// traffic reads a traffic mapping. What it states replaces what t has; another
// form of the rate replaces the form that t has.
func (l *loader) traffic(n *yaml.Node, t Traffic) Traffic {
	var own Traffic
	l.mapping(n, "traffic", fields{
		"requests_per_hour":    func(v *yaml.Node) { own.RequestsPerHour = l.number(v, "requests_per_hour") },
		"clusters":             func(v *yaml.Node) { own.Clusters = l.number(v, "clusters") },
		"per_cluster_per_hour": func(v *yaml.Node) { own.PerClusterPerHour = l.number(v, "per_cluster_per_hour") },
		"concurrency":          func(v *yaml.Node) { own.Concurrency = l.number(v, "concurrency") },
		"mean_ms":              func(v *yaml.Node) { own.MeanMS = l.number(v, "mean_ms") },
		"payload_bytes":        func(v *yaml.Node) { own.PayloadBytes = l.number(v, "payload_bytes") },
		"dispersion":           func(v *yaml.Node) { own.Dispersion = l.number(v, "dispersion") },
	})
	if own.Clusters != nil || own.PerClusterPerHour != nil {
		t.RequestsPerHour, t.Concurrency = nil, nil
	}
	if own.RequestsPerHour != nil {
		t.Clusters, t.PerClusterPerHour, t.Concurrency = nil, nil, nil
	}
	if own.Concurrency != nil {
		t.Clusters, t.PerClusterPerHour, t.RequestsPerHour = nil, nil, nil
	}
	for _, f := range [...]struct{ to, from **Decimal }{
		{&t.RequestsPerHour, &own.RequestsPerHour},
		{&t.Clusters, &own.Clusters},
		{&t.PerClusterPerHour, &own.PerClusterPerHour},
		{&t.Concurrency, &own.Concurrency},
		{&t.MeanMS, &own.MeanMS},
		{&t.PayloadBytes, &own.PayloadBytes},
		{&t.Dispersion, &own.Dispersion},
	} {
		if *f.from != nil {
			*f.to = *f.from
		}
	}
	if len(l.problems) == 0 {
		if _, err := t.PerHour(); err != nil {
			l.bad(n, "give requests_per_hour, or clusters and per_cluster_per_hour, or concurrency and mean_ms", "traffic: %v", err)
		}
	}
	return t
}

func (l *loader) architectures(n *yaml.Node, traffic Traffic) []Architecture {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		l.bad(n, "write NAME: {lambda: …} for each", "architectures must be a mapping of names")
		return nil
	}
	var list []Architecture
	known := make(fields)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		known[name] = func(v *yaml.Node) { list = append(list, l.architecture(name, v, traffic, list)) }
	}
	l.mapping(n, "architectures", known)
	return list
}

// architecture reads one architecture. before are those that stand above it in
// the file, which it may take as its base.
func (l *loader) architecture(name string, n *yaml.Node, traffic Traffic, before []Architecture) Architecture {
	a := Architecture{Name: name}
	if base := l.base(name, n, before); base != nil {
		a.Traffic, a.Functions, a.Services = base.Traffic, slices.Clone(base.Functions), slices.Clone(base.Services)
		if base.Traffic != nil {
			traffic = *base.Traffic
		}
	}
	known := l.services(name, &a)
	known["base"] = func(*yaml.Node) {}
	known["lambda"] = func(v *yaml.Node) { a.Functions = l.functions(name, v) }
	known["traffic"] = func(v *yaml.Node) {
		own := l.traffic(v, traffic)
		a.Traffic = &own
	}
	l.mapping(n, name, known)
	if n.Kind == yaml.MappingNode && len(a.Functions) == 0 && len(a.Services) == 0 {
		l.bad(n, "add lambda: {arch: …, memory_mb: …, billed: {…}}", "%s has neither lambda nor another service", name)
	}
	return a
}

// base finds the architecture that another one builds on.
func (l *loader) base(name string, n *yaml.Node, before []Architecture) *Architecture {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "base" {
			continue
		}
		v := n.Content[i+1]
		j := slices.IndexFunc(before, func(a Architecture) bool { return a.Name == v.Value })
		if j < 0 {
			l.bad(v, "name an architecture that stands above this one", "%s: there is no architecture %.40q above it", name, v.Value)
			return nil
		}
		return &before[j]
	}
	return nil
}

// functions reads one function, or a list of them, each with a name.
func (l *loader) functions(name string, n *yaml.Node) []Function {
	if n.Kind != yaml.SequenceNode {
		return []Function{l.function(name, n)}
	}
	var list []Function
	for _, v := range n.Content {
		f := l.function(name, v)
		switch {
		case v.Kind != yaml.MappingNode:
		case f.Name == "":
			l.bad(v, "add name:", "%s.lambda has several functions and this one has no name", name)
		case slices.ContainsFunc(list, func(o Function) bool { return o.Name == f.Name }):
			l.bad(v, "give each its own name", "%s.lambda has two functions %.40q", name, f.Name)
		}
		list = append(list, f)
	}
	if len(list) == 0 {
		l.bad(n, "name at least one function", "%s.lambda is empty", name)
	}
	return list
}

func (l *loader) function(name string, n *yaml.Node) Function {
	f := Function{Arch: ArchX86}
	arch, billed, before := false, false, len(l.problems)
	l.mapping(n, name+".lambda", fields{
		"arch": func(v *yaml.Node) {
			arch = true
			text, ok := l.text(v, "arch")
			if !ok {
				return
			}
			a, err := ParseArch(text)
			if err != nil {
				l.bad(v, "write arm64 or x86_64", "%v", err)
			}
			f.Arch = a
		},
		"memory_mb": func(v *yaml.Node) { f.Memory = lambdalog.MB(l.whole(v, "memory_mb")) },
		"billed": func(v *yaml.Node) {
			billed = true
			f.Billed = l.billed(name, v)
		},
		"ephemeral_mb": func(v *yaml.Node) { f.EphemeralMB = lambdalog.MB(l.whole(v, "ephemeral_mb")) },
		"per_request":  func(v *yaml.Node) { f.PerRequest = l.number(v, "per_request") },
		"batch": func(v *yaml.Node) {
			if d := l.number(v, "batch"); d != nil {
				if d.Sign() <= 0 {
					l.bad(v, "write the number of requests in a batch", "batch is %s", d)
					return
				}
				each := Int(1).Quo(*d)
				f.PerRequest = &each
			}
		},
		"savings_plan": func(v *yaml.Node) {
			f.Plan = SavingsPlan(v.Value)
			if f.Plan != SavingsPlan1Y && f.Plan != SavingsPlanUpfront {
				l.bad(v, "write 1y-no-upfront or all-upfront", "savings_plan is %.20q", v.Value)
			}
		},
		"provisioned": func(v *yaml.Node) {
			p := new(Provisioned)
			l.mapping(v, name+".lambda.provisioned", fields{
				"environments":  l.setInt(&p.Environments, "environments"),
				"hours_per_day": l.setp(&p.HoursPerDay, "hours_per_day"),
			})
			f.Provisioned = p
		},
		"name":           l.setText(&f.Name, "name"),
		"async":          l.setBool(&f.Async, "async"),
		"streamed_bytes": l.setp(&f.StreamedBytes, "streamed_bytes"),
		"durable": func(v *yaml.Node) {
			f.Durable = new(Durable)
			l.mapping(v, name+".lambda.durable", fields{
				"operations_per_invocation": l.set(&f.Durable.OperationsPerInvocation, "operations_per_invocation"),
				"bytes_per_invocation":      l.set(&f.Durable.BytesPerInvocation, "bytes_per_invocation"),
				"retained_gb":               l.set(&f.Durable.RetainedGB, "retained_gb"),
			})
		},
		"pollers": func(v *yaml.Node) {
			f.Pollers = new(Pollers)
			l.mapping(v, name+".lambda.pollers", fields{
				"source": l.setText(&f.Pollers.Source, "source"),
				"units":  l.set(&f.Pollers.Units, "units"),
			})
		},
		"snapstart": func(v *yaml.Node) {
			s := &SnapStart{Versions: Int(1)}
			l.mapping(v, name+".lambda.snapstart", fields{
				"versions":                l.set(&s.Versions, "versions"),
				"restores_per_invocation": l.set(&s.RestoresPerInvocation, "restores_per_invocation"),
			})
			f.SnapStart = s
		},
	})
	if n.Kind == yaml.MappingNode && !arch {
		l.bad(n, "add arch: arm64 or arch: x86_64", "%s.lambda has no arch", name)
	}
	if n.Kind == yaml.MappingNode && !billed {
		l.bad(n, "add billed: {mean_ms: …} or billed: {from: FILE}", "%s.lambda has no billed", name)
	}
	if billed && f.Memory == 0 && f.Billed.From == "" {
		l.bad(n, "add memory_mb: 128", "%s.lambda has no memory_mb", name)
	}
	if n.Kind != yaml.MappingNode || len(l.problems) > before {
		return f
	}
	problems := f.problems(name)
	if f.Billed.From == "" && billed {
		problems = append(problems, f.Billed.problems(name)...)
	}
	for _, err := range problems {
		if e, ok := errors.AsType[*UserError](err); ok {
			l.bad(n, e.Hint(), "%v", e)
		}
	}
	return f
}

func (l *loader) billed(name string, n *yaml.Node) Billed {
	var b Billed
	l.mapping(n, name+".lambda.billed", fields{
		"mean_ms":    func(v *yaml.Node) { b.MeanMS = l.number(v, "mean_ms") },
		"warm_ms":    func(v *yaml.Node) { b.WarmMS = l.number(v, "warm_ms") },
		"cold_ms":    func(v *yaml.Node) { b.ColdMS = l.number(v, "cold_ms") },
		"cold_share": func(v *yaml.Node) { b.ColdShare = l.number(v, "cold_share") },
		"from":       func(v *yaml.Node) { b.From, _ = l.text(v, "from") },
	})
	if b.From != "" && (b.MeanMS != nil || b.WarmMS != nil || b.ColdMS != nil || b.ColdShare != nil) {
		l.bad(n, "keep either from or the stated means", "%s: from already says what the means are", name)
	}
	return b
}

// ParseRatio reads a ratio written as 0.02 or as 2%. A bare number of 1 or more is an error: who writes 2 means 2%.
func ParseRatio(s string) (Decimal, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	d, err := ParseDecimal(strings.TrimSpace(number))
	if err != nil {
		return Decimal{}, err
	}
	switch {
	case percent:
		d = d.Quo(Int(100))
	case d.Cmp(Int(1)) >= 0 || d.Cmp(Int(-1)) <= 0:
		return Decimal{}, fmt.Errorf("%.20q is not a share such as 5%% or 0.05", s)
	}
	return d, nil
}

// ReadRecords reads the records of every function whose Billed names a file: Lambda's
// own, or a run whose target said what it billed.
// open is given the name as it stands in the scenario; it decides what the name
// is relative to. The readers it returns are closed.
func (s *Scenario) ReadRecords(open func(name string) (io.ReadCloser, error)) error {
	for i := range s.Architectures {
		for j := range s.Architectures[i].Functions {
			f := &s.Architectures[i].Functions[j]
			if f.Billed.From == "" || f.Billed.Usage != nil || f.Billed.MeanMS != nil {
				continue
			}
			if err := f.readRecords(open); err != nil {
				return fmt.Errorf("%s: %w", s.Architectures[i].Name, err)
			}
		}
	}
	return nil
}

func (fn *Function) readRecords(open func(name string) (io.ReadCloser, error)) (err error) {
	b := &fn.Billed
	f, err := open(b.From)
	if err != nil {
		return &UserError{
			msg: fmt.Sprintf("opening the records %q", b.From), err: err,
			hint: "from is relative to the scenario file",
		}
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	br := bufio.NewReaderSize(f, 64<<10)
	head, err := br.Peek(4 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading %s: %w", b.From, err)
	}
	if IsRun(head) {
		billed, memory, err := BilledOfRun(br, b.From)
		if err != nil {
			return err
		}
		fn.Billed = billed
		if fn.Memory == 0 {
			fn.Memory = memory
		}
		return nil
	}
	b.Usage, err = UsageOf(lambdalog.Scan(br, b.From))
	return err
}
