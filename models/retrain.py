#!/usr/bin/env python3
"""Train a new version of `digits` on what `headgate log export` wrote, and put it into a model repository.

    headgate log export --model digits --label digit --output train.parquet
    python retrain.py train.parquet --output MODELS/digits/3

The new version takes the same input (`image` [N,1,8,8]) and gives the same output (`probabilities` [N,10]) as the others.
It appears in the repository whole: with recorded examples that the server runs before it serves, and with `lineage.json`,
which names the data set by the digest of the export. The packages are numpy, pyarrow, scikit-learn, skl2onnx and onnx, as
in requirements.txt.
"""

import argparse
import json
import pathlib
import shutil

import numpy as np
import onnx
import pyarrow.parquet
from onnx import TensorProto, helper
from sklearn.neural_network import MLPClassifier

CLASSES = 10
PIXELS = 64
SEED = 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("export", type=pathlib.Path, help="Parquet file of `headgate log export`")
    arguments.add_argument("--output", type=pathlib.Path, required=True, help="folder of the new version, not there yet")
    arguments.add_argument("--run-id", help="your own name of this run, kept with the version")
    arguments = arguments.parse_args()

    images, labels = read(arguments.export)
    network = MLPClassifier(hidden_layer_sizes=(64,), max_iter=400, random_state=SEED)
    network.fit(images, labels)
    manifest = json.loads(arguments.export.with_suffix(".manifest.json").read_text())
    lineage = {"dataset": manifest["dataset"]}
    if arguments.run_id:
        lineage["run_id"] = arguments.run_id
    publish(to_onnx(network), network, images, lineage, arguments.output)
    print(f"{arguments.output}: trained on {len(labels)} rows of {lineage['dataset']}")


def read(export):
    """Images [rows, 64] and labels [rows] of an export."""
    table = pyarrow.parquet.read_table(export, columns=["in_image", "label"])
    images = np.stack(table["in_image"].to_numpy(zero_copy_only=False)).astype(np.float32).reshape(-1, PIXELS)
    return images, table["label"].to_numpy().astype(np.int64)


def to_onnx(network):
    """The network as ONNX, from images to the probabilities of all ten classes."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    if list(network.classes_) != list(range(CLASSES)):
        raise SystemExit(f"expected labels of all {CLASSES} digits, got {list(network.classes_)}")
    exported = to_onnx(
        network,
        initial_types=[("pixels", FloatTensorType([None, PIXELS]))],
        options={id(network): {"zipmap": False}},
        target_opset={"": 15, "ai.onnx.ml": 3},
    )
    graph = exported.graph
    # The served input is an image, and only the probabilities are served.
    graph.node.insert(0, helper.make_node("Flatten", ["image"], ["pixels"], axis=1))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", CLASSES])
    del graph.input[:], graph.output[:]
    graph.input.append(image)
    graph.output.append(output)
    drop_unused(graph)
    onnx.checker.check_model(exported)
    return exported


def drop_unused(graph):
    """Takes away the nodes that no output needs: those of the label."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.insert(0, node)
    del graph.node[:]
    graph.node.extend(kept)
    initializers = [value for value in graph.initializer if value.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(initializers)


def publish(model, network, images, lineage, output):
    """Writes the version beside its place and moves it there in one step."""
    if output.exists():
        raise SystemExit(f"{output} is there already: a version never changes, give the next number")
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "examples").mkdir(parents=True)
    (partial / "model.onnx").write_bytes(model.SerializeToString())
    rows = images[:4]
    expected = network.predict_proba(rows).astype(np.float32)
    examples = {"in/image": rows.reshape(-1, 1, 8, 8), "out/probabilities": expected}
    np.savez(partial / "examples" / "b4.npz", **examples)
    (partial / "lineage.json").write_text(json.dumps(lineage, indent=2) + "\n")
    partial.rename(output)


if __name__ == "__main__":
    main()
