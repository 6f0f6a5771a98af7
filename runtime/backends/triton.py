"""A model that a Triton server runs, as a session: `open_session("triton://host:8000/iern")`.

`export/to_trt.py --triton` writes the server's files. The model's description is in the configuration that the server
sends. While the server does not answer, each call fails, and a later one connects again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, PREFIX, Artifact
from iern.runtime.backends.kserve import Inference, ModelServer
from iern.runtime.backends.server_address import ServerAddress, parse_server_address
from iern.runtime.errors import ArtifactError, ServerLostError, SessionError
from iern.runtime.session import MAX_BATCH, Predictions, Session

TIMEOUT = 5.0
"""Seconds without an answer after which the server counts as lost. Ctrl-C waits this long at most."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before a lost server is asked again, doubled after each failure."""
LONGEST_WAIT = 1.0
"""Seconds that one call waits for the end of a pause, before it fails. So a loop does not fail thousands of frames a
second, and still ends at once after Ctrl-C."""

VERSION_PARAMETER = "version"
"""The parameter of the server's configuration with the version that the others describe."""
ANSWER = ("expressions", "strata", "input", "answer", "temperature", "threshold", "prior", "collapsed_from")
"""Fields of the description that the reader of the answers relies on."""

logger = logging.getLogger(__name__)


class ServedModel(NamedTuple):
    """What a server says about its model."""

    artifact: Artifact
    version: str
    max_batch: int


class TritonSession(Session):
    """A model on a Triton server."""

    def __init__(self, model: Path | str, max_batch: int = MAX_BATCH, timeout: float = TIMEOUT) -> None:
        """`model` is `triton://host:port/name`. `max_batch` is lowered to what the server takes.

        Raises SessionError if the server does not answer, has no such model, or the address is malformed, and
        ArtifactError if the model was not written by `export/to_trt.py --triton`.
        """
        address = _parse(model)
        self._server = ModelServer(address, timeout)
        served = read_served_model(self._server)
        super().__init__(served.artifact, f"triton at {address.place}", min(max_batch, served.max_batch))
        self._version = served.version
        self._lost: ServerLostError | None = None
        self._lost_at = self._next_attempt = 0.0
        self._pause = FIRST_PAUSE

    def _free(self) -> None:
        self._server.close()

    def _run(self, faces: NDArray[np.uint8]) -> Predictions:
        self._wait_for_attempt()
        try:
            if self._lost is not None:
                self._read_again()  # another model may have been started in place of the lost one
            found = self._server.infer(INPUT_NAME, faces, OUTPUT_NAMES)
            if found.version != self._version:
                self._read_again()
                self._check_version(found)
        except ServerLostError as error:
            self._note_loss(error)
            raise
        self._note_recovery()
        return self._predictions(found, len(faces))

    def _wait_for_attempt(self) -> None:
        """Wait until a lost server may be asked again. Raises its error if that takes too long for one call."""
        if self._lost is None:
            return
        left = self._next_attempt - time.monotonic()
        time.sleep(max(0.0, min(left, LONGEST_WAIT)))
        if left > LONGEST_WAIT:
            raise ServerLostError(str(self._lost))

    def _note_loss(self, error: ServerLostError) -> None:
        now = time.monotonic()
        if self._lost is None:
            logger.warning("%s; it is asked again and again", error)
            self._lost_at, self._pause = now, FIRST_PAUSE
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._lost, self._next_attempt = error, now + self._pause

    def _note_recovery(self) -> None:
        if self._lost is not None:
            logger.warning("%s: answers again, after %.1f s", self._server.address, time.monotonic() - self._lost_at)
            self._lost = None

    def _read_again(self) -> None:
        """Read the description again. Raises SessionError if the answers would no longer mean the same."""
        served = read_served_model(self._server)
        changed = [name for name in ANSWER if getattr(served.artifact, name) != getattr(self.artifact, name)]
        if changed or served.max_batch < self.max_batch:
            what = ", ".join(changed) or "the largest batch"
            raise SessionError(
                f"{self._server.address}: now has another model, version {served.version} in place of {self._version} "
                f"(it differs in {what}); start again to use it"
            )
        if served.version != self._version:
            logger.warning(
                "%s: now runs version %s in place of %s", self._server.address, served.version, self._version
            )
        self.artifact, self._version = served.artifact, served.version

    def _check_version(self, found: Inference) -> None:
        if found.version != self._version:
            raise SessionError(
                f"{self._server.address}: runs version {found.version}, and its configuration describes version "
                f"{self._version}; let the server load the model again, or restart it"
            )

    def _predictions(self, found: Inference, faces: int) -> Predictions:
        strata, expressions = len(self.artifact.strata), len(self.artifact.expressions)
        shapes = ((faces, expressions), (faces, expressions), (faces, strata, expressions))
        for name, shape in zip(OUTPUT_NAMES, shapes, strict=True):
            if found.outputs[name].shape != shape:
                raise SessionError(
                    f"{self._server.address}: {name} is {found.outputs[name].shape}, expected {shape}; check the model "
                    "on the server"
                )
        return Predictions(*(found.outputs[name] for name in OUTPUT_NAMES))


