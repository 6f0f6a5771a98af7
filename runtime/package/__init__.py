"""The package `iern`: `from iern import ExpressionRecognizer`, and the command `iern`, which is `python -m iern`.

This folder is installed as `iern` itself, and the top-level folders as its subpackages (see setup.py). Importing it
imports none of them: a name is fetched when it is first used.
"""

from __future__ import annotations

import importlib
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

__all__ = [
    "Detection",
    "Detector",
    "ExpressionRecognizer",
    "Face",
    "FaceDetector",
    "IernError",
    "Prediction",
    "__version__",
    "annotate",
    "face_table",
]

__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    """Import a name of the library when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("iern.runtime"), name)


def __dir__() -> list[str]:
    """The names that a shell completes, also before their first use."""
    return sorted({*globals(), *__all__})
