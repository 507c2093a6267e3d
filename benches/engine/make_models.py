#!/usr/bin/env python3
"""Writes the models of the engine's benchmark that the zoo does not have, into the folder that is named.

Tree ensembles as scikit-learn and skl2onnx write them, each with 512 rows that it was not trained on (`<name>.npy`), and two models
of large weights (`weights_*.onnx`). Nothing is fetched, and every seed is fixed.
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

FEATURES = 30
TRAINED_ON, ASKED = 2000, 512


def data(classes):
    x, y = make_classification(
        TRAINED_ON + ASKED, FEATURES, n_informative=12, n_classes=classes, random_state=classes
    )
    return x.astype(np.float32), y


def ensembles():
    """Name, model, classes; 0 classes: a regression."""
    for trees in (100, 500):
        yield f"forest_2_classes_{trees}", RandomForestClassifier(trees, random_state=0), 2
        yield f"forest_5_classes_{trees}", RandomForestClassifier(trees, max_depth=10, random_state=0), 5
        yield f"forest_regression_{trees}", RandomForestRegressor(trees, max_depth=10, random_state=0), 0
        yield f"boosting_2_classes_{trees}", GradientBoostingClassifier(n_estimators=trees, random_state=0), 2
        yield f"boosting_regression_{trees}", GradientBoostingRegressor(n_estimators=trees, random_state=0), 0
    yield "boosting_5_classes_100", GradientBoostingClassifier(n_estimators=100, random_state=0), 5
    yield "extra_trees_5_classes_100", ExtraTreesClassifier(100, random_state=0), 5


def write_ensembles(folder):
    for name, model, classes in ensembles():
        x, y = data(max(classes, 2))
        y = y if classes else y + x[:, 0]
        model.fit(x[:TRAINED_ON], y[:TRAINED_ON])
        options = {id(model): {"zipmap": False}} if classes else None
        exported = to_onnx(model, x[:1], options=options)
        exported.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
        onnx.save(exported, folder / f"{name}.onnx")
        np.save(folder / f"{name}.npy", x[TRAINED_ON:])
        print(name, flush=True)


def save(folder, name, nodes, weights, shape):
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *shape])
    graph = helper.make_graph(nodes, name, [given], [made], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / f"{name}.onnx")


def chain(operator, count, shape, **attributes):
    """`count` operators in a row, each with weights of its own of this shape, and those weights."""
    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.01, shape).astype(np.float32) for _ in range(count)]
    names = ["x", *(f"h{i}" for i in range(1, count)), "y"]
    nodes = [helper.make_node(operator, [names[i], f"w{i}"], [names[i + 1]], **attributes) for i in range(count)]
    return nodes, [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]


def write_large_weights(folder):
    nodes, weights = chain("MatMul", 4, (2048, 2048))
    save(folder, "weights_matmul_64_mb", nodes, weights, [2048])
    nodes, weights = chain("Conv", 6, (512, 512, 3, 3), pads=[1, 1, 1, 1])
    save(folder, "weights_conv_54_mb", nodes, weights, [512, 7, 7])


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_large_weights(folder)
    write_ensembles(folder)


if __name__ == "__main__":
    main()
