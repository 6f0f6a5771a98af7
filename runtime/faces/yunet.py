"""The network YuNet, in onnxruntime, or in OpenCV if onnxruntime cannot open it. Both give the same faces."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from iern.runtime.backends.providers import import_onnxruntime, load_on_cpu, ort_message
from iern.runtime.errors import ArtifactError, SessionError
from iern.runtime.faces.yunet_rows import STRIDES, Rows, rows_of
from iern.runtime.imaging.images import Image
from iern.runtime.system.cpu_budget import cpu_budget

if TYPE_CHECKING:
    import onnxruntime

REMEDY = "reinstall iern, or give a YuNet model from OpenCV's model zoo"

INPUT = "input"
OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES)

FEW_PIXELS = 4 * 160 * 160
"""Pixels of a call up to which one thread is faster than several: four windows. Others sleep between calls, and to wake
them takes longer than they save."""

MOST_KEPT_PIXELS = 4 * 640 * 640
"""Pixels of a call from which onnxruntime gives its memory back afterwards. A photograph takes hundreds of megabytes,
and is seldom followed by another."""


class Yunet(Protocol):
    """`yunet(pictures)` -> the faces of each. Threads may share it."""

    engine: str
    """The library that runs the network."""

    def __call__(self, pictures: Sequence[Image]) -> list[Rows]:
        """(H, W, 3) pictures of one size, at least 33 pixels a side -> (F, 15) rows for each, by falling score."""
        ...


def open_yunet(model: Path, score: float, overlap: float, threads: int | None = None) -> Yunet:
    """Open the network. `score` is the lowest score of a face, `overlap` the highest IoU of two.

    `threads` are those of onnxruntime, by default all that this process may use. OpenCV has its own number.
    Raises ArtifactError if the model is missing, damaged or not a YuNet.
    """
    try:
        data = model.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{model}: the face detector cannot be read ({error.strerror or error}); {REMEDY}"
        ) from error
    try:
        return OnnxYunet(data, score, overlap, threads or cpu_budget())
    except SessionError:  # no onnxruntime, or a file that it cannot run: OpenCV reports what is wrong with the file
        return OpenCvYunet(data, score, overlap, str(model))


class OnnxYunet:
    """YuNet in onnxruntime. It runs several pictures in one call, and takes half of OpenCV's time."""

    engine = "onnxruntime"

    def __init__(self, data: bytes, score: float, overlap: float, threads: int) -> None:
        """Raises SessionError if onnxruntime is missing, or if the model is no YuNet for pictures of any size."""
        ort = import_onnxruntime()
        try:
            self._graph: onnxruntime.InferenceSession = load_on_cpu(ort, data, threads)
            self._on_one_thread = self._graph if threads == 1 else load_on_cpu(ort, data, 1)
        except Exception as error:  # onnxruntime's own exceptions share no other base
            raise SessionError(f"onnxruntime cannot load the face detector ({ort_message(error)})") from error
        _check_contract(self._graph)
        self._score, self._overlap = score, overlap
        self._give_back = ort.RunOptions()
        self._give_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def __call__(self, pictures: Sequence[Image]) -> list[Rows]:
        """See `Yunet`. Raises SessionError if onnxruntime fails, for example without memory."""
        batch = cv2.dnn.blobFromImages([_padded(picture) for picture in pictures])
        pixels = batch[:, 0].size
        options = self._give_back if pixels > MOST_KEPT_PIXELS else None
        graph = self._on_one_thread if pixels <= FEW_PIXELS else self._graph
        try:
            outputs = graph.run(OUTPUTS, {INPUT: batch}, options)
        except Exception as error:  # as above
            raise SessionError(
                f"the face detector failed on pictures of {batch.shape}: {ort_message(error)}"
            ) from error
        return rows_of(outputs, batch.shape[3], self._score, self._overlap)


class OpenCvYunet:
    """YuNet in OpenCV, which has its own number of threads. It takes one picture at a time."""

    engine = "OpenCV"

    def __init__(self, data: bytes, score: float, overlap: float, name: str) -> None:
        """Raises ArtifactError, with the model's `name`, if OpenCV cannot run the model."""
        try:
            with _silent_opencv():  # 5.0 warns about targets at each load; a damaged file is reported below
                buffers = np.frombuffer(data, np.uint8), np.empty(0, np.uint8)
                self._yunet = cv2.FaceDetectorYN.create("onnx", *buffers, (64, 64), score, overlap)
                self._yunet.detect(np.zeros((64, 64, 3), np.uint8))  # another network loads, and fails only here
        except cv2.error as error:
            found = " ".join(error.err.split())
            raise ArtifactError(f"{name}: cannot be loaded as a face detector ({found}); {REMEDY}") from error
        self._lock = threading.Lock()

    def __call__(self, pictures: Sequence[Image]) -> list[Rows]:
        """See `Yunet`."""
        with self._lock:
            return [self._rows(picture) for picture in pictures]

    def _rows(self, picture: Image) -> Rows:
        self._yunet.setInputSize(picture.shape[1::-1])
        rows = self._yunet.detect(picture)[1]
        return np.empty((0, 15), np.float32) if rows is None else rows


def _check_contract(graph: onnxruntime.InferenceSession) -> None:
    """Raise SessionError unless the graph is a YuNet for any number of pictures of any size."""
    inputs = {tensor.name: [size for size in tensor.shape if isinstance(size, int)] for tensor in graph.get_inputs()}
    outputs = {tensor.name for tensor in graph.get_outputs()}
    if inputs != {INPUT: [3]} or outputs != set(OUTPUTS):
        raise SessionError(
            f"the face detector has the inputs {inputs} with these fixed sizes, and the outputs {sorted(outputs)}; "
            f"expected {INPUT} with 3 channels as its only fixed size, and {', '.join(OUTPUTS)}"
        )


def _padded(picture: Image) -> Image:
    """Add black below and to the right until each side is a multiple of the largest stride, as OpenCV does."""
    below, right = (-side % STRIDES[-1] for side in picture.shape[:2])
    return cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_CONSTANT) if below or right else picture


@contextlib.contextmanager
def _silent_opencv() -> Iterator[None]:
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)
