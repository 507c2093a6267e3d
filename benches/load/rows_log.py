"""Rows about the prediction log: what it costs the callers of a server that writes every prediction down."""

import re

from bench import judge_failures, median, ratios, row, rps, spread

# Requests a second, where the server without a log can do as many and some more; else this share of its peak.
RATE = 20_000
MOST_OF_PEAK = 0.8
MANY = 16


def rows_by_outcome(server):
    """Of all models: {outcome: rows}."""
    found = {}
    for outcome, count in re.findall(r'headgate_log_rows_total{[^}]*outcome="(\w+)"} (\d+)', server.get("/metrics", "admin")):
        found[outcome] = found.get(outcome, 0) + int(count)
    return found


def dropped(server):
    rows = rows_by_outcome(server)
    return rows.get("dropped_ring", 0) + rows.get("dropped_disk", 0)


def both(bench, name):
    """A server without a log, and one that logs everything."""
    return bench.headgate_with(name), bench.headgate_with(name, flags=("--data-dir", bench.folder()))


@row("log_open", "Identity over JSON, open loop, every prediction logged against no log", "requests/s ≥ 0.93, p99 ≤ 1.1 × without, 0 drops", "log")
def log_open(bench, result):
    model = bench.models["identity"]
    without, logging = both(bench, "identity")
    bench.ask(logging, model, "json")
    peak = bench.closed(without, model, "json", MANY)
    bench.keep("without, closed, 16", 1, peak)
    rate = min(RATE, MOST_OF_PEAK * peak["rps"])
    seconds = bench.options.seconds
    figures = bench.interleave(
        {
            "without": lambda: bench.open(without, model, "json", rate, seconds),
            "logging": lambda: bench.open(logging, model, "json", rate, seconds),
        }
    )
    share = ratios(rps(figures["logging"]), rps(figures["without"]))
    p99 = {subject: [each["latency_us"]["p99"] for each in runs] for subject, runs in figures.items()}
    longer = ratios(p99["logging"], p99["without"])
    lost = dropped(logging)
    result.measured = (
        f"at {rate:,.0f} requests/s {spread(share)} of the requests/s, p99 {spread(longer)} ×: "
        f"{median(p99['logging']):,.0f} against {median(p99['without']):,.0f} µs; {lost} rows dropped"
    )
    result.met = median(share) >= 0.93 and median(longer) <= 1.1 and lost == 0
    result.bars.append((f"logging / without, open loop at {rate:,.0f}/s", median(share), 0.93))
    result.notes.append(f"Peak without a log, 16 connections: {peak['rps']:,.0f} requests/s. Rows: {rows_by_outcome(logging)}.")
    for runs in figures.values():
        judge_failures(result, runs)


@row("log_closed", "Identity over JSON, 16 connections, every prediction logged against no log", "requests/s ≥ 0.80 of without", "log")
def log_closed(bench, result):
    model = bench.models["identity"]
    without, logging = both(bench, "identity")
    bench.ask(logging, model, "json")
    asked = rows_by_outcome(logging)
    figures = bench.interleave(
        {
            "without": lambda: bench.closed(without, model, "json", MANY),
            "logging": lambda: bench.closed(logging, model, "json", MANY),
        }
    )
    share = ratios(rps(figures["logging"]), rps(figures["without"]))
    rows = rows_by_outcome(logging)
    result.measured = (
        f"{spread(share)}: {median(rps(figures['logging'])):,.0f} against {median(rps(figures['without'])):,.0f} requests/s; "
        f"{dropped(logging)} rows dropped"
    )
    result.met = median(share) >= 0.80
    result.bars.append(("logging / without, 16 connections", median(share), 0.80))
    result.notes.append(f"Rows: {rows}, after {asked} before the load.")
    judge_failures(result, figures["logging"])
