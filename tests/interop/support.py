"""What every check needs: where the server is, what its models should answer, and words for what went wrong."""

import contextlib
import dataclasses
import http.client
import json
import pathlib

import numpy as np

ABSOLUTE_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-3
TIMEOUT_S = 60

# Each model of the repository: version -> directory, and its tensors as metadata shows them.
VERSIONS = {"addsub": [1], "codelang": [1], "digits": [1, 2], "iris": [1], "wine": [1]}
INPUTS = {
    "addsub": {"a": ("FP32", [-1, 16]), "b": ("FP32", [-1, 16])},
    "codelang": {"input_ids": ("INT64", [-1, -1]), "attention_mask": ("INT64", [-1, -1])},
    "digits": {"image": ("FP32", [-1, 1, 8, 8])},
    "iris": {"X": ("FP32", [-1, 4])},
    "wine": {"X": ("FP32", [-1, 13])},
}
OUTPUTS = {
    "addsub": {"sum": ("FP32", [-1, 16]), "diff": ("FP32", [-1, 16]), "prod": ("FP32", [-1, 16])},
    # None: the file gives the width of an embedding only a name, and a server that infers it may tell the number.
    "codelang": {"probabilities": ("FP32", [-1, 7]), "embedding": ("FP32", [-1, None])},
    "digits": {"probabilities": ("FP32", [-1, 10])},
    "iris": {"label": ("INT64", [-1]), "probabilities": ("FP32", [-1, 3])},
    "wine": {"label": ("INT64", [-1]), "probabilities": ("FP32", [-1, 3])},
}
IRIS_CLASSES = ["setosa", "versicolor", "virginica"]


class Mismatch(Exception):
    """The server's answer is not the expected one."""


class Skipped(Exception):
    """The check can't be made against this target; the text says why."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A running server and what is known of it."""

    http: str
    grpc: str
    models: pathlib.Path
    # A label of digits, without the model's name, and the version that it points to.
    label: str | None
    label_version: int | None

    @classmethod
    def from_arguments(cls, arguments):
        label, _, version = (arguments.label or "").partition("=")
        return cls(arguments.http, arguments.grpc, arguments.models, label or None, int(version) if version else None)

    def default_version(self, model):
        """The version that answers where none is named: the label `stable` if there is one, else the highest."""
        if model == "digits" and self.label == "stable":
            return self.label_version
        return max(VERSIONS[model])

    def require_label(self):
        if self.label is None:
            raise Skipped("no --label")

    def example(self, model, name="b3", version=None):
        """A recorded run: (inputs, outputs) by tensor name."""
        version = version or self.default_version(model)
        with np.load(self.models / model / str(version) / "examples" / f"{name}.npz") as recorded:
            inputs = {key[3:]: recorded[key] for key in recorded if key.startswith("in/")}
            outputs = {key[4:]: recorded[key] for key in recorded if key.startswith("out/")}
        return inputs, outputs


# ---- expectations ----


def expect(condition, text):
    if not condition:
        raise Mismatch(text)


def expect_equal(what, received, expected):
    expect(received == expected, f"{what}: expected {expected!r}, received {received!r}")


def expect_tensor(name, received, expected):
    """Equal shape; equal values, within the tolerance where they are floating point numbers."""
    expect(received is not None, f"output '{name}' is missing")
    received = np.asarray(received)
    expect_equal(f"shape of '{name}'", list(received.shape), list(expected.shape))
    if expected.dtype.kind == "f":
        close = np.allclose(received, expected, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE, equal_nan=True)
        expect(close, f"output '{name}': expected {expected.tolist()}, received {received.tolist()}")
    else:
        expect_equal(f"output '{name}'", received.tolist(), expected.tolist())


def expect_tensors_described(what, received, expected):
    """Names, datatypes and shapes as INPUTS and OUTPUTS list them; a dimension that is None there may be any."""
    expect_equal(f"names of {what}", sorted(received), sorted(expected))
    for name, (datatype, shape) in expected.items():
        received_datatype, received_shape = received[name]
        expect_equal(f"datatype of '{name}'", received_datatype, datatype)
        same_rank = len(shape) == len(received_shape)
        fits = same_rank and all(size in (None, other) for size, other in zip(shape, received_shape))
        expect(fits, f"shape of '{name}': expected {shape}, received {received_shape}")


def expect_contains(what, text, fragment):
    expect(fragment in text, f"{what}: expected text with {fragment!r}, received {text!r}")


def expect_superset(what, received, expected):
    missing = sorted(set(expected) - set(received))
    expect(not missing, f"{what}: {missing} missing in {sorted(received)}")


@contextlib.contextmanager
def expect_raises(*kinds):
    """The block must raise one of these; the caught exception is `.error` of what the block is given."""

    class Caught:
        error = None

    caught = Caught()
    try:
        yield caught
    except kinds as error:
        caught.error = error
    else:
        raise Mismatch("expected an error, received an answer")


# ---- HTTP without any client library ----


@dataclasses.dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)


def request(target, method, path, body=None, headers=None):
    """One HTTP request on a connection of its own; `body` is bytes, or anything else to be sent as JSON."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    connection = http.client.HTTPConnection(target.http, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


def expect_json(reply, status=200):
    """The JSON body of a reply with this status and the exact content type that KServe's client compares with."""
    expect_equal(f"status of {reply.body[:300]!r}", reply.status, status)
    expect_equal("content-type", reply.headers.get("content-type"), "application/json")
    return reply.json()


def expect_error(reply, status, fragment=""):
    """The body `{"error": text}`; return the text."""
    text = expect_json(reply, status).get("error")
    expect(isinstance(text, str) and text, f"expected an error text, received {reply.body!r}")
    expect_contains("error", text, fragment)
    return text
