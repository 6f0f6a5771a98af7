"""A small Triton server for fast tests: the KServe v2 protocol with binary tensors, over the real onnxruntime session.

The slow tests compare it with the real server: the same requests, the same answers.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from doubles.servers.mjpeg_server import serving
from doubles.tiny_artifact import tiny_artifact, tiny_model
from iern.export.triton_repository.model_config import model_config
from iern.runtime.artifact import Artifact
from iern.runtime.backends.onnx import open_session
from iern.runtime.session import Session

JSON_LENGTH = "Inference-Header-Content-Length"


@dataclass
class Served:
    """What the server serves and how. A test may change it while the server runs."""

    session: Session
    config: dict[str, Any]
    name: str = "iern"
    version: str = "1"
    loaded: bool = True
    hang: float = 0.0
    """Seconds before each answer to a call."""
    close_after_answer: bool = False
    """Close each connection after an answer, as a server does with those that are idle for long."""
    replies: list[bytes] = field(default_factory=list)
    """Bodies to answer the next calls with, in place of the real answers."""
    batches: list[int] = field(default_factory=list)
    """The number of faces of each call."""
    connections: int = 0

    @property
    def metadata(self) -> dict[str, Any]:
        """The tensors, as the protocol describes them."""

        def tensor(entry: dict[str, Any]) -> dict[str, Any]:
            datatype = entry["data_type"].removeprefix("TYPE_")
            return {"name": entry["name"], "datatype": datatype, "shape": [-1, *entry["dims"]]}

        return {
            "name": self.name,
            "versions": [self.version],
            "inputs": [tensor(entry) for entry in self.config["input"]],
            "outputs": [tensor(entry) for entry in self.config["output"]],
        }


def served(artifact: Artifact | None = None, seed: int = 0, version: int = 1, max_batch: int = 16) -> Served:
    """The tiny model of that description and seed, with the configuration that the exporter writes for it."""
    artifact = artifact or tiny_artifact()
    config = model_config(artifact, version, "onnxruntime", "model.onnx", max_batch)
    return Served(open_session(tiny_model(artifact, seed)), json.loads(json.dumps(config)), version=str(version))


@contextlib.contextmanager
def triton_server(model: Served, port: int = 0) -> Iterator[str]:
    """Serve the model on a local port, 0 for a free one. Yields host:port. At the end every connection is cut."""
    cut: list[socket.socket] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            cut.append(self.request)
            model.connections += 1

        def do_GET(self) -> None:
            path = f"/v2/models/{model.name}"
            known = model.loaded and self.path.startswith(path)
            if self.path == f"{path}/ready" and known:
                self.answer(200, b"")
            elif self.path.endswith("/ready"):
                self.answer(400, b'{"error":"Model version not ready"}')
            elif known and self.path in (path, f"{path}/config"):
                self.answer(200, json.dumps(model.metadata if self.path == path else model.config).encode())
            else:
                name = self.path.split("/")[3] if self.path.count("/") > 2 else ""
                self.answer(404, json.dumps({"error": f"Request for unknown model: '{name}' is not found"}).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(model.hang)
            if not (model.loaded and self.path == f"/v2/models/{model.name}/infer"):
                self.answer(404, b'{"error":"Request for unknown model: it is not found"}')
                return
            if model.replies:
                content = model.replies.pop(0)
                length = re.match(rb"\{.*?\}\n", content)
                self.answer(200, content, length.end() if length else None)
                return
            length = int(self.headers[JSON_LENGTH])
            request = json.loads(body[:length])
            (tensor,) = request["inputs"]
            problem = problem_of(tensor, body[length:], model)
            if problem:
                self.answer(400, json.dumps({"error": problem}).encode())
                return
            faces = np.frombuffer(body[length:], np.uint8).reshape(tensor["shape"])
            model.batches.append(len(faces))
            predictions = model.session(faces)
            arrays = [getattr(predictions, output["name"]) for output in request["outputs"]]
            described = [
                {
                    "name": output["name"],
                    "datatype": "FP32",
                    "shape": list(array.shape),
                    "parameters": {"binary_data_size": array.nbytes},
                }
                for output, array in zip(request["outputs"], arrays, strict=True)
            ]
            head = json.dumps({"model_name": model.name, "model_version": model.version, "outputs": described}).encode()
            self.answer(200, head + b"".join(array.tobytes() for array in arrays), len(head))

        def answer(self, status: int, content: bytes, json_length: int | None = None) -> None:
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                if json_length is not None:
                    self.send_header(JSON_LENGTH, str(json_length))
                self.end_headers()
                self.wfile.write(content)
            self.close_connection = self.close_connection or model.close_after_answer

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    try:
        with serving(Handler, port) as address:
            yield address
    finally:
        for connection in cut:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def problem_of(tensor: dict[str, Any], content: bytes, model: Served) -> str:
    """Why the real server refuses an input, in its words. Empty if it takes it."""
    expected, found = [-1, *model.config["input"][0]["dims"]], tensor["shape"]
    if found[1:] != expected[1:]:
        return (
            f"[request id: <id_unknown>] unexpected shape for input '{tensor['name']}' for model '{model.name}'. "
            f"Expected {expected}, got {found}."
        )
    if found[0] > model.config["max_batch_size"]:
        return (
            f"[request id: <id_unknown>] inference request batch-size must be <= {model.config['max_batch_size']} for "
            f"'{model.name}'"
        )
    return "" if len(content) == int(np.prod(found)) else "input byte size mismatch"
