"""Checks of TensorFlow Serving's REST API, whose users call it by plain HTTP, and of `generate`."""

import json

import numpy as np

from support import (
    INPUTS,
    VERSIONS,
    expect,
    expect_equal,
    expect_error,
    expect_json,
    expect_superset,
    expect_tensor,
    request,
)


def rows_of(tensors):
    """Column tensors as row objects."""
    return [
        {name: tensor[row].tolist() for name, tensor in tensors.items()}
        for row in range(len(next(iter(tensors.values()))))
    ]


def predict(target, path, body):
    return expect_json(request(target, "POST", path, body))


def expect_rows(predictions, expected):
    for name, tensor in expected.items():
        expect_tensor(name, np.array([row[name] for row in predictions]), tensor)


# ---- predict ----


def check_rows_of_one_input(target):
    inputs, expected = target.example("iris")
    reply = predict(target, "/v1/models/iris:predict", {"instances": inputs["X"].tolist()})
    expect_rows(reply["predictions"], expected)


def check_rows_of_one_named_input(target):
    inputs, expected = target.example("iris")
    reply = predict(
        target, "/v1/models/iris:predict", {"signature_name": "serving_default", "instances": rows_of(inputs)}
    )
    expect_rows(reply["predictions"], expected)


def check_rows_of_two_inputs(target):
    for model in ("addsub", "codelang"):
        inputs, expected = target.example(model)
        expect_rows(
            predict(target, f"/v1/models/{model}:predict", {"instances": rows_of(inputs)})["predictions"], expected
        )


def check_single_output_is_unwrapped(target):
    inputs, expected = target.example("digits")
    reply = predict(target, "/v1/models/digits:predict", {"instances": inputs["image"].tolist()})
    expect_tensor("predictions", np.array(reply["predictions"]), expected["probabilities"])
    reply = predict(target, "/v1/models/digits:predict", {"inputs": inputs["image"].tolist()})
    expect_tensor("outputs", np.array(reply["outputs"]), expected["probabilities"])


def check_columns(target):
    for model in ("iris", "addsub"):
        inputs, expected = target.example(model)
        columns = {name: tensor.tolist() for name, tensor in inputs.items()}
        reply = predict(target, f"/v1/models/{model}:predict", {"inputs": columns})
        for name, tensor in expected.items():
            expect_tensor(name, np.array(reply["outputs"][name]), tensor)


def check_version_in_the_path(target):
    for version in VERSIONS["digits"]:
        inputs, expected = target.example("digits", version=version)
        reply = predict(
            target, f"/v1/models/digits/versions/{version}:predict", {"instances": inputs["image"].tolist()}
        )
        expect_tensor("predictions", np.array(reply["predictions"]), expected["probabilities"])


def check_label_in_the_path(target):
    target.require_label()
    inputs, expected = target.example("digits", version=target.label_version)
    reply = predict(target, f"/v1/models/digits/labels/{target.label}:predict", {"instances": inputs["image"].tolist()})
    expect_tensor("predictions", np.array(reply["predictions"]), expected["probabilities"])


def check_not_a_number_and_infinity(target):
    a = np.zeros((1, 16), np.float32)
    a[0, :3] = [np.nan, np.inf, -np.inf]
    columns = {"a": a.tolist(), "b": np.ones((1, 16)).tolist()}
    reply = predict(target, "/v1/models/addsub:predict", {"inputs": columns})
    expect_tensor("sum", np.array(reply["outputs"]["sum"]), a + 1)


# ---- status and metadata ----


def check_status_of_a_model(target):
    status = expect_json(request(target, "GET", "/v1/models/digits"))
    entries = {entry["version"]: entry for entry in status["model_version_status"]}
    expect_equal("versions", sorted(entries), ["1", "2"])
    for entry in entries.values():
        expect_equal("state", entry["state"], "AVAILABLE")
        expect_equal("status", entry["status"], {"error_code": "OK", "error_message": ""})
    # The same path answers KServe's clients, which look for these.
    expect_equal("name and ready", (status["name"], status["ready"]), ("digits", True))


def check_status_of_one_version(target):
    status = expect_json(request(target, "GET", "/v1/models/digits/versions/1"))
    expect_equal("versions", [entry["version"] for entry in status["model_version_status"]], ["1"])


def check_metadata(target):
    reply = expect_json(request(target, "GET", "/v1/models/codelang/metadata"))
    expect_equal("name and version", (reply["model_spec"]["name"], reply["model_spec"]["version"]), ("codelang", "1"))
    signature = reply["metadata"]["signature_def"]["signature_def"]["serving_default"]
    expect_equal("inputs", sorted(signature["inputs"]), sorted(INPUTS["codelang"]))
    for tensor in signature["inputs"].values():
        expect_equal("dtype", tensor["dtype"], "DT_INT64")
        expect_equal("dimensions", [dim["size"] for dim in tensor["tensor_shape"]["dim"]], ["-1", "-1"])
    expect_superset("outputs", signature["outputs"], ["probabilities", "embedding"])


def check_list_of_models(target):
    expect_superset("models", expect_json(request(target, "GET", "/v1/models"))["models"], VERSIONS)


# ---- errors ----


def check_unknown_model_and_version(target):
    body = {"instances": [[1.0, 2.0, 3.0, 4.0]]}
    expect_error(request(target, "POST", "/v1/models/no-such-model:predict", body), 404, "no-such-model")
    expect_error(request(target, "POST", "/v1/models/iris/versions/99:predict", body), 404, "99")
    expect_error(request(target, "GET", "/v1/models/no-such-model"), 404, "no-such-model")


def check_bodies_that_are_no_request(target):
    for body in (b"", b"{", b"[]", b"{}", b'{"instances": 7}', b'{"instances": [[1, 2, 3, 4], [1, 2]]}'):
        expect_error(request(target, "POST", "/v1/models/iris:predict", body), 400)


# ---- generate ----


def check_generate(target):
    inputs, expected = target.example("iris", "b1")
    reply = expect_json(request(target, "POST", "/v2/models/iris/generate", {"X": inputs["X"][0].tolist()}))
    expect_equal("reply", (reply["model_name"], reply["model_version"]), ("iris", "1"))
    expect_equal("label", reply["label"], int(expected["label"][0]))
    expect_tensor("probabilities", np.array(reply["probabilities"]).ravel(), expected["probabilities"][0])


def check_generate_with_a_version_and_parameters(target):
    inputs, expected = target.example("addsub", "b1")
    body = {name: tensor[0].tolist() for name, tensor in inputs.items()} | {"tenant": "a"}
    reply = expect_json(request(target, "POST", "/v2/models/addsub/versions/1/generate", body))
    for name, tensor in expected.items():
        expect_tensor(name, np.array(reply[name]).ravel(), tensor[0])


def check_generate_stream(target):
    inputs, expected = target.example("iris", "b1")
    reply = request(target, "POST", "/v2/models/iris/generate_stream", {"X": inputs["X"][0].tolist()})
    expect_equal("status", reply.status, 200)
    expect(
        reply.headers["content-type"].startswith("text/event-stream"),
        f"content-type is {reply.headers['content-type']}",
    )
    events = [event for event in reply.body.decode().split("\n\n") if event]
    expect_equal("events", len(events), 1)
    expect(events[0].startswith("data: "), f"expected an event with data, received {events[0]!r}")
    expect_equal("label", json.loads(events[0].removeprefix("data: "))["label"], int(expected["label"][0]))
