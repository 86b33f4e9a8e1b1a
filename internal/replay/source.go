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

// Sources returns the source of every object's every replica (object·fanOut + replica) and the names of
// the distinct ones. The first replica is the captured cluster itself, the others are named after it.
func Sources(c *capture.Corpus, fanOut int) (all []Source, names []string, err error) {
	fanOut = max(fanOut, 1)
	entries := c.Entries()
	all = make([]Source, 0, len(entries)*fanOut)
	replicaOf := map[string]string{} // by a source's name: the captured one it comes from
	numbers := map[string]int{}
	for i := range entries {
		k := &entries[i].Key
		for replica := range fanOut {
			s := Source{Org: k.Org, Cluster: k.Cluster}
			if replica > 0 {
				s.Cluster += ".r" + strconv.Itoa(replica+1)
				if err := capture.ValidName(s.Cluster); err != nil {
					return nil, nil, fmt.Errorf("naming a replica of cluster %s: %w", k.Cluster, err)
				}
			}
			name := s.Name()
			captured := k.Org + "/" + k.Cluster
			if other, ok := replicaOf[name]; ok && other != captured {
				return nil, nil, fmt.Errorf("naming a replica of cluster %s: the corpus has a cluster %s already", k.Cluster, s.Cluster)
			}
			replicaOf[name] = captured
			n, ok := numbers[name]
			if !ok {
				n = len(names)
				numbers[name] = n
				names = append(names, name)
			}
			s.number = n
			all = append(all, s)
		}
	}
	return all, names, nil
}
