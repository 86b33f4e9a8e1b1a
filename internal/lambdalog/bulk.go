package lambdalog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// blockBytes is how much text is read at a time: a block stays in the cache of
// the core that reads it.
const blockBytes = 256 << 10

// block is some whole lines of a text.
type block struct {
	buf  []byte // data, with fastLine bytes behind it that belong to nobody
	data []byte
	long bool // a line that is too long came before data
	open bool // the input ends in the middle of its last line
	seq  int
}

// blocks cuts a text into blocks of whole lines.
type blocks struct {
	r        io.Reader
	carry    []byte // the start of a line whose end is not read yet
	skipping bool   // in a line that is too long
	seq      int
	size     int   // how much to read at a time, at most blockBytes
	wait     bool  // fill a block, however slowly its bytes come
	err      error // why there is nothing more
}

// fill reads into p: something, or all of it if r.wait.
func (r *blocks) fill(p []byte) (n int, err error) {
	for idle := 0; n < len(p) && err == nil && (n == 0 || r.wait); {
		var m int
		m, err = r.r.Read(p[n:])
		n += m
		if idle++; m > 0 {
			idle = 0
		} else if idle == 100 {
			err = io.ErrNoProgress
		}
	}
	return n, err
}

// next reads the next block into b. It is false when there is none; err says why.
func (r *blocks) next(b *block) bool {
	if r.err != nil {
		return false
	}
	b.long, b.seq = false, r.seq
	r.seq++
	buf := b.buf[:0]
	buf = append(buf, r.carry...)
	carried := len(r.carry)
	r.carry = r.carry[:0]
	for {
		buf = slices.Grow(buf, r.size+fastLine)
		before := len(buf)
		n, err := r.fill(buf[before : before+r.size])
		r.err = err
		buf = buf[:before+n]
		if r.skipping {
			i := bytes.IndexByte(buf, '\n')
			if i < 0 {
				if buf = buf[:0]; err != nil {
					break
				}
				continue
			}
			r.skipping = false
			buf = buf[i+1:]
		}
		if carried > 0 {
			// Only a line that began before this read can be too long.
			i := bytes.IndexByte(buf[carried:], '\n')
			if i >= 0 && carried+i > MaxLineBytes {
				b.long = true
				buf = buf[carried+i+1:]
			}
		}
		end := bytes.LastIndexByte(buf, '\n') + 1
		if len(buf)-end > MaxLineBytes+1 {
			b.long = true
			r.skipping = true
			buf = buf[:end]
		}
		if err == nil && !r.skipping {
			r.carry = append(r.carry, buf[end:]...)
			buf = buf[:end]
		}
		break
	}
	b.data, b.buf = buf, buf
	b.open = r.err != nil && (r.skipping || len(buf) > 0 && buf[len(buf)-1] != '\n')
	// Nothing beyond the data may complete its last line.
	buf[:len(buf)+1][len(buf)] = 0
	return true
}

// plain reads text from line n on, block by block.
func (s *scanner) plain(br *bufio.Reader, lines *lineCounter, n int) error {
	if lines.fixed || s.slow || s.access != nil {
		return s.carefulLines(br, lines, n)
	}
	if s.bulk != nil {
		return s.bulk.read(s.name, br, lines.count(n))
	}
	n = lines.count(n)
	r := &blocks{r: br, size: s.blockSize()}
	b := new(block)
	for r.next(b) {
		if b.long {
			if err := s.notice(n, NoticeLongLine, 1); err != nil {
				return err
			}
			n++
		}
		full := b.data[:len(b.data)+fastLine]
		for p := 0; p < len(b.data); n++ {
			var report fastReport
			if size := parseFast(full[p:], &report); size > 0 && report.plain() {
				if err := s.record(report.invocation(full[p:]), n); err != nil {
					return err
				}
				p += size
				continue
			}
			end := lineEnd(b.data, p)
			if line := b.data[p:end]; !dull(line) {
				if err := s.textLine(line, n); err != nil {
					return err
				}
			}
			p = end
		}
	}
	return r.end(n, b.open)
}

func (s *scanner) blockSize() int {
	if s.size > 0 {
		return s.size
	}
	return blockBytes
}

// end returns the error with which reading ended, n lines having been read and one begun.
func (r *blocks) end(n int, open bool) error {
	if errors.Is(r.err, io.EOF) {
		return nil
	}
	if open {
		n--
	}
	return fmt.Errorf("line %d: %w", n, r.err)
}

