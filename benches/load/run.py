#!/usr/bin/env python3
"""The benchmark of the whole: floor, engine, headgate and other servers, by turns on this machine.

    python3 benches/load/run.py                         everything; writes benches/results/<date>-<machine>-load.md
    python3 benches/load/run.py --quick --peers none    a short try of every row of our own, into a temporary folder
    python3 benches/load/run.py --rows identity_json_16,overload

Needs Python 3.11, the Rust toolchain, and nothing else. Everything listens on loopback, and every server is ended.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import bench as core  # noqa: E402
import report  # noqa: E402
import rows_speed  # noqa: E402, F401
import rows_log  # noqa: E402, F401
import rows_pressure  # noqa: E402, F401
import rows_peers  # noqa: E402


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="names, or beginnings of names, of the rows to measure")
    parser.add_argument("--list", action="store_true", help="say which rows there are")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of each run")
    parser.add_argument("--overload-seconds", type=float, default=20)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--lazy-models", type=int, default=1000)
    parser.add_argument("--peers", choices=["none", "all"], default="all")
    parser.add_argument("--peer-environments", type=pathlib.Path, default=rows_peers.peers.default_environments())
    parser.add_argument("--quick", action="store_true", help="one short round of everything; its figures say nothing")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the report [benches/results]")
    parser.add_argument("--name", help="of the report, without .md")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds, given.overload_seconds, given.swaps, given.lazy_models = 1, 0.6, 3, 20, 50
        given.out = given.out or pathlib.Path(tempfile.mkdtemp(prefix="headgate-bench-quick-"))
    given.out = given.out or core.ROOT / "benches" / "results"
    return given


def build():
    """Builds with the release profile and says where cargo put the two programs."""
    command = ["cargo", "build", "--release", "--locked", "--bin", "headgate", "--bench", "load", "--message-format", "json"]
    done = subprocess.run(command, cwd=core.ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("run.py: the build failed")
    found = {}
    for line in done.stdout.splitlines():
        built = json.loads(line)
        if built.get("reason") == "compiler-artifact" and built.get("executable"):
            found[built["target"]["name"]] = built["executable"]
    return {name: found[name] for name in ("headgate", "load")}


def chosen(given):
    if not given.rows:
        return core.ROWS
    wanted = given.rows.split(",")
    rows = {name: run for name, run in core.ROWS.items() if any(name.startswith(each) for each in wanted)}
    if not rows:
        sys.exit(f"run.py: no row begins with {given.rows}; there are {', '.join(core.ROWS)}")
    return rows


def main():
    given = options()
    if given.list:
        print("\n".join(core.ROWS))
        return
    # Ended from outside, it still ends its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = chosen(given)
    tools = build()
    date = datetime.date.today().isoformat()
    short = re.sub(r"[^a-z0-9]+", "-", report.machine().lower()).strip("-").removesuffix("-processor")
    about = {
        "date": date,
        "name": given.name or f"{date}-{os.cpu_count()}-core-{short}-load",
        "command": shlex.join(["python3", *sys.argv]),
        "folder": given.out,
        "root": core.ROOT,
        "load": " ".join(f"{each:.2f}" for each in os.getloadavg()),
    }
    results = []
    with core.Bench(given, tools) as bench:
        for number, (name, run) in enumerate(rows.items()):
            print(f"[{number + 1}/{len(rows)}] {name} ...", flush=True)
            result = run(bench)
            said = f"not measured: {result.reason}" if result.reason else f"{result.measured}  {report.verdict(result)}"
            print(f"    {said}", flush=True)
            results.append((result, run.group))
            # What was measured is kept, also when a later row is broken off.
            report.write(bench, results, about)
    path = report.write(bench, results, about)
    left_out = sum(1 for result, _ in results if result.reason)
    print(f"{path}: {len(results) - left_out} rows measured, {left_out} not")


if __name__ == "__main__":
    main()
