#!/usr/bin/env python3
"""Run unmodified clients against a running server that serves `models/`.

    pip install --no-deps -r requirements.txt
    python run.py --http 127.0.0.1:8000 --grpc 127.0.0.1:8001 [--label stable=1] [--only NAME]
    python run.py --http ... --grpc ... --explicit      the server runs with --model-control-mode explicit

Prints `ok SUITE CHECK`, `skipped SUITE CHECK: reason` or `FAILED SUITE CHECK: reason` for each check, then the counts.
Exits with 1 if any check failed.
Statistics are checked to the request, so nothing else may use the server meanwhile.
"""

import argparse
import asyncio
import importlib
import inspect
import logging
import pathlib
import subprocess
import sys

from support import Skipped, Target

# Suite name -> (modules with its checks, tritonclient flavour that the checks are given). A suite has a process of its
# own: tritonclient and kserve both register the protobuf package `inference`, and one process takes only one of them.
SUITES = {
    "tritonclient.http": (["checks_triton", "checks_triton_http"], "http"),
    "tritonclient.http.aio": (["checks_triton", "checks_triton_http"], "http.aio"),
    "tritonclient.grpc": (["checks_triton", "checks_triton_grpc"], "grpc"),
    "tritonclient.grpc.aio": (["checks_triton", "checks_triton_grpc"], "grpc.aio"),
    "kserve": (["checks_kserve"], None),
    "health": (["checks_health"], None),
    "tensorflow-serving": (["checks_tensorflow_serving"], None),
    "plain-http": (["checks_plain_http"], None),
}
EXPLICIT_SUITES = {
    f"tritonclient.{flavour}": (["checks_explicit"], flavour) for flavour in ("http", "http.aio", "grpc", "grpc.aio")
}
# Ten times what the slowest suite takes on two busy cores.
SUITE_TIMEOUT_S = 180


def main():
    arguments = parse_arguments()
    suites = EXPLICIT_SUITES if arguments.explicit else SUITES
    if arguments.suite:
        asyncio.run(run_suite(arguments.suite, *suites[arguments.suite], arguments))
        return
    lines = []
    for name in suites:
        lines += run_in_process(name)
    passed = sum(line.startswith("ok ") for line in lines)
    failed = sum(line.startswith("FAILED ") for line in lines)
    skipped = sum(line.startswith("skipped ") for line in lines)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    if passed + failed == 0:
        sys.exit(f"no check is named like '{arguments.only}'")
    sys.exit(1 if failed else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--http", required=True, metavar="HOST:PORT")
    parser.add_argument("--grpc", required=True, metavar="HOST:PORT")
    models = pathlib.Path(__file__).resolve().parents[2] / "models"
    parser.add_argument(
        "--models", type=pathlib.Path, default=models, metavar="DIR", help="the repository that is served"
    )
    parser.add_argument(
        "--label", metavar="NAME=VERSION", help="a label of digits that the server knows, and where it points"
    )
    parser.add_argument("--explicit", action="store_true", help="check repository control by clients, and only that")
    parser.add_argument("--only", default="", metavar="NAME", help="run checks with this in 'SUITE CHECK'")
    parser.add_argument("--suite", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_in_process(suite):
    """Run one suite in a process of its own; print and return its lines."""
    command = [sys.executable, "-u", __file__, *sys.argv[1:], "--suite", suite]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = process.communicate(timeout=SUITE_TIMEOUT_S)
        ending = f"the suite ended with status {process.returncode}"
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        ending = f"the suite was ended after {SUITE_TIMEOUT_S} s"
    lines = output.splitlines()
    if process.returncode != 0:
        lines.append(f"FAILED {suite}: {ending}")
    for line in lines:
        print(line, flush=True)
    if any(line.startswith("FAILED ") for line in lines):
        print(errors, end="", file=sys.stderr, flush=True)
    return lines


async def run_suite(suite, module_names, flavour, arguments):
    # The kserve client logs every error that it raises, and the checks provoke many.
    logging.disable(logging.CRITICAL)
    # kserve reads the command line of whatever program imports it, and ends the program over options it doesn't know.
    del sys.argv[1:]
    target = Target.from_arguments(arguments)
    for module_name in module_names:
        module = importlib.import_module(module_name)
        for name, check in vars(module).items():
            if name.startswith("check_") and arguments.only in f"{suite} {name}":
                print(await verdict(f"{suite} {name}", check, flavour, target), flush=True)


async def verdict(title, check, flavour, target):
    try:
        if flavour:
            from triton import Triton

            async with Triton(flavour, target) as client:
                await check(client, target)
        elif inspect.iscoroutinefunction(check):
            await check(target)
        else:
            check(target)
    except Skipped as reason:
        return f"skipped {title}: {reason}"
    # Whatever goes wrong in a check is that check's result, and the others still run.
    except Exception as error:
        reason = " ".join(str(error).split()) or "no text"
        return f"FAILED {title}: {type(error).__name__}: {reason}"
    return f"ok {title}"


if __name__ == "__main__":
    main()
