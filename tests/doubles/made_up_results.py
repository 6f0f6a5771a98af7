"""Results without a camera or a model, and the frames of a video file as OpenCV plays it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.sources.base import Frame
from iern.runtime.system.latency import Latency


def grey_result(level: int, time: float = 0.0, faces: int = 0, width: int = 64, height: int = 48) -> FrameResult:
    """The result of a frame of one grey level, with `faces` faces at one place."""
    image = np.full((height, width, 3), level, np.uint8)
    found = [
        Face(Detection(5, 15, 20, 20, np.zeros((5, 2)), 0.9), {"happy": 0.75, "sad": 0.25}, 0.0) for _ in range(faces)
    ]
    return FrameResult(Frame(image, time, level, f"{level}.png", 0.0), found, Latency(1, 1, 1, 3), "")


def played(path: Path) -> list[np.ndarray]:
    """All frames that OpenCV reads."""
    capture, images = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        images.append(read[1])
    return images


def times(path: Path) -> list[float]:
    """The times in seconds of all frames that OpenCV reads."""
    capture, seconds = cv2.VideoCapture(str(path)), []
    while capture.read()[0]:
        seconds.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    return seconds


def levels(path: Path) -> list[float]:
    """The mean level of all frames that OpenCV reads."""
    return [float(image.mean()) for image in played(path)]
