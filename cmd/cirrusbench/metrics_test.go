package main

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cirrusbench/cirrusbench/internal/remotewrite"
	"github.com/cirrusbench/cirrusbench/internal/server"
)

// exposed returns the page of a server that has seen a request of each kind.
func exposed(t *testing.T) string {
	t.Helper()
	m := newMetrics()
	m.watch(func() (int64, int64) { return 1, 2 })
	sum := remotewrite.Summary{Counts: remotewrite.Counts{Samples: 5, IntHistograms: 2, Exemplars: 3, Metadata: 4, StaleSamples: 1, UnsortedSeries: 6, EmptyLabels: 7}}
	m.Observe(server.Observation{Status: 204, Version: remotewrite.V2, Summary: sum, WireBytes: 10, DecodedBytes: 20, Decode: time.Millisecond, Store: time.Millisecond, Total: time.Millisecond})
	m.Observe(server.Observation{Status: 204, Version: remotewrite.V2, Summary: sum, Duplicate: true})
	m.Observe(server.Observation{
		Status: 400, Version: remotewrite.V1, Reason: "name_missing", Summary: sum, Partial: true,
		Rejected: server.Amounts{Samples: 8}, Refused: map[string]int{"name_missing": 9},
	})
	m.Observe(server.Observation{Status: 415, Reason: "content_type"})
	w := httptest.NewRecorder()
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMetrics(t *testing.T) {
	page := exposed(t)
	for _, want := range []string{
		`cirrusbench_requests_total{code="204",version="2.0"} 2`,
		`cirrusbench_requests_total{code="415",version="unknown"} 1`,
		`cirrusbench_written_total{kind="samples"} 10`, // stored whole and in part, and the duplicate not again
		`cirrusbench_written_total{kind="histograms"} 4`,
		`cirrusbench_written_total{kind="exemplars"} 6`,
		`cirrusbench_written_total{kind="metadata"} 8`,
		`cirrusbench_rejected_total{kind="samples"} 8`,
		`cirrusbench_rejected_requests_total{reason="name_missing"} 1`,
		`cirrusbench_rejected_requests_total{reason="content_type"} 1`,
		`cirrusbench_rejected_requests_total{reason="store_failed"} 0`, // there before it happens
		`cirrusbench_refused_series_total{reason="name_missing"} 9`,
		`cirrusbench_refused_series_total{reason="timestamp_future"} 0`,
		`cirrusbench_partial_writes_total 1`,
		`cirrusbench_duplicate_requests_total 1`,
		`cirrusbench_stale_samples_total 2`,
		`cirrusbench_unsorted_series_total 12`,
		`cirrusbench_empty_labels_total 14`,
		`cirrusbench_received_bytes_total{form="decoded"} 20`,
		`cirrusbench_store_seconds_count 1`,
		`cirrusbench_in_flight_bytes 2`,
	} {
		if !strings.Contains(page, want+"\n") {
			t.Errorf("not on the page: %s", want)
		}
	}
}

// TestDashboard checks that the dashboard asks for metrics and labels that there are.
func TestDashboard(t *testing.T) {
	b, err := os.ReadFile("../../deploy/grafana/cirrusbench-server.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		UID    string
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	page := exposed(t)
	name := regexp.MustCompile(`\b(?:cirrusbench|process)_[a-z_]+`)
	by := regexp.MustCompile(`by \(([a-z, ]+)\)`)
	asked := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			for _, metric := range name.FindAllString(target.Expr, -1) {
				asked++
				line := regexp.MustCompile(`(?m)^` + metric + `(\{[^}]*\})? `).FindString(page)
				if line == "" {
					t.Errorf("%s: there is no metric %s", p.Title, metric)
				}
				for _, group := range by.FindAllStringSubmatch(target.Expr, -1) {
					for label := range strings.SplitSeq(group[1], ",") {
						if label = strings.TrimSpace(label); !strings.Contains(line, label+`="`) {
							t.Errorf("%s: %s has no label %s", p.Title, metric, label)
						}
					}
				}
			}
		}
	}
	if asked < 15 || board.UID == "" {
		t.Errorf("%d metrics asked for", asked)
	}
}
