"""Rows about speed: against the floor, against the engine, and both together."""

import re
import shutil
import subprocess

from bench import cpu_us, judge_failures, median, ratios, row, rps, spread

FEW, MANY = 1, 16


def against_floor(bench, result, name, protocol, connections, *floor_flags):
    """headgate and the floor by turns; gives the figures of both."""
    model = bench.models[name]
    server = bench.headgate_with(name)
    floor = bench.floor(server, model, protocol, *floor_flags)
    figures = bench.interleave(
        {
            "floor": lambda: bench.closed(floor, model, protocol, connections),
            "headgate": lambda: bench.closed(server, model, protocol, connections),
        }
    )
    spent = {subject: median([cpu_us(each) for each in runs]) for subject, runs in figures.items()}
    generator = median([each["generator_cpu_s"] / each["seconds"] for each in figures["floor"]])
    result.notes.append(
        f"Server's processor time a request: headgate {spent['headgate']:.1f} µs, floor {spent['floor']:.1f} µs. "
        f"The generator took {generator:.2f} of a core against the floor."
    )
    return figures


def share_of_floor(bench, result, name, protocol, goal, *floor_flags):
    figures = against_floor(bench, result, name, protocol, MANY, *floor_flags)
    share = ratios(rps(figures["headgate"]), rps(figures["floor"]))
    result.measured = f"{spread(share)} of the floor: {median(rps(figures['headgate'])):,.0f} against {median(rps(figures['floor'])):,.0f} requests/s"
    result.met = median(share) >= goal
    result.bars.append((f"{name} {protocol}, {MANY} connections / floor", median(share), goal))
    judge_failures(result, figures["headgate"])


def added_latency(bench, result, name, protocol, goal_us):
    figures = against_floor(bench, result, name, protocol, FEW)
    own, floor = ([each["latency_us"]["p50"] for each in figures[subject]] for subject in ("headgate", "floor"))
    added = [a - b for a, b in zip(own, floor)]
    result.measured = f"p50 + {spread(added)} µs: {median(own):.1f} against {median(floor):.1f} µs"
    result.met = median(added) <= goal_us
    share = median(ratios(floor, own))
    result.bars.append((f"{name} {protocol}, p50 of the floor / headgate, 1 connection", share, None))
    judge_failures(result, figures["headgate"])


@row("identity_json_16", "Identity, HTTP JSON, 16 connections", "≥ 0.80 of the floor's requests/s", "floor")
def identity_json(bench, result):
    share_of_floor(bench, result, "identity", "json", 0.80)


@row("identity_grpc_16", "Identity, gRPC, 16 connections", "≥ 0.80 of the floor's requests/s", "floor")
def identity_grpc(bench, result):
    share_of_floor(bench, result, "identity", "grpc", 0.80)


@row("identity_json_1", "Identity, HTTP JSON, 1 connection", "p50 added ≤ 15 µs", "floor")
def identity_json_one(bench, result):
    added_latency(bench, result, "identity", "json", 15)


@row("identity_grpc_1", "Identity, gRPC, 1 connection", "p50 added ≤ 15 µs", "floor")
def identity_grpc_one(bench, result):
    added_latency(bench, result, "identity", "grpc", 15)


@row("image_json", "3×64×64 image as JSON into its average, 16 connections", "≥ 0.5 of the floor that only reads", "floor")
def image_json(bench, result):
    share_of_floor(bench, result, "average", "json", 0.5, "--drop-bodies")


# ---- what floor and engine allow together ----


def allowed(bench, floor_rps, cpu_us_per_row):
    """Requests a second where each costs what it costs the floor and, on one of the cores, the engine."""
    return 1 / (1 / floor_rps + cpu_us_per_row / 1e6 / bench.cores)


def share_of_allowed(bench, result, name, protocol, goal):
    model = bench.models[name]
    server = bench.headgate_with(name)
    floor = bench.floor(server, model, protocol)
    figures = bench.interleave(
        {
            "floor": lambda: bench.closed(floor, model, protocol, MANY),
            "engine": lambda: bench.engine(model),
            "headgate": lambda: bench.closed(server, model, protocol, MANY),
        }
    )
    own = rps(figures["headgate"])
    one, best = [], []
    for floor_rps, sizes in zip(rps(figures["floor"]), figures["engine"]):
        one.append(allowed(bench, floor_rps, sizes[1]["cpu_us_per_row"]))
        best.append(allowed(bench, floor_rps, min(size["cpu_us_per_row"] for size in sizes.values())))
    share, of_best = ratios(own, one), ratios(own, best)
    result.measured = f"{spread(share)} of {median(one):,.0f} requests/s: {median(own):,.0f}"
    result.met = median(share) >= goal
    result.notes.append(
        f"Engine: {median([sizes[1]['cpu_us_per_row'] for sizes in figures['engine']]):.1f} µs of processor time a row at batch 1, "
        f"which the goal counts with; of what its best batch size would allow it is {median(of_best):.3g}. "
        f"Floor: {median(rps(figures['floor'])):,.0f} requests/s."
    )
    result.bars.append((f"{name} {protocol}, {MANY} connections / floor and engine", median(share), goal))
    judge_failures(result, figures["headgate"])


