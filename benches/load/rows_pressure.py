"""Rows about pressure: overload, neighbours, versions that change, and many models."""

import contextlib
import json
import shutil
import threading
import time
import urllib.error

from bench import judge_failures, median, ratios, row, rps, spread

# ---- overload ----

# What a request may wait for its run, as model.yaml says below.
QUEUE_TARGET_MS = 100
QUEUE_POLICY = f"""dynamic_batching:
  default_queue_policy: {{default_timeout_microseconds: {QUEUE_TARGET_MS * 1000}, timeout_action: REJECT}}
"""
# So that requests wait in the server's queue, not for a connection.
OVERLOAD_CONNECTIONS = 1024
WINDOW_MS = 100
# What the probe sends, in requests a second: enough for a median of each window, a trifle for the server.
PROBE_RATE = 50
# So many windows in a row must be as before.
CALM_WINDOWS = 3


def overload(bench, result, settings):
    """Finds the peak, then sends ten times as much, with a light probe before, during and after."""
    model = bench.models["matmul"]
    server = bench.headgate_with("matmul", settings=settings)
    bench.ask(server, model, "binary")
    seconds = bench.options.overload_seconds
    closed = bench.interleave(
        {f"closed, {count}": lambda count=count: bench.closed(server, model, "binary", count) for count in (8, 16, 32)}
    )
    peak = max(median(rps(figures)) for figures in closed.values())
    unloaded = bench.open(server, model, "binary", 0.2 * peak, bench.options.seconds * 2)
    bench.keep("open, 20 % of the peak", 1, unloaded)

    probe = Background(lambda: probe_run(bench, server, model, seconds))
    time.sleep(2)
    loaded = bench.open(server, model, "binary", 10 * peak, seconds, "--warmup", 1, connections=OVERLOAD_CONNECTIONS)
    bench.keep("open, 10 × the peak", 1, loaded)
    probed = probe.result()

    unloaded_p99_ms = unloaded["latency_us"]["p99"] / 1000
    accepted = loaded["latency_us"] or {"p99": float("inf")}
    refused = loaded["refused_latency_us"] or {"p99": float("inf")}
    accepted_ms, refused_ms = accepted["p99"] / 1000, refused["p99"] / 1000
    goodput = loaded["rps"] / peak
    recovery_s = recovery(probed, loaded["from_unix_s"] + seconds, 2 * unloaded["latency_us"]["p50"])
    limit_ms = 2 * unloaded_p99_ms + QUEUE_TARGET_MS
    result.measured = (
        f"peak {peak:,.0f}/s; at 10 × goodput {goodput:.2f} of it, accepted p99 {accepted_ms:.1f} ms (limit {limit_ms:.1f}), "
        f"refused p99 {refused_ms:.2f} ms, recovered after {'never' if recovery_s is None else f'{recovery_s:.1f} s'}"
    )
    calm = recovery_s is not None and recovery_s < 2
    result.met = goodput >= 0.9 and accepted_ms <= limit_ms and refused_ms < 5 and calm
    result.bars.append((f"goodput at 10 × / peak ({result.name})", goodput, 0.9))
    result.notes.append(
        f"Of {loaded['due']:,} requests that were due {loaded['ok']:,} were answered, {loaded['refused']:,} refused, "
        f"{loaded['failed']:,} failed and {loaded['overflow']:,} never sent, because 10,000 waited for a connection. "
        f"Unloaded p99 {unloaded_p99_ms:.1f} ms. Failures: {loaded['errors'] or 'none'}."
    )
    # An accepted request that ran out of time is told so with 504; anything else should not happen.
    if any(not text.startswith("504") for text in loaded["errors"]):
        result.met = False


def probe_run(bench, server, model, seconds):
    words = ["--window-ms", WINDOW_MS, "--arrivals", "even", "--warmup", 0]
    return bench.open(server, model, "binary", PROBE_RATE, seconds + 10, *words, connections=8)


def recovery(probed, ended_unix_s, limit_us):
    """Seconds from the end of the overload to the first of a few windows whose median is under the limit."""
    windows = probed["windows"]
    first = max(0, int((ended_unix_s - probed["from_unix_s"]) * 1000 / WINDOW_MS))
    for at in range(first, len(windows) - CALM_WINDOWS + 1):
        few = windows[at : at + CALM_WINDOWS]
        if all(each["p50_us"] and each["p50_us"] <= limit_us and not each["refused"] and not each["failed"] for each in few):
            began = probed["from_unix_s"] + at * WINDOW_MS / 1000
            return max(0.0, began - ended_unix_s)
    return None


