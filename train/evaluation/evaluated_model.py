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
    """Open a checkpoint or an exported ONNX file, for a place of this prior. None: as the model assumes.

    Raises CheckpointError or ArtifactError, and PriorError as `Artifact.with_prior` does.
    """
    return _from_onnx(path, prior) if path.suffix.lower() == ".onnx" else _from_checkpoint(path, prior)


def predict_images(
    model: EvaluatedModel, labelled: Sequence[LabelledFace], detect: bool, on_batch: Callable[[int], None]
) -> tuple[Predictions, NDArray[np.bool_]]:
    """n image files -> predictions for the m faces, and (n,) whether an image has one, m of them true.

    With `detect`, the images are whole pictures. The face is the largest one that the detector finds, cropped as the
    runtime does. Otherwise each image is a face. `on_batch` is called with the number of images of each batch.
    Raises ImageError if a file cannot be read, and DataError if no image has a face.
    """
    face_in = partial(_largest_face, FaceDetector(), model.input) if detect else partial(resize_face, spec=model.input)
    found: list[bool] = []
    parts: list[Predictions] = []
    for start in range(0, len(labelled), FACES_PER_BATCH):
        faces = [face_in(read_image(each.path)) for each in labelled[start : start + FACES_PER_BATCH]]
        found += [face is not None for face in faces]
        crops = [face for face in faces if face is not None]
        if crops:
            parts.append(model.predict(np.stack(crops)))
        on_batch(len(faces))
    if not parts:
        raise DataError(
            f"found no face in {counted(len(labelled), 'picture')}, the first is {labelled[0].path}; expected pictures "
            "of upright faces; look at them, or leave out --detect if they are cropped faces"
        )
    return concatenate(parts), np.array(found)


def _largest_face(detector: FaceDetector, spec: InputSpec, picture: Image) -> Image | None:
    """(H, W, 3) picture -> (S, S, 3) crop of the face with the largest box; None without a face."""
    face = largest(detector.in_photograph(picture))
    return None if face is None else crop_face(picture, face, spec)


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


def _from_onnx(path: Path, prior: Prior | None) -> EvaluatedModel:
    session = open_session(path, max_batch=FACES_PER_BATCH, prior=prior)
    artifact = session.artifact
    return EvaluatedModel(artifact.expressions, artifact.temperature, artifact.threshold, artifact.input, session)
