package replay

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// ShardBy says how a plan is split.
type ShardBy string

// The ways to split a plan. By source keeps the order of each source, which a receiver needs; by request
// deals entries out one by one.
const (
	BySource  ShardBy = "source"
	ByRequest ShardBy = "request"
)

// Shard is the part of a plan that one process executes: Index (from 0) of Total. The parts are disjoint
// and their union is the plan. The zero value is the whole plan.
type Shard struct {
	Index, Total int
	By           ShardBy
}

// ParseShard reads I/N with I from 0 to N-1.
func ParseShard(s string, by ShardBy) (Shard, error) {
	i, n, ok := strings.Cut(s, "/")
	index, err1 := strconv.Atoi(i)
	total, err2 := strconv.Atoi(n)
	if !ok || err1 != nil || err2 != nil || total < 1 || total > 100_000 || index < 0 || index >= total {
		return Shard{}, fmt.Errorf("shard %q is not I/N: I counts from 0, so the shards of 4 are 0/4, 1/4, 2/4 and 3/4", s)
	}
	if by != BySource && by != ByRequest {
		return Shard{}, fmt.Errorf("shard-by must be source or request, not %q", by)
	}
	return Shard{index, total, by}, nil
}

// owner returns the shard of a source: a hash of its name, so that it depends on nothing else.
func owner(source string, total int) int {
	h := fnv.New32a()
	h.Write([]byte(source))
	return int(h.Sum32() % uint32(total)) //nolint:gosec // total is at most 100,000
}
