"""The model that is evaluated, a checkpoint or an exported file, and its predictions for labelled images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from iern.runtime.artifact import Artifact, Prior
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.server_address import is_served
from iern.runtime.errors import DataError
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.imaging.detection import largest
from iern.runtime.imaging.images import Image, read_image
from iern.runtime.imaging.preprocess import InputSpec, crop_face, resize_face
from iern.runtime.intervention import logit_shift
from iern.runtime.session import Predictions, concatenate
from iern.runtime.system.latency import counted
from iern.train.data.manifest import LabelledFace
from iern.train.evaluation.predict import predict_batch
from iern.train.network.checkpoint import Checkpoint, load_checkpoint
from iern.train.network.iern import average_strata

FACES_PER_BATCH = 64


@dataclass(frozen=True)
class EvaluatedModel:
    """An open model, and what its figures depend on."""

    expressions: tuple[str, ...]
    temperature: float
    threshold: float
    input: InputSpec
    predict: Callable[[NDArray[np.uint8]], Predictions]
    """(n, S, S, 3) uint8 BGR faces, at most FACES_PER_BATCH -> predictions."""

    def in_order(self, expressions: tuple[str, ...], name: str) -> EvaluatedModel:
        """The same model with its outputs in the order of `expressions`; `name` is its own, for a message.

        Raises DataError if it knows other expressions.
        """
        if set(expressions) != set(self.expressions):
            raise DataError(
                f"{name}: knows {', '.join(self.expressions)}, and the other model {', '.join(expressions)}; compare "
                "models of the same expressions"
            )
        columns = [self.expressions.index(each) for each in expressions]

        def predict(faces: NDArray[np.uint8]) -> Predictions:
            found = self.predict(faces)
            values = (found.probabilities, found.logits, found.stratum_logits)
            return Predictions(*(each[..., columns] for each in values))

        return dataclasses.replace(self, expressions=expressions, predict=predict)


def open_model(path: Path, prior: Prior | None = None) -> EvaluatedModel:
    """Open a checkpoint, an exported ONNX file or a served model, for a place of this prior. None: as it assumes.

    Raises CheckpointError, ArtifactError or SessionError, and PriorError as `Artifact.with_prior` does.
    """
    exported = path.suffix.lower() == ".onnx" or is_served(path)
    return _from_exported(path, prior) if exported else _from_checkpoint(path, prior)


def predict_images(
    models: Sequence[EvaluatedModel], labelled: Sequence[LabelledFace], detect: bool, on_batch: Callable[[int], None]
) -> tuple[list[Predictions], NDArray[np.bool_]]:
    """n image files -> predictions of each model for the m faces, and (n,) whether an image has one, m of them true.

    With `detect`, the images are whole pictures. The face is the largest one that the detector finds, cropped as the
    runtime does for that model. Otherwise each image is a face. `on_batch` is called with the number of images of each
    batch. Raises ImageError if a file cannot be read, and DataError if no image has a face.
    """
    detector = FaceDetector() if detect else None
    found: list[bool] = []
    parts: list[list[Predictions]] = [[] for _ in models]
    for start in range(0, len(labelled), FACES_PER_BATCH):
        batch = labelled[start : start + FACES_PER_BATCH]
        crops_in = [_crops_in(read_image(each.path), detector) for each in batch]
        found += [crop is not None for crop in crops_in]
        if any(found[start:]):
            for model, own in zip(models, parts, strict=True):
                own.append(model.predict(np.stack([crop(model.input) for crop in crops_in if crop is not None])))
        on_batch(len(batch))
    if not any(found):
        raise DataError(
            f"found no face in {counted(len(labelled), 'picture')}, the first is {labelled[0].path}; expected pictures "
            "of upright faces; look at them, or leave out --detect if they are cropped faces"
        )
    return [concatenate(own) for own in parts], np.array(found)


def _crops_in(image: Image, detector: FaceDetector | None) -> Callable[[InputSpec], Image] | None:
    """(H, W, 3) image -> what cuts its face out for an input: that with the largest box; None without a face.

    Without a detector the image is the face.
    """
    if detector is None:
        return partial(resize_face, image)
    face = largest(detector.in_photograph(image))
    return None if face is None else partial(crop_face, image, face)


def _from_checkpoint(path: Path, prior: Prior | None) -> EvaluatedModel:
    checkpoint = load_checkpoint(path)
    shift = 0.0 if prior is None else torch.from_numpy(_shift(checkpoint, prior, str(path))).float()
    fabric = Fabric(accelerator="auto", devices=1)
    model = checkpoint.model().to(fabric.device).to(memory_format=torch.channels_last)

    def predict(faces: NDArray[np.uint8]) -> Predictions:
        by_stratum = predict_batch(model, torch.from_numpy(faces), fabric).cpu() + shift
        probabilities = average_strata(by_stratum / checkpoint.temperature, model.config.answer)
        return Predictions(probabilities.numpy(), by_stratum.mean(dim=1).numpy(), by_stratum.numpy())

    config = model.config
    return EvaluatedModel(config.expressions, checkpoint.temperature, checkpoint.threshold, config.input, predict)


def _shift(checkpoint: Checkpoint, prior: Prior, name: str) -> NDArray[np.float64]:
    """(E,) what the logits of a checkpoint get for a prior."""
    config = checkpoint.config
    own = Artifact(
        *(config.expressions, config.strata, config.input),
        answer=config.answer,
        temperature=checkpoint.temperature,
        prior=checkpoint.prior,
    )
    return logit_shift(own, own.with_prior(prior, name).prior)


def _from_exported(path: Path, prior: Prior | None) -> EvaluatedModel:
    session = open_session(path, max_batch=FACES_PER_BATCH, prior=prior)
    artifact = session.artifact
    return EvaluatedModel(artifact.expressions, artifact.temperature, artifact.threshold, artifact.input, session)
