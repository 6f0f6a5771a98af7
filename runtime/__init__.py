"""The real-time loop and the library for it. Needs no PyTorch, and imports nothing of `train` or `export`.

As a library: `from iern.runtime import ExpressionRecognizer`.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iern.runtime.faces.face import Face
    from iern.runtime.recognizer import ExpressionRecognizer

# From 1.29 on onnxruntime sends usage data to its vendor and keeps a device id in the user's cache folder, unless this
# is set before its import. Every module of this project that imports onnxruntime imports this package first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["ExpressionRecognizer", "Face"]

_MODULES = {"ExpressionRecognizer": "iern.runtime.recognizer", "Face": "iern.runtime.faces.face"}


def __getattr__(name: str) -> object:
    """Import a name at its first use, so that the doctor and --help work without OpenCV or onnxruntime."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
