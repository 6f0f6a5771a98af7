"""The real-time loop and what it needs: no torch, few dependencies, imports nothing else of ours.

As a library: `from iern.runtime import ExpressionRecognizer`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iern.runtime.faces.face import Face
    from iern.runtime.recognizer import ExpressionRecognizer

__all__ = ["ExpressionRecognizer", "Face"]

_HOMES = {"ExpressionRecognizer": "iern.runtime.recognizer", "Face": "iern.runtime.faces.face"}


def __getattr__(name: str) -> object:
    """Late, so that the doctor and --help load where OpenCV or onnxruntime cannot."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
