"""Checks of HTTP itself, byte by byte: what perf_analyzer, the C++ client and curl rely on."""

import gzip
import http.client
import json
import zlib

import numpy as np

from support import TIMEOUT_S, VERSIONS, expect, expect_equal, expect_error, expect_json, expect_tensor, request

HEADER_LENGTH = "Inference-Header-Content-Length"


def iris_body(target, **members):
    inputs, expected = target.example("iris")
    tensor = {"name": "X", "shape": [3, 4], "datatype": "FP32", "data": inputs["X"].tolist()}
    return {"inputs": [tensor], **members}, expected


def expect_json_outputs(reply, expected):
    outputs = {output["name"]: output for output in reply["outputs"]}
    for name, tensor in expected.items():
        data = np.array(outputs[name]["data"])
        # Flat: the C++ client counts the elements of the outermost array.
        expect_equal(f"dimensions of the data of '{name}'", data.ndim, 1)
        # An output with parameters must have a binary size there, or the C++ client refuses it.
        expect("parameters" not in outputs[name], f"output '{name}' has parameters")
        expect_tensor(name, data.reshape(outputs[name]["shape"]), tensor)


# ---- health ----


def check_health_has_a_body(target):
    expect_equal("body", expect_json(request(target, "GET", "/v2/health/live")), {"live": True})
    expect_equal("body", expect_json(request(target, "GET", "/v2/health/ready")), {"ready": True})
    expect_equal("body", expect_json(request(target, "GET", "/v2/models/iris/ready")), {"name": "iris", "ready": True})
    expect_equal("body", expect_json(request(target, "GET", "/")), {"status": "alive"})


def check_health_of_an_unknown_model(target):
    expect_error(request(target, "GET", "/v2/models/no-such-model/ready"), 404, "no-such-model")


# ---- the body of a request ----


def check_ready_made_requests(target):
    for model in VERSIONS:
        body = (target.models / model / "request.json").read_bytes()
        reply = expect_json(request(target, "POST", f"/v2/models/{model}/infer", body))
        _, expected = target.example(model, "b1")
        expect_json_outputs(reply, expected)
        expect_equal("version", reply["model_version"], str(target.default_version(model)))


def check_json_without_a_content_type_or_id(target):
    body, expected = iris_body(target)
    reply = expect_json(request(target, "POST", "/v2/models/iris/infer", body))
    expect_json_outputs(reply, expected)
    expect("id" not in reply, f"expected no id, received {reply.get('id')!r}")


def check_unknown_members_are_ignored(target):
    body, expected = iris_body(target, model_name="iris", extra={"deep": [1, {"er": None}]})
    expect_json_outputs(expect_json(request(target, "POST", "/v2/models/iris/infer", body)), expected)


def check_flat_data(target):
    body, expected = iris_body(target)
    body["inputs"][0]["data"] = np.ravel(body["inputs"][0]["data"]).tolist()
    expect_json_outputs(expect_json(request(target, "POST", "/v2/models/iris/infer", body)), expected)


def check_header_length_of_a_whole_json_body(target):
    body, expected = iris_body(target)
    body = json.dumps(body).encode()
    reply = request(target, "POST", "/v2/models/iris/infer", body, {HEADER_LENGTH: str(len(body))})
    expect_json_outputs(expect_json(reply), expected)


def check_header_length_zero_is_one_raw_tensor(target):
    inputs, expected = target.example("iris", "b1")
    reply = request(target, "POST", "/v2/models/iris/infer", inputs["X"].tobytes(), {HEADER_LENGTH: "0"})
    expect_equal("status", reply.status, 200)
    expect_binary_outputs(reply, reply.body, expected)


def check_header_length_out_of_range(target):
    body = json.dumps(iris_body(target)[0]).encode()
    for length in (str(len(body) + 1), "-1", "many"):
        expect_error(request(target, "POST", "/v2/models/iris/infer", body, {HEADER_LENGTH: length}), 400)


def check_body_with_too_few_and_too_many_bytes(target):
    tensor = {"name": "X", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [tensor]}).encode()
    for payload in (bytes(15), bytes(17)):
        reply = request(target, "POST", "/v2/models/iris/infer", head + payload, {HEADER_LENGTH: str(len(head))})
        expect_error(reply, 400)


def check_body_in_pieces(target):
    inputs, expected = target.example("iris")
    head, payload = binary_request(inputs)
    pieces = iter([head[:10], head[10:] + payload[:5], payload[5:]])
    connection = http.client.HTTPConnection(target.http, timeout=TIMEOUT_S)
    connection.request("POST", "/v2/models/iris/infer", pieces, {HEADER_LENGTH: str(len(head))}, encode_chunked=True)
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    expect_equal(f"status of {body[:300]!r}", reply.status, 200)
    expect_binary_outputs(reply, body, expected)


# ---- compression ----


