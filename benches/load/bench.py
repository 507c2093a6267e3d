"""What the rows of the benchmark are made of: servers, runs of the load tool, rounds, and the results they end in."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

import models
from processes import Failed, Server, free_ports

ROOT = models.ROOT
# What a run of the load tool may take beyond its own time.
SLACK_SECONDS = 60
BATCHES = "1,2,4,8,16,32,64"


@dataclasses.dataclass
class Result:
    """One row of the report."""

    name: str
    claim: str
    goal: str = ""
    measured: str = ""
    # None where nothing is promised.
    met: bool | None = None
    # Ratios to draw: (label, value, goal or None).
    bars: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)
    # Why there is no measurement.
    reason: str = ""


@dataclasses.dataclass
class Run:
    """One run of the load tool, as it is listed with the raw figures."""

    row: str
    subject: str
    round: int
    figures: dict


class Bench:
    """One measurement from start to end. Use it as a context manager: it ends every server that a row left."""

    def __init__(self, options, tools):
        self.options, self.tools = options, tools
        self.cores = os.cpu_count()
        self.runs = []
        self.row = ""
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        self.work = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-")))
        self.models = models.made(self.work / "made")
        for name, folder in ZOO.items():
            self.models[name] = models.from_zoo(name, folder)
        return self

    def __exit__(self, *_):
        self.stack.close()

    @contextlib.contextmanager
    def in_row(self, name):
        """A row's servers live until it ends."""
        self.row = name
        with contextlib.ExitStack() as self.servers:
            yield

    def folder(self):
        return pathlib.Path(tempfile.mkdtemp(dir=self.work))

    # ---- servers ----

    def repository(self, served):
        """A model repository. `served` is name -> (model, text of model.yaml)."""
        home = self.folder()
        for name, (model, settings) in served.items():
            self.add_version(home, name, model, 1)
            if settings:
                (home / name / "model.yaml").write_text(settings)
        return home

    def add_version(self, repository, name, model, version):
        """Puts a version in by one rename, with a manifest that says that it is whole, as a deployment should."""
        (repository / name).mkdir(exist_ok=True)
        incoming = self.folder()
        content = model.file.read_bytes()
        (incoming / "model.onnx").write_bytes(content)
        manifest = {"files": {"model.onnx": hashlib.sha256(content).hexdigest()}}
        (incoming / "manifest.json").write_text(json.dumps(manifest))
        incoming.rename(repository / name / str(version))

    def headgate(self, repository, *flags):
        """Starts it and waits until it is ready and has nothing more to do."""
        ports = dict(zip(("http", "grpc", "admin"), free_ports(3)))
        addresses = [word for kind in ports for word in (f"--{kind}-address", f"127.0.0.1:{ports[kind]}")]
        command = [self.tools["headgate"], "serve", repository, *addresses, "--log-level", "error", *flags]
        server = self.servers.enter_context(Server("headgate", command, self.folder() / "log", ports))
        server.wait_until_ready("/v2/health/ready")
        server.wait_until_idle()
        return server

    def headgate_with(self, *names, settings="", flags=()):
        return self.headgate(self.repository({name: (self.models[name], settings) for name in names}), *flags)

    def floor(self, server, model, protocol, *flags):
        """Starts the floor with the answer that `server` gives, which is checked on the way."""
        answer = self.folder() / "answer"
        self.ask(server, model, protocol, "--save", answer)
        kind = "grpc" if protocol == "grpc" else "http"
        (port,) = free_ports(1)
        command = [self.tools["load"], "floor", f"--{kind}-address", f"127.0.0.1:{port}", f"--{kind}-answer", answer]
        floor = Server("floor", [*command, *flags], self.folder() / "log", {kind: port})
        return self.servers.enter_context(floor).wait_until_ready(None)

    # ---- runs of the load tool ----

    def tool(self, command, *words, seconds=0):
        """Runs it and gives what it printed."""
        full = [str(word) for word in (self.tools["load"], command, *words)]
        done = subprocess.run(full, capture_output=True, text=True, timeout=seconds + SLACK_SECONDS)
        if done.returncode != 0:
            raise Failed(f"load {command}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def target(self, server, cases, protocol):
        cases = cases if isinstance(cases, list) else [cases]
        words = ["--address", server.address(protocol), "--protocol", protocol]
        words += [word for model in cases for word in ("--case", model.argument)]
        words += ["--tolerance", max(model.tolerance for model in cases)]
        if server.name == "floor":
            words.append("--unchecked")
        if getattr(server, "path", None):
            words += ["--path", server.path]
        return words

    def ask(self, server, model, protocol, *words):
        """One right answer to every request, or `Failed`."""
        return self.tool("ask", *self.target(server, model, protocol), *words)

    def closed(self, server, model, protocol, connections, seconds=None):
        seconds = seconds or self.options.seconds
        words = [*self.target(server, model, protocol), "--connections", connections, "--seconds", seconds]
        words += ["--server-pid", ",".join(map(str, server.pids()))]
        return self.tool("closed", *words, seconds=seconds)

    def open(self, server, model, protocol, rate, seconds, *words, connections=64):
        full = [*self.target(server, model, protocol), "--rate", rate, "--seconds", seconds]
        full += ["--connections", connections, "--server-pid", ",".join(map(str, server.pids())), *words]
        return self.tool("open", *full, seconds=seconds)

    def engine(self, model, threads=None, batches=BATCHES, seconds=None):
        """The engine's loop, as batch size -> figures."""
        seconds = seconds or self.options.seconds / 8
        words = ["--model", model.file, "--case", model.argument, "--threads", threads or self.cores]
        words += ["--batches", batches, "--seconds", seconds]
        sizes = self.tool("engine", *words, seconds=seconds * 10)["sizes"]
        return {size["batch"]: size for size in sizes if "left_out" not in size}

    # ---- rounds ----

    def interleave(self, subjects):
        """Runs each subject once a round, in turn, the order turned round every other time. Gives name -> figures by
        round. Nothing else is comparable on a machine whose speed drifts."""
        figures = {name: [] for name in subjects}
        for number in range(self.options.rounds):
            order = list(subjects)
            for name in order if number % 2 == 0 else reversed(order):
                got = subjects[name]()
                figures[name].append(got)
                self.keep(name, number + 1, got)
        return figures

    def keep(self, subject, number, figures):
        """Notes a run for the list of raw figures. An engine's is kept for each batch size."""
        if "rps" in figures:
            self.runs.append(Run(self.row, subject, number, figures))
        else:
            self.runs.extend(Run(self.row, f"{subject}, batch {size}", number, each) for size, each in figures.items())


# The benchmark's names of the zoo's models.
ZOO = {
    "iris": "iris_logreg",
    "digits": "digits_cnn_v2",
    "mobilenet": "mobilenet_v3_small",
    "forest": "wine_rf500",
    "codelang": "codelang_v2",
    "matmul": "slow_matmul24",
    "cancer_mlp": "cancer_mlp",
    "diabetes_gbdt": "diabetes_gbdt",
    "digits_kmeans": "digits_kmeans",
    "digits_pca": "digits_pca_logreg",
    "iris_gnb": "iris_gnb",
    "addsub": "multi_io_addsub",
    "codelang_small": "codelang_v1",
}

ROWS = {}


def row(name, claim, goal="", group=""):
    """Makes a function of a `Bench` a row. It gives a `Result`, or fills the one that it is given."""

    def register(function):
        @functools.wraps(function)
        def run(bench):
            result = Result(name, claim, goal)
            try:
                with bench.in_row(name):
                    function(bench, result)
            except (Failed, OSError, subprocess.TimeoutExpired, KeyError) as fault:
                result.reason = f"{type(fault).__name__}: {fault}"
            return result

        run.group = group
        ROWS[name] = run
        return function

    return register


def rps(figures):
    return [each["rps"] for each in figures]


def ratios(upper, lower):
    return [a / b for a, b in zip(upper, lower)]


def median(values):
    return statistics.median(values)


def spread(values):
    """The median with the smallest and the largest."""
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def failures(figures):
    """Requests that failed or were refused, over all rounds, with the first texts."""
    failed = sum(each["failed"] for each in figures)
    refused = sum(each["refused"] for each in figures)
    texts = sorted({text for each in figures for text in each["errors"]})
    return failed, refused, "; ".join(texts[:3])


def judge_failures(result, figures, subject="headgate"):
    """A run with failures meets no goal."""
    failed, refused, texts = failures(figures)
    if failed or refused:
        result.notes.append(f"{subject}: {failed} requests failed, {refused} were refused. {texts}".strip())
        if result.met:
            result.met = False


def cpu_us(figures):
    """The server's processor time for a request, in microseconds."""
    ended = figures["ok"] + figures["refused"] + figures["failed"]
    return figures["server_cpu_s"] / ended * 1e6 if ended else float("nan")
