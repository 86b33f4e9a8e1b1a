// The charts of a page about runs: reads the data that the page carries, draws with uPlot, and makes every chart
// usable with a keyboard and a screen reader. Every number drawn here stands in a table of the page too.
(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("chart-data").textContent);
  var root = document.documentElement;
  root.classList.add("drawn");
  var drawn = [];

  function css(name) {
    return getComputedStyle(root).getPropertyValue(name).trim();
  }
  function number(v) {
    if (v === null || v === undefined) return "–";
    var a = Math.abs(v);
    var places = a >= 1000 ? 0 : a >= 100 ? 1 : a >= 1 ? 2 : 3;
    if (a > 0 && a < 0.01) places = Math.min(6, 1 - Math.floor(Math.log10(a) + 1e-9));
    var s = v.toFixed(places);
    if (s.indexOf(".") >= 0) s = s.replace(/0+$/, "").replace(/\.$/, "");
    var parts = s.split(".");
    parts[0] = parts[0].replace(/\B(?=(\d{3})+(?!\d))/g, ",");
    return parts.join(".");
  }
  // Steps between the ticks of a count.
  var whole = [];
  for (var ten = 1; ten < 1e12; ten *= 10) whole.push(ten, 2 * ten, 5 * ten);
  // The x axis of a spectrum is log10(1/(1-q)): every whole number is a 9 more.
  function share(u) {
    if (u <= 0) return "min";
    var q = 100 * (1 - Math.pow(10, -u));
    return q.toFixed(Math.max(0, Math.ceil(u) - 2 + (u % 1 ? 2 : 0))) + " %";
  }
  var axes = {
    share: {
      label: "share of requests that took no longer",
      splits: function (u, i, min, max) {
        var s = min <= 0.3011 && max > 0.3 ? [Math.log10(2)] : [];
        for (var n = Math.max(1, Math.ceil(min)); n <= max + 1e-9; n++) s.push(n);
        return s;
      },
      tick: function (v) {
        return v < 1 ? "50 %" : v === 1 ? "90 %" : v === 2 ? "99 %" : "99." + "9".repeat(v - 2) + " %";
      },
      say: function (v) { return "at " + share(v); }
    },
    seconds: {
      label: "seconds since the measured part began",
      tick: function (v) { return number(v); },
      say: function (v) { return "second " + number(v); }
    }
  };

  function Chart(figure, spec) {
    this.figure = figure;
    this.spec = spec;
    this.host = figure.querySelector(".canvas");
    this.out = figure.querySelector("output");
    this.keys = figure.querySelector(".keys");
    this.shown = spec.series.map(function (s) { return !s.off; });
    this.build();
  }

  Chart.prototype.color = function (s) {
    return css("--c" + (s.color % 8));
  };

  Chart.prototype.build = function () {
    var self = this, spec = this.spec, ax = axes[spec.x_axis];
    var ink = css("--soft"), grid = { stroke: css("--grid"), width: 1 };
    var font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
    var ys = [].concat.apply([], spec.series.map(function (s) { return s.y; })).filter(function (v) { return v !== null; });
    if (spec.heat) ys = [spec.heat.edges[0], spec.heat.edges[spec.heat.edges.length - 1]];
    var low = Infinity, high = -Infinity;
    for (var i = 0; i < ys.length; i++) { if (ys[i] < low) low = ys[i]; if (ys[i] > high) high = ys[i]; }
    if (!(high >= low)) { low = 0; high = 1; }
    var log = !!spec.y_log && low > 0;
    var series = [{}].concat(spec.series.map(function (s, i) {
      return {
        label: s.name, scale: "y", stroke: self.color(s), width: s.thin ? 1.25 : 2, spanGaps: false, show: self.shown[i],
        dash: s.dash ? [3, 4] : undefined,
        points: { show: false }
      };
    }));
    var x = spec.x;
    var opts = {
      width: this.width(), height: spec.heat ? 260 : 280,
      legend: { show: false },
      padding: [12, 30, 0, 4],
      cursor: { y: false, drag: { x: true, y: false, setScale: true }, points: { size: 7 } },
      scales: {
        x: { time: false, range: function (u, min, max) {
          var whole = min === x[0] && max === x[x.length - 1], h = spec.heat;
          if (h && whole) return [h.start, h.start + h.cells.length * h.step];
          return min === max ? [min - 0.5, max + 0.5] : [min, max];
        } },
        y: log
          ? { distr: 3, log: 10, range: function () { return spec.heat ? [low, high] : [low / 1.15, high * 1.15]; } }
          : { range: function () { return [Math.min(0, low), high > 0 ? high * 1.06 : 1]; } }
      },
      axes: [
        { stroke: ink, grid: grid, ticks: grid, font: font, label: ax.label, labelFont: font, labelSize: 22, size: 32,
          splits: ax.splits, values: function (u, s) { return s.map(ax.tick); }, space: 70 },
        { scale: "y", stroke: ink, grid: grid, ticks: grid, font: font, size: 64, space: 34,
          incrs: spec.whole ? whole : undefined,
          label: spec.y_label + (log ? " (log)" : ""), labelFont: font, labelSize: 20,
          values: function (u, s) {
            return s.map(function (v) {
              if (v === null) return "";
              if (!log) return number(v);
              var m = v / Math.pow(10, Math.floor(Math.log10(v) + 1e-9));
              var wide = Math.log10(high / low) > 3;
              return Math.abs(m - 1) < 1e-6 || (!wide && (Math.abs(m - 2) < 1e-6 || Math.abs(m - 5) < 1e-6)) ? number(v) : "";
            });
          }, filter: function (u, s) { return s; } }
      ],
      series: series,
      hooks: { setCursor: [function (u) { self.say(u); }] }
    };
    if (spec.heat) {
      opts.hooks.drawAxes = [function (u) { self.heat(u); }];
      opts.axes[1].grid = { show: false };
      opts.axes[0].grid = { show: false };
    }
    if (this.plot) this.plot.destroy();
    this.plot = new uPlot(opts, [x].concat(spec.series.map(function (s) { return s.y; })), this.host);
    this.buttons();
    this.reserve();
  };

  // reserve keeps room for the longest reading, so that the page does not move under the pointer.
  Chart.prototype.reserve = function () {
    var n = this.spec.x.length, step = Math.max(1, Math.floor(n / 400)), longest = "";
    for (var i = 0; i < n; i += step) {
      var text = this.reading(i, true);
      if (text.length > longest.length) longest = text;
    }
    var probe = document.createElement("div");
    probe.className = "reading probe";
    probe.textContent = longest;
    this.out.parentNode.insertBefore(probe, this.out);
    var high = Math.ceil(probe.getBoundingClientRect().height);
    probe.remove();
    if (high > 0) this.out.style.minHeight = high + "px";
  };

  Chart.prototype.width = function () {
    if (root.classList.contains("printing")) return 680;
    return Math.max(280, Math.floor(this.host.clientWidth));
  };

  // heat fills a cell for each stretch of time and band of latency: the fuller, the more requests it holds.
  Chart.prototype.heat = function (u) {
    var h = this.spec.heat, ctx = u.ctx;
    if (!this.most) {
      this.most = 1;
      for (var c = 0; c < h.cells.length; c++) for (var k = 1; k < h.cells[c].length; k += 2) if (h.cells[c][k] > this.most) this.most = h.cells[c][k];
    }
    var ramp = this.ramp();
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    for (var i = 0; i < h.cells.length; i++) {
      var left = u.valToPos(h.start + i * h.step, "x", true), right = u.valToPos(h.start + (i + 1) * h.step, "x", true);
      if (right < u.bbox.left || left > u.bbox.left + u.bbox.width) continue;
      for (var j = 0; j < h.cells[i].length; j += 2) {
        var row = h.cells[i][j], n = h.cells[i][j + 1];
        var bottom = u.valToPos(h.edges[row], "y", true), top = u.valToPos(h.edges[row + 1], "y", true);
        ctx.fillStyle = ramp[Math.round((ramp.length - 1) * Math.log(1 + n) / Math.log(1 + this.most))];
        ctx.fillRect(Math.floor(left), Math.floor(top), Math.max(1, Math.ceil(right) - Math.floor(left)), Math.max(1, Math.ceil(bottom) - Math.floor(top)));
      }
    }
    ctx.restore();
  };

  Chart.prototype.ramp = function () {
    var from = css("--heat-low"), to = css("--heat-high"), ramp = [];
    function rgb(s) { return [1, 3, 5].map(function (i) { return parseInt(s.substr(i, 2), 16); }); }
    var a = rgb(from), b = rgb(to);
    for (var i = 0; i < 24; i++) {
      ramp.push("rgb(" + a.map(function (v, k) { return Math.round(v + (b[k] - v) * i / 23); }).join(",") + ")");
    }
    return ramp;
  };

  // say writes what is under the cursor.
  Chart.prototype.say = function (u) {
    var i = u.cursor.idx;
    this.out.textContent = i === null || i === undefined ? "" : this.reading(i, false);
  };

  // reading is what stands at a point, of the shown lines or of all. Of a heat map's column it names the fullest bands.
  Chart.prototype.reading = function (i, all) {
    var spec = this.spec, most = 3;
    var parts = [axes[spec.x_axis].say(spec.x[i])];
    if (spec.heat) {
      var h = spec.heat, cell = h.cells[i] || [], bands = [], rest = 0;
      for (var j = 0; j < cell.length; j += 2) bands.push({ row: cell[j], n: cell[j + 1] });
      bands.sort(function (a, b) { return b.n - a.n || a.row - b.row; });
      bands.slice(most).forEach(function (b) { rest += b.n; });
      var said = bands.slice(0, most).map(function (b) { return number(h.edges[b.row]) + "–" + number(h.edges[b.row + 1]) + " ms: " + number(b.n); });
      if (rest > 0) said.push("elsewhere: " + number(rest));
      parts.push(said.length ? said.join(", ") : "no success");
    }
    for (var s = 0; s < spec.series.length; s++) {
      var line = spec.series[s], v = line.y[i];
      if (line.tail && spec.series[s - 1].y[i] !== null) continue; // said by the series that it continues
      if ((all || this.shown[s]) && v !== null && v !== undefined) parts.push(line.name + " " + number(v) + (spec.unit ? " " + spec.unit : ""));
    }
    return parts.join(" · ");
  };

  Chart.prototype.buttons = function () {
    var self = this;
    if (this.keys.childNodes.length) return;
    if (this.spec.series.length > 1) {
      this.spec.series.forEach(function (s, i) {
        if (s.tail) return;
        var b = document.createElement("button");
        b.type = "button";
        b.className = "key c" + (s.color % 8) + (s.dash ? " dashed" : "");
        b.setAttribute("aria-pressed", String(self.shown[i]));
        b.textContent = s.name;
        b.addEventListener("click", function () {
          self.shown[i] = !self.shown[i];
          b.setAttribute("aria-pressed", String(self.shown[i]));
          self.plot.setSeries(i + 1, { show: self.shown[i] });
          var next = self.spec.series[i + 1];
          if (next && next.tail) {
            self.shown[i + 1] = self.shown[i];
            self.plot.setSeries(i + 2, { show: self.shown[i] });
          }
        });
        self.keys.appendChild(b);
      });
    }
    var reset = document.createElement("button");
    reset.type = "button";
    reset.className = "reset";
    reset.textContent = "whole chart";
    reset.addEventListener("click", function () { self.reset(); });
    this.keys.appendChild(reset);
    this.host.addEventListener("keydown", function (e) { self.key(e); });
  };

  Chart.prototype.reset = function () {
    var x = this.spec.x;
    this.plot.setScale("x", { min: x[0], max: x[x.length - 1] });
  };

  Chart.prototype.key = function (e) {
    var u = this.plot, x = this.spec.x, i = u.cursor.idx, sc = u.scales.x;
    if (i === null || i === undefined) i = -1;
    var step = e.shiftKey ? Math.max(1, Math.round(x.length / 20)) : 1;
    if (e.key === "ArrowRight") i = i < 0 ? 0 : i + step;
    else if (e.key === "ArrowLeft") i = i < 0 ? x.length - 1 : i - step;
    else if (e.key === "Home") i = 0;
    else if (e.key === "End") i = x.length - 1;
    else if (e.key === "+" || e.key === "-") {
      var at = i < 0 ? (sc.min + sc.max) / 2 : x[i], half = (sc.max - sc.min) * (e.key === "+" ? 0.25 : 1);
      u.setScale("x", { min: Math.max(x[0], at - half), max: Math.min(x[x.length - 1], at + half) });
      e.preventDefault();
      return;
    } else if (e.key === "Escape") { this.reset(); return; } else return;
    e.preventDefault();
    i = Math.max(0, Math.min(x.length - 1, i));
    if (x[i] < sc.min || x[i] > sc.max) this.reset();
    u.setCursor({ left: u.valToPos(x[i], "x"), top: 0 });
  };

  // Charts below the fold are drawn when they come near: the page is there at once.
  var near = new IntersectionObserver(function (entries) {
    entries.forEach(function (e) {
      if (!e.isIntersecting) return;
      near.unobserve(e.target);
      draw(e.target);
    });
  }, { rootMargin: "400px" });
  function draw(figure) {
    if (figure.chart) return;
    figure.chart = new Chart(figure, data[Number(figure.dataset.chart)]);
    drawn.push(figure.chart);
  }
  var figures = Array.prototype.slice.call(document.querySelectorAll("figure[data-chart]"));
  figures.forEach(function (f) { near.observe(f); });

  function rebuild() { drawn.forEach(function (c) { c.build(); }); }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", rebuild);
  var waiting;
  addEventListener("resize", function () {
    clearTimeout(waiting);
    waiting = setTimeout(function () {
      drawn.forEach(function (c) { c.plot.setSize({ width: c.width(), height: c.plot.height }); c.reserve(); });
    }, 100);
  });
  // Paper is light and has a width of its own.
  addEventListener("beforeprint", function () {
    root.classList.add("printing");
    figures.forEach(draw);
    rebuild();
  });
  addEventListener("afterprint", function () {
    root.classList.remove("printing");
    rebuild();
  });
})();