// lineEnd returns where the line that begins at p ends, its newline included.
func lineEnd(b []byte, p int) int {
	i := bytes.IndexByte(b[p:], '\n')
	if i < 0 {
		return len(b)
	}
	return p + i + 1
}

// bulk sums up a text with several goroutines. They take turns at reading and
// each works on what it has read, so that a block stays in its core's cache.
// Complaints come in the order of the input.
type bulk struct {
	sum     *Summariser
	note    func(error)
	workers int
	size    int // of a block
}

// part is what one block came to.
type part struct {
	lines      int
	complaints []error // with lines counted from 1
}

// worker sums up blocks on its own.
type worker struct {
	sum      Summariser // of what the short way did not read
	scan     scanner
	part     part
	billed   [1 << 13]uint32
	duration [1 << 17]uint32
	reports  int64
	cold     int64
	used     int64
	memory   int64
	memories int64 // how many reports had this memory, not yet in sum
}

func (b *bulk) read(name string, r io.Reader, first int) error {
	var (
		mu      sync.Mutex // guards everything here
		space   = sync.NewCond(&mu)
		source  = &blocks{r: r, size: b.size, wait: true}
		done    = make(map[int]part) // blocks that are ready before their turn
		turn    int
		line    = first
		open    bool
		failure error
	)
	// deliver hands on what is ready, in order; mu is held.
	deliver := func() {
		for {
			p, ok := done[turn]
			if !ok {
				return
			}
			delete(done, turn)
			turn++
			for _, err := range p.complaints {
				atLine(err, line-1)
				if failure == nil {
					failure = b.sum.Note(err)
				}
				b.note(err)
			}
			line += p.lines
			space.Broadcast()
		}
	}
	workers := make([]*worker, b.workers)
	var running sync.WaitGroup
	for i := range workers {
		w := &worker{}
		w.scan = scanner{name: name, yield: w.yield, seen: make(map[string]struct{})}
		workers[i] = w
		running.Go(func() {
			blk := new(block)
			for {
				mu.Lock()
				for source.seq > turn+4*b.workers { // a slow block must not let the others pile up complaints
					space.Wait()
				}
				more := source.next(blk)
				open = open || blk.open
				mu.Unlock()
				if !more {
					return
				}
				w.block(blk)
				mu.Lock()
				done[blk.seq] = w.part
				deliver()
				mu.Unlock()
			}
		})
	}
	running.Wait()
	for _, w := range workers {
		w.into(b.sum)
	}
	if failure != nil {
		return failure
	}
	return source.end(line, open)
}

// atLine moves a complaint from its block to its place in the input.
func atLine(err error, before int) {
	if e, ok := errors.AsType[*LineError](err); ok {
		e.Line += before
	} else if e, ok := errors.AsType[*NoticeError](err); ok {
		e.Line += before
	}
}

// yield takes what the careful parser makes of a line.
func (w *worker) yield(v Invocation, err error) bool {
	if err != nil {
		w.part.complaints = append(w.part.complaints, err)
	} else {
		w.sum.Add(v)
	}
	return true
}

// block sums up one block.
func (w *worker) block(b *block) {
	w.part = part{}
	lines := 0
	if b.long {
		lines++
		_ = w.scan.notice(lines, NoticeLongLine, 1) // yield never stops
	}
	data := b.data
	full := data[:len(data)+fastLine]
	var r fastReport
	for p := 0; p < len(data); {
		lines++
		switch data[p] {
		case 'R':
			if size := parseFast(full[p:], &r); size > 0 && r.plain() {
				w.add(&r)
				p += size
				continue
			}
		case 'S', 'E':
			if size := frame(full[p:]); size > 0 {
				p += size
				continue
			}
		}
		end := lineEnd(data, p)
		if line := data[p:end]; !dull(line) {
			_ = w.scan.textLine(line, lines) // yield never stops
		}
		p = end
	}
	w.part.lines = lines
	if w.reports > 1<<30 {
		w.flush()
	}
}

