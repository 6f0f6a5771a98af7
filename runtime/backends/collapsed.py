"""The file with collapsed strata beside a model, which the loop runs between two answers of all strata.

`export/to_trt.py --strata collapsed` makes office.collapsed.onnx from the checkpoint of office.onnx, if a gate finds
the same answers, and `export/to_int8.py` makes office.collapsed.int8.onnx from that. Files of one checkpoint belong
together.
"""

from __future__ import annotations

from pathlib import Path

from iern.runtime.artifact import Artifact, Prior
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.providers import Model
from iern.runtime.errors import IernError
from iern.runtime.session import Session

SAME = ("checkpoint_sha256", "expressions", "input", "answer", "temperature", "threshold")
"""Fields that both files must share."""


def open_collapsed(
    model: Model, session: Session, threads: int | None = None, prior: Prior | None = None
) -> Session | None:
    """Open the file with collapsed strata beside `model`, in the precision of `session`, which is `model` opened.

    None if there is no such file, if it is of another checkpoint or damaged, or if the model runs on a GPU, where the
    strata are one batch. `threads` and `prior` are those of `session`.
    """
    if isinstance(model, bytes) or session.provider != "cpu" or not session.artifact.has_strata:
        return None
    path = collapsed_beside(Path(model), session.artifact.in_8_bits)
    if not path.is_file():
        return None
    try:
        collapsed = open_session(path, "cpu", max_batch=session.max_batch, threads=threads, prior=prior)
    except IernError:
        return None  # the model itself works
    if _belongs_to(collapsed.artifact, session.artifact):
        return collapsed
    collapsed.close()
    return None


def collapsed_beside(model: Path, in_8_bits: bool) -> Path:
    """office.onnx or office.int8.onnx -> office.collapsed.onnx, or office.collapsed.int8.onnx, in the same folder."""
    stem = model.name.removesuffix(".onnx").removesuffix(".int8")
    return model.with_name(f"{stem}.collapsed{'.int8' if in_8_bits else ''}.onnx")


def _belongs_to(collapsed: Artifact, whole: Artifact) -> bool:
    same = all(getattr(collapsed, name) == getattr(whole, name) for name in SAME)
    return same and bool(whole.checkpoint_sha256) and collapsed.collapsed_from == len(whole.strata)
