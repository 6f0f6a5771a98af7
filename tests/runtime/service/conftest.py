"""The real model and detector behind the service, and the library as the authority for its answers."""

from __future__ import annotations

import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")
pytest.importorskip("prometheus_client", reason="pip install 'iern[serve]'")

from iern.runtime.backends.onnx import open_session
from iern.runtime.bundled import MODEL
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.recognizer import ExpressionRecognizer
from iern.runtime.service.recognition import Recognition

SIDE = 640
"""Pixels of the detector's copy, so that a test takes no second a picture."""


@pytest.fixture(scope="session")
def recognition():
    """The service's recognition, on the bundled model."""
    with open_session(MODEL, threads=1) as session:
        yield Recognition(FaceDetector(longest_side=SIDE), session)


@pytest.fixture(scope="session")
def library():
    """The library on the same model."""
    with ExpressionRecognizer(
        MODEL, precision="fp32", threads=1, detector=FaceDetector(longest_side=SIDE)
    ) as recognizer:
        yield recognizer
