package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/durable"
)

// Stretch is a run of bytes that fails its checksum.
type Stretch struct {
	Offset int64 `json:"offset"`
	Bytes  int64 `json:"bytes"`
}

// SegmentReport is what is in a segment.
type SegmentReport struct {
	Name      string    `json:"name"`
	Bytes     int64     `json:"bytes"`
	Version   uint32    `json:"version"`
	Sent      bool      `json:"sent"`
	Records   int64     `json:"records"`
	Pending   int64     `json:"pending"` // records that are not delivered
	First     uint64    `json:"first_seq"`
	Last      uint64    `json:"last_seq"` // 0: no record
	Samples   int64     `json:"samples"`  // with histograms
	BodyBytes int64     `json:"body_bytes"`
	Oldest    time.Time `json:"oldest"`
	Newest    time.Time `json:"newest"`
	Broken    []Stretch `json:"broken"`
	Error     string    `json:"error,omitempty"` // it cannot be read at all
}

// Report is what is in a queue's directory.
type Report struct {
	State      State           `json:"state"`
	StateError string          `json:"state_error,omitempty"`
	Segments   []SegmentReport `json:"segments"`
	Foreign    []string        `json:"foreign"`    // files that are not the queue's
	Quarantine []string        `json:"quarantine"` // files in quarantine/
}

// Broken counts the stretches that fail their checksum and the files that cannot be
// read.
func (r *Report) Broken() int {
	n := 0
	if r.StateError != "" {
		n++
	}
	for _, s := range r.Segments {
		n += len(s.Broken)
		if s.Error != "" {
			n++
		}
	}
	return n
}

// Inspect reads a queue's directory and checks every checksum. It takes no lock and
// changes nothing, so it may look at a queue at work; then the last record may still be
// under way and look broken.
func Inspect(dir string) (*Report, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("inspecting the queue: %w", err)
	}
	rep := &Report{Segments: []SegmentReport{}, Foreign: []string{}, Quarantine: []string{}}
	rep.State, err = readState(dir)
	if err != nil {
		rep.StateError = err.Error()
	}
	done := map[Lane]uint64{}
	for _, l := range rep.State.Lanes {
		done[Lane{l.Org, l.Cluster}] = l.Done
	}
	rep.segments(dir, entries, done)
	for _, e := range entries {
		name := e.Name()
		if _, _, ok := parseName(name); ok {
			continue
		}
		switch {
		case name == quarantineDir:
			files, err := os.ReadDir(filepath.Join(dir, name))
			if err != nil {
				return nil, fmt.Errorf("inspecting the queue: %w", err)
			}
			for _, f := range files {
				rep.Quarantine = append(rep.Quarantine, f.Name())
			}
		case name == lockName, name == stateFile, name == "dead", durable.IsTemp(name):
		default:
			rep.Foreign = append(rep.Foreign, name)
		}
	}
	return rep, nil
}

// segments reports on the segments that were in the directory when it was listed.
func (r *Report) segments(dir string, entries []os.DirEntry, done map[Lane]uint64) {
	for _, e := range entries {
		_, sent, ok := parseName(e.Name())
		if !ok {
			continue
		}
		path := filepath.Join(dir, e.Name())
		s := inspectSegment(path, done, sent)
		if errors.Is(s.gone, fs.ErrNotExist) && !sent {
			s = inspectSegment(putAside(path), done, true) // since then
		}
		if errors.Is(s.gone, fs.ErrNotExist) {
			continue // deleted since then
		}
		r.Segments = append(r.Segments, s.SegmentReport)
	}
}

type inspected struct {
	SegmentReport
	gone error
}

func inspectSegment(path string, done map[Lane]uint64, sent bool) inspected {
	s := inspected{SegmentReport: SegmentReport{Name: filepath.Base(path), Sent: sent, Broken: []Stretch{}}}
	s.First, _, _ = parseName(s.Name)
	err := readSegment(path, func(version uint32, size int64) { s.Version, s.Bytes = version, size },
		func(off, n int64) { s.Broken = append(s.Broken, Stretch{off, n}) },
		func(r Record) error {
			if s.Records == 0 {
				s.Oldest = r.Received
			}
			s.Records++
			s.Last, s.Newest = r.Seq, r.Received
			s.Samples += int64(r.Samples) + int64(r.Histograms)
			s.BodyBytes += int64(len(r.Body))
			if !sent && r.Seq > done[r.Lane] {
				s.Pending++
			}
			return nil
		})
	if err != nil {
		s.gone, s.Error = err, err.Error()
	}
	return s
}

// putAside is the path of a segment once everything in it is delivered.
func putAside(path string) string { return strings.TrimSuffix(path, ".seg") + ".sent" }

// readSegment reads a segment through.
func readSegment(path string, head func(version uint32, size int64), bad func(off, n int64), visit func(Record) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	version, salt, err := readSegmentHeader(f)
	head(version, info.Size())
	if err != nil {
		return err
	}
	if version != segmentVersion {
		return &VersionError{Path: path, Version: version}
	}
	sc := scanner{r: f, size: info.Size(), salt: salt, off: segmentHeader, bad: bad}
	for {
		rec, _, err := sc.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = visit(rec)
		}
		if err != nil {
			return err
		}
	}
}

// History calls visit with the delivered records that were received from from up to
// before to, in order, until visit fails. The Body of a record is valid during the
// visit only. It takes no lock and changes nothing. Of a queue at work, segments that it
// deletes meanwhile are passed over, and those that it puts aside are visited whole. The
// result counts the broken stretches passed over.
func History(dir string, from, to time.Time, visit func(Record) error) (broken int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("reading the queue's history: %w", err)
	}
	state, err := readState(dir)
	if err != nil && !errors.Is(err, ErrState) {
		return 0, err
	}
	done := map[Lane]uint64{}
	for _, l := range state.Lanes {
		done[Lane{l.Org, l.Cluster}] = l.Done
	}
	for _, e := range entries {
		_, sent, ok := parseName(e.Name())
		if !ok {
			continue
		}
		opened := false
		read := func(path string) error {
			return readSegment(path, func(uint32, int64) { opened = true }, func(int64, int64) { broken++ }, func(r Record) error {
				if r.Received.Before(from) || !r.Received.Before(to) || !sent && r.Seq > done[r.Lane] {
					return nil
				}
				return visit(r)
			})
		}
		gone := func(err error) bool { return !opened && errors.Is(err, fs.ErrNotExist) }
		path := filepath.Join(dir, e.Name())
		err := read(path)
		if gone(err) && !sent {
			sent = true // put aside since we looked: all of it is delivered
			err = read(putAside(path))
		}
		if err != nil && !gone(err) {
			return broken, fmt.Errorf("reading %s: %w", e.Name(), err)
		}
	}
	return broken, nil
}
