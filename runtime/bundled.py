"""The paths of the bundled files: the model, the face detector and the demo clip."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
MODEL = HERE / "models" / "iern_edge.onnx"
YUNET = HERE / "models" / "yunet.onnx"
DEMO_CLIP = HERE / "media" / "demo.mp4"
