"""Faces for the parity gates: cropped by the runtime or from a data set, drawn ones, and extreme images."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iern.runtime.bundled import DEMO_CLIP
from iern.runtime.errors import DataError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.formats import is_image_file
from iern.runtime.imaging.preprocess import InputSpec, crop_faces, read_faces
from iern.runtime.sources.open_source import open_source
from iern.train.cartoons.data_set import plan, render_all

logger = logging.getLogger(__name__)

FEW = 8
"""Frames, or faces of a data set, for the gate that runs the network as published, one stratum after another."""
MANY = 1000
"""Faces for the gate of half precision."""
PEOPLE = 48
"""Drawn people: with seven expressions under three degradations each, they give MANY faces."""


class GateFaces:
    """The faces of one source, as the gates of a command need them. Each set is read only once."""

    def __init__(self, source: Path = DEMO_CLIP) -> None:
        """`source` is a video, an image, a folder of images or a data set. It is opened at the first use."""
        self.source = source
        self._sets: dict[Any, NDArray[np.uint8]] = {}

    def few(self, spec: InputSpec) -> NDArray[np.uint8]:
        """(n, S, S, 3) uint8 BGR: `few_faces` of the source."""
        return self._once(few_faces, spec)

    def many(self, spec: InputSpec) -> NDArray[np.uint8]:
        """(n, S, S, 3) uint8 BGR: `many_faces` of the source."""
        return self._once(many_faces, spec)

    def _once(self, read: Callable[[InputSpec, Path], NDArray[np.uint8]], spec: InputSpec) -> NDArray[np.uint8]:
        if (read, spec) not in self._sets:
            self._sets[read, spec] = read(spec, self.source)
        return self._sets[read, spec]


def few_faces(spec: InputSpec, source: Path = DEMO_CLIP) -> NDArray[np.uint8]:
    """(n, S, S, 3) uint8 BGR: FEW of `faces_of`, then `edge_cases`. The same at every call."""
    return np.concatenate([faces_of(spec, source, FEW), edge_cases(spec.size)])


def many_faces(spec: InputSpec, source: Path = DEMO_CLIP) -> NDArray[np.uint8]:
    """(n, S, S, 3) uint8 BGR: MANY of `faces_of` or more, drawn ones if they are fewer, then `edge_cases`."""
    found = faces_of(spec, source, MANY)
    return np.concatenate([found, drawn_faces(spec.size, max(0, MANY - len(found))), edge_cases(spec.size)])


def faces_of(spec: InputSpec, source: Path, count: int) -> NDArray[np.uint8]:
    """(n, S, S, 3) uint8 BGR, n >= 1. From a data set for training: about `count` faces, evenly spread. From a video,
    an image or a folder of images: every face in about `count` frames, as the runtime crops it.

    Raises SourceError if the source cannot be opened, DataError if no face is found in it.
    """
    if crops := crops_of_data_set(source):
        return read_faces(crops[:: max(1, len(crops) // count)], spec)
    return photographed_faces(spec, source, count)


def photographed_faces(spec: InputSpec, source: Path, count: int) -> NDArray[np.uint8]:
    """Every face in `count` to 2 `count` - 1 evenly spread frames, or in all frames if the source has fewer."""
    detect = FaceDetector()
    kept: list[NDArray[np.uint8]] = []
    step = 1
    with open_source(str(source)) as frames:
        for frame in frames:
            if frame.index % step == 0:
                kept.append(crop_faces(frame.image, detect(frame.image), spec))
            if len(kept) == 2 * count:
                kept, step = kept[::2], 2 * step
    if frames.note:
        logger.warning("%s", frames.note)
    faces = np.concatenate([np.empty((0, *spec.shape), np.uint8), *kept])
    if len(faces) == 0:
        raise DataError(f"{source}: no face is found in it; name a photograph of one, or a folder of photographs")
    return faces


def crops_of_data_set(root: Path) -> list[Path]:
    """The images of `root/manifest.csv`, or of root/<confounder>/<expression>/. Empty if `root` is no data set."""
    manifest = root / "manifest.csv"
    if manifest.is_file():
        with open(manifest, encoding="utf-8", newline="") as file:
            return [root / row["path"] for row in csv.DictReader(file) if row.get("path")]
    return sorted(path for path in root.glob("*/*/*") if not path.name.startswith(".") and is_image_file(path))


def drawn_faces(size: int, count: int) -> NDArray[np.uint8]:
    """(count, size, size, 3): drawn people with every expression, under every degradation."""
    return render_all(plan(PEOPLE)[:count], size)


def edge_cases(size: int) -> NDArray[np.uint8]:
    """(n, size, size, 3): noise, dim noise, flat colours, stripes, a ramp, one bright pixel."""
    random = np.random.default_rng(0)
    flat = [(0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0), (0, 0, 255)]
    stripes, ramp, dot = np.zeros((3, size, size, 3), np.uint8)
    stripes[::2] = 255
    ramp[:] = np.linspace(0, 255, size)[:, None]
    dot[-1, -1] = 255  # in the corner, which padding affects most
    return np.stack(
        [
            *random.integers(0, 256, (2, size, size, 3), np.uint8),
            *random.integers(100, 110, (1, size, size, 3), np.uint8),
            *(np.full((size, size, 3), colour, np.uint8) for colour in flat),
            stripes,
            ramp,
            dot,
        ]
    )
