"""An exported model, ready to judge faces: one way to call it, one class for each backend.

    with open_session("model.onnx") as session:
        answer = session(faces)
"""

from __future__ import annotations

import abc
import contextlib
import io
import re
from dataclasses import astuple, dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, Artifact
from iern.runtime.errors import ArtifactError, SessionError
from iern.runtime.threads import cpu_budget

if TYPE_CHECKING:
    import onnxruntime
