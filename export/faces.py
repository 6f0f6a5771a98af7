"""Faces for the parity gate: photographs as the runtime crops them, and images at the edges of what may come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iern.runtime.capture import open_source
from iern.runtime.detect import FaceDetector
from iern.runtime.errors import DataError
from iern.runtime.images import Image
from iern.runtime.options import DEMO_CLIP
from iern.runtime.preprocess import InputSpec, crop_faces

FRAMES = 8
"""At least as many frames are looked at, where the source has them, and fewer than twice as many, evenly spread."""


def parity_faces(spec: InputSpec, source: Path = DEMO_CLIP) -> NDArray[np.uint8]:
    """(n, S, S, 3) uint8 BGR: `photographed_faces`, then `edge_cases`; the same at every call."""
    return np.concatenate([photographed_faces(spec, source), edge_cases(spec.size)])


def photographed_faces(spec: InputSpec, source: Path) -> NDArray[np.uint8]:
    """Every face in some frames of a video, in an image or in a folder of images -> (n, S, S, 3), as the runtime crops.

    Raises SourceError where the source cannot be opened, DataError where no face is found in it.
    """
    detect = FaceDetector()
    crops = [crop_faces(frame, detect(frame), spec) for frame in _some_frames(source)]
    faces = np.concatenate([np.empty((0, *spec.shape), np.uint8), *crops])
    if len(faces) == 0:
        raise DataError(f"{source}: no face is found in it; name a photograph of one, or a folder of photographs")
    return faces


def edge_cases(size: int) -> NDArray[np.uint8]:
    """(n, size, size, 3): noise, dim noise, flat colours, stripes, a ramp, one bright pixel."""
    random = np.random.default_rng(0)
    flat = [(0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0), (0, 0, 255)]
    stripes, ramp, dot = np.zeros((3, size, size, 3), np.uint8)
    stripes[::2] = 255
    ramp[:] = np.linspace(0, 255, size)[:, None]
    dot[-1, -1] = 255  # in the corner, where padding matters most
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


def _some_frames(source: Path) -> list[Image]:
    """Frames spread over a source of unknown length, of which few are held at any time."""
    kept: list[Image] = []
    step = 1
    with open_source(str(source)) as frames:
        for frame in frames:
            if frame.index % step == 0:
                kept.append(frame.image)
            if len(kept) == 2 * FRAMES:
                kept, step = kept[::2], 2 * step
    return kept
