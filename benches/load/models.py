"""The models of the benchmark: those of the zoo, and two that are made here because they do nothing but pass data.

ONNX and NumPy files are written by hand, so that nothing has to be installed for it.
"""

import dataclasses
import json
import os
import pathlib
import random
import struct
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROWS = 8
DATATYPES = {"FLOAT": "FP32", "INT64": "INT64"}


@dataclasses.dataclass
class Spec:
    name: str
    datatype: str
    # Without the batch axis; -1 is free.
    dims: list


@dataclasses.dataclass
class Model:
    """A model file, and a recorded run of it whose rows are the requests."""

    name: str
    file: pathlib.Path
    case: pathlib.Path
    tolerance: float
    inputs: list
    outputs: list

    @property
    def argument(self):
        return f"{self.name}={self.case}"


def zoo():
    return pathlib.Path(os.environ.get("HEADGATE_ZOO", ROOT / "tests" / "zoo"))


def from_zoo(name, folder, tag="b8"):
    home = zoo() / folder
    meta = json.loads((home / "meta.json").read_text())

    def specs(entries):
        each = []
        for entry in entries:
            dims = [size if isinstance(size, int) else -1 for size in entry["shape"][1:]]
            each.append(Spec(entry["name"], DATATYPES[entry["dtype"]], dims))
        return each

    # Rows of a batch may round differently than one row alone.
    tolerance = max(10 * meta["tol"], 1e-3)
    files = home / "model.onnx", home / f"case_{tag}.npz"
    return Model(name, *files, tolerance, specs(meta["inputs"]), specs(meta["outputs"]))


def made(folder):
    """Writes the identity and the average to `folder`."""
    numbers = random.Random(0)
    rows = [[round(numbers.uniform(0, 10), 2) for _ in range(16)] for _ in range(ROWS)]
    identity = make(folder, "identity", node("Identity"), ("x", [16]), ("y", [16]), (rows, rows))
    pixels = [[f32(numbers.randrange(256) / 255) for _ in range(3 * 64 * 64)] for _ in range(ROWS)]
    means = [[sum(row) / len(row)] for row in pixels]
    mean = node("ReduceMean", axes=[1, 2, 3], keepdims=0)
    average = make(folder, "average", mean, ("x", [3, 64, 64]), ("y", []), (pixels, means))
    return {"identity": identity, "average": average}


def make(folder, name, operator, source, result, rows):
    home = folder / name
    home.mkdir(parents=True)
    (home / "model.onnx").write_bytes(onnx_file(operator, source, result))
    with zipfile.ZipFile(home / "case_b8.npz", "w") as archive:
        for key, (_, dims), values in (("in/x", source, rows[0]), ("out/y", result, rows[1])):
            archive.writestr(f"{key}.npy", npy(values, dims))
    specs = [Spec(label, "FP32", dims) for label, dims in (source, result)]
    return Model(name, home / "model.onnx", home / "case_b8.npz", 1e-4, specs[:1], specs[1:])


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def npy(rows, dims):
    shape = ", ".join(map(str, [len(rows), *dims]))
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape},), }}"
    # The header ends at a multiple of 64 bytes.
    header += " " * (-(len(header) + 11) % 64) + "\n"
    data = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


# ---- ONNX, as protobuf writes it; field numbers from onnx.proto ----


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def message(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def node(operator, axes=None, keepdims=None):
    attributes = b""
    if axes is not None:
        # An attribute: name, ints, type INTS.
        attributes += message(5, message(1, "axes") + b"".join(number(8, axis) for axis in axes) + number(20, 7))
    if keepdims is not None:
        # An attribute: name, i, type INT.
        attributes += message(5, message(1, "keepdims") + number(3, keepdims) + number(20, 2))
    return message(1, "x") + message(2, "y") + message(4, operator) + attributes


def onnx_file(operator, source, result):
    def value(name, dims):
        shape = message(1, message(2, "N")) + b"".join(message(1, number(1, size)) for size in dims)
        # elem_type 1 is FLOAT.
        return message(1, name) + message(2, message(1, number(1, 1) + message(2, shape)))

    graph = message(1, operator) + message(2, "graph") + message(11, value(*source)) + message(12, value(*result))
    # ir_version 8, opset 13 of the default domain.
    return number(1, 8) + message(7, graph) + message(8, message(1, "") + number(2, 13))