def binary_request(inputs):
    tensors = [
        {
            "name": name,
            "shape": list(tensor.shape),
            "datatype": "FP32",
            "parameters": {"binary_data_size": tensor.nbytes},
        }
        for name, tensor in inputs.items()
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    return head, b"".join(tensor.tobytes() for tensor in inputs.values())


def expect_binary_outputs(reply, body, expected):
    """`body` is the uncompressed one, which the length in the header counts."""
    expect_equal("content-type", reply.headers.get("content-type"), "application/octet-stream")
    length = int(reply.headers[HEADER_LENGTH])
    offset = length
    datatypes = {"FP32": np.float32, "INT64": np.int64}
    for output in json.loads(body[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        tensor = np.frombuffer(body[offset : offset + size], datatypes[output["datatype"]])
        expect_tensor(output["name"], tensor.reshape(output["shape"]), expected[output["name"]])
        offset += size
    expect_equal("length of the body", len(body), offset)


def check_compressed_reply_says_so(target):
    # Large enough to be worth compressing.
    rows = np.ones((500, 16), np.float32)
    head, payload = binary_request({"a": rows, "b": rows})
    expected = {"sum": rows + rows, "diff": rows - rows, "prod": rows * rows}
    for coding, unpack in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        headers = {HEADER_LENGTH: str(len(head)), "Accept-Encoding": coding}
        reply = request(target, "POST", "/v2/models/addsub/infer", head + payload, headers)
        expect_equal("content-encoding", reply.headers.get("content-encoding"), coding)
        expect_binary_outputs(reply, unpack(reply.body), expected)


def check_weights_of_codings_are_honoured(target):
    rows = np.ones((500, 16), np.float32)
    head, payload = binary_request({"a": rows, "b": rows})
    for accepted, chosen in (
        ("gzip;q=0.2, deflate;q=0.8", "deflate"),
        ("gzip;q=0, deflate", "deflate"),
        ("identity", None),
        ("br", None),
        ("gzip;q=0", None),
    ):
        headers = {HEADER_LENGTH: str(len(head)), "Accept-Encoding": accepted}
        reply = request(target, "POST", "/v2/models/addsub/infer", head + payload, headers)
        expect_equal(f"content-encoding for '{accepted}'", reply.headers.get("content-encoding"), chosen)


def check_compressed_request(target):
    inputs, expected = target.example("iris")
    head, payload = binary_request(inputs)
    for coding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        headers = {HEADER_LENGTH: str(len(head)), "Content-Encoding": coding}
        reply = request(target, "POST", "/v2/models/iris/infer", pack(head + payload), headers)
        expect_equal(f"status of {reply.body[:300]!r}", reply.status, 200)
        expect_binary_outputs(reply, reply.body, expected)


def check_unknown_content_encoding(target):
    body = json.dumps(iris_body(target)[0]).encode()
    reply = request(target, "POST", "/v2/models/iris/infer", body, {"Content-Encoding": "br"})
    expect_error(reply, 501)
    expect("gzip" in (reply.headers.get("accept-encoding") or ""), "expected Accept-Encoding to name what is served")


# ---- errors ----


def check_bodies_that_are_no_request(target):
    for body in (b"", b"{", b"[]", b"{}", b'{"inputs": 7}', b"\xff\xfe", b'{"inputs":' + b"[" * 100_000):
        expect_error(request(target, "POST", "/v2/models/iris/infer", body), 400)


def check_unknown_path_and_wrong_verb(target):
    expect_error(request(target, "GET", "/no/such/path"), 404, "Not Found")
    expect_error(request(target, "GET", "/v2/models/iris/infer"), 405, "Method Not Allowed")
    expect_error(request(target, "POST", "/v2/health/live", b""), 405, "Method Not Allowed")


def check_names_are_decoded_and_refused(target):
    body, expected = iris_body(target)
    # Clients percent-encode a name; one that would leave its directory is no name.
    expect_json_outputs(expect_json(request(target, "POST", "/v2/models/%69ris/infer", body)), expected)
    for name in ("..%2firis", "..", "%2e%2e", "iris%00"):
        reply = request(target, "POST", f"/v2/models/{name}/infer", body)
        expect(reply.status in (400, 404), f"status of '{name}': expected 400 or 404, received {reply.status}")
        expect_error(reply, reply.status)


def check_statistics_are_numbers(target):
    (entry,) = expect_json(request(target, "GET", "/v2/models/iris/stats"))["model_stats"]
    for member in ("last_inference", "inference_count", "execution_count"):
        expect(type(entry[member]) is int, f"{member}: expected a number, received {entry[member]!r}")
    for member, duration in entry["inference_stats"].items():
        for part in ("count", "ns"):
            expect(type(duration[part]) is int, f"{member}.{part}: expected a number, received {duration[part]!r}")
    expect(isinstance(entry["batch_stats"], list), f"batch_stats: expected a list, received {entry['batch_stats']!r}")
