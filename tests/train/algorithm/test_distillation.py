"""Teachers: their mean prediction for the faces of the batch and their mirror images, in the configured share."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from doubles.face_folder import write_faces
from doubles.tiny_network import tiny_config, tiny_network
from iern.runtime.errors import CheckpointError, TrainingError
from iern.train.algorithm.batch import Batch
from iern.train.algorithm.distillation import distil, load_teachers
from iern.train.fit import main
from iern.train.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

CONFIG = tiny_config()
CPU = torch.device("cpu")


@pytest.fixture
def paths(tmp_path):
    for seed in range(2):
        model = tiny_network(CONFIG, seed)
        save_checkpoint(Checkpoint(CONFIG, model.state_dict()), tmp_path / f"{seed}.pt")
    return [tmp_path / "0.pt", tmp_path / "1.pt"]


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(7)
    faces = torch.randint(0, 256, (5, 64, 64, 3), generator=random, dtype=torch.uint8)
    return Batch(faces, torch.eye(4)[[0, 1, 2, 3, 0]], torch.tensor([0, 1, 2, 0, 1]))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_target_is_label_and_mean_prediction_face_by_face(paths, batch, share):
    found = distil(batch, load_teachers(paths, CONFIG, CPU), share)
    models = [load_checkpoint(path).model() for path in paths]
    for i, face in enumerate(batch.faces):
        views = face, torch.from_numpy(face.numpy()[:, ::-1].copy())
        with torch.no_grad():
            probabilities = [
                model.stratum_logits(model.normalise(view[None])).mean(dim=1).double().softmax(dim=1)[0]
                for model in models
                for view in views
            ]
        expected = share * torch.stack(probabilities).mean(dim=0) + (1 - share) * batch.expression[i]
        torch.testing.assert_close(found.expression[i].double(), expected, rtol=1e-4, atol=1e-5)
    assert found.faces is batch.faces and found.confounder is batch.confounder
    assert batch.expression.sum() == 5 and batch.expression.max() == 1  # the input has not changed


def test_a_teacher_learns_nothing(paths):
    teachers = load_teachers(paths, CONFIG, CPU)
    assert not any(parameter.requires_grad for teacher in teachers for parameter in teacher.parameters())
    assert not any(teacher.training for teacher in teachers)


@pytest.mark.parametrize("change", [{"expressions": ("anger", "joy")}, {"image_size": 96}])
def test_a_teacher_with_other_expressions_or_another_size_is_refused(paths, change):
    with pytest.raises(TrainingError, match=r"0\.pt: this teacher predicts .* at"):
        load_teachers(paths, dataclasses.replace(CONFIG, **change), CPU)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "notes.pt").write_text("no network", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"notes\.pt"):
        load_teachers([tmp_path / "notes.pt"], CONFIG, CPU)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_0_to_1_is_refused(batch, share):
    with pytest.raises(TrainingError, match="teachers_share"):
        distil(batch, [SimpleNamespace()], share)


def test_a_teacher_changes_a_run_and_is_part_of_its_recipe(tmp_path, capsys):
    root = write_faces(tmp_path / "faces", 20)
    tiny = [
        "--data", str(root), "--model.backbone", "test_resnet", "--model.stride", "16", "--model.image_size", "64",
        "--model.width", "8", "--model.weights", "none", "--model.method", "baseline", "--accelerator", "cpu",
        "--epochs", "2", "--batch_size", "6", "--workers", "0", "--schedule.warmup", "1", "--schedule.constant", "0",
    ]  # fmt: skip
    first, second = tmp_path / "first", tmp_path / "second"
    assert main([*tiny, "--out", str(first)]) == 0
    teacher = ["--teachers", f"[{first / 'ckpt.pt'}]"]
    assert main([*tiny, "--out", str(second), *teacher]) == 0
    history = [load_checkpoint(out / "last.pt").training["history"][0]["losses"] for out in (first, second)]
    assert history[0] != history[1]
    assert load_checkpoint(second / "last.pt").provenance["recipe"]["teachers"] == [str(first / "ckpt.pt")]
    assert main([*tiny, "--out", str(second), "--resume", "true"]) == 1
    assert "teachers" in capsys.readouterr().err
