#!/usr/bin/env python3
"""Rebuild the models of this directory: train, export to ONNX, record examples.

    python make.py [NAME...] --output DIR       rebuild the named models (all by default) into DIR
    python make.py [NAME...] --check DIR        run the examples in DIR and compare with what they record

`codelang` learns from source files. `--text DIR` (repeatable) says where to look for them; by default that is this
Python's site-packages, the local cargo registry and npm. The packages are those of requirements.txt; `iris`, `wine` and
`addsub` do without torch.
"""

import argparse
import dataclasses
import json
import pathlib
import random
import sys

import numpy as np
import onnx
import onnxruntime

SEED = 0
OPSET = 17
ABSOLUTE_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-3


@dataclasses.dataclass
class Version:
    """One version of a model, ready to be written."""

    number: int
    model: bytes
    # Rows to record as examples, by example name: input name -> tensor.
    examples: dict
    note: str


# ---- tabular models: scikit-learn ----


def make_iris():
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    return [tabular(load_iris, model)]


def make_wine():
    from sklearn.datasets import load_wine
    from sklearn.ensemble import RandomForestClassifier

    return [tabular(load_wine, RandomForestClassifier(50, random_state=SEED))]


def tabular(load, classifier):
    """Fit a classifier on 70 % of a data set: `X` [N, features] -> `label` [N], `probabilities` [N, classes]."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.model_selection import train_test_split

    rows, labels = load(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        rows, labels, test_size=0.3, random_state=SEED, stratify=labels
    )
    classifier.fit(train, train_labels)
    exported = to_onnx(
        classifier,
        initial_types=[("X", FloatTensorType([None, rows.shape[1]]))],
        options={id(classifier): {"zipmap": False}},
        target_opset={"": 15, "ai.onnx.ml": 3},
    )
    for value in [*exported.graph.input, *exported.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    accuracy = classifier.score(test, test_labels)
    return Version(
        1, exported.SerializeToString(), rows_as_examples(X=test.astype(np.float32)), f"accuracy {accuracy:.3f}"
    )


# ---- digits: two convolutional networks, torch ----


def make_digits():
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.35, random_state=SEED, stratify=labels
    )
    torch.manual_seed(SEED)
    # Version 1 is small and sees 300 images, so that version 2 has something to improve.
    networks = {
        1: fit_digits(digit_network(4, 4, 16), train[:300], train_labels[:300], epochs=30, noise=0.0),
        2: fit_digits(digit_network(16, 32, 64), train, train_labels, epochs=40, noise=0.05),
    }
    versions = []
    for number, network in networks.items():
        with torch.no_grad():
            accuracy = float((network(torch.tensor(test)).argmax(1).numpy() == test_labels).mean())
        model = export_torch(
            network, {"image": test[:2]}, ["probabilities"], {"image": {0: "N"}, "probabilities": {0: "N"}}
        )
        versions.append(Version(number, model, rows_as_examples(image=test), f"accuracy {accuracy:.3f}"))
    return versions


def digit_network(first_channels, second_channels, hidden):
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, first_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(first_channels, second_channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second_channels * 16, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
        nn.Softmax(dim=1),
    )


def fit_digits(network, images, labels, epochs, noise):
    import torch

    images, labels = torch.tensor(images), torch.tensor(labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            noisy = images[batch] + noise * torch.randn_like(images[batch])
            loss = torch.nn.functional.nll_loss(torch.log(network(noisy) + 1e-9), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


# ---- codelang: which language is this text? A byte-level transformer, torch ----

LANGUAGES = {
    "python": ["*.py"],
    "rust": ["*.rs"],
    "cpp": ["*.h", "*.hpp", "*.cc", "*.cpp"],
    "javascript": ["*.js"],
    "json": ["*.json"],
    "markdown": ["*.md"],
    "toml": ["*.toml"],
}
PAD = 256
LONGEST_TEXT = 128
EXAMPLE_LENGTH = 64
FEWEST_FILES = 20
MOST_FILES = 4000


def make_codelang(text_dirs, epochs=8, snippets=2500):
    import torch

    torch.manual_seed(SEED)
    draw = random.Random(SEED)
    train, test = [], []
    for label, (language, patterns) in enumerate(LANGUAGES.items()):
        files = source_files(language, patterns, text_dirs, draw)
        # Whole files are held out: a test snippet never comes from a file that was learned.
        held_out = len(files) // 5
        train += [(text, label) for text in cut_snippets(files[held_out:], snippets, draw)]
        test += [(text, label) for text in cut_snippets(files[:held_out], 150, draw)]
    draw.shuffle(test)
    network = fit_codelang(text_network(), train, epochs)
    ids, mask, labels = encode(test, LONGEST_TEXT)
    with torch.no_grad():
        predicted = network(torch.tensor(ids), torch.tensor(mask))[0].argmax(1).numpy()
    accuracy = float((predicted == labels).mean())

    ids, mask, _ = encode(test[:4], EXAMPLE_LENGTH)
    axes = {
        "input_ids": {0: "N", 1: "S"},
        "attention_mask": {0: "N", 1: "S"},
        "probabilities": {0: "N"},
        "embedding": {0: "N"},
    }
    inputs = {"input_ids": ids, "attention_mask": mask}
    model = export_torch(
        network, {name: rows[1:] for name, rows in inputs.items()}, ["probabilities", "embedding"], axes
    )
    return [Version(1, model, rows_as_examples(**inputs), f"accuracy {accuracy:.3f}")]


def source_files(language, patterns, text_dirs, draw):
    files = sorted({path for root in text_dirs for pattern in patterns for path in root.rglob(pattern) if usable(path)})
    if len(files) < FEWEST_FILES:
        sys.exit(f"codelang needs {FEWEST_FILES} {language} files, found {len(files)}: name directories with --text")
    return draw.sample(files, min(len(files), MOST_FILES))


def usable(path):
    return path.is_file() and path.stat().st_size > 400


def cut_snippets(files, count, draw):
    """Pieces of 48 to 128 bytes that begin at the start of a line where one is near."""
    snippets = []
    while len(snippets) < count:
        text = draw.choice(files).read_bytes()
        start = draw.randrange(max(1, len(text) - LONGEST_TEXT))
        line = text.find(b"\n", start, start + 60)
        start = line + 1 if line >= 0 else start
        snippet = text[start : start + draw.randint(48, LONGEST_TEXT)]
        if len(snippet.strip()) > 20:
            snippets.append(snippet)
    return snippets


def encode(labelled, length):
    """Texts as bytes: ids [N, length] padded with PAD, mask [N, length], labels [N]."""
    ids = np.full((len(labelled), length), PAD, np.int64)
    mask = np.zeros((len(labelled), length), np.int64)
    for row, (text, _) in enumerate(labelled):
        text = text[:length]
        ids[row, : len(text)] = list(text)
        mask[row, : len(text)] = 1
    return ids, mask, np.array([label for _, label in labelled])


def text_network(width=64, heads=4, hidden=128, layers=2):
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        """Pre-norm attention and feed-forward, written out so that the export is plain matrix products."""

        def __init__(self):
            super().__init__()
            self.query_key_value = nn.Linear(width, 3 * width)
            self.mix = nn.Linear(width, width)
            self.attention_norm, self.forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
            self.forward_layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

        def forward(self, states, bias):
            rows, length = states.shape[0], states.shape[1]
            parts = self.query_key_value(self.attention_norm(states)).split(width, dim=-1)
            query, key, value = (part.reshape(rows, length, heads, -1).transpose(1, 2) for part in parts)
            scores = query @ key.transpose(-1, -2) / (width // heads) ** 0.5 + bias
            mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(rows, length, width)
            states = states + self.mix(mixed)
            return states + self.forward_layers(self.forward_norm(states))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.bytes = nn.Embedding(PAD + 1, width)
            self.positions = nn.Parameter(torch.randn(LONGEST_TEXT, width) * 0.02)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = nn.LayerNorm(width)
            self.classify = nn.Linear(width, len(LANGUAGES))

        def forward(self, input_ids, attention_mask):
            kept = attention_mask.to(torch.float32)
            bias = (1 - kept)[:, None, None, :] * -1e4
            states = self.bytes(input_ids) + self.positions[: input_ids.shape[1]]
            for block in self.blocks:
                states = block(states, bias)
            pooled = (self.norm(states) * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True).clamp(min=1)
            return self.classify(pooled).softmax(-1), functional.normalize(pooled, dim=-1)

    return Network()


def fit_codelang(network, train, epochs, batch_size=128, peak_rate=3e-3):
    import torch

    ids, mask, labels = (torch.tensor(part) for part in encode(train, LONGEST_TEXT))
    optimizer = torch.optim.AdamW(network.parameters(), peak_rate)
    steps = epochs * -(-len(train) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_rate, total_steps=steps)
    for epoch in range(epochs):
        for batch in torch.randperm(len(train)).split(batch_size):
            probabilities, _ = network(ids[batch], mask[batch])
            loss = torch.nn.functional.nll_loss(torch.log(probabilities + 1e-9), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"  epoch {epoch + 1} of {epochs}, loss {loss.item():.3f}", flush=True)
    return network.eval()


# ---- addsub: sum, difference and product of two rows, by hand ----


def make_addsub():
    from onnx import TensorProto, helper

    def row(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 16])

    nodes = [
        helper.make_node(op, ["a", "b"], [name]) for op, name in [("Add", "sum"), ("Sub", "diff"), ("Mul", "prod")]
    ]
    graph = helper.make_graph(nodes, "addsub", [row("a"), row("b")], [row("sum"), row("diff"), row("prod")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    rows = np.random.default_rng(SEED).normal(size=(2, 4, 16)).astype(np.float32)
    return [Version(1, model.SerializeToString(), rows_as_examples(a=rows[0], b=rows[1]), "exact")]


# ---- shared by all of them ----


def rows_as_examples(**tensors):
    """One row and three rows of the given tensors, under the names that the repository's examples have."""
    return {
        "b1": {name: tensor[:1] for name, tensor in tensors.items()},
        "b3": {name: tensor[1:4] for name, tensor in tensors.items()},
    }


