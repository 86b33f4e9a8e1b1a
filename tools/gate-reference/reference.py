#!/usr/bin/env python3
"""Independent values for the gate's statistics, from scipy and numpy.

    pip install scipy numpy && python3 tools/gate-reference/reference.py > internal/stats/testdata/gate_reference.json

The Hodges-Lehmann estimate and the limits are computed from their definition: all 2^n sign patterns are
listed for the null distribution (no dynamic programming), and the limits are found by inverting
scipy.stats.wilcoxon, the exact test, at each Walsh average.
"""
import itertools, json
import numpy as np
import scipy
from scipy import stats


def null_cdf(n):
    counts = np.zeros(n * (n + 1) // 2 + 1)
    for signs in itertools.product((0, 1), repeat=n):
        counts[sum(r for r, s in zip(range(1, n + 1), signs) if s)] += 1
    return (np.cumsum(counts) / 2**n).tolist()


def invert(d, alpha):
    """Lower limit: the largest Walsh average w at which 'the centre exceeds anything below w' still holds."""
    d = np.asarray(d)
    walsh = sorted((a + b) / 2 for i, a in enumerate(d) for b in d[: i + 1])
    eps = 1e-8  # the differences have six decimals, so distinct Walsh averages are 5e-7 apart or more
    lower = -np.inf
    for w in walsh:
        if stats.wilcoxon(d - (w - eps), alternative="greater", method="exact").pvalue <= alpha:
            lower = w
    upper = np.inf
    for w in reversed(walsh):
        if stats.wilcoxon(d - (w + eps), alternative="less", method="exact").pvalue <= alpha:
            upper = w
    return float(np.median(walsh)), float(lower), float(upper)


rng = np.random.default_rng(20261120)
out = {"made_with": f"scipy {scipy.__version__}, numpy {np.__version__}"}
out["null_cdf"] = {str(n): null_cdf(n) for n in (1, 2, 5, 10, 12)}

out["signed_rank"] = []
for n, alpha in ((6, 0.05), (10, 0.05 / 3), (13, 0.01), (20, 0.05 / 3), (40, 0.05 / 3), (20, 0.2)):
    for centre in (0.0, 0.18):
        d = (centre + 0.1 * rng.standard_t(4, n)).round(6)
        est, lo, hi = invert(d, alpha)
        p = stats.wilcoxon(d - np.log(1.05), alternative="greater", method="exact").pvalue
        out["signed_rank"].append({"d": d.tolist(), "alpha": alpha, "estimate": est, "lower": lo, "upper": hi, "p_above_5_percent": float(p)})

out["quantile_ranks"] = []
for n in (3, 20, 299, 300, 473, 1000, 1500, 10000, 299572, 1000000):
    for q in (0.5, 0.9, 0.99, 0.999, 0.99999):
        for alpha in (0.05, 0.025, 0.001):
            # largest r with P(Bin(n,q) <= r-1) <= alpha; smallest r with P(Bin(n,q) >= r) <= alpha
            k = int(stats.binom.ppf(alpha, n, q))
            while stats.binom.cdf(k, n, q) > alpha:
                k -= 1
            while k + 1 <= n and stats.binom.cdf(k + 1, n, q) <= alpha:
                k += 1
            r = int(stats.binom.isf(alpha, n, q))
            while stats.binom.sf(r - 1, n, q) > alpha:
                r += 1
            while r - 1 >= 0 and stats.binom.sf(r - 2, n, q) <= alpha:
                r -= 1
            out["quantile_ranks"].append({"n": n, "q": q, "alpha": alpha, "lower": k + 1, "upper": r})

out["proportion"] = []
for k, n in ((0, 10), (10, 10), (1, 1000), (3, 1000), (500, 1000), (999, 1000), (17, 120000), (60000, 120000)):
    for alpha in (0.05, 0.025, 0.001):
        out["proportion"].append({"k": k, "n": n, "alpha": alpha,
            "lower": float(stats.beta.ppf(alpha, k, n - k + 1)) if k else 0.0,
            "upper": float(stats.beta.ppf(1 - alpha, k + 1, n - k)) if k < n else 1.0})

out["fisher"] = [{"a1": a, "n1": n, "a2": b, "n2": m, "p": float(stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue)}
    for a, n, b, m in ((0, 10, 5, 10), (1, 1000, 9, 1000), (0, 15000, 12, 15000), (3, 5, 4, 9), (50, 1000, 50, 1000), (400, 1000, 460, 900), (2, 30, 1, 7))]
print(json.dumps(out, indent=1))
