"""What the comparison measures: the answers of all models to the same faces, and the time of one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.turns import in_turns
from benchmarks.peers.peer import Face, Peer, tight
from iern.runtime.errors import DataError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.detection import largest
from iern.runtime.imaging.images import read_image
from iern.train.data.manifest import LabelledFace, load_data
from iern.train.evaluation.bootstrap import resampling_units
from iern.train.evaluation.measure import LabelledPredictions, measure
from iern.train.network.config import SEVEN_EXPRESSIONS

PICTURES_AT_ONCE = 64
TIMED_CALLS = 100
CROPS: dict[str, Callable[[Face], Face]] = {"own": lambda face: face, "tight": tight}
RATES = ("accuracy", "mean_recall", "macro_f1")
"""The rates of `measure` that are reported; the others need probabilities that are calibrated."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What every model answered."""

    by_crop: tuple[dict[str, NDArray[np.float32]], ...]
    """For each model and crop, (m, 7) probabilities for the m faces that were found."""
    found: NDArray[np.bool_]
    """(n,) Whether the picture has a face; always True without detection."""
    first: Face
    """The first of the faces."""


def read_sets(roots: Sequence[Path], split: str) -> list[tuple[str, LabelledFace]]:
    """The split of every root, each face with its set, which is its confounder.

    If two roots have a confounder of one name, their sets are called `<root>/<confounder>`. Raises DataError.
    """
    parts = {root.resolve().name: load_data(root, SEVEN_EXPRESSIONS, votes=False).split(split) for root in roots}
    if len(parts) < len(roots):
        raise DataError(f"two of {', '.join(map(str, roots))} have the same name; rename one, since it names its sets")
    counts = Counter(name for faces in parts.values() for name in {face.confounder for face in faces})
    return [
        (face.confounder if counts[face.confounder] == 1 else f"{root}/{face.confounder}", face)
        for root, faces in parts.items()
        for face in faces
    ]


def answers(
    peers: Sequence[Peer],
    labelled: Sequence[LabelledFace],
    detect: bool,
    on_pictures: Callable[[int], None] = lambda count: None,
) -> Answers:
    """Predict the expression of every face with every model. `on_pictures` gets the number of pictures just done.

    With `detect`, the face is the largest that this project's detector finds in the picture; else it is the picture.
    The crops are `own`, by the model's own code, and with `detect` and for some models `tight`.
    Raises ImageError if a picture cannot be read, and DataError if there is no face in any.
    """
    detector = FaceDetector() if detect else None
    found: list[bool] = []
    first: Face | None = None
    parts: list[dict[str, list[NDArray[np.float32]]]] = [
        {crop: [] for crop in (CROPS if detect and peer.also_tight else ("own",))} for peer in peers
    ]
    for start in range(0, len(labelled), PICTURES_AT_ONCE):
        seen = [_face(each.path, detector) for each in labelled[start : start + PICTURES_AT_ONCE]]
        found += [face is not None for face in seen]
        faces = [face for face in seen if face is not None]
        if faces:
            first = first or faces[0]
            for peer, own in zip(peers, parts, strict=True):
                for crop, predicted in own.items():
                    predicted.append(peer.predict([CROPS[crop](face) for face in faces]))
        on_pictures(len(seen))
    if first is None:
        raise DataError(
            f"{labelled[0].path}: no face was found in it, nor in the {len(labelled) - 1} pictures after it; "
            "--detect expects pictures of faces"
        )
    joined = tuple({crop: np.concatenate(predicted) for crop, predicted in own.items()} for own in parts)
    return Answers(joined, np.array(found), first)


def accuracy_over_sets(probabilities: NDArray[np.float32], sets: NDArray[np.str_], labels: NDArray[np.int64]) -> float:
    """(m, 7) answers, the set and the label of each -> the mean of the sets' accuracies."""
    right = probabilities.argmax(axis=1) == labels
    return float(np.mean([right[sets == name].mean() for name in np.unique(sets)]))


def figures(
    probabilities: NDArray[np.float32], sets: Sequence[str], labelled: Sequence[LabelledFace]
) -> dict[str, Any]:
    """(m, 7) answers, the set and the label of each -> rates and recalls with their intervals, in plain types.

    Of all faces, under `sets` of each set, and under `mean_over_sets` the means over the sets, which count alike.
    """
    predictions = LabelledPredictions(
        probabilities=probabilities,
        disagreement=np.zeros(len(labelled)),
        labels=np.array([face.expression for face in labelled]),
        strata=np.array(sets),
        units=np.array(resampling_units(labelled)),
        confirmed=np.zeros(len(labelled), bool),
    )
    measured = measure(predictions, SEVEN_EXPRESSIONS)
    return {
        **_of(measured),
        "sets": {name: _of(part) for name, part in measured["strata"].items()},
        "mean_over_sets": _rates(measured["mean_over_sets"]),
    }


def call_times(peers: Mapping[str, Peer], face: Face) -> dict[str, list[float]]:
    """Milliseconds of TIMED_CALLS calls of each model, in turns, on one thread each."""
    return in_turns({name: lambda peer=peer: peer.milliseconds(face) for name, peer in peers.items()}, TIMED_CALLS)


def _face(path: Path, detector: FaceDetector | None) -> Face | None:
    picture = read_image(path)
    if detector is None:
        return Face(picture, None)
    face = largest(detector.in_photograph(picture))
    return None if face is None else Face(picture, face)


def _of(part: Mapping[str, Any]) -> dict[str, Any]:
    rates = _rates(part)
    rates["intervals"]["recall"] = part["intervals"]["recall"]
    return {"n": part["n"], "units": part["units"], **rates, "recall": part["recall"], "counts": part["counts"]}


def _rates(part: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: part[name] for name in RATES}, "intervals": {name: part["intervals"][name] for name in RATES}}
