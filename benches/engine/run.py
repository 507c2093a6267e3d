#!/usr/bin/env python3
"""The built-in engine, ONNX Runtime and `engine: auto` against each other, by turns in one process.

    python3 benches/engine/run.py                    everything, some fifteen minutes; writes benches/results/<date>-<machine>-engine.md
    python3 benches/engine/run.py trees memory       parts of it, on the terminal

Needs Python 3.11 and the Rust toolchain. The packages that make the models are put into an environment of their own.
"""

import datetime
import os
import pathlib
import platform
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent / "load"), str(HERE.parent / "peers")]

import peers  # noqa: E402
import report  # noqa: E402


class Maker(peers.Peer):
    """The environment that the models are made in, and whose ONNX Runtime is measured."""

    name = "engine"
    packages = ["onnxruntime==1.31.1", "numpy==2.4.6", "onnx==1.23.2", "scikit-learn==1.9.1", "skl2onnx==1.20.0"]


def main():
    parts = sys.argv[1:]
    environments = peers.default_environments()
    maker = Maker(environments)
    maker.install()
    models = environments / "engine-models"
    if not (models / "complete").exists():
        subprocess.run([maker.python, HERE / "make_models.py", models], check=True)
        (models / "complete").touch()
    load = os.getloadavg()[0]
    command = ["cargo", "bench", "--locked", "--bench", "engine", "--", str(models), *parts]
    library = maker.site_packages() / "onnxruntime" / "capi"
    environment = {**os.environ, "ORT_DYLIB_PATH": str(library), "CARGO_TERM_QUIET": "true"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    if parts:
        print(done.stdout)
        return
    today, cores = datetime.date.today(), os.cpu_count()
    path = HERE.parent / "results" / f"{today}-{cores}-core-engine.md"
    path.write_text(head(today, cores, load) + done.stdout.strip() + "\n")
    print(path)


def head(today, cores, load):
    commit = report.said("git", "rev-parse", "--short", "HEAD", cwd=ROOT)
    return f"""# {today}, engines: {cores} cores of {report.machine()}, Linux {platform.release()}

`python3 benches/engine/run.py`

Commit {commit}; {report.said("rustc", "--version")}; {", ".join(Maker.packages)}; one thread a run on either engine. Load average
before: {load:.1f}. Engines run by turns of 20 ms; a ratio is the median over the rounds of what was measured side by side, with the
smallest and the largest behind it.

"""


if __name__ == "__main__":
    main()
