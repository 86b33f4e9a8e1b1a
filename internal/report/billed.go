package report

import (
	"encoding/json"
	"fmt"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// observedBlock shows cold and warm invocations apart and what the client waited for beside the function;
// nothing when the run file has no such figures.
func observedBlock(raw json.RawMessage) []block {
	var o lambdalog.Observed
	if len(raw) == 0 || json.Unmarshal(raw, &o) != nil || o.ColdStarts.Count+o.WarmStarts.Count == 0 {
		return nil
	}
	k := block{
		title: "What Lambda billed, in milliseconds",
		plain: "By Lambda's own records, joined request by request. network + gateway is what the client waited for beside duration and init.",
	}
	g := grid{caption: k.title, head: []string{"", "requests", "mean", "p50", "p95", "p99", "max"}}
	row := func(name string, n int64, d *lambdalog.Distribution) {
		if d.Mean.Known {
			g.rows = append(g.rows, []string{name, count(n), millis(d.Mean), millis(d.P50), millis(d.P95), millis(d.P99), millis(d.Max)})
		}
	}
	row("billed", o.Billable, &o.BilledMS)
	for _, s := range []struct {
		name string
		seen *lambdalog.Seen
	}{{"cold", &o.ColdStarts}, {"warm", &o.WarmStarts}} {
		n := s.seen.Count
		row(s.name+": client", n, &s.seen.ClientMS)
		row(s.name+": duration", n, &s.seen.DurationMS)
		row(s.name+": init", n, &s.seen.InitMS)
		row(s.name+": network + gateway", n, &s.seen.OutsideMS)
	}
	k.tables = []grid{g}
	note := func(format string, args ...any) { k.notes = append(k.notes, fmt.Sprintf(format, args...)) }
	if o.Refused > 0 {
		note("%s never reached the function and cost nothing there.", plural(o.Refused, "request"))
	}
	without := int64(0)
	if g := o.Gateway; g != nil {
		without = g.RequestsWithout
		note("The access log of the gateway named the invocations of %s.", plural(g.Bridged, "request"))
	}
	if without > 0 {
		note("%s no invocation in it: answered by the gateway alone, or by an invocation that it gave up, which is billed. These figures are without %s.",
			plural(without, "request")+singular(int(without), " has", " have"), singular(int(without), "it", "them"))
	}
	if n := o.Unmatched - without; n > 0 {
		note("%s answered without a record: billed, and not in these figures.", plural(n, "request"))
	}
	if o.SampledOneIn > 1 {
		note("Only one in %s request ids was kept, to bound the memory; the figures are of those.", count(o.SampledOneIn))
	}
	if w := &o.Warmup; w.Reports > 0 {
		note("The warm-up was billed %s ms on top, for %s, %s of them cold.", millis(w.BilledMS), plural(w.Reports, "request"), count(w.Cold))
	}
	if n := o.ColdStarts.Clamped + o.WarmStarts.Clamped; n > 0 {
		note("In %s the function went on after its answer; network + gateway counts as 0 there.", plural(n, "request"))
	}
	return []block{k}
}
