"""Makes adversarial.csv and adversarial.expected.json with numpy.

Run it by hand, in this directory, when a case is added: python3 adversarial.py
"""
import csv
import json
import math
import random

import numpy as np

GOOD = {
    ("const", "w"): ["7.25"] * 5,
    ("zeros", "w"): ["0", "0.0", "-0", "-0.0"],
    ("one", "w"): ["12.5"],
    ("two", "w"): ["1", "1000"],
    ("bimodal-even", "w"): ["1"] * 50 + ["900"] * 50,
    ("bimodal-odd", "w"): ["1"] * 50 + ["900"] * 51,
    ("ties", "w"): [str(i % 7) for i in range(203)],
    ("long", "w"): ["10"] * 20 + ["10080000"],
    ("sub-us", "w"): ["0.0001", "0.0002", "0.0005", "0.000001"],
    ("skewed", "w"): ["-3.5", "-2", "-10.25", "4"],
    ("all-negative", "w"): ["-1", "-2", "-3"],
    ("ab", "c"): ["1", "2"],
    ("a", "bc"): ["30", "50"],
    ("bc", "a"): ["300", "500"],
    ("", "w"): ["5", "6"],
    ("w", ""): ["8", "9"],
    ("", ""): ["11"],
    ("comma,s", "w"): ["3"],
    ('quo"te', "w"): ["4", "5"],
    ("ünï→", "日本"): ["6", "7"],
    ("Case", "w"): ["1"],
    ("case", "w"): ["2"],
    (" case", "w "): ["3"],
    ("forms", "w"): ["1e3", "+7", "  12  ", "\t13", "1.5E+2", ".5", "6."],
    ("line\nbreak", "w"): ["2.5"],
}
BAD = ["NaN", "inf", "-Infinity", "", "   ", "abc", "1,5", "1e999", "0x10", "12ms"]

rows = [[s, d, v] for (s, d), vs in GOOD.items() for v in vs]
rows += [["bad", "w", v] for v in BAD]
rows += [["short", "w"], ["short"]]
random.Random(1).shuffle(rows)
with open("adversarial.csv", "w", newline="", encoding="utf-8") as f:
    w = csv.writer(f)
    w.writerow(["latency_ms", "note", "dst", "src"])
    for r in rows:
        # A short row ends before the column src.
        w.writerow([r[2], "n", r[1], r[0]] if len(r) == 3 else ["9", "n"][: len(r)])

QS = [99, 99.9, 99.99, 99.999]


def levels(x):
    m = np.percentile(x, 50)
    return m, [float(np.percentile(x, q) - m) for q in QS]


def expected(policy):
    pairs, pooled, negative = [], [], 0
    for key in sorted(GOOD, key=lambda k: (k[0].encode(), k[1].encode())):
        x = [float(v) for v in GOOD[key]]
        negative += sum(v < 0 for v in x)
        if policy == "clamp":
            x = [max(v, 0.0) for v in x]
        elif policy == "drop":
            x = [v for v in x if v >= 0]
        if not x:
            continue
        pooled += x
        m, d = levels(x)
        pairs.append({"source": key[0], "destination": key[1], "count": len(x), "median_ms": float(m), "d_ms": d})
    ds = np.array([p["d_ms"] for p in pairs])
    summary = [
        {"median_ms": float(np.median(c)), "mean_ms": float(np.mean(c)), "std_ms": float(np.std(c)),
         "max_ms": float(np.max(c)), "min_ms": float(np.min(c))}
        for c in ds.T
    ]
    m, d = levels(pooled)
    return {
        "rows": len(rows), "used": len(pooled), "skipped": len(BAD) + 2, "negative": negative,
        "pairs": pairs, "summary": summary,
        "pooled": {"count": len(pooled), "median_ms": float(m), "d_ms": d},
    }


out = {p: expected(p) for p in ("keep", "clamp", "drop")}
assert all(math.isfinite(v) for p in out.values() for q in p["pairs"] for v in q["d_ms"])
with open("adversarial.expected.json", "w", encoding="utf-8") as f:
    json.dump(out, f, indent=1, ensure_ascii=False)
    f.write("\n")
