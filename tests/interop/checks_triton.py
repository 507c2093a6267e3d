"""Checks that run with each of the four clients of tritonclient."""

import numpy as np

from support import (
    INPUTS,
    IRIS_CLASSES,
    OUTPUTS,
    VERSIONS,
    expect,
    expect_equal,
    expect_superset,
    expect_tensor,
    expect_tensors_described,
)
from triton import INFERENCE_STATISTICS, expect_outputs, iris_row

# ---- health and metadata ----


async def check_server_and_models_are_ready(client, target):
    expect(await client.call("is_server_live"), "server is not live")
    expect(await client.call("is_server_ready"), "server is not ready")
    for model, versions in VERSIONS.items():
        expect(await client.call("is_model_ready", model), f"{model} is not ready")
        for version in versions:
            expect(await client.call("is_model_ready", model, str(version)), f"{model} {version} is not ready")


async def check_unknown_model_is_not_ready(client, target):
    if client.over_http:
        expect_equal("ready", await client.call("is_model_ready", "no-such-model"), False)
        expect_equal("ready", await client.call("is_model_ready", "iris", "99"), False)
    else:
        await client.refused("NOT_FOUND", "no-such-model", "is_model_ready", "no-such-model")
        await client.refused("NOT_FOUND", "99", "is_model_ready", "iris", "99")


async def check_server_metadata(client, target):
    metadata = await client.call("get_server_metadata")
    extensions = metadata["extensions"] if client.over_http else list(metadata.extensions)
    expect(isinstance(extensions, list), f"extensions: expected a list, received {extensions!r}")
    served = [
        "binary_tensor_data",
        "classification",
        "logging",
        "model_configuration",
        "model_repository",
        "parameters",
    ]
    expect_superset("extensions", extensions, [*served, "statistics", "trace"])
    for extension in ("system_shared_memory", "cuda_shared_memory"):
        expect(extension not in extensions, f"{extension} is advertised but not served")
    name, version = (metadata["name"], metadata["version"]) if client.over_http else (metadata.name, metadata.version)
    expect(name and version, f"expected a name and a version, received {name!r} and {version!r}")


async def check_model_metadata(client, target):
    for model, versions in VERSIONS.items():
        metadata = await client.model_metadata(model)
        expect_equal("name", metadata["name"], model)
        expect_equal(f"versions of {model}", sorted(metadata["versions"]), [str(version) for version in versions])
        expect(metadata["platform"], f"{model} has no platform")
        expect_tensors_described(f"the inputs of {model}", metadata["inputs"], INPUTS[model])
        expect_tensors_described(f"the outputs of {model}", metadata["outputs"], OUTPUTS[model])


async def check_metadata_of_one_version(client, target):
    for version in VERSIONS["digits"]:
        metadata = await client.model_metadata("digits", str(version))
        expect_equal("versions", metadata["versions"], [str(version)])
        expect_equal("inputs", metadata["inputs"], INPUTS["digits"])


async def check_model_config(client, target):
    for model in VERSIONS:
        config = await client.model_config(model)
        expect_equal("name", config["name"], model)
        expect(isinstance(config["max_batch_size"], int), f"max_batch_size is {config['max_batch_size']!r}")
        # The configuration leaves the batch dimension out where it states a batch size.
        batch = [-1] if config["max_batch_size"] > 0 else []
        for side, expected in (("input", INPUTS[model]), ("output", OUTPUTS[model])):
            tensors = {tensor["name"]: (tensor["data_type"], batch + tensor["dims"]) for tensor in config[side]}
            expected = {name: (f"TYPE_{datatype}", shape) for name, (datatype, shape) in expected.items()}
            expect_tensors_described(f"{side} of {model}", tensors, expected)
        for tensor in config["input"]:
            expect_equal("optional", tensor.get("optional", False), False)
    config = await client.model_config("digits", "1")
    expect_equal("version policy", int(config["version_policy"]["latest"]["num_versions"]), 2)


# ---- inference ----


async def check_recorded_examples(client, target):
    for model, versions in VERSIONS.items():
        for version in versions:
            for example in ("b1", "b3"):
                inputs, expected = target.example(model, example, version)
                result = await client.infer(model, inputs, model_version=str(version))
                expect_outputs(result, expected)
                expect_equal("reply", client.reply_head(result)[:2], (model, str(version)))


