//go:build integration

package report

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/cost"
	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// browser is a headless Chromium, driven by its DevTools protocol over a pipe.
type browser struct {
	t       *testing.T
	to      io.WriteCloser
	from    *bufio.Reader
	id      int
	session string
	events  []event // since the last navigation
}

type event struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// chromium starts a browser without a window, profile or network of its own.
func chromium(t *testing.T) *browser {
	t.Helper()
	name := cmp.Or(os.Getenv("CIRRUSBENCH_CHROMIUM"), "chromium")
	toRead, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, fromWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, name, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{toRead, fromWrite}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v (tools/integration.sh installs it)", name, err)
	}
	_, _ = toRead.Close(), fromWrite.Close()
	b := &browser{t: t, to: to, from: bufio.NewReaderSize(from, 1<<20)}
	t.Cleanup(func() {
		b.session = ""
		_, _ = to.Write([]byte(`{"id":999999,"method":"Browser.close"}` + "\x00"))
		_ = cmd.Wait()
		cancel()
		_, _ = to.Close(), from.Close()
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.id++
	request := map[string]any{"id": b.id, "method": method}
	if params != nil {
		request["params"] = params
	}
	if b.session != "" {
		request["sessionId"] = b.session
	}
	data, err := json.Marshal(request)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(data, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		data, err := b.from.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: the browser has gone: %v", method, err)
		}
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
			event
		}
		if err := json.Unmarshal(data[:len(data)-1], &answer); err != nil {
			b.t.Fatal(err)
		}
		if answer.ID != b.id {
			b.events = append(b.events, answer.event)
			continue
		}
		if answer.Error != nil {
			b.t.Fatalf("%s: %s", method, answer.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(answer.Result, result); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
}

// eval runs an expression in the page and decodes what it returns, which JSON can hold.
func (b *browser) eval(expression string, result any) {
	b.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	if answer.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, answer.ExceptionDetails)
	}
	if result != nil {
		if err := json.Unmarshal(answer.Result.Value, result); err != nil {
			b.t.Fatalf("%s: %v in %s", expression, err, answer.Result.Value)
		}
	}
}

