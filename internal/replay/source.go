package replay

import (
	"fmt"
	"strconv"

	"github.com/cirrusbench/cirrusbench/internal/capture"
)

// Source is what sends the requests of one cluster of an org: the unit whose order is kept.
type Source struct {
	Org, Cluster string
	number       int // of the distinct sources, from 0
}

// Name is how results call the source: org/cluster.
func (s Source) Name() string { return s.Org + "/" + s.Cluster }

// SourceTable says which source each object's each replica comes from. It takes four bytes an object, however
// many replicas there are.
type SourceTable struct {
	fanOut  int
	base    []int32  // by object: its captured cluster's first in sources
	sources []Source // by captured cluster and replica
	names   []string // of the distinct sources
}

// Sources makes the table. The first replica of a cluster is the captured cluster itself, the others are named
// after it.
func Sources(c *capture.Corpus, fanOut int) (*SourceTable, error) {
	fanOut = max(fanOut, 1)
	type captured struct{ org, cluster string }
	entries := c.Entries()
	t := &SourceTable{fanOut: fanOut, base: make([]int32, len(entries))}
	first := map[captured]int32{}
	of := map[string]captured{} // by a source's name: the captured one it comes from
	for i := range entries {
		k := captured{entries[i].Key.Org, entries[i].Key.Cluster}
		base, ok := first[k]
		if !ok {
			base = int32(len(t.sources))
			first[k] = base
			for replica := range fanOut {
				s := Source{Org: k.org, Cluster: k.cluster, number: len(t.sources)}
				if replica > 0 {
					s.Cluster = replicaName(k.cluster, replica+1)
					if err := capture.ValidName(s.Cluster); err != nil {
						return nil, fmt.Errorf("naming a replica of cluster %s: %w", k.cluster, err)
					}
				}
				name := s.Name()
				if other, taken := of[name]; taken {
					replicated := k.cluster
					if replica == 0 { // this one is the captured, and the other's replica has its name
						replicated = other.cluster
					}
					return nil, fmt.Errorf("naming a replica of cluster %s: the corpus has a cluster %s already", replicated, s.Cluster)
				}
				of[name] = k
				t.sources = append(t.sources, s)
				t.names = append(t.names, name)
			}
		}
		t.base[i] = base
	}
	return t, nil
}

// replicaName is the name of a cluster's replica, which are counted from 2: the first is the cluster itself.
func replicaName(cluster string, n int) string { return cluster + ".r" + strconv.Itoa(n) }

// firstOfWidth is the first replica whose number has so many digits.
func firstOfWidth(digits int) int {
	n := 2
	for i, power := 1, 10; i < digits; i, power = i+1, power*10 {
		n = power
	}
	return n
}

// At is the source that an object's replica, from 0, comes from.
func (t *SourceTable) At(object, replica int) *Source { return &t.sources[int(t.base[object])+replica] }

// NameAt is At's name, without making it anew.
func (t *SourceTable) NameAt(object, replica int) string {
	return t.names[int(t.base[object])+replica]
}

// Names are those of the distinct sources.
func (t *SourceTable) Names() []string { return t.names }