async def check_all_outputs_without_a_list(client, target):
    inputs, expected = target.example("addsub")
    result = await client.infer("addsub", inputs)
    expect_outputs(result, expected)
    expect_equal("outputs", sorted(client.reply_head(result)[3]), ["diff", "prod", "sum"])


async def check_one_listed_output(client, target):
    inputs, expected = target.example("addsub")
    result = await client.infer("addsub", inputs, outputs=[client.output("diff")])
    expect_tensor("diff", result.as_numpy("diff"), expected["diff"])
    expect_equal("outputs", client.reply_head(result)[3], ["diff"])


async def check_order_of_inputs_is_free(client, target):
    inputs, expected = target.example("addsub")
    expect_outputs(await client.infer("addsub", {"b": inputs["b"], "a": inputs["a"]}), expected)


async def check_version_that_answers_without_a_number(client, target):
    for model in VERSIONS:
        inputs, expected = target.example(model)
        result = await client.infer(model, inputs)
        expect_outputs(result, expected)
        expect_equal("reply", client.reply_head(result)[:2], (model, str(target.default_version(model))))


async def check_label_names_a_version(client, target):
    target.require_label()
    name = f"digits@{target.label}"
    inputs, expected = target.example("digits", version=target.label_version)
    result = await client.infer(name, inputs)
    expect_outputs(result, expected)
    expect_equal("reply", client.reply_head(result)[:2], (name, str(target.label_version)))
    expect(await client.call("is_model_ready", name), f"{name} is not ready")
    metadata = await client.model_metadata(name)
    expect_equal("metadata", (metadata["name"], metadata["inputs"]), (name, INPUTS["digits"]))
    await client.refused("NOT_FOUND", "no-such-label", "infer", "digits@no-such-label", client.inputs(inputs))


async def check_request_id_is_echoed(client, target):
    for request_id in ("", "42", "order 7/é", "x" * 200):
        result = await client.infer("iris", {"X": iris_row()}, request_id=request_id)
        expect_equal("id", client.reply_head(result)[2], request_id)


async def check_parameters_are_accepted(client, target):
    parameters = {"tenant": "a", "attempt": 3, "dry_run": True, "ratio": 0.5}
    inputs, expected = target.example("iris")
    result = await client.infer("iris", inputs, parameters=parameters, priority=1, timeout=60_000_000)
    expect_outputs(result, expected)


async def check_timeout_parameter_is_a_deadline(client, target):
    inputs = client.inputs({"X": iris_row()})
    # One microsecond is over before any request is decoded.
    await client.refused("DEADLINE_EXCEEDED", "Request timeout expired", "infer", "iris", inputs, timeout=1)


async def check_request_over_4_mib(client, target):
    rows = np.random.default_rng(0).normal(size=(2, 40_000, 16)).astype(np.float32)
    result = await client.infer("addsub", {"a": rows[0], "b": rows[1]})
    expect_tensor("sum", result.as_numpy("sum"), rows[0] + rows[1])
    expect_tensor("prod", result.as_numpy("prod"), rows[0] * rows[1])


async def check_not_a_number_and_infinity(client, target):
    a = np.zeros((1, 16), np.float32)
    a[0, :3] = [np.nan, np.inf, -np.inf]
    result = await client.infer("addsub", {"a": a, "b": np.ones((1, 16), np.float32)})
    expect_tensor("sum", result.as_numpy("sum"), a + 1)


async def check_classification(client, target):
    inputs, expected = target.example("iris")
    for class_count in (1, 2, 3):
        outputs = [client.output("probabilities", class_count=class_count)]
        result = await client.infer("iris", inputs, outputs=outputs)
        expect_classes(result.as_numpy("probabilities"), expected["probabilities"], class_count, IRIS_CLASSES)
    # More classes than there are: all of them.
    result = await client.infer("iris", inputs, outputs=[client.output("probabilities", class_count=9)])
    expect_classes(result.as_numpy("probabilities"), expected["probabilities"], 3, IRIS_CLASSES)


async def check_classification_without_labels(client, target):
    inputs, expected = target.example("wine", "b1")
    result = await client.infer("wine", inputs, outputs=[client.output("probabilities", class_count=2)])
    expect_classes(result.as_numpy("probabilities"), expected["probabilities"], 2, None)


