// Package awsreadtest has the AWS services that awsread reads, as far as it uses
// them, with faults on request: a test's own CloudWatch Logs on loopback.
package awsreadtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

// Event is one stored log event.
type Event struct {
	// ID, Time and Message are as CloudWatch Logs keeps them.
	ID      string
	Time    time.Time
	Message string
}

// CloudWatch answers FilterLogEvents, StartQuery, GetQueryResults and StopQuery
// in the AWS JSON 1.1 protocol. Logs Insights is imitated for the one query that
// awsread asks: the fake reads the records itself and counts them. Set the fields
// before the first request.
type CloudWatch struct {
	// Group is the only log group there is.
	Group string
	// Events are its events, ordered by time.
	Events []Event
	// PageSize is the most events of a page; 0 means 100.
	PageSize int
	// Overlap repeats this many events of the page before at the start of a page.
	Overlap int
	// EmptyPages answers every other request with an empty page and a token, as CloudWatch Logs does while it searches.
	EmptyPages bool
	// SameToken returns the first page's token for ever.
	SameToken bool
	// Faults are what happens to the next requests, one each: "" answers, "throttle", "unavailable", "limit" and
	// "denied" are errors of AWS, "reset" cuts the connection, "half" cuts the answer in the middle, "hang" never answers.
	Faults []string
	// RowCap is the most rows of a query's answer; 0 means 10,000.
	RowCap int
	// Running is how often a query says that it is still running before it is complete.
	Running int
	// LoseRows leaves out the last row of every answer.
	LoseRows bool
	// End is the status that queries end with; "" means Complete.
	End string

	mu      sync.Mutex // guards what follows, and Faults
	calls   map[string]int
	queries map[string]*query
	starts  []string
	release chan struct{}
}

type query struct {
	from, until int64
	asked       int
}

// Calls returns how often an operation was asked for, failed attempts included.
func (c *CloudWatch) Calls(operation string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[operation]
}

// Queries returns the query strings in the order in which they were started.
func (c *CloudWatch) Queries() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.starts)
}

// Close lets hanging requests end.
func (c *CloudWatch) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.release == nil {
		c.release = make(chan struct{})
	}
	close(c.release)
}

type request struct {
	LogGroupName  string `json:"logGroupName"`
	StartTime     int64  `json:"startTime"`
	EndTime       int64  `json:"endTime"`
	FilterPattern string `json:"filterPattern"`
	NextToken     string `json:"nextToken"`
	Limit         int    `json:"limit"`
	QueryString   string `json:"queryString"`
	QueryID       string `json:"queryId"`
}

// ServeHTTP implements http.Handler.
func (c *CloudWatch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	var in request
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		fail(w, http.StatusBadRequest, "SerializationException", err.Error())
		return
	}
	if !strings.Contains(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		fail(w, http.StatusBadRequest, "MissingAuthenticationTokenException", "the request is not signed")
		return
	}
	c.mu.Lock()
	if c.calls == nil {
		c.calls, c.queries = make(map[string]int), make(map[string]*query)
	}
	if c.release == nil {
		c.release = make(chan struct{})
	}
	release := c.release
	c.calls[operation]++
	fault := ""
	if len(c.Faults) > 0 {
		fault, c.Faults = c.Faults[0], c.Faults[1:]
	}
	c.mu.Unlock()
	switch fault {
	case "throttle":
		fail(w, http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
		return
	case "unavailable":
		fail(w, http.StatusServiceUnavailable, "ServiceUnavailableException", "try again")
		return
	case "limit":
		fail(w, http.StatusBadRequest, "LimitExceededException", "too many queries")
		return
	case "denied":
		fail(w, http.StatusBadRequest, "AccessDeniedException", "User: arn:aws:iam::1:user/x is not authorized to perform: logs:"+operation)
		return
	case "reset", "half":
		cut(w, fault == "half")
		return
	case "hang":
		select {
		case <-r.Context().Done():
		case <-release:
		}
		return
	}
	if in.LogGroupName != "" && in.LogGroupName != c.Group {
		fail(w, http.StatusBadRequest, "ResourceNotFoundException", "The specified log group does not exist.")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch operation {
	case "FilterLogEvents":
		c.filter(w, &in)
	case "StartQuery":
		c.starts = append(c.starts, in.QueryString)
		id := "query-" + strconv.Itoa(len(c.queries)+1)
		c.queries[id] = &query{from: in.StartTime, until: in.EndTime}
		answer(w, map[string]any{"queryId": id})
	case "GetQueryResults":
		c.results(w, in.QueryID)
	case "StopQuery":
		answer(w, map[string]any{"success": true})
	default:
		fail(w, http.StatusBadRequest, "UnknownOperationException", operation)
	}
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message}) // the client may be gone
}

// cut ends the connection, before or in the middle of an answer.
func cut(w http.ResponseWriter, half bool) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	conn, rw, err := hijacker.Hijack()
	if err != nil {
		return
	}
	if half {
		_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 5000\r\n\r\n{\"events\":[")
		_ = rw.Flush() // the client sees a broken answer either way
	}
	_ = conn.Close()
}

// matches imitates a filter pattern of ?"phrase" terms: any of them.
func matches(pattern, message string) bool {
	if pattern == "" {
		return true
	}
	for i, phrase := range strings.Split(pattern, `"`) {
		if i%2 == 1 && strings.Contains(message, phrase) {
			return true
		}
	}
	return false
}

