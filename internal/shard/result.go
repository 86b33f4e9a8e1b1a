package shard

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/stats"
	"github.com/cirrusbench/cirrusbench/internal/store"
)

// The objects of an attempt.
const (
	manifestName = "manifest.json"
	runName      = "run.json"
	errorsName   = "errors.json"
	abortedName  = "aborted"

	// ManifestSchema is the value of "schema" in a manifest.
	ManifestSchema = "cirrusbench/shard/v1"
	errorsSchema   = "cirrusbench/shard-errors/v1"
	abortedSchema  = "cirrusbench/aborted/v1"
)

func claimKey(index int) string { return "shards/" + strconv.Itoa(index) + "/claim" }

func attemptKey(index int, attempt, name string) string {
	return "shards/" + strconv.Itoa(index) + "/attempt-" + attempt + "/" + name
}

type abortedObject struct {
	Schema  string `json:"schema"`
	Index   int    `json:"index"`
	Attempt string `json:"attempt"`
	Why     string `json:"why"`
}

// Manifest tells that the result of a shard is complete, and what belongs to it.
type Manifest struct {
	Schema  string     `json:"schema"`
	Tool    stats.Tool `json:"tool"`
	Index   int        `json:"index"`
	Attempt string     `json:"attempt"`
	Identity
	Histogram stats.Geometry  `json:"histogram"`
	Planned   int64           `json:"planned"`
	Sent      int64           `json:"sent"`
	NotSent   int64           `json:"not_sent"`
	Files     map[string]File `json:"files"`
}

// File is an object of a manifest.
type File struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func fileOf(data []byte) File {
	sum := sha256.Sum256(data)
	return File{int64(len(data)), hex.EncodeToString(sum[:])}
}

// IdentityOf returns what a run shares with the other shards of its plan. The run must be a shard.
func IdentityOf(r *stats.Run) Identity {
	total := 0
	if r.Plan.Shard != nil {
		total = r.Plan.Shard.Total
	}
	return Identity{total, r.Plan.SHA256, r.Corpus.SHA256, r.ConfigSHA256()}
}

// Put writes the result of a shard: its run file, its errors and, last, the manifest. Until that is there nothing
// counts.
func Put(ctx context.Context, s store.Store, attempt string, r *stats.Run) error {
	shard := r.Plan.Shard
	if shard == nil {
		return errors.New("writing the result of a shard: the run is not a shard")
	}
	var run bytes.Buffer
	if err := r.WriteJSON(&run); err != nil {
		return err
	}
	failures, err := json.MarshalIndent(struct {
		Schema      string             `json:"schema"`
		Index       int                `json:"index"`
		Interrupted bool               `json:"interrupted"`
		Statuses    map[string]int64   `json:"statuses"`
		Errors      []stats.ErrorCount `json:"errors"`
	}{errorsSchema, shard.Index, r.Interrupted, r.Statuses, r.Errors}, "", "  ")
	if err != nil {
		return err
	}
	m := Manifest{
		Schema: ManifestSchema, Tool: r.Tool, Index: shard.Index, Attempt: attempt, Identity: IdentityOf(r), Histogram: stats.HistogramGeometry(),
		Planned: r.Counts.Planned, Sent: r.Counts.Sent, NotSent: r.Counts.NotSent, Files: map[string]File{},
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{runName, run.Bytes()}, {errorsName, append(failures, '\n')}} {
		m.Files[f.name] = fileOf(f.data)
		if _, err := s.Put(ctx, attemptKey(shard.Index, attempt, f.name), f.data); err != nil {
			return fmt.Errorf("writing the result of shard %d: %w", shard.Index, err)
		}
	}
	if err := putJSON(ctx, s, attemptKey(shard.Index, attempt, manifestName), m); err != nil {
		return fmt.Errorf("writing the result of shard %d: %w", shard.Index, err)
	}
	return nil
}

// DamagedError says that what stands in a result is not what was written, or not for this program.
type DamagedError struct {
	Key string // of the object
	Why string
}

// Error names the object.
func (e *DamagedError) Error() string { return e.Key + ": " + e.Why }

// Collection is what the shards of a run left in a store, besides their run files.
type Collection struct {
	Missing map[int]string // by index: why there is no complete result
	Notes   []string       // about attempts that were left out
}

