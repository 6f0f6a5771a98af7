"""OpenCV as this package wants it: present, silent, and on no more threads than it may use."""

from __future__ import annotations

import importlib
import os

from iern.runtime.errors import IernError
from iern.runtime.system.cpu_budget import cpu_budget

OPENCV_REMEDY = (
    "either take the build that needs no display libraries (pip uninstall opencv-python; pip install "
    "opencv-python-headless), or install them (Debian, Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1)"
)


def require_opencv() -> None:
    """Raise IernError with the remedy where OpenCV is missing, or its wheel misses the system's libraries."""
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        raise IernError(f"OpenCV cannot be imported ({error}); {OPENCV_REMEDY}") from error


def silence_opencv() -> None:
    """Keep OpenCV and FFmpeg off the log: they write URLs with passwords there, and our errors say more."""
    import cv2  # late: `require_opencv` says what to do if it is missing

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # libav's "quiet"; read when FFmpeg is first used
    if hasattr(cv2.utils, "logging"):
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    else:  # a system's own OpenCV with GStreamer, as on Jetsons, is older than pip's
        cv2.setLogLevel(0)


def limit_opencv(threads: int | None = None) -> int:
    """Set OpenCV's threads, by default to the budget, and return their number.

    Measured for a loop that detects and then classifies: the whole budget for each of the two, where onnxruntime's
    threads do not spin. Stages that run side by side share it instead.
    """
    import cv2  # late, as above

    threads = cpu_budget() if threads is None else threads
    cv2.setNumThreads(threads)
    return threads