def expect_classes(received, probabilities, class_count, labels):
    """`value:index[:label]` with six decimals, the largest first, in a row for each row."""
    expect_equal("shape of classes", list(received.shape), [len(probabilities), class_count])
    for row, classes in zip(probabilities, received):
        parts = [text.decode().split(":") for text in classes]
        values = np.array([float(part[0]) for part in parts])
        indices = [int(part[1]) for part in parts]
        expect_tensor("values of classes", values, np.sort(row)[::-1][:class_count])
        expect_tensor("values at the indices", values, row[indices])
        expect_equal("number of classes", len(set(indices)), class_count)
        expect(all(len(part[0].split(".")[1]) == 6 for part in parts), f"expected six decimals, received {parts}")
        expected = [[labels[index]] if labels else [] for index in indices]
        expect_equal("labels", [part[2:] for part in parts], expected)


# ---- statistics ----


async def check_statistics_count_every_request(client, target):
    requests, rows = 5, 3
    inputs, _ = target.example("addsub")
    (before,) = await client.statistics("addsub")
    for _ in range(requests):
        await client.infer("addsub", inputs)
    (after,) = await client.statistics("addsub")
    expect_equal("statistics of", (after["name"], after["version"]), ("addsub", "1"))
    expect_equal("members", sorted(after["inference_stats"]), sorted(INFERENCE_STATISTICS))

    def rise(member):
        return after["inference_stats"][member]["count"] - before["inference_stats"][member]["count"]

    for member in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        expect_equal(f"rise of {member}.count", rise(member), requests)
    for member in ("fail", "cache_hit", "cache_miss"):
        expect_equal(f"rise of {member}.count", rise(member), 0)
    expect_equal("rise of inference_count", after["inference_count"] - before["inference_count"], requests * rows)
    # One after the other, they can't share an execution.
    expect_equal("rise of execution_count", after["execution_count"] - before["execution_count"], requests)
    time_spent = [entry["inference_stats"]["success"]["ns"] for entry in (before, after)]
    expect(time_spent[1] > time_spent[0], f"success.ns: expected a rise, received {time_spent}")
    expect(after["last_inference"] > 0, "last_inference: expected a time in milliseconds, received 0")


async def check_statistics_by_version_and_of_all_models(client, target):
    (entry,) = await client.statistics("digits", "1")
    expect_equal("entry", (entry["name"], entry["version"]), ("digits", "1"))
    versions = sorted(entry["version"] for entry in await client.statistics("digits"))
    expect_equal("versions", versions, ["1", "2"])
    served = {(entry["name"], entry["version"]) for entry in await client.statistics()}
    expect_superset("all models", served, [(model, str(version)) for model in VERSIONS for version in VERSIONS[model]])


async def check_statistics_of_an_unknown_model(client, target):
    fragment = "requested model 'no-such-model' is not available"
    await client.refused("INVALID_ARGUMENT", fragment, "get_inference_statistics", "no-such-model")


# ---- the repository ----


async def check_repository_index(client, target):
    index = await client.repository_index()
    for model, versions in VERSIONS.items():
        for version in versions:
            expect_equal(f"state of {model} {version}", index.get((model, str(version))), "READY")
    expect_superset("ready models", await client.ready_index(), VERSIONS)


async def check_repository_control_is_refused_while_polling(client, target):
    fragment = "explicit model load / unload is not allowed if polling is enabled"
    await client.refused("UNAVAILABLE", fragment, "load_model", "iris")
    await client.refused("UNAVAILABLE", fragment, "unload_model", "iris")
    expect(await client.call("is_model_ready", "iris"), "iris is gone")


# ---- settings ----


async def check_trace_settings(client, target):
    for model in (None, "iris"):
        before = await client.trace_settings(model=model)
        expect_superset("trace settings", before, ["trace_level", "trace_rate", "trace_count", "log_frequency"])
        expect(
            isinstance(before["trace_level"], list), f"trace_level: expected a list, received {before['trace_level']!r}"
        )
        expect(isinstance(before["trace_rate"], str), f"trace_rate: expected text, received {before['trace_rate']!r}")
        after = await client.trace_settings({"trace_rate": "500"}, model)
        expect_equal("trace_rate", after["trace_rate"], "500")
        expect_equal("trace_rate", (await client.trace_settings(model=model))["trace_rate"], "500")
        cleared = await client.trace_settings({"trace_rate": None}, model)
        expect_equal("trace_rate once cleared", cleared["trace_rate"], before["trace_rate"])
    await client.refused("NOT_FOUND", "no-such-model", "get_trace_settings", "no-such-model")


