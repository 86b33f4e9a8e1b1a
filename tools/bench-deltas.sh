#!/usr/bin/env bash
# D2–D5 of 100 million int32 latencies in 1,000 pairs against numpy's faster way, which depends on the processor: to sort by
# rows or to partition them. All on one core and in CPU time, in interleaved rounds. numpy comes from PyPI into .cache. Needs 2 GB of memory.
#   PAIRS=1000 ROW=100000 ROUNDS=5 make bench-deltas
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${PAIRS:-1000} row=${ROW:-100000} rounds=${ROUNDS:-5}
venv=$PWD/.cache/numpy-2.4.6
if [ ! -x "$venv/bin/python" ]; then
	echo "bench-deltas: installing numpy" >&2
	python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/bench" ./tools/bench-deltas
"$work/bench" make "$work/data" "$pairs" "$row"
cat >"$work/deltas.py" <<'EOF'
import json, sys, time
import numpy as np
a = np.fromfile(sys.argv[1], dtype=np.int32).reshape(int(sys.argv[2]), -1)
n = a.shape[1]
def deltas(arrange):
    global a
    a = fresh.copy()
    began = time.process_time()
    arrange()
    median = percentile(0.5)
    d = [percentile(q) - median for q in (0.99, 0.999, 0.9999, 0.99999)]
    out = {"median_ms": [float(np.median(x)) for x in d], "std_ms": [float(np.std(x)) for x in d]}
    return (time.process_time() - began) * 1e9 / a.size, out
def percentile(q):
    h = (n - 1) * q
    j = int(h)
    return (a[:, j] + (h - j) * (a[:, min(j + 1, n - 1)] - a[:, j].astype(float))) / 1000
ranks = sorted({min(int((n - 1) * q) + up, n - 1) for q in (0.5, 0.99, 0.999, 0.9999, 0.99999) for up in (0, 1)})
fresh = a
sort_ns, out = deltas(lambda: a.sort(axis=1))
partition_ns, other = deltas(lambda: a.partition(ranks, axis=1))
assert out == other
print(json.dumps(out | {"sort_ns": sort_ns, "partition_ns": partition_ns, "numpy_ns": min(sort_ns, partition_ns)}))
EOF
export OPENBLAS_NUM_THREADS=1
for _ in $(seq "$rounds"); do
	taskset -c 0 "$work/bench" run "$work/data" "$pairs" >>"$work/ours"
	taskset -c 0 "$venv/bin/python" "$work/deltas.py" "$work/data" "$pairs" >>"$work/numpy"
done
"$venv/bin/python" - "$work" "$pairs" "$row" <<'EOF'
import json, statistics, sys
ours = [json.loads(l) for l in open(sys.argv[1] + "/ours")]
ref = [json.loads(l) for l in open(sys.argv[1] + "/numpy")]
worst = max(abs(a - b) for o, r in zip(ours, ref) for k in ("median_ms", "std_ms") for a, b in zip(o[k], r[k]))
med = lambda v: statistics.median(v)
print(f"{int(sys.argv[2]) * int(sys.argv[3]):,} latencies in {sys.argv[2]} pairs, CPU time a value, median of {len(ours)} rounds (min..max):")
show = lambda name, v: print(f"  {name:42s} {med(v):6.2f} ns ({min(v):.2f}..{max(v):.2f})")
show("numpy, sort by rows, pairs only", [r["sort_ns"] for r in ref])
show("numpy, partition by rows, pairs only", [r["partition_ns"] for r in ref])
show("exact, pairs and pooled", [o["exact_ns"] for o in ours])
show("HDR, pairs and pooled", [o["hdr_ns"] for o in ours])
print(f"  the faster numpy over exact: {med([r['numpy_ns'] / o['exact_ns'] for o, r in zip(ours, ref)]):.2f} (goal 1.5); HDR goal 5 ns")
print(f"  exact differs from numpy by at most {worst:.1e} ms; HDR within its bound for every pair: {all(o['hdr_within_bound'] for o in ours)}")
EOF
