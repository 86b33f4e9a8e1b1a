package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/cirrusbench/cirrusbench/internal/replay"
)

// progress shows a run while it goes on: one redrawn line on a terminal, a plain line every 10 s elsewhere.
type progress struct {
	w        io.Writer
	interval time.Duration
	unit     time.Duration // the bar counts time when only a duration ends the run
	bars     *mpb.Progress
	bar      *mpb.Bar
	text     atomic.Pointer[string] // written by the engine's goroutine, read by the bar's
	printed  time.Duration          // elapsed time at the last plain line
	total    int64
	live     bool // a table of percentiles instead of a line
	drawn    int  // its lines on the screen
}

// plainEvery is how often a progress line is printed where no line can be redrawn.
const plainEvery = 10 * time.Second

func newProgress(w io.Writer, tty, live bool, plan *replay.Plan) *progress {
	p := &progress{w: w, interval: 250 * time.Millisecond, live: live && tty}
	if !tty || live {
		return p
	}
	p.total = int64(plan.Total())
	if p.total == 0 {
		p.total, p.unit = int64(plan.Duration), 1
	}
	p.bars = mpb.New(mpb.WithOutput(w), mpb.WithWidth(24), mpb.WithAutoRefresh())
	p.bar = p.bars.New(p.total, mpb.BarStyle().Lbound("▕").Filler("█").Tip("█").Padding("░").Rbound("▏"),
		mpb.BarRemoveOnComplete(), mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			if text := p.text.Load(); text != nil {
				return *text
			}
			return ""
		})))
	return p
}

// update is called from the engine's progress goroutine.
func (p *progress) update(s replay.Progress) {
	line := describe(s)
	if p.bar != nil {
		done := s.OK + s.Failed + s.TimedOut
		if p.unit != 0 {
			done = int64(s.Elapsed)
		}
		p.text.Store(&line)
		p.bar.SetCurrent(min(done, p.total))
		return
	}
	if p.live {
		p.draw(s)
		return
	}
	if s.Final || s.Elapsed-p.printed < plainEvery {
		return
	}
	p.printed = s.Elapsed
	sayf(p.w, "%s", strings.TrimSpace(line))
}

// draw redraws the table in its place.
func (p *progress) draw(s replay.Progress) {
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", p.drawn)
	}
	lines := []string{strings.TrimSpace(describe(s))}
	for _, q := range []struct {
		name string
		d    time.Duration
	}{{"p50", s.P50}, {"p90", s.P90}, {"p99", s.P99}, {"p99.9", s.P999}, {"max", s.Max}} {
		bar := ""
		if s.Max > 0 { // on a logarithmic scale from 10 µs
			full := math.Log(max(float64(s.Max)/1e4, 2))
			bar = strings.Repeat("█", int(30*max(math.Log(max(float64(q.d)/1e4, 1))/full, 0)))
		}
		lines = append(lines, fmt.Sprintf("%6s %9s  %s", q.name, short(q.d), bar))
	}
	p.drawn = len(lines)
	b.WriteString(strings.Join(lines, "\n") + "\n")
	_, _ = io.WriteString(p.w, b.String()) // nobody can be told
}

// close takes the bar away; the result follows.
func (p *progress) close() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
	}
}

// describe is one line: done of planned, rate, errors, latency, time left.
func describe(s replay.Progress) string {
	if s.BeginsIn > 0 {
		return fmt.Sprintf(" preparing, begins in %s", s.BeginsIn.Round(100*time.Millisecond))
	}
	var b strings.Builder
	done := s.OK + s.Failed + s.TimedOut
	fmt.Fprintf(&b, " %d", done)
	if s.Planned > 0 {
		fmt.Fprintf(&b, "/%d", s.Planned)
	}
	if sec := s.Elapsed.Seconds(); sec > 0 {
		fmt.Fprintf(&b, "  %.0f/s", float64(done)/sec)
	}
	fmt.Fprintf(&b, "  %d errors  %d in flight", s.Failed+s.TimedOut, s.InFlight)
	if s.Retried > 0 {
		fmt.Fprintf(&b, "  %d retries", s.Retried)
	}
	if s.P50 > 0 {
		fmt.Fprintf(&b, "  p50 %s  p99 %s", short(s.P50), short(s.P99))
	}
	if left := s.PlannedTime - s.Elapsed; s.PlannedTime > 0 && left > 0 {
		fmt.Fprintf(&b, "  %s left", left.Round(time.Second))
	} else if s.PlannedTime > 0 {
		b.WriteString("  draining")
	}
	if s.WarmingUp {
		b.WriteString("  (warming up)")
	}
	return b.String()
}

// short prints a latency with three digits.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2fms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0fms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.2fs", d.Seconds())
}
