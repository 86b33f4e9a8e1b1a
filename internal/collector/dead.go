package collector

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/durable"
	"github.com/cirrusbench/cirrusbench/internal/spool"
)

// DeadSchema is the schema of the file beside the body of a dead letter.
const DeadSchema = "cirrusbench/dead-letter/v1"

// DeadLetter says why a request was given up.
type DeadLetter struct {
	Schema   string    `json:"schema"`
	Seq      uint64    `json:"seq"`
	Org      string    `json:"org"`
	Cluster  string    `json:"cluster"`
	Version  string    `json:"version"` // of the body
	Received time.Time `json:"received"`
	Dead     time.Time `json:"dead"`
	Status   int       `json:"status"`
	Reason   string    `json:"reason"` // the first line of the answer
	Samples  int       `json:"samples"`
	Body     string    `json:"body"` // the name of the file
}

// bury writes a request that the receiver will never take to the directory of dead
// letters. The names depend on the request only, so that one that is buried again after a
// crash is there once.
func (f *Forwarder) bury(lane spool.Lane, p piece, b *batch, m *message, a answer) error {
	name := fmt.Sprintf("%s%016x", f.cfg.DeadPrefix, b.only.Seq)
	if p.from != 0 || p.to != 0 {
		name += fmt.Sprintf("-%d", p.from)
	}
	if m.metadata {
		name += "-metadata"
	}
	letter := DeadLetter{
		Schema: DeadSchema, Seq: b.only.Seq, Org: lane.Org, Cluster: lane.Cluster, Version: m.version.String(),
		Received: b.only.Received, Dead: time.Now().UTC().Truncate(time.Millisecond), Status: a.status, Reason: a.text,
		Samples: m.counts.Samples + m.counts.Histograms(), Body: fmt.Sprintf("%s.rw%d.sz", name, m.version),
	}
	text, err := json.MarshalIndent(letter, "", " ")
	if err == nil {
		err = durable.MkdirAll(f.cfg.DeadDir, 0o700)
	}
	if err == nil {
		err = durable.WriteFile(filepath.Join(f.cfg.DeadDir, letter.Body), m.body, 0o600)
	}
	if err == nil {
		err = durable.WriteFile(filepath.Join(f.cfg.DeadDir, name+".json"), append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing a dead letter: %w", err)
	}
	return nil
}