async def check_log_settings(client, target):
    before = await client.log_settings()
    for name, kind in {"log_info": bool, "log_warning": bool, "log_error": bool, "log_verbose_level": int}.items():
        expect(type(before.get(name)) is kind, f"{name}: expected a {kind.__name__}, received {before.get(name)!r}")
    expect(before.get("log_format") in ("default", "ISO8601"), f"log_format is {before.get('log_format')!r}")
    after = await client.log_settings({"log_verbose_level": before["log_verbose_level"] + 1})
    expect_equal("log_verbose_level", after["log_verbose_level"], before["log_verbose_level"] + 1)
    restored = await client.log_settings({"log_verbose_level": before["log_verbose_level"]})
    expect_equal("log settings once restored", restored, before)
    await client.refused("UNSUPPORTED", "log_file", "update_log_settings", {"log_file": "elsewhere.log"})


async def check_shared_memory_is_not_served(client, target):
    await client.refused("UNSUPPORTED", "", "get_system_shared_memory_status")
    await client.refused("UNSUPPORTED", "", "get_cuda_shared_memory_status")
    await client.refused("UNSUPPORTED", "", "register_system_shared_memory", "region", "/key", 64)
    await client.refused("UNSUPPORTED", "", "unregister_system_shared_memory")
    await client.refused("UNSUPPORTED", "", "unregister_cuda_shared_memory")


# ---- errors ----


async def check_unknown_model(client, target):
    fragment = "Request for unknown model: 'no-such-model' is not found"
    inputs = client.inputs({"X": iris_row()})
    await client.refused("NOT_FOUND", fragment, "infer", "no-such-model", inputs)
    await client.refused("NOT_FOUND", fragment, "get_model_metadata", "no-such-model")
    await client.refused("NOT_FOUND", fragment, "get_model_config", "no-such-model")


async def check_unknown_version(client, target):
    fragment = "Request for unknown model: 'iris' version 99 is not found"
    inputs = client.inputs({"X": iris_row()})
    await client.refused("NOT_FOUND", fragment, "infer", "iris", inputs, model_version="99")
    await client.refused("NOT_FOUND", fragment, "get_model_metadata", "iris", "99")


async def check_wrong_datatype(client, target):
    fragment = "inference input 'X' data-type is 'FP64', but model 'iris' expects 'FP32'"
    await client.refused(
        "INVALID_ARGUMENT", fragment, "infer", "iris", client.inputs({"X": iris_row().astype(np.float64)})
    )


async def check_wrong_shape(client, target):
    fragment = "unexpected shape for input 'X' for model 'iris'. Expected [-1,4], got [1,5]"
    await client.refused(
        "INVALID_ARGUMENT", fragment, "infer", "iris", client.inputs({"X": np.zeros((1, 5), np.float32)})
    )


async def check_missing_input(client, target):
    fragment = "expected 2 inputs but got 1 inputs for model 'addsub'"
    inputs = client.inputs({"a": np.zeros((1, 16), np.float32)})
    await client.refused("INVALID_ARGUMENT", fragment, "infer", "addsub", inputs)
    # The id of the request leads the text, so that a log line finds its request.
    await client.refused("INVALID_ARGUMENT", f"[request id: 42] {fragment}", "infer", "addsub", inputs, request_id="42")


async def check_unknown_input(client, target):
    fragment = "unexpected inference input 'Y' for model 'iris'"
    await client.refused("INVALID_ARGUMENT", fragment, "infer", "iris", client.inputs({"Y": iris_row()}))


async def check_unknown_output(client, target):
    fragment = "unexpected inference output 'odds' for model 'iris'"
    inputs = client.inputs({"X": iris_row()})
    await client.refused("INVALID_ARGUMENT", fragment, "infer", "iris", inputs, outputs=[client.output("odds")])


async def check_an_error_leaves_the_connection_usable(client, target):
    inputs, expected = target.example("iris")
    for _ in range(3):
        await client.refused("NOT_FOUND", "no-such-model", "infer", "no-such-model", client.inputs(inputs))
        expect_outputs(await client.infer("iris", inputs), expected)