// open shows a page and returns how long it took until it was drawn, by the browser's own clock.
func (b *browser) open(file string) time.Duration {
	b.t.Helper()
	b.events = nil
	b.call("Page.navigate", map[string]any{"url": "file://" + file}, nil)
	var ms float64
	// The promise is of the document that is being loaded: ask until it is that one.
	for range 200 {
		var here string
		b.eval("location.href", &here)
		if here == "file://"+file {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	b.eval(`new Promise(function (done) {
		function drawn() { requestAnimationFrame(function () { requestAnimationFrame(function () { done(performance.now()); }); }); }
		if (document.readyState === "complete") drawn(); else addEventListener("load", drawn);
	})`, &ms)
	return time.Duration(ms * float64(time.Millisecond))
}

// complaints are what the page said on its console and what it asked of the network since it was opened.
func (b *browser) complaints() (console, requests []string) {
	b.eval("1", nil) // what happened before has been told by now
	for _, e := range b.events {
		switch e.Method {
		case "Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled":
			console = append(console, string(e.Params))
		case "Network.requestWillBeSent":
			var p struct{ Request struct{ URL string } }
			if err := json.Unmarshal(e.Params, &p); err != nil {
				b.t.Fatal(err)
			}
			requests = append(requests, p.Request.URL)
		}
	}
	return console, requests
}

// shot writes a picture of the whole page to the folder that CIRRUSBENCH_SCREENSHOTS names, for people to look at.
func (b *browser) shot(name string) {
	b.t.Helper()
	// A window as high as the page: a picture beyond the window makes charts resize while it is taken.
	var size []int
	b.eval("[innerWidth, innerHeight, document.body.scrollHeight]", &size)
	b.window(size[0], size[2])
	b.eval("new Promise(function (r) { setTimeout(r, 300); })", nil)
	var picture struct{ Data []byte }
	b.call("Page.captureScreenshot", nil, &picture)
	b.window(size[0], size[1])
	if len(picture.Data) < 10_000 {
		b.t.Errorf("%s: a picture of %d bytes shows nothing", name, len(picture.Data))
	}
	b.keep(name+".png", picture.Data)
}

func (b *browser) keep(name string, data []byte) {
	b.t.Helper()
	dir := os.Getenv("CIRRUSBENCH_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) window(width, height int) {
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
}

func (b *browser) scheme(s string) {
	b.call("Emulation.setEmulatedMedia", map[string]any{"media": "", "features": []map[string]string{{"name": "prefers-color-scheme", "value": s}}}, nil)
}

// longRun makes up a run of so many seconds, 40 requests in each, with a stall, a slow drift and failures.
func longRun(t *testing.T, seconds int, seed uint64) *stats.Run {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 9))
	rec := stats.NewRecorder()
	const perSecond = 40
	n := seconds * perSecond
	for i := range n {
		due := time.Duration(i) * time.Second / perSecond
		at := float64(i) / float64(n)
		took := time.Duration(float64(2*time.Millisecond) * (1 + at) * math.Exp(0.4*rnd.NormFloat64()))
		if rnd.IntN(150) == 0 {
			took *= time.Duration(5 + rnd.IntN(30))
		}
		if at > 0.6 && at < 0.62 {
			took += 300 * time.Millisecond
		}
		o := stats.Observation{
			Pair:     stats.PairKey{Source: fmt.Sprintf("org-%d/prod", i%6), Destination: "ingest.example.com"},
			Intended: due, Started: due + 40*time.Microsecond, Done: due + 40*time.Microsecond + took, Status: 204, Samples: 500, SamplesWritten: 500, Bytes: 20_000,
		}
		if at > 0.6 && at < 0.62 && i%3 == 0 {
			o.Outcome, o.Status, o.SamplesWritten, o.ErrorExample = stats.Failed, 503, 0, "503 Service Unavailable: the store is full"
		}
		rec.Record(o)
		late := 20e3
		if seed == 3 && i%2 == 0 { // a generator that is often on time to the nanosecond
			late = 1.2
		}
		rec.RecordScheduleError(time.Duration(late * (1 + rnd.ExpFloat64())))
	}
	run := &stats.Run{
		Schema: stats.RunSchema, Tool: stats.Tool{Version: "v0.1.0"}, StartedAt: time.Date(2026, 11, 20, 18, 25, 1, 0, time.UTC),
		Plan:   stats.Plan{Loop: "open", Arrival: "constant", Timing: "rate", RatePerS: perSecond, MaxInFlight: 256, Planned: int64(n), Seed: 1, SHA256: strings.Repeat("ab", 32)},
		Corpus: stats.Corpus{Location: "bundled", Objects: 10, Bytes: 300_000, Samples: 12_000, SHA256: strings.Repeat("cd", 32)},
		Target: stats.Target{URL: "https://ingest.example.com/api/v1/write", Kind: "http"}, Client: stats.Client{Verdict: "valid", CPURatio: 0.2},
		Billed: json.RawMessage(`{"schema":"cirrusbench/invocations/v1","records":4100,"reports":4000,"cold":130,"billable":4000,
			"billed_ms":{"sum":320000,"mean":80,"p50":71,"p95":140,"p99":410,"max":980},"duration_ms":{"sum":300000,"mean":75,"p50":70.5,"p95":139,"p99":400,"max":960},
			"init_ms":{"sum":20000,"mean":150,"p50":148,"p95":190,"p99":230,"max":260}}`),
	}
	run.Counts.Planned = int64(n)
	if err := rec.Fill(run); err != nil {
		t.Fatal(err)
	}
	return run
}

func writePage(t *testing.T, name string, runs []stats.NamedRun, fc *cost.Result) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, rendered(t, func(w io.Writer) error { return RunsHTML(w, runs, fc) }), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestIntegrationPageInChromium opens pages as a user does: nothing may be asked of the network, nothing may be said on
// the console, and what is drawn stands in the tables.
func TestIntegrationPageInChromium(t *testing.T) {
	b := chromium(t)
	a, c := longRun(t, 300, 1), longRun(t, 240, 2)
	c.Pairs[0].Source, c.Deltas.Pairs[0].Source = hostile, hostile
	old := longRun(t, 200, 3)
	for i := range old.Timeline {
		old.Timeline[i].Histogram, old.Timeline[i].MinMS = "", 0
	}
	one := []stats.NamedRun{{Name: "run.json", Run: a}}
	three := []stats.NamedRun{{Name: "a.json", Run: a}, {Name: hostile, Run: c}, {Name: "old.json", Run: old}}
	for _, p := range []struct {
		name   string
		file   string
		charts int
	}{
		{"one", writePage(t, "one.html", one, readForecast(t, "forecast-two.json")), 5},
		{"three", writePage(t, "three.html", three, nil), 7},
	} {
		t.Run(p.name, func(t *testing.T) {
			b.t = t
			b.window(1100, 900)
			b.scheme("light")
			b.open(p.file)
			// Scroll through the page, so that every chart is drawn.
			b.eval(`(async function () { for (var y = 0; y < document.body.scrollHeight; y += 500) { scrollTo(0, y); await new Promise(requestAnimationFrame); } scrollTo(0, 0); })()`, nil)
			var drawn, wide int
			b.eval(`Array.from(document.querySelectorAll("figure[data-chart] canvas")).length`, &drawn)
			if drawn != p.charts {
				t.Errorf("%d charts are drawn, want %d", drawn, p.charts)
			}
			tablesEqualData(b)
			b.shot(p.name + "-light")
			b.scheme("dark")
			b.shot(p.name + "-dark")
			b.scheme("light")
			b.window(390, 800)
			b.eval("new Promise(function (r) { setTimeout(r, 300); })", nil)
			b.eval("document.documentElement.scrollWidth", &wide)
			if wide > 390 {
				t.Errorf("on a narrow screen the page is %d pixels wide", wide)
			}
			scrollable(b)
			b.shot(p.name + "-narrow")
			b.window(1100, 900)
			var pdf struct{ Data string }
			b.call("Page.printToPDF", map[string]any{"printBackground": false}, &pdf)
			printed, err := base64.StdEncoding.DecodeString(pdf.Data)
			if err != nil || len(printed) < 50_000 {
				t.Errorf("the print has %d bytes: %v", len(printed), err)
			}
			b.keep(p.name+".pdf", printed)
			// The same as a picture, on paper of a dark reader, which is white.
			b.scheme("dark")
			b.call("Emulation.setEmulatedMedia", map[string]any{"media": "print", "features": []map[string]string{{"name": "prefers-color-scheme", "value": "dark"}}}, nil)
			b.window(720, 900)
			b.eval(`dispatchEvent(new Event("beforeprint"))`, nil)
			b.shot(p.name + "-print")
			b.eval(`dispatchEvent(new Event("afterprint"))`, nil)
			b.scheme("light")
			b.window(1100, 900)
			keyboard(b)
			steady(b)
			ticks(b)
			console, requests := b.complaints()
			if len(console) > 0 {
				t.Errorf("the page says on the console: %s", strings.Join(console, "\n"))
			}
			if len(requests) != 1 || requests[0] != "file://"+p.file {
				t.Errorf("the page asks for %s", requests)
			}
		})
	}
}

// steady moves the pointer over every chart: what it reads may not move the page.
func steady(b *browser) {
	b.t.Helper()
	for _, width := range []int{1280, 500} {
		b.window(width, 900)
		var heights []int
		b.eval(`(async function () {
			var wait = function (ms) { return new Promise(function (r) { setTimeout(r, ms); }); }, heights = [];
			await wait(300);
			for (var f of document.querySelectorAll("figure[data-chart]")) {
				f.scrollIntoView();
				await wait(20);
				heights.push(f.offsetHeight);
				var u = f.chart.plot, most = 0;
				for (var i = 0; i < 40; i++) {
					u.setCursor({ left: (i + 0.5) / 40 * u.over.clientWidth, top: 5 });
					await Promise.resolve();
					most = Math.max(most, f.offsetHeight);
				}
				heights.push(most);
			}
			scrollTo(0, 0);
			return heights;
		})()`, &heights)
		for i := 0; i < len(heights); i += 2 {
			if heights[i] != heights[i+1] {
				b.t.Errorf("%d pixels wide, chart %d grows from %d to %d pixels while it is read", width, i/2, heights[i], heights[i+1])
			}
		}
	}
	b.window(1100, 900)
}

// ticks looks for labels of an axis that say the same twice, and for parts of a request.
func ticks(b *browser) {
	b.t.Helper()
	var labels [][]string
	b.eval(`Array.from(document.querySelectorAll("figure[data-chart]")).map(function (f) {
		return [f.querySelector("h3").textContent].concat(f.chart.plot.axes[1]._values.filter(function (s) { return s !== ""; }));
	})`, &labels)
	for _, l := range labels {
		sorted := slices.Sorted(slices.Values(l[1:]))
		if len(sorted) < 2 || len(slices.Compact(sorted)) < len(l)-1 {
			b.t.Errorf("%s has the ticks %q", l[0], l[1:])
		}
		if l[0] == "In flight" && strings.Contains(strings.Join(l[1:], ""), ".") {
			b.t.Errorf("%s has the ticks %q", l[0], l[1:])
		}
	}
}

// scrollable looks for what is cut at the right edge and cannot be scrolled with the keyboard, or not be told apart by a
// screen reader.
func scrollable(b *browser) {
	b.t.Helper()
	var lost []string
	b.eval(`Array.from(document.querySelectorAll("main *")).filter(function (e) {
		var how = getComputedStyle(e);
		return e.scrollWidth > e.clientWidth + 1 && (how.overflowX === "auto" || how.overflowX === "scroll" || how.overflowX === "hidden") &&
			!(e.tabIndex === 0 && e.getAttribute("role") && e.getAttribute("aria-label") && how.backgroundImage.indexOf("gradient") >= 0);
	}).map(function (e) { return e.outerHTML.slice(0, 200); })`, &lost)
	if len(lost) > 0 {
		b.t.Errorf("wider than the page, and not to be scrolled: %s", strings.Join(lost, "\n"))
	}
}

// TestIntegrationForecastInChromium opens pages about forecasts on wide and narrow screens and prints one from a dark system.
func TestIntegrationForecastInChromium(t *testing.T) {
	b := chromium(t)
	for _, name := range []string{"demo", "crossing", "one"} {
		file := filepath.Join(t.TempDir(), "forecast.html")
		page := rendered(t, func(w io.Writer) error { return ForecastHTML(w, readForecast(t, "forecast-"+name+".json")) })
		if err := os.WriteFile(file, page, 0o644); err != nil {
			t.Fatal(err)
		}
		b.window(1280, 900)
		b.scheme("light")
		b.open(file)
		palette := `Array.from(document.querySelectorAll("svg .series, svg .layer, svg .band")).map(function (e) { var s = getComputedStyle(e); return s.stroke + s.fill; }).join()`
		var light, dark, printed string
		b.eval(palette, &light)
		b.shot("forecast-" + name + "-light")
		b.scheme("dark")
		b.eval(palette, &dark)
		b.shot("forecast-" + name + "-dark")
		b.call("Emulation.setEmulatedMedia", map[string]any{"media": "print", "features": []map[string]string{{"name": "prefers-color-scheme", "value": "dark"}}}, nil)
		b.eval(palette, &printed)
		b.shot("forecast-" + name + "-print")
		if light == dark || printed != light {
			t.Errorf("%s: colours are %.300s in the light, %.300s in the dark and %.300s in print", name, light, dark, printed)
		}
		b.scheme("light")
		for _, width := range []int{500, 390} {
			b.window(width, 800)
			b.eval("new Promise(function (r) { setTimeout(r, 300); })", nil)
			var wide int
			b.eval("document.documentElement.scrollWidth", &wide)
			if wide > width {
				t.Errorf("%s: on a screen of %d pixels the page is %d wide", name, width, wide)
			}
			scrollable(b)
			b.shot("forecast-" + name + "-" + strconv.Itoa(width))
		}
		if console, requests := b.complaints(); len(console) > 0 || len(requests) != 1 {
			t.Errorf("console %s, requests %s", console, requests)
		}
	}
}

// keyboard reads a value with the arrow keys and hides a series with a button.
func keyboard(b *browser) {
	b.t.Helper()
	var reading string
	b.eval(`(function () {
		var f = document.querySelector("figure[data-chart]"), c = f.querySelector(".canvas");
		c.focus();
		for (var i = 0; i < 5; i++) c.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
		return f.querySelector("output").textContent;
	})()`, &reading)
	if !strings.Contains(reading, "at ") || !strings.Contains(reading, " ms") {
		b.t.Errorf("the arrow keys read %q", reading)
	}
	var pressed string
	b.eval(`(function () { var k = document.querySelector(".key"); k.click(); var p = k.getAttribute("aria-pressed"); k.click(); return p; })()`, &pressed)
	if pressed != "false" {
		b.t.Errorf("a hidden series has aria-pressed=%s", pressed)
	}
}

// tablesEqualData compares every number that the charts draw with the cell of the table that should hold it.
func tablesEqualData(b *browser) {
	b.t.Helper()
	var page struct {
		Charts []chart
		Tables map[string][][]string
	}
	b.eval(`(function () {
		var tables = {};
		document.querySelectorAll("table").forEach(function (t) {
			tables[t.caption.textContent] = Array.from(t.rows).map(function (r) { return Array.from(r.cells).map(function (c) { return c.textContent; }); });
		});
		var charts = JSON.parse(document.getElementById("chart-data").textContent);
		return { Charts: charts, Tables: tables };
	})()`, &page)
	compared := 0
	check := func(caption string, row, column int, want chartNumber) {
		b.t.Helper()
		rows := page.Tables[caption]
		if row >= len(rows) || column >= len(rows[row]) {
			b.t.Fatalf("table %q has no row %d with column %d", caption, row, column)
		}
		compared++
		text := strings.TrimLeft(strings.ReplaceAll(rows[row][column], ",", ""), "~")
		got, err := strconv.ParseFloat(text, 64)
		if math.IsNaN(float64(want)) != (err != nil) || err == nil && math.Abs(got-float64(want)) > 0.0006 {
			b.t.Fatalf("table %q, row %d, column %d is %q, the chart has %v", caption, row, column, text, want)
		}
	}
	heats := 0
	for _, c := range page.Charts {
		switch {
		case c.Heat != nil:
			caption := "The heat map's columns"
			cells := "The heat map's cells"
			if len(page.Tables[caption]) == 0 {
				letter := runLetter(heats)
				caption, cells = caption+", run "+letter, cells+", run "+letter
			}
			heats++
			row := 1
			for i := range c.X {
				for k, s := range c.Series {
					check(caption, i+1, 2+k, s.Y[i])
				}
				for k := 0; k < len(c.Heat.Cells[i]); k += 2 {
					band := c.Heat.Cells[i][k]
					check(cells, row, 1, c.Heat.Edges[band])
					check(cells, row, 2, c.Heat.Edges[band+1])
					check(cells, row, 3, chartNumber(c.Heat.Cells[i][k+1]))
					row++
				}
			}
		case c.XAxis == "share":
			caption := "Percentile spectrum, latency in milliseconds"
			if strings.Contains(c.Series[0].Name, "schedule error") {
				caption = "Schedule error in milliseconds"
			}
			if len(c.X) < 50 {
				b.t.Errorf("the spectrum has %d points", len(c.X))
			}
			for i := range c.X {
				for k := 0; k < len(c.Series); k += 2 {
					want := c.Series[k].Y[i]
					if math.IsNaN(float64(want)) {
						want = c.Series[k+1].Y[i]
					}
					check(caption, i+1, 1+k/2, want)
				}
			}
		default:
			for _, s := range c.Series {
				caption, name := "The run over time", s.Name
				if len(page.Tables[caption]) == 0 {
					letter := "C"
					if before, after, ok := strings.Cut(name, " "); ok && len(before) == 1 {
						letter, name = before, after
					}
					caption += ", run " + letter
				}
				column := slices.Index([]string{"", "sent", "ok", "failed or timed out", "in flight", "p50", "p99", "max"}, name)
				for i := range c.X {
					if i+1 < len(page.Tables[caption]) {
						check(caption, i+1, column, s.Y[i])
					} else if !math.IsNaN(float64(s.Y[i])) {
						b.t.Fatalf("%s has a value at %d that is in no table", s.Name, i)
					}
				}
			}
		}
	}
	if compared < 3000 {
		b.t.Errorf("only %d numbers compared", compared)
	}
	b.t.Logf("%d numbers of %d charts equal the tables", compared, len(page.Charts))
}

// TestIntegrationPageOpensFast reports how long a page of 10,000 seconds takes to open; the bound here is far above
// the second it is meant to take, since a test machine may be busy.
func TestIntegrationPageOpensFast(t *testing.T) {
	b := chromium(t)
	b.window(1100, 900)
	file := writePage(t, "long.html", []stats.NamedRun{{Name: "run.json", Run: longRun(t, 10_000, 1)}}, nil)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for range 3 {
		took = append(took, b.open(file))
	}
	slices.Sort(took)
	t.Logf("%.1f MB with 10,000 timeline points open in %v (median of 3: %v)", float64(info.Size())/1e6, took, took[1])
	if took[1] > 10*time.Second {
		t.Errorf("the page takes %v to open", took[1])
	}
	if console, requests := b.complaints(); len(console) > 0 || len(requests) != 1 {
		t.Errorf("console %s, requests %s", console, requests)
	}
	b.shot("long-light")
}

// UnmarshalJSON takes null for no number.
func (n *chartNumber) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*n = none()
		return nil
	}
	f, err := strconv.ParseFloat(string(data), 64)
	*n = chartNumber(f)
	return err
}
