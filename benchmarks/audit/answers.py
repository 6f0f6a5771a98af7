"""The models of an audit, opened together, and their predictions for the same changed faces."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from iern.audit.changes import Change
from iern.export.engine.build import precision_of
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.trt.engine_file import read_manifest
from iern.runtime.errors import ArtifactError
from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import resize_face
from iern.runtime.intervention import stratum_disagreement
from iern.runtime.session import MAX_BATCH, Session
from iern.runtime.system.files import sha256
from iern.train.data.manifest import LabelledFace

Variation = tuple[Change, int] | None
"""A change and its grade from 1; None is the unchanged face."""


@dataclass(frozen=True)
class Model:
    """An exported file under audit."""

    name: str
    session: Session
    precision: str
    sha256: str


@dataclass(frozen=True, eq=False)
class VariationAnswers:
    """One model's predictions for n faces in V variations, of which the first is the unchanged face."""

    probabilities: NDArray[np.float32]
    """(V, n, E)."""
    disagreement: NDArray[np.float64]
    """(V, n) disagreement of the strata."""


@contextlib.contextmanager
def open_models(paths: Sequence[Path], provider: str, threads: int | None) -> Iterator[list[Model]]:
    """Open the files as sessions, closed at the end. `provider` is for ONNX files; engines run on TensorRT.

    Raises ArtifactError if their expressions differ, and what opening a session raises.
    """
    with contextlib.ExitStack() as stack:
        models = []
        for name, path in zip(_names(paths), paths, strict=True):
            session = stack.enter_context(open_session(path, "auto" if _is_engine(path) else provider, threads=threads))
            models.append(Model(name, session, _precision(path), sha256(path)))
            expected, found = models[0].session.artifact.expressions, session.artifact.expressions
            if found != expected:
                raise ArtifactError(
                    f"{name} has the expressions {', '.join(found)}, {models[0].name} {', '.join(expected)}; models "
                    "are compared on the same expressions in the same order: audit these two separately"
                )
        yield models


def select_faces(records: Sequence[LabelledFace], root: Path, faces: int | None) -> list[tuple[str, LabelledFace]]:
    """At most `faces` records with their names, which are their paths below `root`, with slashes.

    A hash of the names decides which faces and in which order, so the order of the manifest does not matter.
    """
    named = [(Path(os.path.relpath(record.path, root)).as_posix(), record) for record in records]
    return sorted(named, key=lambda pair: hashlib.sha256(pair[0].encode()).digest())[:faces]


def variations(changes: Sequence[Change]) -> list[Variation]:
    """The unchanged face, and each change at each of its grades."""
    return [None, *((change, grade) for change in changes for grade in range(1, len(change.amounts) + 1))]


def predict_variations(
    models: Sequence[Model],
    faces: Sequence[tuple[str, LabelledFace]],
    changes: Sequence[Change],
    on_faces: Callable[[int], None] = lambda count: None,
) -> list[VariationAnswers]:
    """The predictions of each model. `on_faces` gets the number of faces just done. Raises IernError.

    Each changed face is made once. All models get that one, resized to their own input size by `resize_face`.
    """
    varied = variations(changes)
    results = [_empty_answers(model, len(varied), len(faces)) for model in models]
    specs = {model.session.artifact.input for model in models}
    for start in range(0, len(faces), MAX_BATCH):
        part = faces[start : start + MAX_BATCH]
        images = [read_image(record.path) for _, record in part]
        rows = slice(start, start + len(part))
        for row, variation in enumerate(varied):
            if variation is None:
                made = images
            else:
                change, grade = variation
                made = [change.grade(image, grade, name) for image, (name, _) in zip(images, part, strict=True)]
            batches = {spec: np.stack([resize_face(image, spec) for image in made]) for spec in specs}
            for model, answers in zip(models, results, strict=True):
                predictions = model.session(batches[model.session.artifact.input])
                answers.probabilities[row, rows] = predictions.probabilities
                temperature = model.session.artifact.temperature
                answers.disagreement[row, rows] = stratum_disagreement(predictions.stratum_logits, temperature)
        on_faces(len(part))
    return results


def _empty_answers(model: Model, varied: int, faces: int) -> VariationAnswers:
    expressions = len(model.session.artifact.expressions)
    return VariationAnswers(np.empty((varied, faces, expressions), np.float32), np.empty((varied, faces)))


def _names(paths: Sequence[Path]) -> list[str]:
    """The files' names, with their folders' if two names are the same. Raises ArtifactError for a file given twice."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise ArtifactError(f"a model is given twice in {', '.join(map(str, paths))}; pass each once")
    short = [path.name for path in paths]
    longer = [f"{path.resolve().parent.name}/{path.name}" for path in paths]
    for names in (short, longer):
        if len(set(names)) == len(names):
            return names
    raise ArtifactError(f"{', '.join(map(str, paths))}: two files have the same folder and file names; rename one")


def _precision(path: Path) -> str:
    """`fp16` or `fp32`."""
    if _is_engine(path):
        return read_manifest(path).precision
    return precision_of(onnx.load(path))


def _is_engine(path: Path) -> bool:
    return path.suffix.lower() == ".engine"