class Background:
    """Something that runs beside."""

    def __init__(self, function):
        self.got = self.fault = None
        self.thread = threading.Thread(target=self.run, args=(function,), daemon=True)
        self.thread.start()

    def run(self, function):
        try:
            self.got = function()
        except Exception as fault:  # raised again where the result is wanted
            self.fault = fault

    def result(self):
        self.thread.join()
        if self.fault:
            raise self.fault
        return self.got


OVERLOAD_GOAL = "goodput ≥ 0.90 of the peak, accepted p99 ≤ 2 × unloaded + queue target, refused p99 < 5 ms, recovery < 2 s"


@row("overload", "slow_matmul24 without batching on one core, a few hundred a second, open loop at 10 × the peak", OVERLOAD_GOAL, "pressure")
def overload_unbatched(bench, result):
    overload(bench, result, "max_batch_size: 1\nworkers: {max: 1}\n" + QUEUE_POLICY)


@row("overload_batched", "The same with batching as it is by default", OVERLOAD_GOAL, "pressure")
def overload_batched(bench, result):
    overload(bench, result, QUEUE_POLICY)


# ---- neighbours ----


@row("neighbour", "iris at 20 % load, beside slow_matmul24 on 1 worker", "p50 ≤ 1.2 × alone", "pressure")
def neighbour(bench, result):
    fast, slow = bench.models["iris"], bench.models["matmul"]
    repository = bench.repository({"iris": (fast, ""), "matmul": (slow, "workers: {max: 1}\n")})
    server = bench.headgate(repository)
    bench.ask(server, fast, "json")
    bench.ask(server, slow, "binary")
    peak = bench.closed(server, fast, "json", 16)
    bench.keep("iris, closed, 16", 1, peak)
    seconds = bench.options.seconds

    def alone():
        return bench.open(server, fast, "json", 0.2 * peak["rps"], seconds)

    def beside():
        busy = Background(lambda: bench.closed(server, slow, "binary", 4, seconds + 2))
        time.sleep(1)
        got = bench.open(server, fast, "json", 0.2 * peak["rps"], seconds)
        bench.keep("matmul, closed, 4", 1, busy.result())
        return got

    figures = bench.interleave({"iris alone": alone, "iris beside matmul": beside})
    own, other = ([each["latency_us"]["p50"] for each in runs] for runs in figures.values())
    share = ratios(other, own)
    result.measured = f"p50 {spread(share)} × alone: {median(other):,.0f} against {median(own):,.0f} µs"
    result.met = median(share) <= 1.2
    result.bars.append(("iris, p50 alone / beside a slow model", 1 / median(share), 1 / 1.2))
    for runs in figures.values():
        judge_failures(result, runs)


# ---- versions that change ----

SWAP_SECONDS = 0.1


@row("swaps", "A new version every 100 ms under load", "0 failed; p99 ≤ 1.5 × steady", "pressure")
def swaps(bench, result):
    model = bench.models["digits"]
    repository = bench.repository({"digits": (model, "")})
    server = bench.headgate(repository, "--poll-interval", "50ms")
    bench.ask(server, model, "json")
    peak = bench.closed(server, model, "json", 16)
    bench.keep("closed, 16", 1, peak)
    # Half of what it can do: a tail at the limit says nothing about swaps.
    rate, count = 0.5 * peak["rps"], bench.options.swaps
    seconds = count * SWAP_SECONDS

    def load(length):
        return bench.open(server, model, "json", rate, length)

    steady = [load(min(seconds, 20))]
    swapping = Background(lambda: load(seconds))
    time.sleep(0.5)
    for version in range(2, count + 2):
        begun = time.monotonic()
        bench.add_version(repository, "digits", model, version)
        if version > 3:
            shutil.rmtree(repository / "digits" / str(version - 2))
        time.sleep(max(0, SWAP_SECONDS - (time.monotonic() - begun)))
    swapped = swapping.result()
    served = wait_for_version(server, "digits", count + 1)
    steady.append(load(min(seconds, 20)))
    for number, figures in enumerate(steady):
        bench.keep("steady, open, 50 %", number + 1, figures)
    bench.keep("swaps, open, 50 %", 1, swapped)

    before = median([each["latency_us"]["p99"] for each in steady])
    share = swapped["latency_us"]["p99"] / before
    result.measured = (
        f"{count} swaps, {swapped['versions']} versions answered, {swapped['requests']:,} requests, {swapped['failed']} failed, "
        f"{swapped['refused']} refused; p99 {share:.2f} × steady: {swapped['latency_us']['p99']:,.0f} against {before:,.0f} µs"
    )
    result.met = share <= 1.5 and served
    result.bars.append(("swaps, p99 steady / during", 1 / share, 1 / 1.5))
    judge_failures(result, [swapped])
    if not served:
        result.notes.append(f"Version {count + 1} did not come to serve.")


def wait_for_version(server, name, version, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(urllib.error.URLError, OSError):
            if str(version) in json.loads(server.get(f"/v2/models/{name}"))["versions"]:
                return True
        time.sleep(0.1)
    return False


# ---- many models ----

MANY_MODELS = 1000
CALLERS = 100


@row("lazy", "1,000 lazy models, 100 simultaneous calls to one", "one load; health and /metrics answer throughout", "pressure")
def lazy(bench, result):
    model = bench.models["iris"]
    count = min(MANY_MODELS, bench.options.lazy_models)
    few = resident(bench, model, 1)
    names = [f"m{number}" for number in range(count)]
    repository = bench.repository({name: (model, "load: lazy\n") for name in names})
    begun = time.monotonic()
    server = bench.headgate(repository)
    ready_s = time.monotonic() - begun
    server.wait_until_idle(60)
    resident_bytes = server.resident_bytes()
    loads = series(server, names[-1])

    watch = Watch(server)
    asked = model.__class__(names[-1], model.file, model.case, model.tolerance, model.inputs, model.outputs)
    figures = bench.tool(
        "closed", *bench.target(server, asked, "json"), "--connections", CALLERS, "--seconds", 1, "--warmup", 0, seconds=1
    )
    slowest_ms, refused = watch.end()
    bench.keep(f"closed, {CALLERS}, the first calls of a model", 1, figures)
    after = series(server, names[-1])
    first_ms = figures["latency_us"]["max"] / 1000 if figures["latency_us"] else float("nan")
    result.measured = (
        f"{count} models: {(resident_bytes - few) / max(1, count - 1) / 1024:,.1f} KiB an idle model, ready after {ready_s:.1f} s; "
        f"{figures['failed'] + figures['refused']} of {figures['requests']:,} calls failed, the slowest took {first_ms:,.0f} ms; "
        f"health and /metrics: slowest {slowest_ms:.0f} ms, {refused} not answered"
    )
    grew = {name: value - loads.get(name, 0) for name, value in after.items() if value != loads.get(name, 0)}
    result.notes.append(f"Series about loads and cold starts that changed: {grew or 'none'}.")
    result.met = None if figures["failed"] == 0 and refused == 0 else False
    result.notes.append("That it was one load is held by the integration tests; here the series above tell.")
    judge_failures(result, [figures])


def resident(bench, model, count):
    """Memory of a server with so many lazy models, which ends right after."""
    server = bench.headgate(bench.repository({f"m{number}": (model, "load: lazy\n") for number in range(count)}))
    resident_bytes = server.resident_bytes()
    server.end()
    return resident_bytes


def series(server, model):
    """The process's counters about loads, and those of this model."""
    found = {}
    for line in server.get("/metrics", "admin").splitlines():
        name, _, value = line.rpartition(" ")
        of_loads = any(word in name for word in ("load", "cold"))
        if of_loads and not line.startswith("#") and ("model=" not in name or f'"{model}"' in name):
            with contextlib.suppress(ValueError):
                found[name] = float(value)
    return found


class Watch:
    """Asks for health and metrics all the time."""

    def __init__(self, server):
        self.server, self.stop = server, threading.Event()
        self.slowest_s, self.refused = 0.0, 0
        self.running = Background(self.run)

    def run(self):
        while not self.stop.is_set():
            for path, port in (("/v2/health/live", "http"), ("/v2/health/ready", "http"), ("/metrics", "admin")):
                begun = time.monotonic()
                try:
                    self.server.get(path, port)
                except (urllib.error.URLError, OSError):
                    self.refused += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
            time.sleep(0.02)

    def end(self):
        self.stop.set()
        self.running.result()
        return self.slowest_s * 1000, self.refused
