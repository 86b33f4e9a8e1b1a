package main

import (
	"time"

	"github.com/cirrusbench/cirrusbench/internal/capture"
	"github.com/cirrusbench/cirrusbench/internal/replay"
)

// warnBacklog says when shifted timestamps begin far in the past, so that nobody wonders about what a receiver makes of
// them.
func warnBacklog(e *env, timestamps string, plan *replay.Plan, corpus *capture.Corpus) {
	const worthSaying = 10 * time.Minute
	if timestamps != string(replay.Shift) {
		return
	}
	if back := replay.Backlog(corpus, plan); back > worthSaying {
		e.sayf("note: the corpus is looped faster than it was captured: timestamps begin %v ago and end now, so that no series goes back in time; --loop=false and --timestamps now do without",
			back.Round(time.Minute))
	}
}
