package spool

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/durable"
)

const (
	stateFile   = "state.json"
	stateSchema = "cirrusbench/queue/v1"
)

// State is what state.json holds.
type State struct {
	Schema string `json:"schema"`
	// Next is a lower bound of the sequence number to give next.
	Next  uint64      `json:"next"`
	Lanes []LaneState `json:"lanes"`
}

// LaneState is how far the delivery of a lane has come.
type LaneState struct {
	Org     string `json:"org"`
	Cluster string `json:"cluster"`
	// Done is the sequence number up to which all records of the lane are delivered.
	Done uint64 `json:"done"`
	// Plan is what the last call of [Queue.Plan] has stored for the records up to
	// Through; null when there is none.
	Through uint64          `json:"through,omitempty"`
	Plan    json.RawMessage `json:"plan,omitempty"`
}

// ErrState says that state.json cannot be read.
var ErrState = errors.New("the state file of the queue is broken")

// readState reads state.json; a missing one is the zero State.
func readState(dir string) (State, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("reading the queue's state: %w", err)
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	if n, ok := strings.CutPrefix(s.Schema, "cirrusbench/queue/v"); ok && s.Schema != stateSchema {
		v, _ := strconv.ParseUint(n, 10, 32) // what is no number is no version of ours either
		return State{}, &VersionError{Path: filepath.Join(dir, stateFile), Version: uint32(v)}
	}
	if s.Schema != stateSchema {
		return State{}, fmt.Errorf("%w: its schema is %.40q, not %q", ErrState, s.Schema, stateSchema)
	}
	return s, nil
}

// writeState replaces state.json.
func writeState(dir string, s State) error {
	s.Schema = stateSchema
	slices.SortFunc(s.Lanes, func(a, b LaneState) int {
		return cmp.Or(cmp.Compare(a.Org, b.Org), cmp.Compare(a.Cluster, b.Cluster))
	})
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("writing the queue's state: %w", err)
	}
	return durable.WriteFile(filepath.Join(dir, stateFile), append(b, '\n'), 0o600)
}
