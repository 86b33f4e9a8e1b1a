package lambdalog

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// platformEvent is a record of Lambda's JSON log format and of the Telemetry
// API. Its schema versions (2022-07-01, 2022-12-13, 2025-01-29) agree on the
// platform records; they differ in what applications write.
type platformEvent struct {
	Time   string          `json:"time"`
	Type   string          `json:"type"`
	Record json.RawMessage `json:"record"`
}

type platformRecord struct {
	RequestID string          `json:"requestId"`
	Status    string          `json:"status"`
	ErrorType string          `json:"errorType"`
	Phase     string          `json:"phase"`
	Metrics   platformMetrics `json:"metrics"`
}

type platformMetrics struct {
	Duration      Millis       `json:"durationMs"`
	Billed        Millis       `json:"billedDurationMs"`
	Init          Millis       `json:"initDurationMs"`
	Restore       Millis       `json:"restoreDurationMs"`
	BilledRestore Millis       `json:"billedRestoreDurationMs"`
	Memory        *json.Number `json:"memorySizeMB"`
	MaxMemoryUsed *json.Number `json:"maxMemoryUsedMB"`
}

// platformDropped is the record of platform.logsDropped.
type platformDropped struct {
	Records int64 `json:"droppedRecords"`
}

// parsePlatform reads one event. Applications may log objects with the same
// keys, so only the type decides. It returns ErrNotReport for other types.
func parsePlatform(e platformEvent) (Invocation, error) {
	var kind Kind
	switch e.Type {
	case "platform.report":
		kind = KindReport
	case "platform.initReport":
		kind = KindInitReport
	case "platform.restoreReport":
		kind = KindRestoreReport
	default:
		return Invocation{}, ErrNotReport
	}
	var rec platformRecord
	if err := json.Unmarshal(e.Record, &rec); err != nil {
		return Invocation{}, fmt.Errorf("reading %s: %w", e.Type, err)
	}
	v := Invocation{
		Kind: kind, RequestID: rec.RequestID, Status: Status(rec.Status), ErrorType: rec.ErrorType, Phase: rec.Phase,
		Time: parseTime(e.Time), BilledRestore: rec.Metrics.BilledRestore,
	}
	var err error
	if v.Memory, err = wholeMB(rec.Metrics.Memory, 1); err != nil {
		return Invocation{}, fmt.Errorf("reading memorySizeMB: %w", err)
	}
	if v.MaxMemoryUsed, err = wholeMB(rec.Metrics.MaxMemoryUsed, 1); err != nil {
		return Invocation{}, fmt.Errorf("reading maxMemoryUsedMB: %w", err)
	}
	switch kind {
	case KindInitReport:
		v.Init = rec.Metrics.Duration
	case KindRestoreReport:
		v.Restore = rec.Metrics.Duration
	case KindReport:
		v.Duration, v.Billed = rec.Metrics.Duration, rec.Metrics.Billed
		v.Init, v.Restore = rec.Metrics.Init, rec.Metrics.Restore
	}
	if !rec.Metrics.Duration.Known {
		return Invocation{}, fmt.Errorf("reading %s: no metrics.durationMs", e.Type)
	}
	v.settle(true)
	return v, nil
}

// wholeMB divides a printed number by unit and rounds: Insights prints the
// memory as bytes of a decimal megabyte, 1.28E8 for 128 MB.
func wholeMB(n *json.Number, unit float64) (MB, error) {
	if n == nil {
		return 0, nil
	}
	f, err := n.Float64()
	if err != nil || !(f >= 0) || f/unit > math.MaxInt32 {
		return 0, fmt.Errorf("%.40q is not an amount of memory", n.String())
	}
	return MB(math.Round(f / unit)), nil
}

// parseTime reads the times that AWS's tools print; the zero time when s is none.
func parseTime(s string) time.Time {
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05.999999999Z0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