// add takes a report from the short way.
func (w *worker) add(r *fastReport) {
	w.reports++
	if uint64(r.billed) < uint64(len(w.billed)) {
		w.billed[r.billed]++
	} else {
		w.sum.billed.addN(MillisOf(time.Duration(r.billed)*time.Millisecond), 1)
	}
	if uint64(r.duration) < uint64(len(w.duration)) {
		w.duration[r.duration]++
	} else {
		w.sum.duration.addN(MillisOf(time.Duration(r.duration)*hundredth), 1)
	}
	if r.init >= 0 {
		w.cold++
		w.sum.init.addN(MillisOf(time.Duration(r.init)*hundredth), 1)
	}
	w.used = max(w.used, r.used)
	if r.memory != w.memory {
		w.remember()
		w.memory = r.memory
	}
	w.memories++
}

func (w *worker) remember() {
	if w.memories > 0 {
		w.sum.addMemory(MB(w.memory), w.memories)
	}
	w.memories = 0
}

// flush puts the counters into sum.
func (w *worker) flush() {
	for ms, n := range w.billed {
		if n > 0 {
			w.sum.billed.addN(MillisOf(time.Duration(ms)*time.Millisecond), int64(n))
		}
	}
	for d, n := range w.duration {
		if n > 0 {
			w.sum.duration.addN(MillisOf(time.Duration(d)*hundredth), int64(n))
		}
	}
	clear(w.billed[:])
	clear(w.duration[:])
	w.remember()
	s := &w.sum.s
	s.Records += w.reports
	s.Reports += w.reports
	s.Billable += w.reports
	s.Statuses.Success += w.reports
	s.Rules.Millisecond += w.reports
	s.Cold += w.cold
	s.MaxMemoryUsed = max(s.MaxMemoryUsed, MB(w.used))
	w.reports, w.cold = 0, 0
}

func (w *worker) into(u *Summariser) {
	w.flush()
	u.merge(&w.sum)
}

// merge adds what o has counted, but for its warnings.
func (u *Summariser) merge(o *Summariser) {
	u.s.Records += o.s.Records
	u.s.Reports += o.s.Reports
	u.s.Cold += o.s.Cold
	u.s.Billable += o.s.Billable
	u.s.Incomplete += o.s.Incomplete
	u.s.Duplicates += o.s.Duplicates
	u.s.Dropped += o.s.Dropped
	u.s.BadLines += o.s.BadLines
	u.s.Inconsistent += o.s.Inconsistent
	u.s.Rules.Millisecond += o.s.Rules.Millisecond
	u.s.Rules.InitFree += o.s.Rules.InitFree
	u.s.Rules.Slices += o.s.Rules.Slices
	u.s.Rules.Inconsistent += o.s.Rules.Inconsistent
	u.s.Rules.Unknown += o.s.Rules.Unknown
	u.s.MaxMemoryUsed = max(u.s.MaxMemoryUsed, o.s.MaxMemoryUsed)
	u.s.Statuses.Success += o.s.Statuses.Success
	u.s.Statuses.Error += o.s.Statuses.Error
	u.s.Statuses.Timeout += o.s.Statuses.Timeout
	u.s.Statuses.Failure += o.s.Statuses.Failure
	u.s.Statuses.Other += o.s.Statuses.Other
	for mb, n := range o.memory {
		u.addMemory(mb, n)
	}
	for _, pair := range [...]struct{ to, from *counts }{{&u.billed, &o.billed}, {&u.duration, &o.duration}, {&u.init, &o.init}} {
		for d, n := range *pair.from {
			pair.to.addN(MillisOf(d), n)
		}
	}
}

// Read sums up all records of an input, whose container it finds out as Scan
// does, and returns the error that ended reading, if any. Text is read by workers
// goroutines, which are done when it returns; 0 means 1. Complaints are counted
// and then given to note, in the order of the input; note may be nil. The result
// is the same whatever the number of workers. Memory use is that of Scan and 2 MiB
// for each worker.
func (u *Summariser) Read(r io.Reader, name string, workers int, note func(error)) error {
	if note == nil {
		note = func(error) {}
	}
	return u.read(r, &bulk{sum: u, note: note, workers: max(workers, 1), size: blockBytes}, name)
}

func (u *Summariser) read(r io.Reader, b *bulk, name string) error {
	var failure error
	s := &scanner{name: name, seen: make(map[string]struct{}), bulk: b}
	s.yield = func(v Invocation, err error) bool {
		if err == nil {
			u.Add(v)
			return true
		}
		failure = u.Note(err)
		b.note(err)
		return failure == nil
	}
	err := s.input(r, fileLines(), 0)
	if err == nil || errors.Is(err, errStop) {
		return failure
	}
	return fmt.Errorf("reading %s: %w", name, err)
}
