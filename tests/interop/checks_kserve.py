"""Checks with KServe's own clients: InferenceRESTClient for protocols v1 and v2, InferenceGRPCClient."""

import contextlib

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from support import INPUTS, VERSIONS, expect, expect_contains, expect_equal, expect_raises, expect_tensor

MODELS = ("iris", "digits", "codelang", "wine", "addsub")


@contextlib.asynccontextmanager
async def rest(target, protocol):
    async with InferenceRESTClient(RESTConfig(protocol=protocol)) as client:
        yield client, f"http://{target.http}"


def infer_request(model, tensors, binary, outputs=None, **named):
    inputs = []
    for name, tensor in tensors.items():
        described = InferInput(name, list(tensor.shape), INPUTS[model][name][0])
        described.set_data_from_numpy(tensor, binary_data=binary)
        inputs.append(described)
    return InferRequest(model_name=model, infer_inputs=inputs, request_outputs=outputs, **named)


def expect_outputs(response, expected):
    for name, tensor in expected.items():
        output = response.get_output_by_name(name)
        expect(output is not None, f"output '{name}' is missing")
        expect_tensor(name, output.as_numpy(), tensor)


# ---- REST, protocol v2 ----


async def check_rest_v2_health(target):
    async with rest(target, "v2") as (client, url):
        expect_equal("live", await client.is_server_live(url), True)
        expect_equal("ready", await client.is_server_ready(url), True)
        for model in MODELS:
            expect_equal(f"{model} ready", await client.is_model_ready(url, model), True)
        expect_equal("unknown model ready", await client.is_model_ready(url, "no-such-model"), False)


async def check_rest_v2_infer_in_json(target):
    async with rest(target, "v2") as (client, url):
        for model in MODELS:
            inputs, expected = target.example(model)
            response = await client.infer(url, infer_request(model, inputs, binary=False), model_name=model)
            expect_outputs(response, expected)
            expect_equal("model name", response.model_name, model)


async def check_rest_v2_infer_in_binary(target):
    async with rest(target, "v2") as (client, url):
        for model in MODELS:
            inputs, expected = target.example(model)
            request = infer_request(model, inputs, binary=True, parameters={"binary_data_output": True})
            expect_outputs(await client.infer(url, request, model_name=model), expected)


async def check_rest_v2_listed_outputs(target):
    inputs, expected = target.example("addsub")
    outputs = [RequestedOutput("sum", {"binary_data": True}), RequestedOutput("prod", {"binary_data": False})]
    async with rest(target, "v2") as (client, url):
        request = infer_request("addsub", inputs, binary=True, outputs=outputs, request_id="42")
        response = await client.infer(url, request, model_name="addsub")
    expect_equal("outputs", sorted(output.name for output in response.outputs), ["prod", "sum"])
    expect_outputs(response, {name: expected[name] for name in ("sum", "prod")})
    expect_equal("id", response.id, "42")


async def check_rest_v2_infer_from_a_plain_dict(target):
    inputs, expected = target.example("iris")
    body = {"inputs": [{"name": "X", "shape": [3, 4], "datatype": "FP32", "data": inputs["X"].tolist()}]}
    async with rest(target, "v2") as (client, url):
        expect_outputs(await client.infer(url, body, model_name="iris"), expected)


async def check_rest_v2_label(target):
    target.require_label()
    inputs, expected = target.example("digits", version=target.label_version)
    async with rest(target, "v2") as (client, url):
        request = infer_request("digits", inputs, binary=False)
        expect_outputs(await client.infer(url, request, model_name=f"digits@{target.label}"), expected)


async def check_rest_v2_error_texts(target):
    async with rest(target, "v2") as (client, url):
        request = infer_request("iris", {"X": np.zeros((1, 5), np.float32)}, binary=False)
        with expect_raises(httpx.HTTPStatusError) as caught:
            await client.infer(url, request, model_name="no-such-model")
        expect_equal("status", caught.error.response.status_code, 404)
        # The client shows the server's text only if the content type is what it expects.
        expect_contains("error", str(caught.error), "Request for unknown model: 'no-such-model' is not found")
        with expect_raises(httpx.HTTPStatusError) as caught:
            await client.infer(url, request, model_name="iris")
        expect_equal("status", caught.error.response.status_code, 400)
        expect_contains("error", str(caught.error), "Expected [-1,4], got [1,5]")


