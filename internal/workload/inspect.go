package workload

import (
	"slices"
	"strings"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
)

// Summary is what a corpus holds.
type Summary struct {
	Total   Group
	Sources []Group // by org and cluster, in lexical order
}

// Group adds up requests.
type Group struct {
	Org, Cluster string // empty in the total
	Requests     int64
	Version1     int64 // of them in protocol 1.0; the others are 2.0
	Bytes        int64 // of the bodies, compressed
	Samples      int64
	Histograms   int64
	Exemplars    int64
	Series       int64 // series in requests: one that is in two requests counts twice
	MinBytes     int64 // size of bodies
	P50Bytes     int64
	MaxBytes     int64
	First, Last  time.Time // newest samples of the first and of the last request

	sizes []int64
}

func (g *Group) add(e *capture.Entry) {
	if g.Requests == 0 || e.Key.Time.Before(g.First) {
		g.First = e.Key.Time
	}
	if e.Key.Time.After(g.Last) {
		g.Last = e.Key.Time
	}
	g.Requests++
	if e.Key.Version == remotewrite.V1 {
		g.Version1++
	}
	g.Bytes += e.Size
	g.Samples += int64(e.Samples)
	g.Histograms += int64(e.Histograms)
	g.Exemplars += int64(e.Exemplars)
	g.Series += int64(e.Series)
	g.sizes = append(g.sizes, e.Size)
}

func (g *Group) finish() {
	slices.Sort(g.sizes)
	if n := len(g.sizes); n > 0 {
		g.MinBytes, g.P50Bytes, g.MaxBytes = g.sizes[0], g.sizes[(n-1)/2], g.sizes[n-1]
	}
	g.sizes = nil
}

// RequestsPerS is the mean rate at which the group's requests were captured; 0 for a single moment.
func (g *Group) RequestsPerS() float64 {
	if span := g.Last.Sub(g.First).Seconds(); span > 0 {
		return float64(g.Requests-1) / span
	}
	return 0
}

// Inspect adds up what the index of a corpus says.
func Inspect(c *capture.Corpus) *Summary {
	var s Summary
	groups := map[string]*Group{}
	entries := c.Entries()
	for i := range entries {
		e := &entries[i]
		name := e.Key.Org + "/" + e.Key.Cluster
		g := groups[name]
		if g == nil {
			g = &Group{Org: e.Key.Org, Cluster: e.Key.Cluster}
			groups[name] = g
		}
		g.add(e)
		s.Total.add(e)
	}
	s.Total.finish()
	for _, g := range groups {
		g.finish()
		s.Sources = append(s.Sources, *g)
	}
	slices.SortFunc(s.Sources, func(a, b Group) int { return strings.Compare(a.Org+"/"+a.Cluster, b.Org+"/"+b.Cluster) })
	return &s
}
