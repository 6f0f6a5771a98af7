"""The faces of one run, as samples, batches and label frequencies."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from iern.runtime.imaging.detection import Detection
from iern.train.algorithm.logit_offset import LabelPriors
from iern.train.data.augment import augmentation
from iern.train.data.dataset import FaceDataset, RandomChanges
from iern.train.data.manifest import LabelledFace
from iern.train.data.sampler import Balance, EpochBatches, ProcessRank, balance, label_prior
from iern.train.network.config import ModelConfig
from iern.train.training.recipe import Recipe
from iern.train.training.resume import FaceList


@dataclass(frozen=True)
class RunFaces:
    """The faces that a run trains on and those that choose its best epoch."""

    name: str
    """The data in words, for the exported file."""
    training: Sequence[LabelledFace]
    validation: Sequence[LabelledFace]
    root: Path = Path()
    """The folder of the data. The same faces in another folder are the same data."""
    detections: Sequence[Detection | None] | None = None
    """Where the detector finds the training faces; None if they are used whole."""

    def listed(self) -> FaceList:
        """The faces by what a run depends on, wherever they lie."""
        digest, paths = hashlib.sha256(), []
        for side, faces in (("train", self.training), ("valid", self.validation)):
            for face in faces:
                paths.append(Path(os.path.relpath(face.path, self.root)).as_posix())
                labels = (paths[-1], side, face.expression, face.target, face.confounder)
                digest.update((json.dumps(labels) + "\n").encode())
        return FaceList(digest.hexdigest(), paths)


@dataclass(frozen=True)
class RunData:
    """The same faces, as the trainer reads them."""

    training: FaceDataset
    validation: FaceDataset
    batches: EpochBatches
    """The order of the training samples, for this process."""
    priors: LabelPriors
    """How frequent the expressions are in an epoch."""


def run_data(faces: RunFaces, recipe: Recipe, config: ModelConfig, fabric: Fabric) -> RunData:
    """The samples and batches of a recipe. Raises DataError if there are too few faces."""
    changes = RandomChanges(augmentation(recipe.augment, config.image_size), recipe.strata == "conditions", recipe.seed)
    balanced = balance(faces.training, recipe.resample, recipe.resample_strength)
    rank = ProcessRank(fabric.global_rank, fabric.world_size)
    return RunData(
        training=FaceDataset(
            faces.training, config.input, config.strata, changes, faces.detections, recipe.whole_share
        ),
        validation=FaceDataset(faces.validation, config.input, config.strata),
        batches=EpochBatches(len(faces.training), recipe.batch_size, recipe.seed, rank, balanced),
        priors=_priors(faces.training, balanced, recipe, config),
    )


def _priors(
    training: Sequence[LabelledFace], balanced: Balance | None, recipe: Recipe, config: ModelConfig
) -> LabelPriors:
    overall = torch.from_numpy(label_prior(training, balanced))
    if recipe.strata == "conditions":  # a condition is drawn independently of the face
        return LabelPriors(overall, overall.expand(len(config.strata), -1))
    return LabelPriors(overall, torch.from_numpy(label_prior(training, balanced, config.strata)))
