"""Checks for tritonclient.http and tritonclient.http.aio: the encodings that only HTTP has."""

import itertools

import numpy as np

from support import expect_equal, expect_tensor
from triton import expect_outputs

CODINGS = (None, "gzip", "deflate")


async def check_every_pair_of_encodings(client, target):
    for model in ("iris", "digits", "codelang", "wine"):
        inputs, expected = target.example(model)
        for binary_in, binary_out in itertools.product((True, False), repeat=2):
            outputs = [client.output(name, binary=binary_out) for name in expected]
            result = await client.call("infer", model, client.inputs(inputs, binary_in), outputs=outputs)
            expect_outputs(result, expected)
            expect_encoding(result, dict.fromkeys(expected, binary_out))


async def check_encodings_mixed_in_one_request(client, target):
    inputs, expected = target.example("addsub")
    tensors = [client.input("a", inputs["a"], binary=False), client.input("b", inputs["b"], binary=True)]
    outputs = [
        client.output("sum", binary=True),
        client.output("diff", binary=False),
        client.output("prod", binary=True),
    ]
    result = await client.call("infer", "addsub", tensors, outputs=outputs)
    expect_outputs(result, expected)
    expect_encoding(result, {"sum": True, "diff": False, "prod": True})


async def check_json_inputs_with_no_outputs_listed(client, target):
    inputs, expected = target.example("codelang")
    result = await client.call("infer", "codelang", client.inputs(inputs, binary=False))
    expect_outputs(result, expected)
    # Without a list of outputs the client asks for all of them in binary.
    expect_encoding(result, dict.fromkeys(expected, True))


def expect_encoding(result, binary):
    """An output in binary says its size and has no data; one in JSON has flat data and no parameters."""
    for name, is_binary in binary.items():
        output = result.get_output(name)
        expect_equal(f"'{name}' has data", "data" in output, not is_binary)
        expect_equal(f"'{name}' has a size", "binary_data_size" in output.get("parameters", {}), is_binary)
        if not is_binary:
            expect_equal(f"'{name}' has parameters", "parameters" in output, False)
            expect_equal(f"values in '{name}'", np.array(output["data"]).shape, (int(np.prod(output["shape"])),))


async def check_compression_both_ways(client, target):
    for model in ("iris", "digits"):
        inputs, expected = target.example(model)
        for request_coding, response_coding in itertools.product(CODINGS, repeat=2):
            for binary in (True, False):
                result = await client.call(
                    "infer",
                    model,
                    client.inputs(inputs, binary),
                    outputs=[client.output(name, binary) for name in expected],
                    request_compression_algorithm=request_coding,
                    response_compression_algorithm=response_coding,
                )
                expect_outputs(result, expected)


async def check_error_to_a_client_that_takes_gzip(client, target):
    # The clients don't unpack the body of an error.
    for coding in ("gzip", "deflate"):
        await client.refused(
            "INVALID_ARGUMENT",
            "unexpected shape for input 'X'",
            "infer",
            "iris",
            client.inputs({"X": np.zeros((1, 5), np.float32)}),
            response_compression_algorithm=coding,
        )


async def check_metadata_to_a_client_that_takes_gzip(client, target):
    # Nor that of anything but inference; the asynchronous one accepts gzip everywhere.
    headers = {"Accept-Encoding": "gzip, deflate"}
    metadata = await client.call("get_model_metadata", "codelang", headers=headers)
    expect_equal("name", metadata["name"], "codelang")
    config = await client.call("get_model_config", "codelang", headers=headers)
    expect_equal("name", config["name"], "codelang")
    await client.call("get_inference_statistics", headers=headers)


async def check_not_a_number_and_infinity_in_json(client, target):
    a = np.zeros((1, 16), np.float32)
    a[0, :3] = [np.nan, np.inf, -np.inf]
    tensors = client.inputs({"a": a, "b": np.ones((1, 16), np.float32)}, binary=False)
    result = await client.call("infer", "addsub", tensors, outputs=[client.output("sum", binary=False)])
    expect_tensor("sum", result.as_numpy("sum"), a + 1)


async def check_classification_in_json(client, target):
    inputs, expected = target.example("iris", "b1")
    outputs = [client.output("probabilities", binary=False, class_count=1)]
    result = await client.infer("iris", inputs, outputs=outputs)
    output = result.get_output("probabilities")
    best = int(expected["probabilities"].argmax())
    expect_equal("datatype and shape", (output["datatype"], output["shape"]), ("BYTES", [1, 1]))
    expect_equal("index", output["data"][0].split(":")[1], str(best))


async def check_query_strings_are_ignored(client, target):
    inputs, expected = target.example("iris")
    result = await client.infer("iris", inputs, query_params={"trace": "1", "tag": ["a", "b"]})
    expect_outputs(result, expected)
    metadata = await client.call("get_model_metadata", "iris", query_params={"x": 1})
    expect_equal("name", metadata["name"], "iris")


async def check_many_requests_at_once(client, target):
    inputs, expected = target.example("digits")
    if client.is_async:
        import asyncio

        results = await asyncio.gather(*(client.infer("digits", inputs) for _ in range(32)))
    else:
        with client.module.InferenceServerClient(target.http, concurrency=8) as concurrent:
            pending = [concurrent.async_infer("digits", client.inputs(inputs)) for _ in range(32)]
            results = [request.get_result() for request in pending]
    for result in results:
        expect_outputs(result, expected)
