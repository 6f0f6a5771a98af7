"""The real-time loop and the library for it. Needs no PyTorch, and imports nothing of `train` or `export`.

As a library: `from iern import ExpressionRecognizer`, or the same names from here.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iern.runtime.drawing.annotate import annotate
    from iern.runtime.errors import IernError
    from iern.runtime.faces.detector import FaceDetector
    from iern.runtime.faces.detector_protocol import Detector
    from iern.runtime.faces.face import Face
    from iern.runtime.faces.prediction import Prediction
    from iern.runtime.faces.table import face_table
    from iern.runtime.imaging.detection import Detection
    from iern.runtime.recognizer import ExpressionRecognizer

# From 1.29 on onnxruntime sends usage data to its vendor and keeps a device id in the user's cache folder, unless this
# is set before its import. Every module of this project that imports onnxruntime imports this package first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Detection",
    "Detector",
    "ExpressionRecognizer",
    "Face",
    "FaceDetector",
    "IernError",
    "Prediction",
    "annotate",
    "face_table",
]

_MODULES = {
    "Detection": "iern.runtime.imaging.detection",
    "Detector": "iern.runtime.faces.detector_protocol",
    "ExpressionRecognizer": "iern.runtime.recognizer",
    "Face": "iern.runtime.faces.face",
    "FaceDetector": "iern.runtime.faces.detector",
    "IernError": "iern.runtime.errors",
    "Prediction": "iern.runtime.faces.prediction",
    "annotate": "iern.runtime.drawing.annotate",
    "face_table": "iern.runtime.faces.table",
}


def __getattr__(name: str) -> object:
    """Import a name at its first use, so that the doctor and --help work without OpenCV or onnxruntime."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """The names that a shell completes, also before their first use."""
    return sorted({*globals(), *__all__})