def export_torch(network, sample, outputs, dynamic_axes):
    import io

    import torch

    file = io.BytesIO()
    # The tracing exporter: it keeps the names of the dynamic dimensions and needs no further package.
    torch.onnx.export(
        network,
        tuple(torch.tensor(tensor) for tensor in sample.values()),
        file,
        input_names=list(sample),
        output_names=outputs,
        dynamic_axes=dynamic_axes,
        opset_version=OPSET,
        dynamo=False,
    )
    return file.getvalue()


def write(name, version, output):
    """`<output>/<name>/<version>/` with the model and its examples, and `<output>/<name>/request.json` to try it."""
    folder = output / name / str(version.number)
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(version.model)
    session = open_session(folder / "model.onnx")
    names = [value.name for value in session.get_outputs()]
    for example, inputs in version.examples.items():
        outputs = dict(zip(names, session.run(None, inputs)))
        tensors = {f"in/{key}": tensor for key, tensor in inputs.items()}
        tensors |= {f"out/{key}": tensor for key, tensor in outputs.items()}
        np.savez(folder / "examples" / f"{example}.npz", **tensors)
    write_request(version.examples["b1"], output / name / "request.json")


def write_request(inputs, path):
    """A body for POST /v2/models/<name>/infer."""
    datatypes = {"float32": "FP32", "int64": "INT64"}
    tensors = [
        {
            "name": name,
            "shape": list(tensor.shape),
            "datatype": datatypes[str(tensor.dtype)],
            "data": [round(value, 6) for value in tensor.ravel().tolist()],
        }
        for name, tensor in inputs.items()
    ]
    path.write_text(json.dumps({"inputs": tensors}) + "\n")