// Collect reads the results in s: of each index the one complete attempt, or of several the one that had claimed the
// index. It passes the run files to add in the order of the indices, and holds one of them at a time; add reads and
// checks it and returns the run, of which Collect needs neither pairs nor timeline. Indices without a complete attempt
// are in Missing. A complete result that is damaged, contradicts its manifest or has histograms of another geometry is a
// [*DamagedError]. It is an error when there is no result at all.
func Collect(ctx context.Context, s store.Store, add func(rd io.Reader, name string) (*stats.Run, error)) (*Collection, error) {
	type attempt struct {
		manifest, aborted bool
		runBytes          int64
	}
	found := map[int]map[string]*attempt{}
	for o, err := range s.List(ctx, "shards/") {
		if err != nil {
			return nil, fmt.Errorf("looking for results: %w", err)
		}
		parts := strings.Split(o.Key, "/")
		index, err := strconv.Atoi(parts[1])
		if err != nil || index < 0 || strconv.Itoa(index) != parts[1] {
			continue
		}
		if found[index] == nil {
			found[index] = map[string]*attempt{}
		}
		uid, ok := strings.CutPrefix(parts[min(2, len(parts)-1)], "attempt-")
		if !ok || len(parts) != 4 {
			continue
		}
		a := found[index][uid]
		if a == nil {
			a = &attempt{}
			found[index][uid] = a
		}
		a.manifest = a.manifest || parts[3] == manifestName
		a.aborted = a.aborted || parts[3] == abortedName
		if parts[3] == runName {
			a.runBytes = o.Size
		}
	}
	c := &Collection{Missing: map[int]string{}}
	results := 0
	for _, index := range slices.Sorted(maps.Keys(found)) {
		var complete []string
		var others []string
		for _, uid := range slices.Sorted(maps.Keys(found[index])) {
			switch a := found[index][uid]; {
			case a.manifest:
				complete = append(complete, uid)
			case a.aborted:
				others = append(others, "attempt "+uid+" aborted")
			default:
				others = append(others, "attempt "+uid+" has no manifest, so it was killed while it wrote")
			}
		}
		if len(complete) == 0 {
			c.Missing[index] = cmp.Or(strings.Join(others, "; "), "its attempt began and left no result, so it was killed")
			continue
		}
		uid := complete[0]
		if len(complete) > 1 {
			var err error
			if uid, err = claimed(ctx, s, index, complete); err != nil {
				return nil, err
			}
			c.Notes = append(c.Notes, fmt.Sprintf("shard %d has %d complete attempts: %s is used, which had claimed it", index, len(complete), uid))
		}
		for _, o := range others {
			c.Notes = append(c.Notes, fmt.Sprintf("shard %d: %s", index, o))
		}
		if err := stats.CheckRunSize(attemptKey(index, uid, runName), found[index][uid].runBytes); err != nil {
			return nil, err
		}
		if err := read(ctx, s, index, uid, add); err != nil {
			return nil, err
		}
		results++
	}
	if results == 0 {
		return nil, errors.Join(ErrNoResult, ctx.Err())
	}
	return c, nil
}

// ErrNoResult says that a location holds no result: no shard has ended yet, or it is another location.
var ErrNoResult = errors.New("there is no complete result of any shard")

// claimed returns the attempt that may count.
func claimed(ctx context.Context, s store.Store, index int, complete []string) (string, error) {
	var claim claimObject
	key := claimKey(index)
	if err := getJSON(ctx, s, key, claimSchema, &claim); err != nil {
		return "", &DamagedError{key, fmt.Sprintf("shard %d has %d complete attempts, and nothing tells which counts: %v", index, len(complete), err)}
	}
	if !slices.Contains(complete, claim.Attempt) {
		return "", &DamagedError{key, fmt.Sprintf("shard %d has %d complete attempts, none of which is the one that claimed it (%s)", index, len(complete), claim.Attempt)}
	}
	return claim.Attempt, nil
}

// read passes the run file of a complete result to add, and holds the result against its manifest.
func read(ctx context.Context, s store.Store, index int, attempt string, add func(rd io.Reader, name string) (*stats.Run, error)) error {
	key := attemptKey(index, attempt, manifestName)
	damaged := func(format string, args ...any) error { return &DamagedError{key, fmt.Sprintf(format, args...)} }
	data, err := s.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("reading a result: %w", err)
	}
	var m Manifest
	if err := parseJSON("the manifest", data, ManifestSchema, &m); err != nil {
		return damaged("%v", err)
	}
	if m.Index != index || m.Attempt != attempt {
		return damaged("it is of shard %d, attempt %s", m.Index, m.Attempt)
	}
	if g := stats.HistogramGeometry(); m.Histogram != g {
		return damaged("its histograms go from %d to %d ns with %d digits; only %d to %d ns with %d can be merged",
			m.Histogram.LowestNS, m.Histogram.HighestNS, m.Histogram.Digits, g.LowestNS, g.HighestNS, g.Digits)
	}
	var file []byte // of the run
	for _, name := range []string{errorsName, runName} {
		if file, err = s.Get(ctx, attemptKey(index, attempt, name)); err != nil {
			return damaged("%v", err)
		}
		if got := fileOf(file); got != m.Files[name] {
			return damaged("%s has %d bytes with sha256 %s and not %d bytes with %s", name, got.Bytes, got.SHA256, m.Files[name].Bytes, m.Files[name].SHA256)
		}
	}
	run, err := add(bytes.NewReader(file), strings.TrimSuffix(attemptKey(index, attempt, ""), "/"))
	if err != nil {
		return err
	}
	if run.Plan.Shard == nil || run.Plan.Shard.Index != index {
		return damaged("%s is not of shard %d", runName, index)
	}
	if what := m.differs(IdentityOf(run)); what != "" {
		return damaged("%s and the manifest differ in %s", runName, what)
	}
	if c := &run.Counts; c.Planned != m.Planned || c.Sent != m.Sent || c.NotSent != m.NotSent {
		return damaged("%s and the manifest differ in what was sent", runName)
	}
	return nil
}
