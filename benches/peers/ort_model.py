"""What every peer runs: an ONNX Runtime session on one thread, and the Open Inference Protocol's JSON as NumPy arrays."""

import numpy as np
import onnxruntime

DATATYPES = {"FP32": np.float32, "INT64": np.int64}
NAMES = {np.dtype(dtype): name for name, dtype in DATATYPES.items()}


class OrtModel:
    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        # The server's own workers use the cores; threads inside a run would fight them.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.output_names = [output.name for output in self.session.get_outputs()]

    def run(self, inputs):
        """Runs name -> array; gives the outputs in the model's order."""
        return self.session.run(self.output_names, inputs)

    def run_joined(self, requests):
        """Runs the rows of several requests as one batch, and gives each request its own outputs."""
        if len(requests) == 1:
            return [self.run(requests[0])]
        joined = {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}
        counts = [len(next(iter(request.values()))) for request in requests]
        ends = np.cumsum(counts)[:-1]
        return list(zip(*(np.split(output, ends) for output in self.run(joined))))


def from_json(body):
    """Name -> array of a request's inputs."""
    return {
        tensor["name"]: np.array(tensor["data"], dtype=DATATYPES[tensor["datatype"]]).reshape(tensor["shape"])
        for tensor in body["inputs"]
    }


def to_json(model, names, outputs):
    return {
        "model_name": model,
        "model_version": "1",
        "outputs": [
            {"name": name, "datatype": NAMES[array.dtype], "shape": list(array.shape), "data": array.ravel().tolist()}
            for name, array in zip(names, outputs)
        ],
    }
