package stats

import "golang.org/x/sys/cpu"

// hasAVX2 tells whether this processor has the instructions of siftAVX2.
var hasAVX2 = cpu.X86.HasAVX2 && cpu.X86.HasPOPCNT //nolint:gochecknoglobals // a constant of the processor

//nolint:gochecknoglobals // a constant table
var lanes = func() (lanes [256]uint64) {
	for mask := range lanes {
		to := 0
		for lane := range 8 {
			if mask>>lane&1 != 0 {
				lanes[mask] |= uint64(lane) << to
				to += 8
			}
		}
	}
	return lanes
}()

//go:noescape
func siftAVX2(dst, src []int32, lo, hi, tail int32, lanes *[256]uint64) (kept, aboveLo, aboveTail int, least int32)

// siftInt32 sifts as many of the first values as it can, and returns how many.
func siftInt32(s *sieve[int32], values []int32) int {
	if !hasAVX2 {
		return 0
	}
	n := len(values) &^ 7
	kept, aboveLo, aboveTail, least := siftAVX2(s.kept[len(s.kept):cap(s.kept)], values[:n], s.lo, s.hi, s.tail, &lanes)
	s.kept = s.kept[:len(s.kept)+kept]
	s.aboveLo += int64(aboveLo)
	s.aboveTail += int64(aboveTail)
	s.least = min(s.least, least)
	return n
}

//go:noescape
func partitionAVX2(values, spare []int32, pivot int32, lanes *[256]uint64) (low, high int)

func partitionInt32(values, spare []int32, pivot int32) (low, high int) {
	if !hasAVX2 {
		return 0, 0
	}
	return partitionAVX2(values[:len(values)&^7], spare, pivot, &lanes)
}
