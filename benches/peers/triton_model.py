"""A model of Triton's Python backend: the requests of a batch run as one, as its documentation advises."""

import os
import pathlib
import sys

# The backend's interpreter starts without it.
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)

import triton_python_backend_utils as pb_utils  # noqa: E402
from ort_model import OrtModel  # noqa: E402


class TritonPythonModel:
    def initialize(self, args):
        folder = pathlib.Path(args["model_repository"]) / args["model_version"]
        self.model = OrtModel(folder / "model.onnx")
        self.input_names = [tensor.name for tensor in self.model.session.get_inputs()]

    def execute(self, requests):
        inputs = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.input_names}
            for request in requests
        ]
        responses = []
        for outputs in self.model.run_joined(inputs):
            tensors = [pb_utils.Tensor(name, output) for name, output in zip(self.model.output_names, outputs)]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses
