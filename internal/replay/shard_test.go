package replay

import (
	"context"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// TestShardsArePartition: for any plan and any number of shards, every entry belongs to exactly one of them, each counts
// what it owns, a source stays with one shard when the plan is split by source, and all shards have one plan hash.
func TestShardsArePartition(t *testing.T) {
	const seed = 11
	rnd := rand.New(rand.NewPCG(seed, 1))
	for round := range 300 {
		objects, fanOut, total := 1+rnd.IntN(12), 1+rnd.IntN(4), 1+rnd.IntN(9)
		sources := randomSources(rnd, objects, fanOut)
		c := PlanConfig{
			RatePerS: 1 + float64(rnd.IntN(500)), Requests: 1 + rnd.IntN(400), WarmupRequests: rnd.IntN(30), FanOut: fanOut, Loop: true,
			Objects: objects, Sources: sources, Poisson: rnd.IntN(2) == 0, Seed: rnd.Uint64(),
		}
		keys := func(yield func(string) bool) {
			for i := range objects {
				if !yield(strconv.Itoa(i)) {
					return
				}
			}
		}
		by := []ShardBy{BySource, ByRequest}[rnd.IntN(2)]
		whole, err := NewPlan(c)
		if err != nil {
			t.Fatal(err)
		}
		owner := make([]int, whole.Total())
		ofSource := map[string]int{}
		warmups, measured := 0, 0
		for index := range total {
			c.Shard = Shard{index, total, by}
			p, err := NewPlan(c)
			if err != nil {
				t.Fatal(err)
			}
			if p.SHA256(keys) != whole.SHA256(keys) {
				t.Fatalf("seed %d, round %d: shard %d has another plan hash", seed, round, index)
			}
			own := 0
			for n := range p.Total() {
				if p.Due(n) != whole.Due(n) {
					t.Fatalf("seed %d, round %d: entry %d is due at another time in shard %d", seed, round, n, index)
				}
				if !p.Owns(n) {
					continue
				}
				own++
				owner[n]++
				object, replica, _ := p.Object(n)
				if s := sources.NameAt(object, replica); by == BySource && total > 1 {
					if first, seen := ofSource[s]; seen && first != index {
						t.Fatalf("seed %d, round %d: source %s is in shards %d and %d", seed, round, s, first, index)
					}
					ofSource[s] = index
				}
			}
			w, m := p.Own()
			if w+m != own {
				t.Fatalf("seed %d, round %d: shard %d counts %d and owns %d", seed, round, index, w+m, own)
			}
			warmups, measured = warmups+w, measured+m
		}
		for n, times := range owner {
			if times != 1 {
				t.Fatalf("seed %d, round %d: entry %d belongs to %d of %d shards by %s", seed, round, n, times, total, by)
			}
		}
		if warmups != whole.Warmup || measured != whole.Requests {
			t.Fatalf("seed %d, round %d: the shards have %d+%d entries, the plan %d+%d", seed, round, warmups, measured, whole.Warmup, whole.Requests)
		}
	}
}

// TestReplicasShareAModel: which replica comes first does not show in the bytes of any.
func TestReplicasShareAModel(t *testing.T) {
	for digits, want := range map[int]int{1: 2, 2: 10, 3: 100, 5: 10_000} {
		if got := firstOfWidth(digits); got != want {
			t.Errorf("the first replica of %d digits: %d, want %d", digits, got, want)
		}
	}
	c := bundled(t)
	plan := mustPlan(t, PlanConfig{RatePerS: 100, Requests: 120, Loop: true, FanOut: 12, Objects: len(c.Entries())})
	bodies := func(backwards bool) map[int]string {
		e, err := newEngine(Config{Corpus: c, Plan: plan, Timestamps: Keep, Timeout: time.Minute, Sender: senderFunc(func(context.Context, *Outgoing) Response { return Response{} })})
		if err != nil {
			t.Fatal(err)
		}
		p, all := e.preparer(), map[int]string{}
		for i := range plan.Total() {
			if backwards {
				i = plan.Total() - 1 - i
			}
			j, err := p.prepare(t.Context(), i)
			if err != nil {
				t.Fatal(err)
			}
			all[i] = string(j.req.Body)
		}
		return all
	}
	if !maps.Equal(bodies(false), bodies(true)) {
		t.Error("bodies differ when the last is prepared first")
	}
}
