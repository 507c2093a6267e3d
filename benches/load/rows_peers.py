"""Rows about other servers: the same models, the same requests, by turns on the same machine."""

import sys

from bench import ROOT, judge_failures, median, ratios, row, rps
from processes import Failed, Server, free_ports

sys.path.insert(0, str(ROOT / "benches" / "peers"))
import peers  # noqa: E402

CONNECTIONS = 16
SMALL = ["identity", "iris", "forest", "digits"]
PROTOCOLS = {"json": "HTTP JSON", "grpc": "gRPC"}


def start(bench, peer, names):
    """A started peer, or `Failed`."""
    folder = bench.folder()
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3)))
    command, environment = peer.command(folder, {name: bench.models[name] for name in names}, ports)
    server = bench.servers.enter_context(Server(peer.name, command, folder / "log", ports, environment))
    server.path = peer.path
    server.wait_until_ready(peer.ready_path)
    server.wait_until_idle(15)
    return server


def against(kind, name):
    """A model on headgate and on a peer, by turns, in every protocol that both speak."""

    def both(bench, result):
        if bench.options.peers == "none":
            raise Failed("left out with --peers none")
        peer = kind(bench.options.peer_environments)
        peer.install()
        server = start(bench, peer, [name])
        own = bench.headgate_with(name)
        model, parts, shares = bench.models[name], [], []
        for protocol in (each for each in PROTOCOLS if each in peer.protocols):
            # A wrong answer is no answer: nothing is measured then.
            bench.ask(server, model, protocol)
            bench.ask(own, model, protocol)
            figures = bench.interleave(
                {
                    f"{peer.name} {protocol}": lambda: bench.closed(server, model, protocol, CONNECTIONS),
                    f"headgate {protocol}": lambda: bench.closed(own, model, protocol, CONNECTIONS),
                }
            )
            theirs, ours = figures.values()
            share = median(ratios(rps(ours), rps(theirs)))
            shares.append(share)
            p50 = [median([each["latency_us"]["p50"] for each in runs]) for runs in (ours, theirs)]
            parts.append(
                f"{PROTOCOLS[protocol]}: {share:.1f} × ({median(rps(ours)):,.0f} against {median(rps(theirs)):,.0f} requests/s, "
                f"p50 {p50[0]:,.0f} against {p50[1]:,.0f} µs)"
            )
            result.bars.append((f"{name} {protocol} / {peer.name}", share, 1))
            result.met = min(shares) > 1
            judge_failures(result, ours)
            judge_failures(result, theirs, peer.name)
        result.measured = "; ".join(parts)
        result.notes.append(f"{peer.name} {peer.version()}: {peer.settings}.")

    def checked(bench, result):
        try:
            both(bench, result)
        except peers.Unavailable as reason:
            raise Failed(f"{kind.name} is left out: {reason}") from reason

    return checked


for kind in peers.ALL:
    for name in SMALL:
        row(f"{kind.name}_{name}", f"{name} against {kind.name}, 16 connections", "ahead", "peers")(against(kind, name))
