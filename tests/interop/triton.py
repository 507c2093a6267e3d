"""The four clients of the tritonclient package behind one vocabulary, so that one check runs with each of them.

The clients themselves are untouched: every method of theirs is called by its name, and awaited where it must be.
"""

import importlib
import inspect

import numpy as np

from support import TIMEOUT_S, Mismatch, expect_contains, expect_equal, expect_tensor, request

# What a client reports as the status of an error, over HTTP and over gRPC.
STATUS = {
    "INVALID_ARGUMENT": ("400", "StatusCode.INVALID_ARGUMENT"),
    "NOT_FOUND": ("404", "StatusCode.NOT_FOUND"),
    "UNSUPPORTED": ("501", "StatusCode.UNIMPLEMENTED"),
    "UNAVAILABLE": ("503", "StatusCode.UNAVAILABLE"),
    "DEADLINE_EXCEEDED": ("504", "StatusCode.DEADLINE_EXCEEDED"),
    "INTERNAL": ("500", "StatusCode.INTERNAL"),
}
INFERENCE_STATISTICS = [
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
]


class Triton:
    """An open client: `http`, `http.aio`, `grpc` or `grpc.aio`."""

    def __init__(self, flavour, target):
        self.target = target
        self.over_http = flavour.startswith("http")
        self.is_async = flavour.endswith("aio")
        self.module = importlib.import_module(f"tritonclient.{flavour}")
        self.client = None

    async def __aenter__(self):
        # In here because the asynchronous clients must be made inside the event loop.
        self.client = self.module.InferenceServerClient(self.target.http if self.over_http else self.target.grpc)
        return self

    async def __aexit__(self, *_):
        await self.call("close")

    async def call(self, method, *positional, **named):
        outcome = getattr(self.client, method)(*positional, **named)
        return await outcome if inspect.isawaitable(outcome) else outcome

    # ---- inference ----

    def input(self, name, tensor, binary=True):
        from tritonclient.utils import np_to_triton_dtype

        described = self.module.InferInput(name, list(tensor.shape), np_to_triton_dtype(tensor.dtype))
        # Binary or JSON is a choice of HTTP alone.
        return described.set_data_from_numpy(tensor, **({"binary_data": binary} if self.over_http else {}))

    def inputs(self, tensors, binary=True):
        return [self.input(name, tensor, binary) for name, tensor in tensors.items()]

    def output(self, name, binary=True, class_count=0):
        choice = {"binary_data": binary} if self.over_http else {}
        return self.module.InferRequestedOutput(name, class_count=class_count, **choice)

    async def infer(self, model, tensors, **named):
        return await self.call("infer", model, self.inputs(tensors), **named)

    def reply_head(self, result):
        """(model name, version, request id, output names) of a result; the id is "" where the reply has none."""
        reply = result.get_response()
        if self.over_http:
            names = [output["name"] for output in reply["outputs"]]
            return reply["model_name"], reply["model_version"], reply.get("id", ""), names
        return reply.model_name, reply.model_version, reply.id, [output.name for output in reply.outputs]

    # ---- what the server tells, in one form for both protocols ----

    async def model_metadata(self, model, version=""):
        metadata = await self.call("get_model_metadata", model, version)
        if not self.over_http:
            metadata = message_to_dict(metadata)
        for side in ("inputs", "outputs"):
            metadata[side] = {
                tensor["name"]: (tensor["datatype"], [int(size) for size in tensor["shape"]])
                for tensor in metadata[side]
            }
        return metadata

    async def model_config(self, model, version=""):
        config = await self.call("get_model_config", model, version)
        if not self.over_http:
            config = message_to_dict(config.config)
        for side in ("input", "output"):
            for tensor in config[side]:
                tensor["dims"] = [int(size) for size in tensor["dims"]]
        return config

    async def statistics(self, model="", version=""):
        """Statistics as HTTP shows them; over gRPC a member that was not sent is not there."""
        reply = await self.call("get_inference_statistics", model, version)
        if self.over_http:
            return reply["model_stats"]
        return [statistics_to_dict(entry) for entry in reply.model_stats]

    async def repository_index(self):
        """(model, version) -> state."""
        reply = await self.call("get_model_repository_index")
        entries = reply if self.over_http else message_to_dict(reply)["models"]
        return {(entry["name"], entry.get("version", "")): entry.get("state", "") for entry in entries}

    async def ready_index(self):
        """Names in the index of what is ready; a filter that the clients' own method doesn't offer."""
        if self.over_http:
            entries = request(self.target, "POST", "/v2/repository/index", {"ready": True}).json()
            return {entry["name"] for entry in entries}
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        with grpc.insecure_channel(self.target.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            reply = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True), timeout=TIMEOUT_S)
        return {entry.name for entry in reply.models}

    async def trace_settings(self, update=None, model=None):
        """Settings by name; lists and single values as HTTP shows them."""
        named = {"model_name": model} if model else {}
        if update is None:
            reply = await self.call("get_trace_settings", **named)
        else:
            reply = await self.call("update_trace_settings", settings=update, **named)
        if self.over_http:
            return reply
        return {
            name: list(setting.value) if name == "trace_level" else "".join(setting.value)
            for name, setting in reply.settings.items()
        }

    async def log_settings(self, update=None):
        reply = await (self.call("get_log_settings") if update is None else self.call("update_log_settings", update))
        if self.over_http:
            return reply
        return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in reply.settings.items()}

    # ---- errors ----

    def expect_status(self, error, status, fragment=""):
        expect_equal(f"status of {error.message()!r}", error.status(), STATUS[status][0 if self.over_http else 1])
        expect_contains("error", error.message(), fragment)

    async def refused(self, status, fragment, method, *positional, **named):
        """The call must fail with this status and a text that holds this fragment."""
        from tritonclient.utils import InferenceServerException

        try:
            outcome = await self.call(method, *positional, **named)
        except InferenceServerException as error:
            self.expect_status(error, status, fragment)
        else:
            raise Mismatch(f"expected {method} to fail with {fragment!r}, received {outcome!r}")


def expect_outputs(result, expected):
    """The result holds every expected output."""
    for name, tensor in expected.items():
        expect_tensor(name, result.as_numpy(name), tensor)


def iris_row(values=(5.1, 3.5, 1.4, 0.2)):
    return np.array([values], np.float32)


def message_to_dict(message):
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def statistics_to_dict(entry):
    def duration(value):
        return {"count": value.count, "ns": value.ns}

    sent = [name for name in INFERENCE_STATISTICS if entry.inference_stats.HasField(name)]
    return {
        "name": entry.name,
        "version": entry.version,
        "last_inference": entry.last_inference,
        "inference_count": entry.inference_count,
        "execution_count": entry.execution_count,
        "inference_stats": {name: duration(getattr(entry.inference_stats, name)) for name in sent},
        "batch_stats": [{"batch_size": batch.batch_size} for batch in entry.batch_stats],
    }
