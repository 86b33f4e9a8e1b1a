package cost_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// sized returns n warm records and some cold ones of a memory size.
func sized(memory lambdalog.MB, warmMS, n, coldMS, colds int) cost.TuneInput {
	u := new(cost.Usage)
	for i := range n {
		v := invocation(warmMS+i%3-1, false, time.Time{}, "")
		v.Memory = memory
		u.Add(v)
	}
	for range colds {
		v := invocation(coldMS, true, time.Time{}, "")
		v.Memory = memory
		u.Add(v)
	}
	return cost.TuneInput{Memory: memory, Billed: cost.Billed{Usage: u}}
}

func TestTune(t *testing.T) {
	c := cost.TuneConfig{Region: "us-east-1", Arch: cost.ArchX86, Balance: dec(t, "0.5"), Seed: 1}
	// A function that is bound by the CPU up to 1,024 MB: twice the memory, half the time, the same cost. Beyond
	// that more memory costs more and gains nothing; 2,048 MB is dominated by 1,024.
	in := []cost.TuneInput{
		sized(1024, 100, 300, 1000, 6), sized(512, 210, 300, 2000, 6), sized(2048, 101, 300, 900, 0), sized(256, 400, 300, 4000, 6),
	}
	r, err := cost.Tune(in, c, book(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Points) != 4 || r.Points[0].Memory != 256 || r.Points[3].Memory != 2048 {
		t.Fatalf("%+v", r.Points)
	}
	p := r.Points[2]
	// 1 GB for 0.1 s, a million times: 1.66667, and 0.20 for the requests.
	if got := p.Warm.PerMillion.Fixed(5); got != "1.86667" || p.Warm.MeanMS.Round(3).String() != "100.000" || p.Warm.Samples != 300 {
		t.Errorf("warm: %s, %+v", got, p.Warm)
	}
	if got := p.Cold.PerMillion.Fixed(4); got != "16.8667" || p.Cold.Samples != 6 {
		t.Errorf("cold: %s, %+v", got, p.Cold)
	}
	if p.All.Samples != 306 || p.All.PerMillion.Cmp(p.Warm.PerMillion) <= 0 || p.All.PerMillion.Cmp(p.Cold.PerMillion) >= 0 {
		t.Errorf("all: %+v", p.All)
	}
	if v := p.Warm.CostInterval; v.Low.Cmp(p.Warm.PerMillion) > 0 || v.High.Cmp(p.Warm.PerMillion) < 0 {
		t.Errorf("interval %s to %s", v.Low, v.High)
	}
	if r.Points[3].Cold != nil || r.Points[3].Warm == nil {
		t.Error("a cold start that was not seen")
	}
	var front []lambdalog.MB
	for _, p := range r.Points {
		if p.Pareto {
			front = append(front, p.Memory)
		}
	}
	if !slices.Equal(front, []lambdalog.MB{1024}) {
		t.Errorf("Pareto front %v, want 1024 alone: 256 MB cost the same and are slower", front)
	}
	if r.Cost.Memory != 1024 || !slices.Equal(r.Cost.Tied, []lambdalog.MB{256}) || r.Speed.Memory != 1024 || r.Balanced.Memory != 1024 {
		t.Errorf("cost %+v, speed %+v, balanced %+v", r.Cost, r.Speed, r.Balanced)
	}
	if len(r.Warnings) != 0 {
		t.Errorf("warnings %v", r.Warnings)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	again, err := cost.Tune(in, c, book(t))
	if err != nil || *again.Points[0].Warm.Interval != *r.Points[0].Warm.Interval {
		t.Errorf("the same seed gave another interval (%v)", err)
	}

	// The strategies go by warm invocations; without any by all.
	cold, err := cost.Tune([]cost.TuneInput{sized(128, 0, 0, 500, 5), sized(256, 0, 0, 200, 5)}, c, book(t))
	if err != nil || cold.Cost.Memory != 256 || len(cold.Warnings) != 2 {
		t.Errorf("%+v (%v)", cold, err)
	}
	// A mean without records has no interval, and says so.
	mean, err := cost.Tune([]cost.TuneInput{{Memory: 128, Billed: cost.Billed{MeanMS: decp(t, "70"), Samples: 600}}}, c, book(t))
	if err != nil || mean.Points[0].All.Interval != nil || mean.Points[0].All.PerMillion.Fixed(6) != "0.345834" || len(mean.Warnings) != 2 {
		t.Errorf("%+v (%v)", mean, err)
	}
	for _, bad := range []struct {
		in   []cost.TuneInput
		want string
	}{
		{nil, "nothing to compare"},
		{[]cost.TuneInput{sized(128, 5, 1, 0, 0), sized(128, 5, 1, 0, 0)}, "stands twice"},
		{[]cost.TuneInput{sized(64, 5, 1, 0, 0)}, "memory of 64 MB"},
		{[]cost.TuneInput{{Memory: 128, Billed: cost.Billed{Usage: new(cost.Usage)}}}, "no billed invocation"},
	} {
		if _, err := cost.Tune(bad.in, c, book(t)); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("got %v, want %q", err, bad.want)
		}
	}
	c.Balance = dec(t, "1.1")
	if _, err := cost.Tune(in, c, book(t)); err == nil {
		t.Error("a balance of 1.1")
	}
}
