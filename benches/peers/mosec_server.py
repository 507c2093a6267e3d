"""A mosec service for one model: its front is Rust, its workers are Python processes. Environment: MODEL_FILE, WORKERS,
MAX_BATCH; mosec's own flags for the address."""

import json
import os

from mosec import Server, Worker

from ort_model import OrtModel, from_json, to_json

MAX_BATCH = int(os.environ["MAX_BATCH"])


class OrtWorker(Worker):
    def __init__(self):
        super().__init__()
        self.model = OrtModel(os.environ["MODEL_FILE"])

    def deserialize(self, data):
        return from_json(json.loads(data))

    def serialize(self, data):
        return json.dumps(to_json("model", self.model.output_names, data), separators=(",", ":")).encode()

    def forward(self, data):
        return self.model.run_joined(data) if MAX_BATCH > 1 else self.model.run(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(OrtWorker, num=int(os.environ["WORKERS"]), max_batch_size=MAX_BATCH, max_wait_time=1)
    server.run()