@row("iris_json", "iris, HTTP JSON, 16 connections", "≥ 0.85 of what floor and engine allow", "engine")
def iris_json(bench, result):
    share_of_allowed(bench, result, "iris", "json", 0.85)


@row("iris_grpc", "iris, gRPC, 16 connections", "≥ 0.85 of what floor and engine allow", "engine")
def iris_grpc(bench, result):
    share_of_allowed(bench, result, "iris", "grpc", 0.85)


@row("forest_json", "wine_rf500, HTTP JSON, 16 connections", "≥ 0.85 of what floor and engine allow", "engine")
def forest_json(bench, result):
    share_of_allowed(bench, result, "forest", "json", 0.85)


@row("forest_grpc", "wine_rf500, gRPC, 16 connections", "≥ 0.85 of what floor and engine allow", "engine")
def forest_grpc(bench, result):
    share_of_allowed(bench, result, "forest", "grpc", 0.85)


@row("matmul", "slow_matmul24, HTTP binary, 16 connections", "≥ 0.95 of the engine at its best batch size", "engine")
def matmul(bench, result):
    model = bench.models["matmul"]
    server = bench.headgate_with("matmul")
    bench.ask(server, model, "binary")
    # Batches no larger than the load can fill.
    figures = bench.interleave(
        {
            "engine": lambda: bench.engine(model, batches="1,2,4,8,16"),
            "headgate": lambda: bench.closed(server, model, "binary", MANY),
        }
    )
    best = [max(size["rows_per_s"] for size in sizes.values()) for sizes in figures["engine"]]
    at = max(figures["engine"][0].values(), key=lambda size: size["rows_per_s"])["batch"]
    own = rps(figures["headgate"])
    share = ratios(own, best)
    result.measured = f"{spread(share)} of the engine: {median(own):,.0f} against {median(best):,.0f} rows/s at batch {at}"
    result.met = median(share) >= 0.95
    result.bars.append(("matmul binary, 16 connections / engine", median(share), 0.95))
    result.notes.append("The engine's loop has both cores; headgate shares them with the network and the generator.")
    judge_failures(result, figures["headgate"])


@row("matmul_tail", "slow_matmul24, HTTP binary, 2 connections", "p99 ≤ 2 × (run time + delay)", "engine")
def matmul_tail(bench, result):
    model = bench.models["matmul"]
    server = bench.headgate_with("matmul")
    bench.ask(server, model, "binary")
    figures = bench.interleave(
        {
            "engine": lambda: bench.engine(model, batches="1,2"),
            "headgate": lambda: bench.closed(server, model, "binary", 2),
        }
    )
    run = [sizes[1]["run_p50_us"] for sizes in figures["engine"]]
    engine_p99 = [sizes[1]["run_p99_us"] for sizes in figures["engine"]]
    tail = [each["latency_us"]["p99"] for each in figures["headgate"]]
    share = ratios(tail, run)
    result.measured = f"p99 is {spread(share)} × the run time: {median(tail):,.0f} against {median(run):,.0f} µs; no delay is configured"
    result.met = median(share) <= 2
    result.notes.append(f"The engine's own p99 beside itself, without a server, is {median(engine_p99):,.0f} µs.")
    judge_failures(result, figures["headgate"])


# ---- all the work ----

WORK = [
    ("identity", "json"),
    ("iris", "json"),
    ("digits", "json"),
    ("forest", "json"),
    ("codelang", "json"),
    ("mobilenet", "binary"),
    ("matmul", "binary"),
]


