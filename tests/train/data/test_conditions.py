"""Each condition has the effect of its name. Training draws one for each face and epoch as its confounder."""

from __future__ import annotations

import dataclasses
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from doubles.face_folder import write_faces
from doubles.tiny_network import tiny_config, tiny_network
from iern.runtime.imaging.images import read_image
from iern.runtime.imaging.preprocess import InputSpec, resize_face
from iern.train.cartoons.faces import draw
from iern.train.data.conditions import AS_TAKEN, CONDITIONS, STRATA, apply_condition, draw_condition
from iern.train.data.dataset import FaceDataset, RandomChanges
from iern.train.data.manifest import load_data
from iern.train.fit import main
from iern.train.network.checkpoint import load_checkpoint
from iern.train.training.recipe import ModelRecipe, Recipe
from iern.train.training.run_data import RunFaces
from iern.train.training.trainer import Trainer

FACES = [draw("surprise", person, 0, 64) for person in range(12)]
SPEC = InputSpec(size=32)


def under(face, condition, seed=0):
    return apply_condition(face, condition, np.random.default_rng(seed)).astype(float)


@pytest.mark.parametrize("condition", STRATA)
def test_the_same_generator_gives_the_same_bytes_and_the_input_does_not_change(condition):
    before = FACES[0].copy()
    assert np.array_equal(under(FACES[0], condition, 3), under(FACES[0], condition, 3))
    assert np.array_equal(FACES[0], before)
    assert np.array_equal(under(FACES[0], condition, 3), under(FACES[0], condition, 4)) == (condition == AS_TAKEN)


def test_as_taken_does_not_change_the_face():
    assert all(np.array_equal(under(face, AS_TAKEN), face) for face in FACES)


@pytest.mark.parametrize("person", range(len(FACES)))
def test_film_is_grey_cold_blue_and_sharp_dim_dark_and_soft(person):
    def sharpness(pixels):
        return cv2.Laplacian(cv2.GaussianBlur(pixels.mean(axis=2), (0, 0), 1), cv2.CV_64F).var()

    face = FACES[person].astype(float)
    film, cold, dim = (under(FACES[person], name) for name in ("film", "cold", "dim"))
    assert np.ptp(film, axis=2).max() == 0
    assert (cold[..., 0] - cold[..., 2]).mean() > (face[..., 0] - face[..., 2]).mean()
    assert sharpness(cold) > sharpness(face) > sharpness(dim)
    assert dim.mean() < 90


def test_all_conditions_are_drawn_equally_often():
    rng = np.random.default_rng(0)
    drawn = Counter(draw_condition(FACES[0], rng)[1] for _ in range(400))
    assert set(drawn) == set(STRATA)
    assert all(60 < count < 140 for count in drawn.values())  # 100 +- 8.7: over four standard deviations


def test_a_face_gets_other_conditions_in_other_epochs_and_the_sample_names_them(tmp_path):
    records = load_data(write_faces(tmp_path, 12)).records
    dataset = FaceDataset(records, SPEC, STRATA, RandomChanges(under_conditions=True, seed=1))
    met = {}
    for dataset.epoch in range(12):
        for i, (face, _, stratum, _) in enumerate(dataset):
            met.setdefault(i, set()).add(STRATA[stratum])
            plain = resize_face(read_image(records[i].path), SPEC)
            assert np.array_equal(face.numpy(), plain) == (STRATA[stratum] == AS_TAKEN)
    assert all(len(conditions) >= 3 for conditions in met.values())
    assert torch.equal(dataset[5][0], dataset[5][0]) and dataset[5][2] == dataset[5][2]


def trainer_of(root, strata):
    data = load_data(root)
    recipe = Recipe(data=root, strata=strata, model=ModelRecipe(method="iern"), augment="none")
    names = STRATA if strata == "conditions" else data.strata
    model = tiny_network(dataclasses.replace(tiny_config(), expressions=data.expressions, strata=names))
    fabric = Fabric(accelerator="cpu", devices=1)
    return Trainer(recipe, model, RunFaces("faces", data.split("train"), []), "random", fabric, progress=None)


def test_the_priors_of_drawn_conditions_are_equal(tmp_path):
    root = write_faces(tmp_path, 20)
    drawn, own = (trainer_of(root, strata).data.priors for strata in ("conditions", "data"))
    assert drawn.by_stratum.shape == (len(STRATA), 3) and own.by_stratum.shape == (2, 3)
    assert torch.equal(drawn.by_stratum, drawn.overall.expand(len(STRATA), -1))
    assert not torch.allclose(own.by_stratum[0], own.by_stratum[1])


def test_faces_of_one_origin_can_be_trained_on_and_the_checkpoint_names_the_conditions(tmp_path, capsys):
    root = write_faces(tmp_path / "faces", 20)
    manifest = root / "manifest.csv"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(",film,", ",web,"), encoding="utf-8")
    command = [
        "--data", str(root), "--out", str(tmp_path / "run"), "--model.backbone", "test_resnet", "--model.stride", "16",
        "--model.image_size", "64", "--model.width", "8", "--model.weights", "none", "--accelerator", "cpu",
        "--epochs", "1", "--batch_size", "6", "--workers", "0",
    ]  # fmt: skip
    assert main(command) == 1
    assert "--strata conditions" in capsys.readouterr().err
    assert main([*command, "--strata", "conditions"]) == 0
    checkpoint = load_checkpoint(tmp_path / "run" / "ckpt.pt")
    assert checkpoint.config.strata == (AS_TAKEN, *CONDITIONS)
    assert len(checkpoint.weights["confounders"]) == 4