def open_served(model: Path | str, provider: str, precision: str, max_batch: int) -> TritonSession:
    """Open a served model. Raises SessionError for a provider or a precision, which are the server's own."""
    if provider != "auto" or precision == "int8":
        found = f"the provider {provider}" if provider != "auto" else "int8"
        raise SessionError(f"{_parse(model)}: runs on its server, which decides how; leave out {found}")
    return TritonSession(model, max_batch)


def read_served_model(server: ModelServer) -> ServedModel:
    """The description of a served model. Raises ArtifactError if it has none that this runtime supports, or another
    shape than it describes, and SessionError as `ModelServer` does."""
    name = str(server.address)
    config, metadata = server.config(), server.metadata()
    try:
        parameters = {key: str(value["string_value"]) for key, value in config.get("parameters", {}).items()}
        max_batch = int(config.get("max_batch_size", 0))
        found = _tensors(metadata)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SessionError(f"{name}: the server describes the model in an unknown form ({error!r})") from error
    if PREFIX + "format_version" not in parameters:
        raise ArtifactError(
            f"{name}: its configuration has no parameters {PREFIX}*, so its labels and preprocessing are unknown; "
            "write the server's files with export/to_trt.py --triton"
        )
    artifact = Artifact.from_metadata(parameters, name)
    expected = _tensors_of(artifact)
    if found != expected or max_batch < 1:
        raise ArtifactError(
            f"{name}: has {_list(found)}, at most {max_batch} faces a call; its description promises "
            f"{_list(expected)}, at least 1 face; write the server's files again with export/to_trt.py --triton"
        )
    return ServedModel(artifact, parameters.get(VERSION_PARAMETER, ""), max_batch)


Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> the protocol's number type, and the shape after the batch axis."""


def _tensors(metadata: Mapping[str, Any]) -> Tensors:
    tensors = (*metadata["inputs"], *metadata["outputs"])
    return {str(each["name"]): (str(each["datatype"]), tuple(map(int, each["shape"][1:]))) for each in tensors}


def _tensors_of(artifact: Artifact) -> Tensors:
    expressions, strata = len(artifact.expressions), len(artifact.strata)
    shapes = ((expressions,), (expressions,), (strata, expressions))
    outputs = {name: ("FP32", shape) for name, shape in zip(OUTPUT_NAMES, shapes, strict=True)}
    return {INPUT_NAME: ("UINT8", artifact.input.shape), **outputs}


def _list(tensors: Tensors) -> str:
    return ", ".join(f"{name} ({', '.join(map(str, ('batch', *dims)))}) {t}" for name, (t, dims) in tensors.items())


def _parse(model: Path | str) -> ServerAddress:
    try:
        return parse_server_address(model)
    except ValueError as error:
        raise SessionError(str(error)) from error