def work(name, protocol):
    def all_connections(bench, result):
        model = bench.models[name]
        server = bench.headgate_with(name)
        floor = bench.floor(server, model, protocol)
        cpu_us_per_row = bench.engine(model, batches="1")[1]["cpu_us_per_row"]
        parts = []
        for connections in (1, 16, 64):
            figures = bench.interleave(
                {
                    f"floor, {connections}": lambda: bench.closed(floor, model, protocol, connections),
                    f"headgate, {connections}": lambda: bench.closed(server, model, protocol, connections),
                }
            )
            floor_runs, own = figures.values()
            limits = [allowed(bench, floor_rps, cpu_us_per_row) for floor_rps in rps(floor_runs)]
            of_floor, of_limit = median(ratios(rps(own), rps(floor_runs))), median(ratios(rps(own), limits))
            p50, p99 = (median([each["latency_us"][key] for each in own]) for key in ("p50", "p99"))
            parts.append(
                f"{connections}: {median(rps(own)):,.0f}/s, p50 {p50:,.0f} µs, p99 {p99:,.0f} µs, {of_floor:.2f} of the floor"
                + (f", {of_limit:.2f} of floor and engine" if connections > 1 else "")
            )
            result.bars.append((f"{name} {protocol}, {connections} / floor", of_floor, None))
            judge_failures(result, own)
        result.measured = "; ".join(parts)

    return all_connections


for name, protocol in WORK:
    row(f"work_{name}", f"{name}, {protocol}, 1, 16 and 64 connections", group="work")(work(name, protocol))

MIX = ["iris", "forest", "digits", "digits_pca", "cancer_mlp", "diabetes_gbdt", "digits_kmeans", "iris_gnb", "addsub", "codelang_small"]


@row("mix", "Ten models in turn, HTTP JSON, 16 connections", group="work")
def mix(bench, result):
    server = bench.headgate_with(*MIX)
    cases = [bench.models[name] for name in MIX]
    floor = bench.floor(server, bench.models["iris"], "json")
    cpu_us_per_row = sum(bench.engine(model, batches="1")[1]["cpu_us_per_row"] for model in cases) / len(cases)
    bench.ask(server, cases, "json")
    figures = bench.interleave(
        {
            "floor": lambda: bench.closed(floor, cases, "json", MANY),
            "headgate": lambda: bench.closed(server, cases, "json", MANY),
        }
    )
    own, floor_rps = rps(figures["headgate"]), rps(figures["floor"])
    share = ratios(own, [allowed(bench, each, cpu_us_per_row) for each in floor_rps])
    p99 = median([each["latency_us"]["p99"] for each in figures["headgate"]])
    result.measured = f"{median(own):,.0f} requests/s, p99 {p99:,.0f} µs; {spread(share)} of what floor and engine allow"
    result.bars.append(("ten models in turn / floor and engine", median(share), None))
    judge_failures(result, figures["headgate"])


# ---- the generator itself ----


@row("generator", "The generator against the floor: is it the limit?", group="work")
def generator(bench, result):
    model = bench.models["identity"]
    server = bench.headgate_with("identity")
    parts = []
    for protocol in ("json", "grpc"):
        floor = bench.floor(server, model, protocol)
        request = bench.folder() / "request"
        bench.ask(floor, model, protocol, "--save-request", request)
        for connections in (1, 16, 64):
            others = []
            subjects = {f"floor {protocol}, {connections}": lambda: bench.closed(floor, model, protocol, connections)}
            if shutil.which("h2load"):
                subjects["h2load"] = lambda: others.append(h2load(bench, floor, protocol, request, connections)) or {}
            runs = bench.interleave(subjects)[f"floor {protocol}, {connections}"]
            share = median([each["generator_cpu_s"] / each["seconds"] for each in runs])
            beside = f" (h2load {median(others):,.0f}/s)" if others else ""
            parts.append(f"{protocol} {connections}: {median(rps(runs)):,.0f}/s{beside} with {share:.2f} of a core")
    result.measured = "; ".join(parts)


def h2load(bench, floor, protocol, request, connections):
    """Requests a second of another generator, with the same body."""
    body = bench.folder() / "body"
    body.write_bytes(request.read_bytes().split(b"\r\n\r\n", 1)[1] if protocol == "json" else request.read_bytes())
    kind = ["--h1", "-H", "content-type: application/json"]
    path = "/v2/models/identity/infer"
    if protocol == "grpc":
        kind, path = ["-H", "content-type: application/grpc", "-H", "te: trailers"], "/inference.GRPCInferenceService/ModelInfer"
    seconds = max(1, round(bench.options.seconds))
    command = ["h2load", "-c", connections, "-t", 1, "-m", 1, "-D", seconds, "-d", body, *kind, f"http://{floor.address(protocol)}{path}"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds + 30)
    return float(re.search(r"finished in [^,]+, ([0-9.]+) req/s", done.stdout)[1])