def check(folder):
    """Run the examples of one version directory; return the largest difference in any floating point output."""
    session = open_session(folder / "model.onnx")
    examples = sorted((folder / "examples").glob("*.npz"))
    if not examples:
        sys.exit(f"{folder} has no examples")
    largest = 0.0
    for path in examples:
        with np.load(path) as recorded:
            inputs = {key[3:]: recorded[key] for key in recorded if key.startswith("in/")}
            expected = {key[4:]: recorded[key] for key in recorded if key.startswith("out/")}
        for name, received in zip(expected, session.run(list(expected), inputs)):
            np.testing.assert_allclose(
                received, expected[name], RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE, err_msg=f"{path}: output {name}"
            )
            if received.dtype.kind == "f":
                largest = max(largest, float(np.abs(received - expected[name]).max()))
    return largest


def open_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def default_text_dirs():
    candidates = [
        pathlib.Path(np.__file__).parent.parent,
        pathlib.Path.home() / ".cargo/registry/src",
        pathlib.Path("/usr/lib/node_modules/npm"),
        pathlib.Path("/usr/local/lib/node_modules/npm"),
    ]
    return [path for path in candidates if path.is_dir()]


MAKERS = {
    "addsub": lambda _: make_addsub(),
    "codelang": lambda arguments: make_codelang(arguments.text or default_text_dirs()),
    "digits": lambda _: make_digits(),
    "iris": lambda _: make_iris(),
    "wine": lambda _: make_wine(),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MAKERS)}; all by default")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--output", type=pathlib.Path, metavar="DIR", help="rebuild into this model repository")
    mode.add_argument("--check", type=pathlib.Path, metavar="DIR", help="run the examples of this model repository")
    parser.add_argument("--text", type=pathlib.Path, metavar="DIR", action="append", help="source files for codelang")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MAKERS)
    if unknown:
        parser.error(f"no such model: {', '.join(sorted(unknown))}; known are {', '.join(MAKERS)}")

    for name in arguments.names or MAKERS:
        if arguments.check:
            folders = sorted(path.parent for path in (arguments.check / name).glob("*/model.onnx"))
            if not folders:
                sys.exit(f"{arguments.check / name} holds no version")
            for folder in folders:
                print(f"{name} {folder.name}: examples agree, largest difference {check(folder):.1e}")
        else:
            for version in MAKERS[name](arguments):
                write(name, version, arguments.output)
                print(f"{name} {version.number}: {len(version.model):,} bytes, {version.note}", flush=True)


if __name__ == "__main__":
    main()
