"""Other servers from the package registry, each in a virtual environment of its own, with the same models.

    python3 benches/peers/peers.py      makes the environments and says which peers can be used

Each peer is given what its documentation advises for small models on a few cores, ONNX Runtime on one thread a worker,
and no logs. A peer that can't be installed or started raises `Unavailable`, whose text goes into the report.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

HERE = pathlib.Path(__file__).resolve().parent
INSTALL_SECONDS = 900


class Unavailable(Exception):
    """Why a peer can't take part."""


class Peer:
    """A server program. `command` prepares a folder and gives the command line and environment that start it."""

    name = ""
    packages = []
    protocols = ["json"]
    # A server of one model is started once for each.
    one_model = False
    # HTTP path in place of the Open Inference Protocol's.
    path = None
    ready_path = "/v2/health/ready"
    settings = ""

    def __init__(self, environments):
        self.environment = environments / self.name

    @property
    def python(self):
        return self.environment / "bin" / "python"

    def install(self):
        """Makes the virtual environment, if it isn't there."""
        done = self.environment / "installed"
        wanted = "\n".join(self.packages)
        if done.exists() and done.read_text() == wanted:
            return
        shutil.rmtree(self.environment, ignore_errors=True)
        pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *self.packages]
        for command in ([sys.executable, "-m", "venv", self.environment], pip):
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            except subprocess.CalledProcessError as error:
                lines = (error.stderr or error.stdout or "no output").strip().splitlines()
                raise Unavailable(f"can't be installed: {lines[-1]}") from error
            except (subprocess.TimeoutExpired, OSError) as error:
                raise Unavailable(f"can't be installed: {error}") from error
        done.write_text(wanted)

    def version(self):
        code = f"import importlib.metadata as m; print(m.version({self.packages[0].split('==')[0]!r}))"
        asked = subprocess.run([self.python, "-c", code], capture_output=True, text=True, timeout=60)
        return asked.stdout.strip()

    def site_packages(self):
        return next((self.environment / "lib").glob("python*/site-packages"))

    def base_environment(self):
        return {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}

    def command(self, folder, models, ports):
        """Writes what the server needs to `folder`. `models` is name -> Model, `ports` has http, grpc and metrics."""
        raise NotImplementedError


class Triton(Peer):
    name = "triton"
    packages = ["nvidia-pytriton", "onnxruntime", "numpy"]
    protocols = ["json", "binary", "grpc"]
    settings = "Python backend, one instance a core, dynamic batching without delay, max_batch_size 64"

    def command(self, folder, models, ports):
        installed = self.site_packages() / "pytriton" / "tritonserver"
        binary = installed / "bin" / "tritonserver"
        if not binary.exists():
            raise Unavailable("the wheel has no tritonserver for this machine")
        backends = folder / "backends"
        shutil.copytree(installed / "backends", backends)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = installed / "python_backend_stubs" / version / "triton_python_backend_stub"
        if not stub.exists():
            raise Unavailable(f"the wheel has no Python backend for Python {version}")
        shutil.copy(stub, backends / "python")
        for name, model in models.items():
            home = folder / "models" / name / "1"
            home.mkdir(parents=True)
            shutil.copy(model.file, home / "model.onnx")
            shutil.copy(HERE / "triton_model.py", home / "model.py")
            (home.parent / "config.pbtxt").write_text(triton_config(name, model))
        environment = self.base_environment()
        libraries = [sysconfig.get_config_var("LIBDIR"), self.site_packages() / "nvidia_pytriton.libs"]
        environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
        environment["PYTHONPATH"] = f"{HERE}:{self.site_packages()}"
        flags = {
            "model-repository": folder / "models",
            "backend-directory": backends,
            "http-address": "127.0.0.1",
            "http-port": ports["http"],
            "grpc-address": "127.0.0.1",
            "grpc-port": ports["grpc"],
            "allow-metrics": "false",
            "log-info": "false",
            "log-verbose": "0",
            # One HTTP thread a core; eight by default, which only fight each other here.
            "http-thread-count": os.cpu_count(),
        }
        return [binary, *(f"--{key}={value}" for key, value in flags.items())], environment


def triton_config(name, model):
    def tensors(kind, specs):
        each = []
        for spec in specs:
            # A tensor of nothing but its batch axis is [1] to Triton, without that axis to the model.
            dims = ", ".join(map(str, spec.dims or [1]))
            reshape = "" if spec.dims else " reshape: { shape: [ ] }"
            each.append(f'  {{ name: "{spec.name}" data_type: TYPE_{spec.datatype} dims: [ {dims} ]{reshape} }}')
        return f"{kind} [\n" + ",\n".join(each) + "\n]\n"

    return (
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: 64\ndynamic_batching {{ }}\n'
        + f"instance_group [ {{ count: {os.cpu_count()} kind: KIND_CPU }} ]\n"
        + tensors("input", model.inputs)
        + tensors("output", model.outputs)
    )


class Mosec(Peer):
    name = "mosec"
    packages = ["mosec", "onnxruntime", "numpy"]
    one_model = True
    path = "/inference"
    ready_path = "/"
    settings = "one worker a core, no batching (it waits for a batch, which costs small models more than it gives)"

    def command(self, folder, models, ports):
        (model,) = models.values()
        environment = self.base_environment()
        environment.update(MODEL_FILE=str(model.file), WORKERS=str(os.cpu_count()), MAX_BATCH="1")
        flags = ["--address", "127.0.0.1", "--port", str(ports["http"]), "--log-level", "error", "--path", str(folder / "s")]
        return [self.python, HERE / "mosec_server.py", *flags], environment


class MLServer(Peer):
    name = "mlserver"
    # Later releases of uvloop took away what it starts with.
    packages = ["mlserver", "uvloop<0.22", "onnxruntime", "numpy"]
    protocols = ["json", "grpc"]
    settings = "inference in the server's process (a worker process costs small models more than it gives)"

    def command(self, folder, models, ports):
        (folder / "settings.json").write_text(
            json.dumps(
                {
                    "host": "127.0.0.1",
                    "http_port": ports["http"],
                    "grpc_port": ports["grpc"],
                    "metrics_port": ports["metrics"],
                    "parallel_workers": 0,
                    "debug": False,
                    "use_structured_logging": False,
                    "logging_settings": logging_off(),
                    "metrics_dir": str(folder / "metrics"),
                }
            )
        )
        (folder / "metrics").mkdir()
        for name, model in models.items():
            home = folder / name
            home.mkdir()
            (home / "model-settings.json").write_text(
                json.dumps(
                    {
                        "name": name,
                        "implementation": "mlserver_runtime.OrtRuntime",
                        "parameters": {"version": "1", "uri": str(model.file)},
                    }
                )
            )
        return [self.environment / "bin" / "mlserver", "start", folder], self.base_environment()


def logging_off():
    return {"version": 1, "disable_existing_loggers": True, "root": {"level": "ERROR"}}


ALL = [Triton, Mosec, MLServer]


def default_environments():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    return cache / "headgate-bench-peers"


if __name__ == "__main__":
    for kind in ALL:
        peer = kind(default_environments())
        try:
            peer.install()
            print(f"{peer.name} {peer.version()}: {peer.environment}")
        except Unavailable as reason:
            print(f"{peer.name} is left out: {reason}")
