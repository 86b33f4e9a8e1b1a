package workload

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

func config() SynthConfig {
	return SynthConfig{
		Orgs: 2, Clusters: 3, Series: 120, Batch: 50, Scrapes: 4, Interval: 15 * time.Second, Churn: 0.1, Histogram: 0.05,
		Version: remotewrite.V1, Start: time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC), Seed: 1,
	}
}

func synth(t *testing.T, c SynthConfig) (keys []string, s store.Store) {
	t.Helper()
	s = store.NewMemory()
	err := Synth(t.Context(), c, func(ctx context.Context, r Request) error {
		keys = append(keys, r.Key.String())
		_, err := s.Put(ctx, r.Key.String(), r.Body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys, s
}

// TestSynth: what is made loads as a corpus, which verifies every key and body, and holds what was asked for.
func TestSynth(t *testing.T) {
	for _, v := range []remotewrite.Version{remotewrite.V1, remotewrite.V2} {
		c := config()
		c.Version = v
		keys, s := synth(t, c)
		corpus, err := capture.Load(t.Context(), s, capture.Options{})
		if err != nil {
			t.Fatal(err)
		}
		sum := Inspect(corpus)
		requests := int64(2 * 3 * 4 * 3) // 120 series in batches of 50 are 3 requests
		series := int64(2 * 3 * 4 * 120)
		if sum.Total.Requests != requests || int64(len(keys)) != requests || sum.Total.Series != series || len(sum.Sources) != 6 {
			t.Errorf("%+v", sum.Total)
		}
		if sum.Total.Histograms != series*5/100 || sum.Total.Samples != series-sum.Total.Histograms {
			t.Errorf("%d histograms and %d samples in %d series", sum.Total.Histograms, sum.Total.Samples, series)
		}
		if span := sum.Total.Last.Sub(sum.Total.First); span < 45*time.Second || span >= 60*time.Second {
			t.Errorf("the captures span %v", span)
		}
		again, _ := synth(t, c)
		if fmt.Sprint(again) != fmt.Sprint(keys) {
			t.Error("the same configuration makes other requests")
		}
		c.Seed = 2
		if other, _ := synth(t, c); fmt.Sprint(other) == fmt.Sprint(keys) {
			t.Error("another seed makes the same requests")
		}
	}
}

// TestChurn: from scrape to scrape about the asked share of the series is new.
func TestChurn(t *testing.T) {
	for _, churn := range []float64{0, 0.1, 1} {
		c := config()
		c.Orgs, c.Clusters, c.Series, c.Batch, c.Scrapes, c.Churn, c.Histogram = 1, 1, 2000, 0, 3, churn, 0
		var seen []map[string]bool
		err := Synth(t.Context(), c, func(_ context.Context, r Request) error {
			raw, err := remotewrite.Decode(nil, r.Body, 0)
			if err != nil {
				return err
			}
			var m prompb.WriteRequest
			if err := m.Unmarshal(raw); err != nil {
				return err
			}
			series := map[string]bool{}
			for _, ts := range m.Timeseries {
				series[fmt.Sprint(ts.Labels)] = true
			}
			if len(series) != 2000 {
				t.Errorf("%d distinct series", len(series))
			}
			seen = append(seen, series)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(seen); i++ {
			fresh := 0
			for s := range seen[i] {
				if !seen[i-1][s] {
					fresh++
				}
			}
			if got := float64(fresh) / 2000; got < churn-0.02 || got > churn+0.02 {
				t.Errorf("churn %v: %v of the series are new", churn, got)
			}
		}
	}
}

func TestSynthRefuses(t *testing.T) {
	for _, change := range []func(*SynthConfig){
		func(c *SynthConfig) { c.Orgs = 0 }, func(c *SynthConfig) { c.Series = -1 }, func(c *SynthConfig) { c.Batch = -1 },
		func(c *SynthConfig) { c.Interval = 0 }, func(c *SynthConfig) { c.Churn = 1.1 }, func(c *SynthConfig) { c.Histogram = -0.1 },
		func(c *SynthConfig) { c.Version = 3 }, func(c *SynthConfig) { c.Start = time.Time{} },
	} {
		c := config()
		change(&c)
		if err := Synth(t.Context(), c, func(context.Context, Request) error { return nil }); err == nil {
			t.Errorf("%+v accepted", c)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Synth(ctx, config(), func(context.Context, Request) error { return nil }); err == nil {
		t.Error("a cancelled context does not end it")
	}
}
