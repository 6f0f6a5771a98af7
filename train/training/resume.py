"""Where a run is, and whether last.pt may be continued under a recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from iern.runtime.errors import CheckpointError, TrainingError
from iern.train.network.checkpoint import Checkpoint
from iern.train.network.config import ModelConfig

REMOVED_OPTIONS = {"algorithm.discriminators": "own", "algorithm.independence": 0.0}
"""Options of earlier versions, with the values at which they changed nothing."""
ABSENT = object()


@dataclass(frozen=True)
class FaceList:
    """The faces of a run, as last.pt keeps them."""

    digest: str
    """SHA-256 of their paths, labels and splits, in order."""
    paths: list[str]
    """Relative to the folder of the data: training faces, then validation faces."""


@dataclass
class Position:
    """How far a run is, and its figures so far."""

    epoch: int = 0
    """Finished epochs."""
    iteration: int = 0
    """Finished iterations of this epoch."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Losses summed over the iterations of this epoch."""
    best: float = -math.inf
    """Highest validation score of an epoch."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry an epoch: losses, figures of the training method, validation figures."""


def resumable_state(
    checkpoint: Checkpoint,
    path: Path,
    recipe: dict[str, Any],
    config: ModelConfig,
    processes: int,
    faces: FaceList | None = None,
) -> dict[str, Any]:
    """The training state of a checkpoint, if the run of this recipe's identity, network and faces may continue it.

    The run may have more epochs than before, and its data may lie in another folder.
    Raises CheckpointError if there is no such state, TrainingError if it belongs to another run.
    """
    state = checkpoint.training
    if state is None:
        raise CheckpointError(f"{path}: has no training state, so it cannot be resumed; expected a last.pt")
    before = _with_new_length(state["recipe"], recipe)
    listed = None if faces is None else state.get("faces")
    if listed is not None:  # absent in a last.pt of an earlier version: the folder must be the same
        before["data"], before["more_data"] = recipe["data"], recipe["more_data"]
    changes = recipe_changes(before, recipe)
    if listed is not None and faces is not None and not changes:  # another seed draws other validation faces
        _check_faces(path, FaceList(**listed), faces)
    if changes or checkpoint.config != config:
        what = ", ".join(changes) or "other labels"
        raise TrainingError(f"{path}: is of another recipe ({what}); resume with its own recipe, or set another --out")
    if state["iteration"] and state["world_size"] != processes:
        raise TrainingError(
            f"{path}: was saved inside an epoch of {state['world_size']} processes, now there are {processes}; "
            "resume with the same --devices and --nodes"
        )
    return state


def _with_new_length(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The old recipe with the epochs of the new one if those are more.

    The last epoch sets no centres. So a run of one epoch, whose first was its last, cannot be lengthened with them.
    """
    without_centres = before["epochs"] == 1 and before["algorithm"].get("centres") == "means"
    longer = now["epochs"] > before["epochs"] and not without_centres
    return {**before, "epochs": now["epochs"] if longer else before["epochs"]}


def _check_faces(path: Path, before: FaceList, now: FaceList) -> None:
    """Raise TrainingError if the faces of a run have changed."""
    if before.digest == now.digest:
        return
    known, found = set(before.paths), set(now.paths)
    gone = [face for face in before.paths if face not in found]
    new = [face for face in now.paths if face not in known]
    what = [f"{len(gone)} of {len(known)} are missing, the first is {gone[0]}"] if gone else []
    what += [f"{len(new)} are new, the first is {new[0]}"] if new else []
    raise TrainingError(
        f"{path}: the images are not those of the run: {'; '.join(what) or 'their labels, splits or order differ'}; "
        "restore the data, or train again with another --out"
    )


def recipe_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The fields in which two recipes differ, each as `field: value then, value now`."""
    old, new = by_path(before), by_path(now)
    gone = {path for path, value in REMOVED_OPTIONS.items() if path not in new and old.get(path) == value}
    paths = [*new, *(path for path in old if path not in new)]
    differing = [path for path in paths if path not in gone and old.get(path, ABSENT) != new.get(path, ABSENT)]
    return [f"{path}: {old.get(path, 'absent')} then, {new.get(path, 'absent')} now" for path in differing]


def by_path(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"model": {"width": 8}}` -> `{"model.width": 8}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= by_path(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
