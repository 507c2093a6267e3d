"""Writes ONNX's own tests of single operators as models with recorded examples, and what ONNX Runtime makes of each.

    make.py FOLDER

For each test whose inputs and outputs are tensors of datatypes that a request can bring: FOLDER/<test>/model.onnx and
example.npz (keys `in/<name>`, `out/<name>`; texts beside it in example.strings.json), and a line of FOLDER/tests.jsonl:
{"name", "domain", "operators", "onnxruntime": "agrees" | "differs" | "refuses"}. Tests of a function's expanded body
(`_expanded`) are left out: they test the operators that it is made of.
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

# The datatypes that NumPy writes and a request can bring, by NumPy's names.
DATATYPES = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"}


def arrays(values, infos):
    """NumPy arrays, or None where one of the values is no such tensor."""
    found = {}
    for value, info in zip(values, infos, strict=False):
        if isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        if not isinstance(value, (np.ndarray, np.generic)):
            return None
        value = np.asarray(value)
        is_text = value.dtype.kind in "OSU"
        if not (is_text or value.dtype.name in DATATYPES) or info.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16:
            return None
        found[info.name] = value
    return found


def agrees(got, expected, case):
    got = np.asarray(got)
    if got.shape != expected.shape:
        return False
    if expected.dtype.kind in "OSU":
        return (got.astype(str) == expected.astype(str)).all()
    close = np.allclose(got.astype(np.float64), expected.astype(np.float64), rtol=case.rtol, atol=case.atol, equal_nan=True)
    return got.dtype == expected.dtype and close


def onnxruntime_says(case, inputs, outputs):
    try:
        session = onnxruntime.InferenceSession(case.model.SerializeToString(), providers=["CPUExecutionProvider"])
        got = session.run(list(outputs), inputs)
    except Exception:
        return "refuses"
    return "agrees" if all(agrees(a, b, case) for a, b in zip(got, outputs.values(), strict=True)) else "differs"


def write(folder, inputs, outputs):
    sides = {"in": inputs, "out": outputs}
    texts = {side: {} for side in sides}
    numbers = {}
    for side, values in sides.items():
        for name, value in values.items():
            if value.dtype.kind in "OSU":
                texts[side][name] = {"shape": list(value.shape), "data": [str(text) for text in value.ravel()]}
            else:
                numbers[f"{side}/{name}"] = np.ascontiguousarray(value).reshape(value.shape)
    np.savez(folder / "example.npz", **numbers)
    if any(texts.values()):
        (folder / "example.strings.json").write_text(json.dumps(texts))


def main():
    home = pathlib.Path(sys.argv[1])
    warnings.filterwarnings("ignore")
    onnxruntime.set_default_logger_severity(4)
    with open(home / "tests.jsonl", "w") as lines:
        for case in collect_testcases(None):
            if case.model is None or not case.data_sets or "_expanded" in case.name:
                continue
            graph = case.model.graph
            inputs, outputs = case.data_sets[0]
            inputs, outputs = arrays(inputs, graph.input), arrays(outputs, graph.output)
            if inputs is None or outputs is None:
                continue
            folder = home / case.name
            folder.mkdir()
            onnx.save(case.model, folder / "model.onnx")
            write(folder, inputs, outputs)
            line = {
                "name": case.name,
                "domain": graph.node[0].domain or "ai.onnx",
                "operators": sorted({node.op_type for node in graph.node}),
                "onnxruntime": onnxruntime_says(case, inputs, outputs),
            }
            print(json.dumps(line), file=lines)


main()