func (c *CloudWatch) filter(w http.ResponseWriter, in *request) {
	var found []Event
	for _, e := range c.Events {
		if ms := e.Time.UnixMilli(); ms >= in.StartTime && ms <= in.EndTime && matches(in.FilterPattern, e.Message) {
			found = append(found, e)
		}
	}
	size := c.PageSize
	if size == 0 {
		size = 100
	}
	size = min(size, max(in.Limit, 1))
	kind, rest, _ := strings.Cut(in.NextToken, "-")
	at, _ := strconv.Atoi(rest)
	out := map[string]any{"events": []any{}, "searchedLogStreams": []any{}}
	if c.EmptyPages && kind != "full" {
		out["nextToken"] = fmt.Sprintf("full-%d", at)
		answer(w, out)
		return
	}
	events := []any{}
	for i := max(0, at-c.Overlap); i < min(at+size, len(found)); i++ {
		e := found[i]
		events = append(events, map[string]any{
			"eventId": e.ID, "timestamp": e.Time.UnixMilli(), "ingestionTime": e.Time.UnixMilli() + 500,
			"message": e.Message, "logStreamName": "2026/11/20/[$LATEST]0123456789abcdef",
		})
	}
	out["events"] = events
	switch {
	case c.SameToken:
		out["nextToken"] = "next-0"
	case at+size < len(found):
		out["nextToken"] = fmt.Sprintf("next-%d", at+size)
	}
	answer(w, out)
}

// row is a group of the one query that is imitated.
type row struct{ billed, memory, cold, outcome string }

type sums struct {
	n                                        int64
	duration, longest, shortest              float64
	init, longestInit, restore, longRestored float64
	used                                     float64
}

func ms(m lambdalog.Millis) float64 {
	if !m.Known {
		return -1
	}
	return float64(m.Value) / 1e6
}

func print64(f float64) string { return strconv.FormatFloat(f, 'G', -1, 64) }

func (c *CloudWatch) results(w http.ResponseWriter, id string) {
	q, ok := c.queries[id]
	if !ok {
		fail(w, http.StatusBadRequest, "ResourceNotFoundException", "no such query")
		return
	}
	q.asked++
	if q.asked <= c.Running {
		answer(w, map[string]any{"status": "Running", "results": []any{}, "statistics": map[string]float64{"bytesScanned": 1e6}})
		return
	}
	if c.End != "" {
		answer(w, map[string]any{"status": c.End, "results": []any{}})
		return
	}
	groups := make(map[row]*sums)
	var order []row
	matched, scanned := 0, 0
	for _, e := range c.Events {
		if s := e.Time.Unix(); s < q.from || s > q.until {
			continue
		}
		scanned += len(e.Message) + 26
		one := func(yield func(lambdalog.Event, error) bool) { yield(lambdalog.Event{Message: e.Message}, nil) }
		for v, err := range lambdalog.ScanEvents(one, "fake") {
			if err != nil || v.Kind != lambdalog.KindReport {
				continue
			}
			matched++
			key := row{print64(ms(v.Billed)), "-1", "0", string(v.Status)}
			if v.Memory > 0 {
				key.memory = print64(float64(v.Memory))
			}
			if v.Init.Known {
				key.cold = "1"
			} else if v.Restore.Known {
				key.cold = "2"
			}
			g := groups[key]
			if g == nil {
				g = &sums{shortest: ms(v.Duration), longest: -1, longestInit: -1, longRestored: -1, used: -1}
				groups[key] = g
				order = append(order, key)
			}
			g.n++
			g.duration += ms(v.Duration)
			g.longest, g.shortest = max(g.longest, ms(v.Duration)), min(g.shortest, ms(v.Duration))
			g.init += ms(v.Init)
			g.restore += ms(v.Restore)
			g.longestInit, g.longRestored = max(g.longestInit, ms(v.Init)), max(g.longRestored, ms(v.Restore))
			g.used = max(g.used, float64(v.MaxMemoryUsed))
		}
	}
	limit := c.RowCap
	if limit == 0 {
		limit = 10_000
	}
	order = order[:min(len(order), limit)]
	if c.LoseRows && len(order) > 0 {
		order = order[:len(order)-1]
	}
	rows := [][]map[string]string{}
	for _, k := range order {
		g := groups[k]
		var fields []map[string]string
		for _, f := range [][2]string{
			{"billed", k.billed},
			{"memory", k.memory},
			{"cold", k.cold},
			{"outcome", k.outcome},
			{"n", strconv.FormatInt(g.n, 10)},
			{"duration_sum", print64(g.duration)},
			{"duration_max", print64(g.longest)},
			{"duration_min", print64(g.shortest)},
			{"init_sum", print64(g.init)},
			{"init_max", print64(g.longestInit)},
			{"restore_sum", print64(g.restore)},
			{"restore_max", print64(g.longRestored)},
			{"used_max", print64(g.used)},
		} {
			fields = append(fields, map[string]string{"field": f[0], "value": f[1]})
		}
		rows = append(rows, fields)
	}
	answer(w, map[string]any{
		"status": "Complete", "results": rows,
		"statistics": map[string]float64{"bytesScanned": float64(scanned), "recordsMatched": float64(matched), "recordsScanned": float64(len(c.Events))},
	})
}
