"""Checks of repository control, for a server that leaves loading to its clients."""

from tritonclient.utils import InferenceServerException

from support import VERSIONS, expect, expect_contains, expect_equal, expect_raises, expect_superset
from triton import expect_outputs, iris_row


async def check_loaded_models_serve(client, target):
    for model in VERSIONS:
        await client.call("load_model", model)
        expect(await client.call("is_model_ready", model), f"{model} is not ready")
        inputs, expected = target.example(model)
        expect_outputs(await client.infer(model, inputs), expected)
    expect_superset("ready models", await client.ready_index(), VERSIONS)


async def check_loading_again_changes_nothing(client, target):
    await client.call("load_model", "iris")
    inputs, expected = target.example("iris")
    for _ in range(3):
        await client.call("load_model", "iris")
        expect_outputs(await client.infer("iris", inputs), expected)


async def check_unloaded_model_is_gone_until_it_is_loaded(client, target):
    inputs, expected = target.example("iris")
    await client.call("load_model", "iris")
    await client.call("unload_model", "iris")
    with expect_raises(InferenceServerException) as caught:
        await client.infer("iris", inputs)
    expect_contains("error", caught.error.message(), "Request for unknown model: 'iris'")
    expect("iris" not in await client.ready_index(), "iris is among the ready models")
    expect("iris" in {model for model, _ in await client.repository_index()}, "iris left the index")
    await client.call("load_model", "iris")
    expect_outputs(await client.infer("iris", inputs), expected)
    expect("iris" in await client.ready_index(), "iris is not among the ready models")


async def check_other_models_serve_on(client, target):
    inputs, expected = target.example("wine")
    await client.call("load_model", "wine")
    await client.call("load_model", "iris")
    await client.call("unload_model", "iris")
    expect_outputs(await client.infer("wine", inputs), expected)
    await client.call("load_model", "iris")


async def check_both_versions_load_and_unload_together(client, target):
    await client.call("load_model", "digits")
    for version in ("1", "2"):
        expect(await client.call("is_model_ready", "digits", version), f"digits {version} is not ready")
    await client.call("unload_model", "digits", unload_dependents=True)
    index = await client.repository_index()
    expect(not any(state == "READY" for (model, _), state in index.items() if model == "digits"), f"index is {index}")
    await client.call("load_model", "digits")


async def check_unknown_model_does_not_load(client, target):
    await client.refused("INTERNAL", "failed to load 'no-such-model'", "load_model", "no-such-model")
    await client.refused("NOT_FOUND", "no-such-model", "infer", "no-such-model", client.inputs({"X": iris_row()}))


async def check_unknown_model_does_not_unload(client, target):
    fragment = "Model to be unloaded has not been served"
    await client.refused("INVALID_ARGUMENT", fragment, "unload_model", "no-such-model")


async def check_unknown_load_parameter_is_refused(client, target):
    with expect_raises(InferenceServerException) as caught:
        await client.call("load_model", "iris", files={"no-such-parameter": b"x"})
    expect(caught.error.message(), "expected a text")
    expect_equal("ready", await client.call("is_model_ready", "iris"), True)
