"""Checks for tritonclient.grpc and tritonclient.grpc.aio: streams, compression and deadlines."""

import asyncio
import queue

import grpc
import numpy as np

from support import TIMEOUT_S, expect, expect_contains, expect_equal, expect_raises
from triton import expect_outputs, iris_row


async def check_replies_are_raw(client, target):
    inputs, expected = target.example("iris")
    reply = (await client.infer("iris", inputs)).get_response()
    expect_equal("raw outputs", len(reply.raw_output_contents), len(expected))
    expect(not any(output.HasField("contents") for output in reply.outputs), "expected no typed contents")


async def check_compression(client, target):
    inputs, expected = target.example("digits")
    for algorithm in ("gzip", "deflate"):
        expect_outputs(await client.infer("digits", inputs, compression_algorithm=algorithm), expected)


async def check_client_timeout(client, target):
    # Takes a second or so to compute, many times what the client is ready to wait.
    ids = np.zeros((600, 128), np.int64)
    inputs = client.inputs({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    await client.refused("DEADLINE_EXCEEDED", "", "infer", "codelang", inputs, client_timeout=0.02)
    inputs, expected = target.example("iris")
    expect_outputs(await client.infer("iris", inputs, client_timeout=TIMEOUT_S), expected)


async def check_many_requests_at_once(client, target):
    inputs, expected = target.example("digits")
    if client.is_async:
        results = await asyncio.gather(*(client.infer("digits", inputs) for _ in range(32)))
    else:
        answers = queue.Queue()
        for _ in range(32):
            client.client.async_infer(
                "digits", client.inputs(inputs), lambda result, error: answers.put((result, error))
            )
        results = [expect_result(answers.get(timeout=TIMEOUT_S)) for _ in range(32)]
    for result in results:
        expect_outputs(result, expected)


def expect_result(answer):
    result, error = answer
    expect(error is None, f"expected a result, received {error}")
    return result


# ---- streams ----


async def stream(client, requests, headers=None, **named):
    """Send requests, (model, tensors, id) each, down one stream; return the (result, error) pairs as they come."""
    if client.is_async:

        async def arguments():
            for model, tensors, request_id in requests:
                yield {"model_name": model, "inputs": client.inputs(tensors), "request_id": request_id}

        return [
            answer
            async for answer in client.client.stream_infer(arguments(), stream_timeout=TIMEOUT_S, headers=headers)
        ]

    answers = queue.Queue()
    client.client.start_stream(
        lambda result, error: answers.put((result, error)), stream_timeout=TIMEOUT_S, headers=headers
    )
    for model, tensors, request_id in requests:
        client.client.async_stream_infer(model, client.inputs(tensors), request_id=request_id, **named)
    # Waits until the server has answered all of them and closed the stream.
    client.client.stop_stream()
    return [answers.get_nowait() for _ in range(answers.qsize())]


async def check_stream_answers_in_order(client, target):
    models = ["iris", "digits", "addsub", "codelang", "wine"] * 4
    examples = [target.example(model) for model in models]
    requests = [(model, inputs, str(index)) for index, (model, (inputs, _)) in enumerate(zip(models, examples))]
    answers = await stream(client, requests)
    expect_equal("answers", len(answers), len(requests))
    for index, (answer, model, (_, expected)) in enumerate(zip(answers, models, examples)):
        result = expect_result(answer)
        expect_outputs(result, expected)
        expect_equal("reply", client.reply_head(result)[:3], (model, str(target.default_version(model)), str(index)))


async def check_stream_replies_are_final(client, target):
    answers = await stream(client, [("iris", {"X": iris_row()}, "")])
    if not client.is_async:
        # Nothing empty follows an answer that is final itself. Only this client can ask.
        answers += await stream(client, [("iris", {"X": iris_row()}, "")], enable_empty_final_response=True)
        expect_equal("answers", len(answers), 2)
    for answer in answers:
        parameters = expect_result(answer).get_response().parameters
        expect(
            parameters["triton_final_response"].bool_param, "expected the parameter triton_final_response to be true"
        )


async def check_stream_outlives_an_error(client, target):
    inputs, expected = target.example("iris")
    requests = [
        ("iris", inputs, "1"),
        ("no-such-model", inputs, "2"),
        ("iris", {"Y": iris_row()}, "3"),
        ("iris", inputs, "4"),
    ]
    answers = await stream(client, requests)
    expect_equal("answers", len(answers), 4)
    expect_outputs(expect_result(answers[0]), expected)
    expect_stream_error(answers[1], "Request for unknown model: 'no-such-model' is not found")
    expect_stream_error(answers[2], "unexpected inference input 'Y' for model 'iris'")
    expect_outputs(expect_result(answers[3]), expected)


def expect_stream_error(answer, fragment):
    result, error = answer
    expect(error is not None, f"expected an error with {fragment!r}, received {result}")
    expect_contains("error", error.message(), fragment)


async def check_stream_that_asks_for_grpc_errors(client, target):
    fragment = "Request for unknown model: 'no-such-model' is not found"
    requests, headers = [("no-such-model", {"X": iris_row()}, "")], {"triton_grpc_error": "true"}
    if client.is_async:
        with expect_raises(grpc.RpcError) as caught:
            await stream(client, requests, headers=headers)
        expect_equal("status", caught.error.code(), grpc.StatusCode.NOT_FOUND)
        expect_contains("error", caught.error.details(), fragment)
    else:
        ((result, error),) = await stream(client, requests, headers=headers)
        expect(error is not None, f"expected an error, received {result}")
        client.expect_status(error, "NOT_FOUND", fragment)
