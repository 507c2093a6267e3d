"""Reference values for the statistics of rollouts, from other implementations than ours. Writes statistics.json.

    pip install mpmath confseq==0.0.11      # confseq needs a C++ compiler and the headers of Boost
    python statistics.py

What each part comes from, and what it covers:
- quantile_epsilon: confseq, `quantiles.empirical_process_lil_bound`. Covers the width of the quantile band and its
  constant.
- beta_mixture: confseq, `boundaries.beta_binomial_log_mixture` (two-sided). Covers the mixture behind the absolute
  certificate, at general rates, with the priors that confseq allows: their mean is the null rate.
- sign_test: the same, where the null rate is 1/2 and the prior is Beta(1/2, 1/2): exactly our sign test.
- certificate: mpmath at 50 digits, from the formula. confseq has no Beta(1/2, 1/2) prior at other rates than 1/2, and
  no composite null.
- rate_ratio, ratio_interval: mpmath at 50 digits, from the formula. No package that we know has the conditional
  rate-ratio test with a changing split. (gbstats, of GrowthBook, has sequential tests of means only, which we have not.)
"""

import json
from pathlib import Path

from confseq import boundaries, quantiles
from mpmath import beta, exp, findroot, log, mp, mpf

mp.dps = 50


def quantile_epsilon():
    counts = [10, 100, 773, 1000, 3165, 10**4, 80485, 10**5, 10**6]
    for alpha in [0.1, 0.05, 0.025, 0.01, 0.001]:
        for n in counts:
            yield {"alpha": alpha, "n": n, "epsilon": float(quantiles.empirical_process_lil_bound(n, alpha, 1.0, 0.85))}


def confseq_mixture(rate, r, yes, no):
    """With v_opt such that confseq's prior has the size r: Beta(r/(1-rate), r/rate) of the rate."""
    alpha_opt = 0.05
    spread = float(2 * log(1 / mpf(alpha_opt)) + log(1 + 2 * log(1 / mpf(alpha_opt))))
    v_opt = (r + rate * (1 - rate)) * spread
    n = yes + no
    s, v = yes - n * rate, n * rate * (1 - rate)
    return float(boundaries.beta_binomial_log_mixture(s, v, v_opt, rate, 1 - rate, alpha_opt, False))


def beta_mixture():
    for rate in [0.001, 0.01, 0.1, 0.4]:
        for r in [0.002, 0.05, 1.0]:
            for yes, no in [(0, 10), (1, 99), (7, 500), (40, 60), (1000, 9000)]:
                e = confseq_mixture(rate, r, yes, no)
                yield {"rate": rate, "a": r / (1 - rate), "b": r / rate, "yes": yes, "no": no, "log_e": e}


def sign_test():
    for x, y in [(1, 0), (0, 5), (3, 3), (12, 2), (2, 12), (60, 30), (500, 480), (5000, 4000)]:
        yield {"candidate_only": x, "other_only": y, "log_e": confseq_mixture(0.5, 0.25, x, y)}


def certificate():
    half = mpf(1) / 2

    def log_e(rate, n, x):
        likelihood = rate**x * (1 - rate) ** (n - x)  # 0**0 is 1
        return log(beta(half + x, half + n - x) / beta(half, half)) - log(likelihood)

    cases = [("0.05", 116, 0), ("0.01", 679, 0), ("0.01", 680, 0), ("0.001", 8062, 0), ("0.02", 1000, 7)]
    cases += [("0.02", 1000, 45), ("0.001", 100000, 60), ("0.001", 100000, 160), ("0.3", 20, 19), ("0.5", 1, 1)]
    for rate, n, x in cases:
        p = mpf(float(rate))
        below = log_e(max(p, mpf(x) / n), n, x)
        above = log_e(min(p, mpf(x) / n), n, x)
        yield {"max_rate": float(rate), "n": n, "x": x, "log_e_below": float(below), "log_e_above": float(above)}


HISTORIES = [
    [(1, 0, "0.1")],
    [(3, 40, "0.1")],
    [(30, 40, "0.1"), (55, 60, "0.5")],
    [(0, 25, "0.01"), (4, 30, "0.1"), (70, 81, "0.5"), (9, 3, "0.75")],
    [(2000, 17000, "0.1")],
]


def rate_ratio():
    for side in ["harm", "safe"]:
        for null in [1.0, 1.5, 2.0]:
            for history in HISTORIES:
                products = []
                for j in range(12):
                    factor = mpf("1.1") * (mpf(10) / mpf("1.1")) ** (mpf(j) / 11)
                    ratio = null * factor if side == "harm" else null / factor
                    product = mpf(1)
                    for x, y, q in history:
                        q = mpf(float(q))
                        theta = lambda r: q * r / (q * r + 1 - q)
                        product *= (theta(ratio) / theta(null)) ** x * ((1 - theta(ratio)) / (1 - theta(null))) ** y
                    products.append(product)
                events = [[x, y, float(q)] for x, y, q in history]
                yield {"side": side, "null": null, "events": events, "log_e": float(log(sum(products) / 12))}


def ratio_interval():
    def log_likelihood(u, history):
        total = mpf(0)
        for x, y, q in history:
            q = mpf(float(q))
            theta = q * exp(u) / (q * exp(u) + 1 - q)
            total += x * log(theta) + y * log(1 - theta)
        return total

    places = [log(mpf(100)) * (2 * mpf(j) / 400 - 1) for j in range(401)]
    weights = [1 / (1 + u * u) for u in places]
    for alpha in ["0.05", "0.01"]:
        for history in HISTORIES[1:]:
            mixture = sum(w * exp(log_likelihood(u, history)) for u, w in zip(places, weights)) / sum(weights)
            line = log(mixture) + log(mpf(alpha))
            slope = lambda u: sum(
                x - (x + y) * mpf(float(q)) * exp(u) / (mpf(float(q)) * exp(u) + 1 - mpf(float(q))) for x, y, q in history
            )
            best = findroot(slope, (mpf(-12), mpf(12)), solver="anderson", tol=1e-30)
            excess = lambda u: log_likelihood(u, history) - line
            low = findroot(excess, (mpf(-12), best), solver="anderson", tol=1e-25)
            high = findroot(excess, (best, mpf(12)), solver="anderson", tol=1e-25)
            events = [[x, y, float(q)] for x, y, q in history]
            values = {"estimate": float(exp(best)), "low": float(exp(low)), "high": float(exp(high))}
            yield {"alpha": float(alpha), "events": events} | values


parts = [quantile_epsilon, beta_mixture, sign_test, certificate, rate_ratio, ratio_interval]
lines = []
for part in parts:
    rows = ",\n".join("  " + json.dumps(row) for row in part())
    lines.append(f'"{part.__name__}": [\n{rows}\n]')
Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
