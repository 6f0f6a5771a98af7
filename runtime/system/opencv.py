"""OpenCV for this package: installed, silent, and with no more threads than cores that it may use."""

from __future__ import annotations

import importlib
import os

from iern.runtime.errors import IernError
from iern.runtime.system.cpu_budget import cpu_budget
from iern.runtime.system.remedies import install

OPENCV_REMEDY = (
    "either install the build that needs no display libraries (pip uninstall opencv-python; pip install "
    "opencv-python-headless), or install these libraries (Debian, Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1)"
)


def require_opencv() -> None:
    """Raise IernError with the remedy if OpenCV, or a system library that it needs, is missing."""
    try:
        importlib.import_module("cv2")
    except ModuleNotFoundError as error:
        remedy = f"{install('cpu')}, or cpu-headless instead of cpu on a server without a desktop"
        raise IernError(f"OpenCV is not installed ({error}); {remedy}") from error
    except ImportError as error:
        raise IernError(f"OpenCV cannot be imported ({error}); {OPENCV_REMEDY}") from error


def silence_opencv() -> None:
    """Silence the logs of OpenCV and FFmpeg: they contain URLs with passwords, and our errors contain more."""
    import cv2  # late: `require_opencv` reports the remedy if it is missing

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # libav's "quiet"; read when FFmpeg is first used
    if hasattr(cv2.utils, "logging"):
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    else:  # a system's own OpenCV with GStreamer, as on Jetsons, is older than pip's
        cv2.setLogLevel(0)


def limit_opencv(threads: int | None = None) -> int:
    """Set the number of OpenCV's threads, by default to the CPU budget, and return it.

    Measured: in a loop that detects and then classifies, each of the two gets the whole budget, as onnxruntime's
    threads do not spin. Stages that run at the same time share it instead.
    """
    import cv2  # late, as above

    threads = cpu_budget() if threads is None else threads
    cv2.setNumThreads(threads)
    return threads
