package remotewrite

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math"
)

// Senders write the same series again and again, with other samples, and mostly in
// the same order. So the walker keeps a copy of label blocks of 1.0 series (all label
// fields of a series, which is nearly all of its bytes) that the fast path has found
// good. A series that starts with the very same bytes needs no second look at its
// labels. What is kept is never trusted for its hash or its place, only for a
// comparison of all of its bytes: at worst the memory is of no use.

// The bounds of what a walker remembers.
const (
	memoryBytes  = 1 << 20 // of label blocks
	memoryBlocks = 1 << 13
	memorySlots  = 1 << 14
	// firstNap and longestNap are for how many series a memory that was of no use
	// is switched off.
	firstNap   = 1 << 14
	longestNap = 1 << 20
)

// memory is what is remembered of label blocks.
type memory struct {
	arena  []byte  // the blocks, one behind another
	blocks []block // in the order in which they came
	// next is the block that is expected to come next: the one behind the last
	// that came.
	next  int
	slots []uint32 // by hash, the number of a block plus one
	seed  maphash.Seed
	// hash and hashOf are the last hash and the length of what it is of, when the
	// series under way was looked for and not found. hashOf 0: it was not.
	hash   uint64
	hashOf int

	maxLabels    int  // the limit that the blocks keep
	usable       bool // by the limits of the walk under way
	hits, missed int  // series since the memory was full
	nap, napping int
}

// block is a run of label fields that is good on its own: names not empty and not
// repeated, a __name__, no empty value, ASCII.
type block struct {
	off, size uint32
	unsorted  bool
}

// start prepares for a walk.
func (m *memory) start(usable bool, maxLabels int) {
	m.usable = usable
	if m.maxLabels != maxLabels {
		m.forget()
		m.maxLabels = maxLabels
	}
}

func (m *memory) forget() {
	m.arena, m.blocks, m.next = m.arena[:0], m.blocks[:0], 0
	m.hits, m.missed = 0, 0
	clear(m.slots)
}

// find looks for a block and makes it the next one.
func (m *memory) find(labels []byte) bool {
	m.hash, m.hashOf = maphash.Bytes(m.seed, labels), len(labels)
	n := int(m.slots[m.hash%memorySlots]) - 1
	if n < 0 || n == m.next {
		return false
	}
	k := m.blocks[n]
	if !bytes.Equal(m.arena[k.off:][:k.size], labels) {
		return false
	}
	m.next, m.hashOf = n, 0
	return true
}

// remember keeps a copy of a block, if there is room and use for it.
func (m *memory) remember(labels []byte, unsorted bool) {
	if m.napping > 0 {
		m.napping--
		return
	}
	if len(m.blocks) == memoryBlocks || len(m.arena)+len(labels) > memoryBytes {
		m.full()
		return
	}
	if m.slots == nil {
		m.slots, m.seed = make([]uint32, memorySlots), maphash.MakeSeed()
		m.nap = firstNap
	}
	if m.hashOf != len(labels) {
		m.hash = maphash.Bytes(m.seed, labels)
	}
	if m.next == len(m.blocks) {
		m.next++
	}
	m.blocks = append(m.blocks, block{off: uint32(len(m.arena)), size: uint32(len(labels)), unsorted: unsorted})
	m.arena = append(m.arena, labels...)
	m.slots[m.hash%memorySlots] = uint32(len(m.blocks))
}

// full decides from time to time whether a full memory is of use. Looking for a block
// in vain costs half of what finding it saves.
func (m *memory) full() {
	if m.missed++; m.missed < 4*len(m.blocks) {
		return
	}
	if m.hits < m.missed/2 {
		m.forget()
		m.napping, m.nap = m.nap, min(2*m.nap, longestNap)
		return
	}
	m.hits, m.missed, m.nap = 0, 0, firstNap
}

// recallV1 reads series fields from i on for as long as their labels are remembered
// and their samples are those of the fast path, and returns where it stopped.
func (w *Walker) recallV1(b []byte, i int) int {
	m := &w.mem
	m.hashOf = 0
	if len(m.blocks) == 0 {
		return i
	}
	s := &w.sum
	seriesRoom := w.seriesLeft - s.Series
	samplesRoom := w.samplesLeft - s.Samples - s.Histograms() - s.Exemplars
	f := fastSum{minMS: math.MaxInt64, maxMS: math.MinInt64}
	series, unsorted := 0, 0
	for series < seriesRoom && f.samples < samplesRoom && len(b)-i >= 16 && b[i] == 1<<3|wireLen {
		at, end := span(b, i+1)
		if end == bad {
			break
		}
		var k block
		known := false
		if m.next < len(m.blocks) {
			k = m.blocks[m.next]
			known = int(k.size) < end-at && bytes.Equal(b[at:at+int(k.size)], m.arena[k.off:k.off+k.size])
		}
		if !known {
			n := beforeSample(b[at:end])
			if n <= 0 || !m.find(b[at:at+n]) {
				break
			}
			k = m.blocks[m.next]
		}
		v := at + int(k.size)
		// Nearly always there is one sample with a value: 12 10 09 value 10 ms.
		if end-v == 18 && b[v] == 2<<3|wireLen && b[v+1] == 16 && b[v+2] == 1<<3|wireI64 && b[v+11] == 2<<3|wireVarint {
			ms := timestamp6(b, v+12)
			if ms < minPlausibleMS || ms > w.maxMS {
				break
			}
			if binary.LittleEndian.Uint64(b[v+3:]) == staleNaN {
				f.stale++
			}
			f.samples++
			f.minMS, f.maxMS = min(f.minMS, ms), max(f.maxMS, ms)
		} else {
			g := f
			for v != bad && v < end {
				v = w.fastSample(b[:end], v, &g)
			}
			if v == bad || g.samples > samplesRoom {
				break
			}
			f = g
		}
		if k.unsorted {
			unsorted++
		}
		m.next++
		series++
		i = end
	}
	m.hits += series
	s.Series += series
	s.Samples += f.samples
	s.StaleSamples += f.stale
	s.UnsortedSeries += unsorted
	s.minMS, s.maxMS = min(s.minMS, f.minMS), max(s.maxMS, f.maxMS)
	return i
}

// beforeSample guesses how much of a series comes before its one sample, which has 18
// bytes, or 9 when its value is zero. It returns 0 when it cannot tell.
func beforeSample(b []byte) int {
	if n := len(b) - 18; n > 0 && b[n] == 2<<3|wireLen && b[n+1] == 16 {
		return n
	}
	if n := len(b) - 9; n > 0 && b[n] == 2<<3|wireLen && b[n+1] == 7 {
		return n
	}
	return 0
}
