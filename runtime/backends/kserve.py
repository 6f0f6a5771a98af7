"""The KServe v2 protocol over HTTP with Triton's binary tensors, as far as a session needs it.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md: a call is a JSON
header, whose length is in an HTTP header, and after it the bytes of the tensors. The answer has the same form. The
standard library is enough for this, so no client library has to be installed on the device with the camera.
"""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from iern.runtime.backends.server_address import ServerAddress
from iern.runtime.errors import ServerLostError, SessionError, one_line

JSON_LENGTH = "Inference-Header-Content-Length"
"""The HTTP header with the length of the JSON before the binary tensors."""
BINARY = "application/octet-stream"
FP32 = np.dtype("<f4")
"""The number type of the outputs, as it is in an answer."""
DROPPED = (ConnectionError, http.client.BadStatusLine)
"""What is raised if the server has closed a connection that was kept for the next call."""


class Reply(NamedTuple):
    """An answer over HTTP."""

    status: int
    json_length: int | None
    content: bytes


class Inference(NamedTuple):
    """The outputs of one call."""

    version: str
    """Of the model that computed them."""
    outputs: Mapping[str, NDArray[np.float32]]


class ModelServer:
    """A model on a server, over one connection that is kept from call to call. Use it from one thread at a time.

    Every method raises ServerLostError if the server does not answer, and SessionError if it refuses, or if its answer
    is not of this protocol.
    """

    def __init__(self, address: ServerAddress, timeout: float) -> None:
        """`timeout` is the longest wait for the server in seconds: to connect, and for each part of an answer."""
        self.address = address
        self._path = f"/v2/models/{quote(address.model, safe='')}"
        self._connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)

    def close(self) -> None:
        """Close the connection. A later call opens another one."""
        self._connection.close()

    def is_ready(self) -> bool:
        """Whether the server can run the model now."""
        return self._ask("GET", f"{self._path}/ready").status == 200

    def metadata(self) -> dict[str, Any]:
        """The model's inputs, outputs and versions."""
        return self._json_of(self._path)

    def config(self) -> dict[str, Any]:
        """The model's configuration, with the meaning of config.pbtxt."""
        return self._json_of(f"{self._path}/config")

    def infer(self, input_name: str, images: NDArray[np.uint8], outputs: Sequence[str]) -> Inference:
        """Run the model on a batch (b, ...) of uint8 -> the outputs of these names, float32, each (b, ...)."""
        body = np.ascontiguousarray(images).tobytes()
        described = {
            "name": input_name,
            "shape": list(images.shape),
            "datatype": "UINT8",
            "parameters": {"binary_data_size": len(body)},
        }
        wanted = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
        header = json.dumps({"inputs": [described], "outputs": wanted}).encode()
        headers = {"Content-Type": BINARY, JSON_LENGTH: str(len(header))}
        reply = self._ask("POST", f"{self._path}/infer", header + body, headers)
        if reply.status != 200:
            refusal = self._refusal(reply)
            if not self.is_ready():
                raise ServerLostError(f"{self.address}: the server does not run the model now ({refusal})")
            raise SessionError(f"{self.address}: the server refuses {len(images)} faces ({refusal})")
        return self._inference(reply, outputs)

    def _inference(self, reply: Reply, outputs: Sequence[str]) -> Inference:
        """The tensors of an answer: JSON that describes them, and their bytes in the same order."""
        start = len(reply.content) if reply.json_length is None else reply.json_length
        described = self._parsed(reply.content[:start])
        found: dict[str, NDArray[np.float32]] = {}
        try:
            for tensor in described["outputs"]:
                if tensor["datatype"] != "FP32":
                    raise ValueError("expected FP32")
                shape, size = tuple(map(int, tensor["shape"])), int(tensor["parameters"]["binary_data_size"])
                if size != FP32.itemsize * math.prod(shape) or start + size > len(reply.content):
                    raise SessionError(
                        f"{self.address}: the answer has {size} bytes for the output {tensor['name']} of {shape}; "
                        "check the model on the server, and its log"
                    )
                array = np.frombuffer(reply.content, FP32, math.prod(shape), start).reshape(shape)
                found[tensor["name"]] = array.astype(np.float32)
                start += size
            version = str(described.get("model_version", ""))
        except (KeyError, TypeError, ValueError) as error:
            raise self._no_protocol(f"the outputs are described as {str(described)[:200]}") from error
        if missing := [name for name in outputs if name not in found]:
            raise self._no_protocol(f"the answer lacks {', '.join(missing)}")
        return Inference(version, found)

    def _json_of(self, path: str) -> dict[str, Any]:
        reply = self._ask("GET", path)
        if reply.status != 200:
            raise ServerLostError(
                f"{self.address}: the server has no such model ready ({self._refusal(reply)}); check the name, and "
                "the server's log"
            )
        return self._parsed(reply.content)

    def _parsed(self, content: bytes) -> dict[str, Any]:
        try:
            values = json.loads(content)
        except ValueError as error:
            raise self._no_protocol(f"the answer begins with {content[:40]!r}") from error
        if not isinstance(values, dict):
            raise self._no_protocol(f"the answer begins with {content[:40]!r}")
        return values

    def _refusal(self, reply: Reply) -> str:
        """The status of an answer, and the server's own words."""
        try:
            words = str(json.loads(reply.content)["error"])
        except (ValueError, KeyError, TypeError):
            words = reply.content[:100].decode("utf-8", "replace")
        return f"status {reply.status}: {one_line(Exception(words))}" if words.strip() else f"status {reply.status}"

    def _no_protocol(self, found: str) -> SessionError:
        return SessionError(
            f"{self.address}: does not answer as Triton does: {found}; expected Triton's port for HTTP, which is 8000 "
            "unless it was started with another"
        )

    def _ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}) -> Reply:
        """One request and its answer. A connection that the server closed between two calls is opened again."""
        kept = self._connection.sock is not None
        try:
            try:
                return self._exchange(method, path, body, headers)
            except DROPPED:
                self.close()
                if not kept:
                    raise
                return self._exchange(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._lost(error) from error
        except BaseException:  # Ctrl-C in the middle of an answer: the rest of it must not begin the next one
            self.close()
            raise

    def _exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        connection = self._connection
        connection.request(method, path, body or None, dict(headers))
        response = connection.getresponse()
        if response.length is None:  # it might never end, as the stream of a camera
            raise self._no_protocol("the answer does not state its length")
        length = response.headers.get(JSON_LENGTH, "")
        return Reply(response.status, int(length) if length.isdecimal() else None, response.read())

    def _lost(self, error: Exception) -> Exception:
        if isinstance(error, (http.client.BadStatusLine, http.client.LineTooLong)) and not isinstance(
            error, ConnectionError
        ):
            return self._no_protocol(f"the answer begins with {one_line(error)}")
        timeout = isinstance(error, TimeoutError)
        reason = f"no answer within {self._connection.timeout:g} s" if timeout else one_line(error)
        return ServerLostError(
            f"{self.address}: the server is not reached ({reason}); check that it runs, its address and the network"
        )