# ---- REST, protocol v1 ----


async def check_rest_v1_health(target):
    async with rest(target, "v1") as (client, url):
        expect_equal("live", await client.is_server_live(url), True)
        for model in MODELS:
            expect_equal(f"{model} ready", await client.is_model_ready(url, model), True)
        with expect_raises(httpx.HTTPStatusError) as caught:
            await client.is_model_ready(url, "no-such-model")
        expect_equal("status", caught.error.response.status_code, 404)


async def check_rest_v1_predict_with_one_output(target):
    inputs, expected = target.example("digits")
    async with rest(target, "v1") as (client, url):
        reply = await client.infer(url, {"instances": inputs["image"].tolist()}, model_name="digits")
    expect_tensor("predictions", np.array(reply["predictions"]), expected["probabilities"])


async def check_rest_v1_predict_with_two_outputs(target):
    inputs, expected = target.example("iris")
    async with rest(target, "v1") as (client, url):
        reply = await client.infer(url, {"instances": inputs["X"].tolist()}, model_name="iris")
    for name, tensor in expected.items():
        expect_tensor(name, np.array([row[name] for row in reply["predictions"]]), tensor)


async def check_rest_v1_error_text(target):
    async with rest(target, "v1") as (client, url):
        with expect_raises(httpx.HTTPStatusError) as caught:
            await client.infer(url, {"instances": [[1.0]]}, model_name="no-such-model")
        expect_equal("status", caught.error.response.status_code, 404)
        expect_contains("error", str(caught.error), "no-such-model")


# ---- gRPC ----


async def check_grpc_health(target):
    async with InferenceGRPCClient(target.grpc) as client:
        expect_equal("live", await client.is_server_live(), True)
        expect_equal("ready", await client.is_server_ready(), True)
        for model in MODELS:
            expect_equal(f"{model} ready", await client.is_model_ready(model), True)
        with expect_raises(grpc.RpcError) as caught:
            await client.is_model_ready("no-such-model")
        expect_equal("status", caught.error.code(), grpc.StatusCode.NOT_FOUND)


async def check_grpc_infer_with_raw_contents(target):
    async with InferenceGRPCClient(target.grpc) as client:
        for model, versions in VERSIONS.items():
            for version in versions:
                inputs, expected = target.example(model, version=version)
                request = infer_request(model, inputs, binary=True, model_version=str(version), request_id="42")
                response = await client.infer(request)
                expect_outputs(response, expected)
                expect_equal(
                    "reply", (response.id, response.model_name, response.model_version), ("42", model, str(version))
                )


async def check_grpc_infer_with_typed_contents(target):
    async with InferenceGRPCClient(target.grpc) as client:
        for model in MODELS:
            inputs, expected = target.example(model)
            expect_outputs(await client.infer(infer_request(model, inputs, binary=False)), expected)


async def check_grpc_listed_output(target):
    inputs, expected = target.example("addsub")
    async with InferenceGRPCClient(target.grpc) as client:
        response = await client.infer(infer_request("addsub", inputs, binary=True, outputs=[RequestedOutput("diff")]))
    expect_equal("outputs", [output.name for output in response.outputs], ["diff"])
    expect_outputs(response, {"diff": expected["diff"]})


async def check_grpc_error_text(target):
    inputs, _ = target.example("iris")
    async with InferenceGRPCClient(target.grpc) as client:
        with expect_raises(grpc.RpcError) as caught:
            await client.infer(infer_request("iris", inputs, binary=True, model_version="99"))
    expect_equal("status", caught.error.code(), grpc.StatusCode.NOT_FOUND)
    expect_contains("error", caught.error.details(), "Request for unknown model: 'iris' version 99 is not found")
